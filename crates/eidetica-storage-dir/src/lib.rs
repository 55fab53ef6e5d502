//! The private data directory that file-based storage engines share.
//!
//! ```text
//! <dir>/            0700
//!   eidetica        0600   the label: "eidetica-storage <engine> <format> <new|ready>", locked while open
//!   data            the engine's own file or directory
//!   data.new        an engine that is being created
//! ```
//!
//! The directory is made with mode 0700 before anything is in it, so that nobody else can reach what an
//! engine creates inside, whatever the umask and whatever modes the engine asks for. On Linux a default
//! access control list makes each file and directory below private from its creation, on file systems
//! that have such lists. Everywhere all modes below are narrowed to 0700 and 0600 when the directory is
//! opened and released; a program may narrow its umask besides, as `eidetica` does.
//!
//! A new engine is created as `data.new` and renamed when it is complete: an interrupted creation
//! starts again, and a directory that is `ready` but has no data is damaged, not empty. The lock is the
//! operating system's advisory lock on the label; it goes when the process does.
//!
//! This crate does not know any engine.

mod dir;
mod label;
mod modes;
mod seal;
mod shield;

pub use dir::{DataDir, engine_of};
pub use seal::{DamagedRows, SEAL_BYTES, seal};
pub use shield::shield;
