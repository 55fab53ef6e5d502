//! `eidetica user ..`

mod key;

use eidetica::User;

use crate::context::Context;
use crate::error::Result;
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
    Key(key::Command),
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
        Command::Key(command) => key::run(command, context),
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
    let old = present_password(&user)?;
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

/// The password of a user who is logged in: of the environment, or asked for again, unless there is none.
fn present_password(user: &User) -> Result<Option<String>> {
    match password::from_environment() {
        Some(password) => Ok(Some(password)),
        None if login_without(user) => Ok(None),
        None => password::ask(user.name()),
    }
}

fn login_without(user: &User) -> bool {
    user.instance().login_user(user.name(), None).is_ok()
}
