//! The storage engines on our own pattern: `cargo bench -p eidetica-benches --bench engines`.
//!
//! Each engine runs in a process of its own, one after the other, on a fresh directory under the
//! temporary directory, and prints one column of figures. Arguments choose among the engines by name;
//! `ENTRIES` (default 500000) sets the size. Rates are single runs: trust CPU figures more than rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use eidetica_benches::{Chosen, number};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, KeyRange, MemoryEngine, ScanLimit, Space,
};
use eidetica_storage_fjall::{FjallEngine, FjallOptions};
use eidetica_storage_redb::{RedbEngine, RedbOptions};

/// Tells a child which engine to measure.
const CHILD: &str = "EIDETICA_BENCH_ENGINE";
const ENGINES: [&str; 5] = ["memory", "fjall", "fjall-64m", "redb", "redb-walk"];

const COMMITS: usize = 8_192;
const BATCH_ENTRIES: usize = 4_000;
const PACKS: usize = 10;
const PACK_BYTES: usize = 25_000;
const STATE_ROWS: usize = 8_000;
const READS: usize = 200_000;

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        return measure(&name);
    }
    let chosen = Chosen::read();
    for name in ENGINES {
        if !chosen.wants(name) {
            continue;
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, name)
            .status()
            .unwrap();
        assert!(status.success(), "{name}");
    }
}

fn open(name: &str, dir: &Path) -> Result<Box<dyn Engine>, EngineError> {
    let mut fjall = FjallOptions::default();
    let mut redb = RedbOptions::default();
    Ok(match name {
        "memory" => Box::new(MemoryEngine::new()),
        "fjall" => Box::new(FjallEngine::open_with(dir, fjall)?),
        "fjall-64m" => {
            fjall.memtable_bytes = 64 << 20;
            Box::new(FjallEngine::open_with(dir, fjall)?)
        }
        "redb" => Box::new(RedbEngine::open_with(dir, redb)?),
        "redb-walk" => {
            redb.quick_repair = false;
            Box::new(RedbEngine::open_with(dir, redb)?)
        }
        other => panic!("no engine {other}"),
    })
}

fn measure(name: &str) {
    let temp = tempfile::tempdir().unwrap();
    println!("\n## {name}\n");
    println!("| what | per unit | CPU per unit | rate |\n|---|---:|---:|---:|");
    commits(name, &temp.path().join("commits"));
    bulk(name, temp.path());
    println!("| peak RSS | {} MiB | | |", peak_rss_kib() / 1024);
}

/// Single commits of five rows, alone and in groups, each group synced.
fn commits(name: &str, dir: &Path) {
    let engine = open(name, dir).unwrap();
    let mut rng = Xorshift(1);
    let mut version = 0_u64;
    for group in [1, 8, 64] {
        let watch = Watch::start();
        for _ in 0..COMMITS / group {
            let mut batch = Batch::with_capacity(6 * group, 700 * group);
            for _ in 0..group {
                commit(&mut batch, &mut version, &mut rng);
            }
            engine.write(&batch, Durability::Durable).unwrap();
            let snapshot = engine.snapshot().unwrap();
            black_box(snapshot.get(Space::Meta, b"version").unwrap());
        }
        watch.report(
            &format!("durable commit of 5 rows, groups of {group}"),
            COMMITS,
        );
    }
    report_size("small database", &*engine);
    engine.close().unwrap();
    drop(engine);
    if name != "memory" {
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
    let entries = number("ENTRIES", 500_000) as usize;
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
    if name == "memory" {
        return;
    }
    let crashed = temp.join("crashed");
    copy(&dir, &crashed);
    timed_open("open after a crash", name, &crashed);
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

fn peak_rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
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
