//! The bytes of proofs: one form only, within limits.

use eidetica_mmr::{
    Consistency, DecodeError, Digest, Leaves, Location, Proof, limits, prove_consistency,
    prove_range, read_varint, write_varint,
};
use proptest::prelude::*;

use crate::oracle::mmr;

fn bytes_of(proof: &Proof) -> Vec<u8> {
    let mut bytes = Vec::new();
    proof.encode(&mut bytes);
    bytes
}

#[test]
fn proofs_survive_their_bytes_and_nothing_shorter_or_longer_does() {
    let mmr = mmr(1000);
    let proof = prove_range(&mmr, Leaves(999), Location(17)..Location(60)).unwrap();
    let mut bytes = bytes_of(&proof);
    assert_eq!(
        Proof::decode(&bytes, limits::RANGE_DIGESTS),
        Ok(proof.clone())
    );
    for end in 0..bytes.len() {
        let cut = Proof::decode(&bytes[..end], limits::RANGE_DIGESTS);
        assert_eq!(cut, Err(DecodeError::Truncated));
    }
    bytes.push(7);
    assert_eq!(
        Proof::decode(&bytes, limits::RANGE_DIGESTS),
        Err(DecodeError::Trailing)
    );
    let (read, rest) = Proof::read(&bytes, limits::RANGE_DIGESTS).unwrap();
    assert_eq!((read, rest), (proof, &[7][..]));
    let proof = prove_consistency(&mmr, Leaves(77), Leaves(1000)).unwrap();
    let mut bytes = Vec::new();
    proof.encode(&mut bytes);
    assert_eq!(Consistency::decode(&bytes), Ok(proof));
    for end in 0..bytes.len() {
        assert_eq!(
            Consistency::decode(&bytes[..end]),
            Err(DecodeError::Truncated)
        );
    }
    bytes.push(0);
    assert_eq!(Consistency::decode(&bytes), Err(DecodeError::Trailing));
}

#[test]
fn limits_hold_at_and_above() {
    let proof = |count| Proof {
        leaves: Leaves(5),
        digests: vec![Digest::new([3; 32]); count],
    };
    let limit = limits::RANGE_DIGESTS;
    assert!(Proof::decode(&bytes_of(&proof(limit)), limit).is_ok());
    let above = Proof::decode(&bytes_of(&proof(limit + 1)), limit);
    assert_eq!(above, Err(DecodeError::TooLarge { limit }));
    // A claim alone allocates nothing.
    let mut claim = vec![5];
    write_varint(&mut claim, u64::MAX);
    assert_eq!(
        Proof::decode(&claim, limit),
        Err(DecodeError::TooLarge { limit })
    );
    let mut most = Vec::new();
    write_varint(&mut most, limits::LEAVES);
    most.push(0);
    assert!(Proof::decode(&most, limit).is_ok());
    let mut beyond = Vec::new();
    write_varint(&mut beyond, limits::LEAVES + 1);
    beyond.push(0);
    assert_eq!(Proof::decode(&beyond, limit), Err(DecodeError::Number));
}

#[test]
fn overlong_numbers_are_refused() {
    for bytes in [
        &[0x80, 0x00][..],
        &[0xff, 0x00],
        &[0x80, 0x80, 0x00],
        &[0xff; 11],
    ] {
        assert_eq!(
            Proof::decode(bytes, 9),
            Err(DecodeError::Number),
            "{bytes:?}"
        );
    }
    let mut most = [0xff; 10];
    most[9] = 0x01;
    assert_eq!(read_varint(&most), Ok((u64::MAX, &[][..])));
    most[9] = 0x02;
    assert!(read_varint(&most).is_err());
}

proptest! {
    #[test]
    fn only_canonical_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(proof) = Proof::decode(&bytes, limits::PROOF_DIGESTS) {
            prop_assert_eq!(bytes_of(&proof), bytes.clone());
        }
        if let Ok(proof) = Consistency::decode(&bytes) {
            let mut again = Vec::new();
            proof.encode(&mut again);
            prop_assert_eq!(again, bytes.clone());
        }
        if let Ok((number, rest)) = read_varint(&bytes) {
            let mut again = Vec::new();
            write_varint(&mut again, number);
            again.extend_from_slice(rest);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn numbers_survive(number: u64, small in 0u64..300) {
        for number in [number, small, number >> 40] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, number);
            prop_assert_eq!(read_varint(&bytes), Ok((number, &[][..])));
        }
    }
}
