//! The rows a store's state consists of, as this crate sees them.
//!
//! Keys here are relative to one store of one kind; whoever implements the traits puts a prefix before
//! them. The layout of keys and values is in `docs/formats/state.md`.

use bytes::Bytes;

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowSpace {
    /// What is shown, by path.
    Cur,
    /// Writes that are not in `Cur`, by path, slot and descending stamp.
    Ver,
    /// The order of list elements.
    Pos,
}

/// Keys from `start` up to but excluding `end`.
#[derive(Clone, Copy, Debug)]
pub struct KeyRange<'a> {
    /// The least key.
    pub start: &'a [u8],
    /// The least key that is too great.
    pub end: &'a [u8],
}

/// The rows that one scan returns.
#[derive(Clone, Debug, Default)]
pub struct RowPage {
    /// Keys and values in the direction of the scan.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether the range holds rows after these. May be `true` by mistake, never `false`.
    pub more: bool,
}

/// Read access to the rows of one store.
pub trait Rows {
    /// What may fail below.
    type Error;

    /// The value of a key.
    ///
    /// # Errors
    /// The store's.
    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// The first rows of a range, at most `limit`, at least one unless the range is empty.
    ///
    /// With `reverse` from the greatest key down.
    ///
    /// # Errors
    /// The store's.
    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, Self::Error>;

    /// Segments that the paths of the rows in `Cur` have at most, where that is known: what stands below the longest
    /// is not looked for then.
    fn deepest(&self) -> Option<usize> {
        None
    }
}

/// Write access to the rows of one store. Reads see the writes made before.
pub trait RowsMut: Rows {
    /// Writes a row, over an existing one too.
    ///
    /// # Errors
    /// The store's.
    fn put(&mut self, space: RowSpace, key: &[u8], value: &[u8]) -> Result<(), Self::Error>;

    /// Removes a row; nothing where there is none.
    ///
    /// # Errors
    /// The store's.
    fn delete(&mut self, space: RowSpace, key: &[u8]) -> Result<(), Self::Error>;
}

impl<R: Rows + ?Sized> Rows for &R {
    type Error = R::Error;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, Self::Error> {
        (**self).get(space, key)
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, Self::Error> {
        (**self).scan(space, range, reverse, limit)
    }

    fn deepest(&self) -> Option<usize> {
        (**self).deepest()
    }
}

/// Rows of which it may be known how deep they go, which is not checked.
#[derive(Clone, Copy, Debug)]
pub struct Bounded<R> {
    /// The rows below.
    pub rows: R,
    /// See [`Rows::deepest`].
    pub deepest: Option<usize>,
}

impl<R: Rows> Rows for Bounded<R> {
    type Error = R::Error;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
        self.rows.get(space, key)
    }

    fn scan(
        &self,
        space: RowSpace,
        range: KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, R::Error> {
        self.rows.scan(space, range, reverse, limit)
    }

    fn deepest(&self) -> Option<usize> {
        self.deepest
    }
}

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError<E> {
    /// The rows below are unavailable.
    #[error(transparent)]
    Rows(#[from] E),
    /// A row is not what this crate writes: the rows are damaged.
    #[error("a state row is corrupt: {what}, key {}", data_encoding::HEXLOWER.encode(key))]
    Corrupt {
        /// What was being read.
        what: &'static str,
        /// The row's key, relative to the store; may be cut.
        key: Vec<u8>,
    },
}

impl<E> StateError<E> {
    /// A corrupt row; keeps the first 128 bytes of the key.
    pub(crate) fn corrupt(what: &'static str, key: &[u8]) -> Self {
        Self::Corrupt {
            what,
            key: key.iter().copied().take(128).collect(),
        }
    }

    /// Converts the error of the rows below.
    pub fn map_rows<F>(self, map: impl FnOnce(E) -> F) -> StateError<F> {
        match self {
            Self::Rows(error) => StateError::Rows(map(error)),
            Self::Corrupt { what, key } => StateError::Corrupt { what, key },
        }
    }
}
