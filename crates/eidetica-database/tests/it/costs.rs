//! What things cost, in rows and reads: figures that stand in `docs/`.

use std::sync::Arc;

use eidetica_storage::{MemoryEngine, Space};
use eidetica_testkit::{RecordingEngine, Tally};

use eidetica_auth::{AuthRecord, Permission, Revocation};
use eidetica_entry::Id;

use crate::world::{all_packs, database, ingest, instance_on, key, on, rights};

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
