//! The engine trait, the memory engine and the entry log.
//!
//! An [`Engine`] keeps ordered rows in a few [`Space`]s, shows them through [`Snapshot`]s and changes
//! them by atomic [`Batch`]es. Everything that knows about entries is written once, above the trait.
//!
//! This crate does no I/O of its own: no files, no sockets, no clock, no ambient randomness.

mod batch;
pub mod commit;
mod engine;
mod error;
mod handle;
pub mod limits;
pub mod log;
mod memory;
mod watch;

pub use batch::{Batch, Expect, Plan, Range, Step, Write};
pub use engine::{
    DAMAGED, Direction, Durability, Engine, EngineInfo, KeyRange, Page, PageBuilder, Row,
    ScanLimit, Snapshot, Space,
};
pub use error::{Blame, EngineError};
pub use handle::StoreHandle;
pub use memory::MemoryEngine;
pub use watch::{Watch, Watchers};
