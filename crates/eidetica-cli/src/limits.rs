//! Bounds on what the command line holds in memory or waits for.

/// Longest line of a JSONL file and longest record of a CSV file, in bytes.
pub(crate) const LINE: u64 = 1 << 20;

/// Most columns of a CSV file.
pub(crate) const COLUMNS: usize = 1024;

/// Most rows that `query --sort FIELD` sorts in memory.
pub(crate) const SORTED_ROWS: usize = 100_000;

/// Writes that `get --versions` looks back on, per value.
pub(crate) const VERSIONS: usize = 256;

/// Entries that `log` shows unless told otherwise.
pub(crate) const LOG_ENTRIES: usize = 20;

/// Widest cell of a table, in characters; longer values end in an ellipsis. `--json` shows them whole.
pub(crate) const CELL: usize = 72;
