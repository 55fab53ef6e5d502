//! Connections: how they are made, prepared and shared among snapshots.

use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use eidetica_storage::EngineError;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row, Socket};

use crate::PostgresOptions;
use crate::schema::{Schema, Statement, session};
use crate::wait::{begin, wait_until};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// How long a connection beyond those that are always kept waits for the next snapshot.
const SPARE: Duration = Duration::from_secs(10);
/// What a server may take to answer beyond its own limit for the statement.
const GRACE: Duration = Duration::from_secs(10);

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";
const END: &str = "COMMIT";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Moves a connection's bytes and hands out what the server says unasked, until it ends.
pub(crate) type Driver =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send>;

type Dial = dyn Fn() -> Boxed<Result<(Client, Driver), Error>> + Send + Sync;

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    dial: Arc<Dial>,
    session: Arc<str>,
    /// Server and database, without secrets.
    pub(crate) location: Arc<str>,
}

impl Dialer {
    pub(crate) fn new<T>(config: Config, tls: T, options: &PostgresOptions) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::TlsConnect: Send,
        T::Stream: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let location = location(&config);
        let dial = move || {
            let (config, tls) = (config.clone(), tls.clone());
            let dialled = async move {
                let (client, mut connection) = config.connect(tls).await?;
                let driver: Driver = Box::new(move |context| connection.poll_message(context));
                Ok((client, driver))
            };
            Box::pin(dialled) as Boxed<_>
        };
        Self {
            dial: Arc::new(dial),
            session: session(options.statement_timeout.as_millis()).into(),
            location: location.into(),
        }
    }

    /// A connection that is not set up yet, and what drives it.
    pub(crate) async fn dial(&self) -> Result<(Client, Driver), Error> {
        (self.dial)().await
    }

    async fn connect(self) -> Result<Client, Error> {
        let (client, mut driver) = self.dial().await?;
        // Ends with the connection, which ends when the client is dropped or the server goes away.
        tokio::spawn(
            async move { while let Some(Ok(_)) = std::future::poll_fn(&mut driver).await {} },
        );
        client.batch_execute(&self.session).await?;
        Ok(client)
    }
}

fn location(config: &Config) -> String {
    let mut text = String::from("postgres:");
    for host in config.get_hosts() {
        let written = match host {
            tokio_postgres::config::Host::Tcp(name) => write!(text, "//{name}"),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => write!(text, "//{}", path.display()),
        };
        debug_assert!(written.is_ok(), "writing to a string");
    }
    text + "/" + config.get_dbname().unwrap_or_default()
}

/// The thread that drives the connections. It ends when this is dropped, and they with it.
pub(crate) struct Io {
    pub(crate) handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Io {
    pub(crate) fn start() -> Result<Self, EngineError> {
        let failed = |error| EngineError::io("starting a thread", error);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let drive = move || drop(runtime.block_on(stopped));
        thread::Builder::new()
            .name("eidetica-postgres".to_owned())
            .spawn(drive)
            .map_err(failed)?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }
}

/// A connection with the statements that it has prepared.
pub(crate) struct Connection {
    client: Client,
    prepared: [OnceLock<tokio_postgres::Statement>; Statement::COUNT],
    patience: Duration,
    sent: Arc<AtomicU64>,
}

impl Connection {
    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// One more message that the server is waited for.
    fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Several statements without parameters.
    pub(crate) fn execute(&self, statements: &str) -> Result<(), Failure> {
        self.count();
        let executed = wait_until(self.deadline(), self.client.batch_execute(statements));
        Ok(executed.ok_or(Failure::Timeout)??)
    }

    /// The one row of a statement without parameters.
    pub(crate) fn ask(&self, statement: &str) -> Result<Row, Failure> {
        self.count();
        let answer = wait_until(self.deadline(), self.client.query_one(statement, &[]));
        Ok(answer.ok_or(Failure::Timeout)??)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is a place for every statement"
    )]
    pub(crate) fn prepared(
        &self,
        which: Statement,
        schema: &Schema,
    ) -> Result<&tokio_postgres::Statement, Failure> {
        let place = &self.prepared[which.index()];
        if let Some(prepared) = place.get() {
            return Ok(prepared);
        }
        self.count();
        let prepared = wait_until(self.deadline(), self.client.prepare(&which.text(schema)));
        let prepared = prepared.ok_or(Failure::Timeout)??;
        Ok(place.get_or_init(|| prepared))
    }

    pub(crate) fn query(
        &self,
        statement: &tokio_postgres::Statement,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.count();
        let answer = wait_until(self.deadline(), self.client.query(statement, parameters));
        Ok(answer.ok_or(Failure::Timeout)??)
    }
}

/// Why a statement has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Server(Error),
    /// The server says nothing although it should have given up by now.
    Timeout,
    /// As many threads hold snapshots as may.
    Busy,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl Failure {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Server(error) => error.code(),
            Self::Timeout | Self::Busy => None,
        }
    }

    /// Whether the transaction was certainly undone because of others and may be tried again.
    pub(crate) fn is_clash(&self) -> bool {
        let codes = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// Whether there is no such table, column or function.
    pub(crate) fn is_missing(&self) -> bool {
        let codes = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// Whether the server may well be there later: it starts, is full, or does not answer.
    fn may_pass(&self) -> bool {
        let codes = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
        ];
        match self {
            Self::Timeout => true,
            Self::Busy => false,
            Self::Server(error) => match error.code() {
                Some(code) => codes.contains(code),
                None => error.is_closed() || has_io_cause(error),
            },
        }
    }

    /// What this means to the caller of an engine.
    pub(crate) fn engine_error(self, doing: &'static str) -> EngineError {
        let damaged = self.is_missing()
            || self.code().is_some_and(|code| {
                [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
            });
        let text = self.to_string();
        if damaged {
            EngineError::corrupt(format!("{doing} found: {text}"))
        } else {
            EngineError::io(doing, std::io::Error::other(text))
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("the server does not answer"),
            Self::Busy => f.write_str("too many snapshots are held"),
            Self::Server(error) => match (error.as_db_error(), error.source()) {
                (Some(said), _) => write!(f, "{} ({})", said.message(), said.code().code()),
                (None, Some(cause)) => write!(f, "{error}: {cause}"),
                (None, None) => error.fmt(f),
            },
        }
    }
}

fn has_io_cause(error: &Error) -> bool {
    error
        .source()
        .is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Where snapshots and the writer get their connections.
pub(crate) struct Pool {
    io: Io,
    dialer: Dialer,
    options: PostgresOptions,
    shared: Arc<Mutex<Shared>>,
    /// Told when a place becomes free.
    freed: Condvar,
    /// Messages that were waited for, on all connections.
    sent: Arc<AtomicU64>,
}

#[derive(Default)]
struct Shared {
    /// With when they were used; the last one used stands last.
    idle: VecDeque<(Instant, Connection)>,
    /// Whether somebody looks after those that nobody uses.
    is_tended: bool,
    /// How many snapshots that live each thread has begun.
    holders: HashMap<ThreadId, usize>,
}

/// A connection in the transaction of a snapshot, and the thread that has begun it.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    holder: ThreadId,
}

/// Closes connections that nobody has used for long, but for some that are kept; ends when there are no more than those.
async fn tend(shared: Weak<Mutex<Shared>>, kept: usize) {
    loop {
        tokio::time::sleep(SPARE).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut shared = shared.lock();
        let spare = shared.idle.len().saturating_sub(kept);
        let old = shared.idle.iter().take(spare);
        let old = old.take_while(|(used, _)| used.elapsed() >= SPARE).count();
        shared.idle.drain(..old);
        if shared.idle.len() <= kept {
            shared.is_tended = false;
            return;
        }
    }
}

impl Pool {
    pub(crate) fn new(io: Io, dialer: Dialer, options: PostgresOptions) -> Self {
        Self {
            io,
            dialer,
            options,
            shared: Arc::default(),
            freed: Condvar::new(),
            sent: Arc::default(),
        }
    }

    /// Counts the messages that were waited for.
    pub(crate) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    pub(crate) fn parts(&self) -> (&Io, &Dialer) {
        (&self.io, &self.dialer)
    }

    pub(crate) fn location(&self) -> &Arc<str> {
        &self.dialer.location
    }

    /// A new connection, tried for as long as the options say.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let dialled = self.io.handle.spawn(self.dialer.clone().connect());
            let failure = match wait_until(deadline, dialled) {
                Some(Ok(Ok(client))) => {
                    return Ok(Connection {
                        client,
                        prepared: Default::default(),
                        patience: self.options.statement_timeout + GRACE,
                        sent: self.sent(),
                    });
                }
                Some(Ok(Err(error))) => Failure::Server(error),
                Some(Err(_)) | None => Failure::Timeout,
            };
            if !failure.may_pass() || Instant::now() + RETRY >= deadline {
                return Err(failure);
            }
            thread::sleep(RETRY);
        }
    }

    /// A connection in the transaction of a new snapshot.
    pub(crate) fn lend(&self) -> Result<Lent, Failure> {
        let holder = thread::current().id();
        self.take_place(holder)?;
        let begun = self.begin().inspect_err(|_| self.free_place(holder));
        begun.map(|connection| Lent { connection, holder })
    }

    fn begin(&self) -> Result<Connection, Failure> {
        // Not `while let`, which would hold the lock meanwhile.
        loop {
            let idle = self.shared.lock().idle.pop_back();
            let Some((_, connection)) = idle else {
                break;
            };
            // One that was lost meanwhile may only be noticed now.
            match connection.execute(BEGIN) {
                Ok(()) => return Ok(connection),
                Err(failure) if failure.may_pass() => {}
                Err(failure) => return Err(failure),
            }
        }
        let connection = self.connect()?;
        connection.execute(BEGIN)?;
        Ok(connection)
    }

    /// Ends the snapshot. The connection is at once free for the next one, whose statements come after.
    pub(crate) fn take_back(&self, lent: Lent) {
        let Lent { connection, holder } = lent;
        begin(connection.client.batch_execute(END));
        let mut shared = self.shared.lock();
        if connection.is_open() {
            shared.idle.push_back((Instant::now(), connection));
        }
        let kept = self.options.idle_connections;
        if shared.idle.len() > kept && !std::mem::replace(&mut shared.is_tended, true) {
            let shared = Arc::downgrade(&self.shared);
            self.io.handle.spawn(tend(shared, kept));
        }
        drop(shared);
        self.free_place(holder);
    }

    /// Ends a snapshot whose connection is of no use any more.
    pub(crate) fn give_up(&self, lent: Lent) {
        drop(lent.connection);
        self.free_place(lent.holder);
    }

    /// Forgets the connections that nobody uses.
    pub(crate) fn clear(&self) {
        self.shared.lock().idle.clear();
    }

    /// Who has a place already does not wait: it would wait for others that wait for it.
    fn take_place(&self, holder: ThreadId) -> Result<(), Failure> {
        let deadline = Instant::now() + self.options.patience;
        let most = self.options.snapshots.max(1);
        let mut shared = self.shared.lock();
        while shared.holders.len() >= most && !shared.holders.contains_key(&holder) {
            if self.freed.wait_until(&mut shared, deadline).timed_out() {
                return Err(Failure::Busy);
            }
        }
        *shared.holders.entry(holder).or_default() += 1;
        Ok(())
    }

    fn free_place(&self, holder: ThreadId) {
        let mut shared = self.shared.lock();
        if let Some(held) = shared.holders.get_mut(&holder) {
            *held -= 1;
            if *held == 0 {
                shared.holders.remove(&holder);
                self.freed.notify_one();
            }
        }
    }
}
