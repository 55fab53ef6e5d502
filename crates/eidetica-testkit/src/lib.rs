//! Contracts, fault injection and simulation for tests.
//!
//! Whatever implements a trait of ours passes the same suite through one macro line, so that engines
//! cannot come to disagree:
//!
//! - [`engine_contract!`] for every [`Engine`](eidetica_storage::Engine), with a random-operation
//!   model test inside;
//! - [`file_engine_contract!`] in addition for engines that keep files: private modes, locks, foreign
//!   and damaged data, kill -9.
//!
//! [`FaultyEngine`] fails at a chosen operation and forgets what was not durable, [`RecordingEngine`]
//! counts rows, bytes and reads. [`selected_engine`] says which engine the test matrix is at.
//!
//! A failed expectation panics, which is how a contract reports; nothing here belongs in a program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a contract reports"
)]

pub mod contract;
mod crash;
mod faulty;
mod files;
mod held;
mod hooked;
mod model;
mod postgres;
mod recording;
mod rng;
mod selection;
mod shared;

pub use contract::EngineSite;
pub use crash::{CRASH_DIR, CrashSite};
pub use faulty::{Fault, FaultyEngine};
pub use held::HeldEngine;
pub use hooked::{Call, HookedEngine, Interruption};
pub use postgres::{DATABASE_URL, PostgresServer};
pub use recording::{RecordingEngine, SpaceTally, Tally};
pub use rng::Rng;
pub use selection::{EngineKind, TEST_ENGINE, selected_engine};
pub use shared::SharedEngine;
