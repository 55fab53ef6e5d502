//! Compacting gives space back, however little there is.

use eidetica_storage::{Batch, Durability, Engine, Space};

use crate::{dir, open};

fn write(engine: &dyn Engine, keys: std::ops::Range<u32>, byte: u8) {
    let mut batch = Batch::new();
    for key in keys {
        // Not to be compressed.
        let mut value = [byte; 100];
        let noise = (0..25_u32).flat_map(|n| (key ^ n).wrapping_mul(0x9e37_79b9).to_le_bytes());
        value.iter_mut().zip(noise).for_each(|(v, n)| *v ^= n);
        batch.put(Space::State, &key.to_be_bytes(), &value);
    }
    engine.write(&batch, Durability::Durable).unwrap();
}

fn disk(engine: &dyn Engine) -> u64 {
    engine.info().disk_bytes.unwrap()
}

fn count(engine: &dyn Engine) -> usize {
    let snapshot = engine.snapshot().unwrap();
    let held = |key: &u32| {
        let row = snapshot.get(Space::State, &key.to_be_bytes());
        row.unwrap().is_some()
    };
    (0..4_000).filter(held).count()
}

#[test]
fn a_small_directory_becomes_smaller() {
    for rows in [10, 100, 2_000] {
        let dir = dir();
        let engine = open(dir.path()).unwrap();
        for byte in 0..10 {
            write(&*engine, 0..rows, byte);
        }
        let before = disk(&*engine);
        engine.compact().unwrap();
        let after = disk(&*engine);
        eprintln!("{rows} rows, each written ten times: {before} bytes, {after} compacted");
        assert!(after < before, "{rows} rows: {before}, then {after}");
        assert_eq!(count(&*engine), rows as usize);
        // It goes on, and there is nothing that could become less.
        write(&*engine, rows..rows + 1, 1);
        engine.compact().unwrap();
        assert!(disk(&*engine) < before);
        engine.close().unwrap();
        let engine = open(dir.path()).unwrap();
        assert_eq!(count(&*engine), rows as usize + 1);
    }
}

#[test]
fn while_a_snapshot_is_held_the_journals_wait_for_the_end() {
    let dir = dir();
    let engine = open(dir.path()).unwrap();
    write(&*engine, 0..2_000, 1);
    let held = engine.snapshot().unwrap();
    write(&*engine, 0..2_000, 2);
    let before = disk(&*engine);
    engine.compact().unwrap();
    assert!(
        held.get(Space::State, &7_u32.to_be_bytes())
            .unwrap()
            .is_some()
    );
    drop(held);
    engine.close().unwrap();
    let engine = open(dir.path()).unwrap();
    assert!(disk(&*engine) < before);
    assert_eq!(count(&*engine), 2_000);
}
