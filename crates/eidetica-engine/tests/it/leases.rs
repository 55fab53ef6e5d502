//! Several processes that are one instance: who does what with which peer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eidetica_engine::{Action, Command, Input, LeaseChange, Record, Wishes, limits};
use eidetica_entry::PublicKey;

use crate::bench::{Bench, START, address, database, key};

/// Processes on the same rows. Each has its own clock, which may be anything.
struct Instance {
    rows: BTreeMap<String, Bytes>,
    processes: Vec<Option<Bench>>,
}

impl Instance {
    /// Processes that know the same peers, with a database each that is synced with them.
    fn new(processes: u8, peers: u16) -> Self {
        let mut first = Bench::live();
        for n in 1..=peers {
            let (peer, name) = (key(n), None);
            first
                .now(Command::RegisterPeer { key: peer, name })
                .unwrap();
            let at = address(&format!("peer{n}:1"));
            first.now(Command::AddAddress(peer, at)).unwrap();
            first.now(Command::Relate(peer, database(1))).unwrap();
        }
        let records = first.records;
        let process = |n| {
            Some(Bench::process(
                n,
                records.clone(),
                START + u64::from(n) * 1_000_000,
            ))
        };
        Self {
            rows: BTreeMap::new(),
            processes: (1..=processes).map(process).collect(),
        }
    }

    fn living(&mut self) -> impl Iterator<Item = &mut Bench> {
        self.processes.iter_mut().flatten()
    }

    /// Carries out what processes want of the rows, until nobody wants anything.
    fn settle(&mut self) {
        let Self { rows, processes } = self;
        let mut writes = 0;
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for bench in processes.iter_mut().flatten() {
                while let Some(changes) = leases(bench) {
                    write(rows, &changes);
                    bench.input(Input::Leases(Some(rows.clone().into_iter().collect())));
                    busy = true;
                    writes += 1;
                    assert!(writes < 100, "they never agree");
                }
            }
        }
    }

    /// Lets time pass for all of them, in steps.
    fn pass(&mut self, ms: u64) {
        let step = limits::BEAT_MS / 3;
        for _ in 0..ms.div_ceil(step) {
            for bench in self.living() {
                let at = bench.now + step;
                bench.pass_until(at);
            }
            self.settle();
        }
    }

    fn held(&self) -> Vec<Vec<PublicKey>> {
        let held = |bench: &Option<Bench>| bench.as_ref().map(|bench| bench.engine.held_peers());
        self.processes
            .iter()
            .map(|bench| held(bench).unwrap_or_default())
            .collect()
    }

    /// Every peer is held by exactly one process: how many each has.
    fn check(&mut self, peers: u16) -> Vec<usize> {
        let held = self.held();
        let all: BTreeSet<PublicKey> = held.iter().flatten().copied().collect();
        assert_eq!(all.len(), usize::from(peers));
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), usize::from(peers), "{held:?}");
        counts
    }

    fn dialled(&mut self, n: usize) -> BTreeSet<PublicKey> {
        let bench = self.processes[n].as_mut().unwrap();
        std::iter::from_fn(|| bench.connect())
            .filter_map(|(_, _, pinned)| pinned)
            .collect()
    }
}

fn leases(bench: &mut Bench) -> Option<Vec<LeaseChange>> {
    bench.take(|action| match action {
        Action::Lease(changes) => Some(changes.clone()),
        _ => None,
    })
}

fn write(rows: &mut BTreeMap<String, Bytes>, changes: &[LeaseChange]) {
    for LeaseChange { key, before, after } in changes {
        if rows.get(key) == before.as_ref() {
            match after {
                Some(after) => rows.insert(key.clone(), after.clone()),
                None => rows.remove(key),
            };
        }
    }
}

#[test]
fn one_process_does_everything_and_several_share_it() {
    let mut one = Instance::new(1, 10);
    one.settle();
    assert_eq!(one.check(10), [10]);
    assert_eq!(one.dialled(0).len(), 10);

    let mut four = Instance::new(4, 10);
    four.settle();
    four.pass(8 * limits::BEAT_MS);
    let counts = four.check(10);
    assert!(
        counts.iter().all(|count| (1..=3).contains(count)),
        "{counts:?}"
    );
    for (n, held) in four.held().into_iter().enumerate() {
        // Whoever came first had more for a moment, and no link was made twice at a time.
        assert!(four.dialled(n).is_superset(&held.into_iter().collect()));
    }
}

#[test]
fn the_work_of_a_process_that_dies_is_taken_over_and_not_before() {
    let mut two = Instance::new(2, 8);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(8), [4, 4]);
    let (lost, before) = (two.held()[0].clone(), two.dialled(1));
    two.processes[0] = None;
    two.pass(limits::LEASE_MS);
    assert_eq!(two.held()[1].len(), 4, "it may only be slow");
    two.pass(u64::from(limits::DEAD_READS) * limits::BEAT_MS);
    assert_eq!(two.check(8), [0, 8]);
    let dialled = two.dialled(1);
    assert!(dialled.is_superset(&lost.into_iter().collect()));
    assert!(dialled.is_disjoint(&before), "it was connected already");
    // A process that begins again takes its share back.
    let records = two.processes[1].as_ref().unwrap().records.clone();
    two.processes[0] = Some(Bench::process(7, records, START));
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(8), [4, 4]);
}

#[test]
fn reading_in_haste_says_nothing_of_the_others() {
    let mut two = Instance::new(2, 8);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    let before = two.held();
    let theirs = before[1][0];
    for n in 2..12 {
        let hasty = two.processes[0].as_mut().unwrap();
        hasty.now(Command::Relate(theirs, database(n))).unwrap();
        two.settle();
    }
    assert_eq!(two.held(), before);
}

#[test]
fn whoever_stops_in_order_gives_everything_back_at_once() {
    let mut two = Instance::new(2, 8);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    two.processes[0]
        .as_mut()
        .unwrap()
        .now(Command::Stop)
        .unwrap();
    two.settle();
    two.processes[0] = None;
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(8), [0, 8]);
}

/// It cannot reach the rows: it must have stopped before anybody takes over.
#[test]
fn a_process_that_cannot_beat_gives_up_before_others_take_its_work() {
    let mut two = Instance::new(2, 8);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    let mut cut = two.processes[0].take().unwrap();
    let lost: BTreeSet<PublicKey> = cut.engine.held_peers().into_iter().collect();
    for _ in 0..40 {
        two.pass(limits::BEAT_MS / 3);
        let at = cut.now + limits::BEAT_MS / 3;
        cut.pass_until(at);
        while leases(&mut cut).is_some() {
            cut.input(Input::Leases(None));
        }
        let theirs: BTreeSet<PublicKey> = two.held()[1].iter().copied().collect();
        let ours: BTreeSet<PublicKey> = cut.engine.held_peers().into_iter().collect();
        assert!(ours.is_disjoint(&theirs));
    }
    assert!(cut.engine.held_peers().is_empty());
    assert!(two.held()[1].iter().any(|peer| lost.contains(peer)));
    // It is back, was taken for dead, and gets its share again.
    two.processes[0] = Some(cut);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(8), [4, 4]);
}

#[test]
fn a_clock_that_jumps_takes_nothing_from_anybody() {
    let mut two = Instance::new(2, 8);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    let before = two.held();
    let bench = two.processes[1].as_mut().unwrap();
    let at = bench.now + 24 * 3_600_000;
    bench.now = at;
    bench.input(Input::Tick);
    two.settle();
    assert_eq!(two.held()[0], before[0]);
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.held()[0], before[0]);
    assert_eq!(two.check(8), [4, 4]);
}

#[test]
fn what_is_queued_in_one_process_is_done_by_the_one_that_holds_the_peer() {
    let mut two = Instance::new(2, 2);
    two.settle();
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(2), [1, 1]);
    let theirs = two.held()[1][0];
    let (_, _) = (two.dialled(0), two.dialled(1));
    let bench = two.processes[0].as_mut().unwrap();
    let before = bench.records.clone();
    bench.now(Command::Queue(theirs, database(2))).unwrap();
    let new = bench
        .records
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value));
    let new = new.map(|(key, value)| (key.clone(), Some(value.clone())));
    let records: Vec<Record> = new.map(|(key, value)| Record { key, value }).collect();
    assert!(records.iter().all(Record::is_shared) && !records.is_empty());
    two.settle();
    assert!(two.processes[0].as_mut().unwrap().task().is_none());
    // The other one hears of it; its link is still being made.
    let bench = two.processes[1].as_mut().unwrap();
    bench.engine.meet(&records, bench.now).unwrap();
    bench.drain();
    assert!(bench.engine.is_queued(&theirs, &database(2)));
    assert!(bench.connect().is_none(), "it is dialling already");
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.check(2), [1, 1]);
}

/// An interval that is longer than processes last: a round is due when one of them has begun, and again when another one
/// takes over that knows of none.
#[test]
fn rounds_that_are_due_before_a_peer_is_held_are_made_then() {
    let mut two = Instance::new(2, 1);
    let daily = Wishes {
        enabled: true,
        on_commit: false,
        interval_s: Some(86_400),
    };
    for bench in two.living() {
        bench.input(Input::Wishes(database(1), Some(daily)));
        // Due, and left to whoever holds the peer.
        bench.pass_until(bench.now);
        assert!(bench.connect().is_none());
    }
    two.settle();
    assert_eq!(two.check(1).into_iter().sum::<usize>(), 1);
    let holder = two.held().iter().position(|held| !held.is_empty()).unwrap();
    two.pass(limits::BEAT_MS);
    assert_eq!(two.dialled(holder).len(), 1);
    assert_eq!(two.dialled(1 - holder).len(), 0);
    two.processes[holder] = None;
    two.pass(8 * limits::BEAT_MS);
    assert_eq!(two.held()[1 - holder].len(), 1);
    assert_eq!(two.dialled(1 - holder).len(), 1);
}

#[test]
fn a_process_with_nothing_to_do_unasked_leaves_no_trace() {
    let mut one = Instance::new(1, 3);
    one.processes[0]
        .as_mut()
        .unwrap()
        .now(Command::Background(false))
        .unwrap();
    one.settle();
    one.pass(8 * limits::BEAT_MS);
    assert!(one.rows.is_empty(), "{:?}", one.rows);
}
