//! `eidetica db grant`, `revoke`, `adopt`, `wildcard`, `rotate` and `renounce`: one settings entry each.

use std::io::{BufRead, IsTerminal, Write};

use eidetica::auth::{KeyName, Permission, Revocation};
use eidetica::{AsKey, Database, Id, KeyId, RevocationPreview};

use super::show::{entry_of, shown_key};
use super::target::Target;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::limits;
use crate::output::{counted, table, time};
use crate::permission::{self, permission};

/// Arguments of `grant`.
#[derive(clap::Args)]
pub(crate) struct Grant {
    #[command(flatten)]
    target: Target,
    /// To whom: a key, or the name of a user of this data directory, of a key of yours, or of one that the database knows
    who: String,
    /// What: read, write or admin, and a rank after a colon; a lower rank is stronger
    #[arg(value_parser = permission)]
    right: Permission,
    /// What to call the key
    #[arg(long)]
    name: Option<String>,
}

/// Arguments of `revoke`.
#[derive(clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    target: Target,
    /// From whom: a key, or its name
    who: String,
    /// Leave this much: read, write or admin, and a rank after a colon
    #[arg(long, value_name = "RIGHT", value_parser = permission)]
    to: Option<Permission>,
    /// What the key did up to here counts, and nothing after; may be given more than once. `none`: nothing counts
    /// [default: all that is here counts]
    #[arg(long, value_name = "ENTRY")]
    cut: Vec<String>,
    /// Put this revocation in the place of those of the key that hold now: so a wrong cut is corrected
    #[arg(long)]
    correct: bool,
    /// Why, for those who read the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `adopt`.
#[derive(clap::Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    target: Target,
    /// The entries: ids or their beginnings, as `db void` shows them
    #[arg(required_unless_present = "by")]
    entries: Vec<String>,
    /// All void entries of this key that hold data
    #[arg(long, value_name = "WHO", conflicts_with = "entries")]
    by: Option<String>,
}

/// Arguments of `wildcard`.
#[derive(clap::Args)]
pub(crate) struct Wildcard {
    #[command(flatten)]
    target: Target,
    /// What everybody may do: none, read, write or write:RANK
    #[arg(value_parser = permission::wildcard)]
    right: permission::Wildcard,
}

/// Arguments of `rotate`.
#[derive(clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    target: Target,
    /// The key that takes over: one of yours, by id or name [default: a new one, which becomes the default key]
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
}

/// Arguments of `renounce`.
#[derive(clap::Args)]
pub(crate) struct Renounce {
    #[command(flatten)]
    target: Target,
    /// Do it even if no owner is left
    #[arg(long)]
    last_owner: bool,
}

/// A name, or a reason, which is a name too.
fn name_of(text: &str) -> Result<KeyName> {
    KeyName::new(text).map_err(|error| Error::new(Code::BadInput, error.to_string()))
}

pub(crate) fn grant(args: &Grant, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let member = database.find_member(&args.who)?;
    let name = match &args.name {
        Some(name) => name_of(name)?,
        None => member.name,
    };
    let key = member.key.public_key();
    let before = database.right_of(&key)?;
    let entry =
        database.change_settings(|settings| settings.grant(key, args.right, name.as_str()))?;
    let after = database.right_of(&key)?;
    if before.is_some() && before == after {
        context.output.note(&format!(
            "grants only add: the key has {} as before; `eidetica db revoke --to` lowers",
            after.map(|right| right.to_string()).unwrap_or_default()
        ));
    }
    let value = serde_json::json!({
        "entry": entry.id().to_string(), "key": member.key.to_string(), "name": name.as_str(),
        "right": after.map(|right| right.to_string()),
    });
    context.output.result(&value, || {
        let who = shown_key(name.as_str(), member.key.as_str());
        format!("{} granted to {}", args.right, escape(&who))
    })
}

pub(crate) fn revoke(args: &Revoke, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let member = database.find_member(&args.who)?;
    let revocation = revocation(args, &database, member.key)?;
    let preview = database.preview_revocation(&revocation, limits::PREVIEW_ENTRIES)?;
    let who = shown_key(member.name.as_str(), member.key.as_str());
    if !args.yes {
        confirm(&preview, &who, context)?;
    }
    let entry = database.change_settings(|settings| settings.revoke(revocation.clone()))?;
    let left = database.right_of(&member.key.public_key())?;
    let value = serde_json::json!({
        "entry": entry.id().to_string(), "key": member.key.to_string(), "name": member.name.as_str(),
        "right": left.map(|right| right.to_string()), "voided": preview.voided, "restored": preview.restored,
    });
    context.output.result(&value, || {
        let left = left.map_or_else(|| "nothing".to_owned(), |right| right.to_string());
        format!("revoked: {} has {left}; {}", escape(&who), effect(&preview))
    })
}

fn revocation(args: &Revoke, database: &Database, key: KeyId) -> Result<Revocation> {
    let held = match args.correct {
        false => Revocation::of(key.public_key()),
        true => database.correction_of(&key.public_key())?.ok_or_else(|| {
            Error::new(Code::NotFound, "no revocation of the key holds")
                .hint("without --correct this makes one")
        })?,
    };
    let cut = match args.cut.as_slice() {
        [] => held.cut.clone(),
        [none] if none == "none" => Some([].into_iter().collect()),
        entries => {
            let ids = entries.iter().map(|text| entry_of(database, text));
            Some(ids.collect::<Result<_>>()?)
        }
    };
    Ok(Revocation {
        to: args.to.or(held.to),
        cut,
        reason: name_of(&args.reason)?,
        ..held
    })
}

/// Shows what a revocation does and asks a person whether to go on.
fn confirm(preview: &RevocationPreview, who: &str, context: &Context) -> Result<()> {
    let not_asked = || {
        Error::new(Code::Failed, format!("nothing was revoked: {}", effect(preview)))
            .hint("--yes revokes without asking; `eidetica db audit` and `eidetica db void` show it afterwards")
    };
    if context.output.is_json() || !std::io::stdin().is_terminal() {
        return Err(not_asked());
    }
    let mut out = std::io::stderr().lock();
    writeln!(out, "Revoking {}: {}.", escape(who), effect(preview))?;
    if !preview.entries.is_empty() {
        let rows = preview.entries.iter().map(|entry| {
            let becomes = if entry.voided { "void" } else { "counts" };
            vec![
                becomes.to_owned(),
                entry.stamp.id.to_string(),
                entry.author.to_string(),
                entry.timestamp_ms.map(time).unwrap_or_default(),
            ]
        });
        writeln!(
            out,
            "{}",
            table(&["becomes", "entry", "author", "time"], rows)
        )?;
    }
    write!(out, "Go on? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::new(Code::Failed, "nothing was revoked")),
    }
}

fn effect(preview: &RevocationPreview) -> String {
    let becomes = if preview.voided == 1 {
        "becomes"
    } else {
        "become"
    };
    let voided = counted(preview.voided, "entry", "entries");
    match preview.restored {
        0 => format!("{voided} {becomes} void"),
        restored => format!(
            "{voided} {becomes} void, {} again",
            match restored {
                1 => "1 entry counts".to_owned(),
                more => format!("{} count", counted(more, "entry", "entries")),
            }
        ),
    }
}

pub(crate) fn adopt(args: &Adopt, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let entries: Vec<Id> = match &args.by {
        Some(who) => void_data_of(&database, database.find_member(who)?.key)?,
        None => {
            let ids = args.entries.iter().map(|text| entry_of(&database, text));
            ids.collect::<Result<_>>()?
        }
    };
    if entries.is_empty() {
        return Err(Error::new(
            Code::NotFound,
            "the key has no void entries that hold data",
        ));
    }
    let made = entries
        .chunks(limits::ADOPTED_AT_ONCE)
        .map(|entries| Ok(database.adopt(entries)?.id().to_string()));
    let made: Vec<String> = made.collect::<Result<_>>()?;
    let adopted: Vec<String> = entries.iter().map(ToString::to_string).collect();
    let value = serde_json::json!({"entries": made, "adopted": adopted});
    context.output.result(&value, || {
        format!(
            "adopted {}",
            counted(adopted.len() as u64, "entry", "entries")
        )
    })
}

/// The void entries of a key that write no settings.
fn void_data_of(database: &Database, key: KeyId) -> Result<Vec<Id>> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(next) = from {
        let page = database.void_entries(next, limits::PAGE)?;
        let data = page.entries.iter().filter(|entry| {
            entry.author == key.public_key()
                && !entry.stores.iter().any(|store| store.is_settings())
        });
        found.extend(data.map(|entry| entry.stamp.id));
        from = page.next;
    }
    Ok(found)
}

pub(crate) fn wildcard(args: &Wildcard, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let entry = database.change_settings(|settings| settings.set_wildcard(args.right.0))?;
    let right = database
        .settings()?
        .wildcard()
        .map(|right| right.to_string());
    let value = serde_json::json!({"entry": entry.id().to_string(), "everybody": right});
    context.output.result(&value, || {
        let right = right.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("everybody may do: {right}")
    })
}

pub(crate) fn rotate(args: &Rotate, context: &Context) -> Result<()> {
    let (user, database) = args.target.open(context)?;
    let rotated = user.rotate_key(&database, args.to.as_deref().map(AsKey::as_key).as_ref())?;
    let (from, to) = (rotated.from, rotated.to);
    let right = database
        .right_of(&to.public_key())?
        .map(|right| right.to_string());
    let value = serde_json::json!({
        "entry": rotated.entry.id().to_string(), "from": from.to_string(), "to": to.to_string(), "right": right,
    });
    context
        .output
        .result(&value, || format!("{to} has taken over from {from}"))
}

pub(crate) fn renounce(args: &Renounce, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let entry = database.change_settings(|settings| match args.last_owner {
        true => settings.renounce_as_last_owner(),
        false => settings.renounce(),
    })?;
    let key = database.default_auth_key();
    let right = database
        .right_of(&key.public_key())?
        .map(|right| right.to_string());
    let value = serde_json::json!({"entry": entry.id().to_string(), "key": key.to_string(), "right": right});
    context.output.result(&value, || {
        let left = right.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{key} has {left}")
    })
}
