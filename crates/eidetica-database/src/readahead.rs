//! Reading rows in bulk where they are asked for one by one in order.
//!
//! Writes are applied sorted by path, and for each the state around it is asked for: three small reads
//! of neighbouring keys. This reads further than asked, remembers what lies between the first and the last key it has
//! seen, and answers from there: an empty or dense store costs one read per page of it. The further it
//! reads, the more its last pages were of use; where writes are far apart it reads hardly more than asked, and single
//! rows alone.

use std::cell::RefCell;

use bytes::Bytes;
use eidetica_crdt::{KeyRange, RowPage, RowSpace, Rows};

/// Greater than every key of a store: paths begin with small tags.
const END: &[u8] = &[0xff];
/// Rows that are read at least.
const LEAST: usize = 4;
/// Rows that are read ahead at most.
const MOST: usize = 2_048;
/// Rows that are read alone where few of those between them are of use, until their neighbours are read again.
const ALONE: usize = 256;

/// Rows below, which must not change while this lives.
pub(crate) struct ReadAhead<R> {
    rows: R,
    windows: RefCell<[Window; 3]>,
}

/// All rows of one space from `start` up to `end`.
struct Window {
    start: Vec<u8>,
    /// The least key that is not known; empty at first, `END` when all that follows is known.
    end: Vec<u8>,
    rows: Vec<(Bytes, Bytes)>,
    ahead: usize,
    /// Questions answered from this window.
    hits: usize,
    /// Rows read alone since the last look around.
    alone: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            start: Vec::new(),
            end: Vec::new(),
            rows: Vec::new(),
            ahead: LEAST,
            hits: 0,
            alone: 0,
        }
    }
}

impl<R> ReadAhead<R> {
    pub(crate) fn new(rows: R) -> Self {
        Self {
            rows,
            windows: RefCell::default(),
        }
    }
}

impl Window {
    fn knows(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && key < self.end.as_slice()
    }

    /// The known rows of a range that begins in this window.
    fn page(&mut self, range: KeyRange<'_>, limit: usize) -> RowPage {
        self.hits += 1;
        let first = self
            .rows
            .partition_point(|(key, _)| key.as_ref() < range.start);
        let within = self
            .rows
            .iter()
            .skip(first)
            .take_while(|(key, _)| key.as_ref() < range.end);
        let rows: Vec<_> = within.take(limit).cloned().collect();
        // Full, or what is beyond the window is not known.
        let more = rows.len() == limit || range.end > self.end.as_slice();
        RowPage { rows, more }
    }

    /// Takes the rows that follow `start`, read without an upper bound.
    fn refill(&mut self, start: &[u8], page: RowPage) {
        self.end.clear();
        match page.rows.last().filter(|_| page.more) {
            Some((last, _)) => {
                self.end.extend_from_slice(last);
                self.end.push(0);
            }
            None => self.end.extend_from_slice(END),
        }
        self.start.clear();
        self.start.extend_from_slice(start);
        self.rows = page.rows;
        self.hits = 0;
    }

    /// Whether so few of its rows were of use that reading them one by one costs less.
    fn is_sparse(&self) -> bool {
        self.hits * 2 < self.rows.len()
    }

    /// How far to read next: twice as far if the last rows were of use.
    fn adapt(&mut self, limit: usize) -> usize {
        self.ahead = match self.hits * 8 >= self.rows.len() {
            true => (self.ahead * 2).min(MOST),
            false => (self.ahead / 2).max(LEAST),
        };
        self.ahead.max(limit.min(MOST))
    }
}

impl<R: Rows> Rows for ReadAhead<R> {
    type Error = R::Error;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
        let windows = &mut *self.windows.borrow_mut();
        let window = of(windows, space);
        if !window.knows(key) && window.is_sparse() {
            window.alone = (window.alone + 1) % ALONE;
            if window.alone != 0 {
                return self.rows.get(space, key);
            }
        }
        let mut after = key.to_vec();
        after.push(0);
        let page = self.scan_by(
            windows,
            space,
            KeyRange {
                start: key,
                end: &after,
            },
            false,
            1,
        )?;
        Ok(page.rows.into_iter().next().map(|(_, value)| value))
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, R::Error> {
        self.scan_by(&mut self.windows.borrow_mut(), space, range, reverse, limit)
    }

    fn deepest(&self) -> Option<usize> {
        self.rows.deepest()
    }
}

fn of(windows: &mut [Window; 3], space: RowSpace) -> &mut Window {
    let [cur, ver, pos] = windows;
    match space {
        RowSpace::Cur => cur,
        RowSpace::Ver => ver,
        RowSpace::Pos => pos,
    }
}

impl<R: Rows> ReadAhead<R> {
    fn scan_by(
        &self,
        windows: &mut [Window; 3],
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, R::Error> {
        if reverse || range.start >= range.end || range.end > END {
            return self.rows.scan(space, range, reverse, limit);
        }
        let window = of(windows, space);
        if window.knows(range.start) {
            let page = window.page(range, limit);
            if !page.rows.is_empty() || !page.more {
                return Ok(page);
            }
        }
        let many = window.adapt(limit);
        let ahead = KeyRange {
            start: range.start,
            end: END,
        };
        window.refill(range.start, self.rows.scan(space, ahead, false, many)?);
        Ok(window.page(range, limit))
    }
}

#[cfg(test)]
mod tests {
    use eidetica_crdt::{MemRows, RowsMut};
    use eidetica_testkit::Rng;

    use super::*;

    /// All rows of a range, page by page.
    fn all(
        rows: &impl Rows<Error = std::convert::Infallible>,
        range: KeyRange<'_>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let (mut start, mut found) = (range.start.to_vec(), Vec::new());
        loop {
            let page = rows
                .scan(
                    RowSpace::Cur,
                    KeyRange {
                        start: &start,
                        end: range.end,
                    },
                    false,
                    limit,
                )
                .unwrap();
            assert!(page.rows.len() <= limit);
            assert!(
                !page.more || !page.rows.is_empty() || found.is_empty(),
                "a page that says nothing"
            );
            found.extend(page.rows);
            if !page.more {
                return found;
            }
            let Some((last, _)) = found.last() else {
                return found;
            };
            start = [last.as_ref(), &[0]].concat();
        }
    }

    #[test]
    fn it_answers_like_the_rows_below() {
        let mut rng = Rng::new(1);
        for _ in 0..200 {
            let mut rows = MemRows::new();
            for _ in 0..rng.below(80) {
                let key = [rng.below(20) as u8, rng.below(20) as u8];
                rows.put(
                    RowSpace::Cur,
                    &key[..1 + rng.below(2)],
                    &[rng.below(9) as u8],
                )
                .unwrap();
            }
            let ahead = ReadAhead::new(&rows);
            for _ in 0..60 {
                let (start, end) = ([rng.below(21) as u8], [rng.below(22) as u8]);
                let range = KeyRange {
                    start: &start,
                    end: &end,
                };
                assert_eq!(all(&ahead, range, 1 + rng.below(5)), all(&rows, range, 100));
                let key = [rng.below(21) as u8];
                assert_eq!(
                    ahead.get(RowSpace::Cur, &key).unwrap(),
                    rows.get(RowSpace::Cur, &key).unwrap()
                );
            }
        }
    }
}
