//! Verifying: free functions over plain data. They read what they are given once, hash no more than that,
//! and go no deeper than 62 levels whatever the proof says.

use crate::hash::{leaf_hash, leaf_hashes, node_hash, root_hash, top};
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
pub fn verify_range<T: AsRef<[u8]> + Sync>(
    root: &Digest,
    proof: &Proof,
    start: Location,
    elements: &[T],
) -> Result<(), VerifyError> {
    check_range(root, proof, start, &leaf_hashes(elements, 1), |_| {})
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
    check_range(root, proof, start, leaves, |_| {})
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
    check_range(root, proof, start, leaves, collect)?;
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
    Walk::new(proof, leaves).check(root)
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
    leaves: &[Digest],
    taken: impl FnMut((Node, Digest)),
) -> Result<(), VerifyError> {
    let end = start.0.checked_add(leaves.len() as u64);
    let end = end.filter(|end| *end <= proof.leaves.0);
    let Some(end) = end.filter(|_| !leaves.is_empty() && proof.leaves.is_possible()) else {
        return Err(VerifyError::Locations);
    };
    let mut span = Span {
        digests: proof.digests.iter(),
        start: start.0,
        end,
        leaves,
        taken,
    };
    let mut tops = Vec::with_capacity(64);
    for peak in peaks(proof.leaves) {
        tops.push(span.fold(peak)?);
    }
    if span.digests.next().is_some() {
        return Err(VerifyError::Shape);
    }
    check_root(root, proof, &tops)
}

fn check_root(root: &Digest, proof: &Proof, tops: &[Digest]) -> Result<(), VerifyError> {
    if root_hash(proof.leaves, tops) == *root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// The walk over the proof of a range, which is within the size. What is entirely in the range is hashed level by level.
struct Span<'a, F> {
    digests: std::slice::Iter<'a, Digest>,
    start: u64,
    end: u64,
    leaves: &'a [Digest],
    taken: F,
}

impl<F: FnMut((Node, Digest))> Span<'_, F> {
    /// The hash of a node. Recursive, 62 deep at most; descends only at the ends of the range.
    fn fold(&mut self, node: Node) -> Result<Digest, VerifyError> {
        let (start, end) = (node.start().0, node.end().0);
        if end <= self.start || start >= self.end {
            let digest = *self.digests.next().ok_or(VerifyError::Shape)?;
            (self.taken)((node, digest));
            return Ok(digest);
        }
        match node.children() {
            Some((left, right)) if start < self.start || end > self.end => {
                let left = self.fold(left)?;
                let right = self.fold(right)?;
                Ok(node_hash(&left, &right))
            }
            _ => self.within(start, end).ok_or(VerifyError::Shape),
        }
    }

    fn within(&self, start: u64, end: u64) -> Option<Digest> {
        let from = usize::try_from(start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(end.checked_sub(self.start)?).ok()?;
        top(self.leaves.get(from..to)?)
    }
}

/// The walk over a proof of several leaves, which are ascending and within the size.
struct Walk<'a, I: Iterator<Item = (Location, Digest)>> {
    proof: &'a Proof,
    digests: std::slice::Iter<'a, Digest>,
    leaves: I,
    /// The first leaf that has not been used.
    next: Option<(Location, Digest)>,
}

impl<'a, I: Iterator<Item = (Location, Digest)>> Walk<'a, I> {
    fn new(proof: &'a Proof, mut leaves: I) -> Self {
        Self {
            proof,
            digests: proof.digests.iter(),
            next: leaves.next(),
            leaves,
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
        check_root(root, self.proof, &tops)
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
            _ => Ok(*self.digests.next().ok_or(VerifyError::Shape)?),
        }
    }
}
