//! How much memory a redb engine may use, and how it recovers.

/// Settings of a [`RedbEngine`](crate::RedbEngine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbOptions {
    /// Bytes of pages kept in memory. Default 64 MiB.
    pub cache_bytes: usize,
    /// Whether each durable write also stores what is needed to open quickly after a crash. Default
    /// true; without it a crash costs a walk through the whole file, and writes cost less.
    pub quick_repair: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            quick_repair: true,
        }
    }
}
