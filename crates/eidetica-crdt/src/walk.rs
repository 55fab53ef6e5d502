//! Walking what a store shows, in order, without recursion.
//!
//! Rule of section "shown" of `docs/formats/state.md`: a path's own row comes before its descendants'
//! and says which sort of children counts; else the first child decides, keys before elements.

use crate::cell::{Cell, below, parse_cell, parse_pos_key, pos_range, with_byte};
use crate::mem::Pages;
use crate::path::{AFTER, KEY, read_segment};
use crate::{
    Container, Doc, ElemId, List, Op, Path, RowSpace, Rows, Scalar, Segment, StateError, Value,
    limits,
};

/// Receives what is shown, in order.
pub(crate) trait Visitor {
    /// A map or list begins.
    fn enter(&mut self, container: Container);
    /// The next value is under this key of the innermost map.
    fn key(&mut self, key: &str);
    /// The next value is this element of the innermost list.
    fn elem(&mut self, elem: ElemId);
    /// A value without children.
    fn leaf(&mut self, value: Shown);
    /// The innermost map or list ends.
    fn leave(&mut self);
}

/// A value without children, as shown.
pub(crate) enum Shown {
    Scalar(Scalar),
    Counter(i64),
}

impl From<Shown> for Value {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Scalar(scalar) => scalar.into(),
            Shown::Counter(n) => Self::Counter(n),
        }
    }
}

/// What a cell without visible children shows: a counter, its value, an empty container, nothing.
pub(crate) enum Alone {
    Empty(Container),
    Leaf(Shown),
    Absent,
}

impl Alone {
    pub(crate) fn of(cell: &Cell) -> Self {
        let value = cell.value.as_ref().map(|(_, op)| op);
        if let Some(container) = value.and_then(Op::container) {
            return Self::Empty(container);
        }
        let scalar = value.and_then(Op::scalar);
        match (&cell.incs, scalar) {
            (Some(incs), Some(Scalar::Float(base))) => {
                #[expect(clippy::cast_precision_loss, reason = "adding to a float")]
                let sum = base + incs.sum as f64;
                Self::Leaf(Shown::Scalar(Scalar::Float(sum)))
            }
            (Some(incs), scalar) => {
                let base = if let Some(Scalar::Int(n)) = scalar {
                    i128::from(*n)
                } else {
                    0
                };
                Self::Leaf(Shown::Counter(clamp(base.saturating_add(incs.sum))))
            }
            (None, Some(scalar)) => Self::Leaf(Shown::Scalar(scalar.clone())),
            (None, None) => Self::Absent,
        }
    }
}

/// The nearest number that an `i64` holds.
fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// What is shown at a path, children not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Absent,
    Leaf,
    Container(Container),
}

/// The cell of one path of a document.
pub(crate) fn read_cell<R: Rows>(rows: &R, path: &Path) -> Result<Cell, StateError<R::Error>> {
    match rows.get(RowSpace::Cur, path.as_bytes())? {
        Some(value) => parse_cell(path.as_bytes(), &value),
        None => Ok(Cell::default()),
    }
}

/// The sort of the first live child of a path, by one seek.
pub(crate) fn first_child<R: Rows>(
    rows: &R,
    path: &Path,
) -> Result<Option<Container>, StateError<R::Error>> {
    let (start, end) = below(path);
    let mut pages = Pages::new(RowSpace::Cur, start, end, false, 1);
    let first = pages.next(rows)?;
    Ok(first.map(|(key, _)| child_sort(&key, path.as_bytes().len())))
}

/// Whether the segment at `at` of a key is a key or an element.
fn child_sort(key: &[u8], at: usize) -> Container {
    if key.get(at) == Some(&KEY) {
        Container::Map
    } else {
        Container::List
    }
}

/// What is shown at a path of a document: its sort and its own cell. A get, and a seek unless the cell
/// says it all.
pub(crate) fn look<R: Rows>(rows: &R, path: &Path) -> Result<(Sort, Cell), StateError<R::Error>> {
    let cell = read_cell(rows, path)?;
    let sort = match Alone::of(&cell) {
        Alone::Empty(container) => Sort::Container(container),
        alone => match (first_child(rows, path)?, alone) {
            (Some(container), _) => Sort::Container(container),
            (None, Alone::Absent) => Sort::Absent,
            (None, _) => Sort::Leaf,
        },
    };
    Ok((sort, cell))
}

/// Walks what a document shows at and below a path; nothing where nothing is.
///
/// Reads each live row once, plus a scan per list and element; memory is bounded by the depth.
pub(crate) fn walk<R: Rows>(
    rows: &R,
    root: Path,
    visitor: &mut impl Visitor,
) -> Result<(), StateError<R::Error>> {
    let mut stack = vec![Subtree::begin(rows, root, visitor)?];
    while let Some(subtree) = stack.last_mut() {
        match subtree.step(rows, visitor)? {
            Step::Again => {}
            Step::Into(elem) => stack.push(Subtree::begin(rows, elem, visitor)?),
            Step::Done => {
                stack.pop();
            }
        }
    }
    Ok(())
}

/// What a step of a walk leads to.
enum Step {
    Again,
    Into(Path),
    Done,
}

/// The walk of one subtree in path order. The elements of a list, which come in another order, are
/// subtrees of their own.
struct Subtree {
    cur: Pages,
    open: Vec<Open>,
}

/// A container that has been entered.
enum Open {
    Map(Path),
    List { path: Path, pos: Pages },
}

impl Subtree {
    fn begin<R: Rows>(
        rows: &R,
        path: Path,
        visitor: &mut impl Visitor,
    ) -> Result<Self, StateError<R::Error>> {
        let end = with_byte(&path, AFTER);
        let cur = Pages::new(
            RowSpace::Cur,
            path.as_bytes().to_vec(),
            end,
            false,
            limits::SCAN_ROWS,
        );
        let mut subtree = Self {
            cur,
            open: Vec::new(),
        };
        subtree.show(rows, path, visitor)?;
        Ok(subtree)
    }

    /// Shows the path that the scan has reached: a leaf at once, a container by entering it.
    fn show<R: Rows>(
        &mut self,
        rows: &R,
        path: Path,
        visitor: &mut impl Visitor,
    ) -> Result<(), StateError<R::Error>> {
        let bytes = path.as_bytes();
        let own = match self.cur.peek(rows)? {
            Some((key, value)) if key.as_ref() == bytes => parse_cell(key, value)?,
            _ => Cell::default(),
        };
        self.cur.seek(&with_byte(&path, KEY));
        let container = match Alone::of(&own) {
            Alone::Empty(container) => Some(container),
            alone => {
                let child = self
                    .cur
                    .peek(rows)?
                    .filter(|(key, _)| key.starts_with(bytes));
                let container = child.map(|(key, _)| child_sort(key, bytes.len()));
                if let (None, Alone::Leaf(leaf)) = (container, alone) {
                    visitor.leaf(leaf);
                }
                container
            }
        };
        let Some(container) = container else {
            return Ok(());
        };
        visitor.enter(container);
        self.open.push(match container {
            Container::Map => Open::Map(path),
            Container::List => {
                self.cur.seek(&with_byte(&path, AFTER));
                let (start, end) = pos_range(&path);
                Open::List {
                    path,
                    pos: Pages::new(RowSpace::Pos, start, end, false, limits::SCAN_ROWS),
                }
            }
        });
        Ok(())
    }

    /// Shows the next child of the innermost container, or leaves it.
    fn step<R: Rows>(
        &mut self,
        rows: &R,
        visitor: &mut impl Visitor,
    ) -> Result<Step, StateError<R::Error>> {
        let child = match self.open.last_mut() {
            None => return Ok(Step::Done),
            Some(Open::List { path, pos }) => match pos.next(rows)? {
                Some((key, _)) => {
                    let corrupt = || StateError::corrupt("a list position", &key);
                    let elem = parse_pos_key(&key).ok_or_else(corrupt)?;
                    visitor.elem(elem);
                    return Ok(Step::Into(path.elem(elem).map_err(|_| corrupt())?));
                }
                None => None,
            },
            Some(Open::Map(path)) => {
                let len = path.as_bytes().len();
                let inside =
                    |key: &[u8]| key.starts_with(path.as_bytes()) && key.get(len) == Some(&KEY);
                match self.cur.peek(rows)?.filter(|(key, _)| inside(key)) {
                    Some((key, _)) => {
                        let corrupt = || StateError::corrupt("a path", key);
                        let (segment, end) = read_segment(key, len).ok_or_else(corrupt)?;
                        if let Segment::Key(key) = segment {
                            visitor.key(&key);
                        }
                        Some(Path::from_trusted(key.get(..end).unwrap_or_default()))
                    }
                    None => None,
                }
            }
        };
        match child {
            Some(child) => self.show(rows, child, visitor)?,
            None => {
                // What is left of a map are elements that it hides.
                if let Some(Open::Map(path)) = self.open.pop() {
                    self.cur.seek(&with_byte(&path, AFTER));
                }
                visitor.leave();
            }
        }
        Ok(Step::Again)
    }
}

/// Builds a [`Value`] from a walk.
#[derive(Default)]
pub(crate) struct Builder {
    open: Vec<Building>,
    done: Option<Value>,
}

/// A container under construction; for a map the key that the next value is for.
enum Building {
    Map(Doc, String),
    List(List),
}

impl Builder {
    pub(crate) fn finish(self) -> Option<Value> {
        self.done
    }

    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            Some(Building::Map(doc, key)) => {
                doc.insert(std::mem::take(key), value);
            }
            Some(Building::List(list)) => list.push(value),
            None => self.done = Some(value),
        }
    }
}

impl Visitor for Builder {
    fn enter(&mut self, container: Container) {
        self.open.push(match container {
            Container::Map => Building::Map(Doc::new(), String::new()),
            Container::List => Building::List(List::new()),
        });
    }

    fn key(&mut self, next: &str) {
        if let Some(Building::Map(_, key)) = self.open.last_mut() {
            *key = next.to_owned();
        }
    }

    fn elem(&mut self, _: ElemId) {}

    fn leaf(&mut self, value: Shown) {
        self.add(value.into());
    }

    fn leave(&mut self) {
        match self.open.pop() {
            Some(Building::Map(doc, _)) => self.add(Value::Map(doc)),
            Some(Building::List(list)) => self.add(Value::List(list)),
            None => {}
        }
    }
}
