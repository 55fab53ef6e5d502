//! Bootstrap requests: a key's holder asks, signed, for a permission in a database.

use std::{fmt, str::FromStr};

use eidetica_entry::{Id, PublicKey, Signature};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    key::{KeyError, SecretKey, check_public_key},
    limits,
    name::KeyName,
    permission::Permission,
    verify::verify,
};

const TAG: &[u8] = b"eidetica/bootstrap-request/v1\0";
const ID_CONTEXT: &str = "eidetica bootstrap request v1";

/// What a bootstrap request says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRequest {
    /// The database to join.
    pub database: Id,
    /// The key that is to have the permission. It signs the request, so nobody asks for another's
    /// key.
    pub key: PublicKey,
    /// The permission asked for.
    pub permission: Permission,
    /// The name that the key would like to have.
    pub name: KeyName,
    /// The device it is asked from.
    pub device: PublicKey,
    /// Random bytes that tell two requests apart.
    pub nonce: [u8; 16],
}

/// A bootstrap request with its signature, which has been verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unverified")]
pub struct SignedRequest {
    request: AccessRequest,
    signature: Signature,
}

/// A request as it comes, whoever wrote it.
#[derive(Serialize, Deserialize)]
struct Unverified {
    request: AccessRequest,
    signature: Signature,
}

impl TryFrom<Unverified> for SignedRequest {
    type Error = RequestError;

    fn try_from(Unverified { request, signature }: Unverified) -> Result<Self, RequestError> {
        check_public_key(&request.key)?;
        check_public_key(&request.device)?;
        match verify(&request.key, &request.message(), &signature) {
            true => Ok(Self { request, signature }),
            false => Err(RequestError::Signature),
        }
    }
}

/// The name of a bootstrap request: a hash of what it says. Text: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Id);

/// Why a request does not count. The peer that sent it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Bytes that are no request.
    #[error("a bootstrap request: {0}")]
    Codec(#[from] CodecError),
    /// A key that is none.
    #[error("a bootstrap request with {0}")]
    Key(#[from] KeyError),
    /// The secret key given is not that of the key in the request.
    #[error("a bootstrap request signed by another key than it names")]
    OtherKey,
    /// A signature that does not verify.
    #[error("a bootstrap request with a bad signature")]
    Signature,
}

impl AccessRequest {
    /// Signs the request with `key`, which is the one that it names.
    ///
    /// # Errors
    /// [`RequestError::OtherKey`], and [`RequestError::Key`] if the device's key is none.
    pub fn sign(self, key: &SecretKey) -> Result<SignedRequest, RequestError> {
        if key.public() != self.key {
            return Err(RequestError::OtherKey);
        }
        check_public_key(&self.device)?;
        let signature = key.sign(&self.message());
        Ok(SignedRequest {
            request: self,
            signature,
        })
    }

    /// The request's name.
    pub fn id(&self) -> RequestId {
        RequestId(Id::new(blake3::derive_key(
            ID_CONTEXT,
            &codec::encode(self),
        )))
    }

    fn message(&self) -> Vec<u8> {
        [TAG, &codec::encode(self)].concat()
    }
}

impl SignedRequest {
    /// What it says.
    pub fn request(&self) -> &AccessRequest {
        &self.request
    }

    /// Its name.
    pub fn id(&self) -> RequestId {
        self.request.id()
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes and verifies the signature.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        codec::decode::<Unverified, { limits::REQUEST_BYTES }>(bytes)?.try_into()
    }
}

impl RequestId {
    /// The request id with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Id::new(bytes))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = eidetica_entry::EntryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
