//! The engine against honest servers and liars in virtual time, its messages byte by byte, and whole databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails stops"
)]

mod advance;
mod databases;
mod liar;
mod lies;
mod limits;
mod messages;
mod mutate;
mod restart;
mod support;
mod world;
