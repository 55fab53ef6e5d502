//! The rows follow the set of writes: compared with the definitions after every step of random histories.

use std::collections::BTreeMap;

use eidetica_crdt::{
    Bounded, Container, Delta, Doc, ElemId, Init, MemRows, OWN, Op, Order, Overlay, Path, Payload,
    Position, RowSpace, RowsMut, Scalar, Sorted, StoreKind, Value, Write, apply_batch, as_of, get,
    hash_visible, insert, remove, remove_batch, table_get, table_scan, versions_at, writes_in,
};
use eidetica_entry::{Height, Id, Stamp};

use crate::oracle::{Oracle, bound};
use crate::rng::{Rng, cases};

pub(crate) fn stamp(height: u64, id: u8) -> Stamp {
    Stamp::new(Height(height), Id::new([id; 32]))
}

/// A random payload over few paths, with `elems` to refer to.
fn payload(rng: &mut Rng, kind: StoreKind, elems: &[Path]) -> Payload {
    loop {
        let mut writes = BTreeMap::new();
        let mut own = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let (path, op) = match kind {
                StoreKind::Doc => doc_write(rng, elems, &mut own),
                _ => table_write(rng),
            };
            writes.insert((path, op.slot()), op);
        }
        let mut list: Vec<Write> = writes
            .into_iter()
            .map(|((path, _), op)| Write { path, op })
            .collect();
        number(&mut list);
        if let Ok(payload) = Payload::new(kind, None, list) {
            return payload;
        }
    }
}

/// Gives own elements the ordinals that the format asks for, if each is inserted at one path.
fn number(writes: &mut [Write]) {
    let inserted = writes
        .iter()
        .filter(|w| matches!(w.op, Op::Ins { .. }))
        .map(|w| w.path.clone());
    let numbers: Vec<u32> = inserted
        .filter_map(|p| p.last_elem())
        .map(|e| e.ordinal)
        .collect();
    for write in writes.iter_mut() {
        let mut path = Path::root();
        for segment in write.path.segments() {
            match segment {
                eidetica_crdt::Segment::Key(key) => path.push_key(&key).unwrap(),
                eidetica_crdt::Segment::Elem(mut e) => {
                    if let (OWN, Some(n)) = (e.stamp, numbers.iter().position(|n| *n == e.ordinal))
                    {
                        e.ordinal = u32::try_from(n).unwrap();
                    }
                    path.push_elem(e).unwrap();
                }
            }
        }
        write.path = path;
    }
}

fn key_path(rng: &mut Rng, base: &Path, most: usize) -> Path {
    let mut path = base.clone();
    for _ in 0..rng.below(most + 1) {
        path.push_key(rng.pick::<&str>(&["a", "b"])).unwrap();
    }
    path
}

fn doc_write(rng: &mut Rng, elems: &[Path], own: &mut Vec<Path>) -> (Path, Op) {
    let bases = elems
        .iter()
        .chain(own.iter())
        .cloned()
        .chain([Path::root()])
        .collect::<Vec<_>>();
    let base = rng.pick(&bases).clone();
    let path = key_path(rng, &base, 2);
    if rng.one_in(4) && !path.is_root() {
        let ordinal = u32::try_from(own.len()).unwrap();
        let path = path
            .elem(ElemId {
                stamp: OWN,
                ordinal,
            })
            .unwrap();
        own.push(path.clone());
        let position = position(rng);
        let init = match rng.below(4) {
            0 => Init::Empty(Container::Map),
            1 => Init::Empty(Container::List),
            _ => Init::Scalar(scalar(rng)),
        };
        return (path, Op::Ins { position, init });
    }
    if path.last_elem().is_some() {
        let op = match rng.below(7) {
            0 | 1 => Op::Kill,
            2 | 3 => Op::Move(position(rng)),
            _ => value_op(rng),
        };
        return (path, op);
    }
    let op = if rng.one_in(4) {
        Op::Delete
    } else {
        value_op(rng)
    };
    (path, op)
}

fn value_op(rng: &mut Rng) -> Op {
    let container = *rng.pick(&[Container::Map, Container::List]);
    match rng.below(6) {
        0 => Op::Clear(container),
        1 => Op::Make(container),
        2 => Op::Inc(*rng.pick(&[1, -2, i64::MAX, i64::MIN])),
        _ => Op::Set(scalar(rng)),
    }
}

fn scalar(rng: &mut Rng) -> Scalar {
    match rng.below(5) {
        0 => Scalar::Null,
        1 => Scalar::Text(rng.pick(&["x", "y"]).to_string()),
        2 => Scalar::Float(0.5),
        _ => Scalar::Int(i64::try_from(rng.below(9)).unwrap()),
    }
}

fn position(rng: &mut Rng) -> Position {
    let bytes = rng
        .pick(&[&[0u8][..], &[0, 0], &[1], &[1, 0], &[128, 3], &[255]])
        .to_vec();
    Position::from_bytes(&bytes).unwrap()
}

fn table_write(rng: &mut Rng) -> (Path, Op) {
    let row = Path::of_keys([*rng.pick(&["r", "s"])]).unwrap();
    if rng.one_in(3) {
        let op = if rng.one_in(2) {
            Op::Delete
        } else {
            Op::Clear(Container::Map)
        };
        return (row, op);
    }
    let op = match rng.below(5) {
        0 => Op::Delete,
        1 => Op::Inc(3),
        2 => {
            let list = [Value::from(1), Value::from(Doc::new())]
                .into_iter()
                .collect();
            Op::Set(Scalar::Packed(Box::new(Value::List(list))))
        }
        _ => Op::Set(scalar(rng)),
    };
    (row.key(rng.pick::<&str>(&["f", "g"])).unwrap(), op)
}

/// Compares everything the rows say with the definitions.
fn check(rows: &MemRows, oracle: &Oracle, kind: StoreKind) {
    let mut held = Vec::new();
    writes_in(rows, kind, &Path::root(), &mut |w| {
        held.push((w.path, w.stamp, w.op));
        true
    })
    .unwrap();
    let mut all = oracle.writes.clone();
    let order = |a: &(Path, Stamp, Op), b: &(Path, Stamp, Op)| {
        (&a.0, a.1, a.2.slot()).cmp(&(&b.0, b.1, b.2.slot()))
    };
    held.sort_by(order);
    all.sort_by(order);
    assert_eq!(held, all, "every write stands in exactly one row");
    let counts = (
        rows.len(RowSpace::Cur),
        rows.len(RowSpace::Ver),
        rows.len(RowSpace::Pos),
    );
    let state = oracle.state();
    assert_eq!(counts, state.row_counts(kind), "cur is what is live");
    match kind {
        StoreKind::Doc => {
            for path in oracle.paths() {
                assert_eq!(get(rows, &path).unwrap(), state.shown(&path), "at {path}");
            }
        }
        _ => {
            let shown = table_scan(
                rows,
                (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
                false,
                99,
            );
            assert_eq!(shown.unwrap().rows, state.table());
            let row = state
                .table()
                .into_iter()
                .find(|(key, _)| key == "r")
                .map(|(_, fields)| fields);
            assert_eq!(table_get(rows, "r").unwrap(), row);
        }
    }
}

pub(crate) fn dump(rows: &MemRows) -> Vec<(RowSpace, Vec<u8>, Vec<u8>)> {
    let spaces = [RowSpace::Cur, RowSpace::Ver, RowSpace::Pos];
    let of = |space| {
        rows.iter(space)
            .map(move |(k, v)| (space, k.to_vec(), v.to_vec()))
    };
    spaces.into_iter().flat_map(of).collect()
}

/// Distinct stamps with frequent equal heights, and payloads that refer to each other's elements.
pub(crate) fn entries(rng: &mut Rng, kind: StoreKind, count: usize) -> Vec<(Stamp, Payload)> {
    let mut entries: Vec<(Stamp, Payload)> = Vec::new();
    let mut elems: Vec<Path> = Vec::new();
    while entries.len() < count {
        let next = stamp(1 + rng.below(4) as u64, rng.below(250) as u8);
        if entries.iter().any(|(s, _)| *s == next) {
            continue;
        }
        let payload = payload(rng, kind, &elems);
        let new = bound(next, &payload).into_iter().map(|(path, ..)| path);
        elems.extend(new.filter(|path| path.last_elem().is_some_and(|e| e.stamp == next)));
        elems.dedup();
        entries.push((next, payload));
    }
    entries
}

fn history(seed: u64, kind: StoreKind) {
    let mut rng = Rng::new(seed);
    let entries = entries(&mut rng, kind, 5);
    let mut rows = MemRows::new();
    let mut oracle = Oracle::default();
    let mut inserted: Vec<usize> = Vec::new();
    for _ in 0..9 {
        let n = rng.below(entries.len());
        let (stamp, payload) = &entries[n];
        if let Some(i) = inserted.iter().position(|m| *m == n) {
            inserted.remove(i);
            oracle.remove(*stamp);
            remove(&mut rows, *stamp, payload).unwrap();
        } else {
            inserted.push(n);
            oracle.insert(*stamp, payload);
            insert(&mut rows, *stamp, payload, Order::Any).unwrap();
        }
        check(&rows, &oracle, kind);
    }
    same_by_every_way(
        &mut rng,
        &rows,
        kind,
        inserted.iter().map(|n| &entries[*n]).collect(),
    );
}

/// Bulk insertion, ascending insertion and as-of reads give the rows that the history gave.
fn same_by_every_way(
    rng: &mut Rng,
    rows: &MemRows,
    kind: StoreKind,
    mut entries: Vec<&(Stamp, Payload)>,
) {
    let expected = dump(rows);
    let batch: Vec<(Stamp, &Payload)> = entries.iter().map(|(s, p)| (*s, p)).collect();
    let mut bulk = MemRows::new();
    apply_batch(&mut bulk, kind, &batch, Order::Any).unwrap();
    assert_eq!(dump(&bulk), expected, "in bulk");
    let (first, second) = batch.split_at(rng.below(batch.len() + 1));
    let parts = in_parts(rng, kind, first, second, Order::Any);
    assert_eq!(dump(&parts), expected, "in parts");
    remove_batch(&mut bulk, kind, &batch[..batch.len() / 2]).unwrap();
    let mut half = MemRows::new();
    apply_batch(&mut half, kind, &batch[batch.len() / 2..], Order::Any).unwrap();
    assert_eq!(dump(&bulk), dump(&half), "taken back in bulk");
    let mut keep = |_: &Stamp| true;
    assert_eq!(
        dump(&as_of(rows, kind, &Path::root(), &mut keep).unwrap()),
        expected,
        "as of now"
    );
    entries.sort_by_key(|(s, _)| *s);
    let mut chain = MemRows::new();
    let split = rng.below(entries.len() + 1);
    for (stamp, payload) in &entries[..split] {
        insert(&mut chain, *stamp, payload, Order::NewerThanAll).unwrap();
    }
    let rest: Vec<(Stamp, &Payload)> = entries[split..].iter().map(|(s, p)| (*s, p)).collect();
    apply_batch(&mut chain, kind, &rest, Order::NewerThanAll).unwrap();
    assert_eq!(dump(&chain), expected, "ascending, {split} singly");
    let all: Vec<(Stamp, &Payload)> = entries.iter().map(|(s, p)| (*s, p)).collect();
    let (first, second) = all.split_at(split);
    let parts = in_parts(rng, kind, first, second, Order::NewerThanAll);
    assert_eq!(
        dump(&parts),
        expected,
        "ascending, in parts from {split} on"
    );
}

fn deepest(rows: &MemRows) -> usize {
    let paths = rows.iter(RowSpace::Cur);
    let depths = paths.map(|(path, _)| Path::from_bytes(path).unwrap().depth());
    depths.max().unwrap_or_default()
}

/// A batch over another one, each part of it applied to the rows that the first one gave.
fn in_parts(
    rng: &mut Rng,
    kind: StoreKind,
    first: &[(Stamp, &Payload)],
    second: &[(Stamp, &Payload)],
    order: Order,
) -> MemRows {
    let mut rows = MemRows::new();
    apply_batch(&mut rows, kind, first, Order::Any).unwrap();
    let parts = Sorted::new(kind, second, order).split(1 + rng.below(4));
    let deltas: Vec<Delta> = parts
        .into_iter()
        .map(|part| {
            // Where it is known how deep the rows go, rows below the deepest are not looked for.
            let deepest = (rng.below(4) > 0).then(|| deepest(&rows) + rng.below(2));
            let (rows, delta) = (&rows, Delta::new());
            let base = Bounded { rows, deepest };
            let mut over = Overlay { base, delta };
            part.apply(&mut over).unwrap();
            over.delta
        })
        .collect();
    for space in [RowSpace::Cur, RowSpace::Ver, RowSpace::Pos] {
        for (key, value) in deltas.iter().flat_map(|delta| delta.iter(space)) {
            match value {
                Some(value) => rows.put(space, key, value).unwrap(),
                None => rows.delete(space, key).unwrap(),
            }
        }
    }
    rows
}

/// Runs cases in parallel and names the seed of one that fails.
pub(crate) fn run(count: u64, case: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let case = &case;
            scope.spawn(move || {
                for seed in (thread..count).step_by(2) {
                    let result =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed)));
                    assert!(result.is_ok(), "failed with seed {seed}");
                }
            });
        }
    });
}

#[test]
fn documents_follow_the_set_of_writes() {
    run(cases(2_000), |seed| history(seed, StoreKind::Doc));
}

#[test]
fn tables_follow_the_set_of_writes() {
    run(cases(1_500), |seed| history(seed, StoreKind::Table));
}

#[test]
fn every_arrival_order_gives_the_same_rows() {
    run(cases(400), |seed| {
        let mut rng = Rng::new(seed);
        let kind = if seed % 4 == 0 {
            StoreKind::Table
        } else {
            StoreKind::Doc
        };
        let entries = entries(&mut rng, kind, 4);
        let mut first: Option<Vec<_>> = None;
        for order in permutations(entries.len()) {
            let mut rows = MemRows::new();
            for n in order {
                insert(&mut rows, entries[n].0, &entries[n].1, Order::Any).unwrap();
            }
            let rows = dump(&rows);
            assert_eq!(*first.get_or_insert_with(|| rows.clone()), rows);
        }
    });
}

#[test]
fn as_of_is_the_state_of_a_subset() {
    run(cases(500), |seed| {
        let mut rng = Rng::new(seed);
        let kind = if seed % 4 == 0 {
            StoreKind::Table
        } else {
            StoreKind::Doc
        };
        let entries = entries(&mut rng, kind, 5);
        let (mut rows, mut past) = (MemRows::new(), Oracle::default());
        for (i, (stamp, payload)) in entries.iter().enumerate() {
            insert(&mut rows, *stamp, payload, Order::Any).unwrap();
            if i % 2 == 0 {
                past.insert(*stamp, payload);
            }
        }
        let kept: Vec<Stamp> = entries.iter().step_by(2).map(|(s, _)| *s).collect();
        let state = past.state();
        for path in past.paths() {
            let view = as_of(&rows, kind, &path, &mut |s| kept.contains(s)).unwrap();
            if kind == StoreKind::Doc {
                assert_eq!(get(&view, &path).unwrap(), state.shown(&path), "at {path}");
            }
        }
    });
}

#[test]
fn versions_are_the_values_at_a_path_and_the_covers_above_it() {
    run(cases(300), |seed| {
        let mut rng = Rng::new(seed);
        let kind = if seed % 2 == 0 {
            StoreKind::Table
        } else {
            StoreKind::Doc
        };
        let mut rows = MemRows::new();
        let mut oracle = Oracle::default();
        for (stamp, payload) in entries(&mut rng, kind, 6) {
            insert(&mut rows, stamp, &payload, Order::Any).unwrap();
            oracle.insert(stamp, &payload);
        }
        for path in oracle.paths() {
            let counts = |(at, _, op): &&(Path, Stamp, Op)| {
                let value = op.covers() || (*at == path && matches!(op, Op::Make(_)));
                value && path.starts_with(at)
            };
            let mut expected: Vec<_> = oracle.writes.iter().filter(counts).cloned().collect();
            expected.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
            let found = versions_at(&rows, kind, &path, 99).unwrap();
            let found: Vec<_> = found.into_iter().map(|w| (w.path, w.stamp, w.op)).collect();
            assert_eq!(found, expected, "at {path}");
            let newest = versions_at(&rows, kind, &path, 2).unwrap();
            assert_eq!(newest.len(), expected.len().min(2));
        }
    });
}

#[test]
fn equal_sets_hash_equally_and_the_hash_is_of_the_value() {
    run(cases(500), |seed| {
        let mut rng = Rng::new(seed);
        let entries = entries(&mut rng, StoreKind::Doc, 4);
        let mut rows = MemRows::new();
        let mut oracle = Oracle::default();
        for (stamp, payload) in &entries {
            insert(&mut rows, *stamp, payload, Order::Any).unwrap();
            oracle.insert(*stamp, payload);
        }
        let mut bytes = Vec::new();
        hash_visible(&rows, StoreKind::Doc, &mut |piece| {
            bytes.extend_from_slice(piece)
        })
        .unwrap();
        let shown = oracle
            .state()
            .shown(&Path::root())
            .unwrap_or(Value::Map(Doc::new()));
        let mut expected = vec![StoreKind::Doc as u8];
        canonical(&shown, &mut expected);
        assert_eq!(bytes, expected);
    });
}

/// The bytes of the state hash as `docs/formats/state.md` defines them.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    let mut sized = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Null => out.push(1),
        Value::Bool(b) => out.push(2 + u8::from(*b)),
        Value::Int(n) | Value::Counter(n) => {
            out.push(4);
            out.extend(n.to_le_bytes());
        }
        Value::Float(f) => {
            out.push(5);
            out.extend(f.to_bits().to_le_bytes());
        }
        Value::Text(t) => sized(6, t.as_bytes()),
        Value::Bytes(b) => sized(7, b),
        Value::Map(doc) => {
            out.push(8);
            for (key, value) in doc.iter() {
                out.push(11);
                out.extend(u32::try_from(key.len()).unwrap().to_le_bytes());
                out.extend(key.as_bytes());
                canonical(value, out);
            }
            out.push(10);
        }
        Value::List(list) => {
            out.push(9);
            list.iter().for_each(|v| canonical(v, out));
            out.push(10);
        }
        other => panic!("{other:?}"),
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for i in 0..n {
        let longer = |p: Vec<usize>| {
            (0..=p.len()).map(move |at| {
                let mut p = p.clone();
                p.insert(at, i);
                p
            })
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}
