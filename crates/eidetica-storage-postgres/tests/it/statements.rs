//! How often the server is waited for: a read, a commit, a pack. None of it grows with what is stored, and a pack costs the
//! same however much is in it. One that is too small to be stored as a pack is stored as entries, of which a few are read by
//! themselves and the others together.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Config, Database, Databases, IngestRequest, NewDatabase};
use eidetica_entry::{Entry, pack};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_storage_postgres::PostgresEngine;

use crate::fresh;

fn key() -> Arc<SecretKey> {
    Arc::new(SecretKey::from_bytes(&[1; 32]))
}

fn create(databases: &Databases) -> Database {
    let (public, name) = (key().public(), KeyName::default());
    let new = NewDatabase {
        records: vec![AuthRecord::grant(public, Permission::Admin(0), name)],
        ..NewDatabase::default()
    };
    databases.create(new, key()).unwrap()
}

fn commit(db: &Database, n: usize) -> Entry {
    let tx = db.new_transaction();
    tx.doc("d")
        .unwrap()
        .set(&format!("k{n}"), n as i64)
        .unwrap();
    tx.commit().unwrap().unwrap()
}

/// An instance on the server, and the engine to ask.
fn instance() -> (Databases, Arc<PostgresEngine>) {
    let engine = Arc::new(PostgresEngine::open(&fresh()).unwrap());
    let shared: Arc<dyn Engine> = Arc::clone(&engine) as _;
    (
        Databases::open(shared, Config::new([7; 32])).unwrap(),
        engine,
    )
}

/// Round trips of one piece of work, the least of some: now and then the thread that follows other processes looks too.
fn least<T>(engine: &PostgresEngine, times: usize, mut work: impl FnMut(usize) -> T) -> u64 {
    let counted = (0..times).map(|n| {
        let before = engine.round_trips();
        work(n);
        engine.round_trips() - before
    });
    counted.min().unwrap()
}

#[test]
fn a_commit_and_a_read_take_a_few_round_trips_whatever_is_stored() {
    let (databases, engine) = instance();
    let db = create(&databases);
    let mut measured = Vec::new();
    for upto in [20, 300] {
        let begun = db.entry_count().unwrap() as usize;
        (begun..upto).for_each(|n| drop(commit(&db, n)));
        // Beyond the ones before: sealing a block is more, and rare.
        let commits = least(&engine, 8, |n| commit(&db, upto + n));
        let doc = db.doc("d").unwrap();
        let reads = least(&engine, 8, |n| {
            doc.get(&format!("k{}", n + 1)).unwrap().unwrap()
        });
        let absent = least(&engine, 8, |n| {
            assert!(doc.get(&format!("no{n}")).unwrap().is_none())
        });
        measured.push((commits, reads, absent));
    }
    eprintln!("commit, read, read of nothing: {measured:?}");
    assert_eq!(measured[0], measured[1]);
    let (commits, reads, absent) = measured[0];
    assert!(
        commits <= COMMIT && reads <= READ && absent <= READ,
        "{measured:?}"
    );
}

/// With the beginnings of snapshots.
const COMMIT: u64 = 6;
const READ: u64 = 7;
/// All of what a pack takes that is stored as entries.
const SINGLES: u64 = 80;

#[test]
fn a_pack_takes_the_same_round_trips_however_much_is_in_it() {
    let source = Databases::open(Arc::new(MemoryEngine::new()), Config::new([9; 32])).unwrap();
    let db = create(&source);
    let root = db.get(&db.id()).unwrap().unwrap();
    let entries: Vec<Entry> = (0..256).map(|n| commit(&db, n)).collect();
    let mut measured = BTreeMap::new();
    for count in [16, 32, 64, 128, 256] {
        let (databases, engine) = instance();
        let ingest = |entries: &[Entry], create| {
            let packs = [pack::encode(entries).unwrap()];
            let request = IngestRequest::new(db.id(), &packs).create(create);
            assert_eq!(databases.ingest(request).unwrap().new, entries.len() as u64);
        };
        ingest(std::slice::from_ref(&root), true);
        let begun = engine.round_trips();
        ingest(&entries[..count], false);
        let taken_in = engine.round_trips() - begun;

        let here = databases.get(&db.id()).unwrap();
        let begun = engine.round_trips();
        let last = format!("k{}", count - 1);
        assert!(here.doc("d").unwrap().get(&last).unwrap().is_some());
        let read = engine.round_trips() - begun;

        let begun = engine.round_trips();
        let page = databases
            .difference(&db.id(), &[db.id()], None, 1 << 20)
            .unwrap();
        assert!(page.next.is_none() && !page.packs.is_empty());
        let sent = engine.round_trips() - begun;
        measured.insert(count, (taken_in, read, sent));
    }
    eprintln!("pack taken in, state then read, pack sent: {measured:?}");
    // A look of the thread that follows others may fall into any of them.
    let within = |a: u64, b: u64| a.abs_diff(b) <= 4;
    let [few, more] = [16, 32].map(|count| {
        let (taken_in, read, sent) = measured.remove(&count).unwrap();
        taken_in + read + sent
    });
    assert!(within(few, more) && few < SINGLES, "{few}, {more}");
    for (taken_in, read, sent) in measured.values() {
        let least = measured[&64];
        assert!(
            within(*taken_in, least.0) && within(*read, least.1) && within(*sent, least.2),
            "{measured:?}"
        );
    }
}
