//! Which operations are there, which are on their way, and which come next. Knows nothing of sources.
//!
//! Every location of a target is in exactly one place: in the log, handed over to be appended, verified and waiting
//! (`ahead`), asked for, to be asked for again (`again`), or not asked for yet (`next` and after).

use std::collections::BTreeMap;
use std::ops::Range;

use eidetica_mmr::{Frontier, Location};

use crate::{Local, Operations, Restart, Target, limits};

/// A verified range.
pub(crate) struct Ready {
    pub(crate) operations: Operations,
    /// Size and peaks before the range, as its proof showed them.
    pub(crate) pinned: Frontier,
}

/// What to do with the log.
pub(crate) enum Step {
    Restart {
        boundary: Frontier,
        why: Restart,
    },
    Append {
        start: Location,
        operations: Operations,
    },
}

/// See the module.
pub(crate) struct Fetch {
    /// The log as it was acknowledged last.
    stand: Frontier,
    boundary: Location,
    unacknowledged: usize,
    target: Option<Target>,
    /// Whether the log is known not to be the beginning of the target's.
    distrusted: bool,
    /// `None` until it is known where to begin, which needs all that was handed over acknowledged.
    plan: Option<Plan>,
    /// Plans so far: what was asked under another one is of no use.
    round: u64,
    ahead_most: usize,
}

/// The way to a target and those after it.
struct Plan {
    /// Whether the log is shown to be the beginning of the target's.
    verified: bool,
    restart: Option<Restart>,
    /// The end of what is handed over.
    handed: u64,
    next: u64,
    again: BTreeMap<u64, u64>,
    ahead: BTreeMap<u64, Ready>,
    ahead_bytes: usize,
}

impl Fetch {
    pub(crate) fn new(local: Local, ahead_most: usize) -> Self {
        Self {
            stand: local.frontier,
            boundary: local.boundary,
            unacknowledged: 0,
            target: None,
            distrusted: false,
            plan: None,
            round: 0,
            ahead_most,
        }
    }

    pub(crate) fn stand(&self) -> &Frontier {
        &self.stand
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn ahead_bytes(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.ahead_bytes)
    }

    /// Works towards another target from now on. If it is shown to continue the present one, what is on its way
    /// stays of use, unless everything up to there is unwanted now.
    pub(crate) fn follow(&mut self, target: Target, continues: bool) {
        self.target = Some(target);
        self.distrusted &= continues;
        let wanted = |plan: &Plan| target.lower().0 <= plan.handed;
        if !continues || !self.plan.as_ref().is_some_and(wanted) {
            self.replan();
        }
    }

    /// The database refused what it was given: nothing is done before another target comes.
    pub(crate) fn refused(&mut self) {
        self.unacknowledged = 0;
        self.stop();
    }

    /// Works towards nothing.
    pub(crate) fn stop(&mut self) {
        self.target = None;
        self.distrusted = false;
        self.replan();
    }

    fn replan(&mut self) {
        self.plan = None;
        self.round += 1;
        self.plan_if_settled();
    }

    fn plan_if_settled(&mut self) {
        let Some(target) = self.target else { return };
        if self.plan.is_some() || self.unacknowledged > 0 {
            return;
        }
        let leaves = self.stand.leaves();
        let restart = self.why_restart(&target);
        let start = if restart.is_some() {
            target.lower().0
        } else {
            leaves.0
        };
        // A whole log has been compared by its root, an empty one is the beginning of every other.
        let compared = leaves.0 == 0 || leaves == target.leaves();
        self.plan = Some(Plan {
            verified: restart.is_none() && compared,
            restart,
            handed: start,
            next: start,
            again: BTreeMap::new(),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
        });
    }

    fn why_restart(&self, target: &Target) -> Option<Restart> {
        let leaves = self.stand.leaves();
        let other = leaves == target.leaves() && self.stand.root() != target.root();
        let wrong = self.distrusted || leaves > target.leaves() || other;
        if wrong && leaves.0 > 0 {
            return Some(Restart::WrongPrefix);
        }
        if leaves.next() >= target.lower() && self.boundary <= target.lower() {
            return None;
        }
        Some(if leaves.0 == 0 {
            Restart::Fresh
        } else {
            Restart::Behind
        })
    }

    /// The next range to ask for, of at most so many operations; `None` if all is asked for or enough waits.
    pub(crate) fn pick(&mut self, most: usize) -> Option<Range<u64>> {
        let target = self.target?;
        let plan = self.plan.as_mut()?;
        let (start, end) = match plan.again.first_key_value() {
            Some((start, end)) => (*start, *end),
            None if plan.next < target.leaves().0 => (plan.next, target.leaves().0),
            None => return None,
        };
        if plan.ahead_bytes >= self.ahead_most && start != plan.handed {
            return None;
        }
        let stop = end.min(start.saturating_add(most as u64));
        if plan.again.remove(&start).is_none() {
            plan.next = stop;
        } else if stop < end {
            plan.again.insert(stop, end);
        }
        Some(start..stop)
    }

    /// Where the range begins that [`Fetch::pick`] would return.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let plan = self.plan.as_ref()?;
        let again = plan.again.keys().next().copied();
        let start = again.unwrap_or(plan.next);
        let room = plan.ahead_bytes < self.ahead_most || start == plan.handed;
        let left = again.is_some() || plan.next < self.target?.leaves().0;
        (room && left).then_some(start)
    }

    /// A range did not come: it will be picked again.
    pub(crate) fn give_back(&mut self, round: u64, start: u64, count: usize) {
        if round == self.round
            && let Some(plan) = &mut self.plan
        {
            plan.again.insert(start, start + count as u64);
        }
    }

    /// A range that was given back came after all and is verified, at least the beginning of it.
    pub(crate) fn put(&mut self, round: u64, start: u64, asked: usize, ready: Ready) {
        let Some(plan) = self.plan.as_mut().filter(|_| round == self.round) else {
            return;
        };
        let end = start + ready.operations.count as u64;
        plan.again.remove(&start);
        if end < start + asked as u64 {
            plan.again.insert(end, start + asked as u64);
        }
        plan.ahead_bytes += ready.operations.bytes.len();
        plan.ahead.insert(start, ready);
    }

    /// What to do with the log next, if anything can be done.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let plan = self.plan.as_mut()?;
        if self.unacknowledged >= limits::UNACKNOWLEDGED {
            return None;
        }
        let ready = plan.ahead.get(&plan.handed)?;
        if let Some(why) = plan.restart.take() {
            plan.verified = true;
            self.distrusted = false;
            self.boundary = Location(plan.handed);
            self.unacknowledged += 1;
            let boundary = ready.pinned.clone();
            return Some(Step::Restart { boundary, why });
        }
        if !plan.verified && ready.pinned != self.stand {
            self.distrusted = true;
            self.replan();
            return None;
        }
        plan.verified = true;
        let start = plan.handed;
        let ready = plan.ahead.remove(&start)?;
        plan.ahead_bytes = plan
            .ahead_bytes
            .saturating_sub(ready.operations.bytes.len());
        plan.handed += ready.operations.count as u64;
        self.unacknowledged += 1;
        Some(Step::Append {
            start: Location(start),
            operations: ready.operations,
        })
    }

    /// A step was carried out.
    pub(crate) fn acknowledge(&mut self, stand: Frontier) {
        self.stand = stand;
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if self.unacknowledged > 0 {
            return;
        }
        match (&self.plan, self.target) {
            (Some(plan), Some(target)) if plan.handed == self.stand.leaves().0 => {
                let whole = self.stand.leaves() == target.leaves();
                if whole && self.stand.root() != target.root() {
                    self.distrusted = true;
                    self.replan();
                }
            }
            // The log is not where it was led to: it is looked at anew.
            _ => self.replan(),
        }
    }

    /// Whether the log is the target's.
    pub(crate) fn is_complete(&self) -> bool {
        let (Some(target), Some(plan)) = (self.target, &self.plan) else {
            return false;
        };
        self.unacknowledged == 0
            && plan.verified
            && plan.restart.is_none()
            && self.stand.leaves() == target.leaves()
            && self.stand.root() == target.root()
    }

    /// Everything before the lower bound is forgotten once a target is complete.
    pub(crate) fn completed(&mut self, target: &Target) {
        self.boundary = self.boundary.max(target.lower());
    }
}
