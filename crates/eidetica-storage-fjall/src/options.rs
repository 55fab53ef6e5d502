//! How much memory a fjall engine may use.

/// fjall begins a new journal at this length.
pub(crate) const MIN_JOURNAL_BYTES: u64 = 64 << 20;

/// Settings of a [`FjallEngine`](crate::FjallEngine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FjallOptions {
    /// Bytes of blocks kept in memory, over all spaces. Default 64 MiB.
    pub cache_bytes: u64,
    /// Bytes of fresh rows kept in memory per space before they go to a file of their own. Default
    /// 8 MiB, fixed when the directory is created. There are six spaces, and up to four such tables of
    /// each while they are being written.
    pub memtable_bytes: u64,
    /// Bytes of journals at which spaces are written out, so that journals stay below about twice as
    /// much. They are replayed after a crash. Default 64 MiB, which is also the least.
    pub journal_bytes: u64,
    /// Bytes of journals above which `close` writes everything out and empties them, so that the next
    /// opening has nothing to replay. Default 1 MiB.
    pub trim_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 8 << 20,
            journal_bytes: MIN_JOURNAL_BYTES,
            trim_bytes: 1 << 20,
        }
    }
}
