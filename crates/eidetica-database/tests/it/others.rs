//! Several processes on one engine: each has its own instance, and what they share are rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use eidetica_auth::{Permission, Revocation};
use eidetica_crdt::{Doc, Edit, Locator, StoreKind};
use eidetica_database::{
    Database, Databases, Error, Holds, Import, IngestRequest, Origin, Transaction, limits,
};
use eidetica_entry::{Id, pack};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, MemoryEngine, Page,
    Row, ScanLimit, Snapshot, Space, Watch,
};
use eidetica_storage_postgres::PostgresEngine;
use eidetica_testkit::{
    EngineKind, HookedEngine, Interruption, PostgresServer, SharedEngine, selected_engine,
};
use parking_lot::Mutex;

use crate::world::{
    all_packs, database, ingest, ingest_entries, instance, instance_on, key, packs_without, rights,
};

/// How long something that must come is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Engines of `count` processes on the same rows: on one server where the matrix is at PostgreSQL, else on one engine
/// in memory.
pub(crate) fn engines(count: u8) -> Vec<Arc<dyn Engine>> {
    if selected_engine() == EngineKind::Postgres {
        let schema = PostgresServer::shared().fresh_schema();
        let open = |_| Arc::new(PostgresEngine::open(&schema).unwrap()) as Arc<dyn Engine>;
        return (0..count).map(open).collect();
    }
    let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let open = |_| Arc::new(SharedEngine::new(Arc::clone(&rows))) as Arc<dyn Engine>;
    (0..count).map(open).collect()
}

/// Processes that have the same database open, and its id.
fn processes(count: u8) -> (Vec<Databases>, Id) {
    let engines = engines(count).into_iter().zip(1..);
    let all: Vec<Databases> = engines.map(|(engine, n)| instance_on(engine, n)).collect();
    let id = database(&all[0]).id();
    (all, id)
}

pub(crate) fn open(databases: &Databases, id: &Id) -> Database {
    databases.get(id).unwrap().with_key(key(1))
}

fn set(db: &Database, store: &str, path: &str, value: i64) {
    let tx = db.new_transaction();
    tx.doc(store).unwrap().set(path, value).unwrap();
    tx.commit().unwrap();
}

fn number(db: &Database, store: &str, path: &str) -> Option<i64> {
    db.doc(store).unwrap().get_as(path).unwrap()
}

fn check(all: &[Databases], id: &Id) {
    let first = open(&all[0], id);
    let (tips, hash) = (first.tips().unwrap(), first.state_hash().unwrap());
    for databases in all {
        let db = open(databases, id);
        assert_eq!(db.tips().unwrap(), tips);
        assert_eq!(db.state_hash().unwrap(), hash);
        assert!(db.verify().unwrap().is_sound());
    }
}

/// Tells other threads to end, also where the one that has it fails: they would go on for ever.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn what_one_process_commits_the_other_reads_at_once() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    for n in 0..20 {
        set(&a, "doc", "from.a", n);
        assert_eq!(number(&b, "doc", "from.a"), Some(n));
        set(&b, "doc", "from.b", n);
        assert_eq!(number(&a, "doc", "from.b"), Some(n));
    }
    // Each built on the other's entry.
    assert_eq!(a.tips().unwrap().len(), 1);
    assert_eq!(a.entry_count().unwrap(), 41);
    check(&all, &id);
}

#[test]
fn commits_of_many_processes_and_threads_all_count_once() {
    const EACH: i64 = 25;
    let (all, id) = processes(3);
    thread::scope(|scope| {
        for databases in &all {
            for n in 0..2 {
                let db = open(databases, &id);
                scope.spawn(move || {
                    for i in 0..EACH {
                        let tx = db.new_transaction();
                        tx.doc("doc").unwrap().increment("blind", 1).unwrap();
                        tx.commit().unwrap();
                        db.transact(|tx| {
                            let doc = tx.doc("doc")?;
                            let read: Option<i64> = doc.get_as("read")?;
                            doc.set("read", read.unwrap_or(0) + 1)
                        })
                        .unwrap();
                        set(&db, &format!("store {n} {}", i % 3), "at", i);
                    }
                });
            }
        }
    });
    let db = open(&all[0], &id);
    assert_eq!(number(&db, "doc", "blind"), Some(6 * EACH));
    assert_eq!(number(&db, "doc", "read"), Some(6 * EACH));
    assert_eq!(db.entry_count().unwrap(), 1 + 3 * 6 * EACH as u64);
    assert_eq!(db.tips().unwrap().len(), 1);
    check(&all, &id);
}

#[test]
fn stores_made_in_two_processes_do_not_mix() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    // Both know no store yet, and have both loaded that they know none.
    assert_eq!(number(&a, "x", "n"), None);
    assert_eq!(number(&b, "y", "n"), None);
    set(&a, "x", "n", 1);
    set(&b, "y", "n", 2);
    assert_eq!(number(&a, "y", "n"), Some(2));
    assert_eq!(number(&b, "x", "n"), Some(1));
    assert_eq!(number(&a, "x", "n"), Some(1));
    let tx = b.new_transaction();
    let wrong = tx
        .table::<serde_json::Value>("x")
        .and_then(|table| table.insert("k", &serde_json::json!({"a": 1})))
        .and_then(|()| tx.commit().map(drop));
    assert!(wrong.is_err());
    assert_eq!(b.stores().unwrap(), a.stores().unwrap());
    check(&all, &id);
}

fn told(db: &Database) -> Receiver<(Id, Origin)> {
    let (tell, told) = channel();
    for local in [true, false] {
        let tell = tell.clone();
        let call = move |event: &eidetica_database::WriteEvent, _: &Database| {
            tell.send((event.entry.id(), event.origin)).ok();
            Ok(())
        };
        match local {
            true => db.on_local_write(call).unwrap(),
            false => db.on_remote_write(call).unwrap(),
        };
    }
    told
}

#[test]
fn callbacks_are_told_of_every_processs_entries_once_and_in_order() {
    const EACH: usize = 30;
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let (heard_a, heard_b) = (told(&a), told(&b));
    thread::scope(|scope| {
        // Different values: equal ones on equal tips would be one entry, made by both.
        for (db, who) in [(&a, 1), (&b, -1)] {
            scope.spawn(move || (1..=EACH).for_each(|n| set(db, "doc", "n", who * n as i64)));
        }
    });
    let listen = |heard: Receiver<(Id, Origin)>| -> Vec<(Id, Origin)> {
        (0..2 * EACH)
            .map(|_| heard.recv_timeout(PATIENCE).unwrap())
            .collect()
    };
    let (heard_a, heard_b) = (listen(heard_a), listen(heard_b));
    let ids = |heard: &[(Id, Origin)]| heard.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&heard_a), ids(&heard_b));
    let history = a.history(None, 2 * EACH).unwrap().entries;
    let arrived: Vec<Id> = history.iter().rev().map(|entry| entry.id()).collect();
    assert_eq!(ids(&heard_a), arrived);
    for ((_, at_a), (_, at_b)) in heard_a.iter().zip(&heard_b) {
        assert_ne!(at_a, at_b, "local to one of them");
    }
}

#[test]
fn a_database_that_is_damaged_keeps_nobody_from_following_the_others() {
    let engines = engines(2);
    let all = [0, 1].map(|n: usize| instance_on(Arc::clone(&engines[n]), n as u8 + 1));
    let ids = [(); 3].map(|()| database(&all[0]).id());
    let [damaged, ..] = ids.map(|id| open(&all[0], &id));
    let versions = |engine: &dyn Engine| -> Vec<(Bytes, Bytes)> {
        let (all, limit) = (KeyRange::new(b"", b"\xff"), ScanLimit::rows(10_000));
        let snapshot = engine.snapshot().unwrap();
        let page = snapshot.scan(Space::Meta, &all, Direction::Forward, limit);
        let rows = page.unwrap().rows.into_iter();
        let is_version = |row: &Row| row.key.len() == 6 && row.key[1] == b'v';
        rows.filter(is_version)
            .map(|row| (row.key, row.value))
            .collect()
    };
    // Whose row it is, a commit tells.
    let before = versions(&*engines[0]);
    set(&damaged, "doc", "n", 1);
    let after = versions(&*engines[0]);
    let (row, _) = after.iter().find(|row| !before.contains(row)).unwrap();
    let heard: Vec<_> = ids.iter().map(|id| told(&open(&all[0], id))).collect();
    let mut batch = Batch::new();
    batch.put(Space::Meta, row, b"rot");
    engines[1].write(&batch, Durability::Durable).unwrap();

    for (id, heard) in ids.iter().zip(heard).skip(1) {
        let there = open(&all[1], id);
        set(&there, "doc", "n", 2);
        let (_, origin) = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(origin, Origin::Remote);
    }
}

/// An engine that finds one row damaged and hides with it what is asked for at once.
struct Rotten {
    inner: Arc<dyn Engine>,
    row: Arc<Mutex<Option<Bytes>>>,
}

struct RottenSnapshot(Box<dyn Snapshot>, Option<Bytes>);

impl Engine for Rotten {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        let row = self.row.lock().clone();
        Ok(Box::new(RottenSnapshot(self.inner.snapshot()?, row)))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.inner.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.inner.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.inner.close()
    }

    fn info(&self) -> EngineInfo {
        self.inner.info()
    }
}

impl Snapshot for RottenSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let rotten = self.1.as_ref().filter(|_| space == Space::Meta);
        match rotten.is_some_and(|row| keys.contains(&row.as_ref())) {
            true => Err(EngineError::corrupt("a page")),
            false => self.0.multi_get(space, keys),
        }
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        self.0.scan(space, range, direction, limit)
    }
}

#[test]
fn a_page_that_is_damaged_keeps_nobody_from_following_what_is_beside_it() {
    let [first, second] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
    let row = Arc::new(Mutex::new(None));
    let rotten = Rotten {
        inner: first,
        row: Arc::clone(&row),
    };
    let all = [instance_on(Arc::new(rotten), 1), instance_on(second, 2)];
    let ids = [(); 5].map(|()| database(&all[0]).id());
    let heard: Vec<_> = ids.iter().map(|id| told(&open(&all[0], id))).collect();
    // The third one has the third number.
    *row.lock() = Some(Bytes::from_static(b"Lv\0\0\0\x02"));
    assert!(open(&all[0], &ids[2]).tips().is_err());
    for (id, heard) in ids.iter().zip(heard) {
        if *id == ids[2] {
            continue;
        }
        let there = open(&all[1], id);
        set(&there, "doc", "n", 1);
        let (_, origin) = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(origin, Origin::Remote);
    }
}

#[test]
fn packs_taken_in_by_two_processes_are_there_once() {
    let source = instance(9);
    let db = database(&source);
    for n in 0..400 {
        set(&db, "doc", &format!("k{}", n % 50), n);
    }
    let packs = all_packs(&source, &db.id());
    let engines = engines(2);
    let all: Vec<Databases> = (1..)
        .zip(engines)
        .map(|(n, engine)| instance_on(engine, n))
        .collect();
    // Both begin the database, and both commit to it meanwhile.
    thread::scope(|scope| {
        for databases in &all {
            let (id, packs) = (db.id(), &packs);
            scope.spawn(move || {
                for pack in packs {
                    let packs = std::slice::from_ref(pack);
                    let report = databases
                        .ingest(IngestRequest::new(id, packs).create(true))
                        .unwrap();
                    assert_eq!(report.rejected_count, 0);
                    let tx = open(databases, &id).new_transaction();
                    tx.doc("doc").unwrap().increment("met", 1).unwrap();
                    tx.commit().unwrap();
                }
            });
        }
    });
    let here = open(&all[1], &db.id());
    assert_eq!(here.entry_count().unwrap(), 401 + 2 * packs.len() as u64);
    assert_eq!(number(&here, "doc", "met"), Some(2 * packs.len() as i64));
    for n in 350..400 {
        assert_eq!(number(&here, "doc", &format!("k{}", n % 50)), Some(n));
    }
    check(&all, &db.id());
}

/// What a process commits while it takes in packs may be refused, as another process was faster: that is no reason to
/// forget the packs.
#[test]
fn packs_outlive_the_lost_races_of_commits_beside_them() {
    const PACKS: i64 = 150;
    let (all, id) = processes(2);
    let source = instance(9);
    ingest(&source, id, &all_packs(&all[0], &id));
    let theirs = open(&source, &id);
    let packs: Vec<Bytes> = (0..PACKS)
        .map(|n| {
            let known = theirs.tips().unwrap();
            set(&theirs, "doc", "theirs", n);
            let known: Vec<Id> = known.iter().map(|tip| tip.id).collect();
            packs_without(&source, &id, &known).remove(0)
        })
        .collect();
    let done = AtomicBool::new(false);
    let committed: u64 = thread::scope(|scope| {
        let writers: Vec<_> = [0, 0, 0, 1, 1]
            .map(|process| {
                let (db, done) = (open(&all[process], &id), &done);
                scope.spawn(move || {
                    (0..)
                        .take_while(|_| !done.load(Ordering::Acquire))
                        .map(|n| set(&db, &format!("of {process}"), "at", n))
                        .count() as u64
                })
            })
            .into();
        let end = End(&done);
        for pack in &packs {
            let report = ingest(&all[0], id, std::slice::from_ref(pack));
            assert_eq!((report.new, report.known, report.pending), (1, 0, 0));
        }
        drop(end);
        writers.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let here = open(&all[1], &id);
    assert_eq!(here.entry_count().unwrap(), 1 + PACKS as u64 + committed);
    check(&all, &id);
}

#[test]
fn an_entry_that_waits_in_one_process_is_freed_by_its_parent_in_the_other() {
    let source = instance(9);
    let db = database(&source);
    let begun = all_packs(&source, &db.id());
    let mut entries = Vec::new();
    for n in 0..2 {
        let tx = db.new_transaction();
        tx.doc("doc").unwrap().set("n", n).unwrap();
        entries.push(tx.commit().unwrap().unwrap());
    }
    let engines = engines(2);
    let all: Vec<Databases> = (1..)
        .zip(engines)
        .map(|(n, engine)| instance_on(engine, n))
        .collect();
    ingest(&all[0], db.id(), &begun);
    let waiting = open(&all[1], &db.id());
    let heard = told(&waiting);
    let child = pack::encode(&entries[1..]).unwrap();
    assert_eq!(ingest(&all[1], db.id(), &[child]).pending, 1);
    let parent = pack::encode(&entries[..1]).unwrap();
    assert_eq!(ingest(&all[0], db.id(), &[parent]).new, 1);
    for entry in &entries {
        assert_eq!(
            heard.recv_timeout(PATIENCE).unwrap(),
            (entry.id(), Origin::Remote)
        );
    }
    assert_eq!(waiting.pending().0, 0);
    check(&all, &db.id());
}

#[test]
fn what_one_process_defers_the_other_shows_whole() {
    let source = instance(9);
    let db = database(&source);
    for n in 0..1_500 {
        set(&db, "doc", &format!("k{n}"), n);
    }
    let (all, _) = processes(2);
    ingest(&all[0], db.id(), &all_packs(&source, &db.id()));
    let here = open(&all[1], &db.id());
    // Nobody has read it here before.
    assert!(here.verify().unwrap().is_sound());
    assert_eq!(here.state_hash().unwrap(), db.state_hash().unwrap());
    check(&all, &db.id());
}

#[test]
fn an_import_in_one_process_survives_that_another_opens_the_database() {
    let (all, id) = processes(2);
    let a = open(&all[0], &id);
    let fill = |import: &mut eidetica_database::Import, from: i64, to: i64| {
        for n in from..to {
            let mut row = Doc::new();
            row.set_string("text", "x".repeat(500));
            row.insert("n", n);
            import.insert_row("rows", format!("{n:05}"), row).unwrap();
        }
    };
    let mut import = a.import().with_memory_bytes(16 << 10);
    fill(&mut import, 0, 300);
    let b = open(&all[1], &id);
    let rows = |db: &Database| {
        db.table::<serde_json::Value>("rows")
            .unwrap()
            .rows()
            .iter()
            .count()
    };
    assert_eq!(rows(&b), 0);
    set(&b, "doc", "meanwhile", 1);
    fill(&mut import, 300, 600);
    import.commit().unwrap();
    assert_eq!(rows(&b), 600);
    assert_eq!(rows(&a), 600);
    assert_eq!(number(&a, "doc", "meanwhile"), Some(1));
    check(&all, &id);
}

#[test]
fn an_import_that_nobody_goes_on_with_is_given_up_and_no_other() {
    let (all, id) = processes(3);
    let fill = |import: &mut eidetica_database::Import, keys: std::ops::Range<i64>| {
        let mut rows = keys.map(|n| (n, Doc::from_iter([("n", n)])));
        rows.try_for_each(|(n, row)| import.insert_row("rows", format!("{n:05}"), row))
    };
    let begin = |databases: &Databases| {
        let mut import = open(databases, &id).import().with_memory_bytes(1 << 10);
        fill(&mut import, 0..100).unwrap();
        import
    };
    // One whose process does not say that it lives, one that adds something now and then, and one that says so.
    let [mut dead, mut slow, alive] = [0, 1, 2].map(|n| begin(&all[n]));
    let looking = &all[2];
    let mut ended = 0;
    for look in 0..3 * limits::IMPORT_LOOKS {
        ended += looking.tend_imports().unwrap();
        if look % 8 == 0 {
            let from = 100 + i64::from(look) * 100;
            fill(&mut slow, from..from + 100).unwrap();
        }
        assert_eq!(ended, u64::from(look + 1 >= limits::IMPORT_LOOKS));
    }
    assert!(matches!(fill(&mut dead, 100..200), Err(Error::Abandoned)));
    assert!(dead.commit().is_err());
    assert!(!slow.commit().unwrap().is_empty());
    assert!(!alive.commit().unwrap().is_empty());
    // At the end of one as well.
    let late = begin(&all[0]);
    let looks = (0..limits::IMPORT_LOOKS).map(|_| looking.tend_imports().unwrap());
    assert_eq!(looks.sum::<u64>(), 1);
    assert!(matches!(late.commit(), Err(Error::Abandoned)));
    check(&all, &id);
}

#[test]
fn readers_of_all_processes_see_all_of_an_import_or_nothing() {
    const ROWS: usize = 24;
    let (all, id) = processes(2);
    let importer = open(&all[0], &id);
    let heard = told(&importer);
    let done = AtomicBool::new(false);
    let see = |db: Database| {
        let mut seen = Vec::new();
        while !done.load(Ordering::Acquire) {
            let rows = db.table::<serde_json::Value>("rows").unwrap();
            let first = rows.get("00000").unwrap().is_some();
            let last = rows.get(&format!("{:05}", ROWS - 1)).unwrap().is_some();
            seen.push((first, last));
            // Readers that never wait can keep a server from the processors.
            thread::park_timeout(Duration::from_millis(1));
        }
        seen
    };
    let ids = thread::scope(|scope| {
        let readers = all.iter().map(|one| open(one, &id));
        let readers: Vec<_> = readers.map(|db| scope.spawn(|| see(db))).collect();
        let end = End(&done);
        // More than one batch of entries moves into the log.
        let mut import = importer.import().with_memory_bytes(64 << 10);
        for n in 0..ROWS {
            let mut row = Doc::new();
            row.set_string("text", "x".repeat(512 << 10));
            import.insert_row("rows", format!("{n:05}"), row).unwrap();
        }
        let ids = import.commit().unwrap();
        // What is acknowledged is there.
        let rows = importer.table::<serde_json::Value>("rows").unwrap();
        assert_eq!(rows.rows().iter().count(), ROWS);
        drop(end);
        for reader in readers {
            let seen = reader.join().unwrap();
            assert!(seen.iter().all(|(first, last)| !first || *last), "half");
        }
        ids
    });
    for id in ids {
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (id, Origin::Local));
    }
    check(&all, &id);
}

#[test]
fn settings_and_data_of_many_processes_all_count() {
    const EACH: u8 = 12;
    let (all, id) = processes(2);
    thread::scope(|scope| {
        for (who, databases) in all.iter().enumerate() {
            let grants = open(databases, &id);
            scope.spawn(move || {
                for n in 0..EACH {
                    let member = key(50 + 50 * who as u8 + n).public();
                    let tx = grants.new_transaction();
                    tx.settings()
                        .grant(member, Permission::Write(5), "")
                        .unwrap();
                    tx.commit().unwrap();
                }
            });
            let data = open(databases, &id);
            scope.spawn(move || {
                for n in 0..EACH {
                    set(&data, &format!("own {who}"), "n", i64::from(n));
                }
            });
        }
    });
    let db = open(&all[1], &id);
    assert_eq!(db.entry_count().unwrap(), 1 + 4 * u64::from(EACH));
    for n in (0..EACH).flat_map(|n| [50 + n, 100 + n]) {
        assert!(db.right_of(&key(n).public()).unwrap().is_some());
    }
    check(&all, &id);
}

#[test]
fn a_revocation_in_one_process_holds_in_the_other() {
    let engines = engines(2);
    let all: Vec<Databases> = (1..)
        .zip(engines)
        .map(|(n, engine)| instance_on(engine, n))
        .collect();
    let new = rights(&key(1), &[(&key(2), Permission::Write(5))]);
    let a = all[0].create(new, key(1)).unwrap();
    let b = all[1].get(&a.id()).unwrap().with_key(key(2));
    set(&b, "doc", "n", 1);
    let tx = a.new_transaction();
    tx.settings()
        .revoke(Revocation::of(key(2).public()))
        .unwrap();
    tx.commit().unwrap();
    let tx = b.new_transaction();
    tx.doc("doc").unwrap().set("n", 2).unwrap();
    assert!(tx.commit().is_err());
    assert!(!all[1].can_read(&a.id(), &[key(2).public()]).unwrap());
    assert_eq!(number(&b, "doc", "n"), Some(1));
    check(&all, &a.id());
}

#[test]
fn local_databases_of_two_processes_are_one() {
    const EACH: i64 = 40;
    let (all, _) = processes(2);
    thread::scope(|scope| {
        for (n, databases) in all.iter().enumerate() {
            scope.spawn(move || {
                for i in 0..5 {
                    let own = databases.local(&format!("own {n} {i}")).unwrap();
                    let tx = own.new_transaction();
                    tx.doc("doc").unwrap().set("of", n as i64).unwrap();
                    tx.commit().unwrap();
                }
                let both = databases.local("both").unwrap();
                for i in 0..EACH {
                    let tx = both.new_transaction();
                    tx.doc(&format!("store {n} {}", i % 3))
                        .unwrap()
                        .set("i", i)
                        .unwrap();
                    tx.doc("doc").unwrap().increment("count", 1).unwrap();
                    tx.commit().unwrap();
                    both.transact(|tx| {
                        let doc = tx.doc("doc")?;
                        let read: Option<i64> = doc.get_as("read")?;
                        doc.set("read", read.unwrap_or(0) + 1)
                    })
                    .unwrap();
                }
            });
        }
    });
    for databases in &all {
        let both = databases.local("both").unwrap();
        for field in ["count", "read"] {
            let sum: Option<i64> = both.doc("doc").unwrap().get_as(field).unwrap();
            assert_eq!(sum, Some(2 * EACH));
        }
        for n in 0..2_i64 {
            for i in 0..5 {
                let own = databases.local(&format!("own {n} {i}")).unwrap();
                assert_eq!(own.doc("doc").unwrap().get_as("of").unwrap(), Some(n));
            }
        }
    }
    assert_eq!(all[0].list_local().unwrap().len(), 11);
}

/// What no settings name gives way, whichever process holds it: the others notice that it is gone.
#[test]
fn a_closure_that_another_process_took_away_comes_again() {
    let (all, id) = processes(2);
    let source = instance(9);
    let to = |databases: &Databases, packs: &[Bytes]| {
        let report = databases.ingest(IngestRequest::new(id, packs)).unwrap();
        assert!(report.bad_packs.is_empty());
        report
    };
    ingest(&source, id, &all_packs(&all[0], &id));
    let stray = |n: u8| source.create(rights(&key(3), &[(&key(n), Permission::Write(3))]), key(3));
    let team = stray(2).unwrap();
    for databases in &all {
        to(databases, &all_packs(&source, &team.id()));
    }
    for _ in 0..limits::UNNAMED_CLOSURES {
        to(&all[0], &all_packs(&source, &stray(4).unwrap().id()));
    }
    // Now it is named, and its member writes.
    let project = open(&source, &id);
    let tips = team.tips().unwrap().into_iter().map(|tip| tip.id);
    let naming = project.new_transaction();
    let bound = Permission::Write(5);
    naming
        .settings()
        .delegate(team.id(), bound, tips, "the team")
        .unwrap();
    naming.commit().unwrap();
    let packs = all_packs(&source, &id);
    let (above, own): (Vec<Bytes>, Vec<Bytes>) = packs
        .into_iter()
        .partition(|pack| pack::PackInfo::read(pack).unwrap().database == team.id());
    assert_eq!(to(&all[1], &own).pending, 1, "it is gone here too");
    assert_eq!(to(&all[1], &above).pending, 0);
    let there = open(&all[1], &id);
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
    assert!(there.access_of(&key(2).public()).unwrap().is_some());
    check(&all, &id);
}

/// Keeps a process from noticing what others write, except where it looks itself: the thread that follows them is held
/// up in a callback until what is returned is dropped.
fn blind(db: &Database, other: &Database) -> Sender<()> {
    let (tell, told) = channel();
    let (release, held) = channel();
    let held = Mutex::new(held);
    db.on_remote_write(move |_, _| {
        tell.send(()).ok();
        held.lock().recv().ok();
        Ok(())
    })
    .unwrap();
    set(other, "first", "n", 1);
    told.recv_timeout(PATIENCE).unwrap();
    release
}

fn delete(db: &Database, store: &str, path: &str) -> Option<Id> {
    let tx = db.new_transaction();
    tx.doc(store).unwrap().delete(path).unwrap();
    tx.commit().unwrap().map(|entry| entry.id())
}

/// What one process does not know of yet it must not answer for.
#[test]
fn what_changes_nothing_is_so_in_the_engine() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let _blind = blind(&a, &b);
    set(&b, "of b", "x", 1);
    assert!(delete(&a, "of b", "x").is_some());
    assert_eq!(number(&b, "of b", "x"), None);
    set(&b, "imported", "x", 1);
    let mut import = a.import();
    let at = Locator::parse("x").unwrap();
    import
        .edit("imported", StoreKind::Doc, Edit::Delete { at }, 8)
        .unwrap();
    assert_eq!(import.commit().unwrap().len(), 1);
    assert_eq!(number(&b, "imported", "x"), None);
    b.set_quota(Some(1 << 20)).unwrap();
    a.set_quota(None).unwrap();
    assert_eq!(b.quota().unwrap(), None);
    check(&all, &id);
}

/// The same of a commit that builds on one which is on its way and then refused.
#[test]
fn what_changes_nothing_waits_for_what_it_was_found_on() {
    let [first, second] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
    let (first, interruption) = HookedEngine::interruptible(first);
    let all = [instance_on(first, 1), instance_on(second, 2)];
    let id = database(&all[0]).id();
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    set(&a, "doc", "x", 1);
    set(&a, "doc", "y", 1);
    assert_eq!(number(&a, "doc", "y"), Some(1));
    let ((staged, is_staged), (answered, is_answered)) = (channel(), channel::<()>());
    thread::scope(|scope| {
        let refused = scope.spawn(|| {
            let tx = a.new_transaction();
            let doc = tx.doc("doc").unwrap();
            assert_eq!(doc.get_as::<i64>("y").unwrap(), Some(1));
            doc.delete("x").unwrap();
            interruption.before_write(move || {
                staged.send(()).unwrap();
                // Longer than whoever does not wait takes to answer.
                is_answered.recv_timeout(Duration::from_millis(300)).ok();
                set(&b, "doc", "y", 2);
            });
            tx.commit()
        });
        is_staged.recv_timeout(PATIENCE).unwrap();
        let deleted = delete(&a, "doc", "x");
        answered.send(()).ok();
        assert!(deleted.is_some());
        let refused = refused.join().unwrap();
        assert!(matches!(refused, Err(Error::Conflict { .. })));
    });
    assert_eq!(number(&a, "doc", "x"), None);
    check(&all, &id);
}

#[test]
fn a_right_and_room_count_in_all_processes_at_once() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let source = instance(9);
    ingest(&source, id, &all_packs(&all[0], &id));
    let theirs = open(&source, &id);
    let large = |db: &Database, path: &str| {
        let tx = db.new_transaction();
        tx.doc("doc").unwrap().set(path, "x".repeat(4_000)).unwrap();
        tx.commit().map(drop)
    };
    large(&theirs, "theirs").unwrap();
    b.set_quota(Some(3_000)).unwrap();
    let _blind = blind(&a, &b);
    assert!(matches!(large(&a, "a"), Err(Error::Full { .. })));
    b.set_quota(None).unwrap();
    large(&a, "a").unwrap();
    b.set_quota(Some(8_000)).unwrap();
    set(&b, "doc", "n", 1);
    assert!(matches!(large(&a, "b"), Err(Error::Full { .. })));
    b.set_quota(None).unwrap();
    let report = ingest(&all[0], id, &all_packs(&source, &id));
    assert_eq!((report.new, report.known), (1, 1));
    let tx = b.new_transaction();
    let member = key(2);
    tx.settings()
        .grant(member.public(), Permission::Write(5), "")
        .unwrap();
    tx.commit().unwrap();
    set(&a.with_key(member), "doc", "of the member", 1);
    check(&all, &id);
}

#[test]
fn a_store_that_another_process_has_made_deeper_is_looked_through() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    set(&a, "d", "k", 1);
    set(&a, "d", "l", 1);
    set(&b, "d", "k.x", 2);
    set(&a, "d", "k", 3);
    check(&all, &id);
    for db in [&a, &b] {
        assert_eq!(number(db, "d", "k"), Some(3));
        assert_eq!(number(db, "d", "k.x"), None);
    }
}

#[test]
fn a_store_of_another_process_is_not_read_as_ones_own() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let source = instance(9);
    ingest(&source, id, &all_packs(&all[0], &id));
    let theirs = open(&source, &id);
    set(&theirs, "theirs", "x", 1);
    let _blind = blind(&a, &b);
    let row = |table: &str| {
        let tx = b.new_transaction();
        let table = tx.table::<serde_json::Value>(table).unwrap();
        table.insert("x", &serde_json::json!({"a": 1})).unwrap();
        tx.commit().unwrap();
    };
    row("rows");
    set(&a, "of a", "x", 1);
    row("more");
    let report = ingest(&all[0], id, &all_packs(&source, &id));
    assert_eq!((report.new, report.known), (1, 1));
    assert_eq!(number(&b, "theirs", "x"), Some(1));
    assert_eq!(number(&b, "of a", "x"), Some(1));
    check(&all, &id);
}

#[test]
fn payloads_are_missing_in_all_processes_alike() {
    const EACH: i64 = 5;
    let source = instance(9);
    let theirs = database(&source);
    let id = theirs.id();
    let (begun, all) = (all_packs(&source, &id), engines(2).into_iter().zip(1..));
    let all: Vec<Databases> = all.map(|(engine, n)| instance_on(engine, n)).collect();
    ingest(&all[0], id, &begun);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let _blind = blind(&a, &b);
    for round in 0..2 {
        for n in 0..EACH {
            set(&theirs, "photos", &format!("n{n}"), round * EACH + n);
        }
        b.hold(&Holds::stores(["notes"]).unwrap()).unwrap();
        ingest(&all[1], id, &all_packs(&source, &id));
        b.hold(&Holds::All).unwrap();
        if round > 0 {
            assert_eq!(a.give_up("photos").unwrap(), EACH as u64);
            assert_eq!(b.wait_again("photos").unwrap(), EACH as u64);
        }
        let report = ingest(&all[0], id, &all_packs(&source, &id));
        assert_eq!(report.filled, EACH as u64);
        assert_eq!(number(&b, "photos", "n1"), Some(round * EACH + 1));
    }
    check(&all, &id);
}

#[test]
fn what_another_process_holds_again_is_not_released() {
    let [first, second] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
    let (first, interruption) = HookedEngine::interruptible(first);
    let all = [instance_on(first, 1), instance_on(second, 2)];
    let id = database(&all[0]).id();
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    set(&a, "photos", "n", 1);
    a.hold(&Holds::stores(["notes"]).unwrap()).unwrap();
    let held = b.clone();
    interruption.before_write(move || held.hold(&Holds::All).unwrap());
    assert!(matches!(a.release("photos"), Err(Error::Held { .. })));
    assert_eq!(number(&b, "photos", "n"), Some(1));
    b.hold(&Holds::stores(["notes"]).unwrap()).unwrap();
    assert_eq!(a.release("photos").unwrap(), 1);
    assert!(b.verify().unwrap().is_sound());
}

/// Entries of an import that are acknowledged are there, whatever became of what was on its way when it began.
#[test]
fn imports_between_the_lost_races_of_commits_are_there() {
    const IMPORTS: i64 = 30;
    let (all, id) = processes(2);
    let done = AtomicBool::new(false);
    let imported: Vec<Id> = thread::scope(|scope| {
        for (n, process) in [0, 0, 1].into_iter().enumerate() {
            let (db, done) = (open(&all[process], &id), &done);
            scope.spawn(move || {
                (0..)
                    .take_while(|_| !done.load(Ordering::Acquire))
                    .for_each(|at| set(&db, &format!("of {n}"), "at", at));
            });
        }
        let db = open(&all[0], &id);
        let import = |n: i64| {
            let mut import = db.import().with_memory_bytes(1);
            for row in 0..3 {
                let fields = Doc::from_iter([("n", n)]);
                import.insert_row("rows", format!("{n} {row}"), fields)?;
            }
            import.commit()
        };
        let ids = (0..IMPORTS).map(import).collect::<Result<Vec<_>, _>>();
        done.store(true, Ordering::Release);
        ids.unwrap().concat()
    });
    let db = open(&all[1], &id);
    assert_eq!(imported.len(), 3 * IMPORTS as usize);
    assert!(imported.iter().all(|id| db.get(id).unwrap().is_some()));
    let rows = db.table::<serde_json::Value>("rows").unwrap();
    assert_eq!(rows.rows().iter().count(), 3 * IMPORTS as usize);
    check(&all, &id);
}

#[test]
fn an_import_sees_stores_that_were_made_after_it_began() {
    let (all, id) = processes(2);
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let _blind = blind(&a, &b);
    let mut import = a.import().with_memory_bytes(1);
    let set_row = |import: &mut Import, row: &str| import.insert_row("rows", row, Doc::new());
    set_row(&mut import, "1").unwrap();
    set_row(&mut import, "2").unwrap();
    set(&b, "of b", "x", 1);
    let at = Locator::parse("x").unwrap();
    import
        .edit("of b", StoreKind::Doc, Edit::Delete { at }, 8)
        .unwrap();
    set_row(&mut import, "3").unwrap();
    import.commit().unwrap();
    assert_eq!(number(&b, "of b", "x"), None);
    check(&all, &id);
}

/// What was refused since another process was faster is told as that one has stored it, and counted once.
#[test]
fn what_is_void_in_another_process_is_not_told() {
    let [first, second] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
    let (first, interruption) = HookedEngine::interruptible(first);
    let all = [instance_on(first, 1), instance_on(second, 2)];
    let source = instance(9);
    let member = key(2);
    let new = rights(&key(1), &[(&member, Permission::Write(5))]);
    let theirs = source.create(new, key(1)).unwrap();
    let id = theirs.id();
    ingest(&all[0], id, &all_packs(&source, &id));
    let (a, b) = (open(&all[0], &id), open(&all[1], &id));
    let fork = |by: &Arc<eidetica_auth::SecretKey>, edit: &dyn Fn(&Transaction)| {
        let tx = theirs.new_transaction_at(&[id]).unwrap();
        let tx = tx.with_key(Arc::clone(by));
        edit(&tx);
        tx.commit().unwrap().unwrap()
    };
    let put = |tx: &Transaction| tx.doc("notes").unwrap().set("n", 1).unwrap();
    let (effective, void) = (fork(&key(1), &put), fork(&member, &put));
    let revocation = fork(&key(1), &|tx| {
        let revocation = Revocation::of(key(2).public());
        tx.settings().revoke(revocation).unwrap();
    });
    let heard = told(&a);
    let theirs = [revocation.clone(), void.clone()];
    let other = all[1].clone();
    interruption.before_write(move || drop(ingest_entries(&other, id, &theirs)));
    let report = ingest_entries(&all[0], id, &[effective.without_data(), void.clone()]);
    assert_eq!((report.new, report.known, report.lacking), (1, 1, 1));
    let mut ids: Vec<Id> = (0..2)
        .map(|_| heard.recv_timeout(PATIENCE).unwrap().0)
        .collect();
    ids.sort_unstable();
    let mut expected = [effective.id(), revocation.id()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(heard.try_recv().is_err());
    assert_eq!(b.entry_count().unwrap(), 4);
}

/// A process whose reads may be interrupted, another one, and a database with one number.
fn beside_reads() -> ([Databases; 2], Id, Interruption) {
    let [first, second] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
    let (first, interruption) = HookedEngine::interruptible(first);
    let all = [instance_on(first, 1), instance_on(second, 2)];
    let id = database(&all[0]).id();
    set(&open(&all[0], &id), "doc", "x", 1);
    (all, id, interruption)
}

/// Runs `work` on another thread and waits for it, but not for ever.
fn meanwhile(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    thread::spawn(move || {
        work();
        done.send(()).ok();
    });
    is_done.recv_timeout(PATIENCE).unwrap();
}

/// Reads wait for a server: whoever waits has not got the lock, and what others have staged meanwhile lies over what it
/// has read.
#[test]
fn others_commit_while_a_commit_reads() {
    let (all, id, interruption) = beside_reads();
    let (a, beside) = (open(&all[0], &id), open(&all[0], &id));
    interruption.before_read_of_state(move || {
        meanwhile(move || {
            set(&beside, "doc", "x", 2);
            set(&beside, "doc", "y", 2);
        });
    });
    set(&a, "doc", "x", 3);
    assert!(!interruption.cancel());
    assert_eq!(number(&a, "doc", "x"), Some(3));
    check(&all, &id);
}

/// The same where what was read before is of no use: another process has written, and this one knows.
#[test]
fn what_a_commit_has_read_before_another_process_wrote_does_not_count() {
    let (all, id, interruption) = beside_reads();
    let a = open(&all[0], &id);
    let (here, there) = (open(&all[0], &id), open(&all[1], &id));
    interruption.before_read_of_state(move || {
        meanwhile(move || {
            set(&there, "doc", "x", 2);
            assert_eq!(number(&here, "doc", "x"), Some(2));
        });
    });
    set(&a, "doc", "x", 3);
    assert!(!interruption.cancel());
    assert_eq!(number(&a, "doc", "x"), Some(3));
    check(&all, &id);
}

/// And where entries of a peer came in, whose rows are not kept in memory.
#[test]
fn what_a_commit_has_read_before_packs_came_in_does_not_count() {
    let (all, id, interruption) = beside_reads();
    let (a, here) = (open(&all[0], &id), all[0].clone());
    let peer = instance(9);
    ingest(&peer, id, &all_packs(&all[0], &id));
    let theirs = open(&peer, &id);
    set(&theirs, "doc", "x", 2);
    let packs = all_packs(&peer, &id);
    interruption.before_read_of_state(move || {
        meanwhile(move || {
            ingest(&here, id, &packs);
            assert_eq!(number(&open(&here, &id), "doc", "x"), Some(2));
        });
    });
    set(&a, "doc", "x", 3);
    assert!(!interruption.cancel());
    assert_eq!(number(&a, "doc", "x"), Some(3));
    check(&all, &id);
}
