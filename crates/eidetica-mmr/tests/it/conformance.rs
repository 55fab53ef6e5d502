//! Hashes that freeze the format: a change here is a change of every root there is.

use std::fmt::Write as _;

use eidetica_mmr::{
    Digest, Leaves, Location, leaf_hash, node_hash, prove_consistency, prove_multi, prove_range,
};

use crate::oracle::mmr;

const COMMITTED: &str = include_str!("../conformance.txt");

fn hash_of(bytes: &[u8]) -> Digest {
    Digest::new(*blake3::hash(bytes).as_bytes())
}

fn computed() -> String {
    let mut text = String::new();
    let mut line = |what: &str, digest: Digest| writeln!(text, "{what} {digest}").unwrap();
    line("leaf of nothing", leaf_hash(b""));
    line("leaf of abc", leaf_hash(b"abc"));
    line(
        "node of both",
        node_hash(&leaf_hash(b""), &leaf_hash(b"abc")),
    );
    for count in [0, 1, 2, 3, 4, 5, 7, 8, 11, 100, 1000] {
        line(&format!("root of {count}"), mmr(count).root());
    }
    let range = mmr(1000);
    let mut bytes = Vec::new();
    prove_range(&range, Leaves(1000), Location(123)..Location(456))
        .unwrap()
        .encode(&mut bytes);
    line("proof of 123..456 in 1000", hash_of(&bytes));
    bytes.clear();
    prove_range(&range, Leaves(777), Location(776)..Location(777))
        .unwrap()
        .encode(&mut bytes);
    line("proof of 776 in 777", hash_of(&bytes));
    bytes.clear();
    let several = [0, 5, 6, 511, 512, 999].map(Location);
    prove_multi(&range, Leaves(1000), &several)
        .unwrap()
        .encode(&mut bytes);
    line("proof of 0 5 6 511 512 999 in 1000", hash_of(&bytes));
    bytes.clear();
    prove_consistency(&range, Leaves(345), Leaves(1000))
        .unwrap()
        .encode(&mut bytes);
    line("proof that 345 begins 1000", hash_of(&bytes));
    text
}

#[test]
fn hashes_and_proofs_are_what_they_were() {
    let computed = computed();
    assert_eq!(computed, COMMITTED, "\n{computed}");
}
