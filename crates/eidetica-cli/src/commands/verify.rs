//! `eidetica verify [DB]`

use std::time::{Duration, Instant};

use eidetica::{Instance, VerifyReport};

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::{count, duration};
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database; everything in the data directory when left out
    db: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let start = Instant::now();
    let report = match &args.db {
        Some(db) => {
            let (_user, database) = context.database(db)?;
            let _progress = Progress::spinner(context.output, "verifying");
            database.verify()?
        }
        None => return everything(&context.open()?, context),
    };
    show(&report, start.elapsed(), context)
}

/// Verifies all that is in an instance.
pub(crate) fn everything(instance: &Instance, context: &Context) -> Result<()> {
    let start = Instant::now();
    let progress = Progress::spinner(context.output, "verifying");
    let report = instance.verify()?;
    drop(progress);
    show(&report, start.elapsed(), context)
}

fn show(report: &VerifyReport, took: Duration, context: &Context) -> Result<()> {
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let unread: Vec<_> = report
        .unread
        .iter()
        .map(|(id, store)| serde_json::json!({"entry": id.to_string(), "store": store.to_string()}))
        .collect();
    let value = serde_json::json!({
        "sound": report.is_sound(), "entries": report.entries, "state_rows": report.state_rows, "faults": faults,
        "fault_count": report.fault_count, "unread": unread, "seconds": took.as_secs_f64(),
    });
    context.output.result(&value, || {
        let (entries, rows) = (count(report.entries), count(report.state_rows));
        let mut lines = vec![format!(
            "checked {entries} entries and {rows} rows of state in {}",
            duration(took)
        )];
        lines.extend(
            faults
                .iter()
                .map(|fault| format!("fault: {}", escape(fault))),
        );
        if !unread.is_empty() {
            lines.push(format!(
                "{} payloads of a kind that this program does not know",
                count(unread.len() as u64)
            ));
        }
        lines.push(if report.is_sound() {
            "everything is sound".to_owned()
        } else {
            format!("{} faults", count(report.fault_count))
        });
        lines.join("\n")
    })?;
    match report.is_sound() {
        true => Ok(()),
        false => Err(Error::new(Code::Corrupt, "stored data is damaged")
            .hint("a peer that has the database can send it again into a new data directory")),
    }
}
