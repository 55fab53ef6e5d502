//! Places that are few: counted, and some kept for peers that were known before.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Things of which only so many may be, the oldest going first: each ends when its token is cancelled, and cancels
/// it when it ends.
#[derive(Default)]
pub(crate) struct Turns {
    running: VecDeque<CancellationToken>,
}

impl Turns {
    /// One more, at most `limit` of them.
    pub(crate) fn enter(&mut self, limit: usize) -> CancellationToken {
        let token = CancellationToken::new();
        self.add(token.clone());
        if self.running.len() > limit
            && let Some(oldest) = self.running.pop_front()
        {
            oldest.cancel();
        }
        token
    }

    /// One more, which ends with this token.
    pub(crate) fn add(&mut self, token: CancellationToken) {
        self.tidy();
        self.running.push_back(token);
    }

    /// Ends all.
    pub(crate) fn end(&mut self) {
        self.running.drain(..).for_each(|token| token.cancel());
    }

    /// Whether none runs any more.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.tidy();
        self.running.is_empty()
    }

    fn tidy(&mut self) {
        self.running.retain(|token| !token.is_cancelled());
    }
}

/// A number of places.
pub(crate) struct Slots {
    total: usize,
    /// How many strangers may have.
    strangers: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    strangers: usize,
}

impl Slots {
    /// `total` places, of which `reserved` are for known peers only.
    pub(crate) fn new(total: usize, reserved: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            strangers: total.saturating_sub(reserved),
            taken: Mutex::default(),
        })
    }

    /// A place, if there is one.
    pub(crate) fn take(self: &Arc<Self>, known: bool) -> Option<Slot> {
        let mut taken = self.taken.lock();
        if taken.all >= self.total || (!known && taken.strangers >= self.strangers) {
            return None;
        }
        taken.all += 1;
        taken.strangers += usize::from(!known);
        Some(Slot {
            slots: Arc::clone(self),
            known,
        })
    }
}

/// A place, given back when dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    known: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.all -= 1;
        taken.strangers -= usize::from(!self.known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut turns = Turns::default();
        let tokens: Vec<_> = (0..3).map(|_| turns.enter(2)).collect();
        let cancelled: Vec<_> = tokens.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(cancelled, [true, false, false]);
        tokens[1].cancel();
        let another = turns.enter(2);
        assert!(!tokens[2].is_cancelled() && !another.is_cancelled());
        tokens[2].cancel();
        another.cancel();
        assert!(turns.is_empty());
    }

    #[test]
    fn strangers_leave_room_for_known_peers() {
        let slots = Slots::new(3, 1);
        let strangers = [slots.take(false), slots.take(false)];
        assert!(strangers.iter().all(Option::is_some) && slots.take(false).is_none());
        let known = slots.take(true);
        assert!(known.is_some() && slots.take(true).is_none());
        drop(strangers);
        assert!(slots.take(false).is_some());
        let all = [slots.take(true), slots.take(true)];
        assert!(all.iter().all(Option::is_some) && slots.take(false).is_none());
    }
}
