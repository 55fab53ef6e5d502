//! A restore that is stopped at any point: nobody opens what there is, and it goes on, or starts over.

use std::collections::BTreeSet;
use std::sync::Arc;

use eidetica_backup::{BackupError, Options, discard_unfinished};
use eidetica_storage::log::format::Copying;
use eidetica_storage::log::{CacheSize, EntryLog, LogError};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_testkit::{Fault, FaultyEngine};

use crate::world::{backup, engine_of, is_empty, restore, restore_with, same};

/// What an instance would say of the engine.
fn opening(engine: &MemoryEngine) -> Result<(), LogError> {
    let engine = Arc::new(engine.fork().unwrap());
    EntryLog::open(engine, CacheSize::default()).map(drop)
}

#[test]
fn a_restore_that_any_failure_interrupts_goes_on() {
    let (writes, resumed) = interrupt_everywhere(13_000_000, 0);
    assert!(writes >= 6 && resumed > writes, "{writes}, {resumed}");
}

#[test]
fn a_restore_that_is_interrupted_about_a_flush_goes_on() {
    let (writes, resumed) = interrupt_everywhere(75_000_000, 16);
    assert!(writes >= 20 && resumed > 0, "{writes}, {resumed}");
}

/// Fails at every write and flush from some on; returns how many there are, and how often a restore went on.
fn interrupt_everywhere(bytes: usize, from: u64) -> (u64, u64) {
    let original = engine_of(bytes);
    let stream = backup(&original);
    let counting = FaultyEngine::new();
    restore(&stream, &counting).unwrap();
    let writes = counting.writes();
    let mut resumed = 0;
    for at in from..writes {
        for fault in [Fault::Before, Fault::After] {
            let engine = FaultyEngine::fail_at(at, fault);
            restore(&stream, &engine).unwrap_err();
            let is_over = at == writes - 1 && fault == Fault::After;
            for keep in BTreeSet::from([0, engine.relaxed() / 2, engine.relaxed()]) {
                let disk = engine.crash(keep);
                let unfinished = Copying::read(&*disk.snapshot().unwrap()).unwrap();
                match opening(&disk) {
                    Ok(()) => assert!(is_over || is_empty(&disk), "write {at}"),
                    Err(error) => assert!(matches!(error, LogError::Unfinished), "{error}"),
                }
                assert_eq!(unfinished.is_some(), opening(&disk).is_err());
                if is_over {
                    assert!(same(&disk, &original), "write {at}");
                    continue;
                }
                let told = restore(&stream, &disk).unwrap();
                resumed += u64::from(told.resumed_at > 0);
                assert!(same(&disk, &original), "write {at}");
                opening(&disk).unwrap();
            }
        }
    }
    (writes, resumed)
}

#[test]
fn another_backup_does_not_go_on_with_it_but_may_start_over() {
    let (one, other) = (engine_of(20_000_000), engine_of(9_000_000));
    let (stream, mut another) = (backup(&one), Vec::new());
    eidetica_backup::write(&other, [0; 16], 0, &mut another, &mut |_| {}).unwrap();
    let engine = FaultyEngine::fail_at(3, Fault::Before);
    restore(&stream, &engine).unwrap_err();
    let disk = engine.crash(usize::MAX);
    let refused = restore(&another, &disk);
    assert!(matches!(refused, Err(BackupError::OtherUnfinished)));
    let mut nowhere = Vec::new();
    let half = eidetica_backup::write(&disk, [1; 16], 0, &mut nowhere, &mut |_| {});
    assert!(matches!(half, Err(BackupError::Log(LogError::Unfinished))));
    restore_with(&another, &disk, Options::new().start_over(true)).unwrap();
    assert!(same(&disk, &other));
}

#[test]
fn discarding_goes_on_where_it_was_stopped() {
    let stream = backup(&engine_of(9_000_000));
    let engine = FaultyEngine::fail_at(4, Fault::Before);
    restore(&stream, &engine).unwrap_err();
    let half = engine.crash(usize::MAX);
    for at in 0.. {
        let engine = FaultyEngine::over(&half, Some((at, Fault::Before)));
        match discard_unfinished(&engine) {
            Ok(was) => {
                assert!(was && at > 2, "{at}");
                break;
            }
            Err(_) => {
                let disk = engine.crash(usize::MAX);
                // Its parts do not count any more.
                let told = restore(&stream, &disk).unwrap();
                assert!(told.resumed_at == 0 || at == 0, "{at}");
            }
        }
    }
    assert!(!discard_unfinished(&MemoryEngine::new()).unwrap());
}

#[test]
fn an_engine_that_does_not_keep_what_it_takes_is_found_out() {
    let stream = backup(&engine_of(100));
    let forgetful = Forgetful(MemoryEngine::new());
    let error = restore(&stream, &forgetful).unwrap_err();
    assert!(matches!(error, BackupError::Differs), "{error}");
    assert!(is_empty(&forgetful.0));
}

/// Loses a row of each batch that has several.
struct Forgetful(MemoryEngine);

impl Engine for Forgetful {
    fn snapshot(
        &self,
    ) -> Result<Box<dyn eidetica_storage::Snapshot>, eidetica_storage::EngineError> {
        self.0.snapshot()
    }

    fn write(
        &self,
        batch: &eidetica_storage::Batch,
        durability: eidetica_storage::Durability,
    ) -> Result<(), eidetica_storage::EngineError> {
        use eidetica_storage::Step;
        let puts = batch
            .iter()
            .filter(|step| matches!(step, Step::Put(..)))
            .count();
        let mut kept = eidetica_storage::Batch::new();
        for (n, step) in batch.iter().enumerate() {
            match step {
                Step::Put(..) if puts > 2 && n + 1 == batch.len() => {}
                Step::Put(space, key, value) => kept.put(space, key, value),
                Step::Delete(space, key) => kept.delete(space, key),
                Step::Expect(space, key, value) => kept.expect(space, key, value),
                Step::DeleteRange(..) => unreachable!("a restore deletes no range"),
            }
        }
        self.0.write(&kept, durability)
    }

    fn flush(&self) -> Result<(), eidetica_storage::EngineError> {
        self.0.flush()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> eidetica_storage::Watch {
        self.0.watch(hint)
    }

    fn close(&self) -> Result<(), eidetica_storage::EngineError> {
        self.0.close()
    }

    fn info(&self) -> eidetica_storage::EngineInfo {
        self.0.info()
    }
}
