//! The handshake: what it proves, and what it refuses.

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, Scope, SecretKey, verify};
use eidetica_entry::Signature;
use eidetica_protocol::{
    Refusal,
    handshake::{Acceptor, HandshakeError, Initiator, PeerIdentity, Side, VERSIONS},
    limits,
};

use crate::pair::{NOW, key};

const BINDING: [u8; 32] = [0xb1; 32];

fn side(device: &SecretKey, binding: [u8; 32], nonce: u8) -> Side<'_> {
    Side {
        device,
        binding,
        nonce: [nonce; 32],
        versions: VERSIONS,
    }
}

/// A whole handshake; what the acceptor learns.
pub(crate) fn shake(
    initiator: &SecretKey,
    acceptor: &SecretKey,
    claims: &[DeviceClaim],
) -> Result<PeerIdentity, HandshakeError> {
    let (waiting, hello) = Initiator::start(&side(initiator, BINDING, 1), None)?;
    let (server, answer) = Acceptor::hello(&side(acceptor, BINDING, 2), &hello)?;
    let (proving, proof) = waiting.answered(&answer, initiator, claims)?;
    let (identity, welcome) = server.proof(&proof)?;
    let other = proving.welcomed(&welcome)?;
    assert_eq!(
        (other.device, other.version),
        (acceptor.public(), VERSIONS[0])
    );
    Ok(identity)
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let identity = shake(&key(1), &key(2), &[]).unwrap();
    assert_eq!(
        (identity.device, identity.version),
        (key(1).public(), VERSIONS[0])
    );
    assert_eq!(identity.proven.keys_for_all(NOW), [key(1).public()]);
}

#[test]
fn claims_prove_keys_while_they_last() {
    let claim = DeviceClaim::make(&key(9), key(1).public(), Scope::All, NOW + 5).unwrap();
    let foreign = DeviceClaim::make(&key(8), key(77).public(), Scope::All, NOW + 5).unwrap();
    // An honest initiator does not even show what is not for its own device.
    let identity = shake(&key(1), &key(2), &[claim, foreign]).unwrap();
    assert_eq!(
        identity.proven.keys_for_all(NOW + 5),
        [key(1).public(), key(9).public()]
    );
    assert_eq!(identity.proven.keys_for_all(NOW + 6), [key(1).public()]);
}

#[test]
fn a_claim_shown_by_another_device_ends_the_handshake() {
    // A member's proof, shown by a thief: the claim's bytes are put into the thief's own proof.
    let stolen = DeviceClaim::make(&key(9), key(77).public(), Scope::All, NOW + 5).unwrap();
    let dressed = DeviceClaim::make(&key(8), key(1).public(), Scope::All, NOW + 5).unwrap();
    let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (server, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    let (_, proof) = waiting
        .answered(&answer, &key(1), std::slice::from_ref(&dressed))
        .unwrap();
    let (own, other) = (dressed.encode(), stolen.encode());
    assert_eq!(own.len(), other.len());
    let mut bytes = proof.to_vec();
    let at = bytes
        .windows(own.len())
        .position(|window| window == own)
        .unwrap();
    bytes[at..at + own.len()].copy_from_slice(&other);
    let error = server.proof(&bytes.into()).unwrap_err();
    assert!(matches!(error, HandshakeError::Claim(_)), "{error:?}");
}

#[test]
fn a_pinned_key_admits_nobody_else() {
    let start = |pinned| Initiator::start(&side(&key(1), BINDING, 1), Some(pinned)).unwrap();
    let (waiting, hello) = start(key(3).public());
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    let error = waiting.answered(&answer, &key(1), &[]).unwrap_err();
    assert_eq!(
        error,
        HandshakeError::WrongKey {
            expected: key(3).public(),
            found: key(2).public()
        }
    );
    let (waiting, hello) = start(key(2).public());
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    waiting.answered(&answer, &key(1), &[]).unwrap();
}

#[test]
fn a_recorded_transcript_is_worth_nothing() {
    let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    let (_, proof) = waiting.answered(&answer, &key(1), &[]).unwrap();
    // Replayed to the acceptor, even on a channel with the same binding: its nonce is fresh.
    let (server, _) = Acceptor::hello(&side(&key(2), BINDING, 3), &hello).unwrap();
    assert_eq!(server.proof(&proof).unwrap_err(), HandshakeError::Signature);
    // Replayed to the initiator: its nonce is fresh.
    let (waiting, _) = Initiator::start(&side(&key(1), BINDING, 4), None).unwrap();
    assert_eq!(
        waiting.answered(&answer, &key(1), &[]).unwrap_err(),
        HandshakeError::Signature
    );
}

#[test]
fn a_man_in_the_middle_cannot_carry_it_over() {
    // Two honest peers, each on a channel with the man in the middle: the bindings differ.
    let (waiting, hello) = Initiator::start(&side(&key(1), [1; 32], 1), None).unwrap();
    let (_, answer) = Acceptor::hello(&side(&key(2), [2; 32], 2), &hello).unwrap();
    assert_eq!(
        waiting.answered(&answer, &key(1), &[]).unwrap_err(),
        HandshakeError::Signature
    );
    // Nor if he completes one half himself.
    let (waiting, hello) = Initiator::start(&side(&key(1), [1; 32], 1), None).unwrap();
    let (_, answer) = Acceptor::hello(&side(&key(5), [1; 32], 2), &hello).unwrap();
    let (_, proof) = waiting.answered(&answer, &key(1), &[]).unwrap();
    let (server, _) = Acceptor::hello(&side(&key(2), [2; 32], 2), &hello).unwrap();
    assert_eq!(server.proof(&proof).unwrap_err(), HandshakeError::Signature);
}

#[test]
fn reflected_messages_are_refused() {
    // The initiator's own hello comes back to its accepting side.
    let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    assert_eq!(
        Acceptor::hello(&side(&key(1), BINDING, 2), &hello).unwrap_err(),
        HandshakeError::OwnKey
    );
    // Messages out of turn.
    assert!(matches!(
        waiting.answered(&hello, &key(1), &[]),
        Err(HandshakeError::Message(_))
    ));
    let (server, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    assert!(matches!(
        server.proof(&answer),
        Err(HandshakeError::Message(_))
    ));
}

#[test]
fn an_acceptors_signature_is_no_initiators() {
    let (_, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (server, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    // The answer's signature is its last 64 bytes; a proof is a signature and no claims.
    let forged: Vec<u8> = [&[0x12], &answer[answer.len() - 64..], &[0]].concat();
    assert_eq!(
        server.proof(&forged.into()).unwrap_err(),
        HandshakeError::Signature
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (_, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let flip = |frame: &Bytes, bit: usize| {
        let mut bytes = frame.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    };
    for bit in 0..hello.len() * 8 {
        let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
        if let Ok((_, answer)) = Acceptor::hello(&side(&key(2), BINDING, 2), &flip(&hello, bit)) {
            waiting.answered(&answer, &key(1), &[]).unwrap_err();
        }
    }
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    for bit in 0..answer.len() * 8 {
        let (waiting, _) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
        waiting
            .answered(&flip(&answer, bit), &key(1), &[])
            .unwrap_err();
    }
    let (waiting, _) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (_, proof) = waiting.answered(&answer, &key(1), &[]).unwrap();
    for bit in 0..proof.len() * 8 {
        let (server, _) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
        server.proof(&flip(&proof, bit)).unwrap_err();
    }
}

#[test]
fn versions_are_agreed_on_or_cleanly_refused() {
    let offer = |versions: &'static [u16]| Side {
        versions,
        ..side(Box::leak(Box::new(key(1))), BINDING, 1)
    };
    let serve = |versions: &'static [u16]| Side {
        versions,
        ..side(Box::leak(Box::new(key(2))), BINDING, 2)
    };
    let (waiting, hello) = Initiator::start(&offer(&[7, 3, 1]), None).unwrap();
    let (server, answer) = Acceptor::hello(&serve(&[3, 1]), &hello).unwrap();
    let (proving, proof) = waiting.answered(&answer, &key(1), &[]).unwrap();
    let (identity, welcome) = server.proof(&proof).unwrap();
    assert_eq!(
        (
            identity.version,
            proving.welcomed(&welcome).unwrap().version
        ),
        (3, 3)
    );

    let (waiting, hello) = Initiator::start(&offer(&[9]), None).unwrap();
    let error = Acceptor::hello(&serve(VERSIONS), &hello).unwrap_err();
    assert_eq!(error, HandshakeError::Version { theirs: vec![9] });
    let error = waiting
        .answered(&error.refusal(), &key(1), &[])
        .unwrap_err();
    assert_eq!(
        error,
        HandshakeError::Version {
            theirs: VERSIONS.to_vec()
        }
    );

    // An answer that settles for less than both can do is no honest one.
    let (waiting, hello) = Initiator::start(&offer(&[2, 1]), None).unwrap();
    let (_, answer) = Acceptor::hello(&serve(&[2, 1]), &hello).unwrap();
    let mut downgraded = answer.to_vec();
    assert_eq!(downgraded[1], 2);
    downgraded[1] = 1;
    waiting
        .answered(&downgraded.into(), &key(1), &[])
        .unwrap_err();
}

#[test]
fn refusals_reach_the_initiator() {
    let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    let (proving, _) = waiting.answered(&answer, &key(1), &[]).unwrap();
    let error = proving
        .welcomed(&HandshakeError::Signature.refusal())
        .unwrap_err();
    assert_eq!(error, HandshakeError::Refused(Refusal::IDENTITY));
}

#[test]
fn limits_hold_at_the_limit_and_one_above() {
    let many: Vec<u16> = (1..=limits::VERSIONS as u16 + 1).collect();
    let device = key(1);
    let start = |versions| {
        Initiator::start(
            &Side {
                versions,
                ..side(&device, BINDING, 1)
            },
            None,
        )
    };
    let (_, hello) = start(&many[..limits::VERSIONS]).unwrap();
    Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    start(&many).unwrap_err();
}

/// What is signed, written down from `docs/formats/protocol.md`.
fn transcript(role: u8, versions: [&[u16]; 2], version: u16) -> Vec<u8> {
    let mut out = b"eidetica/handshake/v1\0".to_vec();
    out.push(role);
    out.extend(key(1).public().as_bytes());
    out.extend(key(2).public().as_bytes());
    out.extend([1; 32]);
    out.extend([2; 32]);
    for versions in versions {
        out.extend((versions.len() as u64).to_le_bytes());
        out.extend(versions.iter().flat_map(|version| version.to_le_bytes()));
    }
    out.extend(version.to_le_bytes());
    out.extend(BINDING);
    out
}

#[test]
fn what_is_signed_is_what_the_format_says() {
    let (waiting, hello) = Initiator::start(&side(&key(1), BINDING, 1), None).unwrap();
    let (_, answer) = Acceptor::hello(&side(&key(2), BINDING, 2), &hello).unwrap();
    let (_, proof) = waiting.answered(&answer, &key(1), &[]).unwrap();
    let signature = |bytes: &[u8]| Signature::new(bytes.try_into().unwrap());
    let of_answer = signature(&answer[answer.len() - 64..]);
    let of_proof = signature(&proof[1..65]);
    let versions = [VERSIONS, VERSIONS];
    assert!(verify(
        &key(2).public(),
        &transcript(2, versions, VERSIONS[0]),
        &of_answer
    ));
    assert!(verify(
        &key(1).public(),
        &transcript(1, versions, VERSIONS[0]),
        &of_proof
    ));
    assert!(!verify(
        &key(1).public(),
        &transcript(2, versions, VERSIONS[0]),
        &of_proof
    ));
}

#[test]
fn an_acceptor_that_picks_another_version_is_refused_though_it_signs() {
    for version in [1, 3] {
        let own = key(1);
        let offer = Side {
            versions: &[2, 1],
            ..side(&own, BINDING, 1)
        };
        let (waiting, _) = Initiator::start(&offer, None).unwrap();
        let signature = key(2).sign(&transcript(2, [&[2, 1], &[2, 1]], version));
        let mut answer = vec![0x11, version as u8, 2, 2, 1];
        answer.extend(key(2).public().as_bytes());
        answer.extend([2; 32]);
        answer.extend(signature.as_bytes());
        let error = waiting.answered(&answer.into(), &own, &[]).unwrap_err();
        assert_eq!(error, HandshakeError::Version { theirs: vec![2, 1] });
    }
}
