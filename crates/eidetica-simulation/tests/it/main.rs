//! The simulation itself: that it is deterministic, that it finds what is wrong, and that a number of seeds hold.
//! `cargo xtask sim` runs many more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use eidetica_simulation::{Behaviour, Plan, Report, beside_stalled_peers, run};

fn holds(plan: &Plan) -> Report {
    let report = run(plan);
    if let Some(wrong) = &report.violation {
        panic!(
            "node {} at {} ms: {}\nreplay: {}",
            wrong.node,
            wrong.at_ms,
            wrong.what,
            plan.replay()
        );
    }
    report
}

fn hash(report: &Report) -> String {
    report
        .hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn the_same_seed_has_the_same_events() {
    for seed in [3, 17] {
        let (first, second) = (run(&Plan::of(seed)), run(&Plan::of(seed)));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
        assert!(first.events > 1_000, "seed {seed}: {}", first.events);
    }
    assert_ne!(run(&Plan::of(3)).hash, run(&Plan::of(4)).hash);
}

/// As the command says that a failure prints.
#[test]
fn what_is_typed_to_see_a_run_again_has_the_same_events_in_another_process() {
    let few = |rogues| Plan {
        peers: Some(4),
        minutes: 3,
        rogues: Some(rogues),
        ..Plan::of(6)
    };
    let forgetful = Plan {
        forgetful: true,
        ..few(vec![])
    };
    let rogues = few(vec![Behaviour::EndlessSpans, Behaviour::Gossips]);
    for plan in [Plan::of(5), rogues, few(vec![]), forgetful] {
        let here = hash(&run(&plan));
        let replay = plan.replay();
        let typed = replay.strip_prefix("cargo xtask sim ").unwrap();
        let there = Command::new(env!("CARGO_BIN_EXE_eidetica-simulation"))
            .args(typed.split(' ').chain(["--quiet"]))
            .output()
            .unwrap();
        let there = String::from_utf8_lossy(&there.stdout).into_owned();
        assert!(there.contains(&format!("hash {here}")), "{replay}: {there}");
    }
}

/// Partitions, losses, repeated requests, crashes, failing disks, wrong clocks, rogues: a few seeds of all that.
#[test]
fn seeds_hold() {
    for seed in 0..10 {
        holds(&Plan::of(seed));
    }
}

#[test]
fn more_seeds_hold() {
    for seed in 1_000..1_010 {
        holds(&Plan::of(seed));
    }
}

/// Whatever a peer does, honest ones end up equal, store nothing unsound, and give nothing away.
#[test]
fn every_kind_of_rogue_is_held_off() {
    for (seed, behaviour) in (1_000..).zip(Behaviour::ALL) {
        let report = holds(&Plan {
            peers: Some(4),
            minutes: 5,
            rogues: Some(vec![behaviour]),
            ..Plan::of(seed)
        });
        assert!(report.counts.lies > 0, "{behaviour:?}");
        // It misbehaves as a server, too, unless honest nodes have no reason to ask it, or cannot.
        let is_left_alone = matches!(
            behaviour,
            Behaviour::Crowds | Behaviour::Foreign | Behaviour::HangsUp | Behaviour::InventsTips
        );
        assert!(
            is_left_alone || report.counts.false_answers > 0,
            "{behaviour:?}"
        );
    }
}

/// Whoever connects and says nothing, takes requests and does not answer, and reads nothing, costs others nothing: two
/// honest nodes say the same to each other at the same time, beside 200 of them or none.
#[test]
fn two_hundred_stalled_peers_change_nothing_between_honest_ones() {
    let ((alone, wrong), (beside, wrong_too)) =
        (beside_stalled_peers(0), beside_stalled_peers(200));
    assert_eq!((wrong, wrong_too), (None, None));
    assert!(alone.len() > 100, "{}", alone.len());
    let pairs = alone.iter().zip(&beside).enumerate();
    let first = pairs.clone().find(|(_, (one, other))| one != other);
    assert_eq!(first, None);
    assert_eq!(alone.len(), beside.len());
}

/// A simulation that cannot fail shows nothing.
#[test]
fn a_disk_that_forgets_is_found() {
    let wrong = (0..40).find_map(|seed| {
        run(&Plan {
            forgetful: true,
            rogues: Some(vec![]),
            ..Plan::of(seed)
        })
        .violation
    });
    let what = wrong.unwrap().what;
    assert!(what.contains("was acknowledged and is gone"), "{what}");
}
