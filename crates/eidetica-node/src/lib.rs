//! The driver: sockets, timers and a bounded blocking pool around the pure engine.
//!
//! A [`Node`] is one thread with a tokio runtime of its own. It owns the transports, the identity handshakes and the
//! sessions of `eidetica-protocol`, and carries out what `eidetica-engine` decides; what a session wants of the
//! databases it asks of a [`Backend`], on a bounded pool of blocking threads, with one ingest queue per database.
//! Whoever holds a [`NodeHandle`] sends commands and gets a [`Pending`] for each: a future that waits on a channel
//! and on nothing else, so that any executor will do, or none ([`Pending::wait`]). Dropping it abandons the wait and
//! not the work. Each command has a deadline, and a node that is dead is an error and not a hang.
//!
//! What this crate does not do: judge an entry, decide who may read, keep a key other than the device's, or choose
//! what to sync when. A peer's fault ends that peer's session and nothing else.

mod backend;
mod block_on;
mod claims;
mod clock;
mod databases;
mod dial;
mod driver;
mod error;
mod handle;
mod ingests;
pub mod limits;
mod link;
mod live;
mod node;
mod pool;
mod serve;
mod session;
mod slots;
mod wire;

pub use backend::{Backend, Followed, Turn};
pub use clock::Clock;
pub use databases::{DatabasesBackend, Policy, PolicyChanges, SYNC_DATABASE, forget_records};
pub use error::NodeError;
pub use handle::{Bootstrap, Discovery, NodeHandle, Pending, SyncReport};
pub use limits::NodeLimits;
pub use node::{Node, NodeConfig};
pub use pool::answer;
