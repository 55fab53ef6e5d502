//! What is to be done, is being done, and for whom.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_auth::RequestId;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::Outcome;

use crate::{
    CommandId, EngineError, Job, LinkId, Selection, TaskId, due::Due, fills::Fills, pairs::Pairs,
    ready::Ready,
};

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

/// What no two sessions with one peer are for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Same {
    Sync(Id),
    /// How an own request stands, asked by nobody.
    Status(RequestId),
}

impl UnitKind {
    pub(crate) fn same(&self) -> Option<Same> {
        match self {
            Self::Sync(database) => Some(Same::Sync(*database)),
            Self::Call(None, Job::Status(asked)) => Some(Same::Status(asked.id)),
            _ => None,
        }
    }
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

impl Purpose {
    pub(crate) fn same(&self) -> Option<Same> {
        match self {
            Self::Sync { database, .. } => Some(Same::Sync(*database)),
            Self::Call {
                command: None,
                job: Job::Status(asked),
            } => Some(Same::Status(asked.id)),
            Self::Call { .. } => None,
        }
    }
}

/// A command without a reply.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// Databases still to come, and what became of the others.
    pub(crate) left: usize,
    pub(crate) results: Vec<(Id, Result<Outcome, EngineError>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Work {
    next_task: u64,
    pub(crate) ready: Ready,
    /// Own requests of which the next question how they stand is in [`ready`](Self::ready), asked by nobody.
    pub(crate) asking: BTreeSet<RequestId>,
    pub(crate) syncs: Pairs<PairSync>,
    /// When syncs are tried again.
    pub(crate) retries: Due<(PublicKey, Id)>,
    pub(crate) fills: Fills,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) open: BTreeMap<CommandId, Open>,
    /// Until when each of these is to have a reply.
    pub(crate) deadlines: Due<CommandId>,
}

impl Work {
    pub(crate) fn new_task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task)
    }

    /// A unit is not in `ready` any more.
    pub(crate) fn leaves_ready(&mut self, kind: &UnitKind) {
        if let Some(Same::Status(request)) = kind.same() {
            self.asking.remove(&request);
        }
    }

    /// When the next retry or deadline is due.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let times = [
            self.retries.next_ms(),
            self.deadlines.next_ms(),
            self.fills.next_due_ms(),
        ];
        times.into_iter().flatten().min()
    }

    /// Pairs that nothing is known about any more need no entry.
    pub(crate) fn tidy(&mut self, pair: &(PublicKey, Id)) {
        let done = |sync: &PairSync| {
            !sync.running && !sync.is_wanted && sync.next.is_none() && sync.attempts == 0
        };
        if self.retries.get(pair).is_none() && self.syncs.get(pair).is_some_and(done) {
            self.syncs.remove(pair);
        }
    }

    /// Forgets what is to be done with a peer; what runs ends by itself.
    pub(crate) fn forget_peer(&mut self, peer: &PublicKey) {
        self.fills.forget_peer(peer);
        let pairs = self.syncs.of_peer(peer).map(|(of, _)| (*peer, *of));
        self.forget(pairs.collect());
    }

    /// Forgets what is to be done for a database; what runs ends by itself.
    pub(crate) fn forget_database(&mut self, database: &Id) {
        self.fills.forget_database(database);
        let pairs = self.syncs.peers_of(database).map(|of| (*of, *database));
        self.forget(pairs.collect());
    }

    fn forget(&mut self, pairs: Vec<(PublicKey, Id)>) {
        for pair in pairs {
            self.retries.remove(&pair);
            if self.syncs.get(&pair).is_some_and(|sync| !sync.running) {
                self.syncs.remove(&pair);
            }
        }
    }

    /// Forgets everything but what runs and who waits for a reply.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.asking.clear();
        self.syncs.clear();
        self.retries.clear();
        self.fills.clear();
    }
}
