use std::{sync::mpsc::Receiver, time::Duration};

use eidetica::{
    AsDatabaseId, Database, Error, Id, Instance, User,
    auth::Permission,
    crdt::Doc,
    sync::{Address, BootstrapStatus, PeerStatus, RequestState, state::SyncStateManager},
    user::types::{DatabasePreferences, SyncSettings},
};
use futures::executor::block_on;
use serde_json::json;

use crate::{Disk, database, instance, named, read, user, write};

/// An instance that serves on a free port.
pub(crate) fn server() -> (Instance, Address) {
    let instance = instance().enable_sync().unwrap();
    let sync = instance.sync().unwrap();
    sync.enable_http_transport().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    let address = sync.get_server_address().unwrap();
    (instance, address)
}

/// An instance that only dials.
pub(crate) fn client() -> Instance {
    let instance = instance().enable_sync().unwrap();
    instance.sync().unwrap().enable_http_transport().unwrap();
    instance
}

/// A database that everybody may write.
pub(crate) fn open_database(owner: &User, name: &str) -> Database {
    let mut auth = Doc::new();
    auth.set_json(
        "*",
        json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}),
    )
    .unwrap();
    let mut settings = named(name);
    settings.set_doc("auth", auth);
    owner
        .create_database(settings, owner.get_default_key().unwrap())
        .unwrap()
}

fn sync(instance: &Instance, address: &Address, id: Id) -> eidetica::Result<()> {
    block_on(instance.sync()?.sync_with_peer(address, Some(&id))).map(drop)
}

#[test]
fn nothing_works_before_it_is_enabled() {
    let instance = instance();
    let error = instance.sync().unwrap_err();
    assert!(matches!(error, Error::SyncNotEnabled) && error.to_string() == "sync is not enabled");
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    let error = sync.start_server("127.0.0.1:0").unwrap_err();
    assert!(
        error.to_string().contains("no transport enabled"),
        "{error}"
    );
    assert!(!sync.is_server_running());
    assert!(sync.get_server_address().is_err());
    assert!(sync.get_server_addresses().is_empty());
}

#[test]
fn enabling_twice_changes_nothing() {
    let (server, address) = server();
    let again = server.enable_sync().unwrap();
    assert_eq!(again.sync().unwrap().get_server_address().unwrap(), address);
    assert!(
        again.sync().unwrap().start_server("127.0.0.1:0").is_err(),
        "it runs"
    );
    again.sync().unwrap().stop_server().unwrap();
    assert!(!server.sync().unwrap().is_server_running());
}

#[test]
fn a_database_is_fetched_and_then_both_sides_exchange_what_is_new() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "notes");
    write(&db, "a", "1").unwrap();
    let here = client();
    let bob = user(&here, "bob");
    sync(&here, &address, db.root_id()).unwrap();
    let copy = bob.open_database(db.root_id()).unwrap();
    assert_eq!(copy.name().unwrap().as_deref(), Some("notes"));
    assert_eq!(read(&copy, "a").as_deref(), Some("1"));

    write(&copy, "b", "2").unwrap();
    write(&db, "c", "3").unwrap();
    sync(&here, &address, db.root_id()).unwrap();
    for side in [&db, &copy] {
        assert_eq!(read(side, "b").as_deref(), Some("2"));
        assert_eq!(read(side, "c").as_deref(), Some("3"));
    }
    assert_eq!(db.tips().unwrap(), copy.tips().unwrap());
}

#[test]
fn who_has_no_right_gets_the_answer_for_a_database_that_does_not_exist() {
    let (server, address) = server();
    let db = database(&user(&server, "alice"), "secret");
    write(&db, "a", "1").unwrap();
    let here = client();
    user(&here, "mallory");
    let denied = sync(&here, &address, db.root_id()).unwrap_err();
    let absent = sync(
        &here,
        &address,
        database(&user(&instance(), "x"), "x").root_id(),
    )
    .unwrap_err();
    assert_eq!(denied.to_string(), absent.to_string());
    assert!(here.list_databases().unwrap().is_empty());
    assert!(
        block_on(here.sync().unwrap().discover_peer_trees(&address))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_member_reads_by_the_claim_of_its_key() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let db = database(&alice, "notes");
    write(&db, "a", "1").unwrap();
    let here = client();
    let bob = user(&here, "bob");
    let op = db.new_operation().unwrap();
    let bobs = bob.get_default_key().unwrap();
    op.settings()
        .grant(bobs.public_key(), Permission::Read, "bob")
        .unwrap();
    op.commit().unwrap();
    sync(&here, &address, db.root_id()).unwrap();
    let copy = bob.open_database(db.root_id()).unwrap();
    assert_eq!(read(&copy, "a").as_deref(), Some("1"));
    assert!(write(&copy, "a", "2").is_err(), "a reader does not write");
}

#[test]
fn bootstrap_with_a_wildcard_makes_a_key_that_can_write() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "team");
    write(&db, "a", "1").unwrap();
    let here = client();
    let bob = user(&here, "bob");
    let sync = here.sync().unwrap();
    let id = db.root_id().to_string();
    block_on(sync.sync_with_peer_for_bootstrap(
        &address,
        &id,
        "my_device_key",
        Permission::Write(15),
    ))
    .unwrap();
    let copy = bob.open_database(&id).unwrap();
    let op = copy.new_authenticated_operation("my_device_key").unwrap();
    op.doc("data").unwrap().set("b", "2").unwrap();
    op.commit().unwrap();
    block_on(sync.sync_with_peer(&address, Some(&id))).unwrap();
    assert_eq!(read(&db, "b").as_deref(), Some("2"));
}

#[test]
fn a_request_waits_for_an_administrator_and_its_approval_is_in_the_history() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let db = database(&alice, "notes");
    write(&db, "a", "1").unwrap();
    let id = db.root_id();
    let here = client();
    let bob = user(&here, "bob");
    let (theirs, ours) = (server.sync().unwrap(), here.sync().unwrap());
    let ask = || {
        block_on(ours.sync_with_peer_for_bootstrap(
            &address,
            &id,
            bob.get_default_key().unwrap(),
            Permission::Write,
        ))
    };
    let request = match ask().unwrap_err() {
        Error::BootstrapPending { request_id } => request_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        block_on(ours.bootstrap_status(&request)).unwrap(),
        BootstrapStatus::Pending(request)
    );
    assert!(sync(&here, &address, id).is_err(), "nothing is granted yet");
    let listed = theirs.list_bootstrap_requests().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].id, listed[0].database_id, listed[0].state),
        (request, id, RequestState::Pending)
    );
    assert_eq!(
        (listed[0].key, listed[0].permission),
        (bob.get_default_key().unwrap(), Permission::Write(u32::MAX))
    );
    assert_eq!(
        listed[0].name.as_str(),
        "bob",
        "the default key is its user's"
    );

    let mallory = user(&server, "mallory");
    assert!(
        theirs
            .approve_bootstrap_request(&request, mallory.get_default_key().unwrap())
            .is_err()
    );
    let before = db.entry_count().unwrap();
    for _ in 0..2 {
        theirs
            .approve_bootstrap_request(&request, alice.get_default_key().unwrap())
            .unwrap();
        assert_eq!(
            db.entry_count().unwrap(),
            before + 1,
            "once, in the history"
        );
    }
    assert_eq!(
        block_on(ours.bootstrap_status(&request)).unwrap(),
        BootstrapStatus::Granted
    );
    ask().unwrap();
    let copy = bob.open_database(id).unwrap();
    write(&copy, "b", "2").unwrap();
    sync(&here, &address, id).unwrap();
    assert_eq!(read(&db, "b").as_deref(), Some("2"));
}

#[test]
fn a_rejected_request_stays_rejected() {
    let (server, address) = server();
    let db = database(&user(&server, "alice"), "notes");
    let here = client();
    let bob = user(&here, "bob");
    let (theirs, ours) = (server.sync().unwrap(), here.sync().unwrap());
    let key = bob.get_default_key().unwrap();
    let ask = || {
        block_on(ours.sync_with_peer_for_bootstrap(
            &address,
            &db.root_id(),
            key,
            Permission::Admin(0),
        ))
    };
    let Error::BootstrapPending { request_id } = ask().unwrap_err() else {
        panic!()
    };
    theirs.reject_bootstrap_request(&request_id).unwrap();
    assert_eq!(
        block_on(ours.bootstrap_status(&request_id)).unwrap(),
        BootstrapStatus::Denied
    );
    assert!(matches!(ask(), Err(Error::AccessDenied(id)) if id == db.root_id()));
    assert_eq!(db.settings().unwrap().right_of(&key.public_key()), None);
}

#[test]
fn peers_are_registered_named_and_blocked() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "notes");
    let here = client();
    let sync = here.sync().unwrap();
    assert!(sync.list_peers().unwrap().is_empty());
    let peer = server.device_key();
    assert!(sync.get_peer_info(peer).unwrap().is_none());
    assert!(matches!(
        sync.add_peer_address(peer, &address),
        Err(Error::NoSuchPeer(_))
    ));
    assert!(matches!(
        sync.register_peer("ed25519:abc123", None),
        Err(Error::NoSuchPeer(_))
    ));
    sync.register_peer(peer, Some("Alice's Device")).unwrap();
    sync.add_peer_address("Alice's Device", &address).unwrap();
    block_on(sync.sync_tree_with_peer(peer, db.root_id())).unwrap();
    let info = sync.get_peer_info(peer).unwrap().unwrap();
    assert_eq!(
        (info.pubkey, info.display_name.as_deref()),
        (peer, Some("Alice's Device"))
    );
    assert_eq!(
        (info.status, info.status.to_string().as_str()),
        (PeerStatus::Active, "Active")
    );
    assert!(here.has_database(db.root_id()).unwrap());
    assert_eq!(block_on(sync.connect_to_peer(&address)).unwrap(), peer);
    assert_eq!(sync.list_peers().unwrap().len(), 1);
    sync.set_peer_status(peer, PeerStatus::Blocked).unwrap();
    assert!(block_on(sync.sync_tree_with_peer(peer, db.root_id())).is_err());
    sync.remove_peer(peer).unwrap();
    assert!(sync.list_peers().unwrap().is_empty());
}

#[test]
fn another_device_at_a_pinned_address_is_refused() {
    let (server, address) = server();
    let here = client();
    let right = address.clone().with_key(server.device_key().public_key());
    let wrong = address.with_key(here.device_key().public_key());
    let sync = here.sync().unwrap();
    assert_eq!(
        block_on(sync.connect_to_peer(&right)).unwrap(),
        server.device_key()
    );
    assert!(block_on(sync.connect_to_peer(&wrong)).is_err());
}

#[test]
fn discovery_shows_what_the_caller_may_read_and_its_users_offer() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let (open, hidden) = (
        open_database(&alice, "My Project"),
        open_database(&alice, "Hidden"),
    );
    database(&alice, "Private");
    let sync_settings = SyncSettings {
        sync_enabled: false,
        ..Default::default()
    };
    let key_id = alice.get_default_key().unwrap();
    alice
        .add_database(DatabasePreferences {
            database_id: hidden.root_id(),
            key_id,
            sync_settings,
        })
        .unwrap();
    let here = client();
    let trees = || block_on(here.sync().unwrap().discover_peer_trees(&address)).unwrap();
    let found = trees();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].name.as_str(), found[0].tree_id),
        ("My Project", open.root_id())
    );
    assert!(sync(&here, &address, hidden.root_id()).is_err());
    alice.remove_database(hidden.root_id()).unwrap();
    assert_eq!(trees().len(), 2);
}

#[test]
fn the_state_of_synchronization_is_recorded_and_survives_a_restart() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "notes");
    write(&db, "a", "1").unwrap();
    let disk = Disk::new();
    let peer = server.device_key();
    let check = |instance: &Instance| {
        let op = instance
            .sync()
            .unwrap()
            .sync_tree()
            .new_operation()
            .unwrap();
        let state = SyncStateManager::new(&op);
        let cursor = state.get_sync_cursor(peer, db.root_id()).unwrap();
        let rate = state.get_sync_metadata(peer).unwrap().sync_success_rate();
        let history = state.get_sync_history(peer).unwrap();
        assert!(history.iter().all(|past| past.error.is_none()));
        let received: u64 = history.iter().map(|past| past.entries_received).sum();
        (cursor.last_synced_entry, rate, received)
    };
    let here = disk.open().enable_sync().unwrap();
    here.sync().unwrap().enable_http_transport().unwrap();
    assert_eq!(check(&here), (None, 0.0, 0));
    sync(&here, &address, db.root_id()).unwrap();
    let entries = db.entry_count().unwrap();
    let expected = (db.tips().unwrap().last().map(|tip| tip.id), 1.0, entries);
    assert_eq!(check(&here), expected);
    drop(here);
    assert_eq!(disk.instances(), 0);
    assert_eq!(check(&disk.open().enable_sync().unwrap()), expected);
}

/// A copy of `db` on another instance, which its user tracks with these settings, and what arrives at `db`.
fn tracked_copy(
    db: &Database,
    address: &Address,
    sync_settings: SyncSettings,
) -> (Database, Receiver<Id>) {
    let here = client();
    let bob = user(&here, "bob");
    sync(&here, address, db.root_id()).unwrap();
    let (database_id, key_id) = (db.root_id(), bob.get_default_key().unwrap());
    bob.add_database(DatabasePreferences {
        database_id,
        key_id,
        sync_settings,
    })
    .unwrap();
    let (arrived, arrivals) = std::sync::mpsc::channel();
    db.on_remote_write(move |entry, _, _| {
        let _ = arrived.send(entry.id());
        Ok(())
    })
    .unwrap();
    (bob.open_database(database_id).unwrap(), arrivals)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn an_entry_is_queued_from_a_callback() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "notes");
    let (copy, arrivals) = tracked_copy(&db, &address, SyncSettings::default());
    let (handle, peer) = (copy.sync().unwrap(), server.device_key().to_string());
    copy.on_local_write(move |entry, db, _instance| {
        handle.queue_entry_for_sync(&peer, entry.id(), db.root_id())
    })
    .unwrap();
    write(&copy, "b", "2").unwrap();
    let id = arrivals.recv_timeout(LONG).unwrap();
    assert_eq!(db.get(&id).unwrap().unwrap().id(), id);
    assert_eq!(read(&db, "b").as_deref(), Some("2"));
}

#[test]
fn a_commit_is_sent_at_once_where_a_user_wants_that() {
    let (server, address) = server();
    let db = open_database(&user(&server, "alice"), "notes");
    let on_commit = SyncSettings {
        sync_on_commit: true,
        ..Default::default()
    };
    let (copy, arrivals) = tracked_copy(&db, &address, on_commit);
    for n in ["1", "2", "3"] {
        write(&copy, "n", n).unwrap();
        arrivals.recv_timeout(LONG).unwrap();
        assert_eq!(read(&db, "n").as_deref(), Some(n));
    }
}

#[test]
fn wrong_addresses_and_ids_are_told_before_anything_is_dialled() {
    let here = client();
    let sync = here.sync().unwrap();
    let id = database(&user(&here, "a"), "a").root_id();
    assert!(matches!(
        block_on(sync.sync_with_peer("ftp://x", Some(&id))),
        Err(Error::Address(_))
    ));
    assert!(matches!(
        block_on(sync.sync_with_peer("localhost:1", Some("abc123"))),
        Err(Error::Text { .. })
    ));
    assert!("abc".as_database_id().is_err());
}

#[test]
fn dropping_the_last_handle_stops_serving() {
    let disk = Disk::new();
    let instance = disk.open().enable_sync().unwrap();
    let sync = instance.sync().unwrap();
    sync.enable_http_transport().unwrap();
    sync.start_server("127.0.0.1:0").unwrap();
    let address = sync.get_server_address().unwrap();
    drop(instance);
    assert_eq!(disk.instances(), 0);
    assert!(sync.stop_server().is_err());
    assert!(block_on(client().sync().unwrap().connect_to_peer(&address)).is_err());
}
