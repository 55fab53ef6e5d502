//! The memory engine, bare and behind the test engines, keeps the contract.

use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, KeyRange, MemoryEngine, Space};
use eidetica_testkit::{Fault, FaultyEngine, RecordingEngine};

mod bare {
    use super::*;
    fn open() -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(MemoryEngine::new()))
    }
    eidetica_testkit::engine_contract!(open);
}

mod faultless {
    use super::*;
    fn open() -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(FaultyEngine::new()))
    }
    eidetica_testkit::engine_contract!(open);
}

mod recorded {
    use super::*;
    fn open() -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(RecordingEngine::new(
            Arc::new(MemoryEngine::new()),
        )))
    }
    eidetica_testkit::engine_contract!(open);
}

fn put(key: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(Space::State, key, key);
    batch
}

fn has(engine: &dyn Engine, key: &[u8]) -> bool {
    engine
        .snapshot()
        .unwrap()
        .get(Space::State, key)
        .unwrap()
        .is_some()
}

#[test]
fn a_fork_goes_its_own_way() {
    let engine = MemoryEngine::new();
    engine.write(&put(b"both"), Durability::Durable).unwrap();
    let fork = engine.fork().unwrap();
    engine.write(&put(b"engine"), Durability::Durable).unwrap();
    fork.write(&put(b"fork"), Durability::Durable).unwrap();
    assert!(has(&engine, b"both") && has(&fork, b"both"));
    assert!(has(&engine, b"engine") && !has(&engine, b"fork"));
    assert!(has(&fork, b"fork") && !has(&fork, b"engine"));
}

#[test]
fn a_fault_poisons_and_a_crash_loses_a_suffix() {
    for (fault, survives) in [(Fault::Before, false), (Fault::After, true)] {
        let engine = FaultyEngine::fail_at(2, fault);
        engine.write(&put(b"0"), Durability::Durable).unwrap();
        engine.write(&put(b"1"), Durability::Relaxed).unwrap();
        let failed = engine.write(&put(b"2"), Durability::Durable);
        assert!(matches!(failed, Err(EngineError::Io { .. })));
        assert!(matches!(engine.flush(), Err(EngineError::Poisoned { .. })));
        assert!(matches!(
            engine.snapshot().map(drop),
            Err(EngineError::Poisoned { .. })
        ));

        let disk = engine.crash(0);
        assert!(has(&disk, b"0"));
        assert_eq!(
            has(&disk, b"1"),
            survives,
            "a durable batch takes the earlier ones along"
        );
        assert_eq!(has(&disk, b"2"), survives);
        assert!(has(&engine.crash(1), b"1"));
    }
}

#[test]
fn a_failing_read_does_not_poison() {
    let engine = FaultyEngine::fail_at(1, Fault::Read);
    let snapshot = engine.snapshot().unwrap();
    assert!(snapshot.get(Space::State, b"a").is_err());
    assert!(snapshot.get(Space::State, b"a").is_ok());
    engine.write(&put(b"a"), Durability::Durable).unwrap();
    assert_eq!((engine.reads(), engine.writes()), (3, 1));
}

#[test]
fn a_recording_counts_rows_bytes_and_reads() {
    let engine = RecordingEngine::new(Arc::new(MemoryEngine::new()));
    let mut batch = put(b"four");
    batch.delete(Space::State, b"x");
    batch.delete_range(Space::Ids, &KeyRange::all());
    batch.expect(Space::Meta, b"x", None);
    engine.write(&batch, Durability::Durable).unwrap();
    let snapshot = engine.snapshot().unwrap();
    snapshot
        .multi_get(Space::State, &[b"four", b"none"])
        .unwrap();
    let tally = engine.take();
    let state = tally.space(Space::State);
    assert_eq!(
        (tally.writes, tally.durable_writes, tally.snapshots),
        (1, 1, 1)
    );
    assert_eq!((state.puts, state.put_bytes, state.deletes), (1, 8, 1));
    assert_eq!((state.get_calls, state.gets, state.read_bytes), (1, 2, 4));
    assert_eq!(tally.space(Space::Ids).range_deletes, 1);
    assert_eq!(tally.space(Space::Meta).expects, 1);
    assert_eq!((tally.puts(), tally.reads()), (1, 2));
    assert_eq!(engine.tally(), eidetica_testkit::Tally::default());
}
