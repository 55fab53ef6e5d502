//! The named limits of this crate, and those an operator may set.

use std::time::Duration;

/// The longest frame of a peer that has not proven who it is, in bytes.
pub const UNPROVEN_FRAME: usize = 64 << 10;

/// How many requests of such a peer run at once.
pub const UNPROVEN_REQUESTS: u32 = 4;

/// How many bytes of such a peer are held unread.
pub const UNPROVEN_WINDOW: u32 = 256 << 10;

/// How many bytes of one stream are held unread. What is held in more than 1,024 separate pieces ends the connection, in
/// the QUIC implementation; so many do not fit into this, in packets of the least size, however many were lost.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// How many bytes of one connection are held unread.
pub const WINDOW: u32 = 8 << 20;

/// How many bytes of one connection are sent and not yet acknowledged.
pub const SEND_WINDOW: u64 = 8 << 20;

/// How many bytes are read or written at once: a deadline is for so much.
pub const PIECE: usize = 64 << 10;

/// How many connections wait to be taken by `accept`.
pub const ACCEPT_QUEUE: usize = 64;

/// How many relays a configuration may name.
pub const RELAYS: usize = 16;

/// What an operator may set. [`Default`] is what each field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrohLimits {
    /// Connections whose peer has not proven who it is, those in their first packets among them; above it the oldest is
    /// dropped, and above half of it a stranger has to show that packets reach it. 64.
    pub unproven: usize,
    /// Connections whose peer has; above it the one idle for longest is dropped. 4,096.
    pub proven: usize,
    /// Requests at once per connection of a proven peer; more wait. 64.
    pub requests: u32,
    /// Bytes of unfinished frames, over all streams. 256 MiB.
    pub reassembly_bytes: usize,
    /// From dialling to the connection. 10 s.
    pub dial: Duration,
    /// From a peer's first packet to the connection, and from there to its proof. 5 s.
    pub handshake: Duration,
    /// For how long a client waits for a request to be taken. 10 s.
    pub response: Duration,
    /// For how long a frame that has begun, or a write, may make no progress, and for how long a peer may give no sign of
    /// life. 30 s.
    pub idle: Duration,
    /// For how long a connection may be without a request. 90 s.
    pub unused: Duration,
    /// For how long `listen` waits for a relay to be reached before it goes on without. 4 s.
    pub online: Duration,
    /// For how long `shutdown` waits for running requests. 5 s.
    pub shutdown: Duration,
}

impl Default for IrohLimits {
    fn default() -> Self {
        Self {
            unproven: 64,
            proven: 4_096,
            requests: 64,
            reassembly_bytes: 256 << 20,
            dial: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            response: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            unused: Duration::from_secs(90),
            online: Duration::from_secs(4),
            shutdown: Duration::from_secs(5),
        }
    }
}
