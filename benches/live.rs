//! From a write to where it is seen on a connected peer, over HTTP on loopback, in both directions:
//! `cargo bench -p eidetica-benches --bench live`.
//!
//! Beside it, in the same run: what a commit takes alone, and how long a message of the same size is on its way over
//! a TCP connection on loopback and back. `WRITES` is how many are measured (default 1000).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use eidetica::crdt::Doc;
use eidetica::{Database, Id, Instance};
use eidetica_benches::{Chosen, number};
use futures::executor::block_on;

/// Bytes of an entry on its way, with what is around it.
const MESSAGE: usize = 400;

fn main() {
    let chosen = Chosen::read();
    println!("tcp on loopback and back: {}", summary(echo(writes())));
    for engine in ["memory", "fjall", "redb"] {
        if chosen.wants(engine) {
            measure(engine);
        }
    }
}

fn writes() -> usize {
    number("WRITES", 1000) as usize
}

/// Half, nearly all and all of them are no longer than this.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!(
        "p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

fn echo(count: usize) -> Vec<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bytes = [0; MESSAGE];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = [7; MESSAGE];
    let mut once = || {
        let start = Instant::now();
        stream.write_all(&bytes).unwrap();
        stream.read_exact(&mut bytes).unwrap();
        start.elapsed()
    };
    (0..count).map(|_| once()).collect()
}

struct Side {
    instance: Instance,
    database: Database,
    arrivals: Receiver<(Id, Instant)>,
    _dir: tempfile::TempDir,
}

fn open(engine: &str) -> (Instance, eidetica::User, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let location = match engine {
        "memory" => "memory:".to_owned(),
        engine => format!("{engine}:{}", dir.path().join("store").display()),
    };
    let instance = Instance::connect(&location).unwrap().enable_sync().unwrap();
    instance.sync().unwrap().enable_http_transport().unwrap();
    instance.create_user("user", None).unwrap();
    let user = instance.login_user("user", None).unwrap();
    (instance, user, dir)
}

fn side(instance: Instance, database: Database, dir: tempfile::TempDir) -> Side {
    let (sender, arrivals) = channel();
    database
        .on_remote_write(move |entry, _, _| {
            sender.send((entry.id(), Instant::now())).unwrap();
            Ok(())
        })
        .unwrap();
    Side {
        instance,
        database,
        arrivals,
        _dir: dir,
    }
}

fn measure(engine: &str) {
    let (server, owner, dir) = open(engine);
    let mut auth = Doc::new();
    let everybody = r#"{"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}"#;
    auth.set_json("*", serde_json::from_str(everybody).unwrap())
        .unwrap();
    let mut settings = Doc::new();
    settings.set_string("name", "measured");
    settings.set_doc("auth", auth);
    let key = owner.get_default_key().unwrap();
    let theirs = side(server, owner.create_database(settings, key).unwrap(), dir);
    let sync = theirs.instance.sync().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    let address = sync.get_server_address().unwrap();

    let (client, user, dir) = open(engine);
    let id = theirs.database.root_id();
    block_on(client.sync().unwrap().sync_with_peer(address, Some(&id))).unwrap();
    let ours = side(client, user.open_database(id).unwrap(), dir);

    for (name, from, to) in [
        ("dialler to acceptor", &ours, &theirs),
        ("acceptor to dialler", &theirs, &ours),
    ] {
        // The first ones find out what the peer has.
        for n in 0..20 {
            once(from, to, n);
        }
        let times: Vec<_> = (0..writes()).map(|n| once(from, to, n)).collect();
        let (commits, visible): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        println!("{engine}, {name}: visible {}", summary(visible));
        println!("  the commit alone {}", summary(commits));
    }
}

/// What the commit took, and when it was seen on the other side, from its beginning.
fn once(from: &Side, to: &Side, n: usize) -> (Duration, Duration) {
    let transaction = from.database.new_transaction().unwrap();
    let notes = transaction.doc("notes").unwrap();
    notes.set("value", n as i64).unwrap();
    let start = Instant::now();
    let entry = transaction.commit().unwrap().unwrap();
    let committed = start.elapsed();
    loop {
        let (id, at) = to.arrivals.recv_timeout(Duration::from_secs(10)).unwrap();
        if id == entry.id() {
            return (committed, at.duration_since(start));
        }
    }
}
