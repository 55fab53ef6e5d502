//! Whatever write fails, and whatever a crash keeps of it: after opening there is the last commit.

use std::sync::Arc;

use eidetica_authdb::{Any, Error, Immutable, Kind, MemoryDisk, Replica};
use eidetica_mmr::{Digest, Frontier, Location};

use crate::faulty::{CRASHES, Crash, FaultyDisk};
use crate::support::{Dice, Model, change, check, open, small};

const KEYS: u64 = 12;

/// What there is after each commit that may have come through.
struct Story {
    states: Vec<(Digest, Model)>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    /// Pruned to at most this.
    boundary: Location,
}

/// Works until the disk fails.
fn work(disk: &FaultyDisk, seed: u64) -> Story {
    let mut dice = Dice(seed);
    let mut model = Model::new();
    let empty = open(&MemoryDisk::new()).root();
    let mut story = Story {
        states: vec![(empty, model.clone())],
        acknowledged: 1,
        boundary: Location(0),
    };
    let Ok(mut database) = Any::open(Arc::new(disk.clone()), small()) else {
        return story;
    };
    for round in 0..14 {
        change(&mut database, &mut model, &mut dice, KEYS);
        let committed = database.commit(Some(b"c"));
        story.states.push((database.root(), model.clone()));
        if committed.is_err() {
            assert!(matches!(database.commit(None), Err(Error::Poisoned { .. })));
            break;
        }
        story.acknowledged = story.states.len();
        if round % 5 == 4 {
            story.boundary = database.floor();
            if database.prune(database.floor()).is_err() {
                break;
            }
        }
        if round == 9 {
            drop(database);
            match Any::open(Arc::new(disk.clone()), small()) {
                Ok(opened) => database = opened,
                Err(_) => break,
            }
        }
    }
    story
}

#[test]
fn every_failing_write_leaves_the_last_commit() {
    for seed in [1, 2] {
        let whole = FaultyDisk::new();
        work(&whole, seed);
        let changes = whole.changes();
        assert!(changes > 80, "{changes}");
        for fail in 0..changes {
            let disk = FaultyDisk::new();
            disk.fail_after(fail);
            let story = work(&disk, seed);
            for crash in CRASHES {
                let after = disk.crash(crash);
                let mut database = Any::open(Arc::new(after.clone()), small())
                    .unwrap_or_else(|error| panic!("seed {seed} fail {fail} {crash:?}: {error}"));
                let root = database.root();
                let found = story.states.iter().position(|(state, _)| *state == root);
                let found = found.unwrap_or_else(|| panic!("seed {seed} fail {fail} {crash:?}"));
                assert!(
                    found + 1 >= story.acknowledged,
                    "seed {seed} fail {fail} {crash:?}: lost"
                );
                assert!(database.boundary() <= story.boundary);
                let mut model = story.states[found].1.clone();
                check(&database, &model, KEYS);
                // And it goes on.
                change(&mut database, &mut model, &mut Dice(fail), KEYS);
                database.commit(None).unwrap();
                check(&open(&after), &model, KEYS);
            }
        }
    }
}

/// Whoever has seen it may have told others.
#[test]
fn what_is_found_after_a_kill_is_there_after_a_crash() {
    let whole = FaultyDisk::new();
    work(&whole, 3);
    for fail in 0..whole.changes() {
        let disk = FaultyDisk::new();
        disk.fail_after(fail);
        work(&disk, 3);
        for crash in CRASHES {
            let killed = disk.killed();
            let found = Any::open(Arc::new(killed.clone()), small()).unwrap();
            assert_eq!(found.committed(), found.leaves());
            let again = Any::open(Arc::new(killed.crash(crash)), small());
            let again = again.unwrap_or_else(|error| panic!("{fail} {crash:?}: {error}"));
            assert_eq!(again.root(), found.root(), "{fail} {crash:?}");
            let all = again.boundary()..again.leaves().next();
            assert!(
                again.leaves().0 == 0 || again.proof(all, 1 << 20).is_ok(),
                "{fail} {crash:?}"
            );
        }
    }
}

#[test]
fn what_no_sync_has_covered_is_not_committed() {
    let disk = FaultyDisk::new();
    let mut database = Any::open(Arc::new(disk.clone()), small()).unwrap();
    database.update(b"a", b"1").unwrap();
    database.commit(None).unwrap();
    let committed = database.committed();
    database.update(b"b", b"2").unwrap();
    // The write succeeds, the sync does not.
    disk.fail_after(1);
    assert!(matches!(database.commit(None), Err(Error::Io { .. })));
    assert_eq!(database.committed(), committed);
    assert!(database.leaves() > committed);
}

/// Nothing can be sealed, and everything be read.
#[test]
fn a_database_with_a_full_tail_opens_on_a_full_disk() {
    let whole = FaultyDisk::new();
    let mut opened = 0;
    work(&whole, 1);
    for fail in 0..whole.changes() {
        let disk = FaultyDisk::new();
        disk.fail_after(fail);
        work(&disk, 1);
        let full = disk.killed();
        full.fill_up();
        // But for one that was only begun, or has a torn end.
        let Ok(mut database) = Any::open(Arc::new(full), small()) else {
            continue;
        };
        let right = Any::open(Arc::new(disk.killed()), small()).unwrap();
        assert_eq!(database.root(), right.root());
        database.update(b"a", b"1").unwrap();
        opened += u64::from(matches!(database.commit(None), Err(Error::Poisoned { .. })));
    }
    assert!(opened > 0);
}

#[test]
fn every_prefix_of_the_log_is_the_last_commit_in_it_or_known_to_be_lost() {
    let disk = FaultyDisk::new();
    let mut database = Any::open(Arc::new(disk.clone()), crate::support::small()).unwrap();
    let mut dice = Dice(5);
    let mut model = Model::new();
    let mut states = vec![(0, database.root(), model.clone())];
    for _ in 0..3 {
        change(&mut database, &mut model, &mut dice, KEYS);
        database.commit(Some(b"c")).unwrap();
        let log = disk.contents()["0000000000000000.log"].len();
        states.push((log, database.root(), model.clone()));
    }
    drop(database);
    let contents = disk.contents();
    let log = &contents["0000000000000000.log"];
    for length in 0..=log.len() {
        let mut cut = contents.clone();
        cut.insert("0000000000000000.log".to_owned(), log[..length].to_vec());
        // The note of what was durable tells a loss from a torn write.
        let opened = Any::open(Arc::new(FaultyDisk::of(&cut)), small());
        match length == log.len() {
            true => assert_eq!(opened.unwrap().root(), states[3].1),
            false => assert!(
                matches!(opened.err(), Some(Error::Corrupt { .. })),
                "{length}"
            ),
        }
        // Without that note, as after a crash before it was written:
        cut.insert("head".to_owned(), vec![0; 80]);
        let disk = FaultyDisk::of(&cut);
        let database = Any::open(Arc::new(disk.clone()), small()).unwrap();
        let (end, root, model) = states.iter().rfind(|(end, ..)| *end <= length).unwrap();
        assert_eq!(database.root(), *root, "{length}");
        check(&database, model, KEYS);
        assert_eq!(disk.contents()["0000000000000000.log"].len(), *end);
    }
}

#[test]
fn every_failing_write_of_an_immutable_leaves_the_last_commit() {
    let work = |disk: &FaultyDisk| -> (Vec<Digest>, usize) {
        let mut roots = vec![crate::support::open_immutable(&MemoryDisk::new()).root()];
        let Ok(mut database) = Immutable::open(Arc::new(disk.clone()), small()) else {
            return (roots, 1);
        };
        for round in 0u64..20 {
            for key in 0..5 {
                database
                    .set(&(round * 5 + key).to_le_bytes(), b"value")
                    .unwrap();
            }
            let committed = database.commit(None);
            roots.push(database.root());
            if committed.is_err() {
                let acknowledged = roots.len() - 1;
                return (roots, acknowledged);
            }
        }
        let acknowledged = roots.len();
        (roots, acknowledged)
    };
    let whole = FaultyDisk::new();
    work(&whole);
    for fail in 0..whole.changes() {
        let disk = FaultyDisk::new();
        disk.fail_after(fail);
        let (roots, acknowledged) = work(&disk);
        for crash in CRASHES {
            let database = Immutable::open(Arc::new(disk.crash(crash)), small()).unwrap();
            let found = roots
                .iter()
                .position(|root| *root == database.root())
                .unwrap();
            assert!(found + 1 >= acknowledged);
            for key in 0..found as u64 * 5 {
                assert_eq!(database.get(&key.to_le_bytes()).unwrap().unwrap(), b"value");
            }
            assert_eq!(
                database.get(&(found as u64 * 5).to_le_bytes()).unwrap(),
                None
            );
        }
    }
}

#[test]
fn every_failing_write_of_a_replica_is_made_up_for() {
    let source = crate::replica::source(7, 60);
    let work = |disk: &FaultyDisk| -> Result<(), Error> {
        let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small())?;
        crate::replica::fill(&mut replica, &source, 13)
    };
    let whole = FaultyDisk::new();
    work(&whole).unwrap();
    for fail in 0..whole.changes() {
        let disk = FaultyDisk::new();
        disk.fail_after(fail);
        assert!(work(&disk).is_err(), "{fail}");
        for crash in CRASHES {
            let after = disk.crash(crash);
            work(&after).unwrap_or_else(|error| panic!("{fail} {crash:?}: {error}"));
            let database = Any::open(Arc::new(after), small()).unwrap();
            assert_eq!(database.root(), source.root());
        }
    }
}

#[test]
fn every_failing_write_leaves_what_is_set_aside_whole() {
    let (right, wrong) = (crate::replica::source(3, 12), crate::replica::source(4, 12));
    let floor = right.frontier_at(right.floor().before()).unwrap();
    let begun = FaultyDisk::new();
    let mut replica = Replica::open(Arc::new(begun.clone()), Kind::Any, small()).unwrap();
    crate::replica::fill(&mut replica, &wrong, 13).unwrap();
    drop(replica);
    set_aside_beside_failures(&begun, &right, &floor);
    // One whose first file has the name of that which comes in its place.
    let begun = FaultyDisk::new();
    let mut database = Any::open(Arc::new(begun.clone()), small()).unwrap();
    let (mut model, mut dice) = (Model::new(), Dice(4));
    for _ in 0..12 {
        change(&mut database, &mut model, &mut dice, KEYS);
        database.commit(None).unwrap();
    }
    drop(database);
    set_aside_beside_failures(&begun, &right, &Frontier::new());
}

fn set_aside_beside_failures(begun: &FaultyDisk, right: &Any, boundary: &Frontier) {
    let wrong = Any::open(Arc::new(begun.killed()), small()).unwrap().root();
    let begun = begun.crash(Crash::Keeps);
    let work = |disk: &FaultyDisk| -> Result<(), Error> {
        let mut replica = Replica::open(Arc::new(disk.clone()), Kind::Any, small())?;
        if replica.root() == wrong {
            replica.set_aside(boundary.clone())?;
        }
        crate::replica::fill(&mut replica, right, 13)
    };
    let whole = begun.crash(Crash::Keeps);
    work(&whole).unwrap();
    for fail in 0..whole.changes() {
        let disk = begun.crash(Crash::Keeps);
        disk.fail_after(fail);
        assert!(work(&disk).is_err(), "{fail}");
        for crash in CRASHES {
            let after = disk.crash(crash);
            work(&after).unwrap_or_else(|error| panic!("{fail} {crash:?}: {error}"));
            let aside = crate::replica::aside(&after).unwrap();
            let aside = Any::open(Arc::new(aside), small()).unwrap();
            assert_eq!(aside.root(), wrong, "{fail} {crash:?}");
            let database = Any::open(Arc::new(after), small()).unwrap();
            assert_eq!(database.root(), right.root());
        }
    }
}
