//! `eidetica db keys`, `audit` and `void`: who may do what, who might when, and what does not count.

use std::collections::HashMap;

use eidetica::auth::{AuthRecord, Standing};
use eidetica::{AuditEntry, Database, Id};
use serde::Serialize;

use super::target::Target;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::output::time;

/// Arguments of `keys`.
#[derive(clap::Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    target: Target,
    /// Keys that have no right any more too
    #[arg(long)]
    all: bool,
}

/// Arguments of `audit`.
#[derive(clap::Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    target: Target,
}

/// Arguments of `void`.
#[derive(clap::Args)]
pub(crate) struct Void {
    #[command(flatten)]
    target: Target,
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "ENTRIES", default_value_t = limits::VOID_ENTRIES)]
    limit: usize,
}

#[derive(Serialize)]
struct KeyRow {
    /// `*` for every key, the id of a database for the keys that it lets in.
    key: String,
    name: String,
    right: Option<String>,
    /// Whether the acting user has the key.
    own: bool,
    by: &'static str,
}

#[derive(Serialize)]
struct VoidRow {
    entry: String,
    author: String,
    author_name: String,
    time_ms: Option<u64>,
    stores: Vec<String>,
    reason: String,
    code: u16,
}

/// One thing that one entry says.
#[derive(Serialize)]
struct AuditRow {
    entry: String,
    /// Who signed it.
    by: String,
    by_name: String,
    /// By which right, if it counts.
    right: Option<String>,
    /// Why it does not count, if it does not.
    void: Option<String>,
    time_ms: Option<u64>,
    what: &'static str,
    /// The key or database that it is about; `*` for every key.
    subject: String,
    name: String,
    /// What is given or left.
    gives: Option<String>,
    reason: String,
    cut: Option<Vec<String>>,
    replaces: Vec<String>,
    /// The entries that are adopted.
    entries: Vec<String>,
    /// The entry that ended it.
    until: Option<String>,
}

pub(crate) fn keys(args: &Keys, context: &Context) -> Result<()> {
    let (user, database) = args.target.open(context)?;
    let own: Vec<String> = user
        .list_keys()?
        .iter()
        .map(|info| info.id.to_string())
        .collect();
    let settings = database.settings()?;
    let state = settings.authority();
    let row = |key: String, name: &str, right: Option<String>, by| KeyRow {
        own: own.contains(&key),
        name: name.to_owned(),
        key,
        right,
        by,
    };
    let mut held: Vec<_> = state.keys().collect();
    held.sort_by(|a, b| (b.1.right, &a.1.name, a.0).cmp(&(a.1.right, &b.1.name, b.0)));
    let mut rows: Vec<KeyRow> = held
        .into_iter()
        .map(|(key, entry)| {
            let right = entry.right.to_string();
            row(key.to_string(), entry.name.as_str(), Some(right), "name")
        })
        .collect();
    rows.extend(state.wildcard().map(|right| {
        row(
            "*".to_owned(),
            "everybody",
            Some(right.to_string()),
            "wildcard",
        )
    }));
    for (database, bound, name) in settings.delegations() {
        let bound = Some(bound.to_string());
        rows.push(row(
            database.to_string(),
            name.as_str(),
            bound,
            "delegation",
        ));
    }
    if args.all {
        let revoked = state.revoked_keys();
        rows.extend(
            revoked.map(|(key, entry)| row(key.to_string(), entry.name.as_str(), None, "revoked")),
        );
    }
    context
        .output
        .list(&rows, &["right", "name", "key", "by"], |row| {
            let mine = if row.own { "yours, " } else { "" };
            vec![
                row.right.clone().unwrap_or_else(|| "none".to_owned()),
                row.name.clone(),
                row.key.clone(),
                format!("{mine}{}", row.by),
            ]
        })
}

pub(crate) fn void(args: &Void, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let names = names(&database)?;
    let (mut left, mut from) = (args.limit, Some(0));
    while let Some(next) = from.filter(|_| left > 0) {
        let page = database.void_entries(next, left.min(limits::PAGE))?;
        left -= page.entries.len().min(left);
        from = page.next;
        let rows: Vec<VoidRow> = page
            .entries
            .iter()
            .map(|entry| VoidRow {
                entry: entry.stamp.id.to_string(),
                author: entry.author.to_string(),
                author_name: names
                    .get(&entry.author.to_string())
                    .cloned()
                    .unwrap_or_default(),
                time_ms: entry.timestamp_ms,
                stores: entry.stores.iter().map(ToString::to_string).collect(),
                reason: entry.reason.to_string(),
                code: entry.reason.code(),
            })
            .collect();
        context.output.list(
            &rows,
            &["entry", "author", "time", "stores", "reason"],
            |row| {
                vec![
                    row.entry.clone(),
                    shown_key(&row.author_name, &row.author),
                    row.time_ms.map(time).unwrap_or_default(),
                    row.stores.join(", "),
                    row.reason.clone(),
                ]
            },
        )?;
    }
    match (database.void_count()?, from) {
        (0, _) => context.output.note("every entry counts"),
        (all, Some(_)) => context
            .output
            .note(&format!("of {all}; --limit shows more")),
        _ => {}
    }
    Ok(())
}

pub(crate) fn audit(args: &Audit, context: &Context) -> Result<()> {
    let (_user, database) = args.target.open(context)?;
    let names = names(&database)?;
    let mut after = None;
    loop {
        let page = database.audit(after, limits::PAGE)?;
        let rows: Vec<AuditRow> = page.entries.iter().flat_map(audit_rows).collect();
        let columns = ["entry", "by", "what", "whom", "right", "until"];
        context.output.list(&rows, &columns, |row| {
            let name = match row.name.as_str() {
                "" => names
                    .get(&row.subject)
                    .map(String::as_str)
                    .unwrap_or_default(),
                name => name,
            };
            let what = match &row.void {
                Some(_) => format!("{} (void)", row.what),
                None => row.what.to_owned(),
            };
            vec![
                short(&row.entry),
                shown_key(&row.by_name, &row.by),
                what,
                shown_key(name, &row.subject),
                row.gives.clone().unwrap_or_default(),
                row.until.as_deref().map(short).unwrap_or_default(),
            ]
        })?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn audit_rows(entry: &AuditEntry) -> Vec<AuditRow> {
    let (right, void) = match &entry.standing {
        Standing::Effective(right) => (Some(right.to_string()), None),
        Standing::Void(reason) => (None, Some(reason.to_string())),
    };
    let row = |what, subject: String, gives| AuditRow {
        entry: entry.stamp.id.to_string(),
        by: entry.author.to_string(),
        by_name: entry.author_name.to_string(),
        right: right.clone(),
        void: void.clone(),
        time_ms: entry.timestamp_ms,
        what,
        subject,
        name: String::new(),
        gives,
        reason: String::new(),
        cut: None,
        replaces: Vec::new(),
        entries: Vec::new(),
        until: None,
    };
    let texts = |ids: &[Id]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rows = entry.records.iter().map(|said| {
        let made = match &said.record {
            AuthRecord::Grant { key, right, name } => AuditRow {
                name: name.to_string(),
                ..row("grant", key.to_string(), Some(right.to_string()))
            },
            AuthRecord::Wildcard(right) => row(
                "wildcard",
                "*".to_owned(),
                right.map(|right| right.to_string()),
            ),
            AuthRecord::Revoke(revocation) => AuditRow {
                reason: revocation.reason.to_string(),
                cut: revocation.cut.as_ref().map(|cut| texts(cut)),
                replaces: texts(&revocation.replaces),
                ..row(
                    "revoke",
                    revocation.key.to_string(),
                    revocation.to.map(|right| right.to_string()),
                )
            },
            AuthRecord::Renounce => row("renounce", entry.author.to_string(), None),
            AuthRecord::Rotate { to, name } => AuditRow {
                name: name.to_string(),
                ..row("rotate", to.to_string(), right.clone())
            },
            AuthRecord::Adopt { entries } => AuditRow {
                entries: texts(entries),
                ..row("adopt", String::new(), None)
            },
            AuthRecord::Delegate(delegation) => AuditRow {
                name: delegation.name.to_string(),
                ..row(
                    "delegate",
                    delegation.database.to_string(),
                    delegation.bound.map(|right| right.to_string()),
                )
            },
            _ => row("unknown", String::new(), None),
        };
        AuditRow {
            until: said.until.map(|id| id.to_string()),
            ..made
        }
    });
    rows.collect()
}

/// What the database calls its keys, those without a right any more too.
fn names(database: &Database) -> Result<HashMap<String, String>> {
    let settings = database.settings()?;
    let state = settings.authority();
    let present = state
        .keys()
        .map(|(key, entry)| (key.to_string(), entry.name.to_string()));
    let revoked = state.revoked_keys();
    let revoked = revoked.map(|(key, entry)| (key.to_string(), entry.name.to_string()));
    Ok(revoked.chain(present).collect())
}

/// A name and enough of the key to tell two of one name apart.
pub(super) fn shown_key(name: &str, key: &str) -> String {
    let short: String = key.chars().take(limits::SHORT_KEY).collect();
    match name {
        "" => short,
        name => format!("{name} ({short})"),
    }
}

fn short(id: &str) -> String {
    id.chars().take(limits::SHORT_ENTRY).collect()
}

/// The entry that a text names: its id, or the beginning of one among those that are void or newest.
pub(super) fn entry_of(database: &Database, text: &str) -> Result<Id> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mut found = Vec::new();
    let mut from = Some(0);
    while let Some(next) = from {
        let page = database.void_entries(next, limits::PAGE)?;
        found.extend(page.entries.iter().map(|entry| entry.stamp.id));
        from = page.next;
    }
    let newest = database.history(None, limits::PAGE)?;
    found.extend(newest.entries.iter().map(eidetica::Entry::id));
    found.retain(|id| text.len() >= limits::SHORTEST_ID && id.to_string().starts_with(text));
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(Error::new(Code::NotFound, format!("no entry {text}")).hint(
            "`eidetica log` and `eidetica db void` show ids; an old entry is named by its whole id",
        )),
        _ => Err(
            Error::new(Code::Failed, format!("several entries begin with {text}"))
                .hint("give more of the id"),
        ),
    }
}
