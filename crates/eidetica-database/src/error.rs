//! What can go wrong, and who has to act.

use eidetica_auth::{Permission, SettingsError, VoidReason};
use eidetica_crdt::{EditError, PathError, StateError, StoreKind};
use eidetica_entry::{EntryError, Id, NameError, PublicKey, StoreName};
use eidetica_storage::EngineError;
use eidetica_storage::log::LogError;

use crate::registry::kind_name;
use crate::stores::NotAllowed;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a database could not do what it was asked. Reads as a fragment: "cannot commit: ..".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such database on this instance.
    #[error("no database {0}")]
    NoDatabase(Id),
    /// What follows from the entries is being computed again, or was until something stopped it.
    #[error("database {0} is being repaired; a repair that was interrupted has to be run again")]
    Repairing(Id),
    /// The database may not hold so much more here; see [`Database::set_quota`](crate::Database::set_quota).
    #[error(
        "the database holds {bytes} bytes of entries here, may hold {limit}, and these are {more} more"
    )]
    Full {
        /// Bytes that it may hold.
        limit: u64,
        /// Bytes that it holds.
        bytes: u64,
        /// Bytes that do not fit.
        more: u64,
    },
    /// There is no such entry in the database.
    #[error("no entry {0} in the database")]
    NoEntry(Id),
    /// What the transaction read has changed since. [`Database::transact`](crate::Database::transact)
    /// runs it again.
    #[error("what the transaction read in {store} has changed since")]
    Conflict {
        /// The store that was read.
        store: StoreName,
    },
    /// The author has no right to what the entry does.
    #[error("{0}")]
    Refused(Reject),
    /// The author had the right to the entry once, and it was taken away: nobody would count it.
    #[error("the entry would not count: {0}")]
    WouldBeVoid(VoidReason),
    /// The transaction has no key to sign with.
    #[error("no key to sign with")]
    NoKey,
    /// A frontier of no entries.
    #[error("a frontier needs an entry")]
    NoFrontier,
    /// The store holds another kind of data.
    #[error("store {store} is a {found}, not a {expected}")]
    WrongKind {
        /// The store.
        store: StoreName,
        /// What was asked for.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Payloads of the store are not here, so what it shows is not known.
    /// [`Database::partial`](crate::Database::partial) reads what is here.
    #[error("store {store} is not whole here: {missing} of its payloads {}", why_missing(*held))]
    Incomplete {
        /// The store.
        store: StoreName,
        /// How many payloads a reader would have to know.
        missing: u64,
        /// Whether they are held, and so being fetched; else they were left out.
        held: bool,
    },
    /// The store is left out here, so it cannot be written to.
    #[error("store {store} is left out on this device: hold it to write to it")]
    NotHeld {
        /// The store.
        store: StoreName,
    },
    /// The payloads of a store that is held do not go.
    #[error("store {store} is held on this device")]
    Held {
        /// The store.
        store: StoreName,
    },
    /// An edit does not fit the data as it is.
    #[error("store {store}: {error}")]
    Edit {
        /// The store.
        store: StoreName,
        /// Why.
        #[source]
        error: Box<EditError<EngineError>>,
    },
    /// A text that is no store name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A text that is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A table row, a key or a setting has another form than its type says.
    #[error("{what} does not have the form that was asked for: {detail}")]
    Form {
        /// What was read or written.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The author may not change the settings so; says who may.
    #[error(transparent)]
    NotAllowed(Box<NotAllowed>),
    /// The key has no right that this could take or hand on.
    #[error("{key} has no right that could be taken or given up so")]
    NothingToTake {
        /// The key.
        key: PublicKey,
    },
    /// A revocation of one's own key, or a rotation to it.
    #[error(
        "a key does not revoke itself or rotate to itself: it can renounce, or rotate to another one"
    )]
    OwnKey,
    /// Nobody else could change everything any more.
    #[error("{key} is the last owner of the database: nobody could change its rights any more")]
    LastOwner {
        /// The owner.
        key: PublicKey,
    },
    /// The settings let no keys of that database in.
    #[error("database {0} is not delegated to")]
    NoDelegation(Id),
    /// An entry that cannot be adopted.
    #[error(
        "entry {0} cannot be adopted: it counts, writes settings, or is void for another reason than a revocation"
    )]
    NotAdoptable(Id),
    /// The grant or setting asks for more than can be given.
    #[error("{permission} cannot be given here")]
    NotGrantable {
        /// What was to be given.
        permission: Permission,
    },
    /// A named limit of this crate.
    #[error("more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// Bytes from a peer that are no pack, or a pack that is none of this database.
    #[error("a bad pack: {0}")]
    Pack(String),
    /// The entry would be none, because of its size or another limit.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The settings would be none.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Stored data is damaged.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(EngineError),
    /// The entry log refused.
    #[error(transparent)]
    Log(LogError),
    /// Another process took an import for one whose process is gone, and took it away: see
    /// [`Databases::tend_imports`](crate::Databases::tend_imports).
    #[error(
        "the import was not heard of for a while, and another process took it away: begin it again"
    )]
    Abandoned,
    /// Other processes were faster, again and again.
    #[error("other processes wrote to the database first, each time")]
    Overtaken,
    /// An earlier failure stopped this database; open it again.
    #[error("the database stopped after a failure: {0}")]
    Stopped(String),
}

fn why_missing(held: bool) -> &'static str {
    match held {
        true => "have not come yet",
        false => "were left out",
    }
}

/// Who has to act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer that sent the bytes.
    Peer,
    /// The caller.
    Caller,
    /// Nobody: stored data is damaged and has to be fetched again.
    Corrupt,
    /// Nobody: a disk, a lock, another process; try again later.
    Unavailable,
}

impl Error {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Pack(_) => Blame::Peer,
            Self::Corrupt(_) => Blame::Corrupt,
            Self::Engine(error) => match error.blame() {
                eidetica_storage::Blame::Caller => Blame::Caller,
                eidetica_storage::Blame::Corrupt => Blame::Corrupt,
                eidetica_storage::Blame::Unavailable => Blame::Unavailable,
            },
            Self::Stopped(_)
            | Self::Abandoned
            | Self::Overtaken
            | Self::Repairing(_)
            | Self::Full { .. }
            | Self::Incomplete { held: true, .. } => Blame::Unavailable,
            _ => Blame::Caller,
        }
    }

    /// Whether running the same transaction again may succeed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. }) || self.is_lost_race()
    }

    /// Whether another process has written to the same rows first.
    pub(crate) fn is_lost_race(&self) -> bool {
        match self {
            Self::Engine(error) | Self::Log(LogError::Engine(error)) => {
                matches!(error, EngineError::PreconditionFailed { .. })
            }
            Self::Overtaken => true,
            _ => false,
        }
    }

    /// Whether it says something about what was found, and not that something could not be read or written, or that it is
    /// to be tried again.
    pub(crate) fn is_finding(&self) -> bool {
        match self {
            Self::Engine(error) | Self::Log(LogError::Engine(error)) => {
                error.blame() == eidetica_storage::Blame::Corrupt
            }
            _ => !self.is_conflict(),
        }
    }

    /// Whether the database to be made is here, as another process may have seen to.
    pub(crate) fn exists(&self) -> bool {
        matches!(self, Self::Log(LogError::Exists(_)))
    }
}

impl Error {
    pub(crate) fn wrong_kind(store: &StoreName, expected: StoreKind, found: StoreKind) -> Self {
        Self::WrongKind {
            store: store.clone(),
            expected: kind_name(expected),
            found: kind_name(found),
        }
    }

    pub(crate) fn edit(store: &StoreName, error: EditError<EngineError>) -> Self {
        match error {
            EditError::State(error) => error.into(),
            error => Self::Edit {
                store: store.clone(),
                error: Box::new(error),
            },
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Corrupt { detail } => Self::Corrupt(detail.to_string()),
            error => Self::Engine(error),
        }
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Engine(error) => error.into(),
            LogError::Missing(id) => Self::NoEntry(id),
            LogError::Gone(id) => Self::NoDatabase(id),
            LogError::Repairing(id) => Self::Repairing(id),
            error if error.blame() == eidetica_storage::Blame::Corrupt => {
                Self::Corrupt(error.to_string())
            }
            error => Self::Log(error),
        }
    }
}

impl From<StateError<EngineError>> for Error {
    fn from(error: StateError<EngineError>) -> Self {
        match error {
            StateError::Rows(error) => error.into(),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

/// Why an entry can never be part of a database. A pure function of the entry and its past.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// It belongs to another database.
    #[error("the entry belongs to another database")]
    Foreign,
    /// The signature is not its author's.
    #[error("the signature does not hold")]
    Signature,
    /// The height does not follow from the parents.
    #[error("the height does not follow from the parents")]
    Height,
    /// The settings do not follow from the parents.
    #[error("the settings do not follow from the parents")]
    Settings,
    /// It builds on an entry that is rejected.
    #[error("it builds on the rejected entry {0}")]
    Parent(Id),
    /// The authority rules do not allow it.
    #[error(transparent)]
    Authority(#[from] eidetica_auth::Reject),
}
