//! Dialling: a channel, then the identity handshake on it.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, SecretKey};
use eidetica_engine::ConnectError;
use eidetica_entry::PublicKey;
use eidetica_protocol::{
    Blame, PeerIdentity,
    handshake::{HandshakeError, Initiator, Side, VERSIONS},
};
use eidetica_transport::{Address, Blame as TransportBlame, Channel, FrameStream, TransportError};
use tokio::time::timeout;

use crate::{NodeError, clock::now_ms, handle::Shared};

/// Dials peers in the name of this device.
pub(crate) struct Dialer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) device: Arc<SecretKey>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    NoTransport(NodeError),
    #[error("{0}")]
    Transport(#[from] TransportError),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

impl From<DialError> for ConnectError {
    fn from(error: DialError) -> Self {
        let peer_fault = match &error {
            DialError::NoTransport(_) => false,
            DialError::Transport(error) => error.blame() == TransportBlame::Peer,
            DialError::Handshake(error) => error.blame() == Blame::Peer,
        };
        Self {
            text: error.to_string(),
            peer_fault,
        }
    }
}

impl Dialer {
    /// A channel to whoever is at `address`, and who that is: the device with the key `pinned`, or any.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        pinned: Option<PublicKey>,
    ) -> Result<(Arc<dyn Channel>, PeerIdentity), ConnectError> {
        Ok(self.try_dial(address, pinned).await?)
    }

    async fn try_dial(
        &self,
        address: &Address,
        pinned: Option<PublicKey>,
    ) -> Result<(Arc<dyn Channel>, PeerIdentity), DialError> {
        let scheme = address.scheme();
        let transport = self.shared.transport(scheme);
        let transport =
            transport.ok_or(DialError::NoTransport(NodeError::NoTransport(Some(scheme))))?;
        let limits = &self.shared.limits;
        let late = |what, after: std::time::Duration| TransportError::TimedOut {
            what,
            after_ms: after.as_millis() as u64,
        };
        let channel: Arc<dyn Channel> = timeout(limits.dial, transport.connect(address))
            .await
            .map_err(|_| late("connection", limits.dial))??
            .into();
        let claims: Vec<DeviceClaim> = self
            .shared
            .engine
            .lock()
            .claims(now_ms())
            .cloned()
            .collect();
        let identity = timeout(
            limits.handshake,
            introduce(&*channel, &self.device, &claims, pinned),
        )
        .await
        .map_err(|_| late("handshake", limits.handshake))??;
        Ok((channel, identity))
    }
}

/// The identity handshake, from the dialling side.
async fn introduce(
    channel: &dyn Channel,
    device: &SecretKey,
    claims: &[DeviceClaim],
    pinned: Option<PublicKey>,
) -> Result<PeerIdentity, DialError> {
    let side = Side {
        device,
        binding: *channel.binding().as_bytes(),
        nonce: rand::random(),
        versions: VERSIONS,
    };
    let (waiting, hello) = Initiator::start(&side, pinned)?;
    let (proving, proof) = waiting.answered(&ask(channel, hello).await?, device, claims)?;
    Ok(proving.welcomed(&ask(channel, proof).await?)?)
}

/// A request of one frame with a response of one frame.
async fn ask(channel: &dyn Channel, frame: Bytes) -> Result<Bytes, TransportError> {
    let mut response = channel.request(FrameStream::of([frame])).await?;
    let answer = response.next().await?.ok_or(TransportError::Truncated)?;
    match response.next().await? {
        None => Ok(answer),
        Some(_) => Err(TransportError::Protocol {
            detail: "a handshake message of two frames",
        }),
    }
}
