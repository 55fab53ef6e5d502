//! Eidetica: a decentralized, local-first database.
//!
//! An application stores its data here and gets signed history, merging without conflicts, users
//! and keys, access control, and synchronization between peers that do not trust each other.
//!
//! ```
//! use eidetica::{Instance, backend::database::InMemory, crdt::Doc};
//!
//! # fn main() -> eidetica::Result<()> {
//! let instance = Instance::open(Box::new(InMemory::new()))?;
//! instance.create_user("alice", None)?;
//! let alice = instance.login_user("alice", None)?;
//!
//! let mut settings = Doc::new();
//! settings.set_string("name", "notes");
//! let notes = alice.create_database(settings, &alice.get_default_key()?)?;
//!
//! let op = notes.new_transaction()?;
//! op.doc("notes")?.set("monday", "buy milk")?;
//! op.commit()?;
//! assert_eq!(notes.doc("notes")?.get_as::<String>("monday")?.as_deref(), Some("buy milk"));
//! # Ok(())
//! # }
//! ```
//!
//! - [`Instance`] is one backend with all databases and users in it; [`User`] holds keys;
//!   [`Database`] is what they open.
//! - [`backend`] says where the data are kept, [`crdt`] what they look like, [`auth`] who may do
//!   what.
//!
//! All of this is synchronous and blocks for storage alone. Private keys of users with a password
//! are sealed by it; those of users without one, and the device key, are as safe as the files of
//! the backend, which only their owner can read.

mod accounts;
pub mod backend;
pub mod backup;
mod care;
mod clock;
mod database;
mod error;
mod holds;
mod instance;
mod key_id;
pub mod limits;
#[cfg(doctest)]
mod readme;
mod secret;
pub mod sync;
mod tending;
pub mod text;
pub mod user;

/// What a database's data look like.
pub mod crdt {
    pub use eidetica_crdt::{Doc, DocError, Edit, JsonError, List, StoreKind, Value};
}

/// Who may do what.
pub mod auth {
    pub use eidetica_auth::{
        AuthRecord, AuthState, Delegation, IntoPermission, KeyName, Permission, Revocation, Right,
        SecretKey, Standing, VoidReason,
    };
}

pub use care::RepairReport;
pub use database::{Database, Member};
pub use eidetica_database::{
    Act, AuditEntry, AuditPage, AuditRecord, NotAllowed, PreviewEntry, RevocationPreview,
    VoidEntry, VoidPage,
};
pub use eidetica_database::{CallbackId, Error as DatabaseError, Import, VerifyReport, Version};
pub use eidetica_database::{Compacted, Fault, Forgotten, Found, Mended, Quota, Remedy, Repaired};
pub use eidetica_database::{
    DocStore, DocView, SettingsStore, SettingsView, Table, TableView, Transaction,
    Transaction as Operation,
};
pub use eidetica_database::{Holding, Holds};
pub use eidetica_entry::{Entry, Height, Id, PublicKey, Stamp};
pub use error::{Blame, Error, Result};
pub use instance::Instance;
pub use key_id::{AsDatabaseId, AsKey, KeyId, KeyRef};
pub use user::User;
