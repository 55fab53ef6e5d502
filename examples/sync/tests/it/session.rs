//! The session of the specification: its lines, its fields, their order, and that the numbers are right.

use rustix::process::Signal;

use crate::program::{client, field, names, number, server};

fn follows_the_session(db: &str, signal: Signal) {
    let mut server = server(&[
        "--db",
        db,
        "--initial-ops",
        "50",
        "--op-interval",
        "200ms",
        "--ops-per-interval",
        "3",
    ]);
    assert_eq!(
        server.expect("INFO initializing"),
        "INFO initializing database"
    );
    let creating = server.expect("INFO creating initial operations");
    assert_eq!(number(&creating, "operations_len"), 55);
    let ready = server.expect("INFO database ready");
    assert_eq!(names(&ready), ["op_count", "root"]);
    assert_eq!(field(&ready, "root").len(), 64);
    let listening = server.expect("INFO server listening and continuously adding operations");
    assert_eq!(
        names(&listening),
        ["addr", "op_interval", "ops_per_interval"]
    );
    assert!(
        listening.ends_with(" op_interval=200ms ops_per_interval=3"),
        "{listening}"
    );
    let added = server.expect("INFO added operations");
    assert_eq!(names(&added), ["operations_added", "root"]);

    let address = field(&listening, "addr").to_owned();
    let mut client = client(
        &[&address],
        &["--db", db, "-b", "25", "-t", "3s", "-i", "100ms"],
    );
    client.expect("INFO starting continuous sync process");
    let mut roots = Vec::new();
    for iteration in 1..=3 {
        let starting = client.expect("INFO starting sync ");
        assert_eq!(
            names(&starting),
            [
                "sync_iteration",
                "target",
                "server",
                "batch_size",
                "target_update_interval"
            ]
        );
        assert_eq!(number(&starting, "sync_iteration"), iteration);
        assert!(
            starting.contains(" target=SyncTarget { root: "),
            "{starting}"
        );
        let rest = format!(" }} server={address} batch_size=25 target_update_interval=3s");
        assert!(starting.ends_with(&rest), "{starting}");
        let done = client.expect("INFO ✅ sync completed successfully ");
        assert_eq!(
            names(&done),
            ["sync_iteration", "database_ops", "root", "sync_interval"]
        );
        assert_eq!(number(&done, "sync_iteration"), iteration);
        assert_eq!(
            number(&done, "database_ops"),
            number(&starting, "upper_bound_ops") + 1
        );
        assert!(
            starting.contains(field(&done, "root")),
            "{starting}\n{done}"
        );
        assert!(done.ends_with(" sync_interval=100ms"), "{done}");
        roots.push(field(&done, "root").to_owned());
    }
    client.stop(signal);
    let shown = server.stop(signal).join("\n");
    for root in roots {
        assert!(
            shown.contains(&root),
            "the server never had {root}:\n{shown}"
        );
    }
}

#[test]
fn any_until_ctrl_c() {
    follows_the_session("any", Signal::INT);
}

#[test]
fn immutable_until_terminated() {
    follows_the_session("immutable", Signal::TERM);
}

#[test]
fn a_missing_server_is_waited_for_and_stopping_does_not_wait() {
    let mut client = client(&["127.0.0.1:9"], &["-i", "1s"]);
    client.expect("WARN servers are not authenticated");
    client.expect("WARN cannot reach a server");
    client.expect("WARN cannot reach a server");
    client.stop(Signal::INT);
}

#[test]
fn the_warning_is_said_once() {
    let mut server = server(&["-i", "5", "-t", "10ms"]);
    let address = server.address();
    let mut client = client(&[&address], &["-i", "10ms"]);
    for _ in 0..3 {
        client.expect("✅");
    }
    for lines in [client.stop(Signal::INT), server.stop(Signal::INT)] {
        let warnings = lines
            .iter()
            .filter(|line| line.contains("not authenticated"));
        assert_eq!(warnings.count(), 1, "{lines:?}");
    }
}
