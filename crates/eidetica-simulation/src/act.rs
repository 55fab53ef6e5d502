//! What users, operators and fate do.

use std::sync::Arc;

use eidetica_auth::{AccessRequest, KeyName, Permission, Revocation, SecretKey};
use eidetica_crdt::Doc;
use eidetica_database::{Error, Holds, Transaction};
use eidetica_engine::{Command, OutgoingRequest, RequestState, Selection, Target};
use eidetica_entry::{Id, PublicKey, Stamp, StoreName};
use eidetica_testkit::Rng;

use crate::{
    env::{Env, Event},
    net::NodeId,
    node::{Node, address_of, stale_address_of},
    rogue::{Behaviour, Prey},
    world::{Seat, World},
};

/// How often a user tries to get what is not there yet.
const AGAIN_MS: u64 = 20_000;
/// What users write to.
pub(crate) const STORES: [&str; 4] = ["counters", "lists", "notes", "rows"];
/// Packs that a member among the rogues gets hold of.
const LOOT_BYTES: usize = 1 << 16;

/// One thing that is done.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A user changes something.
    Commit(NodeId),
    /// A node that has a right gets a database from another, if it has not got it, and syncs with it from then on.
    Join(NodeId, Id, NodeId),
    /// A node is told of a peer for a database that it has.
    Befriend(NodeId, Id, NodeId),
    /// A user without a right asks for one, until the request is made.
    Ask(NodeId, Id),
    /// The users of a node decide about the requests for access.
    Decide(NodeId),
    /// The owner lets a key in.
    Grant(Id, PublicKey),
    /// The owner takes the rights of a key.
    Revoke(Id, PublicKey),
    /// A node dies.
    Crash(NodeId),
    /// A dead node starts.
    Start(NodeId),
    /// Nothing goes from one node to another, or again.
    Way(NodeId, NodeId, bool),
    /// A node's clock goes wrong.
    Clock(NodeId, i64),
    /// A node holds these stores of a database from now on.
    Hold(NodeId, Id, Holds),
    /// A rogue does what it does.
    Turn(NodeId),
    /// No more faults.
    Heal,
}

impl World {
    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Commit(node) => self.commit(node),
            Act::Join(node, database, peer) => self.join(node, database, peer),
            Act::Befriend(node, database, peer) => self.befriend(node, database, peer),
            Act::Ask(node, database) => self.ask(node, &database),
            Act::Decide(node) => self.decide(node),
            Act::Grant(database, key) => self.grant(&database, key),
            Act::Revoke(database, key) => self.revoke(&database, key),
            Act::Crash(node) => self.crash(node, "killed"),
            Act::Start(node) => self.start(node),
            Act::Way(from, to, up) => self.env.net.link(from, to).up = up,
            Act::Clock(node, skew_ms) => {
                if let Some((node, env)) = self.up(node) {
                    node.set_clock(skew_ms, env);
                }
            }
            Act::Hold(node, database, holds) => self.hold(node, &database, holds),
            Act::Turn(rogue) => self.turn(rogue),
            Act::Heal => self.heal(),
        }
    }

    fn commit(&mut self, at: NodeId) {
        let mut rng = self
            .rng
            .part("commit", self.env.counts.commits << 32 | self.env.now_ms);
        let users = self.home(at).users.clone();
        let Some((node, env)) = self.up(at) else {
            return;
        };
        let Ok(here) = node.databases.list() else {
            return;
        };
        if here.is_empty() {
            return;
        }
        let (database, user) = (*rng.pick(&here), Arc::clone(rng.pick(&users)));
        let done = node.commit(
            &database,
            &user,
            |transaction| edit(transaction, &mut rng),
            env,
        );
        if let Err(error) = done {
            self.env.note(at, "no commit", &[], || error.to_string());
        }
    }

    fn join(&mut self, at: NodeId, database: Id, peer: NodeId) {
        let key = self.device(peer);
        let again = Event::Act(Act::Join(at, database, peer));
        let Some((node, env)) = self.up(at) else {
            return self.env.after(AGAIN_MS, again);
        };
        let here = node
            .databases
            .find(&database)
            .is_ok_and(|found| found.is_some());
        if here && node.engine.related(&key).contains(&database) {
            return;
        }
        env.after(AGAIN_MS, again);
        meet(node, key, peer, env);
        let sync = Command::Sync {
            target: Target::Peer(key),
            databases: Selection::These(vec![database]),
            create: true,
        };
        node.command(sync, env);
    }

    fn befriend(&mut self, at: NodeId, database: Id, peer: NodeId) {
        let key = self.device(peer);
        let Some((node, env)) = self.up(at) else {
            return;
        };
        meet(node, key, peer, env);
        node.command(Command::Relate(key, database), env);
    }

    fn ask(&mut self, at: NodeId, database: &Id) {
        let owner = self.database(database).owner;
        let (to, user) = (self.device(owner), Arc::clone(&self.home(at).users[0]));
        let again = Event::Act(Act::Ask(at, *database));
        let Some((node, env)) = self.up(at) else {
            return self.env.after(AGAIN_MS, again);
        };
        let is_asked = |request: &OutgoingRequest| request.database == *database;
        let is_related = node.engine.related(&to).contains(database);
        if is_related || node.engine.outgoing_requests().any(is_asked) {
            return;
        }
        env.after(AGAIN_MS, again);
        meet(node, to, owner, env);
        // The answer to an earlier request may have been lost, and that was granted since: then it is for the user to sync.
        if env.oracle.may_know(database, &[user.public()]) {
            let sync = Command::Sync {
                target: Target::Peer(to),
                databases: Selection::These(vec![*database]),
                create: true,
            };
            node.command(sync, env);
        }
        let request = AccessRequest {
            database: *database,
            key: user.public(),
            permission: Permission::Write(10),
            name: KeyName::new("asker").unwrap(),
            device: node.device.public(),
            nonce: node.rng.array(),
        };
        let bootstrap = Command::Bootstrap {
            target: Target::Peer(to),
            request: Box::new(request.sign(&user).unwrap()),
        };
        node.command(bootstrap, env);
    }

    fn decide(&mut self, at: NodeId) {
        let by = self.home(at).users[0].public();
        let Some((node, env)) = self.up(at) else {
            return;
        };
        let pending: Vec<_> = node
            .engine
            .incoming_requests()
            .filter(|request| request.state == RequestState::Pending)
            .map(|request| (request.id, request.request.request().clone()))
            .collect();
        for (id, asked) in pending {
            // From here on the key may be let in at any moment.
            env.oracle.let_in(asked.database, asked.key);
            node.command(Command::Approve { id, by }, env);
        }
    }

    fn grant(&mut self, database: &Id, key: PublicKey) {
        let (owner, by) = self.owner(database);
        let Some((node, env)) = self.up(owner) else {
            return;
        };
        env.oracle.let_in(*database, key);
        let grant = |transaction: &Transaction| {
            transaction
                .settings()
                .grant(key, Permission::Write(20), "granted")
        };
        if node.commit(database, &by, grant, env).is_ok() {
            env.counts.grants += 1;
        }
    }

    fn revoke(&mut self, database: &Id, key: PublicKey) {
        let (owner, by) = self.owner(database);
        let Some((node, env)) = self.up(owner) else {
            return;
        };
        let revoke = |transaction: &Transaction| transaction.settings().revoke(Revocation::of(key));
        if node.commit(database, &by, revoke, env).is_ok() {
            env.counts.revocations += 1;
        }
    }

    /// A device has more room, or less: then what is left out may go, if its owner has it. Nobody else need have it.
    pub(crate) fn hold(&mut self, at: NodeId, database: &Id, holds: Holds) {
        let is_safe = self.owner_has_all_of(at, database);
        let Seat::Honest(home, Some(node)) = &mut self.seats[at] else {
            return;
        };
        let before = home.holds.get(database).cloned().unwrap_or_default();
        let narrows = STORES.iter().filter_map(|name| StoreName::new(name).ok());
        let narrows: Vec<StoreName> = narrows
            .filter(|store| before.has(store) && !holds.has(store))
            .collect();
        if narrows.is_empty() || is_safe {
            home.holds.insert(*database, holds.clone());
            if !node.hold(database, &holds, &narrows, &mut self.env) {
                // Whether it took effect is only known to the disk.
                home.holds.remove(database);
            }
        }
    }

    /// Whether everything that a node has of a database is at its owner.
    fn owner_has_all_of(&self, at: NodeId, database: &Id) -> bool {
        let owner = self.database(database).owner;
        let (Some(node), Some(owner)) = (self.running(at), self.running(owner)) else {
            return false;
        };
        let is_there = |tips: Vec<Stamp>| {
            let ids: Vec<Id> = tips.into_iter().map(|tip| tip.id).collect();
            let known = owner.databases.known(database, &ids);
            known.is_ok_and(|known| known.iter().all(|known| *known))
        };
        let is_whole = owner
            .databases
            .get(database)
            .is_ok_and(|there| there.missing().is_ok_and(|missing| missing.is_empty()));
        match node.databases.tips(database) {
            Ok(tips) => is_whole && tips.is_none_or(is_there),
            Err(_) => false,
        }
    }

    /// Where the owner of a database is, and its key.
    fn owner(&self, database: &Id) -> (NodeId, Arc<SecretKey>) {
        let owner = self.database(database).owner;
        (owner, Arc::clone(&self.home(owner).users[0]))
    }

    fn turn(&mut self, at: NodeId) {
        let mut rng = self.rng.part("turn", (at as u64) << 48 | self.env.now_ms);
        let target = *rng.pick(&self.honest());
        self.env
            .after(rng.between(2_000, 40_000), Event::Act(Act::Turn(at)));
        let (prey, settles) = (self.prey(at), self.env.now_ms >= self.plan.settle_ms());
        if let Seat::Rogue(rogue) = &mut self.seats[at] {
            // What it writes with a right that it still has is as good as anybody's, and may not come too late: neither is it
            // pushed nor answered.
            if settles && rogue.behaviour == Behaviour::Backdates {
                rogue.prey.clear();
                return;
            }
            rogue.prey = prey;
            rogue.turn(target, &mut self.env);
        }
    }

    /// What a rogue knows: the ids of all databases, and of those that it may read what their owners have.
    fn prey(&self, at: NodeId) -> Vec<Prey> {
        let Seat::Rogue(rogue) = &self.seats[at] else {
            return Vec::new();
        };
        let keys = rogue.keys();
        let prey = |database: &crate::world::Shared| {
            let mut prey = Prey {
                database: database.id,
                packs: Vec::new(),
                tips: Vec::new(),
            };
            if let Seat::Honest(_, Some(owner)) = &self.seats[database.owner]
                && self.env.oracle.may_know(&database.id, &keys)
                && let Ok(page) = owner
                    .databases
                    .difference(&database.id, &[], None, LOOT_BYTES)
            {
                (prey.packs, prey.tips) = (page.packs, page.done_tips);
            }
            prey
        };
        self.databases.iter().map(prey).collect()
    }
}

/// Makes a peer and its address known.
fn meet(node: &mut Node, key: PublicKey, peer: NodeId, env: &mut Env) {
    if node.engine.peer(&key).is_none() {
        node.command(Command::RegisterPeer { key, name: None }, env);
        node.command(Command::AddAddress(key, address_of(peer)), env);
        if node.stale {
            // Somebody else's, and nobody's; they are tried first until the right one has worked.
            let mut others = (0..env.net.nodes()).filter(|at| *at != peer && *at != node.me);
            let elsewhere = others.next_back().map(address_of);
            for address in elsewhere.into_iter().chain([stale_address_of(peer)]) {
                node.command(Command::AddAddress(key, address), env);
            }
        }
    }
}

/// Changes something in one store or in several.
fn edit(transaction: &Transaction, rng: &mut Rng) -> Result<(), Error> {
    for _ in 0..1 + rng.below(3) {
        let field = format!("f{}", rng.below(6));
        match rng.below(6) {
            0 => transaction
                .doc("counters")?
                .increment(&field, rng.below(9) as i64 - 4)?,
            1 => transaction
                .doc("lists")?
                .push("items", rng.below(1000) as i64)?,
            2 => {
                let mut row = Doc::new();
                row.set_string("text", field.as_str());
                let key = format!("row{}", rng.below(8));
                transaction.table::<Doc>("rows")?.insert_doc(key, row)?;
            }
            3 => {
                let notes = transaction.doc("notes")?;
                if notes.contains(&field)? {
                    notes.delete(&field)?;
                }
            }
            _ => transaction
                .doc("notes")?
                .set(&field, rng.below(1_000_000) as i64)?,
        }
    }
    Ok(())
}
