//! Bootstrap requests, on both sides.

use eidetica_auth::{Permission, RequestId};
use eidetica_engine::{
    Command, EngineError, Facts, GrantOutcome, Input, Job, JobResult, OutgoingState, RequestState,
    Response, Target, limits,
};
use eidetica_entry::Id;
use eidetica_protocol::{BootstrapAnswer, CallReply, RequestRef};

use crate::bench::{Bench, database, key, outcome, request, request_from};

const STRANGER: Facts = Facts {
    here: true,
    explicit: None,
    wildcard: None,
};
const WRITE: Permission = Permission::Write(10);

fn receive(bench: &mut Bench, key_n: u16, nonce: u8, facts: Facts) -> BootstrapAnswer {
    let answer = bench.engine.receive_bootstrap(
        &request(key_n, database(1), WRITE, nonce),
        facts,
        bench.now,
    );
    bench.drain();
    answer
}

fn state(bench: &Bench, id: RequestId) -> Option<RequestState> {
    bench
        .engine
        .incoming_requests()
        .find(|request| request.id == id)
        .map(|request| request.state)
}

fn status(bench: &Bench, key_n: u16, id: RequestId, device: u16) -> BootstrapAnswer {
    let asked = RequestRef {
        database: database(1),
        key: key(key_n),
        id,
    };
    bench.engine.request_status(&asked, &key(device), STRANGER)
}

#[test]
fn a_request_waits_for_an_administrator_once_per_key_and_database() {
    let mut bench = Bench::new();
    let first = request(9, database(1), WRITE, 1).id();
    assert_eq!(
        receive(&mut bench, 9, 1, STRANGER),
        BootstrapAnswer::Pending(first)
    );
    let writes = bench.writes;
    assert_eq!(
        receive(&mut bench, 9, 1, STRANGER),
        BootstrapAnswer::Pending(first)
    );
    assert_eq!(bench.writes, writes, "the same again changes nothing");
    // A newer one takes its place.
    let second = request(9, database(1), WRITE, 2).id();
    assert_eq!(
        receive(&mut bench, 9, 2, STRANGER),
        BootstrapAnswer::Pending(second)
    );
    assert_eq!(bench.engine.incoming_requests().count(), 1);
    assert_eq!(
        (state(&bench, first), state(&bench, second)),
        (None, Some(RequestState::Pending))
    );
    assert_eq!(
        status(&bench, 9, second, 1),
        BootstrapAnswer::Pending(second)
    );
}

#[test]
fn rights_that_are_there_need_no_administrator_and_are_never_changed() {
    let right = |explicit, wildcard| Facts {
        here: true,
        explicit,
        wildcard,
    };
    for (facts, answer) in [
        (
            right(Some(Permission::Admin(0)), None),
            BootstrapAnswer::Granted,
        ),
        (right(Some(WRITE), None), BootstrapAnswer::Granted),
        (
            right(None, Some(Permission::Write(3))),
            BootstrapAnswer::Granted,
        ),
        // An explicit right that is weaker: an approval could not change it.
        (
            right(Some(Permission::Write(11)), None),
            BootstrapAnswer::Denied,
        ),
        (
            right(Some(Permission::Read), Some(Permission::Read)),
            BootstrapAnswer::Denied,
        ),
        (
            Facts {
                here: false,
                explicit: None,
                wildcard: None,
            },
            BootstrapAnswer::Denied,
        ),
        (
            Facts {
                here: false,
                explicit: Some(WRITE),
                wildcard: None,
            },
            BootstrapAnswer::Denied,
        ),
    ] {
        let mut bench = Bench::new();
        assert_eq!(receive(&mut bench, 9, 1, facts), answer, "{facts:?}");
        assert_eq!(
            (bench.engine.incoming_requests().count(), bench.writes),
            (0, 0)
        );
    }
    // The wildcard gives less: an administrator may give more.
    let mut bench = Bench::new();
    let pending = receive(&mut bench, 9, 1, right(None, Some(Permission::Read)));
    assert!(matches!(pending, BootstrapAnswer::Pending(_)));
}

#[test]
fn a_request_waits_while_its_database_is_not_offered() {
    let mut bench = Bench::new();
    let BootstrapAnswer::Pending(id) = receive(&mut bench, 9, 1, STRANGER) else {
        panic!()
    };
    let away = Facts {
        here: false,
        ..STRANGER
    };
    let ask = |bench: &Bench, id| {
        let (database, key_of) = (database(1), key(9));
        let asked = RequestRef {
            database,
            key: key_of,
            id,
        };
        bench.engine.request_status(&asked, &key(1), away)
    };
    assert_eq!(ask(&bench, id), BootstrapAnswer::Pending(id));
    bench.now(Command::Reject(id)).unwrap();
    assert_eq!(ask(&bench, id), BootstrapAnswer::Denied);
}

#[test]
fn approval_grants_once() {
    let mut bench = Bench::new();
    let BootstrapAnswer::Pending(id) = receive(&mut bench, 9, 1, STRANGER) else {
        panic!()
    };
    let approve = || Command::Approve { id, by: key(50) };
    let first = bench.command(approve());
    let again = bench.command(approve());
    let (granted, by) = bench.grant().unwrap();
    assert_eq!((granted, by), (request(9, database(1), WRITE, 1), key(50)));
    assert_eq!(bench.grant(), None);
    // Not both ways at once.
    assert_eq!(
        bench.now(Command::Reject(id)),
        Err(EngineError::Decided(id))
    );
    bench.input(Input::Granted(id, Err("not unlocked".into())));
    for command in [first, again] {
        assert_eq!(
            bench.reply(command),
            Some(Err(EngineError::Grant("not unlocked".into())))
        );
    }
    assert_eq!(state(&bench, id), Some(RequestState::Pending));
    let retried = bench.command(approve());
    assert!(bench.grant().is_some());
    bench.input(Input::Granted(id, Ok(GrantOutcome::Granted)));
    assert_eq!(bench.reply(retried), Some(Ok(Response::Done)));
    assert_eq!(bench.now(approve()), Ok(Response::Done));
    assert_eq!(bench.grant(), None);
    assert_eq!(
        bench.now(Command::Reject(id)),
        Err(EngineError::Decided(id))
    );
    assert_eq!(status(&bench, 9, id, 1), BootstrapAnswer::Granted);
}

#[test]
fn a_rejection_stands_until_it_is_forgotten() {
    let mut bench = Bench::new();
    let BootstrapAnswer::Pending(id) = receive(&mut bench, 9, 1, STRANGER) else {
        panic!()
    };
    assert_eq!(bench.now(Command::Reject(id)), Ok(Response::Done));
    assert_eq!(bench.now(Command::Reject(id)), Ok(Response::Done));
    assert_eq!(
        bench.now(Command::Approve { id, by: key(50) }),
        Err(EngineError::Decided(id))
    );
    assert_eq!(status(&bench, 9, id, 1), BootstrapAnswer::Denied);
    for nonce in 1..5 {
        assert_eq!(
            receive(&mut bench, 9, nonce, STRANGER),
            BootstrapAnswer::Denied
        );
    }
    bench.pass_until(bench.now + limits::REQUEST_MS);
    assert!(matches!(
        receive(&mut bench, 9, 5, STRANGER),
        BootstrapAnswer::Pending(_)
    ));
    let nobody = RequestId::new([1; 32]);
    assert_eq!(
        bench.now(Command::Reject(nobody)),
        Err(EngineError::UnknownRequest(nobody))
    );
}

#[test]
fn requests_end_after_seven_days() {
    let mut bench = Bench::new();
    let BootstrapAnswer::Pending(id) = receive(&mut bench, 9, 1, STRANGER) else {
        panic!()
    };
    bench.pass_until(bench.now + limits::REQUEST_MS - 1);
    assert!(state(&bench, id).is_some());
    bench.pass_until(bench.now + 1);
    assert_eq!(state(&bench, id), None);
    assert!(bench.records.is_empty());
    assert_eq!(status(&bench, 9, id, 1), BootstrapAnswer::Denied);
}

#[test]
fn only_the_device_that_asked_learns_and_cancels() {
    let mut bench = Bench::new();
    let BootstrapAnswer::Pending(id) = receive(&mut bench, 9, 1, STRANGER) else {
        panic!()
    };
    assert_eq!(status(&bench, 9, id, 2), BootstrapAnswer::Denied);
    assert_eq!(status(&bench, 8, id, 1), BootstrapAnswer::Denied);
    assert_eq!(
        status(&bench, 9, RequestId::new([1; 32]), 1),
        BootstrapAnswer::Denied
    );
    let asked = |key_n| RequestRef {
        database: database(1),
        key: key(key_n),
        id,
    };
    for (asked, device) in [(asked(8), 1), (asked(9), 2)] {
        bench.engine.cancel_request(&asked, &key(device));
        assert!(state(&bench, id).is_some());
    }
    for _ in 0..2 {
        bench.engine.cancel_request(&asked(9), &key(1));
        bench.drain();
        assert_eq!(state(&bench, id), None);
    }
    assert!(bench.records.is_empty());
}

/// `EIDETICA_TEST_REQUESTS` says how many, so that a longer run needs no other test.
#[test]
fn a_flood_of_requests_is_bounded_and_loses_no_pending_one() {
    let flood = std::env::var("EIDETICA_TEST_REQUESTS")
        .map_or(3_000, |count| count.parse().expect("a number of requests"));
    let mut bench = Bench::new();
    // Of another key for another database each.
    let ask = |bench: &mut Bench, n: usize| {
        let mut id = [1; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let of = 9 + (n % 5_000) as u16;
        let device = 6_000 + (n / limits::INCOMING_PER_DEVICE) as u16;
        let signed = request_from(device, of, Id::new(id), WRITE, 1);
        let answer = bench.engine.receive_bootstrap(&signed, STRANGER, bench.now);
        bench.drain();
        answer
    };
    let BootstrapAnswer::Pending(first) = receive(&mut bench, 8, 1, STRANGER) else {
        panic!()
    };
    for n in 1..limits::INCOMING {
        assert!(matches!(ask(&mut bench, n), BootstrapAnswer::Pending(_)));
    }
    let writes = bench.writes;
    for n in limits::INCOMING..flood {
        assert_eq!(ask(&mut bench, n), BootstrapAnswer::Denied);
    }
    assert_eq!(bench.writes, writes, "what is refused costs no write");
    assert_eq!(
        (
            bench.engine.incoming_requests().count(),
            bench.records.len()
        ),
        (limits::INCOMING, limits::INCOMING)
    );
    assert_eq!(state(&bench, first), Some(RequestState::Pending));
    // A decided one makes room for one more.
    bench.now(Command::Reject(first)).unwrap();
    assert!(matches!(
        ask(&mut bench, flood),
        BootstrapAnswer::Pending(_)
    ));
    assert_eq!(ask(&mut bench, flood + 1), BootstrapAnswer::Denied);
    assert_eq!(state(&bench, first), None);
}

#[test]
fn one_device_fills_its_share_and_leaves_room_for_others() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, device: u16, of: u16| {
        let signed = request_from(device, of, database(1), WRITE, 1);
        let answer = bench.engine.receive_bootstrap(&signed, STRANGER, bench.now);
        bench.drain();
        (answer, signed.id())
    };
    let share = limits::INCOMING_PER_DEVICE as u16;
    let mut asked = (0..share).map(|n| ask(&mut bench, 1, 100 + n));
    assert!(asked.all(|(answer, _)| matches!(answer, BootstrapAnswer::Pending(_))));
    let (refused, _) = ask(&mut bench, 1, 99);
    assert_eq!(refused, BootstrapAnswer::Denied);
    // The same again, and one in place of another, is no more than before.
    let (again, first) = ask(&mut bench, 1, 100);
    assert_eq!(again, BootstrapAnswer::Pending(first));
    assert!(matches!(
        ask(&mut bench, 2, 99).0,
        BootstrapAnswer::Pending(_)
    ));
    // What is decided makes room.
    bench.now(Command::Reject(first)).unwrap();
    assert!(matches!(
        ask(&mut bench, 1, 98).0,
        BootstrapAnswer::Pending(_)
    ));
}

#[test]
fn own_requests_are_remembered_polled_and_withdrawn() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let signed = request(9, database(1), WRITE, 1);
    let id = signed.id();
    let command = bench.command(Command::Bootstrap {
        target: Target::Peer(key(1)),
        request: Box::new(signed.clone()),
    });
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Bootstrap(ref request) if **request == signed));
    let call = |bench: &mut Bench, task, reply| {
        bench.input(Input::Finished(task, JobResult::Call(Ok(reply))))
    };
    call(
        &mut bench,
        task,
        CallReply::Bootstrap(BootstrapAnswer::Pending(id)),
    );
    assert_eq!(
        bench.reply(command),
        Some(Ok(Response::Bootstrap(
            key(1),
            BootstrapAnswer::Pending(id)
        )))
    );
    let mut bench = bench.restart();
    let own = bench.engine.outgoing_requests().next().unwrap().clone();
    assert_eq!(
        (own.id, own.peer, own.database, own.state),
        (id, key(1), database(1), OutgoingState::Pending)
    );

    let command = bench.command(Command::PollRequest(id));
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (task, _, job) = bench.task().unwrap();
    let asked = RequestRef {
        database: database(1),
        key: key(9),
        id,
    };
    assert!(matches!(job, Job::Status(ref request) if *request == asked));
    call(
        &mut bench,
        task,
        CallReply::Bootstrap(BootstrapAnswer::Granted),
    );
    assert!(bench.reply(command).unwrap().is_ok());
    assert_eq!(
        bench.engine.outgoing_requests().next().unwrap().state,
        OutgoingState::Granted
    );
    let (fetching, _, job) = bench.task().unwrap();
    assert!(
        matches!(job, Job::Sync { create: true, .. }),
        "what is granted is fetched"
    );
    bench.synced(fetching, Ok(outcome()));

    let command = bench.command(Command::CancelRequest(id));
    let (task, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Cancel(ref request) if *request == asked));
    call(&mut bench, task, CallReply::Cancelled);
    assert_eq!(bench.reply(command), Some(Ok(Response::Done)));
    assert_eq!(bench.engine.outgoing_requests().count(), 0);
    assert_eq!(
        bench.now(Command::PollRequest(id)),
        Err(EngineError::UnknownRequest(id))
    );
}

#[test]
fn what_is_decided_at_once_is_not_remembered() {
    for answer in [BootstrapAnswer::Granted, BootstrapAnswer::Denied] {
        let mut bench = Bench::new();
        bench.with_peer(1);
        let request = Box::new(request(9, database(1), WRITE, 1));
        let command = bench.command(Command::Bootstrap {
            target: Target::Peer(key(1)),
            request,
        });
        let (task, ..) = bench.task().unwrap();
        bench.input(Input::Finished(
            task,
            JobResult::Call(Ok(CallReply::Bootstrap(answer))),
        ));
        assert_eq!(
            bench.reply(command),
            Some(Ok(Response::Bootstrap(key(1), answer)))
        );
        assert_eq!(bench.engine.outgoing_requests().count(), 0);
    }
}
