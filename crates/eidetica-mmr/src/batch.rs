//! New leaves that are not in a range yet, but whose root is known.

use crate::hash::{in_parts, parents};
use crate::{Digest, Frontier, Leaves, MmrError, leaf_hashes, limits};

/// Leaves to append, made on one state of a range. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    base: Frontier,
    frontier: Frontier,
    nodes: Vec<Digest>,
}

/// Perfect trees of `1 << CHUNK` leaves are what a thread hashes at a time.
const CHUNK: u32 = 8;
/// Lower trees are not worth hashing level by level.
const LOW: u32 = 2;

impl Batch {
    /// An empty batch on a frontier.
    #[must_use]
    pub fn new(base: Frontier) -> Self {
        Self {
            frontier: base.clone(),
            base,
            nodes: Vec::new(),
        }
    }

    /// The state it was made on.
    #[must_use]
    pub fn base(&self) -> &Frontier {
        &self.base
    }

    /// The state it leads to.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// How many leaves there will be.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.frontier.leaves()
    }

    /// The root that applying it leads to.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The new nodes in the order of positions.
    #[must_use]
    pub fn nodes(&self) -> &[Digest] {
        &self.nodes
    }

    /// Appends a leaf.
    ///
    /// # Errors
    /// [`MmrError::Full`].
    pub fn append(&mut self, leaf: Digest) -> Result<(), MmrError> {
        self.frontier
            .append_subtree(0, leaf, |node| self.nodes.push(node))
    }

    /// Appends elements, hashed by up to `threads` threads if they are many.
    ///
    /// # Errors
    /// [`MmrError::Full`], and then nothing was appended.
    pub fn extend<T: AsRef<[u8]> + Sync>(
        &mut self,
        elements: &[T],
        threads: usize,
    ) -> Result<(), MmrError> {
        let room = limits::LEAVES - self.leaves().0;
        if u64::try_from(elements.len()).map_or(true, |more| more > room) {
            return Err(MmrError::Full);
        }
        self.nodes.reserve(elements.len() * 2);
        if threads <= 1 || elements.len() < limits::PARALLEL_LEAVES {
            return self.extend_here(elements);
        }
        let chunk = 1 << CHUNK;
        let unaligned = usize::try_from(self.leaves().0.wrapping_neg() % chunk).unwrap_or(0);
        let (first, rest) = elements.split_at(unaligned.min(elements.len()));
        self.extend_here(first)?;
        let chunks: Vec<&[T]> = rest.chunks(1 << CHUNK).collect();
        let hashed = in_parts_of(&chunks, threads, &|chunk: &[T]| {
            let leaves = leaf_hashes(chunk, 1);
            let nodes = is_tree(&leaves).then(|| subtree(&leaves));
            nodes.ok_or(leaves)
        });
        for nodes in hashed {
            match nodes {
                Ok(nodes) => self.append_tree(CHUNK, &nodes)?,
                Err(leaves) => self.extend_leaves(&leaves)?,
            }
        }
        Ok(())
    }

    fn extend_here<T: AsRef<[u8]> + Sync>(&mut self, elements: &[T]) -> Result<(), MmrError> {
        self.extend_leaves(&leaf_hashes(elements, 1))
    }

    /// Appends leaves in the largest perfect trees that fit.
    fn extend_leaves(&mut self, mut leaves: &[Digest]) -> Result<(), MmrError> {
        while let Some(fitting) = leaves.len().checked_ilog2() {
            let aligned = self.leaves().0.trailing_zeros();
            let height = fitting.min(aligned).min(CHUNK);
            let (tree, rest) = leaves.split_at(1 << height);
            if height < LOW {
                tree.iter().try_for_each(|leaf| self.append(*leaf))?;
            } else {
                self.append_tree(height, &subtree(tree))?;
            }
            leaves = rest;
        }
        Ok(())
    }

    /// Appends a perfect tree by its nodes in the order of positions. The size is aligned to it.
    fn append_tree(&mut self, height: u32, nodes: &[Digest]) -> Result<(), MmrError> {
        let Some((top, below)) = nodes.split_last() else {
            return Ok(());
        };
        self.nodes.extend_from_slice(below);
        self.frontier
            .append_subtree(height, *top, |node| self.nodes.push(node))
    }

    pub(crate) fn into_parts(self) -> (Frontier, Frontier, Vec<Digest>) {
        (self.base, self.frontier, self.nodes)
    }
}

fn is_tree(leaves: &[Digest]) -> bool {
    leaves.len() == 1 << CHUNK
}

/// All nodes of a perfect tree in the order of positions.
fn subtree(leaves: &[Digest]) -> Vec<Digest> {
    let mut levels = vec![leaves.to_vec()];
    while let Some(below) = levels.last().filter(|below| below.len() > 1) {
        levels.push(parents(below));
    }
    let mut nodes = Vec::with_capacity(2 * leaves.len());
    for leaf in 0..leaves.len() {
        // A leaf, and every parent it completes.
        let completed = (leaf + 1).trailing_zeros() as usize;
        let made = levels.iter().take(completed + 1).enumerate();
        nodes.extend(made.filter_map(|(height, level)| level.get(leaf >> height)));
    }
    nodes
}

fn in_parts_of<T: AsRef<[u8]> + Sync, R: Send>(
    chunks: &[&[T]],
    threads: usize,
    work: &(impl Fn(&[T]) -> R + Sync),
) -> Vec<R> {
    let parts = in_parts(chunks, threads, &|part: &[&[T]]| -> Vec<R> {
        part.iter().map(|chunk| work(chunk)).collect()
    });
    parts.into_iter().flatten().collect()
}
