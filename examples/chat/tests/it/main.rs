//! Chats as people use them: real processes on terminals of their own, which type and look at screens.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod command_line;
mod rooms;
mod screen;
