//! A process that commits and is killed, again and again: every acknowledged commit is there, whole.
//!
//! The child is this test program, told by a variable to be the writer. It prints each commit when it is durable.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use eidetica_authdb::Operation;
use eidetica_mmr::Location;

use crate::disk::open;

const WRITER: &str = "EIDETICA_TEST_AUTHDB_WRITER";
const KILLS: u64 = 25;
const KEYS: u64 = 40;

fn value_of(round: u64, key: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&round.to_le_bytes());
    value[8..].copy_from_slice(&key.to_le_bytes());
    value
}

/// Commits rounds until it is killed; a round writes all keys.
#[test]
fn writer() {
    let Ok(dir) = std::env::var(WRITER) else {
        return;
    };
    let mut database = open(dir.as_ref());
    let mut round = last_round(&database) + 1;
    loop {
        for key in 0..KEYS {
            database
                .update(&key.to_le_bytes(), &value_of(round, key))
                .unwrap();
        }
        database.commit(Some(&round.to_le_bytes())).unwrap();
        println!("committed {round}");
        if round.is_multiple_of(4) {
            database.prune(database.floor()).unwrap();
        }
        round += 1;
    }
}

fn last_round(database: &eidetica_authdb::Any) -> u64 {
    let Some((_, metadata)) = database.last_commit().unwrap() else {
        return 0;
    };
    u64::from_le_bytes(metadata.unwrap().try_into().unwrap())
}

#[test]
fn a_killed_process_loses_nothing_that_it_was_told_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::writer",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(WRITER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        let mut commits = 0;
        while commits <= kill % 7 * 3 {
            let line = lines.next().expect("the writer goes on").unwrap();
            // The first line may share its own with the name of the test.
            if let Some((_, round)) = line.split_once("committed ") {
                told = round.parse().unwrap();
                commits += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let database = open(&path);
        let last = last_round(&database);
        assert!(last >= told, "{last} after {told} was durable");
        for key in 0..KEYS {
            let value = database.get(&key.to_le_bytes()).unwrap();
            assert_eq!(value.unwrap(), value_of(last, key));
        }
        let end = database.leaves().0;
        let bytes = database.operation(Location(end - 1)).unwrap();
        assert!(matches!(
            Operation::decode(&bytes).unwrap(),
            Operation::Commit { active: KEYS, .. }
        ));
    }
}
