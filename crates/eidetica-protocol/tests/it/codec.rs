//! The codec: one encoding per message, total decoding, limits.

use bytes::Bytes;
use eidetica_auth::RequestId;
use eidetica_entry::{Height, Id, PublicKey, Stamp};
use eidetica_protocol::{
    BootstrapState, Closure, DatabaseInfo, Frame, HeaderPage, HeaderSummary, MessageError, Refusal,
    Reply, Request, RequestRef, TipList, limits,
};
use proptest::{collection::vec, prelude::*};

fn id() -> impl Strategy<Value = Id> {
    any::<[u8; 32]>().prop_map(Id::new)
}

fn tips() -> impl Strategy<Value = TipList> {
    let stamp = (any::<u64>(), id()).prop_map(|(height, id)| Stamp::new(Height(height), id));
    vec(stamp, 0..5).prop_map(TipList::new)
}

fn claims() -> impl Strategy<Value = Vec<Bytes>> {
    vec(vec(any::<u8>(), 0..50).prop_map(Bytes::from), 0..4)
}

/// Headers whose parents are partly among them.
fn page() -> impl Strategy<Value = HeaderPage> {
    vec((id(), 0..4_u64, vec(id(), 0..3), any::<bool>()), 0..10).prop_map(|rows| {
        let mut height = 1 << 40;
        let mut headers: Vec<HeaderSummary> = Vec::new();
        for (id, drop, mut parents, linked) in rows {
            height -= drop + 1;
            if let Some(last) = headers.last_mut().filter(|_| linked) {
                last.parents.push(id);
            }
            parents.sort();
            headers.push(HeaderSummary {
                stamp: Stamp::new(Height(height), id),
                parents,
            });
        }
        HeaderPage::new(headers)
    })
}

fn closures() -> impl Strategy<Value = Vec<Closure>> {
    vec((id(), vec(id(), 0..4)), 0..3).prop_map(|closures| {
        let closure = |(database, tips)| Closure { database, tips };
        closures.into_iter().map(closure).collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let asked = || {
        (id(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(database, key, id)| RequestRef {
            database,
            key: PublicKey::new(key),
            id: RequestId::new(id),
        })
    };
    prop_oneof![
        (id(), tips(), vec(id(), 0..4), closures()).prop_map(
            |(database, tips, common, closures)| Request::Compare {
                database,
                tips,
                common,
                closures,
            }
        ),
        (id(), vec(id(), 0..4), any::<u32>(), any::<u32>()).prop_map(
            |(database, of, generations, limit)| Request::Headers {
                database,
                of,
                generations,
                limit
            }
        ),
        (id(), vec(id(), 0..4), closures()).prop_map(|(database, not, closures)| Request::Fetch {
            database,
            not,
            closures,
        }),
        (id(), vec(id(), 0..4)).prop_map(|(database, leaves)| Request::Void { database, leaves }),
        id().prop_map(|database| Request::Push { database }),
        Just(Request::Discover),
        vec(any::<u8>(), 0..100).prop_map(|bytes| Request::Bootstrap {
            request: bytes.into()
        }),
        asked().prop_map(Request::Status),
        asked().prop_map(Request::Cancel),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        any::<u16>().prop_map(|code| Reply::Refused(Refusal(code))),
        Just(Reply::Equal),
        (tips(), claims(), closures()).prop_map(|(tips, claims, closures)| Reply::Behind {
            tips,
            claims,
            closures,
        }),
        (tips(), claims(), page(), closures()).prop_map(|(tips, claims, headers, closures)| {
            Reply::Diverged {
                tips,
                claims,
                headers,
                closures,
            }
        }),
        page().prop_map(Reply::Headers),
        tips().prop_map(|tips| Reply::End { tips }),
        vec(id(), 0..4).prop_map(|unknown| Reply::Void { unknown }),
        (tips(), any::<[u64; 4]>()).prop_map(|(tips, [new, known, pending, rejected])| {
            Reply::Pushed {
                tips,
                new,
                known,
                pending,
                rejected,
            }
        }),
        (vec((id(), ".{0,20}", any::<u64>()), 0..4), any::<bool>()).prop_map(|(rows, more)| {
            Reply::Databases {
                databases: rows
                    .into_iter()
                    .map(|(id, name, entries)| DatabaseInfo::new(id, &name, entries))
                    .collect(),
                more,
            }
        }),
        any::<[u8; 32]>()
            .prop_map(|id| Reply::Bootstrap(BootstrapState::Pending(RequestId::new(id)))),
        Just(Reply::Bootstrap(BootstrapState::Granted)),
        Just(Reply::Cancelled),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        request().prop_map(Frame::Request),
        reply().prop_map(Frame::Reply),
        vec(any::<u8>(), 0..100).prop_map(|bytes| Frame::Pack(bytes.into())),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_decodes(frame in frame()) {
        let bytes = frame.encode().unwrap();
        prop_assert_eq!(Frame::decode(&bytes).unwrap(), frame);
    }

    #[test]
    fn a_message_has_one_encoding(frame in frame(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let bytes = frame.encode().unwrap();
        let mut other = bytes.to_vec();
        other[at.index(bytes.len())] = to;
        if let Ok(decoded) = Frame::decode(&other.clone().into()) {
            prop_assert_eq!(decoded.encode().unwrap(), Bytes::from(other));
        }
    }

    #[test]
    fn nothing_may_be_left_over_or_missing(frame in frame(), extra in any::<u8>()) {
        prop_assume!(!matches!(frame, Frame::Pack(_)));
        let bytes = frame.encode().unwrap();
        prop_assert!(Frame::decode(&[&bytes[..], &[extra]].concat().into()).is_err());
        prop_assert!(Frame::decode(&bytes.slice(..bytes.len() - 1)).is_err());
    }

    #[test]
    fn any_bytes_decode_or_do_not(kind in 0_u8..5, body in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from([&[kind], &body[..]].concat());
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn pages_keep_headers(page in page()) {
        let headers = page.headers().unwrap();
        prop_assert_eq!(HeaderPage::new(headers).headers().unwrap(), page.headers().unwrap());
    }
}

#[test]
fn claimed_lengths_are_not_believed() {
    // A bootstrap request that claims 2^60 bytes, and a fetch that claims as many ids.
    for head in [&[0x01, 5][..], &[&[0x01, 2][..], &[0; 32]].concat()[..]] {
        let bytes = [head, &[0xfd], &(1_u64 << 60).to_le_bytes()].concat();
        assert_eq!(Frame::decode(&bytes.into()), Err(MessageError::Malformed));
    }
}

#[test]
fn integers_in_a_longer_form_are_refused() {
    // A discovery, whose number is 4; a refusal, whose code is 1; headers of a height that fits into one byte.
    let page = [&[0x02, 4, 0xfd, 5, 0, 0, 0, 0, 0, 0, 0][..], &[0]].concat();
    for long in [&[0x01, 0xfb, 4, 0][..], &[0x02, 0, 0xfb, 1, 0], &page] {
        let bytes = Bytes::copy_from_slice(long);
        assert_eq!(
            Frame::decode(&bytes),
            Err(MessageError::NotCanonical),
            "{long:?}"
        );
    }
}

fn ids(count: usize) -> Vec<Id> {
    let id = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Id::new(bytes)
    };
    (0..count).map(id).collect()
}

fn check(at: impl Fn(usize) -> Frame, limit: usize) {
    let bytes = at(limit).encode().unwrap();
    assert_eq!(Frame::decode(&bytes).unwrap(), at(limit));
    let over = at(limit + 1).encode().unwrap_err();
    assert!(
        matches!(
            over,
            MessageError::TooMany { .. } | MessageError::TooLong { .. }
        ),
        "{over:?}"
    );
}

#[test]
fn limits_hold_at_the_limit_and_one_above() {
    let database = Id::new([1; 32]);
    let tips = || TipList::new(Vec::new());
    check(
        |n| {
            Frame::Request(Request::Compare {
                database,
                tips: tips(),
                common: ids(n),
                closures: Vec::new(),
            })
        },
        limits::COMMON,
    );
    check(
        |n| {
            Frame::Request(Request::Headers {
                database,
                of: ids(n),
                generations: 1,
                limit: 1,
            })
        },
        limits::WALK_OF,
    );
    check(
        |n| {
            Frame::Request(Request::Fetch {
                database,
                not: ids(n),
                closures: Vec::new(),
            })
        },
        limits::NOT,
    );
    check(
        |n| {
            Frame::Request(Request::Bootstrap {
                request: vec![0; n].into(),
            })
        },
        eidetica_auth::limits::REQUEST_BYTES,
    );
    check(
        |n| {
            Frame::Reply(Reply::Behind {
                tips: tips(),
                claims: vec![Bytes::new(); n],
                closures: Vec::new(),
            })
        },
        limits::CLAIMS,
    );
    check(
        |n| {
            Frame::Reply(Reply::Behind {
                tips: tips(),
                claims: vec![vec![0; n].into()],
                closures: Vec::new(),
            })
        },
        eidetica_auth::limits::CLAIM_BYTES,
    );
    let closures = |databases: usize, tips: usize| {
        let closure = Closure {
            database,
            tips: ids(tips),
        };
        Frame::Request(Request::Fetch {
            database,
            not: Vec::new(),
            closures: vec![closure; databases],
        })
    };
    check(|n| closures(n, 1), limits::CLOSURES);
    check(|n| closures(1, n), limits::CLOSURE_TIPS);
    check(
        |n| {
            Frame::Request(Request::Void {
                database,
                leaves: ids(n),
            })
        },
        limits::VOID_LEAVES,
    );
    let void = |n| Frame::Reply(Reply::Void { unknown: ids(n) });
    check(void, limits::VOID_LEAVES);
    let info = || DatabaseInfo::new(database, &"x".repeat(300), 1);
    assert_eq!(info().name().len(), limits::NAME_BYTES);
    check(
        |n| {
            Frame::Reply(Reply::Databases {
                databases: vec![info(); n],
                more: false,
            })
        },
        limits::DATABASES,
    );
    check(|n| Frame::Pack(vec![0; n].into()), limits::FRAME - 1);
    assert!(matches!(
        Frame::decode(&vec![0x03; limits::FRAME + 1].into()),
        Err(MessageError::TooLong { .. })
    ));
    assert!(matches!(
        Frame::decode(&vec![0x01; limits::CONTROL_FRAME + 1].into()),
        Err(MessageError::TooLong { .. })
    ));
}

#[test]
fn long_lists_of_tips_are_cut_to_the_highest() {
    let stamps = |count: usize| -> Vec<Stamp> {
        ids(count)
            .into_iter()
            .enumerate()
            .map(|(n, id)| Stamp::new(Height(n as u64), id))
            .collect()
    };
    let (at, over) = (
        TipList::new(stamps(limits::TIPS)),
        TipList::new(stamps(limits::TIPS + 1)),
    );
    assert!(!at.is_cut() && over.is_cut());
    assert_eq!(over.stamps().len(), limits::TIPS);
    assert_eq!(over.stamps()[0].height, Height(limits::TIPS as u64));
    assert!(over.is_same(&TipList::new(stamps(limits::TIPS + 1))) && !over.is_same(&at));
    for tips in [at, over] {
        let frame = Frame::Reply(Reply::End { tips });
        assert_eq!(Frame::decode(&frame.encode().unwrap()).unwrap(), frame);
    }
}

#[test]
fn pages_of_headers_are_cut_where_a_reply_ends() {
    let chain = |count: usize, parents: usize| -> Vec<HeaderSummary> {
        let all = ids(count + 1);
        let header = |n: usize| {
            let mut of = vec![all[n + 1]];
            of.extend((1..parents).map(|p| Id::new([p as u8 + 100; 32])));
            HeaderSummary {
                stamp: Stamp::new(Height((count - n) as u64), all[n]),
                parents: of,
            }
        };
        (0..count).map(header).collect()
    };
    for (count, parents, fits) in [
        (limits::HEADERS + 1, 1, limits::HEADERS),
        (10_000, 64, 334),
        (100, 64, 100),
    ] {
        let page = HeaderPage::new(chain(count, parents));
        assert_eq!(page.headers().unwrap().len(), fits);
        let frame = Frame::Reply(Reply::Headers(page));
        assert!(frame.encode().unwrap().len() <= limits::HEADER_BYTES);
    }
    check(
        |n| Frame::Reply(Reply::Headers(HeaderPage::new(chain(1, n)))),
        limits::PARENTS,
    );
}

#[test]
fn the_bytes_of_messages_do_not_change() {
    let hex = |frame: Frame| {
        frame
            .encode()
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(Frame::Reply(Reply::Refused(Refusal::ABSENT))), "020001");
    assert_eq!(hex(Frame::Reply(Reply::Equal)), "0201");
    assert_eq!(hex(Frame::Request(Request::Discover)), "0104");
    assert_eq!(hex(Frame::Pack(Bytes::from_static(b"\xab"))), "03ab");
    assert_eq!(hex(Frame::Reply(Reply::Cancelled)), "0209");
    let push = format!("0103{}", "07".repeat(32));
    assert_eq!(
        hex(Frame::Request(Request::Push {
            database: Id::new([7; 32])
        })),
        push
    );
    let page = HeaderPage::new(vec![
        HeaderSummary {
            stamp: Stamp::new(Height(5), Id::new([1; 32])),
            parents: vec![Id::new([2; 32])],
        },
        HeaderSummary {
            stamp: Stamp::new(Height(4), Id::new([2; 32])),
            parents: vec![Id::new([3; 32])],
        },
    ]);
    let (one, two, three) = ("01".repeat(32), "02".repeat(32), "03".repeat(32));
    assert_eq!(
        hex(Frame::Reply(Reply::Headers(page))),
        format!("02040502{one}00010001{two}010101{three}")
    );
}
