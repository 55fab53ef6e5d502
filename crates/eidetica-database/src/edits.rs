//! What a transaction has read and wants changed, before anybody lowers it.
//!
//! Edits are kept as they were asked for and lowered at commit, on the state as it is then. Until
//! somebody reads through the transaction, no state is read at all.

use std::collections::BTreeMap;
use std::ops::Bound;

use eidetica_crdt::{Draft, Edit, RowSpace, Rows, StoreKind, lower};
use eidetica_entry::StoreName;
use eidetica_storage::EngineError;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::limits;
use crate::query::{Answer, DynRows, Query};
use crate::source::Source;
use crate::stores::{DocStore, Table};

/// The reads and edits of one transaction, and the stores they go to.
///
/// A transaction sees what is durable and its own edits. It holds no lock and no snapshot, so two
/// reads may see two states; if that matters, the commit fails with a conflict.
pub struct Edits {
    pub(crate) source: Source,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    stores: BTreeMap<StoreName, StoreEdits>,
    reads: Vec<Note>,
    /// The version of the database at the first read.
    read_at: Option<u64>,
}

/// The edits of one store.
struct StoreEdits {
    kind: StoreKind,
    /// Keeps list positions of different writers apart.
    seed: u64,
    edits: Vec<Edit>,
    /// Made when the transaction reads the store.
    drafted: Option<Drafted>,
}

/// The first `edits` edits of a store, lowered on the state of one version.
struct Drafted {
    version: u64,
    edits: usize,
    draft: Draft,
}

/// A read and its answer from the state below the transaction's own edits.
struct Note {
    store: StoreName,
    kind: StoreKind,
    query: Query,
    digest: [u8; 32],
}

/// A store's edits, taken out of a transaction for its commit.
pub(crate) struct StoreChange {
    pub(crate) store: StoreName,
    pub(crate) kind: StoreKind,
    seed: u64,
    pub(crate) edits: Vec<Edit>,
}

/// Everything a commit needs of a transaction.
pub(crate) struct Changes {
    pub(crate) stores: Vec<StoreChange>,
    reads: Vec<Note>,
    read_at: Option<u64>,
}

impl Edits {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            inner: Mutex::default(),
        }
    }

    /// A document to read and change.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn doc(&self, name: &str) -> Result<DocStore<'_>> {
        DocStore::open(self, name)
    }

    /// A table to read and change, whose rows have the form of `T`.
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn table<T>(&self, name: &str) -> Result<Table<'_, T>> {
        Table::open(self, name)
    }

    /// Whether nothing was changed yet.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().stores.is_empty()
    }

    /// Checks that `name` can be opened as `kind` here.
    pub(crate) fn open(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        if let Some(store) = self.inner.lock().stores.get(name)
            && store.kind != kind
        {
            return Err(Error::wrong_kind(name, kind, store.kind));
        }
        self.source.check_kind(name, kind)
    }

    /// Notes an edit. Nothing is read unless the transaction has read this store before.
    pub(crate) fn edit(&self, name: &StoreName, kind: StoreKind, edit: Edit) -> Result<()> {
        let mut inner = self.inner.lock();
        let seed = &self.source;
        let store = inner
            .stores
            .entry(name.clone())
            .or_insert_with(|| StoreEdits {
                kind,
                seed: seed.random(),
                edits: Vec::new(),
                drafted: None,
            });
        store.edits.push(edit);
        Ok(())
    }

    /// Answers a query from the durable state and the edits so far, and notes it.
    pub(crate) fn query(&self, name: &StoreName, kind: StoreKind, query: Query) -> Result<Answer> {
        // Own edits are lowered on the whole store, whatever the query needs of it.
        let whole = Query::Scan {
            range: (Bound::Unbounded, Bound::Unbounded),
            reverse: false,
            limit: 0,
        };
        let edited = self
            .inner
            .lock()
            .stores
            .get(name)
            .is_some_and(|own| !own.edits.is_empty());
        let needed = if edited { &whole } else { &query };
        self.source.read(name, kind, needed, |version, rows| {
            let inner = &mut *self.inner.lock();
            if inner.reads.len() >= limits::TRANSACTION_READS {
                return Err(Error::Limit {
                    what: "reads in one transaction",
                    limit: limits::TRANSACTION_READS,
                });
            }
            let below = query.run(rows)?;
            inner.read_at.get_or_insert(version);
            let digest = below.digest();
            let answer = match inner.stores.get_mut(name) {
                Some(own) if !own.edits.is_empty() => own.answer(name, version, rows, &query)?,
                _ => below,
            };
            inner.reads.push(Note {
                store: name.clone(),
                kind,
                query: query.clone(),
                digest,
            });
            Ok(answer)
        })
    }

    pub(crate) fn take(&self) -> Changes {
        let inner = std::mem::take(&mut *self.inner.lock());
        let change = |(store, own): (StoreName, StoreEdits)| StoreChange {
            store,
            kind: own.kind,
            seed: own.seed,
            edits: own.edits,
        };
        let stores = inner.stores.into_iter().map(change).collect();
        Changes {
            stores,
            reads: inner.reads,
            read_at: inner.read_at,
        }
    }
}

impl StoreEdits {
    /// Answers from `rows` with the own edits over them.
    fn answer(
        &mut self,
        name: &StoreName,
        version: u64,
        rows: &DynRows<'_>,
        query: &Query,
    ) -> Result<Answer> {
        let mut drafted = match self.drafted.take() {
            Some(drafted) if drafted.version == version => drafted,
            _ => Drafted {
                version,
                edits: 0,
                draft: Draft::new(self.kind, self.seed),
            },
        };
        for edit in self.edits.iter().skip(drafted.edits) {
            drafted
                .draft
                .edit(&rows, edit)
                .map_err(|error| Error::edit(name, error))?;
        }
        drafted.edits = self.edits.len();
        let answer = query.run(&drafted.draft.view(&rows))?;
        self.drafted = Some(drafted);
        Ok(answer)
    }
}

impl StoreChange {
    /// The canonical payload of the edits on the state `rows`; `None` if they amount to nothing.
    pub(crate) fn lower(&self, rows: &DynRows<'_>) -> Result<Option<eidetica_crdt::Payload>> {
        lower(&rows, self.kind, &self.edits, self.seed)
            .map_err(|error| Error::edit(&self.store, error))
    }
}

impl Changes {
    /// Whether the settings' document is edited.
    pub(crate) fn writes_settings(&self) -> bool {
        self.stores.iter().any(|change| change.store.is_settings())
    }

    /// Whether any read was made before version `now`.
    pub(crate) fn may_be_stale(&self, now: u64) -> bool {
        self.read_at.is_some_and(|at| at != now)
    }

    /// Asks every read again and compares.
    pub(crate) fn check_reads<'a>(
        &self,
        mut rows_of: impl FnMut(&StoreName, StoreKind) -> Box<DynRows<'a>>,
    ) -> Result<()> {
        for note in &self.reads {
            let rows = rows_of(&note.store, note.kind);
            if note.query.run(&*rows)?.digest() != note.digest {
                return Err(Error::Conflict {
                    store: note.store.clone(),
                });
            }
        }
        Ok(())
    }
}

/// No rows: a store that nobody has written yet.
pub(crate) struct NoRows;

impl Rows for NoRows {
    type Error = EngineError;

    fn get(&self, _: RowSpace, _: &[u8]) -> Result<Option<bytes::Bytes>, EngineError> {
        Ok(None)
    }

    fn scan(
        &self,
        _: RowSpace,
        _: eidetica_crdt::KeyRange<'_>,
        _: bool,
        _: usize,
    ) -> Result<eidetica_crdt::RowPage, EngineError> {
        Ok(eidetica_crdt::RowPage::default())
    }
}
