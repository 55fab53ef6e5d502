//! `eidetica export DB TABLE`

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use eidetica::Database;
use serde_json::Value;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::limits;
use crate::new_file::NewFile;
use crate::output::{count, json_text, plain};
use crate::progress::Progress;
use crate::read::{Format, Source};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// The table
    table: String,
    /// Write to this file, which must not be there yet; to standard output when left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file once the new one is complete
    #[arg(long, requires = "output")]
    replace: bool,
    /// The format; told by the file's name when left out, else JSON lines
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What to call the key
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (_user, database) = context.database(&args.db)?;
    let named = args.output.as_deref().and_then(Source::format_of);
    let format = args.format.or(named).unwrap_or(Format::Jsonl);
    let progress = Progress::spinner(context.output, "exporting");
    let Some(path) = &args.output else {
        // A terminal gets unsafe characters spelled out, a pipe the data.
        let safe = io::stdout().is_terminal();
        drop(progress);
        return written(export(
            args,
            &database,
            format,
            safe,
            &mut io::stdout().lock(),
        ))
        .map(drop);
    };
    let attempted = |error: Error| error.context(format!("cannot write {}", path.display()));
    let mut file = NewFile::create(path, args.replace)?;
    let rows = export(args, &database, format, false, &mut file).map_err(attempted)?;
    file.finish()?;
    drop(progress);
    let value = serde_json::json!({"rows": rows, "file": path.display().to_string()});
    context.output.result(&value, || {
        let path = path.display().to_string();
        format!("exported {} rows to {}", count(rows), escape(&path))
    })
}

fn export(
    args: &Args,
    database: &Database,
    format: Format,
    safe: bool,
    out: &mut impl Write,
) -> Result<u64> {
    match format {
        Format::Jsonl => jsonl(args, database, out),
        Format::Csv => csv(args, database, safe, out),
    }
}

fn jsonl(args: &Args, database: &Database, out: &mut impl Write) -> Result<u64> {
    let name = args.key.as_deref().unwrap_or("id");
    let mut rows = 0;
    for row in database.table::<Value>(&args.table)?.rows().docs() {
        let (key, fields) = row?;
        let mut value = serde_json::Map::from_iter([(name.to_owned(), Value::from(key))]);
        if let Value::Object(fields) = fields.to_json() {
            value.extend(fields.into_iter().filter(|(field, _)| field != name));
        }
        writeln!(out, "{}", json_text(&value))?;
        rows += 1;
    }
    Ok(rows)
}

/// CSV needs its columns first, so the table is read twice: for the names of all fields, then for the rows.
fn csv(args: &Args, database: &Database, safe: bool, out: &mut impl Write) -> Result<u64> {
    let table = database.table::<Value>(&args.table)?;
    let mut names = BTreeSet::new();
    for row in table.rows().docs() {
        let (_, fields) = row?;
        names.extend(fields.keys().map(str::to_owned));
        if names.len() >= limits::COLUMNS {
            let message = format!(
                "the rows have more than {} different fields",
                limits::COLUMNS - 1
            );
            return Err(Error::new(crate::error::Code::Failed, message)
                .hint("--format jsonl has no such limit"));
        }
    }
    let key = args.key.as_deref().unwrap_or("key");
    record(
        out,
        std::iter::once(key).chain(names.iter().map(String::as_str)),
        safe,
    )?;
    let mut rows = 0;
    for row in table.rows().docs() {
        let (key, fields) = row?;
        let cells: Vec<String> = names
            .iter()
            .map(|name| {
                fields
                    .get_key(name)
                    .map(|value| plain(&value.to_json()))
                    .unwrap_or_default()
            })
            .collect();
        record(
            out,
            std::iter::once(key.as_str()).chain(cells.iter().map(String::as_str)),
            safe,
        )?;
        rows += 1;
    }
    Ok(rows)
}

fn record<'a>(
    out: &mut impl Write,
    cells: impl Iterator<Item = &'a str>,
    safe: bool,
) -> io::Result<()> {
    for (i, cell) in cells.enumerate() {
        let cell = if safe { escape(cell) } else { cell.into() };
        let separator = if i > 0 { "," } else { "" };
        if cell.contains(['"', ',', '\n', '\r']) {
            write!(out, "{separator}\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{separator}{cell}")?;
        }
    }
    writeln!(out)
}

/// A reader that had enough is no error.
fn written(result: Result<u64>) -> Result<u64> {
    match result {
        Err(error) if error.is_broken_pipe() => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed() {
        let mut out = Vec::new();
        record(
            &mut out,
            ["a", "b,c", "say \"x\"", "l\nl", ""].into_iter(),
            false,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a,\"b,c\",\"say \"\"x\"\"\",\"l\nl\",\n"
        );
        let mut out = Vec::new();
        record(&mut out, ["\u{1b}[2J"].into_iter(), true).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\\u{1b}[2J\n");
    }
}
