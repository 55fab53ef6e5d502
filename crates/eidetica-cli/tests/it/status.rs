use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{home::Home, sharing::Server};

/// A running `eidetica --json status --watch`.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Watches until every write is elsewhere too, and interrupts the watching.
pub(crate) fn watch_until_safe(home: &Home, args: &[&str]) {
    let child = home
        .command(&[&["--json", "status", "--watch"], args].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watch = Watch(child);
    let lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    let mut values = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let safe = values.find(|value| value["safe_to_close"] == true).unwrap();
    assert_eq!(safe["sync"][0]["peers"][0]["to_send"], 0);
    let interrupt = Command::new("kill")
        .args(["-INT", &watch.0.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success() && watch.0.wait().unwrap().success());
}

#[test]
fn the_status_says_what_is_left_to_send_and_watching_sends_it() {
    let (alice, bob) = (Home::new(), Home::empty());
    let id = alice.ok(&["db", "create", "db"]).trim().to_owned();
    alice.ok(&["db", "wildcard", "db", "write:10"]);
    bob.ok(&["init", "--user", "bob", "--no-password"]);
    let status = &bob.json(&["status"])[0];
    assert_eq!(status["safe_to_close"], true);
    assert_eq!(status["sync"], Value::Array(vec![]));
    let server = Server::start(&alice);
    bob.ok(&["sync", &server.address, &id]);
    bob.ok(&["set", "db", "notes", "title=made on the train"]);

    let status = &bob.json(&["status", "db"])[0];
    assert_eq!(status["safe_to_close"], false);
    let database = &status["sync"][0];
    assert_eq!(
        (&database["name"], &database["on_commit"]),
        (&"db".into(), &true.into())
    );
    let peer = &database["peers"][0];
    assert_eq!(
        (&peer["has_latest"], &peer["to_send"]),
        (&false.into(), &1.into())
    );
    let text = bob.ok(&["status"]);
    assert!(
        text.contains("not safe to close") && text.contains("1 entry"),
        "{text}"
    );

    watch_until_safe(&bob, &[]);
    server.quit();
    assert_eq!(
        alice.ok(&["get", "db", "notes", "title"]),
        "made on the train\n"
    );
    assert_eq!(bob.json(&["status"])[0]["safe_to_close"], true);
}

#[test]
fn the_status_says_that_a_peer_holds_some_stores() {
    let (alice, bob) = (Home::new(), Home::empty());
    let id = alice.ok(&["db", "create", "db"]).trim().to_owned();
    alice.ok(&["db", "wildcard", "db", "write:10"]);
    alice.ok(&["db", "hold", "db", "--stores", "notes"]);
    bob.ok(&["init", "--user", "bob", "--no-password"]);
    let server = Server::start(&alice);
    bob.ok(&["sync", &server.address, &id]);
    for (store, is_safe, shown) in [("notes", true, "yes"), ("photos", false, "some stores")] {
        bob.ok(&["set", "db", store, "title=made on the train"]);
        bob.ok(&["sync", &server.address, &id]);
        let status = &bob.json(&["status", "db"])[0];
        assert_eq!(status["safe_to_close"], is_safe);
        let peer = &status["sync"][0]["peers"][0];
        assert_eq!(
            (&peer["has_latest"], &peer["to_send"]),
            (&is_safe.into(), &0.into())
        );
        let text = bob.ok(&["status"]);
        assert!(text.contains(shown), "{text}");
    }
    assert_eq!(
        bob.json(&["status"])[0]["sync"][0]["peers"][0]["payloads"],
        "some stores"
    );
    server.quit();
}
