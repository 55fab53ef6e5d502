//! What an import has made so far: in the engine, and out of everybody's sight.
//!
//! Rows stand in [`Space::Local`], each with a check sum. Their keys begin with a tag, the number of the
//! database and that of the import:
//!
//! | then | value |
//! |---|---|
//! | 0 | nothing: the import is committed, and all that follows will be part of the database |
//! | 1, number | a signed entry |
//! | 2, number of the store, space, the store's own key | 0, or 1 and a row that the entries change |
//! | 3 | nothing: the import is being made, and nobody has given it up |
//! | 4 | a number that is another one as long as its process lives: see `tend` |
//!
//! Without the first row the others are worth nothing, and go when the import is dropped or the database
//! is loaded again; on an engine that other processes may use only when it is dropped, or when its process is seen to be
//! dead. With it, whoever loads the database moves the entries into it before anything else.
//! Rows of the third kind are what later edits of the same import see; they never move.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::SecretKey;
use eidetica_crdt::{Delta, KeyRange, Order, RowPage, RowSpace, Rows, StoreKind};
use eidetica_entry::{Author, Entry, Id, Ids, ParentInfo, StoreName};
use eidetica_storage::commit::Lane;
use eidetica_storage::log::DbNo;
use eidetica_storage::{
    Batch, Direction, Durability, EngineError, KeyRange as Keys, Row, ScanLimit, Snapshot, Space,
};

use crate::core::{Sequencer, Written};
use crate::error::{Error, Result};
use crate::events::Origin;
use crate::import::{Group, Piece};
use crate::ingest::{IngestReport, Wave};
use crate::overlay::View;
use crate::query::DynRows;
use crate::shared::Shared;
use crate::{Database, limits, seal};

/// The first byte of the keys; those of local databases begin with smaller ones.
const TAG: u8 = 4;
const COMMITTED: u8 = 0;
const ENTRIES: u8 = 1;
const ROWS: u8 = 2;
const MAKING: u8 = 3;
const BEAT: u8 = 4;
/// Bytes of the tag, the number of the database and that of the import.
const IMPORT_KEY: usize = 1 + 4 + 8;

/// The order of batches of rows that nobody sees.
pub(crate) const SPOOLING: Lane = Lane(u64::MAX - 1);

/// The part of one import that is in the engine already. Dropping it takes it away again, unless it was
/// committed.
pub(crate) struct Spool {
    database: Database,
    author: Author,
    prefix: Vec<u8>,
    /// Which store has which number in the keys of changed rows.
    stores: Vec<(StoreName, StoreKind)>,
    /// What the next entry builds on.
    parents: Vec<ParentInfo>,
    settings: Ids,
    /// The version of the database whose tips it began on.
    version: u64,
    entries: Vec<Id>,
    /// Bytes of the entries, each encoded by itself.
    bytes: usize,
    /// Whether any of it is in the engine.
    begun: bool,
    committed: bool,
}

impl Spool {
    /// Begins on the present tips.
    pub(crate) fn begin(database: &Database, author: Author) -> Result<Self> {
        let tips = |sequencer: &mut Sequencer| {
            // Nothing refuses an import if what it builds on is never written.
            database.drain(sequencer)?;
            let snapshot = database.shared().rows.snapshot()?;
            let core = database.core();
            let reader = core.log.reader(&*snapshot);
            let parents = core.present_parents(sequencer, &reader)?;
            Ok((parents, sequencer.writer.state().version))
        };
        let ((parents, settings), version) = database.racing(|| database.in_sequence(tips))?;
        let number = database.shared().entropy.number().to_be_bytes();
        let prefix = [database_prefix(database).as_slice(), &number].concat();
        if let Some(others) = &database.shared().others {
            others.tending.begin(&prefix);
        }
        Ok(Self {
            prefix,
            database: database.clone(),
            author,
            stores: Vec::new(),
            parents,
            settings,
            version,
            entries: Vec::new(),
            bytes: 0,
            begun: false,
            committed: false,
        })
    }

    /// Makes entries of pieces and writes them.
    pub(crate) fn add(
        &mut self,
        pieces: &[Piece],
        key: &SecretKey,
        timestamp_ms: Option<u64>,
    ) -> Result<()> {
        let snapshot = self.database.state_snapshot()?;
        let group = {
            let below = |name: &StoreName, kind| self.rows(&*snapshot, name, kind);
            let reader = self.database.core().log.reader(&*snapshot);
            // Unless others have written meanwhile.
            let order = match reader.state()?.version == self.version {
                true => Order::NewerThanAll,
                false => Order::Any,
            };
            let (parents, settings) = (&self.parents, &self.settings);
            let (database, author) = (&self.database, &self.author);
            let mut group = Group::new(database, author, parents, settings, &below, order);
            for piece in pieces {
                group.add(piece, key, timestamp_ms, &reader)?;
            }
            group.finish()
        };
        let mut batch = Batch::new();
        self.go_on(&mut batch);
        for entry in &group.entries {
            let number = (self.entries.len() as u64).to_be_bytes();
            put(
                &self.key(&[&[ENTRIES], &number]),
                &entry.encode(),
                &mut batch,
            );
            self.entries.push(entry.id());
            self.bytes += entry.encoded_len();
        }
        for ((name, kind), changes) in &group.changed {
            let store = self.store_number(name, *kind);
            self.put_rows(store, changes, &mut batch);
        }
        if let Some(last) = group.entries.last() {
            self.parents = vec![ParentInfo::from(last)];
        }
        let group = &self.database.shared().group;
        let written = group.write(SPOOLING, batch, Durability::Relaxed);
        self.begun = true;
        match written.map_err(Error::from) {
            Err(error) if error.is_lost_race() => Err(Error::Abandoned),
            done => done,
        }
    }

    /// Says that the import goes on, unless another process has given it up.
    fn go_on(&self, batch: &mut Batch) {
        let making = making_key(&self.prefix);
        match self.begun {
            true => expect_empty(&making, batch),
            false => put(&making, &[], batch),
        }
        put_beat(&self.prefix, self.database.shared(), batch);
    }

    /// Makes all entries part of the database, and says which they are.
    pub(crate) fn commit(mut self) -> Result<Vec<Id>> {
        match self.database.shared().has_others() {
            false => self.commit_locked()?,
            true => self.commit_beside_others()?,
        }
        Ok(std::mem::take(&mut self.entries))
    }

    fn commit_locked(&mut self) -> Result<()> {
        let database = self.database.clone();
        let written = {
            let mut sequencer = database.core().sequence()?;
            self.commit_row(&mut sequencer)?;
            database.publish(&mut sequencer, &self.prefix, true)?
        };
        database.core().announce(&written, &database);
        Ok(())
    }

    /// Other processes may change the settings before all entries are in the log, so they are judged as those of a
    /// peer are.
    fn commit_beside_others(&mut self) -> Result<()> {
        let database = self.database.clone();
        let events = &database.core().events;
        // From the row on, another process or thread may publish it.
        events.expect_own(&self.entries);
        let committed =
            database.racing(|| database.in_sequence(|sequencer| self.commit_row(sequencer)));
        if committed.is_err() {
            events.forget_own(&self.entries);
        }
        committed?;
        database.publish_beside_others(&self.prefix)
    }

    /// Writes the row after which the entries become part of the database, behind all that was staged before.
    fn commit_row(&mut self, sequencer: &mut Sequencer) -> Result<()> {
        let database = &self.database;
        database.flush(sequencer)?;
        self.check_settings(sequencer)?;
        sequencer.check_room(self.bytes, 0)?;
        self.check_making()?;
        let mut batch = Batch::new();
        let making = making_key(&self.prefix);
        expect_empty(&making, &mut batch);
        batch.delete(Space::Local, &making);
        batch.delete(Space::Local, &beat_key(&self.prefix));
        put(&committed_key(&self.prefix), &[], &mut batch);
        let state = sequencer.writer.stage().finish(&mut batch)?;
        let written = Written::new(sequencer.next_batch(), &state);
        database.write_locked(sequencer, batch, written)?;
        self.committed = true;
        Ok(())
    }

    /// Another process may have taken this one for dead.
    fn check_making(&self) -> Result<()> {
        let snapshot = self.database.shared().rows.snapshot()?;
        match snapshot.get(Space::Local, &making_key(&self.prefix))? {
            Some(_) => Ok(()),
            None => Err(Error::Abandoned),
        }
    }

    /// The entries were judged by the settings that they name: it must still be these.
    fn check_settings(&self, sequencer: &Sequencer) -> Result<()> {
        let core = self.database.core();
        let snapshot = self.database.shared().rows.snapshot()?;
        let reader = core.log.reader(&*snapshot);
        let (_, settings) = core.present_parents(sequencer, &reader)?;
        if settings == self.settings {
            return Ok(());
        }
        Err(Error::Form {
            what: "an import",
            detail: "the settings have changed since it began; begin it again".into(),
        })
    }

    /// The rows of a store with what the import has changed so far.
    fn rows<'a>(
        &'a self,
        snapshot: &'a dyn Snapshot,
        name: &StoreName,
        kind: StoreKind,
    ) -> Box<DynRows<'a>> {
        let core = self.database.core();
        let base = core.rows_in(View::durable(snapshot), name, kind);
        let store = self
            .stores
            .iter()
            .position(|(known, of)| known == name && *of == kind);
        match store {
            Some(store) => Box::new(SpooledRows {
                base,
                snapshot,
                prefix: self.rows_prefix(store as u32),
            }),
            None => base,
        }
    }

    fn store_number(&mut self, name: &StoreName, kind: StoreKind) -> u32 {
        let known = self
            .stores
            .iter()
            .position(|(known, of)| known == name && *of == kind);
        let number = known.unwrap_or(self.stores.len());
        if known.is_none() {
            self.stores.push((name.clone(), kind));
        }
        number as u32
    }

    fn put_rows(&self, store: u32, changes: &Delta, batch: &mut Batch) {
        let prefix = self.rows_prefix(store);
        for space in [RowSpace::Cur, RowSpace::Pos, RowSpace::Ver] {
            for (own, value) in changes.iter(space) {
                let key = [prefix.as_slice(), &[space_number(space)], own].concat();
                let value = match value {
                    Some(value) => [&[1], value].concat(),
                    None => vec![0],
                };
                put(&key, &value, batch);
            }
        }
    }

    fn rows_prefix(&self, store: u32) -> Vec<u8> {
        self.key(&[&[ROWS], &store.to_be_bytes()])
    }

    fn key(&self, parts: &[&[u8]]) -> Vec<u8> {
        [self.prefix.as_slice(), &parts.concat()].concat()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let shared = self.database.shared();
        if !self.committed {
            // If this fails, the next one to load the database does it, or whoever sees that nobody goes on with it.
            shared.clear_spooled(&self.prefix).ok();
        }
        if let Some(others) = &shared.others {
            others.tending.end(&self.prefix);
        }
    }
}

impl Database {
    /// Finishes what a crash interrupted: committed imports become part of the database, others are
    /// forgotten. Called when the database is loaded, before anybody has it. One row lookup where there is
    /// nothing to do.
    pub(crate) fn recover_imports(&self) -> Result<()> {
        let has_others = self.shared().has_others();
        let mut rest = Keys::prefix(database_prefix(self));
        while let Some(key) = self.first_spooled(&rest)? {
            let import = import_of(&key)?;
            let committed = key == committed_key(import);
            match (committed, has_others) {
                (true, false) => {
                    let mut sequencer = self.core().sequence()?;
                    self.publish(&mut sequencer, import, false)?;
                }
                (true, true) => self.publish_beside_others(import)?,
                (false, false) => self.shared().clear_spooled(import)?,
                // Another process may be making it: see `tend`.
                (false, true) => {}
            }
            rest.start = Keys::prefix(import.to_vec()).end.unwrap_or_default();
        }
        Ok(())
    }

    /// Whether there is an import that is committed and not published as a whole.
    pub(crate) fn has_committed_import(&self, snapshot: &dyn Snapshot) -> Result<bool> {
        let mut rest = Keys::prefix(database_prefix(self));
        while let Some(key) = first_key(snapshot, &rest)? {
            let import = import_of(&key)?;
            if key == committed_key(import) {
                return Ok(true);
            }
            rest.start = Keys::prefix(import.to_vec()).end.unwrap_or_default();
        }
        Ok(false)
    }

    fn first_spooled(&self, range: &Keys) -> Result<Option<Bytes>> {
        first_key(&*self.shared().rows.snapshot()?, range)
    }

    /// Like [`publish`](Self::publish), while other processes may be publishing the same import.
    fn publish_beside_others(&self, import: &[u8]) -> Result<()> {
        let mut rest = Some(entries_of(import));
        while let Some(range) = rest {
            let (mut batch, mut entries) = (Batch::new(), Vec::new());
            rest = self.shared().take_spooled(&range, &mut batch, |row| {
                entries.push(spooled_entry(row)?);
                Ok(())
            })?;
            // They leave the spool once they are in the log, whoever put them there.
            self.store(Wave::own(entries), None, &mut IngestReport::default())?;
            let group = &self.shared().group;
            group.write(SPOOLING, batch, Durability::Relaxed)?;
        }
        self.shared().clear_spooled(import)
    }

    /// Moves the entries of a committed import into the log, a few at a time, then writes their state. Who
    /// reads stores meanwhile waits for the state. Each batch takes away what it has moved, so that a crash
    /// in between loses and repeats nothing.
    fn publish(&self, sequencer: &mut Sequencer, import: &[u8], announce: bool) -> Result<Written> {
        let core = self.core();
        core.set_behind(true);
        let mut written = standing(sequencer);
        let mut rest = Some(entries_of(import));
        while let Some(range) = rest {
            let (mut batch, mut entries) = (Batch::new(), Vec::new());
            rest = self.shared().take_spooled(&range, &mut batch, |row| {
                entries.push(spooled_entry(row)?);
                Ok(())
            })?;
            self.drop_known(&mut entries)?;
            let staged = stage(&entries, sequencer, &mut batch);
            written = staged.inspect_err(|_| sequencer.fail())?;
            if announce {
                let first = written.next_arrival - entries.len() as u64;
                let stored = first..written.next_arrival;
                core.events.queue_stored(stored, Origin::Local);
            }
            self.write_locked(sequencer, batch, written)?;
        }
        self.flush(sequencer)?;
        self.shared().clear_spooled(import)?;
        Ok(written)
    }

    /// An import that was committed and could not be published may have been made once more since: on the same tips it
    /// has the same entries.
    fn drop_known(&self, entries: &mut Vec<Entry>) -> Result<()> {
        let snapshot = self.shared().rows.snapshot()?;
        let stamps: Vec<_> = entries.iter().map(Entry::stamp).collect();
        let reader = self.core().log.reader(&*snapshot);
        let mut known = reader.contains_stamps(&stamps)?.into_iter();
        entries.retain(|_| !known.next().unwrap_or_default());
        Ok(())
    }
}

impl Shared {
    /// Takes away all rows of an import, a few at a time.
    pub(crate) fn clear_spooled(&self, import: &[u8]) -> Result<()> {
        let mut rest = Some(Keys::prefix(import.to_vec()));
        while let Some(range) = rest {
            let mut batch = Batch::new();
            rest = self.take_spooled(&range, &mut batch, |_| Ok(()))?;
            self.group.write(SPOOLING, batch, Durability::Relaxed)?;
        }
        Ok(())
    }

    /// Takes away the first rows of a range, after a look at each. Returns the rest of the range, if any.
    fn take_spooled(
        &self,
        range: &Keys,
        batch: &mut Batch,
        mut look: impl FnMut(&Row) -> Result<()>,
    ) -> Result<Option<Keys>> {
        let snapshot = self.rows.snapshot()?;
        let limit = ScanLimit::bytes(limits::IMPORT_MOVE_BYTES);
        let page = snapshot.scan(Space::Local, range, Direction::Forward, limit)?;
        for row in &page.rows {
            batch.delete(Space::Local, &row.key);
            look(row)?;
        }
        Ok(page.rest(range, Direction::Forward))
    }
}

pub(crate) fn first_key(snapshot: &dyn Snapshot, range: &Keys) -> Result<Option<Bytes>> {
    let page = snapshot.scan(Space::Local, range, Direction::Forward, ScanLimit::rows(1))?;
    Ok(page.rows.into_iter().next().map(|row| row.key))
}

pub(crate) fn spooled_entry(row: &Row) -> Result<Entry> {
    let bytes = seal::open(&row.key, &row.value)?;
    Entry::decode(&bytes).map_err(|error| Error::Corrupt(error.to_string()))
}

fn stage(entries: &[Entry], sequencer: &mut Sequencer, batch: &mut Batch) -> Result<Written> {
    let mut stage = sequencer.writer.stage();
    if !entries.is_empty() {
        stage.add_pack(entries, None, batch)?;
    }
    let state = stage.finish(batch)?;
    Ok(Written::new(sequencer.next_batch(), &state))
}

/// What is staged so far.
fn standing(sequencer: &Sequencer) -> Written {
    Written::new(sequencer.last_batch(), sequencer.writer.state())
}

fn put(key: &[u8], value: &[u8], batch: &mut Batch) {
    batch.put(Space::Local, key, &seal::seal(key, value));
}

/// Expects a row without a value.
fn expect_empty(key: &[u8], batch: &mut Batch) {
    batch.expect(Space::Local, key, Some(&seal::seal(key, &[])));
}

fn put_beat(import: &[u8], shared: &Shared, batch: &mut Batch) {
    let number = shared.entropy.number().to_be_bytes();
    put(&beat_key(import), &number, batch);
}

/// Shows that the process of an import lives, unless somebody has given the import up.
pub(crate) fn stage_beat(import: &[u8], shared: &Shared, batch: &mut Batch) {
    expect_empty(&making_key(import), batch);
    put_beat(import, shared, batch);
}

/// Gives an uncommitted import up whose beat is as it was found: from this batch on it cannot be committed.
pub(crate) fn stage_end(import: &[u8], beat: Option<&[u8]>, batch: &mut Batch) {
    batch.expect(Space::Local, &committed_key(import), None);
    batch.expect(Space::Local, &beat_key(import), beat);
    batch.delete(Space::Local, &making_key(import));
    batch.delete(Space::Local, &beat_key(import));
}

pub(crate) fn committed_key(import: &[u8]) -> Vec<u8> {
    [import, &[COMMITTED]].concat()
}

fn making_key(import: &[u8]) -> Vec<u8> {
    [import, &[MAKING]].concat()
}

pub(crate) fn beat_key(import: &[u8]) -> Vec<u8> {
    [import, &[BEAT]].concat()
}

/// The entries of an import.
pub(crate) fn entries_of(import: &[u8]) -> Keys {
    Keys::prefix([import, &[ENTRIES]].concat())
}

/// All imports of all databases.
pub(crate) fn all_imports() -> Keys {
    Keys::prefix([TAG])
}

/// What the keys of the same import begin with.
pub(crate) fn import_of(key: &[u8]) -> Result<&[u8]> {
    key.get(..IMPORT_KEY)
        .ok_or_else(|| Error::Corrupt("the key of an import".into()))
}

fn database_prefix(database: &Database) -> Vec<u8> {
    prefix_of(database.core().log.no())
}

fn prefix_of(no: DbNo) -> Vec<u8> {
    [&[TAG][..], &no.prefix()].concat()
}

/// All that was spooled for a database.
pub(crate) fn spooled_rows(no: DbNo) -> (Space, Keys) {
    (Space::Local, Keys::prefix(prefix_of(no)))
}

fn space_number(space: RowSpace) -> u8 {
    match space {
        RowSpace::Cur => 0,
        RowSpace::Pos => 1,
        RowSpace::Ver => 2,
    }
}

/// The key of a row and what it was changed to; `None` if it was deleted.
type Change = (Bytes, Option<Bytes>);

/// Rows with those over them that an import has changed.
struct SpooledRows<'a> {
    base: Box<DynRows<'a>>,
    snapshot: &'a dyn Snapshot,
    prefix: Vec<u8>,
}

impl SpooledRows<'_> {
    fn key(&self, space: RowSpace, own: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), &[space_number(space)], own].concat()
    }

    /// Changed rows in a range, and whether there may be more.
    fn changes(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), EngineError> {
        let keys = Keys::new(self.key(space, range.start), self.key(space, range.end));
        let direction = match reverse {
            true => Direction::Reverse,
            false => Direction::Forward,
        };
        let page = self
            .snapshot
            .scan(Space::Local, &keys, direction, ScanLimit::rows(limit))?;
        let skip = self.prefix.len() + 1;
        let rows = page.rows.into_iter().map(|row| {
            let own = row.key.slice(skip.min(row.key.len())..);
            Ok((own, changed(&row.key, &row.value)?))
        });
        Ok((rows.collect::<Result<_, EngineError>>()?, page.more))
    }
}

/// What a row was changed to; `None` if it was deleted.
fn changed(key: &[u8], sealed: &Bytes) -> Result<Option<Bytes>, EngineError> {
    let value = seal::open(key, sealed).map_err(|error| EngineError::corrupt(error.to_string()))?;
    Ok((value.first() == Some(&1)).then(|| value.slice(1..)))
}

impl Rows for SpooledRows<'_> {
    type Error = EngineError;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let spooled = self.key(space, key);
        match self.snapshot.get(Space::Local, &spooled)? {
            Some(sealed) => changed(&spooled, &sealed),
            None => self.base.get(space, key),
        }
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, EngineError> {
        let (mut start, mut end) = (range.start.to_vec(), range.end.to_vec());
        loop {
            let range = KeyRange {
                start: &start,
                end: &end,
            };
            let (changes, more_changes) = self.changes(space, range, reverse, limit)?;
            let base = self.base.scan(space, range, reverse, limit)?;
            let Merged { mut rows, last } = merge(base, changes, more_changes, reverse);
            let more = last.is_some() || rows.len() > limit;
            rows.truncate(limit.max(1));
            match last {
                // A page of deleted rows only: what comes after it?
                Some(last) if rows.is_empty() && reverse => end = last.to_vec(),
                Some(last) if rows.is_empty() => start = [&last[..], &[0]].concat(),
                _ => return Ok(RowPage { rows, more }),
            }
        }
    }
}

/// Rows with what an import changed of them, as far as both are known.
struct Merged {
    rows: Vec<(Bytes, Bytes)>,
    /// The key up to which they are known, if there may be more.
    last: Option<Bytes>,
}

fn merge(base: RowPage, changes: Vec<Change>, more_changes: bool, reverse: bool) -> Merged {
    // Beyond the last row of a page that ended early, that side is unknown.
    let known = [
        changes.last().filter(|_| more_changes).map(|(key, _)| key),
        base.rows.last().filter(|_| base.more).map(|(key, _)| key),
    ];
    let ends = known.into_iter().flatten();
    let last = match reverse {
        true => ends.max().cloned(),
        false => ends.min().cloned(),
    };
    let within = |key: &Bytes| match &last {
        None => true,
        Some(last) if reverse => key >= last,
        Some(last) => key <= last,
    };
    let base = base.rows.into_iter().map(|(key, value)| (key, Some(value)));
    let mut merged: BTreeMap<Bytes, Option<Bytes>> = base.collect();
    merged.extend(changes);
    let mut rows: Vec<(Bytes, Bytes)> = merged
        .into_iter()
        .filter(|(key, _)| within(key))
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    if reverse {
        rows.reverse();
    }
    Merged { rows, last }
}
