//! Runs a command with `DATABASE_URL` naming a PostgreSQL server that goes away afterwards: `with-postgres cargo nextest run`.
//!
//! Without a command it says whether a server can be had. A `DATABASE_URL` that is set already is left as it is.
#![allow(clippy::panic, reason = "a tool for tests")]

use std::process::{Command, ExitCode};

use eidetica_testkit::{DATABASE_URL, PostgresServer};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        return match PostgresServer::available() {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("no PostgreSQL: {reason}");
                ExitCode::FAILURE
            }
        };
    };
    let server = PostgresServer::shared();
    let mut command = Command::new(program);
    command.args(words).env(DATABASE_URL, server.url());
    // What cargo told this program about itself: a cargo started here would run some build scripts again because of it.
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run the command: {error}"));
    match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
