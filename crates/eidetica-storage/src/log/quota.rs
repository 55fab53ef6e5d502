//! How many bytes of entries a database may hold here: a row that only databases with a limit have, written in every
//! batch that changes how much they hold.

use super::rows::{QUOTA, checked_sum, key_of, put_sum};
use super::{DbNo, LogError, LogReader};
use crate::{Batch, Snapshot, Space};

/// What a database may hold, and what it holds. Bytes are those of the entries, each encoded by itself, whether packed
/// or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that it may hold.
    pub limit: u64,
    /// Bytes that it holds.
    pub bytes: u64,
}

impl Quota {
    /// Whether there is room for so many bytes more.
    #[must_use]
    pub fn admits(&self, more: u64) -> bool {
        self.bytes.saturating_add(more) <= self.limit
    }

    /// Counts bytes that come in the place of others.
    pub(super) fn count(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes.saturating_sub(before as u64);
        self.bytes = self.bytes.saturating_add(after as u64);
    }
}

impl LogReader<'_> {
    /// The quota, if the database has one. One row.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn quota(&self) -> Result<Option<Quota>, LogError> {
        let row = self.read_meta(&key(self.no()))?;
        row.map(|row| decode(self.no(), &row)).transpose()
    }
}

pub(super) fn read(no: DbNo, snapshot: &dyn Snapshot) -> Result<Option<Quota>, LogError> {
    let row = snapshot.get(Space::Meta, &key(no))?;
    row.map(|row| decode(no, &row)).transpose()
}

/// Without a quota there is no row.
pub(super) fn put(no: DbNo, quota: Option<&Quota>, batch: &mut Batch) {
    let key = key(no);
    match quota {
        Some(quota) => {
            let (limit, bytes) = (quota.limit.to_le_bytes(), quota.bytes.to_le_bytes());
            put_sum(&key, &[&limit, &bytes], batch);
        }
        None => batch.delete(Space::Meta, &key),
    }
}

fn decode(no: DbNo, row: &[u8]) -> Result<Quota, LogError> {
    let decode = || {
        let (limit, bytes) = checked_sum(&key(no), row)?.split_first_chunk()?;
        Some(Quota {
            limit: u64::from_le_bytes(*limit),
            bytes: u64::from_le_bytes(bytes.try_into().ok()?),
        })
    };
    decode().ok_or_else(|| {
        LogError::corrupt(
            format_args!("quota row of database {no}"),
            "does not decode",
        )
    })
}

fn key(no: DbNo) -> [u8; 6] {
    key_of(QUOTA, no)
}
