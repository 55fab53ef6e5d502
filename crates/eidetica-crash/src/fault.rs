//! The i-th write, sync or allocation fails, for any i: the process says so by a typed error and keeps what it promised.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, ensure};
use eidetica_testkit::EngineKind;

use crate::check;
use crate::child::{self, REFUSED};
use crate::kill::keep;
use crate::preload::{Counts, Preload, What, read_counts};
use crate::promise::Promises;
use crate::site::Site;

/// The signal by which Rust ends a process that gets no memory.
const ABORT: i32 = 6;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This crate's program.
    pub program: PathBuf,
    /// The library below it.
    pub preload: Preload,
    /// On which engine.
    pub kind: EngineKind,
    /// What fails.
    pub what: What,
    /// The first operation that fails.
    pub first: u64,
    /// How far apart the operations are that fail, each in a process of its own: 1 for all.
    pub every: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations in a run without faults.
    pub operations: u64,
    /// Runs with a fault.
    pub runs: u64,
    /// Those that ended with a typed error.
    pub refused: u64,
    /// Those that aborted, for want of memory.
    pub aborted: u64,
    /// Acknowledgements that were found to be kept.
    pub kept: u64,
}

/// Runs the scenario once for each chosen operation.
///
/// # Errors
/// What did not hold; the data is left where it says.
pub fn fail_each(plan: &Plan) -> anyhow::Result<Tally> {
    let dir = tempfile::tempdir()?;
    let (counts, _) = run(plan, dir.path(), None)?;
    let operations = counts.context("no counts")?.of(plan.what);
    ensure!(operations > 0, "nothing that could fail");
    let mut tally = Tally {
        operations,
        ..Tally::default()
    };
    let mut number = plan.first;
    while number < operations {
        let dir = tempfile::tempdir()?;
        let failed = fail_one(plan, dir.path(), number, &mut tally)
            .with_context(|| format!("{:?} {}", plan.kind, plan.what.at(number)));
        if let Err(error) = failed {
            return Err(keep(dir, &error));
        }
        number += plan.every;
    }
    Ok(tally)
}

fn fail_one(plan: &Plan, dir: &Path, number: u64, tally: &mut Tally) -> anyhow::Result<()> {
    let (_, status) = run(plan, dir, Some(number))?;
    tally.runs += 1;
    let memory = plan.what == What::Alloc;
    match status.code() {
        Some(0) => {}
        Some(code) if code == i32::from(REFUSED) => tally.refused += 1,
        // Some part of a program that has no memory may panic instead: that ends it as well.
        Some(101) if memory => tally.aborted += 1,
        None if memory && signal(status) == Some(ABORT) => tally.aborted += 1,
        _ => anyhow::bail!("the process ended by {status}"),
    }
    let promises = Promises::read(&dir.join("journal"))?;
    check::site(&site(plan, dir), &promises)?;
    tally.kept += promises.count();
    Ok(())
}

fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

fn site(plan: &Plan, dir: &Path) -> Site {
    Site::dir(plan.kind, &dir.join("data"))
}

/// Runs the scenario, with a fault or counting.
fn run(
    plan: &Plan,
    dir: &Path,
    fault: Option<u64>,
) -> anyhow::Result<(Option<Counts>, ExitStatus)> {
    let (journal, counts) = (dir.join("journal"), dir.join("counts"));
    let site = site(plan, dir);
    let mut command = child::command(&plan.program, "scenario", &site, &journal);
    if plan.what == What::Alloc {
        command.arg("--small");
    }
    plan.preload.count(&mut command, &site, &counts)?;
    if let Some(number) = fault {
        command.env("EIDETICA_FAULT", plan.what.at(number));
    }
    let output = command.stderr(Stdio::piped()).output()?;
    let status = output.status;
    let may_panic = plan.what == What::Alloc;
    let may_fail = fault.is_some() && (may_panic || status.code() != Some(101));
    ensure!(
        status.success() || may_fail,
        "{status}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let goes_on = plan.what != What::Alloc && text.contains("and then: Ok");
    ensure!(!goes_on, "after a failed write it goes on: {text}");
    let counts = match fault {
        None => Some(read_counts(&counts)?),
        Some(_) => None,
    };
    Ok((counts, status))
}
