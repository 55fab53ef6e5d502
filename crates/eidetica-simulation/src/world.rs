//! The loop: one event after the other, from one seed, on one thread.

use eidetica_database::Holds;
use eidetica_entry::{Id, PublicKey};
use eidetica_testkit::Rng;

use crate::{
    act::Act,
    env::{Counts, Env, Event},
    net::{Body, CONTROL, NodeId, Packet},
    node::{Home, Node},
    oracle::Violation,
    plan::Plan,
    rogue::Rogue,
};

/// Events in one millisecond. More of them are a loop.
const AT_ONCE: u32 = 200_000;

/// A node that keeps the rules, running or dead, or one that does not.
pub(crate) enum Seat {
    Honest(Box<Home>, Option<Box<Node>>),
    Rogue(Box<Rogue>),
}

/// A database that nodes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: Id,
    /// Where it was made, by the first user there.
    pub(crate) owner: NodeId,
    /// Who is to have it.
    pub(crate) members: Vec<NodeId>,
    /// Who syncs it with whom.
    pub(crate) pairs: Vec<(NodeId, NodeId)>,
}

/// How a simulation went.
#[derive(Debug)]
pub struct Report {
    /// The hash over all events: equal for equal seeds.
    pub hash: [u8; 32],
    /// How many events there were.
    pub events: u64,
    /// What happened how often.
    pub counts: Counts,
    /// The most dials from one node to one other within a minute.
    pub most_dials: usize,
    /// What must not have happened.
    pub violation: Option<Violation>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) env: Env,
    pub(crate) seats: Vec<Seat>,
    pub(crate) databases: Vec<Shared>,
    /// What nodes are to hold when everything has healed.
    pub(crate) holds_at_last: Vec<(NodeId, Id, Holds)>,
    pub(crate) rng: Rng,
    /// Events since the clock last went on.
    pub(crate) at_once: u32,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Report {
    let mut world = World::new(plan);
    world.run(plan.end_ms());
    world.check();
    world.report()
}

impl World {
    pub(crate) fn run(&mut self, end_ms: u64) {
        while self.env.oracle.violation().is_none()
            && let Some((at_ms, event)) = self.env.queue.pop()
            && at_ms <= end_ms
        {
            self.at_once = if at_ms == self.env.now_ms {
                self.at_once + 1
            } else {
                0
            };
            self.env.now_ms = at_ms;
            if self.at_once > AT_ONCE {
                self.env.broken(0, format!("time stands still: {event:?}"));
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Packet(packet) => self.arrive(packet),
            Event::Act(act) => {
                self.env.note(0, "act", &[], || format!("{act:?}"));
                self.act(act);
            }
            Event::Broken(conn, side) => {
                let at = self.env.net.end(conn, side);
                self.env
                    .note(at, "broken", &conn.0.to_le_bytes(), String::new);
                match &mut self.seats[at] {
                    Seat::Rogue(rogue) => rogue.lose(conn),
                    Seat::Honest(_, Some(node)) => node.lose(conn, &mut self.env),
                    Seat::Honest(_, None) => {}
                }
                self.bury(at);
            }
            Event::Engine(at, boot) => self.wake(at, boot, Node::tick),
            Event::Session(at, boot, id) => self.wake(at, boot, |node, env| node.wake(id, env)),
            Event::Late(at, boot, conn) => self.wake(at, boot, |node, env| node.late(conn, env)),
            Event::Disk(at, boot, work) => self.wake(at, boot, |node, env| node.work(work, env)),
        }
    }

    /// Does something at a node, if it is still the same.
    fn wake(&mut self, at: NodeId, boot: u32, work: impl FnOnce(&mut Node, &mut Env)) {
        if let Seat::Honest(_, Some(node)) = &mut self.seats[at]
            && node.boot == boot
        {
            work(node, &mut self.env);
            self.bury(at);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet {
            conn,
            to,
            stream,
            body,
        } = packet;
        let at = self.env.net.end(conn, to);
        self.env.counts.packets += 1;
        self.env.counts.bytes += body.bytes().len() as u64;
        self.env.note(at, body.name(), body.bytes(), || {
            format!("on {} stream {}: {}", conn.0, stream.0, body.words())
        });
        if let Some(heard) = &mut self.env.heard
            && self.env.net.end(conn, to.other()).max(at) <= 1
        {
            heard.push((self.env.now_ms, at, body.kind(), body.length()));
        }
        match &mut self.seats[at] {
            Seat::Rogue(rogue) => rogue.receive(conn, to, stream, body, &mut self.env),
            Seat::Honest(_, Some(node)) => node.receive(conn, to, stream, body, &mut self.env),
            // Nobody is there, but the host may say so.
            Seat::Honest(_, None) if matches!(body, Body::Dial) && at.is_multiple_of(2) => {
                self.env.send(conn, to, CONTROL, Body::Refused);
            }
            Seat::Honest(_, None) => {}
        }
        self.bury(at);
    }

    // Nodes.

    /// A node, if it runs.
    pub(crate) fn up(&mut self, at: NodeId) -> Option<(&mut Node, &mut Env)> {
        match &mut self.seats[at] {
            Seat::Honest(_, Some(node)) => Some((node, &mut self.env)),
            _ => None,
        }
    }

    pub(crate) fn home(&self, at: NodeId) -> &Home {
        match &self.seats[at] {
            Seat::Honest(home, _) => home,
            Seat::Rogue(_) => panic!("node {at} is a rogue"),
        }
    }

    pub(crate) fn device(&self, at: NodeId) -> PublicKey {
        match &self.seats[at] {
            Seat::Honest(home, _) => home.device.public(),
            Seat::Rogue(rogue) => rogue.device.public(),
        }
    }

    pub(crate) fn honest(&self) -> Vec<NodeId> {
        let is_honest = |at: &NodeId| matches!(self.seats[*at], Seat::Honest(..));
        (0..self.seats.len()).filter(is_honest).collect()
    }

    pub(crate) fn database(&self, id: &Id) -> &Shared {
        let found = self.databases.iter().find(|shared| shared.id == *id);
        found.unwrap_or_else(|| panic!("nobody made {id}"))
    }

    /// Ends a node that cannot go on, and starts it again later.
    fn bury(&mut self, at: NodeId) {
        let why = match &mut self.seats[at] {
            Seat::Honest(_, Some(node)) => node.dead.take(),
            _ => None,
        };
        if let Some(why) = why {
            self.env.counts.disk_faults += 1;
            self.crash(at, &why);
            self.env.after(5_000, Event::Act(Act::Start(at)));
        }
    }

    /// Kills a node.
    pub(crate) fn crash(&mut self, at: NodeId, why: &str) {
        let Seat::Honest(home, seat) = &mut self.seats[at] else {
            return;
        };
        let Some(node) = seat.take() else { return };
        self.env.counts.crashes += 1;
        self.env
            .note(at, "crash", why.as_bytes(), || why.to_owned());
        home.bury(&node);
        for conn in node.conns() {
            self.env.cut(conn);
        }
    }

    /// Starts a node that is dead.
    pub(crate) fn start(&mut self, at: NodeId) {
        let Seat::Honest(home, seat @ None) = &mut self.seats[at] else {
            return;
        };
        match home.boot(&mut self.env) {
            Ok(node) => {
                *seat = Some(Box::new(node));
                self.env.note(at, "start", &[], String::new);
                self.check_owed(at);
            }
            Err(why) => {
                self.env.counts.disk_faults += 1;
                self.env.note(at, "no start", &[], || why);
                self.env.after(1_000, Event::Act(Act::Start(at)));
            }
        }
    }

    pub(crate) fn report(self) -> Report {
        Report {
            hash: self.env.trace.hash(),
            events: self.env.trace.events(),
            counts: self.env.counts,
            most_dials: self.env.oracle.most_dials,
            violation: self.env.oracle.violation().cloned(),
        }
    }
}
