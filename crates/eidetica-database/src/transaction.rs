//! Transactions: one makes one entry, across any number of stores.

use std::ops::Deref;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, SecretKey};
use eidetica_entry::Entry;
use parking_lot::Mutex;

use crate::edits::{Changes, Edits};
use crate::error::{Error, Result};
use crate::source::Source;
use crate::stores::SettingsStore;
use crate::{AsOf, Database};

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
}

/// What the sequencer gets of a transaction.
pub(crate) struct Commission<'a> {
    pub(crate) changes: Changes,
    pub(crate) records: Vec<AuthRecord>,
    pub(crate) key: &'a SecretKey,
    pub(crate) timestamp_ms: Option<u64>,
    /// The state it forks from, unless that is the present one.
    pub(crate) past: Option<&'a AsOf>,
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

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The database's settings, to be changed by an admin.
    pub fn settings(&self) -> SettingsStore<'_> {
        SettingsStore::new(&self.edits, &self.records)
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
        };
        self.database.commit(commission)
    }
}
