//! Every limit, at it and one above.

use eidetica_mmr::{Digest, Leaves, Location};
use eidetica_statesync::message::{Reply, Request, RequestId};
use eidetica_statesync::{
    Claim, Config, DatabaseName, Dropped, Engine, Fault, Feedback, Input, Local, MessageError,
    Operations, Output, Refusal, Serve, SourceId, Target, Trust, limits, refuse, respond,
};

use crate::support::{Log, SIGNER, config, name};

fn engine(config: Config) -> Engine {
    Engine::new(config, Local::default(), None).unwrap()
}

/// All that is to be done now.
fn outputs(engine: &mut Engine, now_ms: u64) -> Vec<Output> {
    let next = || match engine.poll_output(now_ms) {
        Output::Timeout(_) => None,
        output => Some(output),
    };
    std::iter::from_fn(next).collect()
}

fn requests(engine: &mut Engine, now_ms: u64) -> Vec<(SourceId, Vec<u8>)> {
    let request = |output| match output {
        Output::Request {
            source, message, ..
        } => Some((source, message)),
        _ => None,
    };
    outputs(engine, now_ms)
        .into_iter()
        .filter_map(request)
        .collect()
}

fn feedback(engine: &mut Engine, now_ms: u64) -> Vec<Feedback> {
    let feedback = |output| match output {
        Output::Feedback { feedback, .. } => Some(feedback),
        _ => None,
    };
    outputs(engine, now_ms)
        .into_iter()
        .filter_map(feedback)
        .collect()
}

#[test]
fn names() {
    assert!(DatabaseName::new("n".repeat(limits::NAME_BYTES)).is_ok());
    assert!(DatabaseName::new("n".repeat(limits::NAME_BYTES + 1)).is_err());
    assert!(DatabaseName::new("").is_err());
}

#[test]
fn targets() {
    let root = Digest::new([1; 32]);
    let most = eidetica_mmr::limits::LEAVES;
    assert!(Target::new(root, Location(most - 1), Leaves(most)).is_ok());
    assert!(Target::new(root, Location(0), Leaves(most + 1)).is_err());
    assert!(Target::new(root, Location(5), Leaves(5)).is_err());
    assert!(Target::new(root, Location(0), Leaves(0)).is_err());
}

#[test]
fn options() {
    type Set = fn(&mut Config, u64);
    let options: [(Set, u64); 5] = [
        (|c, n| c.batch = n as usize, limits::BATCH as u64),
        (
            |c, n| c.outstanding = n as usize,
            limits::OUTSTANDING as u64,
        ),
        (|c, n| c.timeout_ms = n, limits::TIMEOUT_MS),
        (|c, n| c.target_interval_ms = n, limits::TARGET_INTERVAL_MS),
        (
            |c, n| c.ahead_bytes = n as usize,
            limits::AHEAD_BYTES as u64,
        ),
    ];
    for (set, most) in options {
        for (value, fine) in [(1, true), (most, true), (0, false), (most + 1, false)] {
            let mut config = config(Trust::Sources);
            set(&mut config, value);
            assert_eq!(Engine::new(config, Local::default(), None).is_ok(), fine);
        }
    }
}

#[test]
fn message_sizes() {
    let name = DatabaseName::new("n".repeat(limits::NAME_BYTES)).unwrap();
    let longest = Request::Target { name }.encode(RequestId(u64::MAX));
    assert!(longest.len() <= limits::REQUEST_BYTES);
    let mut bytes = longest;
    bytes.resize(limits::REQUEST_BYTES + 1, 0);
    let length = bytes.len();
    let refused = Request::decode(&bytes);
    assert_eq!(refused, Err(MessageError::TooLarge { length }));
    // The longest proof before the most bytes of operations.
    let proof = eidetica_mmr::Proof {
        leaves: Leaves(eidetica_mmr::limits::LEAVES),
        digests: vec![Digest::new([1; 32]); eidetica_mmr::limits::RANGE_DIGESTS],
    };
    let operations = vec![0; limits::REPLY_OPERATIONS_BYTES];
    let reply = Reply::Operations { proof, operations };
    let mut bytes = reply.encode(RequestId(u64::MAX));
    assert!(bytes.len() <= limits::REPLY_BYTES);
    assert!(Reply::decode(&bytes).is_ok());
    bytes.resize(limits::REPLY_BYTES, 0);
    assert!(Reply::decode(&bytes).is_ok());
    bytes.push(0);
    assert!(Reply::decode(&bytes).is_err());
}

#[test]
fn a_server_gives_a_batch_at_most() {
    let most = limits::BATCH as u64;
    let log = Log::of(most + 10, 1);
    for (asked, served) in [(most, most), (most + 1, most)] {
        let request = Request::Operations {
            size: log.leaves(),
            start: Location(0),
            most: asked,
        };
        let answer = respond(&name(), &log, &request.encode(RequestId(1)));
        assert_eq!(answer.operations as u64, served);
    }
}

#[test]
fn sources() {
    let mut engine = engine(config(Trust::Caller));
    for id in 0..limits::SOURCES as u64 {
        engine.handle_input(Input::Connected(SourceId(id)), 0);
    }
    assert_eq!(feedback(&mut engine, 0), []);
    let one_more = SourceId(limits::SOURCES as u64);
    engine.handle_input(Input::Connected(one_more), 0);
    let full = Feedback::Dropped(Dropped::Full);
    assert_eq!(feedback(&mut engine, 0), [full]);
    engine.handle_input(Input::Disconnected(SourceId(3)), 0);
    engine.handle_input(Input::Connected(one_more), 0);
    assert_eq!(feedback(&mut engine, 0), []);
    assert_eq!(engine.progress().sources, limits::SOURCES);
}

#[test]
fn lies_and_failures() {
    let source = SourceId(1);
    let mut engine = engine(config(Trust::Sources));
    engine.handle_input(Input::Connected(source), 0);
    let lie = |engine: &mut Engine| {
        let message = vec![0xff, 1];
        engine.handle_input(Input::Reply { source, message }, 0);
        feedback(engine, 0)
    };
    let fault = Feedback::Fault(Fault::Message(MessageError::Kind { found: 0xff }));
    let dropped = Feedback::Dropped(Dropped::Lies);
    for _ in 1..limits::LIES {
        assert_eq!(lie(&mut engine), [fault]);
    }
    assert_eq!(lie(&mut engine), [fault, dropped]);
    assert_eq!(lie(&mut engine), [], "it is not even listened to");
    engine.handle_input(Input::Connected(source), 0);
    assert_eq!(feedback(&mut engine, 0), [dropped]);
    // Silence is forgiven with a new connection.
    let (source, mut now_ms, mut late) = (SourceId(2), 0, 0);
    engine.handle_input(Input::Connected(source), 0);
    loop {
        let found = feedback(&mut engine, now_ms);
        late += found.iter().filter(|f| **f == Feedback::Late).count();
        if found.contains(&Feedback::Dropped(Dropped::Failures)) {
            break;
        }
        let Output::Timeout(at) = engine.poll_output(now_ms) else {
            panic!("not drained");
        };
        now_ms = at;
    }
    assert_eq!(late, limits::FAILURES as usize);
    engine.handle_input(Input::Connected(source), now_ms);
    assert_eq!(engine.progress().sources, 1);
}

/// An engine in the middle of a log, with its source.
fn midway(log: &Log, change: impl FnOnce(&mut Config)) -> (Engine, Vec<(SourceId, Vec<u8>)>) {
    let mut config = config(Trust::Caller);
    change(&mut config);
    let mut engine = engine(config);
    engine.handle_input(Input::Connected(SourceId(1)), 0);
    engine.handle_input(Input::Target(log.claim_at(log.leaves(), SIGNER)), 0);
    let requests = requests(&mut engine, 0);
    (engine, requests)
}

fn answer(engine: &mut Engine, log: &Log, (source, request): &(SourceId, Vec<u8>)) {
    let message = respond(&name(), log, request).message;
    let source = *source;
    engine.handle_input(Input::Reply { source, message }, 0);
}

/// However long a source stalls, short of being dropped for it: what it answers then was asked.
#[test]
fn replies_that_are_late() {
    let log = Log::of(10_000, 1);
    let (mut engine, mut asked) = midway(&log, |config| config.outstanding = limits::OUTSTANDING);
    let mut now_ms = 0;
    for round in 1..limits::FAILURES {
        now_ms += 2_000;
        engine.handle_input(Input::Tick, now_ms);
        assert_eq!(
            engine.counters().late,
            u64::from(round) * limits::OUTSTANDING as u64
        );
        now_ms += limits::BACKOFF_MAX_MS;
        asked.extend(requests(&mut engine, now_ms));
    }
    assert_eq!(asked.len(), limits::OUTSTANDING * limits::FAILURES as usize);
    for (source, request) in &asked {
        let message = respond(&name(), &log, request).message;
        let source = *source;
        engine.handle_input(Input::Reply { source, message }, now_ms);
    }
    assert_eq!(engine.counters().faults, 0);
    // Once each.
    let (source, request) = &asked[0];
    let message = respond(&name(), &log, request).message;
    let source = *source;
    engine.handle_input(Input::Reply { source, message }, now_ms);
    assert_eq!(engine.counters().faults, 1);
}

#[test]
fn how_long_a_proof_is_looked_for() {
    let log = Log::of(100, 1);
    let pin = log.claim_at(Leaves(50), SIGNER);
    let mut config = config(Trust::Caller);
    config.timeout_ms = limits::TIMEOUT_MS;
    let mut engine = Engine::new(config, Local::default(), Some(pin)).unwrap();
    engine.handle_input(Input::Connected(SourceId(1)), 0);
    engine.handle_input(Input::Target(log.newest()), 0);
    let asked = requests(&mut engine, 0);
    assert_eq!(asked.len(), 1);
    // At the last moment it is still of use.
    assert_eq!(outputs(&mut engine, limits::CANDIDATE_MS - 1), []);
    assert_eq!(
        engine.poll_output(limits::CANDIDATE_MS - 1),
        Output::Timeout(limits::CANDIDATE_MS)
    );
    answer(&mut engine, &log, &asked[0]);
    assert_eq!(engine.counters().adopted, 1);
}

#[test]
fn many_requests_that_are_late_at_once_are_one_failure() {
    let log = Log::of(10_000, 1);
    let (mut engine, _) = midway(&log, |config| config.outstanding = limits::OUTSTANDING);
    engine.handle_input(Input::Tick, 2_000);
    let found = feedback(&mut engine, 2_000);
    assert_eq!(found, [Feedback::Late; limits::OUTSTANDING]);
    assert_eq!(engine.progress().sources, 1);
}

#[test]
fn requests_in_flight() {
    let log = Log::of(10_000, 1);
    for outstanding in [1, limits::OUTSTANDING] {
        let (engine, requests) = midway(&log, |config| config.outstanding = outstanding);
        assert_eq!(requests.len(), outstanding);
        assert_eq!(engine.progress().outstanding, outstanding);
    }
}

#[test]
fn what_is_handed_out_and_not_acknowledged() {
    let log = Log::of(1_000, 1);
    let (mut engine, mut asked) = midway(&log, |_| {});
    let mut handed: Vec<Operations> = Vec::new();
    while let Some(request) = asked.pop() {
        answer(&mut engine, &log, &request);
        for output in outputs(&mut engine, 0) {
            match output {
                Output::Append { operations, .. } => handed.push(operations),
                Output::Request {
                    source, message, ..
                } => asked.insert(0, (source, message)),
                _ => {}
            }
        }
    }
    assert_eq!(handed.len(), limits::UNACKNOWLEDGED);
}

#[test]
fn what_waits_for_what_is_in_front() {
    let log = Log::of(5_000, 1);
    let (mut engine, mut asked) = midway(&log, |config| config.ahead_bytes = 1_000);
    // Everything is answered but the first.
    asked.remove(0);
    let mut most = 0;
    while let Some(request) = asked.pop() {
        answer(&mut engine, &log, &request);
        most = most.max(engine.progress().ahead_bytes);
        asked.extend(requests(&mut engine, 0));
    }
    assert!(most >= 1_000, "it is used");
    assert!(most < 1_000 + 4 * 16 * 9, "{most}");
}

#[test]
fn a_source_that_is_busy() {
    let log = Log::of(100, 1);
    for (said, rest) in [
        (0, limits::BUSY_MS),
        (limits::BUSY_MS + 1, limits::BUSY_MS + 1),
        (u64::MAX, limits::BACKOFF_MAX_MS),
    ] {
        let (mut engine, asked) = midway(&log, |config| config.outstanding = 1);
        let busy = Refusal::Busy { retry_ms: said };
        let message = refuse(&asked[0].1, busy);
        let source = SourceId(1);
        engine.handle_input(Input::Reply { source, message }, 0);
        assert_eq!(feedback(&mut engine, 0), [Feedback::Refused(busy)]);
        assert_eq!(engine.poll_output(0), Output::Timeout(rest));
        assert_eq!(requests(&mut engine, rest).len(), 1);
    }
}

#[test]
fn a_reply_that_is_short_for_no_reason() {
    let log = Log::of(1_000, 1);
    let (mut engine, asked) = midway(&log, |_| {});
    let shown = log
        .operations(log.leaves(), Location(0)..Location(1), 0)
        .unwrap();
    let (proof, operations) = (shown.proof, shown.operations);
    let (id, _) = Request::decode(&asked[0].1).unwrap();
    let message = Reply::Operations { proof, operations }.encode(id);
    let source = SourceId(1);
    engine.handle_input(Input::Reply { source, message }, 0);
    assert_eq!(feedback(&mut engine, 0), [Feedback::Stingy]);
    assert_eq!(engine.counters().verified_operations, 1, "it is of use");
    assert_eq!(
        limits::SHORT_REPLY_BYTES + limits::OPERATION_BYTES,
        limits::REPLY_OPERATIONS_BYTES
    );
}

#[test]
fn alarms_are_remembered() {
    let held = Log::of(10, 1).newest();
    let mut engine = engine(config(Trust::Caller));
    engine.handle_input(Input::Target(held), 0);
    let fork = |nth: u64| {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&nth.to_le_bytes());
        Claim::unsigned(Target::new(Digest::new(root), Location(0), Leaves(10)).unwrap())
    };
    let alarms = |engine: &mut Engine, nth| {
        engine.handle_input(Input::Target(fork(nth)), 0);
        let found = outputs(engine, 0);
        found
            .iter()
            .filter(|output| matches!(output, Output::Alarm(_)))
            .count()
    };
    let most = limits::ALARMS as u64;
    for nth in 0..most {
        assert_eq!(alarms(&mut engine, nth), 1);
    }
    assert_eq!(alarms(&mut engine, 0), 0, "remembered");
    assert_eq!(alarms(&mut engine, most), 1, "in place of the first");
    assert_eq!(alarms(&mut engine, 0), 1, "forgotten");
}
