//! Named limits, at and one above.

use eidetica_authdb::{Changes, Error, MemoryDisk, Sets, limits};

use crate::support::{open, open_immutable};

#[test]
fn keys_values_and_metadata_have_their_limits() {
    let disk = MemoryDisk::new();
    let mut database = open(&disk);
    let key = vec![1; limits::KEY_BYTES];
    let value = vec![2; limits::VALUE_BYTES];
    let metadata = vec![3; limits::METADATA_BYTES];
    database.update(&key, &value).unwrap();
    database.commit(Some(&metadata)).unwrap();
    let longer = vec![1; limits::KEY_BYTES + 1];
    for result in [
        database.update(&longer, b""),
        database.update(b"", b""),
        database.delete(&longer),
    ] {
        assert!(matches!(result, Err(Error::Key { .. })));
    }
    assert!(matches!(database.get(&longer), Err(Error::Key { .. })));
    let more = vec![2; limits::VALUE_BYTES + 1];
    assert!(matches!(
        database.update(&key, &more),
        Err(Error::Value { .. })
    ));
    let more = vec![3; limits::METADATA_BYTES + 1];
    assert!(matches!(
        database.commit(Some(&more)),
        Err(Error::Metadata { .. })
    ));
    drop(database);
    let database = open(&disk);
    assert_eq!(database.get(&key).unwrap().unwrap(), value);
    assert_eq!(
        database.last_commit().unwrap().unwrap().1.unwrap(),
        metadata
    );
    // One operation is proven whatever its size.
    let shown = database
        .proof(eidetica_mmr::Location(0)..eidetica_mmr::Location(2), 1)
        .unwrap();
    assert_eq!(shown.operations.len(), 1);
    let mut immutable = open_immutable(&MemoryDisk::new());
    assert!(matches!(
        immutable.set(&longer, b""),
        Err(Error::Key { .. })
    ));
}

#[test]
fn batches_have_their_limit() {
    let mut changes = Changes::new();
    let value = vec![0; limits::VALUE_BYTES];
    let fits = limits::BATCH_BYTES / (limits::VALUE_BYTES + 4);
    for key in 0..fits as u32 {
        changes.update(&key.to_le_bytes(), &value).unwrap();
    }
    assert!(matches!(
        changes.update(b"more", &value),
        Err(Error::BatchTooLarge)
    ));
    let mut sets = Sets::new();
    for key in 0..limits::BATCH_CHANGES as u32 {
        sets.set(&key.to_le_bytes(), b"").unwrap();
    }
    assert!(matches!(sets.set(b"more", b""), Err(Error::BatchTooLarge)));
}
