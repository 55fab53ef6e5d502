//! State synchronization on loopback, server and client each a process with a data directory of its own:
//! `cargo bench -p eidetica-benches --bench statesync`.
//!
//! Full syncs of databases of `OPERATIONS` (default 100000 and 1000000) fresh keys of 32 bytes with values of 32, over
//! plain TCP at batches of 50 and 1,000, and at 1,000 over the encrypted transport with keys proven on both ends. Beside
//! each: the least that the client's thread has to do, checking and storing the same ranges without a network, in processor
//! time. Arguments choose among `tcp` and `http`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::io::BufReader;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eidetica_auth::SecretKey;
use eidetica_authdb::{Any, Kind, Operation, Operations, Options, Replica};
use eidetica_authdb_dir::DirDisk;
use eidetica_benches::{Chosen, number, peak_mib, processor_time, rate};
use eidetica_mmr::{Digest, Leaves, Location, leaf_hash, verify_range_digests};
use eidetica_statesync::{Config, DatabaseName, Evidence, Pin, Target};
use eidetica_statesync_net::{
    Binding, Driver, Endpoint, Identity, Outcome, Served, Server, ServerLimits, Silent, SourceNews,
    Watcher,
};
use eidetica_transport::{Address, Transport as _};
use eidetica_transport_http::HttpTransport;

/// Tells a child to serve: the transport and the directory.
const SERVE: &str = "EIDETICA_BENCH_SERVE";
/// Operations per commit of the database that is served.
const COMMIT: u64 = 10_000;
const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

fn main() {
    if let Ok(orders) = std::env::var(SERVE) {
        return serve(&orders);
    }
    let chosen = Chosen::read();
    let sizes = match number("OPERATIONS", 0) {
        0 => vec![100_000, 1_000_000],
        size => vec![size],
    };
    println!(
        "| operations | over | batch | s | per second | bytes each | client's peak MiB | server's | client's thread, us each | of the limit |\n\
         |---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    for size in sizes {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("original");
        fill(&path, size);
        for (over, batch) in [("tcp", 50), ("tcp", 1_000), ("http", 1_000)] {
            if chosen.wants(over) {
                measure(&path, over, batch);
            }
        }
    }
}

fn options() -> Options {
    Options::new([3; 32])
}

fn open(dir: &Path) -> Any {
    Any::open(Arc::new(DirDisk::open(dir).unwrap()), options()).unwrap()
}

/// A database of so many operations, the commits among them.
fn fill(dir: &Path, size: u64) {
    let mut database = open(dir);
    let mut next = 0u64;
    while database.leaves().0 < size {
        let most = (size - database.leaves().0 - 1).min(COMMIT - 1);
        for _ in 0..most {
            let key = *blake3::hash(&next.to_le_bytes()).as_bytes();
            database.update(&key, &key).unwrap();
            next += 1;
        }
        database.commit(Some(b"")).unwrap();
    }
}

/// The server: until its standard input ends.
fn serve(orders: &str) {
    let (over, dir) = orders.split_once(' ').unwrap();
    let name = DatabaseName::new("any").unwrap();
    let served = Arc::new(Served::new(name, open(Path::new(dir)), None));
    let mut limits = ServerLimits::default();
    limits.operations_per_second = u32::MAX.try_into().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server::new(served, limits, Silent);
    let binding = runtime.block_on(async {
        if over == "tcp" {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            println!("{}", listener.local_addr().unwrap());
            return Binding::Tcp(listener);
        }
        let listener = HttpTransport::new()
            .unwrap()
            .listen("127.0.0.1:0")
            .await
            .unwrap();
        println!(
            "{}",
            listener.address().to_string().trim_start_matches("http://")
        );
        Binding::Channels(listener, Some(identity(0)))
    });
    let serving = Arc::clone(&server);
    runtime.spawn(async move { serving.listen(binding).await });
    for _ in std::io::stdin().lines() {}
    runtime.block_on(server.stop());
    println!("{}", peak_mib());
}

fn identity(own: usize) -> Identity {
    let keys = KEYS.map(|seed| SecretKey::from_bytes(&seed));
    let other = keys[1 - own].public();
    Identity::new(keys[own].clone(), &[other])
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Process {
    fn start(over: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVE, format!("{over} {}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = line(&mut output);
        Self {
            child,
            input,
            output,
            address,
        }
    }

    /// Ends it. Its peak memory.
    fn stop(mut self) -> u64 {
        self.input = None;
        let peak = line(&mut self.output).parse().unwrap();
        assert!(self.child.wait().unwrap().success());
        peak
    }
}

fn line(from: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Counts bytes; keeps nothing.
#[derive(Default)]
struct Counting {
    bytes: usize,
}

impl Watcher for Counting {
    fn persist(&mut self, _: &Pin) -> std::io::Result<()> {
        Ok(())
    }

    fn alarm(&mut self, _: Option<usize>, evidence: &Evidence) -> std::io::Result<()> {
        panic!("{evidence:?}");
    }

    fn asked(&mut self, _: usize, bytes: usize) {
        self.bytes += bytes;
    }

    fn replied(&mut self, _: usize, bytes: usize, _: Duration) {
        self.bytes += bytes;
    }

    fn source(&mut self, _: usize, news: SourceNews<'_>) {
        assert!(matches!(news, SourceNews::Connected), "{news:?}");
    }
}

fn measure(original: &Path, over: &str, batch: usize) {
    let server = Process::start(over, original);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endpoint = match over {
        "tcp" => Endpoint::Tcp {
            address: server.address.clone(),
        },
        _ => Endpoint::Channel {
            transport: Arc::new(HttpTransport::new().unwrap()),
            address: Address::http(&server.address).unwrap(),
            identity: Some(identity(1)),
        },
    };
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(DirDisk::open(dir.path().join("copy")).unwrap());
    let replica = Replica::open(disk, Kind::Any, options()).unwrap();
    let mut config = Config::new(DatabaseName::new("any").unwrap(), Operation::length);
    config.batch = batch;
    config.outstanding = 16;
    let mut counting = Counting::default();
    // Forgets the peak so far, where the system can.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    let (begun, used) = (Instant::now(), processor_time());
    let (driver, _stopper) =
        Driver::new(config, replica, None, vec![endpoint], runtime.handle()).unwrap();
    let (outcome, copy) = driver.run(&mut counting).unwrap();
    let (took, used) = (begun.elapsed(), since(used));
    drop(copy);
    let Outcome::Complete(target) = outcome else {
        panic!("{outcome:?}")
    };
    let peak = peak_mib();
    let served = server.stop();
    let count = target.leaves().0;
    let limit = limit(original, &target, batch as u64);
    println!(
        "| {count} | {over} | {batch} | {:.2} | {:.0} | {:.1} | {peak} | {served} | {:.2} | {:.0} % |",
        took.as_secs_f64(),
        rate(count, took),
        counting.bytes as f64 / count as f64,
        used.as_secs_f64() * 1e6 / count as f64,
        100.0 * limit.as_secs_f64() / used.as_secs_f64(),
    );
}

/// Processor time of this thread since then, nothing where it is not known.
fn since(then: Option<Duration>) -> Duration {
    let times = processor_time().zip(then);
    times.map_or(Duration::ZERO, |(now, then)| now - then)
}

/// The same ranges without a network, made beforehand: hashed and compared with the root, appended, made durable. One
/// thread, as the client has; its processor time.
fn limit(original: &Path, target: &Target, batch: u64) -> Duration {
    let original = open(original);
    let (root, leaves) = (target.root(), target.leaves());
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(DirDisk::open(dir.path().join("limit")).unwrap());
    let mut replica = Replica::open(disk, Kind::Any, options()).unwrap();
    let mut spent = Duration::ZERO;
    for start in (0..leaves.0).step_by(batch as usize) {
        let range = Location(start)..Location((start + batch).min(leaves.0));
        let shown = original
            .historical_proof(leaves, range, usize::MAX)
            .unwrap();
        let begun = processor_time();
        let hashes: Vec<Digest> = shown.operations.iter().map(leaf_hash).collect();
        verify_range_digests(&root, &shown.proof, shown.start, &hashes).unwrap();
        let bytes = shown.operations.as_bytes().to_vec();
        let operations = Operations::parse(bytes, shown.start, hashes.len()).unwrap();
        replica.apply(shown.start, operations).unwrap();
        spent += since(begun);
    }
    let begun = processor_time();
    replica.finish(root, leaves, target.lower()).unwrap();
    assert_eq!(replica.leaves(), Leaves(leaves.0));
    spent + since(begun)
}
