//! Live streams: two machines, a wire between them, and whatever they tell the engine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, RequestId, Scope};
use eidetica_entry::{Id, PublicKey, StoreName};
use eidetica_protocol::{
    Answer, Digest, Failure, Frame, Holding, IngestError, Input, Live, LiveConfig, LiveEvent,
    LiveMessage, LiveOpen, Notice, Output, ProvenKeys, Query, Refusal, Reply, Request, Standing,
    Stores, TipList, handshake::VERSIONS, limits, set_hash,
};

use crate::{
    model::{Replica, Store},
    pair::{NOW, key},
};

/// The databases of one side, its machine, and what it said.
struct Side {
    stores: BTreeMap<Id, Store>,
    /// The one that has no room.
    full: Option<Id>,
    live: Live,
    sent: Vec<Bytes>,
    inbox: VecDeque<Bytes>,
    events: Vec<LiveEvent>,
    done: Option<Result<(), Failure>>,
}

fn answer(stores: &mut BTreeMap<Id, Store>, query: &Query) -> Answer {
    let none = |query: &Query| match query {
        Query::CanRead { .. } => Answer::Access(false),
        Query::Tips { .. } => Answer::Tips(None),
        other => panic!("{other:?} of a database that is not here"),
    };
    match query {
        Query::Digests { databases, peer } => Answer::Digests(
            databases
                .iter()
                .map(|id| standing(stores, id, peer.as_ref()))
                .collect(),
        ),
        Query::CanRead { database, .. }
        | Query::Tips { database }
        | Query::Known { database, .. }
        | Query::Difference { database, .. } => match stores.get_mut(database) {
            Some(store) => store.answer(query),
            None => none(query),
        },
        other => panic!("no answer for {other:?}"),
    }
}

fn standing(stores: &mut BTreeMap<Id, Store>, id: &Id, peer: Option<&ProvenKeys>) -> Standing {
    let Some(store) = stores.get_mut(id) else {
        return Standing::default();
    };
    let keys = peer.map(|peer| peer.keys_for(id, NOW));
    let may = store
        .readers
        .as_ref()
        .zip(keys)
        .is_none_or(|(readers, keys)| keys.iter().any(|key| readers.contains(key)));
    match may {
        true => Standing {
            digest: TipList::new(store.get().tips()).digest(),
            lacks: store.holds.is_all() && store.get().lacking() > 0,
            is_partial: !store.holds.is_all(),
        },
        false => Standing::default(),
    }
}

impl Side {
    fn new(stores: BTreeMap<Id, Store>, live: Live) -> Self {
        Self {
            stores,
            full: None,
            live,
            sent: Vec::new(),
            inbox: VecDeque::new(),
            events: Vec::new(),
            done: None,
        }
    }

    /// Goes on until nothing happens; what it sends lies in `sent`.
    fn run(&mut self) -> bool {
        let mut moved = false;
        while self.done.is_none() {
            match self.live.poll_output(NOW) {
                Output::Send(frame) => {
                    self.sent.push(frame);
                    self.live.handle_sent();
                }
                Output::Query(id, query) => {
                    let answer = answer(&mut self.stores, &query);
                    self.live.handle_input(Input::Answer(id, Ok(answer)), NOW);
                }
                Output::Ingest(id, batch) => {
                    let report = match self.full == Some(batch.database) {
                        true => Err(IngestError::Unavailable("no room".to_owned())),
                        false => self.stores.get_mut(&batch.database).unwrap().ingest(&batch),
                    };
                    self.live.handle_input(Input::Ingested(id, report), NOW);
                }
                Output::Event(event) => self.events.push(event),
                Output::OpenRequest | Output::End => {}
                Output::Done(result) => self.done = Some(result),
                Output::Timeout(_) => match self.live.wants_frame().then(|| self.inbox.pop_front())
                {
                    Some(Some(frame)) => self.live.handle_input(Input::Frame(frame), NOW),
                    _ => return moved,
                },
            }
            moved = true;
        }
        moved
    }

    /// Commits as many bytes that do not compress, without a word.
    fn add_bytes(&mut self, id: Id, n: u32, bytes: usize) {
        let hashes =
            (0..bytes as u32 / 32).map(|at| blake3::hash(&[n, at].map(u32::to_le_bytes).concat()));
        let note: Vec<u8> = hashes.flat_map(|hash| *hash.as_bytes()).collect();
        let replica = self.stores.get_mut(&id).unwrap().get_mut();
        let tip = replica.tips()[0].id;
        replica.commit_on(&[tip], &note);
    }

    fn strip(&mut self, id: Id) {
        let store = self.stores.get_mut(&id).unwrap();
        store.get_mut().strip(|at| at > 0);
    }

    fn lacking(&self, id: Id) -> usize {
        self.stores[&id].get().lacking()
    }

    fn hold(&mut self, id: Id, holds: Stores) {
        self.stores.get_mut(&id).unwrap().holds = holds;
        self.changed(id, false);
    }

    fn is_incomplete(&mut self, id: Id) -> bool {
        self.events().contains(&LiveEvent::Incomplete(id))
    }

    fn commit(&mut self, id: Id, note: &str) {
        self.stores.get_mut(&id).unwrap().get_mut().commit(1, note);
        self.changed(id, true);
    }

    fn changed(&mut self, database: Id, push: bool) {
        self.live.handle_notice(Notice::Changed { database, push });
    }

    fn tips(&self, id: Id) -> Vec<Id> {
        self.stores[&id]
            .get()
            .tips()
            .iter()
            .map(|tip| tip.id)
            .collect()
    }

    /// What it told the engine since it was last looked at.
    fn events(&mut self) -> Vec<LiveEvent> {
        std::mem::take(&mut self.events)
    }
}

/// A dialler and an acceptor.
struct Net {
    dialler: Side,
    acceptor: Side,
    frames: usize,
    bytes: usize,
    packs: usize,
    kinds: Vec<&'static str>,
}

fn config(device: PublicKey, claims: Vec<DeviceClaim>, databases: &[Id]) -> LiveConfig {
    LiveConfig {
        peer: ProvenKeys::device(device),
        version: VERSIONS[0],
        claims,
        databases: databases.to_vec(),
    }
}

fn both(seeds: &[u8]) -> (BTreeMap<Id, Store>, BTreeMap<Id, Store>, Vec<Id>) {
    let stores = || -> BTreeMap<Id, Store> {
        let replicas = seeds.iter().map(|seed| Replica::new(*seed));
        replicas
            .map(|replica| (replica.database, Store::new(replica)))
            .collect()
    };
    let mut ids: Vec<Id> = stores().into_keys().collect();
    ids.sort_unstable();
    (stores(), stores(), ids)
}

/// The first frame of a stream, taken out.
fn opening(dialler: &mut Side) -> LiveOpen {
    dialler.run();
    let first = dialler.sent.remove(0);
    LiveOpen::in_request(&first).expect("a live stream")
}

fn kind(frame: &Bytes) -> &'static str {
    match Frame::decode(frame).unwrap() {
        Frame::Pack(_) => "pack",
        Frame::Live(LiveMessage::Unknown) => "unknown",
        Frame::Live(LiveMessage::Subscribe { .. }) => "subscribe",
        Frame::Live(LiveMessage::Unsubscribe { .. }) => "unsubscribe",
        Frame::Live(LiveMessage::Claims { .. }) => "claims",
        Frame::Live(LiveMessage::Check) => "check",
        Frame::Live(LiveMessage::Digest { .. }) => "digest",
        Frame::Live(LiveMessage::Detail) => "detail",
        Frame::Live(LiveMessage::State { .. }) => "state",
        Frame::Live(LiveMessage::Have { .. }) => "have",
        Frame::Live(LiveMessage::Entries { .. }) => "entries",
        Frame::Live(LiveMessage::Want { .. }) => "want",
        Frame::Live(LiveMessage::Compare { .. }) => "compare",
        Frame::Live(LiveMessage::Decided { .. }) => "decided",
        Frame::Live(LiveMessage::Holds { .. }) => "holds",
        other => panic!("{other:?}"),
    }
}

impl Net {
    fn over(
        ours: BTreeMap<Id, Store>,
        theirs: BTreeMap<Id, Store>,
        databases: &[Id],
        remembered: &[Id],
    ) -> Self {
        Self::with_claims(ours, theirs, databases, remembered, Vec::new())
    }

    /// With what the acceptor has claims for.
    fn with_claims(
        ours: BTreeMap<Id, Store>,
        theirs: BTreeMap<Id, Store>,
        databases: &[Id],
        remembered: &[Id],
        claims: Vec<DeviceClaim>,
    ) -> Self {
        Self::between(
            (ours, config(key(2).public(), Vec::new(), databases)),
            (theirs, config(key(1).public(), claims, remembered)),
        )
    }

    /// Of a version, with what each side holds.
    fn sparse(version: u16, holds: [Stores; 2]) -> (Self, Id) {
        let (mut ours, mut theirs, ids) = both(&[1]);
        let [our_holds, their_holds] = holds;
        ours.get_mut(&ids[0]).unwrap().holds = our_holds;
        theirs.get_mut(&ids[0]).unwrap().holds = their_holds;
        let config = |n| LiveConfig {
            version,
            ..config(key(n).public(), Vec::new(), &ids)
        };
        let mut net = Self::between((ours, config(2)), (theirs, config(1)));
        net.settle();
        net.quiet();
        (net, ids[0])
    }

    fn between(
        (ours, config): (BTreeMap<Id, Store>, LiveConfig),
        (theirs, their_config): (BTreeMap<Id, Store>, LiveConfig),
    ) -> Self {
        let mut dialler = Side::new(ours, Live::dial(config));
        let open = opening(&mut dialler);
        let live = Live::accept(their_config, &open);
        Self {
            dialler,
            acceptor: Side::new(theirs, live),
            frames: 0,
            bytes: 0,
            packs: 0,
            kinds: Vec::new(),
        }
    }

    /// Two that have the same, connected.
    fn same(seeds: &[u8]) -> (Self, Vec<Id>) {
        let (ours, theirs, ids) = both(seeds);
        let mut net = Self::over(ours, theirs, &ids, &ids);
        net.settle();
        net.quiet();
        (net, ids)
    }

    /// Carries frames until nothing is on its way.
    fn settle(&mut self) {
        loop {
            let moved = self.dialler.run() | self.acceptor.run();
            let (from, to) = (
                std::mem::take(&mut self.dialler.sent),
                std::mem::take(&mut self.acceptor.sent),
            );
            self.frames += from.len() + to.len();
            for frame in from.iter().chain(&to) {
                self.bytes += frame.len();
                self.packs += usize::from(kind(frame) == "pack");
                self.kinds.push(kind(frame));
            }
            let idle = from.is_empty() && to.is_empty() && !moved;
            self.acceptor.inbox.extend(from);
            self.dialler.inbox.extend(to);
            if idle {
                return;
            }
        }
    }

    /// Begins to count anew.
    fn quiet(&mut self) {
        (self.frames, self.bytes, self.packs) = (0, 0, 0);
        self.kinds.clear();
        self.dialler.events.clear();
        self.acceptor.events.clear();
    }

    fn assert_same(&self, id: Id) {
        assert_eq!(self.dialler.tips(id), self.acceptor.tips(id));
    }
}

#[test]
fn a_commit_is_there_at_once_in_both_directions() {
    let (mut net, ids) = Net::same(&[1]);
    for round in 0..5 {
        net.dialler
            .commit(ids[0], &format!("from the dialler {round}"));
        net.settle();
        net.assert_same(ids[0]);
        net.acceptor
            .commit(ids[0], &format!("from the acceptor {round}"));
        net.settle();
        net.assert_same(ids[0]);
    }
    assert_eq!(net.packs, 10, "every entry travels once");
    let holds = |event: &LiveEvent| matches!(event, LiveEvent::Holds(..));
    assert!(net.dialler.events.iter().any(holds) && net.acceptor.events.iter().any(holds));
    net.quiet();
    net.dialler.commit(ids[0], "one more");
    net.settle();
    assert_eq!(
        net.kinds,
        ["entries", "pack", "have"],
        "with an acknowledgement"
    );
}

#[test]
fn what_the_peer_told_is_not_sent_back() {
    let (mut net, ids) = Net::same(&[1]);
    net.dialler.commit(ids[0], "first");
    net.settle();
    net.quiet();
    net.dialler.commit(ids[0], "second");
    net.dialler.run();
    net.settle();
    // As the engine does after every change, wherever it came from.
    net.acceptor.changed(ids[0], false);
    net.dialler.changed(ids[0], false);
    net.settle();
    assert_eq!(net.kinds, ["entries", "pack", "have"]);
}

#[test]
fn a_relay_tells_and_sends_what_is_wanted() {
    let (mut net, ids) = Net::same(&[1]);
    let store = net.acceptor.stores.get_mut(&ids[0]).unwrap();
    store.get_mut().commit(3, "from elsewhere");
    net.acceptor.changed(ids[0], false);
    net.settle();
    assert_eq!(net.kinds, ["have", "want", "entries", "pack", "have"]);
    net.assert_same(ids[0]);
}

/// Both ends of a node in a ring of three have the same; what is new on one is told to the other's peer, as the engine does.
fn meet(ring: &mut [Net; 3], node: usize, id: Id) -> bool {
    let len = |side: &Side| side.stores[&id].get().len();
    let (next, before) = (node, (node + 2) % 3);
    let ends = [len(&ring[next].dialler), len(&ring[before].acceptor)];
    if ends[0] == ends[1] {
        return false;
    }
    match ends[0] < ends[1] {
        true => ring[next].dialler.stores = ring[before].acceptor.stores.clone(),
        false => ring[before].acceptor.stores = ring[next].dialler.stores.clone(),
    }
    ring[next].dialler.changed(id, false);
    ring[before].acceptor.changed(id, false);
    true
}

/// A tells B and C, which tell each other and then nobody.
#[test]
fn news_in_a_ring_come_to_rest() {
    let mut ring = [(); 3].map(|()| Net::same(&[1]).0);
    let id = *ring[0].dialler.stores.keys().next().unwrap();
    for round in 0..4 {
        for writer in 0..3 {
            ring.iter_mut().for_each(Net::quiet);
            ring[writer]
                .dialler
                .commit(id, &format!("{round} of {writer}"));
            let there = ring[writer].dialler.stores.clone();
            let other = &mut ring[(writer + 2) % 3].acceptor;
            other.stores = there;
            other.changed(id, true);
            let mut rounds = 0;
            loop {
                ring.iter_mut().for_each(Net::settle);
                let moved = (0..3).map(|node| meet(&mut ring, node, id));
                if moved.filter(|moved| *moved).count() == 0 {
                    break;
                }
                rounds += 1;
                assert!(rounds < 4, "it goes on and on");
            }
            ring.iter().for_each(|net| net.assert_same(id));
            let sum = |count: fn(&Net) -> usize| ring.iter().map(count).sum::<usize>();
            // Only the first time somebody does not know yet what the others have.
            if round > 0 {
                assert_eq!(sum(|net| net.packs), 2);
                assert!(sum(|net| net.frames) <= 8, "{}", sum(|net| net.frames));
            }
        }
    }
}

#[test]
fn many_commits_that_come_quickly_are_told_together() {
    let (mut net, ids) = Net::same(&[1]);
    net.dialler.commit(ids[0], "first");
    net.settle();
    net.quiet();
    for n in 0..100 {
        net.dialler.commit(ids[0], &format!("{n}"));
    }
    net.settle();
    assert_eq!(net.packs, 1);
    net.assert_same(ids[0]);
}

#[test]
fn what_is_too_much_for_the_stream_is_left_to_a_sync() {
    for dialler_has_it in [true, false] {
        let (mut net, ids) = Net::same(&[1]);
        let side = if dialler_has_it {
            &mut net.dialler
        } else {
            &mut net.acceptor
        };
        side.add_bytes(ids[0], 0, limits::LIVE_BYTES + 2048);
        side.changed(ids[0], true);
        net.settle();
        assert_eq!(net.packs, 0);
        assert!(net.dialler.events().contains(&LiveEvent::Lacks(ids[0])));
        assert!(net.dialler.done.is_none() && net.acceptor.done.is_none());
    }
}

#[test]
fn a_reconnect_with_nothing_new_is_two_messages_of_constant_size() {
    let mut sizes = Vec::new();
    for count in [1, 200] {
        let seeds: Vec<u8> = (1..=count).collect();
        let (ours, theirs, ids) = both(&seeds);
        let mut net = Net::over(ours, theirs, &ids, &ids);
        net.settle();
        assert_eq!(net.kinds, ["claims", "digest"]);
        assert_eq!(net.dialler.events(), [LiveEvent::Checked]);
        sizes.push(net.bytes);
    }
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn a_reconnect_tells_which_databases_changed_and_no_others() {
    let seeds: Vec<u8> = (1..=100).collect();
    let (mut ours, mut theirs, ids) = both(&seeds);
    theirs
        .get_mut(&ids[7])
        .unwrap()
        .get_mut()
        .commit(2, "there");
    ours.get_mut(&ids[40]).unwrap().get_mut().commit(1, "here");
    let mut net = Net::over(ours, theirs, &ids, &ids);
    net.settle();
    assert_eq!(net.kinds, ["claims", "digest", "detail", "state"]);
    assert_eq!(
        net.dialler.events(),
        [
            LiveEvent::Lacks(ids[7]),
            LiveEvent::Lacks(ids[40]),
            LiveEvent::Checked
        ]
    );
    assert!(net.bytes < 16 * 100 + 64, "{}", net.bytes);
}

#[test]
fn a_set_that_is_not_remembered_is_told_once() {
    let (ours, theirs, ids) = both(&[1, 2, 3]);
    let mut net = Net::over(ours, theirs, &ids, &ids[..2]);
    net.settle();
    assert_eq!(net.kinds, ["unknown", "subscribe", "claims", "digest"]);
    assert_eq!(net.acceptor.events(), [LiveEvent::Subscribed(ids.clone())]);
    assert_eq!(
        net.acceptor.live.databases().copied().collect::<Vec<_>>(),
        ids
    );
}

#[test]
fn subscriptions_change_while_the_stream_lives() {
    let (ours, theirs, ids) = both(&[1, 2]);
    let mut net = Net::over(ours, theirs, &ids[..1], &ids[..1]);
    net.settle();
    net.acceptor.commit(ids[1], "nobody asked");
    net.settle();
    net.quiet();
    net.dialler
        .live
        .handle_notice(Notice::Subscribe(vec![ids[1]]));
    net.settle();
    assert_eq!(net.kinds, ["subscribe", "digest", "detail", "state"]);
    assert_eq!(net.acceptor.events(), [LiveEvent::Subscribed(vec![ids[1]])]);
    assert!(net.dialler.events().contains(&LiveEvent::Lacks(ids[1])));
    net.dialler
        .live
        .handle_notice(Notice::Unsubscribe(vec![ids[0]]));
    net.settle();
    assert_eq!(
        net.acceptor.events(),
        [LiveEvent::Unsubscribed(vec![ids[0]])]
    );
    net.quiet();
    net.acceptor.commit(ids[0], "no more of this");
    net.settle();
    assert_eq!(net.frames, 0);
}

/// An answer is about what the peer knew when it was asked, and nobody is to blame that it changes meanwhile.
#[test]
fn a_question_that_waits_is_about_what_was_said_before_it() {
    for grows in [true, false] {
        let (ours, theirs, ids) = both(&[1, 2, 3]);
        let mut net = Net::over(ours, theirs, &ids[..2], &ids[..2]);
        net.settle();
        net.quiet();
        let store = net.acceptor.stores.get_mut(&ids[0]).unwrap();
        store.get_mut().commit(1, "nobody has told");
        net.dialler.live.handle_notice(Notice::Check);
        net.dialler.run();
        net.acceptor.inbox.extend(net.dialler.sent.drain(..));
        net.acceptor.run();
        let digest = net.acceptor.sent.remove(0);
        // It is about to say something else when it learns that it has to ask on.
        let Side { live, stores, .. } = &mut net.dialler;
        live.handle_notice(Notice::Changed {
            database: ids[1],
            push: false,
        });
        let Output::Query(tips, of_tips) = live.poll_output(NOW) else {
            panic!()
        };
        live.handle_input(Input::Frame(digest), NOW);
        let Output::Query(id, query) = live.poll_output(NOW) else {
            panic!()
        };
        live.handle_input(Input::Answer(id, Ok(answer(stores, &query))), NOW);
        live.handle_notice(match grows {
            true => Notice::Subscribe(vec![ids[2]]),
            false => Notice::Unsubscribe(vec![ids[1]]),
        });
        live.handle_input(Input::Answer(tips, Ok(answer(stores, &of_tips))), NOW);
        net.settle();
        let ends = [&net.dialler.done, &net.acceptor.done];
        assert!(ends.iter().all(|end| end.is_none()), "{grows}: {ends:?}");
        let heard = net.dialler.events();
        assert!(heard.contains(&LiveEvent::Lacks(ids[0])), "{heard:?}");
        let subscribed = |side: &Side| side.live.databases().copied().collect::<Vec<_>>();
        assert_eq!(subscribed(&net.dialler), subscribed(&net.acceptor));
    }
}

#[test]
fn many_subscriptions_at_once_are_one_question() {
    let seeds: Vec<u8> = (1..=20).collect();
    let (ours, theirs, ids) = both(&seeds);
    let mut net = Net::over(ours, theirs, &ids[..1], &ids[..1]);
    // As after every sync that is over, while the answer to the opening is due.
    for id in &ids[1..] {
        net.dialler.live.handle_notice(Notice::Subscribe(vec![*id]));
    }
    net.settle();
    assert_eq!(net.kinds, ["claims", "digest", "subscribe", "digest"]);
    assert_eq!(net.dialler.events(), vec![LiveEvent::Checked; 2]);
    assert_eq!(net.acceptor.live.databases().count(), 20);
}

#[test]
fn an_answer_that_is_due_is_read_however_much_waits_to_be_said() {
    let seeds: Vec<u8> = (1..=20).collect();
    let (ours, theirs, ids) = both(&seeds);
    let mut net = Net::over(ours, theirs, &ids[..1], &ids[..1]);
    for pair in ids.windows(2) {
        let live = &mut net.dialler.live;
        live.handle_notice(Notice::Subscribe(vec![pair[1]]));
        live.handle_notice(Notice::Unsubscribe(vec![pair[0]]));
    }
    net.settle();
    assert!(net.dialler.done.is_none() && net.acceptor.done.is_none());
    assert_eq!(net.dialler.events(), vec![LiveEvent::Checked; 20]);
    let subscribed = |side: &Side| side.live.databases().copied().collect::<Vec<_>>();
    assert_eq!(subscribed(&net.acceptor), ids[19..]);
    assert_eq!(subscribed(&net.dialler), ids[19..]);
}

#[test]
fn whoever_may_not_read_hears_what_it_hears_of_nothing() {
    let run = |hidden: bool| {
        let (ours, mut theirs, ids) = both(&[1, 2]);
        if hidden {
            theirs.get_mut(&ids[0]).unwrap().readers = Some([key(77).public()].into());
        } else {
            theirs.remove(&ids[0]);
        }
        let mut net = Net::over(ours, theirs, &ids, &ids);
        net.settle();
        let mut heard = net.kinds.clone();
        let tips = TipList::new(net.dialler.stores[&ids[0]].get().tips());
        let database = ids[0];
        // It asks for it by name, in every way there is.
        for message in [
            LiveMessage::Have {
                database,
                tips: tips.clone(),
                large: false,
            },
            LiveMessage::Want {
                database,
                not: vec![database],
            },
            LiveMessage::Want {
                database,
                not: vec![],
            },
            LiveMessage::Entries {
                database,
                tips,
                packs: 1,
            },
        ] {
            let frame = Frame::Live(message).encode().unwrap();
            net.acceptor.inbox.push_back(frame);
        }
        let pack = net.dialler.stores.get_mut(&ids[0]).unwrap();
        let Answer::Packs(page) = pack.answer(&Query::Difference {
            database,
            not: vec![],
            closures: vec![],
            stores: Stores::All,
            cursor: None,
            budget_bytes: usize::MAX,
        }) else {
            panic!()
        };
        let pack = Frame::Pack(page.packs[0].clone()).encode().unwrap();
        net.acceptor.inbox.push_back(pack);
        if hidden {
            net.acceptor.commit(ids[0], "secret");
        }
        net.settle();
        if hidden {
            // Nothing was looked up for it.
            let asked = &net.acceptor.stores[&database].queries;
            assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == "can read"));
        }
        heard.extend(net.kinds.iter().skip(heard.len()));
        (
            heard,
            net.bytes,
            net.dialler.events(),
            net.acceptor.done.is_none(),
        )
    };
    let (denied, absent) = (run(true), run(false));
    assert_eq!(denied, absent);
    assert!(
        denied
            .2
            .iter()
            .any(|event| matches!(event, LiveEvent::Absent(_)))
            && denied.3
    );
}

#[test]
fn a_reader_that_is_revoked_hears_nothing_more() {
    let (mut net, ids) = Net::same(&[1]);
    net.acceptor.commit(ids[0], "while it may");
    net.settle();
    net.quiet();
    net.acceptor.stores.get_mut(&ids[0]).unwrap().readers = Some([key(77).public()].into());
    net.acceptor.commit(ids[0], "after");
    net.settle();
    assert_eq!(net.frames, 0);
}

#[test]
fn nothing_goes_to_an_acceptor_that_may_not_read_it() {
    let (mut ours, mut theirs, ids) = both(&[1]);
    let speaker = key(50);
    ours.get_mut(&ids[0]).unwrap().readers = Some([speaker.public()].into());
    theirs.get_mut(&ids[0]).unwrap().get_mut().commit(0, "");
    let mut net = Net::over(ours, theirs, &ids, &ids);
    net.settle();
    net.quiet();
    for n in 0..3 {
        net.dialler.commit(ids[0], &format!("{n}"));
        net.settle();
    }
    assert_eq!(net.frames, 0);
    // A sync may find out what it speaks for; it is asked for once.
    assert_eq!(net.dialler.events(), [LiveEvent::Lacks(ids[0])]);
}

#[test]
fn an_acceptor_is_sent_what_it_has_shown_claims_for() {
    let (mut ours, theirs, ids) = both(&[1]);
    let speaker = key(50);
    ours.get_mut(&ids[0]).unwrap().readers = Some([speaker.public()].into());
    let claim = DeviceClaim::make(&speaker, key(2).public(), Scope::All, NOW + 1_000).unwrap();
    let mut net = Net::with_claims(ours, theirs, &ids, &ids, vec![claim]);
    net.settle();
    net.dialler.commit(ids[0], "for those who may read");
    net.settle();
    net.assert_same(ids[0]);
}

#[test]
fn claims_that_are_made_while_a_stream_lives_are_shown_at_once() {
    let (mut ours, theirs, ids) = both(&[1]);
    let speaker = key(50);
    ours.get_mut(&ids[0]).unwrap().readers = Some([speaker.public()].into());
    let mut net = Net::over(ours, theirs, &ids, &ids);
    net.settle();
    net.quiet();
    let claim = DeviceClaim::make(&speaker, key(2).public(), Scope::All, NOW + 1_000).unwrap();
    let claims = Notice::Claims(vec![claim]);
    net.acceptor.live.handle_notice(claims.clone());
    net.settle();
    assert_eq!(net.kinds, ["claims"]);
    net.dialler.commit(ids[0], "for those who may read");
    net.settle();
    net.assert_same(ids[0]);
    // The same ones are not said again, and those that are gone count no more.
    net.quiet();
    net.acceptor.live.handle_notice(claims);
    net.settle();
    assert!(net.kinds.is_empty());
    net.acceptor.live.handle_notice(Notice::Claims(Vec::new()));
    net.settle();
    assert_eq!(net.kinds, ["claims"]);
    net.dialler.commit(ids[0], "for those who still may");
    net.settle();
    assert_eq!(net.kinds, ["claims"]);
    assert_eq!(net.dialler.events(), [LiveEvent::Lacks(ids[0])]);
}

#[test]
fn claims_are_not_shown_to_whoever_may_read_nothing() {
    let (ours, mut theirs, ids) = both(&[1]);
    theirs.get_mut(&ids[0]).unwrap().readers = Some([key(77).public()].into());
    let mut net = Net::over(ours, theirs, &ids, &ids);
    net.settle();
    net.quiet();
    let claim = DeviceClaim::make(&key(50), key(2).public(), Scope::All, NOW + 1_000).unwrap();
    net.acceptor.live.handle_notice(Notice::Claims(vec![claim]));
    net.settle();
    assert!(net.kinds.is_empty());
}

#[test]
fn what_is_withheld_is_synced_once_between_two_checks() {
    let (mut ours, theirs, ids) = both(&[1]);
    ours.get_mut(&ids[0]).unwrap().readers = Some([key(50).public()].into());
    let mut net = Net::over(ours, theirs, &ids, &ids);
    net.settle();
    net.quiet();
    for _ in 0..2 {
        for note in ["one", "two"] {
            net.dialler.commit(ids[0], note);
            net.settle();
        }
        assert_eq!(net.dialler.events(), [LiveEvent::Lacks(ids[0])]);
        // The sync, and a check after it.
        net.acceptor
            .stores
            .insert(ids[0], net.dialler.stores[&ids[0]].clone());
        net.dialler.live.handle_notice(Notice::Check);
        net.settle();
        net.quiet();
    }
}

#[test]
fn claims_for_some_databases_are_shown_when_those_may_be_read() {
    let (mut ours, mut theirs, ids) = both(&[1, 2]);
    let claims = [50, 51]
        .map(key)
        .into_iter()
        .zip(&ids)
        .map(|(speaker, id)| {
            ours.get_mut(id).unwrap().readers = Some([speaker.public()].into());
            let scope = Scope::Databases(vec![*id]);
            DeviceClaim::make(&speaker, key(2).public(), scope, NOW + 1_000).unwrap()
        });
    let claims = claims.collect();
    theirs.get_mut(&ids[1]).unwrap().readers = Some([key(77).public()].into());
    let mut net = Net::with_claims(ours, theirs, &ids, &ids, claims);
    net.settle();
    net.dialler.commit(ids[0], "for those who may read");
    net.settle();
    net.assert_same(ids[0]);
    // Later this device is let into the other one too.
    net.quiet();
    net.acceptor.stores.get_mut(&ids[1]).unwrap().readers = None;
    net.dialler.live.handle_notice(Notice::Check);
    net.settle();
    assert_eq!(net.kinds, ["check", "claims", "digest", "detail", "state"]);
    net.dialler.commit(ids[1], "for those who may read");
    net.settle();
    net.assert_same(ids[1]);
    // What is shown stays shown, and is not said again.
    net.quiet();
    net.dialler.live.handle_notice(Notice::Check);
    net.settle();
    assert_eq!(net.kinds, ["check", "digest"]);
    net.dialler.commit(ids[0], "and the first one still");
    net.settle();
    net.assert_same(ids[0]);
}

#[test]
fn entries_that_do_not_fit_in_lead_to_a_sync() {
    let (mut net, ids) = Net::same(&[1]);
    net.dialler.commit(ids[0], "first");
    net.settle();
    // The acceptor loses what the dialler knows that it has.
    *net.acceptor.stores.get_mut(&ids[0]).unwrap() = Store::new(Replica::new(1));
    net.quiet();
    net.dialler.commit(ids[0], "on top");
    net.settle();
    assert!(net.kinds.contains(&"compare"));
    assert!(net.dialler.events().contains(&LiveEvent::Lacks(ids[0])));
}

#[test]
fn a_database_without_room_keeps_no_other_from_being_heard() {
    let (mut net, ids) = Net::same(&[1, 2]);
    let [full, other] = [ids[0], ids[1]];
    net.dialler.full = Some(full);
    net.acceptor.full = Some(full);
    for round in 0..3 {
        let text = format!("round {round}");
        for side in [&mut net.dialler, &mut net.acceptor] {
            side.commit(full, &format!("{text} {}", side.tips(full).len()));
        }
        net.settle();
        net.dialler.commit(other, &text);
        net.settle();
        net.acceptor.commit(other, &format!("{text} there"));
        net.settle();
        net.assert_same(other);
    }
    assert!(net.dialler.done.is_none() && net.acceptor.done.is_none());
    // It is for a sync that fails, and waits longer each time.
    assert!(net.dialler.events().contains(&LiveEvent::Lacks(full)));
    assert!(!net.acceptor.events().contains(&LiveEvent::Lacks(full)));
}

#[test]
fn decisions_are_told() {
    let (mut net, _) = Net::same(&[1]);
    let request = RequestId::new([5; 32]);
    net.acceptor.live.handle_notice(Notice::Decided(request));
    net.settle();
    assert_eq!(net.dialler.events(), [LiveEvent::Decided(request)]);
}

#[test]
fn a_check_is_answered_and_silence_is_noticed_on_both_sides() {
    let (mut net, _) = Net::same(&[1, 2]);
    net.dialler.live.handle_notice(Notice::Check);
    net.dialler.live.handle_notice(Notice::Check);
    net.settle();
    assert_eq!(net.kinds, ["check", "digest"]);
    assert_eq!(net.dialler.events(), [LiveEvent::Checked]);
    // A dialler that asked and hears nothing.
    net.dialler.live.handle_notice(Notice::Check);
    net.dialler.run();
    let Output::Timeout(Some(at)) = net.dialler.live.poll_output(NOW) else {
        panic!()
    };
    assert_eq!(at, NOW + limits::LIVE_ANSWER_MS);
    net.dialler.live.handle_input(Input::Tick, at - 1);
    assert!(matches!(
        net.dialler.live.poll_output(at - 1),
        Output::Timeout(_)
    ));
    net.dialler.live.handle_input(Input::Tick, at);
    let Output::Done(Err(Failure::Idle(_))) = net.dialler.live.poll_output(at) else {
        panic!()
    };
    // An acceptor that is never asked.
    let Output::Timeout(Some(at)) = net.acceptor.live.poll_output(NOW) else {
        panic!()
    };
    assert_eq!(at, NOW + limits::LIVE_SILENCE_MS);
    net.acceptor.live.handle_input(Input::Tick, at);
    assert!(matches!(
        net.acceptor.live.poll_output(at),
        Output::Done(Err(Failure::Idle(_)))
    ));
}

#[test]
fn more_databases_than_a_stream_may_have_end_it() {
    let many = |count: usize| -> Vec<Id> {
        (0..count as u32)
            .map(|n| {
                let mut id = [9; 32];
                id[..4].copy_from_slice(&n.to_be_bytes());
                Id::new(id)
            })
            .collect()
    };
    let accept = || {
        let open = LiveOpen {
            set: [1; 32],
            count: 0,
        };
        Side::new(
            BTreeMap::new(),
            Live::accept(config(key(1).public(), Vec::new(), &[]), &open),
        )
    };
    let subscribe = |databases: Vec<Id>| Frame::Live(LiveMessage::Subscribe { databases }).encode();
    let mut side = accept();
    let all = many(limits::LIVE_DATABASES);
    side.inbox.push_back(subscribe(all.clone()).unwrap());
    side.run();
    assert!(side.done.is_none());
    side.inbox.push_back(subscribe(all[..1].to_vec()).unwrap());
    side.run();
    assert!(side.done.is_none(), "again is not more");
    side.inbox
        .push_back(subscribe(vec![Id::new([0xff; 32])]).unwrap());
    side.run();
    assert!(matches!(side.done, Some(Err(Failure::Peer(_)))));
    assert!(subscribe(many(limits::LIVE_DATABASES + 1)).is_err());
    // A dialler takes as many as it may have.
    let mut dialler = Side::new(
        BTreeMap::new(),
        Live::dial(config(
            key(2).public(),
            Vec::new(),
            &many(limits::LIVE_DATABASES + 1),
        )),
    );
    assert_eq!(opening(&mut dialler).count as usize, limits::LIVE_DATABASES);
}

#[test]
fn packs_above_the_limit_end_the_stream() {
    let (mut net, ids) = Net::same(&[1]);
    let tips = TipList::new(net.dialler.stores[&ids[0]].get().tips());
    let entries = |packs: u32| {
        let (database, tips) = (ids[0], tips.clone());
        Frame::Live(LiveMessage::Entries {
            database,
            tips,
            packs,
        })
        .encode()
    };
    assert!(entries(limits::LIVE_PACKS as u32).is_ok());
    assert!(entries(limits::LIVE_PACKS as u32 + 1).is_err());
    net.acceptor.inbox.push_back(entries(2).unwrap());
    let pack = Frame::Pack(vec![0; limits::LIVE_BYTES].into())
        .encode()
        .unwrap();
    net.acceptor.inbox.push_back(pack);
    net.acceptor.run();
    assert!(net.acceptor.done.is_none());
    let pack = Frame::Pack(vec![0].into()).encode().unwrap();
    net.acceptor.inbox.push_back(pack);
    net.acceptor.run();
    assert!(matches!(net.acceptor.done, Some(Err(Failure::Peer(_)))));
}

#[test]
fn whoever_asks_and_does_not_read_is_not_answered_for_ever() {
    let (ours, theirs, ids) = both(&[1]);
    let mut net = Net::over(ours, theirs, &ids, &ids);
    let check = Frame::Live(LiveMessage::Check).encode().unwrap();
    // Nothing of what the acceptor says is taken.
    let mut read = 0;
    loop {
        match net.acceptor.live.poll_output(NOW) {
            Output::Query(id, query) => {
                let answer = answer(&mut net.acceptor.stores, &query);
                net.acceptor
                    .live
                    .handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Timeout(_) if net.acceptor.live.wants_frame() => {
                net.acceptor
                    .live
                    .handle_input(Input::Frame(check.clone()), NOW);
                read += 1;
            }
            Output::Timeout(_) => break,
            _ => {}
        }
        assert!(read <= 2 * limits::LIVE_WAITING);
    }
}

#[test]
fn garbage_out_of_turn_ends_the_stream_and_says_who_is_to_blame() {
    let database = Id::new([1; 32]);
    let wrong_for_acceptor = [
        Frame::Live(LiveMessage::Unknown),
        Frame::Live(LiveMessage::State { digests: vec![] }),
        Frame::Live(LiveMessage::Compare { database }),
        Frame::Pack(vec![1].into()),
        Frame::Request(Request::Discover),
    ];
    let wrong_for_dialler = [
        Frame::Live(LiveMessage::Check),
        Frame::Live(LiveMessage::Subscribe { databases: vec![] }),
        Frame::Live(LiveMessage::State {
            digests: vec![Digest::NONE; 3],
        }),
        Frame::Reply(Reply::Equal),
    ];
    for (frames, to_dialler) in [
        (&wrong_for_acceptor[..], false),
        (&wrong_for_dialler[..], true),
    ] {
        for frame in frames {
            let (mut net, _) = Net::same(&[1]);
            let side = if to_dialler {
                &mut net.dialler
            } else {
                &mut net.acceptor
            };
            side.inbox.push_back(frame.encode().unwrap());
            side.run();
            assert!(
                matches!(side.done, Some(Err(Failure::Peer(_)))),
                "{frame:?}"
            );
        }
    }
    let (mut net, _) = Net::same(&[1]);
    let refused = Frame::Reply(Reply::Refused(Refusal::UNAVAILABLE))
        .encode()
        .unwrap();
    net.dialler.inbox.push_back(refused);
    net.dialler.run();
    assert_eq!(
        net.dialler.done,
        Some(Err(Failure::Refused(Refusal::UNAVAILABLE)))
    );
}

#[test]
fn the_bytes_of_messages_and_hashes_are_fixed() {
    let id = Id::new([1; 32]);
    let open = LiveOpen {
        set: set_hash([&id]),
        count: 1,
    };
    let request = Frame::Request(Request::Live(open)).encode().unwrap();
    let messages = [
        LiveMessage::Check,
        LiveMessage::Digest {
            all: Digest::of_all([(&id, &Digest::NONE)]),
        },
        LiveMessage::Want {
            database: id,
            not: vec![id],
        },
        LiveMessage::Decided {
            request: RequestId::new([5; 32]),
        },
    ];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&request);
    for message in messages {
        let frame = Frame::Live(message).encode().unwrap();
        assert_eq!(Frame::decode(&frame).unwrap().encode().unwrap(), frame);
        hasher.update(&frame);
    }
    assert_eq!(
        hasher.finalize().to_hex().as_str(),
        "f62c08af0b7cc4a8ea42dadfb5ab904d8c4eb30fe9cef316f605253bd6132827"
    );
}

/// What a few entries take on the stream, each with so many bytes of payload and 16 more of them.
fn bytes_for(version: u16, holds: Stores, listener_dials: bool) -> (Net, Id) {
    let holds = match listener_dials {
        true => [holds, Stores::All],
        false => [Stores::All, holds],
    };
    let (mut net, id) = Net::sparse(version, holds);
    for n in 0..16 {
        let writer = match listener_dials {
            true => &mut net.acceptor,
            false => &mut net.dialler,
        };
        writer.add_bytes(id, n, PAYLOAD);
        writer.changed(id, true);
        net.settle();
        net.assert_same(id);
    }
    (net, id)
}

const PAYLOAD: usize = 16 << 10;

#[test]
fn who_holds_no_payloads_is_sent_headers_alone() {
    for listener_dials in [true, false] {
        let (whole, _) = bytes_for(VERSIONS[0], Stores::All, listener_dials);
        assert!(whole.bytes > 16 * PAYLOAD, "{}", whole.bytes);
        for holds in [
            Stores::these([]),
            Stores::these([StoreName::new("tags").unwrap()]),
        ] {
            let (sparse, id) = bytes_for(VERSIONS[0], holds, listener_dials);
            // Header, signature, tips and an acknowledgement.
            assert!(sparse.bytes < 16 * 512, "{} bytes", sparse.bytes);
            let listener = match listener_dials {
                true => &sparse.dialler,
                false => &sparse.acceptor,
            };
            assert_eq!(listener.lacking(id), 16);
            let said = sparse.kinds.iter().filter(|kind| **kind == "holds");
            assert_eq!(said.count(), 0, "it was said at the start, once");
        }
        let notes = Stores::these([StoreName::new("notes").unwrap()]);
        let (held, _) = bytes_for(VERSIONS[0], notes, listener_dials);
        assert!(held.bytes > 16 * PAYLOAD, "{}", held.bytes);
    }
}

#[test]
fn a_peer_of_an_older_version_is_sent_everything_as_before() {
    for version in [1, 2] {
        for listener_dials in [true, false] {
            let (net, _) = bytes_for(version, Stores::these([]), listener_dials);
            assert!(net.bytes > 16 * PAYLOAD && !net.kinds.contains(&"holds"));
            assert!(net.dialler.done.is_none() && net.acceptor.done.is_none());
        }
    }
    // Nor may it say what only a newer one knows.
    let (mut net, database) = Net::sparse(2, [Stores::All, Stores::All]);
    let (stores, lacks) = (Stores::All, true);
    let holds = LiveMessage::Holds {
        database,
        stores,
        lacks,
    };
    let frame = Frame::Live(holds).encode().unwrap();
    net.dialler.inbox.push_back(frame);
    net.dialler.run();
    assert!(matches!(net.dialler.done, Some(Err(Failure::Peer(_)))));
}

/// Either side may hold more than before. The dialler sees to it that what is missing comes.
#[test]
fn who_holds_more_than_before_says_so_and_gets_the_rest() {
    for dialler_widens in [true, false] {
        let holds = |is_sparse| match is_sparse {
            true => Stores::these([]),
            false => Stores::All,
        };
        let (mut net, id) = Net::sparse(3, [holds(dialler_widens), holds(!dialler_widens)]);
        let writer = match dialler_widens {
            true => &mut net.acceptor,
            false => &mut net.dialler,
        };
        writer.commit(id, "one");
        net.settle();
        assert!(!net.dialler.is_incomplete(id), "nobody wants it");
        let listener = match dialler_widens {
            true => &mut net.dialler,
            false => &mut net.acceptor,
        };
        assert_eq!(listener.lacking(id), 1);
        listener.hold(id, Stores::All);
        net.settle();
        assert!(net.dialler.is_incomplete(id));
        let writer = match dialler_widens {
            true => &mut net.acceptor,
            false => &mut net.dialler,
        };
        writer.commit(id, "two");
        net.settle();
        let listener = match dialler_widens {
            true => &net.dialler,
            false => &net.acceptor,
        };
        assert_eq!(listener.lacking(id), 1, "the second came whole");
    }
}

#[test]
fn what_a_relay_lacks_is_asked_for_at_once() {
    for dialler_lacks in [true, false] {
        let (mut net, id) = Net::sparse(3, [Stores::All, Stores::All]);
        let relay = match dialler_lacks {
            true => &mut net.acceptor,
            false => &mut net.dialler,
        };
        relay
            .stores
            .get_mut(&id)
            .unwrap()
            .get_mut()
            .commit(1, "far");
        relay.strip(id);
        relay.hold(id, Stores::these([]));
        net.settle();
        net.assert_same(id);
        assert!(
            !net.dialler.is_incomplete(id),
            "the relay says that it does not hold it"
        );
        // It is to hold it after all.
        let relay = match dialler_lacks {
            true => &mut net.acceptor,
            false => &mut net.dialler,
        };
        relay.hold(id, Stores::All);
        net.settle();
        assert!(net.dialler.is_incomplete(id));
    }
}

#[test]
fn what_is_missing_does_not_show_in_a_digest_and_is_looked_for_with_every_check() {
    let (mut net, id) = Net::sparse(3, [Stores::All, Stores::All]);
    net.dialler.commit(id, "one");
    net.settle();
    net.dialler.events();
    net.dialler.strip(id);
    for kinds in [&["check", "digest", "holds"][..], &["check", "digest"]] {
        net.quiet();
        net.dialler.live.handle_notice(Notice::Check);
        net.settle();
        assert_eq!(net.kinds, kinds);
        assert!(net.dialler.is_incomplete(id));
    }
    // Nobody of version 1 can be asked.
    let (mut net, id) = Net::sparse(1, [Stores::All, Stores::All]);
    net.dialler.commit(id, "one");
    net.dialler.strip(id);
    net.dialler.live.handle_notice(Notice::Check);
    net.settle();
    assert!(!net.dialler.is_incomplete(id));
}

impl Side {
    /// What it told the engine of the payloads that the peer has.
    fn said(&mut self) -> Vec<Option<Holding>> {
        let events = self.events().into_iter();
        let said = events.filter_map(|event| match event {
            LiveEvent::Holding(_, holding) | LiveEvent::Holds(_, _, holding) => Some(holding),
            _ => None,
        });
        said.collect()
    }
}

/// Nothing has changed since they last met but what one of them holds, which no digest shows.
#[test]
fn what_is_held_is_said_at_the_start_although_nothing_else_is() {
    let some = Holding {
        stores: Stores::these([StoreName::new("tags").unwrap()]),
        lacks: false,
    };
    for dialler_is_sparse in [true, false] {
        let (mut ours, mut theirs, ids) = both(&[1, 2]);
        let sparse = match dialler_is_sparse {
            true => &mut ours,
            false => &mut theirs,
        };
        sparse.get_mut(&ids[1]).unwrap().holds = some.stores.clone();
        let mut net = Net::over(ours, theirs, &ids, &ids);
        net.settle();
        assert_eq!(net.kinds, ["claims", "digest", "holds"]);
        let (sparse, whole) = match dialler_is_sparse {
            true => (&mut net.dialler, &mut net.acceptor),
            false => (&mut net.acceptor, &mut net.dialler),
        };
        assert_eq!(whole.said(), [Some(some.clone())]);
        assert_eq!(sparse.said(), []);
        net.quiet();
        net.dialler.live.handle_notice(Notice::Check);
        net.settle();
        assert_eq!(net.kinds, ["check", "digest"], "once");
    }
}

#[test]
fn who_has_our_tips_says_what_it_has_of_the_payloads() {
    let whole = Holding::default();
    let none = Holding {
        stores: Stores::these([]),
        lacks: false,
    };
    // Nobody of version 1 leaves anything out; whoever speaks version 2 may, and does not say so here.
    for (version, dialler_knows, acceptor_knows) in [
        (1, Some(&whole), Some(&whole)),
        (2, None, None),
        (3, Some(&none), Some(&whole)),
    ] {
        let (mut net, id) = Net::sparse(version, [Stores::All, Stores::these([])]);
        net.dialler.commit(id, "one");
        net.settle();
        net.acceptor.commit(id, "two");
        net.settle();
        let said = |side: &mut Side| side.said().pop().unwrap();
        assert_eq!(said(&mut net.dialler).as_ref(), dialler_knows);
        assert_eq!(said(&mut net.acceptor).as_ref(), acceptor_knows);
    }
    // A header came to it from elsewhere, without its payload.
    let (mut net, id) = Net::sparse(3, [Stores::All, Stores::All]);
    net.dialler.commit(id, "one");
    net.settle();
    net.dialler.events();
    net.acceptor.strip(id);
    net.acceptor.changed(id, false);
    net.settle();
    let lacks = Holding {
        lacks: true,
        ..whole
    };
    assert_eq!(net.dialler.said(), [Some(lacks)]);
}

/// Nobody has to remember more names than that: it is sent everything then.
#[test]
fn who_names_too_many_stores_is_sent_everything() {
    let long = |n: usize| StoreName::new(&format!("{n:0>255}")).unwrap();
    for (names, is_stripped) in [(257, true), (258, false)] {
        let seeds: Vec<u8> = (1..=2).collect();
        let (mut ours, theirs, ids) = both(&seeds);
        let stores = |from: usize, count: usize| Stores::these((from..from + count).map(long));
        ours.get_mut(&ids[0]).unwrap().holds = stores(0, 256);
        ours.get_mut(&ids[1]).unwrap().holds = stores(0, names - 256);
        let mut net = Net::over(ours, theirs, &ids, &ids);
        net.settle();
        let said = net.acceptor.said().into_iter();
        let is_known: Vec<bool> = said.map(|holding| holding.is_some()).collect();
        assert_eq!(is_known, [true, is_stripped], "not that it holds all");
        net.quiet();
        net.acceptor.add_bytes(ids[1], 0, PAYLOAD);
        net.acceptor.changed(ids[1], true);
        net.settle();
        assert_eq!(
            net.bytes < PAYLOAD,
            is_stripped,
            "{names} names, {} bytes",
            net.bytes
        );
    }
}

#[test]
fn the_bytes_of_what_is_held_are_fixed() {
    let holds = LiveMessage::Holds {
        database: Id::new([1; 32]),
        stores: Stores::these([StoreName::new("notes").unwrap()]),
        lacks: true,
    };
    let frame = Frame::Live(holds).encode().unwrap();
    let bytes = [&[4, 13][..], &[1; 32], &[1, 1, 5], b"notes", &[1]].concat();
    assert_eq!(frame, bytes);
    assert_eq!(Frame::decode(&frame).unwrap().encode().unwrap(), frame);
}

#[test]
fn whoever_turns_a_stream_away_says_so_at_once() {
    let (mut net, ids) = Net::same(&[1]);
    net.acceptor.commit(ids[0], "news that nobody hears");
    let refusal = Notice::Refuse(Refusal::UNAVAILABLE);
    net.acceptor.live.handle_notice(refusal);
    net.dialler.live.handle_notice(Notice::Check);
    net.dialler.run();
    let question = std::mem::take(&mut net.dialler.sent);
    assert_eq!(question.len(), 1);
    net.acceptor.inbox.extend(question);
    net.acceptor.run();
    let said = std::mem::take(&mut net.acceptor.sent);
    let refused = Frame::Reply(Reply::Refused(Refusal::UNAVAILABLE));
    assert_eq!(said, [refused.encode().unwrap()]);
    assert_eq!(net.acceptor.done, Some(Ok(())));
    net.dialler.inbox.extend(said);
    net.dialler.run();
    let heard = Failure::Refused(Refusal::UNAVAILABLE);
    assert_eq!(net.dialler.done, Some(Err(heard)));
}
