//! Crashes databases on every engine that survives a crash: kills, faults below the engines, loss of power, full disks.

use crate::workspace::{cargo, run as run_command};

/// What to crash.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the program takes: `--engine E`, `--cycles N`, `--part kill|faults|power|full|twice`, `--every N`, `--from N`, `--seed N`
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
        "eidetica-crash",
        "--",
    ]);
    run_command(command.args(&args.args))
}
