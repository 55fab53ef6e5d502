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

/// Ids that one call to the engine looks up: what it holds at once of a difference of any size, and one statement on
/// an engine that is a server.
pub const LOOKUPS: usize = 16_384;

/// Entries of the open block at which the writer seals them into a pack.
pub const BLOCK_ENTRIES: usize = 256;

/// Bytes of the open block at which the writer seals it, however few entries it holds.
pub const BLOCK_BYTES: usize = 2 << 20;

/// Most entries in one stored pack: what reading one entry may have to decode.
pub const STORED_PACK_ENTRIES: usize = 512;

/// Fewer received entries than this join the open block instead of making a small pack.
pub const MIN_PACK_ENTRIES: usize = 64;

/// Bytes of entries after which one read of the log ends.
pub const READ_BYTES: usize = 8 << 20;

/// Default for the decoded packs kept in memory, for all databases together.
pub const PACK_CACHE_BYTES: u64 = 64 << 20;

/// What a typical decoded pack takes; only a hint for the size of tables.
pub(crate) const PACK_ESTIMATE_BYTES: u64 = 256 << 10;

/// What a decoded entry takes in memory beside its bytes.
pub(crate) const ENTRY_OVERHEAD: usize = 640;

/// Packs whose places are remembered, so that a cached one is found without reading its row.
pub const KNOWN_PACKS: usize = 1 << 16;

/// Packs that one reader holds on to.
pub const RECENT_PACKS: usize = 8;

/// Entries with rows of their own that one reader reads one by one, before it reads the whole open block.
pub const SINGLES: usize = 4;

/// Words of 64 entries that one row of marks speaks of.
pub const MARK_WORDS: usize = 128;

/// The smallest blocks of heights whose summaries are kept have `16^2` of them.
pub const SUMMARY_LEVEL: u8 = 2;

/// Heights at the top whose summaries are not kept: entries are still added there.
pub const FRESH_HEIGHTS: u64 = 1024;

/// Entries whose ids begin with the same bytes that are looked up by them.
pub const SAME_PREFIX: usize = 16;

/// Rows of a database that has ended which one batch takes away.
pub const SWEEP_ROWS: u64 = 8_192;

/// Bytes of such rows after which a batch takes no more.
pub const SWEEP_BYTES: u64 = 32 << 20;

/// Rows that one batch of a repair changes.
pub const REPAIR_ROWS: usize = 8_192;

/// Most batches that one group commit writes together.
pub const GROUP_BATCHES: usize = 1_024;

/// Bytes at which a group commit takes no further batch.
pub const GROUP_BYTES: usize = 64 << 20;
