use eidetica_auth::{
    AuthRecord, CodecError, Delegation, KeyError, Permission, Revocation, Right, SettingsError,
    SettingsPayload, limits,
};
use eidetica_entry::{Id, Ids, PublicKey};

use crate::{for_every_flipped_bit, gives, id, name, secret};

fn sample() -> SettingsPayload {
    let grant = AuthRecord::grant(secret(1).public(), Permission::Write(10), name("laptop"));
    let records = vec![
        AuthRecord::Wildcard(Some(Permission::Read)),
        gives(2, Right::Recovery),
        grant,
    ];
    SettingsPayload::new(records, b"doc".to_vec().into()).unwrap()
}

#[test]
fn payloads_go_there_and_back_and_their_bytes_are_frozen() {
    let bytes = sample().encode();
    assert_eq!(SettingsPayload::decode(&bytes).unwrap(), sample());
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "5defe23cdc897267c82314ce4ef210335b0c345bde4658f59b1921865c15b864",
        "the settings format changed"
    );
    let empty = SettingsPayload::default();
    assert_eq!(empty.encode().as_ref(), [[1].as_slice(), &[0; 16]].concat());
    assert_eq!(SettingsPayload::decode(&empty.encode()).unwrap(), empty);
}

#[test]
fn flipped_bits_are_refused_or_say_something_else() {
    let bytes = sample().encode();
    for_every_flipped_bit(&bytes, |flipped, bit| {
        if let Ok(other) = SettingsPayload::decode(flipped) {
            assert_ne!(other, sample(), "bit {bit}");
            assert_eq!(
                other.encode().as_ref(),
                flipped,
                "bit {bit}: one encoding of each value"
            );
        }
    });
    for len in 0..bytes.len() {
        assert!(
            SettingsPayload::decode(&bytes[..len]).is_err(),
            "cut at {len}"
        );
    }
    let trailing = [bytes.as_ref(), &[0]].concat();
    assert_eq!(
        SettingsPayload::decode(&trailing),
        Err(CodecError::NotCanonical.into())
    );
}

#[test]
fn unknown_versions_and_kinds_are_refused_by_name() {
    let mut bytes = sample().encode().to_vec();
    bytes[0] = 2;
    assert_eq!(
        SettingsPayload::decode(&bytes),
        Err(SettingsError::Version(2))
    );
    // version, count, length of the first record, its kind
    bytes[0] = 1;
    bytes[17..19].copy_from_slice(&[0xfe, 0xca]);
    assert_eq!(
        SettingsPayload::decode(&bytes),
        Err(SettingsError::UnknownKind(0xcafe))
    );
}

#[test]
fn records_about_one_thing_stand_once() {
    for records in [
        vec![gives(1, Permission::Read), gives(1, Permission::Write(1))],
        vec![
            AuthRecord::Wildcard(None),
            AuthRecord::Wildcard(Some(Permission::Read)),
        ],
    ] {
        assert_eq!(
            SettingsPayload::new(records, Default::default()),
            Err(SettingsError::NotSorted)
        );
    }
    // Out of order on the wire: swap the two grants, which are equally long.
    let records = vec![gives(1, Permission::Read), gives(2, Permission::Read)];
    let bytes = SettingsPayload::new(records, Default::default())
        .unwrap()
        .encode();
    let record = (bytes.len() - 17) / 2;
    let (head, rest) = bytes.split_at(9);
    let swapped = [
        head,
        &rest[record..2 * record],
        &rest[..record],
        &rest[2 * record..],
    ]
    .concat();
    assert_eq!(swapped.len(), bytes.len());
    assert_eq!(
        SettingsPayload::decode(&swapped),
        Err(SettingsError::NotSorted)
    );
}

#[test]
fn rights_for_no_key_and_wildcards_above_write_are_malformed() {
    let key = PublicKey::new([0; 32]);
    let record = AuthRecord::grant(key, Permission::Read, name(""));
    let error = SettingsPayload::new(vec![record], Default::default()).unwrap_err();
    assert_eq!(
        error,
        SettingsError::Key {
            key,
            error: KeyError::SmallOrder
        }
    );
    let wildcard = |permission| {
        SettingsPayload::new(
            vec![AuthRecord::Wildcard(Some(permission))],
            Default::default(),
        )
    };
    assert!(wildcard(Permission::Write(0)).is_ok());
    let admin = Permission::Admin(u32::MAX);
    assert_eq!(wildcard(admin), Err(SettingsError::Wildcard(admin)));
}

#[test]
fn records_are_taken_up_to_the_limit() {
    let grants = |count: usize| {
        let key = |n: usize| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            eidetica_auth::SecretKey::from_bytes(&seed).public()
        };
        (0..count)
            .map(|n| AuthRecord::grant(key(n), Permission::Read, name("")))
            .collect::<Vec<_>>()
    };
    let payload = SettingsPayload::new(grants(limits::RECORDS), Default::default()).unwrap();
    assert_eq!(
        SettingsPayload::decode(&payload.encode())
            .unwrap()
            .records()
            .len(),
        limits::RECORDS
    );
    let error = SettingsPayload::new(grants(limits::RECORDS + 1), Default::default()).unwrap_err();
    assert_eq!(error, SettingsError::TooManyRecords(limits::RECORDS + 1));
}

#[test]
fn claimed_lengths_are_refused_before_anything_is_allocated() {
    for claim in [u64::MAX, 1 << 40, 1 << 32] {
        let mut bytes = vec![1];
        bytes.extend(claim.to_le_bytes());
        assert_eq!(
            SettingsPayload::decode(&bytes),
            Err(CodecError::Malformed.into())
        );
        let mut bytes = vec![1];
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(claim.to_le_bytes());
        assert_eq!(
            SettingsPayload::decode(&bytes),
            Err(CodecError::Malformed.into())
        );
    }
    let long = vec![1; limits::SETTINGS_BYTES + 1];
    assert!(matches!(
        SettingsPayload::decode(&long),
        Err(SettingsError::Codec(CodecError::TooLong { .. }))
    ));
}

#[test]
fn the_name_of_a_key_is_checked_on_the_wire() {
    let record = AuthRecord::grant(secret(1).public(), Permission::Read, name("abc"));
    let bytes = SettingsPayload::new(vec![record], Default::default())
        .unwrap()
        .encode();
    let at = bytes
        .windows(3)
        .position(|window| window == b"abc")
        .unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at] = 0x1b;
    assert!(matches!(
        SettingsPayload::decode(&bytes),
        Err(SettingsError::Name(_))
    ));
}

fn ids(count: usize) -> Ids {
    let id = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Id::new(bytes)
    };
    (0..count).map(id).collect()
}

fn revocation(cut: Option<Ids>, replaces: Ids) -> AuthRecord {
    AuthRecord::Revoke(Revocation {
        to: Some(Permission::Read),
        cut,
        replaces,
        reason: name("left"),
        ..Revocation::of(secret(1).public())
    })
}

fn delegation(floor: Ids) -> AuthRecord {
    AuthRecord::Delegate(Delegation {
        database: id(7),
        bound: Some(Permission::Write(3)),
        floor,
        name: name("guild"),
    })
}

fn settings(record: AuthRecord) -> Result<SettingsPayload, SettingsError> {
    SettingsPayload::new(vec![record], Default::default())
}

#[test]
fn what_takes_moves_adopts_and_delegates_goes_there_and_back_and_its_bytes_are_frozen() {
    let rotation = AuthRecord::Rotate {
        to: secret(2).public(),
        name: name("phone"),
    };
    let adoption = AuthRecord::Adopt { entries: ids(2) };
    let records = vec![
        delegation(ids(2)),
        adoption,
        rotation,
        AuthRecord::Renounce,
        revocation(Some(ids(3)), ids(1)),
    ];
    let payload = SettingsPayload::new(records, Default::default()).unwrap();
    let bytes = payload.encode();
    assert_eq!(SettingsPayload::decode(&bytes).unwrap(), payload);
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "26095765ef9079ffc9fe3cec9d7afb777683a871d40dda378e30416fcfb46579",
        "the settings format changed"
    );
    for_every_flipped_bit(&bytes, |flipped, bit| {
        if let Ok(other) = SettingsPayload::decode(flipped) {
            assert_ne!(other, payload, "bit {bit}");
            assert_eq!(other.encode().as_ref(), flipped, "bit {bit}");
        }
    });
}

#[test]
fn lists_of_ids_are_taken_up_to_the_limit() {
    let most = limits::RECORD_IDS;
    let over = most + 1;
    for record in [
        revocation(Some(ids(most)), ids(most)),
        AuthRecord::Adopt { entries: ids(most) },
        delegation(ids(most)),
    ] {
        let bytes = settings(record).unwrap().encode();
        assert!(SettingsPayload::decode(&bytes).is_ok());
    }
    for record in [
        revocation(Some(ids(over)), ids(0)),
        revocation(None, ids(over)),
        AuthRecord::Adopt { entries: ids(over) },
        delegation(ids(over)),
    ] {
        assert_eq!(settings(record), Err(SettingsError::Ids(over)));
    }
    for record in [AuthRecord::Adopt { entries: ids(0) }, delegation(ids(0))] {
        assert_eq!(settings(record), Err(SettingsError::Ids(0)));
    }
}

#[test]
fn lists_of_ids_stand_in_order_on_the_wire() {
    let record = AuthRecord::Adopt { entries: ids(2) };
    let mut bytes = settings(record).unwrap().encode().to_vec();
    // The last two ids before the length of the empty document.
    let end = bytes.len() - 8;
    let (one, two) = bytes[end - 64..end].split_at_mut(32);
    one.copy_from_slice(&[9; 32]);
    two.copy_from_slice(&[8; 32]);
    assert_eq!(
        SettingsPayload::decode(&bytes),
        Err(SettingsError::NotSorted)
    );
}
