//! An engine that counts what passes through it, for tests of cost.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, ScanLimit,
    Snapshot, Space, Step, Watch,
};
use parking_lot::Mutex;

/// Counts every operation on the engine below.
pub struct RecordingEngine {
    inner: Arc<dyn Engine>,
    tally: Arc<Mutex<Tally>>,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches written successfully.
    pub writes: u64,
    /// Those of them that were durable.
    pub durable_writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// What happened in each space, in the order of [`Space::ALL`].
    pub spaces: [SpaceTally; Space::ALL.len()],
}

/// What happened in one space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceTally {
    /// Rows put.
    pub puts: u64,
    /// Bytes of the keys and values put.
    pub put_bytes: u64,
    /// Rows deleted one by one.
    pub deletes: u64,
    /// Ranges deleted.
    pub range_deletes: u64,
    /// Expectations.
    pub expects: u64,
    /// Calls of `get` and `multi_get`.
    pub get_calls: u64,
    /// Keys asked for in them.
    pub gets: u64,
    /// Scan pages.
    pub scans: u64,
    /// Rows returned by scans.
    pub scanned_rows: u64,
    /// Bytes returned by gets and scans.
    pub read_bytes: u64,
}

impl RecordingEngine {
    /// Counts what passes to `inner`, beginning at zero.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self {
            inner,
            tally: Arc::default(),
        }
    }

    /// What was counted since the last [`RecordingEngine::take`].
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// What was counted since the last time, beginning again at zero.
    #[must_use]
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock())
    }
}

impl Tally {
    /// What happened in one space.
    #[must_use]
    pub fn space(&self, space: Space) -> &SpaceTally {
        &self.spaces[space.index()]
    }

    /// Rows put, over all spaces.
    #[must_use]
    pub fn puts(&self) -> u64 {
        self.spaces.iter().map(|space| space.puts).sum()
    }

    /// Keys asked for and scan pages, over all spaces.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.spaces
            .iter()
            .map(|space| space.gets + space.scans)
            .sum()
    }

    fn add(&mut self, step: Step<'_>) {
        match step {
            Step::Put(space, key, value) => {
                let space = &mut self.spaces[space.index()];
                space.puts += 1;
                space.put_bytes += (key.len() + value.len()) as u64;
            }
            Step::Delete(space, _) => self.spaces[space.index()].deletes += 1,
            Step::DeleteRange(space, ..) => self.spaces[space.index()].range_deletes += 1,
            Step::Expect(space, ..) => self.spaces[space.index()].expects += 1,
        }
    }
}

impl Engine for RecordingEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.tally.lock().snapshots += 1;
        Ok(Box::new(RecordingSnapshot {
            inner: self.inner.snapshot()?,
            tally: self.tally.clone(),
        }))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.inner.write(batch, durability)?;
        let mut tally = self.tally.lock();
        tally.writes += 1;
        tally.durable_writes += u64::from(durability == Durability::Durable);
        batch.iter().for_each(|step| tally.add(step));
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.tally.lock().flushes += 1;
        self.inner.flush()
    }

    fn compact(&self) -> Result<(), EngineError> {
        self.inner.compact()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.inner.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.inner.close()
    }

    fn info(&self) -> EngineInfo {
        self.inner.info()
    }
}

struct RecordingSnapshot {
    inner: Box<dyn Snapshot>,
    tally: Arc<Mutex<Tally>>,
}

impl Snapshot for RecordingSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let values = self.inner.multi_get(space, keys)?;
        let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
        let mut tally = self.tally.lock();
        let space = &mut tally.spaces[space.index()];
        space.get_calls += 1;
        space.gets += keys.len() as u64;
        space.read_bytes += bytes as u64;
        Ok(values)
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        let page = self.inner.scan(space, range, direction, limit)?;
        let bytes: usize = page
            .rows
            .iter()
            .map(|row| row.key.len() + row.value.len())
            .sum();
        let mut tally = self.tally.lock();
        let space = &mut tally.spaces[space.index()];
        space.scans += 1;
        space.scanned_rows += page.rows.len() as u64;
        space.read_bytes += bytes as u64;
        Ok(page)
    }
}
