//! The program as it is used: two people, two directories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eidetica-todo"));
    command.arg("--dir").arg(dir).args(args).output().unwrap()
}

/// What a command prints.
fn todo(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn fails(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn one_person() {
    let place = tempfile::tempdir().unwrap();
    let alice = &place.path().join("alice");
    assert!(fails(alice, &["list"]).contains("no list yet"));
    assert_eq!(todo(alice, &["add", "buy milk"]), "1 [ ] buy milk\n");
    todo(alice, &["add", "\u{1b}[2Jwash"]);
    todo(alice, &["done", "1"]);
    todo(alice, &["edit", "1", "buy oat milk"]);
    assert_eq!(
        todo(alice, &["list"]),
        "1 [x] buy oat milk\n2 [ ] \\u{1b}[2Jwash\n"
    );
    assert_eq!(todo(alice, &["remove", "2"]), "1 [x] buy oat milk\n");
    assert!(fails(alice, &["done", "2"]).contains("no item 2"));
    assert!(fails(alice, &["done", "0"]).contains("no item 0"));
    assert!(
        todo(alice, &["log"])
            .lines()
            .all(|line| line.contains(" alice "))
    );
}

#[test]
fn two_directories_are_shared_and_merged() {
    let place = tempfile::tempdir().unwrap();
    let (alice, bob) = (&place.path().join("alice"), &place.path().join("bob"));
    let (alices, bobs) = (alice.to_str().unwrap(), bob.to_str().unwrap());
    todo(alice, &["add", "buy milk"]);
    assert!(fails(bob, &["sync", alices]).contains("hint: `share`"));

    todo(alice, &["share", bobs, "read"]);
    assert!(todo(bob, &["sync", alices]).contains("1 [ ] buy milk"));
    let refused = fails(bob, &["add", "sell the house"]);
    assert!(refused.contains("hint: `people`"), "{refused}");

    assert!(todo(alice, &["share", bobs, "write"]).contains("Write(10)  bob"));
    todo(bob, &["sync", alices]);
    todo(bob, &["done", "1"]);
    todo(bob, &["add", "call grandmother"]);
    todo(alice, &["edit", "1", "buy oat milk"]);
    let merged = "1 [x] buy oat milk\n2 [ ] call grandmother\n";
    assert!(todo(alice, &["sync", bobs]).ends_with(merged));
    assert_eq!(todo(bob, &["list"]), merged);
    assert_eq!(todo(alice, &["log"]), todo(bob, &["log"]));
}
