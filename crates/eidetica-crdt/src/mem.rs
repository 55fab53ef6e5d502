//! Rows in memory, and rows in memory over others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use bytes::Bytes;

use crate::path::ends;
use crate::{KeyRange, RowPage, RowSpace, Rows, RowsMut};

/// One ordered map per space.
#[derive(Clone, Debug)]
struct Spaces<V>([BTreeMap<Bytes, V>; 3]);

impl<V> Default for Spaces<V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| BTreeMap::new()))
    }
}

impl<V> Spaces<V> {
    fn of(&self, space: RowSpace) -> &BTreeMap<Bytes, V> {
        let [cur, ver, pos] = &self.0;
        match space {
            RowSpace::Cur => cur,
            RowSpace::Ver => ver,
            RowSpace::Pos => pos,
        }
    }

    fn of_mut(&mut self, space: RowSpace) -> &mut BTreeMap<Bytes, V> {
        let [cur, ver, pos] = &mut self.0;
        match space {
            RowSpace::Cur => cur,
            RowSpace::Ver => ver,
            RowSpace::Pos => pos,
        }
    }

    /// The entries of a range in the given direction.
    fn range(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
    ) -> Box<dyn Iterator<Item = (&Bytes, &V)> + '_> {
        if range.start >= range.end {
            return Box::new(std::iter::empty());
        }
        let bounds = (Bound::Included(range.start), Bound::Excluded(range.end));
        let entries = self.of(space).range::<[u8], _>(bounds);
        if reverse {
            Box::new(entries.rev())
        } else {
            Box::new(entries)
        }
    }
}

/// The rows of one store in memory: for local use, as-of reads and tests.
#[derive(Clone, Debug, Default)]
pub struct MemRows(Spaces<Bytes>);

impl MemRows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows of one space in the order of their keys.
    pub fn iter(&self, space: RowSpace) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .of(space)
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// Number of rows in one space.
    pub fn len(&self, space: RowSpace) -> usize {
        self.0.of(space).len()
    }
}

impl Rows for MemRows {
    type Error = Infallible;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.of(space).get(key).cloned())
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, Infallible> {
        let mut entries = self.0.range(space, range, reverse);
        let rows = entries
            .by_ref()
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Ok(RowPage {
            rows,
            more: entries.next().is_some(),
        })
    }
}

impl RowsMut for MemRows {
    fn put(&mut self, space: RowSpace, key: &[u8], value: &[u8]) -> Result<(), Infallible> {
        self.0
            .of_mut(space)
            .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn delete(&mut self, space: RowSpace, key: &[u8]) -> Result<(), Infallible> {
        self.0.of_mut(space).remove(key);
        Ok(())
    }
}

/// Changes to rows, kept apart from them: `None` is a deleted row.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    rows: Spaces<Option<Bytes>>,
    deepest: usize,
}

impl Delta {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.rows.0.iter().all(BTreeMap::is_empty)
    }

    /// Segments that the paths of the changed rows in `Cur` have at most.
    pub fn deepest(&self) -> usize {
        self.deepest
    }

    fn set(&mut self, space: RowSpace, key: &[u8], value: Option<Bytes>) {
        if space == RowSpace::Cur && value.is_some() {
            self.deepest = self.deepest.max(ends(key).count());
        }
        let changes = self.rows.of_mut(space);
        changes.insert(Bytes::copy_from_slice(key), value);
    }

    /// The changes in one space in the order of their keys.
    pub fn iter(&self, space: RowSpace) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows
            .of(space)
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_deref()))
    }
}

/// Rows as they are with a [`Delta`] over them. `D` is `&Delta` to read, `&mut Delta` to write.
#[derive(Debug)]
pub struct Overlay<R, D> {
    /// The rows below, never written.
    pub base: R,
    /// The changes.
    pub delta: D,
}

impl<R: Rows, D: std::borrow::Borrow<Delta>> Rows for Overlay<R, D> {
    type Error = R::Error;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
        match self.delta.borrow().rows.of(space).get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(space, key),
        }
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, R::Error> {
        let mut changes = self
            .delta
            .borrow()
            .rows
            .range(space, range, reverse)
            .peekable();
        if changes.peek().is_none() {
            return self.base.scan(space, range, reverse, limit);
        }
        let mut pages = Pages::new(
            space,
            range.start.to_vec(),
            range.end.to_vec(),
            reverse,
            limit,
        );
        let mut rows = Vec::new();
        while rows.len() < limit {
            let base = pages.peek(&self.base)?;
            let first = match (&base, changes.peek()) {
                (None, None) => return Ok(RowPage { rows, more: false }),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((key, _)), Some((changed, _))) if reverse => (*changed).cmp(key),
                (Some((key, _)), Some((changed, _))) => key.cmp(changed),
            };
            match first {
                std::cmp::Ordering::Less => rows.extend(pages.next(&self.base)?),
                _ => {
                    if first.is_eq() {
                        pages.next(&self.base)?;
                    }
                    if let Some((key, Some(value))) = changes.next() {
                        rows.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        Ok(RowPage { rows, more: true })
    }

    fn deepest(&self) -> Option<usize> {
        let below = self.base.deepest()?;
        Some(below.max(self.delta.borrow().deepest))
    }
}

impl<R: Rows, D: std::borrow::BorrowMut<Delta>> RowsMut for Overlay<R, D> {
    fn put(&mut self, space: RowSpace, key: &[u8], value: &[u8]) -> Result<(), R::Error> {
        let value = Bytes::copy_from_slice(value);
        self.delta.borrow_mut().set(space, key, Some(value));
        Ok(())
    }

    fn delete(&mut self, space: RowSpace, key: &[u8]) -> Result<(), R::Error> {
        self.delta.borrow_mut().set(space, key, None);
        Ok(())
    }
}

/// A scan that goes on page by page. It holds no rows' borrow, so that they can be changed between
/// steps; what has been fetched is not fetched again.
pub(crate) struct Pages {
    space: RowSpace,
    start: Vec<u8>,
    end: Vec<u8>,
    reverse: bool,
    limit: usize,
    page: std::iter::Peekable<std::vec::IntoIter<(Bytes, Bytes)>>,
    more: bool,
}

impl Pages {
    pub(crate) fn new(
        space: RowSpace,
        start: Vec<u8>,
        end: Vec<u8>,
        reverse: bool,
        limit: usize,
    ) -> Self {
        let page = Vec::new().into_iter().peekable();
        Self {
            space,
            start,
            end,
            reverse,
            limit: limit.max(1),
            page,
            more: true,
        }
    }

    /// The next row, which stays the next.
    pub(crate) fn peek<R: Rows>(&mut self, rows: &R) -> Result<Option<&(Bytes, Bytes)>, R::Error> {
        if self.page.peek().is_none() && self.more {
            let range = KeyRange {
                start: &self.start,
                end: &self.end,
            };
            let page = rows.scan(self.space, range, self.reverse, self.limit)?;
            self.more = page.more && !page.rows.is_empty();
            if let Some((last, _)) = page.rows.last() {
                if self.reverse {
                    self.end = last.to_vec();
                } else {
                    self.start = [last, &[0][..]].concat();
                }
            }
            self.page = page.rows.into_iter().peekable();
        }
        Ok(self.page.peek())
    }

    /// The next row.
    pub(crate) fn next<R: Rows>(&mut self, rows: &R) -> Result<Option<(Bytes, Bytes)>, R::Error> {
        self.peek(rows)?;
        Ok(self.page.next())
    }

    /// Goes on at the first row that is not less than `key` (forward scans).
    pub(crate) fn seek(&mut self, key: &[u8]) {
        while self.page.next_if(|(next, _)| next.as_ref() < key).is_some() {}
        if self.page.peek().is_none() && self.start.as_slice() < key {
            self.start = key.to_vec();
        }
    }
}
