//! Replicas that exchange packs.

use std::sync::mpsc;

use bytes::Bytes;
use eidetica_auth::Permission;
use eidetica_database::{Database, Databases, Error, IngestRequest, Reject, Transaction, limits};
use eidetica_entry::{Entry, Id, pack};

use crate::world::{
    all_packs, database, ingest, ingest_entries, instance, key, packs_without, rights, sync,
};

fn show(databases: &Databases, id: &Id) -> serde_json::Value {
    databases
        .get(id)
        .unwrap()
        .doc("d")
        .unwrap()
        .get_all()
        .unwrap()
        .to_json()
}

#[test]
fn a_bootstrap_brings_everything() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for n in 0..700 {
        db.transact(|tx| tx.doc("d")?.set(&format!("k{}", n % 50), n))
            .unwrap();
    }
    let packs = all_packs(&a, &db.id());
    assert!(matches!(
        b.ingest(IngestRequest::new(db.id(), &packs)),
        Err(Error::NoDatabase(_))
    ));
    let report = ingest(&b, db.id(), &packs);
    assert_eq!(
        (
            report.new,
            report.known,
            report.pending,
            report.rejected_count
        ),
        (701, 0, 0, 0)
    );
    assert_eq!(report.tips, db.tips().unwrap());
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
    assert_eq!(ingest(&b, db.id(), &packs).known, 701);
    assert_eq!(b.get(&db.id()).unwrap().name().unwrap().unwrap(), "test");
}

#[test]
fn much_that_is_written_at_once_is_written_in_parts_that_fit_together() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for round in 0..4_i64 {
        let many = |tx: &Transaction| -> Result<(), Error> {
            let doc = tx.doc("d")?;
            // Some keys hold a map that is begun anew, others a value; all cores have work.
            for n in 0..6_000 {
                match n % 3 {
                    0 => doc.set(&format!("m{}.k{n}", n % 50), n + round)?,
                    1 => doc.set(&format!("v{n}"), round)?,
                    _ => doc.increment(&format!("c{}", n % 700), 1)?,
                }
            }
            match round {
                2 => doc.delete("m7"),
                _ => Ok(()),
            }
        };
        db.transact(many).unwrap();
    }
    ingest(&b, db.id(), &all_packs(&a, &db.id()));
    let other = b.get(&db.id()).unwrap();
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
    assert_eq!(show(&b, &db.id())["v4"], 3);
    for replica in [&db, &other] {
        let report = replica.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
    }
}

#[test]
fn two_replicas_merge() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let other = b.get(&db.id()).unwrap().with_key(key(1));
    for n in 0..10 {
        db.transact(|tx| tx.doc("d")?.set(&format!("a{n}"), n))
            .unwrap();
        other
            .transact(|tx| tx.doc("d")?.set(&format!("b{n}"), n))
            .unwrap();
        other
            .transact(|tx| tx.doc("d")?.increment("count", 1))
            .unwrap();
        db.transact(|tx| tx.doc("d")?.increment("count", 1))
            .unwrap();
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
    let db = a
        .create(rights(&key(1), &[(&key(2), Permission::Write(1))]), key(1))
        .unwrap();
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
pub(crate) fn forge(entry: &Entry, author: u8) -> Entry {
    let mut header = entry.header().clone();
    header.author.key = key(author).public();
    resign(header, entry, author)
}

pub(crate) fn resign(header: eidetica_entry::Header, entry: &Entry, author: u8) -> Entry {
    let payloads: std::collections::BTreeMap<_, _> = entry
        .payloads()
        .filter_map(|(name, bytes)| Some((name.clone(), bytes?.clone())))
        .collect();
    let unsigned = Entry::new(header.clone(), *entry.signature(), payloads.clone()).unwrap();
    let signature = key(author).sign(&unsigned.signing_message());
    Entry::new(header, signature, payloads).unwrap()
}

/// Two replicas, and an entry that only the first has, two heights above settings that came later than the root.
fn behind_settings() -> (Databases, Database, Entry) {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    db.transact(|tx| tx.settings().set_name("renamed")).unwrap();
    db.transact(|tx| tx.doc("d")?.set("n", 0)).unwrap();
    sync(&a, &b, &db.id());
    let tx = db.new_transaction();
    tx.doc("d").unwrap().set("n", 1).unwrap();
    let honest = tx.commit().unwrap().unwrap();
    (b, db, honest)
}

#[test]
fn forged_places_are_rejected() {
    let (b, db, honest) = behind_settings();
    let (height, tips) = (honest.header().height.0, b.tips(&db.id()).unwrap());
    for height in [1, height - 1, height + 1, height + 2, (1 << 63) - 1] {
        let mut header = honest.header().clone();
        header.height = eidetica_entry::Height(height);
        let report = ingest_entries(&b, db.id(), &[resign(header, &honest, 1)]);
        assert!(
            matches!(report.rejected[..], [(_, Reject::Height)]),
            "{height}"
        );
    }
    // A root's height with parents, one above the limit, and no settings: that is no entry at all.
    let mut none = honest.header().clone();
    none.settings = [].into_iter().collect();
    let at = |height| eidetica_entry::Header {
        height: eidetica_entry::Height(height),
        ..honest.header().clone()
    };
    for header in [none, at(0), at(1 << 63), at(u64::MAX)] {
        assert!(Entry::new(header, *honest.signature(), Default::default()).is_err());
    }
    let data = honest.header().parents[0];
    let newest = honest.header().settings[0];
    let foreign = database(&instance(3));
    let pins: [&[Id]; 5] = [
        &[db.id()],
        &[db.id(), newest],
        &[data],
        &[foreign.id()],
        &[Id::new([9; 32])],
    ];
    for pins in pins {
        let mut header = honest.header().clone();
        header.settings = pins.iter().copied().collect();
        let report = ingest_entries(&b, db.id(), &[resign(header, &honest, 1)]);
        assert!(
            matches!(report.rejected[..], [(_, Reject::Settings)]),
            "{pins:?}"
        );
    }
    assert_eq!(b.tips(&db.id()).unwrap(), tips);
    assert_eq!(ingest_entries(&b, db.id(), &[honest]).new, 1);
}

#[test]
fn a_timestamp_is_shown_and_never_judged() {
    let (b, db, honest) = behind_settings();
    for timestamp in [None, Some(0), Some(u64::MAX)] {
        let mut header = honest.header().clone();
        header.timestamp_ms = timestamp;
        let entry = resign(header, &honest, 1);
        let report = ingest_entries(&b, db.id(), std::slice::from_ref(&entry));
        assert_eq!((report.new, report.rejected_count), (1, 0), "{timestamp:?}");
        let stored = b.get(&db.id()).unwrap().get(&entry.id()).unwrap().unwrap();
        assert_eq!(stored.header().timestamp_ms, timestamp);
    }
}

#[test]
fn an_entry_of_another_database_is_rejected() {
    let (a, b) = (instance(1), instance(2));
    let (one, two) = (database(&a), database(&a));
    sync(&a, &b, &one.id());
    sync(&a, &b, &two.id());
    one.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    let tips: Vec<Id> = b
        .tips(&one.id())
        .unwrap()
        .unwrap()
        .iter()
        .map(|tip| tip.id)
        .collect();
    let packs = packs_without(&a, &one.id(), &tips);
    let report = b.ingest(IngestRequest::new(two.id(), &packs)).unwrap();
    assert_eq!((report.new, report.bad_packs.len()), (0, 1));
    // The same parents under the other database's name are nobody's parents there.
    let entries = pack::decode(&packs[0], &pack::Limits::default()).unwrap();
    let mut header = entries[0].header().clone();
    header.database = two.id();
    let report = ingest_entries(&b, two.id(), &[resign(header, &entries[0], 1)]);
    assert_eq!((report.new, report.pending), (0, 1));
    // A parent of its own beside one of the other database: the foreign one never comes, so it waits for ever.
    let mut header = entries[0].header().clone();
    header.database = two.id();
    header.parents = [one.id(), two.id()].into_iter().collect();
    let report = ingest_entries(&b, two.id(), &[resign(header, &entries[0], 1)]);
    assert_eq!((report.new, report.pending), (0, 1));
    assert_eq!(b.get(&two.id()).unwrap().entry_count().unwrap(), 1);
}

#[test]
fn many_threads_take_in_the_same_packs() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for n in 0..300 {
        db.transact(|tx| tx.doc("d")?.increment(&format!("k{}", n % 10), 1))
            .unwrap();
    }
    let packs = all_packs(&a, &db.id());
    ingest(&b, db.id(), &packs[..1]);
    let new = std::sync::atomic::AtomicU64::new(b.get(&db.id()).unwrap().entry_count().unwrap());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (b, packs, new, id) = (&b, &packs, &new, db.id());
            scope.spawn(move || {
                let report = b.ingest(IngestRequest::new(id, packs)).unwrap();
                new.fetch_add(report.new, std::sync::atomic::Ordering::SeqCst);
                let own = b.get(&id).unwrap().with_key(key(1));
                for n in 0..10 {
                    own.transact(|tx| tx.doc("own")?.set(&format!("{writer}-{n}"), n))
                        .unwrap();
                }
            });
        }
    });
    let copy = b.get(&db.id()).unwrap();
    assert_eq!(new.into_inner(), 301, "each entry is new once");
    assert_eq!(copy.entry_count().unwrap(), 341);
    assert_eq!(copy.doc("own").unwrap().get_all().unwrap().len(), 40);
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
    assert!(copy.verify().unwrap().is_sound());
}

#[test]
fn requests_that_begin_while_others_are_written_keep_their_order() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for n in 0..600 {
        db.transact(|tx| tx.doc("d")?.set(&format!("k{}", n % 50), n))
            .unwrap();
    }
    let decoded = all_packs(&a, &db.id())
        .into_iter()
        .flat_map(|bytes| pack::decode(&bytes, &pack::Limits::default()).unwrap());
    let entries: Vec<Entry> = decoded.collect();
    let requests: Vec<[Bytes; 1]> = entries
        .chunks(7)
        .map(|part| [pack::encode(part).unwrap()])
        .collect();
    let new: u64 = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for packs in &requests {
            let request = IngestRequest::new(db.id(), packs).create(true);
            let (turn, over) = mpsc::channel::<()>();
            let b = &b;
            running.push(scope.spawn(move || b.ingest_in_turn(request, turn).unwrap()));
            assert!(over.recv().is_err(), "it is dropped");
        }
        let reports = running.into_iter().map(|one| one.join().unwrap());
        reports
            .map(|report| {
                assert_eq!((report.pending, report.rejected_count), (0, 0));
                report.new
            })
            .sum()
    });
    assert_eq!(new, 601);
    assert_eq!(show(&a, &db.id()), show(&b, &db.id()));
}

#[test]
fn remote_writes_are_told_in_order_and_local_ones_apart() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let copy = b.get(&db.id()).unwrap();
    let into = seen.clone();
    let id = copy
        .on_remote_write(move |event, db| {
            assert!(db.key().is_none(), "nobody is handed a key");
            into.lock().unwrap().push(event.entry.header().height.0);
            Ok(())
        })
        .unwrap();
    let everywhere = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = everywhere.clone();
    b.on_write(move |_, _| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    })
    .unwrap();
    for n in 0..20 {
        db.transact(|tx| tx.doc("d")?.set("n", n)).unwrap();
    }
    sync(&a, &b, &db.id());
    copy.with_key(key(1))
        .transact(|tx| tx.doc("d")?.set("n", -1))
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), (1..=20).collect::<Vec<_>>());
    assert_eq!(everywhere.load(std::sync::atomic::Ordering::SeqCst), 21);
    assert!(copy.remove_callback(id));
    assert!(!copy.remove_callback(id));
}

#[test]
fn entries_that_come_together_are_few_changes_of_their_database() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    sync(&a, &b, &db.id());
    let (into, seen) = mpsc::channel();
    let changes = into.clone();
    b.on_change(move |id, here| changes.send((Some(*id), here)).unwrap())
        .unwrap();
    b.on_write(move |_, _| Ok(into.send((None, false))?))
        .unwrap();
    let count = 3 * limits::CHANGE_ENTRIES;
    for n in 0..count {
        db.transact(|tx| tx.doc("d")?.set("n", n as i64)).unwrap();
    }
    sync(&a, &b, &db.id());
    let told: Vec<_> = seen.try_iter().collect();
    let change = (Some(db.id()), false);
    assert_eq!(told[0], change, "before the first callback");
    assert_eq!(*told.last().unwrap(), change, "of the last ones too");
    let changes = told.iter().filter(|one| **one == change).count();
    assert_eq!((changes, told.len() - changes), (4, count));
    let copy = b.get(&db.id()).unwrap().with_key(key(1));
    copy.transact(|tx| tx.doc("d")?.set("n", -1)).unwrap();
    let told: Vec<_> = seen.try_iter().collect();
    assert_eq!(told, [(Some(db.id()), true), (None, false)]);
}

#[test]
fn readers_are_those_with_a_right() {
    let a = instance(1);
    let db = a
        .create(rights(&key(1), &[(&key(2), Permission::Read)]), key(1))
        .unwrap();
    let keys = |numbers: &[u8]| numbers.iter().map(|n| key(*n).public()).collect::<Vec<_>>();
    assert!(a.can_read(&db.id(), &keys(&[2])).unwrap());
    assert!(a.can_read(&db.id(), &keys(&[9, 1])).unwrap());
    assert!(!a.can_read(&db.id(), &keys(&[9])).unwrap());
    assert!(!a.can_read(&db.id(), &[]).unwrap());
    assert!(!a.can_read(&Id::new([1; 32]), &keys(&[1])).unwrap());
    let listed = a.list_readable(&keys(&[2])).unwrap();
    assert_eq!(
        (listed.len(), listed[0].name.as_str(), listed[0].entries),
        (1, "test", 1)
    );
    assert!(a.list_readable(&keys(&[9])).unwrap().is_empty());
    db.transact(|tx| tx.settings().set_wildcard(Some(Permission::Read)))
        .unwrap();
    assert!(a.can_read(&db.id(), &keys(&[9])).unwrap());
}

#[test]
fn headers_and_differences_page() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    for n in 0..600 {
        db.transact(|tx| tx.doc("d")?.set("n", n)).unwrap();
    }
    let heights = |from: u64, to: u64| eidetica_entry::Height(from)..=eidetica_entry::Height(to);
    let top = a.headers(&db.id(), heights(590, u64::MAX), 1_000).unwrap();
    assert_eq!(top.len(), 11);
    assert!(
        top.windows(2)
            .all(|pair| pair[0].stamp > pair[1].stamp && pair[0].parents == [pair[1].stamp.id])
    );
    let limited = a.headers(&db.id(), heights(0, 300), 5).unwrap();
    assert_eq!(
        limited.iter().map(|h| h.stamp.height.0).collect::<Vec<_>>(),
        [300, 299, 298, 297, 296]
    );
    let below = a
        .headers_below(&db.id(), heights(0, 300), Some(limited[4].stamp), 2)
        .unwrap();
    assert_eq!(below[0].stamp.height.0, 295);
    // In small pages, and only what is above the frontier.
    let mut cursor = None;
    let mut new = 0;
    loop {
        let page = a.difference(&db.id(), &[], cursor, 1).unwrap();
        assert_eq!(page.done_tips, db.tips().unwrap());
        new += ingest(&b, db.id(), &page.packs).new;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(new, 601);
    let packs = packs_without(&a, &db.id(), &[limited[0].stamp.id, Id::new([7; 32])]);
    let entries: usize = packs
        .iter()
        .map(|p| pack::PackInfo::read(p).unwrap().entries as usize)
        .sum();
    assert_eq!(entries, 300);
    assert_eq!(
        a.known(&db.id(), &[db.id(), Id::new([7; 32])]).unwrap(),
        [true, false]
    );
}
