//! What a live stream carries. `docs/formats/protocol.md` has it field by field.

use bytes::Bytes;
use eidetica_auth::RequestId;
use eidetica_entry::Id;
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::{
    Stores, TipList, limits,
    message::{MessageError, check_claims, check_count},
};

/// How a live stream begins: which databases it is about, by a name that the acceptor may remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveOpen {
    /// [`set_hash`](super::set_hash) of the databases.
    pub set: [u8; 32],
    /// How many they are.
    pub count: u32,
}

impl LiveOpen {
    /// Whether a request's first frame opens a live stream. Cheap for frames that do not.
    pub fn in_request(frame: &Bytes) -> Option<Self> {
        const LONGEST: usize = 64;
        if frame.len() > LONGEST {
            return None;
        }
        match crate::Frame::decode(frame) {
            Ok(crate::Frame::Request(crate::Request::Live(open))) => Some(open),
            _ => None,
        }
    }
}

/// A frame of a live stream other than a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LiveMessage {
    /// From the acceptor: it does not remember the set. Answered by [`Self::Subscribe`] with all of it.
    Unknown,
    /// From the dialler: news of these as well. Answered by [`Self::Digest`].
    Subscribe {
        /// Ascending, at most [`limits::LIVE_DATABASES`].
        databases: Vec<Id>,
    },
    /// From the dialler: no more of these.
    Unsubscribe {
        /// Ascending, at most [`limits::LIVE_DATABASES`].
        databases: Vec<Id>,
    },
    /// From the acceptor: its device claims, once the dialler has shown that it may read something here.
    Claims {
        /// As in [`Reply::Behind`](crate::Reply::Behind).
        claims: Vec<Bytes>,
    },
    /// From the dialler: is all as it should be? Answered by [`Self::Digest`].
    Check,
    /// From the acceptor: the digest of all that is subscribed to, in the order of ids.
    Digest {
        /// See [`Digest::of_all`].
        all: Digest,
    },
    /// From the dialler: the digest is another here. Answered by [`Self::State`].
    Detail,
    /// From the acceptor: the digest of each database, in the order of ids; none where it is not here for the dialler.
    State {
        /// At most [`limits::LIVE_DATABASES`].
        digests: Vec<Digest>,
    },
    /// The sender's tips.
    Have {
        /// The database.
        database: Id,
        /// The tips.
        tips: TipList,
        /// Whether what leads up to them is too much for the stream: it is to be had by a sync.
        large: bool,
    },
    /// What leads up to the sender's tips, which were committed there or asked for. Packs follow.
    Entries {
        /// The database.
        database: Id,
        /// The tips.
        tips: TipList,
        /// How many packs, 1 to [`limits::LIVE_PACKS`].
        packs: u32,
    },
    /// What leads up to tips that the receiver told is wanted. Answered by [`Self::Entries`] or [`Self::Have`].
    Want {
        /// The database.
        database: Id,
        /// What the sender has: its tips, at most [`limits::COMMON`].
        not: Vec<Id>,
    },
    /// From the acceptor: entries did not fit in; a sync is needed.
    Compare {
        /// The database.
        database: Id,
    },
    /// From the acceptor: a bootstrap request of this device was decided. How, its status tells.
    Decided {
        /// The request.
        request: RequestId,
    },
    /// What the sender holds of the payloads, from version 3 on. Until it is said, it holds all and lacks none.
    Holds {
        /// The database.
        database: Id,
        /// The stores whose payloads it holds. What it is sent has no others.
        stores: Stores,
        /// Whether it lacks some of those.
        lacks: bool,
    },
}

impl LiveMessage {
    /// Whether the acceptor answers it with a digest or more.
    pub(crate) fn is_question(&self) -> bool {
        matches!(self, Self::Subscribe { .. } | Self::Check | Self::Detail)
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Subscribe { databases } | Self::Unsubscribe { databases } => {
                check_count("databases", databases.len(), limits::LIVE_DATABASES)?;
                match databases.is_sorted_by(|a, b| a < b) {
                    true => Ok(()),
                    false => Err(MessageError::NotCanonical),
                }
            }
            Self::State { digests } => {
                check_count("digests", digests.len(), limits::LIVE_DATABASES)
            }
            Self::Claims { claims } => check_claims(claims),
            Self::Have { tips, .. } => tips.check(),
            Self::Entries { tips, packs, .. } => {
                check_count("packs", *packs as usize, limits::LIVE_PACKS)?;
                tips.check()
            }
            Self::Holds { stores, .. } => stores.check(),
            Self::Want { not, .. } => check_count("ids", not.len(), limits::COMMON),
            Self::Unknown
            | Self::Check
            | Self::Digest { .. }
            | Self::Detail
            | Self::Compare { .. }
            | Self::Decided { .. } => Ok(()),
        }
    }
}
