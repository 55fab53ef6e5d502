//! What things cost, in rows and reads: figures that stand in `docs/`.

use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Permission, Revocation};
use eidetica_database::{IngestRequest, limits};
use eidetica_entry::{Entry, Id};
use eidetica_storage::{Engine, MemoryEngine, Space};
use eidetica_testkit::{RecordingEngine, SharedEngine, Tally};
use parking_lot::Mutex;

use crate::hostile::{craft, doc_payload};
use crate::others::PATIENCE;
use crate::world::{all_packs, database, ingest, ingest_entries, instance_on, key, on, rights};

fn recording() -> (Arc<RecordingEngine>, eidetica_database::Databases) {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    (engine.clone(), on(engine))
}

#[test]
fn a_commit_of_one_leaf_writes_at_most_five_rows() {
    let (engine, databases) = recording();
    let db = database(&databases);
    db.transact(|tx| tx.doc("d")?.set("first", 0)).unwrap();
    let _ = engine.take();
    db.transact(|tx| tx.doc("d")?.set("fresh", 1)).unwrap();
    assert_eq!(engine.take().puts(), 4, "entry, id, version, the leaf");
    db.transact(|tx| tx.doc("d")?.set("fresh", 2)).unwrap();
    assert_eq!(engine.take().puts(), 5, "and the leaf that was there");
}

#[test]
fn bulk_ingest_of_two_leaves_writes_at_most_three_rows_an_entry() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let db = database(&a);
    let count = 2_000;
    for n in 0..count {
        db.transact(|tx| {
            tx.doc("d")?.set(&format!("a{n}"), n)?;
            tx.doc("d")?.set(&format!("b{n}"), n)
        })
        .unwrap();
    }
    let packs = all_packs(&a, &db.id());
    let (engine, b) = recording();
    ingest(&b, db.id(), &packs);
    b.get(&db.id()).unwrap().catch_up().unwrap();
    let tally = engine.take();
    let rows = tally.puts() as f64 / f64::from(count);
    assert!(rows < 3.05, "{rows} rows an entry");
    let reads = tally.space(Space::State).scans + tally.space(Space::Versions).scans;
    assert!(
        reads < 100,
        "{reads} scans of the state for {count} entries into an empty store"
    );
}

/// What a commit and a read of one key cost after it was written `versions` times.
fn hot(versions: i32) -> (Tally, Tally) {
    let (engine, databases) = recording();
    let db = database(&databases);
    db.transact(|tx| tx.doc("d")?.set("hot", -1)).unwrap();
    for n in 0..versions {
        let tx = db.new_transaction();
        tx.doc("d").unwrap().set("hot", n).unwrap();
        tx.commit().unwrap();
    }
    // Not the commit that seals a block.
    while db.entry_count().unwrap() % 256 > 200 {
        db.transact(|tx| tx.doc("d")?.set("hot", -2)).unwrap();
    }
    let _ = engine.take();
    db.transact(|tx| tx.doc("d")?.set("hot", -3)).unwrap();
    let commit = engine.take();
    db.doc("d").unwrap().get("hot").unwrap();
    (commit, engine.take())
}

#[test]
fn a_hot_key_costs_the_same_after_many_writes() {
    let ((few_commit, few_read), (many_commit, many_read)) = (hot(100), hot(10_000));
    assert_eq!(few_commit.reads(), many_commit.reads());
    assert_eq!(few_commit.puts(), many_commit.puts());
    assert_eq!(few_read.reads(), many_read.reads());
    let scanned = |tally: &Tally| {
        tally
            .spaces
            .iter()
            .map(|space| space.scanned_rows)
            .sum::<u64>()
    };
    assert_eq!(scanned(&few_commit), scanned(&many_commit));
    assert_eq!(scanned(&few_read), scanned(&many_read));
    assert!(many_commit.reads() <= 8, "{} reads", many_commit.reads());
}

#[test]
fn known_entries_cost_one_lookup_each() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let db = database(&a);
    for n in 0..100 {
        db.transact(|tx| tx.doc("d")?.set(&format!("k{n}"), n))
            .unwrap();
    }
    let packs = all_packs(&a, &db.id());
    let (engine, b) = recording();
    ingest(&b, db.id(), &packs);
    let _ = engine.take();
    let report = ingest(&b, db.id(), &packs);
    assert_eq!(report.known, 101);
    let tally = engine.take();
    assert_eq!(tally.puts(), 0);
    assert_eq!(
        (
            tally.space(Space::Ids).get_calls,
            tally.space(Space::Ids).gets
        ),
        (1, 101)
    );
    let db = b.get(&db.id()).unwrap().with_key(key(1));
    db.transact(|tx| tx.doc("d")?.set("k0", 1)).unwrap();
}

/// What a revocation costs in a chain of so many entries, with one entry beside it that becomes void.
fn revocation(entries: i64) -> (Tally, Tally) {
    let (engine, databases) = recording();
    let member = key(2);
    let new = rights(&key(1), &[(&member, Permission::Write(1))]);
    let db = databases.create(new, key(1)).unwrap();
    for n in 0..entries {
        db.transact(|tx| tx.doc("d")?.set(&format!("k{}", n % 50), n))
            .unwrap();
    }
    while db.entry_count().unwrap() % 256 != 200 {
        db.transact(|tx| tx.doc("d")?.set("k", 0)).unwrap();
    }
    let tips: Vec<Id> = db.tips().unwrap().iter().map(|tip| tip.id).collect();
    let beside = db
        .with_key(member.clone())
        .new_transaction_at(&tips)
        .unwrap();
    beside.doc("d").unwrap().set("beside", 1).unwrap();
    let beside = beside.commit().unwrap().unwrap();
    let admin = db.new_transaction_at(&tips).unwrap();
    let record = AuthRecord::Revoke(Revocation::of(member.public()));
    admin.settings().record(record);
    let _ = engine.take();
    admin.commit().unwrap();
    let revoked = engine.take();
    assert_eq!(db.is_effective(&beside.id()).unwrap(), Some(false));
    let _ = engine.take();
    db.transact(|tx| tx.doc("d")?.set("after", 1)).unwrap();
    (revoked, engine.take())
}

#[test]
fn a_revocation_costs_what_is_concurrent_with_it() {
    let ((few, few_after), (many, many_after)) = (revocation(100), revocation(5_000));
    assert_eq!(few.reads(), many.reads());
    assert_eq!(few.puts(), many.puts());
    assert_eq!(few_after.reads(), many_after.reads());
    assert_eq!(few_after.puts(), 4, "as if nobody had been revoked");
}

/// What is asked before anything is sent: may this key read?
#[test]
fn a_right_by_delegation_is_looked_for_once_until_settings_change() {
    let (engine, databases) = recording();
    let member = key(2);
    let teams: Vec<_> = (0..TEAMS)
        .map(|_| {
            let members = [(&*member, Permission::Write(3))];
            databases.create(rights(&key(1), &members), key(1)).unwrap()
        })
        .collect();
    let project = database(&databases);
    for team in &teams {
        let tips = team.tips().unwrap().into_iter().map(|tip| tip.id);
        let delegate = project.new_transaction();
        let bound = Permission::Write(5);
        delegate
            .settings()
            .delegate(team.id(), bound, tips, "")
            .unwrap();
        delegate.commit().unwrap();
    }
    let write = |db: &eidetica_database::Database| {
        db.transact(|tx| tx.doc("d")?.set("k", 1)).unwrap();
    };
    let reads = || {
        let _ = engine.take();
        let may = databases
            .can_read(&project.id(), &[member.public()])
            .unwrap();
        (may, engine.take())
    };
    assert!(reads().0);
    // The settings of the project; of each team whether it changed, and whether there is a closure.
    let unchanged = 1 + 2 * TEAMS;
    let (may, tally) = reads();
    assert_eq!((may, tally.reads()), (true, unchanged));
    write(&project);
    assert_eq!(reads().1.reads(), unchanged, "data change nothing");
    write(&teams[0]);
    let after_data_of_a_team = reads().1.reads();
    assert!(
        after_data_of_a_team < unchanged + 10,
        "{after_data_of_a_team}"
    );
    assert_eq!(reads().1.reads(), unchanged);
    // It is asked again exactly where something could say another thing.
    for (n, team) in teams.iter().enumerate() {
        assert!(reads().0, "{n}");
        team.transact(|tx| tx.settings().revoke(Revocation::of(member.public())))
            .unwrap();
    }
    assert!(!reads().0);
    project
        .transact(|tx| tx.settings().set_wildcard(Some(Permission::Read)))
        .unwrap();
    assert!(reads().0);
}

const TEAMS: u64 = 6;

/// The rows that are looked up to revoke a key with a cut below nearly everything, when the key has come in late.
fn lookups_of_low_cut(entries: i64, writes: i64) -> u64 {
    let (engine, databases) = recording();
    let db = database(&databases);
    db.transact(|tx| tx.doc("d")?.set("first", 0)).unwrap();
    let cut = db.tips().unwrap()[0].id;
    for n in 0..entries {
        db.transact(|tx| tx.doc("d")?.set("k", n)).unwrap();
    }
    let late = key(2);
    if writes > 0 {
        let grant = |tx: &eidetica_database::Transaction| {
            tx.settings()
                .grant(late.public(), Permission::Write(1), "late")
        };
        db.transact(grant).unwrap();
    }
    for n in 0..writes {
        let write = |tx: &eidetica_database::Transaction| tx.doc("d")?.set("late", n);
        db.with_key(late.clone()).transact(write).unwrap();
    }
    let _ = engine.take();
    let revocation = Revocation {
        cut: Some(cut.into()),
        ..Revocation::of(late.public())
    };
    let tx = db.new_transaction();
    tx.settings().record(AuthRecord::Revoke(revocation));
    tx.commit().unwrap();
    let lookups = engine.take().space(Space::Ids).gets;
    assert_eq!(db.void_count().unwrap(), writes as u64);
    lookups
}

#[test]
fn a_revocation_looks_at_nothing_below_where_the_key_came_in() {
    for writes in [0, 5] {
        let (few, many) = (
            lookups_of_low_cut(600, writes),
            lookups_of_low_cut(2_400, writes),
        );
        assert!(many < few + 40, "{few} lookups, then {many}");
    }
}

/// What one more void entry costs on top of one that was turned away, beside so many others.
fn lookups_of_child_of_surplus(surplus: u64) -> u64 {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let writer = key(2);
    let others = [(&*writer, Permission::Write(1))];
    let db = a.create(rights(&key(1), &others), key(1)).unwrap();
    let root = db.get(&db.id()).unwrap().unwrap();
    let payload = doc_payload(&db);
    let void: Vec<Entry> = (0..limits::VOID_PER_AUTHOR + surplus)
        .map(|n| {
            let other = Bytes::from(n.to_le_bytes().to_vec());
            let payloads = [("other", payload.clone()), ("unread", other)];
            craft(&db, &writer, std::slice::from_ref(&root), &payloads)
        })
        .collect();
    let child = craft(&db, &writer, &void[void.len() - 1..], &[("other", payload)]);
    db.transact(|tx| tx.settings().revoke(Revocation::of(writer.public())))
        .unwrap();
    let (engine, b) = recording();
    ingest(&b, db.id(), &all_packs(&a, &db.id()));
    let mut refused = 0;
    for void in void.chunks(1_000) {
        refused += ingest_entries(&b, db.id(), void).refused;
    }
    assert_eq!(refused, surplus);
    let _ = engine.take();
    assert_eq!(ingest_entries(&b, db.id(), &[child]).refused, 1);
    engine.take().space(Space::Ids).gets
}

#[test]
fn a_child_of_an_entry_that_was_turned_away_does_not_bring_the_others_back() {
    let (few, many) = (
        lookups_of_child_of_surplus(10),
        lookups_of_child_of_surplus(500),
    );
    assert_eq!(few, many);
}

/// What the last page of an audit reads, of so many settings entries.
fn reads_of_last_page(settings: u32) -> u64 {
    let (engine, databases) = recording();
    let db = database(&databases);
    for n in 0..settings {
        let key = key((n % 200) as u8).public();
        db.transact(|tx| tx.settings().grant(key, Permission::Write(n), ""))
            .unwrap();
    }
    let mut page = db.audit(None, 50).unwrap();
    let mut found = page.entries.len();
    loop {
        let _ = engine.take();
        page = db.audit(page.next, 50).unwrap();
        found += page.entries.len();
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(found, 1 + settings as usize);
    engine.take().reads()
}

#[test]
fn a_page_of_an_audit_costs_the_same_after_many() {
    let (few, many) = (reads_of_last_page(199), reads_of_last_page(799));
    assert!(many <= few + 20, "{few} reads, then {many}");
}

/// State that is written with its entries: few of them, and nothing behind.
#[test]
fn void_entries_of_a_small_batch_write_no_state() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let writer = key(2);
    let others = [(&*writer, Permission::Write(1))];
    let db = a.create(rights(&key(1), &others), key(1)).unwrap();
    let (engine, b) = recording();
    ingest(&b, db.id(), &all_packs(&a, &db.id()));
    let by = |who: &Arc<eidetica_auth::SecretKey>, path: &str| {
        let tx = db.with_key(who.clone()).new_transaction();
        tx.doc("d").unwrap().set(path, 1).unwrap();
        tx.commit().unwrap().unwrap()
    };
    let void = by(&writer, "void");
    let effective = by(&key(1), "effective");
    let there = b.get(&db.id()).unwrap().with_key(key(1));
    there
        .transact(|tx| tx.settings().revoke(Revocation::of(writer.public())))
        .unwrap();
    there.catch_up().unwrap();
    let _ = engine.take();
    let report = ingest_entries(&b, db.id(), &[void.clone(), effective]);
    assert_eq!((report.new, report.void), (2, 1));
    let tally = engine.take();
    assert_eq!(tally.space(Space::State).puts, 1, "of the one that counts");
    let found = there.doc("d").unwrap().get_all().unwrap().to_json();
    assert_eq!(found, serde_json::json!({"effective": 1}));
    assert_eq!(there.is_effective(&void.id()).unwrap(), Some(false));
}

/// Snapshots that are taken while so many databases are sent that nobody asked for, each by itself, and before each of
/// them some settings name something, or none do.
fn snapshots_of_strays(databases: u64, names: bool) -> u64 {
    let source = instance_on(Arc::new(MemoryEngine::new()), 1);
    let (engine, here) = recording();
    let [project, named] = [(); 2].map(|()| database(&here));
    (2..databases).for_each(|_| drop(database(&here)));
    let tips: Vec<Id> = named.tips().unwrap().iter().map(|tip| tip.id).collect();
    let stray = || all_packs(&source, &database(&source).id());
    let send = |packs: &[Bytes]| {
        let report = here.ingest(IngestRequest::new(project.id(), packs));
        assert!(report.unwrap().bad_packs.is_empty());
    };
    (0..limits::UNNAMED_CLOSURES).for_each(|_| send(&stray()));
    let _ = engine.take();
    for _ in 0..STRAYS {
        if names {
            let (naming, tips) = (project.new_transaction(), tips.iter().copied());
            let settings = naming.settings();
            settings
                .delegate(named.id(), Permission::Read, tips, "it")
                .unwrap();
            naming.commit().unwrap();
        }
        send(&stray());
    }
    engine.take().snapshots
}

const STRAYS: u64 = 3 * (limits::UNNAMED_CLOSURES - limits::UNNAMED_CLOSURES_KEPT) as u64;

#[test]
fn databases_that_nobody_asked_for_do_not_cost_a_look_at_all_others_each() {
    const MORE: u64 = 50;
    let looks = |names| {
        let [few, many] = [2, 2 + MORE].map(|databases| snapshots_of_strays(databases, names));
        (many - few) / MORE
    };
    assert!(looks(false) <= 1, "what was found holds on");
    let looks = looks(true);
    assert!(looks <= 3, "{looks} looks for {STRAYS}");
}

/// What a process reads to tell its callbacks of so many entries that another one has taken in at once, some void ones
/// among them.
fn reads_to_tell(entries: usize) -> Tally {
    let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let engine = Arc::new(RecordingEngine::new(Arc::clone(&rows)));
    let here = instance_on(Arc::new(SharedEngine::new(engine.clone())), 1);
    let there = instance_on(Arc::new(SharedEngine::new(rows)), 2);
    let source = instance_on(Arc::new(MemoryEngine::new()), 3);
    let new = rights(&key(1), &[(&key(2), Permission::Write(5))]);
    let theirs = source.create(new, key(1)).unwrap();
    let id = theirs.id();
    ingest(&here, id, &all_packs(&source, &id));
    let write = |by: u8, at: &Id, n: usize| {
        let transaction = theirs.new_transaction_at(&[*at]).unwrap();
        let transaction = transaction.with_key(key(by));
        transaction.doc("d").unwrap().set("n", n as i64).unwrap();
        transaction.commit().unwrap().unwrap()
    };
    let mut void: Vec<Entry> = (0..entries / 10).map(|n| write(2, &id, n)).collect();
    let revocation = theirs.new_transaction_at(&[id]).unwrap();
    let of = Revocation::of(key(2).public());
    revocation.settings().revoke(of).unwrap();
    let revocation = revocation.commit().unwrap().unwrap();
    let (mut tip, mut effective, mut all) = (revocation.id(), vec![revocation.id()], Vec::new());
    for n in 0..entries {
        let entry = write(1, &tip, n);
        tip = entry.id();
        effective.push(tip);
        all.push(entry);
        all.extend(void.pop());
    }

    let (tell, told) = channel();
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let db = here.get(&id).unwrap();
    db.on_remote_write(move |event, _| {
        tell.send(event.entry.id()).ok();
        held.lock().recv().ok();
        Ok(())
    })
    .unwrap();
    // Told of the first one, it waits until all others are there.
    ingest_entries(&there, id, &[revocation]);
    let first = told.recv_timeout(PATIENCE).unwrap();
    ingest_entries(&there, id, &all);
    let _ = engine.take();
    drop(release);
    let rest = (1..effective.len()).map(|_| told.recv_timeout(PATIENCE).unwrap());
    let heard: Vec<Id> = std::iter::once(first).chain(rest).collect();
    assert_eq!(heard, effective);
    engine.take()
}

#[test]
fn entries_of_another_process_are_read_many_at_a_time() {
    let (few, many) = (reads_to_tell(100), reads_to_tell(2_000));
    let more = many.snapshots.saturating_sub(few.snapshots);
    assert!(more < 10, "{more} snapshots more");
    let more = many.reads().saturating_sub(few.reads());
    assert!(more < 40, "{more} reads more");
}
