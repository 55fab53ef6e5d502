//! A process that commits and is killed, again and again: everything it was told is durable is there, whole.
//!
//! The child is this test program, told by a variable to be the writer. It prints each commit when it is durable.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use eidetica_authdb::{Any, Immutable, Kind, MemoryDisk, Operation, Replica};
use eidetica_authdb_dir::DirDisk;
use eidetica_mmr::{Leaves, Location};

use crate::disk::{open, options};

const WRITER: &str = "EIDETICA_TEST_AUTHDB_WRITER";
const KILLS: u64 = 25;
const KEYS: u64 = 40;

/// Where a child writes, if this is one.
fn writer_dir() -> Option<PathBuf> {
    std::env::var_os(WRITER).map(PathBuf::from)
}

/// Runs a writer until it has told of so many commits, kills it, and says what it told last.
fn told_before_killed(writer: &str, dir: &Path, commits: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", writer, "--nocapture", "--test-threads", "1"])
        .env(WRITER, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut told, mut count) = (0, 0);
    while count < commits {
        let line = lines.next().expect("the writer goes on").unwrap();
        // The first line may share its own with the name of the test.
        if let Some((_, number)) = line.split_once("committed ") {
            told = number.parse().unwrap();
            count += 1;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    told
}

fn value_of(round: u64, key: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&round.to_le_bytes());
    value[8..].copy_from_slice(&key.to_le_bytes());
    value
}

fn round_of(last_commit: Option<(Location, Option<Vec<u8>>)>) -> u64 {
    let metadata = last_commit.and_then(|(_, metadata)| metadata);
    metadata.map_or(0, |metadata| {
        u64::from_le_bytes(metadata.try_into().unwrap())
    })
}

/// Commits rounds until it is killed; a round writes all keys.
#[test]
fn any_writer() {
    let Some(dir) = writer_dir() else {
        return;
    };
    let mut database = open(&dir);
    let mut round = round_of(database.last_commit().unwrap()) + 1;
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

#[test]
fn a_killed_process_loses_nothing_that_it_was_told_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    for kill in 0..KILLS {
        let told = told_before_killed("kill::any_writer", &path, kill % 7 * 3 + 1);
        let database = open(&path);
        let last = round_of(database.last_commit().unwrap());
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

fn open_immutable(dir: &Path) -> Immutable {
    Immutable::open(Arc::new(DirDisk::open(dir).unwrap()), options()).unwrap()
}

/// Commits rounds until it is killed; a round sets keys of its own.
#[test]
fn immutable_writer() {
    let Some(dir) = writer_dir() else {
        return;
    };
    let mut database = open_immutable(&dir);
    let mut round = round_of(database.last_commit().unwrap()) + 1;
    loop {
        for key in 0..KEYS {
            database
                .set(&value_of(round, key), &key.to_le_bytes())
                .unwrap();
        }
        database.commit(Some(&round.to_le_bytes())).unwrap();
        println!("committed {round}");
        round += 1;
    }
}

#[test]
fn a_killed_process_loses_no_key_that_was_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    for kill in 0..KILLS {
        let told = told_before_killed("kill::immutable_writer", &path, kill % 7 * 3 + 1);
        let database = open_immutable(&path);
        let last = round_of(database.last_commit().unwrap());
        assert!(last >= told, "{last} after {told} was durable");
        assert_eq!(database.leaves().0, last * (KEYS + 1), "whole rounds");
        for round in 1..=last {
            for key in [0, KEYS - 1] {
                let value = database.get(&value_of(round, key)).unwrap();
                assert_eq!(value.unwrap(), key.to_le_bytes());
            }
        }
        let next = database.get(&value_of(last + 1, 0)).unwrap();
        assert_eq!(next, None, "nothing of an unfinished round");
    }
}

const SOURCE_ROUNDS: u64 = 60;

/// What the replica is filled from, the same in every process.
fn source() -> Any {
    let mut database = Any::open(Arc::new(MemoryDisk::new()), options()).unwrap();
    for round in 0..SOURCE_ROUNDS {
        for key in 0..KEYS {
            database
                .update(&key.to_le_bytes(), &value_of(round, key))
                .unwrap();
        }
        database.commit(None).unwrap();
    }
    database
}

fn open_replica(dir: &Path) -> Replica {
    let disk = Arc::new(DirDisk::open(dir).unwrap());
    Replica::open(disk, Kind::Any, options()).unwrap()
}

/// Fills a replica until it is killed, every second range ahead of the one before it. What is filled begins anew.
#[test]
fn replica_writer() {
    let Some(dir) = writer_dir() else {
        return;
    };
    let source = source();
    let mut replica = open_replica(&dir);
    loop {
        let missing = replica.missing(source.leaves());
        let Some(first) = missing.first().map(|range| range.start.0) else {
            let (root, leaves) = (source.root(), source.leaves());
            replica.finish(root, leaves, Location(0)).unwrap();
            replica.reset(eidetica_mmr::Frontier::new()).unwrap();
            continue;
        };
        let end = missing.iter().map(|range| range.end.0).max().unwrap();
        for start in [first + 15, first] {
            let range = Location(start)..Location((start + 15).min(end));
            if range.start < range.end {
                let shown = source.proof(range.clone(), usize::MAX).unwrap();
                replica.apply(range.start, shown.operations).unwrap();
            }
        }
        replica.sync().unwrap();
        println!("committed {}", replica.leaves().0);
    }
}

#[test]
fn a_killed_process_leaves_a_replica_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    let source = source();
    for kill in 0..KILLS {
        let told = told_before_killed("kill::replica_writer", &path, kill % 7 * 9 + 1);
        let replica = open_replica(&path);
        let leaves = replica.leaves();
        // Less than told is there only if it was full and begun anew.
        assert!(leaves.0 >= told || source.leaves().0 - told < 60);
        assert_eq!(replica.root(), source.root_at(leaves).unwrap());
        if leaves > Leaves(0) {
            let last = Location(leaves.0 - 1);
            let same = replica.operation(last, |operation| {
                let mut bytes = Vec::new();
                operation.encode(&mut bytes);
                bytes == source.operation(last).unwrap()
            });
            assert!(same.unwrap());
        }
    }
    // After all of it, it can still become the database.
    let mut replica = open_replica(&path);
    for missing in replica.missing(source.leaves()) {
        let shown = source.proof(missing.clone(), usize::MAX).unwrap();
        replica.apply(missing.start, shown.operations).unwrap();
    }
    let (root, leaves) = (source.root(), source.leaves());
    replica.finish(root, leaves, Location(0)).unwrap();
    assert_eq!(replica.into_any().unwrap().root(), root);
}
