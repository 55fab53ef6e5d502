//! Who gets what: bootstrap requests, claims, strangers, pins.

use eidetica_auth::{Permission, Scope};
use eidetica_engine::{EngineError, PeerStatus, RequestState, Target};
use eidetica_node::NodeError;
use eidetica_protocol::{BootstrapAnswer, Failure, Refusal};
use eidetica_transport::EndpointAddress;

use crate::world::{Net, Peer, on_selected};

on_selected!(
    a_request_is_approved_and_the_database_arrives,
    a_stranger_gets_nothing,
    a_wrong_key_is_not_talked_to,
    a_wildcard_grants_at_once,
    discovery_shows_what_the_caller_may_read_and_is_offered,
    a_device_acts_for_a_key_only_with_its_claim,
    a_push_is_withheld_from_a_server_that_may_not_read,
    a_blocked_peer_is_not_served_and_not_dialled,
    an_approver_grants_only_what_its_own_right_allows,
);

fn absent() -> NodeError {
    NodeError::Engine(EngineError::Session(Failure::Refused(Refusal::ABSENT)))
}

fn a_request_is_approved_and_the_database_arrives(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice.create(&[], None).id();
    alice.write(id, "title", "secret");
    let address = alice.serve();
    let target = Target::Address(address.clone());
    assert_eq!(bob.try_sync(&address, id), Err(absent()));

    let asked = bob
        .node
        .bootstrap(target, bob.request(id, Permission::Write(15)))
        .wait()
        .unwrap();
    let BootstrapAnswer::Pending(request) = asked.answer else {
        panic!("{asked:?}")
    };
    assert_eq!(
        bob.node.poll_request(request).wait().unwrap().answer,
        BootstrapAnswer::Pending(request)
    );
    assert_eq!(
        bob.try_sync(&address, id),
        Err(absent()),
        "pending is not granted"
    );

    let incoming = alice.node.incoming_requests();
    assert_eq!(
        (incoming.len(), incoming[0].id, incoming[0].state),
        (1, request, RequestState::Pending)
    );
    assert!(
        bob.node.approve(request, bob.key.public()).wait().is_err(),
        "nobody approves elsewhere"
    );
    let by = alice.key.public();
    alice.node.approve(request, by).wait().unwrap();
    alice.node.approve(request, by).wait().unwrap();
    let grant = alice.database(id).get(&alice.tips(id)[0]).unwrap().unwrap();
    assert!(grant.header().timestamp_ms.is_some(), "it says when");
    assert!(
        alice.node.reject(request).wait().is_err(),
        "decided is decided"
    );
    assert_eq!(
        bob.node.poll_request(request).wait().unwrap().answer,
        BootstrapAnswer::Granted
    );

    bob.try_sync(&address, id).unwrap();
    assert_eq!(bob.read(id, "title").as_deref(), Some("secret"));
    bob.write(id, "answer", "thanks");
    bob.try_sync(&address, id).unwrap();
    assert_eq!(alice.read(id, "answer").as_deref(), Some("thanks"));
    let right = alice
        .databases
        .right_of(&id, &[bob.key.public()])
        .unwrap()
        .unwrap();
    assert_eq!(right.permission(), Permission::Write(15));
}

fn a_stranger_gets_nothing(net: &Net) {
    let (alice, eve) = (Peer::new(net, "alice"), Peer::new(net, "eve"));
    let id = alice.create(&[], None).id();
    alice.write(id, "title", "secret");
    let address = alice.serve();
    assert_eq!(eve.try_sync(&address, id), Err(absent()));
    assert!(!eve.has(id));
    let found = eve
        .node
        .discover(Target::Address(address.clone()))
        .wait()
        .unwrap();
    assert!(found.databases.is_empty() && !found.more);

    let asked = eve
        .node
        .bootstrap(
            Target::Address(address.clone()),
            eve.request(id, Permission::Admin(0)),
        )
        .wait();
    let BootstrapAnswer::Pending(request) = asked.unwrap().answer else {
        panic!("not asked")
    };
    alice.node.reject(request).wait().unwrap();
    assert_eq!(
        eve.node.poll_request(request).wait().unwrap().answer,
        BootstrapAnswer::Denied
    );
    let again = eve
        .node
        .bootstrap(
            Target::Address(address.clone()),
            eve.request(id, Permission::Read),
        )
        .wait();
    assert_eq!(again.unwrap().answer, BootstrapAnswer::Denied);
    assert_eq!(eve.try_sync(&address, id), Err(absent()));
}

fn a_wrong_key_is_not_talked_to(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let address = alice.serve();
    let right = address.clone().with_key(alice.node.device());
    assert_eq!(
        bob.node.connect(Target::Address(right)).wait().unwrap(),
        alice.node.device()
    );
    let carol = Peer::new(net, "carol");
    let wrong = match address.endpoint() {
        // It names the key itself.
        Some(place) => EndpointAddress::new(bob.key.public())
            .with_direct(place.direct().iter().copied())
            .unwrap()
            .into(),
        None => address.with_key(bob.key.public()),
    };
    let refused = carol.node.connect(Target::Address(wrong)).wait();
    let Err(NodeError::Engine(EngineError::Connect(error))) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.peer_fault, "{error}");
    assert!(
        carol.node.peers().is_empty(),
        "an impostor is not registered"
    );
}

fn a_wildcard_grants_at_once(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice.create(&[], Some(Permission::Write(10))).id();
    let address = alice.serve();
    let asked = bob
        .node
        .bootstrap(
            Target::Address(address.clone()),
            bob.request(id, Permission::Write(15)),
        )
        .wait();
    assert_eq!(asked.unwrap().answer, BootstrapAnswer::Granted);
    bob.try_sync(&address, id).unwrap();
    bob.write(id, "hello", "all");
    bob.try_sync(&address, id).unwrap();
    assert_eq!(alice.read(id, "hello").as_deref(), Some("all"));
}

fn discovery_shows_what_the_caller_may_read_and_is_offered(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let for_bob = |permission| alice.create(&[(bob.key.public(), permission)], None).id();
    let (shown, hidden) = (for_bob(Permission::Read), for_bob(Permission::Read));
    alice.create(&[], None);
    alice.hide(hidden);
    let address = alice.serve();
    let found = bob
        .node
        .discover(Target::Address(address.clone()))
        .wait()
        .unwrap();
    assert_eq!(found.peer, alice.node.device());
    let found: Vec<_> = found
        .databases
        .iter()
        .map(|info| (info.id(), info.name(), info.entries()))
        .collect();
    assert_eq!(found, [(shown, "notes", 1)]);
    assert_eq!(bob.try_sync(&address, hidden), Err(absent()));
}

fn a_device_acts_for_a_key_only_with_its_claim(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let other = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let address = alice.serve();
    bob.node.remove_claim(bob.key.public()).wait().unwrap();
    assert_eq!(bob.try_sync(&address, id), Err(absent()));
    bob.claim(Scope::Databases(vec![id]));
    bob.try_sync(&address, id).unwrap();
    assert_eq!(bob.try_sync(&address, other), Err(absent()));
}

fn a_push_is_withheld_from_a_server_that_may_not_read(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(1))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    alice.node.remove_claim(alice.key.public()).wait().unwrap();
    bob.write(id, "private", "to readers");
    bob.try_sync(&address, id).unwrap();
    assert_eq!(alice.read(id, "private"), None);
    alice.claim(Scope::All);
    bob.try_sync(&address, id).unwrap();
    assert_eq!(alice.read(id, "private").as_deref(), Some("to readers"));
}

fn a_blocked_peer_is_not_served_and_not_dialled(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    alice
        .node
        .register_peer(bob.node.device(), Some("Bob".into()))
        .wait()
        .unwrap();
    alice
        .node
        .set_peer_status(bob.node.device(), PeerStatus::Blocked)
        .wait()
        .unwrap();
    assert!(bob.try_sync(&address, id).is_err());
    alice
        .node
        .set_peer_status(bob.node.device(), PeerStatus::Active)
        .wait()
        .unwrap();
    bob.try_sync(&address, id).unwrap();
    bob.node
        .set_peer_status(alice.node.device(), PeerStatus::Blocked)
        .wait()
        .unwrap();
    let refused = bob.try_sync(&address, id);
    assert_eq!(
        refused,
        Err(NodeError::Engine(EngineError::Blocked(alice.node.device())))
    );
}

fn an_approver_grants_only_what_its_own_right_allows(net: &Net) {
    let (alice, bob, carol) = (
        Peer::new(net, "alice"),
        Peer::new(net, "bob"),
        Peer::new(net, "carol"),
    );
    let id = alice
        .create(&[(carol.key.public(), Permission::Admin(5))], None)
        .id();
    let address = alice.serve();
    carol.try_sync(&address, id).unwrap();
    let carols = carol.serve();
    let asked = bob
        .node
        .bootstrap(
            Target::Address(carols),
            bob.request(id, Permission::Admin(0)),
        )
        .wait()
        .unwrap();
    let BootstrapAnswer::Pending(request) = asked.answer else {
        panic!("{asked:?}")
    };
    let refused = carol.node.approve(request, carol.key.public()).wait();
    assert!(
        matches!(refused, Err(NodeError::Engine(EngineError::Grant(_)))),
        "{refused:?}"
    );
    let locked = carol.node.approve(request, alice.key.public()).wait();
    assert!(
        matches!(locked, Err(NodeError::Engine(EngineError::Grant(_)))),
        "{locked:?}"
    );
    assert_eq!(
        carol.databases.right_of(&id, &[bob.key.public()]).unwrap(),
        None
    );
}
