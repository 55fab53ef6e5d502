//! `server --help` says what it does.

use std::process::ExitCode;

use clap::Parser as _;
use eidetica_sync_example::{options::ServerOptions, output, server};

#[tokio::main]
async fn main() -> ExitCode {
    let options = ServerOptions::parse();
    let bar = output::progress_bar();
    output::start_log(&bar);
    match server::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
