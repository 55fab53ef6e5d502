//! A deterministic simulation of many nodes: virtual clock, network and disks, honest peers and liars.
//!
//! It drives `eidetica-engine`, the sessions and the handshake of `eidetica-protocol` and the databases as they are;
//! what is its own is only what `eidetica-node` has tokio for. Everything comes from one seed and runs on one thread,
//! so that a seed is a test case: equal seeds have equal hashes over all their events.
//!
//! - [`Plan`]: what to simulate.
//! - [`run`]: simulates it; the [`Report`] says how it went.
//! - [`beside_stalled_peers`]: what two honest nodes say to each other while others stall.
//!
//! `cargo xtask sim` runs many, and one with its events in words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a simulation reports"
)]

mod act;
mod channel;
mod check;
mod env;
mod net;
mod node;
mod oracle;
mod plan;
mod queue;
mod rogue;
mod session;
mod stalled;
mod trace;
mod world;

pub use env::{Counts, Heard};
pub use net::NodeId;
pub use oracle::Violation;
pub use plan::{MINUTES, Plan};
pub use rogue::Behaviour;
pub use stalled::beside_stalled_peers;
pub use world::{Report, run};
