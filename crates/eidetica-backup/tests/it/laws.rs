//! What goes in comes out.

use std::cell::Cell;
use std::collections::BTreeMap;

use eidetica_backup::{BackupError, Options, check, limits};
use eidetica_storage::log::format;
use eidetica_storage::{Batch, Durability, Engine, MemoryEngine, Space};
use proptest::prelude::*;

use crate::world::{
    CREATED_MS, ID, backup, engine_of, engine_with, opened, restore, restore_with, same,
};

fn rows() -> impl Strategy<Value = BTreeMap<(usize, Vec<u8>), Vec<u8>>> {
    let key = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(0..2_u8, 1..4),
        Just(vec![0xFF; 2048]),
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0..100_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::btree_map((0..Space::ALL.len(), key), value, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_restored_is_what_was_backed_up(rows in rows()) {
        let rows = rows.into_iter().map(|((space, key), value)| (Space::ALL[space], key, value));
        // The rows about formats are the log's.
        let rows = rows.filter(|(space, key, _)| *space != Space::Meta || !key.starts_with(b"L"));
        let engine = engine_with(rows);
        let stream = backup(&engine);
        let restored = MemoryEngine::new();
        let told = restore(&stream, &restored).unwrap();
        prop_assert!(same(&engine, &restored));
        prop_assert_eq!(told.resumed_at, 0);
        // One state has one backup, but for its label.
        prop_assert_eq!(backup(&restored), stream);
    }
}

#[test]
fn a_backup_says_what_it_is() {
    let engine = engine_of(9_000_000);
    let stream = backup(&engine);
    let (label, report) = check(&mut stream.as_slice(), &mut |_| {}).unwrap();
    assert_eq!((label.id, label.created_ms), (ID, CREATED_MS));
    assert_eq!(
        (label.engine.as_str(), label.rows_format),
        ("memory", format::FORMAT)
    );
    // The rows, and that of the format.
    assert_eq!(report.totals.row_count(), 92);
    assert_eq!(report.totals.frames, 3);
    assert_eq!(report.stream_bytes, stream.len() as u64);
    assert!(
        stream.len() < 5_500_000,
        "half of it compresses: {}",
        stream.len()
    );
    let told = restore(&stream, &MemoryEngine::new()).unwrap();
    assert_eq!((told.label, told.report), (label, report));
}

#[test]
fn what_is_written_meanwhile_is_not_in_it() {
    let engine = engine_of(9_000_000);
    let before = engine.fork().unwrap();
    let mut stream = Vec::new();
    let told = Cell::new(0);
    let mut write_on = |_: &_| {
        told.set(told.get() + 1);
        let mut batch = Batch::new();
        for space in Space::ALL {
            batch.put(space, b"row 000001", b"another value");
            batch.put(space, &[0xFF, told.get()], b"a new row");
        }
        engine.write(&batch, Durability::Durable).unwrap();
    };
    eidetica_backup::write(&engine, ID, 0, &mut stream, &mut write_on).unwrap();
    assert_eq!(told.get(), 3);
    let restored = MemoryEngine::new();
    restore(&stream, &restored).unwrap();
    assert!(same(&before, &restored) && !same(&engine, &restored));
}

#[test]
fn the_longest_row_fits() {
    let longest = vec![7; eidetica_storage::limits::VALUE_BYTES];
    let key = vec![9; eidetica_storage::limits::KEY_BYTES];
    // A frame that is all but full when the row comes.
    let almost = vec![8; limits::FRAME_BYTES - 100];
    let engine = engine_with([(Space::Log, vec![1], almost), (Space::Log, key, longest)]);
    let restored = MemoryEngine::new();
    restore(&backup(&engine), &restored).unwrap();
    assert!(same(&engine, &restored));
}

#[test]
fn nothing_and_half_a_copy_are_not_backed_up() {
    let mut stream = Vec::new();
    let nothing = eidetica_backup::write(&MemoryEngine::new(), ID, 0, &mut stream, &mut |_| {});
    assert!(matches!(nothing, Err(BackupError::NothingThere)));
    assert!(stream.is_empty());
}

#[test]
fn a_place_that_is_used_is_left_alone() {
    let stream = backup(&engine_of(100));
    let used = opened();
    let before = used.fork().unwrap();
    let refused = restore(&stream, &used);
    assert!(matches!(
        refused,
        Err(BackupError::NotEmpty { space: Space::Meta })
    ));
    let over = restore_with(&stream, &used, Options::new().start_over(true));
    assert!(matches!(over, Err(BackupError::NotEmpty { .. })));
    assert!(same(&used, &before));
}

#[test]
fn a_copy_beside_the_original_says_so_until_it_has_settled() {
    let stream = backup(&engine_of(100));
    let restored = MemoryEngine::new();
    restore_with(&stream, &restored, Options::new().new_device(true)).unwrap();
    assert!(format::wants_new_device(&*restored.snapshot().unwrap()).unwrap());
    let mut batch = Batch::new();
    format::stage_is_device(&mut batch);
    restored.write(&batch, Durability::Durable).unwrap();
    assert!(!format::wants_new_device(&*restored.snapshot().unwrap()).unwrap());
    assert_eq!(backup(&restored), stream);
}
