//! The SQLite engine keeps the contract of engines and of engines that keep files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;

use eidetica_storage::{Engine, EngineError};
use eidetica_storage_sqlite::SqliteEngine;
use tempfile::TempDir;

mod damage;

fn open(dir: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(SqliteEngine::open(dir)?))
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

mod engine {
    use super::*;

    fn site() -> impl Fn() -> Result<Arc<dyn Engine>, EngineError> {
        let dir = dir();
        move || open(&dir.path().join("data"))
    }
    eidetica_testkit::engine_contract!(site());
}

mod files {
    use super::*;

    eidetica_testkit::file_engine_contract!(open, dir());
}
