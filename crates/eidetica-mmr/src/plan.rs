//! Which nodes a proof holds, in the order in which it holds them. Pure arithmetic, no hashes.
//!
//! Every proof is the same walk: over the peaks from the left, down into each node that has something of
//! interest below it and, where a node has nothing, one hash. Its depth is at most 62.

use std::ops::Range;

use crate::{Leaves, Location, Node, limits};

/// The peaks of a size, the highest first.
pub fn peaks(leaves: Leaves) -> impl Iterator<Item = Node> + use<> {
    let mut rest = leaves.0;
    std::iter::from_fn(move || {
        let height = rest.checked_ilog2()?;
        rest ^= 1 << height;
        // What is above the bit stands to the left of this peak.
        let index = (leaves.0 >> height) - 1;
        Some(Node { height, index })
    })
}

/// What to do about a node on the walk.
pub(crate) enum Step {
    /// The proof holds its hash.
    Take,
    /// Its children are looked at.
    Descend,
    /// A leaf of interest, which the other side brings.
    Leaf,
}

/// Nodes in the order of the walk for which `step` says [`Step::Take`], not more than `most`.
fn walk(leaves: Leaves, most: usize, mut step: impl FnMut(Node) -> Step) -> Option<Vec<Node>> {
    // Of a range two nodes for each height are taken at most, and one of each is open.
    let heights = leaves
        .0
        .checked_ilog2()
        .map_or(0, |height| height as usize + 1);
    let mut taken = Vec::with_capacity(most.min(2 * heights));
    let mut open = Vec::with_capacity(2 * heights);
    open.extend(peaks(leaves));
    open.reverse();
    while let Some(node) = open.pop() {
        match (step(node), node.children()) {
            (Step::Descend, Some((left, right))) => open.extend([right, left]),
            (Step::Leaf, _) => {}
            _ if taken.len() == most => return None,
            _ => taken.push(node),
        }
    }
    Some(taken)
}

/// The nodes in the proof of a range, `None` if it is empty or beyond the size. At most
/// [`limits::RANGE_DIGESTS`]. Costs no more when the range is long: nodes entirely within are not walked.
#[must_use]
pub fn plan_range(leaves: Leaves, range: Range<Location>) -> Option<Vec<Node>> {
    if range.start >= range.end || range.end.0 > leaves.0 || !leaves.is_possible() {
        return None;
    }
    walk(leaves, limits::RANGE_DIGESTS, |node| {
        if node.end() <= range.start || node.start() >= range.end {
            Step::Take
        } else if node.start() >= range.start && node.end() <= range.end {
            Step::Leaf
        } else {
            Step::Descend
        }
    })
}

/// The nodes in the proof of several locations, ascending and each once; `None` if they are none, out of
/// order, beyond the size, or too many. Shared nodes are there once, and none that the others yield.
#[must_use]
pub fn plan_multi(leaves: Leaves, locations: &[Location]) -> Option<Vec<Node>> {
    if !are_sorted(locations, leaves) {
        return None;
    }
    let mut next = locations.iter().peekable();
    walk(leaves, limits::PROOF_DIGESTS, |node| {
        // All before this node have been passed.
        match next.peek() {
            Some(location) if **location < node.end() => {
                if node.height > 0 {
                    return Step::Descend;
                }
                next.next();
                Step::Leaf
            }
            _ => Step::Take,
        }
    })
}

/// The nodes in the proof that the first `old` of `new` leaves are what they were; `None` if the sizes are
/// out of order. Those before `old` are its peaks. At most [`limits::RANGE_DIGESTS`].
#[must_use]
pub fn plan_consistency(old: Leaves, new: Leaves) -> Option<Vec<Node>> {
    if old > new || !new.is_possible() {
        return None;
    }
    walk(new, limits::RANGE_DIGESTS, |node| {
        if straddles(node, old) {
            Step::Descend
        } else {
            Step::Take
        }
    })
}

/// Whether a node stands over leaves on both sides of a size.
fn straddles(node: Node, size: Leaves) -> bool {
    node.start().0 < size.0 && size.0 < node.end().0
}

/// Whether the locations are some, ascending, each once, within the size and the limit.
pub(crate) fn are_sorted(locations: &[Location], leaves: Leaves) -> bool {
    let ascending = locations.is_sorted_by(|a, b| a < b);
    let within = locations.last().is_some_and(|last| last.0 < leaves.0);
    ascending && within && leaves.is_possible() && locations.len() <= limits::MULTI_LOCATIONS
}
