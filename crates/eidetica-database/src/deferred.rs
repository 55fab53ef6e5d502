//! State that is written later: entries behind the `applied` watermark.
//!
//! Bulk ingest writes entries at once and their state in large sorted batches: at latest when the
//! buffer is full, somebody reads or somebody commits. The watermark is part of the version row and
//! moves in the same batch as the rows, so after a crash the rest is read from the log and applied again
//! from there, each write exactly once.

use eidetica_crdt::Order;
use eidetica_entry::{Entry, Height};
use eidetica_storage::log::forget::{Swept, sweep};
use eidetica_storage::log::{LogState, Mark};
use eidetica_storage::{Batch, KeyRange, Snapshot, Space};

use crate::apply::writes_of;
use crate::core::{Sequencer, Written};
use crate::error::Result;
use crate::ingest::WavePack;
use crate::{Database, limits};

/// Entries whose state is to be written, in arrival order.
#[derive(Default)]
pub(crate) struct Deferred {
    /// Arrival number of the first.
    from: u64,
    /// No entry that arrived before the first is higher.
    above: Height,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Deferred {
    /// Adds entries that arrive after those of `state`. If they are not behind the last one, those before are not
    /// kept here.
    pub(crate) fn add(&mut self, state: &LogState, packs: &[WavePack]) {
        let entries = || packs.iter().flat_map(|pack| &pack.entries);
        if self.entries.is_empty() || self.from + self.entries.len() as u64 != state.next_arrival {
            *self = Self {
                from: state.next_arrival,
                above: state.max_height,
                ..Self::default()
            };
        }
        self.bytes += entries().map(Entry::encoded_len).sum::<usize>();
        self.entries.extend(entries().cloned());
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= limits::DEFERRED_ENTRIES || self.bytes >= limits::DEFERRED_BYTES
    }

    /// Takes the entries out if they begin at `from`, with how they stand to those before; else they are dropped, to
    /// be read from the log.
    fn take(&mut self, from: u64) -> Option<(Vec<Entry>, Order)> {
        let taken = std::mem::take(self);
        let lowest = taken
            .entries
            .iter()
            .map(|entry| entry.header().height)
            .min()?;
        let order = match lowest > taken.above {
            true => Order::NewerThanAll,
            false => Order::Any,
        };
        (taken.from == from).then_some((taken.entries, order))
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
        while !sequencer.writer.state().is_applied() {
            let from = sequencer.writer.state().applied;
            // Nothing is applied: what rows there are were there before a repair.
            if from == 0 && self.wipe_step(sequencer)? {
                continue;
            }
            let snapshot = self.shared().rows.snapshot()?;
            let (mut entries, order) = match sequencer.deferred.take(from) {
                Some(taken) => taken,
                None => {
                    let reader = self.core().log.reader(&*snapshot);
                    let entries = reader.entries_from(from, limits::DEFERRED_ENTRIES)?;
                    (entries, Order::Any)
                }
            };
            let mut batch = Batch::new();
            let count = entries.len() as u64;
            if let Some(absent) = sequencer.writer.marks(Mark::Absent) {
                let mut arrivals = from..;
                entries.retain(|_| {
                    !arrivals
                        .next()
                        .is_some_and(|arrival| absent.contains(arrival))
                });
            }
            let writes = writes_of(&entries);
            self.core()
                .apply(&writes, order, &*snapshot, sequencer, &mut batch, None)?;
            drop(snapshot);
            let mut stage = sequencer.writer.stage();
            stage.set_applied(from + count);
            let state = stage.finish(&mut batch)?;
            let written = Written::new(sequencer.next_batch(), &state);
            self.write_locked(sequencer, batch, written)?;
        }
        Ok(())
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
