//! The whole test matrix: feature combinations, documentation code, engines and transports, every test of the workspace.
//!
//! Which engine and transport a test runs on is told to it by `EIDETICA_TEST_ENGINE` and `EIDETICA_TEST_TRANSPORT`.
//! The first selected pair runs all tests of the workspace; a further engine or transport only the packages that read its
//! variable, without what they do in memory anyway.

use std::process::Command;

use anyhow::ensure;
use clap::ValueEnum;

use crate::workspace::{Metadata, cargo, has_subcommand, run as run_command, text_files};

const ENGINE: &str = "EIDETICA_TEST_ENGINE";
const TRANSPORT: &str = "EIDETICA_TEST_TRANSPORT";

const POSTGRES: &str = "postgres";

/// The package whose tests are about PostgreSQL alone.
const POSTGRES_TESTS: &str = "eidetica-storage-postgres";

/// Runs a command with a server of its own, or says whether one can be had.
const WITH_POSTGRES: [&str; 6] = [
    "run",
    "--quiet",
    "--package",
    "eidetica-testkit",
    "--bin",
    "with-postgres",
];

/// Parts of the names of tests that look at no selection: they are in memory, or on every engine there is.
const UNSELECTED: [&str; 3] = ["in_memory::", "faults::", "every_engine"];

/// The package whose feature combinations are checked.
const FACADE: &str = "eidetica";

/// What to test.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Storage engine to test on
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// Transport to test over
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    /// Only tests whose name contains this; skips documentation code and feature combinations
    filter: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Engine {
    Memory,
    Fjall,
    Redb,
    Sqlite,
    Postgres,
    #[default]
    All,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Transport {
    Memory,
    Http,
    Iroh,
    #[default]
    All,
}

type Pair = (&'static str, &'static str);

const NOT_RUN: &str = "==> PostgreSQL is not installed (initdb) and DATABASE_URL is not set: \
     the tests on PostgreSQL did NOT run";

/// The task. The run over the whole workspace comes last, so that its summary is the last thing printed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let metadata = Metadata::declared()?;
    if args.filter.is_none() {
        for features in feature_sets(&metadata) {
            let mut check = cargo([
                "check",
                "--quiet",
                "--package",
                FACADE,
                "--lib",
                "--no-default-features",
            ]);
            run_command(check.args(["--features", &features]))?;
        }
        run_command(&mut cargo(["test", "--workspace", "--doc"]))?;
    }
    let postgres = cargo(WITH_POSTGRES).status()?.success();
    let mut pairs = pairs(args.engine, args.transport);
    if !postgres {
        ensure!(
            args.engine != Engine::Postgres,
            "there is no PostgreSQL to test on"
        );
        pairs.retain(|(engine, _)| *engine != POSTGRES);
        eprintln!("{NOT_RUN}");
    }
    let (first, others) = pairs.split_first().unwrap_or((&("memory", "memory"), &[]));
    for pair in others {
        let variable = if pair.1 == first.1 { ENGINE } else { TRANSPORT };
        let selectable = selectable(&metadata, variable)?;
        ensure!(
            !selectable.is_empty(),
            "no package reads {variable}: the selection would test nothing"
        );
        let mut command = runner(*pair, args.filter.as_deref(), postgres);
        command.args(only(&selectable, has_subcommand("nextest")));
        command.arg("--");
        run_command(command.args(UNSELECTED.iter().flat_map(|name| ["--skip", name])))?;
    }
    let mut command = runner(*first, args.filter.as_deref(), postgres);
    command.arg("--workspace");
    if !postgres {
        command.args(["--exclude", POSTGRES_TESTS]);
    }
    let all = run_command(&mut command);
    if !postgres {
        eprintln!("{NOT_RUN}");
    }
    all
}

/// No feature, each feature alone, all of them: as `--features` takes them.
fn feature_sets(metadata: &Metadata) -> Vec<String> {
    let names: Vec<&String> = metadata
        .members()
        .filter(|package| package.name == FACADE)
        .flat_map(|package| package.features.keys())
        .filter(|name| *name != "default")
        .collect();
    let mut sets = vec![String::new()];
    sets.extend(names.iter().map(|name| (*name).clone()));
    sets.push(
        names
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(","),
    );
    sets
}

/// One pair per selected engine, then one per further transport: an engine and a transport do not meet below the facade,
/// so their product would repeat work.
fn pairs(engine: Engine, transport: Transport) -> Vec<Pair> {
    let engines: &[&'static str] = match engine {
        Engine::Memory => &["memory"],
        Engine::Fjall => &["fjall"],
        Engine::Redb => &["redb"],
        Engine::Sqlite => &["sqlite"],
        Engine::Postgres => &[POSTGRES],
        Engine::All => &["memory", "fjall", "redb", "sqlite", POSTGRES],
    };
    let transports: &[&'static str] = match transport {
        Transport::Memory => &["memory"],
        Transport::Http => &["http"],
        Transport::Iroh => &["iroh"],
        Transport::All => &["memory", "http", "iroh"],
    };
    let first_transport = transports.iter().take(1);
    let mut pairs: Vec<Pair> = first_transport
        .flat_map(|t| engines.iter().map(move |e| (*e, *t)))
        .collect();
    pairs.extend(
        transports
            .iter()
            .skip(1)
            .flat_map(|t| engines.iter().take(1).map(move |e| (*e, *t))),
    );
    pairs
}

/// Packages with a test that reads a selection variable, or has the testkit read it.
fn selectable(metadata: &Metadata, variable: &str) -> anyhow::Result<Vec<String>> {
    let reader = match variable {
        ENGINE => "selected_engine",
        _ => "selected_transport",
    };
    let mut names = Vec::new();
    for package in metadata
        .members()
        .filter(|package| package.name != "xtask" && package.name != "eidetica-testkit")
    {
        let tests = package.dir().join("tests");
        let reads = |text: &str| text.contains(variable) || text.contains(reader);
        if tests.is_dir() && text_files(&tests)?.iter().any(|(_, text)| reads(text)) {
            names.push(package.name.clone());
        }
    }
    Ok(names)
}

/// Selects the tests of some packages. With a choice of tests rather than of packages, what is built is what the run
/// over the workspace builds: of packages alone, dependencies would be built again with fewer features.
fn only(packages: &[String], by_test: bool) -> Vec<String> {
    if by_test {
        let sets: Vec<String> = packages
            .iter()
            .map(|package| format!("package(={package})"))
            .collect();
        return vec!["--workspace".to_owned(), "-E".to_owned(), sets.join(" + ")];
    }
    let select = |package: &String| ["--package".to_owned(), package.clone()];
    packages.iter().flat_map(select).collect()
}

/// cargo-nextest where it is installed, else plain `cargo test`; beside a PostgreSQL server where one can be had.
fn runner((engine, transport): Pair, filter: Option<&str>, postgres: bool) -> Command {
    let tests: &[&str] = if has_subcommand("nextest") {
        &["nextest", "run", "--no-fail-fast", "--no-tests=pass"]
    } else {
        &["test", "--no-fail-fast", "--lib", "--bins", "--tests"]
    };
    let mut command = cargo([]);
    if postgres {
        command.args(WITH_POSTGRES).args(["--", "cargo"]);
    }
    command
        .args(tests)
        .env(ENGINE, engine)
        .env(TRANSPORT, transport)
        .args(filter);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    #[test]
    fn every_engine_and_every_transport_is_run() {
        let all = pairs(Engine::All, Transport::All);
        assert_eq!(
            all,
            [
                ("memory", "memory"),
                ("fjall", "memory"),
                ("redb", "memory"),
                ("sqlite", "memory"),
                ("postgres", "memory"),
                ("memory", "http"),
                ("memory", "iroh")
            ]
        );
        assert_eq!(pairs(Engine::Redb, Transport::Http), [("redb", "http")]);
        assert_eq!(
            pairs(Engine::Fjall, Transport::All),
            [("fjall", "memory"), ("fjall", "http"), ("fjall", "iroh")]
        );
    }

    #[test]
    fn features_are_taken_none_alone_and_together() {
        let features = ["default", "fjall", "http"]
            .map(|name| (name.to_owned(), Vec::new()))
            .into();
        let facade = Package {
            id: "x".to_owned(),
            name: FACADE.to_owned(),
            features,
            ..Package::default()
        };
        let metadata = Metadata {
            packages: vec![facade],
            workspace_members: vec!["x".to_owned()],
            resolve: None,
        };
        assert_eq!(feature_sets(&metadata), ["", "fjall", "http", "fjall,http"]);
    }
}
