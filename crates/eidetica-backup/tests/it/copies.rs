//! From one engine straight into another.

use eidetica_backup::{BackupError, CopyOptions, copy};
use eidetica_storage::log::LogError;
use eidetica_storage::{Batch, Durability, Engine, MemoryEngine, Space};
use eidetica_testkit::{Fault, FaultyEngine};

use crate::world::{ID, engine_of, opened, same};

const AGAIN: CopyOptions = CopyOptions {
    start_over: true,
    leave_out_damaged: false,
};

#[test]
fn a_copy_has_the_same_rows_and_the_source_is_untouched() {
    let from = engine_of(9_000_000);
    let before = from.fork().unwrap();
    let to = MemoryEngine::new();
    let mut told = 0;
    let copied = copy(&from, &to, ID, CopyOptions::default(), &mut |_| told += 1).unwrap();
    assert!(same(&from, &to) && same(&from, &before));
    assert_eq!((copied.report.totals.frames, told), (3, 3));
    assert!(!copied.source_moved);
    let again = copy(&from, &to, ID, AGAIN, &mut |_| {});
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })));
}

#[test]
fn writes_to_the_source_meanwhile_are_noticed_and_not_copied() {
    let from = engine_of(9_000_000);
    let before = from.fork().unwrap();
    let to = MemoryEngine::new();
    let mut write = |_: &_| {
        let mut batch = Batch::new();
        batch.put(Space::Meta, b"Lv0000", b"a version");
        from.write(&batch, Durability::Durable).unwrap();
    };
    let copied = copy(&from, &to, ID, CopyOptions::default(), &mut write).unwrap();
    assert!(copied.source_moved);
    assert!(same(&to, &before));
}

#[test]
fn a_copy_that_was_interrupted_starts_over() {
    let from = engine_of(9_000_000);
    let engine = FaultyEngine::fail_at(2, Fault::Before);
    copy(&from, &engine, ID, CopyOptions::default(), &mut |_| {}).unwrap_err();
    let to = engine.crash(usize::MAX);
    let half = copy(
        &to,
        &MemoryEngine::new(),
        ID,
        CopyOptions::default(),
        &mut |_| {},
    );
    assert!(matches!(half, Err(BackupError::Log(LogError::Unfinished))));
    let refused = copy(&from, &to, [0; 16], CopyOptions::default(), &mut |_| {});
    assert!(matches!(refused, Err(BackupError::OtherUnfinished)));
    copy(&from, &to, [0; 16], AGAIN, &mut |_| {}).unwrap();
    assert!(same(&from, &to));
}

#[test]
fn nothing_is_no_source_and_a_used_place_no_target() {
    let nothing = copy(
        &MemoryEngine::new(),
        &MemoryEngine::new(),
        ID,
        CopyOptions::default(),
        &mut |_| {},
    );
    assert!(matches!(nothing, Err(BackupError::NothingThere)));
    let used = copy(
        &opened(),
        &opened(),
        ID,
        CopyOptions::default(),
        &mut |_| {},
    );
    assert!(matches!(used, Err(BackupError::NotEmpty { .. })));
}
