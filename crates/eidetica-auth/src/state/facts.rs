//! What the settings entries say, by what they say it about.

use std::{cmp::Reverse, sync::Arc};

use eidetica_entry::{Id, PublicKey};
use imbl::{OrdMap, OrdSet};

use super::{
    AuthState, Control, KeyEntry,
    tops::{DelegationTops, Stairs, WildcardTop},
};
use crate::{
    permission::{Permission, Right},
    record::AuthRecord,
};

/// A place in causal order: what is below comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// How many settings entries are below.
    pub(crate) depth: u64,
    pub(crate) id: Id,
}

/// A source that names a key. Ordered strongest first, then newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// What it gives. A rotation gives what its author turns out to have, so at most this.
    right: Reverse<Right>,
    place: Reverse<Place>,
    pub(crate) rotation: bool,
}

impl Source {
    pub(crate) fn right(&self) -> Right {
        self.right.0
    }

    pub(crate) fn place(&self) -> Place {
        self.place.0
    }

    pub(crate) fn id(&self) -> Id {
        self.place.0.id
    }
}

/// What is said about one key.
#[derive(Clone, Default)]
pub(crate) struct KeyFacts {
    pub(crate) sources: OrdSet<Source>,
    pub(crate) revocations: OrdSet<Place>,
    /// Entries by which it renounced or rotated.
    pub(crate) renounced: OrdSet<Place>,
    /// What is left for a new entry, and where it is from.
    pub(crate) top: Option<(KeyEntry, Place)>,
    /// The revocations that hold for a new entry.
    pub(crate) stairs: Stairs,
}

impl KeyFacts {
    pub(crate) fn top(&self) -> Option<&KeyEntry> {
        self.top.as_ref().map(|(entry, _)| entry)
    }
}

/// The settings of the wildcard.
#[derive(Clone, Default)]
pub(crate) struct WildcardFacts {
    pub(crate) settings: OrdSet<Place>,
    pub(crate) top: WildcardTop,
}

/// The settings of one delegation.
#[derive(Clone, Default)]
pub(crate) struct DelegationFacts {
    pub(crate) settings: OrdSet<Place>,
    pub(crate) tops: DelegationTops,
}

/// What keys may do. Flat: it holds ids, never entries or states.
#[derive(Clone, Default)]
pub(crate) struct Rights {
    pub(crate) keys: OrdMap<PublicKey, Arc<KeyFacts>>,
    pub(crate) wildcard: Arc<WildcardFacts>,
    pub(crate) delegations: OrdMap<Id, Arc<DelegationFacts>>,
}

/// The entries that adopt a data entry.
pub(crate) type Adopted = OrdMap<Id, OrdSet<Id>>;

/// The entries that replace the revocation of a key by an entry.
pub(crate) type Replaced = OrdMap<(Id, PublicKey), OrdSet<Id>>;

impl Rights {
    pub(crate) fn key(&mut self, key: &PublicKey) -> &mut KeyFacts {
        Arc::make_mut(self.keys.entry(*key).or_default())
    }

    pub(crate) fn delegation(&mut self, database: &Id) -> &mut DelegationFacts {
        Arc::make_mut(self.delegations.entry(*database).or_default())
    }

    pub(crate) fn explicit_right_of(&self, key: &PublicKey) -> Option<Right> {
        Some(self.keys.get(key)?.top()?.right)
    }

    pub(crate) fn wildcard(&self) -> Option<Permission> {
        self.wildcard.top.permission()
    }

    pub(crate) fn right_of(&self, key: &PublicKey) -> Option<Right> {
        let by_wildcard = self.wildcard().map(Right::from);
        let Some(facts) = self.keys.get(key) else {
            return by_wildcard;
        };
        let explicit = facts.top().map(|entry| entry.right);
        explicit.max(by_wildcard.and_then(|right| facts.stairs.lower(right)))
    }

    /// Whether somebody may have rights here by way of `database`.
    pub(crate) fn delegates_to(&self, database: &Id) -> bool {
        let facts = self.delegations.get(database);
        facts.is_some_and(|facts| facts.tops.gives())
    }

    /// Whether all floors of the delegation to `database` lie among these settings entries of it.
    pub(crate) fn floors_lie_in(&self, database: &Id, ids: &OrdSet<Id>) -> bool {
        let facts = self.delegations.get(database);
        facts.is_none_or(|facts| facts.tops.floors().iter().all(|id| ids.contains(id)))
    }

    /// What `key`, which has `right` in `database`, has here by that.
    pub(crate) fn right_via(
        &self,
        key: &PublicKey,
        database: &Id,
        right: Option<Right>,
    ) -> Option<Right> {
        let tops = &self.delegations.get(database)?.tops;
        match self.keys.get(key) {
            Some(facts) => tops.lower(right?, &facts.stairs),
            None => tops.lower(right?, &Stairs::default()),
        }
    }
}

impl AuthState {
    /// Takes in the facts of an entry all below which is known.
    pub(super) fn index(&mut self, control: &Arc<Control>) {
        let place = control.place();
        for pin in &control.pins {
            self.heads.remove(pin);
        }
        self.heads.insert(control.id);
        self.ids.insert(control.id);
        self.nesting = self.nesting.max(control.nesting);
        self.controls.insert(control.id, control.clone());
        self.authored.entry(control.key).or_default().insert(place);
        if let Some(pinned) = &control.pinned {
            self.via.entry(pinned.database()).or_default().insert(place);
        }
        for record in control.records.iter() {
            self.index_record(control, place, record);
        }
    }

    fn index_record(&mut self, control: &Control, place: Place, record: &AuthRecord) {
        let source = |right, rotation| Source {
            right: Reverse(right),
            place: Reverse(place),
            rotation,
        };
        match record {
            AuthRecord::Grant { key, right, .. } => {
                self.rights.key(key).sources.insert(source(*right, false));
            }
            AuthRecord::Wildcard(_) => {
                let wildcard = Arc::make_mut(&mut self.rights.wildcard);
                wildcard.settings.insert(place);
            }
            AuthRecord::Revoke(revocation) => {
                let key = revocation.key;
                self.rights.key(&key).revocations.insert(place);
                for replaced in &revocation.replaces {
                    let replacers = self.replaced.entry((*replaced, key)).or_default();
                    replacers.insert(control.id);
                }
            }
            AuthRecord::Renounce => {
                self.rights.key(&control.key).renounced.insert(place);
            }
            AuthRecord::Rotate { to, .. } => {
                self.rights.key(&control.key).renounced.insert(place);
                let source = source(Right::Recovery, true);
                self.rights.key(to).sources.insert(source);
            }
            AuthRecord::Adopt { entries } => {
                for entry in entries {
                    self.adopted.entry(*entry).or_default().insert(control.id);
                }
            }
            AuthRecord::Delegate(delegation) => {
                let facts = self.rights.delegation(&delegation.database);
                facts.settings.insert(place);
            }
        }
    }
}
