//! Both programs as a user starts them: real processes, free ports, directories of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod failures;
mod front;
mod hostile;
mod metrics;
mod options;
mod production;
mod program;
mod resuming;
mod session;
mod terminal;
mod workload;
