//! The named limits of this crate.

use eidetica_storage::limits::{KEY_BYTES, VALUE_BYTES};

use crate::rows;

/// Bytes of rows at which a frame ends.
pub const FRAME_BYTES: usize = 4 << 20;

/// Most bytes of rows in a frame: it ends with the row that reaches [`FRAME_BYTES`].
pub const FRAME_MOST_BYTES: usize = FRAME_BYTES + rows::ROW_HEAD + KEY_BYTES + VALUE_BYTES;

/// Most bytes of a label.
pub const LABEL_BYTES: usize = 1_024;

/// Most bytes of the name of an engine.
pub const ENGINE_NAME_BYTES: usize = 64;

/// Rows of a page while rows are read from an engine.
pub const PAGE_ROWS: usize = 4_096;

/// Bytes of a page while rows are read from an engine.
pub const PAGE_BYTES: usize = 1 << 20;

/// Bytes of rows after which a restore makes durable what it has written.
pub const SYNC_BYTES: usize = 64 << 20;

/// Bytes of keys by which the end of what cannot be read is looked for.
pub const TOLD_APART: usize = 80;
