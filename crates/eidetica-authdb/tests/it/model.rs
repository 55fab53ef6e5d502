//! `Any` against a map, `Immutable` against one, with reopening, rewinding and pruning in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_authdb::{
    Any, Changes, Error, Immutable, MemoryDisk, Operation, Operations, Options, Sets,
};
use eidetica_mmr::{Location, Mmr, leaf_hash};
use proptest::prelude::*;

use crate::support::{Dice, Model, change, check, open, open_immutable, small};

/// All operations, for a database that was never pruned.
fn all_operations(database: &Any) -> Vec<Vec<u8>> {
    let end = database.leaves().0;
    (0..end)
        .map(|at| database.operation(Location(at)).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_is_a_map(seed: u64, keys in 1u64..60) {
        let disk = MemoryDisk::new();
        let mut database = open(&disk);
        let mut model = Model::new();
        let mut committed = model.clone();
        let mut dice = Dice(seed);
        for _ in 0..60 {
            change(&mut database, &mut model, &mut dice, keys);
            for key in (0..keys).map(|key| format!("key {key}").into_bytes()) {
                assert_eq!(database.get(&key).unwrap().as_ref(), model.get(&key));
            }
            match dice.roll(8) {
                0 => {
                    database.rewind().unwrap();
                    model = committed.clone();
                }
                1 => {
                    database.commit(Some(b"noted")).unwrap();
                    committed = model.clone();
                    let (at, metadata) = database.last_commit().unwrap().unwrap();
                    prop_assert_eq!(at.0 + 1, database.leaves().0);
                    prop_assert_eq!(metadata.as_deref(), Some(&b"noted"[..]));
                    let root = database.root();
                    drop(database);
                    database = open(&disk);
                    prop_assert_eq!(database.root(), root);
                }
                2 => {
                    database.commit(None).unwrap();
                    committed = model.clone();
                    let boundary = database.boundary().0;
                    let span = database.floor().0.saturating_sub(boundary);
                    database.prune(Location(boundary + dice.roll(span + 1))).unwrap();
                }
                _ => {
                    database.commit(None).unwrap();
                    committed = model.clone();
                }
            }
            check(&database, &model, keys);
        }
    }

    #[test]
    fn the_root_is_that_of_the_operations_and_of_nothing_else(seed: u64) {
        let disk = MemoryDisk::new();
        let mut database = open(&disk);
        let mut model = Model::new();
        let mut dice = Dice(seed);
        for _ in 0..20 {
            change(&mut database, &mut model, &mut dice, 9);
            database.commit(None).unwrap();
        }
        let mut mmr = Mmr::new();
        for operation in all_operations(&database) {
            mmr.append(leaf_hash(&operation)).unwrap();
        }
        prop_assert_eq!(mmr.root(), database.root());
        // A replay of the operations alone gives the keys.
        let mut replayed = BTreeMap::new();
        for bytes in all_operations(&database) {
            match Operation::decode(&bytes).unwrap() {
                Operation::Update { key, value } => drop(replayed.insert(key.to_vec(), value.to_vec())),
                Operation::Delete { key } => drop(replayed.remove(key)),
                _ => {}
            }
        }
        prop_assert_eq!(replayed, model);
    }

    #[test]
    fn the_order_within_a_batch_does_not_matter(seed: u64, mut picks in proptest::collection::btree_map(0u64..50, any::<u8>(), 1..30)) {
        let (first, second) = (MemoryDisk::new(), MemoryDisk::new());
        // Different seeds and seals: the root knows nothing of them.
        let mut one = open(&first);
        let mut two = Any::open(Arc::new(second), Options::new([77; 32])).unwrap();
        let mut dice = Dice(seed);
        for _ in 0..5 {
            let mut changes: Vec<_> = picks.iter().collect();
            for (key, value) in &changes {
                one.update(&key.to_le_bytes(), &[**value]).unwrap();
            }
            for at in (1..changes.len()).rev() {
                changes.swap(at, dice.roll(at as u64 + 1) as usize);
            }
            for (key, value) in &changes {
                // What is overwritten within a batch leaves no trace.
                two.delete(&key.to_le_bytes()).unwrap();
                two.update(&key.to_le_bytes(), &[**value]).unwrap();
            }
            one.commit(None).unwrap();
            two.commit(None).unwrap();
            prop_assert_eq!(one.root(), two.root());
            picks = picks.into_iter().map(|(key, value)| (key + dice.roll(3), value)).collect();
        }
    }

    #[test]
    fn immutable_keys_are_set_once(seed: u64) {
        let disk = MemoryDisk::new();
        let mut database = open_immutable(&disk);
        let mut model = Model::new();
        let mut locations = BTreeMap::new();
        let mut dice = Dice(seed);
        for _ in 0..30 {
            for _ in 0..dice.roll(10) {
                let (key, value) = (dice.key(200), dice.value());
                let result = database.set(&key, &value);
                match model.contains_key(&key) {
                    true => assert!(matches!(result, Err(Error::AlreadySet { .. }))),
                    false => {
                        result.unwrap();
                        model.insert(key, value);
                    }
                }
            }
            database.commit(None).unwrap();
            for at in database.boundary().0..database.leaves().0 {
                if let Operation::Set { key, .. } = Operation::decode(&database.operation(Location(at)).unwrap()).unwrap() {
                    locations.insert(key.to_vec(), at);
                }
            }
            if dice.roll(4) == 0 {
                let span = database.leaves().0 - database.boundary().0;
                database.prune(Location(database.boundary().0 + dice.roll(span.max(1)))).ok();
            }
            if dice.roll(3) == 0 {
                let root = database.root();
                drop(database);
                database = open_immutable(&disk);
                prop_assert_eq!(database.root(), root);
            }
            for (key, value) in &model {
                let found = database.get(key);
                if locations[key] < database.boundary().0 {
                    assert!(matches!(found, Err(Error::Pruned { .. })));
                } else {
                    assert_eq!(found.unwrap().as_ref(), Some(value));
                }
            }
            prop_assert_eq!(database.get(b"never").unwrap(), None);
        }
    }
}

#[test]
fn a_batch_knows_its_root_and_applies_to_its_state_only() {
    let disk = MemoryDisk::new();
    let mut database = open(&disk);
    let mut changes = Changes::new();
    changes.update(b"a", b"1").unwrap();
    changes.update(b"b", b"2").unwrap();
    let prepared = database.prepare(&changes, None).unwrap();
    let stale = database.prepare(&changes, None).unwrap();
    let (root, leaves) = (prepared.root(), prepared.leaves());
    assert_eq!(prepared.operations().len(), 3);
    assert_eq!(
        (database.leaves().0, database.get(b"a").unwrap()),
        (0, None)
    );
    database.apply(prepared).unwrap();
    assert_eq!((database.root(), database.leaves()), (root, leaves));
    assert_eq!(database.get(b"a").unwrap().unwrap(), b"1");
    assert_eq!(database.committed().0, 0);
    assert!(matches!(database.apply(stale), Err(Error::Stale)));
    // Not committed: gone after reopening, and after rewinding.
    assert_eq!(open(&disk.copy()).leaves().0, 0);
    let empty = open(&MemoryDisk::new()).root();
    database.rewind().unwrap();
    assert_eq!(
        (database.root(), database.get(b"a").unwrap()),
        (empty, None)
    );
    let again = database.prepare(&changes, None).unwrap();
    database.apply(again).unwrap();
    database.commit(None).unwrap();
    assert_eq!(open(&disk).root(), root);
}

#[test]
fn a_batch_of_sets_knows_its_root() {
    let mut database = open_immutable(&MemoryDisk::new());
    let mut sets = Sets::new();
    sets.set(b"a", b"1").unwrap();
    assert!(matches!(
        sets.set(b"a", b"1"),
        Err(Error::AlreadySet { .. })
    ));
    let prepared = database.prepare(&sets, Some(b"m")).unwrap();
    let root = prepared.root();
    database.apply(prepared).unwrap();
    assert_eq!(database.root(), root);
    assert!(matches!(
        database.prepare(&sets, None),
        Err(Error::AlreadySet { at: Location(0) })
    ));
    database.rewind().unwrap();
    assert_eq!(database.leaves().0, 0);
    database.set(b"a", b"2").unwrap();
    assert!(matches!(
        database.set(b"a", b"2"),
        Err(Error::AlreadySet { .. })
    ));
    database.commit(None).unwrap();
    assert_eq!(database.get(b"a").unwrap().unwrap(), b"2");
}

#[test]
fn the_floor_keeps_what_is_dead_below_what_is_alive() {
    let mut database = open(&MemoryDisk::new());
    for round in 0u64..400 {
        for key in 0u64..20 {
            database
                .update(&[((key * 7 + round) % 50) as u8], &round.to_le_bytes())
                .unwrap();
        }
        database.commit(None).unwrap();
        let span = database.leaves().0 - database.floor().0;
        assert!(span <= 3 * database.active() + 128, "{round}: {span}");
        database.prune(database.floor()).unwrap();
    }
    assert_eq!(database.active(), 50);
    assert!(matches!(
        database.prune(Location(database.floor().0 + 1)),
        Err(Error::NotInactive { .. })
    ));
}

#[test]
fn fresh_keys_cost_no_moves() {
    let mut database = open(&MemoryDisk::new());
    for key in 0u64..1000 {
        database.update(&key.to_le_bytes(), b"value").unwrap();
        if key % 100 == 99 {
            database.commit(None).unwrap();
        }
    }
    assert_eq!(database.leaves().0, 1010);
    assert_eq!(database.floor(), Location(0));
}

#[test]
fn a_database_is_of_one_type() {
    let disk = MemoryDisk::new();
    drop(open(&disk));
    let other = Immutable::open(Arc::new(disk), small());
    assert!(matches!(other, Err(Error::OtherKind)));
}

#[test]
fn a_commit_of_nothing_adds_nothing() {
    let disk = MemoryDisk::new();
    let mut database = open(&disk);
    database.commit(None).unwrap();
    assert_eq!(database.leaves().0, 0);
    assert_eq!(database.last_commit().unwrap(), None);
    database.commit(Some(b"")).unwrap();
    assert_eq!(database.leaves().0, 1);
    assert_eq!(
        open(&disk).last_commit().unwrap(),
        Some((Location(0), Some(Vec::new())))
    );
    let parsed = Operations::parse(database.operation(Location(0)).unwrap(), Location(0), 1);
    assert_eq!(parsed.unwrap().len(), 1);
}
