//! Servers that lie. Every sync ends, in bounded time and memory, with the one to blame.

use bytes::Bytes;
use eidetica_entry::{Height, Id, Stamp, pack};
use eidetica_protocol::{
    Blame, CloseReason, Failure, Frame, HeaderPage, HeaderSummary, Input, Output, PeerFault, Reply,
    Request, SyncClient, TipList, limits,
};

use crate::{
    model::{Replica, Store},
    pair::{NOW, Parties, against, config},
};

fn client() -> Store {
    let mut replica = Replica::new(1);
    replica.commit(50, "ours");
    Store::new(replica)
}

/// An id that nobody has.
fn fake(n: u64) -> Id {
    let mut bytes = [0xfa; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Id::new(bytes)
}

fn tips(height: u64, n: u64) -> TipList {
    TipList::new(vec![Stamp::new(Height(height), fake(n))])
}

fn diverged(tips: TipList, headers: Vec<HeaderSummary>) -> Vec<Frame> {
    vec![Frame::Reply(Reply::Diverged {
        tips,
        claims: Vec::new(),
        headers: HeaderPage::new(headers),
        closures: Vec::new(),
    })]
}

fn header(height: u64, n: u64, parents: Vec<Id>) -> HeaderSummary {
    HeaderSummary {
        stamp: Stamp::new(Height(height), fake(n)),
        parents,
    }
}

fn fault(server: &mut dyn FnMut(&Request) -> Vec<Frame>) -> (PeerFault, usize) {
    let mut client = client();
    let before = client.get().ids();
    let database = client.get().database;
    let (result, requests) = against(&mut client, database, server);
    let failure = result.unwrap_err();
    assert_eq!(failure.blame(), Blame::Peer, "{failure:?}");
    assert_eq!(client.get().ids(), before);
    match failure {
        Failure::Peer(fault) => (fault, requests),
        other => panic!("{other:?}"),
    }
}

/// A chain of made-up headers below `from`, each other's only parent.
fn endless(from: u64, count: u64) -> Vec<HeaderSummary> {
    (0..count)
        .map(|i| header(from - i, from - i, vec![fake(from - i - 1)]))
        .collect()
}

#[test]
fn headers_that_never_end_do_end() {
    let top = 1 << 62;
    let mut at = top;
    let (fault, requests) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(top, top), Vec::new()),
        Request::Headers { limit, .. } => {
            let page = endless(at, u64::from(*limit));
            at -= u64::from(*limit);
            vec![Frame::Reply(Reply::Headers(HeaderPage::new(page)))]
        }
        _ => vec![Frame::Reply(Reply::End {
            tips: tips(top, top),
        })],
    });
    assert_eq!(fault, PeerFault::TipNotDelivered(fake(top)));
    assert!(requests <= limits::WALK_ROUNDS as usize + 2, "{requests}");
    assert!(top - at <= limits::WALK_HEADERS as u64 + limits::HEADERS as u64);
}

#[test]
fn headers_that_come_one_by_one_end_too() {
    let top = 1 << 62;
    let mut at = top;
    let (fault, requests) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(top, top), Vec::new()),
        Request::Headers { .. } => {
            at -= 1;
            vec![Frame::Reply(Reply::Headers(HeaderPage::new(endless(
                at + 1,
                1,
            ))))]
        }
        _ => vec![Frame::Reply(Reply::End {
            tips: tips(top, top),
        })],
    });
    assert_eq!(fault, PeerFault::TipNotDelivered(fake(top)));
    assert_eq!(requests, limits::WALK_ROUNDS as usize + 2);
}

#[test]
fn windows_that_loop_are_seen() {
    let top = 1000;
    let (fault, _) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(top, top), endless(top, 10)),
        _ => vec![Frame::Reply(Reply::Headers(HeaderPage::new(endless(
            top, 10,
        ))))],
    });
    assert_eq!(fault, PeerFault::HeaderWithheld(fake(top - 10)));
}

#[test]
fn wrong_heights_are_seen() {
    let first = |tip: u64, headers: Vec<HeaderSummary>| {
        fault(&mut |_| diverged(tips(tip, 1000), headers.clone())).0
    };
    // Another height than that of the tip.
    assert_eq!(
        first(7, vec![header(8, 1000, vec![fake(1)])]),
        PeerFault::WrongHeight(fake(1000))
    );
    // A parent that is not lower.
    let same = vec![header(7, 1000, vec![fake(9)]), header(7, 9, vec![fake(3)])];
    assert!(matches!(
        first(7, same),
        PeerFault::WrongHeight(_) | PeerFault::StrayHeader(_)
    ));
    // A child much higher than all its parents.
    let gap = vec![header(7, 1000, vec![fake(9)]), header(5, 9, vec![fake(3)])];
    assert_eq!(first(7, gap), PeerFault::WrongHeight(fake(1000)));
    // No parents, and not at the bottom; at the bottom, and not the root.
    assert_eq!(
        first(7, vec![header(7, 1000, vec![])]),
        PeerFault::WrongHeight(fake(1000))
    );
    assert_eq!(
        first(0, vec![header(0, 1000, vec![])]),
        PeerFault::ForeignRoot(fake(1000))
    );
    // A header that has nothing to do with the tips.
    let stray = vec![header(7, 1000, vec![fake(9)]), header(5, 8, vec![fake(3)])];
    assert_eq!(first(7, stray), PeerFault::StrayHeader(fake(8)));
}

#[test]
fn more_headers_than_asked_for_are_seen() {
    let (fault, _) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(100_000, 100_000), Vec::new()),
        Request::Headers { limit, .. } => {
            let page = endless(100_000, u64::from(*limit) + 1);
            vec![Frame::Reply(Reply::Headers(HeaderPage::new(page)))]
        }
        _ => vec![],
    });
    let asked = limits::WALK_GENERATIONS as usize;
    assert_eq!(
        fault,
        PeerFault::TooManyHeaders {
            count: asked + 1,
            limit: asked
        }
    );
}

#[test]
fn tips_that_do_not_exist_are_noticed() {
    let root = client().get().database;
    // The tip is said to sit right on what we have, and never comes.
    let (fault, _) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(1, 5), vec![header(1, 5, vec![root])]),
        _ => vec![Frame::Reply(Reply::End { tips: tips(1, 5) })],
    });
    assert_eq!(fault, PeerFault::TipNotDelivered(fake(5)));
}

#[test]
fn packs_that_are_none_are_refused() {
    let behind = || {
        Frame::Reply(Reply::Behind {
            tips: tips(9, 9),
            claims: Vec::new(),
            closures: Vec::new(),
        })
    };
    let end = || Frame::Reply(Reply::End { tips: tips(9, 9) });
    let (garbage, _) =
        fault(&mut |_| vec![behind(), Frame::Pack(Bytes::from_static(b"garbage")), end()]);
    assert!(matches!(garbage, PeerFault::BadPack(_)));
    let foreign = Replica::new(2);
    let foreign = pack::encode(&[foreign.entry(&foreign.database).clone()]).unwrap();
    let (foreign, _) = fault(&mut |_| vec![behind(), Frame::Pack(foreign.clone()), end()]);
    assert!(matches!(foreign, PeerFault::BadPack(_)));
}

#[test]
fn answers_out_of_turn_are_refused() {
    let behind = || {
        Frame::Reply(Reply::Behind {
            tips: tips(9, 9),
            claims: Vec::new(),
            closures: Vec::new(),
        })
    };
    let scripts: Vec<Vec<Frame>> = vec![
        vec![],
        vec![Frame::Pack(Bytes::new())],
        vec![Frame::Request(Request::Discover)],
        vec![Frame::Reply(Reply::Cancelled)],
        vec![Frame::Reply(Reply::Equal), Frame::Reply(Reply::Equal)],
        vec![behind()],
        vec![behind(), behind()],
        vec![
            behind(),
            Frame::Reply(Reply::End { tips: tips(9, 9) }),
            Frame::Pack(Bytes::new()),
        ],
    ];
    for script in scripts {
        let (fault, requests) = fault(&mut |_| script.clone());
        assert!(
            matches!(fault, PeerFault::Unexpected(_) | PeerFault::Truncated),
            "{fault:?}"
        );
        assert_eq!(requests, 1);
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let (mut client, parties) = (client(), Parties::default());
    let mut machine = SyncClient::new(config(client.get().database, &parties));
    let (mut now, mut ticks) = (NOW, 0);
    let failure = loop {
        match machine.poll_output(now) {
            Output::Query(id, query) => {
                let answer = client.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), now);
            }
            Output::Timeout(at) => {
                // Too early does nothing.
                machine.handle_input(Input::Tick, at.unwrap() - 1);
                now = at.unwrap();
                machine.handle_input(Input::Tick, now);
                ticks += 1;
            }
            Output::Done(result) => break result.unwrap_err(),
            _ => {}
        }
    };
    assert_eq!((failure, ticks), (Failure::Idle(limits::ANSWER_MS), 1));
    assert_eq!(now, NOW + limits::ANSWER_MS);
}

#[test]
fn only_so_many_packs_wait_for_ingest() {
    let (mut client, parties) = (client(), Parties::default());
    let mut machine = SyncClient::new(config(client.get().database, &parties));
    let behind = Frame::Reply(Reply::Behind {
        tips: tips(9, 9),
        claims: Vec::new(),
        closures: Vec::new(),
    })
    .encode()
    .unwrap();
    let pack = Frame::Pack(Bytes::from_static(b"a pack")).encode().unwrap();
    let (mut handed, mut ingests) = (0, Vec::new());
    machine.handle_input(Input::Tick, NOW);
    let mut first = Some(behind);
    loop {
        match machine.poll_output(NOW) {
            Output::Query(id, query) => {
                let answer = client.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => ingests.push((id, batch.packs.len())),
            Output::Timeout(_) if machine.wants_frame() => {
                handed += usize::from(first.is_none());
                machine.handle_input(Input::Frame(first.take().unwrap_or(pack.clone())), NOW);
            }
            Output::Timeout(at) => {
                assert_eq!(at, None, "a peer is not to blame while we are busy");
                break;
            }
            _ => {}
        }
    }
    // One is being ingested, and as many as may wait do.
    assert_eq!(
        ingests.iter().map(|(_, packs)| *packs).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(handed, 1 + limits::PACKS_WAITING);
    machine.handle_input(Input::Frame(pack), NOW);
    assert!(
        matches!(machine.poll_output(NOW), Output::Timeout(None)),
        "what runs is waited for"
    );
    machine.handle_input(Input::Ingested(ingests[0].0, Ok(Default::default())), NOW);
}

#[test]
fn too_many_rejected_entries_end_a_sync() {
    for (rejected, too_many) in [(limits::REJECTED, false), (limits::REJECTED + 1, true)] {
        let (mut client, parties) = (client(), Parties::default());
        let mut machine = SyncClient::new(config(client.get().database, &parties));
        let behind = Frame::Reply(Reply::Behind {
            tips: tips(9, 9),
            claims: Vec::new(),
            closures: Vec::new(),
        });
        let end = Frame::Reply(Reply::End { tips: tips(9, 9) });
        let frames = [behind, Frame::Pack(Bytes::from_static(b"a pack")), end];
        let mut frames = frames
            .map(|frame| Input::Frame(frame.encode().unwrap()))
            .into_iter();
        let result = loop {
            match machine.poll_output(NOW) {
                Output::Query(id, query) => {
                    let answer = client.answer(&query);
                    machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
                }
                Output::Ingest(id, _) => {
                    let rejected = (0..rejected).map(fake).collect();
                    let report = eidetica_protocol::IngestReport {
                        rejected,
                        ..Default::default()
                    };
                    machine.handle_input(Input::Ingested(id, Ok(report)), NOW);
                }
                Output::Timeout(_) => {
                    machine.handle_input(frames.next().unwrap_or(Input::End), NOW)
                }
                Output::Done(result) => break result,
                _ => {}
            }
        };
        match result {
            Err(Failure::Peer(PeerFault::TooManyRejected(count))) => {
                assert!(too_many && count == rejected)
            }
            // What was rejected explains why the tips are missing.
            Ok(outcome) => {
                assert!(!too_many && !outcome.complete && outcome.received.rejected_ids.len() == 16)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn headers_with_ever_more_parents_end_too() {
    // Every header has 64 parents that nobody has ever seen.
    let mut next = 0;
    let mut fresh = |height: u64, id: Id| {
        next += 64;
        let mut parents: Vec<Id> = (next..next + 64).map(fake).collect();
        parents.sort_unstable();
        HeaderSummary {
            stamp: Stamp::new(Height(height), id),
            parents,
        }
    };
    let mut height = 1 << 40;
    let top = height;
    let (fault, requests) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(top, u64::MAX), Vec::new()),
        Request::Headers { of, .. } => {
            height -= 1;
            let page = of
                .iter()
                .map(|id| fresh(if *id == fake(u64::MAX) { top } else { height }, *id))
                .collect();
            vec![Frame::Reply(Reply::Headers(HeaderPage::new(page)))]
        }
        _ => vec![Frame::Reply(Reply::End {
            tips: tips(top, u64::MAX),
        })],
    });
    assert_eq!(fault, PeerFault::TipNotDelivered(fake(u64::MAX)));
    // A reply has room for some 21,000 parents, so the ids end it and not the rounds.
    assert!(requests < 16, "{requests}");
}

/// A client that is being sent packs, fed by hand.
struct Receiving {
    machine: SyncClient,
    client: Store,
    ingests: Vec<(eidetica_protocol::IngestId, usize)>,
}

impl Receiving {
    fn new() -> Self {
        let client = client();
        let machine = SyncClient::new(config(client.get().database, &Parties::default()));
        let mut receiving = Self {
            machine,
            client,
            ingests: Vec::new(),
        };
        receiving.poll().unwrap();
        let behind = Reply::Behind {
            tips: tips(9, 9),
            claims: Vec::new(),
            closures: Vec::new(),
        };
        receiving.frame(&Frame::Reply(behind));
        receiving
    }

    fn frame(&mut self, frame: &Frame) {
        assert!(self.machine.wants_frame());
        self.machine
            .handle_input(Input::Frame(frame.encode().unwrap()), NOW);
    }

    /// Until it waits or is done.
    fn poll(&mut self) -> Result<Option<u64>, Failure> {
        loop {
            match self.machine.poll_output(NOW) {
                Output::Query(id, query) => {
                    let answer = self.client.answer(&query);
                    self.machine
                        .handle_input(Input::Answer(id, Ok(answer)), NOW);
                }
                Output::Ingest(id, batch) => self.ingests.push((id, batch.packs.len())),
                Output::Timeout(at) => return Ok(at),
                Output::Done(result) => return Err(result.unwrap_err()),
                _ => {}
            }
        }
    }
}

#[test]
fn large_packs_wait_for_ingest_in_smaller_numbers() {
    let mut receiving = Receiving::new();
    let pack = Frame::Pack(vec![0; limits::PACK_BYTES_WAITING / 2].into());
    // One for the ingest that runs, and two that fill the queue.
    for _ in 0..3 {
        receiving.frame(&pack);
        receiving.poll().unwrap();
    }
    assert!(!receiving.machine.wants_frame());
    assert_eq!(receiving.ingests.len(), 1);
    // What gathered goes in together.
    let (id, _) = receiving.ingests.remove(0);
    receiving
        .machine
        .handle_input(Input::Ingested(id, Ok(Default::default())), NOW);
    receiving.poll().unwrap();
    assert!(receiving.machine.wants_frame());
    assert_eq!(receiving.ingests[0].1, 2);
}

#[test]
fn packs_without_anything_new_end_a_sync() {
    let mut receiving = Receiving::new();
    let pack = Frame::Pack(Bytes::from_static(b"a pack"));
    let known = eidetica_protocol::IngestReport {
        known: 1,
        ..Default::default()
    };
    for _ in 0..limits::USELESS_PACKS {
        receiving.frame(&pack);
        receiving.poll().unwrap();
        let (id, _) = receiving.ingests.pop().unwrap();
        receiving
            .machine
            .handle_input(Input::Ingested(id, Ok(known.clone())), NOW);
        receiving.poll().unwrap();
    }
    receiving.frame(&pack);
    receiving.poll().unwrap();
    let (id, _) = receiving.ingests.pop().unwrap();
    receiving
        .machine
        .handle_input(Input::Ingested(id, Ok(known)), NOW);
    let useless = PeerFault::Useless(limits::USELESS_PACKS + 1);
    assert_eq!(receiving.poll(), Err(Failure::Peer(useless)));
}

#[test]
fn a_sender_that_stops_is_given_up_but_not_while_we_are_busy() {
    let mut receiving = Receiving::new();
    assert_eq!(receiving.poll(), Ok(Some(NOW + limits::IDLE_MS)));
    receiving
        .machine
        .handle_input(Input::Tick, NOW + limits::IDLE_MS - 1);
    assert!(receiving.poll().is_ok());
    receiving
        .machine
        .handle_input(Input::Tick, NOW + limits::IDLE_MS);
    assert_eq!(receiving.poll(), Err(Failure::Idle(limits::IDLE_MS)));
}

#[test]
fn what_is_being_ingested_when_the_channel_closes_is_waited_for() {
    let mut receiving = Receiving::new();
    for _ in 0..3 {
        receiving.frame(&Frame::Pack(Bytes::from_static(b"a pack")));
        receiving.poll().unwrap();
    }
    receiving
        .machine
        .handle_input(Input::Closed(CloseReason::Cut), NOW);
    for packs in [1, 2] {
        assert_eq!(receiving.poll(), Ok(None));
        let (id, count) = receiving.ingests.remove(0);
        assert_eq!(count, packs);
        receiving
            .machine
            .handle_input(Input::Ingested(id, Ok(Default::default())), NOW);
    }
    assert_eq!(receiving.poll(), Err(Failure::Closed(CloseReason::Cut)));
}
