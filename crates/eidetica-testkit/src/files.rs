//! The contract of engines that keep files: modes, foreign and damaged data, kill -9.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use eidetica_storage::{Batch, Blame, Direction, Durability, Engine, EngineError, KeyRange, Space};

use crate::{CRASH_DIR, CrashSite, Rng};

/// Expands to the tests of an engine that keeps files in a directory.
///
/// The first argument opens an engine on a `&Path`, the second makes a value that is a fresh
/// directory for as long as it lives (`AsRef<Path>`).
#[macro_export]
macro_rules! file_engine_contract {
    ($open:expr, $dir:expr) => {
        #[test]
        fn kill_leaves_whole_batches() {
            $crate::contract::kill_leaves_whole_batches(
                $open,
                $crate::child_test!("crash_child"),
                $dir.as_ref(),
            );
        }

        /// Writes until it is killed when the test above starts it.
        #[test]
        fn crash_child() {
            $crate::contract::crash_child($open, $dir.as_ref());
        }

        #[test]
        fn files_are_private_under_any_umask() {
            $crate::contract::files_are_private($crate::child_test!("mode_child"), $dir.as_ref());
        }

        /// Writes and looks at modes; under umask 0 when the test above starts it.
        #[test]
        fn mode_child() {
            $crate::contract::mode_child($open, $dir.as_ref());
        }

        #[test]
        fn foreign_places_are_left_alone() {
            $crate::contract::foreign_places_are_left_alone($open, $dir.as_ref());
        }

        #[test]
        fn damage_is_an_error() {
            $crate::contract::damage_is_an_error($open, $dir.as_ref());
        }
    };
}

/// The full name of a test beside the macro call, as the test harness knows it.
#[macro_export]
#[doc(hidden)]
macro_rules! child_test {
    ($name:literal) => {
        concat!(module_path!(), "::", $name)
            .split_once("::")
            .map_or($name, |(_, name)| name)
    };
}

/// Runs the child under umask 0, where a file that is created carelessly is open to everybody.
pub fn files_are_private(child: &str, dir: &Path) {
    let status = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture"])
        .env(CRASH_DIR, dir.join("data"))
        .status()
        .unwrap();
    assert!(status.success());
    check_modes(&dir.join("data"));
}

/// Opens, writes and closes: others reach nothing at any time, and no loose mode is left.
pub fn mode_child(open: impl CrashSite, spare_dir: &Path) {
    let dir = std::env::var_os(CRASH_DIR).map_or_else(|| spare_dir.join("data"), PathBuf::from);
    for round in 0..3_u8 {
        let engine = open(&dir).unwrap();
        check_modes(&dir);
        let before = files(&dir);
        write_rows(&*engine, round);
        // What an engine creates is out of reach whatever its mode,
        assert_eq!(mode(&dir), 0o700);
        // and on Linux private from its creation, on any file system with access control lists.
        let fresh = files(&dir)
            .into_iter()
            .filter(|file| !before.contains(file));
        for file in fresh.filter(|_| cfg!(target_os = "linux")) {
            assert_eq!(mode(&file), 0o600, "{} at its creation", file.display());
        }
        // Even what asks for nothing better.
        let careless = dir.join("careless");
        fs::create_dir(&careless).unwrap();
        fs::write(careless.join("file"), "").unwrap();
        if cfg!(target_os = "linux") {
            check_modes(&dir);
        }
        fs::remove_dir_all(&careless).unwrap();
        engine.close().unwrap();
        check_modes(&dir);
    }
    // A place that was there before is closed to others as well.
    let loose = dir.with_file_name("loose");
    fs::create_dir(&loose).unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o755)).unwrap();
    open(&loose).unwrap().close().unwrap();
    check_modes(&loose);
}

/// Directories are 0700 and files 0600, all the way down.
fn check_modes(dir: &Path) {
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for path in files(dir) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        for parent in path
            .ancestors()
            .skip(1)
            .take_while(|parent| parent.starts_with(dir))
        {
            assert_eq!(mode(parent), 0o700, "{}", parent.display());
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The files below a directory, in a fixed order. Those that vanish meanwhile are left out.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => open.push(path),
                Ok(_) => found.push(path),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

/// Opening what we did not make is a typed error and changes nothing.
pub fn foreign_places_are_left_alone(open: impl CrashSite, dir: &Path) {
    let foreign = dir.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "mine").unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o750)).unwrap();
    refused(open(&foreign));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    assert_eq!(fs::read(foreign.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(mode(&foreign), 0o750);

    let file = dir.join("file");
    fs::write(&file, "mine").unwrap();
    refused(open(&file));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

fn refused<T>(opened: Result<T, EngineError>) {
    match opened.map(drop) {
        Err(error @ EngineError::Foreign { .. }) => assert_eq!(error.blame(), Blame::Caller),
        other => panic!("expected Foreign, not {other:?}"),
    }
}

/// Flipped, cut and missing bytes lead to typed errors or to sound rows, never to panics or to rows
/// that nobody wrote.
pub fn damage_is_an_error(open: impl CrashSite, dir: &Path) {
    const CASES: usize = 60;
    let sound = dir.join("sound");
    for round in 0..3 {
        let engine = open(&sound).unwrap();
        write_rows(&*engine, round);
        if round > 0 {
            engine.close().unwrap();
        }
    }
    let mut rng = Rng::new(0xBAD);
    let mut errors = 0;
    for case in 0..CASES {
        let copy = dir.join("copy");
        copy_dir(&sound, &copy);
        let what = damage(&copy, &mut rng);
        let outcome = catch_unwind(AssertUnwindSafe(|| read_rows(&open, &copy)))
            .unwrap_or_else(|_| panic!("case {case}: a panic after {what}"));
        match outcome {
            Ok(()) => {}
            Err(EngineError::Closed | EngineError::Locked { .. }) => panic!("case {case}: {what}"),
            Err(_) => errors += 1,
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(errors > 0, "damage is noticed");
}

/// Damages one file below `dir`, says how.
fn damage(dir: &Path, rng: &mut Rng) -> String {
    let files: Vec<_> = files(dir)
        .into_iter()
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        .collect();
    let path = rng.pick(&files);
    let len = fs::metadata(path).unwrap().len();
    let name = path.strip_prefix(dir).unwrap().display();
    // Half of the damage where engines keep their own data.
    let at = if rng.one_in(2) {
        rng.below(len.min(4096) as usize)
    } else {
        rng.below(len as usize)
    } as u64;
    match rng.below(8) {
        0 => {
            fs::remove_file(path).unwrap();
            format!("{name} removed")
        }
        1 | 2 => {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(at)
                .unwrap();
            format!("{name} cut to {at} of {len}")
        }
        3 => {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let zeros = vec![0; 4096.min((len - at) as usize)];
            file.write_all_at(&zeros, at).unwrap();
            format!("{name} zeroed at {at} of {len}")
        }
        _ => {
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            byte[0] ^= 1 << rng.below(8);
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&byte).unwrap();
            format!("{name} flipped at {at} of {len}")
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, &target).unwrap();
    }
}

/// Enough rows for several files, pages and levels; a value is its key repeated.
fn write_rows(engine: &dyn Engine, round: u8) {
    let mut rng = Rng::new(u64::from(round));
    for _ in 0..10 {
        let mut batch = Batch::new();
        for _ in 0..60 {
            let key = rng.bytes(16);
            batch.put(*rng.pick(&Space::ALL), &key, &key.repeat(3));
        }
        let key = rng.bytes(16);
        batch.put(Space::Log, &key, &key.repeat(2_000));
        engine.write(&batch, Durability::Relaxed).unwrap();
    }
    engine.flush().unwrap();
}

/// Opens and reads all there is, in several ways, and writes once.
fn read_rows(open: &impl CrashSite, dir: &Path) -> Result<(), EngineError> {
    let engine = open(dir)?;
    let snapshot = engine.snapshot()?;
    for space in Space::ALL {
        for direction in [Direction::Forward, Direction::Reverse] {
            let flow = snapshot.for_each(space, &KeyRange::all(), direction, |row| {
                assert!(
                    row.value.chunks(16).all(|chunk| chunk == row.key),
                    "a row nobody wrote"
                );
                let again = snapshot.get(space, &row.key)?;
                assert_eq!(again.as_ref(), Some(&row.value));
                Ok::<_, EngineError>(ControlFlow::<()>::Continue(()))
            })?;
            assert!(flow.is_continue());
        }
    }
    drop(snapshot);
    let mut batch = Batch::new();
    batch.put(Space::Meta, b"after", b"damage");
    engine.write(&batch, Durability::Durable)?;
    engine.close()
}
