//! Who has what: whether the latest writes are anywhere else, and what is left to send.

use std::collections::BTreeSet;

use eidetica_engine::{PairState, Reach, Wishes};
use eidetica_entry::{Id, Stamp, pack::PackInfo};
use eidetica_protocol::TipList;

use super::Sync;
use crate::{AsDatabaseId, Instance, KeyId, Result, limits};

/// How all databases here stand that are synchronized with somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncStatus {
    /// The databases, by id.
    pub databases: Vec<DatabaseStatus>,
}

impl SyncStatus {
    /// Whether every database is [safe](DatabaseStatus::is_safe_to_close): this device may be closed without holding
    /// back anything that only it has.
    pub fn is_safe_to_close(&self) -> bool {
        self.databases.iter().all(DatabaseStatus::is_safe_to_close)
    }
}

/// How one database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseStatus {
    /// The database.
    pub database_id: Id,
    /// Its name; empty if it has none.
    pub name: String,
    /// Whether it is synchronized in the background at all.
    pub enabled: bool,
    /// Whether changes travel at once.
    pub on_commit: bool,
    /// Seconds between two rounds, if there are any.
    pub interval_seconds: Option<u64>,
    /// What is synchronized with it, and who listens.
    pub peers: Vec<PeerCopy>,
}

impl DatabaseStatus {
    /// Whether at least one peer has all that is here, or it is synchronized with nobody.
    pub fn is_safe_to_close(&self) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer.has_latest)
    }
}

/// How a peer's copy of a database stands, as far as is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCopy {
    /// The peer.
    pub peer: KeyId,
    /// What the user calls it.
    pub display_name: Option<String>,
    /// Whether it is connected.
    pub connection: Reach,
    /// Whether it has the latest write, and all before.
    pub has_latest: bool,
    /// Entries that it is not known to have. Not known of a peer that only listens.
    pub to_send: Option<ToSend>,
    /// Whether a synchronization runs or waits to be tried again.
    pub is_pending: bool,
    /// When it is tried again if it failed, in milliseconds since 1970.
    pub retry_ms: Option<u64>,
    /// When one last succeeded, in milliseconds since 1970.
    pub last_synced_ms: Option<u64>,
}

/// How many entries are left to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToSend {
    /// So many at least.
    pub entries: u64,
    /// Whether there are more, which were not counted.
    pub more: bool,
}

/// How things stand.
impl Sync {
    /// Whether to do anything without being asked: keep connections to peers for news, synchronize at
    /// intervals, fetch what was granted. It does at first; a program that only wants to synchronize once
    /// turns it off. What is queued is sent in any case, and peers are served.
    ///
    /// # Errors
    /// The engine has stopped.
    pub fn set_background(&self, is_on: bool) -> Result<()> {
        Ok(self.node().set_background(is_on).wait()?)
    }

    /// How every database stands that is synchronized with somebody: O(databases).
    ///
    /// # Errors
    /// What reading gives.
    pub fn status(&self) -> Result<SyncStatus> {
        let mut databases = Vec::new();
        for id in self.instance()?.list_databases()? {
            let status = self.database_status(id)?;
            if !status.peers.is_empty() {
                databases.push(status);
            }
        }
        Ok(SyncStatus { databases })
    }

    /// How one database stands.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), and what reading gives.
    pub fn database_status(&self, database: impl AsDatabaseId) -> Result<DatabaseStatus> {
        let (instance, id) = (self.instance()?, database.as_database_id()?);
        let database = instance.open_inner(&id)?;
        let tips = database.tips()?;
        let Wishes {
            enabled,
            on_commit,
            interval_s,
        } = self.node().wishes(&id);
        let pairs = self.node().pair_states(&id).into_iter();
        let peers = pairs.map(|pair| self.peer_copy(&instance, &id, &tips, pair));
        Ok(DatabaseStatus {
            database_id: id,
            name: database.name()?.unwrap_or_default(),
            enabled,
            on_commit,
            interval_seconds: interval_s,
            peers: peers.collect::<Result<_>>()?,
        })
    }

    fn peer_copy(
        &self,
        instance: &Instance,
        database: &Id,
        tips: &[Stamp],
        pair: PairState,
    ) -> Result<PeerCopy> {
        // Told by the peer, or found by the last sync, whichever came later.
        let state = TipList::new(tips.to_vec()).digest();
        let common: BTreeSet<&Id> = pair.common.iter().collect();
        let has_latest =
            pair.held == Some(state) || tips.iter().all(|tip| common.contains(&tip.id));
        let to_send = match (has_latest, pair.is_related) {
            (true, _) => Some(ToSend::default()),
            (false, true) => Some(left(instance, database, &pair.common)?),
            (false, false) => None,
        };
        let info = self.node().peer(&pair.peer);
        Ok(PeerCopy {
            peer: pair.peer.into(),
            display_name: info.and_then(|info| info.display_name),
            connection: self.node().reach(&pair.peer),
            has_latest,
            to_send,
            is_pending: pair.is_running || pair.is_queued,
            retry_ms: pair.retry_ms,
            last_synced_ms: pair.last_synced_ms,
        })
    }
}

/// The entries above what both have, without those of databases that it delegates to.
fn left(instance: &Instance, database: &Id, common: &[Id]) -> Result<ToSend> {
    let databases = instance.databases();
    let closures = databases.closures(database)?.into_iter();
    let closures: Vec<(Id, Vec<Id>)> = closures
        .map(|(id, tips)| (id, tips.iter().map(|tip| tip.id).collect()))
        .collect();
    let held: Vec<(Id, &[Id])> = closures.iter().map(|(id, ids)| (*id, &ids[..])).collect();
    let page = databases.difference_above(database, common, &held, None, limits::COUNTED_BYTES)?;
    let infos = page.packs.iter().flat_map(|pack| PackInfo::read(pack));
    let own = infos.filter(|info| info.database == *database);
    Ok(ToSend {
        entries: own.map(|info| u64::from(info.entries)).sum(),
        more: page.next.is_some(),
    })
}
