//! The parts that encoder and decoder share: the prefix, varints and columns.

use crate::codec::{Reader, Writer};
use crate::{EntryError, Ids, limits};

use super::{PREFIX_BYTES, PackError, PackInfo};

const MAGIC: [u8; 4] = *b"EDP1";

/// The fixed first bytes of a pack.
pub(super) struct Prefix {
    pub(super) info: PackInfo,
    pub(super) meta: Part,
    pub(super) payloads: Part,
}

/// The sizes of a compressed part.
pub(super) struct Part {
    pub(super) raw: u32,
    pub(super) compressed: u32,
}

impl Part {
    fn read(reader: &mut Reader<'_>) -> Result<Self, EntryError> {
        Ok(Self {
            raw: reader.get("size")?,
            compressed: reader.get("size")?,
        })
    }
}

impl Prefix {
    pub(super) fn read(pack: &[u8]) -> Result<Self, PackError> {
        let prefix = pack
            .get(..PREFIX_BYTES)
            .ok_or(PackError::Truncated("prefix"))?;
        let truncated = |_| PackError::Truncated("prefix");
        let mut reader = Reader::new(prefix);
        if reader.get::<[u8; 4]>("magic").map_err(truncated)? != MAGIC {
            return Err(PackError::Format);
        }
        let mut read = || {
            let entries = reader.get("entries")?;
            let min_height = reader.height()?;
            let max_height = reader.height()?;
            let database = reader.id("database")?;
            let meta = Part::read(&mut reader)?;
            let payloads = Part::read(&mut reader)?;
            let info = PackInfo {
                database,
                entries,
                min_height,
                max_height,
                raw_bytes: u64::from(meta.raw) + u64::from(payloads.raw),
                meta_bytes: meta.compressed,
            };
            Ok(Self {
                info,
                meta,
                payloads,
            })
        };
        let prefix: Self = read().map_err(|_: EntryError| PackError::Truncated("prefix"))?;
        if prefix.info.entries == 0 {
            return Err(PackError::Empty);
        }
        Ok(prefix)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.raw(&MAGIC);
        writer.put(self.info.entries);
        writer.put(self.info.min_height.0);
        writer.put(self.info.max_height.0);
        writer.raw(self.info.database.as_bytes());
        for part in [&self.meta, &self.payloads] {
            writer.put(part.raw);
            writer.put(part.compressed);
        }
    }
}

/// Reads varints and raw bytes from one column.
pub(super) struct Column<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> Column<'a> {
    pub(super) fn new(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { name, rest: bytes }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, PackError> {
        let (byte, rest) = self
            .rest
            .split_first()
            .ok_or(PackError::Truncated(self.name))?;
        self.rest = rest;
        Ok(*byte)
    }

    /// An LEB128 number in its shortest form.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, PackError> {
        let first = self.byte()?;
        match first {
            0..0x80 => Ok(u64::from(first)),
            _ => self.varint_tail(u64::from(first & 0x7f)),
        }
    }

    fn varint_tail(&mut self, mut value: u64) -> Result<u64, PackError> {
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if byte == 0 || (bits << shift) >> shift != bits {
                return Err(PackError::Invalid(self.name));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(PackError::Invalid(self.name))
    }

    /// A number below `bound`.
    #[inline]
    pub(super) fn index(&mut self, bound: usize) -> Result<usize, PackError> {
        let value = self.varint()?;
        usize::try_from(value)
            .ok()
            .filter(|index| *index < bound)
            .ok_or(PackError::Invalid(self.name))
    }

    /// A count of at most `limit` things that take at least `item_bytes` each in this column.
    pub(super) fn count(&mut self, limit: usize, item_bytes: usize) -> Result<usize, PackError> {
        let found = self.varint()?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count > limit {
            return Err(PackError::Limit {
                what: self.name,
                limit: limit as u64,
                found,
            });
        }
        if count.saturating_mul(item_bytes) > self.rest.len() {
            return Err(PackError::Truncated(self.name));
        }
        Ok(count)
    }

    #[inline]
    pub(super) fn signed(&mut self) -> Result<i64, PackError> {
        let value = self.varint()?;
        Ok(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], PackError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(PackError::Truncated(self.name))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn take_32(&mut self) -> Result<[u8; 32], PackError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(PackError::Truncated(self.name))?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next part of this column as a column of its own, with its length before it.
    pub(super) fn column(&mut self, name: &'static str) -> Result<Column<'a>, PackError> {
        let len = self.count(usize::MAX, 1)?;
        Ok(Column::new(name, self.take(len)?))
    }

    pub(super) fn end(&self) -> Result<(), PackError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(PackError::Trailing(self.name)),
        }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn put_column(out: &mut Vec<u8>, column: &[u8]) {
    put_varint(out, column.len() as u64);
    out.extend_from_slice(column);
}

/// Adds what one more parent passes on to what others do; they nearly always agree.
///
/// A union beyond what an entry may pin is no entry's list, so it is not made any longer than that: the
/// cost stays linear in what the parents pass on.
pub(super) fn merge(others: Ids, passed_on: &Ids) -> Ids {
    match others == *passed_on || others.len() > limits::SETTINGS {
        true => others,
        false => others.iter().chain(passed_on).copied().collect(),
    }
}
