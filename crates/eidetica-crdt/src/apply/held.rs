//! The rows under a [`State`]: the `Cur` row in hand, single `Ver` and `Pos` rows.

use std::collections::BTreeMap;

use eidetica_entry::Stamp;

use super::{Outcome, State};
use crate::cell::{
    Cell, below, encode_row, parse_cell, parse_row_cells, parse_ver, pos_key, row_of, ver_key,
    ver_range, ver_value, with_byte,
};
use crate::path::{AFTER, last_start};
use crate::{ElemId, KeyRange, Op, Path, Position, RowSpace, RowsMut, Slot, StoreKind, limits};

/// The newest `Ver` row of each slot of one path.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) cover: Option<(Stamp, Op)>,
    pub(super) make: Option<(Stamp, Op)>,
    pub(super) inc: bool,
    pub(super) place: Option<(Stamp, Position)>,
    pub(super) kill: Option<Stamp>,
}
/// The `Cur` row in hand: one path's cell, or a table row with the cells of its fields.
pub(super) struct Loaded {
    pub(super) root: Path,
    pub(super) cells: BTreeMap<Path, Cell>,
    pub(super) dirty: bool,
    /// Whether it is known that there is no `Cur` row below `root`.
    pub(super) childless: bool,
}
impl<R: RowsMut> State<'_, R> {
    /// Takes the row that a path's cell is in into hand. With `probe` it is also found out, by the same
    /// read, whether a document has rows below.
    pub(super) fn load(&mut self, path: &Path, probe: bool) -> Outcome<(), R> {
        if self.loaded_for(path).is_some() {
            return Ok(());
        }
        self.flush()?;
        let root = match self.kind {
            StoreKind::Doc => path.clone(),
            StoreKind::Table => row_of(path),
        };
        let (cells, childless) = if self.is_fresh(&root) {
            (BTreeMap::new(), true)
        } else if probe && self.kind == StoreKind::Doc {
            self.probe(&root)?
        } else {
            (self.read_cells(&root)?, false)
        };
        self.loaded = Some(Loaded {
            root,
            cells,
            dirty: false,
            childless,
        });
        Ok(())
    }

    /// A path's cell, and whether there is none below it.
    pub(super) fn probe(&self, path: &Path) -> Outcome<(BTreeMap<Path, Cell>, bool), R> {
        let deepest = self.rows.deepest();
        if deepest.is_some_and(|deepest| path.depth() >= deepest) {
            return Ok((self.read_cells(path)?, true));
        }
        let end = with_byte(path, AFTER);
        let page = self.rows.scan(
            RowSpace::Cur,
            KeyRange {
                start: path.as_bytes(),
                end: &end,
            },
            false,
            2,
        )?;
        let own = page
            .rows
            .first()
            .filter(|(key, _)| key.as_ref() == path.as_bytes());
        let cells = match own {
            Some((key, value)) => BTreeMap::from([(path.clone(), parse_cell(key, value)?)]),
            None => BTreeMap::new(),
        };
        let childless = page.rows.len() == cells.len() && !page.more;
        Ok((cells, childless))
    }

    pub(super) fn read_cells(&self, root: &Path) -> Outcome<BTreeMap<Path, Cell>, R> {
        let Some(value) = self.rows.get(RowSpace::Cur, root.as_bytes())? else {
            return Ok(BTreeMap::new());
        };
        match self.kind {
            StoreKind::Doc => Ok(BTreeMap::from([(
                root.clone(),
                parse_cell(root.as_bytes(), &value)?,
            )])),
            StoreKind::Table => parse_row_cells(root, &value),
        }
    }

    /// Writes the row in hand, if it has changed.
    pub(crate) fn flush(&mut self) -> Outcome<(), R> {
        let Some(loaded) = self.loaded.take().filter(|loaded| loaded.dirty) else {
            return Ok(());
        };
        let key = loaded.root.as_bytes();
        let value = match self.kind {
            StoreKind::Doc => loaded.cells.into_values().next().map(|cell| cell.encode()),
            StoreKind::Table => encode_row(&loaded.cells),
        };
        match value {
            Some(value) => self.rows.put(RowSpace::Cur, key, &value)?,
            None => self.rows.delete(RowSpace::Cur, key)?,
        }
        Ok(())
    }

    /// The row in hand, if the cell of `path` is in it.
    pub(super) fn loaded_for(&mut self, path: &Path) -> Option<&mut Loaded> {
        let kind = self.kind;
        self.loaded.as_mut().filter(|loaded| match kind {
            StoreKind::Doc => loaded.root == *path,
            StoreKind::Table => path.starts_with(&loaded.root),
        })
    }

    /// What is live at a path.
    pub(super) fn cell(&mut self, path: &Path) -> Outcome<Cell, R> {
        if let Some(loaded) = self.loaded_for(path) {
            return Ok(loaded.cells.get(path).cloned().unwrap_or_default());
        }
        if self.kind == StoreKind::Table && path.is_root() {
            return Ok(Cell::default());
        }
        Ok(self.read_cells(path)?.remove(path).unwrap_or_default())
    }

    /// What is live at a path, which is going to be stored anew.
    pub(super) fn take_cell(&mut self, path: &Path) -> Outcome<Cell, R> {
        if let Some(loaded) = self.loaded_for(path) {
            let cell = loaded.cells.remove(path);
            loaded.dirty |= cell.is_some();
            return Ok(cell.unwrap_or_default());
        }
        self.cell(path)
    }

    /// Says what is live at a path from now on.
    pub(super) fn store(&mut self, path: &Path, cell: Cell) -> Outcome<(), R> {
        if let Some(loaded) = self.loaded_for(path) {
            match loaded.cells.get_mut(path) {
                Some(old) if *old == cell => {}
                None if cell.is_empty() => {}
                Some(_) if cell.is_empty() => {
                    loaded.cells.remove(path);
                    loaded.dirty = true;
                }
                Some(old) => {
                    *old = cell;
                    loaded.dirty = true;
                }
                None => {
                    loaded.cells.insert(path.clone(), cell);
                    loaded.dirty = true;
                }
            }
            return Ok(());
        }
        if cell.is_empty() {
            self.rows.delete(RowSpace::Cur, path.as_bytes())?;
        } else {
            self.rows
                .put(RowSpace::Cur, path.as_bytes(), &cell.encode())?;
        }
        Ok(())
    }

    /// A page of the live cells strictly below a path, from a key on, and whether there may be more.
    pub(super) fn cells_below(
        &self,
        path: &Path,
        from: &[u8],
    ) -> Outcome<(Vec<(Path, Cell)>, bool), R> {
        if self.kind == StoreKind::Table {
            let cells = self.loaded.iter().flat_map(|loaded| &loaded.cells);
            let inside = cells.filter(|(at, _)| at.starts_with(path) && at.as_bytes() >= from);
            return Ok((
                inside
                    .map(|(path, cell)| (path.clone(), cell.clone()))
                    .collect(),
                false,
            ));
        }
        let (_, end) = below(path);
        let page = self.rows.scan(
            RowSpace::Cur,
            KeyRange {
                start: from,
                end: &end,
            },
            false,
            limits::SCAN_ROWS,
        )?;
        let decode = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            Ok((Path::from_trusted(key), parse_cell(key, value)?))
        };
        let cells: Outcome<Vec<_>, R> = page.rows.iter().map(decode).collect();
        Ok((cells?, page.more))
    }

    /// The first path of the table row in hand that lies below `path` and not before `from`.
    pub(super) fn next_loaded(&self, path: &Path, from: &[u8]) -> Option<Path> {
        let mut paths = self.loaded.iter().flat_map(|loaded| loaded.cells.keys());
        paths
            .find(|at| at.as_bytes() >= from && at.starts_with(path))
            .cloned()
    }

    /// The greatest cover of a path whose cell is known.
    pub(super) fn cover(&self, path: &Path, cell: &Cell) -> Outcome<Option<Stamp>, R> {
        match cell.cover() {
            Some(stamp) => Ok(Some(stamp)),
            None => Ok(self.ver_head(path, Slot::Cover)?.map(|(stamp, _)| stamp)),
        }
    }

    /// The newest `Ver` row of one slot of a path.
    pub(super) fn ver_head(&self, path: &Path, slot: Slot) -> Outcome<Option<(Stamp, Op)>, R> {
        let (start, end) = ver_range(path, slot as u8, slot as u8 + 1);
        let page = self.rows.scan(
            RowSpace::Ver,
            KeyRange {
                start: &start,
                end: &end,
            },
            false,
            1,
        )?;
        page.rows
            .first()
            .map(|(key, value)| parse_ver(key, value))
            .transpose()
    }

    /// The newest `Ver` row of every slot of a path. One seek more than there are slots in use.
    pub(super) fn heads(&self, path: &Path) -> Outcome<Heads, R> {
        let mut heads = Heads::default();
        let mut slot = Slot::Cover as u8;
        while slot <= Slot::Kill as u8 {
            let (start, end) = ver_range(path, slot, Slot::Kill as u8 + 1);
            let page = self.rows.scan(
                RowSpace::Ver,
                KeyRange {
                    start: &start,
                    end: &end,
                },
                false,
                1,
            )?;
            let Some((key, value)) = page.rows.first() else {
                break;
            };
            let (stamp, op) = parse_ver(key, value)?;
            slot = op.slot() as u8 + 1;
            match op {
                Op::Make(_) => heads.make = Some((stamp, op)),
                Op::Inc(_) => heads.inc = true,
                Op::Move(position) => heads.place = Some((stamp, position)),
                Op::Kill => heads.kill = Some(stamp),
                _ => heads.cover = Some((stamp, op)),
            }
        }
        Ok(heads)
    }

    pub(super) fn ver_put(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        Ok(self.rows.put(
            RowSpace::Ver,
            &ver_key(path, op.slot(), &stamp),
            &ver_value(op),
        )?)
    }

    pub(super) fn ver_delete(&mut self, path: &Path, slot: Slot, stamp: Stamp) -> Outcome<(), R> {
        Ok(self
            .rows
            .delete(RowSpace::Ver, &ver_key(path, slot, &stamp))?)
    }

    pub(super) fn pos_put(
        &mut self,
        path: &Path,
        position: &Position,
        elem: &ElemId,
    ) -> Outcome<(), R> {
        Ok(self
            .rows
            .put(RowSpace::Pos, &pos_key(list_of(path), position, elem), &[])?)
    }

    pub(super) fn pos_delete(
        &mut self,
        path: &Path,
        position: &Position,
        elem: &ElemId,
    ) -> Outcome<(), R> {
        Ok(self
            .rows
            .delete(RowSpace::Pos, &pos_key(list_of(path), position, elem))?)
    }
}

/// The encoded path of the list that an element's path is in.
fn list_of(elem: &Path) -> &[u8] {
    let bytes = elem.as_bytes();
    last_start(bytes)
        .and_then(|start| bytes.get(..start))
        .unwrap_or_default()
}
