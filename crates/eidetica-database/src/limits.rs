//! Named limits of this crate.

/// Entries that may wait in the pending pool of one database.
pub const PENDING_ENTRIES: usize = 10_000;
/// Bytes of entries that may wait in the pending pool of one database.
pub const PENDING_BYTES: usize = 64 * 1024 * 1024;
/// Entries that one source may have waiting in the pending pool of one database.
pub const PENDING_PER_SOURCE: usize = 1_000;
/// Signatures that are verified in one batch.
pub const VERIFY_BATCH: usize = 1_024;
/// Entries that are judged, staged and written as one engine batch during ingest.
pub const INGEST_GROUP: usize = 4_096;
/// Packs that are decoded and verified at once during ingest, as one of [`INGEST_LANES`].
pub const INGEST_WAVE_PACKS: usize = 32;
/// Bytes that the packs of one wave claim to take when they are decompressed; the last one may claim more.
pub const INGEST_WAVE_BYTES: u64 = 4 << 20;
/// Waves that are verified and wait for the one that is written.
pub const INGEST_WAVES_AHEAD: usize = 6;
/// Waves that are being verified, each on all cores where it can be: what one does on one core alone leaves the others to
/// the next.
pub const INGEST_LANES: usize = 4;
/// Ingest calls of fewer new entries than this write their state at once; larger ones defer it.
pub const DEFER_STATE_FROM: usize = 512;
/// Entries whose state waits behind the `applied` watermark before it is computed; there may be as many again of which it
/// is being computed. What there is of a large database is read once for each time, so that more cost less.
pub const DEFERRED_ENTRIES: u64 = 32_768;
/// Bytes of payloads whose state waits behind the `applied` watermark before it is computed.
pub const DEFERRED_BYTES: usize = 16 << 20;
/// Entries that are read from the log at once where their state was not written and nobody has them in memory.
pub const APPLIED_AT_ONCE: usize = 32_768;
/// Entries whose payloads come or go in one batch.
pub const FILL_STEP: usize = 1_024;
/// Stores that may be named as those to be held.
pub const HELD_STORES: usize = 256;
/// Packs that one ingest call may carry.
pub const INGEST_PACKS: usize = 4_096;
/// Delegated databases, direct or by way of others, that a peer is told of as those that are here.
pub const CLOSURES: usize = 64;
/// Closures that may be here though no settings name their databases; before there are more, those that were used last
/// the longest time ago are taken away.
pub const UNNAMED_CLOSURES: usize = 256;
/// Those of them that stay then: what there is to be looked at for that, all settings, is looked at once for all that go.
pub const UNNAMED_CLOSURES_KEPT: usize = UNNAMED_CLOSURES / 4 * 3;
/// Closures that one ingest call may begin. More would drive out the first of them.
pub const NEW_CLOSURES: usize = UNNAMED_CLOSURES_KEPT;
/// Bytes of a closure that no settings name and no entries wait for.
pub const UNNAMED_CLOSURE_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a closure.
pub const CLOSURE_BYTES: u64 = 1024 * 1024 * 1024;
/// Rejected ids that one ingest report names; the rest is only counted.
pub const REPORTED_REJECTS: usize = 1_024;
/// Authority states kept per database, one per settings frontier or settings entry.
pub const AUTHORITY_CACHE: usize = 1_024;
/// Pasts of single entries kept per database, for forks and reads of the past.
pub const PASTS: usize = 4_096;
/// Bytes of such pasts kept per database: one bit per entry of the database each.
pub const PAST_BYTES: u64 = 64 * 1024 * 1024;
/// Attempts that [`transact`](crate::Database::transact) makes before it gives up with a conflict. Of
/// those who compete, one succeeds in every round.
pub const TRANSACT_ATTEMPTS: usize = 1_024;
/// Reads that one transaction may note; more are a typed error.
pub const TRANSACTION_READS: usize = 65_536;
/// Payload bytes of one entry of an import group.
pub const IMPORT_ENTRY_BYTES: usize = 1024 * 1024;
/// Bytes of edits that an import holds in memory, several times over, before it makes entries of them.
pub const IMPORT_MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of edits in one import.
pub const IMPORT_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes of spooled entries that become part of the database as one engine batch.
pub const IMPORT_MOVE_BYTES: usize = 4 * 1024 * 1024;
/// Entries that are read at once where callbacks are told of what others have written.
pub const TOLD_AT_ONCE: usize = 512;
/// Milliseconds between two looks at the imports of processes that share an engine.
pub const IMPORT_BEAT_MS: u64 = 5_000;
/// Looks that find an import unchanged after which its process is taken for dead.
pub const IMPORT_LOOKS: u32 = 12;
/// Rows that a page of a table scan, a history or a version list holds unless told.
pub const PAGE_ROWS: usize = 1_024;
/// Bytes that one page read from the engine may hold.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of packs that one page of a difference may hold, whatever the caller asks for.
pub const DIFFERENCE_BYTES: usize = 8 * 1024 * 1024;
/// Headers that one page may hold.
pub const HEADERS_PAGE: usize = 65_536;
/// Write callbacks that one database may have.
pub const CALLBACKS: usize = 1_024;
/// Entries that are told as one change of their database, at most.
pub const CHANGE_ENTRIES: usize = 64;
/// Chains of delegations that are tried to find the strongest right of a key.
pub const DELEGATIONS_TRIED: usize = 64;
/// Keys of which is kept, per database, what they were found to have.
pub const ACCESS_CACHE: usize = 1_024;
/// Keys that the refusal of a change of settings names as those that could make it.
pub const HELPERS: usize = 8;
/// Faults that one verification lists; the rest is only counted.
pub const REPORTED_FAULTS: usize = 1_024;
/// Bytes of the name of a local database.
pub const LOCAL_NAME: usize = 255;
/// Entries that change sides in one batch with their state; more of them are settled in steps.
pub const SETTLE_AT_ONCE: usize = 1_024;
/// Entries whose state one step of settling changes.
pub const SETTLE_STEP: usize = 1_024;
/// Bytes of entries after which one step of settling ends.
pub const SETTLE_BYTES: usize = 8 * 1024 * 1024;
/// Entries that are read at once where settings entries have changed how others stand.
pub const REGION_PAGE: usize = 4_096;
/// Settings entries by which keys may have come in that are looked up, so that nothing below them is read where these
/// keys' entries may stand differently.
pub const ADMITTING: usize = 4_096;
/// Cuts from which on what lies outside of them is looked for in everything, and not one by one.
pub const CUTS_APART: usize = 32;
/// Void entries of one author that are taken in with no effective entry above them.
pub const VOID_PER_AUTHOR: u64 = 1_024;
/// Void entries of one database that are taken in with no effective entry above them.
pub const VOID_ENTRIES: u64 = 16_384;
/// Void entries of one database that were turned away and are kept in memory for a while: something effective above
/// them may come.
pub const VOID_SURPLUS: usize = 16_384;
/// Databases that may ask each other, one through the other, who may do what. No sound entry needs more.
pub const DELEGATION_NESTING: usize = eidetica_auth::limits::DELEGATION_DEPTH + 1;
/// Entries that a transaction may name to be built upon besides the tips.
pub const ALSO_ABOVE: usize = 32;
/// Databases that others are told to wait for. Entries that wait for more of them are judged again when their
/// own database takes something in.
pub const AWAITED_DATABASES: usize = 4_096;
/// How often a batch is staged anew because another process wrote first.
pub const RACES: usize = 4_096;
/// How often that is so before the odds are made even, each time.
pub const PATIENT_RACES: usize = 8;
/// Bytes of keys and values that a commit which waits for its database's lock has read before; what is more it reads under
/// the lock.
pub const AHEAD_BYTES: usize = 1024 * 1024;
/// Batches that are in the engine and whose rows stay in memory for commits that have read without them; one that reads for
/// longer reads again under the lock.
pub const AHEAD_BATCHES: u64 = 1_024;
/// Databases whose versions are looked up at once when other processes may have written.
pub const MEET_PAGE: usize = 512;
/// Batches in which rows of forgotten databases are taken away when an instance is opened.
pub const SWEEPS_AT_OPEN: u64 = 32;
/// Counters by which a verification compares the writes of entries with those in rows.
pub const TALLY_BUCKETS: usize = 1 << 16;
/// Counters that differ of which a verification names the writes and rows.
pub const TALLY_NAMED: usize = 256;
/// Bytes of decoded packs that a verification keeps of its own.
pub const VERIFY_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Entries that a repair has in memory, by their ids, at once.
pub const REPAIR_IDS: u64 = 1 << 20;
/// Damaged entries that are put back in one batch.
pub const MEND_ENTRIES: u64 = 512;
/// Entries of closures that one request for payloads names.
pub const CLOSURE_MENDED: usize = 512;
/// Bytes that entries which write settings alone may take above the limit of a database; half of them what is below
/// such entries.
pub const QUOTA_RESERVE_BYTES: u64 = 1024 * 1024;
