//! The commands, one per file: arguments, what is done, what is shown.

pub(crate) mod backup;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod db;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod migrate;
pub(crate) mod query;
pub(crate) mod repair;
pub(crate) mod requests;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod share;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod user;
pub(crate) mod verify;

use crate::cli::Command;
use crate::context::Context;
use crate::error::Result;

/// Runs a command.
pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::User(command) => user::run(command, context),
        Command::Db(command) => db::run(command, context),
        Command::Import(args) => import::run(args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Set(args) => set::run(&args, context),
        Command::Query(args) => query::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Log(args) => log::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Repair(args) => repair::run(&args, context),
        Command::Compact(args) => compact::run(&args, context),
        Command::Backup(args) => backup::run(&args, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Migrate(args) => migrate::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Share(args) => share::run(&args, context),
        Command::Join(args) => join::run(&args, context),
        Command::Sync(args) => sync::run(&args, context),
        Command::Requests(command) => requests::run(command, context),
        Command::Status(args) => status::run(&args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Demo(args) => demo::run(args, context),
    }
}
