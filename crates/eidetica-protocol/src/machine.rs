//! The vocabulary of all machines.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;
use eidetica_auth::{RequestId, SignedRequest};
use eidetica_entry::{
    Id, PublicKey, Stamp,
    reconcile::{Contrast, Detail, Span},
};
use serde::{Deserialize, Serialize};

use crate::{
    Closure, Failure, IdPrefix, IngestTotals, MessageError, ProvenKeys, Refusal, RequestRef,
    Sketch, Standing, Stores, limits,
};

/// What goes into a machine.
#[derive(Debug)]
pub enum Input {
    /// A frame of the peer's: of the response to the latest request, or of the request being answered. Only when the
    /// machine's `wants_frame` says so.
    Frame(Bytes),
    /// The peer's frames ended as they should.
    End,
    /// The answer to a query.
    Answer(QueryId, Result<Answer, Unavailable>),
    /// What became of an ingest.
    Ingested(IngestId, Result<IngestReport, IngestError>),
    /// The channel is gone, a stream was cut, or the caller gave up. Packs that arrived are still ingested, then the
    /// machine is done.
    Closed(CloseReason),
    /// The time of the last [`Output::Timeout`] has come.
    Tick,
    /// Then, which may be a while ago, frames have moved, this way or that, of which none is whole yet: what is waited for is
    /// under way. For whoever drives a machine over slow links; the transport says what too slow is.
    Moving,
}

/// What comes out of a machine. `T` is what it is all for, `E` what it shows meanwhile.
#[derive(Debug)]
pub enum Output<T, E = Progress> {
    /// Open a new request; frames to come belong to it. Only from the asking side.
    OpenRequest,
    /// Send a frame. Do not poll on before it is taken by the transport: this is the back-pressure.
    Send(Bytes),
    /// No more frames of ours: the end of the request, or of the response.
    End,
    /// Ask the database side.
    Query(QueryId, Query),
    /// Judge and apply packs, in order. One at a time; the next comes after [`Input::Ingested`].
    Ingest(IngestId, IngestBatch),
    /// Something to show.
    Event(E),
    /// Nothing more to do before the next input, or this time (ms), whichever comes first.
    Timeout(Option<u64>),
    /// The end. After it the machine only says so again: `Timeout(None)`.
    Done(Result<T, Failure>),
}

/// Names a query within one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueryId(pub(crate) u64);

/// Names an ingest within one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IngestId(pub(crate) u64);

/// A question for the database side.
#[derive(Debug, Clone)]
pub enum Query {
    /// Whether one of the keys has at least Read in the present settings. A database that is not here, or that this
    /// node does not show, is `false`. -> [`Answer::Access`]
    CanRead {
        /// The database.
        database: Id,
        /// The keys.
        keys: Vec<PublicKey>,
    },
    /// The tips, and what is here of the databases that this one delegates to; none if the database is not here.
    /// -> [`Answer::Tips`]
    Tips {
        /// The database.
        database: Id,
    },
    /// Which of these entries are in the history. -> [`Answer::Known`]
    Known {
        /// The database.
        database: Id,
        /// The ids.
        ids: Vec<Id>,
    },
    /// What is in some spans of the entries that are passed on: the effective ones and what they build on. If all of
    /// `since` are here and few entries are beyond them, those instead. -> [`Answer::Sketch`]
    Describe {
        /// The database.
        database: Id,
        /// Entries that the peer has too; none if it does not say.
        since: Vec<Id>,
        /// Which spans, ascending, and in which detail.
        spans: Vec<(Span, Detail)>,
    },
    /// How the entries here that are passed on differ from what the peer says of its own. -> [`Answer::Contrast`]
    Contrast {
        /// The database.
        database: Id,
        /// What [`Sketch::Since`] is beyond.
        common: Vec<Id>,
        /// What the peer says.
        theirs: Sketch,
        /// Entries here that are named at most.
        limit: usize,
    },
    /// Packs of the entries in the past of the tips and not in the past of `not`, parents first. The first page
    /// fixes the tips. Ids in `not` that are not held count for nothing. On further pages `not` and closures are empty:
    /// the cursor knows. -> [`Answer::Packs`]
    Difference {
        /// The database.
        database: Id,
        /// What the peer has; nothing for the whole history.
        not: Vec<Id>,
        /// What the peer has of the databases that this one delegates to. Packs of what is above that the entries are
        /// judged by come first.
        closures: Vec<Closure>,
        /// Only payloads of these are to be sent along; with further pages this is to be left as it is.
        stores: Stores,
        /// Where the page before ended; none for the first.
        cursor: Option<Cursor>,
        /// Bytes of packs at most, or one pack.
        budget_bytes: usize,
    },
    /// Packs of entries whose ids begin like these, parents first. What is not here counts for nothing. On further
    /// pages ids and closures are empty: the cursor knows. -> [`Answer::Packs`]
    Selected {
        /// The database.
        database: Id,
        /// How the ids begin.
        ids: Vec<IdPrefix>,
        /// As in [`Query::Difference`].
        closures: Vec<Closure>,
        /// As in [`Query::Difference`].
        stores: Stores,
        /// Where the page before ended; none for the first.
        cursor: Option<Cursor>,
        /// Bytes of packs at most, or one pack.
        budget_bytes: usize,
    },
    /// The stores whose payloads are held of a database, which may not be here yet. -> [`Answer::Holds`]
    Holds {
        /// The database.
        database: Id,
    },
    /// Which payloads of stores that are held are not here. -> [`Answer::Lacking`]
    Lacking {
        /// The database.
        database: Id,
        /// Of these stores alone.
        stores: Stores,
        /// Where the answer before ended; none for a place by chance.
        from: Option<u64>,
        /// Entries to name at most.
        limit: usize,
    },
    /// Packs of those of the entries whose ids begin like these that have a payload of one of the stores here, with
    /// nothing else. -> [`Answer::Packs`]
    Payloads {
        /// The database.
        database: Id,
        /// How the ids begin; empty on further pages.
        ids: Vec<IdPrefix>,
        /// Which payloads; with further pages this is to be left as it is.
        stores: Stores,
        /// Where the page before ended; none for the first.
        cursor: Option<Cursor>,
        /// Bytes of packs at most, or one pack.
        budget_bytes: usize,
    },
    /// The void leaves that are here, at most [`limits::VOID_LEAVES`] of the highest. -> [`Answer::Void`]
    Void {
        /// The database.
        database: Id,
    },
    /// Packs of what is in the past of these void leaves and in no tip's, as much as fits. Ids that are not here
    /// count for nothing. -> [`Answer::Packs`]
    VoidPacks {
        /// The database.
        database: Id,
        /// Whose past.
        of: Vec<Id>,
        /// What the peer has.
        not: Vec<Id>,
        /// As in [`Query::Difference`].
        stores: Stores,
        /// Bytes of packs at most, or one pack.
        budget_bytes: usize,
    },
    /// How each of these stands: [`TipList::digest`](crate::TipList::digest) of its tips, or [`Digest::NONE`](crate::Digest::NONE) where
    /// the database is not here or the peer, if there is one, may not read it. -> [`Answer::Digests`]
    Digests {
        /// The databases.
        databases: Vec<Id>,
        /// For whom; for this node itself if there is nobody.
        peer: Option<ProvenKeys>,
    },
    /// The databases that one of the keys may read and that this node shows. -> [`Answer::Databases`]
    Discover {
        /// The keys.
        keys: Vec<PublicKey>,
    },
    /// A bootstrap request whose signature is verified and whose device is the peer's. -> [`Answer::Bootstrap`]
    Bootstrap {
        /// The request.
        request: Box<SignedRequest>,
    },
    /// The same with an invite, whose proof is verified. -> [`Answer::Bootstrap`] or [`Answer::Refused`]
    Redeem {
        /// The request.
        request: Box<SignedRequest>,
        /// The invite.
        invite: PublicKey,
    },
    /// What became of a request; its key is proven by the peer. -> [`Answer::Bootstrap`]
    Status {
        /// The request.
        request: RequestRef,
        /// The peer's device.
        device: PublicKey,
    },
    /// Forget a request; its key is proven by the peer. -> [`Answer::Cancelled`], also where there is none.
    Cancel {
        /// The request.
        request: RequestRef,
        /// The peer's device.
        device: PublicKey,
    },
}

/// What the database side says.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Query::CanRead`].
    Access(bool),
    /// To [`Query::Tips`].
    Tips(Option<Frontier>),
    /// To [`Query::Known`], one per id.
    Known(Vec<bool>),
    /// To [`Query::Describe`].
    Sketch(Sketch),
    /// To [`Query::Contrast`]; none where too many entries are beyond what is common.
    Contrast(Option<Contrast>),
    /// To [`Query::Void`].
    Void(Vec<Id>),
    /// To [`Query::Holds`].
    Holds(Stores),
    /// To [`Query::Lacking`].
    Lacking(Lacking),
    /// To [`Query::Difference`], [`Query::Selected`], [`Query::Payloads`] and [`Query::VoidPacks`].
    Packs(PackPage),
    /// To [`Query::Digests`], one per database.
    Digests(Vec<Standing>),
    /// To [`Query::Discover`].
    Databases(Vec<DatabaseInfo>),
    /// To [`Query::Redeem`]: the invite does nothing any more.
    Refused(Refusal),
    /// To [`Query::Bootstrap`], [`Query::Redeem`] and [`Query::Status`].
    Bootstrap(BootstrapAnswer),
    /// To [`Query::Cancel`].
    Cancelled,
}

/// How far a database is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    /// Its tips.
    pub tips: Vec<Stamp>,
    /// What is here of the databases that it delegates to.
    pub closures: Vec<Closure>,
    /// Its void leaves, as [`Query::Void`] gives them.
    pub void: Vec<Id>,
    /// The stores whose payloads are held.
    pub holds: Stores,
    /// Whether some of those are not here.
    pub lacks: bool,
    /// Those, and the stores of which payloads are here although they are held no more.
    pub offers: Stores,
    /// Whether entries are damaged, which [`Query::Lacking`] names first.
    pub damaged: bool,
}

/// Payloads that are held and not here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// How the ids of the entries begin that lack one.
    pub ids: Vec<IdPrefix>,
    /// Of which stores.
    pub stores: Stores,
    /// Where to go on; none if that is all.
    pub next: Option<u64>,
}

impl From<Vec<Stamp>> for Frontier {
    /// Of a database that delegates to none, has no void entries and is whole.
    fn from(tips: Vec<Stamp>) -> Self {
        Self {
            tips,
            closures: Vec::new(),
            void: Vec::new(),
            holds: Stores::All,
            lacks: false,
            offers: Stores::All,
            damaged: false,
        }
    }
}

/// What became of a bootstrap request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootstrapAnswer {
    /// The key has what it asked for.
    Granted,
    /// An administrator has to decide.
    Pending(RequestId),
    /// Rejected, unknown, not here, or no room: nobody can tell which.
    Denied,
}

/// Packs of a difference.
#[derive(Debug, Clone)]
pub struct PackPage {
    /// Packs, parents first; empty if there is nothing to send.
    pub packs: Vec<Bytes>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<Cursor>,
    /// The tips that the whole difference leads up to.
    pub tips: Vec<Stamp>,
}

/// Where a difference goes on: the database side's own value, which the machine only hands back.
#[derive(Clone)]
pub struct Cursor(Arc<dyn Any + Send + Sync>);

impl Cursor {
    /// Wraps a cursor.
    pub fn new<T: Any + Send + Sync>(cursor: T) -> Self {
        Self(Arc::new(cursor))
    }

    /// The cursor again, if it is a `T`.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

/// A database as discovery shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    id: Id,
    name: String,
    entries: u64,
}

impl DatabaseInfo {
    /// Makes a name fit to be sent: control and direction characters become `?`, and what is above
    /// [`limits::NAME_BYTES`] is cut.
    pub fn new(id: Id, name: &str, entries: u64) -> Self {
        let mut shown = String::new();
        for c in name.chars().map(|c| if is_shown(c) { c } else { '?' }) {
            if shown.len() + c.len_utf8() > limits::NAME_BYTES {
                break;
            }
            shown.push(c);
        }
        Self {
            id,
            name: shown,
            entries,
        }
    }

    /// The database.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Its name, empty when it has none. Chosen by strangers, but without control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many entries the peer has.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        let good = self.name.len() <= limits::NAME_BYTES && self.name.chars().all(is_shown);
        if good {
            Ok(())
        } else {
            Err(MessageError::Name)
        }
    }
}

fn is_shown(c: char) -> bool {
    let directs = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !directs
}

/// Packs to judge and apply.
#[derive(Debug, Clone)]
pub struct IngestBatch {
    /// The database.
    pub database: Id,
    /// The packs, to be taken in this order.
    pub packs: Vec<Bytes>,
    /// Whether the database may be created by its root in the packs.
    pub create: bool,
}

/// What became of packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Entries that were new and sound.
    pub new: u64,
    /// Entries that were here already.
    pub known: u64,
    /// Payloads that these lacked, which are here now.
    pub filled: u64,
    /// Entries that wait for others.
    pub pending: u64,
    /// Entries that cannot be right; nothing builds on them.
    pub rejected: Vec<Id>,
}

/// Why packs were not taken at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// They do not decode, or are not of this database: the peer is to blame.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Storage failed.
    #[error("{0}")]
    Unavailable(String),
}

/// A query could not be answered: storage failed or is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Why a session is over before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The channel or the stream was cut.
    #[error("the connection was cut")]
    Cut,
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// This node shuts down.
    #[error("shutting down")]
    Shutdown,
}

/// How far a sync is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Spans of the history and ids that were not the same when they were compared.
    pub compared: u64,
    /// Entries and packs received and ingested.
    pub received: IngestTotals,
    /// Packs sent.
    pub packs_sent: u64,
    /// Bytes of frames, both ways.
    pub frame_bytes: u64,
}
