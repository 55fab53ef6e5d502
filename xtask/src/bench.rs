//! Runs the measurements of `benches/`: programs with arguments of their own, and criterion benchmarks.

use anyhow::{bail, ensure};

use crate::workspace::{Metadata, cargo, run as run_command};

const PACKAGE: &str = "eidetica-benches";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The measurement to run; all of them when left out
    name: Option<String>,
    /// Arguments for it
    #[arg(last = true, requires = "name")]
    args: Vec<String>,
}

/// The task.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let metadata = Metadata::declared()?;
    let targets: Vec<(&str, &str)> = metadata
        .members()
        .filter(|package| package.name == PACKAGE)
        .flat_map(|package| &package.targets)
        .filter_map(|target| {
            let kind = target
                .kind
                .iter()
                .find(|kind| *kind == "bin" || *kind == "bench")?;
            Some((kind.as_str(), target.name.as_str()))
        })
        .collect();
    let names: Vec<&str> = targets.iter().map(|(_, name)| *name).collect();
    ensure!(
        !targets.is_empty(),
        "{PACKAGE} has no programs and no benchmarks"
    );
    let wanted = |name: &str| args.name.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = targets.iter().filter(|(_, name)| wanted(name)).collect();
    if chosen.is_empty() {
        bail!(
            "no measurement of that name; there are: {}",
            names.join(", ")
        );
    }
    for (kind, name) in chosen {
        let mut command = match *kind {
            "bin" => cargo(["run", "--release", "--package", PACKAGE, "--bin"]),
            _ => cargo(["bench", "--package", PACKAGE, "--bench"]),
        };
        run_command(command.args([*name, "--"]).args(&args.args))?;
    }
    Ok(())
}
