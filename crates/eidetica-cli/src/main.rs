//! The `eidetica` command line: everything the library does, for people and for scripts.
//!
//! It stands on the facade crate alone. Results go to standard output, everything else to standard error; see `output`.

mod cli;
mod commands;
mod context;
mod control;
mod error;
mod iroh;
mod limits;
mod new_file;
mod output;
mod password;
mod permission;
mod place;
mod progress;
mod read;
mod values;

use std::process::ExitCode;

use clap::Parser;
use eidetica::text as escape;

use cli::Cli;
use context::Context;
use error::{Code, Error};

/// It keeps little of what is free: docs/decisions/0023-allocator.md.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    keep_files_private();
    // Engines may panic when they meet damaged files; that becomes an error that is shown, and this is for -v.
    std::panic::set_hook(Box::new(|info| tracing::error!("{info}")));
    let cli = Cli::parse();
    let json = cli.global.json;
    if cli.global.verbose > 0 {
        start_log(cli.global.verbose);
    }
    let context = Context::new(cli.global);
    let run = std::panic::AssertUnwindSafe(|| commands::run(cli.command, &context));
    let panicked = |_| {
        Err(Error::new(Code::Failed, "a bug: the program gave up")
            .hint("run it again with -v and report what it says"))
    };
    match std::panic::catch_unwind(run).unwrap_or_else(panicked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(json);
            ExitCode::from(error.code() as u8)
        }
    }
}

/// Whatever is created from here on is for its owner alone, whoever creates it.
fn keep_files_private() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Sends the library's log to standard error.
fn start_log(verbose: u8) {
    let level = match verbose {
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
}
