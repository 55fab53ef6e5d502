//! Two nodes over HTTP on loopback, each a process with a data directory of its own:
//! `cargo bench -p eidetica-benches --bench sync`. With `--features iroh` the same over Iroh, directly, in the same run.
//!
//! First what each transport carries alone. Then for a chain and for a real history: the bootstrap of `ENTRIES` entries
//! (default 100000; `AUTHORS` for a chain by many, drawn evenly; `CACHE_MIB` for a cache of fjall's other than 64), beside what two cores verify alone in the same run; the peak memory of both processes; a sync with
//! nothing to do; a sync after one commit on each side. Arguments choose the shape and the engine by name. A history takes
//! longer to write than to fetch: with `SOURCE`, a directory, it is kept there for runs that ask for the same one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use eidetica::backend::database::Fjall;
use eidetica::crdt::Doc;
use eidetica::sync::Transport;
use eidetica::user::User;
use eidetica::{Database, Id, Instance};
use eidetica_benches::{
    Chosen, Shape, authors, commit_leaves_of, number, peak_mib, process_time, rate, write_history,
};
use eidetica_storage_fjall::FjallOptions;
use eidetica_transport::FrameStream;
use eidetica_transport_http::HttpTransport;
#[cfg(feature = "iroh")]
use eidetica_transport_iroh::IrohTransport;
use futures::executor::block_on;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Tells a child to serve: the shape, the engine and the directory.
const SERVE: &str = "EIDETICA_BENCH_SERVE";

/// How often the limit is measured.
const ROUNDS: usize = 15;

/// Tells a child to fetch: the shape, the engine and the transport. A process has one peak.
const FETCH: &str = "EIDETICA_BENCH_FETCH";

fn main() {
    if let Ok(orders) = std::env::var(SERVE) {
        return serve(&orders);
    }
    if let Ok(orders) = std::env::var(FETCH) {
        return fetch(&orders);
    }
    for over in TRANSPORTS {
        println!(
            "{over} alone: {:.0} MB/s in one request",
            carried(over) / 1e6
        );
    }
    let chosen = Chosen::read();
    let wanted = |name: &str, names: [&str; 2]| {
        !names.iter().any(|other| chosen.names(other)) || chosen.names(name)
    };
    for shape in ["chain", "dag"]
        .into_iter()
        .filter(|shape| wanted(shape, ["chain", "dag"]))
    {
        for engine in ["fjall", "redb"]
            .into_iter()
            .filter(|engine| wanted(engine, ["fjall", "redb"]))
        {
            for over in TRANSPORTS {
                let fetching = Command::new(std::env::current_exe().unwrap())
                    .env(FETCH, format!("{shape} {engine} {over}"))
                    .status();
                assert!(fetching.unwrap().success());
            }
        }
    }
}

const TRANSPORTS: &[&str] = if cfg!(feature = "iroh") {
    &["http", "iroh"]
} else {
    &["http"]
};

/// Two ends of a transport.
fn ends(over: &str) -> [Arc<dyn Transport>; 2] {
    match over {
        #[cfg(feature = "iroh")]
        "iroh" => [1, 2].map(|device| {
            let config = eidetica::sync::IrohConfig::local();
            let end: Arc<dyn Transport> = Arc::new(IrohTransport::new(&[device; 32], config));
            end
        }),
        _ => [(); 2].map(|()| {
            let end: Arc<dyn Transport> = Arc::new(HttpTransport::new().unwrap());
            end
        }),
    }
}

/// Bytes a second that a transport carries from a server to a client, which do nothing else.
fn carried(over: &str) -> f64 {
    const FRAMES: u64 = 512;
    let frame = bytes::Bytes::from(vec![7; 1 << 20]);
    let total = FRAMES * frame.len() as u64;
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let [server, client] = ends(over);
        let mut listener = server.listen("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let serving = tokio::spawn(async move {
            let mut channel = listener.accept().await.unwrap();
            channel.mark_proven();
            let (_request, mut response) = channel.next_request().await.unwrap();
            for _ in 0..FRAMES {
                response.send(frame.clone()).await.unwrap();
            }
            response.finish();
            // Until the client has closed it.
            channel.next_request().await.is_none()
        });
        let channel = client.connect(&address).await.unwrap();
        let start = Instant::now();
        let mut response = channel.request(FrameStream::empty()).await.unwrap();
        let mut left = total;
        while let Some(frame) = response.next().await.unwrap() {
            left -= frame.len() as u64;
        }
        let took = start.elapsed();
        assert_eq!(left, 0);
        channel.close().await;
        assert!(serving.await.unwrap());
        rate(total, took)
    })
}

fn entries() -> usize {
    number("ENTRIES", 100_000) as usize
}

/// Authors of a chain besides the database's own; with none, that one writes all.
fn chain_authors() -> u32 {
    number("AUTHORS", 0) as u32
}

fn open(backend: &str, over: &str) -> (Instance, User) {
    let cache_mib = number("CACHE_MIB", 64);
    let instance = match backend.strip_prefix("fjall:") {
        Some(path) => {
            let mut options = FjallOptions::default();
            options.cache_bytes = cache_mib << 20;
            let engine = Fjall::open_with(Path::new(path), options).unwrap();
            Instance::open(Box::new(engine)).unwrap()
        }
        None => Instance::connect(backend).unwrap(),
    };
    let instance = instance.enable_sync().unwrap();
    let sync = instance.sync().unwrap();
    #[cfg(feature = "iroh")]
    if over == "iroh" {
        let config = eidetica::sync::IrohConfig::local();
        sync.enable_iroh_transport_with(config).unwrap();
    }
    if over == "http" {
        sync.enable_http_transport().unwrap();
    }
    if instance.list_users().unwrap().is_empty() {
        instance.create_user("user", None).unwrap();
    }
    let user = instance.login_user("user", None).unwrap();
    (instance, user)
}

/// The server: writes the history, then serves it; each line of input asks for one more commit, the
/// end of input for the peak memory.
fn serve(orders: &str) {
    let [shape, engine, over, dir] = orders
        .splitn(4, ' ')
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let (instance, user) = open(&format!("{engine}:{dir}"), over);
    let kept = user.list_access().unwrap();
    let database = match shape {
        _ if !kept.is_empty() => user.open_database(kept[0].database).unwrap(),
        "chain" => {
            let database = create(&user);
            let (by, count) = (authors(chain_authors()), entries() as u64);
            commit_leaves_of(&by, &database, 0, count, count / 4);
            database
        }
        // Forks are slow on disk: they are made in memory and fetched from there.
        _ => {
            let (maker, author) = open("memory:", over);
            let made = create(&author);
            write_history(&made, &Shape::read(), entries());
            let (from, to) = (maker.sync().unwrap(), instance.sync().unwrap());
            from.start_server("127.0.0.1:0").unwrap();
            let address = from.get_server_address().unwrap();
            block_on(to.sync_with_peer(address, Some(&made.root_id()))).unwrap();
            let database = user.open_database(made.root_id()).unwrap();
            database.catch_up().unwrap();
            maker.close().unwrap();
            database
        }
    };
    instance.flush().unwrap();
    let sync = instance.sync().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    println!(
        "{} {} {}",
        sync.get_server_address().unwrap(),
        database.root_id(),
        peak_mib()
    );
    for line in std::io::stdin().lines() {
        line.unwrap();
        let transaction = database.new_transaction().unwrap();
        let notes = transaction.doc("notes").unwrap();
        notes.set("from there", 1).unwrap();
        transaction.commit().unwrap();
        println!("done");
    }
    println!("{}", peak_mib());
    instance.close().unwrap();
}

/// A database that anybody may write to.
fn create(user: &User) -> Database {
    let mut auth = Doc::new();
    auth.set_json(
        "*",
        serde_json::json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}),
    )
    .unwrap();
    let mut settings = Doc::new();
    settings.set_string("name", "measured");
    settings.set_doc("auth", auth);
    user.create_database(settings, user.get_default_key().unwrap())
        .unwrap()
}

struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
    address: String,
    database: Id,
    peak_before: u64,
}

impl Server {
    fn start(shape: &str, engine: &str, over: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVE, format!("{shape} {engine} {over} {}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, database) = (words[0].to_owned(), words[1].parse().unwrap());
        Self {
            child,
            input,
            output,
            address,
            database,
            peak_before: words[2].parse().unwrap(),
        }
    }

    fn commit(&mut self) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
        self.line();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Ends it; its peak memory before it served and at the end.
    fn stop(mut self) -> (u64, u64) {
        self.input = None;
        let peak = self.line().parse().unwrap();
        assert!(self.child.wait().unwrap().success());
        (self.peak_before, peak)
    }
}

/// The client: fetches from a server of its own, and prints what it took.
fn fetch(orders: &str) {
    let [shape, engine, over] = orders
        .splitn(3, ' ')
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = std::env::var_os("SOURCE").map_or(there.path().to_owned(), PathBuf::from);
    let mut name = format!("{shape}-{engine}-{}", entries());
    if shape == "chain" && chain_authors() > 0 {
        name += &format!("-{}", chain_authors());
    }
    let mut server = Server::start(shape, engine, over, &source.join(&name));
    let backend = format!("{engine}:{}", here.path().join("store").display());
    let (instance, user) = open(&backend, over);
    let sync = instance.sync().unwrap();
    let pull =
        || block_on(sync.sync_with_peer(server.address.as_str(), Some(&server.database))).unwrap();

    let (start, before) = (Instant::now(), process_time());
    let report = pull();
    let (stored, busy) = (start.elapsed(), process_time() - before);
    let database = user.open_database(server.database).unwrap();
    database.catch_up().unwrap();
    let readable = start.elapsed();
    let count = report.entries_received;
    assert!(count > entries() as u64);
    let peak = peak_mib();
    let limit = verify_limit(&database);
    let speed = rate(count, stored);
    println!(
        "{name}, {over}: {count} entries bootstrapped at {speed:.0}/s, {:.2} of {limit:.0} verified/s alone; \
         {:.1} us of processor time each here; readable after {:.0}/s; {:.1} bytes of frames an entry, {:.1} MB/s; peak {peak} MiB here",
        speed / limit,
        busy.as_secs_f64() * 1e6 / count as f64,
        rate(count, readable),
        report.bytes as f64 / count as f64,
        rate(report.bytes, stored) / 1e6,
    );

    let again = pull();
    let start = Instant::now();
    const TIMES: u32 = 100;
    for _ in 0..TIMES {
        assert_eq!(pull().bytes, again.bytes);
    }
    let dialled = start.elapsed() / TIMES;
    let start = Instant::now();
    for _ in 0..TIMES {
        block_on(sync.sync_tree_with_peer(again.peer, server.database)).unwrap();
    }
    println!(
        "  nothing to do: {} bytes of frames, {:.2} ms in an open session, {:.2} ms by address",
        again.bytes,
        (start.elapsed() / TIMES).as_secs_f64() * 1e3,
        dialled.as_secs_f64() * 1e3,
    );

    let transaction = database.new_transaction().unwrap();
    let notes = transaction.doc("notes").unwrap();
    notes.set("from here", 1).unwrap();
    transaction.commit().unwrap();
    server.commit();
    let start = Instant::now();
    let both =
        block_on(sync.sync_with_peer(server.address.as_str(), Some(&server.database))).unwrap();
    println!(
        "  one commit on each side: {} in, {} out, {} bytes of frames, {:.2} ms",
        both.entries_received,
        both.entries_sent,
        both.bytes,
        start.elapsed().as_secs_f64() * 1e3,
    );
    let (before, after) = server.stop();
    println!("  server: peak {before} MiB after writing, {after} MiB after serving");
    instance.close().unwrap();
}

/// Signatures of these entries a second that verify in batches on all cores, and nothing else: the median of some rounds.
fn verify_limit(database: &Database) -> f64 {
    let mut entries: Vec<eidetica::Entry> = Vec::new();
    while entries.len() < 20_000 {
        let before = entries.last().map(eidetica::Entry::stamp);
        let page = database.history(before, 20_000).unwrap();
        if page.entries.is_empty() {
            break;
        }
        entries.extend(page.entries);
    }
    let messages: Vec<_> = entries
        .iter()
        .map(|entry| entry.signing_message())
        .collect();
    let signed: Vec<_> = entries
        .iter()
        .zip(&messages)
        .map(|(entry, message)| eidetica_auth::Signed {
            key: &entry.header().author.key,
            message,
            signature: entry.signature(),
        })
        .collect();
    let mut rates = [(); ROUNDS].map(|()| {
        let start = Instant::now();
        assert!(eidetica_auth::verify_batch(&signed, [9; 32]).is_empty());
        rate(signed.len() as u64, start.elapsed())
    });
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}
