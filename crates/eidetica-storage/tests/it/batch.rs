//! Batches and their normal form.

use eidetica_storage::{Batch, Durability, Engine, KeyRange, MemoryEngine, Space, Step};
use proptest::prelude::*;

/// A step in a form that can be generated.
#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, Option<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..8_u8;
    prop_oneof![
        (key(), any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        key().prop_map(Op::Delete),
        (key(), prop::option::of(key())).prop_map(|(start, end)| Op::DeleteRange(start, end)),
    ]
}

fn add(batch: &mut Batch, op: &Op) {
    match *op {
        Op::Put(key, value) => batch.put(Space::State, &[key], &[value]),
        Op::Delete(key) => batch.delete(Space::State, &[key]),
        Op::DeleteRange(start, end) => {
            let range = KeyRange {
                start: vec![start],
                end: end.map(|end| vec![end]),
            };
            batch.delete_range(Space::State, &range);
        }
    }
}

fn rows(engine: &MemoryEngine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let snapshot = engine.snapshot().unwrap();
    let page = snapshot
        .scan(
            Space::State,
            &KeyRange::all(),
            Default::default(),
            Default::default(),
        )
        .unwrap();
    page.rows
        .into_iter()
        .map(|row| (row.key.to_vec(), row.value.to_vec()))
        .collect()
}

proptest! {
    /// One batch of many steps, many batches of one step, and two appended halves end alike.
    #[test]
    fn a_batch_equals_its_steps_in_turn(ops in prop::collection::vec(op(), 0..40), cut in 0..40_usize) {
        let engines: [MemoryEngine; 3] = Default::default();
        let mut whole = Batch::new();
        let mut halves = [Batch::new(), Batch::new()];
        for (place, op) in ops.iter().enumerate() {
            let mut single = Batch::new();
            add(&mut single, op);
            engines[0].write(&single, Durability::Relaxed).unwrap();
            add(&mut whole, op);
            add(&mut halves[usize::from(place >= cut)], op);
        }
        engines[1].write(&whole, Durability::Relaxed).unwrap();
        let [mut first, second] = halves;
        first.append(&second);
        prop_assert_eq!(first.len(), ops.len());
        engines[2].write(&first, Durability::Relaxed).unwrap();
        prop_assert_eq!(rows(&engines[0]), rows(&engines[1]));
        prop_assert_eq!(rows(&engines[0]), rows(&engines[2]));
    }
}

#[test]
fn steps_come_back_in_order() {
    let mut batch = Batch::with_capacity(5, 64);
    batch.put_parts(Space::Log, &[b"ke", b"y"], &[b"", b"val", b"ue"]);
    batch.expect(Space::Meta, b"v", Some(b""));
    batch.expect(Space::Meta, b"v", None);
    batch.delete_range(Space::Ids, &KeyRange::prefix(b"p"));
    batch.delete_range(Space::Ids, &KeyRange::all());
    batch.delete(Space::Local, b"d");
    let steps: Vec<_> = batch.iter().collect();
    let expected = [
        Step::Put(Space::Log, b"key", b"value"),
        Step::Expect(Space::Meta, b"v", Some(b"")),
        Step::Expect(Space::Meta, b"v", None),
        Step::DeleteRange(Space::Ids, b"p", Some(b"q")),
        Step::DeleteRange(Space::Ids, b"", None),
        Step::Delete(Space::Local, b"d"),
    ];
    assert_eq!(steps, expected);
    assert_eq!((batch.len(), batch.byte_len()), (6, 13));
}

#[test]
fn a_plan_has_each_row_once_in_order() {
    let mut batch = Batch::new();
    batch.put(Space::State, b"b", b"1");
    batch.put(Space::Ids, b"z", b"1");
    batch.put(Space::State, b"a", b"1");
    batch.put(Space::State, b"b", b"2");
    let plan = batch.plan().unwrap();
    let writes: Vec<_> = plan
        .writes
        .iter()
        .map(|w| (w.space, w.key, w.value))
        .collect();
    let value = |bytes: &'static [u8]| Some(bytes);
    let expected = [
        (Space::Ids, b"z".as_slice(), value(b"1")),
        (Space::State, b"a", value(b"1")),
        (Space::State, b"b", value(b"2")),
    ];
    assert_eq!(writes, expected);
}
