//! Keys, signed targets, limits.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{Program, client, field, server, text};

/// A key file, and its public key: the program makes it and says what it is.
fn key(dir: &Path, name: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    let mut asking = client(&["127.0.0.1:9"], &["--identity", text(&path)]);
    let key = field(&asking.expect("this side's identity"), "key").to_owned();
    let (status, errors) = asking.ended();
    assert_eq!(status.code(), Some(1));
    assert!(
        errors.contains("--allow") && errors.contains(&key),
        "{errors}"
    );
    (path, key)
}

struct Keys {
    dir: TempDir,
    server: (PathBuf, String),
    client: (PathBuf, String),
    signer: (PathBuf, String),
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [server, client, signer] =
            ["server", "client", "signer"].map(|name| key(dir.path(), name));
        Self {
            dir,
            server,
            client,
            signer,
        }
    }

    fn server(&self, more: &[&str]) -> Program {
        let own = [
            "--identity",
            text(&self.server.0),
            "--allow",
            &self.client.1,
            "--signer",
            text(&self.signer.0),
            "-i",
            "200",
            "-t",
            "50ms",
        ];
        server(&[&own[..], more].concat())
    }

    fn client(&self, address: &str, more: &[&str]) -> Program {
        let own = [
            "--identity",
            text(&self.client.0),
            "--allow",
            &self.server.1,
            "-i",
            "50ms",
        ];
        client(&[address], &[&own[..], more].concat())
    }
}

#[test]
fn proven_keys_and_signed_targets() {
    let keys = Keys::new();
    let mut server = keys.server(&[]);
    let signed = server.expect("targets are signed");
    assert_eq!(field(&signed, "key"), keys.signer.1);
    let address = server.address();
    let mut client = keys.client(&address, &["--trusted-signer", &keys.signer.1]);
    client.expect("✅");
    client.expect("✅");
    let lines = [client.stop(Signal::INT), server.stop(Signal::TERM)].concat();
    assert!(
        !lines.iter().any(|line| line.contains("not authenticated")),
        "{lines:?}"
    );
}

#[test]
fn the_key_file_is_the_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (path, first) = key(dir.path(), "key");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(key(dir.path(), "key").1, first);
}

#[test]
fn a_target_of_another_signer_is_not_taken() {
    let keys = Keys::new();
    let mut server = keys.server(&[]);
    let address = server.address();
    // The server's own key does not vouch for its targets.
    let mut client = keys.client(&address, &["--trusted-signer", &keys.server.1]);
    client.expect("not signed by the trusted signer");
    client.metric_until("sync_client_errors_total", |errors| errors >= 2.0);
    let lines = client.stop(Signal::INT).join("\n");
    assert!(!lines.contains("starting sync "), "{lines}");
    // Nor is a target of nobody taken.
    let mut plain = crate::program::server(&["-i", "10"]);
    let address = plain.address();
    let mut client = crate::program::client(&[&address], &["--trusted-signer", &keys.signer.1]);
    client.expect("not signed by the trusted signer");
}

#[test]
fn unknown_keys_are_refused() {
    let keys = Keys::new();
    let (stranger, stranger_key) = key(keys.dir.path(), "stranger");
    let mut server = keys.server(&[]);
    let address = server.address();
    // A client that the server does not know.
    let mut client = crate::program::client(
        &[&address],
        &["--identity", text(&stranger), "--allow", &keys.server.1],
    );
    let refused = client.expect("cannot reach a server");
    assert!(refused.contains("refuses"), "{refused}");
    server.metric_until("sync_server_errors_total", |errors| errors >= 1.0);
    // A server that the client does not know.
    let mut client = crate::program::client(
        &[&address],
        &["--identity", text(&keys.client.0), "--allow", &stranger_key],
    );
    let refused = client.expect("cannot reach a server");
    assert!(refused.contains("which is not allowed"), "{refused}");
    // A client without a key.
    let plain = format!("http://{address}");
    let mut client = crate::program::client(&[&plain], &["-i", "1s"]);
    client.expect_that("trouble", |line| {
        line.contains("sent something wrong") || line.contains("is gone")
    });
    let lines = client.stop(Signal::INT).join("\n");
    assert!(!lines.contains("starting sync "), "{lines}");
    assert_eq!(server.metric("sync_server_operations_served_total"), 0.0);
}

#[test]
fn http_without_keys() {
    let mut server = server(&["--http", "-i", "300", "-t", "100ms"]);
    let address = server.address();
    let mut client = client(&[&format!("http://{address}")], &["-i", "20ms"]);
    client.expect("✅");
    client.expect("✅");
    client.stop(Signal::INT);
    server.stop(Signal::INT);
}

#[test]
fn the_signer_is_not_the_server() {
    let keys = Keys::new();
    let (path, key) = &keys.server;
    let mut server = server(&[
        "--identity",
        text(path),
        "--allow",
        key,
        "--signer",
        text(path),
    ]);
    let (status, errors) = server.ended();
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("--signer"), "{errors}");
}

#[test]
fn who_asks_too_much_is_told_to_wait() {
    // A full bucket holds 2,000, and of an immutable database a client needs every operation.
    let database = ["--db", "immutable"];
    let rated = ["-i", "2600", "-o", "0", "--operation-rate", "1000"];
    let mut server = server(&[&database[..], &rated].concat());
    let address = server.address();
    let options = [&database[..], &["-b", "200", "-i", "1h"]].concat();
    let mut client = client(&[&address], &options);
    client.expect("✅");
    let busy = |page: String| {
        page.lines()
            .any(|line| line.starts_with("sync_server_refusals_total{reason=\"busy\"}"))
    };
    assert!(busy(server.page().1));
    assert_eq!(client.metric("sync_client_alarms_total"), 0.0);
    client.stop(Signal::INT);
    server.stop(Signal::INT);
}

#[test]
fn connections_are_counted() {
    let mut server = server(&["-i", "10", "--max-connections", "1"]);
    let address = server.address();
    let _held = std::net::TcpStream::connect(&address).unwrap();
    server.metric_until("sync_server_connections", |open| open == 1.0);
    let mut client = client(&[&address], &["-i", "1s"]);
    client.expect("the connection to a server is gone");
    let errors = server.metric_until("sync_server_errors_total", |errors| errors >= 1.0);
    assert!(errors >= 1.0);
    drop(_held);
    client.expect("✅");
}
