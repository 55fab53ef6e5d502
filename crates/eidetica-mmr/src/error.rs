//! What can go wrong, by who is to blame. Written by hand: this crate depends on nothing but the hash.

use std::error::Error;
use std::fmt;

use crate::{Leaves, Location};

/// The caller asked for what a range cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MmrError {
    /// There are [`crate::limits::LEAVES`] leaves already.
    Full,
    /// A batch was made on another state than the one it is applied to.
    Stale {
        /// The size the batch was made on.
        made_on: Leaves,
        /// The size it met.
        present: Leaves,
    },
    /// The location lies beyond the size or before what is kept.
    OutOfBounds {
        /// What was asked for.
        location: Location,
        /// How many leaves there are.
        leaves: Leaves,
    },
    /// The number of pinned nodes is not that of the size.
    Pinned {
        /// How many peaks the size has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
}

impl fmt::Display for MmrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the range is full"),
            Self::Stale { made_on, present } => {
                write!(
                    f,
                    "the batch was made on {made_on} leaves or others, not on these {present}"
                )
            }
            Self::OutOfBounds { location, leaves } => {
                write!(
                    f,
                    "location {location} is not among the kept of {leaves} leaves"
                )
            }
            Self::Pinned { expected, found } => {
                write!(f, "{found} pinned nodes were given where {expected} belong")
            }
        }
    }
}

impl Error for MmrError {}

/// A proof cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProveError<E> {
    /// The caller asked for nothing, for locations out of order, or beyond the size.
    Request {
        /// The size that was asked about.
        leaves: Leaves,
    },
    /// The caller asked for more locations or hashes than one proof holds.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A node is needed that is not kept (any more).
    Missing(crate::Position),
    /// The nodes could not be read.
    Nodes(E),
}

impl<E: fmt::Display> fmt::Display for ProveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { leaves } => write!(f, "no such locations in {leaves} leaves"),
            Self::TooLarge { limit } => write!(f, "the proof would hold more than {limit}"),
            Self::Missing(position) => write!(f, "node {position} is not kept"),
            Self::Nodes(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for ProveError<E> {}

/// What was shown is not what the root commits to: whoever made the proof or the elements is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The locations are none, out of order, too many, or beyond the size in the proof.
    Locations,
    /// The proof has fewer or more hashes than its shape needs.
    Shape,
    /// The hashes lead to another root.
    Root,
    /// The sizes or the old root of a consistency proof do not fit.
    Old,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locations => "the proof is about other locations",
            Self::Shape => "the proof has too few or too many hashes",
            Self::Root => "the proof leads to another root",
            Self::Old => "the proof leads to another old root",
        })
    }
}

impl Error for VerifyError {}

/// Bytes are not a proof: whoever sent them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    Truncated,
    /// There are bytes after the end.
    Trailing,
    /// A number takes more bytes than it needs or is too great.
    Number,
    /// More hashes than the caller allows.
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the proof ends too early"),
            Self::Trailing => write!(f, "there are bytes after the proof"),
            Self::Number => write!(f, "a number in the proof is not canonical"),
            Self::TooLarge { limit } => write!(f, "the proof has more than {limit} hashes"),
        }
    }
}

impl Error for DecodeError {}
