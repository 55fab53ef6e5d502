//! How much memory and log a SQLite engine may use.

/// Settings of a [`SqliteEngine`](crate::SqliteEngine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Bytes of pages kept in memory, half of them for the writer and an equal part of the rest for each
    /// reader. Default 64 MiB. A reader forgets its pages when the writer has changed something.
    pub cache_bytes: usize,
    /// Readers that are kept for the next snapshot. Default 4; any number of snapshots may live at once.
    pub idle_readers: usize,
    /// Pages in the log after which a write also moves them into the file. Default 2,048 of 4 KiB.
    pub log_pages: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            idle_readers: 4,
            log_pages: 2_048,
        }
    }
}
