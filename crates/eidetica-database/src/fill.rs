//! Payloads that come later, and payloads that go.
//!
//! The state rows are those of the payloads that are in the log, of the entries that are applied and not absent. Both
//! change in one batch, so this holds whenever a crash comes: a payload that comes is written with its entry's stamp, as
//! if it had been there from the first, if the entry counts now; else it is there when the entry does.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_crdt::Order;
use eidetica_entry::{Entry, Id, StoreName};
use eidetica_storage::Batch;
use eidetica_storage::log::{LogState, Mark};

use crate::apply::{Writes, writes_of};
use crate::core::Sequencer;
use crate::error::{Error, Result};
use crate::{Database, holds, limits};

/// Entries that get other payloads, and what that does to the state.
#[derive(Default)]
struct Change {
    replaced: BTreeMap<u64, Entry>,
    /// With the payloads alone that come or go, of entries that are in the state.
    written: Vec<Entry>,
    /// The same of those that are not.
    absent: BTreeMap<u64, Entry>,
    payloads: u64,
}

impl Change {
    /// `now` has other payloads than the stored entry, `part` those that are the difference.
    fn add(&mut self, arrival: u64, now: Entry, part: Entry, sequencer: &Sequencer) {
        self.payloads += payloads_of(&part).count() as u64;
        self.replaced.insert(arrival, now);
        match sequencer.writer.is_marked(Mark::Absent, arrival) {
            true => drop(self.absent.insert(arrival, part)),
            false => self.written.push(part),
        }
    }

    /// Leaves out the payloads of void entries for which there is no room: nobody waits for those.
    ///
    /// # Errors
    /// [`Error::Full`] where there is none for the others.
    fn fit(&mut self, sequencer: &Sequencer) -> Result<()> {
        let mut bytes = self.written.iter().map(bytes_of).sum();
        sequencer.check_room(bytes, 0)?;
        for (arrival, part) in std::mem::take(&mut self.absent) {
            let more = bytes + bytes_of(&part);
            match sequencer.check_room(more, 0) {
                Ok(()) => bytes = more,
                Err(_) => {
                    self.replaced.remove(&arrival);
                    self.payloads -= payloads_of(&part).count() as u64;
                }
            }
        }
        Ok(())
    }
}

fn payloads_of(part: &Entry) -> impl Iterator<Item = &Bytes> {
    part.payloads().filter_map(|(_, payload)| payload)
}

/// What they add to an entry, at most.
fn bytes_of(part: &Entry) -> usize {
    payloads_of(part).map(|payload| 8 + payload.len()).sum()
}

impl Database {
    /// Takes in payloads that stored entries lack. Others are left as they are: it does not matter how often a payload
    /// comes. An [`Entry`] has checked them against what its header says. Says how many were missing.
    pub(crate) fn fill(&self, entries: &[Entry]) -> Result<u64> {
        let mut filled = 0;
        for entries in entries.chunks(limits::FILL_STEP) {
            filled +=
                self.racing(|| self.in_sequence(|sequencer| self.fill_in(sequencer, entries)))?;
        }
        Ok(filled)
    }

    fn fill_in(&self, sequencer: &mut Sequencer, entries: &[Entry]) -> Result<u64> {
        if sequencer.writer.is_complete() {
            return Ok(0);
        }
        self.flush(sequencer)?;
        self.drain(sequencer)?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let ids: Vec<Id> = entries.iter().map(Entry::id).collect();
        let mut change = Change::default();
        for (entry, located) in entries.iter().zip(reader.locate(&ids)?) {
            let Some(arrival) = located.map(|located| located.arrival) else {
                continue;
            };
            let part = entry.with_payloads_of(|store| sequencer.writer.is_missing(store, arrival));
            let brings = part.payloads().any(|(_, payload)| payload.is_some());
            if brings && !change.replaced.contains_key(&arrival) {
                let now = reader.at(arrival)?.joined(&part);
                change.add(arrival, now, part, sequencer);
            }
        }
        change.fit(sequencer)?;
        let payloads = change.payloads;
        let written = writes_of(&change.written);
        self.write_change(change, &written, &Writes::new(), Batch::new(), sequencer)?;
        Ok(payloads)
    }

    /// Takes away the payloads of a store that is not held any more, and says how many. They may be the only ones there
    /// are: nobody is asked whether others have them.
    ///
    /// Costs a look at all entries, in bounded steps, between which others may work; meanwhile the store is incomplete.
    ///
    /// # Errors
    /// A bad name, [`Error::Held`], the engine's.
    pub fn release(&self, store: &str) -> Result<u64> {
        let store = StoreName::new(store)?;
        let (mut from, mut released) = (0, 0);
        loop {
            let step = self.racing(|| {
                self.in_sequence(|sequencer| self.release_step(sequencer, &store, from))
            })?;
            let Some((next, payloads)) = step else {
                return Ok(released);
            };
            from = next;
            released += payloads;
        }
    }

    /// Where to go on, and how many payloads went; `None` behind the last entry.
    fn release_step(
        &self,
        sequencer: &mut Sequencer,
        store: &StoreName,
        from: u64,
    ) -> Result<Option<(u64, u64)>> {
        self.flush(sequencer)?;
        self.drain(sequencer)?;
        let snapshot = self.shared().rows.snapshot()?;
        let mut batch = Batch::new();
        // It may be held again since the last step, or before this one is written: by another process.
        if holds::expect(&self.id(), &*snapshot, &mut batch)?.has(store) {
            return Err(Error::Held {
                store: store.clone(),
            });
        }
        let reader = self.core().log.reader(&*snapshot);
        let entries = reader.entries_from(from, limits::FILL_STEP)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let next = from + entries.len() as u64;
        let mut change = Change::default();
        for (arrival, entry) in (from..).zip(entries) {
            if entry.payload(store).is_some() {
                let part = entry.with_payloads_of(|name| name == store);
                change.add(arrival, entry.without_payload(store), part, sequencer);
            }
        }
        let payloads = change.payloads;
        let removed = writes_of(&change.written);
        self.write_change(change, &Writes::new(), &removed, batch, sequencer)?;
        Ok(Some((next, payloads)))
    }

    fn write_change(
        &self,
        change: Change,
        inserted: &Writes,
        removed: &Writes,
        mut batch: Batch,
        sequencer: &mut Sequencer,
    ) -> Result<()> {
        if change.replaced.is_empty() {
            return Ok(());
        }
        let staged = self.stage_change(change, inserted, removed, &mut batch, sequencer);
        let state = staged.inspect_err(|_| sequencer.fail())?;
        self.core().note_holes(&sequencer.writer);
        self.write_staged(sequencer, batch, &state)
    }

    fn stage_change(
        &self,
        change: Change,
        inserted: &Writes,
        removed: &Writes,
        batch: &mut Batch,
        sequencer: &mut Sequencer,
    ) -> Result<LogState> {
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        match removed.is_empty() {
            // Reads no more than it writes.
            true => {
                self.core()
                    .apply(inserted, Order::Any, &*snapshot, sequencer, batch, None)?;
            }
            false => {
                self.core()
                    .change(inserted, removed, &*snapshot, sequencer, batch, None)?;
            }
        }
        let mut stage = sequencer.writer.stage();
        stage.replace(&reader, change.replaced, batch)?;
        Ok(stage.finish(batch)?)
    }
}
