//! Which engine a test that works on any runs on.

use crate::PostgresServer;

/// The environment variable by which the test matrix selects an engine: `memory`, `fjall`, `redb`,
/// `sqlite` or `postgres`.
pub const TEST_ENGINE: &str = "EIDETICA_TEST_ENGINE";

/// The engines of the test matrix. A test opens them; the testkit depends on none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// In memory.
    Memory,
    /// fjall, in a directory.
    Fjall,
    /// redb, in a directory.
    Redb,
    /// SQLite, in a directory.
    Sqlite,
    /// PostgreSQL, on [`PostgresServer::shared`](crate::PostgresServer::shared).
    Postgres,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Memory,
        Self::Fjall,
        Self::Redb,
        Self::Sqlite,
        Self::Postgres,
    ];

    /// Those that can be had here. Says on standard error if PostgreSQL cannot.
    #[must_use]
    pub fn here() -> Vec<Self> {
        let mut kinds = Self::ALL.to_vec();
        if let Err(reason) = PostgresServer::available() {
            eprintln!("==> NOT tested on PostgreSQL: {reason}");
            kinds.retain(|kind| *kind != Self::Postgres);
        }
        kinds
    }
}

/// The engine that [`TEST_ENGINE`] selects; memory if it is not set.
///
/// # Panics
/// A value that is no engine.
#[must_use]
pub fn selected_engine() -> EngineKind {
    match std::env::var(TEST_ENGINE).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("memory") => EngineKind::Memory,
        Ok("fjall") => EngineKind::Fjall,
        Ok("redb") => EngineKind::Redb,
        Ok("sqlite") => EngineKind::Sqlite,
        Ok("postgres") => EngineKind::Postgres,
        other => panic!("{TEST_ENGINE} names no engine: {other:?}"),
    }
}
