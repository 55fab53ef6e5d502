//! Both databases and the replica through the public surface: models, crashes, damage, proofs, formats.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails stops"
)]

mod conformance;
mod crash;
mod damage;
mod faulty;
mod limits;
mod model;
mod operations;
mod proofs;
mod replica;
mod support;
