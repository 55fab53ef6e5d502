//! How much a database may hold here. A setting of this instance: no peer hears of it.
//!
//! Counted are the bytes of the entries, each encoded by itself. What does not fit is refused as a whole: a commit
//! before it is signed, entries of peers with an error that blames nobody, so that they are sent again and come in when
//! there is room. A database that is full is read, and passed on, as before.

use eidetica_storage::Batch;

pub use eidetica_storage::log::Quota;

use crate::core::{Sequencer, Written};
use crate::error::{Error, Result};
use crate::{Database, limits};

impl Database {
    /// How much the database may hold and holds; `None` without a limit, which is how it begins.
    ///
    /// # Errors
    /// The engine's.
    pub fn quota(&self) -> Result<Option<Quota>> {
        let snapshot = self.shared().engine.snapshot()?;
        Ok(self.core().log.reader(&*snapshot).quota()?)
    }

    /// Limits how many bytes of entries the database may hold, or ends that. What it holds stays, however much that is.
    ///
    /// The first limit costs reading all entries, under the database's lock.
    ///
    /// # Errors
    /// The engine's.
    pub fn set_quota(&self, limit: Option<u64>) -> Result<()> {
        self.racing(|| {
            let mut sequencer = self.core().sequence()?;
            self.drain(&mut sequencer)?;
            let bytes = match (sequencer.writer.quota(), limit) {
                (Some(quota), _) => quota.bytes,
                (None, Some(_)) => self.entry_bytes()?,
                (None, None) => return Ok(()),
            };
            let mut batch = Batch::new();
            let mut stage = sequencer.writer.stage();
            stage.set_quota(limit.map(|limit| Quota { limit, bytes }));
            let state = stage.finish(&mut batch)?;
            let written = Written::new(sequencer.next_batch(), &state);
            self.write_locked(&mut sequencer, batch, written)
        })
    }

    fn entry_bytes(&self) -> Result<u64> {
        let snapshot = self.shared().engine.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let (mut next, mut bytes) = (0, 0);
        loop {
            let entries = reader.entries_from(next, limits::INGEST_GROUP)?;
            if entries.is_empty() {
                return Ok(bytes);
            }
            next += entries.len() as u64;
            bytes += entries
                .iter()
                .map(|entry| entry.encoded_len() as u64)
                .sum::<u64>();
        }
    }
}

impl Sequencer {
    /// # Errors
    /// [`Error::Full`] if the database may not hold so many bytes of entries more.
    pub(crate) fn check_room(&self, more: usize) -> Result<()> {
        match self.writer.quota() {
            Some(quota) if !quota.admits(more as u64) => Err(Error::Full {
                limit: quota.limit,
                bytes: quota.bytes,
                more: more as u64,
            }),
            _ => Ok(()),
        }
    }
}
