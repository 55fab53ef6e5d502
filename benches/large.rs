//! A database of millions of entries on the embedded default: `ENTRIES=10000000 cargo bench -p eidetica-benches --bench large`.
//!
//! It grows to a tenth of `ENTRIES` (default 1000000) and then to all of them: entries of one table row each, a fifth as many
//! rows, signed by a hundred authors on all cores and taken in as packs are. At both sizes a process of its own
//! opens it, reads, scans, and hands out the last entries, and says how long that took and how much memory it has.
//! `ENGINE` (fjall, redb or sqlite) is fjall; `DIR` is where it lies, which is kept then, or a temporary directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Permission, SecretKey};
use eidetica_benches::{create, number, peak_mib, rate, spread};
use eidetica_crdt::{Doc, Edit, MemRows, StoreKind, lower};
use eidetica_database::{Config, Databases, IngestRequest};
use eidetica_entry::{Draft, Entry, Id, Ids, ParentInfo, StoreName, pack};
use eidetica_storage::Engine;
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use serde_json::Value;

/// Tells a child what to do: `grow FROM TO` or `look`.
const CHILD: &str = "EIDETICA_BENCH_LARGE";
const DIR: &str = "DIR";
const TABLE: &str = "rows";
const AUTHORS: u64 = 100;
/// Entries made at once, and taken in by one call.
const PART: u64 = 40_960;
const PACK: usize = 4_096;
/// The last entries, which are handed out as to a peer that lacks them.
const LAST: u64 = 100_000;
const READS: u64 = 20_000;
const SCANNED: usize = 500_000;

fn main() {
    match std::env::var(CHILD) {
        Ok(what) => child(&what, Path::new(&std::env::var(DIR).unwrap())),
        Err(_) => parent(),
    }
}

fn parent() {
    let temp = tempfile::tempdir().unwrap();
    let given = std::env::var_os(DIR).map(PathBuf::from);
    let dir = given.unwrap_or_else(|| temp.path().join("large"));
    fs::create_dir_all(&dir).unwrap();
    let entries = number("ENTRIES", 1_000_000);
    assert!(entries / 10 >= LAST, "ENTRIES are at least a million");
    println!("| entries | what | |\n|---:|---|---:|");
    let mut from = 0;
    for to in [entries / 10, entries] {
        run(&dir, &format!("grow {from} {to}"));
        run(&dir, "look");
        from = to;
    }
}

fn run(dir: &Path, what: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.env(CHILD, what).env(DIR, dir).status().unwrap();
    assert!(status.success(), "{what}");
}

fn child(what: &str, dir: &Path) {
    let words: Vec<&str> = what.split(' ').collect();
    match words[..] {
        ["grow", from, to] => grow(dir, from.parse().unwrap(), to.parse().unwrap()),
        _ => look(dir),
    }
}

fn engine(dir: &Path) -> Arc<dyn Engine> {
    let data = dir.join("data");
    match std::env::var("ENGINE").as_deref() {
        Ok("redb") => Arc::new(RedbEngine::open(data).unwrap()),
        Ok("sqlite") => Arc::new(SqliteEngine::open(data).unwrap()),
        _ => Arc::new(FjallEngine::open(data).unwrap()),
    }
}

fn key(number: u64) -> SecretKey {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(&seed)
}

/// How many rows the table has in the end.
fn rows() -> u64 {
    number("ENTRIES", 1_000_000) / 5
}

/// The row that an entry writes.
fn row_of(number: u64) -> String {
    format!("row{:08}", spread(number, rows()))
}

/// Makes entries of a chain and takes them in, one part while the next is made.
fn grow(dir: &Path, from: u64, to: u64) {
    let engine = engine(dir);
    let databases = Databases::open(Arc::clone(&engine), Config::new([7; 32])).unwrap();
    let database = match databases.list().unwrap().first() {
        Some(id) => databases.get(id).unwrap(),
        None => create(
            &databases,
            vec![AuthRecord::Wildcard(Some(Permission::Write(0)))],
        ),
    };
    let tip = database.tips().unwrap()[0];
    let root = database.id();
    let parent = ParentInfo {
        id: tip.id,
        height: tip.height,
        writes_settings: tip.id == root,
        settings: match tip.id == root {
            true => Ids::new(),
            false => Ids::from_iter([root]),
        },
    };
    let begun = Instant::now();
    let (parts, made) = sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(|| make(root, parent, from..to, dir, &parts));
        for _ in 0..(to - from).div_ceil(PART) {
            let packs: Vec<Bytes> = made.recv().unwrap();
            let report = databases.ingest(IngestRequest::new(root, &packs)).unwrap();
            assert_eq!(report.rejected_count + report.pending, 0);
        }
    });
    line(
        to,
        "entries made, signed and taken in, a second",
        rate(to - from, begun.elapsed()),
    );
    let begun = Instant::now();
    database.doc("none").unwrap().get_all().unwrap();
    engine.close().unwrap();
    line(
        to,
        "state caught up and closed, s",
        begun.elapsed().as_secs_f64(),
    );
    line(
        to,
        "peak memory of the process that made it, MiB",
        peak_mib() as f64,
    );
    line(to, "on disk, MiB", disk_mib(dir));
}

/// Makes entries in parts; the ids follow from each other, the signatures are made on all cores.
fn make(
    root: Id,
    mut parent: ParentInfo,
    numbers: std::ops::Range<u64>,
    dir: &Path,
    parts: &std::sync::mpsc::SyncSender<Vec<Bytes>>,
) {
    let keys: Vec<SecretKey> = (0..AUTHORS).map(key).collect();
    let table = StoreName::new(TABLE).unwrap();
    let mut next = numbers.start;
    while next < numbers.end {
        let end = (next + PART).min(numbers.end);
        let mut drafts = Vec::new();
        for number in next..end {
            if number + LAST == numbers.end {
                fs::write(dir.join("mark"), parent.id.to_string()).unwrap();
            }
            let author = keys[(number % AUTHORS) as usize].public();
            let payloads = BTreeMap::from([(table.clone(), payload(number))]);
            let settings = Ids::from_iter([root]);
            let draft = Draft::child(root, &[parent], settings, payloads, author, Some(number));
            let draft = draft.unwrap();
            parent = draft.info();
            drafts.push((number, draft));
        }
        parts.send(sign(drafts, &keys)).unwrap();
        next = end;
    }
}

fn payload(number: u64) -> Bytes {
    let mut fields = Doc::new();
    fields.insert("number", number as i64);
    fields.insert("text", format!("a few words of entry {number:09}"));
    let key = row_of(number);
    let edits = [Edit::RowInsert { key, fields }];
    let payload = lower(&MemRows::default(), StoreKind::Table, &edits, 0).unwrap();
    payload.unwrap().encode().into()
}

fn sign(drafts: Vec<(u64, Draft)>, keys: &[SecretKey]) -> Vec<Bytes> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut packs: Vec<Vec<(u64, Draft)>> = Vec::new();
    for (at, draft) in drafts.into_iter().enumerate() {
        if at % PACK == 0 {
            packs.push(Vec::with_capacity(PACK));
        }
        packs.last_mut().unwrap().push(draft);
    }
    let each = packs.len().div_ceil(cores).max(1);
    let mut shares = Vec::new();
    while !packs.is_empty() {
        let rest = packs.split_off(each.min(packs.len()));
        shares.push(std::mem::replace(&mut packs, rest));
    }
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || -> Vec<Bytes> {
                    share
                        .into_iter()
                        .map(|pack| sign_pack(pack, keys))
                        .collect()
                })
            })
            .collect();
        let packs = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        packs.collect()
    })
}

fn sign_pack(drafts: Vec<(u64, Draft)>, keys: &[SecretKey]) -> Bytes {
    let entries: Vec<Entry> = drafts
        .into_iter()
        .map(|(number, draft)| {
            let key = &keys[(number % AUTHORS) as usize];
            let signature = key.sign(&draft.signing_message());
            draft.sign(signature)
        })
        .collect();
    pack::encode(&entries).unwrap()
}

/// Opens it as an application does, and uses it.
fn look(dir: &Path) {
    let begun = Instant::now();
    let engine = engine(dir);
    let databases = Databases::open(Arc::clone(&engine), Config::new([8; 32])).unwrap();
    let id = databases.list().unwrap()[0];
    let database = databases.get(&id).unwrap();
    let table = database.table::<Value>(TABLE).unwrap();
    table.get(&row_of(0)).unwrap().unwrap();
    let open = begun.elapsed();
    let entries = database.entry_count().unwrap() - 1;
    let line = |what: &str, figure: f64| line(entries, what, figure);
    line("opened, with the first row read, ms", ms(open));
    line("memory then, MiB", peak_mib() as f64);
    let mut times: Vec<Duration> = (0..READS)
        .map(|read| {
            let key = row_of(read.wrapping_mul(7_919) % entries);
            let begun = Instant::now();
            table.get(&key).unwrap().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    line("a row by key, median, us", ms(times[times.len() / 2]) * 1e3);
    line(
        "a row by key, of 100 the slowest, us",
        ms(times[times.len() * 99 / 100]) * 1e3,
    );
    let begun = Instant::now();
    let mut scanned = 0;
    for row in table.rows().limit(SCANNED).iter() {
        row.unwrap();
        scanned += 1;
    }
    line(
        "rows scanned in order, a second",
        rate(scanned, begun.elapsed()),
    );
    let begun = Instant::now();
    let history = database.history(None, 100).unwrap();
    assert_eq!(history.entries.len(), 100);
    line("the newest 100 of the history, ms", ms(begun.elapsed()));
    let mark: Id = fs::read_to_string(dir.join("mark"))
        .unwrap()
        .parse()
        .unwrap();
    let begun = Instant::now();
    let packs = difference(&databases, &id, &[mark]);
    line(
        "the last 100,000 handed out, entries a second",
        rate(LAST, begun.elapsed()),
    );
    let begun = Instant::now();
    let tip = database.tips().unwrap()[0].id;
    assert!(difference(&databases, &id, &[tip]).is_empty());
    line("nothing to hand out, ms", ms(begun.elapsed()));
    let begun = Instant::now();
    let report = databases.ingest(IngestRequest::new(id, &packs)).unwrap();
    assert_eq!((report.new, report.known), (0, LAST));
    line(
        "the last 100,000 taken in again, entries a second",
        rate(LAST, begun.elapsed()),
    );
    line("peak memory, MiB", peak_mib() as f64);
    engine.close().unwrap();
}

fn difference(databases: &Databases, id: &Id, not: &[Id]) -> Vec<Bytes> {
    let (mut packs, mut cursor) = (Vec::new(), None);
    loop {
        let page = databases.difference(id, not, cursor, usize::MAX).unwrap();
        packs.extend(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return packs;
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn line(entries: u64, what: &str, figure: f64) {
    println!("| {entries} | {what} | {figure:.1} |");
}

fn disk_mib(dir: &Path) -> f64 {
    let (mut open, mut bytes) = (vec![dir.to_path_buf()], 0);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => bytes += entry.metadata().unwrap().len(),
            }
        }
    }
    bytes as f64 / f64::from(1 << 20)
}
