//! Lies to the engine of state synchronization in every listed way, a thousand seeds each. The same tests run on a
//! sample wherever all tests run.

use crate::workspace::{cargo, run as run_command};

/// How much tests read to know what to run.
const SCOPE: &str = "EIDETICA_STATESYNC";

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this run, a way to lie and a seed: `WrongByte:7`
    #[arg(long)]
    run: Option<String>,
}

/// The task.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo([
        "test",
        "--release",
        "--package",
        "eidetica-statesync",
        "--test",
        "it",
        "--",
        "lies::",
        "--nocapture",
    ]);
    command.env(SCOPE, args.run.as_deref().unwrap_or("full"));
    run_command(&mut command)
}
