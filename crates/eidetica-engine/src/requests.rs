//! Bootstrap requests: those that others make of us, and our own.
//!
//! Of others there is at most one per key and database, a bounded number per device and in all, and each is forgotten
//! after seven days. A newer request of the same key takes the place of one that is pending; a decision stands until it is
//! forgotten, so that a rejected key cannot ask again and again.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::{Permission, RequestId, SignedRequest};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{BootstrapAnswer, RequestRef};
use serde::{Deserialize, Serialize};

use crate::{EngineError, Record, RestoreError, limits, record};

/// What the database side knows about a key that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the database is here and shown to peers.
    pub here: bool,
    /// The key's own right there, if any.
    pub explicit: Option<Permission>,
    /// What everybody may do there, if anything.
    pub wildcard: Option<Permission>,
}

/// How another's request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestState {
    /// An administrator has to decide.
    Pending,
    /// Granted.
    Approved,
    /// Refused.
    Rejected,
}

/// Another's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRequest {
    /// Its id.
    pub id: RequestId,
    /// What it says, signed by the key that it is for.
    pub request: SignedRequest,
    /// When it came (ms).
    pub received_ms: u64,
    /// How it stands.
    pub state: RequestState,
}

/// What became of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantOutcome {
    /// The grant is committed.
    Granted,
    /// The key has an explicit right already, which was not changed.
    Held,
}

/// How an own request stands, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutgoingState {
    /// An administrator has to decide.
    Pending,
    /// Granted.
    Granted,
    /// Refused, forgotten, or unknown there.
    Denied,
}

/// A request that this node made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingRequest {
    /// Its id there.
    pub id: RequestId,
    /// Whom it was made to.
    pub peer: PublicKey,
    /// For which database.
    pub database: Id,
    /// For which key.
    pub key: PublicKey,
    /// What was asked for.
    pub permission: Permission,
    /// When (ms).
    pub made_ms: u64,
    /// How it stands.
    pub state: OutgoingState,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IncomingRecord {
    request: Bytes,
    received_ms: u64,
    state: RequestState,
}

impl IncomingRecord {
    pub(crate) fn read(key: &str, value: &[u8]) -> Result<Self, RestoreError> {
        record::decode(key, value)
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.state != RequestState::Pending
    }

    /// What two processes made of a request: an approval says that the grant is committed.
    pub(crate) fn merge(self, theirs: Self) -> Self {
        let state = match (self.state, theirs.state) {
            (RequestState::Approved, _) | (_, RequestState::Approved) => RequestState::Approved,
            (RequestState::Rejected, _) | (_, RequestState::Rejected) => RequestState::Rejected,
            _ => RequestState::Pending,
        };
        Self { state, ..theirs }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    incoming: BTreeMap<RequestId, IncomingRequest>,
    /// The one request per key and database.
    by_key: BTreeMap<(PublicKey, Id), RequestId>,
    outgoing: BTreeMap<RequestId, OutgoingRequest>,
    records: Vec<Record>,
}

impl Requests {
    pub(crate) fn incoming(&self) -> impl Iterator<Item = &IncomingRequest> {
        self.incoming.values()
    }

    pub(crate) fn outgoing(&self) -> impl Iterator<Item = &OutgoingRequest> {
        self.outgoing.values()
    }

    pub(crate) fn get_outgoing(&self, id: &RequestId) -> Option<&OutgoingRequest> {
        self.outgoing.get(id)
    }

    /// Answers a request. Only one that an administrator can decide is kept.
    pub(crate) fn receive(
        &mut self,
        signed: &SignedRequest,
        facts: Facts,
        now_ms: u64,
    ) -> BootstrapAnswer {
        let request = signed.request();
        if let Some(answer) = settled(request.permission, facts) {
            return answer;
        }
        let slot = (request.key, request.database);
        if let Some(before) = self.by_key.get(&slot).and_then(|id| self.incoming.get(id)) {
            let (id, state) = (before.id, before.state);
            match state {
                RequestState::Rejected => return BootstrapAnswer::Denied,
                RequestState::Pending if id == signed.id() => return BootstrapAnswer::Pending(id),
                RequestState::Pending | RequestState::Approved => self.forget_incoming(&id),
            }
        }
        let is_full = self.pending_of_device(&request.device) >= limits::INCOMING_PER_DEVICE;
        if is_full || (self.incoming.len() >= limits::INCOMING && !self.make_room()) {
            return BootstrapAnswer::Denied;
        }
        let (id, state) = (signed.id(), RequestState::Pending);
        self.incoming.insert(
            id,
            IncomingRequest {
                id,
                request: signed.clone(),
                received_ms: now_ms,
                state,
            },
        );
        self.by_key.insert(slot, id);
        self.write_incoming(&id);
        BootstrapAnswer::Pending(id)
    }

    /// How a request stands, for whoever has proven its key from the device that made it.
    pub(crate) fn status(
        &self,
        asked: &RequestRef,
        device: &PublicKey,
        facts: Facts,
    ) -> BootstrapAnswer {
        let Some(found) = self.named(asked, device) else {
            return BootstrapAnswer::Denied;
        };
        match found.state {
            // Whether it will be offered again nobody can say: that is for whoever decides about the request.
            RequestState::Pending if !facts.here => BootstrapAnswer::Pending(found.id),
            _ if !facts.here => BootstrapAnswer::Denied,
            RequestState::Pending => settled(found.request.request().permission, facts)
                .unwrap_or(BootstrapAnswer::Pending(found.id)),
            RequestState::Approved => BootstrapAnswer::Granted,
            RequestState::Rejected => BootstrapAnswer::Denied,
        }
    }

    /// The pending request of the same key for the same database.
    pub(crate) fn pending_of(&self, signed: &SignedRequest) -> Option<RequestId> {
        let asked = signed.request();
        let id = self.by_key.get(&(asked.key, asked.database))?;
        let found = self.incoming.get(id)?;
        (found.state == RequestState::Pending).then_some(*id)
    }

    /// Forgets a pending request. A decision stands.
    pub(crate) fn cancel(&mut self, asked: &RequestRef, device: &PublicKey) {
        let pending = self
            .named(asked, device)
            .filter(|found| found.state == RequestState::Pending);
        if let Some(id) = pending.map(|found| found.id) {
            self.forget_incoming(&id);
        }
    }

    /// The request, if a decision is still to be made about it or was made in this sense.
    pub(crate) fn to_decide(
        &self,
        id: &RequestId,
        wanted: RequestState,
    ) -> Result<&IncomingRequest, EngineError> {
        let found = self
            .incoming
            .get(id)
            .ok_or(EngineError::UnknownRequest(*id))?;
        match found.state {
            RequestState::Pending => Ok(found),
            state if state == wanted => Ok(found),
            _ => Err(EngineError::Decided(*id)),
        }
    }

    pub(crate) fn decide(&mut self, id: &RequestId, state: RequestState) {
        if let Some(found) = self.incoming.get_mut(id)
            && found.state != state
        {
            found.state = state;
            self.write_incoming(id);
        }
    }

    pub(crate) fn put_outgoing(&mut self, request: OutgoingRequest) -> Result<(), EngineError> {
        let same = |other: &&OutgoingRequest| {
            (other.peer, other.database, other.key) == (request.peer, request.database, request.key)
        };
        let before: Vec<RequestId> = self
            .outgoing
            .values()
            .filter(same)
            .map(|other| other.id)
            .collect();
        before.iter().for_each(|id| self.forget_outgoing(id));
        if self.outgoing.len() >= limits::OUTGOING {
            return Err(EngineError::TooMany {
                what: "own bootstrap requests",
                limit: limits::OUTGOING,
            });
        }
        let id = request.id;
        self.outgoing.insert(id, request);
        self.write_outgoing(&id);
        Ok(())
    }

    pub(crate) fn set_outgoing(&mut self, id: &RequestId, state: OutgoingState) {
        if let Some(request) = self.outgoing.get_mut(id)
            && request.state != state
        {
            request.state = state;
            self.write_outgoing(id);
        }
    }

    pub(crate) fn forget_outgoing(&mut self, id: &RequestId) {
        if self.outgoing.remove(id).is_some() {
            self.write_outgoing(id);
        }
    }

    /// Forgets all requests for a database, of peers and own ones.
    pub(crate) fn forget_database(&mut self, database: &Id) {
        let is_for = |request: &SignedRequest| request.request().database == *database;
        let incoming = self
            .incoming
            .iter()
            .filter(|(_, found)| is_for(&found.request));
        let incoming: Vec<RequestId> = incoming.map(|(id, _)| *id).collect();
        let outgoing = self
            .outgoing
            .values()
            .filter(|found| found.database == *database);
        let outgoing: Vec<RequestId> = outgoing.map(|found| found.id).collect();
        incoming.iter().for_each(|id| self.forget_incoming(id));
        outgoing.iter().for_each(|id| self.forget_outgoing(id));
    }

    /// The own requests that a peer has not decided yet, as far as is known.
    pub(crate) fn waiting_for(&self, peer: &PublicKey) -> impl Iterator<Item = &OutgoingRequest> {
        let waits = |request: &&OutgoingRequest| {
            request.peer == *peer && request.state == OutgoingState::Pending
        };
        self.outgoing.values().filter(waits)
    }

    pub(crate) fn is_waiting_for(&self, peer: &PublicKey) -> bool {
        self.waiting_for(peer).next().is_some()
    }

    /// The device that made another's request.
    pub(crate) fn device_of(&self, id: &RequestId) -> Option<PublicKey> {
        let found = self.incoming.get(id)?;
        Some(found.request.request().device)
    }

    /// The pending requests of others that are too old.
    pub(crate) fn undecided_at_end(&self, now_ms: u64) -> Vec<RequestId> {
        let is_over = |found: &&IncomingRequest| {
            found.state == RequestState::Pending
                && now_ms >= found.received_ms.saturating_add(limits::REQUEST_MS)
        };
        self.incoming
            .values()
            .filter(is_over)
            .map(|found| found.id)
            .collect()
    }

    /// Forgets what is too old.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let over = |at: u64| now_ms >= at.saturating_add(limits::REQUEST_MS);
        let incoming: Vec<RequestId> = self
            .incoming
            .values()
            .filter(|r| over(r.received_ms))
            .map(|r| r.id)
            .collect();
        let outgoing: Vec<RequestId> = self
            .outgoing
            .values()
            .filter(|r| over(r.made_ms))
            .map(|r| r.id)
            .collect();
        incoming.iter().for_each(|id| self.forget_incoming(id));
        outgoing.iter().for_each(|id| self.forget_outgoing(id));
    }

    /// When the next one is too old.
    pub(crate) fn next_expiry_ms(&self) -> Option<u64> {
        let incoming = self.incoming.values().map(|request| request.received_ms);
        let all = incoming.chain(self.outgoing.values().map(|request| request.made_ms));
        all.min().map(|at| at.saturating_add(limits::REQUEST_MS))
    }

    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn restore_incoming(&mut self, key: &str, value: &[u8]) -> Result<(), RestoreError> {
        let IncomingRecord {
            request,
            received_ms,
            state,
        } = record::decode(key, value)?;
        let request = SignedRequest::decode(&request).map_err(|_| RestoreError::Corrupt {
            key: key.to_owned(),
        })?;
        let id = request.id();
        let slot = (request.request().key, request.request().database);
        self.incoming.insert(
            id,
            IncomingRequest {
                id,
                request,
                received_ms,
                state,
            },
        );
        // Two processes may have taken one each: the later one is meant, in whatever order they come.
        match self.by_key.get(&slot).and_then(|id| self.incoming.get(id)) {
            Some(other) if (other.received_ms, other.id) > (received_ms, id) => {}
            _ => {
                self.by_key.insert(slot, id);
            }
        }
        Ok(())
    }

    /// Takes what another process wrote; says whether it decided.
    pub(crate) fn meet(
        &mut self,
        id: &RequestId,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<bool, RestoreError> {
        let before = self.incoming.remove(id);
        let was_pending = before
            .as_ref()
            .is_none_or(|before| before.state == RequestState::Pending);
        if let Some(before) = &before {
            let request = before.request.request();
            let slot = (request.key, request.database);
            if self.by_key.get(&slot) == Some(id) {
                self.by_key.remove(&slot);
            }
        }
        let Some(value) = value else { return Ok(false) };
        self.restore_incoming(key, value)?;
        let state = self.incoming.get(id).map(|found| found.state);
        Ok(was_pending && state.is_some_and(|state| state != RequestState::Pending))
    }

    pub(crate) fn restore_outgoing(&mut self, key: &str, value: &[u8]) -> Result<(), RestoreError> {
        let request: OutgoingRequest = record::decode(key, value)?;
        self.outgoing.insert(request.id, request);
        Ok(())
    }

    fn named(&self, asked: &RequestRef, device: &PublicKey) -> Option<&IncomingRequest> {
        self.incoming.get(&asked.id).filter(|found| {
            let request = found.request.request();
            (request.database, request.key, request.device) == (asked.database, asked.key, *device)
        })
    }

    fn pending_of_device(&self, device: &PublicKey) -> usize {
        let is_pending = |found: &&IncomingRequest| {
            found.state == RequestState::Pending && found.request.request().device == *device
        };
        self.incoming.values().filter(is_pending).count()
    }

    /// Drops the oldest decided request. Pending ones are never dropped for others.
    fn make_room(&mut self) -> bool {
        let decided = self
            .incoming
            .values()
            .filter(|request| request.state != RequestState::Pending);
        let Some(id) = decided
            .min_by_key(|request| request.received_ms)
            .map(|request| request.id)
        else {
            return false;
        };
        self.forget_incoming(&id);
        true
    }

    fn forget_incoming(&mut self, id: &RequestId) {
        if let Some(gone) = self.incoming.remove(id) {
            let request = gone.request.request();
            let slot = (request.key, request.database);
            if self.by_key.get(&slot) == Some(id) {
                self.by_key.remove(&slot);
            }
            self.write_incoming(id);
        }
    }

    fn write_incoming(&mut self, id: &RequestId) {
        let value = self.incoming.get(id).map(|found| {
            let request = found.request.encode().into();
            record::encode(&IncomingRecord {
                request,
                received_ms: found.received_ms,
                state: found.state,
            })
        });
        self.records.push(Record {
            key: record::Kind::Incoming.key(id),
            value,
        });
    }

    fn write_outgoing(&mut self, id: &RequestId) {
        let value = self.outgoing.get(id).map(record::encode);
        self.records.push(Record {
            key: record::Kind::Outgoing.key(id),
            value,
        });
    }
}

/// The answer where nobody has to decide: the right is there already, or no approval could give it.
pub(crate) fn settled(asked: Permission, facts: Facts) -> Option<BootstrapAnswer> {
    let held = facts.explicit.max(facts.wildcard);
    match () {
        () if !facts.here => Some(BootstrapAnswer::Denied),
        () if held.is_some_and(|held| held >= asked) => Some(BootstrapAnswer::Granted),
        // An approval never changes an existing key's right.
        () if facts.explicit.is_some() => Some(BootstrapAnswer::Denied),
        () => None,
    }
}
