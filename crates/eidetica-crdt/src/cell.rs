//! What `Cur`, `Ver` and `Pos` rows contain, and their keys.

use std::collections::BTreeMap;

use eidetica_entry::Stamp;

use crate::codec::{Reader, read_op, read_position, write_op, write_position};
use crate::path::{
    AFTER, ELEM_BYTES, KEY, STAMP_BYTES, ends, read_elem, read_stamp, segment_end, write_elem,
    write_escaped, write_stamp,
};
use crate::{Container, ElemId, Op, Path, Position, Slot, StateError};

/// Follows a path in the keys of rows that belong to it and are not its descendants'.
const OF_PATH: u8 = 0x00;
/// Bytes of a `Ver` key after the path.
const VER_SUFFIX: usize = 2 + STAMP_BYTES;

const HAS_VALUE: u8 = 1;
const HAS_INCS: u8 = 2;
const HAS_PLACE: u8 = 4;
/// The value's stamp is the table row's and left out.
const ROW_STAMP: u8 = 8;

/// The live increments of one path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Incs {
    /// Their exact sum.
    pub(crate) sum: i128,
    /// The greatest of their stamps.
    pub(crate) greatest: Stamp,
}

/// What is live at one path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    /// `value(path)`: the greatest covering operation or `Make`, if live and no deletion.
    pub(crate) value: Option<(Stamp, Op)>,
    /// The live increments, if there are any.
    pub(crate) incs: Option<Incs>,
    /// Of an existing element: the greatest of its insertion and moves.
    pub(crate) place: Option<(Stamp, Position)>,
}

impl Cell {
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_none() && self.incs.is_none()
    }

    /// The stamp of the value, if that covers.
    pub(crate) fn cover(&self) -> Option<Stamp> {
        self.value
            .as_ref()
            .filter(|(_, op)| op.covers())
            .map(|(stamp, _)| *stamp)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.write(None, &mut out);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let cell = Self::read(None, &mut reader)?;
        reader.is_empty().then_some(cell)
    }

    fn write(&self, row: Option<Stamp>, out: &mut Vec<u8>) {
        let same = row.is_some() && self.value.as_ref().map(|(stamp, _)| *stamp) == row;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(self.value.is_some(), HAS_VALUE)
                | flag(self.incs.is_some(), HAS_INCS)
                | flag(self.place.is_some(), HAS_PLACE)
                | flag(same, ROW_STAMP),
        );
        if let Some((stamp, op)) = &self.value {
            if !same {
                write_stamp(stamp, out);
            }
            write_op(op, out);
        }
        if let Some(incs) = &self.incs {
            out.extend(incs.sum.to_le_bytes());
            write_stamp(&incs.greatest, out);
        }
        if let Some((stamp, position)) = &self.place {
            write_stamp(stamp, out);
            write_position(position, out);
        }
    }

    fn read(row: Option<Stamp>, reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u8()?;
        let mut cell = Self::default();
        if flags & HAS_VALUE != 0 {
            let stamp = if flags & ROW_STAMP != 0 {
                row?
            } else {
                read_stamp(reader.take(STAMP_BYTES)?)?
            };
            cell.value = Some((stamp, read_op(reader)?));
        }
        if flags & HAS_INCS != 0 {
            let sum = i128::from_le_bytes(reader.array()?);
            cell.incs = Some(Incs {
                sum,
                greatest: read_stamp(reader.take(STAMP_BYTES)?)?,
            });
        }
        if flags & HAS_PLACE != 0 {
            let stamp = read_stamp(reader.take(STAMP_BYTES)?)?;
            cell.place = Some((stamp, read_position(reader)?));
        }
        Some(cell)
    }
}

/// Encodes a table row: its own cell and those of its fields, by path.
///
/// `None` if the row is not shown; it has no live fields then.
pub(crate) fn encode_row(cells: &BTreeMap<Path, Cell>) -> Option<Vec<u8>> {
    let mut cells = cells.iter();
    let (row, cell) = cells.next()?;
    let (stamp, _) = cell.value.as_ref()?;
    let mut out = Vec::with_capacity(64 + 32 * cells.len());
    write_stamp(stamp, &mut out);
    for (path, cell) in cells {
        let field = path
            .as_bytes()
            .get(row.as_bytes().len()..)
            .unwrap_or_default();
        out.extend(field);
        cell.write(Some(*stamp), &mut out);
    }
    Some(out)
}

/// Encodes what [`encode_row`] encodes for a row whose fields, by encoded segment, are values of its own
/// stamp.
pub(crate) fn encode_new_row<'a>(
    stamp: Stamp,
    fields: impl ExactSizeIterator<Item = (&'a [u8], &'a Op)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 32 * fields.len());
    write_stamp(&stamp, &mut out);
    for (field, op) in fields {
        out.extend(field);
        out.push(HAS_VALUE | ROW_STAMP);
        write_op(op, &mut out);
    }
    out
}

/// A table row as encoded: its stamp, and per field the encoded segment and cell.
pub(crate) type RowParts<'a> = (Stamp, Vec<(&'a [u8], Cell)>);

/// Decodes what [`encode_row`] wrote.
pub(crate) fn decode_row(bytes: &[u8]) -> Option<RowParts<'_>> {
    let mut reader = Reader(bytes);
    let stamp = read_stamp(reader.take(STAMP_BYTES)?)?;
    let mut fields = Vec::new();
    while !reader.is_empty() {
        let end = segment_end(reader.0, 0).filter(|_| reader.0.first() == Some(&KEY))?;
        let field = reader.take(end)?;
        fields.push((field, Cell::read(Some(stamp), &mut reader)?));
    }
    Some((stamp, fields))
}

/// `path` followed by `byte`.
pub(crate) fn with_byte(path: &Path, byte: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.as_bytes().len() + 1);
    key.extend(path.as_bytes());
    key.push(byte);
    key
}

/// Range of the `Cur` or `Ver` keys strictly below a path.
pub(crate) fn below(path: &Path) -> (Vec<u8>, Vec<u8>) {
    (with_byte(path, KEY), with_byte(path, AFTER))
}

/// The key of a `Ver` row.
pub(crate) fn ver_key(path: &Path, slot: Slot, stamp: &Stamp) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.as_bytes().len() + VER_SUFFIX);
    key.extend(path.as_bytes());
    key.extend([OF_PATH, slot as u8]);
    key.extend(stamp.height.0.to_be_bytes().map(|b| !b));
    key.extend(stamp.id.as_bytes().map(|b| !b));
    key
}

/// Range of the `Ver` keys of a path from a slot on: up to the next slot, or to the last.
pub(crate) fn ver_range(path: &Path, from: u8, to: u8) -> (Vec<u8>, Vec<u8>) {
    let mut start = with_byte(path, OF_PATH);
    let mut end = start.clone();
    start.push(from);
    end.push(to);
    (start, end)
}

/// What a `Ver` key says: the encoded path, the slot and the stamp.
pub(crate) fn parse_ver_key(key: &[u8]) -> Option<(&[u8], Slot, Stamp)> {
    let (path, suffix) = key.split_at_checked(key.len().checked_sub(VER_SUFFIX)?)?;
    let [OF_PATH, slot, stamp @ ..] = suffix else {
        return None;
    };
    let stamp: Vec<u8> = stamp.iter().map(|b| !b).collect();
    Some((path, Slot::from_byte(*slot)?, read_stamp(&stamp)?))
}

/// The value of a `Ver` row.
pub(crate) fn ver_value(op: &Op) -> Vec<u8> {
    let mut out = Vec::new();
    write_op(op, &mut out);
    out
}

/// Reads what [`ver_value`] wrote.
pub(crate) fn parse_ver_value(bytes: &[u8]) -> Option<Op> {
    let mut reader = Reader(bytes);
    let op = read_op(&mut reader)?;
    reader.is_empty().then_some(op)
}

/// The key of the `Pos` row of an element of the list whose encoded path is `list`.
pub(crate) fn pos_key(list: &[u8], position: &Position, elem: &ElemId) -> Vec<u8> {
    let mut key = Vec::with_capacity(list.len() + position.as_bytes().len() + ELEM_BYTES + 4);
    key.extend(list);
    key.push(OF_PATH);
    write_escaped(position.as_bytes(), &mut key);
    write_elem(elem, &mut key);
    key
}

/// Range of the `Pos` keys of a list.
pub(crate) fn pos_range(list: &Path) -> (Vec<u8>, Vec<u8>) {
    (with_byte(list, OF_PATH), with_byte(list, OF_PATH + 1))
}

/// The element that a `Pos` key names.
pub(crate) fn parse_pos_key(key: &[u8]) -> Option<ElemId> {
    read_elem(key.last_chunk::<ELEM_BYTES>()?)
}

/// A document's `Cur` row.
pub(crate) fn parse_cell<E>(key: &[u8], value: &[u8]) -> Result<Cell, StateError<E>> {
    Cell::decode(value).ok_or_else(|| StateError::corrupt("a current value", key))
}

/// A table's `Cur` row.
pub(crate) fn parse_row<'a, E>(key: &[u8], value: &'a [u8]) -> Result<RowParts<'a>, StateError<E>> {
    decode_row(value).ok_or_else(|| StateError::corrupt("a table row", key))
}

/// A table's `Cur` row as the cells of the row and its fields, by path.
pub(crate) fn parse_row_cells<E>(
    row: &Path,
    value: &[u8],
) -> Result<BTreeMap<Path, Cell>, StateError<E>> {
    let (stamp, fields) = parse_row(row.as_bytes(), value)?;
    let own = Cell {
        value: Some((stamp, Op::Clear(Container::Map))),
        ..Cell::default()
    };
    let path = |field: &[u8]| Path::from_trusted(&[row.as_bytes(), field].concat());
    let fields = fields.into_iter().map(|(field, cell)| (path(field), cell));
    Ok(std::iter::once((row.clone(), own)).chain(fields).collect())
}

/// The row that a path in a table lies in.
pub(crate) fn row_of(path: &Path) -> Path {
    let bytes = path.as_bytes();
    let end = ends(bytes).next().unwrap_or(0);
    Path::from_trusted(bytes.get(..end).unwrap_or_default())
}

/// The value of a `Ver` row.
pub(crate) fn parse_op<E>(key: &[u8], value: &[u8]) -> Result<Op, StateError<E>> {
    parse_ver_value(value).ok_or_else(|| StateError::corrupt("a version", key))
}

/// Stamp and operation of a `Ver` row.
pub(crate) fn parse_ver<E>(key: &[u8], value: &[u8]) -> Result<(Stamp, Op), StateError<E>> {
    let (_, _, stamp) = parse_ver_key(key).ok_or_else(|| StateError::corrupt("a version", key))?;
    Ok((stamp, parse_op(key, value)?))
}

/// The path of a `Ver` row.
pub(crate) fn ver_path<E>(key: &[u8]) -> Result<Path, StateError<E>> {
    let (path, _, _) = parse_ver_key(key).ok_or_else(|| StateError::corrupt("a version", key))?;
    Ok(Path::from_trusted(path))
}
