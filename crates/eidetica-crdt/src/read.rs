//! (in progress)
use crate::*;
use eidetica_entry::Stamp;

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
    /// Keys and fields.
    pub rows: Vec<(String, Doc)>,
    /// Whether there are more after these.
    pub more: bool,
}

/// What a document store shows at a path; the root's absence is an empty map's.
pub fn get<R: Rows>(rows: &R, path: &Path) -> Result<Option<Value>, StateError<R::Error>> {
    let _ = (rows, path);
    todo!()
}

/// The path that a locator names in the present state. Steps below lists are indexes, elsewhere keys.
/// `None` if an index is out of range.
pub fn resolve<R: Rows>(rows: &R, locator: &Locator) -> Result<Option<Path>, StateError<R::Error>> {
    let _ = (rows, locator);
    todo!()
}

/// Items of a list from `offset`, at most `limit`. Costs O(offset + what is read).
pub fn list_page<R: Rows>(
    rows: &R,
    list: &Path,
    offset: usize,
    limit: usize,
) -> Result<ListPage, StateError<R::Error>> {
    let _ = (rows, list, offset, limit);
    todo!()
}

/// The fields of a table row. One get.
pub fn table_get<R: Rows>(rows: &R, key: &str) -> Result<Option<Doc>, StateError<R::Error>> {
    let _ = (rows, key);
    todo!()
}

/// The rows of a table whose keys lie in `range`, in the order of the keys or reversed.
pub fn table_scan<R: Rows>(
    rows: &R,
    range: (std::ops::Bound<&str>, std::ops::Bound<&str>),
    reverse: bool,
    limit: usize,
) -> Result<TablePage, StateError<R::Error>> {
    let _ = (rows, range, reverse, limit);
    todo!()
}

/// The writes that may count as versions of `path`, newest first, at most `limit`: value operations at
/// the path and covering ones at its prefixes. Which of them somebody overwrote knowingly is for the
/// caller to say, who knows the entries' ancestry.
pub fn versions_at<R: Rows>(
    rows: &R,
    kind: StoreKind,
    path: &Path,
    limit: usize,
) -> Result<Vec<StampedWrite>, StateError<R::Error>> {
    let _ = (rows, kind, path, limit);
    todo!()
}

/// Calls `visit` for every write at `prefix`, above it and below it, by path, until it says `false`.
pub fn writes_in<R: Rows>(
    rows: &R,
    kind: StoreKind,
    prefix: &Path,
    visit: &mut impl FnMut(StampedWrite) -> bool,
) -> Result<(), StateError<R::Error>> {
    let _ = (rows, kind, prefix, visit);
    todo!()
}

/// The state of the subtree at `prefix` made of those writes only whose stamps `keep` admits.
/// Costs O(writes at, above and below the prefix).
pub fn as_of<R: Rows>(
    rows: &R,
    kind: StoreKind,
    prefix: &Path,
    keep: &mut impl FnMut(&Stamp) -> bool,
) -> Result<MemRows, StateError<R::Error>> {
    let _ = (rows, kind, prefix, keep);
    todo!()
}
