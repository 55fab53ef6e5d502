//! Nodes that talk to each other, through their handles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod cuts;
mod executors;
mod hostile;
mod lifecycle;
mod live;
mod proxy;
mod records;
mod slow;
mod sync;
mod world;
