//! `eidetica get DB STORE [KEY [FIELD]]`

use eidetica::crdt::StoreKind;
use eidetica::{Database, Version};
use serde::Serialize;
use serde_json::Value;

use crate::context::{Context, author_name, kind_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::limits;
use crate::output::{fields, json_text, plain, time};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// The table or document
    store: String,
    /// The key of a row, or a path in a document such as `a.b.0`
    key: Option<String>,
    /// One field of the row
    field: Option<String>,
    /// Show every value that nobody overwrote knowingly, the one that is shown first
    #[arg(long, requires = "key")]
    versions: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (_user, database) = context.database(&args.db)?;
    let value = match kind_of(&database, &args.store)? {
        StoreKind::Table => row(args, &database)?,
        StoreKind::Doc => document(args, &database)?,
        other => {
            return Err(Error::new(
                Code::Failed,
                format!(
                    "{} holds {other:?}, which this program does not know",
                    args.store
                ),
            ));
        }
    };
    if args.versions {
        return versions(args, &database, context);
    }
    context.output.result(&value, || shown(&value))
}

fn row(args: &Args, database: &Database) -> Result<Value> {
    let Some(key) = &args.key else {
        return Err(Error::new(
            Code::Failed,
            format!("{} is a table: name a row", args.store),
        )
        .hint("`eidetica query DB TABLE` shows all rows"));
    };
    let row = database
        .table::<Value>(&args.store)?
        .get_doc(key)?
        .map(|row| row.to_json());
    let row = row.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("no row {key} in table {}", args.store),
        )
    })?;
    match &args.field {
        None => Ok(row),
        Some(field) => row
            .get(field)
            .cloned()
            .ok_or_else(|| Error::new(Code::NotFound, format!("row {key} has no field {field}"))),
    }
}

fn document(args: &Args, database: &Database) -> Result<Value> {
    if args.field.is_some() {
        return Err(Error::new(
            Code::Failed,
            format!("{} is a document and has no rows", args.store),
        )
        .hint("join the parts of a path with dots: a.b.0"));
    }
    let path = args.key.as_deref().unwrap_or_default();
    let value = database
        .doc(&args.store)?
        .get(path)?
        .map(|value| value.to_json());
    value.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("nothing at {path} in {}", args.store),
        )
    })
}

/// A row as names and values, a value bare.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<(&str, String)> = object
                .iter()
                .map(|(name, value)| (name.as_str(), plain(value)))
                .collect();
            fields(&pairs)
        }
        Value::Array(_) => json_text(value),
        value => escape(&plain(value)).into_owned(),
    }
}

#[derive(Serialize)]
struct VersionRow {
    field: String,
    value: Option<Value>,
    author: String,
    time_ms: Option<u64>,
    entry: String,
}

/// The versions of a value, of a field, or of each field of a row.
fn versions(args: &Args, database: &Database, context: &Context) -> Result<()> {
    let path = args.key.as_deref().unwrap_or_default();
    let mut rows = Vec::new();
    if kind_of(database, &args.store)? == StoreKind::Doc {
        let found = database.versions(&args.store, path, limits::VERSIONS)?;
        add_versions(database, path, found, &mut rows)?;
    } else {
        let row = database
            .table::<Value>(&args.store)?
            .get_doc(path)?
            .unwrap_or_default();
        for field in row
            .keys()
            .filter(|name| args.field.as_deref().is_none_or(|only| only == *name))
        {
            let found = database.field_versions(&args.store, path, field, limits::VERSIONS)?;
            add_versions(database, field, found, &mut rows)?;
        }
    }
    context.output.list(
        &rows,
        &["field", "value", "author", "time", "entry"],
        |row| {
            let value = row
                .value
                .as_ref()
                .map_or_else(|| "(deleted)".to_owned(), plain);
            vec![
                row.field.clone(),
                value,
                row.author.clone(),
                row.time_ms.map(time).unwrap_or_default(),
                row.entry.clone(),
            ]
        },
    )
}

fn add_versions(
    database: &Database,
    field: &str,
    found: Vec<Version>,
    rows: &mut Vec<VersionRow>,
) -> Result<()> {
    for version in found {
        let entry = database.get(&version.stamp.id)?;
        let header = entry.as_ref().map(|entry| entry.header());
        rows.push(VersionRow {
            field: field.to_owned(),
            value: version.value.map(|value| value.to_json()),
            author: header
                .map(|header| author_name(database, &header.author.key))
                .transpose()?
                .unwrap_or_default(),
            time_ms: header.and_then(|header| header.timestamp_ms),
            entry: version.stamp.id.to_string(),
        });
    }
    Ok(())
}
