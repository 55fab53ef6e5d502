use std::path::Path;
use std::process::Stdio;

use crate::home::Home;

/// What is read and written in one go.
#[test]
fn killing_an_import_leaves_what_was_committed() {
    let rows = (0..4_000).map(|i| format!("k{i:06},value {i}\n")).collect();
    kill_imports(rows, 4_000, &[0, 1, 1 << 14, 1 << 17, 1 << 19]);
}

/// What is too much to be held in memory: before, while and after it becomes part of the database.
#[test]
fn killing_a_large_import_leaves_all_or_nothing() {
    let text = "x".repeat(500_000);
    let rows = (0..40).map(|i| format!("k{i:06},{text}\n")).collect();
    kill_imports(rows, 40, &[20 << 20, 44 << 20, 64 << 20]);
}

/// Kills an import when the data directory has grown by some bytes: what was committed before is there, the import as a whole or
/// not at all, and the store opens and verifies.
fn kill_imports(rows: String, count: u64, growths: &[u64]) {
    let home = Home::with_db();
    home.ok(&["set", "db", "t", "first", "v=acknowledged"]);
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    let mut killed = 0;
    for growth in growths {
        let before = size(&home.data());
        let mut child = home
            .command(&["import", &file, "db"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ended = false;
        while !ended && size(&home.data()) < before + growth {
            ended = child.try_wait().unwrap().is_some();
            std::thread::yield_now();
        }
        // SIGKILL: nothing is flushed, nothing is said.
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        killed += u32::from(!finished);

        assert_eq!(home.ok(&["get", "db", "t", "first", "v"]), "acknowledged\n");
        let found = home.rows("t");
        assert!(
            found == 1 || found == count + 1,
            "{found} rows after growth {growth}"
        );
        assert!(
            found == count + 1 || !finished,
            "an acknowledged import is gone"
        );
        assert_eq!(home.json(&["verify"])[0]["sound"], true);
        home.ok(&["set", "db", "other", "k", &format!("growth={growth}")]);
        if found > 1 {
            break;
        }
    }
    assert!(killed > 0, "no import was killed");
}

fn size(dir: &Path) -> u64 {
    let Ok(items) = dir.read_dir() else { return 0 };
    items
        .filter_map(Result::ok)
        .map(|item| {
            if item.path().is_dir() {
                size(&item.path())
            } else {
                item.metadata().map_or(0, |meta| meta.len())
            }
        })
        .sum()
}
