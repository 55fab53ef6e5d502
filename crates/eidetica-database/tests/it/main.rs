//! Tests of databases through their public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod attacks;
mod authority;
mod closures;
mod commits;
mod costs;
mod damage;
mod engines;
mod exchange;
mod flood;
mod history;
mod hostile;
mod imports;
mod laws;
mod others;
mod settings;
mod story;
mod world;
