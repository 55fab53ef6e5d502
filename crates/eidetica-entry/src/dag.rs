//! Algorithms on histories, through the small [`Dag`] trait.
//!
//! All of them are one loop over a queue that is ordered by descending [`Stamp`]: a child leaves the
//! queue before its parents enter or leave it, so what is known of a node when it leaves is final.
//! Memory is the width of the walked part, never its depth, and nothing recurses. Every node that
//! leaves a queue costs one step of the [`Budget`].

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use crate::{Height, Id, Ids, Stamp};

/// A history whose entries can be looked up by id.
pub trait Dag {
    /// What a lookup can fail with.
    type Error;

    /// Height and parents of one entry; `None` if it is not here.
    ///
    /// # Errors
    /// Whatever the source fails with.
    fn node(&self, id: &Id) -> Result<Option<Node>, Self::Error>;

    /// Several lookups at once, in the order of `ids`; for sources that are faster that way.
    ///
    /// # Errors
    /// Whatever the source fails with.
    fn nodes(&self, ids: &[Id]) -> Result<Vec<Option<Node>>, Self::Error> {
        ids.iter().map(|id| self.node(id)).collect()
    }
}

/// What the algorithms need to know of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its height, greater than that of each parent.
    pub height: Height,
    /// Its parents.
    pub parents: Ids,
}

impl<D: Dag + ?Sized> Dag for &D {
    type Error = D::Error;

    fn node(&self, id: &Id) -> Result<Option<Node>, Self::Error> {
        (**self).node(id)
    }

    fn nodes(&self, ids: &[Id]) -> Result<Vec<Option<Node>>, Self::Error> {
        (**self).nodes(ids)
    }
}

impl<S: BuildHasher> Dag for HashMap<Id, Node, S> {
    type Error = core::convert::Infallible;

    fn node(&self, id: &Id) -> Result<Option<Node>, Self::Error> {
        Ok(self.get(id).cloned())
    }
}

/// Why a walk ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DagError<E> {
    /// The source failed.
    #[error("history lookup failed")]
    Source(#[source] E),
    /// An entry that another one names, or that was asked for, is not here.
    #[error("entry {0} is not in this history")]
    Missing(Id),
    /// A parent is not lower than its child: the source is corrupt.
    #[error("entry {0} is not lower than its child")]
    Height(Id),
    /// The walk needed more steps than its budget.
    #[error("history walk exceeds its budget of steps")]
    Budget,
}

/// How many entries a walk may look at. One per call, or shared by several.
#[derive(Clone, Copy, Debug)]
pub struct Budget(u64);

impl Budget {
    /// No bound: for histories and questions that are our own.
    pub const fn unlimited() -> Self {
        Self(u64::MAX)
    }

    /// A bound of `steps` entries.
    pub const fn new(steps: u64) -> Self {
        Self(steps)
    }

    /// Steps left.
    pub const fn left(self) -> u64 {
        self.0
    }

    fn step<E>(&mut self) -> Result<(), DagError<E>> {
        self.0 = self.0.checked_sub(1).ok_or(DagError::Budget)?;
        Ok(())
    }
}

/// What is known of an entry in the queue. Marks only accumulate.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Mark(u8);

impl Mark {
    const SEED: Self = Self(1);
    const BELOW: Self = Self(2);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The entries still to visit, greatest stamp last.
struct Queue<'a, D> {
    dag: &'a D,
    waiting: BTreeMap<Stamp, (Mark, Ids)>,
    /// How many waiting entries are not marked below.
    open: usize,
}

impl<'a, D: Dag> Queue<'a, D> {
    fn new(dag: &'a D) -> Self {
        Self {
            dag,
            waiting: BTreeMap::new(),
            open: 0,
        }
    }

    /// Adds `ids`, each of which must be here and lower than `child`.
    fn push(
        &mut self,
        ids: &[Id],
        mark: Mark,
        child: Option<Height>,
    ) -> Result<(), DagError<D::Error>> {
        let nodes = self.dag.nodes(ids).map_err(DagError::Source)?;
        for (id, node) in ids.iter().zip(nodes) {
            let node = node.ok_or(DagError::Missing(*id))?;
            if child.is_some_and(|child| node.height >= child) {
                return Err(DagError::Height(*id));
            }
            self.add(Stamp::new(node.height, *id), node.parents, mark);
        }
        Ok(())
    }

    /// Like [`Queue::push`] for ids that need not be here.
    fn push_known(&mut self, ids: &[Id], mark: Mark) -> Result<(), DagError<D::Error>> {
        let nodes = self.dag.nodes(ids).map_err(DagError::Source)?;
        for (id, node) in ids.iter().zip(nodes) {
            if let Some(node) = node {
                self.add(Stamp::new(node.height, *id), node.parents, mark);
            }
        }
        Ok(())
    }

    fn add(&mut self, stamp: Stamp, parents: Ids, mark: Mark) {
        let fresh = !self.waiting.contains_key(&stamp);
        let (known, _) = self
            .waiting
            .entry(stamp)
            .or_insert((Mark::default(), parents));
        let was_open = !fresh && !known.has(Mark::BELOW);
        *known = Mark(known.0 | mark.0);
        let is_open = !known.has(Mark::BELOW);
        self.open = self.open + usize::from(is_open) - usize::from(was_open);
    }

    /// What is below `from`, with that below `not` marked.
    fn outside(dag: &'a D, from: &[Id], not: &[Id]) -> Result<Self, DagError<D::Error>> {
        let mut queue = Self::new(dag);
        queue.push(from, Mark::SEED, None)?;
        queue.push_known(not, Mark::BELOW)?;
        Ok(queue)
    }

    /// The next entry that is not marked below.
    fn pop_outside(&mut self, budget: &mut Budget) -> Result<Option<Stamp>, DagError<D::Error>> {
        while self.open > 0 {
            let Some((stamp, mark, parents)) = self.pop() else {
                break;
            };
            budget.step()?;
            self.push(&parents, mark, Some(stamp.height))?;
            if !mark.has(Mark::BELOW) {
                return Ok(Some(stamp));
            }
        }
        Ok(None)
    }

    fn end(&mut self) {
        self.waiting.clear();
        self.open = 0;
    }

    fn pop(&mut self) -> Option<(Stamp, Mark, Ids)> {
        let (stamp, (mark, parents)) = self.waiting.pop_last()?;
        self.open -= usize::from(!mark.has(Mark::BELOW));
        Some((stamp, mark, parents))
    }
}

/// `past(from)` without `past(not)`, both including their ends, in ascending stamp order.
///
/// Ids in `not` that are not here are ignored: their past is not ours to know. Cost: the entries of the
/// result, and those of `past(not)` that are higher than the lowest of it.
///
/// # Errors
/// The source's, an id in `from` that is not here, an exhausted budget.
pub fn difference<D: Dag>(
    dag: &D,
    from: &[Id],
    not: &[Id],
    budget: &mut Budget,
) -> Result<Vec<Stamp>, DagError<D::Error>> {
    let mut queue = Queue::outside(dag, from, not)?;
    let mut found = Vec::new();
    while let Some(stamp) = queue.pop_outside(budget)? {
        found.push(stamp);
    }
    found.reverse();
    Ok(found)
}

/// What [`difference`] gives, lazily and in descending stamp order. After an error it ends.
///
/// # Errors
/// The source's, or an id in `from` that is not here; later ones come as items.
pub fn outside<'a, D: Dag>(
    dag: &'a D,
    from: &[Id],
    not: &[Id],
    budget: Budget,
) -> Result<Outside<'a, D>, DagError<D::Error>> {
    let queue = Queue::outside(dag, from, not)?;
    Ok(Outside { queue, budget })
}

/// The iterator of [`outside`].
pub struct Outside<'a, D> {
    queue: Queue<'a, D>,
    budget: Budget,
}

impl<D: Dag> Iterator for Outside<'_, D> {
    type Item = Result<Stamp, DagError<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.queue.pop_outside(&mut self.budget);
        if next.is_err() {
            self.queue.end();
        }
        next.transpose()
    }
}

/// The elements of `ids` that are in no other's past, ascending.
///
/// Cost: the entries below some of `ids` that are higher than the lowest of them.
///
/// # Errors
/// The source's, an id that is not here, an exhausted budget.
pub fn maximal<D: Dag>(
    dag: &D,
    ids: &[Id],
    budget: &mut Budget,
) -> Result<Ids, DagError<D::Error>> {
    if ids.len() < 2 {
        return Ok(Ids::from(ids));
    }
    let mut queue = Queue::new(dag);
    queue.push(ids, Mark::SEED, None)?;
    let mut maximal = Vec::new();
    // What is pushed later is below something, so what is open is exactly the seeds not yet met.
    while queue.open > 0 {
        let Some((stamp, mark, parents)) = queue.pop() else {
            break;
        };
        budget.step()?;
        if !mark.has(Mark::BELOW) {
            maximal.push(stamp.id);
        }
        if queue.open > 0 {
            queue.push(&parents, Mark::BELOW, Some(stamp.height))?;
        }
    }
    Ok(Ids::from(maximal))
}

/// Whether `ancestor` is `entry` or in its past.
///
/// Cost: the entries of `entry`'s past that are higher than `ancestor`.
///
/// # Errors
/// The source's, an id that is not here, an exhausted budget.
pub fn is_ancestor<D: Dag>(
    dag: &D,
    ancestor: &Id,
    entry: &Id,
    budget: &mut Budget,
) -> Result<bool, DagError<D::Error>> {
    let target = dag
        .node(ancestor)
        .map_err(DagError::Source)?
        .ok_or(DagError::Missing(*ancestor))?;
    let target = Stamp::new(target.height, *ancestor);
    for stamp in ancestors(dag, &[*entry], *budget)? {
        let stamp = stamp?;
        budget.step()?;
        if stamp <= target {
            return Ok(stamp == target);
        }
    }
    Ok(false)
}

/// `past(from)`, `from` included, lazily and in descending stamp order. After an error it ends.
///
/// # Errors
/// The source's, or an id in `from` that is not here; later ones come as items.
pub fn ancestors<'a, D: Dag>(
    dag: &'a D,
    from: &[Id],
    budget: Budget,
) -> Result<Ancestors<'a, D>, DagError<D::Error>> {
    let mut queue = Queue::new(dag);
    queue.push(from, Mark::SEED, None)?;
    Ok(Ancestors { queue, budget })
}

/// The iterator of [`ancestors`].
pub struct Ancestors<'a, D> {
    queue: Queue<'a, D>,
    budget: Budget,
}

impl<D: Dag> Iterator for Ancestors<'_, D> {
    type Item = Result<Stamp, DagError<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (stamp, mark, parents) = self.queue.pop()?;
        let pushed = self
            .budget
            .step()
            .and_then(|()| self.queue.push(&parents, mark, Some(stamp.height)));
        if let Err(error) = pushed {
            self.queue.end();
            return Some(Err(error));
        }
        Some(Ok(stamp))
    }
}

/// Orders entries so that each stands after those of its parents that are among them: by stamp.
/// Sound for entries whose heights are derived; O(n log n).
pub fn topological<T>(entries: &mut [T], stamp: impl Fn(&T) -> Stamp) {
    entries.sort_unstable_by_key(stamp);
}
