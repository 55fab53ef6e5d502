//! How much memory a fjall engine may use.

/// Settings of a [`FjallEngine`](crate::FjallEngine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FjallOptions {
    /// Bytes of blocks kept in memory, over all spaces. Default 64 MiB.
    pub cache_bytes: u64,
    /// Bytes of fresh rows kept in memory per space before they go to a file of their own. Default
    /// 16 MiB, fixed when the directory is created. There are six spaces, and up to four such tables of
    /// each while they are being written.
    pub memtable_bytes: u64,
    /// Bytes of journals kept at most; beyond that spaces are written out. Default 256 MiB.
    pub journal_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes: 256 << 20,
        }
    }
}
