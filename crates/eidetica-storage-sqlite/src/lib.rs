//! The SQLite storage engine: one file in WAL mode, one table per space.
//!
//! [`SqliteEngine`] keeps the engine contract on top of [SQLite](https://sqlite.org), which is compiled in. SQLite
//! trusts its file, so each row carries eight bytes of its hash: damage is an error when the row is read, and
//! never a row that nobody wrote. What SQLite itself cannot tell is a log file that was removed or cut short
//! from outside: the file then shows an earlier, consistent state.
//!
//! The file stays readable by the usual tools, while no engine is open on it.

mod engine;
mod options;
mod sql;

pub use engine::SqliteEngine;
pub use options::SqliteOptions;
