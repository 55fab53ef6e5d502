//! The canonical bytes of what a store shows, for the state hash.

use crate::cell::parse_row;
use crate::codec::{END, LIST, MAP, write_entry_key, write_int, write_scalar};
use crate::mem::Pages;
use crate::path::{ELEM, KEY, read_segment};
use crate::walk::{Alone, Shown, Visitor, walk};
use crate::{Container, ElemId, Path, RowSpace, Rows, Segment, StateError, StoreKind, limits};

/// Bytes gathered before they are handed on.
const PIECE: usize = 8 << 10;

/// Feeds the canonical bytes of what a store shows to `sink`, in pieces of any size: the store's part
/// of the state hash, defined in `docs/formats/state.md`.
///
/// Reads the live rows once, in bounded memory.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn hash_visible<R: Rows>(
    rows: &R,
    kind: StoreKind,
    sink: &mut impl FnMut(&[u8]),
) -> Result<(), StateError<R::Error>> {
    let mut writer = Writer {
        out: vec![kind as u8],
        sink,
    };
    match kind {
        StoreKind::Doc => {
            walk(rows, Path::root(), &mut writer)?;
            // A document of which nothing is shown is an empty map.
            if writer.out == [kind as u8] {
                writer.enter(Container::Map);
                writer.leave();
            }
        }
        StoreKind::Table => table(rows, &mut writer)?,
    }
    (writer.sink)(&writer.out);
    Ok(())
}

/// A table is a map of its rows, which are maps of their fields.
fn table<R: Rows>(rows: &R, writer: &mut impl Visitor) -> Result<(), StateError<R::Error>> {
    let mut pages = Pages::new(
        RowSpace::Cur,
        vec![KEY],
        vec![ELEM],
        false,
        limits::SCAN_ROWS,
    );
    writer.enter(Container::Map);
    while let Some((key, value)) = pages.next(rows)? {
        let (_, fields) = parse_row(&key, &value)?;
        enter_key(&key, writer);
        writer.enter(Container::Map);
        for (field, cell) in fields {
            if let Alone::Leaf(shown) = Alone::of(&cell) {
                enter_key(field, writer);
                writer.leaf(shown);
            }
        }
        writer.leave();
    }
    writer.leave();
    Ok(())
}

fn enter_key(segment: &[u8], writer: &mut impl Visitor) {
    if let Some((Segment::Key(key), _)) = read_segment(segment, 0) {
        writer.key(&key);
    }
}

struct Writer<'a, S> {
    out: Vec<u8>,
    sink: &'a mut S,
}

impl<S: FnMut(&[u8])> Visitor for Writer<'_, S> {
    fn enter(&mut self, container: Container) {
        self.out.push(if container == Container::Map {
            MAP
        } else {
            LIST
        });
    }

    fn key(&mut self, key: &str) {
        write_entry_key(key, &mut self.out);
    }

    fn elem(&mut self, _: ElemId) {}

    fn leaf(&mut self, value: Shown) {
        match value {
            Shown::Scalar(scalar) => write_scalar(&scalar, &mut self.out),
            Shown::Counter(n) => write_int(n, &mut self.out),
        }
        if self.out.len() >= PIECE {
            (self.sink)(&self.out);
            self.out.clear();
        }
    }

    fn leave(&mut self) {
        self.out.push(END);
    }
}
