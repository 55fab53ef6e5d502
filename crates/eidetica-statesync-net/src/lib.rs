//! State synchronization with sockets: what drives [`eidetica_statesync`] on both sides.
//!
//! A client is a [`Driver`]: one replica, several [`Endpoint`]s to fetch from, a [`Watcher`] that hears what
//! happens. A server is a [`Server`] over a [`Served`] database. Both speak plain TCP, each message behind
//! its length, or any [`eidetica_transport::Transport`]: over HTTP that is private, and with an [`Identity`]
//! on both ends nobody is heard who has not proven an allowed key.
//!
//! Every queue, wait, message and connection is bounded by [`limits`]; peers and addresses have token buckets.
//!
//! Needs a tokio runtime with time and I/O. This crate makes no decision about data: what is checked, fetched or
//! believed is said in the engine.

mod desk;
mod driver;
mod endpoint;
mod framed;
mod identity;
pub mod limits;
mod places;
mod rates;
mod served;
mod server;
mod source;

pub use desk::{Answered, Silent, Witness};
pub use driver::{Driver, DriverError, Outcome, SourceNews, Stopper, Watcher};
pub use endpoint::{DialError, Endpoint};
pub use identity::{Identity, IdentityError};
pub use limits::ServerLimits;
pub use served::{Authdb, Served, signed_by};
pub use server::{Binding, ServeError, Server};
pub use source::Closed;
