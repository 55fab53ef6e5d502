//! What other processes write to the same engine.
//!
//! Where an engine is shared (`EngineInfo::shared`), the version row of a database may move without us. That row is
//! the truth: whoever takes a snapshot to read state looks at it, and every batch expects it to be as it was staged on.
//! Hints of the engine only say when to look for the sake of callbacks.
//!
//! What was staged when another process was faster is refused as a whole, and made again on what is there now: see
//! [`Database::racing`].

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use eidetica_entry::Id;
use eidetica_storage::log::{DatabaseLog, LogError, LogState};
use eidetica_storage::{Batch, Durability, Engine, EngineError, Snapshot, Watch};

use crate::core::{Core, Sequencer};
use crate::error::{Error, Result};
use crate::shared::{CREATION, Shared};
use crate::tend::Tending;
use crate::{Database, Databases, limits};

impl Shared {
    /// Whether other processes may write to the engine.
    pub(crate) fn has_others(&self) -> bool {
        self.others.is_some()
    }
}

/// Looks after an engine that others write to. Ends when it is dropped.
pub(crate) struct Others {
    pub(crate) tending: Tending,
    hints: SyncSender<()>,
    _watch: Watch,
}

impl Others {
    /// `None` for an engine that is this process's alone.
    pub(crate) fn of(engine: &dyn Engine, shared: Weak<Shared>) -> Result<Option<Self>> {
        if !engine.info().shared {
            return Ok(None);
        }
        // One that waits stands for all that come meanwhile.
        let (hints, heard) = sync_channel(1);
        let look = {
            let shared = Weak::clone(&shared);
            move || look_around(&heard, &shared)
        };
        thread::Builder::new()
            .name("eidetica-others".to_owned())
            .spawn(look)
            .map_err(|error| EngineError::io("starting a thread", error))?;
        let hint = {
            let hints = hints.clone();
            move || hear(&hints, &shared)
        };
        Ok(Some(Self {
            tending: Tending::default(),
            hints,
            _watch: engine.watch(Arc::new(hint)),
        }))
    }

    /// Has the databases that are open looked at soon, on a thread of its own.
    fn look_around(&self) {
        // If a hint waits already, whoever takes it sees this change too.
        self.hints.try_send(()).ok();
    }
}

fn hear(hints: &SyncSender<()>, shared: &Weak<Shared>) {
    let own = shared
        .upgrade()
        .is_some_and(|shared| shared.group.is_writing_here());
    if !own {
        // If one waits already, whoever takes it sees this change too.
        hints.try_send(()).ok();
    }
}

/// What the engine says of a database that is open here.
enum Found {
    State(LogState),
    Gone,
    /// Or damaged.
    Repairing,
}

/// Until the senders are dropped with the watch.
fn look_around(heard: &Receiver<()>, shared: &Weak<Shared>) {
    while heard.recv().is_ok() {
        // Not yet there, or about to be dropped with its watch.
        let Some(shared) = shared.upgrade() else {
            continue;
        };
        if let Err(error) = Databases::of(&shared).meet_others() {
            tracing::warn!(%error, "cannot see what other processes have written");
        }
    }
}

impl Databases {
    /// Takes notice of what other processes have written to databases that are open here. O(open databases), one lookup
    /// for some hundreds of them.
    fn meet_others(&self) -> Result<()> {
        let shared = self.shared();
        let mut open = shared.open.all();
        open.extend(shared.closures.lock().values().cloned());
        let mut rest: Vec<&[Arc<Core>]> = open.chunks(limits::MEET_PAGE).rev().collect();
        while let Some(cores) = rest.pop() {
            // What is wrong with one is no reason not to look at the others.
            match self.states_of(cores) {
                Err(error @ Error::Corrupt(_)) => match cores {
                    [core] => cannot_follow(core, &error),
                    _ => {
                        let (first, second) = cores.split_at(cores.len() / 2);
                        rest.extend([second, first]);
                    }
                },
                found => self.meet_found(cores, found?),
            }
        }
        self.wake_for_new()
    }

    fn meet_found(&self, cores: &[Arc<Core>], found: Vec<Found>) {
        for (core, found) in cores.iter().zip(found) {
            match found {
                Found::State(state) => {
                    if let Err(error) = self.handle(Arc::clone(core)).meet(&state) {
                        cannot_follow(core, &error);
                    }
                }
                Found::Gone => self.note_gone(core),
                Found::Repairing => {}
            }
        }
    }

    fn states_of(&self, cores: &[Arc<Core>]) -> Result<Vec<Found>> {
        let snapshot = self.shared().rows.snapshot()?;
        let logs: Vec<&DatabaseLog> = cores.iter().map(|core| &core.log).collect();
        let states = self.log().states(&*snapshot, &logs)?;
        let found = cores.iter().zip(states).map(|(core, state)| match state {
            Some(state) => Found::State(state),
            None => match core.log.reader(&*snapshot).state() {
                Err(LogError::Gone(_)) => Found::Gone,
                _ => Found::Repairing,
            },
        });
        Ok(found.collect())
    }

    fn note_gone(&self, core: &Arc<Core>) {
        core.note_gone();
        let mut closures = self.shared().closures.lock();
        // It may have come again since.
        let known = closures.get(&core.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, core)) {
            closures.remove(&core.id);
        }
    }

    /// Judges entries that waited for databases that another process has brought.
    fn wake_for_new(&self) -> Result<()> {
        let shared = self.shared();
        let awaited: Vec<Id> = shared.awaited.lock().keys().copied().collect();
        for id in awaited {
            if shared.version_of(&id).is_none() {
                for here in [self.find(&id), self.closure(&id)] {
                    match here {
                        // Nobody is judged by it yet.
                        Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_)) => {}
                        here => here?.iter().for_each(Database::wake_awaiting),
                    }
                }
            }
        }
        Ok(())
    }
}

fn cannot_follow(core: &Core, error: &Error) {
    tracing::warn!(database = %core.id, %error, "cannot follow another process");
}

impl Database {
    /// Takes notice of a state of this database that was found in the engine, if another process has made it: what is
    /// kept of it in memory is loaded again, callbacks are told, and entries that waited for it are judged.
    pub(crate) fn meet(&self, found: &LogState) -> Result<()> {
        self.core().meet(found)?;
        self.tell_met();
        Ok(())
    }

    /// Tells what was found when the sequencer was loaded. Called with no lock held.
    fn tell_met(&self) {
        let Some(next) = self.core().take_unmet() else {
            return;
        };
        self.core().events.durable(next, self);
        if let Err(error) = self.judge_met() {
            tracing::warn!(database = %self.id(), %error, "entries that waited were not judged");
        }
        self.wake_awaiting();
    }

    /// Judges entries again whose ancestors another process has brought.
    fn judge_met(&self) -> Result<()> {
        let missing = self.core().pool.lock().missing();
        let found = {
            let snapshot = self.shared().rows.snapshot()?;
            self.core().log.reader(&*snapshot).contains_many(&missing)?
        };
        let here = missing.iter().zip(found).filter(|(_, here)| *here);
        let mut freed = Vec::new();
        for (id, _) in here {
            freed.extend(self.core().pool.lock().release(id));
        }
        self.judge_ready(freed)?;
        Ok(())
    }

    /// Runs `work`, and again while another process is faster. Each attempt that loses means that somebody else's batch
    /// was written.
    pub(crate) fn racing<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        let shared = self.shared();
        let done = shared.racing_with(work, || shared.level(&self.core().log));
        self.tell_met();
        done
    }

    /// Whether an import is committed and not yet in the log as a whole. One look for each version.
    fn is_publishing(&self, snapshot: &dyn Snapshot, version: u64) -> Result<bool> {
        let whole_at = &self.core().whole_at;
        if whole_at.load(Ordering::Acquire) == version + 1 {
            return Ok(false);
        }
        let publishing = self.has_committed_import(snapshot)?;
        if !publishing {
            whole_at.store(version + 1, Ordering::Release);
        }
        Ok(publishing)
    }

    /// A snapshot with the state of all entries in it, and its version, where others may write between our steps.
    pub(crate) fn settled_beside_others(&self) -> Result<(u64, Box<dyn Snapshot>)> {
        for _ in 0..limits::RACES {
            match self.settled_once() {
                Ok(Some(settled)) => return Ok(settled),
                Ok(None) => {}
                Err(error) if error.is_lost_race() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Overtaken)
    }

    /// `None` if there was something to write first, which is written now.
    fn settled_once(&self) -> Result<Option<(u64, Box<dyn Snapshot>)>> {
        let (mut found, mut snapshot) = self.core().look()?;
        if found.version > self.core().version() {
            // Who has the lock may wait for a snapshot, of which there are only so many: first the lock.
            drop(snapshot);
            (found, snapshot) = self.core().meet_now()?;
            // Callbacks are not told while a snapshot is held.
            if let Some(others) = &self.shared().others {
                others.look_around();
            }
        }
        if found.version > self.core().version() {
            // Staged here, written by whom is not known yet: numbers of stores may be others.
            drop(snapshot);
            self.core().wait_for_staged()?;
            return Ok(None);
        }
        let settled = found.is_applied() && found.is_settled();
        if settled && !self.is_publishing(&*snapshot, found.version)? {
            return Ok(Some((found.version, snapshot)));
        }
        drop(snapshot);
        // An import that is being published is seen as a whole or not at all.
        self.recover_imports()?;
        let mut sequencer = self.core().sequence()?;
        self.flush(&mut sequencer)?;
        Ok(None)
    }
}

impl Shared {
    /// See [`Database::racing`].
    pub(crate) fn racing<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.racing_with(work, || Ok(()))
    }

    /// Calls `level` after so many losses, again and again: it evens the odds of the next attempt or two, not of all.
    fn racing_with<T>(
        &self,
        mut work: impl FnMut() -> Result<T>,
        level: impl Fn() -> Result<()>,
    ) -> Result<T> {
        for lost in 1..=limits::RACES {
            match work() {
                Err(error) if error.is_lost_race() || (self.has_others() && error.exists()) => {}
                done => return done,
            }
            if lost.is_multiple_of(limits::PATIENT_RACES) {
                level()?;
            }
        }
        Err(Error::Overtaken)
    }

    /// Makes everybody load the database again. Who has just won need not, so it is ready sooner than who has lost and
    /// wins again: this makes the odds even. Waiting instead would make them worse, as the winner does not wait.
    fn level(&self, log: &DatabaseLog) -> Result<()> {
        for _ in 0..limits::PATIENT_RACES {
            let mut batch = Batch::new();
            log.stage_nothing(&*self.rows.snapshot()?, &mut batch)?;
            let written = self.group.write(CREATION, batch, Durability::Relaxed);
            match written.map_err(Error::from) {
                Err(error) if error.is_lost_race() => {}
                done => return done,
            }
        }
        Ok(())
    }
}

impl Core {
    /// Loads the sequencer again if `found` is ahead of all that was staged here.
    fn meet(&self, found: &LogState) -> Result<()> {
        if found.version <= self.version() {
            return Ok(());
        }
        self.meet_locked(&mut self.lock_sequencer(), found)
    }

    fn meet_locked(&self, sequencer: &mut Option<Sequencer>, found: &LogState) -> Result<()> {
        let own = sequencer.as_ref().is_some_and(|sequencer| {
            !sequencer.has_failed() && sequencer.writer.state().version >= found.version
        });
        // Else it is ours, or what is staged is about to be refused and then loaded.
        if !own {
            *sequencer = Some(self.load_sequencer()?);
        }
        Ok(())
    }

    /// The state that the engine has, in a snapshot.
    fn look(&self) -> Result<(LogState, Box<dyn Snapshot>)> {
        let snapshot = self.log.engine().snapshot()?;
        let found = self.log.reader(&*snapshot).state();
        let found = found.inspect_err(|error| {
            if matches!(error, LogError::Gone(_)) {
                self.note_gone();
            }
        })?;
        Ok((found, snapshot))
    }

    /// Like [`Core::look`], and loads the sequencer again if that is ahead of all that was staged here.
    fn meet_now(&self) -> Result<(LogState, Box<dyn Snapshot>)> {
        let mut sequencer = self.lock_sequencer();
        let (found, snapshot) = self.look()?;
        if found.version > self.version() {
            self.meet_locked(&mut sequencer, &found)?;
        }
        Ok((found, snapshot))
    }
}
