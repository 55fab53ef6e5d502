//! Group commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use eidetica_storage::commit::{GroupCommit, Lane};
use eidetica_storage::{Batch, Durability, Engine, EngineError, MemoryEngine, Space};
use eidetica_testkit::{Call, Fault, FaultyEngine, HookedEngine, RecordingEngine};
use parking_lot::Mutex;

/// A batch that counts `lane` from `from` to `from + 1`.
fn step(lane: u64, from: u64) -> Batch {
    let mut batch = Batch::new();
    let key = lane.to_be_bytes();
    let before = from.to_be_bytes();
    batch.expect(
        Space::Meta,
        &key,
        Some(before.as_slice()).filter(|_| from > 0),
    );
    batch.put(Space::Meta, &key, &(from + 1).to_be_bytes());
    batch
}

/// Whether a batch counts this lane.
fn writes(batch: &Batch, lane: u64) -> bool {
    let plan = batch.plan().unwrap();
    let mut writes = plan.writes.iter();
    writes.any(|write| write.key == lane.to_be_bytes())
}

fn value(engine: &dyn Engine, lane: u64) -> u64 {
    let row: Option<Bytes> = engine
        .snapshot()
        .unwrap()
        .get(Space::Meta, &lane.to_be_bytes())
        .unwrap();
    row.map_or(0, |row| {
        u64::from_be_bytes(row.as_ref().try_into().unwrap())
    })
}

/// An engine whose writes wait to be let through, one by one; what is told of each, and what lets it through.
fn gate() -> (
    Arc<RecordingEngine>,
    GroupCommit,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (entered, inside) = mpsc::channel();
    let (pass, passes) = mpsc::channel();
    let recording = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let turn = Mutex::new((entered, passes));
    let wait = move |call: Call<'_>| {
        if matches!(call, Call::Write(_)) {
            let (entered, passes) = &*turn.lock();
            entered.send(()).unwrap();
            passes.recv().unwrap();
        }
    };
    let gate = HookedEngine::new(recording.clone(), wait);
    (recording, GroupCommit::new(Arc::new(gate)), inside, pass)
}

#[test]
fn what_gathers_during_a_write_is_written_at_once() {
    let (below, group, inside, pass) = gate();
    thread::scope(|scope| {
        scope.spawn(|| {
            group
                .write(Lane(0), step(0, 0), Durability::Durable)
                .unwrap()
        });
        inside.recv().unwrap();
        // Seven lanes and a second batch of the first one, all while the first write is held up.
        for lane in 0..8 {
            let ticket = group.reserve(Lane(lane));
            let group = &group;
            scope.spawn(move || {
                group
                    .commit(
                        ticket,
                        step(lane, u64::from(lane == 0)),
                        Durability::Durable,
                    )
                    .unwrap();
            });
        }
        while group.waiting() < 8 {
            thread::yield_now();
        }
        pass.send(()).unwrap();
        pass.send(()).unwrap();
    });
    let tally = below.tally();
    assert_eq!((tally.writes, tally.durable_writes), (2, 2));
    assert_eq!(value(&*below, 0), 2);
    (1..8).for_each(|lane| assert_eq!(value(&*below, lane), 1));
}

#[test]
fn lanes_keep_their_order_among_many_threads() {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let group = GroupCommit::new(Arc::clone(&engine) as Arc<dyn Engine>);
    // The state that a database's lock protects: how far its lane is staged.
    let staged: Vec<Mutex<u64>> = (0..3).map(|_| Mutex::new(0)).collect();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (group, staged, done) = (&group, &staged, &done);
            scope.spawn(move || {
                for n in 0..100 {
                    let lane = (worker + n) % 3;
                    let (ticket, batch) = {
                        let mut from = staged[lane as usize].lock();
                        let batch = step(lane, *from);
                        *from += 1;
                        (group.reserve(Lane(lane)), batch)
                    };
                    if n % 7 == 0 {
                        thread::yield_now();
                    }
                    group.commit(ticket, batch, Durability::Durable).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 800);
    assert_eq!((0..3).map(|lane| value(&*engine, lane)).sum::<u64>(), 800);
    assert!(engine.tally().writes <= 800);
}

#[test]
fn an_early_batch_waits_for_its_predecessor() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let group = GroupCommit::new(Arc::clone(&engine));
    let (first, second) = (group.reserve(Lane(1)), group.reserve(Lane(1)));
    thread::scope(|scope| {
        let late = scope.spawn(|| group.commit(second, step(1, 1), Durability::Durable));
        while group.waiting() < 1 {
            thread::yield_now();
        }
        // Another lane is not held up.
        group
            .write(Lane(2), step(2, 0), Durability::Durable)
            .unwrap();
        assert_eq!(value(&*engine, 1), 0);
        group
            .commit(first, step(1, 0), Durability::Durable)
            .unwrap();
        late.join().unwrap().unwrap();
    });
    assert_eq!((value(&*engine, 1), value(&*engine, 2)), (2, 1));
}

#[test]
fn a_refusal_concerns_its_batch_alone() {
    let (below, group, inside, pass) = gate();
    thread::scope(|scope| {
        scope.spawn(|| {
            group
                .write(Lane(0), step(0, 0), Durability::Durable)
                .unwrap()
        });
        inside.recv().unwrap();
        let good = scope.spawn(|| group.write(Lane(1), step(1, 0), Durability::Durable));
        let bad = scope.spawn(|| group.write(Lane(2), step(2, 7), Durability::Durable));
        while group.waiting() < 2 {
            thread::yield_now();
        }
        (0..4).for_each(|_| pass.send(()).unwrap());
        good.join().unwrap().unwrap();
        assert!(matches!(
            bad.join().unwrap(),
            Err(EngineError::PreconditionFailed { .. })
        ));
    });
    assert_eq!((value(&*below, 1), value(&*below, 2)), (1, 0));
    (0..1).for_each(|_| pass.send(()).unwrap());
    group
        .write(Lane(2), step(2, 0), Durability::Durable)
        .unwrap();
}

#[test]
fn what_was_staged_on_a_refused_batch_is_refused_even_where_it_would_fit() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let group = GroupCommit::new(Arc::clone(&engine));
    let commit = |n| group.commit(group.reserve(Lane(1)), step(1, n), Durability::Durable);
    // Somebody else has been faster, and what they wrote looks like what was to be written here.
    group
        .write(Lane(2), step(1, 0), Durability::Durable)
        .unwrap();
    for n in [0, 1, 1] {
        let refused = commit(n).unwrap_err();
        assert!(matches!(refused, EngineError::PreconditionFailed { .. }));
    }
    assert_eq!(value(&*engine, 1), 1);
    // Who staged on nothing is not concerned, nor are other lanes.
    group
        .write(Lane(1), step(3, 0), Durability::Durable)
        .unwrap();
    group
        .commit(group.reserve(Lane(2)), step(2, 0), Durability::Durable)
        .unwrap();
    group.renew(Lane(1)).unwrap();
    commit(1).unwrap();
    assert_eq!(value(&*engine, 1), 2);
}

#[test]
fn a_group_with_a_refused_batch_ends_as_if_written_one_by_one() {
    let (below, group, inside, pass) = gate();
    thread::scope(|scope| {
        let group = &group;
        scope.spawn(|| {
            group
                .write(Lane(0), step(0, 0), Durability::Durable)
                .unwrap()
        });
        inside.recv().unwrap();
        // All in one group: the second of the lane would fit, and the one behind the renewal does.
        let submit = |expected| {
            let ticket = group.reserve(Lane(1));
            scope.spawn(move || group.commit(ticket, step(0, expected), Durability::Durable))
        };
        let (bad, staged_on_it) = (submit(7), submit(1));
        while group.waiting() < 2 {
            thread::yield_now();
        }
        let renewed = scope.spawn(|| group.renew(Lane(1)));
        while group.waiting() < 3 {
            thread::yield_now();
        }
        let good = submit(1);
        while group.waiting() < 4 {
            thread::yield_now();
        }
        // The first write, the group as one, and those of it that are not refused here.
        (0..4).for_each(|_| pass.send(()).unwrap());
        for refused in [bad, staged_on_it] {
            let refused = refused.join().unwrap().unwrap_err();
            assert!(matches!(refused, EngineError::PreconditionFailed { .. }));
        }
        renewed.join().unwrap().unwrap();
        good.join().unwrap().unwrap();
    });
    assert_eq!(value(&*below, 0), 2);
}

#[test]
fn a_dropped_ticket_gives_way_and_its_successors_are_refused() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let group = GroupCommit::new(Arc::clone(&engine));
    let (first, second) = (group.reserve(Lane(1)), group.reserve(Lane(1)));
    thread::scope(|scope| {
        let late = scope.spawn(|| group.commit(second, step(1, 1), Durability::Durable));
        while group.waiting() < 1 {
            thread::yield_now();
        }
        drop(first);
        assert!(matches!(
            late.join().unwrap(),
            Err(EngineError::PreconditionFailed { .. })
        ));
    });
    group
        .write(Lane(1), step(1, 0), Durability::Durable)
        .unwrap();
    assert_eq!(value(&*engine, 1), 1);
}

#[test]
fn a_failure_ends_it_for_everyone() {
    let engine = Arc::new(FaultyEngine::fail_at(2, Fault::Before));
    let group = GroupCommit::new(Arc::clone(&engine) as Arc<dyn Engine>);
    for n in 0..2 {
        group
            .write(Lane(0), step(0, n), Durability::Durable)
            .unwrap();
    }
    let first = group
        .write(Lane(0), step(0, 2), Durability::Durable)
        .unwrap_err();
    assert!(!first.is_refusal());
    let writes = engine.writes();
    for lane in [0, 5] {
        assert_eq!(
            group
                .write(Lane(lane), step(lane, 0), Durability::Durable)
                .unwrap_err()
                .to_string(),
            first.to_string()
        );
    }
    assert!(group.flush().is_err());
    assert_eq!(engine.writes(), writes, "the engine is not asked again");
    assert_eq!(value(&engine.crash(0), 0), 2);
}

#[test]
fn damage_that_one_meets_keeps_nobody_else_from_writing() {
    // It finds a damaged place before it changes anything.
    let meet_damage = |call: Call<'_>| match call {
        Call::Write(batch) if writes(batch, 7) => Err(EngineError::corrupt("a block")),
        _ => Ok(()),
    };
    let engine = Arc::new(HookedEngine::failing(
        Arc::new(MemoryEngine::new()),
        meet_damage,
    ));
    let group = Arc::new(GroupCommit::new(Arc::clone(&engine) as Arc<dyn Engine>));
    let damaged = |written| {
        assert!(
            matches!(written, Err(EngineError::Corrupt { .. })),
            "{written:?}"
        )
    };
    let commit = |batch| group.commit(group.reserve(Lane(7)), batch, Durability::Durable);
    damaged(commit(step(7, 0)));
    // What was staged on top of it is not written, whatever it touches.
    damaged(commit(step(8, 0)));
    group.renew(Lane(7)).unwrap();
    commit(step(8, 0)).unwrap();
    // Beside others, which it may be joined with.
    thread::scope(|scope| {
        for lane in (0..12).filter(|lane| *lane != 8) {
            let group = Arc::clone(&group);
            scope.spawn(move || {
                for n in 0..20 {
                    let written = group.write(Lane(lane), step(lane, n), Durability::Durable);
                    match lane {
                        7 => damaged(written),
                        _ => written.unwrap(),
                    }
                }
            });
        }
    });
    group.flush().unwrap();
    assert_eq!((value(&*engine, 3), value(&*engine, 7)), (20, 0));
}

#[test]
fn relaxed_batches_are_visible_at_once_and_durable_at_the_flush() {
    let engine = Arc::new(FaultyEngine::new());
    let group = GroupCommit::new(Arc::clone(&engine) as Arc<dyn Engine>);
    assert!(!group.is_unflushed());
    group
        .write(Lane(0), step(0, 0), Durability::Relaxed)
        .unwrap();
    assert!(group.is_unflushed());
    assert_eq!((value(&*engine, 0), value(&engine.crash(0), 0)), (1, 0));
    group.flush().unwrap();
    assert!(!group.is_unflushed());
    assert_eq!(value(&engine.crash(0), 0), 1);
    group
        .write(Lane(0), step(0, 1), Durability::Relaxed)
        .unwrap();
    group
        .write(Lane(0), step(0, 2), Durability::Durable)
        .unwrap();
    // A durable write takes the relaxed ones before it along.
    assert!(!group.is_unflushed());
    assert_eq!(value(&engine.crash(0), 0), 3);
}

#[test]
fn a_panicking_engine_leaves_nobody_waiting() {
    let (_below, group, _inside, pass) = gate();
    // Without anybody to let it through, the gate panics.
    drop(pass);
    for _ in 0..2 {
        let failed = group.write(Lane(0), step(0, 0), Durability::Durable);
        assert!(matches!(failed, Err(EngineError::Poisoned { .. })));
    }
}
