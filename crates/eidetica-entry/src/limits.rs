//! Every limit of this crate. An entry beyond one of them does not decode, on any replica.

/// Bytes of one entry: header, signature and present payloads.
pub const ENTRY_BYTES: usize = 4 << 20;
/// Parents of one entry.
pub const PARENTS: usize = 64;
/// Settings pins of one entry.
pub const SETTINGS: usize = 64;
/// Stores one entry writes.
pub const STORES: usize = 256;
/// Delegation hops in one author.
pub const VIA_HOPS: usize = 8;
/// Pinned tips per delegation hop.
pub const VIA_TIPS: usize = 64;
/// Bytes of a store name.
pub const NAME_BYTES: usize = 255;
/// The greatest height; one more than it still fits an `u64`.
pub const HEIGHT: u64 = u64::MAX >> 1;

/// Entries in one pack.
pub const PACK_ENTRIES: usize = 4096;
/// Bytes of one pack as stored or sent. It leaves room for framing in an 8 MiB frame.
pub const PACK_BYTES: usize = (8 << 20) - (64 << 10);
/// Bytes of one pack after decompression: metadata and payloads together, and again of all its headers.
pub const PACK_RAW_BYTES: usize = 32 << 20;
/// Payload and header bytes at which [`crate::pack::chunks`] starts the next pack. A frame carries one, and a link of
/// some 20 kB/s has to bring it before a session gives up.
pub const PACK_TARGET_BYTES: usize = 512 << 10;
