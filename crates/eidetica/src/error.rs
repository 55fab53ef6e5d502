//! The one error of this crate.

use eidetica_auth::{FormError, NameError, RequestId, SealError};
use eidetica_backup::BackupError;
use eidetica_entry::{Id, PublicKey};
use eidetica_node::NodeError;
use eidetica_storage::EngineError;
use eidetica_storage::log::LogError;
use eidetica_transport::AddressError;

use crate::{KeyId, KeyRef, user::SealedKeyError};

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Reads as a fragment: "cannot open the database: ..".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a database.
    #[error(transparent)]
    Database(#[from] eidetica_database::Error),
    /// The engine that keeps the data.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A document or a value of one.
    #[error(transparent)]
    Doc(#[from] eidetica_crdt::DocError),
    /// JSON that is no document.
    #[error(transparent)]
    Json(#[from] eidetica_crdt::JsonError),
    /// An `auth` section of another form.
    #[error(transparent)]
    Auth(#[from] FormError),
    /// A name of a key or user that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A sealed secret that is damaged. A wrong password is [`Error::Login`].
    #[error(transparent)]
    Seal(SealError),
    /// A text of another form.
    #[error("{what} has the form {form}")]
    Text {
        /// What it should be.
        what: &'static str,
        /// Its form.
        form: &'static str,
    },
    /// A location that names no backend of this build.
    #[error(
        "no backend at {location:?}: {why}; a location is file:PATH, fjall:PATH, redb:PATH, sqlite:PATH, \
         postgres://USER@HOST/DATABASE or memory:"
    )]
    Location {
        /// It, without a password that it may hold.
        location: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Backing up, restoring or migrating.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The user name or the password is wrong; which of them is not said.
    #[error("the user name or the password is wrong")]
    Login,
    /// A text that is no [`SealedKey`](crate::user::SealedKey).
    #[error(transparent)]
    SealedKey(#[from] SealedKeyError),
    /// The passphrase does not open the exported key, or the text was altered; they cannot be told
    /// apart.
    #[error("the passphrase does not open this key")]
    Passphrase,
    /// A passphrase that is too short to protect a key that travels.
    #[error("a passphrase needs {limit} characters or more", limit = crate::limits::PASSPHRASE_CHARS)]
    WeakPassphrase,
    /// Another process of the instance has changed the password: the user is to log in again.
    #[error("the password was changed: log in again")]
    PasswordChanged,
    /// As many nodes as an instance may have: see [`limits::NODES`](crate::limits::NODES).
    #[error("too many nodes, at most {limit}", limit = crate::limits::NODES)]
    TooManyNodes,
    /// There is a user of this name.
    #[error("there is a user {0:?} already")]
    UserExists(String),
    /// No such key among those that the caller may use.
    #[error("no key {0} that is at hand")]
    NoSuchKey(Box<KeyRef>),
    /// A key name that several keys have.
    #[error("the name {name:?} is that of several keys: {}", list(found))]
    AmbiguousKey {
        /// The name.
        name: String,
        /// The keys that have it.
        found: Vec<KeyId>,
    },
    /// A key name that is taken.
    #[error("there is a key {0:?} already")]
    KeyExists(String),
    /// A recovery key where a signing key is needed, or the other way round; or a default key that
    /// is to go.
    #[error("key {key} {detail}")]
    KeyRole {
        /// The key.
        key: PublicKey,
        /// What does not fit.
        detail: &'static str,
    },
    /// None of the user's keys has a right in the database.
    #[error("no key of the user has a right in database {0}")]
    NoAccess(Id),
    /// The user does not track the database.
    #[error("database {0} is not tracked by the user")]
    NotTracked(Id),
    /// The database is used by users who were not asked.
    #[error("database {database} is used by {}", users.join(", "))]
    InUse {
        /// The database.
        database: Id,
        /// Their names.
        users: Vec<String>,
    },
    /// No revocation of the key holds.
    #[error("no revocation of {0} holds")]
    NotRevoked(PublicKey),
    /// There was nothing to commit.
    #[error("nothing was changed")]
    NoChange,
    /// There is no such database on this instance.
    #[error("no database {0} on this instance")]
    NoDatabase(Id),
    /// Something that this instance keeps for itself does not read.
    #[error("the instance's own data is damaged: {0}")]
    Damaged(String),
    /// Synchronization was not enabled: see
    /// [`Instance::enable_sync`](crate::Instance::enable_sync).
    #[error("sync is not enabled")]
    SyncNotEnabled,
    /// Synchronizing.
    #[error(transparent)]
    Sync(Box<NodeError>),
    /// A text that is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No such peer is registered.
    #[error("no peer {0} is registered")]
    NoSuchPeer(Box<KeyRef>),
    /// A request for access waits for an administrator of the database.
    #[error("the request {request_id} for access waits for an administrator")]
    BootstrapPending {
        /// The request; ask again with it.
        request_id: RequestId,
    },
    /// A request for access was refused, or there is no such database: nobody can tell which.
    #[error("no access to database {0}")]
    AccessDenied(Id),
    /// The invite of a ticket does nothing any more.
    #[error("the invite does nothing any more: {0}")]
    InviteEnded(crate::sync::InviteEnd),
    /// An invite for more than the key that is to grant it may grant.
    #[error("the key has no right to grant {0}")]
    InviteRight(eidetica_auth::Permission),
    /// A text that is no ticket.
    #[error(transparent)]
    Ticket(Box<eidetica_ticket::TicketError>),
    /// A request for access or a claim could not be made.
    #[error("{0}")]
    Request(String),
    /// The instance was closed.
    #[error("the instance is closed")]
    Closed,
}

/// Who has to act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The peer.
    Peer,
    /// The caller.
    Caller,
    /// Nobody: stored data is damaged.
    Corrupt,
    /// Nobody: a disk, a lock, a network; try again later.
    Unavailable,
}

impl Error {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Database(error) => match error.blame() {
                eidetica_database::Blame::Peer => Blame::Peer,
                eidetica_database::Blame::Caller => Blame::Caller,
                eidetica_database::Blame::Corrupt => Blame::Corrupt,
                eidetica_database::Blame::Unavailable => Blame::Unavailable,
            },
            Self::Engine(error) => blame_of_storage(error.blame()),
            Self::Backup(error) => blame_of_storage(error.blame()),
            Self::Damaged(_) | Self::Seal(_) => Blame::Corrupt,
            Self::Sync(error) => blame_of_sync(error),
            Self::Closed | Self::BootstrapPending { .. } => Blame::Unavailable,
            _ => Blame::Caller,
        }
    }

    /// Whether the place holds a part of a restore or migration that was not finished: restore to it again.
    pub fn is_unfinished_restore(&self) -> bool {
        matches!(
            self,
            Self::Database(eidetica_database::Error::Log(LogError::Unfinished))
                | Self::Backup(
                    BackupError::Log(LogError::Unfinished) | BackupError::OtherUnfinished
                )
        )
    }

    /// Whether running the same transaction again may succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Refused => Self::Login,
            other => Self::Seal(other),
        }
    }
}

impl From<eidetica_auth::RequestError> for Error {
    fn from(error: eidetica_auth::RequestError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<eidetica_auth::ClaimError> for Error {
    fn from(error: eidetica_auth::ClaimError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        Self::Sync(Box::new(error))
    }
}

fn blame_of_storage(blame: eidetica_storage::Blame) -> Blame {
    match blame {
        eidetica_storage::Blame::Caller => Blame::Caller,
        eidetica_storage::Blame::Corrupt => Blame::Corrupt,
        eidetica_storage::Blame::Unavailable => Blame::Unavailable,
    }
}

fn blame_of_sync(error: &NodeError) -> Blame {
    match error {
        NodeError::Engine(error) => match error.blame() {
            eidetica_protocol::Blame::Peer => Blame::Peer,
            eidetica_protocol::Blame::Caller => Blame::Caller,
            _ => Blame::Unavailable,
        },
        NodeError::NoTransport(_) | NodeError::ServerRunning | NodeError::ServerNotRunning => {
            Blame::Caller
        }
        NodeError::Restore(_) => Blame::Corrupt,
        _ => Blame::Unavailable,
    }
}

fn list(keys: &[KeyId]) -> String {
    keys.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
