//! The hash that engines keep beside each row, where what is below them would not notice damage.

use bytes::Bytes;
use eidetica_storage::{DAMAGED, EngineError};

/// Bytes of a seal.
pub const SEAL_BYTES: usize = 8;

/// The first bytes of the hash of a row. It finds damage, and is no defence against people.
#[must_use]
pub fn seal(key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&(key.len() as u64).to_le_bytes())
        .update(key)
        .update(value);
    let mut seal = [0; SEAL_BYTES];
    hasher.finalize_xof().fill(&mut seal);
    seal
}

/// What a snapshot makes of rows that do not match their seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedRows {
    /// They are errors, as in any snapshot.
    Refused,
    /// They have the value [`DAMAGED`], as in `Engine::snapshot_with_damage`.
    Marked,
}

impl DamagedRows {
    /// What is read of a row whose value is this, or `None` if it does not match its seal.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`].
    pub fn value(self, unsealed: Option<Bytes>) -> Result<Bytes, EngineError> {
        match (unsealed, self) {
            (Some(value), _) => Ok(value),
            (None, Self::Marked) => Ok(Bytes::from_static(DAMAGED)),
            (None, Self::Refused) => Err(EngineError::corrupt("a row does not match its hash")),
        }
    }
}
