//! Behaviour of the crate through its public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    missing_docs
)]

mod audits;
mod concurrent;
mod conformance;
mod cost;
mod drafts;
mod laws;
mod line;
mod oracle;
mod payloads;
mod rng;
mod superseded;
mod values;
