//! Proofs from a stranger: no panic, one encoding only, and nothing but the right proof verifies.
#![no_main]

use std::sync::LazyLock;

use eidetica_mmr::{
    Consistency, Leaves, Location, Mmr, Proof, leaf_hash, limits, prove_consistency, prove_multi,
    prove_range, root_at, verify_consistency, verify_multi, verify_range,
};
use libfuzzer_sys::fuzz_target;

const SIZE: u64 = 300;

static RANGE: LazyLock<Mmr> = LazyLock::new(|| {
    let mut mmr = Mmr::new();
    for number in 0..SIZE {
        mmr.append(leaf_hash(&number.to_le_bytes())).unwrap();
    }
    mmr
});

fuzz_target!(|input: (u16, u16, u16, Vec<u8>)| {
    let (size, start, count, bytes) = input;
    let size = u64::from(size) % SIZE + 1;
    let start = u64::from(start) % size;
    let end = (start + u64::from(count) % 40 + 1).min(size);
    let leaves = Leaves(size);
    let root = root_at(&*RANGE, leaves).unwrap();
    let old_root = root_at(&*RANGE, Leaves(start)).unwrap();
    if let Ok(proof) = Proof::decode(&bytes, limits::PROOF_DIGESTS) {
        let mut again = Vec::new();
        proof.encode(&mut again);
        assert_eq!(again, bytes);
        check(&proof, leaves, start, end, &root);
    }
    if let Ok(proof) = Consistency::decode(&bytes) {
        let mut again = Vec::new();
        proof.encode(&mut again);
        assert_eq!(again, bytes);
        let right = prove_consistency(&*RANGE, Leaves(start), leaves).unwrap();
        assert_eq!(
            verify_consistency(&old_root, &root, &proof).is_ok(),
            proof == right
        );
    }
    // The right proof with the bytes written over it, from somewhere on.
    let mut mutated = prove_range(&*RANGE, leaves, Location(start)..Location(end)).unwrap();
    let mut encoded = Vec::new();
    mutated.encode(&mut encoded);
    let from = usize::from(count) % encoded.len();
    encoded
        .iter_mut()
        .skip(from)
        .zip(&bytes)
        .for_each(|(byte, new)| *byte ^= new);
    if let Ok(decoded) = Proof::decode(&encoded, limits::RANGE_DIGESTS) {
        mutated = decoded;
        check(&mutated, leaves, start, end, &root);
    }
});

fn check(proof: &Proof, leaves: Leaves, start: u64, end: u64, root: &eidetica_mmr::Digest) {
    let elements: Vec<[u8; 8]> = (start..end).map(u64::to_le_bytes).collect();
    let right = prove_range(&*RANGE, leaves, Location(start)..Location(end)).unwrap();
    let verified = verify_range(root, proof, Location(start), &elements).is_ok();
    assert_eq!(verified, *proof == right);
    let several: Vec<_> = (start..end)
        .step_by(3)
        .map(|at| (Location(at), at.to_le_bytes()))
        .collect();
    let locations: Vec<Location> = several.iter().map(|(location, _)| *location).collect();
    let right = prove_multi(&*RANGE, leaves, &locations).unwrap();
    assert_eq!(verify_multi(root, proof, &several).is_ok(), *proof == right);
}
