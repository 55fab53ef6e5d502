//! Backups, restoring them, and moving between backends.

use std::sync::atomic::{AtomicBool, Ordering};

use eidetica::backend::{Backend, database::InMemory};
use eidetica::backup::{BackupError, CopyOptions, RestoreOptions};
use eidetica::{Error, Id, Instance, User};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::{EngineKind, PostgresServer};
use serde_json::{Value, json};

use crate::{Disk, database, read, user, write};

const PASSWORD: &str = "correct horse";

fn backup(instance: &Instance) -> Vec<u8> {
    let mut stream = Vec::new();
    let report = instance.backup(&mut stream).unwrap();
    assert_eq!(report.stream_bytes, stream.len() as u64);
    stream
}

fn restored(stream: &[u8], options: RestoreOptions) -> Instance {
    let engine = InMemory::new();
    Instance::restore_into(&engine, stream, options, |_| {}).unwrap();
    Instance::open(Box::new(engine)).unwrap()
}

/// An instance with what an instance can have: users of both kinds, several stores, peers, a deleted value.
fn furnished(disk: &Disk) -> (Instance, Id) {
    let instance = disk.open();
    instance.create_user("alice", Some(PASSWORD)).unwrap();
    let alice = instance.login_user("alice", Some(PASSWORD)).unwrap();
    let bob = user(&instance, "bob");
    let notes = database(&alice, "notes");
    for n in 0..300 {
        write(&notes, &format!("day{}", n % 50), &format!("entry {n}")).unwrap();
    }
    let op = notes.new_operation().unwrap();
    op.doc("data").unwrap().delete("day7").unwrap();
    op.table::<Value>("people")
        .unwrap()
        .insert("bob", &json!({"age": 7, "of": ["a", null, 1.5]}))
        .unwrap();
    op.commit().unwrap();
    write(&database(&bob, "bob's"), "x", "y").unwrap();
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    let peer = user(&Disk::new().open(), "peer").get_default_key().unwrap();
    sync.register_peer(peer, Some("a peer")).unwrap();
    (instance, notes.root_id())
}

/// What an instance shows.
fn shown(instance: &Instance) -> Vec<(String, String)> {
    let mut found: Vec<_> = instance
        .list_users()
        .unwrap()
        .into_iter()
        .map(|name| ("user".to_owned(), name))
        .collect();
    let users: Vec<User> = [("alice", Some(PASSWORD)), ("bob", None)]
        .iter()
        .filter_map(|(name, password)| instance.login_user(name, *password).ok())
        .collect();
    for id in instance.list_databases().unwrap() {
        let open = users.iter().find_map(|user| user.open_database(id).ok());
        let hash = open.unwrap().state_hash().unwrap().to_string();
        found.push((id.to_string(), hash));
    }
    found
}

fn assert_sound(instance: &Instance) {
    let report = instance.verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
}

#[test]
fn what_is_restored_is_the_same_instance() {
    let disk = Disk::new();
    let (instance, id) = furnished(&disk);
    let again = restored(&backup(&instance), RestoreOptions::new());
    assert_eq!(again.device_key(), instance.device_key());
    assert_eq!(shown(&again), shown(&instance));
    assert_sound(&again);
    let alice = again.login_user("alice", Some(PASSWORD)).unwrap();
    let notes = alice.open_database(id).unwrap();
    assert_eq!(read(&notes, "day6").as_deref(), Some("entry 256"));
    assert_eq!(read(&notes, "day7"), None);
    // It goes on as if nothing had happened.
    write(&notes, "day7", "after").unwrap();
    let sync = again.enable_sync().unwrap().sync().unwrap();
    assert_eq!(sync.list_peers().unwrap().len(), 1);
    assert!(matches!(
        again.login_user("alice", Some("wrong")),
        Err(Error::Login)
    ));
}

#[test]
fn a_copy_beside_the_original_is_another_device() {
    let disk = Disk::new();
    let (instance, id) = furnished(&disk);
    let engine = InMemory::new();
    let beside = RestoreOptions::new().new_device(true);
    Instance::restore_into(&engine, backup(&instance).as_slice(), beside, |_| {}).unwrap();
    let again = Disk::over(Box::new(engine));
    let copy = again.open();
    assert_ne!(copy.device_key(), instance.device_key());
    assert_eq!(shown(&copy), shown(&instance));
    assert_sound(&copy);
    let sync = copy.enable_sync().unwrap().sync().unwrap();
    assert_eq!(sync.list_peers().unwrap(), []);
    // It stays that device.
    let device = copy.device_key();
    drop((sync, copy));
    assert_eq!(again.open().device_key(), device);

    // And both may write, and exchange what they wrote, as two devices do.
    let notes = |instance: &Instance| {
        let alice = instance.login_user("alice", Some(PASSWORD)).unwrap();
        alice.open_database(id).unwrap()
    };
    let copy = again.open();
    write(&notes(&instance), "here", "1").unwrap();
    write(&notes(&copy), "there", "2").unwrap();
    let [here, there] = [&instance, &copy].map(|instance| {
        let sync = instance.enable_sync().unwrap().sync().unwrap();
        sync.enable_http_transport().unwrap();
        sync
    });
    here.start_server("127.0.0.1:0").unwrap();
    let address = here.get_server_address().unwrap();
    futures::executor::block_on(there.sync_with_peer(&address.to_string(), Some(&id))).unwrap();
    assert_eq!(read(&notes(&instance), "there").as_deref(), Some("2"));
    assert_eq!(read(&notes(&copy), "here").as_deref(), Some("1"));
}

#[test]
fn a_backup_is_of_one_moment_while_others_write() {
    let instance = Disk::new().open();
    let alice = user(&instance, "alice");
    let (a, b) = (database(&alice, "a"), database(&alice, "b"));
    let (writing, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every value stands in `a` before it stands in `b`.
            for n in 0.. {
                write(&a, "n", &n.to_string()).unwrap();
                write(&b, "n", &n.to_string()).unwrap();
                writing.store(true, Ordering::SeqCst);
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        while !writing.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        for _ in 0..5 {
            let again = restored(&backup(&instance), RestoreOptions::new());
            assert_sound(&again);
            let alice = again.login_user("alice", None).unwrap();
            let of = |id: Id| -> u64 {
                let value = read(&alice.open_database(id).unwrap(), "n");
                value.unwrap().parse().unwrap()
            };
            let (a, b) = (of(a.root_id()), of(b.root_id()));
            assert!(a == b || a == b + 1, "{a} and {b}");
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn from_every_engine_to_every_engine() {
    let dir = tempfile::tempdir().unwrap();
    let location = |kind, name: &str| match kind {
        EngineKind::Memory => None,
        EngineKind::Fjall => Some(format!("fjall:{}", dir.path().join(name).display())),
        EngineKind::Redb => Some(format!("redb:{}", dir.path().join(name).display())),
        EngineKind::Sqlite => Some(format!("sqlite:{}", dir.path().join(name).display())),
        EngineKind::Postgres => Some(PostgresServer::shared().fresh_schema()),
    };
    let open = |location: &str| -> Box<dyn Backend> {
        let path = location.split_once(':').unwrap().1;
        match location.split_once(':').unwrap().0 {
            "fjall" => Box::new(FjallEngine::open(path).unwrap()),
            "redb" => Box::new(RedbEngine::open(path).unwrap()),
            "sqlite" => Box::new(SqliteEngine::open(path).unwrap()),
            _ => Box::new(PostgresEngine::open(location).unwrap()),
        }
    };
    let disk = Disk::new();
    let (instance, _) = furnished(&disk);
    let (stream, wanted) = (backup(&instance), shown(&instance));
    for from in EngineKind::here() {
        let Some(from) = location(from, &format!("{from:?}")) else {
            continue;
        };
        let engine = open(&from);
        Instance::restore_into(&*engine, stream.as_slice(), RestoreOptions::new(), |_| {}).unwrap();
        for to in EngineKind::here() {
            let memory = InMemory::new();
            let name = format!("{} to {to:?}", from.len());
            let to = location(to, &name).map(|to| open(&to));
            let to: &dyn Backend = to.as_deref().unwrap_or(&memory);
            let copied =
                eidetica_backup::copy(&*engine, to, [1; 16], CopyOptions::default(), &mut |_| {})
                    .unwrap();
            assert!(!copied.source_moved);
            // The stream has the same rows, whichever engine they are in.
            let mut again = Vec::new();
            eidetica_backup::write(to, [1; 16], 0, &mut again, &mut |_| {}).unwrap();
            let opened = restored(&again, RestoreOptions::new());
            assert_eq!(shown(&opened), wanted, "{name}");
            assert_sound(&opened);
            to.close().unwrap();
        }
        engine.close().unwrap();
    }
}

#[test]
fn an_instance_moves_and_leaves_its_old_place_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| format!("fjall:{}", dir.path().join(name).display());
    let instance = Instance::connect(&place("old")).unwrap();
    let alice = user(&instance, "alice");
    write(&database(&alice, "notes"), "a", "b").unwrap();
    let (device, wanted) = (instance.device_key(), shown_of_alice(&instance));
    drop(alice);
    instance.close().unwrap();
    drop(instance);

    let nowhere = Instance::migrate(
        &place("typo"),
        &place("new"),
        CopyOptions::default(),
        |_| {},
    );
    assert!(matches!(nowhere, Err(Error::Location { .. })));
    assert!(!dir.path().join("typo").exists() && !dir.path().join("new").exists());

    Instance::migrate(&place("old"), &place("new"), CopyOptions::default(), |_| {}).unwrap();
    for name in ["old", "new"] {
        let found = Instance::connect(&place(name)).unwrap();
        assert_eq!(found.device_key(), device);
        assert_eq!(shown_of_alice(&found), wanted);
        assert_sound(&found);
    }
    let again = CopyOptions {
        start_over: true,
        ..CopyOptions::default()
    };
    let again = Instance::migrate(&place("old"), &place("new"), again, |_| {});
    assert!(matches!(
        again,
        Err(Error::Backup(BackupError::NotEmpty { .. }))
    ));
}

fn shown_of_alice(instance: &Instance) -> Vec<String> {
    let alice = instance.login_user("alice", None).unwrap();
    let ids = instance.list_databases().unwrap();
    let hash = |id| alice.open_database(id).unwrap().state_hash().unwrap();
    ids.into_iter().map(|id| hash(id).to_string()).collect()
}

#[test]
fn a_directory_is_opened_by_the_engine_that_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(RedbEngine::open(&path).unwrap());
    let location = format!("file:{}", path.display());
    match Instance::connect(&location) {
        // By its label, where that engine is built in.
        Ok(_) if cfg!(feature = "redb") => {}
        Ok(_) => panic!("a backend that is not built in"),
        Err(Error::Location { why, .. }) => assert!(why.contains("without that backend")),
        Err(error) => panic!("{error}"),
    }
}

// ---- golden files -------------------------------------------------------------------------------

/// An instance as the first format had it. It is never written anew: what a later version writes gets a file of its own
/// beside it. `EIDETICA_TEST_GOLDEN=FILE` makes the test below write one.
const FIRST: &[u8] = include_bytes!("../golden/instance-1.backup");

/// State hashes of its databases, recorded when it was made.
const FIRST_STATES: &[&str] = &[
    "11f8125f29605a4ab4e4c9825f88e21ea6d018fc263d568d88a65bce012b2a7d",
    "368c6c7c7e0278b66e97071104ab6ece4fd734b930f593cb170bb0d5c48cd13a",
];

#[test]
fn an_instance_of_the_first_format_opens_with_equal_state() {
    let disk = Disk::new();
    Instance::restore_into(disk.engine(), FIRST, RestoreOptions::new(), |_| {}).unwrap();
    let instance = disk.open();
    let states: Vec<String> = shown(&instance)
        .into_iter()
        .filter(|(what, _)| what != "user")
        .map(|(_, state)| state)
        .collect();
    assert_eq!(states, FIRST_STATES);
    assert_sound(&instance);
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    assert_eq!(sync.list_peers().unwrap().len(), 1);
    let alice = instance.login_user("alice", Some(PASSWORD)).unwrap();
    let id = instance.list_databases().unwrap();
    let notes = id.iter().find_map(|id| {
        let notes = alice.open_database(*id).ok()?;
        (notes.name().unwrap().as_deref() == Some("notes")).then_some(notes)
    });
    let notes = notes.unwrap();
    assert_eq!(read(&notes, "day49").as_deref(), Some("entry 299"));
    write(&notes, "day49", "and on").unwrap();
    assert_sound(&instance);
}

#[test]
fn golden_files_are_made_like_this() {
    let (instance, _) = furnished(&Disk::new());
    let stream = backup(&instance);
    assert!(stream.len() < 100_000, "{}", stream.len());
    let states: Vec<_> = shown(&instance)
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    if let Ok(file) = std::env::var("EIDETICA_TEST_GOLDEN") {
        std::fs::write(&file, stream).unwrap();
        println!("{states:#?}");
    }
}
