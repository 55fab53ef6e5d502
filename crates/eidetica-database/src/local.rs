//! Local databases: what an instance keeps for itself, such as its peers and a user's preferences.
//!
//! The same stores over what is shown alone: no entries, no signatures, no history, and no peer ever
//! hears of it. Rows stand in [`Space::Local`], each with a check sum:
//!
//! | key | value |
//! |---|---|
//! | 0 | how many databases there are, which is the number of the next; a store made before this row has none |
//! | 0, name | database number |
//! | 1, database number | version: how many transactions it has seen |
//! | 2, database number, store number | kind, name |
//! | 3, database number, store number, 0 or 1, the store's own key | what is shown, or an element's place |

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eidetica_crdt::{Delta, Order, Overlay, RowPage, RowSpace, Rows, StoreKind, insert};
use eidetica_entry::{Height, Id, Stamp, StoreName};
use eidetica_storage::commit::Lane;
use eidetica_storage::{Batch, Direction, EngineError, KeyRange, ScanLimit, Snapshot, Space};
use parking_lot::{Mutex, RwLock};

use crate::edits::{Changes, Edits, NoRows};
use crate::error::{Error, Result};
use crate::query::DynRows;
use crate::registry::Registry;
use crate::rows::StoreSlot;
use crate::shared::{CREATION, LOCAL, Shared};
use crate::source::{Reader, Source};
use crate::stores::{DocView, TableView};
use crate::{limits, seal};

const NAMES: u8 = 0;
const VERSIONS: u8 = 1;
const STORES: u8 = 2;
const ROWS: u8 = 3;

/// A database of this instance alone. A cheap handle.
#[derive(Clone)]
pub struct LocalDatabase {
    shared: Arc<Shared>,
    inner: Arc<Local>,
}

/// One open local database. Nothing in it leads back to the instance, which keeps it.
pub(crate) struct Local {
    name: String,
    number: u32,
    registry: RwLock<Registry>,
    /// Held by the one who commits.
    writer: Mutex<()>,
    version: AtomicU64,
}

impl std::fmt::Debug for LocalDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LocalDatabase")
            .field(&self.inner.name)
            .finish()
    }
}

impl Local {
    /// Opens a local database, which begins empty. One per name exists; see `Databases::local`.
    pub(crate) fn load(shared: &Shared, name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > limits::LOCAL_NAME {
            return Err(Error::Limit {
                what: "bytes in the name of a local database",
                limit: limits::LOCAL_NAME,
            });
        }
        let number = shared.racing(|| {
            let snapshot = shared.rows.snapshot()?;
            match get(&*snapshot, &key(NAMES, &[name.as_bytes()]))? {
                Some(number) => fixed(&number).map(u32::from_be_bytes),
                None => add_name(shared, &*snapshot, name),
            }
        })?;
        let snapshot = shared.rows.snapshot()?;
        let (version, registry) = load(number, &*snapshot)?;
        Ok(Self {
            name: name.to_owned(),
            number,
            registry: RwLock::new(registry),
            writer: Mutex::new(()),
            version: AtomicU64::new(version),
        })
    }

    /// Numbers of stores are never given again: the longer list is the newer one.
    fn learn(&self, registry: Registry) {
        let mut known = self.registry.write();
        if registry.len() > known.len() {
            *known = registry;
        }
    }

    /// Takes notice of what another process has written; says which version is in the snapshot.
    fn meet(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        let found = read_version(self.number, snapshot)?;
        if found > self.version.load(Ordering::Acquire) {
            let (_, registry) = load(self.number, snapshot)?;
            self.learn(registry);
            self.version.fetch_max(found, Ordering::AcqRel);
        }
        Ok(found)
    }
}

/// Version and stores of a local database.
fn load(number: u32, snapshot: &dyn Snapshot) -> Result<(u64, Registry)> {
    let stores = key(STORES, &[&number.to_be_bytes()]);
    let registry = Registry::load(Space::Local, stores, number, snapshot)?;
    Ok((read_version(number, snapshot)?, registry))
}

fn read_version(number: u32, snapshot: &dyn Snapshot) -> Result<u64> {
    match get(snapshot, &key(VERSIONS, &[&number.to_be_bytes()]))? {
        Some(version) => fixed(&version).map(u64::from_be_bytes),
        None => Ok(0),
    }
}

impl LocalDatabase {
    pub(crate) fn new(shared: Arc<Shared>, inner: Arc<Local>) -> Self {
        Self { shared, inner }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many transactions it has seen, those of other processes among them: whoever remembers it knows whether there
    /// is anything new. One lookup.
    ///
    /// # Errors
    /// The engine's.
    pub fn version(&self) -> Result<u64> {
        self.inner.meet(&*self.shared.rows.snapshot()?)
    }

    /// A document to read.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn doc(&self, name: &str) -> Result<DocView<'static>> {
        DocView::open(Reader::Source(Source::Local(self.clone())), name)
    }

    /// A table to read.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn table<T>(&self, name: &str) -> Result<TableView<'static, T>> {
        TableView::open(Reader::Source(Source::Local(self.clone())), name)
    }

    /// Begins a transaction.
    pub fn new_transaction(&self) -> LocalTransaction {
        LocalTransaction {
            edits: Edits::new(Source::Local(self.clone())),
        }
    }

    /// Runs `work` in a transaction and commits it; again while what it read has changed meanwhile.
    ///
    /// # Errors
    /// Those of `work`, of the commit, and a conflict after [`limits::TRANSACT_ATTEMPTS`] attempts.
    pub fn transact<T>(&self, mut work: impl FnMut(&LocalTransaction) -> Result<T>) -> Result<T> {
        let mut attempts = 0;
        loop {
            let transaction = self.new_transaction();
            let result = work(&transaction)?;
            attempts += 1;
            match transaction.commit() {
                Err(error) if error.is_conflict() && attempts < limits::TRANSACT_ATTEMPTS => {}
                done => return done.map(|()| result),
            }
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn check_kind(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        self.inner.registry.read().check_kind(name, kind)
    }

    pub(crate) fn read<T>(
        &self,
        name: &StoreName,
        kind: StoreKind,
        read: impl FnOnce(u64, &DynRows<'_>) -> Result<T>,
    ) -> Result<T> {
        let version = self.inner.version.load(Ordering::Acquire);
        let snapshot = self.shared.rows.snapshot()?;
        let version = match self.shared.has_others() {
            true => self.inner.meet(&*snapshot)?,
            false => version,
        };
        let slot = self.inner.registry.read().slot(name, kind);
        match slot {
            Some(slot) => read(
                version,
                &LocalRows {
                    snapshot: &*snapshot,
                    slot,
                },
            ),
            None => read(version, &NoRows),
        }
    }

    fn commit(&self, changes: &Changes) -> Result<()> {
        self.shared.racing(|| self.commit_once(changes))
    }

    fn commit_once(&self, changes: &Changes) -> Result<()> {
        let _writing = self.inner.writer.lock();
        let snapshot = self.shared.rows.snapshot()?;
        let version = match self.shared.has_others() {
            true => self.inner.meet(&*snapshot)?,
            false => self.inner.version.load(Ordering::Acquire),
        };
        if changes.may_be_stale(version) {
            changes.check_reads(|name, kind| {
                match self.inner.registry.read().slot(name, kind) {
                    Some(slot) => Box::new(LocalRows {
                        snapshot: &*snapshot,
                        slot,
                    }),
                    None => Box::new(NoRows),
                }
            })?;
        }
        let version_key = key(VERSIONS, &[&self.inner.number.to_be_bytes()]);
        let mut batch = Batch::new();
        batch.expect(
            Space::Local,
            &version_key,
            snapshot.get(Space::Local, &version_key)?.as_deref(),
        );
        let Some(grown) = self.stage(changes, version + 1, &*snapshot, &mut batch)? else {
            return Ok(());
        };
        batch.put(
            Space::Local,
            &version_key,
            &seal::seal(&version_key, &(version + 1).to_be_bytes()),
        );
        let lane = Lane(LOCAL + u64::from(self.inner.number));
        self.shared
            .group
            .write(lane, batch, self.shared.durability)?;
        self.inner.learn(grown);
        self.inner.version.fetch_max(version + 1, Ordering::AcqRel);
        Ok(())
    }

    /// Adds the rows of `changes` to `batch`. The stores there are with them, which count once the batch is in the
    /// engine; nothing where nothing changes.
    fn stage(
        &self,
        changes: &Changes,
        version: u64,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
    ) -> Result<Option<Registry>> {
        let stamp = Stamp::new(Height(version), Id::new([0; 32]));
        let mut registry = self.inner.registry.read().clone();
        let mut changed = false;
        for change in &changes.stores {
            let slot = registry.slot_or_create(&change.store, change.kind, batch);
            let rows = LocalRows { snapshot, slot };
            let Some(payload) = change.lower(&rows)? else {
                continue;
            };
            let mut rows = Overlay {
                base: rows,
                delta: Delta::new(),
            };
            insert(&mut rows, stamp, &payload, Order::NewerThanAll)?;
            write_changes(slot, &rows.delta, batch);
            changed = true;
        }
        Ok(changed.then_some(registry))
    }
}

/// A transaction on a local database.
pub struct LocalTransaction {
    edits: Edits,
}

impl Deref for LocalTransaction {
    type Target = Edits;

    fn deref(&self) -> &Edits {
        &self.edits
    }
}

impl LocalTransaction {
    /// Makes the edits durable.
    ///
    /// # Errors
    /// [`Error::Conflict`] if what was read has changed, an edit that does not fit, the engine's.
    pub fn commit(self) -> Result<()> {
        let Source::Local(local) = &self.edits.source else {
            return Ok(());
        };
        local.commit(&self.edits.take())
    }
}

/// The names of all local databases.
pub(crate) fn names(snapshot: &dyn Snapshot) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let _ = snapshot.for_each::<(), Error>(
        Space::Local,
        &KeyRange::prefix([NAMES]),
        Direction::Forward,
        |row| {
            seal::open(&row.key, &row.value)?;
            // The row without a name counts them.
            if let Some(name) = row.key.get(1..).filter(|name| !name.is_empty()) {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(names)
}

/// Checks the sum of every row of every local database and returns how many there are.
pub(crate) fn verify(snapshot: &dyn Snapshot, fault: &mut dyn FnMut(Vec<u8>)) -> Result<u64> {
    let mut rows = 0;
    let _ = snapshot.for_each::<(), Error>(
        Space::Local,
        &KeyRange::all(),
        Direction::Forward,
        |row| {
            rows += 1;
            if !seal::is_sealed(&row) {
                fault(row.key.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(rows)
}

fn add_name(shared: &Shared, snapshot: &dyn Snapshot, name: &str) -> Result<u32> {
    let count = key(NAMES, &[]);
    let before = snapshot.get(Space::Local, &count)?;
    let number = match &before {
        Some(sealed) => fixed(&seal::open(&count, sealed)?).map(u32::from_be_bytes)?,
        None => u32::try_from(names(snapshot)?.len()).unwrap_or(u32::MAX),
    };
    let key = key(NAMES, &[name.as_bytes()]);
    let mut batch = Batch::new();
    batch.expect(Space::Local, &key, None);
    batch.expect(Space::Local, &count, before.as_deref());
    let put = |key: &[u8], value: u32, batch: &mut Batch| {
        batch.put(Space::Local, key, &seal::seal(key, &value.to_be_bytes()));
    };
    put(&key, number, &mut batch);
    put(&count, number.saturating_add(1), &mut batch);
    shared.group.write(CREATION, batch, shared.durability)?;
    Ok(number)
}

fn key(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![tag];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

fn get(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Bytes>> {
    snapshot
        .get(Space::Local, key)?
        .map(|sealed| seal::open(key, &sealed))
        .transpose()
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| Error::Corrupt("a number of a local database".into()))
}

/// The key of a state row; `None` for versions, which a local database does not keep.
fn row_key(slot: StoreSlot, space: RowSpace, own: &[u8]) -> Option<Vec<u8>> {
    let tag = match space {
        RowSpace::Cur => 0,
        RowSpace::Pos => 1,
        RowSpace::Ver => return None,
    };
    Some(key(
        ROWS,
        &[
            &slot.database.to_be_bytes(),
            &slot.store.to_be_bytes(),
            &[tag],
            own,
        ],
    ))
}

/// Bytes before a store's own key.
const ROW_PREFIX: usize = 10;

/// The rows of one local store.
#[derive(Clone, Copy)]
struct LocalRows<'a> {
    snapshot: &'a dyn Snapshot,
    slot: StoreSlot,
}

impl Rows for LocalRows<'_> {
    type Error = EngineError;

    fn get(&self, space: RowSpace, own: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let Some(key) = row_key(self.slot, space, own) else {
            return Ok(None);
        };
        let sealed = self.snapshot.get(Space::Local, &key)?;
        sealed.map(|sealed| unseal(&key, &sealed)).transpose()
    }

    fn scan(
        &self,
        space: RowSpace,
        range: eidetica_crdt::KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, EngineError> {
        let (Some(start), Some(end)) = (
            row_key(self.slot, space, range.start),
            row_key(self.slot, space, range.end),
        ) else {
            return Ok(RowPage::default());
        };
        let direction = if reverse {
            Direction::Reverse
        } else {
            Direction::Forward
        };
        let page = self.snapshot.scan(
            Space::Local,
            &KeyRange::new(start, end),
            direction,
            ScanLimit::rows(limit),
        )?;
        let open = |row: eidetica_storage::Row| {
            Ok((
                row.key.slice(ROW_PREFIX.min(row.key.len())..),
                unseal(&row.key, &row.value)?,
            ))
        };
        Ok(RowPage {
            rows: page
                .rows
                .into_iter()
                .map(open)
                .collect::<Result<_, EngineError>>()?,
            more: page.more,
        })
    }
}

fn unseal(key: &[u8], sealed: &Bytes) -> Result<Bytes, EngineError> {
    seal::open(key, sealed).map_err(|error| EngineError::corrupt(error.to_string()))
}

fn write_changes(slot: StoreSlot, changes: &Delta, batch: &mut Batch) {
    for space in [RowSpace::Cur, RowSpace::Pos] {
        for (own, value) in changes.iter(space) {
            let Some(key) = row_key(slot, space, own) else {
                continue;
            };
            match value {
                Some(value) => batch.put(Space::Local, &key, &seal::seal(&key, value)),
                None => batch.delete(Space::Local, &key),
            }
        }
    }
}
