//! Write callbacks: who is told of an entry, when, and in which order.
//!
//! Events are queued before their batch goes to the engine, and delivered in arrival order once it is
//! there, by whichever writer comes by first, with no lock held. So a callback may read, write and wait
//! like any other code; what it commits is delivered after it returns.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eidetica_entry::{Entry, Id};
use eidetica_storage::log::{Mark, Marks};
use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::{Database, limits};

/// Where an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Committed through this instance.
    Local,
    /// Taken in from a pack.
    Remote,
}

/// What a write callback is told: one durable entry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteEvent {
    /// The entry.
    pub entry: Entry,
    /// Where it came from.
    pub origin: Origin,
}

/// Any error of a callback: it is logged and counted and undoes nothing.
pub type CallbackError = Box<dyn std::error::Error + Send + Sync>;

/// Names a registered callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

type Callback = dyn Fn(&WriteEvent, &Database) -> Result<(), CallbackError> + Send + Sync;

/// With the database, and whether any of its new entries were committed through this instance.
type ChangeCallback = dyn Fn(&Id, bool) + Send + Sync;

struct Registered {
    id: CallbackId,
    origin: Option<Origin>,
    call: Arc<Callback>,
}

/// Registered callbacks: of one database, or of all databases of an instance.
#[derive(Default)]
pub(crate) struct Callbacks {
    registered: RwLock<Vec<Registered>>,
    of_changes: RwLock<Vec<Arc<ChangeCallback>>>,
    any: AtomicBool,
    next: AtomicU64,
}

impl Callbacks {
    pub(crate) fn register(
        &self,
        origin: Option<Origin>,
        call: impl Fn(&WriteEvent, &Database) -> Result<(), CallbackError> + Send + Sync + 'static,
    ) -> Result<CallbackId> {
        let mut registered = self.registered.write();
        if registered.len() >= limits::CALLBACKS {
            return Err(Error::Limit {
                what: "write callbacks",
                limit: limits::CALLBACKS,
            });
        }
        let id = CallbackId(self.next.fetch_add(1, Ordering::Relaxed));
        registered.push(Registered {
            id,
            origin,
            call: Arc::new(call),
        });
        self.any.store(true, Ordering::Release);
        Ok(id)
    }

    pub(crate) fn register_for_changes(
        &self,
        call: impl Fn(&Id, bool) + Send + Sync + 'static,
    ) -> Result<()> {
        let mut of_changes = self.of_changes.write();
        if of_changes.len() >= limits::CALLBACKS {
            return Err(Error::Limit {
                what: "change callbacks",
                limit: limits::CALLBACKS,
            });
        }
        of_changes.push(Arc::new(call));
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn unregister(&self, id: CallbackId) -> bool {
        let mut registered = self.registered.write();
        let before = registered.len();
        registered.retain(|callback| callback.id != id);
        let any = !registered.is_empty() || !self.of_changes.read().is_empty();
        self.any.store(any, Ordering::Release);
        registered.len() != before
    }

    fn for_origin(&self, origin: Origin) -> Vec<Arc<Callback>> {
        let registered = self.registered.read();
        let wanted = registered
            .iter()
            .filter(|callback| callback.origin.is_none_or(|wanted| wanted == origin));
        wanted.map(|callback| Arc::clone(&callback.call)).collect()
    }

    /// Says that a database has changed.
    fn tell(&self, database: &Id, here: bool) {
        let of_changes = self.of_changes.read().clone();
        of_changes.iter().for_each(|call| call(database, here));
    }
}

/// Entries that are told as changes of their database: the first at once, those that follow it many at a time.
#[derive(Default)]
struct Change {
    has_begun: bool,
    untold: usize,
    here: bool,
}

impl Change {
    fn add(&mut self, origin: Origin, callbacks: &Callbacks, database: &Id) {
        self.untold += 1;
        self.here |= origin == Origin::Local;
        if !self.has_begun || self.untold >= limits::CHANGE_ENTRIES {
            self.tell(callbacks, database);
        }
    }

    fn tell(&mut self, callbacks: &Callbacks, database: &Id) {
        if self.untold > 0 {
            callbacks.tell(database, self.here);
            *self = Self {
                has_begun: true,
                ..Self::default()
            };
        }
    }
}

/// The callbacks of one database and the events that wait for them.
pub(crate) struct Events {
    pub(crate) own: Callbacks,
    everywhere: Arc<Callbacks>,
    /// Whether entries may come that nobody queues here.
    has_others: bool,
    failures: AtomicU64,
    /// Arrival numbers below this one are in the engine.
    durable: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Own entries that go the way of those of peers. One that turns out void stays here: 32 bytes for the many of an
    /// entry of an import.
    own: HashSet<Id>,
    /// By arrival number; a gap is an entry whose batch is not in the engine either.
    waiting: BTreeMap<u64, Waiting>,
    delivering: bool,
}

enum Waiting {
    /// With the number of its batch.
    Event(WriteEvent, u64),
    /// It or another entry that another process has put in its place.
    Contested(WriteEvent, u64),
    /// An entry of another process.
    Foreign,
    /// An entry to be read when its turn comes.
    Stored(Origin),
}

impl Events {
    /// For a database that has the arrivals below `durable`.
    pub(crate) fn new(everywhere: Arc<Callbacks>, durable: u64, has_others: bool) -> Self {
        Self {
            own: Callbacks::default(),
            everywhere,
            has_others,
            failures: AtomicU64::new(0),
            durable: AtomicU64::new(durable),
            queue: Mutex::default(),
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn any(&self) -> bool {
        self.own.any.load(Ordering::Acquire) || self.everywhere.any.load(Ordering::Acquire)
    }

    /// Queues an entry, before its batch of this number goes to the engine.
    pub(crate) fn queue(&self, arrival: u64, entry: &Entry, origin: Origin, batch: u64) {
        if self.any() {
            let event = WriteEvent {
                entry: entry.clone(),
                origin,
            };
            let event = Waiting::Event(event, batch);
            self.queue.lock().waiting.insert(arrival, event);
        }
    }

    /// Like [`queue`](Self::queue) for entries that are too many to be kept in memory.
    pub(crate) fn queue_stored(&self, arrivals: Range<u64>, origin: Origin) {
        if self.any() {
            let stored = arrivals.map(|arrival| (arrival, Waiting::Stored(origin)));
            self.queue.lock().waiting.extend(stored);
        }
    }

    /// Says that all arrivals below `arrival` are in the engine, and delivers what that set free.
    pub(crate) fn durable(&self, arrival: u64, database: &Database) {
        self.durable.fetch_max(arrival, Ordering::AcqRel);
        if !self.any() {
            return;
        }
        let Some(delivery) = Delivery::begin(self) else {
            return;
        };
        // Whoever is told gets no key of the one who wrote.
        let database = database.without_key();
        let (mut run, mut change) = (Run::default(), Change::default());
        while let Some((arrival, waiting)) = delivery.next() {
            match waiting.event(arrival, &mut run, &delivery, &database) {
                Ok(Some(mut event)) => {
                    if self.queue.lock().own.remove(&event.entry.id()) {
                        event.origin = Origin::Local;
                    }
                    change.add(event.origin, &self.everywhere, &database.id());
                    self.call(&event, &database);
                }
                Ok(None) => {}
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(arrival, %error, "cannot read an entry for its callbacks");
                    change.add(Origin::Remote, &self.everywhere, &database.id());
                }
            }
        }
        change.tell(&self.everywhere, &database.id());
    }

    /// Says that these entries are this instance's own, whoever may put them into the log.
    pub(crate) fn expect_own(&self, ids: &[Id]) {
        if self.any() {
            self.queue.lock().own.extend(ids);
        }
    }

    /// Says that they will not be put there.
    pub(crate) fn forget_own(&self, ids: &[Id]) {
        let own = &mut self.queue.lock().own;
        for id in ids {
            own.remove(id);
        }
    }

    /// Forgets one entry whose batch did not become durable. The same one may be in a later batch at the same place.
    pub(crate) fn cancel(&self, arrival: u64, batch: u64) {
        let waiting = &mut self.queue.lock().waiting;
        match waiting.get(&arrival) {
            Some(Waiting::Event(_, of)) if *of == batch => {
                waiting.remove(&arrival);
            }
            Some(Waiting::Contested(_, of)) if *of == batch => {
                waiting.insert(arrival, Waiting::Foreign);
            }
            _ => {}
        }
    }

    /// Says that the arrivals below `next` are in the engine and none above: what was queued beyond never became
    /// durable, and below it another process may have written.
    pub(crate) fn reload(&self, next: u64) {
        let waiting = &mut self.queue.lock().waiting;
        waiting.split_off(&next);
        if !self.has_others || !self.any() {
            return;
        }
        for arrival in self.durable.load(Ordering::Acquire)..next {
            let contested = match waiting.remove(&arrival) {
                None => Waiting::Foreign,
                Some(Waiting::Event(event, batch)) => Waiting::Contested(event, batch),
                Some(other) => other,
            };
            waiting.insert(arrival, contested);
        }
    }

    fn call(&self, event: &WriteEvent, database: &Database) {
        let calls = self.own.for_origin(event.origin).into_iter();
        for call in calls.chain(self.everywhere.for_origin(event.origin)) {
            if let Err(error) = call(event, database) {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(entry = %event.entry.id(), %error, "write callback failed");
            }
        }
    }
}

impl Waiting {
    /// Whether it is in the engine alone.
    fn is_to_be_read(&self) -> bool {
        !matches!(self, Self::Event(..))
    }

    /// What is to be told; nothing of an entry that is void. What is read comes from the run, or begins a new one.
    fn event(
        self,
        arrival: u64,
        run: &mut Run,
        delivery: &Delivery<'_>,
        database: &Database,
    ) -> Result<Option<WriteEvent>> {
        if let Self::Event(event, _) = self {
            return Ok(Some(event));
        }
        if !run.has(arrival) {
            *run = Run::read(arrival, delivery.run_behind(arrival), database)?;
        }
        let Some(entry) = run.take(arrival) else {
            return Err(Error::Corrupt(format!("no entry arrived as {arrival}")));
        };
        let origin = match self {
            Self::Stored(origin) => return Ok(Some(WriteEvent { entry, origin })),
            Self::Contested(event, _) if event.entry.id() == entry.id() => event.origin,
            _ => Origin::Remote,
        };
        // The other process may know what makes it void.
        let void = run.void.contains(arrival);
        Ok((!void).then_some(WriteEvent { entry, origin }))
    }
}

/// Entries that follow each other, read at once to be told one by one.
#[derive(Default)]
struct Run {
    first: u64,
    entries: VecDeque<Entry>,
    void: Marks,
}

impl Run {
    /// Reads an entry and some of the `more` behind it: up to one that cannot be read.
    fn read(first: u64, more: usize, database: &Database) -> Result<Self> {
        let log = &database.core().log;
        let snapshot = log.engine().snapshot()?;
        let reader = log.reader(&*snapshot);
        let (entries, damage) = reader.entries_or_damage(first, 1 + more)?;
        if let Some(damage) = damage.filter(|_| entries.is_empty()) {
            return Err(damage.into());
        }
        let void = match reader.state()?.void {
            0 => Marks::default(),
            _ => reader.marks_among(Mark::Void, first..first + entries.len() as u64)?,
        };
        Ok(Self {
            first,
            entries: entries.into(),
            void,
        })
    }

    fn has(&self, arrival: u64) -> bool {
        let at = arrival.checked_sub(self.first);
        at.is_some_and(|at| at < self.entries.len() as u64)
    }

    /// Takes out an entry with all before it.
    fn take(&mut self, arrival: u64) -> Option<Entry> {
        while self.first < arrival && self.entries.pop_front().is_some() {
            self.first += 1;
        }
        let entry = self.entries.pop_front();
        self.first += 1;
        entry
    }
}

/// The right to deliver: one thread at a time, given back on drop, also when a callback panics.
struct Delivery<'a>(&'a Events);

impl<'a> Delivery<'a> {
    fn begin(events: &'a Events) -> Option<Self> {
        let mut queue = events.queue.lock();
        if queue.delivering {
            return None;
        }
        queue.delivering = true;
        Some(Self(events))
    }

    /// The next durable event. `None` gives the right back under the same lock, so that an event
    /// which becomes durable just then finds either this thread still here or the right free.
    fn next(&self) -> Option<(u64, Waiting)> {
        let mut queue = self.0.queue.lock();
        let durable = self.0.durable.load(Ordering::Acquire);
        match queue.waiting.first_entry() {
            Some(first) if *first.key() < durable => Some(first.remove_entry()),
            _ => {
                queue.delivering = false;
                None
            }
        }
    }

    /// How many of those that follow an event come without a gap, are durable and are to be read; as many as are read at
    /// once.
    fn run_behind(&self, arrival: u64) -> usize {
        let queue = self.0.queue.lock();
        let durable = self.0.durable.load(Ordering::Acquire);
        let next = queue.waiting.range(arrival + 1..durable).zip(arrival + 1..);
        let run = next.take_while(|((at, waiting), no)| *at == no && waiting.is_to_be_read());
        run.take(limits::TOLD_AT_ONCE - 1).count()
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.queue.lock().delivering = false;
        }
    }
}
