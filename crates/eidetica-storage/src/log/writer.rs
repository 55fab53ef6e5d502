//! [`LogWriter`]: new entries become rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use eidetica_entry::{
    Draft, Entry, Header, Height, Id, ParentInfo, PublicKey, Signature, Stamp, StoreName, pack,
};

use super::cache::Block;
use super::holes::{Hole, HoleChanges, Holes};
use super::marks::{Chunk, Marks, chunk_of};
use super::rows::{self, IdRow, PackHeights};
use super::{
    DatabaseLog, DbNo, LogError, LogReader, LogState, Mark, Quota, Taken, names, quota, stamps,
};
use crate::{Batch, Snapshot, Space, limits};

/// The place of a single entry that may still be waiting for its signature.
type Slot = Arc<OnceLock<Entry>>;

/// The one writer of a database in this process: its state as staged so far, ahead of what is durable.
///
/// Batches must be written in the order in which their stages were finished. If one of them is not
/// written, this writer and all later batches of it are worthless: make a new one with
/// [`DatabaseLog::writer`].
pub struct LogWriter {
    log: DatabaseLog,
    state: LogState,
    /// The version row as the batches staged so far leave it; `None` before the first.
    row: Option<Bytes>,
    /// What children need to know of the tips, in the order of `state.tips`.
    tips: Vec<ParentInfo>,
    /// The open block, from `state.open_from` on.
    open: Vec<Slot>,
    /// What the open entries take, encoded.
    open_bytes: usize,
    voids: Voids,
    holes: Holes,
    /// How much it may hold, after the batches staged so far.
    quota: Option<Quota>,
}

/// What is kept about void entries; all empty in most databases.
#[derive(Default)]
struct Voids {
    marks: BTreeMap<Mark, Marks>,
    leaves: BTreeSet<Stamp>,
    loose: BTreeMap<PublicKey, u64>,
}

impl Voids {
    fn load(log: &DatabaseLog, snapshot: &dyn Snapshot) -> Result<Self, LogError> {
        let reader = log.reader(snapshot);
        let mut voids = Self {
            leaves: reader.void_leaves()?.into_iter().collect(),
            loose: reader.loose_authors()?,
            ..Self::default()
        };
        for mark in Mark::ALL {
            voids.marks.insert(mark, reader.marks(mark)?);
        }
        Ok(voids)
    }

    fn chunk(&self, mark: Mark, number: u64) -> Chunk {
        let chunk = self.marks.get(&mark).and_then(|marks| marks.chunk(number));
        chunk.cloned().unwrap_or_default()
    }
}

/// What a stage changes of [`Voids`].
#[derive(Default)]
struct VoidChanges {
    chunks: BTreeMap<(Mark, u64), Chunk>,
    leaves: BTreeMap<Stamp, bool>,
    loose: BTreeMap<PublicKey, u64>,
}

impl LogWriter {
    pub(super) fn of_new(log: DatabaseLog) -> Self {
        Self {
            log,
            state: LogState::default(),
            row: None,
            tips: Vec::new(),
            open: Vec::new(),
            open_bytes: 0,
            voids: Voids::default(),
            holes: Holes::default(),
            quota: None,
        }
    }

    pub(super) fn load(log: DatabaseLog, snapshot: &dyn Snapshot) -> Result<Self, LogError> {
        let (state, row) = rows::read_state(&log, snapshot)?;
        let (tips, open) = {
            let reader = log.reader(snapshot);
            let ids: Vec<Id> = state.tips.iter().map(|tip| tip.id).collect();
            let tips = reader.parent_infos(&ids)?.into_iter().zip(ids);
            let tips = tips
                .map(|(tip, id)| tip.ok_or(LogError::Missing(id)))
                .collect::<Result<_, _>>()?;
            (tips, reader.open_entries()?)
        };
        let open_bytes = open.iter().map(Entry::encoded_len).sum();
        let open = open
            .into_iter()
            .map(|entry| Arc::new(OnceLock::from(entry)))
            .collect();
        let row = Some(row);
        let voids = match state.void | state.unsettled {
            0 => Voids::default(),
            _ => Voids::load(&log, snapshot)?,
        };
        let holes = Holes::load(&log.reader(snapshot))?;
        let quota = quota::read(log.no, snapshot)?;
        Ok(Self {
            voids,
            holes,
            quota,
            log,
            state,
            row,
            tips,
            open,
            open_bytes,
        })
    }

    /// The database.
    #[must_use]
    pub fn log(&self) -> &DatabaseLog {
        &self.log
    }

    /// The state after everything staged so far.
    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// The tips after everything staged so far, ascending by stamp.
    #[must_use]
    pub fn tips(&self) -> &[ParentInfo] {
        &self.tips
    }

    /// The entries with this mark after everything staged so far.
    #[must_use]
    pub fn marks(&self, mark: Mark) -> Option<&Marks> {
        self.voids.marks.get(&mark)
    }

    /// Whether an entry has this mark after everything staged so far.
    #[must_use]
    pub fn is_marked(&self, mark: Mark, arrival: u64) -> bool {
        self.marks(mark)
            .is_some_and(|marks| marks.contains(arrival))
    }

    /// The void entries that are nobody's parents after everything staged so far.
    #[must_use]
    pub fn void_leaves(&self) -> &BTreeSet<Stamp> {
        &self.voids.leaves
    }

    /// How many loose entries an author has after everything staged so far.
    #[must_use]
    pub fn loose_of(&self, author: &PublicKey) -> u64 {
        self.voids.loose.get(author).copied().unwrap_or_default()
    }

    /// Whether no payload is missing after everything staged so far.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.holes.is_empty()
    }

    /// The entries whose payload for a store is missing after everything staged so far.
    #[must_use]
    pub fn missing_in(&self, store: &StoreName) -> Option<&Marks> {
        self.holes.of(store, Hole::Missing)
    }

    /// Whether the payload of an entry for a store is missing after everything staged so far.
    #[must_use]
    pub fn is_missing(&self, store: &StoreName, arrival: u64) -> bool {
        self.missing_in(store)
            .is_some_and(|missing| missing.contains(arrival))
    }

    /// How much it may hold and holds after everything staged so far; `None` for a database without a limit.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// Begins the log's part of one batch. Dropping the stage before [`Stage::finish`] undoes it; the
    /// batch is then of no use.
    pub fn stage(&mut self) -> Stage<'_> {
        let state = self.state.clone();
        let tips = self.tips.clone();
        Stage {
            state,
            tips,
            added: Vec::new(),
            sealed: 0,
            open_bytes: self.open_bytes,
            changes: VoidChanges::default(),
            holes: HoleChanges::default(),
            quota: self.quota,
            replaced: BTreeMap::new(),
            rewrites: false,
            names: false,
            old: BTreeSet::new(),
            writer: self,
        }
    }
}

/// The log's rows of one batch.
pub struct Stage<'a> {
    writer: &'a mut LogWriter,
    state: LogState,
    tips: Vec<ParentInfo>,
    /// Open entries that this stage adds behind those of the writer.
    added: Vec<Slot>,
    /// How many open entries, of the writer and then of this stage, it seals.
    sealed: usize,
    /// What the open entries take after this stage, encoded.
    open_bytes: usize,
    changes: VoidChanges,
    holes: HoleChanges,
    quota: Option<Quota>,
    /// Open entries of the writer, by their places, that have other payloads now.
    replaced: BTreeMap<usize, Entry>,
    /// Whether stored entries change in place.
    rewrites: bool,
    /// Whether settings that it adds name other databases.
    names: bool,
    /// Old blocks of heights in which what is passed on changes.
    old: BTreeSet<u64>,
}

impl Stage<'_> {
    /// The state with what has been added so far.
    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// The tips with what has been added so far, ascending by stamp.
    #[must_use]
    pub fn tips(&self) -> &[ParentInfo] {
        &self.tips
    }

    /// Declares everything before `arrival` applied to the materialised state. Never goes back, and
    /// never beyond what has been added.
    pub fn set_applied(&mut self, arrival: u64) {
        self.state.applied = self.state.applied.max(arrival.min(self.state.next_arrival));
    }

    /// Sets how much the database may hold, and says what it holds; `None` for no limit.
    pub fn set_quota(&mut self, quota: Option<Quota>) {
        self.quota = quota;
    }

    /// Says that settings among what is added name other databases, which were looked for after `taken` was read: the
    /// batch is refused if one was taken away since, and whoever is about to take one away looks again after it.
    pub fn name_others(&mut self, taken: &Taken, batch: &mut Batch) {
        names::expect_taken(taken, batch);
        self.names = true;
    }

    fn count_bytes(&mut self, before: usize, after: usize) {
        if let Some(quota) = &mut self.quota {
            quota.count(before, after);
        }
    }

    /// Says which effective entries are in no other effective one's past. Adding entries takes them for
    /// effective, and their parents too; where that is not so, this must be called after the last one.
    pub fn set_tips(&mut self, mut tips: Vec<ParentInfo>) {
        tips.sort_unstable_by_key(|tip| Stamp::new(tip.height, tip.id));
        self.tips = tips;
    }

    /// Whether an entry has this mark.
    #[must_use]
    pub fn is_marked(&self, mark: Mark, arrival: u64) -> bool {
        match self.changes.chunks.get(&(mark, chunk_of(arrival))) {
            Some(chunk) => chunk.contains(arrival),
            None => self.writer.is_marked(mark, arrival),
        }
    }

    /// The entries with this mark, ascending.
    #[must_use]
    pub fn marked(&self, mark: Mark) -> Vec<u64> {
        let mut marks = self.writer.marks(mark).cloned().unwrap_or_default();
        for ((of, number), chunk) in &self.changes.chunks {
            if *of == mark {
                marks.put(*number, chunk.clone());
            }
        }
        marks.iter().collect()
    }

    /// Marks an entry as void or effective.
    pub fn set_void(&mut self, arrival: u64, on: bool) {
        self.set_settling(Mark::Void, arrival, on);
    }

    /// Says whether the writes of an entry are missing in the state.
    pub fn set_absent(&mut self, arrival: u64, on: bool) {
        self.set_settling(Mark::Absent, arrival, on);
    }

    /// Says whether an entry is void without effective ones above it.
    pub fn set_loose(&mut self, arrival: u64, height: Height, author: &PublicKey, on: bool) {
        if !self.set_mark(Mark::Loose, arrival, on) {
            return;
        }
        self.touch(height);
        count(&mut self.state.loose, on);
        let before = self.writer.loose_of(author);
        count(self.changes.loose.entry(*author).or_insert(before), on);
    }

    /// Says whether an entry is void and nobody's parent.
    pub fn set_void_leaf(&mut self, leaf: Stamp, on: bool) {
        match self.writer.voids.leaves.contains(&leaf) == on {
            true => drop(self.changes.leaves.remove(&leaf)),
            false => drop(self.changes.leaves.insert(leaf, on)),
        }
    }

    /// The void entries that are nobody's parents, with what this stage changes of them.
    #[must_use]
    pub fn void_leaves(&self) -> BTreeSet<Stamp> {
        let mut leaves = self.writer.voids.leaves.clone();
        for (leaf, on) in &self.changes.leaves {
            match on {
                true => drop(leaves.insert(*leaf)),
                false => drop(leaves.remove(leaf)),
            }
        }
        leaves
    }

    /// Notes that what is passed on changes at a height.
    fn touch(&mut self, height: Height) {
        let before = self.writer.state.max_height;
        self.old.extend(stamps::old_block(height, before));
    }

    fn set_settling(&mut self, mark: Mark, arrival: u64, on: bool) {
        if !self.set_mark(mark, arrival, on) {
            return;
        }
        if mark == Mark::Void {
            count(&mut self.state.void, on);
        }
        let differ = self.is_marked(Mark::Void, arrival) != self.is_marked(Mark::Absent, arrival);
        count(&mut self.state.unsettled, differ);
    }

    fn set_mark(&mut self, mark: Mark, arrival: u64, on: bool) -> bool {
        let number = chunk_of(arrival);
        let writer = &self.writer;
        let chunk = self.changes.chunks.entry((mark, number));
        chunk
            .or_insert_with(|| writer.voids.chunk(mark, number))
            .set(arrival, on)
    }

    /// Adds one entry that is not here yet and whose parents are: three rows, the version row included.
    /// Returns its arrival number.
    ///
    /// # Errors
    /// [`LogError::Foreign`].
    pub fn add(&mut self, entry: &Entry, batch: &mut Batch) -> Result<u64, LogError> {
        let (arrival, slot) = self.place(entry.id(), entry.database(), entry.header(), batch)?;
        rows::put_single(self.writer.log.no, arrival, entry, batch);
        self.open_bytes += entry.encoded_len();
        self.count_bytes(0, entry.encoded_len());
        self.note_holes(arrival, entry);
        // The slot is new, so it is empty.
        let _ = slot.set(entry.compact());
        Ok(arrival)
    }

    /// Like [`Stage::add`] for an entry that is still to be signed: everything but the row that holds the
    /// signature. Later entries may build on it at once. The batch is complete after
    /// [`Unsigned::sign`], which needs no lock.
    ///
    /// # Errors
    /// [`LogError::Foreign`].
    pub fn add_draft(&mut self, draft: Draft, batch: &mut Batch) -> Result<Unsigned, LogError> {
        let header = draft.header();
        let database = if header.is_root() {
            draft.id()
        } else {
            header.database
        };
        let (arrival, slot) = self.place(draft.id(), database, header, batch)?;
        self.open_bytes += draft.encoded_len();
        self.count_bytes(0, draft.encoded_len());
        let no = self.writer.log.no;
        Ok(Unsigned {
            no,
            arrival,
            draft,
            slot,
        })
    }

    fn place(
        &mut self,
        id: Id,
        database: Id,
        header: &Header,
        batch: &mut Batch,
    ) -> Result<(u64, Slot), LogError> {
        if database != self.writer.log.id {
            return Err(LogError::Foreign(id));
        }
        let arrival = self.index(id, header, batch);
        self.advance_tips(std::iter::once((id, header)));
        let slot = Slot::default();
        self.added.push(Arc::clone(&slot));
        Ok((arrival, slot))
    }

    /// Adds entries that are not here yet, in an order with parents first, whose other parents are here:
    /// one row per entry and two per pack. `packed` may hold the pack that they came in, if it holds
    /// exactly them in this order; it is then stored as it is unless it is too large or too small.
    ///
    /// Fewer than [`limits::MIN_PACK_ENTRIES`] entries join the open block.
    ///
    /// # Errors
    /// [`LogError::Foreign`], and [`LogError::Pack`] for entries that no pack can hold.
    pub fn add_pack(
        &mut self,
        entries: &[Entry],
        packed: Option<&Bytes>,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        if let Some(foreign) = entries
            .iter()
            .find(|entry| entry.database() != self.writer.log.id)
        {
            return Err(LogError::Foreign(foreign.id()));
        }
        if entries.len() >= limits::MIN_PACK_ENTRIES {
            self.seal(1, batch)?;
        }
        // Entries that wait for a signature cannot be sealed; what follows them stays open as well.
        if entries.len() < limits::MIN_PACK_ENTRIES || self.open_len() > 0 {
            return entries
                .iter()
                .try_for_each(|entry| self.add(entry, batch).map(drop));
        }
        match packed.filter(|_| entries.len() <= limits::STORED_PACK_ENTRIES) {
            Some(packed) => self.put_pack(self.state.next_arrival, entries, packed, batch),
            None => {
                let mut first = self.state.next_arrival;
                for chunk in pack::chunks(entries, limits::STORED_PACK_ENTRIES) {
                    self.put_pack(first, chunk, &pack::encode(chunk)?, batch);
                    first += chunk.len() as u64;
                }
            }
        }
        for entry in entries {
            let arrival = self.index(entry.id(), entry.header(), batch);
            self.count_bytes(0, entry.encoded_len());
            self.note_holes(arrival, entry);
        }
        self.advance_tips(entries.iter().map(|entry| (entry.id(), entry.header())));
        self.state.open_from = self.state.next_arrival;
        Ok(())
    }

    /// Puts entries in the places of the same ones with more or fewer payloads, by arrival number, and keeps the record
    /// of what is missing. Everything else stays as it is: what the state has of the payloads is the caller's.
    ///
    /// Costs the rows that hold them: each is decoded and written anew. `reader` must see what the writer was loaded
    /// from and all that was staged since.
    ///
    /// # Errors
    /// [`LogError::Foreign`] for another entry than is there, the engine's errors, damaged rows.
    pub fn replace(
        &mut self,
        reader: &LogReader<'_>,
        entries: BTreeMap<u64, Entry>,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let mut entries = entries.into_iter().peekable();
        while let Some((arrival, _)) = entries.peek() {
            let block = reader.block_at(*arrival)?;
            let mut now = block.entries.clone();
            while let Some((arrival, entry)) = entries.next_if(|(at, _)| *at < block.end()) {
                let at = usize::try_from(arrival - block.first).unwrap_or(usize::MAX);
                let before = now.get_mut(at).filter(|before| before.id() == entry.id());
                let before = before.ok_or_else(|| LogError::Foreign(entry.id()))?;
                self.note_changes(arrival, before, &entry);
                *before = entry;
            }
            self.put_block(&block, &now, batch)?;
        }
        Ok(())
    }

    fn put_block(
        &mut self,
        before: &Block,
        now: &[Entry],
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        let no = self.writer.log.no;
        self.rewrites = true;
        if before.first >= self.writer.state.open_from {
            let both = (before.first..).zip(before.entries.iter().zip(now));
            for (arrival, (_, entry)) in both.filter(|(_, (before, now))| before != now) {
                rows::put_single(no, arrival, entry, batch);
            }
            return Ok(());
        }
        let old = heights_of(before.first, &before.entries);
        let mut first = before.first;
        for chunk in pack::chunks(now, limits::STORED_PACK_ENTRIES) {
            if first == before.first && heights_of(first, chunk).max != old.max {
                rows::drop_heights(no, old, batch);
            }
            self.put_pack(first, chunk, &pack::encode(chunk)?, batch);
            first += chunk.len() as u64;
        }
        Ok(())
    }

    /// Notes what an entry lacks that comes in.
    fn note_holes(&mut self, arrival: u64, entry: &Entry) {
        if entry.is_complete() || self.writer.log.is_closure {
            return;
        }
        for (store, payload) in entry.payloads() {
            if payload.is_none() {
                self.set_hole(store, Hole::Missing, arrival, true);
            }
        }
    }

    fn note_changes(&mut self, arrival: u64, before: &Entry, now: &Entry) {
        for ((store, before), (_, now)) in before.payloads().zip(now.payloads()) {
            if before.is_some() != now.is_some() {
                self.set_hole(store, Hole::Missing, arrival, now.is_none());
                self.set_hole(store, Hole::GivenUp, arrival, false);
            }
        }
        self.count_bytes(before.encoded_len(), now.encoded_len());
        let Some(open) = arrival.checked_sub(self.writer.state.open_from) else {
            return;
        };
        self.open_bytes = self.open_bytes.saturating_sub(before.encoded_len()) + now.encoded_len();
        let place = usize::try_from(open).unwrap_or(usize::MAX);
        self.replaced.insert(place, now.compact());
    }

    fn set_hole(&mut self, store: &StoreName, hole: Hole, arrival: u64, on: bool) {
        self.holes.set(&self.writer.holes, store, hole, arrival, on);
    }

    /// Says that nobody waits for a missing payload any more, or again; says whether it is missing.
    pub fn give_up(&mut self, store: &StoreName, arrival: u64, on: bool) -> bool {
        let holes = &self.writer.holes;
        let is_missing = self.holes.contains(holes, store, Hole::Missing, arrival);
        if is_missing {
            self.set_hole(store, Hole::GivenUp, arrival, on);
        }
        is_missing
    }

    /// Gives an entry its arrival number and writes its id row.
    fn index(&mut self, id: Id, header: &Header, batch: &mut Batch) -> u64 {
        let arrival = self.state.next_arrival;
        let row = IdRow {
            arrival,
            height: header.height,
            writes_settings: header.writes_settings(),
        };
        rows::put_id(self.writer.log.no, &id, row, batch);
        self.touch(header.height);
        self.state.next_arrival += 1;
        self.state.max_height = self.state.max_height.max(header.height);
        if header.writes_settings() {
            // What of the greatest ones is in its past is so there, too.
            let settings = &mut self.state.settings;
            settings.retain(|pin| !header.settings.has(pin));
            settings.push(id);
            settings.sort_unstable();
        }
        arrival
    }

    /// New tips: the old and the added ones that no added one has as a parent.
    fn advance_tips<'e>(&mut self, added: impl Iterator<Item = (Id, &'e Header)> + Clone) {
        let covered: BTreeSet<Id> = added
            .clone()
            .flat_map(|(_, header)| header.parents.iter().copied())
            .collect();
        self.tips.retain(|tip| !covered.contains(&tip.id));
        let fresh = added.filter(|(id, _)| !covered.contains(id));
        self.tips
            .extend(fresh.map(|(id, header)| ParentInfo::of(id, header)));
        self.tips
            .sort_unstable_by_key(|tip| Stamp::new(tip.height, tip.id));
    }

    fn open_len(&self) -> usize {
        self.writer.open.len() + self.added.len() - self.sealed
    }

    /// Writes the open entries that are signed as packs in place of their rows, if there are at least
    /// `min_entries` or enough bytes of them.
    fn seal(&mut self, min_entries: usize, batch: &mut Batch) -> Result<(), LogError> {
        if self.open_len() < min_entries && self.open_bytes < limits::BLOCK_BYTES {
            return Ok(());
        }
        let open = self.writer.open.iter().chain(&self.added).skip(self.sealed);
        let signed: Vec<&Entry> = open.map_while(|slot| slot.get()).collect();
        let bytes: usize = signed.iter().map(|entry| entry.encoded_len()).sum();
        if signed.len() < min_entries && bytes < limits::BLOCK_BYTES {
            return Ok(());
        }
        let signed: Vec<Entry> = signed.into_iter().cloned().collect();
        for chunk in pack::chunks(&signed, limits::STORED_PACK_ENTRIES) {
            let first = self.state.open_from;
            let end = first + chunk.len() as u64;
            self.put_pack(first, chunk, &pack::encode(chunk)?, batch);
            for arrival in first + 1..end {
                batch.delete(Space::Log, &rows::log_key(self.writer.log.no, arrival));
            }
            self.state.open_from = end;
            self.sealed += chunk.len();
            let bytes: usize = chunk.iter().map(Entry::encoded_len).sum();
            self.open_bytes = self.open_bytes.saturating_sub(bytes);
        }
        Ok(())
    }

    fn put_pack(&self, first: u64, entries: &[Entry], packed: &[u8], batch: &mut Batch) {
        let no = self.writer.log.no;
        rows::put_pack(no, first, packed, batch);
        rows::put_heights(no, heights_of(first, entries), batch);
    }

    /// Ends the stage: seals a full block, adds the precondition and the new version row, and takes the
    /// writer to the new state.
    ///
    /// # Errors
    /// [`LogError::Pack`] if a full block cannot be packed, which no valid entries cause.
    pub fn finish(mut self, batch: &mut Batch) -> Result<LogState, LogError> {
        for (place, entry) in std::mem::take(&mut self.replaced) {
            if let Some(slot) = self.writer.open.get_mut(place) {
                *slot = Arc::new(OnceLock::from(entry));
            }
        }
        self.seal(limits::BLOCK_ENTRIES, batch)?;
        self.state.version += 1;
        self.state.tips = self
            .tips
            .iter()
            .map(|tip| Stamp::new(tip.height, tip.id))
            .collect();
        let row = Bytes::from(rows::encode_state(self.writer.log.no, &self.state));
        let key = rows::version_key(self.writer.log.no);
        batch.expect(Space::Meta, &key, self.writer.row.as_deref());
        batch.put(Space::Meta, &key, &row);
        self.put_voids(batch);
        self.drop_summaries(batch);
        let (no, holes) = (self.writer.log.no, std::mem::take(&mut self.holes));
        holes.put(no, &mut self.writer.holes, batch);
        if self.rewrites {
            rows::put_rewritten(no, self.state.version, batch);
        }
        if self.names {
            names::put_named(no, self.state.version, batch);
        }
        if self.quota != self.writer.quota {
            quota::put(no, self.quota.as_ref(), batch);
        }

        let writer = self.writer;
        writer.open.append(&mut self.added);
        writer.open.drain(..self.sealed);
        writer.open_bytes = self.open_bytes;
        writer.row = Some(row);
        writer.quota = self.quota;
        writer.tips = self.tips;
        writer.state = self.state;
        Ok(writer.state.clone())
    }
}

impl Stage<'_> {
    /// Drops the summaries of old blocks that change. What was computed before is not kept any more then.
    fn drop_summaries(&mut self, batch: &mut Batch) {
        let before = self.writer.state.max_height;
        let blocks: BTreeSet<(u8, u64)> = std::mem::take(&mut self.old)
            .into_iter()
            .flat_map(|block| stamps::old_path(block, before))
            .collect();
        if !blocks.is_empty() {
            let (no, version) = (self.writer.log.no, self.state.version);
            rows::drop_summaries(no, version, blocks.into_iter(), batch);
        }
    }

    /// Writes what has changed about void entries.
    fn put_voids(&mut self, batch: &mut Batch) {
        let no = self.writer.log.no;
        let (changes, voids) = (std::mem::take(&mut self.changes), &mut self.writer.voids);
        for ((mark, number), chunk) in changes.chunks {
            if chunk != voids.chunk(mark, number) {
                rows::put_marks(no, mark, number, &chunk, batch);
                voids.marks.entry(mark).or_default().put(number, chunk);
            }
        }
        for (leaf, on) in changes.leaves {
            rows::put_leaf(no, leaf, on, batch);
            match on {
                true => drop(voids.leaves.insert(leaf)),
                false => drop(voids.leaves.remove(&leaf)),
            }
        }
        for (author, entries) in changes.loose {
            rows::put_loose(no, &author, entries, batch);
            match entries {
                0 => drop(voids.loose.remove(&author)),
                _ => drop(voids.loose.insert(author, entries)),
            }
        }
    }
}

pub(super) fn heights_of(first: u64, entries: &[Entry]) -> PackHeights {
    let heights = || entries.iter().map(|entry| entry.header().height);
    PackHeights {
        max: heights().max().unwrap_or(Height::ROOT),
        first,
        min: heights().min().unwrap_or(Height::ROOT),
    }
}

/// One more or one less. What is counted down was counted up before.
fn count(number: &mut u64, more: bool) {
    *number = match more {
        true => number.saturating_add(1),
        false => number.saturating_sub(1),
    };
}

/// A staged entry without its signature; see [`Stage::add_draft`].
///
/// If it is dropped unsigned, its batch must not be written, nor any that was staged after it.
#[must_use = "the batch is incomplete until the entry is signed"]
pub struct Unsigned {
    no: DbNo,
    arrival: u64,
    draft: Draft,
    slot: Slot,
}

impl Unsigned {
    /// The arrival number that the entry has.
    #[must_use]
    pub fn arrival(&self) -> u64 {
        self.arrival
    }

    /// The draft.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Adds the row that holds the signed entry to the batch that the draft was staged into. The
    /// signature is over [`Draft::signing_message`] and is not verified here.
    pub fn sign(self, signature: Signature, batch: &mut Batch) -> Entry {
        let entry = self.draft.sign(signature);
        rows::put_single(self.no, self.arrival, &entry, batch);
        // Only this call sets the slot, and it consumes its handle.
        let _ = self.slot.set(entry.clone());
        entry
    }
}
