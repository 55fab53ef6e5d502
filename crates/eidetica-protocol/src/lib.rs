//! Sessions of entry synchronization, without any I/O.
//!
//! Two peers hold parts of the same signed history and want the union of it on both sides. This crate decides
//! what they say to each other; it opens no socket, reads no clock, draws no random number and touches no
//! storage. Time and randomness are arguments, storage is asked by [`Query`] and filled by
//! [`Output::Ingest`], and a pack of entries is opaque bytes.
//!
//! - [`handshake`]: proves device keys over a channel binding and agrees on a version.
//! - [`ProvenKeys`]: what a peer may read with, the device key and the keys that made a claim for it.
//! - [`SyncClient`]: brings one database up to date in both directions.
//! - [`Call`]: asks one short question (discovery, bootstrap, its status).
//! - [`Responder`]: answers one request, whatever it is, but for a live stream.
//! - [`Live`]: keeps two peers up to date of each other's databases, both ends.
//!
//! The unit of exchange is a *request*: a stream of frames one way and a stream of frames back, on a channel that
//! a transport keeps secret and authentic. Nothing is kept between requests on the answering side.
//!
//! The machines have one vocabulary: [`Input`] goes in through `handle_input`, [`Output`] comes out of
//! `poll_output` until it is [`Output::Timeout`], which says that nothing more is to be done before the next input
//! or that time. See [`SyncClient`] for the contract.

mod call;
mod claims;
mod client;
mod codec;
mod differ;
mod error;
pub mod handshake;
pub mod limits;
mod live;
mod machine;
mod message;
mod receive;
mod responder;
mod send;
mod sketch;
mod stores;

pub use call::{Call, CallReply};
pub use claims::ProvenKeys;
pub use client::{Outcome, PushOutcome, Relation, SyncClient, SyncConfig};
pub use error::{Blame, Failure, PeerFault};
pub use handshake::PeerIdentity;
pub use live::{
    Digest, Event as LiveEvent, Live, LiveConfig, LiveMessage, LiveOpen, Notice, Standing, set_hash,
};
pub use machine::{
    Answer, BootstrapAnswer, CloseReason, Cursor, DatabaseInfo, Frontier, IngestBatch, IngestError,
    IngestId, IngestReport, Input, Lacking, Output, PackPage, Progress, Query, QueryId,
    Unavailable,
};
pub use message::{
    BootstrapState, Closure, Frame, IdPrefix, MessageError, Refusal, Reply, Request, RequestRef,
    TipList, VoidHash,
};
pub use receive::IngestTotals;
pub use responder::{RequestKind, Responder, ResponderConfig, Served};
pub use sketch::{Parts, Sketch, Spans};
pub use stores::{Holding, Stores};
