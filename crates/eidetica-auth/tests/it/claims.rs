use eidetica_auth::{
    AccessRequest, ClaimError, DeviceClaim, InviteProof, KeyError, Permission, RequestError, Scope,
    SignedRequest, limits,
};
use eidetica_entry::{Id, PublicKey};

use crate::{for_every_flipped_bit, id, name, secret};

const NOW_MS: u64 = 1_800_000_000_000;

fn claim(scope: Scope) -> DeviceClaim {
    DeviceClaim::make(
        &secret(1),
        secret(2).public(),
        scope,
        NOW_MS + limits::CLAIM_LIFETIME_MS,
    )
    .unwrap()
}

fn request() -> AccessRequest {
    AccessRequest {
        database: id(1),
        key: secret(1).public(),
        permission: Permission::Write(15),
        name: name("phone"),
        device: secret(2).public(),
        nonce: [7; 16],
    }
}

#[test]
fn a_claim_holds_for_its_device_until_its_end() {
    let claim = claim(Scope::All);
    let device = secret(2).public();
    let end = NOW_MS + limits::CLAIM_LIFETIME_MS;
    assert_eq!(claim.check(&device, NOW_MS), Ok(()));
    assert_eq!(claim.check(&device, end), Ok(()));
    assert_eq!(claim.check(&device, end + 1), Err(ClaimError::Expired));
    assert_eq!(
        claim.check(&secret(3).public(), NOW_MS),
        Err(ClaimError::OtherDevice)
    );
    assert_eq!(
        claim.check(&secret(1).public(), NOW_MS),
        Err(ClaimError::OtherDevice)
    );
    assert_eq!(claim.check(&device, end - limits::CLAIM_HORIZON_MS), Ok(()));
    assert_eq!(
        claim.check(&device, end - limits::CLAIM_HORIZON_MS - 1),
        Err(ClaimError::TooLong)
    );
    assert_eq!(claim.check(&device, 0), Err(ClaimError::TooLong));
}

#[test]
fn a_claim_covers_its_scope() {
    assert!(claim(Scope::All).covers(&id(9)));
    let some = claim(Scope::Databases(vec![id(3), id(1), id(3)]));
    assert!(some.covers(&id(1)) && some.covers(&id(3)) && !some.covers(&id(2)));
    assert_eq!(*some.scope(), Scope::Databases(vec![id(1), id(3)]));
    assert!(!claim(Scope::Databases(vec![])).covers(&id(1)));
}

#[test]
fn every_flipped_bit_of_a_claim_or_request_is_noticed() {
    for scope in [Scope::All, Scope::Databases(vec![id(1), id(2)])] {
        let bytes = claim(scope.clone()).encode();
        assert_eq!(DeviceClaim::decode(&bytes).unwrap(), claim(scope));
        for_every_flipped_bit(&bytes, |bytes, bit| {
            assert!(DeviceClaim::decode(bytes).is_err(), "bit {bit}")
        });
    }
    let signed = request().sign(&secret(1)).unwrap();
    assert_eq!(SignedRequest::decode(&signed.encode()).unwrap(), signed);
    for_every_flipped_bit(&signed.encode(), |bytes, bit| {
        assert!(SignedRequest::decode(bytes).is_err(), "bit {bit}")
    });
}

#[test]
fn a_claim_lists_databases_up_to_the_limit() {
    let ids = |count: usize| {
        let id = |n: usize| {
            Id::new(
                [n.to_le_bytes(), [0; 8], [0; 8], [0; 8]]
                    .concat()
                    .try_into()
                    .unwrap(),
            )
        };
        Scope::Databases((0..count).map(id).collect())
    };
    let bytes = claim(ids(limits::CLAIM_DATABASES)).encode();
    assert!(bytes.len() <= limits::CLAIM_BYTES);
    assert!(DeviceClaim::decode(&bytes).is_ok());
    let more = DeviceClaim::make(
        &secret(1),
        secret(2).public(),
        ids(limits::CLAIM_DATABASES + 1),
        NOW_MS,
    );
    assert_eq!(more, Err(ClaimError::Scope));
}

#[test]
fn claims_and_requests_name_real_keys() {
    let weak = PublicKey::new([0; 32]);
    let claim = DeviceClaim::make(&secret(1), weak, Scope::All, NOW_MS);
    assert_eq!(claim, Err(ClaimError::Key(KeyError::SmallOrder)));
    let request = AccessRequest {
        device: weak,
        ..request()
    };
    assert_eq!(
        request.sign(&secret(1)),
        Err(RequestError::Key(KeyError::SmallOrder))
    );
}

#[test]
fn nobody_asks_for_somebody_elses_key() {
    assert_eq!(request().sign(&secret(3)), Err(RequestError::OtherKey));
    // By hand: the signature of another key under a request that names key 1.
    let foreign = AccessRequest {
        key: secret(3).public(),
        ..request()
    }
    .sign(&secret(3))
    .unwrap()
    .encode();
    let mut spliced = request().sign(&secret(1)).unwrap().encode();
    let signature = spliced.len() - 64;
    spliced[signature..].copy_from_slice(&foreign[foreign.len() - 64..]);
    assert_eq!(
        SignedRequest::decode(&spliced),
        Err(RequestError::Signature)
    );
}

#[test]
fn a_signature_serves_one_purpose() {
    // The same key signs the same bytes under another tag: no claim, no request.
    let claim = claim(Scope::All);
    let mut bytes = claim.encode();
    let body = bytes.len() - 64;
    let without_tag = secret(1).sign(&bytes[..body]);
    bytes[body..].copy_from_slice(without_tag.as_bytes());
    assert_eq!(DeviceClaim::decode(&bytes), Err(ClaimError::Signature));
    let other_tag = secret(1).sign(
        &[
            b"eidetica/bootstrap-request/v1\0".as_slice(),
            &bytes[..body],
        ]
        .concat(),
    );
    bytes[body..].copy_from_slice(other_tag.as_bytes());
    assert_eq!(DeviceClaim::decode(&bytes), Err(ClaimError::Signature));
}

#[test]
fn requests_are_told_apart_by_all_that_they_say() {
    let base = request().id();
    assert_eq!(request().id(), base);
    assert_eq!(base.to_string().parse(), Ok(base));
    for other in [
        AccessRequest {
            database: id(2),
            ..request()
        },
        AccessRequest {
            key: secret(3).public(),
            ..request()
        },
        AccessRequest {
            permission: Permission::Admin(0),
            ..request()
        },
        AccessRequest {
            name: name("other"),
            ..request()
        },
        AccessRequest {
            device: secret(3).public(),
            ..request()
        },
        AccessRequest {
            nonce: [8; 16],
            ..request()
        },
    ] {
        assert_ne!(other.id(), base);
    }
}

#[test]
fn a_request_fits_its_limit() {
    let longest = AccessRequest {
        name: name(&"x".repeat(limits::NAME_BYTES)),
        ..request()
    };
    assert!(longest.sign(&secret(1)).unwrap().encode().len() <= limits::REQUEST_BYTES);
    assert!(matches!(
        SignedRequest::decode(&[0; limits::REQUEST_BYTES + 1]),
        Err(RequestError::Codec(_))
    ));
}

#[test]
fn serde_takes_no_claim_or_request_with_a_bad_signature() {
    let flip = |text: &str| {
        let at = text.rfind("\"").unwrap() - 1;
        let last = if &text[at..=at] == "0" { "1" } else { "0" };
        [&text[..at], last, &text[at + 1..]].concat()
    };
    let text = serde_json::to_string(&claim(Scope::All)).unwrap();
    assert_eq!(
        serde_json::from_str::<DeviceClaim>(&text).unwrap(),
        claim(Scope::All)
    );
    assert!(serde_json::from_str::<DeviceClaim>(&flip(&text)).is_err());
    let signed = request().sign(&secret(1)).unwrap();
    let text = serde_json::to_string(&signed).unwrap();
    assert_eq!(
        serde_json::from_str::<SignedRequest>(&text).unwrap(),
        signed
    );
    assert!(serde_json::from_str::<SignedRequest>(&flip(&text)).is_err());
}

#[test]
fn an_invite_is_redeemed_for_one_request_only() {
    let (invite, signed) = (secret(5), request().sign(&secret(1)).unwrap());
    let proof = InviteProof::make(&invite, &signed);
    assert_eq!(proof.invite, invite.public());
    assert!(proof.is_of(&signed));
    let mut other = request();
    other.nonce = [8; 16];
    assert!(!proof.is_of(&other.sign(&secret(1)).unwrap()));
    let mut thief = request();
    thief.key = secret(3).public();
    assert!(!proof.is_of(&thief.sign(&secret(3)).unwrap()));
    // Whoever knows the invite's name alone makes no proof of it.
    let mut forged = InviteProof::make(&secret(6), &signed);
    forged.invite = invite.public();
    assert!(!forged.is_of(&signed));
}
