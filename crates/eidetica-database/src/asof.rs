//! The state as of a frontier: of the writes, those of the frontier's past.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use eidetica_crdt::{MemRows, Path, StateError, StoreKind, as_of};
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Id, Ids, StoreName};
use eidetica_storage::EngineError;
use eidetica_storage::log::LogError;
use parking_lot::Mutex;

use crate::Database;
use crate::edits::NoRows;
use crate::error::{Error, Result};
use crate::overlay::View;
use crate::query::DynRows;
use crate::rows::StoreRows;
use crate::source::{Reader, Remembered, Source};
use crate::stores::{DocView, TableView};

/// A database as it was, or would be, at a frontier. A cheap handle; it remembers each store that was
/// read through it, whole and in memory.
#[derive(Clone)]
pub struct AsOf(Arc<Inner>);

struct Inner {
    database: Database,
    frontier: Ids,
    stores: Mutex<BTreeMap<(StoreName, StoreKind), Arc<MemRows>>>,
}

impl AsOf {
    /// The frontier is the maximal ones of `ids`, each of which must be here.
    pub(crate) fn new(database: &Database, ids: &[Id]) -> Result<Self> {
        let snapshot = database.shared().engine.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let located = reader.locate(ids)?;
        if let Some((missing, _)) = ids.iter().zip(located).find(|(_, located)| located.is_none()) {
            return Err(Error::NoEntry(*missing));
        }
        let frontier = dag::maximal(&reader, ids, &mut Budget::unlimited()).map_err(LogError::from)?;
        if frontier.is_empty() {
            return Err(Error::Empty);
        }
        let inner = Inner { database: database.clone(), frontier, stores: Mutex::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// The frontier: entries none of which is in another's past.
    pub fn frontier(&self) -> &[Id] {
        &self.0.frontier
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// A document to read. The first read costs O(its writes) and O(entries outside the frontier's past).
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn doc(&self, name: &str) -> Result<DocView<'static>> {
        DocView::open(Reader::Source(Source::AsOf(self.clone())), name)
    }

    /// A table to read; costs as for [`doc`](Self::doc).
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn table<T>(&self, name: &str) -> Result<TableView<'static, T>> {
        TableView::open(Reader::Source(Source::AsOf(self.clone())), name)
    }

    pub(crate) fn read<T>(
        &self,
        name: &StoreName,
        kind: StoreKind,
        read: impl FnOnce(u64, &DynRows<'_>) -> Result<T>,
    ) -> Result<T> {
        let rows = self.rows(name, kind)?;
        read(0, &Remembered(&rows))
    }

    /// The rows of a store as of the frontier.
    pub(crate) fn rows(&self, name: &StoreName, kind: StoreKind) -> Result<Arc<MemRows>> {
        let key = (name.clone(), kind);
        if let Some(rows) = self.0.stores.lock().get(&key) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(self.restrict(name, kind)?);
        self.0.stores.lock().insert(key, Arc::clone(&rows));
        Ok(rows)
    }

    /// What is not in the past of the frontier is in the difference between it and the tips. The tips
    /// are taken after the snapshot that the writes are read from, so no entry of that is missed.
    fn restrict(&self, name: &StoreName, kind: StoreKind) -> Result<MemRows> {
        let (database, core) = (&self.0.database, self.0.database.core());
        database.catch_up()?;
        let snapshot = database.shared().engine.snapshot()?;
        let later = database.shared().engine.snapshot()?;
        let reader = core.log.reader(&*later);
        let tips: Vec<Id> = reader.state()?.tips.iter().map(|tip| tip.id).collect();
        let outside = dag::difference(&reader, &tips, &self.0.frontier, &mut Budget::unlimited())
            .map_err(LogError::from)?;
        let outside: HashSet<Id> = outside.into_iter().map(|stamp| stamp.id).collect();
        let mut keep = |stamp: &eidetica_entry::Stamp| !outside.contains(&stamp.id);
        let rows: Result<MemRows, StateError<EngineError>> = match core.slot(name, kind) {
            Some(slot) => {
                let rows = StoreRows { view: View::durable(&*snapshot), slot };
                as_of(&rows, kind, &Path::root(), &mut keep)
            }
            None => as_of(&NoRows, kind, &Path::root(), &mut keep),
        };
        Ok(rows?)
    }
}
