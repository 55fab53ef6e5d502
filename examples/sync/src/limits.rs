//! Every limit of the programs.

use std::time::Duration;

/// Operations that a database begins with.
pub const INITIAL_OPS: u64 = 1_000_000_000;
/// Operations added at once: those of one batch of the database.
pub const OPS_PER_INTERVAL: u64 = eidetica_authdb::limits::BATCH_CHANGES as u64;
/// Operations in one request.
pub const BATCH_SIZE: i64 = eidetica_statesync::limits::BATCH as i64;
/// Requests that wait for an answer at once.
pub const OUTSTANDING_REQUESTS: i64 = eidetica_statesync::limits::OUTSTANDING as i64;
/// The longest interval.
pub const INTERVAL: Duration = Duration::from_secs(366 * 24 * 3600);
/// Operations of a new database that are made per commit, at least and at most.
pub const INITIAL_COMMIT: std::ops::RangeInclusive<u64> = 10..=10_000;
/// Bytes of a key file.
pub const KEY_FILE: u64 = 256;
/// Files of alarms and gaps that a copy keeps: enough for anybody, and no way to fill the disk.
pub const EVIDENCE_FILES: usize = 100;
/// Floors that are remembered until what is before them is pruned.
pub const FLOORS: u32 = 1_000;
/// The longest time between two questions for a target.
pub const TARGET_INTERVAL: Duration =
    Duration::from_millis(eidetica_statesync::limits::TARGET_INTERVAL_MS);
