//! Every proof verifies, and no other does.

use eidetica_mmr::{
    Consistency, Digest, Leaves, Location, Mmr, Proof, ProveError, VerifyError, leaf_hash,
    leaf_hashes, limits, plan_multi, plan_range, prove, prove_consistency, prove_multi,
    prove_range, root_at, verify, verify_consistency, verify_multi, verify_range,
    verify_range_digests, verify_range_pinned,
};
use proptest::prelude::*;

use crate::oracle::{element, elements, mmr};

fn range_of(all: &[Vec<u8>], start: u64, end: u64) -> &[Vec<u8>] {
    &all[start as usize..end as usize]
}

#[test]
fn every_range_of_every_small_size_verifies() {
    let all = elements(40);
    let mmr = mmr(40);
    for size in 0..=40 {
        let root = root_at(&mmr, Leaves(size)).unwrap();
        for start in 0..size {
            for end in start + 1..=size {
                let proof =
                    prove_range(&mmr, Leaves(size), Location(start)..Location(end)).unwrap();
                let shown = range_of(&all, start, end);
                verify_range(&root, &proof, Location(start), shown).unwrap();
                let leaves = leaf_hashes(shown, 1);
                verify_range_digests(&root, &proof, Location(start), &leaves).unwrap();
                let pinned = verify_range_pinned(&root, &proof, Location(start), &leaves).unwrap();
                assert_eq!(pinned, mmr.frontier_at(Leaves(start)).unwrap());
                // Shifted, shorter and longer ranges do not.
                assert!(verify_range(&root, &proof, Location(start + 1), shown).is_err());
                assert!(verify_range(&root, &proof, Location(start), &shown[1..]).is_err());
                let mut longer = shown.to_vec();
                longer.push(element(end));
                assert!(verify_range(&root, &proof, Location(start), &longer).is_err());
            }
        }
    }
}

#[test]
fn every_leaf_of_every_size_to_200_verifies() {
    let mmr = mmr(200);
    for size in 1..=200 {
        let root = root_at(&mmr, Leaves(size)).unwrap();
        for location in (0..size).map(Location) {
            let proof = prove(&mmr, Leaves(size), location).unwrap();
            verify(&root, &proof, location, &element(location.0)).unwrap();
            let other = element(location.0 + 1);
            assert_eq!(
                verify(&root, &proof, location, &other),
                Err(VerifyError::Root)
            );
        }
    }
}

#[test]
fn every_pair_of_sizes_to_200_is_consistent() {
    let mmr = mmr(200);
    let roots: Vec<Digest> = (0..=200)
        .map(|size| root_at(&mmr, Leaves(size)).unwrap())
        .collect();
    for new in 0..=200u64 {
        for old in 0..=new {
            let proof = prove_consistency(&mmr, Leaves(old), Leaves(new)).unwrap();
            let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
            verify_consistency(old_root, new_root, &proof).unwrap();
            let other = &roots[(old as usize + 1) % 200];
            assert!(verify_consistency(other, new_root, &proof).is_err());
            assert!(
                verify_consistency(old_root, &roots[(new as usize + 1) % 201], &proof).is_err()
            );
        }
        assert!(prove_consistency(&mmr, Leaves(new + 1), Leaves(new)).is_err());
    }
}

#[test]
fn a_fork_is_not_consistent() {
    let mut fork = mmr(100);
    let honest = mmr(150);
    let old = honest.frontier_at(Leaves(101)).unwrap().root();
    for _ in 100..150 {
        fork.append(leaf_hash(b"forked")).unwrap();
    }
    let proof = prove_consistency(&fork, Leaves(101), Leaves(150)).unwrap();
    assert!(verify_consistency(&old, &fork.root(), &proof).is_err());
    let proof = prove_consistency(&honest, Leaves(101), Leaves(150)).unwrap();
    assert!(verify_consistency(&old, &fork.root(), &proof).is_err());
    verify_consistency(&old, &honest.root(), &proof).unwrap();
}

#[test]
fn a_multi_proof_of_all_leaves_needs_no_hashes() {
    let mmr = mmr(100);
    let all: Vec<_> = (0..100).map(|at| (Location(at), element(at))).collect();
    let locations: Vec<_> = all.iter().map(|(location, _)| *location).collect();
    let proof = prove_multi(&mmr, Leaves(100), &locations).unwrap();
    assert_eq!(proof.digests, []);
    verify_multi(&mmr.root(), &proof, &all).unwrap();
    // Two neighbours share all of their path.
    let two = prove_multi(&mmr, Leaves(100), &[Location(6), Location(7)]).unwrap();
    let range = prove_range(&mmr, Leaves(100), Location(6)..Location(8)).unwrap();
    assert_eq!(two, range);
}

#[test]
fn what_cannot_be_proven_is_refused() {
    let mut mmr = mmr(50);
    let request = Err(ProveError::Request { leaves: Leaves(50) });
    assert_eq!(
        prove_range(&mmr, Leaves(50), Location(3)..Location(3)),
        request
    );
    assert_eq!(
        prove_range(&mmr, Leaves(50), Location(49)..Location(51)),
        request
    );
    assert_eq!(prove(&mmr, Leaves(50), Location(u64::MAX)), request);
    for locations in [
        &[][..],
        &[Location(3), Location(3)],
        &[Location(4), Location(3)],
        &[Location(50)],
    ] {
        assert_eq!(prove_multi(&mmr, Leaves(50), locations), request);
    }
    // Nodes beyond the present size do not exist.
    assert!(matches!(
        prove(&mmr, Leaves(51), Location(0)),
        Err(ProveError::Missing(_))
    ));
    mmr.prune(Location(20)).unwrap();
    assert!(matches!(
        prove(&mmr, Leaves(50), Location(19)),
        Err(ProveError::Missing(_))
    ));
    prove(&mmr, Leaves(50), Location(20)).unwrap();
}

#[test]
fn multi_proofs_have_their_limit() {
    let leaves = Leaves(1 << 40);
    let at = |count: usize| -> Vec<Location> { (0..count as u64).map(Location).collect() };
    assert!(plan_multi(leaves, &at(limits::MULTI_LOCATIONS)).is_some());
    assert!(plan_multi(leaves, &at(limits::MULTI_LOCATIONS + 1)).is_none());
    let refused = prove_multi(&mmr(3), leaves, &at(limits::MULTI_LOCATIONS + 1));
    assert_eq!(
        refused,
        Err(ProveError::TooLarge {
            limit: limits::MULTI_LOCATIONS
        })
    );
    // As far apart as can be: 28 levels of their own below 12 shared ones.
    let apart: Vec<Location> = (0..limits::MULTI_LOCATIONS as u64)
        .map(|i| Location(i << 28))
        .collect();
    assert!(plan_multi(leaves, &apart).is_none());
    assert_eq!(
        plan_multi(leaves, &apart[..2000]).unwrap().len(),
        2000 * 28 + 3
    );
    let elements: Vec<_> = at(limits::MULTI_LOCATIONS + 1)
        .into_iter()
        .map(|at| (at, b""))
        .collect();
    let proof = Proof {
        leaves,
        digests: Vec::new(),
    };
    let root = leaf_hash(b"");
    assert_eq!(
        verify_multi(&root, &proof, &elements),
        Err(VerifyError::Locations)
    );
    assert_eq!(
        verify_multi(&root, &proof, &elements[1..]),
        Err(VerifyError::Shape)
    );
}

#[test]
fn the_longest_range_proof_is_within_its_limit() {
    let most = Leaves(limits::LEAVES - 1);
    for start in [
        0,
        1,
        (1 << 61) - 1,
        1 << 61,
        (1 << 61) + 1,
        (1 << 60) + 12_345,
        most.0 - 2,
    ] {
        for end in [start + 1, start + 2, most.0 - 1, most.0] {
            if start < end {
                let plan = plan_range(most, Location(start)..Location(end)).unwrap();
                assert!(plan.len() <= limits::RANGE_DIGESTS);
            }
        }
    }
}

/// All ways to change one hash, drop one, add one, swap two, or change the size.
fn mutations(proof: &Proof, seed: u64) -> Vec<Proof> {
    let mut mutated = Vec::new();
    let mut push = |change: &dyn Fn(&mut Proof)| {
        let mut other = proof.clone();
        change(&mut other);
        if other != *proof {
            mutated.push(other);
        }
    };
    for at in 0..proof.digests.len() {
        push(&|proof| {
            let mut bytes = *proof.digests[at].as_bytes();
            bytes[seed as usize % 32] ^= 1 << (seed % 8);
            proof.digests[at] = Digest::new(bytes);
        });
        push(&|proof| _ = proof.digests.remove(at));
        push(&|proof| proof.digests.insert(at, proof.digests[at]));
        let other = seed as usize % proof.digests.len();
        push(&|proof| proof.digests.swap(at, other));
    }
    push(&|proof| proof.digests.push(leaf_hash(&seed.to_le_bytes())));
    for other in [
        seed,
        proof.leaves.0 + 1,
        proof.leaves.0 - 1,
        proof.leaves.0 * 2,
        u64::MAX,
        limits::LEAVES,
    ] {
        push(&|proof| proof.leaves = Leaves(other));
    }
    mutated
}

proptest! {
    #[test]
    fn historical_ranges_verify_and_mutations_do_not(
        count in 1u64..500, size in 1u64..500, start: u64, length in 1u64..40, seed: u64,
    ) {
        let size = size.min(count);
        let start = start % size;
        let end = (start + length).min(size);
        let mut mmr = mmr(count);
        mmr.prune(Location(start)).unwrap();
        let root = root_at(&mmr, Leaves(size));
        let full = crate::oracle::mmr(count);
        let expected = root_at(&full, Leaves(size)).unwrap();
        if let Ok(root) = root {
            prop_assert_eq!(root, expected);
        }
        // The nodes from the boundary on and the pinned ones are enough, at every size after it.
        let proof = prove_range(&mmr, Leaves(size), Location(start)..Location(end)).unwrap();
        prop_assert_eq!(&proof, &prove_range(&full, Leaves(size), Location(start)..Location(end)).unwrap());
        let all = elements(count);
        let shown = range_of(&all, start, end);
        verify_range(&expected, &proof, Location(start), shown).unwrap();
        for mutated in mutations(&proof, seed) {
            prop_assert!(verify_range(&expected, &mutated, Location(start), shown).is_err(), "{:?}", mutated);
        }
        for at in 0..shown.len() {
            let mut shown = shown.to_vec();
            let bit = seed as usize % (shown[at].len() * 8);
            shown[at][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_range(&expected, &proof, Location(start), &shown).is_err());
        }
    }

    #[test]
    fn multi_proofs_verify_and_mutations_do_not(
        count in 1u64..400, picks in proptest::collection::btree_set(0u64..400, 1..20), seed: u64,
    ) {
        let mmr = mmr(count);
        let locations: Vec<Location> = picks.into_iter().filter(|at| *at < count).map(Location).collect();
        prop_assume!(!locations.is_empty());
        let proof = prove_multi(&mmr, Leaves(count), &locations).unwrap();
        let shown: Vec<_> = locations.iter().map(|at| (*at, element(at.0))).collect();
        verify_multi(&mmr.root(), &proof, &shown).unwrap();
        for mutated in mutations(&proof, seed) {
            prop_assert!(verify_multi(&mmr.root(), &mutated, &shown).is_err());
        }
        for at in 0..shown.len() {
            let mut fewer = shown.clone();
            fewer.remove(at);
            prop_assert!(verify_multi(&mmr.root(), &proof, &fewer).is_err());
            let mut moved = shown.clone();
            moved[at].0 = Location(moved[at].0.0 + 1);
            prop_assert!(verify_multi(&mmr.root(), &proof, &moved).is_err());
        }
    }

    #[test]
    fn mutated_consistency_proofs_do_not_verify(old in 0u64..300, more in 0u64..300, seed: u64) {
        let mmr = mmr(old + more);
        let old_root = root_at(&mmr, Leaves(old)).unwrap();
        let proof = prove_consistency(&mmr, Leaves(old), Leaves(old + more)).unwrap();
        verify_consistency(&old_root, &mmr.root(), &proof).unwrap();
        let hashes = Proof { leaves: proof.new, digests: proof.digests.clone() };
        let check = |other: &Consistency| verify_consistency(&old_root, &mmr.root(), other);
        if old + more > 0 {
            for mutated in mutations(&hashes, seed) {
                let other = Consistency { old: proof.old, new: mutated.leaves, digests: mutated.digests };
                prop_assert!(check(&other).is_err());
            }
        }
        for old in [seed, old + 1, old.wrapping_sub(1), u64::MAX] {
            let other = Consistency { old: Leaves(old), ..proof.clone() };
            prop_assert!(other == proof || check(&other).is_err());
        }
    }

    #[test]
    fn arbitrary_proofs_are_refused_in_bounded_time(
        leaves: u64, old: u64, start: u64, count in 0usize..40, picks in proptest::collection::vec(any::<u64>(), 0..9),
    ) {
        let digest = leaf_hash(b"");
        let digests = vec![digest; count];
        let proof = Proof { leaves: Leaves(leaves), digests: digests.clone() };
        let shown = vec![b"x"; picks.len()];
        prop_assert!(verify_range(&digest, &proof, Location(start), &shown).is_err());
        let shown: Vec<_> = picks.into_iter().map(|at| (Location(at), b"x")).collect();
        prop_assert!(verify_multi(&digest, &proof, &shown).is_err());
        let proof = Consistency { old: Leaves(old), new: Leaves(leaves), digests };
        prop_assert!(verify_consistency(&digest, &digest, &proof).is_err());
    }
}

#[test]
fn the_empty_list_has_a_root_and_proves_nothing() {
    let empty = Mmr::new();
    assert_ne!(empty.root(), mmr(1).root());
    assert!(prove(&empty, Leaves(0), Location(0)).is_err());
    let proof = Proof {
        leaves: Leaves(0),
        digests: Vec::new(),
    };
    assert_eq!(
        verify_range::<&[u8]>(&empty.root(), &proof, Location(0), &[]),
        Err(VerifyError::Locations)
    );
    assert_eq!(
        verify_multi::<&[u8]>(&empty.root(), &proof, &[]),
        Err(VerifyError::Locations)
    );
}
