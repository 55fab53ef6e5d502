//! What can go wrong.

use eidetica_auth::RequestId;
use eidetica_entry::PublicKey;
use eidetica_protocol::{Blame, Failure};

/// Why a command failed. Reads as a fragment after "cannot sync: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No such peer.
    #[error("no peer {0} is registered")]
    UnknownPeer(PublicKey),
    /// A peer without an address.
    #[error("the peer {0} has no address")]
    NoAddress(PublicKey),
    /// A peer that the user blocked.
    #[error("the peer {0} is blocked")]
    Blocked(PublicKey),
    /// No address of the peer led to it.
    #[error("the peer cannot be reached: {0}")]
    Connect(#[from] ConnectError),
    /// A session failed.
    #[error("{0}")]
    Session(#[from] Failure),
    /// No such bootstrap request, or it has ended.
    #[error("no bootstrap request {0}")]
    UnknownRequest(RequestId),
    /// The request was decided otherwise before.
    #[error("the bootstrap request {0} is already decided")]
    Decided(RequestId),
    /// The grant could not be committed.
    #[error("the grant was not made: {0}")]
    Grant(String),
    /// No such invite was issued here.
    #[error("no invite {0}")]
    UnknownInvite(PublicKey),
    /// An invite that would hold for longer than so many milliseconds.
    #[error("an invite holds for {} days at most", .0 / (24 * 3600 * 1000))]
    LongInvite(u64),
    /// A limit of [`limits`](crate::limits).
    #[error("too many {what}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The display name of a peer is too long or has control characters.
    #[error("a name that may not be shown")]
    Name,
    /// The command's deadline passed. The work goes on.
    #[error("no result before the deadline")]
    TimedOut,
    /// The engine stopped.
    #[error("the sync engine has stopped")]
    Stopped,
}

impl EngineError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Session(failure) => failure.blame(),
            Self::Connect(ConnectError {
                peer_fault: true, ..
            }) => Blame::Peer,
            Self::Connect(_) | Self::TimedOut | Self::Stopped | Self::Grant(_) => {
                Blame::Unavailable
            }
            _ => Blame::Caller,
        }
    }
}

/// Why a dial or its handshake failed, as the driver tells it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConnectError {
    /// What happened.
    pub text: String,
    /// Whether the one who answered did not prove what it must: a wrong key, a bad signature.
    pub peer_fault: bool,
}

/// Why records are not taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A record that does not decode: corrupt storage.
    #[error("the sync record {key:?} does not decode")]
    Corrupt {
        /// The record's key.
        key: String,
    },
    /// A record written by a newer version.
    #[error("the sync record {key:?} has format {found}, this version knows {known}")]
    Newer {
        /// The record's key.
        key: String,
        /// Its format.
        found: u8,
        /// The format of this version.
        known: u8,
    },
}
