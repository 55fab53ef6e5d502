//! `client --help` says what it does.

use std::process::ExitCode;

use clap::Parser as _;
use eidetica_sync_example::{client, options::ClientOptions, output};

#[tokio::main]
async fn main() -> ExitCode {
    let options = ClientOptions::parse();
    let bar = output::progress_bar();
    output::start_log(&bar);
    match client::run(options, bar).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
