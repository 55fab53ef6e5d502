//! Who can be asked, and what it costs to answer badly.

use std::collections::{BTreeMap, VecDeque};

use crate::message::RequestId;
use crate::{Dropped, SourceId, limits};

/// One source.
pub(crate) struct Source {
    connected: bool,
    dropped: Option<Dropped>,
    lies: u32,
    failures: u32,
    /// Questions for its target in a row that it did not answer.
    silences: u32,
    /// Before this time it is not asked.
    rests_until: u64,
    /// How many operations it is asked for at a time.
    pub(crate) batch: usize,
    /// Requests for operations in flight.
    pub(crate) outstanding: usize,
    /// It has no operations before this one.
    pub(crate) boundary: u64,
    /// When it is asked for its target next.
    pub(crate) ask_at: u64,
    /// Whether it is being asked for its target.
    pub(crate) asking: bool,
    /// Requests whose answers may still come.
    late: VecDeque<RequestId>,
}

impl Source {
    fn new(batch: usize) -> Self {
        Self {
            connected: false,
            dropped: None,
            lies: 0,
            failures: 0,
            silences: 0,
            rests_until: 0,
            batch,
            outstanding: 0,
            boundary: 0,
            ask_at: 0,
            asking: false,
            late: VecDeque::new(),
        }
    }

    fn is_live(&self) -> bool {
        self.connected && self.dropped.is_none()
    }

    pub(crate) fn is_ready(&self, now_ms: u64) -> bool {
        self.is_live() && self.rests_until <= now_ms
    }

    /// A verified reply of `count` operations where `asked` were asked for.
    pub(crate) fn did_well(&mut self, asked: usize, count: usize, most: usize) {
        self.failures = 0;
        if count < asked {
            self.ask_less(count);
        } else if asked >= self.batch {
            self.batch = self.batch.saturating_mul(2).min(most);
        }
    }

    /// It answered with its target.
    pub(crate) fn showed_target(&mut self) {
        self.silences = 0;
    }

    /// It did not answer with its target.
    pub(crate) fn kept_silent(&mut self, now_ms: u64) -> Option<Dropped> {
        self.silences += 1;
        self.back_off(self.silences, now_ms);
        (self.silences >= limits::FAILURES).then_some(Dropped::Failures)
    }

    /// Asks for less at a time from now on.
    pub(crate) fn ask_less(&mut self, batch: usize) {
        self.batch = batch.max(1);
    }

    pub(crate) fn rest(&mut self, until_ms: u64) {
        self.rests_until = self.rests_until.max(until_ms);
        self.ask_at = self.ask_at.max(until_ms);
    }

    pub(crate) fn forget(&mut self, id: RequestId) {
        if self.late.len() == limits::LATE_REQUESTS {
            self.late.pop_front();
        }
        self.late.push_back(id);
    }

    /// Whether a request was given up whose answer may come now, once.
    pub(crate) fn is_late(&mut self, id: RequestId) -> bool {
        let found = self.late.iter().position(|late| *late == id);
        found.and_then(|at| self.late.remove(at)).is_some()
    }

    /// A failure: it rests, longer each time. What fails while it rests was asked before, and is no other failure.
    pub(crate) fn failed(&mut self, now_ms: u64) -> Option<Dropped> {
        if self.rests_until > now_ms {
            return None;
        }
        self.failures += 1;
        self.back_off(self.failures, now_ms);
        (self.failures >= limits::FAILURES).then_some(Dropped::Failures)
    }

    /// A lie: never forgotten.
    pub(crate) fn lied(&mut self, now_ms: u64) -> Option<Dropped> {
        self.lies += 1;
        self.back_off(self.lies.saturating_mul(2), now_ms);
        (self.lies >= limits::LIES).then_some(Dropped::Lies)
    }

    fn back_off(&mut self, times: u32, now_ms: u64) {
        let doubled = limits::BACKOFF_MS.checked_shl(times.saturating_sub(1).min(16));
        let rest = doubled.unwrap_or(limits::BACKOFF_MAX_MS);
        self.rest(now_ms.saturating_add(rest.min(limits::BACKOFF_MAX_MS)));
    }
}

/// All sources, also those that are gone.
#[derive(Default)]
pub(crate) struct Sources(BTreeMap<SourceId, Source>);

impl Sources {
    /// A source that can be asked.
    pub(crate) fn get(&mut self, id: SourceId) -> Option<&mut Source> {
        self.0.get_mut(&id).filter(|source| source.is_live())
    }

    pub(crate) fn connect(
        &mut self,
        id: SourceId,
        batch: usize,
        now_ms: u64,
    ) -> Result<(), Dropped> {
        if !self.0.contains_key(&id) {
            self.make_room()?;
        }
        let source = self.0.entry(id).or_insert_with(|| Source::new(batch));
        if source.dropped == Some(Dropped::Lies) {
            return Err(Dropped::Lies);
        }
        if !source.is_live() {
            source.connected = true;
            source.dropped = None;
            source.failures = 0;
            source.silences = 0;
            source.boundary = 0;
            source.ask_at = now_ms.max(source.rests_until);
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Dropped> {
        if self.0.len() < limits::SOURCES {
            return Ok(());
        }
        let gone = |source: &Source| !source.is_live() && source.dropped != Some(Dropped::Lies);
        let gone = self.0.iter().find(|(_, source)| gone(source));
        let id = gone.map(|(id, _)| *id).ok_or(Dropped::Full)?;
        self.0.remove(&id);
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, id: SourceId) {
        if let Some(source) = self.0.get_mut(&id) {
            source.connected = false;
        }
    }

    pub(crate) fn drop(&mut self, id: SourceId, why: Dropped) {
        if let Some(source) = self.0.get_mut(&id) {
            source.dropped = Some(why);
        }
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        let live = self.0.iter().filter(|(_, source)| source.is_live());
        live.map(|(id, source)| (*id, source))
    }

    /// Who is asked for operations from `start` on: whoever has them and is busy least, none with more than
    /// its share of `outstanding` requests.
    pub(crate) fn pick(&self, start: u64, outstanding: usize, now_ms: u64) -> Option<SourceId> {
        let share = outstanding.div_ceil(self.live().count().max(1));
        self.live()
            .filter(|(_, source)| source.is_ready(now_ms) && source.boundary <= start)
            .filter(|(_, source)| source.outstanding < share)
            .min_by_key(|(_, source)| source.outstanding)
            .map(|(id, _)| id)
    }

    /// Who can be asked for its target.
    pub(crate) fn pick_for_target(&self, now_ms: u64) -> Option<SourceId> {
        self.live()
            .find(|(_, source)| {
                source.is_ready(now_ms) && !source.asking && source.ask_at <= now_ms
            })
            .map(|(id, _)| id)
    }

    /// Everybody is asked for a target now.
    pub(crate) fn ask_all(&mut self, now_ms: u64) {
        for source in self.0.values_mut() {
            source.ask_at = now_ms.max(source.rests_until);
        }
    }

    /// The next time at which somebody can be asked who cannot be asked now. `targets` if they are asked for
    /// targets.
    pub(crate) fn wake_ms(&self, targets: bool, now_ms: u64) -> u64 {
        let times = self.live().flat_map(|(_, source)| {
            let rests = source.rests_until;
            let asks = (targets && !source.asking).then_some(source.ask_at.max(rests));
            [Some(rests), asks]
        });
        let later = times.flatten().filter(|time| *time > now_ms);
        later.min().unwrap_or(u64::MAX)
    }
}
