//! Short hashes of what one side has.

use std::fmt;

use eidetica_entry::Id;
use serde::{Deserialize, Serialize};

/// The state of a database, or of several: half a BLAKE3 hash. Whoever could make two histories with the same one
/// would only keep them from being compared for a while.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Of what is not here, or may not be read.
    pub const NONE: Self = Self([0; 16]);

    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        let mut half = [0; 16];
        half.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        Self(half)
    }

    /// Of databases with a digest each, in the order of their ids.
    pub fn of_all<'a>(states: impl IntoIterator<Item = (&'a Id, &'a Self)>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("eidetica live digest v1");
        for (id, digest) in states {
            hasher.update(id.as_bytes());
            hasher.update(&digest.0);
        }
        Self::of_hash(hasher.finalize().as_bytes())
    }

    /// Whether this is the digest of nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// How a database stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Of its tips.
    pub digest: Digest,
    /// Whether payloads of stores that are held are missing.
    pub lacks: bool,
    /// Whether the payloads of some stores only are held.
    pub is_partial: bool,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Digest({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// The name of a set of databases, given in ascending order.
pub fn set_hash<'a>(databases: impl IntoIterator<Item = &'a Id>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("eidetica live set v1");
    for id in databases {
        hasher.update(id.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
