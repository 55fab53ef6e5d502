//! Several node processes on one PostgreSQL server, with peers, and one of them killed: many times over.

use crate::workspace::{cargo, run as run_command};

/// How often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of each story
    #[arg(long, default_value_t = 25)]
    rounds: u32,
}

/// The task. Every test run tells each story once.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo([
        "test",
        "--release",
        "--package",
        "eidetica-storage-postgres",
        "--test",
        "it",
        "--",
        "--test-threads=1",
        "--nocapture",
        "lose_nothing",
    ]);
    command.env("EIDETICA_PROCESS_ROUNDS", args.rounds.to_string());
    run_command(&mut command)
}
