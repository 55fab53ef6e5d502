//! [`BackupError`]: why there is no backup, or no copy.

use std::io;

use eidetica_storage::log::LogError;
use eidetica_storage::{Blame, EngineError, Space};

/// Why a backup could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The engine's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row about the rows' format is damaged, or says that they are not for this program.
    #[error(transparent)]
    Log(LogError),
    /// The stream could not be read.
    #[error("reading the backup failed: {0}")]
    Read(#[source] io::Error),
    /// The stream could not be written.
    #[error("writing the backup failed: {0}")]
    Write(#[source] io::Error),
    /// The stream is something else.
    #[error("this is no backup")]
    NotABackup,
    /// The backup was written by a newer version.
    #[error(
        "the backup has format {found}, and this program knows formats up to {supported}: restore it with a newer one"
    )]
    NewerFormat {
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The rows in the backup were written by a newer version.
    #[error(
        "the rows in the backup have format {found}, and this program knows formats up to {supported}: restore them with a \
         newer one"
    )]
    NewerRows {
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The stream ends too early.
    #[error("the backup is cut off in frame {frame}")]
    Truncated {
        /// The frame, from 0; the label where there was none yet.
        frame: u64,
    },
    /// A part of the backup is not as it was written.
    #[error("the backup is damaged in frame {frame}: {detail}")]
    Damaged {
        /// The frame, from 0.
        frame: u64,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// There are no rows of an instance to copy.
    #[error("there is nothing to copy: no instance was ever opened there")]
    NothingThere,
    /// There is something in the engine that was to be restored to. It was left as it is.
    #[error("there is something in that place already (in {space})")]
    NotEmpty {
        /// Where a row was found.
        space: Space,
    },
    /// The restore of something else into the engine was begun and not finished.
    #[error("another restore or migration into that place has not been finished")]
    OtherUnfinished,
    /// What was written does not read back as it was.
    #[error("the rows that were written do not read back as they were")]
    Differs,
}

impl BackupError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Engine(error) => error.blame(),
            Self::Log(error) => error.blame(),
            Self::Read(_) | Self::Write(_) => Blame::Unavailable,
            Self::Truncated { .. } | Self::Damaged { .. } | Self::Differs => Blame::Corrupt,
            Self::NotABackup
            | Self::NewerFormat { .. }
            | Self::NewerRows { .. }
            | Self::NothingThere
            | Self::NotEmpty { .. }
            | Self::OtherUnfinished => Blame::Caller,
        }
    }

    /// Whether the same backup can never be restored: what came of it so far is worth nothing.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::Damaged { .. } | Self::Differs
        )
    }
}

impl From<LogError> for BackupError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Engine(error) => Self::Engine(error),
            error => Self::Log(error),
        }
    }
}
