//! `eidetica query DB TABLE`

use eidetica::Database;
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::output::{count, plain};
use crate::values::{Condition, compare};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// The table
    table: String,
    /// Only rows that meet this: FIELD=VALUE, or != < <= > >= and ~ (contains); the row's key is `key`
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// Only this key and greater ones
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only this key and smaller ones
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Order by the keys or by a field
    #[arg(long, value_name = "key | FIELD", default_value = "key")]
    sort: String,
    /// The greatest first
    #[arg(long, short)]
    reverse: bool,
    /// At most so many rows
    #[arg(long, short = 'n', value_name = "ROWS")]
    limit: Option<usize>,
    /// Only these fields
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    fields: Vec<String>,
    /// Only the number of rows
    #[arg(long)]
    count: bool,
}

#[derive(Serialize)]
struct Row {
    key: String,
    #[serde(flatten)]
    fields: Value,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (_user, database) = context.database(&args.db)?;
    if args.count {
        let mut found = 0u64;
        each(args, &database, |_, _| {
            found += 1;
            Ok(true)
        })?;
        return context
            .output
            .result(&serde_json::json!({"rows": found}), || count(found));
    }
    if args.sort != "key" {
        let rows = sorted(args, &database)?;
        return show(&rows, args, context);
    }
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut shown = 0;
    let mut page = Vec::new();
    each(args, &database, |key, fields| {
        if shown == limit {
            return Ok(false);
        }
        shown += 1;
        page.push(chosen(args, key, fields));
        // JSON is printed row by row; a table needs all of its rows to know its widths.
        if context.output.is_json() {
            show(&page, args, context)?;
            page.clear();
        } else if page.len() > limits::SORTED_ROWS {
            return Err(too_many(
                "to lay out as a table",
                "--limit bounds them, --json prints any number",
            ));
        }
        Ok(true)
    })?;
    show(&page, args, context)
}

/// Calls `visit` with every row that meets the conditions, in key order, until it says false.
fn each(
    args: &Args,
    database: &Database,
    mut visit: impl FnMut(String, Value) -> Result<bool>,
) -> Result<()> {
    let table = database.table::<Value>(&args.table)?;
    let mut rows = table.rows();
    if let Some(prefix) = &args.prefix {
        rows = rows.prefix(prefix);
    }
    match (args.from.as_deref(), args.to.as_deref()) {
        (None, None) => {}
        (Some(from), None) => rows = rows.range(from..),
        (None, Some(to)) => rows = rows.range(..=to),
        (Some(from), Some(to)) => rows = rows.range(from..=to),
    }
    if args.reverse && args.sort == "key" {
        rows = rows.reverse();
    }
    if let (Some(limit), true) = (args.limit, args.conditions.is_empty() && args.sort == "key") {
        rows = rows.limit(limit);
    }
    for row in rows.docs() {
        let (key, fields) = row?;
        let fields = fields.to_json();
        let met = args
            .conditions
            .iter()
            .all(|condition| condition.holds(&key, &fields));
        if met && !visit(key, fields)? {
            break;
        }
    }
    Ok(())
}

fn sorted(args: &Args, database: &Database) -> Result<Vec<Row>> {
    let mut rows: Vec<(String, Value)> = Vec::new();
    each(args, database, |key, fields| {
        if rows.len() == limits::SORTED_ROWS {
            return Err(too_many("to sort", "add conditions, or sort by key"));
        }
        rows.push((key, fields));
        Ok(true)
    })?;
    rows.sort_by(|(a_key, a), (b_key, b)| {
        compare(a.get(&args.sort), b.get(&args.sort)).then_with(|| a_key.cmp(b_key))
    });
    if args.reverse {
        rows.reverse();
    }
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(rows
        .into_iter()
        .map(|(key, fields)| chosen(args, key, fields))
        .collect())
}

fn too_many(for_what: &str, hint: &str) -> Error {
    Error::new(
        Code::Failed,
        format!(
            "more than {} rows {for_what}",
            count(limits::SORTED_ROWS as u64)
        ),
    )
    .hint(hint)
}

fn chosen(args: &Args, key: String, mut fields: Value) -> Row {
    if let (Some(object), false) = (fields.as_object_mut(), args.fields.is_empty()) {
        object.retain(|name, _| args.fields.contains(name));
    }
    Row { key, fields }
}

fn show(rows: &[Row], args: &Args, context: &Context) -> Result<()> {
    let mut names: Vec<&str> = args.fields.iter().map(String::as_str).collect();
    if names.is_empty() {
        let all = rows
            .iter()
            .filter_map(|row| row.fields.as_object())
            .flat_map(|object| object.keys());
        names = all
            .map(String::as_str)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
    }
    let columns: Vec<&str> = std::iter::once("key")
        .chain(names.iter().copied())
        .collect();
    context.output.list(rows, &columns, |row| {
        let cells = names
            .iter()
            .map(|name| row.fields.get(name).map(plain).unwrap_or_default());
        std::iter::once(row.key.clone()).chain(cells).collect()
    })
}
