//! The state at the union of two frontiers.

use std::{collections::BTreeSet, sync::Arc};

use super::{AuthState, Control};

impl AuthState {
    /// The state at the union of both frontiers: what follows from all that either follows from.
    /// O(what the smaller has more, and what changes by it); nothing when one covers the other.
    pub fn join(&self, other: &Self) -> Self {
        if self.covers(other) {
            return self.clone();
        }
        if other.covers(self) {
            return other.clone();
        }
        let (large, small) = match self.ids.len() >= other.ids.len() {
            true => (self, other),
            false => (other, self),
        };
        let mut next = large.clone();
        let concerned = next.take_in(&small.beyond(large));
        next.merge_tops(&concerned, large, small);
        next
    }

    /// The entries that `other` does not follow from, in causal order.
    pub(super) fn beyond(&self, other: &Self) -> Vec<Arc<Control>> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<_> = self.heads.iter().copied().collect();
        let mut beyond = Vec::new();
        while let Some(id) = open.pop() {
            if other.contains(&id) || !seen.insert(id) {
                continue;
            }
            if let Some(control) = self.control(&id) {
                open.extend(control.pins.iter().copied());
                beyond.push(control.clone());
            }
        }
        beyond.sort_unstable_by_key(|control: &Arc<Control>| control.place());
        beyond
    }
}
