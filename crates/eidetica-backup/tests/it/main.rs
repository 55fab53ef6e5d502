//! Tests of backups through the public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bytes;
mod copies;
mod damage;
mod interrupted;
mod laws;
mod world;
