//! The directory as a disk.

use std::fs;
use std::sync::Arc;

use eidetica_authdb::{Any, Disk, Immutable, Options};
use eidetica_authdb_dir::DirDisk;
use eidetica_mmr::Location;
use eidetica_storage::EngineError;

pub(crate) fn options() -> Options {
    Options {
        tail_operations: 100,
        ..Options::new([5; 32])
    }
}

pub(crate) fn open(dir: &std::path::Path) -> Any {
    Any::open(Arc::new(DirDisk::open(dir).unwrap()), options()).unwrap()
}

#[test]
fn a_database_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    let mut root = open(&path).root();
    for round in 0u32..30 {
        let mut database = open(&path);
        assert_eq!(database.root(), root);
        for key in 0..50u32 {
            database
                .update(&key.to_le_bytes(), &round.to_le_bytes())
                .unwrap();
        }
        database.commit(None).unwrap();
        database.prune(database.floor()).unwrap();
        root = database.root();
    }
    let database = open(&path);
    assert_eq!(
        database.get(&7u32.to_le_bytes()).unwrap().unwrap(),
        29u32.to_le_bytes()
    );
    assert!(database.boundary() > Location(1000));
    let logs = fs::read_dir(path.join("data")).unwrap();
    assert!(logs.count() < 20, "pruned files go");
}

#[test]
fn a_directory_has_one_holder_and_one_kind_of_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    let database = open(&path);
    assert!(matches!(
        DirDisk::open(&path),
        Err(EngineError::Locked { .. })
    ));
    drop(database);
    let disk = DirDisk::open(&path).unwrap();
    assert!(disk.disk_bytes() > 0);
    let other = Immutable::open(Arc::new(disk), options());
    assert!(matches!(other, Err(eidetica_authdb::Error::OtherKind)));
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("mine"), b"").unwrap();
    assert!(matches!(
        DirDisk::open(foreign.path()),
        Err(EngineError::Foreign { .. })
    ));
}

#[test]
fn files_behave_like_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DirDisk::open(dir.path().join("d")).unwrap();
    assert_eq!(
        disk.open("a").err().unwrap().kind(),
        std::io::ErrorKind::NotFound
    );
    let file = disk.create("a").unwrap();
    file.write_at(0, b"hello").unwrap();
    file.write_at(3, b"p me").unwrap();
    file.sync().unwrap();
    let mut read = [0; 7];
    disk.open("a").unwrap().read_at(0, &mut read).unwrap();
    assert_eq!(&read, b"help me");
    assert!(file.read_at(1, &mut read).is_err());
    file.truncate(4).unwrap();
    assert_eq!(file.length().unwrap(), 4);
    disk.rename("a", "b").unwrap();
    disk.sync().unwrap();
    assert_eq!(disk.list().unwrap(), ["b"]);
    assert_eq!(disk.create("b").unwrap().length().unwrap(), 0);
    disk.remove("b").unwrap();
    assert_eq!(disk.list().unwrap().len(), 0);
}

#[cfg(unix)]
#[test]
fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("database");
    let mut database = open(&path);
    database.update(b"key", b"value").unwrap();
    database.commit(None).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(path.join("data")).unwrap() {
        assert_eq!(mode(&file.unwrap().path()) & 0o077, 0);
    }
}
