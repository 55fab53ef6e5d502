//! Why a session failed, and who is to blame.

use eidetica_auth::ClaimError;
use eidetica_entry::Id;

use crate::{CloseReason, MessageError, Refusal, limits};

/// Who is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer broke the protocol.
    Peer,
    /// The caller asked for what is not possible.
    Caller,
    /// Something is not available now: the network, the peer, local storage.
    Unavailable,
}

/// Why a session did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The peer broke the protocol.
    #[error("the peer {0}")]
    Peer(#[from] PeerFault),
    /// The peer refuses. [`Refusal::ABSENT`] means that it does not have the database or does not give access.
    #[error("the peer refuses: {0}")]
    Refused(Refusal),
    /// The channel closed or the request was cut. What had arrived whole was ingested: a new sync goes on from there.
    #[error("{0}")]
    Closed(CloseReason),
    /// The peer sent nothing for so long.
    #[error("the peer sent nothing for {0} ms")]
    Idle(u64),
    /// The database is not here, and was not to be created.
    #[error("the database is not here")]
    NotHere,
    /// A local query or ingest failed.
    #[error("local storage: {0}")]
    Local(String),
    /// The driver broke the machine's contract.
    #[error("the driver {0}")]
    Driver(&'static str),
}

impl Failure {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Peer(_) => Blame::Peer,
            Self::NotHere | Self::Driver(_) => Blame::Caller,
            Self::Refused(Refusal::MALFORMED | Refusal::BAD_PACK | Refusal::NOT_PROVEN) => {
                Blame::Caller
            }
            Self::Refused(_) | Self::Closed(_) | Self::Idle(_) | Self::Local(_) => {
                Blame::Unavailable
            }
        }
    }
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// A frame that does not decode.
    #[error("sent {0}")]
    Message(#[from] MessageError),
    /// A frame that has no place here.
    #[error("sent {0} out of turn")]
    Unexpected(&'static str),
    /// The response ended too early.
    #[error("ended its response early")]
    Truncated,
    /// A claim that proves nothing.
    #[error("showed {0}")]
    Claim(#[from] ClaimError),
    /// Packs that do not decode or are of another database.
    #[error("sent a bad pack: {0}")]
    BadPack(String),
    /// Too many entries that cannot be right.
    #[error("sent {0} entries that were rejected, {limit} are tolerated", limit = limits::REJECTED)]
    TooManyRejected(u64),
    /// Entries with other payloads than those that were asked for, signed by nobody.
    #[error("sent {0} payloads that are not those of their entries")]
    WrongPayloads(u64),
    /// Packs and packs, and nothing new in them.
    #[error("sent {0} packs in a row without anything new")]
    Useless(u64),
    /// A subscription to more databases than one stream may have.
    #[error("subscribes to {0} databases, {limit} may be", limit = limits::LIVE_DATABASES)]
    TooManyDatabases(usize),
    /// Descriptions in ever smaller spans, and nothing in them.
    #[error("says in {0} replies that it has other entries, and not which")]
    Endless(u32),
    /// Tips that the peer claims and did not deliver.
    #[error("claims the tip {0} and did not deliver it")]
    TipNotDelivered(Id),
}
