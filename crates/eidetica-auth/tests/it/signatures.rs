use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::Scalar,
};
use ed25519_dalek::{Digest, Sha512};
use eidetica_auth::{Signed, limits, verify, verify_batch};
use eidetica_entry::{PublicKey, Signature};

use crate::{for_every_flipped_bit, secret};

const MESSAGE: &[u8] = b"a message\0";

/// Key, message, signature.
struct Case(PublicKey, Vec<u8>, Signature);

impl Case {
    fn signed(&self) -> Signed<'_> {
        Signed {
            key: &self.0,
            message: &self.1,
            signature: &self.2,
        }
    }

    fn verify(&self) -> bool {
        verify(&self.0, &self.1, &self.2)
    }
}

fn honest(n: usize) -> Case {
    let key = secret((n % 7) as u8);
    let message = n.to_le_bytes().to_vec();
    let signature = key.sign(&message);
    Case(key.public(), message, signature)
}

/// Single and batch verdicts on all of `cases`, which must agree, alone and together.
fn verdicts(cases: &[Case]) -> Vec<bool> {
    let single: Vec<bool> = cases.iter().map(Case::verify).collect();
    let signed: Vec<_> = cases.iter().map(Case::signed).collect();
    let bad = verify_batch(&signed, [9; 32]);
    let batch: Vec<bool> = (0..cases.len())
        .map(|position| !bad.contains(&position))
        .collect();
    assert_eq!(single, batch);
    for (signed, single) in signed.iter().zip(&single) {
        assert_eq!(verify_batch(&[*signed], [5; 32]).is_empty(), *single);
    }
    single
}

#[test]
fn every_flipped_bit_of_signature_key_and_message_is_noticed() {
    let Case(key, message, signature) = honest(1);
    for_every_flipped_bit(signature.as_bytes(), |bytes, bit| {
        assert!(
            !verify(&key, &message, &Signature::new(bytes.try_into().unwrap())),
            "signature bit {bit}"
        );
    });
    for_every_flipped_bit(key.as_bytes(), |bytes, bit| {
        assert!(
            !verify(
                &PublicKey::new(bytes.try_into().unwrap()),
                &message,
                &signature
            ),
            "key bit {bit}"
        );
    });
    for_every_flipped_bit(&message, |bytes, bit| {
        assert!(!verify(&key, bytes, &signature), "message bit {bit}");
    });
}

#[test]
fn a_second_form_of_s_is_refused() {
    let Case(key, message, signature) = honest(1);
    let order: [u8; 32] = {
        let mut bytes = (-Scalar::ONE).to_bytes();
        bytes[0] += 1;
        bytes
    };
    let (r, s) = signature.as_bytes().split_at(32);
    let mut carry = 0;
    let shifted: Vec<u8> = s
        .iter()
        .zip(order)
        .map(|(a, b)| {
            carry += u16::from(*a) + u16::from(b);
            let byte = carry as u8;
            carry >>= 8;
            byte
        })
        .collect();
    let malleated = Signature::new([r, &shifted].concat().try_into().unwrap());
    assert_eq!(verdicts(&[Case(key, message, malleated)]), [false]);
}

/// Signatures by an honest or a torsioned key with a torsioned R: ZIP-215 takes them all, single
/// and in batches, where the cofactorless rule of other verifiers would differ between the two.
#[test]
fn torsion_in_key_and_r_gets_one_verdict_singly_and_in_batches() {
    let (a, r) = (Scalar::from(1234567u64), Scalar::from(7654321u64));
    let mut cases = Vec::new();
    for key_torsion in EIGHT_TORSION {
        for r_torsion in EIGHT_TORSION {
            for r in [r, Scalar::ZERO] {
                let key = (ED25519_BASEPOINT_POINT * a + key_torsion).compress().0;
                let point: EdwardsPoint = ED25519_BASEPOINT_POINT * r + r_torsion;
                let hash = Sha512::new()
                    .chain_update(point.compress().0)
                    .chain_update(key)
                    .chain_update(MESSAGE);
                let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
                let s = r + k * a;
                let bytes = [point.compress().0, s.to_bytes()].concat();
                cases.push(Case(
                    PublicKey::new(key),
                    MESSAGE.to_vec(),
                    Signature::new(bytes.try_into().unwrap()),
                ));
            }
        }
    }
    assert!(verdicts(&cases).into_iter().all(|good| good));
    // The same with a wrong message, among good ones.
    for case in cases.iter_mut().step_by(3) {
        case.1.push(0);
    }
    let good = verdicts(&cases);
    assert!(
        good.iter()
            .enumerate()
            .all(|(n, good)| *good == (n % 3 != 0))
    );
}

#[test]
fn undecodable_keys_and_r_are_bad_and_spoil_nothing_else() {
    let mut not_a_point = [0; 32];
    not_a_point[0] = 2;
    let mut cases: Vec<_> = (0..40).map(honest).collect();
    cases[3].0 = PublicKey::new(not_a_point);
    let s = cases[17].2.as_bytes()[32..].to_vec();
    cases[17].2 = Signature::new([not_a_point.to_vec(), s].concat().try_into().unwrap());
    cases[20].0 = PublicKey::new([0; 32]);
    let good = verdicts(&cases);
    assert!(
        good.iter()
            .enumerate()
            .all(|(n, good)| *good != [3, 17, 20].contains(&n))
    );
}

#[test]
fn bad_signatures_are_found_wherever_they_stand() {
    let total = 2 * limits::BATCH + 1;
    let mut cases: Vec<_> = (0..total).map(honest).collect();
    for len in [
        0,
        1,
        limits::BATCH_FLOOR,
        limits::BATCH_FLOOR + 1,
        limits::BATCH - 1,
        limits::BATCH,
        limits::BATCH + 1,
        total,
    ] {
        let signed: Vec<_> = cases[..len].iter().map(Case::signed).collect();
        assert!(verify_batch(&signed, [3; 32]).is_empty(), "{len} good ones");
    }
    let bad = [
        0,
        1,
        17,
        511,
        512,
        limits::BATCH - 1,
        limits::BATCH,
        2 * limits::BATCH - 1,
        2 * limits::BATCH,
    ];
    for position in bad {
        cases[position].1.push(1);
    }
    let signed: Vec<_> = cases.iter().map(Case::signed).collect();
    assert_eq!(verify_batch(&signed, [3; 32]), bad);
    let all_bad: Vec<_> = signed
        .iter()
        .map(|signed| Signed {
            message: b"other",
            ..*signed
        })
        .collect();
    assert_eq!(
        verify_batch(&all_bad[..100], [3; 32]),
        (0..100).collect::<Vec<_>>()
    );
}
