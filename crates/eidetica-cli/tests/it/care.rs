use crate::home::{CORRUPT, FAILED, Home, NOT_FOUND, USAGE, failed};
use crate::hostile::{copy, files_below};
use crate::sharing::Server;

/// Some rows, so that there are packs and an open block.
fn fill(home: &Home) {
    let rows: Vec<String> = (0..2_000).map(|n| format!("r{n},value {n}")).collect();
    home.file("rows.csv", format!("key,text\n{}\n", rows.join("\n")));
    home.ok(&["import", "rows.csv", "db", "--key", "key"]);
}

#[test]
fn a_forgotten_database_is_gone_here_and_comes_again_from_a_peer() {
    let (alice, bob) = (Home::new(), Home::empty());
    let id = alice.ok(&["db", "create", "db"]).trim().to_owned();
    alice.ok(&["db", "wildcard", "db", "write:10"]);
    fill(&alice);
    bob.ok(&["init", "--user", "bob", "--no-password"]);
    let server = Server::start(&alice);
    bob.ok(&["sync", &server.address, &id]);
    assert_eq!(bob.rows("rows"), 2_000);

    let asked = bob.fails(&["db", "forget", "db"], FAILED);
    assert!(asked.contains("--yes"), "{asked}");
    let said = bob.ok(&["db", "forget", "db", "--yes"]);
    assert!(said.contains(&id), "{said}");
    bob.fails(&["db", "info", &id], NOT_FOUND);
    assert_eq!(bob.json(&["status"])[0]["sync"], serde_json::json!([]));
    bob.ok(&["compact"]);
    bob.ok(&["verify"]);
    bob.fails(&["db", "forget", &id, "--yes"], NOT_FOUND);

    bob.ok(&["sync", &server.address, &id]);
    assert_eq!(bob.rows("rows"), 2_000);
}

#[test]
fn what_others_track_is_forgotten_by_force_only() {
    let home = Home::with_db();
    home.ok(&["user", "create", "bob", "--no-password", "--user", "alice"]);
    let bob = ["--user", "bob"];
    let id = home.json(&["db", "list", "--user", "alice"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let said = home.fails(
        &[&["db", "forget", &id, "--yes"], &bob[..]].concat(),
        FAILED,
    );
    assert!(said.contains("alice") && said.contains("--force"), "{said}");
    home.ok(&[&["db", "forget", &id, "--yes", "--force"], &bob[..]].concat());
    home.fails(&["db", "info", &id, "--user", "alice"], NOT_FOUND);
}

#[test]
fn a_repair_makes_nothing_of_an_empty_place() {
    let home = Home::with_db();
    let void = home.path().join("void");
    std::fs::create_dir(&void).unwrap();
    home.fails(&["repair", "--from", "void"], NOT_FOUND);
    home.fails(&["repair", "--from", "nowhere"], NOT_FOUND);
    assert_eq!(std::fs::read_dir(&void).unwrap().count(), 0);
}

/// Past the engine, which seals what is written through it.
fn damage(home: &Home, what: &str) -> usize {
    let file = home.data().join("data").join("rows.sqlite");
    let file = rusqlite::Connection::open(file).unwrap();
    file.execute(what, []).unwrap()
}

#[test]
fn what_a_disk_damages_is_named_computed_again_and_put_back() {
    let home = Home::empty();
    let on_sqlite = ["--store", "sqlite:.eidetica"];
    home.ok(&[
        &["init", "--user", "alice", "--no-password"],
        &on_sqlite[..],
    ]
    .concat());
    home.ok(&["db", "create", "db"]);
    fill(&home);
    home.ok(&["db", "create", "other"]);
    home.ok(&["backup", "sound.backup"]);
    home.ok(&["restore", "sound.backup", "--data-dir", "sound"]);

    // What follows from the entries.
    for space in ["state", "ids"] {
        let all = format!("UPDATE {space} SET v = x'00'");
        assert!(damage(&home, &all) > 0);
    }
    let found = home.run(&["verify"]);
    assert_eq!(found.status.code(), Some(CORRUPT));
    // Nor does a reader that is gone make it sound.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = home.command(&["verify"]).stdout(writer).status().unwrap();
    assert_eq!(unread.code(), Some(CORRUPT));
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("index"), "{found}");
    assert!(home.ok(&["repair"]).contains("everything is sound"));
    home.ok(&["verify"]);
    assert_eq!(home.rows("rows"), 2_000);

    // The entries themselves.
    assert!(damage(&home, "UPDATE log SET s = s + 1 WHERE length(v) > 1000") > 0);
    home.fails(&["verify"], CORRUPT);
    home.fails(&["repair"], CORRUPT);
    let repaired = home.ok(&["repair", "--from", "sound"]);
    assert!(repaired.contains("everything is sound"), "{repaired}");
    assert_eq!(home.rows("rows"), 2_000);

    // What is given up is in nobody's way.
    assert!(damage(&home, "UPDATE log SET v = x'00' WHERE length(v) > 1000") > 0);
    home.ok(&["db", "forget", "db", "--yes"]);
    home.ok(&["verify"]);
    home.ok(&["db", "info", "other"]);
}

/// It checks blocks of many rows, and cannot write into them: what can be read is copied, and repaired there.
#[test]
fn damaged_blocks_of_the_default_engine_are_left_out_and_repaired() {
    let home = Home::with_db();
    fill(&home);
    home.ok(&["compact"]);
    home.ok(&["backup", "sound.backup"]);
    home.ok(&["restore", "sound.backup", "--data-dir", "sound"]);
    let before = home.path().join("before");
    std::fs::rename(home.data(), &before).unwrap();
    let (mut unverified, mut rescued) = (0, 0);
    for path in files_below(&before) {
        let name = path.strip_prefix(&before).unwrap();
        let mut content = std::fs::read(&path).unwrap();
        if !name.iter().any(|part| part == "tables") || content.len() < 200 {
            continue;
        }
        let _ = std::fs::remove_dir_all(home.data());
        let _ = std::fs::remove_dir_all(home.path().join("rescued"));
        copy(&before, &home.data());
        let third = content.len() / 3;
        content[third] ^= 0x10;
        std::fs::write(home.data().join(name), content).unwrap();
        if home.run(&["verify"]).status.success() {
            continue;
        }
        unverified += 1;
        let args = ["migrate", ".eidetica", "rescued", "--leave-out-damaged"];
        let copied = home.run(&args);
        if !copied.status.success() {
            failed(copied, &args, CORRUPT);
            continue;
        }
        let there = ["--data-dir", "rescued"];
        let repaired = home.run(&[&["repair", "--from", "sound"], &there[..]].concat());
        assert!(
            repaired.status.success(),
            "{}: {repaired:?}",
            name.display()
        );
        home.ok(&[&["verify"], &there[..]].concat());
        let rows = home.run(&[&["query", "db", "rows", "--count"], &there[..]].concat());
        match rows.status.success() {
            true => assert!(String::from_utf8_lossy(&rows.stdout).contains("2,000")),
            // Users follow from no entries.
            false => drop(failed(rows, &["query"], NOT_FOUND)),
        }
        rescued += 1;
    }
    assert!(unverified > 2 && rescued > 2, "{unverified}, {rescued}");
}

#[test]
fn a_quota_is_shown_set_and_kept() {
    let home = Home::with_db();
    assert!(home.ok(&["db", "quota", "db"]).contains("no limit"));
    home.fails(&["db", "quota", "db", "1.5MB"], USAGE);
    let set = &home.json(&["db", "quota", "db", "2000B"])[0];
    assert_eq!(set["limit"], 2_000);
    let full = home.fails(
        &["set", "db", "notes", &format!("text={}", "x".repeat(2_000))],
        FAILED,
    );
    assert!(full.contains("2000") && full.contains("db quota"), "{full}");
    assert!(home.ok(&["db", "info", "db"]).contains("2.0 KiB"));
    home.ok(&["db", "quota", "db", "1MB"]);
    home.ok(&["set", "db", "notes", &format!("text={}", "x".repeat(2_000))]);
    home.ok(&["verify"]);
    assert_eq!(
        home.json(&["db", "quota", "db", "none"])[0]["limit"],
        serde_json::Value::Null
    );
}

#[test]
fn sound_data_need_no_repair() {
    let home = Home::with_db();
    fill(&home);
    assert!(home.ok(&["repair"]).contains("everything is sound"));
    let report = &home.json(&["repair"])[0];
    assert_eq!(
        (&report["sound"], &report["faults_before"]),
        (&true.into(), &0.into())
    );
    home.fails(&["repair", "--from", "nowhere"], NOT_FOUND);
    let compacted = &home.json(&["compact"])[0];
    assert!(compacted["bytes_after"].as_u64() > Some(0));
    assert_eq!(home.rows("rows"), 2_000);
}
