//! The same operations give the same on every engine.

use std::io::Read as _;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, Permission};
use eidetica_crdt::{Edit, Locator, Step, Value};
use eidetica_database::{Database, Databases, IngestReport};
use eidetica_entry::{Entry, Height, Id, Stamp, limits, pack};
use eidetica_storage::{MemoryEngine, Row, Space};
use eidetica_testkit::{EngineKind, Rng};

use crate::exchange::{forge, resign};
use crate::in_memory::damage::rows;
use crate::laws::change;
use crate::world::{
    all_packs, database, engine_of, ingest, ingest_entries, instance_on, key, rights,
};

/// What became of the entries of one ingest.
#[derive(Debug, PartialEq)]
struct Verdicts {
    new: u64,
    known: u64,
    pending: u64,
    rejected: Vec<String>,
    tips: Vec<Stamp>,
}

impl From<IngestReport> for Verdicts {
    fn from(report: IngestReport) -> Self {
        let mut rejected: Vec<_> = report
            .rejected
            .iter()
            .map(|(id, reason)| format!("{id}: {reason:?}"))
            .collect();
        rejected.sort();
        Self {
            new: report.new,
            known: report.known,
            pending: report.pending,
            rejected,
            tips: report.tips,
        }
    }
}

/// What is shown of a replica.
#[derive(Debug, PartialEq)]
struct Shown {
    tips: Vec<Stamp>,
    entries: u64,
    stores: String,
    state: String,
}

/// What is shown, which must be what follows from the entries alone, computed anew in memory.
fn shown(databases: &Databases, id: &Id) -> Shown {
    let db = databases.get(id).unwrap();
    let verified = db.verify().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.faults);
    let anew = instance_on(Arc::new(MemoryEngine::new()), 99);
    ingest(&anew, *id, &all_packs(databases, id));
    let (anew, state) = (anew.get(id).unwrap(), db.state_hash().unwrap());
    assert_eq!(anew.entry_count().unwrap(), db.entry_count().unwrap());
    assert_eq!(anew.state_hash().unwrap(), state);
    Shown {
        tips: db.tips().unwrap(),
        entries: db.entry_count().unwrap(),
        stores: format!("{:?}", db.stores().unwrap()),
        state: state.to_string(),
    }
}

/// Names, keys and values at which orders, encodings and widths go wrong. The number of edits that were refused.
fn write_nasty(db: &Database) -> usize {
    let long = "x".repeat(255);
    let (above, wide) = ("y".repeat(256), "\u{10ffff}".repeat(63));
    let names = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "%",
        "_",
        "'",
        "\\",
        "null",
        "\u{e9}",
        "e\u{301}",
        "\0",
        "\u{202e}",
        "\u{fffd}",
        "_settings2",
        &long,
        &above,
        &wide,
    ];
    let keys = [
        "\0",
        "\0\0",
        "a\0",
        "a\0b",
        "a",
        "A",
        "aa",
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
        ".",
        "a.b",
        "",
        "--",
        "';",
        "e\u{301}",
        "\u{e9}",
        &above,
    ];
    let values = [
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        Value::Float(f64::NAN),
        Value::Float(-0.0),
        Value::Float(f64::INFINITY),
        Value::Float(f64::MIN_POSITIVE / 2.0),
        Value::Bytes(vec![0, 255, 0]),
        Value::Text("\0\u{10ffff}".to_owned()),
        Value::Null,
    ];
    let mut refused = 0;
    for name in names {
        let transaction = db.new_transaction();
        let Ok(doc) = transaction.doc(name) else {
            refused += 1;
            continue;
        };
        for (at, key) in keys.iter().enumerate() {
            let value = values[at % values.len()].clone();
            let at = Locator(vec![Step::Key((*key).to_owned())]);
            refused += usize::from(doc.edit(Edit::Set { at, value }).is_err());
        }
        refused += usize::from(transaction.commit().is_err());
    }
    for key in keys {
        let added = db.transact(|tx| {
            let table = tx.table::<serde_json::Value>("nasty rows")?;
            table.insert(key, &serde_json::json!({"f": key, "n": i64::MIN}))
        });
        refused += usize::from(added.is_err());
    }
    for by in [i64::MAX, i64::MAX, i64::MIN, -1] {
        db.transact(|tx| tx.doc("sum")?.increment("n", by)).unwrap();
    }
    refused
}

/// Commits, forks and settings of an author.
fn write(author: &Databases, rng: &mut Rng) -> Id {
    let db = database(author);
    for round in 0..60 {
        change(&db, rng);
        if round % 20 == 10 {
            let other = key(2 + round / 20).public();
            db.transact(|tx| tx.settings().grant(other, Permission::Write(1), "other"))
                .unwrap();
        }
    }
    db.id()
}

/// The same entries in small packs and any order, and some that nobody may write.
fn shuffle(author: &Databases, id: Id, replica: &Databases, rng: &mut Rng) -> Vec<Verdicts> {
    let mut entries: Vec<Entry> = all_packs(author, &id)
        .iter()
        .flat_map(|packed| pack::decode(packed, &pack::Limits::default()).unwrap())
        .collect();
    let root = entries.remove(0);
    for at in 0..5 {
        let honest = &entries[at * 7].clone();
        entries.push(forge(honest, 9));
        let height = honest.header().height.0;
        for nasty in [height + 1, 1 << 31, 1 << 32, limits::HEIGHT] {
            let mut header = honest.header().clone();
            header.height = Height(nasty);
            entries.push(resign(header, honest, 1));
        }
    }
    let mut verdicts = vec![ingest_entries(replica, id, &[root]).into()];
    while !entries.is_empty() {
        let many = 1 + rng.below(entries.len().min(9));
        let mut some: Vec<Entry> = (0..many)
            .map(|_| entries.swap_remove(rng.below(entries.len())))
            .collect();
        some.sort_by_key(Entry::stamp);
        verdicts.push(ingest_entries(replica, id, &some).into());
    }
    verdicts
}

/// What an engine makes of the operations: the rows of the author, what the replicas said of each entry, what they show, and how
/// many edits were refused.
#[derive(PartialEq)]
struct Outcome {
    rows: Vec<Vec<Row>>,
    verdicts: Vec<Verdicts>,
    shown: [Shown; 3],
    refused: usize,
}

fn run(kind: EngineKind, seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    let replicas = [1, 2, 3].map(|number| instance_on(engine_of(kind), number));
    let [author, shuffled, whole] = &replicas;
    let id = write(author, &mut rng);
    let refused = write_nasty(&author.get(&id).unwrap().with_key(key(1)));
    let mut verdicts = shuffle(author, id, shuffled, &mut rng);
    verdicts.push(ingest(whole, id, &all_packs(author, &id)).into());
    let outcome = Outcome {
        rows: all_rows(author),
        verdicts,
        shown: replicas.each_ref().map(|replica| shown(replica, &id)),
        refused,
    };
    assert_eq!(outcome.shown[0], outcome.shown[1]);
    assert_eq!(outcome.shown[0], outcome.shown[2]);
    outcome
}

/// Every row, with the order of arrival in it. Where entries waited for others, the order among those that became ready at
/// once is anybody's.
fn all_rows(databases: &Databases) -> Vec<Vec<Row>> {
    Space::ALL
        .map(|space| rows(&**databases.engine(), space))
        .into()
}

fn same(kind: EngineKind, other: &Outcome, memory: &Outcome) {
    assert_eq!(other.refused, memory.refused, "{kind:?}");
    assert_eq!(other.verdicts, memory.verdicts, "{kind:?}");
    assert_eq!(other.shown, memory.shown, "{kind:?}");
    assert!(other.rows == memory.rows, "rows: {kind:?}");
}

#[test]
fn every_engine_gives_the_same() {
    for seed in [1, 2] {
        let memory = run(EngineKind::Memory, seed);
        let rejected = memory
            .verdicts
            .iter()
            .map(|verdicts| verdicts.rejected.len());
        assert!(rejected.sum::<usize>() >= 20);
        assert!(memory.refused > 0);
        for kind in EngineKind::here() {
            same(kind, &run(kind, seed), &memory);
        }
    }
}

/// How many entries of the real history.
const REAL: usize = 500;

/// The first part of a real history as packs: merges, forks, many authors.
fn real_history() -> (Id, Vec<Entry>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/dag-redis.tsv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let memory = instance_on(Arc::new(MemoryEngine::new()), 1);
    let mut new = rights(&key(1), &[]);
    new.records
        .push(AuthRecord::Wildcard(Some(Permission::Write(0))));
    let db = memory.create(new, key(1)).unwrap();
    let mut ids: Vec<Id> = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for (number, line) in lines.take(REAL).enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let author: u64 = fields[1].parse().unwrap();
        let parents = fields[4].split(',').filter(|parent| !parent.is_empty());
        let mut at: Vec<Id> = parents
            .map(|parent| ids[parent.parse::<usize>().unwrap()])
            .collect();
        if at.is_empty() {
            at.push(db.id());
        }
        let transaction = db.new_transaction_at(&at).unwrap();
        let transaction = transaction.with_key(key((author % 200) as u8 + 2));
        let doc = transaction.doc("notes").unwrap();
        doc.set(&format!("key{}", number * 7 % 300), number as i64)
            .unwrap();
        doc.increment("sum", 1).unwrap();
        ids.push(transaction.commit().unwrap().unwrap().id());
    }
    let packs = all_packs(&memory, &db.id());
    let entries = packs
        .iter()
        .flat_map(|packed| pack::decode(packed, &pack::Limits::default()).unwrap());
    (db.id(), entries.collect())
}

/// A replica that gets it in parts, each shuffled among a few before it.
fn take_in(kind: EngineKind, id: Id, entries: &[Entry], seed: u64) -> (Vec<Verdicts>, Shown) {
    let mut rng = Rng::new(seed);
    let replica = instance_on(engine_of(kind), 5);
    let mut parts: Vec<&[Entry]> = entries.chunks(40).collect();
    let first = parts.remove(0);
    let mut verdicts: Vec<Verdicts> = vec![ingest_entries(&replica, id, first).into()];
    while !parts.is_empty() {
        let part = parts.remove(rng.below(parts.len().min(3)));
        verdicts.push(ingest_entries(&replica, id, part).into());
    }
    let shown = shown(&replica, &id);
    (verdicts, shown)
}

#[test]
fn every_engine_takes_in_a_real_history_alike() {
    let (id, entries) = real_history();
    let memory = take_in(EngineKind::Memory, id, &entries, 3);
    assert_eq!(memory.1.entries, entries.len() as u64);
    assert!(memory.0.iter().any(|verdicts| verdicts.pending > 0));
    for kind in EngineKind::here() {
        let other = take_in(kind, id, &entries, 3);
        assert_eq!(other.0, memory.0, "{kind:?}");
        assert_eq!(other.1, memory.1, "{kind:?}");
    }
}
