use std::sync::{Arc, Mutex};

use eidetica::Error;

use crate::{Disk, database, instance, read, user, write};

#[test]
fn a_callback_sees_every_local_entry_in_order_and_may_read_and_write() {
    let instance = instance();
    let db = database(&user(&instance, "alice"), "notes");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    db.on_local_write(move |entry, db, instance| {
        assert!(instance.has_database(db.root_id())?);
        let value = read(db, "n").unwrap_or_default();
        log.lock().unwrap().push((entry.id(), value.clone()));
        if value == "2" {
            write(db, "n", "from the callback")?;
        }
        Ok(())
    })
    .unwrap();
    db.on_remote_write(|_, _, _| panic!("nothing came from a peer"))
        .unwrap();
    for n in ["1", "2", "3"] {
        write(&db, "n", n).unwrap();
    }
    let seen = seen.lock().unwrap();
    let values: Vec<_> = seen.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["1", "2", "from the callback", "3"]);
}

#[test]
fn a_callback_that_fails_undoes_nothing() {
    let db = database(&user(&instance(), "alice"), "notes");
    db.on_local_write(|_, _, _| Err(Error::Closed)).unwrap();
    write(&db, "a", "1").unwrap();
    assert_eq!(read(&db, "a").as_deref(), Some("1"));
}

#[test]
fn callbacks_do_not_keep_an_instance_open() {
    let disk = Disk::new();
    let instance = disk.open();
    let alice = user(&instance, "alice");
    let db = database(&alice, "notes");
    db.on_local_write(|_, _, _| Ok(())).unwrap();
    drop((alice, instance));
    write(&db, "a", "1").unwrap();
    assert_eq!(disk.instances(), 1);
    drop(db);
    assert_eq!(disk.instances(), 0);
}
