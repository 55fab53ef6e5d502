//! Rows that are staged but not yet in the engine, and reading through them.
//!
//! A view is a snapshot, for those who commit with the staged rows of the database over it: those of
//! commits whose batch is on its way to the engine.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use eidetica_storage::{
    Direction, EngineError, KeyRange, Page, PageBuilder, Row, ScanLimit, Snapshot, Space,
};

/// Changed rows of the spaces that hold state. `None` = deleted.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    state: BTreeMap<Bytes, Option<Bytes>>,
    versions: BTreeMap<Bytes, Option<Bytes>>,
}

impl Layer {
    pub(crate) fn rows(&self, space: Space) -> &BTreeMap<Bytes, Option<Bytes>> {
        match space {
            Space::Versions => &self.versions,
            _ => &self.state,
        }
    }

    fn rows_mut(&mut self, space: Space) -> &mut BTreeMap<Bytes, Option<Bytes>> {
        match space {
            Space::Versions => &mut self.versions,
            _ => &mut self.state,
        }
    }

    pub(crate) fn set(&mut self, space: Space, key: Bytes, value: Option<Bytes>) {
        self.rows_mut(space).insert(key, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.state.len() + self.versions.len()
    }
}

/// The staged rows of one database: what all batches that are not yet in the engine say, the newest
/// winning.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: Layer,
    /// Which batch wrote a row last, per batch in order.
    batches: VecDeque<(u64, Vec<(Space, Bytes)>)>,
    owner: BTreeMap<(u8, Bytes), u64>,
}

impl Overlay {
    /// Adds the rows of batch `number`; numbers ascend.
    pub(crate) fn add(&mut self, number: u64, layer: Layer) {
        let mut keys = Vec::with_capacity(layer.len());
        for (space, rows) in [
            (Space::State, layer.state),
            (Space::Versions, layer.versions),
        ] {
            for (key, value) in rows {
                self.owner.insert((space.number(), key.clone()), number);
                keys.push((space, key.clone()));
                self.rows.set(space, key, value);
            }
        }
        self.batches.push_back((number, keys));
    }

    /// Whether it has the rows of all batches after `number`, of which `last` is the last.
    pub(crate) fn covers(&self, number: u64, last: u64) -> bool {
        let since = self.batches.iter().rev();
        let since = since.take_while(|(batch, _)| *batch > number).count();
        last.saturating_sub(number) == since as u64
    }

    /// Forgets the rows of all batches up to `number`, which are in the engine now.
    pub(crate) fn settle(&mut self, number: u64) {
        while self
            .batches
            .front()
            .is_some_and(|(batch, _)| *batch <= number)
        {
            let Some((_, keys)) = self.batches.pop_front() else {
                return;
            };
            if self.batches.is_empty() {
                *self = Self::default();
                return;
            }
            for (space, key) in keys {
                let owner = (space.number(), key);
                if self.owner.get(&owner).is_some_and(|batch| *batch <= number) {
                    self.owner.remove(&owner);
                    self.rows.rows_mut(space).remove(&owner.1);
                }
            }
        }
    }
}

/// A snapshot, possibly seen through staged rows.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    snapshot: &'a dyn Snapshot,
    staged: Option<&'a Layer>,
}

impl<'a> View<'a> {
    /// What is in the engine, and nothing else.
    pub(crate) fn durable(snapshot: &'a dyn Snapshot) -> Self {
        Self {
            snapshot,
            staged: None,
        }
    }

    /// What is in the engine, and above it what is staged.
    pub(crate) fn staged(snapshot: &'a dyn Snapshot, overlay: &'a Overlay) -> Self {
        Self {
            snapshot,
            staged: Some(&overlay.rows),
        }
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.staged.and_then(|staged| staged.rows(space).get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.snapshot.get(space, key),
        }
    }

    pub(crate) fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        let staged = self
            .staged
            .map(|staged| staged.rows(space))
            .filter(|rows| !rows.is_empty());
        let Some(staged) = staged.filter(|_| !range.is_empty()) else {
            return self.snapshot.scan(space, range, direction, limit);
        };
        let mut merge = Merge {
            snapshot: self.snapshot,
            space,
            direction,
            limit,
            stored: Vec::new().into_iter().peekable(),
            rest: Some(range.clone()),
            staged: layer_rows(staged, range, direction).peekable(),
        };
        let mut page = PageBuilder::new(limit);
        while let Some((key, value)) = merge.next()? {
            if let Some(value) = value {
                if page.is_full() {
                    return Ok(page.finish(true));
                }
                page.push(key, value);
            }
        }
        Ok(page.finish(false))
    }
}

type LayerRows<'a> = Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>;

fn layer_rows<'a>(
    rows: &'a BTreeMap<Bytes, Option<Bytes>>,
    range: &KeyRange,
    direction: Direction,
) -> LayerRows<'a> {
    let end = match &range.end {
        Some(end) => Bound::Excluded(end.as_slice()),
        None => Bound::Unbounded,
    };
    let within = rows.range::<[u8], _>((Bound::Included(range.start.as_slice()), end));
    match direction {
        Direction::Forward => Box::new(within),
        Direction::Reverse => Box::new(within.rev()),
    }
}

/// Walks stored and staged rows in one order, reading no further than asked.
struct Merge<'a> {
    snapshot: &'a dyn Snapshot,
    space: Space,
    direction: Direction,
    limit: ScanLimit,
    stored: Peekable<std::vec::IntoIter<Row>>,
    rest: Option<KeyRange>,
    staged: Peekable<LayerRows<'a>>,
}

impl Merge<'_> {
    /// The next key and its value; `None` for a value that is staged to be deleted.
    fn next(&mut self) -> Result<Option<(Bytes, Option<Bytes>)>, EngineError> {
        self.refill()?;
        let staged_first = match (self.stored.peek(), self.staged.peek()) {
            (None, None) => return Ok(None),
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(row), Some((key, _))) => match self.direction {
                Direction::Forward => **key <= row.key,
                Direction::Reverse => **key >= row.key,
            },
        };
        if !staged_first {
            return Ok(self.stored.next().map(|row| (row.key, Some(row.value))));
        }
        let Some((key, value)) = self.staged.next() else {
            return Ok(None);
        };
        self.stored.next_if(|row| row.key == *key);
        Ok(Some((key.clone(), value.clone())))
    }

    fn refill(&mut self) -> Result<(), EngineError> {
        while self.stored.peek().is_none() {
            let Some(range) = self.rest.take() else {
                return Ok(());
            };
            let page = self
                .snapshot
                .scan(self.space, &range, self.direction, self.limit)?;
            self.rest = page.rest(&range, self.direction);
            self.stored = page.rows.into_iter().peekable();
        }
        Ok(())
    }
}
