//! An honest node: the real engine, sessions and databases, on a virtual clock, network and disk.
//!
//! This is a driver like that of `eidetica-node`, and like it decides nothing: it carries out the engine's actions and
//! tells it what became of them.

use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

use eidetica_auth::{DeviceClaim, Scope, SecretKey, SignedRequest};
use eidetica_database::{Config, Databases, Error, Holds, Transaction};
use eidetica_engine::{
    Action, Command, CommandId, ConnectError, Engine, EngineConfig, Input, JobResult, LinkId,
    StreamId as LiveId, TaskId, Wishes,
};
use eidetica_entry::{Id, PublicKey, StoreName};
use eidetica_node::{Backend, Clock, DatabasesBackend, Policy};
use eidetica_protocol::{Failure, IngestBatch, IngestId, Input as Told, LiveEvent, Query, QueryId};
use eidetica_storage::{Durability, Engine as _, MemoryEngine};
use eidetica_testkit::{Fault, FaultyEngine, Rng};
use eidetica_transport::Address;
use parking_lot::Mutex;

use crate::{
    channel::Channel,
    env::{Boot, EPOCH_MS, Env, Event},
    net::{ConnId, NodeId, StreamId},
    session::{Session, SessionId},
};

/// For a command that only changes what is remembered.
const LOCAL_MS: u64 = 60_000;
/// For a command that needs a peer.
const CALL_MS: u64 = 150_000;
/// How long a device may act for its users.
const CLAIM_MS: u64 = 30 * 24 * 3_600_000;

/// The address of a node.
pub(crate) fn address_of(node: NodeId) -> Address {
    Address::memory(&format!("node-{node}")).unwrap()
}

/// Where nobody has been for long: who dials it hears nothing.
pub(crate) fn stale_address_of(node: NodeId) -> Address {
    Address::memory(&format!("old-{node}")).unwrap()
}

/// The node at an address.
pub(crate) fn node_at(address: &Address) -> Option<NodeId> {
    let text = address.to_string();
    text.rsplit_once("node-")?.1.parse().ok()
}

/// Something for the databases to do, or news for the engine.
#[derive(Debug)]
pub(crate) enum Work {
    Query(SessionId, QueryId, Query),
    Ingest(SessionId, IngestId, IngestBatch, PublicKey),
    Grant(Box<SignedRequest>, PublicKey),
    Finished(TaskId, JobResult),
    DialFailed(LinkId, ConnectError),
    Live(LiveId, LiveEvent),
    LiveEnded(LiveId, Result<(), Failure>),
}

/// Operations of the disk that begin a node and make its databases.
const SET_UP: u64 = 300;

/// What of a node survives a crash, and what it is.
pub(crate) struct Home {
    pub(crate) me: NodeId,
    pub(crate) device: Arc<SecretKey>,
    pub(crate) users: Vec<Arc<SecretKey>>,
    /// What the users want of the databases that they track.
    pub(crate) wishes: BTreeMap<Id, Wishes>,
    /// What it is to hold of databases, where that was ever said.
    pub(crate) holds: BTreeMap<Id, Holds>,
    /// How far its clock is ahead.
    pub(crate) skew_ms: i64,
    pub(crate) versions: &'static [u16],
    /// How long its disk takes at most.
    pub(crate) disk_ms: u64,
    /// One of so many starts is on a disk that is going to fail; none if 0.
    pub(crate) disk_faults: usize,
    /// Whether the disk loses what it said is durable.
    pub(crate) forgetful: bool,
    /// Whether it knows peers at addresses that lead elsewhere, too.
    pub(crate) stale: bool,
    disk: MemoryEngine,
    boots: Boot,
    rng: Rng,
}

impl Home {
    pub(crate) fn new(me: NodeId, users: usize, rng: &Rng) -> Self {
        let mut rng = rng.part("node", me as u64);
        let mut key = || Arc::new(SecretKey::from_bytes(&rng.array()));
        let (device, users) = (key(), (0..users).map(|_| key()).collect());
        Self {
            me,
            device,
            users,
            wishes: BTreeMap::new(),
            holds: BTreeMap::new(),
            skew_ms: 0,
            versions: eidetica_protocol::handshake::VERSIONS,
            disk_ms: 3,
            disk_faults: 0,
            forgetful: false,
            stale: false,
            disk: MemoryEngine::new(),
            boots: 0,
            rng,
        }
    }

    /// The keys that peers may know it by.
    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        let users = self.users.iter().map(|key| key.public());
        users.chain([self.device.public()]).collect()
    }

    fn fault(&mut self) -> Option<(u64, Fault)> {
        if self.disk_faults == 0 || !self.rng.one_in(self.disk_faults) {
            return None;
        }
        let fault = *self.rng.pick(&[Fault::Before, Fault::After, Fault::Read]);
        // What is there from the first is made.
        let first = if self.boots == 1 { SET_UP } else { 0 };
        Some((first + self.rng.between(0, 400), fault))
    }

    /// Starts the node on what its disk holds.
    pub(crate) fn boot(&mut self, env: &mut Env) -> Result<Node, String> {
        self.boots += 1;
        let fault = self.fault();
        let disk = Arc::new(FaultyEngine::over(&self.disk, fault));
        let opened = self.open(&disk, env);
        if opened.is_err() {
            self.disk = disk.crash(0);
        }
        opened
    }

    fn open(&mut self, disk: &Arc<FaultyEngine>, env: &mut Env) -> Result<Node, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let engine: Arc<dyn eidetica_storage::Engine> = Arc::clone(disk) as _;
        let mut config = Config::new(self.rng.array());
        if self.forgetful {
            config.durability = Durability::Relaxed;
        }
        let databases = Databases::open(engine, config).map_err(|error| text(&error))?;
        let policy = Arc::new(Users(self.users.clone()));
        let backend =
            DatabasesBackend::new(databases.clone(), policy).map_err(|error| text(&error))?;
        let records = backend.load().map_err(|error| text(&error))?;
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), &value[..]));
        let config = EngineConfig {
            device: self.device.public(),
            seed: self.rng.between(0, u64::MAX),
            wishes: Vec::new(),
            process: None,
        };
        let engine = Engine::restore(config, records, env.wall_ms(self.skew_ms))
            .map_err(|error| text(&error))?;
        let changes = Arc::new(Mutex::new(BTreeMap::new()));
        watch(&databases, &changes).map_err(|error| text(&error))?;
        let mut node = Node {
            me: self.me,
            boot: self.boots,
            skew_ms: self.skew_ms,
            clock: Cell::default(),
            versions: self.versions,
            stale: self.stale,
            disk_ms: self.disk_ms,
            ingested_ms: 0,
            device: Arc::clone(&self.device),
            databases,
            backend: Arc::new(backend),
            disk: Arc::clone(disk),
            engine,
            channels: BTreeMap::new(),
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            lives: BTreeMap::new(),
            changes,
            open: BTreeMap::new(),
            next_session: 0,
            next_command: 0,
            tick_ms: None,
            dead: None,
            rng: self.rng.part("boot", u64::from(self.boots)),
        };
        node.log_in(&self.users, env);
        for (database, wishes) in &self.wishes {
            node.input(Input::Wishes(*database, Some(*wishes)), env);
        }
        match node.dead.take() {
            Some(why) => Err(why),
            None => Ok(node),
        }
    }

    /// Takes back what a node leaves behind that dies now.
    pub(crate) fn bury(&mut self, node: &Node) {
        self.disk = node.disk.crash(0);
        self.skew_ms = node.skew_ms;
    }
}

/// What the users of a node decide: everything here is offered, and all their keys are unlocked.
struct Users(Vec<Arc<SecretKey>>);

impl Policy for Users {
    fn offers(&self, _: &Id) -> bool {
        true
    }

    fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>> {
        self.0
            .iter()
            .find(|secret| secret.public() == *key)
            .cloned()
    }
}

/// Databases with new entries, and whether one of those was committed here.
type Changes = BTreeMap<Id, bool>;

/// Notes what becomes durable, as the facade does.
fn watch(databases: &Databases, changes: &Arc<Mutex<Changes>>) -> Result<(), Error> {
    let changes = Arc::clone(changes);
    databases.on_change(move |id, here| {
        *changes.lock().entry(*id).or_default() |= here;
    })?;
    Ok(())
}

/// A running node.
pub(crate) struct Node {
    pub(crate) me: NodeId,
    pub(crate) boot: Boot,
    /// How far the wall clock here is ahead.
    skew_ms: i64,
    clock: Cell<Clock>,
    pub(crate) versions: &'static [u16],
    pub(crate) stale: bool,
    disk_ms: u64,
    /// When the last ingest is done: they keep their order.
    ingested_ms: u64,
    pub(crate) device: Arc<SecretKey>,
    pub(crate) databases: Databases,
    pub(crate) backend: Arc<DatabasesBackend>,
    disk: Arc<FaultyEngine>,
    pub(crate) engine: Engine,
    pub(crate) channels: BTreeMap<ConnId, Channel>,
    pub(crate) links: BTreeMap<LinkId, ConnId>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) by_stream: BTreeMap<StreamId, SessionId>,
    pub(crate) lives: BTreeMap<LiveId, SessionId>,
    changes: Arc<Mutex<Changes>>,
    /// Commands without a reply, and their deadlines.
    open: BTreeMap<CommandId, u64>,
    pub(crate) next_session: u64,
    next_command: u64,
    tick_ms: Option<u64>,
    /// Why it cannot go on.
    pub(crate) dead: Option<String>,
    pub(crate) rng: Rng,
}

impl Node {
    /// The time that everything here is told.
    pub(crate) fn now_ms(&self, env: &Env) -> u64 {
        let mut clock = self.clock.get();
        let now_ms = clock.read(env.wall_ms(self.skew_ms), Duration::from_millis(env.now_ms));
        self.clock.set(clock);
        now_ms
    }

    /// Sees to an event at a time of this node.
    pub(crate) fn at(&self, time_ms: u64, event: Event, env: &mut Env) {
        let wait_ms = time_ms.saturating_sub(self.now_ms(env));
        env.after(wait_ms, event);
    }

    /// Lets the device act for the users.
    fn log_in(&mut self, users: &[Arc<SecretKey>], env: &mut Env) {
        // Rounded, so that a restart does not change the claims.
        let until_ms = (EPOCH_MS + CLAIM_MS).next_multiple_of(CLAIM_MS);
        for user in users {
            let claim = DeviceClaim::make(user, self.device.public(), Scope::All, until_ms);
            self.command(Command::PutClaim(Box::new(claim.unwrap())), env);
        }
    }

    /// Gives the engine a command.
    pub(crate) fn command(&mut self, command: Command, env: &mut Env) {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        let wait_ms = match &command {
            Command::Connect(_)
            | Command::Sync { .. }
            | Command::Discover(_)
            | Command::Bootstrap { .. }
            | Command::PollRequest(_) => CALL_MS,
            _ => LOCAL_MS,
        };
        let deadline_ms = self.now_ms(env) + wait_ms;
        self.open.insert(id, deadline_ms);
        env.note(self.me, "command", &[], || format!("{id:?} {command:?}"));
        self.input(Input::Command(id, command, deadline_ms), env);
    }

    /// Tells the engine something.
    pub(crate) fn input(&mut self, input: Input, env: &mut Env) {
        let now_ms = self.now_ms(env);
        self.engine.handle_input(input, now_ms);
        self.carry_out(env);
    }

    /// Carries out what the engine wants, until it waits.
    pub(crate) fn carry_out(&mut self, env: &mut Env) {
        while self.dead.is_none() {
            match self.engine.poll_action(self.now_ms(env)) {
                Action::Timeout(until_ms) => return self.set_tick(until_ms, env),
                action => self.act(action, env),
            }
        }
    }

    fn act(&mut self, action: Action, env: &mut Env) {
        match action {
            Action::Connect(link, address, pinned) => self.dial(link, &address, pinned, env),
            Action::Close(link) => self.close(link, env),
            Action::Run(task, link, job) => {
                env.note(self.me, "run", &[], || format!("{task:?} {job:?}"));
                self.run_job(task, link, job, env);
            }
            Action::Abort(task) => self.abort(task, env),
            Action::OpenLive(live, link, databases) => {
                env.note(self.me, "open live", &[], || {
                    format!("{live:?} {databases:?}")
                });
                self.open_live(live, link, databases, env);
            }
            Action::Tell(live, notice) => {
                env.note(self.me, "tell", &[], || format!("{live:?} {notice:?}"));
                self.tell_live(live, notice, env);
            }
            Action::EndLive(live) => self.end_live(live, env),
            Action::Grant { request, by } => self.later(Work::Grant(request, by), env),
            Action::Persist(record) => {
                if let Err(error) = self.backend.persist(&[record]) {
                    self.dead = Some(format!("records cannot be written: {error}"));
                }
            }
            Action::Reply(id, result) => {
                env.note(self.me, "reply", &[], || format!("{id:?} {result:?}"));
                if self.open.remove(&id).is_none() {
                    env.broken(self.me, format!("{id:?} has a second reply"));
                }
            }
            // The process is alone.
            Action::Lease(_) | Action::Timeout(_) => {}
        }
    }

    fn set_tick(&mut self, until_ms: Option<u64>, env: &mut Env) {
        let Some(until_ms) = until_ms else { return };
        if self.tick_ms.is_none_or(|tick_ms| until_ms < tick_ms) {
            self.tick_ms = Some(until_ms);
            self.at(until_ms, Event::Engine(self.me, self.boot), env);
        }
    }

    /// The engine's time has come.
    pub(crate) fn tick(&mut self, env: &mut Env) {
        self.tick_ms = None;
        self.input(Input::Tick, env);
        let now_ms = self.now_ms(env);
        if let Some((id, _)) = self.open.iter().find(|(_, until_ms)| now_ms > **until_ms) {
            env.broken(self.me, format!("{id:?} has no reply at its deadline"));
        }
    }

    /// Puts the clock forward or back.
    pub(crate) fn set_clock(&mut self, skew_ms: i64, env: &mut Env) {
        self.skew_ms = skew_ms;
        let now_ms = self.now_ms(env);
        for until_ms in self.open.values_mut() {
            *until_ms = (*until_ms).max(now_ms);
        }
        self.tick(env);
    }

    /// Has something done some time later.
    pub(crate) fn later(&mut self, work: Work, env: &mut Env) {
        let mut ms = match work {
            Work::Finished(..) | Work::DialFailed(..) | Work::Live(..) | Work::LiveEnded(..) => 0,
            _ => self.rng.between(0, self.disk_ms),
        };
        if matches!(work, Work::Ingest(..)) {
            ms = ms.max(self.ingested_ms.saturating_sub(env.now_ms));
            self.ingested_ms = env.now_ms + ms;
        }
        env.after(ms, Event::Disk(self.me, self.boot, work));
    }

    /// Does it.
    pub(crate) fn work(&mut self, work: Work, env: &mut Env) {
        match work {
            Work::Query(session, id, query) => {
                let answer = self.answer(query, env);
                self.notice_failure(answer.is_err());
                self.tell(session, Told::Answer(id, answer), env);
            }
            Work::Ingest(session, id, batch, from) => {
                let database = batch.database;
                let report = self.backend.ingest(&batch, &from, Box::new(()));
                env.note(self.me, "ingest", &[], || format!("{report:?}"));
                self.notice_failure(report.is_err());
                let filled = report.as_ref().map_or(0, |report| report.filled);
                if filled > 0 {
                    env.counts.filled += filled;
                    self.changes.lock().entry(database).or_default();
                }
                self.tell(session, Told::Ingested(id, report), env);
                self.announce(env);
            }
            Work::Grant(request, by) => {
                let granted = self.backend.grant(&request, &by, self.now_ms(env));
                env.counts.grants += u64::from(granted.is_ok());
                self.notice_failure(granted.is_err());
                self.input(Input::Granted(request.id(), granted), env);
                self.announce(env);
            }
            Work::Finished(task, result) => self.input(Input::Finished(task, result), env),
            Work::Live(live, event) => {
                env.note(self.me, "news", &[], || format!("{live:?} {event:?}"));
                self.input(Input::Live(live, event), env);
            }
            Work::LiveEnded(live, result) => self.input(Input::LiveEnded(live, result), env),
            Work::DialFailed(link, error) => self.input(Input::ConnectFailed(link, error), env),
        }
    }

    /// A node whose disk has failed for good cannot go on.
    pub(crate) fn notice_failure(&mut self, failed: bool) {
        if failed && self.dead.is_none() {
            let snapshot = self.disk.snapshot();
            let poisoned = |error| matches!(error, eidetica_storage::EngineError::Poisoned { .. });
            if snapshot.err().is_some_and(poisoned) {
                self.dead = Some("the disk has failed".to_owned());
            }
        }
    }

    /// Commits what `edit` does, in the name of a user, and lets the peers know.
    pub(crate) fn commit(
        &mut self,
        database: &Id,
        key: &Arc<SecretKey>,
        edit: impl FnOnce(&Transaction) -> Result<(), Error>,
        env: &mut Env,
    ) -> Result<Option<Id>, Error> {
        let committed = self.try_commit(database, key, edit, env);
        self.notice_failure(committed.is_err());
        let entry = committed?;
        if let Some(entry) = entry {
            env.counts.commits += 1;
            env.oracle.acknowledged(self.me, *database, entry);
            env.note(self.me, "commit", entry.as_bytes(), || {
                format!("{entry} in {database}")
            });
            self.announce(env);
        }
        Ok(entry)
    }

    fn try_commit(
        &self,
        database: &Id,
        key: &Arc<SecretKey>,
        edit: impl FnOnce(&Transaction) -> Result<(), Error>,
        env: &Env,
    ) -> Result<Option<Id>, Error> {
        let database = self.databases.get(database)?.with_key(Arc::clone(key));
        let transaction = database
            .new_transaction()
            .with_timestamp_ms(self.now_ms(env));
        edit(&transaction)?;
        Ok(transaction.commit()?.map(|entry| entry.id()))
    }

    /// Holds these stores of a database from now on, which may not be here yet, and takes away what is here of others, as far as
    /// it goes; false if the disk does not say so.
    pub(crate) fn hold(
        &mut self,
        database: &Id,
        holds: &Holds,
        gone: &[StoreName],
        env: &mut Env,
    ) -> bool {
        let held = self.databases.hold(database, holds);
        env.note(self.me, "hold", database.as_bytes(), || {
            format!("{holds:?} of {database}: {held:?}")
        });
        self.notice_failure(held.is_err());
        if held.is_err() {
            return false;
        }
        env.counts.holds += 1;
        if let Ok(Some(here)) = self.databases.find(database) {
            for store in gone.iter().take(self.rng.below(gone.len() + 1)) {
                let released = here.release(store.as_str());
                env.note(self.me, "release", &[], || format!("{store}: {released:?}"));
                self.notice_failure(released.is_err());
            }
            self.changes.lock().entry(*database).or_default();
        }
        self.announce(env);
        true
    }

    /// Tells the engine what has changed.
    fn announce(&mut self, env: &mut Env) {
        let changes = std::mem::take(&mut *self.changes.lock());
        for (database, here) in changes {
            self.input(Input::Changed { database, here }, env);
        }
    }
}
