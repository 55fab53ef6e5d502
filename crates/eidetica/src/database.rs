//! A database in the hands of a user: the handle of `eidetica-database` with a key to sign with.

use std::{ops::Deref, sync::Arc};

use eidetica_auth::{KeyName, Revocation, SecretKey};
use eidetica_database::{
    CallbackId, Import, Origin, RevocationPreview, SettingsStore, Transaction,
};
use eidetica_entry::{Entry, Id};
use parking_lot::RwLock;

use crate::{AsKey, Error, Instance, KeyId, KeyRef, Result, clock::now_ms, user::User};

/// A database, and the key with which this handle signs. A cheap handle: clones share the key.
///
/// Everything that does not sign is on [`eidetica_database::Database`], to which it derefs.
#[derive(Clone)]
pub struct Database {
    inner: eidetica_database::Database,
    instance: Instance,
    user: Option<User>,
    signer: Arc<RwLock<Signer>>,
}

/// With what a handle signs.
#[derive(Clone)]
struct Signer {
    key: Arc<SecretKey>,
    /// Whether the key has its right by way of another database, which its entries then name.
    is_delegated: bool,
}

impl Signer {
    fn new(inner: &eidetica_database::Database, key: Arc<SecretKey>) -> Result<Self> {
        let access = inner.access_of(&key.public())?;
        Ok(Self {
            key,
            is_delegated: access.is_some_and(|access| !access.via.is_empty()),
        })
    }

    fn begin(&self, inner: &eidetica_database::Database) -> Result<Transaction> {
        let transaction = inner
            .new_transaction()
            .with_key(Arc::clone(&self.key))
            .with_timestamp_ms(now_ms());
        if !self.is_delegated {
            return Ok(transaction);
        }
        let access = inner.access_of(&self.key.public())?;
        let via = access.map(|access| access.via).unwrap_or_default();
        Ok(transaction.with_via(via))
    }
}

impl Database {
    pub(crate) fn new(
        inner: eidetica_database::Database,
        instance: Instance,
        user: Option<User>,
        key: Arc<SecretKey>,
    ) -> Result<Self> {
        let signer = Signer::new(&inner, key)?;
        Ok(Self {
            inner,
            instance,
            user,
            signer: Arc::new(RwLock::new(signer)),
        })
    }

    /// The database's id: that of its root entry.
    pub fn root_id(&self) -> Id {
        self.inner.id()
    }

    /// The instance that the database is in.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The handle on synchronization, which looks key names up among those of the user that opened
    /// the database first.
    ///
    /// # Errors
    /// [`Error::SyncNotEnabled`](crate::Error::SyncNotEnabled).
    pub fn sync(&self) -> Result<Arc<crate::sync::Sync>> {
        let sync = self.instance.sync()?;
        Ok(match &self.user {
            Some(user) => Arc::new(sync.acting_for(user.session())),
            None => sync,
        })
    }

    /// The key with which this handle and its clones sign.
    pub fn default_auth_key(&self) -> KeyId {
        self.signer.read().key.public().into()
    }

    /// Makes this handle and its clones sign with another key: of the user that opened it, of any
    /// user that is logged in, or of the instance, by id or name.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`](crate::Error::NoSuchKey) and
    /// [`Error::AmbiguousKey`](crate::Error::AmbiguousKey).
    pub fn set_default_auth_key(&self, key: impl AsKey) -> Result<()> {
        let key = self.instance.find_key(&key.as_key(), self.user.as_ref())?;
        let signer = Signer::new(&self.inner, key)?;
        *self.signer.write() = signer;
        Ok(())
    }

    /// The key that a person means: by its id, or by a name that it has in this database's settings,
    /// among the keys of the user that opened it, or as the default key of a user of this instance.
    /// Names in settings are the word of whoever granted: a name that means several keys is an error.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] and [`Error::AmbiguousKey`].
    pub fn find_member(&self, who: impl AsKey) -> Result<Member> {
        let who = who.as_key();
        let authority = self.inner.authority()?;
        let present = authority
            .keys()
            .map(|(key, entry)| (KeyId::from(*key), entry.name.clone()));
        let gone = authority
            .revoked_keys()
            .map(|(key, entry)| (KeyId::from(*key), entry.name));
        let named = present.chain(gone);
        let name = match &who {
            KeyRef::Id(id) => {
                let name = named
                    .filter(|(key, _)| key == id)
                    .map(|(_, name)| name)
                    .next();
                let own = || self.user.as_ref().and_then(|user| user.public_name(*id));
                let name = match name.or_else(own) {
                    Some(name) => name,
                    None => self.instance.name_of_default_key(*id)?.unwrap_or_default(),
                };
                return Ok(Member { key: *id, name });
            }
            KeyRef::Name(name) => name,
        };
        let mut found: Vec<Member> = named
            .filter(|(_, known)| known.as_str() == name)
            .map(|(key, name)| Member { key, name })
            .collect();
        if let Some(user) = &self.user {
            let own = user.find_keys(&who).into_iter();
            found.extend(
                own.filter_map(|(key, _)| user.public_name(key).map(|name| Member { key, name })),
            );
        }
        if let Some(key) = self.instance.default_key_of(name)? {
            found.push(Member {
                key,
                name: KeyName::new(name)?,
            });
        }
        found.sort_by_key(|member| member.key);
        found.dedup_by_key(|member| member.key);
        match found.len() {
            0 => Err(Error::NoSuchKey(Box::new(who))),
            1 => found.pop().ok_or_else(|| Error::NoSuchKey(Box::new(who))),
            _ => Err(Error::AmbiguousKey {
                name: name.clone(),
                found: found.iter().map(|member| member.key).collect(),
            }),
        }
    }

    /// Begins a transaction that will be signed with the default key.
    ///
    /// # Errors
    /// The backend's, where the key has its right by way of another database.
    pub fn new_transaction(&self) -> Result<Transaction> {
        let signer = self.signer.read().clone();
        signer.begin(&self.inner)
    }

    /// [`new_transaction`](Self::new_transaction) by its other name.
    ///
    /// # Errors
    /// As there.
    pub fn new_operation(&self) -> Result<Transaction> {
        self.new_transaction()
    }

    /// Begins a transaction that will be signed with this key, looked up as
    /// [`set_default_auth_key`](Self::set_default_auth_key) does.
    ///
    /// # Errors
    /// As there.
    pub fn new_authenticated_operation(&self, key: impl AsKey) -> Result<Transaction> {
        let key = self.instance.find_key(&key.as_key(), self.user.as_ref())?;
        Signer::new(&self.inner, key)?.begin(&self.inner)
    }

    /// Runs `work` in a transaction and commits it; again while what it read has changed meanwhile.
    ///
    /// # Errors
    /// Those of `work`, of the commit, and a conflict after [`eidetica_database::limits::TRANSACT_ATTEMPTS`] attempts.
    pub fn transact<T>(&self, mut work: impl FnMut(&Transaction) -> Result<T>) -> Result<T> {
        let done = self.inner.retry(|| {
            let transaction = self.new_transaction()?;
            let result = work(&transaction)?;
            Ok::<_, Error>(transaction.commit().map(|_| result))
        })?;
        Ok(done?)
    }

    /// What would become void or count again if this handle's key revoked so now; nothing is written.
    /// See [`eidetica_database::Database::preview_revocation`].
    ///
    /// # Errors
    /// As there.
    pub fn preview_revocation(
        &self,
        revocation: &Revocation,
        limit: usize,
    ) -> Result<RevocationPreview> {
        let key = Arc::clone(&self.signer.read().key);
        let preview = self
            .inner
            .with_key(key)
            .preview_revocation(revocation, limit);
        Ok(preview?)
    }

    /// Puts one revocation of a key in the place of all that hold: what the key did up to `cut` counts,
    /// or all that is here for `None`, and nothing after. A grant after it lets the key go on.
    ///
    /// # Errors
    /// [`Error::NotRevoked`], and as [`SettingsStore::revoke`](crate::SettingsStore::revoke).
    pub fn correct_revocation(
        &self,
        key: impl AsKey,
        cut: Option<&[Id]>,
        reason: &str,
    ) -> Result<Entry> {
        let key = self.find_member(key)?.key.public_key();
        let held = self
            .inner
            .correction_of(&key)?
            .ok_or(Error::NotRevoked(key))?;
        let cut = match cut {
            Some(cut) => Some(cut.iter().copied().collect()),
            None => held.cut.clone(),
        };
        let reason = KeyName::new(reason)?;
        self.change_settings(|settings| {
            settings.revoke(Revocation {
                cut: cut.clone(),
                reason: reason.clone(),
                ..held.clone()
            })
        })
    }

    /// Lets void data entries count again; see [`SettingsStore::adopt`](crate::SettingsStore::adopt).
    ///
    /// # Errors
    /// As there.
    pub fn adopt(&self, entries: &[Id]) -> Result<Entry> {
        self.change_settings(|settings| settings.adopt(entries.iter().copied()))
    }

    /// Changes the settings in one entry, which it returns.
    ///
    /// # Errors
    /// Those of `work` and of the commit; [`Error::NoChange`] where there is nothing to commit.
    pub fn change_settings(
        &self,
        work: impl Fn(&SettingsStore<'_>) -> Result<(), eidetica_database::Error>,
    ) -> Result<Entry> {
        let op = self.new_transaction()?;
        work(&op.settings())?;
        op.commit()?.ok_or(Error::NoChange)
    }

    /// Begins an import, which makes as many entries as it takes, all at once or none, signed with
    /// the default key.
    pub fn import(&self) -> Import {
        let key = Arc::clone(&self.signer.read().key);
        self.inner
            .with_key(key)
            .import()
            .with_timestamp_ms(now_ms())
    }

    /// Calls `callback` for every entry that is committed on this instance, after it is durable, in
    /// order. An error of the callback is logged and counted and undoes nothing.
    ///
    /// # Errors
    /// More callbacks than a database may have.
    pub fn on_local_write<F>(&self, callback: F) -> Result<CallbackId>
    where
        F: Fn(&Entry, &Database, &Instance) -> Result<()> + Send + Sync + 'static,
    {
        self.on_write(Origin::Local, callback)
    }

    /// Calls `callback` for every entry that comes from a peer, as
    /// [`on_local_write`](Self::on_local_write) does.
    ///
    /// # Errors
    /// As there.
    pub fn on_remote_write<F>(&self, callback: F) -> Result<CallbackId>
    where
        F: Fn(&Entry, &Database, &Instance) -> Result<()> + Send + Sync + 'static,
    {
        self.on_write(Origin::Remote, callback)
    }

    /// The callback stands in the instance, so it must not keep the instance or the user's session
    /// alive: they are looked up when it is called.
    fn on_write<F>(&self, origin: Origin, callback: F) -> Result<CallbackId>
    where
        F: Fn(&Entry, &Database, &Instance) -> Result<()> + Send + Sync + 'static,
    {
        let instance = self.instance.downgrade();
        let user = self.user.as_ref().map(User::session);
        let signer = Arc::clone(&self.signer);
        let call = move |event: &eidetica_database::WriteEvent,
                         inner: &eidetica_database::Database| {
            let call = |instance: &Instance| {
                let user = user.as_ref().and_then(User::of);
                let (inner, signer) = (inner.clone(), Arc::clone(&signer));
                let database = Database {
                    inner,
                    instance: instance.clone(),
                    user,
                    signer,
                };
                callback(&event.entry, &database, instance)
            };
            Ok(instance.with(call).unwrap_or(Ok(()))?)
        };
        let id = match origin {
            Origin::Local => self.inner.on_local_write(call)?,
            Origin::Remote => self.inner.on_remote_write(call)?,
        };
        Ok(id)
    }
}

/// A key that somebody means, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The key.
    pub key: KeyId,
    /// What it is called in the settings, or would be; may be empty.
    pub name: KeyName,
}

impl Deref for Database {
    type Target = eidetica_database::Database;

    fn deref(&self) -> &eidetica_database::Database {
        &self.inner
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("id", &self.root_id())
            .field("key", &self.default_auth_key())
            .finish()
    }
}
