//! What users want.

use eidetica_auth::DeviceClaim;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{CloseReason, Failure};

use crate::{
    Action, Command, CommandId, Engine, EngineError, Job, PeerStatus, Record, RequestState,
    Response, Selection, Target, limits,
    record::{self, Kind},
    work::{Open, Purpose, Want, What},
};

impl Engine {
    pub(crate) fn handle_command(
        &mut self,
        id: CommandId,
        command: Command,
        deadline_ms: u64,
        now_ms: u64,
    ) {
        if self.stopped {
            let result = if matches!(command, Command::Stop) {
                Ok(Response::Done)
            } else {
                Err(EngineError::Stopped)
            };
            self.actions.push_back(Action::Reply(id, result));
            return;
        }
        // However much is open: stopping ends it.
        let is_stop = matches!(command, Command::Stop);
        if self.work.open.len() >= limits::COMMANDS && !is_stop {
            let error = EngineError::TooMany {
                what: "commands",
                limit: limits::COMMANDS,
            };
            self.actions.push_back(Action::Reply(id, Err(error)));
            return;
        }
        self.work.open.insert(id, Open::default());
        self.work.deadlines.set(id, deadline_ms);
        match self.start_command(id, command, now_ms) {
            Ok(None) => {}
            Ok(Some(response)) => self.reply(id, Ok(response)),
            Err(error) => self.reply(id, Err(error)),
        }
    }

    /// Does a command, or starts it.
    pub(crate) fn start_command(
        &mut self,
        id: CommandId,
        command: Command,
        now_ms: u64,
    ) -> Result<Option<Response>, EngineError> {
        match command {
            Command::RegisterPeer { key, name } => self.peers.register(key, name)?,
            Command::RemovePeer(key) => {
                self.hang_up(&key, &EngineError::UnknownPeer(key), now_ms);
                self.work.forget_peer(&key);
                self.peers.remove(&key);
                self.streams.want_none(&key);
                self.keep_live(&key, now_ms);
            }
            Command::SetStatus(key, status) => {
                self.peers.set_status(&key, status)?;
                if status == PeerStatus::Blocked {
                    self.hang_up(&key, &EngineError::Blocked(key), now_ms);
                }
                if status == PeerStatus::Active {
                    self.wake_queued(&key, now_ms);
                }
                self.keep_live(&key, now_ms);
            }
            Command::AddAddress(key, address) => {
                self.peers.add_address(&key, &address)?;
                self.links.try_next(&key, address.without_key(), now_ms);
                self.keep_live(&key, now_ms);
            }
            Command::RemoveAddress(key, address) => self.peers.remove_address(&key, &address)?,
            Command::Relate(key, database) => {
                self.peers
                    .change_pair(&key, &database, |pair| pair.related = true)?;
                self.begin_relation(&key, database, now_ms);
            }
            Command::Unrelate(key, database) => {
                let unrelate =
                    |pair: &mut crate::peers::Pair| (pair.related, pair.queued) = (false, false);
                self.peers.change_pair(&key, &database, unrelate)?;
                self.want_no_more(&key, &database);
                self.keep_live_of(&key, database, now_ms);
            }
            Command::ForgetDatabase(database) => self.forget_database(&database, now_ms),
            Command::Queue(key, database) => {
                self.peers
                    .change_pair(&key, &database, |pair| pair.queued = true)?;
                self.want_lease(&key, now_ms);
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
            Command::Redeem {
                target,
                request,
                proof,
            } => {
                let job = Job::Redeem(request, proof);
                return self
                    .want(id, target, What::Call(job), now_ms)
                    .map(|()| None);
            }
            Command::PutInvite(invite) => self.invites.put(*invite, now_ms)?,
            Command::RevokeInvite(invite) => self.invites.revoke(&invite)?,
            Command::PollRequest(request) => {
                return self
                    .ask_about(id, &request, Job::Status, now_ms)
                    .map(|()| None);
            }
            Command::AwaitRequest(request) => return self.await_request(id, request, now_ms),
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
                self.tell_decided(&request);
            }
            Command::PutClaim(claim) => {
                self.put_claim(*claim, now_ms)?;
                self.renew_streams(now_ms);
            }
            Command::RemoveClaim(key) => {
                let of_key = self.claims.keys().filter(|(_, by)| *by == key);
                let gone: Vec<(PublicKey, PublicKey)> = of_key.copied().collect();
                for claim in &gone {
                    self.claims.remove(claim);
                    self.write_claim(claim);
                }
                if !gone.is_empty() {
                    self.renew_streams(now_ms);
                }
            }
            Command::Background(is_on) => self.set_background(is_on, now_ms),
            Command::Flush => self.flush(),
            Command::Stop => self.stop(id, now_ms),
        }
        Ok(Some(Response::Done))
    }

    fn forget_database(&mut self, database: &Id, now_ms: u64) {
        self.cancel_syncs(database);
        self.work.forget_database(database);
        self.requests.forget_database(database);
        self.invites.forget_database(database);
        for peer in self.peers.forget_database(database) {
            self.keep_live_of(&peer, *database, now_ms);
        }
    }

    /// Ends what runs for a database. Whoever waits is told now: an end that is on its way relates nobody to it again.
    fn cancel_syncs(&mut self, database: &Id) {
        let mut waiting = Vec::new();
        for (id, task) in &mut self.work.tasks {
            if let Purpose::Sync {
                database: of,
                commands,
            } = &mut task.purpose
                && of == database
            {
                let commands = std::mem::take(commands).into_iter();
                waiting.extend(commands.map(|command| (command, task.peer)));
                self.actions.push_back(Action::Abort(*id));
            }
        }
        self.want_no_more_of(database);
        let peers: Vec<PublicKey> = self.work.syncs.peers_of(database).copied().collect();
        for peer in peers {
            let sync = self.work.syncs.get_mut(&(peer, *database));
            let next = sync.and_then(|sync| sync.next.take());
            let commands = next.unwrap_or_default().commands.into_iter();
            waiting.extend(commands.map(|command| (command, peer)));
        }
        let cancelled = EngineError::from(Failure::Closed(CloseReason::Cancelled));
        for (command, peer) in waiting {
            self.sync_result(command, peer, *database, Err(cancelled.clone()));
        }
    }

    pub(crate) fn put_claim(&mut self, claim: DeviceClaim, now_ms: u64) -> Result<(), EngineError> {
        let over = self
            .claims
            .iter()
            .filter(|(_, other)| other.not_after_ms() < now_ms);
        let over: Vec<(PublicKey, PublicKey)> = over.map(|(at, _)| *at).collect();
        for at in over {
            self.claims.remove(&at);
            self.write_claim(&at);
        }
        let at = (claim.device(), claim.key());
        if !self.claims.contains_key(&at) && self.claims.len() >= limits::CLAIMS {
            return Err(EngineError::TooMany {
                what: "device claims",
                limit: limits::CLAIMS,
            });
        }
        self.claims.insert(at, claim);
        self.write_claim(&at);
        Ok(())
    }

    fn write_claim(&mut self, at: &(PublicKey, PublicKey)) {
        let bytes = |claim: &DeviceClaim| record::encode(&bytes::Bytes::from(claim.encode()));
        let value = self.claims.get(at).map(bytes);
        let (device, key) = (record::key_key(&at.0), record::key_key(&at.1));
        let rest = match at.0 == self.device() {
            true => key,
            false => format!("{key}/{device}"),
        };
        self.actions.push_back(Action::Persist(Record {
            key: Kind::Claim.key(rest),
            value,
        }));
    }

    /// Starts something that needs a peer.
    pub(crate) fn want(
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
            Target::Address(address) => self.want_address(want, address, now_ms),
            Target::Device { key, addresses } => {
                self.want_device(want, key, addresses, now_ms)?;
            }
        }
        Ok(())
    }
}
