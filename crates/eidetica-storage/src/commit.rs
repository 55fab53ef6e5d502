//! [`GroupCommit`]: many writers, one write and one sync for all that are ready.
//!
//! A writer takes a [`Ticket`] while it holds its database's lock, which fixes the order; it lets the
//! lock go, finishes its batch (signs) and brings it to [`GroupCommit::commit`]. Whoever finds nobody
//! writing leads: it joins all batches that are ready, of all databases, writes them and tells the
//! others. Batches of one lane are written in the order of their tickets, and a batch never goes before
//! one with an earlier ticket. What was staged on top of a batch that is refused is refused with it.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{Batch, Durability, Engine, EngineError, limits};

/// What must keep its order: the number of a database, or whatever the caller numbers likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u64);

thread_local! {
    /// The group commit that this thread is writing for; its address.
    static WRITING: Cell<usize> = const { Cell::new(0) };
}

/// Writes batches for many threads at once. Cheap to clone.
#[derive(Clone)]
pub struct GroupCommit {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    queue: Mutex<Queue>,
}

/// Wakes the one thread that waits for a batch: when its result is there, or when it is to lead. With one bell for all,
/// every group would wake everybody.
type Bell = Arc<Condvar>;

#[derive(Default)]
struct Queue {
    /// Tickets that are not written, per lane in their order. Empty lanes are removed.
    lanes: BTreeMap<Lane, VecDeque<Slot>>,
    /// Results that their writers have not fetched yet.
    results: HashMap<u64, Result<(), EngineError>>,
    next_number: u64,
    leading: bool,
    unflushed: bool,
    failed: Option<EngineError>,
    /// Lanes in which a batch was refused that others were staged on, until they are renewed.
    refused: Refused,
}

type Refused = BTreeMap<Lane, EngineError>;

struct Slot {
    number: u64,
    ready: Option<Ready>,
}

struct Ready {
    batch: Batch,
    durability: Durability,
    place: Place,
    bell: Bell,
}

/// What a batch has to do with those before it in its lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It was staged on top of them.
    OnTop,
    /// It goes behind them and is staged on none.
    Alone,
    /// What comes behind it is staged on none of them.
    Renews,
}

/// A place in the order of a lane. Dropping it unused gives the place up; batches of the same lane with
/// later tickets were staged on top of what is now missing, and their preconditions refuse them.
#[must_use = "later batches of the lane wait for this one"]
pub struct Ticket {
    shared: Arc<Shared>,
    lane: Lane,
    number: u64,
    used: bool,
}

impl GroupCommit {
    /// Group commit over `engine`. All durable writes of the lanes must go through one of these.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                queue: Mutex::default(),
            }),
        }
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// Whether this thread is in a write of this group commit: what an engine's hints say then is no news.
    #[must_use]
    pub fn is_writing_here(&self) -> bool {
        WRITING.get() == self.address()
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Takes the next place in `lane`. Call it under the lock under which the batch is staged.
    pub fn reserve(&self, lane: Lane) -> Ticket {
        let mut queue = self.shared.queue.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        let slot = Slot {
            number,
            ready: None,
        };
        queue.lanes.entry(lane).or_default().push_back(slot);
        Ticket {
            shared: Arc::clone(&self.shared),
            lane,
            number,
            used: false,
        }
    }

    /// Writes `batch` in its turn and blocks until it is done: visible, and with
    /// [`Durability::Durable`] on stable storage.
    ///
    /// Waits for all earlier tickets of the lane to be committed or dropped. So a thread that holds
    /// several tickets of one lane must use them in order.
    ///
    /// # Errors
    /// The engine's. A refusal ([`EngineError::is_refusal`]) leaves everything as it was. After a failed precondition, and
    /// after damage that the engine met where it was to write, all that is committed in the lane fails likewise until
    /// [`GroupCommit::renew`], as it was staged on top of what is not there: another process may have written what looks
    /// the same, where what was staged on it does not.
    /// Any other failure ends this group commit: all later calls fail with it.
    pub fn commit(
        &self,
        ticket: Ticket,
        batch: Batch,
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.submit(ticket, batch, durability, Place::OnTop)
    }

    fn submit(
        &self,
        ticket: Ticket,
        batch: Batch,
        durability: Durability,
        place: Place,
    ) -> Result<(), EngineError> {
        let number = ticket.number;
        let bell = Bell::default();
        ticket.submit(Ready {
            batch,
            durability,
            place,
            bell: Arc::clone(&bell),
        });
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(result) = queue.results.remove(&number) {
                return result;
            }
            let group = match queue.leading {
                true => Vec::new(),
                false => queue.take_ready(),
            };
            match group.is_empty() {
                true => bell.wait(&mut queue),
                false => self.lead(&mut queue, group),
            }
        }
    }

    /// Reserves a place and writes a batch that was staged on none before it: a refusal concerns it alone.
    ///
    /// # Errors
    /// As [`GroupCommit::commit`].
    pub fn write(
        &self,
        lane: Lane,
        batch: Batch,
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.submit(self.reserve(lane), batch, durability, Place::Alone)
    }

    /// Waits until all batches of the lane are written or refused. What is reserved from now on is staged on what is in
    /// the engine then. Writes nothing.
    ///
    /// # Errors
    /// What ended this group commit.
    pub fn renew(&self, lane: Lane) -> Result<(), EngineError> {
        let (ticket, nothing) = (self.reserve(lane), Batch::new());
        self.submit(ticket, nothing, Durability::Relaxed, Place::Renews)
    }

    /// Whether something was written relaxed and not flushed since. The owner of time calls
    /// [`GroupCommit::flush`] before the oldest of it is older than the promised delay.
    #[must_use]
    pub fn is_unflushed(&self) -> bool {
        self.shared.queue.lock().unflushed
    }

    /// How many finished batches wait for their turn now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let queue = self.shared.queue.lock();
        let slots = queue.lanes.values().flatten();
        slots.filter(|slot| slot.ready.is_some()).count()
    }

    /// Makes everything written so far survive power loss.
    ///
    /// # Errors
    /// The engine's; a failure ends this group commit.
    pub fn flush(&self) -> Result<(), EngineError> {
        let failed = {
            let mut queue = self.shared.queue.lock();
            queue.unflushed = false;
            queue.failed.clone()
        };
        let flushed = failed.map_or_else(|| self.shared.engine.flush(), Err);
        if let Err(error) = &flushed {
            let mut queue = self.shared.queue.lock();
            queue.unflushed = true;
            queue.failed.get_or_insert(error.clone());
        }
        flushed
    }

    /// Writes a group without the lock, so that the next one gathers meanwhile.
    fn lead(&self, queue: &mut MutexGuard<'_, Queue>, group: Vec<Finished>) {
        queue.leading = true;
        let failed = queue.failed.clone();
        let mut refused = mem::take(&mut queue.refused);
        let outcomes = MutexGuard::unlocked(queue, || match failed {
            Some(error) => outcomes(&group, &Err(error), Durability::Relaxed),
            None => {
                let write =
                    AssertUnwindSafe(|| write_group(&*self.shared.engine, &group, &mut refused));
                let before = WRITING.replace(self.address());
                let written = catch_unwind(write);
                WRITING.set(before);
                // A panic must not leave the others waiting for a leader that is gone.
                written.unwrap_or_else(|_| {
                    let first = "the engine panicked while writing".into();
                    outcomes(
                        &group,
                        &Err(EngineError::Poisoned { first }),
                        Durability::Relaxed,
                    )
                })
            }
        });
        for (finished, outcome) in group.iter().zip(outcomes) {
            match &outcome.result {
                // A durable write takes along whatever was written before it.
                Ok(()) => queue.unflushed = outcome.durability == Durability::Relaxed,
                Err(error) if concerns_one(error) => {}
                Err(error) => drop(queue.failed.get_or_insert(error.clone())),
            }
            queue.results.insert(finished.number, outcome.result);
            finished.bell.notify_one();
        }
        queue.refused = refused;
        queue.leading = false;
        queue.call_leader();
    }
}

/// A batch whose turn has come.
struct Finished {
    number: u64,
    lane: Lane,
    batch: Batch,
    durability: Durability,
    place: Place,
    bell: Bell,
}

/// What became of a batch, and how it was written.
struct Outcome {
    result: Result<(), EngineError>,
    durability: Durability,
}

/// The same outcome for a whole group.
fn outcomes(
    group: &[Finished],
    result: &Result<(), EngineError>,
    durability: Durability,
) -> Vec<Outcome> {
    let outcome = |_: &Finished| Outcome {
        result: result.clone(),
        durability,
    };
    group.iter().map(outcome).collect()
}

/// Writes all batches as one. If that is refused, one by one, so that each gets its own answer. One outcome for each of
/// the group, in its order.
fn write_group(engine: &dyn Engine, group: &[Finished], refused: &mut Refused) -> Vec<Outcome> {
    let joins = group.len() > 1
        && !group
            .iter()
            .any(|finished| refused.contains_key(&finished.lane));
    if joins {
        let (batch, durability) = join(group);
        match write_some(engine, &batch, durability) {
            Err(error) if concerns_one(&error) => {}
            result => return outcomes(group, &result, durability),
        }
    }
    let alone = |finished: &Finished| Outcome {
        result: write_alone(engine, finished, refused),
        durability: finished.durability,
    };
    group.iter().map(alone).collect()
}

fn write_alone(
    engine: &dyn Engine,
    finished: &Finished,
    refused: &mut Refused,
) -> Result<(), EngineError> {
    let below = match finished.place {
        Place::OnTop => refused.get(&finished.lane),
        Place::Alone => None,
        Place::Renews => {
            refused.remove(&finished.lane);
            None
        }
    };
    if let Some(error) = below {
        return Err(error.clone());
    }
    let written = write_some(engine, &finished.batch, finished.durability);
    // Of a batch that nobody could write nobody else has written the like.
    if let Err(error @ (EngineError::PreconditionFailed { .. } | EngineError::Corrupt { .. })) =
        &written
        && finished.place == Place::OnTop
    {
        refused.insert(finished.lane, error.clone());
    }
    written
}

/// Whether other batches may be written all the same: it was refused, or what it touches is damaged. An engine that cannot
/// go on after damage says so of the next batch.
fn concerns_one(error: &EngineError) -> bool {
    error.is_refusal() || matches!(error, EngineError::Corrupt { .. })
}

/// Nothing that is promised nothing needs no engine.
fn write_some(
    engine: &dyn Engine,
    batch: &Batch,
    durability: Durability,
) -> Result<(), EngineError> {
    match batch.is_empty() && durability == Durability::Relaxed {
        true => Ok(()),
        false => engine.write(batch, durability),
    }
}

fn join(group: &[Finished]) -> (Batch, Durability) {
    let mut all = Batch::with_capacity(
        group.iter().map(|finished| finished.batch.len()).sum(),
        group.iter().map(|finished| finished.batch.byte_len()).sum(),
    );
    group
        .iter()
        .for_each(|finished| all.append(&finished.batch));
    let durable = group
        .iter()
        .any(|finished| finished.durability == Durability::Durable);
    match durable {
        true => (all, Durability::Durable),
        false => (all, Durability::Relaxed),
    }
}

impl Queue {
    /// The batches that nothing unfinished stands before, oldest ticket first, up to the limits of a
    /// group.
    fn take_ready(&mut self) -> Vec<Finished> {
        let heads = self
            .lanes
            .iter()
            .filter_map(|(lane, slots)| Some((slots.front()?.number, *lane)));
        let mut heads: BinaryHeap<_> = heads.map(Reverse).collect();
        let mut group = Vec::new();
        let mut bytes = 0;
        while group.len() < limits::GROUP_BATCHES && bytes < limits::GROUP_BYTES {
            let Some(Reverse((number, lane))) = heads.pop() else {
                break;
            };
            let Some(slots) = self.lanes.get_mut(&lane) else {
                continue;
            };
            let Some(ready) = slots.front_mut().and_then(|slot| slot.ready.take()) else {
                continue;
            };
            let Ready {
                batch,
                durability,
                place,
                bell,
            } = ready;
            bytes += batch.byte_len();
            group.push(Finished {
                number,
                lane,
                batch,
                durability,
                place,
                bell,
            });
            slots.pop_front();
            heads.extend(slots.front().map(|slot| Reverse((slot.number, lane))));
        }
        self.lanes.retain(|_, slots| !slots.is_empty());
        group
    }

    /// Wakes one thread whose batch could be written now, unless somebody writes: it takes along what else is ready.
    fn call_leader(&self) {
        let mut heads = self.lanes.values().filter_map(VecDeque::front);
        let ready = heads.find_map(|slot| slot.ready.as_ref());
        if let Some(ready) = ready.filter(|_| !self.leading) {
            ready.bell.notify_one();
        }
    }
}

impl Ticket {
    fn submit(mut self, ready: Ready) {
        self.used = true;
        drop(self.with_slot(|slots, at| {
            if let Some(slot) = slots.get_mut(at) {
                slot.ready = Some(ready);
            }
        }));
    }

    /// Changes the slot of this ticket. The queue is what it is then.
    fn with_slot(&self, change: impl FnOnce(&mut VecDeque<Slot>, usize)) -> MutexGuard<'_, Queue> {
        let mut queue = self.shared.queue.lock();
        if let Some(slots) = queue.lanes.get_mut(&self.lane)
            && let Ok(at) = slots.binary_search_by_key(&self.number, |slot| slot.number)
        {
            change(slots, at);
        }
        queue.lanes.retain(|_, slots| !slots.is_empty());
        queue
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            // What stood behind this place may be ready now.
            self.with_slot(|slots, at| drop(slots.remove(at)))
                .call_leader();
        }
    }
}
