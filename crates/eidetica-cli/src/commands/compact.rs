//! `eidetica compact`

use std::time::Instant;

use crate::context::Context;
use crate::error::Result;
use crate::output::{bytes, count, counted, duration};
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Takes away what nobody can ask for any more, such as rows of forgotten databases, and lets the engine give the space back. \
Nothing that belongs to a database goes: its history and its older versions stay, because reads of the past, and \
changes of rights that come later, need them.")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, context: &Context) -> Result<()> {
    let start = Instant::now();
    let instance = context.open()?;
    let progress = Progress::spinner(context.output, "compacting");
    let compacted = instance.compact()?;
    drop(progress);
    let took = start.elapsed();
    let value = serde_json::json!({
        "rows": compacted.rows, "row_bytes": compacted.bytes, "closures": compacted.closures,
        "bytes_before": compacted.disk_before, "bytes_after": compacted.disk_after, "seconds": took.as_secs_f64(),
    });
    context.output.result(&value, || {
        let mut lines = vec![format!(
            "took {} rows of {} away in {}",
            count(compacted.rows),
            bytes(compacted.bytes),
            duration(took)
        )];
        if compacted.closures > 0 {
            let closures = counted(compacted.closures, "database", "databases");
            lines.push(format!(
                "with what was kept of {closures} that no settings name"
            ));
        }
        if let (Some(before), Some(after)) = (compacted.disk_before, compacted.disk_after) {
            lines.push(format!("{} before, {} now", bytes(before), bytes(after)));
        }
        lines.join("\n")
    })
}
