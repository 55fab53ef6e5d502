//! What all databases of one instance share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use eidetica_entry::Id;
use eidetica_storage::commit::{GroupCommit, Lane};
use eidetica_storage::log::EntryLog;
use eidetica_storage::{Durability, Engine};
use parking_lot::Mutex;

use crate::core::Core;
use crate::elsewhere::Others;
use crate::entropy::Entropy;
use crate::events::Callbacks;
use crate::local::Local;
use crate::names::Names;
use crate::open::Open;

/// The lane of batches that create databases. Lanes below [`LOCAL`] are the numbers of databases.
pub(crate) const CREATION: Lane = Lane(u64::MAX);

/// The first lane of local databases, by their numbers.
pub(crate) const LOCAL: u64 = 1 << 32;

pub(crate) struct Shared {
    /// As it was given: a damaged row is an error.
    pub(crate) engine: Arc<dyn Engine>,
    /// The same, with damaged rows, as [`WithDamage`](crate::damage::WithDamage) shows them.
    pub(crate) rows: Arc<dyn Engine>,
    pub(crate) log: EntryLog,
    pub(crate) group: GroupCommit,
    pub(crate) durability: Durability,
    pub(crate) entropy: Entropy,
    /// The databases that were opened; they stay, each a few kilobytes and its caches.
    pub(crate) open: Open,
    /// Held while a database or a closure gets its number.
    pub(crate) creating: Mutex<()>,
    /// The closures that were opened.
    pub(crate) closures: Mutex<HashMap<Id, Arc<Core>>>,
    /// What settings were found to name.
    pub(crate) names: Mutex<Option<Names>>,
    /// Counts the uses of closures.
    pub(crate) uses: AtomicU64,
    /// The local databases that were opened.
    pub(crate) local: Mutex<HashMap<String, Arc<Local>>>,
    /// Present where other processes may write to the engine.
    pub(crate) others: Option<Others>,
    /// Callbacks for the entries of all databases.
    pub(crate) callbacks: Arc<Callbacks>,
    /// Databases, and those in which entries wait for them.
    pub(crate) awaited: Mutex<HashMap<Id, BTreeSet<Id>>>,
}

impl Shared {
    /// Counts what has come of a database and of its closure, as far as they were opened.
    pub(crate) fn version_of(&self, id: &Id) -> Option<u64> {
        let database = self.open.get(id).map(|core| core.version());
        let closure = self.closures.lock().get(id).map(|core| core.version());
        database
            .map(|database| database + closure.unwrap_or(0))
            .or(closure)
    }
}
