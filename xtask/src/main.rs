//! The project's own tasks, run as `cargo xtask TASK`. One file per task; none of them is needed to use the crates.

mod authority;
mod bench;
mod ci;
mod crash;
mod fuzz;
mod layers;
mod mutants;
mod processes;
mod sim;
mod source;
mod statesync;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test: unit, integration and documentation tests, feature combinations, engines and transports
    Test(test::Args),
    /// Everything a change must pass: format, clippy, layers, tidy, documentation, dependency rules, tests
    Ci,
    /// Check the dependency edges between our crates and that nothing below the purity line does I/O
    Layers,
    /// Check the habits that compilers do not: file shapes, licences, links, forgotten markers
    Tidy,
    /// Run the measurements in `benches/`
    Bench(bench::Args),
    /// Compare the rules of authority with the reference resolver, in full
    Authority(authority::Args),
    /// Lie to the engine of state synchronization in every listed way, in full
    Statesync(statesync::Args),
    /// Break the rules of authority on purpose, in a scratch copy, and see that the tests notice
    Mutants(mutants::Args),
    /// Run several node processes on one PostgreSQL server and kill one, many times over
    Processes(processes::Args),
    /// Simulate many nodes on a virtual clock, network and disk, from seeds
    Sim(sim::Args),
    /// Kill databases, fail what is below them, cut their power, fill their disks; nothing acknowledged is lost
    Crash(crash::Args),
    /// Fuzz every target for some seconds (needs a nightly toolchain and cargo-fuzz)
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Ci => ci::run(),
        Task::Layers => layers::run(),
        Task::Tidy => tidy::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Authority(args) => authority::run(&args),
        Task::Statesync(args) => statesync::run(&args),
        Task::Mutants(args) => mutants::run(&args),
        Task::Processes(args) => processes::run(&args),
        Task::Sim(args) => sim::run(&args),
        Task::Crash(args) => crash::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    }
}
