//! Databases of two instances on one server: the version row keeps concurrent commits exact.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Config, Database, Databases, NewDatabase};
use eidetica_entry::Id;

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

/// Commits a row of its own and an increment; a commit that loses against another instance is made again.
fn commit(db: &Database, who: usize, round: usize) {
    db.transact(|tx| {
        let doc = tx.doc("d")?;
        doc.set(format!("of{who}.r{round}").as_str(), round as i64)?;
        doc.increment("n", 1)
    })
    .unwrap();
}

#[test]
fn two_instances_commit_to_one_database_exactly() {
    const INSTANCES: usize = 2;
    const THREADS: usize = 2;
    const ROUNDS: usize = 8;
    let url = fresh();
    let first = instance(&url, 1);
    let id: Id = create(&first).id();
    thread::scope(|scope| {
        for number in 0..INSTANCES {
            let databases = instance(&url, 2 + number as u8);
            for at in 0..THREADS {
                let db = databases.get(&id).unwrap().with_key(key());
                let who = number * THREADS + at;
                scope.spawn(move || (0..ROUNDS).for_each(|round| commit(&db, who, round)));
            }
        }
    });

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

/// Instances that never pause: each loses to the others most of the time, and none of them for ever.
#[test]
fn nobody_is_overtaken_for_ever() {
    const INSTANCES: usize = 4;
    const EACH: usize = 50;
    let url = fresh();
    let first = instance(&url, 1);
    let id: Id = create(&first).id();
    let busy = |number: usize| -> usize {
        let databases = instance(&url, 2 + number as u8);
        let db = databases.get(&id).unwrap().with_key(key());
        let (mut done, mut overtaken) = (0, 0);
        while done < EACH {
            let tx = db.new_transaction();
            let path = format!("of{number}.r{done}");
            tx.doc("d").unwrap().set(path.as_str(), 1).unwrap();
            match tx.commit() {
                Ok(_) => done += 1,
                Err(eidetica_database::Error::Overtaken) => overtaken += 1,
                Err(error) => panic!("{error}"),
            }
        }
        overtaken
    };
    let overtaken: usize = thread::scope(|scope| {
        let busy: Vec<_> = (0..INSTANCES)
            .map(|number| {
                let busy = &busy;
                scope.spawn(move || busy(number))
            })
            .collect();
        busy.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(overtaken, 0);
    let db = first.get(&id).unwrap();
    assert_eq!(db.entry_count().unwrap(), 1 + (INSTANCES * EACH) as u64);
}
