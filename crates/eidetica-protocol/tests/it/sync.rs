//! What a sync costs and leads to, for every way in which two histories can stand to each other.

use std::collections::{BTreeSet, VecDeque};

use eidetica_entry::Id;
use eidetica_protocol::{
    Failure, Frame, Input, Outcome, Output, PushOutcome, Refusal, Relation, Reply, Request,
    SyncClient, limits,
};

use crate::{
    model::{Replica, Store, real_history},
    pair::{NOW, Parties, Wire, against, config, run, serve, sync, sync_over},
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

/// What a sync of diverged histories costs: round trips, and bytes of frames that are not packs.
fn cost(client: &mut Store, server: &mut Store, common: Vec<Id>) -> (usize, usize) {
    let differences = {
        let (ours, theirs) = (client.get().ids(), server.get().ids());
        ours.symmetric_difference(&theirs).count()
    };
    let parties = Parties::default();
    let config = eidetica_protocol::SyncConfig {
        common,
        ..config(client.get().database, &parties)
    };
    let mut wire = Wire::default();
    let outcome = run(
        config,
        &parties,
        client,
        server,
        &mut wire,
        &mut |_, _, _| {},
    )
    .unwrap();
    assert_equal(client, server);
    assert!(outcome.complete);
    assert_eq!(outcome.received.known, 0);
    let rest = wire.bytes - wire.pack_bytes;
    println!(
        "{differences} differences: {} round trips, {rest} bytes",
        wire.requests
    );
    (wire.requests, rest)
}

/// Both sides with so many entries in common, and so many more on each.
fn diverged(history: usize, ours: usize, theirs: usize) -> (Store, Store, Vec<Id>) {
    let mut client = Store::new(chain(history));
    let mut server = client.clone();
    let common = vec![client.get().tips()[0].id];
    client.get_mut().commit(ours, "ours");
    server.get_mut().commit(theirs, "theirs");
    (client, server, common)
}

#[test]
fn with_the_last_frontier_in_mind_two_round_trips_exchange_the_difference() {
    for history in [1_000, 10_000] {
        for (ours, theirs) in [
            (1, 1),
            (1, 100),
            (100, 1),
            (100, 100),
            (2_000, 2_000),
            (10, 5_000),
        ] {
            let (mut client, mut server, common) = diverged(history, ours, theirs);
            let (round_trips, bytes) = cost(&mut client, &mut server, common);
            assert_eq!(round_trips, 2, "{history}: {ours}, {theirs}");
            assert!(
                bytes <= 48 * (ours + theirs) + 512,
                "{history}: {ours}, {theirs}: {bytes}"
            );
        }
    }
}

#[test]
fn without_any_memory_four_round_trips_exchange_the_difference() {
    for history in [1_000, 4_095, 4_096, 4_099, 10_000] {
        for (ours, theirs) in [
            (1, 1),
            (8, 8),
            (17, 17),
            (1, 40),
            (100, 100),
            (1, 700),
            (700, 1),
            (3_000, 3_000),
        ] {
            let (mut client, mut server, _) = diverged(history, ours, theirs);
            let (round_trips, bytes) = cost(&mut client, &mut server, Vec::new());
            assert!(
                round_trips <= 4,
                "{history}: {ours}, {theirs}: {round_trips}"
            );
            assert!(
                bytes <= 64 * (ours + theirs) + 4096,
                "{history}: {ours}, {theirs}: {bytes}"
            );
        }
    }
}

#[test]
fn the_cost_follows_the_difference_and_not_the_history() {
    for d in [1, 100] {
        let costs = [1_000, 50_000].map(|history| {
            let (mut client, mut server, _) = diverged(history, d, d);
            cost(&mut client, &mut server, Vec::new()).1
        });
        assert!(costs[1] <= costs[0] + 2048, "{d}: {costs:?}");
    }
}

#[test]
fn after_a_sync_the_next_one_is_cheap_from_either_side() {
    let (mut client, mut server, _) = diverged(300, 100, 100);
    sync_exactly(&mut client, &mut server);
    let (again, wire) = sync_exactly(&mut server, &mut client);
    assert_eq!((again.relation, again.requests), (Relation::Equal, 1));
    assert!(wire.bytes < 256, "{} bytes", wire.bytes);
}

/// A height with so many entries, of which each side has some alone.
#[test]
fn a_crowded_height_is_divided_by_ids() {
    let mut base = chain(20);
    let parent = base.tips()[0].id;
    for n in 0..5_000_u32 {
        base.commit_on(&[parent], &n.to_le_bytes());
    }
    let (mut client, mut server) = (Store::new(base.clone()), Store::new(base));
    for n in 0..5_u32 {
        client
            .get_mut()
            .commit_on(&[parent], &(10_000 + n).to_le_bytes());
        server
            .get_mut()
            .commit_on(&[parent], &(20_000 + n).to_le_bytes());
    }
    let (round_trips, bytes) = cost(&mut client, &mut server, Vec::new());
    // Some of it are thousands of tips in each answer.
    let tips = 3 * 4_096 * 34;
    assert!(round_trips <= 6, "{round_trips}");
    assert!(bytes < tips + 20_000, "{bytes}");
}

#[test]
fn a_difference_that_is_too_large_for_one_exchange_takes_several() {
    let mut server = Store::new(chain(10));
    let mut client = server.clone();
    let many = limits::FOUND_IDS + 1_000;
    client.get_mut().commit(many, "ours");
    server.get_mut().commit(3, "theirs");
    let (outcome, wire) = sync_exactly(&mut client, &mut server);
    assert_eq!(outcome.relation, Relation::Diverged);
    assert!(wire.requests <= 12, "{}", wire.requests);
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
    assert!(outcome.requests <= 8, "{} requests", outcome.requests);
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
        let rest = wire.bytes - wire.pack_bytes;
        println!(
            "we lack {lacks}, they lack {has}: {:?}, {} round trips, {rest} bytes",
            outcome.relation, outcome.requests,
        );
        diverged += usize::from(outcome.relation == Relation::Diverged);
        assert!(outcome.requests <= 5, "{}", outcome.requests);
        assert!(
            rest <= 64 * (lacks + has) + 5120,
            "{rest} bytes for {lacks} and {has}"
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
fn a_last_frontier_that_one_side_has_lost_costs_round_trips_only() {
    for lost_here in [true, false] {
        let (mut client, mut server, mut common) = diverged(300, 20, 20);
        let lost = match lost_here {
            true => server.get_mut().commit_on(&common, b"nobody else has it"),
            false => client.get_mut().commit_on(&common, b"nobody else has it"),
        };
        common.push(lost);
        let (round_trips, _) = cost(&mut client, &mut server, common);
        assert!(round_trips <= 4, "{round_trips}");
    }
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

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % most
    }

    /// Entries on one to three others, new ones or any.
    fn grow(&mut self, replica: &mut Replica, count: usize, name: &str) {
        for n in 0..count {
            let stamps = replica.stamps();
            let recent = match self.below(5) {
                0 => stamps.len(),
                _ => stamps.len().min(8),
            };
            let mut parents: Vec<Id> = (0..1 + self.below(3))
                .map(|_| stamps[stamps.len() - 1 - self.below(recent)].id)
                .collect();
            parents.sort_unstable();
            parents.dedup();
            replica.commit_on(&parents, format!("{name} {n}").as_bytes());
        }
    }

    fn split(&mut self) -> (Store, Store, Vec<Id>) {
        let mut base = Replica::new(1);
        let shared = self.below(300);
        self.grow(&mut base, shared, "shared");
        let common = base
            .tips()
            .iter()
            .rev()
            .take(64)
            .map(|tip| tip.id)
            .collect();
        let (mut client, mut server) = (Store::new(base.clone()), Store::new(base));
        for (store, name) in [(&mut client, "ours"), (&mut server, "theirs")] {
            let count = [0, 3, 40, 200][self.below(4)];
            self.grow(store.get_mut(), count, name);
        }
        (client, server, common)
    }
}

#[test]
fn random_histories_exchange_exactly_what_is_different() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (client, server, common) = dice.split();
        let (mut a, mut b) = (client.clone(), server.clone());
        sync_exactly(&mut a, &mut b);
        // The same from the other side, and from what both had last.
        let (mut a, mut b) = (server.clone(), client.clone());
        sync_exactly(&mut a, &mut b);
        let (mut a, mut b) = (client, server);
        let (round_trips, _) = cost(&mut a, &mut b, common);
        assert!(round_trips <= 2, "seed {seed}: {round_trips}");
    }
}

#[test]
fn one_more_sync_is_enough_whatever_came_meanwhile() {
    for seed in 0..60 {
        let mut dice = Dice(1_000 + seed);
        let (mut client, mut server, common) = dice.split();
        let parties = Parties::default();
        let config = eidetica_protocol::SyncConfig {
            common: if seed % 2 == 0 { common } else { Vec::new() },
            ..config(client.get().database, &parties)
        };
        let mut meddle = |request: usize, client: &mut Store, server: &mut Store| {
            let (ours, theirs) = (dice.below(5), dice.below(5));
            dice.grow(client.get_mut(), ours, &format!("ours, later {request}"));
            dice.grow(
                server.get_mut(),
                theirs,
                &format!("theirs, later {request}"),
            );
        };
        let mut wire = Wire::default();
        let before = (client.get().ids(), server.get().ids());
        run(
            config,
            &parties,
            &mut client,
            &mut server,
            &mut wire,
            &mut meddle,
        )
        .unwrap();
        assert!(
            client.get().ids().is_superset(&before.0) && server.get().ids().is_superset(&before.1)
        );
        let outcome = sync(&mut client, &mut server).unwrap();
        assert_equal(&client, &server);
        assert!(outcome.complete, "seed {seed}");
    }
}

/// Whoever has an entry for a server without room gets all that the server has, every time, and the refusal at the end.
#[test]
fn a_full_server_gives_all_the_same() {
    let (mut client, mut server) = (Store::new(chain(50)), Store::new(chain(50)));
    client.get_mut().commit(700, "ours");
    server.get_mut().commit(700, "theirs");
    server.full = true;
    for step in 1..=3 {
        let held = server.get().ids();
        let refused = Err(Failure::Refused(Refusal::UNAVAILABLE));
        assert_eq!(sync(&mut client, &mut server), refused, "{step}");
        assert_eq!(server.get().ids(), held);
        assert!(client.get().ids().is_superset(&held), "{step}");
        server.get_mut().commit(1, "more");
    }
    server.full = false;
    sync(&mut client, &mut server).unwrap();
    assert_equal(&client, &server);
}

/// Two that have gone their own ways, and what a server answers that compares and refuses all else.
fn refuses_pushes(server: &mut Store) -> impl FnMut(&Request) -> Vec<Frame> {
    move |request| match request {
        Request::Push { .. } => vec![Frame::Reply(Reply::Refused(Refusal::UNAVAILABLE))],
        request => {
            let request = Frame::Request(request.clone()).encode().unwrap();
            let parties = Parties::default();
            let (response, _) = serve(&parties, server, vec![request], &mut Wire::default());
            let decoded = response.iter().map(|frame| Frame::decode(frame).unwrap());
            decoded.collect()
        }
    }
}

/// What is pushed is refused, and so is what is asked for alone: that is the end.
#[test]
fn a_server_that_gives_nothing_is_asked_once_more() {
    let (mut client, mut server) = (Store::new(chain(50)), Store::new(chain(50)));
    client.get_mut().commit(1, "ours");
    server.get_mut().commit(1, "theirs");
    let database = server.get().database;
    let (result, requests) = against(&mut client, database, &mut refuses_pushes(&mut server));
    assert_eq!(result, Err(Failure::Refused(Refusal::UNAVAILABLE)));
    assert_eq!(requests, 3);
}

/// It refuses the first pack while the next page is looked for: the answer to that is still to come.
#[test]
fn a_push_is_refused_at_any_time() {
    let (mut client, mut server) = (Store::new(chain(50)), Store::new(chain(50)));
    client.get_mut().commit(3_000, "ours");
    server.get_mut().commit(1, "theirs");
    let database = server.get().database;
    let mut machine = SyncClient::new(config(database, &Parties::default()));
    let mut respond = refuses_pushes(&mut server);
    let (mut response, mut late, mut requests) = (VecDeque::new(), None, 0);
    let result = loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => requests += 1,
            Output::Send(frame) => {
                if let Frame::Request(request) = Frame::decode(&frame).unwrap() {
                    let frames = respond(&request).into_iter();
                    response = frames.map(|frame| frame.encode().unwrap()).collect();
                }
            }
            Output::Query(id, query) => {
                let answer = Input::Answer(id, Ok(client.answer(&query)));
                assert!(late.replace(answer).is_none(), "one query at a time");
            }
            Output::Timeout(_) => {
                // Frames before answers.
                let input = match (machine.wants_frame(), response.pop_front()) {
                    (true, Some(frame)) => Input::Frame(frame),
                    (true, None) if late.is_none() => Input::End,
                    (_, frame) => {
                        response.extend(frame);
                        late.take().expect("waits for nothing")
                    }
                };
                machine.handle_input(input, NOW);
            }
            Output::End | Output::Event(_) => {}
            Output::Done(result) => break result,
            output => panic!("{output:?}"),
        }
    };
    assert_eq!(result, Err(Failure::Refused(Refusal::UNAVAILABLE)));
    assert_eq!(requests, 3);
}
