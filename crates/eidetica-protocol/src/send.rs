//! Packs on their way to a peer, with its access checked before every page of them.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_entry::{Id, Stamp};

use crate::{
    Answer, Closure, Cursor, Failure, IdPrefix, PackPage, ProvenKeys, Query, Stores, limits,
};

/// Which entries are to be sent.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// All that are not in the past of these.
    Beyond(Vec<Id>),
    /// Those whose ids begin like this.
    These(Vec<IdPrefix>),
    /// Payloads of those, and no entries that have none.
    Payloads(Vec<IdPrefix>),
}

/// A difference being sent. Asks for a page, asks whether the peer may still read, hands out the packs, and so on.
#[derive(Debug)]
pub(crate) struct Outflow {
    database: Id,
    wanted: Wanted,
    closures: Vec<Closure>,
    /// The payloads that are sent along.
    stores: Stores,
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
    pub(crate) fn new(
        database: Id,
        wanted: Wanted,
        closures: Vec<Closure>,
        stores: Stores,
    ) -> Self {
        let is_empty = match &wanted {
            Wanted::Beyond(_) => false,
            Wanted::These(ids) | Wanted::Payloads(ids) => ids.is_empty(),
        };
        Self {
            database,
            wanted,
            closures,
            stores,
            step: match is_empty {
                true => Step::Ended { denied: false },
                false => Step::Ask(None),
            },
            tips: Vec::new(),
            packs: 0,
        }
    }

    /// The next thing to do. `peer` is what the receiver has proven.
    pub(crate) fn poll(&mut self, peer: &ProvenKeys, now_ms: u64) -> Flow {
        let database = self.database;
        loop {
            match std::mem::replace(&mut self.step, Step::AwaitPage) {
                Step::Ask(cursor) => return Flow::Query(self.query(cursor)),
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

    /// What is asked for is said once: then the cursor knows.
    fn query(&mut self, cursor: Option<Cursor>) -> Query {
        let (database, budget_bytes) = (self.database, limits::PAGE_BYTES);
        let closures = std::mem::take(&mut self.closures);
        let stores = self.stores.clone();
        match &mut self.wanted {
            Wanted::Beyond(not) => Query::Difference {
                database,
                not: std::mem::take(not),
                closures,
                stores,
                cursor,
                budget_bytes,
            },
            Wanted::These(ids) => Query::Selected {
                database,
                ids: std::mem::take(ids),
                closures,
                stores,
                cursor,
                budget_bytes,
            },
            Wanted::Payloads(ids) => Query::Payloads {
                database,
                ids: std::mem::take(ids),
                stores,
                cursor,
                budget_bytes,
            },
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
