//! Which settings entries stand: resolved strongest first, and in causal order within one strength,
//! from whatever may have changed. See the module above for why that ends in one result.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use eidetica_entry::{Id, PublicKey};

use super::{AuthState, Control, facts::Place};
use crate::{permission::Right, record::AuthRecord, standing::VoidReason};

/// What changes of entries bear on.
#[derive(Default)]
pub(super) struct Concerned {
    pub(super) keys: BTreeSet<PublicKey>,
    pub(super) delegations: BTreeSet<Id>,
    pub(super) wildcard: bool,
}

/// The entries to look at again, and what a change of theirs concerns.
#[derive(Default)]
struct Unsettled {
    /// Each with a bound on the right at which it could change, strongest first.
    entries: BinaryHeap<(Option<Right>, Reverse<Place>)>,
    /// The bound that counts for each.
    bounds: BTreeMap<Place, Option<Right>>,
    concerned: Concerned,
}

impl Unsettled {
    fn push(&mut self, place: Place, bound: Option<Right>) {
        let known = self.bounds.get(&place);
        if known.is_none_or(|known| *known < bound) {
            self.bounds.insert(place, bound);
            self.entries.push((bound, Reverse(place)));
        }
    }

    fn pop(&mut self) -> Option<(Option<Right>, Place)> {
        while let Some((bound, Reverse(place))) = self.entries.pop() {
            if self.bounds.get(&place) == Some(&bound) {
                self.bounds.remove(&place);
                return Some((bound, place));
            }
        }
        None
    }
}

/// An entry whose strength changed. Nothing that is as strong as the stronger of both can change by
/// it.
#[derive(Clone, Copy)]
struct Change<'a> {
    control: &'a Control,
    before: Option<Right>,
    after: Option<Right>,
}

impl Change<'_> {
    fn level(self) -> Option<Right> {
        self.before.max(self.after)
    }

    /// It only adds what the entry says.
    fn is_new(self) -> bool {
        self.before.is_none()
    }
}

impl AuthState {
    /// The same state, resolved anew from its entries. O(entries x records x log): a check of the
    /// incremental paths, which give the same.
    pub fn resolved_anew(&self) -> Self {
        let mut controls: Vec<_> = self.controls.values().cloned().collect();
        controls.sort_unstable_by_key(|control| control.place());
        let mut state = Self::default();
        let concerned = state.take_in(&controls);
        state.retop(&concerned);
        state
    }

    /// Takes in entries, in causal order, all below which is here or among them. Says what is to be weighed for new
    /// entries on top.
    pub(super) fn take_in(&mut self, controls: &[Arc<Control>]) -> Concerned {
        let mut unsettled = Unsettled::default();
        for control in controls {
            self.index(control);
            self.changed.insert(control.id, None);
        }
        for control in controls {
            unsettled.push(control.place(), self.weigh_control(control, &mut None));
        }
        self.settle(unsettled)
    }

    /// After an entry above all others with takings that hold for some that are below it.
    pub(super) fn resettle_below(&mut self, control: &Arc<Control>) {
        let mut unsettled = Unsettled::default();
        let change = Change {
            control,
            before: None,
            after: Some(control.strength),
        };
        self.unsettle_dependents(&mut unsettled, change);
        for record in control.records.iter() {
            if let AuthRecord::Revoke(revocation) = record
                && !revocation.replaces.is_empty()
            {
                unsettled.concerned.keys.insert(revocation.key);
            }
        }
        let concerned = self.settle(unsettled);
        self.retop(&concerned);
    }

    fn settle(&mut self, mut unsettled: Unsettled) -> Concerned {
        while let Some((level, place)) = unsettled.pop() {
            let Some(control) = self.control(&place.id).cloned() else {
                continue;
            };
            let before = self.strength_of(&place.id);
            let weighed = self.weigh_control(&control, &mut None);
            let bound = before.max(weighed);
            if bound < level {
                // Its turn comes later.
                unsettled.push(place, bound);
                continue;
            }
            let allowed = weighed.filter(|right| self.allows(&control, *right).is_ok());
            if allowed == before {
                continue;
            }
            // Weaker than it was: void for now, and decided anew where its turn is.
            let after = allowed.filter(|right| Some(*right) == level);
            if after != allowed {
                unsettled.push(place, weighed);
            }
            self.decide(&control, after);
            let control = &control;
            if before != after {
                let change = Change {
                    control,
                    before,
                    after,
                };
                self.unsettle_dependents(&mut unsettled, change);
            }
        }
        unsettled.concerned
    }

    fn retop(&mut self, concerned: &Concerned) {
        for key in &concerned.keys {
            self.retop_key(key);
        }
        for database in &concerned.delegations {
            self.retop_delegation(database);
        }
        if concerned.wildcard {
            self.retop_wildcard();
        }
    }

    fn decide(&mut self, control: &Control, strength: Option<Right>) {
        if strength == Some(control.strength) {
            self.changed.remove(&control.id);
        } else {
            self.changed.insert(control.id, strength);
        }
    }

    /// Whether an author with this right may say all that the entry says.
    pub(super) fn allows(&self, control: &Control, right: Right) -> Result<(), VoidReason> {
        let weak = VoidReason::TooWeak { right };
        if control.personal || control.is_root() {
            return Ok(());
        }
        if !right.permission().can_admin() {
            return Err(weak);
        }
        for record in control.records.iter() {
            let given = match record {
                AuthRecord::Grant { right: given, .. } => Some(*given),
                AuthRecord::Delegate(delegation) => delegation.bound.map(Right::from),
                _ => None,
            };
            if given.is_some_and(|given| !right.may_give(given)) {
                return Err(weak);
            }
            if let AuthRecord::Revoke(revocation) = record {
                let stronger = |id: &&Id| self.strength_of(id) > Some(right);
                if let Some(replaced) = revocation.replaces.iter().find(stronger) {
                    let replaced = *replaced;
                    return Err(VoidReason::ReplacesStronger { replaced });
                }
            }
        }
        Ok(())
    }

    /// Everything that a changed entry bears on.
    fn unsettle_dependents(&self, unsettled: &mut Unsettled, change: Change<'_>) {
        let control = change.control;
        for record in control.records.iter() {
            match record {
                AuthRecord::Grant { key, right, .. } => {
                    self.unsettle_above(unsettled, change, key, Some(*right));
                }
                AuthRecord::Rotate { to, .. } => {
                    self.unsettle_above(unsettled, change, to, change.level());
                    self.unsettle_above(unsettled, change, &control.key, change.level());
                }
                AuthRecord::Renounce => {
                    self.unsettle_above(unsettled, change, &control.key, change.level());
                }
                AuthRecord::Revoke(revocation) => {
                    let key = &revocation.key;
                    unsettled.concerned.keys.insert(*key);
                    self.unsettle_revoked(unsettled, change, control, key);
                    for replaced in &revocation.replaces {
                        if let Some(replaced) = self.control(replaced) {
                            let change = Change {
                                before: change.level(),
                                ..change
                            };
                            self.unsettle_revoked(unsettled, change, replaced, key);
                        }
                    }
                    self.unsettle_replacers(unsettled, change, key);
                }
                AuthRecord::Delegate(delegation) => {
                    self.unsettle_delegated(unsettled, change, &delegation.database);
                }
                // Settings need more than it gives.
                AuthRecord::Wildcard(_) => unsettled.concerned.wildcard = true,
                AuthRecord::Adopt { .. } => {}
            }
        }
    }

    /// Entries by `key` above a source of at most this right, or above where it gave up as much.
    fn unsettle_above(
        &self,
        unsettled: &mut Unsettled,
        change: Change<'_>,
        key: &PublicKey,
        right: Option<Right>,
    ) {
        unsettled.concerned.keys.insert(*key);
        let Some(authored) = self.authored.get(key) else {
            return;
        };
        for place in authored.range(change.control.place()..) {
            let bound = self.strength_of(&place.id).max(right);
            let known = unsettled.bounds.get(place);
            if known.is_none_or(|known| *known < bound)
                && let Some(entry) = self.control(&place.id)
                && entry.past.contains(&change.control.id)
            {
                unsettled.push(*place, bound);
            }
        }
    }

    /// Entries by `key` outside the cut of its revocation by `taking`.
    fn unsettle_revoked(
        &self,
        unsettled: &mut Unsettled,
        change: Change<'_>,
        taking: &Control,
        key: &PublicKey,
    ) {
        let Some(authored) = self.authored.get(key) else {
            return;
        };
        for place in authored {
            let strength = self.strength_of(&place.id);
            // A new taking raises nobody.
            let bound = match change.is_new() {
                true => strength,
                false => change.level(),
            };
            if strength < change.level()
                && bound.is_some()
                && let Some(entry) = self.control(&place.id)
                && !self.is_cut(entry, taking, Some(key))
            {
                unsettled.push(*place, bound);
            }
        }
    }

    fn unsettle_replacers(&self, unsettled: &mut Unsettled, change: Change<'_>, key: &PublicKey) {
        let replacers = self.replaced.get(&(change.control.id, *key));
        for id in replacers.into_iter().flatten() {
            if let Some(entry) = self.control(id) {
                let bound = self.strength_of(id).max(change.level());
                unsettled.push(entry.place(), bound);
            }
        }
    }

    /// Entries that claim a right by way of `database`, outside the cut of the setting.
    fn unsettle_delegated(&self, unsettled: &mut Unsettled, change: Change<'_>, database: &Id) {
        unsettled.concerned.delegations.insert(*database);
        let Some(entries) = self.via.get(database) else {
            return;
        };
        for place in entries {
            if let Some(entry) = self.control(&place.id)
                && !self.is_cut(entry, change.control, None)
            {
                let bound = self.strength_of(&place.id).max(change.level());
                unsettled.push(*place, bound);
            }
        }
    }
}
