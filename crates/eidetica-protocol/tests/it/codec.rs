//! The codec: one encoding per message, total decoding, limits.

use bytes::Bytes;
use eidetica_auth::RequestId;
use eidetica_entry::{
    Height, Id, PublicKey, Stamp,
    reconcile::{Content, Detail, Part, Span, Summary},
};
use eidetica_protocol::{
    BootstrapState, Closure, DatabaseInfo, Frame, IdPrefix, MessageError, Parts, Refusal, Reply,
    Request, RequestRef, Sketch, Spans, TipList, limits,
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

/// Spans that ascend, some of which touch.
fn spans() -> impl Strategy<Value = Vec<Span>> {
    let end = (
        0..3_u64,
        any::<bool>(),
        prop_oneof![Just([0; 32]), any::<[u8; 32]>()],
    );
    (vec(end, 0..12), any::<bool>()).prop_map(|(ends, open)| {
        let (mut stamps, mut height) = (Vec::new(), 0);
        for (step, near, mut id) in ends {
            height += step << 20;
            if near {
                id[8..].fill(0);
            }
            stamps.push(Stamp::new(Height(height), Id::new(id)));
        }
        stamps.sort_unstable();
        stamps.dedup();
        let mut spans: Vec<Span> = stamps
            .windows(2)
            .map(|ends| Span {
                from: ends[0],
                to: Some(ends[1]),
            })
            .collect();
        let mut number = 0;
        spans.retain(|_| {
            number += 1;
            number % 3 > 0
        });
        if let Some(last) = spans.last_mut().filter(|_| open) {
            last.to = None;
        }
        spans
    })
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let content = prop_oneof![
        (any::<u64>(), any::<[u8; 24]>())
            .prop_map(|(count, hash)| Content::Summary(Summary { count, hash })),
        vec(id(), 0..4).prop_map(Content::Ids),
    ];
    (spans(), vec(content, 12)).prop_map(|(spans, contents)| {
        let parts = spans.into_iter().zip(contents);
        parts
            .map(|(span, content)| Part { span, content })
            .collect()
    })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    prop_oneof![
        vec(id(), 0..4).prop_map(Sketch::Since),
        parts().prop_map(|parts| Sketch::Parts(Parts::new(&parts))),
    ]
}

fn questions() -> impl Strategy<Value = Vec<(Span, Detail)>> {
    let details = [Detail::Levels, Detail::Nodes, Detail::Stamps];
    spans().prop_map(move |spans| spans.into_iter().zip(details.into_iter().cycle()).collect())
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
        (id(), questions()).prop_map(|(database, spans)| Request::Describe {
            database,
            spans: Spans::new(&spans),
        }),
        (id(), vec(id(), 0..4), closures()).prop_map(|(database, wants, closures)| {
            Request::Push {
                database,
                wants: wants.iter().map(IdPrefix::of).collect(),
                closures,
            }
        }),
        (id(), vec(id(), 0..4)).prop_map(|(database, leaves)| Request::Void { database, leaves }),
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
        (tips(), claims(), sketch(), closures()).prop_map(|(tips, claims, sketch, closures)| {
            Reply::Diverged {
                tips,
                claims,
                sketch,
                closures,
            }
        }),
        parts().prop_map(|parts| Reply::Sketch(Parts::new(&parts))),
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
    fn descriptions_are_read_as_they_were_written(parts in parts(), questions in questions()) {
        prop_assert_eq!(Parts::new(&parts).parts().unwrap(), parts);
        prop_assert_eq!(Spans::new(&questions).spans().unwrap(), questions);
    }
}

#[test]
fn claimed_lengths_are_not_believed() {
    // A bootstrap request that claims 2^60 bytes, and a push that wants as many entries.
    for head in [&[0x01, 4][..], &[&[0x01, 2][..], &[0; 32]].concat()[..]] {
        let bytes = [head, &[0xfd], &(1_u64 << 60).to_le_bytes()].concat();
        assert_eq!(Frame::decode(&bytes.into()), Err(MessageError::Malformed));
    }
}

#[test]
fn integers_in_a_longer_form_are_refused() {
    // A discovery, whose number is 3; a refusal, whose code is 1; a summary of five entries.
    let part = [&[0x02, 4, 1, 0, 3, 0, 0xfb, 5, 0][..], &[0; 24]].concat();
    for long in [&[0x01, 0xfb, 3, 0][..], &[0x02, 0, 0xfb, 1, 0], &part] {
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
    let block = |n: usize| {
        let stamp = |n: usize| Stamp::new(Height(n as u64), Id::new([0; 32]));
        let (from, to) = (stamp(n), Some(stamp(n + 1)));
        Span { from, to }
    };
    check(
        |n| {
            let spans: Vec<_> = (0..n).map(|n| (block(n), Detail::Nodes)).collect();
            let spans = Spans::new(&spans);
            Frame::Request(Request::Describe { database, spans })
        },
        limits::SKETCH_SPANS,
    );
    let described = |parts: usize, ids: Vec<Id>| {
        let part = |n| Part {
            span: block(n),
            content: Content::Ids(ids.clone()),
        };
        let parts: Vec<Part> = (0..parts).map(part).collect();
        Frame::Reply(Reply::Sketch(Parts::new(&parts)))
    };
    check(|n| described(n, Vec::new()), limits::SKETCH_PARTS);
    check(|n| described(1, ids(n)), limits::SKETCH_IDS);
    let half = limits::SKETCH_IDS / 2;
    assert!(described(2, ids(half)).encode().is_ok());
    assert!(described(2, ids(half + 1)).encode().is_err());
    let since = |n| {
        Frame::Reply(Reply::Diverged {
            tips: tips(),
            claims: Vec::new(),
            sketch: Sketch::Since(ids(n)),
            closures: Vec::new(),
        })
    };
    check(since, limits::SKETCH_IDS);
    check(
        |n| {
            Frame::Request(Request::Push {
                database,
                wants: ids(n).iter().map(IdPrefix::of).collect(),
                closures: Vec::new(),
            })
        },
        limits::WANTS,
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
        Frame::Request(Request::Push {
            database,
            wants: Vec::new(),
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
fn spans_that_do_not_ascend_are_refused() {
    let hash = "00".repeat(24);
    let refused = |body: String| {
        let bytes: Vec<u8> = (0..body.len() / 2)
            .map(|at| u8::from_str_radix(&body[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        Frame::decode(&bytes.into()) == Err(MessageError::NotCanonical)
    };
    // From the start to the end is fine; nothing follows the end.
    assert!(!refused(format!("02040100030005{hash}")));
    assert!(refused(format!("02040200030005{hash}00030005{hash}")));
    // An empty span; a step of no height; an id with a zero at its end, one that is too long; a height above all.
    assert!(refused(format!("02040100000005{hash}")));
    assert!(refused(format!("0204010100030005{hash}")));
    assert!(!refused(format!("02040100020101ff0005{hash}")));
    assert!(refused(format!("02040100020102ff000005{hash}")));
    assert!(refused(
        format!("0204010002010 0005{hash}").replace(' ', "0")
    ));
    assert!(refused(
        format!("0204010002 01 21{}0005{hash}", "ff".repeat(33)).replace(' ', "")
    ));
    let most = format!("01fd{}", "ff".repeat(8));
    assert!(refused(format!(
        "020402{most}030005{hash}{most}030005{hash}"
    )));
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
    assert_eq!(hex(Frame::Request(Request::Discover)), "0103");
    assert_eq!(hex(Frame::Pack(Bytes::from_static(b"\xab"))), "03ab");
    assert_eq!(hex(Frame::Reply(Reply::Cancelled)), "0209");
    let (seven, database) = ("07".repeat(32), Id::new([7; 32]));
    let push = Request::Push {
        database,
        wants: vec![IdPrefix::of(&Id::new([9; 32]))],
        closures: Vec::new(),
    };
    let wanted = "09".repeat(8);
    assert_eq!(
        hex(Frame::Request(push)),
        format!("0102{seven}01{wanted}00")
    );

    let (sixteen, crowded) = (
        Stamp::new(Height(16), Id::new([0; 32])),
        Stamp::new(
            Height(300),
            Id::new(std::array::from_fn(|at| if at < 2 { 0xab } else { 0 })),
        ),
    );
    let first = Span {
        from: Span::ALL.from,
        to: Some(sixteen),
    };
    let last = Span {
        from: crowded,
        to: None,
    };
    let spans = Spans::new(&[(first, Detail::Levels), (last, Detail::Stamps)]);
    assert_eq!(
        hex(Frame::Request(Request::Describe { database, spans })),
        format!("0101{seven}02000110 00 02fb1c0102abab03 02").replace(' ', "")
    );
    let (count, hash) = (5, [0xcc; 24]);
    let parts = Parts::new(&[
        Part {
            span: first,
            content: Content::Summary(Summary { count, hash }),
        },
        Part {
            span: last,
            content: Content::Ids(vec![Id::new([1; 32])]),
        },
    ]);
    let (one, hash) = ("01".repeat(32), "cc".repeat(24));
    assert_eq!(
        hex(Frame::Reply(Reply::Sketch(parts))),
        format!("020402 000110 0005{hash} 02fb1c0102abab03 0101{one}").replace(' ', "")
    );
}
