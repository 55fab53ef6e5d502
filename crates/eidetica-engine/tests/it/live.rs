//! News: who is kept connected, who is told, and when rounds are made.

use std::collections::BTreeMap;

use eidetica_auth::{Permission, SignedRequest};
use eidetica_engine::{
    Action, Command, EngineError, Input, Job, JobResult, LinkId, Reach, Response, Selection,
    StreamId, Target, Wishes, limits,
};
use eidetica_entry::{Height, Id, PublicKey, Stamp, StoreName};
use eidetica_protocol::{
    BootstrapAnswer, CallReply, CloseReason, Failure, Holding, LiveEvent, LiveOpen, Notice,
    Outcome, Refusal, Stores, TipList, limits as protocol_limits, set_hash,
};

use crate::bench::{Bench, database, key, outcome, request};

const LIVE: Wishes = Wishes {
    enabled: true,
    on_commit: true,
    interval_s: None,
};

fn every(seconds: u64) -> Wishes {
    Wishes {
        enabled: true,
        on_commit: false,
        interval_s: Some(seconds),
    }
}

fn open_of(databases: &[Id]) -> LiveOpen {
    LiveOpen {
        set: set_hash(databases),
        count: databases.len() as u32,
    }
}

fn cut() -> Failure {
    Failure::Closed(CloseReason::Cut)
}

impl Bench {
    pub(crate) fn opened(&mut self) -> Option<(StreamId, LinkId, Vec<Id>)> {
        self.take(|action| match action {
            Action::OpenLive(id, link, databases) => Some((*id, *link, databases.clone())),
            _ => None,
        })
    }

    pub(crate) fn told(&mut self) -> Option<(StreamId, Notice)> {
        self.take(|action| match action {
            Action::Tell(id, notice) => Some((*id, notice.clone())),
            _ => None,
        })
    }

    pub(crate) fn ended(&mut self) -> Option<StreamId> {
        self.take(|action| match action {
            Action::EndLive(id) => Some(*id),
            _ => None,
        })
    }

    /// A peer that is connected and with which these databases are synced.
    fn live_with(&mut self, n: u16, databases: &[Id]) -> (StreamId, LinkId) {
        let link = self.with_peer(n);
        for database in databases {
            self.now(Command::Relate(key(n), *database)).unwrap();
        }
        let (stream, on, first) = self.opened().expect("a stream");
        assert_eq!((on, first), (link, databases[..1].to_vec()));
        for database in &databases[1..] {
            let told = self.told().unwrap();
            assert_eq!(told, (stream, Notice::Subscribe(vec![*database])));
        }
        self.input(Input::Live(stream, LiveEvent::Checked));
        (stream, link)
    }

    /// When something is to be done, not before now.
    fn due(&self) -> u64 {
        self.timeout.unwrap().max(self.now)
    }

    fn changed(&mut self, n: u8, here: bool) {
        self.input(Input::Changed {
            database: database(n),
            here,
        });
    }

    pub(crate) fn accept(&mut self, device: PublicKey, databases: &[Id]) -> (StreamId, Vec<Id>) {
        let accepted = self
            .engine
            .accept_live(&device, &open_of(databases), self.now)
            .unwrap();
        self.drain();
        accepted
    }
}

#[test]
fn a_commit_is_told_at_once_to_whoever_is_connected_and_costs_no_record() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1), database(2)]);
    let (listener, _) = bench.accept(key(9), &[database(1)]);
    bench.input(Input::Live(
        listener,
        LiveEvent::Subscribed(vec![database(1)]),
    ));
    let writes = bench.writes;
    bench.changed(1, true);
    let push = |push| Notice::Changed {
        database: database(1),
        push,
    };
    let mut told = [bench.told().unwrap(), bench.told().unwrap()];
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told, [(stream, push(true)), (listener, push(true))]);
    bench.changed(1, false);
    assert_eq!(bench.told().unwrap().1, push(false), "relays do not push");
    bench.told().unwrap();
    bench.changed(3, true);
    assert_eq!(bench.told(), None, "nobody asked for news of it");
    assert_eq!(bench.writes, writes);
}

#[test]
fn a_peer_with_two_streams_is_told_once() {
    let mut bench = Bench::live();
    let (dialled, _) = bench.live_with(1, &[database(1)]);
    let (accepted, _) = bench.accept(key(1), &[]);
    let subscribed = LiveEvent::Subscribed(vec![database(1)]);
    bench.input(Input::Live(accepted, subscribed));
    bench.changed(1, true);
    assert_eq!(bench.told().map(|(id, _)| id), Some(dialled));
    assert_eq!(bench.told(), None);
}

#[test]
fn connections_are_checked_every_minute() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    let start = bench.now;
    for minute in 1..=5 {
        bench.pass_until(start + minute * limits::CHECK_MS - 1);
        assert_eq!(bench.told(), None);
        bench.pass_until(start + minute * limits::CHECK_MS);
        assert_eq!(bench.told(), Some((stream, Notice::Check)));
        bench.input(Input::Live(stream, LiveEvent::Checked));
    }
    assert_eq!(limits::CHECK_MS, 60_000);
    let Reach::Connected { checked_ms, .. } = bench.engine.reach(&key(1)) else {
        panic!()
    };
    assert_eq!(checked_ms, Some(bench.now));
}

#[test]
fn a_lost_stream_is_opened_again_with_growing_waits() {
    let mut bench = Bench::live();
    bench.input(Input::Wishes(database(1), Some(LIVE)));
    let (mut stream, mut link) = bench.live_with(1, &[database(1)]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        bench.input(Input::LiveEnded(stream, Err(cut())));
        assert_eq!(bench.closed(), Some(link), "the next gets its own");
        let before = bench.now;
        assert!(matches!(bench.engine.reach(&key(1)), Reach::Waiting { .. }));
        while bench.actions.is_empty() {
            let due = bench.due();
            bench.pass_until(due);
        }
        waits.push(bench.now - before);
        (link, ..) = bench.connect().unwrap();
        bench.connected(link, key(1));
        (stream, ..) = bench.opened().unwrap();
    }
    for (wait, seconds) in waits.iter().zip([2, 4, 8, 16, 32, 64, 64, 64]) {
        assert!((seconds * 1000..seconds * 1250).contains(wait), "{waits:?}");
    }
    // Once it works, the next wait is short again.
    bench.input(Input::Live(stream, LiveEvent::Checked));
    bench.input(Input::LiveEnded(stream, Err(cut())));
    let Reach::Waiting {
        attempts, due_ms, ..
    } = bench.engine.reach(&key(1))
    else {
        panic!()
    };
    assert!(attempts == 1 && due_ms - bench.now < 2_500);
    // A new transport, or a network that is back, ends the wait.
    bench.closed();
    bench.input(Input::Online);
    bench.pass_until(bench.now);
    assert!(bench.connect().is_some());
}

#[test]
fn after_a_restart_peers_are_connected_again() {
    let mut bench = Bench::live();
    bench.live_with(1, &[database(1), database(2)]);
    bench.with_peer(2);
    let mut bench = bench.restart_live();
    let (link, _, pinned) = bench.connect().unwrap();
    assert_eq!(pinned, Some(key(1)));
    assert!(
        bench.connect().is_none(),
        "nothing is synced with the other"
    );
    bench.connected(link, key(1));
    let (_, on, databases) = bench.opened().unwrap();
    assert_eq!((on, databases), (link, vec![database(1), database(2)]));
}

#[test]
fn what_the_peer_has_and_we_lack_is_synced_and_retried() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    bench.input(Input::Live(stream, LiveEvent::Lacks(database(1))));
    let (task, _, job) = bench.task().unwrap();
    assert!(
        matches!(job, Job::Sync { create: true, .. }),
        "it was asked for"
    );
    bench.input(Input::Live(stream, LiveEvent::Lacks(database(1))));
    assert!(bench.task().is_none());
    bench.synced(task, Err(cut()));
    // More of the same does not shorten the wait, and nothing is dropped.
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Err(cut()));
    bench.input(Input::Live(stream, LiveEvent::Lacks(database(1))));
    assert!(bench.task().is_none());
    let due = bench.now + 10_000;
    bench.pass_until(due);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.task().is_none() && !bench.engine.is_queued(&key(1), &database(1)));
}

#[test]
fn payloads_that_are_missing_are_fetched_at_once_and_not_in_vain_for_ever() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    let incomplete = || Input::Live(stream, LiveEvent::Incomplete(database(1)));
    for vain in 0..9 {
        let asked = bench.now;
        bench.input(incomplete());
        let task = loop {
            if let Some((task, ..)) = bench.task() {
                break task;
            }
            bench.pass_until(bench.due());
        };
        let wait = (bench.now - asked) / 1000;
        let seconds = [0, 2, 4, 8, 16, 32, 64, 64, 64][vain];
        assert!(
            (seconds..=seconds * 5 / 4).contains(&wait),
            "{vain}: {wait}"
        );
        bench.synced(task, Ok(outcome()));
        assert!(bench.task().is_none());
    }
    bench.pass_until(bench.now + 100_000);
    let mut fills = outcome();
    fills.received.filled = 5;
    bench.input(incomplete());
    let (task, ..) = bench.task().unwrap();
    // More is missing by now: one more, as soon as this one has brought something.
    bench.input(incomplete());
    bench.input(incomplete());
    assert!(bench.task().is_none());
    bench.synced(task, Ok(fills.clone()));
    bench.pass_until(bench.now);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(fills));
    bench.pass_until(bench.now + 1_000);
    assert!(bench.task().is_none());
    bench.input(incomplete());
    assert!(bench.task().is_some());
}

#[test]
fn what_a_peer_holds_moves_the_cursor_and_is_written_later() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    let writes = bench.writes;
    let tips = vec![Stamp::new(Height(7), database(0xaa))];
    let holds = LiveEvent::Holds(database(1), tips.clone(), None);
    bench.input(Input::Live(stream, holds));
    let cursor = bench.engine.cursor(&key(1), &database(1)).unwrap().clone();
    assert_eq!(
        (cursor.last, cursor.common),
        (Some(tips[0]), vec![database(0xaa)])
    );
    let state = &bench.engine.pair_states(&database(1))[0];
    assert_eq!(state.held, Some(TipList::new(tips).digest()));
    assert_eq!(bench.writes, writes);
    bench.pass_until(bench.now + limits::FLUSH_MS);
    assert!(bench.writes > writes);
    let bench = bench.restart_live();
    assert!(bench.engine.cursor(&key(1), &database(1)).is_some());
}

fn some(lacks: bool) -> Holding {
    let stores = Stores::these([StoreName::new("notes").unwrap()]);
    Holding { stores, lacks }
}

impl Bench {
    /// What peer 1 is known to have of the payloads of database 1.
    fn holding(&self) -> Option<Holding> {
        self.engine.pair_states(&database(1))[0].holding.clone()
    }
}

#[test]
fn what_a_peer_has_of_the_payloads_is_what_was_last_said_and_survives_a_restart() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    assert_eq!(bench.holding(), None, "not known");
    let tips = vec![Stamp::new(Height(7), database(0xaa))];
    for holding in [Some(some(false)), None, Some(Holding::default())] {
        let holds = LiveEvent::Holds(database(1), tips.clone(), holding.clone());
        bench.input(Input::Live(stream, holds));
        assert_eq!(bench.holding(), holding);
    }
    // It holds less from now on, or lacks something, and has no other tips.
    for lacks in [false, true] {
        let said = LiveEvent::Holding(database(1), Some(some(lacks)));
        bench.input(Input::Live(stream, said));
        assert_eq!(bench.holding(), Some(some(lacks)));
    }
    bench.pass_until(bench.now + limits::FLUSH_MS);
    let mut bench = bench.restart_live();
    assert_eq!(bench.holding(), Some(some(true)));
    // A sync finds out.
    for found in [some(false), Holding::default()] {
        let id = bench.sync(key(1), &[database(1)]);
        if let Some((link, ..)) = bench.connect() {
            bench.connected(link, key(1));
        }
        let (task, ..) = bench.task().unwrap();
        let holding = found.clone();
        bench.synced(
            task,
            Ok(Outcome {
                holding,
                ..outcome()
            }),
        );
        assert!(bench.reply(id).is_some());
        assert_eq!(bench.holding(), Some(found.clone()));
        bench.now(Command::Flush).unwrap();
        bench = bench.restart_live();
        assert_eq!(bench.holding(), Some(found));
    }
}

#[test]
fn what_a_listener_has_of_the_payloads_is_known_while_it_listens() {
    let mut bench = Bench::live();
    let (stream, _) = bench.accept(key(5), &[database(1)]);
    let subscribed = LiveEvent::Subscribed(vec![database(1)]);
    bench.input(Input::Live(stream, subscribed));
    assert_eq!(bench.holding(), None);
    let said = LiveEvent::Holding(database(1), Some(some(false)));
    bench.input(Input::Live(stream, said));
    assert_eq!(bench.holding(), Some(some(false)));
}

/// A peer that holds all says nothing by itself.
#[test]
fn where_payloads_were_not_asked_about_a_sync_asks_once() {
    for known in [None, Some(some(false)), Some(Holding::default())] {
        let mut bench = Bench::live();
        let (stream, _) = bench.live_with(1, &[database(1)]);
        let tips = vec![Stamp::new(Height(7), database(0xaa))];
        let holds = LiveEvent::Holds(database(1), tips, known.clone());
        bench.input(Input::Live(stream, holds));
        bench.pass_until(bench.now + limits::FLUSH_MS);
        let mut bench = bench.restart_live();
        bench.pass_until(bench.due());
        let (link, ..) = bench.connect().unwrap();
        bench.connected(link, key(1));
        let (stream, ..) = bench.opened().unwrap();
        let check = || Input::Live(stream, LiveEvent::Checked);
        bench.input(check());
        assert!(bench.task().is_none(), "it may still say so");
        bench.input(check());
        let asked = bench.task();
        assert_eq!(asked.is_some(), known != Some(Holding::default()));
        if let Some((task, ..)) = asked {
            let holding = known.unwrap_or_default();
            let found = Outcome {
                holding,
                ..outcome()
            };
            bench.synced(task, Ok(found));
            bench.input(check());
            bench.pass_until(bench.now + 100_000);
            assert!(bench.task().is_none(), "once");
        }
    }
}

#[test]
fn without_a_background_nothing_is_done_that_was_not_asked_for() {
    let mut bench = Bench::live();
    let (stream, _) = bench.live_with(1, &[database(1)]);
    bench.now(Command::Background(false)).unwrap();
    assert_eq!(bench.ended(), Some(stream));
    bench.changed(1, true);
    bench.pass_until(bench.now + 24 * 3_600_000);
    bench.closed();
    assert!(bench.actions.is_empty(), "{:?}", bench.actions);
    let id = bench.sync(key(1), &[database(1)]);
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some() && bench.opened().is_none());
    bench.now(Command::Background(true)).unwrap();
    assert!(bench.opened().is_some());
}

#[test]
fn what_the_user_has_switched_off_is_not_tried_again() {
    let off = Wishes {
        enabled: false,
        ..LIVE
    };
    let ways: [fn(&mut Bench, Wishes); 4] = [
        |bench, off| bench.input(Input::Wishes(database(1), Some(off))),
        |bench, _| drop(bench.now(Command::Background(false)).unwrap()),
        |bench, _| drop(bench.now(Command::Unrelate(key(1), database(1))).unwrap()),
        |bench, _| drop(bench.now(Command::ForgetDatabase(database(1))).unwrap()),
    ];
    for (way, switch_off) in ways.into_iter().enumerate() {
        for running in [false, true] {
            let mut bench = Bench::live();
            let (stream, _) = bench.live_with(1, &[database(1)]);
            bench.input(Input::Live(stream, LiveEvent::Lacks(database(1))));
            let (task, ..) = bench.task().unwrap();
            if !running {
                bench.synced(task, Err(cut()));
            }
            switch_off(&mut bench, off);
            if running {
                bench.synced(task, Err(cut()));
            }
            bench.pass_until(bench.now + 400_000);
            assert!(bench.task().is_none(), "way {way}, running: {running}");
            assert!(!bench.engine.is_queued(&key(1), &database(1)));
        }
    }
}

// Rounds.

#[test]
fn rounds_come_at_the_interval() {
    let mut bench = Bench::new();
    bench.input(Input::Wishes(database(1), Some(every(60))));
    bench.with_peer(1);
    let id = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some());
    assert!(
        bench.opened().is_none(),
        "not on commit: no connection is kept"
    );
    bench.changed(1, true);
    assert!(bench.told().is_none() && bench.task().is_none());
    let start = bench.now;
    for round in 1..=4 {
        bench.pass_until(start + round * 60_000 - 1);
        assert!(bench.round(1).is_none());
        bench.pass_until(start + round * 60_000);
        let task = bench.round(1).expect("a round");
        bench.synced(task, Ok(outcome()));
    }
}

impl Bench {
    /// The sync that a round begins, dialling first where the link was idle.
    fn round(&mut self, n: u16) -> Option<eidetica_engine::TaskId> {
        if let Some((link, ..)) = self.connect() {
            self.connected(link, key(n));
        }
        self.closed();
        self.task().map(|(task, ..)| task)
    }
}

#[test]
fn nobody_tracking_means_live_and_five_minutes() {
    assert_eq!(
        Wishes::default(),
        Wishes {
            enabled: true,
            on_commit: true,
            interval_s: Some(300),
        }
    );
    let bench = Bench::live();
    assert_eq!(bench.engine.wishes(&database(1)), Wishes::default());
}

#[test]
fn a_peer_that_takes_no_stream_is_synced_with_every_five_minutes() {
    let mut bench = Bench::live();
    let link = bench.with_peer(1);
    let id = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some());
    let (mut stream, ..) = bench.opened().unwrap();
    let (start, mut link) = (bench.now, link);
    let mut rounds = BTreeMap::new();
    while bench.now < start + 3_600_000 {
        bench.input(Input::LiveEnded(
            stream,
            Err(Failure::Refused(Refusal::UNAVAILABLE)),
        ));
        loop {
            if let Some((task, ..)) = bench.task() {
                *rounds.entry((bench.now - start) / 1000).or_insert(0) += 1;
                bench.synced(task, Ok(outcome()));
            } else if let Some((dialled, ..)) = bench.connect() {
                link = dialled;
                bench.connected(link, key(1));
            } else if let Some((opened, ..)) = bench.opened() {
                stream = opened;
                break;
            } else {
                bench.closed();
                let due = bench.due();
                bench.pass_until(due);
            }
        }
    }
    let _ = link;
    assert_eq!(rounds.values().sum::<u32>(), 12, "{rounds:?}");
}

#[test]
fn a_peer_whose_streams_end_at_once_is_synced_with_in_rounds() {
    let mut bench = Bench::live();
    bench.with_peer(1);
    let id = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some());
    let (mut stream, ..) = bench.opened().unwrap();
    let (start, mut rounds) = (bench.now, 0);
    while bench.now < start + 600_000 {
        // It says nothing, not even why.
        bench.input(Input::LiveEnded(stream, Err(cut())));
        stream = loop {
            if let Some((task, ..)) = bench.task() {
                rounds += 1;
                bench.synced(task, Ok(outcome()));
            } else if let Some((link, ..)) = bench.connect() {
                bench.connected(link, key(1));
            } else if let Some((opened, ..)) = bench.opened() {
                break opened;
            } else {
                bench.closed();
                let due = bench.due();
                bench.pass_until(due);
            }
        };
    }
    assert_eq!(rounds, 2);
}

#[test]
fn what_is_too_much_for_a_stream_has_rounds() {
    let mut bench = Bench::live();
    let id = |n: u32| {
        let mut id = [1; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Id::new(id)
    };
    let most = protocol_limits::LIVE_DATABASES as u32;
    bench.with_peer(1);
    bench.now(Command::Relate(key(1), id(0))).unwrap();
    let of_first = |key: &&String| key.starts_with("pair/");
    let first = bench.records.keys().find(of_first).unwrap().clone();
    let pair = bench.records[&first].clone();
    for n in 1..=most {
        let key = first.replace(&id(0).to_string(), &id(n).to_string());
        bench.records.insert(key, pair.clone());
    }
    let mut bench = bench.restart_live();
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (stream, _, databases) = bench.opened().unwrap();
    assert_eq!(databases.len() as u32, most);
    bench.input(Input::Live(stream, LiveEvent::Checked));
    assert!(bench.task().is_none());
    bench.pass_until(bench.now + 300_000);
    let mut rounds = Vec::new();
    while let Some((task, _, job)) = bench.task() {
        let Job::Sync { database, .. } = job else {
            panic!("{job:?}")
        };
        rounds.push(database);
        bench.synced(task, Ok(outcome()));
    }
    assert!(!rounds.is_empty() && rounds.iter().all(|round| *round == id(most)));
}

#[test]
fn a_quiet_stream_is_a_round_of_a_thousand_databases() {
    let mut bench = Bench::live();
    let all: Vec<Id> = (0..1000_u16)
        .map(|n| {
            let mut id = [7; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            Id::new(id)
        })
        .collect();
    let (stream, _) = bench.live_with(1, &all);
    let writes = bench.writes;
    let mut checks = 0;
    let end = bench.now + 3_600_000;
    while bench.now < end {
        let due = bench.due().min(end);
        bench.pass_until(due);
        while let Some((id, notice)) = bench.told() {
            assert_eq!((id, notice), (stream, Notice::Check));
            bench.input(Input::Live(stream, LiveEvent::Checked));
            checks += 1;
        }
        assert!(bench.task().is_none());
    }
    assert_eq!(checks, 60, "one a minute, for all together");
    // When the peer was last seen, and when the databases began to be synced.
    assert!(
        bench.writes - writes <= 60 + 1000,
        "{}",
        bench.writes - writes
    );
}

#[test]
fn coming_back_after_hours_costs_one_stream_and_no_syncs() {
    let mut bench = Bench::live();
    let all: Vec<Id> = (1..=200).map(database).collect();
    bench.live_with(1, &all);
    let mut bench = bench.restart_live();
    let end = bench.now + 3 * 3_600_000;
    while bench.now < end {
        if let Some((link, ..)) = bench.connect() {
            bench.connect_failed(link);
        }
        let due = bench.due().min(end);
        bench.pass_until(due);
        assert!(bench.task().is_none());
    }
    let (link, ..) = loop {
        match bench.connect() {
            Some(dial) => break dial,
            None => {
                let due = bench.due();
                bench.pass_until(due);
            }
        }
    };
    bench.connected(link, key(1));
    let (_, _, databases) = bench.opened().unwrap();
    assert_eq!(databases, all);
    assert!(bench.task().is_none());
}

#[test]
fn wishes_take_effect_at_once() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    bench.now(Command::Relate(key(1), database(1))).unwrap();
    assert!(bench.opened().is_none());
    bench.input(Input::Wishes(database(1), Some(LIVE)));
    let (stream, on, databases) = bench.opened().unwrap();
    assert_eq!((on, databases), (link, vec![database(1)]));
    bench.now(Command::Relate(key(1), database(2))).unwrap();
    bench.input(Input::Wishes(database(2), Some(LIVE)));
    assert_eq!(
        bench.told(),
        Some((stream, Notice::Subscribe(vec![database(2)])))
    );
    let off = Wishes {
        enabled: false,
        ..LIVE
    };
    bench.input(Input::Wishes(database(2), Some(off)));
    assert_eq!(
        bench.told(),
        Some((stream, Notice::Unsubscribe(vec![database(2)])))
    );
    bench.changed(2, true);
    assert_eq!(bench.told(), None);
    bench.input(Input::Wishes(database(1), Some(off)));
    assert_eq!(bench.ended(), Some(stream));
    // A shorter interval counts from the last round.
    bench.input(Input::Wishes(database(1), Some(every(3600))));
    bench.pass_until(bench.now);
    let start = bench.now;
    let task = bench.round(1).expect("one that was never synced is due");
    bench.synced(task, Ok(outcome()));
    bench.pass_until(start + 100_000);
    assert!(bench.round(1).is_none());
    bench.input(Input::Wishes(database(1), Some(every(120))));
    bench.pass_until(start + 119_999);
    assert!(bench.round(1).is_none());
    bench.pass_until(start + 121_000);
    assert!(bench.round(1).is_some());
}

#[test]
fn all_without_an_interval_means_no_rounds() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let id = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    bench.reply(id);
    bench.pass_until(bench.now + 24 * 3_600_000);
    assert!(bench.task().is_none() && bench.connect().is_none());
}

// Those who listen.

#[test]
fn who_comes_again_is_remembered_and_its_older_streams_end() {
    let mut bench = Bench::live();
    let all = [database(1), database(2)];
    let (first, remembered) = bench.accept(key(9), &all);
    assert!(remembered.is_empty());
    bench.input(Input::Live(first, LiveEvent::Subscribed(all.to_vec())));
    let (second, remembered) = bench.accept(key(9), &all);
    assert_eq!(remembered, all);
    let (_, remembered) = bench.accept(key(9), &all[..1]);
    assert!(remembered.is_empty(), "another set");
    assert_eq!(bench.ended(), Some(first));
    bench.changed(1, true);
    assert_eq!(bench.told().unwrap().0, second, "one of each peer");
    assert_eq!(bench.told(), None);
}

#[test]
fn strangers_leave_room_for_peers_that_are_known() {
    let mut bench = Bench::live();
    let open = open_of(&[]);
    let strangers = limits::STREAMS - limits::STREAMS_FOR_KNOWN;
    let device = |n: usize| {
        let mut bytes = [0x33; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey::new(bytes)
    };
    for n in 0..strangers {
        assert!(
            bench
                .engine
                .accept_live(&device(n), &open, bench.now)
                .is_ok()
        );
    }
    let one_more = bench
        .engine
        .accept_live(&device(strangers), &open, bench.now);
    assert_eq!(one_more, Err(Refusal::UNAVAILABLE));
    bench.drain();
    for n in 0..limits::STREAMS_FOR_KNOWN {
        let key = device(100_000 + n);
        let name = None;
        bench.now(Command::RegisterPeer { key, name }).unwrap();
        assert!(bench.engine.accept_live(&key, &open, bench.now).is_ok());
    }
    let key = device(1_000_000);
    bench
        .now(Command::RegisterPeer { key, name: None })
        .unwrap();
    assert!(bench.engine.accept_live(&key, &open, bench.now).is_err());
}

#[test]
fn subscriptions_are_bounded_in_all() {
    let mut bench = Bench::live();
    let many: Vec<Id> = (0..protocol_limits::LIVE_DATABASES as u32)
        .map(|n| {
            let mut id = [1; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            Id::new(id)
        })
        .collect();
    let strangers = limits::SUBSCRIPTIONS - limits::SUBSCRIPTIONS_FOR_KNOWN;
    let most = strangers / protocol_limits::LIVE_DATABASES;
    let mut last = None;
    for n in 0..most as u16 {
        let (stream, _) = bench.accept(key(n + 10), &[]);
        bench.input(Input::Live(stream, LiveEvent::Subscribed(many.clone())));
        assert_eq!(bench.ended(), None);
        last = Some(stream);
    }
    let (over, _) = bench.accept(key(5), &[]);
    bench.input(Input::Live(over, LiveEvent::Subscribed(many[..1].to_vec())));
    let refuse = Notice::Refuse(Refusal::UNAVAILABLE);
    assert_eq!(bench.told(), Some((over, refuse)));
    // Room that is given back can be taken again.
    let gone = LiveEvent::Unsubscribed(many[..1].to_vec());
    bench.input(Input::Live(last.unwrap(), gone));
    let (again, _) = bench.accept(key(5), &[]);
    bench.input(Input::Live(
        again,
        LiveEvent::Subscribed(many[..1].to_vec()),
    ));
    assert_eq!(bench.ended(), None);
}

#[test]
fn a_blocked_peer_hears_no_more() {
    let mut bench = Bench::live();
    let (dialled, _) = bench.live_with(1, &[database(1)]);
    let (accepted, _) = bench.accept(key(1), &[]);
    let status = eidetica_engine::PeerStatus::Blocked;
    bench.now(Command::SetStatus(key(1), status)).unwrap();
    assert_eq!(
        [bench.ended(), bench.ended()],
        [Some(dialled), Some(accepted)]
    );
    assert!(
        bench
            .engine
            .accept_live(&key(1), &open_of(&[]), bench.now)
            .is_err()
    );
    bench.pass_until(bench.now + 3_600_000);
    assert!(bench.connect().is_none() && bench.opened().is_none());
    bench
        .now(Command::SetStatus(
            key(1),
            eidetica_engine::PeerStatus::Active,
        ))
        .unwrap();
    assert!(bench.connect().is_some());
}

// Requests for access.

#[test]
fn a_decision_is_told_to_the_device_that_asked() {
    let mut bench = Bench::live();
    let signed = request(5, database(1), Permission::Write(3), 1);
    let device = signed.request().device;
    let facts = eidetica_engine::Facts {
        here: true,
        explicit: None,
        wildcard: None,
    };
    let answer = bench.engine.receive_bootstrap(&signed, facts, bench.now);
    let BootstrapAnswer::Pending(id) = answer else {
        panic!()
    };
    bench.drain();
    let (stream, _) = bench.accept(device, &[]);
    bench.now(Command::Reject(id)).unwrap();
    assert_eq!(bench.told(), Some((stream, Notice::Decided(id))));
}

/// It asks then, and hears that there is no such request any more.
#[test]
fn that_a_request_is_too_old_is_told_to_the_device_that_asked() {
    let mut bench = Bench::live();
    let facts = eidetica_engine::Facts {
        here: true,
        explicit: None,
        wildcard: None,
    };
    let asked = [5, 6].map(|n| request(n, database(1), Permission::Write(3), 1));
    for signed in &asked {
        bench.engine.receive_bootstrap(signed, facts, bench.now);
    }
    bench.drain();
    let device = asked[0].request().device;
    let (stream, _) = bench.accept(device, &[]);
    // What was decided has been told.
    bench.now(Command::Reject(asked[1].id())).unwrap();
    while bench.told().is_some() {}
    bench.now += limits::REQUEST_MS;
    bench.input(Input::Tick);
    assert_eq!(bench.told(), Some((stream, Notice::Decided(asked[0].id()))));
    assert_eq!(bench.told(), None);
    assert_eq!(bench.engine.incoming_requests().count(), 0);
}

#[test]
fn whoever_waits_for_a_request_learns_that_it_is_gone() {
    for is_withdrawn in [true, false] {
        let mut bench = Bench::live();
        bench.with_peer(1);
        let signed = request(5, database(1), Permission::Write(3), 1);
        let id = signed.id();
        bench.command(Command::Bootstrap {
            target: Target::Peer(key(1)),
            request: Box::new(signed),
        });
        let finish = |bench: &mut Bench, reply| {
            let (task, ..) = bench.task().unwrap();
            bench.input(Input::Finished(task, JobResult::Call(Ok(reply))));
        };
        let pending = || CallReply::Bootstrap(BootstrapAnswer::Pending(id));
        finish(&mut bench, pending());
        let waits = bench.command_until(Command::AwaitRequest(id), u64::MAX);
        finish(&mut bench, pending());
        assert_eq!(bench.reply(waits), None);
        match is_withdrawn {
            true => {
                bench.command(Command::CancelRequest(id));
                finish(&mut bench, CallReply::Cancelled);
            }
            false => {
                bench.now += limits::REQUEST_MS;
                bench.input(Input::Tick);
            }
        }
        let gone = EngineError::UnknownRequest(id);
        assert_eq!(bench.reply(waits), Some(Err(gone)));
    }
}

#[test]
fn an_own_request_keeps_the_peer_connected_and_what_is_granted_is_fetched() {
    let mut bench = Bench::live();
    let link = bench.with_peer(1);
    let signed = request(5, database(1), Permission::Write(3), 1);
    let asked = bench.command(Command::Bootstrap {
        target: Target::Peer(key(1)),
        request: Box::new(signed.clone()),
    });
    let (task, ..) = bench.task().unwrap();
    let answer = |answer| JobResult::Call(Ok(CallReply::Bootstrap(answer)));
    let pending = BootstrapAnswer::Pending(signed.id());
    bench.input(Input::Finished(task, answer(pending)));
    assert_eq!(
        bench.reply(asked),
        Some(Ok(Response::Bootstrap(key(1), pending)))
    );
    let (stream, on, databases) = bench.opened().unwrap();
    assert_eq!((on, databases), (link, Vec::new()));
    let waits = bench.command(Command::AwaitRequest(signed.id()));
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Status(_)));
    bench.input(Input::Finished(task, answer(pending)));
    assert_eq!(bench.reply(waits), None);
    bench.input(Input::Live(stream, LiveEvent::Decided(signed.id())));
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Status(_)));
    bench.input(Input::Finished(task, answer(BootstrapAnswer::Granted)));
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Sync { database: found, create: true, .. } if found == database(1)));
    assert_eq!(
        bench.told(),
        Some((stream, Notice::Subscribe(vec![database(1)])))
    );
    bench.synced(task, Ok(outcome()));
    while let Some((task, ..)) = bench.task() {
        bench.synced(task, Ok(outcome()));
    }
    let reply = bench.reply(waits);
    assert!(matches!(reply, Some(Ok(Response::Synced(..)))), "{reply:?}");
    assert_eq!(bench.engine.related(&key(1)), [database(1)]);
}

/// A peer that says so again and again is asked no more often than it answers.
#[test]
fn decisions_without_end_are_one_question() {
    let mut bench = Bench::live();
    bench.with_peer(1);
    let pending = |bench: &mut Bench, signed: &SignedRequest| {
        bench.command(Command::Bootstrap {
            target: Target::Peer(key(1)),
            request: Box::new(signed.clone()),
        });
        let (task, ..) = bench.task().unwrap();
        let answer = CallReply::Bootstrap(BootstrapAnswer::Pending(signed.id()));
        bench.input(Input::Finished(task, JobResult::Call(Ok(answer))));
    };
    let [one, other] = [1, 2].map(|n| request(5, database(n), Permission::Write(3), n));
    pending(&mut bench, &one);
    pending(&mut bench, &other);
    let (stream, ..) = bench.opened().unwrap();
    let nobodys = request(6, database(1), Permission::Read, 9).id();
    for _ in 0..10_000 {
        bench.input(Input::Live(stream, LiveEvent::Decided(one.id())));
        bench.input(Input::Live(stream, LiveEvent::Decided(nobodys)));
    }
    // One that runs, and one for what was decided since.
    let mut asked = Vec::new();
    for _ in 0..10 {
        let Some((task, _, job)) = bench.task() else {
            break;
        };
        let Job::Status(of) = job else {
            panic!("{job:?}")
        };
        asked.push(of.id);
        let answer = CallReply::Bootstrap(BootstrapAnswer::Pending(of.id));
        bench.input(Input::Finished(task, JobResult::Call(Ok(answer))));
    }
    assert_eq!(asked, [one.id(); 2]);
    // It is asked again when it says so again.
    bench.input(Input::Live(stream, LiveEvent::Decided(one.id())));
    assert!(matches!(bench.task(), Some((_, _, Job::Status(_)))));
}

#[test]
fn a_request_that_waits_is_asked_about_every_minute_and_after_a_restart() {
    let mut bench = Bench::live();
    bench.with_peer(1);
    let signed = request(5, database(1), Permission::Write(3), 1);
    bench.command(Command::Bootstrap {
        target: Target::Peer(key(1)),
        request: Box::new(signed.clone()),
    });
    let (task, ..) = bench.task().unwrap();
    let pending = BootstrapAnswer::Pending(signed.id());
    bench.input(Input::Finished(
        task,
        JobResult::Call(Ok(CallReply::Bootstrap(pending))),
    ));
    let (stream, ..) = bench.opened().unwrap();
    bench.pass_until(bench.now + limits::CHECK_MS);
    assert_eq!(bench.told(), Some((stream, Notice::Check)));
    bench.input(Input::Live(stream, LiveEvent::Checked));
    assert!(matches!(bench.task(), Some((_, _, Job::Status(_)))));
    let mut bench = bench.restart_live();
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (stream, ..) = bench.opened().unwrap();
    bench.input(Input::Live(stream, LiveEvent::Checked));
    assert!(matches!(bench.task(), Some((_, _, Job::Status(_)))));
}

#[test]
fn claims_that_change_are_shown_by_new_streams() {
    let mut bench = Bench::live();
    let (stream, link) = bench.live_with(1, &[database(1)]);
    let claim = eidetica_auth::DeviceClaim::make(
        &crate::bench::secret(5),
        key(0),
        eidetica_auth::Scope::All,
        bench.now + 1_000_000,
    );
    bench
        .now(Command::PutClaim(Box::new(claim.unwrap())))
        .unwrap();
    assert_eq!(bench.ended(), Some(stream));
    let (_, on, databases) = bench.opened().unwrap();
    assert_eq!((on, databases), (link, vec![database(1)]));
}

#[test]
fn a_connection_with_a_stream_is_never_idle() {
    let mut bench = Bench::live();
    let (stream, link) = bench.live_with(1, &[database(1)]);
    let end = bench.now + 10 * limits::LINK_IDLE_MS;
    while bench.now < end {
        let due = bench.due().min(end);
        bench.pass_until(due);
        while bench.told().is_some() {
            bench.input(Input::Live(stream, LiveEvent::Checked));
        }
    }
    assert!(bench.closed().is_none());
    // Another look at who is there changes nothing.
    let id = bench.command(Command::Sync {
        target: Target::Address(crate::bench::address("peer1:1")),
        databases: Selection::These(vec![database(1)]),
        create: false,
    });
    let (other, ..) = bench.connect().unwrap();
    bench.connected(other, key(1));
    assert_eq!(bench.closed(), Some(other));
    let (task, on, _) = bench.task().unwrap();
    assert_eq!(on, link);
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some());
}
