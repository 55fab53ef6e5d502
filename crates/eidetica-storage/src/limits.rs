//! The named limits of this crate.

/// Longest row key, in bytes. Small enough for the page-bound index of every planned engine
/// (PostgreSQL is the narrowest with about 2,700 bytes).
pub const KEY_BYTES: usize = 2_048;

/// Longest row value, in bytes. The largest rows are packs of entries.
pub const VALUE_BYTES: usize = 64 << 20;

/// Most bytes of keys and values in one [`Batch`](crate::Batch): what an engine may have to hold in
/// memory at once, several times over.
pub const BATCH_BYTES: usize = 512 << 20;

/// Most steps in one [`Batch`](crate::Batch).
pub const BATCH_STEPS: usize = 4 << 20;

/// Most rows of one scan page, whatever the caller asked for.
pub const SCAN_ROWS: usize = 65_536;

/// Most bytes of one scan page (plus its last row), whatever the caller asked for.
pub const SCAN_BYTES: usize = 64 << 20;

/// Rows of a page when a helper pages on behalf of its caller.
pub const PAGE_ROWS: usize = 512;

/// Bytes of a page when a helper pages on behalf of its caller.
pub const PAGE_BYTES: usize = 1 << 20;
