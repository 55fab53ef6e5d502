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

/// Registers a metric under its name and help.
macro_rules! register {
    ($registry:expr, $metrics:expr, { $($field:ident: $help:literal $(, $unit:expr)?;)* }) => {
        $(register!(@one $registry, stringify!($field), $help, $metrics.$field.clone() $(, $unit)?);)*
    };
    (@one $registry:expr, $name:expr, $help:literal, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    (@one $registry:expr, $name:expr, $help:literal, $metric:expr, $unit:expr) => {
        $registry.register_with_unit($name, $help, $unit, $metric)
    };
}

/// The server's. Clones count together.
#[derive(Clone)]
pub struct ServerMetrics {
    /// By what was asked.
    pub requests: Family<Kind, Counter>,
    /// By why they were not answered.
    pub refusals: Family<Reason, Counter>,
    /// By why connections ended otherwise than by being closed.
    pub errors: Family<Reason, Counter>,
    /// That stand.
    pub connections: Gauge,
    /// To the database.
    pub operations_added: Counter,
    /// To clients.
    pub operations_served: Counter,
    /// Of requests.
    pub received: Counter,
    /// Of answers.
    pub sent: Counter,
    /// Of the database.
    pub database_operations: Gauge,
    /// Before which nothing counts.
    pub database_lower_bound: Gauge,
    /// Of answering.
    pub request_duration: Family<Kind, Histogram, fn() -> Histogram>,
}

impl ServerMetrics {
    /// All of them at zero, and a registry that has them.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            requests: Family::default(),
            refusals: Family::default(),
            errors: Family::default(),
            connections: Gauge::default(),
            operations_added: Counter::default(),
            operations_served: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            database_operations: Gauge::default(),
            database_lower_bound: Gauge::default(),
            request_duration: Family::new_with_constructor(latencies),
        };
        let mut registry = Registry::with_prefix("sync_server");
        register!(registry, metrics, {
            requests: "Requests that were answered";
            refusals: "Requests that were refused";
            errors: "Connections that failed; one that its client closes is no error";
            connections: "Connections that stand";
            operations_added: "Operations added to the database";
            operations_served: "Operations sent to clients";
            received: "Requests", Unit::Bytes;
            sent: "Answers", Unit::Bytes;
            database_operations: "Operations in the database, pruned ones included";
            database_lower_bound: "The first operation that clients need";
            request_duration: "Time to answer a request", Unit::Seconds;
        });
        (metrics, registry)
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

/// The client's. Clones count together.
#[derive(Clone)]
pub struct ClientMetrics {
    /// To servers.
    pub requests: Counter,
    /// By why.
    pub errors: Family<Reason, Counter>,
    /// That a server showed.
    pub alarms: Counter,
    /// Received.
    pub operations_fetched: Counter,
    /// Proven and appended.
    pub operations_verified: Counter,
    /// Of answers.
    pub received: Counter,
    /// Of requests.
    pub sent: Counter,
    /// Number of the present or last sync.
    pub iteration: Gauge,
    /// Syncs that were completed.
    pub iterations_completed: Counter,
    /// Of the present or last sync, from 0 to 1.
    pub iteration_progress: Gauge<f64, AtomicU64>,
    /// Of what is synced to.
    pub target_operations: Gauge,
    /// Of the copy.
    pub database_operations: Gauge,
    /// That are connected.
    pub servers: Gauge,
    /// From a request to its answer.
    pub request_duration: Histogram,
    /// From the beginning of a sync to its completion.
    pub iteration_duration: Histogram,
}

impl ClientMetrics {
    /// All of them at zero, and a registry that has them.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            requests: Counter::default(),
            errors: Family::default(),
            alarms: Counter::default(),
            operations_fetched: Counter::default(),
            operations_verified: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            iteration: Gauge::default(),
            iterations_completed: Counter::default(),
            iteration_progress: Gauge::default(),
            target_operations: Gauge::default(),
            database_operations: Gauge::default(),
            servers: Gauge::default(),
            request_duration: latencies(),
            iteration_duration: Histogram::new(SYNC_SECONDS),
        };
        let mut registry = Registry::with_prefix("sync_client");
        register!(registry, metrics, {
            requests: "Requests to servers";
            errors: "What servers did wrong; one that closes its connection is no error";
            alarms: "Targets that cannot be true together";
            operations_fetched: "Operations received";
            operations_verified: "Operations proven";
            received: "Answers", Unit::Bytes;
            sent: "Requests", Unit::Bytes;
            iteration: "Number of the present or last sync";
            iterations_completed: "Syncs completed";
            iteration_progress: "Part of the present or last sync that is done, from 0 to 1";
            target_operations: "Operations of the present or last target, pruned ones included";
            database_operations: "Operations of the copy, pruned ones included";
            servers: "Servers that are connected";
            request_duration: "Time from a request to its answer", Unit::Seconds;
            iteration_duration: "Time of a sync", Unit::Seconds;
        });
        (metrics, registry)
    }

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
