//! Lowering: from an edit, in terms of what is seen, to operations.
//!
//! Reads the state and returns operations, changing nothing. Nothing here covers unless the edit says
//! so: a value put where nothing is becomes leaves, so that two replicas that do it at once keep both.

use crate::cell::{Cell, with_byte};
use crate::mem::Pages;
use crate::path::{AFTER, ELEM, KEY};
use crate::position::spread;
use crate::read::{elems, last_elem, row_cells};
use crate::value::parse_index;
use crate::walk::{Alone, Shown, Sort, look, read_cell};
use crate::{
    Container, Doc, Edit, EditError, ElemId, Init, List, Locator, OWN, Op, Path, Position,
    RowSpace, Rows, Scalar, StateError, Step, StoreKind, Value, limits,
};

type Outcome<T, R> = Result<T, EditError<<R as Rows>::Error>>;

/// The lowering of one edit.
pub(crate) struct Lowering<'a, R> {
    view: &'a R,
    kind: StoreKind,
    seed: u64,
    next_ordinal: u32,
    ops: Vec<(Path, Op)>,
}

/// Where a locator leads.
struct Place {
    path: Path,
    /// A scalar on the way, which has to become a map.
    scalar: Option<Path>,
    /// Whether the path is known to show nothing because nothing, or a scalar, is above it.
    vacant: bool,
}

/// How a value is put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    /// Where nothing is: leaves, and `Make` for empty containers.
    Fresh,
    /// Over something: a `Clear` per container, and leaves.
    Replace,
    /// Into a new element, whose `Ins` makes the container.
    Inside,
}

impl<'a, R: Rows> Lowering<'a, R> {
    pub(crate) fn new(view: &'a R, kind: StoreKind, seed: u64, next_ordinal: u32) -> Self {
        Self {
            view,
            kind,
            seed,
            next_ordinal,
            ops: Vec::new(),
        }
    }

    /// The generator's state, the next ordinal and the operations.
    pub(crate) fn finish(self) -> (u64, u32, Vec<(Path, Op)>) {
        (self.seed, self.next_ordinal, self.ops)
    }

    pub(crate) fn lower(&mut self, edit: &Edit) -> Outcome<(), R> {
        match (self.kind, edit) {
            (StoreKind::Doc, Edit::Set { at, value }) => self.set(at, value),
            (StoreKind::Doc, Edit::Delete { at }) => self.delete(at),
            (StoreKind::Doc, Edit::Increment { at, by }) => self.increment(at, *by),
            (StoreKind::Doc, Edit::ListInsert { list, index, value }) => {
                self.list_insert(list, *index, value)
            }
            (StoreKind::Doc, Edit::ListMove { at, to }) => self.list_move(at, *to),
            (StoreKind::Table, Edit::RowInsert { key, fields }) => self.row_insert(key, fields),
            (StoreKind::Table, Edit::RowSet { key, fields }) => self.row_set(key, fields),
            (StoreKind::Table, Edit::FieldDelete { key, field }) => self.field_delete(key, field),
            (StoreKind::Table, Edit::FieldIncrement { key, field, by }) => {
                self.field_increment(key, field, *by)
            }
            (StoreKind::Table, Edit::RowDelete { key }) => self.row_delete(key),
            _ => Err(EditError::WrongKind),
        }
    }

    // Documents.

    fn set(&mut self, at: &Locator, value: &Value) -> Outcome<(), R> {
        if let Some(list) = self.appends(at)? {
            return self.insert_elem(&list, None, value);
        }
        let place = self.locate(at)?;
        if place.path.is_root() && !matches!(value, Value::Map(_)) {
            return Err(EditError::Root);
        }
        // What is there makes a difference only to containers.
        let fresh = value.depth() == 0 || place.vacant || self.look(&place.path)?.0 == Sort::Absent;
        let put = if fresh { Put::Fresh } else { Put::Replace };
        self.make_way(&place);
        self.put(place.path, value, put)
    }

    fn delete(&mut self, at: &Locator) -> Outcome<(), R> {
        let place = self.locate(at)?;
        let Some(parent) = place.path.parent() else {
            return Err(EditError::Root);
        };
        if place.vacant || self.look(&place.path)?.0 == Sort::Absent {
            return Ok(());
        }
        let emptied = self.emptied(&parent, &place.path)?;
        let op = if place.path.last_elem().is_some() {
            Op::Kill
        } else {
            Op::Delete
        };
        self.ops.push((place.path, op));
        self.ops
            .extend(emptied.map(|container| (parent, Op::Make(container))));
        Ok(())
    }

    /// The container that `parent` would no longer show without its child `child`.
    fn emptied(&self, parent: &Path, child: &Path) -> Outcome<Option<Container>, R> {
        if parent.is_root() {
            return Ok(None);
        }
        let (sort, cell) = self.look(parent)?;
        let Sort::Container(container) = sort else {
            return Ok(None);
        };
        if matches!(Alone::of(&cell), Alone::Empty(_)) {
            return Ok(None);
        }
        let others = match container {
            Container::List => elems(self.view, parent, 0, 2)?.len() > 1,
            Container::Map => {
                let before = self.any_cur(with_byte(parent, KEY), child.as_bytes().to_vec())?;
                before || self.any_cur(with_byte(child, AFTER), with_byte(parent, ELEM))?
            }
        };
        Ok((!others).then_some(container))
    }

    fn any_cur(&self, start: Vec<u8>, end: Vec<u8>) -> Outcome<bool, R> {
        let first = Pages::new(RowSpace::Cur, start, end, false, 1).next(self.view);
        Ok(first.map_err(StateError::Rows)?.is_some())
    }

    fn increment(&mut self, at: &Locator, by: i64) -> Outcome<(), R> {
        let place = self.locate(at)?;
        if !place.vacant {
            let (sort, cell) = self.look(&place.path)?;
            if !is_countable(sort, &cell) {
                return Err(EditError::NotANumber { at: place.path });
            }
        }
        self.make_way(&place);
        self.ops.push((place.path, Op::Inc(by)));
        Ok(())
    }

    fn list_insert(&mut self, at: &Locator, index: Option<usize>, value: &Value) -> Outcome<(), R> {
        let place = self.locate(at)?;
        let list = place.path.clone();
        let shown = if place.vacant {
            Sort::Absent
        } else {
            self.look(&list)?.0
        };
        match shown {
            Sort::Container(Container::List) => {}
            Sort::Absent if list.is_root() => return Err(EditError::Root),
            Sort::Absent if index.is_none_or(|index| index == 0) => {}
            Sort::Absent => {
                return Err(EditError::NoIndex {
                    list,
                    index: index.unwrap_or(0),
                });
            }
            _ => return Err(EditError::NotAList { at: list }),
        }
        self.make_way(&place);
        self.insert_elem(&list, index, value)
    }

    /// Puts a new element into a list that is shown or vacant.
    fn insert_elem(&mut self, list: &Path, index: Option<usize>, value: &Value) -> Outcome<(), R> {
        let position = self.make_room(list, index, None)?;
        let elem = self.new_elem();
        self.ins(list.elem(elem)?, position, value)
    }

    fn list_move(&mut self, at: &Locator, to: usize) -> Outcome<(), R> {
        let path = self.locate(at)?.path;
        let (Some(elem), Some(list)) = (path.last_elem(), path.parent()) else {
            return Err(EditError::NoElement { at: path });
        };
        let position = self.make_room(&list, Some(to), Some(elem))?;
        self.ops.push((path, Op::Move(position)));
        Ok(())
    }

    /// Follows a locator through what is shown.
    fn locate(&self, at: &Locator) -> Outcome<Place, R> {
        let mut place = Place {
            path: Path::root(),
            scalar: None,
            vacant: false,
        };
        for step in &at.0 {
            let sort = match place.vacant {
                true => Sort::Absent,
                false if place.path.is_root() => Sort::Container(Container::Map),
                false => self.look(&place.path)?.0,
            };
            match (step, sort) {
                (Step::Elem(elem), sort) => {
                    let path = place.path.elem(*elem)?;
                    let seen = sort == Sort::Container(Container::List);
                    if !seen || read_cell(self.view, &path)?.value.is_none() {
                        return Err(EditError::NoElement { at: path });
                    }
                    place.path = path;
                }
                (Step::Name(name), Sort::Container(Container::List)) => {
                    place.path = self.index(place.path, name)?;
                }
                (Step::Key(step), Sort::Container(Container::List)) => {
                    return Err(EditError::KeyBelowList {
                        list: place.path,
                        step: step.clone(),
                    });
                }
                (Step::Name(key) | Step::Key(key), sort) => {
                    if sort == Sort::Leaf {
                        place.scalar = Some(place.path.clone());
                    }
                    place.vacant |= !matches!(sort, Sort::Container(_));
                    place.path.push_key(key)?;
                }
            }
        }
        Ok(place)
    }

    /// The element of a shown list that a step of a dotted text names.
    fn index(&self, list: Path, step: &str) -> Outcome<Path, R> {
        let Some(index) = parse_index(step) else {
            return Err(EditError::KeyBelowList {
                list,
                step: step.to_owned(),
            });
        };
        match elems(self.view, &list, index, 1)?.pop() {
            Some(elem) => Ok(list.elem(elem)?),
            None => Err(EditError::NoIndex { list, index }),
        }
    }

    /// The list if a locator's last step is one past its end.
    fn appends(&self, at: &Locator) -> Outcome<Option<Path>, R> {
        let Some((Step::Name(last), above)) = at.0.split_last() else {
            return Ok(None);
        };
        let Some(index) = parse_index(last) else {
            return Ok(None);
        };
        let place = self.locate(&Locator(above.to_vec()))?;
        let list = Sort::Container(Container::List);
        if place.vacant || place.path.is_root() || self.look(&place.path)?.0 != list {
            return Ok(None);
        }
        let before = index.saturating_sub(1);
        let found = elems(self.view, &place.path, before, 2)?.len();
        Ok((found == index - before).then_some(place.path))
    }

    /// A scalar above a new value shows as a map from now on.
    fn make_way(&mut self, place: &Place) {
        self.ops.extend(
            place
                .scalar
                .clone()
                .map(|at| (at, Op::Make(Container::Map))),
        );
    }

    fn look(&self, path: &Path) -> Outcome<(Sort, Cell), R> {
        Ok(look(self.view, path)?)
    }

    // Values.

    /// Puts a value at a path. Its depth is checked first, so that recursion is bounded.
    fn put(&mut self, path: Path, value: &Value, put: Put) -> Outcome<(), R> {
        if path.depth().saturating_add(value.depth()) > limits::DEPTH {
            return Err(EditError::TooDeep);
        }
        let (container, empty) = match value {
            Value::Map(doc) => (Container::Map, doc.is_empty()),
            Value::List(list) => (Container::List, list.is_empty()),
            scalar => {
                let scalar = scalar.to_scalar().unwrap_or(Scalar::Null);
                self.ops.push((path, Op::Set(scalar)));
                return Ok(());
            }
        };
        match put {
            Put::Replace => self.ops.push((path.clone(), Op::Clear(container))),
            Put::Fresh if empty => self.ops.push((path.clone(), Op::Make(container))),
            Put::Fresh | Put::Inside => {}
        }
        let put = if put == Put::Replace {
            Put::Replace
        } else {
            Put::Fresh
        };
        match value {
            Value::Map(doc) => self.put_entries(&path, doc, put),
            Value::List(list) => self.put_items(&path, list),
            _ => Ok(()),
        }
    }

    fn put_entries(&mut self, path: &Path, doc: &Doc, put: Put) -> Outcome<(), R> {
        doc.iter()
            .try_for_each(|(key, value)| self.put(path.key(key)?, value, put))
    }

    fn put_items(&mut self, path: &Path, list: &List) -> Outcome<(), R> {
        let positions = spread(None, None, list.len(), &mut random(&mut self.seed));
        let positions = positions.ok_or_else(|| EditError::NoRoom { list: path.clone() })?;
        for (value, position) in list.iter().zip(positions) {
            let elem = self.new_elem();
            self.ins(path.elem(elem)?, position, value)?;
        }
        Ok(())
    }

    /// Begins an element and puts what it holds.
    fn ins(&mut self, path: Path, position: Position, value: &Value) -> Outcome<(), R> {
        if path.depth().saturating_add(value.depth()) > limits::DEPTH {
            return Err(EditError::TooDeep);
        }
        let init = match value {
            Value::Map(_) => Init::Empty(Container::Map),
            Value::List(_) => Init::Empty(Container::List),
            scalar => Init::Scalar(scalar.to_scalar().unwrap_or(Scalar::Null)),
        };
        let holds_more = matches!(init, Init::Empty(_));
        self.ops.push((path.clone(), Op::Ins { position, init }));
        if holds_more {
            self.put(path, value, Put::Inside)
        } else {
            Ok(())
        }
    }

    fn new_elem(&mut self) -> ElemId {
        let ordinal = self.next_ordinal;
        // A payload holds fewer elements than this counts.
        self.next_ordinal = ordinal.saturating_add(1);
        ElemId {
            stamp: OWN,
            ordinal,
        }
    }

    // Positions.

    /// A position for what shall stand at `index` of a list, not counting `without`; at the end if
    /// `None`. Moves neighbours where there is no room between them.
    fn make_room(
        &mut self,
        list: &Path,
        index: Option<usize>,
        without: Option<ElemId>,
    ) -> Outcome<Position, R> {
        let Some(index) = index else {
            let last = last_elem(self.view, list)?;
            let last = last.map(|elem| self.position(list, elem)).transpose()?;
            let end = spread(last.as_ref(), None, 1, &mut random(&mut self.seed));
            if let Some(position) = end.and_then(|mut one| one.pop()) {
                return Ok(position);
            }
            let len = elems(self.view, list, 0, usize::MAX)?.len();
            return self.make_room(list, Some(len), without);
        };
        // The elements around the place, and one more each way to see what bounds them.
        let reach = limits::MOVED_NEIGHBOURS + 1;
        for around in [1, reach] {
            let first = index.saturating_sub(around);
            let wanted = index - first + around + usize::from(without.is_some());
            let mut found = self.elems_without(list, first, wanted, without)?;
            if found.len() < index - first {
                return Err(EditError::NoIndex {
                    list: list.clone(),
                    index,
                });
            }
            found.truncate(index - first + around);
            let window = Window {
                first,
                at: index - first,
                whole: found.len() < index - first + around,
            };
            if let Some(position) = self.settle_window(list, &found, &window, around - 1)? {
                return Ok(position);
            }
        }
        Err(EditError::NoRoom { list: list.clone() })
    }

    /// Elements from `first` on as if `without` were not in the list.
    fn elems_without(
        &self,
        list: &Path,
        first: usize,
        limit: usize,
        without: Option<ElemId>,
    ) -> Outcome<Vec<(ElemId, Position)>, R> {
        let all = match without {
            None => elems(self.view, list, first, limit)?,
            Some(gone) => {
                let mut all = elems(self.view, list, 0, first.saturating_add(limit))?;
                all.retain(|elem| *elem != gone);
                all.split_off(first.min(all.len()))
            }
        };
        all.into_iter()
            .map(|elem| Ok((elem, self.position(list, elem)?)))
            .collect()
    }

    /// Finds a position at `window.at` of `found`, moving at most `moves` of them.
    fn settle_window(
        &mut self,
        list: &Path,
        found: &[(ElemId, Position)],
        window: &Window,
        moves: usize,
    ) -> Outcome<Option<Position>, R> {
        let (mut low, mut high) = (window.at, window.at);
        loop {
            // Where the elements read begin or end inside the list, the next one is unknown.
            let known = (low > 0 || window.first == 0) && (high < found.len() || window.whole);
            if !known {
                return Ok(None);
            }
            let bound =
                |i: Option<usize>| i.and_then(|i| found.get(i)).map(|(_, position)| position);
            let (below, above) = (bound(low.checked_sub(1)), bound(Some(high)));
            let positions = spread(below, above, high - low + 1, &mut random(&mut self.seed));
            if let Some(positions) = positions {
                return self
                    .assign(list, found, low, window.at, positions)
                    .map(Some);
            }
            if high - low >= moves {
                return Ok(None);
            }
            // Widen towards the nearer end first.
            if high < found.len() && (high - window.at <= window.at - low || low == 0) {
                high += 1;
            } else {
                low = low.saturating_sub(1);
            }
        }
    }

    /// Gives the elements from `low` on their new positions, the one at `at` to what is put there.
    fn assign(
        &mut self,
        list: &Path,
        found: &[(ElemId, Position)],
        low: usize,
        at: usize,
        positions: Vec<Position>,
    ) -> Outcome<Position, R> {
        let mut own = None;
        let mut moved = found.iter().skip(low);
        for (i, position) in (low..).zip(positions) {
            if i == at {
                own = Some(position);
            } else if let Some((elem, _)) = moved.next() {
                self.ops.push((list.elem(*elem)?, Op::Move(position)));
            }
        }
        own.ok_or_else(|| EditError::NoRoom { list: list.clone() })
    }

    fn position(&self, list: &Path, elem: ElemId) -> Outcome<Position, R> {
        let path = list.elem(elem)?;
        let place = read_cell(self.view, &path)?.place;
        let corrupt = || StateError::corrupt("a list element", path.as_bytes());
        Ok(place.ok_or_else(corrupt)?.1)
    }

    // Tables.

    fn row_insert(&mut self, key: &str, fields: &Doc) -> Outcome<(), R> {
        let row = Path::root().key(key)?;
        self.ops.push((row.clone(), Op::Clear(Container::Map)));
        for (field, value) in fields.iter() {
            self.ops.push((row.key(field)?, Op::Set(packed(value)?)));
        }
        Ok(())
    }

    fn row_set(&mut self, key: &str, fields: &Doc) -> Outcome<(), R> {
        let cells = self.row(key)?;
        let row = Path::root().key(key)?;
        for (field, value) in fields.iter() {
            let scalar = packed(value)?;
            let cell = cells
                .iter()
                .find(|(name, _)| name == field)
                .map(|(_, cell)| cell);
            if !cell.is_some_and(|cell| holds(cell, &scalar)) {
                self.ops.push((row.key(field)?, Op::Set(scalar)));
            }
        }
        Ok(())
    }

    fn field_delete(&mut self, key: &str, field: &str) -> Outcome<(), R> {
        if self.row(key)?.iter().any(|(name, _)| name == field) {
            self.ops
                .push((Path::root().key(key)?.key(field)?, Op::Delete));
        }
        Ok(())
    }

    fn field_increment(&mut self, key: &str, field: &str, by: i64) -> Outcome<(), R> {
        let cells = self.row(key)?;
        let at = Path::root().key(key)?.key(field)?;
        let cell = cells
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, cell)| cell);
        if !cell.is_none_or(|cell| is_countable(Sort::Leaf, cell)) {
            return Err(EditError::NotANumber { at });
        }
        self.ops.push((at, Op::Inc(by)));
        Ok(())
    }

    fn row_delete(&mut self, key: &str) -> Outcome<(), R> {
        if row_cells(self.view, key)?.is_some() {
            self.ops.push((Path::root().key(key)?, Op::Delete));
        }
        Ok(())
    }

    fn row(&self, key: &str) -> Outcome<Vec<(String, Cell)>, R> {
        row_cells(self.view, key)?.ok_or_else(|| EditError::NoRow {
            key: key.to_owned(),
        })
    }
}

/// Elements read from a list around a place in it.
struct Window {
    /// The index in the list of the first one read.
    first: usize,
    /// The place, counted from there.
    at: usize,
    /// Whether they reach to the end of the list.
    whole: bool,
}

/// Whether an increment applies to what is shown.
fn is_countable(sort: Sort, cell: &Cell) -> bool {
    match sort {
        Sort::Absent => true,
        Sort::Container(_) => false,
        Sort::Leaf => matches!(
            Alone::of(cell),
            Alone::Leaf(Shown::Counter(_) | Shown::Scalar(Scalar::Int(_) | Scalar::Float(_)))
        ),
    }
}

/// Whether a table field shows exactly this.
fn holds(cell: &Cell, scalar: &Scalar) -> bool {
    cell.incs.is_none() && matches!(&cell.value, Some((_, Op::Set(shown))) if shown == scalar)
}

/// What a field of a table row holds.
fn packed<E>(value: &Value) -> Result<Scalar, EditError<E>> {
    if value.depth() > limits::DEPTH {
        return Err(EditError::TooDeep);
    }
    Ok(value
        .to_scalar()
        .unwrap_or_else(|| Scalar::Packed(Box::new(value.without_counters()))))
}

/// Pairs of random bytes: SplitMix64 over the seed.
fn random(seed: &mut u64) -> impl FnMut() -> [u8; 2] {
    move || {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, ..] = (z ^ (z >> 31)).to_le_bytes();
        [a, b]
    }
}
