//! Unpredictable bytes from one seed that the owner passes in.
//!
//! Nothing below the purity line may ask the system for randomness, yet batch verification, salts,
//! list positions and root nonces need bytes that a stranger cannot guess. Each call hashes the
//! secret seed with a counter, so no two calls of one process give the same bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of seeds, shared by all databases of one instance.
pub(crate) struct Entropy {
    key: [u8; 32],
    calls: AtomicU64,
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            key: blake3::derive_key("eidetica database entropy v1", &seed),
            calls: AtomicU64::new(0),
        }
    }

    /// 32 bytes that no other call returns.
    pub(crate) fn seed(&self) -> [u8; 32] {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        *blake3::keyed_hash(&self.key, &call.to_le_bytes()).as_bytes()
    }

    /// A number that no stranger can guess.
    pub(crate) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.seed();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
