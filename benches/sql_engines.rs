//! The engines beside what the disk alone can do: `cargo bench -p eidetica-benches --bench sql_engines`.
//!
//! Durable commits of five rows, alone and by up to 64 writers through group commit, each figure beside the rate of one
//! `fdatasync` of the same bytes in the same run; bulk rows; point reads. PostgreSQL is a server of our own with `fsync` on, over
//! a Unix socket. Arguments choose among the engines; `SCALE` (default 1) divides the work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use eidetica_benches::{Chosen, number};
use eidetica_storage::commit::{GroupCommit, Lane};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, KeyRange, MemoryEngine, ScanLimit, Space,
};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::{PostgresServer, Rng};

const ENGINES: [&str; 5] = ["memory", "fjall", "redb", "sqlite", "postgres"];
const COMMITS: usize = 1_024;
const BULK_BATCHES: usize = 20;
const BULK_ROWS: usize = 10_000;
const READS: usize = 20_000;

fn main() {
    let chosen = Chosen::read();
    println!("| engine | what | per second | syncs alone, per second |\n|---|---|---:|---:|");
    for name in ENGINES {
        if chosen.wants(name) {
            measure(name);
        }
    }
}

/// The work to do, less of it where `SCALE` says so.
fn scaled(work: usize) -> usize {
    work / (number("SCALE", 1) as usize).max(1)
}

fn open(name: &str, dir: &Path, server: Option<&PostgresServer>) -> Arc<dyn Engine> {
    match name {
        "memory" => Arc::new(MemoryEngine::new()),
        "fjall" => Arc::new(FjallEngine::open(dir).unwrap()),
        "redb" => Arc::new(RedbEngine::open(dir).unwrap()),
        "sqlite" => Arc::new(SqliteEngine::open(dir).unwrap()),
        "postgres" => Arc::new(PostgresEngine::open(&server.unwrap().fresh_schema()).unwrap()),
        other => panic!("no engine {other}"),
    }
}

fn measure(name: &str) {
    let temp = tempfile::tempdir().unwrap();
    let server = (name == "postgres").then(|| PostgresServer::start(true).unwrap());
    let engine = open(name, &temp.path().join("data"), server.as_ref());
    for writers in [1, 8, 64] {
        let alone = syncs(&temp.path().join("alone"));
        let rate = commits(&engine, writers);
        println!(
            "| {name} | durable commits of 5 rows by {writers} writers | {rate:.0} | {alone:.0} |"
        );
    }
    let report = |what: &str, rate: f64| println!("| {name} | {what} | {rate:.0} | |");
    report("rows put in batches of 10,000", bulk(&*engine));
    reads(&*engine, report);
    engine.close().unwrap();
}

/// How often a second the disk takes 700 more bytes for good.
fn syncs(path: &Path) -> f64 {
    let mut file = File::create(path).unwrap();
    rate(scaled(COMMITS), || {
        for _ in 0..scaled(COMMITS) {
            file.write_all(&[7; 700]).unwrap();
            file.sync_data().unwrap();
        }
    })
}

fn commits(engine: &Arc<dyn Engine>, writers: usize) -> f64 {
    let group = GroupCommit::new(Arc::clone(engine));
    let each = scaled(COMMITS) * if writers > 1 { 4 } else { 1 } / writers;
    rate(each * writers, || {
        thread::scope(|scope| {
            for writer in 0..writers {
                let group = &group;
                scope.spawn(move || {
                    let mut rng = Rng::new((writers * 1_000 + writer) as u64);
                    let version = (writers * 1_000 + writer).to_be_bytes();
                    for number in 0..each {
                        let batch = commit(&version, number, &mut rng);
                        let lane = Lane(writer as u64);
                        group.write(lane, batch, Durability::Durable).unwrap();
                    }
                });
            }
        });
    })
}

/// Five rows under the version row of a database of one writer.
fn commit(version: &[u8], number: usize, rng: &mut Rng) -> Batch {
    let mut batch = Batch::with_capacity(6, 700);
    let before = number.to_be_bytes();
    let key = rng.bytes(40);
    batch.expect(Space::Meta, version, (number > 0).then_some(&before[..]));
    batch.put(Space::Meta, version, &(number + 1).to_be_bytes());
    batch.put_parts(Space::Log, &[version, &before], &[&rng.bytes(420)]);
    batch.put(Space::Ids, &rng.bytes(36), &rng.bytes(17));
    batch.put(Space::State, &key, &rng.bytes(60));
    batch.put(Space::Versions, &key, &rng.bytes(60));
    batch
}

fn key(number: usize) -> [u8; 12] {
    let mut key = [0; 12];
    let spread = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key
}

fn bulk(engine: &dyn Engine) -> f64 {
    let (mut rng, batches) = (Rng::new(5), scaled(BULK_BATCHES));
    rate(batches * BULK_ROWS, || {
        for number in 0..batches {
            let mut batch = Batch::with_capacity(BULK_ROWS, BULK_ROWS * 72);
            for row in 0..BULK_ROWS {
                batch.put(Space::State, &key(number * BULK_ROWS + row), &rng.bytes(60));
            }
            engine.write(&batch, Durability::Durable).unwrap();
        }
    })
}

fn reads(engine: &dyn Engine, report: impl Fn(&str, f64)) {
    let (rows, reads) = (scaled(BULK_BATCHES) * BULK_ROWS, scaled(READS));
    let mut rng = Rng::new(6);
    let point = rate(reads, || {
        for _ in 0..reads / 10 {
            let snapshot = engine.snapshot().unwrap();
            for _ in 0..10 {
                let row = snapshot.get(Space::State, &key(rng.below(rows))).unwrap();
                assert!(row.is_some());
            }
        }
    });
    report("point reads, 10 per snapshot", point);
    let many = rate(reads * 10, || {
        for _ in 0..reads / 100 {
            let keys: Vec<_> = (0..1_000).map(|_| key(rng.below(rows))).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let snapshot = engine.snapshot().unwrap();
            let found = snapshot.multi_get(Space::State, &keys).unwrap();
            assert!(found.iter().all(Option::is_some));
        }
    });
    report("keys read, 1,000 per multi_get", many);
    let scans = reads / 20;
    let pages = rate(scans * 50, || {
        for _ in 0..scans {
            let range = KeyRange::starting_at(key(rng.below(rows)));
            let snapshot = engine.snapshot().unwrap();
            let limit = ScanLimit::rows(50);
            black_box(
                snapshot
                    .scan(Space::State, &range, Direction::Forward, limit)
                    .unwrap(),
            );
        }
    });
    report("rows scanned, 50 per page and snapshot", pages);
}

fn rate(units: usize, work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    units as f64 / begun.elapsed().as_secs_f64()
}
