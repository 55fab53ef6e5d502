//! The machine.

use std::collections::{BTreeMap, VecDeque};

use eidetica_auth::{DeviceClaim, RequestId, SignedRequest};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Blame, BootstrapAnswer, CallReply, CloseReason, Failure, Outcome, PeerIdentity, Refusal,
    RequestRef,
};
use eidetica_transport::Address;

use crate::{
    Action, Command, CommandId, ConnectError, Cursor, EngineError, Facts, GrantOutcome,
    IncomingRequest, Input, Job, JobResult, LinkId, OutgoingRequest, OutgoingState, PeerInfo,
    PeerStats, PeerStatus, Record, RequestState, Response, RestoreError, Selection, Target, TaskId,
    backoff::Jitter,
    limits,
    links::{Dial, DialTarget, Links},
    peers::Peers,
    record::{self, Kind},
    requests::Requests,
    work::{Open, Purpose, Task, Unit, UnitKind, Want, What, Work},
};

/// What an engine needs to know at the start.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// This node's device key.
    pub device: PublicKey,
    /// Seeds the jitter of retries; different on every node.
    pub seed: u64,
}

/// The synchronization engine of one node.
///
/// # Contract
///
/// - [`restore`](Self::restore) with the records of the last time, then [`poll_action`](Self::poll_action) until it says
///   [`Timeout`](Action::Timeout), then one [`handle_input`](Self::handle_input), then `poll_action` again, and so on.
/// - Actions are to be carried out in order. [`Persist`](Action::Persist) is to be durable before the actions after it;
///   all others may only be started, their results come back as inputs.
/// - The questions of peers (bootstrap, status, cancel) are answered at once by
///   [`receive_bootstrap`](Self::receive_bootstrap), [`request_status`](Self::request_status) and
///   [`cancel_request`](Self::cancel_request); poll the actions after each, before the answer is sent.
/// - Getters may be called at any time.
/// - Every command gets exactly one reply, at the latest at its deadline. The work of a command goes on when nobody
///   waits for it any more.
/// - Time is wall-clock milliseconds since the Unix epoch.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    peers: Peers,
    requests: Requests,
    claims: BTreeMap<PublicKey, DeviceClaim>,
    links: Links,
    work: Work,
    /// Grants under way, with the commands that wait for them.
    grants: BTreeMap<RequestId, Vec<CommandId>>,
    jitter: Jitter,
    flush_at_ms: Option<u64>,
    stopped: bool,
    actions: VecDeque<Action>,
}

impl Engine {
    /// The engine as these records left it. Cut-off background work is scheduled again.
    ///
    /// # Errors
    /// A record that does not decode or is newer than this version.
    pub fn restore<'a>(
        config: EngineConfig,
        records: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now_ms: u64,
    ) -> Result<Self, RestoreError> {
        let jitter = Jitter::new(config.seed);
        let mut engine = Self {
            config,
            peers: Peers::default(),
            requests: Requests::default(),
            claims: BTreeMap::new(),
            links: Links::default(),
            work: Work::default(),
            grants: BTreeMap::new(),
            jitter,
            flush_at_ms: None,
            stopped: false,
            actions: VecDeque::new(),
        };
        for (key, value) in records {
            engine.restore_record(key, value)?;
        }
        engine.peers.finish_restore();
        engine.requests.expire(now_ms);
        engine.schedule_queued(now_ms);
        Ok(engine)
    }

    fn restore_record(&mut self, key: &str, value: &[u8]) -> Result<(), RestoreError> {
        let corrupt = || RestoreError::Corrupt {
            key: key.to_owned(),
        };
        let (kind, rest) = Kind::split(key).ok_or_else(corrupt)?;
        match kind {
            Kind::Peer | Kind::Stats | Kind::Pair => self.peers.restore(kind, rest, key, value),
            Kind::Incoming => self.requests.restore_incoming(key, value),
            Kind::Outgoing => self.requests.restore_outgoing(key, value),
            Kind::Claim => {
                let bytes: bytes::Bytes = record::decode(key, value)?;
                let claim = DeviceClaim::decode(&bytes).map_err(|_| corrupt())?;
                self.claims.insert(claim.key(), claim);
                Ok(())
            }
        }
    }

    fn schedule_queued(&mut self, now_ms: u64) {
        let queued: Vec<(PublicKey, Id)> = self
            .peers
            .pairs()
            .filter(|(_, pair)| pair.queued)
            .map(|(at, _)| *at)
            .collect();
        for pair in queued {
            let due = now_ms.saturating_add(self.jitter.backoff_ms(0));
            self.work.syncs.entry(pair).or_default().due_ms = Some(due);
        }
    }

    // Getters.

    /// All registered peers, by key.
    pub fn peers(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.all()
    }

    /// A registered peer.
    pub fn peer(&self, key: &PublicKey) -> Option<&PeerInfo> {
        self.peers.get(key)
    }

    /// Whether an incoming connection of this device is to be served.
    pub fn admits(&self, device: &PublicKey) -> bool {
        !self.stopped
            && self
                .peers
                .get(device)
                .is_none_or(|peer| peer.status != PeerStatus::Blocked)
    }

    /// How syncs with a peer went; none before the first contact.
    pub fn stats(&self, peer: &PublicKey) -> Option<&PeerStats> {
        self.peers.stats(peer)
    }

    /// How far a database is synced with a peer; none before the first sync.
    pub fn cursor(&self, peer: &PublicKey, database: &Id) -> Option<&Cursor> {
        self.peers
            .pair(peer, database)
            .map(|pair| &pair.cursor)
            .filter(|cursor| cursor.last_synced_ms.is_some())
    }

    /// The databases that are synced with a peer.
    pub fn related(&self, peer: &PublicKey) -> Vec<Id> {
        self.peers.related(peer)
    }

    /// The peers that a database is synced with.
    pub fn peers_of(&self, database: &Id) -> Vec<PublicKey> {
        let related = self
            .peers
            .pairs()
            .filter(|((_, other), pair)| other == database && pair.related);
        related.map(|((peer, _), _)| *peer).collect()
    }

    /// Whether a sync of this pair waits in the background.
    pub fn is_queued(&self, peer: &PublicKey, database: &Id) -> bool {
        self.peers
            .pair(peer, database)
            .is_some_and(|pair| pair.queued)
    }

    /// The bootstrap requests of others, pending and decided.
    pub fn incoming_requests(&self) -> impl Iterator<Item = &IncomingRequest> {
        self.requests.incoming()
    }

    /// The bootstrap requests of this node.
    pub fn outgoing_requests(&self) -> impl Iterator<Item = &OutgoingRequest> {
        self.requests.outgoing()
    }

    /// The claims to show to peers at `now_ms`.
    pub fn claims(&self, now_ms: u64) -> impl Iterator<Item = &DeviceClaim> {
        self.claims
            .values()
            .filter(move |claim| claim.not_after_ms() >= now_ms)
    }

    // Questions of peers.

    /// Answers a bootstrap request whose signature and device the session has checked.
    pub fn receive_bootstrap(
        &mut self,
        request: &SignedRequest,
        facts: Facts,
        now_ms: u64,
    ) -> BootstrapAnswer {
        if self.stopped {
            return BootstrapAnswer::Denied;
        }
        self.requests.expire(now_ms);
        self.requests.receive(request, facts, now_ms)
    }

    /// Says how a request stands, to a device that has proven its key.
    pub fn request_status(
        &self,
        request: &RequestRef,
        device: &PublicKey,
        facts: Facts,
    ) -> BootstrapAnswer {
        self.requests.status(request, device, facts)
    }

    /// Forgets a pending request, for a device that has proven its key.
    pub fn cancel_request(&mut self, request: &RequestRef, device: &PublicKey) {
        self.requests.cancel(request, device);
    }

    // Events.

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        match input {
            Input::Command(id, command, deadline_ms) => {
                self.handle_command(id, command, deadline_ms, now_ms)
            }
            Input::Connected(link, identity) => self.handle_connected(link, &identity, now_ms),
            Input::ConnectFailed(link, error) => self.handle_connect_failed(link, &error, now_ms),
            Input::Disconnected(link) => self.links.remove(link),
            Input::Finished(task, result) => self.handle_finished(task, result, now_ms),
            Input::Granted(id, result) => self.handle_granted(&id, result),
            Input::Seen(peer) => self.peers.seen(&peer, now_ms),
            Input::Tick => self.handle_tick(now_ms),
        }
        self.pump(now_ms);
    }

    /// The next action.
    pub fn poll_action(&mut self, now_ms: u64) -> Action {
        // Records go first: what comes after may rest on them.
        let records = [self.peers.take_records(), self.requests.take_records()].concat();
        for record in records.into_iter().rev() {
            self.actions.push_front(Action::Persist(record));
        }
        if let Some(action) = self.actions.pop_front() {
            return action;
        }
        if self.peers.is_dirty() && self.flush_at_ms.is_none() {
            self.flush_at_ms = Some(now_ms.saturating_add(limits::FLUSH_MS));
        }
        let times = [
            self.work.next_due_ms(),
            self.links.next_idle_ms(),
            self.requests.next_expiry_ms(),
            self.flush_at_ms,
        ];
        Action::Timeout(times.into_iter().flatten().min())
    }

    fn handle_tick(&mut self, now_ms: u64) {
        let late: Vec<CommandId> = self
            .work
            .open
            .iter()
            .filter(|(_, open)| now_ms >= open.deadline_ms)
            .map(|(id, _)| *id)
            .collect();
        late.into_iter()
            .for_each(|id| self.reply(id, Err(EngineError::TimedOut)));
        let due = |sync: &crate::work::PairSync| sync.due_ms.is_some_and(|due| now_ms >= due);
        let retries: Vec<(PublicKey, Id)> = self
            .work
            .syncs
            .iter()
            .filter(|(_, sync)| due(sync))
            .map(|(pair, _)| *pair)
            .collect();
        for (peer, database) in retries {
            if let Some(sync) = self.work.syncs.get_mut(&(peer, database)) {
                sync.due_ms = None;
            }
            self.run_queued(peer, database, now_ms);
        }
        for link in self.links.idle(now_ms) {
            self.close(link);
        }
        self.requests.expire(now_ms);
        if self.flush_at_ms.is_some_and(|at| now_ms >= at) {
            self.flush();
        }
    }

    // Commands.

    fn handle_command(&mut self, id: CommandId, command: Command, deadline_ms: u64, now_ms: u64) {
        if self.stopped {
            let result = if matches!(command, Command::Stop) {
                Ok(Response::Done)
            } else {
                Err(EngineError::Stopped)
            };
            self.actions.push_back(Action::Reply(id, result));
            return;
        }
        if self.work.open.len() >= limits::COMMANDS {
            let error = EngineError::TooMany {
                what: "commands",
                limit: limits::COMMANDS,
            };
            self.actions.push_back(Action::Reply(id, Err(error)));
            return;
        }
        self.work.open.insert(
            id,
            Open {
                deadline_ms,
                left: 0,
                results: Vec::new(),
            },
        );
        match self.start_command(id, command, now_ms) {
            Ok(None) => {}
            Ok(Some(response)) => self.reply(id, Ok(response)),
            Err(error) => self.reply(id, Err(error)),
        }
    }

    /// Does a command, or starts it.
    fn start_command(
        &mut self,
        id: CommandId,
        command: Command,
        now_ms: u64,
    ) -> Result<Option<Response>, EngineError> {
        match command {
            Command::RegisterPeer { key, name } => self.peers.register(key, name)?,
            Command::RemovePeer(key) => {
                self.hang_up(&key, &EngineError::UnknownPeer(key), now_ms);
                self.work
                    .syncs
                    .retain(|(peer, _), sync| peer != &key || sync.running);
                self.peers.remove(&key);
            }
            Command::SetStatus(key, status) => {
                self.peers.set_status(&key, status)?;
                if status == PeerStatus::Blocked {
                    self.hang_up(&key, &EngineError::Blocked(key), now_ms);
                }
                if status == PeerStatus::Active {
                    self.wake_queued(&key, now_ms);
                }
            }
            Command::AddAddress(key, address) => self.peers.add_address(&key, &address)?,
            Command::RemoveAddress(key, address) => self.peers.remove_address(&key, &address)?,
            Command::Relate(key, database) => self
                .peers
                .change_pair(&key, &database, |pair| pair.related = true)?,
            Command::Unrelate(key, database) => {
                let unrelate =
                    |pair: &mut crate::peers::Pair| (pair.related, pair.queued) = (false, false);
                self.peers.change_pair(&key, &database, unrelate)?;
            }
            Command::Queue(key, database) => {
                self.peers
                    .change_pair(&key, &database, |pair| pair.queued = true)?;
                self.run_queued(key, database, now_ms);
            }
            Command::Connect(target) => {
                return self.want(id, target, What::Connect, now_ms).map(|()| None);
            }
            Command::Sync {
                target,
                databases,
                create,
            } => {
                return self
                    .want(id, target, What::Sync { databases, create }, now_ms)
                    .map(|()| None);
            }
            Command::Discover(target) => {
                return self
                    .want(id, target, What::Call(Job::Discover), now_ms)
                    .map(|()| None);
            }
            Command::Bootstrap { target, request } => {
                return self
                    .want(id, target, What::Call(Job::Bootstrap(request)), now_ms)
                    .map(|()| None);
            }
            Command::PollRequest(request) => {
                return self
                    .ask_about(id, &request, Job::Status, now_ms)
                    .map(|()| None);
            }
            Command::CancelRequest(request) => {
                return self
                    .ask_about(id, &request, Job::Cancel, now_ms)
                    .map(|()| None);
            }
            Command::Approve { id: request, by } => return self.approve(id, &request, by),
            Command::Reject(request) => {
                self.requests.to_decide(&request, RequestState::Rejected)?;
                if self.grants.contains_key(&request) {
                    return Err(EngineError::Decided(request));
                }
                self.requests.decide(&request, RequestState::Rejected);
            }
            Command::PutClaim(claim) => self.put_claim(*claim, now_ms)?,
            Command::RemoveClaim(key) => {
                if self.claims.remove(&key).is_some() {
                    self.write_claim(&key);
                }
            }
            Command::Flush => self.flush(),
            Command::Stop => self.stop(id),
        }
        Ok(Some(Response::Done))
    }

    fn approve(
        &mut self,
        id: CommandId,
        request: &RequestId,
        by: PublicKey,
    ) -> Result<Option<Response>, EngineError> {
        let found = self.requests.to_decide(request, RequestState::Approved)?;
        if found.state == RequestState::Approved {
            return Ok(Some(Response::Done));
        }
        let signed = Box::new(found.request.clone());
        let waiting = self.grants.entry(*request).or_default();
        waiting.push(id);
        if waiting.len() == 1 {
            self.actions.push_back(Action::Grant {
                request: signed,
                by,
            });
        }
        Ok(None)
    }

    fn handle_granted(&mut self, id: &RequestId, result: Result<GrantOutcome, String>) {
        let Some(waiting) = self.grants.remove(id) else {
            return;
        };
        if result.is_ok() {
            self.requests.decide(id, RequestState::Approved);
        }
        for command in waiting {
            let result = result
                .as_ref()
                .map(|_| Response::Done)
                .map_err(|text| EngineError::Grant(text.clone()));
            self.reply(command, result);
        }
    }

    fn put_claim(&mut self, claim: DeviceClaim, now_ms: u64) -> Result<(), EngineError> {
        let over: Vec<PublicKey> = self
            .claims
            .values()
            .filter(|other| other.not_after_ms() < now_ms)
            .map(DeviceClaim::key)
            .collect();
        for key in over {
            self.claims.remove(&key);
            self.write_claim(&key);
        }
        let key = claim.key();
        if !self.claims.contains_key(&key) && self.claims.len() >= limits::CLAIMS {
            return Err(EngineError::TooMany {
                what: "device claims",
                limit: limits::CLAIMS,
            });
        }
        self.claims.insert(key, claim);
        self.write_claim(&key);
        Ok(())
    }

    fn write_claim(&mut self, key: &PublicKey) {
        let bytes = |claim: &DeviceClaim| record::encode(&bytes::Bytes::from(claim.encode()));
        let value = self.claims.get(key).map(bytes);
        self.actions.push_back(Action::Persist(Record {
            key: Kind::Claim.key(record::key_key(key)),
            value,
        }));
    }

    fn ask_about(
        &mut self,
        id: CommandId,
        request: &RequestId,
        job: impl FnOnce(RequestRef) -> Job,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        let found = self
            .requests
            .get_outgoing(request)
            .ok_or(EngineError::UnknownRequest(*request))?;
        let (peer, asked) = (
            found.peer,
            RequestRef {
                database: found.database,
                key: found.key,
                id: found.id,
            },
        );
        self.want(id, Target::Peer(peer), What::Call(job(asked)), now_ms)
    }

    /// Starts something that needs a peer.
    fn want(
        &mut self,
        command: CommandId,
        target: Target,
        what: What,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        if let What::Sync {
            databases: Selection::These(ids),
            ..
        } = &what
            && ids.len() > limits::DATABASES
        {
            return Err(EngineError::TooMany {
                what: "databases",
                limit: limits::DATABASES,
            });
        }
        let want = Want { command, what };
        match target {
            Target::Peer(key) => {
                self.check_peer(&key)?;
                self.begin(want, key, now_ms);
            }
            Target::Address(address) => self.want_address(want, address),
        }
        Ok(())
    }

    fn check_peer(&self, key: &PublicKey) -> Result<(), EngineError> {
        match self.peers.get(key) {
            None => Err(EngineError::UnknownPeer(*key)),
            Some(peer) if peer.status == PeerStatus::Blocked => Err(EngineError::Blocked(*key)),
            Some(peer) if peer.addresses.is_empty() && self.links.of_peer(key).is_none() => {
                Err(EngineError::NoAddress(*key))
            }
            Some(_) => Ok(()),
        }
    }

    /// An address always means a look at who is there, unless that dial is under way already.
    fn want_address(&mut self, want: Want, address: Address) {
        let target = DialTarget::Address(address.clone());
        if let Some(dial) = self.links.dial(&target) {
            dial.wants.push(want);
            return;
        }
        let link = self.links.new_id();
        let pinned = address.key().copied();
        self.actions
            .push_back(Action::Connect(link, address.clone(), pinned));
        self.links.start_dial(
            target,
            Dial {
                link,
                address,
                rest: VecDeque::new(),
                wants: vec![want],
            },
        );
    }

    /// Starts something with a peer that is known.
    fn begin(&mut self, want: Want, peer: PublicKey, now_ms: u64) {
        let Want { command, what } = want;
        match what {
            What::Connect => self.push_ready(
                Unit {
                    peer,
                    kind: UnitKind::Connect(command),
                },
                now_ms,
            ),
            What::Call(job) => self.push_ready(
                Unit {
                    peer,
                    kind: UnitKind::Call(command, job),
                },
                now_ms,
            ),
            What::Sync { databases, create } => {
                let mut databases = match databases {
                    Selection::These(ids) => ids,
                    Selection::Related => self.peers.related(&peer),
                };
                databases.sort_unstable();
                databases.dedup();
                if databases.is_empty() {
                    return self.reply(command, Ok(Response::Synced(peer, Vec::new())));
                }
                if let Some(open) = self.work.open.get_mut(&command) {
                    open.left = databases.len();
                }
                for database in databases {
                    self.join_sync(peer, database, Some(command), create, now_ms);
                }
            }
        }
    }

    /// Sees to it that a sync of the pair begins from now on.
    fn join_sync(
        &mut self,
        peer: PublicKey,
        database: Id,
        command: Option<CommandId>,
        create: bool,
        now_ms: u64,
    ) {
        let sync = self.work.syncs.entry((peer, database)).or_default();
        let is_new = sync.next.is_none();
        let next = sync.next.get_or_insert_default();
        next.commands.extend(command);
        next.create |= create;
        if is_new {
            self.push_ready(
                Unit {
                    peer,
                    kind: UnitKind::Sync(database),
                },
                now_ms,
            );
        }
    }

    /// Starts background work, unless a retry is due later anyway or the peer is not to be contacted.
    fn run_queued(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        let active = self
            .peers
            .get(&peer)
            .is_some_and(|peer| peer.status == PeerStatus::Active);
        let waits = self
            .work
            .syncs
            .get(&(peer, database))
            .is_some_and(|sync| sync.due_ms.is_some());
        if active && !waits && self.is_queued(&peer, &database) {
            self.join_sync(peer, database, None, false, now_ms);
        }
        self.work.tidy(&(peer, database));
    }

    fn wake_queued(&mut self, peer: &PublicKey, now_ms: u64) {
        let queued: Vec<Id> = self
            .peers
            .pairs()
            .filter(|((key, _), pair)| key == peer && pair.queued)
            .map(|((_, id), _)| *id)
            .collect();
        for database in queued {
            let sync = self.work.syncs.entry((*peer, database)).or_default();
            if sync.next.is_none() && !sync.running {
                sync.due_ms = Some(now_ms);
            }
        }
    }

    fn push_ready(&mut self, unit: Unit, now_ms: u64) {
        if self.work.ready.len() < limits::READY {
            self.work.ready.push_back(unit);
        } else {
            self.fail_unit(
                unit,
                &EngineError::TooMany {
                    what: "jobs waiting",
                    limit: limits::READY,
                },
                now_ms,
            );
        }
    }

    // Work.

    /// Starts what can be started: dials for work without a connection, sessions where there is room.
    fn pump(&mut self, now_ms: u64) {
        for _ in 0..self.work.ready.len() {
            let Some(unit) = self.work.ready.pop_front() else {
                break;
            };
            match self.links.of_peer(&unit.peer) {
                None => self.dial_for(unit, now_ms),
                Some(link) => self.start_unit(unit, link),
            }
        }
    }

    fn dial_for(&mut self, unit: Unit, now_ms: u64) {
        let target = DialTarget::Peer(unit.peer);
        if self.links.dial(&target).is_some() {
            return self.work.ready.push_back(unit);
        }
        if let Err(error) = self.check_peer(&unit.peer) {
            return self.fail_unit(unit, &error, now_ms);
        }
        let mut rest: VecDeque<Address> = self
            .peers
            .get(&unit.peer)
            .map(|peer| peer.addresses.iter().cloned().collect())
            .unwrap_or_default();
        if let Some(address) = rest.pop_front() {
            let link = self.links.new_id();
            self.actions
                .push_back(Action::Connect(link, address.clone(), Some(unit.peer)));
            self.links.start_dial(
                target,
                Dial {
                    link,
                    address,
                    rest,
                    wants: Vec::new(),
                },
            );
            self.work.ready.push_back(unit);
        }
    }

    fn start_unit(&mut self, unit: Unit, link: LinkId) {
        let Unit { peer, kind } = unit;
        if let UnitKind::Connect(command) = kind {
            return self.reply(command, Ok(Response::Peer(peer)));
        }
        let running = |sync: &crate::work::PairSync| sync.running;
        let busy = match &kind {
            UnitKind::Sync(database) => {
                self.work.syncs.get(&(peer, *database)).is_some_and(running)
            }
            _ => false,
        };
        if busy || self.work.tasks.len() >= limits::TASKS || !self.links.has_room(link) {
            return self.work.ready.push_back(Unit { peer, kind });
        }
        let (purpose, job) = match kind {
            UnitKind::Sync(database) => {
                let Some(sync) = self.work.syncs.get_mut(&(peer, database)) else {
                    return;
                };
                let Some(next) = sync.next.take() else { return };
                sync.running = true;
                sync.due_ms = None;
                let pair = self.peers.pair(&peer, &database);
                let common = pair
                    .map(|pair| pair.cursor.common.clone())
                    .unwrap_or_default();
                (
                    Purpose::Sync {
                        database,
                        commands: next.commands,
                    },
                    Job::Sync {
                        database,
                        common,
                        create: next.create,
                    },
                )
            }
            UnitKind::Call(command, job) => (
                Purpose::Call {
                    command,
                    job: job.clone(),
                },
                job,
            ),
            UnitKind::Connect(_) => return,
        };
        let task = self.work.new_task();
        self.work.tasks.insert(
            task,
            Task {
                link,
                peer,
                purpose,
            },
        );
        self.links.task_started(link);
        self.actions.push_back(Action::Run(task, link, job));
    }

    fn handle_connected(&mut self, link: LinkId, identity: &PeerIdentity, now_ms: u64) {
        let Some((target, dial)) = self.links.take_dial(link) else {
            return self.actions.push_back(Action::Close(link));
        };
        let device = identity.device;
        let wrong = matches!(target, DialTarget::Peer(key) if key != device);
        let pinned = dial.address.key().is_some_and(|key| *key != device);
        if wrong || pinned {
            self.actions.push_back(Action::Close(link));
            let error = ConnectError {
                text: format!("the peer has the key {device}"),
                peer_fault: true,
            };
            return self.next_address(target, dial, &error, now_ms);
        }
        match self.welcome(&device, &dial.address, now_ms) {
            Ok(()) => {
                let replaced = self.links.open(link, device, now_ms);
                self.actions.extend(replaced.map(Action::Close));
                for want in dial.wants {
                    self.begin(want, device, now_ms);
                }
            }
            Err(error) => {
                self.actions.push_back(Action::Close(link));
                for want in dial.wants {
                    self.reply(want.command, Err(error.clone()));
                }
                self.fail_ready_of(&device, &error, now_ms);
            }
        }
    }

    fn welcome(
        &mut self,
        device: &PublicKey,
        address: &Address,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        if !self.admits(device) {
            return Err(EngineError::Blocked(*device));
        }
        self.peers.register(*device, None)?;
        // With too many addresses the new one is not remembered: the others still lead there.
        let _known_enough = self.peers.add_address(device, address);
        self.peers.seen(device, now_ms);
        Ok(())
    }

    fn handle_connect_failed(&mut self, link: LinkId, error: &ConnectError, now_ms: u64) {
        if let Some((target, dial)) = self.links.take_dial(link) {
            self.next_address(target, dial, error, now_ms);
        }
    }

    fn next_address(
        &mut self,
        target: DialTarget,
        mut dial: Dial,
        error: &ConnectError,
        now_ms: u64,
    ) {
        if let Some(address) = dial.rest.pop_front() {
            let link = self.links.new_id();
            let pinned = match &target {
                DialTarget::Peer(key) => Some(*key),
                DialTarget::Address(address) => address.key().copied(),
            };
            self.actions
                .push_back(Action::Connect(link, address.clone(), pinned));
            return self.links.start_dial(
                target,
                Dial {
                    link,
                    address,
                    ..dial
                },
            );
        }
        let error = EngineError::Connect(error.clone());
        for want in dial.wants {
            self.reply(want.command, Err(error.clone()));
        }
        if let DialTarget::Peer(peer) = target {
            self.fail_ready_of(&peer, &error, now_ms);
        }
    }

    /// Fails all work that waits for a peer.
    fn fail_ready_of(&mut self, peer: &PublicKey, error: &EngineError, now_ms: u64) {
        for unit in std::mem::take(&mut self.work.ready) {
            if unit.peer == *peer {
                self.fail_unit(unit, error, now_ms);
            } else {
                self.work.ready.push_back(unit);
            }
        }
    }

    fn fail_unit(&mut self, unit: Unit, error: &EngineError, now_ms: u64) {
        let Unit { peer, kind } = unit;
        match kind {
            UnitKind::Connect(command) | UnitKind::Call(command, _) => {
                self.reply(command, Err(error.clone()))
            }
            UnitKind::Sync(database) => {
                let next = self
                    .work
                    .syncs
                    .get_mut(&(peer, database))
                    .and_then(|sync| sync.next.take());
                for command in next.map(|next| next.commands).unwrap_or_default() {
                    self.sync_result(command, peer, database, Err(error.clone()));
                }
                self.retry_later(peer, database, now_ms);
            }
        }
    }

    fn handle_finished(&mut self, task: TaskId, result: JobResult, now_ms: u64) {
        let Some(Task {
            link,
            peer,
            purpose,
        }) = self.work.tasks.remove(&task)
        else {
            return;
        };
        if self.links.task_ended(link, now_ms) {
            self.actions.push_back(Action::Close(link));
        }
        match (purpose, result) {
            (Purpose::Sync { database, commands }, JobResult::Sync(result)) => {
                self.finish_sync(peer, database, commands, *result, now_ms);
            }
            (Purpose::Call { command, job }, JobResult::Call(result)) => {
                let result = result
                    .map_err(EngineError::from)
                    .and_then(|reply| self.finish_call(peer, job, reply, now_ms));
                self.reply(command, result);
            }
            // A driver that mixes up its sessions is told through the one who waits.
            (Purpose::Sync { database, commands }, _) => {
                let failure = Failure::Driver("reports the end of another session");
                self.finish_sync(peer, database, commands, Err(failure), now_ms);
            }
            (Purpose::Call { command, .. }, _) => {
                self.reply(
                    command,
                    Err(Failure::Driver("reports the end of another session").into()),
                );
            }
        }
    }

    fn finish_sync(
        &mut self,
        peer: PublicKey,
        database: Id,
        commands: Vec<CommandId>,
        result: Result<Outcome, Failure>,
        now_ms: u64,
    ) {
        let pair = (peer, database);
        if let Some(sync) = self.work.syncs.get_mut(&pair) {
            sync.running = false;
        }
        match &result {
            Ok(_) => {
                let again = self
                    .work
                    .syncs
                    .get(&pair)
                    .is_some_and(|sync| sync.next.is_some());
                let by_command = !commands.is_empty();
                // A peer that was forgotten meanwhile stays forgotten.
                let _forgotten = self.peers.change_pair(&peer, &database, |pair| {
                    pair.related |= by_command;
                    pair.queued &= again;
                });
                if let Some(sync) = self.work.syncs.get_mut(&pair) {
                    (sync.attempts, sync.due_ms) = (0, None);
                }
            }
            Err(failure) if is_final(failure) => {
                let _forgotten = self
                    .peers
                    .change_pair(&peer, &database, |pair| pair.queued = false);
            }
            Err(_) => self.retry_later(peer, database, now_ms),
        }
        if !matches!(
            result,
            Err(Failure::Closed(
                CloseReason::Cancelled | CloseReason::Shutdown
            ))
        ) {
            self.peers.count(&peer, &database, &result, now_ms);
        }
        for command in commands {
            self.sync_result(
                command,
                peer,
                database,
                result.clone().map_err(EngineError::from),
            );
        }
        self.work.tidy(&pair);
    }

    /// Background work that failed is tried again.
    fn retry_later(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        if self.is_queued(&peer, &database) {
            let sync = self.work.syncs.entry((peer, database)).or_default();
            sync.attempts = sync.attempts.saturating_add(1);
            sync.due_ms = Some(now_ms.saturating_add(self.jitter.backoff_ms(sync.attempts)));
        }
        self.work.tidy(&(peer, database));
    }

    fn sync_result(
        &mut self,
        command: CommandId,
        peer: PublicKey,
        database: Id,
        result: Result<Outcome, EngineError>,
    ) {
        let Some(open) = self.work.open.get_mut(&command) else {
            return;
        };
        open.results.push((database, result));
        open.left = open.left.saturating_sub(1);
        if open.left > 0 {
            return;
        }
        let mut results = std::mem::take(&mut open.results);
        let connect_error = results.iter().find_map(|(_, result)| match result {
            Err(error @ (EngineError::Connect(_) | EngineError::Blocked(_))) => Some(error.clone()),
            _ => None,
        });
        let whole = connect_error.filter(|_| results.iter().all(|(_, result)| result.is_err()));
        results.sort_by_key(|(database, _)| *database);
        self.reply(
            command,
            whole.map_or(Ok(Response::Synced(peer, results)), Err),
        );
    }

    fn finish_call(
        &mut self,
        peer: PublicKey,
        job: Job,
        reply: CallReply,
        now_ms: u64,
    ) -> Result<Response, EngineError> {
        match (job, reply) {
            (Job::Discover, CallReply::Databases(databases, more)) => {
                Ok(Response::Databases(peer, databases, more))
            }
            (Job::Bootstrap(signed), CallReply::Bootstrap(answer)) => {
                self.remember_own(peer, &signed, answer, now_ms)?;
                Ok(Response::Bootstrap(peer, answer))
            }
            (Job::Status(asked), CallReply::Bootstrap(answer)) => {
                let state = match answer {
                    BootstrapAnswer::Granted => OutgoingState::Granted,
                    BootstrapAnswer::Pending(_) => OutgoingState::Pending,
                    BootstrapAnswer::Denied => OutgoingState::Denied,
                };
                self.requests.set_outgoing(&asked.id, state);
                Ok(Response::Bootstrap(peer, answer))
            }
            (Job::Cancel(asked), CallReply::Cancelled) => {
                self.requests.forget_outgoing(&asked.id);
                Ok(Response::Done)
            }
            _ => Err(Failure::Driver("reports the end of another session").into()),
        }
    }

    /// Only what is pending is remembered: the rest is known.
    fn remember_own(
        &mut self,
        peer: PublicKey,
        signed: &SignedRequest,
        answer: BootstrapAnswer,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        let BootstrapAnswer::Pending(id) = answer else {
            return Ok(());
        };
        let request = signed.request();
        self.requests.put_outgoing(OutgoingRequest {
            id,
            peer,
            database: request.database,
            key: request.key,
            permission: request.permission,
            made_ms: now_ms,
            state: OutgoingState::Pending,
        })
    }

    // Ends.

    fn reply(&mut self, command: CommandId, result: Result<Response, EngineError>) {
        if self.work.open.remove(&command).is_some() {
            self.actions.push_back(Action::Reply(command, result));
        }
    }

    fn close(&mut self, link: LinkId) {
        self.links.remove(link);
        self.actions.push_back(Action::Close(link));
    }

    /// Ends everything with a peer.
    fn hang_up(&mut self, peer: &PublicKey, reason: &EngineError, now_ms: u64) {
        let tasks = self
            .work
            .tasks
            .iter()
            .filter(|(_, task)| task.peer == *peer)
            .map(|(id, _)| Action::Abort(*id));
        self.actions.extend(tasks);
        for link in self.links.of(peer) {
            self.close(link);
        }
        self.fail_ready_of(peer, reason, now_ms);
    }

    fn flush(&mut self) {
        self.peers.flush();
        self.flush_at_ms = None;
    }

    fn stop(&mut self, own: CommandId) {
        self.stopped = true;
        self.flush();
        self.actions
            .extend(self.work.tasks.keys().map(|task| Action::Abort(*task)));
        let links = self.links.take_all();
        self.actions.extend(links.into_iter().map(Action::Close));
        self.work.ready.clear();
        self.work.syncs.clear();
        self.grants.clear();
        let others: Vec<CommandId> = self
            .work
            .open
            .keys()
            .filter(|id| **id != own)
            .copied()
            .collect();
        others
            .into_iter()
            .for_each(|id| self.reply(id, Err(EngineError::Stopped)));
    }

    /// This node's device key.
    pub fn device(&self) -> PublicKey {
        self.config.device
    }
}

/// Whether trying again by itself makes no sense.
fn is_final(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(Refusal::ABSENT)) || failure.blame() == Blame::Caller
}
