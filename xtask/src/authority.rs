//! Compares the rules of authority with the reference resolver in full: all small databases and a million random ones.
//! The same tests run on a sample wherever all tests run.

use crate::workspace::{cargo, run as run_command};

/// How much tests read to know what to run.
const SCOPE: &str = "EIDETICA_AUTHORITY";

/// What to compare.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the random database of this seed
    #[arg(long)]
    seed: Option<u64>,
}

/// The task. Every test prints its counts and its time; they run one after the other, each on all cores.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo([
        "test",
        "--release",
        "--package",
        "eidetica-auth",
        "--test",
        "reference",
    ]);
    match args.seed {
        Some(seed) => command.env(SCOPE, format!("seed:{seed}")).args([
            "larger_databases_by_chance",
            "--",
            "--nocapture",
        ]),
        None => command
            .env(SCOPE, "full")
            .args(["--", "--nocapture", "--test-threads", "1"]),
    };
    run_command(&mut command)
}
