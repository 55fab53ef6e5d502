//! Progress bars for long work: on standard error, only where somebody watches.

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// A bar, or nothing when nobody watches. Cleared when dropped.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over a known number of bytes.
    pub(crate) fn bytes(output: Output, what: &'static str, total: u64) -> Self {
        Self::new(output, || {
            let style = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
            ProgressBar::new(total)
                .with_message(what)
                .with_style(style_of(style))
        })
    }

    /// A bar over a known number of rows.
    pub(crate) fn rows(output: Output, what: &'static str, total: u64) -> Self {
        Self::new(output, || {
            let style = "{msg} {wide_bar} {human_pos}/{human_len} rows {eta}";
            ProgressBar::new(total)
                .with_message(what)
                .with_style(style_of(style))
        })
    }

    /// A count of rows without an end in sight.
    pub(crate) fn counter(output: Output, what: &'static str) -> Self {
        Self::new(output, || {
            let style = "{spinner} {msg} {human_pos} rows {elapsed}";
            ProgressBar::new_spinner()
                .with_message(what)
                .with_style(style_of(style))
        })
    }

    /// A spinner for work of unknown length.
    pub(crate) fn spinner(output: Output, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::new(output, || {
            let bar = ProgressBar::new_spinner()
                .with_message(what)
                .with_style(style_of("{spinner} {msg} {elapsed}"));
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        })
    }

    fn new(output: Output, bar: impl FnOnce() -> ProgressBar) -> Self {
        Self(output.shows_progress().then(bar))
    }

    /// Moves the bar.
    pub(crate) fn set(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
