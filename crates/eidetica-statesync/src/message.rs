//! What client and server say to each other, and its bytes. Nothing here is trusted or checked beyond its shape.
//!
//! Operations are opaque and stand at the end of their message; `docs/formats/statesync.md` shows every byte.

use eidetica_mmr::{
    Consistency, Leaves, Location, Proof, limits::RANGE_DIGESTS, read_varint, write_varint,
};
use thiserror::Error;

use crate::{Claim, DatabaseName, MessageError, limits};

/// The number of a request, which its reply repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The newest target.
    Target {
        /// Of which database.
        name: DatabaseName,
    },
    /// Operations, and the proof that they are those of the log at a size.
    Operations {
        /// The size.
        size: Leaves,
        /// The first operation.
        start: Location,
        /// The most of them.
        most: u64,
    },
    /// The proof that the log at a size is the beginning of the log at a later one.
    Consistency {
        /// The size.
        old: Leaves,
        /// The later one.
        new: Leaves,
    },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The newest target.
    Target(Claim),
    /// Operations one after the other, and their proof. It holds the pinned nodes: the peaks of all that is before
    /// the first of them.
    Operations {
        /// Against the root at the size that was asked about.
        proof: Proof,
        /// The bytes, which say themselves where each ends.
        operations: Vec<u8>,
    },
    /// That the log only grew.
    Consistency(Consistency),
    /// Nothing.
    Refused(Refusal),
}

/// Why a server does not answer. On the wire it is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed.
    #[error("the request is malformed")]
    Malformed,
    /// The request is of a kind that the server does not know.
    #[error("the request is of an unknown kind")]
    Unknown,
    /// The request is out of order or asks for nothing.
    #[error("the request asks for nothing that can be")]
    Impossible,
    /// The database is another one.
    #[error("the server has another database")]
    OtherDatabase,
    /// The database is empty.
    #[error("the database is empty")]
    NoTarget,
    /// The log is not that long yet.
    #[error("the log has {leaves} operations so far")]
    NotYet {
        /// How long it is.
        leaves: Leaves,
    },
    /// The operations are pruned.
    #[error("operations begin at {boundary}")]
    Pruned {
        /// The first that there is.
        boundary: Location,
    },
    /// Too many requests.
    #[error("the server is busy for {retry_ms} ms")]
    Busy {
        /// When to ask again.
        retry_ms: u64,
    },
    /// The server has trouble of its own.
    #[error("the server has trouble")]
    Unavailable,
}

/// Kinds of requests, for limits and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// [`Request::Target`].
    Target,
    /// [`Request::Operations`].
    Operations,
    /// [`Request::Consistency`].
    Consistency,
}

const TARGET: u8 = 1;
const OPERATIONS: u8 = 2;
const CONSISTENCY: u8 = 3;
/// Set in the kind of a reply.
const REPLY: u8 = 0x80;
const REFUSED: u8 = REPLY;

/// The kind of a request by its first byte.
#[must_use]
pub fn kind_of(request: &[u8]) -> Option<RequestKind> {
    match *request.first()? {
        TARGET => Some(RequestKind::Target),
        OPERATIONS => Some(RequestKind::Operations),
        CONSISTENCY => Some(RequestKind::Consistency),
        _ => None,
    }
}

/// What a request asks for, and how many operations of it: for limits of rates. `None` if it is malformed.
#[must_use]
pub fn asked(request: &[u8]) -> Option<(RequestKind, u64)> {
    let (_, request) = Request::decode(request).ok()?;
    let operations = match request {
        Request::Operations { most, .. } => most.min(limits::BATCH as u64),
        _ => 0,
    };
    Some((request.kind(), operations))
}

/// The number in the head of a message, whatever follows it.
#[must_use]
pub fn id_of(message: &[u8]) -> Option<RequestId> {
    let (_, rest) = message.split_first()?;
    Some(RequestId(read_varint(rest).ok()?.0))
}

impl Request {
    /// What it asks for.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Target { .. } => RequestKind::Target,
            Self::Operations { .. } => RequestKind::Operations,
            Self::Consistency { .. } => RequestKind::Consistency,
        }
    }

    /// The bytes, at most [`limits::REQUEST_BYTES`].
    #[must_use]
    pub fn encode(&self, id: RequestId) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        match self {
            Self::Target { name } => {
                head(&mut out, TARGET, id);
                write_varint(&mut out, name.as_str().len() as u64);
                out.extend_from_slice(name.as_str().as_bytes());
            }
            Self::Operations { size, start, most } => {
                head(&mut out, OPERATIONS, id);
                numbers(&mut out, &[size.0, start.0, *most]);
            }
            Self::Consistency { old, new } => {
                head(&mut out, CONSISTENCY, id);
                numbers(&mut out, &[old.0, new.0]);
            }
        }
        out
    }

    /// Reads a request that takes all of the bytes.
    ///
    /// # Errors
    /// [`MessageError`] unless they are what encoding makes.
    pub fn decode(bytes: &[u8]) -> Result<(RequestId, Self), MessageError> {
        let (kind, id, mut rest) = read_head(bytes, limits::REQUEST_BYTES)?;
        let request = match kind {
            TARGET => Self::Target {
                name: read_name(&mut rest)?,
            },
            OPERATIONS => Self::Operations {
                size: Leaves(number(&mut rest)?),
                start: Location(number(&mut rest)?),
                most: number(&mut rest)?,
            },
            CONSISTENCY => Self::Consistency {
                old: Leaves(number(&mut rest)?),
                new: Leaves(number(&mut rest)?),
            },
            found => return Err(MessageError::Kind { found }),
        };
        end(rest)?;
        Ok((id, request))
    }
}

impl Reply {
    /// The bytes, at most [`limits::REPLY_BYTES`] if the operations are at most
    /// [`limits::REPLY_OPERATIONS_BYTES`].
    #[must_use]
    pub fn encode(&self, id: RequestId) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Target(claim) => {
                head(&mut out, REPLY | TARGET, id);
                claim.write(&mut out);
            }
            Self::Operations { proof, operations } => {
                out.reserve(operations.len() + proof.digests.len() * 32 + 32);
                head(&mut out, REPLY | OPERATIONS, id);
                proof.encode(&mut out);
                out.extend_from_slice(operations);
            }
            Self::Consistency(proof) => {
                head(&mut out, REPLY | CONSISTENCY, id);
                proof.encode(&mut out);
            }
            Self::Refused(refusal) => {
                head(&mut out, REFUSED, id);
                let (code, detail) = refusal.number();
                out.push(code);
                write_varint(&mut out, detail);
            }
        }
        out
    }

    /// Reads a reply that takes all of the bytes.
    ///
    /// # Errors
    /// [`MessageError`] unless they are what encoding makes.
    pub fn decode(bytes: &[u8]) -> Result<(RequestId, Self), MessageError> {
        let (kind, id, mut rest) = read_head(bytes, limits::REPLY_BYTES)?;
        let reply = match kind.checked_sub(REPLY) {
            Some(TARGET) => Self::Target(Claim::decode(rest)?),
            Some(OPERATIONS) => {
                let (proof, operations) = Proof::read(rest, RANGE_DIGESTS)?;
                let operations = operations.to_vec();
                Self::Operations { proof, operations }
            }
            Some(CONSISTENCY) => Self::Consistency(Consistency::decode(rest)?),
            Some(0) => {
                let (code, after) = rest.split_first().ok_or(MessageError::Bytes)?;
                rest = after;
                let refusal = Refusal::of_number(*code, number(&mut rest)?)?;
                end(rest)?;
                Self::Refused(refusal)
            }
            _ => return Err(MessageError::Kind { found: kind }),
        };
        Ok((id, reply))
    }
}

impl Refusal {
    fn number(self) -> (u8, u64) {
        match self {
            Self::Malformed => (1, 0),
            Self::Unknown => (2, 0),
            Self::Impossible => (3, 0),
            Self::OtherDatabase => (4, 0),
            Self::NoTarget => (5, 0),
            Self::NotYet { leaves } => (6, leaves.0),
            Self::Pruned { boundary } => (7, boundary.0),
            Self::Busy { retry_ms } => (8, retry_ms),
            Self::Unavailable => (9, 0),
        }
    }

    fn of_number(code: u8, detail: u64) -> Result<Self, MessageError> {
        let refusal = match code {
            1 => Self::Malformed,
            2 => Self::Unknown,
            3 => Self::Impossible,
            4 => Self::OtherDatabase,
            5 => Self::NoTarget,
            6 => Self::NotYet {
                leaves: Leaves(detail),
            },
            7 => Self::Pruned {
                boundary: Location(detail),
            },
            8 => Self::Busy { retry_ms: detail },
            9 => Self::Unavailable,
            found => return Err(MessageError::Refusal { found }),
        };
        if refusal.number() == (code, detail) {
            Ok(refusal)
        } else {
            Err(MessageError::Bytes)
        }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, id: RequestId) {
    out.push(kind);
    write_varint(out, id.0);
}

fn numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| write_varint(out, *number));
}

fn read_head(bytes: &[u8], most: usize) -> Result<(u8, RequestId, &[u8]), MessageError> {
    let length = bytes.len();
    if length > most {
        return Err(MessageError::TooLarge { length });
    }
    let (kind, mut rest) = bytes.split_first().ok_or(MessageError::Bytes)?;
    let id = RequestId(number(&mut rest)?);
    Ok((*kind, id, rest))
}

fn read_name(rest: &mut &[u8]) -> Result<DatabaseName, MessageError> {
    let length = usize::try_from(number(rest)?).map_err(|_| MessageError::Bytes)?;
    let (name, after) = rest.split_at_checked(length).ok_or(MessageError::Bytes)?;
    *rest = after;
    let name = std::str::from_utf8(name).map_err(|_| MessageError::Bytes)?;
    Ok(DatabaseName::new(name)?)
}

fn number(rest: &mut &[u8]) -> Result<u64, MessageError> {
    let (number, after) = read_varint(rest).map_err(|_| MessageError::Bytes)?;
    *rest = after;
    Ok(number)
}

fn end(rest: &[u8]) -> Result<(), MessageError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(MessageError::Bytes)
    }
}
