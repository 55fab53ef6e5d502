//! The rules of authority against a second, naive reading of them.
//!
//! `EIDETICA_AUTHORITY=full` runs everything instead of a sample, on all cores; `cargo xtask authority`
//! does so in release. `EIDETICA_AUTHORITY=seed:N` runs the one random database of that seed, `random:N` the first N,
//! on all cores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub
)]

mod case;
mod cases;
mod delegation;
mod exhaustive;
mod matrix;
mod payload;
mod random;
mod resolver;
mod unique;
mod worlds;

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use case::Counts;
use exhaustive::Share;

/// Runs `part(nth, of)` on as many threads as there are cores and prints the sum.
fn run(what: &str, threads: u64, part: impl Fn(u64, u64) -> Counts + Sync) -> Counts {
    let start = Instant::now();
    let counts = thread::scope(|scope| {
        let part = &part;
        let parts: Vec<_> = (0..threads)
            .map(|nth| scope.spawn(move || part(nth, threads)))
            .collect();
        let mut sum = Counts::default();
        for part in parts {
            sum += part
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        sum
    });
    println!(
        "{what}: {counts:?} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    counts
}

fn mode() -> String {
    env::var("EIDETICA_AUTHORITY").unwrap_or_default()
}

fn threads() -> u64 {
    match mode().split(':').next() {
        Some("full" | "random") => thread::available_parallelism().map_or(1, |n| n.get() as u64),
        _ => 1,
    }
}

fn keep(sample: f64) -> f64 {
    if mode() == "full" { 1.0 } else { sample }
}

#[test]
fn two_control_entries_with_every_operation() {
    let keep = keep(0.03);
    let counts = run("two control entries", threads(), |nth, of| {
        exhaustive::two(Share {
            nth,
            of,
            keep,
            salt: 2,
        })
    });
    assert!(
        counts.cases > 300 && counts.void > 0 && counts.flips > 0,
        "{counts:?}"
    );
}

#[test]
fn three_control_entries_with_fewer_operations() {
    let keep = keep(0.08);
    let counts = run("three control entries", threads(), |nth, of| {
        exhaustive::three(Share {
            nth,
            of,
            keep,
            salt: 3,
        })
    });
    let least = if keep == 1.0 { 1_500_000 } else { 300 };
    assert!(
        counts.cases > least && counts.void > 0 && counts.flips > 0,
        "{counts:?}"
    );
}

#[test]
fn larger_databases_by_chance() {
    let mode = mode();
    let (first, count) = match mode.split_once(':') {
        Some(("seed", seed)) => (seed.parse().expect("a number"), 1),
        Some(("random", count)) => (0, count.parse().expect("a number")),
        _ if mode == "full" => (0, 1_000_000),
        _ => (0, 400),
    };
    let start = Instant::now();
    let mut counts = Counts::default();
    for block in (first..first + count).step_by(BLOCK as usize) {
        let end = (first + count).min(block + BLOCK);
        let next = AtomicU64::new(block);
        counts += run(
            &format!("random databases from {block}"),
            threads(),
            |_, _| random_databases(&next, end),
        );
    }
    println!(
        "random databases: {counts:?} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert_eq!(counts.cases, count);
}

/// Random databases of these seeds are told apart, so that a long run shows how far it is.
const BLOCK: u64 = 100_000;

/// Takes seeds until the end.
fn random_databases(next: &AtomicU64, end: u64) -> Counts {
    let mut counts = Counts::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return counts;
        }
        let failed = Replay(seed);
        counts += random::one(seed);
        std::mem::forget(failed);
    }
}

/// Tells how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("see it again with: cargo xtask authority --seed {}", self.0);
    }
}
