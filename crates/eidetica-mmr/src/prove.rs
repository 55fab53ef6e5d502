//! Making proofs from wherever the nodes are kept.

use std::ops::Range;

use crate::hash::root_hash;
use crate::plan::are_sorted;
use crate::{
    Consistency, Digest, Leaves, Location, Node, Proof, ProveError, limits, peaks,
    plan_consistency, plan_multi, plan_range,
};

/// Where nodes are kept.
pub trait Nodes {
    /// Why they cannot be read.
    type Error;

    /// The hash of a node, `None` if it does not exist (yet) or is not kept (any more).
    ///
    /// # Errors
    /// The keeper's own.
    fn node(&self, node: Node) -> Result<Option<Digest>, Self::Error>;

    /// The hashes of several nodes, as many and in that order. A keeper for whom that is less work than one after the other
    /// says how.
    ///
    /// # Errors
    /// The keeper's own.
    fn nodes(&self, nodes: &[Node]) -> Result<Vec<Option<Digest>>, Self::Error> {
        nodes.iter().map(|node| self.node(*node)).collect()
    }
}

/// The root at a size up to the present one. Reads at most 62 nodes.
///
/// # Errors
/// [`ProveError::Missing`] if the size is not reached yet or its peaks are not kept.
pub fn root_at<N: Nodes>(nodes: &N, leaves: Leaves) -> Result<Digest, ProveError<N::Error>> {
    if !leaves.is_possible() {
        return Err(ProveError::Request { leaves });
    }
    let peaks = fetch(nodes, &peaks(leaves).collect::<Vec<_>>())?;
    Ok(root_hash(leaves, &peaks))
}

/// Proves one leaf against the root at a size.
///
/// # Errors
/// [`ProveError`].
pub fn prove<N: Nodes>(
    nodes: &N,
    leaves: Leaves,
    location: Location,
) -> Result<Proof, ProveError<N::Error>> {
    prove_range(
        nodes,
        leaves,
        location..Location(location.0.saturating_add(1)),
    )
}

/// Proves consecutive leaves against the root at a size, which may be an earlier one. Reads a few nodes for
/// each height, however long the range.
///
/// # Errors
/// [`ProveError`].
pub fn prove_range<N: Nodes>(
    nodes: &N,
    leaves: Leaves,
    range: Range<Location>,
) -> Result<Proof, ProveError<N::Error>> {
    let plan = plan_range(leaves, range).ok_or(ProveError::Request { leaves })?;
    let digests = fetch(nodes, &plan)?;
    Ok(Proof { leaves, digests })
}

/// Proves several leaves, ascending and each once, against the root at a size.
///
/// # Errors
/// [`ProveError`].
pub fn prove_multi<N: Nodes>(
    nodes: &N,
    leaves: Leaves,
    locations: &[Location],
) -> Result<Proof, ProveError<N::Error>> {
    if locations.len() > limits::MULTI_LOCATIONS {
        let limit = limits::MULTI_LOCATIONS;
        return Err(ProveError::TooLarge { limit });
    }
    if !are_sorted(locations, leaves) {
        return Err(ProveError::Request { leaves });
    }
    let limit = limits::PROOF_DIGESTS;
    let plan = plan_multi(leaves, locations).ok_or(ProveError::TooLarge { limit })?;
    let digests = fetch(nodes, &plan)?;
    Ok(Proof { leaves, digests })
}

/// Proves that the list at an old size is the beginning of the list at a new one.
///
/// # Errors
/// [`ProveError`].
pub fn prove_consistency<N: Nodes>(
    nodes: &N,
    old: Leaves,
    new: Leaves,
) -> Result<Consistency, ProveError<N::Error>> {
    let plan = plan_consistency(old, new).ok_or(ProveError::Request { leaves: new })?;
    let digests = fetch(nodes, &plan)?;
    Ok(Consistency { old, new, digests })
}

fn fetch<N: Nodes>(nodes: &N, plan: &[Node]) -> Result<Vec<Digest>, ProveError<N::Error>> {
    let found = nodes.nodes(plan).map_err(ProveError::Nodes)?;
    let mut digests = Vec::with_capacity(plan.len());
    for (at, node) in plan.iter().enumerate() {
        let digest = found.get(at).copied().flatten();
        digests.push(digest.ok_or(ProveError::Missing(node.position()))?);
    }
    Ok(digests)
}
