//! Every limit of this crate.

/// Bytes of the name of a database, at least one.
pub const NAME_BYTES: usize = 64;
/// Bytes of a request message.
pub const REQUEST_BYTES: usize = 128;
/// Bytes of operations that a server puts into one reply; one operation always fits.
pub const REPLY_OPERATIONS_BYTES: usize = 4 << 20;
/// Bytes of one operation, at most: those of an authenticated database are shorter.
pub const OPERATION_BYTES: usize = (1 << 20) + (2 << 10);
/// Bytes of a reply message: operations, a proof, and what stands before them.
pub const REPLY_BYTES: usize = REPLY_OPERATIONS_BYTES + (8 << 10);
/// A reply with fewer operations than asked for has at least so many bytes of them, as the next one would not
/// have fitted.
pub const SHORT_REPLY_BYTES: usize = REPLY_OPERATIONS_BYTES - OPERATION_BYTES;

/// Operations in one request.
pub const BATCH: usize = 16_384;
/// Operations in the first request to a source.
pub const FIRST_BATCH: usize = 64;
/// Requests for operations in flight.
pub const OUTSTANDING: usize = 64;
/// Sources that an engine remembers, dropped ones included.
pub const SOURCES: usize = 64;
/// Bytes of verified operations that may wait for those in front of them. Replies in flight can exceed it by
/// [`OUTSTANDING`] times [`REPLY_BYTES`].
pub const AHEAD_BYTES: usize = 256 << 20;
/// Ranges handed over to be appended that are not acknowledged yet.
pub const UNACKNOWLEDGED: usize = 4;

/// Lies after which a source is dropped for good.
pub const LIES: u32 = 3;
/// Failures in a row after which a source is dropped.
pub const FAILURES: u32 = 8;
/// How long a source rests after its first failure; twice as long after each further one.
pub const BACKOFF_MS: u64 = 250;
/// The longest rest of a source.
pub const BACKOFF_MAX_MS: u64 = 30_000;
/// How long a source rests that does not have what is wanted yet.
pub const LAG_MS: u64 = 1_000;
/// How long a source rests at least that says it is busy.
pub const BUSY_MS: u64 = 50;
/// Requests of one source whose answers may still come although nobody waits: all that it is sent before it is dropped for
/// not answering.
pub const LATE_REQUESTS: usize = (OUTSTANDING + 2) * FAILURES as usize;
/// The longest time that a request may be given.
pub const TIMEOUT_MS: u64 = 10 * 60_000;
/// The longest time between two questions for a target.
pub const TARGET_INTERVAL_MS: u64 = 24 * 60 * 60_000;

/// How long somebody is looked for who shows that a newer target continues the held one.
pub const CANDIDATE_MS: u64 = 60_000;
/// How long others may connect before it is believed that nobody remembers the held target.
pub const GAP_MS: u64 = 5_000;
/// How long a target that only its source vouches for is kept without any progress.
pub const PATIENCE_MS: u64 = 30_000;
/// Alarms that are remembered, so that none is given twice.
pub const ALARMS: usize = 64;
