//! The TCP connections of a listener: counted, capped, and the least deserving dropped first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// One connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// Whether it carried a request of a proven peer.
    proven: AtomicBool,
    /// How many of those it carries now.
    carries: AtomicUsize,
    /// Cancelled to drop it at once.
    pub(crate) dropped: CancellationToken,
    closed: AtomicBool,
}

impl Connection {
    /// It carries a request of a proven peer for as long as the result lives, and is not dropped for another.
    pub(crate) fn carry(self: &Arc<Self>) -> Carried {
        self.proven.store(true, Ordering::Relaxed);
        self.carries.fetch_add(1, Ordering::Relaxed);
        Carried(Arc::clone(self))
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.carries.load(Ordering::Relaxed) > 0
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// A request that a connection carries.
pub(crate) struct Carried(Arc<Connection>);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.carries.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All connections of a listener.
pub(crate) struct Connections {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: usize,
    /// By age; proven and closed ones are taken out when they are met.
    strangers: VecDeque<Arc<Connection>>,
    /// Of proven peers, who come here when they are met among strangers; busy ones go to the end when they are met.
    proven: VecDeque<Arc<Connection>>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            table: Mutex::default(),
        }
    }

    /// Makes room for one more where there is none: drops the oldest stranger, or a proven peer's that is idle. `None` if
    /// all are busy.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let mut table = self.table.lock();
        if table.open >= self.limit && !table.drop_one() {
            return None;
        }
        table.open += 1;
        let connection = Arc::new(Connection::default());
        if table.strangers.len() + table.proven.len() >= 2 * self.limit {
            table.strangers.retain(|connection| !connection.is_closed());
            table.proven.retain(|connection| !connection.is_closed());
        }
        table.strangers.push_back(Arc::clone(&connection));
        Some(Admitted {
            connection,
            connections: Arc::clone(self),
        })
    }

    /// Drops one, for when the system has no more sockets.
    pub(crate) fn drop_one(&self) {
        self.table.lock().drop_one();
    }
}

impl Table {
    fn drop_one(&mut self) -> bool {
        while let Some(connection) = self.strangers.pop_front() {
            match () {
                () if connection.is_closed() => {}
                () if connection.is_proven() => self.proven.push_back(connection),
                () => {
                    connection.dropped.cancel();
                    return true;
                }
            }
        }
        for _ in 0..self.proven.len() {
            match self.proven.pop_front() {
                Some(connection) if connection.is_closed() => {}
                Some(connection) if connection.is_busy() => self.proven.push_back(connection),
                Some(connection) => {
                    connection.dropped.cancel();
                    return true;
                }
                None => break,
            }
        }
        false
    }
}

/// A connection's place, given back when dropped.
pub(crate) struct Admitted {
    pub(crate) connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connection.closed.store(true, Ordering::Relaxed);
        self.connections.table.lock().open -= 1;
    }
}
