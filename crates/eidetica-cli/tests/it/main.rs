//! The program `eidetica` as a person or a script sees it: what it prints, its exit codes, what it leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod authority;
mod care;
mod crash;
mod demo;
mod documents;
mod escapes;
mod home;
mod hostile;
mod import;
mod operations;
mod places;
mod readme;
mod scripts;
mod sharing;
mod status;
mod tables;
mod tickets;
mod users;
