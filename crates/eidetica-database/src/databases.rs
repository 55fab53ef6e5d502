//! [`Databases`]: all databases of one instance.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use eidetica_auth::{AuthState, Below, Lookup, Right, SecretKey, SettingsPayload, Verdict, judge};
use eidetica_crdt::{Doc, Edit, Locator, StoreKind, Value, lower};
use eidetica_entry::dag::Budget;
use eidetica_entry::{Draft, Entry, Height, Id, PublicKey, Stamp, StoreName};
use eidetica_storage::commit::GroupCommit;
use eidetica_storage::log::{
    CacheSize, DatabaseLog, Difference, EntryLog, LogReader, Mark, Marks, PackPage as LogPage,
    Stage, Taken,
};
use eidetica_storage::{Batch, Durability, Engine};
use parking_lot::Mutex;

use crate::closure::{Kind, has_closures};
use crate::core::Core;
use crate::damage::WithDamage;
use crate::edits::NoRows;
use crate::elsewhere::Others;
use crate::entropy::Entropy;
use crate::error::{Error, Reject, Result};
use crate::events::{CallbackError, CallbackId, Callbacks, Origin, WriteEvent};
use crate::holds::Holds;
use crate::ingest::{IngestReport, IngestRequest, Wave, waves};
use crate::local::Local;
use crate::open::Open;
use crate::shared::{CREATION, Shared};
use crate::{Database, LocalDatabase, limits, local};

/// How an instance keeps its databases.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// 32 unpredictable bytes, fresh for every opening: what batch verification, list positions and
    /// root entries draw their randomness from.
    pub seed: [u8; 32],
    /// When a commit returns.
    pub durability: Durability,
    /// Bytes of decoded packs to keep in memory.
    pub cache_bytes: u64,
}

impl Config {
    /// Durable commits and the default cache, with this seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            durability: Durability::default(),
            cache_bytes: CacheSize::default().0,
        }
    }
}

/// All databases of one instance, over one engine. A cheap handle.
#[derive(Clone)]
pub struct Databases(Arc<Shared>);

/// A database as it is shown to somebody who may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its id.
    pub id: Id,
    /// Its name; empty if it has none.
    pub name: String,
    /// How many entries it has.
    pub entries: u64,
}

/// An entry's place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSummary {
    /// Height and id.
    pub stamp: Stamp,
    /// Its parents, ascending.
    pub parents: Vec<Id>,
}

/// Where a [`Databases::difference`] goes on. It holds the walked difference, so keep it no longer than
/// the transfer.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// What is still to be sent, the next part last.
    parts: Vec<Part>,
    next: u64,
    tips: Vec<Stamp>,
    /// Of which stores payloads are sent along.
    holds: Arc<Holds>,
}

impl Cursor {
    /// At the first of these parts of other databases, before the entries of the database itself.
    pub(crate) fn new(
        database: Id,
        difference: Difference,
        before: Vec<Part>,
        tips: Vec<Stamp>,
        holds: &Holds,
    ) -> Self {
        let own = Part {
            database,
            kind: Kind::Database,
            difference,
        };
        let parts = std::iter::once(own).chain(before.into_iter().rev());
        Self {
            parts: parts.collect(),
            next: 0,
            tips,
            holds: Arc::new(holds.clone()),
        }
    }
}

/// Entries of one database.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) database: Id,
    pub(crate) kind: Kind,
    pub(crate) difference: Difference,
}

/// Some packs of a difference.
#[derive(Clone, Debug)]
pub struct PackPage {
    /// Packs to be read in this order.
    pub packs: Vec<Bytes>,
    /// Where to go on; `None` if these are the last.
    pub next: Option<Cursor>,
    /// The tips that whoever has taken in all pages has in full.
    pub done_tips: Vec<Stamp>,
}

/// What a new database begins with.
#[derive(Clone, Debug, Default)]
pub struct NewDatabase {
    /// Authority records: who may do what. The author needs an admin's right among them.
    pub records: Vec<eidetica_auth::AuthRecord>,
    /// Settings beside them: the name under `name`, policies.
    pub settings: Doc,
    /// The author's claim of when, in milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl Databases {
    /// Opens what is in the engine.
    ///
    /// # Errors
    /// A newer format, damaged rows, the engine's.
    pub fn open(engine: Arc<dyn Engine>, config: Config) -> Result<Self> {
        let rows: Arc<dyn Engine> = Arc::new(WithDamage(Arc::clone(&engine)));
        let log = EntryLog::open(Arc::clone(&rows), CacheSize(config.cache_bytes))?;
        let mut broken = None;
        let shared = Arc::new_cyclic(|shared| Shared {
            others: Others::of(&*engine, shared.clone()).unwrap_or_else(|error| {
                broken = Some(error);
                None
            }),
            group: GroupCommit::new(Arc::clone(&rows)),
            engine,
            rows,
            log,
            durability: config.durability,
            entropy: Entropy::new(config.seed),
            open: Open::default(),
            creating: Mutex::new(()),
            closures: Mutex::new(HashMap::new()),
            names: Mutex::default(),
            uses: AtomicU64::new(0),
            local: Mutex::new(HashMap::new()),
            callbacks: Arc::new(Callbacks::default()),
            awaited: Mutex::new(HashMap::new()),
        });
        if let Some(error) = broken {
            return Err(error);
        }
        let databases = Self(shared);
        databases.sweep(limits::SWEEPS_AT_OPEN)?;
        Ok(databases)
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// The engine below.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.engine
    }

    /// Makes a new database, whose root entry `key` signs. The handle signs with it too.
    ///
    /// # Errors
    /// [`Error::Refused`] if the records give the author no admin's right, settings beyond a limit, the
    /// engine's.
    pub fn create(&self, new: NewDatabase, key: Arc<SecretKey>) -> Result<Database> {
        let settings = StoreName::settings();
        let doc = lower_settings(new.settings)?;
        let payload = SettingsPayload::new(new.records, doc)?.encode();
        let payloads = [(settings, payload)].into_iter().collect();
        let draft = Draft::root(
            self.0.entropy.seed(),
            payloads,
            key.public(),
            new.timestamp_ms,
        )?;
        let root = {
            let signature = key.sign(&draft.signing_message());
            draft.sign(signature)
        };
        let core = self.begin(&root)?;
        Ok(self.handle(core).with_key(key))
    }

    /// A database that is here.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn get(&self, id: &Id) -> Result<Database> {
        self.find(id)?.ok_or(Error::NoDatabase(*id))
    }

    /// A database, if it is here.
    ///
    /// # Errors
    /// The engine's.
    pub fn find(&self, id: &Id) -> Result<Option<Database>> {
        if let Some(core) = self.0.open.get(id) {
            return Ok(Some(self.handle(core)));
        }
        let Some(log) = self.0.log.database(id)? else {
            return Ok(None);
        };
        let mut fresh = false;
        let core = self.0.open.get_or_load(id, || {
            fresh = true;
            let core = Arc::new(Core::load(&self.0, log)?);
            if !self.0.has_others() {
                self.handle(Arc::clone(&core)).recover_imports()?;
            }
            Ok(core)
        })?;
        let database = self.handle(core);
        // Beside other processes it tells callbacks, which may want this database.
        if fresh && self.0.has_others() {
            database.recover_imports()?;
        }
        Ok(Some(database))
    }

    /// The ids of all databases, ascending.
    ///
    /// # Errors
    /// The engine's.
    pub fn list(&self) -> Result<Vec<Id>> {
        Ok(self
            .0
            .log
            .databases()?
            .iter()
            .map(DatabaseLog::id)
            .collect())
    }

    /// A local database, which begins empty: never offered to a peer.
    ///
    /// # Errors
    /// A name that is empty or too long, the engine's.
    pub fn local(&self, name: &str) -> Result<LocalDatabase> {
        let mut open = self.0.local.lock();
        let local = match open.get(name) {
            Some(local) => Arc::clone(local),
            None => {
                let local = Arc::new(Local::load(&self.0, name)?);
                open.insert(name.to_owned(), Arc::clone(&local));
                local
            }
        };
        drop(open);
        Ok(LocalDatabase::new(Arc::clone(&self.0), local))
    }

    /// The names of all local databases.
    ///
    /// # Errors
    /// The engine's.
    pub fn list_local(&self) -> Result<Vec<String>> {
        local::names(&*self.0.rows.snapshot()?)
    }

    /// Whether something committed `Relaxed` may still be lost in a crash. The owner of time calls
    /// [`flush`](Self::flush) within the delay that was promised.
    pub fn is_unflushed(&self) -> bool {
        self.0.group.is_unflushed()
    }

    /// Makes everything committed so far survive power loss.
    ///
    /// # Errors
    /// The engine's.
    pub fn flush(&self) -> Result<()> {
        Ok(self.0.group.flush()?)
    }

    /// Calls `call` for every durable entry of every database; see [`Database::on_local_write`].
    ///
    /// # Errors
    /// More than [`limits::CALLBACKS`].
    pub fn on_write(
        &self,
        call: impl Fn(&WriteEvent, &Database) -> Result<(), CallbackError> + Send + Sync + 'static,
    ) -> Result<CallbackId> {
        self.0.callbacks.register(None, call)
    }

    /// Like [`on_write`](Self::on_write) for entries of one origin.
    ///
    /// # Errors
    /// More than [`limits::CALLBACKS`].
    pub fn on_write_from(
        &self,
        origin: Origin,
        call: impl Fn(&WriteEvent, &Database) -> Result<(), CallbackError> + Send + Sync + 'static,
    ) -> Result<CallbackId> {
        self.0.callbacks.register(Some(origin), call)
    }

    /// Calls `call` with every database that has new durable entries, and with whether this instance has committed any of
    /// them: once for up to [`limits::CHANGE_ENTRIES`] that come together, void ones left out. It is called before the
    /// callbacks of the first of them.
    ///
    /// # Errors
    /// More than [`limits::CALLBACKS`].
    pub fn on_change(&self, call: impl Fn(&Id, bool) + Send + Sync + 'static) -> Result<()> {
        self.0.callbacks.register_for_changes(call)
    }

    /// Stops calling a callback of all databases; says whether there was one.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.0.callbacks.unregister(id)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(crate) fn log(&self) -> &EntryLog {
        &self.0.log
    }

    pub(crate) fn handle(&self, core: Arc<Core>) -> Database {
        Database::new(Arc::clone(&self.0), core)
    }

    pub(crate) fn judge_root(&self, root: &Entry) -> Result<()> {
        let payload = root.payload(&StoreName::settings()).map(AsRef::as_ref);
        let none = AuthState::default();
        let below = BelowRoot(self);
        match judge(root.header(), root.id(), payload, &none, &below)? {
            Verdict::Sound(_) => Ok(()),
            Verdict::Reject(reason) => Err(Error::Refused(Reject::Authority(reason))),
            _ => Err(Error::Refused(Reject::Settings)),
        }
    }

    /// Who may do what in a database at these entries of it, by the database or its closure; `None` while one of them
    /// is not here.
    pub(crate) fn authority_at(
        &self,
        database: &Id,
        tips: &[Id],
        nesting: usize,
    ) -> Result<Option<AuthState>> {
        for database in [self.find(database)?, self.closure(database)?] {
            let Some(database) = database else { continue };
            let state = database.core().authority_at(&self.0, tips, nesting)?;
            if state.is_some() {
                return Ok(state);
            }
        }
        Ok(None)
    }

    /// Judges and stores a root entry; the database is there afterwards.
    fn begin(&self, root: &Entry) -> Result<Arc<Core>> {
        self.0.racing(|| {
            let taken = self.0.taken_before(root)?;
            self.judge_root(root)?;
            self.0.open.get_or_load(&root.id(), || {
                let log = match self.0.log.database(&root.id())? {
                    Some(log) => log,
                    None => self.create_log(root, taken.as_ref())?,
                };
                Ok(Arc::new(Core::load(&self.0, log)?))
            })
        })
    }

    fn create_log(&self, root: &Entry, taken: Option<&Taken>) -> Result<DatabaseLog> {
        let _creating = self.0.creating.lock();
        let mut batch = Batch::new();
        // The root's state waits behind the watermark, as any entry's may.
        let (log, _) = self.0.log.create(root, &mut batch, names_of_root(taken))?;
        self.0.group.write(CREATION, batch, self.0.durability)?;
        Ok(log)
    }
}

/// The authority of other databases, for a root entry: nothing is below it.
struct BelowRoot<'a>(&'a Databases);

impl Lookup for BelowRoot<'_> {
    type Error = Error;

    fn below(&self, _: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>> {
        Ok(vec![None; ids.len()])
    }

    fn delegated(&self, database: &Id, tips: &[Id]) -> Result<Option<AuthState>> {
        self.0.authority_at(database, tips, 0)
    }
}

/// Says of a root that it names others, if it does.
pub(crate) fn names_of_root(
    taken: Option<&Taken>,
) -> impl FnOnce(&DatabaseLog, &mut Stage<'_>, &mut Batch) -> Result<()> {
    move |_, stage, batch| {
        if let Some(taken) = taken {
            stage.name_others(taken, batch);
        }
        Ok(())
    }
}

/// The document part of a root's settings.
fn lower_settings(settings: Doc) -> Result<Bytes> {
    let edits: Vec<Edit> = settings
        .into_iter()
        .map(|(key, value): (String, Value)| Edit::Set {
            at: Locator(vec![eidetica_crdt::Step::Key(key)]),
            value,
        })
        .collect();
    let payload = lower(&NoRows, StoreKind::Doc, &edits, 0)
        .map_err(|error| Error::edit(&StoreName::settings(), error))?;
    Ok(payload
        .map(|payload| payload.encode().into())
        .unwrap_or_default())
}

/// A page of packs with the payloads of some stores.
fn packs_of(
    reader: &LogReader<'_>,
    difference: &Difference,
    from: u64,
    holds: &Holds,
    budget_bytes: usize,
) -> Result<LogPage> {
    Ok(match holds {
        Holds::All => reader.packs(difference, from, budget_bytes)?,
        Holds::Stores(stores) => reader.packs_with(stores, difference, from, budget_bytes)?,
    })
}

/// What a node asks to synchronize.
impl Databases {
    /// The tips of a database, ascending; `None` if it is not here.
    ///
    /// # Errors
    /// The engine's.
    pub fn tips(&self, database: &Id) -> Result<Option<Vec<Stamp>>> {
        self.find(database)?
            .map(|database| database.tips())
            .transpose()
    }

    /// The void entries of a database that are nobody's parents and that are not passed on, ascending by height, at
    /// most `limit` of the highest; `None` if it is not here. An admin who asks a peer for them can adopt them.
    ///
    /// # Errors
    /// The engine's.
    pub fn void_tips(&self, database: &Id, limit: usize) -> Result<Option<Vec<Stamp>>> {
        let Some(database) = self.find(database)? else {
            return Ok(None);
        };
        let snapshot = self.0.rows.snapshot()?;
        let mut leaves = database.core().log.reader(&*snapshot).void_leaves()?;
        leaves.drain(..leaves.len().saturating_sub(limit));
        Ok(Some(leaves))
    }

    /// One page of packs of what is in the past of these entries, and neither in that of the tips nor in that of `not`:
    /// void entries for somebody who may want to adopt them. Ids that are not here count for nothing.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn void_packs(
        &self,
        database: &Id,
        of: &[Id],
        not: &[Id],
        budget_bytes: usize,
    ) -> Result<Vec<Bytes>> {
        self.void_packs_for(database, of, not, &Holds::All, budget_bytes)
    }

    /// Like [`void_packs`](Self::void_packs), with payloads of some stores.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn void_packs_for(
        &self,
        database: &Id,
        of: &[Id],
        not: &[Id],
        holds: &Holds,
        budget_bytes: usize,
    ) -> Result<Vec<Bytes>> {
        let database = self.get(database)?;
        let snapshot = self.0.rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let here = of.iter().zip(reader.contains_many(of)?);
        let of: Vec<Id> = here.filter(|(_, here)| *here).map(|(id, _)| *id).collect();
        let tips = reader.state()?.tips;
        let not: Vec<Id> = tips
            .iter()
            .map(|tip| tip.id)
            .chain(not.iter().copied())
            .collect();
        let difference = reader.difference(&of, &not, &mut Budget::unlimited())?;
        let budget = budget_bytes.min(limits::DIFFERENCE_BYTES);
        Ok(packs_of(&reader, &difference, 0, holds, budget)?.packs)
    }

    /// Which of these entries are here, effective or void. One batched lookup.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn known(&self, database: &Id, ids: &[Id]) -> Result<Vec<bool>> {
        let database = self.get(database)?;
        let snapshot = self.0.rows.snapshot()?;
        Ok(database.core().log.reader(&*snapshot).contains_many(ids)?)
    }

    /// Headers with heights in a range, greatest stamp first, at most `limit` and
    /// [`limits::HEADERS_PAGE`]: those of effective entries and of what is below them.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn headers(
        &self,
        database: &Id,
        heights: RangeInclusive<Height>,
        limit: usize,
    ) -> Result<Vec<HeaderSummary>> {
        self.headers_below(database, heights, None, limit)
    }

    /// Like [`headers`](Self::headers), only those below a stamp: the next page.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn headers_below(
        &self,
        database: &Id,
        heights: RangeInclusive<Height>,
        below: Option<Stamp>,
        limit: usize,
    ) -> Result<Vec<HeaderSummary>> {
        let database = self.get(database)?;
        let snapshot = self.0.rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let loose = match reader.state()?.loose {
            0 => Marks::default(),
            _ => reader.marks(Mark::Loose)?,
        };
        let limit = limit.min(limits::HEADERS_PAGE);
        let found = reader.by_height_but(heights, below, limit, &loose)?;
        let summary = |(stamp, parents): (Stamp, eidetica_entry::Ids)| HeaderSummary {
            stamp,
            parents: parents.to_vec(),
        };
        Ok(found.into_iter().map(summary).collect())
    }

    /// Packs of `past(tips)` without `past(not)`, parents first, about `budget_bytes` of them and at least
    /// one if there is any. Ids in `not` that are not here are ignored. With an empty `not`, stored packs
    /// are returned as they are.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn difference(
        &self,
        database: &Id,
        not: &[Id],
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        self.difference_above(database, not, &[], cursor, budget_bytes)
    }

    /// Like [`difference`](Self::difference). Packs of the databases that the entries' authority comes from, without
    /// their data, come first, as far as they are above `held`: the receiver's [`closures`](Self::closures).
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn difference_above(
        &self,
        database: &Id,
        not: &[Id],
        held: &[(Id, &[Id])],
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        self.difference_for(database, not, held, &Holds::All, cursor, budget_bytes)
    }

    /// Like [`difference_above`](Self::difference_above), with the payloads of some stores, which the first page fixes.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn difference_for(
        &self,
        database: &Id,
        not: &[Id],
        held: &[(Id, &[Id])],
        holds: &Holds,
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => self.begin_difference(database, not, held, holds)?,
        };
        let done_tips = cursor.tips.clone();
        let Some(part) = cursor.parts.last() else {
            return Ok(PackPage {
                packs: Vec::new(),
                next: None,
                done_tips,
            });
        };
        let source = cursor.source(self, part)?;
        let snapshot = self.0.rows.snapshot()?;
        let reader = source.core().log.reader(&*snapshot);
        let budget = budget_bytes.min(limits::DIFFERENCE_BYTES);
        let page = match part.database == *database {
            true => packs_of(
                &reader,
                &part.difference,
                cursor.next,
                &cursor.holds,
                budget,
            )?,
            false => reader.packs_without_data(&part.difference, cursor.next, budget)?,
        };
        cursor.next = page.next.unwrap_or(0);
        if page.next.is_none() {
            cursor.parts.pop();
        }
        Ok(PackPage {
            packs: page.packs,
            next: Some(cursor).filter(|cursor| !cursor.parts.is_empty()),
            done_tips,
        })
    }

    fn begin_difference(
        &self,
        id: &Id,
        not: &[Id],
        held: &[(Id, &[Id])],
        holds: &Holds,
    ) -> Result<Cursor> {
        let database = self.get(id)?;
        let snapshot = self.0.rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let tips = reader.state()?.tips;
        let from: Vec<Id> = tips.iter().map(|tip| tip.id).collect();
        let difference = reader.difference(&from, not, &mut Budget::unlimited())?;
        let closures = self.closures_for(&database, &difference, not, held)?;
        Ok(Cursor::new(*id, difference, closures, tips, holds))
    }

    /// Takes in packs; see [`IngestReport`] for what may become of an entry. Returns when the new ones
    /// are durable. Write callbacks may run before it returns. Must not be called from a thread pool of `rayon`.
    ///
    /// # Errors
    /// [`Error::NoDatabase`] if it is not here and not to be created or its root is not in the packs, an
    /// unsound root, more than [`limits::INGEST_PACKS`], the engine's. Bad packs and entries are no error but in
    /// the report.
    pub fn ingest(&self, request: IngestRequest<'_>) -> Result<IngestReport> {
        self.ingest_in_turn(request, ())
    }

    /// Like [`ingest`](Self::ingest), and drops `turn` as soon as another call for the same database may begin, whose
    /// packs are taken in after these: while the last of these are written, its first are verified.
    ///
    /// # Errors
    /// Those of [`ingest`](Self::ingest).
    pub fn ingest_in_turn(
        &self,
        request: IngestRequest<'_>,
        turn: impl Send,
    ) -> Result<IngestReport> {
        if request.packs.len() > limits::INGEST_PACKS {
            return Err(Error::Limit {
                what: "packs in one request",
                limit: limits::INGEST_PACKS,
            });
        }
        match has_closures(&request) {
            true => self.ingest_with_closures(&request),
            false => self.ingest_own(&request, turn),
        }
    }

    /// Takes in packs of one database.
    pub(crate) fn ingest_own(
        &self,
        request: &IngestRequest<'_>,
        turn: impl Send,
    ) -> Result<IngestReport> {
        let mut report = IngestReport::default();
        let database = match self.find(&request.database)? {
            Some(database) => database,
            None if request.create => {
                let root = self.root_in(request)?;
                if root.payload(&StoreName::settings()).is_none() {
                    return Err(Error::NoDatabase(request.database));
                }
                let holds = self.holds(&request.database)?;
                let root = root.with_payloads_of(|store| holds.has(store));
                let database = self.handle(self.begin(&root)?);
                report.new = 1;
                // The root itself is met again as known.
                let mut report = database.ingest_packs(request, turn, report)?;
                report.known = report.known.saturating_sub(1);
                return Ok(report);
            }
            None => return Err(Error::NoDatabase(request.database)),
        };
        database.ingest_packs(request, turn, report)
    }

    /// The root entry, in the first wave of a request.
    pub(crate) fn root_in(&self, request: &IngestRequest<'_>) -> Result<Entry> {
        let missing = Error::NoDatabase(request.database);
        let Some((first, packs)) = waves(request.packs).into_iter().next() else {
            return Err(missing);
        };
        let nothing_known = |stamps: &[Stamp]| Ok(vec![false; stamps.len()]);
        let seed = self.0.entropy.seed();
        let wave = Wave::prepare(
            request.database,
            first,
            packs,
            seed,
            0,
            |_| false,
            nothing_known,
        )?;
        wave.root(request.database).cloned().ok_or(missing)
    }

    /// Whether one of these keys may read the database, by a grant, by the wildcard, or as a member of a database
    /// that it delegates to. `false` also for a database that is not here.
    ///
    /// # Errors
    /// The engine's.
    pub fn can_read(&self, database: &Id, keys: &[PublicKey]) -> Result<bool> {
        Ok(self.right_of(database, keys)?.is_some())
    }

    /// The strongest right that one of these keys has at present; `None` for a database that is not here.
    ///
    /// # Errors
    /// The engine's.
    pub fn right_of(&self, database: &Id, keys: &[PublicKey]) -> Result<Option<Right>> {
        let Some(database) = self.find(database)? else {
            return Ok(None);
        };
        let mut best = None;
        for key in keys {
            best = best.max(database.access_of(key)?.map(|access| access.right));
        }
        Ok(best)
    }

    /// The databases that one of these keys may read. One that cannot be read, as it is damaged or being repaired, is left
    /// out, and logged. O(databases).
    ///
    /// # Errors
    /// The engine's.
    pub fn list_readable(&self, keys: &[PublicKey]) -> Result<Vec<DatabaseInfo>> {
        let read = |id: &Id| match self.can_read(id, keys)? {
            true => self.get(id)?.info().map(Some),
            false => Ok(None),
        };
        let mut found = Vec::new();
        for id in self.list()? {
            match read(&id) {
                Err(
                    error @ (Error::Corrupt(_)
                    | Error::NoEntry(_)
                    | Error::Repairing(_)
                    | Error::NoDatabase(_)),
                ) => {
                    tracing::warn!(database = %id, %error, "cannot list a database");
                }
                info => found.extend(info?),
            }
        }
        Ok(found)
    }
}

impl Database {
    /// Id, name and number of entries.
    ///
    /// # Errors
    /// The engine's.
    pub fn info(&self) -> Result<DatabaseInfo> {
        let name = self.name()?.unwrap_or_default();
        Ok(DatabaseInfo {
            id: self.id(),
            name,
            entries: self.entry_count()?,
        })
    }
}
