//! The state as of a frontier: of the writes, those of the frontier's past.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_crdt::{Edit, Locator, MemRows, Path, RowSpace, RowsMut, Step, StoreKind, as_of};
use eidetica_entry::{Id, Stamp, StoreName};
use parking_lot::Mutex;

use crate::Database;
use crate::error::{Error, Result};
use crate::overlay::View;
use crate::past::{Past, arrivals};
use crate::query::{DynRows, Query};
use crate::rows::StoreRows;
use crate::source::{Reader, Remembered, Source};
use crate::stores::{DocView, TableView};

/// A database as it was, or would be, at a frontier. A cheap handle; it remembers in memory what was
/// read through it.
#[derive(Clone)]
pub struct AsOf(Arc<Inner>);

struct Inner {
    database: Database,
    frontier: Vec<Id>,
    past: Arc<Past>,
    parts: Mutex<BTreeMap<Part, Arc<MemRows>>>,
}

/// What is computed at once: a store, or what is at and below one key of its root.
type Part = (StoreName, StoreKind, Option<Path>);

impl AsOf {
    /// The frontier is the maximal ones of `ids`, each of which must be here.
    pub(crate) fn new(database: &Database, ids: &[Id]) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::NoFrontier);
        }
        let snapshot = database.shared().engine.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let (frontier, past) = database.core().pasts.of_frontier(ids, &reader)?;
        Ok(Self(Arc::new(Inner {
            database: database.clone(),
            frontier,
            past,
            parts: Mutex::default(),
        })))
    }

    /// The frontier: entries none of which is in another's past, ascending.
    pub fn frontier(&self) -> &[Id] {
        &self.0.frontier
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// A document to read. The first read below a key of its root costs O(all writes there).
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn doc(&self, name: &str) -> Result<DocView<'static>> {
        DocView::open(Reader::Source(Source::AsOf(self.clone())), name)
    }

    /// A table to read. The first read of a row costs O(all writes to it), the first scan O(all writes).
    ///
    /// # Errors
    /// A bad name, or a store of another kind.
    pub fn table<T>(&self, name: &str) -> Result<TableView<'static, T>> {
        TableView::open(Reader::Source(Source::AsOf(self.clone())), name)
    }

    pub(crate) fn past(&self) -> &Past {
        &self.0.past
    }

    /// Answers from the rows that the query needs.
    pub(crate) fn read<T>(
        &self,
        name: &StoreName,
        kind: StoreKind,
        query: &Query,
        read: impl FnOnce(u64, &DynRows<'_>) -> Result<T>,
    ) -> Result<T> {
        let rows = self.part(name, kind, part_of_query(query))?;
        read(0, &Remembered(&rows))
    }

    /// The rows that lowering `edits` needs.
    pub(crate) fn rows_for(
        &self,
        name: &StoreName,
        kind: StoreKind,
        edits: &[Edit],
    ) -> Result<Arc<MemRows>> {
        let reading = edits.iter().filter(|edit| edit.reads());
        let mut parts: Vec<Option<Path>> = reading.map(part_of_edit).collect();
        parts.sort();
        parts.dedup();
        match parts.as_slice() {
            [] => Ok(Arc::default()),
            [part] => self.part(name, kind, part.clone()),
            [None, ..] => self.part(name, kind, None),
            several => {
                let mut all = MemRows::new();
                for part in several {
                    add(&*self.part(name, kind, part.clone())?, &mut all);
                }
                Ok(Arc::new(all))
            }
        }
    }

    fn part(&self, name: &StoreName, kind: StoreKind, part: Option<Path>) -> Result<Arc<MemRows>> {
        let key = (name.clone(), kind, part);
        if let Some(rows) = self.0.parts.lock().get(&key) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(self.restrict(name, kind, &key.2.clone().unwrap_or_default())?);
        self.0.parts.lock().insert(key, Arc::clone(&rows));
        Ok(rows)
    }

    fn restrict(&self, name: &StoreName, kind: StoreKind, prefix: &Path) -> Result<MemRows> {
        let (database, core) = (&self.0.database, self.0.database.core());
        database.catch_up()?;
        let Some(slot) = core.slot(name, kind) else {
            return Ok(MemRows::new());
        };
        let snapshot = database.shared().engine.snapshot()?;
        let reader = core.log.reader(&*snapshot);
        let rows = StoreRows {
            view: View::durable(&*snapshot),
            slot,
        };
        let mut failed = None;
        let mut keep = |stamp: &Stamp| match arrivals(&[stamp.id], &reader) {
            Ok(arrivals) => arrivals
                .iter()
                .all(|arrival| self.0.past.contains(*arrival)),
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        };
        let restricted = as_of(&rows, kind, prefix, &mut keep)?;
        failed.map_or(Ok(restricted), Err)
    }
}

fn add(rows: &MemRows, all: &mut MemRows) {
    for space in [RowSpace::Cur, RowSpace::Pos, RowSpace::Ver] {
        for (key, value) in rows.iter(space) {
            match all.put(space, key, value) {
                Ok(()) => {}
                Err(never) => match never {},
            }
        }
    }
}

/// The key of the root that a query stays at or below; `None` if there is no one such key.
fn part_of_query(query: &Query) -> Option<Path> {
    match query {
        Query::Get(at) => part_of_locator(at),
        Query::List { list, .. } => part_of_locator(list),
        Query::Row(key) => Path::root().key(key).ok(),
        Query::Scan { .. } => None,
    }
}

fn part_of_edit(edit: &Edit) -> Option<Path> {
    match edit {
        Edit::Set { at, .. }
        | Edit::Delete { at }
        | Edit::Increment { at, .. }
        | Edit::ListMove { at, .. } => part_of_locator(at),
        Edit::ListInsert { list, .. } => part_of_locator(list),
        Edit::RowInsert { key, .. }
        | Edit::RowSet { key, .. }
        | Edit::FieldDelete { key, .. }
        | Edit::FieldIncrement { key, .. }
        | Edit::RowDelete { key } => Path::root().key(key).ok(),
        _ => None,
    }
}

/// A document's root is a map, so the first step is a key.
fn part_of_locator(at: &Locator) -> Option<Path> {
    match at.0.first()? {
        Step::Name(key) | Step::Key(key) => Path::root().key(key).ok(),
        Step::Elem(_) => None,
    }
}
