use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::home::{BAD_INPUT, DENIED, Home, NOT_FOUND, PENDING, UNAVAILABLE};

/// A running `eidetica --json serve`.
pub(crate) struct Server {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(home: &Home) -> Self {
        Self::spawn(home.command(&["--json", "serve", "--listen", "127.0.0.1:0"]))
    }

    /// In another directory than the home's own.
    pub(crate) fn start_in(home: &Home, dir: &std::path::Path) -> Self {
        let mut command = home.command(&["--json", "serve", "--listen", "127.0.0.1:0"]);
        command.current_dir(dir);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self {
            child,
            input,
            lines,
            address: String::new(),
        };
        let address = server.next()["address"].as_str().unwrap().to_owned();
        server.address = address.strip_prefix("http://").unwrap().to_owned();
        server
    }

    /// The next value it prints.
    pub(crate) fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn quit(mut self) {
        self.type_line("quit");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Alice with a database of one table, and its id.
fn alice() -> (Home, String) {
    let alice = Home::new();
    let id = alice.ok(&["db", "create", "db"]).trim().to_owned();
    let file = alice.file("t.csv", "k,v\na,1\nb,2\n");
    alice.ok(&["import", &file, "db"]);
    (alice, id)
}

fn bob() -> Home {
    let bob = Home::empty();
    bob.ok(&["init", "--user", "bob", "--no-password"]);
    bob
}

#[test]
fn access_is_asked_for_granted_and_kept() {
    let ((alice, id), bob) = (alice(), bob());
    let mut server = Server::start(&alice);
    let errors = bob.fails(&["sync", &server.address, &id], PENDING);
    assert!(errors.contains("--wait"), "{errors}");
    let request = server.next();
    assert_eq!(
        (&request["database"], &request["permission"]),
        (&Value::from(id.as_str()), &"Write(10)".into())
    );
    server.type_line(&format!(
        "approve {}",
        &request["id"].as_str().unwrap()[..8]
    ));
    assert_eq!(server.next()["approved"], request["id"]);
    let report = &bob.json(&["sync", &server.address, &id])[0];
    assert_eq!(
        (&report["name"], &report["sent"]),
        (&"db".into(), &0.into())
    );
    assert_eq!(bob.rows("t"), 2);

    bob.ok(&["set", "db", "t", "a", "v:=10", "seen=bob"]);
    let report = &bob.json(&["sync", &server.address, "db"])[0];
    assert_eq!(
        (&report["received"], &report["sent"]),
        (&0.into(), &1.into())
    );
    server.quit();
    assert_eq!(
        alice.json(&["get", "db", "t", "a"]),
        bob.json(&["get", "db", "t", "a"])
    );
    assert_eq!(alice.ok(&["get", "db", "t", "a", "seen"]), "bob\n");

    // After both were restarted nobody has to ask again.
    alice.ok(&["set", "db", "t", "b", "v:=20"]);
    let server = Server::start(&alice);
    assert_eq!(bob.json(&["sync", &server.address, "db"])[0]["received"], 1);
    assert_eq!(bob.ok(&["get", "db", "t", "b", "v"]), "20\n");
    server.quit();
    assert_eq!(bob.json(&["verify"])[0]["sound"], true);
}

#[test]
fn requests_are_decided_without_a_server_too() {
    let ((alice, id), bob) = (alice(), bob());
    let server = Server::start(&alice);
    bob.fails(
        &["sync", &server.address, &id, "--request", "read"],
        PENDING,
    );
    server.quit();
    let requests = alice.json(&["requests", "list"]);
    assert_eq!(
        (
            requests.len(),
            &requests[0]["permission"],
            &requests[0]["name"]
        ),
        (1, &"Read".into(), &"bob".into())
    );
    alice.fails(&["requests", "approve", "ffffffffffff"], NOT_FOUND);
    alice.ok(&["requests", "approve", requests[0]["id"].as_str().unwrap()]);
    assert_eq!(alice.json(&["requests", "list"]).len(), 0);
    assert_eq!(
        alice.json(&["requests", "list", "--all"])[0]["state"],
        "approved"
    );
    let server = Server::start(&alice);
    bob.ok(&["sync", &server.address, &id]);
    assert_eq!(bob.rows("t"), 2);
    // Read is not Write.
    let errors = bob.fails(&["set", "db", "t", "a", "v=x"], DENIED);
    assert!(errors.contains("writing data needs Write"), "{errors}");
    server.quit();
}

#[test]
fn waiting_ends_with_the_decision() {
    let (alice, id) = alice();
    for (decision, code) in [("approve", 0), ("reject", DENIED)] {
        let bob = bob();
        let mut server = Server::start(&alice);
        let mut waiting = bob
            .command(&["sync", &server.address, &id, "--wait", "60"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let request = server.next();
        server.type_line(&format!("{decision} {}", request["id"].as_str().unwrap()));
        server.next();
        assert_eq!(waiting.wait().unwrap().code(), Some(code), "{decision}");
        server.quit();
    }
}

#[test]
fn a_stranger_learns_nothing() {
    let ((alice, id), mallory) = (alice(), bob());
    let mut server = Server::start(&alice);
    let invented = "0".repeat(64);
    // Nobody can ask for a database that is not there; the answer is that of one that is refused.
    mallory.fails(&["sync", &server.address, &invented], DENIED);
    mallory.fails(&["sync", &server.address, &id], PENDING);
    let request = server.next();
    server.type_line(&format!("reject {}", request["id"].as_str().unwrap()));
    server.next();
    let refused = mallory.fails(&["sync", &server.address, &id], DENIED);
    let absent = mallory.fails(&["sync", &server.address, &invented], DENIED);
    assert_eq!(refused.replace(&id, "ID"), absent.replace(&invented, "ID"));
    assert_eq!(mallory.json(&["db", "list"]).len(), 0);
    server.quit();
}

#[test]
fn a_public_database_needs_no_request() {
    let alice = Home::new();
    let id = alice
        .ok(&["db", "create", "db", "--public"])
        .trim()
        .to_owned();
    alice.ok(&["set", "db", "t", "a", "v=1"]);
    let (server, bob) = (Server::start(&alice), bob());
    bob.ok(&["sync", &server.address, &id, "--request", "read"]);
    assert_eq!(bob.rows("t"), 1);
    bob.fails(&["set", "db", "t", "a", "v=x"], DENIED);
    server.quit();
}

#[test]
fn what_is_typed_to_a_server_may_be_wrong() {
    let (alice, _) = alice();
    let mut command = alice.command(&["--json", "serve", "--listen", "127.0.0.1:0"]);
    command.stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    let mut errors = BufReader::new(server.child.stderr.take().unwrap()).lines();
    for (line, code) in [
        ("dance", "bad_input"),
        ("approve 00000000", "not_found"),
        ("approve", "bad_input"),
        ("\u{1b}[2J", "bad_input"),
    ] {
        server.type_line(line);
        let error: Value = serde_json::from_str(&errors.next().unwrap().unwrap()).unwrap();
        assert_eq!(error["code"], code, "{line}");
    }
    server.quit();
}

#[test]
fn a_port_in_use_a_silent_port_and_a_bad_address() {
    let ((alice, id), bob) = (alice(), bob());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let errors = alice.fails(&["serve", "--listen", &address], UNAVAILABLE);
    assert!(
        errors.contains(&address) && errors.contains("hint:"),
        "{errors}"
    );
    drop(taken);
    let errors = bob.fails(&["sync", &address, &id], UNAVAILABLE);
    assert!(errors.contains("hint:"), "{errors}");
    bob.fails(&["sync", "not an address", &id], BAD_INPUT);
    bob.fails(&["sync", &address, "unknown"], NOT_FOUND);
    assert_eq!(bob.json(&["db", "list"]).len(), 0);
}

#[test]
fn while_a_server_runs_the_directory_is_taken() {
    let (alice, _) = alice();
    let server = Server::start(&alice);
    let errors = alice.fails(&["db", "list"], UNAVAILABLE);
    assert!(errors.contains("eidetica serve"), "{errors}");
    server.quit();
    alice.ok(&["db", "list"]);
}
