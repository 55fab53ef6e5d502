//! What an instance keeps for itself: its device keys, its users, their sealed keys, claims and
//! preferences. It stands in a local database, which is never offered to a peer.
//!
//! Several processes may be one instance. Whatever is written here on the strength of what was read
//! is written in the transaction that read it, so that nobody's change is lost; only what users want
//! of databases is kept in memory, and [followed](Accounts::follow).

use std::collections::{BTreeSet, HashMap};

use eidetica_auth::{DeviceClaim, SecretKey, VaultKey};
use eidetica_database::LocalDatabase;
use eidetica_engine::Wishes;
use eidetica_entry::{Id, PublicKey};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::{
    Error, KeyId, Result, limits,
    secret::HexSecret,
    user::{
        keyring::{HeldKey, KeyRecord, Vault},
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
const NODES: &str = "nodes";

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

/// What became of a key that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutKey {
    Done,
    /// The password was changed, or the user is gone.
    OtherVault,
    /// Another key of the user has the name.
    NameTaken,
}

/// A key of the instance itself: at rest as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PlainKey {
    secret: HexSecret,
}

impl PlainKey {
    fn new(key: &SecretKey) -> Self {
        Self {
            secret: key.expose().to_vec().into(),
        }
    }

    fn open(&self) -> Result<SecretKey> {
        let key = self.secret.as_ref().try_into().map(SecretKey::from_bytes);
        key.map_err(|_| Error::Damaged("a key of the instance".into()))
    }
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
    /// The version that it was read at, where other processes may write.
    followed: Mutex<u64>,
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
            followed: Mutex::new(local.version()?),
            local,
            tracking: RwLock::default(),
        };
        *accounts.tracking.write() = accounts.read_tracking()?;
        Ok(accounts)
    }

    fn read_tracking(&self) -> Result<Tracking> {
        let mut tracking = Tracking::new();
        for (_, user) in self.users()? {
            for prefs in self.all_tracked(&user.uid)? {
                note(&mut tracking, &user.uid, &prefs);
            }
        }
        Ok(tracking)
    }

    /// Looks whether anything here was written since the last time, and reads again what is in memory, `also` with it.
    /// The databases of which the users want something else than before; none where nothing was written. An error
    /// leaves everything to the next time.
    pub(crate) fn follow<T>(
        &self,
        also: impl FnOnce() -> Result<T>,
    ) -> Result<Option<(Vec<Id>, T)>> {
        let mut followed = self.followed.lock();
        let version = self.local.version()?;
        if *followed == version {
            return Ok(None);
        }
        let also = also()?;
        // Held over the reading, so that what is written here meanwhile comes after it.
        let mut tracking = self.tracking.write();
        let now = self.read_tracking()?;
        let before = std::mem::replace(&mut *tracking, now);
        *followed = version;
        let of = |tracking: &Tracking, id: &Id| tracking.get(id).and_then(together);
        let mut ids: Vec<Id> = before.keys().chain(tracking.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| of(&before, id) != of(&tracking, id));
        Ok(Some((ids, also)))
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
            edits
                .table::<PlainKey>(PLAIN_KEYS)?
                .delete(name_key(DEVICE))?;
            let nodes = edits.table::<PlainKey>(NODES)?;
            let mut names = nodes.get_all()?.into_iter().map(|(row, _)| row);
            names.try_for_each(|row| nodes.delete(row))?;
            let table = edits.table::<ClaimRow>(CLAIMS)?;
            claims
                .iter()
                .try_for_each(|(row, _)| table.delete(row.as_str()))
        })?;
        Ok(())
    }

    /// The instance's own key of this name, made when there is none.
    pub(crate) fn plain_key(&self, name: &str) -> Result<SecretKey> {
        self.key_in(PLAIN_KEYS, &name_key(name), usize::MAX)
    }

    /// The device key of the node of this name, made when there is none.
    pub(crate) fn node_key(&self, name: &str) -> Result<SecretKey> {
        self.key_in(NODES, &name_key(name), limits::NODES)
    }

    /// The key in a row, made when there is none, by one of all processes that want it.
    fn key_in(&self, table: &str, row: &str, limit: usize) -> Result<SecretKey> {
        let made = SecretKey::generate(&mut rand::rng());
        let key = self.local.transact(|edits| {
            let table = edits.table::<PlainKey>(table)?;
            if let Some(found) = table.get(row)? {
                return Ok(Some(found));
            }
            if limit < usize::MAX && table.get_all()?.len() >= limit {
                return Ok(None);
            }
            let key = PlainKey::new(&made);
            table.insert(row, &key)?;
            Ok(Some(key))
        })?;
        key.ok_or(Error::TooManyNodes)?.open()
    }

    /// The device key of the node of this name.
    pub(crate) fn find_node_key(&self, name: &str) -> Result<Option<SecretKey>> {
        let row = self.local.table::<PlainKey>(NODES)?.get(&name_key(name))?;
        row.map(|key| key.open()).transpose()
    }

    /// The names of all nodes with their device keys.
    pub(crate) fn nodes(&self) -> Result<Vec<(String, PublicKey)>> {
        let rows = self.local.table::<PlainKey>(NODES)?.get_all()?;
        rows.into_iter()
            .map(|(row, key)| Ok((name_of_row(&row).to_owned(), key.open()?.public())))
            .collect()
    }

    /// Forgets a node, and what was claimed for it; says whether there was one.
    pub(crate) fn delete_node(&self, name: &str) -> Result<bool> {
        let Some(key) = self.find_node_key(name)? else {
            return Ok(false);
        };
        let end = format!("/{}", KeyId::from(key.public()));
        let claims = self.local.table::<ClaimRow>(CLAIMS)?.get_all()?;
        self.local.transact(|edits| {
            edits.table::<PlainKey>(NODES)?.delete(name_key(name))?;
            let table = edits.table::<ClaimRow>(CLAIMS)?;
            let mut of_node = claims.iter().filter(|(row, _)| row.ends_with(&end));
            of_node.try_for_each(|(row, _)| table.delete(row.as_str()))
        })?;
        Ok(true)
    }

    /// The instance's own key of this name.
    pub(crate) fn find_plain_key(&self, name: &str) -> Result<Option<SecretKey>> {
        let row = self
            .local
            .table::<PlainKey>(PLAIN_KEYS)?
            .get(&name_key(name))?;
        row.map(|key| key.open()).transpose()
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
            .map(|(row, record)| (name_of_row(&row).into(), record))
            .collect())
    }

    /// Writes a new user and all its keys at once; says whether the name was free.
    pub(crate) fn add_user(
        &self,
        name: &str,
        user: &UserRecord,
        keys: &[KeyRecord],
    ) -> Result<bool> {
        Ok(self.local.transact(|edits| {
            let users = edits.table::<UserRecord>(USERS)?;
            if users.contains(&name_key(name))? {
                return Ok(false);
            }
            users.insert(name_key(name), user)?;
            let table = edits.table::<KeyRecord>(KEYS)?;
            keys.iter()
                .try_for_each(|key| table.insert(key_row(&user.uid, key.id), key))?;
            Ok(true)
        })?)
    }

    /// Changes a user's record as it stands; says whether there is one that `change` took.
    pub(crate) fn change_user(
        &self,
        name: &str,
        mut change: impl FnMut(&mut UserRecord) -> bool,
    ) -> Result<bool> {
        Ok(self.local.transact(|edits| {
            let users = edits.table::<UserRecord>(USERS)?;
            let Some(mut user) = users.get(&name_key(name))? else {
                return Ok(false);
            };
            let changed = change(&mut user);
            if changed {
                users.insert(name_key(name), &user)?;
            }
            Ok(changed)
        })?)
    }

    /// Puts another vault key and its seal in the place of `old`, and seals every key of the user by it, whoever added
    /// them. `None` where `old` is not the user's any more; else the keys.
    pub(crate) fn reseal(
        &self,
        name: &str,
        old: (&Vault, &VaultKey),
        new: (&Vault, &VaultKey),
    ) -> Result<Option<Vec<HeldKey>>> {
        let mut outcome = Ok(None);
        self.local.transact(|edits| {
            let users = edits.table::<UserRecord>(USERS)?;
            let user = users.get(&name_key(name))?;
            let Some(mut user) = user.filter(|user| user.vault == *old.0) else {
                outcome = Ok(None);
                return Ok(());
            };
            let table = edits.table::<KeyRecord>(KEYS)?;
            let prefix = format!("{}/", user.uid);
            let records: Vec<KeyRecord> = table
                .rows()
                .prefix(&prefix)
                .iter()
                .map(|row| Ok::<_, eidetica_database::Error>(row?.1))
                .collect::<Result<_, _>>()?;
            let resealed = records.iter().map(|record| {
                let key = HeldKey::open(record, old.1, &user.uid)?;
                let record = key.seal(new.1, &user.uid)?;
                Ok((key, record))
            });
            let resealed: Vec<(HeldKey, KeyRecord)> = match resealed.collect::<Result<_>>() {
                Ok(resealed) => resealed,
                Err(error) => {
                    outcome = Err(error);
                    return Ok(());
                }
            };
            for (key, record) in &resealed {
                table.insert(key_row(&user.uid, key.id()), record)?;
            }
            user.vault = new.0.clone();
            users.insert(name_key(name), &user)?;
            outcome = Ok(Some(resealed.into_iter().map(|(key, _)| key).collect()));
            Ok(())
        })?;
        outcome
    }

    pub(crate) fn keys(&self, uid: &str) -> Result<Vec<KeyRecord>> {
        let table = self.local.table::<KeyRecord>(KEYS)?;
        let rows = table.rows().prefix(&format!("{uid}/")).iter();
        rows.map(|row| Ok(row?.1)).collect()
    }

    /// Writes a key that is sealed by the vault key of `vault`; says whether that is the user's still.
    pub(crate) fn put_key(&self, name: &str, vault: &Vault, key: &KeyRecord) -> Result<PutKey> {
        Ok(self.local.transact(|edits| {
            let user = edits.table::<UserRecord>(USERS)?.get(&name_key(name))?;
            let Some(user) = user.filter(|user| user.vault == *vault) else {
                return Ok(PutKey::OtherVault);
            };
            let table = edits.table::<KeyRecord>(KEYS)?;
            let prefix = format!("{}/", user.uid);
            for row in table.rows().prefix(&prefix).iter() {
                let (_, other) = row?;
                if !key.name.is_empty() && other.name == key.name && other.id != key.id {
                    return Ok(PutKey::NameTaken);
                }
            }
            table.insert(key_row(&user.uid, key.id), key)?;
            Ok(PutKey::Done)
        })?)
    }

    /// Makes a key of a user the default one; says whether both are there.
    pub(crate) fn set_default_key(&self, name: &str, key: KeyId) -> Result<bool> {
        Ok(self.local.transact(|edits| {
            let users = edits.table::<UserRecord>(USERS)?;
            let Some(mut user) = users.get(&name_key(name))? else {
                return Ok(false);
            };
            let row = key_row(&user.uid, key);
            if edits.table::<KeyRecord>(KEYS)?.get(&row)?.is_none() {
                return Ok(false);
            }
            user.default_key = key;
            users.insert(name_key(name), &user)?;
            Ok(true)
        })?)
    }

    /// Deletes a key of a user and the claims that were made with it, unless it is the default one, as another process
    /// may have made it; says whether it did.
    pub(crate) fn delete_key(&self, name: &str, key: KeyId) -> Result<bool> {
        Ok(self.local.transact(|edits| {
            let user = edits.table::<UserRecord>(USERS)?.get(&name_key(name))?;
            let Some(user) = user.filter(|user| user.default_key != key) else {
                return Ok(false);
            };
            let row = key_row(&user.uid, key);
            edits.table::<KeyRecord>(KEYS)?.delete(row.as_str())?;
            let claims = edits.table::<ClaimRow>(CLAIMS)?;
            let rows: Vec<String> = claims
                .rows()
                .prefix(&row)
                .iter()
                .map(|claim| Ok::<_, eidetica_database::Error>(claim?.0))
                .collect::<Result<_, _>>()?;
            rows.iter()
                .try_for_each(|row| claims.delete(row.as_str()))?;
            Ok(true)
        })?)
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
        Ok(own
            .iter()
            .filter_map(|(_, row)| row.open().ok())
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

    /// The users that track a database: their uids and names.
    pub(crate) fn trackers(&self, database: &Id) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for (name, user) in self.users()? {
            if self.tracked(&user.uid, database)?.is_some() {
                found.push((user.uid, name));
            }
        }
        Ok(found)
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

    /// Stores claims, each in place of an older one of the same key for the same device. Those for the device key of
    /// the instance stand where they stood before there were others. Gives those whose keys nobody has forgotten meanwhile.
    pub(crate) fn put_claims(
        &self,
        uid: &str,
        mut claims: Vec<DeviceClaim>,
        instance: PublicKey,
    ) -> Result<Vec<DeviceClaim>> {
        let mut forgotten = BTreeSet::new();
        self.local.transact(|edits| {
            forgotten.clear();
            let table = edits.table::<ClaimRow>(CLAIMS)?;
            let keys = edits.table::<KeyRecord>(KEYS)?;
            claims.iter().try_for_each(|claim| {
                let row = key_row(uid, claim.key().into());
                if keys.get(&row)?.is_none() {
                    forgotten.insert(claim.key());
                    return Ok(());
                }
                let row = match claim.device() == instance {
                    true => row,
                    false => format!("{row}/{}", KeyId::from(claim.device())),
                };
                let claim = claim.encode().into();
                table.insert(row, &ClaimRow { claim })
            })
        })?;
        claims.retain(|claim| !forgotten.contains(&claim.key()));
        Ok(claims)
    }
}

/// Row keys are never empty, names may be.
const NAME_PREFIX: char = '=';

fn name_key(name: &str) -> String {
    format!("{NAME_PREFIX}{name}")
}

fn name_of_row(row: &str) -> &str {
    row.strip_prefix(NAME_PREFIX).unwrap_or(row)
}

fn key_row(uid: &str, key: KeyId) -> String {
    format!("{uid}/{key}")
}

fn database_row(uid: &str, database: &Id) -> String {
    format!("{uid}/{database}")
}
