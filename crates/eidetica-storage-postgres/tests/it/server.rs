//! What the engine does when the server goes away, is somebody else's, or runs out of patience.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use eidetica_storage::{Batch, Blame, Durability, Engine, EngineError, Space};
use eidetica_storage_postgres::{PostgresEngine, PostgresOptions, remove};
use eidetica_testkit::PostgresServer;

use crate::{fresh, open};

fn put(engine: &dyn Engine, key: &[u8]) -> Result<(), EngineError> {
    let mut batch = Batch::new();
    batch.put(Space::State, key, b"row");
    engine.write(&batch, Durability::Durable)
}

fn has(engine: &dyn Engine, key: &[u8]) -> Result<bool, EngineError> {
    Ok(engine.snapshot()?.get(Space::State, key)?.is_some())
}

#[test]
fn a_server_that_restarts_between_calls_is_not_noticed() {
    let server = PostgresServer::start(true).unwrap();
    let engine = open(server.url()).unwrap();
    let (heard, hints) = mpsc::channel();
    let _watch = engine.watch(Arc::new(move || {
        heard.send(()).ok();
    }));
    put(&*engine, b"before").unwrap();
    let held = engine.snapshot().unwrap();
    server.crash_and_restart().unwrap();

    // A snapshot is a moment of the server that is gone.
    let lost = held.get(Space::State, b"before");
    assert!(matches!(&lost, Err(EngineError::Io { .. })), "{lost:?}");
    assert_eq!(lost.unwrap_err().blame(), Blame::Unavailable);
    drop(held);
    assert!(has(&*engine, b"before").unwrap(), "it was acknowledged");
    put(&*engine, b"after").unwrap();
    assert!(has(&*engine, b"after").unwrap());

    // The listener is there again as well: what another engine writes is heard.
    while hints.try_recv().is_ok() {}
    let other = open(server.url()).unwrap();
    put(&*other, b"other").unwrap();
    hints.recv_timeout(Duration::from_secs(30)).unwrap();
}

#[test]
fn what_was_written_relaxed_is_not_called_durable_when_the_server_was_lost() {
    let server = PostgresServer::start(true).unwrap();
    let relaxed = |engine: &dyn Engine, key: &[u8]| {
        let mut batch = Batch::new();
        batch.put(Space::State, key, b"");
        engine.write(&batch, Durability::Relaxed)
    };
    // What a durable write has taken along is not in doubt.
    let engine = open(server.url()).unwrap();
    relaxed(&*engine, b"early").unwrap();
    put(&*engine, b"durable").unwrap();
    server.crash_and_restart().unwrap();
    put(&*engine, b"after").unwrap();
    assert!(has(&*engine, b"early").unwrap());

    for flushes in [true, false] {
        let engine = open(server.url()).unwrap();
        relaxed(&*engine, b"late").unwrap();
        server.crash_and_restart().unwrap();
        let gone_on = match flushes {
            true => engine.flush(),
            false => put(&*engine, b"on top"),
        };
        assert!(
            matches!(gone_on, Err(EngineError::Io { .. })),
            "{gone_on:?}"
        );
        let again = put(&*engine, b"on top");
        assert!(
            matches!(again, Err(EngineError::Poisoned { .. })),
            "{again:?}"
        );
    }
    assert!(!has(&*open(server.url()).unwrap(), b"on top").unwrap());
}

/// What transactions are by default is for the operator's other programs.
#[test]
fn a_server_of_careful_defaults_is_written_to_all_the_same() {
    let server = PostgresServer::start(false).unwrap();
    let careful = [
        "default_transaction_read_only=on",
        "default_transaction_isolation=serializable",
    ]
    .map(|setting| format!("-c%20{}", setting.replace('=', "%3D")))
    .join("%20");
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options={careful}", server.url());
    let engines = [open(&url).unwrap(), open(&url).unwrap()];
    thread::scope(|scope| {
        for engine in &engines {
            scope.spawn(|| (0..200_u8).for_each(|key| put(&**engine, &[1, key]).unwrap()));
        }
    });
    assert!(has(&*engines[0], &[1, 199]).unwrap());
}

/// A call of a connection that the server ends while it works: nobody can say whether it took effect.
#[test]
fn a_write_in_doubt_poisons() {
    let server = PostgresServer::start(false).unwrap();
    let engine = open(server.url()).unwrap();
    put(&*engine, b"before").unwrap();
    let other = open(server.url()).unwrap();
    let stuck = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut last = Ok(());
            while last.is_ok() {
                let mut batch = Batch::new();
                for key in 0..20_000_u32 {
                    batch.put(Space::State, &key.to_be_bytes(), &[0; 100]);
                }
                last = engine.write(&batch, Durability::Durable);
            }
            last
        });
        server.crash_and_restart().unwrap();
        // If it came between two calls, the next one goes on with a new connection; again, then.
        while !writer.is_finished() {
            server.crash_and_restart().unwrap();
        }
        writer.join().unwrap()
    });
    assert!(matches!(&stuck, Err(EngineError::Io { .. })), "{stuck:?}");
    assert!(matches!(
        put(&*engine, b"more"),
        Err(EngineError::Poisoned { .. })
    ));
    assert!(matches!(
        engine.snapshot().map(drop),
        Err(EngineError::Poisoned { .. })
    ));
    assert!(has(&*other, b"before").unwrap());
    assert!(has(&*open(server.url()).unwrap(), b"before").unwrap());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let schema = |url: &str| url.rsplit_once("schema=").unwrap().1.to_owned();
    let refused = |url: &str| PostgresEngine::open(url).map(drop).unwrap_err();

    let url = fresh();
    let name = schema(&url);
    execute(&format!(
        "CREATE SCHEMA {name}; CREATE TABLE {name}.mine (n int)"
    ));
    let error = refused(&url);
    assert!(matches!(error, EngineError::Foreign { .. }), "{error}");
    assert_eq!(error.blame(), Blame::Caller);
    assert!(
        !error.to_string().contains("postgres@"),
        "no secrets: {error}"
    );
    execute(&format!("DROP TABLE {name}.mine"));
    put(&*open(&url).unwrap(), b"row").unwrap();

    execute(&format!("UPDATE {name}.label SET format = 9"));
    let error = refused(&url);
    assert!(
        matches!(error, EngineError::NewerFormat { found: 9, .. }),
        "{error}"
    );
    execute(&format!("UPDATE {name}.label SET format = 1"));
    assert!(has(&*open(&url).unwrap(), b"row").unwrap());

    execute(&format!("DROP TABLE {name}.rows"));
    let error = refused(&url);
    assert_eq!(error.blame(), Blame::Corrupt, "{error}");

    execute(&format!("ALTER TABLE {name}.label RENAME engine TO other"));
    let error = refused(&url);
    assert!(matches!(error, EngineError::Foreign { .. }), "{error}");
}

/// Somebody else's statements, on the server of the tests.
fn execute(statements: &str) {
    elsewhere(async |client| client.batch_execute(statements).await.unwrap());
}

/// The number that a question of somebody else's is answered with.
fn number(question: &str) -> i64 {
    elsewhere(async |client| client.query_one(question, &[]).await.unwrap().get(0))
}

fn elsewhere<T>(work: impl AsyncFnOnce(tokio_postgres::Client) -> T) -> T {
    let url = PostgresServer::shared().url();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        work(client).await
    })
}

/// Callers within a runtime may not block on it, and the engine does not.
#[test]
fn it_works_inside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = open(&fresh()).unwrap();
        put(&*engine, b"row").unwrap();
        assert!(has(&*engine, b"row").unwrap());
        engine.close().unwrap();
    });
}

#[test]
fn addresses_that_make_no_sense_are_errors() {
    for url in ["nonsense", "postgres://localhost:notaport/x"] {
        let error = PostgresEngine::open(url).map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Io { .. }), "{url}: {error}");
    }
    let mut options = PostgresOptions::default();
    for name in ["", "Upper", "a-b", "pg_catalog", "a\"b", "1a"] {
        options.schema = name.to_owned();
        let url = PostgresServer::shared().url();
        let error = PostgresEngine::open_with(url, options.clone());
        assert!(error.is_err(), "{name}");
    }
}

#[test]
fn nobody_there_is_an_error_in_time() {
    let mut options = PostgresOptions::default();
    options.patience = Duration::from_millis(300);
    let dir = std::env::temp_dir()
        .display()
        .to_string()
        .replace('/', "%2F");
    let url = format!("postgres://x@{dir}:1/nothing");
    let error = PostgresEngine::open_with(&url, options)
        .map(drop)
        .unwrap_err();
    assert_eq!(error.blame(), Blame::Unavailable, "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn snapshots_beyond_the_limit_wait_and_then_fail() {
    let url = fresh();
    let mut options = PostgresOptions::default();
    options.snapshots = 2;
    options.patience = Duration::from_millis(500);
    let engine = PostgresEngine::open_with(&url, options).unwrap();
    let elsewhere = || thread::scope(|scope| scope.spawn(|| engine.snapshot()).join().unwrap());
    let held = [elsewhere().unwrap(), elsewhere().unwrap()];
    assert!(matches!(
        engine.snapshot().map(drop),
        Err(EngineError::Io { .. })
    ));
    drop(held);
    assert!(engine.snapshot().is_ok());
}

#[test]
fn whoever_holds_a_snapshot_has_another_at_once() {
    let url = fresh();
    let mut options = PostgresOptions::default();
    options.snapshots = 1;
    options.patience = Duration::from_millis(500);
    let engine = PostgresEngine::open_with(&url, options).unwrap();
    let elsewhere =
        || thread::scope(|scope| scope.spawn(|| engine.snapshot().map(drop)).join().unwrap());
    let held = engine.snapshot().unwrap();
    let more = [engine.snapshot().unwrap(), engine.snapshot().unwrap()];
    drop(held);
    assert!(elsewhere().is_err(), "not before the last one has ended");
    drop(more);
    assert!(elsewhere().is_ok());
}

#[test]
fn a_removed_schema_is_damage() {
    let url = fresh();
    let engine = open(&url).unwrap();
    put(&*engine, b"row").unwrap();
    remove(&url, PostgresOptions::default()).unwrap();
    let error = has(&*engine, b"row").unwrap_err();
    assert_eq!(error.blame(), Blame::Corrupt, "{error}");
    assert!(!has(&*open(&url).unwrap(), b"row").unwrap());
}

#[test]
fn connections_are_kept_for_the_next_ones_and_closed_when_nobody_uses_them() {
    let name = format!("spare_{}", std::process::id());
    let mut options = PostgresOptions::default();
    options.idle_connections = 1;
    let url = format!("{}&application_name={name}", fresh());
    let engine = PostgresEngine::open_with(&url, options).unwrap();
    let connections = || {
        let asked = format!(
            "SELECT count(*) FROM pg_stat_activity, pg_sleep(0.05) WHERE application_name = '{name}'"
        );
        number(&asked)
    };
    // One that writes and one that listens besides.
    let least = connections();
    for _ in 0..3 {
        let held = [(); 6].map(|()| engine.snapshot().unwrap());
        assert_eq!(connections(), least + 6);
        drop(held);
    }
    assert_eq!(connections(), least + 6);
    let begun = Instant::now();
    while connections() > least + 1 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            connections()
        );
    }
    assert!(has(&engine, b"row").is_ok());
}
