//! The named limits of this crate, and those an operator may set.

use std::time::Duration;

/// The longest plaintext of one chunk, in bytes: a Noise message less its tag and the kind byte.
pub const CHUNK_DATA: usize = 65_535 - 16 - 1;

/// How many bytes of HTTP headers are read.
pub const HEADER_BYTES: usize = 16 << 10;

/// How many HTTP headers are read.
pub const HEADERS: usize = 64;

/// How many bytes hyper buffers per connection and direction.
pub const CONNECTION_BUFFER: usize = 256 << 10;

/// The most that is read of a body after its request was refused or answered, so that the peer sees the answer
/// and not a reset.
pub const LINGER_BYTES: usize = 1 << 20;

/// For how long it is read.
pub const LINGER: Duration = Duration::from_secs(1);

/// How many bytes of frames a client sends before it knows that its request was accepted.
pub const EAGER_BYTES: usize = 64 << 10;

/// How many channels wait to be taken by `accept`.
pub const ACCEPT_QUEUE: usize = 64;

/// How many request numbers below the greatest one seen may still arrive.
pub const REPLAY_WINDOW: u32 = 1024;

/// The longest frame of a peer that has not proven who it is, in bytes: one chunk.
pub const UNPROVEN_FRAME: usize = CHUNK_DATA;

/// How many requests of such a peer run at once.
pub const UNPROVEN_REQUESTS: usize = 4;

/// What an operator may set. [`Default`] is what each field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// TCP connections at once; above it the oldest one that never carried a proven peer's request is dropped.
    /// 5,000.
    pub connections: usize,
    /// Channels whose peer has not proven who it is; above it the oldest is dropped. 64.
    pub unproven: usize,
    /// Channels whose peer has; above it the one idle for longest is dropped. 4,096.
    pub proven: usize,
    /// Requests at once per channel of a proven peer. 64.
    pub requests: usize,
    /// Bytes of unfinished frames, over all streams. 256 MiB.
    pub reassembly_bytes: usize,
    /// From dialling to the channel, from a request's head to its first chunk and from a channel to its proof. 5 s.
    pub handshake: Duration,
    /// For how long a client waits for a response's head. 10 s.
    pub response: Duration,
    /// For how long a stream may be without a whole chunk, a write without progress, and a channel without a
    /// request. 30 s.
    pub idle: Duration,
    /// After which silence a sender sends an empty chunk, so that its stream is not idle. 10 s.
    pub keep_alive: Duration,
    /// For how long an HTTP connection may take for a request's head, or wait for the next one. 15 s.
    pub head: Duration,
    /// For how long `shutdown` waits for running requests. 5 s.
    pub shutdown: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 5_000,
            unproven: 64,
            proven: 4_096,
            requests: 64,
            reassembly_bytes: 256 << 20,
            handshake: Duration::from_secs(5),
            response: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            head: Duration::from_secs(15),
            shutdown: Duration::from_secs(5),
        }
    }
}
