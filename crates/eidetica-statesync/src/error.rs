//! What can go wrong, by who is to blame.

use eidetica_mmr::{DecodeError, Leaves, Location, VerifyError};
use thiserror::Error;

/// Numbers that are no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No range has so many leaves.
    #[error("no log has {leaves} operations")]
    Size {
        /// The size.
        leaves: Leaves,
    },
    /// No operation is left.
    #[error("the lower bound {lower} is not within {leaves} operations")]
    Lower {
        /// The lower bound.
        lower: Location,
        /// The size.
        leaves: Leaves,
    },
}

/// A name is empty or longer than [`crate::limits::NAME_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a name of {length} bytes is empty or too long")]
pub struct NameError {
    /// Its length.
    pub length: usize,
}

/// Bytes are no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Their first byte is that of another format.
    #[error("the claim has format {found}")]
    Format {
        /// The byte.
        found: u8,
    },
    /// They end too early, go on too long, or are not what encoding makes.
    #[error("the bytes are no claim")]
    Bytes,
    /// The target in them is none.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Options that no engine can work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{option} must be between 1 and {most}, not {found}")]
pub struct ConfigError {
    /// Which.
    pub option: &'static str,
    /// What it says.
    pub found: u64,
    /// The most that it may.
    pub most: u64,
}

/// Bytes are no message: whoever sent them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// They are more than any message has.
    #[error("the message of {length} bytes is too long")]
    TooLarge {
        /// How many.
        length: usize,
    },
    /// The first byte is that of no message.
    #[error("{found} is no kind of message")]
    Kind {
        /// The byte.
        found: u8,
    },
    /// They end too early, go on too long, or a number is not in its shortest form.
    #[error("the message is malformed")]
    Bytes,
    /// A refusal has a number that this version does not know.
    #[error("{found} is no refusal")]
    Refusal {
        /// The number.
        found: u8,
    },
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A claim in it is none.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A proof in it is none.
    #[error("{0}")]
    Proof(DecodeError),
}

impl From<DecodeError> for MessageError {
    fn from(error: DecodeError) -> Self {
        Self::Proof(error)
    }
}

/// What a source did that no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// It sent what is no reply.
    #[error("{0}")]
    Message(#[from] MessageError),
    /// It answered what it was never asked.
    #[error("it answered a request that it never got")]
    UnknownRequest,
    /// It answered something else than it was asked.
    #[error("the reply is to another kind of request")]
    OtherReply,
    /// It sent no operations, or more than it was asked for.
    #[error("the reply has {found} operations where 1 to {asked} were asked for")]
    Count {
        /// How many it was asked for.
        asked: usize,
        /// How many it sent, at least.
        found: usize,
    },
    /// Its operations do not come apart into operations.
    #[error("the operations are malformed")]
    Operations,
    /// Its proof is about another size than it was asked about.
    #[error("the proof is about {found} operations and not about {asked}")]
    OtherSize {
        /// The size that it was asked about.
        asked: Leaves,
        /// The size in the proof.
        found: Leaves,
    },
    /// Its operations or nodes are not those that the target commits to.
    #[error("{0}")]
    Proof(VerifyError),
    /// Its target is not signed, or not by the trusted signer.
    #[error("the target is not signed by the trusted signer")]
    Signature,
    /// Its target is of another log than the held one.
    #[error("the target is of another log than the held one")]
    Forked,
    /// Its target is of no database: it begins or ends where none does.
    #[error("its target is of no database")]
    Unfit,
    /// Nobody served anything of its target for a long time.
    #[error("nothing of its target could be had")]
    Unbacked,
    /// It could not show that its target continues the held one.
    #[error("it did not show that its target continues the held one")]
    Unshown,
}

impl From<VerifyError> for Fault {
    fn from(error: VerifyError) -> Self {
        Self::Proof(error)
    }
}
