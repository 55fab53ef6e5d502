//! Sessions: what is ready, what runs, what became of it.

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{Blame, CallReply, CloseReason, Failure, Outcome, PushOutcome, Refusal};

use crate::{
    Action, CommandId, Engine, EngineError, Job, JobResult, LinkId, PeerStats, PeerStatus,
    Response, Selection, TaskId, limits,
    ready::Place,
    work::{Purpose, Same, Task, Unit, UnitKind, Want, What},
};

/// Sessions that may run with peers whatever is known of them.
const ROOM_FOR_ALL: usize = limits::TASKS - limits::TASKS_FOR_GOOD;

impl Engine {
    /// Starts something with a peer that is known.
    pub(crate) fn begin(&mut self, want: Want, peer: PublicKey, now_ms: u64) {
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
                    kind: UnitKind::Call(Some(command), job),
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
    pub(crate) fn join_sync(
        &mut self,
        peer: PublicKey,
        database: Id,
        command: Option<CommandId>,
        create: bool,
        now_ms: u64,
    ) {
        let sync = self.work.syncs.or_default((peer, database));
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

    /// Whether a sync of the pair is to succeed, by itself.
    pub(crate) fn is_wanted(&self, peer: &PublicKey, database: &Id) -> bool {
        let sync = self.work.syncs.get(&(*peer, *database));
        sync.is_some_and(|sync| sync.is_wanted)
    }

    /// Forgets a background sync that was to succeed, so that it is not tried again. What the user queued stays.
    pub(crate) fn want_no_more(&mut self, peer: &PublicKey, database: &Id) {
        if let Some(sync) = self.work.syncs.get_mut(&(*peer, *database)) {
            sync.is_wanted = false;
        }
    }

    /// The same for all peers.
    pub(crate) fn want_no_more_of(&mut self, database: &Id) {
        let peers: Vec<PublicKey> = self.work.syncs.peers_of(database).copied().collect();
        peers
            .iter()
            .for_each(|peer| self.want_no_more(peer, database));
    }

    /// Syncs in the background, with retries. Nothing is written: after a restart it turns out again.
    pub(crate) fn want_sync(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        let is_enabled = self.schedule.wishes(&database).enabled;
        if self.stopped || !self.is_active || !is_enabled {
            return;
        }
        let sync = self.work.syncs.or_default((peer, database));
        sync.is_wanted = true;
        self.run_queued(peer, database, now_ms);
    }

    /// A database is synced with a peer from now on.
    pub(crate) fn begin_relation(&mut self, peer: &PublicKey, database: Id, now_ms: u64) {
        self.want_lease(peer, now_ms);
        self.start_rounds(database, now_ms);
        self.keep_live_of(peer, database, now_ms);
    }

    /// Starts background work, unless a retry is due later anyway or the peer is not to be contacted.
    pub(crate) fn run_queued(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        let active = self
            .peers
            .get(&peer)
            .is_some_and(|peer| peer.status == PeerStatus::Active);
        let waits = self.work.retries.get(&(peer, database)).is_some();
        // What the user queued is for one process to do.
        let mine = self.holds(&peer) || self.is_wanted(&peer, &database);
        if active && mine && !waits && self.is_queued(&peer, &database) {
            self.join_sync(peer, database, None, false, now_ms);
        }
        self.work.tidy(&(peer, database));
    }

    pub(crate) fn wake_queued(&mut self, peer: &PublicKey, now_ms: u64) {
        for database in self.peers.queued(peer) {
            let pair = (*peer, database);
            let sync = self.work.syncs.or_default(pair);
            if sync.next.is_none() && !sync.running {
                self.work.retries.set(pair, now_ms);
            }
        }
    }

    pub(crate) fn push_ready(&mut self, unit: Unit, now_ms: u64) {
        if self.work.ready.len() < limits::READY {
            let same = self.running(&unit.peer, &unit.kind);
            self.work.ready.push(unit, same);
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

    /// Starts what can be started: dials for work without a connection, sessions where there is room.
    pub(crate) fn pump(&mut self, now_ms: u64) {
        while let Some(peer) = self.work.ready.next_awake() {
            match self.links.of_peer(&peer) {
                Some(_) => self.greet(&peer),
                None => self.dial_for(peer, now_ms),
            }
        }
        while let Some((place, peer)) = self.next_turn() {
            self.take_turn(place, peer);
        }
    }

    /// A peer is connected: that is all that some wait for, the rest wait for their turn.
    fn greet(&mut self, peer: &PublicKey) {
        for kind in self.work.ready.take_connects(peer) {
            // Whoever connects opens the stream.
            if let UnitKind::Connect(command) = kind {
                self.reply(command, Ok(Response::Peer(*peer)));
            }
        }
        self.work.ready.line_up(peer);
    }

    /// Whose turn it is to start one more session. Peers that may stall, for all that is known, do not get all of them.
    fn next_turn(&mut self) -> Option<(Place, PublicKey)> {
        match self.work.tasks.len() {
            0..ROOM_FOR_ALL => self.work.ready.next_turn(true),
            ROOM_FOR_ALL..limits::TASKS => self.work.ready.next_turn(false),
            _ => None,
        }
    }

    /// Starts what waits the longest for a peer, whose next turn is after those of the others. One with as many sessions
    /// as it may have gets one when something has ended.
    fn take_turn(&mut self, place: Place, peer: PublicKey) {
        let link = self.links.of_peer(&peer);
        let Some(link) = link.filter(|link| self.links.has_room(*link)) else {
            return;
        };
        if !self.has_room_for(&peer) {
            return self.work.ready.set_aside(place, peer);
        }
        while let Some((place, kind)) = self.work.ready.pop(&peer) {
            match self.running(&peer, &kind) {
                Some(same) => self.work.ready.put_behind(peer, place, kind, same),
                None if self.start(peer, kind, link) => break,
                None => {}
            }
        }
        self.work.ready.line_up(&peer);
    }

    /// Starts a session; false if there is nothing to do any more.
    fn start(&mut self, peer: PublicKey, kind: UnitKind, link: LinkId) -> bool {
        self.work.leaves_ready(&kind);
        let (purpose, job) = match kind {
            UnitKind::Sync(database) => {
                let pair = (peer, database);
                let Some(sync) = self.work.syncs.get_mut(&pair) else {
                    return false;
                };
                let Some(next) = sync.next.take() else {
                    return false;
                };
                sync.running = true;
                self.work.retries.remove(&pair);
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
                        // What is synced with somebody was asked for.
                        create: next.create || pair.is_some_and(|pair| pair.related),
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
            UnitKind::Connect(_) | UnitKind::Live => return false,
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
        true
    }

    /// What is running already, if it is the same.
    pub(crate) fn running(&self, peer: &PublicKey, kind: &UnitKind) -> Option<Same> {
        let same = kind.same()?;
        let is_running = match same {
            Same::Sync(database) => {
                let sync = self.work.syncs.get(&(*peer, database));
                sync.is_some_and(|sync| sync.running)
            }
            Same::Status(_) => {
                let is_it = |task: &Task| task.peer == *peer && task.purpose.same() == Some(same);
                self.work.tasks.values().any(is_it)
            }
        };
        is_running.then_some(same)
    }

    /// Whether one more session may run with a peer.
    pub(crate) fn has_room_for(&self, peer: &PublicKey) -> bool {
        let is_good = |stats: &PeerStats| stats.last_success_ms > stats.last_failure_ms;
        let most = match self.peers.stats(peer).is_some_and(is_good) {
            true => limits::TASKS,
            false => ROOM_FOR_ALL,
        };
        self.work.tasks.len() < most
    }

    pub(crate) fn fail_unit(&mut self, unit: Unit, error: &EngineError, now_ms: u64) {
        let Unit { peer, kind } = unit;
        self.work.leaves_ready(&kind);
        match kind {
            UnitKind::Connect(command) | UnitKind::Call(Some(command), _) => {
                self.reply(command, Err(error.clone()));
            }
            // It is asked again with the next check.
            UnitKind::Call(None, _) => {}
            UnitKind::Live => self.connect_later(&peer, error.to_string(), now_ms),
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

    pub(crate) fn handle_finished(&mut self, task: TaskId, result: JobResult, now_ms: u64) {
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
        let same = purpose.same();
        match (purpose, result) {
            (Purpose::Sync { database, commands }, JobResult::Sync(result)) => {
                self.finish_sync(peer, database, commands, *result, now_ms);
            }
            (Purpose::Call { command, job }, JobResult::Call(result)) => {
                let result = result
                    .map_err(EngineError::from)
                    .and_then(|reply| self.finish_call(peer, job, reply, now_ms));
                command
                    .into_iter()
                    .for_each(|command| self.reply(command, result.clone()));
            }
            // A driver that mixes up its sessions is told through the one who waits.
            (Purpose::Sync { database, commands }, _) => {
                let failure = Failure::Driver("reports the end of another session");
                self.finish_sync(peer, database, commands, Err(failure), now_ms);
            }
            (Purpose::Call { command, .. }, _) => {
                let failure = Failure::Driver("reports the end of another session");
                command
                    .into_iter()
                    .for_each(|command| self.reply(command, Err(failure.clone().into())));
            }
        }
        self.work.ready.ended(&peer, same);
    }

    pub(crate) fn finish_sync(
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
            Ok(outcome) => {
                self.note_fill(pair, outcome, now_ms);
                let holding = Some(&outcome.holding);
                self.streams.note_holding(&peer, &database, holding);
                let sync = self.work.syncs.get(&pair);
                let again = sync.is_some_and(|sync| sync.next.is_some());
                let attempts = sync.map_or(0, |sync| sync.attempts);
                let waits = leaves_pending(outcome) && attempts < limits::PENDING_ATTEMPTS;
                let stays = again || waits;
                let by_command = !commands.is_empty();
                // A peer that was forgotten meanwhile stays forgotten.
                let _forgotten = self.peers.change_pair(&peer, &database, |pair| {
                    pair.related |= by_command;
                    pair.queued &= stays;
                });
                if waits {
                    self.retry_later(peer, database, now_ms);
                } else if let Some(sync) = self.work.syncs.get_mut(&pair) {
                    sync.attempts = 0;
                    sync.is_wanted &= again;
                    self.work.retries.remove(&pair);
                }
            }
            Err(failure) if is_final(failure) => {
                let _forgotten = self
                    .peers
                    .change_pair(&peer, &database, |pair| pair.queued = false);
                if let Some(sync) = self.work.syncs.get_mut(&pair) {
                    sync.is_wanted = false;
                    sync.attempts = 0;
                }
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
        if result.is_ok() {
            self.begin_relation(&peer, database, now_ms);
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
    pub(crate) fn retry_later(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        if self.is_queued(&peer, &database) {
            let sync = self.work.syncs.or_default((peer, database));
            sync.attempts = sync.attempts.saturating_add(1);
            let wait_ms = self.jitter.backoff_ms(sync.attempts);
            let due_ms = now_ms.saturating_add(wait_ms);
            self.work.retries.set((peer, database), due_ms);
        }
        self.work.tidy(&(peer, database));
    }

    pub(crate) fn sync_result(
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

    pub(crate) fn finish_call(
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
            (Job::Bootstrap(signed) | Job::Redeem(signed, _), CallReply::Bootstrap(answer)) => {
                self.remember_own(peer, &signed, answer, now_ms)?;
                self.keep_live(&peer, now_ms);
                Ok(Response::Bootstrap(peer, answer))
            }
            (Job::Status(asked), CallReply::Bootstrap(answer)) => {
                self.decided(peer, &asked, answer, now_ms);
                Ok(Response::Bootstrap(peer, answer))
            }
            (Job::Cancel(asked), CallReply::Cancelled) => {
                self.requests.forget_outgoing(&asked.id);
                self.keep_live(&peer, now_ms);
                Ok(Response::Done)
            }
            _ => Err(Failure::Driver("reports the end of another session").into()),
        }
    }
}

/// Whether entries that were exchanged wait for others, here or there.
fn leaves_pending(outcome: &Outcome) -> bool {
    let there = matches!(outcome.push, PushOutcome::Done { pending, .. } if pending > 0);
    there || outcome.received.pending > 0
}

/// Whether trying again by itself makes no sense.
fn is_final(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(Refusal::ABSENT)) || failure.blame() == Blame::Caller
}
