//! When databases are synced without being asked: what the users of this instance want of each.

use std::collections::BTreeMap;

use eidetica_entry::Id;

use crate::{due::Due, limits};

/// What the users together want of a database: enabled if any of those who track it enables it, on commit if any of
/// those wants that, at the least of their intervals. The default is for one that nobody tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Whether it is synced at all in the background.
    pub enabled: bool,
    /// Whether changes travel at once, in both directions, to and from peers that are connected.
    pub on_commit: bool,
    /// Seconds between two rounds, at least one; none for no rounds.
    pub interval_s: Option<u64>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            enabled: true,
            on_commit: true,
            interval_s: Some(limits::INTERVAL_S),
        }
    }
}

impl Wishes {
    /// Whether peers that are connected tell each other of changes.
    pub(crate) fn is_live(&self) -> bool {
        self.enabled && self.on_commit
    }

    pub(crate) fn interval_ms(&self) -> Option<u64> {
        let seconds = self.interval_s.filter(|_| self.enabled)?;
        Some(seconds.max(1).saturating_mul(1000))
    }
}

/// The rounds of databases that are synced with somebody.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    wishes: BTreeMap<Id, Wishes>,
    /// When the last round was, of those that have rounds at all.
    last_ms: BTreeMap<Id, u64>,
    due: Due<Id>,
}

impl Schedule {
    pub(crate) fn wishes(&self, database: &Id) -> Wishes {
        self.wishes.get(database).copied().unwrap_or_default()
    }

    /// Takes what the users want from now on; the next round is due when it would be had they always wanted that.
    pub(crate) fn set(&mut self, database: Id, wishes: Option<Wishes>) {
        let last_ms = self.stop(&database);
        match wishes {
            Some(wishes) => self.wishes.insert(database, wishes),
            None => self.wishes.remove(&database),
        };
        if let Some(last_ms) = last_ms {
            self.start(database, last_ms);
        }
    }

    /// Begins rounds, unless there are some: as if the last one had been then.
    pub(crate) fn start(&mut self, database: Id, last_ms: u64) {
        if self.has(&database) {
            return;
        }
        self.last_ms.insert(database, last_ms);
        if let Some(due_ms) = self.due_of(&database) {
            self.due.set(database, due_ms);
        }
    }

    /// Ends rounds; says when the last one was.
    pub(crate) fn stop(&mut self, database: &Id) -> Option<u64> {
        self.due.remove(database);
        self.last_ms.remove(database)
    }

    /// Whether there are rounds, or would be if they had an interval.
    pub(crate) fn has(&self, database: &Id) -> bool {
        self.last_ms.contains_key(database)
    }

    fn due_of(&self, database: &Id) -> Option<u64> {
        let last_ms = self.last_ms.get(database)?;
        let interval_ms = self.wishes(database).interval_ms()?;
        Some(last_ms.saturating_add(interval_ms))
    }

    /// The databases whose round is due; the next one is counted from now.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<Id> {
        let due = self.due.take(now_ms);
        for id in &due {
            self.last_ms.remove(id);
            self.start(*id, now_ms);
        }
        due
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.due.next_ms()
    }
}
