//! What is shown: log lines on standard output, and a progress bar below them where somebody watches.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Starts the log: a line for each event, `LEVEL message field=value ..`. `RUST_LOG` sets what is shown, from
/// `info` on by default. Lines and bar share the terminal.
pub fn start_log(bar: &ProgressBar) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stdout().is_terminal())
        .event_format(Line)
        .with_writer(AboveBar(bar.clone()))
        .init();
}

/// Level, message, fields. No time, no target.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[{}m{level}\x1b[0m ", color(*level))?,
            false => write!(writer, "{level} ")?,
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn color(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 31,
        tracing::Level::WARN => 33,
        tracing::Level::INFO => 32,
        tracing::Level::DEBUG => 34,
        tracing::Level::TRACE => 35,
    }
}

/// Standard output, the bar out of the way while a line is written.
struct AboveBar(ProgressBar);

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = Above<'a>;

    fn make_writer(&'a self) -> Above<'a> {
        Above(&self.0)
    }
}

struct Above<'a>(&'a ProgressBar);

impl Write for Above<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A bar of operations on standard error, if that is a terminal; nothing otherwise.
#[must_use]
pub fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let template = "{bar:30} {human_pos}/{human_len} operations, {rate}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}

fn rate(state: &ProgressState, writer: &mut dyn fmt::Write) {
    // What cannot be written is not shown.
    write!(writer, "{}/s", HumanCount(state.per_sec() as u64)).ok();
}

/// How often the bar is drawn.
const DRAWN: u8 = 5;

/// Shows the bar from `from` to `to` operations, or lengthens it if it is shown.
pub fn show(bar: &ProgressBar, from: u64, to: u64) {
    if bar.length().is_some() {
        return bar.set_length(to);
    }
    bar.reset();
    bar.set_length(to);
    bar.set_position(from);
    bar.reset_eta();
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN));
    }
    bar.tick();
}

/// Takes it away again.
pub fn hide(bar: &ProgressBar) {
    bar.finish_and_clear();
    bar.set_draw_target(ProgressDrawTarget::hidden());
    bar.unset_length();
}

/// A short duration, for log fields.
#[must_use]
pub fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
