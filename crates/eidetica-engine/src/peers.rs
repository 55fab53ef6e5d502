//! Peers, what is synced with them, and how that goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use eidetica_entry::{Id, PublicKey, Stamp};
use eidetica_protocol::{Failure, Holding, Outcome, PushOutcome};
use eidetica_transport::Address;
use serde::{Deserialize, Serialize};

use crate::{EngineError, Record, RestoreError, limits, merge::changed, pairs::Pairs, record};

/// How a peer is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerStatus {
    /// Synced with.
    #[default]
    Active,
    /// Not contacted in the background; may contact us, and may be contacted by command.
    Inactive,
    /// Not contacted and not answered.
    Blocked,
}

impl PeerStatus {
    /// What two processes made of one: a block of either stands.
    fn merge(base: Self, ours: Self, theirs: Self) -> Self {
        let is_blocked = |status| status == Self::Blocked && base != Self::Blocked;
        match is_blocked(ours) || is_blocked(theirs) {
            true => Self::Blocked,
            false => changed(&base, &ours, theirs),
        }
    }
}

impl fmt::Display for PeerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
            Self::Blocked => "Blocked",
        })
    }
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its device key.
    pub pubkey: PublicKey,
    /// What the user calls it.
    pub display_name: Option<String>,
    /// How it is treated.
    pub status: PeerStatus,
    /// Where it can be dialled, the last that worked first; given by the user or reached by one that was.
    pub addresses: Vec<Address>,
    /// When it was last connected (ms); none if never.
    pub last_seen_ms: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PeerRecord {
    name: Option<String>,
    status: PeerStatus,
    addresses: Vec<String>,
}

impl PeerRecord {
    pub(crate) fn is_blocked(&self) -> bool {
        self.status == PeerStatus::Blocked
    }

    /// What two processes made of `base`: of the addresses, those of both.
    pub(crate) fn merge(self, base: Self, theirs: Self) -> Self {
        let gone = |address: &String| {
            base.addresses.contains(address) && !self.addresses.contains(address)
        };
        let mut addresses = theirs.addresses;
        addresses.retain(|address| !gone(address));
        let new = self
            .addresses
            .iter()
            .filter(|address| !base.addresses.contains(address));
        let new: Vec<String> = new
            .filter(|address| !addresses.contains(address))
            .cloned()
            .collect();
        addresses.splice(0..0, new);
        addresses.truncate(limits::ADDRESSES);
        Self {
            name: changed(&base.name, &self.name, theirs.name),
            status: PeerStatus::merge(base.status, self.status, theirs.status),
            addresses,
        }
    }
}

/// How syncs with a peer went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// Syncs that reached their end.
    pub successes: u64,
    /// Syncs that did not.
    pub failures: u64,
    /// When one last succeeded (ms).
    pub last_success_ms: Option<u64>,
    /// When one last failed (ms).
    pub last_failure_ms: Option<u64>,
    /// When the peer was last connected (ms).
    pub last_seen_ms: Option<u64>,
    /// Entries that came in and were new.
    pub entries_received: u64,
    /// Bytes of frames, both ways.
    pub frame_bytes: u64,
}

impl PeerStats {
    /// The part of syncs that succeeded, 0 to 1; 0 before the first.
    pub fn sync_success_rate(&self) -> f64 {
        let all = self.successes.saturating_add(self.failures);
        if all == 0 {
            0.0
        } else {
            self.successes as f64 / all as f64
        }
    }
}

/// How far a database is synced with a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The greatest stamp that both had after the last sync.
    pub last: Option<Stamp>,
    /// The common frontier after the last sync: the hint for the next.
    pub common: Vec<Id>,
    /// When that was (ms).
    pub last_synced_ms: Option<u64>,
    /// The stores whose payloads the peer holds, and whether it may lack some of those that are here; none if that is
    /// not known. What it said or what the last sync found, whichever came later.
    pub holding: Option<Holding>,
}

/// A cursor as records of pairs and those of cursors have it that were written before payloads were looked at.
#[derive(Debug, Default, Serialize, Deserialize)]
struct OldCursor {
    last: Option<Stamp>,
    common: Vec<Id>,
    last_synced_ms: Option<u64>,
}

impl From<OldCursor> for Cursor {
    fn from(old: OldCursor) -> Self {
        Self {
            last: old.last,
            common: old.common,
            last_synced_ms: old.last_synced_ms,
            holding: None,
        }
    }
}

impl Cursor {
    fn encode(&self) -> bytes::Bytes {
        record::encode_as(record::CURSOR_FORMAT, self)
    }

    fn decode(key: &str, value: &[u8]) -> Result<Self, RestoreError> {
        match value.first() {
            Some(1) => record::decode::<OldCursor>(key, value).map(Self::from),
            _ => record::decode_as(record::CURSOR_FORMAT, key, value),
        }
    }
}

/// One sync that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastSync {
    /// When it ended (ms).
    pub at_ms: u64,
    /// Of which database.
    pub database: Id,
    /// Entries that came in and were new.
    pub received: u64,
    /// Entries that went out and were new there.
    pub sent: u64,
    /// Bytes of frames, both ways.
    pub frame_bytes: u64,
    /// Why it did not reach its end; none if it did. At most [`limits::REASON_BYTES`].
    pub error: Option<String>,
}

impl PastSync {
    fn new(database: Id, result: &Result<Outcome, Failure>, at_ms: u64) -> Self {
        let outcome = result.as_ref().ok();
        let sent = match outcome.map(|outcome| &outcome.push) {
            Some(PushOutcome::Done { new, .. }) => *new,
            _ => 0,
        };
        let error = result.as_ref().err().map(|failure| {
            let mut text = failure.to_string();
            let mut ends = (0..=limits::REASON_BYTES.min(text.len())).rev();
            text.truncate(ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0));
            text
        });
        Self {
            at_ms,
            database,
            received: outcome.map_or(0, |outcome| outcome.received.new),
            sent,
            frame_bytes: outcome.map_or(0, |outcome| outcome.frame_bytes),
            error,
        }
    }
}

/// What is written of a peer and a database.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PairRecord {
    related: bool,
    queued: bool,
    /// Where it was before cursors had records of their own; else empty.
    cursor: OldCursor,
}

impl PairRecord {
    /// What two processes made of `base`.
    pub(crate) fn merge(self, base: Self, theirs: Self) -> Self {
        Self {
            related: changed(&base.related, &self.related, theirs.related),
            queued: changed(&base.queued, &self.queued, theirs.queued),
            cursor: theirs.cursor,
        }
    }
}

/// A peer and a database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pair {
    /// Whether the database is synced with the peer.
    pub(crate) related: bool,
    /// Whether a sync is to be done in the background.
    pub(crate) queued: bool,
    pub(crate) cursor: Cursor,
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<PublicKey, PeerInfo>,
    stats: BTreeMap<PublicKey, PeerStats>,
    /// The last syncs, the oldest first.
    history: BTreeMap<PublicKey, VecDeque<PastSync>>,
    pairs: Pairs<Pair>,
    dirty_stats: BTreeSet<PublicKey>,
    dirty_pairs: BTreeSet<(PublicKey, Id)>,
    records: Vec<Record>,
}

impl Peers {
    pub(crate) fn get(&self, key: &PublicKey) -> Option<&PeerInfo> {
        self.peers.get(key)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.values()
    }

    pub(crate) fn stats(&self, key: &PublicKey) -> Option<&PeerStats> {
        self.stats.get(key)
    }

    pub(crate) fn history(&self, key: &PublicKey) -> impl Iterator<Item = &PastSync> {
        self.history.get(key).into_iter().flatten()
    }

    pub(crate) fn pair(&self, key: &PublicKey, database: &Id) -> Option<&Pair> {
        self.pairs.get(&(*key, *database))
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&(PublicKey, Id), &Pair)> {
        self.pairs.iter()
    }

    /// Those of a peer, by database.
    pub(crate) fn pairs_of(&self, key: &PublicKey) -> impl Iterator<Item = (&Id, &Pair)> {
        self.pairs.of_peer(key)
    }

    pub(crate) fn related(&self, key: &PublicKey) -> Vec<Id> {
        let all = self.pairs_of(key).filter(|(_, pair)| pair.related);
        all.map(|(database, _)| *database).collect()
    }

    /// The databases of which a sync with a peer is to be done in the background.
    pub(crate) fn queued(&self, key: &PublicKey) -> Vec<Id> {
        let all = self.pairs_of(key).filter(|(_, pair)| pair.queued);
        all.map(|(database, _)| *database).collect()
    }

    /// The peers that a database is synced with.
    pub(crate) fn related_to(&self, database: &Id) -> Vec<PublicKey> {
        let is_related = |peer: &&PublicKey| {
            let pair = self.pair(peer, database);
            pair.is_some_and(|pair| pair.related)
        };
        let all = self.pairs.peers_of(database);
        all.filter(is_related).copied().collect()
    }

    /// Remembers a peer; one that is known gets the name, if there is one.
    pub(crate) fn register(
        &mut self,
        key: PublicKey,
        name: Option<String>,
    ) -> Result<(), EngineError> {
        if name.as_ref().is_some_and(|name| {
            name.len() > limits::NAME_BYTES || name.chars().any(char::is_control)
        }) {
            return Err(EngineError::Name);
        }
        if !self.peers.contains_key(&key) && self.peers.len() >= limits::PEERS {
            return Err(EngineError::TooMany {
                what: "peers",
                limit: limits::PEERS,
            });
        }
        let known = self.peers.contains_key(&key);
        let peer = self.peers.entry(key).or_insert_with(|| PeerInfo {
            pubkey: key,
            display_name: None,
            status: PeerStatus::Active,
            addresses: Vec::new(),
            last_seen_ms: None,
        });
        if !known || (name.is_some() && peer.display_name != name) {
            peer.display_name = name.or(peer.display_name.take());
            self.write_peer(&key);
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) {
        self.peers.remove(key);
        self.stats.remove(key);
        self.history.remove(key);
        self.dirty_stats.remove(key);
        self.records.push(Record {
            key: record::Kind::History.key(record::key_key(key)),
            value: None,
        });
        self.records.push(Record {
            key: record::Kind::Peer.key(record::key_key(key)),
            value: None,
        });
        self.records.push(Record {
            key: record::Kind::Stats.key(record::key_key(key)),
            value: None,
        });
        for pair in self.pairs.take_peer(key) {
            self.write_pair(&pair);
            self.forget_cursor(&pair);
        }
    }

    /// Forgets a database; says with which peers it was synced.
    pub(crate) fn forget_database(&mut self, database: &Id) -> Vec<PublicKey> {
        let gone = self.pairs.take_database(database);
        for pair in &gone {
            self.write_pair(pair);
            self.forget_cursor(pair);
        }
        gone.into_iter().map(|(peer, _)| peer).collect()
    }

    fn forget_cursor(&mut self, pair: &(PublicKey, Id)) {
        self.dirty_pairs.remove(pair);
        self.records.push(Record {
            key: record::Kind::Cursor.key(record::pair_key(&pair.0, &pair.1)),
            value: None,
        });
    }

    pub(crate) fn set_status(
        &mut self,
        key: &PublicKey,
        status: PeerStatus,
    ) -> Result<(), EngineError> {
        self.known(key)?.status = status;
        self.write_peer(key);
        Ok(())
    }

    /// Puts the address first: it is the latest that was given, or that worked. It replaces what was known of the same
    /// Iroh endpoint, and drives out the last where there are too many.
    pub(crate) fn add_address(
        &mut self,
        key: &PublicKey,
        address: &Address,
    ) -> Result<(), EngineError> {
        let address = address.clone().without_key();
        let peer = self.known(key)?;
        let before = peer.addresses.clone();
        peer.addresses
            .retain(|other| *other != address && !other.is_same_endpoint(&address));
        peer.addresses.insert(0, address);
        peer.addresses.truncate(limits::ADDRESSES);
        if peer.addresses != before {
            self.write_peer(key);
        }
        Ok(())
    }

    pub(crate) fn remove_address(
        &mut self,
        key: &PublicKey,
        address: &Address,
    ) -> Result<(), EngineError> {
        let address = address.clone().without_key();
        self.known(key)?.addresses.retain(|other| *other != address);
        self.write_peer(key);
        Ok(())
    }

    /// Changes a pair and writes it at once.
    pub(crate) fn change_pair(
        &mut self,
        key: &PublicKey,
        database: &Id,
        change: impl FnOnce(&mut Pair),
    ) -> Result<(), EngineError> {
        self.known(key)?;
        let at = (*key, *database);
        if self.pairs.get(&at).is_none() && self.pairs.len() >= limits::PAIRS {
            return Err(EngineError::TooMany {
                what: "pairs of a peer and a database",
                limit: limits::PAIRS,
            });
        }
        let pair = self.pairs.or_default(at);
        let before = (pair.related, pair.queued);
        change(pair);
        if (pair.related, pair.queued) != before {
            self.write_pair(&at);
        }
        Ok(())
    }

    pub(crate) fn seen(&mut self, key: &PublicKey, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.last_seen_ms = Some(now_ms);
        self.stats.entry(*key).or_default().last_seen_ms = Some(now_ms);
        self.dirty_stats.insert(*key);
    }

    /// Counts a sync. Written later, with others.
    pub(crate) fn count(
        &mut self,
        key: &PublicKey,
        database: &Id,
        result: &Result<Outcome, Failure>,
        now_ms: u64,
    ) {
        if !self.peers.contains_key(key) {
            return;
        }
        let stats = self.stats.entry(*key).or_default();
        match result {
            Ok(outcome) => {
                stats.successes += 1;
                stats.last_success_ms = Some(now_ms);
                stats.entries_received += outcome.received.new;
                stats.frame_bytes += outcome.frame_bytes;
                self.advance_cursor(key, database, outcome, now_ms);
            }
            Err(_) => {
                stats.failures += 1;
                stats.last_failure_ms = Some(now_ms);
            }
        }
        let history = self.history.entry(*key).or_default();
        if history.len() >= limits::HISTORY {
            history.pop_front();
        }
        history.push_back(PastSync::new(*database, result, now_ms));
        self.dirty_stats.insert(*key);
    }

    /// The peer has these tips of a database, and they are ours.
    pub(crate) fn advance(&mut self, key: &PublicKey, database: &Id, tips: &[Stamp], now_ms: u64) {
        let Some(pair) = self.pairs.get_mut(&(*key, *database)) else {
            return;
        };
        let ids = tips.iter().map(|tip| tip.id);
        let common: Vec<Id> = ids.take(eidetica_protocol::limits::COMMON).collect();
        pair.cursor.last_synced_ms = Some(now_ms);
        pair.cursor.last = tips.iter().max().copied();
        pair.cursor.common = common;
        self.dirty_pairs.insert((*key, *database));
    }

    /// The peer has so much of the payloads of a database.
    pub(crate) fn note_holding(
        &mut self,
        key: &PublicKey,
        database: &Id,
        holding: Option<Holding>,
    ) {
        if let Some(pair) = self.pairs.get_mut(&(*key, *database))
            && pair.cursor.holding != holding
        {
            pair.cursor.holding = holding;
            self.dirty_pairs.insert((*key, *database));
        }
    }

    /// Counts entries that came with news. Written later, with others.
    pub(crate) fn received(&mut self, key: &PublicKey, new: u64) {
        if new > 0 && self.peers.contains_key(key) {
            self.stats.entry(*key).or_default().entries_received += new;
            self.dirty_stats.insert(*key);
        }
    }

    fn advance_cursor(&mut self, key: &PublicKey, database: &Id, outcome: &Outcome, now_ms: u64) {
        let Some(pair) = self.pairs.get_mut(&(*key, *database)) else {
            return;
        };
        pair.cursor.last_synced_ms = Some(now_ms);
        if outcome.complete && pair.cursor.common != outcome.common {
            pair.cursor.last = outcome.last;
            pair.cursor.common.clone_from(&outcome.common);
        }
        pair.cursor.holding = Some(outcome.holding.clone());
        self.dirty_pairs.insert((*key, *database));
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty_stats.is_empty() || !self.dirty_pairs.is_empty()
    }

    /// Writes what was put off.
    pub(crate) fn flush(&mut self) {
        for key in std::mem::take(&mut self.dirty_stats) {
            let value = self.stats.get(&key).map(record::encode);
            self.records.push(Record {
                key: record::Kind::Stats.key(record::key_key(&key)),
                value,
            });
            if let Some(history) = self.history.get(&key) {
                self.records.push(Record {
                    key: record::Kind::History.key(record::key_key(&key)),
                    value: Some(record::encode(history)),
                });
            }
        }
        for pair in std::mem::take(&mut self.dirty_pairs) {
            let value = self.pairs.get(&pair).map(|pair| pair.cursor.encode());
            self.records.push(Record {
                key: record::Kind::Cursor.key(record::pair_key(&pair.0, &pair.1)),
                value,
            });
        }
    }

    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn restore(
        &mut self,
        kind: record::Kind,
        rest: &str,
        key: &str,
        value: &[u8],
    ) -> Result<(), RestoreError> {
        let corrupt = || RestoreError::Corrupt {
            key: key.to_owned(),
        };
        match kind {
            record::Kind::Peer => {
                let pubkey = record::parse_key(rest).ok_or_else(corrupt)?;
                let PeerRecord {
                    name,
                    status,
                    addresses,
                } = record::decode(key, value)?;
                let addresses = addresses
                    .iter()
                    .map(|text| text.parse().map_err(|_| corrupt()));
                let addresses = addresses.collect::<Result<_, _>>()?;
                let before = self.peers.get(&pubkey);
                let info = PeerInfo {
                    pubkey,
                    display_name: name,
                    status,
                    addresses,
                    last_seen_ms: before.and_then(|before| before.last_seen_ms),
                };
                self.peers.insert(pubkey, info);
            }
            record::Kind::Stats => {
                self.stats.insert(
                    record::parse_key(rest).ok_or_else(corrupt)?,
                    record::decode(key, value)?,
                );
            }
            record::Kind::History => {
                self.history.insert(
                    record::parse_key(rest).ok_or_else(corrupt)?,
                    record::decode(key, value)?,
                );
            }
            record::Kind::Cursor => {
                let pair = record::parse_pair(rest).ok_or_else(corrupt)?;
                self.pairs.or_default(pair).cursor = Cursor::decode(key, value)?;
            }
            _ => {
                let pair = record::parse_pair(rest).ok_or_else(corrupt)?;
                let PairRecord {
                    related,
                    queued,
                    cursor,
                } = record::decode(key, value)?;
                let known = self.pairs.or_default(pair);
                (known.related, known.queued) = (related, queued);
                if known.cursor.last_synced_ms.is_none() && cursor.last_synced_ms.is_some() {
                    known.cursor = cursor.into();
                    self.dirty_pairs.insert(pair);
                }
            }
        }
        Ok(())
    }

    /// Another process has forgotten a peer: what this one keeps of it goes as well.
    pub(crate) fn meet_removed(&mut self, key: &PublicKey) {
        let before = self.records.len();
        self.remove(key);
        let mut new = self.records.split_off(before);
        new.retain(|record| !record.is_shared());
        self.records.append(&mut new);
    }

    /// Another process has forgotten a pair.
    pub(crate) fn meet_unpaired(&mut self, pair: &(PublicKey, Id)) {
        if self.pairs.remove(pair).is_some() {
            self.forget_cursor(pair);
        }
    }

    /// After all records: what belongs together comes together.
    pub(crate) fn finish_restore(&mut self) {
        for (key, peer) in &mut self.peers {
            peer.last_seen_ms = self.stats.get(key).and_then(|stats| stats.last_seen_ms);
        }
        let peers = &self.peers;
        self.stats.retain(|key, _| peers.contains_key(key));
        self.history.retain(|key, _| peers.contains_key(key));
        let of_none = self.pairs.iter().map(|(pair, _)| *pair);
        let of_none: Vec<_> = of_none
            .filter(|(key, _)| !peers.contains_key(key))
            .collect();
        for pair in of_none {
            self.pairs.remove(&pair);
        }
    }

    fn known(&mut self, key: &PublicKey) -> Result<&mut PeerInfo, EngineError> {
        self.peers
            .get_mut(key)
            .ok_or(EngineError::UnknownPeer(*key))
    }

    fn write_peer(&mut self, key: &PublicKey) {
        let value = self.peers.get(key).map(|peer| {
            record::encode(&PeerRecord {
                name: peer.display_name.clone(),
                status: peer.status,
                addresses: peer.addresses.iter().map(Address::to_string).collect(),
            })
        });
        self.records.push(Record {
            key: record::Kind::Peer.key(record::key_key(key)),
            value,
        });
    }

    fn write_pair(&mut self, pair: &(PublicKey, Id)) {
        let value = self.pairs.get(pair).map(|pair| {
            record::encode(&PairRecord {
                related: pair.related,
                queued: pair.queued,
                cursor: OldCursor::default(),
            })
        });
        self.records.push(Record {
            key: record::Kind::Pair.key(record::pair_key(&pair.0, &pair.1)),
            value,
        });
    }
}
