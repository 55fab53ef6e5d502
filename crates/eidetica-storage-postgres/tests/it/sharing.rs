//! Several engines on one schema, as several processes have them.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use eidetica_storage::{Batch, Durability, Engine, EngineError, KeyRange, Snapshot, Space};

use crate::{fresh, open};

const PATIENCE: Duration = Duration::from_secs(30);

fn version(snapshot: &dyn Snapshot) -> u64 {
    let stored = snapshot.get(Space::Meta, b"version").unwrap();
    stored.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

/// Appends a row under the next number, as the entry log does. Says whether nobody was faster.
fn append(engine: &dyn Engine, who: u8) -> bool {
    let before = version(&*engine.snapshot().unwrap());
    let mut batch = Batch::new();
    let stored = before.to_be_bytes();
    batch.expect(Space::Meta, b"version", (before > 0).then_some(&stored));
    batch.put(Space::Meta, b"version", &(before + 1).to_be_bytes());
    batch.put(Space::Log, &before.to_be_bytes(), &[who]);
    if before % 10 == 9 {
        batch.delete_range(Space::Local, &KeyRange::new(vec![0], before.to_be_bytes()));
    }
    batch.put(Space::Local, &before.to_be_bytes(), &[who]);
    match engine.write(&batch, Durability::Durable) {
        Ok(()) => true,
        Err(EngineError::PreconditionFailed { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn numbers_are_handed_out_once_and_without_gaps() {
    const ENGINES: u8 = 4;
    const EACH: u64 = 50;
    let url = fresh();
    thread::scope(|scope| {
        for who in 0..ENGINES {
            let url = &url;
            scope.spawn(move || {
                // They make the schema at the same time as well.
                let engine = open(url).unwrap();
                for _ in 0..EACH {
                    while !append(&*engine, who) {}
                }
            });
        }
    });
    let engine = open(&url).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let mut of = [0; ENGINES as usize];
    let mut next = 0_u64;
    let flow: Result<ControlFlow<()>, EngineError> =
        snapshot.for_each(Space::Log, &KeyRange::all(), Default::default(), |row| {
            assert_eq!(row.key[..], next.to_be_bytes());
            of[usize::from(row.value[0])] += 1;
            next += 1;
            Ok(ControlFlow::Continue(()))
        });
    assert!(flow.unwrap().is_continue());
    assert_eq!(of, [EACH; ENGINES as usize]);
    assert_eq!(version(&*snapshot), next);
}

#[test]
fn one_of_many_makes_a_row_that_was_absent() {
    const ENGINES: usize = 4;
    let url = fresh();
    let engines: Vec<_> = (0..ENGINES).map(|_| open(&url).unwrap()).collect();
    for round in 0..20_u8 {
        let begun = Barrier::new(ENGINES);
        let made = thread::scope(|scope| {
            let makers: Vec<_> = engines
                .iter()
                .map(|engine| {
                    scope.spawn(|| {
                        let mut batch = Batch::new();
                        batch.expect(Space::Meta, &[round], None);
                        batch.put(Space::Meta, &[round], b"made");
                        begun.wait();
                        engine.write(&batch, Durability::Relaxed).is_ok()
                    })
                })
                .collect();
            let made = makers.into_iter().map(|maker| maker.join().unwrap());
            made.filter(|made| *made).count()
        });
        assert_eq!(made, 1);
    }
}

#[test]
fn batches_that_overlap_in_any_order_do_not_lock_each_other_out() {
    let url = fresh();
    thread::scope(|scope| {
        for who in 0..4_u8 {
            let url = &url;
            scope.spawn(move || {
                let engine = open(url).unwrap();
                for round in 0..40_u8 {
                    let mut batch = Batch::new();
                    for step in 0..20_u8 {
                        let key = [(step.wrapping_mul(who * 2 + 1)).wrapping_add(round) % 20];
                        match (step + round + who) % 5 {
                            0 => batch.delete(Space::State, &key),
                            1 => batch.delete_range(Space::State, &KeyRange::prefix(key)),
                            _ => batch.put(Space::State, &key, &[who]),
                        }
                    }
                    engine.write(&batch, Durability::Relaxed).unwrap();
                }
            });
        }
    });
}

#[test]
fn others_hear_of_writes() {
    let url = fresh();
    let (writer, reader) = (open(&url).unwrap(), open(&url).unwrap());
    let (heard, hints) = mpsc::channel();
    let weak = Arc::downgrade(&reader);
    let _watch = reader.watch(Arc::new(move || {
        let Some(reader) = weak.upgrade() else {
            return;
        };
        let seen = version(&*reader.snapshot().unwrap());
        heard.send(seen).ok();
    }));
    assert!(append(&*writer, 0));
    assert_eq!(hints.recv_timeout(PATIENCE).unwrap(), 1);
    for _ in 0..20 {
        assert!(append(&*writer, 0));
    }
    while hints.recv_timeout(PATIENCE).unwrap() < 21 {}
}
