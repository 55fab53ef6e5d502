//! The stamps of the entries that are passed on, as a set that can be summarized.
//!
//! Summaries of old blocks of heights are kept as rows, so that no entry is looked at twice for them: who asks first
//! computes them, and the batch that adds an entry to an old block, or takes one from what is passed on, drops the
//! rows above it. The newest heights, where entries are added all the time, have no such rows, so a commit costs
//! none; they are summarized from the entries when they are asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_entry::reconcile::{self, Node, Source, Span, Summary, within};
use eidetica_entry::{Height, Stamp};

use super::rows::{self, PackHeights};
use super::{DatabaseLog, LogError, LogReader, LogState, Mark, Marks};
use crate::{Batch, Durability, EngineError, Space, limits};

/// Blocks of so many heights (as a power of 16) are the smallest that have rows.
const LEVEL: u8 = limits::SUMMARY_LEVEL;

/// Heights below this one are old.
pub(super) fn old_below(max_height: Height) -> u64 {
    let fresh = max_height.0.saturating_sub(limits::FRESH_HEIGHTS);
    fresh & !((1 << (4 * LEVEL)) - 1)
}

/// The number of the smallest block with a row that a height is in, if it is old.
pub(super) fn old_block(height: Height, max_height: Height) -> Option<u64> {
    (height.0 < old_below(max_height)).then_some(height.0 >> (4 * LEVEL))
}

/// The blocks that have rows and contain the smallest one with a number: their levels and numbers.
pub(super) fn old_path(block: u64, max_height: Height) -> impl Iterator<Item = (u8, u64)> {
    let end = old_below(max_height);
    (LEVEL..16).map_while(move |level| {
        let number = block >> (4 * (level - LEVEL));
        let last = number.checked_add(1)?.checked_mul(1 << (4 * level))?;
        (last <= end).then_some((level, number))
    })
}

/// The stamps of all entries but the loose ones. Made by [`LogReader::stamp_set`]; for one call.
pub struct StampSet<'r, 'a> {
    reader: &'r LogReader<'a>,
    state: LogState,
    loose: Marks,
    /// Those of the open block, ascending.
    open: Vec<Stamp>,
    packs: KnownPacks,
    /// The block of heights that was looked at last.
    block: Option<(Node, Vec<Stamp>)>,
    new: NewSummaries,
}

/// What the height index says of the packs that have anything at some height or above.
#[derive(Default)]
struct KnownPacks {
    /// Nothing is known yet.
    lowest: Option<Height>,
    /// In the order of their greatest heights, each with the least height that it and those after it have.
    packs: Vec<(PackHeights, Height)>,
}

impl KnownPacks {
    fn new(lowest: Height, packs: Vec<PackHeights>) -> Self {
        let mut least = Height(u64::MAX);
        let mut packs: Vec<_> = packs.into_iter().map(|pack| (pack, pack.min)).collect();
        for (pack, from_here) in packs.iter_mut().rev() {
            least = least.min(pack.min);
            *from_here = least;
        }
        Self {
            lowest: Some(lowest),
            packs,
        }
    }

    /// The arrival numbers of the first entries of those that overlap a span of heights.
    fn overlapping(&self, from: Height, to: Option<Height>) -> Vec<u64> {
        let is_below = |min: Height| to.is_none_or(|to| min < to);
        let first = self.packs.partition_point(|(pack, _)| pack.max < from);
        let packs = self.packs.iter().skip(first);
        packs
            .take_while(|(_, least)| is_below(*least))
            .filter(|(pack, _)| is_below(pack.min))
            .map(|(pack, _)| pack.first)
            .collect()
    }
}

/// Summaries of old blocks that were not kept yet.
#[derive(Default)]
pub struct NewSummaries {
    rows: BTreeMap<(u8, u64), Summary>,
    /// What they hold under.
    late: Option<Bytes>,
}

impl NewSummaries {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl DatabaseLog {
    /// Keeps summaries, unless an old block has changed since they were made. Says whether they are kept.
    ///
    /// # Errors
    /// The engine's errors.
    pub fn keep(&self, new: &NewSummaries) -> Result<bool, LogError> {
        let mut batch = Batch::new();
        let late = rows::late_key(self.no());
        batch.expect(Space::Meta, &late, new.late.as_deref());
        for ((level, number), summary) in &new.rows {
            rows::put_summary(self.no(), *level, *number, summary, &mut batch);
        }
        match self.engine().write(&batch, Durability::Relaxed) {
            Ok(()) => Ok(true),
            Err(EngineError::PreconditionFailed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<'a> LogReader<'a> {
    /// The stamps of all entries that are passed on: the effective ones and what is below them. O(open block).
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn stamp_set(&self) -> Result<StampSet<'_, 'a>, LogError> {
        let state = self.state()?;
        let loose = match state.loose {
            0 => Marks::default(),
            _ => self.marks(Mark::Loose)?,
        };
        let entries = self.open_entries()?;
        let arrived = (state.open_from..).zip(&entries);
        let mut open: Vec<Stamp> = arrived
            .filter(|(arrival, _)| !loose.contains(*arrival))
            .map(|(_, entry)| entry.stamp())
            .collect();
        open.sort_unstable();
        let late = self.read_meta(&rows::late_key(self.no()))?;
        Ok(StampSet {
            reader: self,
            state,
            loose,
            open,
            packs: KnownPacks::default(),
            block: None,
            new: NewSummaries {
                rows: BTreeMap::new(),
                late,
            },
        })
    }
}

impl StampSet<'_, '_> {
    /// What was computed of old blocks and is not kept: for [`DatabaseLog::keep`], once the snapshot is let go.
    #[must_use]
    pub fn into_new(self) -> NewSummaries {
        self.new
    }

    /// The number of a block that has a row, or is to have one.
    fn row_of(&self, node: &Node) -> Option<(u8, u64)> {
        let level = node.level().filter(|level| (LEVEL..16).contains(level))?;
        let end = node.span().to?;
        let is_old = end.height.0 <= old_below(self.state.max_height);
        is_old.then(|| (level, node.span().from.height.0 >> (4 * level)))
    }

    fn compute(&mut self, node: &Node) -> Result<Summary, LogError> {
        if node.level().is_some_and(|level| level > LEVEL) {
            return reconcile::from_children(self, node);
        }
        let span = node.span();
        let stamps = self.block(span.from.height)?;
        Ok(Summary::of_node(node, within(stamps, &span)))
    }

    /// The stamps of the smallest block with a row that has a height, ascending. Costs the packs that overlap it.
    fn block(&mut self, height: Height) -> Result<&[Stamp], LogError> {
        let node = Node::of_heights(height, LEVEL);
        let stamps = match self.block.take() {
            Some((known, stamps)) if known == node => stamps,
            _ => self.load(&node.span())?,
        };
        Ok(&self.block.insert((node, stamps)).1)
    }

    fn load(&mut self, span: &Span) -> Result<Vec<Stamp>, LogError> {
        let mut stamps = within(&self.open, span).to_vec();
        let to = span.to.map(|to| to.height);
        let packs = self.packs_from(span.from.height)?;
        let firsts = packs.overlapping(span.from.height, to);
        for first in firsts {
            let block = self.reader.block_at(first)?;
            let arrived = (block.first..).zip(&block.entries);
            let in_it = arrived.filter(|(arrival, entry)| {
                span.contains(&entry.stamp()) && !self.loose.contains(*arrival)
            });
            stamps.extend(in_it.map(|(_, entry)| entry.stamp()));
        }
        stamps.sort_unstable();
        Ok(stamps)
    }

    /// Packs that have anything at a height or above, one row each. Whoever goes on downwards gets twice as many each
    /// time, so that a row is read few times.
    fn packs_from(&mut self, lowest: Height) -> Result<&KnownPacks, LogError> {
        if self.packs.lowest.is_none_or(|known| lowest < known) {
            let above = self.state.max_height.0.saturating_sub(lowest.0);
            let lowest = match self.packs.lowest {
                Some(_) => Height(lowest.0.saturating_sub(above)),
                None => lowest,
            };
            self.packs = KnownPacks::new(lowest, self.reader.pack_heights(lowest)?);
        }
        Ok(&self.packs)
    }
}

impl LogReader<'_> {
    /// The blocks (level and number) whose kept summaries are not those of the entries. O(entries in these blocks).
    ///
    /// # Errors
    /// The engine's errors, damaged rows.
    pub fn wrong_summaries(&self) -> Result<Vec<(u8, u64)>, LogError> {
        let mut kept = Vec::new();
        self.each_meta(&rows::summaries_range(self.no()), |key, value| {
            let (level, number) = rows::summary_block(self.no(), key)?;
            kept.push((
                level,
                number,
                rows::decode_summary(self.no(), level, number, value)?,
            ));
            Ok(())
        })?;
        let mut set = self.stamp_set()?;
        let mut wrong = Vec::new();
        for (level, number, summary) in kept {
            let lowest = 1u64.checked_shl(4 * u32::from(level));
            let lowest = lowest.and_then(|width| width.checked_mul(number));
            let node = lowest.map(|lowest| Node::of_heights(Height(lowest), level));
            let node = node.filter(|node| set.row_of(node) == Some((level, number)));
            let right = match node {
                Some(node) => set.compute(&node)? == summary,
                None => false,
            };
            if !right {
                wrong.push((level, number));
            }
        }
        Ok(wrong)
    }

    fn pack_heights(&self, lowest: Height) -> Result<Vec<PackHeights>, LogError> {
        let mut packs = Vec::new();
        let range = rows::heights_range(self.no(), lowest);
        self.each_meta(&range, |key, value| {
            packs.push(rows::decode_heights(self.no(), key, value)?);
            Ok(())
        })?;
        Ok(packs)
    }
}

impl Source for StampSet<'_, '_> {
    type Error = LogError;

    fn summary(&mut self, node: &Node) -> Result<Summary, LogError> {
        if node.span().from.height > self.state.max_height {
            return Ok(Summary::default());
        }
        let Some((level, number)) = self.row_of(node) else {
            return self.compute(node);
        };
        // Whoever goes down asks for the parts of what was just computed.
        if let Some(summary) = self.new.rows.get(&(level, number)) {
            return Ok(*summary);
        }
        let no = self.reader.no();
        if let Some(row) = self
            .reader
            .read_meta(&rows::summary_key(no, level, number))?
        {
            return rows::decode_summary(no, level, number, &row);
        }
        let summary = self.compute(node)?;
        self.new.rows.insert((level, number), summary);
        Ok(summary)
    }

    fn stamps(&mut self, span: &Span, limit: usize) -> Result<Vec<Stamp>, LogError> {
        let mut stamps = Vec::new();
        let mut height = span.from.height;
        while height <= self.state.max_height && stamps.len() < limit {
            let room = limit - stamps.len();
            let block = self.block(height)?;
            stamps.extend(within(block, span).iter().take(room));
            let next = Node::of_heights(height, LEVEL).span().to;
            match next {
                Some(next) if span.contains(&next) => height = next.height,
                _ => break,
            }
        }
        Ok(stamps)
    }
}
