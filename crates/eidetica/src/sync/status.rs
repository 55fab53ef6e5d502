//! Who has what: whether the latest writes are anywhere else, and what is left to send.

use std::{collections::BTreeSet, fmt};

use eidetica_engine::{PairState, Reach, Wishes};
use eidetica_entry::{Id, Stamp, StoreName, pack::PackInfo};
use eidetica_protocol::{Holding, TipList};

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
    is_safe: bool,
}

impl DatabaseStatus {
    /// Whether peers have all that is here, or it is synchronized with nobody. At least one has the latest write; of
    /// those that do, each store is held by one that lacks none of its payloads. What is not known counts as not there.
    ///
    /// A peer that has [given up](eidetica_database::Database::give_up) payloads says that it lacks none.
    pub fn is_safe_to_close(&self) -> bool {
        self.is_safe
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
    /// Whether it has the latest write, and all before, with all payloads that are here.
    pub has_latest: bool,
    /// Whether it has all entries, with their payloads or without.
    pub has_entries: bool,
    /// What it has of the payloads that are here.
    pub payloads: PeerPayloads,
    /// Entries that it is not known to have. Not known of a peer that only listens.
    pub to_send: Option<ToSend>,
    /// Whether a synchronization runs or waits to be tried again.
    pub is_pending: bool,
    /// When it is tried again if it failed, in milliseconds since 1970.
    pub retry_ms: Option<u64>,
    /// When one last succeeded, in milliseconds since 1970.
    pub last_synced_ms: Option<u64>,
}

/// What a peer has of the payloads that are here, of the entries that it has. What it said, or what the last
/// synchronization with it found, whichever came later.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerPayloads {
    /// All of them.
    All,
    /// Those of these stores: it is to hold no others.
    Stores(BTreeSet<StoreName>),
    /// It lacks some that it is to hold.
    Lacking,
    /// Not known.
    Unknown,
}

impl PeerPayloads {
    fn of(holding: Option<&Holding>, here: &Here) -> Self {
        match holding {
            None => Self::Unknown,
            Some(holding) if holding.lacks => Self::Lacking,
            Some(holding) => match holding.stores.some() {
                None => Self::All,
                Some(stores) if here.0.iter().all(|store| stores.contains(store)) => Self::All,
                Some(stores) => Self::Stores(stores.iter().cloned().collect()),
            },
        }
    }

    fn has(&self, store: &StoreName) -> bool {
        match self {
            Self::All => true,
            Self::Stores(stores) => stores.contains(store),
            Self::Lacking | Self::Unknown => false,
        }
    }
}

impl fmt::Display for PeerPayloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::All => "all",
            Self::Stores(_) => "some stores",
            Self::Lacking => "lacks some",
            Self::Unknown => "unknown",
        })
    }
}

/// The stores of which payloads are here, without `_settings`, which everybody has.
struct Here(BTreeSet<StoreName>);

impl Here {
    fn of(database: &eidetica_database::Database) -> Result<Self> {
        let stores = database.stores()?.into_iter().map(|(store, _)| store);
        Ok(Self(stores.filter(|store| !store.is_settings()).collect()))
    }

    /// Whether the peers have all that is here.
    fn is_with(&self, peers: &[PeerCopy]) -> bool {
        let mut up_to_date = peers.iter().filter(|peer| peer.has_entries);
        let has = |store| up_to_date.clone().any(|peer| peer.payloads.has(store));
        let all = self.0.iter().all(has);
        // Where there is no payload, the entries are all there is.
        all && up_to_date.next().is_some()
    }
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
        let here = Here::of(&database)?;
        let peers = pairs.map(|pair| self.peer_copy(&instance, &id, &tips, &here, pair));
        let peers = peers.collect::<Result<Vec<_>>>()?;
        Ok(DatabaseStatus {
            database_id: id,
            name: database.name()?.unwrap_or_default(),
            enabled,
            on_commit,
            interval_seconds: interval_s,
            is_safe: peers.is_empty() || here.is_with(&peers),
            peers,
        })
    }

    fn peer_copy(
        &self,
        instance: &Instance,
        database: &Id,
        tips: &[Stamp],
        here: &Here,
        pair: PairState,
    ) -> Result<PeerCopy> {
        // Told by the peer, or found by the last sync, whichever came later.
        let state = TipList::new(tips.to_vec()).digest();
        let common: BTreeSet<&Id> = pair.common.iter().collect();
        let has_entries =
            pair.held == Some(state) || tips.iter().all(|tip| common.contains(&tip.id));
        let payloads = PeerPayloads::of(pair.holding.as_ref(), here);
        let to_send = match (has_entries, pair.is_related) {
            (true, _) => Some(ToSend::default()),
            (false, true) => Some(left(instance, database, &pair.common)?),
            (false, false) => None,
        };
        let info = self.node().peer(&pair.peer);
        Ok(PeerCopy {
            peer: pair.peer.into(),
            display_name: info.and_then(|info| info.display_name),
            connection: self.node().reach(&pair.peer),
            has_latest: has_entries && payloads == PeerPayloads::All,
            has_entries,
            payloads,
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
