//! Packs on their way to a peer, with its access checked before every page of them.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_entry::{Id, Stamp};

use crate::{Answer, Closure, Cursor, Failure, PackPage, ProvenKeys, Query, limits};

/// A difference being sent. Asks for a page, asks whether the peer may still read, hands out the packs, and so on.
#[derive(Debug)]
pub(crate) struct Outflow {
    database: Id,
    not: Vec<Id>,
    closures: Vec<Closure>,
    step: Step,
    /// Those of the difference, once the first page is there.
    pub(crate) tips: Vec<Stamp>,
    pub(crate) packs: u64,
}

#[derive(Debug)]
enum Step {
    Ask(Option<Cursor>),
    AwaitPage,
    Check(PackPage),
    AwaitAccess(PackPage),
    Send(VecDeque<Bytes>, Option<Cursor>),
    Ended { denied: bool },
}

/// What to do next.
pub(crate) enum Flow {
    Query(Query),
    Pack(Bytes),
    Wait,
    Ended { denied: bool },
}

impl Outflow {
    pub(crate) fn new(database: Id, not: Vec<Id>, closures: Vec<Closure>) -> Self {
        Self {
            database,
            not,
            closures,
            step: Step::Ask(None),
            tips: Vec::new(),
            packs: 0,
        }
    }

    /// The next thing to do. `peer` is what the receiver has proven.
    pub(crate) fn poll(&mut self, peer: &ProvenKeys, now_ms: u64) -> Flow {
        let database = self.database;
        loop {
            match std::mem::replace(&mut self.step, Step::AwaitPage) {
                Step::Ask(cursor) => {
                    return Flow::Query(Query::Difference {
                        database,
                        not: self.not.clone(),
                        closures: self.closures.clone(),
                        cursor,
                        budget_bytes: limits::PAGE_BYTES,
                    });
                }
                Step::AwaitPage => return Flow::Wait,
                Step::Check(page) => {
                    self.step = Step::AwaitAccess(page);
                    return Flow::Query(Query::CanRead {
                        database,
                        keys: peer.keys_for(&database, now_ms),
                    });
                }
                step @ Step::AwaitAccess(_) => {
                    self.step = step;
                    return Flow::Wait;
                }
                Step::Send(mut packs, next) => match (packs.pop_front(), next) {
                    (Some(pack), next) => {
                        self.step = Step::Send(packs, next);
                        self.packs += 1;
                        return Flow::Pack(pack);
                    }
                    (None, Some(next)) => self.step = Step::Ask(Some(next)),
                    (None, None) => self.step = Step::Ended { denied: false },
                },
                Step::Ended { denied } => {
                    self.step = Step::Ended { denied };
                    return Flow::Ended { denied };
                }
            }
        }
    }

    /// Takes the answer to the query that [`poll`](Self::poll) gave out.
    pub(crate) fn answer(&mut self, answer: Answer) -> Result<(), Failure> {
        let step = std::mem::replace(&mut self.step, Step::Ended { denied: true });
        self.step = match (step, answer) {
            (Step::AwaitPage, Answer::Packs(page)) => {
                if self.packs == 0 {
                    self.tips.clone_from(&page.tips);
                }
                // Nothing is sent, so nothing is to be checked.
                if page.packs.is_empty() {
                    Step::Send(VecDeque::new(), page.next)
                } else {
                    Step::Check(page)
                }
            }
            (Step::AwaitAccess(page), Answer::Access(true)) => {
                Step::Send(page.packs.into(), page.next)
            }
            (Step::AwaitAccess(_), Answer::Access(false)) => Step::Ended { denied: true },
            _ => return Err(Failure::Driver("answers another question than was asked")),
        };
        Ok(())
    }
}
