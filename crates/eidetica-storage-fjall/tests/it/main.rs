//! The fjall engine keeps the contract of engines and of engines that keep files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, Space};
use eidetica_storage_fjall::{FjallEngine, FjallOptions};
use tempfile::TempDir;

fn open(dir: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(FjallEngine::open(dir)?))
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

/// The same with journals that are emptied at every close, which takes 1 MiB otherwise.
mod trimmed {
    use super::*;

    fn open(dir: &Path) -> Result<Arc<dyn Engine>, EngineError> {
        let mut options = FjallOptions::default();
        options.trim_bytes = 0;
        Ok(Arc::new(FjallEngine::open_with(dir, options)?))
    }

    fn site() -> impl Fn() -> Result<Arc<dyn Engine>, EngineError> {
        let dir = dir();
        move || open(&dir.path().join("data"))
    }
    eidetica_testkit::engine_contract!(site());

    mod files {
        use super::*;

        eidetica_testkit::file_engine_contract!(open, dir());
    }

    #[test]
    fn closing_leaves_nothing_to_replay() {
        let dir = dir();
        let journals = || -> u64 {
            let files = std::fs::read_dir(dir.path().join("data"))
                .unwrap()
                .flatten();
            let journals =
                files.filter(|file| file.file_name().to_string_lossy().ends_with(".jnl"));
            journals.map(|file| file.metadata().unwrap().len()).sum()
        };
        for round in 0..3_u8 {
            let engine = open(dir.path()).unwrap();
            for key in 0..=round {
                let row = engine
                    .snapshot()
                    .unwrap()
                    .get(Space::State, &[key])
                    .unwrap();
                assert_eq!(row.is_some(), key < round);
            }
            let mut batch = Batch::new();
            batch.put(Space::State, &[round], b"row");
            engine.write(&batch, Durability::Durable).unwrap();
            assert!(journals() > 0);
            engine.close().unwrap();
            assert_eq!(journals(), 0);
        }
    }
}

mod compact;
mod damage;

/// Who keeps a hundred thousand of them would keep as many blocks else.
#[test]
fn a_short_value_that_is_looked_up_keeps_no_block_in_memory() {
    let dir = dir();
    let engine = open(dir.path()).unwrap();
    let mut batch = Batch::new();
    let keys: Vec<[u8; 4]> = (0..1_000_u32).map(u32::to_be_bytes).collect();
    for key in &keys {
        batch.put(Space::Ids, key, &[7; 17]);
    }
    engine.write(&batch, Durability::Durable).unwrap();
    // From memory tables, then from files.
    for _ in 0..2 {
        let snapshot = engine.snapshot().unwrap();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 4]>::as_slice).collect();
        let values = snapshot.multi_get(Space::Ids, &keys).unwrap();
        assert!(values.into_iter().all(|value| value.unwrap().is_unique()));
        assert!(
            snapshot
                .get(Space::Ids, keys[1])
                .unwrap()
                .unwrap()
                .is_unique()
        );
        drop(snapshot);
        engine.compact().unwrap();
    }
}
