//! Computing the rows of the log again from the rows that hold the entries.
//!
//! While that goes on the database has no version row, so that nobody reads or writes it ([`LogError::Repairing`]); a
//! row of its own says so, and stays after a crash: the repair is run again then. The last batch puts all back at once.
//! Whoever repairs says what the log cannot know: which entries are void, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::pack::{self, Limits};
use eidetica_entry::{Entry, Height, Id, PublicKey, Stamp, StoreName};

use super::cache::Block;
use super::holes::{Hole, Place, StoreHoles, add_missing};
use super::rows::{self, IdRow, LOST, PackHeights, Stored, checked_sum, key_of, put_sum};
use super::writer::heights_of;
use super::{
    DatabaseLog, DbNo, EntryLog, LogError, LogReader, LogState, Mark, Marks, Quota, quota,
};
use crate::{Batch, Direction, Durability, KeyRange, ScanLimit, Snapshot, Space, limits};

const REPAIRING: [u8; 2] = *b"Lz";
/// More batches than a database of an unknown version can have seen.
const UNKNOWN_VERSION: u64 = 1 << 40;

/// What the rows that hold the entries say.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// How many entries there are.
    pub entries: u64,
    /// Entries from here on have rows of their own.
    pub open_from: u64,
    /// The greatest height.
    pub max_height: Height,
    /// Bytes of the entries, each encoded by itself.
    pub bytes: u64,
    packs: Vec<PackHeights>,
    /// The entries that lack the payload of a store.
    holes: BTreeMap<StoreName, Marks>,
    /// What says which repair goes on.
    repairing: Option<Bytes>,
}

/// What follows from the entries, computed again.
#[derive(Debug, Clone, Default)]
pub struct Rebuilt {
    /// The settings entries that are in no other one's past.
    pub settings: Vec<Id>,
    /// The effective entries that are in no other effective one's past.
    pub tips: Vec<Stamp>,
    /// Void entries.
    pub void: Marks,
    /// Those with no effective one above them.
    pub loose: Marks,
    /// Those that are nobody's parents.
    pub leaves: BTreeSet<Stamp>,
    /// How many loose ones each author has.
    pub authors: BTreeMap<PublicKey, u64>,
}

impl DatabaseLog {
    /// Looks at every row that holds entries, and calls `visit` for the entries of each with the arrival number of the
    /// first. Needs no other row to be right.
    ///
    /// # Errors
    /// The first row that is damaged or missing, the engine's.
    pub fn survey(
        &self,
        snapshot: &dyn Snapshot,
        mut visit: impl FnMut(u64, &[Entry]) -> Result<(), LogError>,
    ) -> Result<Survey, LogError> {
        let reader = self.reader(snapshot);
        let mut survey = Survey {
            repairing: snapshot.get(Space::Meta, &key(self.no))?,
            ..Survey::default()
        };
        let range = KeyRange::prefix(self.no.prefix());
        let _: ControlFlow<()> =
            snapshot.for_each(Space::Log, &range, Direction::Forward, |row| {
                let first = rows::log_arrival(self.no, &row.key)?;
                let stored = rows::decode_log(self.no, first, &row.value)?;
                let is_pack = matches!(stored, Stored::Pack(_));
                let block: Arc<Block> = reader.decode(first, stored)?;
                if first != survey.entries || block.entries.is_empty() {
                    let row = rows::log_row(self.no, survey.entries);
                    return Err(LogError::corrupt(row, "missing"));
                }
                survey.add(&block, is_pack);
                visit(first, &block.entries)?;
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        match survey.entries {
            0 => Err(LogError::corrupt(rows::log_row(self.no, 0), "missing")),
            _ => Ok(survey),
        }
    }

    /// Checks that what was surveyed is all that was stored, by the version row, or where that is damaged by the index.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for the first row that is missing at the end, the engine's.
    pub fn check_end(&self, snapshot: &dyn Snapshot, survey: &Survey) -> Result<(), LogError> {
        let row = snapshot.get(Space::Meta, &rows::version_key(self.no))?;
        let state = row.and_then(|row| rows::decode_state(self.no, &row).ok());
        let is_missing = match state {
            Some(state) => state.next_arrival > survey.entries,
            None => self.is_indexed_beyond(snapshot, survey.entries)?,
        };
        match is_missing {
            true => {
                let row = rows::log_row(self.no, survey.entries);
                Err(LogError::corrupt(row, "missing"))
            }
            false => Ok(()),
        }
    }

    /// Whether the index has an entry that arrived as this one or later.
    fn is_indexed_beyond(&self, snapshot: &dyn Snapshot, arrival: u64) -> Result<bool, LogError> {
        let range = KeyRange::prefix(self.no.prefix());
        let found = snapshot.for_each(Space::Ids, &range, Direction::Forward, |row| {
            let indexed = rows::id_arrival(self.no, &row.key, &row.value);
            Ok::<_, LogError>(match indexed.is_ok_and(|indexed| indexed >= arrival) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        Ok(found.is_break())
    }

    /// Stages the beginning of a repair, or nothing if one was interrupted: from then on nobody else reads or writes
    /// the database. Its version row is kept for [`stage_unrepaired`](Self::stage_unrepaired).
    ///
    /// # Errors
    /// The engine's.
    pub fn stage_repair(&self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), LogError> {
        let (key, version) = (key(self.no), rows::version_key(self.no));
        let begun = snapshot.get(Space::Meta, &key)?;
        let row = snapshot.get(Space::Meta, &version)?;
        batch.expect(Space::Meta, &key, begun.as_deref());
        batch.expect(Space::Meta, &version, row.as_deref());
        if begun.is_some() && row.is_none() {
            return Ok(());
        }
        let state = row
            .as_deref()
            .and_then(|row| rows::decode_state(self.no, row).ok());
        // A damaged one is not worth keeping.
        let kept = row.as_deref().filter(|_| state.is_some());
        let version_number = state.map_or(UNKNOWN_VERSION, |state| state.version);
        let parts = [&version_number.to_le_bytes(), kept.unwrap_or_default()];
        put_sum(&key, &parts, batch);
        batch.delete(Space::Meta, &version);
        Ok(())
    }

    /// Stages that a repair is given up, and that everything is as it was before; says whether that can be, which it
    /// cannot if the version row was damaged.
    ///
    /// # Errors
    /// [`LogError::Repairing`] where it was ended by another process.
    pub fn stage_unrepaired(&self, survey: &Survey, batch: &mut Batch) -> Result<bool, LogError> {
        self.expect_repair(survey, batch)?;
        let (_, Some(kept)) = self.before_repair(survey) else {
            return Ok(false);
        };
        let version = rows::version_key(self.no);
        batch.expect(Space::Meta, &version, None);
        batch.put(Space::Meta, &version, kept);
        batch.delete(Space::Meta, &key(self.no));
        Ok(true)
    }

    /// The version that there was before the repair that goes on, and its row if that was sound.
    fn before_repair<'s>(&self, survey: &'s Survey) -> (u64, Option<&'s [u8]>) {
        let noted = survey.repairing.as_deref();
        let noted = noted.and_then(|row| checked_sum(&key(self.no), row));
        match noted.and_then(|noted| noted.split_first_chunk()) {
            Some((version, kept)) => {
                let kept = Some(kept).filter(|kept| !kept.is_empty());
                (u64::from_le_bytes(*version), kept)
            }
            None => (UNKNOWN_VERSION, None),
        }
    }

    /// Has a batch refused once the repair has ended that went on at the time of the survey.
    fn expect_repair(&self, survey: &Survey, batch: &mut Batch) -> Result<(), LogError> {
        let row = survey.repairing.as_deref();
        batch.expect(
            Space::Meta,
            &key(self.no),
            Some(row.ok_or(LogError::Repairing(self.id))?),
        );
        Ok(())
    }

    /// Makes the index of ids right, for the ids whose first byte is in `from..to`. Holds these ids in memory. Gives
    /// `write` batches of a bounded size; returns how many rows were wrong.
    ///
    /// # Errors
    /// Those of `write`, [`LogError::Repairing`] where the repair was ended by another process, a damaged row that holds
    /// entries, the engine's.
    pub fn repair_index(
        &self,
        snapshot: &dyn Snapshot,
        (from, to): (u16, u16),
        write: &mut dyn FnMut(Batch) -> Result<(), LogError>,
    ) -> Result<u64, LogError> {
        let no = self.no;
        let mut expected: BTreeMap<Id, IdRow> = BTreeMap::new();
        let survey = self.survey(snapshot, |first, entries| {
            let located = (first..).zip(entries);
            let within = located.filter(|(_, entry)| {
                let [byte, ..] = entry.id().to_bytes();
                (from..to).contains(&u16::from(byte))
            });
            expected.extend(within.map(|(arrival, entry)| (entry.id(), row_of(arrival, entry))));
            Ok(())
        })?;
        let mut change = Changes::new(self, &survey, write)?;
        let range = ids_between(no, from, to);
        let _: ControlFlow<()> =
            snapshot.for_each(Space::Ids, &range, Direction::Forward, |row| {
                let id = row.key.get(4..).and_then(|id| id.try_into().ok());
                let known = id.map(Id::new).and_then(|id| {
                    let right = expected.remove(&id)?;
                    let found = rows::decode_id(no, &id, &row.value).ok();
                    Some((id, right, found == Some(right)))
                });
                match known {
                    Some((_, _, true)) => {}
                    Some((id, right, false)) => {
                        change.make(|batch| rows::put_id(no, &id, right, batch))?;
                    }
                    None => change.make(|batch| batch.delete(Space::Ids, &row.key))?,
                }
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        for (id, row) in expected {
            change.make(|batch| rows::put_id(no, &id, row, batch))?;
        }
        change.finish()
    }

    /// Makes the rows about the heights of packs right, as [`repair_index`](Self::repair_index) does.
    ///
    /// # Errors
    /// As [`repair_index`](Self::repair_index).
    pub fn repair_heights(
        &self,
        snapshot: &dyn Snapshot,
        survey: &Survey,
        write: &mut dyn FnMut(Batch) -> Result<(), LogError>,
    ) -> Result<u64, LogError> {
        let no = self.no;
        let mut expected: BTreeMap<u64, PackHeights> = survey
            .packs
            .iter()
            .map(|pack| (pack.first, *pack))
            .collect();
        let mut change = Changes::new(self, survey, write)?;
        let range = rows::heights_range(no, Height::ROOT);
        let _: ControlFlow<()> =
            snapshot.for_each(Space::Meta, &range, Direction::Forward, |row| {
                let found = rows::decode_heights(no, &row.key, &row.value).ok();
                let right = found.filter(|found| expected.get(&found.first) == Some(found));
                match right {
                    Some(right) => drop(expected.remove(&right.first)),
                    None => change.make(|batch| batch.delete(Space::Meta, &row.key))?,
                }
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        for pack in expected.into_values() {
            change.make(|batch| rows::put_heights(no, pack, batch))?;
        }
        change.finish()
    }

    /// Stages the end of a repair: all that follows from the entries, with no state applied yet.
    ///
    /// # Errors
    /// [`LogError::Repairing`] where it was ended by another process, a damaged row, the engine's.
    pub fn stage_rebuilt(
        &self,
        snapshot: &dyn Snapshot,
        survey: &Survey,
        rebuilt: &Rebuilt,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let no = self.no;
        let repairing = key(no);
        self.expect_repair(survey, batch)?;
        batch.expect(Space::Meta, &rows::version_key(no), None);
        batch.delete(Space::Meta, &repairing);
        batch.delete(Space::Meta, &key_of(LOST, no));
        let (version, _) = self.before_repair(survey);
        for range in rows::void_ranges(no) {
            batch.delete_range(Space::Meta, &range);
        }
        let marks = [
            (Mark::Void, &rebuilt.void),
            (Mark::Absent, &rebuilt.void),
            (Mark::Loose, &rebuilt.loose),
        ];
        for (mark, marks) in marks {
            for (number, chunk) in marks.chunks() {
                rows::put_marks(no, mark, number, chunk, batch);
            }
        }
        for leaf in &rebuilt.leaves {
            rows::put_leaf(no, *leaf, true, batch);
        }
        for (author, entries) in &rebuilt.authors {
            rows::put_loose(no, author, *entries, batch);
        }
        let state = LogState {
            version: version.saturating_add(1),
            void: rebuilt.void.len(),
            loose: rebuilt.loose.len(),
            settings: rebuilt.settings.clone(),
            tips: rebuilt.tips.clone(),
            ..survey.state()
        };
        self.stage_holes(snapshot, survey, state.version, batch)?;
        // Of a damaged one the limit is not known any more.
        let quota = match quota::read(no, snapshot) {
            Ok(quota) => quota,
            Err(LogError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let bytes = survey.bytes;
        quota::put(
            no,
            quota.map(|quota| Quota { bytes, ..quota }).as_ref(),
            batch,
        );
        rows::drop_summaries(no, state.version, std::iter::empty(), batch);
        let row = rows::encode_state(no, &state);
        batch.put(Space::Meta, &rows::version_key(no), &row);
        Ok(())
    }

    /// What is missing, which follows from the entries, and what of it was given up, as far as that can be read.
    fn stage_holes(
        &self,
        snapshot: &dyn Snapshot,
        survey: &Survey,
        version: u64,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        for range in rows::hole_ranges(self.no) {
            batch.delete_range(Space::Meta, &range);
        }
        rows::put_rewritten(self.no, version, batch);
        if self.is_closure {
            return Ok(());
        }
        for (store, missing) in &survey.holes {
            let before = match self.reader(snapshot).given_up_in(store) {
                Ok(before) => before,
                Err(LogError::Corrupt { .. }) => Marks::default(),
                Err(error) => return Err(error),
            };
            let mut given_up = Marks::default();
            for arrival in before.iter().filter(|arrival| missing.contains(*arrival)) {
                given_up.set(arrival, true);
            }
            for (hole, marks) in [(Hole::Missing, missing), (Hole::GivenUp, &given_up)] {
                for (number, chunk) in marks.chunks() {
                    let store = store.clone();
                    let place = Place {
                        store,
                        hole,
                        number,
                    };
                    rows::put_holes(self.no, &place, chunk, batch);
                }
            }
            let counts = StoreHoles {
                store: store.clone(),
                missing: missing.len(),
                given_up: given_up.len(),
            };
            rows::put_hole_counts(self.no, &counts, batch);
        }
        Ok(())
    }

    /// Whether a repair is going on, or was interrupted.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_repairing(&self, snapshot: &dyn Snapshot) -> Result<bool, LogError> {
        Ok(snapshot.get(Space::Meta, &key(self.no))?.is_some())
    }

    /// Like [`reader`](Self::reader), for whoever repairs: as if this were the version row.
    pub fn reader_assuming<'a>(
        &'a self,
        snapshot: &'a dyn Snapshot,
        state: LogState,
    ) -> LogReader<'a> {
        LogReader::assuming(self, snapshot, state)
    }
}

/// A run of entries that no row that can be read holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The arrival number of the first.
    pub first: u64,
    /// Those that the index knows, by arrival number.
    pub ids: BTreeMap<u64, Id>,
    /// The arrival number after the last.
    pub end: u64,
}

impl Lost {
    /// Whether the index knows all of them.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.ids.len() as u64 == self.end - self.first
    }
}

impl DatabaseLog {
    /// The entries that no row that can be read holds, as far as the index of ids knows them. O(entries).
    ///
    /// # Errors
    /// A damaged version row, the engine's.
    pub fn lost(&self, snapshot: &dyn Snapshot) -> Result<Vec<Lost>, LogError> {
        let reader = self.reader(snapshot);
        let end = reader.state()?.next_arrival;
        let (mut lost, mut next) = (Vec::new(), 0);
        while next < end {
            match reader.block_at(next) {
                Ok(block) => next = block.end(),
                Err(LogError::Corrupt { .. }) => {
                    let (first, end) = (next, reader.next_row(next)?);
                    let ids = BTreeMap::new();
                    lost.push(Lost { first, ids, end });
                    next = end;
                }
                Err(error) => return Err(error),
            }
        }
        if lost.is_empty() {
            return Ok(lost);
        }
        let range = KeyRange::prefix(self.no.prefix());
        let _: ControlFlow<()> =
            snapshot.for_each(Space::Ids, &range, Direction::Forward, |row| {
                // What the index does not know is not there to be asked for.
                if let Ok((id, arrival)) = reader.read_index_row(&row) {
                    let at = lost.partition_point(|lost| lost.end <= arrival);
                    let within = lost.get_mut(at).filter(|lost| lost.first <= arrival);
                    within.map(|lost| lost.ids.insert(arrival, id));
                }
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        Ok(lost)
    }

    /// Stages rows for entries in the place of those that were lost there: the same ones, in the order of arrival, from
    /// the number `first` on. They may be a part of what was lost. The caller has verified them.
    ///
    /// # Errors
    /// [`LogError::Pack`] for entries that no pack can hold, [`LogError::Missing`] for another entry than was there, the
    /// engine's.
    pub fn stage_mended(
        &self,
        snapshot: &dyn Snapshot,
        lost: &Lost,
        first: u64,
        entries: &[Entry],
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let (state, version) = rows::read_state(self, snapshot)?;
        // Nothing of what others stage changes by this, but none of it may come in between.
        batch.expect(Space::Meta, &rows::version_key(self.no), Some(&version));
        for (arrival, entry) in (first..).zip(entries) {
            if lost.ids.get(&arrival) != Some(&entry.id()) {
                return Err(LogError::Missing(entry.id()));
            }
        }
        let end = first + entries.len() as u64;
        batch.delete_range(Space::Log, &rows::log_range(self.no, first, end));
        // A row whose key is damaged may have gone there.
        let beyond = rows::log_range(self.no, state.next_arrival, u64::MAX);
        batch.delete_range(Space::Log, &beyond);
        let packed = state.open_from.saturating_sub(first);
        let packed = usize::try_from(packed).unwrap_or(usize::MAX);
        let (packed, open) = entries.split_at(packed.min(entries.len()));
        let mut at = first;
        for chunk in pack::chunks(packed, limits::STORED_PACK_ENTRIES) {
            rows::put_pack(self.no, at, &pack::encode(chunk)?, batch);
            at += chunk.len() as u64;
        }
        for (arrival, entry) in (at..).zip(open) {
            rows::put_single(self.no, arrival, entry, batch);
        }
        Ok(())
    }

    /// Stages that entries are known to be lost, so that peers are asked for them. It stands there until a repair has
    /// ended.
    pub fn stage_lost(&self, batch: &mut Batch) {
        put_sum(&key_of(LOST, self.no), &[], batch);
    }

    /// Whether entries are known to be lost. One row.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_losing(&self, snapshot: &dyn Snapshot) -> Result<bool, LogError> {
        let row = snapshot.get(Space::Meta, &key_of(LOST, self.no))?;
        Ok(row.is_some())
    }
}

impl EntryLog {
    /// Makes the rows that lead to databases right: a database whose row is damaged is known by its root entry. Says
    /// how many rows were wrong.
    ///
    /// # Errors
    /// The engine's.
    pub fn repair_directory(&self) -> Result<u64, LogError> {
        let snapshot = self.engine().snapshot()?;
        let (mut batch, mut wrong) = (Batch::new(), 0);
        let (mut known, mut greatest) = (BTreeMap::new(), None);
        let mut damaged = 0;
        for directory in [rows::Directory::Databases, rows::Directory::Closures] {
            let range = directory.range();
            let _: ControlFlow<()> =
                snapshot.for_each(Space::Meta, &range, Direction::Forward, |row| {
                    match rows::decode_directory(directory, &row.key, &row.value) {
                        Ok((_, no)) => drop(known.insert(no, directory)),
                        Err(_) => {
                            damaged += 1;
                            batch.delete(Space::Meta, &row.key);
                        }
                    }
                    Ok::<_, LogError>(ControlFlow::Continue(()))
                })?;
        }
        wrong += damaged;
        let ended: BTreeSet<DbNo> = self.ended()?.into_iter().map(|(no, _)| no).collect();
        for key in self.damaged_rows(&*snapshot)? {
            // Rows whose keys are damaged may name a database that there never was.
            let no = key.get(2..6).and_then(|no| no.try_into().ok());
            let no = no.map(u32::from_be_bytes).map(DbNo);
            let is_stray = match no {
                Some(no) => !rows::is_directory(&key) && !belongs(&key, no, known.get(&no)),
                None => !rows::is_of_all(&key),
            };
            if is_stray {
                wrong += 1;
                batch.delete(Space::Meta, &key);
            }
        }
        let numbers = numbers(&*snapshot)?;
        let closed = rows::closed(&*snapshot)?;
        for no in &numbers {
            greatest = greatest.max(Some(*no));
            if known.contains_key(no) || ended.contains(no) {
                continue;
            }
            let Some(root) = root_of(*no, &*snapshot)? else {
                continue;
            };
            let directory = match closed.contains(no) {
                true => rows::Directory::Closures,
                false => rows::Directory::Databases,
            };
            wrong += u64::from(damaged == 0);
            known.insert(*no, directory);
            rows::put_directory(directory, &root.id(), *no, &mut batch);
        }
        for no in wrongly_closed(&known, &closed) {
            let is_root_lost = !known.contains_key(&no) && numbers.contains(&no);
            if is_root_lost {
                continue;
            }
            wrong += 1;
            let is_closure = known.get(&no) == Some(&rows::Directory::Closures);
            rows::put_closed(no, is_closure, &mut batch);
        }
        greatest = greatest
            .max(known.last_key_value().map(|(no, _)| *no))
            .max(ended.last().copied());
        wrong += u64::from(rows::repair_counter(greatest, &*snapshot, &mut batch)?);
        if !batch.is_empty() {
            self.engine().write(&batch, Durability::Durable)?;
        }
        Ok(wrong)
    }
}

impl EntryLog {
    /// Numbers of databases that have entries and that no row leads to.
    ///
    /// # Errors
    /// The engine's, damaged rows.
    pub fn unlisted(&self, snapshot: &dyn Snapshot) -> Result<Vec<DbNo>, LogError> {
        let mut numbers = numbers(snapshot)?;
        let listed = self.databases()?.into_iter().chain(self.closures()?);
        let listed: BTreeSet<DbNo> = listed.map(|log| log.no).collect();
        let ended: BTreeSet<DbNo> = self.ended()?.into_iter().map(|(no, _)| no).collect();
        numbers.retain(|no| !listed.contains(no) && !ended.contains(no));
        Ok(numbers)
    }

    /// The keys of the rows that say of a number that it is a closure's, where they do not fit the directory.
    ///
    /// # Errors
    /// The engine's, damaged rows of the directory.
    pub fn wrongly_closed(&self, snapshot: &dyn Snapshot) -> Result<Vec<[u8; 6]>, LogError> {
        let mut known = BTreeMap::new();
        for log in self.closures()? {
            known.insert(log.no, rows::Directory::Closures);
        }
        let wrong = wrongly_closed(&known, &rows::closed(snapshot)?);
        Ok(wrong.into_iter().map(rows::closed_key).collect())
    }

    /// Whether the row of the next number is above all that were given.
    ///
    /// # Errors
    /// The engine's.
    pub fn counts_right(&self, snapshot: &dyn Snapshot) -> Result<bool, LogError> {
        let greatest = numbers(snapshot)?.into_iter().max();
        Ok(!rows::repair_counter(
            greatest,
            snapshot,
            &mut Batch::new(),
        )?)
    }
}

/// Whether a row is made right with the others of its number, whatever is damaged of it.
fn belongs(key: &[u8], no: DbNo, known: Option<&rows::Directory>) -> bool {
    match known {
        None => false,
        Some(rows::Directory::Databases) if *key == rows::closed_key(no) => false,
        Some(_) => *key != key_of(LOST, no),
    }
}

/// The numbers that are closures' by one of these and not by the other.
fn wrongly_closed(
    known: &BTreeMap<DbNo, rows::Directory>,
    closed: &BTreeSet<DbNo>,
) -> BTreeSet<DbNo> {
    let closures = known
        .iter()
        .filter(|(_, directory)| **directory == rows::Directory::Closures);
    let closures: BTreeSet<DbNo> = closures.map(|(no, _)| *no).collect();
    closures.symmetric_difference(closed).copied().collect()
}

/// The numbers of databases of which there are entries.
fn numbers(snapshot: &dyn Snapshot) -> Result<Vec<DbNo>, LogError> {
    let (mut found, mut range) = (Vec::new(), KeyRange::all());
    loop {
        let limit = ScanLimit::rows(1);
        let page = snapshot.scan(Space::Log, &range, Direction::Forward, limit)?;
        let no = page.rows.first().and_then(|row| row.key.first_chunk());
        let Some(no) = no.copied().map(u32::from_be_bytes).map(DbNo) else {
            return Ok(found);
        };
        found.push(no);
        range.start = KeyRange::prefix(no.prefix()).end.unwrap_or_default();
        if range.start.is_empty() {
            return Ok(found);
        }
    }
}

fn root_of(no: DbNo, snapshot: &dyn Snapshot) -> Result<Option<Entry>, LogError> {
    let key = rows::log_key(no, 0);
    let Some(value) = snapshot.get(Space::Log, &key)? else {
        return Ok(None);
    };
    let entries = match rows::decode_log(no, 0, &value) {
        Ok(Stored::Single(bytes)) => Entry::decode(&bytes).ok().into_iter().collect(),
        Ok(Stored::Pack(bytes)) => pack::decode(&bytes, &Limits::default()).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let root = entries.into_iter().next();
    Ok(root.filter(|root| root.header().is_root()))
}

impl Survey {
    fn add(&mut self, block: &Block, is_pack: bool) {
        let heights = heights_of(block.first, &block.entries);
        self.entries = block.end();
        self.max_height = self.max_height.max(heights.max);
        let bytes = block.entries.iter().map(|entry| entry.encoded_len() as u64);
        self.bytes += bytes.sum::<u64>();
        add_missing(block.first, &block.entries, &mut self.holes);
        if is_pack {
            self.open_from = block.end();
            self.packs.push(heights);
        }
    }

    /// A version row by what is known so far.
    #[must_use]
    pub fn state(&self) -> LogState {
        LogState {
            next_arrival: self.entries,
            open_from: self.open_from,
            max_height: self.max_height,
            ..LogState::default()
        }
    }
}

/// Changes that are written some at a time, while the repair goes on in which they were found.
struct Changes<'w> {
    begun: Batch,
    batch: Batch,
    changed: u64,
    write: &'w mut dyn FnMut(Batch) -> Result<(), LogError>,
}

impl<'w> Changes<'w> {
    fn new(
        log: &DatabaseLog,
        survey: &Survey,
        write: &'w mut dyn FnMut(Batch) -> Result<(), LogError>,
    ) -> Result<Self, LogError> {
        let mut begun = Batch::new();
        log.expect_repair(survey, &mut begun)?;
        Ok(Self {
            begun,
            batch: Batch::new(),
            changed: 0,
            write,
        })
    }

    fn make(&mut self, change: impl FnOnce(&mut Batch)) -> Result<(), LogError> {
        if self.batch.is_empty() {
            self.batch = self.begun.clone();
        }
        change(&mut self.batch);
        self.changed += 1;
        match self.batch.len() >= limits::REPAIR_ROWS {
            true => (self.write)(std::mem::take(&mut self.batch)),
            false => Ok(()),
        }
    }

    fn finish(self) -> Result<u64, LogError> {
        if !self.batch.is_empty() {
            (self.write)(self.batch)?;
        }
        Ok(self.changed)
    }
}

fn row_of(arrival: u64, entry: &Entry) -> IdRow {
    IdRow {
        arrival,
        height: entry.header().height,
        writes_settings: entry.header().writes_settings(),
    }
}

/// The index rows of ids whose first byte is in `from..to`.
fn ids_between(no: DbNo, from: u16, to: u16) -> KeyRange {
    let all = KeyRange::prefix(no.prefix());
    let key = |byte: u16| {
        let byte = u8::try_from(byte).ok()?;
        Some([no.prefix().as_slice(), &[byte]].concat())
    };
    KeyRange {
        start: key(from).filter(|_| from > 0).unwrap_or(all.start),
        end: key(to).or(all.end),
    }
}

pub(super) fn key(no: DbNo) -> [u8; 6] {
    key_of(REPAIRING, no)
}
