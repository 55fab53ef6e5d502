//! Sorted runs of the index: where the latest operation of each key is, read in place.
//!
//! A run is pages of entries in the order of their tags, then the beginning of each page, then a filter of
//! one cache line per question. Only the last two are in memory: two bytes for each key.

use std::sync::Arc;

use eidetica_mmr::keyed_hashes;

use crate::files::{self, Fields, Files, Name, PAGE, SUM};
use crate::{DiskFile, Error};

/// What stands for a key: the first 16 bytes of its hash under the seed of the database, so that nobody who
/// does not know the seed can choose keys whose tags fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(pub(crate) u128);

impl Tag {
    pub(crate) fn of(seed: &[u8; 32], key: &[u8]) -> Self {
        Self::first_of(blake3::keyed_hash(seed, key).as_bytes())
    }

    /// Those of many keys, several times faster than one after the other.
    pub(crate) fn of_many(seed: &[u8; 32], keys: &[&[u8]]) -> Vec<Self> {
        let hashes = keyed_hashes(seed, keys);
        let tags = hashes.iter().map(|hash| Self::first_of(hash.as_bytes()));
        tags.collect()
    }

    fn first_of(hash: &[u8; 32]) -> Self {
        let first = hash.first_chunk().copied().unwrap_or_default();
        Self(u128::from_be_bytes(first))
    }

    fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn low(self) -> u64 {
        self.0 as u64
    }
}

/// Where the latest operation of a key is, and whether it is its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u64);

impl Slot {
    const DEAD: u64 = 1 << 63;

    pub(crate) fn live(location: u64) -> Self {
        Self(location)
    }

    pub(crate) fn dead(location: u64) -> Self {
        Self(location | Self::DEAD)
    }

    pub(crate) fn is_live(self) -> bool {
        self.0 & Self::DEAD == 0
    }

    pub(crate) fn location(self) -> u64 {
        self.0 & !Self::DEAD
    }
}

const ENTRY: usize = 24;
const PER_PAGE: usize = (PAGE - SUM) / ENTRY;
/// Bits of the filter for each entry of a new run.
const FILTER_BITS: u64 = 16;
const PROBES: u32 = 6;
/// Pages that merging reads and writes at a time.
const CHUNK: u64 = 64;

/// What the manifest says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunInfo {
    pub(crate) id: u64,
    pub(crate) level: u32,
    pub(crate) entries: u64,
    /// Blocks of the filter, 64 bytes each.
    pub(crate) filter: u64,
}

impl RunInfo {
    fn pages(&self) -> u64 {
        self.entries.div_ceil(PER_PAGE as u64)
    }

    fn tail_bytes(&self) -> Option<u64> {
        let fences = self.pages().checked_mul(8)?;
        let filter = self.filter.checked_mul(64)?;
        fences.checked_add(filter)?.checked_add(SUM as u64)
    }
}

/// A run that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) info: RunInfo,
    /// What follows the pages, as it is stored: opening reads and checks it, and there is nothing to convert.
    tail: Arc<Vec<u8>>,
}

/// A Bloom filter whose bits for one tag are in one block (Putze, Sanders, Singler 2007).
mod filter {
    use super::{FILTER_BITS, PROBES, Tag};

    /// A cache line.
    pub(super) type Block = [u8; 64];

    /// An empty one for so many entries.
    pub(super) fn empty(entries: u64) -> Vec<Block> {
        let blocks = entries.saturating_mul(FILTER_BITS).div_ceil(512).max(1);
        vec![[0; 64]; usize::try_from(blocks).unwrap_or(1)]
    }

    fn block(blocks: usize, tag: Tag) -> usize {
        let scaled = u128::from(tag.high()) * blocks as u128;
        (scaled >> 64) as usize
    }

    fn bits(tag: Tag) -> impl Iterator<Item = (usize, u8)> {
        (0..PROBES).map(move |probe| {
            let bit = tag.low() >> (9 * probe) & 511;
            ((bit >> 3) as usize, 1 << (bit & 7))
        })
    }

    pub(super) fn add(filter: &mut [Block], tag: Tag) {
        let Some(block) = filter.get_mut(block(filter.len(), tag)) else {
            return;
        };
        for (byte, bit) in bits(tag) {
            if let Some(byte) = block.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    pub(super) fn may_have(filter: &[Block], tag: Tag) -> bool {
        let block = filter.get(block(filter.len(), tag));
        // All bits, also after one that is not set: a guess at where to stop is mostly wrong.
        block.is_some_and(|block| {
            bits(tag).fold(true, |set, (byte, bit)| {
                set & block.get(byte).is_some_and(|byte| byte & bit != 0)
            })
        })
    }
}

impl Run {
    /// Reads what is kept in memory.
    pub(crate) fn open(files: &Files, info: RunInfo) -> Result<Self, Error> {
        let name = Name::Run(info.id);
        let damaged = || Error::corrupt(name, "its end has another checksum");
        let file = files.open(name)?;
        let offset = info.pages().checked_mul(PAGE as u64).ok_or_else(damaged)?;
        let length = info.tail_bytes().ok_or_else(damaged)?;
        let tail = files::read(&*file, name, offset, length)?;
        let (body, sum) = tail.split_last_chunk::<SUM>().ok_or_else(damaged)?;
        if files::checksum(name, u64::MAX, body) != *sum {
            return Err(damaged());
        }
        let tail = Arc::new(tail);
        Ok(Self { info, tail })
    }

    /// The high halves of the first tags of the pages, and the filter.
    fn tail(&self) -> (&[[u8; 8]], &[filter::Block]) {
        let (body, _) = self
            .tail
            .split_last_chunk::<SUM>()
            .unwrap_or((&[], &[0; SUM]));
        let fences = self.info.pages().saturating_mul(8);
        let fences = usize::try_from(fences).unwrap_or(usize::MAX);
        let (fences, filter) = body.split_at_checked(fences).unwrap_or_default();
        (fences.as_chunks().0, filter.as_chunks().0)
    }

    /// Where a tag's latest operation is, as of this run. Mostly reads one page, or none if the run does
    /// not have it.
    pub(crate) fn get(&self, files: &Files, tag: Tag) -> Result<Option<Slot>, Error> {
        let (fences, filter) = self.tail();
        if !filter::may_have(filter, tag) {
            return Ok(None);
        }
        look_up(fences, tag, |page| {
            files.page(Name::Run(self.info.id), page)
        })
    }

    /// The same for many, each with a number of the caller's: the numbers of those that it has. Reads every page once.
    pub(crate) fn get_many(
        &self,
        files: &Files,
        asked: &[(Tag, usize)],
    ) -> Result<Vec<(usize, Slot)>, Error> {
        let (fences, filter) = self.tail();
        let may_have = |(tag, _): &&(Tag, usize)| filter::may_have(filter, *tag);
        let mut asked: Vec<(Tag, usize)> = asked.iter().filter(may_have).copied().collect();
        asked.sort_unstable_by_key(|(tag, _)| *tag);
        let mut last: Option<(u64, Arc<Vec<u8>>)> = None;
        let mut found = Vec::with_capacity(asked.len());
        for (tag, number) in asked {
            let slot = look_up(fences, tag, |page| {
                if let Some((_, bytes)) = last.as_ref().filter(|(last, _)| *last == page) {
                    return Ok(bytes.clone());
                }
                let bytes = files.page(Name::Run(self.info.id), page)?;
                last = Some((page, bytes.clone()));
                Ok(bytes)
            })?;
            found.extend(slot.map(|slot| (number, slot)));
        }
        Ok(found)
    }

    pub(crate) fn entries<'a>(&self, files: &'a Files) -> Result<Entries<'a>, Error> {
        let name = Name::Run(self.info.id);
        Ok(Entries {
            file: files.open(name)?,
            name,
            pages: self.info.pages(),
            next_page: 0,
            left: self.info.entries,
            chunk: Vec::new().into_iter(),
            files: std::marker::PhantomData,
        })
    }
}

/// The slot of a tag, from the page on which it must be by the beginnings of the pages.
fn look_up(
    fences: &[[u8; 8]],
    tag: Tag,
    mut read: impl FnMut(u64) -> Result<Arc<Vec<u8>>, Error>,
) -> Result<Option<Slot>, Error> {
    let high = |fence: &[u8; 8]| u64::from_le_bytes(*fence);
    let mut page = fences.partition_point(|fence| high(fence) <= tag.high());
    while let Some(before) = page.checked_sub(1) {
        page = before;
        let found = find(&read(page as u64)?, tag);
        // Tags with the same high half may have begun on the page before.
        let fence = fences.get(page);
        if found.is_some() || fence.is_none_or(|fence| high(fence) < tag.high()) {
            return Ok(found);
        }
    }
    Ok(None)
}

fn find(page: &[u8], tag: Tag) -> Option<Slot> {
    let entries = page.as_chunks::<ENTRY>().0;
    let at = entries.binary_search_by(|entry| {
        let (found, slot) = parse(entry);
        // Behind the last entry there are zeros.
        if slot == Slot(u64::MAX) {
            std::cmp::Ordering::Greater
        } else {
            found.cmp(&tag)
        }
    });
    at.ok()
        .and_then(|at| entries.get(at))
        .map(|entry| parse(entry).1)
}

fn parse(entry: &[u8; ENTRY]) -> (Tag, Slot) {
    let mut fields = Fields(entry);
    let tag = fields.take().map(u128::from_be_bytes).unwrap_or_default();
    (Tag(tag), Slot(fields.u64().unwrap_or_default()))
}

/// All entries of a run in order, read in chunks.
pub(crate) struct Entries<'a> {
    file: Arc<dyn DiskFile>,
    name: Name,
    pages: u64,
    next_page: u64,
    left: u64,
    chunk: std::vec::IntoIter<(Tag, Slot)>,
    files: std::marker::PhantomData<&'a Files>,
}

impl Entries<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<(Tag, Slot)>, Error> {
        if let Some(entry) = self.chunk.next() {
            return Ok(Some(entry));
        }
        if self.left == 0 {
            return Ok(None);
        }
        let count = CHUNK.min(self.pages - self.next_page);
        let offset = self.next_page * PAGE as u64;
        let bytes = files::read(&*self.file, self.name, offset, count * PAGE as u64)?;
        let mut entries = Vec::with_capacity(bytes.len() / ENTRY);
        for page in bytes.chunks(PAGE) {
            files::check_page(self.name, self.next_page, page)?;
            self.next_page += 1;
            let here = page.as_chunks::<ENTRY>().0.iter().take(PER_PAGE).map(parse);
            let here = here.take(usize::try_from(self.left).unwrap_or(usize::MAX));
            let before = entries.len();
            entries.extend(here);
            self.left -= (entries.len() - before) as u64;
        }
        self.chunk = entries.into_iter();
        Ok(self.chunk.next())
    }
}

/// Writes a run of entries that come in the order of their tags.
pub(crate) struct Writer<'a> {
    files: &'a Files,
    file: Arc<dyn DiskFile>,
    name: Name,
    /// Pages that are not written yet.
    out: Vec<u8>,
    written: u64,
    page: Vec<u8>,
    pages: u64,
    entries: u64,
    fences: Vec<u64>,
    filter: Vec<filter::Block>,
}

impl<'a> Writer<'a> {
    /// Begins a run of at most so many entries.
    pub(crate) fn new(files: &'a Files, id: u64, most: u64) -> Result<Self, Error> {
        let name = Name::Run(id);
        Ok(Self {
            file: files.create(name)?,
            files,
            name,
            out: Vec::new(),
            written: 0,
            page: Vec::with_capacity(PAGE),
            pages: 0,
            entries: 0,
            fences: Vec::new(),
            filter: filter::empty(most),
        })
    }

    pub(crate) fn push(&mut self, tag: Tag, slot: Slot) -> Result<(), Error> {
        if self.page.is_empty() {
            self.fences.push(tag.high());
        }
        self.page.extend_from_slice(&tag.0.to_be_bytes());
        self.page.extend_from_slice(&slot.0.to_le_bytes());
        filter::add(&mut self.filter, tag);
        self.entries += 1;
        if self.page.len() == PER_PAGE * ENTRY {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), Error> {
        // Unused entries are all ones: greater than every tag, and no slot.
        self.page.resize(PER_PAGE * ENTRY, 0xff);
        files::push_page(&mut self.out, self.name, self.pages, &self.page);
        self.page.clear();
        self.pages += 1;
        if self.pages.is_multiple_of(CHUNK) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        files::write(&*self.file, self.name, self.written, &self.out)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Ends and syncs the run. Its name is not durable yet.
    pub(crate) fn finish(mut self, id: u64, level: u32) -> Result<Run, Error> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let size = self.fences.len() * 8 + self.filter.len() * 64 + SUM;
        let mut tail = Vec::with_capacity(size);
        let fences = self.fences.iter().map(|fence| fence.to_le_bytes());
        fences.for_each(|fence| tail.extend_from_slice(&fence));
        tail.extend_from_slice(self.filter.as_flattened());
        let sum = files::checksum(self.name, u64::MAX, &tail);
        tail.extend_from_slice(&sum);
        self.flush()?;
        files::write(&*self.file, self.name, self.written, &tail)?;
        files::sync(&*self.file, self.name)?;
        // So that the next opening of it sees the same file.
        self.files.open(self.name)?;
        let info = RunInfo {
            id,
            level,
            entries: self.entries,
            filter: self.filter.len() as u64,
        };
        let tail = Arc::new(tail);
        Ok(Run { info, tail })
    }
}
