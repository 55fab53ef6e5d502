//! Transactions: one makes one entry, across any number of stores.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, SecretKey};
use eidetica_entry::{Author, Entry, Id, PublicKey, Via};
use eidetica_storage::log::LogState;
use parking_lot::Mutex;

use crate::edits::{Changes, Edits};
use crate::error::{Error, Result};
use crate::source::Source;
use crate::stores::SettingsStore;
use crate::{AsOf, Database, limits};

/// The guide's name of a [`Transaction`].
pub type Operation = Transaction;

/// Reads and edits that become one entry together.
///
/// It holds no lock and no snapshot. What it read is checked at the commit, if the database has changed
/// meanwhile; what it only wrote never conflicts. Dropping it undoes nothing, since nothing was done.
pub struct Transaction {
    edits: Edits,
    database: Database,
    records: Mutex<Vec<AuthRecord>>,
    key: Option<Arc<SecretKey>>,
    timestamp_ms: Option<u64>,
    via: Vec<Via>,
    above: Mutex<BTreeSet<Id>>,
}

/// What the sequencer gets of a transaction.
pub(crate) struct Commission<'a> {
    pub(crate) changes: Changes,
    pub(crate) records: Vec<AuthRecord>,
    pub(crate) key: &'a SecretKey,
    pub(crate) timestamp_ms: Option<u64>,
    /// The state it forks from, unless that is the present one.
    pub(crate) past: Option<&'a AsOf>,
    /// The delegation by which the key has its right.
    pub(crate) via: Vec<Via>,
    /// What it is to be above, whether that counts or not.
    pub(crate) above: Vec<Id>,
}

impl Commission<'_> {
    pub(crate) fn author(&self) -> Author {
        Author {
            key: self.key.public(),
            via: self.via.clone(),
        }
    }

    /// Whether the commit has to look at more entries than its parents, and so at what is in the engine only.
    pub(crate) fn walks_history(&self, state: &LogState) -> bool {
        self.names_entries() || (self.past.is_some() && state.void > 0)
    }

    /// Whether it is about entries and not only about state: it writes settings, or is to be above some.
    pub(crate) fn names_entries(&self) -> bool {
        let writes_settings = !self.records.is_empty() || self.changes.writes_settings();
        writes_settings || !self.above.is_empty()
    }
}

impl Deref for Transaction {
    type Target = Edits;

    fn deref(&self) -> &Edits {
        &self.edits
    }
}

impl Transaction {
    pub(crate) fn new(database: &Database, source: Source) -> Self {
        Self {
            edits: Edits::new(source),
            database: database.clone(),
            records: Mutex::default(),
            key: database.key().cloned(),
            timestamp_ms: None,
            via: Vec::new(),
            above: Mutex::default(),
        }
    }

    /// Signs with this key instead of the database handle's.
    #[must_use]
    pub fn with_key(mut self, key: Arc<SecretKey>) -> Self {
        self.key = Some(key);
        self
    }

    /// States when the entry was made, in milliseconds since 1970. A claim: shown, never judged.
    #[must_use]
    pub fn with_timestamp_ms(mut self, now: u64) -> Self {
        self.timestamp_ms = Some(now);
        self
    }

    /// Names the delegation by which the key has its right: database after database, each at these tips.
    #[must_use]
    pub fn with_via(mut self, via: Vec<Via>) -> Self {
        self.via = via;
        self
    }

    /// Makes these entries parents besides the tips, where they are not below them anyway: void ones that the
    /// transaction adopts or names in a revocation. They stay void unless it changes that.
    ///
    /// # Errors
    /// More than [`limits::ALSO_ABOVE`] in all.
    pub fn also_above(&self, ids: &[Id]) -> Result<()> {
        let mut above = self.above.lock();
        above.extend(ids);
        if above.len() > limits::ALSO_ABOVE {
            return Err(Error::Limit {
                what: "entries named to be built upon",
                limit: limits::ALSO_ABOVE,
            });
        }
        Ok(())
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The database's settings, to be changed by an admin.
    pub fn settings(&self) -> SettingsStore<'_> {
        SettingsStore::new(self)
    }

    pub(crate) fn add_record(&self, record: AuthRecord) {
        self.records.lock().push(record);
    }

    /// Who will sign, where his right follows from this database's settings alone.
    pub(crate) fn author(&self) -> Option<PublicKey> {
        let key = self.key.as_ref().filter(|_| self.via.is_empty())?;
        Some(key.public())
    }

    /// Makes the entry and returns it when it is durable (or, with `Relaxed`, visible). `None` if the
    /// edits change nothing: then there is no entry.
    ///
    /// Besides signing, the cost follows the edits and reads of the transaction, and neither history
    /// nor state nor the number of tips. Write callbacks may run before it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] if what was read has changed, [`Error::Refused`] if the key has not the right,
    /// [`Error::NoKey`], an edit that does not fit the data, a payload beyond the entry's limits, the engine's.
    pub fn commit(self) -> Result<Option<Entry>> {
        let key = self.key.as_deref().ok_or(Error::NoKey)?;
        let past = match &self.edits.source {
            Source::AsOf(past) => Some(past),
            _ => None,
        };
        let commission = Commission {
            changes: self.edits.take(),
            records: std::mem::take(&mut *self.records.lock()),
            key,
            timestamp_ms: self.timestamp_ms,
            past,
            via: self.via.clone(),
            above: std::mem::take(&mut *self.above.lock())
                .into_iter()
                .collect(),
        };
        self.database.commit(&commission)
    }
}
