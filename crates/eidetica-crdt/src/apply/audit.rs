//! Checking the rows of a store: each by itself, and against the others.
//!
//! Every write stands in exactly one row, and what is live follows from the writes. So rows are right if the writes in
//! them are those of the entries, which the caller compares ([`Audited::Write`]), and if what is current follows from
//! them, which is found here by computing every path again from the rows. Nothing is kept from one path to the next, so
//! memory does not grow with the store.

use bytes::Bytes;
use eidetica_entry::Stamp;

use super::{Context, State, bind};
use crate::cell::{
    Cell, encode_row, parse_pos_key, parse_row_cells, parse_ver_key, parse_ver_value, pos_key,
    row_of, ver_key, ver_path, ver_value, with_byte,
};
use crate::codec::write_op;
use crate::mem::Pages;
use crate::path::{AFTER, ELEM_BYTES, KEY, write_stamp};
use crate::{
    KeyRange, Op, Order, Path, Payload, RowPage, RowSpace, Rows, RowsMut, StateError, StoreKind,
    limits,
};

/// What an audit meets.
#[derive(Debug)]
pub enum Audited<'a> {
    /// A write, and the row that it stands in.
    Write {
        /// Where it applies.
        path: &'a Path,
        /// Its entry's stamp.
        stamp: Stamp,
        /// What it does.
        op: &'a Op,
        /// The space and key of its row.
        row: (RowSpace, &'a [u8]),
    },
    /// A row that does not decode, or that is not as it would be by the writes in the others: to be changed, to go, or
    /// to come.
    Wrong(RowSpace, &'a [u8]),
}

type Visit<'v> = dyn FnMut(Audited<'_>) + 'v;

/// Greater than every key of a store.
const END: &[u8] = &[0xff];

/// Checks all rows of a store; says how many there are.
///
/// Calls `visit` for every write in them and for every row that is wrong. Where a row does not decode, what is current
/// is not compared with the other rows. O(rows), in order; memory is bounded by one path.
///
/// # Errors
/// The rows'.
pub fn audit<R: Rows>(
    rows: &R,
    kind: StoreKind,
    visit: &mut Visit<'_>,
) -> Result<u64, StateError<R::Error>> {
    let mut count = 0;
    let mut is_readable = true;
    for space in [RowSpace::Cur, RowSpace::Ver] {
        let mut pages = all(space);
        while let Some((key, value)) = pages.next(rows)? {
            count += 1;
            let read = match space {
                RowSpace::Ver => read_ver(&key, &value, visit),
                _ => read_cur(kind, &key, &value, visit),
            };
            let Some(read) = read else {
                is_readable = false;
                visit(Audited::Wrong(space, &key));
                continue;
            };
            if let Some(place) = read.place
                && rows.get(RowSpace::Pos, &place)?.is_none()
            {
                visit(Audited::Wrong(RowSpace::Pos, &place));
            }
        }
    }
    count += audit_places(rows, kind, visit)?;
    if is_readable {
        audit_current(rows, kind, visit)?;
    }
    Ok(count)
}

/// Calls `visit` for every write of a payload in the entry with this stamp.
pub fn each_write(stamp: Stamp, payload: &Payload, visit: &mut dyn FnMut(&Path, &Op)) {
    for write in bind(payload.kind(), &[(stamp, payload)]) {
        visit(&write.path, write.op);
    }
}

/// The canonical bytes of a write: equal for equal ones, and for no others.
pub fn encode_write(path: &Path, stamp: &Stamp, op: &Op, out: &mut Vec<u8>) {
    out.extend((path.as_bytes().len() as u64).to_le_bytes());
    out.extend(path.as_bytes());
    write_stamp(stamp, out);
    write_op(op, out);
}

fn all(space: RowSpace) -> Pages {
    Pages::new(space, Vec::new(), END.to_vec(), false, limits::SCAN_ROWS)
}

/// A row that is as it would be written.
#[derive(Default)]
struct Read {
    /// The key of the row that its place must have.
    place: Option<Vec<u8>>,
}

/// `None` for a row that is not as it would be written.
fn read_cur(kind: StoreKind, key: &[u8], value: &[u8], visit: &mut Visit<'_>) -> Option<Read> {
    let root = Path::from_bytes(key).ok()?;
    let (cells, again) = match kind {
        StoreKind::Doc => {
            let cell = Cell::decode(value)?;
            let again = cell.encode();
            (vec![(root, cell)], again)
        }
        StoreKind::Table => {
            let cells = parse_row_cells::<()>(&root, value).ok()?;
            let again = encode_row(&cells)?;
            (cells.into_iter().collect(), again)
        }
    };
    if again != value || cells.iter().any(|(_, cell)| cell.is_empty()) {
        return None;
    }
    for (path, _) in &cells {
        Path::from_bytes(path.as_bytes()).ok()?;
    }
    for (path, cell) in &cells {
        if let Some((stamp, op)) = &cell.value {
            visit(Audited::Write {
                path,
                stamp: *stamp,
                op,
                row: (RowSpace::Cur, key),
            });
        }
    }
    let place = cells
        .iter()
        .find_map(|(path, cell)| key_of_place(path, cell));
    Some(Read { place })
}

fn read_ver(key: &[u8], value: &[u8], visit: &mut Visit<'_>) -> Option<Read> {
    let (path, slot, stamp) = parse_ver_key(key)?;
    let path = Path::from_bytes(path).ok()?;
    let op = parse_ver_value(value)?;
    let is_whole =
        op.slot() == slot && ver_key(&path, slot, &stamp) == key && ver_value(&op) == value;
    if !is_whole {
        return None;
    }
    visit(Audited::Write {
        path: &path,
        stamp,
        op: &op,
        row: (RowSpace::Ver, key),
    });
    Some(Read::default())
}

/// Whether every row of an element's place is that of its cell.
fn audit_places<R: Rows>(
    rows: &R,
    kind: StoreKind,
    visit: &mut Visit<'_>,
) -> Result<u64, StateError<R::Error>> {
    let mut count = 0;
    let mut pages = all(RowSpace::Pos);
    while let Some((key, value)) = pages.next(rows)? {
        count += 1;
        let place = match element_of(&key) {
            Some(path) => place_of(rows, kind, &path)?,
            None => None,
        };
        if !value.is_empty() || place.as_deref() != Some(&*key) {
            visit(Audited::Wrong(RowSpace::Pos, &key));
        }
    }
    Ok(count)
}

/// The path of the element that a key of a place names.
fn element_of(key: &[u8]) -> Option<Path> {
    let elem = parse_pos_key(key)?;
    let rest = key.get(..key.len().checked_sub(ELEM_BYTES)?)?;
    let position = rest.strip_suffix(&[0])?;
    let list = position.get(..position.iter().rposition(|byte| *byte == 0)?)?;
    Path::from_bytes(list).ok()?.elem(elem).ok()
}

/// The key of the place that an element's cell says.
fn place_of<R: Rows>(
    rows: &R,
    kind: StoreKind,
    path: &Path,
) -> Result<Option<Vec<u8>>, StateError<R::Error>> {
    let value = match kind {
        StoreKind::Doc => rows.get(RowSpace::Cur, path.as_bytes())?,
        StoreKind::Table => None,
    };
    let cell = value.and_then(|value| Cell::decode(&value));
    Ok(cell.and_then(|cell| key_of_place(path, &cell)))
}

fn key_of_place(path: &Path, cell: &Cell) -> Option<Vec<u8>> {
    let ((_, position), elem) = cell.place.as_ref().zip(path.last_elem())?;
    let list = path.parent()?;
    Some(pos_key(list.as_bytes(), position, &elem))
}

/// Computes what is current again from the writes in all rows.
fn audit_current<R: Rows>(
    rows: &R,
    kind: StoreKind,
    visit: &mut Visit<'_>,
) -> Result<(), StateError<R::Error>> {
    let mut compared = Compared { rows, visit };
    let mut state = State::new(&mut compared, kind, Order::Any);
    match kind {
        StoreKind::Doc => {
            let root = Path::root();
            state.recompute(&root)?;
            state.flush()
        }
        StoreKind::Table => {
            let (mut cur, mut ver) = (all(RowSpace::Cur), all(RowSpace::Ver));
            // What stands at the root of a table is no row's.
            ver.seek(&[KEY]);
            loop {
                let live = cur.peek(rows)?.map(|(key, _)| Path::from_trusted(key));
                let written = match ver.peek(rows)? {
                    Some((key, _)) => Some(ver_path(key)?),
                    None => None,
                };
                let paths = live.into_iter().chain(written);
                let Some(row) = paths.map(|path| row_of(&path)).min() else {
                    return Ok(());
                };
                state.load(&row, false)?;
                state.recompute(&row)?;
                state.flush()?;
                let after = with_byte(&row, AFTER);
                cur.seek(&after);
                ver.seek(&after);
            }
        }
    }
}

impl<R: RowsMut> State<'_, R> {
    /// Computes a path and all below it again.
    fn recompute(&mut self, path: &Path) -> Result<(), StateError<R::Error>> {
        let context = match path.is_root() {
            true => Context::ROOT,
            false => self.context(path)?,
        };
        let cell = self.cell(path)?;
        let (_, inside) = self.settle(path, context, cell, None)?;
        self.push_frame(path, inside);
        self.rebuild(path)
    }
}

/// Rows that are never written: what would be is told.
struct Compared<'a, 'v, R> {
    rows: &'a R,
    visit: &'a mut Visit<'v>,
}

impl<R: Rows> Rows for Compared<'_, '_, R> {
    type Error = R::Error;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
        self.rows.get(space, key)
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, R::Error> {
        self.rows.scan(space, range, reverse, limit)
    }
}

impl<R: Rows> RowsMut for Compared<'_, '_, R> {
    fn put(&mut self, space: RowSpace, key: &[u8], value: &[u8]) -> Result<(), R::Error> {
        if self.rows.get(space, key)?.as_deref() != Some(value) {
            (self.visit)(Audited::Wrong(space, key));
        }
        Ok(())
    }

    fn delete(&mut self, space: RowSpace, key: &[u8]) -> Result<(), R::Error> {
        if self.rows.get(space, key)?.is_some() {
            (self.visit)(Audited::Wrong(space, key));
        }
        Ok(())
    }
}
