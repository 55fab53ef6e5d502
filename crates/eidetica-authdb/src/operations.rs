//! Consecutive operations as one string of bytes, which is also how they are stored and sent.

use eidetica_mmr::Location;

use crate::{Error, Operation, OperationError, limits};

/// What memory is set aside for one of them.
const USUAL_BYTES: usize = 72;
/// Bytes in which one more is expected when they are split.
const SHORT_BYTES: usize = 64;

/// Encoded operations, one after the other: each says itself where it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operations {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Operations {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// None, with memory for so many of usual size.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(count.saturating_mul(USUAL_BYTES)),
            ends: Vec::with_capacity(count + 1),
        }
    }

    /// Splits bytes into at most `most` operations, of which the first stands at `start`.
    ///
    /// # Errors
    /// [`Error::Operation`] unless the bytes are whole operations; [`Error::Request`] if they are more.
    pub fn parse(bytes: Vec<u8>, start: Location, most: usize) -> Result<Self, Error> {
        let mut ends = Vec::with_capacity(most.min(bytes.len() / SHORT_BYTES + 1));
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if ends.len() == most {
                return Err(Error::Request);
            }
            let location = Location(start.0.saturating_add(ends.len() as u64));
            let (_, after) =
                Operation::read(rest).map_err(|detail| Error::Operation { location, detail })?;
            rest = after;
            ends.push(bytes.len() - rest.len());
        }
        Ok(Self { bytes, ends })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of their bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of their bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes of one, counted from the first.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        self.bytes.get(self.start_of(index)..end)
    }

    /// The bytes of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.from(0)
    }

    /// The bytes of each from one on.
    pub(crate) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = self.start_of(index);
        self.ends
            .get(index..)
            .unwrap_or_default()
            .iter()
            .map(move |end| {
                let operation = self.bytes.get(start..*end).unwrap_or_default();
                start = *end;
                operation
            })
    }

    /// Appends an operation.
    pub fn push(&mut self, operation: &Operation<'_>) {
        operation.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Appends an operation by its bytes.
    pub(crate) fn push_bytes(&mut self, operation: &[u8]) {
        self.bytes.extend_from_slice(operation);
        self.ends.push(self.bytes.len());
    }

    /// Appends those of another from an index to an index.
    pub(crate) fn extend_from(&mut self, other: &Self, from: usize, to: usize) {
        let start = other.start_of(from);
        let Some(ends) = other.ends.get(from..to) else {
            return;
        };
        let end = ends.last().copied().unwrap_or(start);
        let moved = self.bytes.len();
        self.bytes
            .extend_from_slice(other.bytes.get(start..end).unwrap_or_default());
        self.ends.extend(ends.iter().map(|end| end - start + moved));
    }

    /// Forgets all. Keeps the memory of a tail of usual size.
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > limits::TAIL_KEPT_BYTES {
            *self = Self::new();
        }
        self.truncate(0);
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.start_of(count));
        self.ends.truncate(count);
    }

    pub(crate) fn start_of(&self, index: usize) -> usize {
        let before = index.checked_sub(1);
        before.map_or(0, |before| {
            self.ends.get(before).copied().unwrap_or(self.bytes.len())
        })
    }

    /// Each decoded. They have been checked before they came here.
    pub(crate) fn decoded(&self) -> impl Iterator<Item = Result<Operation<'_>, OperationError>> {
        self.iter().map(Operation::decode)
    }
}
