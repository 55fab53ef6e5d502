//! Authenticated databases: `cargo bench -p eidetica-benches --bench authdb`.
//!
//! Fresh keys and overwrites at 10,000 changes per commit, proofs, verification and opening, on a disk in memory and in
//! a directory, beside what this machine does at most in the same minute: BLAKE3 of the same operations, and
//! plain writes with as many syncs; and opening what a killed process leaves behind. `OPERATIONS` (default 1000000) sets the
//! size, `THREADS` (default 1) the threads that hash. Arguments choose among `memory`, `disk` and `killed`. Best of three
//! where a figure is short.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eidetica_authdb::{Any, Disk, MemoryDisk, Operation, Options};
use eidetica_authdb_dir::DirDisk;
use eidetica_benches::{Chosen, number, processor_time};
use eidetica_mmr::{Frontier, Leaves, Location, leaf_hash, verify_range};

const COMMIT: u64 = 10_000;
const RANGES: [u64; 3] = [50, 1_000, 10_000];

fn options() -> Options {
    Options {
        threads: number("THREADS", 1) as usize,
        ..Options::new([3; 32])
    }
}

/// Tells a child where to write until it is killed.
const WRITER: &str = "EIDETICA_BENCH_AUTHDB_WRITER";

fn main() {
    if let Some(dir) = std::env::var_os(WRITER) {
        return write_until_killed(Path::new(&dir));
    }
    let chosen = Chosen::read();
    let wanted = |name: &str| chosen.wants(name);
    let count = number("OPERATIONS", 1_000_000);
    println!(
        "{count} operations of 66 bytes, {COMMIT} per commit, {} threads\n",
        options().threads
    );
    println!(
        "| what | ms | per second | processor ms | per processor second | of the limit |\n|---|---:|---:|---:|---:|---:|"
    );
    let dir = tempfile::tempdir().unwrap();
    let hashing = limit_of_hashing(count);
    let writing = limit_of_writing(count, &dir.path().join("raw"));
    if wanted("memory") {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        measure("memory", count, &|| disk.clone(), hashing, hashing);
    }
    if wanted("disk") {
        let path = dir.path().join("database");
        let open = || -> Arc<dyn Disk> { Arc::new(DirDisk::open(&path).unwrap()) };
        measure("disk", count, &open, hashing, hashing.and(writing));
    }
    if wanted("killed") {
        killed(count, &dir.path().join("killed"));
    }
}

/// Fresh keys and their overwriting, a line for each commit.
fn write_until_killed(dir: &Path) {
    let mut database = Any::open(Arc::new(DirDisk::open(dir).unwrap()), options()).unwrap();
    for number in (database.leaves().0..).step_by(COMMIT as usize) {
        for at in number..number + COMMIT {
            database.update(&key(at % 100_000), &key(at)).unwrap();
        }
        database.commit(None).unwrap();
        println!("{}", database.leaves().0);
    }
}

/// The first opening after a writer was killed, three times: in the middle of a commit, most likely.
fn killed(count: u64, dir: &Path) {
    for part in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(WRITER, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sizes = lines.map(|line| line.unwrap().parse::<u64>().unwrap());
        let told = sizes.find(|size| *size >= count * part / 3).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let begun = Watch::start();
        let database = Any::open(Arc::new(DirDisk::open(dir).unwrap()), options()).unwrap();
        let took = begun.elapsed();
        assert!(database.leaves().0 >= told);
        let behind = database.leaves();
        row(&format!("killed: open with {behind} behind"), 1, took, None);
    }
}

/// Wall time, and the processor time of the main thread where the system tells it.
struct Watch {
    wall: std::time::Instant,
    processor: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    processor: Option<Duration>,
}

impl Watch {
    fn start() -> Self {
        Self {
            wall: std::time::Instant::now(),
            processor: processor_time(),
        }
    }

    fn elapsed(&self) -> Took {
        let now = processor_time();
        Took {
            wall: self.wall.elapsed(),
            processor: now.zip(self.processor).map(|(now, then)| now - then),
        }
    }
}

impl Took {
    fn scaled(self, by: f64) -> Self {
        Self {
            wall: self.wall.mul_f64(by),
            processor: self.processor.map(|time| time.mul_f64(by)),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            processor: self
                .processor
                .zip(other.processor)
                .map(|(one, two)| one + two),
        }
    }

    /// The figure that other load disturbs least.
    fn fair(self) -> f64 {
        self.processor.unwrap_or(self.wall).as_secs_f64()
    }
}

fn row(what: &str, count: u64, took: Took, limit: Option<Took>) {
    let rate = |time: Duration| format!("{:.0}", count as f64 / time.as_secs_f64());
    let of = limit.map_or(String::new(), |limit| {
        format!("{:.0} %", 100.0 * limit.fair() / took.fair())
    });
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let processor = took.processor.map_or(String::new(), ms);
    let per_processor = took.processor.map_or(String::new(), rate);
    let wall = took.wall;
    println!(
        "| {what} | {} | {} | {processor} | {per_processor} | {of} |",
        ms(wall),
        rate(wall)
    );
}

fn key(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// One leaf hash and one node hash for each operation: less cannot make the root.
fn limit_of_hashing(count: u64) -> Took {
    let mut operation = Vec::new();
    Operation::Update {
        key: &key(1),
        value: &key(2),
    }
    .encode(&mut operation);
    let begun = Watch::start();
    let mut frontier = Frontier::new();
    for _ in 0..count {
        frontier.append(leaf_hash(black_box(&operation))).unwrap();
    }
    black_box(frontier.root());
    let took = begun.elapsed();
    row(
        "limit: BLAKE3 of operations and nodes, one thread",
        count,
        took,
        None,
    );
    took
}

/// The same bytes in one file with a sync for each commit.
fn limit_of_writing(count: u64, path: &Path) -> Took {
    let commit = vec![7; 66 * COMMIT as usize];
    let mut file = File::create(path).unwrap();
    let begun = Watch::start();
    for _ in 0..count / COMMIT {
        file.write_all(&commit).unwrap();
        file.sync_data().unwrap();
    }
    let took = begun.elapsed();
    row(
        "limit: writes and syncs of the same bytes",
        count,
        took,
        None,
    );
    took
}

fn measure(name: &str, count: u64, disk: &dyn Fn() -> Arc<dyn Disk>, hashing: Took, limit: Took) {
    let keys: Vec<[u8; 32]> = (0..count).map(key).collect();
    let mut database = Any::open(disk(), options()).unwrap();
    let mut root = database.root();
    let begun = Watch::start();
    for chunk in keys.chunks(COMMIT as usize) {
        for key in chunk {
            database.update(key, key).unwrap();
        }
        database.commit(None).unwrap();
        root = black_box(database.root());
    }
    row(
        &format!("{name}: fresh keys: append, commit, root"),
        count,
        begun.elapsed(),
        Some(limit),
    );
    reopen(
        &format!("{name}: open after fresh keys"),
        &mut database,
        disk,
        root,
    );
    proofs(name, &database, hashing);
    gets(name, &database, &keys);

    let before = database.leaves().0;
    let begun = Watch::start();
    let mut at = 1u64;
    let overwrites = count / 2;
    for _ in 0..overwrites / COMMIT {
        for _ in 0..COMMIT {
            at = at
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = &keys[((at >> 33) % count) as usize];
            database.update(key, &at.to_le_bytes().repeat(4)).unwrap();
        }
        database.commit(None).unwrap();
    }
    let took = begun.elapsed();
    row(
        &format!("{name}: random overwrites"),
        overwrites,
        took,
        Some(limit.scaled(0.5)),
    );
    let operations = database.leaves().0 - before;
    row(
        &format!("{name}: the same in operations, moved ones included"),
        operations,
        took,
        None,
    );

    // Much dead history in few keys.
    let few = &keys[..1000];
    let begun = Watch::start();
    let rounds = count / 1000;
    for round in 0..rounds {
        for key in few {
            database.update(key, &round.to_le_bytes()).unwrap();
        }
        if round % 10 == 9 {
            database.commit(None).unwrap();
        }
    }
    database.commit(None).unwrap();
    row(
        &format!("{name}: the same 1,000 keys over and over"),
        rounds * 1000,
        begun.elapsed(),
        None,
    );
    let root = database.root();
    reopen(
        &format!("{name}: open with that history behind"),
        &mut database,
        disk,
        root,
    );
    let begun = Watch::start();
    database.prune(database.floor()).unwrap();
    row(&format!("{name}: prune"), 1, begun.elapsed(), None);
    reopen(
        &format!("{name}: open after pruning"),
        &mut database,
        disk,
        root,
    );
}

/// Drops the database, as a killed process would: closing writes nothing.
fn reopen(
    what: &str,
    database: &mut Any,
    disk: &dyn Fn() -> Arc<dyn Disk>,
    root: eidetica_mmr::Digest,
) {
    let mut best: Option<Took> = None;
    let spare: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    for _ in 0..3 {
        // A directory is locked until its database is dropped.
        drop(std::mem::replace(
            database,
            Any::open(spare.clone(), options()).unwrap(),
        ));
        let begun = Watch::start();
        *database = Any::open(disk(), options()).unwrap();
        let took = begun.elapsed();
        best = best.filter(|best| best.wall < took.wall).or(Some(took));
        assert_eq!(database.root(), root);
    }
    row(what, 1, best.unwrap(), None);
}

fn proofs(name: &str, database: &Any, hashing: Took) {
    let end = database.leaves().0;
    for size in RANGES {
        let starts: Vec<u64> = (0..end.saturating_sub(size))
            .step_by(size as usize)
            .collect();
        let proven = starts.len() as u64 * size;
        let limit = hashing.scaled(proven as f64 / end as f64);
        let mut shown = Vec::new();
        let begun = Watch::start();
        for start in &starts {
            let range = Location(*start)..Location(start + size);
            shown.push(
                database
                    .historical_proof(Leaves(end), range, usize::MAX)
                    .unwrap(),
            );
        }
        let took = begun.elapsed();
        row(
            &format!("{name}: prove ranges of {size}"),
            proven,
            took,
            None,
        );
        let root = database.root();
        let bytes: usize = shown
            .iter()
            .map(|s| s.operations.as_bytes().len() + s.proof.digests.len() * 32)
            .sum();
        let begun = Watch::start();
        for range in &shown {
            let operations: Vec<&[u8]> = range.operations.iter().collect();
            verify_range(&root, &range.proof, range.start, &operations).unwrap();
        }
        let took = begun.elapsed();
        let each = bytes as f64 / proven as f64;
        row(
            &format!("{name}: verify ranges of {size} ({each:.1} B/op)"),
            proven,
            took,
            Some(limit),
        );
    }
}

fn gets(name: &str, database: &Any, keys: &[[u8; 32]]) {
    let reads = keys.len() as u64 / 10;
    let begun = Watch::start();
    for read in 0..reads {
        let key = &keys[(read * 7919 % keys.len() as u64) as usize];
        assert!(database.get(key).unwrap().is_some());
    }
    row(
        &format!("{name}: random gets"),
        reads,
        begun.elapsed(),
        None,
    );
}
