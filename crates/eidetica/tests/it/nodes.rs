//! Several processes that are one instance, as its users see them.

use std::sync::Arc;

use eidetica::backend::Backend as Engine;
use eidetica::{Error, Instance, backend::database::InMemory};
use eidetica_testkit::SharedEngine;
use futures::executor::block_on;

use crate::{
    read,
    sync::{client, open_database},
    user, write,
};

/// Nodes of these names on the same rows.
fn nodes<const N: usize>(names: [&str; N]) -> [Instance; N] {
    let rows: Arc<dyn Engine> = Arc::new(InMemory::new());
    names.map(|name| {
        let engine = Box::new(SharedEngine::new(Arc::clone(&rows)));
        match name {
            "" => Instance::open(engine).unwrap(),
            name => Instance::open_as(engine, name).unwrap(),
        }
    })
}

#[test]
fn a_node_keeps_its_key_and_shares_the_service_key() {
    let [nobody, a, again, b] = nodes(["", "a", "a", "b"]);
    assert_eq!(a.device_key(), again.device_key());
    assert_ne!(a.device_key(), b.device_key());
    assert_eq!(nobody.device_key(), nobody.service_key());
    assert_eq!(a.service_key(), nobody.device_key());
    let names: Vec<String> = nobody
        .list_nodes()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert!(nobody.forget_node("a").unwrap() && !nobody.forget_node("a").unwrap());
    assert_eq!(a.list_nodes().unwrap().len(), 1);
    let long = "n".repeat(eidetica::limits::NODE_NAME + 1);
    for name in ["", &long] {
        let engine = Box::new(InMemory::new());
        assert!(
            matches!(Instance::open_as(engine, name), Err(Error::Text { .. })),
            "{name}"
        );
    }
}

/// What one process does to a user's keys, another one that is logged in does not know.
#[test]
fn the_default_key_is_there_whatever_two_processes_do() {
    let [p, q] = nodes(["p", "q"]);
    p.create_user("alice", None).unwrap();
    let here = p.login_user("alice", None).unwrap();
    let first = here.get_default_key().unwrap();
    let second = here.add_private_key(Some("second")).unwrap();
    let third = here.add_private_key(Some("third")).unwrap();
    let there = q.login_user("alice", None).unwrap();
    here.set_default_key(second).unwrap();
    let refused = there.forget_private_key(second).unwrap_err();
    assert!(matches!(refused, Error::KeyRole { .. }), "{refused}");
    here.forget_private_key(third).unwrap();
    let refused = there.set_default_key(third).unwrap_err();
    assert!(matches!(refused, Error::NoSuchKey(_)), "{refused}");
    here.add_private_key(Some("fourth")).unwrap();
    let refused = there.add_private_key(Some("fourth")).unwrap_err();
    assert!(matches!(refused, Error::KeyExists(_)), "{refused}");
    let again = q.login_user("alice", None).unwrap();
    assert_eq!(again.get_default_key().unwrap(), second);
    again
        .create_database(eidetica::crdt::Doc::new(), second)
        .unwrap();
    again.forget_private_key(first).unwrap();
}

#[test]
fn there_are_so_many_nodes_and_no_more() {
    let rows: Arc<dyn Engine> = Arc::new(InMemory::new());
    let open = |n: usize| {
        let engine = Box::new(SharedEngine::new(Arc::clone(&rows)));
        Instance::open_as(engine, &format!("node {n}"))
    };
    (0..eidetica::limits::NODES).for_each(|n| drop(open(n).unwrap()));
    let more = open(eidetica::limits::NODES);
    assert!(matches!(more, Err(Error::TooManyNodes)));
    open(3).unwrap();
}

#[test]
fn a_user_name_is_given_once() {
    let [a, b] = nodes(["a", "b"]);
    a.create_user("alice", None).unwrap();
    assert!(matches!(
        b.create_user("alice", None),
        Err(Error::UserExists(_))
    ));
    assert_eq!(b.list_users().unwrap(), ["alice"]);
}

/// What was sealed by an old vault key would not open ever again.
#[test]
fn no_key_is_lost_when_a_password_is_changed_elsewhere() {
    let [a, b] = nodes(["a", "b"]);
    a.create_user("alice", Some("first")).unwrap();
    let at_a = a.login_user("alice", Some("first")).unwrap();
    let at_b = b.login_user("alice", Some("first")).unwrap();
    // One that the other process does not know of.
    let new = at_b.add_private_key(Some("new")).unwrap();
    at_a.change_password(Some("first"), Some("second")).unwrap();
    assert!(at_a.list_keys().unwrap().iter().any(|key| key.id == new));
    // What is logged in elsewhere has the old vault key, and is told so.
    let late = at_b.add_private_key(Some("late"));
    assert!(matches!(late, Err(Error::PasswordChanged)), "{late:?}");
    assert!(matches!(
        b.login_user("alice", Some("first")),
        Err(Error::Login)
    ));
    let at_b = b.login_user("alice", Some("second")).unwrap();
    let late = at_b.add_private_key(Some("late")).unwrap();
    at_b.change_password(Some("second"), None).unwrap();
    // The open session follows at the next login.
    let again = a.login_user("alice", None).unwrap();
    let keys: Vec<_> = again
        .list_keys()
        .unwrap()
        .into_iter()
        .map(|key| key.id)
        .collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.contains(&new) && keys.contains(&late));
    assert!(at_a.export_private_key(late, None).is_ok());
}

#[test]
fn peers_invites_and_what_users_want_are_of_all_nodes() {
    let [a, b] = nodes(["a", "b"]);
    let alice = user(&a, "alice");
    let db = open_database(&alice, "shared");
    write(&db, "k", "1").unwrap();
    let serve = |instance: &Instance, as_service: bool| {
        let sync = instance.enable_sync().unwrap().sync().unwrap();
        sync.enable_http_transport().unwrap();
        match as_service {
            true => sync.start_service("127.0.0.1:0").unwrap(),
            false => sync.start_server("127.0.0.1:0").unwrap(),
        }
        sync.get_server_address().unwrap()
    };
    let at_b = serve(&b, true);
    a.enable_sync().unwrap();

    // Whoever comes to the service meets the instance, and then the same one at another node.
    let there = client();
    let bob = user(&there, "bob");
    let sync = there.sync().unwrap();
    block_on(sync.sync_with_peer(&at_b, Some(&db.root_id()))).unwrap();
    assert_eq!(sync.list_peers().unwrap()[0].pubkey, a.service_key());
    let copy = bob.open_database(db.root_id()).unwrap();
    assert_eq!(read(&copy, "k").as_deref(), Some("1"));

    // A peer that one node blocks, all have blocked.
    let device = there.device_key();
    let ours = a.sync().unwrap();
    ours.register_peer(device, Some("bob's")).unwrap();
    b.sync().unwrap().register_peer(device, None).unwrap();
    let seen = b.sync().unwrap().get_peer_info("bob's").unwrap().unwrap();
    assert_eq!(seen.pubkey, device);
    ours.set_peer_status(device, eidetica::sync::PeerStatus::Blocked)
        .unwrap();
    b.sync().unwrap().register_peer(device, None).unwrap();
    assert!(block_on(sync.sync_with_peer(&at_b, Some(&db.root_id()))).is_err());
}
