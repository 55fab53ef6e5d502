//! Keeping the rows of a store equal to what its set of writes says, one write at a time.
//!
//! Every write of the set stands in exactly one row: the one that `value(path)` is in the path's `Cur`
//! row, all others in `Ver`. What is live at a path depends on the path and its prefixes only, as a
//! [`Context`] sums them up, so a change recomputes its own path ([`State::settle`]) and touches what
//! is below only where the context that it gives to its children changes ([`State::propagate`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use eidetica_entry::Stamp;

use crate::cell::{
    Cell, Incs, below, encode_row, parse_cell, parse_op, parse_row_cells, parse_ver, pos_key,
    row_of, ver_key, ver_path, ver_range, ver_value, with_byte,
};
use crate::mem::Pages;
use crate::path::{AFTER, KEY, ends, last_start};
use crate::{
    ElemId, KeyRange, Op, Path, Payload, Position, RowSpace, RowsMut, Segment, Slot, StampedWrite,
    StateError, StoreKind, limits,
};

/// What is known about the stamps of what is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each is greater than every stamp that this store has now. Nothing but `Cur` rows is read then.
    NewerThanAll,
    /// Nothing.
    Any,
}

/// Inserts what one entry writes.
///
/// An entry must be inserted once only. A fresh leaf costs one read and one row, an overwritten one two
/// rows; with [`Order::Any`] each prefix that the payload's paths have adds up to two reads. A
/// cover that arrives late also visits the live rows below it.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn insert<R: RowsMut>(
    rows: &mut R,
    stamp: Stamp,
    payload: &Payload,
    order: Order,
) -> Result<(), StateError<R::Error>> {
    apply_batch(rows, payload.kind(), &[(stamp, payload)], order)
}

/// Inserts what many entries write, sorted by path: every `Cur` row is read and written once.
///
/// The outcome is that of [`insert`] for each of them in any order. [`Order::NewerThanAll`] speaks of
/// what was there before the batch. Payloads of another kind than `kind` are left out.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn apply_batch<R: RowsMut>(
    rows: &mut R,
    kind: StoreKind,
    batch: &[(Stamp, &Payload)],
    order: Order,
) -> Result<(), StateError<R::Error>> {
    let writes = bind(kind, batch);
    State::new(rows, kind, order).insert_all(writes)
}

/// Removes what one entry wrote: the exact inverse of [`insert`], whatever was inserted in between.
///
/// See [`remove_batch`].
///
/// # Errors
/// The rows'; corrupt rows.
pub fn remove<R: RowsMut>(
    rows: &mut R,
    stamp: Stamp,
    payload: &Payload,
) -> Result<(), StateError<R::Error>> {
    remove_batch(rows, payload.kind(), &[(stamp, payload)])
}

/// Removes what many entries wrote.
///
/// Each must have been inserted. Where a removed cover was the greatest of its path, the paths below
/// are visited, once per batch. Payloads of another kind than `kind` are left out.
///
/// # Errors
/// The rows'; corrupt rows.
pub fn remove_batch<R: RowsMut>(
    rows: &mut R,
    kind: StoreKind,
    batch: &[(Stamp, &Payload)],
) -> Result<(), StateError<R::Error>> {
    let mut writes = bind(kind, batch);
    // Children first, so that a cover finds nothing of the batch below it; at one path the greatest last,
    // so that only that one matters.
    writes.sort_by(|a, b| b.path.cmp(&a.path).then_with(|| a.stamp.cmp(&b.stamp)));
    let mut state = State::new(rows, kind, Order::Any);
    for write in &writes {
        state.remove(&write.path, write.stamp, write.op)?;
    }
    state.flush()
}

/// A write with its entry's stamp in the place of [`crate::OWN`].
pub(crate) struct BoundWrite<'a> {
    pub(crate) path: Cow<'a, Path>,
    pub(crate) stamp: Stamp,
    pub(crate) op: &'a Op,
}

impl<'a> From<&'a StampedWrite> for BoundWrite<'a> {
    fn from(StampedWrite { path, stamp, op }: &'a StampedWrite) -> Self {
        Self {
            path: Cow::Borrowed(path),
            stamp: *stamp,
            op,
        }
    }
}

/// The writes of those payloads that are of one kind.
fn bind<'a>(kind: StoreKind, batch: &[(Stamp, &'a Payload)]) -> Vec<BoundWrite<'a>> {
    let payloads = batch.iter().filter(|(_, payload)| payload.kind() == kind);
    let bind = |(stamp, payload): &(Stamp, &'a Payload)| {
        let stamp = *stamp;
        payload.writes().iter().map(move |write| BoundWrite {
            path: write.path.bind(stamp),
            stamp,
            op: &write.op,
        })
    };
    payloads.flat_map(bind).collect()
}

/// What a path's prefixes mean for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    /// The greatest cover of a strict prefix: what is older is not live.
    floor: Option<Stamp>,
    /// Whether every element on the way exists, and the table row is shown.
    open: bool,
}

impl Context {
    const ROOT: Self = Self {
        floor: None,
        open: true,
    };

    /// Whether a write with this stamp is live as far as the prefixes go.
    fn admits(&self, stamp: Stamp) -> bool {
        self.open && Some(stamp) >= self.floor
    }
}

/// The newest `Ver` row of each slot of one path.
#[derive(Default)]
struct Heads {
    cover: Option<(Stamp, Op)>,
    make: Option<(Stamp, Op)>,
    inc: bool,
    place: Option<(Stamp, Position)>,
    kill: Option<Stamp>,
}

/// The `Cur` row in hand: one path's cell, or a table row with the cells of its fields.
struct Loaded {
    root: Path,
    cells: BTreeMap<Path, Cell>,
    dirty: bool,
    /// Whether it is known that there is no `Cur` row below `root`.
    childless: bool,
}

/// Applies writes to the rows of one store.
pub(crate) struct State<'a, R> {
    rows: &'a mut R,
    kind: StoreKind,
    order: Order,
    loaded: Option<Loaded>,
    /// The path whose prefixes `frames` describes.
    at: Vec<u8>,
    /// For some prefixes of `at`, outermost first, each with all shorter ones: their length in bytes
    /// and the context that they give to their children.
    frames: Vec<(usize, Context)>,
    /// A path below which this batch found or made everything empty. With `NewerThanAll` and writes in
    /// order nothing below it needs to be looked up.
    fresh: Option<Path>,
    /// Whether all writes have one stamp, so that none can be older than another's cover.
    one_entry: bool,
}

type Outcome<T, R> = Result<T, StateError<<R as crate::Rows>::Error>>;

impl<'a, R: RowsMut> State<'a, R> {
    pub(crate) fn new(rows: &'a mut R, kind: StoreKind, order: Order) -> Self {
        let (at, frames) = (Vec::new(), Vec::new());
        Self {
            rows,
            kind,
            order,
            loaded: None,
            at,
            frames,
            fresh: None,
            one_entry: false,
        }
    }

    /// Adds one write. After the last comes [`Self::flush`].
    fn insert(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        self.load(path, op.covers())?;
        match op {
            Op::Inc(by) => self.insert_inc(path, stamp, *by),
            Op::Move(position) => self.insert_move(path, stamp, position),
            Op::Kill => self.insert_kill(path, stamp),
            _ => self.insert_value(path, stamp, op),
        }
    }

    /// Adds writes, path by path.
    pub(crate) fn insert_all(mut self, mut writes: Vec<BoundWrite<'_>>) -> Outcome<(), R> {
        let first = writes.first().map(|write| write.stamp);
        self.one_entry = writes.iter().all(|write| Some(write.stamp) == first);
        let slots = |a: &BoundWrite<'_>, b: &BoundWrite<'_>| a.op.slot().cmp(&b.op.slot());
        match self.order {
            // Every write supersedes those before it, without a look at anything else.
            Order::NewerThanAll => {
                writes.sort_by(|a, b| {
                    (&a.path, a.stamp)
                        .cmp(&(&b.path, b.stamp))
                        .then_with(|| slots(a, b))
                });
            }
            // Of the covers at a path only the first changes anything below it.
            Order::Any => {
                writes.sort_by(|a, b| {
                    (&a.path, b.stamp)
                        .cmp(&(&b.path, a.stamp))
                        .then_with(|| slots(a, b))
                });
            }
        }
        for write in &writes {
            self.insert(&write.path, write.stamp, write.op)?;
        }
        self.flush()
    }

    /// Takes out one write. After the last, call [`Self::flush`].
    pub(crate) fn remove(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        self.load(path, false)?;
        match op {
            Op::Inc(by) => self.remove_inc(path, stamp, *by),
            Op::Move(_) => {
                self.ver_delete(path, Slot::Move, stamp)?;
                let placed = self.cell(path)?.place.is_some_and(|(s, _)| s == stamp);
                if placed {
                    self.resettle(path, None, None)
                } else {
                    Ok(())
                }
            }
            Op::Kill => {
                self.ver_delete(path, Slot::Kill, stamp)?;
                self.resettle(path, None, None)
            }
            _ => self.resettle(path, None, Some((stamp, op))),
        }
    }

    // Single writes.

    fn insert_value(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        let cell = self
            .loaded_for(path)
            .and_then(|loaded| loaded.cells.get(path));
        let shown = cell
            .and_then(|cell| cell.value.as_ref())
            .map(|(shown, _)| *shown);
        let incs = cell
            .and_then(|cell| cell.incs.as_ref())
            .map(|incs| incs.greatest);
        let newest = match (shown, self.order) {
            (Some(shown), _) => stamp > shown,
            (None, Order::NewerThanAll) => {
                let exists = path.last_elem().is_none() || matches!(op, Op::Ins { .. });
                if !exists || !self.context(path)?.admits(stamp) {
                    return self.ver_put(path, stamp, op);
                }
                true
            }
            (None, Order::Any) => false,
        };
        if newest && (!op.covers() || incs < Some(stamp)) {
            self.supersede(path, stamp, op)
        } else {
            self.resettle(path, Some((stamp, op)), None)
        }
    }

    /// Inserts a value operation that is live and newer than every other one at its path, and covers
    /// either all live increments there or none.
    fn supersede(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        let mut cell = self.take_cell(path)?;
        if let Some((old_stamp, old)) = cell.value.take() {
            self.ver_put(path, old_stamp, &old)?;
        }
        if let (Op::Ins { position, .. }, Some(elem)) = (op, path.last_elem()) {
            self.pos_put(path, position, &elem)?;
            cell.place = Some((stamp, position.clone()));
        }
        if op.covers() {
            cell.incs = None;
        }
        if matches!(op, Op::Delete) {
            self.ver_put(path, stamp, op)?;
        } else {
            cell.value = Some((stamp, op.clone()));
        }
        let closed = self.is_gate(path) && cell.value.is_none();
        self.store(path, cell)?;
        if !op.covers() {
            return Ok(());
        }
        // A new element's children are newer than it, so there are none yet.
        let empty = matches!(op, Op::Ins { .. }) || self.is_fresh(path);
        self.forget_frames(path);
        if !empty {
            self.sink(path, if closed { None } else { Some(stamp) })?;
        }
        if self.order == Order::NewerThanAll {
            self.note_cover(path, stamp, op, !closed)?;
        }
        Ok(())
    }

    /// Remembers for the rest of a batch what a new cover means for the paths below it.
    fn note_cover(&mut self, path: &Path, stamp: Stamp, op: &Op, open: bool) -> Outcome<(), R> {
        // An entry writes nothing older than its own covers, and nothing below its own leaves.
        if self.one_entry && op.container().is_none() {
            return Ok(());
        }
        let above = self.context(path)?;
        self.push_frame(
            path,
            Context {
                floor: Some(stamp),
                open: above.open && open,
            },
        );
        if !self.is_fresh(path) {
            self.fresh = Some(path.clone());
        }
        Ok(())
    }

    fn insert_inc(&mut self, path: &Path, stamp: Stamp, by: i64) -> Outcome<(), R> {
        self.ver_put(path, stamp, &Op::Inc(by))?;
        let mut cell = self.cell(path)?;
        let above_live = cell
            .incs
            .as_ref()
            .is_some_and(|incs| incs.greatest <= stamp)
            || cell
                .value
                .as_ref()
                .is_some_and(|(shown, _)| *shown <= stamp);
        if !above_live && !self.at_path(path, &cell)?.admits(stamp) {
            return Ok(());
        }
        let incs = cell.incs.get_or_insert(Incs {
            sum: 0,
            greatest: stamp,
        });
        incs.sum += i128::from(by);
        incs.greatest = incs.greatest.max(stamp);
        self.store(path, cell)
    }

    fn remove_inc(&mut self, path: &Path, stamp: Stamp, by: i64) -> Outcome<(), R> {
        self.ver_delete(path, Slot::Inc, stamp)?;
        let mut cell = self.cell(path)?;
        let Some(mut incs) = cell.incs.take() else {
            return Ok(());
        };
        let here = self.at_path(path, &cell)?;
        if !here.admits(stamp) {
            return Ok(());
        }
        incs.sum -= i128::from(by);
        if incs.greatest == stamp {
            let next = self
                .ver_head(path, Slot::Inc)?
                .map(|(next, _)| next)
                .filter(|s| here.admits(*s));
            cell.incs = next.map(|greatest| Incs { greatest, ..incs });
        } else {
            cell.incs = Some(incs);
        }
        self.store(path, cell)
    }

    fn insert_move(&mut self, path: &Path, stamp: Stamp, position: &Position) -> Outcome<(), R> {
        self.ver_put(path, stamp, &Op::Move(position.clone()))?;
        let mut cell = self.cell(path)?;
        let (Some(elem), Some((placed, old))) = (path.last_elem(), &cell.place) else {
            return Ok(());
        };
        if stamp <= *placed {
            return Ok(());
        }
        self.pos_delete(path, old, &elem)?;
        self.pos_put(path, position, &elem)?;
        cell.place = Some((stamp, position.clone()));
        self.store(path, cell)
    }

    fn insert_kill(&mut self, path: &Path, stamp: Stamp) -> Outcome<(), R> {
        self.ver_put(path, stamp, &Op::Kill)?;
        let cell = self.cell(path)?;
        // What is older than the element is by somebody who cannot have seen it.
        if cell.value.is_none() || path.last_elem().is_none_or(|elem| stamp < elem.stamp) {
            return Ok(());
        }
        self.bury(path, cell)?;
        self.forget_frames(path);
        self.sink(path, None)
    }

    // One path, recomputed.

    /// Recomputes a path after a change that is `added`, `removed`, or made in `Ver` already, and what
    /// is below as far as that changes too.
    fn resettle(
        &mut self,
        path: &Path,
        added: Option<(Stamp, &Op)>,
        removed: Option<(Stamp, &Op)>,
    ) -> Outcome<(), R> {
        let context = self.context(path)?;
        let mut cell = self.cell(path)?;
        let open_before = if self.is_gate(path) {
            cell.value.is_some()
        } else {
            context.open
        };
        if let Some((stamp, op)) = removed {
            if cell
                .value
                .as_ref()
                .is_some_and(|(shown, _)| *shown == stamp)
            {
                cell.value = None;
                self.store(path, cell.clone())?;
            } else {
                self.ver_delete(path, op.slot(), stamp)?;
            }
        }
        let (cover, after) = self.settle(path, context, cell, added)?;
        let removed = removed
            .filter(|(_, op)| op.covers())
            .map(|(stamp, _)| stamp);
        let before = Context {
            floor: context.floor.max(cover).max(removed),
            open: open_before,
        };
        self.forget_frames(path);
        self.propagate(path, before, after)
    }

    /// Recomputes one path from its writes in `Ver`, the one in its `cell`, and `added`, which is in no
    /// row yet. Returns its greatest cover, `added` not counted, and the context for its children.
    fn settle(
        &mut self,
        path: &Path,
        context: Context,
        old: Cell,
        added: Option<(Stamp, &Op)>,
    ) -> Outcome<(Option<Stamp>, Context), R> {
        let heads = self.heads(path)?;
        let added = added.map(|(stamp, op)| (stamp, op.clone()));
        let candidates = [&old.value, &added, &heads.cover, &heads.make];
        let inserted = self.insertion(path, candidates)?;
        let exists = path.last_elem().is_none_or(|elem| {
            inserted.is_some() && heads.kill < Some(elem.stamp) && Some(elem.stamp) >= context.floor
        });
        let here = Context {
            floor: context.floor,
            open: context.open && exists,
        };

        let newest = candidates
            .into_iter()
            .flatten()
            .max_by_key(|(stamp, _)| *stamp);
        let shown = |(stamp, op): &&(Stamp, Op)| here.admits(*stamp) && !matches!(op, Op::Delete);
        let value = newest.filter(shown).cloned();
        let cover_before = covering(&old.value).max(covering(&heads.cover));
        let floor = here.floor.max(cover_before).max(covering(&added));
        let incs = if here.open && heads.inc {
            self.sum_incs(path, floor)?
        } else {
            None
        };
        let places = inserted.into_iter().chain(heads.place);
        let place = places
            .max_by_key(|(stamp, _)| *stamp)
            .filter(|_| value.is_some());
        let open = if self.is_gate(path) {
            value.is_some()
        } else {
            here.open
        };

        self.replace(path, old, added, Cell { value, incs, place })?;
        Ok((cover_before, Context { floor, open }))
    }

    /// Puts a new cell in the place of an old one, and every write where it belongs then.
    fn replace(
        &mut self,
        path: &Path,
        old: Cell,
        added: Option<(Stamp, Op)>,
        new: Cell,
    ) -> Outcome<(), R> {
        self.move_place(path, old.place.as_ref(), new.place.as_ref())?;
        let unchanged = old == new;
        self.move_value(path, old.value, added, &new.value)?;
        if unchanged {
            Ok(())
        } else {
            self.store(path, new)
        }
    }

    /// Brings the writes that are not in `Ver` to where they belong now that `value` is shown.
    fn move_value(
        &mut self,
        path: &Path,
        old: Option<(Stamp, Op)>,
        added: Option<(Stamp, Op)>,
        value: &Option<(Stamp, Op)>,
    ) -> Outcome<(), R> {
        let stamp_of = |write: &Option<(Stamp, Op)>| write.as_ref().map(|(stamp, _)| *stamp);
        let outside = [stamp_of(&old), stamp_of(&added)];
        if let Some((stamp, op)) = value
            && !outside.contains(&Some(*stamp))
        {
            self.ver_delete(path, op.slot(), *stamp)?;
        }
        for (stamp, op) in [old, added].into_iter().flatten() {
            if Some(stamp) != stamp_of(value) {
                self.ver_put(path, stamp, &op)?;
            }
        }
        Ok(())
    }

    fn move_place(
        &mut self,
        path: &Path,
        old: Option<&(Stamp, Position)>,
        new: Option<&(Stamp, Position)>,
    ) -> Outcome<(), R> {
        let Some(elem) = path.last_elem().filter(|_| old != new) else {
            return Ok(());
        };
        if let Some((_, position)) = old {
            self.pos_delete(path, position, &elem)?;
        }
        if let Some((_, position)) = new {
            self.pos_put(path, position, &elem)?;
        }
        Ok(())
    }

    /// Stamp and position of an element's insertion, if the path is an element's and that is in a row.
    fn insertion(
        &mut self,
        path: &Path,
        candidates: [&Option<(Stamp, Op)>; 4],
    ) -> Outcome<Option<(Stamp, Position)>, R> {
        let Some(elem) = path.last_elem() else {
            return Ok(None);
        };
        let place = |(stamp, op): &(Stamp, Op)| match op {
            Op::Ins { position, .. } if *stamp == elem.stamp => Some((*stamp, position.clone())),
            _ => None,
        };
        if let Some(found) = candidates.into_iter().flatten().find_map(place) {
            return Ok(Some(found));
        }
        let key = ver_key(path, Slot::Cover, &elem.stamp);
        match self.rows.get(RowSpace::Ver, &key)? {
            Some(value) => Ok(place(&(elem.stamp, parse_op(&key, &value)?))),
            None => Ok(None),
        }
    }

    /// The live increments of a path whose floor is known.
    fn sum_incs(&mut self, path: &Path, floor: Option<Stamp>) -> Outcome<Option<Incs>, R> {
        let (start, end) = ver_range(path, Slot::Inc as u8, Slot::Inc as u8 + 1);
        let mut pages = Pages::new(RowSpace::Ver, start, end, false, limits::SCAN_ROWS);
        let mut incs = None;
        while let Some((key, value)) = pages.next(&*self.rows)? {
            let (stamp, op) = parse_ver(&key, &value)?;
            if Some(stamp) < floor {
                break;
            }
            if let Op::Inc(by) = op {
                incs.get_or_insert(Incs {
                    sum: 0,
                    greatest: stamp,
                })
                .sum += i128::from(by);
            }
        }
        Ok(incs)
    }

    // What is below.

    /// Carries a changed context to the live rows below a path.
    fn propagate(&mut self, path: &Path, before: Context, after: Context) -> Outcome<(), R> {
        match (before.open, after.open) {
            (false, false) => Ok(()),
            (true, false) => self.sink(path, None),
            (false, true) => self.rebuild(path),
            (true, true) if after.floor > before.floor => self.sink(path, after.floor),
            (true, true) if after.floor < before.floor => self.rebuild(path),
            (true, true) => Ok(()),
        }
    }

    /// Takes out of `Cur` what is strictly below a path and older than `floor`; everything without one.
    /// Visits the live rows below the path.
    fn sink(&mut self, path: &Path, floor: Option<Stamp>) -> Outcome<(), R> {
        if self
            .loaded
            .as_ref()
            .is_some_and(|loaded| loaded.childless && loaded.root == *path)
        {
            return Ok(());
        }
        let skip = path.as_bytes().len();
        let mut after = with_byte(path, KEY);
        loop {
            let (page, more) = self.cells_below(path, &after)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = with_byte(last, 0);
            for (path, cell) in page {
                match floor {
                    Some(floor) if !has_older_elem(&path, skip, floor) => {
                        self.lift(&path, cell, floor)?
                    }
                    _ => self.bury(&path, cell)?,
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Takes out of a live cell what is older than a floor.
    fn lift(&mut self, path: &Path, mut cell: Cell, floor: Stamp) -> Outcome<(), R> {
        if cell
            .incs
            .as_ref()
            .is_some_and(|incs| incs.greatest >= floor)
        {
            let context = self.context(path)?;
            return self.settle(path, context, cell, None).map(|_| ());
        }
        let had_incs = cell.incs.take().is_some();
        match cell.value.take() {
            Some((stamp, op)) if stamp < floor => self.ver_put(path, stamp, &op)?,
            value if !had_incs => {
                cell.value = value;
                return Ok(());
            }
            value => cell.value = value,
        }
        self.store(path, cell)
    }

    /// Takes everything out of a live cell.
    fn bury(&mut self, path: &Path, cell: Cell) -> Outcome<(), R> {
        if let (Some(elem), Some((_, position))) = (path.last_elem(), &cell.place) {
            self.pos_delete(path, position, &elem)?;
        }
        if let Some((stamp, op)) = &cell.value {
            self.ver_put(path, *stamp, op)?;
        }
        self.store(path, Cell::default())
    }

    /// Recomputes every path strictly below one, in order, so that each finds its prefixes done.
    /// Visits all of them, live or not.
    fn rebuild(&mut self, path: &Path) -> Outcome<(), R> {
        if let Some(loaded) = &mut self.loaded {
            loaded.childless = false;
        }
        let (start, end) = below(path);
        let mut cur = Pages::new(
            RowSpace::Cur,
            start.clone(),
            end.clone(),
            false,
            limits::SCAN_ROWS,
        );
        let mut ver = Pages::new(RowSpace::Ver, start.clone(), end, false, limits::SCAN_ROWS);
        let mut from = start;
        loop {
            let live = match self.kind {
                StoreKind::Doc => cur
                    .peek(&*self.rows)?
                    .map(|(key, _)| Path::from_trusted(key)),
                StoreKind::Table => self.next_loaded(path, &from),
            };
            let written = match ver.peek(&*self.rows)? {
                Some((key, _)) => Some(ver_path(key)?),
                None => None,
            };
            let Some(next) = live.into_iter().chain(written).min() else {
                return Ok(());
            };
            let context = self.context(&next)?;
            let cell = self.cell(&next)?;
            let (_, inside) = self.settle(&next, context, cell, None)?;
            self.push_frame(&next, inside);
            from = with_byte(&next, KEY);
            cur.seek(&from);
            ver.seek(&from);
        }
    }

    // Contexts.

    /// Whether the children of a path depend on its being shown: elements and table rows.
    fn is_gate(&self, path: &Path) -> bool {
        match self.kind {
            StoreKind::Doc => path.last_elem().is_some(),
            StoreKind::Table => is_row(path),
        }
    }

    /// The context that a path's strict prefixes give it.
    fn context(&mut self, path: &Path) -> Outcome<Context, R> {
        let bytes = path.as_bytes();
        let Some(parent) = last_start(bytes) else {
            return Ok(Context::ROOT);
        };
        let common = self
            .at
            .iter()
            .zip(bytes)
            .take_while(|(a, b)| a == b)
            .count();
        self.frames.retain(|(len, _)| *len <= common);
        let done = self.frames.last().map(|(len, _)| *len);
        if done < Some(parent) {
            self.at = bytes.to_vec();
        }
        let prefixes = std::iter::once(0).chain(ends(bytes));
        for end in prefixes
            .skip_while(|end| Some(*end) <= done)
            .take_while(|end| *end <= parent)
        {
            let prefix = Path::from_trusted(bytes.get(..end).unwrap_or_default());
            let above = self
                .frames
                .last()
                .map_or(Context::ROOT, |(_, context)| *context);
            let inside = self.inside(&prefix, above)?;
            self.frames.push((end, inside));
        }
        let mut frames = self.frames.iter().rev();
        Ok(frames
            .find(|(len, _)| *len <= parent)
            .map_or(Context::ROOT, |(_, context)| *context))
    }

    /// Remembers the context that the path just handled gives its children.
    fn push_frame(&mut self, path: &Path, inside: Context) {
        let len = path.as_bytes().len();
        self.frames.retain(|(end, _)| *end < len);
        self.frames.push((len, inside));
        self.at = path.as_bytes().to_vec();
    }

    /// The context that a path gives its children, from what it is given itself.
    fn inside(&mut self, path: &Path, above: Context) -> Outcome<Context, R> {
        let gate = self.is_gate(path);
        if self.order == Order::NewerThanAll && !gate {
            return Ok(above);
        }
        let cell = self.cell(path)?;
        let open = above.open && (!gate || cell.value.is_some());
        let floor = match self.order {
            Order::NewerThanAll => above.floor,
            Order::Any => above.floor.max(self.cover(path, &cell)?),
        };
        Ok(Context { floor, open })
    }

    /// What a path means for increments at the path itself.
    fn at_path(&mut self, path: &Path, cell: &Cell) -> Outcome<Context, R> {
        let above = self.context(path)?;
        let exists = path.last_elem().is_none() || cell.value.is_some();
        let cover = match self.order {
            Order::NewerThanAll => None,
            Order::Any => self.cover(path, cell)?,
        };
        Ok(Context {
            floor: above.floor.max(cover),
            open: above.open && exists,
        })
    }

    /// Drops what is remembered about a path and what is below it.
    fn forget_frames(&mut self, path: &Path) {
        if self.at.starts_with(path.as_bytes()) {
            let len = path.as_bytes().len();
            self.frames.retain(|(end, _)| *end < len);
        }
    }

    /// Whether nothing can stand at a path or below it but what this batch has put there.
    fn is_fresh(&self, path: &Path) -> bool {
        self.order == Order::NewerThanAll
            && self
                .fresh
                .as_ref()
                .is_some_and(|fresh| path != fresh && path.starts_with(fresh))
    }

    // Rows.

    /// Takes the row that a path's cell is in into hand. With `probe` it is also found out, by the same
    /// read, whether a document has rows below.
    fn load(&mut self, path: &Path, probe: bool) -> Outcome<(), R> {
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
    fn probe(&self, path: &Path) -> Outcome<(BTreeMap<Path, Cell>, bool), R> {
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

    fn read_cells(&self, root: &Path) -> Outcome<BTreeMap<Path, Cell>, R> {
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
    fn loaded_for(&mut self, path: &Path) -> Option<&mut Loaded> {
        let kind = self.kind;
        self.loaded.as_mut().filter(|loaded| match kind {
            StoreKind::Doc => loaded.root == *path,
            StoreKind::Table => path.starts_with(&loaded.root),
        })
    }

    /// What is live at a path.
    fn cell(&mut self, path: &Path) -> Outcome<Cell, R> {
        if let Some(loaded) = self.loaded_for(path) {
            return Ok(loaded.cells.get(path).cloned().unwrap_or_default());
        }
        if self.kind == StoreKind::Table && path.is_root() {
            return Ok(Cell::default());
        }
        Ok(self.read_cells(path)?.remove(path).unwrap_or_default())
    }

    /// What is live at a path, which is going to be stored anew.
    fn take_cell(&mut self, path: &Path) -> Outcome<Cell, R> {
        if let Some(loaded) = self.loaded_for(path) {
            let cell = loaded.cells.remove(path);
            loaded.dirty |= cell.is_some();
            return Ok(cell.unwrap_or_default());
        }
        self.cell(path)
    }

    /// Says what is live at a path from now on.
    fn store(&mut self, path: &Path, cell: Cell) -> Outcome<(), R> {
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
    fn cells_below(&self, path: &Path, from: &[u8]) -> Outcome<(Vec<(Path, Cell)>, bool), R> {
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
    fn next_loaded(&self, path: &Path, from: &[u8]) -> Option<Path> {
        let mut paths = self.loaded.iter().flat_map(|loaded| loaded.cells.keys());
        paths
            .find(|at| at.as_bytes() >= from && at.starts_with(path))
            .cloned()
    }

    /// The greatest cover of a path whose cell is known.
    fn cover(&self, path: &Path, cell: &Cell) -> Outcome<Option<Stamp>, R> {
        match cell.cover() {
            Some(stamp) => Ok(Some(stamp)),
            None => Ok(self.ver_head(path, Slot::Cover)?.map(|(stamp, _)| stamp)),
        }
    }

    /// The newest `Ver` row of one slot of a path.
    fn ver_head(&self, path: &Path, slot: Slot) -> Outcome<Option<(Stamp, Op)>, R> {
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
    fn heads(&self, path: &Path) -> Outcome<Heads, R> {
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

    fn ver_put(&mut self, path: &Path, stamp: Stamp, op: &Op) -> Outcome<(), R> {
        Ok(self.rows.put(
            RowSpace::Ver,
            &ver_key(path, op.slot(), &stamp),
            &ver_value(op),
        )?)
    }

    fn ver_delete(&mut self, path: &Path, slot: Slot, stamp: Stamp) -> Outcome<(), R> {
        Ok(self
            .rows
            .delete(RowSpace::Ver, &ver_key(path, slot, &stamp))?)
    }

    fn pos_put(&mut self, path: &Path, position: &Position, elem: &ElemId) -> Outcome<(), R> {
        Ok(self
            .rows
            .put(RowSpace::Pos, &pos_key(list_of(path), position, elem), &[])?)
    }

    fn pos_delete(&mut self, path: &Path, position: &Position, elem: &ElemId) -> Outcome<(), R> {
        Ok(self
            .rows
            .delete(RowSpace::Pos, &pos_key(list_of(path), position, elem))?)
    }
}

/// The stamp of a write that covers.
fn covering(write: &Option<(Stamp, Op)>) -> Option<Stamp> {
    write
        .as_ref()
        .filter(|(_, op)| op.covers())
        .map(|(stamp, _)| *stamp)
}

/// The encoded path of the list that an element's path is in.
fn list_of(elem: &Path) -> &[u8] {
    let bytes = elem.as_bytes();
    last_start(bytes)
        .and_then(|start| bytes.get(..start))
        .unwrap_or_default()
}

/// Whether a path in a table is a row's.
fn is_row(path: &Path) -> bool {
    ends(path.as_bytes()).next() == Some(path.as_bytes().len())
}

/// Whether an element below the first `skip` bytes of a path was inserted before `floor`.
fn has_older_elem(path: &Path, skip: usize, floor: Stamp) -> bool {
    let rest = Path::from_trusted(path.as_bytes().get(skip..).unwrap_or_default());
    rest.segments()
        .any(|segment| matches!(segment, Segment::Elem(elem) if elem.stamp < floor))
}
