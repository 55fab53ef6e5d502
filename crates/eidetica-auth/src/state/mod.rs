//! The rights that follow from a set of settings entries.
//!
//! A state is a pure function of a set S of sound settings entries with everything below them. It
//! keeps them as facts, indexed by the keys they are about, and what follows from the facts: which of
//! them stand ([`resolve`]), and what a new entry on top of all may do ([`tops`]). Copies share their
//! maps: a clone costs nothing, a change O(log n).
//!
//! # Why there is exactly one result
//!
//! Call *strength* of an entry the strongest right that its author has there. Three things decide
//! whether an entry has a right r there:
//!
//! - its sources: entries in its past. One that gives r has at least the strength r: a grant gives less than its
//!   author has, except that an `Admin(0)` may make another one; a rotation passes on what it was made by.
//! - takings, anywhere: only those stronger than r touch r.
//! - lifts: a source lifts a taking if it is at least as strong, so stronger than r.
//!
//! And what an author gives up by renouncing or rotating binds entries above that, up to the strength of
//! the renouncing one. So whether an entry has strength v depends on entries of strength above v anywhere, and on
//! entries of strength v in its past. Resolved strongest first, and in causal order within one strength, every decision
//! rests on final ones: there is one fixpoint. A weaker or concurrent equal entry never changes a verdict.
//!
//! A right may be lowered more than once: takings apply to what is left until nothing changes. Each of them is monotone
//! and only lowers, so the order makes no difference, and one pass, strongest first, is enough.
//!
//! A revocation that [replaces](crate::Revocation::replaces) others must be as strong as they are; otherwise it is void.
//! Decided at its own strength, all that it replaces is decided, and what those take is weaker still.
//!
//! # What it costs
//!
//! Let k be the number of records of an entry and n the number of settings entries.
//!
//! - A new entry on top of the state it was judged by: O(k log n). With an explicit cut, or one that replaces, also
//!   what stands differently by it.
//! - [`join`](AuthState::join): O(difference x log n), the difference being what the smaller side has more, and what
//!   stands differently by it.
//! - Weighing one entry of a key that is named by s live-looking sources and revoked t times: O(log n) where nothing was taken,
//!   O(t log n) usually, O(s t log n) at worst. Where sides join that name the key, what it may do on top of both follows
//!   from what it may on top of each ([`merge`]): the revocations are looked at that one side lacks, and no source. A key
//!   is weighed anew only where entries about it stand differently than on a side, or where a revocation that one side
//!   lacks replaces others or leaves something of its right.
//! - Memory of a chain: O(k + log n) per entry, shared.

mod changes;
mod clamp;
mod control;
mod ended;
mod facts;
mod join;
mod merge;
mod resolve;
mod standing;
mod tops;
mod weigh;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use eidetica_entry::{Id, Ids, PublicKey};
use imbl::{OrdMap, OrdSet};

pub(crate) use control::{Control, Floor};
pub(crate) use facts::Rights;
use facts::{Adopted, Place, Replaced};

use crate::{
    delegation::Pinned,
    name::KeyName,
    permission::{Permission, Right},
    record::{Delegation, Revocation},
};

/// Who has which right at one frontier of settings entries. The default is the state before the
/// root entry: nobody any.
#[derive(Clone, Default)]
pub struct AuthState {
    /// The maximal entries.
    heads: OrdSet<Id>,
    /// All entries. Entries keep copies of this set as it was below them.
    ids: OrdSet<Id>,
    controls: OrdMap<Id, Arc<Control>>,
    /// The strengths of those that have another one than in their own past; `None` of the void.
    changed: OrdMap<Id, Option<Right>>,
    rights: Rights,
    adopted: Adopted,
    replaced: Replaced,
    /// Entries by their authors.
    authored: OrdMap<PublicKey, OrdSet<Place>>,
    /// Entries that claim a right by way of a database.
    via: OrdMap<Id, OrdSet<Place>>,
    /// How many floors and pins it follows from, one through the other, at most.
    nesting: usize,
}

/// What the settings say about one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyEntry {
    /// The strongest right that a grant, a rotation or the root gives it.
    pub right: Right,
    /// The name that came with it.
    pub name: KeyName,
}

impl AuthState {
    /// The strongest right that `key` has for a new entry, by a source that names it or by the
    /// wildcard. O(log keys).
    pub fn right_of(&self, key: &PublicKey) -> Option<Right> {
        self.rights.right_of(key)
    }

    /// The strongest right that a grant, a rotation or the root gives to `key`.
    pub fn explicit_right_of(&self, key: &PublicKey) -> Option<Right> {
        self.rights.explicit_right_of(key)
    }

    /// What every key may do that has not been revoked.
    pub fn wildcard(&self) -> Option<Permission> {
        self.rights.wildcard()
    }

    /// What the delegations give to whoever pinned `pinned`, for a new entry.
    pub fn right_via(&self, key: &PublicKey, pinned: &Pinned) -> Option<Right> {
        self.rights
            .right_via(key, &pinned.database(), pinned.right())
    }

    /// All keys that have a right of their own, in the order of the keys.
    pub fn keys(&self) -> impl Iterator<Item = (&PublicKey, &KeyEntry)> {
        let keys = self.rights.keys.iter();
        keys.filter_map(|(key, facts)| Some((key, facts.top()?)))
    }

    /// All keys that were given rights of which none is left, with the strongest that was given and
    /// its name, in the order of the keys.
    pub fn revoked_keys(&self) -> impl Iterator<Item = (&PublicKey, KeyEntry)> {
        let keys = self.rights.keys.iter();
        keys.filter(|(_, facts)| facts.top().is_none())
            .filter_map(|(key, facts)| {
                let given = facts.sources.iter().filter_map(|source| {
                    let control = self.controls.get(&source.id())?;
                    let right = match source.rotation {
                        true => control.strength,
                        false => source.right(),
                    };
                    let name = control.name_for(key);
                    Some(KeyEntry { right, name })
                });
                Some((key, given.max_by_key(|entry| entry.right)?))
            })
    }

    /// The delegation settings that stand, with their entries.
    pub fn delegations(&self) -> impl Iterator<Item = (Id, &Delegation)> {
        let all = self.rights.delegations.iter();
        all.flat_map(move |(database, facts)| {
            let settings = facts.settings.iter();
            settings.filter_map(move |place| {
                let control = self.effective(&place.id)?;
                Some((place.id, control.delegation(database)?))
            })
        })
    }

    /// The databases that settings entries here, standing or void, delegate to, ascending.
    pub fn delegated_databases(&self) -> impl Iterator<Item = &Id> {
        self.rights.delegations.keys()
    }

    /// The revocations of `key` that stand and are not replaced, with their entries.
    pub fn revocations(&self, key: &PublicKey) -> impl Iterator<Item = (Id, &Revocation)> {
        let facts = self.rights.keys.get(key).into_iter();
        let key = *key;
        facts.flat_map(move |facts| {
            let revocations = facts.revocations.iter();
            revocations.filter_map(move |place| {
                let control = self.effective(&place.id)?;
                let standing = !self.is_replaced(&place.id, &key);
                Some((place.id, control.revocation(&key)?)).filter(|_| standing)
            })
        })
    }

    /// The settings entries, standing or void, that name one of `keys` or let in keys without naming them, in no
    /// order: whatever these keys wrote that is sound has one of them in its past.
    pub fn admitting<'a>(&'a self, keys: &'a [PublicKey]) -> impl Iterator<Item = Id> + 'a {
        let named = keys.iter().filter_map(|key| self.rights.keys.get(key));
        let named = named.flat_map(|facts| facts.sources.iter().map(|source| source.id()));
        let delegations = self.rights.delegations.values();
        let unnamed = delegations.flat_map(|facts| facts.settings.iter());
        let unnamed = unnamed.chain(self.rights.wildcard.settings.iter());
        named.chain(unnamed.map(|place| place.id))
    }

    /// How many settings entries the state follows from.
    pub fn controls(&self) -> usize {
        self.ids.len()
    }

    /// Whether `id` is a settings entry that the state follows from.
    pub fn contains(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }

    /// The maximal settings entries that the state follows from.
    pub fn heads(&self) -> Ids {
        self.heads.iter().copied().collect()
    }

    /// Whether the state follows from everything that `other` follows from. O(the maximal entries of
    /// `other`).
    pub fn covers(&self, other: &Self) -> bool {
        other.heads.iter().all(|id| self.contains(id))
    }

    /// The state after a sound entry that was judged by this state.
    pub(crate) fn extend(&self, control: Control) -> Self {
        let mut next = self.clone();
        let control = Arc::new(control);
        next.index(&control);
        next.raise_tops(&control);
        if control.reaches_back() {
            next.resettle_below(&control);
        }
        next
    }

    pub(crate) fn ids(&self) -> &OrdSet<Id> {
        &self.ids
    }

    pub(crate) fn floor(&self) -> Floor {
        Floor {
            rights: self.rights.clone(),
            heads: self.heads(),
            ids: self.ids.clone(),
        }
    }

    /// How many floors and pins an entry follows from that pins this state.
    pub(crate) fn nesting_above(&self) -> usize {
        self.nesting.saturating_add(1)
    }

    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }

    pub(crate) fn control(&self, id: &Id) -> Option<&Arc<Control>> {
        self.controls.get(id)
    }

    /// The strength of an entry by all that is known; `None` of a void one.
    pub(crate) fn strength_of(&self, id: &Id) -> Option<Right> {
        match self.changed.get(id) {
            Some(changed) => *changed,
            None => self.controls.get(id).map(|control| control.strength),
        }
    }

    fn effective(&self, id: &Id) -> Option<&Arc<Control>> {
        let changed = self.changed.get(id);
        let stands = changed.is_none_or(Option::is_some);
        self.controls.get(id).filter(|_| stands)
    }

    fn is_replaced(&self, revocation: &Id, key: &PublicKey) -> bool {
        let replacers = self.replaced.get(&(*revocation, *key));
        replacers.is_some_and(|ids| ids.iter().any(|id| self.strength_of(id).is_some()))
    }
}

/// Two states are equal if they follow from the same entries.
impl PartialEq for AuthState {
    fn eq(&self, other: &Self) -> bool {
        self.heads == other.heads
    }
}

impl Eq for AuthState {}

impl std::fmt::Debug for AuthState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthState")
            .field("heads", &self.heads)
            .field("controls", &self.ids.len())
            .field("changed", &self.changed)
            .finish()
    }
}
