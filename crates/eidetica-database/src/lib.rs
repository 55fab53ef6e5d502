//! Databases, transactions, typed stores and ingest.
//!
//! [`Databases`] keeps all databases of an instance in one storage engine. A [`Database`] is read
//! through typed views ([`DocView`], [`TableView`], [`SettingsView`]) and changed by a [`Transaction`],
//! which makes one signed entry; entries of others come in by [`Databases::ingest`]. Every entry is
//! judged by the same function on every way in.
//!
//! What a reader may rely on:
//!
//! - Reads, callbacks and peers see what is durable, in the order of arrival, and nothing else.
//! - The state is a pure function of the set of entries: replicas that hold the same entries show the
//!   same, whatever order they came in.
//! - No commit, read or lookup scans history, state or tips.
//!
//! This crate does no I/O of its own and knows no clock; randomness comes from [`Config::seed`].

mod access;
mod ahead;
mod apply;
mod asof;
mod audit;
mod authority;
mod closure;
mod commit;
mod compact;
mod core;
mod damage;
mod database;
mod databases;
mod deferred;
mod edits;
mod effects;
mod elsewhere;
mod entropy;
mod error;
mod events;
mod fill;
mod forget;
mod hash;
mod history;
mod holds;
mod import;
mod ingest;
mod known;
pub mod limits;
mod local;
mod mend;
mod names;
mod open;
mod overlay;
mod past;
mod pending;
mod preview;
mod query;
mod quota;
mod readahead;
mod reconcile;
mod region;
mod registry;
mod repair;
mod room;
mod rows;
mod seal;
mod settle;
mod shared;
mod source;
mod spool;
mod standing;
mod stores;
mod tally;
mod tend;
mod transaction;
mod verify;

pub use access::Access;
pub use asof::AsOf;
pub use audit::{AuditEntry, AuditPage, AuditRecord, VoidEntry, VoidPage};
pub use compact::Compacted;
pub use database::Database;
pub use databases::{
    Config, Cursor, DatabaseInfo, Databases, HeaderSummary, NewDatabase, PackPage,
};
pub use edits::Edits;
pub use error::{Blame, Error, Reject, Result};
pub use events::{CallbackError, CallbackId, Origin, WriteEvent};
pub use forget::Forgotten;
pub use hash::StateHash;
pub use history::{HistoryPage, Version};
pub use holds::{Holding, Holds, Wanted};
pub use import::Import;
pub use ingest::{IngestReport, IngestRequest};
pub use local::{LocalDatabase, LocalTransaction};
pub use mend::Mended;
pub use preview::{PreviewEntry, RevocationPreview};
pub use quota::Quota;
pub use repair::Repaired;
pub use stores::{
    Act, DocStore, DocView, NotAllowed, Rows, SettingsStore, SettingsView, Table, TableRows,
    TableView,
};
pub use transaction::{Operation, Transaction};
pub use verify::{Fault, Found, Remedy, VerifyReport};
