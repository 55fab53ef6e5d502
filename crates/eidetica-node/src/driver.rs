//! The driver: one loop around the engine. Everything that takes long runs in tasks, which send news back.

use std::{
    any::Any,
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, RequestId, SecretKey, SignedRequest};
use eidetica_engine::{
    Action, Command, CommandId, ConnectError, Facts, GrantOutcome, Input, Job, JobResult, LinkId,
    Record, Redemption, Response, StreamId, TaskId, Wishes,
};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Call, CloseReason, Failure, LiveEvent, LiveOpen, Notice, Refusal, RequestRef, SyncClient,
    SyncConfig,
};
use eidetica_transport::{Address, Listener, Transport, TransportError};
use futures::{FutureExt, channel::oneshot};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Backend, NodeError,
    backend::Followed,
    clock::now_ms,
    dial::Dialer,
    handle::Shared,
    limits,
    link::Link,
    live::{self, Control},
    pool::Pool,
    serve::Server,
    session::{self, BootstrapReply, Services, Stop},
    wire::Wire,
};

/// The reply to a command that has no result.
pub(crate) type DoneReply = oneshot::Sender<Result<(), NodeError>>;

/// Who waits for the end, and how it was.
pub(crate) type Ended = (DoneReply, Result<(), NodeError>);

/// What handles send.
pub(crate) enum Event {
    Command {
        id: CommandId,
        command: Command,
        deadline_ms: u64,
        reply: oneshot::Sender<Result<Response, NodeError>>,
    },
    Wishes {
        database: Id,
        wishes: Option<Wishes>,
        reply: DoneReply,
    },
    Online,
    StartServer {
        bind: String,
        as_service: bool,
        reply: oneshot::Sender<Result<Vec<Address>, NodeError>>,
    },
    StopServer {
        reply: DoneReply,
    },
    Shutdown {
        reply: DoneReply,
    },
}

/// What tasks send.
pub(crate) enum News {
    Dialled(LinkId, Result<Arc<Link>, ConnectError>),
    Finished(TaskId, LinkId, JobResult),
    Granted(RequestId, Result<GrantOutcome, String>),
    Leases(Option<Vec<(String, Bytes)>>),
    Seen(PublicKey),
    AcceptLive {
        device: PublicKey,
        open: LiveOpen,
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    /// Payloads came that were missing.
    Filled(Id),
    Live(StreamId, LiveEvent),
    LiveEnded(StreamId, Result<(), Failure>),
    Bootstrap {
        request: Box<SignedRequest>,
        facts: Facts,
        reply: BootstrapReply,
    },
    Redeem {
        request: Box<SignedRequest>,
        invite: PublicKey,
        facts: Facts,
        reply: oneshot::Sender<Redemption>,
    },
    Redeemed {
        request: Box<SignedRequest>,
        invite: PublicKey,
        facts: Facts,
        result: Result<GrantOutcome, String>,
        reply: BootstrapReply,
    },
    Status {
        request: RequestRef,
        device: PublicKey,
        facts: Facts,
        reply: BootstrapReply,
    },
    Cancel {
        request: RequestRef,
        device: PublicKey,
        reply: oneshot::Sender<()>,
    },
}

/// A live stream that a peer may open.
pub(crate) struct Accepted {
    pub(crate) id: StreamId,
    /// What is remembered of it.
    pub(crate) databases: Vec<Id>,
    pub(crate) control: Control,
}

/// How a live stream is told things.
struct Stream {
    notices: mpsc::Sender<Notice>,
    token: CancellationToken,
}

/// The keys that a node has.
pub(crate) struct Keys {
    pub(crate) device: Arc<SecretKey>,
    /// To answer with where several processes answer for each other.
    pub(crate) service: Arc<SecretKey>,
}

/// A backend, and what keeps its hints coming.
pub(crate) type Watched = (Arc<dyn Backend>, Option<Box<dyn Any + Send + Sync>>);

/// The loop and what it holds.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    keys: Keys,
    pool: Arc<Pool>,
    services: Arc<Services>,
    dialer: Arc<Dialer>,
    commands: mpsc::Receiver<Event>,
    next: Arc<AtomicU64>,
    news: mpsc::Receiver<News>,
    waiting: HashMap<CommandId, oneshot::Sender<Result<Response, NodeError>>>,
    links: HashMap<LinkId, Arc<Link>>,
    /// Connections that are being made; cancelled when another one won.
    dials: HashMap<LinkId, CancellationToken>,
    sessions: HashMap<TaskId, (LinkId, CancellationToken)>,
    streams: HashMap<StreamId, Stream>,
    server: Option<Arc<Server>>,
    tasks: TaskTracker,
    /// Cancelled when the node stops: dials end at once.
    stopping: CancellationToken,
    /// When other processes were last followed, where there are some.
    followed: Option<Instant>,
    _watch: Option<Box<dyn Any + Send + Sync>>,
    _alive: Alive,
}

/// Says that the node has stopped, however it stopped.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.addresses.lock().clear();
        self.0.stopped.store(true, Ordering::Release);
    }
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        keys: Keys,
        (backend, watch): Watched,
        commands: mpsc::Receiver<Event>,
        next: Arc<AtomicU64>,
    ) -> Self {
        let followed = backend.is_shared().then(Instant::now);
        let pool = Arc::new(Pool::new(backend));
        let (sender, news) = mpsc::channel(limits::EVENTS);
        let services = Arc::new(Services {
            pool: Arc::clone(&pool),
            news: sender,
            send: shared.limits.send,
        });
        let dialer = Arc::new(Dialer {
            shared: Arc::clone(&shared),
            device: Arc::clone(&keys.device),
            pool: Arc::clone(&pool),
        });
        Self {
            _alive: Alive(Arc::clone(&shared)),
            _watch: watch,
            followed,
            shared,
            keys,
            pool,
            services,
            dialer,
            commands,
            next,
            news,
            waiting: HashMap::new(),
            links: HashMap::new(),
            dials: HashMap::new(),
            sessions: HashMap::new(),
            streams: HashMap::new(),
            server: None,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Runs until it is told to stop, nobody holds a handle, or records cannot be written. The result is for
    /// whoever told it to stop, once the runtime and all it holds are gone.
    pub(crate) async fn run(mut self) -> Option<Ended> {
        let mut asked = None;
        let served = self.serve(&mut asked).await;
        if let Err(error) = &served {
            tracing::error!(%error, "the sync engine stops");
            for (_, reply) in self.waiting.drain() {
                // Whoever does not wait does not need to know.
                let _ = reply.send(Err(error.clone()));
            }
        }
        asked.map(|reply| (reply, served))
    }

    async fn serve(&mut self, asked: &mut Option<DoneReply>) -> Result<(), NodeError> {
        loop {
            let until_ms = self.carry_out().await?;
            tokio::select! {
                event = self.commands.recv() => match event {
                    Some(Event::Shutdown { reply }) => {
                        *asked = Some(reply);
                        return self.stop().await;
                    }
                    Some(event) => self.take_event(event).await?,
                    None => return self.stop().await,
                },
                () = self.shared.changes.some.notified() => self.take_changes().await?,
                () = written(&self.shared, self.followed) => self.follow().await?,
                Some(news) = self.news.recv() => self.take_news(news).await?,
                () = session::until(until_ms) => self.input(Input::Tick),
            }
        }
    }

    fn input(&self, input: Input) {
        self.shared.engine.lock().handle_input(input, now_ms());
    }

    async fn take_changes(&mut self) -> Result<(), NodeError> {
        let changes = self.shared.changes.take();
        // A peer that subscribed before something changed, and was told how all stands, is to hear of it: what it said is
        // among the news by now.
        for _ in 0..limits::EVENTS {
            let Ok(news) = self.news.try_recv() else {
                break;
            };
            self.take_news(news).await?;
        }
        for (database, here) in changes {
            self.input(Input::Changed { database, here });
        }
        Ok(())
    }

    // Other processes.

    /// Takes notice of what they have written.
    async fn follow(&mut self) -> Result<(), NodeError> {
        if self.followed.is_none() {
            return Ok(());
        }
        // What is decided on what was known before is put together with the rest when it is written.
        let followed = match timeout(self.shared.limits.persist, self.pool.follow()).await {
            Ok(Ok(followed)) => followed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot follow other processes");
                Followed::default()
            }
            // What it finds after all would be known to the backend and not to the engine.
            Err(_) => {
                return Err(NodeError::Backend(
                    "other processes are not followed in time".to_owned(),
                ));
            }
        };
        self.followed = Some(Instant::now());
        self.meet(&followed.records)?;
        for (database, wishes) in followed.wishes {
            self.input(Input::Wishes(database, wishes));
        }
        let is_known = |claim: &DeviceClaim| {
            let engine = self.shared.engine.lock();
            engine
                .claims_of(claim.device(), 0)
                .any(|known| known == claim)
        };
        let mut claims = followed.claims;
        claims.retain(|claim| !is_known(claim));
        for claim in claims {
            let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
            let command = Command::PutClaim(Box::new(claim));
            self.input(Input::Command(id, command, u64::MAX));
            self.shared.claims.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    fn meet(&self, records: &[Record]) -> Result<(), NodeError> {
        if records.is_empty() {
            return Ok(());
        }
        let met = self.shared.engine.lock().meet(records, now_ms());
        self.hang_up();
        Ok(met?)
    }

    /// Answers no further whoever is served no more.
    fn hang_up(&self) {
        if let Some(server) = &self.server {
            server.hang_up();
        }
    }

    async fn take_event(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Command {
                id,
                command,
                deadline_ms,
                reply,
            } => {
                // A command rests on what there is, whoever wrote it.
                self.follow().await?;
                self.waiting.insert(id, reply);
                let claims = matches!(command, Command::PutClaim(_) | Command::RemoveClaim(_));
                let status = matches!(command, Command::SetStatus(..));
                self.input(Input::Command(id, command, deadline_ms));
                if status {
                    self.hang_up();
                }
                if claims {
                    self.shared.claims.send_modify(|changes| *changes += 1);
                }
            }
            Event::Wishes {
                database,
                wishes,
                reply,
            } => {
                self.input(Input::Wishes(database, wishes));
                let _ = reply.send(Ok(()));
            }
            Event::Online => self.input(Input::Online),
            Event::StartServer {
                bind,
                as_service,
                reply,
            } => {
                let _ = reply.send(self.start_server(&bind, as_service).await);
            }
            Event::StopServer { reply } => match self.take_server() {
                Some(server) => {
                    self.tasks.spawn(async move {
                        server.shutdown().await;
                        let _ = reply.send(Ok(()));
                    });
                }
                None => drop(reply.send(Err(NodeError::ServerNotRunning))),
            },
            Event::Shutdown { .. } => {}
        }
        Ok(())
    }

    async fn take_news(&mut self, news: News) -> Result<(), NodeError> {
        match news {
            News::Dialled(id, dialled) => {
                self.dials.remove(&id);
                match dialled {
                    Ok(link) => {
                        let identity = link.identity().clone();
                        self.links.insert(id, link);
                        self.input(Input::Connected(id, identity));
                    }
                    Err(error) => self.input(Input::ConnectFailed(id, error)),
                }
            }
            News::Finished(task, link, result) => {
                self.sessions.remove(&task);
                self.input(Input::Finished(task, result));
                self.drop_if_broken(link);
            }
            News::Granted(id, result) => self.input(Input::Granted(id, result)),
            News::Leases(rows) => self.input(Input::Leases(rows)),
            News::Seen(peer) => self.input(Input::Seen(peer)),
            News::Filled(database) => self.shared.changes.add(database, false),
            News::AcceptLive {
                device,
                open,
                reply,
            } => {
                let accepted = self
                    .shared
                    .engine
                    .lock()
                    .accept_live(&device, &open, now_ms());
                let accepted = accepted.map(|(id, databases)| {
                    let control = self.control(id);
                    Accepted {
                        id,
                        databases,
                        control,
                    }
                });
                if let Err(Ok(accepted)) = reply.send(accepted) {
                    let cut = Err(Failure::Closed(CloseReason::Cut));
                    self.end_of_stream(accepted.id, cut);
                }
            }
            News::Live(id, event) => self.input(Input::Live(id, event)),
            News::LiveEnded(id, result) => self.end_of_stream(id, result),
            News::Bootstrap {
                request,
                facts,
                reply,
            } => {
                self.follow().await?;
                let answer = self
                    .shared
                    .engine
                    .lock()
                    .receive_bootstrap(&request, facts, now_ms());
                // The request is remembered before the peer is told so.
                self.carry_out().await?;
                let _ = reply.send(answer);
            }
            News::Redeem {
                request,
                invite,
                facts,
                reply,
            } => {
                let taken = self.redeem(&request, &invite, facts).await?;
                let _ = reply.send(taken);
            }
            News::Redeemed {
                request,
                invite,
                facts,
                result,
                reply,
            } => {
                let answer =
                    self.shared
                        .engine
                        .lock()
                        .redeemed(&request, &invite, facts, result, now_ms());
                self.carry_out().await?;
                let _ = reply.send(answer);
            }
            News::Status {
                request,
                device,
                facts,
                reply,
            } => {
                self.follow().await?;
                let answer = self
                    .shared
                    .engine
                    .lock()
                    .request_status(&request, &device, facts);
                let _ = reply.send(answer);
            }
            News::Cancel {
                request,
                device,
                reply,
            } => {
                self.follow().await?;
                self.shared.engine.lock().cancel_request(&request, &device);
                self.carry_out().await?;
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    /// Takes a place of an invite, before the grant is made; again where another process has given it away.
    async fn redeem(
        &mut self,
        request: &SignedRequest,
        invite: &PublicKey,
        facts: Facts,
    ) -> Result<Redemption, NodeError> {
        for _ in 0..limits::REDEEM_ATTEMPTS {
            self.follow().await?;
            let taken = self
                .shared
                .engine
                .lock()
                .redeem(request, invite, facts, now_ms());
            self.carry_out().await?;
            let key = &request.request().key;
            if !matches!(taken, Redemption::Grant { .. })
                || self.shared.engine.lock().has_place(invite, key)
            {
                return Ok(taken);
            }
        }
        Ok(Redemption::Answer(Err(Refusal::UNAVAILABLE)))
    }

    /// A link on which requests fail is given up once no session runs on it.
    fn drop_if_broken(&mut self, id: LinkId) {
        let is_used = self.sessions.values().any(|(link, _)| *link == id);
        if !is_used && self.links.get(&id).is_some_and(|link| link.is_broken()) {
            self.close(id);
            self.input(Input::Disconnected(id));
        }
    }

    /// Carries out what the engine wants, in order; returns until when there is nothing more.
    async fn carry_out(&mut self) -> Result<Option<u64>, NodeError> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let action = self.shared.engine.lock().poll_action(now_ms());
            match action {
                Action::Persist(record) if records.len() < limits::RECORDS => records.push(record),
                action => {
                    self.persist(std::mem::take(&mut records)).await?;
                    match action {
                        Action::Persist(record) => records.push(record),
                        Action::Timeout(until_ms) => return Ok(until_ms),
                        action => self.act(action),
                    }
                }
            }
        }
    }

    async fn persist(&self, records: Vec<Record>) -> Result<(), NodeError> {
        if records.is_empty() {
            return Ok(());
        }
        match timeout(self.shared.limits.persist, self.pool.persist(records)).await {
            Ok(Ok(others)) => self.meet(&others),
            Ok(Err(error)) => Err(NodeError::Backend(error.to_string())),
            Err(_) => Err(NodeError::Backend(
                "records are not written in time".to_owned(),
            )),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect(id, address, pinned) => self.connect(id, address, pinned),
            Action::Close(id) => self.close(id),
            Action::Run(task, link, job) => self.run_job(task, link, job),
            Action::OpenLive(id, link, databases) => self.open_live(id, link, databases),
            Action::Tell(id, notice) => {
                // One that hears nothing is ended; it is opened again, and compares.
                if let Some(stream) = self.streams.get(&id)
                    && stream.notices.try_send(notice).is_err()
                {
                    stream.token.cancel();
                }
            }
            Action::EndLive(id) => {
                if let Some(stream) = self.streams.remove(&id) {
                    stream.token.cancel();
                }
            }
            Action::Abort(task) => {
                if let Some((_, token)) = self.sessions.get(&task) {
                    token.cancel();
                }
            }
            Action::Grant { request, by } => {
                let (pool, news) = (Arc::clone(&self.pool), self.services.news.clone());
                self.tasks.spawn(async move {
                    let id = request.id();
                    let granted = pool.grant(request, by).await;
                    let _ = news.send(News::Granted(id, granted)).await;
                });
            }
            Action::Lease(changes) => {
                let (pool, news) = (Arc::clone(&self.pool), self.services.news.clone());
                self.tasks.spawn(async move {
                    let leased = pool.lease(changes).await;
                    if let Err(error) = &leased {
                        tracing::warn!(%error, "leases cannot be written");
                    }
                    let _ = news.send(News::Leases(leased.ok())).await;
                });
            }
            Action::Reply(id, result) => {
                if let Some(reply) = self.waiting.remove(&id) {
                    let _ = reply.send(result.map_err(NodeError::from));
                }
            }
            // Taken by `carry_out`.
            Action::Persist(_) | Action::Timeout(_) => {}
        }
    }

    fn connect(&mut self, id: LinkId, address: Address, pinned: Option<PublicKey>) {
        let (dialer, news) = (Arc::clone(&self.dialer), self.services.news.clone());
        let token = self.stopping.child_token();
        self.dials.insert(id, token.clone());
        self.tasks.spawn(async move {
            let link = tokio::select! {
                () = token.cancelled() => return,
                link = Link::dial(dialer, address, pinned) => link,
            };
            let _ = news.send(News::Dialled(id, link.map(Arc::new))).await;
        });
    }

    fn close(&mut self, id: LinkId) {
        if let Some(dial) = self.dials.remove(&id) {
            dial.cancel();
        }
        if let Some(link) = self.links.remove(&id) {
            self.tasks
                .spawn(async move { link.channel().close().await });
        }
    }

    fn run_job(&mut self, task: TaskId, id: LinkId, job: Job) {
        let token = CancellationToken::new();
        self.sessions.insert(task, (id, token.clone()));
        let link = self.links.get(&id).cloned();
        let (services, news) = (Arc::clone(&self.services), self.services.news.clone());
        let stop = Stop {
            token,
            reason: CloseReason::Cancelled,
        };
        self.tasks.spawn(async move {
            let is_sync = matches!(job, Job::Sync { .. });
            let running = async {
                match link {
                    Some(link) => run_on(link, job, &services, &stop).await,
                    None => failed(is_sync, Failure::Closed(CloseReason::Cut)),
                }
            };
            // A panic is a bug; whoever waits shall learn of it now and not at the deadline.
            let result = AssertUnwindSafe(running).catch_unwind().await;
            let result = result.unwrap_or_else(|_| {
                failed(is_sync, Failure::Local("the session panicked".to_owned()))
            });
            let _ = news.send(News::Finished(task, id, result)).await;
        });
    }

    // Live streams.

    /// What the task of a stream needs to be told things.
    fn control(&mut self, id: StreamId) -> Control {
        let (notices, heard) = mpsc::channel(limits::NOTICES);
        let token = CancellationToken::new();
        let stream = Stream {
            notices,
            token: token.clone(),
        };
        self.streams.insert(id, stream);
        Control {
            id,
            notices: heard,
            token,
        }
    }

    fn open_live(&mut self, id: StreamId, link: LinkId, databases: Vec<Id>) {
        let control = self.control(id);
        let services = Arc::clone(&self.services);
        let link = self.links.get(&link).cloned();
        self.tasks.spawn(async move {
            let result = match link {
                Some(link) => live::dial(link, databases, control, &services).await,
                None => Err(Failure::Closed(CloseReason::Cut)),
            };
            let _ = services.news.send(News::LiveEnded(id, result)).await;
        });
    }

    fn end_of_stream(&mut self, id: StreamId, result: Result<(), Failure>) {
        self.streams.remove(&id);
        self.input(Input::LiveEnded(id, result));
    }

    // The server.

    async fn start_server(
        &mut self,
        bind: &str,
        as_service: bool,
    ) -> Result<Vec<Address>, NodeError> {
        if self.server.is_some() {
            return Err(NodeError::ServerRunning);
        }
        let transports: Vec<Arc<dyn Transport>> = self.shared.transports.lock().clone();
        if transports.is_empty() {
            return Err(NodeError::NoTransport(None));
        }
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        for transport in transports {
            let late = |_| TransportError::TimedOut {
                what: "listener",
                after_ms: self.shared.limits.dial.as_millis() as u64,
            };
            listeners.push(
                timeout(self.shared.limits.dial, transport.listen(bind))
                    .await
                    .map_err(late)??,
            );
        }
        let server = Server::new(
            Arc::clone(&self.shared),
            Arc::clone(match as_service {
                true => &self.keys.service,
                false => &self.keys.device,
            }),
            Arc::clone(&self.services),
        );
        let addresses: Vec<Address> = listeners
            .iter()
            .map(|listener| listener.address())
            .collect();
        listeners
            .into_iter()
            .for_each(|listener| server.start(listener));
        self.shared.addresses.lock().clone_from(&addresses);
        self.server = Some(server);
        Ok(addresses)
    }

    fn take_server(&mut self) -> Option<Arc<Server>> {
        self.shared.addresses.lock().clear();
        self.server.take()
    }

    /// Ends everything in order: the engine, then the server, then what still runs.
    async fn stop(&mut self) -> Result<(), NodeError> {
        let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        self.input(Input::Command(id, Command::Stop, u64::MAX));
        self.stopping.cancel();
        self.carry_out().await?;
        let server = self.take_server();
        let shutdown = async {
            if let Some(server) = server {
                server.shutdown().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
            let transports = self.shared.transports.lock().clone();
            let closing = transports.iter().map(|transport| transport.close());
            futures::future::join_all(closing).await;
        };
        // Sessions that end send news; somebody has to take them.
        let news = &mut self.news;
        let drain = async { while news.recv().await.is_some() {} };
        let limit = self.shared.limits.shutdown.saturating_mul(2) + Duration::from_secs(1);
        tokio::select! {
            () = shutdown => {}
            () = drain => {}
            () = tokio::time::sleep(limit) => tracing::warn!("some work did not end in time"),
        }
        Ok(())
    }
}

/// Until other processes may have written something, at most and at least so often; for ever where there are none.
async fn written(shared: &Shared, followed: Option<Instant>) {
    let Some(followed) = followed else {
        return std::future::pending().await;
    };
    sleep_until(followed + limits::FOLLOW).await;
    let _ = timeout(limits::FOLLOW_AT_LEAST, shared.written.notified()).await;
}

/// Runs a session on a link.
async fn run_on(link: Arc<Link>, job: Job, services: &Arc<Services>, stop: &Stop) -> JobResult {
    let (wire, peer) = (Wire::of_link(Arc::clone(&link)), link.identity().device);
    let call = match job {
        Job::Sync {
            database,
            common,
            create,
        } => {
            let config = SyncConfig {
                database,
                peer: link.identity().clone(),
                common,
                create,
            };
            return JobResult::Sync(Box::new(
                session::run(SyncClient::new(config), wire, peer, services, stop).await,
            ));
        }
        Job::Discover => Call::discover(),
        Job::Bootstrap(request) => Call::bootstrap(&request),
        Job::Redeem(request, proof) => Call::redeem(&request, &proof),
        Job::Status(request) => Call::status(request),
        Job::Cancel(request) => Call::cancel(request),
    };
    JobResult::Call(session::run(call, wire, peer, services, stop).await)
}

fn failed(is_sync: bool, failure: Failure) -> JobResult {
    if is_sync {
        JobResult::Sync(Box::new(Err(failure)))
    } else {
        JobResult::Call(Err(failure))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::AtomicBool;

    use eidetica_database::{Config, Databases};
    use eidetica_engine::{Engine, EngineConfig};
    use eidetica_protocol::set_hash;
    use eidetica_storage::MemoryEngine;
    use parking_lot::Mutex;
    use tokio::sync::{Notify, watch};

    use super::*;
    use crate::{DatabasesBackend, NodeLimits, Policy, handle::Changes};

    struct NoUsers;

    impl Policy for NoUsers {
        fn offers(&self, _: &Id) -> bool {
            true
        }

        fn unlocked(&self, _: &PublicKey) -> Option<Arc<SecretKey>> {
            None
        }
    }

    /// One that does what the test says.
    pub(crate) fn driver(limits: NodeLimits) -> Driver {
        let device = Arc::new(SecretKey::from_bytes(&[1; 32]));
        let config = EngineConfig {
            device: device.public(),
            seed: 1,
            wishes: Vec::new(),
            process: None,
        };
        let shared = Shared {
            engine: Mutex::new(Engine::restore(config, [], now_ms()).unwrap()),
            transports: Mutex::default(),
            addresses: Mutex::default(),
            claims: watch::Sender::new(0),
            changes: Changes::default(),
            written: Notify::new(),
            stopped: AtomicBool::new(false),
            limits,
        };
        let keys = Keys {
            service: Arc::clone(&device),
            device,
        };
        let storage = Arc::new(MemoryEngine::new());
        let databases = Databases::open(storage, Config::new([1; 32])).unwrap();
        let backend = DatabasesBackend::new(databases, Arc::new(NoUsers)).unwrap();
        let (_, commands) = mpsc::channel(1);
        let next = Arc::new(AtomicU64::new(0));
        Driver::new(
            Arc::new(shared),
            keys,
            (Arc::new(backend), None),
            commands,
            next,
        )
    }

    impl Driver {
        pub(crate) fn services(&self) -> Arc<Services> {
            Arc::clone(&self.services)
        }
    }

    #[tokio::test]
    async fn whoever_subscribed_before_a_change_is_told_of_it() {
        let mut driver = driver(NodeLimits::default());
        let (device, database) = (PublicKey::new([2; 32]), Id::new([3; 32]));
        let set = set_hash([].iter());
        let open = LiveOpen { set, count: 0 };
        let accepted = driver
            .shared
            .engine
            .lock()
            .accept_live(&device, &open, now_ms());
        let mut control = driver.control(accepted.unwrap().0);
        let subscribed = LiveEvent::Subscribed(vec![database]);
        let news = News::Live(control.id, subscribed);
        driver.services.news.send(news).await.unwrap();
        driver.shared.changes.add(database, true);
        driver.take_changes().await.unwrap();
        driver.carry_out().await.unwrap();
        let push = true;
        let told = control.notices.try_recv();
        assert_eq!(told, Ok(Notice::Changed { database, push }));
    }
}
