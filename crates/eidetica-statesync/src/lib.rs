//! Verified state synchronization, without any I/O.
//!
//! A client wants the log of an authenticated database as it stands at a *target*: a root, a size, and the first
//! operation that still counts. Anybody may serve it; nobody but the target is believed. This crate decides what
//! is asked of whom, checks every reply before anything is appended, follows targets as they advance, and tells
//! when a log was forked. It opens no socket, reads no clock and draws no random number; operations are opaque bytes
//! to it.
//!
//! - [`Engine`]: the asking side, a machine; see there for the contract and a whole driver.
//! - [`respond`]: the answering side, a function over [`Serve`].
//! - [`message`]: what goes over the wire.
//! - [`Claim`]: a target with its signature, also as a pin and as evidence.

pub mod limits;
pub mod message;

mod claims;
mod engine;
mod error;
mod fetch;
mod serve;
mod sources;
mod target;
mod vocabulary;

pub use engine::Engine;
pub use error::{ClaimError, ConfigError, Fault, MessageError, NameError, TargetError};
pub use message::{Refusal, RequestId};
pub use serve::{Response, Serve, Shown, refuse, respond};
pub use target::{Claim, Conflict, DatabaseName, Evidence, Pin, Signature, Target, signed_bytes};
pub use vocabulary::{
    CheckSignature, Config, Counters, Dropped, Feedback, Gap, Input, Local, Operations, Output,
    Progress, Restart, SourceId, Split, Trust,
};
