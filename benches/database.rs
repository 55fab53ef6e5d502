//! Commits, reads and ingest without a network: `cargo bench -p eidetica-benches --bench database`.
//!
//! Each part prints what it measured beside its limit, measured in the same run: signatures that
//! ed25519-dalek makes alone, reads of the engine alone, signatures that verify in batches alone.
//! Arguments choose among the parts by name; `COMMITS` (default 1000000) bounds the longest history.
//! Rates are single runs: trust ratios more than rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Permission};
use eidetica_benches::{Shape, commit_leaves, create, number, rate, run, spread, write_history};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Database, Databases, IngestRequest};
use eidetica_storage::{Durability, Engine, MemoryEngine, Space};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_testkit::RecordingEngine;

const PARTS: [(&str, fn()); 8] = [
    ("commits", commits),
    ("hot", hot_key),
    ("dag", real_dag),
    ("rows", many_rows),
    ("airports", airports),
    ("versions", versions),
    ("reads", reads),
    ("ingest", ingest),
];

fn main() {
    run(&PARTS);
}

fn longest() -> u64 {
    number("COMMITS", 1_000_000)
}

fn open(engine: Arc<dyn Engine>, durability: Durability) -> Databases {
    let mut config = Config::new([7; 32]);
    config.durability = durability;
    Databases::open(engine, config).unwrap()
}

/// Anybody may write.
fn anybody() -> Vec<AuthRecord> {
    vec![AuthRecord::Wildcard(Some(Permission::Write(0)))]
}

fn in_memory() -> Database {
    create(
        &open(Arc::new(MemoryEngine::new()), Durability::Relaxed),
        Vec::new(),
    )
}

/// Makes so many signatures with ed25519-dalek alone, of messages as long as ours.
fn sign(signatures: u64) {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    for number in 0..signatures {
        let mut message = [0; 50];
        message[..8].copy_from_slice(&number.to_le_bytes());
        black_box(key.sign(&message));
    }
}

/// Signatures per second that ed25519-dalek makes alone.
fn signing_limit() -> f64 {
    const SIGNATURES: u64 = 10_000;
    let start = Instant::now();
    sign(SIGNATURES);
    rate(SIGNATURES, start.elapsed())
}

/// Commits `count` leaves and makes as many signatures, in turns, so that whatever else runs on the
/// machine slows both down. Returns both rates.
fn commit_and_sign(database: &Database, from: u64, count: u64, keys: u64) -> (f64, f64) {
    const TURN: u64 = 100;
    let (mut committing, mut signing) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..count / TURN {
        let start = Instant::now();
        commit_leaves(database, from + turn * TURN, TURN, keys);
        committing += start.elapsed();
        let start = Instant::now();
        sign(TURN);
        signing += start.elapsed();
    }
    (rate(count, committing), rate(count, signing))
}

fn commits() {
    const WINDOW: u64 = 5_000;
    let database = in_memory();
    let mut done = 0;
    println!(
        "{:>10} {:>12} {:>12} {:>6}",
        "existing", "commits/s", "sign/s", "ratio"
    );
    for existing in [1_000, 10_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|count| *count <= longest())
    {
        commit_leaves(&database, done, existing - done, u64::MAX);
        let (commits, limit) = commit_and_sign(&database, existing, WINDOW, u64::MAX);
        done = existing + WINDOW;
        println!(
            "{existing:>10} {commits:>12.0} {limit:>12.0} {:>6.2}",
            commits / limit
        );
    }
}

fn hot_key() {
    const WINDOW: u64 = 5_000;
    let database = in_memory();
    let mut done = 0;
    println!(
        "{:>10} {:>12} {:>12} {:>6} {:>12} {:>14}",
        "versions", "commits/s", "sign/s", "ratio", "get us", "versions() us"
    );
    for existing in [100, 10_000, 100_000]
        .into_iter()
        .filter(|count| *count <= longest())
    {
        commit_leaves(&database, done, existing - done, 1);
        let (commits, limit) = commit_and_sign(&database, existing, WINDOW, 1);
        done = existing + WINDOW;
        let get = time_each(10_000, |_| {
            database.doc("notes").unwrap().get("key0000000").unwrap()
        });
        let versions = time_each(10, |_| {
            database.versions("notes", "key0000000", 100).unwrap()
        });
        println!(
            "{existing:>10} {commits:>12.0} {limit:>12.0} {:>6.2} {:>12.2} {:>14.1}",
            commits / limit,
            get.as_secs_f64() * 1e6,
            versions.as_secs_f64() * 1e6,
        );
    }
}

fn time_each<T>(times: u32, mut work: impl FnMut(u32) -> T) -> Duration {
    let start = Instant::now();
    for number in 0..times {
        black_box(work(number));
    }
    start.elapsed() / times
}

fn real_dag() {
    let shape = Shape::read();
    let count = shape.len();
    let databases = open(Arc::new(MemoryEngine::new()), Durability::Relaxed);
    let database = create(&databases, anybody());
    let limit = signing_limit();
    let commits = rate(count as u64, write_history(&database, &shape, count));
    let limit = (limit + signing_limit()) / 2.0;
    println!(
        "{count} entries, 840 authors: {commits:.0} commits/s, {:.2} of {limit:.0} sign/s",
        commits / limit
    );
}

fn many_rows() {
    for _ in 0..5 {
        insert_rows();
    }
    rows_per_commit();
}

fn insert_rows() {
    let database = in_memory();
    let row = |number: u64| {
        serde_json::json!({
            "name": format!("name {number}"), "city": "Springfield", "state": "MS", "country": "USA",
            "latitude": 31.95, "longitude": number as f64,
        })
    };
    let start = Instant::now();
    let transaction = database.new_transaction();
    let table = transaction.table::<serde_json::Value>("rows").unwrap();
    for number in 0..10_000 {
        table
            .insert(format!("row{number:06}"), &row(number))
            .unwrap();
    }
    drop(table);
    transaction.commit().unwrap();
    println!(
        "10,000 rows of 6 fields in one transaction: {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
}

fn rows_per_commit() {
    let recording = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let database = create(&open(recording.clone(), Durability::Relaxed), Vec::new());
    commit_leaves(&database, 0, 10, u64::MAX);
    drop(recording.take());
    commit_leaves(&database, 10, 10_000, u64::MAX);
    let fresh = recording.take().puts();
    commit_leaves(&database, 10, 10_000, u64::MAX);
    let again = recording.take().puts();
    println!(
        "rows written per commit of one leaf: {:.3} fresh, {:.3} overwriting",
        fresh as f64 / 1e4,
        again as f64 / 1e4
    );
}

/// The airports of `data/airports.csv`, imported as one batch into each engine.
fn airports() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/airports.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    // The few lines with quotes are left out: this measures no parser.
    let lines: Vec<&str> = lines.filter(|line| !line.contains('"')).collect();
    for name in ["memory", "fjall", "redb"] {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(name, &dir.path().join("store"));
        let database = create(&open(engine, Durability::Durable), Vec::new());
        let start = Instant::now();
        let mut import = database.import();
        for line in &lines {
            let fields: Vec<&str> = line.split(',').collect();
            let mut doc = Doc::new();
            for (name, field) in names.iter().zip(&fields).skip(1) {
                match field.parse::<f64>() {
                    Ok(number) => doc.insert(*name, number),
                    Err(_) => doc.insert(*name, *field),
                };
            }
            import.insert_row("airports", fields[0], doc).unwrap();
        }
        let entries = import.commit().unwrap().len();
        let elapsed = start.elapsed();
        println!(
            "{name}: {} airports in {entries} entries, {:.0} ms, {:.0} rows/s",
            lines.len(),
            elapsed.as_secs_f64() * 1e3,
            rate(lines.len() as u64, elapsed),
        );
    }
}

/// The versions of a path that many have written at once: forks from the root, never merged.
fn versions() {
    for concurrent in [10, 100, 1_000] {
        let database = in_memory();
        let root = database.tips().unwrap()[0].id;
        for number in 0..concurrent {
            let transaction = database.new_transaction_at(&[root]).unwrap();
            transaction
                .doc("notes")
                .unwrap()
                .set("key", number)
                .unwrap();
            transaction.commit().unwrap();
        }
        let found = database.versions("notes", "key", 1_000).unwrap().len();
        let time = time_each(10, |_| database.versions("notes", "key", 1_000).unwrap());
        println!(
            "{concurrent} concurrent writes of one key: {found} versions read in {:.2} ms",
            time.as_secs_f64() * 1e3
        );
    }
}

fn reads() {
    for name in ["memory", "fjall", "redb"] {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(name, &dir.path().join("store"));
        let databases = open(Arc::clone(&engine), Durability::Relaxed);
        let database = create(&databases, Vec::new());
        const ROWS: u64 = 100_000;
        for number in 0..ROWS {
            let transaction = database.new_transaction();
            transaction
                .table::<serde_json::Value>("rows")
                .unwrap()
                .insert(
                    format!("row{number:06}"),
                    &serde_json::json!({"number": number, "text": "a few words"}),
                )
                .unwrap();
            transaction.commit().unwrap();
        }
        databases.flush().unwrap();
        let table = database.table::<serde_json::Value>("rows").unwrap();
        let at = |number: u32| spread(u64::from(number), ROWS);
        let ours = time_each(50_000, |number| {
            table
                .get(&format!("row{:06}", at(number)))
                .unwrap()
                .unwrap()
        });
        let mut keys = Vec::new();
        let snapshot = engine.snapshot().unwrap();
        let range = eidetica_storage::KeyRange::all();
        let _ = snapshot.for_each::<(), eidetica_storage::EngineError>(
            Space::State,
            &range,
            Default::default(),
            |row| {
                keys.push(row.key);
                Ok(std::ops::ControlFlow::Continue(()))
            },
        );
        drop(snapshot);
        let theirs = time_each(50_000, |number| {
            engine
                .snapshot()
                .unwrap()
                .get(Space::State, &keys[at(number) as usize])
                .unwrap()
                .unwrap()
        });
        println!(
            "{name}: a row of 100,000 by key {:.2} us, the engine's own read {:.2} us, factor {:.1}",
            ours.as_secs_f64() * 1e6,
            theirs.as_secs_f64() * 1e6,
            ours.as_secs_f64() / theirs.as_secs_f64(),
        );
    }
}

fn engine(name: &str, path: &std::path::Path) -> Arc<dyn Engine> {
    match name {
        "fjall" => Arc::new(FjallEngine::open(path).unwrap()),
        "redb" => Arc::new(RedbEngine::open(path).unwrap()),
        _ => Arc::new(MemoryEngine::new()),
    }
}

/// Entries per second that only decode and verify, on all cores.
fn verify_limit(packs: &[Bytes]) -> f64 {
    let entries: Vec<_> = packs
        .iter()
        .flat_map(|pack| eidetica_entry::pack::decode(pack, &Default::default()).unwrap())
        .collect();
    let messages: Vec<_> = entries
        .iter()
        .map(|entry| entry.signing_message())
        .collect();
    let items: Vec<_> = entries
        .iter()
        .zip(&messages)
        .map(|(entry, message)| eidetica_auth::Signed {
            key: &entry.header().author.key,
            message: message.as_ref(),
            signature: entry.signature(),
        })
        .collect();
    let start = Instant::now();
    assert!(eidetica_auth::verify_batch(&items, [9; 32]).is_empty());
    rate(entries.len() as u64, start.elapsed())
}

fn ingest() {
    const ENTRIES: usize = 100_000;
    for shape in ["chain", "dag"] {
        let databases = open(Arc::new(MemoryEngine::new()), Durability::Relaxed);
        let database = create(&databases, anybody());
        match shape {
            "chain" => commit_leaves(&database, 0, ENTRIES as u64, ENTRIES as u64 / 4),
            _ => drop(write_history(&database, &Shape::read(), ENTRIES)),
        }
        let page = databases
            .difference(&database.id(), &[], None, usize::MAX)
            .unwrap();
        assert!(page.next.is_none());
        let bytes: usize = page.packs.iter().map(Bytes::len).sum();
        println!(
            "{shape}: {} entries, {} packs, {:.1} bytes an entry",
            ENTRIES,
            page.packs.len(),
            bytes as f64 / ENTRIES as f64
        );
        let hash = database.state_hash().unwrap();
        for name in ["memory", "fjall", "redb"] {
            let dir = tempfile::tempdir().unwrap();
            let recording = Arc::new(RecordingEngine::new(engine(
                name,
                &dir.path().join("store"),
            )));
            let into = open(recording.clone(), Durability::Durable);
            let limit = verify_limit(&page.packs);
            let start = Instant::now();
            for packs in page.packs.chunks(16) {
                let report = into
                    .ingest(IngestRequest::new(database.id(), packs).create(true))
                    .unwrap();
                assert_eq!(report.rejected_count + report.pending, 0);
            }
            let stored = start.elapsed();
            let copy = into.get(&database.id()).unwrap();
            assert_eq!(copy.state_hash().unwrap(), hash);
            let all = start.elapsed();
            let limit = (limit + verify_limit(&page.packs)) / 2.0;
            let speed = rate(ENTRIES as u64, stored);
            println!(
                "  {name}: {speed:.0} entries/s, {:.2} of {limit:.0} verified/s; with state read {:.0}/s; {:.2} rows an entry",
                speed / limit,
                rate(ENTRIES as u64, all),
                recording.take().puts() as f64 / ENTRIES as f64,
            );
        }
    }
}
