//! Entries and packs that somebody made to do harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey, SettingsPayload};
use eidetica_database::{Database, Databases, IngestRequest, Reject, limits};
use eidetica_entry::{Draft, Entry, Id, ParentInfo, StoreName, pack};

use crate::world::{all_packs, database, ingest, ingest_entries, instance, key, rights, sync};

/// Two replicas of one database, and a new entry that only the first has.
pub(crate) fn replicas() -> (Databases, Databases, Database, Entry) {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let tx = db.new_transaction();
    tx.doc("d").unwrap().set("n", 1).unwrap();
    let entry = tx.commit().unwrap().unwrap();
    (a, b, db, entry)
}

/// An entry as its author's own code could make it, whatever the rules say.
pub(crate) fn craft(
    db: &Database,
    author: &SecretKey,
    parents: &[Entry],
    payloads: &[(&str, Bytes)],
) -> Entry {
    let parents: Vec<ParentInfo> = parents.iter().map(ParentInfo::from).collect();
    let settings: Vec<Id> = vec![db.id()];
    let payloads: BTreeMap<StoreName, Bytes> = payloads
        .iter()
        .map(|(name, bytes)| (StoreName::new(name).unwrap(), bytes.clone()))
        .collect();
    let draft = Draft::child(db.id(), &parents, settings, payloads, author.public(), None).unwrap();
    let signature = author.sign(&draft.signing_message());
    draft.sign(signature)
}

pub(crate) fn root(db: &Database) -> Entry {
    db.get(&db.id()).unwrap().unwrap()
}

pub(crate) fn doc_payload(db: &Database) -> Bytes {
    let tx = db.new_transaction();
    tx.doc("other").unwrap().set("x", 1).unwrap();
    let entry = tx.commit().unwrap().unwrap();
    entry
        .payload(&StoreName::new("other").unwrap())
        .unwrap()
        .clone()
}

#[test]
fn no_flipped_bit_is_accepted() {
    let (_, b, db, entry) = replicas();
    let tips = b.tips(&db.id()).unwrap();
    let bytes = entry.encode();
    let mut decoded = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(flipped) = Entry::decode(&flipped) else {
            continue;
        };
        let Ok(packed) = pack::encode(&[flipped]) else {
            continue;
        };
        decoded += 1;
        let report = b.ingest(IngestRequest::new(db.id(), &[packed])).unwrap();
        assert_eq!(
            (report.new, report.known, report.pending),
            (0, 0, 0),
            "bit {bit}"
        );
    }
    assert!(decoded > 512, "signature and header bits reach the judge");
    assert_eq!(b.tips(&db.id()).unwrap(), tips);
    assert_eq!(
        ingest_entries(&b, db.id(), &[entry]).new,
        1,
        "the honest one is not shut out"
    );
}

#[test]
fn nobody_grants_himself() {
    let (a, b) = (instance(1), instance(2));
    let (writer, stranger) = (key(2), key(3));
    let db = a
        .create(rights(&key(1), &[(&writer, Permission::Write(0))]), key(1))
        .unwrap();
    sync(&a, &b, &db.id());
    for author in [writer, stranger] {
        let grant = AuthRecord::grant(author.public(), Permission::Admin(0), KeyName::default());
        let settings = SettingsPayload::new(vec![grant], Bytes::new())
            .unwrap()
            .encode();
        let entry = craft(&db, &author, &[root(&db)], &[("_settings", settings)]);
        let child = craft(
            &db,
            &author,
            std::slice::from_ref(&entry),
            &[("d", doc_payload(&db))],
        );
        let report = ingest_entries(&b, db.id(), &[entry.clone(), child]);
        assert_eq!((report.new, report.rejected_count), (0, 2));
        assert!(matches!(report.rejected[0].1, Reject::Authority(_)));
        assert!(matches!(report.rejected[1].1, Reject::Parent(id) if id == entry.id()));
    }
    for alias in [
        "_Settings",
        "_settings ",
        "_settings\u{0}",
        "_ settings",
        "_settings.name",
    ] {
        assert!(StoreName::new(alias).is_err(), "{alias:?}");
    }
}

#[test]
fn an_admin_does_not_grant_more_than_it_has() {
    let (a, b) = (instance(1), instance(2));
    let admin = key(2);
    let db = a
        .create(rights(&key(1), &[(&admin, Permission::Admin(5))]), key(1))
        .unwrap();
    sync(&a, &b, &db.id());
    for granted in [Permission::Admin(0), Permission::Admin(5)] {
        let grant = AuthRecord::grant(key(3).public(), granted, KeyName::default());
        let settings = SettingsPayload::new(vec![grant], Bytes::new())
            .unwrap()
            .encode();
        let entry = craft(&db, &admin, &[root(&db)], &[("_settings", settings)]);
        assert_eq!(ingest_entries(&b, db.id(), &[entry]).rejected_count, 1);
        let committed = db
            .with_key(admin.clone())
            .transact(|tx| tx.settings().grant(key(3).public(), granted, ""));
        assert!(committed.is_err());
    }
    db.with_key(admin)
        .transact(|tx| {
            tx.settings()
                .grant(key(3).public(), Permission::Admin(6), "")
        })
        .unwrap();
}

#[test]
fn malformed_settings_are_rejected_and_malformed_data_is_kept() {
    let (_, b, db, _) = replicas();
    let bad = craft(
        &db,
        &key(1),
        &[root(&db)],
        &[("_settings", Bytes::from_static(b"\x01garbage"))],
    );
    assert_eq!(ingest_entries(&b, db.id(), &[bad]).rejected_count, 1);
    // Unknown kinds and garbage contribute nothing; what builds on them is as good as ever.
    let odd = craft(
        &db,
        &key(1),
        &[root(&db)],
        &[
            ("garbage", Bytes::from_static(b"garbage")),
            ("unknown", Bytes::from_static(&[1, 99, 0, 0, 0, 0, 0])),
            ("d", doc_payload(&db)),
        ],
    );
    let report = ingest_entries(&b, db.id(), std::slice::from_ref(&odd));
    assert_eq!((report.new, report.rejected_count), (1, 0));
    let copy = b.get(&db.id()).unwrap().with_key(key(1));
    copy.transact(|tx| tx.doc("d")?.set("after", 1)).unwrap();
    assert_eq!(copy.doc("d").unwrap().get_as::<i64>("x").unwrap(), Some(1));
    let verified = copy.verify().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.faults);
    assert_eq!(verified.unread.len(), 2);
    // And they are passed on.
    let c = instance(3);
    ingest(&c, db.id(), &all_packs(&b, &db.id()));
    assert_eq!(c.get(&db.id()).unwrap().get(&odd.id()).unwrap(), Some(odd));
}

#[test]
fn a_bad_pack_does_not_stop_the_others() {
    let (a, b, db, _) = replicas();
    db.transact(|tx| tx.doc("d")?.set("m", 2)).unwrap();
    let good = all_packs(&a, &db.id());
    let mut packs = vec![
        Bytes::from_static(b"nonsense"),
        good[0].slice(..good[0].len() - 1),
    ];
    packs.extend(good);
    let report = ingest(&b, db.id(), &packs);
    assert_eq!((report.new, report.bad_packs.len()), (2, 2));
    let stranger = instance(4);
    assert!(
        stranger
            .ingest(IngestRequest::new(db.id(), &packs[..2]).create(true))
            .is_err()
    );
    assert!(stranger.list().unwrap().is_empty());
}

#[test]
fn a_root_whose_author_is_no_admin_begins_nothing() {
    let a = instance(1);
    let grant = AuthRecord::grant(key(1).public(), Permission::Write(0), KeyName::default());
    let settings = SettingsPayload::new(vec![grant], Bytes::new())
        .unwrap()
        .encode();
    let payloads: BTreeMap<_, _> = [(StoreName::settings(), settings)].into_iter().collect();
    let draft = Draft::root([5; 32], payloads, key(1).public(), None).unwrap();
    let signature = key(1).sign(&draft.signing_message());
    let root = draft.sign(signature);
    let packs = [pack::encode(std::slice::from_ref(&root)).unwrap()];
    assert!(
        a.ingest(IngestRequest::new(root.id(), &packs).create(true))
            .is_err()
    );
    assert!(a.list().unwrap().is_empty());
}

fn orphans(db: &Database, count: usize) -> Vec<Entry> {
    let payload = doc_payload(db);
    // The parent of all, which nobody sends.
    let parent = craft(db, &key(1), &[root(db)], &[("d", payload.clone())]);
    let orphan = |number: usize| {
        let name = format!("s{number}");
        craft(
            db,
            &key(1),
            std::slice::from_ref(&parent),
            &[(name.as_str(), payload.clone())],
        )
    };
    (0..count).map(orphan).collect()
}

#[test]
fn one_peer_keeps_at_most_its_share_of_the_pending_pool() {
    let (_, b, db, entry) = replicas();
    let many = orphans(&db, limits::PENDING_PER_SOURCE + 1);
    let copy = b.get(&db.id()).unwrap();
    let send = |entries: &[Entry], peer: u8| {
        let packs = [pack::encode(entries).unwrap()];
        b.ingest(IngestRequest::new(db.id(), &packs).from(key(peer).public()))
            .unwrap()
    };
    send(&many[..limits::PENDING_PER_SOURCE], 8);
    assert_eq!(copy.pending().0, limits::PENDING_PER_SOURCE);
    send(&many[limits::PENDING_PER_SOURCE..], 8);
    assert_eq!(
        copy.pending().0,
        limits::PENDING_PER_SOURCE,
        "the oldest gave way"
    );
    let (before, bytes) = copy.pending();
    send(&many[..1], 9);
    assert_eq!(
        copy.pending().0,
        before + 1,
        "another peer has its own share"
    );
    assert!(copy.pending().1 >= bytes);
    send(&many, 8);
    assert_eq!(
        copy.pending().0,
        before + 1,
        "a peer cannot make another's entry its own and flood it away"
    );
    // The honest one goes on, and nothing of the rest is seen.
    assert_eq!(ingest_entries(&b, db.id(), &[entry]).new, 1);
    assert_eq!(copy.entry_count().unwrap(), 2);
    assert_eq!(copy.tips().unwrap().len(), 1);
}

#[test]
fn a_wrong_signature_does_not_shut_the_right_one_out() {
    let (_, b, db, entry) = replicas();
    let payloads: BTreeMap<_, _> = entry
        .payloads()
        .filter_map(|(name, bytes)| Some((name.clone(), bytes?.clone())))
        .collect();
    let wrong = Entry::new(
        entry.header().clone(),
        key(9).sign(b"something else"),
        payloads,
    )
    .unwrap();
    let child = craft(
        &db,
        &key(1),
        std::slice::from_ref(&entry),
        &[("d", doc_payload(&db))],
    );
    let report = ingest_entries(&b, db.id(), &[wrong, child]);
    assert_eq!(
        (report.new, report.pending, report.rejected_count),
        (0, 1, 1)
    );
    assert!(matches!(report.rejected[0], (_, Reject::Signature)));
    assert_eq!(
        ingest_entries(&b, db.id(), &[entry]).new,
        2,
        "it brings the child that waited"
    );
}
