//! Checking everything that is stored against everything else.
//!
//! Entries are read anew, past every cache: hashes, signatures, derived heights and settings, verdicts,
//! then the rows that follow from them: the index of ids, the heights of packs, the tips, the numbers in the
//! version row, and the whole state, computed again from nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use eidetica_auth::{Signed, Verdict, verify_batch};
use eidetica_crdt::{MemRows, Order, RowSpace, StoreKind, apply_batch};
use eidetica_entry::dag::Budget;
use eidetica_entry::{
    Entry, Height, Id, Ids, ParentInfo, PublicKey, Stamp, StoreName, derive_height, derive_settings,
};
use eidetica_storage::log::{
    CacheSize, DatabaseLog, EntryLog, LogError, LogReader, LogState, Mark, Marks,
};
use eidetica_storage::{Direction, KeyRange, Snapshot, Space};

use crate::apply::{decode, writes_of};
use crate::authority::Authority;
use crate::core::{STORES, load_registry};
use crate::error::{Error, Reject, Result};
use crate::known::Known;
use crate::past::arrivals;
use crate::registry::Registry;
use crate::rows::StoreSlot;
use crate::standing::{Standings, advance};
use crate::{Database, Databases, limits, local, seal};

/// Something stored that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A row or an entry cannot be read: damaged bytes, a missing row.
    Unreadable(String),
    /// An entry that must not have been stored.
    Entry(Id, Reject),
    /// The index of ids says something else of an entry than the log.
    Index(Id),
    /// The index of ids has so many rows, and there are so many entries.
    IndexRows(u64, u64),
    /// The rows about heights do not lead to all entries: so many instead of so many.
    Heights(u64, u64),
    /// The version row names other tips, another height or another number of entries.
    Version,
    /// The marks of void, absent or loose entries are not those that follow from the entries.
    Marks(Mark),
    /// The rows of void entries that are nobody's parents.
    VoidLeaves,
    /// The rows that count the loose entries of authors.
    LooseAuthors,
    /// A state row that does not follow from the entries, or is missing: space and key.
    State(Space, Vec<u8>),
    /// A small row of the log or of nobody that is damaged: its key.
    Meta(Vec<u8>),
    /// A row of a local database that does not have its check sum: its key.
    Local(Vec<u8>),
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
            Self::Entry(id, reason) => write!(f, "entry {id}: {reason}"),
            Self::Index(id) => write!(f, "the index does not lead to entry {id}"),
            Self::IndexRows(rows, entries) => {
                write!(f, "the index has {rows} rows for {entries} entries")
            }
            Self::Heights(found, entries) => {
                write!(f, "the heights lead to {found} of {entries} entries")
            }
            Self::Version => f.write_str("the version row does not fit the entries"),
            Self::Marks(mark) => write!(f, "the {mark:?} marks do not follow from the entries"),
            Self::VoidLeaves => f.write_str("the void leaves do not follow from the entries"),
            Self::LooseAuthors => f.write_str("the loose entries of an author are miscounted"),
            Self::State(space, key) => write!(
                f,
                "the row {} of {space} does not follow from the entries",
                hex(key)
            ),
            Self::Meta(key) => write!(f, "the row {} of meta is damaged", hex(key)),
            Self::Local(key) => write!(f, "the local row {} is damaged", hex(key)),
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
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
    /// Payloads that this program cannot read: they contribute nothing and are kept and passed on. At most
    /// [`limits::REPORTED_FAULTS`].
    pub unread: Vec<(Id, StoreName)>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    fn add(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < limits::REPORTED_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Takes a damaged row as a fault; what keeps the engine from answering is an error.
    fn read<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Corrupt(_) | Error::NoEntry(_))) => {
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
const CHUNK: usize = 1_024;

impl Databases {
    /// Verifies every database, and the rows of the local ones. See [`Database::verify`].
    ///
    /// # Errors
    /// The engine's. Damage is no error but in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let snapshot = self.engine().snapshot()?;
        local::verify(&*snapshot, &mut |key| report.add(Fault::Local(key)))?;
        self.verify_meta(&*snapshot, &mut report)?;
        let Some(ids) = report.read(self.list())? else {
            return Ok(report);
        };
        for id in ids {
            let Some(database) = report.read(self.get(&id))? else {
                continue;
            };
            database.verify_into(&mut report)?;
        }
        Ok(report)
    }

    /// Every row is the log's or names a store, and has its check sum.
    fn verify_meta(&self, snapshot: &dyn Snapshot, report: &mut VerifyReport) -> Result<()> {
        for key in self.log().damaged_rows(snapshot)? {
            report.add(Fault::Meta(key.to_vec()));
        }
        let _ = snapshot.for_each::<(), Error>(
            Space::Meta,
            &KeyRange::all(),
            Direction::Forward,
            |row| {
                let is_known = row.key.starts_with(LOG)
                    || (row.key.starts_with(STORES) && seal::is_sealed(&row));
                if !is_known {
                    report.add(Fault::Meta(row.key.to_vec()));
                }
                Ok(std::ops::ControlFlow::Continue(()))
            },
        )?;
        Ok(())
    }
}

impl Database {
    /// Checks everything stored of this database: every hash, signature, derived height and settings, every verdict,
    /// index row, the tips, and every state row against a computation from the entries alone.
    ///
    /// Costs reading and verifying all entries, and holds the state in memory. Others may write meanwhile; what
    /// they write is not looked at.
    ///
    /// # Errors
    /// The engine's. Damage is no error but in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        self.verify_into(&mut report)?;
        Ok(report)
    }

    fn verify_into(&self, report: &mut VerifyReport) -> Result<()> {
        let Some((_, snapshot)) = report.read(self.settled())? else {
            return Ok(());
        };
        // A log of its own, so that no cached pack hides a damaged row.
        let Some(log) = report.read(self.fresh_log())? else {
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
        let void = void(&authority, &known, &settings, &reader);
        let void = report.read(void)?.unwrap_or_default();
        let mut check = Check {
            database: self,
            reader: &reader,
            known: &known,
            authority: &authority,
            settings: Ids::new(),
            tips: BTreeSet::new(),
            void,
            highest: Height::ROOT,
            stores: BTreeMap::new(),
            report: &mut *report,
        };
        check.entries(&state)?;
        check.voids(&state)?;
        check.index(&*snapshot, &log, &state)?;
        check.heights(&state)?;
        let stores = std::mem::take(&mut check.stores);
        let may_be_empty = !check.void.is_empty();
        if let Some(registry) = report.read(load_registry(&log, &*snapshot))? {
            compare_state(&registry, &stores, may_be_empty, &log, &*snapshot, report)?;
        }
        Ok(())
    }

    fn fresh_log(&self) -> Result<DatabaseLog> {
        let log = EntryLog::open(std::sync::Arc::clone(&self.shared().engine), CacheSize(0))?;
        log.database(&self.id())?
            .ok_or(Error::NoDatabase(self.id()))
    }
}

struct Check<'a> {
    database: &'a Database,
    reader: &'a LogReader<'a>,
    known: &'a Known<'a>,
    authority: &'a Authority,
    settings: Ids,
    /// Of effective entries; to be computed anew where there are void ones.
    tips: BTreeSet<Stamp>,
    /// By all settings entries that the version row names.
    void: Marks,
    highest: Height,
    stores: BTreeMap<(StoreName, StoreKind), MemRows>,
    report: &'a mut VerifyReport,
}

impl Check<'_> {
    fn entries(&mut self, state: &LogState) -> Result<()> {
        let mut next = 0;
        while next < state.next_arrival {
            let read = self.reader.entries_from(next, CHUNK).map_err(Error::from);
            let Some(chunk) = self.report.read(read)? else {
                return Ok(());
            };
            if chunk.is_empty() {
                break;
            }
            self.chunk(next, &chunk)?;
            next += chunk.len() as u64;
        }
        self.report.entries += next;
        let right = next == state.next_arrival
            && self.highest == state.max_height
            && *self.settings == state.settings
            && self.void.len() == state.void
            && state.unsettled == 0;
        if !right {
            self.report.add(Fault::Version);
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

    fn chunk(&mut self, first: u64, entries: &[Entry]) -> Result<()> {
        self.signatures(entries);
        self.places(first, entries)?;
        let known = self.parents(entries)?;
        for entry in entries {
            let header = entry.header();
            if header.writes_settings() {
                self.settings = advance(&self.settings, entry.id(), header);
            }
            let judged = self.judge(entry, &known);
            if let Some(Some(reason)) = self.report.read(judged)? {
                self.report.add(Fault::Entry(entry.id(), reason));
            }
            for parent in header.parents.iter().filter_map(|parent| known.get(parent)) {
                self.tips.remove(&Stamp::new(parent.height, parent.id));
            }
            self.tips.insert(entry.stamp());
            self.highest = self.highest.max(header.height);
            self.payloads(entry);
        }
        let effective = (first..).zip(entries);
        let effective = effective.filter(|(arrival, _)| !self.void.contains(*arrival));
        let effective: Vec<Entry> = effective.map(|(_, entry)| entry.clone()).collect();
        self.apply(&effective);
        Ok(())
    }

    /// What judging some entries needs of their parents.
    fn parents(&mut self, entries: &[Entry]) -> Result<HashMap<Id, ParentInfo>> {
        let parents = entries
            .iter()
            .flat_map(|entry| entry.header().parents.iter());
        let parents: Vec<Id> = parents.copied().collect();
        let infos = self.reader.parent_infos(&parents).map_err(Error::from);
        let infos = self.report.read(infos)?.unwrap_or_default();
        let found = parents.into_iter().zip(infos);
        Ok(found.filter_map(|(id, info)| Some((id, info?))).collect())
    }

    /// Adds to the state what entries write.
    fn apply(&mut self, entries: &[Entry]) {
        for ((name, kind), writes) in writes_of(entries) {
            let rows = self.stores.entry((name, kind)).or_default();
            let writes: Vec<_> = writes
                .iter()
                .map(|(stamp, payload)| (*stamp, payload))
                .collect();
            if let Err(error) = apply_batch(rows, kind, &writes, Order::Any) {
                self.report.add(Fault::Unreadable(error.to_string()));
            }
        }
    }

    fn signatures(&mut self, entries: &[Entry]) {
        let messages: Vec<_> = entries.iter().map(Entry::signing_message).collect();
        let signed: Vec<Signed<'_>> = entries
            .iter()
            .zip(&messages)
            .map(|(entry, message)| Signed {
                key: &entry.header().author.key,
                message,
                signature: entry.signature(),
            })
            .collect();
        for bad in verify_batch(&signed, self.database.shared().entropy.seed()) {
            if let Some(entry) = entries.get(bad) {
                self.report.add(Fault::Entry(entry.id(), Reject::Signature));
            }
        }
    }

    /// Compares the index of ids with the log.
    fn places(&mut self, first: u64, entries: &[Entry]) -> Result<()> {
        let ids: Vec<Id> = entries.iter().map(Entry::id).collect();
        let located = self.reader.locate(&ids).map_err(Error::from);
        let Some(located) = self.report.read(located)? else {
            return Ok(());
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

    fn payloads(&mut self, entry: &Entry) {
        for (name, payload) in entry.payloads() {
            let Some(payload) = payload else { continue };
            let unread =
                decode(name, payload).is_none() && !(name.is_settings() && has_no_doc(payload));
            if unread && self.report.unread.len() < limits::REPORTED_FAULTS {
                self.report.unread.push((entry.id(), name.clone()));
            }
        }
    }

    fn index(
        &mut self,
        snapshot: &dyn Snapshot,
        log: &DatabaseLog,
        state: &LogState,
    ) -> Result<()> {
        let mut rows = 0;
        let _ = snapshot.for_each::<(), Error>(
            Space::Ids,
            &KeyRange::prefix(log.no().prefix()),
            Direction::Forward,
            |_| {
                rows += 1;
                Ok(std::ops::ControlFlow::Continue(()))
            },
        )?;
        if rows != state.next_arrival {
            self.report.add(Fault::IndexRows(rows, state.next_arrival));
        }
        Ok(())
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
}

/// Which entries are void by everything that is known. Every entry is judged, each cut walked down once.
fn void(
    authority: &Authority,
    known: &Known<'_>,
    settings: &Ids,
    reader: &LogReader<'_>,
) -> Result<Marks> {
    let standings = Standings::at(authority, known, settings)?;
    let mut void = Marks::default();
    for arrival in standings.void_of_all(&reader.heads()?)? {
        void.set(arrival, true);
    }
    Ok(void)
}

/// What has nothing above it: see [`crate::effects`].
#[derive(Default)]
struct Ends {
    tips: BTreeSet<Stamp>,
    leaves: BTreeSet<Stamp>,
    loose: Marks,
    authors: BTreeMap<PublicKey, u64>,
}

impl Ends {
    /// From the last entry to the first, so that what is above one is known when it comes.
    fn of(reader: &LogReader<'_>, void: &Marks, state: &LogState) -> Result<Self> {
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

/// A settings payload that has authority records and nothing beside.
fn has_no_doc(payload: &[u8]) -> bool {
    eidetica_auth::SettingsPayload::decode(payload).is_ok_and(|settings| settings.doc().is_empty())
}

/// Compares all state rows of a database with those that follow from its entries.
fn compare_state(
    registry: &Registry,
    stores: &BTreeMap<(StoreName, StoreKind), MemRows>,
    may_be_empty: bool,
    log: &DatabaseLog,
    snapshot: &dyn Snapshot,
    report: &mut VerifyReport,
) -> Result<()> {
    let registered = registry.all();
    for (name, kind, slot) in &registered {
        // What void entries wrote has left its name.
        if !may_be_empty && !stores.contains_key(&(name.clone(), *kind)) {
            report.add(Fault::State(Space::Meta, slot.prefix(RowSpace::Ver)));
        }
    }
    let mut expected: [BTreeMap<Vec<u8>, &[u8]>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let [state, versions] = &mut expected;
    for ((name, kind), rows) in stores {
        let Some(slot) = registry.slot(name, *kind) else {
            report.add(Fault::Unreadable(format!(
                "the store {name} is not in the registry"
            )));
            continue;
        };
        for space in [RowSpace::Cur, RowSpace::Pos, RowSpace::Ver] {
            let into = if StoreSlot::space(space) == Space::State {
                &mut *state
            } else {
                &mut *versions
            };
            let prefix = slot.prefix(space);
            into.extend(
                rows.iter(space)
                    .map(|(key, value)| ([prefix.as_slice(), key].concat(), value)),
            );
        }
    }
    for (space, expected) in [Space::State, Space::Versions].into_iter().zip(expected) {
        compare_rows(space, expected, log, snapshot, report)?;
    }
    Ok(())
}

fn compare_rows(
    space: Space,
    mut expected: BTreeMap<Vec<u8>, &[u8]>,
    log: &DatabaseLog,
    snapshot: &dyn Snapshot,
    report: &mut VerifyReport,
) -> Result<()> {
    let range = KeyRange::prefix(log.no().prefix());
    let _ = snapshot.for_each::<(), Error>(space, &range, Direction::Forward, |row| {
        report.state_rows += 1;
        let found: Option<&[u8]> = expected.remove(row.key.as_ref());
        if found != Some(row.value.as_ref()) {
            report.add(Fault::State(space, row.key.to_vec()));
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    for key in expected.into_keys() {
        report.add(Fault::State(space, key));
    }
    Ok(())
}
