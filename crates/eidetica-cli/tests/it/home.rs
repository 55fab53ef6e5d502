//! A data directory of one test, and the program run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Exit codes as documented.
pub(crate) const FAILED: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const NOT_FOUND: i32 = 3;
pub(crate) const DENIED: i32 = 4;
pub(crate) const BAD_INPUT: i32 = 5;
pub(crate) const UNAVAILABLE: i32 = 6;
pub(crate) const CORRUPT: i32 = 7;
pub(crate) const PENDING: i32 = 8;

/// A directory with a data directory in it, made by a user without a password.
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    /// Without a data directory.
    pub(crate) fn empty() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    /// With a data directory of the user `alice`.
    pub(crate) fn new() -> Self {
        let home = Self::empty();
        home.ok(&["init", "--user", "alice", "--no-password"]);
        home
    }

    /// With the database `db` too.
    pub(crate) fn with_db() -> Self {
        let home = Self::new();
        home.ok(&["db", "create", "db"]);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".eidetica")
    }

    /// Writes a file and returns its name.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path().join(name), content).unwrap();
        name.to_owned()
    }

    /// The program with arguments, in this directory, with nothing of the test's environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("eidetica"));
        command
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null());
        for name in [
            "EIDETICA_DIR",
            "EIDETICA_STORE",
            "EIDETICA_NODE",
            "EIDETICA_PASSPHRASE",
            "EIDETICA_USER",
            "EIDETICA_PASSWORD",
            "EIDETICA_NEW_PASSWORD",
            "EIDETICA_IROH",
            "EIDETICA_NO_LAN",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it, expects success, returns what it prints.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        succeeded(self.run(args), args)
    }

    /// Runs it with `--json`, expects success, returns the values it prints.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let text = self.ok(&[&["--json"], args].concat());
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs it, expects this exit code, returns what it says.
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        failed(self.run(args), args, code)
    }

    /// The number of rows of a table.
    pub(crate) fn rows(&self, table: &str) -> u64 {
        self.json(&["query", "db", table, "--count"])[0]["rows"]
            .as_u64()
            .unwrap()
    }
}

pub(crate) fn succeeded(output: Output, args: &[&str]) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn failed(output: Output, args: &[&str], code: i32) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}
