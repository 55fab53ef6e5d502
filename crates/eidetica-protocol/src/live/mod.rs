//! Live streams: what changes here is there at once, in both directions.
//!
//! A dialler keeps one long request open, [`Request::Live`](crate::Request::Live). The response, and the rest of the
//! request, carry [`LiveMessage`]s and packs for as long as the connection lives, so that news also reach a peer that
//! nobody can dial. The dialler *subscribes* to databases; both ends then say once, and once only, how each of them
//! changes:
//!
//! - Whoever committed sends the entries along, if they are few ([`limits::LIVE_BYTES`](crate::limits::LIVE_BYTES)). Whoever
//!   only relays says its tips, and sends the entries to those that want them.
//! - Tips that the other side told itself are acknowledged and not sent back: there are no loops.
//! - What is too much for the stream is left to a [`SyncClient`](crate::SyncClient), which the dialler runs beside it.
//! - After a reconnect the acceptor remembers what was subscribed to, and one digest over all of it tells that nothing
//!   changed; otherwise 16 bytes a database tell what did.
//! - Whoever holds the payloads of some stores only says so before anything else of the database, and is sent no others. Payloads
//!   that are missing on either side lead to a sync as well: see [`Event::Incomplete`].
//!
//! Whether the peer may read is asked before every send. A database that it may not read is silence, like one that is
//! not here.
//!
//! [`Live`] is the machine of both ends.

mod digest;
mod hearing;
mod holding;
mod machine;
mod message;
mod saying;
mod sending;

pub use digest::{Digest, Standing, set_hash};
pub use machine::{Event, Live, LiveConfig, Notice};
pub use message::{LiveMessage, LiveOpen};
