//! Laws of entries, packs and walks, through the public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bytes;
mod conformance;
mod dag;
mod names;
mod pack;
mod reconcile;
mod support;
