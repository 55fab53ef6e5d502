//! Messages byte by byte: each has one encoding, and decoding is total.

use eidetica_mmr::{Consistency, Digest, Leaves, Location, Proof};
use eidetica_statesync::message::{
    Refusal, Reply, Request, RequestId, RequestKind, asked, id_of, kind_of,
};
use eidetica_statesync::{
    Claim, Conflict, DatabaseName, Evidence, MessageError, SourceId, Target, refuse, respond,
    signed_bytes,
};
use proptest::prelude::*;

use crate::support::{Log, name};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn claim(signature: Option<[u8; 64]>) -> Claim {
    let root = Digest::new([0xaa; 32]);
    let target = Target::new(root, Location(74), Leaves(145)).unwrap();
    Claim { target, signature }
}

#[test]
fn requests_have_these_bytes() {
    for (id, request, golden) in [
        (1, Request::Target { name: name() }, "010103616e79"),
        (
            300,
            Request::Operations {
                size: Leaves(145),
                start: Location(74),
                most: 25,
            },
            "02ac0291014a19",
        ),
        (
            2,
            Request::Consistency {
                old: Leaves(112),
                new: Leaves(145),
            },
            "0302709101",
        ),
    ] {
        let bytes = request.encode(RequestId(id));
        assert_eq!(hex(&bytes), golden);
        assert_eq!(
            Request::decode(&bytes),
            Ok((RequestId(id), request.clone()))
        );
        assert_eq!(kind_of(&bytes), Some(request.kind()));
        assert_eq!(id_of(&bytes), Some(RequestId(id)));
    }
    let request = Request::Operations {
        size: Leaves(145),
        start: Location(74),
        most: 25,
    };
    let asked = asked(&request.encode(RequestId(1)));
    assert_eq!(asked, Some((RequestKind::Operations, 25)));
}

#[test]
fn replies_have_these_bytes() {
    let digest = Digest::new([0xbb; 32]);
    let (aa, bb, cc) = ("aa".repeat(32), "bb".repeat(32), "cc".repeat(64));
    let replies = [
        (Reply::Target(claim(None)), format!("810701{aa}4a910100")),
        (
            Reply::Target(claim(Some([0xcc; 64]))),
            format!("810701{aa}4a910101{cc}"),
        ),
        (
            Reply::Operations {
                proof: Proof {
                    leaves: Leaves(145),
                    digests: vec![digest],
                },
                operations: vec![1, 2, 3],
            },
            format!("8207910101{bb}010203"),
        ),
        (
            Reply::Consistency(Consistency {
                old: Leaves(112),
                new: Leaves(145),
                digests: vec![digest],
            }),
            format!("830770910101{bb}"),
        ),
        (Reply::Refused(Refusal::Malformed), "80070100".to_owned()),
        (Reply::Refused(Refusal::Unknown), "80070200".to_owned()),
        (Reply::Refused(Refusal::Impossible), "80070300".to_owned()),
        (
            Reply::Refused(Refusal::OtherDatabase),
            "80070400".to_owned(),
        ),
        (Reply::Refused(Refusal::NoTarget), "80070500".to_owned()),
        (
            Reply::Refused(Refusal::NotYet { leaves: Leaves(5) }),
            "80070605".to_owned(),
        ),
        (
            Reply::Refused(Refusal::Pruned {
                boundary: Location(74),
            }),
            "8007074a".to_owned(),
        ),
        (
            Reply::Refused(Refusal::Busy { retry_ms: 200 }),
            "800708c801".to_owned(),
        ),
        (Reply::Refused(Refusal::Unavailable), "80070900".to_owned()),
    ];
    for (reply, golden) in replies {
        let bytes = reply.encode(RequestId(7));
        assert_eq!(hex(&bytes), golden);
        assert_eq!(Reply::decode(&bytes), Ok((RequestId(7), reply)));
    }
}

#[test]
fn pins_signed_bytes_and_evidence_have_these_bytes() {
    let aa = "aa".repeat(32);
    let pin = claim(None);
    assert_eq!(hex(&pin.encode()), format!("01{aa}4a910100"));
    assert_eq!(Claim::decode(&pin.encode()), Ok(pin.clone()));
    let prefix = hex(b"eidetica state target v1");
    let signed = hex(&signed_bytes(&name(), &pin.target));
    assert_eq!(signed, format!("{prefix}03616e79{aa}4a9101"));
    let evidence = Evidence {
        kind: Conflict::SameSize,
        held: pin.clone(),
        shown: claim(Some([0xcc; 64])),
        source: Some(SourceId(4)),
    };
    let cc = "cc".repeat(64);
    let golden = format!("01052501{aa}4a91010001{aa}4a910101{cc}");
    assert_eq!(hex(&evidence.encode()), golden);
    assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
}

#[test]
fn what_is_not_canonical_is_refused() {
    let bad: [&[u8]; 8] = [
        &[],
        &[1],
        &[4, 1],
        // An id, a size and a name that could be shorter, or are.
        &[3, 0x81, 0x00, 1, 2],
        &[3, 1, 0x81, 0x00, 2],
        &[1, 1, 0],
        &[1, 1, 2, b'a'],
        &[1, 1, 1, 0xff],
    ];
    for bytes in bad {
        assert!(Request::decode(bytes).is_err(), "{bytes:?}");
    }
    let refused = [0x80, 1, 1, 1];
    assert_eq!(Reply::decode(&refused), Err(MessageError::Bytes));
    let unknown = [0x80, 1, 10, 0];
    let found = 10;
    assert_eq!(
        Reply::decode(&unknown),
        Err(MessageError::Refusal { found })
    );
    // A claim of another format, and one whose lower bound is not below its size.
    let mut later = claim(None).encode();
    later[0] = 2;
    assert!(Claim::decode(&later).is_err());
    let lower = [&[1][..], &[0xaa; 32], &[9, 9, 0]].concat();
    assert!(Claim::decode(&lower).is_err());
}

#[test]
fn a_server_refuses_by_number() {
    let mut log = Log::of(50, 1);
    log.boundary = 10;
    let refusal_of = |request: &[u8]| respond(&name(), &log, request).refusal;
    let operations = |size, start, most| {
        let request = Request::Operations {
            size: Leaves(size),
            start: Location(start),
            most,
        };
        refusal_of(&request.encode(RequestId(3)))
    };
    let consistency = |old, new| {
        let (old, new) = (Leaves(old), Leaves(new));
        refusal_of(&Request::Consistency { old, new }.encode(RequestId(3)))
    };
    let boundary = Location(10);
    let leaves = Leaves(50);
    assert_eq!(operations(50, 10, 40), None);
    assert_eq!(operations(50, 9, 1), Some(Refusal::Pruned { boundary }));
    assert_eq!(operations(51, 10, 1), Some(Refusal::NotYet { leaves }));
    for (size, start, most) in [(50, 50, 1), (50, 10, 0), (u64::MAX, 0, 1), (0, 0, 1)] {
        assert_eq!(operations(size, start, most), Some(Refusal::Impossible));
    }
    assert_eq!(operations(50, 40, u64::MAX), None, "as many as there are");
    assert_eq!(consistency(50, 49), Some(Refusal::Impossible));
    assert_eq!(consistency(20, u64::MAX), Some(Refusal::Impossible));
    assert_eq!(consistency(20, 51), Some(Refusal::NotYet { leaves }));
    let other = DatabaseName::new("immutable").unwrap();
    let other = Request::Target { name: other }.encode(RequestId(3));
    assert_eq!(refusal_of(&other), Some(Refusal::OtherDatabase));
    assert_eq!(refusal_of(&[9, 3]), Some(Refusal::Unknown));
    assert_eq!(refusal_of(&[1, 3]), Some(Refusal::Malformed));
    let target = Request::Target { name: name() }.encode(RequestId(3));
    let empty = respond(&name(), &Log::default(), &target);
    assert_eq!(empty.refusal, Some(Refusal::NoTarget));
    let busy = Refusal::Busy { retry_ms: 5 };
    let refused = Reply::decode(&refuse(&target, busy));
    assert_eq!(refused, Ok((RequestId(3), Reply::Refused(busy))));
}

proptest! {
    #[test]
    fn any_bytes_decode_to_what_encodes_to_them_or_not(mut bytes: Vec<u8>, kind in 0u8..5) {
        if let Some(first) = bytes.first_mut() {
            *first = [1, 2, 3, 0x80, *first][usize::from(kind)];
        }
        if let Ok((id, request)) = Request::decode(&bytes) {
            prop_assert_eq!(request.encode(id), bytes.clone());
        }
        if let Ok((id, reply)) = Reply::decode(&bytes) {
            prop_assert_eq!(reply.encode(id), bytes.clone());
        }
        if let Ok(evidence) = Evidence::decode(&bytes) {
            prop_assert_eq!(evidence.encode(), bytes.clone());
        }
        // Whatever it is, a server answers it.
        let answered = respond(&name(), &Log::of(30, 1), &bytes);
        prop_assert!(Reply::decode(&answered.message).is_ok());
    }

    #[test]
    fn mutated_replies_decode_to_what_encodes_to_them_or_not(at: usize, mask: u8, which in 0usize..3) {
        let log = Log::of(30, 1);
        let request = [
            Request::Target { name: name() },
            Request::Operations { size: Leaves(30), start: Location(3), most: 9 },
            Request::Consistency { old: Leaves(9), new: Leaves(30) },
        ][which].encode(RequestId(1));
        let mut bytes = respond(&name(), &log, &request).message;
        let at = at % bytes.len();
        bytes[at] ^= mask;
        if let Ok((id, reply)) = Reply::decode(&bytes) {
            prop_assert_eq!(reply.encode(id), bytes);
        }
    }
}
