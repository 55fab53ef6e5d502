//! [`LogState`]: the version row of a database.

use eidetica_entry::{Height, Id, Stamp};
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
    /// Entries with lower arrival numbers have been applied to the materialised state, unless they are
    /// [absent](super::Mark::Absent).
    pub applied: u64,
    /// Entries from this arrival number on stand in rows of their own: the open block.
    pub open_from: u64,
    /// The greatest height.
    pub max_height: Height,
    /// How many entries are [void](super::Mark::Void).
    pub void: u64,
    /// How many entries are void and not absent, or absent and not void.
    pub unsettled: u64,
    /// How many entries are [loose](super::Mark::Loose).
    pub loose: u64,
    /// Of the entries that write `_settings`, effective or void, those that are in no other one's past,
    /// ascending.
    pub settings: Vec<Id>,
    /// The effective entries that are in no other effective one's past, ascending.
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

    /// Whether the materialised state is that of the effective entries, as far as it has seen them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled == 0
    }
}
