//! Several processes on one engine: each has its own instance, and what they share are rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use eidetica_auth::{Permission, Revocation};
use eidetica_crdt::Doc;
use eidetica_database::{Database, Databases, IngestRequest, Origin, limits};
use eidetica_entry::{Id, pack};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_storage_postgres::PostgresEngine;
use eidetica_testkit::{EngineKind, PostgresServer, SharedEngine, selected_engine};

use crate::world::{all_packs, database, ingest, instance, instance_on, key, rights};

/// How long something that must come is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Engines of `count` processes on the same rows: on one server where the matrix is at PostgreSQL, else on one engine
/// in memory.
fn engines(count: u8) -> Vec<Arc<dyn Engine>> {
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

fn open(databases: &Databases, id: &Id) -> Database {
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
        }
        seen
    };
    let ids = thread::scope(|scope| {
        let readers = all.iter().map(|one| open(one, &id));
        let readers: Vec<_> = readers.map(|db| scope.spawn(|| see(db))).collect();
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
        done.store(true, Ordering::Release);
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
