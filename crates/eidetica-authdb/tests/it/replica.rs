//! Filling a database with proven operations: any order, restarts, wrong ones, going on.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_authdb::{
    Any, Error, Immutable, Kind, MemoryDisk, Operation, OperationError, Operations, Replica,
};
use eidetica_mmr::{Leaves, Location, leaf_hashes, verify_range_pinned};
use proptest::prelude::*;

use crate::faulty::FaultyDisk;
use crate::support::{Dice, Model, change, check, open, open_immutable, small};

const KEYS: u64 = 15;

/// A database with a history.
pub(crate) fn source(seed: u64, rounds: u64) -> Any {
    let mut database = open(&MemoryDisk::new());
    let (mut model, mut dice) = (Model::new(), Dice(seed));
    for _ in 0..rounds {
        change(&mut database, &mut model, &mut dice, KEYS);
        database.commit(Some(b"c")).unwrap();
    }
    database
}

fn same(left: &Any, right: &Any) {
    assert_eq!(
        (left.root(), left.active(), left.floor()),
        (right.root(), right.active(), right.floor())
    );
    for key in (0..KEYS).map(|key| format!("key {key}").into_bytes()) {
        assert_eq!(left.get(&key).unwrap(), right.get(&key).unwrap());
    }
}

/// Brings a replica to the present state of a source, in ranges of a size, the later ones first.
pub(crate) fn fill(replica: &mut Replica, source: &Any, size: u64) -> Result<(), Error> {
    let (root, leaves, lower) = (source.root(), source.leaves(), source.floor());
    if replica.leaves().next() < lower || !replica.is_syncing() && replica.leaves() == Leaves(0) {
        let shown = source
            .proof(lower..Location(lower.0 + 1), usize::MAX)
            .unwrap();
        let operations: Vec<&[u8]> = shown.operations.iter().collect();
        let hashes = leaf_hashes(&operations, 1);
        let pinned = verify_range_pinned(&root, &shown.proof, lower, &hashes).unwrap();
        replica.reset(pinned)?;
    }
    let mut ranges = Vec::new();
    for missing in replica.missing(leaves) {
        let starts = (missing.start.0..missing.end.0).step_by(size as usize);
        ranges
            .extend(starts.map(|start| Location(start)..Location(missing.end.0.min(start + size))));
    }
    for pair in ranges.chunks(2) {
        for range in pair.iter().rev() {
            let shown = source.proof(range.clone(), usize::MAX).unwrap();
            replica.apply(range.start, shown.operations)?;
        }
        replica.sync()?;
    }
    replica.finish(root, leaves, lower)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn ranges_in_any_order_make_the_same_database(seed: u64, size in 1u64..30, restart in 0usize..20) {
        let source = source(seed, 40);
        let disk = MemoryDisk::new();
        let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
        let mut dice = Dice(seed);
        let end = source.leaves();
        let mut ranges: Vec<_> = (0..end.0).step_by(size as usize).map(|start| start..end.0.min(start + size)).collect();
        for at in (1..ranges.len()).rev() {
            ranges.swap(at, dice.roll(at as u64 + 1) as usize);
        }
        for (nth, range) in ranges.iter().enumerate() {
            let shown = source.proof(Location(range.start)..Location(range.end), usize::MAX).unwrap();
            replica.apply(Location(range.start), shown.operations).unwrap();
            if nth == restart {
                let before = replica.missing(end);
                drop(replica);
                assert!(matches!(Any::open(Arc::new(disk.clone()), small()), Err(Error::Unfinished)));
                replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
                prop_assert_eq!(replica.missing(end), before);
            }
        }
        prop_assert_eq!(replica.missing(end), []);
        replica.finish(source.root(), end, source.floor()).unwrap();
        prop_assert_eq!(replica.boundary(), source.floor());
        let mut copy = replica.into_any().unwrap();
        same(&copy, &source);
        crate::support::check_log(&copy);
        // It is a database like any other, also after opening.
        copy.update(b"key 0", b"mine").unwrap();
        copy.commit(None).unwrap();
        let root = copy.root();
        drop(copy);
        prop_assert_eq!(open(&disk).root(), root);
    }

    #[test]
    fn a_replica_follows_its_source(seed: u64, size in 1u64..40) {
        let mut source = source(seed, 10);
        let mut dice = Dice(seed ^ 1);
        let mut model = Model::new();
        for key in (0..KEYS).map(|key| format!("key {key}").into_bytes()) {
            if let Some(value) = source.get(&key).unwrap() {
                model.insert(key, value);
            }
        }
        let disk = MemoryDisk::new();
        for _ in 0..6 {
            let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
            fill(&mut replica, &source, size).unwrap();
            let copy = replica.into_any().unwrap();
            check(&copy, &model, KEYS);
            same(&copy, &source);
            // Sometimes so far that the replica must begin anew.
            for _ in 0..dice.roll(40) {
                change(&mut source, &mut model, &mut dice, KEYS);
                source.commit(None).unwrap();
            }
            source.prune(source.floor()).unwrap();
        }
    }
}

#[test]
fn a_target_that_does_not_fit_is_refused_and_changes_nothing() {
    let source = source(3, 20);
    let disk = MemoryDisk::new();
    let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
    let (root, leaves, floor) = (source.root(), source.leaves(), source.floor());
    assert!(matches!(
        replica.finish(root, leaves, floor),
        Err(Error::Target { .. })
    ));
    let all = source
        .proof(Location(0)..leaves.next(), usize::MAX)
        .unwrap()
        .operations;
    replica.apply(Location(0), all).unwrap();
    let other = source.root_at(Leaves(leaves.0 - 1)).unwrap();
    assert!(matches!(
        replica.finish(other, leaves, floor),
        Err(Error::WrongRoot { .. })
    ));
    let above = Location(floor.0 + 1);
    assert!(matches!(
        replica.finish(root, leaves, above),
        Err(Error::Target { .. })
    ));
    let fewer = Leaves(leaves.0 - 1);
    assert!(matches!(
        replica.finish(root, fewer, floor),
        Err(Error::Target { .. })
    ));
    assert!(replica.is_syncing());
    replica.finish(root, leaves, floor).unwrap();
    same(&replica.into_any().unwrap(), &source);
}

#[test]
fn a_target_within_a_batch_is_none() {
    let source = source(3, 20);
    let mut replica = Replica::open(Arc::new(MemoryDisk::new()), Kind::Any, small()).unwrap();
    let end = (0..source.leaves().0)
        .find(|at| source.operation(Location(*at)).unwrap()[0] >> 6 != 0)
        .unwrap();
    let leaves = Leaves(end + 1);
    let some = source
        .historical_proof(leaves, Location(0)..leaves.next(), usize::MAX)
        .unwrap();
    replica.apply(Location(0), some.operations).unwrap();
    let root = source.root_at(leaves).unwrap();
    assert!(matches!(
        replica.finish(root, leaves, Location(0)),
        Err(Error::Target { .. })
    ));
}

#[test]
fn operations_that_do_not_belong_are_refused() {
    let mut replica = Replica::open(Arc::new(MemoryDisk::new()), Kind::Any, small()).unwrap();
    let refused = |replica: &mut Replica, operation: Operation<'_>| {
        let mut operations = Operations::new();
        operations.push(&operation);
        match replica.apply(replica.leaves().next(), operations) {
            Err(Error::Operation { detail, .. }) => detail,
            other => panic!("{other:?}"),
        }
    };
    let set = Operation::Set {
        key: b"k",
        value: b"v",
    };
    assert_eq!(refused(&mut replica, set), OperationError::Kind);
    let beyond = Operation::Commit {
        floor: Location(1),
        active: 0,
        metadata: None,
    };
    assert_eq!(refused(&mut replica, beyond), OperationError::Floor);
    let counted = Operation::Commit {
        floor: Location(0),
        active: 1,
        metadata: None,
    };
    assert_eq!(refused(&mut replica, counted), OperationError::Active);
    let mut fine = Operations::new();
    fine.push(&Operation::Update {
        key: b"k",
        value: b"v",
    });
    fine.push(&Operation::Commit {
        floor: Location(1),
        active: 1,
        metadata: None,
    });
    replica.apply(Location(0), fine).unwrap();
    let sinks = Operation::Commit {
        floor: Location(0),
        active: 1,
        metadata: None,
    };
    assert_eq!(refused(&mut replica, sinks), OperationError::Floor);
}

#[test]
fn too_much_ahead_waits_for_what_is_missing() {
    let mut replica = Replica::open(Arc::new(MemoryDisk::new()), Kind::Any, small()).unwrap();
    let mut one = Operations::new();
    one.push(&Operation::Delete { key: b"k" });
    for nth in 0..eidetica_authdb::limits::AHEAD_RANGES as u64 {
        replica.apply(Location(1 + nth * 2), one.clone()).unwrap();
    }
    let more = replica.apply(Location(1 << 40), one.clone());
    assert!(matches!(more, Err(Error::TooFarAhead)));
    assert_eq!(
        replica.missing(Leaves(4)),
        [Location(0)..Location(1), Location(2)..Location(3)]
    );
    replica.apply(Location(0), one.clone()).unwrap();
    assert_eq!(replica.leaves(), Leaves(2));
    replica.apply(Location(1 << 40), one).unwrap();
}

#[test]
fn an_immutable_replica_becomes_the_same_database() {
    let mut source = open_immutable(&MemoryDisk::new());
    for key in 0u64..200 {
        source.set(&key.to_le_bytes(), &[key as u8; 9]).unwrap();
        if key % 7 == 6 {
            source.commit(None).unwrap();
        }
    }
    source.commit(None).unwrap();
    let lower = Location(50);
    source.prune(lower).unwrap();
    let disk = MemoryDisk::new();
    let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Immutable, small()).unwrap();
    replica
        .reset(source.frontier_at(lower.before()).unwrap())
        .unwrap();
    let shown = source
        .proof(lower..source.leaves().next(), usize::MAX)
        .unwrap();
    replica.apply(lower, shown.operations).unwrap();
    replica
        .finish(source.root(), source.leaves(), lower)
        .unwrap();
    let copy = replica.into_immutable().unwrap();
    assert_eq!(copy.root(), source.root());
    assert_eq!(
        copy.get(&100u64.to_le_bytes()).unwrap(),
        source.get(&100u64.to_le_bytes()).unwrap()
    );
    drop(copy);
    let copy = Immutable::open(Arc::new(disk.clone()), small()).unwrap();
    assert_eq!((copy.root(), copy.boundary()), (source.root(), lower));
    let other = Replica::open(Arc::new(disk), Kind::Any, small());
    assert!(matches!(other.err(), Some(Error::OtherKind)));
}

#[test]
fn a_wrong_prefix_is_thrown_away_and_fetched_again() {
    let (right, wrong) = (source(3, 20), source(4, 20));
    let disk = MemoryDisk::new();
    let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
    fill(&mut replica, &wrong, 9).unwrap();
    assert_eq!(replica.root(), wrong.root());
    replica
        .reset(right.frontier_at(right.floor().before()).unwrap())
        .unwrap();
    assert_eq!(replica.leaves(), right.floor().before());
    fill(&mut replica, &right, 9).unwrap();
    drop(replica);
    same(&open(&disk), &right);
}

/// What was set aside on a disk, on a disk of its own; `None` if nothing was.
pub(crate) fn aside(disk: &FaultyDisk) -> Option<FaultyDisk> {
    let aside = disk.contents().into_iter();
    let aside =
        aside.filter_map(|(name, bytes)| Some((name.strip_prefix("aside.")?.to_owned(), bytes)));
    let aside: BTreeMap<String, Vec<u8>> = aside.collect();
    (!aside.is_empty()).then(|| FaultyDisk::of(&aside))
}

#[test]
fn a_wrong_prefix_is_set_aside_and_opens_elsewhere() {
    let (right, wrong) = (source(3, 20), source(4, 20));
    let disk = FaultyDisk::new();
    let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
    fill(&mut replica, &wrong, 9).unwrap();
    let boundary = right.frontier_at(right.floor().before()).unwrap();
    assert!(replica.set_aside(boundary.clone()).unwrap());
    fill(&mut replica, &right, 9).unwrap();
    drop(replica);
    let kept = || Any::open(Arc::new(aside(&disk).unwrap()), small()).unwrap();
    same(&Any::open(Arc::new(disk.clone()), small()).unwrap(), &right);
    same(&kept(), &wrong);

    // What was kept first stays.
    let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small()).unwrap();
    assert!(!replica.set_aside(boundary).unwrap());
    fill(&mut replica, &right, 9).unwrap();
    same(&kept(), &wrong);
}
