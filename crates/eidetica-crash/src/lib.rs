//! Databases that are killed, lose power, run out of disk and of memory, again and again.
//!
//! A child process works on a database and writes into a journal what it was told is safe ([`promise`]); something
//! happens to it ([`kill`], [`fault`], [`power`], [`full`]); then the data is opened and compared with the journal and with
//! what its own entries say ([`check`]). Everything acknowledged is there, nothing is there twice, everything verifies, and the
//! state is the one that follows from the entries.
//!
//! Faults are made below the engines, in the C library ([`preload`]), so that they meet the engines as they ship. Children are this
//! crate's own program, with the commands of [`child`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test program reports"
)]

pub mod check;
pub mod child;
pub mod fault;
pub mod full;
pub mod kill;
pub mod power;
pub mod preload;
pub mod promise;
pub mod record;
pub mod site;
pub mod work;
