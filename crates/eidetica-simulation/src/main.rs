//! Simulates seeds: many of them, or one with its events in words.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    ops::AddAssign,
    panic::catch_unwind,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use eidetica_simulation::{Behaviour, Counts, MINUTES, Plan, run};

/// Failures after which it makes no sense to go on.
const FAILURES: usize = 20;

/// Simulates many nodes on a virtual clock, network and disk, from a seed.
#[derive(Parser)]
struct Args {
    /// Only this seed, with its events in words
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many nodes, instead of 2 to 8
    #[arg(long)]
    peers: Option<usize>,
    /// For how many minutes things happen
    #[arg(long, default_value_t = MINUTES)]
    minutes: u64,
    /// What the last nodes do to the others, instead of what the seed says; nothing for no rogues
    #[arg(long, value_delimiter = ',', num_args = 0.., require_equals = true)]
    rogues: Option<Vec<Behaviour>>,
    /// Disks lose what they said is durable
    #[arg(long)]
    forgetful: bool,
    /// Seeds that run at once
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Events not in words
    #[arg(long)]
    quiet: bool,
}

impl Args {
    fn plan(&self, seed: u64) -> Plan {
        Plan {
            peers: self.peers,
            minutes: self.minutes,
            rogues: self.rogues.clone(),
            forgetful: self.forgetful,
            readable: self.seed.is_some() && !self.quiet,
            ..Plan::of(seed)
        }
    }
}

/// What became of many seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    events: u64,
    counts: Counts,
    most_dials: usize,
    failures: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let total = match args.seed {
        Some(seed) => {
            let mut total = Total::default();
            total += one(&args, seed);
            total
        }
        None => many(&args),
    };
    println!(
        "{} seeds in {:.1} s",
        total.seeds,
        began.elapsed().as_secs_f64()
    );
    println!("{} events, {:?}", total.events, total.counts);
    println!(
        "at most {} dials from one node to another in a minute",
        total.most_dials
    );
    match total.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            total
                .failures
                .iter()
                .for_each(|failure| println!("{failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs seeds on all threads, each seed on one.
fn many(args: &Args) -> Total {
    let next = AtomicU64::new(args.from);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = total.lock().unwrap().failures.len();
                    if seed >= args.from + args.seeds || failed >= FAILURES {
                        return;
                    }
                    let ran = one(args, seed);
                    *total.lock().unwrap() += ran;
                }
            });
        }
    });
    total.into_inner().unwrap()
}

fn one(args: &Args, seed: u64) -> Total {
    let mut total = Total {
        seeds: 1,
        ..Total::default()
    };
    let wrong = match catch_unwind(|| run(&args.plan(seed))) {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("panics: {}", text.unwrap_or("?")))
        }
        Ok(report) => {
            if args.seed.is_some() {
                let hex: String = report
                    .hash
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                println!("hash {hex}");
            }
            (total.events, total.counts) = (report.events, report.counts);
            total.most_dials = report.most_dials;
            let violation = report.violation;
            violation
                .map(|wrong| format!("node {} at {} ms: {}", wrong.node, wrong.at_ms, wrong.what))
        }
    };
    total.failures = wrong
        .map(|wrong| format!("seed {seed}: {wrong}\n  {}", args.plan(seed).replay()))
        .into_iter()
        .collect();
    total
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.counts += other.counts;
        self.most_dials = self.most_dials.max(other.most_dials);
        self.failures.extend(other.failures);
    }
}
