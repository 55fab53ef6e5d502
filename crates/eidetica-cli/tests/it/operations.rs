use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::home::{BAD_INPUT, CORRUPT, FAILED, Home, NOT_FOUND, USAGE, failed, succeeded};

/// A database of some rows, and its state hash.
fn furnished() -> (Home, String) {
    let home = Home::with_db();
    let rows: String = (0..500)
        .map(|i| format!("k{i},{}\n", "x".repeat(50)))
        .collect();
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    home.ok(&["import", &file, "db"]);
    let state = state_at(&home, ".eidetica");
    (home, state)
}

/// The state hash of the database in a data directory or at a URL.
fn state_at(home: &Home, place: &str) -> String {
    let option = if place.contains(':') {
        "--store"
    } else {
        "--data-dir"
    };
    let info = home.json(&[option, place, "db", "info", "db"]);
    info[0]["state"].as_str().unwrap().to_owned()
}

fn device_at(home: &Home, dir: &str) -> String {
    let status = home.json(&["--data-dir", dir, "status"]);
    status[0]["device"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_is_restored_into_an_empty_place_and_nowhere_else() {
    let (home, state) = furnished();
    let made = home.json(&["backup", "b"]);
    assert!(made[0]["rows"].as_u64().unwrap() > 500, "{made:?}");
    let errors = home.fails(&["backup", "b"], FAILED);
    assert!(
        errors.contains("already") && errors.contains("--replace"),
        "{errors}"
    );
    home.ok(&["backup", "b", "--replace"]);

    let said = home.ok(&["restore", "b", "--data-dir", "new", "--verify"]);
    assert!(said.contains("everything is sound"), "{said}");
    assert_eq!(state_at(&home, "new"), state);
    assert_eq!(device_at(&home, "new"), device_at(&home, ".eidetica"));
    let errors = home.fails(&["restore", "b", "--data-dir", "new"], FAILED);
    assert!(errors.contains("already"), "{errors}");
    assert_eq!(state_at(&home, "new"), state);
    std::fs::create_dir(home.path().join("mine")).unwrap();
    home.file("mine/letter", "dear all");
    home.fails(&["restore", "b", "--data-dir", "mine"], FAILED);
    assert_eq!(home.path().join("mine").read_dir().unwrap().count(), 1);

    home.ok(&["restore", "b", "--data-dir", "second", "--as-new"]);
    assert_eq!(state_at(&home, "second"), state);
    assert_ne!(device_at(&home, "second"), device_at(&home, ".eidetica"));

    let checked = home.json(&["restore", "--check", "b"]);
    assert_eq!(checked[0]["engine"], "fjall");
    home.fails(&["restore", "--check", "b", "--as-new"], USAGE);
}

#[test]
fn a_backup_goes_through_a_pipe() {
    let (home, state) = furnished();
    let out = home.run(&["backup", "-"]);
    assert!(out.status.success());
    let mut child = home
        .command(&["restore", "-", "--store", "sqlite:new"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    succeeded(child.wait_with_output().unwrap(), &["restore"]);
    assert_eq!(state_at(&home, "sqlite:new"), state);
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let (home, state) = furnished();
    home.ok(&["backup", "b"]);
    let whole = std::fs::read(home.path().join("b")).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    home.file("damaged", damaged);
    home.file("cut", &whole[..whole.len() - 1]);
    home.file(
        "letter",
        "dear all, this is a letter and no backup of anything",
    );
    for (file, code, why) in [
        ("damaged", CORRUPT, "damaged in frame"),
        ("cut", CORRUPT, "cut off"),
        ("letter", BAD_INPUT, "no backup"),
        ("nothing", NOT_FOUND, "cannot open nothing"),
    ] {
        let errors = home.fails(&["restore", file, "--data-dir", "new"], code);
        assert!(errors.contains(why), "{errors}");
        home.fails(&["restore", file, "--check"], code);
    }
    // The place is still good for the whole one.
    home.ok(&["restore", "b", "--data-dir", "new"]);
    assert_eq!(state_at(&home, "new"), state);
}

#[cfg(unix)]
#[test]
fn a_backup_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with_db();
    home.ok(&["backup", "b"]);
    let mode = home
        .path()
        .join("b")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // And nothing else was left beside it.
    let mut names: Vec<_> = home
        .path()
        .read_dir()
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".eidetica", "b"]);
}

#[test]
fn an_instance_moves_from_engine_to_engine() {
    let (home, state) = furnished();
    let mut from = ".eidetica".to_owned();
    for to in ["file:a", "redb:b", "sqlite:c", "fjall:d"] {
        let told = home.json(&["migrate", &from, to]);
        assert_eq!(told[0]["source_moved"], false);
        assert_eq!(state_at(&home, to), state, "{from} to {to}");
        assert_eq!(state_at(&home, &from), state);
        from = to.to_owned();
    }
    // Whoever names the directory alone gets the engine that made it.
    assert_eq!(state_at(&home, "c"), state);
    let said = home.ok(&["migrate", "c", "sqlite:e", "--verify"]);
    assert!(said.contains("everything is sound"), "{said}");
    let errors = home.fails(&["migrate", "c", "e"], FAILED);
    assert!(errors.contains("already"), "{errors}");
    home.fails(&["migrate", "typo", "f"], NOT_FOUND);
    home.fails(&["migrate", "sqlite:typo", "f"], NOT_FOUND);
    assert!(!home.path().join("typo").exists() && !home.path().join("f").exists());
    home.fails(&["--store", "redb:c", "db", "list"], CORRUPT);
}

#[test]
fn bad_urls_say_what_is_wrong_and_show_no_password() {
    let home = Home::empty();
    for (url, why) in [
        ("oracle:x", "names no backend"),
        ("data", "names no backend"),
        ("sqlite:", "does not say where"),
        ("postgres:x", "postgres://USER@HOST/DATABASE"),
    ] {
        let errors = home.fails(&["--store", url, "db", "list"], BAD_INPUT);
        assert!(
            errors.contains(why) && errors.contains("sqlite:PATH"),
            "{errors}"
        );
    }
    let nobody = "postgres://user:secret@127.0.0.1:1/db?sslmode=perhaps";
    let out = home.run(&["--store", nobody, "db", "list"]);
    let errors = failed(out, &["db", "list"], crate::home::UNAVAILABLE);
    assert!(
        errors.contains("postgres://user:***@127.0.0.1:1/db"),
        "{errors}"
    );
    assert!(!errors.contains("secret"), "{errors}");
}

#[cfg(unix)]
#[test]
fn a_running_server_is_asked_for_the_backup() {
    let (home, state) = furnished();
    let mut server = home
        .command(&["--json", "serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("address"), "{line}");
    // The socket is there once the server reads its commands.
    let socket = home.data().join("control");
    while !socket.exists() {
        std::thread::yield_now();
    }
    home.ok(&["backup", "b"]);
    home.ok(&["backup", "c"]);
    home.ok(&["restore", "b", "--data-dir", "new"]);
    assert_eq!(state_at(&home, "new"), state);
    // It answers no other question, and whoever hangs up does no harm.
    let mut stranger = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stranger.write_all(b"give me everything\n").unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"");
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    home.ok(&["backup", "d"]);
    server.stdin.take().unwrap().write_all(b"quit\n").unwrap();
    assert!(server.wait().unwrap().success());
    assert!(!socket.exists());
    home.ok(&["backup", "e"]);
}

#[test]
fn a_store_is_made_by_init_and_used_by_everything() {
    let home = Home::empty();
    let url = ["--store", "sqlite:data"];
    home.fails(&[&url[..], &["db", "list"]].concat(), NOT_FOUND);
    home.ok(&[&url[..], &["init", "--user", "alice", "--no-password"]].concat());
    home.ok(&[&url[..], &["db", "create", "db"]].concat());
    let listed = home
        .command(&["db", "list"])
        .env("EIDETICA_STORE", "sqlite:data")
        .output()
        .unwrap();
    assert!(succeeded(listed, &["db", "list"]).contains("db"));
    home.fails(
        &[&url[..], &["init", "--user", "bob", "--no-password"]].concat(),
        FAILED,
    );
    let status = home.json(&[&url[..], &["status"]].concat());
    assert!(status[0]["bytes_on_disk"].as_u64().unwrap() > 0);
    // And nothing in the usual place.
    assert!(!home.data().exists());
}
