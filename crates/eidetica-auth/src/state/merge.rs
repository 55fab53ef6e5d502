//! What a new entry on top of two sides may do, from what it may do on top of each.
//!
//! A source lies on one side, or on both. What it gives was weighed there against the takings of that side; those
//! that only the other side has are not in its past, so that it lifts none of them. So only the strongest right of a
//! side has to be looked at, and only with the takings that are new to it, unless something stands differently
//! than it did on a side.

use std::sync::Arc;

use eidetica_entry::PublicKey;
use imbl::ordset::DiffItem;

use super::{
    AuthState, Control, KeyEntry,
    changes::changed_id,
    clamp::{Clamp, Kind},
    facts::{KeyFacts, Place, WildcardFacts},
    resolve::Concerned,
    tops::{Stairs, WildcardTop},
    weigh::sorted,
};
use crate::{permission::Right, record::AuthRecord};

/// The strongest right of a key, and where it is from.
type Top = (KeyEntry, Place);

/// Takings that one side has and the other has not.
#[derive(Default)]
struct OneSided {
    large: Vec<Clamp>,
    small: Vec<Clamp>,
}

impl AuthState {
    /// Weighs what the entries of `small`, taken in by `large`, bear on.
    pub(super) fn merge_tops(&mut self, concerned: &Concerned, large: &Self, small: &Self) {
        let mut moved = Concerned::default();
        self.find_moved(large, &mut moved);
        self.find_moved(small, &mut moved);
        for key in &concerned.keys {
            let merged = match moved.keys.contains(key) {
                true => None,
                false => self.merged_key(key, large, small),
            };
            match merged {
                Some((top, stairs)) => {
                    let facts = self.rights.key(key);
                    (facts.top, facts.stairs) = (top, stairs);
                }
                None => self.retop_key(key),
            }
        }
        for database in &concerned.delegations {
            self.retop_delegation(database);
        }
        match concerned.wildcard {
            true if moved.wildcard => self.retop_wildcard(),
            true => {
                let top = self.merged_wildcard(&large.rights.wildcard, &small.rights.wildcard);
                Arc::make_mut(&mut self.rights.wildcard).top = top;
            }
            false => {}
        }
    }

    /// What entries bear on that stand differently than on a side.
    fn find_moved(&self, side: &Self, moved: &mut Concerned) {
        for item in side.changed.diff(&self.changed) {
            let id = changed_id(&item);
            let Some(control) = self.control(id).filter(|_| side.contains(id)) else {
                continue;
            };
            for record in control.records.iter() {
                match record {
                    AuthRecord::Grant { key, .. } => drop(moved.keys.insert(*key)),
                    AuthRecord::Revoke(revocation) => drop(moved.keys.insert(revocation.key)),
                    AuthRecord::Renounce => drop(moved.keys.insert(control.key)),
                    AuthRecord::Rotate { to, .. } => moved.keys.extend([control.key, *to]),
                    AuthRecord::Wildcard(_) => moved.wildcard = true,
                    // These are weighed anew anyway.
                    AuthRecord::Delegate(_) | AuthRecord::Adopt { .. } => {}
                }
            }
        }
    }

    /// The right of a key on top and the revocations that hold there; `None` where only weighing tells.
    fn merged_key(
        &self,
        key: &PublicKey,
        large: &Self,
        small: &Self,
    ) -> Option<(Option<Top>, Stairs)> {
        let none = KeyFacts::default();
        let [large, small] =
            [large, small].map(|side| side.rights.keys.get(key).map_or(&none, |facts| &**facts));
        let takings = self.one_sided(key, large, small)?;
        let tops = [
            left_of(large.top.as_ref(), &takings.small)?,
            left_of(small.top.as_ref(), &takings.large)?,
        ];
        let tops = tops.into_iter().flatten();
        let top = tops.max_by_key(|(entry, place)| (entry.right, *place));
        Some((top.cloned(), large.stairs.with(&small.stairs)))
    }

    /// The takings from a key that one side has, strongest first; `None` if they replace others, which hold on the
    /// other side.
    fn one_sided(&self, key: &PublicKey, large: &KeyFacts, small: &KeyFacts) -> Option<OneSided> {
        let mut found = OneSided::default();
        for item in large.revocations.diff(&small.revocations) {
            let (place, into) = match item {
                DiffItem::Add(place) => (place, &mut found.small),
                DiffItem::Remove(place) => (place, &mut found.large),
            };
            let Some(control) = self.effective(&place.id) else {
                continue;
            };
            let revocation = control.revocation(key)?;
            if !revocation.replaces.is_empty() {
                return None;
            }
            into.push(self.clamp(*place, Kind::Revocation, revocation.to));
        }
        for item in large.renounced.diff(&small.renounced) {
            let (place, into) = match item {
                DiffItem::Add(place) => (place, &mut found.small),
                DiffItem::Remove(place) => (place, &mut found.large),
            };
            if self.effective(&place.id).is_some() {
                into.push(self.clamp(*place, Kind::Renounced, None));
            }
        }
        Some(OneSided {
            large: sorted(found.large),
            small: sorted(found.small),
        })
    }

    /// All that the wildcard gives is weaker than any admin, so that each setting takes from all that it does not
    /// have in its past.
    fn merged_wildcard(&self, large: &WildcardFacts, small: &WildcardFacts) -> WildcardTop {
        let (mut from_large, mut from_small) = (large.top.permission(), small.top.permission());
        for item in large.settings.diff(&small.settings) {
            let (place, taken) = match item {
                DiffItem::Add(place) => (place, &mut from_large),
                DiffItem::Remove(place) => (place, &mut from_small),
            };
            let to = self.effective(&place.id).and_then(|c| Control::wildcard(c));
            *taken = to.map_or(*taken, |to| to.min(*taken));
        }
        large.top.with(from_large.max(from_small), &small.top)
    }
}

/// What takings that it does not lift leave of a right: all or nothing. `None` if it is something between: then another
/// source may be the one to name.
fn left_of<'t>(top: Option<&'t Top>, takings: &[Clamp]) -> Option<Option<&'t Top>> {
    let Some((entry, _)) = top else {
        return Some(None);
    };
    let mut left = Some(entry.right);
    for taking in takings {
        if left.is_some_and(|right| taking.lowers(right)) {
            left = taking.to.map(Right::from);
        }
    }
    match left {
        None => Some(None),
        Some(right) if right == entry.right => Some(top),
        Some(_) => None,
    }
}
