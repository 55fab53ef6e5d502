//! The synchronization engine: what the guide calls BackgroundSync, as one pure machine.
//!
//! It knows peers, where they can be dialled, which databases are synced with whom, what both had in common last time,
//! who asked for access and what was asked of others. Commands of the user and news from the network go in, actions
//! and records come out. It opens nothing and stores nothing: a driver dials, runs the sessions of
//! `eidetica-protocol`, writes the records to a local database and gives them back to [`Engine::restore`].
//!
//! - [`Engine`]: the machine, with its contract.
//! - [`Input`], [`Command`], [`Action`]: its vocabulary.
//! - [`Invite`]: what it grants by itself.
//! - [`ProcessId`], [`Engine::meet`], [`merge`]: several processes that are one instance.
//! - [`PeerInfo`], [`Cursor`], [`PeerStats`], [`IncomingRequest`], [`OutgoingRequest`]: what it remembers.

mod access;
mod backoff;
mod checks;
mod commands;
mod dialling;
mod due;
mod engine;
mod error;
mod fills;
mod invites;
mod leases;
pub mod limits;
mod links;
mod live;
mod meet;
mod merge;
mod pairs;
mod peers;
mod ready;
mod record;
mod requests;
mod schedule;
mod sessions;
mod status;
mod streams;
mod vocabulary;
mod work;

pub use engine::{Engine, EngineConfig};
pub use error::{ConnectError, EngineError, RestoreError};
pub use invites::{Invite, Redeemed, Redemption};
pub use leases::{LeaseChange, ProcessId};
pub use merge::merge;
pub use peers::{Cursor, PastSync, PeerInfo, PeerStats, PeerStatus};
pub use record::Record;
pub use requests::{
    Facts, GrantOutcome, IncomingRequest, OutgoingRequest, OutgoingState, RequestState,
};
pub use schedule::Wishes;
pub use status::{PairState, Reach};
pub use vocabulary::{
    Action, Command, CommandId, Input, Job, JobResult, LinkId, Response, Selection, StreamId,
    Target, TaskId,
};
