//! Verifying: free functions over plain data. They read what they are given once, hash no more than that,
//! and go no deeper than 62 levels whatever the proof says.

use crate::hash::{leaf_hash, node_hash, root_hash};
use crate::plan::are_sorted;
use crate::{Consistency, Digest, Frontier, Location, Node, Proof, VerifyError, peaks};

/// Verifies one element at its location.
///
/// # Errors
/// [`VerifyError`] unless the list with this root has it there.
pub fn verify(
    root: &Digest,
    proof: &Proof,
    location: Location,
    element: &[u8],
) -> Result<(), VerifyError> {
    verify_range(root, proof, location, &[element])
}

/// Verifies consecutive elements, the first at `start`. Costs their hashes.
///
/// # Errors
/// [`VerifyError`] unless the list with this root has them there.
pub fn verify_range<T: AsRef<[u8]>>(
    root: &Digest,
    proof: &Proof,
    start: Location,
    elements: &[T],
) -> Result<(), VerifyError> {
    let leaves = elements.iter().map(|element| leaf_hash(element.as_ref()));
    check_range(root, proof, start, leaves, |_| {})
}

/// Verifies consecutive leaves by their hashes, which the caller made of the elements with
/// [`leaf_hash`], possibly in parallel.
///
/// # Errors
/// [`VerifyError`] unless the list with this root has them there.
pub fn verify_range_digests(
    root: &Digest,
    proof: &Proof,
    start: Location,
    leaves: &[Digest],
) -> Result<(), VerifyError> {
    check_range(root, proof, start, leaves.iter().copied(), |_| {})
}

/// Like [`verify_range_digests`], and says what is pinned before the range: the frontier at `start`, from which a
/// list can be continued without anything older.
///
/// # Errors
/// [`VerifyError`] unless the list with this root has the leaves there.
pub fn verify_range_pinned(
    root: &Digest,
    proof: &Proof,
    start: Location,
    leaves: &[Digest],
) -> Result<Frontier, VerifyError> {
    // A node entirely before the range has a parent that is not, or none: it is a peak at `start`.
    let mut pinned = Vec::new();
    let collect = |(node, digest): (Node, Digest)| {
        if node.end() <= start {
            pinned.push(digest);
        }
    };
    check_range(root, proof, start, leaves.iter().copied(), collect)?;
    Frontier::from_peaks(start.before(), pinned).map_err(|_| VerifyError::Shape)
}

/// Verifies elements at several locations, ascending and each once.
///
/// # Errors
/// [`VerifyError`] unless the list with this root has all of them there.
pub fn verify_multi<T: AsRef<[u8]>>(
    root: &Digest,
    proof: &Proof,
    elements: &[(Location, T)],
) -> Result<(), VerifyError> {
    let locations: Vec<Location> = elements.iter().map(|(location, _)| *location).collect();
    if !are_sorted(&locations, proof.leaves) {
        return Err(VerifyError::Locations);
    }
    let leaves = elements
        .iter()
        .map(|(location, element)| (*location, leaf_hash(element.as_ref())));
    Walk::new(proof, leaves, |_| {}).check(root)
}

/// Verifies that the list with the old root is the beginning of the list with the new one.
///
/// # Errors
/// [`VerifyError`] unless it is.
pub fn verify_consistency(
    old_root: &Digest,
    new_root: &Digest,
    proof: &Consistency,
) -> Result<(), VerifyError> {
    if proof.old > proof.new || !proof.new.is_possible() {
        return Err(VerifyError::Old);
    }
    let mut digests = proof.digests.iter();
    let mut old_peaks = Vec::new();
    let mut new_peaks = Vec::new();
    for peak in peaks(proof.new) {
        new_peaks.push(straddle(peak, proof, &mut digests, &mut old_peaks)?);
    }
    if digests.next().is_some() || old_peaks.len() != proof.old.0.count_ones() as usize {
        return Err(VerifyError::Shape);
    }
    if root_hash(proof.new, &new_peaks) != *new_root {
        return Err(VerifyError::Root);
    }
    if root_hash(proof.old, &old_peaks) != *old_root {
        return Err(VerifyError::Old);
    }
    Ok(())
}

/// The hash of a node of the new list from the hashes of a consistency proof. Recursive, 62 deep at most.
fn straddle<'a>(
    node: Node,
    proof: &Consistency,
    digests: &mut impl Iterator<Item = &'a Digest>,
    old_peaks: &mut Vec<Digest>,
) -> Result<Digest, VerifyError> {
    let (start, end) = (node.start().0, node.end().0);
    if start < proof.old.0
        && proof.old.0 < end
        && let Some((left, right)) = node.children()
    {
        let left = straddle(left, proof, digests, old_peaks)?;
        let right = straddle(right, proof, digests, old_peaks)?;
        return Ok(node_hash(&left, &right));
    }
    let digest = *digests.next().ok_or(VerifyError::Shape)?;
    if end <= proof.old.0 {
        old_peaks.push(digest);
    }
    Ok(digest)
}

fn check_range(
    root: &Digest,
    proof: &Proof,
    start: Location,
    leaves: impl ExactSizeIterator<Item = Digest>,
    taken: impl FnMut((Node, Digest)),
) -> Result<(), VerifyError> {
    let end = start.0.checked_add(leaves.len() as u64);
    let within = end.is_some_and(|end| end <= proof.leaves.0);
    if leaves.len() == 0 || !within || !proof.leaves.is_possible() {
        return Err(VerifyError::Locations);
    }
    let located = leaves.zip(start.0..).map(|(leaf, at)| (Location(at), leaf));
    Walk::new(proof, located, taken).check(root)
}

/// The walk over a proof. `leaves` are ascending and within the size.
struct Walk<'a, I: Iterator<Item = (Location, Digest)>, F> {
    proof: &'a Proof,
    digests: std::slice::Iter<'a, Digest>,
    leaves: I,
    /// The first leaf that has not been used.
    next: Option<(Location, Digest)>,
    taken: F,
}

impl<'a, I: Iterator<Item = (Location, Digest)>, F: FnMut((Node, Digest))> Walk<'a, I, F> {
    fn new(proof: &'a Proof, mut leaves: I, taken: F) -> Self {
        Self {
            proof,
            digests: proof.digests.iter(),
            next: leaves.next(),
            leaves,
            taken,
        }
    }

    fn check(mut self, root: &Digest) -> Result<(), VerifyError> {
        let mut tops = Vec::with_capacity(64);
        for peak in peaks(self.proof.leaves) {
            tops.push(self.fold(peak)?);
        }
        if self.digests.next().is_some() || self.next.is_some() {
            return Err(VerifyError::Shape);
        }
        if root_hash(self.proof.leaves, &tops) == *root {
            Ok(())
        } else {
            Err(VerifyError::Root)
        }
    }

    /// The hash of a node. Recursive, 62 deep at most; descends only where a leaf is.
    fn fold(&mut self, node: Node) -> Result<Digest, VerifyError> {
        match self.next {
            Some((location, digest)) if location < node.end() => {
                let Some((left, right)) = node.children() else {
                    self.next = self.leaves.next();
                    return Ok(digest);
                };
                let left = self.fold(left)?;
                let right = self.fold(right)?;
                Ok(node_hash(&left, &right))
            }
            _ => {
                let digest = *self.digests.next().ok_or(VerifyError::Shape)?;
                (self.taken)((node, digest));
                Ok(digest)
            }
        }
    }
}
