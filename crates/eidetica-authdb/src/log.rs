//! The log of operations under its range, and the index over it: what both databases and replicas are made
//! of. Reading is here, writing in `write`, opening in `recover`.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use eidetica_mmr::{
    Consistency, Digest, Frontier, Leaves, Location, Mmr, Node, Nodes, Proof, node_hash, peaks,
    prove_consistency, prove_multi, prove_range, root_at, tree_hashes,
};

use crate::block::{Block, Table};
use crate::files::{self, Files, Name, PAGE};
use crate::index::Index;
use crate::manifest::{Segment, State};
use crate::run::{Slot, Tag};
use crate::{DiskFile, Error, Kind, Operation, Operations, Options, limits};

/// Nodes below this height are not stored: they are hashed anew from at most eight operations.
const STORED_HEIGHT: u32 = 3;
/// Hashes on one page of a side file.
pub(crate) const PER_PAGE: u64 = 127;
/// Blocks that are at hand for one purpose: those at both ends of a short range, and their neighbours.
const BLOCKS_AT_HAND: usize = 4;

/// A range of operations and the proof that they are where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenRange {
    /// Where the first operation is.
    pub start: Location,
    /// At least one.
    pub operations: Operations,
    /// Verifies against the root at the size that was asked about.
    pub proof: Proof,
}

/// Several operations and the proof that they are where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenSeveral {
    /// The locations, ascending.
    pub locations: Vec<Location>,
    /// As many.
    pub operations: Operations,
    /// Verifies against the root at the size that was asked about.
    pub proof: Proof,
}

/// See the module.
pub(crate) struct Log {
    pub(crate) files: Files,
    pub(crate) options: Options,
    pub(crate) kind: Kind,
    pub(crate) generation: u64,
    pub(crate) syncing: bool,
    /// The size before the first operation that is kept.
    pub(crate) boundary: Frontier,
    pub(crate) segments: Vec<Segment>,
    pub(crate) index: Index,
    /// All operations that are not in a sealed segment, also those that are not written yet.
    pub(crate) tail: Operations,
    /// The range, with the nodes that came to be in the tail.
    pub(crate) mmr: Mmr,
    pub(crate) state: State,
    /// The state where the tail begins.
    pub(crate) sealed_state: State,
    pub(crate) durable: Durable,
    /// How many of the operations that were written are known to be on the disk.
    pub(crate) synced: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) head: Arc<dyn DiskFile>,
    /// Where the blocks of the tail begin: location and offset.
    pub(crate) blocks: Vec<(u64, u64)>,
    pub(crate) file_end: u64,
    /// How often the log was made durable. Blocks carry it, so that one that is lost behind a later one is
    /// not taken for a torn end.
    pub(crate) epoch: u64,
    /// Whether blocks of this epoch are written.
    pub(crate) unsynced: bool,
    pub(crate) next_run: u64,
    pub(crate) failed: Option<Arc<str>>,
}

/// What is written: size and state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) leaves: u64,
    pub(crate) state: State,
}

impl Log {
    pub(crate) fn leaves(&self) -> Leaves {
        self.mmr.leaves()
    }

    pub(crate) fn root(&self) -> Digest {
        self.mmr.root()
    }

    /// The first operation that is kept.
    pub(crate) fn first(&self) -> Location {
        self.boundary.leaves().next()
    }

    /// The first operation of the tail.
    pub(crate) fn tail_first(&self) -> u64 {
        self.mmr.boundary().0
    }

    pub(crate) fn tag(&self, key: &[u8]) -> Tag {
        Tag::of(&self.options.seed, key)
    }

    pub(crate) fn tags(&self, keys: &[&[u8]]) -> Vec<Tag> {
        Tag::of_many(&self.options.seed, keys)
    }

    /// Where the live operation of a key is.
    pub(crate) fn find(&self, tag: Tag) -> Result<Option<Location>, Error> {
        let slot = self.index.get(&self.files, tag)?;
        Ok(slot
            .filter(|slot| self.is_live(*slot))
            .map(|slot| Location(slot.location())))
    }

    /// Where the live operations of many keys are.
    pub(crate) fn find_many(&self, tags: &[Tag]) -> Result<Vec<Option<Location>>, Error> {
        let slots = self.index.get_many(&self.files, tags)?.into_iter();
        let live = slots.map(|slot| slot.filter(|slot| self.is_live(*slot)));
        Ok(live
            .map(|slot| slot.map(|slot| Location(slot.location())))
            .collect())
    }

    fn is_live(&self, slot: Slot) -> bool {
        // What lies before the floor of a database with updates was moved, replaced or deleted.
        let kept = self.kind == Kind::Immutable || slot.location() >= self.state.floor;
        slot.is_live() && kept
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        crate::op::check_key(key)?;
        let Some(location) = self.find(self.tag(key))? else {
            return Ok(None);
        };
        self.with_operation(location, |bytes| match Operation::decode(bytes) {
            Ok(Operation::Update { key: found, value } | Operation::Set { key: found, value })
                if found == key =>
            {
                Ok(Some(value.to_vec()))
            }
            _ => Err(misplaced(location)),
        })
    }

    /// Looks at the bytes of an operation.
    pub(crate) fn with_operation<R>(
        &self,
        location: Location,
        look: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<R, Error> {
        Reader::new(self).with_operation(location, look)
    }

    pub(crate) fn check_kept(&self, location: Location) -> Result<(), Error> {
        let leaves = self.leaves();
        if location.0 >= leaves.0 {
            return Err(Error::OutOfBounds { location, leaves });
        }
        let boundary = self.first();
        if location < boundary {
            return Err(Error::Pruned { location, boundary });
        }
        Ok(())
    }

    fn block(&self, location: Location) -> Result<Arc<Block>, Error> {
        let segment = self
            .segment(location.0)
            .ok_or_else(|| misplaced(location))?;
        let table = self
            .files
            .table(segment.first, || self.load_table(segment))?;
        let relative = u32::try_from(location.0 - segment.first).unwrap_or(u32::MAX);
        let (offset, end) = table
            .find(relative, segment.log_bytes)
            .ok_or_else(|| misplaced(location))?;
        self.files
            .block(segment.first, offset, end.saturating_sub(offset))
    }

    /// The sealed segment that holds a location.
    fn segment(&self, location: u64) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.first <= location);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (location < segment.end).then_some(segment)
    }

    fn load_table(&self, segment: &Segment) -> Result<Table, Error> {
        let name = Name::Side(segment.first);
        let file = self.files.open(name)?;
        let offset = stored_nodes(segment).div_ceil(PER_PAGE) * PAGE as u64;
        let bytes = files::read(&*file, name, offset, Table::size(segment.blocks))?;
        Table::decode(&bytes, name)
    }

    /// The root at an earlier size.
    pub(crate) fn root_at(&self, leaves: Leaves) -> Result<Digest, Error> {
        self.check_size(leaves)?;
        Ok(root_at(&Reader::new(self), leaves)?)
    }

    /// Size and peaks at an earlier size.
    pub(crate) fn frontier_at(&self, leaves: Leaves) -> Result<Frontier, Error> {
        self.check_size(leaves)?;
        let missing = || Error::corrupt("the log", "a peak is missing");
        let reader = Reader::new(self);
        let found = peaks(leaves).map(|peak| reader.node(peak)?.ok_or_else(missing));
        Ok(Frontier::from_peaks(
            leaves,
            found.collect::<Result<_, _>>()?,
        )?)
    }

    fn check_size(&self, leaves: Leaves) -> Result<(), Error> {
        let location = leaves.next();
        if leaves > self.leaves() {
            return Err(Error::OutOfBounds {
                location,
                leaves: self.leaves(),
            });
        }
        let boundary = self.first();
        if location < boundary {
            return Err(Error::Pruned { location, boundary });
        }
        Ok(())
    }

    /// Proves the operations from `start` on against the root at a size: as many as were asked for and fit
    /// the bytes, at least one.
    pub(crate) fn prove(
        &self,
        leaves: Leaves,
        range: Range<Location>,
        most_bytes: usize,
    ) -> Result<ProvenRange, Error> {
        self.check_size(leaves)?;
        self.check_kept(range.start)?;
        let count = range.end.0.saturating_sub(range.start.0);
        if count == 0 || range.end.0 > leaves.0 || count > limits::RANGE_OPERATIONS as u64 {
            return Err(Error::Request);
        }
        let bytes = most_bytes.min(limits::RANGE_BYTES);
        let reader = Reader::new(self);
        let operations = reader.copy(range.start.0..range.end.0, bytes)?;
        let end = Location(range.start.0 + operations.len() as u64);
        let proof = prove_range(&reader, leaves, range.start..end)?;
        Ok(ProvenRange {
            start: range.start,
            operations,
            proof,
        })
    }

    pub(crate) fn prove_several(
        &self,
        leaves: Leaves,
        locations: &[Location],
    ) -> Result<ProvenSeveral, Error> {
        self.check_size(leaves)?;
        if let Some(first) = locations.first() {
            self.check_kept(*first)?;
        }
        let reader = Reader::new(self);
        let proof = prove_multi(&reader, leaves, locations)?;
        let mut operations = Operations::new();
        for location in locations {
            reader.with_operation(*location, |bytes| {
                operations.push_bytes(bytes);
                Ok(())
            })?;
            if operations.as_bytes().len() > limits::RANGE_BYTES && operations.len() > 1 {
                return Err(Error::Request);
            }
        }
        Ok(ProvenSeveral {
            locations: locations.to_vec(),
            operations,
            proof,
        })
    }

    pub(crate) fn prove_consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Error> {
        self.check_size(old)?;
        self.check_size(new)?;
        Ok(prove_consistency(&Reader::new(self), old, new)?)
    }
}

/// Reads for one purpose. What was looked at last is at hand: a proof needs few places, and each several times.
struct Reader<'a> {
    log: &'a Log,
    /// The latest last.
    blocks: RefCell<Vec<Arc<Block>>>,
    page: RefCell<Option<SidePage>>,
}

/// A page of a side file: the segment, the number, and what is on it.
type SidePage = (u64, u64, Arc<Vec<u8>>);

impl<'a> Reader<'a> {
    fn new(log: &'a Log) -> Self {
        Self {
            log,
            blocks: RefCell::default(),
            page: RefCell::default(),
        }
    }

    fn with_operation<R>(
        &self,
        location: Location,
        look: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.log.check_kept(location)?;
        self.with_source(location.0, |source, first| {
            let index = usize::try_from(location.0 - first).unwrap_or(usize::MAX);
            look(source.get(index).ok_or_else(|| misplaced(location))?)
        })
    }

    /// Looks at the operations that one is among, in the tail or in a block, and the location of the first of them.
    fn with_source<R>(
        &self,
        location: u64,
        look: impl FnOnce(&Operations, u64) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if location >= self.log.tail_first() {
            return look(&self.log.tail, self.log.tail_first());
        }
        let block = self.block(Location(location))?;
        if location < block.first {
            return Err(misplaced(Location(location)));
        }
        look(&block.operations, block.first)
    }

    fn block(&self, location: Location) -> Result<Arc<Block>, Error> {
        let mut recent = self.blocks.borrow_mut();
        if let Some(block) = recent.iter().rev().find(|block| block.has(location)) {
            return Ok(block.clone());
        }
        let block = self.log.block(location)?;
        if recent.len() == BLOCKS_AT_HAND {
            recent.remove(0);
        }
        recent.push(block.clone());
        Ok(block)
    }

    /// The operations of a range, which is kept, until they are as many bytes; at least one.
    fn copy(&self, range: Range<u64>, most_bytes: usize) -> Result<Operations, Error> {
        let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut copied = Operations::with_capacity(count.min(limits::RANGE_OPERATIONS));
        self.copy_to(&mut copied, range, most_bytes)?;
        Ok(copied)
    }

    /// Appends them to others, which count.
    fn copy_to(
        &self,
        copied: &mut Operations,
        range: Range<u64>,
        most_bytes: usize,
    ) -> Result<(), Error> {
        let mut next = range.start;
        while next < range.end {
            let more = self.with_source(next, |source, first| {
                copy_from(copied, source, first, next..range.end, most_bytes)
            })?;
            match more {
                Some(behind) => next = behind,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether a node is not stored and must be made of its operations, all of which are kept.
    fn is_hashed_anew(&self, node: Node) -> bool {
        let sealed = self.log.first().0..=self.log.tail_first();
        node.height < STORED_HEIGHT
            && sealed.contains(&node.start().0)
            && sealed.contains(&node.end().0)
    }

    /// A node that is not hashed anew. Recursive, at most [`STORED_HEIGHT`] deep.
    fn kept(&self, node: Node) -> Result<Option<Digest>, Error> {
        let log = self.log;
        if !node.is_in(log.leaves()) {
            return Ok(None);
        }
        if node.end().0 > log.tail_first() {
            return Ok(log.mmr.get(node));
        }
        if node.end().0 <= log.first().0 {
            let pinned = log.boundary.peak_nodes().zip(log.boundary.peaks());
            let found = pinned.into_iter().find(|(peak, _)| *peak == node);
            return Ok(found.map(|(_, digest)| *digest));
        }
        if node.height >= STORED_HEIGHT {
            return self.stored(node);
        }
        // Some of its operations are pruned.
        let Some((left, right)) = node.children() else {
            return Ok(None);
        };
        let children = self.node(left)?.zip(self.node(right)?);
        Ok(children.map(|(left, right)| node_hash(&left, &right)))
    }

    /// A stored node of a sealed segment.
    fn stored(&self, node: Node) -> Result<Option<Digest>, Error> {
        let last = node.end().0.saturating_sub(1);
        let Some(segment) = self.log.segment(last) else {
            return Ok(None);
        };
        let at = group_position(node).saturating_sub(groups(segment.first));
        let page = self.page(segment.first, at / PER_PAGE)?;
        let on_page = usize::try_from(at % PER_PAGE).unwrap_or(usize::MAX);
        Ok(page.as_chunks().0.get(on_page).copied().map(Digest::new))
    }

    fn page(&self, segment: u64, number: u64) -> Result<Arc<Vec<u8>>, Error> {
        let mut last = self.page.borrow_mut();
        match &*last {
            Some((of, found, page)) if (*of, *found) == (segment, number) => Ok(page.clone()),
            _ => {
                let page = self.log.files.page(Name::Side(segment), number)?;
                *last = Some((segment, number, page.clone()));
                Ok(page)
            }
        }
    }
}

impl Nodes for Reader<'_> {
    type Error = Error;

    fn node(&self, node: Node) -> Result<Option<Digest>, Error> {
        Ok(self.nodes(&[node])?.pop().flatten())
    }

    fn nodes(&self, nodes: &[Node]) -> Result<Vec<Option<Digest>>, Error> {
        let mut found = Vec::with_capacity(nodes.len());
        let mut low = Low::default();
        for node in nodes {
            if self.is_hashed_anew(*node) {
                low.add(self, *node, found.len())?;
                found.push(None);
                if low.operations.as_bytes().len() >= limits::BLOCK_BYTES {
                    low.hash(&mut found);
                }
            } else {
                found.push(self.kept(*node)?);
            }
        }
        low.hash(&mut found);
        Ok(found)
    }
}

/// Nodes that are hashed anew, side by side: their operations, their heights, and where their hashes belong.
#[derive(Default)]
struct Low {
    operations: Operations,
    heights: Vec<u32>,
    places: Vec<usize>,
}

impl Low {
    fn add(&mut self, reader: &Reader<'_>, node: Node, place: usize) -> Result<(), Error> {
        let range = node.start().0..node.end().0;
        reader.copy_to(&mut self.operations, range, usize::MAX)?;
        self.heights.push(node.height);
        self.places.push(place);
        Ok(())
    }

    fn hash(&mut self, found: &mut [Option<Digest>]) {
        if self.places.is_empty() {
            return;
        }
        let leaves: Vec<&[u8]> = self.operations.iter().collect();
        let digests = tree_hashes(&leaves, &self.heights).unwrap_or_default();
        for (place, digest) in self.places.drain(..).zip(digests) {
            if let Some(found) = found.get_mut(place) {
                *found = Some(digest);
            }
        }
        self.operations.truncate(0);
        self.heights.clear();
    }
}

/// Copies what a range has of operations whose first is at a location, as long as they fit. Where to go on, `None` if they do not
/// fit.
fn copy_from(
    copied: &mut Operations,
    source: &Operations,
    first: u64,
    range: Range<u64>,
    most_bytes: usize,
) -> Result<Option<u64>, Error> {
    let from = usize::try_from(range.start - first).unwrap_or(usize::MAX);
    let wanted = usize::try_from(range.end - first)
        .unwrap_or(usize::MAX)
        .min(source.len());
    if from >= wanted {
        return Err(misplaced(Location(range.start)));
    }
    let room = most_bytes.saturating_sub(copied.as_bytes().len());
    let mut to = wanted;
    if source.start_of(wanted) - source.start_of(from) > room {
        let fits = |end: &usize| source.start_of(*end) - source.start_of(from) <= room;
        to = (from + 1..=wanted).take_while(fits).last().unwrap_or(from);
        if to == from && copied.is_empty() {
            to = from + 1;
        }
    }
    copied.extend_from(source, from, to);
    Ok((to == wanted).then_some(first + to as u64))
}

fn misplaced(location: Location) -> Error {
    Error::corrupt(
        "the log",
        format_args!("operation {location} is not where it belongs"),
    )
}

/// Nodes that are stored of a log up to a location: those over whole groups of eight operations form a range
/// of their own.
fn groups(location: u64) -> u64 {
    Leaves(location >> STORED_HEIGHT).positions().0
}

fn group_position(node: Node) -> u64 {
    let height = node.height.saturating_sub(STORED_HEIGHT);
    let node = Node { height, ..node };
    node.position().0
}

pub(crate) fn stored_nodes(segment: &Segment) -> u64 {
    groups(segment.end) - groups(segment.first)
}

/// The side file of a segment whose nodes a range still has: pages of nodes, and the table of blocks.
pub(crate) fn side(segment: &Segment, table: &Table, mmr: &Mmr) -> Result<Vec<u8>, Error> {
    let name = Name::Side(segment.first);
    let mut digests = Vec::with_capacity(usize::try_from(stored_nodes(segment)).unwrap_or(0));
    for group in segment.first >> STORED_HEIGHT..segment.end >> STORED_HEIGHT {
        // A group, and every parent it completes.
        for above in 0..=(group + 1).trailing_zeros() {
            let node = Node {
                height: STORED_HEIGHT + above,
                index: group >> above,
            };
            let digest = mmr.get(node);
            digests.push(digest.ok_or_else(|| Error::corrupt("the tail", "a node is missing"))?);
        }
    }
    let mut out = Vec::new();
    let mut body = Vec::with_capacity(PAGE);
    for (number, page) in digests.chunks(PER_PAGE as usize).enumerate() {
        body.clear();
        page.iter()
            .for_each(|digest| body.extend_from_slice(digest.as_bytes()));
        files::push_page(&mut out, name, number as u64, &body);
    }
    table.encode(&mut out, name);
    Ok(out)
}
