//! The named limits of this crate, and those an operator may set.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long dialling may take, the proof of keys included, and how long the first request.
pub const DIAL: Duration = Duration::from_secs(10);
/// How long one message may take to be written.
pub const WRITE: Duration = Duration::from_secs(30);
/// How long nobody is accepted after that has failed, for want of sockets say.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The wait before the second attempt to reach a source; it doubles with each further one.
pub const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait between attempts.
pub const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// How long stopping waits for answers that are being written.
pub const STOPPING: Duration = Duration::from_secs(2);

/// Requests of one connection that are answered in one go.
pub const PIPELINE: usize = 64;
/// Bytes of answers that are made before they are written. One longer answer is possible.
pub const ANSWER_BYTES: usize = 1 << 20;
/// Requests of one channel that are answered at once.
pub const CHANNEL_REQUESTS: usize = 16;
/// Peers and addresses whose rates are remembered, at which those that have recovered are forgotten.
pub const RATES: usize = 4096;

/// What an operator may set. [`Default`] is what each field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once. 256.
    pub connections: usize,
    /// Connections at once from one address. 32.
    pub connections_per_address: usize,
    /// For how long a connection may be without a request. 5 min.
    pub idle: Duration,
    /// Targets and consistency proofs for each peer and each address, per second. 50.
    pub targets_per_second: NonZeroU32,
    /// Operations for each peer and each address, per second. 2,000,000.
    pub operations_per_second: NonZeroU32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 32,
            idle: Duration::from_secs(300),
            targets_per_second: const { NonZeroU32::new(50).unwrap() },
            operations_per_second: const { NonZeroU32::new(2_000_000).unwrap() },
        }
    }
}
