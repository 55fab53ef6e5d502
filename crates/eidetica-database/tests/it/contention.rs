//! Processes that are in each other's way: few snapshots for many readers, repairs that overtake each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use eidetica_database::{Databases, Error};
use eidetica_entry::Id;
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_storage_postgres::{PostgresEngine, PostgresOptions};
use eidetica_testkit::{
    Call, EngineKind, HookedEngine, PostgresServer, SharedEngine, selected_engine,
};

use crate::world::{database, instance_on, key};

/// Engines of two processes on the same rows.
fn engines() -> [Arc<dyn Engine>; 2] {
    let mut options = PostgresOptions::default();
    options.snapshots = 2;
    options.patience = Duration::from_secs(10);
    match selected_engine() {
        EngineKind::Postgres => {
            let schema = PostgresServer::shared().fresh_schema();
            let open = || PostgresEngine::open_with(&schema, options.clone()).unwrap();
            [Arc::new(open()), Arc::new(open())]
        }
        _ => {
            let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
            [(); 2].map(|()| Arc::new(SharedEngine::new(Arc::clone(&rows))) as Arc<dyn Engine>)
        }
    }
}

fn commit(databases: &Databases, id: &Id, from: i64, count: i64) {
    let db = databases.get(id).unwrap().with_key(key(1));
    for n in from..from + count {
        let tx = db.new_transaction();
        tx.doc("doc").unwrap().set("n", n).unwrap();
        tx.commit().unwrap();
    }
}

#[test]
fn few_snapshots_are_enough_for_many_readers_beside_a_writer() {
    let [first, second] = engines();
    let reading = instance_on(first, 1);
    let writing = instance_on(second, 2);
    let id = database(&reading).id();
    commit(&writing, &id, 0, 1);
    thread::scope(|scope| {
        scope.spawn(|| commit(&writing, &id, 1, 150));
        for _ in 0..8 {
            scope.spawn(|| {
                let db = reading.get(&id).unwrap();
                let mut last = 0;
                while last < 150 {
                    let read: i64 = db.doc("doc").unwrap().get_as("n").unwrap().unwrap();
                    assert!(read >= last, "{read} after {last}");
                    last = read;
                }
            });
        }
    });
}

#[test]
fn a_repair_that_is_overtaken_harms_nothing() {
    /// How often is looked after it.
    const LOOKS: u32 = 4;
    let step = match selected_engine() {
        EngineKind::Postgres => 7,
        _ => 1,
    };
    // More than it takes.
    for interrupted_at in (0..40).step_by(step) {
        let [first, second] = engines();
        let one = instance_on(first, 1);
        let id = database(&one).id();
        let snapshots = Arc::new(AtomicU32::new(u32::MAX));
        let (counted, interrupting) = (Arc::clone(&snapshots), one.clone());
        let interrupt = move |call: Call<'_>| {
            let begun = counted.load(Ordering::SeqCst) != u32::MAX;
            if !begun || !matches!(call, Call::Snapshot) {
                return;
            }
            match counted
                .fetch_add(1, Ordering::SeqCst)
                .checked_sub(interrupted_at)
            {
                Some(0) => {
                    interrupting.repair(&id).unwrap();
                    commit(&interrupting, &id, 300, 300);
                }
                // Once it is overtaken it writes nothing more; or it begins anew, and then nobody sees anything.
                Some(1..=LOOKS) => {
                    let seen = interrupting.get(&id).and_then(|db| db.verify());
                    assert!(
                        seen.is_ok_and(|seen| seen.is_sound()) || is_repairing(&interrupting, &id)
                    );
                }
                _ => {}
            }
        };
        let other = instance_on(Arc::new(HookedEngine::new(second, interrupt)), 2);
        commit(&one, &id, 0, 300);
        assert!(other.get(&id).unwrap().verify().unwrap().is_sound());
        snapshots.store(0, Ordering::SeqCst);
        other.repair(&id).unwrap();
        let came = snapshots.swap(u32::MAX, Ordering::SeqCst) > interrupted_at;
        for databases in [&one, &other] {
            let db = databases.get(&id).unwrap();
            assert!(db.verify().unwrap().is_sound(), "at {interrupted_at}");
            let entries = if came { 601 } else { 301 };
            assert_eq!(db.entry_count().unwrap(), entries, "at {interrupted_at}");
        }
        if !came {
            return;
        }
    }
    panic!("a repair takes more snapshots than were tried");
}

fn is_repairing(databases: &Databases, id: &Id) -> bool {
    let tips = databases.get(id).and_then(|db| db.tips());
    matches!(tips, Err(Error::Repairing(_)))
}
