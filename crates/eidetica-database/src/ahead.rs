//! Reading before the lock what a commit will read under it.
//!
//! Where the engine is a server each read is a wait, and under a database's lock all its writers wait with the one who
//! reads. So a commit is first made for the sake of its reads alone, on the rows that the engine has; under the lock it is
//! made again and finds those rows here. What was staged since the snapshot lies over them, and stays there as long as
//! somebody reads ahead: see [`Overlay::covers`](crate::overlay::Overlay::covers).

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eidetica_crdt::{Delta, Order, Overlay, StoreKind, insert};
use eidetica_entry::{Height, Id, Stamp, StoreName};
use eidetica_storage::{Direction, EngineError, KeyRange, Page, Row, ScanLimit, Snapshot, Space};
use parking_lot::Mutex;

use crate::core::{Core, Sequencer};
use crate::error::Result;
use crate::overlay::View;
use crate::rows::StoreRows;
use crate::shared::Shared;
use crate::transaction::Commission;
use crate::{Database, limits};

/// Rows as a snapshot had them, and whether they still are of use. As a snapshot it answers from them, and where it was
/// not asked before from a new one: under the lock both have the same in common with what is staged.
pub(crate) struct Ahead<'a> {
    shared: &'a Shared,
    core: &'a Core,
    /// How often the sequencer had been loaded before the snapshot.
    loads: u64,
    /// The newest batch that was in the engine before the snapshot.
    settled: u64,
    seen: Mutex<Seen>,
    snapshot: OnceLock<Box<dyn Snapshot>>,
}

#[derive(Default)]
struct Seen {
    rows: HashMap<(Space, Bytes), Option<Bytes>>,
    pages: HashMap<Scan, Page>,
    bytes: usize,
}

/// A scan as it was asked for.
#[derive(PartialEq, Eq, Hash)]
struct Scan {
    space: Space,
    range: KeyRange,
    direction: Direction,
    limit: (usize, usize),
}

impl Seen {
    /// Whether so much more is remembered.
    fn admits(&mut self, bytes: usize) -> bool {
        let admits = self.bytes + bytes <= limits::AHEAD_BYTES;
        self.bytes += if admits { bytes } else { 0 };
        admits
    }
}

impl Core {
    /// Begins to read ahead.
    fn read_ahead<'a>(&'a self, shared: &'a Shared) -> Ahead<'a> {
        // Before the snapshot, and of loads that were over.
        let loads = self.loads.load(Ordering::Acquire);
        let mut ahead = self.ahead.lock();
        let settled = self.settled.load(Ordering::Acquire);
        *ahead.entry(settled).or_default() += 1;
        Ahead {
            shared,
            core: self,
            loads,
            settled,
            seen: Mutex::default(),
            snapshot: OnceLock::new(),
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        let mut ahead = self.core.ahead.lock();
        if let Some(count) = ahead.get_mut(&self.settled) {
            *count -= 1;
            if *count == 0 {
                ahead.remove(&self.settled);
            }
        }
    }
}

impl Database {
    /// What a commit reads of the state, where that is worth it. Called without the lock. Errors are those of who makes it
    /// under the lock.
    pub(crate) fn read_ahead(&self, commission: &Commission<'_>) -> Option<Ahead<'_>> {
        let (shared, core) = (self.shared(), self.core());
        let walks = commission.past.is_some()
            || !commission.records.is_empty()
            || !commission.above.is_empty()
            || commission.changes.writes_settings();
        if !shared.has_others() || walks || core.is_behind() {
            return None;
        }
        let mut ahead = core.read_ahead(shared);
        ahead.read(self, commission).ok()?;
        // Who has the lock may wait for a snapshot, of which there are only so many.
        ahead.snapshot.take();
        Some(ahead)
    }
}

impl Ahead<'_> {
    fn read(&self, database: &Database, commission: &Commission<'_>) -> Result<()> {
        let (core, view) = (self.core, View::durable(self));
        let rows_of = |name: &StoreName, kind: StoreKind| core.rows_in(view, name, kind);
        if commission.changes.may_be_stale(core.version()) {
            // A conflict may be none any more under the lock.
            commission.changes.check_reads(rows_of).ok();
        }
        let stamp = Stamp::new(Height(u64::MAX), Id::new([0; 32]));
        for change in &commission.changes.stores {
            database.check_writable(&change.store, self)?;
            let Some(slot) = core.slot(&change.store, change.kind) else {
                continue;
            };
            let Some(payload) = change.lower(&*rows_of(&change.store, change.kind))? else {
                continue;
            };
            let (base, delta) = (StoreRows { view, slot }, Delta::new());
            insert(
                &mut Overlay { base, delta },
                stamp,
                &payload,
                Order::NewerThanAll,
            )?;
        }
        Ok(())
    }

    /// Whether the rows, with what is staged over them, are what is staged now.
    pub(crate) fn is_of_use(&self, sequencer: &Sequencer) -> bool {
        let since = sequencer
            .overlay
            .covers(self.settled, sequencer.last_batch());
        sequencer.load < self.loads && since
    }

    fn snapshot(&self) -> Result<&dyn Snapshot, EngineError> {
        if let Some(snapshot) = self.snapshot.get() {
            return Ok(&**snapshot);
        }
        let snapshot = self.shared.rows.snapshot()?;
        Ok(&**self.snapshot.get_or_init(|| snapshot))
    }
}

impl Snapshot for Ahead<'_> {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| (space, Bytes::copy_from_slice(key)))
            .collect();
        let absent: Vec<&[u8]> = {
            let seen = self.seen.lock();
            let absent = keys.iter().filter(|key| !seen.rows.contains_key(*key));
            absent.map(|(_, key)| &**key).collect()
        };
        let mut read = match absent.is_empty() {
            true => Vec::new(),
            false => self.snapshot()?.multi_get(space, &absent)?,
        }
        .into_iter();
        let mut seen = self.seen.lock();
        let row = |key: &(Space, Bytes)| {
            if let Some(value) = seen.rows.get(key) {
                return value.clone();
            }
            let value = read.next().flatten();
            if seen.admits(key.1.len() + value.as_ref().map_or(0, Bytes::len)) {
                seen.rows.insert(key.clone(), value.clone());
            }
            value
        };
        Ok(keys.iter().map(row).collect())
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        let scan = Scan {
            space,
            range: range.clone(),
            direction,
            limit: (limit.rows, limit.bytes),
        };
        if let Some(page) = self.seen.lock().pages.get(&scan) {
            return Ok(page.clone());
        }
        let page = self.snapshot()?.scan(space, range, direction, limit)?;
        let len = |row: &Row| row.key.len() + row.value.len();
        let mut seen = self.seen.lock();
        if seen.admits(page.rows.iter().map(len).sum()) {
            seen.pages.insert(scan, page.clone());
        }
        Ok(page)
    }
}
