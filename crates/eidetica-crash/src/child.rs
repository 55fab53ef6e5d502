//! The commands of child processes.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use eidetica_database::{Database, Databases};
use eidetica_storage::{Durability, Engine};
use eidetica_testkit::Rng;

use crate::check::{self, Found};
use crate::promise::{Journal, Promises};
use crate::site::Site;
use crate::work::{self, CREATED, GRANT, IMPORT, LOCAL, PEER, bring, in_memory, owner, peer};

/// The child ended because something was refused by a typed error, as it should be.
pub const REFUSED: u8 = 3;

/// What a worker says when it has checked what is there and begins to work.
pub const READY: &str = "ready";

/// What a child does.
#[derive(Clone, Debug, Subcommand)]
pub enum Child {
    /// Checks the data, then works on it with several threads until it is killed
    Work(Work),
    /// Does a little of everything on an empty site, in one order, and ends
    Scenario {
        /// Where, and what it promises
        #[command(flatten)]
        place: Place,
        /// Much less
        #[arg(long)]
        small: bool,
    },
    /// Writes until the disk is full
    Fill(Place),
    /// Checks the data and goes on with one commit
    Check(Place),
    /// Holds the data open until its standard input ends
    Hold(Place),
}

/// Where a child works and what it promises.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The data
    #[arg(long)]
    pub site: Site,
    /// The file of promises
    #[arg(long)]
    pub journal: PathBuf,
}

/// How a worker works.
#[derive(Clone, Debug, clap::Args)]
pub struct Work {
    /// Where
    #[command(flatten)]
    place: Place,
    /// How many threads commit
    #[arg(long)]
    writers: usize,
    /// Whether commits are relaxed; only what was flushed is promised then
    #[arg(long)]
    relaxed: bool,
    /// What the random bytes of the instance come from
    #[arg(long)]
    seed: u8,
}

/// The command line of a child of `program`.
#[must_use]
pub fn command(program: &Path, what: &str, site: &Site, journal: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args([what, "--site", &site.to_string(), "--journal"])
        .arg(journal)
        .stdin(Stdio::null());
    command
}

/// Runs a child.
#[must_use]
pub fn run(child: &Child) -> ExitCode {
    let done = match child {
        Child::Work(work) => work_on(work),
        Child::Scenario { place, small } => scenario(place, *small),
        Child::Fill(place) => fill(place),
        Child::Check(place) => {
            return match Promises::read(&place.journal)
                .map_err(Into::into)
                .and_then(|promises| check::site(&place.site, &promises))
            {
                Ok(_) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("{error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        Child::Hold(place) => hold(place),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Says a line at once, whoever reads.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn hold(place: &Place) -> anyhow::Result<()> {
    let engine = place.site.open()?;
    say(READY)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(engine.close()?)
}

/// A database that is worked on.
struct Job {
    databases: Databases,
    database: Database,
    journal: Journal,
    found: Found,
    relaxed: bool,
}

impl Job {
    /// Goes on with what was found, or makes the database.
    fn begin(
        databases: Databases,
        found: Found,
        journal: Journal,
        relaxed: bool,
    ) -> anyhow::Result<Self> {
        let database = match &found.id {
            Some(id) => databases.get(id)?.with_key(owner()),
            None => work::create(&databases)?,
        };
        let job = Self {
            databases,
            database,
            journal,
            found,
            relaxed,
        };
        job.promise(CREATED, 1)?;
        Ok(job)
    }

    fn next(&self, who: &str) -> u64 {
        self.found.last.get(who).copied().unwrap_or(0) + 1
    }

    /// Promises what has been acknowledged as durable.
    fn promise(&self, who: &str, number: u64) -> anyhow::Result<()> {
        if self.relaxed {
            self.databases.flush()?;
        }
        Ok(self.journal.promise(who, number)?)
    }

    /// Commits without end.
    fn write(&self, who: &'static str) -> anyhow::Result<()> {
        let (mut imports, mut grants) = (self.next(IMPORT), self.next(GRANT));
        for number in self.next(who).. {
            work::commit(&self.database, who, number)?;
            if !self.relaxed || number.is_multiple_of(7) {
                self.promise(who, number)?;
            }
            if who == "w0" && number.is_multiple_of(23) {
                work::import(&self.database, imports)?;
                self.promise(IMPORT, imports)?;
                imports += 1;
            }
            if who == "w0" && number.is_multiple_of(31) {
                work::grant(&self.database, grants)?;
                self.promise(GRANT, grants)?;
                grants += 1;
            }
        }
        Ok(())
    }

    /// Another author's commits, some at once, by way of packs in both directions; and the local database.
    fn exchange(&self, seed: u8) -> anyhow::Result<()> {
        let (other, id) = (in_memory(seed.wrapping_add(100)), self.database.id());
        let mut local = self.next(LOCAL);
        let mut number = self.next(PEER);
        loop {
            bring(&self.databases, &other, &id)?;
            let theirs = other.get(&id)?.with_key(peer());
            for _ in 0..=number % 4 {
                work::commit(&theirs, PEER, number)?;
                number += 1;
            }
            bring(&other, &self.databases, &id)?;
            self.promise(PEER, number - 1)?;
            work::local(&self.databases, local)?;
            self.promise(LOCAL, local)?;
            local += 1;
        }
    }
}

fn durability(relaxed: bool) -> Durability {
    match relaxed {
        true => Durability::Relaxed,
        false => Durability::Durable,
    }
}

fn work_on(work: &Work) -> anyhow::Result<()> {
    let Place { site, journal } = &work.place;
    let promises = Promises::read(journal)?;
    let engine = site.open().context("opening")?;
    let databases = work::databases(engine, durability(work.relaxed), work.seed)?;
    // Not a refusal but what this is all about.
    let found = check::databases_hold(&databases, &promises)
        .unwrap_or_else(|error| panic!("after a crash: {error:#}"));
    say(READY)?;
    let job = Job::begin(databases, found, Journal::append(journal)?, work.relaxed)?;
    std::thread::scope(|scope| {
        let writers = &check::WRITERS[..work.writers];
        let mut threads: Vec<_> = writers
            .iter()
            .map(|who| scope.spawn(|| job.write(who)))
            .collect();
        threads.push(scope.spawn(|| job.exchange(work.seed)));
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.collect()
    })
}

fn scenario(place: &Place, small: bool) -> anyhow::Result<()> {
    let engine = place.site.open()?;
    let commits = if small { 1 } else { 5 };
    durable_part(place, &engine, commits, small)?;
    engine.close()?;
    drop(engine);
    if small {
        return Ok(());
    }
    let engine = place.site.open()?;
    relaxed_part(place, &engine)?;
    Ok(engine.close()?)
}

fn durable_part(
    place: &Place,
    engine: &Arc<dyn Engine>,
    commits: u64,
    small: bool,
) -> anyhow::Result<()> {
    let databases = work::databases(Arc::clone(engine), Durability::Durable, 1)?;
    let journal = Journal::append(&place.journal)?;
    let job = Job::begin(databases, Found::default(), journal, false)?;
    let end = job.steps(commits, small);
    if end.is_err() {
        // What failed once does not go on as if nothing had happened.
        let again = work::commit(&job.database, "w2", 1);
        println!("and then: {again:?}");
    }
    end
}

impl Job {
    fn steps(&self, commits: u64, small: bool) -> anyhow::Result<()> {
        for number in 1..=commits {
            work::commit(&self.database, "w0", number)?;
            self.promise("w0", number)?;
        }
        if small {
            return Ok(());
        }
        work::local(&self.databases, 1)?;
        self.promise(LOCAL, 1)?;
        work::grant(&self.database, 1)?;
        self.promise(GRANT, 1)?;
        let (other, id) = (in_memory(50), self.database.id());
        bring(&self.databases, &other, &id)?;
        let theirs = other.get(&id)?.with_key(peer());
        for number in 1..=3 {
            work::commit(&theirs, PEER, number)?;
        }
        bring(&other, &self.databases, &id)?;
        self.promise(PEER, 3)?;
        work::import(&self.database, 1)?;
        self.promise(IMPORT, 1)?;
        // A long value, so that logs grow.
        for number in commits + 1..=32 {
            work::commit(&self.database, "w0", number)?;
            self.promise("w0", number)?;
        }
        Ok(())
    }
}

fn relaxed_part(place: &Place, engine: &Arc<dyn Engine>) -> anyhow::Result<()> {
    let databases = work::databases(Arc::clone(engine), Durability::Relaxed, 2)?;
    let found = check::databases_hold(&databases, &Promises::read(&place.journal)?)?;
    let job = Job::begin(databases, found, Journal::append(&place.journal)?, true)?;
    for number in 1..=9 {
        work::commit(&job.database, "w1", number)?;
        if number % 3 == 0 {
            job.promise("w1", number)?;
        }
    }
    for number in 10..=12 {
        work::commit(&job.database, "w1", number)?;
    }
    Ok(())
}

/// Incompressible bytes of one commit that only fills the disk.
const FILLER: usize = 100_000;

fn fill(place: &Place) -> anyhow::Result<()> {
    let engine = place.site.open()?;
    let databases = work::databases(engine, Durability::Durable, 1)?;
    let found = check::databases_hold(&databases, &Promises::read(&place.journal)?)?;
    let job = Job::begin(databases, found, Journal::append(&place.journal)?, false)?;
    let mut rng = Rng::exact(1);
    let end = (|| -> anyhow::Result<()> {
        for number in job.next("w0").. {
            work::commit(&job.database, "w0", number)?;
            job.promise("w0", number)?;
            let transaction = job.database.new_transaction();
            let filler: String = rng
                .bytes(FILLER)
                .iter()
                .map(|byte| char::from(byte % 64 + 48))
                .collect();
            transaction
                .doc("filler")?
                .set(&format!("at{}", number % 50), filler)?;
            transaction.commit()?;
        }
        Ok(())
    })();
    let again = work::commit(&job.database, "w2", 1);
    assert!(again.is_err(), "it goes on after {end:?}");
    end
}
