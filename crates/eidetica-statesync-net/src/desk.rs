//! Where requests are answered: rates first, then the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eidetica_statesync::message::{RequestKind, kind_of};
use eidetica_statesync::{DatabaseName, Refusal, Response, Serve, refuse, respond};

use crate::rates::{Cost, Peer, Rates};
use crate::server::ServeError;

/// What was answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answered {
    /// What was asked for, if it could be read.
    pub kind: Option<RequestKind>,
    /// Operations in the answer.
    pub operations: usize,
    /// Bytes of request and answer.
    pub bytes: (usize, usize),
    /// Why there is nothing in it.
    pub refusal: Option<Refusal>,
    /// How long it took.
    pub took: Duration,
}

/// Hears what a server does. Called from many threads.
pub trait Witness: Send + Sync + 'static {
    /// A request was answered.
    fn answered(&self, answered: &Answered) {
        let _ = answered;
    }

    /// Connections that stand, by one more or one less.
    fn connections(&self, change: i64) {
        let _ = change;
    }

    /// A connection ended otherwise than by its client closing it.
    fn failed(&self, error: &ServeError) {
        let _ = error;
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Witness for Silent {}

/// See the module.
pub(crate) struct Desk<S, W> {
    pub(crate) name: DatabaseName,
    pub(crate) served: Arc<S>,
    pub(crate) rates: Rates,
    pub(crate) witness: W,
}

impl<S: Serve, W: Witness> Desk<S, W> {
    /// Answers a request, or says when to ask again. May block.
    pub(crate) fn answer(&self, peer: &Peer, request: &[u8]) -> Vec<u8> {
        let since = Instant::now();
        let answer = match self.admit(peer, request) {
            Ok(()) => respond(&self.name, &*self.served, request),
            Err(busy) => Response {
                message: refuse(request, busy),
                kind: kind_of(request),
                operations: 0,
                refusal: Some(busy),
            },
        };
        self.witness.answered(&Answered {
            kind: answer.kind,
            operations: answer.operations,
            bytes: (request.len(), answer.message.len()),
            refusal: answer.refusal,
            took: since.elapsed(),
        });
        answer.message
    }

    fn admit(&self, peer: &Peer, request: &[u8]) -> Result<(), Refusal> {
        let cost = Cost::of(request);
        self.rates.take(peer, cost).map_err(|wait| Refusal::Busy {
            // Rounded up: whoever waits this long is served.
            retry_ms: u64::try_from(wait.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        })
    }
}
