//! Whatever happens, in whatever order: the engine looks after each step whether it has missed anything, and what it was
//! asked comes to an end.

use eidetica_engine::{
    Action, Command, CommandId, Input, LinkId, PeerStatus, StreamId, TaskId, Wishes,
};
use eidetica_entry::PublicKey;
use eidetica_protocol::{CloseReason, Failure, LiveEvent, Refusal};
use eidetica_testkit::Rng;

use crate::bench::{Bench, address, database, key, outcome};

fn pick<T>(random: &mut Rng, all: &mut Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(random.below(all.len())))
}

/// What is under way outside.
#[derive(Default)]
struct World {
    dials: Vec<(LinkId, Option<PublicKey>)>,
    links: Vec<LinkId>,
    tasks: Vec<(TaskId, LinkId)>,
    streams: Vec<StreamId>,
    open: Vec<CommandId>,
}

impl World {
    fn follow(&mut self, bench: &mut Bench) {
        for action in bench.actions.drain(..) {
            match action {
                Action::Connect(link, _, pinned) => self.dials.push((link, pinned)),
                Action::Close(link) => {
                    self.dials.retain(|(of, _)| *of != link);
                    self.links.retain(|of| *of != link);
                }
                Action::Run(task, link, _) => self.tasks.push((task, link)),
                Action::OpenLive(stream, ..) => self.streams.push(stream),
                Action::EndLive(stream) => self.streams.retain(|of| *of != stream),
                Action::Reply(id, _) => {
                    assert!(self.open.contains(&id), "one reply");
                    self.open.retain(|of| *of != id);
                }
                _ => {}
            }
        }
    }
}

fn wishes(random: &mut Rng) -> Option<Wishes> {
    let some = Wishes {
        enabled: random.below(4) > 0,
        on_commit: random.below(3) > 0,
        interval_s: (random.below(2) > 0).then_some(60),
    };
    (random.below(4) > 0).then_some(some)
}

fn command(random: &mut Rng) -> Command {
    let (key, database) = (
        key(1 + random.below(4) as u16),
        database(1 + random.below(6) as u8),
    );
    match random.below(16) {
        0..5 => Command::Relate(key, database),
        5 => Command::Unrelate(key, database),
        6 => Command::ForgetDatabase(database),
        7 | 8 => Command::Queue(key, database),
        9 => Command::SetStatus(
            key,
            [
                PeerStatus::Active,
                PeerStatus::Inactive,
                PeerStatus::Blocked,
            ][random.below(3)],
        ),
        10 => Command::RemovePeer(key),
        11 => Command::RegisterPeer { key, name: None },
        12 => Command::AddAddress(key, address(&format!("other{}:1", random.below(3)))),
        13 => Command::Background(random.below(4) > 0),
        14 => Command::Connect(eidetica_engine::Target::Peer(key)),
        _ => Command::Sync {
            target: eidetica_engine::Target::Peer(key),
            databases: eidetica_engine::Selection::Related,
            create: false,
        },
    }
}

fn step(bench: &mut Bench, world: &mut World, random: &mut Rng) {
    let cut = || Failure::Closed(CloseReason::Cut);
    match random.below(16) {
        0..4 => {
            let id = bench.command(command(random));
            world.open.push(id);
        }
        4 => {
            let database = database(1 + random.below(6) as u8);
            bench.input(Input::Wishes(database, wishes(random)));
        }
        5..7 => {
            if let Some((link, peer)) = pick(random, &mut world.dials) {
                match random.below(3) {
                    0 => bench.connect_failed(link),
                    _ => {
                        world.links.push(link);
                        bench.connected(link, peer.unwrap_or(key(1)));
                    }
                }
            }
        }
        7..11 => {
            if let Some((task, _)) = pick(random, &mut world.tasks) {
                let result = match random.below(4) {
                    0 => Err(cut()),
                    1 => Err(Failure::Refused(Refusal::ABSENT)),
                    _ => Ok(outcome()),
                };
                bench.synced(task, result);
            }
        }
        11 => {
            if let Some(link) = pick(random, &mut world.links) {
                let (on_it, others) = world.tasks.drain(..).partition(|(_, on)| *on == link);
                world.tasks = others;
                let on_it: Vec<(TaskId, LinkId)> = on_it;
                for (task, _) in on_it {
                    bench.synced(task, Err(cut()));
                }
                bench.input(Input::Disconnected(link));
            }
        }
        12 => {
            if let Some(stream) = pick(random, &mut world.streams) {
                bench.input(Input::LiveEnded(stream, Err(cut())));
            }
        }
        13 => {
            if !world.streams.is_empty() {
                let stream = world.streams[random.below(world.streams.len())];
                let database = database(1 + random.below(6) as u8);
                let events = [
                    LiveEvent::Checked,
                    LiveEvent::Lacks(database),
                    LiveEvent::Incomplete(database),
                ];
                bench.input(Input::Live(stream, events[random.below(3)].clone()));
            }
        }
        14 => bench.input(Input::Online),
        _ => {
            let wait = [0, 1_000, 5_000, 70_000][random.below(4)];
            let due = bench.timeout.unwrap_or(bench.now).max(bench.now);
            bench.pass_until(due.min(bench.now + wait));
        }
    }
}

#[test]
fn nothing_is_missed_and_everything_ends() {
    for seed in 0..200 {
        let (mut bench, mut world) = (Bench::live(), World::default());
        let mut random = Rng::new(seed);
        for n in 1..=4 {
            bench.peer_at(n, &[&format!("peer{n}:1"), &format!("other{n}:1")]);
        }
        for _ in 0..400 {
            step(&mut bench, &mut world, &mut random);
            // A reply may come with the command.
            world.follow(&mut bench);
        }
        // Everything that is under way succeeds from now on, and so does what follows from that.
        let quiet = bench.command(Command::Background(false));
        world.open.push(quiet);
        world.follow(&mut bench);
        for _ in 0..10_000 {
            if let Some((link, peer)) = pick(&mut random, &mut world.dials) {
                world.links.push(link);
                bench.connected(link, peer.unwrap_or(key(1)));
            } else if let Some((task, _)) = pick(&mut random, &mut world.tasks) {
                bench.synced(task, Ok(outcome()));
            } else if let Some(stream) = pick(&mut random, &mut world.streams) {
                bench.input(Input::LiveEnded(stream, Ok(())));
            } else {
                break;
            }
            world.follow(&mut bench);
        }
        assert!(world.open.is_empty(), "seed {seed}: {:?}", world.open);
        assert!(world.tasks.is_empty() && world.dials.is_empty());
    }
}
