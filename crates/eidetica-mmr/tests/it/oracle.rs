//! The definitions, as directly as they can be said: everything from the list of elements, recursively.

use eidetica_mmr::{Digest, Leaves, Mmr, leaf_hash, node_hash, root_hash};

/// An element for each number, of different lengths.
pub(crate) fn element(number: u64) -> Vec<u8> {
    let length = (number % 97) as usize;
    let mut element = number.to_le_bytes().to_vec();
    element.extend(std::iter::repeat_n(number as u8, length));
    element
}

pub(crate) fn elements(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(element).collect()
}

/// The top of a perfect tree.
pub(crate) fn top(elements: &[Vec<u8>]) -> Digest {
    match elements {
        [one] => leaf_hash(one),
        _ => {
            let (left, right) = elements.split_at(elements.len() / 2);
            node_hash(&top(left), &top(right))
        }
    }
}

pub(crate) fn peaks(mut elements: &[Vec<u8>]) -> Vec<Digest> {
    let mut peaks = Vec::new();
    while !elements.is_empty() {
        let (tree, rest) = elements.split_at(1 << elements.len().ilog2());
        peaks.push(top(tree));
        elements = rest;
    }
    peaks
}

pub(crate) fn root(elements: &[Vec<u8>]) -> Digest {
    root_hash(Leaves(elements.len() as u64), &peaks(elements))
}

/// A range of the first elements.
pub(crate) fn mmr(count: u64) -> Mmr {
    let mut mmr = Mmr::new();
    for number in 0..count {
        mmr.append(leaf_hash(&element(number))).unwrap();
    }
    mmr
}
