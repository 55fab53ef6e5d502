//! What it costs two replicas to find out in what they differ: `cargo bench -p eidetica-benches --bench reconcile`.
//!
//! Both replicas are in this process and in memory, the sessions and the databases are the real ones, and there is no
//! network: round trips and bytes are counted in frames. Beside it, in the same run, `negentropy`, a published
//! implementation of set reconciliation, over the same heights and ids; it finds the difference and transfers nothing,
//! so its figures are to be compared with round trips less one and with the bytes that are not packs.
//!
//! `ENTRIES` (default 1000, 100000) is how long the histories are; 1000000 takes a minute or two. Arguments: `chain`,
//! `dag`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Permission, SecretKey};
use eidetica_benches::{Shape, commit_leaves, create, number, peak_mib, run, write_history};
use eidetica_database::{Config, Database, Databases, IngestRequest};
use eidetica_entry::dag::{self, Budget, Node};
use eidetica_entry::pack::{PREFIX_BYTES, PackInfo};
use eidetica_entry::{Id, PublicKey, Stamp};
use eidetica_node::{Backend, DatabasesBackend, Policy, answer};
use eidetica_protocol::{
    Input, Outcome, Output, PeerIdentity, ProvenKeys, Query, Responder, ResponderConfig,
    SyncClient, SyncConfig, handshake::VERSIONS,
};
use eidetica_storage::{Durability, MemoryEngine};

const NOW: u64 = 1_800_000_000_000;
const PARTS: [(&str, fn()); 2] = [("chain", chain), ("dag", real_dag)];
const DIFFERENCES: [u64; 4] = [0, 1, 100, 10_000];

fn main() {
    run(&PARTS);
    println!("\npeak memory of the process: {} MiB", peak_mib());
}

fn key() -> Arc<SecretKey> {
    Arc::new(SecretKey::from_bytes(&[1; 32]))
}

/// Everybody may read.
struct Open;

impl Policy for Open {
    fn offers(&self, _: &Id) -> bool {
        true
    }

    fn unlocked(&self, _: &PublicKey) -> Option<Arc<SecretKey>> {
        None
    }
}

/// One side.
struct Replica {
    databases: Databases,
    backend: DatabasesBackend,
    id: Id,
}

impl Replica {
    fn empty(id: Id) -> Self {
        let mut config = Config::new([7; 32]);
        config.durability = Durability::Relaxed;
        let databases = Databases::open(Arc::new(MemoryEngine::new()), config).unwrap();
        let backend = DatabasesBackend::new(databases.clone(), Arc::new(Open)).unwrap();
        Self {
            databases,
            backend,
            id,
        }
    }

    /// A new database that anybody may write to.
    fn new() -> Self {
        let mut replica = Self::empty(Id::new([0; 32]));
        let anybody = vec![AuthRecord::Wildcard(Some(Permission::Write(1)))];
        replica.id = create(&replica.databases, anybody).id();
        replica
    }

    fn database(&self) -> Database {
        self.databases.get(&self.id).unwrap().with_key(key())
    }

    fn commit(&self, from: u64, count: u64) {
        commit_leaves(&self.database(), from, count, 1_000);
    }

    /// Takes in packs until there are no more.
    fn fill(&self, mut next: impl FnMut() -> Option<Vec<Bytes>>) {
        while let Some(packs) = next() {
            let request = IngestRequest::new(self.id, &packs).create(true);
            self.databases.ingest(request).unwrap();
        }
    }

    /// Another replica with the same entries.
    fn copy(&self) -> Self {
        let copy = Self::empty(self.id);
        let (mut cursor, mut more) = (None, true);
        copy.fill(|| {
            more.then(|| {
                let page = self
                    .databases
                    .difference(&self.id, &[], cursor.take(), 8 << 20);
                let page = page.unwrap();
                (cursor, more) = (page.next.clone(), page.next.is_some());
                page.packs
            })
        });
        copy
    }

    /// Another replica with some of the entries.
    fn part(&self, ids: &[Id]) -> Self {
        let part = Self::empty(self.id);
        let (mut cursor, mut more) = (None, true);
        part.fill(|| {
            more.then(|| {
                let page = self.databases.selected(
                    &self.id,
                    ids.iter().map(Id::as_bytes).collect::<Vec<_>>().as_slice(),
                    &[],
                    cursor.take(),
                    8 << 20,
                );
                let page = page.unwrap();
                (cursor, more) = (page.next.clone(), page.next.is_some());
                page.packs
            })
        });
        part
    }

    fn tips(&self) -> Vec<Stamp> {
        self.databases.tips(&self.id).unwrap().unwrap()
    }

    fn stamps(&self) -> Vec<Stamp> {
        let (mut stamps, mut before) = (Vec::new(), None);
        loop {
            let all = eidetica_entry::Height::ROOT..=eidetica_entry::Height(u64::MAX);
            let page = self.databases.headers_below(&self.id, all, before, 100_000);
            let page = page.unwrap();
            let Some(last) = page.last() else {
                return stamps;
            };
            before = Some(last.stamp);
            stamps.extend(page.iter().map(|header| header.stamp));
        }
    }
}

/// What a sync cost.
#[derive(Default)]
struct Cost {
    round_trips: u64,
    bytes: u64,
    /// Of packs.
    pack_bytes: u64,
    /// Of those, what is neither signatures nor payloads.
    meta_bytes: u64,
    /// Entries in them.
    entries: u64,
    /// Both sides, without making packs and taking them in.
    comparing: Duration,
    whole: Duration,
}

impl Cost {
    fn count(&mut self, frame: &Bytes) {
        self.bytes += frame.len() as u64;
        if frame.first() == Some(&3) {
            self.pack_bytes += frame.len() as u64;
            let info = PackInfo::read(&frame.slice(1..)).unwrap();
            self.meta_bytes += 1 + PREFIX_BYTES as u64 + u64::from(info.meta_bytes);
            self.entries += u64::from(info.entries);
        }
    }
}

/// Answers a query; says how long a comparison took.
fn ask(replica: &Replica, query: Query, cost: &mut Cost) -> eidetica_protocol::Answer {
    let transfers = matches!(query, Query::Difference { .. } | Query::Selected { .. });
    let start = Instant::now();
    let answer = answer(&replica.backend, query, NOW).unwrap();
    if !transfers {
        cost.comparing += start.elapsed();
    }
    answer
}

fn sync(client: &Replica, server: &Replica, common: Vec<Id>) -> (Outcome, Cost) {
    let device = key().public();
    let peer = PeerIdentity {
        device,
        version: VERSIONS[0],
        proven: ProvenKeys::device(device),
    };
    let mut machine = SyncClient::new(SyncConfig {
        database: server.id,
        peer,
        common,
        create: true,
    });
    let (mut cost, start) = (Cost::default(), Instant::now());
    let (mut request, mut response) = (Vec::new(), std::collections::VecDeque::new());
    loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => request.clear(),
            Output::Send(frame) => {
                cost.count(&frame);
                request.push(frame);
            }
            Output::End => {
                cost.round_trips += 1;
                response = serve(server, std::mem::take(&mut request), &mut cost);
            }
            Output::Query(id, query) => {
                let answer = ask(client, query, &mut cost);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => {
                let report = client.backend.ingest(&batch, &device, Box::new(()));
                machine.handle_input(Input::Ingested(id, report), NOW);
            }
            Output::Event(_) => {}
            Output::Timeout(_) => {
                let input = response.pop_front().map_or(Input::End, Input::Frame);
                machine.handle_input(input, NOW);
            }
            Output::Done(outcome) => {
                cost.whole = start.elapsed();
                assert_eq!(client.tips(), server.tips());
                return (outcome.unwrap(), cost);
            }
        }
    }
}

fn serve(
    server: &Replica,
    frames: Vec<Bytes>,
    cost: &mut Cost,
) -> std::collections::VecDeque<Bytes> {
    let peer = ProvenKeys::device(key().public());
    let claims = Vec::new();
    let mut machine = Responder::new(ResponderConfig { peer, claims });
    let (mut frames, mut response) = (frames.into_iter(), std::collections::VecDeque::new());
    loop {
        match machine.poll_output(NOW) {
            Output::Send(frame) => {
                cost.count(&frame);
                response.push_back(frame);
            }
            Output::Query(id, query) => {
                let answer = ask(server, query, cost);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => {
                let report = server.backend.ingest(&batch, &key().public(), Box::new(()));
                machine.handle_input(Input::Ingested(id, report), NOW);
            }
            Output::Timeout(_) => {
                let input = frames.next().map_or(Input::End, Input::Frame);
                machine.handle_input(input, NOW);
            }
            Output::Done(served) => {
                served.unwrap();
                return response;
            }
            Output::OpenRequest | Output::End | Output::Event(_) => {}
        }
    }
}

fn show(what: &str, differences: u64, cost: &Cost) {
    let rest = cost.bytes - cost.pack_bytes;
    let each = match differences {
        0 => String::new(),
        d => format!(" ({:.1} each)", rest as f64 / d as f64),
    };
    println!(
        "  {what:24} {:2} round trips, {rest:8} bytes beside packs{each}, {:9} of packs, {:8.2} ms comparing, {:9.2} ms in all",
        cost.round_trips,
        cost.pack_bytes,
        cost.comparing.as_secs_f64() * 1e3,
        cost.whole.as_secs_f64() * 1e3,
    );
}

/// The baseline: finds the difference of two sets.
fn negentropy(ours: &[Stamp], theirs: &[Stamp], differences: usize) {
    use negentropy::{Id, Negentropy, NegentropyStorageVector};
    let start = Instant::now();
    let build = |stamps: &[Stamp]| {
        let mut storage = NegentropyStorageVector::with_capacity(stamps.len());
        for stamp in stamps {
            storage
                .insert(stamp.height.0, Id::from_byte_array(*stamp.id.as_bytes()))
                .unwrap();
        }
        storage.seal().unwrap();
        storage
    };
    let (ours, theirs) = (build(ours), build(theirs));
    let built = start.elapsed();
    let start = Instant::now();
    let mut client = Negentropy::borrowed(&ours, 0).unwrap();
    let mut server = Negentropy::borrowed(&theirs, 0).unwrap();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut message = Some(client.initiate().unwrap());
    let (mut round_trips, mut bytes) = (0, 0);
    while let Some(query) = message {
        let reply = server.reconcile(&query).unwrap();
        round_trips += 1;
        bytes += query.len() + reply.len();
        message = client
            .reconcile_with_ids(&reply, &mut have, &mut need)
            .unwrap();
    }
    assert_eq!(have.len() + need.len(), differences);
    println!(
        "  negentropy 0.5.3         {round_trips:2} round trips, {bytes:8} bytes, {:8.2} ms comparing after {:.2} ms of building, and nothing sent yet",
        start.elapsed().as_secs_f64() * 1e3,
        built.as_secs_f64() * 1e3,
    );
}

fn chain() {
    let lengths = match number("ENTRIES", 0) {
        0 => vec![1_000, 100_000],
        entries => vec![entries],
    };
    for entries in lengths {
        let client = Replica::new();
        client.commit(0, entries);
        let server = client.copy();
        println!(
            "chain of {entries}, both have it; peak memory {} MiB",
            peak_mib()
        );
        let mut next = entries;
        for d in DIFFERENCES {
            let mut grow = |ours: u64, theirs: u64| {
                client.commit(next, ours);
                server.commit(next + ours, theirs);
                next += ours + theirs;
            };
            let common: Vec<Id> = client.tips().iter().map(|tip| tip.id).collect();
            if d == 0 {
                show("nothing new", 0, &sync(&client, &server, common).1);
                continue;
            }
            println!(" {d} new entries");
            grow(0, d);
            show("there", d, &sync(&client, &server, common).1);
            grow(d, 0);
            show("here", d, &sync(&client, &server, Vec::new()).1);
            grow(d, d);
            let (ours, theirs) = (client.stamps(), server.stamps());
            show(
                "on each side, cold",
                2 * d,
                &sync(&client, &server, Vec::new()).1,
            );
            negentropy(&ours, &theirs, 2 * d as usize);
            // What the first comparison has computed is kept.
            let common: Vec<Id> = client.tips().iter().map(|tip| tip.id).collect();
            grow(d, d);
            show(
                "on each side, remembered",
                2 * d,
                &sync(&client, &server, common).1,
            );
            grow(d, d);
            show(
                "on each side, cold again",
                2 * d,
                &sync(&client, &server, Vec::new()).1,
            );
        }
    }
}

/// A real history, cut before merges of branches that had much apart from each other.
fn real_dag() {
    let whole = Replica::new();
    let shape = Shape::read();
    write_history(&whole.database(), &shape, shape.len());
    let all = eidetica_entry::Height::ROOT..=eidetica_entry::Height(u64::MAX);
    let (mut nodes, mut before) = (HashMap::new(), None);
    loop {
        let page = whole
            .databases
            .headers_below(&whole.id, all.clone(), before, 10_000);
        let page = page.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.stamp);
        for header in &page {
            let parents = header.parents.iter().copied().collect();
            let height = header.stamp.height;
            nodes.insert(header.stamp.id, Node { height, parents });
        }
    }
    let apart =
        |a: Id, b: Id| dag::difference(&nodes, &[a], &[b], &mut Budget::unlimited()).unwrap();
    let mut merges: Vec<(usize, Id, Id)> = nodes
        .values()
        .filter_map(|node| match node.parents[..] {
            [a, b] => Some((apart(a, b).len().min(apart(b, a).len()), a, b)),
            _ => None,
        })
        .collect();
    merges.sort_unstable_by_key(|(apart, a, _)| (std::cmp::Reverse(*apart), *a));
    println!(
        "history of {} entries with {} merges of two",
        nodes.len(),
        merges.len()
    );
    let (_, cost) = sync(&Replica::empty(whole.id), &whole, Vec::new());
    let beyond = cost.bytes - cost.pack_bytes + cost.meta_bytes;
    println!(
        " bootstrap: {} entries, {} bytes, of which {beyond} are neither signatures nor payloads: {:.2} for each entry",
        cost.entries,
        cost.bytes,
        beyond as f64 / cost.entries as f64,
    );
    for (_, a, b) in merges
        .iter()
        .take(4)
        .chain(merges.iter().skip(40).step_by(200).take(4))
    {
        let past = |tip: Id| apart(tip, Id::new([0; 32]));
        let (ours, theirs) = (past(*a), past(*b));
        let replica = |stamps: &[Stamp]| {
            let ids: Vec<Id> = stamps.iter().map(|stamp| stamp.id).collect();
            whole.part(&ids)
        };
        let sets: [BTreeSet<Stamp>; 2] = [&ours, &theirs].map(|set| set.iter().copied().collect());
        let [have, lack] =
            [sets[0].difference(&sets[1]), sets[1].difference(&sets[0])].map(Iterator::count);
        println!(" {have} here only, {lack} there only");
        let common: Vec<Id> = dag::maximal(
            &nodes,
            &sets[0]
                .intersection(&sets[1])
                .map(|stamp| stamp.id)
                .collect::<Vec<_>>(),
            &mut Budget::unlimited(),
        )
        .unwrap()
        .to_vec();
        let d = (have + lack) as u64;
        show(
            "cold",
            d,
            &sync(&replica(&ours), &replica(&theirs), Vec::new()).1,
        );
        negentropy(&ours, &theirs, have + lack);
        if common.len() <= eidetica_protocol::limits::COMMON {
            show(
                "remembered",
                d,
                &sync(&replica(&ours), &replica(&theirs), common).1,
            );
        }
    }
}
