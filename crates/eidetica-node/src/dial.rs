//! Dialling: a channel, then the identity handshake on it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, SecretKey};
use eidetica_engine::{ConnectError, OutgoingRequest, OutgoingState};
use eidetica_entry::PublicKey;
use eidetica_protocol::{
    Blame, PeerIdentity,
    handshake::{HandshakeError, Initiator, Side, VERSIONS},
    limits::CLAIMS,
};
use eidetica_transport::{Address, Blame as TransportBlame, Channel, FrameStream, TransportError};
use tokio::time::timeout;

use crate::{NodeError, clock::now_ms, handle::Shared, pool::Pool};

/// Dials peers in the name of this device.
pub(crate) struct Dialer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) device: Arc<SecretKey>,
    pub(crate) pool: Arc<Pool>,
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
        let claims = self.claims(pinned).await;
        let identity = timeout(
            limits.handshake,
            introduce(&*channel, &self.device, &claims, pinned),
        )
        .await
        .map_err(|_| late("handshake", limits.handshake))??;
        Ok((channel, identity))
    }

    /// What the claims that are shown to a peer rest on: it changes when others are to be shown.
    pub(crate) fn basis(&self, peer: Option<PublicKey>) -> u64 {
        let changes = *self.shared.claims.borrow();
        let engine = self.shared.engine.lock();
        if engine.claims(now_ms()).nth(CLAIMS).is_none() {
            return changes;
        }
        let mut hasher = DefaultHasher::new();
        (changes, peer.map(|peer| *peer.as_bytes())).hash(&mut hasher);
        if let Some(peer) = peer {
            let requests = engine.outgoing_requests();
            let waiting = requests.filter(|request| waits_at(request, &peer));
            waiting.for_each(|request| request.id.hash(&mut hasher));
            engine.related(&peer).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Those to show to a peer: of keys whose requests wait there first, then what it takes to have what is synced with it.
    async fn claims(&self, peer: Option<PublicKey>) -> Vec<DeviceClaim> {
        let (all, first, databases) = {
            let engine = self.shared.engine.lock();
            let requests = engine.outgoing_requests();
            let first =
                requests.filter(|request| peer.is_some_and(|peer| waits_at(request, &peer)));
            (
                engine.claims(now_ms()).cloned().collect(),
                first.map(|request| request.key).collect(),
                peer.map_or_else(Vec::new, |peer| engine.related(&peer)),
            )
        };
        self.pool.choose_claims(all, first, databases).await
    }
}

fn waits_at(request: &OutgoingRequest, peer: &PublicKey) -> bool {
    request.peer == *peer && request.state == OutgoingState::Pending
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
