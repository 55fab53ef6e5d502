//! Staging, sealing, preconditions and cost.

use std::sync::Arc;

use eidetica_entry::{Entry, ParentInfo, pack};
use eidetica_storage::log::{CacheSize, EntryLog, LogError};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, KeyRange, MemoryEngine, ScanLimit, Space,
    limits,
};
use eidetica_testkit::{Fault, FaultyEngine, RecordingEngine, Rng};
use proptest::prelude::*;

use super::support::*;

fn log_rows(engine: &dyn Engine) -> usize {
    let snapshot = engine.snapshot().unwrap();
    let page = snapshot.scan(
        Space::Log,
        &KeyRange::all(),
        Direction::Forward,
        ScanLimit::rows(9_999),
    );
    page.unwrap().rows.len()
}

#[derive(Debug, Clone)]
enum Act {
    Single,
    /// Several entries in one batch.
    Batch(usize),
    Pack(usize),
    Reopen,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Single),
        2 => (2..40_usize).prop_map(Act::Batch),
        2 => (1..700_usize).prop_map(Act::Pack),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However entries arrive, the log is the list of them.
    #[test]
    fn any_way_in_gives_the_same_log(seed in 0..50_u64, acts in proptest::collection::vec(any_act(), 1..14)) {
        let total = 1 + acts.iter().map(|act| match act {
            Act::Single => 1,
            Act::Batch(n) | Act::Pack(n) => *n,
            Act::Reopen => 0,
        }).sum::<usize>();
        let history = History::branching(total, seed);
        let mut bench = Bench::new(&history.entries[0]);
        let mut len = 1;
        for act in acts {
            match act {
                Act::Single => {
                    bench.add(&history.entries[len]).unwrap();
                    len += 1;
                }
                Act::Batch(n) => {
                    let mut batch = Batch::new();
                    let mut stage = bench.writer.stage();
                    for entry in &history.entries[len..len + n] {
                        stage.add(entry, &mut batch).unwrap();
                    }
                    stage.finish(&mut batch).unwrap();
                    bench.write(&batch).unwrap();
                    len += n;
                }
                Act::Pack(n) => {
                    let entries = &history.entries[len..len + n];
                    let packed = pack::encode(entries).unwrap();
                    bench.add_pack(entries, Some(&packed).filter(|_| n % 2 == 0)).unwrap();
                    len += n;
                }
                Act::Reopen => bench = Bench::reopen(bench.engine, &history.database()),
            }
            let state = bench.read(|reader| reader.state().unwrap());
            prop_assert_eq!(&state, bench.writer.state());
            prop_assert!(state.next_arrival - state.open_from < limits::BLOCK_ENTRIES as u64);
        }
        bench.check(&history, len);
    }
}

#[test]
fn a_single_commit_is_three_rows() {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let history = History::chain(3);
    let mut bench = Bench::on(Arc::clone(&engine) as Arc<dyn Engine>, &history.entries[0]).unwrap();
    let _ = engine.take();
    bench.add(&history.entries[1]).unwrap();
    let tally = engine.take();
    assert_eq!(tally.puts(), 3);
    assert_eq!(tally.space(Space::Meta).expects, 1);
    assert_eq!(tally.reads(), 0, "a commit reads nothing");
}

#[test]
fn bulk_is_one_row_per_entry_and_two_per_pack() {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let history = History::branching(2_049, 3);
    let mut bench = Bench::on(Arc::clone(&engine) as Arc<dyn Engine>, &history.entries[0]).unwrap();
    bench.add_pack(&history.entries[1..2], None).unwrap();
    let _ = engine.take();
    // The open root and single are sealed into a pack of their own first.
    bench.add_pack(&history.entries[2..2_049], None).unwrap();
    let tally = engine.take();
    let packs = 2_047_usize.div_ceil(limits::STORED_PACK_ENTRIES) as u64 + 1;
    assert_eq!(tally.space(Space::Ids).puts, 2_047);
    assert_eq!(tally.space(Space::Log).puts, packs);
    assert_eq!(tally.space(Space::Meta).puts, packs + 1);
    assert_eq!(tally.reads(), 0);
    assert_eq!(tally.writes, 1);
}

#[test]
fn a_full_block_is_sealed_without_touching_ids() {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let history = History::chain(limits::BLOCK_ENTRIES + 10);
    let mut bench = Bench::on(Arc::clone(&engine) as Arc<dyn Engine>, &history.entries[0]).unwrap();
    for (n, entry) in history.entries.iter().enumerate().skip(1) {
        let _ = engine.take();
        bench.add(entry).unwrap();
        assert_eq!(engine.take().space(Space::Ids).puts, 1);
        let open = if n < limits::BLOCK_ENTRIES - 1 {
            n + 1
        } else {
            n + 2 - limits::BLOCK_ENTRIES
        };
        assert_eq!(log_rows(&*bench.engine), open, "after {n}");
    }
    bench.check(&history, history.entries.len());
    Bench::reopen(bench.engine, &history.database()).check(&history, history.entries.len());
}

#[test]
fn large_entries_are_sealed_early() {
    let mut bench = Bench::new(&root(1));
    for n in 0..12 {
        let parents = bench.writer.tips().to_vec();
        let big = vec![n; 500 << 10].into();
        let payloads = [("big".parse().unwrap(), big)].into();
        let id = bench.log.id();
        let entry = eidetica_entry::Draft::child(id, &parents, id, payloads, key(1), None).unwrap();
        bench.add(&entry.sign(signature(1))).unwrap();
        let state = bench.writer.state();
        assert!(state.next_arrival - state.open_from <= 5);
    }
}

#[test]
fn received_packs_are_stored_as_they_came() {
    let history = History::branching(900, 4);
    let mut bench = Bench::new(&history.entries[0]);
    let packed = pack::encode(&history.entries[1..401]).unwrap();
    bench
        .add_pack(&history.entries[1..401], Some(&packed))
        .unwrap();
    // Few entries join the open block instead.
    let few = pack::encode(&history.entries[401..411]).unwrap();
    bench
        .add_pack(&history.entries[401..411], Some(&few))
        .unwrap();
    assert_eq!(bench.writer.state().open_from, 401);
    let packs = bench.read(|reader| {
        let all = reader
            .difference(&ids(&history.tips(411)), &[], &mut super::read::unlimited())
            .unwrap();
        reader.packs(&all, 0, usize::MAX).unwrap().packs
    });
    assert!(packs.contains(&packed));
    bench.check(&history, 411);
}

fn ids(stamps: &[eidetica_entry::Stamp]) -> Vec<eidetica_entry::Id> {
    stamps.iter().map(|stamp| stamp.id).collect()
}

/// Entries that wait for signatures are built upon, but not sealed.
#[test]
fn signing_happens_outside_and_out_of_order() {
    let mut bench = Bench::new(&root(1));
    let database = bench.log.id();
    let mut waiting = Vec::new();
    for n in 0..limits::BLOCK_ENTRIES as u64 + 20 {
        let mut batch = Batch::new();
        let mut stage = bench.writer.stage();
        let draft = child(database, stage.tips(), &[database], 6 + 23 * n);
        let unsigned = stage.add_draft(draft, &mut batch).unwrap();
        assert_eq!(unsigned.arrival(), n + 1);
        stage.finish(&mut batch).unwrap();
        waiting.push((unsigned, batch));
    }
    assert_eq!(
        bench.writer.state().open_from,
        0,
        "nothing unsigned was sealed"
    );
    let mut batches: Vec<Batch> = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for (unsigned, mut batch) in waiting.into_iter().rev() {
        let sig = signature(unsigned.arrival());
        entries.insert(0, unsigned.sign(sig, &mut batch));
        batches.insert(0, batch);
    }
    batches.iter().for_each(|batch| bench.write(batch).unwrap());
    let parent = ParentInfo::from(entries.last().unwrap());
    let last = child(database, &[parent], &[database], 6).sign(signature(9));
    bench.add(&last).unwrap();
    assert_eq!(
        bench.writer.state().open_from,
        bench.writer.state().next_arrival
    );
    assert_eq!(log_rows(&*bench.engine), 1);
    entries.push(last);
    assert_eq!(
        bench.read(|reader| reader.entries_from(1, 9_999).unwrap()),
        entries
    );
}

#[test]
fn a_dropped_stage_leaves_no_trace() {
    let history = History::chain(4);
    let mut bench = Bench::new(&history.entries[0]);
    let before = bench.writer.state().clone();
    let mut batch = Batch::new();
    let mut stage = bench.writer.stage();
    stage.add(&history.entries[1], &mut batch).unwrap();
    drop(stage);
    assert_eq!(bench.writer.state(), &before);
    for entry in &history.entries[1..] {
        bench.add(entry).unwrap();
    }
    bench.check(&history, 4);
}

#[test]
fn of_two_writers_one_is_refused() {
    let history = History::chain(3);
    let mut bench = Bench::new(&history.entries[0]);
    let mut other = Bench::reopen(Arc::clone(&bench.engine), &history.database());
    bench.add(&history.entries[1]).unwrap();
    let refused = other.add(&history.entries[1]).unwrap_err();
    assert!(matches!(
        refused,
        LogError::Engine(EngineError::PreconditionFailed { .. })
    ));
    other.writer = other.log.writer().unwrap();
    other.add(&history.entries[2]).unwrap();
    bench.check(&history, 3);
}

#[test]
fn foreign_entries_and_roots_are_refused() {
    let history = History::chain(80);
    let mut bench = Bench::new(&root(9));
    let foreign = &history.entries[1];
    assert!(matches!(bench.add(foreign), Err(LogError::Foreign(id)) if id == foreign.id()));
    assert!(matches!(
        bench.add_pack(&history.entries[1..], None),
        Err(LogError::Foreign(_))
    ));
    let create = |entry| {
        bench
            .entries
            .create::<LogError>(entry, &mut Batch::new(), |_, _, _| Ok(()))
            .map(drop)
    };
    assert!(matches!(create(foreign), Err(LogError::NotRoot(_))));
    assert!(matches!(create(&root(9)), Err(LogError::Exists(_))));
}

#[test]
fn databases_are_apart() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let histories: Vec<History> = (0..5).map(|seed| History::branching(300, seed)).collect();
    for history in &histories {
        let mut bench = Bench::on(Arc::clone(&engine), &history.entries[0]).unwrap();
        bench.add_pack(&history.entries[1..200], None).unwrap();
        history.entries[200..]
            .iter()
            .for_each(|entry| bench.add(entry).unwrap());
    }
    let log = EntryLog::open(Arc::clone(&engine), CacheSize::default()).unwrap();
    let found: Vec<_> = log
        .databases()
        .unwrap()
        .iter()
        .map(|database| database.id())
        .collect();
    let mut expected: Vec<_> = histories.iter().map(History::database).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for history in &histories {
        Bench::reopen(Arc::clone(&engine), &history.database()).check(history, 300);
    }
    assert!(
        log.database(&histories[0].entries[7].id())
            .unwrap()
            .is_none()
    );
}

#[test]
fn concurrent_creations_do_not_share_a_number() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let log = EntryLog::open(Arc::clone(&engine), CacheSize::default()).unwrap();
    let stage = |nonce| {
        let mut batch = Batch::new();
        let (database, _) = log
            .create::<LogError>(&root(nonce), &mut batch, |_, _, _| Ok(()))
            .unwrap();
        (database.no(), batch)
    };
    let ((a, first), (b, second)) = (stage(1), stage(2));
    assert_eq!(a, b);
    engine.write(&first, Durability::Durable).unwrap();
    let refused = engine.write(&second, Durability::Durable);
    assert!(matches!(
        refused,
        Err(EngineError::PreconditionFailed { .. })
    ));
    let (again, second) = stage(2);
    engine.write(&second, Durability::Durable).unwrap();
    assert_ne!(a, again);
    assert_eq!(log.databases().unwrap().len(), 2);
}

#[test]
fn the_watermark_only_rises_and_stays_below_what_is_there() {
    let history = History::chain(3);
    let mut bench = Bench::new(&history.entries[0]);
    let mut apply = |to| {
        let mut batch = Batch::new();
        let mut stage = bench.writer.stage();
        stage.set_applied(to);
        let state = stage.finish(&mut batch).unwrap();
        bench.engine.write(&batch, Durability::Durable).unwrap();
        (state.applied, state.version)
    };
    assert_eq!(apply(0), (0, 2));
    assert_eq!(apply(99), (1, 3));
    assert_eq!(apply(0), (1, 4));
    bench.add(&history.entries[1]).unwrap();
    assert!(!bench.writer.state().is_applied());
}

/// Whatever write fails, and however: what was acknowledged is there, nothing is half there, and the
/// database can be written on.
#[test]
fn any_failing_write_leaves_a_whole_log() {
    let history = History::branching(900, 6);
    let run = |engine: &Arc<FaultyEngine>| {
        let mut rng = Rng::new(5);
        let mut acknowledged = 0;
        let mut done = || -> Result<(), LogError> {
            let mut bench = Bench::on(Arc::clone(engine) as Arc<dyn Engine>, &history.entries[0])?;
            acknowledged = 1;
            while acknowledged < history.entries.len() {
                let n = match rng.below(4) {
                    0 => 1 + rng.below(150),
                    _ => 1,
                };
                let end = (acknowledged + n).min(history.entries.len());
                match n {
                    1 => bench.add(&history.entries[acknowledged])?,
                    _ => bench.add_pack(&history.entries[acknowledged..end], None)?,
                }
                acknowledged = end;
            }
            Ok(())
        };
        (done().is_ok(), acknowledged)
    };
    let quiet = Arc::new(FaultyEngine::new());
    assert_eq!(run(&quiet), (true, 900));
    for at in 0..quiet.writes() {
        for fault in [Fault::Before, Fault::After] {
            let engine = Arc::new(FaultyEngine::fail_at(at, fault));
            let (done, acknowledged) = run(&engine);
            assert!(!done);
            let survivor: Arc<dyn Engine> = Arc::new(engine.crash(0));
            let log = EntryLog::open(Arc::clone(&survivor), CacheSize::default()).unwrap();
            if log.database(&history.database()).unwrap().is_none() {
                assert_eq!(acknowledged, 0);
                continue;
            }
            let mut bench = Bench::reopen(survivor, &history.database());
            let present = bench.writer.state().next_arrival as usize;
            match fault {
                Fault::Before => assert_eq!(present, acknowledged),
                _ => assert!(present > acknowledged),
            }
            if at % 7 == 0 {
                bench.check(&history, present);
                bench.add_pack(&history.entries[present..], None).unwrap();
                bench.check(&history, 900);
            }
        }
    }
}
