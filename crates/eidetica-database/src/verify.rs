//! Checking everything that is stored against everything else.
//!
//! Entries are read anew, past every cache: hashes, signatures, derived heights and settings, verdicts,
//! then the rows that follow from them: the index of ids, the heights of packs, the tips, the numbers in the
//! version row, kept summaries, and the state. Of the state nothing is held in memory: the writes in its rows are
//! compared with those of the entries by counting (see `tally`), and what is current with the writes beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::{ControlFlow, Range};

use eidetica_auth::Verdict;
use eidetica_crdt::{Audited, Path, RowSpace, audit};
use eidetica_entry::dag::Budget;
use eidetica_entry::{
    Entry, Height, Id, Ids, ParentInfo, PublicKey, Stamp, StoreName, derive_height, derive_settings,
};
use eidetica_storage::log::{DatabaseLog, LogError, LogReader, LogState, Mark, Marks, add_missing};
use eidetica_storage::{Direction, KeyRange, ScanLimit, Snapshot, Space};

use crate::authority::Authority;
use crate::core::{STORES, load_registry};
use crate::error::{Error, Reject, Result};
use crate::holds::HOLDS;
use crate::ingest::forged;
use crate::known::Known;
use crate::overlay::View;
use crate::past::arrivals;
use crate::readahead::ReadAhead;
use crate::registry::Registry;
use crate::rows::{StoreRows, StoreSlot};
use crate::standing::{Standings, advance};
use crate::tally::{Entered, Naming, Tally};
use crate::{Database, Databases, limits, local, seal};

/// Something stored that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A row or an entry cannot be read: damaged bytes, a missing row.
    Unreadable(String),
    /// An entry that was stored and that no row that can be read holds. Peers may have it.
    Lost(Id),
    /// An entry that must not have been stored.
    Entry(Id, Reject),
    /// The index of ids says something else of an entry than the log.
    Index(Id),
    /// The index of ids has so many rows, and there are so many entries.
    IndexRows(u64, u64),
    /// The rows about heights do not lead to all entries: so many instead of so many.
    Heights(u64, u64),
    /// A kept summary is not that of the entries: level and number of its block of heights.
    Summary(u8, u64),
    /// The version row names other tips, another height or another number of entries.
    Version,
    /// The marks of void, absent or loose entries are not those that follow from the entries.
    Marks(Mark),
    /// The row that counts the bytes of a database with a limit.
    Quota,
    /// The rows of void entries that are nobody's parents.
    VoidLeaves,
    /// The rows that count the loose entries of authors.
    LooseAuthors,
    /// A state row that does not follow from the entries, or is missing: space and key.
    State(Space, Vec<u8>),
    /// What an entry writes at a path of a store is in no state row.
    Missing(Id, StoreName, Path),
    /// The rows that say which payloads of a store are missing.
    Holes(StoreName),
    /// A small row of the log or of nobody that is damaged: its key.
    Meta(Vec<u8>),
    /// A row of a local database that does not have its check sum: its key.
    Local(Vec<u8>),
}

/// What has to be done about a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// It follows from the entries and can be computed again: see [`Databases::repair`].
    Rebuild,
    /// Entries are damaged: others have to send them again. See [`Databases::mend`].
    Fetch,
    /// Nothing that is here or elsewhere leads to it: a backup may have it.
    Restore,
}

impl Fault {
    /// What has to be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Lost(_) | Self::Entry(..) => Remedy::Fetch,
            Self::Local(_) => Remedy::Restore,
            _ => Remedy::Rebuild,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |key: &[u8]| {
            key.iter()
                .take(64)
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        match self {
            Self::Unreadable(what) => f.write_str(what),
            Self::Lost(id) => write!(f, "entry {id} cannot be read"),
            Self::Entry(id, reason) => write!(f, "entry {id}: {reason}"),
            Self::Index(id) => write!(f, "the index does not lead to entry {id}"),
            Self::IndexRows(rows, entries) => {
                write!(f, "the index has {rows} rows for {entries} entries")
            }
            Self::Heights(found, entries) => {
                write!(f, "the heights lead to {found} of {entries} entries")
            }
            Self::Summary(level, number) => write!(
                f,
                "the summary of block {number} of level {level} is not that of the entries"
            ),
            Self::Version => f.write_str("the version row does not fit the entries"),
            Self::Marks(mark) => write!(f, "the {mark:?} marks do not follow from the entries"),
            Self::Quota => f.write_str("the bytes of the entries are miscounted"),
            Self::VoidLeaves => f.write_str("the void leaves do not follow from the entries"),
            Self::LooseAuthors => f.write_str("the loose entries of an author are miscounted"),
            Self::State(space, key) => write!(
                f,
                "the row {} of {space} does not follow from the entries",
                hex(key)
            ),
            Self::Missing(id, store, path) => write!(
                f,
                "what entry {id} writes at {path} of {store} is in no row"
            ),
            Self::Holes(store) => write!(f, "the missing payloads of {store} are miscounted"),
            Self::Meta(key) => write!(f, "the row {} of meta is damaged", hex(key)),
            Self::Local(key) => write!(f, "the local row {} is damaged", hex(key)),
        }
    }
}

/// A fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The database; `None` for what belongs to none.
    pub database: Option<Id>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Some(id) => write!(f, "database {id}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Entries checked.
    pub entries: u64,
    /// State rows compared.
    pub state_rows: u64,
    /// What is wrong; at most [`limits::REPORTED_FAULTS`].
    pub faults: Vec<Found>,
    /// How many faults there are.
    pub fault_count: u64,
    /// What could not be compared because entries are damaged, in words.
    pub unchecked: Vec<String>,
    /// Payloads that this program cannot read: they contribute nothing and are kept and passed on. At most
    /// [`limits::REPORTED_FAULTS`].
    pub unread: Vec<(Id, StoreName)>,
    /// What has to be done about each database with a fault, named or not.
    remedies: BTreeSet<(Remedy, Id)>,
    /// The database that is being looked at.
    database: Option<Id>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    /// The databases with a fault of this sort, ascending.
    pub fn databases(&self, remedy: Remedy) -> Vec<Id> {
        let found = self.remedies.iter().filter(|(of, _)| *of == remedy);
        found.map(|(_, id)| *id).collect()
    }

    fn add(&mut self, fault: Fault) {
        self.fault_count += 1;
        let remedy = fault.remedy();
        self.remedies.extend(self.database.map(|id| (remedy, id)));
        if self.faults.len() < limits::REPORTED_FAULTS {
            let database = self.database;
            self.faults.push(Found { database, fault });
        }
    }

    /// Takes a damaged row as a fault; what keeps the engine from answering is an error.
    fn read<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_))) => {
                self.add(Fault::Unreadable(error.to_string()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Begins the keys of the log's rows in [`Space::Meta`].
const LOG: &[u8] = b"L";

/// Entries that are checked at once.
const CHUNK: usize = 4_096;

impl Databases {
    /// Verifies every database and closure, and the rows of the local databases. See [`Database::verify`].
    ///
    /// # Errors
    /// The engine's. Damage is no error but in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let snapshot = self.shared().rows.snapshot()?;
        let local = local::verify(&*snapshot, &mut |key| report.add(Fault::Local(key)));
        report.read(local)?;
        let meta = self.verify_meta(&*snapshot, &mut report);
        report.read(meta)?;
        drop(snapshot);
        for id in report.read(self.list())?.unwrap_or_default() {
            report.database = Some(id);
            if let Some(Some(database)) = report.read(self.find(&id))? {
                let verified = database.verify_into(&mut report);
                report.read(verified)?;
            }
        }
        let closures = self.log().closures().map_err(Error::from);
        report.database = None;
        for log in report.read(closures)?.unwrap_or_default() {
            report.database = Some(log.id());
            if let Some(Some(closure)) = report.read(self.closure(&log.id()))? {
                let verified = closure.verify_into(&mut report);
                report.read(verified)?;
            }
        }
        report.database = None;
        Ok(report)
    }

    /// Every row is the log's or names a store, and has its check sum.
    fn verify_meta(&self, snapshot: &dyn Snapshot, report: &mut VerifyReport) -> Result<()> {
        for key in self.log().damaged_rows(snapshot)? {
            report.add(Fault::Meta(key.to_vec()));
        }
        if !self.log().counts_right(snapshot)? {
            report.add(Fault::Meta(b"Ln".to_vec()));
        }
        let wrongly_closed = self.log().wrongly_closed(snapshot).map_err(Error::from);
        for key in report.read(wrongly_closed)?.unwrap_or_default() {
            report.add(Fault::Meta(key.to_vec()));
        }
        let unlisted = self.log().unlisted(snapshot).map_err(Error::from);
        for no in report.read(unlisted)?.unwrap_or_default() {
            let what = format!("no row leads to the entries of the database of number {no}");
            report.add(Fault::Unreadable(what));
        }
        let _ = snapshot.for_each::<(), Error>(
            Space::Meta,
            &KeyRange::all(),
            Direction::Forward,
            |row| {
                let is_known = row.key.starts_with(LOG)
                    || ([STORES, HOLDS].iter().any(|kind| row.key.starts_with(kind))
                        && seal::is_sealed(&row));
                if !is_known {
                    report.add(Fault::Meta(row.key.to_vec()));
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(())
    }
}

impl Database {
    /// Checks everything stored of this database: every hash, signature, derived height and settings, every verdict,
    /// index row, the tips, and every state row against the writes of the entries.
    ///
    /// Costs reading all entries and rows once, and signatures on all cores; the state is not held in memory, and of
    /// the entries no more than some bits of each. Others may write meanwhile; what they write is not looked at.
    ///
    /// # Errors
    /// The engine's. Damage is no error but in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let verified = self.verify_into(&mut report);
        report.read(verified)?;
        Ok(report)
    }

    fn verify_into(&self, report: &mut VerifyReport) -> Result<()> {
        report.database = Some(self.id());
        let Some((_, snapshot)) = report.read(self.settled())? else {
            return self.name_lost(report);
        };
        // A log of its own, so that no cached pack hides a damaged row.
        let databases = Databases::of(self.shared());
        let Some(log) = report.read(databases.uncached(&self.core().log))? else {
            return Ok(());
        };
        let reader = log.reader(&*snapshot);
        let Some(state) = report.read(reader.state().map_err(Error::from))? else {
            return Ok(());
        };
        let authority = Authority::default();
        let known = Known::new(self.shared(), self.id(), &reader);
        // The frontier that the version row claims is compared at the end.
        let settings: Ids = state.settings.iter().copied().collect();
        let void = reader
            .heads()
            .map_err(Error::from)
            .and_then(|heads| void(&authority, &known, &settings, &heads));
        let void = report.read(void)?.unwrap_or_default();
        let mut check = Check {
            database: self,
            log: &log,
            snapshot: &*snapshot,
            reader: &reader,
            known: &known,
            authority: &authority,
            settings: Ids::new(),
            tips: BTreeSet::new(),
            void,
            highest: Height::ROOT,
            bytes: 0,
            recent: [HashMap::new(), HashMap::new()],
            holes: BTreeMap::new(),
            lost: Vec::new(),
            unjudged: 0,
            tally: Tally::new(self.shared().entropy.seed()),
            report: &mut *report,
        };
        check.entries(&state)?;
        check.check_holes()?;
        check.index(&state)?;
        if !check.lost.is_empty() {
            check.say_unchecked();
            return Ok(());
        }
        check.voids(&state)?;
        check.heights(&state)?;
        check.summaries()?;
        check.quota()?;
        let registry = load_registry(&log, &*snapshot);
        if let Some(registry) = check.report.read(registry)? {
            check.state(&registry)?;
        }
        Ok(())
    }

    /// Where not even the state can be brought up to the entries: which of these are lost, as far as that can be said.
    fn name_lost(&self, report: &mut VerifyReport) -> Result<()> {
        let databases = Databases::of(self.shared());
        let snapshot = self.shared().rows.snapshot()?;
        match databases.uncached(&self.core().log)?.lost(&*snapshot) {
            Ok(lost) => {
                let ids = lost.into_iter().flat_map(|lost| lost.ids.into_values());
                ids.for_each(|id| report.add(Fault::Lost(id)));
                Ok(())
            }
            Err(LogError::Corrupt { .. } | LogError::Repairing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

struct Check<'a> {
    database: &'a Database,
    log: &'a DatabaseLog,
    snapshot: &'a dyn Snapshot,
    reader: &'a LogReader<'a>,
    known: &'a Known<'a>,
    authority: &'a Authority,
    settings: Ids,
    /// Of effective entries; to be computed anew where there are void ones.
    tips: BTreeSet<Stamp>,
    /// By all settings entries that the version row names.
    void: Marks,
    highest: Height,
    /// Bytes of the entries, each encoded by itself.
    bytes: u64,
    /// What children need to know of the entries of this chunk and of the one before.
    recent: [HashMap<Id, ParentInfo>; 2],
    /// Entries that lack the payload of a store.
    holes: BTreeMap<StoreName, Marks>,
    /// Arrival numbers of entries that cannot be read.
    lost: Vec<Range<u64>>,
    /// Entries that were not judged, because what they build on is lost.
    unjudged: u64,
    tally: Tally,
    report: &'a mut VerifyReport,
}

/// Entries in the order of their arrival.
struct Chunk {
    first: u64,
    entries: Vec<Entry>,
    /// What follows and cannot be read, and why.
    damage: Option<(Range<u64>, String)>,
}

impl Chunk {
    fn read(log: &DatabaseLog, snapshot: &dyn Snapshot, first: u64) -> Result<Self> {
        let reader = log.reader(snapshot);
        let (entries, damage) = reader.entries_or_damage(first, CHUNK)?;
        let end = first + entries.len() as u64;
        let damage = match damage {
            Some(error) => Some((end..reader.next_row(end)?, error.to_string())),
            None => None,
        };
        Ok(Self {
            first,
            entries,
            damage,
        })
    }

    fn end(&self) -> u64 {
        match &self.damage {
            Some((lost, _)) => lost.end,
            None => self.first + self.entries.len() as u64,
        }
    }
}

impl Check<'_> {
    /// Checks all entries, while those that follow are read on another thread.
    fn entries(&mut self, state: &LogState) -> Result<()> {
        let (log, snapshot, end) = (self.log, self.snapshot, state.next_arrival);
        let read = |first| Chunk::read(log, snapshot, first);
        let mut next = (end > 0).then(|| read(0));
        while let Some(chunk) = next {
            let chunk = chunk?;
            let following = chunk.end();
            next = std::thread::scope(|scope| {
                let reading = (following < end).then(|| scope.spawn(move || read(following)));
                self.chunk(chunk)?;
                let read = reading.map(|thread| {
                    let stopped = || Error::Stopped("reading entries ended early".into());
                    thread.join().unwrap_or_else(|_| Err(stopped()))
                });
                Ok::<_, Error>(read)
            })?;
        }
        let right = self.highest == state.max_height
            && *self.settings == state.settings
            && self.void.len() == state.void
            && state.unsettled == 0;
        if !right && self.lost.is_empty() {
            self.report.add(Fault::Version);
        }
        Ok(())
    }

    /// Compares what is said to be missing with what is. Of a closure nothing is said.
    fn check_holes(&mut self) -> Result<()> {
        if self.database.core().is_closure || !self.lost.is_empty() {
            return Ok(());
        }
        let counted = self.reader.holes().map_err(Error::from);
        let Some(counted) = self.report.read(counted)? else {
            return Ok(());
        };
        let mut stores: BTreeSet<StoreName> = self.holes.keys().cloned().collect();
        stores.extend(counted.iter().map(|holes| holes.store.clone()));
        for store in stores {
            let said = counted.iter().find(|holes| holes.store == store);
            let rows = self.reader.missing_in(&store).map_err(Error::from);
            let given_up = self.reader.given_up_in(&store).map_err(Error::from);
            let (rows, given_up) = (self.report.read(rows)?, self.report.read(given_up)?);
            let (Some(rows), Some(given_up)) = (rows, given_up) else {
                continue;
            };
            let found = self.holes.get(&store).cloned().unwrap_or_default();
            let right = rows == found
                && said.map_or(0, |said| said.missing) == found.len()
                && said.map_or(0, |said| said.given_up) == given_up.len()
                && given_up.iter().all(|arrival| found.contains(arrival));
            if !right {
                self.report.add(Fault::Holes(store));
            }
        }
        Ok(())
    }

    /// Compares the tips and everything that is kept about void entries.
    fn voids(&mut self, state: &LogState) -> Result<()> {
        let ends = match self.void.is_empty() {
            true => Ends::default(),
            false => match self.report.read(Ends::of(self.reader, &self.void, state))? {
                Some(ends) => {
                    self.tips = ends.tips.clone();
                    ends
                }
                None => return Ok(()),
            },
        };
        if !self.tips.iter().eq(&state.tips) || ends.loose.len() != state.loose {
            self.report.add(Fault::Version);
        }
        let marks = [
            (Mark::Void, &self.void),
            (Mark::Absent, &self.void),
            (Mark::Loose, &ends.loose),
        ];
        for (mark, expected) in marks {
            let found = self.reader.marks(mark).map_err(Error::from);
            if self
                .report
                .read(found)?
                .is_some_and(|found| found != *expected)
            {
                self.report.add(Fault::Marks(mark));
            }
        }
        let leaves = self.reader.void_leaves().map_err(Error::from);
        let leaves = self.report.read(leaves)?;
        if leaves.is_some_and(|leaves| !ends.leaves.iter().eq(&leaves)) {
            self.report.add(Fault::VoidLeaves);
        }
        let authors = self.reader.loose_authors().map_err(Error::from);
        let authors = self.report.read(authors)?;
        if authors.is_some_and(|authors| authors != ends.authors) {
            self.report.add(Fault::LooseAuthors);
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<()> {
        let entries = &chunk.entries;
        self.report.entries += entries.len() as u64;
        self.signatures(entries);
        self.places(chunk.first, entries)?;
        add_missing(chunk.first, entries, &mut self.holes);
        let [before, now] = &mut self.recent;
        *before = std::mem::take(now);
        now.extend(entries.iter().map(|entry| (entry.id(), entry.into())));
        let known = self.parents(entries)?;
        for entry in entries {
            let header = entry.header();
            if header.writes_settings() {
                self.settings = advance(&self.settings, entry.id(), header);
            }
            self.verdict(entry, &known)?;
            for parent in header.parents.iter().filter_map(|parent| known.get(parent)) {
                self.tips.remove(&Stamp::new(parent.height, parent.id));
            }
            self.tips.insert(entry.stamp());
            self.highest = self.highest.max(header.height);
            self.bytes += entry.encoded_len() as u64;
        }
        self.count(&chunk);
        if let Some((lost, reason)) = chunk.damage {
            self.report.add(Fault::Unreadable(reason));
            self.lost.push(lost);
        }
        Ok(())
    }

    fn verdict(&mut self, entry: &Entry, known: &HashMap<Id, ParentInfo>) -> Result<()> {
        match self.judge(entry, known) {
            // It builds on what is lost.
            Err(Error::Corrupt(_) | Error::NoEntry(_)) if !self.lost.is_empty() => {
                self.unjudged += 1;
            }
            judged => {
                if let Some(Some(reason)) = self.report.read(judged)? {
                    self.report.add(Fault::Entry(entry.id(), reason));
                }
            }
        }
        Ok(())
    }

    /// What judging some entries needs of their parents.
    fn parents(&mut self, entries: &[Entry]) -> Result<HashMap<Id, ParentInfo>> {
        let parents = entries
            .iter()
            .flat_map(|entry| entry.header().parents.iter());
        let (mut known, mut outside) = (HashMap::new(), BTreeSet::new());
        for parent in parents {
            match self.recent.iter().find_map(|recent| recent.get(parent)) {
                Some(info) => drop(known.insert(*parent, info.clone())),
                None => drop(outside.insert(*parent)),
            }
        }
        let outside: Vec<Id> = outside.into_iter().collect();
        let infos = match self.reader.parent_infos(&outside).map_err(Error::from) {
            // One after the other, then.
            Err(Error::Corrupt(_)) => {
                let one = |id| self.reader.parent_infos(std::slice::from_ref(id)).ok();
                let each = outside.iter().map(|id| one(id)?.pop().flatten());
                Some(each.collect())
            }
            infos => self.report.read(infos)?,
        };
        let found = outside.into_iter().zip(infos.unwrap_or_default());
        known.extend(found.filter_map(|(id, info)| Some((id, info?))));
        Ok(known)
    }

    /// Counts what effective entries write, and lists what cannot be read.
    fn count(&mut self, chunk: &Chunk) {
        let entered = self.tally.entered(&chunk.entries);
        for ((arrival, entry), entered) in (chunk.first..).zip(&chunk.entries).zip(entered) {
            let room = limits::REPORTED_FAULTS.saturating_sub(self.report.unread.len());
            let unread = entered.unread.into_iter().take(room);
            let unread = unread.map(|store| (entry.id(), store));
            self.report.unread.extend(unread);
            if !self.void.contains(arrival) {
                for written in &entered.written {
                    self.tally.add(&written.digest);
                }
            }
        }
    }

    fn signatures(&mut self, entries: &[Entry]) {
        let all: Vec<&Entry> = entries.iter().collect();
        for bad in forged(&all, self.database.shared().entropy.seed()) {
            if let Some(entry) = entries.get(bad) {
                self.report.add(Fault::Entry(entry.id(), Reject::Signature));
            }
        }
    }

    /// Compares the index of ids with the log.
    fn places(&mut self, first: u64, entries: &[Entry]) -> Result<()> {
        let ids: Vec<Id> = entries.iter().map(Entry::id).collect();
        let located = match self.reader.locate(&ids).map_err(Error::from) {
            // One after the other, then.
            Err(Error::Corrupt(_)) => {
                let one = |id| self.reader.locate(std::slice::from_ref(id)).ok();
                let each = ids.iter().map(|id| one(id)?.pop().flatten());
                each.collect()
            }
            located => located?,
        };
        for ((arrival, entry), located) in (first..).zip(entries).zip(located) {
            let right = located.is_some_and(|located| {
                located.arrival == arrival
                    && located.height == entry.header().height
                    && located.writes_settings == entry.header().writes_settings()
            });
            if !right {
                self.report.add(Fault::Index(entry.id()));
            }
        }
        Ok(())
    }

    fn judge(&self, entry: &Entry, known: &HashMap<Id, ParentInfo>) -> Result<Option<Reject>> {
        let header = entry.header();
        if entry.database() != self.database.id() {
            return Ok(Some(Reject::Foreign));
        }
        let mut parents = Vec::with_capacity(header.parents.len());
        for parent in &header.parents {
            parents.push(known.get(parent).cloned().ok_or(Error::NoEntry(*parent))?);
        }
        if header.height != derive_height(&parents) {
            return Ok(Some(Reject::Height));
        }
        let settings = derive_settings(
            &parents,
            &self.reader.settings_dag(),
            &mut Budget::unlimited(),
        );
        if header.settings != settings.map_err(LogError::from)? {
            return Ok(Some(Reject::Settings));
        }
        let payload = entry.payload(&StoreName::settings()).map(AsRef::as_ref);
        Ok(
            match self
                .authority
                .judge(entry.id(), header, payload, self.known)?
            {
                Verdict::Sound(_) => None,
                Verdict::Reject(reason) => Some(Reject::Authority(reason)),
                _ => Some(Reject::Settings),
            },
        )
    }

    /// Counts the index of ids, and names the entries that it knows and that are lost.
    fn index(&mut self, state: &LogState) -> Result<()> {
        let range = KeyRange::prefix(self.log.no().prefix());
        let (reader, lost, report) = (self.reader, &self.lost, &mut *self.report);
        let mut rows = 0;
        let _ =
            self.snapshot
                .for_each::<(), Error>(Space::Ids, &range, Direction::Forward, |row| {
                    rows += 1;
                    if lost.is_empty() {
                        return Ok(ControlFlow::Continue(()));
                    }
                    let read = reader.read_index_row(&row).map_err(Error::from);
                    if let Some((id, arrival)) = report.read(read)?
                        && is_in(lost, arrival)
                    {
                        report.add(Fault::Lost(id));
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
        if rows != state.next_arrival {
            self.report.add(Fault::IndexRows(rows, state.next_arrival));
        }
        Ok(())
    }

    fn say_unchecked(&mut self) {
        let lost: u64 = self.lost.iter().map(|lost| lost.end - lost.start).sum();
        let said = format!(
            "database {}: {lost} entries cannot be read, so {} that build on them were not judged, and what follows from all entries was not compared",
            self.database.id(),
            self.unjudged
        );
        self.report.unchecked.push(said);
    }

    /// Walks all entries from the top by the rows about heights.
    fn heights(&mut self, state: &LogState) -> Result<()> {
        let mut found = 0;
        let mut below: Option<Stamp> = None;
        loop {
            let page = self
                .reader
                .by_height(Height::ROOT..=state.max_height, below, CHUNK)
                .map_err(Error::from);
            let Some(page) = self.report.read(page)? else {
                return Ok(());
            };
            found += page.len() as u64;
            match page.last() {
                Some((stamp, _)) if page.len() == CHUNK => below = Some(*stamp),
                _ => break,
            }
        }
        if found != state.next_arrival {
            self.report.add(Fault::Heights(found, state.next_arrival));
        }
        Ok(())
    }

    fn quota(&mut self) -> Result<()> {
        let quota = self.report.read(self.reader.quota().map_err(Error::from))?;
        if quota
            .flatten()
            .is_some_and(|quota| quota.bytes != self.bytes)
        {
            self.report.add(Fault::Quota);
        }
        Ok(())
    }

    fn summaries(&mut self) -> Result<()> {
        let wrong = self.reader.wrong_summaries().map_err(Error::from);
        for (level, number) in self.report.read(wrong)?.unwrap_or_default() {
            self.report.add(Fault::Summary(level, number));
        }
        Ok(())
    }

    /// Compares the rows of all stores with what the entries write, and with each other.
    fn state(&mut self, registry: &Registry) -> Result<()> {
        self.outsiders(registry)?;
        for (name, kind, slot) in registry.all() {
            let (tally, report) = (&mut self.tally, &mut *self.report);
            let rows = audit(
                &rows_of(self.snapshot, slot),
                kind,
                &mut |audited| match audited {
                    Audited::Write {
                        path, stamp, op, ..
                    } => {
                        let digest = tally.digest(&name, kind, path, &stamp, op);
                        tally.take(&digest);
                    }
                    Audited::Wrong(space, key) => {
                        report.add(Fault::State(StoreSlot::space(space), slot.key(space, key)));
                    }
                },
            );
            let rows = self.report.read(rows.map_err(Error::from))?.unwrap_or(0);
            self.report.state_rows += rows;
            // What void entries wrote has left its name, and what is missing now.
            if rows == 0 && self.void.is_empty() && !self.holes.contains_key(&name) {
                let key = slot.prefix(RowSpace::Ver);
                self.report.add(Fault::State(Space::Meta, key));
            }
        }
        let differing = self.tally.differing();
        if !differing.is_empty() {
            self.name(Naming::new(differing), registry)?;
        }
        Ok(())
    }

    /// Rows under numbers or tags that are no store's.
    fn outsiders(&mut self, registry: &Registry) -> Result<()> {
        let no = self.log.no().prefix();
        let mut inside: BTreeMap<Space, Vec<KeyRange>> = BTreeMap::new();
        for (_, _, slot) in registry.all() {
            for space in [RowSpace::Cur, RowSpace::Pos, RowSpace::Ver] {
                let prefix = slot.prefix(space);
                // All keys of a store are below this.
                let end = [prefix.as_slice(), &[u8::MAX]].concat();
                let ranges = inside.entry(StoreSlot::space(space)).or_default();
                ranges.push(KeyRange::new(prefix, end));
            }
        }
        for space in [Space::State, Space::Versions] {
            let mut ranges = inside.remove(&space).unwrap_or_default();
            ranges.sort_by(|a, b| a.start.cmp(&b.start));
            let mut rest = KeyRange::prefix(no);
            loop {
                let gap_end = ranges.first().map(|range| range.start.clone());
                let gap = KeyRange {
                    start: rest.start.clone(),
                    end: gap_end.or_else(|| rest.end.clone()),
                };
                let page = match gap.is_empty() {
                    true => Vec::new(),
                    false => {
                        let limit = ScanLimit::rows(limits::REPORTED_FAULTS);
                        let scan = self.snapshot.scan(space, &gap, Direction::Forward, limit);
                        scan?.rows
                    }
                };
                for row in page {
                    self.report.add(Fault::State(space, row.key.to_vec()));
                }
                if ranges.is_empty() {
                    break;
                }
                rest.start = ranges.remove(0).end.unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Reads all entries and rows once more to say which writes are missing and which rows are nobody's.
    fn name(&mut self, mut naming: Naming, registry: &Registry) -> Result<()> {
        let mut next = 0;
        loop {
            let entries = self.reader.entries_from(next, CHUNK)?;
            if entries.is_empty() {
                break;
            }
            let entered: Vec<Entered> = self.tally.entered(&entries);
            for ((arrival, entry), entered) in (next..).zip(&entries).zip(entered) {
                if !self.void.contains(arrival) {
                    for written in entered.written {
                        naming.add(entry.id(), written);
                    }
                }
            }
            next += entries.len() as u64;
        }
        for (name, kind, slot) in registry.all() {
            let tally = &self.tally;
            let audited = audit(&rows_of(self.snapshot, slot), kind, &mut |audited| {
                if let Audited::Write {
                    path,
                    stamp,
                    op,
                    row: (space, key),
                } = audited
                {
                    let digest = tally.digest(&name, kind, path, &stamp, op);
                    let in_engine = StoreSlot::space(space);
                    naming.take(&digest, in_engine, || slot.key(space, key));
                }
            });
            self.report.read(audited.map_err(Error::from))?;
        }
        let surplus = naming.finish();
        for (id, store, path) in surplus.missing {
            self.report.add(Fault::Missing(id, store, path));
        }
        for (space, key) in surplus.foreign {
            self.report.add(Fault::State(space, key));
        }
        Ok(())
    }
}

/// Whether one of these ranges, which are ascending, has a number.
fn is_in(ranges: &[Range<u64>], number: u64) -> bool {
    let at = ranges.partition_point(|range| range.end <= number);
    ranges.get(at).is_some_and(|range| range.contains(&number))
}

/// The rows of a store, to be read in order.
fn rows_of<'a>(snapshot: &'a dyn Snapshot, slot: StoreSlot) -> ReadAhead<StoreRows<'a>> {
    ReadAhead::new(StoreRows {
        view: View::durable(snapshot),
        slot,
    })
}

/// Which entries are void by everything that is known. Every entry is judged, each cut walked down once.
pub(crate) fn void(
    authority: &Authority,
    known: &Known<'_>,
    settings: &Ids,
    heads: &[Id],
) -> Result<Marks> {
    let standings = Standings::at(authority, known, settings)?;
    let mut void = Marks::default();
    for arrival in standings.void_of_all(heads)? {
        void.set(arrival, true);
    }
    Ok(void)
}

/// What has nothing above it: see [`crate::effects`].
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) tips: BTreeSet<Stamp>,
    pub(crate) leaves: BTreeSet<Stamp>,
    pub(crate) loose: Marks,
    pub(crate) authors: BTreeMap<PublicKey, u64>,
}

impl Ends {
    /// From the last entry to the first, so that what is above one is known when it comes.
    pub(crate) fn of(reader: &LogReader<'_>, void: &Marks, state: &LogState) -> Result<Self> {
        let mut ends = Self::default();
        let (mut below_any, mut below_effective) = (Marks::default(), Marks::default());
        let mut end = state.next_arrival;
        while end > 0 {
            let first = end.saturating_sub(CHUNK as u64);
            let mut arrival = end;
            for entry in chunk(reader, first, end)?.iter().rev() {
                arrival -= 1;
                let (is_void, stamp) = (void.contains(arrival), entry.stamp());
                let covered = below_effective.contains(arrival);
                match is_void {
                    true if !below_any.contains(arrival) => drop(ends.leaves.insert(stamp)),
                    false if !covered => drop(ends.tips.insert(stamp)),
                    _ => {}
                }
                if is_void && !covered {
                    ends.loose.set(arrival, true);
                    *ends.authors.entry(entry.header().author.key).or_default() += 1;
                }
                for parent in arrivals(&entry.header().parents, reader)? {
                    below_any.set(parent, true);
                    if covered || !is_void {
                        below_effective.set(parent, true);
                    }
                }
            }
            end = first;
        }
        Ok(ends)
    }
}

/// The entries that arrived from `first` on, before `end`.
fn chunk(reader: &LogReader<'_>, first: u64, end: u64) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut next = first;
    while next < end {
        let limit = usize::try_from(end - next).unwrap_or(usize::MAX);
        let more = reader.entries_from(next, limit)?;
        if more.is_empty() {
            return Err(Error::Corrupt("entries that arrived are missing".into()));
        }
        next += more.len() as u64;
        entries.extend(more);
    }
    Ok(entries)
}
