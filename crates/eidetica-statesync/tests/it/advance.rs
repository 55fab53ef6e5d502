//! Targets: which advance and which do not, what becomes of work in flight, and what is let go.

use eidetica_mmr::{Digest, Leaves, Location};
use eidetica_statesync::message::{Refusal, Reply, Request, RequestId};
use eidetica_statesync::{
    Claim, Config, Conflict, Engine, Evidence, Feedback, Gap, Input, Local, Output, Pin, Restart,
    SourceId, Target, Trust, respond,
};

use crate::support::{Log, SIGNER, check_signature, config, name};
use crate::world::{Server, Store, World};

/// An engine whose targets the caller brings, with its one source.
struct Hand {
    engine: Engine,
    now_ms: u64,
    alarms: Vec<Evidence>,
    gaps: Vec<Gap>,
    adopted: Vec<u64>,
    pins: Vec<Pin>,
    appended: u64,
    requests: Vec<(RequestId, Request)>,
    asked: Vec<SourceId>,
}

const SOURCE: SourceId = SourceId(1);

impl Hand {
    fn new(local: Local, pin: Option<Pin>) -> Self {
        Self::with(config(Trust::Caller), local, pin)
    }

    fn with(config: Config, local: Local, pin: Option<Pin>) -> Self {
        let appended = local.frontier.leaves().0;
        let mut engine = Engine::new(config, local, pin).unwrap();
        engine.handle_input(Input::Connected(SOURCE), 0);
        Self {
            engine,
            now_ms: 0,
            alarms: Vec::new(),
            gaps: Vec::new(),
            adopted: Vec::new(),
            pins: Vec::new(),
            appended,
            requests: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.engine.handle_input(input, self.now_ms);
        self.drain();
    }

    fn drain(&mut self) -> u64 {
        loop {
            match self.engine.poll_output(self.now_ms) {
                Output::Timeout(at) => return at,
                Output::Alarm(evidence) => self.alarms.push(*evidence),
                Output::Gap(gap) => self.gaps.push(*gap),
                Output::Adopted(target) => self.adopted.push(target.leaves().0),
                Output::Persist(pin) => self.pins.push(pin),
                Output::Request {
                    source, message, ..
                } => {
                    self.asked.push(source);
                    self.requests.push(Request::decode(&message).unwrap());
                }
                Output::Append { operations, .. } => self.appended += operations.count as u64,
                _ => {}
            }
        }
    }

    fn target(&mut self, claim: &Claim) {
        self.input(Input::Target(claim.clone()));
    }

    /// All that was appended is there.
    fn acknowledge(&mut self, log: &Log) {
        let stand = log.mmr.frontier_at(Leaves(self.appended)).unwrap();
        self.input(Input::Applied(stand));
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.input(Input::Tick);
    }

    /// Refuses all that was asked so far.
    fn refuse(&mut self, refusal: Refusal) {
        for (id, _) in std::mem::take(&mut self.requests) {
            let message = Reply::Refused(refusal).encode(id);
            let source = SOURCE;
            self.input(Input::Reply { source, message });
        }
    }

    /// Answers all that was asked so far, honestly.
    fn answer(&mut self, log: &Log) {
        for (id, request) in std::mem::take(&mut self.requests) {
            let message = respond(&name(), log, &request.encode(id)).message;
            let source = SOURCE;
            self.input(Input::Reply { source, message });
        }
    }
}

fn claim(root: u8, lower: u64, leaves: u64) -> Claim {
    let root = Digest::new([root; 32]);
    Claim::unsigned(Target::new(root, Location(lower), Leaves(leaves)).unwrap())
}

#[test]
fn what_does_not_advance_is_ignored() {
    let log = Log::of(50, 1);
    let mut hand = Hand::new(Local::default(), None);
    let present = log.claim_at(Leaves(30), SIGNER);
    hand.target(&present);
    assert_eq!(hand.adopted, [30]);
    for other in [present.clone(), log.claim_at(Leaves(29), SIGNER)] {
        hand.target(&other);
    }
    assert_eq!(hand.adopted, [30]);
    assert_eq!(hand.engine.counters().ignored, 2);
    assert_eq!(hand.alarms, []);
    assert_eq!(hand.pins, [present]);
}

#[test]
fn one_size_with_two_roots_and_one_root_with_two_sizes_are_alarms() {
    let held = claim(1, 5, 30);
    for (shown, kind) in [
        (claim(2, 5, 30), Conflict::SameSize),
        (claim(1, 5, 31), Conflict::SameRoot),
        (claim(1, 5, 29), Conflict::SameRoot),
    ] {
        // Held since just now, and held since before a restart.
        for pinned in [false, true] {
            let mut hand = Hand::new(Local::default(), pinned.then(|| held.clone()));
            hand.target(&held);
            hand.target(&shown);
            hand.target(&shown);
            let expected = Evidence {
                kind,
                held: held.clone(),
                shown: shown.clone(),
                source: None,
            };
            assert_eq!(hand.alarms, [expected], "once, with both");
            assert_eq!(hand.engine.progress().target, Some(held.target));
        }
    }
}

#[test]
fn a_pin_outlives_a_restart() {
    let log = Log::of(50, 1);
    let pin = log.claim_at(Leaves(40), SIGNER);
    // What is older than the pin is not even a beginning.
    let mut hand = Hand::new(Local::default(), Some(pin.clone()));
    hand.target(&log.claim_at(Leaves(39), SIGNER));
    assert_eq!((hand.adopted.len(), hand.alarms.len()), (0, 0));
    // What is newer waits for a proof.
    hand.target(&log.claim_at(Leaves(50), SIGNER));
    assert_eq!(hand.adopted, []);
    hand.answer(&log);
    assert_eq!(hand.adopted, [50]);
    // And another log has none.
    let other = Log::of(60, 2);
    let mut hand = Hand::new(Local::default(), Some(pin.clone()));
    let shown = other.claim_at(Leaves(60), SIGNER);
    hand.target(&shown);
    hand.answer(&other);
    assert_eq!(hand.adopted, []);
    let [evidence] = hand.alarms.as_slice() else {
        panic!("{:?}", hand.alarms);
    };
    assert_eq!(evidence.kind, Conflict::Inconsistent);
    assert_eq!((&evidence.held, &evidence.shown), (&pin, &shown));
    // Somebody may decide otherwise.
    hand.input(Input::Accept(shown.clone()));
    assert_eq!((hand.adopted, hand.pins), (vec![60], vec![shown]));
}

#[test]
fn an_absent_proof_is_an_alarm_and_a_server_that_is_gone_is_none() {
    let log = Log::of(50, 1);
    let pin = log.claim_at(Leaves(40), SIGNER);
    let shown = log.claim_at(Leaves(50), SIGNER);
    let mut hand = Hand::new(Local::default(), Some(pin.clone()));
    hand.target(&shown);
    hand.refuse(Refusal::Unavailable);
    assert_eq!(hand.alarms[0].kind, Conflict::Unshown);
    let mut hand = Hand::new(Local::default(), Some(pin));
    hand.target(&shown);
    hand.input(Input::Disconnected(SOURCE));
    for _ in 0..200 {
        hand.now_ms += 1_000;
        hand.input(Input::Tick);
    }
    assert_eq!(hand.alarms, []);
}

/// A log of which only what counts is there, and a client that was left behind it.
fn pruned_log() -> (Log, Pin) {
    let mut log = Log::of(300, 1);
    let pin = log.claim_at(Leaves(100), SIGNER);
    log.raise(200);
    log.boundary = 200;
    (log, pin)
}

#[test]
fn who_was_away_too_long_is_told_once_and_keeps_what_it_has() {
    let (mut log, pin) = pruned_log();
    let mut hand = Hand::new(Local::default(), Some(pin.clone()));
    for _ in 0..3 {
        hand.target(&log.newest());
        hand.answer(&log);
        hand.wait(5_000);
        log.grow(5, 9);
    }
    let [gap] = hand.gaps.as_slice() else {
        panic!("{:?}", hand.gaps);
    };
    assert_eq!((&gap.held, gap.crossed), (&pin, false));
    assert_eq!((hand.adopted.len(), hand.alarms.len()), (0, 0));
    assert_eq!(hand.engine.pin(), Some(&pin));
    assert_eq!(hand.engine.counters().gaps, 1);
}

fn crossing(trust: Trust) -> Config {
    Config {
        cross_gaps: true,
        ..config(trust)
    }
}

#[test]
fn a_gap_is_crossed_if_that_was_decided_and_nobody_is_left_to_ask() {
    let (log, pin) = pruned_log();
    let mut hand = Hand::with(crossing(Trust::Caller), Local::default(), Some(pin.clone()));
    let other = SourceId(2);
    hand.input(Input::Connected(other));
    hand.target(&log.newest());
    hand.answer(&log);
    assert_eq!(
        (hand.gaps.len(), hand.adopted.len()),
        (0, 0),
        "{other:?} may know"
    );
    hand.input(Input::Disconnected(other));
    hand.wait(4_999);
    assert_eq!(
        (hand.gaps.len(), hand.adopted.len()),
        (0, 0),
        "somebody may come"
    );
    hand.wait(1);
    assert_eq!(hand.adopted, [300]);
    let expected = Gap {
        held: pin,
        shown: log.newest(),
        source: None,
        crossed: true,
    };
    assert_eq!((hand.gaps, hand.alarms), (vec![expected], vec![]));
    assert_eq!(hand.pins, [log.newest()]);

    for (trust, seed) in [(Trust::Sources, 1), (Trust::Signer(check_signature()), 2)] {
        let (log, pin) = pruned_log();
        let mut store = Store::of(&log, 100);
        store.pin = Some(pin);
        let servers = vec![Server::Honest, Server::Honest];
        let mut world = World::new(seed, crossing(trust), log, servers, store);
        world.growths = 3;
        world.crash_at = Some(15);
        assert!(world.run(120_000));
        assert_eq!(world.restarts[0], Restart::Behind);
        assert_eq!(world.alarms, []);
        assert!(!world.gaps.is_empty() && world.gaps.iter().all(|gap| gap.crossed));
    }
}

#[test]
fn whoever_comes_may_remember_and_is_waited_for_anew() {
    let (log, pin) = pruned_log();
    let other = SourceId(2);
    let begin = || Hand::with(crossing(Trust::Caller), Local::default(), Some(pin.clone()));
    let mut hand = begin();
    hand.target(&log.newest());
    hand.answer(&log);
    hand.wait(3_000);
    // It never answers.
    hand.input(Input::Connected(other));
    hand.wait(10_000);
    hand.input(Input::Disconnected(other));
    hand.wait(4_999);
    assert_eq!(hand.adopted, []);
    hand.wait(1);
    assert_eq!(hand.adopted, [300]);
    // The time of a target may end before that.
    let mut hand = begin();
    hand.input(Input::Connected(other));
    hand.target(&log.newest());
    hand.answer(&log);
    hand.wait(58_000);
    hand.input(Input::Disconnected(other));
    hand.wait(2_000);
    assert_eq!(hand.adopted, []);
    assert!(!hand.gaps[0].crossed);
}

#[test]
fn a_gap_that_is_none_is_not_crossed() {
    let (log, pin) = pruned_log();
    let config = crossing(Trust::Caller);
    // The target needs what the source says that it has forgotten, since it was shown perhaps.
    let whole = Log::of(300, 1);
    let mut hand = Hand::with(config.clone(), Local::default(), Some(pin.clone()));
    hand.target(&whole.claim_at(Leaves(250), SIGNER));
    hand.answer(&log);
    assert_eq!(
        (hand.gaps.len(), hand.alarms.len(), hand.adopted.len()),
        (0, 0, 0)
    );
    // The next one needs it still.
    hand.target(&whole.newest());
    hand.answer(&log);
    assert_eq!((hand.gaps.len(), hand.adopted.len()), (0, 0));
    let kinds: Vec<_> = hand.alarms.iter().map(|alarm| alarm.kind).collect();
    assert_eq!(kinds, [Conflict::Unshown]);
    // It says that it has forgotten what it says that it has.
    let mut hand = Hand::with(config, Local::default(), Some(pin));
    hand.target(&log.newest());
    hand.refuse(Refusal::Pruned {
        boundary: Location(100),
    });
    assert_eq!((hand.gaps.len(), hand.adopted.len()), (0, 0));
    assert_eq!(hand.alarms[0].kind, Conflict::Unshown);
}

#[test]
fn work_in_flight_stays_of_use_when_the_target_advances() {
    let mut log = Log::of(200, 1);
    let mut hand = Hand::new(Local::default(), None);
    hand.target(&log.newest());
    let early = std::mem::take(&mut hand.requests);
    assert_eq!(early.len(), 4);
    log.grow(100, 2);
    hand.target(&log.newest());
    hand.answer(&log);
    assert_eq!(hand.adopted, [200, 300]);
    assert_eq!(hand.appended, 0);
    hand.requests = early;
    hand.answer(&log);
    assert_eq!(hand.appended, 64, "all four ranges of the earlier target");
    let counters = hand.engine.counters();
    assert_eq!((counters.faults, counters.verified_operations), (0, 64));
}

#[test]
fn a_lower_bound_that_passes_the_log_begins_it_anew() {
    let mut honest = Log::of(300, 1);
    let store = Store::of(&honest, 100);
    honest.raise(200);
    honest.boundary = 200;
    let servers = vec![Server::Honest];
    let mut world = World::new(1, config(Trust::Sources), honest, servers, store);
    assert!(world.run(60_000));
    assert_eq!(world.restarts, [Restart::Behind]);
    assert_eq!(world.engine.counters().verified_operations, 100);
}

#[test]
fn pruning_in_the_middle_is_followed() {
    for seed in 0..30 {
        let honest = Log::of(400, seed);
        let servers = vec![Server::Honest, Server::Honest];
        let trust = Trust::Signer(check_signature());
        let mut world = World::new(seed, config(trust), honest, servers, Store::default());
        world.growths = 25;
        world.prunes = true;
        assert!(world.run(120_000), "seed {seed}");
    }
}

#[test]
fn a_target_of_one_source_that_nobody_serves_is_let_go() {
    let honest = Log::of(60, 1);
    let mut fork = Log::of(90, 2);
    fork.boundary = 90;
    let mut hand = Engine::new(config(Trust::Sources), Local::default(), None).unwrap();
    // The first to show a target is the one with a log of its own, of which it serves nothing.
    let (bad, good) = (SourceId(1), SourceId(2));
    let mut now_ms = 0;
    hand.handle_input(Input::Connected(bad), now_ms);
    let mut complete = false;
    let mut stand = eidetica_mmr::Mmr::new();
    let mut unbacked = 0;
    while !complete && now_ms < 600_000 {
        match hand.poll_output(now_ms) {
            Output::Request {
                source, message, ..
            } => {
                let log = if source == bad { &fork } else { &honest };
                let message = respond(&name(), log, &message).message;
                hand.handle_input(Input::Reply { source, message }, now_ms);
                if source == bad {
                    hand.handle_input(Input::Connected(good), now_ms);
                }
            }
            Output::Append { operations, .. } => {
                let mut rest = operations.bytes.as_slice();
                while let Some(length) = crate::support::split(rest) {
                    stand
                        .append(eidetica_mmr::leaf_hash(&rest[..length]))
                        .unwrap();
                    rest = &rest[length..];
                }
                hand.handle_input(Input::Applied(stand.frontier().clone()), now_ms);
            }
            Output::Feedback { source, feedback } => {
                assert!(source == bad || !matches!(feedback, Feedback::Dropped(_)));
                unbacked += u64::from(matches!(
                    feedback,
                    Feedback::Fault(eidetica_statesync::Fault::Unbacked)
                ));
            }
            Output::Complete(target) => complete = target == honest.newest().target,
            Output::Timeout(at) => {
                now_ms = at;
                hand.handle_input(Input::Tick, now_ms);
            }
            _ => {}
        }
    }
    assert!(complete);
    assert_eq!(unbacked, 1);
}

/// Its root is true, and nobody proves where a database begins.
#[test]
fn a_lower_bound_that_is_too_high_costs_time_and_nothing_else() {
    let at_first = Log::of(60, 1);
    let mut honest = Log::of(60, 1);
    honest.grow(30, 2);
    let mut lying = Log::of(60, 1);
    lying.grow(30, 2);
    lying.raise(89);
    let mut stand = at_first.mmr.clone();
    let local = Local {
        frontier: stand.frontier().clone(),
        ..Local::default()
    };
    let pin = Some(at_first.newest());
    let mut engine = Engine::new(config(Trust::Sources), local, pin).unwrap();
    let (bad, good) = (SourceId(1), SourceId(2));
    let mut now_ms = 0;
    engine.handle_input(Input::Connected(bad), now_ms);
    let (mut complete, mut refused) = (false, 0);
    while !complete && now_ms < 600_000 {
        match engine.poll_output(now_ms) {
            Output::Request {
                source, message, ..
            } => {
                let log = if source == bad { &lying } else { &honest };
                let message = respond(&name(), log, &message).message;
                engine.handle_input(Input::Reply { source, message }, now_ms);
            }
            Output::Restart { boundary, .. } => {
                stand = eidetica_mmr::Mmr::from_frontier(boundary);
                engine.handle_input(Input::Applied(stand.frontier().clone()), now_ms);
            }
            Output::Append { operations, .. } => {
                let mut rest = operations.bytes.as_slice();
                while let Some(length) = crate::support::split(rest) {
                    stand
                        .append(eidetica_mmr::leaf_hash(&rest[..length]))
                        .unwrap();
                    rest = &rest[length..];
                }
                engine.handle_input(Input::Applied(stand.frontier().clone()), now_ms);
            }
            Output::Persist(pin) => assert_eq!(pin.target.lower(), Location(0)),
            Output::Complete(target) if target.lower() > Location(0) => {
                refused += 1;
                engine.handle_input(Input::Unfit, now_ms);
                engine.handle_input(Input::Connected(good), now_ms);
            }
            Output::Complete(target) => complete = target == honest.newest().target,
            Output::Alarm(evidence) => panic!("{evidence:?}"),
            Output::Feedback { source, feedback } => {
                assert!(source == bad || !matches!(feedback, Feedback::Fault(_)));
            }
            Output::Timeout(at) => {
                now_ms = at;
                engine.handle_input(Input::Tick, now_ms);
            }
            _ => {}
        }
    }
    assert!(complete && stand.root() == honest.mmr.root());
    assert!((1..=3).contains(&refused), "{refused}");
}

#[test]
fn a_database_that_refuses_its_target_waits_for_a_newer_one() {
    let mut log = Log::of(10, 1);
    let mut hand = Hand::new(Local::default(), None);
    hand.target(&log.newest());
    hand.answer(&log);
    assert_eq!(hand.appended, 10);
    hand.input(Input::Unfit);
    hand.now_ms += 100_000;
    hand.input(Input::Tick);
    assert!(hand.requests.is_empty() && !hand.engine.progress().complete);
    log.grow(10, 2);
    hand.target(&log.newest());
    hand.answer(&log);
    hand.answer(&log);
    assert_eq!(hand.adopted, [10, 20]);
    assert_eq!(hand.appended, 30, "all of it anew");
}

#[test]
fn batches_grow_and_shrink() {
    let log = Log::of(4_000, 1);
    let mut config = config(Trust::Caller);
    (config.batch, config.outstanding) = (1_000, 1);
    let mut hand = Hand::with(config, Local::default(), None);
    hand.target(&log.newest());
    let asked = |hand: &mut Hand| match hand.requests.last() {
        Some((_, Request::Operations { most, .. })) => *most,
        other => panic!("{other:?}"),
    };
    for expected in [64, 128, 256, 512, 1_000] {
        assert_eq!(asked(&mut hand), expected);
        hand.answer(&log);
        hand.acknowledge(&log);
    }
    assert_eq!(asked(&mut hand), 1_000);
    // Nobody answers: less is asked for, after a rest.
    hand.requests.clear();
    hand.now_ms += 2_000;
    hand.input(Input::Tick);
    assert!(hand.requests.is_empty());
    hand.now_ms += 250;
    hand.input(Input::Tick);
    assert_eq!(asked(&mut hand), 500);
}

#[test]
fn sources_share_the_work_and_take_over_that_of_others() {
    let log = Log::of(1_000, 1);
    let mut hand = Hand::new(Local::default(), None);
    let others = [SourceId(2), SourceId(3), SourceId(4)];
    for source in others {
        hand.input(Input::Connected(source));
    }
    hand.target(&log.newest());
    let mut asked: Vec<u64> = hand.asked.iter().map(|source| source.0).collect();
    asked.sort_unstable();
    assert_eq!(asked, [1, 2, 3, 4]);
    let first = hand.requests.clone();
    hand.requests.clear();
    for source in others {
        hand.input(Input::Disconnected(source));
    }
    let again: Vec<_> = hand
        .requests
        .drain(..)
        .map(|(_, request)| request)
        .collect();
    assert!(
        first[1..]
            .iter()
            .all(|(_, request)| again.contains(request))
    );
}

#[test]
fn a_reply_to_nothing_is_a_fault_and_a_late_one_is_none() {
    let log = Log::of(100, 1);
    let mut hand = Hand::new(Local::default(), None);
    hand.target(&log.newest());
    let late = std::mem::take(&mut hand.requests);
    hand.now_ms += 2_001;
    hand.input(Input::Tick);
    hand.requests = late;
    hand.answer(&log);
    assert_eq!(hand.engine.counters().faults, 0);
    assert!(hand.engine.counters().late >= 4);
    // Nor is one over a connection that was cut.
    hand.now_ms += 10_000;
    hand.input(Input::Tick);
    let cut = std::mem::take(&mut hand.requests);
    assert!(!cut.is_empty());
    hand.input(Input::Disconnected(SOURCE));
    hand.input(Input::Connected(SOURCE));
    hand.requests = cut;
    hand.answer(&log);
    assert_eq!(hand.engine.counters().faults, 0);
    let message = Reply::Target(log.newest()).encode(RequestId(999));
    let source = SOURCE;
    hand.input(Input::Reply { source, message });
    assert_eq!(hand.engine.counters().faults, 1);
}
