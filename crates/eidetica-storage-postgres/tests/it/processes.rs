//! Several node processes on one server: real ones, started from this test binary, with peers over HTTP, and one of them
//! killed while it works.
//!
//! Every process says on its standard output what was acknowledged to it and what its callbacks heard. In the end
//! everything acknowledged is there, nothing is there twice, and all callbacks were told the same in the same order.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant as Time};

use eidetica::backend::database::InMemory;
use eidetica::crdt::Doc;
use eidetica::sync::Address;
use eidetica::{Database, Id, Instance, User};
use eidetica_storage_postgres::PostgresEngine;
use eidetica_testkit::Rng;
use futures::executor::block_on;

use crate::fresh;

/// Tell a child what it is.
const URL: &str = "EIDETICA_PROCESS_URL";
const NAME: &str = "EIDETICA_PROCESS_NAME";
const DATABASE: &str = "EIDETICA_PROCESS_DATABASE";
/// How many rounds of the whole story are told; one by default. `cargo xtask processes` asks for more.
const ROUNDS: &str = "EIDETICA_PROCESS_ROUNDS";

const SOON: Duration = Duration::from_secs(90);
/// Between two commits of a process.
const PACE: Duration = Duration::from_millis(4);
pub(crate) const USER: &str = "operator";

pub(crate) fn open(url: &str, node: Option<&str>) -> Instance {
    let engine = Box::new(PostgresEngine::open(url).unwrap());
    match node {
        Some(name) => Instance::open_as(engine, name).unwrap(),
        None => Instance::open(engine).unwrap(),
    }
}

pub(crate) fn online(instance: &Instance) -> Arc<eidetica::sync::Sync> {
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    sync.enable_http_transport().unwrap();
    sync
}

/// An instance of somebody else.
pub(crate) fn client(name: &str) -> (Instance, User) {
    let instance = Instance::open(Box::new(InMemory::new())).unwrap();
    online(&instance);
    instance.create_user(name, None).unwrap();
    let user = instance.login_user(name, None).unwrap();
    (instance, user)
}

/// One row of its own, and one more of all.
pub(crate) fn commit(database: &Database, row: &str) -> eidetica::Result<Id> {
    let tx = database.new_transaction()?;
    tx.table::<serde_json::Value>("rows")?
        .insert(row, &serde_json::json!({ "by": row }))?;
    tx.doc("sum")?.increment("n", 1)?;
    Ok(tx.commit()?.unwrap().id())
}

fn say(what: std::fmt::Arguments<'_>) {
    // Not `println!`: the test harness may keep that back.
    writeln!(std::io::stdout().lock(), "\n{what}").unwrap();
}

/// The child: serves, commits until it is told to be quiet, and ends when nobody tells it anything more. Run by
/// itself it is one node that commits.
#[test]
fn node() {
    let Ok(url) = std::env::var(URL) else {
        let url = fresh();
        let id = begin(&url);
        let instance = open(&url, Some("alone"));
        let user = instance.login_user(USER, None).unwrap();
        commit(&user.open_database(id).unwrap(), "row").unwrap();
        assert_ne!(instance.device_key(), instance.service_key());
        return;
    };
    let name = std::env::var(NAME).unwrap();
    let id: Id = std::env::var(DATABASE).unwrap().parse().unwrap();
    let instance = open(&url, Some(&name));
    let user = instance.login_user(USER, None).unwrap();
    let database = user.open_database(id).unwrap();
    for local in [true, false] {
        let heard = |entry: &eidetica::Entry, _: &Database, _: &Instance| {
            say(format_args!("heard {}", entry.id()));
            Ok(())
        };
        match local {
            true => database.on_local_write(heard).unwrap(),
            false => database.on_remote_write(heard).unwrap(),
        };
    }
    let sync = online(&instance);
    sync.start_server("127.0.0.1:0").unwrap();
    say(format_args!("at {}", sync.get_server_address().unwrap()));

    let (told, orders) = channel();
    thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.into_iter().for_each(|line| told.send(line).unwrap());
    });
    let (mut n, mut quiet, mut holds) = (0, false, 0);
    loop {
        match orders.recv_timeout(PACE) {
            Ok(_) => quiet = true,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if !quiet {
            let row = format!("{name}.{n}");
            match commit(&database, &row) {
                Ok(_) => {
                    say(format_args!("ack {row}"));
                    n += 1;
                }
                // The others were faster, a hundred times over: it is not there, and is tried again.
                Err(eidetica::Error::Database(eidetica_database::Error::Overtaken)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let held = sync.held_peers().len();
        if held != holds {
            say(format_args!("holds {held}"));
            holds = held;
        }
    }
}

/// An instance with a user and a database that everybody may write.
pub(crate) fn begin(url: &str) -> Id {
    let instance = open(url, None);
    instance.create_user(USER, None).unwrap();
    let user = instance.login_user(USER, None).unwrap();
    let mut auth = Doc::new();
    let everybody =
        serde_json::json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"});
    auth.set_json("*", everybody).unwrap();
    let mut settings = Doc::new();
    settings.set_doc("auth", auth);
    let key = user.get_default_key().unwrap();
    user.create_database(settings, key).unwrap().root_id()
}

/// A running child, and what it said.
struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(url: &str, name: &str, database: Id) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "processes::node",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(URL, url)
            .env(NAME, name)
            .env(DATABASE, database.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, heard) = (
            BufReader::new(child.stdout.take().unwrap()).lines(),
            Arc::clone(&said),
        );
        thread::spawn(move || {
            let lines = lines.map_while(Result::ok).filter(|line| !line.is_empty());
            lines.for_each(|line| heard.lock().unwrap().push(line));
        });
        Self { child, said }
    }

    /// What it said after a word.
    fn after(&self, word: &str) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let after = |line: &String| Some(line.strip_prefix(word)?.trim().to_owned());
        said.iter().filter_map(after).collect()
    }

    fn address(&self) -> Address {
        eventually("a process starts", || !self.after("at ").is_empty());
        self.after("at ")[0].parse().unwrap()
    }

    fn holds(&self) -> bool {
        self.after("holds ")
            .last()
            .is_some_and(|count| count != "0")
    }

    fn quiet(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "quiet").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if thread::panicking() {
            self.child.kill().ok();
        }
        self.child.wait().unwrap();
    }
}

#[track_caller]
fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Time::now();
    while !check() {
        assert!(begun.elapsed() < SOON, "{what} does not happen");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// A client that commits and syncs with one node or another, and says what reached one.
fn wander(n: usize, nodes: &[Address], id: Id, stop: &AtomicBool) -> (Instance, Vec<String>) {
    let (instance, user) = client("wanderer");
    let sync = instance.sync().unwrap();
    let mut rng = Rng::new(n as u64);
    let (mut acknowledged, mut waiting) = (Vec::new(), Vec::new());
    let mut database: Option<Database> = None;
    while !stop.load(Ordering::Acquire) {
        if let Some(database) = &database {
            let row = format!("c{n}.{}", acknowledged.len() + waiting.len());
            commit(database, &row).unwrap();
            waiting.push(row);
        }
        let at = &nodes[rng.below(nodes.len())];
        if block_on(sync.sync_with_peer(at, Some(&id))).is_ok() {
            acknowledged.append(&mut waiting);
            database.get_or_insert_with(|| user.open_database(id).unwrap());
        }
    }
    (instance, acknowledged)
}

/// So many processes, and peers that come to them; one process is killed.
fn story(count: usize, rng: &mut Rng) {
    let url = fresh();
    let id = begin(&url);
    let name = |n: usize| format!("node-{n}");
    let mut processes: Vec<Process> = (0..count)
        .map(|n| Process::start(&url, &name(n), id))
        .collect();
    let nodes: Vec<Address> = processes.iter().map(Process::address).collect();
    // Who only listens, to the process that is never killed.
    let (listener, _user) = client("listener");
    block_on(
        listener
            .sync()
            .unwrap()
            .sync_with_peer(&nodes[0], Some(&id)),
    )
    .unwrap();

    let stop = AtomicBool::new(false);
    let (killed, journals) = thread::scope(|scope| {
        let wanderers: Vec<_> = (0..2)
            .map(|n| {
                scope.spawn({
                    let (nodes, stop) = (&nodes, &stop);
                    move || wander(n, nodes, id, stop)
                })
            })
            .collect();
        let enough = 20 + rng.below(30);
        let enough = |process: &Process| process.after("ack ").len() >= enough;
        eventually("commits", || processes.iter().all(enough));
        let victim = 1 + rng.below(count - 1);
        let mut killed = processes.remove(victim);
        killed.child.kill().unwrap();
        killed.child.wait().unwrap();
        let before: Vec<usize> = processes
            .iter()
            .map(|process| process.after("ack ").len())
            .collect();
        eventually("the others go on", || {
            let now = processes.iter().map(|process| process.after("ack ").len());
            now.zip(&before).all(|(now, before)| now > before + 10)
        });
        processes.iter_mut().for_each(Process::quiet);
        stop.store(true, Ordering::Release);
        let journals: Vec<(Instance, Vec<String>)> = wanderers
            .into_iter()
            .map(|wanderer| wanderer.join().unwrap())
            .collect();
        (killed, journals)
    });

    // Everything that was acknowledged, by whomever, is there once.
    let last = open(&url, None);
    let user = last.login_user(USER, None).unwrap();
    let database = user.open_database(id).unwrap();
    let rows = database
        .table::<serde_json::Value>("rows")
        .unwrap()
        .get_all()
        .unwrap();
    let there_are: BTreeSet<&String> = rows.iter().map(|(row, _)| row).collect();
    let mut acknowledged: Vec<String> =
        journals.iter().flat_map(|(_, rows)| rows.clone()).collect();
    for process in processes.iter().chain([&killed]) {
        acknowledged.extend(process.after("ack "));
    }
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|row| !there_are.contains(row))
        .collect();
    let counts = || {
        let theirs = journals
            .iter()
            .map(|(instance, _)| listener_count(instance, id));
        (
            database.entry_count(),
            rows.len(),
            theirs.collect::<Vec<_>>(),
            database.verify().map(|report| report.faults),
        )
    };
    assert!(lost.is_empty(), "of {lost:?}: {:?}", counts());
    let sum: Option<i64> = database.doc("sum").unwrap().get_as("n").unwrap();
    assert_eq!(sum, Some(rows.len() as i64));
    assert_eq!(database.entry_count().unwrap(), 1 + rows.len() as u64);
    assert!(database.verify().unwrap().is_sound());

    // The callbacks of those that live were told the same, in the same order, nothing twice.
    let total = database.entry_count().unwrap();
    let heard = |process: &Process| process.after("heard ");
    eventually("all hear the same", || {
        let lasts: BTreeSet<Option<String>> = processes
            .iter()
            .map(|process| heard(process).pop())
            .collect();
        lasts.len() == 1
    });
    let mut orders: Vec<Vec<String>> = processes.iter().map(heard).collect();
    orders.sort_by_key(|order| std::cmp::Reverse(order.len()));
    let places: HashMap<&String, usize> = orders[0]
        .iter()
        .enumerate()
        .map(|(n, id)| (id, n))
        .collect();
    assert_eq!(places.len(), orders[0].len(), "something was told twice");
    for order in &orders {
        let begun = places[&order[0]];
        assert_eq!(order[..], orders[0][begun..]);
    }

    // Live: the listener has what other processes than its own took in.
    let its = || listener_count(&listener, id);
    eventually("the listener hears of everything", || its() == Some(total));
    drop(journals);
    drop(processes);
}

fn holder(processes: &[Process]) -> Option<usize> {
    processes.iter().position(Process::holds)
}

fn listener_count(listener: &Instance, id: Id) -> Option<u64> {
    let users = listener.list_users().unwrap();
    let user = listener.login_user(&users[0], None).unwrap();
    Some(user.open_database(id).ok()?.entry_count().unwrap())
}

fn rounds() -> u64 {
    std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().unwrap())
}

#[test]
fn two_processes_lose_nothing_and_do_nothing_twice() {
    for round in 0..rounds() {
        story(2, &mut Rng::new(round));
    }
}

#[test]
fn four_processes_lose_nothing_and_do_nothing_twice() {
    for round in 0..rounds() {
        story(4, &mut Rng::new(100 + round));
    }
}

/// Background work with a peer: one process does it, and another when that one is killed.
#[test]
fn what_a_killed_process_did_with_a_peer_another_takes_over() {
    let url = fresh();
    let id = begin(&url);
    let (peer, user) = client("peer");
    let sync = peer.sync().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    let address = sync.get_server_address().unwrap();
    let first = open(&url, None);
    // The peer must want it: it fetches it first, and from then on the processes come to it.
    let ours = online(&first);
    ours.start_server("127.0.0.1:0").unwrap();
    let at = ours.get_server_address().unwrap();
    block_on(sync.sync_with_peer(&at, Some(&id))).unwrap();
    sync.set_peer_status(first.device_key(), eidetica::sync::PeerStatus::Inactive)
        .unwrap();
    block_on(ours.sync_with_peer(&address, Some(&id))).unwrap();
    drop((ours, first));

    let mut processes: Vec<Process> = ["a", "b", "c"]
        .iter()
        .map(|name| Process::start(&url, name, id))
        .collect();
    eventually("one process holds the peer", || {
        holder(&processes).is_some()
    });
    let copy = user.open_database(id).unwrap();
    let entries = || copy.entry_count().unwrap();
    eventually("it tells it what all commit", || entries() > 100);
    assert_eq!(
        processes.iter().filter(|process| process.holds()).count(),
        1
    );
    let mut killed = processes.remove(holder(&processes).unwrap());
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    eventually("another holds it", || holder(&processes).is_some());
    assert_eq!(
        processes.iter().filter(|process| process.holds()).count(),
        1
    );
    processes.iter_mut().for_each(Process::quiet);
    let last = open(&url, None);
    let ours = last
        .login_user(USER, None)
        .unwrap()
        .open_database(id)
        .unwrap();
    eventually("the peer has everything", || {
        entries() == ours.entry_count().unwrap()
    });
}
