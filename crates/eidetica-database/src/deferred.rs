//! State that is written later: entries behind the `applied` watermark.
//!
//! Bulk ingest writes entries at once and their state in large sorted batches: at latest when the
//! buffer is full, somebody reads or somebody commits. The watermark is part of the version row and
//! moves in the same batch as the rows, so after a crash the rest is read from the log and applied again
//! from there, each write exactly once.
//!
//! While entries still come in, what a full buffer does to the state is computed beside them, and written when the
//! next buffer is full. Nobody else changes state rows meanwhile: who would has the rest written first, but for entries
//! that change sides, of which what was computed knows nothing. It is dropped then.

use std::thread::{self, JoinHandle};

use eidetica_crdt::Order;
use eidetica_entry::Height;
use eidetica_storage::log::forget::{Swept, sweep};
use eidetica_storage::log::{LogState, Mark};
use eidetica_storage::{Batch, KeyRange, Snapshot, Space};

use crate::apply::{Changed, Encoded, changed_by, decoded};
use crate::core::{Sequencer, Written};
use crate::error::{Error, Result};
use crate::ingest::WavePack;
use crate::registry::Registry;
use crate::rows::PackedRows;
use crate::{Database, limits};

/// Entries whose state is to be written: what they bring to it, in arrival order.
#[derive(Default)]
pub(crate) struct Deferred {
    /// Arrival number of the first.
    from: u64,
    /// No entry that arrived before the first is higher.
    above: Height,
    /// Height of the lowest.
    lowest: Height,
    count: u64,
    /// Each with the arrival number of its entry.
    payloads: Vec<(u64, Encoded)>,
    bytes: usize,
}

/// What is taken out of [`Deferred`].
struct Taken {
    count: u64,
    payloads: Vec<(u64, Encoded)>,
    order: Order,
}

/// Where it is computed.
const STATE_THREAD: &str = "eidetica-state";

/// What deferred entries do to the state rows, while it is computed on a thread of its own. That ends before this does.
pub(crate) struct Computing {
    /// Arrival number of the first entry.
    from: u64,
    count: u64,
    thread: Option<JoinHandle<Result<Vec<Changed>>>>,
    done: Option<Result<Vec<Changed>>>,
}

impl Computing {
    /// Of the rows in `snapshot`, which hold the state of all entries before `from`.
    fn start(
        from: u64,
        taken: Taken,
        registry: Registry,
        snapshot: Box<dyn Snapshot>,
    ) -> Result<Self> {
        let count = taken.count;
        let compute = move || {
            let payloads = taken.payloads.into_iter().map(|(_, payload)| payload);
            let writes = decoded(payloads.collect());
            changed_by(&writes, taken.order, &*snapshot, &registry)
        };
        let spawned = thread::Builder::new()
            .name(STATE_THREAD.into())
            .spawn(compute);
        let stopped = |error| Error::Stopped(format!("computing state: {error}"));
        Ok(Self {
            from,
            count,
            thread: Some(spawned.map_err(stopped)?),
            done: None,
        })
    }

    /// Why it came to nothing, if it did. Waits for it.
    fn failure(&mut self) -> Option<&Error> {
        self.join();
        self.done.as_ref()?.as_ref().err()
    }

    fn wait(mut self) -> Result<Vec<Changed>> {
        self.join();
        self.done.take().unwrap_or_else(|| {
            let ended = "computing state ended early";
            Err(Error::Stopped(ended.into()))
        })
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.done = thread.join().ok();
        }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        // It reads what may be closed next.
        self.join();
    }
}

impl Deferred {
    /// Adds entries that arrive after those of `state`. If they are not behind the last one, those before are not
    /// kept here.
    pub(crate) fn add(&mut self, state: &LogState, packs: &[WavePack]) {
        if self.count == 0 || self.from + self.count != state.next_arrival {
            *self = Self {
                from: state.next_arrival,
                above: state.max_height,
                lowest: Height(u64::MAX),
                ..Self::default()
            };
        }
        for pack in packs {
            for entry in &pack.entries {
                let arrival = self.from + self.count;
                self.count += 1;
                self.lowest = self.lowest.min(entry.header().height);
                for payload in Encoded::of(entry) {
                    self.bytes += payload.size();
                    // A few entries of a pack must not keep all of it, which nobody has counted.
                    let payload = match pack.is_whole() {
                        true => payload,
                        false => payload.apart(),
                    };
                    self.payloads.push((arrival, payload));
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn payloads(&self) -> impl Iterator<Item = &Encoded> {
        self.payloads.iter().map(|(_, payload)| payload)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count >= limits::DEFERRED_ENTRIES || self.bytes >= limits::DEFERRED_BYTES
    }

    fn begins_at(&self, arrival: u64) -> bool {
        self.count > 0 && self.from == arrival
    }

    /// Takes everything out if it begins at `from`, with how it stands to what was before. If it begins later it stays,
    /// and the log is to be read up to there; if it began earlier it is dropped.
    fn take(&mut self, from: u64) -> Result<Taken, Option<u64>> {
        if self.count > 0 && self.from > from {
            return Err(Some(self.from));
        }
        let taken = std::mem::take(self);
        if taken.count == 0 || taken.from < from {
            return Err(None);
        }
        Ok(Taken {
            count: taken.count,
            payloads: taken.payloads,
            order: match taken.lowest > taken.above {
                true => Order::NewerThanAll,
                false => Order::Any,
            },
        })
    }
}

impl Database {
    /// Writes the state of all entries that have arrived, so that reads need not wait for it.
    ///
    /// Does nothing unless a bulk ingest went before.
    ///
    /// # Errors
    /// The engine's.
    pub fn catch_up(&self) -> Result<()> {
        if !self.core().is_behind() {
            return Ok(());
        }
        self.racing(|| {
            let mut sequencer = self.core().sequence()?;
            self.flush(&mut sequencer)
        })
    }

    /// What is in the engine, with the state of all entries that had arrived when this was called.
    pub(crate) fn state_snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(self.settled()?.1)
    }

    /// Applies everything behind the watermark and settles what changed sides, under the database's lock.
    pub(crate) fn flush(&self, sequencer: &mut Sequencer) -> Result<()> {
        let flushed = self.apply_deferred(sequencer).and_then(|()| {
            while self.settle_step(sequencer)? {}
            Ok(())
        });
        if let Err(error) = flushed {
            // Where it ends half way, stores may have numbers that no row says.
            sequencer.fail();
            return Err(self.confirmed_error(error, sequencer));
        }
        self.core().note_state(sequencer.writer.state());
        Ok(())
    }

    fn apply_deferred(&self, sequencer: &mut Sequencer) -> Result<()> {
        drop_failed(sequencer);
        while !sequencer.writer.state().is_applied() {
            if sequencer.computing.is_none() {
                self.compute_deferred(sequencer)?;
            }
            self.write_computed(sequencer)?;
        }
        Ok(())
    }

    /// Writes the state that was computed beside the last entries, if there is any, and has that of the deferred ones
    /// computed beside the next. Where there is more behind the watermark than those, or something is to be settled, it
    /// writes all.
    pub(crate) fn flush_beside(&self, sequencer: &mut Sequencer) -> Result<()> {
        drop_failed(sequencer);
        let begun = self.write_computed(sequencer).and_then(|()| {
            let state = sequencer.writer.state();
            let is_next = state.is_settled() && sequencer.deferred.begins_at(state.applied);
            match is_next {
                true => self.compute_deferred(sequencer).map(|()| true),
                false => Ok(false),
            }
        });
        match begun {
            Ok(true) => Ok(()),
            Ok(false) => self.flush(sequencer),
            Err(error) => {
                sequencer.fail();
                Err(self.confirmed_error(error, sequencer))
            }
        }
    }

    /// Begins to compute the state of what is behind the watermark, or of the first part of that.
    fn compute_deferred(&self, sequencer: &mut Sequencer) -> Result<()> {
        let from = sequencer.writer.state().applied;
        // Nothing is applied: what rows there are were there before a repair.
        while from == 0 && self.wipe_step(sequencer)? {}
        let snapshot = self.shared().rows.snapshot()?;
        let mut taken = match sequencer.deferred.take(from) {
            Ok(taken) => taken,
            Err(end) => self.read_deferred(from, end, &*snapshot)?,
        };
        if let Some(absent) = sequencer.writer.marks(Mark::Absent) {
            let payloads = &mut taken.payloads;
            payloads.retain(|(arrival, _)| !absent.contains(*arrival));
        }
        let registry = self.core().registry.read().clone();
        sequencer.computing = Some(Computing::start(from, taken, registry, snapshot)?);
        Ok(())
    }

    fn write_computed(&self, sequencer: &mut Sequencer) -> Result<()> {
        let Some(computing) = sequencer.computing.take() else {
            return Ok(());
        };
        let applied = computing.from + computing.count;
        let changed = computing.wait()?;
        let parts = changed.iter().flat_map(|store| &store.parts);
        let (rows, bytes): (Vec<_>, Vec<_>) = parts.map(PackedRows::size).unzip();
        let mut batch = Batch::with_capacity(rows.iter().sum(), bytes.iter().sum());
        for Changed { name, kind, parts } in changed {
            for part in parts {
                part.write(&self.core().registry, &name, kind, &mut batch, None);
            }
        }
        let mut stage = sequencer.writer.stage();
        stage.set_applied(applied);
        let state = stage.finish(&mut batch)?;
        let written = Written::new(sequencer.next_batch(), &state);
        self.write_locked(sequencer, batch, written)
    }

    /// What of the log is behind the watermark, up to `end` if it says so, or the first part of that.
    fn read_deferred(&self, from: u64, end: Option<u64>, snapshot: &dyn Snapshot) -> Result<Taken> {
        let reader = self.core().log.reader(snapshot);
        let most = match end.map(|end| usize::try_from(end - from)) {
            Some(Ok(count)) => count.min(limits::APPLIED_AT_ONCE),
            _ => limits::APPLIED_AT_ONCE,
        };
        let entries = reader.entries_from(from, most)?;
        let numbered = (from..).zip(&entries);
        Ok(Taken {
            count: entries.len() as u64,
            payloads: numbered
                .flat_map(|(arrival, entry)| Encoded::of(entry).map(move |of| (arrival, of)))
                .collect(),
            order: Order::Any,
        })
    }

    /// Takes away a bounded part of the state rows; says whether there were any.
    fn wipe_step(&self, sequencer: &mut Sequencer) -> Result<bool> {
        let snapshot = self.shared().rows.snapshot()?;
        let range = KeyRange::prefix(self.core().log.no().prefix());
        let (mut swept, mut batch) = (Swept::default(), Batch::new());
        for space in [Space::State, Space::Versions] {
            if !sweep(&*snapshot, space, &range, &mut swept, &mut batch)? {
                break;
            }
        }
        drop(snapshot);
        if swept.rows == 0 {
            return Ok(false);
        }
        let state = sequencer.writer.stage().finish(&mut batch)?;
        let written = Written::new(sequencer.next_batch(), &state);
        self.write_locked(sequencer, batch, written)?;
        Ok(true)
    }
}

/// What failed while entries came in is no error of who asks now: it is computed again, from the log.
fn drop_failed(sequencer: &mut Sequencer) {
    if let Some(error) = sequencer.computing.as_mut().and_then(Computing::failure) {
        tracing::warn!(%error, "state is computed again");
        sequencer.computing = None;
    }
}
