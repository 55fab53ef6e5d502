//! Every limit of this crate.

/// Bytes of a key, at least one.
pub const KEY_BYTES: usize = 1024;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 1 << 20;
/// Bytes of the metadata of a commit.
pub const METADATA_BYTES: usize = 64 << 10;
/// Bytes of one encoded operation.
pub const OPERATION_BYTES: usize = KEY_BYTES + VALUE_BYTES + 16;
/// Changes in one batch; replaced ones count while they are fewer than half. All that is applied and not committed yet is in memory.
pub const BATCH_CHANGES: usize = 1 << 20;
/// Bytes of keys and values in one batch, counted like that.
pub const BATCH_BYTES: usize = 256 << 20;
/// Bytes of memory that a database keeps for its next batch.
pub const BATCH_KEPT_BYTES: usize = 4 << 20;

/// Operations in one proven range.
pub const RANGE_OPERATIONS: usize = 1 << 16;
/// Bytes of operations in one proven range; one operation always fits.
pub const RANGE_BYTES: usize = 8 << 20;

/// Payload bytes at which a block of the log is full; one operation always fits.
pub const BLOCK_BYTES: usize = 8 << 10;
/// Operations in the tail that is kept in memory and replayed at opening, at which it is sealed.
pub const TAIL_OPERATIONS: usize = 48 << 10;
/// Bytes of the tail at which it is sealed.
pub const TAIL_BYTES: usize = 8 << 20;
/// Bytes of memory that a database keeps for its next tail.
pub const TAIL_KEPT_BYTES: usize = 4 << 20;
/// Runs of one level of the index, at which they are merged into one of the next.
pub const RUNS_PER_LEVEL: usize = 8;
/// Segments of the log that a manifest lists.
pub const SEGMENTS: usize = 1 << 20;
/// Runs that a manifest lists.
pub const RUNS: usize = 256;
/// Bytes that opening hashes at most to tell a torn end of the log from damage before it.
pub const SEARCH_BYTES: u64 = 256 << 20;
/// Open files besides the log that is written.
pub const OPEN_FILES: usize = 128;

/// Operations in the span from the floor that are neither active keys nor counted against it.
pub const FLOOR_SLACK: u64 = 64;
/// Steps of the floor for each change of a batch, besides [`FLOOR_SLACK`].
pub const FLOOR_STEPS: u64 = 2;

/// Ranges a replica holds that cannot be appended yet.
pub const AHEAD_RANGES: usize = 1024;
/// Bytes of operations in them.
pub const AHEAD_BYTES: u64 = 256 << 20;
