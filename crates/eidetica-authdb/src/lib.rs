//! Authenticated databases: keys and values whose whole history of operations stands under one root.
//!
//! [`Any`] holds the latest value of each key, [`Immutable`] keys that are set once. Both append their
//! operations to a log whose Merkle mountain range ([`eidetica_mmr`]) proves any range of them, against the
//! present root and against those of earlier sizes. [`Replica`] builds the same database from operations
//! that others have proven.
//!
//! ```
//! use std::sync::Arc;
//!
//! use eidetica_authdb::{Any, MemoryDisk, Options};
//! use eidetica_mmr::{Location, verify_range};
//!
//! let seed = [7; 32]; // random bytes
//! let mut database = Any::open(Arc::new(MemoryDisk::new()), Options::new(seed))?;
//! database.update(b"key", b"value")?;
//! database.commit(Some(b"the first commit"))?;
//! assert_eq!(database.get(b"key")?.as_deref(), Some(&b"value"[..]));
//!
//! let shown = database.proof(Location(0)..database.leaves().next(), usize::MAX)?;
//! let operations: Vec<&[u8]> = shown.operations.iter().collect();
//! verify_range(&database.root(), &shown.proof, Location(0), &operations)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Files are reached through [`Disk`], of which [`MemoryDisk`] is one; this crate opens nothing itself. A
//! commit is one write and one sync of the log, after a crash it is there as a whole or not at all, and
//! damage is an error. Opening reads a manifest, the filters of the index, and a tail of bounded length.

pub mod limits;

mod any;
mod block;
mod disk;
mod error;
mod files;
mod immutable;
mod index;
mod log;
mod manifest;
mod memory;
mod op;
mod operations;
mod options;
mod recover;
mod replica;
mod run;
mod staged;
mod write;

pub use any::{Any, Changes, PreparedChanges};
pub use disk::{Disk, DiskFile};
pub use error::{Blame, Error, OperationError};
pub use immutable::{Immutable, PreparedSets, Sets};
pub use log::{ProvenRange, ProvenSeveral};
pub use memory::MemoryDisk;
pub use op::{Kind, Operation};
pub use operations::Operations;
pub use options::Options;
pub use replica::Replica;
