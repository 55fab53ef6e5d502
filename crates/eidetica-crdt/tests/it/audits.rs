//! Rows that are right pass an audit, and of the others none does.

use eidetica_crdt::{
    Audited, MemRows, Order, RowSpace, RowsMut, StoreKind, audit, each_write, encode_write, insert,
};

use crate::laws::{dump, entries, run};
use crate::rng::{Rng, cases};

type Row = (RowSpace, Vec<u8>, Vec<u8>);

/// The rows of some random entries, and their writes.
fn history(seed: u64) -> (StoreKind, MemRows, Vec<Vec<u8>>) {
    let mut rng = Rng::new(seed);
    let kind = match seed % 3 {
        0 => StoreKind::Table,
        _ => StoreKind::Doc,
    };
    let mut rows = MemRows::new();
    let mut writes = Vec::new();
    for (stamp, payload) in entries(&mut rng, kind, 5) {
        insert(&mut rows, stamp, &payload, Order::Any).unwrap();
        each_write(stamp, &payload, &mut |path, op| {
            let mut bytes = Vec::new();
            encode_write(path, &stamp, op, &mut bytes);
            writes.push(bytes);
        });
    }
    writes.sort();
    (kind, rows, writes)
}

/// A row by its space and key.
type RowKey = (RowSpace, Vec<u8>);

/// How many writes there are, those in the rows, and the rows that are wrong.
fn audited(rows: &MemRows, kind: StoreKind) -> (u64, Vec<Vec<u8>>, Vec<RowKey>) {
    let (mut writes, mut wrong) = (Vec::new(), Vec::new());
    let count = audit(rows, kind, &mut |audited| match audited {
        Audited::Write {
            path, stamp, op, ..
        } => {
            let mut bytes = Vec::new();
            encode_write(path, &stamp, op, &mut bytes);
            writes.push(bytes);
        }
        Audited::Wrong(space, key) => wrong.push((space, key.to_vec())),
    });
    writes.sort();
    (count.unwrap(), writes, wrong)
}

fn rows_of(rows: &[Row]) -> MemRows {
    let mut all = MemRows::new();
    for (space, key, value) in rows {
        all.put(*space, key, value).unwrap();
    }
    all
}

#[test]
fn rows_that_follow_the_writes_pass() {
    run(cases(600), |seed| {
        let (kind, rows, writes) = history(seed);
        let (count, found, wrong) = audited(&rows, kind);
        assert_eq!(wrong, []);
        assert_eq!(found, writes);
        assert_eq!(count as usize, dump(&rows).len());
    });
}

#[test]
fn no_other_rows_pass() {
    run(cases(80), |seed| {
        let (kind, rows, writes) = history(seed);
        let right = dump(&rows);
        let mut rng = Rng::new(seed ^ 1);
        for at in 0..right.len() {
            let mut missing = right.clone();
            missing.remove(at);
            let mut damaged = vec![missing];
            let (space, key, value) = &right[at];
            for _ in 0..4.min(value.len()) {
                let bit = rng.below(8 * value.len());
                let mut flipped = right.clone();
                flipped[at].2[bit / 8] ^= 1 << (bit % 8);
                damaged.push(flipped);
            }
            for _ in 0..4.min(key.len()) {
                let bit = rng.below(8 * key.len());
                let mut key = key.clone();
                key[bit / 8] ^= 1 << (bit % 8);
                // What is beyond all keys of a store is for its owner to find.
                if key.first() != Some(&0xff) {
                    let (mut moved, mut doubled) = (right.clone(), right.clone());
                    moved[at].1 = key.clone();
                    doubled.push((*space, key, value.clone()));
                    damaged.extend([moved, doubled]);
                }
            }
            let other = [RowSpace::Cur, RowSpace::Ver, RowSpace::Pos][rng.below(3)];
            let mut elsewhere = right.clone();
            elsewhere[at].0 = other;
            damaged.push(elsewhere);
            for rows in damaged {
                let rows = rows_of(&rows);
                let same = dump(&rows) == dump(&rows_of(&right));
                let (_, found, wrong) = audited(&rows, kind);
                let passes = wrong.is_empty() && found == writes;
                assert_eq!(passes, same, "{:?}", dump(&rows));
            }
        }
    });
}
