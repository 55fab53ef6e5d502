//! `eidetica user key ..`

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use eidetica::User;
use eidetica::user::SealedKey;
use eidetica::user::types::{AccessSource, KeyInfo, KeyRole};
use serde::Serialize;

use super::present_password;
use crate::context::{Context, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::time;
use crate::password;

/// What to do with a user's keys.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a signing key
    #[command(visible_alias = "add")]
    New {
        /// Its name
        name: Option<String>,
    },
    /// List the keys
    List {
        /// Say for each key what it may do in which database
        #[arg(long)]
        databases: bool,
    },
    /// Sign with this key where none is named
    Default {
        /// Its id or name
        key: String,
    },
    /// Write a key for another device, sealed by a passphrase; it is taken from EIDETICA_PASSPHRASE or asked for
    Export {
        /// Its id or name
        key: String,
        /// Write to this file, which must not be there yet; to standard output when left out
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read a key that was exported elsewhere
    Import {
        /// The file; standard input when left out
        file: Option<PathBuf>,
        /// What to call it here [default: as it was called there]
        #[arg(long)]
        name: Option<String>,
    },
    /// Forget a key on this machine; what it wrote and may do elsewhere stays
    Forget {
        /// Its id or name
        key: String,
    },
}

#[derive(Serialize)]
struct KeyRow {
    key: String,
    name: String,
    role: &'static str,
    default: bool,
    added_at_ms: u64,
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    let user = context.login()?;
    match command {
        Command::New { name } => {
            let key = user.add_private_key(name.as_deref())?;
            context
                .output
                .result(&serde_json::json!({"key": key.to_string()}), || {
                    key.to_string()
                })
        }
        Command::List { databases: false } => list(&user, context),
        Command::List { databases: true } => list_databases(&user, context),
        Command::Default { key } => {
            user.set_default_key(&key)?;
            let key = user.get_default_key()?.to_string();
            context
                .output
                .result(&serde_json::json!({"default": key}), || {
                    format!("signing with {key}")
                })
        }
        Command::Export { key, output } => export(&user, &key, output.as_deref(), context),
        Command::Import { file, name } => import(&user, file.as_deref(), name.as_deref(), context),
        Command::Forget { key } => {
            user.forget_private_key(&key)?;
            context
                .output
                .result(&serde_json::json!({"forgotten": key}), || {
                    "the key is forgotten here".to_owned()
                })
        }
    }
}

fn list(user: &User, context: &Context) -> Result<()> {
    let rows: Vec<KeyRow> = user.list_keys()?.into_iter().map(key_row).collect();
    context
        .output
        .list(&rows, &["key", "name", "role", "default", "added"], |row| {
            let default = if row.default { "yes" } else { "" };
            vec![
                row.key.clone(),
                row.name.clone(),
                row.role.to_owned(),
                default.to_owned(),
                time(row.added_at_ms),
            ]
        })
}

#[derive(Serialize)]
struct AccessRow {
    key: String,
    name: String,
    database: String,
    database_name: String,
    right: String,
    by: String,
}

fn list_databases(user: &User, context: &Context) -> Result<()> {
    let keys = user.list_keys()?;
    let mut rows = Vec::new();
    for access in user.list_access()? {
        let name = keys.iter().find(|info| info.id == access.key);
        let database = user.open_database_with_key(access.database, access.key)?;
        rows.push(AccessRow {
            key: access.key.to_string(),
            name: name.map(|info| info.name.clone()).unwrap_or_default(),
            database: access.database.to_string(),
            database_name: name_of(&database)?,
            right: access.right.to_string(),
            by: match access.source {
                AccessSource::Direct => "name".to_owned(),
                AccessSource::Delegation(database) => format!("delegation of {database}"),
                _ => "wildcard".to_owned(),
            },
        });
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    context
        .output
        .list(&rows, &["key", "database", "id", "right", "by"], |row| {
            let name = if row.name.is_empty() {
                &row.key
            } else {
                &row.name
            };
            let shown = [name, &row.database_name, &row.database, &row.right, &row.by];
            shown.map(Clone::clone).to_vec()
        })
}

fn export(user: &User, key: &str, output: Option<&Path>, context: &Context) -> Result<()> {
    let password = present_password(user)?;
    let passphrase = password::choose_passphrase()?;
    let sealed = user.export_key(key, password.as_deref(), &passphrase)?;
    let (id, text) = (sealed.id().to_string(), sealed.to_string());
    let Some(path) = output else {
        let value = serde_json::json!({"key": id, "text": text});
        return context.output.result(&value, || text.clone());
    };
    let attempted = |error: std::io::Error| {
        Error::from(error).context(format!("cannot write {}", path.display()))
    };
    write_private(path, &text).map_err(attempted)?;
    let file = path.display().to_string();
    context
        .output
        .result(&serde_json::json!({"key": id, "file": file}), || {
            format!("exported {id} to {}", escape(&file))
        })
}

/// Writes a new file that nobody else can read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn import(user: &User, file: Option<&Path>, name: Option<&str>, context: &Context) -> Result<()> {
    let text = match file {
        Some(path) => File::open(path).and_then(read_text).map_err(|error| {
            Error::from(error).context(format!("cannot read {}", path.display()))
        })?,
        None => read_text(std::io::stdin().lock())?,
    };
    let sealed: SealedKey = text.parse()?;
    let passphrase = password::passphrase()?;
    let key = user.import_key(&sealed, &passphrase, name)?;
    let key = user.list_keys()?.into_iter().find(|info| info.id == key);
    let key = key
        .map(key_row)
        .ok_or_else(|| Error::new(Code::Failed, "the key is gone"))?;
    context.output.result(&key, || match key.name.as_str() {
        "" => format!("imported {}", key.key),
        name => format!("imported {} as {}", key.key, escape(name)),
    })
}

/// No more than an exported key can have, white space around it aside.
fn read_text(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(2 * eidetica::limits::SEALED_KEY_BYTES as u64)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn key_row(key: KeyInfo) -> KeyRow {
    KeyRow {
        key: key.id.to_string(),
        name: key.name,
        role: match key.role {
            KeyRole::Signing => "signing",
            KeyRole::Recovery => "recovery",
        },
        default: key.is_default,
        added_at_ms: key.added_at,
    }
}
