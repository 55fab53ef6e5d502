//! Entry synchronization over HTTP/1.1, private without a certificate authority.
//!
//! A channel begins with a Noise handshake of two unnamed parties (`Noise_NN`); its hash is the channel's
//! [`Binding`](eidetica_transport::Binding), which the identity handshake above signs. From then on each request is one POST whose body and response
//! are streams of encrypted chunks, both at once. Nonces are made of the request's number, the direction and the
//! chunk's number, so that whatever is changed, reordered, replayed or cut off on the way fails. The server keeps
//! a channel as soft state of one process: bounded, expiring, and dialled again when unknown.
//!
//! The bytes are described in `docs/formats/http.md`, the choice of primitives in
//! `docs/decisions/0002-noise-over-http.md`. This crate knows nothing of entries and trusts no peer; a fault of a
//! peer is an error of its own streams and of nothing else.
//!
//! Needs a tokio runtime with time and I/O.

mod body;
mod client;
mod connections;
mod crypto;
mod io;
pub mod limits;
mod noise;
mod record;
mod server;
mod session;
mod transport;
mod window;

pub use limits::HttpLimits;
pub use transport::HttpTransport;
