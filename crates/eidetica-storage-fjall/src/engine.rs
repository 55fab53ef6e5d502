//! The engine trait on fjall.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, PageBuilder,
    Plan, ScanLimit, Snapshot, Space, StoreHandle, Watch,
};
use eidetica_storage_dir::{DataDir, shield};
use fjall::compaction::Leveled;
use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree as _, CompressionType, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch,
    PersistMode, Readable,
};

use crate::options::MIN_JOURNAL_BYTES;
use crate::{FjallOptions, chunk, journal, manifest};

const NAME: &str = "fjall";
/// Of the directory and the use of keyspaces; fjall has a format version of its own.
const FORMAT: u32 = 1;

/// Threads that write memory tables out and merge files. The first of fjall's never merges but puts every request to merge
/// back: with two, as it takes on two cores, it does so without a pause for as long as the other one is at it, and
/// keeps a core busy. With more of them, idle ones take the requests.
const WORKERS: usize = 4;

/// Files of fresh rows from which on they are merged into the sorted ones of a space. Twice fjall's own: memory tables are
/// small here, and merging is most of what a row costs.
const FRESH_FILES: u8 = 8;

/// Bytes of a sorted file, so that as much is sorted before a next level begins as with fjall's own settings: 256 MiB.
const FILE_BYTES: u64 = 32 << 20;

/// Values below this are copied where they are looked up one by one. fjall's are parts of a block, 4 KiB of which would be held for each.
const COPIED_BYTES: usize = 1 << 10;

/// How long closing waits for memory tables to be written.
const WRITE_OUT_PATIENCE: Duration = Duration::from_secs(30);

/// An engine that keeps its rows in a directory, by fjall.
///
/// Writes queue up behind a lock that is held through the sync, so that nobody sees what is not
/// durable yet. Dropping the engine without `close` loses nothing that was acknowledged.
pub struct FjallEngine {
    handle: StoreHandle<Store>,
    options: FjallOptions,
}

/// Fields drop in order: the keyspaces, the database, at last the lock.
struct Store {
    spaces: [Keyspace; Space::ALL.len()],
    database: fjall::Database,
    /// Whether all rows were written to tables, so that the journals are worth emptying however short.
    compacted: AtomicBool,
    dir: DataDir,
}

impl FjallEngine {
    /// Opens the engine in a directory with the default options, creating it if there is none.
    ///
    /// Costs the replay of the journals, some 4 us for each row in them: little after `close`, up to the
    /// length that the options set after a crash.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Foreign`], [`EngineError::NewerFormat`],
    /// [`EngineError::Corrupt`], [`EngineError::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(dir, FjallOptions::default())
    }

    /// Opens the engine with options; see [`FjallEngine::open`].
    ///
    /// # Errors
    /// Those of [`FjallEngine::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: FjallOptions) -> Result<Self, EngineError> {
        let dir = DataDir::claim(dir.as_ref(), NAME, FORMAT)?;
        Ok(Self {
            handle: StoreHandle::new(Store::open(dir, options)?),
            options,
        })
    }
}

fn open_database(
    path: &Path,
    options: FjallOptions,
) -> Result<(fjall::Database, [Keyspace; Space::ALL.len()]), EngineError> {
    let database = fjall::Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(WORKERS)
        .max_journaling_size(options.journal_bytes.max(MIN_JOURNAL_BYTES))
        // Only values of 4 KiB and more would be compressed, which are packs: they are already.
        .journal_compression(CompressionType::None)
        .open()
        .map_err(|error| failure("opening", error))?;
    let mut spaces = Vec::with_capacity(Space::ALL.len());
    for space in Space::ALL {
        let keyspace = database.keyspace(space.name(), || keyspace_options(space, options));
        spaces.push(keyspace.map_err(|error| failure("opening", error))?);
    }
    let spaces = spaces
        .try_into()
        .map_err(|_| EngineError::corrupt("a space is missing"))?;
    Ok((database, spaces))
}

/// What a keyspace is created with; it keeps that for good.
fn keyspace_options(space: Space, options: FjallOptions) -> KeyspaceCreateOptions {
    let merging = Leveled::default()
        .with_l0_threshold(FRESH_FILES)
        .with_table_target_size(FILE_BYTES);
    let common = KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .compaction_strategy(Arc::new(merging));
    match space {
        // Packs are compressed and hashes cannot be.
        Space::Log | Space::Ids => {
            common.data_block_compression_policy(CompressionPolicy::disabled())
        }
        _ => common,
    }
}

impl Engine for FjallEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        let store = self.handle.store()?;
        let view = store.database.snapshot();
        Ok(Box::new(FjallSnapshot { view, store }))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.handle.write_prepared(
            batch,
            |store, plan| shield(|| store.prepare(plan, durability)),
            |store, prepared| shield(|| store.commit(prepared, durability)),
        )
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.handle.change(Store::sync)
    }

    /// Costs writing everything, and a moment without readers at the end: all rows are in tables then, but fjall empties
    /// no journal that it has open, so that the store is opened anew. While a snapshot is held the journals stay until
    /// the engine is closed.
    fn compact(&self) -> Result<(), EngineError> {
        self.handle.change(|store| {
            store.sync()?;
            shield(|| {
                store
                    .compact()
                    .map_err(|error| failure("compacting", error))
            })
        })?;
        self.handle.exchange(|store| {
            shield(|| store.trim(0)).and_then(|dir| Store::open(dir, self.options))
        })?;
        Ok(())
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.handle.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.handle.close(|store| {
            store.sync()?;
            // A snapshot that somebody still holds keeps the store, and then the journals stay.
            match Arc::into_inner(store) {
                Some(store) => shield(|| store.trim(self.options.trim_bytes)).map(drop),
                None => Ok(()),
            }
        })
    }

    fn info(&self) -> EngineInfo {
        let mut info = EngineInfo::new(NAME);
        info.persistent = true;
        info.cache_bytes = Some(self.options.cache_bytes);
        info.disk_bytes = self.handle.look(|store| store.dir.disk_bytes());
        info
    }
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallEngine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn open(mut dir: DataDir, options: FjallOptions) -> Result<Self, EngineError> {
        let (database, spaces) = dir.open(|path| {
            manifest::check(path).map_err(|error| missing_or_io("opening", error))?;
            shield(|| open_database(path, options))
        })?;
        Ok(Self {
            spaces,
            database,
            compacted: AtomicBool::new(false),
            dir,
        })
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is one keyspace for every space"
    )]
    fn keyspace(&self, space: Space) -> &Keyspace {
        &self.spaces[space.index()]
    }

    /// What is damaged is met here, where nothing has changed yet.
    fn prepare(
        &self,
        plan: &Plan<'_>,
        durability: Durability,
    ) -> Result<OwnedWriteBatch, EngineError> {
        for expect in &plan.expects {
            let stored = self
                .keyspace(expect.space)
                .get(expect.key)
                .map_err(|error| failure("reading", error))?;
            expect.check(stored.as_deref())?;
        }
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), plan.writes.len())
            .durability((durability == Durability::Durable).then_some(PersistMode::SyncAll));
        self.clear_ranges(plan, &mut batch)?;
        for row in chunk::rows(&plan.writes) {
            let keyspace = self.keyspace(row.space);
            match row.value {
                Some(value) => batch.insert(keyspace, row.key, value),
                None => batch.remove(keyspace, row.key),
            }
        }
        Ok(batch)
    }

    fn commit(&self, batch: OwnedWriteBatch, durability: Durability) -> Result<(), EngineError> {
        if batch.is_empty() {
            return if durability == Durability::Durable {
                self.sync()
            } else {
                Ok(())
            };
        }
        batch.commit().map_err(|error| failure("writing", error))
    }

    /// Removes the stored rows of the ranges, but not those that the batch writes anyway: the items of
    /// a fjall batch have no order among each other.
    fn clear_ranges(
        &self,
        plan: &Plan<'_>,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), EngineError> {
        for range in &plan.ranges {
            let keyspace = self.keyspace(range.space);
            for row in keyspace.range::<&[u8], _>(bounds(range.start, range.end)) {
                let key = row.key().map_err(|error| failure("reading", error))?;
                let written = |space, key: &[u8]| {
                    plan.writes
                        .binary_search_by(|write| (write.space, write.key).cmp(&(space, key)))
                };
                if written(range.space, &key).is_err() {
                    batch.remove(keyspace, key);
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(|error| failure("syncing", error))
    }

    /// Closes the store, and if it was compacted or its journals are longer than `trim_bytes` writes all memory tables
    /// out and empties the journals, which would otherwise be replayed row by row at the next opening.
    fn trim(self, trim_bytes: u64) -> Result<DataDir, EngineError> {
        let journals = self.database.journal_disk_space();
        let is_long = journals.map_err(|error| failure("closing", error))? > trim_bytes;
        let trim = (is_long || self.compacted.load(Ordering::Acquire))
            && self
                .write_out()
                .map_err(|error| failure("closing", error))?;
        let Self {
            spaces,
            database,
            compacted: _,
            dir,
        } = self;
        drop((spaces, database));
        if trim {
            journal::empty(&dir.data())?;
        }
        Ok(dir)
    }

    /// Writes all rows into new files, without those that are gone. What a snapshot still sees stays.
    fn compact(&self) -> fjall::Result<()> {
        // What is not written in time stays in memory until the next time.
        let in_time = self.write_out()?;
        self.compacted.store(in_time, Ordering::Release);
        self.spaces.iter().try_for_each(Keyspace::major_compact)
    }

    /// Writes all memory tables to files. Says whether they are there; that takes too long when the
    /// disk is too slow, and for ever when a thread of fjall has failed.
    fn write_out(&self) -> fjall::Result<bool> {
        for space in &self.spaces {
            space.rotate_memtable()?;
        }
        let begun = Instant::now();
        while self
            .spaces
            .iter()
            .any(|space| space.tree.sealed_memtable_count() > 0)
        {
            if begun.elapsed() > WRITE_OUT_PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self
            .spaces
            .iter()
            .all(|space| space.tree.active_memtable().is_empty()))
    }
}

struct FjallSnapshot {
    view: fjall::Snapshot,
    store: Arc<Store>,
}

impl FjallSnapshot {
    fn get_one(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.is_empty() {
            return Ok(None);
        }
        let value = self.view.get(self.store.keyspace(space), key);
        let value = value.map_err(|error| failure("reading", error))?;
        Ok(value.map(|value| match value.len() < COPIED_BYTES {
            true => Bytes::copy_from_slice(&value),
            false => Bytes::from(value),
        }))
    }
}

impl Snapshot for FjallSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        shield(|| keys.iter().map(|key| self.get_one(space, key)).collect())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        shield(|| self.get_one(space, key))
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        shield(|| {
            let bounds = bounds(&range.start, range.end.as_deref());
            let rows = self
                .view
                .range::<&[u8], _>(self.store.keyspace(space), bounds);
            match direction {
                Direction::Forward => page(rows, limit),
                Direction::Reverse => page(rows.rev(), limit),
            }
        })
    }
}

fn page(rows: impl Iterator<Item = Guard>, limit: ScanLimit) -> Result<Page, EngineError> {
    let mut page = PageBuilder::new(limit);
    for row in rows {
        if page.is_full() {
            return Ok(page.finish(true));
        }
        match row.into_inner() {
            Ok((key, value)) => page.push(key.into(), value.into()),
            // What comes before it can be read.
            Err(_) if !page.is_empty() => return Ok(page.finish(true)),
            Err(error) => return Err(failure("reading", error)),
        }
    }
    Ok(page.finish(false))
}

fn bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        Bound::Included(start),
        end.map_or(Bound::Unbounded, Bound::Excluded),
    )
}

/// What a fjall error means to the caller of an engine.
fn failure(doing: &'static str, error: fjall::Error) -> EngineError {
    use fjall::Error;
    match error {
        Error::Io(source) | Error::Storage(fjall::LsmError::Io(source)) => {
            missing_or_io(doing, source)
        }
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => EngineError::corrupt(format!("{doing} found {error:?}")),
        error => EngineError::io(doing, error),
    }
}

/// Files that vanish or end early are damage; we hold the lock and nobody else removes them.
fn missing_or_io(doing: &'static str, error: std::io::Error) -> EngineError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::UnexpectedEof
        | ErrorKind::InvalidData
        | ErrorKind::AlreadyExists => EngineError::corrupt(format!("{doing} failed: {error}")),
        _ => EngineError::io(doing, error),
    }
}
