//! What changes is there at once, whoever dialled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eidetica_auth::{Permission, Revocation, Scope, SecretKey};
use eidetica_database::Holds;
use eidetica_engine::{Reach, Target};
use eidetica_entry::Id;
use eidetica_node::NodeLimits;
use eidetica_protocol::BootstrapAnswer;
use eidetica_storage::{Batch, Direction, Durability, Engine, KeyRange, Row, ScanLimit, Space};

use crate::world::{Net, Peer, eventually, on_selected};

on_selected!(
    commits_travel_at_once_in_both_directions,
    a_commit_is_relayed_and_nobody_gets_it_twice,
    news_go_round_a_ring_once,
    what_was_missed_arrives_after_a_restart_of_either_side,
    a_revoked_reader_gets_nothing_more,
    a_request_that_is_approved_is_fetched_by_itself,
    large_commits_travel_too,
    many_commits_at_once_arrive,
    a_channel_that_the_server_forgot_is_made_again,
    who_holds_more_than_before_has_it_at_once,
);

/// Two that share a database and are connected, the second having dialled.
fn two(net: &Net) -> (Peer, Peer, Id) {
    let (alice, bob) = (Peer::live(net, "alice"), Peer::live(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(10))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    connected(&bob, &alice);
    (alice, bob, id)
}

fn connected(from: &Peer, to: &Peer) {
    eventually("a live stream", || {
        matches!(
            from.node.reach(&to.node.device()),
            Reach::Connected {
                checked_ms: Some(_),
                ..
            }
        )
    });
}

fn arrives(at: &Peer, id: Id, path: &str, value: &str) {
    eventually("the value", || at.has(id) && at.shows(id, path, value));
}

/// How many entries came to a peer from others.
fn count_arrivals(peer: &Peer) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = eidetica_database::Origin::Remote;
    let call = move |_: &_, _: &_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    peer.databases.on_write_from(origin, call).unwrap();
    count
}

fn commits_travel_at_once_in_both_directions(net: &Net) {
    let (alice, bob, id) = two(net);
    for round in 0..10 {
        let value = round.to_string();
        alice.write(id, "a", &value);
        arrives(&bob, id, "a", &value);
        bob.write(id, "b", &value);
        arrives(&alice, id, "b", &value);
    }
    assert_eq!(alice.tips(id), bob.tips(id));
    // Both know that the other has it.
    let tip = alice.tips(id);
    eventually("the cursor", || {
        let cursor = bob.node.cursor(&alice.node.device(), &id).unwrap();
        cursor.common == tip
    });
    eventually("the listener's state", || {
        let states = alice.node.pair_states(&id);
        states.len() == 1 && states[0].held.is_some()
    });
}

/// A third one, let in by the first and connected to the second.
fn beside(net: &Net, alice: &Peer, bob: &Peer, id: Id) -> Peer {
    let carol = Peer::live(net, "carol");
    let grant = |transaction: &eidetica_database::Transaction| {
        transaction
            .settings()
            .grant(carol.key.public(), Permission::Write(10), "carol")
    };
    alice.database(id).transact(grant).unwrap();
    eventually("the grant", || bob.tips(id) == alice.tips(id));
    carol.try_sync(&bob.serve(), id).unwrap();
    connected(&carol, bob);
    carol
}

fn a_commit_is_relayed_and_nobody_gets_it_twice(net: &Net) {
    let (alice, bob, id) = two(net);
    let carol = beside(net, &alice, &bob, id);
    let arrivals = [&alice, &bob, &carol].map(count_arrivals);
    for round in 0..5 {
        let value = round.to_string();
        alice.write(id, "a", &value);
        arrives(&carol, id, "a", &value);
        carol.write(id, "c", &value);
        arrives(&alice, id, "c", &value);
    }
    // A callback runs after what it tells of can be read.
    let counts = || {
        arrivals
            .each_ref()
            .map(|count| count.load(Ordering::SeqCst))
    };
    eventually("the callbacks", || counts().iter().sum::<usize>() >= 20);
    assert_eq!(counts(), [5, 10, 5]);
    let device = bob.node.device();
    let sum = |peer: &Peer| peer.node.stats(&device).unwrap().entries_received;
    assert_eq!(
        sum(&carol),
        5 + carol.databases.get(&id).unwrap().entry_count().unwrap() - 10
    );
}

/// Everybody is told by two others, and takes it once.
fn news_go_round_a_ring_once(net: &Net) {
    let (alice, bob, id) = two(net);
    let carol = beside(net, &alice, &bob, id);
    let at_carol = carol.serve();
    alice.try_sync(&at_carol, id).unwrap();
    connected(&alice, &carol);
    let arrivals = [&alice, &bob, &carol].map(count_arrivals);
    let rounds = 10;
    for round in 0..rounds {
        for (writer, path) in [(&alice, "a"), (&bob, "b"), (&carol, "c")] {
            let value = round.to_string();
            writer.write(id, path, &value);
            for peer in [&alice, &bob, &carol] {
                arrives(peer, id, path, &value);
            }
        }
    }
    let counts = || {
        arrivals
            .each_ref()
            .map(|count| count.load(Ordering::SeqCst))
    };
    eventually("the callbacks", || counts() == [2 * rounds; 3]);
    // What goes on for ever would have come again by now.
    alice.write(id, "a", "last");
    for peer in [&bob, &carol] {
        arrives(peer, id, "a", "last");
    }
    eventually("the last callbacks", || {
        counts() == [2 * rounds, 2 * rounds + 1, 2 * rounds + 1]
    });
}

fn what_was_missed_arrives_after_a_restart_of_either_side(net: &Net) {
    let (alice, bob, id) = two(net);
    alice.node.shutdown().wait().unwrap();
    bob.write(id, "b", "while alice was away");
    alice.write(id, "a", "while it was away");
    let alice = alice.restart();
    // It is not where it was: the address is given again.
    let address = alice.serve();
    bob.node
        .add_peer_address(alice.node.device(), address)
        .wait()
        .unwrap();
    bob.node
        .connect(Target::Peer(alice.node.device()))
        .wait()
        .unwrap();
    arrives(&alice, id, "b", "while alice was away");
    arrives(&bob, id, "a", "while it was away");
    bob.node.shutdown().wait().unwrap();
    alice.write(id, "a", "while bob was away");
    let bob = bob.restart();
    // It knows whom to dial.
    arrives(&bob, id, "a", "while bob was away");
}

fn a_revoked_reader_gets_nothing_more(net: &Net) {
    let (alice, bob, id) = two(net);
    let seen = count_arrivals(&bob);
    alice
        .database(id)
        .transact(|transaction| {
            transaction
                .settings()
                .revoke(Revocation::of(bob.key.public()))
        })
        .unwrap();
    for round in 0..5 {
        alice.write(id, "secret", &round.to_string());
    }
    bob.write(id, "b", "from one that is revoked");
    // Whoever asks is told that there is nothing.
    let error = bob.node.sync(
        Target::Peer(alice.node.device()),
        eidetica_engine::Selection::These(vec![id]),
        false,
    );
    assert!(error.wait().unwrap().check().is_err());
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    assert_eq!(bob.read(id, "secret"), None);
}

fn a_request_that_is_approved_is_fetched_by_itself(net: &Net) {
    let (alice, bob) = (Peer::live(net, "alice"), Peer::live(net, "bob"));
    let id = alice.create(&[], None).id();
    alice.write(id, "title", "for those who are let in");
    let address = alice.serve();
    let request = bob.request(id, Permission::Write(10));
    let asked = bob.node.bootstrap(Target::Address(address), request);
    let BootstrapAnswer::Pending(request) = asked.wait().unwrap().answer else {
        panic!()
    };
    let waiting = bob.node.await_request(request, Duration::from_secs(60));
    assert!(!bob.has(id));
    alice
        .node
        .approve(request, alice.key.public())
        .wait()
        .unwrap();
    assert!(waiting.wait().unwrap(), "it was granted");
    assert_eq!(
        bob.read(id, "title").as_deref(),
        Some("for those who are let in")
    );
    // And from then on news come by themselves.
    connected(&bob, &alice);
    alice.write(id, "title", "changed");
    arrives(&bob, id, "title", "changed");
}

fn large_commits_travel_too(net: &Net) {
    let (alice, bob, id) = two(net);
    // Text that does not compress.
    let text = |seed: u64| -> String {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + (state >> 33) as u8 % 90)
        };
        (0..500_000).map(|_| next()).collect()
    };
    for round in 0..3 {
        let (mine, theirs) = (text(round), text(100 + round));
        alice.write(id, "a", &mine);
        arrives(&bob, id, "a", &mine);
        bob.write(id, "b", &theirs);
        arrives(&alice, id, "b", &theirs);
    }
}

fn many_commits_at_once_arrive(net: &Net) {
    let (alice, bob, id) = two(net);
    std::thread::scope(|scope| {
        for (peer, name) in [(&alice, "alice"), (&bob, "bob")] {
            scope.spawn(move || {
                for n in 0..200 {
                    peer.write(id, &format!("{name}.{n}"), name);
                }
            });
        }
    });
    eventually("the same", || alice.tips(id) == bob.tips(id));
    assert_eq!(alice.read(id, "bob.199").as_deref(), Some("bob"));
    assert_eq!(bob.read(id, "alice.199").as_deref(), Some("alice"));
}

fn a_channel_that_the_server_forgot_is_made_again(net: &Net) {
    let (alice, bob, id) = two(net);
    alice.node.stop_server().wait().unwrap();
    alice.write(id, "a", "nobody listens");
    let address = alice.serve();
    bob.node
        .add_peer_address(alice.node.device(), address)
        .wait()
        .unwrap();
    arrives(&bob, id, "a", "nobody listens");
}

#[test]
fn two_hundred_stalled_listeners_do_not_slow_an_honest_one() {
    let net = Net::memory();
    let limits = NodeLimits::default();
    let (alice, bob, id) = two(&net);
    let everybody = |transaction: &eidetica_database::Transaction| {
        transaction.settings().set_wildcard(Some(Permission::Read))
    };
    alice.database(id).transact(everybody).unwrap();
    let address = alice.node.server_addresses().remove(0);
    let stalled = crate::hostile::stalled_listeners(&net, &address, id, 200);
    let text = "z".repeat(8_000);
    let begun = Instant::now();
    for round in 0..50 {
        alice.write(id, "text", &format!("{text}{round}"));
        alice.write(id, "round", &round.to_string());
        arrives(&bob, id, "round", &round.to_string());
        assert!(
            begun.elapsed() < limits.send,
            "an honest peer waits for stalled ones"
        );
    }
    drop(stalled);
}

#[test]
fn a_database_that_is_damaged_keeps_no_other_from_being_heard() {
    let net = Net::memory();
    let (alice, bob) = (Peer::live(&net, "alice"), Peer::live(&net, "bob"));
    let write = [(bob.key.public(), Permission::Write(10))];
    let [damaged, sound] = [(); 2].map(|()| alice.create(&write, None).id());
    let address = alice.serve();
    for id in [damaged, sound] {
        bob.try_sync(&address, id).unwrap();
    }
    connected(&bob, &alice);
    for peer in [&alice, &bob] {
        // Its version row is the one that a commit changes.
        let before = versions(&peer.engine);
        peer.write(damaged, peer.name, "last");
        let after = versions(&peer.engine);
        let changed = after.into_iter().find(|row| !before.contains(row)).unwrap();
        let mut batch = Batch::new();
        batch.put(Space::Meta, &changed.key, b"rot");
        peer.engine.write(&batch, Durability::Durable).unwrap();
    }
    let bob = bob.restart();
    connected(&bob, &alice);
    alice.write(sound, "a", "heard");
    arrives(&bob, sound, "a", "heard");
    bob.write(sound, "b", "heard");
    arrives(&alice, sound, "b", "heard");
}

/// The version rows of all databases.
fn versions(engine: &Arc<dyn Engine>) -> Vec<Row> {
    let (all, limit) = (KeyRange::new(b"", b"\xff"), ScanLimit::rows(10_000));
    let snapshot = engine.snapshot().unwrap();
    let page = snapshot.scan(Space::Meta, &all, Direction::Forward, limit);
    let mut rows = page.unwrap().rows;
    rows.retain(|row| row.key.len() == 6 && row.key[1] == b'v');
    rows
}

/// Claims for so many keys that those of the user are behind what a peer takes, by their bytes.
fn crowd(peer: &Peer) {
    let keys = (0..=u8::MAX).map(|seed| SecretKey::from_bytes(&[seed; 32]));
    let before = keys.filter(|key| key.public() < peer.key.public());
    let count = before
        .take(100)
        .map(|key| peer.claim_for(&key, Scope::All))
        .count();
    assert!(count > eidetica_protocol::limits::CLAIMS);
}

/// Both as dialler and as server, by a sync and at once.
#[test]
fn keys_behind_the_first_that_a_peer_takes_are_synced_too() {
    let net = Net::memory();
    let late = |name| loop {
        let peer = Peer::live(&net, name);
        if peer.key.public().as_bytes()[0] > 0x80 {
            break peer;
        }
    };
    let (alice, bob) = (late("alice"), late("bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(10))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    connected(&bob, &alice);
    crowd(&alice);
    crowd(&bob);
    for round in ["1", "2", "3"] {
        bob.write(id, "b", round);
        bob.try_sync(&address, id).unwrap();
        assert!(alice.shows(id, "b", round));
        alice.write(id, "a", round);
        arrives(&bob, id, "a", round);
    }
}

#[test]
fn claims_that_a_server_makes_are_shown_to_whoever_is_connected() {
    let net = Net::memory();
    let (alice, _bob, id) = two(&net);
    let everybody = |transaction: &eidetica_database::Transaction| {
        transaction.settings().set_wildcard(Some(Permission::Read))
    };
    alice.database(id).transact(everybody).unwrap();
    let address = alice.node.server_addresses().remove(0);
    let mut listeners = crate::hostile::stalled_listeners(&net, &address, id, 1);
    let (_, news, _) = &mut listeners[0];
    crate::hostile::hears_claims(news, 1);
    alice.claim_for(&SecretKey::from_bytes(&[9; 32]), Scope::All);
    crate::hostile::hears_claims(news, 2);
}

#[test]
fn poison_on_a_live_stream_ends_that_stream_and_nothing_else() {
    let net = Net::memory();
    let (alice, bob, id) = two(&net);
    let everybody = |transaction: &eidetica_database::Transaction| {
        transaction
            .settings()
            .set_wildcard(Some(Permission::Write(10)))
    };
    alice.database(id).transact(everybody).unwrap();
    let address = alice.node.server_addresses().remove(0);
    for round in 0..3 {
        assert!(
            crate::hostile::poison(&net, &address, id),
            "it is hung up on"
        );
        bob.write(id, "b", &round.to_string());
        arrives(&alice, id, "b", &round.to_string());
    }
}

/// Which is well before the next check, a minute later.
fn who_holds_more_than_before_has_it_at_once(net: &Net) {
    let (alice, bob, id) = two(net);
    for (writer, listener) in [(&alice, &bob), (&bob, &alice)] {
        let there = listener.database(id);
        let hold = |holds: &Holds| {
            there.hold(holds).unwrap();
            listener.node.announce(id, false);
        };
        hold(&Holds::stores(["tags"]).unwrap());
        writer.write(id, "a", "1");
        eventually("the header", || listener.tips(id) == writer.tips(id));
        assert!(there.doc("notes").unwrap().get("a").is_err());
        let begun = Instant::now();
        hold(&Holds::All);
        eventually("the payload", || there.missing().unwrap().is_empty());
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(listener.read(id, "a").as_deref(), Some("1"));
        writer.write(id, "a", "2");
        arrives(listener, id, "a", "2");
    }
}
