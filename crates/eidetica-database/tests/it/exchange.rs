//! Replicas that exchange packs.

use eidetica_auth::Permission;
use eidetica_database::{Databases, Error, IngestRequest, Reject};
use eidetica_entry::{Entry, Id, pack};

use crate::world::{all_packs, database, ingest, ingest_entries, instance, key, packs_without, rights, sync};

fn show(databases: &Databases, id: &Id) -> serde_json::Value {
    databases.get(id).unwrap().doc("d").unwrap().get_all().unwrap().to_json()
}

#[test]
fn a_bootstrap_brings_everything() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for n in 0..700 {
        db.transact(|tx| tx.doc("d")?.set(&format!("k{}", n % 50), n)).unwrap();
    }
    let packs = all_packs(&a, &db.id());
    assert!(matches!(b.ingest(IngestRequest::new(db.id(), &packs)), Err(Error::NoDatabase(_))));
    let report = ingest(&b, db.id(), &packs);
    assert_eq!((report.new, report.known, report.pending, report.rejected_count), (701, 0, 0, 0));
    assert_eq!(report.tips, db.tips().unwrap());
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
    assert_eq!(ingest(&b, db.id(), &packs).known, 701);
    assert_eq!(b.get(&db.id()).unwrap().name().unwrap().unwrap(), "test");
}

#[test]
fn two_replicas_merge() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let other = b.get(&db.id()).unwrap().with_key(key(1));
    for n in 0..10 {
        db.transact(|tx| tx.doc("d")?.set(&format!("a{n}"), n)).unwrap();
        other.transact(|tx| tx.doc("d")?.set(&format!("b{n}"), n)).unwrap();
        other.transact(|tx| tx.doc("d")?.increment("count", 1)).unwrap();
        db.transact(|tx| tx.doc("d")?.increment("count", 1)).unwrap();
    }
    sync(&a, &b, &db.id());
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
    assert_eq!(show(&a, &db.id())["count"], 20);
    assert_eq!(db.tips().unwrap(), other.tips().unwrap());
    assert_eq!(db.tips().unwrap().len(), 2);
}

#[test]
fn orphans_wait_for_their_parents() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let entries: Vec<Entry> = (0..5)
        .map(|n| {
            let tx = db.new_transaction();
            tx.doc("d").unwrap().set("n", n).unwrap();
            tx.commit().unwrap().unwrap()
        })
        .collect();
    for entry in entries.iter().skip(1).rev() {
        let report = ingest_entries(&b, db.id(), std::slice::from_ref(entry));
        assert_eq!((report.new, report.pending), (0, 1));
    }
    let other = b.get(&db.id()).unwrap();
    assert_eq!(other.pending().0, 4);
    assert_eq!(other.entry_count().unwrap(), 1);
    let report = ingest_entries(&b, db.id(), &entries[..1]);
    assert_eq!(report.new, 5);
    assert_eq!(other.pending(), (0, 0));
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
}

#[test]
fn the_unauthorized_are_rejected_with_what_they_build() {
    let (a, b) = (instance(1), instance(2));
    let db = a.create(rights(&key(1), &[(&key(2), Permission::Write(1))]), key(1)).unwrap();
    sync(&a, &b, &db.id());
    // On a replica where everybody may write, a stranger writes; the others never heard of that.
    let writer = db.with_key(key(2));
    let tx = writer.new_transaction();
    tx.doc("d").unwrap().set("n", 1).unwrap();
    let honest = tx.commit().unwrap().unwrap();
    let forged = forge(&honest, 3);
    let report = ingest_entries(&b, db.id(), &[forged.clone(), honest.clone()]);
    assert_eq!((report.new, report.rejected_count), (1, 1));
    assert!(matches!(report.rejected[0], (id, Reject::Authority(_)) if id == forged.id()));
    let mut other = b.get(&db.id()).unwrap();
    assert_eq!(other.entry_count().unwrap(), 2);
    other = other.with_key(key(2));
    other.transact(|tx| tx.doc("d")?.set("m", 1)).unwrap();
}

/// The same entry as if `author` had made it.
fn forge(entry: &Entry, author: u8) -> Entry {
    let mut header = entry.header().clone();
    header.author.key = key(author).public();
    resign(header, entry, author)
}

fn resign(header: eidetica_entry::Header, entry: &Entry, author: u8) -> Entry {
    let payloads: std::collections::BTreeMap<_, _> =
        entry.payloads().filter_map(|(name, bytes)| Some((name.clone(), bytes?.clone()))).collect();
    let unsigned = Entry::new(header.clone(), *entry.signature(), payloads.clone()).unwrap();
    let signature = key(author).sign(&unsigned.signing_message());
    Entry::new(header, signature, payloads).unwrap()
}

#[test]
fn forged_places_are_rejected() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let tx = db.new_transaction();
    tx.doc("d").unwrap().set("n", 1).unwrap();
    let honest = tx.commit().unwrap().unwrap();
    for height in [2, 3, u64::MAX >> 1] {
        let mut header = honest.header().clone();
        header.height = eidetica_entry::Height(height);
        let report = ingest_entries(&b, db.id(), &[resign(header, &honest, 1)]);
        assert!(matches!(report.rejected[..], [(_, Reject::Height)]), "{height}");
    }
    let mut header = honest.header().clone();
    header.settings = Id::new([9; 32]).into();
    let report = ingest_entries(&b, db.id(), &[resign(header, &honest, 1)]);
    assert!(matches!(report.rejected[..], [(_, Reject::Settings)]));
    assert_eq!(ingest_entries(&b, db.id(), &[honest]).new, 1);
}

#[test]
fn an_entry_of_another_database_is_rejected() {
    let (a, b) = (instance(1), instance(2));
    let (one, two) = (database(&a), database(&a));
    sync(&a, &b, &one.id());
    sync(&a, &b, &two.id());
    one.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    let tips: Vec<Id> = b.tips(&one.id()).unwrap().unwrap().iter().map(|tip| tip.id).collect();
    let packs = packs_without(&a, &one.id(), &tips);
    let report = b.ingest(IngestRequest::new(two.id(), &packs)).unwrap();
    assert_eq!((report.new, report.bad_packs.len()), (0, 1));
    // The same parents under the other database's name are nobody's parents there.
    let entries = pack::decode(&packs[0], &pack::Limits::default()).unwrap();
    let mut header = entries[0].header().clone();
    header.database = two.id();
    let report = ingest_entries(&b, two.id(), &[resign(header, &entries[0], 1)]);
    assert_eq!((report.new, report.pending), (0, 1));
    assert_eq!(b.get(&two.id()).unwrap().entry_count().unwrap(), 1);
}
