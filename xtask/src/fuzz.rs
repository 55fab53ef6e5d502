//! Fuzzes the targets of `fuzz/`, a workspace of its own because its tools need a nightly compiler. Installs nothing.

use std::process::Command;

use anyhow::ensure;

use crate::workspace::{Metadata, root, run as run_command};

/// How long and what to fuzz.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds per target
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The target; all of them when left out
    target: Option<String>,
}

/// The task.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let installed = fuzz()
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    ensure!(
        installed,
        "fuzzing needs a nightly toolchain and cargo-fuzz:\n  rustup toolchain install nightly\n  cargo install --locked cargo-fuzz"
    );
    let targets = targets()?;
    let wanted = |name: &String| args.target.as_ref().is_none_or(|only| only == name);
    let chosen: Vec<&String> = targets.iter().filter(|name| wanted(name)).collect();
    ensure!(
        !chosen.is_empty(),
        "no fuzz target of that name; there are: {}",
        targets.join(", ")
    );
    for name in chosen {
        let limit = format!("-max_total_time={}", args.seconds);
        run_command(fuzz().args(["run", name, "--", &limit]))?;
    }
    Ok(())
}

/// `cargo` by its proxy, which the `+nightly` argument needs; the CARGO variable names one toolchain's binary.
fn fuzz() -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).current_dir(root());
    command
}

fn targets() -> anyhow::Result<Vec<String>> {
    let metadata = Metadata::of_manifest(&root().join("fuzz/Cargo.toml"))?;
    let programs = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets);
    Ok(programs
        .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
        .map(|target| target.name)
        .collect())
}
