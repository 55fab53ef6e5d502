//! Roots and bytes that freeze the operations: a change here is a change of every database there is.

use std::fmt::Write as _;

use eidetica_authdb::MemoryDisk;
use eidetica_mmr::Location;

use crate::support::{Dice, Model, change, open, open_immutable};

const COMMITTED: &str = include_str!("../conformance.txt");

fn computed() -> String {
    let mut text = String::new();
    let mut any = open(&MemoryDisk::new());
    let (mut model, mut dice) = (Model::new(), Dice(2026));
    for round in 0..60 {
        change(&mut any, &mut model, &mut dice, 10);
        any.commit((round % 3 == 0).then_some(b"metadata")).unwrap();
        if round % 10 == 9 {
            let (size, floor, active) = (any.leaves(), any.floor(), any.active());
            writeln!(text, "any {size} {floor} {active} {}", any.root()).unwrap();
        }
    }
    let mut immutable = open_immutable(&MemoryDisk::new());
    for key in 0u64..60 {
        immutable
            .set(&key.to_le_bytes(), &vec![key as u8; key as usize])
            .unwrap();
        if key % 20 == 19 {
            immutable.commit(Some(b"")).unwrap();
            writeln!(
                text,
                "immutable {} {}",
                immutable.leaves(),
                immutable.root()
            )
            .unwrap();
        }
    }
    let shown = any
        .proof(Location(any.floor().0)..any.leaves().next(), usize::MAX)
        .unwrap();
    let mut bytes = shown.operations.as_bytes().to_vec();
    shown.proof.encode(&mut bytes);
    writeln!(text, "range {}", blake3::hash(&bytes)).unwrap();
    text
}

#[test]
fn roots_are_what_they_were() {
    let computed = computed();
    assert_eq!(computed, COMMITTED, "\n{computed}");
}
