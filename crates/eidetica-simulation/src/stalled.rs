//! Two honest nodes, and any number of others that stall wherever they can.

use eidetica_auth::{AuthRecord, KeyName, Permission};
use eidetica_database::NewDatabase;
use eidetica_testkit::Rng;

use crate::{
    act::Act,
    env::{Env, Event, Heard},
    net::NodeId,
    node::Home,
    oracle::Violation,
    plan::Plan,
    rogue::{Behaviour, Rogue},
    world::{Seat, Shared, World},
};

/// Databases that both honest nodes sync with each other and with everybody who stalls.
const DATABASES: usize = 2;
/// How long it goes on.
const MINUTES: u64 = 4;

/// What two honest nodes say to each other, and when, while so many peers stall: they connect and say nothing, begin
/// requests and do not go on, are asked and do not answer, and read nothing.
pub fn beside_stalled_peers(count: usize) -> (Vec<Heard>, Option<Violation>) {
    let mut world = world(2 + count);
    world.run(MINUTES * 60_000);
    let heard = world.env.heard.take().unwrap_or_default();
    (heard, world.report().violation)
}

fn world(nodes: usize) -> World {
    let rng = Rng::exact(16);
    let mut world = World {
        plan: Plan::of(16),
        env: Env::new(nodes, &rng, false),
        seats: (0..nodes).map(|at| seat(at, &rng)).collect(),
        databases: Vec::new(),
        holds_at_last: Vec::new(),
        rng,
        at_once: 0,
    };
    world.env.heard = Some(Vec::new());
    for link in world.env.net.links() {
        link.delay_ms = 20;
    }
    (0..nodes).for_each(|at| world.start(at));
    (0..DATABASES).for_each(|_| share(&mut world));
    world
}

fn seat(at: NodeId, rng: &Rng) -> Seat {
    match at {
        0 | 1 => {
            let mut home = Home::new(at, 1, rng);
            home.disk_ms = 0;
            Seat::Honest(Box::new(home), None)
        }
        _ => {
            let all = [Behaviour::Stalls, Behaviour::Stalls, Behaviour::Crowds];
            Seat::Rogue(Box::new(Rogue::new(at, all[at % all.len()], rng)))
        }
    }
}

/// A database of both honest nodes, with commits on both sides, and with all who stall as further peers.
fn share(world: &mut World) {
    let keys = [0, 1].map(|at| world.home(at).users[0].public());
    let owner_key = world.home(0).users[0].clone();
    let nodes = world.seats.len();
    let Some((node, env)) = world.up(0) else {
        return;
    };
    let name = KeyName::new("member").unwrap();
    let new = NewDatabase {
        records: keys
            .map(|key| AuthRecord::grant(key, Permission::Admin(0), name.clone()))
            .to_vec(),
        ..NewDatabase::default()
    };
    let id = node.databases.create(new, owner_key).unwrap().id();
    keys.into_iter().for_each(|key| env.oracle.let_in(id, key));
    env.after(1_000, Event::Act(Act::Join(1, id, 0)));
    env.after(5_000, Event::Act(Act::Befriend(0, id, 1)));
    for second in (10..MINUTES * 60).step_by(13) {
        env.after(
            second * 1_000,
            Event::Act(Act::Commit((second % 2) as NodeId)),
        );
    }
    for at in 2..nodes {
        for honest in [0, 1] {
            let ms = 10_000 + 10 * at as u64;
            env.after(ms, Event::Act(Act::Befriend(honest, id, at)));
        }
        env.after(10_000 + 7 * at as u64, Event::Act(Act::Turn(at)));
    }
    world.databases.push(Shared {
        id,
        owner: 0,
        members: vec![0, 1],
        pairs: vec![(1, 0)],
    });
}
