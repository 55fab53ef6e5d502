//! The library that makes faults below the engines: `preload/faults.c`, compiled where it is used.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::site::Site;

const SOURCE: &str = include_str!("../preload/faults.c");

/// A kind of operation that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One write: the disk is full at this moment.
    Write,
    /// All writes from one on: the disk is full.
    WritesFrom,
    /// One sync.
    Sync,
    /// One allocation.
    Alloc,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Write, Self::WritesFrom, Self::Sync, Self::Alloc];

    /// The fault at operation `number`, as the library reads it.
    #[must_use]
    pub fn at(self, number: u64) -> String {
        match self {
            Self::Write => format!("write:{number}"),
            Self::WritesFrom => format!("write:{number}+"),
            Self::Sync => format!("sync:{number}"),
            Self::Alloc => format!("alloc:{number}"),
        }
    }
}

/// How many operations there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Writes and changes of a file's length.
    pub writes: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// Allocations, counted from the first touch of the data.
    pub allocs: u64,
}

impl Counts {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, what: What) -> u64 {
        match what {
            What::Write | What::WritesFrom => self.writes,
            What::Sync => self.syncs,
            What::Alloc => self.allocs,
        }
    }
}

/// The compiled library.
#[derive(Clone, Debug)]
pub struct Preload(PathBuf);

impl Preload {
    /// Compiles the library into a directory.
    ///
    /// # Errors
    /// Why it cannot be used here: another system than Linux with glibc, no C compiler.
    pub fn build(dir: &Path) -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return Err("faults are made below glibc on Linux only".to_owned());
        }
        let (source, library) = (dir.join("faults.c"), dir.join("faults.so"));
        std::fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("no C compiler: {error}"))?;
        match compiled.status.success() {
            true => Ok(Self(library)),
            false => Err(String::from_utf8_lossy(&compiled.stderr).into_owned()),
        }
    }

    /// Puts the library below a child that works in `dir`, where nothing fails and operations are counted into a file.
    pub fn count(&self, command: &mut Command, site: &Site, counts: &Path) -> anyhow::Result<()> {
        let Site::Dir(_, dir) = site else {
            anyhow::bail!("a server has no files of ours");
        };
        command
            .env("LD_PRELOAD", &self.0)
            .env("EIDETICA_FAULT_DIR", dir)
            .env("EIDETICA_FAULT_COUNTS", counts);
        Ok(())
    }
}

/// The numbers that a child has left.
pub(crate) fn read_counts(path: &Path) -> anyhow::Result<Counts> {
    let text = std::fs::read_to_string(path)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || anyhow::Ok(numbers.next().context("a number is missing")??);
    Ok(Counts {
        writes: next()?,
        syncs: next()?,
        allocs: next()?,
    })
}
