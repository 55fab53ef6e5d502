//! `eidetica import FILE DB`

use std::path::PathBuf;
use std::time::Instant;

use eidetica::Database;
use eidetica::crdt::{Doc, Edit, StoreKind};

use crate::context::{Context, name_of};
use crate::error::{Code, Error, Result};
use crate::output::{bytes, counted, duration, json_text};
use crate::progress::Progress;
use crate::read::{Checked, Format, Row, Source};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .csv file with a header line, or a .jsonl file with one object per line; - is standard input
    file: PathBuf,
    /// The database: its name or id
    db: String,
    /// The table; the file's name without its extension when left out
    table: Option<String>,
    /// The column or field that holds the keys; the first column of CSV and `id` of JSON lines when left out
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// The format, where the file's name does not tell
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Take all CSV values as text; otherwise columns of numbers become numbers
    #[arg(long)]
    text: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let table = table_name(&args)?;
    let (_user, database) = context.database(&args.db)?;
    let source = source(args.file, args.format, args.key, args.text)?;
    let start = Instant::now();
    let imported = import(&source, &database, &table, context)?;
    let took = start.elapsed();
    let name = name_of(&database)?;
    let value = serde_json::json!({
        "database": database.root_id().to_string(), "table": table, "rows": imported.rows, "bytes": imported.bytes,
        "entries": imported.entries, "seconds": took.as_secs_f64(),
    });
    context.output.result(&value, || {
        let (rows, entries) = (
            counted(imported.rows, "row", "rows"),
            counted(imported.entries, "signed entry", "signed entries"),
        );
        let (size, took) = (bytes(imported.bytes), duration(took));
        let text = format!(
            "imported {rows} ({size}) into table {table} of {name} in {took}, as {entries}"
        );
        crate::escape::escape(&text).into_owned()
    })
}

/// The file to read, its format told by its name unless given.
pub(crate) fn source(
    path: PathBuf,
    format: Option<Format>,
    key: Option<String>,
    text: bool,
) -> Result<Source> {
    let format = format.or_else(|| Source::format_of(&path)).ok_or_else(|| {
        Error::new(
            Code::BadInput,
            format!("cannot tell the format of {}", path.display()),
        )
        .hint("name it .csv or .jsonl, or say --format csv or --format jsonl")
    })?;
    Ok(Source {
        path,
        format,
        key,
        text,
    })
}

/// What was imported.
pub(crate) struct Imported {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Puts all rows of a file into a table, as one atomic group of entries: all of them or none are there afterwards. Neither
/// the file nor the group is held in memory. A row that is there already is changed field by
/// field, so that what others change in it meanwhile survives.
pub(crate) fn import(
    source: &Source,
    database: &Database,
    table: &str,
    context: &Context,
) -> Result<Imported> {
    let checked: Checked =
        source.check(&Progress::bytes(context.output, "checking", source.len()?))?;
    let progress = Progress::rows(context.output, "signing", checked.rows);
    let present = database.table::<serde_json::Value>(table)?;
    let mut import = database.import();
    let mut rows = 0;
    for row in source.rows(&checked)? {
        let Row { line, key, fields } = row?;
        let blame = |error: &dyn std::fmt::Display| {
            Error::new(
                Code::BadInput,
                format!("{}, line {line}: {error}", source.path.display()),
            )
        };
        let fields = serde_json::Value::from_iter(fields);
        let size = key.len() + json_text(&fields).len();
        let fields = Doc::from_json(&fields).map_err(|error| blame(&error))?;
        let edit = match present.contains(&key).map_err(|error| blame(&error))? {
            true => Edit::RowSet { key, fields },
            false => Edit::RowInsert { key, fields },
        };
        import
            .edit(table, StoreKind::Table, edit, size)
            .map_err(|error| blame(&error))?;
        rows += 1;
        progress.set(rows);
    }
    drop(progress);
    let _progress = Progress::spinner(context.output, "storing");
    Ok(Imported {
        rows,
        bytes: checked.bytes,
        entries: import.commit()?.len() as u64,
    })
}

fn table_name(args: &Args) -> Result<String> {
    if let Some(table) = &args.table {
        return Ok(table.clone());
    }
    let stem = args.file.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|_| !Source::is_stdin(&args.file));
    stem.map(str::to_owned).ok_or_else(|| {
        Error::new(Code::BadInput, "the file's name is no table name").hint("name the table")
    })
}
