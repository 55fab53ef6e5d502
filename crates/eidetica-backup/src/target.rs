//! An engine that rows are copied into: nobody else opens it until they are all there.

use std::ops::ControlFlow;

use eidetica_storage::log::format::{self, Copying};
use eidetica_storage::{Batch, Durability, Engine, EngineError, Space};

use crate::rows::{RowRef, digest, for_each_row};
use crate::{BackupError, Report, limits};

/// What the source is called while rows are taken away again.
const NOTHING: [u8; 32] = [0; 32];

pub(crate) struct Target<'a> {
    engine: &'a dyn Engine,
    /// As it stands in the engine.
    copying: Copying,
    /// Frames that were offered.
    seen: u64,
    unsynced: usize,
}

impl<'a> Target<'a> {
    /// Begins in an empty engine, or goes on where the same source was interrupted. With `start_over` what was left of an
    /// unfinished copy of whatever source goes first.
    pub(crate) fn begin(
        engine: &'a dyn Engine,
        source: [u8; 32],
        start_over: bool,
    ) -> Result<Self, BackupError> {
        let mut found = Copying::read(&*engine.snapshot()?)?;
        if found.is_some_and(|found| start_over || found.source == NOTHING) {
            discard_unfinished(engine)?;
            found = None;
        }
        let copying = match found {
            Some(found) if found.source == source => found,
            Some(_) => return Err(BackupError::OtherUnfinished),
            None => first(engine, source)?,
        };
        Ok(Self {
            engine,
            copying,
            seen: 0,
            unsynced: 0,
        })
    }

    /// Frames that were there already.
    pub(crate) fn parts(&self) -> u64 {
        self.copying.parts
    }

    /// Writes the rows of the next frame, if they are not there yet. The frame was checked.
    pub(crate) fn put(&mut self, frame: &[u8]) -> Result<(), BackupError> {
        self.seen += 1;
        if self.seen <= self.copying.parts {
            return Ok(());
        }
        let next = Copying {
            parts: self.seen,
            ..self.copying
        };
        let mut batch = Batch::new();
        self.copying.stage_next(&next, &mut batch);
        let put = RowRef::each(frame, |row| {
            batch.put(row.space, row.key, row.value);
            Ok(())
        });
        put.map_err(EngineError::corrupt)?;
        self.engine.write(&batch, Durability::Relaxed)?;
        self.copying = next;
        self.unsynced += frame.len();
        if self.unsynced >= limits::SYNC_BYTES {
            self.engine.flush()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Reads everything again, and makes the engine one that can be opened.
    pub(crate) fn finish(self, expected: &Report, new_device: bool) -> Result<(), BackupError> {
        let found = digest(&*self.engine.snapshot()?)?;
        if found.digest != expected.digest {
            discard_unfinished(self.engine)?;
            return Err(BackupError::Differs);
        }
        let mut batch = Batch::new();
        self.copying.stage_last(&mut batch);
        if new_device {
            format::stage_new_device(&mut batch);
        }
        Ok(self.engine.write(&batch, Durability::Durable)?)
    }
}

/// The first row of a copy, in an engine that has no other.
fn first(engine: &dyn Engine, source: [u8; 32]) -> Result<Copying, BackupError> {
    let snapshot = engine.snapshot()?;
    for space in Space::ALL {
        let row = for_each_row(&*snapshot, space, None, |_, _| Ok(ControlFlow::Break(())))?;
        if row.is_break() {
            return Err(BackupError::NotEmpty { space });
        }
    }
    let copying = Copying { source, parts: 0 };
    let mut batch = Batch::new();
    copying.stage_first(&mut batch);
    match engine.write(&batch, Durability::Durable) {
        Err(EngineError::PreconditionFailed { space, .. }) => Err(BackupError::NotEmpty { space }),
        written => {
            written?;
            Ok(copying)
        }
    }
}

/// Takes away what an unfinished restore or copy has left in an engine; says whether there was one. An engine without one
/// is left as it is.
///
/// O(rows), in batches; interrupted, it is to be called again.
///
/// # Errors
/// The engine's.
pub fn discard_unfinished(engine: &dyn Engine) -> Result<bool, BackupError> {
    let Some(found) = Copying::read(&*engine.snapshot()?)? else {
        return Ok(false);
    };
    let discarding = Copying {
        source: NOTHING,
        parts: 0,
    };
    let mut batch = Batch::new();
    found.stage_next(&discarding, &mut batch);
    engine.write(&batch, Durability::Durable)?;
    for space in Space::ALL {
        while let Some(batch) = removal(engine, space, &discarding)? {
            engine.write(&batch, Durability::Relaxed)?;
        }
    }
    let mut batch = Batch::new();
    discarding.stage_last(&mut batch);
    engine.write(&batch, Durability::Durable)?;
    Ok(true)
}

/// Takes away a page of rows; `None` where there are none.
fn removal(
    engine: &dyn Engine,
    space: Space,
    copying: &Copying,
) -> Result<Option<Batch>, BackupError> {
    let mut batch = Batch::new();
    let mut rows = 0;
    let _ = for_each_row(&*engine.snapshot()?, space, None, |key, _| {
        if !Copying::is_row(space, key) {
            batch.delete(space, key);
            rows += 1;
        }
        Ok(match rows < limits::PAGE_ROWS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    if batch.is_empty() {
        return Ok(None);
    }
    copying.stage_next(copying, &mut batch);
    Ok(Some(batch))
}
