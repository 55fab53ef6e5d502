//! Copying from one engine to another.

use eidetica_storage::log::LogError;
use eidetica_storage::log::format::{self, Copying};
use eidetica_storage::{Engine, Snapshot, Space};

use crate::rows::{Digest, Tally, counted, digest_of, for_each_frame};
use crate::target::Target;
use crate::{BackupError, Report, Totals};

/// What is written in every transaction of whatever kind.
const MOVING: [Space; 2] = [Space::Meta, Space::Local];

/// What was copied from one engine to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// What it was.
    pub report: Report,
    /// Whether something was written to the source while it was copied, which the copy does not have.
    pub source_moved: bool,
    /// Places of the source that could not be read: each a row, or as many as the engine keeps together.
    pub left_out: u64,
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// First take away what an unfinished copy or restore has left at the target.
    pub start_over: bool,
    /// Leave out what is damaged rather than fail: the copy has to be repaired then.
    pub leave_out_damaged: bool,
}

/// Copies all rows of an engine, as they are now, into one that has none. The source is not written to.
///
/// `id` is random. An interrupted copy does not go on, since its source may have moved. As for [`restore`](crate::restore), nobody else opens the target before all
/// rows are there and were read again.
///
/// # Errors
/// [`BackupError::NothingThere`], [`BackupError::NotEmpty`], [`BackupError::OtherUnfinished`], a source of a newer format or one
/// that holds half of a copy itself, the engines'.
pub fn copy(
    from: &dyn Engine,
    to: &dyn Engine,
    id: [u8; 16],
    options: CopyOptions,
    progress: &mut dyn FnMut(&Totals),
) -> Result<Copied, BackupError> {
    let CopyOptions {
        start_over,
        leave_out_damaged,
    } = options;
    let snapshot = match leave_out_damaged {
        true => from.snapshot_with_damage()?,
        false => from.snapshot()?,
    };
    let found = format::stored(&*snapshot)?.ok_or(BackupError::NothingThere)?;
    let supported = format::FORMAT;
    if found > supported {
        return Err(LogError::NewerFormat { found, supported }.into());
    }
    if !start_over && Copying::read(&*to.snapshot()?)?.is_some() {
        return Err(BackupError::OtherUnfinished);
    }
    let source = blake3::derive_key("eidetica copy v1", &id);
    let mut target = Target::begin(to, source, start_over)?;
    let mut tally = Tally::new();
    let mut left_out = 0;
    let counting = leave_out_damaged.then_some(&mut left_out);
    for_each_frame(&*snapshot, &Space::ALL, counting, |frame| {
        counted(&mut tally, frame)?;
        target.put(frame)?;
        progress(&tally.totals);
        Ok(())
    })?;
    let report = tally.report(0);
    // What is damaged is not compared: whoever rescues it has stopped everything.
    let source_moved = !leave_out_damaged && moving(&*snapshot)? != moving(&*from.snapshot()?)?;
    target.finish(&report, false)?;
    Ok(Copied {
        report,
        source_moved,
        left_out,
    })
}

fn moving(snapshot: &dyn Snapshot) -> Result<Digest, BackupError> {
    Ok(digest_of(snapshot, &MOVING)?.digest)
}
