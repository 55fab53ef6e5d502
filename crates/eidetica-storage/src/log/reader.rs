//! [`LogReader`]: one database through one snapshot.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::dag::{Dag, Node};
use eidetica_entry::pack::{self, Limits};
use eidetica_entry::{Entry, Height, Id, Ids, ParentInfo, PublicKey, Stamp, StoreName};

use super::cache::Block;
use super::holes::{Hole, StoreHoles};
use super::rows::{self, Stored};
use super::{DatabaseLog, DbNo, LogError, LogState, Mark, Marks, marks};
use crate::{Direction, KeyRange, Row, ScanLimit, Snapshot, Space, limits};

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Its arrival number.
    pub arrival: u64,
    /// Its height.
    pub height: Height,
    /// Whether it writes `_settings`.
    pub writes_settings: bool,
}

/// Reads the log of one database as it was when a snapshot was taken.
///
/// Also a [`Dag`] of its entries. A reader remembers the packs that it met last, so that a walk costs
/// one decoding per pack and not one lookup per entry; make one per call and let it go.
pub struct LogReader<'a> {
    log: &'a DatabaseLog,
    snapshot: &'a dyn Snapshot,
    recent: RefCell<VecDeque<Arc<Block>>>,
    /// Entries with rows of their own that were read one by one.
    singles: Cell<usize>,
    /// All of the open block, once it was worth reading.
    open: OnceCell<Arc<Block>>,
    /// The version row, once it was read.
    state: OnceCell<LogState>,
    /// The version at which stored entries were last changed in place.
    rewritten: OnceCell<u64>,
    /// What stands in the place of the version row, if that is not to be read.
    assumed: Option<LogState>,
}

impl<'a> LogReader<'a> {
    pub(super) fn new(log: &'a DatabaseLog, snapshot: &'a dyn Snapshot) -> Self {
        Self {
            log,
            snapshot,
            recent: RefCell::new(VecDeque::new()),
            singles: Cell::new(0),
            open: OnceCell::new(),
            state: OnceCell::new(),
            rewritten: OnceCell::new(),
            assumed: None,
        }
    }

    /// A reader that takes `state` for what the version row says.
    pub(super) fn assuming(
        log: &'a DatabaseLog,
        snapshot: &'a dyn Snapshot,
        state: LogState,
    ) -> Self {
        Self {
            assumed: Some(state),
            ..Self::new(log, snapshot)
        }
    }

    pub(super) fn no(&self) -> DbNo {
        self.log.no
    }

    /// The cached row that contains `arrival`.
    pub(super) fn cached(&self, arrival: u64) -> Result<Option<Arc<Block>>, LogError> {
        let cache = &self.log.shared.cache;
        Ok(cache.containing(self.no(), self.rewritten()?, arrival))
    }

    fn rewritten(&self) -> Result<u64, LogError> {
        if let Some(version) = self.rewritten.get() {
            return Ok(*version);
        }
        let row = self.read_meta(&rows::rewritten_key(self.no()))?;
        // Nothing was changed in place since the row was damaged: whoever does writes it.
        let damaged = |_| u64::MAX;
        let version = row.map_or(0, |value| {
            rows::decode_rewritten(self.no(), &value).unwrap_or_else(damaged)
        });
        Ok(*self.rewritten.get_or_init(|| version))
    }

    /// The stores of which payloads are not here, ascending; none in a complete database. O(these stores).
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn holes(&self) -> Result<Vec<StoreHoles>, LogError> {
        let mut stores = Vec::new();
        self.each_meta(&rows::hole_counts_range(self.no()), |key, value| {
            stores.push(rows::decode_hole_counts(self.no(), key, value)?);
            Ok(())
        })?;
        Ok(stores)
    }

    /// What lacks of one store; `None` if nothing does. One row.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn holes_of(&self, store: &StoreName) -> Result<Option<StoreHoles>, LogError> {
        let key = rows::hole_counts_key(self.no(), store);
        let row = self.read_meta(&key)?;
        row.map(|value| rows::decode_hole_counts(self.no(), &key, &value))
            .transpose()
    }

    /// The entries whose payload for a store is not here. One row per chunk of entries that has any.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn missing_in(&self, store: &StoreName) -> Result<Marks, LogError> {
        self.holes_in(Hole::Missing, store)
    }

    /// Those of [`missing_in`](Self::missing_in) that nobody waits for any more.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn given_up_in(&self, store: &StoreName) -> Result<Marks, LogError> {
        self.holes_in(Hole::GivenUp, store)
    }

    pub(super) fn holes_in(&self, hole: Hole, store: &StoreName) -> Result<Marks, LogError> {
        let mut marks = Marks::default();
        self.each_meta(&rows::holes_range(self.no(), hole, store), |key, value| {
            let (number, chunk) = rows::decode_holes(self.no(), key, value)?;
            marks.put(number, chunk);
            Ok(())
        })?;
        Ok(marks)
    }

    /// The version row.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn state(&self) -> Result<LogState, LogError> {
        let known = self.assumed.as_ref().or(self.state.get());
        if let Some(state) = known {
            return Ok(state.clone());
        }
        let (state, _) = rows::read_state(self.log, self.snapshot)?;
        Ok(self.state.get_or_init(|| state).clone())
    }

    /// All entries with this mark. Costs one row per chunk of entries that has any.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn marks(&self, mark: Mark) -> Result<Marks, LogError> {
        self.read_marks(&rows::marks_range(self.no(), mark))
    }

    /// Like [`marks`](Self::marks), at least those of entries with these arrival numbers: one row per chunk of them.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn marks_among(&self, mark: Mark, arrivals: Range<u64>) -> Result<Marks, LogError> {
        let key = |chunk| rows::marks_key(self.no(), mark, chunk);
        let [first, last] = [arrivals.start, arrivals.end.saturating_sub(1)].map(marks::chunk_of);
        self.read_marks(&KeyRange::new(key(first), key(last + 1)))
    }

    fn read_marks(&self, range: &KeyRange) -> Result<Marks, LogError> {
        let mut all = Marks::default();
        self.each_meta(range, |key, value| {
            let (number, chunk) = rows::decode_marks(self.no(), key, value)?;
            all.put(number, chunk);
            Ok(())
        })?;
        Ok(all)
    }

    /// Whether one entry has this mark: one row.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn is_marked(&self, mark: Mark, arrival: u64) -> Result<bool, LogError> {
        let key = rows::marks_key(self.no(), mark, marks::chunk_of(arrival));
        let Some(value) = self.snapshot.get(Space::Meta, &key)? else {
            return Ok(false);
        };
        let (_, chunk) = rows::decode_marks(self.no(), &key, &value)?;
        Ok(chunk.contains(arrival))
    }

    /// The void entries that are nobody's parents, ascending. With the tips, everything is in their past.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn void_leaves(&self) -> Result<Vec<Stamp>, LogError> {
        let mut leaves = Vec::new();
        self.each_meta(&rows::leaves_range(self.no()), |key, value| {
            leaves.push(rows::decode_leaf(self.no(), key, value)?);
            Ok(())
        })?;
        leaves.sort_unstable();
        Ok(leaves)
    }

    /// How many loose entries each author has, of those that have any.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn loose_authors(&self) -> Result<BTreeMap<PublicKey, u64>, LogError> {
        let mut authors = BTreeMap::new();
        self.each_meta(&rows::loose_range(self.no()), |key, value| {
            authors.extend([rows::decode_loose(self.no(), key, value)?]);
            Ok(())
        })?;
        Ok(authors)
    }

    /// Ids that have every entry in their past: the tips and the void leaves.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn heads(&self) -> Result<Vec<Id>, LogError> {
        let state = self.state()?;
        let leaves = match state.void {
            0 => Vec::new(),
            _ => self.void_leaves()?,
        };
        let heads = state.tips.iter().chain(&leaves);
        Ok(heads.map(|stamp| stamp.id).collect())
    }

    pub(super) fn each_meta(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let _: ControlFlow<()> =
            self.snapshot
                .for_each(Space::Meta, range, Direction::Forward, |row| {
                    visit(&row.key, &row.value)?;
                    Ok::<_, LogError>(ControlFlow::Continue(()))
                })?;
        Ok(())
    }

    pub(super) fn read_meta(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        Ok(self.snapshot.get(Space::Meta, key)?)
    }

    /// The arrival numbers of entries whose ids begin with these bytes; of more than [`limits::SAME_PREFIX`] only the
    /// first.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn with_prefix(&self, prefix: &[u8]) -> Result<Vec<u64>, LogError> {
        let range = rows::ids_range(self.no(), prefix);
        let limit = ScanLimit::rows(limits::SAME_PREFIX);
        let page = self
            .snapshot
            .scan(Space::Ids, &range, Direction::Forward, limit)?;
        let rows = page.rows.iter();
        rows.map(|row| rows::id_arrival(self.no(), &row.key, &row.value))
            .collect()
    }

    /// Where each of `ids` stands: one row lookup per id, [`limits::LOOKUPS`] of them in one call to the engine.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn locate(&self, ids: &[Id]) -> Result<Vec<Option<Located>>, LogError> {
        let mut located = Vec::with_capacity(ids.len());
        for ids in ids.chunks(limits::LOOKUPS) {
            let keys: Vec<[u8; 36]> = ids.iter().map(|id| rows::id_key(self.no(), id)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
            let values = self.snapshot.multi_get(Space::Ids, &keys)?;
            for (id, value) in ids.iter().zip(values) {
                let row = value
                    .map(|value| rows::decode_id(self.no(), id, &value))
                    .transpose()?;
                located.push(row.map(|row| Located {
                    arrival: row.arrival,
                    height: row.height,
                    writes_settings: row.writes_settings,
                }));
            }
        }
        Ok(located)
    }

    /// Which of `ids` are here.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn contains_many(&self, ids: &[Id]) -> Result<Vec<bool>, LogError> {
        Ok(self.locate(ids)?.iter().map(Option::is_some).collect())
    }

    /// Which entries are here, by their stamps. What is higher than everything that is here costs no look-up.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn contains_stamps(&self, stamps: &[Stamp]) -> Result<Vec<bool>, LogError> {
        let highest = self.state()?.max_height;
        let is_new = |stamp: &&Stamp| stamp.height > highest;
        let low: Vec<Id> = stamps
            .iter()
            .filter(|stamp| !is_new(stamp))
            .map(|stamp| stamp.id)
            .collect();
        let mut found = self.contains_many(&low)?.into_iter();
        let all = stamps
            .iter()
            .map(|stamp| !is_new(&stamp) && found.next().unwrap_or(false));
        Ok(all.collect())
    }

    /// One entry by id. May decode a pack.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn get(&self, id: &Id) -> Result<Option<Entry>, LogError> {
        Ok(self.get_many(&[*id])?.pop().flatten())
    }

    /// Entries by id, in the order of `ids`. Reads each row once.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn get_many(&self, ids: &[Id]) -> Result<Vec<Option<Entry>>, LogError> {
        let mut found: Vec<Option<Entry>> = vec![None; ids.len()];
        let located = self.locate(ids)?;
        let mut wanted: Vec<(u64, usize)> = located
            .iter()
            .enumerate()
            .filter_map(|(at, l)| Some((l.as_ref()?.arrival, at)))
            .collect();
        wanted.sort_unstable();
        let mut block: Option<Arc<Block>> = None;
        for (arrival, at) in wanted {
            let same = block.take().filter(|block| block.at(arrival).is_some());
            let current = match same {
                Some(block) => block,
                None => self.block_at(arrival)?,
            };
            if let (Some(slot), Some(id)) = (found.get_mut(at), ids.get(at)) {
                *slot = Some(self.pick(&current, arrival, id)?);
            }
            block = Some(current);
        }
        Ok(found)
    }

    /// The entry at `arrival`, which the id index says is `id`.
    fn pick(&self, block: &Block, arrival: u64, id: &Id) -> Result<Entry, LogError> {
        let entry = block.at(arrival).filter(|entry| entry.id() == *id);
        entry.cloned().ok_or_else(|| {
            LogError::corrupt(
                rows::log_row(self.no(), block.first),
                format_args!("entry {id} is not at {arrival}"),
            )
        })
    }

    /// What children need to know of each of `ids`.
    ///
    /// # Errors
    /// The engine's errors, a damaged row.
    pub fn parent_infos(&self, ids: &[Id]) -> Result<Vec<Option<ParentInfo>>, LogError> {
        let entries = self.get_many(ids)?;
        Ok(entries
            .iter()
            .map(|entry| entry.as_ref().map(ParentInfo::from))
            .collect())
    }

    /// The entry with an arrival number.
    ///
    /// # Errors
    /// The engine's errors, a damaged or missing row.
    pub fn at(&self, arrival: u64) -> Result<Entry, LogError> {
        let block = self.block_at(arrival)?;
        block.at(arrival).cloned().ok_or_else(|| self.gap(arrival))
    }

    /// Entries in the order of arrival, from the number `from` on: at most `limit` and, after the first,
    /// at most about [`limits::READ_BYTES`]. Empty only where there are none.
    ///
    /// # Errors
    /// The engine's errors, a damaged or missing row.
    pub fn entries_from(&self, from: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        match self.entries_or_damage(from, limit)? {
            (found, None) => Ok(found),
            (_, Some(damage)) => Err(damage),
        }
    }

    /// Like [`entries_from`](Self::entries_from), up to a row that is damaged or missing, and what is wrong with that.
    ///
    /// # Errors
    /// The engine's errors, a damaged version row.
    pub fn entries_or_damage(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<LogError>), LogError> {
        let end = self.state()?.next_arrival;
        let mut found: Vec<Entry> = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        while next < end && found.len() < limit && bytes < limits::READ_BYTES {
            let block = match self.block_at(next) {
                Ok(block) => block,
                Err(damage @ LogError::Corrupt { .. }) => return Ok((found, Some(damage))),
                Err(error) => return Err(error),
            };
            while let Some(entry) = block.at(next)
                && found.len() < limit
                && bytes < limits::READ_BYTES
            {
                bytes += entry.encoded_len();
                found.push(entry.clone());
                next += 1;
            }
        }
        Ok((found, None))
    }

    /// The least arrival number above `arrival` at which a row begins; that of the next entry to come if there is none.
    ///
    /// # Errors
    /// The engine's errors, a damaged version row.
    pub fn next_row(&self, arrival: u64) -> Result<u64, LogError> {
        let end = self.state()?.next_arrival;
        let range = rows::log_range(self.no(), arrival.saturating_add(1), end);
        let limit = ScanLimit::rows(1);
        let page = self
            .snapshot
            .scan(Space::Log, &range, Direction::Forward, limit)?;
        let first = page.rows.first();
        let next = first.and_then(|row| rows::log_arrival(self.no(), &row.key).ok());
        Ok(next.unwrap_or(end))
    }

    /// What a row of the index of ids says: an entry and its arrival number.
    ///
    /// # Errors
    /// A damaged row.
    pub fn read_index_row(&self, row: &Row) -> Result<(Id, u64), LogError> {
        let arrival = rows::id_arrival(self.no(), &row.key, &row.value)?;
        let id = row.key.last_chunk().copied().unwrap_or_default();
        Ok((Id::new(id), arrival))
    }

    /// Ids and parents of entries with heights in `heights`, greatest stamp first, at most `limit`.
    /// `below` leaves out that stamp and greater ones, so that a long answer can be continued.
    ///
    /// Costs the packs that overlap the answer, and one small row per pack above it.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn by_height(
        &self,
        heights: RangeInclusive<Height>,
        below: Option<Stamp>,
        limit: usize,
    ) -> Result<Vec<(Stamp, Ids)>, LogError> {
        self.by_height_but(heights, below, limit, &Marks::default())
    }

    /// Like [`LogReader::by_height`], without some entries.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn by_height_but(
        &self,
        heights: RangeInclusive<Height>,
        below: Option<Stamp>,
        limit: usize,
        without: &Marks,
    ) -> Result<Vec<(Stamp, Ids)>, LogError> {
        let highest = below.map_or(*heights.end(), |below| below.height.min(*heights.end()));
        let wanted = |stamp: Stamp| {
            heights.contains(&stamp.height) && below.is_none_or(|below| stamp < below)
        };
        let mut found: BTreeMap<Stamp, Ids> = BTreeMap::new();
        let mut take = |first: u64, entries: &[Entry]| {
            let entries = (first..).zip(entries);
            for (_, entry) in
                entries.filter(|(at, entry)| wanted(entry.stamp()) && !without.contains(*at))
            {
                found.insert(entry.stamp(), entry.header().parents.clone());
                if found.len() > limit {
                    found.pop_first();
                }
            }
            // The least height in the answer, once that is full.
            let least = found.first_key_value().filter(|_| found.len() >= limit);
            least.map(|(stamp, _)| stamp.height)
        };
        let mut least = take(self.state()?.open_from, &self.open_entries()?);
        let range = rows::heights_range(self.no(), *heights.start());
        let _ = self
            .snapshot
            .for_each(Space::Meta, &range, Direction::Reverse, |row| {
                let pack = rows::decode_heights(self.no(), &row.key, &row.value)?;
                if limit == 0 || least.is_some_and(|least| pack.max < least) {
                    return Ok(ControlFlow::Break(()));
                }
                if pack.min <= highest {
                    let block = self.block_at(pack.first)?;
                    least = take(block.first, &block.entries);
                }
                Ok::<_, LogError>(ControlFlow::Continue(()))
            })?;
        Ok(found.into_iter().rev().collect())
    }

    /// The entries of the open block.
    pub(super) fn open_entries(&self) -> Result<Vec<Entry>, LogError> {
        let state = self.state()?;
        let mut entries = Vec::new();
        self.rows_between(state.open_from, state.next_arrival, |first, stored| {
            entries.extend(self.decode(first, stored)?.entries.iter().cloned());
            Ok(ControlFlow::Continue(()))
        })?;
        if state.open_from + entries.len() as u64 != state.next_arrival {
            return Err(self.gap(state.open_from + entries.len() as u64));
        }
        Ok(entries)
    }

    /// Visits the log rows that begin in `from..to`.
    pub(super) fn rows_between(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, Stored) -> Result<ControlFlow<()>, LogError>,
    ) -> Result<(), LogError> {
        let range = rows::log_range(self.no(), from, to);
        let _ = self
            .snapshot
            .for_each(Space::Log, &range, Direction::Forward, |row| {
                let first = rows::log_arrival(self.no(), &row.key)?;
                visit(first, rows::decode_log(self.no(), first, &row.value)?)
            })?;
        Ok(())
    }

    /// The row that contains `arrival`, and where it begins.
    pub(super) fn row_at(&self, arrival: u64) -> Result<(u64, Stored), LogError> {
        let range = rows::log_range(self.no(), 0, arrival.saturating_add(1));
        let page =
            self.snapshot
                .scan(Space::Log, &range, Direction::Reverse, ScanLimit::rows(1))?;
        let row = page.rows.first().ok_or_else(|| self.gap(arrival))?;
        let first = rows::log_arrival(self.no(), &row.key)?;
        Ok((first, rows::decode_log(self.no(), first, &row.value)?))
    }

    /// The open block, if it was read and has the entry.
    pub(super) fn open_at(&self, arrival: u64) -> Option<Arc<Block>> {
        let open = self.open.get();
        open.filter(|open| open.at(arrival).is_some()).cloned()
    }

    /// Whoever reads some entries that have rows of their own is about to read more of them: one call for all is less
    /// than one for each.
    pub(super) fn count_single(&self, stored: &Stored) -> Result<(), LogError> {
        if !matches!(stored, Stored::Single(_)) {
            return Ok(());
        }
        self.singles.set(self.singles.get() + 1);
        if self.singles.get() != limits::SINGLES {
            return Ok(());
        }
        match self.open_entries() {
            Ok(entries) => {
                let block = Block::new(self.state()?.open_from, entries);
                self.open.get_or_init(|| Arc::new(block));
                Ok(())
            }
            // Then the others are read as before.
            Err(LogError::Corrupt { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The decoded row that contains `arrival`.
    pub(super) fn block_at(&self, arrival: u64) -> Result<Arc<Block>, LogError> {
        if let Some(block) = self.open_at(arrival) {
            return Ok(block);
        }
        if let Some(block) = self.cached(arrival)? {
            self.remember(&block);
            return Ok(block);
        }
        let (first, stored) = self.row_at(arrival)?;
        self.count_single(&stored)?;
        let block = self.decode(first, stored)?;
        if block.at(arrival).is_none() {
            return Err(self.gap(arrival));
        }
        self.remember(&block);
        Ok(block)
    }

    pub(super) fn decode(&self, first: u64, stored: Stored) -> Result<Arc<Block>, LogError> {
        let corrupt = |error: &dyn std::fmt::Display| {
            LogError::corrupt(rows::log_row(self.no(), first), error)
        };
        match stored {
            Stored::Single(bytes) => {
                let entry = Entry::decode(&bytes).map_err(|error| corrupt(&error))?;
                Ok(Arc::new(Block::new(first, vec![entry])))
            }
            Stored::Pack(bytes) => {
                let entries =
                    pack::decode(&bytes, &Limits::default()).map_err(|error| corrupt(&error))?;
                let block = Arc::new(Block::new(first, entries));
                let cache = &self.log.shared.cache;
                cache.insert(self.no(), self.rewritten()?, &block);
                Ok(block)
            }
        }
    }

    fn gap(&self, arrival: u64) -> LogError {
        LogError::corrupt(rows::log_row(self.no(), arrival), "missing")
    }

    fn remember(&self, block: &Arc<Block>) {
        let mut recent = self.recent.borrow_mut();
        if block.entries.len() > 1 && !recent.iter().any(|known| Arc::ptr_eq(known, block)) {
            recent.truncate(limits::RECENT_PACKS - 1);
            recent.push_front(Arc::clone(block));
        }
    }

    /// Arrival number and value of an entry in a pack that was met lately.
    pub(super) fn find_recent<T>(&self, id: &Id, read: impl FnOnce(u64, &Entry) -> T) -> Option<T> {
        let recent = self.recent.borrow();
        let blocks = recent.iter().chain(self.open.get());
        let (arrival, entry) = blocks.into_iter().find_map(|block| block.find(id))?;
        Some(read(arrival, entry))
    }

    fn node_with(&self, id: &Id, edges: fn(&Entry) -> &Ids) -> Result<Option<Node>, LogError> {
        let node = |entry: &Entry| Node {
            height: entry.header().height,
            parents: edges(entry).clone(),
        };
        if let Some(found) = self.find_recent(id, |_, entry| node(entry)) {
            return Ok(Some(found));
        }
        Ok(self.get(id)?.as_ref().map(node))
    }

    /// The entries that write `_settings`, with their settings pins as edges: what
    /// [`eidetica_entry::derive_settings`] wants.
    #[must_use]
    pub fn settings_dag(&self) -> SettingsDag<'_, 'a> {
        SettingsDag(self)
    }
}

impl Dag for LogReader<'_> {
    type Error = LogError;

    fn node(&self, id: &Id) -> Result<Option<Node>, LogError> {
        self.node_with(id, |entry| &entry.header().parents)
    }
}

/// A view of a log by settings pins; see [`LogReader::settings_dag`].
pub struct SettingsDag<'r, 'a>(&'r LogReader<'a>);

impl Dag for SettingsDag<'_, '_> {
    type Error = LogError;

    fn node(&self, id: &Id) -> Result<Option<Node>, LogError> {
        self.0.node_with(id, |entry| &entry.header().settings)
    }
}
