//! A program that cannot do its work says why and ends with a failure.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;

use crate::program::{run, server, text};

const SERVER: &str = env!("CARGO_BIN_EXE_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_client");

fn fails(program: &str, options: &[&str], says: &[&str]) {
    let mut command = Command::new(program);
    command.args(["--metrics-port", "0"]).args(options);
    let (status, errors) = run(command).ended();
    assert_eq!(status.code(), Some(1), "{options:?}\n{errors}");
    for text in says {
        assert!(
            errors.contains(text),
            "{options:?} without {text:?}:\n{errors}"
        );
    }
}

#[test]
fn ports_that_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fails(SERVER, &["--port", &port], &["error: ", &port, "--port"]);
    fails(
        SERVER,
        &["--port", &port, "--http"],
        &["error: ", &port, "--port"],
    );
    for program in [SERVER, CLIENT] {
        let mut command = Command::new(program);
        command.args(["--metrics-port", &port]);
        if program == SERVER {
            command.args(["--port", "0"]);
        }
        let (status, errors) = run(command).ended();
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("--metrics-port") && errors.contains(&port),
            "{errors}"
        );
    }
}

#[test]
fn directories_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "something").unwrap();
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "something").unwrap();
    for program in [SERVER, CLIENT] {
        for path in [&file, &foreign, &file.join("below")] {
            let port: &[&str] = if program == SERVER {
                &["--port", "0"]
            } else {
                &[]
            };
            let options = [port, &["--storage-dir", text(path)]].concat();
            fails(program, &options, &["error: ", text(path), "--storage-dir"]);
        }
    }
    assert_eq!(
        fs::read_to_string(foreign.join("letter")).unwrap(),
        "something"
    );
}

#[test]
fn directories_that_somebody_has() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--storage-dir", text(dir.path()), "-t", "1h"];
    let mut first = server(&options);
    first.address();
    fails(
        SERVER,
        &["--port", "0", "--storage-dir", text(dir.path())],
        &["--storage-dir"],
    );
    first.stop(Signal::INT);
    fails(
        SERVER,
        &[
            "--port",
            "0",
            "--db",
            "immutable",
            "--storage-dir",
            text(dir.path()),
        ],
        &["another type of database"],
    );
}

#[test]
fn others_are_not_let_in_without_keys() {
    fails(
        SERVER,
        &["--port", "0", "--host", "0.0.0.0"],
        &["--identity", "--allow"],
    );
}
