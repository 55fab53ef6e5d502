//! What one replica has and another has not, as packs to send.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Entry, Id, StoreName, pack};

use super::cache::Block;
use super::rows::{self, Stored};
use super::{LogError, LogReader, Mark, Marks};
use crate::limits;

/// A set of entries of one database, as ranges of arrival numbers. Closed under "parent" towards what
/// it was made against, so sending it in order sends parents first. Cheap to clone.
///
/// It stays valid while the database grows: entries keep their arrival numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Ascending, disjoint, not touching, none empty.
    ranges: Arc<[Range<u64>]>,
}

impl Difference {
    /// All entries below `end` but some.
    fn all(end: u64, without: &Marks) -> Self {
        let mut ranges = Vec::new();
        let mut start = 0;
        for gap in without.iter().chain([end]) {
            ranges.extend((start < gap).then_some(start..gap));
            start = gap + 1;
        }
        Self {
            ranges: ranges.into(),
        }
    }

    /// The entries with these arrival numbers, in any order.
    #[must_use]
    pub fn of(mut arrivals: Vec<u64>) -> Self {
        arrivals.sort_unstable();
        arrivals.dedup();
        let runs = arrivals.chunk_by(|a, b| a + 1 == *b);
        let ranges = runs.filter_map(|run| Some(*run.first()?..run.last()? + 1));
        Self {
            ranges: ranges.collect(),
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Whether an arrival number is among them. O(log ranges).
    #[must_use]
    pub fn contains(&self, arrival: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= arrival);
        self.ranges
            .get(at)
            .is_some_and(|range| range.contains(&arrival))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The arrival numbers, as ascending disjoint ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

/// Some packs of a [`Difference`].
#[derive(Debug, Clone, Default)]
pub struct PackPage {
    /// Packs in the order in which they must be read.
    pub packs: Vec<Bytes>,
    /// Where to go on; `None` if these are the last.
    pub next: Option<u64>,
}

impl LogReader<'_> {
    /// `past(from)` without `past(not)`, ends included. Ids in `not` that are not here are ignored.
    ///
    /// Where `from` are all tips and nothing is taken away, this costs one row and those that mark loose
    /// entries. Else it walks the difference; see [`dag::difference`].
    ///
    /// # Errors
    /// [`LogError::Missing`] for an id in `from` that is not here, [`LogError::Budget`], the engine's
    /// errors, damaged rows.
    pub fn difference(
        &self,
        from: &[Id],
        not: &[Id],
        budget: &mut Budget,
    ) -> Result<Difference, LogError> {
        let state = self.state()?;
        let known = self.contains_many(not)?;
        let not: Vec<Id> = not
            .iter()
            .zip(known)
            .filter_map(|(id, known)| known.then_some(*id))
            .collect();
        // What is beside the tips may be loose.
        let plain = state.loose == 0 || from.len() == state.tips.len();
        if not.is_empty() && plain && state.tips.iter().all(|tip| from.contains(&tip.id)) {
            let loose = match state.loose {
                0 => Marks::default(),
                _ => self.marks(Mark::Loose)?,
            };
            return Ok(Difference::all(state.next_arrival, &loose));
        }
        let stamps = dag::difference(self, from, &not, budget)?;
        let mut arrivals = Vec::with_capacity(stamps.len());
        let mut unknown = Vec::new();
        for stamp in &stamps {
            match self.find_recent(&stamp.id, |arrival, _| arrival) {
                Some(arrival) => arrivals.push(arrival),
                None => unknown.push(stamp.id),
            }
        }
        for (id, located) in unknown.iter().zip(self.locate(&unknown)?) {
            arrivals.push(located.ok_or(LogError::Missing(*id))?.arrival);
        }
        Ok(Difference::of(arrivals))
    }

    /// The packs of `difference` from arrival number `from` on (0 at first), until they hold
    /// `budget_bytes`; at least one if there is any.
    ///
    /// Stored packs that lie in the difference as a whole are returned as they are. The others are
    /// decoded and packed anew.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn packs(
        &self,
        difference: &Difference,
        from: u64,
        budget_bytes: usize,
    ) -> Result<PackPage, LogError> {
        self.fill(PageMaker::new(budget_bytes, Keep::All), difference, from)
    }

    /// Like [`packs`](Self::packs), of entries with no payloads but those of `_settings` and of some stores. Rows that
    /// hold no others are returned as they are.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn packs_with(
        &self,
        stores: &BTreeSet<StoreName>,
        difference: &Difference,
        from: u64,
        budget_bytes: usize,
    ) -> Result<PackPage, LogError> {
        let keep = Keep::Stores(stores);
        self.fill(PageMaker::new(budget_bytes, keep), difference, from)
    }

    /// Like [`packs`](Self::packs), of entries [without data](Entry::without_data): what a closure needs.
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn packs_without_data(
        &self,
        difference: &Difference,
        from: u64,
        budget_bytes: usize,
    ) -> Result<PackPage, LogError> {
        self.fill(
            PageMaker::new(budget_bytes, Keep::Settings),
            difference,
            from,
        )
    }

    fn fill(
        &self,
        mut page: PageMaker<'_>,
        difference: &Difference,
        from: u64,
    ) -> Result<PackPage, LogError> {
        for range in difference.ranges.iter().filter(|range| range.end > from) {
            let mut next = range.start.max(from);
            while next < range.end {
                if page.is_full() {
                    return page.finish(Some(next));
                }
                next = self.add_row(next, range.end, &mut page)?;
            }
        }
        page.finish(None)
    }

    /// Adds what the row that contains `arrival` holds of `arrival..end`; says where to go on.
    fn add_row(&self, arrival: u64, end: u64, page: &mut PageMaker<'_>) -> Result<u64, LogError> {
        if let Some(open) = self.open_at(arrival) {
            return self.add_block(&open, arrival, end, page);
        }
        let (first, stored) = self.row_at(arrival)?;
        self.count_single(&stored)?;
        let mut whole = None;
        if let Stored::Pack(bytes) = &stored {
            let row_end = first + u64::from(rows::pack_info(self.no(), first, bytes)?.entries);
            whole = (first == arrival && row_end <= end).then(|| (bytes.clone(), row_end));
        }
        if let Some((bytes, row_end)) = &whole
            && matches!(page.keep, Keep::All)
        {
            page.add_pack(bytes.clone())?;
            return Ok(*row_end);
        }
        let block = match self.cached(arrival)? {
            Some(block) => block,
            None => self.decode(first, stored)?,
        };
        if let Some((bytes, row_end)) = whole
            && block.entries.iter().all(|entry| page.keep.is_all_of(entry))
        {
            page.add_pack(bytes)?;
            return Ok(row_end);
        }
        self.add_block(&block, arrival, end, page)
    }

    /// Adds the entries of a block from `arrival` on; says where to go on.
    fn add_block(
        &self,
        block: &Block,
        arrival: u64,
        end: u64,
        page: &mut PageMaker<'_>,
    ) -> Result<u64, LogError> {
        let mut next = arrival;
        while next < end.min(block.end()) && !(next > arrival && page.is_full()) {
            let Some(entry) = block.at(next) else { break };
            page.add_entry(entry.clone())?;
            next += 1;
        }
        match next > arrival {
            true => Ok(next),
            false => Err(LogError::corrupt(
                rows::log_row(self.no(), arrival),
                "missing",
            )),
        }
    }
}

/// Which payloads are sent along.
#[derive(Clone, Copy)]
enum Keep<'k> {
    All,
    Settings,
    /// And those of these stores.
    Stores(&'k BTreeSet<StoreName>),
}

impl Keep<'_> {
    fn has(&self, store: &StoreName) -> bool {
        match self {
            Self::All => true,
            Self::Settings => store.is_settings(),
            Self::Stores(stores) => store.is_settings() || stores.contains(store),
        }
    }

    fn is_all_of(&self, entry: &Entry) -> bool {
        let mut payloads = entry.payloads();
        payloads.all(|(store, payload)| payload.is_none() || self.has(store))
    }
}

/// Collects packs, and packs loose entries in between.
struct PageMaker<'k> {
    packs: Vec<Bytes>,
    loose: Vec<Entry>,
    loose_bytes: usize,
    bytes: usize,
    budget: usize,
    keep: Keep<'k>,
}

impl<'k> PageMaker<'k> {
    fn new(budget: usize, keep: Keep<'k>) -> Self {
        Self {
            keep,
            packs: Vec::new(),
            loose: Vec::new(),
            loose_bytes: 0,
            bytes: 0,
            budget,
        }
    }

    /// Loose entries count at their full size, though packs are smaller.
    fn is_full(&self) -> bool {
        let some = !self.packs.is_empty() || !self.loose.is_empty();
        some && self.bytes + self.loose_bytes >= self.budget
    }

    fn add_pack(&mut self, pack: Bytes) -> Result<(), LogError> {
        self.pack_loose()?;
        self.bytes += pack.len();
        self.packs.push(pack);
        Ok(())
    }

    fn add_entry(&mut self, mut entry: Entry) -> Result<(), LogError> {
        if !self.keep.is_all_of(&entry) {
            entry = entry.with_payloads_of(|store| self.keep.has(store));
        }
        self.loose_bytes += entry.encoded_len();
        self.loose.push(entry);
        match self.loose.len() >= limits::STORED_PACK_ENTRIES {
            true => self.pack_loose(),
            false => Ok(()),
        }
    }

    fn pack_loose(&mut self) -> Result<(), LogError> {
        for chunk in pack::chunks(&self.loose, limits::STORED_PACK_ENTRIES) {
            let pack = pack::encode(chunk)?;
            self.bytes += pack.len();
            self.packs.push(pack);
        }
        self.loose.clear();
        self.loose_bytes = 0;
        Ok(())
    }

    fn finish(mut self, next: Option<u64>) -> Result<PackPage, LogError> {
        self.pack_loose()?;
        Ok(PackPage {
            packs: self.packs,
            next,
        })
    }
}
