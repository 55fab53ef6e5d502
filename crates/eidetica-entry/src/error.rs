//! [`EntryError`]: what is wrong with one entry.

use crate::{Id, NameError, StoreName};

/// Why bytes or parts are no entry. Always the fault of whoever made them, never of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The bytes end inside a value.
    #[error("entry bytes end inside {what}")]
    Truncated {
        /// The value that was being read.
        what: &'static str,
    },
    /// Bytes follow the last value.
    #[error("{0} bytes follow the entry")]
    Trailing(usize),
    /// Something is larger than the format allows.
    #[error("{what}: {found}, at most {limit} allowed")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The size met, or claimed by a length prefix.
        found: u64,
    },
    /// A list is not strictly ascending.
    #[error("{0} are not sorted and unique")]
    Unordered(&'static str),
    /// The bytes are not the one encoding of their value.
    #[error("entry bytes are not canonical")]
    NotCanonical,
    /// A version of the format that this build does not know.
    #[error("entry format version {0} is not known")]
    Version(u8),
    /// A store name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An entry without parents that is no root, or a root that is more.
    #[error("header shape: {0}")]
    Shape(&'static str),
    /// A present payload does not match the header.
    #[error("payload of store {store:?} does not match the header")]
    Payload {
        /// The store.
        store: StoreName,
    },
    /// A payload for a store that the header does not name.
    #[error("payload for store {store:?}, which the header does not name")]
    UnknownStore {
        /// The store.
        store: StoreName,
    },
    /// A parent that would be two heights too high.
    #[error("parent {0} is at the greatest height")]
    ParentHeight(Id),
    /// A text form that does not parse.
    #[error("not the text form of {what}")]
    Text {
        /// The type.
        what: &'static str,
    },
}

impl EntryError {
    /// `Ok` if `found` is at most `limit`.
    pub(crate) fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<(), Self> {
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
