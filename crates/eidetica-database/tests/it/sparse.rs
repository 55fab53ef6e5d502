//! Replicas that hold some stores only, and payloads that come later.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_crdt::StoreKind;
use eidetica_database::{Database, Databases, Error, Holding, Holds};
use eidetica_entry::{Entry, Id, pack};
use eidetica_storage::{Batch, Direction, Durability, KeyRange, ScanLimit, Space};
use eidetica_testkit::Rng;

use crate::authority::random_story;
use crate::laws::change;
use crate::story::{Story, memory, revoke, shuffle, view};
use crate::world::{
    all_packs, database, engine, ingest, ingest_entries, instance, instance_on, key, on,
};

fn only(stores: &[&str]) -> Holds {
    Holds::stores(stores).unwrap()
}

fn put(db: &Database, store: &str, path: &str, value: i64) -> Id {
    let tx = db.new_transaction();
    tx.doc(store).unwrap().set(path, value).unwrap();
    tx.commit().unwrap().unwrap().id()
}

fn entries(packs: &[Bytes]) -> Vec<Entry> {
    let decode = |pack: &Bytes| pack::decode(pack, &pack::Limits::default()).unwrap();
    packs.iter().flat_map(decode).collect()
}

/// Everything, as a peer sends it that is asked for the payloads of some stores.
fn packs_for(from: &Databases, id: &Id, holds: &Holds) -> Vec<Bytes> {
    let mut packs = Vec::new();
    let mut cursor = None;
    loop {
        let page = from
            .difference_for(id, &[], &[], holds, cursor, 1 << 20)
            .unwrap();
        packs.extend(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return packs;
        }
    }
}

/// Asks a peer for what is missing, as a session does; how many payloads that brought.
fn fill(to: &Databases, from: &Databases, id: &Id) -> u64 {
    let (mut next, mut filled) = (Some(0), 0);
    while let Some(place) = next {
        let wanted = to.wanted(id, &Holds::All, Some(place), 64).unwrap();
        next = wanted.next;
        let mut cursor = None;
        loop {
            let prefixes: Vec<&[u8]> = wanted.ids.iter().map(|id| &id.as_bytes()[..8]).collect();
            let holds = Holds::Stores(wanted.stores.clone());
            let page = from
                .payloads(id, &prefixes, &holds, cursor, 1 << 20)
                .unwrap();
            let report = ingest(to, *id, &page.packs);
            assert_eq!(report.rejected_count, 0);
            filled += report.filled;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    filled
}

fn is_incomplete<T>(read: Result<T, Error>, expected: bool) -> u64 {
    match read {
        Err(Error::Incomplete { missing, held, .. }) => {
            assert_eq!(held, expected);
            missing
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("was read as if it were whole"),
    }
}

fn is_sound(db: &Database) {
    let report = db.verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
}

/// An owner's replica with three stores.
fn three_stores(entries: i64) -> (Databases, Database) {
    let full = instance(1);
    let db = database(&full);
    for n in 0..entries {
        put(&db, "notes", &format!("n{}", n % 7), n);
        put(&db, "photos", &format!("p{}", n % 5), n);
        put(&db, "log", "last", n);
    }
    (full, db)
}

#[test]
fn a_sparse_replica_reads_what_it_holds_and_refuses_the_rest() {
    let (full, db) = three_stores(100);
    let sparse = instance(2);
    sparse.hold(&db.id(), &only(&["notes"])).unwrap();
    // Whoever sends everything sends it for nothing.
    for packs in [
        packs_for(&full, &db.id(), &only(&["notes"])),
        all_packs(&full, &db.id()),
    ] {
        ingest(&sparse, db.id(), &packs);
        let there = sparse.get(&db.id()).unwrap();
        assert_eq!(there.entry_count().unwrap(), 301);
        assert_eq!(there.tips().unwrap(), db.tips().unwrap());
        assert_eq!(there.name().unwrap(), Some("test".into()));
        let notes = there.doc("notes").unwrap().get_all().unwrap();
        assert_eq!(notes, db.doc("notes").unwrap().get_all().unwrap());
        assert_eq!(
            there.store_hash("notes", StoreKind::Doc).unwrap(),
            db.store_hash("notes", StoreKind::Doc).unwrap()
        );
        for store in ["photos", "log"] {
            let view = there.doc(store).unwrap();
            assert_eq!(is_incomplete(view.get("p1"), false), 100);
            is_incomplete(there.store_hash(store, StoreKind::Doc), false);
            is_incomplete(there.versions(store, "last", 3), false);
            assert!(
                there
                    .partial()
                    .doc(store)
                    .unwrap()
                    .get_all()
                    .unwrap()
                    .is_empty()
            );
        }
        is_incomplete(there.state_hash(), false);
        let missing: Vec<(String, bool, u64)> = there
            .missing()
            .unwrap()
            .into_iter()
            .map(|holding| (holding.store.to_string(), holding.held, holding.missing))
            .collect();
        let expected = [
            ("log".to_owned(), false, 100),
            ("photos".to_owned(), false, 100),
        ];
        assert_eq!(missing, expected);
        assert_eq!(
            sparse
                .wanted(&db.id(), &Holds::All, Some(0), 10)
                .unwrap()
                .ids,
            []
        );
        is_sound(&there);
    }
}

#[test]
fn a_sparse_replica_commits_to_what_it_holds_and_to_nothing_else() {
    let (full, db) = three_stores(3);
    let sparse = instance(2);
    sparse.hold(&db.id(), &only(&["notes", "new"])).unwrap();
    ingest(&sparse, db.id(), &all_packs(&full, &db.id()));
    let there = sparse.get(&db.id()).unwrap().with_key(key(1));
    put(&there, "notes", "mine", 1);
    put(&there, "new", "mine", 2);
    for store in ["log", "other"] {
        let tx = there.new_transaction();
        tx.doc(store).unwrap().set("x", 1).unwrap();
        assert!(matches!(tx.commit(), Err(Error::NotHeld { .. })));
        assert!(matches!(
            there.import().set(store, "x", 1),
            Err(Error::NotHeld { .. })
        ));
    }
    // The settings are everybody's.
    let tx = there.new_transaction();
    tx.settings().set_name("renamed").unwrap();
    tx.commit().unwrap();
    ingest(&full, db.id(), &all_packs(&sparse, &db.id()));
    assert_eq!(db.name().unwrap(), Some("renamed".into()));
    assert_eq!(
        db.doc("notes").unwrap().get_as::<i64>("mine").unwrap(),
        Some(1)
    );
    assert_eq!(db.missing().unwrap(), []);
    is_sound(&db);
    is_sound(&there);
}

#[test]
fn what_was_left_out_is_filled_by_two_that_have_it_together() {
    let (full, db) = three_stores(100);
    let whole = db.state_hash().unwrap();
    let id = db.id();
    let [a, b, c] = [2, 3, 4].map(instance);
    for (replica, stores) in [(&a, ["notes", "photos"]), (&b, ["notes", "log"])] {
        replica.hold(&id, &only(&stores)).unwrap();
        ingest(replica, id, &packs_for(&full, &id, &only(&stores)));
    }
    // It wants everything and meets one that has not all: it gets holes, and says so.
    let report = ingest(&c, id, &all_packs(&a, &id));
    assert_eq!((report.new, report.lacking), (301, 100));
    let there = c.get(&id).unwrap();
    assert_eq!(
        is_incomplete(there.doc("log").unwrap().get("last"), true),
        100
    );
    assert!(there.doc("photos").unwrap().get("p1").unwrap().is_some());
    // That the other holds the store does not mean that it has it.
    assert_eq!(fill(&c, &a, &id), 0);
    assert_eq!(fill(&c, &b, &id), 100);
    assert_eq!(there.state_hash().unwrap(), whole);
    assert_eq!(there.missing().unwrap(), []);
    is_sound(&there);
    // And widened, the others get from each other what they left out.
    a.hold(&id, &Holds::All).unwrap();
    assert_eq!(fill(&a, &b, &id), 100);
    b.hold(&id, &Holds::All).unwrap();
    assert_eq!(fill(&b, &a, &id), 100);
    for replica in [a, b] {
        let there = replica.get(&id).unwrap();
        assert_eq!(there.state_hash().unwrap(), whole);
        is_sound(&there);
    }
}

#[test]
fn what_is_held_and_missing_survives_a_restart() {
    let (full, db) = three_stores(50);
    let id = db.id();
    let disk = engine();
    {
        let sparse = on(disk.clone());
        sparse.hold(&id, &only(&["log"])).unwrap();
        ingest(&sparse, id, &packs_for(&full, &id, &only(&["log"])));
        assert_eq!(sparse.get(&id).unwrap().missing().unwrap().len(), 2);
    }
    {
        let sparse = on(disk.clone());
        assert_eq!(sparse.holds(&id).unwrap(), only(&["log"]));
        let there = sparse.get(&id).unwrap();
        is_incomplete(there.doc("notes").unwrap().get("n1"), false);
        assert!(there.doc("log").unwrap().get("last").unwrap().is_some());
        sparse.hold(&id, &only(&["log", "notes"])).unwrap();
        is_incomplete(there.doc("notes").unwrap().get("n1"), true);
        assert_eq!(fill(&sparse, &full, &id), 50);
    }
    let sparse = on(disk);
    let there = sparse.get(&id).unwrap();
    assert_eq!(
        there.doc("notes").unwrap().get_all().unwrap(),
        db.doc("notes").unwrap().get_all().unwrap()
    );
    is_incomplete(there.doc("photos").unwrap().get("p1"), false);
    // What is filled in counts as everything else from here on.
    sparse.hold(&id, &Holds::All).unwrap();
    assert_eq!(fill(&sparse, &full, &id), 50);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    is_sound(&there);
}

#[test]
fn narrowing_keeps_what_is_here_until_it_is_released() {
    let (full, db) = three_stores(50);
    let id = db.id();
    let there = instance(2);
    ingest(&there, id, &all_packs(&full, &id));
    let narrow = there.get(&id).unwrap();
    assert!(matches!(narrow.release("log"), Err(Error::Held { .. })));
    narrow.hold(&only(&["notes"])).unwrap();
    assert_eq!(
        narrow.doc("log").unwrap().get_all().unwrap(),
        db.doc("log").unwrap().get_all().unwrap()
    );
    // News are not fetched any more, and then it is not whole.
    put(&db, "log", "last", 1_000);
    ingest(&there, id, &all_packs(&full, &id));
    assert_eq!(
        is_incomplete(narrow.doc("log").unwrap().get("last"), false),
        1
    );
    assert_eq!(narrow.release("log").unwrap(), 50);
    assert_eq!(narrow.release("log").unwrap(), 0);
    assert_eq!(
        is_incomplete(narrow.doc("log").unwrap().get("last"), false),
        51
    );
    assert!(
        narrow
            .partial()
            .doc("log")
            .unwrap()
            .get_all()
            .unwrap()
            .is_empty()
    );
    is_sound(&narrow);
    narrow.hold(&Holds::All).unwrap();
    assert_eq!(fill(&there, &full, &id), 51);
    assert_eq!(narrow.state_hash().unwrap(), db.state_hash().unwrap());
    is_sound(&narrow);
}

#[test]
fn entries_with_rows_of_their_own_are_filled_and_released() {
    let (full, db) = three_stores(7);
    let id = db.id();
    let sparse = instance(2);
    sparse.hold(&id, &only(&["notes"])).unwrap();
    ingest(&sparse, id, &packs_for(&full, &id, &only(&["notes"])));
    let there = sparse.get(&id).unwrap();
    for _ in 0..2 {
        there.hold(&Holds::All).unwrap();
        assert_eq!(fill(&sparse, &full, &id), 14);
        assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
        is_sound(&there);
        there.hold(&only(&["notes"])).unwrap();
        assert_eq!(there.release("log").unwrap(), 7);
        assert_eq!(there.release("photos").unwrap(), 7);
        is_sound(&there);
    }
}

#[test]
fn a_payload_that_nobody_has_is_given_up_and_taken_in_when_it_comes() {
    let full = instance(1);
    let db = database(&full);
    put(&db, "d", "a", 1);
    let lost = put(&db, "d", "b", 2);
    put(&db, "d", "c", 3);
    let whole = db.get(&lost).unwrap().unwrap();
    let told = instance(2);
    let packs = entries(&all_packs(&full, &db.id()))
        .into_iter()
        .map(|entry| {
            if entry.id() == lost {
                entry.without_data()
            } else {
                entry
            }
        });
    let report = ingest_entries(&told, db.id(), &packs.collect::<Vec<_>>());
    assert_eq!((report.new, report.pending, report.lacking), (4, 0, 1));
    let there = told.get(&db.id()).unwrap();
    assert_eq!(is_incomplete(there.doc("d").unwrap().get("a"), true), 1);
    assert_eq!(
        there
            .partial()
            .doc("d")
            .unwrap()
            .get_as::<i64>("a")
            .unwrap(),
        Some(1)
    );
    // What came before it was whole.
    let before = there.as_of(&whole.header().parents).unwrap();
    assert_eq!(
        before.doc("d").unwrap().get_as::<i64>("a").unwrap(),
        Some(1)
    );
    let after = there.as_of(&[lost]).unwrap();
    assert_eq!(is_incomplete(after.doc("d").unwrap().get("a"), true), 1);

    assert_eq!(there.give_up("d").unwrap(), 1);
    assert_eq!(
        told.wanted(&db.id(), &Holds::All, Some(0), 9).unwrap().ids,
        []
    );
    assert_eq!(there.doc("d").unwrap().get_as::<i64>("c").unwrap(), Some(3));
    assert_eq!(there.doc("d").unwrap().get("b").unwrap(), None);
    assert_eq!(there.wait_again("d").unwrap(), 1);
    is_incomplete(there.doc("d").unwrap().get("a"), true);
    there.give_up("d").unwrap();
    is_sound(&there);

    for filled in [1, 0] {
        let report = ingest_entries(&told, db.id(), std::slice::from_ref(&whole));
        assert_eq!((report.known, report.filled), (1, filled));
    }
    assert_eq!(there.missing().unwrap(), []);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    is_sound(&there);
}

#[test]
fn what_a_void_entry_lacks_keeps_nobody_from_reading() {
    let mut story = Story::new();
    let a = story.write(&[0], 5, "a", 1);
    let x = story.write(&[0], 4, "x", 2);
    let told = memory(2);
    ingest_entries(&told, story.id(), &story.entries[..=a]);
    ingest_entries(&told, story.id(), &[story.entries[x].without_data()]);
    let there = told.get(&story.id()).unwrap();
    is_incomplete(there.doc("d").unwrap().get("a"), true);
    assert_eq!(
        told.wanted(&story.id(), &Holds::All, Some(0), 9)
            .unwrap()
            .ids
            .len(),
        1
    );
    let revoked = story.say(&[a], 1, revoke(4));
    ingest_entries(&told, story.id(), &story.entries[revoked..]);
    assert_eq!(there.doc("d").unwrap().get_as::<i64>("a").unwrap(), Some(1));
    assert_eq!(
        told.wanted(&story.id(), &Holds::All, Some(0), 9)
            .unwrap()
            .ids,
        []
    );
    is_sound(&there);
}

#[test]
fn another_payload_is_another_entry_and_refused() {
    let (full, db) = three_stores(1);
    let told = instance(2);
    let all = entries(&all_packs(&full, &db.id()));
    let stripped: Vec<Entry> = all.iter().map(Entry::without_data).collect();
    ingest_entries(&told, db.id(), &stripped);
    let victim = all[1].header();
    let (store, payload) = all[1].payloads().next().unwrap();
    let mut forged = payload.unwrap().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut header = victim.clone();
    header.stores[0].payload_hash = eidetica_entry::PayloadHash::of(&forged);
    let payloads = [(store.clone(), Bytes::from(forged))].into();
    let liar = Entry::new(header, *all[1].signature(), payloads).unwrap();
    let report = ingest_entries(&told, db.id(), &[liar]);
    assert_eq!((report.filled, report.rejected_count), (0, 1));
    let there = told.get(&db.id()).unwrap();
    is_incomplete(there.doc("notes").unwrap().get("n0"), true);
    ingest(&told, db.id(), &all_packs(&full, &db.id()));
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
}

/// Entries arrive in any order, with or without their payloads, and these later, while rights come and go.
#[test]
fn random_histories_with_holes_end_as_if_there_had_been_none() {
    let (mut voids, mut filled) = (0, 0);
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let len = 6 + rng.below(20);
        let story = random_story(&mut rng, len);
        let order: Vec<usize> = (1..story.entries.len()).collect();
        let expected = view(&story.deliver(&order, &memory(1)));
        voids += expected.void.len();
        for _ in 0..2 {
            let told = memory(3);
            ingest_entries(&told, story.id(), &story.entries[..1]);
            let db = told.get(&story.id()).unwrap();
            // Each entry comes twice, the second time whole.
            let mut order: Vec<usize> = (1..story.entries.len()).flat_map(|n| [n, n]).collect();
            shuffle(&mut order, &mut rng);
            let mut met = BTreeSet::new();
            for n in order {
                let entry = &story.entries[n];
                let entry = match met.insert(n) && rng.below(3) > 0 {
                    true => entry.without_data(),
                    false => entry.clone(),
                };
                let report = ingest_entries(&told, story.id(), &[entry]);
                assert_eq!(report.rejected_count, 0, "{:?}", report.rejected);
                filled += report.filled;
                if rng.one_in(16) {
                    is_sound(&db);
                    let _ = db.doc("d").unwrap().get_all();
                }
            }
            // Those that waited for their parents were kept as they first came.
            for entry in &story.entries {
                let one = std::slice::from_ref(entry);
                filled += ingest_entries(&told, story.id(), one).filled;
            }
            assert_eq!(db.missing().unwrap(), [], "seed {seed}");
            assert_eq!(view(&db), expected, "seed {seed}");
        }
    }
    assert!(
        voids > 8 && filled > 50,
        "{voids} void, {filled} filled: nothing was tested"
    );
}

/// Documents and tables over sealed packs, in waves large and small, filled by store and in any order.
#[test]
fn random_states_are_filled_and_released_exactly() {
    for seed in 0..4 {
        let mut rng = Rng::new(40 + seed);
        let full = instance(1);
        let db = database(&full);
        for _ in 0..400 {
            change(&db, &mut rng);
        }
        let id = db.id();
        let told = instance(2);
        let all = entries(&all_packs(&full, &id));
        told.hold(&id, &only(&["t"])).unwrap();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + rng.below(200)));
            ingest_entries(&told, id, now);
            rest = later;
        }
        let there = told.get(&id).unwrap();
        assert_eq!(
            there.store_hash("t", StoreKind::Table).unwrap(),
            db.store_hash("t", StoreKind::Table).unwrap()
        );
        is_sound(&there);
        there.hold(&Holds::All).unwrap();
        let mut order: Vec<usize> = (0..all.len()).collect();
        shuffle(&mut order, &mut rng);
        for some in order.chunks(1 + rng.below(90)) {
            let mut some = some.to_vec();
            some.sort_unstable();
            let some: Vec<Entry> = some.iter().map(|n| all[*n].clone()).collect();
            ingest_entries(&told, id, &some);
            if rng.one_in(10) {
                is_sound(&there);
            }
        }
        assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
        is_sound(&there);
        there.hold(&only(&["d"])).unwrap();
        assert!(there.release("t").unwrap() > 0);
        is_sound(&there);
        assert_eq!(
            there.store_hash("d", StoreKind::Doc).unwrap(),
            db.store_hash("d", StoreKind::Doc).unwrap()
        );
        there.hold(&Holds::All).unwrap();
        fill(&told, &full, &id);
        assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
        is_sound(&there);
    }
}

#[test]
fn damaged_rows_about_what_is_missing_are_found_and_repaired() {
    let (full, db) = three_stores(100);
    let id = db.id();
    let disk = engine();
    let rows = |snapshot: &dyn eidetica_storage::Snapshot| {
        let mut rows = Vec::new();
        for kind in [b"Lp", b"Lr", b"Le"] {
            let range = KeyRange::prefix(kind);
            let all = ScanLimit::rows(100);
            let page = snapshot.scan(Space::Meta, &range, Direction::Forward, all);
            rows.extend(page.unwrap().rows);
        }
        rows
    };
    let expected = {
        let sparse = on(disk.clone());
        sparse.hold(&id, &only(&["notes"])).unwrap();
        ingest(&sparse, id, &packs_for(&full, &id, &only(&["notes"])));
        let there = sparse.get(&id).unwrap();
        there.hold(&only(&["notes", "log"])).unwrap();
        ingest(&sparse, id, &all_packs(&full, &id)[..1]);
        there.give_up("photos").unwrap();
        there.missing().unwrap()
    };
    let stored = rows(&*disk.snapshot().unwrap());
    assert!(stored.len() >= 4, "{stored:?}");
    for row in stored {
        for gone in [true, false] {
            let mut batch = Batch::new();
            match gone {
                true => batch.delete(Space::Meta, &row.key),
                false => batch.put(Space::Meta, &row.key, b"damaged and long enough"),
            }
            disk.write(&batch, Durability::Durable).unwrap();
            let sparse = on(disk.clone());
            let is_exact = row.key.starts_with(b"Le");
            let found = sparse.verify().unwrap();
            assert!(!found.is_sound() || (gone && is_exact), "{:?}", row.key);
            sparse.repair(&id).unwrap();
            let there = sparse.get(&id).unwrap();
            is_sound(&there);
            let missing = there.missing().unwrap();
            let counts = |holdings: &[Holding]| -> Vec<(String, u64)> {
                let count = |holding: &Holding| (holding.store.to_string(), holding.missing);
                holdings.iter().map(count).collect()
            };
            assert_eq!(counts(&missing), counts(&expected));
            let _ = there.give_up("photos");
        }
    }
}

#[test]
fn the_wire_carries_of_what_is_left_out_no_more_than_its_hash() {
    let mut sent = Vec::new();
    for size in [10, 1_000, 30_000] {
        let full = instance(1);
        let db = database(&full);
        let mut rng = Rng::new(9);
        for n in 0..64 {
            put(&db, "notes", "n", n);
            let tx = db.new_transaction();
            // Such that it does not compress.
            let photo: Vec<u8> = (0..size).map(|_| rng.below(256) as u8).collect();
            tx.doc("photos").unwrap().set("p", photo).unwrap();
            tx.commit().unwrap();
        }
        let packs = packs_for(&full, &db.id(), &only(&["notes"]));
        sent.push(packs.iter().map(Bytes::len).sum::<usize>());
        // Whoever holds no more than that passes it on as it is.
        let sparse = instance_on(engine(), 2);
        sparse.hold(&db.id(), &only(&["notes"])).unwrap();
        ingest(&sparse, db.id(), &packs);
        let again = all_packs(&sparse, &db.id());
        assert!(again.iter().map(Bytes::len).sum::<usize>() <= sent.last().unwrap() + 1_024);
    }
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(most - least < 512, "{sent:?}");
    assert!(*most < 129 * 160, "{sent:?}");
}
