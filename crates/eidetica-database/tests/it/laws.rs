//! Equal entries make equal replicas, whatever order they come in.

use eidetica_crdt::Doc;
use eidetica_database::{Database, Databases, Error};
use eidetica_entry::{Entry, Id, pack};
use eidetica_testkit::Rng;

use crate::world::{all_packs, database, ingest, ingest_entries, instance, key, sync};

/// A random change of a few stores.
pub(crate) fn change(db: &Database, rng: &mut Rng) {
    let transaction = match rng.one_in(6) {
        true => {
            let history = db.history(None, 20).unwrap().entries;
            let at: Vec<Id> = (0..2).map(|_| rng.pick(&history).id()).collect();
            db.new_transaction_at(&at).unwrap()
        }
        false => db.new_transaction(),
    };
    let doc = transaction.doc("d").unwrap();
    let table = transaction.table::<serde_json::Value>("t").unwrap();
    for _ in 0..1 + rng.below(3) {
        let path = *rng.pick(&["a", "a.b", "a.b.c", "x", "list", "n"]);
        let number = rng.below(100) as i64;
        let row = format!("r{}", rng.below(4));
        match rng.below(9) {
            0 | 1 => doc.set(path, number).unwrap(),
            2 => doc.delete(path).unwrap(),
            3 => doc.push("list", number).unwrap(),
            4 => doc.increment("n", number).unwrap(),
            5 => doc
                .set(
                    path,
                    Doc::from_json(&serde_json::json!({"b": number})).unwrap(),
                )
                .unwrap(),
            6 => table
                .insert(row, &serde_json::json!({"f": number, "g": "x"}))
                .unwrap(),
            7 => table.increment(row, "f", number).unwrap(),
            _ => table.delete(row).unwrap(),
        }
    }
    match transaction.commit() {
        Ok(_) | Err(Error::Edit { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn same(a: &Databases, b: &Databases, id: &Id) {
    let (a, b) = (a.get(id).unwrap(), b.get(id).unwrap());
    assert_eq!(a.tips().unwrap(), b.tips().unwrap());
    assert_eq!(a.entry_count().unwrap(), b.entry_count().unwrap());
    assert_eq!(a.stores().unwrap(), b.stores().unwrap());
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    for db in [a, b] {
        let report = db.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
    }
}

#[test]
fn three_replicas_converge() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let replicas: Vec<Databases> = (1..4).map(instance).collect();
        let id = database(&replicas[0]).id();
        sync(&replicas[0], &replicas[1], &id);
        sync(&replicas[0], &replicas[2], &id);
        let dbs: Vec<Database> = replicas
            .iter()
            .map(|r| r.get(&id).unwrap().with_key(key(1)))
            .collect();
        for _ in 0..60 {
            match rng.one_in(4) {
                true => {
                    let (a, b) = (rng.below(3), rng.below(3));
                    sync(&replicas[a], &replicas[b], &id);
                }
                false => change(rng.pick(&dbs), &mut rng),
            }
        }
        for (a, b) in [(0, 1), (1, 2), (0, 1)] {
            sync(&replicas[a], &replicas[b], &id);
        }
        same(&replicas[0], &replicas[1], &id);
        same(&replicas[1], &replicas[2], &id);
    }
}

#[test]
fn any_order_of_arrival_gives_the_same() {
    for seed in 0..6 {
        let mut rng = Rng::new(100 + seed);
        let a = instance(1);
        let db = database(&a);
        for _ in 0..80 {
            change(&db, &mut rng);
        }
        let packs = all_packs(&a, &db.id());
        let mut entries: Vec<Entry> = packs
            .iter()
            .flat_map(|p| pack::decode(p, &pack::Limits::default()).unwrap())
            .collect();
        let root = entries.remove(0);
        let b = instance(2);
        ingest_entries(&b, db.id(), &[root]);
        while !entries.is_empty() {
            // Some entries, in the order of their stamps, whatever is missing between them.
            let many = 1 + rng.below(entries.len().min(12));
            let mut some: Vec<Entry> = (0..many)
                .map(|_| entries.swap_remove(rng.below(entries.len())))
                .collect();
            some.sort_by_key(Entry::stamp);
            ingest_entries(&b, db.id(), &some);
        }
        assert_eq!(b.get(&db.id()).unwrap().pending(), (0, 0));
        same(&a, &b, &db.id());
    }
}

#[test]
fn bulk_and_single_ingest_give_the_same() {
    let (a, b, c) = (instance(1), instance(2), instance(3));
    let db = database(&a);
    let mut rng = Rng::new(5);
    for _ in 0..700 {
        change(&db, &mut rng);
    }
    let packs = all_packs(&a, &db.id());
    ingest(&b, db.id(), &packs);
    for one in &packs {
        for chunk in pack::decode(one, &pack::Limits::default())
            .unwrap()
            .chunks(40)
        {
            ingest_entries(&c, db.id(), chunk);
        }
    }
    same(&a, &b, &db.id());
    same(&b, &c, &db.id());
}

#[test]
fn bulk_over_what_is_there_gives_the_same() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    let mut rng = Rng::new(6);
    let id = db.id();
    ingest(&b, id, &all_packs(&a, &id));
    let copy = b.get(&id).unwrap().with_key(key(1));
    for round in 0..2 {
        // Beside each other; then one goes on above both.
        for _ in 0..600 {
            change(&db, &mut rng);
        }
        for _ in 0..40 * (1 - round) {
            change(&copy, &mut rng);
        }
        ingest(&b, id, &all_packs(&a, &id));
        ingest(&a, id, &all_packs(&b, &id));
        same(&a, &b, &id);
    }
}

/// The format: a change here is a decision. No id, key or time is in what is shown.
#[test]
fn the_state_hash_is_pinned() {
    let db = database(&instance(9));
    db.transact(|tx| {
        let doc = tx.doc("d")?;
        doc.set("a.b", 1)?;
        doc.set("text", "hello")?;
        doc.push("list", 1.5)?;
        doc.push("list", true)?;
        doc.increment("count", 3)?;
        tx.table::<serde_json::Value>("t")?
            .insert("r", &serde_json::json!({"f": null, "g": [1, {"x": "y"}]}))
    })
    .unwrap();
    assert_eq!(
        db.state_hash().unwrap().to_string(),
        "941486a08d2849b4fdc462ccf04d13fc0b3da531b766982f0aa4c23c8bf86808"
    );
}
