//! The hash that engines keep beside each row, where what is below them would not notice damage.

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
