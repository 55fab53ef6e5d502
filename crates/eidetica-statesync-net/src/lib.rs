//! State synchronization with sockets: what drives [`eidetica_statesync`] on both sides.
//!
//! A client is a [`Driver`]: one replica, several [`Endpoint`]s to fetch from, a [`Watcher`] that hears what
//! happens. A server is a [`Server`] over a [`Served`] database. Both speak plain TCP, each message behind
//! its length, or any [`eidetica_transport::Transport`]: over HTTP that is private, and with an [`Identity`]
//! on both ends nobody is heard who has not proven an allowed key.
//!
//! ```
//! use std::{io, sync::Arc};
//!
//! use eidetica_authdb::{Any, Kind, MemoryDisk, Operation, Options, Replica};
//! use eidetica_statesync::{Config, DatabaseName, Evidence, Pin};
//! use eidetica_statesync_net::{Binding, Driver, Endpoint, Outcome, Served, Server, ServerLimits, Silent, Watcher};
//!
//! /// A real one keeps both in files.
//! struct Careless;
//!
//! impl Watcher for Careless {
//!     fn persist(&mut self, _pin: &Pin) -> io::Result<()> { Ok(()) }
//!     fn alarm(&mut self, _source: Option<usize>, _evidence: &Evidence) -> io::Result<()> { Ok(()) }
//! }
//!
//! let runtime = tokio::runtime::Runtime::new()?;
//! let name = DatabaseName::new("numbers")?;
//! let options = Options::new([7; 32]); // random bytes
//!
//! let mut database = Any::open(Arc::new(MemoryDisk::new()), options.clone())?;
//! database.update(b"one", b"1")?;
//! database.commit(None)?;
//! let served = Arc::new(Served::new(name.clone(), database, None));
//! let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
//! let address = listener.local_addr()?.to_string();
//! let server = Server::new(served, ServerLimits::default(), Silent);
//! let serving = server.clone();
//! runtime.spawn(async move { serving.listen(Binding::Tcp(listener)).await });
//!
//! let replica = Replica::open(Arc::new(MemoryDisk::new()), Kind::Any, options)?;
//! let config = Config::new(name, Operation::length);
//! let servers = vec![Endpoint::Tcp { address }];
//! let (driver, _stopper) = Driver::new(config, replica, None, servers, runtime.handle())?;
//! let (outcome, replica) = driver.run(&mut Careless)?;
//! assert!(matches!(outcome, Outcome::Complete(_)));
//! assert_eq!(replica.into_any()?.get(b"one")?.as_deref(), Some(&b"1"[..]));
//! runtime.block_on(server.stop());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
