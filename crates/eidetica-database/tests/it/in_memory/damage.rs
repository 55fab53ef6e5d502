//! Faults: failing engines, crashes, flipped bytes.

use std::sync::Arc;

use eidetica_database::{Config, Databases};
use eidetica_entry::Id;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, KeyRange, MemoryEngine, ScanLimit, Space,
};
use eidetica_testkit::{Fault, FaultyEngine};

use crate::world::{all_packs, database, ingest, instance_on, key, on, rights};

/// A database with something in every space, as it looks on disk.
pub(crate) fn full() -> (MemoryEngine, Id) {
    let engine = MemoryEngine::new();
    let databases = on(Arc::new(engine.fork().unwrap()));
    let db = database(&databases);
    // Enough for a sealed pack and an open block behind it.
    for n in 0..260 {
        db.transact(|tx| {
            tx.doc("d")?.set(&format!("k{}", n % 7), n)?;
            if n % 16 == 0 {
                tx.doc("d")?.push("l", n)?;
                tx.doc("d")?.increment("n", 1)?;
                tx.table::<serde_json::Value>("t")?
                    .insert(format!("{}", n % 48), &serde_json::json!({"n": n}))?;
            }
            Ok(())
        })
        .unwrap();
    }
    databases
        .local("_sync")
        .unwrap()
        .transact(|tx| tx.doc("d")?.set("n", 1))
        .unwrap();
    let copy = MemoryEngine::new();
    copy_rows(&**databases.engine(), &copy);
    (copy, db.id())
}

pub(crate) fn copy_rows(from: &dyn Engine, to: &MemoryEngine) {
    let mut batch = Batch::new();
    for space in Space::ALL {
        for row in rows(from, space) {
            batch.put(space, &row.key, &row.value);
        }
    }
    to.write(&batch, Durability::Durable).unwrap();
}

pub(crate) fn rows(engine: &dyn Engine, space: Space) -> Vec<eidetica_storage::Row> {
    let snapshot = engine.snapshot().unwrap();
    let (mut range, mut all) = (KeyRange::all(), Vec::new());
    loop {
        let page = snapshot
            .scan(space, &range, Direction::Forward, ScanLimit::default())
            .unwrap();
        let rest = page.rest(&range, Direction::Forward);
        all.extend(page.rows);
        match rest {
            Some(rest) => range = rest,
            None => return all,
        }
    }
}

#[test]
fn a_sound_database_verifies() {
    let (engine, _) = full();
    let report = on(Arc::new(engine)).verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.entries, 261);
    assert!(report.state_rows > 260);
    assert!(report.unread.is_empty());
}

#[test]
fn a_flipped_byte_is_found_in_every_space() {
    let (engine, _) = full();
    for space in Space::ALL {
        let rows = rows(&engine, space);
        assert!(!rows.is_empty(), "{space}");
        // Every kind of row in Meta, the ends and some of the middle elsewhere.
        let step = if space == Space::Meta {
            1
        } else {
            1 + rows.len() / 5
        };
        for (number, row) in rows.iter().step_by(step).enumerate() {
            let ends = [0, row.value.len() / 2, row.value.len().saturating_sub(1)];
            for (in_value, at) in [(true, ends[number % 3]), (false, row.key.len() - 1)] {
                let (mut key, mut value) = (row.key.to_vec(), row.value.to_vec());
                if in_value && !value.is_empty() {
                    value[at] ^= 0x10
                } else {
                    *key.last_mut().unwrap() ^= 0x10
                }
                let damaged = engine.fork().unwrap();
                let mut batch = Batch::new();
                batch.delete(space, &row.key);
                batch.put(space, &key, &value);
                damaged.write(&batch, Durability::Durable).unwrap();
                let found = match Databases::open(Arc::new(damaged), Config::new([1; 32])) {
                    Err(_) => true,
                    Ok(databases) => !databases.verify().unwrap().is_sound(),
                };
                assert!(
                    found,
                    "{space}, key {:?}, value {in_value}, byte {at}",
                    row.key
                );
            }
        }
    }
}

/// Commits until the engine fails; returns how many were acknowledged.
fn commit_until_failure(engine: Arc<FaultyEngine>, relaxed: bool) -> (u64, Option<Id>) {
    let mut config = Config::new([3; 32]);
    config.durability = if relaxed {
        Durability::Relaxed
    } else {
        Durability::Durable
    };
    let Ok(databases) = Databases::open(engine, config) else {
        return (0, None);
    };
    let Ok(db) = databases.create(rights(&key(1), &[]), key(1)) else {
        return (0, None);
    };
    let mut acknowledged = 0;
    for n in 0..40 {
        match db.transact(|tx| tx.doc("d")?.set(&format!("k{n}"), n)) {
            Ok(()) => acknowledged += 1,
            Err(_) => {
                // A failed engine stays failed: no later commit may be acknowledged.
                assert!(db.transact(|tx| tx.doc("d")?.set("late", n)).is_err());
                break;
            }
        }
    }
    (acknowledged, Some(db.id()))
}

#[test]
fn acknowledged_commits_survive_a_failure_at_any_write() {
    for at in 0..45 {
        for fault in [Fault::Before, Fault::After] {
            let engine = Arc::new(FaultyEngine::fail_at(at, fault));
            let (acknowledged, id) = commit_until_failure(engine.clone(), false);
            let databases = on(Arc::new(engine.crash(0)));
            let Some(id) = id else { continue };
            let db = databases.get(&id).unwrap();
            let found = db.doc("d").unwrap().get_all().unwrap();
            for n in 0..acknowledged {
                assert!(
                    found.get(&format!("k{n}")).is_some(),
                    "commit {n} of {acknowledged} at write {at}"
                );
            }
            assert!(found.len() as u64 <= acknowledged + 1);
            assert!(databases.verify().unwrap().is_sound());
            db.with_key(key(1))
                .transact(|tx| tx.doc("d")?.set("again", 1))
                .unwrap();
        }
    }
}

#[test]
fn a_crash_loses_a_suffix_of_relaxed_commits() {
    let engine = Arc::new(FaultyEngine::new());
    let (acknowledged, id) = commit_until_failure(engine.clone(), true);
    assert_eq!(acknowledged, 40);
    for keep in 0..=engine.relaxed() {
        let databases = on(Arc::new(engine.crash(keep)));
        let Some(db) = databases.find(&id.unwrap()).unwrap() else {
            assert_eq!(keep, 0);
            continue;
        };
        let entries = db.entry_count().unwrap();
        assert_eq!(
            db.doc("d").unwrap().get_all().unwrap().len() as u64,
            entries - 1
        );
        assert!(db.verify().unwrap().is_sound());
    }
}

#[test]
fn ingest_survives_a_failure_at_any_write() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let db = database(&a);
    for n in 0..1_200 {
        db.transact(|tx| tx.doc("d")?.increment(&format!("k{}", n % 100), 1))
            .unwrap();
    }
    let (packs, hash) = (all_packs(&a, &db.id()), db.state_hash().unwrap());
    for at in 0..8 {
        for fault in [Fault::Before, Fault::After] {
            let engine = Arc::new(FaultyEngine::fail_at(at, fault));
            if let Ok(databases) = Databases::open(engine.clone(), Config::new([4; 32])) {
                let request = eidetica_database::IngestRequest::new(db.id(), &packs).create(true);
                let ingested = databases.ingest(request);
                let caught_up = databases.get(&db.id()).and_then(|db| db.catch_up());
                assert!(at > 3 || ingested.is_err() || caught_up.is_err());
            }
            // What was written stays; the rest is fetched again, and nothing is applied twice.
            let databases = on(Arc::new(engine.crash(0)));
            ingest(&databases, db.id(), &packs);
            let again = databases.get(&db.id()).unwrap();
            assert_eq!(again.state_hash().unwrap(), hash);
            assert!(again.verify().unwrap().is_sound());
        }
    }
}
