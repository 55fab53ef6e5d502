//! An instance: one backend with all the databases and users in it.

use std::sync::{Arc, Weak};

use eidetica_auth::{DeviceClaim, KeyName, Right, SecretKey};
use eidetica_database::{Config, Databases, VerifyReport};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::{DatabasesBackend, Node, NodeConfig, NodeHandle};
use parking_lot::Mutex;
use rand::Rng as _;

use crate::{
    AsDatabaseId, Error, KeyId, KeyRef, Result,
    accounts::{Accounts, LOCAL_NAME},
    backend::{self, Backend},
    backup::settle_copy,
    limits,
    sync::{Sync, policy::InstancePolicy},
    tending::Tending,
    user::{Session, User},
};

/// One backend with all the databases and users in it. A cheap handle: clones are the same
/// instance, and the last one that is dropped closes it.
///
/// On first opening it makes a *device key*, which names this instance to its peers. It is kept
/// without a password, like the keys of users without one: backends that write files make them
/// readable by their owner alone.
#[derive(Clone)]
pub struct Instance(Arc<Inner>);

struct Inner {
    databases: Databases,
    accounts: Accounts,
    /// This process's.
    device: SecretKey,
    /// The instance's: that of all processes together.
    service: SecretKey,
    /// The name of this process, if it has a device key of its own.
    node: Option<String>,
    /// Held while a user or a key of the instance is made, so that a name is given once.
    making: Mutex<()>,
    sessions: Mutex<Vec<Weak<Session>>>,
    sync: Mutex<Option<Arc<Sync>>>,
    /// Present on a backend that other processes may use.
    _tending: Option<Tending>,
    /// Present once somebody has logged in.
    renewing: Mutex<Option<Tending>>,
}

impl Instance {
    /// Opens the instance in `backend`; an empty one becomes a new instance.
    ///
    /// # Errors
    /// What the backend gives, and a typed error for data of a newer version.
    pub fn open(backend: Box<dyn Backend>) -> Result<Self> {
        Self::open_engine(Arc::from(backend), None)
    }

    /// Opens the instance as one of several processes, which have a name each: see
    /// [`connect_as`](Self::connect_as).
    ///
    /// # Errors
    /// As there.
    pub fn open_as(backend: Box<dyn Backend>, node: &str) -> Result<Self> {
        Self::open_engine(Arc::from(backend), Some(node))
    }

    /// Opens the instance at `location`:
    ///
    /// | location | backend |
    /// |---|---|
    /// | `file:PATH` | the engine of the directory that is there; fjall for a new one |
    /// | `fjall:PATH`, `redb:PATH`, `sqlite:PATH` | that engine in a directory |
    /// | `postgres://USER:PASSWORD@HOST/DATABASE` | a PostgreSQL server, which several processes may share; `?schema=NAME` names the schema |
    /// | `memory:` | memory, gone with the process |
    ///
    /// A path that does not exist is created, for its owner alone. Backends other than fjall are features of this crate.
    ///
    /// # Errors
    /// [`Error::Location`] for another form or a backend that is not built in, and what [`open`](Self::open) gives.
    pub fn connect(location: &str) -> Result<Self> {
        Self::open_engine(backend::open(location)?, None)
    }

    /// Opens the instance at `location` as the *node* of this name: one of several processes on a backend that they
    /// share. Databases, users, peers, requests and invites are of all of them; a node has a device key, statistics
    /// and connections of its own. The work in the background is divided among the nodes that run.
    ///
    /// Names are given by whoever starts the processes: one process at a time has a name. A process without one has
    /// the device key of the instance.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Text`] for an empty name, [`Error::TooManyNodes`], and as
    /// [`connect`](Self::connect).
    pub fn connect_as(location: &str, node: &str) -> Result<Self> {
        Self::open_engine(backend::open(location)?, Some(node))
    }

    fn open_engine(engine: Arc<dyn Backend>, node: Option<&str>) -> Result<Self> {
        let node = node.map(check_node_name).transpose()?;
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let databases = Databases::open(engine, Config::new(seed))?;
        let accounts = Accounts::load(databases.local(LOCAL_NAME)?)?;
        settle_copy(&databases, &accounts)?;
        let service = accounts.device_key()?;
        let device = match &node {
            Some(name) => accounts.node_key(name)?,
            None => service.clone(),
        };
        let (making, sessions, sync, renewing) = Default::default();
        Ok(Self(Arc::new(Inner {
            _tending: Tending::imports(&databases),
            databases,
            accounts,
            device,
            service,
            node,
            making,
            sessions,
            sync,
            renewing,
        })))
    }

    /// The key that names this process to its peers: that of the instance, or of its node.
    pub fn device_key(&self) -> KeyId {
        self.0.device.public().into()
    }

    /// The key that names the instance to its peers, whichever of several processes they reach: see
    /// [`Sync::start_service`](crate::sync::Sync::start_service).
    pub fn service_key(&self) -> KeyId {
        self.0.service.public().into()
    }

    /// The names of the nodes that there have been, with their device keys.
    ///
    /// # Errors
    /// What reading gives.
    pub fn list_nodes(&self) -> Result<Vec<(String, KeyId)>> {
        let nodes = self.0.accounts.nodes()?.into_iter();
        Ok(nodes.map(|(name, key)| (name, key.into())).collect())
    }

    /// Forgets the device key of a node that is gone for good: nobody claims anything for it any more. Says whether
    /// there was one.
    ///
    /// # Errors
    /// What storing gives.
    pub fn forget_node(&self, name: &str) -> Result<bool> {
        self.0.accounts.delete_node(name)
    }

    /// Creates a user, with a signing key of its own and a recovery key.
    ///
    /// With a password, the private keys are sealed by it (Argon2id, XChaCha20-Poly1305). Without
    /// one they are only as safe as the files of the backend.
    ///
    /// # Errors
    /// [`Error::UserExists`], and [`Error::Name`] or [`Error::Text`] where the name is none.
    pub fn create_user(&self, name: &str, password: Option<&str>) -> Result<()> {
        let _making = self.0.making.lock();
        Session::create(&self.0.accounts, name, password)
    }

    /// Logs a user in. With a password this takes some tenths of a second, by design.
    ///
    /// # Errors
    /// [`Error::Login`] where there is no such user or the password is wrong; both take the same
    /// time.
    pub fn login_user(&self, name: &str, password: Option<&str>) -> Result<User> {
        Session::login(self, name, password)
    }

    /// Starts synchronization: a thread that waits for commands. Again: nothing. No transport is
    /// enabled and no port is open yet.
    ///
    /// # Errors
    /// What was remembered of the last time cannot be read, or the system gives no thread.
    pub fn enable_sync(&self) -> Result<Self> {
        let mut sync = self.0.sync.lock();
        if sync.is_none() {
            let node = self.start_node()?;
            let mut claims = self.own_claims()?.into_iter();
            claims.try_for_each(|claim| node.put_claim(claim).wait())?;
            for claim in node.claims() {
                // Of a key that was forgotten while there was no synchronization.
                if !self.0.accounts.holds(claim.key().into())? {
                    node.remove_claim(claim.key()).wait()?;
                }
            }
            *sync = Some(Arc::new(Sync::new(node, self.downgrade())));
        }
        Ok(self.clone())
    }

    /// The handle on synchronization.
    ///
    /// # Errors
    /// [`Error::SyncNotEnabled`].
    pub fn sync(&self) -> Result<Arc<Sync>> {
        self.0.sync.lock().clone().ok_or(Error::SyncNotEnabled)
    }

    fn start_node(&self) -> Result<NodeHandle> {
        let policy = Arc::new(InstancePolicy(self.downgrade()));
        let name = self.0.node.as_deref();
        let databases = self.0.databases.clone();
        let backend = Arc::new(DatabasesBackend::of_node(databases, policy, name)?);
        let (transports, limits) = Default::default();
        let node = Node::start(NodeConfig {
            device: self.0.device.clone(),
            service: Some(self.0.service.clone()),
            backend,
            transports,
            limits,
        })?;
        let announcer = node.clone();
        let databases = &self.0.databases;
        databases.on_change(move |id, here| announcer.announce(*id, here))?;
        Ok(node)
    }

    /// The names of all users, in order.
    ///
    /// # Errors
    /// What reading gives.
    pub fn list_users(&self) -> Result<Vec<String>> {
        Ok(self
            .0
            .accounts
            .users()?
            .into_iter()
            .map(|(name, _)| name)
            .collect())
    }

    /// The ids of all databases in this instance, in order.
    ///
    /// # Errors
    /// What reading gives.
    pub fn list_databases(&self) -> Result<Vec<Id>> {
        Ok(self.0.databases.list()?)
    }

    /// Whether a database is here.
    ///
    /// # Errors
    /// What reading gives, and [`Error::Text`].
    pub fn has_database(&self, database: impl AsDatabaseId) -> Result<bool> {
        Ok(self
            .0
            .databases
            .find(&database.as_database_id()?)?
            .is_some())
    }

    /// Closes the backend: files and locks are free when it returns. Every handle of the instance
    /// fails from now on. The last handle that is dropped does the same, and cannot tell of an
    /// error.
    ///
    /// # Errors
    /// What the backend gives.
    pub fn close(&self) -> Result<()> {
        Ok(self.0.databases.engine().close()?)
    }

    /// Verifies every database here and the rows that this instance keeps for itself; see
    /// [`Database::verify`](eidetica_database::Database::verify).
    ///
    /// # Errors
    /// The backend's. Damage is no error but in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        Ok(self.0.databases.verify()?)
    }

    /// Makes everything written so far survive power loss.
    ///
    /// # Errors
    /// What the backend gives.
    pub fn flush(&self) -> Result<()> {
        Ok(self.0.databases.flush()?)
    }
}

impl Instance {
    pub(crate) fn databases(&self) -> &Databases {
        &self.0.databases
    }

    /// The secret half of the device key.
    #[cfg(feature = "iroh")]
    pub(crate) fn device_secret(&self) -> &SecretKey {
        &self.0.device
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    pub(crate) fn open_inner(&self, id: &Id) -> Result<eidetica_database::Database> {
        self.0.databases.find(id)?.ok_or(Error::NoDatabase(*id))
    }

    pub(crate) fn right_of(&self, database: &Id, key: KeyId) -> Result<Option<Right>> {
        let access = self.open_inner(database)?.access_of(&key.public_key())?;
        Ok(access.map(|access| access.right))
    }

    /// As [`find_key`](Self::find_key); a name that nobody has becomes that of a new key of the
    /// instance.
    pub(crate) fn find_or_make_key(
        &self,
        key: &KeyRef,
        user: Option<&User>,
    ) -> Result<Arc<SecretKey>> {
        match (self.find_key(key, user), key) {
            (Err(Error::NoSuchKey(_)), KeyRef::Name(name)) => {
                KeyName::new(name)?;
                let _making = self.0.making.lock();
                self.0.accounts.plain_key(name).map(Arc::new)
            }
            (found, _) => found,
        }
    }

    /// What others read a key as: its user's name and its own, or what it was asked for by.
    pub(crate) fn public_name(
        &self,
        id: KeyId,
        key: &KeyRef,
        user: Option<&User>,
    ) -> Result<KeyName> {
        let of_user = user.and_then(|user| user.public_name(id));
        let of_session = || {
            let sessions = self.sessions();
            sessions.iter().find_map(|session| session.public_name(id))
        };
        match (of_user.or_else(of_session), key) {
            (Some(name), _) => Ok(name),
            (None, KeyRef::Name(name)) => Ok(KeyName::new(name)?),
            (None, KeyRef::Id(_)) => Ok(KeyName::default()),
        }
    }

    /// The default key of a user, who need not be logged in.
    pub(crate) fn default_key_of(&self, user: &str) -> Result<Option<KeyId>> {
        Ok(self.0.accounts.user(user)?.map(|record| record.default_key))
    }

    /// The user whose default key this is.
    pub(crate) fn name_of_default_key(&self, key: KeyId) -> Result<Option<KeyName>> {
        let users = self.0.accounts.users()?;
        let found = users.iter().find(|(_, record)| record.default_key == key);
        Ok(found.map(|(name, _)| KeyName::new(name)).transpose()?)
    }

    /// The open session of a user, or the one that `load` makes. `load` must not look up keys.
    pub(crate) fn share_session(
        &self,
        uid: &str,
        load: impl FnOnce() -> Result<Session>,
    ) -> Result<Arc<Session>> {
        let mut sessions = self.0.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        let mut open = sessions.iter().filter_map(Weak::upgrade);
        if let Some(found) = open.find(|session| session.uid() == uid) {
            return Ok(found);
        }
        let session = Arc::new(load()?);
        sessions.push(Arc::downgrade(&session));
        let mut renewing = self.0.renewing.lock();
        if renewing.is_none() {
            *renewing = Tending::claims(self.downgrade());
        }
        Ok(session)
    }

    /// Makes the claims of users who are logged in anew where half of their time is over. What fails is tried again.
    pub(crate) fn renew_claims(&self, now_ms: u64) {
        for session in self.sessions() {
            if let Err(error) = session.renew_claims(now_ms) {
                tracing::warn!(%error, "claims of a user who is logged in could not be renewed");
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_renewing(&self) -> bool {
        self.0.renewing.lock().is_some()
    }

    /// Of the users that are logged in.
    fn sessions(&self) -> Vec<Arc<Session>> {
        let sessions = self.0.sessions.lock();
        sessions.iter().filter_map(Weak::upgrade).collect()
    }

    /// Lets the engine know what the users want of a database by now.
    pub(crate) fn tell_wishes(&self, database: &Id) -> Result<()> {
        let Some(sync) = self.0.sync.lock().clone() else {
            return Ok(());
        };
        let wishes = self.0.accounts.wishes(database);
        Ok(sync.node().set_wishes(*database, wishes).wait()?)
    }

    /// Whether a claim is for a device that this process may be.
    fn is_own_claim(&self, claim: &DeviceClaim) -> bool {
        [self.0.device.public(), self.0.service.public()].contains(&claim.device())
    }

    /// The stored claims of all users for this process.
    pub(crate) fn own_claims(&self) -> Result<Vec<DeviceClaim>> {
        let mut own = Vec::new();
        for (_, user) in self.0.accounts.users()? {
            own.extend(self.0.accounts.claims(&user.uid)?);
        }
        own.retain(|claim| self.is_own_claim(claim));
        Ok(own)
    }

    /// The device keys of all processes, and of all together.
    pub(crate) fn devices(&self) -> Result<Vec<PublicKey>> {
        let mut devices = vec![self.0.service.public()];
        if self.0.databases.engine().info().shared {
            let nodes = self.0.accounts.nodes()?.into_iter();
            devices.extend(nodes.map(|(_, key)| key));
        }
        if !devices.contains(&self.0.device.public()) {
            devices.push(self.0.device.public());
        }
        Ok(devices)
    }

    pub(crate) fn put_claims(&self, claims: Vec<DeviceClaim>) -> Result<()> {
        let Some(sync) = self.0.sync.lock().clone() else {
            return Ok(());
        };
        Ok(claims
            .into_iter()
            .filter(|claim| self.is_own_claim(claim))
            .try_for_each(|claim| sync.node().put_claim(claim).wait())?)
    }

    /// Stops telling peers that this device acts for a key.
    pub(crate) fn remove_claim(&self, key: KeyId) -> Result<()> {
        let Some(sync) = self.0.sync.lock().clone() else {
            return Ok(());
        };
        Ok(sync.node().remove_claim(key.public_key()).wait()?)
    }

    pub(crate) fn downgrade(&self) -> WeakInstance {
        WeakInstance(Arc::downgrade(&self.0))
    }

    /// The private key that `key` names: among those of `user`, else of all users that are logged
    /// in, else of the instance itself.
    pub(crate) fn find_key(&self, key: &KeyRef, user: Option<&User>) -> Result<Arc<SecretKey>> {
        if let Some(user) = user
            && let Some(found) = one_of(key, user.find_keys(key))?
        {
            return Ok(found);
        }
        let found = self
            .sessions()
            .iter()
            .flat_map(|session| session.find_keys(key))
            .collect();
        if let Some(found) = one_of(key, found)? {
            return Ok(found);
        }
        let own = match key {
            KeyRef::Name(name) => self.0.accounts.find_plain_key(name)?,
            KeyRef::Id(_) => None,
        };
        own.map(Arc::new)
            .ok_or_else(|| Error::NoSuchKey(Box::new(key.clone())))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(sync) = self.sync.lock().take()
            && let Err(error) = sync.node().shutdown().wait()
        {
            tracing::warn!(%error, "synchronization did not end in order");
        }
        if let Err(error) = self.databases.engine().close() {
            tracing::error!(%error, "the backend did not close");
        }
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("device_key", &self.device_key())
            .finish_non_exhaustive()
    }
}

/// A node's name is a key's name that is not empty, and short enough to be part of another.
fn check_node_name(name: &str) -> Result<String> {
    KeyName::new(name)?;
    if name.is_empty() || name.len() > limits::NODE_NAME {
        return Err(Error::Text {
            what: "the name of a node",
            form: "1 to 100 bytes without control characters",
        });
    }
    Ok(name.to_owned())
}

/// A handle that does not keep the instance open.
#[derive(Clone)]
pub(crate) struct WeakInstance(Weak<Inner>);

impl WeakInstance {
    pub(crate) fn upgrade(&self) -> Option<Instance> {
        self.0.upgrade().map(Instance)
    }

    /// Calls `work` with the instance, if there still is one. For callers on threads of the node:
    /// closing an instance waits for them, so if this handle turns out to be the last one, another
    /// thread closes it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Instance) -> T) -> Option<T> {
        let instance = self.upgrade()?;
        let result = work(&instance);
        if let Some(last) = Arc::into_inner(instance.0) {
            // Without a thread it is dropped by the failing call, and what waits here runs into its
            // limit.
            let closing = std::thread::Builder::new()
                .name("eidetica-close".into())
                .spawn(move || drop(last));
            if let Err(error) = closing {
                tracing::warn!(%error, "no thread to close the instance");
            }
        }
        Some(result)
    }
}

/// At most one of the keys found; several are an error that lists them.
fn one_of(key: &KeyRef, mut found: Vec<(KeyId, Arc<SecretKey>)>) -> Result<Option<Arc<SecretKey>>> {
    found.sort_by_key(|(id, _)| *id);
    found.dedup_by_key(|(id, _)| *id);
    match (found.len(), key) {
        (2.., KeyRef::Name(name)) => {
            let found = found.into_iter().map(|(id, _)| id).collect();
            Err(Error::AmbiguousKey {
                name: name.clone(),
                found,
            })
        }
        _ => Ok(found.pop().map(|(_, secret)| secret)),
    }
}
