//! Hashes of fixed entries and packs. They freeze the formats: a change here is a change of every id.

use eidetica_entry::{Author, Entry, Header, Height, Via, pack};

use crate::support::*;

const COMMITTED: &str = include_str!("../conformance.txt");

fn line(what: &str, bytes: &[u8]) -> String {
    format!("{what} {} {}\n", bytes.len(), blake3::hash(bytes))
}

fn fixed_history() -> History {
    let mut history = History::new();
    let root = history.database;
    let a = history.add(&[root], payloads([("notes", b"one")]), 1, 2_000);
    let b = history.add(
        &[root],
        payloads([("_settings", b"two"), ("notes", b"three")]),
        2,
        1_500,
    );
    history.add(&[a, b], payloads([("tasks", &[])]), 1, 3_000);
    history
}

#[test]
fn formats_are_as_committed() {
    let history = fixed_history();
    let via = Via {
        database: id(9),
        tips: [id(4), id(5)].as_slice().into(),
    };
    let delegated = Header {
        author: Author {
            key: key(8),
            via: vec![via],
        },
        timestamp_ms: None,
        height: Height(77),
        ..header_of(2, 2, 2)
    };
    let delegated = Entry::new(delegated, signature(3), Default::default()).unwrap();

    let mut found = String::new();
    for (n, entry) in history.entries.iter().chain([&delegated]).enumerate() {
        found += &format!("id-{n} {}\n", entry.id());
        found += &line(&format!("entry-{n}"), &entry.encode());
        found += &line(&format!("signed-{n}"), &entry.signing_message());
    }
    assert_eq!(found, COMMITTED, "\nformats changed; now:\n{found}");
}

/// Packs written by the first version decode for ever, whatever the compressor does meanwhile.
#[test]
fn a_committed_pack_decodes() {
    let history = fixed_history();
    let now: String = pack::encode(&history.entries)
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let hex: String = include_str!("../pack-v1.hex").split_whitespace().collect();
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    let entries = pack::decode(&bytes, &Default::default());
    assert_eq!(
        entries,
        Ok(history.entries),
        "the same entries pack to\n{now}"
    );
}
