//! Syncing: first, again, both ways, diverged, in the background.

use eidetica_auth::{Permission, Revocation};
use eidetica_database::Remedy;
use eidetica_engine::{EngineError, Selection, Target};
use eidetica_node::NodeError;
use eidetica_protocol::{Failure, Refusal, Relation};
use eidetica_storage::{Batch, Direction, Durability, KeyRange, Row, ScanLimit, Space};

use crate::world::{Net, Peer, eventually, on_selected};

on_selected!(
    a_database_arrives_and_changes_travel_both_ways,
    diverged_histories_converge,
    a_long_history_arrives_whole,
    all_related_databases_sync_at_once,
    a_commit_is_announced,
    a_queued_sync_waits_for_its_peer,
    a_database_that_nobody_has_is_absent,
    nobody_stores_what_nobody_there_asked_for,
    a_database_that_is_not_to_be_created_is_not,
    void_entries_find_their_way_to_an_admin,
    damaged_entries_come_back_with_the_next_sync,
    damaged_entries_of_closures_come_back_with_the_next_sync,
);

fn a_database_arrives_and_changes_travel_both_ways(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(10))], None)
        .id();
    alice.write(id, "title", "from alice");
    let address = alice.serve();

    let report = bob.sync(&address, id).wait().unwrap();
    assert_eq!(report.peer, alice.node.device());
    assert_eq!(
        report.databases[0].1.as_ref().unwrap().relation,
        Relation::Absent
    );
    assert_eq!(bob.read(id, "title").as_deref(), Some("from alice"));

    bob.write(id, "answer", "from bob");
    let report = bob.sync(&address, id).wait().unwrap();
    assert_eq!(
        report.databases[0].1.as_ref().unwrap().relation,
        Relation::Ahead
    );
    assert_eq!(alice.read(id, "answer").as_deref(), Some("from bob"));
    assert_eq!(alice.tips(id), bob.tips(id));

    let report = bob.sync(&address, id).wait().unwrap();
    let outcome = report.databases[0].1.as_ref().unwrap();
    assert_eq!((outcome.relation, outcome.requests), (Relation::Equal, 1));
    let cursor = bob.node.cursor(&alice.node.device(), &id).unwrap();
    assert_eq!(cursor.last.unwrap().id, bob.tips(id)[0]);
    assert_eq!(
        bob.node
            .stats(&alice.node.device())
            .unwrap()
            .sync_success_rate(),
        1.0
    );
}

fn diverged_histories_converge(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(10))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    for number in 0..40 {
        alice.write(id, &format!("a.{number}"), "alice");
        bob.write(id, &format!("b.{number}"), "bob");
        alice.write(id, "both", &format!("alice {number}"));
        bob.write(id, "both", &format!("bob {number}"));
    }
    let report = bob.sync(&address, id).wait().unwrap();
    assert_eq!(
        report.databases[0].1.as_ref().unwrap().relation,
        Relation::Diverged
    );
    assert_eq!(alice.tips(id), bob.tips(id));
    assert_eq!(alice.read(id, "both"), bob.read(id, "both"));
    assert_eq!(
        (
            alice.read(id, "b.39").as_deref(),
            bob.read(id, "a.39").as_deref()
        ),
        (Some("bob"), Some("alice"))
    );
    alice.write(id, "merged", "yes");
    bob.try_sync(&address, id).unwrap();
    assert_eq!(bob.tips(id), alice.tips(id));
    assert_eq!(bob.tips(id).len(), 1);
}

fn a_long_history_arrives_whole(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let text = "x".repeat(2_000);
    for number in 0..1_000 {
        alice.write(id, &format!("n.{number}"), &text);
    }
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    assert_eq!(alice.tips(id), bob.tips(id));
    assert_eq!(
        bob.databases.get(&id).unwrap().entry_count().unwrap(),
        1_001
    );
    assert_eq!(bob.read(id, "n.999"), Some(text));
}

fn all_related_databases_sync_at_once(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let ids: Vec<_> = (0..5)
        .map(|_| {
            alice
                .create(&[(bob.key.public(), Permission::Read)], None)
                .id()
        })
        .collect();
    let other = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let address = alice.serve();
    let target = Target::Address(address);
    bob.node
        .sync(target.clone(), Selection::These(ids.clone()), true)
        .wait()
        .unwrap()
        .check()
        .unwrap();
    ids.iter().for_each(|id| alice.write(*id, "new", "value"));
    let report = bob
        .node
        .sync(target, Selection::Related, false)
        .wait()
        .unwrap();
    report.check().unwrap();
    assert_eq!(report.databases.len(), 5);
    assert!(
        ids.iter()
            .all(|id| bob.read(*id, "new").as_deref() == Some("value"))
    );
    assert!(!bob.has(other));
    let mut related = bob.node.related(&alice.node.device());
    related.sort_unstable();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(related, expected);
}

fn a_commit_is_announced(net: &Net) {
    let (alice, bob) = (Peer::live(net, "alice"), Peer::live(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(1))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    bob.write(id, "news", "fresh");
    eventually("the push", || alice.read(id, "news").is_some());
}

fn a_queued_sync_waits_for_its_peer(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(1))], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    alice.node.stop_server().wait().unwrap();
    let device = alice.node.device();
    bob.write(id, "later", "now");
    bob.node.queue(device, id).wait().unwrap();
    eventually("a failed attempt", || {
        bob.node
            .stats(&device)
            .is_some_and(|stats| stats.failures > 0)
            || { bob.node.peer(&device).is_some() }
    });
    let again = alice.serve();
    bob.node.add_peer_address(device, again).wait().unwrap();
    eventually("the retry", || alice.read(id, "later").is_some());
}

fn a_database_that_nobody_has_is_absent(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let address = alice.serve();
    let id = eidetica_entry::Id::new([9; 32]);
    let refused = NodeError::Engine(EngineError::Session(Failure::Refused(Refusal::ABSENT)));
    assert_eq!(bob.try_sync(&address, id), Err(refused));
    assert!(!bob.has(id));
}

fn nobody_stores_what_nobody_there_asked_for(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = bob
        .create(&[(alice.key.public(), Permission::Admin(0))], None)
        .id();
    let address = alice.serve();
    assert!(bob.try_sync(&address, id).is_err());
    assert!(!alice.has(id) && alice.databases.list().unwrap().is_empty());
}

fn a_database_that_is_not_to_be_created_is_not(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let target = Target::Address(alice.serve());
    let report = bob
        .node
        .sync(target, Selection::These(vec![id]), false)
        .wait()
        .unwrap();
    assert!(report.check().is_err());
    assert!(!bob.has(id));
}

fn void_entries_find_their_way_to_an_admin(net: &Net) {
    let (alice, bob, carol) = (
        Peer::new(net, "alice"),
        Peer::new(net, "bob"),
        Peer::new(net, "carol"),
    );
    let others = [
        (bob.key.public(), Permission::Write(10)),
        (carol.key.public(), Permission::Admin(1)),
    ];
    let database = alice.create(&others, None);
    let id = database.id();
    let address = alice.serve();
    for peer in [&bob, &carol] {
        peer.sync(&address, id).wait().unwrap();
    }
    // Bob works offline and does not hear that he may only read from now on.
    for n in 0..3 {
        bob.write(id, &format!("offline {n}"), "from bob");
    }
    let revocation = Revocation {
        to: Some(Permission::Read),
        ..Revocation::of(bob.key.public())
    };
    database
        .transact(|transaction| transaction.settings().revoke(revocation.clone()))
        .unwrap();
    bob.sync(&address, id).wait().unwrap();
    assert_eq!(bob.tips(id), alice.tips(id));
    assert_eq!(alice.read(id, "offline 0"), None);
    assert_eq!(alice.database(id).void_count().unwrap(), 3);
    // Carol has all that counts already, and gets what does not.
    carol.sync(&address, id).wait().unwrap();
    let report = carol.sync(&address, id).wait().unwrap();
    assert_eq!(carol.database(id).void_count().unwrap(), 3);
    let outcome = report.databases[0].1.as_ref().unwrap();
    assert_eq!((outcome.relation, outcome.requests), (Relation::Equal, 1));
    // So she can take it over, though she never met Bob.
    let page = carol.database(id).void_entries(0, 10).unwrap();
    let void: Vec<_> = page.entries.iter().map(|void| void.stamp.id).collect();
    let adopted = carol
        .database(id)
        .transact(|transaction| transaction.settings().adopt(void.iter().copied()));
    // The revoker is stronger than she is.
    assert!(adopted.is_err());
    alice
        .database(id)
        .transact(|transaction| transaction.settings().adopt(void.iter().copied()))
        .unwrap();
    for peer in [&bob, &carol] {
        peer.sync(&address, id).wait().unwrap();
        assert_eq!(peer.read(id, "offline 2").as_deref(), Some("from bob"));
        assert_eq!(peer.database(id).void_count().unwrap(), 0);
    }
}

/// The rows that hold the entries of all databases.
fn log_rows(at: &Peer) -> Vec<Row> {
    let snapshot = at.engine.snapshot().unwrap();
    let (all, limit) = (KeyRange::all(), ScanLimit::default());
    let page = snapshot.scan(Space::Log, &all, Direction::Forward, limit);
    page.unwrap().rows
}

/// Damages some rows, and has a repair find that.
fn damage(at: &Peer, id: eidetica_entry::Id, rows: &[Row]) {
    let mut batch = Batch::new();
    for row in rows {
        batch.put(Space::Log, &row.key, b"damaged");
    }
    at.engine.write(&batch, Durability::Durable).unwrap();
    assert_eq!(
        at.databases.verify().unwrap().databases(Remedy::Fetch),
        [id]
    );
    assert!(at.databases.repair(&id).is_err());
    assert!(at.databases.damaged(&id, 1_000).unwrap().len() >= rows.len());
}

fn damaged_entries_come_back_with_the_next_sync(net: &Net) {
    let alice = Peer::new(net, "alice");
    let id = alice.create(&[], Some(Permission::Write(10))).id();
    for n in 0..300 {
        alice.write(id, &format!("k{n}"), "value");
    }
    let address = alice.serve();
    let bob = Peer::new(net, "bob");
    bob.sync(&address, id).wait().unwrap();
    let whole = log_rows(&bob);
    assert!(whole.len() > 2, "packs and an open block");
    // The root with its settings, one of the newest, all of them; behind, equal, ahead.
    let all: Vec<&[Row]> = vec![&whole[..1], &whole[whole.len() - 1..], &whole];
    for (n, rows) in all.into_iter().enumerate() {
        damage(&bob, id, rows);
        alice.write(id, &format!("later{n}"), "value");
        bob.sync(&address, id).wait().unwrap();
        let report = bob.databases.verify().unwrap();
        assert!(report.is_sound(), "{n}: {:?}", report.faults);
        assert_eq!(alice.tips(id), bob.tips(id));
        assert_eq!(bob.read(id, &format!("later{n}")).as_deref(), Some("value"));
    }
    // A server is given what it lacks.
    let rows = log_rows(&alice);
    damage(&alice, id, &rows[rows.len() - 1..]);
    bob.sync(&address, id).wait().unwrap();
    assert!(alice.databases.verify().unwrap().is_sound());
    assert!(!alice.databases.get(&id).unwrap().is_damaged().unwrap());
}

fn damaged_entries_of_closures_come_back_with_the_next_sync(net: &Net) {
    let alice = Peer::new(net, "alice");
    let team = alice.create(&[], None).id();
    alice.write(team, "secret", "of the team");
    let id = alice.create(&[], Some(Permission::Write(10))).id();
    let floor = alice.tips(team);
    let delegate = |transaction: &eidetica_database::Transaction| {
        let floor = floor.iter().copied();
        let bound = Permission::Write(5);
        transaction
            .settings()
            .delegate(team, bound, floor, "the team")
    };
    alice.database(id).transact(delegate).unwrap();
    let address = alice.serve();
    let bob = Peer::new(net, "bob");
    bob.sync(&address, id).wait().unwrap();
    assert_eq!(bob.databases.list().unwrap(), [id]);
    let mut closures = 0;
    for row in log_rows(&bob) {
        let mut batch = Batch::new();
        batch.put(Space::Log, &row.key, b"damaged");
        bob.engine.write(&batch, Durability::Durable).unwrap();
        let report = bob.databases.verify().unwrap();
        for of in report.databases(Remedy::Fetch) {
            closures += usize::from(of == team);
            assert!(bob.databases.repair(&of).is_err());
        }
        bob.sync(&address, id).wait().unwrap();
        let report = bob.databases.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!(bob.databases.list().unwrap(), [id]);
    }
    assert!(closures > 1);
}
