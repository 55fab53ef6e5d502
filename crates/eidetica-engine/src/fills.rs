//! Payloads that are missing while the entries are the same: syncs that bring them, soon and not in vain for ever.

use std::collections::BTreeMap;

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::Outcome;

use crate::{Engine, work::PairSync};

/// Pairs that were synced for the sake of payloads.
#[derive(Debug, Default)]
pub(crate) struct Fills(BTreeMap<(PublicKey, Id), Fill>);

#[derive(Debug, Default)]
struct Fill {
    /// Syncs in a row that brought nothing.
    vain: u32,
    /// Not before this.
    rest_until_ms: u64,
    /// Whether there is one to come then.
    is_due: bool,
    /// Whether more turned out to be missing while one ran.
    is_wanted_again: bool,
}

impl Fills {
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let due = self.0.values().filter(|fill| fill.is_due);
        due.map(|fill| fill.rest_until_ms).min()
    }

    fn take_due(&mut self, now_ms: u64) -> Vec<(PublicKey, Id)> {
        let due = |fill: &Fill| fill.is_due && now_ms >= fill.rest_until_ms;
        let due = self.0.iter_mut().filter(|(_, fill)| due(fill));
        due.map(|(pair, fill)| {
            fill.is_due = false;
            *pair
        })
        .collect()
    }

    pub(crate) fn forget_peer(&mut self, peer: &PublicKey) {
        self.0.retain(|(of, _), _| of != peer);
    }

    pub(crate) fn forget_database(&mut self, database: &Id) {
        self.0.retain(|(_, of), _| of != database);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Engine {
    /// Payloads are missing on one side that the other may have. Where a sync has brought none, the next one waits: each
    /// time twice as long.
    pub(crate) fn want_fill(&mut self, peer: PublicKey, database: Id, now_ms: u64) {
        let pair = (peer, database);
        let is_under_way = |sync: &PairSync| sync.running || sync.next.is_some();
        let is_under_way = self.work.syncs.get(&pair).is_some_and(is_under_way);
        let fill = self.work.fills.0.entry(pair).or_default();
        match () {
            () if is_under_way => fill.is_wanted_again = true,
            () if now_ms < fill.rest_until_ms => fill.is_due = true,
            () => self.want_sync(peer, database, now_ms),
        }
    }

    pub(crate) fn run_fills(&mut self, now_ms: u64) {
        for (peer, database) in self.work.fills.take_due(now_ms) {
            self.want_sync(peer, database, now_ms);
        }
    }

    /// A sync succeeded.
    pub(crate) fn note_fill(&mut self, pair: (PublicKey, Id), outcome: &Outcome, now_ms: u64) {
        let is_vain = outcome.received.filled == 0 && outcome.packs_sent == 0;
        let Some(fill) = self.work.fills.0.get_mut(&pair) else {
            return;
        };
        fill.is_due |= std::mem::take(&mut fill.is_wanted_again);
        if is_vain {
            fill.vain = fill.vain.saturating_add(1);
            fill.rest_until_ms = now_ms.saturating_add(self.jitter.backoff_ms(fill.vain));
        } else if fill.is_due {
            (fill.vain, fill.rest_until_ms) = (0, now_ms);
        } else {
            self.work.fills.0.remove(&pair);
        }
    }
}
