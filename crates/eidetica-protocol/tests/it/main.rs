//! Sessions between two peers in memory: real entries and packs, virtual time, no sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod calls;
mod codec;
mod cuts;
mod handshake;
mod liars;
mod live;
mod model;
mod pair;
mod payloads;
mod sync;
