//! Who does what, where several processes are one instance: a lease for each peer that there is background work with.
//!
//! Each process writes a *beat* into a row of its own, every [`BEAT_MS`](limits::BEAT_MS). Whoever reads the same beat
//! [`DEAD_READS`](limits::DEAD_READS) times takes the process for dead, and what it held for free: no clock is compared
//! with another one. A process that could not write its beat for [`LEASE_MS`](limits::LEASE_MS) gives up what it
//! holds by itself, before anybody else may take it. Rows are written only if they are as they were read, so no two
//! processes hold one peer; each takes its share of them, and leaves the rest.
//!
//! One process alone has no leases: all is its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eidetica_entry::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{Action, Engine, PeerStatus, limits, peers::Pair, record};

/// Names one run of a process: random, so that nobody goes on with what a process before it held.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId([u8; 16]);

impl ProcessId {
    /// A process of this name.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    fn key(self) -> String {
        format!("{PROCESS}{:032x}", u128::from_be_bytes(self.0))
    }

    fn of_key(key: &str) -> Option<Self> {
        let hex = key.strip_prefix(PROCESS)?;
        let number = u128::from_str_radix(hex, 16).ok()?;
        Some(Self(number.to_be_bytes()))
    }

    /// How much this process is the one for a peer, against the others: random, and the same whoever asks.
    fn weight(self, peer: &PublicKey) -> u64 {
        let bytes = self.0.iter().chain(peer.as_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            let hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            hash ^ (hash >> 29)
        })
    }
}

impl std::fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key().trim_start_matches(PROCESS))
    }
}

/// The rows of processes: their beats.
const PROCESS: &str = "process/";
/// The rows of peers: who holds them.
const PEER: &str = "peer/";

fn peer_key(peer: &PublicKey) -> String {
    format!("{PEER}{}", record::key_key(peer))
}

fn peer_of_key(key: &str) -> Option<PublicKey> {
    record::parse_key(key.strip_prefix(PEER)?)
}

/// A row to write, if it is as expected; none stands for no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseChange {
    /// The row.
    pub key: String,
    /// What must be there.
    pub before: Option<Bytes>,
    /// What is there afterwards.
    pub after: Option<Bytes>,
}

/// A process, as its row was read.
#[derive(Debug)]
struct Seen {
    beat: Bytes,
    /// How often it was read so, at least a beat's time apart: hasty reads say nothing of it.
    reads: u32,
    /// When the last of these reads was asked for.
    counted_ms: u64,
}

impl Seen {
    /// What is known of a process after one more read.
    fn read(before: Option<Self>, beat: &Bytes, at_ms: u64) -> Self {
        match before {
            Some(seen) if seen.beat == *beat => {
                let is_late = at_ms >= seen.counted_ms.saturating_add(limits::BEAT_MS);
                match is_late {
                    true => Self {
                        reads: seen.reads.saturating_add(1),
                        counted_ms: at_ms,
                        ..seen
                    },
                    false => seen,
                }
            }
            _ => Self {
                beat: beat.clone(),
                reads: 0,
                counted_ms: at_ms,
            },
        }
    }
}

/// What was asked to be written.
#[derive(Debug)]
struct Asked {
    at_ms: u64,
    beat: Option<Bytes>,
}

#[derive(Debug)]
struct Several {
    me: ProcessId,
    beat: u64,
    rows: BTreeMap<String, Bytes>,
    processes: BTreeMap<ProcessId, Seen>,
    held: BTreeSet<PublicKey>,
    asked: Option<Asked>,
    due_ms: Option<u64>,
    /// Until when what is held is held for certain.
    until_ms: u64,
}

/// What this process holds.
#[derive(Debug, Default)]
pub(crate) struct Leases(Option<Several>);

impl Leases {
    pub(crate) fn new(me: Option<ProcessId>, now_ms: u64) -> Self {
        Self(me.map(|me| Several {
            me,
            beat: 0,
            rows: BTreeMap::new(),
            processes: BTreeMap::new(),
            held: BTreeSet::new(),
            asked: None,
            due_ms: Some(now_ms),
            until_ms: 0,
        }))
    }

    /// Whether background work with a peer is this process's.
    pub(crate) fn hold(&self, peer: &PublicKey) -> bool {
        self.0
            .as_ref()
            .is_none_or(|several| several.held.contains(peer))
    }

    /// There is something new to take.
    pub(crate) fn hurry(&mut self, now_ms: u64) {
        if let Some(several) = &mut self.0 {
            several.due_ms = Some(now_ms);
        }
    }

    /// When to beat, or to give up what could not be kept.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let several = self.0.as_ref()?;
        let lapse = (!several.held.is_empty()).then_some(several.until_ms);
        let due = several.due_ms.filter(|_| several.asked.is_none());
        due.into_iter().chain(lapse).min()
    }
}

impl Several {
    /// What to write: the beat, and what is taken and given back of these peers.
    fn plan(&mut self, wanted: &BTreeSet<PublicKey>, takes_part: bool) -> Vec<LeaseChange> {
        let mut changes = vec![self.own_row(takes_part)];
        let dead: Vec<ProcessId> = self.dead().collect();
        changes.extend(dead.iter().map(|process| self.change(process.key(), None)));
        let share = match takes_part {
            true => wanted.len().div_ceil(self.living()),
            false => 0,
        };
        let mut held: Vec<PublicKey> = self.held.intersection(wanted).copied().collect();
        held.sort_by_key(|peer| std::cmp::Reverse(self.me.weight(peer)));
        let kept: BTreeSet<PublicKey> = held.into_iter().take(share).collect();
        let given_back = self.held.difference(&kept);
        changes.extend(given_back.map(|peer| self.change(peer_key(peer), None)));
        let mut free: Vec<PublicKey> = wanted
            .difference(&self.held)
            .filter(|peer| self.is_free(peer))
            .copied()
            .collect();
        free.sort_by_key(|peer| std::cmp::Reverse(self.me.weight(peer)));
        let me = Bytes::copy_from_slice(&self.me.0);
        let taken = free.iter().take(share.saturating_sub(kept.len()));
        changes.extend(taken.map(|peer| self.change(peer_key(peer), Some(me.clone()))));
        changes.truncate(limits::LEASE_CHANGES);
        changes
    }

    fn own_row(&mut self, takes_part: bool) -> LeaseChange {
        self.beat += 1;
        let after = takes_part.then(|| record::encode(&self.beat));
        self.change(self.me.key(), after)
    }

    fn change(&self, key: String, after: Option<Bytes>) -> LeaseChange {
        let before = self.rows.get(&key).cloned();
        LeaseChange { key, before, after }
    }

    fn is_dead(&self, process: &ProcessId) -> bool {
        let seen = self.processes.get(process);
        *process != self.me && seen.is_none_or(|seen| seen.reads >= limits::DEAD_READS)
    }

    fn dead(&self) -> impl Iterator<Item = ProcessId> {
        self.processes
            .keys()
            .filter(|process| self.is_dead(process))
            .copied()
    }

    /// Processes that share the work, this one among them.
    fn living(&self) -> usize {
        let others = self.processes.keys().filter(|process| **process != self.me);
        1 + others.filter(|process| !self.is_dead(process)).count()
    }

    fn is_free(&self, peer: &PublicKey) -> bool {
        let holder = self.rows.get(&peer_key(peer));
        let holder = holder.and_then(|row| Some(ProcessId(row[..].try_into().ok()?)));
        // One that a process of this name left by mistake is its own.
        holder.is_none_or(|holder| holder == self.me || self.is_dead(&holder))
    }

    /// Takes what was read; says whose work changed hands.
    fn read(&mut self, rows: Vec<(String, Bytes)>) -> BTreeSet<PublicKey> {
        self.rows = rows.into_iter().collect();
        let asked = self.asked.take();
        let at_ms = asked.as_ref().map_or(0, |asked| asked.at_ms);
        let mut before = std::mem::take(&mut self.processes);
        for (key, beat) in &self.rows {
            let Some(process) = ProcessId::of_key(key) else {
                continue;
            };
            let seen = Seen::read(before.remove(&process), beat, at_ms);
            self.processes.insert(process, seen);
        }
        let own = self.rows.get(&self.me.key());
        let written = asked.filter(|asked| asked.beat.is_some() && asked.beat.as_ref() == own);
        if let Some(written) = &written {
            self.until_ms = written.at_ms.saturating_add(limits::LEASE_MS);
        }
        // Without a beat of its own, others may be about to take what the rows still say.
        let mine = |row: &Bytes| written.is_some() && row[..] == self.me.0;
        let held = self.rows.iter().filter(|(_, row)| mine(row));
        let held = held.filter_map(|(key, _)| peer_of_key(key)).collect();
        let before = std::mem::replace(&mut self.held, held);
        before.symmetric_difference(&self.held).copied().collect()
    }
}

impl Engine {
    /// What a process does in the background with a peer, none but it does.
    pub(crate) fn holds(&self, peer: &PublicKey) -> bool {
        self.leases.hold(peer)
    }

    /// The peers whose background work is this process's, where several are one instance.
    pub fn held_peers(&self) -> Vec<PublicKey> {
        let several = self.leases.0.iter();
        several.flat_map(|several| &several.held).copied().collect()
    }

    /// Peers that there is something to do with unasked.
    fn peers_with_work(&self) -> BTreeSet<PublicKey> {
        let is_work = |pair: &Pair| pair.queued || (pair.related && self.is_active);
        let active = self
            .peers
            .all()
            .filter(|info| info.status == PeerStatus::Active);
        let with_work = active.filter(|info| {
            let mut pairs = self.peers.pairs_of(&info.pubkey);
            pairs.any(|(_, pair)| is_work(pair))
        });
        with_work.map(|info| info.pubkey).collect()
    }

    /// There is something to do with a peer that may be nobody's yet.
    pub(crate) fn want_lease(&mut self, peer: &PublicKey, now_ms: u64) {
        if !self.holds(peer) {
            self.leases.hurry(now_ms);
        }
    }

    /// Beats, if it is time to.
    pub(crate) fn beat(&mut self, now_ms: u64) {
        self.let_lapse(now_ms);
        let is_due = |several: &Several| {
            several.asked.is_none() && several.due_ms.is_some_and(|due| now_ms >= due)
        };
        if !self.leases.0.as_ref().is_some_and(is_due) {
            return;
        }
        let wanted = match self.stopped {
            true => BTreeSet::new(),
            false => self.peers_with_work(),
        };
        let takes_part = !self.stopped && (self.is_active || !wanted.is_empty());
        let Some(several) = &mut self.leases.0 else {
            return;
        };
        let is_gone = several.held.is_empty() && !several.rows.contains_key(&several.me.key());
        if !takes_part && is_gone {
            // Whoever takes part in nothing looks now and then whether there is something to do.
            several.due_ms = Some(now_ms.saturating_add(limits::BEAT_MS));
            return;
        }
        let changes = several.plan(&wanted, takes_part);
        let beat = changes.first().and_then(|own| own.after.clone());
        several.asked = Some(Asked {
            at_ms: now_ms,
            beat,
        });
        several.due_ms = Some(now_ms.saturating_add(limits::BEAT_MS));
        self.actions.push_back(Action::Lease(changes));
    }

    /// What could not be kept is given up in time.
    fn let_lapse(&mut self, now_ms: u64) {
        let Some(several) = &mut self.leases.0 else {
            return;
        };
        if now_ms >= several.until_ms {
            let lost = std::mem::take(&mut several.held);
            lost.iter().for_each(|peer| self.change_hands(peer, now_ms));
        }
    }

    /// What stands in the rows; none if they were not read.
    pub(crate) fn handle_leases(&mut self, rows: Option<Vec<(String, Bytes)>>, now_ms: u64) {
        let Some(several) = &mut self.leases.0 else {
            return;
        };
        let Some(rows) = rows else {
            several.asked = None;
            return;
        };
        let is_first = several.rows.is_empty();
        let wanted = several.asked.as_ref().and_then(|asked| asked.beat.clone());
        let moved = several.read(rows);
        // Taken for dead meanwhile.
        let is_lost = wanted.is_some() && wanted.as_ref() != several.rows.get(&several.me.key());
        if is_first || is_lost || !moved.is_empty() {
            // There may be more to take now.
            several.due_ms = Some(now_ms);
        }
        for peer in &moved {
            self.change_hands(peer, now_ms);
        }
        self.beat(now_ms);
    }

    /// Begins or ends what is done with a peer in the background.
    fn change_hands(&mut self, peer: &PublicKey, now_ms: u64) {
        if self.holds(peer) {
            self.resume_rounds(peer, now_ms);
            self.wake_queued(peer, now_ms);
        }
        self.keep_live(peer, now_ms);
    }

    /// Gives everything back.
    pub(crate) fn leave(&mut self, now_ms: u64) {
        if let Some(several) = &mut self.leases.0 {
            (several.asked, several.due_ms) = (None, Some(now_ms));
        }
        self.beat(now_ms);
    }
}
