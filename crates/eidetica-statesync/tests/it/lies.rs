//! Row 20: a state server that lies, in every listed way, beside honest ones and alone.

use eidetica_statesync::{Conflict, Dropped, Feedback, Trust};

use crate::liar::{Liar, Lie};
use crate::support::{Dice, Log, check_signature, config};
use crate::world::{Server, Store, World};

/// What to run: `full`, a number of seeds, or `LIE:SEED` for one; otherwise a sample.
const SCOPE: &str = "EIDETICA_STATESYNC";
const SAMPLE: u64 = 6;
const FULL: u64 = 1_000;
/// The longest that any run may take, of the virtual clock.
const LIMIT_MS: u64 = 15 * 60_000;

fn seeds(lie: Lie) -> Vec<u64> {
    match std::env::var(SCOPE).ok().as_deref() {
        Some("full") => (0..FULL).collect(),
        Some(scope) => match scope.split_once(':') {
            None => (0..scope.parse().unwrap()).collect(),
            Some((name, seed)) if name == format!("{lie:?}") => vec![seed.parse().unwrap()],
            Some(_) => Vec::new(),
        },
        None => (0..SAMPLE).chain(found_before(lie)).collect(),
    }
}

/// Seeds with which something was wrong once.
fn found_before(lie: Lie) -> Option<u64> {
    (lie == Lie::ForkSameSize).then_some(460)
}

/// A world with a liar, its seed decides about everything else.
fn world(lie: Lie, seed: u64, honest_servers: usize) -> World {
    let mut dice = Dice(seed.wrapping_mul(2_654_435_761) ^ lie as u64);
    let mut honest = Log::of(20 + dice.roll(200), seed);
    let size = honest.leaves().0;
    honest.raise(dice.roll(size));
    // Without a pin whoever comes first is believed, so that sources alone are no proof of anything.
    let signed = dice.roll(2) == 0;
    let pinned = lie.is_fork() || !signed || dice.roll(2) == 0;
    let trust = if signed {
        Trust::Signer(check_signature())
    } else {
        Trust::Sources
    };
    let mut store = Store::default();
    let fork_at = dice.roll(size / 2);
    if pinned {
        store = Store::of(&honest, dice.roll(2) * size);
        store.pin = Some(honest.newest());
    } else if dice.roll(3) == 0 {
        // A beginning of its own, which may be wrong.
        let other = Log::of(1 + dice.roll(size), seed ^ dice.roll(2));
        store = Store::of(&other, other.leaves().0);
    }
    let liar = Liar::new(lie, &honest, fork_at, seed);
    let mut servers = vec![Server::Liar(Box::new(liar))];
    servers.extend((0..honest_servers).map(|_| Server::Honest));
    if lie == Lie::SplitViews {
        let other = Liar::new(lie, &honest, fork_at, seed ^ 77);
        servers.push(Server::Liar(Box::new(other)));
    }
    let mut world = World::new(seed, config(trust), honest, servers, store);
    world.growths = dice.roll(6);
    world.prunes = dice.roll(4) == 0;
    if dice.roll(3) == 0 {
        world.crash_at = Some(1 + dice.roll(150));
    }
    world
}

/// Whether anything of the lie was noticed.
fn check(lie: Lie, seed: u64) -> bool {
    let replay = format!("EIDETICA_STATESYNC={lie:?}:{seed}");
    let honest_servers = 1 + (seed % 2) as usize;
    let mut world = world(lie, seed, honest_servers);
    let done = world.run(LIMIT_MS);
    let (steps, progress) = (world.steps, world.engine.progress());
    let feedback = &world.feedback;
    assert!(
        done,
        "not done after {steps} steps: {progress:?}, {feedback:?}; {replay}"
    );
    let good = 1..=honest_servers as u64;
    let honest_lied = world
        .dropped
        .iter()
        .any(|(id, why)| good.contains(&id.0) && why.contains("lies"));
    assert!(!honest_lied, "an honest source was dropped; {replay}");
    for evidence in &world.alarms {
        let (held, shown) = (evidence.held.target, evidence.shown.target);
        assert_ne!((held.root(), held.leaves()), (shown.root(), shown.leaves()));
    }
    let of_liar = world.feedback.iter().any(|(id, _)| !good.contains(&id.0));
    of_liar || !world.alarms.is_empty() || world.engine.counters().ignored > 0
}

#[test]
fn a_liar_beside_an_honest_server_changes_nothing() {
    let mut runs = 0;
    for lie in Lie::ALL {
        let mut noticed = 0;
        let seeds = seeds(lie);
        for seed in &seeds {
            noticed += u64::from(check(lie, *seed));
            runs += 1;
        }
        assert!(noticed > 0 || seeds.len() < 2, "{lie:?} is no lie");
    }
    println!(
        "{} ways to lie, {runs} runs, no wrong accept",
        Lie::ALL.len()
    );
}

#[test]
fn a_liar_alone_gets_nothing_accepted_and_nothing_hangs() {
    for lie in Lie::ALL {
        for seed in seeds(lie).into_iter().take(50) {
            // Every accept is compared with the honest log as it happens.
            let mut world = world(lie, seed, 0);
            world.run(120_000);
        }
    }
}

/// What a fork of the signer leaves behind, with an honest server beside.
fn evidence_of(lie: Lie, seed: u64) -> Vec<(Conflict, bool)> {
    let honest = Log::of(60, seed);
    let mut store = Store::of(&honest, 60);
    store.pin = Some(honest.newest());
    let liar = Liar::new(lie, &honest, 20, seed);
    let servers = vec![Server::Liar(Box::new(liar)), Server::Honest];
    let trust = Trust::Signer(check_signature());
    let mut world = World::new(seed, config(trust), honest, servers, store);
    world.run_on(200_000);
    let both = |evidence: &eidetica_statesync::Evidence| {
        let held = evidence.held.target;
        let is_honest = held.root() == world.honest.root_at(held.leaves());
        let kept = evidence.held.signature.is_some() && evidence.shown.signature.is_some();
        (evidence.kind, is_honest && kept)
    };
    world.alarms.iter().map(both).collect()
}

#[test]
fn a_forked_log_is_reported_with_both_roots() {
    let expected = [
        (Lie::ForkSameSize, Conflict::SameSize),
        (Lie::ForkSameRoot, Conflict::SameRoot),
        (Lie::ForkBiggerForged, Conflict::Inconsistent),
        (Lie::ForkBiggerOwnProof, Conflict::Inconsistent),
    ];
    for (lie, kind) in expected {
        for seed in 0..5 {
            let found = evidence_of(lie, seed);
            assert!(found.contains(&(kind, true)), "{lie:?} {seed}: {found:?}");
        }
    }
    for seed in 0..5 {
        let found = evidence_of(Lie::ForkBiggerUnshown, seed);
        let kinds = [Conflict::Unshown, Conflict::Inconsistent];
        assert!(
            found
                .iter()
                .any(|(kind, both)| *both && kinds.contains(kind))
        );
    }
}

#[test]
fn lies_cost_the_source_its_place() {
    for lie in [
        Lie::WrongByte,
        Lie::SwappedOperations,
        Lie::OtherLog,
        Lie::WrongId,
        Lie::Garbage,
        Lie::UnsignedTarget,
        Lie::MissingPinned,
        Lie::EmptyReplies,
    ] {
        let honest = Log::of(400, 3);
        let liar = Liar::new(lie, &honest, 100, 3);
        let servers = vec![Server::Liar(Box::new(liar)), Server::Honest];
        let trust = Trust::Signer(check_signature());
        let mut world = World::new(5, config(trust), honest, servers, Store::default());
        world.growths = 40;
        assert!(world.run(LIMIT_MS));
        let dropped = |(id, feedback): &(eidetica_statesync::SourceId, Feedback)| {
            id.0 == 0 && *feedback == Feedback::Dropped(Dropped::Lies)
        };
        assert!(world.feedback.iter().any(dropped), "{lie:?}");
    }
}

#[test]
fn silence_costs_the_source_its_place_for_a_while() {
    for lie in [Lie::WithholdsEverything, Lie::SlowDrip, Lie::OneByOne] {
        let honest = Log::of(4_000, 3);
        let liar = Liar::new(lie, &honest, 100, 3);
        let servers = vec![Server::Liar(Box::new(liar))];
        let trust = Trust::Signer(check_signature());
        let mut world = World::new(5, config(trust), honest, servers, Store::default());
        world.run(120_000);
        let dropped = |(_, feedback): &(eidetica_statesync::SourceId, Feedback)| {
            *feedback == Feedback::Dropped(Dropped::Failures)
        };
        assert!(world.feedback.iter().any(dropped), "{lie:?}");
    }
}
