//! Messages and their bytes. `docs/formats/protocol.md` has them field by field.
//!
//! A frame is one byte that says what it is, then the message, or the bytes of a pack as they are. Decoding is
//! total: any bytes give a message or a [`MessageError`], never more than a small multiple of them in memory, and a
//! message has one encoding only.

use std::fmt;

use bytes::Bytes;
use eidetica_auth::{InviteProof, RequestId};
use eidetica_entry::{Id, PublicKey, Stamp};
use serde::{Deserialize, Serialize};

use crate::{
    DatabaseInfo, Digest, LiveMessage, LiveOpen, Sketch, Stores, codec, limits,
    sketch::{Parts, Spans},
};

const REQUEST: u8 = 0x01;
const REPLY: u8 = 0x02;
const PACK: u8 = 0x03;
const LIVE: u8 = 0x04;
const REQUEST_FOR: u8 = 0x05;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of a request.
    Request(Request),
    /// The same from version 2 on: in what is sent for it, only payloads of these stores are wanted. Whoever gets it
    /// may say [`Reply::Holds`].
    RequestFor(Stores, Request),
    /// A frame of a response.
    Reply(Reply),
    /// A pack of entries, in either direction.
    Pack(Bytes),
    /// A message of a live stream, in either direction.
    Live(LiveMessage),
}

/// What a client asks, always the first frame of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Compare histories. Answered by [`Reply::Equal`]; by [`Reply::Behind`], packs and [`Reply::End`] when the
    /// server knows all of the client's tips; else by [`Reply::Diverged`].
    Compare {
        /// The database.
        database: Id,
        /// The client's tips; none if it does not have the database.
        tips: TipList,
        /// Ids that both had after their last sync, as a hint, at most [`limits::COMMON`].
        common: Vec<Id>,
        /// What the client has of the databases that this one delegates to.
        closures: Vec<Closure>,
    },
    /// What the server has in some spans of the history. Answered by [`Reply::Sketch`].
    Describe {
        /// The database.
        database: Id,
        /// Which, and in what detail.
        spans: Spans,
    },
    /// Packs for the server follow, and it is asked for others. Answered by packs, if any are wanted, and
    /// [`Reply::Pushed`].
    Push {
        /// The database.
        database: Id,
        /// How the ids of the entries begin that the client wants, at most [`limits::WANTS`].
        wants: Vec<IdPrefix>,
        /// What the client has of the databases that this one delegates to, if it wants entries.
        closures: Vec<Closure>,
    },
    /// Which databases the client may read. Answered by [`Reply::Databases`].
    Discover,
    /// A bootstrap request, as the canonical bytes that its key signed. Answered by [`Reply::Bootstrap`].
    Bootstrap {
        /// See `eidetica_auth::SignedRequest`.
        request: Bytes,
    },
    /// What became of a bootstrap request of a proven key. Answered by [`Reply::Bootstrap`].
    Status(RequestRef),
    /// Withdraws a bootstrap request of a proven key. Answered by [`Reply::Cancelled`], done or never there.
    Cancel(RequestRef),
    /// Compare void entries that are in no effective entry's past. Answered by packs and [`Reply::Void`].
    Void {
        /// The database.
        database: Id,
        /// Those of the client that are nobody's parents, at most [`limits::VOID_LEAVES`].
        leaves: Vec<Id>,
    },
    /// Begins a live stream, which has no end of its own. See [`Live`](crate::Live).
    Live(LiveOpen),
    /// A bootstrap request with an invite. Answered by [`Reply::Bootstrap`].
    Redeem {
        /// See `eidetica_auth::SignedRequest`.
        request: Bytes,
        /// Of this request.
        proof: InviteProof,
    },
    /// Payloads of entries, of the stores that the request is for. From version 2 on. Answered by packs of the entries
    /// that the server has one of for, with nothing else, and [`Reply::End`].
    Payloads {
        /// The database.
        database: Id,
        /// How the ids begin, at most [`limits::WANTS`].
        ids: Vec<IdPrefix>,
    },
    /// Which payloads the server lacks. From version 2 on. Answered by [`Reply::Lacking`].
    Lacking {
        /// The database.
        database: Id,
    },
}

/// How much one side has of a database that another delegates to: its headers and settings, up to these tips. Packs
/// of what is above come before the entries that are judged by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The delegated database.
    pub database: Id,
    /// At most [`limits::CLOSURE_TIPS`].
    pub tips: Vec<Id>,
}

/// Names a bootstrap request, for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRef {
    /// The database.
    pub database: Id,
    /// The key that signed the request; the peer must have proven it.
    pub key: PublicKey,
    /// The request.
    pub id: RequestId,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// The request is not answered; ends the response at any point.
    Refused(Refusal),
    /// Both have the same tips.
    Equal,
    /// The server knows all tips of the client. Packs follow, then [`Reply::End`].
    Behind {
        /// The server's tips when it compared.
        tips: TipList,
        /// The server's device claims for this database.
        claims: Vec<Bytes>,
        /// What the server has of the databases that this one delegates to.
        closures: Vec<Closure>,
    },
    /// The client has what the server lacks.
    Diverged {
        /// The server's tips.
        tips: TipList,
        /// The server's device claims for this database.
        claims: Vec<Bytes>,
        /// What the server has beyond what is common, or over all.
        sketch: Sketch,
        /// What the server has of the databases that this one delegates to.
        closures: Vec<Closure>,
    },
    /// What the server has in the spans that were asked about.
    Sketch(Parts),
    /// The last frame after packs.
    End {
        /// The tips that the packs lead up to.
        tips: TipList,
    },
    /// What became of pushed packs.
    Pushed {
        /// The server's tips afterwards.
        tips: TipList,
        /// Entries that were new.
        new: u64,
        /// Entries that were there already.
        known: u64,
        /// Entries that wait for others.
        pending: u64,
        /// Entries that were rejected.
        rejected: u64,
    },
    /// Databases.
    Databases {
        /// At most [`limits::DATABASES`].
        databases: Vec<DatabaseInfo>,
        /// Whether there are more.
        more: bool,
    },
    /// What became of a bootstrap request.
    Bootstrap(BootstrapState),
    /// The bootstrap request is gone.
    Cancelled,
    /// The last frame after packs of void entries.
    Void {
        /// Which of the client's the server does not have.
        unknown: Vec<Id>,
    },
    /// Before the answer to a comparison, if something is to be said.
    Holds {
        /// The stores whose payloads the server holds, as far as it has them.
        stores: Stores,
        /// Whether it lacks some of those.
        lacks: bool,
    },
    /// Payloads that the server lacks.
    Lacking {
        /// How the ids of the entries begin, at most [`limits::WANTS`].
        ids: Vec<IdPrefix>,
        /// Of which stores.
        stores: Stores,
    },
    /// Before [`Self::Lacking`], where the request says for which stores it is: what the server may read with. Whoever
    /// compared and found the same has not been shown it.
    Claims {
        /// As in [`Self::Behind`].
        claims: Vec<Bytes>,
    },
}

/// What became of a bootstrap request. A denial is [`Refusal::ABSENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapState {
    /// The key has the right that it asked for, or a stronger one.
    Granted,
    /// An administrator has to decide.
    Pending(RequestId),
}

/// Why a request is not answered. A number, so that the text of one peer never reaches the user of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusal(pub u16);

impl Refusal {
    /// The database is not here, or the caller may not read it: nobody can tell which.
    pub const ABSENT: Self = Self(1);
    /// The request does not decode, or a frame came that had no place.
    pub const MALFORMED: Self = Self(2);
    /// The server cannot answer now (storage, shutdown).
    pub const UNAVAILABLE: Self = Self(3);
    /// A bootstrap request whose signature, key or device is not right.
    pub const NOT_PROVEN: Self = Self(4);
    /// No common protocol version.
    pub const VERSION: Self = Self(5);
    /// Packs that do not decode or belong elsewhere.
    pub const BAD_PACK: Self = Self(6);
    /// A handshake message that does not prove what it must.
    pub const IDENTITY: Self = Self(7);
    /// To whoever holds an invite: its time is over.
    pub const INVITE_EXPIRED: Self = Self(8);
    /// To whoever holds an invite: others have used it, or this key has.
    pub const INVITE_USED: Self = Self(9);
    /// To whoever holds an invite: its issuer has taken it back.
    pub const INVITE_REVOKED: Self = Self(10);
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::ABSENT => "not found, or no access",
            Self::MALFORMED => "malformed request",
            Self::UNAVAILABLE => "temporarily unavailable",
            Self::NOT_PROVEN => "request not proven",
            Self::VERSION => "no common protocol version",
            Self::BAD_PACK => "malformed entries",
            Self::IDENTITY => "identity not proven",
            Self::INVITE_EXPIRED => "the invite has expired",
            Self::INVITE_USED => "the invite is used up",
            Self::INVITE_REVOKED => "the invite was taken back",
            Self(code) => return write!(f, "refusal {code}"),
        };
        f.write_str(text)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({}: {self})", self.0)
    }
}

/// The tips of a history, on the wire: a hash over all of them, the highest ones, and a hash over the void leaves, if
/// there are any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipList {
    hash: [u8; 32],
    tips: Vec<Stamp>,
    more: bool,
    void: Option<VoidHash>,
}

/// A hash over the void entries of a history that are nobody's parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidHash([u8; 32]);

impl VoidHash {
    /// The hash of these, in any order; none of none.
    pub fn of(leaves: &[Id]) -> Option<Self> {
        let mut leaves = leaves.to_vec();
        leaves.sort_unstable();
        leaves.dedup();
        let mut hasher = blake3::Hasher::new_derive_key("eidetica void leaves v1");
        for leaf in &leaves {
            hasher.update(leaf.as_bytes());
        }
        (!leaves.is_empty()).then(|| Self(*hasher.finalize().as_bytes()))
    }
}

impl TipList {
    /// The list of `tips`, in any order. Lists above [`limits::TIPS`] are cut to the highest.
    pub fn new(mut tips: Vec<Stamp>) -> Self {
        tips.sort_unstable_by(|a, b| b.cmp(a));
        tips.dedup();
        let mut hasher = blake3::Hasher::new_derive_key("eidetica tips v1");
        for tip in &tips {
            hasher.update(&tip.height.0.to_le_bytes());
            hasher.update(tip.id.as_bytes());
        }
        let more = tips.len() > limits::TIPS;
        tips.truncate(limits::TIPS);
        Self {
            hash: *hasher.finalize().as_bytes(),
            tips,
            more,
            void: None,
        }
    }

    /// With void leaves, in any order.
    #[must_use]
    pub fn with_void(mut self, leaves: &[Id]) -> Self {
        self.void = VoidHash::of(leaves);
        self
    }

    /// The hash of the void leaves, if there are any.
    pub fn void(&self) -> Option<VoidHash> {
        self.void
    }

    /// The tips, the highest first.
    pub fn stamps(&self) -> &[Stamp] {
        &self.tips
    }

    /// Their ids, the highest first.
    pub fn ids(&self) -> Vec<Id> {
        self.tips.iter().map(|tip| tip.id).collect()
    }

    /// The state of a database with these tips, also where the list is cut; its void leaves are no part of it.
    pub fn digest(&self) -> Digest {
        Digest::of_hash(&self.hash)
    }

    /// Whether there are tips that are not listed.
    pub fn is_cut(&self) -> bool {
        self.more
    }

    /// Whether both lists are of the same tips and void leaves, also where they are cut.
    pub fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.void == other.void
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        check_count("tips", self.tips.len(), limits::TIPS)?;
        if !self.tips.is_sorted_by(|a, b| a > b) || (self.more && self.tips.len() < limits::TIPS) {
            return Err(MessageError::NotCanonical);
        }
        if !self.more && Self::new(self.tips.clone()).hash != self.hash {
            return Err(MessageError::NotCanonical);
        }
        Ok(())
    }
}

/// The first 8 bytes of an id: enough to ask for an entry by. Who makes two ids that begin alike is asked for both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdPrefix([u8; 8]);

impl IdPrefix {
    /// Of an id.
    pub fn of(id: &Id) -> Self {
        let mut prefix = [0; 8];
        let bytes = prefix.iter_mut().zip(id.as_bytes());
        bytes.for_each(|(to, from)| *to = *from);
        Self(prefix)
    }
}

impl AsRef<[u8]> for IdPrefix {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}..", u64::from_be_bytes(self.0))
    }
}

/// Why bytes are not a message, or a message has no bytes. When decoding, the sender is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A frame with nothing in it, or of a kind that does not exist.
    #[error("a frame of unknown kind")]
    Kind,
    /// Longer than its kind may be.
    #[error("{len} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More elements than a list may have.
    #[error("{count} {what}, at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Elements given.
        count: usize,
        /// Elements allowed.
        limit: usize,
    },
    /// The bytes end early, carry an unknown tag, or claim more than they hold.
    #[error("bytes that do not decode")]
    Malformed,
    /// The bytes decode, but the encoder would have written others.
    #[error("bytes in another than the canonical form")]
    NotCanonical,
    /// A text that may not be shown: too long, or with control characters.
    #[error("a name that may not be shown")]
    Name,
}

pub(crate) fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), MessageError> {
    if count <= limit {
        Ok(())
    } else {
        Err(MessageError::TooMany { what, count, limit })
    }
}

impl Frame {
    /// The frame's bytes.
    ///
    /// # Errors
    /// A message above a limit; the caller is to blame.
    pub fn encode(&self) -> Result<Bytes, MessageError> {
        match self {
            Self::Request(request) => {
                request.check()?;
                encode_control(REQUEST, request)
            }
            Self::RequestFor(stores, request) => {
                stores.check()?;
                request.check()?;
                encode_control(REQUEST_FOR, &(stores, request))
            }
            Self::Reply(reply) => {
                reply.check()?;
                encode_control(REPLY, reply)
            }
            Self::Live(message) => {
                message.check()?;
                encode_control(LIVE, message)
            }
            Self::Pack(pack) => {
                check_frame_len(1 + pack.len())?;
                let mut out = Vec::with_capacity(1 + pack.len());
                out.push(PACK);
                out.extend_from_slice(pack);
                Ok(out.into())
            }
        }
    }

    /// The frame with these bytes. A pack is a slice of them, not a copy.
    ///
    /// # Errors
    /// Anything that [`encode`](Self::encode) would not have written; the sender is to blame.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        check_frame_len(bytes.len())?;
        let (kind, body) = bytes.split_first().ok_or(MessageError::Kind)?;
        match *kind {
            REQUEST => codec::decode(body)
                .and_then(|request: Request| request.check().map(|()| Self::Request(request))),
            REQUEST_FOR => {
                let (stores, request): (Stores, Request) = codec::decode(body)?;
                stores.check()?;
                request.check()?;
                Ok(Self::RequestFor(stores, request))
            }
            REPLY => codec::decode(body)
                .and_then(|reply: Reply| reply.check().map(|()| Self::Reply(reply))),
            PACK => Ok(Self::Pack(bytes.slice(1..))),
            LIVE => codec::decode(body)
                .and_then(|message: LiveMessage| message.check().map(|()| Self::Live(message))),
            _ => Err(MessageError::Kind),
        }
    }
}

fn check_frame_len(len: usize) -> Result<(), MessageError> {
    if len <= limits::FRAME {
        Ok(())
    } else {
        Err(MessageError::TooLong {
            len,
            limit: limits::FRAME,
        })
    }
}

fn encode_control<T: Serialize>(kind: u8, message: &T) -> Result<Bytes, MessageError> {
    let mut out = vec![kind];
    codec::encode_into(&mut out, message)?;
    Ok(out.into())
}

impl Request {
    /// The database that the request in this frame is about; none if it is about none, or no request.
    pub fn database_in(frame: &Bytes) -> Option<Id> {
        match Frame::decode(frame) {
            Ok(Frame::Request(request) | Frame::RequestFor(_, request)) => {
                crate::responder::about(&request).1
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Compare {
                tips,
                common,
                closures,
                ..
            } => {
                check_count("common ids", common.len(), limits::COMMON)?;
                check_closures(closures)?;
                tips.check()
            }
            Self::Describe { spans, .. } => spans.spans().map(drop),
            Self::Void { leaves, .. } => {
                check_count("void leaves", leaves.len(), limits::VOID_LEAVES)
            }
            Self::Push {
                wants, closures, ..
            } => {
                check_closures(closures)?;
                check_count("ids", wants.len(), limits::WANTS)
            }
            Self::Bootstrap { request } | Self::Redeem { request, .. } => check_count(
                "bytes of a request",
                request.len(),
                eidetica_auth::limits::REQUEST_BYTES,
            ),
            Self::Payloads { ids, .. } => check_count("ids", ids.len(), limits::WANTS),
            Self::Discover
            | Self::Status(_)
            | Self::Cancel(_)
            | Self::Live(_)
            | Self::Lacking { .. } => Ok(()),
        }
    }
}

impl Reply {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Behind {
                tips,
                claims,
                closures,
            } => {
                check_claims(claims)?;
                check_closures(closures)?;
                tips.check()
            }
            Self::Diverged {
                tips,
                claims,
                sketch,
                closures,
            } => {
                check_claims(claims)?;
                check_closures(closures)?;
                tips.check()?;
                sketch.check()
            }
            Self::Sketch(parts) => parts.parts().map(drop),
            Self::End { tips } | Self::Pushed { tips, .. } => tips.check(),
            Self::Void { unknown } => {
                check_count("void leaves", unknown.len(), limits::VOID_LEAVES)
            }
            Self::Databases { databases, .. } => {
                check_count("databases", databases.len(), limits::DATABASES)?;
                databases.iter().try_for_each(DatabaseInfo::check)
            }
            Self::Holds { stores, .. } => stores.check(),
            Self::Claims { claims } => check_claims(claims),
            Self::Lacking { ids, stores } => {
                stores.check()?;
                check_count("ids", ids.len(), limits::WANTS)
            }
            Self::Refused(_) | Self::Equal | Self::Bootstrap(_) | Self::Cancelled => Ok(()),
        }
    }
}

fn check_closures(closures: &[Closure]) -> Result<(), MessageError> {
    check_count("delegated databases", closures.len(), limits::CLOSURES)?;
    let most = closures.iter().map(|closure| closure.tips.len()).max();
    check_count(
        "tips of a delegated database",
        most.unwrap_or(0),
        limits::CLOSURE_TIPS,
    )
}

pub(crate) fn check_claims(claims: &[Bytes]) -> Result<(), MessageError> {
    check_count("claims", claims.len(), limits::CLAIMS)?;
    let longest = claims.iter().map(Bytes::len).max().unwrap_or(0);
    check_count(
        "bytes of a claim",
        longest,
        eidetica_auth::limits::CLAIM_BYTES,
    )
}
