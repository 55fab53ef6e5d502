//! `eidetica share` and `eidetica join`, on loopback without relays.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};

use serde_json::Value;

use crate::home::{BAD_INPUT, DENIED, Home, NOT_FOUND, PENDING, UNAVAILABLE, USAGE};
use crate::status::watch_until_safe;

/// A running `eidetica --json share`.
struct Share {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    /// What it printed first.
    said: Value,
}

impl Share {
    fn start(home: &Home, args: &[&str]) -> Self {
        let args = [&["--json", "share", "db", "--iroh", "local"], args].concat();
        let mut child = home
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Self {
            child,
            input,
            lines,
            said,
        }
    }

    fn ticket(&self) -> String {
        self.said["ticket"].as_str().unwrap().to_owned()
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn quit(mut self) {
        self.type_line("quit");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Alice with a table of two rows.
fn alice() -> Home {
    let alice = Home::with_db();
    let file = alice.file("t.csv", "k,v\na,1\nb,2\n");
    alice.ok(&["import", &file, "db"]);
    alice
}

fn guest(name: &str) -> Home {
    let home = Home::empty();
    home.ok(&["init", "--user", name, "--no-password"]);
    home
}

fn join(ticket: &str) -> [&str; 4] {
    ["join", ticket, "--iroh", "local"]
}

#[test]
fn one_string_is_all_that_a_guest_needs() {
    let (alice, bob, carol) = (alice(), guest("bob"), guest("carol"));
    let share = Share::start(&alice, &["--permission", "write:10", "--count", "1"]);
    let ticket = share.ticket();
    assert_eq!(share.said["invite"]["permission"], "Write(10)");
    assert!(
        share.said["addresses"][0]
            .as_str()
            .unwrap()
            .starts_with("iroh://")
    );

    let report = &bob.json(&join(&ticket))[0];
    assert_eq!(
        (&report["name"], &report["sent"]),
        (&"db".into(), &0.into())
    );
    assert_eq!(bob.rows("t"), 2);
    bob.ok(&["set", "db", "t", "a", "v:=10"]);
    assert_eq!(bob.json(&join(&ticket.to_uppercase()))[0]["sent"], 1);

    let errors = carol.fails(&join(&ticket), DENIED);
    assert!(errors.contains("used up"), "{errors}");
    share.quit();
    assert_eq!(alice.ok(&["get", "db", "t", "a", "v"]), "10\n");
    let invites = alice.json(&["share", "list"]);
    assert_eq!(
        (&invites[0]["state"], &invites[0]["left"]),
        (&"used up".into(), &0.into())
    );
    // Nobody answers any more.
    carol.fails(&join(&ticket), UNAVAILABLE);
}

#[test]
fn a_ticket_without_an_invite_leads_to_a_request() {
    let (alice, bob) = (alice(), guest("bob"));
    let mut share = Share::start(&alice, &[]);
    assert_eq!(share.said["invite"], Value::Null);
    let ticket = share.ticket();
    bob.fails(&join(&ticket), PENDING);
    let request = share.next();
    share.type_line(&format!(
        "approve {}",
        &request["id"].as_str().unwrap()[..8]
    ));
    assert_eq!(share.next()["approved"], request["id"]);
    bob.ok(&join(&ticket));
    assert_eq!(bob.rows("t"), 2);
    share.quit();
}

#[test]
fn an_invite_is_taken_back_and_expires() {
    let (alice, bob) = (alice(), guest("bob"));
    let share = Share::start(&alice, &["--permission", "read", "--expires", "1s"]);
    let ticket = share.ticket();
    let expires_ms = share.said["invite"]["expires_ms"].as_u64().unwrap();
    while std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 <= expires_ms {
        std::thread::yield_now();
    }
    let errors = bob.fails(&join(&ticket), DENIED);
    assert!(errors.contains("expired"), "{errors}");
    share.quit();

    let share = Share::start(&alice, &["--permission", "read"]);
    let id = share.said["invite"]["id"].as_str().unwrap().to_owned();
    share.quit();
    alice.fails(&["share", "revoke", "ed25519:0000"], NOT_FOUND);
    assert_eq!(
        alice.json(&["share", "revoke", &id[..20]])[0]["revoked"],
        id.as_str()
    );
    let states: Vec<Value> = alice.json(&["share", "list"]);
    assert!(states.iter().any(|row| row["state"] == "taken back"));
    assert!(states.iter().any(|row| row["state"] == "expired"));
}

#[test]
fn what_is_no_ticket_says_so_and_is_shown_escaped() {
    let bob = guest("bob");
    for (ticket, says) in [
        ("hello", "begins with eidetica:"),
        ("eidetica:aaaa", "damaged"),
        ("eidetica:a\u{1b}[2Jb", "letters and the digits"),
    ] {
        let errors = bob.fails(&join(ticket), BAD_INPUT);
        assert!(
            errors.contains(says) && !errors.contains('\u{1b}'),
            "{errors}"
        );
    }
    let errors = bob.fails(&["sync", "iroh://x\u{1b}[31m", &"0".repeat(64)], BAD_INPUT);
    assert!(!errors.contains('\u{1b}'), "{errors}");
    let errors = bob.fails(
        &["sync", "{\"id\":\"\u{1b}]0;x\u{7}\"}", &"0".repeat(64)],
        BAD_INPUT,
    );
    assert!(!errors.contains('\u{1b}'), "{errors}");
    bob.fails(&["share"], USAGE);
    bob.fails(
        &["share", "db", "--expires", "soon", "--permission", "read"],
        USAGE,
    );
    bob.fails(&["share", "db", "--count", "2"], USAGE);
}

#[test]
fn a_name_that_would_move_the_cursor_is_shown_escaped() {
    let alice = Home::new();
    alice.ok(&["db", "create", "x"]);
    let mut child = alice
        .command(&[
            "share",
            "x",
            "--iroh",
            "local",
            "--qr",
            "--permission",
            "read",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "quit").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && !text.contains('\u{1b}'),
        "{text}"
    );
    assert!(text.contains("eidetica join eidetica:"), "{text}");
    // A QR code in half blocks, with its quiet zone, no wider than a terminal.
    let widest = text
        .lines()
        .filter(|line| line.contains('\u{2580}'))
        .map(|line| line.chars().count());
    assert!(widest.max().is_some_and(|widest| widest <= 80), "{text}");
}

/// Who joined over Iroh keeps a connection over Iroh, unless that is turned off.
#[test]
fn watching_the_status_reaches_peers_over_iroh() {
    let (alice, bob) = (alice(), guest("bob"));
    let share = Share::start(&alice, &["--permission", "write:10"]);
    bob.ok(&join(&share.ticket()));
    bob.ok(&["set", "db", "t", "a", "v:=10"]);
    assert_eq!(bob.json(&["status"])[0]["safe_to_close"], false);
    watch_until_safe(&bob, &["--iroh", "local"]);
    share.quit();
    assert_eq!(alice.ok(&["get", "db", "t", "a", "v"]), "10\n");
}

/// Both transports of one node lead to the same.
#[test]
fn serve_answers_over_both_transports() {
    let (alice, bob) = (alice(), guest("bob"));
    let id = alice.json(&["db", "list"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut child = alice
        .command(&[
            "--json",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--iroh",
            "local",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let addresses = said["addresses"].as_array().unwrap();
    let [http, iroh] = [0, 1].map(|n| addresses[n].as_str().unwrap());
    bob.fails(
        &["sync", iroh, &id, "--iroh", "local", "--request", "read"],
        PENDING,
    );
    let request: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "approve {}", &request["id"].as_str().unwrap()[..8]).unwrap();
    lines.next().unwrap().unwrap();
    bob.ok(&["sync", http, &id]);
    assert_eq!(bob.rows("t"), 2);
    bob.ok(&["sync", iroh, "db", "--iroh", "local"]);
    writeln!(input, "quit").unwrap();
    assert!(child.wait().unwrap().success());
}
