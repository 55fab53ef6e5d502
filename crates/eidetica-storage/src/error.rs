//! What an engine can answer instead of a result.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;

use crate::Space;

/// Why an engine could not do what it was asked.
///
/// Cheap to clone, so that a group commit can hand one failure to everyone who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A row was not what the batch expected; nothing of the batch was applied. Another writer was
    /// faster, and the caller may look again and retry.
    #[error("a row in {space} changed since it was read")]
    PreconditionFailed {
        /// The space of the row.
        space: Space,
        /// Its key.
        key: Bytes,
    },
    /// The batch exceeds a limit; nothing of it was applied.
    #[error("{what} of {len} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large: `key bytes`, `value bytes`, `batch bytes` or `batch steps`.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The most that is allowed; see [`limits`](crate::limits).
        limit: usize,
    },
    /// A row of the batch has an empty key; nothing of it was applied.
    #[error("a key is empty")]
    EmptyKey,
    /// The engine was closed through this or another handle.
    #[error("the storage is closed")]
    Closed,
    /// An earlier write or sync failed, so that what is on disk is not known. Nothing more is read or
    /// written through this engine; open it again.
    #[error("the storage stopped after a failure: {first}")]
    Poisoned {
        /// The text of the first failure.
        first: Arc<str>,
    },
    /// Another process (or another engine of this process) has the data open.
    #[error("{location} is in use by another process")]
    Locked {
        /// Where the data is.
        location: Arc<str>,
    },
    /// What is there was not made by this engine, and is left untouched.
    #[error("{location} does not hold our data: {detail}")]
    Foreign {
        /// Where the data should be.
        location: Arc<str>,
        /// What is wrong with it.
        detail: Arc<str>,
    },
    /// The data was written by a newer version and is left untouched.
    #[error(
        "the storage has format {found}, and this program knows formats up to {supported}: open it with a newer one"
    )]
    NewerFormat {
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The data was written by an older version, nothing leads from there to the present format, and it is left untouched.
    #[error(
        "the storage has format {found}, and this program, which is at {supported}, cannot bring it up"
    )]
    OlderFormat {
        /// The version found.
        found: u32,
        /// The version that is written.
        supported: u32,
    },
    /// Stored bytes are damaged.
    #[error("stored data is damaged: {detail}")]
    Corrupt {
        /// What was found where.
        detail: Arc<str>,
    },
    /// The operating system or the engine below failed.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done, as a gerund: `opening`, `writing`, `syncing`.
        doing: &'static str,
        /// The cause.
        source: Arc<dyn StdError + Send + Sync>,
    },
}

/// Who or what has to change before the same call can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The caller: another argument, another path, a fresh read.
    Caller,
    /// The stored data: it has to be repaired or fetched again.
    Corrupt,
    /// The surroundings: a disk, a lock, a server.
    Unavailable,
}

impl EngineError {
    /// An [`EngineError::Io`].
    pub fn io(doing: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Io {
            doing,
            source: Arc::new(source),
        }
    }

    /// An [`EngineError::Corrupt`].
    pub fn corrupt(detail: impl Into<Arc<str>>) -> Self {
        Self::Corrupt {
            detail: detail.into(),
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::PreconditionFailed { .. }
            | Self::TooLarge { .. }
            | Self::EmptyKey
            | Self::Closed
            | Self::Foreign { .. }
            | Self::NewerFormat { .. }
            | Self::OlderFormat { .. } => Blame::Caller,
            Self::Corrupt { .. } => Blame::Corrupt,
            Self::Poisoned { .. } | Self::Locked { .. } | Self::Io { .. } => Blame::Unavailable,
        }
    }

    /// Whether a write that ended so left the engine usable and the data as it was.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::PreconditionFailed { .. } | Self::TooLarge { .. } | Self::EmptyKey
        )
    }
}
