//! Tests of databases through their public surface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod commits;
mod exchange;
mod world;
