//! One read of a store: what is asked, and a digest of what was answered.
//!
//! A transaction notes its reads and asks them again when it commits after somebody else: a read that
//! is answered otherwise than before is a conflict.

use std::ops::Bound;

use eidetica_crdt::{
    Doc, ElemId, ListPage, Locator, Rows, StateError, TablePage, Value, get, list_page, resolve,
    table_get, table_scan,
};
use eidetica_storage::EngineError;

use crate::error::Result;

/// The rows of one store, wherever they are.
pub(crate) type DynRows<'a> = dyn Rows<Error = EngineError> + 'a;

/// A read.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    Get(Locator),
    List {
        list: Locator,
        offset: usize,
        limit: usize,
    },
    Row(String),
    Scan {
        range: (Bound<String>, Bound<String>),
        reverse: bool,
        limit: usize,
    },
}

/// What a read was answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Value(Option<Value>),
    List(ListPage),
    Row(Option<Doc>),
    Scan(TablePage),
}

impl Query {
    pub(crate) fn run(&self, rows: &DynRows<'_>) -> Result<Answer, StateError<EngineError>> {
        let rows = &rows;
        Ok(match self {
            Self::Get(at) => Answer::Value(match resolve(rows, at)? {
                Some(path) => get(rows, &path)?,
                None => None,
            }),
            Self::List {
                list,
                offset,
                limit,
            } => Answer::List(match resolve(rows, list)? {
                Some(path) => list_page(rows, &path, *offset, *limit)?,
                None => ListPage::default(),
            }),
            Self::Row(key) => Answer::Row(table_get(rows, key)?),
            Self::Scan {
                range: (from, to),
                reverse,
                limit,
            } => {
                let range = (
                    from.as_ref().map(String::as_str),
                    to.as_ref().map(String::as_str),
                );
                Answer::Scan(table_scan(rows, range, *reverse, *limit)?)
            }
        })
    }
}

impl Answer {
    /// Equal answers have equal digests, NaN included.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut sink = blake3::Hasher::new();
        match self {
            Self::Value(value) => hash_option(value.as_ref(), &mut sink),
            Self::List(page) => {
                for (elem, value) in &page.items {
                    hash_elem(elem, &mut sink);
                    hash_value(value, &mut sink);
                }
                sink.update(&[u8::from(page.more)]);
            }
            Self::Row(doc) => match doc {
                Some(doc) => hash_doc(doc, &mut sink),
                None => drop(sink.update(&[0])),
            },
            Self::Scan(page) => {
                for (key, doc) in &page.rows {
                    hash_text(key, &mut sink);
                    hash_doc(doc, &mut sink);
                }
                sink.update(&[u8::from(page.more)]);
            }
        }
        *sink.finalize().as_bytes()
    }
}

fn hash_elem(elem: &ElemId, sink: &mut blake3::Hasher) {
    sink.update(&elem.stamp.height.0.to_le_bytes());
    sink.update(elem.stamp.id.as_bytes());
    sink.update(&elem.ordinal.to_le_bytes());
}

fn hash_text(text: &str, sink: &mut blake3::Hasher) {
    sink.update(&(text.len() as u64).to_le_bytes());
    sink.update(text.as_bytes());
}

fn hash_option(value: Option<&Value>, sink: &mut blake3::Hasher) {
    match value {
        Some(value) => hash_value(value, sink),
        None => drop(sink.update(&[0])),
    }
}

fn hash_doc(doc: &Doc, sink: &mut blake3::Hasher) {
    sink.update(&[8]);
    sink.update(&(doc.len() as u64).to_le_bytes());
    for (key, value) in doc.iter() {
        hash_text(key, sink);
        hash_value(value, sink);
    }
}

/// Recurses no deeper than a value that was read can be: `eidetica_crdt::limits::DEPTH`.
fn hash_value(value: &Value, sink: &mut blake3::Hasher) {
    match value {
        Value::Null => drop(sink.update(&[1])),
        Value::Bool(b) => drop(sink.update(&[2, u8::from(*b)])),
        Value::Int(n) => drop(sink.update(&[3]).update(&n.to_le_bytes())),
        Value::Float(f) => drop(sink.update(&[4]).update(&f.to_bits().to_le_bytes())),
        Value::Text(text) => {
            sink.update(&[5]);
            hash_text(text, sink);
        }
        Value::Bytes(bytes) => drop(
            sink.update(&[6])
                .update(&(bytes.len() as u64).to_le_bytes())
                .update(bytes),
        ),
        Value::Counter(n) => drop(sink.update(&[7]).update(&n.to_le_bytes())),
        Value::Map(doc) => hash_doc(doc, sink),
        Value::List(list) => {
            sink.update(&[9]).update(&(list.len() as u64).to_le_bytes());
            for value in list.iter() {
                hash_value(value, sink);
            }
        }
        _ => drop(sink.update(&[10])),
    }
}
