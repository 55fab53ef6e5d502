//! The connections that a listener has accepted: soft state, bounded in number and in time.
//!
//! A peer is a *stranger* until the layer above says who it is. There are few of those, for a few seconds, and the oldest
//! goes first; of the others the longest idle goes first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use iroh::endpoint::{Connection, VarInt};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::limits::{self, IrohLimits};

/// A place among those who have proven nothing. Cancelled when others need it.
pub(crate) type Place = CancellationToken;

/// One accepted connection.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    limits: IrohLimits,
    proven: AtomicBool,
    /// Cancelled when it is proven.
    pub(crate) admitted: CancellationToken,
    /// Cancelled when no more requests are wanted, here or because the listener shuts down.
    pub(crate) released: CancellationToken,
    /// Cancelled to end it at once.
    pub(crate) dropped: CancellationToken,
    running: AtomicUsize,
    /// Told when no request runs any more.
    pub(crate) quiet: Notify,
    used: Mutex<Instant>,
}

impl Peer {
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The longest frame that the peer may send now, in bytes.
    pub(crate) fn frame_limit(&self) -> usize {
        match self.is_proven() {
            true => eidetica_transport::limits::FRAME,
            false => limits::UNPROVEN_FRAME,
        }
    }

    /// Counts a request for as long as the result lives.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        *self.used.lock() = Instant::now();
        Running(Arc::clone(self))
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// For how long nothing was asked; none while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.is_quiet().then(|| *self.used.lock())
    }

    /// Whether it has been without a request for too long.
    pub(crate) fn is_unused(&self) -> bool {
        let over = |since: Instant| since.elapsed() >= self.limits.unused;
        self.idle_since().is_some_and(over)
    }

    pub(crate) fn close(&self, code: VarInt) {
        self.connection.close(code, b"");
    }
}

/// A request that runs.
pub(crate) struct Running(Arc<Peer>);

impl Drop for Running {
    fn drop(&mut self) {
        let peer = &self.0;
        *peer.used.lock() = Instant::now();
        if peer.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            peer.quiet.notify_waiters();
        }
    }
}

/// All connections of a listener.
pub(crate) struct Peers {
    limits: IrohLimits,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By age.
    strangers: VecDeque<Place>,
    proven: Vec<Arc<Peer>>,
}

impl Peers {
    pub(crate) fn new(limits: IrohLimits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
        }
    }

    /// A place for a stranger; the oldest loses its own if there are too many.
    pub(crate) fn enter(&self) -> Place {
        let place = Place::new();
        let mut table = self.table.lock();
        table.strangers.retain(|place| !place.is_cancelled());
        table.strangers.push_back(place.clone());
        if table.strangers.len() > self.limits.unproven
            && let Some(oldest) = table.strangers.pop_front()
        {
            oldest.cancel();
        }
        place
    }

    /// Whether so many strangers are here that one more has to show that packets reach it.
    pub(crate) fn is_crowded(&self) -> bool {
        let mut table = self.table.lock();
        table.strangers.retain(|place| !place.is_cancelled());
        table.strangers.len() >= self.limits.unproven.div_ceil(2)
    }

    /// The connection of a stranger, which is dropped with its place.
    pub(crate) fn peer(
        &self,
        connection: Connection,
        place: &Place,
        released: CancellationToken,
    ) -> Arc<Peer> {
        Arc::new(Peer {
            connection,
            limits: self.limits,
            proven: AtomicBool::new(false),
            admitted: CancellationToken::new(),
            released,
            dropped: place.clone(),
            running: AtomicUsize::new(0),
            quiet: Notify::new(),
            used: Mutex::new(Instant::now()),
        })
    }

    /// The peer has proven who it is: it leaves the strangers. The longest idle of the others goes if there are too many,
    /// or this one if none is idle.
    pub(crate) fn mark_proven(&self, peer: &Arc<Peer>) {
        let mut table = self.table.lock();
        if peer.dropped.is_cancelled() || peer.proven.swap(true, Ordering::Relaxed) {
            return;
        }
        // The place is no longer among those that go first, but stays what ends the connection.
        table.strangers.retain(|place| *place != peer.dropped);
        table.proven.push(Arc::clone(peer));
        if table.proven.len() > self.limits.proven {
            let others = table
                .proven
                .iter()
                .filter(|other| !Arc::ptr_eq(other, peer));
            let idle = others.filter_map(|other| Some((other.idle_since()?, other)));
            let victim = idle
                .min_by_key(|(since, _)| *since)
                .map_or_else(|| Arc::clone(peer), |(_, other)| Arc::clone(other));
            table.proven.retain(|other| !Arc::ptr_eq(other, &victim));
            victim.dropped.cancel();
        }
        drop(table);
        let connection = &peer.connection;
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.limits.requests));
        connection.set_receive_window(VarInt::from_u32(limits::WINDOW));
        peer.admitted.cancel();
    }

    /// Forgets a connection that has ended.
    pub(crate) fn leave(&self, peer: &Arc<Peer>) {
        peer.dropped.cancel();
        self.table
            .lock()
            .proven
            .retain(|other| !Arc::ptr_eq(other, peer));
    }

    /// How often unused connections are looked for.
    pub(crate) fn pause(&self) -> Duration {
        (self.limits.unused / 4).max(Duration::from_millis(10))
    }
}
