//! Running the machines of `eidetica-protocol`: their frames, their questions, their clocks.
//!
//! The same contract as the driver's, with virtual streams. What a machine asks of the databases is done some time
//! later, so that other things happen in between.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use eidetica_engine::{Job, JobResult, LinkId, StreamId as LiveId, TaskId};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::Backend as _;
use eidetica_protocol::{
    Answer, Call, CallReply, CloseReason, Failure, Frame, IngestBatch, IngestId, Input, Live,
    LiveConfig, LiveEvent, LiveOpen, Notice, Outcome, Output, Progress, Query, QueryId, Refusal,
    Reply, Responder, ResponderConfig, Served, SyncClient, SyncConfig, Unavailable,
};

use crate::{
    env::{Env, Event},
    net::{Body, CREDIT, ConnId, Side, StreamId, WINDOW},
    node::{Node, Work},
};

/// For how long a frame may wait for its reader.
const SEND_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// A machine of any kind.
pub(crate) enum Machine {
    Sync(Box<SyncClient>),
    Call(Box<Call>),
    Serve(Box<Responder>),
    Live(Box<Live>),
}

/// What the engine calls a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Task(TaskId),
    Live(LiveId),
    /// It answers a request, which the engine does not know of.
    None,
}

/// How a machine ended.
pub(crate) enum Ended {
    Sync(Result<Outcome, Failure>),
    Call(Result<CallReply, Failure>),
    Serve(Result<Served, Failure>),
    Live(Result<(), Failure>),
}

/// What a machine wants next.
enum Step {
    Open,
    Send(Bytes),
    End,
    Query(QueryId, Query),
    Ingest(IngestId, IngestBatch),
    Show,
    Say(LiveEvent),
    Wait(Option<u64>),
    Done(Ended),
}

fn step<T, E>(
    output: Output<T, E>,
    say: fn(E) -> Step,
    ended: fn(Result<T, Failure>) -> Ended,
) -> Step {
    match output {
        Output::OpenRequest => Step::Open,
        Output::Send(frame) => Step::Send(frame),
        Output::End => Step::End,
        Output::Query(id, query) => Step::Query(id, query),
        Output::Ingest(id, batch) => Step::Ingest(id, batch),
        Output::Event(event) => say(event),
        Output::Timeout(at_ms) => Step::Wait(at_ms),
        Output::Done(result) => Step::Done(ended(result)),
    }
}

impl Machine {
    fn poll(&mut self, now_ms: u64) -> Step {
        let show = |_: Progress| Step::Show;
        match self {
            Self::Sync(machine) => step(machine.poll_output(now_ms), show, Ended::Sync),
            Self::Call(machine) => step(machine.poll_output(now_ms), show, Ended::Call),
            Self::Serve(machine) => step(machine.poll_output(now_ms), show, Ended::Serve),
            Self::Live(machine) => step(machine.poll_output(now_ms), Step::Say, Ended::Live),
        }
    }

    fn handle_input(&mut self, input: Input, now_ms: u64) {
        match self {
            Self::Sync(machine) => machine.handle_input(input, now_ms),
            Self::Call(machine) => machine.handle_input(input, now_ms),
            Self::Serve(machine) => machine.handle_input(input, now_ms),
            Self::Live(machine) => machine.handle_input(input, now_ms),
        }
    }

    fn wants_frame(&self) -> bool {
        match self {
            Self::Sync(machine) => machine.wants_frame(),
            Self::Call(machine) => machine.wants_frame(),
            Self::Serve(machine) => machine.wants_frame(),
            Self::Live(machine) => machine.wants_frame(),
        }
    }

    /// The network has taken the last frame.
    fn handle_sent(&mut self) {
        if let Self::Live(machine) = self {
            machine.handle_sent();
        }
    }

    /// Whether it goes on while a frame waits for its reader.
    fn reads_on(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

/// What came on a stream.
#[derive(Debug)]
pub(crate) enum Item {
    Frame(Bytes),
    End,
    Cut,
}

/// A machine and its stream.
pub(crate) struct Session {
    machine: Machine,
    name: Name,
    pub(crate) conn: ConnId,
    side: Side,
    peer: PublicKey,
    pub(crate) stream: Option<StreamId>,
    inbox: VecDeque<Item>,
    /// A frame that waits for its reader, until then.
    outbox: Option<(Bytes, u64)>,
    /// Frames on their way.
    flying: u32,
    /// Frames taken since the last credit.
    taken: u32,
    /// Our frames have ended.
    ended: bool,
    /// The peer's have.
    heard: bool,
    cut: bool,
    /// Something has come.
    is_begun: bool,
    /// When it is to be told the time (of the wall clock).
    timer_ms: Option<u64>,
}

impl Session {
    fn new(machine: Machine, name: Name, conn: ConnId, peer: PublicKey) -> Self {
        let side = match name {
            Name::None => Side::Acceptor,
            _ => Side::Dialler,
        };
        Self {
            machine,
            name,
            conn,
            side,
            peer,
            stream: None,
            inbox: VecDeque::new(),
            outbox: None,
            flying: 0,
            taken: 0,
            ended: false,
            heard: false,
            cut: false,
            is_begun: false,
            timer_ms: None,
        }
    }

    /// Whether it is to answer what has not come yet.
    fn is_fresh(&self) -> bool {
        self.name == Name::None && !self.is_begun
    }

    /// Begins a request, in place of the one before.
    fn open(&mut self, stream: StreamId) {
        self.stream = Some(stream);
        self.inbox.clear();
        (self.flying, self.taken) = (0, 0);
        (self.ended, self.heard) = (false, false);
    }

    fn send(&mut self, body: Body, env: &mut Env) {
        if let Some(stream) = self.stream {
            env.send(self.conn, self.side, stream, body);
        }
    }

    /// Takes the next thing that came, if the machine wants one.
    fn take(&mut self, env: &mut Env) -> Option<Input> {
        if !self.machine.wants_frame() {
            return None;
        }
        let item = self.inbox.pop_front()?;
        Some(match item {
            Item::Frame(frame) => {
                self.taken += 1;
                if self.taken >= CREDIT {
                    self.send(Body::Credit(self.taken), env);
                    self.taken = 0;
                }
                Input::Frame(frame)
            }
            Item::End => {
                self.heard = true;
                Input::End
            }
            Item::Cut => Input::Closed(CloseReason::Cut),
        })
    }

    /// Sends the frame that waits, if there is room. What became of it, if it is over with.
    fn flush(&mut self, now_ms: u64, env: &mut Env) -> Flushed {
        let Some((frame, until_ms)) = self.outbox.take() else {
            return Flushed::Done;
        };
        if !self.cut && self.flying < WINDOW {
            self.flying += 1;
            self.send(Body::Frame(frame), env);
            self.machine.handle_sent();
            return Flushed::Done;
        }
        match (self.cut, now_ms >= until_ms) {
            // Whoever stops reading may have said why.
            (true, _) if self.machine.wants_frame() => Flushed::Done,
            // After a frame that was not sent in time none may follow: there would be a gap.
            (true, _) | (false, true) => Flushed::Failed,
            (false, false) => {
                self.outbox = Some((frame, until_ms));
                Flushed::Waits(until_ms)
            }
        }
    }
}

enum Flushed {
    Done,
    Waits(u64),
    Failed,
}

impl Node {
    /// Runs what the engine wants on a connection that it made.
    pub(crate) fn run_job(&mut self, task: TaskId, link: LinkId, job: Job, env: &mut Env) {
        env.counts.asked += 1;
        let conn = self.links.get(&link).copied();
        let identity = conn.and_then(|conn| self.identity(conn)).cloned();
        let Some((conn, identity)) = conn.zip(identity) else {
            let failure = Failure::Closed(CloseReason::Cut);
            let result = match job {
                Job::Sync { .. } => JobResult::Sync(Box::new(Err(failure))),
                _ => JobResult::Call(Err(failure)),
            };
            return self.later(Work::Finished(task, result), env);
        };
        let peer = identity.device;
        let call = |call| Machine::Call(Box::new(call));
        let machine = match job {
            Job::Sync {
                database,
                common,
                create,
            } => Machine::Sync(Box::new(SyncClient::new(SyncConfig {
                database,
                peer: identity,
                common,
                create,
            }))),
            Job::Discover => call(Call::discover()),
            Job::Bootstrap(request) => call(Call::bootstrap(&request)),
            Job::Redeem(request, proof) => call(Call::redeem(&request, &proof)),
            Job::Status(request) => call(Call::status(request)),
            Job::Cancel(request) => call(Call::cancel(request)),
        };
        self.add_session(Session::new(machine, Name::Task(task), conn, peer), env);
    }

    /// Opens a live stream on a connection.
    pub(crate) fn open_live(
        &mut self,
        live: LiveId,
        link: LinkId,
        databases: Vec<Id>,
        env: &mut Env,
    ) {
        let conn = self.links.get(&link).copied();
        let identity = conn.and_then(|conn| self.identity(conn)).cloned();
        let Some((conn, identity)) = conn.zip(identity) else {
            let cut = Err(Failure::Closed(CloseReason::Cut));
            return self.later(Work::LiveEnded(live, cut), env);
        };
        let peer = identity.device;
        let machine = Machine::Live(Box::new(Live::dial(LiveConfig {
            peer: identity.proven,
            version: identity.version,
            claims: Vec::new(),
            databases,
        })));
        self.add_session(Session::new(machine, Name::Live(live), conn, peer), env);
    }

    /// A request turns out to open a live stream.
    fn accept_live(&mut self, id: SessionId, open: &LiveOpen, env: &mut Env) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let Some(identity) = self.identity(session.conn).cloned() else {
            return;
        };
        let now_ms = self.now_ms(env);
        let accepted = self.engine.accept_live(&identity.device, open, now_ms);
        self.carry_out(env);
        let accepted = accepted.map(|(live, databases)| {
            let config = LiveConfig {
                peer: identity.proven,
                version: identity.version,
                claims: self.engine.claims(now_ms).cloned().collect(),
                databases,
            };
            (live, Machine::Live(Box::new(Live::accept(config, open))))
        });
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match accepted {
            Ok((live, machine)) => {
                (session.machine, session.name) = (machine, Name::Live(live));
                let conn = session.conn;
                self.lives.insert(live, id);
                self.drive(id, env);
                // News are no request that ends: they take nobody's turn.
                self.served(conn, env);
            }
            Err(refusal) => self.turn_away(id, refusal, env),
        }
    }

    fn turn_away(&mut self, id: SessionId, refusal: Refusal, env: &mut Env) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        let refused = Frame::Reply(Reply::Refused(refusal)).encode().unwrap();
        session.send(Body::Frame(refused), env);
        session.send(Body::End, env);
        session.ended = true;
        self.drop_stream(&mut session, env);
        self.served(session.conn, env);
    }

    /// The engine says something to a live stream.
    pub(crate) fn tell_live(&mut self, live: LiveId, notice: Notice, env: &mut Env) {
        let Some(id) = self.lives.get(&live).copied() else {
            return;
        };
        if let Some(Machine::Live(machine)) = self
            .sessions
            .get_mut(&id)
            .map(|session| &mut session.machine)
        {
            machine.handle_notice(notice);
            self.drive(id, env);
        }
    }

    /// The engine ends a live stream.
    pub(crate) fn end_live(&mut self, live: LiveId, env: &mut Env) {
        if let Some(id) = self.lives.remove(&live) {
            self.tell(id, Input::Closed(CloseReason::Cancelled), env);
        }
    }

    /// Answers a request.
    pub(crate) fn serve(&mut self, conn: ConnId, stream: StreamId, env: &mut Env) {
        let Some(identity) = self.identity(conn).cloned() else {
            return;
        };
        let claims = self.engine.claims(self.now_ms(env)).cloned().collect();
        let peer = identity.device;
        let responder = Responder::new(ResponderConfig {
            peer: identity.proven,
            claims,
        });
        let machine = Machine::Serve(Box::new(responder));
        let mut session = Session::new(machine, Name::None, conn, peer);
        session.stream = Some(stream);
        self.add_session(session, env);
    }

    fn add_session(&mut self, session: Session, env: &mut Env) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        if let Some(stream) = session.stream {
            self.by_stream.insert(stream, id);
        }
        if let Name::Live(live) = session.name {
            self.lives.insert(live, id);
        }
        self.sessions.insert(id, session);
        self.drive(id, env);
    }

    /// Ends a session of the engine's, as far as a machine can be ended.
    pub(crate) fn abort(&mut self, task: TaskId, env: &mut Env) {
        let found = self
            .sessions
            .iter()
            .find(|(_, session)| session.name == Name::Task(task));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.tell(id, Input::Closed(CloseReason::Cancelled), env);
        }
    }

    /// Hands an input to a session.
    pub(crate) fn tell(&mut self, id: SessionId, input: Input, env: &mut Env) {
        let now_ms = self.now_ms(env);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.machine.handle_input(input, now_ms);
            self.drive(id, env);
        }
    }

    /// Something came on a session's stream.
    pub(crate) fn deliver(&mut self, id: SessionId, item: Item, env: &mut Env) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.is_fresh()
            && let Item::Frame(frame) = &item
            && let Some(open) = LiveOpen::in_request(frame)
        {
            return self.accept_live(id, &open, env);
        }
        session.is_begun = true;
        session.cut |= matches!(item, Item::Cut);
        session.inbox.push_back(item);
        self.drive(id, env);
    }

    /// The reader of a session's frames has taken some.
    pub(crate) fn credit(&mut self, id: SessionId, frames: u32, env: &mut Env) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.flying = session.flying.saturating_sub(frames);
            self.drive(id, env);
        }
    }

    /// The time of a session's timer has come.
    pub(crate) fn wake(&mut self, id: SessionId, env: &mut Env) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.timer_ms = None;
            self.tell(id, Input::Tick, env);
        }
    }

    /// Does what a session wants until it waits, or ends it.
    fn drive(&mut self, id: SessionId, env: &mut Env) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        match self.run(id, &mut session, env) {
            ControlFlow::Continue(until_ms) => {
                self.set_timer(id, &mut session, until_ms, env);
                self.sessions.insert(id, session);
            }
            ControlFlow::Break(ended) => self.finish(&session, ended, env),
        }
    }

    /// Until when the session waits, or how it ended.
    fn run(
        &mut self,
        id: SessionId,
        session: &mut Session,
        env: &mut Env,
    ) -> ControlFlow<Ended, Option<u64>> {
        let now_ms = self.now_ms(env);
        loop {
            let mut sent_ms = None;
            match session.flush(now_ms, env) {
                Flushed::Done => {}
                Flushed::Waits(until_ms) if session.machine.reads_on() => sent_ms = Some(until_ms),
                Flushed::Waits(until_ms) => return ControlFlow::Continue(Some(until_ms)),
                Flushed::Failed => {
                    let cut = Input::Closed(CloseReason::Cut);
                    session.machine.handle_input(cut, now_ms);
                }
            }
            match session.machine.poll(now_ms) {
                Step::Open => self.open_request(id, session, env),
                Step::Send(frame) => session.outbox = Some((frame, now_ms + SEND_MS)),
                Step::End => {
                    session.ended = true;
                    session.send(Body::End, env);
                }
                Step::Query(query, asked) => self.later(Work::Query(id, query, asked), env),
                Step::Ingest(ingest, batch) => {
                    self.later(Work::Ingest(id, ingest, batch, session.peer), env);
                }
                Step::Show => {}
                Step::Say(event) => {
                    if let Name::Live(live) = session.name {
                        self.later(Work::Live(live, event), env);
                    }
                }
                Step::Done(ended) => return ControlFlow::Break(ended),
                Step::Wait(until_ms) => match session.take(env) {
                    Some(input) => session.machine.handle_input(input, now_ms),
                    None => {
                        let until_ms = [until_ms, sent_ms].into_iter().flatten().min();
                        return ControlFlow::Continue(until_ms);
                    }
                },
            }
        }
    }

    fn open_request(&mut self, id: SessionId, session: &mut Session, env: &mut Env) {
        self.drop_stream(session, env);
        let stream = env.net.stream();
        session.open(stream);
        self.by_stream.insert(stream, id);
        match session.cut {
            true => session.inbox.push_back(Item::Cut),
            false => session.send(Body::Open, env),
        }
    }

    /// Forgets a session's stream. A peer that is not through with it learns that it is over.
    fn drop_stream(&mut self, session: &mut Session, env: &mut Env) {
        if let Some(stream) = session.stream.take() {
            self.by_stream.remove(&stream);
            if !(session.cut || session.ended && session.heard) {
                let side = session.side;
                env.send(session.conn, side, stream, Body::Reset);
            }
        }
    }

    fn set_timer(
        &mut self,
        id: SessionId,
        session: &mut Session,
        until_ms: Option<u64>,
        env: &mut Env,
    ) {
        let Some(until_ms) = until_ms else { return };
        if session.timer_ms.is_none_or(|timer_ms| until_ms < timer_ms) {
            session.timer_ms = Some(until_ms);
            self.at(until_ms, Event::Session(self.me, self.boot, id), env);
        }
    }

    fn finish(&mut self, session: &Session, ended: Ended, env: &mut Env) {
        let (me, conn) = (self.me, session.conn);
        if let Some(stream) = session.stream {
            self.by_stream.remove(&stream);
            // A responder need not hear the end of a request that it has answered.
            let over = session.ended && (session.heard || session.side == Side::Acceptor);
            if !over && !session.cut {
                env.send(conn, session.side, stream, Body::Reset);
            }
        }
        let result = match ended {
            Ended::Serve(result) => {
                env.counts.served += 1;
                env.note(me, "served", &[], || format!("{result:?}"));
                return self.served(conn, env);
            }
            Ended::Live(result) => return self.live_ended(session, result, env),
            Ended::Sync(result) => JobResult::Sync(Box::new(result)),
            Ended::Call(result) => JobResult::Call(result),
        };
        env.note(me, "finished", &[], || {
            format!("{:?}: {result:?}", session.name)
        });
        let failed = match &result {
            JobResult::Sync(result) => result.is_err(),
            JobResult::Call(result) => result.is_err(),
        };
        env.counts.failed += u64::from(failed);
        if let Name::Task(task) = session.name {
            self.later(Work::Finished(task, result), env);
        }
        self.drop_if_broken(conn, env);
    }

    fn live_ended(&mut self, session: &Session, result: Result<(), Failure>, env: &mut Env) {
        env.note(self.me, "live ended", &[], || {
            format!("{:?}: {result:?}", session.name)
        });
        if let Name::Live(live) = session.name {
            self.lives.remove(&live);
            self.later(Work::LiveEnded(live, result), env);
        }
        self.drop_if_broken(session.conn, env);
    }

    /// Answers a question of a session.
    pub(crate) fn answer(&mut self, query: Query, env: &mut Env) -> Result<Answer, Unavailable> {
        let now_ms = self.now_ms(env);
        match query {
            Query::Bootstrap { request } => {
                let asked = request.request();
                let facts = self.backend.facts(&asked.database, &asked.key)?;
                let answer = self.engine.receive_bootstrap(&request, facts, now_ms);
                // The request is remembered before the peer is told so.
                self.carry_out(env);
                Ok(Answer::Bootstrap(answer))
            }
            Query::Status { request, device } => {
                let facts = self.backend.facts(&request.database, &request.key)?;
                Ok(Answer::Bootstrap(
                    self.engine.request_status(&request, &device, facts),
                ))
            }
            Query::Cancel { request, device } => {
                self.engine.cancel_request(&request, &device);
                self.carry_out(env);
                Ok(Answer::Cancelled)
            }
            query => eidetica_node::answer(&*self.backend, query, now_ms),
        }
    }
}
