//! Where passwords and passphrases come from: the environment for scripts, the terminal for people, never an argument that others can see.

use std::io::IsTerminal;

use crate::error::{Code, Error, Result};
use crate::escape::escape;

const VARIABLE: &str = "EIDETICA_PASSWORD";
const NEW_VARIABLE: &str = "EIDETICA_NEW_PASSWORD";
const PASSPHRASE: &str = "EIDETICA_PASSPHRASE";

/// The password in the environment. An empty one counts as none.
pub(crate) fn from_environment() -> Option<String> {
    read(VARIABLE)
}

/// Asks for a user's password; nothing where nobody can be asked.
pub(crate) fn ask(user: &str) -> Result<Option<String>> {
    prompt(&format!("Password of {}: ", escape(user)))
}

/// A password for a new user: from the environment, else asked for twice. `None` for a user without one.
pub(crate) fn choose(user: &str, without: bool) -> Result<Option<String>> {
    choose_from(VARIABLE, user, without)
}

/// The passphrase that seals an exported key.
pub(crate) fn passphrase() -> Result<String> {
    let asked = match read(PASSPHRASE) {
        Some(passphrase) => Some(passphrase),
        None => prompt("Passphrase: ")?,
    };
    asked.ok_or_else(no_passphrase)
}

/// A passphrase to seal an exported key with: from the environment, else asked for twice.
pub(crate) fn choose_passphrase() -> Result<String> {
    if let Some(passphrase) = read(PASSPHRASE) {
        return Ok(passphrase);
    }
    let first = prompt("Passphrase for the exported key: ")?.ok_or_else(no_passphrase)?;
    once_more(&first)?;
    Ok(first)
}

fn no_passphrase() -> Error {
    Error::new(Code::Failed, "no passphrase").hint(format!(
        "set {PASSPHRASE}, or run on a terminal to be asked"
    ))
}

/// A password in place of the one in the environment.
pub(crate) fn choose_new(user: &str, without: bool) -> Result<Option<String>> {
    choose_from(NEW_VARIABLE, user, without)
}

fn choose_from(variable: &str, user: &str, without: bool) -> Result<Option<String>> {
    if without {
        return Ok(None);
    }
    if let Some(password) = read(variable) {
        return Ok(Some(password));
    }
    let Some(first) = prompt(&format!("New password of {}: ", escape(user)))? else {
        return Err(Error::new(Code::Failed, format!("no password for {user}"))
            .hint(format!("set {variable}, or use --no-password: whoever can read the files can then act as {user}")));
    };
    if first.is_empty() {
        return Err(Error::new(Code::BadInput, "the password is empty")
            .hint("--no-password makes a user without one"));
    }
    once_more(&first)?;
    Ok(Some(first))
}

fn once_more(first: &str) -> Result<()> {
    match prompt("Once more: ")?.as_deref() == Some(first) {
        true => Ok(()),
        false => Err(Error::new(Code::BadInput, "the two differ")),
    }
}

fn read(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|password| !password.is_empty())
}

fn prompt(text: &str) -> Result<Option<String>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    Ok(Some(rpassword::prompt_password(text)?))
}
