//! The TCP connections of a listener: counted, capped, and the least deserving dropped first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// One connection.
pub(crate) struct Connection {
    /// Whether it carried a request of a proven peer.
    trusted: AtomicBool,
    /// Cancelled to drop it at once.
    pub(crate) dropped: CancellationToken,
    closed: AtomicBool,
}

impl Connection {
    pub(crate) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    fn is_expendable(&self) -> bool {
        !self.trusted.load(Ordering::Relaxed) && !self.closed.load(Ordering::Relaxed)
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
    /// By age; trusted and closed ones are taken out when they are met.
    strangers: VecDeque<Arc<Connection>>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            table: Mutex::default(),
        }
    }

    /// Makes room for one more: drops the oldest stranger when there is none. `None` if all are trusted.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let mut table = self.table.lock();
        if table.open >= self.limit && !table.drop_oldest() {
            return None;
        }
        table.open += 1;
        let connection = Arc::new(Connection {
            trusted: AtomicBool::new(false),
            dropped: CancellationToken::new(),
            closed: AtomicBool::new(false),
        });
        if table.strangers.len() >= 2 * self.limit {
            table
                .strangers
                .retain(|connection| connection.is_expendable());
        }
        table.strangers.push_back(Arc::clone(&connection));
        Some(Admitted {
            connection,
            connections: Arc::clone(self),
        })
    }

    /// Drops the oldest stranger, for when the system has no more sockets.
    pub(crate) fn drop_oldest(&self) {
        self.table.lock().drop_oldest();
    }
}

impl Table {
    fn drop_oldest(&mut self) -> bool {
        while let Some(connection) = self.strangers.pop_front() {
            if connection.is_expendable() {
                connection.dropped.cancel();
                return true;
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
