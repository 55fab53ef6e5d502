//! Tests of databases through their public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod authority;
mod bulk;
mod closures;
mod commits;
mod contention;
mod engines;
mod exchange;
mod faults;
mod flood;
mod history;
mod hostile;
mod imports;
mod in_memory;
mod laws;
mod names;
mod others;
mod settings;
mod sparse;
mod story;
mod world;
