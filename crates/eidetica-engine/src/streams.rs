//! Live streams: those that this node opened and those that others opened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{Digest, Holding, set_hash};

use crate::{LinkId, StreamId, limits};

/// One live stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) peer: PublicKey,
    /// The link that it runs on, if this node opened it.
    pub(crate) link: Option<LinkId>,
    pub(crate) since_ms: u64,
    /// When the peer last answered that all is as it should be (opened by this node).
    pub(crate) checked_ms: Option<u64>,
    /// When to ask again.
    pub(crate) check_ms: u64,
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

/// When to try to reach a peer again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reconnect {
    pub(crate) attempts: u32,
    pub(crate) due_ms: u64,
    /// Whether the peer was reached and takes no stream: then there are rounds instead.
    pub(crate) is_refused: bool,
    pub(crate) error: Option<String>,
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
    checks: BTreeSet<(u64, StreamId)>,
    /// Databases that others have subscribed to, each as often as it is.
    subscriptions: usize,
    remembered: Remembered,
    pub(crate) reconnects: BTreeMap<PublicKey, Reconnect>,
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
        let check_ms = now_ms.saturating_add(limits::CHECK_MS);
        let stream = Stream {
            peer,
            link: Some(link),
            since_ms: now_ms,
            checked_ms: None,
            check_ms,
            databases: BTreeMap::new(),
        };
        let id = self.add(stream);
        self.checks.insert((check_ms, id));
        self.route(id, databases);
        id
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
            check_ms: u64::MAX,
            databases: BTreeMap::new(),
        });
        let remembered = self.remembered.by_device.get(&peer).cloned();
        let databases = remembered
            .filter(|databases| set_hash(databases) == *set)
            .unwrap_or_default();
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
        if let Some(stream) = self.all.get(&id) {
            let all = stream.databases.keys().copied().collect();
            self.remembered.put(stream.peer, all);
        }
        true
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
        if let Some(stream) = self.all.get(&id).filter(|stream| stream.link.is_none()) {
            self.subscriptions -= gone;
            let all = stream.databases.keys().copied().collect();
            self.remembered.put(stream.peer, all);
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
        }
        self.checks.remove(&(stream.check_ms, id));
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
        let Some(stream) = self.all.get_mut(&id) else {
            return false;
        };
        let asked_ms = stream.check_ms.saturating_sub(limits::CHECK_MS);
        if now_ms < asked_ms.saturating_add(after_ms.min(limits::CHECK_MS)) {
            return false;
        }
        self.checks.remove(&(stream.check_ms, id));
        stream.check_ms = now_ms.saturating_add(limits::CHECK_MS);
        self.checks.insert((stream.check_ms, id));
        true
    }

    pub(crate) fn checked(&mut self, id: StreamId, now_ms: u64) {
        if let Some(stream) = self.all.get_mut(&id) {
            stream.checked_ms = Some(now_ms);
        }
    }

    /// The streams to check; the next check of each is counted from now.
    pub(crate) fn take_checks(&mut self, now_ms: u64) -> Vec<StreamId> {
        let later = self
            .checks
            .split_off(&(now_ms.saturating_add(1), StreamId(0)));
        let due = std::mem::replace(&mut self.checks, later);
        let mut found = Vec::new();
        for (_, id) in due {
            if let Some(stream) = self.all.get_mut(&id) {
                stream.check_ms = now_ms.saturating_add(limits::CHECK_MS);
                self.checks.insert((stream.check_ms, id));
                found.push(id);
            }
        }
        found
    }

    /// When a stream is to be checked or a peer to be dialled again.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let checks = self.checks.first().map(|(due, _)| *due);
        let reconnects = self.reconnects.values().map(|reconnect| reconnect.due_ms);
        // Those that are being dialled are due when that has failed.
        let reconnect = reconnects.min().filter(|due| *due < u64::MAX);
        checks.into_iter().chain(reconnect).min()
    }
}
