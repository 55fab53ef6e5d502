//! New leaves that are not in a range yet, but whose root is known.

use crate::hash::in_parts;
use crate::{Digest, Frontier, Leaves, MmrError, leaf_hash, limits};

/// Leaves to append, made on one state of a range. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    base: Frontier,
    frontier: Frontier,
    nodes: Vec<Digest>,
}

/// Perfect trees of `1 << CHUNK` leaves are what a thread hashes at a time.
const CHUNK: u32 = 8;

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
        let hashed = in_parts_of(&chunks, threads, &|chunk: &[T]| subtree(chunk));
        for (chunk, nodes) in chunks.iter().zip(hashed) {
            match nodes.split_last() {
                Some((top, below)) if chunk.len() == 1 << CHUNK => {
                    self.nodes.extend_from_slice(below);
                    self.frontier
                        .append_subtree(CHUNK, *top, |node| self.nodes.push(node))?;
                }
                _ => self.extend_here(chunk)?,
            }
        }
        Ok(())
    }

    fn extend_here<T: AsRef<[u8]>>(&mut self, elements: &[T]) -> Result<(), MmrError> {
        elements
            .iter()
            .try_for_each(|element| self.append(leaf_hash(element.as_ref())))
    }

    pub(crate) fn into_parts(self) -> (Frontier, Frontier, Vec<Digest>) {
        (self.base, self.frontier, self.nodes)
    }
}

/// All nodes of a perfect tree of `1 << CHUNK` elements, in the order of positions; nothing if they are
/// fewer.
fn subtree<T: AsRef<[u8]>>(elements: &[T]) -> Vec<Digest> {
    if elements.len() < 1 << CHUNK {
        return Vec::new();
    }
    let mut batch = Batch::new(Frontier::new());
    batch.nodes.reserve(2 << CHUNK);
    match batch.extend_here(elements) {
        Ok(()) => batch.nodes,
        Err(_) => Vec::new(),
    }
}

fn in_parts_of<T: AsRef<[u8]> + Sync>(
    chunks: &[&[T]],
    threads: usize,
    work: &(impl Fn(&[T]) -> Vec<Digest> + Sync),
) -> Vec<Vec<Digest>> {
    let parts = in_parts(chunks, threads, &|part: &[&[T]]| -> Vec<Vec<Digest>> {
        part.iter().map(|chunk| work(chunk)).collect()
    });
    parts.into_iter().flatten().collect()
}
