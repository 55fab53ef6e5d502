//! `eidetica db ..`

mod care;
mod change;
mod hold;
mod show;
mod target;

use eidetica::crdt::Doc;
use eidetica::{Database, User};
use serde::Serialize;

use crate::context::{Context, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::{count, fields, table};

/// What to do with databases.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a database
    Create {
        /// Its name
        name: String,
        /// Let everybody read it without asking
        #[arg(long)]
        public: bool,
    },
    /// List the databases that are here
    List,
    /// Describe a database: its stores, who may do what, its state
    Info {
        /// Its name or id
        db: String,
    },
    /// List who may do what now
    Keys(show::Keys),
    /// List who was allowed what, since which entry, by whom, until which entry
    Audit(show::Audit),
    /// List entries that do not count, because a right was taken away
    Void(show::Void),
    /// Give a right to a user or key
    Grant(change::Grant),
    /// Take rights from a key, after showing what becomes void by that
    Revoke(change::Revoke),
    /// Let void entries count again
    Adopt(change::Adopt),
    /// Set what everybody may do
    Wildcard(change::Wildcard),
    /// Hand your key's right to another key of yours
    Rotate(change::Rotate),
    /// Give up your key's right
    Renounce(change::Renounce),
    /// Take a database away from this instance; peers that have it keep it
    Forget(care::Forget),
    /// Show or limit how much a database may hold here
    Quota(care::SetQuota),
    /// Show or choose which stores of a database are held on this device
    Hold(hold::Args),
}

#[derive(Serialize)]
struct DatabaseRow {
    id: String,
    name: String,
    entries: Option<u64>,
    right: String,
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Create { name, public } => create(&name, public, context),
        Command::List => list(context),
        Command::Info { db } => info(&db, context),
        Command::Keys(args) => show::keys(&args, context),
        Command::Audit(args) => show::audit(&args, context),
        Command::Void(args) => show::void(&args, context),
        Command::Grant(args) => change::grant(&args, context),
        Command::Revoke(args) => change::revoke(&args, context),
        Command::Adopt(args) => change::adopt(&args, context),
        Command::Wildcard(args) => change::wildcard(&args, context),
        Command::Rotate(args) => change::rotate(&args, context),
        Command::Renounce(args) => change::renounce(&args, context),
        Command::Forget(args) => care::forget(&args, context),
        Command::Quota(args) => care::quota(&args, context),
        Command::Hold(args) => hold::run(&args, context),
    }
}

fn create(name: &str, public: bool, context: &Context) -> Result<()> {
    let user = context.login()?;
    let database = create_database(&user, name, public)?;
    let id = database.root_id().to_string();
    let value = serde_json::json!({"id": id, "name": name});
    context.output.result(&value, || id.clone())
}

/// Makes a database that is owned by a user.
pub(crate) fn create_database(user: &User, name: &str, public: bool) -> Result<Database> {
    let mut settings = Doc::new();
    settings.set_string("name", name);
    if public {
        let mut auth = Doc::new();
        let everybody =
            serde_json::json!({"pubkey": "*", "permissions": "Read", "status": "Active"});
        auth.set_json("*", everybody)
            .map_err(|error| Error::new(Code::Failed, error.to_string()))?;
        settings.set_doc("auth", auth);
    }
    Ok(user.create_database(settings, user.get_default_key()?)?)
}

fn list(context: &Context) -> Result<()> {
    let user = context.login()?;
    let mut rows = Vec::new();
    for id in user.instance().list_databases()? {
        rows.push(match user.open_database(id) {
            Ok(database) => DatabaseRow {
                id: id.to_string(),
                name: name_of(&database)?,
                entries: Some(database.entry_count()?),
                right: right(&database)?,
            },
            Err(eidetica::Error::NoAccess(_)) => DatabaseRow {
                id: id.to_string(),
                name: String::new(),
                entries: None,
                right: "none".to_owned(),
            },
            Err(error) => return Err(error.into()),
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    context
        .output
        .list(&rows, &["name", "id", "entries", "right"], |row| {
            vec![
                row.name.clone(),
                row.id.clone(),
                row.entries.map(count).unwrap_or_default(),
                row.right.clone(),
            ]
        })
}

/// What the acting user's key may do.
fn right(database: &Database) -> Result<String> {
    let right = database.right_of(&database.default_auth_key().public_key())?;
    Ok(right.map_or_else(|| "none".to_owned(), |right| right.to_string()))
}

fn info(db: &str, context: &Context) -> Result<()> {
    let (_user, database) = context.database(db)?;
    let settings = database.settings()?;
    let keys: Vec<(String, String, String)> = settings
        .keys()
        .into_iter()
        .map(|(key, right, name)| (key.to_string(), right.to_string(), name.to_string()))
        .collect();
    let stores: Vec<(String, String)> = database
        .stores()?
        .into_iter()
        .map(|(name, kind)| (name.to_string(), format!("{kind:?}").to_lowercase()))
        .collect();
    let tips: Vec<String> = database
        .tips()?
        .iter()
        .map(|tip| tip.id.to_string())
        .collect();
    let state = hold::state(&database)?;
    let holds = database.holds()?;
    let missing = database.missing()?;
    let everybody = settings.wildcard().map(|permission| permission.to_string());
    let void = database.void_count()?;
    let quota = database.quota()?;
    let (name, id, entries) = (
        name_of(&database)?,
        database.root_id().to_string(),
        database.entry_count()?,
    );
    let value = serde_json::json!({
        "id": id, "name": name, "entries": entries, "tips": tips, "state": state, "void": void, "quota": quota.map(|quota| quota.limit), "bytes": quota.map(|quota| quota.bytes), "everybody": everybody,
        "stores": stores.iter().map(|(name, kind)| serde_json::json!({"name": name, "kind": kind})).collect::<Vec<_>>(),
        "holds": holds.some().map(|stores| stores.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "missing": missing.iter().map(hold::to_json).collect::<Vec<_>>(),
        "keys": keys.iter().map(|(key, right, name)| serde_json::json!({"key": key, "right": right, "name": name})).collect::<Vec<_>>(),
    });
    context.output.result(&value, || {
        let head = fields(&[
            ("name", name.clone()),
            ("id", id.clone()),
            ("entries", count(entries)),
            ("void", count(void)),
            ("quota", care::shown(quota)),
            ("tips", tips.join(", ")),
            (
                "state",
                state.clone().unwrap_or_else(|| "not whole here".to_owned()),
            ),
            ("holds", hold::shown(&holds)),
            (
                "everybody",
                everybody.clone().unwrap_or_else(|| "nothing".to_owned()),
            ),
        ]);
        let stores = table(
            &["store", "kind"],
            stores
                .iter()
                .map(|(name, kind)| vec![name.clone(), kind.clone()]),
        );
        let keys = keys
            .iter()
            .map(|(key, right, name)| vec![key.clone(), right.clone(), name.clone()]);
        // Keys are longer than a cell, and shown whole.
        let keys = keys
            .map(|row| row.join("  "))
            .map(|line| escape(&line).into_owned())
            .collect::<Vec<_>>()
            .join("\n");
        let missing = match missing.is_empty() {
            true => String::new(),
            false => format!("\n\n{}", hold::missing_table(&missing)),
        };
        format!("{head}\n\n{stores}{missing}\n\nKEYS\n{keys}")
    })
}
