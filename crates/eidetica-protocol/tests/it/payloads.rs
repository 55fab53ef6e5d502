//! What each side holds, wants and lacks of payloads.

use std::collections::VecDeque;

use eidetica_auth::{DeviceClaim, Scope};
use eidetica_entry::{Entry, Id, PayloadHash, StoreName, pack};
use eidetica_protocol::{
    Failure, Frame, IdPrefix, Input, Outcome, Output, PeerFault, Refusal, Reply, Request, Stores,
    SyncClient, SyncConfig, limits,
};

use crate::model::{Replica, Store, forged};
use crate::pair::{NOW, Parties, Wire, against_at, config, key, run, serve};

fn sync(client: &mut Store, server: &mut Store, wire: &mut Wire) -> Result<Outcome, Failure> {
    sync_over(2, client, server, wire)
}

fn sync_at(version: u16, client: &mut Store, server: &mut Store) -> Result<Outcome, Failure> {
    sync_over(version, client, server, &mut Wire::default())
}

fn sync_over(
    version: u16,
    client: &mut Store,
    server: &mut Store,
    wire: &mut Wire,
) -> Result<Outcome, Failure> {
    let mut parties = Parties::default();
    parties.server.version = version;
    let both = [&client.replica, &server.replica].into_iter().flatten();
    let database = both.map(|replica| replica.database).next().unwrap();
    let config: SyncConfig = config(database, &parties);
    run(config, &parties, client, server, wire, &mut |_, _, _| {})
}

/// Two replicas of the same entries.
fn equals(entries: usize) -> [Store; 2] {
    let mut replica = Replica::new(1);
    replica.commit(entries, "note");
    [Store::new(replica.clone()), Store::new(replica)]
}

#[test]
fn what_is_missing_comes_after_the_entries_are_the_same() {
    let [mut client, mut server] = equals(40);
    client.replica.as_mut().unwrap().strip(|at| at % 2 == 0);
    let mut wire = Wire::default();
    let outcome = sync(&mut client, &mut server, &mut wire).unwrap();
    assert_eq!((outcome.received.filled, client.get().lacking()), (20, 0));
    assert_eq!(outcome.requests, 2);
    let again = sync(&mut client, &mut server, &mut Wire::default()).unwrap();
    assert_eq!((again.requests, again.received.packs), (1, 0));
}

#[test]
fn the_side_that_nobody_can_dial_is_given_what_it_lacks() {
    let [mut client, mut server] = equals(40);
    server.replica.as_mut().unwrap().strip(|at| at > 30);
    let outcome = sync(&mut client, &mut server, &mut Wire::default()).unwrap();
    assert_eq!(server.get().lacking(), 0);
    assert!(outcome.complete && outcome.packs_sent > 0);
    // Both at once, each what the other lacks.
    client.replica.as_mut().unwrap().strip(|at| at % 2 == 0);
    server.replica.as_mut().unwrap().strip(|at| at % 2 == 1);
    sync(&mut client, &mut server, &mut Wire::default()).unwrap();
    assert_eq!((client.get().lacking(), server.get().lacking()), (0, 0));
}

/// A server that reads with a user's key. Where both have the same entries, nothing else has shown it.
#[test]
fn who_lacks_payloads_shows_what_it_may_read_with() {
    for (version, left) in [(2, 9), (3, 0)] {
        let [mut client, mut server] = equals(40);
        server.replica.as_mut().unwrap().strip(|at| at > 31);
        let (user, database) = (key(3), client.get().database);
        let mut parties = Parties::default();
        parties.server.version = version;
        let device = parties.server.device;
        let claim = DeviceClaim::make(&user, device, Scope::All, NOW + 1).unwrap();
        parties.server_claims.push(claim);
        client.readers = Some([user.public()].into());
        let config = config(database, &parties);
        let wire = &mut Wire::default();
        let synced = run(
            config,
            &parties,
            &mut client,
            &mut server,
            wire,
            &mut |_, _, _| {},
        );
        let outcome = synced.unwrap();
        assert!(outcome.complete);
        assert_eq!(server.get().lacking(), left, "version {version}");
        assert_eq!(outcome.holding.lacks, left > 0, "what it may not be given");
    }
}

/// Of what is here: whoever has nothing to give has nothing that the other lacks.
#[test]
fn the_outcome_says_what_the_peer_has_of_the_payloads() {
    let some = Stores::these([StoreName::new("tags").unwrap()]);
    for version in [2, 3] {
        let [mut client, mut server] = equals(40);
        let holding = |client: &mut Store, server: &mut Store| {
            let outcome = sync_at(version, client, server).unwrap();
            outcome.holding
        };
        assert!(holding(&mut client, &mut server).is_whole());
        server.holds = some.clone();
        let found = holding(&mut client, &mut server);
        assert_eq!((&found.stores, found.lacks), (&some, false));
        server.holds = Stores::All;
        server.get_mut().strip(|at| at > 30);
        assert!(holding(&mut client, &mut server).is_whole(), "it was given");
        for store in [&mut client, &mut server] {
            store.get_mut().strip(|at| at > 30);
        }
        assert!(holding(&mut client, &mut server).is_whole());
        assert!(server.get().lacking() > 0);
    }
    // Nobody of version 1 leaves anything out.
    let [mut client, mut server] = equals(40);
    server.holds = some;
    let outcome = sync_at(1, &mut client, &mut server).unwrap();
    assert!(outcome.holding.is_whole());
}

#[test]
fn new_entries_without_their_payloads_are_taken_in_and_filled_elsewhere() {
    let [full, mut sparse] = equals(300);
    sparse.replica.as_mut().unwrap().strip(|_| true);
    sparse.holds = Stores::these([]);
    let (mut fresh, mut full) = (Store::without(), full);
    let outcome = sync(&mut fresh, &mut sparse, &mut Wire::default()).unwrap();
    assert_eq!((outcome.received.new, fresh.get().lacking()), (300, 300));
    // It says that it holds nothing, so it is asked once whether it has kept something.
    assert_eq!(outcome.requests, 2);
    let outcome = sync(&mut fresh, &mut full, &mut Wire::default()).unwrap();
    assert_eq!((outcome.received.filled, fresh.get().lacking()), (300, 0));
}

#[test]
fn who_holds_less_than_before_gives_what_it_has_kept() {
    for version in [2, 3] {
        // It is asked, although it says that it holds none of that.
        let [mut client, mut server] = equals(40);
        client.replica.as_mut().unwrap().strip(|at| at > 20);
        server.holds = Stores::these([]);
        let outcome = sync_at(version, &mut client, &mut server).unwrap();
        assert_eq!((outcome.received.filled, client.get().lacking()), (20, 0));
        let again = sync_at(version, &mut client, &mut server).unwrap();
        assert_eq!((again.requests, again.received.packs), (1, 0));
        // It gives, where it cannot be dialled.
        let [mut client, mut server] = equals(40);
        server.replica.as_mut().unwrap().strip(|at| at > 20);
        client.holds = Stores::these([]);
        sync_at(version, &mut client, &mut server).unwrap();
        assert_eq!(server.get().lacking(), 0, "version {version}");
    }
}

/// Whoever asks for what nobody has gets nothing, and whoever offers it is not asked for ever.
#[test]
fn lies_about_payloads_end_a_sync_and_cost_little() {
    let invented: Vec<IdPrefix> = (0..limits::WANTS as u64)
        .map(|n| {
            let mut bytes = [0xfa; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            IdPrefix::of(&Id::new(bytes))
        })
        .collect();
    for lacks in [true, false] {
        let [mut client, _] = equals(40);
        client.replica.as_mut().unwrap().strip(|at| at > 20);
        let before = client.get().lacking();
        let database = client.get().database;
        let mut asked = Vec::new();
        let mut server = |frame: &Frame| {
            let Frame::RequestFor(_, request) = frame else {
                panic!("{frame:?}")
            };
            match request {
                Request::Compare { tips, .. } => {
                    asked.push("compare");
                    assert!(!tips.ids().is_empty());
                    let stores = match lacks {
                        true => Stores::All,
                        false => Stores::these([]),
                    };
                    vec![Reply::Holds { stores, lacks }, Reply::Equal]
                }
                Request::Payloads { .. } => {
                    asked.push("payloads");
                    let tips = eidetica_protocol::TipList::new(Vec::new());
                    vec![Reply::End { tips }]
                }
                Request::Lacking { .. } => {
                    asked.push("lacking");
                    let (ids, stores) = (invented.clone(), Stores::All);
                    vec![Reply::Lacking { ids, stores }]
                }
                other => panic!("{other:?}"),
            }
        };
        let (result, _) = against_at(3, &mut client, database, &mut |frame| {
            server(frame).into_iter().map(Frame::Reply).collect()
        });
        let outcome = result.unwrap();
        assert_eq!((outcome.received.filled, outcome.packs_sent), (0, 0));
        assert_eq!(client.get().lacking(), before);
        match lacks {
            true => assert_eq!(asked, ["compare", "payloads", "lacking"]),
            false => assert_eq!(asked, ["compare", "payloads"]),
        }
    }
}

#[test]
fn who_holds_and_has_not_is_asked_twice_and_no_more() {
    let entries = 3 * limits::FIRST_LACKING;
    let [mut client, mut server] = equals(entries);
    for store in [&mut client, &mut server] {
        store.replica.as_mut().unwrap().strip(|_| true);
    }
    let mut wire = Wire::default();
    let outcome = sync(&mut client, &mut server, &mut wire).unwrap();
    assert_eq!(outcome.received.filled, 0);
    // The comparison, a round from the first one on and one from anywhere; and what the other lacks.
    assert_eq!(outcome.requests, 4);
    // Somewhere in what is missing there may be something.
    let [mut client, mut server] = equals(entries);
    client.replica.as_mut().unwrap().strip(|_| true);
    server
        .replica
        .as_mut()
        .unwrap()
        .strip(|at| at < 2 * limits::FIRST_LACKING);
    client.somewhere = 2 * limits::FIRST_LACKING as u64;
    let outcome = sync(&mut client, &mut server, &mut Wire::default()).unwrap();
    assert_eq!(outcome.received.filled as usize, limits::FIRST_LACKING + 1);
}

#[test]
fn what_a_side_holds_is_said_once_a_comparison() {
    let [mut client, mut server] = equals(20);
    server.replica.as_mut().unwrap().strip(|_| true);
    let twice = |frames: &mut Vec<_>| {
        let is_holds = |frame: &_| {
            let frame = Frame::decode(frame).unwrap();
            matches!(frame, Frame::Reply(Reply::Holds { .. }))
        };
        if let Some(holds) = frames.iter().position(is_holds) {
            frames.insert(holds, frames[holds].clone());
        }
    };
    let mut wire = Wire {
        bend: Some(Box::new(twice)),
        ..Wire::default()
    };
    let failure = sync(&mut client, &mut server, &mut wire).unwrap_err();
    assert!(
        matches!(failure, Failure::Peer(PeerFault::Unexpected(_))),
        "{failure:?}"
    );
    sync(&mut client, &mut server, &mut Wire::default()).unwrap();
}

#[test]
fn a_wrong_payload_is_refused_and_its_sender_named() {
    let [mut client, mut server] = equals(20);
    client.replica.as_mut().unwrap().strip(|_| true);
    let mut wire = Wire {
        bend: Some(Box::new(|frames| {
            for frame in frames {
                let Frame::Pack(bytes) = Frame::decode(frame).unwrap() else {
                    continue;
                };
                let entries = pack::decode(&bytes, &pack::Limits::default()).unwrap();
                let entries: Vec<Entry> = entries.iter().map(lie).collect();
                let mut packed = entries
                    .iter()
                    .map(|entry| Frame::Pack(pack::encode(std::slice::from_ref(entry)).unwrap()));
                *frame = packed.next_back().unwrap().encode().unwrap();
            }
        })),
        ..Wire::default()
    };
    let failure = sync(&mut client, &mut server, &mut wire).unwrap_err();
    assert!(
        matches!(failure, Failure::Peer(PeerFault::WrongPayloads(1))),
        "{failure:?}"
    );
    assert_eq!(client.get().lacking(), 20);
}

/// The same entry with another payload: nobody's signature is under it.
fn lie(entry: &Entry) -> Entry {
    let (store, payload) = entry.payloads().next().unwrap();
    let mut payload = payload.unwrap().to_vec();
    payload.push(1);
    let mut header = entry.header().clone();
    header.stores[0].payload_hash = PayloadHash::of(&payload);
    header.stores[0].payload_len = payload.len() as u32;
    Entry::new(header, forged(), [(store.clone(), payload.into())].into()).unwrap()
}

#[test]
fn a_cut_anywhere_costs_no_payload_twice_and_none_at_all() {
    let (mut cuts, mut whole) = (0, false);
    for at in 0..40 {
        let [mut client, mut server] = equals(30);
        client.replica.as_mut().unwrap().strip(|at| at % 3 == 0);
        server.replica.as_mut().unwrap().strip(|at| at % 3 == 1);
        let mut wire = Wire {
            cut_at: Some(at),
            ..Wire::default()
        };
        whole = sync(&mut client, &mut server, &mut wire).is_ok();
        let outcome = sync(&mut client, &mut server, &mut Wire::default()).unwrap();
        assert_eq!((client.get().lacking(), server.get().lacking()), (0, 0));
        match whole {
            true => assert_eq!((outcome.received.filled, outcome.packs_sent), (0, 0)),
            false => cuts += 1,
        }
    }
    assert!(cuts > 5 && whole, "{cuts} syncs were cut");
}

#[test]
fn messages_about_payloads_have_bounds() {
    let name = |n: usize| eidetica_entry::StoreName::new(&format!("s{n:04}")).unwrap();
    let id = Replica::new(1).database;
    let request = |count: usize| {
        let stores: Vec<_> = (0..count).map(name).collect();
        let ids = Vec::new();
        Frame::RequestFor(
            Stores::These(stores),
            Request::Payloads { database: id, ids },
        )
    };
    let frame = request(limits::STORES);
    assert_eq!(Frame::decode(&frame.encode().unwrap()).unwrap(), frame);
    assert!(request(limits::STORES + 1).encode().is_err());
    // Descending, or twice.
    for stores in [vec![name(2), name(1)], vec![name(1), name(1)]] {
        let holds = Reply::Holds {
            stores: Stores::These(stores),
            lacks: false,
        };
        assert!(Frame::Reply(holds).encode().is_err());
    }
    let hex = |frame: Frame| {
        let bytes = frame.encode().unwrap();
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let discover = Frame::RequestFor(Stores::All, Request::Discover);
    assert_eq!(hex(discover), "050003");
    let holds = |stores, lacks| Frame::Reply(Reply::Holds { stores, lacks });
    assert_eq!(hex(holds(Stores::All, true)), "020b0001");
    assert_eq!(
        hex(holds(Stores::these([name(1)]), false)),
        "020b01010573303030310 0".replace(' ', "")
    );
}

/// Where entries are damaged, payloads are asked for before anything is compared.
#[test]
fn a_damaged_replica_is_not_synced_with_whoever_refuses_it() {
    let [mut client, mut server] = equals(20);
    client.get_mut().strip(|at| at > 10);
    client.damaged = true;
    server.readers = Some([key(77).public()].into());
    let failure = sync_at(3, &mut client, &mut server).unwrap_err();
    assert_eq!(failure, Failure::Refused(Refusal::ABSENT));
    server.readers = None;
    let outcome = sync_at(3, &mut client, &mut server).unwrap();
    assert!(outcome.complete && outcome.received.filled > 0);
}

/// Ingest is slower than the peer.
#[test]
fn what_came_before_a_refusal_is_taken_in() {
    let [mut client, mut server] = equals(400);
    client.get_mut().strip(|at| at > 0);
    let before = client.get().lacking();
    let mut parties = Parties::default();
    parties.server.version = 3;
    let mut machine = SyncClient::new(config(client.get().database, &parties));
    let (mut request, mut response, mut reports) = (Vec::new(), VecDeque::new(), VecDeque::new());
    let outcome = loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => response.clear(),
            Output::Send(frame) => request.push(frame),
            Output::End => {
                let frames = std::mem::take(&mut request);
                let mut wire = Wire::default();
                let (mut answer, _) = serve(&parties, &mut server, frames, &mut wire);
                if answer.len() > 3 {
                    answer.truncate(3);
                    let refused = Frame::Reply(Reply::Refused(Refusal::ABSENT));
                    answer.push(refused.encode().unwrap());
                }
                response = VecDeque::from(answer);
            }
            Output::Query(id, query) => {
                let answer = client.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => reports.push_back((id, client.ingest(&batch))),
            Output::Event(_) => {}
            Output::Done(result) => break result.unwrap(),
            Output::Timeout(_) => {
                let frame = machine.wants_frame().then(|| response.pop_front());
                let input = match (frame.flatten(), reports.is_empty()) {
                    (Some(frame), _) => Input::Frame(frame),
                    (None, true) => Input::End,
                    (None, false) => {
                        let (id, report) = reports.pop_front().unwrap();
                        Input::Ingested(id, report)
                    }
                };
                machine.handle_input(input, NOW);
            }
        }
    };
    let filled = (before - client.get().lacking()) as u64;
    assert!(filled > 0 && client.get().lacking() > 0);
    assert_eq!(outcome.received.filled, filled);
}
