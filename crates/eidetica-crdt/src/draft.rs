//! A transaction's edits to one store, lowered as they come.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use crate::apply::{BoundWrite, State};
use crate::lower::Lowering;
use crate::path::ends;
use crate::{
    Container, Delta, Edit, EditError, ElemId, Init, OWN, Op, Order, Overlay, Path, Payload,
    PayloadError, Position, Rows, Scalar, Segment, StampedWrite, StateError, StoreKind, Write,
};

/// The edits of one transaction to one store: what they amount to, and the state as they leave it.
///
/// Every edit is lowered on the state `base` with the edits before it. Whoever finds at commit that the
/// state has changed makes a new draft of the same edits; `base` must be the same rows within one.
///
/// ```
/// # use eidetica_crdt::{Draft, Edit, Locator, MemRows, Path, StoreKind, get};
/// let rows = MemRows::new();
/// let mut draft = Draft::new(StoreKind::Doc, 7);
/// let at = Locator::parse("owner.name")?;
/// draft.edit(&rows, &Edit::Set { at, value: "ada".into() })?;
/// let seen = get(&draft.view(&rows), &"owner".parse()?)?;
/// assert_eq!(seen.and_then(|v| v.as_doc()?.get_as::<String>("name")).as_deref(), Some("ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Draft {
    kind: StoreKind,
    /// State of the generator of the random bytes in positions.
    seed: u64,
    next_ordinal: u32,
    slots: BTreeMap<Path, Slots>,
    /// Whether `slots` may hold a `Delete`, which has to become a container when something is put below.
    deletes: bool,
    /// What `slots` do to the state, except at the paths in `unseen` and for the writes in `gone`. Until
    /// something has asked for it, it is empty and so are they.
    delta: Delta,
    asked: bool,
    unseen: Vec<Path>,
    gone: Vec<(Path, Op)>,
}

/// What the edits so far do at one path.
#[derive(Clone, Debug, Default)]
struct Slots {
    /// A covering operation or `Make`.
    value: Option<Op>,
    inc: Option<i64>,
    moved: Option<Position>,
    kill: bool,
    /// Whether the delta has them.
    seen: bool,
}

impl Slots {
    fn ops(self) -> impl Iterator<Item = Op> {
        let inc = self.inc.map(Op::Inc);
        let moved = self.moved.map(Op::Move);
        self.value
            .into_iter()
            .chain(inc)
            .chain(moved)
            .chain(self.kill.then_some(Op::Kill))
    }
}

impl Draft {
    /// No edits. `seed` should be random: it keeps positions that different writers choose apart.
    pub fn new(kind: StoreKind, seed: u64) -> Self {
        Self {
            kind,
            seed,
            next_ordinal: 0,
            slots: BTreeMap::new(),
            deletes: false,
            delta: Delta::new(),
            asked: false,
            unseen: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// What kind of store the draft is for.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Adds an edit on the state `base`, which must be the same for all edits of a draft.
    ///
    /// # Errors
    /// See [`EditError`]. The draft is unchanged, except after [`EditError::State`], when it must not be
    /// used on.
    pub fn edit<R: Rows>(&mut self, base: &R, edit: &Edit) -> Result<(), EditError<R::Error>> {
        self.add(base, edit)?;
        Ok(self.show(base)?)
    }

    /// The state `base` with the edits made. What the edits insert has the stamp [`OWN`].
    pub fn view<'a, R: Rows>(&'a self, base: &'a R) -> Overlay<&'a R, &'a Delta> {
        Overlay {
            base,
            delta: &self.delta,
        }
    }

    /// Whether the edits amount to nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What the edits amount to.
    ///
    /// # Errors
    /// Too large for one payload.
    pub fn payload(&self, salt: Option<[u8; 16]>) -> Result<Payload, PayloadError> {
        payload(self.kind, salt, self.slots.clone())
    }

    /// [`Self::edit`] that leaves the view as it was.
    fn add<R: Rows>(&mut self, base: &R, edit: &Edit) -> Result<(), EditError<R::Error>> {
        let behind = if self.asked {
            !self.unseen.is_empty()
        } else {
            !self.slots.is_empty()
        };
        if behind && edit.reads() && self.touches(edit) {
            self.show(base)?;
        }
        let view = Overlay {
            base,
            delta: &self.delta,
        };
        let mut lowering = Lowering::new(&view, self.kind, self.seed, self.next_ordinal);
        lowering.lower(edit)?;
        let ops;
        (self.seed, self.next_ordinal, ops) = lowering.finish();
        // A path of this edit below which there is nothing any more but what follows.
        let mut cleared: Option<Path> = None;
        for (path, op) in ops {
            if cleared
                .as_ref()
                .is_none_or(|cleared| !path.starts_with(cleared))
            {
                self.open_deleted(&path);
                if op.covers() || op == Op::Kill {
                    self.drop_below(&path);
                    cleared = op.container().map(|_| path.clone());
                }
            }
            self.merge(path, op);
        }
        Ok(())
    }

    /// Whether the draft has done anything where an edit reads: at the root or below its first key.
    fn touches(&self, edit: &Edit) -> bool {
        let Some(first) = edit.first_key().and_then(|key| Path::root().key(key).ok()) else {
            return !self.slots.is_empty();
        };
        let below = self
            .slots
            .range::<Path, _>((Bound::Included(&first), Bound::Unbounded))
            .next();
        self.slots.contains_key(&Path::root())
            || below.is_some_and(|(path, _)| path.starts_with(&first))
    }

    /// Brings the delta up to the slots.
    fn show<R: Rows>(&mut self, base: &R) -> Result<(), StateError<R::Error>> {
        if !std::mem::replace(&mut self.asked, true) {
            self.unseen = self.slots.keys().cloned().collect();
        }
        let mut view = Overlay {
            base,
            delta: &mut self.delta,
        };
        // What is left of earlier edits may stand below what replaces one that is gone.
        let order = if self.gone.is_empty() {
            Order::NewerThanAll
        } else {
            Order::Any
        };
        let mut state = State::new(&mut view, self.kind, Order::Any);
        self.gone.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, op) in self.gone.drain(..).rev() {
            state.remove(&path, OWN, &op)?;
        }
        state.flush()?;
        self.unseen.sort();
        self.unseen.dedup();
        let mut writes = Vec::with_capacity(self.unseen.len());
        for path in self.unseen.drain(..) {
            if let Some(slots) = self.slots.get_mut(&path) {
                let ops = slots.clone().ops();
                writes.extend(ops.map(|op| StampedWrite {
                    path: path.clone(),
                    stamp: OWN,
                    op,
                }));
                slots.seen = true;
            }
        }
        State::new(&mut view, self.kind, order)
            .insert_all(writes.iter().map(BoundWrite::from).collect())
    }

    /// The slots of a path, which are about to change.
    fn change(&mut self, path: Path) -> &mut Slots {
        if self.asked {
            self.unseen.push(path.clone());
        }
        match self.slots.entry(path) {
            Entry::Vacant(entry) => entry.insert(Slots::default()),
            Entry::Occupied(mut entry) => {
                if std::mem::take(&mut entry.get_mut().seen) {
                    let (path, slots) = (entry.key(), entry.get().clone());
                    self.gone.extend(slots.ops().map(|op| (path.clone(), op)));
                }
                entry.into_mut()
            }
        }
    }

    /// Forgets what the draft did at a path.
    fn forget(&mut self, path: &Path) {
        if let Some(slots) = self.slots.remove(path).filter(|slots| slots.seen) {
            self.gone.extend(slots.ops().map(|op| (path.clone(), op)));
        }
    }

    /// Turns a deletion by this draft at a prefix of `path` into an empty container: the same to
    /// everybody, and something may stand below it.
    fn open_deleted(&mut self, path: &Path) {
        if !self.deletes {
            return;
        }
        let bytes = path.as_bytes();
        let mut start = 0;
        for (segment, end) in path.segments().zip(ends(bytes)) {
            let above = Path::from_trusted(bytes.get(..start).unwrap_or_default());
            start = end;
            let deleted = |slots: &Slots| slots.value == Some(Op::Delete);
            if self.slots.get(&above).is_some_and(deleted) {
                self.change(above).value = Some(Op::Clear(match segment {
                    Segment::Key(_) => Container::Map,
                    Segment::Elem(_) => Container::List,
                }));
            }
        }
    }

    /// Forgets what the draft did strictly below a path.
    fn drop_below(&mut self, path: &Path) {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let below = self.slots.range::<Path, _>(after).map(|(at, _)| at);
        let below: Vec<Path> = below
            .take_while(|at| at.starts_with(path))
            .cloned()
            .collect();
        for path in below {
            self.forget(&path);
        }
    }

    /// Joins an operation with what the draft does at its path already.
    fn merge(&mut self, path: Path, op: Op) {
        if op == Op::Kill {
            self.forget(&path);
            // A new element that goes again never was.
            if path.last_elem().is_none_or(|elem| elem.stamp != OWN) {
                self.change(path).kill = true;
            }
            return;
        }
        self.deletes |= op == Op::Delete;
        let slots = self.change(path);
        match op {
            Op::Move(position) => match &mut slots.value {
                Some(Op::Ins {
                    position: inserted, ..
                }) => *inserted = position,
                _ => slots.moved = Some(position),
            },
            Op::Inc(by) => match slots
                .value
                .as_ref()
                .and_then(|value| incremented(value, by))
            {
                Some(value) => slots.value = Some(value),
                None => slots.inc = Some(slots.inc.unwrap_or(0).saturating_add(by)),
            },
            op => {
                slots.inc = None;
                slots.value = Some(joined(slots.value.take(), op));
            }
        }
    }
}

/// The payload of what edits amount to.
fn payload(
    kind: StoreKind,
    salt: Option<[u8; 16]>,
    slots: BTreeMap<Path, Slots>,
) -> Result<Payload, PayloadError> {
    // Own elements that are gone leave gaps, and later ones may stand earlier: number them anew in
    // the order of their paths, which keeps that order.
    let inserted = |slots: &Slots| matches!(slots.value, Some(Op::Ins { .. }));
    let own = slots.iter().filter(|(_, slots)| inserted(slots));
    let ordinal = |path: &Path| path.last_elem().map_or(0, |elem| elem.ordinal);
    let numbers: BTreeMap<u32, u32> = own
        .zip(0..)
        .map(|((path, _), n)| (ordinal(path), n))
        .collect();
    let renumber = |elem: ElemId| match (elem.stamp, numbers.get(&elem.ordinal)) {
        (OWN, Some(&ordinal)) => ElemId {
            stamp: OWN,
            ordinal,
        },
        _ => elem,
    };
    let mut writes = Vec::with_capacity(slots.len());
    for (path, slots) in slots {
        let path = if numbers.is_empty() {
            path
        } else {
            path.map_elems(renumber)
        };
        let mut ops = slots.ops();
        let mut next = ops.next();
        while let Some(op) = next {
            next = ops.next();
            if next.is_none() {
                writes.push(Write { path, op });
                break;
            }
            writes.push(Write {
                path: path.clone(),
                op,
            });
        }
    }
    Payload::new(kind, salt, writes)
}

/// A value operation after another one by the same draft.
fn joined(before: Option<Op>, op: Op) -> Op {
    match (before, op) {
        (Some(Op::Ins { position, .. }), op) => {
            let init = match op {
                Op::Set(scalar) => Init::Scalar(scalar),
                Op::Clear(container) | Op::Make(container) => Init::Empty(container),
                op => return op,
            };
            Op::Ins { position, init }
        }
        (Some(Op::Set(_) | Op::Delete | Op::Clear(_)), Op::Make(container)) => Op::Clear(container),
        (_, op) => op,
    }
}

/// A value operation by this draft with an increment after it; `None` for a container.
fn incremented(value: &Op, by: i64) -> Option<Op> {
    let add = |scalar: &Scalar| match scalar {
        #[expect(clippy::cast_precision_loss, reason = "adding to a float")]
        Scalar::Float(base) => Scalar::Float(base + by as f64),
        Scalar::Int(base) => Scalar::Int(base.saturating_add(by)),
        _ => Scalar::Int(by),
    };
    match value {
        Op::Set(scalar) => Some(Op::Set(add(scalar))),
        Op::Delete => Some(Op::Set(Scalar::Int(by))),
        Op::Ins {
            position,
            init: Init::Scalar(scalar),
        } => Some(Op::Ins {
            position: position.clone(),
            init: Init::Scalar(add(scalar)),
        }),
        _ => None,
    }
}

/// Lowers edits on the state `base` to one payload; `None` if they amount to nothing.
///
/// # Errors
/// See [`EditError`].
pub fn lower<R: Rows>(
    base: &R,
    kind: StoreKind,
    edits: &[Edit],
    seed: u64,
) -> Result<Option<Payload>, EditError<R::Error>> {
    if let Some(rows) = rows_apart(kind, edits) {
        let mut lowering = Lowering::new(base, kind, seed, 0);
        for edit in rows {
            lowering.lower(edit)?;
        }
        let (_, _, ops) = lowering.finish();
        let writes = ops.into_iter().map(|(path, op)| Write { path, op });
        return Ok(Some(Payload::new(kind, None, writes.collect())?));
    }
    let mut draft = Draft::new(kind, seed);
    for edit in edits {
        draft.add(base, edit)?;
    }
    if draft.is_empty() {
        Ok(None)
    } else {
        Ok(Some(payload(kind, None, draft.slots)?))
    }
}

/// The row that an edit inserts.
fn inserted(edit: &Edit) -> Option<&str> {
    match edit {
        Edit::RowInsert { key, .. } => Some(key),
        _ => None,
    }
}

/// The edits in the order of their rows, if each inserts a row of its own: then none reads anything or
/// meets another, and what they lower to is the payload.
fn rows_apart(kind: StoreKind, edits: &[Edit]) -> Option<Vec<&Edit>> {
    if kind != StoreKind::Table || edits.is_empty() {
        return None;
    }
    if !edits.iter().all(|edit| inserted(edit).is_some()) {
        return None;
    }
    let mut rows: Vec<&Edit> = edits.iter().collect();
    // Keys order as the paths they are encoded to.
    rows.sort_by_key(|edit| inserted(edit));
    let apart = rows.windows(2).all(|pair| match pair {
        [a, b] => inserted(a) != inserted(b),
        _ => true,
    });
    apart.then_some(rows)
}
