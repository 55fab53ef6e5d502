use serde_json::Value;

use crate::home::{BAD_INPUT, DENIED, FAILED, Home, NOT_FOUND, USAGE, failed, succeeded};
use crate::sharing::Server;

const PASSPHRASE: &str = "nine blue otters";

/// A person with a data directory of their own.
fn person(name: &str) -> Home {
    let home = Home::empty();
    home.ok(&["init", "--user", name, "--no-password"]);
    home
}

/// The default key of a data directory.
fn key_of(home: &Home) -> String {
    let keys = home.json(&["user", "key", "list"]);
    let key = keys.iter().find(|row| row["default"] == true).unwrap();
    text(&key["key"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Alice with a database that everybody may read, and its id.
fn alice() -> (Home, String) {
    let alice = person("alice");
    let id = alice
        .ok(&["db", "create", "db", "--public"])
        .trim()
        .to_owned();
    alice.ok(&["set", "db", "t", "first", "by=alice"]);
    (alice, id)
}

fn sync(from: &Home, with: &Home, id: &str) {
    let server = Server::start(with);
    from.ok(&["sync", &server.address, id, "--request", "read"]);
    server.quit();
}

/// Makes one row, and returns its entry.
fn write(home: &Home, row: &str) -> String {
    home.ok(&["set", "db", "t", row, "v=1"]);
    text(&home.json(&["log", "db", "-n", "1"])[0]["id"])
}

fn state(home: &Home) -> String {
    text(&home.json(&["db", "info", "db"])[0]["state"])
}

fn rows(home: &Home) -> Vec<String> {
    let rows = home.json(&["query", "db", "t"]);
    rows.iter().map(|row| text(&row["key"])).collect()
}

fn void(home: &Home) -> Vec<String> {
    let rows = home.json(&["db", "void", "db"]);
    rows.iter().map(|row| text(&row["entry"])).collect()
}

/// Gives a copy of one's default key away.
fn steal(from: &Home, to: &Home) {
    let with = |home: &Home, args: &[&str]| {
        let mut command = home.command(args);
        succeeded(
            command
                .env("EIDETICA_PASSPHRASE", PASSPHRASE)
                .output()
                .unwrap(),
            args,
        )
    };
    let exported = with(from, &["user", "key", "export", "default"]);
    to.file("key", exported);
    with(to, &["user", "key", "import", "key", "--name", "stolen"]);
    to.ok(&["user", "key", "default", "stolen"]);
}

#[test]
fn a_stolen_key_is_revoked_and_honest_work_adopted() {
    let ((alice, id), bob, mallory) = (alice(), person("bob"), person("mallory"));
    let granted = &alice.json(&["db", "grant", "db", &key_of(&bob), "write", "--name", "bob"])[0];
    assert_eq!(
        (&granted["right"], &granted["name"]),
        (&"Write(10)".into(), &"bob".into())
    );
    sync(&bob, &alice, &id);
    let trusted = write(&bob, "honest");
    sync(&bob, &alice, &id);
    assert_eq!(rows(&alice), ["first", "honest"]);

    steal(&bob, &mallory);
    sync(&mallory, &alice, &id);
    let theft = write(&mallory, "theft");
    sync(&mallory, &alice, &id);
    assert_eq!(rows(&alice), ["first", "honest", "theft"]);
    // Bob is offline meanwhile, and knows nothing of all this.
    let offline = write(&bob, "offline");

    let revoke = [
        "db", "revoke", "db", "bob", "--cut", &trusted, "--reason", "stolen", "--to", "read",
    ];
    let errors = alice.fails(&revoke, FAILED);
    assert!(
        errors.contains("1 entry becomes void") && errors.contains("--yes"),
        "{errors}"
    );
    assert_eq!(
        rows(&alice),
        ["first", "honest", "theft"],
        "nothing was done"
    );
    let revoked = &alice.json(&[&revoke[..], &["--yes"]].concat())[0];
    assert_eq!(
        (&revoked["voided"], &revoked["right"]),
        (&1.into(), &"Read".into())
    );
    assert_eq!(rows(&alice), ["first", "honest"]);
    assert_eq!(void(&alice), [theft.as_str()]);

    // What was written elsewhere before anybody knew is void where it arrives, and listed.
    sync(&alice, &bob, &id);
    assert_eq!(rows(&alice), ["first", "honest"]);
    assert_eq!(void(&alice).len(), 2);

    // Whoever has the key, and whenever they wrote: it does not count any more.
    mallory.ok(&["set", "db", "t", "more", "v=1"]);
    for home in [&mallory, &bob] {
        sync(home, &alice, &id);
        sync(home, &alice, &id);
        assert_eq!(rows(home), ["first", "honest"]);
        home.fails(&["set", "db", "t", "x", "v=1"], DENIED);
    }
    assert_eq!(rows(&alice), ["first", "honest"]);
    assert_eq!(
        (state(&bob), state(&mallory)),
        (state(&alice), state(&alice))
    );

    // The honest entry is found among the void ones, and counts again, everywhere.
    let listed = alice.json(&["db", "void", "db"]);
    let found = listed.iter().find(|row| row["entry"] == offline.as_str());
    let found = found.unwrap_or_else(|| panic!("{offline} is not in {listed:?}"));
    assert_eq!(
        (&found["author_name"], &found["code"]),
        (&"bob".into(), &2.into())
    );
    assert!(text(&found["reason"]).contains(revoked["entry"].as_str().unwrap()));
    alice.ok(&["db", "adopt", "db", &offline[..12]]);
    alice.fails(&["db", "adopt", "db", &offline], FAILED);
    for home in [&mallory, &bob] {
        sync(home, &alice, &id);
    }
    assert_eq!(rows(&alice), ["first", "honest", "offline"]);
    assert_eq!(
        (state(&bob), state(&mallory)),
        (state(&alice), state(&alice))
    );
    assert_eq!(alice.json(&["verify"])[0]["sound"], true);

    let audit = alice.json(&["db", "audit", "db"]);
    let said: Vec<_> = audit
        .iter()
        .map(|row| row["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        &said[said.len() - 3..],
        ["grant", "revoke", "adopt"],
        "{said:?}"
    );
    let of = |what: &str| audit.iter().rfind(|row| row["what"] == what).unwrap();
    assert_eq!(of("grant")["until"], revoked["entry"]);
    assert_eq!(
        (&of("revoke")["reason"], &of("revoke")["by_name"]),
        (&"stolen".into(), &"alice".into())
    );
    assert_eq!(of("adopt")["entries"], serde_json::json!([offline]));
}

#[test]
fn a_wrong_revocation_is_corrected() {
    let ((alice, id), bob) = (alice(), person("bob"));
    alice.ok(&["db", "grant", "db", &key_of(&bob), "write", "--name", "bob"]);
    sync(&bob, &alice, &id);
    let first = write(&bob, "b1");
    write(&bob, "b2");
    sync(&bob, &alice, &id);
    let correct = ["db", "revoke", "db", "bob", "--correct", "--yes"];
    alice.fails(&correct, NOT_FOUND);
    alice.ok(&["db", "revoke", "db", "bob", "--cut", "none", "--yes"]);
    assert_eq!(
        (rows(&alice), void(&alice).len()),
        (vec!["first".to_owned()], 2)
    );

    let corrected = &alice.json(&[&correct[..], &["--cut", &first]].concat())[0];
    assert_eq!(
        (&corrected["voided"], &corrected["restored"]),
        (&0.into(), &1.into())
    );
    assert_eq!(rows(&alice), ["b1", "first"]);
    let corrected = &alice.json(&correct)[0];
    assert_eq!(
        (&corrected["voided"], &corrected["restored"]),
        (&0.into(), &1.into())
    );
    assert_eq!(rows(&alice), ["b1", "b2", "first"]);
    assert!(void(&alice).is_empty());

    sync(&bob, &alice, &id);
    // Bob has no right any more, not even by the wildcard, and his device still reads what everybody may.
    bob.fails(&["set", &id, "t", "b3", "v=1"], DENIED);
    alice.ok(&["db", "grant", "db", "bob", "write:5"]);
    sync(&bob, &alice, &id);
    write(&bob, "b3");
    sync(&bob, &alice, &id);
    assert_eq!(rows(&alice), ["b1", "b2", "b3", "first"]);
    assert_eq!(state(&alice), state(&bob));
}

#[test]
fn the_recovery_key_ends_a_stolen_daily_key() {
    let ((alice, id), mallory) = (alice(), person("mallory"));
    steal(&alice, &mallory);
    sync(&mallory, &alice, &id);
    let daily = key_of(&alice);
    mallory.ok(&[
        "db",
        "grant",
        "db",
        &key_of(&person("eve")),
        "admin:0",
        "--name",
        "eve",
    ]);
    sync(&mallory, &alice, &id);
    let names = |home: &Home| -> Vec<String> {
        home.json(&["db", "keys", "db"])
            .iter()
            .map(|row| text(&row["name"]))
            .collect()
    };
    assert!(names(&alice).contains(&"eve".to_owned()));

    // A key does not revoke itself, and an equal one cannot.
    alice.fails(&["db", "revoke", "db", &daily, "--yes"], FAILED);
    let errors = alice.fails(&["db", "revoke", "db", "eve", "--yes"], DENIED);
    assert!(
        errors.contains("ask one of: alice/recovery (Recovery)") && errors.contains("--as"),
        "{errors}"
    );
    let root = text(&alice.json(&["log", "db"]).last().unwrap()["id"]);
    let revoked = &alice.json(&[
        "db", "revoke", "db", &daily, "--as", "recovery", "--cut", &root, "--yes",
    ])[0];
    assert!(revoked["voided"].as_u64().unwrap() >= 2, "{revoked}");
    alice.ok(&["user", "key", "new", "new"]);
    alice.ok(&["db", "grant", "db", "new", "admin:0", "--as", "recovery"]);
    assert!(!names(&alice).contains(&"eve".to_owned()));
    alice.ok(&["set", "db", "t", "second", "by=alice"]);
    assert_eq!(rows(&alice), ["second"]);
    sync(&mallory, &alice, &id);
    mallory.fails(&["db", "grant", "db", &daily, "write"], DENIED);
    assert_eq!(state(&mallory), state(&alice));
}

#[test]
fn rights_are_listed_and_changed() {
    let (alice, _) = alice();
    alice.ok(&["user", "create", "bob", "--no-password"]);
    let alice_json = |args: &[&str]| alice.json(&[&["--user", "alice"], args].concat());
    let as_alice = |args: &[&str]| alice.ok(&[&["--user", "alice"], args].concat());
    let keys = |args: &[&str]| -> Vec<(String, String, bool)> {
        let rows = alice_json(&[&["db", "keys", "db"], args].concat());
        let row = |row: &Value| {
            (
                text(&row["name"]),
                row["right"].as_str().unwrap_or("-").to_owned(),
                row["own"] == true,
            )
        };
        rows.iter().map(row).collect()
    };
    let own = |name: &str, right: &str| (name.to_owned(), right.to_owned(), true);
    let other = |name: &str, right: &str| (name.to_owned(), right.to_owned(), false);
    let owners = [own("alice/recovery", "Recovery"), own("alice", "Admin(0)")];
    assert_eq!(
        keys(&[]),
        [&owners[..], &[other("everybody", "Read")]].concat()
    );

    as_alice(&["db", "grant", "db", "bob", "admin:2"]);
    as_alice(&["db", "wildcard", "db", "write:20"]);
    let with = [other("bob", "Admin(2)"), other("everybody", "Write(20)")];
    assert_eq!(keys(&[]), [&owners[..], &with].concat());
    let lowered = &alice_json(&["db", "revoke", "db", "bob", "--to", "write", "--yes"])[0];
    assert_eq!(lowered["right"], "Write(10)");
    let errors = alice.fails(&["--user", "bob", "db", "wildcard", "db", "none"], DENIED);
    assert!(errors.contains("alice (Admin(0))"), "{errors}");
    as_alice(&["db", "wildcard", "db", "none"]);
    as_alice(&["db", "revoke", "db", "bob", "--yes"]);
    assert_eq!(keys(&[]), owners);
    assert_eq!(
        keys(&["--all"]),
        [&owners[..], &[other("bob", "-")]].concat()
    );
    alice.fails(&["--user", "bob", "db", "keys", "db"], NOT_FOUND);

    let rotated = &alice_json(&["db", "rotate", "db"])[0];
    assert_eq!(rotated["right"], "Admin(0)");
    assert_eq!(key_of_user(&alice, "alice"), text(&rotated["to"]));
    as_alice(&["set", "db", "t", "second", "by=alice"]);
    as_alice(&["db", "renounce", "db"]);
    alice.fails(&["--user", "alice", "db", "keys", "db"], NOT_FOUND);
    assert_eq!(
        keys(&["--as", "recovery"]),
        [own("alice/recovery", "Recovery")]
    );
    let renounce = [
        "--user", "alice", "db", "renounce", "db", "--as", "recovery",
    ];
    let errors = alice.fails(&renounce, DENIED);
    assert!(
        errors.contains("last owner") && errors.contains("--last-owner"),
        "{errors}"
    );
    alice.ok(&[&renounce[..], &["--last-owner"]].concat());
}

fn key_of_user(home: &Home, user: &str) -> String {
    let keys = home.json(&["--user", user, "user", "key", "list"]);
    text(&keys.iter().find(|row| row["default"] == true).unwrap()["key"])
}

#[test]
fn what_names_nothing_or_too_much_is_refused() {
    let (alice, id) = alice();
    alice.fails(&["db", "grant", "db", "nobody", "write"], NOT_FOUND);
    alice.fails(
        &[
            "db",
            "grant",
            "db",
            &format!("ed25519:{}", "0".repeat(64)),
            "write",
        ],
        FAILED,
    );
    alice.fails(&["db", "grant", "db", "alice", "owner"], USAGE);
    alice.fails(&["db", "wildcard", "db", "admin"], USAGE);
    alice.fails(&["db", "revoke", "db", "nobody", "--yes"], NOT_FOUND);
    let bob = key_of(&person("bob"));
    alice.fails(
        &[
            "db",
            "revoke",
            "db",
            &bob,
            "--yes",
            "--cut",
            &"0".repeat(64),
        ],
        NOT_FOUND,
    );
    alice.fails(
        &["db", "revoke", "db", &bob, "--yes", "--cut", "xyz"],
        NOT_FOUND,
    );
    alice.fails(
        &["db", "revoke", "db", &bob, "--to", "admin", "--yes"],
        FAILED,
    );
    alice.fails(
        &["db", "revoke", "db", &bob, "--reason", "\u{1b}[2J", "--yes"],
        BAD_INPUT,
    );
    alice.fails(&["db", "adopt", "db", &id], FAILED);
    alice.fails(&["db", "adopt", "db"], USAGE);
    alice.fails(&["db", "audit", "nothing"], NOT_FOUND);
    alice.fails(&["db", "rotate", "db", "--to", "nobody"], NOT_FOUND);
    alice.fails(
        &["db", "grant", "db", &bob, "write", "--as", "nobody"],
        NOT_FOUND,
    );

    // Two keys of one name: nobody is meant.
    alice.ok(&["db", "grant", "db", &bob, "write", "--name", "carol"]);
    alice.ok(&[
        "db",
        "grant",
        "db",
        &key_of(&person("x")),
        "write",
        "--name",
        "carol",
    ]);
    let args = ["db", "revoke", "db", "carol", "--yes"];
    let errors = failed(alice.run(&args), &args, FAILED);
    assert!(errors.contains(&bob), "{errors}");
    assert!(void(&alice).is_empty());
}
