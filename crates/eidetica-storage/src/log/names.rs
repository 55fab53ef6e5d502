//! Settings that name a database, and whoever takes one away because none does, see each other.
//!
//! Both look before they write, and neither writes where the other one looks. So there is a row that says which batch has
//! named databases last, and one that says what was taken away last. Each side reads the other one's row before it looks
//! at anything else, expects it in its batch as it was, and writes its own: of two that do not know of each other the
//! second is refused and looks again, whichever it is. Two of the same side do not refuse each other, as they do not
//! expect what they write.

use bytes::Bytes;

use super::rows::put_sum;
use super::{DbNo, EntryLog, LogError};
use crate::{Batch, Snapshot, Space};

const NAMED: [u8; 2] = *b"Lu";
const TAKEN: [u8; 2] = *b"Lj";

/// Which batch had named databases last: whoever takes one away reads it before it looks whether any settings name that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(Option<Bytes>);

/// What was taken away last: whoever names a database reads it before it looks whether that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken(Option<Bytes>);

impl EntryLog {
    /// See [`Named`]. One row.
    ///
    /// # Errors
    /// The engine's.
    pub fn named(&self, snapshot: &dyn Snapshot) -> Result<Named, LogError> {
        Ok(Named(snapshot.get(Space::Meta, &NAMED)?))
    }

    /// See [`Taken`]. One row.
    ///
    /// # Errors
    /// The engine's.
    pub fn taken(&self, snapshot: &dyn Snapshot) -> Result<Taken, LogError> {
        Ok(Taken(snapshot.get(Space::Meta, &TAKEN)?))
    }
}

/// Says that a database or closure is taken away, unless anything was named since.
pub(super) fn stage_taken(named: &Named, no: DbNo, batch: &mut Batch) {
    batch.expect(Space::Meta, &NAMED, named.0.as_deref());
    // Its number is not given again, so nobody else writes the same.
    put_sum(&TAKEN, &[&no.0.to_be_bytes()], batch);
}

/// Has a batch refused if anything was taken away since.
pub(super) fn expect_taken(taken: &Taken, batch: &mut Batch) {
    batch.expect(Space::Meta, &TAKEN, taken.0.as_deref());
}

/// Says that a batch, the one that makes this version of a database, names others.
pub(super) fn put_named(no: DbNo, version: u64, batch: &mut Batch) {
    put_sum(
        &NAMED,
        &[&no.0.to_be_bytes(), &version.to_le_bytes()],
        batch,
    );
}
