//! The vectors of ZIP-215: every encoding of every point of small order as the key and as R. Plain
//! ZIP-215 accepts all of them; that is why keys of small order are refused before it is asked.

use super::*;

/// All 14 encodings of the 8 points of small order, canonical and not.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut encodings: Vec<_> = curve25519_dalek::constants::EIGHT_TORSION
        .iter()
        .map(|point| point.compress().0)
        .collect();
    for low in [0x01, 0xec, 0xed, 0xed, 0xee, 0xee] {
        for sign in [0x00, 0x80] {
            let mut bytes = [if low == 0x01 { 0x00 } else { 0xff }; 32];
            bytes[0] = low;
            bytes[31] = if low == 0x01 { sign } else { 0x7f | sign };
            encodings.push(bytes);
        }
    }
    encodings.sort_unstable();
    encodings.dedup();
    encodings
}

#[test]
fn the_table_holds_exactly_the_encodings_of_small_order() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    for bytes in &encodings {
        let point = curve25519_dalek::edwards::CompressedEdwardsY(*bytes)
            .decompress()
            .unwrap();
        assert!(point.is_small_order());
        assert!(is_small_order(bytes), "{bytes:02x?}");
    }
    // Flipping any other bit leaves the table.
    for bytes in &encodings {
        for bit in 0..255 {
            let mut other = *bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(is_small_order(&other), encodings.contains(&other));
        }
    }
}

#[test]
fn plain_zip_215_accepts_its_vectors_singly_and_in_one_batch() {
    let encodings = small_order_encodings();
    let mut items = Vec::new();
    for key in &encodings {
        for r in &encodings {
            let signature = Signature::new([*r, [0; 32]].concat().try_into().unwrap());
            let key = PublicKey::new(*key);
            let signed = Signed {
                key: &key,
                message: b"Zcash",
                signature: &signature,
            };
            let item = item(signed);
            assert!(item.clone().verify_single().is_ok());
            items.push((items.len(), item));
            assert!(!verify(&key, b"Zcash", &signature), "refused for its key");
            assert_eq!(verify_batch(&[signed], [1; 32]), [0]);
        }
    }
    assert_eq!(items.len(), 196);
    assert!(holds(&items, &mut StdRng::from_seed([7; 32])));
    assert!(bad_items(&items, &mut StdRng::from_seed([8; 32])).is_empty());
}
