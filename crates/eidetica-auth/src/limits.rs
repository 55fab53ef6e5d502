//! Named limits of this crate. Each is tested at the limit and one above.

/// Greatest length of a key's name in bytes of UTF-8.
pub const NAME_BYTES: usize = 255;

/// Greatest number of authority records in one settings payload.
pub const RECORDS: usize = 4096;

/// Greatest encoded size of one authority record without lists of ids, in bytes.
pub const RECORD_BYTES: usize = 1024;

/// Greatest number of ids in one list of an authority record: a cut, what is replaced or adopted, a
/// floor.
pub const RECORD_IDS: usize = 1024;

/// Greatest encoded size of one authority record with lists of ids, in bytes: two full lists and the
/// rest.
pub const LIST_RECORD_BYTES: usize = 2 * 32 * RECORD_IDS + RECORD_BYTES;

/// Greatest encoded size of a settings payload in bytes: that of an entry.
pub const SETTINGS_BYTES: usize = 4 << 20;

/// Greatest number of floors and pins that a settings entry may follow from, one through the other, each in
/// another database than the one before.
pub const DELEGATION_DEPTH: usize = 32;

/// Greatest number of databases that one device claim may list.
pub const CLAIM_DATABASES: usize = 1024;

/// Greatest encoded size of a device claim in bytes.
pub const CLAIM_BYTES: usize = 40 << 10;

/// How long a device claim holds when made at a login: 30 days.
pub const CLAIM_LIFETIME_MS: u64 = 30 * 24 * 3600 * 1000;

/// How far ahead of the reader's clock a claim may end: 90 days. A claim "for ever" would be a key
/// given away, and clocks differ.
pub const CLAIM_HORIZON_MS: u64 = 90 * 24 * 3600 * 1000;

/// Greatest encoded size of a bootstrap request in bytes.
pub const REQUEST_BYTES: usize = 1024;

/// Signatures in one verification batch. Below this many there is one batch, above it batches run
/// in parallel.
pub const BATCH: usize = 1024;

/// A failed batch is halved down to this many signatures, which are then verified one by one.
pub const BATCH_FLOOR: usize = 16;

/// Greatest size of a secret that can be sealed, in bytes.
pub const SECRET_BYTES: usize = 64 << 10;

/// Greatest Argon2id memory that an envelope may ask for, in KiB (1 GiB): an envelope is a file,
/// and files get damaged.
pub const KDF_MEMORY_KIB: u32 = 1 << 20;

/// Greatest number of Argon2id passes that an envelope may ask for.
pub const KDF_PASSES: u32 = 64;

/// Greatest number of Argon2id lanes that an envelope may ask for.
pub const KDF_LANES: u32 = 16;
