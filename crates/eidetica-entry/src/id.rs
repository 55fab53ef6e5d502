//! Names of entries: [`Id`], [`Height`] and their combination, the [`Stamp`].

use core::fmt;

use crate::bytes32::byte_type;

/// The id of an entry: the BLAKE3 hash of its header bytes. A database's id is its root entry's id.
///
/// Text form: 64 lower-case hexadecimal digits. `Debug` shows the first four bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 32]);
byte_type!(Id, 32, prefix: "");

/// The length of the longest path from the root to an entry; 0 for the root.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Height(pub u64);

impl Height {
    /// The height of a root.
    pub const ROOT: Self = Self(0);

    /// The height one above; heights of decoded headers never saturate here ([`crate::limits::HEIGHT`]).
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The total order of entries, the same on every replica: height first, then id.
///
/// A child's stamp is always greater than its parents', so ascending stamps are a topological order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Stamp {
    /// The entry's height.
    pub height: Height,
    /// The entry's id.
    pub id: Id,
}

impl Stamp {
    /// Pairs a height with an id.
    pub const fn new(height: Height, id: Id) -> Self {
        Self { height, id }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.height)
    }
}
