//! Repair: what follows from the entries is computed from them again.
//!
//! The entries are the truth, and everything else in the engine can be derived from them: the index, the heights, the
//! version row, what is void, the state. While the log's rows are derived the database has no version row, so nobody
//! reads or writes it, in any process, and a crash leaves it so until the repair is run again. The batch that puts the
//! version row back says that no state is applied yet; who reads then waits for it, as after a large ingest.
//!
//! What cannot be derived are the entries themselves: a repair leaves all as it is where one of them is damaged.

use std::collections::BTreeSet;

use eidetica_entry::{Id, Ids, Stamp};
use eidetica_storage::log::repair::{Rebuilt, Survey};
use eidetica_storage::log::{CacheSize, DatabaseLog, EntryLog, LogError, Marks};
use eidetica_storage::{Batch, Direction, Durability, KeyRange, Space};

use crate::authority::Authority;
use crate::core::{STORES, registry_prefix};
use crate::error::{Error, Result};
use crate::known::Known;
use crate::past::arrivals;
use crate::shared::CREATION;
use crate::standing::advance;
use crate::verify::{Ends, void};
use crate::{Database, Databases, limits, registry, seal};

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Entries from which all was derived.
    pub entries: u64,
    /// Rows of the index and about heights that were wrong.
    pub index_rows: u64,
    /// Entries that are void.
    pub void: u64,
}

impl Repaired {
    fn add(&mut self, more: Self) {
        self.entries += more.entries;
        self.index_rows += more.index_rows;
        self.void += more.void;
    }
}

impl Databases {
    /// Computes everything that is stored of a database but its entries again, from the entries, and takes the place of
    /// what was there; of its closure too, where that is here. Does nothing where an entry is damaged but to take note of
    /// it, so that peers are asked for it; see [`mend`](Self::mend).
    ///
    /// Costs reading all entries some times and writing the state. Whoever reads or writes the database meanwhile waits
    /// or gets [`Error::Repairing`]. After a crash it has to be run again, until when that error stays.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], a damaged entry, the engine's.
    pub fn repair(&self, id: &Id) -> Result<Repaired> {
        let (mut all, mut failed) = (Repaired::default(), None);
        for log in self.logs_of(id)? {
            // What is damaged of one is no reason to leave the other.
            match self.repair_log(&log) {
                Ok(repaired) => all.add(repaired),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(all), Err)
    }

    /// Repairs these as [`repair`](Self::repair) does, in the order in which they can be: a database is judged by those
    /// that its settings name, which may be damaged too. Says what became of each.
    pub fn repair_all(&self, ids: Vec<Id>) -> Vec<(Id, Result<Repaired>)> {
        let (mut done, mut open) = (Vec::new(), ids);
        loop {
            let tried = open.into_iter().map(|id| (id, self.repair(&id)));
            let (right, failed): (Vec<_>, Vec<_>) = tried.partition(|(_, tried)| tried.is_ok());
            let is_stuck = right.is_empty();
            done.extend(right);
            if is_stuck || failed.is_empty() {
                done.extend(failed);
                return done;
            }
            open = failed.into_iter().map(|(id, _)| id).collect();
        }
    }

    /// A database and its closure, as far as they are here.
    pub(crate) fn logs_of(&self, id: &Id) -> Result<Vec<DatabaseLog>> {
        let found = [self.log().database(id)?, self.log().closure(id)?];
        let found: Vec<DatabaseLog> = found.into_iter().flatten().collect();
        match found.is_empty() {
            true => Err(Error::NoDatabase(*id)),
            false => Ok(found),
        }
    }

    pub(crate) fn open_log(&self, log: &DatabaseLog) -> Result<Database> {
        let found = match log.is_closure() {
            true => self.closure(&log.id())?,
            false => self.find(&log.id())?,
        };
        found.ok_or(Error::NoDatabase(log.id()))
    }

    pub(crate) fn repair_log(&self, log: &DatabaseLog) -> Result<Repaired> {
        // Another process may repair it too, and be ready sooner.
        let repaired = self.shared().racing(|| match self.open_log(log) {
            Ok(database) => database.rebuild_locked(),
            // Nobody can have opened it either.
            Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_)) => self.rebuild(log),
            Err(error) => Err(error),
        });
        if let Err(Error::Corrupt(_) | Error::NoEntry(_)) = repaired {
            self.note_lost(log)?;
        }
        let repaired = repaired?;
        let database = self.open_log(log)?;
        database.core().note_whole();
        database.catch_up()?;
        Ok(repaired)
    }

    /// A log of its own, so that no cached pack hides a damaged row.
    pub(crate) fn uncached(&self, log: &DatabaseLog) -> Result<DatabaseLog> {
        let engine = std::sync::Arc::clone(&self.shared().rows);
        let fresh = EntryLog::open(engine, CacheSize(limits::VERIFY_CACHE_BYTES))?;
        fresh.same(log)?.ok_or(Error::NoDatabase(log.id()))
    }

    fn rebuild(&self, log: &DatabaseLog) -> Result<Repaired> {
        self.rebuild_once(log).map_err(|error| match error {
            // It was ended by somebody else.
            Error::Repairing(_) => Error::Overtaken,
            error => error,
        })
    }

    fn rebuild_once(&self, log: &DatabaseLog) -> Result<Repaired> {
        let shared = self.shared();
        let log = self.uncached(log)?;
        // What is damaged is left as it is.
        let snapshot = shared.rows.snapshot()?;
        let survey = log.survey(&*snapshot, |_, _| Ok(()))?;
        log.check_end(&*snapshot, &survey)?;
        drop(snapshot);
        self.begin_repair(&log)?;
        // Until then others may have written.
        let survey = log.survey(&*shared.rows.snapshot()?, |_, _| Ok(()))?;
        let index_rows = self.repair_index(&log, &survey)?;
        let rebuilt = match self.derive(&log, &survey) {
            Err(error @ (Error::Corrupt(_) | Error::NoEntry(_))) => {
                self.give_up_repair(&log, &survey)?;
                return Err(error);
            }
            rebuilt => rebuilt?,
        };
        self.end_repair(&log, &survey, &rebuilt)?;
        Ok(Repaired {
            entries: survey.entries,
            index_rows,
            void: rebuilt.void.len(),
        })
    }

    /// What it delegates to may be what is damaged: then it is of more use as it was.
    fn give_up_repair(&self, log: &DatabaseLog, survey: &Survey) -> Result<()> {
        let mut batch = Batch::new();
        if log.stage_unrepaired(survey, &mut batch)? {
            let group = &self.shared().group;
            group.write(CREATION, batch, Durability::Durable)?;
        }
        Ok(())
    }

    fn begin_repair(&self, log: &DatabaseLog) -> Result<()> {
        let shared = self.shared();
        shared.racing(|| {
            let mut batch = Batch::new();
            let snapshot = shared.rows.snapshot()?;
            log.stage_repair(&*snapshot, &mut batch)?;
            Ok(shared.group.write(CREATION, batch, Durability::Durable)?)
        })
    }

    fn repair_index(&self, log: &DatabaseLog, survey: &Survey) -> Result<u64> {
        let shared = self.shared();
        let snapshot = shared.rows.snapshot()?;
        let mut write = |batch| {
            let written = shared.group.write(CREATION, batch, Durability::Relaxed);
            written.map_err(LogError::from)
        };
        let mut rows = log.repair_heights(&*snapshot, survey, &mut write)?;
        // Ids are evenly spread.
        let parts = (survey.entries / limits::REPAIR_IDS + 1).min(BYTES);
        for part in 0..parts {
            let bound = |part| u16::try_from(part * BYTES / parts).unwrap_or(u16::MAX);
            let within = (bound(part), bound(part + 1));
            rows += log.repair_index(&*snapshot, within, &mut write)?;
        }
        Ok(rows)
    }

    /// What follows from the entries and their places.
    fn derive(&self, log: &DatabaseLog, survey: &Survey) -> Result<Rebuilt> {
        let snapshot = self.shared().rows.snapshot()?;
        let mut state = survey.state();
        let reader = log.reader_assuming(&*snapshot, state.clone());
        let (mut settings, mut below) = (Ids::new(), Marks::default());
        let mut next = 0;
        while next < survey.entries {
            let entries = reader.entries_from(next, limits::INGEST_GROUP)?;
            let mut parents = BTreeSet::new();
            for entry in &entries {
                let header = entry.header();
                parents.extend(header.parents.iter().copied());
                if header.writes_settings() {
                    settings = advance(&settings, entry.id(), header);
                }
            }
            let parents: Vec<Id> = parents.into_iter().collect();
            for parent in arrivals(&parents, &reader)? {
                below.set(parent, true);
            }
            next += entries.len() as u64;
        }
        let mut heads = Vec::new();
        for arrival in (0..survey.entries).filter(|arrival| !below.contains(*arrival)) {
            heads.push(reader.at(arrival)?.stamp());
        }
        heads.sort_unstable();
        state.settings = settings.to_vec();
        state.tips.clone_from(&heads);
        let reader = log.reader_assuming(&*snapshot, state.clone());
        let known = Known::new(self.shared(), log.id(), &reader);
        let ids: Vec<Id> = heads.iter().map(|head: &Stamp| head.id).collect();
        let void = void(&Authority::default(), &known, &settings, &ids)?;
        let ends = match void.is_empty() {
            true => Ends {
                tips: heads.into_iter().collect(),
                ..Ends::default()
            },
            false => Ends::of(&reader, &void, &state)?,
        };
        Ok(Rebuilt {
            settings: state.settings,
            tips: ends.tips.into_iter().collect(),
            void,
            loose: ends.loose,
            leaves: ends.leaves,
            authors: ends.authors,
        })
    }

    fn end_repair(&self, log: &DatabaseLog, survey: &Survey, rebuilt: &Rebuilt) -> Result<()> {
        let shared = self.shared();
        let mut batch = Batch::new();
        let snapshot = shared.rows.snapshot()?;
        log.stage_rebuilt(&*snapshot, survey, rebuilt, &mut batch)?;
        // Stores get a number anew when their state is written.
        let prefix = registry_prefix(log);
        let range = KeyRange::prefix(prefix.clone());
        let _ = snapshot.for_each::<(), Error>(Space::Meta, &range, Direction::Forward, |row| {
            if !registry::is_sound(&row, &prefix) {
                batch.delete(Space::Meta, &row.key);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(shared.group.write(CREATION, batch, Durability::Durable)?)
    }
}

impl Databases {
    /// Makes the rows that lead to databases right, and takes away damaged ones that belong to none; says how many
    /// were wrong.
    ///
    /// # Errors
    /// The engine's.
    pub fn repair_directory(&self) -> Result<u64> {
        let shared = self.shared();
        let _creating = shared.creating.lock();
        let mut wrong = self.log().repair_directory()?;
        let listed = self
            .log()
            .databases()?
            .into_iter()
            .chain(self.log().closures()?);
        let listed: BTreeSet<[u8; 4]> = listed.map(|log| log.no().prefix()).collect();
        let (snapshot, mut batch) = (shared.rows.snapshot()?, Batch::new());
        let range = KeyRange::prefix(STORES);
        let _ = snapshot.for_each::<(), Error>(Space::Meta, &range, Direction::Forward, |row| {
            let rest = row.key.get(STORES.len()..).unwrap_or_default();
            let is_here = rest.first_chunk().is_some_and(|no| listed.contains(no));
            if !is_here && !seal::is_sealed(&row) {
                wrong += 1;
                batch.delete(Space::Meta, &row.key);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        drop(snapshot);
        if !batch.is_empty() {
            shared.group.write(CREATION, batch, Durability::Durable)?;
        }
        Ok(wrong)
    }
}

/// Values of the first byte of an id.
const BYTES: u64 = 256;

impl Database {
    /// Repairs the database while nobody of this process stages anything, and readers wait.
    fn rebuild_locked(&self) -> Result<Repaired> {
        let databases = Databases::of(self.shared());
        let mut sequencer = self.core().lock_sequencer();
        self.core().check_here()?;
        // What is staged is written by now, or refused.
        self.shared().group.renew(self.lane())?;
        self.core().set_behind(true);
        let repaired = databases.rebuild(&self.core().log);
        // What was staged on is gone; the next one loads what is there now.
        *sequencer = None;
        repaired
    }
}
