//! What the hot paths read and write, counted in rows: flat in history and in the size of the store.

use std::cell::Cell;
use std::convert::Infallible;

use bytes::Bytes;
use eidetica_crdt::{
    Edit, KeyRange, MemRows, Order, RowPage, RowSpace, Rows, RowsMut, StoreKind, apply_batch, get,
    insert, lower, remove, remove_batch, table_get,
};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::json;

use crate::line::{fields, put, set};

/// Rows in memory that count what is done to them.
#[derive(Default)]
struct Counted {
    rows: MemRows,
    reads: Cell<usize>,
    rows_read: Cell<usize>,
    puts: [usize; 3],
    deletes: usize,
}

impl Counted {
    fn reset(&mut self) {
        *self = Self {
            rows: std::mem::take(&mut self.rows),
            ..Self::default()
        };
    }

    /// (reads, rows read, puts into cur, ver, pos, deletes) since the last reset.
    fn cost(&mut self) -> (usize, usize, [usize; 3], usize) {
        let cost = (
            self.reads.get(),
            self.rows_read.get(),
            self.puts,
            self.deletes,
        );
        self.reset();
        cost
    }
}

impl Rows for Counted {
    type Error = Infallible;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        let value = self.rows.get(space, key)?;
        self.reads.set(self.reads.get() + 1);
        self.rows_read
            .set(self.rows_read.get() + usize::from(value.is_some()));
        Ok(value)
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, Infallible> {
        let page = self.rows.scan(space, range, reverse, limit)?;
        self.reads.set(self.reads.get() + 1);
        self.rows_read.set(self.rows_read.get() + page.rows.len());
        Ok(page)
    }
}

impl RowsMut for Counted {
    fn put(&mut self, space: RowSpace, key: &[u8], value: &[u8]) -> Result<(), Infallible> {
        self.puts[space as usize] += 1;
        self.rows.put(space, key, value)
    }

    fn delete(&mut self, space: RowSpace, key: &[u8]) -> Result<(), Infallible> {
        self.deletes += 1;
        self.rows.delete(space, key)
    }
}

fn stamp(height: u64) -> Stamp {
    Stamp::new(Height(height), Id::new([1; 32]))
}

fn commit(rows: &mut Counted, kind: StoreKind, height: u64, edits: &[Edit], order: Order) {
    let payload = lower(&rows.rows, kind, edits, height).unwrap().unwrap();
    insert(rows, stamp(height), &payload, order).unwrap();
}

#[test]
fn a_leaf_costs_the_same_after_a_thousand_others_and_a_thousand_versions() {
    let doc = StoreKind::Doc;
    let mut rows = Counted::default();
    for height in 1..1000 {
        let sibling = set(&format!("m.k{height}"), json!(height));
        commit(
            &mut rows,
            doc,
            height,
            &[sibling, set("m.old", json!(height))],
            Order::NewerThanAll,
        );
    }
    rows.reset();
    commit(
        &mut rows,
        doc,
        1000,
        &[set("m.fresh", json!(1))],
        Order::NewerThanAll,
    );
    assert_eq!(
        rows.cost(),
        (1, 0, [1, 0, 0], 0),
        "fresh: one read, one row"
    );
    commit(
        &mut rows,
        doc,
        1001,
        &[set("m.old", json!(1))],
        Order::NewerThanAll,
    );
    assert_eq!(rows.cost(), (1, 1, [1, 1, 0], 0), "overwritten: two rows");
    commit(&mut rows, doc, 1002, &[set("m.old", json!(2))], Order::Any);
    assert_eq!(
        rows.cost(),
        (1, 1, [1, 1, 0], 0),
        "in any order, where it wins over what is shown"
    );
    commit(&mut rows, doc, 1003, &[set("m.next", json!(2))], Order::Any);
    let (reads, read, puts, deletes) = rows.cost();
    assert_eq!((read, puts, deletes), (0, [1, 0, 0], 0));
    assert!(
        reads <= 6,
        "{reads} reads for a fresh leaf in any order, two levels down"
    );
    get(&rows, &"m.old".parse().unwrap()).unwrap();
    assert_eq!(rows.cost(), (1, 1, [0; 3], 0), "a leaf is one read");
}

#[test]
fn an_element_costs_a_row_and_its_place() {
    let mut rows = Counted::default();
    commit(
        &mut rows,
        StoreKind::Doc,
        1,
        &[set("l", json!([1, 2, 3]))],
        Order::NewerThanAll,
    );
    assert_eq!(rows.cost(), (3, 0, [3, 0, 3], 0));
    commit(
        &mut rows,
        StoreKind::Doc,
        2,
        &[put("l", None, json!({"a": 1, "b": 2}))],
        Order::NewerThanAll,
    );
    assert_eq!(
        rows.cost(),
        (1, 0, [3, 0, 1], 0),
        "below a new element nothing is looked up"
    );
}

#[test]
fn a_table_row_is_one_row_whatever_its_fields() {
    let table = StoreKind::Table;
    let mut rows = Counted::default();
    let row = Edit::RowInsert {
        key: "r".into(),
        fields: fields(json!({"a": 1, "b": "x", "c": [1], "d": null})),
    };
    commit(&mut rows, table, 1, &[row], Order::NewerThanAll);
    assert_eq!(rows.cost(), (1, 0, [1, 0, 0], 0));
    let change = Edit::RowSet {
        key: "r".into(),
        fields: fields(json!({"a": 2, "b": "x", "c": [1]})),
    };
    commit(&mut rows, table, 2, &[change], Order::NewerThanAll);
    assert_eq!(rows.cost(), (1, 1, [1, 1, 0], 0), "the changed field alone");
    table_get(&rows, "r").unwrap();
    assert_eq!(rows.cost(), (1, 1, [0; 3], 0));
}

#[test]
fn a_batch_reads_and_writes_each_shown_row_once() {
    let mut line = Counted::default();
    let mut payloads = Vec::new();
    for height in 1..=100 {
        let edit = set(&format!("k{}", height % 10), json!(height));
        let payload = lower(&line.rows, StoreKind::Doc, &[edit], 1)
            .unwrap()
            .unwrap();
        insert(&mut line.rows, stamp(height), &payload, Order::NewerThanAll).unwrap();
        payloads.push((stamp(height), payload));
    }
    let batch: Vec<_> = payloads
        .iter()
        .map(|(stamp, payload)| (*stamp, payload))
        .collect();
    let mut bulk = Counted::default();
    apply_batch(&mut bulk, StoreKind::Doc, &batch, Order::NewerThanAll).unwrap();
    let (reads, _, puts, _) = bulk.cost();
    assert_eq!(puts, [10, 90, 0]);
    assert!(reads == 10, "{reads}");
}

#[test]
fn a_late_cover_visits_what_is_live_below_it_and_nothing_else() {
    let doc = StoreKind::Doc;
    let mut rows = Counted::default();
    for height in 1..=50 {
        let edits = [
            set("m.a", json!(height)),
            set("m.b", json!(height)),
            set("n.c", json!(height)),
        ];
        commit(&mut rows, doc, height, &edits, Order::NewerThanAll);
    }
    rows.reset();
    let gone = lower(&rows.rows, doc, &[crate::line::delete("m")], 1)
        .unwrap()
        .unwrap();
    insert(&mut rows, stamp(60), &gone, Order::NewerThanAll).unwrap();
    let (_, read, puts, deletes) = rows.cost();
    assert_eq!((read, puts, deletes), (4, [0, 3, 0], 2));
    // Taking it away again looks at each path below once, not at each version.
    remove(&mut rows, stamp(60), &gone).unwrap();
    let (reads, _, puts, _) = rows.cost();
    assert_eq!(puts, [2, 0, 0]);
    assert!(reads < 30, "{reads}");
}

#[test]
fn many_late_covers_in_one_batch_visit_what_is_below_them_once() {
    let doc = StoreKind::Doc;
    let mut rows = Counted::default();
    let edits: Vec<Edit> = (0..200)
        .map(|n| set(&format!("m.k{n}"), json!(n)))
        .collect();
    commit(&mut rows, doc, 1000, &edits, Order::NewerThanAll);
    rows.reset();
    let clear = lower(&MemRows::new(), doc, &[set("m", json!(1))], 1)
        .unwrap()
        .unwrap();
    let covers: Vec<_> = (1..=100).map(|height| (stamp(height), &clear)).collect();
    apply_batch(&mut rows, doc, &covers, Order::Any).unwrap();
    let (_, read, ..) = rows.cost();
    assert!((200..320).contains(&read), "{read} rows read");
    remove_batch(&mut rows, doc, &covers).unwrap();
    let (_, read, puts, _) = rows.cost();
    assert!(read < 900, "{read} rows read");
    assert_eq!(puts, [0; 3]);
}
