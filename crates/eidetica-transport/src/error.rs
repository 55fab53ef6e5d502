//! What can go wrong on a transport, and who is to blame.

use crate::Address;

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// This side asked for something that cannot be done.
    Caller,
    /// The other side broke the rules.
    Peer,
    /// Nobody: the other side, or something on the way, is not there now. Trying again later may help.
    Unavailable,
}

/// Why a transport did not do what it was asked. Reads as a fragment after "cannot connect: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The transport does not speak the scheme of the address.
    #[error("no transport for {address}")]
    Unsupported {
        /// What was to be dialled.
        address: Address,
    },
    /// The text does not name a place to listen at.
    #[error("cannot listen at {bind:?}: {detail}")]
    Bind {
        /// The text given to `listen`.
        bind: String,
        /// What is wrong with it, or what the system said.
        detail: String,
    },
    /// Somebody listens there already.
    #[error("{bind} is in use")]
    InUse {
        /// The text given to `listen`.
        bind: String,
    },
    /// Nobody answers at the address.
    #[error("{address} is unreachable: {detail}")]
    Unreachable {
        /// What was dialled.
        address: Address,
        /// What the system said.
        detail: String,
    },
    /// A deadline passed.
    #[error("no {what} within {after_ms} ms")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long, in milliseconds.
        after_ms: u64,
    },
    /// The channel or listener was closed on this side.
    #[error("the channel is closed")]
    Closed,
    /// The other side went away.
    #[error("the peer went away")]
    PeerGone,
    /// A stream stopped without its end: what arrived is not all there is.
    #[error("the stream was cut off")]
    Truncated,
    /// A message fails its authentication: it was changed, reordered or made up on the way.
    #[error("a message fails its authentication")]
    Tampered,
    /// A request number was used before.
    #[error("a request was replayed")]
    Replayed,
    /// The other side does not know the channel any more: dial again.
    #[error("the peer does not know this channel any more")]
    UnknownChannel,
    /// A frame is longer than [`FRAME`](crate::limits::FRAME).
    #[error("a frame of {len} bytes is longer than {limit}")]
    FrameTooLong {
        /// Its length in bytes, or as much of it as was seen.
        len: usize,
        /// The limit in bytes.
        limit: usize,
        /// Who made it.
        by: Blame,
    },
    /// The other side has no room for another channel or request.
    #[error("the peer is busy")]
    Busy,
    /// The other side does not speak this protocol.
    #[error("the peer breaks the transport protocol: {detail}")]
    Protocol {
        /// What was wrong.
        detail: &'static str,
    },
}

impl TransportError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unsupported { .. } | Self::Bind { .. } | Self::InUse { .. } | Self::Closed => {
                Blame::Caller
            }
            Self::Tampered | Self::Replayed | Self::Protocol { .. } => Blame::Peer,
            Self::FrameTooLong { by, .. } => *by,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::PeerGone
            | Self::Truncated
            | Self::UnknownChannel
            | Self::Busy => Blame::Unavailable,
        }
    }
}
