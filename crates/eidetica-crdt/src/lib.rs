//! The register algebra: state as a set of writes.
//!
//! The state of a store is a pure function of the set of all writes `(path, stamp, operation)` of its
//! effective entries; stamps decide between them, never a clock and never the order of arrival. This
//! crate says what a write is ([`Payload`], [`Op`]), keeps the state as rows that follow every insertion
//! and removal of an entry ([`insert`], [`remove`], [`apply_batch`], [`remove_batch`]), reads it ([`get`], [`table_scan`]
//! and others), and lowers what an application wants ([`Edit`]) to writes ([`Draft`]).
//!
//! It does no I/O: rows are behind [`Rows`] and [`RowsMut`]. Stamps, seeds and salts are arguments.

mod apply;
mod cell;
mod codec;
mod draft;
mod edit;
mod hash;
mod lower;
mod mem;
mod op;
mod path;
mod payload;
mod position;
mod read;
mod rows;
mod superseded;
mod value;
mod walk;

pub mod limits;

pub use apply::{
    Audited, Order, Sorted, apply_batch, audit, each_write, encode_write, insert, remove,
    remove_batch,
};
pub use draft::{Draft, lower};
pub use edit::{Edit, EditError, Locator, Step};
pub use hash::hash_visible;
pub use mem::{Delta, MemRows, Overlay};
pub use op::{Container, Init, Op, Scalar, Slot};
pub use path::{ElemId, OWN, Path, PathError, Segment};
pub use payload::{Payload, PayloadError, Rule, StoreKind, Write};
pub use position::Position;
pub use read::{
    ListPage, StampedWrite, TablePage, as_of, get, keys, list_len, list_page, resolve, table_get,
    table_scan, versions_at, writes_in,
};
pub use rows::{Bounded, KeyRange, RowPage, RowSpace, Rows, RowsMut, StateError};
pub use superseded::superseded;
pub use value::{Doc, DocError, JsonError, List, Value, WrongType};
