//! The handle on the synchronization of an instance.

use std::{
    borrow::Borrow,
    sync::{Arc, Weak},
};

use eidetica_auth::{
    AccessRequest, DeviceClaim, IntoPermission, RequestId, Scope, limits as auth_limits,
};
use eidetica_engine::{PeerStatus, Selection, Target};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::{NodeError, NodeHandle};
use eidetica_transport::{Address, Transport};

use super::{
    state::SyncTree,
    types::{AsAddress, BootstrapRequest, BootstrapStatus, PeerInfo, SyncReport, TreeInfo},
};
use crate::{
    AsDatabaseId, AsKey, Error, Instance, KeyId, KeyRef, Result, User, instance::WeakInstance,
    limits, user::Session,
};

/// The synchronization of an instance. Does not keep the instance open.
#[derive(Clone)]
pub struct Sync {
    pub(super) node: NodeHandle,
    instance: WeakInstance,
    /// The user among whose keys a key's name is looked up first.
    pub(super) user: Option<Weak<Session>>,
}

/// Transports and the server.
impl Sync {
    /// Enables synchronization over HTTP: encrypted and authenticated by itself, so that no
    /// certificates are needed.
    ///
    /// # Errors
    /// None today.
    #[cfg(feature = "http")]
    pub fn enable_http_transport(&self) -> Result<()> {
        let transport = eidetica_transport_http::HttpTransport::new().map_err(NodeError::from)?;
        self.enable_transport(Arc::new(transport))
    }

    /// Enables synchronization from peer to peer over Iroh, through NAT and with the device key as the
    /// endpoint's: with public relays, and look-up at public servers and on the local network. See
    /// [`IrohConfig`](super::IrohConfig) for other ways.
    ///
    /// Returns at once; the endpoint is bound when something is first dialled or served.
    ///
    /// # Errors
    /// [`Error::Closed`].
    #[cfg(feature = "iroh")]
    pub fn enable_iroh_transport(&self) -> Result<()> {
        self.enable_iroh_transport_with(super::IrohConfig::default())
    }

    /// [`enable_iroh_transport`](Self::enable_iroh_transport) with other relays, or none.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "iroh")]
    pub fn enable_iroh_transport_with(&self, config: super::IrohConfig) -> Result<()> {
        let device = self.instance()?.device_secret().expose();
        let transport = eidetica_transport_iroh::IrohTransport::new(&device, config);
        self.enable_transport(Arc::new(transport))
    }

    /// Enables a transport of the caller's own, in place of one of the same scheme.
    ///
    /// # Errors
    /// None today.
    pub fn enable_transport(&self, transport: Arc<dyn Transport>) -> Result<()> {
        self.node.enable(transport);
        Ok(())
    }

    /// Starts serving peers on every enabled transport; blocks until it listens. For HTTP `address`
    /// is `host:port`, where port 0 is any free one; Iroh ignores it.
    ///
    /// # Errors
    /// No transport is enabled, the server runs already, or the address cannot be had.
    pub fn start_server(&self, address: impl AsRef<str>) -> Result<()> {
        self.node.start_server(address.as_ref()).wait()?;
        Ok(())
    }

    /// [`start_server`](Self::start_server) without blocking.
    ///
    /// # Errors
    /// As there.
    pub async fn start_server_async(&self, address: impl AsRef<str>) -> Result<()> {
        self.node.start_server(address.as_ref()).await?;
        Ok(())
    }

    /// Starts serving peers as the *service* that all processes of the instance are together: whoever connects meets
    /// [`Instance::service_key`], whichever of them answers. For processes behind one address, that of a load
    /// balancer; peers are told that address and not the ones that are listened on.
    ///
    /// # Errors
    /// As [`start_server`](Self::start_server).
    pub fn start_service(&self, address: impl AsRef<str>) -> Result<()> {
        self.node.start_service(address.as_ref()).wait()?;
        Ok(())
    }

    /// The peers that this process works with in the background, where several processes share the work.
    pub fn held_peers(&self) -> Vec<KeyId> {
        self.node
            .held_peers()
            .into_iter()
            .map(KeyId::from)
            .collect()
    }

    /// Stops serving; requests that run have a few seconds.
    ///
    /// # Errors
    /// The server does not run.
    pub fn stop_server(&self) -> Result<()> {
        Ok(self.node.stop_server().wait()?)
    }

    /// [`stop_server`](Self::stop_server) without blocking.
    ///
    /// # Errors
    /// As there.
    pub async fn stop_server_async(&self) -> Result<()> {
        Ok(self.node.stop_server().await?)
    }

    /// Whether the server runs.
    pub fn is_server_running(&self) -> bool {
        self.node.is_server_running()
    }

    /// Where peers can dial the server: the first of
    /// [`get_server_addresses`](Self::get_server_addresses).
    ///
    /// # Errors
    /// The server does not run.
    pub fn get_server_address(&self) -> Result<Address> {
        let first = self.node.server_addresses().into_iter().next();
        first.ok_or_else(|| NodeError::ServerNotRunning.into())
    }

    /// [`get_server_address`](Self::get_server_address), which never waits.
    ///
    /// # Errors
    /// As there.
    pub async fn get_server_address_async(&self) -> Result<Address> {
        self.get_server_address()
    }

    /// Where peers can dial the server, HTTP before Iroh; empty if it does not run.
    pub fn get_server_addresses(&self) -> Vec<Address> {
        self.node.server_addresses()
    }
}

/// Synchronizing.
impl Sync {
    /// Synchronizes a database with whoever is at `address`, both ways. If the database is not
    /// here, it is fetched whole; if it is, only what differs is. The peer becomes known, and the
    /// database related to it.
    ///
    /// `None` means every database that is related to the peer, as
    /// [`sync_all_with_peer`](Self::sync_all_with_peer) does.
    ///
    /// # Errors
    /// [`Error::Sync`]: nobody there, no such database there that this device may read (the answers
    /// are the same), or a peer that sends what is not sound.
    pub async fn sync_with_peer<T>(
        &self,
        address: impl AsAddress,
        database: Option<&T>,
    ) -> Result<SyncReport>
    where
        T: AsDatabaseId + ?Sized,
    {
        let target = Target::Address(address.as_address()?);
        self.sync(target, select(database)?).await
    }

    /// Synchronizes every database that is related to whoever is at `address`.
    ///
    /// # Errors
    /// As [`sync_with_peer`](Self::sync_with_peer).
    pub async fn sync_all_with_peer(&self, address: impl AsAddress) -> Result<SyncReport> {
        self.sync(Target::Address(address.as_address()?), Selection::Related)
            .await
    }

    /// Synchronizes a database with a peer that is known, at any of its addresses.
    ///
    /// # Errors
    /// As [`sync_with_peer`](Self::sync_with_peer), and [`Error::NoSuchPeer`].
    pub async fn sync_tree_with_peer(
        &self,
        peer: impl AsKey,
        database: impl AsDatabaseId,
    ) -> Result<SyncReport> {
        let target = Target::Peer(self.peer_key(&peer.as_key())?);
        self.sync(target, select(Some(&database))?).await
    }

    pub(super) async fn sync(&self, target: Target, databases: Selection) -> Result<SyncReport> {
        let report = self.node.sync(target, databases, true).await?;
        Ok(SyncReport::of(report).map_err(NodeError::from)?)
    }

    /// Sends what a peer lacks of the database, in the background and with retries, until it
    /// succeeded once. Survives a restart.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`], [`Error::NoDatabase`], and [`Error::Database`] where the entry is not
    /// in it.
    pub fn queue_entry_for_sync(
        &self,
        peer: impl AsKey,
        entry: impl Borrow<Id>,
        database: impl Borrow<Id>,
    ) -> Result<()> {
        let (entry, database) = (*entry.borrow(), *database.borrow());
        let peer = self.peer_key(&peer.as_key())?;
        let held = self.instance()?.open_inner(&database)?.get(&entry)?;
        held.ok_or(eidetica_database::Error::NoEntry(entry))?;
        Ok(self.node.queue(peer, database).wait()?)
    }

    /// The databases that a peer lets this device read.
    ///
    /// # Errors
    /// Nobody there, or no answer.
    pub async fn discover_peer_trees(&self, address: impl AsAddress) -> Result<Vec<TreeInfo>> {
        let found = self
            .node
            .discover(Target::Address(address.as_address()?))
            .await?;
        let info = |database: eidetica_protocol::DatabaseInfo| TreeInfo {
            tree_id: database.id(),
            name: database.name().to_owned(),
            entries: database.entries(),
        };
        Ok(found.databases.into_iter().map(info).collect())
    }

    /// How synchronization stands: see [`state`](super::state).
    pub fn sync_tree(&self) -> SyncTree {
        SyncTree::new(self.node.clone())
    }
}

/// Peers.
impl Sync {
    /// Connects to whoever is at `address`, which proves its device key, and registers it.
    ///
    /// # Errors
    /// Nobody there, or another than the address names.
    pub async fn connect_to_peer(&self, address: impl AsAddress) -> Result<KeyId> {
        let peer = self
            .node
            .connect(Target::Address(address.as_address()?))
            .await?;
        Ok(peer.into())
    }

    /// Remembers a peer by its device key; again: only the name changes.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] for a text that is no key, and a name that may not be shown.
    pub fn register_peer(&self, peer: impl AsKey, display_name: Option<&str>) -> Result<()> {
        let KeyRef::Id(key) = peer.as_key() else {
            return Err(Error::NoSuchPeer(Box::new(peer.as_key())));
        };
        eidetica_auth::check_public_key(&key.public_key())
            .map_err(|_| Error::NoSuchPeer(Box::new(KeyRef::Id(key))))?;
        Ok(self
            .node
            .register_peer(key.public_key(), display_name.map(str::to_owned))
            .wait()?)
    }

    /// Remembers where a peer can be dialled, first at the address that was given or worked last. Of more than 16 the
    /// last is forgotten.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] and [`Error::Address`].
    pub fn add_peer_address(&self, peer: impl AsKey, address: impl AsAddress) -> Result<()> {
        let peer = self.peer_key(&peer.as_key())?;
        Ok(self
            .node
            .add_peer_address(peer, address.as_address()?)
            .wait()?)
    }

    /// Forgets an address of a peer.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] and [`Error::Address`].
    pub fn remove_peer_address(&self, peer: impl AsKey, address: impl AsAddress) -> Result<()> {
        let peer = self.peer_key(&peer.as_key())?;
        Ok(self
            .node
            .remove_peer_address(peer, address.as_address()?)
            .wait()?)
    }

    /// Allows, pauses or blocks a peer.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`].
    pub fn set_peer_status(&self, peer: impl AsKey, status: PeerStatus) -> Result<()> {
        let peer = self.peer_key(&peer.as_key())?;
        Ok(self.node.set_peer_status(peer, status).wait()?)
    }

    /// Forgets a peer and everything about it.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`].
    pub fn remove_peer(&self, peer: impl AsKey) -> Result<()> {
        let peer = self.peer_key(&peer.as_key())?;
        Ok(self.node.remove_peer(peer).wait()?)
    }

    /// What is known of a peer.
    ///
    /// # Errors
    /// None today.
    pub fn get_peer_info(&self, peer: impl AsKey) -> Result<Option<PeerInfo>> {
        let key = match self.peer_key(&peer.as_key()) {
            Ok(key) => key,
            Err(Error::NoSuchPeer(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(self.node.peer(&key).map(PeerInfo::from))
    }

    /// All peers that are known, in the order of their keys.
    ///
    /// # Errors
    /// None today.
    pub fn list_peers(&self) -> Result<Vec<PeerInfo>> {
        Ok(self.node.peers().into_iter().map(PeerInfo::from).collect())
    }

    /// The device key of a peer, by key or by display name.
    fn peer_key(&self, peer: &KeyRef) -> Result<PublicKey> {
        match peer {
            KeyRef::Id(key) => match self.node.peer(&key.public_key()) {
                Some(found) => Ok(found.pubkey),
                None => Err(Error::NoSuchPeer(Box::new(peer.clone()))),
            },
            KeyRef::Name(name) => {
                let mut named = self.node.peers();
                named.retain(|info| info.display_name.as_deref() == Some(name));
                match named.as_slice() {
                    [one] => Ok(one.pubkey),
                    [] => Err(Error::NoSuchPeer(Box::new(peer.clone()))),
                    several => {
                        let found = several.iter().map(|info| info.pubkey.into()).collect();
                        Err(Error::AmbiguousKey {
                            name: name.clone(),
                            found,
                        })
                    }
                }
            }
        }
    }
}

/// Access.
impl Sync {
    /// Asks whoever is at `address` for access to a database with one of our keys, and if it is
    /// granted, synchronizes the database.
    ///
    /// The key is looked up among the keys of the user whose database gave this handle, then of the
    /// users that are logged in, then of the instance, which makes a new one for a name that nobody
    /// has.
    ///
    /// # Errors
    /// [`Error::BootstrapPending`] where an administrator there has to decide;
    /// [`Error::AccessDenied`]; and as [`sync_with_peer`](Self::sync_with_peer).
    pub async fn sync_with_peer_for_bootstrap<T>(
        &self,
        address: impl AsAddress,
        database: &T,
        key: impl AsKey,
        permission: impl IntoPermission,
    ) -> Result<SyncReport>
    where
        T: AsDatabaseId + ?Sized,
    {
        let (address, database) = (address.as_address()?, database.as_database_id()?);
        let request = self.request(database, &key.as_key(), permission)?;
        let answer = self
            .node
            .bootstrap(Target::Address(address.clone()), request)
            .await?
            .answer;
        match answer.into() {
            BootstrapStatus::Granted => self.sync_with_peer(address, Some(&database)).await,
            BootstrapStatus::Pending(request_id) => Err(Error::BootstrapPending { request_id }),
            BootstrapStatus::Denied => Err(Error::AccessDenied(database)),
        }
    }

    /// Signs a request, after saying that this device acts for the key.
    pub(super) fn request(
        &self,
        database: Id,
        key: &KeyRef,
        permission: impl IntoPermission,
    ) -> Result<eidetica_auth::SignedRequest> {
        let instance = self.instance()?;
        let user = self.user.as_ref().and_then(User::of);
        let secret = instance.find_or_make_key(key, user.as_ref())?;
        let device = instance.device_key().public_key();
        let end = self
            .node
            .now_ms()
            .saturating_add(auth_limits::CLAIM_LIFETIME_MS);
        self.node
            .put_claim(DeviceClaim::make(&secret, device, Scope::All, end)?)
            .wait()?;
        let name = instance.public_name(secret.public().into(), key, user.as_ref())?;
        let (permission, nonce) = (permission.into_permission(), rand::random());
        let request = AccessRequest {
            database,
            key: secret.public(),
            permission,
            name,
            device,
            nonce,
        };
        Ok(request.sign(&secret)?)
    }

    /// Asks what became of a request for access that was made from here.
    ///
    /// # Errors
    /// No such request, or the peer was not reached.
    pub async fn bootstrap_status(&self, request: &RequestId) -> Result<BootstrapStatus> {
        Ok(self.node.poll_request(*request).await?.answer.into())
    }

    /// Waits until a request for access that was made from here is decided; if it is granted, until the
    /// database is here. What is granted is fetched in any case, also when nobody waits.
    ///
    /// # Errors
    /// [`Error::AccessDenied`]; no such request; as [`sync_with_peer`](Self::sync_with_peer).
    pub async fn await_bootstrap(&self, request: &RequestId) -> Result<()> {
        let deadline = std::time::Duration::from_secs(limits::REQUEST_DAYS * 24 * 3600);
        let database = self
            .node
            .outgoing_requests()
            .into_iter()
            .find(|own| own.id == *request)
            .map(|own| own.database);
        match (self.node.await_request(*request, deadline).await?, database) {
            (false, Some(database)) => Err(Error::AccessDenied(database)),
            _ => Ok(()),
        }
    }

    /// Withdraws a request for access that was made from here.
    ///
    /// # Errors
    /// No such request, or the peer was not reached.
    pub async fn cancel_bootstrap_request(&self, request: &RequestId) -> Result<()> {
        Ok(self.node.cancel_request(*request).await?)
    }

    /// The requests of others for access to databases here, pending and decided.
    ///
    /// # Errors
    /// None today.
    pub fn list_bootstrap_requests(&self) -> Result<Vec<BootstrapRequest>> {
        Ok(self
            .node
            .incoming_requests()
            .into_iter()
            .map(BootstrapRequest::from)
            .collect())
    }

    /// Grants what a request asks for, signed by an administrator's key. Again: the same result. A
    /// key that has a right of its own keeps exactly that.
    ///
    /// # Errors
    /// No such request, decided otherwise, or no right to grant it; [`Error::NoSuchKey`].
    pub fn approve_bootstrap_request(&self, request: &RequestId, by: impl AsKey) -> Result<()> {
        let user = self.user.as_ref().and_then(User::of);
        let by = self.instance()?.find_key(&by.as_key(), user.as_ref())?;
        Ok(self.node.approve(*request, by.public()).wait()?)
    }

    /// Refuses a request. Again: the same result.
    ///
    /// # Errors
    /// No such request, or decided otherwise.
    pub fn reject_bootstrap_request(&self, request: &RequestId) -> Result<()> {
        Ok(self.node.reject(*request).wait()?)
    }
}

impl Sync {
    pub(crate) fn new(node: NodeHandle, instance: WeakInstance) -> Self {
        Self {
            node,
            instance,
            user: None,
        }
    }

    /// The same handle, acting for a user.
    pub(crate) fn acting_for(&self, user: Weak<Session>) -> Self {
        Self {
            user: Some(user),
            ..self.clone()
        }
    }

    pub(crate) fn node(&self) -> &NodeHandle {
        &self.node
    }

    pub(crate) fn instance(&self) -> Result<Instance> {
        self.instance.upgrade().ok_or(Error::Closed)
    }
}

impl std::fmt::Debug for Sync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sync")
            .field("addresses", &self.get_server_addresses())
            .finish_non_exhaustive()
    }
}

fn select<T: AsDatabaseId + ?Sized>(database: Option<&T>) -> Result<Selection> {
    Ok(match database {
        Some(database) => Selection::These(vec![database.as_database_id()?]),
        None => Selection::Related,
    })
}
