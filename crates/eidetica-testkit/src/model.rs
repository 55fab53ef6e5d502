//! Random operations on an engine and on a plain map, compared after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, KeyRange, ScanLimit, Snapshot, Space,
};

use crate::{EngineSite, Rng};

type Rows = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

const OPERATIONS: usize = 300;

/// Few keys, so that operations meet; with the bytes at which orders and prefixes go wrong.
const BYTES: [u8; 5] = [0, 1, 0x7F, 0x80, 0xFF];

/// An engine behaves like a sorted map under random batches, scans, snapshots and reopening.
pub fn random_operations_match_the_model(site: &impl EngineSite) {
    let mut rng = Rng::new(0x000E_1DE7);
    let mut engine = site.open().unwrap();
    let persistent = engine.info().persistent;
    let mut rows = Rows::new();
    let mut held: Vec<(Box<dyn Snapshot>, Rows)> = Vec::new();
    for _ in 0..OPERATIONS {
        match rng.below(12) {
            0 if persistent => {
                held.clear();
                engine.close().unwrap();
                drop(engine);
                engine = site.open().unwrap();
            }
            1 => engine.flush().unwrap(),
            2 => held.push((engine.snapshot().unwrap(), rows.clone())),
            3 if !held.is_empty() => drop(held.remove(rng.below(held.len()))),
            _ => write(&engine, &mut rows, &mut rng),
        }
        let snapshot = engine.snapshot().unwrap();
        compare(&*snapshot, &rows, &mut rng);
        for (snapshot, rows) in &held {
            compare(&**snapshot, rows, &mut rng);
        }
    }
}

/// Writes a random batch to both, unless an expectation in it fails on the map.
fn write(engine: &Arc<dyn Engine>, rows: &mut Rows, rng: &mut Rng) {
    let mut batch = Batch::new();
    let mut after = rows.clone();
    let mut holds = true;
    for _ in 0..=rng.below(20) {
        let (space, key) = (*rng.pick(&Space::ALL[..3]), key(rng));
        let row = (space, key.clone());
        match rng.below(10) {
            0 => {
                let range = range(rng);
                batch.delete_range(space, &range);
                after.retain(|(at, key), _| *at != space || !range.contains(key));
            }
            1 | 2 => {
                batch.delete(space, &key);
                after.remove(&row);
            }
            3 | 4 => {
                let wrong = rng.one_in(10).then(|| vec![9]);
                let value = if wrong.is_some() {
                    wrong.as_ref()
                } else {
                    after.get(&row)
                };
                holds &= value == after.get(&row);
                batch.expect(space, &key, value.map(Vec::as_slice));
            }
            _ => {
                let len = rng.below(40);
                let value = rng.bytes(len);
                batch.put(space, &key, &value);
                after.insert(row, value);
            }
        }
    }
    let durability = *rng.pick(&[Durability::Durable, Durability::Relaxed]);
    match engine.write(&batch, durability) {
        Ok(()) => {
            assert!(holds, "an expectation was not checked");
            *rows = after;
        }
        Err(EngineError::PreconditionFailed { .. }) => assert!(!holds, "an expectation holds"),
        Err(error) => panic!("{error}"),
    }
}

/// One random scan through small pages, and a few gets.
fn compare(snapshot: &dyn Snapshot, rows: &Rows, rng: &mut Rng) {
    let space = *rng.pick(&Space::ALL[..3]);
    let direction = *rng.pick(&[Direction::Forward, Direction::Reverse]);
    let wanted = range(rng);
    let mut expected: Vec<_> = rows
        .iter()
        .filter(|((at, key), _)| *at == space && wanted.contains(key))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    if direction == Direction::Reverse {
        expected.reverse();
    }
    let limit = ScanLimit {
        rows: rng.below(6),
        bytes: rng.below(200),
    };
    let mut found = Vec::new();
    let mut rest = Some(wanted.clone());
    while let Some(range) = rest {
        let page = snapshot.scan(space, &range, direction, limit).unwrap();
        assert!(page.rows.len() <= limit.rows.max(1));
        rest = page.rest(&range, direction);
        found.extend(
            page.rows
                .into_iter()
                .map(|row| (row.key.to_vec(), row.value.to_vec())),
        );
    }
    assert_eq!(found, expected, "{space} {wanted:?} {direction:?}");

    let keys: Vec<_> = (0..3).map(|_| key(rng)).collect();
    let borrowed: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    let values = snapshot.multi_get(space, &borrowed).unwrap();
    for (key, value) in keys.into_iter().zip(values) {
        assert_eq!(snapshot.get(space, &key).unwrap(), value);
        assert_eq!(value.as_deref(), rows.get(&(space, key)).map(Vec::as_slice));
    }
}

fn key(rng: &mut Rng) -> Vec<u8> {
    (0..=rng.below(3)).map(|_| *rng.pick(&BYTES)).collect()
}

fn range(rng: &mut Rng) -> KeyRange {
    match rng.below(5) {
        0 => KeyRange::all(),
        1 => KeyRange::prefix(key(rng)),
        2 => KeyRange::starting_at(key(rng)),
        _ => KeyRange::new(key(rng), key(rng)),
    }
}
