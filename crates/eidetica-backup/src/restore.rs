//! Restoring a backup into an empty engine.

use std::io::Read;

use eidetica_storage::Engine;
use eidetica_storage::log::format;

use crate::target::{Target, discard_unfinished};
use crate::{BackupError, Label, Reader, Report, Totals};

/// How a backup is restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// What is restored goes on beside the original: whoever opens it becomes a device of its own first.
    pub new_device: bool,
    /// What another, unfinished restore has left in the engine goes first.
    pub start_over: bool,
}

impl Options {
    /// The same instance again, in an empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether it goes on beside the original.
    #[must_use]
    pub fn new_device(mut self, yes: bool) -> Self {
        self.new_device = yes;
        self
    }

    /// Sets whether what is unfinished there goes first.
    #[must_use]
    pub fn start_over(mut self, yes: bool) -> Self {
        self.start_over = yes;
        self
    }
}

/// A backup that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What it said of itself.
    pub label: Label,
    /// What was in it.
    pub report: Report,
    /// Frames that an interrupted restore had left.
    pub resumed_at: u64,
}

/// Restores a backup into an engine that has no rows, or goes on with the restore of the same backup that was interrupted.
///
/// Nobody else opens the engine until all rows are there, were read again, and are durable. A backup that turns out to be
/// damaged or cut off leaves an empty engine. Whatever else stops it (a disk, a crash) leaves an engine that
/// [`LogError::Unfinished`](eidetica_storage::log::LogError::Unfinished) is said of, until it is restored to again.
///
/// # Errors
/// [`BackupError::NotEmpty`], [`BackupError::OtherUnfinished`], [`BackupError::NewerRows`], those of [`Reader`], the engine's.
pub fn restore(
    input: &mut dyn Read,
    engine: &dyn Engine,
    options: Options,
    progress: &mut dyn FnMut(&Totals),
) -> Result<Restored, BackupError> {
    let mut reader = Reader::open(input)?;
    let label = reader.label().clone();
    if label.rows_format > format::FORMAT {
        return Err(BackupError::NewerRows {
            found: label.rows_format,
            supported: format::FORMAT,
        });
    }
    let mut target = Target::begin(engine, reader.source(), options.start_over)?;
    let resumed_at = target.parts();
    let mut take_all = || -> Result<Report, BackupError> {
        while let Some(frame) = reader.next_frame()? {
            target.put(frame)?;
            progress(reader.totals());
        }
        Ok(reader.report())
    };
    let report = match take_all() {
        Err(error) if error.is_final() => {
            discard_unfinished(engine)?;
            return Err(error);
        }
        taken => taken?,
    };
    target.finish(&report, options.new_device)?;
    Ok(Restored {
        label,
        report,
        resumed_at,
    })
}
