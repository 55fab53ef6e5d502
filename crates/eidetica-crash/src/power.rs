//! The power goes at any moment: unsynced writes are lost, reordered or torn, and everything promised before is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use eidetica_testkit::{EngineKind, Rng};

use crate::check;
use crate::child;
use crate::kill::keep;
use crate::preload::Preload;
use crate::promise::Promises;
use crate::record::{self, Change, Disk, Keeps};
use crate::site::Site;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This crate's program.
    pub program: PathBuf,
    /// The library that records.
    pub preload: Preload,
    /// On which engine.
    pub kind: EngineKind,
    /// How many moments to look at.
    pub moments: u64,
    /// What chance draws from.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Changes that were recorded.
    pub changes: usize,
    /// Disks that were looked at.
    pub moments: u64,
    /// Acknowledgements that were found to be kept.
    pub kept: u64,
}

/// Records one run and opens what a disk may hold at chosen moments of it.
///
/// # Errors
/// What did not hold; the data is left where it says.
pub fn cut(plan: &Plan) -> anyhow::Result<Tally> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let changes = run(plan, dir.path(), &data)?;
    let mut tally = Tally {
        changes: changes.len(),
        ..Tally::default()
    };
    let mut rng = Rng::exact(plan.seed);
    let mut moments: Vec<usize> = (0..plan.moments)
        .map(|_| rng.below(changes.len()))
        .collect();
    moments.sort_unstable();
    let (mut disk, mut applied) = (Disk::default(), 0);
    for moment in moments {
        let next = record::after(&changes, moment);
        // Nothing where the moment is that of before.
        for change in &changes[applied..next] {
            disk.apply(change);
        }
        applied = next;
        let keeps = *rng.pick(&Keeps::ALL);
        let dir = tempfile::tempdir()?;
        let looked = look(plan, &disk, keeps, &mut rng, &data, dir.path(), &mut tally);
        let looked = looked.with_context(|| {
            format!(
                "{:?}, seed {}: change {moment}, the disk keeps {keeps:?}",
                plan.kind, plan.seed
            )
        });
        if let Err(error) = looked {
            return Err(keep(dir, &error));
        }
    }
    Ok(tally)
}

fn look(
    plan: &Plan,
    disk: &Disk,
    keeps: Keeps,
    rng: &mut Rng,
    data: &Path,
    dir: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let copy = dir.join("data");
    disk.write_after(keeps, rng, data, &copy)?;
    let promises = Promises::parse(&disk.told);
    check::site(&Site::dir(plan.kind, &copy), &promises)?;
    tally.moments += 1;
    tally.kept += promises.count();
    Ok(())
}

/// Runs the scenario and returns its changes, which must explain the files that it left.
fn run(plan: &Plan, dir: &Path, data: &Path) -> anyhow::Result<Vec<Change>> {
    let (journal, record) = (dir.join("journal"), dir.join("record"));
    let site = Site::dir(plan.kind, data);
    let mut command = child::command(&plan.program, "scenario", &site, &journal);
    plan.preload
        .count(&mut command, &site, &dir.join("counts"))?;
    command
        .env("EIDETICA_FAULT_RECORD", &record)
        .env("EIDETICA_FAULT_TOLD", &journal);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let changes = record::read(&record)?;
    let mut disk = Disk::default();
    changes.iter().for_each(|change| disk.apply(change));
    // The index of SQLite's log is shared memory, made again by whoever opens the file.
    let shared_memory = |path: &Path| path.to_string_lossy().ends_with("-shm");
    disk.is_as_in(data, shared_memory)
        .context("the record is not complete")?;
    ensure!(
        disk.told == std::fs::read_to_string(&journal)?,
        "promises are missing"
    );
    Ok(changes)
}
