//! The i-th write, flush or read of the engine fails, for all i: what was acknowledged is there, whole, and what is there
//! follows from the entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use eidetica_auth::Permission;
use eidetica_database::{Config, Database, Databases, Result};
use eidetica_storage::{Durability, Engine, MemoryEngine};
use eidetica_testkit::{Fault, FaultyEngine};

use crate::world::{all_packs, ingest, instance_on, key, rights};

fn open(engine: Arc<dyn Engine>, durability: Durability) -> Result<Databases> {
    let mut config = Config::new([3; 32]);
    config.durability = durability;
    Databases::open(engine, config)
}

/// A little of everything. Each step is tried again once, since it may be the one that fails; how many were acknowledged.
fn story(databases: &Databases, durable: &mut u64) -> Result<()> {
    let create = || databases.create(rights(&key(1), &[]), key(1));
    let db = create().or_else(|_| match databases.list()?.first() {
        Some(id) => Ok(databases.get(id)?.with_key(key(1))),
        None => create(),
    })?;
    for number in 1..=12 {
        let step = || write(&db, number);
        step().or_else(|_| step())?;
        if number % 3 == 0 {
            databases.flush()?;
            *durable = number;
        }
    }
    Ok(())
}

fn write(db: &Database, number: u64) -> Result<()> {
    let tx = db.new_transaction();
    tx.doc("d")?.set("last", number as i64)?;
    tx.doc("d")?.push("list", number as i64)?;
    tx.table::<serde_json::Value>("t")?
        .insert(format!("{number:03}"), &serde_json::json!({"n": number}))?;
    if number.is_multiple_of(4) {
        let to = key(100 + number as u8).public();
        tx.settings().grant(to, Permission::Read, "reader")?;
    }
    if number.is_multiple_of(5) {
        let mut import = db.import().with_memory_bytes(200);
        for row in 0..20 {
            import.set("imported", &format!("a{number}.b{row}"), row)?;
        }
        import.commit()?;
    }
    tx.commit().map(drop)
}

/// Everything on a disk verifies and follows from its entries, and at least `durable` steps are there.
fn holds(disk: MemoryEngine, durable: u64, place: &str) {
    let databases = instance_on(Arc::new(disk), 4);
    let report = databases.verify().unwrap();
    assert!(report.is_sound(), "{place}: {:?}", report.faults);
    let Some(id) = databases.list().unwrap().pop() else {
        return assert_eq!(durable, 0, "{place}: the database is gone");
    };
    let db = databases.get(&id).unwrap().with_key(key(1));
    let last = db.doc("d").unwrap().get_as::<i64>("last").unwrap();
    assert!(last.unwrap_or(0) >= durable as i64, "{place}: {last:?}");
    assert_eq!(db.name().unwrap().as_deref(), Some("test"), "{place}");
    let replica = instance_on(Arc::new(MemoryEngine::new()), 5);
    ingest(&replica, id, &all_packs(&databases, &id));
    let copy = replica.get(&id).unwrap();
    assert_eq!(
        copy.state_hash().unwrap(),
        db.state_hash().unwrap(),
        "{place}"
    );
    write(&db, 99).unwrap();
}

/// Runs the story with one fault; `true` if it was met.
fn fail(number: u64, fault: Fault, durability: Durability) -> bool {
    let place = format!("{fault:?} {number} {durability:?}");
    let engine = Arc::new(FaultyEngine::fail_at(number, fault));
    let mut durable = 0;
    let opened = open(engine.clone(), durability);
    let met = match opened.and_then(|databases| story(&databases, &mut durable)) {
        // Reads do not end an instance: what was tried again has succeeded.
        Ok(()) => fault == Fault::Read && engine.reads() > number,
        Err(_) => true,
    };
    let relaxed = engine.relaxed();
    for keep in BTreeSet::from([0, relaxed / 2, relaxed]) {
        holds(
            engine.crash(keep),
            durable,
            &format!("{place}, {keep} kept"),
        );
    }
    met
}

#[test]
fn any_failing_write_leaves_what_was_acknowledged() {
    for durability in [Durability::Durable, Durability::Relaxed] {
        for fault in [Fault::Before, Fault::After] {
            let mut number = 0;
            while fail(number, fault, durability) {
                number += 1;
            }
            assert!(number > 15, "{number} writes");
        }
    }
}

/// Of the thousands of reads a sample; each with `EIDETICA_TEST_READS=1`.
#[test]
fn any_failing_read_leaves_a_database_that_goes_on() {
    let every = std::env::var("EIDETICA_TEST_READS").map_or(97, |every| every.parse().unwrap());
    let mut number = 0;
    while fail(number, Fault::Read, Durability::Durable) {
        number += every;
    }
    assert!(number > 100, "{number} reads");
}
