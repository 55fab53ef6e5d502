//! The engine through its vocabulary, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bench;
mod invites;
mod leases;
mod live;
mod many;
mod merge;
mod peers;
mod random;
mod requests;
mod restart;
mod work;
