//! The handshake of a channel, and the keys it leaves.
//!
//! Two messages: the client's ephemeral key; the server's, with the channel's id encrypted. Neither end is named:
//! who they are is proven above, by signatures over the [`Binding`].

use eidetica_transport::{Binding, TransportError};
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::crypto::{Primitives, TAG};

const PATTERN: &str = "Noise_NN_25519_ChaChaPoly_BLAKE2s";

/// Hashed into the binding, so that a handshake of another version or purpose has another one.
const PROLOGUE: &[u8] = b"eidetica/http/v1";

/// The client's message: an ephemeral public key.
pub(crate) const FIRST: usize = 32;

/// The server's: an ephemeral public key and the channel's id, encrypted.
pub(crate) const SECOND: usize = 32 + ID + TAG;

/// The length of a channel's id in bytes.
pub(crate) const ID: usize = 16;

/// Names a channel to the server that made it. Random; not secret, and worth nothing without the keys.
pub(crate) type ChannelId = [u8; ID];

/// The keys of one channel, one per direction.
pub(crate) struct Keys {
    state: StatelessTransportState,
    binding: Binding,
}

impl Keys {
    fn new(handshake: HandshakeState) -> Result<Self, snow::Error> {
        let hash = handshake
            .get_handshake_hash()
            .try_into()
            .map_err(|_| snow::Error::Input)?;
        Ok(Self {
            binding: Binding::new(hash),
            state: handshake.into_stateless_transport_mode()?,
        })
    }

    /// The hash of the handshake.
    pub(crate) fn binding(&self) -> Binding {
        self.binding
    }

    /// Encrypts a message of this end into `out`, which is longer by a tag.
    pub(crate) fn seal(
        &self,
        nonce: u64,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<(), TransportError> {
        match self.state.write_message(nonce, plain, out) {
            Ok(len) if len == plain.len() + TAG => Ok(()),
            // Never with the lengths that the record layer uses.
            _ => Err(TransportError::Protocol {
                detail: "a message of impossible length",
            }),
        }
    }

    /// Decrypts a message of the other end into `out`, which is shorter by a tag.
    pub(crate) fn open(
        &self,
        nonce: u64,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(), TransportError> {
        match self.state.read_message(nonce, sealed, out) {
            Ok(_) => Ok(()),
            Err(_) => Err(TransportError::Tampered),
        }
    }
}

fn builder() -> Result<Builder<'static>, snow::Error> {
    let params = PATTERN.parse().map_err(|_| snow::Error::Input)?;
    Builder::with_resolver(params, Box::new(Primitives)).prologue(PROLOGUE)
}

/// A client that has sent its message.
pub(crate) struct Initiator {
    handshake: HandshakeState,
}

impl Initiator {
    /// Begins a handshake; the message is for the server.
    pub(crate) fn start() -> Result<(Self, [u8; FIRST]), snow::Error> {
        let mut handshake = builder()?.build_initiator()?;
        // `snow` wants room for a tag, which this message does not have.
        let mut message = [0; FIRST + TAG];
        let len = handshake.write_message(&[], &mut message)?;
        let message = message
            .get(..len)
            .and_then(|message| message.try_into().ok())
            .ok_or(snow::Error::Input)?;
        Ok((Self { handshake }, message))
    }

    /// Ends it with the server's message.
    pub(crate) fn finish(
        mut self,
        message: &[u8; SECOND],
    ) -> Result<(ChannelId, Keys), snow::Error> {
        let mut id = ChannelId::default();
        // `snow` wants room for the tag as well.
        let mut payload = [0; ID + TAG];
        let len = self.handshake.read_message(message, &mut payload)?;
        let sent = payload.get(..len).ok_or(snow::Error::Input)?;
        id.copy_from_slice(sent.first_chunk::<ID>().ok_or(snow::Error::Input)?);
        Ok((id, Keys::new(self.handshake)?))
    }
}

/// Answers a client's message; the result is for the client.
pub(crate) fn respond(
    message: &[u8; FIRST],
    id: &ChannelId,
) -> Result<([u8; SECOND], Keys), snow::Error> {
    let mut handshake = builder()?.build_responder()?;
    handshake.read_message(message, &mut [])?;
    let mut answer = [0; SECOND];
    handshake.write_message(id, &mut answer)?;
    Ok((answer, Keys::new(handshake)?))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use snow::Builder;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// A published vector (cacophony), so that our primitives are those of every other Noise.
    #[test]
    fn speaks_noise() {
        let (prologue, ephemeral) = (
            hex("4a6f686e2047616c74"),
            hex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
        );
        let answering = hex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b");
        let new = || {
            Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(Primitives))
                .prologue(&prologue)
                .unwrap()
        };
        let mut client = new()
            .fixed_ephemeral_key_for_testing_only(&ephemeral)
            .build_initiator()
            .unwrap();
        let mut server = new()
            .fixed_ephemeral_key_for_testing_only(&answering)
            .build_responder()
            .unwrap();

        let mut send = |payload: &str, expected: &str, up: bool| {
            let (from, to) = if up {
                (&mut client, &mut server)
            } else {
                (&mut server, &mut client)
            };
            let mut message = vec![0; expected.len() / 2 + TAG];
            let len = from.write_message(&hex(payload), &mut message).unwrap();
            assert_eq!(HEXLOWER.encode(&message[..len]), expected);
            let mut back = vec![0; len + TAG];
            let len = to.read_message(&message[..len], &mut back).unwrap();
            assert_eq!(back[..len], hex(payload));
        };
        send(
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
            true,
        );
        send(
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843\
             ff34a6759d06e7733c83aeb5556c15bc762b664b3ba0556b1e7eaea4168bb6",
            false,
        );
        let hash = "a621e3943a29c1d984b43727697fbec096107d0b569031ac7e0f1131de19f4f4";
        assert_eq!(HEXLOWER.encode(client.get_handshake_hash()), hash);
        assert_eq!(HEXLOWER.encode(server.get_handshake_hash()), hash);
        let client = client.into_stateless_transport_mode().unwrap();
        let mut message = vec![0; 27];
        client
            .write_message(0, &hex("462e20412e20486179656b"), &mut message)
            .unwrap();
        assert_eq!(
            HEXLOWER.encode(&message),
            "79285da88da3535f52b07b70006c85706de7ddb1fd3dddac995b7e"
        );
    }

    #[test]
    fn both_ends_agree() {
        let (client, first) = Initiator::start().unwrap();
        let (second, server) = respond(&first, &[9; ID]).unwrap();
        let (id, client) = client.finish(&second).unwrap();
        assert_eq!((id, client.binding()), ([9; ID], server.binding()));
        let mut sealed = [0; 5 + TAG];
        client.seal(7, b"hello", &mut sealed).unwrap();
        let mut plain = [0; 5];
        server.open(7, &sealed, &mut plain).unwrap();
        assert_eq!(&plain, b"hello");
        assert_eq!(
            server.open(8, &sealed, &mut plain),
            Err(TransportError::Tampered)
        );
        assert_eq!(
            client.open(7, &sealed, &mut plain),
            Err(TransportError::Tampered),
            "reflected"
        );
    }

    #[test]
    fn a_changed_handshake_fails() {
        for bit in 0..SECOND * 8 {
            let (client, first) = Initiator::start().unwrap();
            let (mut second, _) = respond(&first, &[9; ID]).unwrap();
            second[bit / 8] ^= 1 << (bit % 8);
            assert!(client.finish(&second).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_point_of_small_order_is_refused() {
        for point in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert!(respond(&point, &[9; ID]).is_err());
        }
    }
}
