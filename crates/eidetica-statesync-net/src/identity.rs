//! Who is at the other end of a channel: the identity handshake of entry synchronization, with pinned keys.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::SecretKey;
use eidetica_entry::PublicKey;
use eidetica_protocol::{
    Refusal,
    handshake::{Acceptor, HandshakeError, Initiator, Side, VERSIONS},
};
use eidetica_transport::{Binding, Channel, FrameSink, FrameStream, ServerChannel, TransportError};

/// The key of this side and the keys that it talks to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    device: Arc<SecretKey>,
    allowed: Arc<[PublicKey]>,
}

/// Why a peer has not proven itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The channel failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The handshake failed, or the peer refused.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer has proven a key that is not one of those allowed.
    #[error("the peer has the key {0}, which is not allowed")]
    NotAllowed(PublicKey),
}

impl Identity {
    /// This side's key, and whom it talks to.
    #[must_use]
    pub fn new(device: SecretKey, allowed: &[PublicKey]) -> Self {
        Self {
            device: Arc::new(device),
            allowed: allowed.into(),
        }
    }

    /// The key that this side proves.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.device.public()
    }

    /// Proves both keys, from the dialling side.
    pub(crate) async fn introduce(
        &self,
        channel: &dyn Channel,
    ) -> Result<PublicKey, IdentityError> {
        let (waiting, hello) = Initiator::start(&self.side(channel.binding()), None)?;
        let answer = ask(channel, hello).await?;
        let (proving, proof) = waiting.answered(&answer, &self.device, &[])?;
        let identity = proving.welcomed(&ask(channel, proof).await?)?;
        self.admit(identity.device)
    }

    /// Proves both keys, from the accepting side.
    pub(crate) async fn identify(
        &self,
        channel: &mut dyn ServerChannel,
    ) -> Result<PublicKey, IdentityError> {
        let (hello, reply) = one_frame(channel).await?;
        let greeted = Acceptor::hello(&self.side(channel.binding()), &hello);
        let acceptor = respond(reply, greeted).await?;
        let (proof, reply) = one_frame(channel).await?;
        let proven = acceptor.proof(&proof).and_then(|(identity, welcome)| {
            let admitted = self.allowed.contains(&identity.device);
            let refused = HandshakeError::Refused(Refusal::IDENTITY);
            admitted
                .then_some((identity.device, welcome))
                .ok_or(refused)
        });
        respond(reply, proven).await
    }

    fn admit(&self, device: PublicKey) -> Result<PublicKey, IdentityError> {
        let admitted = self.allowed.contains(&device).then_some(device);
        admitted.ok_or(IdentityError::NotAllowed(device))
    }

    fn side(&self, binding: Binding) -> Side<'_> {
        Side {
            device: &self.device,
            binding: *binding.as_bytes(),
            nonce: rand::random(),
            versions: VERSIONS,
        }
    }
}

/// A request of one frame with a response of one frame.
pub(crate) async fn ask(channel: &dyn Channel, frame: Bytes) -> Result<Bytes, TransportError> {
    let mut response = channel.request(FrameStream::of([frame])).await?;
    only_frame(&mut response).await
}

/// The frame of a stream that has one.
pub(crate) async fn only_frame(stream: &mut FrameStream) -> Result<Bytes, TransportError> {
    let frame = stream.next().await?.ok_or(TransportError::Truncated)?;
    match stream.next().await? {
        None => Ok(frame),
        Some(_) => Err(TransportError::Protocol {
            detail: "a message of two frames",
        }),
    }
}

async fn one_frame(channel: &mut dyn ServerChannel) -> Result<(Bytes, FrameSink), TransportError> {
    let next = channel.next_request().await;
    let (mut request, reply) = next.ok_or(TransportError::PeerGone)?;
    Ok((only_frame(&mut request).await?, reply))
}

/// Sends what a step of the handshake answers, or that it is refused.
async fn respond<T>(
    mut reply: FrameSink,
    step: Result<(T, Bytes), HandshakeError>,
) -> Result<T, IdentityError> {
    let (result, frame) = match step {
        Ok((next, frame)) => (Ok(next), frame),
        Err(error) => {
            let refusal = error.refusal();
            (Err(error), refusal)
        }
    };
    reply.send(frame).await?;
    reply.finish();
    Ok(result?)
}
