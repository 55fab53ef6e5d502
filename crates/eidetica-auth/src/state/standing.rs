//! How single entries stand under a state.

use std::sync::Arc;

use eidetica_entry::Id;

use super::{
    AuthState,
    weigh::{Author, OfData},
};
use crate::{
    permission::Right,
    standing::{Cut, Standing, Subject, VoidReason},
};

impl AuthState {
    /// The standing of a settings entry that the state follows from. O(log n) for one that counts.
    pub fn settings_standing(&self, id: &Id) -> Option<Standing> {
        let control = self.control(id)?;
        if let Some(strength) = self.strength_of(id) {
            return Some(Standing::Effective(strength));
        }
        let mut blame = None;
        let reason = match self.weigh_control(control, &mut blame) {
            Some(right) => match self.allows(control, right) {
                Err(VoidReason::TooWeak { right }) => {
                    blame.unwrap_or(VoidReason::TooWeak { right })
                }
                Err(other) => other,
                // Not where all is settled.
                Ok(()) => VoidReason::TooWeak { right },
            },
            None => blame.unwrap_or(VoidReason::SourceVoid { source: *id }),
        };
        Some(Standing::Void(reason))
    }

    /// The standing, by everything this state knows, of a sound data entry. `at` is the state at the
    /// entry's own settings, which this state must [cover](Self::covers). `outside` is asked about
    /// takings that could touch the entry and are not in `at`: does the entry lie outside the cut,
    /// that is: is it neither one of those entries nor below one?
    ///
    /// O(log n) where nothing about its author changed since, else see the module.
    ///
    /// # Errors
    /// Those of `outside`.
    pub fn standing<E>(
        &self,
        entry: &Subject<'_>,
        at: &Self,
        outside: impl FnMut(&Cut) -> Result<bool, E>,
    ) -> Result<Standing, E> {
        if self.contains(&entry.id)
            && let Some(standing) = self.settings_standing(&entry.id)
        {
            return Ok(standing);
        }
        if self.same_about(entry, at) {
            let direct = at.right_of(&entry.key);
            let via = entry
                .pinned
                .and_then(|pinned| at.right_via(&entry.key, pinned));
            return Ok(judged(direct.max(via), None));
        }
        let author = Author {
            key: &entry.key,
            pinned: entry.pinned,
        };
        let mut view = OfData { at, outside };
        let mut blame = None;
        let right = self.weigh(author, &entry.id, &mut view, &mut blame)?;
        Ok(judged(right, blame))
    }

    /// Whether nothing that bears on the entry changed.
    fn same_about(&self, entry: &Subject<'_>, at: &Self) -> bool {
        let key = |state: &Self| state.rights.keys.get(&entry.key).map(Arc::as_ptr);
        let delegation = |state: &Self| {
            let database = entry.pinned?.database();
            state.rights.delegations.get(&database).map(Arc::as_ptr)
        };
        key(self) == key(at)
            && Arc::ptr_eq(&self.rights.wildcard, &at.rights.wildcard)
            && delegation(self) == delegation(at)
            && !self.adopted.contains_key(&entry.id)
    }
}

fn judged(right: Option<Right>, blame: Option<VoidReason>) -> Standing {
    match right {
        Some(right) if right.permission().can_write() => Standing::Effective(right),
        Some(right) => Standing::Void(blame.unwrap_or(VoidReason::TooWeak { right })),
        None => Standing::Void(blame.unwrap_or(VoidReason::NoRight)),
    }
}
