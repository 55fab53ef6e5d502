//! The identity handshake: two messages each way on a fresh channel, after which both sides know the device key of
//! the other, agree on a version, and the accepting side knows the keys that the dialling one may act for.
//!
//! ```text
//! initiator                                   acceptor
//! hello   versions, device key, nonce   -->
//!                                       <--   answer  version, versions, device key, nonce, signature
//! proof   signature, device claims      -->
//!                                       <--   welcome
//! ```
//!
//! A signature is over (tag, role, both device keys, both nonces, both lists of versions, the version, the channel
//! binding). So a recorded message is worth nothing (the nonces are fresh), a reflected one neither (the role), nor
//! one that a man in the middle carries from one channel to another (the binding), and nobody signs bytes that a
//! stranger chose. Claims are shown only after the acceptor has proven its key.
//!
//! Each step consumes the state before it, so no step can be done twice or left out. The driver gives the whole
//! handshake [`limits::HANDSHAKE_MS`] and closes the channel after an error, having sent
//! [`refusal`](HandshakeError::refusal) if it accepts.

use bytes::Bytes;
use eidetica_auth::{ClaimError, DeviceClaim, KeyError, SecretKey, check_public_key, verify};
use eidetica_entry::{PublicKey, Signature};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Blame, ProvenKeys, Refusal,
    claims::encode_claims,
    codec, limits,
    message::{MessageError, check_claims, check_count},
};

/// The protocol versions that this crate speaks, the best first.
pub const VERSIONS: &[u16] = &[3, 2, 1];

/// The first version in which sides say which payloads they hold, want and lack.
pub(crate) const PAYLOADS: u16 = 2;

/// The first version in which they say so on live streams, too.
pub(crate) const HOLDINGS: u16 = 3;

const MAGIC: [u8; 8] = *b"eidetica";
const TAG: &[u8] = b"eidetica/handshake/v1\0";

const HELLO: u8 = 0x10;
const ANSWER: u8 = 0x11;
const PROOF: u8 = 0x12;
const WELCOME: u8 = 0x13;
const REFUSED: u8 = 0x14;

/// Who a peer is, once the handshake is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The device key that it has proven.
    pub device: PublicKey,
    /// The version to speak.
    pub version: u16,
    /// What it may read with. On the dialling side this is the device key alone: a server shows its claims per
    /// database, to those who may read it.
    pub proven: ProvenKeys,
}

/// One's own part in a handshake.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The device key.
    pub device: &'a SecretKey,
    /// The channel's binding, from the transport.
    pub binding: [u8; 32],
    /// 32 fresh unpredictable bytes, for this handshake only.
    pub nonce: [u8; 32],
    /// Versions to offer, the best first, at most [`limits::VERSIONS`]; normally [`VERSIONS`].
    pub versions: &'a [u16],
}

/// Why a handshake ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A message that does not decode or is out of turn.
    #[error("a handshake message: {0}")]
    Message(#[from] MessageError),
    /// The peer proved another key than the pinned one.
    #[error("the peer has the key {found}, not {expected}")]
    WrongKey {
        /// The key that was pinned.
        expected: PublicKey,
        /// The peer's.
        found: PublicKey,
    },
    /// The peer has our own device key: a connection to oneself, or a reflection.
    #[error("the peer has our own device key")]
    OwnKey,
    /// A device key that is no key.
    #[error("the peer's device key is {0}")]
    Key(#[from] KeyError),
    /// A signature that does not verify: a replay, a relay, a reflection, or noise.
    #[error("the peer has not proven its device key")]
    Signature,
    /// A claim that does not decode, does not verify, or is for another device.
    #[error("the peer shows {0}")]
    Claim(#[from] ClaimError),
    /// No version in common.
    #[error("no common protocol version, the peer speaks {theirs:?}")]
    Version {
        /// What the peer offers.
        theirs: Vec<u16>,
    },
    /// The peer ended the handshake.
    #[error("the peer refuses: {0}")]
    Refused(Refusal),
}

impl HandshakeError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::OwnKey => Blame::Caller,
            Self::Version { .. } => Blame::Unavailable,
            _ => Blame::Peer,
        }
    }

    /// The frame that tells the peer, for the accepting side.
    pub fn refusal(&self) -> Bytes {
        let refused = match self {
            Self::Version { .. } => Refused {
                refusal: Refusal::VERSION,
                versions: VERSIONS.to_vec(),
            },
            Self::Message(_) => Refused {
                refusal: Refusal::MALFORMED,
                versions: Vec::new(),
            },
            _ => Refused {
                refusal: Refusal::IDENTITY,
                versions: Vec::new(),
            },
        };
        // A refusal of constant size always encodes.
        encode(REFUSED, &refused).unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    magic: [u8; 8],
    versions: Vec<u16>,
    device: PublicKey,
    nonce: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    version: u16,
    versions: Vec<u16>,
    device: PublicKey,
    nonce: [u8; 32],
    signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    signature: Signature,
    claims: Vec<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    refusal: Refusal,
    versions: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Initiator = 1,
    Acceptor = 2,
}

/// Everything that both sides sign.
#[derive(Debug, Clone)]
struct Transcript {
    initiator: PublicKey,
    acceptor: PublicKey,
    nonces: [[u8; 32]; 2],
    versions: [Vec<u16>; 2],
    version: u16,
    binding: [u8; 32],
}

impl Transcript {
    fn new(
        hello: &Hello,
        acceptor: PublicKey,
        nonce: [u8; 32],
        versions: Vec<u16>,
        version: u16,
        binding: [u8; 32],
    ) -> Self {
        Self {
            initiator: hello.device,
            acceptor,
            nonces: [hello.nonce, nonce],
            versions: [hello.versions.clone(), versions],
            version,
            binding,
        }
    }

    /// Unambiguous: fixed widths, and counts before the lists.
    fn message(&self, role: Role) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(TAG);
        out.push(role as u8);
        out.extend_from_slice(self.initiator.as_bytes());
        out.extend_from_slice(self.acceptor.as_bytes());
        out.extend(self.nonces.as_flattened());
        for versions in &self.versions {
            out.extend_from_slice(&(versions.len() as u64).to_le_bytes());
            out.extend(versions.iter().flat_map(|version| version.to_le_bytes()));
        }
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.binding);
        out
    }

    fn check(
        &self,
        role: Role,
        key: &PublicKey,
        signature: &Signature,
    ) -> Result<(), HandshakeError> {
        match verify(key, &self.message(role), signature) {
            true => Ok(()),
            false => Err(HandshakeError::Signature),
        }
    }
}

/// The dialling side, waiting for the answer to its hello.
#[derive(Debug)]
pub struct Initiator {
    hello: Hello,
    binding: [u8; 32],
    pinned: Option<PublicKey>,
}

impl Initiator {
    /// Begins; the bytes are the first request on the channel. `pinned` is the key that an address or a ticket
    /// names: nobody else is accepted.
    ///
    /// # Errors
    /// Too many versions on offer.
    pub fn start(
        side: &Side<'_>,
        pinned: Option<PublicKey>,
    ) -> Result<(Self, Bytes), HandshakeError> {
        let hello = Hello {
            magic: MAGIC,
            versions: side.versions.to_vec(),
            device: side.device.public(),
            nonce: side.nonce,
        };
        check_count("versions", hello.versions.len(), limits::VERSIONS)?;
        let frame = encode(HELLO, &hello)?;
        Ok((
            Self {
                hello,
                binding: side.binding,
                pinned,
            },
            frame,
        ))
    }

    /// Takes the answer, the only frame of the first response; the bytes are the second request. `claims` are those
    /// that this device may show, normally all that it has.
    ///
    /// # Errors
    /// Anything but the right answer of the right peer.
    pub fn answered(
        self,
        frame: &Bytes,
        device: &SecretKey,
        claims: &[DeviceClaim],
    ) -> Result<(Proving, Bytes), HandshakeError> {
        let Answer {
            version,
            versions,
            device: acceptor,
            nonce,
            signature,
        } = decode(ANSWER, frame)?;
        check_count("versions", versions.len(), limits::VERSIONS)?;
        if best_common(&self.hello.versions, &versions) != Some(version) {
            return Err(HandshakeError::Version { theirs: versions });
        }
        check_peer(&acceptor, &self.hello.device)?;
        if let Some(expected) = self.pinned.filter(|pinned| *pinned != acceptor) {
            return Err(HandshakeError::WrongKey {
                expected,
                found: acceptor,
            });
        }
        let transcript = Transcript::new(
            &self.hello,
            acceptor,
            nonce,
            versions,
            version,
            self.binding,
        );
        transcript.check(Role::Acceptor, &acceptor, &signature)?;
        let own = claims
            .iter()
            .filter(|claim| claim.device() == self.hello.device);
        let proof = Proof {
            signature: device.sign(&transcript.message(Role::Initiator)),
            claims: encode_claims(own)?,
        };
        let identity = PeerIdentity {
            device: acceptor,
            version,
            proven: ProvenKeys::device(acceptor),
        };
        Ok((Proving { identity }, encode(PROOF, &proof)?))
    }
}

/// The dialling side, waiting for the welcome.
#[derive(Debug)]
pub struct Proving {
    identity: PeerIdentity,
}

impl Proving {
    /// Takes the only frame of the second response.
    ///
    /// # Errors
    /// The peer refuses, or sends anything else than a welcome.
    pub fn welcomed(self, frame: &Bytes) -> Result<PeerIdentity, HandshakeError> {
        decode::<()>(WELCOME, frame)?;
        Ok(self.identity)
    }
}

/// The accepting side, waiting for the proof.
#[derive(Debug)]
pub struct Acceptor {
    transcript: Transcript,
}

impl Acceptor {
    /// Takes a hello, the only frame of the first request on a channel; the bytes are the response.
    ///
    /// # Errors
    /// A hello that does not decode, from ourselves, or without a common version.
    pub fn hello(side: &Side<'_>, frame: &Bytes) -> Result<(Self, Bytes), HandshakeError> {
        let hello: Hello = decode(HELLO, frame)?;
        check_count("versions", hello.versions.len(), limits::VERSIONS)?;
        check_count("versions", side.versions.len(), limits::VERSIONS)?;
        if hello.magic != MAGIC {
            return Err(MessageError::Kind.into());
        }
        let acceptor = side.device.public();
        check_peer(&hello.device, &acceptor)?;
        let Some(version) = best_common(&hello.versions, side.versions) else {
            return Err(HandshakeError::Version {
                theirs: hello.versions,
            });
        };
        let transcript = Transcript::new(
            &hello,
            acceptor,
            side.nonce,
            side.versions.to_vec(),
            version,
            side.binding,
        );
        let signature = side.device.sign(&transcript.message(Role::Acceptor));
        let versions = side.versions.to_vec();
        let answer = Answer {
            version,
            versions,
            device: acceptor,
            nonce: side.nonce,
            signature,
        };
        Ok((Self { transcript }, encode(ANSWER, &answer)?))
    }

    /// Takes the proof, the only frame of the second request; the bytes are the response. From here on the peer is
    /// proven.
    ///
    /// # Errors
    /// A proof that proves nothing, or a bad claim.
    pub fn proof(self, frame: &Bytes) -> Result<(PeerIdentity, Bytes), HandshakeError> {
        let Proof { signature, claims } = decode(PROOF, frame)?;
        check_claims(&claims)?;
        let device = self.transcript.initiator;
        self.transcript
            .check(Role::Initiator, &device, &signature)?;
        let proven = ProvenKeys::decode(device, &claims)?;
        Ok((
            PeerIdentity {
                device,
                version: self.transcript.version,
                proven,
            },
            encode(WELCOME, &())?,
        ))
    }
}

fn check_peer(peer: &PublicKey, own: &PublicKey) -> Result<(), HandshakeError> {
    if peer == own {
        return Err(HandshakeError::OwnKey);
    }
    Ok(check_public_key(peer)?)
}

/// The greatest version that both lists have.
fn best_common(a: &[u16], b: &[u16]) -> Option<u16> {
    a.iter()
        .filter(|version| b.contains(version))
        .max()
        .copied()
}

fn encode<T: Serialize>(kind: u8, message: &T) -> Result<Bytes, MessageError> {
    let mut out = vec![kind];
    codec::encode_into(&mut out, message)?;
    Ok(out.into())
}

fn decode<T: Serialize + DeserializeOwned>(kind: u8, frame: &Bytes) -> Result<T, HandshakeError> {
    match frame.split_first() {
        Some((found, body)) if *found == kind => Ok(codec::decode(body)?),
        Some((&REFUSED, body)) => {
            let Refused { refusal, versions } = codec::decode(body)?;
            match refusal {
                Refusal::VERSION => Err(HandshakeError::Version { theirs: versions }),
                _ => Err(HandshakeError::Refused(refusal)),
            }
        }
        _ => Err(MessageError::Kind.into()),
    }
}
