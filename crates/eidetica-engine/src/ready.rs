//! What waits: for a connection, for its turn, for the same to end.
//!
//! Each peer has a queue, and peers take turns, so that one with very much to do delays no other. Nothing that waits is
//! looked at before something has happened to its peer, or there is room for one more session.

use std::collections::{BTreeMap, VecDeque, btree_map};

use eidetica_entry::PublicKey;

use crate::work::{Same, Unit, UnitKind};

/// Which turn it is: the lower, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// What waits, of all peers.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    places: u64,
    len: usize,
    queues: BTreeMap<PublicKey, Queue>,
    /// Peers that something has happened to.
    awake: VecDeque<PublicKey>,
    /// Whose turn it is, of connected peers with something to start.
    turns: BTreeMap<Place, PublicKey>,
    /// Those who had their turn when there was room for others only.
    aside: BTreeMap<Place, PublicKey>,
}

/// What waits, of one peer.
#[derive(Debug, Default)]
struct Queue {
    /// What a connection is enough for.
    connects: Vec<UnitKind>,
    sessions: BTreeMap<Place, UnitKind>,
    /// Sessions that wait for the same to end, and keep their places.
    behind: BTreeMap<Same, (Place, UnitKind)>,
    turn: Option<Place>,
    is_awake: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.connects.is_empty() && self.sessions.is_empty() && self.behind.is_empty()
    }
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Those whom something waits for.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &PublicKey> {
        self.queues.keys()
    }

    /// What waits for the same to end.
    pub(crate) fn behind(&self, peer: &PublicKey) -> impl Iterator<Item = &UnitKind> {
        let queue = self.queues.get(peer).into_iter();
        queue.flat_map(|queue| queue.behind.values().map(|(_, kind)| kind))
    }

    /// Takes one more; it waits for `same` to end, if that runs.
    pub(crate) fn push(&mut self, unit: Unit, same: Option<Same>) {
        let Unit { peer, kind } = unit;
        let place = self.new_place();
        if let Some(same) = same {
            return self.put_behind(peer, place, kind, same);
        }
        let queue = self.queues.entry(peer).or_default();
        match kind {
            UnitKind::Connect(_) | UnitKind::Live => queue.connects.push(kind),
            UnitKind::Sync(_) | UnitKind::Call(..) => drop(queue.sessions.insert(place, kind)),
        }
        self.len += 1;
        self.wake(&peer);
    }

    /// A session keeps its place until the same has ended. Of two that wait for it, one is enough.
    pub(crate) fn put_behind(&mut self, peer: PublicKey, place: Place, kind: UnitKind, same: Same) {
        let behind = &mut self.queues.entry(peer).or_default().behind;
        if let btree_map::Entry::Vacant(free) = behind.entry(same) {
            free.insert((place, kind));
            self.len += 1;
        }
    }

    /// A session of a peer has ended.
    pub(crate) fn ended(&mut self, peer: &PublicKey, same: Option<Same>) {
        if let Some(queue) = self.queues.get_mut(peer)
            && let Some((place, kind)) = same.and_then(|same| queue.behind.remove(&same))
        {
            queue.sessions.insert(place, kind);
        }
        self.wake(peer);
    }

    /// Something has happened to a peer: it was connected, or is not any more, or has room.
    pub(crate) fn wake(&mut self, peer: &PublicKey) {
        if let Some(queue) = self.queues.get_mut(peer)
            && !std::mem::replace(&mut queue.is_awake, true)
        {
            self.awake.push_back(*peer);
        }
    }

    pub(crate) fn next_awake(&mut self) -> Option<PublicKey> {
        loop {
            let peer = self.awake.pop_front()?;
            if let Some(queue) = self.queues.get_mut(&peer) {
                queue.is_awake = false;
                return Some(peer);
            }
        }
    }

    /// Whether something waits for a connection to a peer.
    pub(crate) fn wants_connection(&self, peer: &PublicKey) -> bool {
        let wants = |queue: &Queue| !queue.connects.is_empty() || !queue.sessions.is_empty();
        self.queues.get(peer).is_some_and(wants)
    }

    /// Takes what a connection is enough for.
    pub(crate) fn take_connects(&mut self, peer: &PublicKey) -> Vec<UnitKind> {
        let Some(queue) = self.queues.get_mut(peer) else {
            return Vec::new();
        };
        let connects = std::mem::take(&mut queue.connects);
        self.len -= connects.len();
        self.tidy(peer);
        connects
    }

    /// A peer with something to start gets a turn, if it has none: after all others. One that was set aside is looked at
    /// again.
    pub(crate) fn line_up(&mut self, peer: &PublicKey) {
        let place = self.new_place();
        let Some(queue) = self.queues.get_mut(peer) else {
            return;
        };
        if !queue.sessions.is_empty() {
            let place = *queue.turn.get_or_insert(place);
            self.aside.remove(&place);
            self.turns.insert(place, *peer);
        }
    }

    /// A peer has no turn.
    pub(crate) fn leave_line(&mut self, peer: &PublicKey) {
        let queue = self.queues.get_mut(peer);
        if let Some(place) = queue.and_then(|queue| queue.turn.take()) {
            self.turns.remove(&place);
            self.aside.remove(&place);
        }
    }

    /// Whose turn it is; also of those who were set aside, if there is room for all. It is over with that.
    pub(crate) fn next_turn(&mut self, is_for_all: bool) -> Option<(Place, PublicKey)> {
        let turn = self.turns.first_key_value();
        let aside = self.aside.first_key_value().filter(|_| is_for_all);
        let (place, peer) = turn.into_iter().chain(aside).min()?;
        let (place, peer) = (*place, *peer);
        self.leave_line(&peer);
        Some((place, peer))
    }

    /// Keeps a turn until there is room for all.
    pub(crate) fn set_aside(&mut self, place: Place, peer: PublicKey) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.turn = Some(place);
            self.aside.insert(place, peer);
        }
    }

    /// Takes the session of a peer that waits the longest.
    pub(crate) fn pop(&mut self, peer: &PublicKey) -> Option<(Place, UnitKind)> {
        let popped = self.queues.get_mut(peer)?.sessions.pop_first()?;
        self.len -= 1;
        self.tidy(peer);
        Some(popped)
    }

    /// Takes what waits for a connection to a peer.
    pub(crate) fn take_waiting(&mut self, peer: &PublicKey) -> Vec<Unit> {
        let connects = self.take_connects(peer).into_iter();
        let sessions = std::iter::from_fn(|| self.pop(peer)).map(|(_, kind)| kind);
        let unit = |kind| Unit { peer: *peer, kind };
        connects.chain(sessions).map(unit).collect()
    }

    /// Takes all that waits for a peer.
    pub(crate) fn take_peer(&mut self, peer: &PublicKey) -> Vec<Unit> {
        if let Some(queue) = self.queues.get_mut(peer) {
            let behind = std::mem::take(&mut queue.behind).into_values();
            queue.sessions.extend(behind);
        }
        self.take_waiting(peer)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn new_place(&mut self) -> Place {
        self.places += 1;
        Place(self.places)
    }

    /// A peer with nothing to start has no turn, and one with nothing at all no queue.
    fn tidy(&mut self, peer: &PublicKey) {
        let Some(queue) = self.queues.get(peer) else {
            return;
        };
        let is_empty = queue.is_empty();
        if queue.sessions.is_empty() {
            self.leave_line(peer);
        }
        if is_empty {
            self.queues.remove(peer);
        }
    }
}
