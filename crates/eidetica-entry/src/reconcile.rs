//! Finds in which stamps two sets differ, by comparing hashes of ranges of them.
//!
//! A stamp is a key of 40 bytes, its height and its id, and all keys stand in a 16-ary tree: the root has all of
//! them, and each [`Node`] has sixteen children, by the next half byte. Nodes of the upper part are aligned blocks of
//! 16, 256, 4096.. heights; below a single height the ids divide, so a crowded height is no different. The
//! [`Summary`] of a node is how many stamps it holds and a BLAKE3 hash over the summaries of its children, or over
//! the stamps themselves where they are few. It is a function of the set alone. (Sums or exclusive ors of hashes would
//! be cheaper to keep, and can be forged by whoever may choose ids.)
//!
//! One side [`describe`]s spans of its set, the other [`contrast`]s that with its own and asks on where they differ.
//! New entries are at the end of a history, so a description goes down the last child at each level and ends
//! with the last stamps themselves: few and recent differences are found at once, and others in as many steps as the
//! tree is high. Nothing is kept between two steps on the side that describes.
//!
//! The same works for other sets: whatever is a number and a hash is a stamp here.

use std::collections::HashSet;

use crate::{Height, Id, Stamp};

/// Half bytes of a key.
const NIBBLES: u8 = 80;
/// Stamps of a node up to which it is hashed by them and not by its children.
pub const LEAF: usize = 16;
/// Stamps that end a description, at most: twice a leaf.
pub const ENDING: usize = 2 * LEAF;

/// How many stamps there are in some part of a set, and a hash over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The first 192 bits of the hash: two sets with one hash cost 2^96 steps to find. Zeros for none.
    pub hash: [u8; 24],
}

impl Summary {
    /// Of these stamps, at most [`LEAF`], ascending.
    fn of_leaf(stamps: &[Stamp]) -> Self {
        let mut hasher = hasher(0, stamps.len() as u64);
        for stamp in stamps {
            hasher.update(&key(stamp));
        }
        Self::finish(stamps.len() as u64, &hasher)
    }

    /// Of a node above more than [`LEAF`] stamps, from its children by number.
    fn of_children(children: impl Iterator<Item = (u8, Self)> + Clone) -> Self {
        let count = children.clone().map(|(_, child)| child.count).sum();
        let mut hasher = hasher(1, count);
        for (number, child) in children.filter(|(_, child)| child.count > 0) {
            hasher.update(&[number]);
            hasher.update(&child.hash);
        }
        Self::finish(count, &hasher)
    }

    /// Of a span, from those of the greatest nodes that it holds, ascending.
    fn of_span(nodes: &[Self]) -> Self {
        let count = nodes.iter().map(|node| node.count).sum();
        let mut hasher = hasher(2, count);
        for node in nodes.iter().filter(|node| node.count > 0) {
            hasher.update(&node.hash);
        }
        Self::finish(count, &hasher)
    }

    fn finish(count: u64, hasher: &blake3::Hasher) -> Self {
        let mut hash = [0; 24];
        if count > 0 {
            hasher.finalize_xof().fill(&mut hash);
        }
        Self { count, hash }
    }

    /// Of a node of a set of which these are the stamps in it, ascending. O(stamps).
    pub fn of_node(node: &Node, stamps: &[Stamp]) -> Self {
        if stamps.len() <= LEAF {
            return Self::of_leaf(stamps);
        }
        // No deeper than a key is long.
        let mut rest = stamps;
        let children: Vec<(u8, Self)> = (0..16)
            .filter_map(|number| {
                let child = node.child(number)?;
                let end = child.span().to;
                let count = end.map_or(rest.len(), |end| rest.partition_point(|s| *s < end));
                let (here, after) = rest.split_at_checked(count)?;
                rest = after;
                Some((number, Self::of_node(&child, here)))
            })
            .collect();
        Self::of_children(children.into_iter())
    }
}

fn hasher(kind: u8, count: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key("eidetica set summary v1");
    hasher.update(&[kind]);
    hasher.update(&count.to_le_bytes());
    hasher
}

type Key = [u8; 40];

fn key(stamp: &Stamp) -> Key {
    let mut key = [0; 40];
    let (height, id) = key.split_at_mut(8);
    height.copy_from_slice(&stamp.height.0.to_be_bytes());
    id.copy_from_slice(stamp.id.as_bytes());
    key
}

fn stamp(key: &Key) -> Stamp {
    let (mut height, mut id) = ([0; 8], [0; 32]);
    let (first, rest) = key.split_at(8);
    height.copy_from_slice(first);
    id.copy_from_slice(rest);
    Stamp::new(Height(u64::from_be_bytes(height)), Id::new(id))
}

/// The least stamp there can be.
pub const LEAST: Stamp = Stamp::new(Height::ROOT, Id::new([0; 32]));

/// All stamps from one on, up to one that is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: Stamp,
    /// Behind the last; none for the end.
    pub to: Option<Stamp>,
}

impl Span {
    /// All stamps.
    pub const ALL: Self = Self {
        from: LEAST,
        to: None,
    };

    /// Whether there is room for a stamp in it.
    pub fn is_empty(&self) -> bool {
        self.to.is_some_and(|to| to <= self.from)
    }

    /// Whether a stamp is in it.
    pub fn contains(&self, stamp: &Stamp) -> bool {
        self.from <= *stamp && self.to.is_none_or(|to| *stamp < to)
    }

    fn covers(&self, other: &Self) -> bool {
        let ends = match (self.to, other.to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other <= own,
        };
        self.from <= other.from && ends
    }

    fn meets(&self, other: &Self) -> bool {
        self.to.is_none_or(|to| other.from < to) && other.to.is_none_or(|to| self.from < to)
    }

    /// The greatest nodes within it, ascending: at most fifteen per level at either end.
    fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut open = vec![Node::ROOT];
        while let Some(node) = open.pop() {
            let span = node.span();
            if self.covers(&span) {
                nodes.push(node);
            } else if self.meets(&span) {
                open.extend(node.children().rev());
            }
        }
        nodes
    }
}

/// All stamps whose keys begin with the same half bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The first key: the prefix and zeros.
    first: Key,
    nibbles: u8,
}

impl Node {
    /// Above everything.
    pub const ROOT: Self = Self {
        first: [0; 40],
        nibbles: 0,
    };

    /// The aligned block of `16^level` heights that contains one, for a level of at most 16.
    pub fn of_heights(height: Height, level: u8) -> Self {
        let low = 1_u64.checked_shl(4 * u32::from(level)).unwrap_or(0);
        let first = Stamp::new(Height(height.0 & !low.wrapping_sub(1)), LEAST.id);
        Self {
            first: key(&first),
            nibbles: 16_u8.saturating_sub(level),
        }
    }

    /// The level of an aligned block of heights; none for a part of one height.
    pub fn level(&self) -> Option<u8> {
        16_u8.checked_sub(self.nibbles)
    }

    /// The stamps that it can hold.
    pub fn span(&self) -> Span {
        Span {
            from: stamp(&self.first),
            to: self.end().map(|end| stamp(&end)),
        }
    }

    /// One of its sixteen children; none of a single stamp.
    pub fn child(&self, number: u8) -> Option<Self> {
        let mut child = *self;
        child.nibbles = self.nibbles.checked_add(1).filter(|n| *n <= NIBBLES)?;
        let byte = child.first.get_mut(usize::from(self.nibbles / 2))?;
        *byte |= (number & 15) << shift(self.nibbles);
        Some(child)
    }

    /// Its children, ascending.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = Self> + '_ {
        (0..16).filter_map(|number| self.child(number))
    }

    /// The key behind the last one.
    fn end(&self) -> Option<Key> {
        let mut end = self.first;
        for nibble in (0..self.nibbles).rev() {
            let byte = end.get_mut(usize::from(nibble / 2))?;
            let one = 1 << shift(nibble);
            if (*byte >> shift(nibble)) & 15 < 15 {
                *byte += one;
                return Some(end);
            }
            *byte &= !(15 << shift(nibble));
        }
        None
    }
}

/// How far to the left a half byte stands in its byte.
const fn shift(nibble: u8) -> u8 {
    4 * (1 - nibble % 2)
}

/// A set of stamps that can be summarized.
pub trait Source {
    /// What a lookup can fail with.
    type Error;

    /// The summary of one node.
    ///
    /// # Errors
    /// Whatever the source fails with.
    fn summary(&mut self, node: &Node) -> Result<Summary, Self::Error>;

    /// The first `limit` stamps of a span, ascending.
    ///
    /// # Errors
    /// Whatever the source fails with.
    fn stamps(&mut self, span: &Span, limit: usize) -> Result<Vec<Stamp>, Self::Error>;
}

/// Stamps in ascending order.
impl Source for &[Stamp] {
    type Error = core::convert::Infallible;

    fn summary(&mut self, node: &Node) -> Result<Summary, Self::Error> {
        Ok(Summary::of_node(node, within(self, &node.span())))
    }

    fn stamps(&mut self, span: &Span, limit: usize) -> Result<Vec<Stamp>, Self::Error> {
        Ok(within(self, span).iter().take(limit).copied().collect())
    }
}

/// Those of some ascending stamps that are in a span.
pub fn within<'s>(stamps: &'s [Stamp], span: &Span) -> &'s [Stamp] {
    let start = stamps.partition_point(|stamp| *stamp < span.from);
    let end = span
        .to
        .map_or(stamps.len(), |to| stamps.partition_point(|s| *s < to));
    stamps.get(start..end).unwrap_or_default()
}

/// The summary of a node from those of its children: what a source does that keeps them. The stamps of the node are
/// asked for where they are few.
///
/// # Errors
/// What the source fails with.
pub fn from_children<S: Source + ?Sized>(source: &mut S, node: &Node) -> Result<Summary, S::Error> {
    let mut children = Vec::new();
    for (number, child) in (0..).zip(node.children()) {
        children.push((number, source.summary(&child)?));
    }
    let count: u64 = children.iter().map(|(_, child)| child.count).sum();
    if count <= LEAF as u64 {
        return Ok(Summary::of_leaf(&source.stamps(&node.span(), LEAF)?));
    }
    Ok(Summary::of_children(children.into_iter()))
}

/// The summary of a span.
///
/// # Errors
/// What the source fails with.
pub fn summarize<S: Source + ?Sized>(source: &mut S, span: &Span) -> Result<Summary, S::Error> {
    let nodes = span.nodes();
    let summaries = nodes.iter().map(|node| source.summary(node));
    Ok(Summary::of_span(&summaries.collect::<Result<Vec<_>, _>>()?))
}

/// How much to say of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// One summary per level, and the last stamps.
    Levels,
    /// A summary per node beside the way down to the last stamps. Where there are few, all stamps.
    Nodes,
    /// All stamps.
    Stamps,
}

/// What one side says of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The span.
    pub span: Span,
    /// What is in it.
    pub content: Content,
}

/// What is in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// So much of it.
    Summary(Summary),
    /// The ids of all that is, in the order of their stamps.
    Ids(Vec<Id>),
}

/// What a description may still take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Parts.
    pub parts: usize,
    /// Ids in them.
    pub ids: usize,
}

/// Says what is in a span: parts that follow each other and make up the span. Where there is no room for the
/// detail that was asked for, there are summaries in its place; each span gets at least one.
///
/// # Errors
/// What the source fails with.
pub fn describe<S: Source + ?Sized>(
    source: &mut S,
    span: Span,
    detail: Detail,
    room: &mut Room,
    out: &mut Vec<Part>,
) -> Result<(), S::Error> {
    let sketch = Sketch {
        source,
        rest: span,
        room,
        out,
    };
    match detail {
        Detail::Stamps => sketch.list(),
        Detail::Levels => sketch.descend(false),
        Detail::Nodes => sketch.descend(true),
    }
}

/// A description in the making.
struct Sketch<'a, S: ?Sized> {
    source: &'a mut S,
    /// What is still to be described.
    rest: Span,
    room: &'a mut Room,
    out: &'a mut Vec<Part>,
}

impl<S: Source + ?Sized> Sketch<'_, S> {
    /// Down the last nodes that hold anything.
    fn descend(mut self, each: bool) -> Result<(), S::Error> {
        let start = self.rest.from;
        let mut nodes = self.filled(self.rest.nodes().into_iter())?;
        loop {
            let ending = ENDING as u64;
            let count: u64 = nodes.iter().map(|(_, summary)| summary.count).sum();
            let Some((last, summary)) = nodes.pop().filter(|_| count > ending) else {
                return match each && self.rest.from != start {
                    true => self.push_rest(),
                    false => self.list(),
                };
            };
            let before = nodes.last().map(|(_, before)| before.count);
            if !each
                && before.is_some_and(|before| before + summary.count <= ending)
                && let Some((listed, _)) = nodes.pop()
            {
                self.push_nodes(&nodes, listed.span().from, each)?;
                return self.list();
            }
            self.push_nodes(&nodes, last.span().from, each)?;
            let children: Vec<Node> = last.children().collect();
            nodes = self.filled(children.into_iter())?;
        }
    }

    fn filled(
        &mut self,
        nodes: impl Iterator<Item = Node>,
    ) -> Result<Vec<(Node, Summary)>, S::Error> {
        let mut filled = Vec::new();
        for node in nodes {
            let summary = self.source.summary(&node)?;
            if summary.count > 0 {
                filled.push((node, summary));
            }
        }
        Ok(filled)
    }

    /// Summaries of what is before `end`, where these nodes are: of all together, or of each.
    fn push_nodes(
        &mut self,
        nodes: &[(Node, Summary)],
        end: Stamp,
        each: bool,
    ) -> Result<(), S::Error> {
        if nodes.is_empty() {
            return Ok(());
        }
        let starts = nodes.iter().skip(1).map(|(node, _)| node.span().from);
        for next in starts.filter(|_| each) {
            self.push_summary(next)?;
        }
        self.push_summary(end)
    }

    /// A summary of the rest up to `end`, if there is room for it and for one more.
    fn push_summary(&mut self, end: Stamp) -> Result<(), S::Error> {
        if self.room.parts < 2 || end <= self.rest.from {
            return Ok(());
        }
        let span = Span {
            from: self.rest.from,
            to: Some(end),
        };
        let summary = summarize(self.source, &span)?;
        self.push(span, Content::Summary(summary));
        Ok(())
    }

    fn push(&mut self, span: Span, content: Content) {
        self.room.parts = self.room.parts.saturating_sub(1);
        self.out.push(Part { span, content });
        if let Some(to) = span.to {
            self.rest.from = to;
        }
    }

    /// The stamps of the rest, as many as there is room for, and a summary of the others.
    fn list(mut self) -> Result<(), S::Error> {
        let rest = self.rest;
        let mut stamps = self.source.stamps(&rest, self.room.ids.saturating_add(1))?;
        let next = stamps.get(self.room.ids).copied();
        // One part for them, and one for the others.
        let next = match self.room.parts {
            0 | 1 => stamps.first().copied().or(next),
            _ => next,
        };
        if let Some(next) = next {
            stamps.retain(|stamp| *stamp < next);
        }
        let listed = Span {
            from: rest.from,
            to: next.or(rest.to),
        };
        if next.is_none() || !stamps.is_empty() {
            self.room.ids = self.room.ids.saturating_sub(stamps.len());
            let ids = stamps.iter().map(|stamp| stamp.id).collect();
            self.push(listed, Content::Ids(ids));
        }
        match next {
            Some(_) => self.push_rest(),
            None => Ok(()),
        }
    }

    fn push_rest(&mut self) -> Result<(), S::Error> {
        let summary = summarize(self.source, &self.rest)?;
        self.push(self.rest, Content::Summary(summary));
        Ok(())
    }
}

/// What is different in a span whose stamps the other side has listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The span.
    pub span: Span,
    /// Listed, and not in our set there.
    pub theirs: Vec<Id>,
    /// In our set, and not listed.
    pub ours: Vec<Id>,
    /// Whether there may be more of ours that are higher than these.
    pub more: bool,
}

/// How a description differs from our own set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contrast {
    /// Spans that are not the same, with how many stamps the other side has there.
    pub open: Vec<(Span, u64)>,
    /// Stamps that are not the same.
    pub found: Vec<Found>,
}

/// Compares a description with our own set. About `limit` of ours are named; spans after those are left open.
///
/// # Errors
/// What the source fails with.
pub fn contrast<S: Source + ?Sized>(
    source: &mut S,
    parts: &[Part],
    limit: usize,
) -> Result<Contrast, S::Error> {
    let mut contrast = Contrast::default();
    let mut room = limit;
    for Part { span, content } in parts {
        let theirs = match content {
            // All of ours are missing there.
            Content::Summary(theirs) if theirs.count == 0 => &[],
            Content::Summary(theirs) => {
                if summarize(source, span)? != *theirs {
                    contrast.open.push((*span, theirs.count));
                }
                continue;
            }
            Content::Ids(theirs) => theirs.as_slice(),
        };
        if room == 0 {
            contrast.open.push((*span, theirs.len() as u64));
            continue;
        }
        let found = compare_lists(source, span, theirs, room)?;
        room = room.saturating_sub(found.ours.len());
        if !found.is_same() {
            contrast.found.push(found);
        }
    }
    Ok(contrast)
}

fn compare_lists<S: Source + ?Sized>(
    source: &mut S,
    span: &Span,
    theirs: &[Id],
    limit: usize,
) -> Result<Found, S::Error> {
    // Those that both have do not count.
    let most = limit.saturating_add(theirs.len());
    let ours = source.stamps(span, most.saturating_add(1))?;
    let more = ours.len() > most;
    let ours = ours.iter().take(most).map(|stamp| stamp.id);
    let listed: HashSet<Id> = theirs.iter().copied().collect();
    let held: HashSet<Id> = ours.clone().collect();
    let lacking = theirs.iter().filter(|id| !held.contains(id));
    Ok(Found {
        span: *span,
        theirs: lacking.copied().collect(),
        ours: ours.filter(|id| !listed.contains(id)).collect(),
        more,
    })
}

impl Found {
    fn is_same(&self) -> bool {
        self.theirs.is_empty() && self.ours.is_empty() && !self.more
    }
}
