//! The payload format: one encoding per payload, every rule checked, nothing allocated on a promise.

use eidetica_crdt::{
    Container, ElemId, Init, OWN, Op, Path, PathError, Payload, PayloadError, Position, Rule,
    Scalar, StoreKind, Value, Write, limits,
};
use eidetica_entry::{Height, Id, Stamp};

use crate::laws::{entries, run};
use crate::rng::{Rng, cases};

#[test]
fn what_is_encoded_decodes_and_nothing_else_does() {
    run(cases(150), |seed| {
        let mut rng = Rng::new(seed);
        let kind = if seed % 3 == 0 {
            StoreKind::Table
        } else {
            StoreKind::Doc
        };
        for (_, payload) in entries(&mut rng, kind, 5) {
            let salt = rng.one_in(2).then_some([7; 16]);
            let payload = Payload::new(kind, salt, payload.writes().to_vec()).unwrap();
            let bytes = payload.encode();
            assert_eq!(Payload::decode(&bytes), Ok(payload));
            for len in 0..bytes.len() {
                assert!(Payload::decode(&bytes[..len]).is_err(), "cut at {len}");
            }
            assert!(
                Payload::decode(&[bytes.as_slice(), &[0]].concat()).is_err(),
                "a byte too many"
            );
            for _ in 0..100 {
                let mut changed = bytes.clone();
                let at = rng.below(bytes.len());
                changed[at] = if rng.one_in(2) {
                    changed[at] ^ (1 << rng.below(8))
                } else {
                    rng.below(12) as u8
                };
                if let Ok(payload) = Payload::decode(&changed) {
                    assert_eq!(payload.encode(), changed);
                }
            }
        }
    });
}

fn keys(text: &str) -> Path {
    text.parse().unwrap()
}

fn own(list: &Path, ordinal: u32) -> Path {
    list.elem(ElemId {
        stamp: OWN,
        ordinal,
    })
    .unwrap()
}

fn other(list: &Path) -> Path {
    list.elem(ElemId {
        stamp: Stamp::new(Height(3), Id::new([3; 32])),
        ordinal: 0,
    })
    .unwrap()
}

fn position() -> Position {
    Position::from_bytes(&[1]).unwrap()
}

fn ins() -> Op {
    Op::Ins {
        position: position(),
        init: Init::Empty(Container::Map),
    }
}

fn one() -> Op {
    Op::Set(Scalar::Int(1))
}

/// The rule that a list of writes breaks, by constructor and decoder alike.
fn broken(kind: StoreKind, writes: &[(Path, Op)]) -> Option<Rule> {
    let writes: Vec<Write> = writes
        .iter()
        .map(|(path, op)| Write {
            path: path.clone(),
            op: op.clone(),
        })
        .collect();
    match Payload::new(kind, None, writes) {
        Ok(payload) => {
            assert_eq!(Payload::decode(&payload.encode()), Ok(payload));
            None
        }
        Err(PayloadError::Rule { rule, .. }) => Some(rule),
        Err(other) => panic!("{other}"),
    }
}

/// Writes and the rule that they break.
type Case = (Vec<(Path, Op)>, Option<Rule>);

#[test]
fn every_rule_is_checked() {
    let (a, ab, l) = (keys("a"), keys("a.b"), keys("l"));
    let doc: Vec<Case> = vec![
        (vec![(a.clone(), one()), (keys("b"), one())], None),
        (
            vec![(keys("b"), one()), (a.clone(), one())],
            Some(Rule::Order),
        ),
        (
            vec![(a.clone(), one()), (a.clone(), one())],
            Some(Rule::Order),
        ),
        (
            vec![(a.clone(), one()), (a.clone(), Op::Make(Container::Map))],
            Some(Rule::TwoValues),
        ),
        (
            vec![(a.clone(), one()), (a.clone(), Op::Inc(1))],
            Some(Rule::TwoValues),
        ),
        (
            vec![
                (a.clone(), Op::Make(Container::Map)),
                (a.clone(), Op::Inc(1)),
            ],
            Some(Rule::TwoValues),
        ),
        (
            vec![(own(&l, 0), ins()), (own(&l, 0), Op::Inc(1))],
            Some(Rule::TwoValues),
        ),
        (
            vec![(a.clone(), one()), (ab.clone(), one())],
            Some(Rule::BelowLeaf),
        ),
        (
            vec![(a.clone(), Op::Delete), (ab.clone(), one())],
            Some(Rule::BelowLeaf),
        ),
        (
            vec![(other(&l), Op::Kill), (other(&l).key("x").unwrap(), one())],
            Some(Rule::BelowLeaf),
        ),
        (
            vec![(a.clone(), Op::Clear(Container::Map)), (ab.clone(), one())],
            None,
        ),
        (
            vec![(other(&l), one()), (other(&l), Op::Kill)],
            Some(Rule::Beside),
        ),
        (
            vec![(other(&l), one()), (other(&l), Op::Move(position()))],
            None,
        ),
        (
            vec![(own(&l, 0), ins()), (own(&l, 0), Op::Move(position()))],
            Some(Rule::OwnElement),
        ),
        (vec![(other(&l), Op::Delete)], Some(Rule::Sort)),
        (vec![(a.clone(), Op::Kill)], Some(Rule::Sort)),
        (vec![(a.clone(), Op::Move(position()))], Some(Rule::Sort)),
        (vec![(other(&l), ins())], Some(Rule::OwnElement)),
        (vec![(a.clone(), ins())], Some(Rule::OwnElement)),
        (vec![(own(&l, 0), one())], Some(Rule::OwnElement)),
        (vec![(own(&l, 0), Op::Kill)], Some(Rule::OwnElement)),
        (
            vec![(own(&l, 0).key("x").unwrap(), one())],
            Some(Rule::OwnElement),
        ),
        (
            vec![(own(&l, 0), ins()), (own(&l, 0).key("x").unwrap(), one())],
            None,
        ),
        (vec![(own(&l, 1), ins())], Some(Rule::Ordinal)),
        (
            vec![(own(&l, 0), ins()), (own(&keys("m"), 0), ins())],
            Some(Rule::Ordinal),
        ),
        (vec![(Path::root(), one())], Some(Rule::Root)),
        (vec![(Path::root(), Op::Delete)], Some(Rule::Root)),
        (
            vec![(Path::root(), Op::Clear(Container::List))],
            Some(Rule::Root),
        ),
        (
            vec![
                (Path::root(), Op::Clear(Container::Map)),
                (a.clone(), one()),
            ],
            None,
        ),
        (vec![(own(&Path::root(), 0), ins())], Some(Rule::Root)),
        (vec![(a.clone(), Op::Set(packed(1)))], Some(Rule::Packed)),
    ];
    for (writes, rule) in doc {
        assert_eq!(broken(StoreKind::Doc, &writes), rule, "{writes:?}");
    }
    let clear = Op::Clear(Container::Map);
    let table: Vec<Case> = vec![
        (
            vec![
                (a.clone(), clear.clone()),
                (ab.clone(), Op::Set(packed(limits::DEPTH))),
            ],
            None,
        ),
        (
            vec![(ab.clone(), Op::Set(packed(limits::DEPTH + 1)))],
            Some(Rule::Packed),
        ),
        (
            vec![(ab.clone(), Op::Set(Scalar::Packed(Box::new(Value::Int(1)))))],
            Some(Rule::Packed),
        ),
        (vec![(ab.clone(), Op::Inc(1))], None),
        (vec![(a.clone(), one())], Some(Rule::TableShape)),
        (vec![(Path::root(), clear.clone())], Some(Rule::TableShape)),
        (
            vec![(a.clone(), Op::Clear(Container::List))],
            Some(Rule::TableShape),
        ),
        (vec![(ab.clone(), clear)], Some(Rule::TableShape)),
        (vec![(keys("a.b.c"), one())], Some(Rule::TableShape)),
        (vec![(own(&a, 0), ins())], Some(Rule::TableShape)),
    ];
    for (writes, rule) in table {
        assert_eq!(broken(StoreKind::Table, &writes), rule, "{writes:?}");
    }
}

/// A packed value of this many containers inside each other.
fn packed(depth: usize) -> Scalar {
    let nest = |inner, _| Value::Map([("k", inner)].into_iter().collect());
    Scalar::Packed(Box::new((0..depth).fold(Value::Null, nest)))
}

#[test]
fn limits_hold_at_the_limit_and_one_above() {
    let long = "k".repeat(limits::KEY_BYTES);
    assert!(Path::root().key(&long).is_ok());
    assert_eq!(
        Path::root().key(&format!("{long}k")),
        Err(PathError::KeyTooLong {
            len: limits::KEY_BYTES + 1
        })
    );
    let deep = Path::of_keys(vec!["k"; limits::DEPTH]).unwrap();
    assert_eq!(deep.key("k"), Err(PathError::TooDeep));
    let wide = Path::of_keys(vec!["k".repeat(limits::PATH_BYTES / 8 - 2); 8]).unwrap();
    assert_eq!(wide.as_bytes().len(), limits::PATH_BYTES);
    assert!(matches!(wide.key(""), Err(PathError::TooLong { .. })));
    assert!(Position::from_bytes(&[0; limits::POSITION_BYTES]).is_some());
    assert!(
        Position::from_bytes(&[0; limits::POSITION_BYTES + 1]).is_none()
            && Position::from_bytes(&[]).is_none()
    );
    let sized = |len| {
        let op = Op::Set(Scalar::Bytes(vec![0; len]));
        Payload::new(
            StoreKind::Doc,
            None,
            vec![Write {
                path: keys("a"),
                op,
            }],
        )
    };
    let overhead = sized(0).unwrap().encode().len();
    let full = sized(limits::PAYLOAD_BYTES - overhead).unwrap();
    assert!(Payload::decode(&full.encode()).is_ok());
    let over = sized(limits::PAYLOAD_BYTES - overhead + 1);
    assert_eq!(
        over,
        Err(PayloadError::TooLarge {
            len: limits::PAYLOAD_BYTES + 1
        })
    );
}

#[test]
fn promises_of_more_than_there_is_are_refused_at_once() {
    let head = [1, 1, 0];
    let count = u32::MAX.to_le_bytes();
    assert!(Payload::decode(&[&head[..], &count].concat()).is_err());
    // One write at `a` that sets a text of 4 GiB.
    let text = [
        &head[..],
        &[1, 0, 0, 0],
        &[3, 0, 1, b'a', 0],
        &[0x11, 0x06],
        &count,
    ]
    .concat();
    assert!(matches!(
        Payload::decode(&text),
        Err(PayloadError::Malformed { .. })
    ));
}

#[test]
fn unknown_versions_and_kinds_are_told_apart_from_damage() {
    assert_eq!(
        Payload::decode(&[2, 1, 0, 0, 0, 0, 0]),
        Err(PayloadError::UnknownVersion(2))
    );
    assert_eq!(
        Payload::decode(&[1, 77, 0, 0, 0, 0, 0]),
        Err(PayloadError::UnknownKind(77))
    );
    assert_eq!(Payload::kind_byte(&[1, 77, 0]), Some(77));
    assert!(
        Payload::decode(&[1, 1, 0, 0, 0, 0, 0])
            .unwrap()
            .writes()
            .is_empty()
    );
}

#[test]
fn a_table_field_nested_a_million_deep_is_refused_in_a_small_stack() {
    let body = [&[0x11][..], &vec![0x09; 1_000_000], &vec![0x0a; 1_000_000]].concat();
    let bytes = [
        &[1, 2, 0, 1, 0, 0, 0, 6, 0, 1, b'r', 0, 1, b'f', 0][..],
        &body,
    ]
    .concat();
    let thread = std::thread::Builder::new().stack_size(64 << 10);
    let refused = thread
        .spawn(move || Payload::decode(&bytes).is_err())
        .unwrap()
        .join()
        .unwrap();
    assert!(refused);
}

#[test]
fn the_stamp_of_own_elements_cannot_be_written_out() {
    let mut path = vec![1, b'l', 0, 2];
    path.extend([0xff; 40]);
    path.extend([0; 4]);
    let len = u16::try_from(path.len()).unwrap().to_le_bytes();
    let bytes = [&[1, 1, 0, 1, 0, 0, 0][..], &len, &path, &[0x18], &[0; 8]].concat();
    assert!(matches!(
        Payload::decode(&bytes),
        Err(PayloadError::Malformed { .. })
    ));
}
