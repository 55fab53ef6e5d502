//! Kill -9, again and again: a worker is killed wherever it is, the next one checks what it left and goes on.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use eidetica_testkit::{EngineKind, PostgresServer, Rng};
use tempfile::TempDir;

use crate::promise::Promises;
use crate::site::Site;
use crate::{check, child};

/// After so many cycles a new database is begun, since every check reads all of it.
const CYCLES_OF_A_SITE: u64 = 25;
/// Most acknowledgements that a worker lives for.
const ACKNOWLEDGEMENTS: usize = 24;
/// The longest that it lives for them,
const PATIENCE: Duration = Duration::from_millis(500);
/// and how much longer at most, so that it is killed anywhere between two.
const LIFE: Duration = Duration::from_millis(4);
/// The longest that one lives that is killed while it opens the data or checks it.
const EARLY: Duration = Duration::from_millis(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This crate's program.
    pub program: PathBuf,
    /// On which engine.
    pub kind: EngineKind,
    /// How many children to kill.
    pub cycles: u64,
    /// What chance draws from. Where a process is when it is killed is not repeated.
    pub seed: u64,
    /// Whether a PostgreSQL server of our own syncs.
    pub sync: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Children that were killed.
    pub cycles: u64,
    /// Those that had not begun to work.
    pub early: u64,
    /// Crashes of the server under a child instead.
    pub server_crashes: u64,
    /// Acknowledgements that were found to be kept.
    pub kept: u64,
    /// Entries of the databases that were left at the end.
    pub entries: u64,
}

/// Kills children and checks what they leave.
///
/// # Errors
/// What did not hold; the data is left where it says.
pub fn kill(plan: &Plan) -> anyhow::Result<Tally> {
    let server = match plan.kind {
        EngineKind::Postgres => Some(PostgresServer::start(plan.sync).map_err(anyhow::Error::msg)?),
        _ => None,
    };
    let (mut rng, mut tally) = (Rng::exact(plan.seed), Tally::default());
    while tally.cycles < plan.cycles {
        let dir = tempfile::tempdir()?;
        let site = match &server {
            Some(server) => Site::Server(server.fresh_schema()),
            None => Site::dir(plan.kind, &dir.path().join("data")),
        };
        let mut round = Round {
            plan,
            site,
            journal: dir.path().join("journal"),
            server: server.as_ref(),
        };
        let ended = round.run(&mut rng, &mut tally);
        if let Err(error) = ended {
            return Err(keep(dir, &error));
        }
    }
    Ok(tally)
}

/// What is wrong, with the place where it can be looked at.
pub(crate) fn keep(dir: TempDir, error: &anyhow::Error) -> anyhow::Error {
    let dir = dir.keep();
    anyhow::anyhow!("{error:#}\nthe data is left in {}", dir.display())
}

/// The life of one database.
struct Round<'a> {
    plan: &'a Plan,
    site: Site,
    journal: PathBuf,
    server: Option<&'a PostgresServer>,
}

impl Round<'_> {
    fn run(&mut self, rng: &mut Rng, tally: &mut Tally) -> anyhow::Result<()> {
        for _ in 0..CYCLES_OF_A_SITE {
            if tally.cycles == self.plan.cycles {
                break;
            }
            tally.cycles += 1;
            self.cycle(rng, tally)
                .with_context(|| format!("cycle {}", tally.cycles))?;
        }
        let promises = Promises::read(&self.journal)?;
        let found = check::site(&self.site, &promises)?;
        tally.kept += promises.count();
        tally.entries += found.entries;
        Ok(())
    }

    fn cycle(&self, rng: &mut Rng, tally: &mut Tally) -> anyhow::Result<()> {
        let mut worker = self.start(rng)?;
        let mut out = BufReader::new(worker.stdout.take().context("no standard output")?);
        if rng.one_in(6) {
            tally.early += 1;
            thread::sleep(EARLY.mul_f64(rng.below(1_000) as f64 / 1e3));
        } else {
            let mut line = String::new();
            out.read_line(&mut line)?;
            ensure!(
                line.trim() == child::READY,
                "{line}{}",
                rest(&mut worker, &mut out)?
            );
            self.wait_for(rng.below(ACKNOWLEDGEMENTS))?;
            thread::sleep(LIFE.mul_f64(rng.below(1_000) as f64 / 1e3));
        }
        match self.server.filter(|_| rng.one_in(5)) {
            Some(server) => {
                tally.server_crashes += 1;
                server.crash_and_restart().map_err(anyhow::Error::msg)?;
            }
            None => {
                if let Some(status) = worker.try_wait()? {
                    bail!(
                        "a worker ended by itself ({status}): {}",
                        rest(&mut worker, &mut out)?
                    );
                }
            }
        }
        worker.kill()?;
        let status = worker.wait()?;
        ensure!(
            !is_panic(status),
            "a worker panicked: {}",
            rest(&mut worker, &mut out)?
        );
        Ok(())
    }

    /// Waits for so many lines more in the journal.
    fn wait_for(&self, lines: usize) -> anyhow::Result<()> {
        let count = || match std::fs::read(&self.journal) {
            Ok(journal) => Ok(journal.iter().filter(|byte| **byte == b'\n').count()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        let (end, begun) = (count()? + lines, Instant::now());
        while count()? < end && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn start(&self, rng: &mut Rng) -> anyhow::Result<Child> {
        let mut command = child::command(&self.plan.program, "work", &self.site, &self.journal);
        let (writers, seed) = (1 + rng.below(3), rng.below(256));
        command.args([
            "--writers",
            &writers.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        if rng.one_in(4) {
            command.arg("--relaxed");
        }
        Ok(command.stdout(Stdio::piped()).spawn()?)
    }
}

/// What a child that fails still says.
fn rest(child: &mut Child, out: &mut impl std::io::Read) -> anyhow::Result<String> {
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    Ok(format!("{text}({})", child.wait()?))
}

/// Whether a child ended by a panic.
pub(crate) fn is_panic(status: ExitStatus) -> bool {
    status.code() == Some(101)
}

/// A second process is kept out by a typed error while the first one lives, and let in when that is killed.
///
/// # Errors
/// What did not hold.
pub fn one_at_a_time(program: &Path, kind: EngineKind) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let site = Site::dir(kind, &dir.path().join("data"));
    let mut holder = child::command(program, "hold", &site, &dir.path().join("journal"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(holder.stdout.take().context("no standard output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line.trim() == child::READY, "{line}");
    let second = site.open().map(drop);
    let locked = matches!(&second, Err(eidetica_storage::EngineError::Locked { .. }));
    holder.kill()?;
    holder.wait()?;
    ensure!(locked, "beside another process: {second:?}");
    site.open().context("after the other process was killed")?;
    Ok(())
}
