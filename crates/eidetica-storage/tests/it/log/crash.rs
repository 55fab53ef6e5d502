//! The log over an engine that fails: at any write, with any part of what was not durable lost, and at
//! any read.

use std::ops::ControlFlow;
use std::sync::Arc;

use eidetica_entry::{Entry, Id};
use eidetica_storage::log::{CacheSize, DatabaseLog, EntryLog, LogError, LogWriter};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, KeyRange, MemoryEngine, Space,
};
use eidetica_testkit::{Fault, FaultyEngine, Rng};

use super::support::{Bench, History};

const DATABASES: usize = 2;
const ENTRIES: usize = 110;

/// How many entries each database has.
type Counts = [usize; DATABASES];

fn histories() -> [History; DATABASES] {
    [
        History::branching(ENTRIES, 21),
        History::branching(ENTRIES, 22),
    ]
}

/// What a run got through before it failed.
#[derive(Default)]
struct Progress {
    /// The entries after every batch that was tried, the failed one included.
    tried: Vec<Counts>,
    /// How many of those are certain to be on disk.
    durable: usize,
}

/// Fills both databases in one deterministic way: groups of single commits across the databases, as a
/// group commit writes them, packs, relaxed and durable batches, flushes.
fn fill(
    engine: &Arc<dyn Engine>,
    histories: &[History; DATABASES],
    progress: &mut Progress,
) -> Result<(), LogError> {
    let mut rng = Rng::new(11);
    let log = EntryLog::open(Arc::clone(engine), CacheSize(1 << 20))?;
    let mut counts = [0; DATABASES];
    let mut writers = Vec::new();
    for (database, history) in histories.iter().enumerate() {
        let mut batch = Batch::new();
        let (_, writer) =
            log.create::<LogError>(&history.entries[0], &mut batch, |_, _, _| Ok(()))?;
        writers.push(writer);
        counts[database] = 1;
        write(&**engine, &batch, Durability::Durable, counts, progress)?;
    }
    while counts.iter().any(|count| *count < ENTRIES) {
        let mut group = Batch::new();
        for _ in 0..=rng.below(3) {
            let database = rng.below(DATABASES);
            let entries = &histories[database].entries;
            let many = if rng.one_in(20) {
                64 + rng.below(10)
            } else {
                1
            };
            let end = (counts[database] + many).min(entries.len());
            group.append(&stage(
                &mut writers[database],
                &entries[counts[database]..end],
            )?);
            counts[database] = end;
        }
        let durability = if rng.one_in(3) {
            Durability::Durable
        } else {
            Durability::Relaxed
        };
        write(&**engine, &group, durability, counts, progress)?;
        if rng.one_in(8) {
            engine.flush()?;
            progress.durable = progress.tried.len();
        }
    }
    Ok(())
}

fn stage(writer: &mut LogWriter, entries: &[Entry]) -> Result<Batch, LogError> {
    let mut batch = Batch::new();
    let mut stage = writer.stage();
    match entries {
        [entry] => drop(stage.add(entry, &mut batch)?),
        _ => stage.add_pack(entries, None, &mut batch)?,
    }
    stage.finish(&mut batch)?;
    Ok(batch)
}

fn write(
    engine: &dyn Engine,
    batch: &Batch,
    durability: Durability,
    counts: Counts,
    progress: &mut Progress,
) -> Result<(), EngineError> {
    progress.tried.push(counts);
    engine.write(batch, durability)?;
    if durability == Durability::Durable {
        progress.durable = progress.tried.len();
    }
    Ok(())
}

/// How many entries each database has on `disk`, by the version rows; and that no row says otherwise.
fn counts(disk: &MemoryEngine, log: &EntryLog, histories: &[History; DATABASES]) -> Counts {
    let mut counts = [0; DATABASES];
    let mut expected_ids = 0;
    for (count, history) in counts.iter_mut().zip(histories) {
        if let Some(log) = log.database(&history.database()).unwrap() {
            let snapshot = disk.snapshot().unwrap();
            *count = log.reader(&*snapshot).state().unwrap().next_arrival as usize;
            assert!(*count > 0, "a database has its root");
            expected_ids += *count;
            assert_eq!(rows(disk, Space::Ids, &log).len(), *count);
            for key in rows(disk, Space::Log, &log) {
                let arrival = u64::from_be_bytes(key[4..].try_into().unwrap());
                assert!(
                    arrival < *count as u64,
                    "a row of an entry that does not exist"
                );
            }
        }
    }
    let snapshot = disk.snapshot().unwrap();
    let mut ids = 0;
    let walked: Result<ControlFlow<()>, EngineError> =
        snapshot.for_each(Space::Ids, &KeyRange::all(), Direction::Forward, |_| {
            ids += 1;
            Ok(ControlFlow::Continue(()))
        });
    assert!(walked.unwrap().is_continue());
    assert_eq!(
        ids, expected_ids,
        "no row of a database that does not exist"
    );
    counts
}

/// The keys of a database in a space.
fn rows(disk: &MemoryEngine, space: Space, log: &DatabaseLog) -> Vec<Vec<u8>> {
    let snapshot = disk.snapshot().unwrap();
    let mut keys = Vec::new();
    let walked: Result<ControlFlow<()>, EngineError> = snapshot.for_each(
        space,
        &KeyRange::prefix(log.no().prefix()),
        Direction::Forward,
        |row| {
            keys.push(row.key.to_vec());
            Ok(ControlFlow::Continue(()))
        },
    );
    assert!(walked.unwrap().is_continue());
    keys
}

/// After any failing write, with nothing, half or all of the relaxed batches on disk: both databases are
/// as after one and the same batch, no earlier than the last durable one, and can be completed.
#[test]
fn a_crash_leaves_the_databases_as_after_one_batch() {
    let histories = histories();
    let quiet = Arc::new(FaultyEngine::new());
    let mut whole = Progress::default();
    fill(
        &(Arc::clone(&quiet) as Arc<dyn Engine>),
        &histories,
        &mut whole,
    )
    .unwrap();
    assert!(quiet.writes() > 30 && whole.tried.last() == Some(&[ENTRIES; DATABASES]));

    let mut lost = 0;
    for at in 0..quiet.writes() {
        for fault in [Fault::Before, Fault::After] {
            let engine = Arc::new(FaultyEngine::fail_at(at, fault));
            let mut progress = Progress::default();
            let failed = fill(
                &(Arc::clone(&engine) as Arc<dyn Engine>),
                &histories,
                &mut progress,
            );
            assert!(matches!(
                failed,
                Err(LogError::Engine(EngineError::Io { .. }))
            ));
            let relaxed = engine.relaxed();
            for keep in [0, relaxed / 2, relaxed] {
                let disk = engine.crash(keep);
                let log = EntryLog::open(Arc::new(disk.fork().unwrap()), CacheSize(0)).unwrap();
                let found = counts(&disk, &log, &histories);
                let batches = [[0; DATABASES]]
                    .into_iter()
                    .chain(progress.tried.iter().copied());
                let batches = batches.collect::<Vec<_>>();
                let after = batches.iter().rposition(|counts| *counts == found);
                let after =
                    after.unwrap_or_else(|| panic!("write {at}: {found:?} was never written"));
                assert!(
                    after >= progress.durable,
                    "write {at}: a durable batch is gone"
                );
                lost += usize::from(after < progress.tried.len());
                if at % 9 == 0 {
                    complete(disk, &histories, found);
                }
            }
        }
    }
    assert!(lost > 0, "crashes lose something");
}

/// Reads all that is there, adds the rest and reads all again.
fn complete(disk: MemoryEngine, histories: &[History; DATABASES], found: Counts) {
    let engine: Arc<dyn Engine> = Arc::new(disk);
    for (history, count) in histories.iter().zip(found) {
        let mut bench = match count {
            0 => Bench::on(Arc::clone(&engine), &history.entries[0]).unwrap(),
            _ => Bench::reopen(Arc::clone(&engine), &history.database()),
        };
        let count = count.max(1);
        bench.check(history, count);
        if count < ENTRIES {
            bench.add_pack(&history.entries[count..], None).unwrap();
            bench.check(history, ENTRIES);
        }
    }
}

/// A read that fails is an error of the engine; it spoils no cache, and the same call works again.
#[test]
fn a_failing_read_is_an_error_and_spoils_nothing() {
    let history = History::branching(130, 23);
    let stored = Arc::new(MemoryEngine::new());
    let mut bench = Bench::on(Arc::clone(&stored) as Arc<dyn Engine>, &history.entries[0]).unwrap();
    bench.add_pack(&history.entries[1..80], None).unwrap();
    for entry in &history.entries[80..] {
        bench.add(entry).unwrap();
    }
    let read_all = |engine: &Arc<dyn Engine>| -> Result<(Vec<Entry>, Vec<Entry>), LogError> {
        let log = EntryLog::open(Arc::clone(engine), CacheSize(1 << 20))?;
        read(&log, &history)
    };
    let quiet = Arc::new(FaultyEngine::over(&stored, None));
    let expected = read_all(&(Arc::clone(&quiet) as Arc<dyn Engine>)).unwrap();
    assert_eq!(expected.0, history.entries);
    for at in 0..quiet.reads() {
        let faulty = Some((at, Fault::Read));
        let engine: Arc<dyn Engine> = Arc::new(FaultyEngine::over(&stored, faulty));
        let log = match EntryLog::open(Arc::clone(&engine), CacheSize(1 << 20)) {
            Ok(log) => log,
            Err(error) => {
                assert!(
                    matches!(error, LogError::Engine(EngineError::Io { .. })),
                    "{error}"
                );
                continue;
            }
        };
        let failed = read(&log, &history);
        assert!(
            matches!(failed, Err(LogError::Engine(EngineError::Io { .. }))),
            "read {at}"
        );
        assert_eq!(read(&log, &history).unwrap(), expected, "read {at}");
    }
}

/// All entries by arrival and then by id, and a writer.
fn read(log: &EntryLog, history: &History) -> Result<(Vec<Entry>, Vec<Entry>), LogError> {
    let database = log
        .database(&history.database())?
        .ok_or(LogError::Missing(history.database()))?;
    let snapshot = log.engine().snapshot()?;
    let reader = database.reader(&*snapshot);
    let mut by_arrival = Vec::new();
    while by_arrival.len() < history.entries.len() {
        by_arrival.extend(reader.entries_from(by_arrival.len() as u64, 50)?);
    }
    let ids: Vec<Id> = history.entries.iter().map(Entry::id).collect();
    let by_id = reader.get_many(&ids)?.into_iter().flatten().collect();
    database.writer()?;
    Ok((by_arrival, by_id))
}
