//! Syncs by command and in the background.

use eidetica_engine::{
    Action, Command, EngineError, Input, Job, JobResult, Response, Selection, Target, limits,
};
use eidetica_protocol::{
    CallReply, CloseReason, DatabaseInfo, Failure, IngestTotals, Outcome, PeerFault, PushOutcome,
    Refusal,
};

use crate::bench::{Bench, address, database, key, outcome};

fn cut() -> Failure {
    Failure::Closed(CloseReason::Cut)
}

#[test]
fn a_sync_connects_runs_replies_and_remembers() {
    let mut bench = Bench::new();
    let (a, b) = (database(1), database(2));
    let id = bench.command(Command::Sync {
        target: Target::Address(address("a:1")),
        databases: Selection::These(vec![b, a, a]),
        create: true,
    });
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (first, on, job) = bench.task().unwrap();
    assert_eq!(on, link);
    assert!(
        matches!(job, Job::Sync { database, create: true, ref common } if database == a && common.is_empty())
    );
    let (second, ..) = bench.task().unwrap();
    bench.now += 10;
    bench.synced(first, Ok(outcome()));
    assert_eq!(bench.reply(id), None);
    bench.synced(second, Err(Failure::Refused(Refusal::ABSENT)));
    let refused = Err(EngineError::Session(Failure::Refused(Refusal::ABSENT)));
    assert_eq!(
        bench.reply(id),
        Some(Ok(Response::Synced(
            key(1),
            vec![(a, Ok(outcome())), (b, refused)]
        )))
    );
    // What worked is related, counted, and begins from there the next time.
    assert_eq!(bench.engine.related(&key(1)), [a]);
    let stats = bench.engine.stats(&key(1)).unwrap();
    assert_eq!(
        (stats.successes, stats.failures, stats.entries_received),
        (1, 1, 3)
    );
    assert!((stats.sync_success_rate() - 0.5).abs() < f64::EPSILON);
    let cursor = bench.engine.cursor(&key(1), &a).unwrap();
    assert_eq!(
        (cursor.last, cursor.last_synced_ms),
        (outcome().last, Some(bench.now))
    );
    assert!(bench.engine.cursor(&key(1), &b).is_none());
    let id = bench.command(Command::Sync {
        target: Target::Peer(key(1)),
        databases: Selection::Related,
        create: false,
    });
    let (task, _, job) = bench.task().unwrap();
    assert!(
        matches!(job, Job::Sync { database, create: true, ref common } if database == a && *common == outcome().common)
    );
    bench.synced(task, Ok(outcome()));
    assert!(matches!(bench.reply(id), Some(Ok(Response::Synced(..)))));
}

#[test]
fn who_asks_during_a_sync_gets_the_next_one() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let first = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    let second = bench.sync(key(1), &[database(1)]);
    let third = bench.sync(key(1), &[database(1)]);
    assert!(bench.task().is_none());
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(first).is_some());
    assert!(bench.reply(second).is_none());
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Err(cut()));
    for id in [second, third] {
        let Some(Ok(Response::Synced(_, results))) = bench.reply(id) else {
            panic!()
        };
        assert_eq!(results, [(database(1), Err(EngineError::Session(cut())))]);
    }
    assert!(bench.task().is_none());
}

#[test]
fn a_slow_peer_does_not_delay_another() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.with_peer(2);
    let many: Vec<_> = (1..=50).map(database).collect();
    let slow = bench.sync(key(1), &many);
    let mut running = 0;
    while bench.task().is_some() {
        running += 1;
    }
    assert_eq!(running, limits::TASKS_PER_PEER);
    let quick = bench.sync(key(2), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(quick).is_some());
    assert!(bench.reply(slow).is_none());
}

#[test]
fn peers_that_may_stall_leave_room_for_others_and_take_turns() {
    let mut bench = Bench::new();
    let good = 1;
    bench.with_peer(good);
    let proof = bench.sync(key(good), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.now += 1;
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(proof).is_some());
    let room = limits::TASKS - limits::TASKS_FOR_GOOD;
    let enough = (room / limits::TASKS_PER_PEER) as u16;
    let many: Vec<_> = (1..=9).map(database).collect();
    let mut running = Vec::new();
    let peers = 100..100 + enough + 2;
    for n in peers.clone() {
        bench.with_peer(n);
        bench.sync(key(n), &many);
        running.extend(std::iter::from_fn(|| bench.task()).map(|(task, link, _)| (task, link)));
    }
    assert_eq!(running.len(), room);
    let quick = bench.sync(key(good), &[database(1)]);
    let (task, ..) = bench.task().expect("there is room for it");
    // Those that had none come first, then whoever gave up its place: one session at a time.
    let (gives_up, of_first) = running[0];
    bench.synced(gives_up, Err(cut()));
    assert!(bench.task().is_none(), "there is as much as before");
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(quick).is_some());
    let mut next = Vec::new();
    for (task, _) in &running[1..7] {
        next.extend(bench.task().map(|(_, link, _)| link));
        bench.synced(*task, Err(cut()));
    }
    next.extend(bench.task().map(|(_, link, _)| link));
    assert!(!running.iter().any(|(_, link)| *link == next[0]));
    assert!(next[0] != next[1] && next.contains(&of_first), "{next:?}");
}

#[test]
fn two_hundred_silent_peers_leave_room_for_the_next() {
    let mut bench = Bench::new();
    // Not one of them answers the dial.
    for n in 1..=200 {
        bench.command(Command::Connect(Target::Address(address(&format!(
            "silent{n}:1"
        )))));
    }
    while bench.connect().is_some() {}
    bench.with_peer(300);
    let id = bench.sync(key(300), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.reply(id).is_some());
}

#[test]
fn background_work_is_retried_with_growing_waits_until_it_succeeds() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    bench.input(Input::Disconnected(link));
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    let mut waits = Vec::new();
    for _ in 0..9 {
        let (link, ..) = bench.connect().expect("an attempt");
        bench.connect_failed(link);
        // More of the same does not shorten the wait.
        bench.now(Command::Queue(key(1), database(1))).unwrap();
        assert!(bench.connect().is_none());
        let before = bench.now;
        while bench.actions.is_empty() {
            let due = bench.timeout.unwrap();
            bench.pass_until(due);
        }
        waits.push(bench.now - before);
    }
    for (wait, seconds) in waits.iter().zip([2, 4, 8, 16, 32, 64, 64, 64, 64]) {
        assert!((seconds * 1000..seconds * 1250).contains(wait), "{waits:?}");
    }
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (task, ..) = bench.task().unwrap();
    assert!(bench.engine.is_queued(&key(1), &database(1)));
    bench.synced(task, Ok(outcome()));
    assert!(!bench.engine.is_queued(&key(1), &database(1)));
    bench.pass_until(bench.now + 3_600_000);
    assert!(bench.connect().is_none() && bench.task().is_none());
}

#[test]
fn what_leaves_entries_pending_is_synced_again_so_often() {
    let received = Outcome {
        complete: false,
        received: IngestTotals {
            pending: 1,
            ..IngestTotals::default()
        },
        ..outcome()
    };
    let pushed = Outcome {
        push: PushOutcome::Done {
            new: 1,
            known: 0,
            pending: 1,
            rejected: 0,
        },
        ..outcome()
    };
    for unsettled in [received, pushed] {
        let mut bench = Bench::new();
        bench.with_peer(1);
        bench.now(Command::Queue(key(1), database(1))).unwrap();
        let mut waits = Vec::new();
        loop {
            let (task, ..) = bench.task().unwrap();
            bench.synced(task, Ok(unsettled.clone()));
            if !bench.engine.is_queued(&key(1), &database(1)) {
                break;
            }
            let before = bench.now;
            while !bench
                .actions
                .iter()
                .any(|action| matches!(action, Action::Run(..)))
            {
                if let Some((link, ..)) = bench.connect() {
                    bench.connected(link, key(1));
                } else {
                    bench.closed();
                    let due = bench.timeout.unwrap();
                    bench.pass_until(due.max(bench.now));
                }
            }
            waits.push((bench.now - before) / 1000);
        }
        assert_eq!(waits.len() as u32, limits::PENDING_ATTEMPTS, "{waits:?}");
        assert!(waits[0] < 3 && waits[7] >= 64, "{waits:?}");
        // The next one begins anew.
        bench.now(Command::Queue(key(1), database(1))).unwrap();
        let (task, ..) = bench.task().unwrap();
        bench.synced(task, Ok(outcome()));
        assert!(!bench.engine.is_queued(&key(1), &database(1)));
    }
}

#[test]
fn what_is_queued_during_a_sync_is_synced_again() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    let (task, ..) = bench.task().unwrap();
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(bench.engine.is_queued(&key(1), &database(1)));
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    assert!(!bench.engine.is_queued(&key(1), &database(1)));
    // Queued work alone relates nothing.
    assert!(bench.engine.related(&key(1)).is_empty());
}

#[test]
fn what_cannot_succeed_is_not_retried() {
    for failure in [Failure::Refused(Refusal::ABSENT), Failure::NotHere] {
        let mut bench = Bench::new();
        bench.with_peer(1);
        bench.now(Command::Queue(key(1), database(1))).unwrap();
        let (task, ..) = bench.task().unwrap();
        bench.synced(task, Err(failure));
        assert!(!bench.engine.is_queued(&key(1), &database(1)));
    }
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Err(PeerFault::Truncated.into()));
    assert!(bench.engine.is_queued(&key(1), &database(1)));
}

#[test]
fn after_what_cannot_succeed_waits_begin_anew() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    let cut = |bench: &mut Bench| {
        let (task, ..) = bench.task().unwrap();
        bench.synced(task, Err(PeerFault::Truncated.into()));
        let before = bench.now;
        while bench.actions.is_empty() {
            let due = bench.timeout.unwrap();
            bench.pass_until(due);
        }
        bench.now - before
    };
    let waits = [(); 4].map(|()| cut(&mut bench));
    assert!(waits[3] >= 16_000, "{waits:?}");
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Err(Failure::Refused(Refusal::ABSENT)));
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    let wait = cut(&mut bench);
    assert!((2_000..2_500).contains(&wait), "{wait}");
}

#[test]
fn every_command_has_a_reply_by_its_deadline_and_only_one() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let deadline = bench.now + 1000;
    let id = bench.command_until(
        Command::Sync {
            target: Target::Peer(key(1)),
            databases: Selection::These(vec![database(1)]),
            create: false,
        },
        deadline,
    );
    let (task, ..) = bench.task().unwrap();
    bench.pass_until(deadline - 1);
    assert_eq!(bench.reply(id), None);
    bench.pass_until(deadline);
    assert_eq!(bench.reply(id), Some(Err(EngineError::TimedOut)));
    // The work goes on.
    bench.synced(task, Ok(outcome()));
    assert_eq!(bench.reply(id), None);
    assert!(bench.engine.cursor(&key(1), &database(1)).is_some());
}

#[test]
fn too_many_open_commands_are_refused() {
    let mut bench = Bench::new();
    let connect = |n: usize| Command::Connect(Target::Address(address(&format!("host{n}:1"))));
    for n in 0..limits::COMMANDS {
        let id = bench.command(connect(n));
        assert_eq!(bench.reply(id), None);
        bench.actions.clear();
    }
    let error = bench.now(connect(0)).unwrap_err();
    assert_eq!(
        error,
        EngineError::TooMany {
            what: "commands",
            limit: limits::COMMANDS
        }
    );
    assert_eq!(bench.now(Command::Stop), Ok(Response::Done));
}

#[test]
fn discovery_replies_with_what_the_peer_says() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let id = bench.command(Command::Discover(Target::Peer(key(1))));
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Discover));
    let found = vec![DatabaseInfo::new(database(1), "My Project", 10)];
    bench.input(Input::Finished(
        task,
        JobResult::Call(Ok(CallReply::Databases(found.clone(), false))),
    ));
    assert_eq!(
        bench.reply(id),
        Some(Ok(Response::Databases(key(1), found, false)))
    );
}

#[test]
fn a_lost_connection_is_dialled_again_for_what_waits() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    let ids: Vec<_> = (1..=5).map(database).collect();
    let id = bench.sync(key(1), &ids);
    let mut tasks = Vec::new();
    while let Some((task, ..)) = bench.task() {
        tasks.push(task);
    }
    assert_eq!(tasks.len(), limits::TASKS_PER_PEER);
    bench.input(Input::Disconnected(link));
    for task in tasks {
        bench.synced(task, Err(cut()));
    }
    let (link, ..) = bench.connect().expect("one database still waits");
    bench.connected(link, key(1));
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    let Some(Ok(Response::Synced(_, results))) = bench.reply(id) else {
        panic!()
    };
    assert_eq!(
        results.iter().filter(|(_, result)| result.is_ok()).count(),
        1
    );
}

#[test]
fn stop_ends_everything() {
    let mut bench = Bench::new();
    let link = bench.with_peer(1);
    let waiting = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    let dialling = bench.command(Command::Connect(Target::Address(address("far:1"))));
    let (dial, ..) = bench.connect().unwrap();
    assert_eq!(bench.now(Command::Stop), Ok(Response::Done));
    assert_eq!(bench.aborted(), Some(task));
    assert_eq!([bench.closed(), bench.closed()], [Some(link), Some(dial)]);
    for id in [waiting, dialling] {
        assert_eq!(bench.reply(id), Some(Err(EngineError::Stopped)));
    }
    assert_eq!(
        bench.now(Command::Connect(Target::Peer(key(1)))),
        Err(EngineError::Stopped)
    );
    assert_eq!(bench.now(Command::Stop), Ok(Response::Done));
    bench.connected(dial, key(2));
    assert_eq!(bench.closed(), Some(dial));
    assert!(!bench.engine.admits(&key(1)));
}
