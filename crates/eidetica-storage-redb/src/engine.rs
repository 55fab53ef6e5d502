//! The engine trait on redb.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, PageBuilder,
    Plan, Range, ScanLimit, Snapshot, Space, StoreHandle, Watch,
};
use eidetica_storage_dir::{DamagedRows, DataDir, SEAL_BYTES, seal as seal_of, shield};
use redb::backends::FileBackend;
use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, StorageError, Table, TableDefinition, WriteTransaction,
};

use crate::RedbOptions;

const NAME: &str = "redb";
/// Of the directory, the tables and the row seals; redb has a format version of its own.
const FORMAT: u32 = 1;

type Stored = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// An engine that keeps its rows in one file, by redb.
///
/// One batch is one redb transaction; redb lets one writer in at a time and shows a transaction only
/// when it is committed. Dropping the engine without `close` loses nothing that was acknowledged.
pub struct RedbEngine {
    handle: StoreHandle<Store>,
    options: RedbOptions,
}

/// Fields drop in order: the database, then the lock.
struct Store {
    database: Database,
    dir: DataDir,
    quick_repair: bool,
}

impl RedbEngine {
    /// Opens the engine in a directory with the default options, creating it if there is none.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Foreign`], [`EngineError::NewerFormat`],
    /// [`EngineError::Corrupt`], [`EngineError::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(dir, RedbOptions::default())
    }

    /// Opens the engine with options; see [`RedbEngine::open`].
    ///
    /// # Errors
    /// Those of [`RedbEngine::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: RedbOptions) -> Result<Self, EngineError> {
        let mut dir = DataDir::claim(dir.as_ref(), NAME, FORMAT)?;
        let database = dir.open(|path| shield(|| open_database(path, options)))?;
        let store = Store {
            database,
            dir,
            quick_repair: options.quick_repair,
        };
        Ok(Self {
            handle: StoreHandle::new(store),
            options,
        })
    }
}

fn open_database(path: &Path, options: RedbOptions) -> Result<Database, EngineError> {
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let file = open
        .open(path)
        .map_err(|error| EngineError::io("opening", error))?;
    let backend = FileBackend::new(file).map_err(|error| failure("opening", error.into()))?;
    let database = Database::builder()
        .set_cache_size(options.cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| failure("opening", error.into()))?;
    let transaction = database
        .begin_write()
        .map_err(|error| failure("opening", error.into()))?;
    for space in Space::ALL {
        transaction
            .open_table(table(space))
            .map_err(|error| failure("opening", error.into()))?;
    }
    transaction
        .commit()
        .map_err(|error| failure("opening", error.into()))?;
    Ok(database)
}

impl RedbEngine {
    fn view(&self, damaged: DamagedRows) -> Result<Box<dyn Snapshot>, EngineError> {
        let store = self.handle.store()?;
        let view = shield(|| {
            store
                .database
                .begin_read()
                .map_err(|error| failure("reading", error.into()))
        })?;
        Ok(Box::new(RedbSnapshot {
            damaged,
            tables: Default::default(),
            view,
            _store: store,
        }))
    }
}

impl Engine for RedbEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.view(DamagedRows::Refused)
    }

    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.view(DamagedRows::Marked)
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.handle.write(batch, |store, plan| {
            shield(|| store.apply(plan, durability))
        })
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.handle.change(Store::sync)
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.handle.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.handle.close(|store| store.sync())
    }

    fn info(&self) -> EngineInfo {
        let mut info = EngineInfo::new(NAME);
        info.persistent = true;
        info.cache_bytes = Some(self.options.cache_bytes as u64);
        info.disk_bytes = self.handle.look(|store| store.dir.disk_bytes());
        info
    }
}

impl std::fmt::Debug for RedbEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbEngine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A durable write of nothing, which takes with it what was written before.
    fn sync(&self) -> Result<(), EngineError> {
        shield(|| self.apply(&Plan::default(), Durability::Durable))
    }

    fn apply(&self, plan: &Plan<'_>, durability: Durability) -> Result<(), EngineError> {
        let mut transaction = self
            .database
            .begin_write()
            .map_err(|error| failure("writing", error.into()))?;
        let (level, quick_repair) = match durability {
            Durability::Durable => (redb::Durability::Immediate, self.quick_repair),
            Durability::Relaxed => (redb::Durability::None, false),
        };
        transaction
            .set_durability(level)
            .map_err(|error| failure("writing", error.into()))?;
        transaction.set_quick_repair(quick_repair);
        // What fails from here on drops the transaction, which takes it back.
        for expect in &plan.expects {
            let table = open_table(&transaction, expect.space)?;
            let stored = table
                .get(expect.key)
                .map_err(|error| failure("reading", error.into()))?;
            let value = stored.map(|stored| DamagedRows::Marked.value(unseal(expect.key, &stored)));
            expect.check(value.transpose()?.as_deref())?;
        }
        for range in &plan.ranges {
            clear(&mut open_table(&transaction, range.space)?, range)?;
        }
        for writes in plan.writes.chunk_by(|a, b| a.space == b.space) {
            let Some(first) = writes.first() else {
                continue;
            };
            let mut table = open_table(&transaction, first.space)?;
            for write in writes {
                write_row(&mut table, write.key, write.value)
                    .map_err(|error| failure("writing", error.into()))?;
            }
        }
        transaction
            .commit()
            .map_err(|error| failure("writing", error.into()))
    }
}

fn table(space: Space) -> Stored {
    TableDefinition::new(space.name())
}

fn open_table(transaction: &WriteTransaction, space: Space) -> Result<WriteTable<'_>, EngineError> {
    transaction
        .open_table(table(space))
        .map_err(|error| failure("writing", error.into()))
}

fn clear(table: &mut WriteTable<'_>, range: &Range<'_>) -> Result<(), EngineError> {
    table
        .retain_in::<&[u8], _>(bounds(range.start, range.end), |_, _| false)
        .map_err(|error| failure("writing", error.into()))
}

fn write_row(
    table: &mut WriteTable<'_>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), StorageError> {
    let Some(value) = value else {
        return table.remove(key).map(drop);
    };
    let mut room = table.insert_reserve(key, SEAL_BYTES + value.len())?;
    let (seal, rest) = room.as_mut().split_at_mut(SEAL_BYTES);
    seal.copy_from_slice(&seal_of(key, value));
    rest.copy_from_slice(value);
    Ok(())
}

/// The value of a stored row, copied out of its page; `None` if it is damaged.
fn unseal(key: &[u8], stored: &AccessGuard<'_, &'static [u8]>) -> Option<Bytes> {
    let (seal, value) = stored.value().split_at_checked(SEAL_BYTES)?;
    (seal == seal_of(key, value)).then(|| Bytes::copy_from_slice(value))
}

struct RedbSnapshot {
    damaged: DamagedRows,
    /// Opened when first used.
    tables: [OnceLock<ReadTable>; Space::ALL.len()],
    view: ReadTransaction,
    /// Keeps the file and its lock.
    _store: Arc<Store>,
}

impl RedbSnapshot {
    #[expect(
        clippy::indexing_slicing,
        reason = "there is one table for every space"
    )]
    fn table(&self, space: Space) -> Result<&ReadTable, EngineError> {
        let slot = &self.tables[space.index()];
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let table = self
            .view
            .open_table(table(space))
            .map_err(|error| failure("reading", error.into()))?;
        Ok(slot.get_or_init(|| table))
    }
}

fn get_one(
    table: &ReadTable,
    key: &[u8],
    damaged: DamagedRows,
) -> Result<Option<Bytes>, EngineError> {
    let stored = table
        .get(key)
        .map_err(|error| failure("reading", error.into()))?;
    stored
        .map(|stored| damaged.value(unseal(key, &stored)))
        .transpose()
}

impl Snapshot for RedbSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        shield(|| {
            let table = self.table(space)?;
            keys.iter()
                .map(|key| get_one(table, key, self.damaged))
                .collect()
        })
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        shield(|| get_one(self.table(space)?, key, self.damaged))
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
            let rows = self.table(space)?.range::<&[u8]>(bounds);
            let rows = rows.map_err(|error| failure("reading", error.into()))?;
            match direction {
                Direction::Forward => page(rows, limit, self.damaged),
                Direction::Reverse => page(rows.rev(), limit, self.damaged),
            }
        })
    }
}

type StoredRow<'a> = (
    AccessGuard<'a, &'static [u8]>,
    AccessGuard<'a, &'static [u8]>,
);

fn page<'a>(
    rows: impl Iterator<Item = Result<StoredRow<'a>, StorageError>>,
    limit: ScanLimit,
    damaged: DamagedRows,
) -> Result<Page, EngineError> {
    let mut page = PageBuilder::new(limit);
    for row in rows {
        if page.is_full() {
            return Ok(page.finish(true));
        }
        let (key, stored) = row.map_err(|error| failure("reading", error.into()))?;
        let value = damaged.value(unseal(key.value(), &stored))?;
        page.push(Bytes::copy_from_slice(key.value()), value);
    }
    Ok(page.finish(false))
}

fn bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        Bound::Included(start),
        end.map_or(Bound::Unbounded, Bound::Excluded),
    )
}

/// What a redb error means to the caller of an engine.
fn failure(doing: &'static str, error: redb::Error) -> EngineError {
    use redb::Error;
    use std::io::ErrorKind;
    match error {
        // We hold the lock and nobody else changes the file: what ends early is damage.
        Error::Io(source)
            if matches!(
                source.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData
            ) =>
        {
            EngineError::corrupt(format!("{doing} failed: {source}"))
        }
        Error::Io(source) => EngineError::io(doing, source),
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TableDoesNotExist(_)
        | Error::TypeDefinitionChanged { .. } => {
            EngineError::corrupt(format!("{doing} found: {error}"))
        }
        error => EngineError::io(doing, error),
    }
}
