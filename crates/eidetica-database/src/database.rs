//! [`Database`]: a handle on one database.

use std::sync::Arc;

use eidetica_auth::{AuthState, Right, SecretKey};
use eidetica_crdt::StoreKind;
use eidetica_entry::{Entry, Id, Ids, PublicKey, Stamp, StoreName};
use eidetica_storage::commit::Lane;
use eidetica_storage::{Batch, Snapshot};

use crate::core::{Core, Sequencer, Written};
use crate::edits::NoRows;
use crate::error::Result;
use crate::events::{CallbackError, CallbackId, Origin, WriteEvent};
use crate::hash::is_empty;
use crate::known::Known;
use crate::overlay::View;
use crate::query::DynRows;
use crate::rows::StoreRows;
use crate::shared::Shared;
use crate::source::{Reader, Source};
use crate::stores::{DocView, SettingsView, TableView};
use crate::{AsOf, Transaction, limits};

/// One database of an instance. A cheap handle, with the key that its transactions sign with, if any.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
    core: Arc<Core>,
    key: Option<Arc<SecretKey>>,
    /// Whether stores that are not whole are read as far as they are here.
    partial: bool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.core.id).finish()
    }
}

impl Database {
    pub(crate) fn new(shared: Arc<Shared>, core: Arc<Core>) -> Self {
        Self {
            shared,
            core,
            key: None,
            partial: false,
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The same database with this key to sign with.
    #[must_use]
    pub fn with_key(&self, key: Arc<SecretKey>) -> Self {
        Self {
            key: Some(key),
            ..self.clone()
        }
    }

    /// The same database with no key to sign with.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    /// The same database, read as far as it is here: where payloads are missing, stores show what the others make,
    /// and transactions build on that. Without this, such a store is an [`Error::Incomplete`](crate::Error::Incomplete).
    #[must_use]
    pub fn partial(&self) -> Self {
        Self {
            partial: true,
            ..self.clone()
        }
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// The key that transactions sign with.
    pub fn key(&self) -> Option<&Arc<SecretKey>> {
        self.key.as_ref()
    }

    /// The id: that of the root entry.
    pub fn id(&self) -> Id {
        self.core.id
    }

    /// The name in the settings; `None` if it has none.
    ///
    /// # Errors
    /// The engine's.
    pub fn name(&self) -> Result<Option<String>> {
        let doc = DocView::settings(Reader::Source(Source::Database(self.clone())));
        Ok(doc
            .get("name")?
            .and_then(|name| name.as_text().map(str::to_owned)))
    }

    /// The tips: the effective entries that are nobody's parents, ascending.
    ///
    /// # Errors
    /// The engine's.
    pub fn tips(&self) -> Result<Vec<Stamp>> {
        self.core.tips()
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// The engine's.
    pub fn entry_count(&self) -> Result<u64> {
        let snapshot = self.shared.rows.snapshot()?;
        Ok(self.core.log.reader(&*snapshot).state()?.entries())
    }

    /// A number that grows with every change that this instance has noticed: two reads between which it stayed saw the
    /// same state. What other processes write to the same engine is noticed by the next read or shortly after.
    pub fn version(&self) -> u64 {
        self.core.version()
    }

    /// One entry. May decode a stored pack.
    ///
    /// # Errors
    /// The engine's.
    pub fn get(&self, id: &Id) -> Result<Option<Entry>> {
        let snapshot = self.shared.rows.snapshot()?;
        Ok(self.core.log.reader(&*snapshot).get(id)?)
    }

    /// All stores that an effective entry has written to, `_settings` among them. O(stores).
    ///
    /// # Errors
    /// The engine's.
    pub fn stores(&self) -> Result<Vec<(StoreName, StoreKind)>> {
        let snapshot = self.state_snapshot()?;
        let all = self.core.registry.read().all();
        let mut stores = Vec::with_capacity(all.len());
        for (name, kind, slot) in all {
            if !is_empty(&*snapshot, slot)? {
                stores.push((name, kind));
            }
        }
        Ok(stores)
    }

    /// Begins a transaction on the present state.
    pub fn new_transaction(&self) -> Transaction {
        Transaction::new(self, Source::Database(self.clone()))
    }

    /// The guide's name of [`new_transaction`](Self::new_transaction).
    pub fn new_operation(&self) -> Transaction {
        self.new_transaction()
    }

    /// Begins a transaction whose entry forks from `frontier`: its parents are the maximal ones of these
    /// entries, and it reads and edits the state as of them. It never conflicts.
    ///
    /// # Errors
    /// [`Error::NoEntry`](crate::Error::NoEntry) for an entry that is not here.
    pub fn new_transaction_at(&self, frontier: &[Id]) -> Result<Transaction> {
        Ok(Transaction::new(
            self,
            Source::AsOf(AsOf::new(self, frontier)?),
        ))
    }

    /// Runs `work` in a transaction and commits it; again while what it read has changed meanwhile.
    ///
    /// # Errors
    /// Those of `work`, of the commit, and a conflict after [`limits::TRANSACT_ATTEMPTS`] attempts.
    pub fn transact<T>(&self, mut work: impl FnMut(&Transaction) -> Result<T>) -> Result<T> {
        self.retry(|| {
            let transaction = self.new_transaction();
            let result = work(&transaction)?;
            Ok::<_, crate::Error>(transaction.commit().map(|_| result))
        })?
    }

    /// What [`transact`](Self::transact) does, for an `attempt` that begins and commits by itself: it is made again while
    /// the commit that it returns has lost against another one, once that one is in the engine. Another error of its own
    /// ends it at once.
    ///
    /// # Errors
    /// `attempt`'s own; within, those of the commit, a conflict after [`limits::TRANSACT_ATTEMPTS`] attempts.
    pub fn retry<T, E>(
        &self,
        mut attempt: impl FnMut() -> std::result::Result<Result<T>, E>,
    ) -> std::result::Result<Result<T>, E> {
        for _ in 1..limits::TRANSACT_ATTEMPTS {
            match attempt()? {
                // What it lost against may be staged only, and would be read as it was again.
                Err(error) if error.is_conflict() => {
                    if let Err(error) = self.core.wait_for_staged() {
                        return Ok(Err(error));
                    }
                }
                done => return Ok(done),
            }
        }
        attempt()
    }

    /// A document to read.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn doc(&self, name: &str) -> Result<DocView<'static>> {
        DocView::open(Reader::Source(Source::Database(self.clone())), name)
    }

    /// A table to read, whose rows have the form of `T`.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn table<T>(&self, name: &str) -> Result<TableView<'static, T>> {
        TableView::open(Reader::Source(Source::Database(self.clone())), name)
    }

    /// The settings to read.
    ///
    /// # Errors
    /// The engine's.
    pub fn settings(&self) -> Result<SettingsView<'static>> {
        Ok(SettingsView::new(
            Reader::Source(Source::Database(self.clone())),
            self.authority()?,
        ))
    }

    /// The database as of a frontier: the past of these entries.
    ///
    /// # Errors
    /// [`Error::NoEntry`](crate::Error::NoEntry) for an entry that is not here.
    pub fn as_of(&self, frontier: &[Id]) -> Result<AsOf> {
        AsOf::new(self, frontier)
    }

    /// Who may do what at present, by all settings entries there are. O(1) unless the settings have changed.
    ///
    /// # Errors
    /// The engine's.
    pub fn authority(&self) -> Result<AuthState> {
        let snapshot = self.shared.rows.snapshot()?;
        let reader = self.core.log.reader(&*snapshot);
        let settings: Ids = reader.state()?.settings.into_iter().collect();
        let known = Known::new(&self.shared, self.id(), &reader);
        self.core.authority.at(&settings, &known)
    }

    /// What a key may do at present, by a grant or by the wildcard.
    ///
    /// # Errors
    /// The engine's.
    pub fn right_of(&self, key: &PublicKey) -> Result<Option<Right>> {
        Ok(self.authority()?.right_of(key))
    }

    /// Calls `call` for every entry that is committed through this instance, once it is durable, in the
    /// order of arrival, on the thread of some writer (or, on an engine that processes share, of whoever follows the
    /// others), with no lock held. Its error is logged and counted and undoes nothing.
    ///
    /// # Errors
    /// More than [`limits::CALLBACKS`].
    pub fn on_local_write(
        &self,
        call: impl Fn(&WriteEvent, &Self) -> Result<(), CallbackError> + Send + Sync + 'static,
    ) -> Result<CallbackId> {
        self.core.events.own.register(Some(Origin::Local), call)
    }

    /// Like [`on_local_write`](Self::on_local_write) for entries that come from elsewhere.
    ///
    /// # Errors
    /// More than [`limits::CALLBACKS`].
    pub fn on_remote_write(
        &self,
        call: impl Fn(&WriteEvent, &Self) -> Result<(), CallbackError> + Send + Sync + 'static,
    ) -> Result<CallbackId> {
        self.core.events.own.register(Some(Origin::Remote), call)
    }

    /// Stops calling a callback; says whether there was one.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.core.events.own.unregister(id)
    }

    /// How many callbacks have failed since the database was opened.
    pub fn callback_failures(&self) -> u64 {
        self.core.events.failures()
    }

    /// How many entries wait for their ancestors, and their bytes.
    pub fn pending(&self) -> (usize, usize) {
        let pool = self.core.pool.lock();
        (pool.len(), pool.bytes())
    }

    /// Checks that a store is of this kind, or nothing yet.
    pub(crate) fn check_kind(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        self.catch_up()?;
        self.core.check_kind(name, kind)
    }

    pub(crate) fn read<T>(
        &self,
        name: &StoreName,
        kind: StoreKind,
        read: impl FnOnce(u64, &DynRows<'_>) -> Result<T>,
    ) -> Result<T> {
        let (version, snapshot) = self.settled()?;
        self.check_whole(name, &*snapshot)?;
        match self.core.slot(name, kind) {
            Some(slot) => read(
                version,
                &StoreRows {
                    view: View::durable(&*snapshot),
                    slot,
                },
            ),
            None => read(version, &NoRows),
        }
    }

    /// A snapshot with the state of all entries in it, and its version or an earlier one: whoever reads at
    /// that version again sees no less.
    pub(crate) fn settled(&self) -> Result<(u64, Box<dyn Snapshot>)> {
        if self.shared.has_others() {
            return self.settled_beside_others();
        }
        let falls = self.core.falls();
        self.catch_up()?;
        let version = self.core.version();
        let snapshot = self.shared.rows.snapshot()?;
        // What is taken away is marked so before the first of its rows goes.
        self.core.check_here()?;
        if falls == self.core.falls() && !self.core.is_behind() {
            return Ok((version, snapshot));
        }
        // State that was behind is written in several batches. Between them nothing whole is to be seen.
        let mut sequencer = self.core.sequence()?;
        self.flush(&mut sequencer)?;
        Ok((self.core.version(), self.shared.rows.snapshot()?))
    }

    pub(crate) fn lane(&self) -> Lane {
        self.core.lane()
    }

    /// Writes a batch while the database's lock is held. All earlier batches are in the engine then too.
    pub(crate) fn write_locked(
        &self,
        sequencer: &mut Sequencer,
        batch: Batch,
        written: Written,
    ) -> Result<()> {
        let group = &self.shared.group;
        let ticket = group.reserve(self.lane());
        match group.commit(ticket, batch, self.shared.durability) {
            Ok(()) => {
                sequencer.settle_all();
                self.core.settle(&written);
                Ok(())
            }
            Err(error) => {
                sequencer.fail();
                self.core.note_failure();
                Err(error.into())
            }
        }
    }
}
