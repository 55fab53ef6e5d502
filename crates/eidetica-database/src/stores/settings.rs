//! Settings: the database's name, and who may do what.

use eidetica_auth::{AuthRecord, AuthState, KeyName, Permission, Right};
use eidetica_crdt::{Doc, Value};
use eidetica_entry::PublicKey;
use parking_lot::Mutex;

use crate::edits::Edits;
use crate::error::{Error, Result};
use crate::source::Reader;
use crate::stores::{DocStore, DocView};

const NAME: &str = "name";

/// Reads a database's settings.
#[derive(Clone)]
pub struct SettingsView<'a> {
    doc: DocView<'a>,
    authority: AuthState,
}

impl<'a> SettingsView<'a> {
    pub(crate) fn new(reader: Reader<'a>, authority: AuthState) -> Self {
        Self {
            doc: DocView::settings(reader),
            authority,
        }
    }

    /// The database's name; `None` if it has none.
    ///
    /// # Errors
    /// The engine's.
    pub fn name(&self) -> Result<Option<String>> {
        Ok(self
            .doc
            .get(NAME)?
            .and_then(|name| name.as_text().map(str::to_owned)))
    }

    /// One setting beside the authority records.
    ///
    /// # Errors
    /// See [`DocView::get`].
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        self.doc.get(path)
    }

    /// All settings beside the authority records.
    ///
    /// # Errors
    /// The engine's.
    pub fn get_all(&self) -> Result<Doc> {
        self.doc.get_all()
    }

    /// Who may do what.
    pub fn authority(&self) -> &AuthState {
        &self.authority
    }

    /// What a key may do, by a grant or by the wildcard.
    pub fn right_of(&self, key: &PublicKey) -> Option<Right> {
        self.authority.right_of(key)
    }

    /// What every key may do.
    pub fn wildcard(&self) -> Option<Permission> {
        self.authority.wildcard()
    }

    /// All keys that have a right of their own.
    pub fn keys(&self) -> Vec<(PublicKey, Right, KeyName)> {
        let keys = self.authority.keys();
        keys.map(|(key, entry)| (*key, entry.right, entry.name.clone()))
            .collect()
    }
}

/// Changes a database's settings, in a transaction that an admin signs.
pub struct SettingsStore<'a> {
    doc: DocStore<'a>,
    records: &'a Mutex<Vec<AuthRecord>>,
}

impl<'a> SettingsStore<'a> {
    pub(crate) fn new(edits: &'a Edits, records: &'a Mutex<Vec<AuthRecord>>) -> Self {
        Self {
            doc: DocStore::settings(edits),
            records,
        }
    }

    /// Names the database.
    ///
    /// # Errors
    /// Too many edits.
    pub fn set_name(&self, name: &str) -> Result<()> {
        self.doc.set(NAME, name)
    }

    /// Sets something beside the authority records; `name` is the database's name.
    ///
    /// # Errors
    /// See [`DocStore::set`].
    pub fn set(&self, path: &str, value: impl Into<Value>) -> Result<()> {
        self.doc.set(path, value)
    }

    /// Takes a setting beside the authority records away.
    ///
    /// # Errors
    /// See [`DocStore::delete`].
    pub fn delete(&self, path: &str) -> Result<()> {
        self.doc.delete(path)
    }

    /// Reads the settings as they are with the edits of this transaction.
    pub fn doc(&self) -> &DocView<'a> {
        &self.doc
    }

    /// Gives a right to a key. Grants only add: of several the strongest counts.
    ///
    /// # Errors
    /// A name that is none. What the author may not give is refused at the commit.
    pub fn grant(&self, key: PublicKey, permission: Permission, name: &str) -> Result<()> {
        let name = KeyName::new(name).map_err(|error| Error::Form {
            what: "the name of a key",
            detail: error.to_string(),
        })?;
        self.record(AuthRecord::grant(key, permission, name));
        Ok(())
    }

    /// Sets what every key may do, at most `Write`; `None` turns it off.
    ///
    /// # Errors
    /// [`Error::NotGrantable`] above `Write`.
    pub fn set_wildcard(&self, permission: Option<Permission>) -> Result<()> {
        if let Some(permission) = permission.filter(|permission| permission.can_admin()) {
            return Err(Error::NotGrantable { permission });
        }
        self.record(AuthRecord::Wildcard(permission));
        Ok(())
    }

    /// Adds an authority record as it is.
    pub fn record(&self, record: AuthRecord) {
        self.records.lock().push(record);
    }
}
