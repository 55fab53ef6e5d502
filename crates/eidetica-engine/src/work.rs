//! What is to be done, is being done, and for whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eidetica_auth::RequestId;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::Outcome;

use crate::{CommandId, EngineError, Job, LinkId, Selection, TaskId, fills::Fills};

/// What a command wants of a peer that is not reached yet.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) command: CommandId,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Connect,
    Sync { databases: Selection, create: bool },
    Call(Job),
}

/// One thing to do with a known peer, waiting for a connection or for its turn.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) peer: PublicKey,
    pub(crate) kind: UnitKind,
}

#[derive(Debug)]
pub(crate) enum UnitKind {
    Connect(CommandId),
    /// A connection for news.
    Live,
    /// The details are in [`Work::syncs`].
    Sync(Id),
    Call(Option<CommandId>, Job),
}

/// Syncs of one database with one peer: one runs, and at most one more is to come, for all who asked since.
#[derive(Debug, Default)]
pub(crate) struct PairSync {
    pub(crate) running: bool,
    pub(crate) next: Option<NextSync>,
    /// Whether one is to succeed, by itself; what the user queued stands with the pair.
    pub(crate) is_wanted: bool,
    /// Failed attempts in a row, in the background.
    pub(crate) attempts: u32,
    /// When to try again.
    pub(crate) due_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct NextSync {
    pub(crate) commands: Vec<CommandId>,
    pub(crate) create: bool,
}

/// A running session.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) link: LinkId,
    pub(crate) peer: PublicKey,
    pub(crate) purpose: Purpose,
}

#[derive(Debug)]
pub(crate) enum Purpose {
    Sync {
        database: Id,
        commands: Vec<CommandId>,
    },
    Call {
        command: Option<CommandId>,
        job: Job,
    },
}

/// A command without a reply.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) deadline_ms: u64,
    /// Databases still to come, and what became of the others.
    pub(crate) left: usize,
    pub(crate) results: Vec<(Id, Result<Outcome, EngineError>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Work {
    next_task: u64,
    pub(crate) ready: VecDeque<Unit>,
    /// Own requests of which the next question how they stand is in [`ready`](Self::ready), asked by nobody.
    pub(crate) asking: BTreeSet<RequestId>,
    pub(crate) syncs: BTreeMap<(PublicKey, Id), PairSync>,
    pub(crate) fills: Fills,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) open: BTreeMap<CommandId, Open>,
}

impl Work {
    pub(crate) fn new_task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task)
    }

    /// A unit is not in `ready` any more.
    pub(crate) fn leaves_ready(&mut self, unit: &Unit) {
        if let UnitKind::Call(None, Job::Status(request)) = &unit.kind {
            self.asking.remove(&request.id);
        }
    }

    /// When the next retry or deadline is due.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let retries = self.syncs.values().filter_map(|sync| sync.due_ms);
        retries
            .chain(self.open.values().map(|open| open.deadline_ms))
            .chain(self.fills.next_due_ms())
            .min()
    }

    /// Pairs that nothing is known about any more need no entry.
    pub(crate) fn tidy(&mut self, pair: &(PublicKey, Id)) {
        let done = |sync: &PairSync| {
            !sync.running
                && !sync.is_wanted
                && sync.next.is_none()
                && sync.due_ms.is_none()
                && sync.attempts == 0
        };
        if self.syncs.get(pair).is_some_and(done) {
            self.syncs.remove(pair);
        }
    }
}
