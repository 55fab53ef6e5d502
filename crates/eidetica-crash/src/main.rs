//! Crashes databases: all engines and all faults, or what the command line picks.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use eidetica_crash::child::{self, Child};
use eidetica_crash::preload::{Preload, What};
use eidetica_crash::{fault, full, kill, power, site};
use eidetica_testkit::{EngineKind, PostgresServer};

/// Kills of a worker on each engine that keeps files, and on PostgreSQL, where a check costs more.
const CYCLES: u64 = 1_000;
const CYCLES_ON_A_SERVER: u64 = 200;
/// Moments at which the power goes.
const MOMENTS: u64 = 400;
/// All allocations of a run would take an hour an engine.
const EVERY_ALLOC: u64 = 17;
/// MiB of the disk that is filled.
const DISK_MIB: u32 = 48;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    args: Args,
}

/// Crashes databases again and again: everything acknowledged is there, nothing twice, and everything verifies.
#[derive(clap::Args)]
struct Args {
    /// Only this engine: fjall, redb, sqlite or postgres
    #[arg(long, value_parser = site::named)]
    engine: Option<EngineKind>,
    /// How many times a worker is killed on each engine [default: 1000, 200 on PostgreSQL]
    #[arg(long)]
    cycles: Option<u64>,
    /// Only this part
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Only each N-th write, sync and allocation fails [default: all, and each 17th allocation]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// What chance draws from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Kill -9 in a loop
    Kill,
    /// The i-th write, sync or allocation fails
    Faults,
    /// Unsynced writes are lost, reordered or torn
    Power,
    /// The disk is full
    Full,
    /// Two processes on one place
    Twice,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(child) = cli.child {
        return child::run(&child);
    }
    match run(&cli.args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let wants = |part| args.part.is_none_or(|only| only == part);
    let scratch = tempfile::tempdir()?;
    let preload = Preload::build(scratch.path());
    for kind in kinds(args.engine) {
        if wants(Part::Kill) {
            kills(args, &program, kind)?;
        }
        if kind == EngineKind::Postgres {
            if args.part.is_some_and(|part| part != Part::Kill) {
                eprintln!("==> NOT on PostgreSQL: it keeps no files of ours");
            }
            continue;
        }
        match &preload {
            Ok(preload) => {
                if wants(Part::Faults) {
                    faults(args, &program, preload, kind)?;
                }
                if wants(Part::Power) {
                    powers(args, &program, preload, kind)?;
                }
            }
            Err(reason) => eprintln!("==> NO faults below {kind:?}: {reason}"),
        }
        if wants(Part::Full) {
            match full::fill(&program, kind, DISK_MIB)? {
                Ok(kept) => println!("{kind:?}: the disk was full; {kept} acknowledgements kept"),
                Err(full::Unavailable(reason)) => eprintln!("==> NO full disk: {reason}"),
            }
        }
        if wants(Part::Twice) {
            kill::one_at_a_time(&program, kind)?;
            println!("{kind:?}: a second process was kept out");
        }
    }
    Ok(())
}

fn kinds(only: Option<EngineKind>) -> Vec<EngineKind> {
    if let Some(kind) = only {
        return vec![kind];
    }
    let mut kinds = site::FILE_ENGINES.to_vec();
    match PostgresServer::available() {
        Ok(()) => kinds.push(EngineKind::Postgres),
        Err(reason) => eprintln!("==> NO crashes on PostgreSQL: {reason}"),
    }
    kinds
}

fn kills(args: &Args, program: &std::path::Path, kind: EngineKind) -> anyhow::Result<()> {
    let usual = match kind {
        EngineKind::Postgres => CYCLES_ON_A_SERVER,
        _ => CYCLES,
    };
    let begun = Instant::now();
    let tally = kill::kill(&kill::Plan {
        program: PathBuf::from(program),
        kind,
        cycles: args.cycles.unwrap_or(usual),
        seed: args.seed,
        sync: true,
    })?;
    println!(
        "{kind:?}: {} kills, {} before the work began, {} with the server; {} acknowledgements kept, {} entries; {:.0} s",
        tally.cycles,
        tally.early,
        tally.server_crashes,
        tally.kept,
        tally.entries,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn faults(
    args: &Args,
    program: &std::path::Path,
    preload: &Preload,
    kind: EngineKind,
) -> anyhow::Result<()> {
    for what in What::ALL {
        let usual = if what == What::Alloc { EVERY_ALLOC } else { 1 };
        let begun = Instant::now();
        let tally = fault::fail_each(&fault::Plan {
            program: PathBuf::from(program),
            preload: preload.clone(),
            kind,
            what,
            first: args.from,
            every: args.every.unwrap_or(usual),
        })?;
        println!(
            "{kind:?}: {what:?} failed in {} of {} places: {} refused, {} aborted; {} acknowledgements kept; {:.0} s",
            tally.runs,
            tally.operations,
            tally.refused,
            tally.aborted,
            tally.kept,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn powers(
    args: &Args,
    program: &std::path::Path,
    preload: &Preload,
    kind: EngineKind,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let tally = power::cut(&power::Plan {
        program: PathBuf::from(program),
        preload: preload.clone(),
        kind,
        moments: args.cycles.unwrap_or(MOMENTS),
        seed: args.seed,
    })?;
    println!(
        "{kind:?}: the power went at {} moments of {} changes; {} acknowledgements kept; {:.0} s",
        tally.moments,
        tally.changes,
        tally.kept,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
