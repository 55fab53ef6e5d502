//! The engine trait on SQLite.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, PageBuilder,
    Plan, ScanLimit, Snapshot, Space, StoreHandle, Watch,
};
use eidetica_storage_dir::{DamagedRows, DataDir, seal};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, TransactionBehavior, ffi};

use crate::SqliteOptions;
use crate::sql::{APPLICATION_ID, CREATE_MARK, MARK, STATEMENTS, Sql, TOUCH};

const NAME: &str = "sqlite";
/// Of the directory and the tables; SQLite has a format of its own.
const FORMAT: u32 = 1;
/// The file in the data directory; its log and index lie beside it.
const FILE: &str = "rows.sqlite";
/// How long a connection waits for another one of ours, which does not happen but while recovering.
const PATIENCE: Duration = Duration::from_secs(30);
/// The log is cut to this length when it starts anew.
const LOG_BYTES: i64 = 64 << 20;

/// An engine that keeps its rows in one file, by SQLite.
///
/// One batch is one transaction. A durable one syncs the log of SQLite, a relaxed one only appends to it; the
/// log is checksummed from its beginning, so that a crash loses a suffix. Dropping the engine without `close`
/// loses nothing that was acknowledged.
pub struct SqliteEngine {
    handle: StoreHandle<Store>,
    options: SqliteOptions,
}

/// Fields drop in order: the readers, the writer, which tidies up the log, then the lock.
struct Store {
    idle: Mutex<Vec<Connection>>,
    writer: Mutex<Writer>,
    file: PathBuf,
    options: SqliteOptions,
    dir: DataDir,
}

struct Writer {
    connection: Connection,
    /// What its transactions are at.
    level: Durability,
    /// Whether the log may hold what no sync has covered.
    unsynced: bool,
}

impl SqliteEngine {
    /// Opens the engine in a directory with the default options, creating it if there is none.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Foreign`], [`EngineError::NewerFormat`],
    /// [`EngineError::Corrupt`], [`EngineError::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(dir, SqliteOptions::default())
    }

    /// Opens the engine with options; see [`SqliteEngine::open`].
    ///
    /// # Errors
    /// Those of [`SqliteEngine::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, EngineError> {
        let mut dir = DataDir::claim(dir.as_ref(), NAME, FORMAT)?;
        let connection = dir.open(|path| open_writer(path, options))?;
        let store = Store {
            idle: Mutex::default(),
            writer: Mutex::new(Writer {
                connection,
                level: Durability::Durable,
                unsynced: true,
            }),
            file: dir.data().join(FILE),
            options,
            dir,
        };
        Ok(Self {
            handle: StoreHandle::new(store),
            options,
        })
    }

    fn view(&self, damaged: DamagedRows) -> Result<Box<dyn Snapshot>, EngineError> {
        let store = self.handle.store()?;
        let reader = store.reader()?;
        Ok(Box::new(SqliteSnapshot {
            damaged,
            reader: Mutex::new(Some(reader)),
            store,
        }))
    }
}

impl Engine for SqliteEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.view(DamagedRows::Refused)
    }

    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.view(DamagedRows::Marked)
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.handle.write(batch, |store, plan| {
            store.writer.lock().apply(plan, durability)
        })
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.handle.change(Store::sync)
    }

    /// Costs as much room again for as long as it takes, in a temporary file; without that room nothing has changed.
    fn compact(&self) -> Result<(), EngineError> {
        let mut refused = Ok(());
        self.handle.change(|store| {
            store.sync()?;
            refused = store.vacuum()?;
            Ok(())
        })?;
        refused?;
        self.handle.change(Store::empty_log)
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

impl std::fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteEngine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Opens the file in `dir`, or creates both where there is no `dir`.
fn open_writer(dir: &Path, options: SqliteOptions) -> Result<Connection, EngineError> {
    let opening = |error| EngineError::io("opening", error);
    let file = dir.join(FILE);
    let create = !dir.try_exists().map_err(opening)?;
    if create {
        fs::create_dir(dir).map_err(opening)?;
        let mut private = OpenOptions::new();
        private.write(true).create_new(true);
        // SQLite gives its log and index the modes of the file.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut private, 0o600);
        private.open(&file).map_err(opening)?;
    } else if !file.try_exists().map_err(opening)? {
        return Err(EngineError::corrupt("the file of rows is missing"));
    }
    let mut connection = connect(&file, false, options.cache_bytes / 2)?;
    if create {
        create_tables(&mut connection)?;
        // SQLite syncs the file, and not its name.
        #[cfg(unix)]
        fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(opening)?;
    }
    check_tables(&connection)?;
    let limit = options.log_pages;
    connection
        .wal_hook(Some(move |wal: &mut rusqlite::hooks::Wal, pages| {
            // A failed sync in here fails the write, whereas SQLite's own hook would swallow it.
            match u32::try_from(pages).is_ok_and(|pages| pages >= limit) {
                true => wal.checkpoint().or_else(unless_busy),
                false => Ok(()),
            }
        }))
        .map_err(|error| failure("opening", error))?;
    Ok(connection)
}

/// Readers may be in the way of moving pages; the next write tries again.
fn unless_busy(error: Error) -> Result<(), Error> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Ok(()),
        _ => Err(error),
    }
}

fn connect(file: &Path, read_only: bool, cache_bytes: usize) -> Result<Connection, EngineError> {
    let connect = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(PATIENCE)?;
        let cache_kib = (cache_bytes / 1024).max(64);
        connection.execute_batch(&format!(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; \
             PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; PRAGMA synchronous = FULL; \
             PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {LOG_BYTES}; \
             PRAGMA cache_size = -{cache_kib}; PRAGMA query_only = {read_only};"
        ))?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        Ok((connection, mode))
    };
    let (connection, mode) = connect().map_err(|error| failure("opening", error))?;
    match mode.as_str() {
        "wal" => Ok(connection),
        _ => Err(EngineError::io(
            "opening",
            std::io::Error::other("the file system has no shared memory for the log"),
        )),
    }
}

fn create_tables(connection: &mut Connection) -> Result<(), EngineError> {
    let create = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.execute_batch(CREATE_MARK)?;
        for space in Space::ALL {
            transaction.execute_batch(&Sql::for_space(space).create)?;
        }
        transaction.commit()
    };
    create(connection).map_err(|error| failure("creating", error))
}

/// The label says that the tables are there, so anything else is damage.
fn check_tables(connection: &Connection) -> Result<(), EngineError> {
    let check = || {
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let mut sound = id == APPLICATION_ID;
        for space in Space::ALL {
            let query = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 AND sql = ?2";
            let wanted = (space.name(), &Sql::for_space(space).create);
            sound &= connection.query_row(query, wanted, |row| row.get::<_, i64>(0))? == 1;
        }
        Ok(sound)
    };
    match check().map_err(|error| failure("opening", error))? {
        true => Ok(()),
        false => Err(EngineError::corrupt(
            "the file of rows has not the tables it should have",
        )),
    }
}

impl Store {
    /// A durable write of nothing, which takes with it what was written before.
    fn sync(&self) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        writer.apply(&Plan::default(), Durability::Durable)
    }

    /// Writes all rows anew, without the pages that are free, or says inside why there is no room for that.
    fn vacuum(&self) -> Result<Result<(), EngineError>, EngineError> {
        let writer = self.writer.lock();
        let run = |sql| writer.connection.execute_batch(sql);
        // A copy of everything is no temporary thing for memory.
        let vacuumed = run("PRAGMA temp_store = FILE; VACUUM");
        run("PRAGMA temp_store = MEMORY").map_err(|error| failure("compacting", error))?;
        let Err(error) = vacuumed else {
            return Ok(Ok(()));
        };
        let is_room = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::DatabaseBusy)
        );
        let error = failure("compacting", error);
        if is_room { Ok(Err(error)) } else { Err(error) }
    }

    /// Moves the log into the file.
    fn empty_log(&self) -> Result<(), EngineError> {
        let writer = self.writer.lock();
        writer
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
            .map_err(|error| failure("compacting", error))
    }

    /// A connection whose transaction shows the rows as they are now.
    fn reader(&self) -> Result<Connection, EngineError> {
        let idle = self.idle.lock().pop();
        let readers = self.options.idle_readers.max(1);
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.file, true, self.options.cache_bytes / 2 / readers)?,
        };
        let begin = || {
            connection.prepare_cached("BEGIN")?.execute([])?;
            // Nothing is fixed before the first read.
            let mut touch = connection.prepare_cached(TOUCH)?;
            touch.query_row([], |row| row.get::<_, i64>(0))
        };
        begin().map_err(|error| failure("reading", error))?;
        Ok(connection)
    }

    fn take_back(&self, connection: Connection) {
        let ended = connection
            .prepare_cached("ROLLBACK")
            .and_then(|mut rollback| rollback.execute([]));
        let mut idle = self.idle.lock();
        // One that cannot end its transaction is no use any more.
        if ended.is_ok() && idle.len() < self.options.idle_readers {
            idle.push(connection);
        }
    }
}

impl Writer {
    fn apply(&mut self, plan: &Plan<'_>, durability: Durability) -> Result<(), EngineError> {
        let durable = durability == Durability::Durable;
        let written = (|| {
            if self.level != durability {
                let level = if durable { "FULL" } else { "NORMAL" };
                self.connection.pragma_update(None, "synchronous", level)?;
                self.level = durability;
            }
            let behavior = TransactionBehavior::Immediate;
            let transaction = self.connection.transaction_with_behavior(behavior)?;
            if let Err(refused) = check(&transaction, plan)? {
                transaction.rollback()?;
                return Ok(Err(refused));
            }
            write_rows(&transaction, plan)?;
            // A transaction that changes nothing would not sync what came before it.
            if durable && self.unsynced {
                transaction.prepare_cached(MARK)?.execute([])?;
            }
            transaction.commit()?;
            self.unsynced = !durable;
            Ok(Ok(()))
        })();
        written.map_err(|error| failure("writing", error))?
    }
}

/// The expectations: refused inside; what SQLite could not do outside.
fn check(connection: &Connection, plan: &Plan<'_>) -> rusqlite::Result<Result<(), EngineError>> {
    for expect in &plan.expects {
        let stored = get_one(connection, expect.space, expect.key, DamagedRows::Marked)?;
        let met = stored.and_then(|stored| expect.check(stored.as_deref()));
        if met.is_err() {
            return Ok(met);
        }
    }
    Ok(Ok(()))
}

fn write_rows(connection: &Connection, plan: &Plan<'_>) -> rusqlite::Result<()> {
    for range in &plan.ranges {
        let sql = Sql::for_space(range.space);
        match range.end {
            Some(end) => connection
                .prepare_cached(&sql.clear_below)?
                .execute((range.start, end))?,
            None => connection
                .prepare_cached(&sql.clear_rest)?
                .execute((range.start,))?,
        };
    }
    for writes in plan.writes.chunk_by(|a, b| a.space == b.space) {
        let Some(first) = writes.first() else {
            continue;
        };
        let sql = Sql::for_space(first.space);
        let mut put = connection.prepare_cached(&sql.put)?;
        let mut delete = connection.prepare_cached(&sql.delete)?;
        for write in writes {
            match write.value {
                Some(value) => put.execute((write.key, seal_of(write.key, value), value))?,
                None => delete.execute((write.key,))?,
            };
        }
    }
    Ok(())
}

fn seal_of(key: &[u8], value: &[u8]) -> i64 {
    i64::from_le_bytes(seal(key, value))
}

/// The value of a stored row, copied, if it is as it was written.
fn unseal(key: &[u8], seal: ValueRef<'_>, value: ValueRef<'_>) -> Option<Bytes> {
    match (seal, value) {
        (ValueRef::Integer(seal), ValueRef::Blob(value)) if seal == seal_of(key, value) => {
            Some(Bytes::copy_from_slice(value))
        }
        _ => None,
    }
}

type Stored = Result<Option<Bytes>, EngineError>;

fn get_one(
    connection: &Connection,
    space: Space,
    key: &[u8],
    damaged: DamagedRows,
) -> rusqlite::Result<Stored> {
    let mut get = connection.prepare_cached(&Sql::for_space(space).get)?;
    let mut rows = get.query((key,))?;
    let Some(row) = rows.next()? else {
        return Ok(Ok(None));
    };
    let value = unseal(key, row.get_ref(0)?, row.get_ref(1)?);
    Ok(damaged.value(value).map(Some))
}

struct SqliteSnapshot {
    damaged: DamagedRows,
    /// In a read transaction. Taken by the drop.
    reader: Mutex<Option<Connection>>,
    store: Arc<Store>,
}

impl SqliteSnapshot {
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let reader = self.reader.lock();
        let reader = reader.as_ref().ok_or(EngineError::Closed)?;
        read(reader).map_err(|error| failure("reading", error))?
    }
}

impl Drop for SqliteSnapshot {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut().take() {
            self.store.take_back(reader);
        }
    }
}

impl Snapshot for SqliteSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.read(|reader| {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                match get_one(reader, space, key, self.damaged)? {
                    Ok(value) => values.push(value),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(values))
        })
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.read(|reader| get_one(reader, space, key, self.damaged))
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
        self.read(|reader| {
            let sql = Sql::for_space(space).scan(direction, range.end.is_some());
            let mut scan = reader.prepare_cached(sql)?;
            let rows = match &range.end {
                Some(end) => scan.query((&range.start, end))?,
                None => scan.query((&range.start,))?,
            };
            page(rows, limit, self.damaged)
        })
    }
}

fn page(
    mut rows: rusqlite::Rows<'_>,
    limit: ScanLimit,
    damaged: DamagedRows,
) -> rusqlite::Result<Result<Page, EngineError>> {
    let mut page = PageBuilder::new(limit);
    while let Some(row) = rows.next()? {
        if page.is_full() {
            return Ok(Ok(page.finish(true)));
        }
        let ValueRef::Blob(key) = row.get_ref(0)? else {
            return Ok(Err(EngineError::corrupt("a key is not bytes")));
        };
        match damaged.value(unseal(key, row.get_ref(1)?, row.get_ref(2)?)) {
            Ok(value) => page.push(Bytes::copy_from_slice(key), value),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(page.finish(false)))
}

/// What a SQLite error means to the caller of an engine.
fn failure(doing: &'static str, error: Error) -> EngineError {
    let Error::SqliteFailure(cause, _) = &error else {
        return EngineError::io(doing, error);
    };
    let damaged = match cause.code {
        // The last one is what a statement that we know to be right meets in a damaged schema.
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => true,
        // We hold the lock and nobody else changes the file: what ends early is damage.
        _ => matches!(
            cause.extended_code,
            ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
        ),
    };
    if damaged {
        EngineError::corrupt(format!("{doing} found: {error}"))
    } else {
        EngineError::io(doing, error)
    }
}
