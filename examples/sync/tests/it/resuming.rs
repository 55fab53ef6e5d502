//! Programs that end in the middle and start again.

use rustix::process::Signal;

use crate::program::{client, number, server, server_at, text};

#[test]
fn a_client_killed_in_the_middle_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&["-i", "30000", "-o", "0"]);
    let whole = number(&server.expect("database ready"), "op_count");
    let address = server.address();
    let copy = dir.path().join("copy");
    let mut first = client(&[&address], &["-b", "7", "-r", "1", "-d", text(&copy)]);
    first.expect("starting sync");
    let there = first.metric_until("sync_client_database_operations", |there| there > 2000.0);
    assert!(
        there < whole as f64,
        "it was faster than this test: {there} of {whole}"
    );
    first.kill();

    let mut second = client(&[&address], &["-b", "1000", "-d", text(&copy)]);
    let done = second.expect("✅");
    assert_eq!(number(&done, "database_ops"), whole);
    let verified = second.metric("sync_client_operations_verified_total");
    assert!(
        verified > 0.0 && verified <= whole as f64 - there,
        "{verified} after {there} of {whole}"
    );
    second.stop(Signal::INT);

    let mut third = client(&[&address], &["-d", text(&copy)]);
    third.expect("✅");
    assert_eq!(third.metric("sync_client_operations_verified_total"), 0.0);
    third.stop(Signal::TERM);
    server.stop(Signal::TERM);
}

#[test]
fn a_client_stopped_in_the_middle_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&["-i", "20000", "-o", "0", "--db", "immutable"]);
    let whole = number(&server.expect("database ready"), "op_count");
    let address = server.address();
    let options = ["--db", "immutable", "-d", text(dir.path())];
    let mut first = client(
        &[&address],
        &[&options[..], &["-b", "7", "-r", "1"]].concat(),
    );
    first.expect("starting sync");
    let there = first.metric_until("sync_client_database_operations", |there| there > 1000.0);
    first.stop(Signal::INT);
    let mut second = client(&[&address], &options);
    assert_eq!(number(&second.expect("✅"), "database_ops"), whole);
    assert!(second.metric("sync_client_operations_verified_total") <= whole as f64 - there);
}

#[test]
fn a_server_goes_on_and_its_client_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["-d", text(dir.path()), "-i", "40", "-t", "100ms"];
    let mut first = server(&options);
    let address = first.address();
    let mut client = client(&[&address], &["-i", "20ms"]);
    client.expect("✅");
    let lines = first.stop(Signal::INT);
    let last = lines
        .iter()
        .rfind(|line| line.contains("root="))
        .unwrap()
        .clone();
    client.expect("cannot reach a server");

    let mut second = server_at(&address, &options);
    let ready = second.expect("database ready");
    assert!(
        !second
            .seen
            .iter()
            .any(|line| line.contains("creating initial operations"))
    );
    let root = ready.rsplit_once('=').unwrap().1;
    assert!(last.contains(root), "{last}\n{ready}");
    second.expect("added operations");
    let ops = number(&ready, "op_count");
    client.expect_that("a longer database", |line| {
        line.contains("✅") && number(line, "database_ops") > ops
    });
    client.stop(Signal::INT);
    second.stop(Signal::INT);
}
