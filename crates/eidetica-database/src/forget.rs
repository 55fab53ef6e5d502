//! Forgetting a whole database: nobody finds it from one batch on, and its rows go a bounded part at a time.
//!
//! It is forgotten here alone: peers that have it keep it, and one that brings it again begins it anew. What other
//! databases here need of its authority stays as a closure, so that no verdict changes.

use std::sync::Arc;

use eidetica_entry::Id;
use eidetica_entry::dag::Budget;
use eidetica_storage::log::forget::{AsFound, Swept};
use eidetica_storage::log::{DatabaseLog, DbNo, Named};
use eidetica_storage::{Batch, Durability, KeyRange, Space};

use crate::core::{Core, registry_prefix_of};
use crate::error::{Error, Result};
use crate::holds::key as holds_key;
use crate::ingest::IngestRequest;
use crate::shared::CREATION;
use crate::spool::spooled_rows;
use crate::{Database, Databases, limits};

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Whether headers and settings stay as a closure, because other databases here delegate to it.
    pub keeps_authority: bool,
}

impl Forgotten {
    fn add(&mut self, swept: Swept) {
        self.rows += swept.rows;
        self.bytes += swept.bytes;
    }
}

impl Databases {
    /// Takes a database away: its entries, its state, and what is staged or spooled for it. Handles that are open find
    /// it gone ([`Error::NoDatabase`]). Damage in it is no obstacle, unless others delegate to it.
    ///
    /// After a crash it is there as a whole, or is gone, and then the rest of its rows goes when the instance is opened
    /// again. Costs reading its rows once.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's; where other databases here delegate to it, that its headers and settings
    /// cannot be kept.
    pub fn forget(&self, id: &Id) -> Result<Forgotten> {
        let log = self.log().database(id)?.ok_or(Error::NoDatabase(*id))?;
        let keeps_authority = self.end(log)?;
        // What it named may be named no more.
        *self.shared().names.lock() = None;
        let mut forgotten = self.sweep(u64::MAX)?;
        forgotten.keeps_authority = keeps_authority;
        Ok(forgotten)
    }

    /// Writes the end of a database; says whether its closure stays. Where others write to it, or name it, meanwhile, that
    /// is looked at again: what entries may pin of it must be in the closure.
    fn end(&self, log: DatabaseLog) -> Result<bool> {
        let id = log.id();
        let mut closed = None;
        self.shared().racing(|| {
            let named = self.log().named(&*self.shared().rows.snapshot()?)?;
            let keeps_authority = self.is_delegated_to(&id)?;
            let kept = match keeps_authority {
                true => Some(self.keep_closure(&id)?),
                false => None,
            };
            let end = End {
                log: log.clone(),
                named,
                kept,
            };
            let ended = self
                .find(&id)
                .and_then(|found| found.ok_or(Error::NoDatabase(id))?.end(&end));
            match ended {
                // Nobody can commit to it either.
                Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_)) => {
                    self.write_end(&end)?;
                    if let Some(core) = self.shared().open.get(&id) {
                        core.note_gone();
                    }
                }
                ended => {
                    if ended.as_ref().is_err_and(Error::is_lost_race) && closed.is_none() {
                        // Whoever writes all the time would be faster each time.
                        closed = self.shared().open.get(&id).map(Closed::new);
                    }
                    ended?;
                }
            }
            Ok(keeps_authority)
        })
    }

    /// Takes away rows of databases that were forgotten, in at most so many batches. Without any, one row lookup. Rows
    /// that the engine cannot read stay, and keep nothing else from going on.
    pub(crate) fn sweep(&self, batches: u64) -> Result<Forgotten> {
        let mut forgotten = Forgotten::default();
        let mut left = batches;
        for (no, id) in self.log().ended()? {
            while left > 0 {
                left -= 1;
                let swept = match self.sweep_part(no) {
                    Err(error @ Error::Corrupt(_)) => {
                        tracing::warn!(database = %id, %error, "rows of a forgotten database stay");
                        break;
                    }
                    swept => swept?,
                };
                forgotten.add(swept);
                if swept.is_last {
                    break;
                }
            }
        }
        Ok(forgotten)
    }

    fn sweep_part(&self, no: DbNo) -> Result<Swept> {
        let also = [
            (Space::Meta, KeyRange::prefix(registry_prefix_of(no))),
            spooled_rows(no),
        ];
        let mut batch = Batch::new();
        let swept = self.log().stage_sweep(no, &also, &mut batch)?;
        // A crash loses a suffix of it, which goes then.
        let durability = match swept.is_last {
            true => self.shared().durability,
            false => Durability::Relaxed,
        };
        self.shared().group.write(CREATION, batch, durability)?;
        Ok(swept)
    }

    fn write_end(&self, end: &End) -> Result<()> {
        let (shared, log) = (self.shared(), &end.log);
        let mut batch = Batch::new();
        let snapshot = shared.rows.snapshot()?;
        let found = match &end.kept {
            Some(found) => found.clone(),
            None => log.as_found(&*snapshot)?,
        };
        self.log()
            .stage_end(log, &found, &end.named, &*snapshot, &mut batch)?;
        drop(snapshot);
        batch.delete(Space::Meta, &holds_key(&log.id()));
        Ok(shared.group.write(CREATION, batch, Durability::Durable)?)
    }

    /// Whether settings of another database here, or of a closure, have ever named it. One that is damaged names nothing.
    fn is_delegated_to(&self, id: &Id) -> Result<bool> {
        let names =
            |other: Result<Option<Database>>| {
                let authority = other.and_then(|found| found.map(|db| db.authority()).transpose());
                match authority {
                    Ok(state) => Ok(state
                        .is_some_and(|state| state.delegated_databases().any(|named| named == id))),
                    Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::NoDatabase(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            };
        for other in self.list()? {
            if other != *id && names(self.find(&other))? {
                return Ok(true);
            }
        }
        for closure in self.log().closures()? {
            if names(self.closure(&closure.id()))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts all headers and settings of a database into its closure; says how the database was found that it has all of.
    fn keep_closure(&self, id: &Id) -> Result<AsFound> {
        let database = self.get(id)?;
        let log = &database.core().log;
        let here = self.closure(id)?.map(|closure| closure.heads());
        let here = here.transpose()?.unwrap_or_default();
        let (found, difference) = {
            let snapshot = self.shared().rows.snapshot()?;
            let reader = log.reader(&*snapshot);
            // The closure may have more.
            let known = here.iter().zip(reader.contains_many(&here)?);
            let not: Vec<Id> = known
                .filter_map(|(id, known)| known.then_some(*id))
                .collect();
            let difference = reader.difference(&reader.heads()?, &not, &mut Budget::unlimited())?;
            (log.as_found(&*snapshot)?, difference)
        };
        let mut next = Some(0).filter(|_| !difference.is_empty());
        while let Some(from) = next {
            // What has its place in it keeps that.
            let snapshot = self.shared().rows.snapshot()?;
            let reader = log.reader(&*snapshot);
            let page = reader.packs_without_data(&difference, from, limits::DIFFERENCE_BYTES)?;
            drop(snapshot);
            let report = self.ingest_closure(*id, &IngestRequest::new(*id, &page.packs), &mut 1)?;
            if let Some((_, reason)) = report.bad_packs.into_iter().next() {
                return Err(Error::Corrupt(reason));
            }
            next = page.next;
        }
        Ok(found)
    }
}

/// The end of a database, as it was decided.
struct End {
    log: DatabaseLog,
    /// From before anything was looked for that names it.
    named: Named,
    /// How it was when its closure had all of it, if that stays.
    kept: Option<AsFound>,
}

/// Keeps others of this process from beginning to write to a database while it is there.
struct Closed(Arc<Core>);

impl Closed {
    fn new(core: Arc<Core>) -> Self {
        core.set_closed(true);
        Self(core)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.set_closed(false);
    }
}

impl Database {
    /// Writes the end of the database behind all that was staged before.
    fn end(&self, end: &End) -> Result<()> {
        let mut sequencer = self.core().last_sequence()?;
        self.drain(&mut sequencer)?;
        let ended = Databases::of(self.shared()).write_end(end);
        sequencer.fail();
        if ended.is_ok() {
            self.core().note_gone();
        }
        ended
    }

    /// Entries that are nobody's parents, effective or void.
    fn heads(&self) -> Result<Vec<Id>> {
        let snapshot = self.shared().rows.snapshot()?;
        Ok(self.core().log.reader(&*snapshot).heads()?)
    }
}
