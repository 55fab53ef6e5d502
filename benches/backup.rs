//! Backing up, restoring, copying and verifying: `cargo bench -p eidetica-benches --bench backup`.
//!
//! One history, imported into memory, goes through every engine. Beside each figure stands the engine's own limit, taken in the
//! same run: a scan of all its rows for what reads, its rows written in batches of the same size for what writes.
//! Arguments choose among the engines by name; `ROWS` (default 200000) sets how many rows of a table there are, and
//! `EDITS` (default 20000) how many single commits besides. Rates are single runs: trust ratios more than rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eidetica_backup::{CopyOptions, Options};
use eidetica_benches::{Chosen, commit_leaves, create, number, peak_mib};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Databases};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, KeyRange, MemoryEngine, Row, ScanLimit,
    Snapshot, Space,
};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::PostgresServer;

const ENGINES: [&str; 5] = ["memory", "fjall", "redb", "sqlite", "postgres"];

fn main() {
    let chosen = Chosen::read();
    let original = furnished();
    let bytes = bytes_of(&*original.snapshot().unwrap());
    let mut stream = Vec::new();
    eidetica_backup::write(&*original, [0; 16], 0, &mut stream, &mut |_| {}).unwrap();
    println!(
        "{} MiB of rows, {} MiB as a backup\n",
        bytes >> 20,
        stream.len() >> 20
    );
    println!("| engine | what | MiB of rows a second | of the limit |\n|---|---|---:|---:|");
    for name in ENGINES.iter().filter(|name| chosen.wants(name)) {
        if *name == "postgres" && PostgresServer::available().is_err() {
            println!("| postgres | not here | | |");
            continue;
        }
        measure(name, &*original, bytes);
    }
    println!(
        "\nmost memory, the rows in memory included: {} MiB",
        peak_mib()
    );
}

/// A table that was imported, and a document that was changed again and again.
fn furnished() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let databases = open(engine.clone());
    let database = create(&databases, Vec::new());
    let mut import = database.import();
    for row in 0..number("ROWS", 200_000) {
        let mut doc = Doc::new();
        doc.insert("name", format!("a name for number {row}"));
        doc.insert(
            "city",
            ["Springfield", "Shelbyville", "Ogdenville"][row as usize % 3],
        );
        doc.insert("latitude", row as f64 / 1e4);
        import
            .insert_row("rows", format!("row{row:08}"), doc)
            .unwrap();
    }
    import.commit().unwrap();
    commit_leaves(&database, 0, number("EDITS", 20_000), 5_000);
    engine
}

fn open(engine: Arc<dyn Engine>) -> Databases {
    let mut config = Config::new([7; 32]);
    config.durability = Durability::Relaxed;
    Databases::open(engine, config).unwrap()
}

fn engine_of(name: &str, path: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match name {
        "memory" => Arc::new(MemoryEngine::new()),
        "fjall" => Arc::new(FjallEngine::open(path)?),
        "redb" => Arc::new(RedbEngine::open(path)?),
        "sqlite" => Arc::new(SqliteEngine::open(path)?),
        _ => Arc::new(PostgresEngine::open(
            &PostgresServer::shared().fresh_schema(),
        )?),
    })
}

fn measure(name: &str, original: &dyn Engine, bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let said = |what: &str, took: Duration, limit: Option<Duration>| {
        let share = limit.map_or_else(String::new, |limit| {
            format!("{:.2}", limit.as_secs_f64() / took.as_secs_f64())
        });
        let rate = bytes as f64 / (1 << 20) as f64 / took.as_secs_f64();
        println!("| {name} | {what} | {rate:.0} | {share} |");
    };

    let plain = engine_of(name, &dir.path().join("plain")).unwrap();
    let writing = timed(|| write_all(original, &*plain));
    said("rows written in batches of 4 MiB, flushed", writing, None);
    let scanning = timed(|| assert_eq!(bytes_of(&*plain.snapshot().unwrap()), bytes));
    said("all rows scanned", scanning, None);

    let backing_up = timed(|| {
        let mut out = BufWriter::new(std::fs::File::create(&file).unwrap());
        eidetica_backup::write(&*plain, [0; 16], 0, &mut out, &mut |_| {}).unwrap();
        out.flush().unwrap();
        out.get_ref().sync_all().unwrap();
    });
    said("backup into a file", backing_up, Some(scanning));
    plain.close().unwrap();

    let checking = timed(|| {
        eidetica_backup::check(&mut reader(&file), &mut |_| {}).unwrap();
    });
    said("backup read and checked", checking, None);
    let restored = engine_of(name, &dir.path().join("restored")).unwrap();
    let restoring = timed(|| {
        eidetica_backup::restore(&mut reader(&file), &*restored, Options::new(), &mut |_| {})
            .unwrap();
    });
    said("restore, and read again", restoring, Some(writing));
    let copied = engine_of(name, &dir.path().join("copied")).unwrap();
    let copying = timed(|| {
        eidetica_backup::copy(
            &*restored,
            &*copied,
            [0; 16],
            CopyOptions::default(),
            &mut |_| {},
        )
        .unwrap();
    });
    said(
        "copy to the same kind, and read again",
        copying,
        Some(writing + scanning),
    );
    copied.close().unwrap();

    let databases = open(Arc::clone(&restored));
    let verifying = timed(|| {
        let report = databases.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
    });
    said("verify, from the entries", verifying, Some(scanning));
    drop(databases);
    restored.close().unwrap();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn reader(file: &Path) -> BufReader<std::fs::File> {
    BufReader::new(std::fs::File::open(file).unwrap())
}

/// In the batches that a restore makes, with nothing else.
fn write_all(from: &dyn Engine, to: &dyn Engine) {
    let mut batch = Batch::new();
    each_row(&*from.snapshot().unwrap(), |space, row| {
        batch.put(space, &row.key, &row.value);
        if batch.byte_len() >= eidetica_backup::limits::FRAME_BYTES {
            to.write(&batch, Durability::Relaxed).unwrap();
            batch.clear();
        }
    });
    to.write(&batch, Durability::Relaxed).unwrap();
    to.flush().unwrap();
}

fn bytes_of(snapshot: &dyn Snapshot) -> u64 {
    let mut bytes = 0;
    each_row(snapshot, |_, row| {
        bytes += (row.key.len() + row.value.len()) as u64
    });
    bytes
}

fn each_row(snapshot: &dyn Snapshot, mut visit: impl FnMut(Space, &Row)) {
    let limit = ScanLimit {
        rows: eidetica_backup::limits::PAGE_ROWS,
        bytes: eidetica_backup::limits::PAGE_BYTES,
    };
    for space in Space::ALL {
        let mut rest = Some(KeyRange::all());
        while let Some(range) = rest {
            let page = snapshot
                .scan(space, &range, Direction::Forward, limit)
                .unwrap();
            page.rows.iter().for_each(|row| visit(space, row));
            rest = page.rest(&range, Direction::Forward);
        }
    }
}
