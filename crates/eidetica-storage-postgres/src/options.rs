//! Where in a server the rows are, and how long to wait for it.

use std::time::Duration;

/// Settings of a [`PostgresEngine`](crate::PostgresEngine).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The schema that holds the rows: lower-case letters, digits and underscores. Default `eidetica`. Engines on
    /// one schema share their data.
    pub schema: String,
    /// Most threads that hold snapshots at one time; more wait. Default 32. A thread that holds one has another at
    /// once. There are two connections besides.
    pub snapshots: usize,
    /// Connections that are always kept for the next snapshot; more than these are closed when they were not used for ten
    /// seconds. Default 8.
    pub idle_connections: usize,
    /// How long a statement may take. Default one minute.
    pub statement_timeout: Duration,
    /// How long to go on trying to connect, or to wait for other snapshots to end. Default 30 seconds.
    pub patience: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "eidetica".to_owned(),
            snapshots: 32,
            idle_connections: 8,
            statement_timeout: Duration::from_secs(60),
            patience: Duration::from_secs(30),
        }
    }
}
