//! A client that dies at any step goes on from what was durable.

use eidetica_statesync::{Restart, Trust};

use crate::support::{Dice, Log, check_signature, config};
use crate::world::{Server, Store, World};

fn world(seed: u64, trust: Trust) -> World {
    let honest = Log::of(150, seed);
    let servers = vec![Server::Honest, Server::Honest];
    let mut world = World::new(seed, config(trust), honest, servers, Store::default());
    world.growths = 2;
    world.prunes = true;
    world
}

#[test]
fn a_crash_at_every_step_resumes() {
    for trust in [Trust::Sources, Trust::Signer(check_signature())] {
        let mut whole = world(1, trust.clone());
        assert!(whole.run(60_000));
        for step in 1..=whole.steps {
            let mut world = world(1, trust.clone());
            world.crash_at = Some(step);
            assert!(world.run(60_000), "step {step}");
            assert!(
                !world.restarts.contains(&Restart::WrongPrefix),
                "step {step}"
            );
        }
    }
}

#[test]
fn crashes_again_and_again_end_some_time() {
    for seed in 0..20 {
        let mut world = world(seed, Trust::Signer(check_signature()));
        let mut dice = Dice(seed);
        for _ in 0..30 {
            for _ in 0..dice.roll(60) {
                world.step();
            }
            world.crash();
        }
        assert!(world.run(100_000), "seed {seed}");
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let honest = Log::of(500, 4);
    let mut store = Store::of(&honest, 400);
    store.pin = None;
    let trust = Trust::Signer(check_signature());
    let mut world = World::new(1, config(trust), honest, vec![Server::Honest], store);
    assert!(world.run(60_000));
    assert_eq!(world.engine.counters().verified_operations, 100);
    assert_eq!(world.restarts, []);
}

#[test]
fn a_wrong_beginning_is_set_aside_and_fetched_again() {
    for (size, lower) in [(1, 0), (30, 0), (30, 10), (100, 0), (120, 50), (101, 0)] {
        let mut honest = Log::of(100, 4);
        honest.raise(lower);
        let store = Store::of(&Log::of(size, 5), size);
        let trust = Trust::Signer(check_signature());
        let mut world = World::new(1, config(trust), honest, vec![Server::Honest], store);
        assert!(world.run(60_000), "{size} {lower}");
        assert_eq!(world.restarts, [Restart::WrongPrefix], "{size} {lower}");
    }
}
