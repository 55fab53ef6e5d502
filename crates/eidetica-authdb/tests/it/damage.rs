//! Any byte of any file changed: an error, or nothing wrong; never another value or root.

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_authdb::{Any, Blame, Error};
use eidetica_mmr::Location;

use crate::faulty::FaultyDisk;
use crate::support::{Dice, Model, change, small};

const KEYS: u64 = 12;

fn files() -> (BTreeMap<String, Vec<u8>>, Any, Model) {
    let disk = FaultyDisk::new();
    let mut database = Any::open(Arc::new(disk.clone()), small()).unwrap();
    let (mut model, mut dice) = (Model::new(), Dice(11));
    for _ in 0..25 {
        change(&mut database, &mut model, &mut dice, KEYS);
        database.commit(None).unwrap();
    }
    database.prune(Location(database.floor().0 / 2)).unwrap();
    (disk.contents(), database, model)
}

/// Reads everything; the first error.
fn read_all(database: &Any, right: &Any, model: &Model) -> Result<(), Error> {
    assert_eq!(database.root(), right.root());
    for key in (0..KEYS).map(|key| format!("key {key}").into_bytes()) {
        assert_eq!(database.get(&key)?.as_ref(), model.get(&key));
    }
    let mut next = database.boundary();
    while next < database.leaves().next() {
        let until = Location((next.0 + 50).min(database.leaves().0));
        let shown = database.proof(next..until, usize::MAX)?;
        assert_eq!(shown, right.proof(next..until, usize::MAX).unwrap());
        next = until;
    }
    Ok(())
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let (contents, right, model) = files();
    assert!(contents.keys().any(|name| name.ends_with(".side")));
    assert!(contents.keys().any(|name| name.ends_with(".run")));
    for (name, bytes) in &contents {
        // Every byte of small files, some of larger ones.
        let step = (bytes.len() / 150).max(1);
        let mut found = 0;
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = contents.clone();
            damaged.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            let opened = Any::open(Arc::new(FaultyDisk::of(&damaged)), small());
            let result = opened.and_then(|database| read_all(&database, &right, &model));
            match result {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.blame(), Blame::Data, "{name} at {at}: {error}");
                    found += 1;
                }
            }
        }
        // Of the first log only what is not pruned is read, and one of two notes of what was durable.
        let first = name == "0000000000000000.log";
        if name == "manifest" || name.ends_with(".log") && !first {
            assert!(
                found * step * 10 >= bytes.len() * 8,
                "{name}: {found} of {}",
                bytes.len() / step
            );
        }
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let (contents, right, model) = files();
    for name in contents.keys() {
        let mut damaged = contents.clone();
        damaged.remove(name);
        let opened = Any::open(Arc::new(FaultyDisk::of(&damaged)), small());
        let result = opened.and_then(|database| read_all(&database, &right, &model));
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{name} was not missed"));
        assert_eq!(error.blame(), Blame::Data, "{name}");
    }
}

#[test]
fn a_damaged_middle_is_not_taken_for_a_torn_end() {
    let disk = FaultyDisk::new();
    let mut database = Any::open(Arc::new(disk.clone()), small()).unwrap();
    for key in 0u8..3 {
        database.update(&[key], &[key; 40]).unwrap();
        database.commit(None).unwrap();
    }
    let mut contents = disk.contents();
    contents.insert("head".to_owned(), vec![0; 80]);
    let log = contents.get_mut("0000000000000000.log").unwrap();
    let third = log.len() / 3;
    log[third + 60] ^= 1;
    let opened = Any::open(Arc::new(FaultyDisk::of(&contents)), small());
    assert!(matches!(opened.err(), Some(Error::Corrupt { .. })));
}

#[test]
fn a_newer_format_is_named() {
    let (mut contents, ..) = files();
    let manifest = contents.get_mut("manifest").unwrap();
    manifest[8] = 2;
    // With a checksum that fits, as a newer program would write it.
    let body = manifest.len() - 16;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&[0; 9])
        .update(&[0; 8])
        .update(&manifest[..body]);
    let sum = hasher.finalize();
    manifest[body..].copy_from_slice(&sum.as_bytes()[..16]);
    let opened = Any::open(Arc::new(FaultyDisk::of(&contents)), small());
    assert!(matches!(
        opened.err(),
        Some(Error::NewerFormat { found: 2 })
    ));
}
