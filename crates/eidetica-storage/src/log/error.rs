//! [`LogError`]: why the entry log cannot answer.

use eidetica_entry::Id;
use eidetica_entry::dag::DagError;
use eidetica_entry::pack::PackError;

use crate::{Blame, EngineError};

/// Why the log could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The engine's answer.
    #[error(transparent)]
    Engine(EngineError),
    /// A row is damaged. Everything else can still be read.
    #[error("{row} is damaged: {detail}")]
    Corrupt {
        /// Which row: its kind, database and place.
        row: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The rows were written by a later version of this crate.
    #[error(
        "the rows have format {found}, and this program knows formats up to {supported}: open them with a newer one"
    )]
    NewerFormat {
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The rows were written by an earlier version of this crate, and nothing leads from there to the present format.
    #[error(
        "the rows have format {found}, and this program, which is at {supported}, cannot bring them up: an older one can"
    )]
    OlderFormat {
        /// The version found.
        found: u32,
        /// The version that this crate writes.
        supported: u32,
    },
    /// Rows are being copied into the engine, or were until something stopped it: it is not whole.
    #[error("a restore or migration into this place has not been finished")]
    Unfinished,
    /// The database was here, and was taken away.
    #[error("database {0} is not here any more")]
    Gone(Id),
    /// What follows from the entries is being computed again, or was until something stopped it.
    #[error("database {0} is being repaired; a repair that was interrupted has to be run again")]
    Repairing(Id),
    /// A database with this id is here already.
    #[error("database {0} exists")]
    Exists(Id),
    /// A database cannot begin with this entry.
    #[error("entry {0} is no root")]
    NotRoot(Id),
    /// To be staged: an entry of another database.
    #[error("entry {0} is of another database")]
    Foreign(Id),
    /// An entry that was named is not here.
    #[error("entry {0} is not in this database")]
    Missing(Id),
    /// Entries that do not make a pack.
    #[error("cannot pack entries: {0}")]
    Pack(#[from] PackError),
    /// A walk needed more steps than it was given.
    #[error("history walk exceeds its budget of steps")]
    Budget,
}

impl LogError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Engine(error) => error.blame(),
            Self::Corrupt { .. } => Blame::Corrupt,
            Self::Repairing(_) => Blame::Unavailable,
            Self::NewerFormat { .. }
            | Self::OlderFormat { .. }
            | Self::Unfinished
            | Self::Gone(_)
            | Self::Exists(_)
            | Self::NotRoot(_)
            | Self::Foreign(_)
            | Self::Missing(_)
            | Self::Pack(_)
            | Self::Budget => Blame::Caller,
        }
    }

    pub(super) fn corrupt(row: impl ToString, detail: impl ToString) -> Self {
        Self::Corrupt {
            row: row.to_string(),
            detail: detail.to_string(),
        }
    }
}

impl From<EngineError> for LogError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Corrupt { detail } => Self::corrupt("what the engine keeps", detail),
            error => Self::Engine(error),
        }
    }
}

impl From<DagError<LogError>> for LogError {
    fn from(error: DagError<LogError>) -> Self {
        match error {
            DagError::Source(error) => error,
            DagError::Missing(id) => Self::Missing(id),
            DagError::Height(id) => {
                Self::corrupt(format_args!("entry {id}"), "not lower than its child")
            }
            _ => Self::Budget,
        }
    }
}
