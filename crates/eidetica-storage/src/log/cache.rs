//! Decoded packs, kept as long as they fit a bound in bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use eidetica_entry::{Entry, Id};
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::DbNo;
use crate::limits;

/// How many bytes of decoded packs to keep, for all databases together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize(pub u64);

impl Default for CacheSize {
    fn default() -> Self {
        Self(limits::PACK_CACHE_BYTES)
    }
}

/// The entries of one log row.
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) entries: Vec<Entry>,
    by_id: OnceLock<HashMap<Id, usize>>,
}

impl Block {
    pub(super) fn new(first: u64, entries: Vec<Entry>) -> Self {
        Self {
            first,
            entries,
            by_id: OnceLock::new(),
        }
    }

    pub(super) fn at(&self, arrival: u64) -> Option<&Entry> {
        let index = arrival.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The arrival number one above the last.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    /// An entry of this block with its arrival number. The first call builds an index.
    pub(super) fn find(&self, id: &Id) -> Option<(u64, &Entry)> {
        let index = *self.by_id.get_or_init(|| self.index()).get(id)?;
        Some((self.first + index as u64, self.entries.get(index)?))
    }

    fn index(&self) -> HashMap<Id, usize> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.id(), index))
            .collect()
    }

    fn byte_len(&self) -> u64 {
        let entries = self.entries.iter();
        entries
            .map(|entry| (entry.encoded_len() + limits::ENTRY_OVERHEAD) as u64)
            .sum()
    }
}

/// A database and the first arrival number of a row.
type Place = (DbNo, u64);
/// A row, as it has been since its database's entries were last changed in place.
type Key = (Place, u64);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Block>> for ByBytes {
    fn weight(&self, _: &Key, block: &Arc<Block>) -> u64 {
        block.byte_len().max(1)
    }
}

/// A pack never changes but by a batch that says so: what was decoded before it is not found after it.
pub(super) struct PackCache {
    blocks: Cache<Key, Arc<Block>, ByBytes>,
    /// First arrival to end, of packs that were met: finds a cached pack without reading its row.
    known: RwLock<BTreeMap<Place, u64>>,
}

impl PackCache {
    pub(super) fn new(size: CacheSize) -> Self {
        let packs = (size.0 / limits::PACK_ESTIMATE_BYTES).max(16);
        Self {
            blocks: Cache::with_weighter(packs as usize, size.0, ByBytes),
            known: RwLock::new(BTreeMap::new()),
        }
    }

    /// The cached pack that contains `arrival`, as it was `rewritten` last.
    pub(super) fn containing(&self, no: DbNo, rewritten: u64, arrival: u64) -> Option<Arc<Block>> {
        let (place, end) = {
            let known = self.known.read();
            let (place, end) = known.range(..=(no, arrival)).next_back()?;
            (*place, *end)
        };
        if place.0 != no || arrival >= end {
            return None;
        }
        // Rewriting may have cut it into several.
        let block = self.blocks.get(&(place, rewritten))?;
        block.at(arrival).is_some().then_some(block)
    }

    pub(super) fn insert(&self, no: DbNo, rewritten: u64, block: &Arc<Block>) {
        let place = (no, block.first);
        let mut known = self.known.write();
        if known.len() >= limits::KNOWN_PACKS {
            known.clear();
        }
        known.insert(place, block.end());
        drop(known);
        self.blocks.insert((place, rewritten), Arc::clone(block));
    }
}
