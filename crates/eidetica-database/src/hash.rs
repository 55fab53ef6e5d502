//! The state hash: one number for all that a database shows.
//!
//! Equal for replicas that hold the same entries, whatever engine they are on and whatever order the
//! entries came in. Defined in `docs/formats/database.md`.

use std::fmt;

use eidetica_crdt::{RowSpace, StoreKind, hash_visible};
use eidetica_entry::StoreName;
use eidetica_storage::{Direction, KeyRange, ScanLimit, Snapshot};

use crate::Database;
use crate::core::load_registry;
use crate::error::Result;
use crate::overlay::View;
use crate::rows::{StoreRows, StoreSlot};

/// A BLAKE3 hash of visible values. Text form: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateHash([u8; 32]);

impl StateHash {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

impl Database {
    /// The hash of all that the database shows, its settings' document included. O(the state).
    ///
    /// # Errors
    /// [`Error::Incomplete`](crate::Error::Incomplete) where a store is not whole here; the engine's.
    pub fn state_hash(&self) -> Result<StateHash> {
        let snapshot = self.state_snapshot()?;
        self.check_all_whole(&*snapshot)?;
        let mut hasher = blake3::Hasher::new_derive_key("eidetica database state v1");
        for (name, kind, slot) in load_registry(&self.core().log, &*snapshot)?.all() {
            // Only void entries wrote there.
            if is_empty(&*snapshot, slot)? {
                continue;
            }
            hasher
                .update(&(name.as_str().len() as u64).to_le_bytes())
                .update(name.as_str().as_bytes());
            hasher
                .update(&[kind as u8])
                .update(store_hash(&*snapshot, kind, slot)?.as_bytes());
        }
        Ok(StateHash(*hasher.finalize().as_bytes()))
    }

    /// The hash of what one store shows; `None` for a store that nobody has written. O(its state).
    ///
    /// # Errors
    /// [`Error::Incomplete`](crate::Error::Incomplete) where it is not whole here; the engine's.
    pub fn store_hash(&self, name: &str, kind: StoreKind) -> Result<Option<StateHash>> {
        let name = StoreName::new(name)?;
        let snapshot = self.state_snapshot()?;
        self.check_whole(&name, &*snapshot)?;
        let slot = load_registry(&self.core().log, &*snapshot)?.slot(&name, kind);
        match slot {
            Some(slot) if !is_empty(&*snapshot, slot)? => {
                Ok(Some(store_hash(&*snapshot, kind, slot)?))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a store has no rows: nobody wrote there, or only void entries did.
pub(crate) fn is_empty(snapshot: &dyn Snapshot, slot: StoreSlot) -> Result<bool> {
    for space in [RowSpace::Cur, RowSpace::Ver] {
        let range = KeyRange::prefix(slot.prefix(space));
        let one = ScanLimit::rows(1);
        let page = snapshot.scan(StoreSlot::space(space), &range, Direction::Forward, one)?;
        if !page.rows.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn store_hash(snapshot: &dyn Snapshot, kind: StoreKind, slot: StoreSlot) -> Result<StateHash> {
    let rows = StoreRows {
        view: View::durable(snapshot),
        slot,
    };
    let mut hasher = blake3::Hasher::new_derive_key("eidetica store state v1");
    hash_visible(&rows, kind, &mut |piece| {
        hasher.update(piece);
    })?;
    Ok(StateHash(*hasher.finalize().as_bytes()))
}
