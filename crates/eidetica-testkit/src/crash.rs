//! Kill -9 against an engine that keeps files.
//!
//! The test binary starts itself again as a child that writes numbered batches and says on its
//! standard output which numbers were acknowledged; the parent kills it after some of them, opens the
//! data and looks.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, KeyRange, Snapshot, Space};

use crate::Rng;

/// The environment variable that tells a child where to write.
pub const CRASH_DIR: &str = "EIDETICA_CRASH_DIR";

/// Opens an engine on a directory, creating it where there is none.
pub trait CrashSite: Fn(&Path) -> Result<Arc<dyn Engine>, EngineError> {}
impl<F: Fn(&Path) -> Result<Arc<dyn Engine>, EngineError>> CrashSite for F {}

const COUNTER: &[u8] = b"counter";
const ROUNDS: usize = 8;
/// Large enough that engines rotate logs and merge files now and then.
const LARGE_BYTES: usize = 200_000;

/// Kills a writing child again and again: acknowledged batches are there, and no batch in part.
pub fn kill_leaves_whole_batches(open: impl CrashSite, child: &str, dir: &Path) {
    let mut rng = Rng::new(0xDEAD);
    let mut before = 0;
    for round in 0..ROUNDS {
        let acknowledged = kill_after(child, dir, 1 + rng.below(60));
        let engine = open(dir).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let last = check(&*engine.snapshot().unwrap());
        assert!(
            last >= acknowledged,
            "round {round}: {acknowledged} was acknowledged, {last} is there"
        );
        assert!(
            acknowledged > before,
            "round {round}: the child went on from {before}"
        );
        before = acknowledged;
        if round % 2 == 0 {
            engine.close().unwrap();
        }
    }
}

/// Starts the child, reads so many acknowledgements and kills it. The last number it acknowledged.
fn kill_after(child: &str, dir: &Path, acknowledgements: usize) -> u64 {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(CRASH_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let numbers = lines
        .by_ref()
        .filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    let mut last = numbers
        .take(acknowledgements)
        .last()
        .expect("the child writes");
    process.kill().unwrap();
    process.wait().unwrap();
    // What it could still say before it died counts as well.
    for line in lines {
        if let Some(number) = line
            .strip_prefix("ack ")
            .and_then(|number| number.parse().ok())
        {
            last = number;
        }
    }
    last
}

/// The child: writes until it is killed, or, run by itself without [`CRASH_DIR`], a few batches.
pub fn child(open: impl CrashSite, spare_dir: &Path) {
    match std::env::var_os(CRASH_DIR) {
        Some(dir) => write_batches(&*open(Path::new(&dir)).unwrap(), u64::MAX),
        None => {
            write_batches(&*open(spare_dir).unwrap(), 40);
            assert_eq!(check(&*open(spare_dir).unwrap().snapshot().unwrap()), 40);
        }
    }
}

/// Writes batches after the last one there, relaxed and durable in turn, and says what is certain.
fn write_batches(engine: &dyn Engine, count: u64) {
    let first = 1 + check(&*engine.snapshot().unwrap());
    for number in first..first.saturating_add(count) {
        let durable = number.is_multiple_of(3);
        let durability = if durable {
            Durability::Durable
        } else {
            Durability::Relaxed
        };
        engine.write(&batch(number), durability).unwrap();
        if number % 7 == 0 {
            engine.flush().unwrap();
        }
        if durable || number % 7 == 0 {
            // Not `println!`: the test harness may keep that back.
            writeln!(std::io::stdout().lock(), "ack {number}").unwrap();
        }
    }
    engine.flush().unwrap();
}

/// Rows of batch `number` in every space; some large, and one deletion.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.expect(
        Space::Meta,
        COUNTER,
        (number > 1)
            .then(|| (number - 1).to_be_bytes())
            .as_ref()
            .map(|n| &n[..]),
    );
    batch.put(Space::Meta, COUNTER, &number.to_be_bytes());
    for space in Space::ALL {
        batch.put_parts(
            space,
            &[b"n", &number.to_be_bytes()],
            &[&value(number, space)],
        );
    }
    if number.is_multiple_of(5) {
        batch.delete_range(
            Space::Local,
            &KeyRange::prefix(b"n").before(&local_start(number)),
        );
    }
    batch
}

/// The rows of `Local` below are deleted by the batch.
fn local_start(number: u64) -> Vec<u8> {
    [b"n".as_slice(), &(number - number % 5).to_be_bytes()].concat()
}

/// Cheap to make, since a check makes all of them again.
fn value(number: u64, space: Space) -> Vec<u8> {
    let len = match space {
        Space::Log if number.is_multiple_of(8) => LARGE_BYTES,
        _ => 32,
    };
    (number * 8 + u64::from(space.number()))
        .to_be_bytes()
        .repeat(len / 8)
}

/// Checks that exactly the batches up to some number are there, and returns it.
fn check(snapshot: &dyn Snapshot) -> u64 {
    let counter = snapshot.get(Space::Meta, COUNTER).unwrap();
    let last = counter.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()));
    for space in Space::ALL {
        let first = if space == Space::Local {
            (last - last % 5).max(1)
        } else {
            1
        };
        let mut expected = first;
        let flow: Result<std::ops::ControlFlow<()>, EngineError> =
            snapshot.for_each(space, &KeyRange::prefix(b"n"), Default::default(), |row| {
                assert_eq!(
                    row.key[1..],
                    expected.to_be_bytes(),
                    "{space}: a batch is torn or lost"
                );
                assert_eq!(row.value, value(expected, space), "{space}: row {expected}");
                expected += 1;
                Ok(std::ops::ControlFlow::Continue(()))
            });
        assert!(flow.unwrap().is_continue());
        assert_eq!(expected, last + 1, "{space}: a batch is torn");
    }
    last
}
