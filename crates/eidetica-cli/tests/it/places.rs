use std::io::Read;
use std::process::Stdio;

use crate::home::{CORRUPT, FAILED, Home, NOT_FOUND, UNAVAILABLE};

#[test]
fn a_directory_is_made_by_init_only() {
    let home = Home::empty();
    let errors = home.fails(&["db", "list"], NOT_FOUND);
    assert!(errors.contains("eidetica init"), "{errors}");
    assert!(!home.data().exists());
    home.ok(&["init", "--user", "alice", "--no-password"]);
    home.fails(&["init", "--user", "alice", "--no-password"], FAILED);
    home.ok(&[
        "--data-dir",
        "other",
        "init",
        "--user",
        "bob",
        "--no-password",
    ]);
    let in_other = home
        .command(&["user", "list"])
        .env("EIDETICA_DIR", "other")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(in_other.stdout).unwrap(), "USER\nbob\n");
}

#[cfg(unix)]
#[test]
fn only_the_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::with_db();
    let mut open = vec![home.data()];
    let mut files = 0;
    while let Some(path) = open.pop() {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        if path.is_dir() {
            open.extend(path.read_dir().unwrap().map(|item| item.unwrap().path()));
        } else {
            files += 1;
        }
    }
    assert!(files > 1);
}

#[test]
fn foreign_and_damaged_directories_are_left_alone() {
    let home = Home::empty();
    std::fs::create_dir(home.data()).unwrap();
    home.file(".eidetica/letter.txt", "dear all");
    for args in [
        &["db", "list"][..],
        &["user", "create", "x", "--no-password"],
        &["status"],
        &["verify"],
    ] {
        let errors = home.fails(args, CORRUPT);
        assert!(errors.contains("nothing there was changed"), "{errors}");
    }
    assert_eq!(home.data().read_dir().unwrap().count(), 1);

    let damaged = Home::with_db();
    let mut open = vec![damaged.data().join("data")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(path.read_dir().unwrap().map(|item| item.unwrap().path()));
        } else {
            std::fs::write(&path, "not what it was").unwrap();
        }
    }
    let errors = damaged.fails(&["db", "list"], CORRUPT);
    assert!(
        errors.contains("cannot open the data directory"),
        "{errors}"
    );

    let file = Home::empty();
    file.file(".eidetica", "a file");
    assert!(!file.run(&["db", "list"]).status.success());
}

#[test]
fn one_process_at_a_time() {
    let home = Home::with_db();
    // A password prompt would close the directory again; an export into a pipe that nobody reads does not end.
    let rows: String = (0..2000)
        .map(|i| format!("k{i},{}\n", "x".repeat(200)))
        .collect();
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    home.ok(&["import", &file, "db"]);
    let mut child = home
        .command(&["export", "db", "t"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let errors = home.fails(&["db", "list"], UNAVAILABLE);
    assert!(
        errors.contains("in use by another process") && errors.contains("hint:"),
        "{errors}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    home.ok(&["db", "list"]);
}
