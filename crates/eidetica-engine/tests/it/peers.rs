//! Peers, addresses, connections.

use eidetica_auth::{AccessRequest, KeyName, Permission};
use eidetica_engine::{
    Command, EngineError, Facts, Input, PeerStatus, Response, Selection, Target, limits,
};
use eidetica_protocol::Blame;

use crate::bench::{Bench, address, database, key, secret};

#[test]
fn peers_are_registered_named_and_forgotten() {
    let mut bench = Bench::new();
    let register = |name: Option<&str>| Command::RegisterPeer {
        key: key(1),
        name: name.map(Into::into),
    };
    bench.now(register(None)).unwrap();
    bench.now(register(Some("Alice's device"))).unwrap();
    let writes = bench.writes;
    bench.now(register(None)).unwrap();
    assert_eq!(bench.writes, writes, "nothing changed");
    let peer = bench.engine.peer(&key(1)).unwrap();
    assert_eq!(
        (peer.display_name.as_deref(), peer.status.to_string()),
        (Some("Alice's device"), "Active".into())
    );
    bench
        .now(Command::AddAddress(key(1), address("a:1")))
        .unwrap();
    bench
        .now(Command::AddAddress(key(1), address("b:1")))
        .unwrap();
    bench
        .now(Command::AddAddress(key(1), address("a:1")))
        .unwrap();
    assert_eq!(
        bench.engine.peer(&key(1)).unwrap().addresses,
        [address("a:1"), address("b:1")]
    );
    bench
        .now(Command::RemoveAddress(key(1), address("a:1")))
        .unwrap();
    bench.now(Command::Relate(key(1), database(1))).unwrap();
    assert_eq!(bench.engine.peers_of(&database(1)), [key(1)]);
    bench.now(Command::RemovePeer(key(1))).unwrap();
    assert!(bench.engine.peers().next().is_none() && bench.records.is_empty());
    let unknown = bench
        .now(Command::AddAddress(key(1), address("a:1")))
        .unwrap_err();
    assert_eq!(
        (unknown.blame(), unknown),
        (Blame::Caller, EngineError::UnknownPeer(key(1)))
    );
}

#[test]
fn nothing_is_kept_of_a_forgotten_database() {
    let mut bench = Bench::new();
    bench
        .now(Command::RegisterPeer {
            key: key(1),
            name: None,
        })
        .unwrap();
    let before = bench.records.clone();
    bench.now(Command::Relate(key(1), database(1))).unwrap();
    bench.now(Command::Relate(key(1), database(2))).unwrap();
    bench.now(Command::ForgetDatabase(database(1))).unwrap();
    assert_eq!(bench.engine.peers_of(&database(1)), []);
    assert_eq!(bench.engine.peers_of(&database(2)), [key(1)]);
    bench.now(Command::ForgetDatabase(database(2))).unwrap();
    bench.now(Command::ForgetDatabase(database(3))).unwrap();
    assert_eq!(bench.records, before);
}

#[test]
fn limits_hold_at_the_limit_and_one_above() {
    let mut bench = Bench::new();
    let named = |name: String| Command::RegisterPeer {
        key: key(1),
        name: Some(name),
    };
    bench.now(named("x".repeat(limits::NAME_BYTES))).unwrap();
    assert_eq!(
        bench.now(named("x".repeat(limits::NAME_BYTES + 1))),
        Err(EngineError::Name)
    );
    assert_eq!(
        bench.now(named("\u{1b}[31m".into())),
        Err(EngineError::Name)
    );
    for n in 0..limits::ADDRESSES {
        bench
            .now(Command::AddAddress(key(1), address(&format!("host{n}:1"))))
            .unwrap();
    }
    let addresses = |bench: &Bench| bench.engine.peer(&key(1)).unwrap().addresses.clone();
    assert_eq!(addresses(&bench).len(), limits::ADDRESSES);
    // The one that was given first gives way.
    bench
        .now(Command::AddAddress(key(1), address("more:1")))
        .unwrap();
    let kept = addresses(&bench);
    assert_eq!(
        (kept.len(), &kept[0]),
        (limits::ADDRESSES, &address("more:1"))
    );
    assert!(!kept.contains(&address("host0:1")) && kept.contains(&address("host1:1")));
    let too_many = vec![database(1); limits::DATABASES + 1];
    let target = Target::Peer(key(1));
    let error = bench.now(Command::Sync {
        target,
        databases: Selection::These(too_many),
        create: false,
    });
    assert!(matches!(error, Err(EngineError::TooMany { .. })));
}

#[test]
fn no_more_peers_than_the_limit() {
    let mut bench = Bench::new();
    for n in 0..limits::PEERS as u64 {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        bench
            .now(Command::RegisterPeer {
                key: bytes.into(),
                name: None,
            })
            .unwrap();
    }
    let error = bench
        .now(Command::RegisterPeer {
            key: key(1),
            name: None,
        })
        .unwrap_err();
    assert_eq!(
        error,
        EngineError::TooMany {
            what: "peers",
            limit: limits::PEERS
        }
    );
    // One who answers at an address is no exception.
    let id = bench.command(Command::Connect(Target::Address(address("new:1"))));
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    assert_eq!(bench.reply(id), Some(Err(error)));
    assert_eq!(bench.closed(), Some(link));
}

#[test]
fn whoever_answers_at_an_address_becomes_a_peer() {
    let mut bench = Bench::new();
    let id = bench.command(Command::Connect(Target::Address(address(
        "peer.example.com:8080",
    ))));
    let (link, dialled, pinned) = bench.connect().unwrap();
    assert_eq!(
        (dialled.as_str(), pinned),
        ("http://peer.example.com:8080", None)
    );
    bench.now += 5;
    bench.connected(link, key(1));
    assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    let peer = bench.engine.peer(&key(1)).unwrap();
    assert_eq!(
        (peer.addresses.clone(), peer.last_seen_ms),
        (vec![address("peer.example.com:8080")], Some(bench.now))
    );
    // Open already: no second dial for the peer.
    assert_eq!(
        bench.now(Command::Connect(Target::Peer(key(1)))),
        Ok(Response::Peer(key(1)))
    );
    assert_eq!(bench.connect(), None);
}

#[test]
fn a_pinned_address_admits_nobody_else() {
    let mut bench = Bench::new();
    let id = bench.command(Command::Connect(Target::Address(
        address("a:1").with_key(key(1)),
    )));
    let (link, _, pinned) = bench.connect().unwrap();
    assert_eq!(pinned, Some(key(1)));
    bench.connected(link, key(2));
    let error = bench.reply(id).unwrap().unwrap_err();
    assert_eq!(error.blame(), Blame::Peer);
    assert_eq!(bench.closed(), Some(link));
    assert!(bench.engine.peers().next().is_none());
}

#[test]
fn a_peers_addresses_are_tried_one_after_the_other() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["first:1", "second:1", "third:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    let (link, dialled, pinned) = bench.connect().unwrap();
    assert_eq!((dialled.as_str(), pinned), ("http://first:1", Some(key(1))));
    bench.connect_failed(link);
    // Somebody else is there now.
    let (link, dialled, _) = bench.connect().unwrap();
    assert_eq!(dialled, "http://second:1");
    bench.connected(link, key(2));
    let (link, dialled, _) = bench.connect().unwrap();
    assert_eq!(dialled, "http://third:1");
    bench.connected(link, key(1));
    assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    // What worked comes first the next time.
    assert_eq!(
        bench.engine.peer(&key(1)).unwrap().addresses[0],
        address("third:1")
    );
    assert!(bench.engine.peer(&key(2)).is_none());
    bench.input(Input::Disconnected(link));

    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    for _ in 0..3 {
        let (link, ..) = bench.connect().unwrap();
        bench.connect_failed(link);
    }
    assert!(matches!(
        bench.reply(id),
        Some(Err(EngineError::Connect(_)))
    ));
}

#[test]
fn a_stale_address_costs_a_quarter_of_a_second() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["stale:1", "good:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    let (stale, dialled, _) = bench.connect().unwrap();
    assert_eq!(dialled, "http://stale:1");
    bench.pass_until(bench.now + limits::DIAL_STAGGER_MS - 1);
    assert_eq!(bench.connect(), None);
    bench.pass_until(bench.now + 1);
    let (good, dialled, pinned) = bench.connect().unwrap();
    assert_eq!((dialled.as_str(), pinned), ("http://good:1", Some(key(1))));
    bench.connected(good, key(1));
    assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    assert_eq!(bench.closed(), Some(stale), "who loses is not waited for");
    // Whatever became of it meanwhile changes nothing.
    bench.connect_failed(stale);
    bench.connected(stale, key(1));
    assert_eq!(bench.closed(), Some(stale));
    let sync = bench.sync(key(1), &[database(1)]);
    assert_eq!(bench.task().unwrap().1, good);
    assert_eq!(bench.reply(sync), None);
    // What worked comes first the next time.
    bench.input(Input::Disconnected(good));
    let _again = bench.sync(key(1), &[database(2)]);
    assert_eq!(bench.connect().unwrap().1, "http://good:1");
}

#[test]
fn the_first_address_where_the_peer_proves_its_key_wins() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["a:1", "b:1", "c:1", "d:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    let (a, ..) = bench.connect().unwrap();
    bench.pass_until(bench.now + limits::DIAL_STAGGER_MS);
    let (b, ..) = bench.connect().unwrap();
    // Somebody else is there: the next one need not wait.
    bench.connected(b, key(2));
    assert_eq!(bench.closed(), Some(b));
    let (c, dialled, _) = bench.connect().unwrap();
    assert_eq!(dialled, "http://c:1");
    bench.pass_until(bench.now + limits::DIAL_STAGGER_MS);
    let (d, ..) = bench.connect().unwrap();
    bench.connected(c, key(1));
    assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    let closed = [bench.closed(), bench.closed(), bench.closed()];
    assert_eq!(closed, [Some(a), Some(d), None]);
    assert!(bench.engine.peer(&key(2)).is_none());
    bench.pass_until(bench.now + 1_000);
    assert_eq!(bench.connect(), None);
}

#[test]
fn a_dial_fails_when_all_its_attempts_have_and_says_what_tells_most() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["a:1", "b:1", "c:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    bench.pass_until(bench.now + 10 * limits::DIAL_STAGGER_MS);
    let links: Vec<_> = std::iter::from_fn(|| bench.connect().map(|dial| dial.0)).collect();
    assert_eq!(links.len(), 3, "each once");
    bench.connected(links[1], key(2));
    bench.connect_failed(links[2]);
    assert_eq!(bench.reply(id), None);
    bench.connect_failed(links[0]);
    let error = bench.reply(id).unwrap().unwrap_err();
    assert_eq!(
        error.blame(),
        Blame::Peer,
        "somebody else answered: {error}"
    );
}

#[test]
fn an_address_that_is_given_during_a_dial_is_tried_at_once() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["stale:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    let (stale, ..) = bench.connect().unwrap();
    bench.pass_until(bench.now + 5_000);
    bench
        .now(Command::AddAddress(key(1), address("good:1")))
        .unwrap();
    bench.pass_until(bench.now);
    let (good, dialled, _) = bench.connect().unwrap();
    assert_eq!(dialled, "http://good:1");
    bench.connected(good, key(1));
    assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    assert_eq!(bench.closed(), Some(stale));
}

/// As a ticket names it.
#[test]
fn a_device_is_looked_for_at_all_addresses_that_are_given() {
    let mut bench = Bench::new();
    let target = |addresses: &[&str]| Target::Device {
        key: key(1),
        addresses: addresses.iter().map(|text| address(text)).collect(),
    };
    let nowhere = bench.now(Command::Connect(target(&[])));
    assert_eq!(nowhere, Err(EngineError::NoAddress(key(1))));
    let id = bench.command(Command::Connect(target(&["a:1", "b:1"])));
    let (a, _, pinned) = bench.connect().unwrap();
    assert_eq!(pinned, Some(key(1)));
    // Two who ask at once share the dial.
    let too = bench.command(Command::Connect(target(&["b:1", "c:1"])));
    bench.pass_until(bench.now);
    let (b, dialled, _) = bench.connect().unwrap();
    assert_eq!((dialled.as_str(), bench.connect()), ("http://b:1", None));
    assert!(bench.engine.peers().next().is_none(), "nothing is proven");
    bench.connected(b, key(1));
    for id in [id, too] {
        assert_eq!(bench.reply(id), Some(Ok(Response::Peer(key(1)))));
    }
    assert_eq!(bench.closed(), Some(a));
    let peer = bench.engine.peer(&key(1)).unwrap();
    assert_eq!(peer.addresses, [address("b:1")], "the one that led there");
    // The connection that is there will do.
    let again = bench.now(Command::Connect(target(&["a:1"])));
    assert_eq!(again, Ok(Response::Peer(key(1))));
    assert_eq!(bench.connect(), None);
    bench
        .now(Command::SetStatus(key(1), PeerStatus::Blocked))
        .unwrap();
    let blocked = bench.now(Command::Connect(target(&["a:1"])));
    assert_eq!(blocked, Err(EngineError::Blocked(key(1))));
}

#[test]
fn a_peer_that_is_blocked_is_dialled_no_further() {
    let mut bench = Bench::new();
    bench.peer_at(1, &["a:1", "b:1", "c:1"]);
    let id = bench.command(Command::Connect(Target::Peer(key(1))));
    let (a, ..) = bench.connect().unwrap();
    bench
        .now(Command::SetStatus(key(1), PeerStatus::Blocked))
        .unwrap();
    assert_eq!(bench.closed(), Some(a));
    assert_eq!(bench.reply(id), Some(Err(EngineError::Blocked(key(1)))));
    bench.pass_until(bench.now + 10_000);
    assert_eq!(bench.connect(), None);
}

#[test]
fn blocked_peers_are_neither_dialled_nor_answered() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    bench
        .now(Command::SetStatus(key(1), PeerStatus::Blocked))
        .unwrap();
    assert_eq!(bench.closed(), Some(link));
    assert!(!bench.engine.admits(&key(1)) && bench.engine.admits(&key(2)));
    assert_eq!(
        bench.now(Command::Connect(Target::Peer(key(1)))),
        Err(EngineError::Blocked(key(1)))
    );
    let id = bench.command(Command::Connect(Target::Address(address("peer1:1"))));
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    assert_eq!(bench.reply(id), Some(Err(EngineError::Blocked(key(1)))));
    assert_eq!(bench.closed(), Some(link));
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    bench.pass_until(bench.now + 3_600_000);
    assert_eq!(bench.connect(), None);
}

#[test]
fn idle_connections_are_closed() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    bench.pass_until(bench.now + limits::LINK_IDLE_MS - 1);
    assert_eq!(bench.closed(), None);
    bench.pass_until(bench.now + 1);
    assert_eq!(bench.closed(), Some(link));
    let _id = bench.sync(key(1), &[database(1)]);
    assert!(bench.connect().is_some(), "dialled again when needed");
}

#[test]
fn a_newer_connection_takes_over_when_the_old_one_is_done() {
    let mut bench = Bench::new();
    let old = bench.with_peer(1);
    let _first = bench.sync(key(1), &[database(1)]);
    let (task, link, _) = bench.task().unwrap();
    assert_eq!(link, old);
    let new = bench.with_peer(1);
    assert_eq!(bench.closed(), None, "a session runs on it");
    let _second = bench.sync(key(1), &[database(2)]);
    assert_eq!(bench.task().unwrap().1, new);
    bench.synced(task, Ok(crate::bench::outcome()));
    assert_eq!(bench.closed(), Some(old));
}

/// Whatever a peer says or sends, it is dialled only where a user said that it is.
#[test]
fn nothing_that_a_peer_says_is_dialled() {
    let mut bench = Bench::new();
    // A stranger comes to us, names itself like an address, and asks for access.
    bench.input(Input::Seen(key(1)));
    let facts = Facts {
        here: true,
        explicit: None,
        wildcard: None,
    };
    let request = AccessRequest {
        database: database(1),
        key: key(9),
        permission: Permission::Read,
        name: KeyName::new("http://127.0.0.1:1").unwrap(),
        device: key(1),
        nonce: [1; 16],
    };
    let signed = request.sign(&secret(9)).unwrap();
    bench.engine.receive_bootstrap(&signed, facts, bench.now);
    bench.drain();
    bench.pass_until(bench.now + 3_600_000);
    assert_eq!(bench.connect(), None);
    assert!(bench.engine.peers().all(|peer| peer.addresses.is_empty()));
    // Somebody registers it, without an address: there is nowhere to dial.
    let name = Some("http://169.254.169.254:80".to_owned());
    bench
        .now(Command::RegisterPeer { key: key(1), name })
        .unwrap();
    bench.now(Command::Relate(key(1), database(1))).unwrap();
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    bench.input(Input::Seen(key(1)));
    assert!(bench.now(Command::Connect(Target::Peer(key(1)))).is_err());
    bench.pass_until(bench.now + 3_600_000);
    assert_eq!(bench.connect(), None);
    // With one address, that is where it is dialled, however often it comes from elsewhere.
    bench
        .now(Command::AddAddress(key(1), address("peer1:1")))
        .unwrap();
    bench.input(Input::Seen(key(1)));
    let mut dialled = std::collections::BTreeSet::new();
    for _ in 0..20 {
        bench.pass_until(bench.now + 600_000);
        while let Some((link, address, _)) = bench.connect() {
            dialled.insert(address);
            bench.input(Input::Seen(key(1)));
            bench.connect_failed(link);
        }
    }
    assert_eq!(dialled, ["http://peer1:1".to_owned()].into());
}
