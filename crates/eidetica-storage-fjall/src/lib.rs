//! The fjall storage engine: a log-structured merge tree, one keyspace per space.
//!
//! [`FjallEngine`] keeps the engine contract on top of [fjall](https://docs.rs/fjall). A batch goes to
//! one journal with a checksum, then to the memory tables of its keyspaces; a torn tail of the journal
//! is cut off when it is opened. Blocks on disk carry checksums, so that damage is found when it is
//! read; manifests are checked before fjall sees them.

mod chunk;
mod engine;
mod journal;
mod manifest;
mod options;

pub use engine::FjallEngine;
pub use options::FjallOptions;
