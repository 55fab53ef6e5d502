//! What a peer may read with.

use bytes::Bytes;
use eidetica_auth::{ClaimError, DeviceClaim, Scope};
use eidetica_entry::{Id, PublicKey};

use crate::{
    limits,
    message::{MessageError, check_claims},
};

/// The keys that a peer has proven: its device key, by the handshake, and every key that signed a claim for that
/// device. Rights belong to keys; whether one of these has a right in a database is a question for the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKeys {
    device: PublicKey,
    claims: Vec<DeviceClaim>,
}

impl ProvenKeys {
    /// The device key alone.
    pub fn device(device: PublicKey) -> Self {
        Self {
            device,
            claims: Vec::new(),
        }
    }

    /// The device key and these claims of the peer, as it sent them. Verifies one signature per claim.
    ///
    /// # Errors
    /// A claim that does not decode, has a bad signature or is for another device: the peer is to blame. Claims that
    /// have ended are kept and prove nothing.
    pub(crate) fn decode(device: PublicKey, claims: &[Bytes]) -> Result<Self, ClaimError> {
        let claims = claims
            .iter()
            .map(|bytes| DeviceClaim::decode(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        match claims.iter().all(|claim| claim.device() == device) {
            true => Ok(Self { device, claims }),
            false => Err(ClaimError::OtherDevice),
        }
    }

    /// The peer's device key.
    pub fn device_key(&self) -> PublicKey {
        self.device
    }

    /// The keys that count for `database` at `now_ms`: the device key first, then the keys of claims that cover the
    /// database and have not ended. Never empty.
    pub fn keys_for(&self, database: &Id, now_ms: u64) -> Vec<PublicKey> {
        let good = self
            .good(now_ms)
            .filter(|claim| claim.covers(database))
            .map(DeviceClaim::key);
        std::iter::once(self.device).chain(good).collect()
    }

    /// The keys that count for every database at `now_ms`.
    pub fn keys_for_all(&self, now_ms: u64) -> Vec<PublicKey> {
        let good = self
            .good(now_ms)
            .filter(|claim| *claim.scope() == Scope::All)
            .map(DeviceClaim::key);
        std::iter::once(self.device).chain(good).collect()
    }

    /// The keys that count for some databases only, each with those, at `now_ms`.
    pub(crate) fn scoped(&self, now_ms: u64) -> Vec<(PublicKey, Vec<Id>)> {
        let scoped = self.good(now_ms).filter_map(|claim| match claim.scope() {
            Scope::All => None,
            Scope::Databases(ids) => Some((claim.key(), ids.clone())),
        });
        scoped.collect()
    }

    fn good(&self, now_ms: u64) -> impl Iterator<Item = &DeviceClaim> {
        self.claims
            .iter()
            .filter(move |claim| claim.check(&self.device, now_ms).is_ok())
    }
}

/// The claims' bytes for a message, at most [`limits::CLAIMS`] and as many bytes as a message may have.
pub(crate) fn encode_claims<'a>(
    claims: impl Iterator<Item = &'a DeviceClaim>,
) -> Result<Vec<Bytes>, MessageError> {
    let mut room = limits::CONTROL_FRAME / 4;
    let fits = move |bytes: &Bytes| {
        let left = room.checked_sub(bytes.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    let claims: Vec<Bytes> = claims
        .take(limits::CLAIMS)
        .map(|claim| Bytes::from(claim.encode()))
        .filter(fits)
        .collect();
    check_claims(&claims)?;
    Ok(claims)
}
