//! Packs: many entries of one database in one compact, self-contained block of bytes.
//!
//! A pack holds entries so that parents come before children. What can be derived is left out: heights,
//! settings pins, payload hashes and ids are rebuilt while decoding, and an entry that does not follow the
//! rules is kept exact by a stored correction. So [`decode`] gives back the very entries that [`encode`]
//! took, honest or not, and judges nothing; it is a pure function of the bytes.
//!
//! The bytes are described in `docs/formats/pack.md`. They are not canonical: what identifies an entry is
//! its id, which is hashed anew, and never the pack that brought it.

mod decode;
mod encode;
mod wire;

use crate::{EntryError, Height, Id, limits};

pub use decode::decode;
pub use encode::{chunks, encode};

/// Length of the fixed prefix that [`PackInfo::read`] needs.
pub const PREFIX_BYTES: usize = 72;

/// What the fixed prefix of a pack claims. [`decode`] checks the claims, [`PackInfo::read`] does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// The database that all entries belong to.
    pub database: Id,
    /// How many entries there are, at least one.
    pub entries: u32,
    /// The least height among them.
    pub min_height: Height,
    /// The greatest height among them.
    pub max_height: Height,
    /// Bytes that metadata and payloads claim to take once they are decompressed.
    pub raw_bytes: u64,
    /// Bytes that metadata take in the pack, as it claims.
    pub meta_bytes: u32,
}

impl PackInfo {
    /// Reads the prefix: O(1).
    ///
    /// # Errors
    /// Fewer than [`PREFIX_BYTES`] bytes, or another format.
    pub fn read(pack: &[u8]) -> Result<Self, PackError> {
        wire::Prefix::read(pack).map(|prefix| prefix.info)
    }
}

/// What a decoder accepts. The default is what every replica must accept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most entries.
    pub entries: usize,
    /// Most bytes of the pack itself.
    pub bytes: usize,
    /// Most bytes of metadata and payloads after decompression, and again of all headers.
    pub raw_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: limits::PACK_ENTRIES,
            bytes: limits::PACK_BYTES,
            raw_bytes: limits::PACK_RAW_BYTES,
        }
    }
}

/// Why bytes are no pack, or entries do not make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Not a pack, or a newer format.
    #[error("bytes are not a pack of a known format")]
    Format,
    /// The bytes end too early.
    #[error("pack ends inside {0}")]
    Truncated(&'static str),
    /// Something is left over.
    #[error("pack has bytes left over after {0}")]
    Trailing(&'static str),
    /// Something is larger than allowed.
    #[error("pack has {found} {what}, at most {limit} allowed")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The size met or claimed.
        found: u64,
    },
    /// A compressed part does not decompress to what the prefix says.
    #[error("pack {0} do not decompress")]
    Compression(&'static str),
    /// A number or reference that means nothing.
    #[error("pack has an invalid {0}")]
    Invalid(&'static str),
    /// An entry that is rebuilt, or to be packed, is no valid entry.
    #[error("pack entry {index}: {error}")]
    Entry {
        /// Its position in the pack.
        index: usize,
        /// What is wrong with it.
        error: EntryError,
    },
    /// An entry stands twice in the pack.
    #[error("entry {0} is twice in the pack")]
    Duplicate(Id),
    /// An entry of another database.
    #[error("entry {0} is of another database")]
    Database(Id),
    /// To be packed: an entry stands after one of its children.
    #[error("entry {0} is to be packed after its child")]
    Order(Id),
    /// A pack of nothing.
    #[error("a pack of no entries")]
    Empty,
}

impl PackError {
    fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        if found <= limit {
            return Ok(());
        }
        Err(Self::Limit {
            what,
            limit: limit as u64,
            found: found as u64,
        })
    }
}
