//! The channels that a server knows: soft state, bounded in number and in time.
//!
//! A channel is *unproven* until the layer above says who the peer is. There are few of those, for a few seconds,
//! and the oldest goes first; of the proven ones the longest idle goes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use eidetica_transport::{FrameSink, FrameStream};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    connections::{Carried, Connection},
    limits::{self, HttpLimits},
    noise::{ChannelId, Keys},
    window::ReplayWindow,
};

/// A request as the layer above takes it.
pub(crate) type Request = (FrameStream, FrameSink);

/// One channel.
pub(crate) struct Session {
    pub(crate) id: ChannelId,
    pub(crate) keys: Arc<Keys>,
    pub(crate) window: Mutex<ReplayWindow>,
    proven: AtomicBool,
    requests: AtomicUsize,
    opened: Instant,
    used: Mutex<Instant>,
}

impl Session {
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The longest frame that the peer may send now, in bytes.
    pub(crate) fn frame_limit(&self) -> usize {
        if self.is_proven() {
            eidetica_transport::limits::FRAME
        } else {
            limits::UNPROVEN_FRAME
        }
    }

    /// Counts a request on a connection for as long as the result lives; `None` when too many run.
    pub(crate) fn begin(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        limits: &HttpLimits,
    ) -> Option<Arc<Running>> {
        let is_proven = self.is_proven();
        let limit = if is_proven {
            limits.requests
        } else {
            limits::UNPROVEN_REQUESTS
        };
        let more = |running: usize| (running < limit).then_some(running + 1);
        self.requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        *self.used.lock() = Instant::now();
        Some(Arc::new(Running {
            session: Arc::clone(self),
            _carried: is_proven.then(|| connection.carry()),
        }))
    }

    fn idle_since(&self) -> Option<Instant> {
        (self.requests.load(Ordering::Relaxed) == 0).then(|| *self.used.lock())
    }

    fn is_expired(&self, now: Instant, limits: &HttpLimits) -> bool {
        let over = |since: Instant, after: Duration| now.saturating_duration_since(since) >= after;
        if self.is_proven() {
            self.idle_since()
                .is_some_and(|since| over(since, limits.idle))
        } else {
            over(self.opened, limits.handshake)
        }
    }
}

/// A request that runs.
pub(crate) struct Running {
    session: Arc<Session>,
    _carried: Option<Carried>,
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.session.used.lock() = Instant::now();
        self.session.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Entry {
    session: Arc<Session>,
    // The only sender: when the entry goes, whoever takes requests sees the end.
    requests: mpsc::Sender<Request>,
}

/// All channels of a server.
pub(crate) struct Sessions {
    limits: HttpLimits,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<ChannelId, Entry>,
    /// By age; proven and closed ones are taken out when they are met.
    unproven: VecDeque<ChannelId>,
    proven: usize,
}

impl Table {
    fn is_unproven(&self, id: &ChannelId) -> bool {
        self.entries
            .get(id)
            .is_some_and(|entry| !entry.session.is_proven())
    }

    fn remove(&mut self, id: &ChannelId) {
        if let Some(entry) = self.entries.remove(id)
            && entry.session.is_proven()
        {
            self.proven -= 1;
        }
    }

    fn drop_oldest_unproven(&mut self) {
        while let Some(id) = self.unproven.pop_front() {
            if self.is_unproven(&id) {
                return self.remove(&id);
            }
        }
    }

    /// Drops the longest idle proven channel, or this one if none is idle.
    fn drop_idlest(&mut self, or: &ChannelId) {
        let idle = |entry: &Entry| Some((entry.session.idle_since()?, entry.session.id));
        let proven = self
            .entries
            .values()
            .filter(|entry| entry.session.is_proven() && entry.session.id != *or);
        let victim = proven.filter_map(idle).min().map_or(*or, |(_, id)| id);
        self.remove(&victim);
    }
}

impl Sessions {
    pub(crate) fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
        }
    }

    /// A new channel, unproven, and where its requests come out. The oldest unproven one goes if there are too many.
    pub(crate) fn open(
        &self,
        id: ChannelId,
        keys: Keys,
    ) -> (Arc<Session>, mpsc::Receiver<Request>) {
        let now = Instant::now();
        let session = Arc::new(Session {
            id,
            keys: Arc::new(keys),
            window: Mutex::default(),
            proven: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            opened: now,
            used: Mutex::new(now),
        });
        let (requests, taken) = mpsc::channel(self.limits.requests.max(1));
        let mut table = self.table.lock();
        if table.entries.len() - table.proven >= self.limits.unproven {
            table.drop_oldest_unproven();
        }
        table.unproven.push_back(id);
        table.entries.insert(
            id,
            Entry {
                session: Arc::clone(&session),
                requests,
            },
        );
        (session, taken)
    }

    /// The channel with this id.
    pub(crate) fn find(&self, id: &ChannelId) -> Option<(Arc<Session>, mpsc::Sender<Request>)> {
        let table = self.table.lock();
        let entry = table.entries.get(id)?;
        Some((Arc::clone(&entry.session), entry.requests.clone()))
    }

    pub(crate) fn mark_proven(&self, session: &Session) {
        let mut table = self.table.lock();
        if !table.is_unproven(&session.id) {
            return;
        }
        session.proven.store(true, Ordering::Relaxed);
        table.proven += 1;
        if table.proven > self.limits.proven {
            table.drop_idlest(&session.id);
        }
    }

    pub(crate) fn close(&self, id: &ChannelId) {
        self.table.lock().remove(id);
    }

    pub(crate) fn close_all(&self) {
        *self.table.lock() = Table::default();
    }

    /// Drops what has expired. Linear in the number of channels, which is bounded.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let expired = |entry: &&Entry| entry.session.is_expired(now, &self.limits);
        let expired: Vec<_> = table
            .entries
            .values()
            .filter(expired)
            .map(|entry| entry.session.id)
            .collect();
        expired.iter().for_each(|id| table.remove(id));
        let Table {
            entries, unproven, ..
        } = &mut *table;
        unproven.retain(|id| {
            entries
                .get(id)
                .is_some_and(|entry| !entry.session.is_proven())
        });
    }
}
