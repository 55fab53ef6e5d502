//! Typed stores: what a database looks like to an application.
//!
//! A *view* reads; a *store* is a view in a transaction that also writes, and sees its own edits.

mod doc;
mod settings;
mod table;

pub use doc::{DocStore, DocView};
pub use settings::{Act, NotAllowed, SettingsStore, SettingsView};
pub use table::{Rows, Table, TableRows, TableView};
