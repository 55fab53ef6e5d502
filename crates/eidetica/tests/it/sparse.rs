//! Devices that hold some stores of a database only, over HTTP.

use eidetica::{Database, DatabaseError, Holds, Instance, sync::Address};
use futures::executor::block_on;

use crate::sync::{client, open_database, server};
use crate::{read, user, write};

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
