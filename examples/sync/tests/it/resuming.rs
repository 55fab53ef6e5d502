//! Programs that end in the middle and start again.

use rustix::process::Signal;

use crate::front::Front;
use crate::program::{client, field, number, server, text};

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
    let front = Front::of(&first.address());
    let mut client = client(&[&front.address()], &["-i", "20ms"]);
    client.expect("✅");
    front.lead_to(None);
    let lines = first.stop(Signal::INT);
    let last = lines
        .iter()
        .rfind(|line| line.contains("root="))
        .unwrap()
        .clone();
    client.expect("WARN the connection to a server is gone");

    let mut second = server(&options);
    let ready = second.expect("database ready");
    assert!(
        !second
            .seen
            .iter()
            .any(|line| line.contains("creating initial operations"))
    );
    let root = ready.rsplit_once('=').unwrap().1;
    assert!(last.contains(root), "{last}\n{ready}");
    front.lead_to(Some(second.address()));
    second.expect("added operations");
    let ops = number(&ready, "op_count");
    client.expect_that("a longer database", |line| {
        line.contains("✅") && number(line, "database_ops") > ops
    });
    client.stop(Signal::INT);
    second.stop(Signal::INT);
}

#[test]
fn a_client_that_was_away_too_long_starts_over_if_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let replica = dir.path().join("replica");
    let growth = ["-t", "10ms", "-o", "50", "--prune-after", "100ms"];
    let mut server = server(&[&["-i", "100"][..], &growth].concat());
    let address = server.address();
    let mut first = client(&[&address], &["-d", text(&replica), "-i", "1h"]);
    let held = first.expect("✅");
    first.stop(Signal::INT);

    // What it has no longer counts, and has not for thirty times ten milliseconds.
    let ops = number(&held, "database_ops") as f64;
    server.metric_until("sync_server_database_lower_bound", |lower| lower > ops);
    let then = server.metric("sync_server_database_operations");
    server.metric_until("sync_server_database_operations", |now| now > then + 1500.0);
    let mut second = client(&[&address], &["-d", text(&replica)]);
    let warned = second.expect("WARN this copy is older than what the servers keep");
    let root = field(&held, "root");
    assert!(
        warned.contains("--start-over") && warned.contains(root),
        "{warned}"
    );
    assert_eq!(second.metric("sync_client_alarms_total"), 0.0);
    let lines = second.stop(Signal::INT).join("\n");
    assert!(
        !lines.contains("starting sync ") && !lines.contains("ALARM"),
        "{lines}"
    );

    let mut third = client(&[&address], &["-d", text(&replica), "--start-over"]);
    let crossed = third.expect("WARN this copy is older than what the servers keep: starting over");
    let evidence = std::fs::read_to_string(field(&crossed, "evidence")).unwrap();
    let starting = third.expect("starting sync ");
    let shown = starting.split_once("root: ").unwrap().1;
    let shown = shown.split_once(',').unwrap().0;
    assert!(
        evidence.contains(root) && evidence.contains(shown),
        "{evidence}"
    );
    let done = third.expect("✅");
    assert!(number(&done, "database_ops") as f64 > then);
    third.stop(Signal::INT);
    // From there on it continues what it has.
    let mut fourth = client(&[&address], &["-d", text(&replica), "--start-over"]);
    fourth.expect("✅");
    let lines = fourth.stop(Signal::INT).join("\n");
    assert!(!lines.contains("starting over"), "{lines}");
    server.stop(Signal::INT);
}

#[test]
fn a_directory_with_something_else_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = server(&["-i", "40", "-o", "0", "-d", text(dir.path())]);
    let root = field(&other.expect("database ready"), "root").to_owned();
    other.stop(Signal::INT);

    let mut server = server(&["-i", "90", "-o", "0"]);
    let whole = number(&server.expect("database ready"), "op_count");
    let mut client = client(&[&server.address()], &["-d", text(dir.path())]);
    client.expect("WARN what was here is no beginning of the servers' history");
    assert_eq!(number(&client.expect("✅"), "database_ops"), whole);
    client.stop(Signal::INT);
    server.stop(Signal::INT);

    // As the manual says: without the prefix the files are what they were.
    let data = dir.path().join("data");
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = text(path.file_name().unwrap().as_ref()).to_owned();
        if !name.starts_with("aside.") {
            std::fs::remove_file(path).unwrap();
        }
    }
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = text(path.file_name().unwrap().as_ref()).to_owned();
        let kept = name.strip_prefix("aside.").unwrap();
        std::fs::rename(&path, data.join(kept)).unwrap();
    }
    let mut other = crate::program::server(&["-o", "0", "-d", text(dir.path())]);
    let ready = other.expect("database ready");
    assert_eq!(field(&ready, "root"), root);
    other.stop(Signal::INT);
}

#[test]
fn a_server_stops_while_it_makes_its_initial_operations() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = server(&["-i", "1000000000", "-d", text(dir.path())]);
    first.expect("creating initial operations");
    let lines = first.stop(Signal::TERM).join("\n");
    assert!(
        lines.contains("stopped") && !lines.contains("listening"),
        "{lines}"
    );
    let mut again = server(&["-d", text(dir.path())]);
    again.expect("database ready");
    again.address();
    again.stop(Signal::INT);
}
