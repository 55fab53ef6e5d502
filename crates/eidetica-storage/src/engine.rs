//! The storage engine trait: ordered rows in a few spaces, snapshots, atomic batches.
//!
//! An engine knows nothing of entries. It is synchronous and may block; whoever must not block calls
//! it from a thread that may. Everything is paged or bounded, nothing borrows from the engine.
//!
//! The contract, which `eidetica_testkit::engine_contract!` checks:
//!
//! - A row is a key and a value in a [`Space`]. Keys are not empty and order as bytes, in every
//!   engine.
//! - A batch takes effect as a whole or not at all, in memory and after a crash.
//! - Batches take effect one after the other. What a [`Durability::Durable`] write or a
//!   [`Engine::flush`] has acknowledged survives power loss, together with every batch before it; a
//!   crash loses a suffix of the relaxed batches after it, never one from the middle.
//! - A snapshot shows all spaces as they were between two batches. It contains every batch whose
//!   `write` had returned when it was taken.
//! - The first write or sync that fails other than by a refusal ([`EngineError::is_refusal`])
//!   poisons the engine: from then on every call but `close` and `info` is
//!   [`EngineError::Poisoned`]. A caller never has to guess whether its batch is there; it opens again
//!   and looks. An engine that met damage ([`EngineError::Corrupt`]) before it changed anything may go on.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, EngineError, Watch, limits};

/// What stands in the place of a damaged value in [`Engine::snapshot_with_damage`]. Nobody who calls that writes it.
pub const DAMAGED: &[u8] = b"\xff\xff\xffdamaged\xff\xff\xff";

/// An ordered, transactional row store.
///
/// Object safe; shared as `Arc<dyn Engine>`. All methods take `&self` and may be called from any
/// thread; writes queue up inside.
pub trait Engine: Send + Sync + 'static {
    /// A consistent, unchanging view of all spaces.
    ///
    /// Cheap (no copy of data). While it lives an engine keeps superseded rows and files, so hold it
    /// for one call of ours and never across user code.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError>;

    /// Like [`Engine::snapshot`], for whoever checks every value that it reads: a row whose stored bytes are damaged has
    /// the value [`DAMAGED`], where the engine knows which row that is, instead of keeping those beside it from being read.
    ///
    /// So what is damaged can be named, written anew and taken away. An engine that does not check rows one by one
    /// answers as in any snapshot. To an expectation of a batch such a row has this value as well.
    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.snapshot()
    }

    /// Applies a batch atomically, after checking its preconditions in the same atomic step.
    ///
    /// Blocks until the batch is visible and, with [`Durability::Durable`], on stable storage. Costs
    /// O(n log n) in the steps of the batch; `delete_range` may cost O(rows in the range).
    ///
    /// # Errors
    /// A refusal ([`EngineError::is_refusal`]) leaves everything as it was; any other failure poisons the engine.
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError>;

    /// Makes every batch whose `write` has returned survive power loss.
    fn flush(&self) -> Result<(), EngineError>;

    /// Gives back the space that deleted and overwritten rows take, as far as the engine does not do so by itself. May
    /// cost as much as reading and writing everything, and hold writers up meanwhile; changes nothing that is seen.
    ///
    /// # Errors
    /// As for [`Engine::flush`].
    fn compact(&self) -> Result<(), EngineError> {
        self.flush()
    }

    /// Calls `hint` after rows may have changed, until the returned guard is dropped.
    ///
    /// Where processes share an engine this includes changes by the others. A hint only: it may come
    /// late, once for many writes, or for no change at all, and must not be the only way to notice.
    /// It runs on a thread of the engine or of a writer with no lock held, and must be quick.
    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch;

    /// Flushes, releases files, locks and connections. Idempotent.
    ///
    /// Every other call afterwards is [`EngineError::Closed`]. Locks are released when the last
    /// snapshot taken before is dropped as well. Dropping the engine closes it without the flush.
    fn close(&self) -> Result<(), EngineError>;

    /// What this engine is. Always answers, also after close or poisoning.
    fn info(&self) -> EngineInfo;
}

/// An unchanging view of all spaces; see [`Engine::snapshot`].
///
/// Returned [`Bytes`] own or share their memory and may outlive the snapshot.
pub trait Snapshot: Send + Sync {
    /// The values of `keys`, in their order; `None` where there is no row.
    ///
    /// One round trip where the engine is remote. Costs O(log n) per key.
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError>;

    /// The value of one key. Engines override it where that saves the vectors.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.multi_get(space, &[key])?.pop().flatten())
    }

    /// The first rows of `range` in the given direction, at most what `limit` admits.
    ///
    /// Memory: a page holds at most `limit.rows` rows and `limit.bytes` bytes of keys and values plus
    /// one row, and never more than [`limits::SCAN_ROWS`] and [`limits::SCAN_BYTES`] plus one row. A
    /// page is empty only if the range is. Go on with [`Page::rest`]. A page may end before a row that is damaged, and the
    /// next one begin with the error.
    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError>;
}

impl dyn Snapshot + '_ {
    /// Calls `visit` for every row of `range` in order until it breaks, paging inside.
    ///
    /// # Errors
    /// The engine's, converted, or the visitor's own.
    pub fn for_each<B, E: From<EngineError>>(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        mut visit: impl FnMut(Row) -> Result<ControlFlow<B>, E>,
    ) -> Result<ControlFlow<B>, E> {
        let mut rest = Some(range.clone());
        while let Some(range) = rest {
            let page = self.scan(space, &range, direction, ScanLimit::default())?;
            rest = page.rest(&range, direction);
            for row in page.rows {
                if let ControlFlow::Break(value) = visit(row)? {
                    return Ok(ControlFlow::Break(value));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A key space, with what an engine may assume of its keys.
///
/// The number is part of the stored format of engines that keep spaces in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Few small rows, often overwritten: formats, versions, counters.
    Meta = 0,
    /// Keys only ever appended at the end (per prefix), values large: entries and packs.
    Log = 1,
    /// Random keys, tiny values, hardly ever overwritten: the index of entry ids.
    Ids = 2,
    /// Keys in application order, overwritten at random: materialised state.
    State = 3,
    /// Superseded versions of what is in `State`; written often, read seldom.
    Versions = 4,
    /// What belongs to this instance and is never sent to a peer.
    Local = 5,
}

impl Space {
    /// All spaces, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Meta,
        Self::Log,
        Self::Ids,
        Self::State,
        Self::Versions,
        Self::Local,
    ];

    /// The stable number of this space.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The position in [`Space::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable lower-case name, used for tables and column families.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::Ids => "ids",
            Self::State => "state",
            Self::Versions => "versions",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a write may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// When the batch, and with it every earlier one, survives power loss.
    #[default]
    Durable,
    /// When the batch is visible. A crash may lose it and everything after it.
    Relaxed,
}

/// The way a scan walks through its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Ascending keys.
    #[default]
    Forward,
    /// Descending keys.
    Reverse,
}

/// Keys from `start` (inclusive) up to `end` (exclusive; `None` is the end of the space).
///
/// A range whose end is not above its start is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// The least key in the range.
    pub start: Vec<u8>,
    /// The least key above the range, or `None` where there is none.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key of a space.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys from `start` up to, but without, `end`.
    pub fn new(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// The keys from `start` to the end of the space.
    pub fn starting_at(start: impl Into<Vec<u8>>) -> Self {
        Self {
            start: start.into(),
            end: None,
        }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end }
    }

    /// The part of this range above `key`.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        if key >= self.start.as_slice() {
            self.start.clear();
            self.start.extend_from_slice(key);
            self.start.push(0);
        }
        self
    }

    /// The part of this range below `key`.
    #[must_use]
    pub fn before(mut self, key: &[u8]) -> Self {
        if self.end.as_deref().is_none_or(|end| key < end) {
            self.end = Some(key.to_vec());
        }
        self
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The least key above every key that begins with `prefix`, or `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}

/// How much one scan page may hold; it always may hold one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimit {
    /// Most rows.
    pub rows: usize,
    /// The page ends with the row that reaches this many bytes of keys and values.
    pub bytes: usize,
}

impl ScanLimit {
    /// At most `rows` rows, within the default bytes.
    #[must_use]
    pub const fn rows(rows: usize) -> Self {
        Self {
            rows,
            bytes: limits::PAGE_BYTES,
        }
    }

    /// At most about `bytes` bytes, in any number of rows.
    #[must_use]
    pub const fn bytes(bytes: usize) -> Self {
        Self {
            rows: limits::SCAN_ROWS,
            bytes,
        }
    }
}

impl Default for ScanLimit {
    fn default() -> Self {
        Self {
            rows: limits::PAGE_ROWS,
            bytes: limits::PAGE_BYTES,
        }
    }
}

/// A row as a scan returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key within its space.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// What one scan returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows, in the direction of the scan.
    pub rows: Vec<Row>,
    /// Whether the range may hold rows beyond these; if not, it certainly holds none.
    pub more: bool,
}

impl Page {
    /// The part of `range`, which this page was scanned from, that is still to be scanned.
    #[must_use]
    pub fn rest(&self, range: &KeyRange, direction: Direction) -> Option<KeyRange> {
        let last = self.rows.last().filter(|_| self.more)?;
        Some(match direction {
            Direction::Forward => range.clone().after(&last.key),
            Direction::Reverse => range.clone().before(&last.key),
        })
    }
}

/// Collects a [`Page`] under a [`ScanLimit`]; for engines, so that all end their pages alike.
#[derive(Debug)]
pub struct PageBuilder {
    page: Page,
    rows: usize,
    bytes: usize,
}

impl PageBuilder {
    /// An empty page with room for what `limit` and the limits of this crate admit.
    #[must_use]
    pub fn new(limit: ScanLimit) -> Self {
        Self {
            page: Page::default(),
            rows: limit.rows.clamp(1, limits::SCAN_ROWS),
            bytes: limit.bytes.min(limits::SCAN_BYTES),
        }
    }

    /// Whether the page is full, so that the next row belongs on another one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows == 0 || (self.bytes == 0 && !self.page.rows.is_empty())
    }

    /// Whether nothing is in it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.page.rows.is_empty()
    }

    /// Adds a row to a page that is not full.
    pub fn push(&mut self, key: Bytes, value: Bytes) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(key.len() + value.len());
        self.page.rows.push(Row { key, value });
    }

    /// The page; `more` says whether the range may hold more rows.
    #[must_use]
    pub fn finish(mut self, more: bool) -> Page {
        self.page.more = more;
        self.page
    }
}

/// What an engine is and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Its name: `memory`, `fjall`, `redb`.
    pub name: &'static str,
    /// Whether data survives the process at all.
    pub persistent: bool,
    /// Whether other processes may write to the same data meanwhile.
    pub shared: bool,
    /// Bytes on disk, where that is cheap to say.
    pub disk_bytes: Option<u64>,
    /// Bytes of cache it was configured to use, where it has one.
    pub cache_bytes: Option<u64>,
}

impl EngineInfo {
    /// An engine without persistence, used by one process, of unknown size.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            persistent: false,
            shared: false,
            disk_bytes: None,
            cache_bytes: None,
        }
    }
}
