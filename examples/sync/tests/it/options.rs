//! What the command lines refuse, and how.

use std::process::Command;

use crate::program::run;

/// A program refuses these options with exit code 2 and says all of this.
fn refuses(program: &str, options: &[&str], says: &[&str]) {
    let mut command = Command::new(program);
    command.args(options);
    let (status, errors) = run(command).ended();
    assert_eq!(status.code(), Some(2), "{options:?}\n{errors}");
    for text in says {
        assert!(
            errors.contains(text),
            "{options:?} without {text:?}:\n{errors}"
        );
    }
}

const SERVER: &str = env!("CARGO_BIN_EXE_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_client");

#[test]
fn the_type_of_database_is_one_of_two() {
    for program in [SERVER, CLIENT] {
        refuses(program, &["--db", "some"], &["--db", "any", "immutable"]);
    }
}

#[test]
fn durations_have_units() {
    let of_server = ["--op-interval", "-t", "--prune-after"];
    let of_client = ["--target-update-interval", "-t", "--sync-interval", "-i"];
    let long = |option| match option {
        "-t" => "-interval <DURATION>",
        "-i" => "--sync-interval <DURATION>",
        long => long,
    };
    for (program, options) in [(SERVER, &of_server[..]), (CLIENT, &of_client)] {
        for option in options {
            for value in ["5", "5d", "fast", "1.5s", "0s", ""] {
                refuses(program, &[&format!("{option}={value}")], &[long(option)]);
            }
        }
    }
    refuses(
        SERVER,
        &["--op-interval", "5"],
        &["--op-interval", "ms, s, m, h"],
    );
    refuses(
        CLIENT,
        &["--sync-interval", "9999999h"],
        &["--sync-interval", "longer than a year"],
    );
    refuses(
        CLIENT,
        &["-t", "48h"],
        &["--target-update-interval", "every 24h"],
    );
}

#[test]
fn numbers_have_bounds() {
    for option in [
        "--port",
        "--metrics-port",
        "--initial-ops",
        "--ops-per-interval",
        "--max-connections",
    ] {
        for value in ["-1", "some", "99999999999999999999"] {
            refuses(SERVER, &[&format!("{option}={value}")], &[option]);
        }
    }
    for option in ["--operation-rate", "--target-rate", "--max-connections"] {
        refuses(SERVER, &[option, "0"], &[option]);
    }
    for (option, value) in [
        ("--batch-size", "0"),
        ("--batch-size", "16385"),
        ("--max-outstanding-requests", "0"),
        ("--max-outstanding-requests", "65"),
        ("--metrics-port", "65536"),
    ] {
        refuses(CLIENT, &[option, value], &[option]);
    }
}

#[test]
fn places_and_keys_are_read() {
    for server in [
        "somewhere",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:http",
        "tcp://a:1",
    ] {
        refuses(CLIENT, &["--server", server], &["--server"]);
    }
    let key = "ed25519:0000000000000000000000000000000000000000000000000000000000000000";
    for key in ["alice", "ed25519:12", key] {
        refuses(CLIENT, &["--trusted-signer", key], &["--trusted-signer"]);
        refuses(
            SERVER,
            &["--identity", "file", "--allow", key],
            &["--allow"],
        );
    }
    refuses(SERVER, &["--host", "localhost"], &["--host"]);
    let key = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    refuses(SERVER, &["--allow", key], &["--identity"]);
    refuses(CLIENT, &["--storage"], &["--storage"]);
}

#[test]
fn help_names_every_option_with_its_default() {
    let expected: [(&str, &[&str]); 2] = [
        (
            SERVER,
            &[
                "--db",
                "any",
                "immutable",
                "-p, --port",
                "8080",
                "-i, --initial-ops",
                "100",
                "-d, --storage-dir",
                "-m, --metrics-port",
                "9090",
                "-t, --op-interval",
                "100ms",
                "-o, --ops-per-interval",
                "5",
                "--identity",
                "--allow",
                "--signer",
            ],
        ),
        (
            CLIENT,
            &[
                "--db",
                "-s, --server",
                "127.0.0.1:8080",
                "-b, --batch-size",
                "50",
                "-d, --storage-dir",
                "-m, --metrics-port",
                "9091",
                "-t, --target-update-interval",
                "1s",
                "-i, --sync-interval",
                "10s",
                "-r, --max-outstanding-requests",
                "--start-over",
                "--identity",
                "--allow",
                "--trusted-signer",
            ],
        ),
    ];
    for (program, texts) in expected {
        let mut command = Command::new(program);
        command.arg("--help");
        let mut program = run(command);
        assert!(program.ended().0.success());
        let help = program.seen.join("\n");
        for text in texts {
            assert!(help.contains(text), "no {text} in\n{help}");
        }
    }
}
