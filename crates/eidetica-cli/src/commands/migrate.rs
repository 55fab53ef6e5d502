//! `eidetica migrate FROM TO`

use std::time::Instant;

use eidetica::{Instance, backup::CopyOptions};

use crate::commands::backup::{Rows, amount, report_value};
use crate::commands::restore::{is_resumable, there_already};
use crate::commands::verify;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::place::Place;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
A place is a directory, or file:DIR, fjall:DIR, redb:DIR, sqlite:DIR or postgres://USER@HOST/DATABASE. The first one is not \
changed and nothing may be in the second one. Both are the same device: use the second one from then on, and keep the first \
until you have looked.")]
pub(crate) struct Args {
    /// Where the data are
    from: String,
    /// Where they shall be
    to: String,
    /// Check everything from the entries on afterwards, as `eidetica verify` does
    #[arg(long)]
    verify: bool,
    /// Copy what can be read of damaged data, which `eidetica repair` then repairs there
    #[arg(long)]
    leave_out_damaged: bool,
    /// Take away first what another restore or migration has left unfinished there
    #[arg(long)]
    start_over: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let start = Instant::now();
    let (from, to) = (Place::parse(&args.from), Place::parse(&args.to));
    if from.is_used() == Some(false) {
        return Err(Error::new(
            Code::NotFound,
            format!("there is no data in {}", from.shown()),
        ));
    }
    if to.is_used() == Some(true) && !is_resumable(to.path()) {
        return Err(there_already(&to.shown()));
    }
    let progress = Rows::new(context, "copying");
    let options = CopyOptions {
        start_over: args.start_over,
        leave_out_damaged: args.leave_out_damaged,
    };
    let copied = Instance::migrate(from.location(), to.location(), options, |totals| {
        progress.show(totals);
    });
    drop(progress);
    let copied = copied.map_err(|error| {
        Error::from(error).context(format!("cannot migrate {} to {}", from.shown(), to.shown()))
    })?;
    let took = start.elapsed();
    let more = [
        ("from", from.shown().into()),
        ("to", to.shown().into()),
        ("source_moved", copied.source_moved.into()),
        ("left_out", copied.left_out.into()),
    ];
    let value = report_value(&copied.report, took, more);
    context.output.result(&value, || {
        let amount = amount(&copied.report, took);
        let (from, to) = (from.shown(), to.shown());
        let (from, to) = (escape(&from), escape(&to));
        format!(
            "copied {amount}, from {from} to {to}\nequal in both: {}",
            copied.report.digest
        )
    })?;
    if copied.left_out > 0 {
        context.output.note(&format!(
            "left out because they are damaged: {} places; `eidetica repair` on the new place computes what it can again, and says what is lost",
            copied.left_out
        ));
    }
    if copied.source_moved {
        context.output.note(
            "something was written there meanwhile, which the copy does not have: stop every process that uses it, and copy again",
        );
    }
    match args.verify {
        true => verify::everything(&to.open()?, context),
        false => Ok(()),
    }
}
