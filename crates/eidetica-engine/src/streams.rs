//! Live streams: those that this node opened and those that others opened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{Digest, Holding, limits as protocol_limits, set_hash};

use crate::{LinkId, StreamId, due::Due, limits};

const FIRST: Id = Id::new([0; 32]);

/// One live stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) peer: PublicKey,
    /// The link that it runs on, if this node opened it.
    pub(crate) link: Option<LinkId>,
    pub(crate) since_ms: u64,
    /// When the peer last answered that all is as it should be (opened by this node).
    pub(crate) checked_ms: Option<u64>,
    /// What it is about, and what the peer is known to have of it.
    pub(crate) databases: BTreeMap<Id, Held>,
}

/// What a peer is known to have of a database since its stream is there.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) digest: Digest,
    /// What of the payloads.
    pub(crate) holding: Option<Holding>,
}

/// A peer that is to be reached again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reconnect {
    pub(crate) attempts: u32,
    /// Whether the peer was reached and takes no stream: then there are rounds instead.
    pub(crate) is_refused: bool,
    pub(crate) error: Option<String>,
}

/// Peers that are to be reached again.
#[derive(Debug, Default)]
pub(crate) struct Reconnects {
    all: BTreeMap<PublicKey, Reconnect>,
    /// When; none of those that are being dialled.
    pub(crate) due: Due<PublicKey>,
}

impl Reconnects {
    pub(crate) fn get(&self, peer: &PublicKey) -> Option<&Reconnect> {
        self.all.get(peer)
    }

    pub(crate) fn put(&mut self, peer: PublicKey, reconnect: Reconnect, due_ms: u64) {
        self.all.insert(peer, reconnect);
        self.due.set(peer, due_ms);
    }

    /// Whether a peer is to be dialled now: it is from then on.
    pub(crate) fn dial(&mut self, peer: &PublicKey, now_ms: u64) -> bool {
        let is_due = match self.all.contains_key(peer) {
            true => self.due.get(peer).is_some_and(|due| now_ms >= due),
            false => true,
        };
        if is_due {
            self.all.entry(*peer).or_default();
            self.due.remove(peer);
        }
        is_due
    }

    pub(crate) fn remove(&mut self, peer: &PublicKey) {
        self.all.remove(peer);
        self.due.remove(peer);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The subscriptions of devices that were here before.
#[derive(Debug, Default)]
struct Remembered {
    by_device: BTreeMap<PublicKey, Vec<Id>>,
    order: VecDeque<PublicKey>,
    ids: usize,
}

impl Remembered {
    fn put(&mut self, device: PublicKey, databases: Vec<Id>) {
        self.forget(&device);
        self.ids += databases.len();
        self.order.push_back(device);
        self.by_device.insert(device, databases);
        while self.ids > limits::SUBSCRIPTIONS || self.order.len() > limits::STREAMS {
            let Some(oldest) = self.order.front().copied() else {
                return;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, device: &PublicKey) {
        if let Some(gone) = self.by_device.remove(device) {
            self.ids -= gone.len();
            self.order.retain(|other| other != device);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    next: u64,
    all: BTreeMap<StreamId, Stream>,
    by_database: BTreeMap<Id, BTreeSet<StreamId>>,
    by_peer: BTreeMap<PublicKey, BTreeSet<StreamId>>,
    /// When those that this node opened are asked again.
    checks: Due<StreamId>,
    /// What peers are to tell us of: those that one is synced with at once. The stream that this node opened to a peer
    /// is about the first of them, as many as it may be.
    wanted: BTreeSet<(PublicKey, Id)>,
    /// Databases that others have subscribed to, each as often as it is.
    subscriptions: usize,
    remembered: Remembered,
    pub(crate) reconnects: Reconnects,
}

impl Streams {
    fn add(&mut self, stream: Stream) -> StreamId {
        self.next += 1;
        let id = StreamId(self.next);
        self.by_peer.entry(stream.peer).or_default().insert(id);
        self.all.insert(id, stream);
        id
    }

    /// One that this node opens.
    pub(crate) fn dial(
        &mut self,
        peer: PublicKey,
        link: LinkId,
        databases: &[Id],
        now_ms: u64,
    ) -> StreamId {
        let stream = Stream {
            peer,
            link: Some(link),
            since_ms: now_ms,
            checked_ms: None,
            databases: BTreeMap::new(),
        };
        let id = self.add(stream);
        let check_ms = now_ms.saturating_add(limits::CHECK_MS);
        self.checks.set(id, check_ms);
        self.route(id, databases);
        id
    }

    /// A peer is to tell us of a database from now on, or is not any more. What the stream is about is another matter: see
    /// [`replace`](Self::replace).
    pub(crate) fn want(&mut self, peer: &PublicKey, database: &Id, is_wanted: bool) {
        match is_wanted {
            true => self.wanted.insert((*peer, *database)),
            false => self.wanted.remove(&(*peer, *database)),
        };
    }

    /// A peer is to tell us of nothing any more.
    pub(crate) fn want_none(&mut self, peer: &PublicKey) {
        let gone: Vec<Id> = self.wanted_from(peer, FIRST).collect();
        gone.iter().for_each(|id| self.want(peer, id, false));
    }

    /// Whether a peer is to tell us of anything.
    pub(crate) fn wants(&self, peer: &PublicKey) -> bool {
        self.wanted_from(peer, FIRST).next().is_some()
    }

    /// What a peer is to tell us of, as much as one stream may be about.
    pub(crate) fn wanted(&self, peer: &PublicKey) -> Vec<Id> {
        let wanted = self.wanted_from(peer, FIRST);
        wanted.take(protocol_limits::LIVE_DATABASES).collect()
    }

    fn wanted_from(&self, peer: &PublicKey, first: Id) -> impl Iterator<Item = Id> {
        let range = (*peer, first)..=(*peer, Id::new([0xff; 32]));
        self.wanted.range(range).map(|(_, id)| *id)
    }

    /// What the stream that this node opened to a peer is to be about no more, and what it is to be about as well, where
    /// it is about what was wanted before one database was, or was not any more.
    pub(crate) fn replace(&self, stream: &Stream, database: &Id) -> (Option<Id>, Option<Id>) {
        let has = stream.databases.contains_key(database);
        let is_wanted = self.wanted.contains(&(stream.peer, *database));
        let last = stream.databases.keys().next_back().copied();
        let is_full = stream.databases.len() >= protocol_limits::LIVE_DATABASES;
        match (has, is_wanted) {
            (true, false) => {
                let from = last.unwrap_or(FIRST);
                let beyond = self.wanted_from(&stream.peer, from);
                let next = beyond.into_iter().find(|id| Some(*id) != last);
                (Some(*database), next)
            }
            (false, true) if !is_full => (None, Some(*database)),
            (false, true) if last > Some(*database) => (last, Some(*database)),
            _ => (None, None),
        }
    }

    /// One that a peer opened, and the databases that are remembered of it. None if there is no room.
    pub(crate) fn accept(
        &mut self,
        peer: PublicKey,
        is_known: bool,
        set: &[u8; 32],
        now_ms: u64,
    ) -> Option<(StreamId, Vec<Id>)> {
        let accepted = self
            .all
            .values()
            .filter(|stream| stream.link.is_none())
            .count();
        let most = if is_known {
            limits::STREAMS
        } else {
            limits::STREAMS - limits::STREAMS_FOR_KNOWN
        };
        if accepted >= most {
            return None;
        }
        let id = self.add(Stream {
            peer,
            link: None,
            since_ms: now_ms,
            checked_ms: None,
            databases: BTreeMap::new(),
        });
        let databases = self.remembered_of(&peer, set).unwrap_or_default();
        if self.subscribe(id, is_known, &databases) {
            return Some((id, databases));
        }
        self.remove(id);
        None
    }

    /// Takes the subscriptions of a stream that a peer opened; false if there is no room.
    pub(crate) fn subscribe(&mut self, id: StreamId, is_known: bool, databases: &[Id]) -> bool {
        let most = if is_known {
            limits::SUBSCRIPTIONS
        } else {
            limits::SUBSCRIPTIONS - limits::SUBSCRIPTIONS_FOR_KNOWN
        };
        if self.subscriptions + databases.len() > most {
            return false;
        }
        self.subscriptions += self.route(id, databases);
        true
    }

    /// What a device was subscribed to on a stream that has ended, or is on one that may have, if it is this set.
    fn remembered_of(&self, device: &PublicKey, set: &[u8; 32]) -> Option<Vec<Id>> {
        let accepted = self.of(device).filter(|(_, stream)| stream.link.is_none());
        let sets = accepted.map(|(_, stream)| stream.databases.keys().copied().collect());
        let before = self.remembered.by_device.get(device).cloned();
        let mut sets = sets.chain(before);
        sets.find(|databases: &Vec<Id>| set_hash(databases) == *set)
    }

    /// How many are new.
    pub(crate) fn route(&mut self, id: StreamId, databases: &[Id]) -> usize {
        let Some(stream) = self.all.get_mut(&id) else {
            return 0;
        };
        let before = stream.databases.len();
        for database in databases {
            stream.databases.entry(*database).or_default();
            self.by_database.entry(*database).or_default().insert(id);
        }
        stream.databases.len() - before
    }

    pub(crate) fn unsubscribe(&mut self, id: StreamId, databases: &[Id]) {
        let gone = self.unroute(id, databases);
        if self
            .all
            .get(&id)
            .is_some_and(|stream| stream.link.is_none())
        {
            self.subscriptions -= gone;
        }
    }

    fn unroute(&mut self, id: StreamId, databases: &[Id]) -> usize {
        let Some(stream) = self.all.get_mut(&id) else {
            return 0;
        };
        let before = stream.databases.len();
        for database in databases {
            stream.databases.remove(database);
            if let Some(streams) = self.by_database.get_mut(database) {
                streams.remove(&id);
                if streams.is_empty() {
                    self.by_database.remove(database);
                }
            }
        }
        before - stream.databases.len()
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let databases: Vec<Id> = self.all.get(&id)?.databases.keys().copied().collect();
        let gone = self.unroute(id, &databases);
        let stream = self.all.remove(&id)?;
        if stream.link.is_none() {
            self.subscriptions -= gone;
            if gone > 0 {
                self.remembered.put(stream.peer, databases);
            }
        }
        self.checks.remove(&id);
        if let Some(streams) = self.by_peer.get_mut(&stream.peer) {
            streams.remove(&id);
            if streams.is_empty() {
                self.by_peer.remove(&stream.peer);
            }
        }
        Some(stream)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.all.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&StreamId, &Stream)> {
        self.all.iter()
    }

    /// Those with a peer.
    pub(crate) fn of(&self, peer: &PublicKey) -> impl Iterator<Item = (StreamId, &Stream)> {
        let ids = self.by_peer.get(peer).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// The one that this node opened to a peer.
    pub(crate) fn dialled(&self, peer: &PublicKey) -> Option<(StreamId, &Stream)> {
        self.of(peer).find(|(_, stream)| stream.link.is_some())
    }

    /// The one that this node opened to a peer, if it is about the database.
    pub(crate) fn dialled_about(
        &self,
        peer: &PublicKey,
        database: &Id,
    ) -> Option<(StreamId, &Stream)> {
        self.dialled(peer)
            .filter(|(_, stream)| stream.databases.contains_key(database))
    }

    /// A stream for each peer that is to hear of a database: where there are two, the one that this node opened.
    pub(crate) fn about(&self, database: &Id) -> Vec<StreamId> {
        let mut by_peer: BTreeMap<PublicKey, (bool, StreamId)> = BTreeMap::new();
        for id in self.by_database.get(database).into_iter().flatten() {
            if let Some(stream) = self.all.get(id) {
                let candidate = (stream.link.is_none(), *id);
                let best = by_peer.entry(stream.peer).or_insert(candidate);
                *best = candidate.min(*best);
            }
        }
        by_peer.into_values().map(|(_, id)| id).collect()
    }

    /// The peer is known to have this.
    pub(crate) fn note(&mut self, id: StreamId, database: &Id, digest: Digest) {
        if let Some(held) = self
            .all
            .get_mut(&id)
            .and_then(|stream| stream.databases.get_mut(database))
        {
            held.digest = digest;
        }
    }

    /// The peer has so much of the payloads: on any stream with it.
    pub(crate) fn note_holding(
        &mut self,
        peer: &PublicKey,
        database: &Id,
        holding: Option<&Holding>,
    ) {
        for id in self.by_peer.get(peer).into_iter().flatten() {
            let stream = self.all.get_mut(id);
            if let Some(held) = stream.and_then(|stream| stream.databases.get_mut(database)) {
                held.holding = holding.cloned();
            }
        }
    }

    /// Whether a stream was not asked for so long, or for as long as it is checked anyway; it is then.
    pub(crate) fn ask(&mut self, id: StreamId, after_ms: u64, now_ms: u64) -> bool {
        let Some(check_ms) = self.checks.get(&id) else {
            return false;
        };
        let asked_ms = check_ms.saturating_sub(limits::CHECK_MS);
        if now_ms < asked_ms.saturating_add(after_ms.min(limits::CHECK_MS)) {
            return false;
        }
        self.checks.set(id, now_ms.saturating_add(limits::CHECK_MS));
        true
    }

    pub(crate) fn checked(&mut self, id: StreamId, now_ms: u64) {
        if let Some(stream) = self.all.get_mut(&id) {
            stream.checked_ms = Some(now_ms);
        }
    }

    /// The streams to check; the next check of each is counted from now.
    pub(crate) fn take_checks(&mut self, now_ms: u64) -> Vec<StreamId> {
        let due = self.checks.take(now_ms);
        for id in &due {
            self.checks
                .set(*id, now_ms.saturating_add(limits::CHECK_MS));
        }
        due
    }

    /// When a stream is to be checked or a peer to be dialled again.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let times = [self.checks.next_ms(), self.reconnects.due.next_ms()];
        times.into_iter().flatten().min()
    }
}
