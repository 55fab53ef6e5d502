//! Blocks of the log: runs of operations under one checksum, each fit to be read alone.

use eidetica_mmr::Location;

use crate::files::{Fields, Name, SUM, checksum};
use crate::{Error, Operations, limits};

/// Bytes before the payload.
pub(crate) const HEADER: usize = 48;
const MAGIC: [u8; 4] = *b"EAb1";
/// On the last block of what was written together.
const LAST: u32 = 1;

/// What the header of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The location of its first operation.
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Bytes of the operations.
    pub(crate) length: u32,
    /// How many times the log had been made durable before.
    pub(crate) epoch: u64,
    /// Whether it ends a commit.
    pub(crate) last: bool,
}

/// A block that was read and found whole.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) first: u64,
    pub(crate) operations: Operations,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The location of its first operation, counted from the segment's.
    pub(crate) first: u32,
    pub(crate) offset: u64,
}

/// All blocks of a segment, in order.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Header {
    /// Appends header and payload.
    pub(crate) fn write(&self, out: &mut Vec<u8>, log: u64, offset: u64, payload: &[u8]) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&u32::from(self.last).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        let sum = sum(log, offset, out.get(start..).unwrap_or_default(), payload);
        out.extend_from_slice(&sum);
        out.extend_from_slice(payload);
    }

    /// Reads the block that bytes begin with, `None` if it is not whole.
    pub(crate) fn read(bytes: &[u8], log: u64, offset: u64) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (fixed, stored) = header.split_last_chunk::<SUM>()?;
        let mut fields = Fields(fixed);
        let magic = fields.take::<4>()?;
        let flags = fields.u32()?;
        let epoch = fields.u64()?;
        let first = fields.u64()?;
        let count = fields.u32()?;
        let length = fields.u32()?;
        let payload = rest.get(..usize::try_from(length).ok()?)?;
        if magic != MAGIC || flags > LAST || sum(log, offset, fixed, payload) != *stored {
            return None;
        }
        let last = flags == LAST;
        Some((
            Self {
                first,
                count,
                length,
                epoch,
                last,
            },
            payload,
        ))
    }

    /// Bytes of the whole block.
    pub(crate) fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }
}

fn sum(log: u64, offset: u64, fixed: &[u8], payload: &[u8]) -> [u8; SUM] {
    // Two checksums, so that header and payload need not be side by side.
    let header = checksum(Name::Log(log), offset, fixed);
    let mut sum = checksum(Name::Log(log), offset, payload);
    sum.iter_mut()
        .zip(header)
        .for_each(|(sum, byte)| *sum ^= byte.rotate_left(3));
    sum
}

/// Whether a whole block of a later epoch stands anywhere behind an offset. Costs a search for the magic, and
/// the hashes of at most [`limits::SEARCH_BYTES`], since values may be made to look like blocks.
pub(crate) fn later_epoch(log: u64, bytes: &[u8], from: usize, epoch: u64) -> bool {
    let behind = bytes.get(from..).unwrap_or_default();
    let mut budget = limits::SEARCH_BYTES;
    for (at, window) in behind.windows(MAGIC.len()).enumerate() {
        let offset = from + at;
        let rest = bytes.get(offset..).unwrap_or_default();
        if window != MAGIC || budget < rest.len() as u64 {
            continue;
        }
        budget -= claimed(rest).min(rest.len() as u64);
        let found = Header::read(rest, log, offset as u64);
        if found.is_some_and(|(header, _)| header.epoch > epoch) {
            return true;
        }
    }
    false
}

/// The size that a header claims, damaged or not.
fn claimed(bytes: &[u8]) -> u64 {
    let length = bytes.get(28..).and_then(<[u8]>::first_chunk);
    HEADER as u64 + length.map_or(0, |length| u64::from(u32::from_le_bytes(*length)))
}

/// Encodes operations from an index on as blocks, of which the last is flagged.
pub(crate) fn encode(
    operations: &Operations,
    from: usize,
    first: u64,
    (log, offset, epoch): (u64, u64, u64),
) -> (Vec<u8>, Vec<(u64, u64)>) {
    let bytes = operations.as_bytes().len() - operations.start_of(from);
    let mut out = Vec::with_capacity(bytes + bytes / 64 + 2 * HEADER);
    let mut placed = Vec::new();
    let mut start = from;
    while start < operations.len() {
        let begin = operations.start_of(start);
        let mut end = start + 1;
        while end < operations.len() && operations.start_of(end + 1) - begin <= limits::BLOCK_BYTES
        {
            end += 1;
        }
        let payload = operations.as_bytes().get(begin..operations.start_of(end));
        let payload = payload.unwrap_or_default();
        let header = Header {
            first: first + (start - from) as u64,
            count: u32::try_from(end - start).unwrap_or(u32::MAX),
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            epoch,
            last: end == operations.len(),
        };
        let at = offset + out.len() as u64;
        placed.push((header.first, at));
        header.write(&mut out, log, at, payload);
        start = end;
    }
    (out, placed)
}

impl Block {
    pub(crate) fn load(log: u64, offset: u64, bytes: &[u8]) -> Result<Self, Error> {
        let damaged =
            |detail| Error::corrupt(Name::Log(log), format_args!("block at {offset} {detail}"));
        let (header, payload) =
            Header::read(bytes, log, offset).ok_or_else(|| damaged("has another checksum"))?;
        Self::of(&header, payload).map_err(|_| damaged("does not hold its operations"))
    }

    pub(crate) fn of(header: &Header, payload: &[u8]) -> Result<Self, Error> {
        let count = header.count as usize;
        let operations = Operations::parse(payload.to_vec(), Location(header.first), count)?;
        if operations.len() != count || count == 0 {
            return Err(Error::Request);
        }
        Ok(Self {
            first: header.first,
            operations,
        })
    }

    /// Whether an operation is among them.
    pub(crate) fn has(&self, location: Location) -> bool {
        let index = location.0.checked_sub(self.first);
        index.is_some_and(|index| index < self.operations.len() as u64)
    }

    pub(crate) fn weight(&self) -> usize {
        self.operations.as_bytes().len() + self.operations.len() * 8
    }
}

const ENTRY: usize = 12;

impl Table {
    pub(crate) fn weight(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }

    /// Bytes that [`Table::encode`] makes of so many entries.
    pub(crate) fn size(entries: u64) -> u64 {
        entries
            .saturating_mul(ENTRY as u64)
            .saturating_add(SUM as u64)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>, name: Name) {
        let start = out.len();
        for entry in &self.entries {
            out.extend_from_slice(&entry.first.to_le_bytes());
            out.extend_from_slice(&entry.offset.to_le_bytes());
        }
        let sum = checksum(name, u64::MAX, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&sum);
    }

    pub(crate) fn decode(bytes: &[u8], name: Name) -> Result<Self, Error> {
        let damaged = || Error::corrupt(name, "its table of blocks has another checksum");
        let (body, sum) = bytes.split_last_chunk::<SUM>().ok_or_else(damaged)?;
        if checksum(name, u64::MAX, body) != *sum {
            return Err(damaged());
        }
        let mut entries = Vec::with_capacity(body.len() / ENTRY);
        let mut fields = Fields(body);
        while let (Some(first), Some(offset)) = (fields.u32(), fields.u64()) {
            entries.push(Entry { first, offset });
        }
        Ok(Self { entries })
    }

    /// The place of the block that holds an operation, and where the next one begins.
    pub(crate) fn find(&self, relative: u32, log_end: u64) -> Option<(u64, u64)> {
        let next = self
            .entries
            .partition_point(|entry| entry.first <= relative);
        let offset = self.entries.get(next.checked_sub(1)?)?.offset;
        let end = self.entries.get(next).map_or(log_end, |entry| entry.offset);
        Some((offset, end))
    }
}
