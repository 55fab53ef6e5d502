//! `eidetica user ..`

use eidetica::User;
use eidetica::user::types::KeyRole;
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::output::time;
use crate::password;

/// What to do with users.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a user
    Create {
        /// The user's name
        name: String,
        /// Make the user without a password: whoever can read the files can act as this user
        #[arg(long)]
        no_password: bool,
    },
    /// List the users
    List,
    /// Change the password of the acting user
    Passwd {
        /// Remove the password
        #[arg(long)]
        no_password: bool,
    },
    /// Manage the keys of the acting user
    #[command(subcommand)]
    Key(KeyCommand),
}

/// What to do with a user's keys.
#[derive(clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a signing key
    Add {
        /// Its name
        name: Option<String>,
    },
    /// List the keys
    List,
    /// Sign with this key where none is named
    Default {
        /// Its id or name
        key: String,
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
    match command {
        Command::Create { name, no_password } => create(&name, no_password, context),
        Command::List => {
            let users = context.open()?.list_users()?;
            let rows: Vec<_> = users
                .iter()
                .map(|name| serde_json::json!({"user": name}))
                .collect();
            context.output.list(&rows, &["user"], |row| {
                vec![row["user"].as_str().unwrap_or_default().to_owned()]
            })
        }
        Command::Passwd { no_password } => passwd(no_password, context),
        Command::Key(command) => keys(command, context),
    }
}

fn create(name: &str, no_password: bool, context: &Context) -> Result<()> {
    let instance = context.open()?;
    let password = password::choose(name, no_password)?;
    instance.create_user(name, password.as_deref())?;
    let key = instance
        .login_user(name, password.as_deref())?
        .get_default_key()?;
    let value = serde_json::json!({"user": name, "key": key.to_string()});
    context.output.result(&value, || {
        format!("made user {} with key {key}", crate::escape::escape(name))
    })
}

/// The new password is asked for, or taken from EIDETICA_NEW_PASSWORD: EIDETICA_PASSWORD is the old one.
fn passwd(no_password: bool, context: &Context) -> Result<()> {
    let user = context.login()?;
    let old = match password::from_environment() {
        Some(password) => Some(password),
        // Logging in without one worked, or a person was asked and is asked again.
        None if login_without(&user) => None,
        None => password::ask(user.name())?,
    };
    let new = password::choose_new(user.name(), no_password)?;
    user.change_password(old.as_deref(), new.as_deref())?;
    let set = new.is_some();
    context.output.result(
        &serde_json::json!({"user": user.name(), "password": set}),
        || match set {
            true => "the password is changed".to_owned(),
            false => "the password is removed".to_owned(),
        },
    )
}

fn login_without(user: &User) -> bool {
    user.instance().login_user(user.name(), None).is_ok()
}

fn keys(command: KeyCommand, context: &Context) -> Result<()> {
    let user = context.login()?;
    match command {
        KeyCommand::Add { name } => {
            let key = user.add_private_key(name.as_deref())?;
            context
                .output
                .result(&serde_json::json!({"key": key.to_string()}), || {
                    key.to_string()
                })
        }
        KeyCommand::List => {
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
        KeyCommand::Default { key } => {
            user.set_default_key(&key)?;
            let key = user.get_default_key()?.to_string();
            context
                .output
                .result(&serde_json::json!({"default": key}), || {
                    format!("signing with {key}")
                })
        }
        KeyCommand::Forget { key } => {
            user.forget_private_key(&key)?;
            context
                .output
                .result(&serde_json::json!({"forgotten": key}), || {
                    "the key is forgotten here".to_owned()
                })
        }
    }
}

fn key_row(key: eidetica::user::types::KeyInfo) -> KeyRow {
    let role = match key.role {
        KeyRole::Signing => "signing",
        KeyRole::Recovery => "recovery",
    };
    KeyRow {
        key: key.id.to_string(),
        name: key.name,
        role,
        default: key.is_default,
        added_at_ms: key.added_at,
    }
}
