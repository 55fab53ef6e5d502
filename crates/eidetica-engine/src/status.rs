//! How things stand, for those who ask.

use std::fmt;

use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{Digest, Holding};

use crate::{Engine, links::DialTarget, streams::Held};

/// Whether a peer is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// News travel both ways, on a connection that this node made.
    Connected {
        /// Since when (ms).
        since_ms: u64,
        /// When the peer last answered a check (ms).
        checked_ms: Option<u64>,
    },
    /// News travel both ways, on a connection that the peer made.
    Subscribed {
        /// Since when (ms).
        since_ms: u64,
    },
    /// A connection is being made.
    Dialling,
    /// The last attempt failed.
    Waiting {
        /// Attempts that failed in a row.
        attempts: u32,
        /// When the next one is due (ms).
        due_ms: u64,
        /// Why the last one failed.
        error: Option<String>,
    },
    /// No connection is kept: nothing is synced with it at once, or there is no address.
    Apart,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connected { .. } | Self::Subscribed { .. } => "connected",
            Self::Dialling => "connecting",
            Self::Waiting { .. } => "unreachable",
            Self::Apart => "not connected",
        })
    }
}

/// How a database stands with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairState {
    /// The peer.
    pub peer: PublicKey,
    /// Whether the database is synced with it from here; else it only listens.
    pub is_related: bool,
    /// Whether a sync runs now.
    pub is_running: bool,
    /// Whether a sync is still to succeed, and when it is tried again if it failed (ms).
    pub is_queued: bool,
    /// When a failed sync is tried again (ms).
    pub retry_ms: Option<u64>,
    /// The frontier that both have, as far as is known.
    pub common: Vec<Id>,
    /// The state of the peer's copy, as it said on a live stream.
    pub held: Option<Digest>,
    /// The stores whose payloads the peer holds, and whether it may lack some of those that are here; none if that is
    /// not known.
    pub holding: Option<Holding>,
    /// When the last sync succeeded (ms).
    pub last_synced_ms: Option<u64>,
}

impl Engine {
    /// Whether a peer is connected.
    pub fn reach(&self, peer: &PublicKey) -> Reach {
        if let Some((_, stream)) = self.streams.dialled(peer) {
            return Reach::Connected {
                since_ms: stream.since_ms,
                checked_ms: stream.checked_ms,
            };
        }
        if let Some((_, stream)) = self.streams.of(peer).next() {
            return Reach::Subscribed {
                since_ms: stream.since_ms,
            };
        }
        if self.links.is_dialling(&DialTarget::Peer(*peer)) {
            return Reach::Dialling;
        }
        match self.streams.reconnects.get(peer) {
            Some(reconnect) => match self.streams.reconnects.due.get(peer) {
                Some(due_ms) => Reach::Waiting {
                    attempts: reconnect.attempts,
                    due_ms,
                    error: reconnect.error.clone(),
                },
                None => Reach::Dialling,
            },
            None => Reach::Apart,
        }
    }

    /// How a database stands with every peer that it is synced with or that listens, by peer.
    pub fn pair_states(&self, database: &Id) -> Vec<PairState> {
        let mut peers = self.peers_of(database);
        let listening = self.streams.about(database).into_iter();
        peers.extend(listening.filter_map(|id| self.streams.get(id).map(|stream| stream.peer)));
        peers.sort_unstable();
        peers.dedup();
        peers
            .into_iter()
            .map(|peer| self.pair_state(peer, database))
            .collect()
    }

    fn pair_state(&self, peer: PublicKey, database: &Id) -> PairState {
        let pair = self.peers.pair(&peer, database);
        let sync = self.work.syncs.get(&(peer, *database));
        let streams = self.streams.of(&peer);
        let held: Vec<&Held> = streams
            .filter_map(|(_, stream)| stream.databases.get(database))
            .collect();
        let digests = held.iter().map(|held| held.digest);
        // Of a pair it is kept, whoever said it; of one that only listens the stream has it.
        let kept = pair.and_then(|pair| pair.cursor.holding.clone());
        let holding = kept.or_else(|| held.iter().find_map(|held| held.holding.clone()));
        PairState {
            peer,
            is_related: pair.is_some_and(|pair| pair.related),
            is_running: sync.is_some_and(|sync| sync.running),
            is_queued: self.is_queued(&peer, database),
            retry_ms: self.work.retries.get(&(peer, *database)),
            common: pair
                .map(|pair| pair.cursor.common.clone())
                .unwrap_or_default(),
            held: digests.into_iter().find(|digest| !digest.is_none()),
            holding,
            last_synced_ms: pair.and_then(|pair| pair.cursor.last_synced_ms),
        }
    }
}
