//! Canonical bytes of headers and entries.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_entry::{
    Author, Draft, Entry, EntryError, Header, Height, Id, Ids, ParentInfo, PublicKey, Signature,
    StoreName, Via, derive_height, limits,
};
use proptest::prelude::*;

use crate::support::*;

proptest! {
    #[test]
    fn decode_undoes_encode(entry in any_entry()) {
        let bytes = entry.encode();
        prop_assert_eq!(bytes.len(), entry.encoded_len());
        let decoded = Entry::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &entry);
        prop_assert_eq!(decoded.header(), entry.header());
        prop_assert_eq!(Header::decode(entry.header_bytes()).unwrap(), entry.header().clone());
        prop_assert_eq!(Header::id_of(entry.header_bytes()), entry.id());
        prop_assert_eq!(&entry.compact(), &entry);
    }

    /// Whatever decodes is the one encoding of what it decodes to.
    #[test]
    fn only_canonical_bytes_decode(
        entry in any_entry(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut bytes = entry.encode();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(decoded) = Entry::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    /// The layout is that of bincode 2 with fixed-width little-endian integers.
    #[test]
    fn header_bytes_are_bincode(entry in any_entry()) {
        let raw = |ids: &Ids| ids.iter().map(|id| id.to_bytes()).collect::<Vec<_>>();
        let h = entry.header();
        let stores: Vec<(&str, [u8; 32], u32)> = h.stores.iter()
            .map(|s| (s.name.as_str(), s.payload_hash.to_bytes(), s.payload_len)).collect();
        let via: Vec<([u8; 32], Vec<[u8; 32]>)> =
            h.author.via.iter().map(|v| (v.database.to_bytes(), raw(&v.tips))).collect();
        let mirror = (
            h.version, h.database.to_bytes(), raw(&h.parents), h.height.0, raw(&h.settings),
            stores, (h.author.key.to_bytes(), via), h.timestamp_ms,
        );
        let config = bincode::config::standard().with_little_endian().with_fixed_int_encoding();
        prop_assert_eq!(bincode::encode_to_vec(mirror, config).unwrap(), entry.header_bytes().to_vec());
    }
}

#[test]
fn every_flipped_bit_is_refused_or_another_entry() {
    let mut history = History::new();
    let parents = [history.database];
    let last = history.add(
        &parents,
        payloads([("_settings", b"s"), ("notes", b"hello")]),
        3,
        17,
    );
    let entry = history.entries.iter().find(|e| e.id() == last).unwrap();
    let bytes = entry.encode();
    let signature_bits = entry.header_bytes().len() * 8..(entry.header_bytes().len() + 64) * 8;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match Entry::decode(&flipped) {
            // The id does not cover the signature; verifying it is another crate's part.
            Ok(other) if signature_bits.contains(&bit) => {
                assert_ne!(other.signature(), entry.signature())
            }
            Ok(other) => assert_ne!(other.id(), entry.id(), "bit {bit}"),
            Err(_) => {}
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let bytes = root(1).encode();
    for len in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(Entry::decode(&longer), Err(EntryError::Trailing(1)));
}

#[test]
fn claimed_lengths_are_refused_before_allocation() {
    let header = header_of(1, 1, 1);
    let bytes = header.encode();
    // version, database, then the parents' length; behind one parent and the height the settings' length.
    let lengths = [33, 33 + 8 + 32 + 8, 33 + 8 + 32 + 8 + 8 + 32];
    for at in lengths {
        for claim in [u64::from(u32::MAX), u64::MAX, 1 << 40, 65] {
            let mut claiming = bytes.clone();
            claiming[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            let error = Header::decode(&claiming).unwrap_err();
            assert!(
                matches!(
                    error,
                    EntryError::Limit { .. } | EntryError::Truncated { .. }
                ),
                "{error}"
            );
        }
    }
    assert!(matches!(
        Entry::decode(&vec![1; limits::ENTRY_BYTES + 1]),
        Err(EntryError::Limit { .. })
    ));
}

#[test]
fn list_limits_hold_exactly() {
    let limit_of = |header: Header| match Header::decode(&header.encode()) {
        Err(EntryError::Limit { what, .. }) => {
            assert!(matches!(header.validate(), Err(EntryError::Limit { .. })));
            Some(what)
        }
        other => {
            assert_eq!(other.unwrap(), header);
            None
        }
    };
    assert_eq!(
        limit_of(header_of(limits::PARENTS, limits::SETTINGS, limits::STORES)),
        None
    );
    assert_eq!(
        limit_of(header_of(limits::PARENTS + 1, 1, 1)),
        Some("parents")
    );
    assert_eq!(
        limit_of(header_of(1, limits::SETTINGS + 1, 1)),
        Some("settings")
    );
    assert_eq!(
        limit_of(header_of(1, 1, limits::STORES + 1)),
        Some("stores")
    );

    let via = |hops: usize, tips: u64| Author {
        key: key(1),
        via: (0..hops)
            .map(|n| Via {
                database: id(n as u64),
                tips: (0..tips).map(id).collect(),
            })
            .collect(),
    };
    let authored = |author| Header {
        author,
        ..header_of(1, 1, 1)
    };
    assert_eq!(
        limit_of(authored(via(limits::VIA_HOPS, limits::VIA_TIPS as u64))),
        None
    );
    assert_eq!(
        limit_of(authored(via(limits::VIA_HOPS + 1, 1))),
        Some("delegation hops")
    );
    assert_eq!(
        limit_of(authored(via(1, limits::VIA_TIPS as u64 + 1))),
        Some("delegation tips")
    );

    let high = |height| Header {
        height: Height(height),
        ..header_of(1, 1, 1)
    };
    assert_eq!(limit_of(high(limits::HEIGHT)), None);
    assert_eq!(limit_of(high(limits::HEIGHT + 1)), Some("height"));
    assert_eq!(limit_of(high(u64::MAX)), Some("height"));
}

#[test]
fn shapes_are_checked() {
    let refused = |header: Header| match Header::decode(&header.encode()).unwrap_err() {
        EntryError::Shape(rule) => rule,
        other => panic!("{other}"),
    };
    let base = header_of(1, 1, 1);
    refused(Header {
        settings: Ids::new(),
        ..base.clone()
    });
    refused(Header {
        height: Height::ROOT,
        ..base.clone()
    });
    refused(Header {
        parents: Ids::new(),
        ..base.clone()
    });
    refused(Header {
        parents: Ids::new(),
        height: Height::ROOT,
        ..base.clone()
    });
    refused(Header {
        parents: Ids::new(),
        height: Height::ROOT,
        settings: Ids::new(),
        ..base.clone()
    });
    refused(Header {
        stores: Vec::new(),
        ..base.clone()
    });
    let tipless = vec![Via {
        database: id(1),
        tips: Ids::new(),
    }];
    let author = Author {
        key: key(1),
        via: tipless,
    };
    // The claimed minimum of a hop stands in for the missing tips; with enough bytes behind it the shape decides.
    assert!(
        Header {
            author,
            ..base.clone()
        }
        .validate()
        .is_err()
    );
    assert_eq!(
        Header {
            version: 2,
            ..base.clone()
        }
        .validate(),
        Err(EntryError::Version(2))
    );
    assert_eq!(
        Header::decode(&Header { version: 2, ..base }.encode()),
        Err(EntryError::Version(2))
    );
}

#[test]
fn unsorted_lists_do_not_decode() {
    let bytes = header_of(2, 1, 1).encode();
    let mut swapped = bytes.clone();
    swapped[41..73].copy_from_slice(&bytes[73..105]);
    swapped[73..105].copy_from_slice(&bytes[41..73]);
    assert_eq!(
        Header::decode(&swapped),
        Err(EntryError::Unordered("parents"))
    );
    let mut twice = bytes.clone();
    twice[41..73].copy_from_slice(&bytes[73..105]);
    assert_eq!(
        Header::decode(&twice),
        Err(EntryError::Unordered("parents"))
    );

    let mut stores = header_of(1, 1, 2);
    stores.stores.swap(0, 1);
    assert_eq!(
        Header::decode(&stores.encode()),
        Err(EntryError::Unordered("stores"))
    );
}

#[test]
fn payloads_must_match_the_header() {
    let entry = root(1);
    let build = |payloads| Entry::new(entry.header().clone(), *entry.signature(), payloads);
    assert_eq!(
        build(payloads([("_settings", b"settings")])).unwrap(),
        entry
    );
    assert_eq!(build(BTreeMap::new()).unwrap().id(), entry.id());
    assert!(matches!(
        build(payloads([("_settings", b"settingz")])),
        Err(EntryError::Payload { .. })
    ));
    assert!(matches!(
        build(payloads([("_settings", b"setting")])),
        Err(EntryError::Payload { .. })
    ));
    let unknown = payloads([("_settings", b"settings"), ("more", b"")]);
    assert!(matches!(
        build(unknown),
        Err(EntryError::UnknownStore { .. })
    ));

    let without = entry.without_payload(&StoreName::settings());
    assert_eq!(without.id(), entry.id());
    assert_eq!(without.payload(&StoreName::settings()), None);
    assert_eq!(Entry::decode(&without.encode()).unwrap(), without);
    assert!(entry.is_complete() && !without.is_complete());
}

#[test]
fn an_entry_is_bounded_exactly() {
    let overhead = root(1).encode().len() - b"settings".len();
    let with = |len: usize| {
        let payloads = BTreeMap::from([(StoreName::settings(), Bytes::from(vec![7; len]))]);
        Draft::root([1; 32], payloads, key(0), Some(1))
    };
    let largest = with(limits::ENTRY_BYTES - overhead)
        .unwrap()
        .sign(signature(1));
    assert_eq!(largest.encode().len(), limits::ENTRY_BYTES);
    assert_eq!(Entry::decode(&largest.encode()).unwrap(), largest);
    assert!(matches!(
        with(limits::ENTRY_BYTES - overhead + 1),
        Err(EntryError::Limit { .. })
    ));
}

#[test]
fn a_root_names_its_database_and_a_nonce_makes_another() {
    let (a, b) = (root(1), root(2));
    assert_ne!(a.id(), b.id());
    assert_eq!(a.database(), a.id());
    assert_eq!(a.stamp().height, Height::ROOT);
    let no_settings = Draft::root([0; 32], payloads([("notes", b"")]), key(0), None);
    assert!(matches!(
        no_settings.map(|d| d.id()),
        Err(EntryError::Shape(_))
    ));
    let orphan = Draft::child(
        a.id(),
        &[],
        Ids::from(a.id()),
        payloads([("notes", b"")]),
        key(0),
        None,
    );
    assert!(matches!(orphan.map(|d| d.id()), Err(EntryError::Shape(_))));
}

#[test]
fn a_draft_is_the_entry_before_its_signature() {
    let root = root(1);
    let info = ParentInfo::from(&root);
    let draft = Draft::child(
        root.id(),
        &[info],
        Ids::from(root.id()),
        payloads([("notes", b"x")]),
        key(0),
        None,
    )
    .unwrap();
    let (id, message) = (draft.id(), draft.signing_message());
    let entry = draft.sign(signature(9));
    assert_eq!((entry.id(), entry.signing_message()), (id, message));
    assert_eq!(&message[..18], b"eidetica/entry/v1\0");
    assert_eq!(&message[18..], id.as_bytes());
    assert_eq!(entry.header().height, Height(1));
    assert_eq!(entry.database(), root.id());
}

#[test]
fn heights_are_one_above_the_highest_parent() {
    let parent = |height| ParentInfo {
        id: id(height),
        height: Height(height),
        writes_settings: false,
        settings: Ids::from(id(0)),
    };
    assert_eq!(derive_height(&[]), Height(0));
    assert_eq!(
        derive_height(&[parent(3), parent(9), parent(4)]),
        Height(10)
    );
    let draft = |height| {
        Draft::child(
            id(0),
            &[parent(height)],
            Ids::from(id(0)),
            payloads([("n", b"")]),
            key(0),
            None,
        )
        .map(|d| d.id())
    };
    assert!(draft(limits::HEIGHT - 1).is_ok());
    assert!(matches!(
        draft(limits::HEIGHT),
        Err(EntryError::ParentHeight(_))
    ));
}

#[test]
fn text_forms_parse_back_and_nothing_else_does() {
    let id = root(1).id();
    assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
    assert_eq!(id.to_string().len(), 64);
    let key = PublicKey::new([0xab; 32]);
    assert_eq!(key.to_string(), format!("ed25519:{}", "ab".repeat(32)));
    assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
    assert_eq!(format!("{key:?}"), "PublicKey(abababab..)");
    let signature = Signature::new([1; 64]);
    assert_eq!(
        signature.to_string().parse::<Signature>().unwrap(),
        signature
    );
    for bad in [
        "",
        "ab",
        &"AB".repeat(32),
        &"zz".repeat(32),
        &"ab".repeat(33),
        &format!(" {}", "ab".repeat(32)),
    ] {
        assert!(bad.parse::<Id>().is_err(), "{bad}");
        assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
    }
}

#[test]
fn serde_is_raw_in_binary_and_text_for_humans() {
    let config = bincode::config::standard();
    let id = root(1).id();
    let raw = bincode::serde::encode_to_vec(id, config).unwrap();
    assert_eq!(raw, id.as_bytes());
    assert_eq!(
        bincode::serde::decode_from_slice::<Id, _>(&raw, config)
            .unwrap()
            .0,
        id
    );
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    assert_eq!(
        serde_json::from_str::<Id>(&format!("\"{id}\"")).unwrap(),
        id
    );
    assert!(serde_json::from_str::<Id>("\"00\"").is_err());
    assert_eq!(serde_json::to_string(&name("notes")).unwrap(), "\"notes\"");
    assert!(serde_json::from_str::<StoreName>("\"_secret\"").is_err());
}
