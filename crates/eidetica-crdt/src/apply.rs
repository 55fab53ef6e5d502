//! Keeping the rows of a store equal to what its set of writes says, one write at a time.
//!
//! Every write of the set stands in exactly one row: the one that `value(path)` is in the path's `Cur`
//! row, all others in `Ver`. What is live at a path depends on the path and its prefixes only, as a
//! [`Context`] sums them up, so a change recomputes its own path ([`State::settle`]) and touches what
//! is below only where the context that it gives to its children changes ([`State::propagate`]).

use std::borrow::Cow;

use eidetica_entry::Stamp;

use crate::cell::{Incs, encode_new_row};
use crate::path::ends;
use crate::{
    Container, Op, Path, Payload, Position, RowSpace, RowsMut, Slot, StampedWrite, StateError,
    StoreKind,
};

mod audit;
mod context;
mod held;
mod settle;

pub use audit::{Audited, audit, each_write, encode_write};
use context::Context;
use held::Loaded;

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
    Sorted::new(kind, batch, order).apply(rows)
}

/// What many entries write, sorted by path: what [`apply_batch`] inserts, for who would do so on several cores.
pub struct Sorted<'a> {
    kind: StoreKind,
    order: Order,
    writes: Vec<BoundWrite<'a>>,
}

impl<'a> Sorted<'a> {
    /// Sorts the writes of payloads of one kind, and leaves others out. O(n log n).
    pub fn new(kind: StoreKind, batch: &[(Stamp, &'a Payload)], order: Order) -> Self {
        let mut writes = bind(kind, batch);
        sort(&mut writes, order);
        Self {
            kind,
            order,
            writes,
        }
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Cuts the writes into at most `most` parts of about one size, in the order of their paths, no two of which read or
    /// change a row in common: each may be applied to the rows as they are before any of them.
    ///
    /// What is below one key of the store's root stays together; all does where the root itself is written.
    pub fn split(mut self, most: usize) -> Vec<Self> {
        let size = self.writes.len().div_ceil(most.max(1)).max(1);
        let writes_root = self.writes.first().is_some_and(|w| w.path.is_root());
        let mut parts = Vec::new();
        while !writes_root && parts.len() + 1 < most {
            let Some(kept) = self.writes.len().checked_sub(size) else {
                break;
            };
            let Some(at) = begin_of_key(&self.writes, kept).filter(|at| *at > 0) else {
                break;
            };
            parts.push(Self {
                writes: self.writes.split_off(at),
                ..self
            });
        }
        parts.push(self);
        parts.reverse();
        parts
    }

    /// Inserts them: see [`apply_batch`].
    ///
    /// # Errors
    /// The rows'; corrupt rows.
    pub fn apply<R: RowsMut>(self, rows: &mut R) -> Result<(), StateError<R::Error>> {
        State::new(rows, self.kind, self.order).insert_sorted(&self.writes)
    }
}

/// Where those writes begin that have their first key in common with the one at `at`.
fn begin_of_key(writes: &[BoundWrite<'_>], at: usize) -> Option<usize> {
    let path = &writes.get(at)?.path;
    let end = ends(path.as_bytes()).next()?;
    let key = path.as_bytes().get(..end)?;
    let before = writes.get(..at)?;
    Some(before.partition_point(|write| write.path.as_bytes() < key))
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

/// Brings writes into the order in which they are inserted.
fn sort(writes: &mut [BoundWrite<'_>], order: Order) {
    let slots = |a: &BoundWrite<'_>, b: &BoundWrite<'_>| a.op.slot().cmp(&b.op.slot());
    match order {
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
    pub(crate) fn insert_all(self, mut writes: Vec<BoundWrite<'_>>) -> Outcome<(), R> {
        sort(&mut writes, self.order);
        self.insert_sorted(&writes)
    }

    fn insert_sorted(mut self, writes: &[BoundWrite<'_>]) -> Outcome<(), R> {
        let first = writes.first().map(|write| write.stamp);
        self.one_entry = writes.iter().all(|write| Some(write.stamp) == first);
        let mut rest = writes;
        while let Some((write, after)) = rest.split_first() {
            rest = match self.insert_row(write, after)? {
                Some(after) => after,
                None => {
                    self.insert(&write.path, write.stamp, write.op)?;
                    after
                }
            };
        }
        self.flush()
    }

    /// Inserts a whole table row at once if `write` begins one where none is and the writes after it
    /// only give it fields. Returns the writes after those.
    fn insert_row<'w>(
        &mut self,
        write: &BoundWrite<'_>,
        after: &'w [BoundWrite<'w>],
    ) -> Outcome<Option<&'w [BoundWrite<'w>]>, R> {
        let begins = self.kind == StoreKind::Table
            && self.order == Order::NewerThanAll
            && self.one_entry
            && *write.op == Op::Clear(Container::Map);
        if !begins {
            return Ok(None);
        }
        let inside = |other: &BoundWrite<'_>| other.path.starts_with(&write.path);
        let count = after.iter().take_while(|other| inside(other)).count();
        let (fields, after) = after.split_at(count);
        if !fields.iter().all(|field| matches!(field.op, Op::Set(_))) {
            return Ok(None);
        }
        self.load(&write.path, true)?;
        if self
            .loaded
            .as_ref()
            .is_none_or(|loaded| !loaded.cells.is_empty())
        {
            return Ok(None);
        }
        self.loaded = None;
        let row = write.path.as_bytes();
        let fields = fields.iter().map(|field| {
            let bytes = field.path.as_bytes();
            (bytes.get(row.len()..).unwrap_or_default(), field.op)
        });
        let value = encode_new_row(write.stamp, fields);
        self.rows.put(RowSpace::Cur, row, &value)?;
        Ok(Some(after))
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
}
