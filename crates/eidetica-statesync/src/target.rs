//! Targets, and who vouches for them.

use std::fmt;

use eidetica_mmr::{Digest, Leaves, Location, read_varint, write_varint};

use crate::{ClaimError, NameError, TargetError, limits};

/// A state of a log to be reached: its root and size, and the first operation that still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    root: Digest,
    lower: Location,
    leaves: Leaves,
}

impl Target {
    /// A target of `leaves` operations of which those from `lower` on are wanted.
    ///
    /// # Errors
    /// [`TargetError`] unless at least one is, and the size is one that a range can have.
    pub fn new(root: Digest, lower: Location, leaves: Leaves) -> Result<Self, TargetError> {
        if !leaves.is_possible() {
            return Err(TargetError::Size { leaves });
        }
        if lower.0 >= leaves.0 {
            return Err(TargetError::Lower { lower, leaves });
        }
        Ok(Self {
            root,
            lower,
            leaves,
        })
    }

    /// The root at its size.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The first operation that is wanted: the lower bound.
    #[must_use]
    pub fn lower(&self) -> Location {
        self.lower
    }

    /// How many operations there are, unwanted ones included.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.leaves
    }

    /// The last operation: the upper bound.
    #[must_use]
    pub fn last(&self) -> Location {
        Location(self.leaves.0.saturating_sub(1))
    }
}

/// The name of a database, which a signature binds a target to: `any`, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// A name of 1 to [`limits::NAME_BYTES`] bytes.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let length = name.len();
        if length == 0 || length > limits::NAME_BYTES {
            return Err(NameError { length });
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ed25519 signature, say. This crate does not look into it.
pub type Signature = [u8; 64];

/// What precedes a target in the bytes that are signed.
const SIGNED: &[u8; 24] = b"eidetica state target v1";
/// The first byte of an encoded claim.
const FORMAT: u8 = 1;

/// The bytes that the signer of a target signs.
#[must_use]
pub fn signed_bytes(name: &DatabaseName, target: &Target) -> Vec<u8> {
    let mut out = SIGNED.to_vec();
    write_varint(&mut out, name.0.len() as u64);
    out.extend_from_slice(name.0.as_bytes());
    write_target(&mut out, target);
    out
}

/// A target and, if somebody signed it, the signature. It is what servers answer with, what is kept as a pin,
/// and what an alarm keeps as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The state that is claimed.
    pub target: Target,
    /// Over [`signed_bytes`].
    pub signature: Option<Signature>,
}

impl Claim {
    /// A target that nobody signed.
    #[must_use]
    pub fn unsigned(target: Target) -> Self {
        let signature = None;
        Self { target, signature }
    }

    /// The bytes of a claim, for messages and files.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(120);
        self.write(&mut out);
        out
    }

    /// Reads a claim that takes all of the bytes.
    ///
    /// # Errors
    /// [`ClaimError`] unless they are what encoding makes of a possible target.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimError> {
        let (format, rest) = bytes.split_first().ok_or(ClaimError::Bytes)?;
        if *format != FORMAT {
            return Err(ClaimError::Format { found: *format });
        }
        let (root, rest) = rest.split_first_chunk().ok_or(ClaimError::Bytes)?;
        let (lower, rest) = read_varint(rest).map_err(|_| ClaimError::Bytes)?;
        let (leaves, rest) = read_varint(rest).map_err(|_| ClaimError::Bytes)?;
        let target = Target::new(Digest::new(*root), Location(lower), Leaves(leaves))?;
        let signature = match rest.split_first() {
            Some((0, [])) => None,
            Some((1, rest)) => Some(rest.try_into().map_err(|_| ClaimError::Bytes)?),
            _ => return Err(ClaimError::Bytes),
        };
        Ok(Self { target, signature })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        write_target(out, &self.target);
        match &self.signature {
            None => out.push(0),
            Some(signature) => {
                out.push(1);
                out.extend_from_slice(signature);
            }
        }
    }
}

fn write_target(out: &mut Vec<u8>, target: &Target) {
    out.extend_from_slice(target.root.as_bytes());
    write_varint(out, target.lower.0);
    write_varint(out, target.leaves.0);
}

/// The newest target that is known to be right. It survives restarts: nothing older is taken, and nothing newer that
/// does not continue it.
pub type Pin = Claim;

/// Two targets that no honest log has both of, or that nobody could show to be of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What is wrong between them.
    pub kind: Conflict,
    /// What was held before.
    pub held: Claim,
    /// What was shown then.
    pub shown: Claim,
    /// Who showed it, `None` for the caller.
    pub source: Option<crate::SourceId>,
}

impl Evidence {
    /// The bytes, for a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind.number()];
        let source = self.source.map_or(0, |source| source.0.saturating_add(1));
        write_varint(&mut out, source);
        let held = self.held.encode();
        write_varint(&mut out, held.len() as u64);
        out.extend_from_slice(&held);
        self.shown.write(&mut out);
        out
    }

    /// Reads evidence that takes all of the bytes.
    ///
    /// # Errors
    /// [`ClaimError`] unless they are what encoding makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimError> {
        let (kind, rest) = bytes.split_first().ok_or(ClaimError::Bytes)?;
        let kind = Conflict::of_number(*kind).ok_or(ClaimError::Bytes)?;
        let (source, rest) = read_varint(rest).map_err(|_| ClaimError::Bytes)?;
        let (length, rest) = read_varint(rest).map_err(|_| ClaimError::Bytes)?;
        let length = usize::try_from(length).map_err(|_| ClaimError::Bytes)?;
        let (held, shown) = rest.split_at_checked(length).ok_or(ClaimError::Bytes)?;
        Ok(Self {
            kind,
            held: Claim::decode(held)?,
            shown: Claim::decode(shown)?,
            source: source.checked_sub(1).map(crate::SourceId),
        })
    }
}

impl fmt::Display for Evidence {
    /// One line with both roots in full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, shown) = (&self.held.target, &self.shown.target);
        write!(
            f,
            "{}: held root {} of {} operations, shown root {} of {} operations",
            self.kind, held.root, held.leaves, shown.root, shown.leaves
        )
    }
}

/// Why two targets do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// One size with two roots.
    SameSize,
    /// Two sizes with one root.
    SameRoot,
    /// A proof was shown that the newer continues the older, and it is wrong.
    Inconsistent,
    /// Nobody showed that the newer continues the older.
    Unshown,
}

impl Conflict {
    const ALL: [Self; 4] = [
        Self::SameSize,
        Self::SameRoot,
        Self::Inconsistent,
        Self::Unshown,
    ];

    fn number(self) -> u8 {
        match self {
            Self::SameSize => 1,
            Self::SameRoot => 2,
            Self::Inconsistent => 3,
            Self::Unshown => 4,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameSize => "two roots of one size",
            Self::SameRoot => "one root of two sizes",
            Self::Inconsistent => "the newer target does not continue the older",
            Self::Unshown => "nobody showed that the newer target continues the older",
        })
    }
}
