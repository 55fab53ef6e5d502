//! State that follows when entries change sides, at once or in steps.
//!
//! Two marks say of every entry whether it is void and whether its writes are absent from the state rows.
//! Where they differ the state is still to be *settled*: in bounded batches, each of which changes rows and
//! marks together, so that it does not matter where a crash comes between them. No read meets the state
//! meanwhile: whoever reads finishes first.

use std::collections::BTreeSet;

use eidetica_crdt::{Delta, Order, Overlay, apply_batch, remove_batch};
use eidetica_entry::{Entry, Stamp};
use eidetica_storage::log::{LogReader, Mark};
use eidetica_storage::{Batch, Durability, Snapshot};

use crate::apply::{Writes, borrowed, writes_of};
use crate::core::{Core, Sequencer, Written};
use crate::effects::Flip;
use crate::error::{Error, Result};
use crate::overlay::{Layer, View};
use crate::readahead::ReadAhead;
use crate::rows::{PackedRows, StoreRows};
use crate::{Database, limits};

/// Entries whose writes go into the state rows, and come out of them.
#[derive(Default)]
pub(crate) struct Turned {
    pub(crate) inserted: Vec<Entry>,
    pub(crate) removed: Vec<Entry>,
    /// Arrival numbers of both with what they are now: absent or not.
    pub(crate) absent: Vec<(u64, bool)>,
}

impl Turned {
    /// What flips mean for the state rows as they are staged: too many are settled later. State that is not
    /// written yet will be written right.
    pub(crate) fn at_once(
        flips: &[Flip],
        sequencer: &Sequencer,
        reader: &LogReader<'_>,
    ) -> Result<Self> {
        let applied = sequencer.writer.state().applied;
        let (written, deferred): (Vec<&Flip>, Vec<&Flip>) =
            flips.iter().partition(|flip| flip.arrival < applied);
        let mut turned = Self::default();
        if written.len() <= limits::SETTLE_AT_ONCE {
            for flip in written {
                if sequencer.writer.is_marked(Mark::Absent, flip.arrival) != flip.void {
                    turned.add(reader.at(flip.arrival)?, flip.arrival, flip.void);
                }
            }
        }
        let deferred = deferred.iter().map(|flip| (flip.arrival, flip.void));
        turned.absent.extend(deferred);
        Ok(turned)
    }

    fn add(&mut self, entry: Entry, arrival: u64, void: bool) {
        self.absent.push((arrival, void));
        match void {
            true => self.removed.push(entry),
            false => self.inserted.push(entry),
        }
    }

    /// What is inserted, besides some writes.
    fn inserted_with(&self, mut writes: Writes) -> Writes {
        for (store, more) in writes_of(&self.inserted) {
            writes.entry(store).or_default().extend(more);
        }
        writes
    }

    /// Whether no state row changes.
    fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.removed.is_empty()
    }
}

impl Core {
    /// Stages what new entries write, and what comes of those that turned.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is staged, where it is read and where it goes"
    )]
    pub(crate) fn stage_state(
        &self,
        writes: Writes,
        turned: &Turned,
        order: Order,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
        batch: &mut Batch,
        staged: Option<&mut Layer>,
    ) -> Result<()> {
        if turned.is_empty() {
            return self.apply(&writes, order, snapshot, sequencer, batch, staged);
        }
        let (inserted, removed) = (turned.inserted_with(writes), writes_of(&turned.removed));
        self.change(&inserted, &removed, snapshot, sequencer, batch, staged)
    }

    /// Like [`Core::apply`], and takes out what entries wrote.
    pub(crate) fn change(
        &self,
        inserted: &Writes,
        removed: &Writes,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
        batch: &mut Batch,
        mut staged: Option<&mut Layer>,
    ) -> Result<()> {
        let view = View::staged(snapshot, &sequencer.overlay);
        let stores: BTreeSet<_> = inserted.keys().chain(removed.keys()).collect();
        for store in stores {
            let (name, kind) = store;
            let slot = self.registry.write().slot_or_create(name, *kind, batch);
            let of = |writes: &'_ Writes| -> Vec<(Stamp, eidetica_crdt::Payload)> {
                writes.get(store).cloned().unwrap_or_default()
            };
            let (inserted, removed) = (of(inserted), of(removed));
            let mut rows = Overlay {
                base: ReadAhead::new(StoreRows { view, slot }),
                delta: Delta::new(),
            };
            remove_batch(&mut rows, *kind, &borrowed(&removed))?;
            apply_batch(&mut rows, *kind, &borrowed(&inserted), Order::Any)?;
            let changes = PackedRows::of(&rows.delta);
            changes.write(&self.registry, name, *kind, batch, staged.as_deref_mut());
        }
        Ok(())
    }
}

impl Database {
    /// Whether entries have changed sides and the state does not show it yet. It will before the next read is
    /// answered; [`catch_up`](Self::catch_up) does it now.
    pub fn is_settling(&self) -> bool {
        self.core().is_settling()
    }

    /// Waits for everything staged, under the database's lock: the engine has it then.
    pub(crate) fn drain(&self, sequencer: &mut Sequencer) -> Result<()> {
        match sequencer.has_staged() {
            true => self.confirm(sequencer),
            false => Ok(()),
        }
    }

    /// Like [`drain`](Self::drain), and looks whether another process has written where nothing is staged, too.
    fn confirm(&self, sequencer: &mut Sequencer) -> Result<()> {
        if sequencer.has_staged() {
            let group = &self.shared().group;
            let ticket = group.reserve(self.lane());
            let waited = group.commit(ticket, Batch::new(), Durability::Relaxed);
            waited.inspect_err(|_| sequencer.fail())?;
        }
        if !self.is_written(sequencer)? {
            sequencer.fail();
            return Err(Error::Overtaken);
        }
        sequencer.settle_all();
        Ok(())
    }

    /// Runs `work` under the database's lock. Called within [`racing`](Self::racing).
    ///
    /// A batch is refused where another process has written first. What is answered without one is confirmed: it is
    /// returned if it was found on what the engine has, all of what was staged here included, and is a lost race if not.
    pub(crate) fn in_sequence<T>(
        &self,
        work: impl FnOnce(&mut Sequencer) -> Result<T>,
    ) -> Result<T> {
        let mut sequencer = self.core().sequence()?;
        let before = sequencer.last_batch();
        let answer = work(&mut sequencer);
        self.confirmed(answer, before, &mut sequencer)
    }

    /// An answer that was found when the last batch was `before`; see [`in_sequence`](Self::in_sequence).
    pub(crate) fn confirmed<T>(
        &self,
        answer: Result<T>,
        before: u64,
        sequencer: &mut Sequencer,
    ) -> Result<T> {
        match answer {
            Ok(answer) if sequencer.last_batch() == before => {
                self.confirm(sequencer).map(|()| answer)
            }
            Err(error) => Err(self.confirmed_error(error, sequencer)),
            written => written,
        }
    }

    /// An error, or that another process was faster, where the error may have come of that.
    pub(crate) fn confirmed_error(&self, error: Error, sequencer: &mut Sequencer) -> Error {
        if !self.shared().has_others() || !error.is_finding() {
            return error;
        }
        match self.confirm(sequencer) {
            Err(lost) if lost.is_lost_race() => lost,
            _ => error,
        }
    }

    /// Whether what was staged is what the engine has: another process may have been faster.
    fn is_written(&self, sequencer: &Sequencer) -> Result<bool> {
        if !self.shared().has_others() {
            return Ok(true);
        }
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        Ok(reader.state()? == *sequencer.writer.state())
    }

    /// Settles a bounded part of what is still to be settled; says whether there was anything.
    pub(crate) fn settle_step(&self, sequencer: &mut Sequencer) -> Result<bool> {
        if sequencer.writer.state().is_settled() {
            return Ok(false);
        }
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let turned = unsettled(sequencer, &reader)?;
        let mut batch = Batch::new();
        self.core().change(
            &writes_of(&turned.inserted),
            &writes_of(&turned.removed),
            &*snapshot,
            sequencer,
            &mut batch,
            None,
        )?;
        let mut stage = sequencer.writer.stage();
        for (arrival, absent) in &turned.absent {
            stage.set_absent(*arrival, *absent);
        }
        let state = stage.finish(&mut batch)?;
        let written = Written::new(sequencer.next_batch(), &state);
        self.write_locked(sequencer, batch, written)?;
        Ok(true)
    }
}

/// The next entries that are void and not absent, or the other way round.
fn unsettled(sequencer: &mut Sequencer, reader: &LogReader<'_>) -> Result<Turned> {
    let mut turned = Turned::default();
    let mut bytes = 0;
    let from = sequencer.settled_below;
    let mut differing = BTreeSet::new();
    for (mark, other) in [(Mark::Void, Mark::Absent), (Mark::Absent, Mark::Void)] {
        let marks = sequencer.writer.marks(mark);
        let arrivals = marks.into_iter().flat_map(|marks| marks.iter_from(from));
        differing.extend(
            arrivals
                .filter(|arrival| !sequencer.writer.is_marked(other, *arrival))
                .take(limits::SETTLE_STEP),
        );
    }
    for arrival in differing.into_iter().take(limits::SETTLE_STEP) {
        let entry = reader.at(arrival)?;
        bytes += entry.encoded_len();
        turned.add(
            entry,
            arrival,
            sequencer.writer.is_marked(Mark::Void, arrival),
        );
        sequencer.settled_below = arrival + 1;
        if bytes >= limits::SETTLE_BYTES {
            break;
        }
    }
    if turned.is_empty() {
        return Err(Error::Corrupt("the count of unsettled entries".into()));
    }
    Ok(turned)
}
