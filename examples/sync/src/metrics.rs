//! What both programs count, and the page that shows it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;
use eidetica_statesync::Refusal;
use eidetica_statesync::message::RequestKind;
use eidetica_statesync_net::{Answered, ServeError, Witness};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

/// What was asked: `target`, `operations`, `consistency` or `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    kind: &'static str,
}

/// Why something failed, in one word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

fn kind(kind: Option<RequestKind>) -> Kind {
    let kind = match kind {
        Some(RequestKind::Target) => "target",
        Some(RequestKind::Operations) => "operations",
        Some(RequestKind::Consistency) => "consistency",
        None => "unknown",
    };
    Kind { kind }
}

/// Upper bounds of the times of requests, in seconds.
const REQUEST_SECONDS: [f64; 11] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
];
/// Those of syncs.
const SYNC_SECONDS: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0];

fn latencies() -> Histogram {
    Histogram::new(REQUEST_SECONDS)
}

/// Defines the metrics of a program: each by its help, which is its documentation too, its name, its type, perhaps its
/// unit, and how it is made if not by default.
macro_rules! metrics {
    ($(#[$about:meta])* $metrics:ident, $prefix:literal: {
        $(#[doc = $help:literal] $field:ident: $type:ty $(, in $unit:expr)? $(, by $made:expr)?;)*
    }) => {
        $(#[$about])*
        #[derive(Clone)]
        pub struct $metrics {
            $(#[doc = $help] pub $field: $type,)*
        }

        impl $metrics {
            /// All of them at zero, and a registry that has them.
            #[must_use]
            pub fn new() -> (Self, Registry) {
                let metrics = Self {
                    $($field: metrics!(@made $($made)?),)*
                };
                let mut registry = Registry::with_prefix($prefix);
                $(
                    let (name, help, metric) = (stringify!($field), $help.trim(), metrics.$field.clone());
                    metrics!(@register registry, name, help, metric $(, $unit)?);
                )*
                (metrics, registry)
            }
        }
    };
    (@made) => { Default::default() };
    (@made $made:expr) => { $made };
    (@register $registry:ident, $name:ident, $help:ident, $metric:ident) => {
        $registry.register($name, $help, $metric)
    };
    (@register $registry:ident, $name:ident, $help:ident, $metric:ident, $unit:expr) => {
        $registry.register_with_unit($name, $help, $unit, $metric)
    };
}

metrics! {
    /// The server's. Clones count together.
    ServerMetrics, "sync_server": {
        /// Requests that were answered
        requests: Family<Kind, Counter>;
        /// Requests that were refused
        refusals: Family<Reason, Counter>;
        /// Connections that failed; one that its client closes is no error
        errors: Family<Reason, Counter>;
        /// Connections that stand
        connections: Gauge;
        /// Operations added to the database
        operations_added: Counter;
        /// Operations sent to clients
        operations_served: Counter;
        /// Requests
        received: Counter, in Unit::Bytes;
        /// Answers
        sent: Counter, in Unit::Bytes;
        /// Operations in the database, pruned ones included
        database_operations: Gauge;
        /// The first operation that clients need
        database_lower_bound: Gauge;
        /// Time to answer a request
        request_duration: Family<Kind, Histogram, fn() -> Histogram>, in Unit::Seconds,
            by Family::new_with_constructor(latencies);
    }
}

/// Counts what a server does.
impl Witness for ServerMetrics {
    fn answered(&self, answered: &Answered) {
        let kind = kind(answered.kind);
        self.requests.get_or_create(&kind).inc();
        self.request_duration
            .get_or_create(&kind)
            .observe(answered.took.as_secs_f64());
        self.operations_served.inc_by(answered.operations as u64);
        let (received, sent) = answered.bytes;
        self.received.inc_by(received as u64);
        self.sent.inc_by(sent as u64);
        if let Some(refusal) = &answered.refusal {
            let reason = refused(refusal);
            self.refusals.get_or_create(&Reason { reason }).inc();
        }
    }

    fn connections(&self, change: i64) {
        self.connections.inc_by(change);
    }

    fn failed(&self, error: &ServeError) {
        let reason = match error {
            ServeError::Identity(_) => "identity",
            ServeError::Idle => "idle",
            ServeError::NoPlace => "no_place",
            _ => "connection",
        };
        self.errors.get_or_create(&Reason { reason }).inc();
    }
}

fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Busy { .. } => "busy",
        Refusal::OtherDatabase => "other_database",
        Refusal::NotYet { .. } => "not_yet",
        Refusal::Pruned { .. } => "pruned",
        Refusal::NoTarget => "no_target",
        Refusal::Unavailable => "unavailable",
        _ => "malformed",
    }
}

metrics! {
    /// The client's. Clones count together.
    ClientMetrics, "sync_client": {
        /// Requests to servers
        requests: Counter;
        /// What servers did wrong; one that closes its connection is no error
        errors: Family<Reason, Counter>;
        /// Targets that cannot be true together
        alarms: Counter;
        /// Operations received
        operations_fetched: Counter;
        /// Operations proven
        operations_verified: Counter;
        /// Answers
        received: Counter, in Unit::Bytes;
        /// Requests
        sent: Counter, in Unit::Bytes;
        /// Number of the present or last sync
        iteration: Gauge;
        /// Syncs completed
        iterations_completed: Counter;
        /// Part of the present or last sync that is done, from 0 to 1
        iteration_progress: Gauge<f64, AtomicU64>;
        /// Operations of the present or last target, pruned ones included
        target_operations: Gauge;
        /// Operations of the copy, pruned ones included
        database_operations: Gauge;
        /// Servers that are connected
        servers: Gauge;
        /// Time from a request to its answer
        request_duration: Histogram, in Unit::Seconds, by latencies();
        /// Time of a sync
        iteration_duration: Histogram, in Unit::Seconds, by Histogram::new(SYNC_SECONDS);
    }
}

impl ClientMetrics {
    /// Counts something that went wrong.
    pub fn error(&self, reason: &'static str) {
        self.errors.get_or_create(&Reason { reason }).inc();
    }
}

/// Serves the page at `http://localhost:PORT/metrics`, as a task, and says at which port.
///
/// # Errors
/// The port is taken.
pub async fn serve(port: u16, registry: Registry) -> anyhow::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot show metrics at {address}, see --metrics-port"))?;
    let bound = listener.local_addr()?.port();
    let registry = Arc::new(registry);
    let page = move || async move {
        let mut text = String::new();
        // Writing into a string does not fail.
        encode(&mut text, &registry).ok();
        ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    };
    let app = Router::new().route("/metrics", get(page));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the metrics page is gone");
        }
    });
    Ok(bound)
}

/// The address of the page at a port.
#[must_use]
pub fn url(port: u16) -> String {
    format!("http://localhost:{port}/metrics")
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
