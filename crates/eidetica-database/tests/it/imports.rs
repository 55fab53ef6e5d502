//! Imports that are larger than what is held in memory: all or nothing, whatever happens in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use eidetica_crdt::{Doc, Edit, Locator, StoreKind};
use eidetica_database::{Database, Databases, Error, Import, limits};
use eidetica_entry::Id;
use eidetica_storage::{Direction, Engine, KeyRange, ScanLimit, Space, Step};
use eidetica_testkit::{Call, Fault, FaultyEngine, HookedEngine, SharedEngine};
use parking_lot::Mutex;

use crate::world::{all_packs, database, engine, ingest, instance, instance_on, key, on, rights};

const ROWS: usize = 600;

fn row(n: usize) -> Doc {
    let mut row = Doc::new();
    row.set_string("text", "x".repeat(1_000));
    row.insert("n", n as i64);
    row
}

/// An import that holds little in memory, with edits that build on earlier ones of its own.
fn fill(mut import: Import, rows: usize) -> Result<Import, Error> {
    for n in 0..rows {
        // Every third key stands twice: the later row wins.
        let key = format!("{:05}", if n % 3 == 2 { n - 2 } else { n });
        import.insert_row("rows", key, row(n))?;
        let at = Locator::parse("seen")?;
        import.edit("doc", StoreKind::Doc, Edit::Increment { at, by: 1 }, 16)?;
        if n % 100 == 0 {
            let (list, value) = (Locator::parse("hundreds")?, (n as i64).into());
            let edit = Edit::ListInsert {
                list,
                index: Some(0),
                value,
            };
            import.edit("doc", StoreKind::Doc, edit, 16)?;
        }
        if n % 300 == 100 {
            let (key, fields) = (format!("{n:05}"), Doc::from_iter([("n", -1_i64)]));
            let edit = Edit::RowSet { key, fields };
            import.edit("rows", StoreKind::Table, edit, 16)?;
        }
    }
    Ok(import)
}

fn small(db: &Database) -> Import {
    db.import().with_memory_bytes(32 << 10)
}

fn count(db: &Database) -> usize {
    let rows = db.table::<serde_json::Value>("rows").unwrap();
    rows.rows().iter().count()
}

/// Nothing of any import is left beside the database.
fn is_clean(engine: &dyn Engine) -> bool {
    let snapshot = engine.snapshot().unwrap();
    let page = snapshot.scan(
        Space::Local,
        &KeyRange::prefix(vec![4]),
        Direction::Forward,
        ScanLimit::rows(1),
    );
    page.unwrap().rows.is_empty()
}

#[test]
fn a_spooled_import_is_what_a_small_one_is() {
    let (spooled, whole) = (instance(1), instance(2));
    let id = {
        let db = database(&spooled);
        ingest(&whole, db.id(), &all_packs(&spooled, &db.id()));
        db.id()
    };
    let db = spooled.get(&id).unwrap().with_key(key(1));
    let other = whole.get(&id).unwrap().with_key(key(1));
    let import = fill(small(&db), ROWS).unwrap();
    assert_eq!(
        (db.entry_count().unwrap(), count(&db)),
        (1, 0),
        "nothing yet"
    );
    let ids = import.commit().unwrap();
    assert!(ids.len() > 10, "{}", ids.len());
    assert_eq!(
        fill(other.import(), ROWS).unwrap().commit().unwrap().len(),
        1
    );

    for db in [&db, &other] {
        assert_eq!(count(db), ROWS - ROWS / 3);
        let rows = db.table::<serde_json::Value>("rows").unwrap();
        let n = |key: &str| rows.get(key).unwrap().unwrap()["n"].as_i64().unwrap();
        assert_eq!(
            (n("00000"), n("00003"), n("00004"), n("00100")),
            (2, 5, 4, -1)
        );
        let doc = db.doc("doc").unwrap().get_all().unwrap().to_json();
        let hundreds = [500, 400, 300, 200, 100, 0];
        assert_eq!(doc, serde_json::json!({"seen": ROWS, "hundreds": hundreds}));
        assert!(db.verify().unwrap().is_sound());
    }
    assert_eq!(db.entry_count().unwrap(), 1 + ids.len() as u64);
    // A peer makes the same of it.
    let peer = instance(3);
    ingest(&peer, id, &all_packs(&spooled, &id));
    assert_eq!(
        peer.get(&id).unwrap().state_hash().unwrap(),
        db.state_hash().unwrap()
    );
}

#[test]
fn readers_see_all_of_a_spooled_import_or_nothing() {
    let instance = instance(1);
    let db = database(&instance);
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (db, done) = (db.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !done.load(Ordering::Acquire) {
                let rows = db.table::<serde_json::Value>("rows").unwrap();
                let first = rows.get("00000").unwrap().is_some();
                let last = rows.get("00029").unwrap().is_some();
                seen.push((first, last));
            }
            seen
        })
    };
    // More than one batch of entries, and of state.
    let mut import = small(&db);
    for n in 0..30 {
        let mut row = Doc::new();
        row.set_string("text", "x".repeat(512 << 10));
        import.insert_row("rows", format!("{n:05}"), row).unwrap();
    }
    import.commit().unwrap();
    done.store(true, Ordering::Release);
    let seen = reader.join().unwrap();
    // The first row there means that the last one, read later, is there too.
    assert!(seen.iter().all(|(first, last)| !first || *last), "half");
    assert_eq!(count(&db), 30);
}

#[test]
fn others_write_meanwhile_and_callbacks_are_told_in_order() {
    let instance = instance(1);
    let db = database(&instance);
    let told = Arc::new(parking_lot::Mutex::new(Vec::<Id>::new()));
    let heard = Arc::clone(&told);
    db.on_local_write(move |event, db| {
        assert!(db.get(&event.entry.id()).unwrap().is_some());
        heard.lock().push(event.entry.id());
        Ok(())
    })
    .unwrap();
    let import = fill(small(&db), ROWS).unwrap();
    let between = db.new_transaction();
    between.doc("other").unwrap().set("k", 1).unwrap();
    let between = between.commit().unwrap().unwrap().id();
    let ids = import.commit().unwrap();
    assert_eq!(*told.lock(), [&[between], ids.as_slice()].concat());
    assert_eq!(db.tips().unwrap().len(), 2, "both built on the same entry");
    assert_eq!(count(&db), ROWS - ROWS / 3);
    assert!(db.verify().unwrap().is_sound());
}

#[test]
fn an_import_that_is_dropped_or_refused_leaves_nothing() {
    let engine = engine();
    let instance = instance_on(Arc::clone(&engine), 1);
    let db = database(&instance);
    drop(fill(small(&db), ROWS).unwrap());
    assert!(is_clean(&*engine));
    // A bad edit in the middle.
    let mut import = fill(small(&db), ROWS).unwrap();
    let (key, fields) = ("nowhere".to_owned(), Doc::from_iter([("n", 1_i64)]));
    let edit = Edit::RowSet { key, fields };
    import.edit("rows", StoreKind::Table, edit, 16).unwrap();
    assert!(matches!(import.commit(), Err(Error::Edit { .. })));
    assert!(is_clean(&*engine));
    // Settings that it does not know.
    let import = fill(small(&db), ROWS).unwrap();
    db.transact(|tx| tx.settings().set_name("changed")).unwrap();
    assert!(matches!(import.commit(), Err(Error::Form { .. })));
    assert!(is_clean(&*engine));
    assert_eq!((db.entry_count().unwrap(), count(&db)), (2, 0));
    // Whoever may not write.
    let stranger = db.with_key(key_of_nobody());
    assert!(fill(small(&stranger), ROWS).is_err());
    assert!(is_clean(&*engine));
}

fn key_of_nobody() -> Arc<eidetica_auth::SecretKey> {
    key(99)
}

/// Large rows, so that few of them take several batches to move.
fn import_large(db: &Database) -> Result<Vec<Id>, Error> {
    let mut import = db.import().with_memory_bytes(1 << 20);
    for n in 0..LARGE {
        let mut row = Doc::new();
        row.set_string("text", "x".repeat(700 << 10));
        import.insert_row("rows", format!("{n:05}"), row)?;
    }
    import.commit()
}

const LARGE: usize = 14;

/// Fails every write of an import in turn, in both ways, and looks at what a disk would hold.
#[test]
fn an_import_that_any_failure_interrupts_is_whole_or_not_there() {
    let base = Arc::new(eidetica_storage::MemoryEngine::new());
    let id = database(&on(base.clone())).id();
    let (mut none, mut all) = (0, 0);
    for fault in [Fault::Before, Fault::After] {
        for number in 0.. {
            let engine = FaultyEngine::over(&base, Some((number, fault)));
            let failing = Arc::new(engine);
            let acknowledged = {
                let instance = on(failing.clone());
                let db = instance.get(&id).unwrap().with_key(key(1));
                import_large(&db).is_ok()
            };
            let disk = Arc::new(failing.crash(0));
            let found = look(&on(disk.clone()), &id);
            assert!(
                found == 0 || found == LARGE,
                "{found} rows after {fault:?} {number}"
            );
            assert!(
                found == LARGE || !acknowledged,
                "an acknowledged import is gone"
            );
            assert!(is_clean(&*disk), "left behind after {fault:?} {number}");
            *(if found == 0 { &mut none } else { &mut all }) += 1;
            if acknowledged && number > 0 {
                break;
            }
        }
    }
    assert!(none > 4 && all > 4, "{none} times nothing, {all} times all");
}

fn look(databases: &Databases, id: &Id) -> usize {
    let db = databases.get(id).unwrap();
    // What is seen before anything else is asked for: the import is whole in the log, too.
    let entries = db.entry_count().unwrap();
    let found = count(&db);
    assert_eq!(entries > 1, found > 0);
    assert!(databases.verify().unwrap().is_sound());
    let tx = db.with_key(key(1)).new_transaction();
    tx.doc("after").unwrap().set("k", 1).unwrap();
    tx.commit().unwrap();
    found
}

/// The same where processes share the engine: another one ends what a dead one has left, with nobody asking for the database.
#[test]
fn another_process_ends_the_import_of_a_dead_one() {
    let base = Arc::new(eidetica_storage::MemoryEngine::new());
    let id = database(&on(base.clone())).id();
    let (mut taken_away, mut finished) = (0, 0);
    for number in 0.. {
        let failing = Arc::new(FaultyEngine::over(&base, Some((number, Fault::After))));
        let acknowledged = {
            let instance = on(Arc::new(SharedEngine::new(failing.clone())));
            let db = instance.get(&id).unwrap().with_key(key(1));
            import_large(&db).is_ok()
        };
        // The process is gone, and the server is not.
        let disk: Arc<dyn Engine> = Arc::new(failing.crash(usize::MAX));
        let other = on(Arc::new(SharedEngine::new(Arc::clone(&disk))));
        let was_clean = is_clean(&*disk);
        for look in 1..=limits::IMPORT_LOOKS {
            assert_eq!(is_clean(&*disk), was_clean, "too soon after {number}");
            let ended = other.tend_imports().unwrap();
            let is_last = look == limits::IMPORT_LOOKS && !was_clean;
            assert_eq!(ended, u64::from(is_last), "look {look} after {number}");
        }
        assert!(is_clean(&*disk), "left behind after {number}");
        let found = look(&other, &id);
        assert!(found == 0 || found == LARGE, "{found} after {number}");
        assert!(found == LARGE || !acknowledged);
        if !was_clean {
            *(if found == 0 {
                &mut taken_away
            } else {
                &mut finished
            }) += 1;
        }
        if acknowledged && number > 0 {
            break;
        }
    }
    assert!(
        taken_away > 2 && finished > 2,
        "{taken_away} times nothing, {finished} times all"
    );
}

#[test]
fn other_databases_open_while_an_import_is_finished() {
    let base = Arc::new(eidetica_storage::MemoryEngine::new());
    let (id, other) = {
        let instance = on(base.clone());
        let imports = database(&instance).id();
        let other = instance.create(rights(&key(2), &[]), key(2)).unwrap();
        (imports, other.id())
    };
    let interrupted = (0..).find_map(|number| {
        let engine = Arc::new(FaultyEngine::over(&base, Some((number, Fault::After))));
        let db = on(engine.clone()).get(&id).ok()?.with_key(key(1));
        import_large(&db).ok();
        drop(db);
        let disk = engine.crash(0);
        (!is_clean(&disk)).then_some(disk)
    });
    let (reached, at_the_gate) = channel();
    let (open_gate, open) = channel::<()>();
    let gate = Mutex::new((reached, open));
    // Holds writes that take rows of imports away until it is told to let them go.
    let hold = move |call: Call<'_>| {
        let takes = |step| matches!(step, Step::Delete(Space::Local, _));
        if matches!(call, Call::Write(batch) if batch.iter().any(takes)) {
            let (reached, open) = &*gate.lock();
            reached.send(()).ok();
            open.recv().ok();
        }
    };
    let disk = Arc::new(interrupted.unwrap());
    let instance = on(Arc::new(HookedEngine::new(disk, hold)));
    std::thread::scope(|scope| {
        scope.spawn(|| instance.get(&id).unwrap());
        at_the_gate.recv().unwrap();
        let (opened, found) = channel();
        let instance = &instance;
        scope.spawn(move || {
            let entries = instance.get(&other).unwrap().entry_count().unwrap();
            opened.send(entries).ok();
        });
        let found = found.recv_timeout(Duration::from_secs(60));
        drop(open_gate);
        assert_eq!(found, Ok(1), "it waits for the other one");
    });
}
