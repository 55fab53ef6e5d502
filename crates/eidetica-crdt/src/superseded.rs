//! Versions that nothing asks for any more once a past is agreed on.
//!
//! A write that is older than a cover at its path or at a prefix is dead, and stays so whatever is added to the set of
//! writes ([`crate::insert`]). Only who takes writes out, or looks at a past without that cover, asks for it again. So what a past
//! itself has covered can go, as long as neither happens within that past.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use eidetica_entry::Stamp;

use crate::cell::{parse_cell, parse_row_cells, parse_ver, ver_path};
use crate::mem::Pages;
use crate::{Op, Path, RowSpace, Rows, StateError, StoreKind, limits};

/// Greater than every key of a store.
const END: &[u8] = &[0xff];

/// Calls `visit` with path, stamp and key of every `Ver` row that no state needs which has all writes of a past: those of
/// the past that are older than a cover of the past at their path or at a prefix of it. Insertions and moves of elements
/// and their ends count as covered only where their list or what holds it is.
///
/// `in_past` says of some stamps which are in the past, [`limits::SUPERSEDED_AT_ONCE`] of them at most. Rows that are
/// taken away on the way do no harm. O(rows), in order; in memory are a page of rows and the paths of so many writes.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn superseded<R: Rows>(
    rows: &R,
    kind: StoreKind,
    in_past: &mut impl FnMut(&[Stamp]) -> Result<Vec<bool>, R::Error>,
    visit: &mut impl FnMut(&Path, Stamp, &[u8]) -> ControlFlow<()>,
) -> Result<(), StateError<R::Error>> {
    let mut writes = Writes::new(kind);
    let mut covers = Covers::default();
    loop {
        let mut some = Vec::with_capacity(limits::SUPERSEDED_AT_ONCE);
        while some.len() < limits::SUPERSEDED_AT_ONCE
            && let Some(next) = writes.next(rows)?
        {
            some.push(next);
        }
        if some.is_empty() {
            return Ok(());
        }
        let stamps: Vec<Stamp> = some.iter().map(|write| write.stamp).collect();
        let in_past = in_past(&stamps)?;
        for (write, _) in some.iter().zip(in_past).filter(|(_, is_in)| *is_in) {
            let (above, cover) = covers.meet(write);
            let by = if write.of_element { above } else { cover };
            if let Some(key) = &write.row
                && by > Some(write.stamp)
                && visit(&write.path, write.stamp, key).is_break()
            {
                return Ok(());
            }
        }
    }
}

/// The greatest covers of the past at a path that is walked to and at its prefixes.
#[derive(Default)]
struct Covers {
    /// Prefixes that have writes, outermost first: their length, and the greatest cover there or above.
    frames: Vec<(usize, Option<Stamp>)>,
    at: Vec<u8>,
}

impl Covers {
    /// Goes on to a write of the past. Returns the greatest cover above its path, and there or above, this write included.
    ///
    /// Of the writes at one path the greatest cover must come before what is no cover.
    fn meet(&mut self, write: &Met) -> (Option<Stamp>, Option<Stamp>) {
        let path = write.path.as_bytes();
        let is_prefix =
            |len: usize, at: &[u8]| at.get(..len).is_some_and(|at| path.starts_with(at));
        while self
            .frames
            .pop_if(|(len, _)| !is_prefix(*len, &self.at))
            .is_some()
        {}
        let own = self.frames.pop_if(|(len, _)| *len == path.len());
        let above = self.frames.last().and_then(|(_, cover)| *cover);
        let own = own.and_then(|(_, cover)| cover).max(above);
        let cover = own.max(write.covers.then_some(write.stamp));
        self.frames.push((path.len(), cover));
        self.at.clear();
        self.at.extend(path);
        (above, cover)
    }
}

/// What counts of a write here; values may be long.
struct Met {
    path: Path,
    stamp: Stamp,
    covers: bool,
    /// Whether elements exist or stand somewhere by it.
    of_element: bool,
    /// The key of its row, if that is a `Ver` row.
    row: Option<Bytes>,
}

impl Met {
    fn new(path: Path, stamp: Stamp, op: &Op, row: Option<Bytes>) -> Self {
        Self {
            path,
            stamp,
            covers: op.covers(),
            of_element: matches!(op, Op::Ins { .. } | Op::Move(_) | Op::Kill),
            row,
        }
    }
}

/// The writes in `Cur` and `Ver` rows by path; of one path that of `Cur` first, then by slot and descending stamp.
struct Writes {
    kind: StoreKind,
    cur: Pages,
    ver: Pages,
    /// Of the last row of `Cur`.
    shown: VecDeque<Met>,
}

impl Writes {
    fn new(kind: StoreKind) -> Self {
        let all = |space| Pages::new(space, Vec::new(), END.to_vec(), false, limits::SCAN_ROWS);
        Self {
            kind,
            cur: all(RowSpace::Cur),
            ver: all(RowSpace::Ver),
            shown: VecDeque::new(),
        }
    }

    fn next<R: Rows>(&mut self, rows: &R) -> Result<Option<Met>, StateError<R::Error>> {
        while self.shown.is_empty()
            && let Some((key, value)) = self.cur.next(rows)?
        {
            self.shown = shown(self.kind, &key, &value)?;
        }
        let version = match self.ver.peek(rows)? {
            Some((key, _)) => Some(ver_path(key)?),
            None => None,
        };
        let shown = self.shown.front().map(|write| &write.path);
        if shown.is_some_and(|shown| version.as_ref().is_none_or(|version| shown <= version)) {
            return Ok(self.shown.pop_front());
        }
        let (Some(path), Some((key, value))) = (version, self.ver.next(rows)?) else {
            return Ok(None);
        };
        let (stamp, op) = parse_ver(&key, &value)?;
        Ok(Some(Met::new(path, stamp, &op, Some(key))))
    }
}

/// The writes in a `Cur` row, by path.
fn shown<E>(kind: StoreKind, key: &[u8], value: &[u8]) -> Result<VecDeque<Met>, StateError<E>> {
    let root = Path::from_trusted(key);
    let cells = match kind {
        StoreKind::Doc => [(root, parse_cell(key, value)?)].into(),
        StoreKind::Table => parse_row_cells(&root, value)?,
    };
    let writes = cells.into_iter().filter_map(|(path, cell)| {
        let (stamp, op) = cell.value?;
        Some(Met::new(path, stamp, &op, None))
    });
    Ok(writes.collect())
}
