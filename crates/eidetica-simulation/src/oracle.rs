//! What must hold, whatever happens: kept while a simulation runs, checked at its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eidetica_entry::{Id, PublicKey};

use crate::net::NodeId;

/// Dials from one node to one other within a minute. Retries double their wait up to a minute; what comes more often
/// are commands, and connections that were cut.
const DIALS_PER_MINUTE: usize = 60;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub node: NodeId,
    /// When, in milliseconds since the simulation began.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// What the simulation knows and no node does.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    violation: Option<Violation>,
    acknowledged: BTreeMap<NodeId, Vec<(Id, Id)>>,
    /// Who ever could read what; everybody, if none.
    readers: BTreeMap<Id, Option<BTreeSet<PublicKey>>>,
    dials: BTreeMap<(NodeId, NodeId), VecDeque<u64>>,
    /// The most dials within a minute.
    pub(crate) most_dials: usize,
}

impl Oracle {
    /// Remembers the first thing that went wrong.
    pub(crate) fn broken(&mut self, node: NodeId, at_ms: u64, what: String) {
        self.violation
            .get_or_insert(Violation { node, at_ms, what });
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// A user was told that an entry is durable.
    pub(crate) fn acknowledged(&mut self, node: NodeId, database: Id, entry: Id) {
        let entries = self.acknowledged.entry(node).or_default();
        entries.push((database, entry));
    }

    /// What a node must hold for ever.
    pub(crate) fn owed(&self, node: NodeId) -> &[(Id, Id)] {
        self.acknowledged.get(&node).map_or(&[], Vec::as_slice)
    }

    /// From now on this key may know of the database.
    pub(crate) fn let_in(&mut self, database: Id, key: PublicKey) {
        let readers = self
            .readers
            .entry(database)
            .or_insert_with(|| Some(BTreeSet::new()));
        if let Some(readers) = readers {
            readers.insert(key);
        }
    }

    /// From now on everybody may know of it.
    pub(crate) fn open_to_all(&mut self, database: Id) {
        self.readers.insert(database, None);
    }

    /// Whether one of these keys ever was allowed to read.
    pub(crate) fn may_know(&self, database: &Id, keys: &[PublicKey]) -> bool {
        match self.readers.get(database) {
            Some(Some(readers)) => keys.iter().any(|key| readers.contains(key)),
            Some(None) => true,
            None => false,
        }
    }

    /// A node dials another.
    pub(crate) fn dialled(&mut self, from: NodeId, to: NodeId, now_ms: u64) {
        let dials = self.dials.entry((from, to)).or_default();
        dials.push_back(now_ms);
        while dials.front().is_some_and(|at_ms| at_ms + 60_000 < now_ms) {
            dials.pop_front();
        }
        let count = dials.len();
        self.most_dials = self.most_dials.max(count);
        if count > DIALS_PER_MINUTE {
            self.broken(
                from,
                now_ms,
                format!("dials node {to} {count} times in a minute"),
            );
        }
    }
}
