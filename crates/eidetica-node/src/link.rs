//! A connection to a peer that this node dialled: a channel whose peer has proven who it is, and how to get it back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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
    broken: AtomicBool,
}

impl Link {
    pub(crate) fn new(dialer: Arc<Dialer>, address: Address, channel: Arc<dyn Channel>, identity: PeerIdentity) -> Self {
        Self {
            dialer,
            address,
            identity,
            channel: Mutex::new(channel),
            reopening: tokio::sync::Mutex::new(()),
            broken: AtomicBool::new(false),
        }
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

    /// Another channel to the same peer, since it has forgotten `stale`: channels are soft state there. Once for all
    /// who find out at the same time.
    pub(crate) async fn reopen(&self, stale: &Arc<dyn Channel>) -> Result<Arc<dyn Channel>, TransportError> {
        let _turn = self.reopening.lock().await;
        let current = self.channel();
        if !Arc::ptr_eq(&current, stale) {
            return Ok(current);
        }
        let dialled = self.dialer.dial(&self.address, Some(self.identity.device)).await;
        let (channel, _identity) = dialled.map_err(|error| {
            tracing::debug!(address = %self.address, %error, "cannot reopen a channel");
            TransportError::PeerGone
        })?;
        *self.channel.lock() = Arc::clone(&channel);
        Ok(channel)
    }
}
