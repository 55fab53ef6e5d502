//! Files that were cut, changed or overwritten: opening is an error or gives a commit that there was.
#![no_main]

use std::sync::{Arc, LazyLock};

use eidetica_authdb::{Any, Disk, MemoryDisk, Options};
use eidetica_mmr::Digest;
use libfuzzer_sys::fuzz_target;

fn options() -> Options {
    Options {
        tail_operations: 16,
        ..Options::new([1; 32])
    }
}

/// A small database and the roots of all its commits.
static HISTORY: LazyLock<(MemoryDisk, Vec<Digest>)> = LazyLock::new(|| {
    let disk = MemoryDisk::new();
    let mut database = Any::open(Arc::new(disk.clone()), options()).unwrap();
    let mut roots = vec![database.root()];
    for round in 0u8..23 {
        for key in 0..3u8 {
            database
                .update(&[key * 5 + round % 4], &[round; 9])
                .unwrap();
        }
        database.commit(None).unwrap();
        roots.push(database.root());
    }
    (disk, roots)
});

fuzz_target!(|input: (u8, u16, Option<u16>, Vec<u8>)| {
    let (which, offset, length, patch) = input;
    let disk = HISTORY.0.copy();
    let names = disk.list().unwrap();
    let name = &names[usize::from(which) % names.len()];
    let file = disk.open(name).unwrap();
    let present = file.length().unwrap();
    let offset = u64::from(offset) % (present + 1);
    let _ = file.write_at(offset, &patch);
    if let Some(length) = length {
        file.truncate(u64::from(length)).unwrap();
    }
    if let Ok(mut database) = Any::open(Arc::new(disk), options()) {
        assert!(HISTORY.1.contains(&database.root()));
        for key in 0..20u8 {
            let _ = database.get(&[key]);
        }
        if database.update(b"more", b"value").is_ok() {
            let _ = database.commit(None);
        }
    }
});
