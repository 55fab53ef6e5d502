//! Damaged, missing and foreign rows.

use std::sync::Arc;

use eidetica_entry::{Entry, Height, Id};
use eidetica_storage::log::{CacheSize, EntryLog, LogError};
use eidetica_storage::{
    Batch, Blame, Direction, Durability, Engine, KeyRange, MemoryEngine, Row, ScanLimit, Space,
};

use super::support::*;

fn rows(engine: &dyn Engine) -> Vec<(Space, Row)> {
    let snapshot = engine.snapshot().unwrap();
    let scan = |space| {
        let page = snapshot.scan(
            space,
            &KeyRange::all(),
            Direction::Forward,
            ScanLimit::rows(9_999),
        );
        page.unwrap().rows.into_iter().map(move |row| (space, row))
    };
    Space::ALL.into_iter().flat_map(scan).collect()
}

/// A log with a pack, a sealed block and an open block.
fn filled() -> (MemoryEngine, History) {
    let engine = MemoryEngine::new();
    let history = History::branching(420, 3);
    let mut bench = Bench::on(Arc::new(engine.fork().unwrap()), &history.entries[0]).unwrap();
    bench.add_pack(&history.entries[1..101], None).unwrap();
    history.entries[101..]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
    let mut copy = Batch::new();
    for (space, row) in rows(&*bench.engine) {
        copy.put(space, &row.key, &row.value);
    }
    engine.write(&copy, Durability::Durable).unwrap();
    (engine, history)
}

/// Reads everything in every way. Whatever is answered must be true.
fn read_all(engine: &MemoryEngine, history: &History) -> Result<(), LogError> {
    let engine: Arc<dyn Engine> = Arc::new(engine.fork().unwrap());
    let entries = EntryLog::open(Arc::clone(&engine), CacheSize(1 << 20))?;
    entries.databases()?;
    let Some(log) = entries.database(&history.database())? else {
        return Err(LogError::Missing(history.database()));
    };
    let snapshot = engine.snapshot()?;
    let reader = log.reader(&*snapshot);
    let ids: Vec<Id> = history.entries.iter().map(Entry::id).collect();
    for (entry, located) in history.entries.iter().zip(reader.locate(&ids)?) {
        let located = located.ok_or(LogError::Missing(entry.id()))?;
        assert_eq!(located.height, entry.header().height);
    }
    for (entry, found) in history.entries.iter().zip(reader.get_many(&ids)?) {
        assert_eq!(found.as_ref(), Some(entry));
    }
    let found = reader.entries_from(0, 1_000)?;
    assert_eq!(found, history.entries);
    let heights = reader.by_height(Height(0)..=Height(u64::MAX), None, 1_000)?;
    // A missing height row leaves its pack out.
    if heights.len() < history.entries.len() {
        return Err(LogError::Missing(ids[0]));
    }
    let tips: Vec<Id> = history.tips(420).iter().map(|tip| tip.id).collect();
    let difference = reader.difference(&tips, &ids[200..201], &mut super::read::unlimited())?;
    reader.packs(&difference, 0, usize::MAX)?;
    log.writer()?;
    entries.create::<LogError>(&root(99), &mut Batch::new(), |_, _, _| Ok(()))?;
    Ok(())
}

#[test]
fn any_damaged_row_is_named_and_none_is_believed() {
    let (engine, history) = filled();
    read_all(&engine, &history).unwrap();
    for (n, (space, row)) in rows(&engine).into_iter().enumerate() {
        for position in [0, row.value.len() / 2, row.value.len() - 1] {
            let damaged = engine.fork().unwrap();
            let mut value = row.value.to_vec();
            value[position] ^= 1 << (n % 8);
            let mut batch = Batch::new();
            batch.put(space, &row.key, &value);
            damaged.write(&batch, Durability::Durable).unwrap();
            let error = read_all(&damaged, &history).unwrap_err();
            assert!(
                matches!(error, LogError::Corrupt { .. }),
                "{space} {n} {position}: {error}"
            );
            assert_eq!(error.blame(), Blame::Corrupt);
        }
    }
}

#[test]
fn truncated_and_missing_rows_are_errors() {
    let (engine, history) = filled();
    for (space, row) in rows(&engine) {
        let damaged = engine.fork().unwrap();
        let mut batch = Batch::new();
        batch.put(space, &row.key, &row.value[..row.value.len() / 2]);
        damaged.write(&batch, Durability::Durable).unwrap();
        let error = read_all(&damaged, &history).unwrap_err();
        assert!(
            matches!(error, LogError::Corrupt { .. }),
            "{space}: {error}"
        );

        let missing = engine.fork().unwrap();
        let mut batch = Batch::new();
        batch.delete(space, &row.key);
        missing.write(&batch, Durability::Durable).unwrap();
        // Nothing below tells a log without these rows from an empty one; the directory still protects what is there.
        let expected = !matches!((space, row.key.as_ref()), (Space::Meta, b"Lf" | b"Ln"));
        assert_eq!(
            read_all(&missing, &history).is_err(),
            expected,
            "{space} {:?}",
            row.key
        );
    }
}

#[test]
fn one_damaged_row_leaves_the_others_readable() {
    let (engine, history) = filled();
    let (space, row) = rows(&engine)
        .into_iter()
        .find(|(space, _)| *space == Space::Log)
        .unwrap();
    let mut batch = Batch::new();
    batch.put(space, &row.key, b"rubbish");
    engine.write(&batch, Durability::Durable).unwrap();
    let bench = Bench::reopen(Arc::new(engine), &history.database());
    bench.read(|reader| {
        let error = reader.get(&history.entries[0].id()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("log row of database 0 at arrival 0"),
            "{error}"
        );
        let last = &history.entries[419];
        assert_eq!(reader.get(&last.id()).unwrap().as_ref(), Some(last));
    });
}

/// A row in the place of another is not taken for it.
#[test]
fn swapped_rows_are_errors() {
    let (engine, history) = filled();
    let all = rows(&engine);
    for space in [Space::Log, Space::Ids] {
        let of_space: Vec<&Row> = all
            .iter()
            .filter(|(s, _)| *s == space)
            .map(|(_, row)| row)
            .collect();
        let (a, b) = (of_space[of_space.len() - 1], of_space[of_space.len() - 2]);
        let swapped = engine.fork().unwrap();
        let mut batch = Batch::new();
        batch.put(space, &a.key, &b.value);
        batch.put(space, &b.key, &a.value);
        swapped.write(&batch, Durability::Durable).unwrap();
        assert!(matches!(
            read_all(&swapped, &history),
            Err(LogError::Corrupt { .. })
        ));
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    EntryLog::open(Arc::clone(&engine), CacheSize::default()).unwrap();
    let mut value = blake3::Hasher::new();
    value.update(b"Lf").update(&2_u32.to_le_bytes());
    let row = [&value.finalize().as_bytes()[..8], &2_u32.to_le_bytes()].concat();
    let mut batch = Batch::new();
    batch.put(Space::Meta, b"Lf", &row);
    engine.write(&batch, Durability::Durable).unwrap();
    let error = EntryLog::open(engine, CacheSize::default()).unwrap_err();
    assert!(matches!(
        error,
        LogError::NewerFormat {
            found: 2,
            supported: 1
        }
    ));
}
