//! The peaks alone: enough to append and to know the root, in at most 62 hashes.

use crate::hash::{node_hash, root_hash};
use crate::{Digest, Leaves, MmrError, Node, limits, peaks};

/// The right edge of a range: its size and its peaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    leaves: Leaves,
    /// The highest first.
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The frontier of an empty range.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of a size with these peaks, the highest first.
    ///
    /// # Errors
    /// [`MmrError::Pinned`] if they are not as many as the size has; [`MmrError::Full`] beyond the limit.
    pub fn from_peaks(leaves: Leaves, peaks: Vec<Digest>) -> Result<Self, MmrError> {
        if !leaves.is_possible() {
            return Err(MmrError::Full);
        }
        let expected = leaves.0.count_ones() as usize;
        if peaks.len() != expected {
            let found = peaks.len();
            return Err(MmrError::Pinned { expected, found });
        }
        Ok(Self { leaves, peaks })
    }

    /// How many leaves there are.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.leaves
    }

    /// The peaks, the highest first.
    #[must_use]
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// The peaks as nodes, the highest first.
    pub fn peak_nodes(&self) -> impl Iterator<Item = Node> + use<> {
        peaks(self.leaves)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_hash(self.leaves, &self.peaks)
    }

    /// Appends a leaf. Amortised one more hash.
    ///
    /// # Errors
    /// [`MmrError::Full`].
    pub fn append(&mut self, leaf: Digest) -> Result<(), MmrError> {
        self.append_subtree(0, leaf, |_| {})
    }

    /// Appends the top of a perfect tree of `1 << height` leaves, to which the size is aligned, and tells
    /// `made` about it and every parent that it completes, in the order of positions.
    pub(crate) fn append_subtree(
        &mut self,
        height: u32,
        top: Digest,
        mut made: impl FnMut(Digest),
    ) -> Result<(), MmrError> {
        let more = 1 << height;
        if limits::LEAVES - self.leaves.0 < more {
            return Err(MmrError::Full);
        }
        let mut node = top;
        made(node);
        for _ in 0..(self.leaves.0 >> height).trailing_ones() {
            // As many peaks of consecutive heights stand to the left.
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
                made(node);
            }
        }
        self.peaks.push(node);
        self.leaves.0 += more;
        Ok(())
    }
}
