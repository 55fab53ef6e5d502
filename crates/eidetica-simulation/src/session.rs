//! Running the machines of `eidetica-protocol`: their frames, their questions, their clocks.
//!
//! The same contract as the driver's, with virtual streams. What a machine asks of the databases is done some time
//! later, so that other things happen in between.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_engine::{Input as EngineInput, Job, JobResult, LinkId, TaskId};
use eidetica_entry::PublicKey;
use eidetica_node::Backend as _;
use eidetica_protocol::{
    Answer, Call, CallReply, CloseReason, Failure, IngestBatch, IngestId, Input, Outcome, Output,
    Query, QueryId, Responder, ResponderConfig, Served, SyncClient, SyncConfig, Unavailable,
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
}

/// How a machine ended.
pub(crate) enum Ended {
    Sync(Result<Outcome, Failure>),
    Call(Result<CallReply, Failure>),
    Serve(Result<Served, Failure>),
}

/// What a machine wants next.
enum Step {
    Open,
    Send(Bytes),
    End,
    Query(QueryId, Query),
    Ingest(IngestId, IngestBatch),
    Show,
    Wait(Option<u64>),
    Done(Ended),
}

fn step<T>(output: Output<T>, ended: fn(Result<T, Failure>) -> Ended) -> Step {
    match output {
        Output::OpenRequest => Step::Open,
        Output::Send(frame) => Step::Send(frame),
        Output::End => Step::End,
        Output::Query(id, query) => Step::Query(id, query),
        Output::Ingest(id, batch) => Step::Ingest(id, batch),
        Output::Event(_) => Step::Show,
        Output::Timeout(at_ms) => Step::Wait(at_ms),
        Output::Done(result) => Step::Done(ended(result)),
    }
}

impl Machine {
    fn poll(&mut self, now_ms: u64) -> Step {
        match self {
            Self::Sync(machine) => step(machine.poll_output(now_ms), Ended::Sync),
            Self::Call(machine) => step(machine.poll_output(now_ms), Ended::Call),
            Self::Serve(machine) => step(machine.poll_output(now_ms), Ended::Serve),
        }
    }

    fn handle_input(&mut self, input: Input, now_ms: u64) {
        match self {
            Self::Sync(machine) => machine.handle_input(input, now_ms),
            Self::Call(machine) => machine.handle_input(input, now_ms),
            Self::Serve(machine) => machine.handle_input(input, now_ms),
        }
    }

    fn wants_frame(&self) -> bool {
        match self {
            Self::Sync(machine) => machine.wants_frame(),
            Self::Call(machine) => machine.wants_frame(),
            Self::Serve(machine) => machine.wants_frame(),
        }
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
    /// The engine's name of it, unless it answers.
    task: Option<TaskId>,
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
    /// When it is to be told the time (of the wall clock).
    timer_ms: Option<u64>,
}

impl Session {
    fn new(machine: Machine, task: Option<TaskId>, conn: ConnId, peer: PublicKey) -> Self {
        let side = match machine {
            Machine::Serve(_) => Side::Acceptor,
            _ => Side::Dialler,
        };
        Self {
            machine,
            task,
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
            timer_ms: None,
        }
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
            return Flushed::Done;
        }
        match self.cut || now_ms >= until_ms {
            // Whoever stops reading may have said why.
            true if self.machine.wants_frame() => Flushed::Done,
            true => Flushed::Failed,
            false => {
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
            Job::Status(request) => call(Call::status(request)),
            Job::Cancel(request) => call(Call::cancel(request)),
        };
        self.add_session(Session::new(machine, Some(task), conn, peer), env);
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
        let mut session = Session::new(Machine::Serve(Box::new(responder)), None, conn, peer);
        session.stream = Some(stream);
        self.add_session(session, env);
    }

    fn add_session(&mut self, session: Session, env: &mut Env) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        if let Some(stream) = session.stream {
            self.by_stream.insert(stream, id);
        }
        self.sessions.insert(id, session);
        self.drive(id, env);
    }

    /// Ends a session of the engine's, as far as a machine can be ended.
    pub(crate) fn abort(&mut self, task: TaskId, env: &mut Env) {
        let found = self
            .sessions
            .iter()
            .find(|(_, session)| session.task == Some(task));
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
        if let Some(session) = self.sessions.get_mut(&id) {
            session.cut |= matches!(item, Item::Cut);
            session.inbox.push_back(item);
            self.drive(id, env);
        }
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
            Ok(until_ms) => {
                self.set_timer(id, &mut session, until_ms, env);
                self.sessions.insert(id, session);
            }
            Err(ended) => self.finish(&session, ended, env),
        }
    }

    /// Until when the session waits, or how it ended.
    fn run(
        &mut self,
        id: SessionId,
        session: &mut Session,
        env: &mut Env,
    ) -> Result<Option<u64>, Ended> {
        let now_ms = self.now_ms(env);
        loop {
            match session.flush(now_ms, env) {
                Flushed::Done => {}
                Flushed::Waits(until_ms) => return Ok(Some(until_ms)),
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
                Step::Done(ended) => return Err(ended),
                Step::Wait(until_ms) => match session.take(env) {
                    Some(input) => session.machine.handle_input(input, now_ms),
                    None => return Ok(until_ms),
                },
            }
        }
    }

    fn open_request(&mut self, id: SessionId, session: &mut Session, env: &mut Env) {
        self.drop_stream(session, env);
        let stream = env.net.stream();
        session.open(stream);
        self.by_stream.insert(stream, id);
        if !session.cut {
            session.send(Body::Open, env);
        }
    }

    /// Forgets a session's stream. A peer that is not through with it learns that it is over.
    fn drop_stream(&mut self, session: &mut Session, env: &mut Env) {
        if let Some(stream) = session.stream.take() {
            self.by_stream.remove(&stream);
            if !(session.ended && session.heard) && !session.cut {
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
            env.at_wall(until_ms, self.skew_ms, Event::Session(self.me, self.boot, id));
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
            Ended::Sync(result) => JobResult::Sync(Box::new(result)),
            Ended::Call(result) => JobResult::Call(result),
        };
        env.note(me, "finished", &[], || format!("{:?}: {result:?}", session.task));
        let failed = match &result {
            JobResult::Sync(result) => result.is_err(),
            JobResult::Call(result) => result.is_err(),
        };
        env.counts.failed += u64::from(failed);
        if let Some(task) = session.task {
            self.later(Work::Finished(task, result), env);
        }
        self.drop_if_broken(conn, env);
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
            query => eidetica_node::answer(&*self.backend, query),
        }
    }

    /// Tells the engine that a session is over.
    pub(crate) fn finished(&mut self, task: TaskId, result: JobResult, env: &mut Env) {
        self.input(EngineInput::Finished(task, result), env);
    }
}
