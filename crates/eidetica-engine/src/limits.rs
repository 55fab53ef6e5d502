//! Every bound of this crate by name. What is above one is refused with a typed error.

/// Peers remembered.
pub const PEERS: usize = 4096;
/// Addresses remembered per peer. The one that was given or worked the longest time ago gives way.
pub const ADDRESSES: usize = 16;
/// How long a dial waits for an address before it tries the next one beside it.
pub const DIAL_STAGGER_MS: u64 = 250;
/// Pairs of a peer and a database.
pub const PAIRS: usize = 65_536;
/// Bytes of a peer's display name.
pub const NAME_BYTES: usize = 255;
/// Bootstrap requests of others, pending and decided.
pub const INCOMING: usize = 1024;
/// Of these, how many of one device may be pending.
pub const INCOMING_PER_DEVICE: usize = 64;
/// Bootstrap requests of our own.
pub const OUTGOING: usize = 1024;
/// How long a bootstrap request is remembered, on both sides.
pub const REQUEST_MS: u64 = 7 * 24 * 3600 * 1000;
/// Invites that are remembered, ended ones among them for [`REQUEST_MS`] more.
pub const INVITES: usize = 1024;
/// Keys that one invite may be for.
pub const INVITE_COUNT: usize = 1024;
/// How far away the end of an invite may be when it is issued: 90 days.
pub const INVITE_MS: u64 = 90 * 24 * 3600 * 1000;
/// Device claims of this device.
pub const CLAIMS: usize = 1024;
/// Commands that have no reply yet.
pub const COMMANDS: usize = 4096;
/// Databases in one sync command.
pub const DATABASES: usize = 4096;
/// Work that waits for a connection or for its turn.
pub const READY: usize = 65_536;
/// Sessions that run at once, with all peers together.
pub const TASKS: usize = 256;
/// Of these, how many are for peers with which the last sync went well, so that those who stall leave room for them.
pub const TASKS_FOR_GOOD: usize = 128;
/// Sessions that run at once with one peer, so that slow peers leave room for others.
pub const TASKS_PER_PEER: usize = 4;
/// The longest wait before a retry, without jitter.
pub const BACKOFF_MS: u64 = 64_000;
/// How often in a row a sync that nobody waits for is tried again because entries still wait for others afterwards.
pub const PENDING_ATTEMPTS: u32 = 8;
/// A link on which nothing happens is closed after this time.
pub const LINK_IDLE_MS: u64 = 60_000;
/// Seconds between two rounds of a database that nobody tracks.
pub const INTERVAL_S: u64 = 300;
/// A connection for news is checked this often.
pub const CHECK_MS: u64 = 60_000;
/// Live streams that peers opened.
pub const STREAMS: usize = 4096;
/// Of these, how many only peers have that are registered.
pub const STREAMS_FOR_KNOWN: usize = 1024;
/// Live streams that one device may have open; above it its oldest ends.
pub const STREAMS_PER_DEVICE: usize = 2;
/// Databases that peers have subscribed to, each as often as it is; and as many are remembered of peers that left.
pub const SUBSCRIPTIONS: usize = 1 << 18;
/// Of these, how many only peers have that are registered.
pub const SUBSCRIPTIONS_FOR_KNOWN: usize = 1 << 17;
/// Syncs with one peer that are remembered.
pub const HISTORY: usize = 64;
/// Bytes that are kept of why one of them failed.
pub const REASON_BYTES: usize = 255;
/// Statistics and cursors are written at most this often.
pub const FLUSH_MS: u64 = 5_000;
/// Where several processes are one instance, each says this often that it lives.
pub const BEAT_MS: u64 = 3_000;
/// Whoever was read so often without having said so is dead, and its work is free: after 15 to 18 seconds.
pub const DEAD_READS: u32 = 5;
/// Whoever could not say so for this long gives up its work by itself: well before others take it.
pub const LEASE_MS: u64 = 9_000;
/// Rows of leases that are written at once.
pub const LEASE_CHANGES: usize = 1024;
