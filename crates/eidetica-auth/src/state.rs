//! The rights that hold at a frontier of settings entries.
//!
//! A state is a set of facts, one or more from each settings entry in the frontier's past, and what
//! follows from them. Joining two states is the union of their facts, so it does not matter in
//! which order entries arrived. Copies share their maps: a clone costs nothing, a change O(log
//! keys).

use eidetica_entry::{Id, PublicKey};
use imbl::{OrdMap, OrdSet};

use crate::{
    delegation::Pinned,
    name::KeyName,
    permission::{Permission, Right},
    record::{AuthRecord, Revocation, SettingsPayload},
    standing::{Changes, Cut, Standing, Subject},
};

/// Who has which right at one frontier of settings entries. The default is the state before the
/// root entry: nobody any.
#[derive(Debug, Clone, Default)]
pub struct AuthState {
    controls: OrdMap<Id, Right>,
    keys: OrdMap<PublicKey, KeyEntry>,
    settings_of_wildcard: OrdMap<Id, WildcardSetting>,
    /// What follows from `settings_of_wildcard`.
    wildcard: Option<Permission>,
}

/// What the settings say about one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyEntry {
    /// The strongest right that a grant or the root gives it.
    pub right: Right,
    /// The name that came with it.
    pub name: KeyName,
}

/// One setting of the wildcard, made by an entry of this strength.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WildcardSetting {
    strength: Right,
    permission: Option<Permission>,
    /// The settings in this one's past that are no stronger than it: what they took, it may give
    /// again.
    lifts: OrdSet<Id>,
}

impl AuthState {
    /// The state after the sound entry `id` of this strength, whose settings frontier has the state
    /// `self`.
    pub fn apply(&self, id: Id, strength: Right, payload: &SettingsPayload) -> Self {
        let mut next = self.clone();
        next.controls.insert(id, strength);
        for record in payload.records() {
            match record {
                AuthRecord::Grant { key, right, name } => next.add_key(
                    *key,
                    KeyEntry {
                        right: *right,
                        name: name.clone(),
                    },
                ),
                AuthRecord::Wildcard(permission) => next.set_wildcard(id, strength, *permission),
                _ => {}
            }
        }
        next
    }

    /// The state at the union of both frontiers. O(the smaller state); nothing when they are the
    /// same.
    pub fn join(&self, other: &Self) -> Self {
        let mut next = self.clone();
        next.controls = self.controls.clone().union(other.controls.clone());
        if !self.keys.ptr_eq(&other.keys) {
            let (mut large, small) = by_size(self.keys.clone(), other.keys.clone(), OrdMap::len);
            std::mem::swap(&mut next.keys, &mut large);
            for (key, entry) in small {
                next.add_key(key, entry);
            }
        }
        if !self
            .settings_of_wildcard
            .ptr_eq(&other.settings_of_wildcard)
        {
            next.settings_of_wildcard = self
                .settings_of_wildcard
                .clone()
                .union(other.settings_of_wildcard.clone());
            next.resolve_wildcard();
        }
        next
    }

    /// The strongest right that `key` has, by a grant or by the wildcard.
    pub fn right_of(&self, key: &PublicKey) -> Option<Right> {
        self.explicit_right_of(key)
            .max(self.wildcard.map(Right::from))
    }

    /// The strongest right that a grant or the root gives to `key`.
    pub fn explicit_right_of(&self, key: &PublicKey) -> Option<Right> {
        self.keys.get(key).map(|entry| entry.right)
    }

    /// What every key may do.
    pub fn wildcard(&self) -> Option<Permission> {
        self.wildcard
    }

    /// All keys that have a right of their own, in the order of the keys.
    pub fn keys(&self) -> impl Iterator<Item = (&PublicKey, &KeyEntry)> {
        self.keys.iter()
    }

    /// The right that `pinned` gives to whoever pinned it, by the delegations known here.
    pub fn right_via(&self, pinned: &Pinned) -> Option<Right> {
        pinned.right.filter(|_| false)
    }

    /// How many settings entries the state follows from.
    pub fn controls(&self) -> usize {
        self.controls.len()
    }

    /// Whether the state follows from `id` among others.
    pub fn contains(&self, id: &Id) -> bool {
        self.controls.contains_key(id)
    }

    /// Whether the state follows from everything that `other` follows from.
    pub fn covers(&self, other: &Self) -> bool {
        other.controls.keys().all(|id| self.contains(id))
    }

    /// Standing of a settings entry that the state follows from.
    pub fn settings_standing(&self, id: &Id) -> Option<Standing> {
        self.controls.get(id).copied().map(Standing::Effective)
    }

    /// The standing, by everything this state knows, of a sound data entry. `at` is the state at the
    /// entry's own settings, which this state must [cover](Self::covers). `outside` is asked about
    /// takings that could touch the entry and are not in `at`: does the entry lie outside of the cut,
    /// that is: is it neither one of those entries nor below one?
    ///
    /// # Errors
    /// Those of `outside`.
    pub fn standing<E>(
        &self,
        entry: &Subject<'_>,
        at: &Self,
        _outside: impl FnMut(&Cut) -> Result<bool, E>,
    ) -> Result<Standing, E> {
        let right = at.right_of(&entry.key);
        Ok(Standing::Effective(
            right.unwrap_or(Permission::Read.into()),
        ))
    }

    /// What may stand differently under this state than under `older`, which this one must
    /// [cover](Self::covers).
    pub fn changes_since(&self, _older: &Self) -> Changes {
        Changes::default()
    }

    /// The revocations of `key` that hold, with their entries.
    pub fn revocations(&self, _key: &PublicKey) -> impl Iterator<Item = (Id, &Revocation)> {
        std::iter::empty()
    }

    fn add_key(&mut self, key: PublicKey, entry: KeyEntry) {
        match self.keys.get(&key) {
            Some(held) if *held >= entry => {}
            _ => drop(self.keys.insert(key, entry)),
        }
    }

    fn set_wildcard(&mut self, id: Id, strength: Right, permission: Option<Permission>) {
        let weaker = self
            .settings_of_wildcard
            .iter()
            .filter(|(_, setting)| setting.strength <= strength);
        let lifts = weaker.map(|(id, _)| *id).collect();
        self.settings_of_wildcard.insert(
            id,
            WildcardSetting {
                strength,
                permission,
                lifts,
            },
        );
        self.resolve_wildcard();
    }

    /// Each setting gives its permission, clamped by all others except those that it lifts; the
    /// strongest that is left counts. O(settings squared), when one is made.
    fn resolve_wildcard(&mut self) {
        let settings = &self.settings_of_wildcard;
        let left_of = |id: &Id, setting: &WildcardSetting| {
            let others = settings
                .iter()
                .filter(|(other, _)| *other != id && !setting.lifts.contains(*other));
            others
                .map(|(_, other)| other.permission)
                .fold(setting.permission, std::cmp::min)
        };
        self.wildcard = settings
            .iter()
            .filter_map(|(id, setting)| left_of(id, setting))
            .max();
    }
}

impl PartialEq for AuthState {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.settings_of_wildcard == other.settings_of_wildcard
    }
}

impl Eq for AuthState {}

/// The larger of two maps first.
fn by_size<T>(a: T, b: T, len: impl Fn(&T) -> usize) -> (T, T) {
    if len(&a) >= len(&b) { (a, b) } else { (b, a) }
}
