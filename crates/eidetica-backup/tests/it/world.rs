//! Engines with rows in them, and backups of these.

use std::sync::Arc;

use eidetica_backup::{BackupError, Options, Restored, digest};
use eidetica_storage::log::{CacheSize, EntryLog};
use eidetica_storage::{Batch, Direction, Durability, Engine, MemoryEngine, Space};
use eidetica_testkit::Rng;

pub(crate) const ID: [u8; 16] = *b"sixteen bytes ID";
pub(crate) const CREATED_MS: u64 = 1_795_302_725_999;

/// An engine that an instance was opened on, without rows besides.
pub(crate) fn opened() -> MemoryEngine {
    let engine = Arc::new(MemoryEngine::new());
    drop(EntryLog::open(engine.clone(), CacheSize::default()).unwrap());
    Arc::into_inner(engine).unwrap()
}

/// The same with these rows.
pub(crate) fn engine_with(
    rows: impl IntoIterator<Item = (Space, Vec<u8>, Vec<u8>)>,
) -> MemoryEngine {
    let engine = opened();
    let mut batch = Batch::new();
    for (space, key, value) in rows {
        batch.put(space, &key, &value);
    }
    engine.write(&batch, Durability::Durable).unwrap();
    engine
}

/// The same with rows of so many bytes, of which half compress.
pub(crate) fn engine_of(bytes: usize) -> MemoryEngine {
    let mut rng = Rng::new(bytes as u64);
    let mut rows = Vec::new();
    for n in 0..bytes / 100_000 + 1 {
        let space = *rng.pick(&Space::ALL);
        let value = match n % 2 {
            0 => rng.bytes(100_000),
            _ => vec![n as u8; 100_000],
        };
        rows.push((space, format!("row {n:06}").into_bytes(), value));
    }
    engine_with(rows)
}

pub(crate) fn backup(engine: &dyn Engine) -> Vec<u8> {
    let mut stream = Vec::new();
    let report = eidetica_backup::write(engine, ID, CREATED_MS, &mut stream, &mut |_| {}).unwrap();
    assert_eq!(report.stream_bytes, stream.len() as u64);
    stream
}

pub(crate) fn restore(stream: &[u8], engine: &dyn Engine) -> Result<Restored, BackupError> {
    restore_with(stream, engine, Options::new())
}

pub(crate) fn restore_with(
    mut stream: &[u8],
    engine: &dyn Engine,
    options: Options,
) -> Result<Restored, BackupError> {
    eidetica_backup::restore(&mut stream, engine, options, &mut |_| {})
}

/// Whether the engines have the same rows.
pub(crate) fn same(a: &dyn Engine, b: &dyn Engine) -> bool {
    let of = |engine: &dyn Engine| digest(&*engine.snapshot().unwrap()).unwrap().digest;
    of(a) == of(b)
}

/// Whether there is no row, not even that of an unfinished copy.
pub(crate) fn is_empty(engine: &dyn Engine) -> bool {
    let snapshot = engine.snapshot().unwrap();
    Space::ALL.into_iter().all(|space| {
        let (range, limit) = Default::default();
        let page = snapshot.scan(space, &range, Direction::Forward, limit);
        page.unwrap().rows.is_empty()
    })
}
