//! What is simulated: everything that a seed decides before the clock starts.

use std::sync::Arc;

use clap::ValueEnum;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_crdt::Doc;
use eidetica_database::{Holds, NewDatabase};
use eidetica_engine::{Input, Wishes};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::handshake::VERSIONS;
use eidetica_testkit::Rng;

use crate::{
    act::{Act, STORES},
    env::{Env, Event},
    net::NodeId,
    node::Home,
    rogue::{Behaviour, Rogue},
    world::{Seat, Shared, World},
};

/// After the last fault, until everybody is connected with everybody: the longest wait before a retry, and some.
const QUIET_MS: u64 = 180_000;
/// The longest interval between two rounds of a database that is not live.
const ROUND_MS: u64 = 60_000;
/// As many rounds as the longest way from one node to another.
const ROUNDS: u64 = 8;
/// For how long things happen, where nothing else is said.
pub const MINUTES: u64 = 10;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many nodes, from 2; drawn from 2 to 8 if none.
    pub peers: Option<usize>,
    /// For how long things happen, before all faults are healed.
    pub minutes: u64,
    /// What the last nodes do to the others; drawn if none.
    pub rogues: Option<Vec<Behaviour>>,
    /// Whether disks lose what they said is durable: a fault that must be found.
    pub forgetful: bool,
    /// Whether to print the events in words.
    pub readable: bool,
}

impl Plan {
    /// [`MINUTES`] of this seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            peers: None,
            minutes: MINUTES,
            rogues: None,
            forgetful: false,
            readable: false,
        }
    }

    /// What to type to see it again.
    pub fn replay(&self) -> String {
        let mut command = format!("cargo xtask sim --seed {}", self.seed);
        if let Some(peers) = self.peers {
            command += &format!(" --peers {peers}");
        }
        if self.minutes != MINUTES {
            command += &format!(" --minutes {}", self.minutes);
        }
        if let Some(rogues) = &self.rogues {
            let names = rogues.iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
            command += " --rogues";
            if !names.is_empty() {
                command += &format!("={}", names.join(","));
            }
        }
        if self.forgetful {
            command += " --forgetful";
        }
        command
    }

    fn heal_ms(&self) -> u64 {
        self.minutes * 60_000
    }

    /// When everybody is connected and nobody writes any more.
    pub(crate) fn settle_ms(&self) -> u64 {
        self.heal_ms() + QUIET_MS
    }

    /// When the simulation is over.
    pub(crate) fn end_ms(&self) -> u64 {
        self.settle_ms() + ROUNDS * ROUND_MS
    }
}

impl World {
    /// Everything at its place, and what is going to happen to it.
    pub(crate) fn new(plan: &Plan) -> Self {
        let rng = Rng::exact(plan.seed);
        let mut draw = rng.part("world", 0);
        let nodes = plan.peers.unwrap_or_else(|| 2 + draw.below(7)).max(2);
        let drawn = (0..draw.below((nodes - 1).min(4))).map(|_| *draw.pick(&Behaviour::ALL));
        let drawn: Vec<Behaviour> = drawn.collect();
        let rogues = plan.rogues.clone().unwrap_or(drawn);
        let first_rogue = nodes - rogues.len();
        let mut world = Self {
            plan: plan.clone(),
            env: Env::new(nodes, &rng, plan.readable),
            seats: (0..nodes)
                .map(|at| match at.checked_sub(first_rogue) {
                    Some(n) => Seat::Rogue(Box::new(Rogue::new(at, rogues[n], &rng))),
                    None => Seat::Honest(home(at, plan.forgetful, &mut draw, &rng), None),
                })
                .collect(),
            databases: Vec::new(),
            holds_at_last: Vec::new(),
            rng,
            at_once: 0,
        };
        (0..nodes).for_each(|at| world.start(at));
        world.share(&mut draw);
        world.shape_network(&mut draw);
        world.write_script(&mut draw);
        world.write_holds();
        world
    }

    /// Makes the databases, and says who is to have them.
    fn share(&mut self, draw: &mut Rng) {
        for _ in 0..1 + draw.below(3) {
            let honest = self.honest();
            let owner = *draw.pick(&honest);
            let mut members = vec![owner];
            let mut records = vec![grant(&self.home(owner).users[0], Permission::Admin(0))];
            let mut askers = Vec::new();
            for at in 0..self.seats.len() {
                if at == owner {
                    continue;
                }
                match (&self.seats[at], draw.below(4)) {
                    (Seat::Honest(home, _), 0 | 1) => {
                        let permission = *draw.pick(&[
                            Permission::Write(10),
                            Permission::Admin(5),
                            Permission::Read,
                            Permission::Write(0),
                        ]);
                        records.push(grant(&home.users[0], permission));
                        members.push(at);
                    }
                    (Seat::Honest(..), 2) => askers.push(at),
                    (Seat::Honest(..), _) => {}
                    (Seat::Rogue(rogue), 0 | 1) => {
                        records.push(grant(&rogue.key, Permission::Write(10)));
                        records.push(grant(&rogue.reader, Permission::Read));
                    }
                    (Seat::Rogue(_), _) => {}
                }
            }
            if draw.one_in(6) {
                records.push(AuthRecord::Wildcard(Some(Permission::Read)));
            }
            self.create(owner, members, askers, records, draw);
        }
    }

    fn create(
        &mut self,
        owner: NodeId,
        mut members: Vec<NodeId>,
        askers: Vec<NodeId>,
        records: Vec<AuthRecord>,
        draw: &mut Rng,
    ) {
        let key = Arc::clone(&self.home(owner).users[0]);
        let Some((node, env)) = self.up(owner) else {
            return;
        };
        let mut settings = Doc::new();
        settings.set_string("name", "shared");
        let keys: Vec<PublicKey> = records.iter().filter_map(granted).collect();
        let is_open = records
            .iter()
            .any(|record| matches!(record, AuthRecord::Wildcard(_)));
        let new = NewDatabase {
            records,
            settings,
            timestamp_ms: None,
        };
        let id = node.databases.create(new, key).unwrap().id();
        env.oracle.acknowledged(owner, id, id);
        keys.into_iter().for_each(|key| env.oracle.let_in(id, key));
        if is_open {
            env.oracle.open_to_all(id);
        }
        for at in &askers {
            let when = draw.between(1_000, 120_000);
            env.after(when, Event::Act(Act::Ask(*at, id)));
        }
        let mut pairs = Vec::new();
        for (place, at) in members.iter().enumerate().skip(1) {
            pairs.push((*at, members[draw.below(place)]));
            if draw.one_in(3) {
                pairs.push((*at, owner));
            }
        }
        for (at, peer) in &pairs {
            let when = draw.between(1_000, 60_000);
            env.after(when, Event::Act(Act::Join(*at, id, *peer)));
            let when = draw.between(60_000, 120_000);
            env.after(when, Event::Act(Act::Befriend(*peer, id, *at)));
        }
        pairs.extend(askers.iter().map(|at| (*at, owner)));
        members.extend(askers);
        self.track(&members, id, draw);
        self.databases.push(Shared {
            id,
            owner,
            members,
            pairs,
        });
    }

    /// What the users of each node want of a database.
    fn track(&mut self, members: &[NodeId], id: Id, draw: &mut Rng) {
        for at in members {
            if draw.one_in(2) {
                continue;
            }
            let on_commit = draw.one_in(2);
            let intervals: &[Option<u64>] = match on_commit {
                true => &[None, Some(20), Some(600)],
                false => &[Some(10), Some(ROUND_MS / 1000)],
            };
            let wishes = Wishes {
                enabled: true,
                on_commit,
                interval_s: *draw.pick(intervals),
            };
            if let Seat::Honest(home, node) = &mut self.seats[*at] {
                home.wishes.insert(id, wishes);
                self.env
                    .note(*at, "wishes", &[], || format!("{id:?} {wishes:?}"));
                if let Some(node) = node {
                    node.input(Input::Wishes(id, Some(wishes)), &mut self.env);
                }
            }
        }
    }

    /// Slow, lossy and fast links.
    fn shape_network(&mut self, draw: &mut Rng) {
        let (loss, twice) = (
            *draw.pick(&[0, 0, 20, 200, 1_000]),
            *draw.pick(&[0, 0, 20, 200]),
        );
        for link in self.env.net.links() {
            link.delay_ms = draw.between(1, 60);
            link.jitter_ms = *draw.pick(&[0, 5, 50, 400]);
            link.rate = draw.one_in(6).then(|| draw.between(1, 100));
            (link.loss, link.twice) = (loss, twice);
        }
    }

    fn write_script(&mut self, draw: &mut Rng) {
        let end_ms = self.plan.heal_ms();
        let honest = self.honest();
        for _ in 0..draw.between(10, 60) {
            let act = Act::Commit(*draw.pick(&honest));
            self.env.after(draw.between(0, end_ms), Event::Act(act));
        }
        for at in &honest {
            for minute in 1..=self.plan.minutes + 4 {
                self.env
                    .after(minute * 60_000, Event::Act(Act::Decide(*at)));
            }
        }
        self.write_rights(draw, end_ms);
        self.write_faults(draw, &honest, end_ms);
        for at in 0..self.seats.len() {
            if let Seat::Rogue(_) = self.seats[at] {
                self.env
                    .after(draw.between(0, 60_000), Event::Act(Act::Turn(at)));
                let database = draw.pick(&self.databases);
                let act = Act::Befriend(database.owner, database.id, at);
                self.env.after(draw.between(0, end_ms / 2), Event::Act(act));
            }
        }
        self.env.after(end_ms, Event::Act(Act::Heal));
    }

    /// Keys that are let in and taken out.
    fn write_rights(&mut self, draw: &mut Rng, end_ms: u64) {
        let mut acts = Vec::new();
        for shared in &self.databases {
            for at in 0..self.seats.len() {
                let is_leaf = !shared.pairs.iter().any(|(_, via)| *via == at);
                let act = match &self.seats[at] {
                    Seat::Rogue(rogue) if draw.one_in(2) => {
                        Act::Revoke(shared.id, rogue.key.public())
                    }
                    Seat::Honest(home, _) if is_leaf && at != shared.owner && draw.one_in(5) => {
                        Act::Revoke(shared.id, home.users[0].public())
                    }
                    Seat::Honest(home, _)
                        if home.users.len() > 1 && shared.members.contains(&at) =>
                    {
                        Act::Grant(shared.id, home.users[1].public())
                    }
                    _ => continue,
                };
                acts.push(act);
            }
        }
        for act in acts {
            self.env
                .after(draw.between(60_000, end_ms), Event::Act(act));
        }
    }

    /// Crashes, partitions, wrong clocks.
    fn write_faults(&mut self, draw: &mut Rng, honest: &[NodeId], end_ms: u64) {
        for _ in 0..draw.below(6) {
            let (at, when) = (*draw.pick(honest), draw.between(0, end_ms));
            self.env.after(when, Event::Act(Act::Crash(at)));
            let again = when + draw.between(100, 60_000);
            self.env.after(again, Event::Act(Act::Start(at)));
        }
        for _ in 0..draw.below(5) {
            let (begin, length) = (draw.between(0, end_ms), draw.between(1_000, 180_000));
            for (from, to) in self.torn(draw) {
                self.env.after(begin, Event::Act(Act::Way(from, to, false)));
                self.env
                    .after(begin + length, Event::Act(Act::Way(from, to, true)));
            }
        }
        for at in honest {
            if draw.one_in(4) {
                let skew_ms = draw.between(0, 7_200_000) as i64 - 3_600_000;
                self.env.after(
                    draw.between(0, end_ms),
                    Event::Act(Act::Clock(*at, skew_ms)),
                );
            }
        }
    }

    /// The ways that one partition closes: between two halves, of one node, or one way only.
    fn torn(&self, draw: &mut Rng) -> Vec<(NodeId, NodeId)> {
        let nodes = self.seats.len();
        let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
        let (kind, pivot) = (draw.below(4), draw.below(nodes));
        let side: Vec<bool> = (0..nodes).map(|_| draw.one_in(2)).collect();
        let is_torn = |(a, b): &(NodeId, NodeId)| match kind {
            0 => side[*a] != side[*b],
            1 => side[*a] && !side[*b],
            2 => *a == pivot || *b == pivot,
            _ => *a == pivot,
        };
        all.filter(|(a, b)| a != b).filter(is_torn).collect()
    }

    /// In some worlds, devices that hold some stores only, others as time goes by. In the end whoever others get a database
    /// from holds all of it again, or nobody could get it.
    fn write_holds(&mut self) {
        let mut draw = self.rng.part("holds", 0);
        if !is_sparse(&self.rng) {
            return;
        }
        let (mut acts, end_ms) = (Vec::new(), self.plan.heal_ms());
        for shared in &self.databases {
            let members = shared.members.iter().filter(|at| **at != shared.owner);
            for at in members {
                if draw.one_in(3) {
                    continue;
                }
                for _ in 0..1 + draw.below(4) {
                    let act = Act::Hold(*at, shared.id, some_stores(&mut draw));
                    acts.push((draw.between(0, end_ms), act));
                }
                let is_leaf = !shared.pairs.iter().any(|(_, via)| via == at);
                let at_last = match is_leaf {
                    true => some_stores(&mut draw),
                    false => Holds::All,
                };
                self.holds_at_last.push((*at, shared.id, at_last));
            }
        }
        for (when, act) in acts {
            self.env.after(when, Event::Act(act));
        }
    }

    /// No more faults: all ways are open, all nodes run, on disks that hold.
    pub(crate) fn heal(&mut self) {
        for link in self.env.net.links() {
            link.up = true;
            (link.loss, link.twice) = (0, 0);
        }
        for at in self.honest() {
            if let Seat::Honest(home, _) = &mut self.seats[at]
                && home.disk_faults > 0
            {
                home.disk_faults = 0;
                self.crash(at, "a new disk");
            }
            self.start(at);
        }
        for (at, database, holds) in std::mem::take(&mut self.holds_at_last) {
            self.hold(at, &database, holds);
        }
    }
}

fn home(at: NodeId, forgetful: bool, draw: &mut Rng, rng: &Rng) -> Box<Home> {
    let mut home = Home::new(at, 1 + draw.below(2), rng);
    home.disk_ms = *draw.pick(&[0, 3, 3, 50, 500]);
    home.skew_ms = draw.between(0, 4_000) as i64 - 2_000;
    // Some are older. One that cannot say what it lacks would lack it for ever.
    let versions: [&[u16]; 3] = match is_sparse(rng) {
        true => [&[2, 1], VERSIONS, VERSIONS],
        false => [&[1], &[2, 1], VERSIONS],
    };
    home.versions = *draw.pick(&versions);
    home.disk_faults = *draw.pick(&[0, 0, 0, 3]);
    home.forgetful = forgetful;
    home.stale = rng.part("stale", at as u64).one_in(3);
    Box::new(home)
}

/// Whether some devices of this world hold some stores only.
fn is_sparse(rng: &Rng) -> bool {
    rng.part("sparse", 0).one_in(2)
}

/// All, none, or any of those that users write to.
fn some_stores(draw: &mut Rng) -> Holds {
    if draw.one_in(4) {
        return Holds::All;
    }
    let names: Vec<&str> = STORES.into_iter().filter(|_| draw.one_in(2)).collect();
    Holds::stores(names).expect("names of stores")
}

fn grant(key: &SecretKey, permission: Permission) -> AuthRecord {
    AuthRecord::grant(key.public(), permission, KeyName::new("member").unwrap())
}

fn granted(record: &AuthRecord) -> Option<PublicKey> {
    match record {
        AuthRecord::Grant { key, .. } => Some(*key),
        _ => None,
    }
}
