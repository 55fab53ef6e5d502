//! Device claims: the statement of a key's holder that a device acts for the key. Rights belong to
//! keys in settings; a session is between devices; a claim ties them together. It is made while the
//! key is unlocked and then stored, so that synchronization in the background needs no private key.

use eidetica_entry::{Id, PublicKey, Signature};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    key::{KeyError, SecretKey, check_public_key},
    limits,
    verify::verify,
};

const TAG: &[u8] = b"eidetica/device-claim/v1\0";

/// Which databases a claim is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Every database.
    All,
    /// These, ascending, without repetition, at most [`limits::CLAIM_DATABASES`].
    Databases(Vec<Id>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    key: PublicKey,
    device: PublicKey,
    scope: Scope,
    not_after_ms: u64,
}

/// `key` says, signed: `device` acts for me, in this scope, until then.
///
/// A value of this type has a good signature: [`decode`](Self::decode) checks it. Whether it holds
/// now and for the device at hand is what [`check`](Self::check) says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unverified")]
pub struct DeviceClaim {
    statement: Statement,
    signature: Signature,
}

/// A claim as it comes, whoever wrote it.
#[derive(Serialize, Deserialize)]
struct Unverified {
    statement: Statement,
    signature: Signature,
}

impl TryFrom<Unverified> for DeviceClaim {
    type Error = ClaimError;

    fn try_from(
        Unverified {
            statement,
            signature,
        }: Unverified,
    ) -> Result<Self, ClaimError> {
        statement.check()?;
        match verify(&statement.key, &statement.message(), &signature) {
            true => Ok(Self {
                statement,
                signature,
            }),
            false => Err(ClaimError::Signature),
        }
    }
}

/// Why a claim does not count. The peer that showed it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Bytes that are no claim.
    #[error("a device claim: {0}")]
    Codec(#[from] CodecError),
    /// A key that is none.
    #[error("a device claim of {0}")]
    Key(#[from] KeyError),
    /// Databases out of order, repeated, or more than [`limits::CLAIM_DATABASES`].
    #[error("a device claim whose databases are too many or out of order")]
    Scope,
    /// A signature that does not verify.
    #[error("a device claim with a bad signature")]
    Signature,
    /// Made for another device.
    #[error("a device claim for another device")]
    OtherDevice,
    /// Over.
    #[error("a device claim that has ended")]
    Expired,
    /// Ends later than [`limits::CLAIM_HORIZON_MS`] from now.
    #[error("a device claim that ends too far ahead")]
    TooLong,
}

impl DeviceClaim {
    /// Makes a claim: `key` lets `device` act for it until `not_after_ms` (since the Unix epoch).
    ///
    /// # Errors
    /// [`ClaimError::Scope`] if there are too many databases, [`ClaimError::Key`] if the device's
    /// key is none.
    pub fn make(
        key: &SecretKey,
        device: PublicKey,
        scope: Scope,
        not_after_ms: u64,
    ) -> Result<Self, ClaimError> {
        let scope = match scope {
            Scope::All => Scope::All,
            Scope::Databases(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                Scope::Databases(ids)
            }
        };
        let statement = Statement {
            key: key.public(),
            device,
            scope,
            not_after_ms,
        };
        statement.check()?;
        let signature = key.sign(&statement.message());
        Ok(Self {
            statement,
            signature,
        })
    }

    /// The key that speaks.
    pub fn key(&self) -> PublicKey {
        self.statement.key
    }

    /// The device that may act for it.
    pub fn device(&self) -> PublicKey {
        self.statement.device
    }

    /// Where.
    pub fn scope(&self) -> &Scope {
        &self.statement.scope
    }

    /// Until when, in milliseconds since the Unix epoch, inclusive.
    pub fn not_after_ms(&self) -> u64 {
        self.statement.not_after_ms
    }

    /// Whether the claim is good for `database`.
    pub fn covers(&self, database: &Id) -> bool {
        match &self.statement.scope {
            Scope::All => true,
            Scope::Databases(ids) => ids.binary_search(database).is_ok(),
        }
    }

    /// Whether `device` may act for the key at `now_ms`.
    ///
    /// # Errors
    /// [`ClaimError::OtherDevice`], [`ClaimError::Expired`] and [`ClaimError::TooLong`].
    pub fn check(&self, device: &PublicKey, now_ms: u64) -> Result<(), ClaimError> {
        let end = self.statement.not_after_ms;
        match () {
            () if self.statement.device != *device => Err(ClaimError::OtherDevice),
            () if end < now_ms => Err(ClaimError::Expired),
            () if end - now_ms > limits::CLAIM_HORIZON_MS => Err(ClaimError::TooLong),
            () => Ok(()),
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes and verifies the signature.
    ///
    /// # Errors
    /// [`ClaimError`], except for what [`check`](Self::check) says.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimError> {
        codec::decode::<Unverified, { limits::CLAIM_BYTES }>(bytes)?.try_into()
    }
}

impl Statement {
    fn message(&self) -> Vec<u8> {
        [TAG, &codec::encode(self)].concat()
    }

    fn check(&self) -> Result<(), ClaimError> {
        check_public_key(&self.key)?;
        check_public_key(&self.device)?;
        match &self.scope {
            Scope::Databases(ids)
                if ids.len() > limits::CLAIM_DATABASES || !ids.is_sorted_by(|a, b| a < b) =>
            {
                Err(ClaimError::Scope)
            }
            _ => Ok(()),
        }
    }
}
