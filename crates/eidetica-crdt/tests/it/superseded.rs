//! What a past has covered can go: whatever is added or taken out beside that past gives the same state without it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

use eidetica_crdt::{
    MemRows, Op, Order, Path, Payload, RowSpace, Rows, RowsMut, StoreKind, as_of, insert, limits,
    remove, superseded,
};
use eidetica_entry::Stamp;

use crate::laws::{dump, entries, run, stamp};
use crate::oracle::bound;
use crate::rng::{Rng, cases};

/// Path, stamp and key of rows.
type Found = Vec<(Path, Stamp, Vec<u8>)>;

fn find(rows: &MemRows, kind: StoreKind, past: &BTreeSet<Stamp>) -> Found {
    let mut found = Vec::new();
    let mut in_past = |stamps: &[Stamp]| -> Result<Vec<bool>, Infallible> {
        assert!(stamps.len() <= limits::SUPERSEDED_AT_ONCE);
        Ok(stamps.iter().map(|stamp| past.contains(stamp)).collect())
    };
    superseded(rows, kind, &mut in_past, &mut |path, stamp, key| {
        found.push((path.clone(), stamp, key.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// By the definition: every write of the past against every cover of the past.
fn expected(past: &[(Stamp, Payload)]) -> BTreeSet<(Path, Stamp, u8)> {
    let writes: Vec<_> = past.iter().flat_map(|(s, p)| bound(*s, p)).collect();
    let is_covered = |(path, stamp, op): &(Path, Stamp, Op)| {
        let strictly = matches!(op, Op::Ins { .. } | Op::Move(_) | Op::Kill);
        writes.iter().any(|(above, cover, by)| {
            by.covers() && cover > stamp && path.starts_with(above) && !(strictly && path == above)
        })
    };
    let covered = writes.iter().filter(|write| is_covered(write));
    covered
        .map(|(path, stamp, op)| (path.clone(), *stamp, op.slot() as u8))
        .collect()
}

/// Inserts an entry that is not there, takes out one that is.
fn turn(rows: &mut MemRows, entry: &(Stamp, Payload), is_in: bool) {
    match is_in {
        true => remove(rows, entry.0, &entry.1).unwrap(),
        false => insert(rows, entry.0, &entry.1, Order::Any).unwrap(),
    }
}

fn history(seed: u64, kind: StoreKind) {
    let mut rng = Rng::new(seed);
    let entries = entries(&mut rng, kind, 8);
    let (past, others) = entries.split_at(2 + rng.below(5));
    let mut whole = MemRows::new();
    let mut there: BTreeSet<usize> = BTreeSet::new();
    past.iter().for_each(|entry| turn(&mut whole, entry, false));
    for (n, entry) in others.iter().enumerate() {
        if rng.one_in(2) {
            turn(&mut whole, entry, false);
            there.insert(n);
        }
    }

    let stamps: BTreeSet<Stamp> = past.iter().map(|(stamp, _)| *stamp).collect();
    let found = find(&whole, kind, &stamps);
    // The slot stands after the path and a zero.
    let named = found.iter().map(|(path, stamp, key)| {
        let slot = key[path.as_bytes().len() + 1];
        (path.clone(), *stamp, slot)
    });
    let distinct: BTreeSet<_> = named.collect();
    assert_eq!(distinct.len(), found.len());
    assert_eq!(distinct, expected(past));

    let mut compact = whole.clone();
    for (_, _, key) in &found {
        assert!(compact.get(RowSpace::Ver, key).unwrap().is_some());
        compact.delete(RowSpace::Ver, key).unwrap();
    }
    let gone: BTreeSet<&Vec<u8>> = found.iter().map(|(_, _, key)| key).collect();
    let without = |rows: &MemRows| {
        let mut rows = dump(rows);
        rows.retain(|(space, key, _)| *space != RowSpace::Ver || !gone.contains(key));
        rows
    };
    for _ in 0..8 {
        let n = rng.below(others.len());
        let is_in = !there.insert(n);
        turn(&mut whole, &others[n], is_in);
        turn(&mut compact, &others[n], is_in);
        if is_in {
            there.remove(&n);
        }
        assert_eq!(dump(&compact), without(&whole));
    }

    let kept: BTreeSet<Stamp> = others
        .iter()
        .map(|(stamp, _)| *stamp)
        .filter(|_| rng.one_in(2))
        .chain(stamps)
        .collect();
    let at = |rows: &MemRows| {
        as_of(rows, kind, &Path::root(), &mut |stamp| kept.contains(stamp)).unwrap()
    };
    assert_eq!(dump(&at(&compact)), without(&at(&whole)));
}

#[test]
fn documents_do_without_what_a_past_has_covered() {
    run(cases(2_000), |seed| history(seed, StoreKind::Doc));
}

#[test]
fn tables_do_without_what_a_past_has_covered() {
    run(cases(1_500), |seed| history(seed, StoreKind::Table));
}

#[test]
fn a_counter_keeps_what_is_live_over_many_pages() {
    let path = Path::of_keys(["n"]).unwrap();
    let write = |op| {
        let path = path.clone();
        Payload::new(
            StoreKind::Doc,
            None,
            vec![eidetica_crdt::Write { path, op }],
        )
        .unwrap()
    };
    let mut rows = MemRows::new();
    for height in 1..=1_500 {
        let op = match height % 500 {
            0 => Op::Set(eidetica_crdt::Scalar::Int(0)),
            _ => Op::Inc(1),
        };
        insert(&mut rows, stamp(height, 1), &write(op), Order::NewerThanAll).unwrap();
    }
    let all: BTreeSet<Stamp> = (1..=1_200).map(|height| stamp(height, 1)).collect();
    let found = find(&rows, StoreKind::Doc, &all);
    // All below the cover at 1,000, which is the last one of that past.
    assert_eq!(found.len(), 999);
    assert!(found.iter().all(|(_, by, _)| *by < stamp(1_000, 1)));
}
