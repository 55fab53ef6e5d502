//! `eidetica repair`

use std::time::Instant;

use eidetica::{Found, Instance, RepairReport};

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::{count, counted, duration};
use crate::place::Place;
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Everything but the entries themselves is computed again from them: indexes, registers, state. Entries that are damaged are \
taken from --from, which may be a restored backup, a copy, or another node's data directory that is not in use. \
Those that are left are named, and the next sync with a peer that has them fetches them; until then their database is left as it is.")]
pub(crate) struct Args {
    /// Take damaged entries from there: a data directory, or a URL as for --store; may be given again
    #[arg(long, value_name = "DIR|URL")]
    from: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let start = Instant::now();
    let instance = context.open()?;
    let sources: Vec<Instance> = args
        .from
        .iter()
        .map(|place| source(place))
        .collect::<Result<_>>()?;
    let sources: Vec<&Instance> = sources.iter().collect();
    let progress = Progress::spinner(context.output, "verifying and repairing");
    let report = instance.repair(&sources)?;
    drop(progress);
    show(&report, start, context)
}

/// Opening alone would make one where there is none.
fn source(place: &str) -> Result<Instance> {
    Place::parse(place).open()
}

fn show(report: &RepairReport, start: Instant, context: &Context) -> Result<()> {
    let took = start.elapsed();
    let texts = |faults: &[Found]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mended = report.mended.iter().map(|(id, mended)| {
        let lost: Vec<String> = mended.lost.iter().map(ToString::to_string).collect();
        serde_json::json!({"database": id.to_string(), "restored": mended.restored, "lost": lost, "unknown": mended.unknown})
    });
    let repaired = report.repaired.iter().map(|(id, repaired)| {
        serde_json::json!({"database": id.to_string(), "entries": repaired.entries, "index_rows": repaired.index_rows})
    });
    let failed = report
        .failed
        .iter()
        .map(|(id, why)| serde_json::json!({"database": id.to_string(), "reason": why}));
    let value = serde_json::json!({
        "sound": report.after.is_sound(),
        "faults_before": report.before.fault_count,
        "faults": texts(&report.after.faults), "fault_count": report.after.fault_count,
        "directory_rows": report.directory_rows,
        "mended": mended.collect::<Vec<_>>(), "repaired": repaired.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(), "seconds": took.as_secs_f64(),
    });
    context.output.result(&value, || {
        let mut lines = vec![format!(
            "found {} in {}",
            counted(report.before.fault_count, "fault", "faults"),
            duration(took)
        )];
        if report.directory_rows > 0 {
            let rows = counted(report.directory_rows, "row", "rows");
            lines.push(format!("made {rows} right that lead to databases"));
        }
        for (id, mended) in &report.mended {
            if mended.restored > 0 {
                let entries = counted(mended.restored, "entry", "entries");
                lines.push(format!("database {id}: put {entries} back"));
            }
            lines.extend(
                mended
                    .lost
                    .iter()
                    .map(|lost| format!("database {id}: entry {lost} is lost")),
            );
            if mended.unknown > 0 {
                let others = counted(mended.unknown, "entry is", "entries are");
                lines.push(format!("database {id}: {others} lost and not known by id"));
            }
        }
        for (id, repaired) in &report.repaired {
            lines.push(format!(
                "database {id}: computed again from {}",
                counted(repaired.entries, "entry", "entries")
            ));
        }
        for (id, why) in &report.failed {
            lines.push(format!("database {id}: not repaired: {}", escape(why)));
        }
        lines.extend(
            texts(&report.after.faults)
                .iter()
                .map(|fault| format!("fault: {}", escape(fault))),
        );
        lines.push(match report.after.is_sound() {
            true => "everything is sound".to_owned(),
            false => format!("{} faults are left", count(report.after.fault_count)),
        });
        lines.join("\n")
    })?;
    match report.after.is_sound() {
        true => Ok(()),
        false => Err(
            Error::new(Code::Corrupt, "stored data is still damaged").hint(
                "damaged entries come back with the next sync with a peer that has them; \
             --from DIR takes them from a copy or a restored backup",
            ),
        ),
    }
}
