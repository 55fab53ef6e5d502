//! [`Ids`]: a short sorted list of distinct ids.

use core::ops::Deref;

use smallvec::SmallVec;

use crate::Id;

/// Distinct ids in ascending order: parents, settings pins, tips. Up to two stand inline.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ids(SmallVec<[Id; 2]>);

impl Ids {
    /// The empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a list that must already be strictly ascending; `None` if it is not.
    pub fn from_sorted(ids: impl IntoIterator<Item = Id>) -> Option<Self> {
        let ids: SmallVec<[Id; 2]> = ids.into_iter().collect();
        ids.is_sorted_by(|a, b| a < b).then_some(Self(ids))
    }

    /// The ids as a slice.
    pub fn as_slice(&self) -> &[Id] {
        &self.0
    }

    /// Whether `id` is in the list: O(log n).
    pub fn has(&self, id: &Id) -> bool {
        self.0.binary_search(id).is_ok()
    }
}

impl Deref for Ids {
    type Target = [Id];

    fn deref(&self) -> &[Id] {
        &self.0
    }
}

impl FromIterator<Id> for Ids {
    /// Sorts and removes duplicates.
    fn from_iter<I: IntoIterator<Item = Id>>(iter: I) -> Self {
        let mut ids: SmallVec<[Id; 2]> = iter.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }
}

impl From<Vec<Id>> for Ids {
    /// Sorts and removes duplicates.
    fn from(ids: Vec<Id>) -> Self {
        ids.into_iter().collect()
    }
}

impl From<&[Id]> for Ids {
    /// Sorts and removes duplicates.
    fn from(ids: &[Id]) -> Self {
        ids.iter().copied().collect()
    }
}

impl From<Id> for Ids {
    fn from(id: Id) -> Self {
        Self(SmallVec::from_iter([id]))
    }
}

impl<'a> IntoIterator for &'a Ids {
    type Item = &'a Id;
    type IntoIter = core::slice::Iter<'a, Id>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
