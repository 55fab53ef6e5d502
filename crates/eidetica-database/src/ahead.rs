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
use eidetica_crdt::{Bounded, Delta, Order, Overlay, StoreKind, insert};
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
    rows: HashMap<Space, HashMap<Bytes, Option<Bytes>>>,
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
    fn row(&self, space: Space, key: &[u8]) -> Option<Option<Bytes>> {
        self.rows.get(&space)?.get(key).cloned()
    }

    fn remember_row(&mut self, space: Space, key: &[u8], value: Option<&Bytes>) {
        if self.admits(key.len() + value.map_or(0, Bytes::len)) {
            let rows = self.rows.entry(space).or_default();
            rows.insert(Bytes::copy_from_slice(key), value.cloned());
        }
    }

    fn remember_page(&mut self, scan: Scan, page: &Page) {
        let len = |row: &Row| row.key.len() + row.value.len();
        let bounds = scan.range.start.len() + scan.range.end.as_ref().map_or(0, Vec::len);
        if self.admits(bounds + page.rows.iter().map(len).sum::<usize>()) {
            self.pages.insert(scan, page.clone());
        }
    }

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
        let is_plain = commission.past.is_none() && !commission.names_entries();
        if !shared.has_others() || !is_plain || core.is_behind() {
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
            let rows = StoreRows { view, slot };
            let deepest = core.registry.read().deepest(&change.store, change.kind);
            let (base, delta) = (Bounded { rows, deepest }, Delta::new());
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
        let known: Vec<Option<Option<Bytes>>> = {
            let seen = self.seen.lock();
            keys.iter().map(|key| seen.row(space, key)).collect()
        };
        let is_absent = |(_, known): &(&&[u8], &Option<_>)| known.is_none();
        let absent = keys.iter().zip(&known).filter(is_absent);
        let absent: Vec<&[u8]> = absent.map(|(key, _)| *key).collect();
        if absent.is_empty() {
            return Ok(known.into_iter().map(Option::flatten).collect());
        }
        let mut read = self.snapshot()?.multi_get(space, &absent)?.into_iter();
        let mut seen = self.seen.lock();
        let row = |(key, known): (&&[u8], Option<Option<Bytes>>)| {
            known.unwrap_or_else(|| {
                let value = read.next().flatten();
                seen.remember_row(space, key, value.as_ref());
                value
            })
        };
        Ok(keys.iter().zip(known).map(row).collect())
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
        self.seen.lock().remember_page(scan, &page);
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
    use eidetica_storage::{Batch, Durability, Engine, MemoryEngine};

    use super::*;
    use crate::{Config, Databases, NewDatabase};

    /// Whatever was asked before, and however often in one question.
    #[test]
    fn it_answers_like_the_engine() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let databases = Databases::open(Arc::clone(&engine), Config::new([7; 32])).unwrap();
        let key = Arc::new(SecretKey::from_bytes(&[1; 32]));
        let admin = Permission::Admin(0);
        let new = NewDatabase {
            records: vec![AuthRecord::grant(key.public(), admin, KeyName::default())],
            ..NewDatabase::default()
        };
        let database = databases.create(new, key).unwrap();
        let mut batch = Batch::new();
        for row in [b"a", b"b", b"d"] {
            batch.put(Space::State, row, row);
        }
        // One that is too long to be remembered.
        batch.put(Space::State, b"e", &vec![0; limits::AHEAD_BYTES]);
        engine.write(&batch, Durability::Relaxed).unwrap();
        let rows = engine.snapshot().unwrap();
        let ahead = database.core().read_ahead(database.shared());
        let asked: [&[&[u8]]; 5] = [
            &[b"a", b"a", b"b"],
            &[],
            &[b"c", b"a", b"d", b"c", b"e", b"b"],
            &[b"e", b"e", b"d", b"c"],
            &[b"b", b"c"],
        ];
        for keys in asked {
            let (found, there) = (
                ahead.multi_get(Space::State, keys).unwrap(),
                rows.multi_get(Space::State, keys).unwrap(),
            );
            assert_eq!(found, there, "{keys:?}");
        }
        for limit in [1, 2, 1, 9, 9] {
            let scan = |rows: &dyn Snapshot| {
                let limit = ScanLimit::rows(limit);
                let range = KeyRange::all();
                rows.scan(Space::State, &range, Direction::Forward, limit)
                    .unwrap()
            };
            assert_eq!(scan(&ahead), scan(&*rows));
        }
    }
}
