//! A to-do list, in one file: read it from top to bottom to learn the API.
//!
//! The list is a database with one table. Every change is a transaction, which becomes one signed entry. Two people keep
//! the list in a directory each; `share` gives a right, `sync` makes both lists the same, whoever changed what meanwhile.
//! Fields merge on their own: when one person ticks an item off while another one words it better, both happens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand, ValueEnum};
use eidetica::auth::Permission;
use eidetica::crdt::Doc;
use eidetica::text::escape;
use eidetica::user::types::{DatabasePreferences, SyncSettings};
use eidetica::{Database, Error, Id, Instance, User};
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

/// The table that the items are in.
const ITEMS: &str = "items";

/// Any error: the library's say what went wrong, as fragments.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A row of the table. Any type that serde writes as a map will do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    text: String,
    done: bool,
    /// Milliseconds since 1970: what the list is sorted by.
    added_ms: u64,
}

/// A to-do list that you share with whom you like
#[derive(Parser)]
#[command(name = "eidetica-todo")]
struct Args {
    /// Where your list is kept; its last part is your name
    #[arg(long, env = "TODO_DIR", value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put something on the list
    Add { text: String },
    /// Print the list
    List,
    /// Tick an item off
    Done { number: usize },
    /// Word an item better
    Edit { number: usize, text: String },
    /// Take an item away
    Remove { number: usize },
    /// Let the owner of another directory read the list, or change it
    Share { with: PathBuf, right: Right },
    /// Say who may do what
    People,
    /// Exchange the list with another directory, both ways
    Sync { with: PathBuf },
    /// Print who changed what, newest first
    Log,
}

/// What somebody may do.
#[derive(Clone, Copy, ValueEnum)]
enum Right {
    Read,
    Write,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", escape(&error.to_string()));
            if let Some(hint) = error.downcast_ref().and_then(hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let user = open(&args.dir)?;
    match &args.command {
        Command::Add { text } => add(&list_or_new(&user)?, text),
        Command::List => show(&list(&user)?),
        Command::Done { number } => change(&list(&user)?, *number, |item| item.done = true),
        Command::Edit { number, text } => {
            change(&list(&user)?, *number, |item| item.text.clone_from(text))
        }
        Command::Remove { number } => remove(&list(&user)?, *number),
        Command::Share { with, right } => share(&user, with, *right),
        Command::People => people(&list(&user)?),
        Command::Sync { with } => sync(&user, with),
        Command::Log => log(&list(&user)?),
    }
}

/// Opens a directory, or makes a new one. An *instance* is all that is in it; a *user* of it has keys to sign with.
fn open(dir: &Path) -> Result<User> {
    let instance = Instance::connect(&format!("file:{}", dir.display()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if instance.list_users()?.is_empty() {
        instance.create_user(&name, None)?;
    }
    Ok(instance.login_user(&name, None)?)
}

/// The list of the user: the database that it tracks.
fn list(user: &User) -> Result<Database> {
    let tracked = user.list_database_prefs()?;
    let list = tracked
        .first()
        .ok_or("there is no list yet: add something, or sync with somebody")?;
    Ok(user.open_database(list.database_id)?)
}

/// The list, which is made if there is none. Its maker is its administrator.
fn list_or_new(user: &User) -> Result<Database> {
    if !user.list_database_prefs()?.is_empty() {
        return list(user);
    }
    let mut settings = Doc::new();
    settings.set_string("name", "to do");
    let list = user.create_database(settings, user.get_default_key()?)?;
    track(user, list.root_id())?;
    Ok(list)
}

/// Remembers which database is the list.
fn track(user: &User, list: Id) -> Result<()> {
    Ok(user.add_database(DatabasePreferences {
        database_id: list,
        key_id: user.get_default_key()?,
        sync_settings: SyncSettings::default(),
    })?)
}

/// The items and their keys, in the order in which they were added.
fn items(list: &Database) -> Result<Vec<(String, Item)>> {
    let mut items = list.table::<Item>(ITEMS)?.get_all()?;
    items.sort_by_key(|(_, item)| item.added_ms);
    Ok(items)
}

/// The item with this number on the list, from 1.
fn item(list: &Database, number: usize) -> Result<(String, Item)> {
    let found = items(list)?.into_iter().nth(number.wrapping_sub(1));
    found.ok_or_else(|| format!("there is no item {number}").into())
}

fn add(list: &Database, text: &str) -> Result<()> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let item = Item {
        text: text.to_owned(),
        done: false,
        added_ms: u64::try_from(since_1970.as_millis())?,
    };
    list.transact(|transaction| Ok(transaction.table(ITEMS)?.add(&item)?))?;
    show(list)
}

/// Writes those fields of an item that `edit` changes, and no others.
fn change(list: &Database, number: usize, edit: impl FnOnce(&mut Item)) -> Result<()> {
    let (key, mut item) = item(list, number)?;
    edit(&mut item);
    list.transact(|transaction| Ok(transaction.table(ITEMS)?.set(&key, &item)?))?;
    show(list)
}

fn remove(list: &Database, number: usize) -> Result<()> {
    let (key, _) = item(list, number)?;
    list.transact(|transaction| Ok(transaction.table::<Item>(ITEMS)?.delete(&key)?))?;
    show(list)
}

/// Prints the list. What others wrote is escaped: it may hold anything.
fn show(list: &Database) -> Result<()> {
    for (number, (_, item)) in (1..).zip(items(list)?) {
        let mark = if item.done { 'x' } else { ' ' };
        println!("{number} [{mark}] {}", escape(&item.text));
    }
    Ok(())
}

/// Gives the owner of another directory a right. It goes to their key, which is all that is taken from there.
fn share(user: &User, with: &Path, right: Right) -> Result<()> {
    let list = list(user)?;
    let other = open(with)?;
    let (key, name) = (other.get_default_key()?.public_key(), other.name());
    let permission = match right {
        Right::Read => Permission::Read,
        Right::Write => Permission::Write(10),
    };
    list.change_settings(|settings| settings.grant(key, permission, name))?;
    people(&list)
}

fn people(list: &Database) -> Result<()> {
    for (key, right, name) in list.settings()?.keys() {
        println!(
            "{:10} {:16} {key}",
            right.to_string(),
            escape(name.as_str())
        );
    }
    Ok(())
}

/// Synchronizes with another directory: here both are in one program, elsewhere on two machines. One serves, the other
/// dials; entries go both ways, and each side verifies what it gets.
fn sync(user: &User, with: &Path) -> Result<()> {
    let other = open(with)?;
    let id = match (list(user), list(&other)) {
        (Ok(list), _) | (Err(_), Ok(list)) => list.root_id(),
        (Err(error), Err(_)) => return Err(error),
    };
    let (here, there) = (
        user.instance().enable_sync()?.sync()?,
        other.instance().enable_sync()?.sync()?,
    );
    there.enable_http_transport()?;
    there.start_server("127.0.0.1:0")?;
    here.enable_http_transport()?;
    let report = block_on(here.sync_with_peer(there.get_server_address()?, Some(&id)))?;
    println!(
        "received {} entries, sent {}",
        report.entries_received, report.entries_sent
    );
    track(user, id)?;
    track(&other, id)?;
    show(&list(user)?)
}

/// Prints the history: every entry has an author, whose signature was verified.
fn log(list: &Database) -> Result<()> {
    for entry in list.history(None, 100)?.entries {
        let author = list.find_member(entry.header().author.key)?.name;
        let stores: Vec<&str> = entry.payloads().map(|(store, _)| store.as_str()).collect();
        println!(
            "{} {:10} {}",
            entry.stamp().height.0,
            escape(author.as_str()),
            stores.join(" ")
        );
    }
    Ok(())
}

fn hint(error: &Error) -> Option<&'static str> {
    use eidetica::{Blame, DatabaseError};
    match error {
        Error::Database(DatabaseError::Refused(_) | DatabaseError::NotAllowed(_)) => Some(
            "`people` says who may do what; `share` by somebody who administers the list changes that",
        ),
        Error::NoAccess(_) | Error::Sync(_) => Some("`share` there gives you a right"),
        error if error.blame() == Blame::Unavailable => {
            Some("one program at a time has a directory open")
        }
        _ => None,
    }
}
