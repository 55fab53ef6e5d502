//! What a user wants of the databases that it tracks.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use eidetica_auth::Right;
use eidetica_entry::Id;
use serde::{Deserialize, Serialize};

use crate::KeyId;

/// What a user wants of one database: with which key to use it, and when to synchronize it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasePreferences {
    /// The database.
    pub database_id: Id,
    /// The user's key to use it with.
    pub key_id: KeyId,
    /// When to synchronize it.
    pub sync_settings: SyncSettings,
}

/// When to synchronize a database. Where several users of an instance track one, it is synchronized
/// if any of them enables it, on commit if any wants that, and at the shortest interval that any
/// gives.
///
/// The default enables synchronization, with no interval and not on commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSettings {
    /// Whether to synchronize it at all.
    pub sync_enabled: bool,
    /// Whether to send every commit at once.
    pub sync_on_commit: bool,
    /// Seconds between two rounds; `None` for no rounds.
    pub interval_seconds: Option<u64>,
    /// The application's own notes.
    pub properties: BTreeMap<String, String>,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            sync_enabled: true,
            sync_on_commit: false,
            interval_seconds: None,
            properties: BTreeMap::new(),
        }
    }
}

/// A tracked database: the user's preferences, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDatabasePreferences {
    /// The preferences.
    pub database_prefs: DatabasePreferences,
    /// When the user began to track it, in milliseconds since 1970.
    pub added_at: u64,
}

impl Deref for UserDatabasePreferences {
    type Target = DatabasePreferences;

    fn deref(&self) -> &DatabasePreferences {
        &self.database_prefs
    }
}

impl DerefMut for UserDatabasePreferences {
    fn deref_mut(&mut self) -> &mut DatabasePreferences {
        &mut self.database_prefs
    }
}

/// One of a user's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// The name that the user gave it; may be empty.
    pub name: String,
    /// What it is for.
    pub role: KeyRole,
    /// Whether it is the one that is used where none is named.
    pub is_default: bool,
    /// When it came to this instance, in milliseconds since 1970.
    pub added_at: u64,
}

/// What a user's key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRole {
    /// Signs what the user writes.
    Signing,
    /// Stands above the signing keys in the databases that the user creates and takes them back
    /// should one be stolen. Used only where it is named.
    Recovery,
}

/// What one of a user's keys may do in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyAccess {
    /// The database.
    pub database: Id,
    /// The key.
    pub key: KeyId,
    /// The strongest right that it has there.
    pub right: Right,
    /// Where it has that from.
    pub source: AccessSource,
}

/// Where a key has a right from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessSource {
    /// It was granted to the key, or the root names it.
    Direct,
    /// Every key has it.
    Wildcard,
    /// The key has a right in this database, to which the other delegates.
    Delegation(Id),
}
