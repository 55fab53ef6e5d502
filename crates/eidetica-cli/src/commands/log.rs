//! `eidetica log DB`

use std::collections::HashMap;

use eidetica::{Database, Entry};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::limits;
use crate::output::{bytes, count, time};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "ENTRIES", default_value_t = limits::LOG_ENTRIES)]
    limit: usize,
}

#[derive(Serialize)]
struct Row {
    id: String,
    height: u64,
    author: String,
    author_name: String,
    /// The author's claim.
    time_ms: Option<u64>,
    stores: Vec<Store>,
    parents: Vec<String>,
}

#[derive(Serialize)]
struct Store {
    name: String,
    bytes: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (_user, database) = context.database(&args.db)?;
    let names = names(&database)?;
    let mut rows = Vec::new();
    let (mut left, mut before) = (args.limit, None);
    while left > 0 {
        let page = database.history(before, left)?;
        left = left.saturating_sub(page.entries.len());
        rows.extend(page.entries.iter().map(|entry| row(entry, &names)));
        if context.output.is_json() {
            show(&rows, context)?;
            rows.clear();
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    show(&rows, context)
}

/// What the keys of the database are called.
fn names(database: &Database) -> Result<HashMap<String, String>> {
    let keys = database.settings()?.keys();
    Ok(keys
        .into_iter()
        .map(|(key, _, name)| (key.to_string(), name.to_string()))
        .collect())
}

fn row(entry: &Entry, names: &HashMap<String, String>) -> Row {
    let header = entry.header();
    let author = header.author.key.to_string();
    Row {
        id: entry.id().to_string(),
        height: header.height.0,
        author_name: names.get(&author).cloned().unwrap_or_default(),
        author,
        time_ms: header.timestamp_ms,
        stores: header
            .stores
            .iter()
            .map(|store| Store {
                name: store.name.to_string(),
                bytes: store.payload_len.into(),
            })
            .collect(),
        parents: header.parents.iter().map(ToString::to_string).collect(),
    }
}

fn show(rows: &[Row], context: &Context) -> Result<()> {
    context.output.list(
        rows,
        &["height", "id", "time", "author", "stores", "merges"],
        |row| {
            let author = if row.author_name.is_empty() {
                shortened(&row.author, 16)
            } else {
                row.author_name.clone()
            };
            let stores = row
                .stores
                .iter()
                .map(|store| format!("{} ({})", store.name, bytes(store.bytes)));
            let merges = if row.parents.len() > 1 {
                count(row.parents.len() as u64)
            } else {
                String::new()
            };
            vec![
                count(row.height),
                shortened(&row.id, 12),
                row.time_ms.map(time).unwrap_or_default(),
                author,
                stores.collect::<Vec<_>>().join(", "),
                merges,
            ]
        },
    )
}

fn shortened(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}
