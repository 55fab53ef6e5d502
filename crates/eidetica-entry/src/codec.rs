//! The one place that knows how values become bytes: bincode 2, fixed-width little-endian integers.
//!
//! Primitives go through bincode; lists are read here, so that every length is compared with its
//! limit and with what is left of the input before anything is allocated.

use bincode::config::{Configuration, Fixint, LittleEndian, NoLimit};
use bincode::enc::write::Writer as BincodeWriter;
use bincode::{Decode, Encode};

use crate::{EntryError, Height, Id, Ids};

const CONFIG: Configuration<LittleEndian, Fixint, NoLimit> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding();

/// Appends canonical bytes to a buffer.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl BincodeWriter for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Writer {
    /// A primitive or an array of bytes. Writing to memory cannot fail.
    #[inline]
    pub(crate) fn put<T: Encode>(&mut self, value: T) {
        let written = bincode::encode_into_writer(value, &mut *self, CONFIG);
        debug_assert!(written.is_ok(), "primitives encode into memory");
    }

    #[inline]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn len(&mut self, len: usize) {
        self.put(len as u64);
    }

    /// A byte string with its length.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    #[inline]
    pub(crate) fn ids(&mut self, ids: &[Id]) {
        self.len(ids.len());
        ids.iter().for_each(|id| self.raw(id.as_bytes()));
    }
}

/// Reads canonical bytes from a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// A primitive or an array of bytes.
    pub(crate) fn get<T: Decode<()>>(&mut self, what: &'static str) -> Result<T, EntryError> {
        let (value, used) = bincode::decode_from_slice::<T, _>(self.rest, CONFIG)
            .map_err(|_| EntryError::Truncated { what })?;
        self.rest = self.rest.get(used..).unwrap_or_default();
        Ok(value)
    }

    pub(crate) fn raw(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], EntryError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(EntryError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// A length, refused above `limit` and where fewer than `len * item_bytes` bytes are left.
    pub(crate) fn len(
        &mut self,
        what: &'static str,
        limit: usize,
        item_bytes: usize,
    ) -> Result<usize, EntryError> {
        let found: u64 = self.get(what)?;
        let len = usize::try_from(found).unwrap_or(usize::MAX);
        if len > limit {
            return Err(EntryError::Limit {
                what,
                limit: limit as u64,
                found,
            });
        }
        if len.saturating_mul(item_bytes) > self.rest.len() {
            return Err(EntryError::Truncated { what });
        }
        Ok(len)
    }

    pub(crate) fn bytes(
        &mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], EntryError> {
        let len = self.len(what, limit, 1)?;
        self.raw(len, what)
    }

    /// `0` or `1`, as bincode writes an option's presence.
    pub(crate) fn tag(&mut self, what: &'static str) -> Result<bool, EntryError> {
        match self.get::<u8>(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EntryError::NotCanonical),
        }
    }

    pub(crate) fn id(&mut self, what: &'static str) -> Result<Id, EntryError> {
        Ok(Id::new(self.get(what)?))
    }

    pub(crate) fn height(&mut self) -> Result<Height, EntryError> {
        Ok(Height(self.get("height")?))
    }

    /// A strictly ascending list of ids.
    pub(crate) fn ids(&mut self, what: &'static str, limit: usize) -> Result<Ids, EntryError> {
        let len = self.len(what, limit, 32)?;
        let raw = self.raw(len * 32, what)?;
        let ids = raw.as_chunks::<32>().0.iter().map(|id| Id::new(*id));
        Ids::from_sorted(ids).ok_or(EntryError::Unordered(what))
    }

    /// Refuses bytes after the last value.
    pub(crate) fn end(&self) -> Result<(), EntryError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(EntryError::Trailing(left)),
        }
    }
}
