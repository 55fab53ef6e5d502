//! A node with very many databases: what happens to one of them costs the same as where there are few. Work that is done
//! for all of them each time would take minutes here.

use std::collections::BTreeSet;

use eidetica_engine::{Command, Input, Job, LinkId, StreamId, Wishes};
use eidetica_entry::Id;
use eidetica_protocol::{CloseReason, Failure, LiveEvent, Notice, limits as protocol_limits};

use crate::bench::{Bench, key, outcome};

const MANY: u32 = 20_000;

/// In the order of their numbers.
fn id(n: u32) -> Id {
    let mut id = [5; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Id::new(id)
}

const ROUNDS: Wishes = Wishes {
    enabled: true,
    on_commit: false,
    interval_s: Some(300),
};

impl Bench {
    /// Runs what is to be run, and says of which databases that was.
    fn run_all(&mut self, mut end: impl FnMut(&mut Self, eidetica_engine::TaskId)) -> Vec<Id> {
        let mut ran = Vec::new();
        while let Some((task, _, job)) = self.task() {
            let Job::Sync { database, .. } = job else {
                panic!("{job:?}")
            };
            ran.push(database);
            end(self, task);
        }
        ran
    }

    /// Synced with peer 1 in rounds, one after another.
    fn in_rounds(&mut self) -> LinkId {
        let link = self.with_peer(1);
        for n in 0..MANY {
            self.input(Input::Wishes(id(n), Some(ROUNDS)));
            self.now(Command::Relate(key(1), id(n))).unwrap();
        }
        link
    }

    /// Connected anew, if that is what it wants.
    fn reconnect(&mut self) {
        if let Some((link, ..)) = self.connect() {
            self.connected(link, key(1));
        }
        while self.closed().is_some() {}
    }
}

#[test]
fn all_are_synced_in_one_round() {
    let mut bench = Bench::live();
    bench.in_rounds();
    for wait in [0, 300_000] {
        bench.pass_until(bench.now + wait);
        bench.reconnect();
        let ran = bench.run_all(|bench, task| bench.synced(task, Ok(outcome())));
        let all: Vec<Id> = (0..MANY).map(id).collect();
        assert!(ran == all, "each once, in their order");
    }
}

#[test]
fn all_are_tried_again() {
    let mut bench = Bench::live();
    bench.in_rounds();
    bench.pass_until(bench.now);
    let cut = || Failure::Closed(CloseReason::Cut);
    let ran = bench.run_all(|bench, task| bench.synced(task, Err(cut())));
    assert_eq!(ran.len() as u32, MANY);
    // Each has a time of its own.
    let mut again = BTreeSet::new();
    let end = bench.now + 10_000;
    while let Some(due) = bench.timeout.filter(|due| *due < end) {
        bench.pass_until(due);
        again.extend(bench.run_all(|bench, task| bench.synced(task, Ok(outcome()))));
    }
    assert_eq!(again.len() as u32, MANY);
}

/// What peer 1 is asked to tell of, from what it was told on its stream.
#[derive(Default)]
struct Subscribed {
    stream: Option<StreamId>,
    databases: BTreeSet<Id>,
}

impl Subscribed {
    fn follow(&mut self, bench: &mut Bench) {
        if let Some(ended) = bench.ended() {
            assert_eq!(Some(ended), self.stream);
            *self = Self::default();
        }
        if let Some((stream, _, databases)) = bench.opened() {
            self.stream = Some(stream);
            self.databases = databases.into_iter().collect();
        }
        while let Some((stream, notice)) = bench.told() {
            assert_eq!(Some(stream), self.stream);
            match notice {
                Notice::Subscribe(new) => {
                    assert!(new.into_iter().all(|id| self.databases.insert(id)));
                }
                Notice::Unsubscribe(gone) => {
                    assert!(gone.iter().all(|id| self.databases.remove(id)));
                }
                other => panic!("{other:?}"),
            }
            assert!(self.databases.len() <= protocol_limits::LIVE_DATABASES);
        }
    }

    fn are(&self, expected: impl Iterator<Item = u32>) -> bool {
        self.databases.iter().copied().eq(expected.map(id))
    }
}

#[test]
fn each_that_comes_and_goes_is_told_on_the_stream_that_is_there() {
    let mut bench = Bench::live();
    bench.with_peer(1);
    let mut subscribed = Subscribed::default();
    let most = MANY.min(protocol_limits::LIVE_DATABASES as u32);
    for n in (0..MANY).rev() {
        bench.now(Command::Relate(key(1), id(n))).unwrap();
        subscribed.follow(&mut bench);
    }
    // The first are told, in whatever order they came; the others have rounds.
    assert!(subscribed.are(0..most));
    let off = Wishes {
        enabled: false,
        ..ROUNDS
    };
    for n in 0..MANY / 2 {
        match n % 2 {
            0 => drop(bench.now(Command::Unrelate(key(1), id(n))).unwrap()),
            _ => bench.input(Input::Wishes(id(n), Some(off))),
        }
        subscribed.follow(&mut bench);
        assert!(!subscribed.databases.contains(&id(n)));
    }
    // What was beyond it has moved up.
    assert!(subscribed.are(MANY / 2..MANY));
    for n in 0..MANY / 2 {
        bench.now(Command::ForgetDatabase(id(n))).unwrap();
    }
    for n in MANY / 2..MANY {
        assert!(subscribed.stream.is_some());
        bench.now(Command::ForgetDatabase(id(n))).unwrap();
        subscribed.follow(&mut bench);
    }
    assert_eq!(subscribed.stream, None);
}

#[test]
fn whoever_listens_to_all_says_so_one_by_one() {
    let mut bench = Bench::live();
    let all: Vec<Id> = (0..protocol_limits::LIVE_DATABASES as u32)
        .map(id)
        .collect();
    let (stream, _) = bench.accept(key(9), &[]);
    for database in &all {
        let subscribed = LiveEvent::Subscribed(vec![*database]);
        bench.input(Input::Live(stream, subscribed));
    }
    bench.input(Input::LiveEnded(stream, Ok(())));
    let (stream, remembered) = bench.accept(key(9), &all);
    assert_eq!(remembered, all);
    for database in &all[1..] {
        let gone = LiveEvent::Unsubscribed(vec![*database]);
        bench.input(Input::Live(stream, gone));
    }
    let (_, remembered) = bench.accept(key(9), &all[..1]);
    assert_eq!(remembered, all[..1]);
}

/// Peers that are waiting do not cost those that come after them.
#[test]
fn very_many_peers_are_dialled_at_once() {
    let mut bench = Bench::live();
    let peers = 2000;
    for n in 0..peers {
        bench.peer_at(n, &[&format!("peer{n}:1")]);
        bench.now(Command::Queue(key(n), id(u32::from(n)))).unwrap();
    }
    let dials: Vec<_> = std::iter::from_fn(|| bench.connect()).collect();
    assert_eq!(dials.len(), usize::from(peers));
    let mut ran = 0;
    for (link, _, peer) in dials {
        bench.connected(link, peer.unwrap());
        ran += bench
            .run_all(|bench, task| bench.synced(task, Ok(outcome())))
            .len();
    }
    assert_eq!(ran, usize::from(peers));
}
