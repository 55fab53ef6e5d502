//! The storage engines on our own pattern: `cargo bench -p eidetica-benches --bench engines`.
//!
//! Each engine runs in a process of its own, one after the other, on a fresh directory under the
//! temporary directory (PostgreSQL on a server of our own with `fsync` on, over a Unix socket), and prints a table. Arguments
//! choose among the engines and the parts by name:
//!
//! - `commits`: five rows a commit, durable and relaxed, alone and in groups;
//! - `writers`: signed commits of 1 to 64 threads to one database, beside one sync for each commit alone;
//! - `rows`: bulk ingest, then reads, scans, opening;
//! - `import`: table rows imported as one transaction, read and scanned (`ROWS`, default 200000).
//!
//! Named besides, `postgres-far` is a server two milliseconds away, and the others are engines with other settings.
//!
//! `ENTRIES` (default 200000) sets the size of `rows`. Rates are single runs: trust CPU figures more than rates. `slow` is the
//! memory engine behind a sync of five milliseconds, as many disks have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, TcpListener};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use eidetica_benches::{Chosen, create, number, rate, spread};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Databases};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, MemoryEngine,
    ScanLimit, Snapshot, Space, Watch as Hint,
};
use eidetica_storage_fjall::{FjallEngine, FjallOptions};
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::{RedbEngine, RedbOptions};
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::{PostgresServer, RecordingEngine};

/// Tells a child which engine to measure, and where PostgreSQL is.
const CHILD: &str = "EIDETICA_BENCH_ENGINE";
const SERVER: &str = "EIDETICA_BENCH_SERVER";
const ENGINES: [&str; 6] = ["memory", "fjall", "redb", "sqlite", "postgres", "slow"];
/// Engines with other settings, measured only where they are named.
const VARIANTS: [&str; 3] = ["fjall-64m", "redb-walk", "postgres-far"];
const PARTS: [&str; 4] = ["commits", "writers", "rows", "import"];

const COMMITS: usize = 4_096;
const BATCH_ENTRIES: usize = 4_000;
const PACKS: usize = 10;
const PACK_BYTES: usize = 25_000;
const STATE_ROWS: usize = 8_000;
const READS: usize = 100_000;
const SYNCS: usize = 256;
const SLOW_SYNC: Duration = Duration::from_millis(5);
/// How long bytes are on their way to a server that is far away, and back.
const FAR: Duration = Duration::from_millis(2);

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        return measure(&name);
    }
    let chosen = Chosen::read();
    let any = ENGINES
        .iter()
        .chain(&VARIANTS)
        .any(|name| chosen.names(name));
    for name in ENGINES.into_iter().chain(VARIANTS) {
        let usual = !any && ENGINES.contains(&name);
        if usual || chosen.names(name) {
            measure_apart(name);
        }
    }
}

/// Whether a part is to be run: it is named, or none is.
fn wants(part: &str) -> bool {
    let chosen = Chosen::read();
    chosen.names(part) || !PARTS.iter().any(|part| chosen.names(part))
}

fn measure_apart(name: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args_os().skip(1)).env(CHILD, name);
    let server = match name {
        "postgres" | "postgres-far" => match PostgresServer::start(true) {
            Ok(server) => Some(server),
            Err(reason) => return println!("\n## postgres\n\nNot measured: {reason}"),
        },
        _ => None,
    };
    if let Some(server) = &server {
        command.env(SERVER, server.fresh_schema());
    }
    assert!(command.status().unwrap().success(), "{name}");
}

fn open(name: &str, dir: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    let mut fjall = FjallOptions::default();
    let mut redb = RedbOptions::default();
    Ok(match name {
        "memory" => Arc::new(MemoryEngine::new()),
        "slow" => Arc::new(SlowEngine(MemoryEngine::new())),
        "fjall" => Arc::new(FjallEngine::open_with(dir, fjall)?),
        "fjall-64m" => {
            fjall.memtable_bytes = 64 << 20;
            Arc::new(FjallEngine::open_with(dir, fjall)?)
        }
        "redb" => Arc::new(RedbEngine::open_with(dir, redb)?),
        "redb-walk" => {
            redb.quick_repair = false;
            Arc::new(RedbEngine::open_with(dir, redb)?)
        }
        "sqlite" => Arc::new(SqliteEngine::open(dir)?),
        // A schema for each directory that another engine would have.
        "postgres" | "postgres-far" => {
            let part = dir.file_name().unwrap().to_string_lossy().into_owned();
            let url = match name {
                "postgres" => std::env::var(SERVER).unwrap(),
                _ => far_away(&std::env::var(SERVER).unwrap()),
            };
            Arc::new(PostgresEngine::open(&format!("{url}_{part}"))?)
        }
        other => panic!("no engine {other}"),
    })
}

/// The address of a server that is [`FAR`] from here, and is the one at a socket of this machine.
fn far_away(url: &str) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let (host, database) = rest.split_once('/').unwrap();
    let socket = format!("{}/.s.PGSQL.5432", host.replace("%2F", "/"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            client.set_nodelay(true).unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            delay(from, to, |server| server.shutdown(Shutdown::Both));
            delay(server, client, |client| client.shutdown(Shutdown::Both));
        }
    });
    format!("{user}@{near}/{database}")
}

/// Hands on what is read, each piece as late.
fn delay<R, W>(mut from: R, mut to: W, end: fn(&W) -> io::Result<()>)
where
    R: Read + Send + 'static,
    W: io::Write + Send + 'static,
{
    let (pieces, due) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            pieces
                .send((Instant::now() + FAR, buffer[..read].to_vec()))
                .ok();
        }
    });
    thread::spawn(move || {
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // Who has gone already need not be told.
        end(&to).ok();
    });
}

fn keeps_nothing(name: &str) -> bool {
    name == "memory" || name == "slow"
}

fn measure(name: &str) {
    let temp = tempfile::tempdir().unwrap();
    println!("\n## {name}\n");
    println!("| what | per unit | CPU per unit | rate |\n|---|---:|---:|---:|");
    if wants("commits") && name != "slow" {
        commits(name, &temp.path().join("commits"));
    }
    if wants("writers") {
        writers(name, temp.path());
    }
    if wants("rows") && name != "slow" {
        bulk(name, temp.path());
    }
    if wants("import") && name != "slow" {
        import(name, &temp.path().join("import"));
    }
    println!("| peak RSS | {} MiB | | |", eidetica_benches::peak_mib());
}

/// How often a second the disk takes 700 more bytes for good: the limit of one sync for each commit.
fn syncs_alone(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("alone")).unwrap();
    let begun = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&[7; 700]).unwrap();
        file.sync_data().unwrap();
    }
    rate(SYNCS as u64, begun.elapsed())
}

/// Signed commits of one leaf to one database by more and more threads.
fn writers(name: &str, temp: &Path) {
    let dir = temp.join("writers");
    let engine = Arc::new(RecordingEngine::new(open(name, &dir).unwrap()));
    let databases = Databases::open(engine.clone(), Config::new([7; 32])).unwrap();
    let database = create(&databases, Vec::new());
    let mut alone = None;
    let mut done = 0;
    for writers in [1, 2, 4, 8, 16, 32, 64] {
        let commits = match (name, writers) {
            (_, 1) => COMMITS / 16,
            _ => COMMITS / 2,
        };
        let syncs = match name {
            "slow" => 1.0 / SLOW_SYNC.as_secs_f64(),
            _ => syncs_alone(temp),
        };
        drop(engine.take());
        let cpu = cpu_time();
        let begun = Instant::now();
        thread::scope(|scope| {
            for writer in 0..writers {
                let database = &database;
                scope.spawn(move || {
                    for number in 0..commits / writers {
                        let transaction = database.new_transaction();
                        let doc = transaction.doc("notes").unwrap();
                        let leaf = format!("key{:07}", done + writer * commits + number);
                        doc.set(&leaf, number as i64).unwrap();
                        transaction.commit().unwrap();
                    }
                });
            }
        });
        let elapsed = begun.elapsed();
        done += writers * commits;
        let commits = commits / writers * writers;
        let speed = rate(commits as u64, elapsed);
        let single = *alone.get_or_insert(speed);
        let groups = engine.take().durable_writes.max(1);
        println!(
            "| durable commits, {writers} writers: {:.1} times one writer, {:.1} times a sync each ({syncs:.0}/s), {:.1} a group | {:.1} us | {:.1} us | {speed:.0}/s |",
            speed / single,
            speed / syncs,
            commits as f64 / groups as f64,
            1e6 / speed,
            (cpu_time() - cpu).as_secs_f64() * 1e6 / commits as f64,
        );
    }
    engine.close().unwrap();
}

/// Table rows of five fields as one import, and what an application does with them.
fn import(name: &str, dir: &Path) {
    let rows = number("ROWS", 200_000);
    let engine = open(name, dir).unwrap();
    let databases = Databases::open(Arc::clone(&engine), Config::new([7; 32])).unwrap();
    let database = create(&databases, Vec::new());
    let watch = Watch::start();
    let mut import = database.import();
    for row in 0..rows {
        let mut fields = Doc::new();
        fields.insert("number", row as i64);
        fields.insert("name", format!("the name of row {row:07}"));
        fields.insert("city", "Springfield");
        fields.insert("share", row as f64 / 7.0);
        fields.insert("done", row % 3 == 0);
        import
            .insert_row("rows", row_key(row, rows), fields)
            .unwrap();
    }
    import.commit().unwrap();
    watch.report("row of 5 fields imported, durable", rows as usize);
    let watch = Watch::start();
    let table = database.table::<serde_json::Value>("rows").unwrap();
    for read in 0..READS as u64 / 5 {
        let key = row_key(read.wrapping_mul(7_919) % rows, rows);
        assert!(table.get(&key).unwrap().is_some());
    }
    watch.report("imported row by key", READS / 5);
    let watch = Watch::start();
    let mut scanned = 0;
    for row in table.rows().iter() {
        row.unwrap();
        scanned += 1;
    }
    watch.report("imported row, scanned in order", scanned);
    assert_eq!(scanned as u64, rows);
    report_size("after the import", &*engine);
    drop((table, database, databases));
    engine.close().unwrap();
    drop(engine);
    if keeps_nothing(name) {
        return;
    }
    let watch = Watch::start();
    let engine = open(name, dir).unwrap();
    let databases = Databases::open(Arc::clone(&engine), Config::new([8; 32])).unwrap();
    let database = databases.get(&databases.list().unwrap()[0]).unwrap();
    let table = database.table::<serde_json::Value>("rows").unwrap();
    assert!(table.get(&row_key(0, rows)).unwrap().is_some());
    watch.report("open after the import, with one row read", 1);
    engine.close().unwrap();
}

fn row_key(row: u64, rows: u64) -> String {
    format!("row{:08}", spread(row, rows))
}

/// An engine whose every durable write takes as long as the sync of a slow disk.
struct SlowEngine(MemoryEngine);

impl Engine for SlowEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.snapshot()
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        if durability == Durability::Durable {
            thread::sleep(SLOW_SYNC);
        }
        self.0.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        thread::sleep(SLOW_SYNC);
        Ok(())
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Hint {
        self.0.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.0.close()
    }

    fn info(&self) -> EngineInfo {
        self.0.info()
    }
}

/// Single commits of five rows, alone and in groups, each group synced or not.
fn commits(name: &str, dir: &Path) {
    let engine = open(name, dir).unwrap();
    let mut rng = Xorshift(1);
    let mut version = 0_u64;
    let durable = Durability::Durable;
    for (group, durability) in [
        (1, durable),
        (8, durable),
        (64, durable),
        (1, Durability::Relaxed),
    ] {
        let alone = syncs_alone(dir.parent().unwrap());
        let watch = Watch::start();
        for _ in 0..COMMITS / group {
            let mut batch = Batch::with_capacity(6 * group, 700 * group);
            for _ in 0..group {
                commit(&mut batch, &mut version, &mut rng);
            }
            engine.write(&batch, durability).unwrap();
            let snapshot = engine.snapshot().unwrap();
            black_box(snapshot.get(Space::Meta, b"version").unwrap());
        }
        let what = format!(
            "{durability:?} commit of 5 rows, groups of {group}; a sync alone {alone:.0}/s"
        );
        watch.report(&what.to_lowercase(), COMMITS);
    }
    report_size("small database", &*engine);
    engine.close().unwrap();
    drop(engine);
    if !keeps_nothing(name) {
        timed_open("open, small", name, dir);
    }
}

fn commit(batch: &mut Batch, version: &mut u64, rng: &mut Xorshift) {
    let before = (*version > 0).then(|| version.to_be_bytes());
    batch.expect(
        Space::Meta,
        b"version",
        before.as_ref().map(|bytes| &bytes[..]),
    );
    *version += 1;
    batch.put(Space::Meta, b"version", &version.to_be_bytes());
    batch.put(Space::Log, &version.to_be_bytes(), &rng.bytes::<420>());
    batch.put(Space::Ids, &rng.bytes::<36>(), &rng.bytes::<17>());
    let key = rng.bytes::<40>();
    batch.put(Space::State, &key, &rng.bytes::<60>());
    batch.put(Space::Versions, &key, &rng.bytes::<60>());
}

/// Bulk ingest, then everything one does with the result.
fn bulk(name: &str, temp: &Path) {
    let entries = number("ENTRIES", 200_000) as usize;
    let batches = entries / BATCH_ENTRIES;
    let dir = temp.join("bulk");
    let engine = open(name, &dir).unwrap();
    let mut rng = Xorshift(7);
    let watch = Watch::start();
    for number in 0..batches {
        let batch = ingest(number, &mut rng);
        engine.write(&batch, Durability::Durable).unwrap();
    }
    watch.report("bulk entry (1 id row, 2 state rows, 62 B of pack)", entries);
    let watch = Watch::start();
    engine.flush().unwrap();
    watch.report("flush", 1);
    report_size("after bulk", &*engine);

    reads(&*engine, batches);
    scans(&*engine);
    if keeps_nothing(name) {
        return;
    }
    if dir.exists() {
        let crashed = temp.join("crashed");
        copy(&dir, &crashed);
        timed_open("open after a crash", name, &crashed);
    }
    let watch = Watch::start();
    engine.close().unwrap();
    drop(engine);
    watch.report("close", 1);
    timed_open("open, clean", name, &dir);
}

/// The rows of one bulk batch. The keys can be made again from the number.
fn ingest(number: usize, rng: &mut Xorshift) -> Batch {
    let mut batch = Batch::with_capacity(BATCH_ENTRIES * 3 + PACKS, 2 << 20);
    for row in 0..BATCH_ENTRIES {
        batch.put(Space::Ids, &id_key(number, row), &rng.bytes::<17>());
    }
    for pack in 0..PACKS {
        let key = ((number * PACKS + pack) as u64).to_be_bytes();
        batch.put(Space::Log, &key, &rng.bytes::<PACK_BYTES>());
    }
    for row in 0..STATE_ROWS {
        batch.put(Space::State, &state_key(number, row), &rng.bytes::<60>());
    }
    batch.put(Space::Meta, b"version", &number.to_be_bytes());
    batch
}

fn id_key(number: usize, row: usize) -> [u8; 36] {
    Xorshift::of(1, number, row).bytes()
}

fn state_key(number: usize, row: usize) -> [u8; 40] {
    Xorshift::of(2, number, row).bytes()
}

fn reads(engine: &dyn Engine, batches: usize) {
    let mut rng = Xorshift(99);
    let pick = |rng: &mut Xorshift, rows: usize| {
        (rng.next() as usize % batches, rng.next() as usize % rows)
    };
    let watch = Watch::start();
    for _ in 0..READS / 10 {
        let snapshot = engine.snapshot().unwrap();
        for _ in 0..10 {
            let (number, row) = pick(&mut rng, STATE_ROWS);
            assert!(
                snapshot
                    .get(Space::State, &state_key(number, row))
                    .unwrap()
                    .is_some()
            );
        }
    }
    watch.report("random get of a state row, 10 per snapshot", READS);

    let watch = Watch::start();
    for _ in 0..READS / 1_000 {
        let keys: Vec<_> = (0..1_000)
            .map(|_| {
                let (number, row) = pick(&mut rng, BATCH_ENTRIES);
                id_key(number, row)
            })
            .collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let found = engine
            .snapshot()
            .unwrap()
            .multi_get(Space::Ids, &keys)
            .unwrap();
        assert!(found.iter().all(Option::is_some));
    }
    watch.report("known id, 1,000 per multi_get", READS);

    let watch = Watch::start();
    for _ in 0..READS / 1_000 {
        let keys: Vec<_> = (0..1_000).map(|_| rng.bytes::<36>()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let found = engine
            .snapshot()
            .unwrap()
            .multi_get(Space::Ids, &keys)
            .unwrap();
        assert!(found.iter().all(Option::is_none));
    }
    watch.report("unknown id, 1,000 per multi_get", READS);
}

fn scans(engine: &dyn Engine) {
    for (space, what) in [
        (Space::State, "state row, full scan"),
        (Space::Log, "25 kB pack, full scan"),
    ] {
        let snapshot = engine.snapshot().unwrap();
        let mut rows = 0;
        let watch = Watch::start();
        let walked: Result<ControlFlow<()>, EngineError> =
            snapshot.for_each(space, &KeyRange::all(), Direction::Forward, |row| {
                rows += 1;
                black_box(row);
                Ok(ControlFlow::Continue(()))
            });
        assert!(walked.unwrap().is_continue());
        watch.report(what, rows);
    }
    const SCANS: usize = 5_000;
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut rng = Xorshift(3);
        let watch = Watch::start();
        for _ in 0..SCANS {
            let range = match direction {
                Direction::Forward => KeyRange::starting_at(rng.bytes::<8>()),
                Direction::Reverse => KeyRange::all().before(&rng.bytes::<8>()),
            };
            let snapshot = engine.snapshot().unwrap();
            black_box(
                snapshot
                    .scan(Space::State, &range, direction, ScanLimit::rows(50))
                    .unwrap(),
            );
        }
        watch.report(&format!("scan of 50 state rows, {direction:?}"), SCANS);
    }
}

fn timed_open(what: &str, name: &str, dir: &Path) {
    let watch = Watch::start();
    let engine = open(name, dir).unwrap();
    assert!(
        engine
            .snapshot()
            .unwrap()
            .get(Space::Meta, b"version")
            .unwrap()
            .is_some()
    );
    watch.report(what, 1);
    report_size(what, &*engine);
    engine.close().unwrap();
}

fn report_size(what: &str, engine: &dyn Engine) {
    if let Some(bytes) = engine.info().disk_bytes {
        println!(
            "| {what}: on disk | {:.1} MiB | | |",
            bytes as f64 / f64::from(1 << 20)
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Wall and processor time since a moment.
struct Watch {
    wall: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu_time(),
        }
    }

    fn report(&self, what: &str, units: usize) {
        let (wall, cpu) = (self.wall.elapsed(), cpu_time() - self.cpu);
        let each = |time: Duration| {
            let micros = time.as_secs_f64() * 1e6 / units as f64;
            if micros < 1e4 {
                format!("{micros:.2} us")
            } else {
                format!("{:.0} ms", micros / 1e3)
            }
        };
        let rate = units as f64 / wall.as_secs_f64();
        println!("| {what} | {} | {} | {rate:.0}/s |", each(wall), each(cpu));
    }
}

/// Processor time of this process, all threads; 10 ms steps.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| {
        fields
            .get(field)
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// A fast generator of incompressible bytes.
struct Xorshift(u64);

impl Xorshift {
    fn of(kind: u64, number: usize, row: usize) -> Self {
        let mut rng = Self((kind << 60) ^ ((number as u64) << 24) ^ (row as u64 + 1));
        rng.0 = rng.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}
