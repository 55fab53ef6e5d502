//! The named limits of this crate, and those an operator may set.

use std::time::Duration;

/// Claims that are made within this time are shown together to those who are connected: a login makes one for each key.
pub const CLAIMS_TOGETHER: Duration = Duration::from_millis(500);

/// Commands and news on their way to the driver.
pub const EVENTS: usize = 1024;

/// What a live stream is told and has not heard yet; one that falls further behind is ended, and opened again.
pub const NOTICES: usize = 1024;

/// Queries of sessions that run at once on the blocking pool.
pub const QUERIES: usize = 8;

/// Ingests that run at once, each of another database.
pub const INGESTS: usize = 4;

/// Threads for what blocks: queries and ingests, and the names of hosts that are looked up while dialling. What the
/// driver itself waits for runs on none of them.
pub const BLOCKING: usize = QUERIES + INGESTS + 128;

/// Bytes that packs claim to take once they are decompressed, of all peers together, while they are decoded
/// and taken in; what is more waits. A decoded pack is in memory about three times over.
pub const DECODED_BYTES: usize = 64 << 20;

/// Of these, how many one ingest takes at once, unless a single pack claims more.
pub const DECODED_BYTES_AT_ONCE: usize = 32 << 20;

/// Records written in one go.
pub const RECORDS: usize = 256;

/// What other processes have written is looked for at most this often, unless something is to be decided.
pub const FOLLOW: Duration = Duration::from_millis(300);

/// And at least this often.
pub const FOLLOW_AT_LEAST: Duration = Duration::from_secs(5);

/// How often a redemption is tried whose place another process has given away.
pub const REDEEM_ATTEMPTS: usize = 16;

/// What an operator may set. [`Default`] is what each field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLimits {
    /// Channels of proven peers that are served at once; above it the device with most gives up to one with less. 4,096.
    pub channels: usize,
    /// Of these, how many only peers have that were registered before. 1,024.
    pub channels_for_known: usize,
    /// Channels of one device; above it its oldest is closed. 16.
    pub channels_per_device: usize,
    /// Channels whose peer is in its handshake; above it the oldest is closed. 64.
    pub handshakes: usize,
    /// Requests served at once; above it the device with most of them gives up to one with less. 512.
    pub requests: usize,
    /// Of these, how many only peers have that were registered before. 128.
    pub requests_for_known: usize,
    /// Requests of one channel served at once; more wait. 8.
    pub requests_per_channel: usize,
    /// To dial and to make a channel. 10 s.
    pub dial: Duration,
    /// For the identity handshake, from either side. 5 s.
    pub handshake: Duration,
    /// For how long a frame may wait to be sent; then the session is cut. 30 s.
    pub send: Duration,
    /// To write records: a disk that takes longer stops the node. 30 s.
    pub persist: Duration,
    /// For a command that only changes what is remembered here. 60 s.
    pub local: Duration,
    /// For a command that asks one question of a peer. 150 s.
    pub call: Duration,
    /// For a sync. An hour.
    pub sync: Duration,
    /// For running requests when the node shuts down. 5 s.
    pub shutdown: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            channels: 4_096,
            channels_for_known: 1_024,
            channels_per_device: 16,
            handshakes: 64,
            requests: 512,
            requests_for_known: 128,
            requests_per_channel: 8,
            dial: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            send: Duration::from_secs(30),
            persist: Duration::from_secs(30),
            local: Duration::from_secs(60),
            call: Duration::from_secs(150),
            sync: Duration::from_secs(3_600),
            shutdown: Duration::from_secs(5),
        }
    }
}
