//! The machine.

use std::collections::{BTreeMap, VecDeque};

use eidetica_auth::{DeviceClaim, RequestId};
use eidetica_entry::{Id, PublicKey};

use crate::{
    Action, CommandId, Cursor, EngineError, IncomingRequest, Input, LinkId, OutgoingRequest,
    PastSync, PeerInfo, PeerStats, PeerStatus, ProcessId, Response, RestoreError, Wishes,
    backoff::Jitter,
    invites::Invites,
    leases::Leases,
    limits,
    links::Links,
    peers::Peers,
    record::{self, Kind},
    requests::Requests,
    schedule::Schedule,
    streams::Streams,
    work::Work,
};

/// What an engine needs to know at the start.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// This node's device key.
    pub device: PublicKey,
    /// Seeds the jitter of retries; different on every node.
    pub seed: u64,
    /// What the users want of the databases that they track: see [`Input::Wishes`].
    pub wishes: Vec<(Id, Wishes)>,
    /// Where several processes are one instance: this one.
    pub process: Option<ProcessId>,
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
    pub(crate) peers: Peers,
    pub(crate) requests: Requests,
    /// By the device that they are for, then by the key that made them.
    pub(crate) claims: BTreeMap<(PublicKey, PublicKey), DeviceClaim>,
    pub(crate) invites: Invites,
    pub(crate) leases: Leases,
    pub(crate) links: Links,
    pub(crate) work: Work,
    pub(crate) streams: Streams,
    pub(crate) schedule: Schedule,
    /// Grants under way, with the commands that wait for them.
    pub(crate) grants: BTreeMap<RequestId, Vec<CommandId>>,
    /// Commands that wait for an own request to be decided.
    pub(crate) awaiting: BTreeMap<RequestId, Vec<CommandId>>,
    pub(crate) jitter: Jitter,
    flush_at_ms: Option<u64>,
    pub(crate) stopped: bool,
    /// Whether anything is done without being asked.
    pub(crate) is_active: bool,
    pub(crate) actions: VecDeque<Action>,
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
        let process = config.process;
        let mut engine = Self {
            config,
            peers: Peers::default(),
            requests: Requests::default(),
            claims: BTreeMap::new(),
            invites: Invites::new(process.unwrap_or_default()),
            leases: Leases::new(process, now_ms),
            links: Links::default(),
            work: Work::default(),
            streams: Streams::default(),
            schedule: Schedule::default(),
            grants: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            jitter,
            flush_at_ms: None,
            stopped: false,
            is_active: true,
            actions: VecDeque::new(),
        };
        for (key, value) in records {
            engine.restore_record(key, value)?;
        }
        engine.peers.finish_restore();
        if process.is_none() {
            engine.invites.finish_restore_alone();
        }
        engine.requests.expire(now_ms);
        engine.invites.expire(now_ms);
        engine.schedule_queued(now_ms);
        for (database, wishes) in &engine.config.wishes.clone() {
            engine.schedule.set(*database, Some(*wishes));
        }
        engine.start_all_rounds(now_ms);
        engine.note_all_wanted();
        engine.keep_all_live(now_ms);
        engine.beat(now_ms);
        engine.pump(now_ms);
        Ok(engine)
    }

    fn restore_record(&mut self, key: &str, value: &[u8]) -> Result<(), RestoreError> {
        let corrupt = || RestoreError::Corrupt {
            key: key.to_owned(),
        };
        let (kind, rest) = Kind::split(key).ok_or_else(corrupt)?;
        match kind {
            Kind::Peer | Kind::Stats | Kind::History | Kind::Pair | Kind::Cursor => {
                self.peers.restore(kind, rest, key, value)
            }
            Kind::Incoming => self.requests.restore_incoming(key, value),
            Kind::Outgoing => self.requests.restore_outgoing(key, value),
            Kind::Invite => self.invites.restore(key, value),
            Kind::Claim => {
                let bytes: bytes::Bytes = record::decode(key, value)?;
                let claim = DeviceClaim::decode(&bytes).map_err(|_| corrupt())?;
                self.claims.insert((claim.device(), claim.key()), claim);
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
            let due_ms = now_ms.saturating_add(self.jitter.backoff_ms(0));
            self.work.syncs.or_default(pair);
            self.work.retries.set(pair, due_ms);
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

    /// The last syncs with a peer, the oldest first, at most [`limits::HISTORY`].
    pub fn history(&self, peer: &PublicKey) -> impl Iterator<Item = &PastSync> {
        self.peers.history(peer)
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
        self.peers.related_to(database)
    }

    /// Whether a sync of this pair waits in the background.
    pub fn is_queued(&self, peer: &PublicKey, database: &Id) -> bool {
        self.peers
            .pair(peer, database)
            .is_some_and(|pair| pair.queued)
            || self.is_wanted(peer, database)
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
        self.claims_of(self.config.device, now_ms)
    }

    /// The claims to show to peers at `now_ms` for another device whose key is here: the one that several processes
    /// share.
    pub fn claims_of(&self, device: PublicKey, now_ms: u64) -> impl Iterator<Item = &DeviceClaim> {
        let of_device = self.claims.range((device, PublicKey::new([0; 32]))..);
        of_device
            .take_while(move |((of, _), _)| *of == device)
            .map(|(_, claim)| claim)
            .filter(move |claim| claim.not_after_ms() >= now_ms)
    }

    /// This node's device key.
    pub fn device(&self) -> PublicKey {
        self.config.device
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
            Input::Disconnected(link) => self.handle_disconnected(link, now_ms),
            Input::Finished(task, result) => self.handle_finished(task, result, now_ms),
            Input::Granted(id, result) => self.handle_granted(&id, result),
            Input::Seen(peer) => self.peers.seen(&peer, now_ms),
            Input::Changed { database, here } => self.handle_changed(database, here),
            Input::Wishes(database, wishes) => self.handle_wishes(database, wishes, now_ms),
            Input::Leases(rows) => self.handle_leases(rows, now_ms),
            Input::Online => self.handle_online(now_ms),
            Input::Live(stream, event) => self.handle_live(stream, event, now_ms),
            Input::LiveEnded(stream, result) => self.handle_live_ended(stream, result, now_ms),
            Input::Tick => self.handle_tick(now_ms),
        }
        self.end_awaiting();
        self.beat(now_ms);
        self.pump(now_ms);
        debug_assert!(self.is_in_order(), "something was missed");
    }

    /// The next action.
    pub fn poll_action(&mut self, now_ms: u64) -> Action {
        // Records go first: what comes after may rest on them.
        let records = [
            self.peers.take_records(),
            self.requests.take_records(),
            self.invites.take_records(),
        ]
        .concat();
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
            self.streams.next_due_ms(),
            self.schedule.next_due_ms().filter(|_| self.is_active),
            self.links.next_idle_ms(),
            self.links.next_dial_ms(),
            self.requests.next_expiry_ms(),
            self.leases.next_due_ms(),
            self.flush_at_ms,
        ];
        Action::Timeout(times.into_iter().flatten().min())
    }

    fn handle_tick(&mut self, now_ms: u64) {
        for command in self.work.deadlines.take(now_ms) {
            self.reply(command, Err(EngineError::TimedOut));
        }
        for (peer, database) in self.work.retries.take(now_ms) {
            self.run_queued(peer, database, now_ms);
        }
        if !self.stopped {
            if self.is_active {
                self.make_rounds(now_ms);
            }
            self.check_streams(now_ms);
            self.run_fills(now_ms);
        }
        self.try_more_addresses(now_ms);
        for link in self.links.idle(now_ms) {
            self.close(link);
        }
        self.expire_requests(now_ms);
        if self.flush_at_ms.is_some_and(|at| now_ms >= at) {
            self.flush();
        }
    }

    // Ends.

    pub(crate) fn reply(&mut self, command: CommandId, result: Result<Response, EngineError>) {
        if self.work.open.remove(&command).is_some() {
            self.work.deadlines.remove(&command);
            self.actions.push_back(Action::Reply(command, result));
        }
    }

    pub(crate) fn close(&mut self, link: LinkId) {
        self.remove_link(link);
        self.actions.push_back(Action::Close(link));
    }

    /// A connection is no more to be used, and what waits may need another one; says whose it was.
    pub(crate) fn remove_link(&mut self, link: LinkId) -> Option<PublicKey> {
        let peer = self.links.remove(link)?;
        self.work.ready.wake(&peer);
        Some(peer)
    }

    /// Ends everything with a peer.
    pub(crate) fn hang_up(&mut self, peer: &PublicKey, reason: &EngineError, now_ms: u64) {
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
        self.end_dial(peer, reason);
        self.fail_ready_of(peer, reason, now_ms);
        self.end_streams_of(peer);
        self.streams.reconnects.remove(peer);
    }

    pub(crate) fn flush(&mut self) {
        self.peers.flush();
        self.flush_at_ms = None;
    }

    pub(crate) fn stop(&mut self, own: CommandId, now_ms: u64) {
        self.stopped = true;
        self.flush();
        self.leave(now_ms);
        self.actions
            .extend(self.work.tasks.keys().map(|task| Action::Abort(*task)));
        let streams: Vec<_> = self.streams.all().map(|(id, _)| *id).collect();
        streams.into_iter().for_each(|id| self.end_stream(id));
        self.streams.reconnects.clear();
        let links = self.links.take_all();
        self.actions.extend(links.into_iter().map(Action::Close));
        self.work.clear();
        self.grants.clear();
        self.awaiting.clear();
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
}
