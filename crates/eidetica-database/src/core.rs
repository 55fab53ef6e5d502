//! One database: what is kept of it in memory, and its sequencer.
//!
//! The *sequencer* is the lock under which entries get their place: parents, height, id, arrival number
//! and rows. What it stages is ahead of the engine until the batch is written, in the order of staging.
//! A batch that cannot be written makes everything staged after it worthless: the sequencer is dropped
//! and loaded again from the engine by the next who needs it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eidetica_crdt::StoreKind;
use eidetica_entry::dag::Budget;
use eidetica_entry::{Id, Ids, ParentInfo, Stamp, StoreName, derive_settings};
use eidetica_storage::commit::{GroupCommit, Lane};
use eidetica_storage::log::{DatabaseLog, DbNo, LogError, LogReader, LogState, LogWriter};
use eidetica_storage::{Snapshot, Space};
use parking_lot::{Condvar, MappedMutexGuard, Mutex, MutexGuard, RwLock};

use crate::access::Accesses;
use crate::authority::Authority;
use crate::deferred::{Computing, Deferred};
use crate::error::{Error, Result};
use crate::events::{Callbacks, Events};
use crate::holds::is_sparse;
use crate::mend::Damage;
use crate::overlay::Overlay;
use crate::past::Pasts;
use crate::pending::{Pool, Surplus};
use crate::registry::Registry;
use crate::rows::StoreSlot;
use crate::shared::Shared;
use crate::{Database, limits};

/// Begins the keys of registry rows in [`Space::Meta`].
pub(crate) const STORES: &[u8] = b"S";

/// One open database.
pub(crate) struct Core {
    pub(crate) id: Id,
    pub(crate) log: DatabaseLog,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) authority: Authority,
    pub(crate) accesses: Accesses,
    /// The settings entries at or below a frontier, for whoever turns the pages of an audit.
    pub(crate) listed: Mutex<Option<(Ids, Arc<[Stamp]>)>>,
    pub(crate) pasts: Pasts,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) surplus: Mutex<Surplus>,
    pub(crate) events: Events,
    /// Whether it is kept for its authority alone, without data.
    pub(crate) is_closure: bool,
    /// Of a closure: when it was used last, as [`Shared::uses`] counts.
    pub(crate) used: AtomicU64,
    /// Of a closure: about the bytes of its entries, once that was asked.
    pub(crate) held_bytes: Mutex<Option<u64>>,
    pub(crate) damage: Damage,
    /// Held by whoever takes in packs: requests are taken in one after the other.
    pub(crate) ingesting: Mutex<()>,
    sequencer: Mutex<Option<Sequencer>>,
    /// The version of the newest batch that is in the engine.
    version: AtomicU64,
    /// The number of the newest staged batch that is in the engine.
    pub(crate) settled: AtomicU64,
    /// The last number that a batch was given. None is given twice, however often the sequencer is loaded.
    batches: Arc<AtomicU64>,
    /// How often the sequencer was loaded.
    pub(crate) loads: AtomicU64,
    /// Who reads ahead of the lock, by the newest batch that was in the engine before.
    pub(crate) ahead: Mutex<BTreeMap<u64, usize>>,
    /// Arrivals below this one were found in the engine and not told yet; 0 if there are none.
    unmet: AtomicU64,
    /// Whether it was taken away: nothing of it is read or written any more.
    gone: AtomicBool,
    /// Whether it is about to be.
    closed: AtomicBool,
    has_others: bool,
    /// Whether payloads may be missing, or are not to be held.
    pub(crate) sparse: AtomicBool,
    group: GroupCommit,
    /// A version at which no import was being published, plus one.
    pub(crate) whole_at: AtomicU64,
    /// Whether state rows are behind the entries.
    behind: AtomicBool,
    /// Whether entries have changed sides and the state rows do not show it.
    settling: AtomicBool,
    /// How often they have fallen behind.
    falls: AtomicU64,
    /// How often a staged batch was not written; with `moved`, for those who wait for batches.
    failures: Mutex<u64>,
    moved: Condvar,
}

/// What is staged; see the module.
pub(crate) struct Sequencer {
    pub(crate) writer: LogWriter,
    pub(crate) overlay: Overlay,
    /// Entries that are staged and not in the engine, with the number of their batch.
    staged: VecDeque<(u64, ParentInfo)>,
    /// Which load of it this is.
    pub(crate) load: u64,
    /// The number of the last batch that was staged here; 0 before the first.
    last: u64,
    batches: Arc<AtomicU64>,
    /// Entries whose state is not written yet.
    pub(crate) deferred: Deferred,
    /// The state of entries before those, while entries come in.
    pub(crate) computing: Option<Computing>,
    /// Entries of the last wave that nothing was above when it was written: the next one builds on them, and need not
    /// decode a pack for it.
    pub(crate) newest: HashMap<Id, ParentInfo>,
    /// Whether something staged was not written.
    failed: bool,
    /// All entries that arrived before this one are settled.
    pub(crate) settled_below: u64,
}

pub(crate) type Sequence<'a> = MappedMutexGuard<'a, Sequencer>;

impl Core {
    /// Opens a database that is in the engine. O(stores, tips).
    pub(crate) fn load(shared: &Shared, log: DatabaseLog) -> Result<Self> {
        Self::load_with(shared, log, Arc::clone(&shared.callbacks), false)
    }

    /// Opens a closure: nobody is told what comes into it.
    pub(crate) fn load_closure(shared: &Shared, log: DatabaseLog) -> Result<Self> {
        Self::load_with(shared, log, Arc::default(), true)
    }

    fn load_with(
        shared: &Shared,
        log: DatabaseLog,
        callbacks: Arc<Callbacks>,
        is_closure: bool,
    ) -> Result<Self> {
        let snapshot = shared.rows.snapshot()?;
        let state = log.reader(&*snapshot).state()?;
        let registry = load_registry(&log, &*snapshot)?;
        let sparse = !is_closure && is_sparse(&log.id(), &log.reader(&*snapshot), &*snapshot)?;
        Ok(Self {
            id: log.id(),
            registry: RwLock::new(registry),
            authority: Authority::default(),
            accesses: Accesses::default(),
            listed: Mutex::default(),
            pasts: Pasts::default(),
            pool: Mutex::default(),
            surplus: Mutex::default(),
            events: Events::new(callbacks, state.next_arrival, shared.has_others()),
            is_closure,
            used: AtomicU64::new(0),
            held_bytes: Mutex::default(),
            damage: Damage::new(log.is_losing(&*snapshot)?),
            ingesting: Mutex::new(()),
            sequencer: Mutex::new(None),
            version: AtomicU64::new(state.version),
            settled: AtomicU64::new(0),
            batches: Arc::default(),
            loads: AtomicU64::new(0),
            ahead: Mutex::default(),
            unmet: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            has_others: shared.has_others(),
            sparse: AtomicBool::new(sparse),
            group: shared.group.clone(),
            whole_at: AtomicU64::new(0),
            behind: AtomicBool::new(!state.is_applied() || !state.is_settled()),
            settling: AtomicBool::new(!state.is_settled()),
            falls: AtomicU64::new(0),
            failures: Mutex::new(0),
            moved: Condvar::new(),
            log,
        })
    }

    /// The version of what is in the engine: when it is the same before and after, nothing changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    pub(crate) fn set_behind(&self, behind: bool) {
        if behind {
            self.falls.fetch_add(1, Ordering::AcqRel);
        }
        self.behind.store(behind, Ordering::Release);
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::Acquire)
    }

    /// Says what readers have to wait for: before the batch that makes them is written, and after the one that
    /// lets them go on.
    pub(crate) fn note_state(&self, state: &LogState) {
        self.set_behind(!state.is_applied() || !state.is_settled());
        self.settling.store(!state.is_settled(), Ordering::Release);
    }

    /// How often state rows have fallen behind: if it is the same before [`Database::catch_up`] and after a
    /// snapshot, and they are not behind, the snapshot has all of the state.
    pub(crate) fn falls(&self) -> u64 {
        self.falls.load(Ordering::Acquire)
    }

    pub(crate) fn has_others(&self) -> bool {
        self.has_others
    }

    pub(crate) fn slot(&self, name: &StoreName, kind: StoreKind) -> Option<StoreSlot> {
        self.registry.read().slot(name, kind)
    }

    pub(crate) fn check_kind(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        if name.is_settings() && kind != StoreKind::Doc {
            return Err(Error::wrong_kind(name, kind, StoreKind::Doc));
        }
        self.registry.read().check_kind(name, kind)
    }

    /// Says that it was taken away, and wakes those who wait for it.
    pub(crate) fn note_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.note_failure();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`Error::NoDatabase`] if it was taken away.
    pub(crate) fn check_here(&self) -> Result<()> {
        match self.is_gone() {
            true => Err(Error::NoDatabase(self.id)),
            false => Ok(()),
        }
    }

    /// Says whether it is about to be taken away, so that nobody begins to write to it.
    pub(crate) fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Release);
    }

    /// The sequencer, loaded if it has to be.
    pub(crate) fn sequence(&self) -> Result<Sequence<'_>> {
        let sequencer = self.sequencer.lock();
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::NoDatabase(self.id)),
            false => self.sequence_in(sequencer),
        }
    }

    /// Like [`Core::sequence`], for whoever takes it away.
    pub(crate) fn last_sequence(&self) -> Result<Sequence<'_>> {
        self.sequence_in(self.sequencer.lock())
    }

    fn sequence_in<'a>(
        &self,
        mut sequencer: MutexGuard<'a, Option<Sequencer>>,
    ) -> Result<Sequence<'a>> {
        self.check_here()?;
        if sequencer.as_ref().is_none_or(|sequencer| sequencer.failed) {
            *sequencer = Some(self.load_sequencer()?);
        }
        let mut sequence = MutexGuard::try_map(sequencer, Option::as_mut)
            .map_err(|_| Error::Stopped("no sequencer".into()))?;
        let ahead = self.ahead.lock();
        let settled = self.settled.load(Ordering::Acquire);
        let read = ahead
            .keys()
            .next()
            .map_or(settled, |read| settled.min(*read));
        let read = read.max(settled.saturating_sub(limits::AHEAD_BATCHES));
        drop(ahead);
        sequence.settle(settled, read);
        Ok(sequence)
    }

    pub(crate) fn lock_sequencer(&self) -> MutexGuard<'_, Option<Sequencer>> {
        self.sequencer.lock()
    }

    /// `None` if somebody has it.
    pub(crate) fn try_lock_sequencer(&self) -> Option<MutexGuard<'_, Option<Sequencer>>> {
        self.sequencer.try_lock()
    }

    /// The order of this database's batches.
    pub(crate) fn lane(&self) -> Lane {
        Lane(u64::from(self.log.no().0))
    }

    /// Loads what is in the engine. Called with the lock held.
    pub(crate) fn load_sequencer(&self) -> Result<Sequencer> {
        // Behind this, all that was staged before is written or refused.
        self.group.renew(self.lane())?;
        let writer = self.log.writer().inspect_err(|error| {
            if matches!(error, LogError::Gone(_)) {
                self.note_gone();
            }
        })?;
        let snapshot = self.log.engine().snapshot()?;
        *self.registry.write() = load_registry(&self.log, &*snapshot)?;
        self.note_holes(&writer);
        let state = writer.state();
        self.note_state(state);
        self.events.reload(state.next_arrival);
        if self.has_others
            && self.version.fetch_max(state.version, Ordering::AcqRel) < state.version
        {
            self.unmet.fetch_max(state.next_arrival, Ordering::AcqRel);
        }
        // When it is over: whoever has counted it reads what is here, or what is newer.
        let load = self.loads.fetch_add(1, Ordering::AcqRel);
        Ok(Sequencer {
            overlay: Overlay::default(),
            staged: VecDeque::new(),
            load,
            last: 0,
            batches: Arc::clone(&self.batches),
            deferred: Deferred::default(),
            computing: None,
            newest: HashMap::new(),
            failed: false,
            settled_below: 0,
            writer,
        })
    }

    /// Arrivals below the returned one have come by another process and were not told.
    pub(crate) fn take_unmet(&self) -> Option<u64> {
        Some(self.unmet.swap(0, Ordering::AcqRel)).filter(|next| *next > 0)
    }

    /// Says that a batch could not be written: what was staged with it, in this load of the sequencer, is worthless.
    pub(crate) fn drop_sequencer(&self, load: u64) {
        self.sequencer
            .lock()
            .take_if(|sequencer| sequencer.load == load);
        self.note_failure();
    }

    /// Wakes those who wait for a batch that is not going to be written.
    pub(crate) fn note_failure(&self) {
        *self.failures.lock() += 1;
        self.moved.notify_all();
    }

    /// Waits until what is staged now is in the engine, or something staged was not written.
    pub(crate) fn wait_for_staged(&self) -> Result<()> {
        let before = *self.failures.lock();
        let staged = self.sequence()?.last;
        let mut failures = self.failures.lock();
        while self.settled.load(Ordering::Acquire) < staged && *failures == before {
            self.moved.wait(&mut failures);
        }
        Ok(())
    }

    /// Says that a batch is in the engine: readers may know.
    pub(crate) fn settle(&self, written: &Written) {
        self.settled.fetch_max(written.number, Ordering::AcqRel);
        self.version.fetch_max(written.version, Ordering::AcqRel);
        // Whoever has looked and not yet begun to wait holds this.
        drop(self.failures.lock());
        self.moved.notify_all();
    }

    /// Tells the callbacks what is in the engine. Called with no lock held.
    pub(crate) fn announce(&self, written: &Written, database: &Database) {
        self.events.durable(written.next_arrival, database);
    }

    /// The settings of a child of `parents`.
    pub(crate) fn derive_settings(
        &self,
        parents: &[ParentInfo],
        reader: &LogReader<'_>,
    ) -> Result<Ids> {
        let derived = derive_settings(parents, &reader.settings_dag(), &mut Budget::unlimited());
        Ok(derived.map_err(LogError::from)?)
    }

    /// The durable tips, ascending.
    pub(crate) fn tips(&self) -> Result<Vec<Stamp>> {
        let snapshot = self.log.engine().snapshot()?;
        Ok(self.log.reader(&*snapshot).state()?.tips)
    }
}

pub(crate) fn registry_prefix(log: &DatabaseLog) -> Vec<u8> {
    registry_prefix_of(log.no())
}

pub(crate) fn registry_prefix_of(no: DbNo) -> Vec<u8> {
    [STORES, &no.prefix()].concat()
}

pub(crate) fn load_registry(log: &DatabaseLog, snapshot: &dyn Snapshot) -> Result<Registry> {
    Registry::load(Space::Meta, registry_prefix(log), log.no().0, snapshot)
}

/// What a staged batch leaves behind once it is in the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) number: u64,
    pub(crate) version: u64,
    pub(crate) next_arrival: u64,
}

impl Written {
    pub(crate) fn new(number: u64, state: &LogState) -> Self {
        Self {
            number,
            version: state.version,
            next_arrival: state.next_arrival,
        }
    }
}

impl Sequencer {
    /// Says that something staged is not going to be written.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether something staged is not going to be written.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Forgets what is staged in batches up to `number`, which are in the engine, and of their rows those up to `read`,
    /// which nobody has read ahead without.
    fn settle(&mut self, number: u64, read: u64) {
        self.overlay.settle(read);
        while self
            .staged
            .front()
            .is_some_and(|(batch, _)| *batch <= number)
        {
            self.staged.pop_front();
        }
    }

    /// Whether anything staged may not be in the engine.
    pub(crate) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Forgets everything staged, all of which is in the engine.
    pub(crate) fn settle_all(&mut self) {
        self.settle(self.last, self.last);
    }

    /// The settings entries, effective or void, that are in no other one's past.
    pub(crate) fn settings(&self) -> Ids {
        self.writer.state().settings.iter().copied().collect()
    }

    /// Keeps a staged entry in sight until its batch is in the engine.
    pub(crate) fn add_staged(&mut self, number: u64, info: ParentInfo) {
        self.staged.push_back((number, info));
    }

    /// A number for the next batch.
    pub(crate) fn next_batch(&mut self) -> u64 {
        self.last = self.batches.fetch_add(1, Ordering::AcqRel) + 1;
        self.last
    }

    /// The number of the last batch that was staged here.
    pub(crate) fn last_batch(&self) -> u64 {
        self.last
    }

    /// What children need to know of an entry that is staged and not in the engine.
    pub(crate) fn staged(&self, id: &Id) -> Option<&ParentInfo> {
        self.staged
            .iter()
            .map(|(_, info)| info)
            .find(|info| info.id == *id)
    }
}
