//! Our authenticated database beside `commonware-storage` from the crate registry, in one process and one run:
//! `cargo run --release --manifest-path benches/peer/Cargo.toml`.
//!
//! Both do the same by turns, each beginning in every second round: fresh keys and values of 32 bytes, 10,000 in a commit, the root after
//! each; proofs of ranges and their verification; opening again what was dropped. On files in memory (`/dev/shm`) and
//! on disk. `OPERATIONS` (default "100000 1000000") are the sizes, `ROUNDS` (default 3) how often; shown is the best
//! of all rounds. Arguments choose among `memory` and `disk`.
//!
//! Only what the other crate documents is used, and one thread on either side.

mod ours;
mod side;
mod theirs;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::ours::Ours;
use crate::side::{Pair, Side};
use crate::theirs::Theirs;

/// Operations in a proof.
const RANGES: [u64; 2] = [50, 1_000];

/// Wall time, and the processor time of all threads.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    processor: Duration,
}

/// What was done, how often, and how long it took.
type Figures = Vec<(String, u64, Took)>;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let sizes = std::env::var("OPERATIONS").unwrap_or("100000 1000000".to_owned());
    let rounds = std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    println!(
        "| files | what | {} per second | {} per second | ratio | processor us each | processor us each | ratio |",
        Ours::NAME,
        Theirs::NAME
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for size in sizes.split_whitespace().map(|size| size.parse().unwrap()) {
        let pairs: Arc<Vec<Pair>> = Arc::new((0..size).map(pair).collect());
        for (name, root) in [
            ("memory", Path::new("/dev/shm")),
            ("disk", &std::env::temp_dir()),
        ] {
            if wanted(name) {
                compare(name, root, &pairs, rounds);
            }
        }
    }
}

fn pair(number: u64) -> Pair {
    let hash = |label: &str| {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(label.as_bytes())
            .update(&number.to_le_bytes());
        *hasher.finalize().as_bytes()
    };
    (hash("key"), hash("value"))
}

fn compare(files: &str, root: &Path, pairs: &Arc<Vec<Pair>>, rounds: u32) {
    let (mut ours, mut theirs): (Option<Figures>, Option<Figures>) = (None, None);
    for round in 0..rounds {
        for turn in 0..2 {
            let dir = tempfile::tempdir_in(root).unwrap();
            let dir = dir.path().join("database");
            match (round + turn).is_multiple_of(2) {
                true => ours = best(ours.take(), measure::<Ours>(&dir, pairs)),
                false => theirs = best(theirs.take(), measure::<Theirs>(&dir, pairs)),
            }
        }
    }
    for ((what, count, ours), (_, _, theirs)) in
        ours.into_iter().flatten().zip(theirs.into_iter().flatten())
    {
        let rate = |took: Took| count as f64 / took.wall.as_secs_f64();
        let each = |took: Took| took.processor.as_secs_f64() * 1e6 / count as f64;
        println!(
            "| {files} | {what} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            rate(ours),
            rate(theirs),
            rate(ours) / rate(theirs),
            each(ours),
            each(theirs),
            each(theirs) / each(ours),
        );
    }
}

/// The less of both, for each figure.
fn best(before: Option<Figures>, now: Figures) -> Option<Figures> {
    let Some(before) = before else {
        return Some(now);
    };
    let less = |((what, count, one), (_, _, other)): ((String, u64, Took), (String, u64, Took))| {
        let took = Took {
            wall: one.wall.min(other.wall),
            processor: one.processor.min(other.processor),
        };
        (what, count, took)
    };
    Some(before.into_iter().zip(now).map(less).collect())
}

fn measure<S: Side>(dir: &Path, pairs: &Arc<Vec<Pair>>) -> Figures {
    let mut side = S::at(dir, Arc::clone(pairs));
    let mut figures = Figures::new();
    let count = pairs.len() as u64;
    side.open();
    let took = timed(|| side.insert());
    figures.push((format!("{count}: insert, commit, root"), count, took));
    let end = side.operations();
    for size in RANGES {
        let starts = (0..end - size).step_by(size as usize);
        let ranges: Vec<Range<u64>> = starts.map(|start| start..start + size).collect();
        let proven = ranges.len() as u64 * size;
        let took = timed(|| side.prove(ranges));
        figures.push((format!("{count}: prove ranges of {size}"), proven, took));
        let took = timed(|| side.verify());
        figures.push((format!("{count}: verify ranges of {size}"), proven, took));
    }
    side.close();
    let took = timed(|| side.open());
    figures.push((format!("{count}: open"), 1, took));
    side.close();
    figures
}

fn timed(work: impl FnOnce()) -> Took {
    let (begun, used) = (Instant::now(), processor_time());
    work();
    Took {
        wall: begun.elapsed(),
        processor: processor_time() - used,
    }
}

/// Processor time of all threads so far, those that have ended included.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
