//! Writing a backup.

use std::io::Write;

use eidetica_storage::log::format;
use eidetica_storage::{Engine, Space};

use crate::read::{END, PACKED, PLAIN, chained};
use crate::rows::{Tally, counted, for_each_frame};
use crate::{BackupError, Label, Report, Totals};

/// zstd's fastest level that is not a loss: packs, which are most of the bytes, are compressed already.
const LEVEL: i32 = 1;

/// Writes all rows of an engine as they are now, whatever others write meanwhile.
///
/// `id` is random and `created_ms` the time; `progress` is told after each frame how much there is so far. Memory is bounded
/// (see the [crate]). Costs one read of all rows, while which the snapshot lives: what is overwritten
/// meanwhile is kept by the engine until the end.
///
/// The stream is complete when this returns; whether it is durable is for the caller to see to.
///
/// # Errors
/// [`BackupError::NothingThere`], an engine that holds half of a copy, the engine's and the stream's.
pub fn write(
    engine: &dyn Engine,
    id: [u8; 16],
    created_ms: u64,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Totals),
) -> Result<Report, BackupError> {
    let snapshot = engine.snapshot()?;
    let label = Label {
        id,
        created_ms,
        rows_format: format::stored(&*snapshot)?.ok_or(BackupError::NothingThere)?,
        engine: engine.info().name.to_owned(),
    };
    let (chain, written) = label.write(out)?;
    let mut frames = Frames {
        out,
        chain,
        written,
        packer: zstd::bulk::Compressor::new(LEVEL).map_err(BackupError::Write)?,
    };
    let mut tally = Tally::new();
    for_each_frame(&*snapshot, &Space::ALL, None, |frame| {
        counted(&mut tally, frame)?;
        frames.rows(frame)?;
        progress(&tally.totals);
        Ok(())
    })?;
    drop(snapshot);
    frames.end(&tally)?;
    frames.out.flush().map_err(BackupError::Write)?;
    Ok(tally.report(frames.written))
}

struct Frames<'a> {
    out: &'a mut dyn Write,
    chain: [u8; 32],
    written: u64,
    packer: zstd::bulk::Compressor<'static>,
}

impl Frames<'_> {
    fn rows(&mut self, frame: &[u8]) -> Result<(), BackupError> {
        let packed = self.packer.compress(frame).map_err(BackupError::Write)?;
        match packed.len() < frame.len() {
            true => self.put(PACKED, frame.len(), &packed),
            false => self.put(PLAIN, frame.len(), frame),
        }
    }

    fn end(&mut self, tally: &Tally) -> Result<(), BackupError> {
        let end = encode_end(&tally.totals, &tally.digest().0);
        self.put(END, end.len(), &end)
    }

    fn put(&mut self, kind: u8, len: usize, stored: &[u8]) -> Result<(), BackupError> {
        let mut head = vec![kind];
        head.extend_from_slice(&(len as u32).to_le_bytes());
        head.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        self.chain = chained(&self.chain, &head, stored);
        for part in [head.as_slice(), stored, &self.chain] {
            self.out.write_all(part).map_err(BackupError::Write)?;
            self.written += part.len() as u64;
        }
        Ok(())
    }
}

/// What the last frame says.
pub(crate) fn encode_end(totals: &Totals, digest: &[u8; 32]) -> Vec<u8> {
    let mut end = totals.frames.to_le_bytes().to_vec();
    for (rows, bytes) in totals.rows.iter().zip(&totals.bytes) {
        end.extend_from_slice(&rows.to_le_bytes());
        end.extend_from_slice(&bytes.to_le_bytes());
    }
    end.extend_from_slice(digest);
    end
}
