//! Devices that hold some stores of a database only, over HTTP.

use std::time::{Duration, Instant as Time};

use eidetica::{
    Database, DatabaseError, Holds, Id, Instance,
    sync::{Address, PeerPayloads},
};
use futures::executor::block_on;

use crate::sync::{client, open_database, server};
use crate::{Disk, read, user, write};

fn put(database: &Database, store: &str, path: &str) {
    let op = database.new_operation().unwrap();
    op.doc(store).unwrap().set(path, 1).unwrap();
    op.commit().unwrap();
}

fn sync(instance: &Instance, address: &Address, db: &Database) {
    let id = db.root_id();
    block_on(instance.sync().unwrap().sync_with_peer(address, Some(&id))).unwrap();
}

fn is_incomplete(db: &Database, store: &str) -> bool {
    let read = db.doc(store).unwrap().get("x");
    matches!(read, Err(DatabaseError::Incomplete { .. }))
}

#[test]
fn a_device_holds_what_it_is_told_to_and_gets_the_rest_from_whoever_has_it() {
    let (home, at_home) = server();
    let db = open_database(&user(&home, "alice"), "album");
    write(&db, "a", "1").unwrap();
    put(&db, "photos", "x");
    put(&db, "tags", "x");

    // A phone that serves as well, and never fetches the rest.
    let (phone, at_phone) = server();
    let id = db.root_id();
    phone
        .hold(id, &Holds::stores(["data", "tags"]).unwrap())
        .unwrap();
    sync(&phone, &at_home, &db);
    let there = user(&phone, "alice").open_database(id).unwrap();
    assert_eq!(read(&there, "a").as_deref(), Some("1"));
    assert!(!is_incomplete(&there, "tags") && is_incomplete(&there, "photos"));
    assert_eq!(there.tips().unwrap(), db.tips().unwrap());
    // It works on, and home learns of it.
    write(&there, "b", "2").unwrap();
    sync(&phone, &at_home, &db);
    assert_eq!(read(&db, "b").as_deref(), Some("2"));

    // A laptop meets the phone first, then home.
    let laptop = client();
    sync(&laptop, &at_phone, &db);
    let copy = user(&laptop, "alice").open_database(id).unwrap();
    assert_eq!(read(&copy, "b").as_deref(), Some("2"));
    assert!(is_incomplete(&copy, "photos"));
    sync(&laptop, &at_home, &db);
    assert_eq!(copy.missing().unwrap(), []);
    assert_eq!(copy.state_hash().unwrap(), db.state_hash().unwrap());

    // The phone is to hold everything after all.
    phone.hold(id, &Holds::All).unwrap();
    let left = block_on(phone.sync().unwrap().fetch_missing(id)).unwrap();
    assert_eq!(left, 0);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    assert!(there.verify().unwrap().is_sound());
}

#[test]
fn who_cannot_be_dialled_gives_what_the_other_lacks() {
    let (home, at_home) = server();
    let db = open_database(&user(&home, "alice"), "album");
    put(&db, "photos", "x");
    let id = db.root_id();
    let phone = client();
    sync(&phone, &at_home, &db);
    let there = user(&phone, "alice").open_database(id).unwrap();
    home.hold(id, &Holds::stores(["data"]).unwrap()).unwrap();
    db.release("photos").unwrap();
    assert!(is_incomplete(&db, "photos"));
    home.hold(id, &Holds::All).unwrap();
    sync(&phone, &at_home, &db);
    assert_eq!(db.missing().unwrap(), []);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
}

/// It holds less than before and has not let go of anything: it is asked for that, and gives it where it asks itself.
#[test]
fn what_a_device_has_kept_is_given_to_whoever_lacks_it() {
    for phone_serves in [true, false] {
        let (home, at_home) = server();
        let db = open_database(&user(&home, "alice"), "album");
        put(&db, "photos", "x");
        let id = db.root_id();
        let (phone, at_phone) = server();
        sync(&phone, &at_home, &db);
        let there = user(&phone, "alice").open_database(id).unwrap();
        phone.hold(id, &Holds::stores(["data"]).unwrap()).unwrap();
        assert_eq!(there.missing().unwrap(), []);
        // Home loses what the phone has kept.
        home.hold(id, &Holds::stores(["data"]).unwrap()).unwrap();
        db.release("photos").unwrap();
        assert!(is_incomplete(&db, "photos"));
        home.hold(id, &Holds::All).unwrap();
        match phone_serves {
            true => sync(&home, &at_phone, &db),
            false => sync(&phone, &at_home, &db),
        }
        assert_eq!(db.missing().unwrap(), []);
        // News of what it does not hold are left out all the same.
        put(&db, "photos", "y");
        sync(&phone, &at_home, &db);
        assert_eq!(there.tips().unwrap(), db.tips().unwrap());
        assert!(is_incomplete(&there, "photos"));
    }
}

/// What the peers have of the payloads, who have all entries, and whether that is all there is.
fn payloads(instance: &Instance, id: Id) -> (Vec<PeerPayloads>, bool) {
    let status = instance.sync().unwrap().database_status(id).unwrap();
    let is_safe = status.is_safe_to_close();
    let copies = status.peers.into_iter().filter(|copy| copy.has_entries);
    let payloads = copies.map(|copy| {
        assert_eq!(copy.has_latest, copy.payloads == PeerPayloads::All);
        assert!(copy.to_send.is_none_or(|left| left.entries == 0));
        copy.payloads
    });
    (payloads.collect(), is_safe)
}

fn these(names: &[&str]) -> Holds {
    Holds::stores(names).unwrap()
}

fn some(names: &[&str]) -> PeerPayloads {
    PeerPayloads::Stores(these(names).some().unwrap().clone())
}

#[track_caller]
fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Time::now();
    while !check() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what} does not happen"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Does nothing that it was not told to do, and serves.
fn quiet(instance: Instance) -> (Instance, Address) {
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    sync.set_background(false).unwrap();
    sync.enable_http_transport().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    (instance, sync.get_server_address().unwrap())
}

/// A device that holds so much of a database, which it fetches.
fn device(holds: &Holds, from: &Address, db: &Database) -> (Instance, Address) {
    let (device, address) = quiet(crate::instance());
    device.hold(db.root_id(), holds).unwrap();
    sync(&device, from, db);
    (device, address)
}

#[test]
fn it_is_not_safe_to_close_the_only_device_that_holds_a_store() {
    let disk = Disk::new();
    let open = || {
        let laptop = disk.open();
        laptop.enable_sync().unwrap();
        laptop.sync().unwrap().set_background(false).unwrap();
        laptop
    };
    let (laptop, at_laptop) = quiet(disk.open());
    let db = open_database(&user(&laptop, "alice"), "album");
    let id = db.root_id();
    put(&db, "notes", "x");
    let (phone, at_phone) = device(&these(&["notes"]), &at_laptop, &db);
    sync(&laptop, &at_phone, &db);
    assert_eq!(payloads(&laptop, id), (vec![PeerPayloads::All], true));
    put(&db, "photos", "x");
    assert_eq!(payloads(&laptop, id), (vec![], false));
    sync(&laptop, &at_phone, &db);
    assert_eq!(payloads(&laptop, id), (vec![some(&["notes"])], false));
    drop((laptop, db));
    let laptop = open();
    assert_eq!(payloads(&laptop, id), (vec![some(&["notes"])], false));
    // It is to hold photos as well, and gets them.
    phone.hold(id, &these(&["notes", "photos"])).unwrap();
    laptop.sync().unwrap().enable_http_transport().unwrap();
    let peer = phone.device_key();
    block_on(laptop.sync().unwrap().sync_tree_with_peer(peer, id)).unwrap();
    assert_eq!(payloads(&laptop, id), (vec![PeerPayloads::All], true));
    drop(laptop);
    assert_eq!(payloads(&open(), id), (vec![PeerPayloads::All], true));
}

#[test]
fn several_peers_that_have_it_together_are_enough() {
    let (laptop, at_laptop) = quiet(crate::instance());
    let db = open_database(&user(&laptop, "alice"), "album");
    let id = db.root_id();
    put(&db, "notes", "x");
    put(&db, "photos", "x");
    let (_phone, at_phone) = device(&these(&["notes"]), &at_laptop, &db);
    let (_frame, at_frame) = device(&these(&["photos", "more"]), &at_laptop, &db);
    sync(&laptop, &at_phone, &db);
    assert_eq!(payloads(&laptop, id), (vec![some(&["notes"])], false));
    sync(&laptop, &at_frame, &db);
    let (peers, is_safe) = payloads(&laptop, id);
    assert!(is_safe && !peers.contains(&PeerPayloads::All), "{peers:?}");
    // A store that neither of them holds.
    put(&db, "tags", "x");
    sync(&laptop, &at_phone, &db);
    sync(&laptop, &at_frame, &db);
    assert!(!payloads(&laptop, id).1);
    // The frame holds it, and only the phone has the note that comes next.
    let holds = these(&["photos", "more", "tags"]);
    _frame.hold(id, &holds).unwrap();
    sync(&laptop, &at_frame, &db);
    assert!(payloads(&laptop, id).1);
    put(&db, "notes", "y");
    sync(&laptop, &at_phone, &db);
    assert!(!payloads(&laptop, id).1, "the frame lacks the latest entry");
}

/// It has everything by its tips, and lacks a payload that it is to hold.
#[test]
fn a_peer_that_got_headers_alone_is_given_the_rest_before_it_is_safe() {
    let (laptop, at_laptop) = quiet(crate::instance());
    let db = open_database(&user(&laptop, "alice"), "album");
    let id = db.root_id();
    put(&db, "notes", "x");
    let (home, at_home) = device(&Holds::All, &at_laptop, &db);
    let (_phone, at_phone) = device(&these(&["notes"]), &at_laptop, &db);
    sync(&laptop, &at_home, &db);
    put(&db, "photos", "x");
    sync(&laptop, &at_phone, &db);
    sync(&home, &at_phone, &db);
    let there = user(&home, "alice").open_database(id).unwrap();
    assert_eq!(there.tips().unwrap(), db.tips().unwrap());
    assert!(is_incomplete(&there, "photos"));
    assert!(!payloads(&laptop, id).1);
    sync(&laptop, &at_home, &db);
    assert_eq!(there.missing().unwrap(), []);
    let (peers, is_safe) = payloads(&laptop, id);
    assert!(is_safe && peers.contains(&PeerPayloads::All), "{peers:?}");
    // From where the phone is, nothing is missing at home although home is not all that there is.
    let missing = home.sync().unwrap().database_status(id).unwrap();
    assert!(!missing.is_safe_to_close(), "the phone holds notes alone");
}

#[test]
fn what_a_connected_peer_holds_is_known_at_once() {
    let (phone, at_phone) = server();
    let (laptop, at_laptop) = server();
    let db = open_database(&user(&laptop, "alice"), "album");
    let id = db.root_id();
    put(&db, "notes", "x");
    phone.hold(id, &these(&["notes"])).unwrap();
    sync(&phone, &at_laptop, &db);
    sync(&laptop, &at_phone, &db);
    eventually("safe", || payloads(&laptop, id).1);
    put(&db, "photos", "x");
    let has_notes = (vec![some(&["notes"])], false);
    eventually("headers", || payloads(&laptop, id) == has_notes);
    phone.hold(id, &Holds::All).unwrap();
    eventually("the photo", || payloads(&laptop, id).1);
    let there = user(&phone, "alice").open_database(id).unwrap();
    assert_eq!(there.missing().unwrap(), []);
    phone.hold(id, &these(&["notes"])).unwrap();
    eventually("it holds less", || payloads(&laptop, id) == has_notes);
}
