//! The hashes: leaves, nodes and roots under three different keys, so that none is ever another.

use std::borrow::Cow;
use std::fmt;

use crate::lanes::{keyed_hashes, pair_hashes};

const LEAF_KEY: &[u8; 32] = b"eidetica mmr v1: hash of a leaf.";
const NODE_KEY: &[u8; 32] = b"eidetica mmr v1: hash of a node.";
const ROOT_KEY: &[u8; 32] = b"eidetica mmr v1: hash of a root.";

/// A hash of 32 bytes. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A digest of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// The hash of an element.
#[must_use]
pub fn leaf_hash(element: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(LEAF_KEY, element).as_bytes())
}

/// The hash of a parent: one compression.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut both = [0; 64];
    let (first, second) = both.split_at_mut(32);
    first.copy_from_slice(&left.0);
    second.copy_from_slice(&right.0);
    Digest(*blake3::keyed_hash(NODE_KEY, &both).as_bytes())
}

/// The hashes of the parents of consecutive nodes, of which the first is a left one.
pub(crate) fn parents(nodes: &[Digest]) -> Vec<Digest> {
    pair_hashes(NODE_KEY, nodes)
}

/// The top of a perfect tree over leaves, `None` if there are none.
pub(crate) fn top(leaves: &[Digest]) -> Option<Digest> {
    let mut level = Cow::Borrowed(leaves);
    while level.len() > 1 {
        level = Cow::Owned(parents(&level));
    }
    level.first().copied()
}

/// The root: the hash of the size and the peaks, the highest first. It is for the caller to bring as many
/// peaks as the size has.
#[must_use]
pub fn root_hash<'a>(leaves: crate::Leaves, peaks: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(ROOT_KEY);
    hasher.update(&leaves.0.to_le_bytes());
    for peak in peaks {
        hasher.update(&peak.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The hashes of many elements, by up to `threads` threads. Several times faster than one after the other.
#[must_use]
pub fn leaf_hashes<T: AsRef<[u8]> + Sync>(elements: &[T], threads: usize) -> Vec<Digest> {
    let mut parts = in_parts(elements, threads, &|part: &[T]| {
        keyed_hashes(LEAF_KEY, part)
    });
    if parts.len() == 1 {
        parts.swap_remove(0)
    } else {
        parts.concat()
    }
}

/// The hashes of nodes over consecutive elements, the first node over `1 << heights[0]` of them and so on. All are hashed side
/// by side, which for few elements each is several times faster than one node after the other. `None` unless the
/// elements are exactly as many.
#[must_use]
pub fn tree_hashes<T: AsRef<[u8]>>(elements: &[T], heights: &[u32]) -> Option<Vec<Digest>> {
    let wide = |height: &u32| 1_usize.checked_shl(*height);
    let wanted = heights
        .iter()
        .map(wide)
        .try_fold(0, |sum: usize, wide| sum.checked_add(wide?));
    if wanted != Some(elements.len()) {
        return None;
    }
    let mut nodes = keyed_hashes(LEAF_KEY, elements);
    for level in 0..heights.iter().copied().max().unwrap_or(0) {
        nodes = level_up(nodes, heights, level);
    }
    Some(nodes)
}

/// From the nodes of trees at a level those at the next. Trees that are not higher stay as they are.
fn level_up(nodes: Vec<Digest>, heights: &[u32], level: u32) -> Vec<Digest> {
    if heights.iter().all(|height| *height > level) {
        return parents(&nodes);
    }
    let wide = |height: u32| 1 << height.saturating_sub(level);
    let mut rest = nodes.as_slice();
    let mut children = Vec::with_capacity(nodes.len());
    for height in heights {
        let (tree, behind) = rest.split_at_checked(wide(*height)).unwrap_or((rest, &[]));
        if *height > level {
            children.extend_from_slice(tree);
        }
        rest = behind;
    }
    let mut made = parents(&children).into_iter();
    let mut rest = nodes.into_iter();
    let mut next = Vec::with_capacity(rest.len());
    for height in heights {
        if *height > level {
            next.extend(made.by_ref().take(wide(*height) / 2));
            rest.by_ref().take(wide(*height)).for_each(drop);
        } else {
            next.extend(rest.next());
        }
    }
    next
}

/// Applies `work` to consecutive parts of a slice, in as many threads as are worth it. The results are in
/// order.
pub(crate) fn in_parts<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: &(impl Fn(&[T]) -> R + Sync),
) -> Vec<R> {
    let most = threads.clamp(1, crate::limits::THREADS);
    let part = items.len().div_ceil(most);
    if most == 1 || items.len() < crate::limits::PARALLEL_LEAVES {
        return vec![work(items)];
    }
    std::thread::scope(|scope| {
        let mut parts = items.chunks(part);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(|| work(part))).collect();
        let mut results = vec![work(first)];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}
