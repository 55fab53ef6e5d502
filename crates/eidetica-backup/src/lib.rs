//! Backups, restoring them, and copies from one engine to another.
//!
//! Rows are the currency of all engines, and a snapshot of an engine is consistent while others write. So a backup is all
//! rows of one snapshot, in order, as a stream of frames: [`write()`] makes one, [`check`] reads it, [`restore`] puts it into an
//! empty engine of whatever kind, and [`copy()`] does both at once without a stream in between. `docs/formats/backup.md`
//! describes the bytes.
//!
//! - *Nothing is believed before it is whole.* Every frame is checked before a row of it is looked at, and the last frame says
//!   how many rows there were and what they hash to. Damage is an error that names the frame, and the rows that came
//!   before it are taken away again.
//! - *All or nothing.* While rows are copied into an engine, a row stands in it that keeps everybody else from opening it. It
//!   goes when all rows were read again and hash to what they should. What was interrupted goes on with the same
//!   backup, or starts over.
//! - *Bounded memory.* A frame, a page of rows and a batch: some [`limits::FRAME_BYTES`], and a few times the longest row.
//!
//! No file is opened here: a backup is written to a [`Write`](std::io::Write) and read from a [`Read`](std::io::Read). What the
//! rows mean is of no interest here, but for the format that they are in. A backup holds what the engine holds, secrets
//! included, in the clear.

mod copy;
mod error;
mod label;
pub mod limits;
mod read;
mod restore;
mod rows;
mod salvage;
mod target;
mod write;

pub use copy::{Copied, CopyOptions, copy};
pub use error::BackupError;
pub use label::Label;
pub use read::{Reader, check};
pub use restore::{Options, Restored, restore};
pub use rows::{Digest, Report, Totals, digest};
pub use target::discard_unfinished;
pub use write::write;
