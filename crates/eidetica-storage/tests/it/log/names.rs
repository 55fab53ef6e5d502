//! Settings that name databases beside what takes them away.

use eidetica_storage::commit::{GroupCommit, Lane};
use eidetica_storage::log::{DatabaseLog, LogError, Stage};
use eidetica_storage::{Batch, Durability, EngineError};

use super::support::*;

/// Databases on one engine, and closures.
fn several(count: u8) -> (Bench, Vec<DatabaseLog>, Vec<DatabaseLog>) {
    let bench = Bench::new(&root(0));
    let nothing = |_: &DatabaseLog, _: &mut Stage<'_>, _: &mut Batch| Ok::<_, LogError>(());
    let (mut databases, mut closures) = (Vec::new(), Vec::new());
    for n in 0..count {
        let entries = &bench.entries;
        let mut batch = Batch::new();
        let made = entries.create(&root(1 + n), &mut batch, nothing);
        bench.write(&batch).unwrap();
        databases.push(made.unwrap().0);
        let mut batch = Batch::new();
        let made = entries.create_closure(&root(100 + n), &mut batch, nothing);
        bench.write(&batch).unwrap();
        closures.push(made.unwrap().0);
    }
    (bench, databases, closures)
}

fn naming(bench: &Bench, database: &DatabaseLog) -> Batch {
    let (mut batch, mut writer) = (Batch::new(), database.writer().unwrap());
    let taken = bench.entries.taken(&*bench.engine.snapshot().unwrap());
    let mut stage = writer.stage();
    stage.name_others(&taken.unwrap(), &mut batch);
    stage.finish(&mut batch).unwrap();
    batch
}

fn removal(bench: &Bench, closure: &DatabaseLog) -> Batch {
    let mut batch = Batch::new();
    let named = bench.entries.named(&*bench.engine.snapshot().unwrap());
    let entries = &bench.entries;
    entries
        .remove_closure(closure, &named.unwrap(), &mut batch)
        .unwrap();
    batch
}

fn is_refused(written: Result<(), EngineError>) -> bool {
    matches!(written, Err(EngineError::PreconditionFailed { .. }))
}

#[test]
fn whoever_names_and_whoever_takes_away_refuse_each_other_and_nobody_else() {
    let (bench, databases, closures) = several(4);
    // Not even those that do not know of each other.
    let namings: Vec<Batch> = databases.iter().map(|log| naming(&bench, log)).collect();
    namings
        .iter()
        .for_each(|naming| bench.write(naming).unwrap());
    let removals: Vec<Batch> = closures[..2]
        .iter()
        .map(|log| removal(&bench, log))
        .collect();
    removals
        .iter()
        .for_each(|removal| bench.write(removal).unwrap());

    let (first, second) = (naming(&bench, &databases[0]), removal(&bench, &closures[2]));
    bench.write(&first).unwrap();
    assert!(is_refused(bench.write(&second)));
    let (first, second) = (removal(&bench, &closures[2]), naming(&bench, &databases[0]));
    bench.write(&first).unwrap();
    assert!(is_refused(bench.write(&second)));
    // Looked at again.
    bench.write(&naming(&bench, &databases[0])).unwrap();
    bench.write(&removal(&bench, &closures[3])).unwrap();
    assert!(bench.entries.closures().unwrap().is_empty());
}

/// However they come together in a group.
#[test]
fn of_a_naming_and_a_removal_at_once_one_is_written() {
    for round in 0..20 {
        let (bench, databases, closures) = several(3);
        let namings: Vec<Batch> = databases.iter().map(|log| naming(&bench, log)).collect();
        let removals: Vec<Batch> = closures.iter().map(|log| removal(&bench, log)).collect();
        let group = GroupCommit::new(bench.engine.clone());
        let write = |(lane, batch): (u64, Batch)| {
            let group = group.clone();
            move || group.write(Lane(lane), batch, Durability::Durable)
        };
        let (named, taken) = std::thread::scope(|scope| {
            let start = |batches: Vec<Batch>, from| {
                let writes = (from..).zip(batches).map(write);
                let threads = writes.map(|write| scope.spawn(write));
                threads.collect::<Vec<_>>()
            };
            let (namings, removals) = match round % 2 {
                0 => (start(namings, 0), start(removals, 10)),
                _ => {
                    let removals = start(removals, 10);
                    (start(namings, 0), removals)
                }
            };
            let all = |threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(), EngineError>>>| {
                let written = threads.into_iter().map(|thread| thread.join().unwrap());
                let written: Vec<bool> = written.map(|written| !is_refused(written)).collect();
                assert!(written.iter().all(|is| *is == written[0]), "{written:?}");
                written[0]
            };
            (all(namings), all(removals))
        });
        assert_ne!(named, taken);
    }
}
