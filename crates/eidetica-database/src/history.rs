//! Looking back: entries newest first, and the versions of a value.

use std::collections::HashSet;

use eidetica_crdt::{
    Doc, Init, List, Locator, Op, Path, StampedWrite, StoreKind, Value, resolve, versions_at,
};
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Entry, Height, Id, Stamp, StoreName};
use eidetica_storage::log::{LogError, LogReader, Mark};

use crate::error::{Error, Result};
use crate::overlay::View;
use crate::past::arrivals;
use crate::rows::StoreRows;
use crate::{Database, limits};

/// Some entries of a database, newest first.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    /// Entries by descending stamp, void ones among them.
    pub entries: Vec<Entry>,
    /// Those of them that are void: they contribute nothing.
    pub void: HashSet<Id>,
    /// What to ask for next; `None` if these are the oldest.
    pub next: Option<Stamp>,
}

/// A write that nobody overwrote knowingly.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The entry that made it.
    pub stamp: Stamp,
    /// What it leaves there; `None` if it deletes.
    pub value: Option<Value>,
}

impl HistoryPage {
    /// Whether an entry of this page counts.
    pub fn is_effective(&self, id: &Id) -> bool {
        !self.void.contains(id)
    }
}

impl Database {
    /// Whether an entry counts, by everything that is known; `None` if it is not here. Two rows.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_effective(&self, id: &Id) -> Result<Option<bool>> {
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let Some(located) = reader.locate(&[*id])?.pop().flatten() else {
            return Ok(None);
        };
        Ok(Some(!reader.is_marked(Mark::Void, located.arrival)?))
    }

    /// Entries by descending stamp: those below `before`, or the newest ones, at most `limit` and
    /// [`limits::PAGE_ROWS`]. Costs the stored packs that hold them.
    ///
    /// # Errors
    /// The engine's.
    pub fn history(&self, before: Option<Stamp>, limit: usize) -> Result<HistoryPage> {
        let limit = limit.clamp(1, limits::PAGE_ROWS);
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let highest = match before {
            Some(before) => before.height,
            None => reader.state()?.max_height,
        };
        let ids = newest(&reader, highest, before, limit)?;
        let mut entries = Vec::with_capacity(ids.len());
        for (id, entry) in ids.iter().zip(reader.get_many(&ids)?) {
            entries.push(entry.ok_or(Error::NoEntry(*id))?);
        }
        let oldest = entries
            .last()
            .filter(|entry| entry.header().height > Height::ROOT);
        let next = oldest.filter(|_| entries.len() == limit).map(Entry::stamp);
        let void = void_of(&entries, &reader)?;
        Ok(HistoryPage {
            entries,
            void,
            next,
        })
    }

    /// The versions of what a document shows at `path`, newest first: of the last `limit` writes there,
    /// those that no later write there or above had in its past. More than one means that people wrote at the
    /// same time; the first is what is shown unless something above it is gone.
    ///
    /// Costs those writes, and a walk through the history between them.
    ///
    /// # Errors
    /// No path, the engine's.
    pub fn versions(&self, store: &str, path: &str, limit: usize) -> Result<Vec<Version>> {
        let at = Locator::parse(path)?;
        self.versions_of(store, StoreKind::Doc, limit, |rows| Ok(resolve(rows, &at)?))
    }

    /// The versions of a field of a table row; see [`versions`](Self::versions).
    ///
    /// # Errors
    /// A key that is none, the engine's.
    pub fn field_versions(
        &self,
        store: &str,
        key: &str,
        field: &str,
        limit: usize,
    ) -> Result<Vec<Version>> {
        let path = Path::of_keys([key, field])?;
        self.versions_of(store, StoreKind::Table, limit, |_| Ok(Some(path)))
    }

    fn versions_of(
        &self,
        store: &str,
        kind: StoreKind,
        limit: usize,
        path: impl FnOnce(&StoreRows<'_>) -> Result<Option<Path>>,
    ) -> Result<Vec<Version>> {
        let store = StoreName::new(store)?;
        self.check_kind(&store, kind)?;
        let snapshot = self.state_snapshot()?;
        self.check_whole(&store, &*snapshot)?;
        let Some(slot) = self.core().slot(&store, kind) else {
            return Ok(Vec::new());
        };
        let rows = StoreRows {
            view: View::durable(&*snapshot),
            slot,
        };
        let Some(path) = path(&rows)? else {
            return Ok(Vec::new());
        };
        let writes = versions_at(&rows, kind, &path, limit.clamp(1, limits::PAGE_ROWS))?;
        let reader = self.core().log.reader(&*snapshot);
        let open = not_overwritten(&writes, &path, &reader)?;
        let kept = writes
            .into_iter()
            .filter(|write| write.path == path && open.contains(&write.stamp.id));
        Ok(kept
            .map(|write| Version {
                stamp: write.stamp,
                value: value_of(write.op),
            })
            .collect())
    }
}

fn void_of(entries: &[Entry], reader: &LogReader<'_>) -> Result<HashSet<Id>> {
    if reader.state()?.void == 0 {
        return Ok(HashSet::new());
    }
    let marks = reader.marks(Mark::Void)?;
    let ids: Vec<Id> = entries.iter().map(Entry::id).collect();
    let arrivals = arrivals(&ids, reader)?.into_iter().zip(ids);
    Ok(arrivals
        .filter_map(|(arrival, id)| marks.contains(arrival).then_some(id))
        .collect())
}

/// Ids of the `limit` greatest stamps below `before`, looked for in windows of heights that widen from
/// the top, so that no page looks at the whole history's packs.
fn newest(
    reader: &LogReader<'_>,
    highest: Height,
    before: Option<Stamp>,
    limit: usize,
) -> Result<Vec<Id>> {
    let mut window = limit as u64;
    loop {
        let lowest = Height(highest.0.saturating_sub(window));
        let found = reader.by_height(lowest..=highest, before, limit)?;
        if found.len() >= limit || lowest == Height::ROOT {
            return Ok(found.into_iter().map(|(stamp, _)| stamp.id).collect());
        }
        window = window.saturating_mul(4);
    }
}

/// The entries of those writes at `path` that are in the past of no covering write.
fn not_overwritten(
    writes: &[StampedWrite],
    path: &Path,
    reader: &LogReader<'_>,
) -> Result<HashSet<Id>> {
    let covers: Vec<Id> = writes
        .iter()
        .filter(|write| write.op.covers())
        .map(|write| write.stamp.id)
        .collect();
    let covers: HashSet<Id> = covers.into_iter().collect();
    let all: Vec<Id> = covers.iter().copied().collect();
    let last = dag::maximal(reader, &all, &mut Budget::unlimited()).map_err(LogError::from)?;
    let mut open = HashSet::new();
    for write in writes.iter().filter(|write| write.path == *path) {
        let id = write.stamp.id;
        let is_open = if covers.contains(&id) {
            last.has(&id)
        } else {
            !is_below(reader, id, &last)?
        };
        if is_open {
            open.insert(id);
        }
    }
    Ok(open)
}

/// Whether `id` is in the past of one of `entries`.
fn is_below(reader: &LogReader<'_>, id: Id, entries: &[Id]) -> Result<bool> {
    let outside = dag::difference(reader, &[id], entries, &mut Budget::unlimited())
        .map_err(LogError::from)?;
    Ok(outside.last().is_none_or(|stamp| stamp.id != id))
}

/// What an operation leaves at its path.
fn value_of(op: Op) -> Option<Value> {
    use eidetica_crdt::Container::{List as AList, Map};
    match op {
        Op::Set(scalar)
        | Op::Ins {
            init: Init::Scalar(scalar),
            ..
        } => Some(Value::from(scalar)),
        Op::Clear(Map)
        | Op::Make(Map)
        | Op::Ins {
            init: Init::Empty(Map),
            ..
        } => Some(Value::Map(Doc::new())),
        Op::Clear(AList)
        | Op::Make(AList)
        | Op::Ins {
            init: Init::Empty(AList),
            ..
        } => Some(Value::List(List::new())),
        _ => None,
    }
}
