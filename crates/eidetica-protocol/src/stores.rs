//! Payloads of which stores: what a side holds, and what it asks for.

use eidetica_entry::StoreName;
use serde::{Deserialize, Serialize};

use crate::{limits, message::MessageError, message::check_count};

/// What one side has of a database besides headers and settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The stores whose payloads it holds.
    pub stores: Stores,
    /// Whether some of those are not there.
    pub lacks: bool,
}

impl Holding {
    /// Whether all payloads of all stores are there.
    pub fn is_whole(&self) -> bool {
        self.stores.is_all() && !self.lacks
    }
}

/// Some stores of a database, or all of them. `_settings` always count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stores {
    /// All, those included that neither side has heard of.
    #[default]
    All,
    /// These, ascending; at most [`limits::STORES`].
    These(Vec<StoreName>),
}

impl Stores {
    /// These stores. Of more than [`limits::STORES`] only the first: of the others nothing is asked for.
    pub fn these(stores: impl IntoIterator<Item = StoreName>) -> Self {
        let mut stores: Vec<StoreName> = stores.into_iter().collect();
        stores.sort_unstable();
        stores.dedup();
        stores.truncate(limits::STORES);
        Self::These(stores)
    }

    /// Whether all stores count.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// Whether no store counts.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::These(stores) if stores.is_empty())
    }

    /// The stores, unless all count.
    pub fn some(&self) -> Option<&[StoreName]> {
        match self {
            Self::All => None,
            Self::These(stores) => Some(stores),
        }
    }

    /// What counts in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, stores) | (stores, Self::All) => stores.clone(),
            (Self::These(these), Self::These(others)) => {
                let both = these.iter().filter(|store| others.contains(store));
                Self::These(both.cloned().collect())
            }
        }
    }

    /// Whether these are all that were meant: fewer than would be cut.
    pub(crate) fn is_uncut(&self) -> bool {
        self.some()
            .is_none_or(|stores| stores.len() < limits::STORES)
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        let Self::These(stores) = self else {
            return Ok(());
        };
        check_count("stores", stores.len(), limits::STORES)?;
        match stores.is_sorted_by(|a, b| a < b) {
            true => Ok(()),
            false => Err(MessageError::NotCanonical),
        }
    }
}
