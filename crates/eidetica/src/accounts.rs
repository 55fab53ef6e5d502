//! What an instance keeps for itself: its device key, its users, their sealed keys, claims and
//! preferences. It stands in a local database, which is never offered to a peer.

use std::collections::HashMap;

use eidetica_auth::{DeviceClaim, SecretKey};
use eidetica_database::LocalDatabase;
use eidetica_engine::Wishes;
use eidetica_entry::Id;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::{
    Error, KeyId, Result,
    secret::HexSecret,
    user::{
        keyring::{KeyRecord, Vault},
        types::{SyncSettings, UserDatabasePreferences},
    },
};

/// The name of the local database.
pub(crate) const LOCAL_NAME: &str = "_instance";

const USERS: &str = "users";
const KEYS: &str = "keys";
const TRACKED: &str = "tracked";
const CLAIMS: &str = "claims";
const PLAIN_KEYS: &str = "plain_keys";

/// The name of the device key among the instance's own keys; no caller can name a key so.
const DEVICE: &str = "";

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    /// Random hex; the prefix of the user's rows.
    pub(crate) uid: String,
    pub(crate) default_key: KeyId,
    pub(crate) vault: Vault,
    pub(crate) created_at: u64,
}

/// A key of the instance itself: at rest as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PlainKey {
    secret: HexSecret,
}

/// A device claim as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClaimRow {
    claim: HexSecret,
}

pub(crate) struct Accounts {
    local: LocalDatabase,
    /// What the users want of the databases that they track: by database, then by user.
    tracking: RwLock<Tracking>,
}

/// By database, then by the user's uid.
type Tracking = HashMap<Id, HashMap<String, SyncSettings>>;

fn note(tracking: &mut Tracking, uid: &str, prefs: &UserDatabasePreferences) {
    let users = tracking.entry(prefs.database_id).or_default();
    users.insert(uid.to_owned(), prefs.sync_settings.clone());
}

/// What those who track a database want together; none where nobody does.
fn together(users: &HashMap<String, SyncSettings>) -> Option<Wishes> {
    let enabled = || users.values().filter(|settings| settings.sync_enabled);
    (!users.is_empty()).then(|| Wishes {
        enabled: enabled().next().is_some(),
        on_commit: enabled().any(|settings| settings.sync_on_commit),
        interval_s: enabled()
            .filter_map(|settings| settings.interval_seconds)
            .min(),
    })
}

impl Accounts {
    pub(crate) fn load(local: LocalDatabase) -> Result<Self> {
        let accounts = Self {
            local,
            tracking: RwLock::default(),
        };
        for (_, user) in accounts.users()? {
            let tracked = accounts.all_tracked(&user.uid)?;
            let mut tracking = accounts.tracking.write();
            tracked
                .iter()
                .for_each(|prefs| note(&mut tracking, &user.uid, prefs));
        }
        Ok(accounts)
    }

    /// What all users of the instance together want of a database; none where nobody tracks it.
    pub(crate) fn wishes(&self, database: &Id) -> Option<Wishes> {
        self.tracking.read().get(database).and_then(together)
    }

    /// Of all databases that somebody tracks.
    pub(crate) fn all_wishes(&self) -> Vec<(Id, Wishes)> {
        let tracking = self.tracking.read();
        let of = |(id, users): (&Id, _)| together(users).map(|wishes| (*id, wishes));
        tracking.iter().filter_map(of).collect()
    }

    /// The device key, made when there is none.
    pub(crate) fn device_key(&self) -> Result<SecretKey> {
        self.plain_key(DEVICE)
    }

    /// Forgets the device key and every claim that was made for it: the next opening makes another.
    pub(crate) fn forget_device(&self) -> Result<()> {
        let claims = self.local.table::<ClaimRow>(CLAIMS)?.get_all()?;
        self.local.transact(|edits| {
            edits.table::<PlainKey>(PLAIN_KEYS)?.delete(name_key(DEVICE))?;
            let table = edits.table::<ClaimRow>(CLAIMS)?;
            claims.iter().try_for_each(|(row, _)| table.delete(row.as_str()))
        })?;
        Ok(())
    }

    /// The instance's own key of this name, made when there is none.
    pub(crate) fn plain_key(&self, name: &str) -> Result<SecretKey> {
        let row = name_key(name);
        if let Some(key) = self.find_plain_key(name)? {
            return Ok(key);
        }
        let key = SecretKey::generate(&mut rand::rng());
        let record = PlainKey {
            secret: key.expose().to_vec().into(),
        };
        self.local.transact(|edits| {
            edits
                .table::<PlainKey>(PLAIN_KEYS)?
                .insert(row.as_str(), &record)
        })?;
        Ok(key)
    }

    /// The instance's own key of this name.
    pub(crate) fn find_plain_key(&self, name: &str) -> Result<Option<SecretKey>> {
        let row = self
            .local
            .table::<PlainKey>(PLAIN_KEYS)?
            .get(&name_key(name))?;
        let key = |row: PlainKey| row.secret.as_ref().try_into().map(SecretKey::from_bytes);
        row.map(key)
            .transpose()
            .map_err(|_| Error::Damaged("a key of the instance".into()))
    }

    pub(crate) fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        Ok(self
            .local
            .table::<UserRecord>(USERS)?
            .get(&name_key(name))?)
    }

    /// All users with their names, in the order of the names.
    pub(crate) fn users(&self) -> Result<Vec<(String, UserRecord)>> {
        let rows = self.local.table::<UserRecord>(USERS)?.get_all()?;
        Ok(rows
            .into_iter()
            .map(|(row, record)| (row.strip_prefix(NAME_PREFIX).unwrap_or(&row).into(), record))
            .collect())
    }

    /// Writes a user and all its keys at once.
    pub(crate) fn put_user(&self, name: &str, user: &UserRecord, keys: &[KeyRecord]) -> Result<()> {
        self.local.transact(|edits| {
            edits
                .table::<UserRecord>(USERS)?
                .insert(name_key(name), user)?;
            let table = edits.table::<KeyRecord>(KEYS)?;
            keys.iter()
                .try_for_each(|key| table.insert(key_row(&user.uid, key.id), key))
        })?;
        Ok(())
    }

    pub(crate) fn keys(&self, uid: &str) -> Result<Vec<KeyRecord>> {
        let table = self.local.table::<KeyRecord>(KEYS)?;
        let rows = table.rows().prefix(&format!("{uid}/")).iter();
        rows.map(|row| Ok(row?.1)).collect()
    }

    pub(crate) fn put_key(&self, uid: &str, key: &KeyRecord) -> Result<()> {
        self.local.transact(|edits| {
            edits
                .table::<KeyRecord>(KEYS)?
                .insert(key_row(uid, key.id), key)
        })?;
        Ok(())
    }

    /// Deletes a key and the claim that was made with it.
    pub(crate) fn delete_key(&self, uid: &str, key: KeyId) -> Result<()> {
        self.local.transact(|edits| {
            edits.table::<KeyRecord>(KEYS)?.delete(key_row(uid, key))?;
            edits.table::<ClaimRow>(CLAIMS)?.delete(key_row(uid, key))
        })?;
        Ok(())
    }

    /// Whether a user or the instance itself has the private half of a key.
    pub(crate) fn holds(&self, key: KeyId) -> Result<bool> {
        for (_, user) in self.users()? {
            let table = self.local.table::<KeyRecord>(KEYS)?;
            if table.get(&key_row(&user.uid, key))?.is_some() {
                return Ok(true);
            }
        }
        let own = self.local.table::<PlainKey>(PLAIN_KEYS)?.get_all()?;
        let of = |row: &PlainKey| row.secret.as_ref().try_into().map(SecretKey::from_bytes);
        Ok(own
            .iter()
            .filter_map(|(_, row)| of(row).ok())
            .any(|secret| secret.public() == key.public_key()))
    }

    pub(crate) fn tracked(
        &self,
        uid: &str,
        database: &Id,
    ) -> Result<Option<UserDatabasePreferences>> {
        Ok(self
            .local
            .table::<UserDatabasePreferences>(TRACKED)?
            .get(&database_row(uid, database))?)
    }

    pub(crate) fn all_tracked(&self, uid: &str) -> Result<Vec<UserDatabasePreferences>> {
        let table = self.local.table::<UserDatabasePreferences>(TRACKED)?;
        let rows = table.rows().prefix(&format!("{uid}/")).iter();
        rows.map(|row| Ok(row?.1)).collect()
    }

    pub(crate) fn put_tracked(&self, uid: &str, prefs: &UserDatabasePreferences) -> Result<()> {
        let row = database_row(uid, &prefs.database_id);
        // Held over the write, so that memory and rows change in one order.
        let mut tracking = self.tracking.write();
        self.local.transact(|edits| {
            let table = edits.table::<UserDatabasePreferences>(TRACKED)?;
            table.insert(row.as_str(), prefs)
        })?;
        note(&mut tracking, uid, prefs);
        Ok(())
    }

    pub(crate) fn delete_tracked(&self, uid: &str, database: &Id) -> Result<()> {
        let row = database_row(uid, database);
        let mut tracking = self.tracking.write();
        self.local.transact(|edits| {
            let table = edits.table::<UserDatabasePreferences>(TRACKED)?;
            table.delete(row.as_str())
        })?;
        if let Some(users) = tracking.get_mut(database) {
            users.remove(uid);
        }
        Ok(())
    }

    /// The stored claims of a user.
    pub(crate) fn claims(&self, uid: &str) -> Result<Vec<DeviceClaim>> {
        let table = self.local.table::<ClaimRow>(CLAIMS)?;
        let rows = table.rows().prefix(&format!("{uid}/")).iter();
        let claim = |row: ClaimRow| DeviceClaim::decode(row.claim.as_ref());
        rows.map(|row| claim(row?.1).map_err(|error| Error::Damaged(error.to_string())))
            .collect()
    }

    pub(crate) fn put_claims(&self, uid: &str, claims: &[DeviceClaim]) -> Result<()> {
        self.local.transact(|edits| {
            let table = edits.table::<ClaimRow>(CLAIMS)?;
            claims.iter().try_for_each(|claim| {
                table.insert(
                    key_row(uid, claim.key().into()),
                    &ClaimRow {
                        claim: claim.encode().into(),
                    },
                )
            })
        })?;
        Ok(())
    }
}

/// Row keys are never empty, names may be.
const NAME_PREFIX: char = '=';

fn name_key(name: &str) -> String {
    format!("{NAME_PREFIX}{name}")
}

fn key_row(uid: &str, key: KeyId) -> String {
    format!("{uid}/{key}")
}

fn database_row(uid: &str, database: &Id) -> String {
    format!("{uid}/{database}")
}
