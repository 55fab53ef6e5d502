//! What goes into an engine and what comes out of it.

use std::fmt;
use std::sync::Arc;

use eidetica_mmr::{Frontier, Leaves, Location};

use crate::message::{Refusal, RequestId};
use crate::{Claim, ConfigError, DatabaseName, Evidence, Fault, Pin, Signature, Target, limits};

/// A server, by a number that the driver gives it. One that was dropped for its lies stays dropped under its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// How many bytes the first of some operations has, `None` if they do not begin with a whole one.
pub type Split = fn(&[u8]) -> Option<usize>;

/// Whether a signature over [`signed_bytes`](crate::signed_bytes) is that of the trusted signer.
pub type CheckSignature = Arc<dyn Fn(&[u8], &Signature) -> bool + Send + Sync>;

/// Whose targets are followed.
#[derive(Clone)]
pub enum Trust {
    /// Those of the sources themselves: whoever comes first is believed, later ones must continue it. A source can
    /// then show a log of its own making, though no other one later.
    Sources,
    /// Those that a signer signed, whichever source passes them on.
    Signer(CheckSignature),
    /// Those that the caller brings with [`Input::Target`]. Sources are not asked.
    Caller,
}

/// How an engine works.
#[derive(Clone)]
pub struct Config {
    /// Of which database.
    pub name: DatabaseName,
    /// How operations come apart.
    pub split: Split,
    /// Whose targets are followed.
    pub trust: Trust,
    /// The most operations in one request, at most [`limits::BATCH`]. Requests begin smaller.
    pub batch: usize,
    /// The most requests for operations in flight, at most [`limits::OUTSTANDING`].
    pub outstanding: usize,
    /// How long a source may take for one request.
    pub timeout_ms: u64,
    /// How often each source is asked for its target.
    pub target_interval_ms: u64,
    /// Bytes of verified operations that may wait for those in front of them, at most
    /// [`limits::AHEAD_BYTES`].
    pub ahead_bytes: usize,
    /// Whether a newer target is taken although nobody can show that it continues the held one, since every source
    /// has forgotten that: the log then begins anew. A signer's targets are as good as the signer; with
    /// [`Trust::Sources`] whoever is connected can end one log and begin another this way.
    pub cross_gaps: bool,
}

impl Config {
    /// The defaults: sources are believed, 1,000 operations in a request, 8 requests in flight, 10 seconds for each,
    /// a target every second, 64 MiB ahead, no gap is crossed.
    #[must_use]
    pub fn new(name: DatabaseName, split: Split) -> Self {
        Self {
            name,
            split,
            trust: Trust::Sources,
            batch: 1_000,
            outstanding: 8,
            timeout_ms: 10_000,
            target_interval_ms: 1_000,
            ahead_bytes: 64 << 20,
            cross_gaps: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let options = [
            ("batch", self.batch as u64, limits::BATCH as u64),
            (
                "outstanding",
                self.outstanding as u64,
                limits::OUTSTANDING as u64,
            ),
            ("timeout_ms", self.timeout_ms, limits::TIMEOUT_MS),
            (
                "target_interval_ms",
                self.target_interval_ms,
                limits::TARGET_INTERVAL_MS,
            ),
            (
                "ahead_bytes",
                self.ahead_bytes as u64,
                limits::AHEAD_BYTES as u64,
            ),
        ];
        for (option, found, most) in options {
            if found == 0 || found > most {
                return Err(ConfigError {
                    option,
                    found,
                    most,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("batch", &self.batch)
            .field("outstanding", &self.outstanding)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// What is there already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Local {
    /// The first operation that is kept.
    pub boundary: Location,
    /// The size and the peaks of the log. Whether it belongs to a target is found out.
    pub frontier: Frontier,
}

/// Whole operations, one after the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Operations {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// How many, at least one.
    pub count: usize,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.bytes.len();
        write!(f, "{} operations of {length} bytes", self.count)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// A source can be asked.
    Connected(SourceId),
    /// A source cannot be asked any more; what it was asked gets no reply.
    Disconnected(SourceId),
    /// A whole message came from a source.
    Reply {
        /// Which.
        source: SourceId,
        /// As it came.
        message: Vec<u8>,
    },
    /// A request gets no reply, but the source can still be asked others.
    Failed {
        /// Which.
        source: SourceId,
        /// The number that the request had.
        id: RequestId,
    },
    /// An [`Output::Restart`] or [`Output::Append`] was carried out: where the log stands now.
    Applied(Frontier),
    /// A target from the caller. It is checked like any other one.
    Target(Claim),
    /// A target from the caller that is taken without a proof that it continues the held one: somebody's decision after
    /// an alarm.
    Accept(Claim),
    /// The database refuses the operations of the present target, or cannot stand there: whoever made it is
    /// to blame. A newer one is waited for.
    Unfit,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send this to a source.
    Request {
        /// Which.
        source: SourceId,
        /// The number in the message.
        id: RequestId,
        /// The whole message.
        message: Vec<u8>,
        /// When the reply is not waited for any more.
        deadline_ms: u64,
    },
    /// Throw away what is there, or move it aside, and begin behind a boundary that is proven. Then
    /// [`Input::Applied`].
    Restart {
        /// The size and peaks before the first operation that will come.
        boundary: Frontier,
        /// Why.
        why: Restart,
    },
    /// Append verified operations, then [`Input::Applied`]. A few are handed out before the first is acknowledged.
    Append {
        /// Where the first one belongs: at the end of what is there.
        start: Location,
        /// What to append.
        operations: Operations,
    },
    /// From now on this target is worked towards.
    Adopted(Target),
    /// The log is that of the target: make it durable, forget what is before the lower bound.
    Complete(Target),
    /// Keep this durably instead of the earlier one, and give it to the next engine.
    Persist(Pin),
    /// What a source did.
    Feedback {
        /// Which.
        source: SourceId,
        /// What.
        feedback: Feedback,
    },
    /// Two targets do not go together. Keep both and tell somebody; the engine goes on with the held one.
    Alarm(Box<Evidence>),
    /// Every source has forgotten the held target. If it was crossed, keep both sides before what comes next.
    Gap(Box<Gap>),
    /// Nothing more is to be done before the next input or this time, `u64::MAX` for never.
    Timeout(u64),
}

/// A newer target of which nobody can show that it continues the held one: the sources have pruned what they would
/// need for that. It is no sign of a lie, as long as they keep history for less time than this side was away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What was held before.
    pub held: Claim,
    /// What was shown then. All that it needs is behind the held one.
    pub shown: Claim,
    /// Who showed it, `None` for the caller.
    pub source: Option<SourceId>,
    /// Whether it is held now, as [`Config::cross_gaps`] decides. Otherwise this is said once for each held target.
    pub crossed: bool,
}

/// Why a log is begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// There was nothing.
    Fresh,
    /// What was there ends before the lower bound, or begins after it.
    Behind,
    /// What was there does not belong to the target.
    WrongPrefix,
}

/// What a source did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feedback {
    /// It misbehaved.
    Fault(Fault),
    /// It let a request's time pass.
    Late,
    /// It refused a request.
    Refused(Refusal),
    /// It sends far fewer operations than asked for.
    Stingy,
    /// It is not asked any more before it is connected anew.
    Dropped(Dropped),
}

/// Why a source is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// It lied too often. Connecting it anew changes nothing.
    Lies,
    /// It failed too often in a row.
    Failures,
    /// There are [`limits::SOURCES`] others.
    Full,
}

impl fmt::Display for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Late => f.write_str("it did not answer in time"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Stingy => f.write_str("it sends far fewer operations than asked for"),
            Self::Dropped(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lies => "dropped: it lied too often",
            Self::Failures => "dropped: it failed too often in a row",
            Self::Full => "dropped: there are too many sources",
        })
    }
}

/// Where an engine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is worked towards.
    pub target: Option<Target>,
    /// Whether it is reached.
    pub complete: bool,
    /// How far the log is.
    pub applied: Leaves,
    /// Sources that can be asked.
    pub sources: usize,
    /// Requests in flight.
    pub outstanding: usize,
    /// Bytes of verified operations that wait for those in front of them.
    pub ahead_bytes: usize,
}

/// What was counted since the engine began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Requests sent, of all kinds.
    pub requests: u64,
    /// Replies that were of use.
    pub replies: u64,
    /// Operations received, verified or not.
    pub fetched_operations: u64,
    /// Operations verified.
    pub verified_operations: u64,
    /// Their bytes.
    pub verified_bytes: u64,
    /// Things sources did that no honest one does.
    pub faults: u64,
    /// Requests whose time passed.
    pub late: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that got no reply otherwise.
    pub failed: u64,
    /// Sources that were dropped.
    pub dropped: u64,
    /// Targets adopted.
    pub adopted: u64,
    /// Targets that did not advance.
    pub ignored: u64,
    /// Targets reached.
    pub completed: u64,
    /// Logs begun anew.
    pub restarts: u64,
    /// Alarms.
    pub alarms: u64,
    /// Gaps, crossed or not.
    pub gaps: u64,
}
