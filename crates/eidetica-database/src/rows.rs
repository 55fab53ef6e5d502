//! The rows of one store, as `eidetica_crdt` wants them, in the rows of an engine.
//!
//! Key of a state row: database number (4 bytes, big-endian), store number (4), then in
//! [`Space::State`] a tag (0 what is shown, 1 the order of list elements), then the store's own key. In
//! [`Space::Versions`] there is no tag. A store number belongs to one name and one kind.

use bytes::{Buf, Bytes};
use eidetica_crdt::{Delta, KeyRange, RowPage, RowSpace, Rows, StoreKind};
use eidetica_entry::StoreName;
use eidetica_storage::{Batch, Direction, EngineError, Page, ScanLimit, Space};
use parking_lot::RwLock;

use crate::overlay::{Layer, View};
use crate::registry::Registry;

/// The longest prefix that a store's own keys get.
const PREFIX: usize = 9;

const CUR: u8 = 0;
const POS: u8 = 1;

/// Which rows are one store's: its database and store number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreSlot {
    pub(crate) database: u32,
    pub(crate) store: u32,
}

impl StoreSlot {
    pub(crate) fn space(space: RowSpace) -> Space {
        match space {
            RowSpace::Cur | RowSpace::Pos => Space::State,
            RowSpace::Ver => Space::Versions,
        }
    }

    /// The bytes before the store's own keys.
    pub(crate) fn prefix(self, space: RowSpace) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend(self.database.to_be_bytes());
        key.extend(self.store.to_be_bytes());
        match space {
            RowSpace::Cur => key.push(CUR),
            RowSpace::Pos => key.push(POS),
            RowSpace::Ver => {}
        }
        key
    }

    pub(crate) fn key(self, space: RowSpace, own: &[u8]) -> Vec<u8> {
        let mut key = self.prefix(space);
        key.extend_from_slice(own);
        key
    }

    fn key_len(space: RowSpace) -> usize {
        match space {
            RowSpace::Cur | RowSpace::Pos => PREFIX,
            RowSpace::Ver => PREFIX - 1,
        }
    }
}

/// Reads one store through a view.
#[derive(Clone, Copy)]
pub(crate) struct StoreRows<'a> {
    pub(crate) view: View<'a>,
    pub(crate) slot: StoreSlot,
}

impl Rows for StoreRows<'_> {
    type Error = EngineError;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.view
            .get(StoreSlot::space(space), &self.slot.key(space, key))
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, EngineError> {
        let keys = eidetica_storage::KeyRange::new(
            self.slot.key(space, range.start),
            self.slot.key(space, range.end),
        );
        let direction = if reverse {
            Direction::Reverse
        } else {
            Direction::Forward
        };
        let page = self.view.scan(
            StoreSlot::space(space),
            &keys,
            direction,
            ScanLimit::rows(limit),
        )?;
        Ok(own_rows(page, StoreSlot::key_len(space)))
    }
}

/// The rows of a store that has none.
#[derive(Clone, Copy)]
pub(crate) struct NoRows;

impl Rows for NoRows {
    type Error = EngineError;

    fn get(&self, _: RowSpace, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(None)
    }

    fn scan(
        &self,
        _: RowSpace,
        _: KeyRange<'_>,
        _: bool,
        _: usize,
    ) -> Result<RowPage, EngineError> {
        let rows = Vec::new();
        Ok(RowPage { rows, more: false })
    }

    fn deepest(&self) -> Option<usize> {
        Some(0)
    }
}

fn own_rows(page: Page, prefix: usize) -> RowPage {
    let rows = page.rows.into_iter().map(|mut row| {
        row.key.advance(prefix.min(row.key.len()));
        (row.key, row.value)
    });
    RowPage {
        rows: rows.collect(),
        more: page.more,
    }
}

/// Changed rows of one store in one buffer, where a [`Delta`] has allocations for each.
#[derive(Default)]
pub(crate) struct PackedRows {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<PackedRow>,
    /// Segments that the paths of the rows of [`RowSpace::Cur`] have at most.
    deepest: usize,
}

struct PackedRow {
    space: RowSpace,
    key: usize,
    /// `None` is a deleted row.
    value: Option<usize>,
}

impl PackedRows {
    pub(crate) fn of(delta: &Delta) -> Self {
        let mut rows = Self::default();
        rows.add(delta);
        rows
    }

    pub(crate) fn add(&mut self, delta: &Delta) {
        self.deepest = self.deepest.max(delta.deepest());
        for space in [RowSpace::Cur, RowSpace::Pos, RowSpace::Ver] {
            for (key, value) in delta.iter(space) {
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(value.unwrap_or_default());
                self.rows.push(PackedRow {
                    space,
                    key: key.len(),
                    value: value.map(<[u8]>::len),
                });
            }
        }
    }

    /// How many rows there are, and bytes of them in a batch.
    pub(crate) fn size(&self) -> (usize, usize) {
        let prefixes = PREFIX * self.rows.len();
        (self.rows.len(), self.bytes.len() + prefixes)
    }

    /// Writes the rows of a store into a batch, and into the staged rows where there are some. The registry is told how
    /// deep they go, and is not held meanwhile: whoever reads asks it.
    pub(crate) fn write(
        &self,
        registry: &RwLock<Registry>,
        name: &StoreName,
        kind: StoreKind,
        batch: &mut Batch,
        mut staged: Option<&mut Layer>,
    ) {
        let slot = registry
            .write()
            .slot_to_write(name, kind, self.deepest, batch);
        let mut rest = self.bytes.as_slice();
        let mut take = |len| rest.split_off(..len).unwrap_or_default();
        for rows in self.rows.chunk_by(|a, b| a.space == b.space) {
            let Some(first) = rows.first() else { continue };
            let space = StoreSlot::space(first.space);
            let mut key = slot.prefix(first.space);
            let prefix = key.len();
            for row in rows {
                key.truncate(prefix);
                key.extend_from_slice(take(row.key));
                let value = row.value.map(&mut take);
                match value {
                    Some(value) => batch.put(space, &key, value),
                    None => batch.delete(space, &key),
                }
                if let Some(staged) = staged.as_deref_mut() {
                    let value = value.map(Bytes::copy_from_slice);
                    staged.set(space, Bytes::copy_from_slice(&key), value);
                }
            }
        }
    }
}
