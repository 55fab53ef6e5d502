//! Positions, appending, batches, pruning, rewinding.

use eidetica_mmr::{
    Batch, Frontier, Leaves, Location, Mmr, MmrError, Node, Position, leaf_hash, leaf_hashes,
    limits, node_hash, peaks, root_at, tree_hashes,
};
use proptest::prelude::*;

use crate::oracle::{self, element, elements, mmr};

#[test]
fn roots_and_peaks_are_those_of_the_definition() {
    let all = elements(260);
    let mut mmr = Mmr::new();
    for (count, element) in all.iter().enumerate() {
        assert_eq!(mmr.root(), oracle::root(&all[..count]), "{count}");
        assert_eq!(mmr.frontier().peaks(), oracle::peaks(&all[..count]));
        assert_eq!(mmr.append(leaf_hash(element)), Ok(Location(count as u64)));
    }
    for count in 0..=260 {
        assert_eq!(
            root_at(&mmr, Leaves(count)).unwrap(),
            oracle::root(&all[..count as usize])
        );
    }
    assert!(root_at(&mmr, Leaves(261)).is_err());
}

#[test]
fn positions_count_nodes_as_they_come_to_be() {
    let mmr = mmr(300);
    let mut next = 0;
    for leaf in 0..300u64 {
        // A leaf, and every parent it completes.
        for height in 0..=(leaf + 1).trailing_zeros() {
            let node = Node {
                height,
                index: leaf >> height,
            };
            assert_eq!(node.position(), Position(next));
            assert_eq!(Node::at(Position(next)), Some(node));
            assert_eq!(node.end(), Location(leaf + 1));
            assert_eq!(mmr.at(Position(next)), mmr.get(node));
            let expected = match node.children() {
                None => leaf_hash(&element(leaf)),
                Some((left, right)) => node_hash(&mmr.get(left).unwrap(), &mmr.get(right).unwrap()),
            };
            assert_eq!(mmr.get(node), Some(expected));
            next += 1;
        }
        assert_eq!(Leaves(leaf + 1).positions(), Position(next));
        assert_eq!(
            Location::at(Location(leaf).position()),
            Some(Location(leaf))
        );
    }
    assert_eq!(mmr.nodes().len() as u64, next);
    assert_eq!(Location::at(Position(2)), None);
    assert_eq!(mmr.at(Position(next)), None);
}

#[test]
fn arithmetic_holds_at_the_limit() {
    let last = Location(limits::LEAVES - 1);
    let top = Node {
        height: limits::HEIGHT,
        index: 0,
    };
    assert_eq!(peaks(Leaves(limits::LEAVES)).collect::<Vec<_>>(), [top]);
    assert_eq!(Node::at(top.position()), Some(top));
    assert_eq!(Location::at(last.position()), Some(last));
    assert_eq!(Node::at(Position(top.position().0 + 1)), None);
    assert_eq!(Node::at(Position(u64::MAX)), None);
    assert_eq!(peaks(Leaves(limits::LEAVES - 1)).count(), 62);
    assert!(Leaves(limits::LEAVES).is_possible());
    assert!(!Leaves(limits::LEAVES + 1).is_possible());
    let digest = leaf_hash(b"");
    let mut almost = Frontier::from_peaks(Leaves(limits::LEAVES - 1), vec![digest; 62]).unwrap();
    almost.append(digest).unwrap();
    assert_eq!(almost.peaks().len(), 1);
    let full = almost.clone();
    assert_eq!(almost.append(digest), Err(MmrError::Full));
    assert_eq!(
        Batch::new(almost.clone()).extend(&[b"x"], 1),
        Err(MmrError::Full)
    );
    assert_eq!(almost, full);
    let beyond = Leaves(limits::LEAVES + 1);
    assert_eq!(
        Frontier::from_peaks(beyond, vec![digest; 2]),
        Err(MmrError::Full)
    );
    let expected = MmrError::Pinned {
        expected: 2,
        found: 1,
    };
    assert_eq!(Frontier::from_peaks(Leaves(3), vec![digest]), Err(expected));
    // Foreign numbers do not overflow.
    for height in [0, 1, 62, 63, 64, u32::MAX] {
        for index in [0, 1, u64::MAX / 2, u64::MAX] {
            let node = Node { height, index };
            let _ = (node.position(), node.start(), node.end(), node.children());
        }
    }
    let _ = (Location(u64::MAX).position(), Leaves(u64::MAX).positions());
}

#[test]
fn batches_know_their_root_and_apply_to_their_state_only() {
    let mut mmr = mmr(77);
    let before = mmr.clone();
    let mut batch = mmr.batch();
    let mut other = mmr.batch();
    for number in 77..200 {
        batch.append(leaf_hash(&element(number))).unwrap();
    }
    other.append(leaf_hash(b"another")).unwrap();
    assert_eq!(mmr, before);
    assert_eq!(batch.root(), oracle::root(&elements(200)));
    assert_eq!(batch.leaves(), Leaves(200));
    let root = batch.root();
    mmr.apply(batch).unwrap();
    assert_eq!(mmr.root(), root);
    assert_eq!(mmr, crate::oracle::mmr(200));
    let stale = mmr.apply(other.clone()).unwrap_err();
    assert_eq!(
        stale,
        MmrError::Stale {
            made_on: Leaves(77),
            present: Leaves(200)
        }
    );
    // The same size, but other leaves.
    let mut fork = crate::oracle::mmr(76);
    fork.append(leaf_hash(b"fork")).unwrap();
    assert!(matches!(fork.apply(other), Err(MmrError::Stale { .. })));
}

#[test]
fn hashing_in_parallel_changes_nothing() {
    let all = elements(5000);
    for start in [0usize, 1, 255, 256, 300] {
        for count in [1usize, 2047, 2048, 2500, 4600] {
            let mut one = mmr(start as u64).batch();
            let mut many = one.clone();
            one.extend(&all[start..start + count.min(5000 - start)], 1)
                .unwrap();
            many.extend(&all[start..start + count.min(5000 - start)], 3)
                .unwrap();
            assert_eq!(one.nodes(), many.nodes(), "{start} {count}");
            assert_eq!(one.frontier(), many.frontier());
        }
    }
    let serial: Vec<_> = all.iter().map(|element| leaf_hash(element)).collect();
    for threads in [0, 1, 2, 7, 1000] {
        assert_eq!(leaf_hashes(&all, threads), serial);
    }
    assert_eq!(leaf_hashes::<Vec<u8>>(&[], 4), []);
}

#[test]
fn millions_of_leaves_have_the_roots_of_their_perfect_trees() {
    // All elements are the same, so that a perfect tree of a height has one hash.
    let mut tops = vec![leaf_hash(b"same")];
    for height in 0..21 {
        tops.push(node_hash(&tops[height], &tops[height]));
    }
    let mut frontier = Frontier::new();
    let mut checked = 0;
    for count in 0..(1u64 << 21) + 3 {
        if count % 65_521 == 0 || (count + 2).is_power_of_two() || count.is_power_of_two() {
            let expected: Vec<_> = peaks(Leaves(count))
                .map(|peak| tops[peak.height as usize])
                .collect();
            assert_eq!(frontier.peaks(), expected);
            checked += 1;
        }
        // Only hashes are slow in a test build; the shape is what this is about.
        frontier.append(tops[0]).unwrap();
    }
    assert!(checked > 60);
}

proptest! {
    #[test]
    fn pruning_keeps_roots_and_whatever_lies_behind(count in 1u64..400, cut in 0u64..400, more in 0u64..80) {
        let cut = cut % (count + 1);
        let full = mmr(count);
        let mut pruned = full.clone();
        pruned.prune(Location(cut)).unwrap();
        prop_assert_eq!(pruned.boundary(), Location(cut));
        prop_assert_eq!(pruned.root(), full.root());
        let pinned = full.frontier_at(Leaves(cut)).unwrap();
        prop_assert_eq!(pruned.pinned(), &pinned);
        for position in Location(cut).position().0..Leaves(count).positions().0 {
            prop_assert_eq!(pruned.at(Position(position)), full.at(Position(position)));
        }
        // From the pinned nodes alone the range grows on.
        let mut anew = Mmr::from_frontier(pruned.pinned().clone());
        for number in cut..count {
            anew.append(leaf_hash(&element(number))).unwrap();
        }
        prop_assert_eq!(&anew, &pruned);
        let grown = mmr(count + more);
        for number in count..count + more {
            pruned.append(leaf_hash(&element(number))).unwrap();
        }
        prop_assert_eq!(pruned.root(), grown.root());
        let before = pruned.clone();
        pruned.prune(Location(cut / 2)).unwrap();
        prop_assert_eq!(&pruned, &before);
        prop_assert!(pruned.prune(Location(count + more + 1)).is_err());
        prop_assert_eq!(&pruned, &before);
    }

    #[test]
    fn rewinding_is_never_having_appended(count in 0u64..300, cut in 0u64..300, boundary in 0u64..300) {
        let cut = cut % (count + 1);
        let boundary = boundary % (cut + 1);
        let mut range = mmr(count);
        range.prune(Location(boundary)).unwrap();
        range.rewind(Leaves(cut)).unwrap();
        let mut expected = mmr(cut);
        expected.prune(Location(boundary)).unwrap();
        prop_assert_eq!(&range, &expected);
        prop_assert!(range.rewind(Leaves(cut + 1)).is_err());
        if boundary > 0 {
            prop_assert!(range.rewind(Leaves(boundary - 1)).is_err());
        }
        prop_assert_eq!(range, expected);
    }
}

proptest! {
    #[test]
    fn trees_side_by_side_are_what_each_is(heights in proptest::collection::vec(0u32..6, 0..12), from in 0u64..200, off in 0usize..3) {
        let count: u64 = heights.iter().map(|height| 1 << height).sum();
        let all: Vec<Vec<u8>> = (from..from + count).map(element).collect();
        let mut rest = all.as_slice();
        let expected: Vec<_> = heights.iter().map(|height| {
            let (tree, behind) = rest.split_at(1 << height);
            rest = behind;
            oracle::top(tree)
        }).collect();
        prop_assert_eq!(tree_hashes(&all, &heights), Some(expected));
        if off > 0 && count > 0 {
            let fewer = all.get(off..).unwrap_or_default();
            prop_assert_eq!(tree_hashes(fewer, &heights), None);
            let more = [all.clone(), vec![element(0); off]].concat();
            prop_assert_eq!(tree_hashes(&more, &heights), None);
        }
    }
}

#[test]
fn trees_of_impossible_heights_are_none() {
    let all = elements(4);
    assert_eq!(tree_hashes(&all, &[63, 63]), None);
    assert_eq!(tree_hashes(&all, &[64]), None);
    assert_eq!(tree_hashes(&all, &[u32::MAX, 2]), None);
}
