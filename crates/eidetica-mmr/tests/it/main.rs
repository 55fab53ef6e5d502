//! The range against a naive oracle: structure, proofs, bytes, and golden roots.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails stops"
)]

mod conformance;
mod encoding;
mod oracle;
mod proofs;
mod structure;
