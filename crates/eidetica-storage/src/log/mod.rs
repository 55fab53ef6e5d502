//! The entry log: the entries of all databases of an instance, as rows of one [`Engine`].
//!
//! Everything above the engine trait that knows about entries is here, once for all engines:
//!
//! - [`EntryLog`] lists, opens and creates databases.
//! - [`LogWriter`] turns new entries into rows of a [`Batch`]. Each database has one
//!   writer at a time in a process; every batch has the database's version row as its one
//!   precondition, so that a writer elsewhere is noticed and nothing is ever applied twice or between.
//! - [`LogReader`] reads one database through one snapshot.
//! - [`Mark`]s say which entries are void, and what follows from that. Whoever stages decides which they are;
//!   the log keeps them exact, and costs nothing where there are none.
//! - Payloads may be missing ([`StoreHoles`]): the log knows exactly which, and takes them in later.
//! - [`Named`] and [`Taken`] keep what settings name from being taken away at the same time.
//! - [`StampSet`] is what replicas compare: summaries of the entries that are passed on, kept for old ones.
//!
//! Entries have *arrival numbers*: 0 for the root, then without gaps in the order of commits. A parent
//! always arrives before its children. Single commits stand in rows of their own (the *open block*) until
//! a writer seals them into a pack; received packs are stored as they came. Rows refer to entries by
//! arrival number, which sealing does not change.
//!
//! The rows are described byte by byte in `docs/formats/log.md`. The log judges nothing: whoever stages
//! an entry has verified it.

mod cache;
mod error;
pub mod forget;
pub mod format;
mod holes;
mod marks;
mod names;
mod packs;
mod quota;
mod reader;
pub mod repair;
mod rows;
mod stamps;
mod state;
mod writer;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::{Entry, Id};

pub use cache::CacheSize;
pub use error::LogError;
pub use holes::{StoreHoles, add_missing};
pub use marks::{Mark, Marks};
pub use names::{Named, Taken};
pub use packs::{Difference, PackPage};
pub use quota::Quota;
pub use reader::{Located, LogReader, SettingsDag};
pub use stamps::{NewSummaries, StampSet};
pub use state::LogState;
pub use writer::{LogWriter, Stage, Unsigned};

use crate::{Batch, Direction, Engine, Snapshot, Space};
use cache::PackCache;
use rows::Directory;

/// The short number of a database in this instance. It prefixes all keys of the database and is never
/// used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DbNo(pub u32);

impl DbNo {
    /// The key prefix: big-endian, so that databases lie one after the other.
    #[must_use]
    pub const fn prefix(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for DbNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The logs of all databases of an instance. Cheap to clone.
#[derive(Clone)]
pub struct EntryLog {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    cache: PackCache,
}

impl EntryLog {
    /// Opens the log, or makes an empty one in an engine that has none. Rows of an older format are brought to the
    /// present one first; see [`mod@format`].
    ///
    /// # Errors
    /// Those of [`format::check_with`].
    pub fn open(engine: Arc<dyn Engine>, cache: CacheSize) -> Result<Self, LogError> {
        format::check(&*engine)?;
        let cache = PackCache::new(cache);
        Ok(Self {
            shared: Arc::new(Shared { engine, cache }),
        })
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// All databases, in the order of their ids. Costs one row each.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn databases(&self) -> Result<Vec<DatabaseLog>, LogError> {
        self.list(Directory::Databases)
    }

    /// All closures, in the order of their ids: what is kept of databases for their authority alone, because
    /// others delegate to them. Headers, signatures and settings; no other payloads. A database and its closure may
    /// both be here, each by itself. Costs one row each.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn closures(&self) -> Result<Vec<DatabaseLog>, LogError> {
        self.list(Directory::Closures)
    }

    fn list(&self, directory: Directory) -> Result<Vec<DatabaseLog>, LogError> {
        let snapshot = self.shared.engine.snapshot()?;
        let mut found = Vec::new();
        let _: std::ops::ControlFlow<()> =
            snapshot.for_each(Space::Meta, &directory.range(), Direction::Forward, |row| {
                let (id, no) = rows::decode_directory(directory, &row.key, &row.value)?;
                found.push(self.handle(directory, id, no));
                Ok::<_, LogError>(std::ops::ControlFlow::Continue(()))
            })?;
        Ok(found)
    }

    /// One database, if it is here.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn database(&self, id: &Id) -> Result<Option<DatabaseLog>, LogError> {
        let snapshot = self.shared.engine.snapshot()?;
        self.database_in(&*snapshot, id)
    }

    /// One database, if it is in `snapshot`.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn database_in(
        &self,
        snapshot: &dyn Snapshot,
        id: &Id,
    ) -> Result<Option<DatabaseLog>, LogError> {
        self.find_in(Directory::Databases, snapshot, id)
    }

    /// The closure of a database, if it is here; see [`closures`](Self::closures).
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn closure(&self, id: &Id) -> Result<Option<DatabaseLog>, LogError> {
        let snapshot = self.shared.engine.snapshot()?;
        self.find_in(Directory::Closures, &*snapshot, id)
    }

    /// The states of several databases, in their order; `None` where there is none that could be read: the reader of that
    /// database says why. One lookup for all.
    ///
    /// # Errors
    /// The engine's errors.
    pub fn states(
        &self,
        snapshot: &dyn Snapshot,
        databases: &[&DatabaseLog],
    ) -> Result<Vec<Option<LogState>>, LogError> {
        let numbers: Vec<DbNo> = databases.iter().map(|log| log.no).collect();
        rows::read_states(&numbers, snapshot)
    }

    /// The same database or closure, for whoever wants a cache of its own; `None` if it was taken away.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn same(&self, log: &DatabaseLog) -> Result<Option<DatabaseLog>, LogError> {
        let found = match log.is_closure {
            true => self.closure(&log.id)?,
            false => self.database(&log.id)?,
        };
        Ok(found.filter(|found| found.no == log.no))
    }

    fn find_in(
        &self,
        directory: Directory,
        snapshot: &dyn Snapshot,
        id: &Id,
    ) -> Result<Option<DatabaseLog>, LogError> {
        let key = directory.key(id);
        let Some(value) = snapshot.get(Space::Meta, &key)? else {
            return Ok(None);
        };
        let (id, no) = rows::decode_directory(directory, &key, &value)?;
        Ok(Some(self.handle(directory, id, no)))
    }

    /// The keys of small rows ([`Space::Meta`]) of the log, of whatever database, that do not have their
    /// checksum, key included. What is in the other spaces is checked by reading it. O(packs).
    ///
    /// # Errors
    /// The engine's errors.
    pub fn damaged_rows(&self, snapshot: &dyn Snapshot) -> Result<Vec<Bytes>, LogError> {
        let mut damaged = Vec::new();
        let range = rows::meta_range();
        let _: std::ops::ControlFlow<()> =
            snapshot.for_each(Space::Meta, &range, Direction::Forward, |row| {
                if !rows::is_undamaged(&row.key, &row.value) {
                    damaged.push(row.key);
                }
                Ok::<_, LogError>(std::ops::ControlFlow::Continue(()))
            })?;
        Ok(damaged)
    }

    /// Stages a new database: its number and its root entry at arrival 0. Nothing exists before `batch`
    /// is written; then the writer goes on from there. Stage further rows of the first batch through
    /// `rest`, which gets the stage of the root.
    ///
    /// Two creations at once take the same number; one of their batches is then refused
    /// ([`EngineError::PreconditionFailed`](crate::EngineError::PreconditionFailed)) and must be staged
    /// again.
    ///
    /// # Errors
    /// [`LogError::Exists`], [`LogError::NotRoot`], the engine's errors.
    pub fn create<E: From<LogError>>(
        &self,
        root: &Entry,
        batch: &mut Batch,
        rest: impl FnOnce(&DatabaseLog, &mut Stage<'_>, &mut Batch) -> Result<(), E>,
    ) -> Result<(DatabaseLog, LogWriter), E> {
        self.create_in(Directory::Databases, root, batch, rest)
    }

    /// Like [`create`](Self::create), a closure.
    ///
    /// # Errors
    /// [`LogError::Exists`], [`LogError::NotRoot`], the engine's errors.
    pub fn create_closure<E: From<LogError>>(
        &self,
        root: &Entry,
        batch: &mut Batch,
        rest: impl FnOnce(&DatabaseLog, &mut Stage<'_>, &mut Batch) -> Result<(), E>,
    ) -> Result<(DatabaseLog, LogWriter), E> {
        self.create_in(Directory::Closures, root, batch, rest)
    }

    /// Stages the removal of a closure, unless anything was named since `named` was read: all of its rows in the spaces
    /// of the log and of state. Whoever has one of its writers finds it gone; its number is not given again.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn remove_closure(
        &self,
        closure: &DatabaseLog,
        named: &Named,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let snapshot = self.shared.engine.snapshot()?;
        let (_, version) = rows::read_state(closure, &*snapshot)?;
        names::stage_taken(named, closure.no, batch);
        rows::stage_removal(&closure.id, closure.no, &version, batch);
        Ok(())
    }

    fn create_in<E: From<LogError>>(
        &self,
        directory: Directory,
        root: &Entry,
        batch: &mut Batch,
        rest: impl FnOnce(&DatabaseLog, &mut Stage<'_>, &mut Batch) -> Result<(), E>,
    ) -> Result<(DatabaseLog, LogWriter), E> {
        if !root.header().is_root() {
            return Err(LogError::NotRoot(root.id()).into());
        }
        let no = rows::stage_number(&*self.shared.engine, directory, &root.id(), batch)?;
        let log = self.handle(directory, root.id(), no);
        let mut writer = LogWriter::of_new(log.clone());
        let mut stage = writer.stage();
        stage.add(root, batch)?;
        rest(&log, &mut stage, batch)?;
        stage.finish(batch)?;
        Ok((log, writer))
    }

    fn handle(&self, directory: Directory, id: Id, no: DbNo) -> DatabaseLog {
        DatabaseLog {
            shared: Arc::clone(&self.shared),
            id,
            no,
            is_closure: directory == Directory::Closures,
        }
    }
}

/// The log of one database. Cheap to clone; holds no state of its own.
#[derive(Clone)]
pub struct DatabaseLog {
    shared: Arc<Shared>,
    id: Id,
    no: DbNo,
    /// What it lacks of data is not looked for: there is to be none.
    is_closure: bool,
}

impl DatabaseLog {
    /// The id: that of the root entry.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// Stages a batch that changes nothing but the version: what others have staged is refused after it, and whoever
    /// wants to write begins anew, this process too.
    ///
    /// # Errors
    /// The engine's errors, a damaged version row.
    pub fn stage_nothing(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let (mut state, row) = rows::read_state(self, snapshot)?;
        state.version += 1;
        let key = rows::version_key(self.no);
        batch.expect(Space::Meta, &key, Some(&row));
        batch.put(Space::Meta, &key, &rows::encode_state(self.no, &state));
        Ok(())
    }

    /// Whether it is a closure; see [`EntryLog::closures`].
    #[must_use]
    pub fn is_closure(&self) -> bool {
        self.is_closure
    }

    /// The number that prefixes this database's keys.
    #[must_use]
    pub fn no(&self) -> DbNo {
        self.no
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// Reads through `snapshot`, which must be of the same engine.
    pub fn reader<'a>(&'a self, snapshot: &'a dyn Snapshot) -> LogReader<'a> {
        LogReader::new(self, snapshot)
    }

    /// A writer that goes on from what is stored. A process keeps one per database, behind a lock, and
    /// makes a new one after a batch of the old one was not written.
    ///
    /// Costs reading the open block: at most a few hundred rows.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn writer(&self) -> Result<LogWriter, LogError> {
        let snapshot = self.shared.engine.snapshot()?;
        LogWriter::load(self.clone(), &*snapshot)
    }
}

impl fmt::Debug for EntryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryLog").finish_non_exhaustive()
    }
}

impl fmt::Debug for DatabaseLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseLog")
            .field("id", &self.id)
            .field("no", &self.no)
            .finish_non_exhaustive()
    }
}
