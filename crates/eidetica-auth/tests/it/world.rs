//! A database of headers and settings alone: enough to judge by.

use std::{collections::BTreeMap, convert::Infallible, rc::Rc};

use eidetica_auth::{
    AuthRecord, AuthState, Below, Lookup, Missing, Permission, Pinned, Pins, Reject, Right,
    SettingsPayload, Standing, Subject, Verdict, VoidReason, judge,
};
use eidetica_entry::{Author, Draft, Header, Id, Ids, ParentInfo, PublicKey, StoreName, Via};

use crate::secret;

pub(crate) const ADMIN0: Right = Right::Permission(Permission::Admin(0));

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) header: Header,
    pub(crate) at: AuthState,
    pub(crate) after: Option<AuthState>,
    pub(crate) strength: Right,
}

#[derive(Clone, Default)]
pub(crate) struct World {
    root: Option<Id>,
    pub(crate) nodes: BTreeMap<Id, Node>,
    /// Databases that it may delegate to.
    others: BTreeMap<Id, Rc<World>>,
    made: u64,
}

/// A public key by its number.
pub(crate) fn key(n: u8) -> PublicKey {
    secret(n).public()
}

pub(crate) fn grant(n: u8, right: Permission) -> AuthRecord {
    AuthRecord::grant(key(n), right, Default::default())
}

pub(crate) fn revoke(n: u8) -> eidetica_auth::Revocation {
    eidetica_auth::Revocation::of(key(n))
}

impl World {
    /// Key 0 has recovery, key n the nth of these rights, from 1; key 1 makes the root.
    pub(crate) fn new(rights: &[Permission]) -> Self {
        let mut records = vec![crate::gives(0, Right::Recovery)];
        records.extend((1..).zip(rights).map(|(n, right)| grant(n, *right)));
        let mut world = Self::default();
        world.root(1, records).unwrap();
        world
    }

    pub(crate) fn root(&mut self, author: u8, records: Vec<AuthRecord>) -> Result<Id, Reject> {
        self.made += 1;
        let mut nonce = [0; 32];
        nonce[0] = self.made as u8;
        let payload = SettingsPayload::new(records, Default::default()).unwrap();
        let payload = payload.encode();
        let stores = [(StoreName::settings(), payload.clone())].into();
        let draft = Draft::root(nonce, stores, key(author), None).unwrap();
        let id = self.store(draft.header(), draft.id(), Some(&payload))?;
        self.root = Some(id);
        Ok(id)
    }

    pub(crate) fn id(&self) -> Id {
        self.root.unwrap()
    }

    pub(crate) fn knows(&mut self, other: &World) {
        self.others.insert(other.id(), Rc::new(other.clone()));
    }

    /// An entry that writes settings.
    pub(crate) fn says(
        &mut self,
        author: u8,
        parents: &[Id],
        records: Vec<AuthRecord>,
    ) -> Result<Id, Reject> {
        self.says_by(key(author), parents, records)
    }

    pub(crate) fn says_by(
        &mut self,
        author: impl Into<Author>,
        parents: &[Id],
        records: Vec<AuthRecord>,
    ) -> Result<Id, Reject> {
        let payload = SettingsPayload::new(records, Default::default()).unwrap();
        self.add(author, parents, Some(payload.encode()))
    }

    /// An entry that writes data.
    pub(crate) fn writes(
        &mut self,
        author: impl Into<Author>,
        parents: &[Id],
    ) -> Result<Id, Reject> {
        self.add(author, parents, None)
    }

    fn add(
        &mut self,
        author: impl Into<Author>,
        parents: &[Id],
        payload: Option<bytes::Bytes>,
    ) -> Result<Id, Reject> {
        self.made += 1;
        let infos: Vec<ParentInfo> = parents.iter().map(|id| self.info(id)).collect();
        let settings = self.maximal(infos.iter().flat_map(|info| match info.writes_settings {
            true => vec![info.id],
            false => info.settings.to_vec(),
        }));
        let stores = match &payload {
            Some(payload) => [(StoreName::settings(), payload.clone())].into(),
            None => [(
                StoreName::new("data").unwrap(),
                bytes::Bytes::from_static(b"x"),
            )]
            .into(),
        };
        let time = Some(self.made);
        let draft = Draft::child(self.id(), &infos, settings, stores, author, time).unwrap();
        self.store(draft.header(), draft.id(), payload.as_ref())
    }

    fn info(&self, id: &Id) -> ParentInfo {
        let header = &self.nodes[id].header;
        ParentInfo {
            id: *id,
            height: header.height,
            writes_settings: header.writes_settings(),
            settings: header.settings.clone(),
        }
    }

    fn maximal(&self, ids: impl IntoIterator<Item = Id>) -> Vec<Id> {
        let ids: Vec<Id> = ids.into_iter().collect();
        let above = |id: &Id, other: &Id| {
            other != id && self.nodes[other].after.as_ref().unwrap().contains(id)
        };
        let maximal = ids
            .iter()
            .filter(|id| !ids.iter().any(|other| above(id, other)));
        let mut maximal: Vec<Id> = maximal.copied().collect();
        maximal.sort_unstable();
        maximal.dedup();
        maximal
    }

    /// The state after these settings entries, or at these data entries.
    pub(crate) fn state_at(&self, ids: &[Id]) -> AuthState {
        let states = ids.iter().map(|id| {
            let node = &self.nodes[id];
            node.after.as_ref().unwrap_or(&node.at).clone()
        });
        states.reduce(|a, b| a.join(&b)).unwrap_or_default()
    }

    fn store(
        &mut self,
        header: &Header,
        id: Id,
        payload: Option<&bytes::Bytes>,
    ) -> Result<Id, Reject> {
        let at = self.state_at(&header.settings);
        let Ok(verdict) = judge(header, id, payload.map(AsRef::as_ref), &at, self);
        let sound = match verdict {
            Verdict::Sound(sound) => sound,
            Verdict::Reject(reason) => return Err(reason),
            other => panic!("{other:?}"),
        };
        let node = Node {
            header: header.clone(),
            at,
            after: sound.settings.map(|write| write.after),
            strength: sound.strength,
        };
        self.nodes.insert(id, node);
        Ok(id)
    }

    /// All that is known.
    pub(crate) fn state(&self) -> AuthState {
        let ids: Vec<Id> = self.controls();
        self.state_at(&self.maximal(ids))
    }

    pub(crate) fn controls(&self) -> Vec<Id> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, node)| node.after.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn standing_under(&self, state: &AuthState, id: &Id) -> Standing {
        let node = &self.nodes[id];
        if node.after.is_some() {
            return state.settings_standing(id).unwrap();
        }
        let Ok(pins) = Pinned::read(&node.header.author, &node.at, self);
        let pinned = match &pins {
            Pins::None => None,
            Pins::At(pinned) => Some(pinned),
            other => panic!("{other:?}"),
        };
        let subject = Subject {
            id: *id,
            key: node.header.author.key,
            pinned,
        };
        let Ok(standing) = state.standing(&subject, &node.at, |cut| {
            Ok::<_, Infallible>(!self.is_below(&cut.below, id))
        });
        standing
    }

    pub(crate) fn standing(&self, id: &Id) -> Standing {
        self.standing_under(&self.state(), id)
    }

    pub(crate) fn counts(&self, id: &Id) -> bool {
        self.standing(id).is_effective()
    }

    pub(crate) fn void(&self, id: &Id) -> VoidReason {
        match self.standing(id) {
            Standing::Void(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Whether `id` is one of `ids` or below one.
    pub(crate) fn is_below(&self, ids: &[Id], id: &Id) -> bool {
        let mut open = ids.to_vec();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(next) = open.pop() {
            if next == *id {
                return true;
            }
            if seen.insert(next)
                && let Some(node) = self.nodes.get(&next)
            {
                open.extend(node.header.parents.iter().copied());
            }
        }
        false
    }

    /// An author that comes by way of other databases, each pinned where it now is.
    pub(crate) fn via(&self, author: u8, hops: &[&World]) -> Author {
        let via = hops.iter().map(|hop| {
            let controls = hop.controls();
            Via {
                database: hop.id(),
                tips: hop.maximal(controls).into(),
            }
        });
        Author {
            key: key(author),
            via: via.collect(),
        }
    }

    pub(crate) fn tips(&self) -> Ids {
        self.maximal(self.controls()).into()
    }

    /// What the lookup lacks.
    pub(crate) fn missing(&self, author: Author, parent: Id) -> Option<Missing> {
        let node = &self.nodes[&parent];
        let state = node.after.as_ref().unwrap_or(&node.at);
        match Pinned::read(&author, state, self) {
            Ok(Pins::Missing(missing)) => Some(missing),
            _ => None,
        }
    }
}

impl Lookup for World {
    type Error = Infallible;

    fn below(&self, parents: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>, Infallible> {
        let one = |id: &Id| {
            let node = self.nodes.get(id).filter(|_| self.is_below(parents, id))?;
            Some(Below {
                settings: node.header.settings.clone(),
                writes_settings: node.header.writes_settings(),
                author: node.header.author.key,
            })
        };
        Ok(ids.iter().map(one).collect())
    }

    fn delegated(&self, database: &Id, tips: &[Id]) -> Result<Option<AuthState>, Infallible> {
        let Some(other) = self.others.get(database) else {
            return Ok(None);
        };
        let known = tips.iter().all(|tip| other.nodes.contains_key(tip));
        Ok(known.then(|| other.state_at(tips)))
    }
}
