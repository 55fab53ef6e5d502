//! Servers that show another history, and strangers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::program::{PATIENCE, client, copy, field, server, text};

#[test]
fn a_fork_is_an_alarm_that_keeps_both_roots() {
    let dir = tempfile::tempdir().unwrap();
    let (original, fork, replica) = (
        dir.path().join("original"),
        dir.path().join("fork"),
        dir.path().join("replica"),
    );
    let mut server = server(&["-i", "100", "-o", "0", "-d", text(&original)]);
    let address = server.address();
    let mut first = client(&[&address], &["-d", text(&replica)]);
    let held = first.expect("✅");
    first.stop(Signal::INT);
    server.stop(Signal::INT);

    // Another history of the same length and beyond.
    copy(&original, &fork);
    let mut other = crate::program::server(&["-i", "400", "-t", "50ms"]);
    let address = other.address();
    let mut second = client(
        &[&address],
        &["-d", text(&replica), "-i", "50ms", "-t", "50ms"],
    );
    let alarm = second.expect("ERROR ALARM");
    let held_root = field(&held, "root").to_owned();
    let shown_root = alarm
        .rsplit_once("root: ")
        .unwrap()
        .1
        .split_once(',')
        .unwrap()
        .0;
    assert!(
        alarm.contains(&held_root) && shown_root != held_root,
        "{alarm}"
    );
    let evidence = std::fs::read_to_string(field(&alarm, "evidence")).unwrap();
    assert!(
        evidence.contains(&held_root) && evidence.contains(shown_root),
        "{evidence}"
    );
    assert!(second.metric("sync_client_alarms_total") >= 1.0);
    let lines = second.stop(Signal::INT).join("\n");
    assert!(!lines.contains("✅"), "{lines}");
    other.stop(Signal::INT);

    // The copy is what it was, and goes on with whoever continues it.
    let mut server = crate::program::server(&["-t", "50ms", "-d", text(&fork)]);
    let address = server.address();
    server.expect("added operations");
    let mut third = client(&[&address], &["-d", text(&replica)]);
    third.expect("✅");
}

#[test]
fn the_other_type_is_refused() {
    let mut server = server(&["-i", "10", "--db", "immutable"]);
    let address = server.address();
    let mut client = client(&[&address], &["-i", "1s"]);
    let refused = client.expect("a server refuses");
    assert!(
        refused.contains("--db") && refused.contains(&address),
        "{refused}"
    );
}

#[test]
fn noise_ends_its_own_connection_alone() {
    let mut server = server(&["-i", "10", "-o", "0"]);
    let address = server.address();
    let length = |length: u32| length.to_le_bytes().to_vec();
    let noises = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        length(u32::MAX),
        length(129),
        [length(4), b"what".to_vec()].concat(),
        [length(0), length(0)].concat(),
    ];
    for noise in noises {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&noise).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A refusal, an end or a reset; not silence.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(answer.len() < 64, "{answer:?}");
    }
    let mut client = client(&[&address], &["-i", "1h"]);
    client.expect("✅");
    client.stop(Signal::INT);
    server.stop(Signal::INT);
}
