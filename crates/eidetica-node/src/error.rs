//! What a command can fail with.

use eidetica_engine::{EngineError, RestoreError};
use eidetica_transport::{Scheme, TransportError};

/// Why a command of a [`NodeHandle`](crate::NodeHandle) failed. Reads as a fragment after "cannot sync: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The engine, a session or the peer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No transport is enabled at all, or none of this scheme.
    #[error("no transport enabled{}", .0.map(|scheme| format!(" for {scheme}")).unwrap_or_default())]
    NoTransport(Option<Scheme>),
    /// The server runs already.
    #[error("the server is running already")]
    ServerRunning,
    /// The server does not run.
    #[error("the server is not running")]
    ServerNotRunning,
    /// The node has stopped.
    #[error("the sync engine has stopped")]
    Stopped,
    /// Too many commands wait.
    #[error("too many commands wait")]
    Busy,
    /// The records of the last time cannot be read.
    #[error("cannot restore: {0}")]
    Restore(#[from] RestoreError),
    /// The backend failed.
    #[error("storage: {0}")]
    Backend(String),
    /// The system gave no thread or runtime.
    #[error("cannot start: {0}")]
    Start(String),
}
