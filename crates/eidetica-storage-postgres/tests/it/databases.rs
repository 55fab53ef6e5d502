//! Databases of two instances on one server: the version row keeps concurrent commits exact, and nothing above the engine
//! has to know that the rows are shared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Config, Database, Databases, Error, NewDatabase};
use eidetica_entry::Id;
use eidetica_storage::EngineError;

use crate::{fresh, open};

fn instance(url: &str, number: u8) -> Databases {
    Databases::open(open(url).unwrap(), Config::new([number; 32])).unwrap()
}

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

/// Whether the other instance was faster and this one has to look again.
fn lost_the_race(error: &Error) -> bool {
    let refused = matches!(error, Error::Engine(EngineError::PreconditionFailed { .. }));
    refused || error.is_conflict()
}

/// Commits a row of its own and an increment, until it is there.
fn commit(db: &Database, who: usize, round: usize) -> usize {
    let mut races = 0;
    loop {
        let done = db.transact(|tx| {
            let doc = tx.doc("d")?;
            doc.set(format!("of{who}.r{round}").as_str(), round as i64)?;
            doc.increment("n", 1)
        });
        match done {
            Ok(()) => return races,
            Err(error) if lost_the_race(&error) => races += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn two_instances_commit_to_one_database_exactly() {
    const INSTANCES: usize = 2;
    const THREADS: usize = 2;
    const ROUNDS: usize = 8;
    let url = fresh();
    let first = instance(&url, 1);
    let id: Id = create(&first).id();
    let races: usize = thread::scope(|scope| {
        let mut writers = Vec::new();
        for number in 0..INSTANCES {
            let databases = instance(&url, 2 + number as u8);
            for at in 0..THREADS {
                let db = databases.get(&id).unwrap().with_key(key());
                let who = number * THREADS + at;
                writers.push(scope.spawn(move || {
                    let races = (0..ROUNDS).map(|round| commit(&db, who, round));
                    races.sum::<usize>()
                }));
            }
        }
        let races = writers.into_iter().map(|writer| writer.join().unwrap());
        races.sum()
    });
    assert!(races > 0, "the instances have met");

    // Two fresh looks at the rows, and one that has been there before all of it.
    let commits = INSTANCES * THREADS * ROUNDS;
    let mut hashes = BTreeSet::new();
    for databases in [instance(&url, 8), instance(&url, 9), first] {
        let db = databases.get(&id).unwrap();
        let verified = db.verify().unwrap();
        assert!(verified.is_sound(), "{:?}", verified.faults);
        assert_eq!(db.entry_count().unwrap(), 1 + commits as u64);
        hashes.insert(db.state_hash().unwrap().to_string());
    }
    assert_eq!(hashes.len(), 1);
    let doc = instance(&url, 10).get(&id).unwrap().doc("d").unwrap();
    assert_eq!(doc.get_as::<i64>("n").unwrap(), Some(commits as i64));
    for who in 0..INSTANCES * THREADS {
        for round in 0..ROUNDS {
            let path = format!("of{who}.r{round}");
            let there = doc.get_as::<i64>(path.as_str()).unwrap();
            assert_eq!(there, Some(round as i64), "{path}");
        }
    }
}
