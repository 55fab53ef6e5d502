//! The command line's definition: global options and the list of commands. Each command defines its own arguments.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    backup, compact, completions, db, demo, export, get, import, init, join, log, migrate, query,
    repair, requests, restore, serve, set, share, status, sync, user, verify,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  not found: a database, user, row, file or data directory
  4  denied: a wrong password, a missing right, a rejected request
  5  bad input: a file or value that does not parse
  6  unavailable: no such peer, a port in use, the data directory open elsewhere; try again later
  7  corrupt: stored data is damaged or foreign
  8  pending: access was requested and waits for approval";

/// A decentralized, local-first database
#[derive(Parser)]
#[command(name = "eidetica", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the data is [default: .eidetica]
    #[arg(long, global = true, env = "EIDETICA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the data is instead: sqlite:PATH, redb:PATH, fjall:PATH or postgres://USER@HOST/DATABASE
    #[arg(
        id = "location",
        long = "store",
        global = true,
        env = "EIDETICA_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) store: Option<String>,
    /// The name of this process, where several share a store: it has a device key of that name
    #[arg(long, global = true, env = "EIDETICA_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Who is acting; not needed where there is one user only. A password is taken from EIDETICA_PASSWORD or asked for
    #[arg(long, global = true, env = "EIDETICA_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Print JSON, one value per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print the library's log to standard error; twice for more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a data directory and its first user
    Init(init::Args),
    /// Manage users and their keys
    #[command(subcommand)]
    User(user::Command),
    /// Create, list and describe databases
    #[command(subcommand)]
    Db(db::Command),
    /// Import a CSV or JSON lines file into a table, all of it or nothing
    Import(import::Args),
    /// Print a row, a field or a value
    Get(get::Args),
    /// Change fields of a row or values of a document
    Set(set::Args),
    /// Print the rows of a table that match
    Query(query::Args),
    /// Write a table as CSV or JSON lines
    Export(export::Args),
    /// Print a database's history, newest entry first
    Log(log::Args),
    /// Check everything that is stored against hashes, signatures and rights
    Verify(verify::Args),
    /// Compute again what follows from entries, and put damaged entries back from elsewhere
    Repair(repair::Args),
    /// Take away what nobody can ask for, and give the space back
    Compact(compact::Args),
    /// Write everything into one file, also while `eidetica serve` runs
    Backup(backup::Args),
    /// Restore a backup into an empty place, or check one
    Restore(restore::Args),
    /// Copy everything to another place, of the same or another engine
    Migrate(migrate::Args),
    /// Answer peers until interrupted
    Serve(serve::Args),
    /// Print a ticket to a database, and answer whoever takes it until interrupted
    Share(share::Args),
    /// Fetch the database that a ticket leads to
    Join(join::Args),
    /// Exchange a database with a peer, asking for access first where it is needed
    Sync(sync::Args),
    /// List and decide on requests for access
    #[command(subcommand)]
    Requests(requests::Command),
    /// Say what is in the data directory
    Status(status::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Show two nodes sharing a database, from first access to concurrent edits
    Demo(demo::Args),
}
