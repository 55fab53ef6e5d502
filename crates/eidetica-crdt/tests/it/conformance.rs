//! Bytes that must never change: payloads, rows and what the state hash is made of.

use eidetica_crdt::{
    Container, ElemId, Init, MemRows, OWN, Op, Order, Path, Payload, Position, Scalar, StoreKind,
    Value, Write, hash_visible, insert,
};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::json;

use crate::laws::dump;

const EXPECTED: &str = include_str!("../conformance.txt");

fn stamp(height: u64) -> Stamp {
    Stamp::new(Height(height), Id::new([height as u8; 32]))
}

fn write(path: &str, op: Op) -> Write {
    Write {
        path: path.parse().unwrap(),
        op,
    }
}

fn doc_payloads() -> Vec<(Stamp, Payload)> {
    let list = Path::of_keys(["list"]).unwrap();
    let own = |ordinal| {
        list.elem(ElemId {
            stamp: OWN,
            ordinal,
        })
        .unwrap()
    };
    let held = |ordinal| {
        list.elem(ElemId {
            stamp: stamp(1),
            ordinal,
        })
        .unwrap()
    };
    let position = |bytes: &[u8]| Position::from_bytes(bytes).unwrap();
    let ins = |at: &[u8], init| Op::Ins {
        position: position(at),
        init,
    };
    let first = vec![
        write("a\\.b", Op::Set(Scalar::Text("dot".into()))),
        write("bytes", Op::Set(Scalar::Bytes(vec![0, 1, 2, 255]))),
        write("empty", Op::Make(Container::List)),
        write("float", Op::Set(Scalar::Float(-0.5))),
        Write {
            path: own(0),
            op: ins(&[128, 0], Init::Scalar(Scalar::Null)),
        },
        Write {
            path: own(1),
            op: ins(&[128, 1, 7], Init::Empty(Container::Map)),
        },
        Write {
            path: own(1).key("k").unwrap(),
            op: Op::Set(Scalar::Bool(true)),
        },
        write("map", Op::Clear(Container::Map)),
        write("map.n", Op::Inc(-3)),
        write("nul\0key", Op::Set(Scalar::Int(i64::MIN))),
    ];
    let second = vec![
        write("float", Op::Delete),
        Write {
            path: held(0),
            op: Op::Move(position(&[255])),
        },
        Write {
            path: held(1),
            op: Op::Kill,
        },
        write("map.n", Op::Inc(10)),
    ];
    let payload = |writes| Payload::new(StoreKind::Doc, Some([9; 16]), writes).unwrap();
    vec![(stamp(1), payload(first)), (stamp(2), payload(second))]
}

fn table_payloads() -> Vec<(Stamp, Payload)> {
    let packed = Value::from_json(&json!([{"x": [1.5, "t"]}, false])).unwrap();
    let first = vec![
        write("r1", Op::Clear(Container::Map)),
        write("r1.a", Op::Set(Scalar::Int(1))),
        write("r1.p", Op::Set(Scalar::Packed(Box::new(packed)))),
        write("r2", Op::Clear(Container::Map)),
        write("r2.a", Op::Set(Scalar::Float(f64::NAN))),
    ];
    let second = vec![
        write("r1.a", Op::Set(Scalar::Int(2))),
        write("r1.n", Op::Inc(5)),
        write("r2", Op::Delete),
    ];
    let payload = |writes| Payload::new(StoreKind::Table, None, writes).unwrap();
    vec![(stamp(1), payload(first)), (stamp(2), payload(second))]
}

fn lines(name: &str, kind: StoreKind, payloads: &[(Stamp, Payload)]) -> Vec<String> {
    let mut rows = MemRows::new();
    let mut lines = Vec::new();
    for (n, (stamp, payload)) in payloads.iter().enumerate() {
        insert(&mut rows, *stamp, payload, Order::Any).unwrap();
        lines.push(format!(
            "{name} payload {n} {}",
            data_encoding::HEXLOWER.encode(&payload.encode())
        ));
    }
    let mut all = blake3::Hasher::new();
    for (space, key, value) in dump(&rows) {
        for part in [&[space as u8][..], &key, &value] {
            all.update(&(part.len() as u32).to_le_bytes()).update(part);
        }
    }
    lines.push(format!("{name} rows {}", all.finalize()));
    let mut visible = blake3::Hasher::new();
    hash_visible(&rows, kind, &mut |piece| {
        visible.update(piece);
    })
    .unwrap();
    lines.push(format!("{name} visible {}", visible.finalize()));
    lines
}

#[test]
fn bytes_are_what_they_were() {
    let doc = lines("doc", StoreKind::Doc, &doc_payloads());
    let table = lines("table", StoreKind::Table, &table_payloads());
    let now = [doc, table].concat().join("\n");
    assert_eq!(now.trim(), EXPECTED.trim(), "\n{now}\n");
}
