//! Merkle mountain ranges on BLAKE3: an append-only list whose root commits to every element and to
//! their number.
//!
//! The leaves of a list of `n` elements are grouped from the left into the largest perfect binary trees
//! that fit, one for each one-bit of `n`; their tops are the *peaks*, and the root is the hash of `n` and
//! the peaks. Appending never changes a node that exists (Peter Todd's mountain ranges; the structure is
//! that of RFC 6962 with the right edge left open), so that:
//!
//! - the root of every earlier size, and proofs against it, come from the same nodes;
//! - an old root is shown to be a prefix of a new one by few hashes: [`prove_consistency`];
//! - all before some leaf can be forgotten but for at most 62 pinned nodes: [`Mmr::prune`].
//!
//! A [`Location`] counts leaves, a [`Position`] counts nodes in the order in which they come to be, and
//! neither converts into the other by accident. [`Mmr`] keeps the nodes in memory; whoever keeps them
//! elsewhere implements [`Nodes`] and proves with the same functions. Verifying is functions over plain
//! data: [`verify_range`], [`verify_multi`], [`verify_consistency`].
//!
//! ```
//! use eidetica_mmr::{Location, Mmr, leaf_hash, prove_range, verify_range};
//!
//! let mut mmr = Mmr::new();
//! for element in [b"a", b"b", b"c"] {
//!     mmr.append(leaf_hash(element)).unwrap();
//! }
//! let range = Location(1)..Location(3);
//! let proof = prove_range(&mmr, mmr.leaves(), range).unwrap();
//! verify_range(&mmr.root(), &proof, Location(1), &[b"b", b"c"]).unwrap();
//! assert!(verify_range(&mmr.root(), &proof, Location(1), &[b"b", b"x"]).is_err());
//! ```
//!
//! This crate does no I/O, never panics on foreign data, and knows nothing of what the elements mean.

pub mod limits;

mod batch;
mod error;
mod frontier;
mod hash;
mod lanes;
mod mmr;
mod place;
mod plan;
mod proof;
mod prove;
mod varint;
mod verify;

pub use batch::Batch;
pub use error::{DecodeError, MmrError, ProveError, VerifyError};
pub use frontier::Frontier;
pub use hash::{Digest, leaf_hash, leaf_hashes, node_hash, root_hash, tree_hashes};
pub use lanes::keyed_hashes;
pub use mmr::Mmr;
pub use place::{Leaves, Location, Node, Position};
pub use plan::{peaks, plan_consistency, plan_multi, plan_range};
pub use proof::{Consistency, Proof};
pub use prove::{Nodes, prove, prove_consistency, prove_multi, prove_range, root_at};
pub use varint::{VarintError, read_varint, write_varint};
pub use verify::{
    verify, verify_consistency, verify_multi, verify_range, verify_range_digests,
    verify_range_pinned,
};
