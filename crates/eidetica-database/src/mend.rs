//! Damaged entries: which they are, and how they come back.
//!
//! What holds an entry can be damaged, and then nothing here leads to it; its id is still known by the index. The very
//! same entry is as good from anywhere: another store, or any peer. Once a repair was refused for it, a sync asks for it
//! before it compares anything, and when the last one is back the repair is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eidetica_auth::{AuthRecord, SettingsPayload};
use eidetica_entry::{Entry, Id, StoreName};
use eidetica_storage::log::repair::Lost;
use eidetica_storage::log::{DatabaseLog, LogError};
use eidetica_storage::{Batch, Durability};
use parking_lot::Mutex;

use crate::core::Core;
use crate::error::{Error, Reject, Result};
use crate::ingest::{IngestReport, forged};
use crate::shared::CREATION;
use crate::{Database, Databases, limits};

/// What became of damaged entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mended {
    /// Entries that are back in their places.
    pub restored: u64,
    /// Entries that are still lost: their ids, as far as the index of ids knows them.
    pub lost: Vec<Id>,
    /// Entries that are still lost and of which not even the id is known.
    pub unknown: u64,
}

impl Mended {
    fn add_lost(&mut self, lost: Vec<Lost>) {
        for lost in lost {
            self.unknown += (lost.end - lost.first) - lost.ids.len() as u64;
            self.lost.extend(lost.ids.into_values());
        }
    }
}

/// What a database that is open knows of its damaged entries.
#[derive(Default)]
pub(crate) struct Damage {
    /// Whether a repair was refused for some.
    noted: AtomicBool,
    /// Which they are, once that was asked.
    lost: Mutex<Option<LostEntries>>,
}

/// Where lost entries were, by their ids.
pub(crate) type Places = Arc<HashMap<Id, u64>>;

/// Lost entries, so that some of them cost no look at the others.
struct LostEntries {
    /// By their first arrival numbers.
    runs: BTreeMap<u64, Lost>,
    /// Of all that were lost when this was made.
    places: Places,
}

impl LostEntries {
    fn new(lost: Vec<Lost>) -> Self {
        let ids = lost.iter().flat_map(|lost| &lost.ids);
        let places = ids.map(|(arrival, id)| (*id, *arrival)).collect();
        let mut entries = Self {
            runs: BTreeMap::new(),
            places: Arc::new(places),
        };
        entries.put(lost);
        entries
    }

    fn put(&mut self, lost: Vec<Lost>) {
        self.runs
            .extend(lost.into_iter().map(|lost| (lost.first, lost)));
    }

    /// Takes out, of each run that has some of these numbers, the part from the first to the last of them.
    fn take(&mut self, arrivals: &BTreeSet<u64>) -> Vec<Lost> {
        let (mut taken, mut next) = (Vec::new(), arrivals.first());
        while let Some(first) = next {
            let run = self.runs.range(..=first).next_back();
            let run = run.filter(|(_, run)| *first < run.end).map(|(at, _)| *at);
            let Some(run) = run.and_then(|at| self.runs.remove(&at)) else {
                next = arrivals.range(first + 1..).next();
                continue;
            };
            next = arrivals.range(run.end..).next();
            let last = arrivals.range(..run.end).next_back().unwrap_or(first);
            let (before, rest) = split(run, *first);
            let (part, behind) = split(rest, last + 1);
            taken.push(part);
            let others = [before, behind].into_iter();
            self.put(others.filter(|run| run.first < run.end).collect());
        }
        taken
    }
}

/// What is lost before an arrival number, and the rest.
fn split(mut lost: Lost, at: u64) -> (Lost, Lost) {
    let rest = Lost {
        first: at,
        ids: lost.ids.split_off(&at),
        end: lost.end,
    };
    lost.end = at;
    (lost, rest)
}

impl Damage {
    pub(crate) fn new(noted: bool) -> Self {
        Self {
            noted: AtomicBool::new(noted),
            lost: Mutex::default(),
        }
    }
}

impl Core {
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.noted.load(Ordering::Acquire)
    }

    pub(crate) fn note_whole(&self) {
        self.damage.noted.store(false, Ordering::Release);
        *self.damage.lost.lock() = None;
    }

    fn note_damage(&self) {
        *self.damage.lost.lock() = None;
        self.damage.noted.store(true, Ordering::Release);
    }
}

impl Databases {
    /// The entries of a database, and of its closure, that are damaged: their ids, as far as the index knows them, and
    /// how many others there are. Reads all entries.
    ///
    /// # Errors
    /// [`NoDatabase`](crate::Error::NoDatabase), a damaged version row, the engine's.
    pub fn lost(&self, id: &Id) -> Result<Mended> {
        self.mend(id, |_| Ok(None))
    }

    /// Puts entries that are damaged back in their places, as `find` gives them, from wherever. Only the very same entries
    /// are taken, with their signatures and settings.
    ///
    /// # Errors
    /// [`NoDatabase`](crate::Error::NoDatabase), a damaged version row, the engine's, those of `find`.
    pub fn mend(
        &self,
        id: &Id,
        mut find: impl FnMut(&Id) -> Result<Option<Entry>>,
    ) -> Result<Mended> {
        let mut mended = Mended::default();
        for log in self.logs_of(id)? {
            let log = self.uncached(&log)?;
            let lost = log.lost(&*self.shared().rows.snapshot()?)?;
            let (restored, rest) = self.mend_log(&log, lost, &mut find)?;
            mended.restored += restored;
            mended.add_lost(rest);
        }
        Ok(mended)
    }

    /// An entry of a database that is here, or of its closure.
    ///
    /// # Errors
    /// The engine's; a damaged row, unless the other one has it.
    pub fn entry(&self, database: &Id, id: &Id) -> Result<Option<Entry>> {
        let in_database = self.find(database).and_then(|found| match found {
            Some(database) => database.get(id),
            None => Ok(None),
        });
        match in_database {
            Ok(Some(entry)) => Ok(Some(entry)),
            other => match self.closure(database)? {
                Some(closure) => closure.get(id),
                None => other,
            },
        }
    }

    /// The entries of a database, and of closures that it needs, for which a repair was refused and that are not back, at
    /// most `limit`: what to ask peers for. Nothing where none was; else reads all entries the first time.
    ///
    /// # Errors
    /// [`NoDatabase`](crate::Error::NoDatabase), a damaged version row, the engine's.
    pub fn damaged(&self, database: &Id, limit: usize) -> Result<Vec<Id>> {
        let database = self.get(database)?;
        let mut ids = database.damaged_ids(limit)?;
        for closure in self.closures_below(&database)? {
            let room = limit.saturating_sub(ids.len());
            ids.extend(closure.damaged_ids(room.min(limits::CLOSURE_MENDED))?);
        }
        Ok(ids)
    }

    /// The closures of the databases that one delegates to, directly or by way of others, as far as that can be read.
    fn closures_below(&self, database: &Database) -> Result<Vec<Database>> {
        let delegated = self.delegated(database)?;
        let closures = delegated.iter().map(|id| self.closure(id).transpose());
        closures.flatten().collect()
    }

    /// The databases that one delegates to, directly or by way of others, as far as that can be read.
    pub(crate) fn delegated(&self, database: &Database) -> Result<BTreeSet<Id>> {
        let (mut found, mut open) = (BTreeSet::new(), vec![database.clone()]);
        while let Some(database) = open.pop() {
            let delegated = match database.authority() {
                // One of them may be what is damaged.
                Err(Error::Corrupt(_) | Error::NoEntry(_)) => database.named_in_settings()?,
                authority => authority?.delegated_databases().copied().collect(),
            };
            for id in delegated {
                if found.len() < limits::CLOSURES && found.insert(id) {
                    open.extend(self.closure(&id)?);
                }
            }
        }
        Ok(found)
    }

    /// Takes note of it if entries are lost.
    pub(crate) fn note_lost(&self, log: &DatabaseLog) -> Result<()> {
        let shared = self.shared();
        let lost = self.uncached(log)?.lost(&*shared.rows.snapshot()?);
        match lost {
            Ok(lost) if lost.is_empty() => return Ok(()),
            Ok(_) => {}
            // What they are cannot be said.
            Err(LogError::Corrupt { .. } | LogError::Repairing(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut batch = Batch::new();
        log.stage_lost(&mut batch);
        shared.group.write(CREATION, batch, Durability::Durable)?;
        if let Ok(database) = self.open_log(log) {
            database.core().note_damage();
        }
        Ok(())
    }

    /// Puts lost entries back as they are found, in runs; says how many, and what is still lost.
    fn mend_log(
        &self,
        log: &DatabaseLog,
        lost: Vec<Lost>,
        find: &mut impl FnMut(&Id) -> Result<Option<Entry>>,
    ) -> Result<(u64, Vec<Lost>)> {
        let shared = self.shared();
        let (mut restored, mut rest) = (0, Vec::new());
        for lost in lost {
            let mut next = lost.first;
            while next < lost.end {
                let end = lost.end.min(next + limits::MEND_ENTRIES);
                let mut found = self.found_in(log, &lost, next..end, find)?;
                while next < end {
                    let run: Vec<Entry> = (next..end).map_while(|at| found.remove(&at)).collect();
                    if run.is_empty() {
                        keep_lost(&mut rest, &lost, next);
                        next += 1;
                        continue;
                    }
                    shared.racing(|| {
                        let mut batch = Batch::new();
                        let snapshot = shared.rows.snapshot()?;
                        log.stage_mended(&*snapshot, &lost, next, &run, &mut batch)?;
                        Ok(shared.group.write(CREATION, batch, Durability::Durable)?)
                    })?;
                    restored += run.len() as u64;
                    next += run.len() as u64;
                }
            }
        }
        Ok((restored, rest))
    }

    /// Those of some lost entries that are found as they were, by their arrival numbers.
    fn found_in(
        &self,
        log: &DatabaseLog,
        lost: &Lost,
        arrivals: Range<u64>,
        find: &mut impl FnMut(&Id) -> Result<Option<Entry>>,
    ) -> Result<BTreeMap<u64, Entry>> {
        let mut found = BTreeMap::new();
        for (arrival, id) in lost.ids.range(arrivals) {
            if let Some(entry) = find(id)?.filter(|entry| is_it(entry, id)) {
                let entry = match log.is_closure() {
                    true => entry.without_data(),
                    false => entry,
                };
                found.insert(*arrival, entry);
            }
        }
        let all: Vec<&Entry> = found.values().collect();
        let forged: BTreeSet<usize> = forged(&all, self.shared().entropy.seed())
            .into_iter()
            .collect();
        let signed = found.into_iter().enumerate();
        let signed = signed.filter(|(at, _)| !forged.contains(at));
        Ok(signed.map(|(_, found)| found).collect())
    }
}

/// Whether an entry is the one that was lost, as far as a database must have it.
fn is_it(entry: &Entry, id: &Id) -> bool {
    let settings = entry.payload(&StoreName::settings());
    entry.id() == *id && (settings.is_some() || !entry.header().writes_settings())
}

/// Adds an arrival number to what is lost still.
fn keep_lost(rest: &mut Vec<Lost>, lost: &Lost, arrival: u64) {
    let known = lost.ids.get(&arrival).map(|id| (arrival, *id));
    match rest.last_mut().filter(|last| last.end == arrival) {
        Some(last) => {
            last.end += 1;
            last.ids.extend(known);
        }
        None => rest.push(Lost {
            first: arrival,
            ids: known.into_iter().collect(),
            end: arrival + 1,
        }),
    }
}

impl Database {
    /// Whether a repair was refused for damaged entries, of this database or of a closure that it needs, that are not
    /// back; see [`Databases::damaged`]. O(delegated databases), one row each where other processes may use the engine.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_damaged(&self) -> Result<bool> {
        if self.is_losing()? {
            return Ok(true);
        }
        let closures = Databases::of(self.shared()).closures_below(self)?;
        for closure in closures {
            if closure.is_losing()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where other processes may use the engine, one row.
    fn is_losing(&self) -> Result<bool> {
        if self.shared().has_others() {
            let noted = self
                .core()
                .log
                .is_losing(&*self.shared().rows.snapshot()?)?;
            match noted {
                false => self.core().note_whole(),
                true if !self.core().is_damaged() => self.core().note_damage(),
                true => {}
            }
        }
        Ok(self.core().is_damaged())
    }

    /// The databases that settings entries name, judged or not, as far as they can be read. O(settings entries).
    fn named_in_settings(&self) -> Result<BTreeSet<Id>> {
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let mut open = reader.state()?.settings;
        let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let entry = match reader.get(&id) {
                Err(LogError::Corrupt { .. }) => continue,
                entry => entry?,
            };
            let Some(entry) = entry else { continue };
            open.extend(entry.header().settings.iter());
            let settings = entry.payload(&StoreName::settings());
            let Some(Ok(settings)) = settings.map(|settings| SettingsPayload::decode(settings))
            else {
                continue;
            };
            for record in settings.records() {
                if let AuthRecord::Delegate(delegation) = record {
                    named.insert(delegation.database);
                }
            }
        }
        Ok(named)
    }

    /// Some of what is lost, if that was noted.
    fn damaged_ids(&self, limit: usize) -> Result<Vec<Id>> {
        let lost = self.with_lost(|lost| {
            let ids = lost.runs.values().flat_map(|run| run.ids.values());
            ids.take(limit).copied().collect()
        });
        Ok(lost?.unwrap_or_default())
    }

    /// Calls `with` with what is lost, if that was noted.
    fn with_lost<T>(&self, with: impl FnOnce(&LostEntries) -> T) -> Result<Option<T>> {
        if !self.core().is_damaged() {
            return Ok(None);
        }
        let mut known = self.core().damage.lost.lock();
        if known.is_none() {
            let log = Databases::of(self.shared()).uncached(&self.core().log)?;
            let lost = log.lost(&*self.shared().rows.snapshot()?)?;
            *known = Some(LostEntries::new(lost));
        }
        Ok(known.as_ref().map(with))
    }

    /// Where lost entries were; none where nothing was noted. Some may be back.
    pub(crate) fn lost_places(&self) -> Result<Places> {
        let places = self.with_lost(|lost| Arc::clone(&lost.places))?;
        Ok(places.unwrap_or_default())
    }

    /// Puts those of some entries back that are lost here; the others are left. When the last one is back, the database
    /// is repaired. Called with no lock held.
    pub(crate) fn restore(
        &self,
        entries: &mut Vec<Entry>,
        report: &mut IngestReport,
    ) -> Result<()> {
        let places = self.lost_places()?;
        let (found, rest): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries)
            .into_iter()
            .partition(|entry| places.contains_key(&entry.id()));
        *entries = rest;
        if found.is_empty() {
            return Ok(());
        }
        let all: Vec<&Entry> = found.iter().collect();
        for at in forged(&all, self.shared().entropy.seed()) {
            if let Some(entry) = all.get(at) {
                report.reject(entry.id(), Reject::Signature);
            }
        }
        let databases = Databases::of(self.shared());
        let is_whole = {
            let mut known = self.core().damage.lost.lock();
            // Where something fails, it is asked anew which are lost.
            let Some(mut lost) = known.take() else {
                return Ok(());
            };
            let arrivals = found.iter().filter_map(|entry| places.get(&entry.id()));
            let parts = lost.take(&arrivals.copied().collect());
            let found: HashMap<Id, &Entry> =
                found.iter().map(|entry| (entry.id(), entry)).collect();
            let mut find = |id: &Id| Ok(found.get(id).copied().cloned());
            let log = databases.uncached(&self.core().log)?;
            let (restored, rest) = databases.mend_log(&log, parts, &mut find)?;
            report.filled += restored;
            lost.put(rest);
            let is_whole = lost.runs.is_empty();
            *known = Some(lost);
            is_whole
        };
        if is_whole {
            databases.repair_log(&self.core().log)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use eidetica_testkit::Rng;

    use super::*;

    fn id(n: u64) -> Id {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Id::new(bytes)
    }

    /// Those of which the ids are known, and how many there are.
    fn all<'a>(runs: impl Iterator<Item = &'a Lost>) -> (BTreeMap<u64, Id>, u64) {
        let (mut ids, mut count) = (BTreeMap::new(), 0);
        for run in runs {
            assert!(run.first < run.end);
            assert!(run.ids.keys().all(|at| (run.first..run.end).contains(at)));
            ids.extend(&run.ids);
            count += run.end - run.first;
        }
        (ids, count)
    }

    #[test]
    fn what_is_taken_out_and_what_stays_is_all_there_was() {
        let mut rng = Rng::new(7);
        for _ in 0..500 {
            let (mut runs, mut next) = (Vec::new(), 0);
            for _ in 0..rng.below(6) {
                let first = next + rng.below(3) as u64;
                next = first + 1 + rng.below(20) as u64;
                let known = (first..next).filter(|_| !rng.one_in(5));
                let ids = known.map(|at| (at, id(at))).collect();
                let end = next;
                runs.push(Lost { first, ids, end });
            }
            let before = all(runs.iter());
            let mut lost = LostEntries::new(runs);
            assert_eq!(lost.places.len(), before.0.len());
            let some = (0..rng.below(9)).map(|_| rng.below(90) as u64);
            let arrivals: BTreeSet<u64> = some.filter(|at| before.0.contains_key(at)).collect();
            let parts = lost.take(&arrivals);
            for part in &parts {
                assert!(arrivals.contains(&part.first) && arrivals.contains(&(part.end - 1)));
            }
            let taken = all(parts.iter()).0;
            assert!(arrivals.iter().all(|at| taken.contains_key(at)));
            lost.put(parts);
            assert_eq!(all(lost.runs.values()), before);
        }
    }
}
