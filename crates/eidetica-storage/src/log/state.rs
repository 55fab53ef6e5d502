//! [`LogState`]: the version row of a database.

use eidetica_entry::{Height, Stamp};
use serde::{Deserialize, Serialize};

/// What is known of a database's log as a whole. One row per database, written by every batch and the
/// one precondition of the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogState {
    /// Counts the batches. Equal numbers mean equal rows everywhere in the database: the key of every
    /// cache.
    pub version: u64,
    /// The arrival number of the next entry: how many there are.
    pub next_arrival: u64,
    /// Entries with lower arrival numbers have been applied to the materialised state.
    pub applied: u64,
    /// Entries from this arrival number on stand in rows of their own: the open block.
    pub open_from: u64,
    /// The greatest height.
    pub max_height: Height,
    /// The entries that are nobody's parents, ascending.
    pub tips: Vec<Stamp>,
}

impl LogState {
    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.next_arrival
    }

    /// Whether the materialised state has seen every entry.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.applied >= self.next_arrival
    }
}
