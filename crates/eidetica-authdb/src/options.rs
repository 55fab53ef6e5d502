//! How a database is opened.

use crate::limits;

/// Options of a database.
#[derive(Clone)]
pub struct Options {
    /// Hides from others which keys fall together in the index. Give a new database 32 random bytes; one
    /// that exists keeps its own.
    pub seed: [u8; 32],
    /// Bytes of what was read that are kept in memory.
    pub cache_bytes: u64,
    /// Threads that hash large batches.
    pub threads: usize,
    /// Operations at which the tail is sealed: those that opening replays.
    pub tail_operations: usize,
    /// Bytes of operations at which the tail is sealed.
    pub tail_bytes: usize,
}

impl Options {
    /// The defaults: 64 MiB of cache, one thread, and the tail of [`limits`].
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            cache_bytes: 64 << 20,
            threads: 1,
            tail_operations: limits::TAIL_OPERATIONS,
            tail_bytes: limits::TAIL_BYTES,
        }
    }
}

impl std::fmt::Debug for Options {
    /// Without the seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("cache_bytes", &self.cache_bytes)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
