//! `eidetica set DB STORE [KEY] NAME=VALUE ..`

use eidetica::crdt::{Doc, Value};

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::values::Assignment;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "NAME=VALUE sets text, NAME:=JSON any value.\n\
    eidetica set airports airports SFO name='San Francisco' runways:=4\n\
    eidetica set airports notes source=ourairports.com checked:=true")]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// The table or document; made when it is not there
    store: String,
    /// For a table the key of a row, then what to set; for a document what to set
    #[arg(required = true, value_name = "KEY | NAME=VALUE")]
    words: Vec<String>,
    /// The key of the row, where it holds a `=`
    #[arg(long, value_name = "KEY")]
    row: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (row, assignments) = split(args)?;
    let (_user, database) = context.database(&args.db)?;
    let transaction = database.new_transaction()?;
    match &row {
        Some(key) => {
            let mut fields = Doc::new();
            for assignment in assignments {
                fields.insert(assignment.name.clone(), value(&assignment)?);
            }
            let table = transaction.table::<serde_json::Value>(&args.store)?;
            match table.contains(key)? {
                true => table.set_fields(key, fields)?,
                false => table.insert_doc(key, fields)?,
            }
        }
        None => {
            let doc = transaction.doc(&args.store)?;
            for assignment in assignments {
                doc.set(&assignment.name, value(&assignment)?)?;
            }
        }
    }
    let entry = transaction.commit()?;
    let id = entry.map(|entry| entry.id().to_string());
    context
        .output
        .result(&serde_json::json!({"entry": id}), || match &id {
            Some(id) => format!("committed {id}"),
            None => "nothing to change".to_owned(),
        })
}

/// The row, if one is named, and the assignments.
fn split(args: &Args) -> Result<(Option<String>, Vec<Assignment>)> {
    let (row, words) = match (&args.row, args.words.split_first()) {
        (Some(row), _) => (Some(row.clone()), args.words.as_slice()),
        (None, Some((first, rest))) if !first.contains('=') => (Some(first.clone()), rest),
        _ => (None, args.words.as_slice()),
    };
    if words.is_empty() {
        return Err(Error::new(Code::BadInput, "nothing to set").hint("add NAME=VALUE"));
    }
    let parse = |word: &String| {
        word.parse::<Assignment>()
            .map_err(|problem| Error::new(Code::BadInput, format!("cannot read {word}: {problem}")))
    };
    Ok((row, words.iter().map(parse).collect::<Result<_>>()?))
}

fn value(assignment: &Assignment) -> Result<Value> {
    Value::from_json(&assignment.value).map_err(|error| {
        Error::new(
            Code::BadInput,
            format!("cannot store the value of {}: {error}", assignment.name),
        )
    })
}
