//! Keys and values of the log's rows; see `docs/formats/log.md`. Nothing else builds or reads them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bincode::config::{Configuration, Fixint, LittleEndian, NoLimit};
use bytes::Bytes;
use eidetica_entry::pack::PackInfo;
use eidetica_entry::reconcile::Summary;
use eidetica_entry::{Entry, Height, Id, PublicKey, Stamp, StoreName};

use super::holes::{Hole, Place, StoreHoles};
use super::marks::Chunk;
use super::{DatabaseLog, DbNo, LogError, LogState, Mark};
use crate::{Batch, Direction, Engine, KeyRange, Snapshot, Space};

/// First byte of all keys of the log in [`Space::Meta`]. No other row begins as one of them: the
/// second bytes f, g, k and x are those of `format`, y of `forget`, l and z of `repair`, j and u of `names`.
const META: u8 = b'L';
const NEXT_NO_KEY: [u8; 2] = [META, b'n'];
const DIRECTORY: [u8; 2] = [META, b'd'];
const CLOSURES: [u8; 2] = [META, b'c'];
const CLOSED: [u8; 2] = [META, b'a'];
const VERSION: [u8; 2] = [META, b'v'];
const HEIGHTS: [u8; 2] = [META, b'h'];
const MARKS: [u8; 2] = [META, b'm'];
const LEAVES: [u8; 2] = [META, b't'];
const LOOSE: [u8; 2] = [META, b'w'];
const SUMMARIES: [u8; 2] = [META, b's'];
const LATE: [u8; 2] = [META, b'o'];
const HOLES: [u8; 2] = [META, b'p'];
const HOLE_COUNTS: [u8; 2] = [META, b'r'];
const REWRITTEN: [u8; 2] = [META, b'e'];
pub(super) const QUOTA: [u8; 2] = [META, b'q'];
pub(super) const LOST: [u8; 2] = [META, b'l'];

/// Bytes of the checksum of a row.
const SUM: usize = 8;
/// Bytes of the checksum of an id row: there is one per entry, and what it points to is checked too.
const ID_SUM: usize = 2;

const SINGLE: u8 = 0;
const PACK: u8 = 1;
const WRITES_SETTINGS: u8 = 1;

const CONFIG: Configuration<LittleEndian, Fixint, NoLimit> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding();

// ---- checks -------------------------------------------------------------------------------------

/// A short hash of a row that tells damage from data. It protects nothing from people.
fn checksum<const N: usize>(key: &[u8], value: &[&[u8]]) -> [u8; N] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key);
    for part in value {
        hasher.update(part);
    }
    let mut sum = [0; N];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Writes a row with its checksum before the value.
fn put<const N: usize>(space: Space, key: &[u8], value: &[&[u8]], batch: &mut Batch) {
    let sum = checksum::<N>(key, value);
    batch.put_parts(space, &[key], &[&[sum.as_slice()], value].concat());
}

/// The value without its checksum; `None` if that does not match.
fn checked<'v, const N: usize>(key: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    let (sum, rest) = value.split_first_chunk::<N>()?;
    (*sum == checksum(key, &[rest])).then_some(rest)
}

/// Writes a small row, as [`put`].
pub(super) fn put_sum(key: &[u8], value: &[&[u8]], batch: &mut Batch) {
    put::<SUM>(Space::Meta, key, value, batch);
}

/// The value of a small row, as [`checked`].
pub(super) fn checked_sum<'v>(key: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    checked::<SUM>(key, value)
}

/// A [`checked`] value of one field.
fn checked_field<const N: usize>(key: &[u8], value: &[u8]) -> Option<[u8; N]> {
    whole(checked::<SUM>(key, value)?)
}

/// Reads one fixed-size field off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*field)
}

/// The whole of `bytes` as one field.
fn whole<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// All small rows of the log.
pub(super) fn meta_range() -> KeyRange {
    KeyRange::prefix([META])
}

/// Whether a small row of the log has its checksum.
pub(super) fn is_undamaged(key: &[u8], value: &[u8]) -> bool {
    checked::<SUM>(key, value).is_some()
}

/// The key of a small row of which a database has one.
pub(super) fn key_of([tag, kind]: [u8; 2], no: DbNo) -> [u8; 6] {
    let [a, b, c, d] = no.prefix();
    [tag, kind, a, b, c, d]
}

// ---- directory ----------------------------------------------------------------------------------

/// Which of the two lists of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directory {
    Databases,
    /// Headers and settings of databases that others delegate to.
    Closures,
}

impl Directory {
    fn prefix(self) -> [u8; 2] {
        match self {
            Self::Databases => DIRECTORY,
            Self::Closures => CLOSURES,
        }
    }

    pub(super) fn key(self, id: &Id) -> Vec<u8> {
        [&self.prefix(), id.as_bytes().as_slice()].concat()
    }

    pub(super) fn range(self) -> KeyRange {
        KeyRange::prefix(self.prefix())
    }
}

pub(super) fn decode_directory(
    directory: Directory,
    key: &[u8],
    value: &[u8],
) -> Result<(Id, DbNo), LogError> {
    let id = key
        .strip_prefix(&directory.prefix())
        .and_then(whole)
        .map(Id::new);
    let no = checked_field(key, value).map(u32::from_be_bytes).map(DbNo);
    id.zip(no)
        .ok_or_else(|| LogError::corrupt("database directory row", "does not decode"))
}

/// Gives a new database the next number.
pub(super) fn stage_number(
    engine: &dyn Engine,
    directory: Directory,
    id: &Id,
    batch: &mut Batch,
) -> Result<DbNo, LogError> {
    let snapshot = engine.snapshot()?;
    let key = directory.key(id);
    if snapshot.get(Space::Meta, &key)?.is_some() {
        return Err(LogError::Exists(*id));
    }
    let row = "database counter row";
    let stored = snapshot.get(Space::Meta, &NEXT_NO_KEY)?;
    let no = stored.as_deref().map_or(Some(0), |value| {
        checked_field(&NEXT_NO_KEY, value).map(u32::from_be_bytes)
    });
    let no = no.ok_or_else(|| LogError::corrupt(row, "does not decode"))?;
    let next = no
        .checked_add(1)
        .ok_or_else(|| LogError::corrupt(row, "no number is left"))?;
    batch.expect(Space::Meta, &NEXT_NO_KEY, stored.as_deref());
    put::<SUM>(Space::Meta, &NEXT_NO_KEY, &[&next.to_be_bytes()], batch);
    batch.expect(Space::Meta, &key, None);
    put_directory(directory, id, DbNo(no), batch);
    Ok(DbNo(no))
}

/// Whether a key is that of a row which there is once and that means something even where it is damaged.
pub(super) fn is_of_all(key: &[u8]) -> bool {
    matches!(key, [META, b'f' | b'g' | b'k' | b'n' | b'x'])
}

/// Whether a key is that of a row which leads to a database.
pub(super) fn is_directory(key: &[u8]) -> bool {
    [DIRECTORY, CLOSURES]
        .iter()
        .any(|kind| key.starts_with(kind))
}

pub(super) fn put_directory(directory: Directory, id: &Id, no: DbNo, batch: &mut Batch) {
    put_sum(&directory.key(id), &[&no.0.to_be_bytes()], batch);
    if directory == Directory::Closures {
        put_closed(no, true, batch);
    }
}

/// A closure may look as a database does in all other rows of its number, so it says in one that it is none.
pub(super) fn put_closed(no: DbNo, is_closure: bool, batch: &mut Batch) {
    match is_closure {
        true => put_sum(&closed_key(no), &[], batch),
        false => batch.delete(Space::Meta, &closed_key(no)),
    }
}

/// The numbers that are said to be closures'. Damaged rows say nothing.
pub(super) fn closed(snapshot: &dyn Snapshot) -> Result<BTreeSet<DbNo>, LogError> {
    let mut closed = BTreeSet::new();
    let range = KeyRange::prefix(CLOSED);
    let _: ControlFlow<()> = snapshot.for_each(Space::Meta, &range, Direction::Forward, |row| {
        let no = row.key.get(2..).and_then(whole).map(u32::from_be_bytes);
        let no = no.filter(|_| is_undamaged(&row.key, &row.value));
        closed.extend(no.map(DbNo));
        Ok::<_, LogError>(ControlFlow::Continue(()))
    })?;
    Ok(closed)
}

pub(super) fn closed_key(no: DbNo) -> [u8; 6] {
    key_of(CLOSED, no)
}

/// Writes the row of the next number anew if it does not decode; says whether that was so.
pub(super) fn repair_counter(
    greatest: Option<DbNo>,
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
) -> Result<bool, LogError> {
    let stored = snapshot.get(Space::Meta, &NEXT_NO_KEY)?;
    let next = greatest.map_or(0, |no| no.0.saturating_add(1));
    let found = stored.as_deref();
    let found = found.and_then(|value| checked_field(&NEXT_NO_KEY, value).map(u32::from_be_bytes));
    let right = match found {
        Some(found) => found >= next,
        None => stored.is_none() && greatest.is_none(),
    };
    if !right {
        put::<SUM>(Space::Meta, &NEXT_NO_KEY, &[&next.to_be_bytes()], batch);
    }
    Ok(!right)
}

// ---- version row --------------------------------------------------------------------------------

pub(super) fn version_key(no: DbNo) -> [u8; 6] {
    key_of(VERSION, no)
}

pub(super) fn encode_state(no: DbNo, state: &LogState) -> Vec<u8> {
    // Writing integers and ids into memory cannot fail; an empty row would not decode.
    let body = bincode::serde::encode_to_vec(state, CONFIG).unwrap_or_default();
    [
        checksum::<SUM>(&version_key(no), &[&body]).as_slice(),
        &body,
    ]
    .concat()
}

pub(super) fn decode_state(no: DbNo, value: &[u8]) -> Result<LogState, LogError> {
    let decode = || {
        let body = checked::<SUM>(&version_key(no), value)?;
        let (state, used) = bincode::serde::decode_from_slice::<LogState, _>(body, CONFIG).ok()?;
        (used == body.len() && is_sound(&state)).then_some(state)
    };
    decode().ok_or_else(|| LogError::corrupt(version_row(no), "does not decode"))
}

fn version_row(no: DbNo) -> String {
    format!("version row of database {no}")
}

fn is_sound(state: &LogState) -> bool {
    state.open_from <= state.next_arrival
        && state.applied <= state.next_arrival
        && state.loose <= state.void
        && state.void <= state.next_arrival
        && state.unsettled <= state.next_arrival
        && state.settings.is_sorted_by(|a, b| a < b)
        && state.tips.is_sorted_by(|a, b| a < b)
}

pub(super) fn read_state(
    log: &DatabaseLog,
    snapshot: &dyn Snapshot,
) -> Result<(LogState, Bytes), LogError> {
    match snapshot.get(Space::Meta, &version_key(log.no))? {
        Some(value) => Ok((decode_state(log.no, &value)?, value)),
        None if log.is_repairing(snapshot)? => Err(LogError::Repairing(log.id)),
        None if is_listed(log, snapshot)? => Err(LogError::corrupt(version_row(log.no), "missing")),
        None => Err(LogError::Gone(log.id)),
    }
}

/// Whether a directory row leads to this number.
fn is_listed(log: &DatabaseLog, snapshot: &dyn Snapshot) -> Result<bool, LogError> {
    for directory in [Directory::Databases, Directory::Closures] {
        let key = directory.key(&log.id);
        if let Some(value) = snapshot.get(Space::Meta, &key)?
            && decode_directory(directory, &key, &value)?.1 == log.no
        {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn read_states(
    numbers: &[DbNo],
    snapshot: &dyn Snapshot,
) -> Result<Vec<Option<LogState>>, LogError> {
    let keys: Vec<_> = numbers.iter().map(|no| version_key(*no)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    let values = snapshot.multi_get(Space::Meta, &keys)?;
    let states = numbers.iter().zip(values);
    Ok(states
        .map(|(no, value)| decode_state(*no, &value?).ok())
        .collect())
}

/// Takes away all rows of a closure whose version row is still this one.
pub(super) fn stage_removal(id: &Id, no: DbNo, version: &[u8], batch: &mut Batch) {
    batch.expect(Space::Meta, &version_key(no), Some(version));
    batch.delete(Space::Meta, &Directory::Closures.key(id));
    for (space, range) in ranges_of(no) {
        batch.delete_range(space, &range);
    }
}

/// All rows of a database in the spaces of the log and of state, but that of the directory.
pub(super) fn ranges_of(no: DbNo) -> Vec<(Space, KeyRange)> {
    let kinds = [
        CLOSED,
        LOST,
        VERSION,
        HEIGHTS,
        MARKS,
        LEAVES,
        LOOSE,
        SUMMARIES,
        LATE,
        QUOTA,
        HOLES,
        HOLE_COUNTS,
        REWRITTEN,
    ];
    let small = kinds.map(|kind| (Space::Meta, KeyRange::prefix(key_of(kind, no))));
    let spaces = [Space::Log, Space::Ids, Space::State, Space::Versions];
    let large = spaces.map(|space| (space, KeyRange::prefix(no.prefix())));
    small.into_iter().chain(large).collect()
}

// ---- log rows -----------------------------------------------------------------------------------

pub(super) fn log_key(no: DbNo, first: u64) -> [u8; 12] {
    let mut key = [0; 12];
    let (prefix, arrival) = key.split_at_mut(4);
    prefix.copy_from_slice(&no.prefix());
    arrival.copy_from_slice(&first.to_be_bytes());
    key
}

/// Rows that begin at an arrival number in `from..to`.
pub(super) fn log_range(no: DbNo, from: u64, to: u64) -> KeyRange {
    KeyRange::new(log_key(no, from), log_key(no, to))
}

pub(super) fn log_arrival(no: DbNo, key: &[u8]) -> Result<u64, LogError> {
    let arrival = key
        .strip_prefix(&no.prefix())
        .and_then(whole)
        .map(u64::from_be_bytes);
    arrival.ok_or_else(|| {
        LogError::corrupt(
            format_args!("log key of database {no}"),
            "of a wrong length",
        )
    })
}

/// The value of a log row: one entry, or a pack of several.
#[derive(Clone)]
pub(super) enum Stored {
    Single(Bytes),
    Pack(Bytes),
}

pub(super) fn put_single(no: DbNo, arrival: u64, entry: &Entry, batch: &mut Batch) {
    let bytes = entry.encode();
    put_log(no, arrival, SINGLE, &bytes, batch);
}

pub(super) fn put_pack(no: DbNo, first: u64, pack: &[u8], batch: &mut Batch) {
    put_log(no, first, PACK, pack, batch);
}

fn put_log(no: DbNo, first: u64, kind: u8, bytes: &[u8], batch: &mut Batch) {
    put::<SUM>(Space::Log, &log_key(no, first), &[&[kind], bytes], batch);
}

pub(super) fn decode_log(no: DbNo, first: u64, value: &Bytes) -> Result<Stored, LogError> {
    let kind = checked::<SUM>(&log_key(no, first), value).and_then(|rest| rest.first().copied());
    let bytes = || value.slice(SUM + 1..);
    match kind {
        Some(SINGLE) => Ok(Stored::Single(bytes())),
        Some(PACK) => Ok(Stored::Pack(bytes())),
        Some(_) => Err(LogError::corrupt(log_row(no, first), "of unknown kind")),
        None => Err(LogError::corrupt(
            log_row(no, first),
            "checksum does not match",
        )),
    }
}

/// How a log row is named in errors.
pub(super) fn log_row(no: DbNo, first: u64) -> String {
    format!("log row of database {no} at arrival {first}")
}

pub(super) fn pack_info(no: DbNo, first: u64, pack: &[u8]) -> Result<PackInfo, LogError> {
    PackInfo::read(pack).map_err(|error| LogError::corrupt(log_row(no, first), error))
}

// ---- height index -------------------------------------------------------------------------------

/// What the height index says of one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackHeights {
    pub(super) max: Height,
    pub(super) first: u64,
    pub(super) min: Height,
}

pub(super) fn heights_range(no: DbNo, lowest_max: Height) -> KeyRange {
    let mut range = KeyRange::prefix([HEIGHTS.as_slice(), &no.prefix()].concat());
    range.start.extend_from_slice(&lowest_max.0.to_be_bytes());
    range
}

fn heights_key(no: DbNo, heights: PackHeights) -> Vec<u8> {
    let (max, first) = (heights.max.0.to_be_bytes(), heights.first.to_be_bytes());
    [HEIGHTS.as_slice(), &no.prefix(), &max, &first].concat()
}

pub(super) fn put_heights(no: DbNo, heights: PackHeights, batch: &mut Batch) {
    let key = heights_key(no, heights);
    put::<SUM>(Space::Meta, &key, &[&heights.min.0.to_le_bytes()], batch);
}

pub(super) fn drop_heights(no: DbNo, heights: PackHeights, batch: &mut Batch) {
    batch.delete(Space::Meta, &heights_key(no, heights));
}

pub(super) fn decode_heights(no: DbNo, key: &[u8], value: &[u8]) -> Result<PackHeights, LogError> {
    let decode = || {
        let mut place = key.get(6..)?;
        Some(PackHeights {
            max: Height(u64::from_be_bytes(take(&mut place)?)),
            first: u64::from_be_bytes(whole(place)?),
            min: Height(u64::from_le_bytes(checked_field(key, value)?)),
        })
    };
    decode().ok_or_else(|| {
        LogError::corrupt(
            format_args!("height row of database {no}"),
            "of a wrong length",
        )
    })
}

// ---- marks --------------------------------------------------------------------------------------

fn marks_prefix(no: DbNo, mark: Mark) -> Vec<u8> {
    [MARKS.as_slice(), &no.prefix(), &[mark.number()]].concat()
}

pub(super) fn marks_range(no: DbNo, mark: Mark) -> KeyRange {
    KeyRange::prefix(marks_prefix(no, mark))
}

pub(super) fn marks_key(no: DbNo, mark: Mark, chunk: u64) -> Vec<u8> {
    [marks_prefix(no, mark).as_slice(), &chunk.to_be_bytes()].concat()
}

/// An empty chunk has no row.
pub(super) fn put_marks(no: DbNo, mark: Mark, number: u64, chunk: &Chunk, batch: &mut Batch) {
    let key = marks_key(no, mark, number);
    match chunk.is_empty() {
        true => batch.delete(Space::Meta, &key),
        false => put::<SUM>(Space::Meta, &key, &[&chunk.encode()], batch),
    }
}

pub(super) fn decode_marks(no: DbNo, key: &[u8], value: &[u8]) -> Result<(u64, Chunk), LogError> {
    let decode = || {
        let number = u64::from_be_bytes(whole(key.get(7..)?)?);
        Some((number, Chunk::decode(checked::<SUM>(key, value)?)?))
    };
    decode().ok_or_else(|| meta_damage("marks", no))
}

// ---- holes --------------------------------------------------------------------------------------

fn holes_prefix(no: DbNo, hole: Hole, store: &StoreName) -> Vec<u8> {
    let name = store.as_str().as_bytes();
    // A name has at most 255 bytes.
    let length = name.len() as u8;
    [
        HOLES.as_slice(),
        &no.prefix(),
        &[hole.number(), length],
        name,
    ]
    .concat()
}

/// All rows that say what is missing.
pub(super) fn hole_ranges(no: DbNo) -> [KeyRange; 2] {
    [HOLES, HOLE_COUNTS].map(|kind| KeyRange::prefix([kind.as_slice(), &no.prefix()].concat()))
}

pub(super) fn holes_range(no: DbNo, hole: Hole, store: &StoreName) -> KeyRange {
    KeyRange::prefix(holes_prefix(no, hole, store))
}

/// An empty chunk has no row.
pub(super) fn put_holes(no: DbNo, place: &Place, chunk: &Chunk, batch: &mut Batch) {
    let number = place.number.to_be_bytes();
    let key = [
        holes_prefix(no, place.hole, &place.store).as_slice(),
        &number,
    ]
    .concat();
    match chunk.is_empty() {
        true => batch.delete(Space::Meta, &key),
        false => put::<SUM>(Space::Meta, &key, &[&chunk.encode()], batch),
    }
}

pub(super) fn decode_holes(no: DbNo, key: &[u8], value: &[u8]) -> Result<(u64, Chunk), LogError> {
    let decode = || {
        let number = u64::from_be_bytes(*key.last_chunk()?);
        Some((number, Chunk::decode(checked::<SUM>(key, value)?)?))
    };
    decode().ok_or_else(|| meta_damage("hole", no))
}

pub(super) fn hole_counts_range(no: DbNo) -> KeyRange {
    KeyRange::prefix([HOLE_COUNTS.as_slice(), &no.prefix()].concat())
}

pub(super) fn hole_counts_key(no: DbNo, store: &StoreName) -> Vec<u8> {
    let name = store.as_str().as_bytes();
    [HOLE_COUNTS.as_slice(), &no.prefix(), name].concat()
}

/// A store without holes has no row.
pub(super) fn put_hole_counts(no: DbNo, holes: &StoreHoles, batch: &mut Batch) {
    let key = hole_counts_key(no, &holes.store);
    let (missing, given_up) = (holes.missing.to_le_bytes(), holes.given_up.to_le_bytes());
    match holes.missing {
        0 => batch.delete(Space::Meta, &key),
        _ => put::<SUM>(Space::Meta, &key, &[&missing, &given_up], batch),
    }
}

pub(super) fn decode_hole_counts(
    no: DbNo,
    key: &[u8],
    value: &[u8],
) -> Result<StoreHoles, LogError> {
    let decode = || {
        let name = std::str::from_utf8(key.get(6..)?).ok()?;
        let mut rest = checked::<SUM>(key, value)?;
        let holes = StoreHoles {
            store: StoreName::new(name).ok()?,
            missing: u64::from_le_bytes(take(&mut rest)?),
            given_up: u64::from_le_bytes(whole(rest)?),
        };
        (holes.missing > 0 && holes.given_up <= holes.missing).then_some(holes)
    };
    decode().ok_or_else(|| meta_damage("hole count", no))
}

/// Of the row that says when stored entries were last changed in place.
pub(super) fn rewritten_key(no: DbNo) -> [u8; 6] {
    key_of(REWRITTEN, no)
}

pub(super) fn put_rewritten(no: DbNo, version: u64, batch: &mut Batch) {
    let version = version.to_le_bytes();
    put::<SUM>(Space::Meta, &rewritten_key(no), &[&version], batch);
}

pub(super) fn decode_rewritten(no: DbNo, value: &[u8]) -> Result<u64, LogError> {
    let version = checked_field(&rewritten_key(no), value).map(u64::from_le_bytes);
    version.ok_or_else(|| meta_damage("rewriting", no))
}

fn meta_damage(what: &str, no: DbNo) -> LogError {
    LogError::corrupt(
        format_args!("{what} row of database {no}"),
        "does not decode",
    )
}

/// All that is kept about void entries, and the summaries that follow from it.
pub(super) fn void_ranges(no: DbNo) -> [KeyRange; 4] {
    [MARKS, LEAVES, LOOSE, SUMMARIES]
        .map(|kind| KeyRange::prefix([kind.as_slice(), &no.prefix()].concat()))
}

// ---- void leaves --------------------------------------------------------------------------------

pub(super) fn leaves_range(no: DbNo) -> KeyRange {
    KeyRange::prefix([LEAVES.as_slice(), &no.prefix()].concat())
}

pub(super) fn put_leaf(no: DbNo, leaf: Stamp, on: bool, batch: &mut Batch) {
    let key = [LEAVES.as_slice(), &no.prefix(), leaf.id.as_bytes()].concat();
    match on {
        true => put::<SUM>(Space::Meta, &key, &[&leaf.height.0.to_le_bytes()], batch),
        false => batch.delete(Space::Meta, &key),
    }
}

pub(super) fn decode_leaf(no: DbNo, key: &[u8], value: &[u8]) -> Result<Stamp, LogError> {
    let id = key.get(6..).and_then(whole).map(Id::new);
    let height = checked_field(key, value).map(u64::from_le_bytes);
    let leaf = id
        .zip(height)
        .map(|(id, height)| Stamp::new(Height(height), id));
    leaf.ok_or_else(|| meta_damage("void leaf", no))
}

// ---- loose entries by author --------------------------------------------------------------------

pub(super) fn loose_range(no: DbNo) -> KeyRange {
    KeyRange::prefix([LOOSE.as_slice(), &no.prefix()].concat())
}

/// No entries have no row.
pub(super) fn put_loose(no: DbNo, author: &PublicKey, entries: u64, batch: &mut Batch) {
    let key = [LOOSE.as_slice(), &no.prefix(), author.as_bytes()].concat();
    match entries {
        0 => batch.delete(Space::Meta, &key),
        _ => put::<SUM>(Space::Meta, &key, &[&entries.to_le_bytes()], batch),
    }
}

pub(super) fn decode_loose(
    no: DbNo,
    key: &[u8],
    value: &[u8],
) -> Result<(PublicKey, u64), LogError> {
    let author = key.get(6..).and_then(whole).map(PublicKey::new);
    let entries = checked_field(key, value).map(u64::from_le_bytes);
    author
        .zip(entries)
        .ok_or_else(|| meta_damage("loose author", no))
}

// ---- summaries ----------------------------------------------------------------------------------

pub(super) fn summary_key(no: DbNo, level: u8, number: u64) -> Vec<u8> {
    let number = number.to_be_bytes();
    [SUMMARIES.as_slice(), &no.prefix(), &[level], &number].concat()
}

pub(super) fn summaries_range(no: DbNo) -> KeyRange {
    KeyRange::prefix([SUMMARIES.as_slice(), &no.prefix()].concat())
}

/// Level and number of the block that a key names.
pub(super) fn summary_block(no: DbNo, key: &[u8]) -> Result<(u8, u64), LogError> {
    let decode = || {
        let [level, number @ ..] = key.get(6..)? else {
            return None;
        };
        Some((*level, u64::from_be_bytes(whole(number)?)))
    };
    decode().ok_or_else(|| meta_damage("summary", no))
}

pub(super) fn put_summary(no: DbNo, level: u8, number: u64, summary: &Summary, batch: &mut Batch) {
    let key = summary_key(no, level, number);
    let count = summary.count.to_le_bytes();
    put::<SUM>(Space::Meta, &key, &[&count, &summary.hash], batch);
}

pub(super) fn decode_summary(
    no: DbNo,
    level: u8,
    number: u64,
    value: &[u8],
) -> Result<Summary, LogError> {
    let decode = || {
        let mut rest = checked::<SUM>(&summary_key(no, level, number), value)?;
        let count = u64::from_le_bytes(take(&mut rest)?);
        let hash = whole(rest)?;
        Some(Summary { count, hash })
    };
    decode().ok_or_else(|| meta_damage("summary", no))
}

/// Of the row that changes whenever an old block of heights does.
pub(super) fn late_key(no: DbNo) -> [u8; 6] {
    key_of(LATE, no)
}

/// Drops summaries, for a change by this version.
pub(super) fn drop_summaries(
    no: DbNo,
    version: u64,
    blocks: impl Iterator<Item = (u8, u64)>,
    batch: &mut Batch,
) {
    for (level, number) in blocks {
        batch.delete(Space::Meta, &summary_key(no, level, number));
    }
    let version = version.to_le_bytes();
    put::<SUM>(Space::Meta, &late_key(no), &[&version], batch);
}

// ---- id index -----------------------------------------------------------------------------------

/// What the id index says of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRow {
    pub(super) arrival: u64,
    pub(super) height: Height,
    pub(super) writes_settings: bool,
}

pub(super) fn id_key(no: DbNo, id: &Id) -> [u8; 36] {
    let mut key = [0; 36];
    let (prefix, rest) = key.split_at_mut(4);
    prefix.copy_from_slice(&no.prefix());
    rest.copy_from_slice(id.as_bytes());
    key
}

pub(super) fn put_id(no: DbNo, id: &Id, row: IdRow, batch: &mut Batch) {
    let mut value = [0; 17];
    let (arrival, rest) = value.split_at_mut(8);
    let (height, flags) = rest.split_at_mut(8);
    arrival.copy_from_slice(&row.arrival.to_le_bytes());
    height.copy_from_slice(&row.height.0.to_le_bytes());
    flags.fill(if row.writes_settings {
        WRITES_SETTINGS
    } else {
        0
    });
    put::<ID_SUM>(Space::Ids, &id_key(no, id), &[&value], batch);
}

/// Of the entries whose ids begin with some bytes.
pub(super) fn ids_range(no: DbNo, prefix: &[u8]) -> KeyRange {
    KeyRange::prefix([no.prefix().as_slice(), prefix].concat())
}

/// What the id row with this key says.
pub(super) fn id_arrival(no: DbNo, key: &[u8], value: &[u8]) -> Result<u64, LogError> {
    let id = key.strip_prefix(&no.prefix()).and_then(whole).map(Id::new);
    let id = id.ok_or_else(|| {
        LogError::corrupt(format_args!("id key of database {no}"), "of a wrong length")
    })?;
    Ok(decode_id(no, &id, value)?.arrival)
}

pub(super) fn decode_id(no: DbNo, id: &Id, value: &[u8]) -> Result<IdRow, LogError> {
    let decode = || {
        let mut rest = checked::<ID_SUM>(&id_key(no, id), value)?;
        let arrival = u64::from_le_bytes(take(&mut rest)?);
        let height = Height(u64::from_le_bytes(take(&mut rest)?));
        let [flags] = whole(rest)?;
        let writes_settings = flags == WRITES_SETTINGS;
        (flags <= WRITES_SETTINGS).then_some(IdRow {
            arrival,
            height,
            writes_settings,
        })
    };
    decode().ok_or_else(|| {
        LogError::corrupt(
            format_args!("id row of entry {id} of database {no}"),
            "does not decode",
        )
    })
}
