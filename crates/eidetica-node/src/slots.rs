//! Places that are few: counted, and some kept for peers that were known before.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use eidetica_entry::PublicKey;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Things of which only so many may be, the oldest going first: each ends when its token is cancelled, and cancels
/// it when it ends.
#[derive(Default)]
pub(crate) struct Turns {
    running: VecDeque<CancellationToken>,
}

impl Turns {
    /// One more, which ends with this token; at most `limit` of them.
    pub(crate) fn enter(&mut self, token: CancellationToken, limit: usize) {
        self.add(token);
        if self.running.len() > limit
            && let Some(oldest) = self.running.pop_front()
        {
            oldest.cancel();
        }
    }

    /// One more, however many there are.
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

/// A number of places, shared alike: where none is left, whoever has most gives its oldest up to one that has less.
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
    next: u64,
    /// What each device has, the oldest first, apart by whether it was known when it came.
    devices: HashMap<Holder, VecDeque<Place>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Holder {
    device: PublicKey,
    known: bool,
}

struct Place {
    no: u64,
    /// What runs there ends with it.
    token: CancellationToken,
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

    /// A place, if there is one for this device. The token is cancelled when it is given to another device.
    /// O(devices with a place) where all are taken.
    pub(crate) fn take(
        self: &Arc<Self>,
        device: PublicKey,
        known: bool,
        token: &CancellationToken,
    ) -> Option<Slot> {
        let holder = Holder { device, known };
        let mut taken = self.taken.lock();
        let is_full = taken.all >= self.total;
        if is_full || (!known && taken.strangers >= self.strangers) {
            taken.make_room(holder, is_full && known)?;
        }
        let no = taken.next;
        taken.next += 1;
        taken.all += 1;
        taken.strangers += usize::from(!known);
        taken.devices.entry(holder).or_default().push_back(Place {
            no,
            token: token.clone(),
        });
        Some(Slot {
            slots: Arc::clone(self),
            holder,
            no,
        })
    }
}

impl Taken {
    /// Takes the oldest place of who has most, of strangers or of anybody, if that one has more left than `holder` then has.
    fn make_room(&mut self, holder: Holder, of_anybody: bool) -> Option<()> {
        let held = self.devices.get(&holder).map_or(0, VecDeque::len);
        let others = self.devices.iter();
        let (most, places) = others
            .filter(|(other, _)| of_anybody || !other.known)
            .max_by_key(|(_, places)| places.len())?;
        let oldest = places.front().filter(|_| places.len() > held + 1)?;
        oldest.token.cancel();
        let (most, no) = (*most, oldest.no);
        self.give_back(&most, no);
        Some(())
    }

    /// Nothing where it was taken away before.
    fn give_back(&mut self, holder: &Holder, no: u64) {
        let Some(places) = self.devices.get_mut(holder) else {
            return;
        };
        let Ok(at) = places.binary_search_by_key(&no, |place| place.no) else {
            return;
        };
        places.remove(at);
        if places.is_empty() {
            self.devices.remove(holder);
        }
        self.all -= 1;
        self.strangers -= usize::from(!holder.known);
    }
}

/// A place, given back when dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    holder: Holder,
    no: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.lock().give_back(&self.holder, self.no);
    }
}

#[cfg(test)]
mod tests {
    use eidetica_auth::SecretKey;

    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut turns = Turns::default();
        let mut enter = || {
            let token = CancellationToken::new();
            turns.enter(token.clone(), 2);
            token
        };
        let tokens: Vec<_> = (0..3).map(|_| enter()).collect();
        let cancelled: Vec<_> = tokens.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(cancelled, [true, false, false]);
        tokens[1].cancel();
        let another = enter();
        assert!(!tokens[2].is_cancelled() && !another.is_cancelled());
        tokens[2].cancel();
        another.cancel();
        assert!(turns.is_empty());
    }

    fn key(number: u8) -> PublicKey {
        SecretKey::from_bytes(&[number; 32]).public()
    }

    #[test]
    fn strangers_leave_room_for_known_peers() {
        let slots = Slots::new(3, 1);
        let take = |number, known| slots.take(key(number), known, &CancellationToken::new());
        let strangers = [take(1, false), take(2, false)];
        assert!(strangers.iter().all(Option::is_some) && take(3, false).is_none());
        let known = take(4, true);
        assert!(known.is_some() && take(5, true).is_none());
        drop(strangers);
        assert!(take(1, false).is_some());
        let all = [take(5, true), take(6, true)];
        assert!(all.iter().all(Option::is_some) && take(1, false).is_none());
    }

    /// Three devices that took all that strangers may have leave each honest one as many as each of them keeps.
    #[test]
    fn who_has_most_gives_up_to_who_has_less() {
        let slots = Slots::new(16, 4);
        let greedy: Vec<_> = (0..12)
            .map(|number| {
                let token = CancellationToken::new();
                let slot = slots.take(key(number % 3), false, &token);
                (slot.unwrap(), token)
            })
            .collect();
        let ended = |slots: &[(Slot, CancellationToken)]| {
            let ended = slots.iter().map(|(_, token)| token.is_cancelled());
            ended.filter(|ended| *ended).count()
        };
        // One that has as much as they gets no more.
        assert!(
            slots
                .take(key(0), false, &CancellationToken::new())
                .is_none()
        );
        let mut honest = Vec::new();
        for number in 3..15 {
            let token = CancellationToken::new();
            let Some(slot) = slots.take(key(number), false, &token) else {
                break;
            };
            honest.push((slot, token));
            assert_eq!(ended(&greedy), honest.len());
        }
        // Then all twelve places are of different devices.
        assert_eq!((honest.len(), ended(&honest)), (9, 0));
        // The oldest went, and ending them gives nothing back a second time.
        assert!(greedy[..9].iter().all(|(_, token)| token.is_cancelled()));
        drop(greedy);
        let again: Vec<_> = (20..23)
            .map(|number| slots.take(key(number), false, &CancellationToken::new()))
            .collect();
        assert!(again.iter().all(Option::is_some));
        assert!(
            slots
                .take(key(23), false, &CancellationToken::new())
                .is_none()
        );
        drop((again, honest));
        assert!(slots.taken.lock().devices.is_empty());
    }

    /// Known peers share all places alike with everybody.
    #[test]
    fn a_known_peer_finds_a_place_among_known_ones() {
        let slots = Slots::new(4, 2);
        let token = CancellationToken::new();
        let held: Vec<_> = (0..4).map(|_| slots.take(key(1), true, &token)).collect();
        assert!(held.iter().all(Option::is_some) && !token.is_cancelled());
        assert!(
            slots
                .take(key(2), false, &CancellationToken::new())
                .is_none()
        );
        assert!(
            slots
                .take(key(2), true, &CancellationToken::new())
                .is_some()
                && token.is_cancelled()
        );
    }
}
