//! Bounds on what the command line holds in memory or waits for.

use std::time::Duration;

/// Longest line of a JSONL file and longest record of a CSV file, in bytes.
pub(crate) const LINE: u64 = 1 << 20;

/// Most bytes that `import` takes from a pipe, which it keeps in a temporary file: it reads them twice.
pub(crate) const PIPED_BYTES: u64 = 64 << 30;

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

/// How often `serve` looks for new requests.
pub(crate) const SERVE_TICK: Duration = Duration::from_millis(250);

/// Typed lines that wait for `serve`.
pub(crate) const SERVE_EVENTS: usize = 16;

/// How often `status --watch` looks whether something changed.
pub(crate) const STATUS_TICK: Duration = Duration::from_millis(250);

/// How often `sync --wait` asks whether its request was decided.
pub(crate) const REQUEST_POLL: Duration = Duration::from_secs(1);

/// Entries that `db revoke` lists before it asks.
pub(crate) const PREVIEW_ENTRIES: usize = 20;

/// Void entries that `db void` shows unless told otherwise.
pub(crate) const VOID_ENTRIES: usize = 100;

/// Entries that are asked of the library at once.
pub(crate) const PAGE: usize = 1024;

/// Characters of a key that are shown beside a name.
pub(crate) const SHORT_KEY: usize = 16;

/// Characters of an entry's id that a list shows.
pub(crate) const SHORT_ENTRY: usize = 12;

/// The shortest beginning of an id that stands for the whole.
pub(crate) const SHORTEST_ID: usize = 6;

/// Void entries that one settings entry adopts: each may have to be a parent of it, and it has room for so many
/// besides the tips.
pub(crate) const ADOPTED_AT_ONCE: usize = 32;

/// How long a running process waits for whoever asked it for a backup, and the other way round.
pub(crate) const CONTROL_PATIENCE: Duration = Duration::from_secs(60);

/// Longest question to a running process, in bytes.
pub(crate) const CONTROL_LINE: u64 = 64;
