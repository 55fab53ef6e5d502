//! The memory engine: one persistent map per space.
//!
//! A snapshot shares the maps (one reference count), so it costs nothing to take and writers go on in
//! place as soon as it is gone; while one lives, a write copies the few small nodes on its path. The
//! memory cost is about 100 bytes per row besides its key and value.
//!
//! Nothing survives the process, so both durabilities are alike.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;

use crate::batch::{Plan, Range};
use crate::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, PageBuilder,
    ScanLimit, Snapshot, Space, Watch, Watchers,
};

/// Keeps all rows in memory.
///
/// Readers wait while a batch is applied (about a microsecond per row), never for each other.
#[derive(Debug)]
pub struct MemoryEngine {
    /// `None` once closed.
    spaces: RwLock<Option<Arc<Spaces>>>,
    watchers: Watchers,
}

/// Half the size of a pair of [`Bytes`] in the nodes, and cheaper to share.
type Cell = Arc<[u8]>;

#[derive(Debug, Clone, Default)]
struct Spaces([OrdMap<Cell, Cell>; Space::ALL.len()]);

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Arc::default())
    }

    /// Another engine that begins with the rows of this one and shares nothing with it afterwards.
    /// O(1).
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub fn fork(&self) -> Result<Self, EngineError> {
        Ok(Self::over(self.shared()?))
    }

    fn over(spaces: Arc<Spaces>) -> Self {
        Self {
            spaces: RwLock::new(Some(spaces)),
            watchers: Watchers::default(),
        }
    }

    fn shared(&self) -> Result<Arc<Spaces>, EngineError> {
        self.spaces.read().clone().ok_or(EngineError::Closed)
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for MemoryEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        Ok(Box::new(MemorySnapshot(self.shared()?)))
    }

    fn write(&self, batch: &Batch, _: Durability) -> Result<(), EngineError> {
        let plan = batch.plan()?;
        {
            let mut guard = self.spaces.write();
            let shared = guard.as_mut().ok_or(EngineError::Closed)?;
            for expect in &plan.expects {
                expect.check(shared.get(expect.space, expect.key))?;
            }
            Arc::make_mut(shared).apply(&plan);
        }
        self.watchers.notify();
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.shared().map(drop)
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.watchers.add(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        *self.spaces.write() = None;
        Ok(())
    }

    fn info(&self) -> EngineInfo {
        EngineInfo::new("memory")
    }
}

impl Spaces {
    #[expect(clippy::indexing_slicing, reason = "there is one map for every space")]
    fn map(&self, space: Space) -> &OrdMap<Cell, Cell> {
        &self.0[space.index()]
    }

    #[expect(clippy::indexing_slicing, reason = "there is one map for every space")]
    fn map_mut(&mut self, space: Space) -> &mut OrdMap<Cell, Cell> {
        &mut self.0[space.index()]
    }

    fn get(&self, space: Space, key: &[u8]) -> Option<&[u8]> {
        self.map(space).get(key).map(|value| &**value)
    }

    fn apply(&mut self, plan: &Plan<'_>) {
        for range in &plan.ranges {
            self.clear(range);
        }
        for write in &plan.writes {
            let map = self.map_mut(write.space);
            match write.value {
                Some(value) => drop(map.insert(write.key.into(), value.into())),
                None => drop(map.remove(write.key)),
            }
        }
    }

    fn clear(&mut self, range: &Range<'_>) {
        let map = self.map_mut(range.space);
        if range.start.is_empty() && range.end.is_none() {
            map.clear();
            return;
        }
        let keys: Vec<Cell> = map
            .range::<_, [u8]>(bounds(range.start, range.end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            map.remove(&key);
        }
    }
}

fn bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        Bound::Included(start),
        end.map_or(Bound::Unbounded, Bound::Excluded),
    )
}

struct MemorySnapshot(Arc<Spaces>);

impl Snapshot for MemorySnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let map = self.0.map(space);
        Ok(keys.iter().map(|key| map.get(*key).map(share)).collect())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.map(space).get(key).map(share))
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let rows = self
            .0
            .map(space)
            .range::<_, [u8]>(bounds(&range.start, range.end.as_deref()));
        Ok(match direction {
            Direction::Forward => page(rows, limit),
            Direction::Reverse => page(rows.rev(), limit),
        })
    }
}

fn page<'a>(rows: impl Iterator<Item = (&'a Cell, &'a Cell)>, limit: ScanLimit) -> Page {
    let mut page = PageBuilder::new(limit);
    for (key, value) in rows {
        if page.is_full() {
            return page.finish(true);
        }
        page.push(share(key), share(value));
    }
    page.finish(false)
}

/// Copies what is small and shares what is not, so that a reader costs one allocation either way.
fn share(cell: &Cell) -> Bytes {
    const COPY_BYTES: usize = 512;
    if cell.len() <= COPY_BYTES {
        Bytes::copy_from_slice(cell)
    } else {
        Bytes::from_owner(cell.clone())
    }
}
