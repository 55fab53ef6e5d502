//! The PostgreSQL engine keeps the contract of engines, shared by several processes, while the server comes and goes.
//!
//! Needs a server: see `eidetica_testkit::PostgresServer`. Without one these tests fail, since they did not run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod balancer;
mod databases;
mod footprint;
mod imports;
mod processes;
mod server;
mod sharing;
mod statements;

use std::sync::Arc;

use eidetica_storage::{Engine, EngineError};
use eidetica_storage_postgres::PostgresEngine;
use eidetica_testkit::PostgresServer;

/// An engine on a schema that nothing else uses.
pub(crate) fn fresh() -> String {
    PostgresServer::shared().fresh_schema()
}

pub(crate) fn open(url: &str) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(PostgresEngine::open(url)?))
}

mod engine {
    use super::*;

    fn site() -> impl Fn() -> Result<Arc<dyn Engine>, EngineError> {
        let url = fresh();
        move || open(&url)
    }
    eidetica_testkit::engine_contract!(site());
}
