//! A transaction's edits to one store, lowered as they come.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::apply::State;
use crate::lower::Lowering;
use crate::{
    Container, Delta, Edit, EditError, ElemId, Init, Op, Order, OWN, Overlay, Path, Payload, PayloadError,
    Position, Rows, Scalar, Segment, Slot, StampedWrite, StoreKind, Write,
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
    delta: Delta,
}

/// What the edits so far do at one path.
#[derive(Clone, Debug, Default)]
struct Slots {
    /// A covering operation or `Make`.
    value: Option<Op>,
    inc: Option<i64>,
    moved: Option<Position>,
    kill: bool,
}

impl Slots {
    fn ops(self) -> impl Iterator<Item = Op> {
        let inc = self.inc.map(Op::Inc);
        let moved = self.moved.map(Op::Move);
        self.value.into_iter().chain(inc).chain(moved).chain(self.kill.then_some(Op::Kill))
    }

    fn is_empty(&self) -> bool {
        self.value.is_none() && self.inc.is_none() && self.moved.is_none() && !self.kill
    }
}

impl Draft {
    /// No edits. `seed` should be random: it keeps positions that different writers choose apart.
    pub fn new(kind: StoreKind, seed: u64) -> Self {
        Self { kind, seed, next_ordinal: 0, slots: BTreeMap::new(), deletes: false, delta: Delta::new() }
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
        let view = Overlay { base, delta: &self.delta };
        let mut lowering = Lowering::new(&view, self.kind, self.seed, self.next_ordinal);
        lowering.lower(edit)?;
        let (seed, next_ordinal, ops) = lowering.finish();
        (self.seed, self.next_ordinal) = (seed, next_ordinal);
        self.stage(base, ops)?;
        Ok(())
    }

    /// The state `base` with the edits made. What the edits insert has the stamp [`OWN`].
    pub fn view<'a, R: Rows>(&'a self, base: &'a R) -> Overlay<&'a R, &'a Delta> {
        Overlay { base, delta: &self.delta }
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
        // Own elements that are gone leave gaps, and later ones may stand earlier: number them anew in
        // the order of their paths, which keeps that order.
        let inserted = |slots: &Slots| matches!(slots.value, Some(Op::Ins { .. }));
        let own = self.slots.iter().filter(|(_, slots)| inserted(slots));
        let ordinal = |path: &Path| path.last_elem().map_or(0, |elem| elem.ordinal);
        let numbers: BTreeMap<u32, u32> = own.zip(0..).map(|((path, _), n)| (ordinal(path), n)).collect();
        let renumber = |elem: ElemId| match (elem.stamp, numbers.get(&elem.ordinal)) {
            (OWN, Some(&ordinal)) => ElemId { stamp: OWN, ordinal },
            _ => elem,
        };
        let write = |(path, slots): (&Path, &Slots)| {
            let path = if numbers.is_empty() { path.clone() } else { path.map_elems(renumber) };
            slots.clone().ops().map(move |op| Write { path: path.clone(), op }).collect::<Vec<_>>()
        };
        Payload::new(self.kind, salt, self.slots.iter().flat_map(write).collect())
    }

    /// Takes lowered operations over into the slots and the delta.
    fn stage<R: Rows>(&mut self, base: &R, ops: Vec<(Path, Op)>) -> Result<(), EditError<R::Error>> {
        let mut changes = Changes::default();
        for (path, op) in ops {
            self.open_deleted(&path, &mut changes);
            if op.covers() || op == Op::Kill {
                self.drop_below(&path, &mut changes);
            }
            self.merge(path, op, &mut changes);
        }
        let mut view = Overlay { base, delta: &mut self.delta };
        // What is left of earlier edits may stand below what replaces one that is gone.
        let order = if changes.gone.is_empty() { Order::NewerThanAll } else { Order::Any };
        if !changes.gone.is_empty() {
            let mut state = State::new(&mut view, self.kind, Order::Any);
            for (path, op) in changes.gone.iter().rev() {
                state.remove(path, OWN, op)?;
            }
            state.flush()?;
        }
        let write = |((path, _), op)| StampedWrite { path, stamp: OWN, op };
        let new: Vec<_> = changes.new.into_iter().map(write).collect();
        State::new(&mut view, self.kind, order).insert_all(&new)?;
        Ok(())
    }

    /// Turns a deletion by this draft at a prefix of `path` into an empty container: the same to
    /// everybody, and something may stand below it.
    fn open_deleted(&mut self, path: &Path, changes: &mut Changes) {
        if !self.deletes {
            return;
        }
        let mut above = Path::root();
        for segment in path.segments() {
            let container = match segment {
                Segment::Key(_) => Container::Map,
                Segment::Elem(_) => Container::List,
            };
            if let Some(slots) = self.slots.get_mut(&above)
                && slots.value == Some(Op::Delete)
            {
                changes.replace(&above, &mut slots.value, Op::Clear(container));
                return;
            }
            let end = above.as_bytes().len();
            let rest = path.as_bytes().get(end..).unwrap_or_default();
            let len = crate::path::segment_end(rest, 0).unwrap_or(0);
            above = Path::from_trusted(path.as_bytes().get(..end + len).unwrap_or_default());
        }
    }

    /// Forgets what the draft did strictly below a path.
    fn drop_below(&mut self, path: &Path, changes: &mut Changes) {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let below = self.slots.range::<Path, _>(after).map(|(at, _)| at);
        let below: Vec<Path> = below.take_while(|at| at.starts_with(path)).cloned().collect();
        for path in below {
            for op in self.slots.remove(&path).unwrap_or_default().ops() {
                changes.remove(&path, op);
            }
        }
    }

    /// Joins an operation with what the draft does at its path already.
    fn merge(&mut self, path: Path, op: Op, changes: &mut Changes) {
        let slots = self.slots.entry(path.clone()).or_default();
        match op {
            Op::Kill => {
                let own = path.last_elem().is_some_and(|elem| elem.stamp == OWN);
                for op in std::mem::take(slots).ops() {
                    changes.remove(&path, op);
                }
                if !own {
                    slots.kill = true;
                    changes.add(&path, Op::Kill);
                }
            }
            Op::Move(position) => match &slots.value {
                Some(Op::Ins { init, .. }) => {
                    let op = Op::Ins { position, init: init.clone() };
                    changes.replace(&path, &mut slots.value, op);
                }
                _ => {
                    if let Some(old) = slots.moved.replace(position.clone()) {
                        changes.remove(&path, Op::Move(old));
                    }
                    changes.add(&path, Op::Move(position));
                }
            },
            Op::Inc(by) => match slots.value.as_ref().and_then(|value| incremented(value, by)) {
                Some(value) => changes.replace(&path, &mut slots.value, value),
                None => {
                    let before = slots.inc.take();
                    if let Some(before) = before {
                        changes.remove(&path, Op::Inc(before));
                    }
                    let sum = before.unwrap_or(0).saturating_add(by);
                    slots.inc = Some(sum);
                    changes.add(&path, Op::Inc(sum));
                }
            },
            op => {
                if let Some(by) = slots.inc.take() {
                    changes.remove(&path, Op::Inc(by));
                }
                self.deletes |= op == Op::Delete;
                let op = joined(slots.value.as_ref(), op);
                if slots.value.as_ref() != Some(&op) {
                    changes.replace(&path, &mut slots.value, op);
                }
            }
        }
        if slots.is_empty() {
            self.slots.remove(&path);
        }
    }
}

/// A value operation after another one by the same draft.
fn joined(before: Option<&Op>, op: Op) -> Op {
    match (before, op) {
        (Some(Op::Ins { position, .. }), op) => {
            let init = match op {
                Op::Set(scalar) => Init::Scalar(scalar),
                Op::Clear(container) | Op::Make(container) => Init::Empty(container),
                op => return op,
            };
            Op::Ins { position: position.clone(), init }
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
        Op::Ins { position, init: Init::Scalar(scalar) } => {
            Some(Op::Ins { position: position.clone(), init: Init::Scalar(add(scalar)) })
        }
        _ => None,
    }
}

/// What staging one edit changes in the set of the draft's writes.
#[derive(Default)]
struct Changes {
    /// Writes of earlier edits that are no more.
    gone: Vec<(Path, Op)>,
    /// New ones, in the order in which they are applied.
    new: BTreeMap<(Path, Slot), Op>,
}

impl Changes {
    fn add(&mut self, path: &Path, op: Op) {
        self.new.insert((path.clone(), op.slot()), op);
    }

    fn remove(&mut self, path: &Path, op: Op) {
        // What this edit itself added has not been applied yet.
        if self.new.remove(&(path.clone(), op.slot())).is_none() {
            self.gone.push((path.clone(), op));
        }
    }

    fn replace(&mut self, path: &Path, slot: &mut Option<Op>, op: Op) {
        if let Some(old) = slot.replace(op.clone()) {
            self.remove(path, old);
        }
        self.add(path, op);
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
    let mut draft = Draft::new(kind, seed);
    for edit in edits {
        draft.edit(base, edit)?;
    }
    if draft.is_empty() { Ok(None) } else { Ok(Some(draft.payload(None)?)) }
}
