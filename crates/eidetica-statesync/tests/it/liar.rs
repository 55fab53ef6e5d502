//! A server that lies, in every way that is listed here.

use std::ops::Range;

use eidetica_mmr::{Digest, Leaves, Location, prove_consistency, prove_range};
use eidetica_statesync::message::{Refusal, Reply, Request, RequestId};
use eidetica_statesync::{Claim, DatabaseName, Target, limits, signed_bytes};

use crate::support::{Dice, Log, SIGNER, name, sign};

/// The ways to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    // Operations that are not those.
    WrongByte,
    SwappedOperations,
    DroppedOperation,
    ExtraOperation,
    MoreThanAsked,
    HalfAnOperation,
    // Proofs that are not those.
    TruncatedProof,
    LongerProof,
    OtherRange,
    OtherSize,
    OtherLog,
    ForgedDigest,
    WrongPinned,
    MissingPinned,
    // Replies that are not those.
    WrongId,
    IdOfLater,
    Replay,
    RenumberedReplay,
    Twice,
    OtherKind,
    EmptyMessage,
    Garbage,
    Oversized,
    TrailingBytes,
    // Nothing, or too little, or too late.
    WithholdsOperations,
    WithholdsEverything,
    WithholdsConsistency,
    SlowDrip,
    OneByOne,
    EmptyReplies,
    Flaps,
    // Refusals.
    Unavailable,
    Pruned,
    NotYet,
    Busy,
    ForgetsHeld,
    // Targets.
    RegressedTarget,
    UnsignedTarget,
    ForgedSignature,
    TargetOfAnother,
    LowerAboveUpper,
    HugeSizes,
    TargetFlood,
    // Another log, signed by a signer who lies as well.
    ForkSameSize,
    ForkBiggerUnshown,
    ForkBiggerForged,
    ForkBiggerOwnProof,
    ForkSameRoot,
    ForkBehindGap,
    SplitViews,
}

impl Lie {
    pub(crate) const ALL: [Self; 50] = [
        Self::WrongByte,
        Self::SwappedOperations,
        Self::DroppedOperation,
        Self::ExtraOperation,
        Self::MoreThanAsked,
        Self::HalfAnOperation,
        Self::TruncatedProof,
        Self::LongerProof,
        Self::OtherRange,
        Self::OtherSize,
        Self::OtherLog,
        Self::ForgedDigest,
        Self::WrongPinned,
        Self::MissingPinned,
        Self::WrongId,
        Self::IdOfLater,
        Self::Replay,
        Self::RenumberedReplay,
        Self::Twice,
        Self::OtherKind,
        Self::EmptyMessage,
        Self::Garbage,
        Self::Oversized,
        Self::TrailingBytes,
        Self::WithholdsOperations,
        Self::WithholdsEverything,
        Self::WithholdsConsistency,
        Self::SlowDrip,
        Self::OneByOne,
        Self::EmptyReplies,
        Self::Flaps,
        Self::Unavailable,
        Self::Pruned,
        Self::NotYet,
        Self::Busy,
        Self::ForgetsHeld,
        Self::RegressedTarget,
        Self::UnsignedTarget,
        Self::ForgedSignature,
        Self::TargetOfAnother,
        Self::LowerAboveUpper,
        Self::HugeSizes,
        Self::TargetFlood,
        Self::ForkSameSize,
        Self::ForkBiggerUnshown,
        Self::ForkBiggerForged,
        Self::ForkBiggerOwnProof,
        Self::ForkSameRoot,
        Self::ForkBehindGap,
        Self::SplitViews,
    ];

    /// Whether it shows targets of a log that is not the honest one, with a signature that is the signer's.
    pub(crate) fn is_fork(self) -> bool {
        matches!(
            self,
            Self::ForkSameSize
                | Self::ForkBiggerUnshown
                | Self::ForkBiggerForged
                | Self::ForkBiggerOwnProof
                | Self::ForkSameRoot
                | Self::ForkBehindGap
                | Self::SplitViews
        )
    }
}

pub(crate) enum Sent {
    Message(Vec<u8>),
    Cut,
}

/// A server that lies in one way.
pub(crate) struct Liar {
    lie: Lie,
    /// The log that it makes up: the honest one's beginning, then others.
    fork: Log,
    /// An answer of the right kind that it gave before.
    earlier: Option<Vec<u8>>,
    first_claim: Option<Claim>,
}

impl Liar {
    /// A liar whose made-up log leaves the honest one at a size.
    pub(crate) fn new(lie: Lie, honest: &Log, fork_at: u64, seed: u64) -> Self {
        let mut fork = Log::default();
        for operation in &honest.operations[..fork_at as usize] {
            fork.mmr.append(eidetica_mmr::leaf_hash(operation)).unwrap();
            fork.operations.push(operation.clone());
        }
        fork.grow(honest.leaves().0 - fork_at, seed ^ 0xf0);
        Self {
            lie,
            fork,
            earlier: None,
            first_claim: None,
        }
    }

    /// What it sends after a request, and when. `right` is what an honest server would.
    pub(crate) fn answer(
        &mut self,
        message: &[u8],
        right: Vec<u8>,
        honest: &Log,
        delay: u64,
        dice: &mut Dice,
    ) -> Vec<(u64, Sent)> {
        let (id, request) = Request::decode(message).unwrap();
        let later = 2_000 + dice.roll(5_000);
        let mut sent = match self.lie {
            Lie::WithholdsEverything => vec![],
            Lie::WithholdsOperations if is_operations(&request) => vec![],
            Lie::WithholdsConsistency if matches!(request, Request::Consistency { .. }) => vec![],
            Lie::SlowDrip => vec![(later, right.clone())],
            Lie::Twice => vec![(delay, right.clone()), (delay + 3, right.clone())],
            Lie::Replay => {
                let old = self.earlier.clone();
                let mut sent = vec![(delay + 2, right.clone())];
                sent.extend(old.map(|old| (delay, old)));
                sent
            }
            Lie::TargetFlood => {
                let flood = |nth: u64| (delay + nth % 7, right.clone());
                (0..50).map(flood).collect()
            }
            _ => vec![(delay, self.lied(id, &request, &right, honest, dice))],
        };
        if same_kind(self.earlier.as_deref(), &right) || self.earlier.is_none() {
            self.earlier = Some(right);
        }
        let mut sent: Vec<_> = sent
            .drain(..)
            .map(|(at, message)| (at, Sent::Message(message)))
            .collect();
        if self.lie == Lie::Flaps && dice.roll(3) == 0 {
            sent = vec![(delay, Sent::Cut)];
        }
        sent
    }

    fn lied(
        &mut self,
        id: RequestId,
        request: &Request,
        right: &[u8],
        honest: &Log,
        dice: &mut Dice,
    ) -> Vec<u8> {
        match self.lie {
            Lie::WrongId => return replied(right, RequestId(id.0 + 1_000_000)),
            Lie::IdOfLater => return replied(right, RequestId(id.0 + 1)),
            Lie::EmptyMessage => return Vec::new(),
            Lie::Garbage => return (0..dice.roll(200)).map(|_| dice.roll(256) as u8).collect(),
            Lie::TrailingBytes => return [right, &[0]].concat(),
            Lie::Oversized => {
                let mut long = right.to_vec();
                long.resize(limits::REPLY_BYTES + 1, 0);
                return long;
            }
            Lie::RenumberedReplay => {
                let old = self.earlier.clone();
                return old.map_or_else(|| right.to_vec(), |old| replied(&old, id));
            }
            Lie::Unavailable => return Reply::Refused(Refusal::Unavailable).encode(id),
            Lie::Busy => {
                let retry_ms = u64::MAX;
                return Reply::Refused(Refusal::Busy { retry_ms }).encode(id);
            }
            _ => {}
        }
        match request {
            Request::Target { .. } if self.lie == Lie::LowerAboveUpper => lower_above_upper(id),
            Request::Target { .. } => self
                .target(honest, dice)
                .map_or_else(|| right.to_vec(), |claim| Reply::Target(claim).encode(id)),
            Request::Operations { size, start, most } => {
                let range = *start..Location(start.0 + most);
                self.operations(id, *size, range, right, honest, dice)
            }
            Request::Consistency { old, new } => self.consistency(id, *old, *new, right, dice),
        }
    }

    fn target(&mut self, honest: &Log, dice: &mut Dice) -> Option<Claim> {
        let newest = honest.newest();
        let target = newest.target;
        let (root, lower, leaves) = (target.root(), target.lower(), target.leaves());
        let signed_by = |signer, target: Target| {
            let signature = Some(sign(signer, &signed_bytes(&name(), &target)));
            Claim { target, signature }
        };
        Some(match self.lie {
            Lie::RegressedTarget => {
                let first = self.first_claim.get_or_insert(newest.clone());
                first.clone()
            }
            Lie::UnsignedTarget => Claim::unsigned(target),
            Lie::ForgedSignature => {
                let forged = Target::new(Digest::new([9; 32]), lower, Leaves(leaves.0 + 5));
                signed_by(SIGNER + 1, forged.unwrap())
            }
            Lie::TargetOfAnother => {
                let other = DatabaseName::new("other").unwrap();
                let signature = Some(sign(SIGNER, &signed_bytes(&other, &target)));
                Claim { target, signature }
            }
            Lie::HugeSizes => {
                let most = Leaves(eidetica_mmr::limits::LEAVES);
                let huge = Target::new(root, Location(most.0 - 1), most);
                signed_by(SIGNER + 1, huge.unwrap())
            }
            Lie::ForkSameSize => self.fork_at_size(leaves),
            Lie::ForkBiggerUnshown
            | Lie::ForkBiggerForged
            | Lie::ForkBiggerOwnProof
            | Lie::SplitViews => {
                let leaves = Leaves(leaves.0 + 1 + dice.roll(4));
                self.fork_at_size(leaves)
            }
            Lie::ForkBehindGap => {
                let leaves = Leaves(leaves.0 + 2);
                self.fork_at_size(leaves);
                self.fork.raise(leaves.0 - 1);
                self.fork_at_size(leaves)
            }
            Lie::ForkSameRoot => {
                let leaves = Leaves(leaves.0 + 3);
                signed_by(SIGNER, Target::new(root, lower, leaves).unwrap())
            }
            _ => return None,
        })
    }

    fn fork_at_size(&mut self, leaves: Leaves) -> Claim {
        let missing = leaves.0.saturating_sub(self.fork.leaves().0);
        if missing > 0 {
            self.fork.grow(missing, missing);
        }
        self.fork.claim_at(leaves, SIGNER)
    }

    fn operations(
        &mut self,
        id: RequestId,
        size: Leaves,
        range: Range<Location>,
        right: &[u8],
        honest: &Log,
        dice: &mut Dice,
    ) -> Vec<u8> {
        let Ok((
            _,
            Reply::Operations {
                mut proof,
                operations,
            },
        )) = Reply::decode(right)
        else {
            return right.to_vec();
        };
        let mut parts = apart(&operations);
        let count = parts.len();
        match self.lie {
            Lie::WrongByte => {
                let long = parts.iter().position(|part| part.len() > 1);
                let Some(part) = long else {
                    return right.to_vec();
                };
                let byte = 1 + dice.roll(parts[part].len() as u64 - 1) as usize;
                parts[part][byte] ^= 1 << dice.roll(8);
            }
            Lie::SwappedOperations if count > 1 => {
                let at = dice.roll(count as u64 - 1) as usize;
                parts.swap(at, at + 1);
            }
            Lie::DroppedOperation => {
                parts.remove(dice.roll(count as u64) as usize);
            }
            Lie::ExtraOperation => parts.insert(dice.roll(count as u64 + 1) as usize, vec![0]),
            Lie::MoreThanAsked => {
                let end = range.end.0 + 3;
                if end <= size.0 {
                    return honestly(honest, id, size, range.start.0..end);
                }
            }
            Lie::HalfAnOperation => parts.push(vec![5, 1]),
            Lie::TruncatedProof => {
                proof.digests.pop();
            }
            Lie::LongerProof => proof.digests.push(Digest::new([1; 32])),
            Lie::OtherRange => {
                let start = range.start.0 ^ 1;
                if start < size.0 {
                    return honestly(honest, id, size, start..start + 1);
                }
            }
            Lie::OtherSize if size.0 > range.start.0 + 1 => {
                let other = size.0 - 1;
                let end = range.end.0.min(other);
                return honestly(honest, id, Leaves(other), range.start.0..end);
            }
            Lie::OtherLog | Lie::SplitViews | Lie::ForkBiggerOwnProof => {
                let leaves = size.max(self.fork.leaves());
                self.fork_at_size(leaves);
                return honestly(&self.fork, id, size, range.start.0..range.end.0.min(size.0));
            }
            Lie::ForgedDigest => {
                if let Some(last) = proof.digests.last_mut() {
                    *last = Digest::new([3; 32]);
                }
            }
            Lie::WrongPinned => {
                if let Some(first) = proof.digests.first_mut() {
                    *first = Digest::new([4; 32]);
                }
            }
            Lie::MissingPinned if !proof.digests.is_empty() => {
                proof.digests.remove(0);
            }
            Lie::OtherKind => return Reply::Target(honest.newest()).encode(id),
            Lie::OneByOne => {
                let start = range.start.0;
                return honestly(honest, id, size, start..start + 1);
            }
            Lie::EmptyReplies => parts.clear(),
            Lie::Pruned => {
                let boundary = Location(u64::MAX);
                return Reply::Refused(Refusal::Pruned { boundary }).encode(id);
            }
            Lie::NotYet | Lie::HugeSizes => {
                let leaves = Leaves(u64::MAX);
                return Reply::Refused(Refusal::NotYet { leaves }).encode(id);
            }
            _ => return right.to_vec(),
        }
        let operations = parts.concat();
        Reply::Operations { proof, operations }.encode(id)
    }

    fn consistency(
        &mut self,
        id: RequestId,
        old: Leaves,
        new: Leaves,
        right: &[u8],
        dice: &mut Dice,
    ) -> Vec<u8> {
        match self.lie {
            Lie::ForkBiggerUnshown => Reply::Refused(Refusal::Unavailable).encode(id),
            Lie::ForgetsHeld | Lie::ForkBehindGap => {
                let boundary = Location(new.0 - 1);
                Reply::Refused(Refusal::Pruned { boundary }).encode(id)
            }
            // The fork's own, which is right about the fork.
            Lie::ForkBiggerOwnProof | Lie::SplitViews => {
                self.fork_at_size(new.max(self.fork.leaves()));
                let own = prove_consistency(&self.fork.mmr, old, new).unwrap();
                Reply::Consistency(own).encode(id)
            }
            Lie::ForkBiggerForged | Lie::ForgedDigest | Lie::WrongPinned => {
                self.fork_at_size(new.max(self.fork.leaves()));
                let mut forged = prove_consistency(&self.fork.mmr, old, new).unwrap();
                let at = dice.roll(forged.digests.len() as u64) as usize;
                forged.digests[at] = Digest::new([8; 32]);
                Reply::Consistency(forged).encode(id)
            }
            Lie::OtherSize | Lie::TruncatedProof => {
                let Ok((_, Reply::Consistency(mut proof))) = Reply::decode(right) else {
                    return right.to_vec();
                };
                proof.digests.pop();
                Reply::Consistency(proof).encode(id)
            }
            _ => right.to_vec(),
        }
    }
}

/// A target that cannot even be built, by its bytes.
fn lower_above_upper(id: RequestId) -> Vec<u8> {
    let mut bytes = vec![0x81];
    eidetica_mmr::write_varint(&mut bytes, id.0);
    bytes.push(1);
    bytes.extend_from_slice(&[5; 32]);
    bytes.extend_from_slice(&[9, 3, 0]);
    bytes
}

fn is_operations(request: &Request) -> bool {
    matches!(request, Request::Operations { .. })
}

fn same_kind(one: Option<&[u8]>, other: &[u8]) -> bool {
    one.and_then(<[u8]>::first) == other.first()
}

/// A reply with another number.
fn replied(reply: &[u8], id: RequestId) -> Vec<u8> {
    Reply::decode(reply).unwrap().1.encode(id)
}

fn apart(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (part, rest) = bytes.split_at(1 + usize::from(bytes[0]));
        parts.push(part.to_vec());
        bytes = rest;
    }
    parts
}

/// The right operations and proof of some range of a log.
fn honestly(log: &Log, id: RequestId, size: Leaves, range: Range<u64>) -> Vec<u8> {
    let wanted = &log.operations[range.start as usize..range.end as usize];
    let operations = wanted.concat();
    let range = Location(range.start)..Location(range.end);
    let proof = prove_range(&log.mmr, size, range).unwrap();
    Reply::Operations { proof, operations }.encode(id)
}
