//! A range in memory: all nodes from a boundary on.

use crate::{Batch, Digest, Frontier, Leaves, Location, MmrError, Node, Nodes, Position, peaks};

/// A Merkle mountain range that keeps its nodes in memory, 64 bytes for each leaf that is not pruned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mmr {
    frontier: Frontier,
    /// The state at which the kept nodes begin; its peaks are the pinned nodes.
    base: Frontier,
    /// The nodes that came to be since `base`.
    nodes: Vec<Digest>,
}

impl Mmr {
    /// An empty range.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A range whose leaves before some location are known by their peaks only.
    #[must_use]
    pub fn from_frontier(base: Frontier) -> Self {
        Self {
            frontier: base.clone(),
            base,
            nodes: Vec::new(),
        }
    }

    /// How many leaves there are.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.frontier.leaves()
    }

    /// The first leaf that is not pruned.
    #[must_use]
    pub fn boundary(&self) -> Location {
        self.base.leaves().next()
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The size and the peaks.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The size and the peaks at the boundary: the pinned nodes.
    #[must_use]
    pub fn pinned(&self) -> &Frontier {
        &self.base
    }

    /// Appends a leaf and says where.
    ///
    /// # Errors
    /// [`MmrError::Full`].
    pub fn append(&mut self, leaf: Digest) -> Result<Location, MmrError> {
        let location = self.leaves().next();
        self.frontier
            .append_subtree(0, leaf, |node| self.nodes.push(node))?;
        Ok(location)
    }

    /// An empty batch on the present state.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.frontier.clone())
    }

    /// Appends what a batch holds.
    ///
    /// # Errors
    /// [`MmrError::Stale`] if it was made on another state.
    pub fn apply(&mut self, batch: Batch) -> Result<(), MmrError> {
        let (base, frontier, mut nodes) = batch.into_parts();
        if base != self.frontier {
            return Err(MmrError::Stale {
                made_on: base.leaves(),
                present: self.leaves(),
            });
        }
        self.frontier = frontier;
        self.nodes.append(&mut nodes);
        Ok(())
    }

    /// Forgets all nodes before a leaf except those that later proofs need. Costs a copy of what remains; the
    /// memory is kept for later nodes. Does nothing if that much is pruned already.
    ///
    /// # Errors
    /// [`MmrError::OutOfBounds`] beyond the size.
    pub fn prune(&mut self, boundary: Location) -> Result<(), MmrError> {
        if boundary <= self.boundary() {
            return Ok(());
        }
        let base = self.frontier_at(boundary.before())?;
        let kept = boundary.position().0 - self.boundary().position().0;
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        self.nodes.drain(..kept.min(self.nodes.len()));
        self.base = base;
        Ok(())
    }

    /// Takes back all leaves from a location on.
    ///
    /// # Errors
    /// [`MmrError::OutOfBounds`] beyond the size or before the boundary.
    pub fn rewind(&mut self, leaves: Leaves) -> Result<(), MmrError> {
        let frontier = self.frontier_at(leaves)?;
        let kept = leaves.positions().0 - self.boundary().position().0;
        self.nodes
            .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.frontier = frontier;
        Ok(())
    }

    /// The frontier at an earlier size.
    ///
    /// # Errors
    /// [`MmrError::OutOfBounds`] beyond the size or before the boundary.
    pub fn frontier_at(&self, leaves: Leaves) -> Result<Frontier, MmrError> {
        let missing = MmrError::OutOfBounds {
            location: leaves.next(),
            leaves: self.leaves(),
        };
        if leaves > self.leaves() || leaves < self.base.leaves() {
            return Err(missing);
        }
        let found: Option<Vec<_>> = peaks(leaves).map(|peak| self.get(peak)).collect();
        Frontier::from_peaks(leaves, found.ok_or(missing)?)
    }

    /// A node, if it exists and is kept.
    #[must_use]
    pub fn get(&self, node: Node) -> Option<Digest> {
        let first = self.boundary().position();
        match node.position().0.checked_sub(first.0) {
            Some(offset) => self.nodes.get(usize::try_from(offset).ok()?).copied(),
            None => {
                let pinned = self.base.peak_nodes().position(|peak| peak == node)?;
                self.base.peaks().get(pinned).copied()
            }
        }
    }

    /// The kept nodes that are not pinned, in the order of positions from that of the boundary.
    #[must_use]
    pub fn nodes(&self) -> &[Digest] {
        &self.nodes
    }

    /// A node by its position, if it exists and is kept.
    #[must_use]
    pub fn at(&self, position: Position) -> Option<Digest> {
        self.get(Node::at(position)?)
    }
}

impl Nodes for Mmr {
    type Error = std::convert::Infallible;

    fn node(&self, node: Node) -> Result<Option<Digest>, Self::Error> {
        Ok(self.get(node))
    }
}
