//! Payloads that are missing while the entries are the same: syncs that bring them, soon and not in vain for ever.

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::Outcome;

use crate::{Engine, due::Due, pairs::Pairs, work::PairSync};

/// Pairs that were synced for the sake of payloads.
#[derive(Debug, Default)]
pub(crate) struct Fills {
    all: Pairs<Fill>,
    /// When one is to come, of those that rest.
    due: Due<(PublicKey, Id)>,
}

#[derive(Debug, Default)]
struct Fill {
    /// Syncs in a row that brought nothing.
    vain: u32,
    /// Not before this.
    rest_until_ms: u64,
    /// Whether more turned out to be missing while one ran.
    is_wanted_again: bool,
}

impl Fills {
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.due.next_ms()
    }

    pub(crate) fn forget_peer(&mut self, peer: &PublicKey) {
        for pair in self.all.take_peer(peer) {
            self.due.remove(&pair);
        }
    }

    pub(crate) fn forget_database(&mut self, database: &Id) {
        for pair in self.all.take_database(database) {
            self.due.remove(&pair);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// Payloads are missing on one side that the other may have. Where a sync has brought none, the next one waits: each
    /// time twice as long.
    pub(crate) fn want_fill(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        let pair = (peer, database);
        let is_under_way = |sync: &PairSync| sync.running || sync.next.is_some();
        let is_under_way = self.work.syncs.get(&pair).is_some_and(is_under_way);
        let fill = self.work.fills.all.or_default(pair);
        match () {
            () if is_under_way => fill.is_wanted_again = true,
            () if now_ms < fill.rest_until_ms => {
                self.work.fills.due.set(pair, fill.rest_until_ms);
            }
            () => self.want_sync(peer, database, now_ms),
        }
    }

    pub(crate) fn run_fills(&mut self, now_ms: u64) {
        for (peer, database) in self.work.fills.due.take(now_ms) {
            self.want_sync(peer, database, now_ms);
        }
    }

    /// A sync succeeded.
    pub(crate) fn note_fill(&mut self, pair: (PublicKey, Id), outcome: &Outcome, now_ms: u64) {
        let is_vain = outcome.received.filled == 0 && outcome.packs_sent == 0;
        let Fills { all, due } = &mut self.work.fills;
        let Some(fill) = all.get_mut(&pair) else {
            return;
        };
        let was_due = due.remove(&pair).is_some();
        let is_due = std::mem::take(&mut fill.is_wanted_again) || was_due;
        if is_vain {
            fill.vain = fill.vain.saturating_add(1);
            fill.rest_until_ms = now_ms.saturating_add(self.jitter.backoff_ms(fill.vain));
        } else if is_due {
            (fill.vain, fill.rest_until_ms) = (0, now_ms);
        } else {
            all.remove(&pair);
            return;
        }
        if is_due {
            due.set(pair, fill.rest_until_ms);
        }
    }
}
