//! Older formats become newer ones, whatever interrupts it; the formats here are made up for it.

use std::sync::Arc;

use eidetica_storage::log::format::{Copying, Part, Upgrade, check_with, stored};
use eidetica_storage::log::{CacheSize, EntryLog, LogError};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, KeyRange, MemoryEngine, ScanLimit, Snapshot, Space,
};
use eidetica_testkit::{Fault, FaultyEngine};

/// Rows of the made-up formats, with one letter each.
const ROWS: usize = 10;

/// From 1 to 2 in one part: every row gets a 2. From 2 to 3 in parts of three rows: every row is renamed.
const UPGRADES: &[Upgrade] = &[
    Upgrade {
        from: 1,
        part: |snapshot, at, batch| {
            assert!(at.is_empty());
            for (key, value) in page(snapshot, b"row", usize::MAX) {
                batch.put(Space::State, &key, &[value.as_slice(), b"2"].concat());
            }
            Ok(Part::Last)
        },
    },
    Upgrade {
        from: 2,
        part: |snapshot, at, batch| {
            let rows = page(snapshot, b"row", 3);
            for (key, value) in &rows {
                batch.delete(Space::State, key);
                batch.put(Space::State, &[b"new", &key[3..]].concat(), value);
            }
            // How many parts there were, told from one to the next.
            let parts = at.len() + 1;
            assert_eq!(ROWS - rows_with(snapshot, b"row"), 3 * at.len());
            match rows.len() {
                3 => Ok(Part::More(vec![0; parts])),
                _ => Ok(Part::Last),
            }
        },
    },
];

fn page(snapshot: &dyn Snapshot, prefix: &[u8], rows: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (range, limit) = (
        KeyRange::prefix(prefix),
        ScanLimit {
            rows,
            bytes: 1 << 20,
        },
    );
    let page = snapshot
        .scan(Space::State, &range, Direction::Forward, limit)
        .unwrap();
    let row = |row: eidetica_storage::Row| (row.key.to_vec(), row.value.to_vec());
    page.rows.into_iter().map(row).collect()
}

fn rows_with(snapshot: &dyn Snapshot, prefix: &[u8]) -> usize {
    page(snapshot, prefix, 1000).len()
}

/// As the first format had it.
fn first() -> MemoryEngine {
    let engine = MemoryEngine::new();
    check_with(&engine, 1, &[]).unwrap();
    let mut batch = Batch::new();
    for n in 0..ROWS {
        batch.put(Space::State, format!("row{n}").as_bytes(), b"1");
    }
    engine.write(&batch, Durability::Durable).unwrap();
    engine
}

fn is_third(engine: &dyn Engine) -> bool {
    let snapshot = engine.snapshot().unwrap();
    let rows = page(&*snapshot, b"", 1000);
    let renamed = |(key, value): &(Vec<u8>, Vec<u8>)| key.starts_with(b"new") && value == b"12";
    stored(&*snapshot).unwrap() == Some(3) && rows.len() == ROWS && rows.iter().all(renamed)
}

#[test]
fn an_older_format_is_brought_up_step_by_step() {
    let engine = first();
    check_with(&engine, 2, UPGRADES).unwrap();
    assert_eq!(stored(&*engine.snapshot().unwrap()).unwrap(), Some(2));
    check_with(&engine, 3, UPGRADES).unwrap();
    assert!(is_third(&engine));
    let at_once = first();
    check_with(&at_once, 3, UPGRADES).unwrap();
    assert!(is_third(&at_once));
    // Nothing is left to do, and nothing of the way there is left.
    let counting = FaultyEngine::over(&at_once, None);
    check_with(&counting, 3, &[]).unwrap();
    assert_eq!(counting.writes(), 0);
}

#[test]
fn an_upgrade_that_any_failure_interrupts_goes_on() {
    let counting = FaultyEngine::over(&first(), None);
    check_with(&counting, 3, UPGRADES).unwrap();
    let writes = counting.writes();
    assert_eq!(writes, 1 + 4);
    for at in 0..writes {
        for fault in [Fault::Before, Fault::After] {
            let engine = FaultyEngine::over(&first(), Some((at, fault)));
            check_with(&engine, 3, UPGRADES).unwrap_err();
            let disk = engine.crash(0);
            let done = at + u64::from(fault == Fault::After);
            // Each part was one batch: an older program still opens what was not begun, and nothing half done.
            let older = check_with(&disk.fork().unwrap(), 1, &[]);
            assert_eq!(older.is_ok(), done == 0, "{older:?}");
            let between = check_with(&disk.fork().unwrap(), 2, UPGRADES);
            assert_eq!(between.is_ok(), done <= 1, "{between:?}");
            check_with(&disk, 3, UPGRADES).unwrap();
            assert!(is_third(&disk), "write {at}");
        }
    }
}

#[test]
fn two_may_bring_it_up_at_once() {
    let engine = Arc::new(first());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| check_with(&*engine, 3, UPGRADES).unwrap());
        }
    });
    assert!(is_third(&*engine));
}

#[test]
fn formats_that_are_not_ours_are_refused_with_both_numbers() {
    let engine = first();
    check_with(&engine, 3, UPGRADES).unwrap();
    let newer = check_with(&engine, 2, UPGRADES).unwrap_err();
    assert!(matches!(
        newer,
        LogError::NewerFormat {
            found: 3,
            supported: 2
        }
    ));
    let said = newer.to_string();
    assert!(
        said.contains("format 3") && said.contains("up to 2") && said.contains("newer"),
        "{said}"
    );
    let older = check_with(&engine, 5, UPGRADES).unwrap_err();
    assert!(matches!(
        older,
        LogError::OlderFormat {
            found: 3,
            supported: 5
        }
    ));
    assert!(is_third(&engine), "it is left as it was");
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let fails: &[Upgrade] = &[Upgrade {
        from: 1,
        part: |_, _, batch| {
            batch.put(Space::State, b"row0", b"half");
            Err(LogError::Budget)
        },
    }];
    let engine = first();
    assert!(matches!(
        check_with(&engine, 2, fails),
        Err(LogError::Budget)
    ));
    check_with(&engine, 3, UPGRADES).unwrap();
    assert!(is_third(&engine));
}

#[test]
fn nobody_opens_what_is_being_copied_in() {
    let engine = Arc::new(MemoryEngine::new());
    let copying = Copying {
        source: [7; 32],
        parts: 0,
    };
    let mut batch = Batch::new();
    copying.stage_first(&mut batch);
    engine.write(&batch, Durability::Durable).unwrap();
    let open = || EntryLog::open(engine.clone(), CacheSize::default()).map(drop);
    assert!(matches!(open(), Err(LogError::Unfinished)));
    assert!(matches!(
        stored(&*engine.snapshot().unwrap()),
        Err(LogError::Unfinished)
    ));
    assert_eq!(
        Copying::read(&*engine.snapshot().unwrap()).unwrap(),
        Some(copying)
    );
    let next = Copying {
        parts: 1,
        ..copying
    };
    let mut batch = Batch::new();
    copying.stage_next(&next, &mut batch);
    engine.write(&batch, Durability::Durable).unwrap();
    // Whoever thinks it is less far is refused.
    assert!(engine.write(&batch, Durability::Durable).is_err());
    let mut batch = Batch::new();
    next.stage_last(&mut batch);
    engine.write(&batch, Durability::Durable).unwrap();
    open().unwrap();
    // And nothing is copied into what is open.
    let mut batch = Batch::new();
    copying.stage_first(&mut batch);
    assert!(engine.write(&batch, Durability::Durable).is_err());
}
