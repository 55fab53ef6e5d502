//! The redb storage engine: one file, one copy-on-write B-tree per space.
//!
//! [`RedbEngine`] keeps the engine contract on top of [redb](https://docs.rs/redb). redb trusts its
//! file between crashes, so each value is stored behind eight bytes of a hash of its row: damage on
//! disk is an error when it is read, and never a row that nobody wrote.

mod engine;
mod options;

pub use engine::RedbEngine;
pub use options::RedbOptions;
