//! Every limit of this crate. What is beyond one of them does not decode and cannot be written.

/// Segments of a path, and containers inside each other in a [`crate::Value`].
pub const DEPTH: usize = 64;
/// Bytes of one key (UTF-8).
pub const KEY_BYTES: usize = 1024;
/// Bytes of one encoded path. A row key is a path with at most some 130 bytes more, and the narrowest
/// engine takes keys of 2,048 bytes (`eidetica_storage::limits::KEY_BYTES`).
pub const PATH_BYTES: usize = 1_792;
/// Bytes of one list position.
pub const POSITION_BYTES: usize = 64;
/// Bytes of one payload; an entry is no larger either.
pub const PAYLOAD_BYTES: usize = 4 << 20;
/// Neighbours that one insertion or move may have to move apart.
pub const MOVED_NEIGHBOURS: usize = 1024;
/// Rows asked for in one scan.
pub const SCAN_ROWS: usize = 256;
/// Stamps that are asked for at once when superseded versions are looked for.
pub const SUPERSEDED_AT_ONCE: usize = 512;
