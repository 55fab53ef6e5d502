//! A connection to a peer that this node dialled: a channel whose peer has proven who it is, and how to get it back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use eidetica_engine::ConnectError;
use eidetica_entry::PublicKey;
use eidetica_protocol::PeerIdentity;
use eidetica_transport::{Address, Channel, TransportError};
use parking_lot::Mutex;

use crate::dial::Dialer;

/// A link to one peer.
pub(crate) struct Link {
    dialer: Arc<Dialer>,
    address: Address,
    identity: PeerIdentity,
    channel: Mutex<Arc<dyn Channel>>,
    reopening: tokio::sync::Mutex<()>,
    /// Which claims were shown when the channel was made: [`Dialer::basis`].
    shown: AtomicU64,
    broken: AtomicBool,
}

impl Link {
    /// The link to whoever is at `address`: the device with the key `pinned`, or any.
    pub(crate) async fn dial(
        dialer: Arc<Dialer>,
        address: Address,
        pinned: Option<PublicKey>,
    ) -> Result<Self, ConnectError> {
        let shown = dialer.basis(pinned);
        let (channel, identity) = dialer.dial(&address, pinned).await?;
        Ok(Self {
            dialer,
            address,
            identity,
            channel: Mutex::new(channel),
            reopening: tokio::sync::Mutex::new(()),
            shown: AtomicU64::new(shown),
            broken: AtomicBool::new(false),
        })
    }

    pub(crate) fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    pub(crate) fn channel(&self) -> Arc<dyn Channel> {
        Arc::clone(&self.channel.lock())
    }

    /// Whether requests failed on it: it is to be closed, and the peer to be dialled again.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// The channel for a new request: another one if this node's claims have changed, since they are shown when a
    /// channel is made.
    pub(crate) async fn current(&self) -> Result<Arc<dyn Channel>, TransportError> {
        let channel = self.channel();
        let basis = self.dialer.basis(Some(self.identity.device));
        if self.shown.load(Ordering::Acquire) == basis {
            return Ok(channel);
        }
        self.reopen(&channel).await
    }

    /// Another channel to the same peer, since it has forgotten `stale`: channels are soft state there. Once for all
    /// who find out at the same time.
    pub(crate) async fn reopen(
        &self,
        stale: &Arc<dyn Channel>,
    ) -> Result<Arc<dyn Channel>, TransportError> {
        let _turn = self.reopening.lock().await;
        let current = self.channel();
        if !Arc::ptr_eq(&current, stale) {
            return Ok(current);
        }
        let shown = self.dialer.basis(Some(self.identity.device));
        let dialled = self
            .dialer
            .dial(&self.address, Some(self.identity.device))
            .await;
        let (channel, _identity) = dialled.map_err(|error| {
            tracing::debug!(address = %self.address, %error, "cannot reopen a channel");
            TransportError::PeerGone
        })?;
        *self.channel.lock() = Arc::clone(&channel);
        self.shown.store(shown, Ordering::Release);
        Ok(channel)
    }
}
