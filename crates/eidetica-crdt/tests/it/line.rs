//! A replica that makes edits, and merging of several.

use eidetica_crdt::{
    Doc, Edit, Locator, MemRows, Order, Path, Payload, StoreKind, Value, get, insert, lower,
};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::{Value as Json, json};

use crate::laws::dump;

/// A line of history of one document.
#[derive(Clone, Default)]
pub(crate) struct Line {
    pub(crate) rows: MemRows,
    pub(crate) log: Vec<(Stamp, Payload)>,
}

impl Line {
    /// One entry with these edits; the greater of two heights is the later one where they conflict.
    pub(crate) fn commit(&mut self, height: u64, id: u8, edits: &[Edit]) -> &mut Self {
        let stamp = Stamp::new(Height(height), Id::new([id; 32]));
        let payload = lower(&self.rows, StoreKind::Doc, edits, u64::from(id))
            .unwrap()
            .expect("edits");
        let payload = Payload::decode(&payload.encode()).unwrap();
        insert(&mut self.rows, stamp, &payload, Order::Any).unwrap();
        self.log.push((stamp, payload));
        self
    }

    /// A line with everything that lines hold, the same whichever comes first.
    pub(crate) fn merge(lines: &[&Self]) -> Self {
        let mut merged: Option<Self> = None;
        for turn in 0..lines.len() {
            let mut line = Self::default();
            for entry in lines
                .iter()
                .cycle()
                .skip(turn)
                .take(lines.len())
                .flat_map(|line| &line.log)
            {
                if !line.log.contains(entry) {
                    insert(&mut line.rows, entry.0, &entry.1, Order::Any).unwrap();
                    line.log.push(entry.clone());
                }
            }
            if let Some(first) = &merged {
                assert_eq!(dump(&first.rows), dump(&line.rows));
            }
            merged = Some(line);
        }
        merged.expect("a line")
    }

    pub(crate) fn json(&self) -> Json {
        get(&self.rows, &Path::root())
            .unwrap()
            .map_or(json!({}), |value| value.to_json())
    }
}

pub(crate) fn at(path: &str) -> Locator {
    Locator::parse(path).unwrap()
}

pub(crate) fn set(path: &str, value: Json) -> Edit {
    Edit::Set {
        at: at(path),
        value: Value::from_json(&value).unwrap(),
    }
}

pub(crate) fn delete(path: &str) -> Edit {
    Edit::Delete { at: at(path) }
}

pub(crate) fn inc(path: &str, by: i64) -> Edit {
    Edit::Increment { at: at(path), by }
}

pub(crate) fn put(list: &str, index: Option<usize>, value: Json) -> Edit {
    Edit::ListInsert {
        list: at(list),
        index,
        value: Value::from_json(&value).unwrap(),
    }
}

pub(crate) fn shift(path: &str, to: usize) -> Edit {
    Edit::ListMove { at: at(path), to }
}

pub(crate) fn fields(json: Json) -> Doc {
    Doc::from_json(&json).unwrap()
}
