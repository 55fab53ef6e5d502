//! Shared pieces: small databases, a generator of changes, whole checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_authdb::{Any, Disk, Immutable, Options};
use eidetica_mmr::{Location, verify_range};

pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Options under which tails are sealed after a few operations.
pub(crate) fn small() -> Options {
    Options {
        tail_operations: 24,
        tail_bytes: 2000,
        cache_bytes: 1 << 20,
        ..Options::new([9; 32])
    }
}

pub(crate) fn open(disk: &(impl Disk + Clone)) -> Any {
    Any::open(Arc::new(disk.clone()), small()).unwrap()
}

pub(crate) fn open_immutable(disk: &(impl Disk + Clone)) -> Immutable {
    Immutable::open(Arc::new(disk.clone()), small()).unwrap()
}

/// A small generator: tests print its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(crate) fn key(&mut self, keys: u64) -> Vec<u8> {
        format!("key {}", self.roll(keys)).into_bytes()
    }

    pub(crate) fn value(&mut self) -> Vec<u8> {
        let length = [0, 1, 20, 20, 20, 200][self.roll(6) as usize];
        vec![self.roll(256) as u8; length]
    }
}

/// Stages some random changes in a database and in a model.
pub(crate) fn change(database: &mut Any, model: &mut Model, dice: &mut Dice, keys: u64) {
    for _ in 0..dice.roll(12) {
        let key = dice.key(keys);
        if dice.roll(4) == 0 {
            database.delete(&key).unwrap();
            model.remove(&key);
        } else {
            let value = dice.value();
            database.update(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
}

/// Compares every key, and every operation with the root.
pub(crate) fn check(database: &Any, model: &Model, keys: u64) {
    assert_eq!(database.active(), model.len() as u64);
    for key in (0..keys).map(|key| format!("key {key}").into_bytes()) {
        assert_eq!(database.get(&key).unwrap().as_ref(), model.get(&key));
    }
    check_log(database);
}

pub(crate) fn check_log(database: &Any) {
    let (mut next, end) = (database.boundary(), database.leaves().next());
    while next < end {
        let until = Location(end.0.min(next.0 + 17));
        let shown = database.proof(next..until, usize::MAX).unwrap();
        let operations: Vec<&[u8]> = shown.operations.iter().collect();
        assert_eq!(operations.len() as u64, until.0 - next.0);
        verify_range(&database.root(), &shown.proof, next, &operations).unwrap();
        next = until;
    }
}
