//! Simulates many nodes on a virtual clock, network and disk: many seeds, or one with its events in words.

use crate::workspace::{cargo, run as run_command};

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the simulation takes: `--seed N`, `--seeds N`, `--from N`, `--peers K`, `--minutes M`, `--threads T`, `--quiet`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The task.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo([
        "run",
        "--release",
        "--quiet",
        "--package",
        "eidetica-simulation",
        "--",
    ]);
    run_command(command.args(&args.args))
}
