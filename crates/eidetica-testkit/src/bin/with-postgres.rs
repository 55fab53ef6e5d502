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
    let status = Command::new(program)
        .args(words)
        .env(DATABASE_URL, server.url())
        .status()
        .unwrap_or_else(|error| panic!("cannot run the command: {error}"));
    match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
