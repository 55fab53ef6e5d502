//! What a sync costs and leads to, for every way in which two histories can stand to each other.

use std::collections::BTreeSet;

use eidetica_entry::Id;
use eidetica_protocol::{Failure, Outcome, PushOutcome, Relation};

use crate::{
    model::{Replica, Store, real_history},
    pair::{Parties, Wire, config, run, sync, sync_over},
};

fn assert_equal(a: &Store, b: &Store) {
    assert_eq!(a.get().ids(), b.get().ids());
    assert_eq!(a.get().tips(), b.get().tips());
}

/// Syncs and checks that both sides end equal and that nothing crossed that was there already.
fn sync_exactly(client: &mut Store, server: &mut Store) -> (Outcome, Wire) {
    let database = server.get().database;
    let (ours, theirs) = match &client.replica {
        Some(replica) => (replica.ids(), server.get().ids()),
        None => (BTreeSet::new(), server.get().ids()),
    };
    let mut wire = Wire::default();
    let outcome = sync_over(client, server, database, &mut wire).unwrap();
    assert_equal(client, server);
    assert!(outcome.complete);
    assert_eq!(
        outcome.received.known + outcome.received.pending + outcome.received.rejected,
        u64::from(ours.is_empty())
    );
    assert_eq!(
        outcome.received.new + u64::from(ours.is_empty()),
        theirs.difference(&ours).count() as u64
    );
    let missing = ours.difference(&theirs).count() as u64;
    match outcome.push {
        PushOutcome::Nothing => assert_eq!(missing, 0),
        push => assert_eq!(
            push,
            PushOutcome::Done {
                new: missing,
                known: 0,
                pending: 0,
                rejected: 0
            }
        ),
    }
    (outcome, wire)
}

fn chain(history: usize) -> Replica {
    let mut replica = Replica::new(1);
    replica.commit(history, "shared");
    replica
}

#[test]
fn equal_tips_take_one_small_round_trip() {
    let mut client = Store::new(chain(1000));
    let mut server = client.clone();
    let (outcome, wire) = sync_exactly(&mut client, &mut server);
    assert_eq!((outcome.relation, outcome.requests), (Relation::Equal, 1));
    assert!(wire.bytes < 256, "{} bytes", wire.bytes);
    assert_eq!(wire.bytes as u64, outcome.frame_bytes);
}

#[test]
fn a_client_that_is_behind_takes_one_request() {
    let mut client = Store::new(chain(500));
    let mut server = client.clone();
    server.get_mut().commit(300, "theirs");
    let (outcome, _) = sync_exactly(&mut client, &mut server);
    assert_eq!(
        (outcome.relation, outcome.requests, outcome.push),
        (Relation::Behind, 1, PushOutcome::Nothing)
    );
    assert_eq!(outcome.common, vec![server.get().tips()[0].id]);
}

#[test]
fn a_client_that_is_ahead_takes_two_requests() {
    let mut server = Store::new(chain(500));
    let mut client = server.clone();
    client.get_mut().commit(300, "ours");
    let (outcome, _) = sync_exactly(&mut client, &mut server);
    assert_eq!((outcome.relation, outcome.requests), (Relation::Ahead, 2));
    assert_eq!(outcome.common, vec![client.get().tips()[0].id]);
}

#[test]
fn a_database_that_is_not_here_comes_whole_when_asked_for() {
    let mut server = Store::new(chain(3000));
    let mut client = Store::without();
    let (outcome, _) = sync_exactly(&mut client, &mut server);
    assert_eq!((outcome.relation, outcome.requests), (Relation::Absent, 1));

    let parties = Parties::default();
    let config = eidetica_protocol::SyncConfig {
        create: false,
        ..config(server.get().database, &parties)
    };
    let mut nobody = Store::without();
    let result = run(
        config,
        &parties,
        &mut nobody,
        &mut server,
        &mut Wire::default(),
        &mut |_, _, _| {},
    );
    assert_eq!(result, Err(Failure::NotHere));
    assert!(nobody.replica.is_none());
}

#[test]
fn diverged_chains_exchange_exactly_the_difference() {
    for (d, requests) in [(1, 3), (100, 5), (5000, 11)] {
        let mut client = Store::new(chain(300));
        let mut server = client.clone();
        client.get_mut().commit(d, "ours");
        server.get_mut().commit(d, "theirs");
        let (outcome, _) = sync_exactly(&mut client, &mut server);
        assert_eq!(outcome.relation, Relation::Diverged);
        assert!(
            outcome.requests <= requests,
            "{d}: {} requests",
            outcome.requests
        );
        let bound = (3 * d + 16) as u64;
        assert!(outcome.headers <= bound, "{d}: {} headers", outcome.headers);
        // The next sync is cheap again, from either side.
        let (again, wire) = sync_exactly(&mut server, &mut client);
        assert_eq!((again.relation, again.requests), (Relation::Equal, 1));
        assert!(wire.bytes < 512, "{} bytes", wire.bytes);
    }
}

#[test]
fn the_cost_follows_the_difference_and_not_the_history() {
    let cost = |history: usize, d: usize| {
        let mut client = Store::new(chain(history));
        let mut server = client.clone();
        client.get_mut().commit(d, "ours");
        server.get_mut().commit(d, "theirs");
        let (outcome, wire) = sync_exactly(&mut client, &mut server);
        (outcome.requests, wire.bytes)
    };
    for d in [1, 100] {
        let (requests, bytes) = cost(1000, d);
        let (requests_of_long, bytes_of_long) = cost(50_000, d);
        assert_eq!(requests, requests_of_long);
        assert!(
            bytes.abs_diff(bytes_of_long) * 20 < bytes,
            "d {d}: {bytes} and {bytes_of_long} bytes"
        );
        println!("d {d}: {requests} requests, {bytes} bytes at 1k, {bytes_of_long} bytes at 50k");
    }
}

#[test]
fn a_stale_branch_merged_late_costs_the_branch() {
    let mut client = Store::new(chain(20_000));
    let mut server = client.clone();
    // A device that was away since near the beginning.
    let mut old = client.get().missing(&[]);
    old.truncate(10);
    let mut tip = old[9];
    for i in 0..5 {
        tip = server
            .get_mut()
            .commit_on(&[tip], format!("away {i}").as_bytes());
    }
    let head = client.get().tips()[0].id;
    server.get_mut().commit_on(&[head, tip], b"merged");
    client.get_mut().commit(3, "ours");
    let (outcome, wire) = sync_exactly(&mut client, &mut server);
    assert!(outcome.headers < 200, "{} headers", outcome.headers);
    assert!(wire.bytes < 16_000, "{} bytes", wire.bytes);
}

/// The past of some entries of a history.
fn past(whole: &Replica, ids: &[Id], of: &[usize]) -> Replica {
    let mut wanted: BTreeSet<Id> = of.iter().map(|node| ids[*node]).collect();
    for id in ids.iter().rev() {
        if wanted.contains(id) {
            wanted.extend(whole.entry(id).header().parents.iter());
        }
    }
    let mut part = Replica::empty(whole.database);
    part.insert(whole.entry(&whole.database));
    ids.iter().filter(|id| wanted.contains(id)).for_each(|id| {
        part.insert(whole.entry(id));
    });
    part
}

#[test]
fn a_real_history_cut_before_its_merges_comes_together_again() {
    let (whole, ids) = real_history();
    let node_of = |id: &Id| ids.iter().position(|other| other == id).unwrap();
    // What two branches had apart from each other when they were merged, the most divided first.
    let mut merges: Vec<(usize, Id, Id)> = Vec::new();
    for id in ids.iter().step_by(2) {
        if let [a, b] = whole.entry(id).header().parents[..] {
            let apart = whole
                .between(&[a], &[b])
                .len()
                .min(whole.between(&[b], &[a]).len());
            merges.push((apart, a, b));
        }
    }
    merges.sort_by_key(|(apart, ..)| std::cmp::Reverse(*apart));
    assert!(merges.len() > 500);
    let mut diverged = 0;
    for (apart, a, b) in merges.iter().step_by(merges.len() / 12).chain(&merges[..6]) {
        let ours = past(&whole, &ids, &[node_of(a)]);
        let theirs = past(&whole, &ids, &[node_of(b)]);
        let (lacks, has) = (
            theirs.ids().difference(&ours.ids()).count(),
            ours.ids().difference(&theirs.ids()).count(),
        );
        assert_eq!(*apart, lacks.min(has));
        let (mut client, mut server) = (Store::new(ours), Store::new(theirs));
        let (outcome, wire) = sync_exactly(&mut client, &mut server);
        println!(
            "we lack {lacks}, they lack {has}: {:?}, {} requests, {} headers, {} bytes",
            outcome.relation, outcome.requests, outcome.headers, wire.bytes
        );
        diverged += usize::from(outcome.relation == Relation::Diverged);
        assert!(outcome.requests <= 12);
        assert!(
            outcome.headers <= 8 * lacks as u64 + 200,
            "{} headers for {lacks}",
            outcome.headers
        );
    }
    assert!(diverged > 10, "{diverged}");
}

#[test]
fn entries_that_come_during_a_sync_are_not_lost() {
    let mut client = Store::new(chain(300));
    let mut server = client.clone();
    client.get_mut().commit(150, "ours");
    server.get_mut().commit(150, "theirs");
    let parties = Parties::default();
    let config = config(client.get().database, &parties);
    let mut wire = Wire::default();
    let outcome = run(
        config,
        &parties,
        &mut client,
        &mut server,
        &mut wire,
        &mut |request, client, server| {
            client
                .get_mut()
                .commit(2, &format!("ours, later {request}"));
            server
                .get_mut()
                .commit(2, &format!("theirs, later {request}"));
        },
    );
    assert!(outcome.unwrap().complete);
    for _ in 0..2 {
        sync(&mut client, &mut server).unwrap();
    }
    assert_equal(&client, &server);
    assert_eq!(client.get().len(), 301 + 300 + 4 * wire.requests);
}

#[test]
fn the_last_common_frontier_saves_headers() {
    let mut client = Store::new(chain(300));
    let mut server = client.clone();
    let common = vec![client.get().tips()[0].id];
    client.get_mut().commit(1, "ours");
    server.get_mut().commit(1, "theirs");
    let parties = Parties::default();
    let config = eidetica_protocol::SyncConfig {
        common,
        ..config(client.get().database, &parties)
    };
    let outcome = run(
        config,
        &parties,
        &mut client,
        &mut server,
        &mut Wire::default(),
        &mut |_, _, _| {},
    )
    .unwrap();
    assert_eq!((outcome.headers, outcome.requests), (1, 3));
    assert_equal(&client, &server);
}

#[test]
fn more_tips_than_fit_into_a_message_still_come_together() {
    let wide = |name: &str, count: usize, replica: &mut Replica| {
        let root = replica.database;
        for i in 0..count {
            replica.commit_on(&[root], format!("{name} {i}").as_bytes());
        }
    };
    let mut base = Replica::new(1);
    wide("shared", 4200, &mut base);
    let (mut client, mut server) = (Store::new(base.clone()), Store::new(base));
    let outcome = sync(&mut client, &mut server).unwrap();
    assert_eq!(outcome.relation, Relation::Equal);
    wide("ours", 30, client.get_mut());
    wide("theirs", 30, server.get_mut());
    let mut rounds = 0;
    while client.get().ids() != server.get().ids() {
        sync(&mut client, &mut server).unwrap();
        rounds += 1;
        assert!(rounds < 3);
    }
}
