//! The engine trait on PostgreSQL.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, PageBuilder,
    Plan, ScanLimit, Snapshot, Space, StoreHandle, Watch, Watchers, limits,
};
use parking_lot::Mutex;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row, Socket};

use crate::PostgresOptions;
use crate::listen::{self, Announcer};
use crate::pool::{Connection, Dialer, Failure, Io, Lent, Pool};
use crate::schema::{ABOVE_KEYS, FORMAT, PAGE_ROWS, Schema, Statement};

const NAME: &str = "postgres";
/// A connection that nobody uses is asked after this long, so that a lost one is noticed before it is used.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often a batch is tried that the server undid because of others.
const CLASHES: usize = 100;

/// An engine that keeps its rows in a schema of a PostgreSQL server; see the [crate](crate) for the rules.
pub struct PostgresEngine {
    handle: StoreHandle<Store>,
    watchers: Watchers,
    schema: Schema,
    round_trips: Arc<AtomicU64>,
}

struct Store {
    /// Made anew when it was lost between two batches.
    writer: Mutex<Option<Connection>>,
    pool: Pool,
    schema: Schema,
    announcer: Announcer,
    /// Whether the server may have batches that no durable one came after.
    unsynced: AtomicBool,
}

impl PostgresEngine {
    /// Connects to the server that a URL (`postgres://user@host/database`) names, unencrypted, and makes the schema if it is
    /// not there. `schema=NAME` among the parameters of the URL stands for [`PostgresOptions::schema`].
    ///
    /// # Errors
    /// [`EngineError::Foreign`] if the schema has tables that are not ours, [`EngineError::NewerFormat`],
    /// [`EngineError::Corrupt`] if ours are not complete, [`EngineError::Io`].
    pub fn open(url: &str) -> Result<Self, EngineError> {
        Self::open_with(url, PostgresOptions::default())
    }

    /// Connects with options; see [`PostgresEngine::open`].
    ///
    /// # Errors
    /// Those of [`PostgresEngine::open`].
    pub fn open_with(url: &str, options: PostgresOptions) -> Result<Self, EngineError> {
        Self::open_with_tls(url, NoTls, options)
    }

    /// Connects through a TLS connector of the caller's choice. `sslmode=require` in the URL refuses servers without
    /// TLS; whether a certificate is right is for the connector to say.
    ///
    /// # Errors
    /// Those of [`PostgresEngine::open`].
    pub fn open_with_tls<T>(
        url: &str,
        tls: T,
        options: PostgresOptions,
    ) -> Result<Self, EngineError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::TlsConnect: Send,
        T::Stream: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let deadline = Instant::now() + options.patience;
        let (config, schema) = parse(url, &options)?;
        let (io, dialer) = (Io::start()?, Dialer::new(config, tls, &options));
        let pool = Pool::new(io, dialer, options);
        let writer = pool.connect().map_err(opening)?;
        prepare(&writer, &schema, pool.location())?;
        let watchers = Watchers::default();
        let announcer = {
            let (io, dialer) = pool.parts();
            listen::start(
                io,
                dialer.clone(),
                schema.clone(),
                watchers.clone(),
                deadline,
            )?
        };
        let round_trips = pool.sent();
        let store = Store {
            writer: Mutex::new(Some(writer)),
            pool,
            schema: schema.clone(),
            announcer,
            unsynced: AtomicBool::new(true),
        };
        Ok(Self {
            handle: StoreHandle::new(store),
            watchers,
            schema,
            round_trips,
        })
    }

    /// How often the server was waited for since this was opened: statements, and those of a snapshot's beginning as
    /// one. For measurements.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }
}

/// Deletes a schema with everything in it, for good. Engines that are open on it fail from then on.
///
/// # Errors
/// [`EngineError::Io`].
pub fn remove(url: &str, options: PostgresOptions) -> Result<(), EngineError> {
    let (config, schema) = parse(url, &options)?;
    let (io, dialer) = (Io::start()?, Dialer::new(config, NoTls, &options));
    let pool = Pool::new(io, dialer, options);
    let removed = pool.connect().and_then(|one| one.execute(&schema.remove()));
    removed.map_err(|failure| failure.engine_error("removing"))
}

/// Takes the schema, which the driver does not know, out of the parameters.
fn parse(url: &str, options: &PostgresOptions) -> Result<(Config, Schema), EngineError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut schema = options.schema.as_str();
    let mut others = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("schema=") {
            Some(name) => schema = name,
            None => others.push(parameter),
        }
    }
    let mut config = Config::from_str(&format!("{base}?{}", others.join("&")))
        .map_err(|error| Failure::from(error).engine_error("reading the address"))?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(options.patience);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(options.statement_timeout);
    }
    if config.get_keepalives_idle() > KEEPALIVE {
        config.keepalives_idle(KEEPALIVE);
    }
    if config.get_application_name().is_none() {
        config.application_name("eidetica");
    }
    Ok((config, Schema::new(schema)?))
}

fn opening(failure: Failure) -> EngineError {
    failure.engine_error("opening")
}

/// Makes the schema if it is not there, one process at a time, and checks that it is what we know.
fn prepare(
    connection: &Connection,
    schema: &Schema,
    location: &Arc<str>,
) -> Result<(), EngineError> {
    let foreign = |detail: String| EngineError::Foreign {
        location: location.clone(),
        detail: detail.into(),
    };
    let is = |question: String| -> Result<bool, EngineError> {
        let answer = connection.ask(&question).map_err(opening)?;
        column(&answer, 0)
    };
    let run = |statements: &str| connection.execute(statements).map_err(opening);
    if !is(schema.has_label())? {
        run("BEGIN")?;
        run(&schema.lock_creation())?;
        if !is(schema.has_label())? {
            if is(schema.has_anything())? {
                run("ROLLBACK")?;
                return Err(foreign(format!("the schema {} is in use", schema.name)));
            }
            run(&schema.create())?;
        }
        run("COMMIT")?;
    }
    let label =
        connection
            .ask(&schema.read_label())
            .map_err(|failure| match failure.is_missing() {
                true => foreign(format!("the schema {} has another label", schema.name)),
                false => opening(failure),
            })?;
    let (engine, format): (&str, i32) = (column(&label, 0)?, column(&label, 1)?);
    if engine != "eidetica" {
        return Err(foreign(format!("the schema {} is {engine}'s", schema.name)));
    }
    if format > FORMAT {
        return Err(EngineError::NewerFormat {
            found: format.unsigned_abs(),
            supported: FORMAT.unsigned_abs(),
        });
    }
    for statement in [Statement::Write, Statement::Get] {
        connection.prepared(statement, schema).map_err(opening)?;
    }
    Ok(())
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, EngineError> {
    row.try_get(at)
        .map_err(|error| EngineError::corrupt(format!("the server answered with {error}")))
}

impl Engine for PostgresEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        let store = self.handle.store()?;
        let lent = store.pool.lend().map_err(reading)?;
        Ok(Box::new(PostgresSnapshot {
            lent: Some(lent),
            lost: AtomicBool::new(false),
            store,
        }))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        let plan = batch.plan()?;
        self.handle.change(|store| store.apply(&plan, durability))?;
        self.watchers.notify();
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.handle.change(Store::sync)
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.watchers.add(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.handle.close(|store| {
            store.sync()?;
            store.writer.lock().take();
            store.pool.clear();
            Ok(())
        })
    }

    fn info(&self) -> EngineInfo {
        let mut info = EngineInfo::new(NAME);
        info.persistent = true;
        info.shared = true;
        info
    }
}

impl std::fmt::Debug for PostgresEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresEngine")
            .field("schema", &self.schema.name)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A durable write of nothing, which takes with it what was written before.
    fn sync(&self) -> Result<(), EngineError> {
        self.apply(&Plan::default(), Durability::Durable)
    }

    fn apply(&self, plan: &Plan<'_>, durability: Durability) -> Result<(), EngineError> {
        let durable = durability == Durability::Durable;
        // A transaction that changes nothing would not sync what came before it.
        let changes = plan.writes.iter().any(|write| write.value.is_some());
        let mark = durable && (!changes || self.unsynced.load(Ordering::Relaxed));
        let call = Call::new(plan, durable, mark);
        let mut writer = self.writer.lock();
        for _ in 0..CLASHES {
            let connection = self.writer(&mut writer)?;
            match call.run(connection, &self.schema) {
                Ok(0) => {
                    self.unsynced.store(!durable, Ordering::Relaxed);
                    self.announcer.announce();
                    return Ok(());
                }
                Ok(place) => return Err(refusal(plan, place)),
                Err(failure) if failure.is_clash() => {}
                Err(failure) => {
                    writer.take();
                    return Err(failure.engine_error("writing"));
                }
            }
        }
        let busy = std::io::Error::other("others were always faster");
        Err(EngineError::io("writing", busy))
    }

    /// A connection that is ready to write. Nothing has been sent when this fails. Where the last one was lost before what
    /// it wrote relaxed was on stable storage, a server that stopped has lost that, and what would be written now was
    /// staged on top of it: that is a failure, too.
    fn writer<'a>(
        &self,
        writer: &'a mut Option<Connection>,
    ) -> Result<&'a Connection, EngineError> {
        let writing = |failure: Failure| failure.engine_error("connecting");
        let lost = writer.take_if(|connection| !connection.is_open());
        if lost.is_some() && self.unsynced.load(Ordering::Relaxed) {
            let lost = std::io::Error::new(
                std::io::ErrorKind::ConnectionReset,
                "the server was lost, and with it perhaps what was written relaxed",
            );
            return Err(EngineError::io("connecting", lost));
        }
        let connection = match writer.take() {
            Some(connection) => connection,
            None => self.pool.connect().map_err(writing)?,
        };
        connection
            .prepared(Statement::Write, &self.schema)
            .map_err(writing)?;
        Ok(writer.insert(connection))
    }
}

fn refusal(plan: &Plan<'_>, place: i64) -> EngineError {
    let place = usize::try_from(place - 1).ok();
    match place.and_then(|place| plan.expects.get(place)) {
        Some(expect) => EngineError::PreconditionFailed {
            space: expect.space,
            key: Bytes::copy_from_slice(expect.key),
        },
        None => EngineError::corrupt("the function in the schema answers what it cannot"),
    }
}

/// Rows, or ranges, as the arrays that the function takes.
#[derive(Default)]
struct Columns<'a, Last> {
    spaces: Vec<i16>,
    keys: Vec<&'a [u8]>,
    last: Vec<Last>,
}

impl<'a, Last> Columns<'a, Last> {
    fn push(&mut self, space: Space, key: &'a [u8], last: Last) {
        self.spaces.push(number(space));
        self.keys.push(key);
        self.last.push(last);
    }
}

/// The parameters of the function that writes.
struct Call<'a> {
    expects: Columns<'a, Option<&'a [u8]>>,
    clears: Columns<'a, &'a [u8]>,
    deletes: Columns<'a, ()>,
    puts: Columns<'a, &'a [u8]>,
    alone: bool,
    durable: bool,
    mark: bool,
}

impl<'a> Call<'a> {
    fn new(plan: &Plan<'a>, durable: bool, mark: bool) -> Self {
        let absent = plan.expects.iter().any(|expect| expect.value.is_none());
        let mut call = Self {
            expects: Default::default(),
            clears: Default::default(),
            deletes: Default::default(),
            puts: Default::default(),
            alone: absent || !plan.ranges.is_empty(),
            durable,
            mark,
        };
        for expect in &plan.expects {
            call.expects.push(expect.space, expect.key, expect.value);
        }
        for range in &plan.ranges {
            let below = range.end.unwrap_or(ABOVE_KEYS);
            call.clears.push(range.space, range.start, below);
        }
        for write in &plan.writes {
            match write.value {
                Some(value) => call.puts.push(write.space, write.key, value),
                None => call.deletes.push(write.space, write.key, ()),
            }
        }
        call
    }

    /// The place of an expectation that does not hold, counted from one, or zero.
    fn run(&self, connection: &Connection, schema: &Schema) -> Result<i64, Failure> {
        let statement = connection.prepared(Statement::Write, schema)?;
        let parameters: [&(dyn ToSql + Sync); 14] = [
            &self.expects.spaces,
            &self.expects.keys,
            &self.expects.last,
            &self.clears.spaces,
            &self.clears.keys,
            &self.clears.last,
            &self.deletes.spaces,
            &self.deletes.keys,
            &self.puts.spaces,
            &self.puts.keys,
            &self.puts.last,
            &self.alone,
            &self.durable,
            &self.mark,
        ];
        let answer = connection.query(statement, &parameters)?;
        // The one row of a function; without it the expectation before the first one fails.
        answer.first().map_or(Ok(-1), |row| Ok(row.try_get(0)?))
    }
}

fn number(space: Space) -> i16 {
    i16::from(space.number())
}

fn reading(failure: Failure) -> EngineError {
    failure.engine_error("reading")
}

struct PostgresSnapshot {
    /// Taken by the drop.
    lent: Option<Lent>,
    /// Whether the server left a question open.
    lost: AtomicBool,
    store: Arc<Store>,
}

impl PostgresSnapshot {
    fn query(
        &self,
        statement: Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, EngineError> {
        let Lent { connection, .. } = self.lent.as_ref().ok_or(EngineError::Closed)?;
        let rows = connection
            .prepared(statement, &self.store.schema)
            .and_then(|statement| connection.query(statement, parameters));
        rows.map_err(|failure| {
            if matches!(failure, Failure::Timeout) {
                self.lost.store(true, Ordering::Relaxed);
            }
            reading(failure)
        })
    }
}

impl Drop for PostgresSnapshot {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else {
            return;
        };
        match *self.lost.get_mut() {
            true => self.store.pool.give_up(lent),
            false => self.store.pool.take_back(lent),
        }
    }
}

impl Snapshot for PostgresSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.query(Statement::MultiGet, &[&number(space), &keys])?;
        let mut values = HashMap::with_capacity(rows.len());
        for row in &rows {
            let (key, value): (&[u8], &[u8]) = (column(row, 0)?, column(row, 1)?);
            values.insert(key, Bytes::copy_from_slice(value));
        }
        Ok(keys.iter().map(|key| values.get(key).cloned()).collect())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let rows = self.query(Statement::Get, &[&number(space), &key])?;
        let value = rows.first().map(|row| column::<&[u8]>(row, 0));
        Ok(value.transpose()?.map(Bytes::copy_from_slice))
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let limit = ScanLimit {
            rows: limit.rows.clamp(1, PAGE_ROWS),
            bytes: limit.bytes.min(limits::SCAN_BYTES),
        };
        // One more, to know whether there is one.
        let (most_rows, most_bytes) = (limit.rows as i64 + 1, limit.bytes as i64);
        let (start, end) = (&range.start, range.end.as_deref().unwrap_or(ABOVE_KEYS));
        let rows = self.query(
            Statement::Scan(direction),
            &[&number(space), start, &end, &most_rows, &most_bytes],
        )?;
        page(&rows, limit)
    }
}

fn page(rows: &[Row], limit: ScanLimit) -> Result<Page, EngineError> {
    let mut page = PageBuilder::new(limit);
    let mut bytes = 0;
    for row in rows {
        if page.is_full() {
            return Ok(page.finish(true));
        }
        let (key, value): (&[u8], &[u8]) = (column(row, 0)?, column(row, 1)?);
        bytes += key.len() + value.len();
        page.push(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }
    // What comes after the last byte is left out by the server, so there may be more.
    Ok(page.finish(bytes >= limit.bytes && !rows.is_empty()))
}
