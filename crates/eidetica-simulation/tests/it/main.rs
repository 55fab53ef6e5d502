//! The simulation itself: that it is deterministic, that it finds what is wrong, and that a number of seeds hold.
//! `cargo xtask sim` runs many more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use eidetica_simulation::{Behaviour, Plan, Report, run};

fn holds(plan: &Plan) -> Report {
    let report = run(plan);
    if let Some(wrong) = &report.violation {
        panic!(
            "node {} at {} ms: {}\nreplay: cargo xtask sim --seed {}",
            wrong.node, wrong.at_ms, wrong.what, plan.seed
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

#[test]
fn the_same_seed_has_the_same_events_in_another_process() {
    let here = hash(&run(&Plan::of(5)));
    let there = Command::new(env!("CARGO_BIN_EXE_eidetica-simulation"))
        .args(["--seed", "5", "--quiet"])
        .output()
        .unwrap();
    let there = String::from_utf8(there.stdout).unwrap();
    assert!(there.contains(&format!("hash {here}")), "{there}");
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
    }
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
