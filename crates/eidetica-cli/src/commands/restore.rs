//! `eidetica restore FILE`

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use eidetica::Instance;
use eidetica::backup::{Label, Report, RestoreOptions};

use crate::commands::backup::{Rows, amount, is_standard, report_value};
use crate::commands::verify;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::{fields, time};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
The data go where --data-dir or --store says, whatever engine they come from. Nothing may be there. What is restored is the \
same device again: do not use the original any more, or say --as-new. What was taken back since the backup (invites, \
passwords) is as it was then.")]
pub(crate) struct Args {
    /// The backup; - for standard input
    file: PathBuf,
    /// Go on beside the original: a new device key, and no peers, requests or invites; databases and users stay
    #[arg(long)]
    as_new: bool,
    /// Check everything from the entries on afterwards, as `eidetica verify` does
    #[arg(long)]
    verify: bool,
    /// Take away first what another restore or migration has left unfinished there
    #[arg(long)]
    start_over: bool,
    /// Read the backup to its end, say what it is, and restore nothing
    #[arg(long, conflicts_with_all = ["as_new", "verify", "start_over"])]
    check: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let start = Instant::now();
    let input = open(&args.file)?;
    let attempted = |error: Error| error.context(format!("cannot restore {}", args.file.display()));
    if args.check {
        let progress = Rows::new(context, "reading");
        let (label, report) = Instance::check_backup(input, |totals| progress.show(totals))
            .map_err(|error| attempted(error.into()))?;
        drop(progress);
        return describe(&label, &report, start, context);
    }
    let place = context.place();
    if place.is_used() == Some(true) && !is_resumable(place.path()) {
        return Err(there_already(&place.shown()));
    }
    let options = RestoreOptions::new()
        .new_device(args.as_new)
        .start_over(args.start_over);
    let progress = Rows::new(context, "restoring");
    let restored = Instance::restore(place.location(), input, options, |totals| {
        progress.show(totals)
    });
    drop(progress);
    let restored = restored.map_err(|error| attempted(error.into()))?;
    let took = start.elapsed();
    let instance = place.open()?;
    let device = instance.device_key().to_string();
    let more = [
        ("data_dir", place.shown().into()),
        ("device", device.clone().into()),
        ("resumed", (restored.resumed_at > 0).into()),
    ];
    let value = report_value(&restored.report, took, more);
    context.output.result(&value, || {
        let amount = amount(&restored.report, took);
        let resumed = match restored.resumed_at {
            0 => "",
            _ => ", going on with what was there",
        };
        let whither = escape(&place.shown()).into_owned();
        format!("restored {amount}, to {whither}{resumed}\ndevice {device}")
    })?;
    match args.verify {
        true => verify::everything(&instance, context),
        false => Ok(()),
    }
}

fn open(file: &Path) -> Result<Box<dyn Read>> {
    if is_standard(file) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file)
        .map_err(|error| Error::from(error).context(format!("cannot open {}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// Whether a directory that has something in it is one of ours: what its engine holds says the rest.
pub(super) fn is_resumable(dir: Option<&Path>) -> bool {
    dir.is_some_and(|dir| dir.join("eidetica").is_file())
}

pub(super) fn there_already(place: &str) -> Error {
    Error::new(
        Code::Failed,
        format!("there is something in {place} already"),
    )
    .hint("name an empty place with --data-dir or --store")
}

fn describe(label: &Label, report: &Report, start: Instant, context: &Context) -> Result<()> {
    let took = start.elapsed();
    let more = [
        ("created_ms", label.created_ms.into()),
        ("engine", label.engine.clone().into()),
        ("rows_format", label.rows_format.into()),
    ];
    let value = report_value(report, took, more);
    context.output.result(&value, || {
        fields(&[
            ("made", format!("{} UTC", time(label.created_ms))),
            ("from", label.engine.clone()),
            ("holds", amount(report, took)),
            ("hash", report.digest.to_string()),
            ("", "whole, as it was written".to_owned()),
        ])
    })
}
