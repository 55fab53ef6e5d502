//! Servers that lie. Every sync ends, in bounded time and memory, with the one to blame.

use bytes::Bytes;
use eidetica_entry::{
    Height, Id, Stamp, pack,
    reconcile::{Content, Part, Span, Summary},
};
use eidetica_protocol::{
    Blame, CloseReason, Failure, Frame, Input, Outcome, Output, Parts, PeerFault, Reply, Request,
    Sketch, Spans, SyncClient, TipList, limits,
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

fn diverged(tips: TipList, sketch: Sketch) -> Vec<Frame> {
    vec![Frame::Reply(Reply::Diverged {
        tips,
        claims: Vec::new(),
        sketch,
        closures: Vec::new(),
    })]
}

fn described(parts: &[Part]) -> Vec<Frame> {
    vec![Frame::Reply(Reply::Sketch(Parts::new(parts)))]
}

/// What nobody has, as much of it as is said.
fn part(span: Span, count: u64) -> Part {
    let content = Content::Summary(Summary {
        count,
        hash: [0xfa; 24],
    });
    Part { span, content }
}

fn everything(count: u64) -> Sketch {
    Sketch::Parts(Parts::new(&[part(Span::ALL, count)]))
}

fn asked(spans: &Spans) -> Vec<Span> {
    let spans = spans.spans().unwrap();
    spans.into_iter().map(|(span, _)| span).collect()
}

fn pushed(tips: TipList) -> Vec<Frame> {
    vec![Frame::Reply(Reply::Pushed {
        tips,
        new: 0,
        known: 0,
        pending: 0,
        rejected: 0,
    })]
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

#[test]
fn spans_that_are_divided_for_ever_end() {
    // Each span is said to be different, in two halves, by any count.
    for count in [1, 60, 1 << 40, u64::MAX] {
        let (mut replies, mut bytes) = (0, 0);
        let (fault, requests) = fault(&mut |request| match request {
            Request::Compare { .. } => diverged(tips(1 << 40, 1), everything(count)),
            Request::Describe { spans, .. } => {
                replies += 1;
                bytes += Frame::Request(request.clone()).encode().unwrap().len();
                let mut parts = Vec::new();
                for span in asked(spans) {
                    let middle = Stamp::new(span.from.height.next(), Id::new([0; 32]));
                    let (from, to) = (span.from, Some(middle));
                    parts.push(part(Span { from, to }, count));
                    let from = middle;
                    parts.push(part(Span { from, to: span.to }, count));
                }
                parts.retain(|part| !part.span.is_empty());
                if let Some(last) = parts.last_mut() {
                    last.span.to = asked(spans).last().unwrap().to;
                }
                let ends = parts
                    .windows(2)
                    .all(|two| two[0].span.to.unwrap() <= two[1].span.from);
                assert!(ends);
                described(&parts)
            }
            _ => panic!("there is nothing to exchange"),
        });
        assert!(
            matches!(fault, PeerFault::Endless(_) | PeerFault::Unexpected(_)),
            "{fault:?}"
        );
        assert!(requests <= 2 + limits::SKETCH_ROUNDS as usize, "{requests}");
        assert!(bytes < limits::SKETCH_ROUNDS as usize * limits::SKETCH_SPANS * 8);
    }
}

#[test]
fn the_same_answer_for_ever_ends() {
    let (fault, requests) = fault(&mut |request| match request {
        Request::Compare { .. } => diverged(tips(1 << 40, 1), everything(9)),
        Request::Describe { spans, .. } => {
            let parts: Vec<Part> = asked(spans).into_iter().map(|span| part(span, 9)).collect();
            described(&parts)
        }
        _ => panic!("there is nothing to exchange"),
    });
    assert_eq!(fault, PeerFault::Endless(limits::SKETCH_ROUNDS));
    assert_eq!(requests, 1 + limits::SKETCH_ROUNDS as usize);
}

#[test]
fn descriptions_of_something_else_are_seen() {
    let stamp = |height| Stamp::new(Height(height), Id::new([0; 32]));
    let (from, to) = (stamp(0), Some(stamp(16)));
    let low = Span { from, to };
    let (from, to) = (stamp(16), None);
    let high = Span { from, to };
    let others: [&[Part]; 5] = [
        &[],
        &[part(low, 1)],
        &[part(high, 1)],
        &[
            part(low, 1),
            part(
                Span {
                    from: stamp(17),
                    to: None,
                },
                1,
            ),
        ],
        &[
            part(low, 1),
            part(
                Span {
                    to: Some(stamp(20)),
                    ..high
                },
                1,
            ),
        ],
    ];
    for parts in others {
        let (fault, requests) = fault(&mut |request| match request {
            Request::Compare { .. } => diverged(tips(50, 1), everything(9)),
            _ => described(parts),
        });
        assert_eq!(
            fault,
            PeerFault::Unexpected("a description of something else")
        );
        assert_eq!(requests, 2);
    }
}

#[test]
fn tips_that_do_not_exist_are_noticed() {
    // They are said to exist, in every way, and never come.
    let ids: Vec<Id> = (0..10).map(fake).collect();
    let listed = Part {
        span: Span::ALL,
        content: Content::Ids(ids.clone()),
    };
    for sketch in [Sketch::Since(ids), Sketch::Parts(Parts::new(&[listed]))] {
        let (fault, requests) = fault(&mut |request| match request {
            Request::Compare { .. } => diverged(tips(1, 5), sketch.clone()),
            Request::Describe { spans, .. } => {
                let parts: Vec<Part> = asked(spans).into_iter().map(|span| part(span, 0)).collect();
                described(&parts)
            }
            _ => pushed(tips(1, 5)),
        });
        assert_eq!(fault, PeerFault::TipNotDelivered(fake(5)));
        assert!(requests <= 4, "{requests}");
    }
}

#[test]
fn a_summary_that_is_said_to_be_equal_hides_the_liars_own_entries() {
    // The server has more, and says what the client has: by its own words it has nothing that is not here.
    let mut client = client();
    let stamps = client.get().stamps();
    let span = Span::ALL;
    let Ok(summary) = eidetica_entry::reconcile::summarize(&mut stamps.as_slice(), &span);
    let content = Content::Summary(summary);
    let same = Sketch::Parts(Parts::new(&[Part { span, content }]));
    let database = client.get().database;
    let (result, requests) = against(&mut client, database, &mut |request| match request {
        Request::Compare { .. } => diverged(tips(99, 1), same.clone()),
        _ => panic!("nothing is different"),
    });
    assert_eq!(
        result,
        Err(Failure::Peer(PeerFault::TipNotDelivered(fake(1))))
    );
    assert_eq!(requests, 1);
}

#[test]
fn counts_that_are_not_true_cost_no_memory() {
    // A server that claims to list next to nothing gets what it says it lacks, in bounded pieces, as anybody would.
    let mut client = client();
    let whole = client.get().len();
    let database = client.get().database;
    let empty = Part {
        span: Span::ALL,
        content: Content::Ids(Vec::new()),
    };
    let mut packs = 0;
    let (result, _): (Result<Outcome, _>, _) =
        against(&mut client, database, &mut |request| match request {
            Request::Compare { .. } => diverged(
                tips(99, 1),
                Sketch::Parts(Parts::new(std::slice::from_ref(&empty))),
            ),
            Request::Push { wants, .. } => {
                assert!(wants.is_empty());
                packs += 1;
                pushed(tips(99, 1))
            }
            _ => panic!("everything is said"),
        });
    assert_eq!(
        result,
        Err(Failure::Peer(PeerFault::TipNotDelivered(fake(1))))
    );
    assert_eq!((packs, client.get().len()), (1, whole));
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
    // One is being ingested, another one follows, and as many as may wait do.
    assert_eq!(
        ingests.iter().map(|(_, packs)| *packs).collect::<Vec<_>>(),
        [1, limits::PACKS_AHEAD]
    );
    assert_eq!(handed, 1 + limits::PACKS_AHEAD + limits::PACKS_WAITING);
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
    // One for each of the ingests that run, and two that fill the queue.
    for _ in 0..4 {
        receiving.frame(&pack);
        receiving.poll().unwrap();
    }
    assert!(!receiving.machine.wants_frame());
    assert_eq!(receiving.ingests.len(), limits::BATCHES_INGESTED);
    // What gathered goes in together.
    let (id, _) = receiving.ingests.remove(0);
    receiving
        .machine
        .handle_input(Input::Ingested(id, Ok(Default::default())), NOW);
    receiving.poll().unwrap();
    assert!(receiving.machine.wants_frame());
    let counts: Vec<usize> = receiving.ingests.iter().map(|(_, packs)| *packs).collect();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn batches_that_run_side_by_side_are_reported_in_their_order() {
    let mut receiving = Receiving::new();
    let pack = Frame::Pack(vec![0; limits::PACK_BYTES_AHEAD].into());
    for _ in 0..2 {
        receiving.frame(&pack);
        receiving.poll().unwrap();
    }
    let (second, _) = receiving.ingests.pop().unwrap();
    receiving
        .machine
        .handle_input(Input::Ingested(second, Ok(Default::default())), NOW);
    let (first, _) = receiving.ingests.pop().unwrap();
    receiving
        .machine
        .handle_input(Input::Ingested(first, Ok(Default::default())), NOW);
    assert!(matches!(receiving.poll(), Err(Failure::Driver(_))));
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
fn a_sender_whose_frame_is_under_way_is_waited_for() {
    let mut receiving = Receiving::new();
    let due = NOW + limits::IDLE_MS;
    assert_eq!(receiving.poll(), Ok(Some(due)));
    // It waits from when something moved, and not from when it hears of it.
    let moved = due - 1_000;
    receiving.machine.handle_input(Input::Moving, moved);
    let next = receiving.machine.poll_output(due);
    assert!(matches!(next, Output::Timeout(Some(at)) if at == moved + limits::IDLE_MS));
    receiving
        .machine
        .handle_input(Input::Tick, moved + limits::IDLE_MS);
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
