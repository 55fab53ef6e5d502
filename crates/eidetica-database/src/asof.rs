//! The state as of a frontier: of the writes, those of the frontier's past that count by that past alone.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use eidetica_crdt::{
    Edit, Locator, MemRows, Order, Path, Payload, RowSpace, RowsMut, Step, StoreKind, apply_batch,
    as_of,
};
use eidetica_entry::{Id, Ids, ParentInfo, Stamp, StoreName};
use eidetica_storage::log::{LogReader, Mark};
use parking_lot::Mutex;

use crate::Database;
use crate::apply::{Writes, writes_of};
use crate::error::{Error, Result};
use crate::known::Known;
use crate::overlay::View;
use crate::past::{Past, arrivals};
use crate::query::{DynRows, Query};
use crate::rows::StoreRows;
use crate::source::{Reader, Remembered, Source};
use crate::standing::Standings;
use crate::stores::{DocView, TableView};

/// A database as it was, or would be, at a frontier. A cheap handle; it remembers in memory what was
/// read through it.
#[derive(Clone)]
pub struct AsOf(Arc<Inner>);

struct Inner {
    database: Database,
    frontier: Vec<Id>,
    past: Arc<Past>,
    /// The entries of the past that are void by what is in it.
    void: OnceLock<Past>,
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
        let snapshot = database.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let (frontier, past) = database.core().pasts.of_frontier(ids, &reader)?;
        Ok(Self(Arc::new(Inner {
            database: database.clone(),
            frontier,
            past,
            void: OnceLock::new(),
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
        let snapshot = database.state_snapshot()?;
        let reader = core.log.reader(&*snapshot);
        let void = self.void(&reader)?;
        let counted = |arrival| self.0.past.contains(arrival) && !void.contains(arrival);
        database.check_whole_in(name, &*snapshot, counted)?;
        // What is void now has no rows, and may have counted then.
        let lost = lost(&reader, counted)?;
        let lost = lost.get(&(name.clone(), kind));
        let prefix = match lost {
            Some(_) => &Path::root(),
            None => prefix,
        };
        let mut restricted = match core.slot(name, kind) {
            Some(slot) => {
                let rows = StoreRows {
                    view: View::durable(&*snapshot),
                    slot,
                };
                let mut failed = None;
                let mut keep = |stamp: &Stamp| match arrivals(&[stamp.id], &reader) {
                    Ok(arrivals) => arrivals.iter().all(|arrival| counted(*arrival)),
                    Err(error) => {
                        failed.get_or_insert(error);
                        false
                    }
                };
                let restricted = as_of(&rows, kind, prefix, &mut keep)?;
                failed.map_or(Ok(restricted), Err)?
            }
            None => MemRows::new(),
        };
        let lost: Vec<(Stamp, &Payload)> = lost
            .into_iter()
            .flatten()
            .map(|(stamp, payload)| (*stamp, payload))
            .collect();
        match apply_batch(&mut restricted, kind, &lost, Order::Any) {
            Ok(()) => Ok(restricted),
            Err(error) => Err(Error::Corrupt(error.to_string())),
        }
    }

    /// Arrival numbers of entries of the past that are void by what is in it. The first call costs what lies
    /// outside of the cuts of all revocations in the past, within it.
    fn void(&self, reader: &LogReader<'_>) -> Result<&Past> {
        if let Some(void) = self.0.void.get() {
            return Ok(void);
        }
        let (database, core) = (&self.0.database, self.0.database.core());
        let known = Known::new(database.shared(), core.id, reader);
        let infos = self.0.frontier.iter().map(|id| known.info(id));
        let infos: Vec<ParentInfo> = infos.collect::<Result<_>>()?;
        let settings = core.derive_settings(&infos, reader)?;
        let root = core.authority.at(&Ids::from(core.id), &known)?;
        let standings = Standings::at(&core.authority, &known, &settings)?;
        let changes = standings.state().changes_since(&root);
        let mut void = Past::default();
        for flip in standings.flips_below(&self.0.frontier, &changes, |_| false)? {
            void.insert(flip.arrival);
        }
        Ok(self.0.void.get_or_init(|| void))
    }
}

/// What void entries wrote that are counted here.
fn lost(reader: &LogReader<'_>, counted: impl Fn(u64) -> bool) -> Result<Writes> {
    if reader.state()?.void == 0 {
        return Ok(Writes::new());
    }
    let void = reader.marks(Mark::Void)?;
    let entries = void.iter().filter(|arrival| counted(*arrival));
    let entries = entries.map(|arrival| reader.at(arrival));
    Ok(writes_of(&entries.collect::<Result<Vec<_>, _>>()?))
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
