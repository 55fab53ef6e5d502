//! Invites that this node has issued: who may have which right without an administrator's looking, how often and until
//! when.
//!
//! An invite is kept until some days after its end, so that whoever holds it learns why it does nothing; to everybody
//! else there is no such invite. A place is taken durably before the grant is made, by the key that asks: whatever
//! happens in between, no more keys are granted than the invite says, and the same key may try again. A key that has
//! had its grant gets nothing more by the same invite: what an administrator took away stays away.
//!
//! Where several processes are one instance, a place says which of them make a grant for it, and is given back by the
//! last one. Whether a process got the place that it took is known when the record is written: see
//! [`Engine::has_place`].

use std::collections::{BTreeMap, BTreeSet};

use eidetica_auth::{Permission, SignedRequest};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{BootstrapAnswer, Refusal};
use serde::{Deserialize, Serialize};

use crate::{
    Engine, EngineError, Facts, GrantOutcome, ProcessId, Record, RequestState, RestoreError,
    limits, merge::changed, record, requests::settled,
};

/// An invite as its issuer keeps it. The secret is in the ticket alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Its name: the public half of its secret.
    pub id: PublicKey,
    /// The database.
    pub database: Id,
    /// The strongest right that it gives.
    pub permission: Permission,
    /// The administrator's key that grants.
    pub by: PublicKey,
    /// How many keys may have it, 1 to [`INVITE_COUNT`](limits::INVITE_COUNT).
    pub count: u32,
    /// Until when (ms), at most [`INVITE_MS`](limits::INVITE_MS) away when it is issued.
    pub expires_ms: u64,
    /// Whether its issuer has taken it back.
    pub revoked: bool,
    /// The keys that have taken a place.
    pub redeemed: Vec<Redeemed>,
}

/// A key that has taken a place of an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The key.
    pub key: PublicKey,
    /// Whether its grant is committed.
    pub granted: bool,
    /// The processes that make a grant, or ended before they had.
    makers: BTreeSet<ProcessId>,
    /// The grants that this process is making now: one key may ask several times at once.
    #[serde(skip)]
    making: u32,
}

/// An invite and its places as they were written before several processes gave them out.
#[derive(Deserialize)]
struct OldInvite {
    id: PublicKey,
    database: Id,
    permission: Permission,
    by: PublicKey,
    count: u32,
    expires_ms: u64,
    revoked: bool,
    redeemed: Vec<(PublicKey, bool)>,
}

impl From<OldInvite> for Invite {
    fn from(old: OldInvite) -> Self {
        let place = |(key, granted)| Redeemed {
            key,
            granted,
            makers: BTreeSet::new(),
            making: 0,
        };
        Self {
            id: old.id,
            database: old.database,
            permission: old.permission,
            by: old.by,
            count: old.count,
            expires_ms: old.expires_ms,
            revoked: old.revoked,
            redeemed: old.redeemed.into_iter().map(place).collect(),
        }
    }
}

impl Invite {
    /// How many keys may still redeem it at `now_ms`.
    pub fn left(&self, now_ms: u64) -> u32 {
        match self.end(now_ms) {
            Some(_) => 0,
            None => self.free(),
        }
    }

    fn free(&self) -> u32 {
        self.count.saturating_sub(self.redeemed.len() as u32)
    }

    /// Why it gives nothing to anybody any more, but for its places.
    fn end(&self, now_ms: u64) -> Option<Refusal> {
        match () {
            () if self.revoked => Some(Refusal::INVITE_REVOKED),
            () if now_ms >= self.expires_ms => Some(Refusal::INVITE_EXPIRED),
            () => None,
        }
    }

    fn place_of(&mut self, key: &PublicKey) -> Option<&mut Redeemed> {
        self.redeemed.iter_mut().find(|place| place.key == *key)
    }

    fn has_place_of(&self, key: &PublicKey) -> Option<&Redeemed> {
        self.redeemed.iter().find(|place| place.key == *key)
    }

    pub(crate) fn encode(&self) -> bytes::Bytes {
        record::encode_as(record::INVITE_FORMAT, self)
    }

    pub(crate) fn decode(key: &str, value: &[u8]) -> Result<Self, RestoreError> {
        match value.first() {
            Some(1) => record::decode::<OldInvite>(key, value).map(Self::from),
            _ => record::decode_as(record::INVITE_FORMAT, key, value),
        }
    }

    /// What two processes made of an invite, put together. Places that are not there yet are given while there are
    /// some and while it is not taken back; whoever comes last gets none.
    pub(crate) fn merge(base: Option<&Self>, ours: &Self, theirs: Self) -> Self {
        let Some(base) = base else {
            // Put by both, in place of each other.
            return ours.clone();
        };
        let mut merged = Self {
            permission: changed(&base.permission, &ours.permission, theirs.permission),
            by: changed(&base.by, &ours.by, theirs.by),
            count: changed(&base.count, &ours.count, theirs.count),
            expires_ms: changed(&base.expires_ms, &ours.expires_ms, theirs.expires_ms),
            revoked: changed(&base.revoked, &ours.revoked, theirs.revoked),
            ..theirs
        };
        for place in &ours.redeemed {
            let before = base.has_place_of(&place.key);
            let full = merged.redeemed.len() >= merged.count as usize || merged.revoked;
            match (merged.place_of(&place.key), before) {
                (Some(there), before) => there.join(before, place),
                // Given back by the others, and made use of here.
                (None, Some(_)) if place.granted => merged.redeemed.push(place.clone()),
                (None, None) if !full => merged.redeemed.push(place.clone()),
                (None, _) => {}
            }
        }
        let given_back = |place: &Redeemed| {
            base.has_place_of(&place.key).is_some() && ours.has_place_of(&place.key).is_none()
        };
        for place in &mut merged.redeemed {
            if given_back(place) {
                let gone = base.has_place_of(&place.key).into_iter();
                for maker in gone.flat_map(|before| &before.makers) {
                    place.makers.remove(maker);
                }
            }
        }
        let was_nobodys =
            |before: Option<&Redeemed>| before.is_some_and(|before| before.makers.is_empty());
        let is_kept = |place: &Redeemed| {
            place.granted || !place.makers.is_empty() || was_nobodys(base.has_place_of(&place.key))
        };
        merged.redeemed.retain(is_kept);
        merged
    }
}

impl Redeemed {
    /// Adds what `ours` changed since `before`.
    fn join(&mut self, before: Option<&Self>, ours: &Self) {
        self.granted |= ours.granted;
        let had = |maker: &ProcessId| before.is_some_and(|before| before.makers.contains(maker));
        let gone = before.into_iter().flat_map(|before| &before.makers);
        for maker in gone.filter(|maker| !ours.makers.contains(maker)) {
            self.makers.remove(maker);
        }
        let new = ours.makers.iter().filter(|maker| !had(maker));
        self.makers.extend(new.copied());
    }
}

/// What is to be done about a redemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redemption {
    /// It is answered.
    Answer(Result<BootstrapAnswer, Refusal>),
    /// Commit a grant of what the request asks for by this administrator's key, only if the asking key has no explicit
    /// right and was never revoked; then [`Engine::redeemed`] has the answer.
    Grant {
        /// The key that grants.
        by: PublicKey,
    },
}

#[derive(Debug)]
pub(crate) struct Invites {
    me: ProcessId,
    invites: BTreeMap<PublicKey, Invite>,
    records: Vec<Record>,
}

impl Invites {
    pub(crate) fn new(me: ProcessId) -> Self {
        Self {
            me,
            invites: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, invite: Invite, now_ms: u64) -> Result<(), EngineError> {
        self.expire(now_ms);
        let most = |what, limit| Err(EngineError::TooMany { what, limit });
        if invite.count == 0 || invite.count as usize > limits::INVITE_COUNT {
            return most("keys for one invite", limits::INVITE_COUNT);
        }
        if invite.expires_ms > now_ms.saturating_add(limits::INVITE_MS) {
            return Err(EngineError::LongInvite(limits::INVITE_MS));
        }
        if !self.invites.contains_key(&invite.id) && self.invites.len() >= limits::INVITES {
            return most("invites", limits::INVITES);
        }
        let id = invite.id;
        self.invites.insert(id, invite);
        self.write(&id);
        Ok(())
    }

    pub(crate) fn revoke(&mut self, id: &PublicKey) -> Result<(), EngineError> {
        let found = self
            .invites
            .get_mut(id)
            .ok_or(EngineError::UnknownInvite(*id))?;
        found.revoked = true;
        self.write(id);
        Ok(())
    }

    /// Forgets the invites to a database.
    pub(crate) fn forget_database(&mut self, database: &Id) {
        let invites = self
            .invites
            .values()
            .filter(|invite| invite.database == *database);
        let gone: Vec<PublicKey> = invites.map(|invite| invite.id).collect();
        for id in gone {
            self.invites.remove(&id);
            self.write(&id);
        }
    }

    /// Forgets what ended long ago.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let over =
            |invite: &&Invite| now_ms >= invite.expires_ms.saturating_add(limits::REQUEST_MS);
        let gone: Vec<PublicKey> = self
            .invites
            .values()
            .filter(over)
            .map(|invite| invite.id)
            .collect();
        for id in gone {
            self.invites.remove(&id);
            self.write(&id);
        }
    }

    /// Takes a place for a key, or says why there is none. None to those who do not know of the invite.
    fn reserve(
        &mut self,
        request: &SignedRequest,
        id: &PublicKey,
        now_ms: u64,
    ) -> Option<Result<PublicKey, Refusal>> {
        let asked = request.request();
        let invite = self.invites.get_mut(id)?;
        if invite.database != asked.database {
            return None;
        }
        if let Some(end) = invite.end(now_ms) {
            return Some(Err(end));
        }
        let (by, free, me) = (invite.by, invite.free(), self.me);
        match invite.place_of(&asked.key) {
            Some(Redeemed { granted: true, .. }) => Some(Err(Refusal::INVITE_USED)),
            Some(place) => {
                place.making += 1;
                if place.makers.insert(me) {
                    self.write(id);
                }
                Some(Ok(by))
            }
            None if free == 0 => Some(Err(Refusal::INVITE_USED)),
            None => {
                invite.redeemed.push(Redeemed {
                    key: asked.key,
                    granted: false,
                    makers: BTreeSet::from([me]),
                    making: 1,
                });
                self.write(id);
                Some(Ok(by))
            }
        }
    }

    /// A place has led to a grant, or to none. It is given back when none of its grants came about and none is being
    /// made any more.
    fn settle(&mut self, id: &PublicKey, key: &PublicKey, granted: bool) {
        let me = self.me;
        let Some(invite) = self.invites.get_mut(id) else {
            return;
        };
        if let Some(place) = invite.place_of(key) {
            place.making = place.making.saturating_sub(1);
            place.granted |= granted;
            if place.making == 0 {
                place.makers.remove(&me);
            }
        }
        let is_kept =
            |place: &Redeemed| place.key != *key || place.granted || !place.makers.is_empty();
        invite.redeemed.retain(is_kept);
        self.write(id);
    }

    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn restore(&mut self, key: &str, value: &[u8]) -> Result<(), RestoreError> {
        let invite = Invite::decode(key, value)?;
        self.invites.insert(invite.id, invite);
        Ok(())
    }

    /// No other process makes grants: those that were being made at the end of the last one are not any more.
    pub(crate) fn finish_restore_alone(&mut self) {
        let places = self.invites.values_mut();
        for place in places.flat_map(|invite| &mut invite.redeemed) {
            place.makers.clear();
        }
    }

    /// Takes what another process wrote.
    pub(crate) fn meet(
        &mut self,
        id: PublicKey,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), RestoreError> {
        let before = self.invites.remove(&id);
        let Some(value) = value else { return Ok(()) };
        let mut invite = Invite::decode(key, value)?;
        for place in before.iter().flat_map(|before| &before.redeemed) {
            if let Some(there) = invite.place_of(&place.key) {
                there.making = place.making;
            }
        }
        self.invites.insert(id, invite);
        Ok(())
    }

    fn write(&mut self, id: &PublicKey) {
        self.records.push(Record {
            key: record::Kind::Invite.key(record::key_key(id)),
            value: self.invites.get(id).map(Invite::encode),
        });
    }
}

impl Engine {
    /// The invites that were issued here and are remembered.
    pub fn invites(&self) -> impl Iterator<Item = &Invite> {
        self.invites.invites.values()
    }

    /// Takes a request with an invite; signature, device and proof of the invite are checked by the session. Poll the
    /// actions before carrying the result out.
    pub fn redeem(
        &mut self,
        request: &SignedRequest,
        invite: &PublicKey,
        facts: Facts,
        now_ms: u64,
    ) -> Redemption {
        let answer = |answer| Redemption::Answer(Ok(answer));
        let known = self.invites.invites.get(invite);
        let asked = request.request();
        let Some(known) = known.filter(|known| known.database == asked.database) else {
            return answer(BootstrapAnswer::Denied);
        };
        if self.stopped {
            return answer(BootstrapAnswer::Denied);
        }
        if let Some(settled) = settled(asked.permission, facts) {
            return answer(settled);
        }
        if asked.permission > known.permission {
            // More than the invite is for: somebody has to look.
            return answer(self.receive_bootstrap(request, facts, now_ms));
        }
        match self.invites.reserve(request, invite, now_ms) {
            None => answer(BootstrapAnswer::Denied),
            Some(Err(refusal)) => Redemption::Answer(Err(refusal)),
            Some(Ok(by)) => Redemption::Grant { by },
        }
    }

    /// Whether a place that [`redeem`](Self::redeem) took is this process's, once the record is written: another process
    /// may have given it away. If not, ask again.
    pub fn has_place(&self, invite: &PublicKey, key: &PublicKey) -> bool {
        let invite = self.invites.invites.get(invite);
        let place = invite.and_then(|invite| invite.has_place_of(key));
        place.is_some_and(|place| place.makers.contains(&self.invites.me))
    }

    /// Takes what became of the grant of a redemption. One that cannot be made now is left to an administrator, and the
    /// place to others.
    pub fn redeemed(
        &mut self,
        request: &SignedRequest,
        invite: &PublicKey,
        facts: Facts,
        result: Result<GrantOutcome, String>,
        now_ms: u64,
    ) -> BootstrapAnswer {
        let key = request.request().key;
        let granted = matches!(result, Ok(GrantOutcome::Granted));
        self.invites.settle(invite, &key, granted);
        match result {
            Ok(_) => {
                if let Some(waiting) = self.requests.pending_of(request) {
                    self.requests.decide(&waiting, RequestState::Approved);
                    self.tell_decided(&waiting);
                }
                BootstrapAnswer::Granted
            }
            Err(_) => self.receive_bootstrap(request, facts, now_ms),
        }
    }
}
