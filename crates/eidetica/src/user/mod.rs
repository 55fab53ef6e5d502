//! Users of an instance: their keys, and the databases they track.

pub(crate) mod keyring;
mod sealed;
pub mod types;

use std::{
    cmp::Reverse,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use eidetica_auth::{
    AuthRecord, DeviceClaim, IntoPermission, KeyName, Permission, Right, Scope, SecretKey,
    VaultKey, limits as auth_limits,
};
use eidetica_crdt::Doc;
use eidetica_database::NewDatabase;
use eidetica_entry::{Entry, Id};
use parking_lot::RwLock;
use rand::Rng as _;

pub use self::sealed::{SealedKey, SealedKeyError};
use self::{
    keyring::{HeldKey, KeyRecord, Keyring, Vault, refuse},
    types::{
        AccessSource, DatabasePreferences, KeyAccess, KeyInfo, KeyRole, UserDatabasePreferences,
    },
};
use crate::{
    AsDatabaseId, AsKey, Database, Error, Instance, KeyId, KeyRef, Result,
    accounts::{Accounts, PutKey, UserRecord},
    clock::now_ms,
};

/// The names of the keys that a new user gets.
const DEFAULT_KEY_NAME: &str = "default";
const RECOVERY_KEY_NAME: &str = "recovery";

/// A logged-in user. A cheap handle: clones act for the same user. The private keys are in memory
/// as long as a clone or a [`Database`] that it opened lives.
#[derive(Clone)]
pub struct User(Arc<Session>);

/// What [`User::rotate_key`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rotation {
    /// The settings entry that says so.
    pub entry: Entry,
    /// The key that gave its right up.
    pub from: KeyId,
    /// The key that has it now.
    pub to: KeyId,
}

/// What the clones of a [`User`] share.
pub(crate) struct Session {
    instance: Instance,
    name: String,
    uid: String,
    keys: RwLock<Keyring>,
    /// When the claims of all its keys were made.
    claimed_ms: AtomicU64,
}

impl User {
    /// The user's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The instance that the user is logged in to.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// The key that is used where none is named.
    ///
    /// # Errors
    /// None today.
    pub fn get_default_key(&self) -> Result<KeyId> {
        Ok(self.0.keys.read().default)
    }

    /// Makes another signing key the default one.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::AmbiguousKey`], [`Error::KeyRole`] for the recovery key.
    pub fn set_default_key(&self, key: impl AsKey) -> Result<()> {
        let mut keys = self.0.keys.write();
        let (id, held) = own_key(&keys, &key.as_key())?;
        if held.role != KeyRole::Signing {
            return Err(Error::KeyRole {
                key: id.public_key(),
                detail: "is for recovery",
            });
        }
        if !self.0.accounts().set_default_key(&self.0.name, id)? {
            // The user is gone, or another process has forgotten the key.
            self.0.record()?;
            return Err(Error::NoSuchKey(Box::new(id.as_key())));
        }
        keys.default = id;
        Ok(())
    }

    /// The user's keys, in the order of their ids.
    ///
    /// # Errors
    /// None today.
    pub fn list_keys(&self) -> Result<Vec<KeyInfo>> {
        Ok(self.0.keys.read().infos())
    }

    /// Makes a new signing key. Its name, if it has one, must be free.
    ///
    /// # Errors
    /// [`Error::KeyExists`], [`Error::Name`], and what storing gives.
    pub fn add_private_key(&self, name: Option<&str>) -> Result<KeyId> {
        self.import_private_key(SecretKey::generate(&mut rand::rng()), name)
    }

    /// Adds a signing key that was made elsewhere. Adding the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::KeyExists`], [`Error::Name`], and what storing gives.
    pub fn import_private_key(&self, secret: SecretKey, name: Option<&str>) -> Result<KeyId> {
        let name = KeyName::new(name.unwrap_or_default())?.to_string();
        let (secret, role) = (Arc::new(secret), KeyRole::Signing);
        self.0.import(HeldKey {
            secret,
            name,
            role,
            added_at: now_ms(),
        })
    }

    /// The private half of a key, to be kept elsewhere. Asks for the password again, so that an
    /// unattended program does not give keys away.
    ///
    /// # Errors
    /// [`Error::Login`], [`Error::NoSuchKey`] and [`Error::AmbiguousKey`].
    pub fn export_private_key(&self, key: impl AsKey, password: Option<&str>) -> Result<SecretKey> {
        self.0.record()?.vault.open(&self.0.uid, password)?;
        let keys = self.0.keys.read();
        own_key(&keys, &key.as_key()).map(|(_, held)| SecretKey::clone(&held.secret))
    }

    /// A private key, sealed by a passphrase, as text for another device; see
    /// [`import_key`](Self::import_key). Asks for the user's password, if there is one, as
    /// [`export_private_key`](Self::export_private_key) does. Whoever gets the text may guess at the
    /// passphrase for as long as he likes: take a long one.
    ///
    /// Takes some tenths of a second, by design.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`], [`Error::Login`], [`Error::NoSuchKey`] and [`Error::AmbiguousKey`].
    pub fn export_key(
        &self,
        key: impl AsKey,
        password: Option<&str>,
        passphrase: &str,
    ) -> Result<SealedKey> {
        self.0.record()?.vault.open(&self.0.uid, password)?;
        let held = own_key(&self.0.keys.read(), &key.as_key()).map(|(_, held)| held.clone())?;
        SealedKey::seal(&held, passphrase)
    }

    /// Adds a key that was sealed by [`export_key`](Self::export_key) elsewhere, a recovery key as one.
    /// It gets `name`, or else the name that it had there, with a number after it if that is taken here.
    /// Adding the same key again changes nothing.
    ///
    /// # Errors
    /// [`Error::Passphrase`], [`Error::SealedKey`], [`Error::KeyExists`] and [`Error::Name`] for `name`,
    /// and what storing gives.
    pub fn import_key(
        &self,
        sealed: &SealedKey,
        passphrase: &str,
        name: Option<&str>,
    ) -> Result<KeyId> {
        let mut key = sealed.open(passphrase)?;
        key.name = match name {
            Some(name) => KeyName::new(name)?.to_string(),
            None => self.0.keys.read().free_name(&key.name),
        };
        self.0.import(key)
    }

    /// Forgets a key on this instance. What it wrote and what it may do elsewhere stays as it is.
    /// Export the recovery key first and keep it away from this machine, then forget it here: that
    /// is what it is for.
    ///
    /// # Errors
    /// [`Error::KeyRole`] for the default key, [`Error::NoSuchKey`] and [`Error::AmbiguousKey`].
    pub fn forget_private_key(&self, key: impl AsKey) -> Result<()> {
        let mut keys = self.0.keys.write();
        let (id, _) = own_key(&keys, &key.as_key())?;
        if id == keys.default || !self.0.accounts().delete_key(&self.0.name, id)? {
            // Or another process has made it the default one.
            self.0.record()?;
            return Err(Error::KeyRole {
                key: id.public_key(),
                detail: "is the default key",
            });
        }
        keys.remove(id);
        drop(keys);
        self.0.instance.remove_claim(id)
    }

    /// Changes the password, or sets or removes one. Every secret is sealed anew, all or none of them:
    /// after a crash either the old password opens everything or the new one does. Handles that are
    /// logged in stay so.
    ///
    /// # Errors
    /// [`Error::Login`] where `old` is wrong; then nothing has changed.
    pub fn change_password(&self, old: Option<&str>, new: Option<&str>) -> Result<()> {
        let mut keys = self.0.keys.write();
        let record = self.0.record()?;
        let (before, _) = record.vault.open(&self.0.uid, old)?;
        let vault = VaultKey::generate(&mut rand::rng());
        let sealed = Vault::seal(&vault, &self.0.uid, new)?;
        let held =
            self.0
                .accounts()
                .reseal(&self.0.name, (&record.vault, &before), (&sealed, &vault))?;
        // Another process was faster.
        let held = held.ok_or(Error::PasswordChanged)?;
        *keys = Keyring::new(vault, sealed, record.default_key, held);
        Ok(())
    }

    /// Creates a database with these settings. `key` becomes an `Admin(0)` of it, beside what the
    /// settings' `auth` section gives, and the user's recovery key stands above it.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::AmbiguousKey`], [`Error::Auth`], and what storing gives.
    pub fn create_database(&self, settings: Doc, key: impl AsKey) -> Result<Database> {
        let (id, held) =
            own_key(&self.0.keys.read(), &key.as_key()).map(|(id, held)| (id, held.clone()))?;
        if held.role != KeyRole::Signing {
            return Err(Error::KeyRole {
                key: id.public_key(),
                detail: "is for recovery",
            });
        }
        let (settings, records) = self.0.authority_of_new(settings, &held)?;
        let new = NewDatabase {
            records,
            settings,
            timestamp_ms: Some(now_ms()),
        };
        let inner = self
            .0
            .instance
            .databases()
            .create(new, Arc::clone(&held.secret))?;
        Database::new(
            inner,
            self.0.instance.clone(),
            Some(self.clone()),
            held.secret,
        )
    }

    /// Opens a database with the key that the user's preferences name, or else with the one that
    /// may do most in it.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], and [`Error::NoAccess`] where none of the user's keys has a right in
    /// it.
    pub fn open_database(&self, database: impl AsDatabaseId) -> Result<Database> {
        let database = database.as_database_id()?;
        let tracked = self.0.accounts().tracked(&self.0.uid, &database)?;
        let preferred = tracked
            .map(|prefs| prefs.key_id)
            .filter(|id| self.0.keys.read().get(*id).is_some());
        let best = match preferred {
            Some(id) if self.right_of(&database, id)?.is_some() => Some(id),
            _ => self.find_key(database)?,
        };
        self.open_database_with_key(database, best.ok_or(Error::NoAccess(database))?)
    }

    /// Opens a database with a key of the user's choice, whatever its right.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], [`Error::NoSuchKey`] and [`Error::AmbiguousKey`].
    pub fn open_database_with_key(
        &self,
        database: impl AsDatabaseId,
        key: impl AsKey,
    ) -> Result<Database> {
        let inner = self.0.instance.open_inner(&database.as_database_id()?)?;
        let secret = own_key(&self.0.keys.read(), &key.as_key())
            .map(|(_, held)| Arc::clone(&held.secret))?;
        Database::new(inner, self.0.instance.clone(), Some(self.clone()), secret)
    }

    /// Gives a right in a database to a key, or to another user of this instance, who can open it from
    /// then on: see [`Database::find_member`] for what may be named. Signed with the key that
    /// [`open_database`](Self::open_database) takes. Of several grants the strongest counts.
    ///
    /// # Errors
    /// As [`open_database`](Self::open_database) and [`Database::find_member`]; no right to grant this.
    pub fn share_database(
        &self,
        database: impl AsDatabaseId,
        with: impl AsKey,
        permission: impl IntoPermission,
    ) -> Result<KeyId> {
        let database = self.open_database(database)?;
        let member = database.find_member(with)?;
        let permission = permission.into_permission();
        let key = member.key.public_key();
        database
            .change_settings(|settings| settings.grant(key, permission, member.name.as_str()))?;
        Ok(member.key)
    }

    /// Hands what the key of `database` may do there by name to another key of the user, a new one for
    /// `None`, which signs in its stead from then on: as the handle's key, in the user's preferences,
    /// and, a new one, as the default key if the old one was that. No remedy for a stolen key: see
    /// [`SettingsStore::rotate`](crate::SettingsStore::rotate).
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] and [`Error::AmbiguousKey`]; as `rotate`.
    pub fn rotate_key(&self, database: &Database, to: Option<&KeyRef>) -> Result<Rotation> {
        let from = database.default_auth_key();
        let name = database.find_member(from)?.name;
        let key = match to {
            Some(key) => own_key(&self.0.keys.read(), key)?.0,
            None => self.add_private_key(None)?,
        };
        let rotated =
            database.change_settings(|settings| settings.rotate(key.public_key(), name.as_str()));
        let entry = match rotated {
            Err(error) if to.is_none() => {
                // The new key is good for nothing.
                self.forget_private_key(key)?;
                return Err(error);
            }
            rotated => rotated?,
        };
        database.set_default_auth_key(key)?;
        if to.is_none() && self.get_default_key()? == from {
            self.set_default_key(key)?;
        }
        let tracked = self
            .0
            .accounts()
            .tracked(&self.0.uid, &database.root_id())?;
        if let Some(mut prefs) = tracked.filter(|prefs| prefs.key_id == from) {
            prefs.key_id = key;
            self.0.put_prefs(prefs)?;
        }
        Ok(Rotation {
            entry,
            from,
            to: key,
        })
    }

    /// The signing key of the user that has the strongest right in a database, the default key
    /// first among equals; `None` where none has any.
    ///
    /// # Errors
    /// [`Error::NoDatabase`].
    pub fn find_key(&self, database: impl AsDatabaseId) -> Result<Option<KeyId>> {
        let access = self.key_access(database)?;
        let keys = self.0.keys.read();
        let is_signing = |id| keys.get(id).is_some_and(|key| key.role == KeyRole::Signing);
        Ok(access
            .into_iter()
            .map(|access| access.key)
            .find(|key| is_signing(*key)))
    }

    /// What the user's keys may do in a database: the strongest right first, the default key first
    /// among equals. Keys without a right there are left out.
    ///
    /// # Errors
    /// [`Error::NoDatabase`].
    pub fn key_access(&self, database: impl AsDatabaseId) -> Result<Vec<KeyAccess>> {
        let database = database.as_database_id()?;
        let inner = self.0.instance.open_inner(&database)?;
        let authority = inner.authority()?;
        let keys = self.0.keys.read();
        let mut found = Vec::new();
        for (key, _) in keys.iter() {
            let Some(access) = inner.access_of(&key.public_key())? else {
                continue;
            };
            let explicit = authority.explicit_right_of(&key.public_key());
            let source = match access.via.first() {
                Some(via) => AccessSource::Delegation(via.database),
                None if explicit == Some(access.right) => AccessSource::Direct,
                None => AccessSource::Wildcard,
            };
            found.push(KeyAccess {
                database,
                key,
                right: access.right,
                source,
            });
        }
        found.sort_by_key(|access| (Reverse(access.right), access.key != keys.default));
        Ok(found)
    }

    /// What the user's keys may do in the databases of this instance, by the ids of the databases.
    /// O(databases x keys).
    ///
    /// # Errors
    /// What reading gives.
    pub fn list_access(&self) -> Result<Vec<KeyAccess>> {
        let databases = self.0.instance.list_databases()?;
        let access = databases.into_iter().map(|id| self.key_access(id));
        Ok(access.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Tracks a database, or changes how it is tracked. It need not be here yet. If it is, and the
    /// key that is named has no right in it, but another one of the user has, that one is used.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] where the user does not have the key.
    pub fn add_database(&self, mut prefs: DatabasePreferences) -> Result<()> {
        own_key(&self.0.keys.read(), &KeyRef::Id(prefs.key_id))?;
        let id = prefs.database_id;
        if self.0.instance.has_database(id)? && self.right_of(&id, prefs.key_id)?.is_none() {
            prefs.key_id = self.find_key(id)?.unwrap_or(prefs.key_id);
        }
        let before = self.0.accounts().tracked(&self.0.uid, &id)?;
        let added_at = before.map_or_else(now_ms, |before| before.added_at);
        self.0.put_prefs(UserDatabasePreferences {
            database_prefs: prefs,
            added_at,
        })
    }

    /// Changes the preferences of a tracked database.
    ///
    /// # Errors
    /// [`Error::NotTracked`], and [`Error::NoSuchKey`] where the user does not have the key.
    pub fn set_prefs(&self, prefs: DatabasePreferences) -> Result<()> {
        own_key(&self.0.keys.read(), &KeyRef::Id(prefs.key_id))?;
        let added_at = self.database_prefs(prefs.database_id)?.added_at;
        self.0.put_prefs(UserDatabasePreferences {
            database_prefs: prefs,
            added_at,
        })
    }

    /// The preferences of a tracked database.
    ///
    /// # Errors
    /// [`Error::NotTracked`].
    pub fn database_prefs(&self, database: impl AsDatabaseId) -> Result<UserDatabasePreferences> {
        let database = database.as_database_id()?;
        self.0
            .accounts()
            .tracked(&self.0.uid, &database)?
            .ok_or(Error::NotTracked(database))
    }

    /// The preferences of all tracked databases, in the order of their ids.
    ///
    /// # Errors
    /// What reading gives.
    pub fn list_database_prefs(&self) -> Result<Vec<UserDatabasePreferences>> {
        self.0.accounts().all_tracked(&self.0.uid)
    }

    /// Stops tracking a database; its data stay.
    ///
    /// # Errors
    /// [`Error::NotTracked`].
    pub fn remove_database(&self, database: impl AsDatabaseId) -> Result<()> {
        let database = database.as_database_id()?;
        self.database_prefs(database)?;
        self.0.accounts().delete_tracked(&self.0.uid, &database)?;
        self.0.instance.tell_wishes(&database)
    }

    pub(crate) fn uid(&self) -> &str {
        self.0.uid()
    }

    fn right_of(&self, database: &Id, key: KeyId) -> Result<Option<Right>> {
        self.0.instance.right_of(database, key)
    }

    pub(crate) fn session(&self) -> Weak<Session> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn of(session: &Weak<Session>) -> Option<Self> {
        session.upgrade().map(Self)
    }

    pub(crate) fn find_keys(&self, key: &KeyRef) -> Vec<(KeyId, Arc<SecretKey>)> {
        self.0.find_keys(key)
    }

    pub(crate) fn public_name(&self, key: KeyId) -> Option<KeyName> {
        self.0.public_name(key)
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// Creating users and logging them in.
impl Session {
    pub(crate) fn create(accounts: &Accounts, name: &str, password: Option<&str>) -> Result<()> {
        check_user_name(name)?;
        if accounts.user(name)?.is_some() {
            return Err(Error::UserExists(name.into()));
        }
        let mut rng = rand::rng();
        let mut uid = [0; 16];
        rng.fill_bytes(&mut uid);
        let uid = data_encoding::HEXLOWER.encode(&uid);
        let vault = VaultKey::generate(&mut rng);
        let added_at = now_ms();
        let mut key = |name: &str, role| HeldKey {
            secret: Arc::new(SecretKey::generate(&mut rng)),
            name: name.into(),
            role,
            added_at,
        };
        let keys = [
            key(DEFAULT_KEY_NAME, KeyRole::Signing),
            key(RECOVERY_KEY_NAME, KeyRole::Recovery),
        ];
        let [default, _] = &keys;
        let record = UserRecord {
            default_key: default.id(),
            vault: Vault::seal(&vault, &uid, password)?,
            created_at: added_at,
            uid,
        };
        let sealed: Result<Vec<KeyRecord>> = keys
            .iter()
            .map(|key| key.seal(&vault, &record.uid))
            .collect();
        match accounts.add_user(name, &record, &sealed?)? {
            true => Ok(()),
            false => Err(Error::UserExists(name.into())),
        }
    }

    /// Checks the password and gives the session of the user: the one that is open already, or a
    /// new one. All handles of a user share one, so that a change of keys or password is everybody's.
    pub(crate) fn login(instance: &Instance, name: &str, password: Option<&str>) -> Result<User> {
        let Some(record) = instance.accounts().user(name)? else {
            return Err(refuse(password));
        };
        let (vault, outdated) = record.vault.open(&record.uid, password)?;
        let session = instance.share_session(&record.uid, || {
            Self::load(instance, name, record.vault.clone(), vault.clone())
        })?;
        session.renew(&record.vault, &vault)?;
        if outdated {
            session.seal_vault_again(&vault, password)?;
        }
        session.claim_all(now_ms())?;
        Ok(User(session))
    }

    /// Opens the keys of a user who has no session.
    fn load(instance: &Instance, name: &str, sealed: Vault, vault: VaultKey) -> Result<Self> {
        let accounts = instance.accounts();
        let record = accounts.user(name)?.ok_or(Error::Login)?;
        let keys = stored_keys(accounts, name, &record, &sealed, &vault)?;
        Ok(Self {
            instance: instance.clone(),
            name: name.into(),
            keys: RwLock::new(Keyring::new(vault, sealed, record.default_key, keys)),
            uid: record.uid,
            claimed_ms: AtomicU64::new(0),
        })
    }

    /// Takes the keys as they are stored: other processes may have changed them, or the password.
    fn renew(&self, sealed: &Vault, vault: &VaultKey) -> Result<()> {
        let mut keys = self.keys.write();
        let record = self.record()?;
        let held = stored_keys(self.accounts(), &self.name, &record, sealed, vault)?;
        *keys = Keyring::new(vault.clone(), sealed.clone(), record.default_key, held);
        Ok(())
    }

    /// Seals the vault at today's cost, while the password is at hand.
    fn seal_vault_again(&self, vault: &VaultKey, password: Option<&str>) -> Result<()> {
        let mut keys = self.keys.write();
        if !keys.has_vault(vault) {
            return Ok(());
        }
        let sealed = Vault::seal(vault, &self.uid, password)?;
        let again = self.accounts().change_user(&self.name, |record| {
            let is_same = record.vault == keys.sealed;
            if is_same {
                record.vault = sealed.clone();
            }
            is_same
        })?;
        if again {
            keys.sealed = sealed;
        }
        Ok(())
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// Renews what is said of all keys of a user who stays logged in, when half of its time is over.
    pub(crate) fn renew_claims(&self, now_ms: u64) -> Result<()> {
        let claimed_ms = self.claimed_ms.load(Ordering::Relaxed);
        match now_ms.saturating_sub(claimed_ms) < auth_limits::CLAIM_LIFETIME_MS / 2 {
            true => Ok(()),
            false => self.claim_all(now_ms),
        }
    }

    fn claim_all(&self, now_ms: u64) -> Result<()> {
        let keys = self.keys.read();
        let held: Vec<HeldKey> = keys.signing().map(|(_, key)| key.clone()).collect();
        // It may wait for the sync engine, which looks keys up.
        drop(keys);
        self.claim(&held, now_ms)?;
        self.claimed_ms.store(now_ms, Ordering::Relaxed);
        Ok(())
    }

    /// Renews the statements of these keys that the devices of this instance act for them, and stores
    /// them: synchronization in the background shows them when nobody is logged in.
    fn claim<'a>(&self, keys: impl IntoIterator<Item = &'a HeldKey>, now_ms: u64) -> Result<()> {
        let end = now_ms.saturating_add(auth_limits::CLAIM_LIFETIME_MS);
        let devices = self.instance.devices()?;
        let mut claims = Vec::new();
        for key in keys {
            for device in &devices {
                let claim = DeviceClaim::make(&key.secret, *device, Scope::All, end);
                claims.push(claim.map_err(|error| Error::Damaged(error.to_string()))?);
            }
        }
        let service = self.instance.service_key().public_key();
        let stored = self.accounts().put_claims(&self.uid, claims, service)?;
        self.instance.put_claims(stored)
    }
}

impl Session {
    pub(crate) fn find_keys(&self, key: &KeyRef) -> Vec<(KeyId, Arc<SecretKey>)> {
        self.keys.read().find(key)
    }

    /// What others read a key of this user as; `None` for a key of somebody else.
    pub(crate) fn public_name(&self, key: KeyId) -> Option<KeyName> {
        let keys = self.keys.read();
        keys.get(key).map(|held| public_name(&self.name, held))
    }

    fn accounts(&self) -> &Accounts {
        self.instance.accounts()
    }

    fn record(&self) -> Result<UserRecord> {
        self.accounts().user(&self.name)?.ok_or_else(|| self.gone())
    }

    fn gone(&self) -> Error {
        Error::Damaged(format!("user {:?} is gone", self.name))
    }

    fn import(&self, key: HeldKey) -> Result<KeyId> {
        self.add_key(&key)?;
        // With no lock held: it may wait for the sync engine, which looks keys up.
        if key.role == KeyRole::Signing {
            self.claim([&key], now_ms())?;
        }
        Ok(key.id())
    }

    fn add_key(&self, key: &HeldKey) -> Result<()> {
        let mut keys = self.keys.write();
        if keys.get(key.id()).is_some() {
            return Ok(());
        }
        if !key.name.is_empty() && !keys.find(&KeyRef::Name(key.name.clone())).is_empty() {
            return Err(Error::KeyExists(key.name.clone()));
        }
        let record = key.seal(&keys.vault, &self.uid)?;
        match self.accounts().put_key(&self.name, &keys.sealed, &record)? {
            PutKey::Done => keys.insert(key.clone()),
            // By another process: what is sealed by the old key would not open any more.
            PutKey::OtherVault => return Err(Error::PasswordChanged),
            PutKey::NameTaken => return Err(Error::KeyExists(key.name.clone())),
        }
        Ok(())
    }

    fn put_prefs(&self, prefs: UserDatabasePreferences) -> Result<()> {
        self.accounts().put_tracked(&self.uid, &prefs)?;
        self.instance.tell_wishes(&prefs.database_id)
    }

    /// Takes the `auth` section out of the settings of a new database and adds the owner and the
    /// recovery keys.
    fn authority_of_new(
        &self,
        mut settings: Doc,
        owner: &HeldKey,
    ) -> Result<(Doc, Vec<AuthRecord>)> {
        let given = match settings.remove("auth") {
            Some(section) => section.to_json(),
            None => serde_json::json!({}),
        };
        let section = given.as_object().ok_or(Error::Text {
            what: "the auth section",
            form: "a map",
        })?;
        let mut own = vec![AuthRecord::grant(
            owner.id().public_key(),
            Permission::Admin(0),
            public_name(&self.name, owner),
        )];
        for (id, key) in self
            .keys
            .read()
            .iter()
            .filter(|(_, key)| key.role == KeyRole::Recovery)
        {
            let (right, name) = (Right::Recovery, public_name(&self.name, key));
            own.push(AuthRecord::Grant {
                key: id.public_key(),
                right,
                name,
            });
        }
        let mut records = eidetica_auth::records_from_json(section)?;
        records.retain(|record| match record {
            AuthRecord::Grant { key, .. } => !own
                .iter()
                .any(|own| matches!(own, AuthRecord::Grant { key: k, .. } if k == key)),
            _ => true,
        });
        records.extend(own);
        Ok((settings, records))
    }
}

/// The user's keys as they are stored, opened; [`Error::Login`] where the password was changed since `sealed` was read.
fn stored_keys(
    accounts: &Accounts,
    name: &str,
    record: &UserRecord,
    sealed: &Vault,
    vault: &VaultKey,
) -> Result<Vec<HeldKey>> {
    let records = accounts.keys(&record.uid)?;
    let open = |key: &KeyRecord| HeldKey::open(key, vault, &record.uid);
    let keys: Result<Vec<HeldKey>> = records.iter().map(open).collect();
    // After the keys were read: what is sealed by another one is no damage.
    match accounts.user(name)? {
        Some(now) if now.vault == *sealed => keys,
        _ => Err(Error::Login),
    }
}

/// The user's name, and after a slash that of the key, if it says more and both together are not too long.
fn public_name(user: &str, key: &HeldKey) -> KeyName {
    let user_name = KeyName::new(user).unwrap_or_default();
    if matches!(key.name.as_str(), "" | DEFAULT_KEY_NAME) {
        return user_name;
    }
    KeyName::new(&format!("{user}/{}", key.name)).unwrap_or(user_name)
}

/// The one key of the user that `key` names.
fn own_key<'a>(keys: &'a Keyring, key: &KeyRef) -> Result<(KeyId, &'a HeldKey)> {
    let found: Vec<KeyId> = keys.find(key).into_iter().map(|(id, _)| id).collect();
    match (found.as_slice(), key) {
        ([id], _) => keys
            .get(*id)
            .map(|held| (*id, held))
            .ok_or_else(|| Error::NoSuchKey(Box::new(key.clone()))),
        ([_, _, ..], KeyRef::Name(name)) => Err(Error::AmbiguousKey {
            name: name.clone(),
            found,
        }),
        _ => Err(Error::NoSuchKey(Box::new(key.clone()))),
    }
}

/// A user's name is a key's name that is not empty.
fn check_user_name(name: &str) -> Result<()> {
    KeyName::new(name)?;
    if name.is_empty() {
        return Err(Error::Text {
            what: "a user name",
            form: "1 to 255 bytes without control characters",
        });
    }
    Ok(())
}
