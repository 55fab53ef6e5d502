//! Taking a whole database away: a tombstone at once, its rows a bounded part at a time.
//!
//! From the batch with the tombstone on nobody finds the database: its directory row and its version row go with that
//! batch, so whatever was staged on them is refused. The rest is swept away later, after a crash too, and the number is
//! never given again.

use std::ops::ControlFlow;

use bytes::Bytes;
use eidetica_entry::Id;

use super::rows::{self, checked_sum, key_of, put_sum};
use super::{DatabaseLog, DbNo, EntryLog, LogError, Named, names};
use crate::{Batch, Direction, KeyRange, ScanLimit, Snapshot, Space, limits};

const TOMBSTONE: [u8; 2] = *b"Ly";

/// A database as it was found: to be ended only if nothing was written to it since.
#[derive(Debug, Clone)]
pub struct AsFound(Option<Bytes>);

/// Rows that belong to a database: a range of keys of a space.
pub type Rows = (Space, KeyRange);

/// What one part of a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Rows that the batch takes away.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Whether nothing is left after it.
    pub is_last: bool,
}

impl DatabaseLog {
    /// See [`AsFound`]. Its version row may be damaged or missing.
    ///
    /// # Errors
    /// The engine's.
    pub fn as_found(&self, snapshot: &dyn Snapshot) -> Result<AsFound, LogError> {
        Ok(AsFound(
            snapshot.get(Space::Meta, &rows::version_key(self.no))?,
        ))
    }
}

impl EntryLog {
    /// Stages the end of a database, unless it was written to since it was found so, or anything was named since `named`
    /// was read.
    ///
    /// # Errors
    /// The engine's.
    pub fn stage_end(
        &self,
        database: &DatabaseLog,
        found: &AsFound,
        named: &Named,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let (id, no) = (database.id, database.no);
        let version = rows::version_key(no);
        names::stage_taken(named, no, batch);
        batch.expect(Space::Meta, &version, found.0.as_deref());
        batch.delete(Space::Meta, &version);
        // A repair that is under way elsewhere finds that it has ended.
        batch.delete(Space::Meta, &super::repair::key(no));
        let directory = rows::Directory::Databases.key(&id);
        batch.expect(
            Space::Meta,
            &directory,
            snapshot.get(Space::Meta, &directory)?.as_deref(),
        );
        batch.delete(Space::Meta, &directory);
        put_sum(&tombstone(no), &[id.as_bytes()], batch);
        Ok(())
    }

    /// The databases that have ended and of which rows are left.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn ended(&self) -> Result<Vec<(DbNo, Id)>, LogError> {
        let snapshot = self.engine().snapshot()?;
        let mut found = Vec::new();
        let range = KeyRange::prefix(TOMBSTONE);
        let _: ControlFlow<()> =
            snapshot.for_each(Space::Meta, &range, Direction::Forward, |row| {
                // A damaged one is named by whoever verifies, and keeps nothing else from going on.
                found.extend(decode(&row.key, &row.value).ok());
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        Ok(found)
    }

    /// Stages the removal of a bounded part of the rows of a database that has ended, those of other layers (`also`)
    /// among them; with the last part the tombstone goes. Doing it twice does no harm.
    ///
    /// # Errors
    /// The engine's errors.
    pub fn stage_sweep(
        &self,
        no: DbNo,
        also: &[Rows],
        batch: &mut Batch,
    ) -> Result<Swept, LogError> {
        let snapshot = self.engine().snapshot()?;
        let own = rows::ranges_of(no);
        let mut swept = Swept::default();
        for (space, range) in own.iter().chain(also) {
            if !sweep(&*snapshot, *space, range, &mut swept, batch)? {
                return Ok(swept);
            }
        }
        batch.delete(Space::Meta, &tombstone(no));
        swept.is_last = true;
        Ok(swept)
    }
}

/// Stages the removal of the rows of a range until there are [`limits::SWEEP_ROWS`] or [`limits::SWEEP_BYTES`] of them
/// in `swept`; says whether the range is empty then.
///
/// # Errors
/// The engine's.
pub fn sweep(
    snapshot: &dyn Snapshot,
    space: Space,
    range: &KeyRange,
    swept: &mut Swept,
    batch: &mut Batch,
) -> Result<bool, LogError> {
    let mut rest = Some(range.clone());
    while let Some(range) = rest.take() {
        let room = usize::try_from(limits::SWEEP_ROWS.saturating_sub(swept.rows)).unwrap_or(0);
        if room == 0 || swept.bytes >= limits::SWEEP_BYTES {
            return Ok(false);
        }
        let limit = ScanLimit {
            rows: room.min(limits::PAGE_ROWS),
            bytes: limits::PAGE_BYTES,
        };
        let page = snapshot.scan(space, &range, Direction::Forward, limit)?;
        for row in &page.rows {
            swept.rows += 1;
            swept.bytes += (row.key.len() + row.value.len()) as u64;
            batch.delete(space, &row.key);
        }
        rest = page.rest(&range, Direction::Forward);
    }
    Ok(true)
}

fn tombstone(no: DbNo) -> [u8; 6] {
    key_of(TOMBSTONE, no)
}

fn decode(key: &[u8], value: &[u8]) -> Result<(DbNo, Id), LogError> {
    let no = key.get(2..).and_then(|no| no.try_into().ok());
    let id = checked_sum(key, value).and_then(|id| id.try_into().ok());
    no.map(u32::from_be_bytes)
        .map(DbNo)
        .zip(id.map(Id::new))
        .ok_or_else(|| LogError::corrupt("tombstone", "does not decode"))
}
