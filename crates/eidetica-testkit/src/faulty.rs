//! An engine that fails at a chosen operation and forgets what was not durable.

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, MemoryEngine, Page,
    ScanLimit, Snapshot, Space, Watch, Watchers,
};
use parking_lot::Mutex;

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write or flush fails and has done nothing.
    Before,
    /// A write or flush reports failure although it took effect, as when the power goes after the
    /// sync and before the answer.
    After,
    /// A read fails. Reads do not poison.
    Read,
    /// A read on a thread of this name fails; the number counts those alone.
    ReadOn(&'static str),
}

/// A memory engine behind a fault injector.
///
/// Writes and flushes are counted from 0; so are reads (one per snapshot, get, `multi_get` and scan).
/// The operation chosen by [`FaultyEngine::fail_at`] fails, and, if it is a write or flush, poisons the
/// engine as the contract demands. [`FaultyEngine::crash`] then gives what a disk would hold.
///
/// ```
/// # use eidetica_storage::{Batch, Durability, Engine, Space};
/// # use eidetica_testkit::{Fault, FaultyEngine};
/// let mut batch = Batch::new();
/// batch.put(Space::Meta, b"key", b"value");
///
/// let engine = FaultyEngine::fail_at(1, Fault::Before);
/// engine.write(&batch, Durability::Durable)?;
/// assert!(engine.write(&batch, Durability::Durable).is_err());
/// let reopened = engine.crash(0);
/// assert!(reopened.snapshot()?.get(Space::Meta, b"key")?.is_some());
/// # Ok::<(), eidetica_storage::EngineError>(())
/// ```
#[derive(Debug)]
pub struct FaultyEngine {
    fault: Option<(u64, Fault)>,
    disk: Arc<Mutex<Disk>>,
    watchers: Watchers,
}

#[derive(Debug)]
struct Disk {
    /// What was acknowledged as durable.
    durable: MemoryEngine,
    /// What each later, relaxed batch made of it, oldest first.
    relaxed: Vec<MemoryEngine>,
    /// What readers see.
    visible: MemoryEngine,
    writes: u64,
    reads: u64,
    /// Those on the thread of [`Fault::ReadOn`].
    reads_there: u64,
    poisoned: bool,
}

impl FaultyEngine {
    /// An empty engine that does not fail, for counting the operations of a test.
    #[must_use]
    pub fn new() -> Self {
        Self::over(&MemoryEngine::new(), None)
    }

    /// An empty engine that fails at the `number`-th write or flush (or read) from now, from 0.
    #[must_use]
    pub fn fail_at(number: u64, fault: Fault) -> Self {
        Self::over(&MemoryEngine::new(), Some((number, fault)))
    }

    /// An engine that begins with the rows of another, all of them durable.
    #[must_use]
    pub fn over(engine: &MemoryEngine, fault: Option<(u64, Fault)>) -> Self {
        let disk = Disk {
            durable: engine.fork().unwrap(),
            relaxed: Vec::new(),
            visible: engine.fork().unwrap(),
            writes: 0,
            reads: 0,
            reads_there: 0,
            poisoned: false,
        };
        Self {
            fault,
            disk: Arc::new(Mutex::new(disk)),
            watchers: Watchers::default(),
        }
    }

    /// How many writes and flushes there were.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.disk.lock().writes
    }

    /// How many reads there were.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.disk.lock().reads
    }

    /// How many reads there were on the thread of [`Fault::ReadOn`].
    #[must_use]
    pub fn reads_there(&self) -> u64 {
        self.disk.lock().reads_there
    }

    /// How many relaxed batches a crash now may lose.
    #[must_use]
    pub fn relaxed(&self) -> usize {
        self.disk.lock().relaxed.len()
    }

    /// What is on disk after a crash now that spares the first `keep` of the relaxed batches.
    #[must_use]
    pub fn crash(&self, keep: usize) -> MemoryEngine {
        let disk = self.disk.lock();
        let kept = keep.min(disk.relaxed.len());
        let survivor = kept
            .checked_sub(1)
            .map_or(&disk.durable, |last| &disk.relaxed[last]);
        survivor.fork().unwrap()
    }

    /// Runs a write or flush on the disk, or fails it.
    fn change(
        &self,
        apply: impl FnOnce(&mut Disk) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut disk = self.disk.lock();
        if disk.poisoned {
            return Err(poisoned());
        }
        let number = disk.writes;
        disk.writes += 1;
        match self.fault {
            Some((at, fault @ (Fault::Before | Fault::After))) if at == number => {
                if fault == Fault::After {
                    apply(&mut disk)?;
                }
                disk.poisoned = true;
                Err(injected("writing"))
            }
            _ => apply(&mut disk),
        }
    }
}

impl Default for FaultyEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    fn write(&mut self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.visible.write(batch, durability)?;
        match durability {
            Durability::Durable => self.sync()?,
            Durability::Relaxed => self.relaxed.push(self.visible.fork()?),
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.durable = self.visible.fork()?;
        self.relaxed.clear();
        Ok(())
    }
}

fn poisoned() -> EngineError {
    EngineError::Poisoned {
        first: "an injected fault".into(),
    }
}

fn injected(doing: &'static str) -> EngineError {
    EngineError::io(doing, std::io::Error::other("an injected fault"))
}

/// Counts a read and fails it if it is the chosen one.
fn count_read(disk: &Mutex<Disk>, fault: Option<(u64, Fault)>) -> Result<(), EngineError> {
    let mut disk = disk.lock();
    let number = disk.reads;
    disk.reads += 1;
    let fails = match fault {
        Some((at, Fault::Read)) => at == number,
        Some((at, Fault::ReadOn(thread))) if thread::current().name() == Some(thread) => {
            let number = disk.reads_there;
            disk.reads_there += 1;
            at == number
        }
        _ => false,
    };
    match fails {
        true => Err(injected("reading")),
        false => Ok(()),
    }
}

impl Engine for FaultyEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        count_read(&self.disk, self.fault)?;
        let disk = self.disk.lock();
        if disk.poisoned {
            return Err(poisoned());
        }
        let inner = disk.visible.snapshot()?;
        Ok(Box::new(FaultySnapshot {
            inner,
            fault: self.fault,
            disk: self.disk.clone(),
        }))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.change(|disk| disk.write(batch, durability))?;
        self.watchers.notify();
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.change(Disk::sync)
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.watchers.add(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.disk.lock().visible.close()
    }

    fn info(&self) -> EngineInfo {
        EngineInfo::new("faulty")
    }
}

struct FaultySnapshot {
    inner: Box<dyn Snapshot>,
    fault: Option<(u64, Fault)>,
    disk: Arc<Mutex<Disk>>,
}

impl Snapshot for FaultySnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        count_read(&self.disk, self.fault)?;
        self.inner.multi_get(space, keys)
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        count_read(&self.disk, self.fault)?;
        self.inner.scan(space, range, direction, limit)
    }
}
