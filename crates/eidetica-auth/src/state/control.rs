//! One settings entry as the rules see it.

use std::sync::Arc;

use eidetica_entry::{Id, Ids, PublicKey};
use imbl::OrdSet;

use super::facts::{Place, Rights};
use crate::{
    delegation::Pinned,
    name::KeyName,
    permission::{Permission, Right},
    record::{AuthRecord, Delegation, Revocation, Topic},
};

/// A sound settings entry. Flat: what it says of other entries, it says by their ids.
pub(crate) struct Control {
    pub(crate) id: Id,
    /// Its author.
    pub(crate) key: PublicKey,
    pub(crate) parents: Ids,
    /// Its header's settings.
    pub(crate) pins: Ids,
    /// All settings entries below it.
    pub(crate) past: OrdSet<Id>,
    /// The strongest right that its author has there by its own past.
    pub(crate) strength: Right,
    pub(crate) records: Arc<[AuthRecord]>,
    /// Of each revocation with an explicit cut, in order of the keys: the maximal settings entries
    /// among the cut's and those below.
    pub(crate) cuts: Vec<(PublicKey, Ids)>,
    /// Whether it only renounces or rotates, which needs any right of the author's own.
    pub(crate) personal: bool,
    pub(crate) pinned: Option<Arc<Pinned>>,
    /// Of each delegation setting, in order of the databases.
    pub(crate) floors: Vec<(Id, Arc<Floor>)>,
    /// How many floors and pins it follows from, one through the other.
    pub(crate) nesting: usize,
}

/// Another database at the floor that a delegation setting names.
pub(crate) struct Floor {
    pub(crate) rights: Rights,
    /// Its maximal settings entries.
    pub(crate) heads: Ids,
    /// All of them.
    pub(crate) ids: OrdSet<Id>,
}

impl Floor {
    /// Whether it lies at or above the other one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.heads.iter().all(|id| self.ids.contains(id))
    }
}

impl Control {
    pub(crate) fn place(&self) -> Place {
        Place {
            depth: self.past.len() as u64,
            id: self.id,
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parents.is_empty()
    }

    /// The strength by which the rights that it gives lift takings.
    pub(crate) fn source_strength(&self, strength: Right) -> Right {
        match self.is_root() {
            true => Right::Recovery,
            false => strength,
        }
    }

    fn record(&self, topic: Topic) -> Option<&AuthRecord> {
        let at = self.records.binary_search_by_key(&topic, AuthRecord::topic);
        self.records.get(at.ok()?)
    }

    pub(crate) fn revocation(&self, key: &PublicKey) -> Option<&Revocation> {
        match self.record(Topic::revoke(key))? {
            AuthRecord::Revoke(revocation) => Some(revocation),
            _ => None,
        }
    }

    pub(crate) fn delegation(&self, database: &Id) -> Option<&Delegation> {
        match self.record(Topic::delegate(database))? {
            AuthRecord::Delegate(delegation) => Some(delegation),
            _ => None,
        }
    }

    pub(crate) fn wildcard(&self) -> Option<Option<Permission>> {
        match self.record(Topic::WILDCARD)? {
            AuthRecord::Wildcard(permission) => Some(*permission),
            _ => None,
        }
    }

    pub(crate) fn floor(&self, database: &Id) -> Option<&Floor> {
        let at = self
            .floors
            .binary_search_by_key(database, |(database, _)| *database);
        self.floors.get(at.ok()?).map(|(_, floor)| &**floor)
    }

    /// The maximal settings entries of the explicit cut of its revocation of `key`.
    pub(crate) fn cut_heads(&self, key: &PublicKey) -> Option<&Ids> {
        let at = self.cuts.binary_search_by_key(key, |(key, _)| *key);
        self.cuts.get(at.ok()?).map(|(_, heads)| heads)
    }

    /// The name that it gives to `key`.
    pub(crate) fn name_for(&self, key: &PublicKey) -> KeyName {
        match self.record(Topic::grant(key)) {
            Some(AuthRecord::Grant { name, .. }) => name.clone(),
            _ => match self.record(Topic::ROTATE) {
                Some(AuthRecord::Rotate { name, .. }) => name.clone(),
                _ => KeyName::default(),
            },
        }
    }

    /// Whether entries below it may stand differently by it.
    pub(crate) fn reaches_back(&self) -> bool {
        self.records.iter().any(|record| match record {
            AuthRecord::Revoke(revocation) => {
                revocation.cut.is_some() || !revocation.replaces.is_empty()
            }
            _ => false,
        })
    }
}
