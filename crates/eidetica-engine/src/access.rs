//! Requests for access: those of others and our own.

use eidetica_auth::{RequestId, SignedRequest};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{BootstrapAnswer, Notice, RequestRef};

use crate::{
    Action, CommandId, Engine, EngineError, Facts, GrantOutcome, Job, OutgoingRequest,
    OutgoingState, RequestState, Response, Selection, Target,
    work::{Unit, UnitKind, Want, What},
};

impl Engine {
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
        self.expire_requests(now_ms);
        self.requests.receive(request, facts, now_ms)
    }

    /// Forgets requests that are too old. Whoever made one that nobody has decided is told that there is something to ask.
    pub(crate) fn expire_requests(&mut self, now_ms: u64) {
        for id in self.requests.undecided_at_end(now_ms) {
            self.tell_decided(&id);
        }
        self.requests.expire(now_ms);
    }

    /// Whoever waits for an own request that is gone waits in vain.
    pub(crate) fn end_awaiting(&mut self) {
        let is_gone = |id: &&RequestId| self.requests.get_outgoing(id).is_none();
        let gone: Vec<RequestId> = self.awaiting.keys().filter(is_gone).copied().collect();
        for id in gone {
            for command in self.awaiting.remove(&id).unwrap_or_default() {
                self.reply(command, Err(EngineError::UnknownRequest(id)));
            }
        }
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

    pub(crate) fn approve(
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

    pub(crate) fn handle_granted(&mut self, id: &RequestId, result: Result<GrantOutcome, String>) {
        let Some(waiting) = self.grants.remove(id) else {
            return;
        };
        if result.is_ok() {
            self.requests.decide(id, RequestState::Approved);
            self.tell_decided(id);
        }
        for command in waiting {
            let result = result
                .as_ref()
                .map(|_| Response::Done)
                .map_err(|text| EngineError::Grant(text.clone()));
            self.reply(command, result);
        }
    }

    pub(crate) fn ask_about(
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
        let (peer, asked) = (found.peer, request_ref(found));
        self.want(id, Target::Peer(peer), What::Call(job(asked)), now_ms)
    }

    /// Only what is pending is remembered: the rest is known.
    pub(crate) fn remember_own(
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

    /// Tells the device that made a request that there is a decision.
    pub(crate) fn tell_decided(&mut self, id: &RequestId) {
        let Some(device) = self.requests.device_of(id) else {
            return;
        };
        let streams = self.streams.of(&device);
        let accepted = streams.filter(|(_, stream)| stream.link.is_none());
        for stream in accepted.map(|(stream, _)| stream).collect::<Vec<_>>() {
            self.actions
                .push_back(Action::Tell(stream, Notice::Decided(*id)));
        }
    }

    /// Asks what became of our requests that wait for a decision of a peer.
    pub(crate) fn ask_about_waiting(&mut self, peer: &PublicKey, now_ms: u64) {
        let waiting = self.requests.waiting_for(peer);
        let asked: Vec<RequestRef> = waiting.map(request_ref).collect();
        for request in asked {
            self.ask_by_itself(*peer, request, now_ms);
        }
    }

    /// The peer says that it has decided one of our requests: it is asked how, unless it is going to be anyway.
    pub(crate) fn handle_decided(&mut self, peer: PublicKey, id: &RequestId, now_ms: u64) {
        let waiting = self.requests.waiting_for(&peer);
        let asked = waiting.map(request_ref).find(|asked| asked.id == *id);
        if let Some(request) = asked {
            self.ask_by_itself(peer, request, now_ms);
        }
    }

    fn ask_by_itself(&mut self, peer: PublicKey, request: RequestRef, now_ms: u64) {
        if self.work.asking.insert(request.id) {
            let kind = UnitKind::Call(None, Job::Status(request));
            self.push_ready(Unit { peer, kind }, now_ms);
        }
    }

    /// Waits for a decision, or for what follows from it.
    pub(crate) fn await_request(
        &mut self,
        command: CommandId,
        id: RequestId,
        now_ms: u64,
    ) -> Result<Option<Response>, EngineError> {
        let found = self.requests.get_outgoing(&id);
        let found = found.ok_or(EngineError::UnknownRequest(id))?.clone();
        match found.state {
            OutgoingState::Denied => Ok(Some(Response::Bootstrap(
                found.peer,
                BootstrapAnswer::Denied,
            ))),
            OutgoingState::Granted => {
                self.begin(fetch(command, found.database), found.peer, now_ms);
                Ok(None)
            }
            OutgoingState::Pending => {
                self.awaiting.entry(id).or_default().push(command);
                self.ask_about_waiting(&found.peer, now_ms);
                Ok(None)
            }
        }
    }

    /// What a peer says of an own request: what is granted is fetched.
    pub(crate) fn decided(
        &mut self,
        peer: PublicKey,
        request: &RequestRef,
        answer: BootstrapAnswer,
        now_ms: u64,
    ) {
        let state = match answer {
            BootstrapAnswer::Granted => OutgoingState::Granted,
            BootstrapAnswer::Pending(_) => return,
            BootstrapAnswer::Denied => OutgoingState::Denied,
        };
        let was_pending = self
            .requests
            .get_outgoing(&request.id)
            .is_some_and(|found| found.state == OutgoingState::Pending);
        self.requests.set_outgoing(&request.id, state);
        let waiting = self.awaiting.remove(&request.id).unwrap_or_default();
        if state == OutgoingState::Denied {
            for command in waiting {
                self.reply(command, Ok(Response::Bootstrap(peer, answer)));
            }
        } else if was_pending {
            let database = request.database;
            // With too many pairs it is not remembered, and whoever waits fetches it all the same.
            let relate = |pair: &mut crate::peers::Pair| pair.related = true;
            if self.peers.change_pair(&peer, &database, relate).is_ok() {
                self.begin_relation(&peer, database, now_ms);
                self.want_sync(peer, database, now_ms);
            }
            for command in waiting {
                self.begin(fetch(command, database), peer, now_ms);
            }
        }
        self.keep_live(&peer, now_ms);
    }
}

fn fetch(command: CommandId, database: Id) -> Want {
    let databases = Selection::These(vec![database]);
    let what = What::Sync {
        databases,
        create: true,
    };
    Want { command, what }
}

fn request_ref(request: &OutgoingRequest) -> RequestRef {
    RequestRef {
        database: request.database,
        key: request.key,
        id: request.id,
    }
}
