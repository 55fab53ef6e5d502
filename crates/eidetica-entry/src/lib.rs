//! Entries: ids, canonical bytes, packs and DAG algorithms.
//!
//! An [`Entry`] is immutable and content-addressed. Its [`Header`] is hashed to its [`Id`], the id is
//! signed, and the header commits to each payload by hash. This crate knows the bytes and the shape
//! of the graph; it judges no signature and no right, and it does no I/O.
//!
//! - [`Draft`] makes entries; [`Entry`] and [`Header`] read and write their canonical bytes.
//! - [`dag`] walks histories through the small [`dag::Dag`] trait: iterative, bounded by a budget.
//! - [`pack`] is the compact form of many entries, on the wire and in storage.
//!
//! Every decoder takes strangers' bytes: it checks each length before it allocates, accepts exactly
//! one encoding of each value and never panics. The formats are described byte by byte in
//! `docs/formats/entry.md` and `docs/formats/pack.md`.

mod bytes32;
mod codec;
pub mod dag;
mod draft;
mod entry;
mod error;
mod header;
mod id;
mod ids;
mod key;
pub mod limits;
mod name;
pub mod pack;
pub mod reconcile;

pub use draft::{Draft, ParentInfo, SigningMessage, derive_height, derive_settings};
pub use entry::Entry;
pub use error::EntryError;
pub use header::{Author, Header, PayloadHash, StoreRef, Via};
pub use id::{Height, Id, Stamp};
pub use ids::Ids;
pub use key::{PublicKey, Signature};
pub use name::{NameError, StoreName};
