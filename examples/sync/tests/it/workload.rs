//! Keys that are overwritten and deleted, operations that are pruned, servers that share the work.

use std::path::Path;
use std::sync::Arc;

use eidetica_authdb::{Any, Operation, Options};
use eidetica_authdb_dir::DirDisk;
use eidetica_mmr::Location;
use rustix::process::Signal;

use crate::program::{client, copy, number, server, text};

fn open(dir: &Path) -> Any {
    Any::open(Arc::new(DirDisk::open(dir).unwrap()), Options::new([1; 32])).unwrap()
}

#[test]
fn a_copy_is_what_was_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (original, replica) = (dir.path().join("original"), dir.path().join("replica"));
    let mut server = server(&[
        "-i",
        "2000",
        "-t",
        "20ms",
        "-o",
        "100",
        "--prune-after",
        "100ms",
        "-d",
        text(&original),
    ]);
    let address = server.address();
    let mut client = client(&[&address], &["-i", "10ms", "-d", text(&replica)]);
    client.expect_that("a lower bound", |line| {
        line.contains("starting sync") && number(line, "lower_bound_ops") > 4000
    });
    let done = client.expect("✅");
    client.stop(Signal::INT);
    server.stop(Signal::INT);

    let (original, replica) = (open(&original), open(&replica));
    assert!(
        replica.boundary().0 > 4000 && original.boundary().0 > 0,
        "nothing was pruned"
    );
    assert!(replica.leaves().0 >= number(&done, "database_ops"));
    assert_eq!(original.root_at(replica.leaves()).unwrap(), replica.root());
    let (mut updates, mut deletes) = (0, 0);
    for at in replica.boundary().0..replica.leaves().0 {
        let bytes = replica.operation(Location(at)).unwrap();
        match Operation::decode(&bytes).unwrap() {
            Operation::Update { .. } => updates += 1,
            Operation::Delete { key } => {
                deletes += 1;
                // Later operations may have set it again, but the copy knows.
                replica.get(key).unwrap();
            }
            _ => {}
        }
    }
    assert!(
        updates > 100 && deletes > 5,
        "{updates} updates, {deletes} deletions"
    );
    assert!(updates > replica.active(), "no key was overwritten");
}

#[test]
fn servers_share_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let static_at = |dir: &Path| server(&["-i", "20000", "-o", "0", "-d", text(dir)]);
    let mut first = static_at(&one);
    first.address();
    first.stop(Signal::INT);
    copy(&one, &other);
    let (mut first, mut second) = (static_at(&one), static_at(&other));
    let (a, b) = (first.address(), second.address());
    let mut client = client(&[&a, &b], &["-b", "100", "-i", "1h"]);
    let starting = client.expect("starting sync");
    assert!(
        starting.contains(&format!(" server={a},{b} ")),
        "{starting}"
    );
    client.expect("✅");
    client.stop(Signal::INT);
    for server in [&mut first, &mut second] {
        assert!(server.metric("sync_server_operations_served_total") > 100.0);
    }
}

#[test]
fn one_server_of_two_may_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&["-i", "500", "-o", "0", "-d", text(dir.path())]);
    let address = server.address();
    let mut client = client(&["127.0.0.1:9", &address], &["-i", "50ms"]);
    client.expect("✅");
    client.expect("✅");
    client.stop(Signal::INT);
}
