//! Reading what a store shows, and the writes behind it.

use std::collections::BTreeMap;
use std::ops::Bound;

use eidetica_entry::Stamp;

use crate::apply::{BoundWrite, State};
use crate::cell::{
    Cell, parse_cell, parse_pos_key, parse_row, parse_row_cells, parse_ver, pos_range, row_of,
    ver_path, ver_range, with_byte,
};
use crate::mem::Pages;
use crate::path::{AFTER, ELEM, KEY, ends, read_segment, write_escaped};
use crate::walk::{Alone, Builder, Sort, look, read_cell, walk};
use crate::{
    Container, Doc, ElemId, Locator, MemRows, Op, Order, Path, RowSpace, Rows, Segment, Slot,
    StateError, Step, StoreKind, Value, limits,
};

/// A write and who made it.
#[derive(Clone, Debug, PartialEq)]
pub struct StampedWrite {
    /// Where.
    pub path: Path,
    /// The entry that made it.
    pub stamp: Stamp,
    /// What.
    pub op: Op,
}

/// Items of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// Elements and what they show, in the order of the list.
    pub items: Vec<(ElemId, Value)>,
    /// Whether there are more after these.
    pub more: bool,
}

/// Rows of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TablePage {
    /// Keys and fields, in the direction of the scan.
    pub rows: Vec<(String, Doc)>,
    /// Whether there are more after these. May be `true` by mistake, never `false`.
    pub more: bool,
}

type Outcome<T, R> = Result<T, StateError<<R as Rows>::Error>>;

/// What a document shows at a path; `None` where nothing is. The root of an empty document is nothing.
///
/// Costs one scan of what is shown, and one per list and element in it.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn get<R: Rows>(rows: &R, path: &Path) -> Outcome<Option<Value>, R> {
    let mut builder = Builder::default();
    walk(rows, path.clone(), &mut builder)?;
    Ok(builder.finish())
}

/// The path that a locator names in the present state: names are indexes where a list is shown, keys
/// elsewhere. `None` if a list has no such index. Whether anything is there is another question.
///
/// Costs two reads per step; an index costs the elements before it.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn resolve<R: Rows>(rows: &R, locator: &Locator) -> Outcome<Option<Path>, R> {
    let mut path = Path::root();
    for step in &locator.0 {
        let pushed = match step {
            Step::Elem(elem) => path.push_elem(*elem),
            Step::Key(key) => path.push_key(key),
            Step::Name(name) => match look(rows, &path)?.0 {
                Sort::Container(Container::List) => {
                    let index = crate::value::parse_index(name);
                    let elem = match index {
                        Some(index) => elems(rows, &path, index, 1)?.pop(),
                        None => None,
                    };
                    let Some(elem) = elem else { return Ok(None) };
                    path.push_elem(elem)
                }
                _ => path.push_key(name),
            },
        };
        // A path beyond the limits is nowhere.
        if pushed.is_err() {
            return Ok(None);
        }
    }
    Ok(Some(path))
}

/// The elements of a list in order, from `offset` on, at most `limit`. Whether the path shows a list is
/// another question.
pub(crate) fn elems<R: Rows>(
    rows: &R,
    list: &Path,
    offset: usize,
    limit: usize,
) -> Outcome<Vec<ElemId>, R> {
    let (start, end) = pos_range(list);
    let page = limit.saturating_add(offset).min(limits::SCAN_ROWS);
    let mut pages = Pages::new(RowSpace::Pos, start, end, false, page);
    let mut skip = offset;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some((key, _)) = pages.next(rows)? else {
            break;
        };
        if skip > 0 {
            skip -= 1;
            continue;
        }
        found
            .push(parse_pos_key(&key).ok_or_else(|| StateError::corrupt("a list position", &key))?);
    }
    Ok(found)
}

/// The last element of a list.
pub(crate) fn last_elem<R: Rows>(rows: &R, list: &Path) -> Outcome<Option<ElemId>, R> {
    let (start, end) = pos_range(list);
    let last = Pages::new(RowSpace::Pos, start, end, true, 1).next(rows)?;
    last.map(|(key, _)| {
        parse_pos_key(&key).ok_or_else(|| StateError::corrupt("a list position", &key))
    })
    .transpose()
}

/// Number of elements of a list; 0 if the path shows something else. O(n).
///
/// # Errors
/// The rows'; corrupt rows.
pub fn list_len<R: Rows>(rows: &R, list: &Path) -> Outcome<usize, R> {
    if look(rows, list)?.0 != Sort::Container(Container::List) {
        return Ok(0);
    }
    let (start, end) = pos_range(list);
    let mut pages = Pages::new(RowSpace::Pos, start, end, false, limits::SCAN_ROWS);
    let mut len = 0;
    while pages.next(rows)?.is_some() {
        len += 1;
    }
    Ok(len)
}

/// Items of a list from `offset`, at most `limit`; empty if the path shows something else.
///
/// Costs O(offset) and what is read.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn list_page<R: Rows>(
    rows: &R,
    list: &Path,
    offset: usize,
    limit: usize,
) -> Outcome<ListPage, R> {
    if look(rows, list)?.0 != Sort::Container(Container::List) {
        return Ok(ListPage::default());
    }
    let mut found = elems(rows, list, offset, limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut items = Vec::with_capacity(found.len());
    for elem in found {
        let path = list
            .elem(elem)
            .map_err(|_| StateError::corrupt("a list position", list.as_bytes()))?;
        let value = get(rows, &path)?;
        items.push((
            elem,
            value.ok_or_else(|| StateError::corrupt("a list element", path.as_bytes()))?,
        ));
    }
    Ok(ListPage { items, more })
}

/// The keys of the map that a path shows, after the key `after`, at most `limit`. Costs a seek per key.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn keys<R: Rows>(
    rows: &R,
    map: &Path,
    after: Option<&str>,
    limit: usize,
) -> Outcome<Vec<String>, R> {
    if look(rows, map)?.0 != Sort::Container(Container::Map) {
        return Ok(Vec::new());
    }
    let mut start = with_byte(map, KEY);
    if let Some(after) = after {
        write_escaped(after.as_bytes(), &mut start);
        start.push(AFTER);
    }
    let mut pages = Pages::new(
        RowSpace::Cur,
        start,
        with_byte(map, ELEM),
        false,
        limits::SCAN_ROWS,
    );
    let mut keys = Vec::new();
    while keys.len() < limit {
        let Some((row, _)) = pages.next(rows)? else {
            break;
        };
        let Some((Segment::Key(key), end)) = read_segment(&row, map.as_bytes().len()) else {
            return Err(StateError::corrupt("a path", &row));
        };
        keys.push(key.into_owned());
        pages.seek(&with_byte(
            &Path::from_trusted(row.get(..end).unwrap_or_default()),
            AFTER,
        ));
    }
    Ok(keys)
}

/// The cells of a shown table row by field.
pub(crate) fn row_cells<R: Rows>(rows: &R, key: &str) -> Outcome<Option<Vec<(String, Cell)>>, R> {
    let key = table_key(key);
    let Some(value) = rows.get(RowSpace::Cur, &key)? else {
        return Ok(None);
    };
    let (_, fields) = parse_row(&key, &value)?;
    let named = fields
        .into_iter()
        .map(|(field, cell)| Some((segment_key(field)?, cell)));
    named
        .collect::<Option<Vec<_>>>()
        .map(Some)
        .ok_or_else(|| StateError::corrupt("a table row", &key))
}

fn segment_key(segment: &[u8]) -> Option<String> {
    match read_segment(segment, 0)? {
        (Segment::Key(key), _) => Some(key.into_owned()),
        (Segment::Elem(_), _) => None,
    }
}

/// The encoded path of a table row, of a key of any length.
fn table_key(key: &str) -> Vec<u8> {
    let mut path = vec![KEY];
    write_escaped(key.as_bytes(), &mut path);
    path
}

/// The fields of a table row; `None` where there is none. One get.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn table_get<R: Rows>(rows: &R, key: &str) -> Outcome<Option<Doc>, R> {
    Ok(row_cells(rows, key)?.map(|cells| {
        let fields = cells
            .into_iter()
            .filter_map(|(field, cell)| match Alone::of(&cell) {
                Alone::Leaf(shown) => Some((field, Value::from(shown))),
                _ => None,
            });
        fields.collect()
    }))
}

/// The rows of a table whose keys lie in a range, in the order of the keys or reversed, at most `limit`.
///
/// One scan. To go on, exclude the last key.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn table_scan<R: Rows>(
    rows: &R,
    range: (Bound<&str>, Bound<&str>),
    reverse: bool,
    limit: usize,
) -> Outcome<TablePage, R> {
    let after = |key: &str| [table_key(key), vec![0]].concat();
    let start = match range.0 {
        Bound::Included(key) => table_key(key),
        Bound::Excluded(key) => after(key),
        Bound::Unbounded => vec![KEY],
    };
    let end = match range.1 {
        Bound::Included(key) => after(key),
        Bound::Excluded(key) => table_key(key),
        Bound::Unbounded => vec![ELEM],
    };
    let mut pages = Pages::new(
        RowSpace::Cur,
        start,
        end,
        reverse,
        limit.min(limits::SCAN_ROWS),
    );
    let mut page = TablePage::default();
    while page.rows.len() < limit {
        let Some((key, value)) = pages.next(rows)? else {
            return Ok(page);
        };
        let corrupt = || StateError::corrupt("a table row", &key);
        let (_, fields) = parse_row(&key, &value)?;
        let mut doc = Doc::new();
        for (field, cell) in fields {
            if let Alone::Leaf(shown) = Alone::of(&cell) {
                doc.insert(segment_key(field).ok_or_else(corrupt)?, Value::from(shown));
            }
        }
        page.rows
            .push((segment_key(&key).ok_or_else(corrupt)?, doc));
    }
    page.more = pages.peek(rows)?.is_some();
    Ok(page)
}

/// The writes that may count as versions of a path, newest first, at most `limit`: value operations at
/// the path itself, and covering ones at its strict prefixes.
///
/// Which of them somebody overwrote knowingly is for the caller to say, who knows the entries' ancestry.
/// Costs two reads per prefix and what is returned.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn versions_at<R: Rows>(
    rows: &R,
    kind: StoreKind,
    path: &Path,
    limit: usize,
) -> Outcome<Vec<StampedWrite>, R> {
    let mut found = Vec::new();
    let prefixes = std::iter::once(0).chain(ends(path.as_bytes()));
    for end in prefixes {
        let at = Path::from_trusted(path.as_bytes().get(..end).unwrap_or_default());
        let is_path = at == *path;
        let counts = |op: &Op| op.covers() || (is_path && op.slot() == Slot::Make);
        found.extend(
            shown_write(rows, kind, &at)?
                .into_iter()
                .filter(|write| counts(&write.op)),
        );
        let last = if is_path { Slot::Make } else { Slot::Cover };
        for slot in [Slot::Cover, last]
            .into_iter()
            .take(1 + usize::from(is_path))
        {
            let (start, end) = ver_range(&at, slot as u8, slot as u8 + 1);
            let mut pages = Pages::new(
                RowSpace::Ver,
                start,
                end,
                false,
                limit.min(limits::SCAN_ROWS),
            );
            for _ in 0..limit {
                let Some((key, value)) = pages.next(rows)? else {
                    break;
                };
                let (stamp, op) = parse_ver(&key, &value)?;
                found.push(StampedWrite {
                    path: at.clone(),
                    stamp,
                    op,
                });
            }
        }
    }
    found.sort_by(|a, b| b.stamp.cmp(&a.stamp).then_with(|| b.path.cmp(&a.path)));
    found.truncate(limit);
    Ok(found)
}

/// The write that a path's `Cur` row holds.
fn shown_write<R: Rows>(
    rows: &R,
    kind: StoreKind,
    path: &Path,
) -> Outcome<Option<StampedWrite>, R> {
    let cell = match kind {
        StoreKind::Doc => read_cell(rows, path)?,
        StoreKind::Table => {
            let row = row_of(path);
            let Some(value) = rows.get(RowSpace::Cur, row.as_bytes())? else {
                return Ok(None);
            };
            let mut cells = parse_row_cells(&row, &value)?;
            cells.remove(path).unwrap_or_default()
        }
    };
    Ok(cell.value.map(|(stamp, op)| StampedWrite {
        path: path.clone(),
        stamp,
        op,
    }))
}

/// Calls `visit` for every write at a path, at its prefixes and below it, in no particular order, until
/// it returns `false`.
///
/// Costs O(those writes), dead ones included.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn writes_in<R: Rows>(
    rows: &R,
    kind: StoreKind,
    prefix: &Path,
    visit: &mut impl FnMut(StampedWrite) -> bool,
) -> Outcome<(), R> {
    let bytes = prefix.as_bytes();
    for end in std::iter::once(0)
        .chain(ends(bytes))
        .take_while(|end| *end < bytes.len())
    {
        let above = Path::from_trusted(bytes.get(..end).unwrap_or_default());
        if shown_write(rows, kind, &above)?.is_some_and(|write| !visit(write))
            || !ver_writes(
                rows,
                ver_range(&above, Slot::Cover as u8, Slot::Kill as u8 + 1),
                visit,
            )?
        {
            return Ok(());
        }
    }
    let range = (bytes.to_vec(), with_byte(prefix, AFTER));
    if cur_writes(rows, kind, prefix, &range, visit)? {
        ver_writes(rows, range, visit)?;
    }
    Ok(())
}

/// Visits the writes in the `Cur` rows of a range of paths; `false` if the visitor said so.
fn cur_writes<R: Rows>(
    rows: &R,
    kind: StoreKind,
    prefix: &Path,
    range: &(Vec<u8>, Vec<u8>),
    visit: &mut impl FnMut(StampedWrite) -> bool,
) -> Outcome<bool, R> {
    // A field's write stands in its row's key.
    let start = match kind {
        StoreKind::Doc => range.0.clone(),
        StoreKind::Table => row_of(prefix).as_bytes().to_vec(),
    };
    let mut pages = Pages::new(
        RowSpace::Cur,
        start,
        range.1.clone(),
        false,
        limits::SCAN_ROWS,
    );
    while let Some((key, value)) = pages.next(rows)? {
        let root = Path::from_trusted(&key);
        let cells = match kind {
            StoreKind::Doc => BTreeMap::from([(root, parse_cell(&key, &value)?)]),
            StoreKind::Table => parse_row_cells(&root, &value)?,
        };
        for (path, cell) in cells
            .into_iter()
            .filter(|(path, _)| path.starts_with(prefix))
        {
            if let Some((stamp, op)) = cell.value
                && !visit(StampedWrite { path, stamp, op })
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Visits the writes in a range of `Ver` rows; `false` if the visitor said so.
fn ver_writes<R: Rows>(
    rows: &R,
    (start, end): (Vec<u8>, Vec<u8>),
    visit: &mut impl FnMut(StampedWrite) -> bool,
) -> Outcome<bool, R> {
    let mut pages = Pages::new(RowSpace::Ver, start, end, false, limits::SCAN_ROWS);
    while let Some((key, value)) = pages.next(rows)? {
        let (stamp, op) = parse_ver(&key, &value)?;
        if !visit(StampedWrite {
            path: ver_path(&key)?,
            stamp,
            op,
        }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The state of the subtree at `prefix` as those writes make it whose stamps `keep` admits: as of a
/// frontier, the stamps of its past. Read it like any rows, at `prefix` and below.
///
/// Costs O(writes at, above and below the prefix), dead ones included.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn as_of<R: Rows>(
    rows: &R,
    kind: StoreKind,
    prefix: &Path,
    keep: &mut impl FnMut(&Stamp) -> bool,
) -> Outcome<MemRows, R> {
    let mut writes = Vec::new();
    writes_in(rows, kind, prefix, &mut |write| {
        if keep(&write.stamp) {
            writes.push(write);
        }
        true
    })?;
    let mut past = MemRows::new();
    let writes = writes.iter().map(BoundWrite::from).collect();
    let applied = State::new(&mut past, kind, Order::Any).insert_all(writes);
    match applied {
        Ok(()) => Ok(past),
        Err(StateError::Rows(never)) => match never {},
        Err(StateError::Corrupt { what, key }) => Err(StateError::Corrupt { what, key }),
    }
}
