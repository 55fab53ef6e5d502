//! The answering side: one function from a request's bytes to a reply's, whatever carries them.

use std::ops::Range;

use eidetica_mmr::{Consistency, Leaves, Location, Proof};

use crate::message::{Refusal, Reply, Request, RequestId, RequestKind, id_of, kind_of};
use crate::{Claim, DatabaseName, MessageError, limits};

/// A database that is served. Several requests may be answered at a time.
pub trait Serve {
    /// The newest target: of a committed state, whose last operation is a commit. `None` if there is none yet.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    fn claim(&self) -> Result<Option<Claim>, Refusal>;

    /// Operations of a range and their proof against the root at a size: as many from the start as fit the bytes,
    /// at least one. The range is not empty, within the size, and at most [`limits::BATCH`] long.
    ///
    /// # Errors
    /// [`Refusal::NotYet`], [`Refusal::Pruned`], [`Refusal::Unavailable`].
    fn operations(
        &self,
        size: Leaves,
        range: Range<Location>,
        most_bytes: usize,
    ) -> Result<Shown, Refusal>;

    /// The proof that the log at a size is the beginning of the log at a later one.
    ///
    /// # Errors
    /// Those of [`Serve::operations`].
    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal>;
}

/// Operations with their proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Against the root at the size that was asked about.
    pub proof: Proof,
    /// Their bytes, one after the other.
    pub operations: Vec<u8>,
    /// How many.
    pub count: usize,
}

/// A reply as bytes, with what a server notes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What to send.
    pub message: Vec<u8>,
    /// What was asked, if that can be told.
    pub kind: Option<RequestKind>,
    /// How many operations it serves.
    pub operations: usize,
    /// Why it is none, if so.
    pub refusal: Option<Refusal>,
}

/// Answers a request. Costs what the database's own call does, however the request is made.
#[must_use]
pub fn respond(name: &DatabaseName, served: &impl Serve, request: &[u8]) -> Response {
    let kind = kind_of(request);
    let answered = Request::decode(request)
        .map_err(|error| match error {
            MessageError::Kind { .. } => Refusal::Unknown,
            _ => Refusal::Malformed,
        })
        .and_then(|(id, request)| Ok((id, answer(name, served, &request)?)));
    match answered {
        Ok((id, (reply, operations))) => Response {
            message: reply.encode(id),
            kind,
            operations,
            refusal: None,
        },
        Err(refusal) => Response {
            message: refuse(request, refusal),
            kind,
            operations: 0,
            refusal: Some(refusal),
        },
    }
}

/// Refuses a request without looking at it further, when its sender asks too often, say.
#[must_use]
pub fn refuse(request: &[u8], refusal: Refusal) -> Vec<u8> {
    let id = id_of(request).unwrap_or(RequestId(0));
    Reply::Refused(refusal).encode(id)
}

fn answer(
    name: &DatabaseName,
    served: &impl Serve,
    request: &Request,
) -> Result<(Reply, usize), Refusal> {
    match request {
        Request::Target { name: asked } if asked != name => Err(Refusal::OtherDatabase),
        Request::Target { .. } => {
            let claim = served.claim()?.ok_or(Refusal::NoTarget)?;
            Ok((Reply::Target(claim), 0))
        }
        Request::Operations { size, start, most } => {
            let range = clamp(*size, *start, *most)?;
            let shown = served.operations(*size, range, limits::REPLY_OPERATIONS_BYTES)?;
            let reply = Reply::Operations {
                proof: shown.proof,
                operations: shown.operations,
            };
            Ok((reply, shown.count))
        }
        Request::Consistency { old, new } if old > new || !new.is_possible() => {
            Err(Refusal::Impossible)
        }
        Request::Consistency { old, new } => {
            Ok((Reply::Consistency(served.consistency(*old, *new)?), 0))
        }
    }
}

/// The range of a request within its size and [`limits::BATCH`].
fn clamp(size: Leaves, start: Location, most: u64) -> Result<Range<Location>, Refusal> {
    if start.0 >= size.0 || most == 0 || !size.is_possible() {
        return Err(Refusal::Impossible);
    }
    let count = most.min(limits::BATCH as u64).min(size.0 - start.0);
    Ok(start..Location(start.0 + count))
}
