//! What can go wrong, by who is to blame.

use std::io;
use std::sync::Arc;

use eidetica_mmr::{Digest, Leaves, Location, MmrError, ProveError};
use thiserror::Error;

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The program that called.
    Caller,
    /// Whoever made the operations, or the target they were to lead to.
    Peer,
    /// The files: they are damaged, or another program's.
    Data,
    /// Nobody: the disk failed, or is not there.
    Unavailable,
}

/// Why a database cannot do what it was asked for.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Error {
    /// A key is empty or longer than [`crate::limits::KEY_BYTES`].
    #[error("a key of {length} bytes is empty or too long")]
    Key {
        /// Its length.
        length: usize,
    },
    /// A value is longer than [`crate::limits::VALUE_BYTES`].
    #[error("a value of {length} bytes is too long")]
    Value {
        /// Its length.
        length: usize,
    },
    /// The metadata of a commit are longer than [`crate::limits::METADATA_BYTES`].
    #[error("metadata of {length} bytes are too long")]
    Metadata {
        /// Their length.
        length: usize,
    },
    /// A batch exceeds [`crate::limits::BATCH_CHANGES`] or [`crate::limits::BATCH_BYTES`].
    #[error("the batch is too large")]
    BatchTooLarge,
    /// The key of an immutable database has a value already.
    #[error("the key is set already, at location {at}")]
    AlreadySet {
        /// Where; the end of the log if in the same batch.
        at: Location,
    },
    /// There are [`crate::limits::SEGMENTS`] segments: nothing more is written before some are pruned and it is opened again.
    #[error("there are as many segments as there may be: prune it")]
    TooManySegments,
    /// Changes were prepared on another state than the present one.
    #[error("the changes were prepared on another state")]
    Stale,
    /// A location or size that is not (yet) in the log.
    #[error("location {location} is not within {leaves} operations")]
    OutOfBounds {
        /// What was asked for.
        location: Location,
        /// How many operations there are.
        leaves: Leaves,
    },
    /// The operation was pruned.
    #[error("location {location} is pruned: operations begin at {boundary}")]
    Pruned {
        /// What was asked for.
        location: Location,
        /// The first operation there is.
        boundary: Location,
    },
    /// Pruning beyond what is inactive and committed.
    #[error("cannot prune before {asked}: everything from {floor} on is needed")]
    NotInactive {
        /// What was asked for.
        asked: Location,
        /// The most that can be.
        floor: Location,
    },
    /// The request is not within the limits of a proof.
    #[error("the request is empty, out of order or too large for one proof")]
    Request,
    /// The files are of the other type of database.
    #[error("the files are of another type of database")]
    OtherKind,
    /// The database is being filled from others and is not complete.
    #[error("the database is still being synchronized")]
    Unfinished,
    /// The database belongs to a format that is newer than this program.
    #[error("the files have format {found}, newer than this program's")]
    NewerFormat {
        /// What the files say.
        found: u32,
    },
    /// A replica holds as much as it may that cannot be appended yet.
    #[error("too much was received ahead of what is missing")]
    TooFarAhead,

    /// Bytes are no operation of this type of database.
    #[error("operation {location} is malformed: {detail}")]
    Operation {
        /// Where it belongs.
        location: Location,
        /// What is wrong with it.
        detail: OperationError,
    },
    /// The operations of a replica lead to another root than its target's.
    #[error("the operations lead to root {found} instead of {expected}")]
    WrongRoot {
        /// The target's.
        expected: Digest,
        /// The replica's.
        found: Digest,
    },
    /// A target that no database of ours has.
    #[error("no database has this target: {detail}")]
    Target {
        /// Why.
        detail: &'static str,
    },

    /// A file is damaged. Nothing was rolled back or removed.
    #[error("{file} is damaged: {detail}")]
    Corrupt {
        /// Which.
        file: String,
        /// How.
        detail: String,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {file}: {source}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// Which.
        file: String,
        /// The disk's own error.
        source: Arc<io::Error>,
    },
    /// An earlier write failed, so that what is on disk is not known. Opening again tells.
    #[error("an earlier write failed: {first}")]
    Poisoned {
        /// That error.
        first: Arc<str>,
    },
}

impl Error {
    /// Who has to act on it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Operation { .. } | Self::WrongRoot { .. } | Self::Target { .. } => Blame::Peer,
            Self::Corrupt { .. } | Self::NewerFormat { .. } => Blame::Data,
            Self::Io { .. } | Self::Poisoned { .. } => Blame::Unavailable,
            _ => Blame::Caller,
        }
    }

    pub(crate) fn corrupt(file: impl ToString, detail: impl ToString) -> Self {
        Self::Corrupt {
            file: file.to_string(),
            detail: detail.to_string(),
        }
    }
}

impl From<MmrError> for Error {
    fn from(error: MmrError) -> Self {
        match error {
            MmrError::OutOfBounds { location, leaves } => Self::OutOfBounds { location, leaves },
            MmrError::Stale { .. } => Self::Stale,
            _ => Self::BatchTooLarge,
        }
    }
}

impl From<ProveError<Error>> for Error {
    fn from(error: ProveError<Error>) -> Self {
        match error {
            ProveError::Nodes(error) => error,
            ProveError::Missing(position) => {
                Self::corrupt("the log", format_args!("node {position} is missing"))
            }
            _ => Self::Request,
        }
    }
}

/// Why bytes are no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OperationError {
    /// They end too early.
    #[error("it ends too early")]
    Truncated,
    /// There is more after the end.
    #[error("there are bytes after its end")]
    Trailing,
    /// A number, a length or a key could have been shorter or is too great.
    #[error("a number in it is not canonical or too great")]
    Number,
    /// The key is empty or too long.
    #[error("its key is empty or too long")]
    Key,
    /// The value or the metadata are too long.
    #[error("its value is too long")]
    Value,
    /// The floor of a commit sinks, or lies beyond it.
    #[error("its floor is below an earlier one or beyond itself")]
    Floor,
    /// A commit says of more keys that they have values than there are operations before it.
    #[error("it counts more keys than there can be")]
    Active,
    /// An operation of the other type of database.
    #[error("it belongs to another type of database")]
    Kind,
}
