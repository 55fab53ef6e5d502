//! `eidetica backup FILE`

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eidetica::Instance;
use eidetica::backup::{Report, Totals};

use crate::context::Context;
use crate::control;
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::new_file::NewFile;
use crate::output::{bytes, counted, duration};
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
The file holds everything: databases, users, peers, the device key, and the keys of users without a password in the clear. \
It is written for its owner alone; keep it as safe as the data. `-` writes to standard output, to be encrypted or sent on. \
While `eidetica serve` or `share` has the data directory open, it is asked for the backup.")]
pub(crate) struct Args {
    /// The file to write, which must not be there yet; - for standard output
    file: PathBuf,
    /// Replace the file if it is there, once the new one is complete
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    if is_standard(&args.file) {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return Err(
                Error::new(Code::BadInput, "a backup is no text for a terminal")
                    .hint("name a file, or send it on with > or |"),
            );
        }
        let (report, took) = back_up(&mut out, context)?;
        context
            .output
            .note(&said(&report, took, "to standard output"));
        return Ok(());
    }
    let mut file = NewFile::create(&args.file, args.replace)?;
    let (report, took) = back_up(&mut file, context)?;
    file.finish()?;
    let path = args.file.display().to_string();
    let value = report_value(&report, took, [("file", path.clone().into())]);
    context.output.result(&value, || {
        said(&report, took, &format!("to {}", escape(&path)))
    })
}

/// From the data, or from the process that has them open.
fn back_up(out: &mut dyn Write, context: &Context) -> Result<(Report, Duration)> {
    let opened = context.open();
    let progress = Rows::new(context, "backing up");
    let start = Instant::now();
    let report = match opened {
        Ok(instance) => instance.backup_with(out, |totals| progress.show(totals))?,
        Err(error) if error.code() == Code::Unavailable => match control::ask(context.place())? {
            Some(stream) => passed_on(stream, out, &progress)?,
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    Ok((report, start.elapsed()))
}

/// Writes a backup as it comes from elsewhere, and sees that it is whole.
fn passed_on(input: impl Read, out: &mut dyn Write, progress: &Rows) -> Result<Report> {
    let mut tee = Tee { input, out };
    let checked = Instance::check_backup(&mut tee, |totals| progress.show(totals));
    let (_, report) = checked.map_err(|error| {
        Error::from(error).context("the process that has the data open sent no whole backup")
    })?;
    Ok(report)
}

/// Writes down what is read through it.
struct Tee<'a, R> {
    input: R,
    out: &'a mut dyn Write,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(bytes)?;
        self.out.write_all(bytes.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

/// Whether a file stands for standard input or output.
pub(super) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Shows how many rows there are so far.
pub(super) struct Rows {
    bar: Progress,
}

impl Rows {
    pub(super) fn new(context: &Context, what: &'static str) -> Self {
        Self {
            bar: Progress::counter(context.output, what),
        }
    }

    pub(super) fn show(&self, totals: &Totals) {
        self.bar.set(totals.row_count());
    }
}

/// What was copied, for programs.
pub(super) fn report_value<const N: usize>(
    report: &Report,
    took: Duration,
    more: [(&str, serde_json::Value); N],
) -> serde_json::Value {
    let totals = &report.totals;
    let common = [
        ("rows", totals.row_count().into()),
        ("row_bytes", totals.byte_count().into()),
        ("bytes", report.stream_bytes.into()),
        ("hash", report.digest.to_string().into()),
        ("seconds", took.as_secs_f64().into()),
    ];
    let all = common.into_iter().chain(more);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What was copied, for people: `1,234 rows (5.0 MiB) in 20 ms, 250.0 MiB a second`.
pub(super) fn amount(report: &Report, took: Duration) -> String {
    let size = report.totals.byte_count();
    let rate = size as f64 / took.as_secs_f64().max(1e-3);
    format!(
        "{} ({}) in {}, {} a second",
        counted(report.totals.row_count(), "row", "rows"),
        bytes(size),
        duration(took),
        bytes(rate as u64)
    )
}

fn said(report: &Report, took: Duration, whither: &str) -> String {
    let size = bytes(report.stream_bytes);
    format!("backed up {} {whither}: {size}", amount(report, took))
}
