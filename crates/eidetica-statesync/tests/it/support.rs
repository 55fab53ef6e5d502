//! Logs that are served, their signer, and chance.

use std::ops::Range;
use std::sync::Arc;

use eidetica_mmr::{
    Consistency, Digest, Leaves, Location, Mmr, leaf_hash, prove_consistency, prove_range, root_at,
};
use eidetica_statesync::{
    CheckSignature, Claim, Config, DatabaseName, Refusal, Serve, Shown, Signature, Target, Trust,
    signed_bytes,
};

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(crate) fn name() -> DatabaseName {
    DatabaseName::new("any").unwrap()
}

/// Operations of these tests: a length of one byte, and as many bytes.
pub(crate) fn split(bytes: &[u8]) -> Option<usize> {
    let length = 1 + usize::from(*bytes.first()?);
    (length <= bytes.len()).then_some(length)
}

/// A signature that whoever knows the secret can make: enough to tell trusted from others.
pub(crate) fn sign(secret: u8, bytes: &[u8]) -> Signature {
    let mut signed = vec![secret];
    signed.extend_from_slice(bytes);
    let half = *leaf_hash(&signed).as_bytes();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    signature[32..].copy_from_slice(&half);
    signature
}

pub(crate) const SIGNER: u8 = 7;

pub(crate) fn check_signature() -> CheckSignature {
    Arc::new(|bytes, signature| *signature == sign(SIGNER, bytes))
}

pub(crate) fn config(trust: Trust) -> Config {
    Config {
        trust,
        batch: 16,
        outstanding: 4,
        timeout_ms: 2_000,
        target_interval_ms: 500,
        ..Config::new(name(), split)
    }
}

/// A log that grows, with everything that anybody may ask about it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) mmr: Mmr,
    pub(crate) operations: Vec<Vec<u8>>,
    /// The lower bound of its target.
    pub(crate) lower: u64,
    /// Operations before are not served.
    pub(crate) boundary: u64,
    /// Reaches every target that there ever was.
    pub(crate) claims: Vec<Claim>,
}

impl Log {
    pub(crate) fn of(count: u64, seed: u64) -> Self {
        let mut log = Self::default();
        log.grow(count, seed);
        log
    }

    pub(crate) fn grow(&mut self, count: u64, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..count {
            let length = dice.roll(9) as u8;
            let mut operation = vec![length];
            operation.extend((0..length).map(|_| dice.roll(256) as u8));
            self.mmr.append(leaf_hash(&operation)).unwrap();
            self.operations.push(operation);
        }
        self.note();
    }

    /// Raises the lower bound.
    pub(crate) fn raise(&mut self, lower: u64) {
        self.lower = self.lower.max(lower.min(self.leaves().0 - 1));
        self.note();
    }

    fn note(&mut self) {
        let claim = self.claim_at(self.leaves(), SIGNER);
        self.claims.push(claim);
    }

    pub(crate) fn leaves(&self) -> Leaves {
        self.mmr.leaves()
    }

    pub(crate) fn root_at(&self, leaves: Leaves) -> Digest {
        root_at(&self.mmr, leaves).unwrap()
    }

    pub(crate) fn claim_at(&self, leaves: Leaves, signer: u8) -> Claim {
        let lower = Location(self.lower.min(leaves.0 - 1));
        let target = Target::new(self.root_at(leaves), lower, leaves).unwrap();
        let signature = Some(sign(signer, &signed_bytes(&name(), &target)));
        Claim { target, signature }
    }

    pub(crate) fn newest(&self) -> Claim {
        self.claims.last().unwrap().clone()
    }
}

impl Serve for Log {
    fn claim(&self) -> Result<Option<Claim>, Refusal> {
        Ok(self.claims.last().cloned())
    }

    fn operations(
        &self,
        size: Leaves,
        range: Range<Location>,
        most_bytes: usize,
    ) -> Result<Shown, Refusal> {
        let leaves = self.leaves();
        if size > leaves {
            return Err(Refusal::NotYet { leaves });
        }
        if range.start.0 < self.boundary {
            let boundary = Location(self.boundary);
            return Err(Refusal::Pruned { boundary });
        }
        let wanted = &self.operations[range.start.0 as usize..range.end.0 as usize];
        let (mut operations, mut count) = (Vec::new(), 0);
        for operation in wanted {
            if count > 0 && operations.len() + operation.len() > most_bytes {
                break;
            }
            operations.extend_from_slice(operation);
            count += 1;
        }
        let end = Location(range.start.0 + count as u64);
        let proof = prove_range(&self.mmr, size, range.start..end).unwrap();
        Ok(Shown {
            proof,
            operations,
            count,
        })
    }

    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal> {
        let leaves = self.leaves();
        if new > leaves {
            return Err(Refusal::NotYet { leaves });
        }
        if old.0 < self.boundary {
            let boundary = Location(self.boundary);
            return Err(Refusal::Pruned { boundary });
        }
        Ok(prove_consistency(&self.mmr, old, new).unwrap())
    }
}
