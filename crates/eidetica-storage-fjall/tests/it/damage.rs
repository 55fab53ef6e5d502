//! Each small file of a closed store damaged or gone: a typed error or all rows, and never an abort.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eidetica_storage::{Batch, Direction, Durability, Engine, EngineError, KeyRange, Space};
use eidetica_storage_fjall::{FjallEngine, FjallOptions};

/// Every how many bytes of a table one is flipped. Of other files it is each one.
const TABLE_STRIDE: usize = 37;
/// The keyspaces whose files are damaged byte by byte: that of the names, and one of those that are alike.
const KEYSPACES: [&str; 2] = ["data/keyspaces/0", "data/keyspaces/1"];

type Rows = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

fn open(dir: &Path) -> Result<FjallEngine, EngineError> {
    let mut options = FjallOptions::default();
    // Rows go to tables at every close, so that no journal is left to be cut.
    options.trim_bytes = 0;
    FjallEngine::open_with(dir, options)
}

/// A closed store with a table in each keyspace.
fn store(dir: &Path) -> Rows {
    let mut rows = Rows::new();
    let engine = open(dir).unwrap();
    let mut batch = Batch::new();
    for space in Space::ALL {
        for key in 0..3_u8 {
            batch.put(space, &[key], &[key; 9]);
            rows.insert((space, vec![key]), vec![key; 9]);
        }
    }
    engine.write(&batch, Durability::Durable).unwrap();
    engine.close().unwrap();
    remove_old_manifests(&dir.join("data/keyspaces"));
    rows
}

/// Those that `current` does not name: nobody reads them.
fn remove_old_manifests(keyspaces: &Path) {
    for keyspace in fs::read_dir(keyspaces).unwrap() {
        let keyspace = keyspace.unwrap().path();
        let current = fs::read(keyspace.join("current")).unwrap();
        let id = u64::from_le_bytes(*current.first_chunk().unwrap());
        for old in (0..id).map(|old| keyspace.join(format!("v{old}"))) {
            let _ = fs::remove_file(old);
        }
    }
}

fn read(dir: &Path) -> Result<Rows, EngineError> {
    let engine = open(dir)?;
    let snapshot = engine.snapshot()?;
    let mut rows = Rows::new();
    for space in Space::ALL {
        let _: ControlFlow<()> =
            snapshot.for_each(space, &KeyRange::all(), Direction::Forward, |row| {
                rows.insert((space, row.key.to_vec()), row.value.to_vec());
                Ok::<_, EngineError>(ControlFlow::Continue(()))
            })?;
    }
    drop(snapshot);
    engine.close()?;
    Ok(rows)
}

/// Checks a copy of a store with one file that has another content, or none. Says whether that was noticed.
fn is_noticed(sound: &Path, rows: &Rows, name: &Path, content: Option<&[u8]>, how: &str) -> bool {
    let copy = sound.with_file_name("copy");
    let _ = fs::remove_dir_all(&copy);
    copy_dir(sound, &copy);
    match content {
        Some(content) => fs::write(copy.join(name), content).unwrap(),
        None => fs::remove_file(copy.join(name)).unwrap(),
    }
    match read(&copy) {
        Ok(found) => assert_eq!(&found, rows, "{} {how}", name.display()),
        Err(EngineError::Corrupt { .. } | EngineError::Io { .. }) => return true,
        Err(EngineError::Foreign { .. } | EngineError::NewerFormat { .. }) => {
            assert_eq!(name, "eidetica", "{how}");
            return true;
        }
        Err(error) => panic!("{} {how}: {error}", name.display()),
    }
    false
}

fn is_table(name: &Path) -> bool {
    name.parent().is_some_and(|dir| dir.ends_with("tables"))
}

#[test]
fn a_flipped_byte_is_an_error_or_harmless() {
    let dir = super::dir();
    let sound = dir.path().join("sound");
    let rows = store(&sound);
    let (mut cases, mut noticed) = (0, 0);
    let alike = |name: &PathBuf| {
        name.starts_with("data/keyspaces") && !KEYSPACES.iter().any(|one| name.starts_with(one))
    };
    for name in files(&sound).into_iter().filter(|name| !alike(name)) {
        let content = fs::read(sound.join(&name)).unwrap();
        let stride = if is_table(&name) { TABLE_STRIDE } else { 1 };
        for at in (0..content.len()).step_by(stride) {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            cases += 1;
            let how = format!("flipped at {at}");
            noticed += usize::from(is_noticed(&sound, &rows, &name, Some(&flipped), &how));
        }
    }
    assert!(noticed * 10 > cases * 9, "{noticed} of {cases} noticed");
}

#[test]
fn a_cut_file_is_an_error() {
    let dir = super::dir();
    let sound = dir.path().join("sound");
    let rows = store(&sound);
    for name in files(&sound) {
        let content = fs::read(sound.join(&name)).unwrap();
        for len in [0, content.len() / 2, content.len().saturating_sub(1)] {
            let how = format!("cut to {len}");
            let noticed = is_noticed(&sound, &rows, &name, content.get(..len), &how);
            assert!(noticed || content.is_empty(), "{} {how}", name.display());
        }
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = super::dir();
    let sound = dir.path().join("sound");
    let rows = store(&sound);
    for name in files(&sound) {
        let noticed = is_noticed(&sound, &rows, &name, None, "missing");
        // Another one takes its place.
        assert!(noticed || name.ends_with("lock"), "{}", name.display());
    }
}

/// What an interrupted flush leaves behind is no damage.
#[test]
fn a_table_that_no_manifest_names_may_be_half() {
    let dir = super::dir();
    let sound = dir.path().join("sound");
    let rows = store(&sound);
    let stray = sound.join("data/keyspaces/1/tables/4711");
    fs::write(&stray, b"half a tab").unwrap();
    assert_eq!(read(&sound).unwrap(), rows);
    assert!(!stray.exists());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn copy_dir(from: &Path, to: &Path) {
    for name in files(from) {
        fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
    // An empty directory as well.
    for keyspace in fs::read_dir(from.join("data/keyspaces")).unwrap() {
        let tables = keyspace.unwrap().path().join("tables");
        fs::create_dir_all(to.join(tables.strip_prefix(from).unwrap())).unwrap();
    }
}
