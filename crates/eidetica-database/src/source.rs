//! Where stores are read: the present state, a past one, a local database, or a transaction on one of
//! them.

use eidetica_crdt::{MemRows, RowPage, RowSpace, Rows, StoreKind};
use eidetica_entry::StoreName;
use eidetica_storage::EngineError;

use crate::edits::Edits;
use crate::error::Result;
use crate::query::{Answer, DynRows, Query};
use crate::{AsOf, Database, LocalDatabase};

/// What a store is read from.
#[derive(Clone)]
pub(crate) enum Source {
    Database(Database),
    AsOf(AsOf),
    Local(LocalDatabase),
}

impl Source {
    /// Calls `read` with the rows of a store that `query` needs, and a version: what is read again at the
    /// same version is the same.
    pub(crate) fn read<T>(
        &self,
        name: &StoreName,
        kind: StoreKind,
        query: &Query,
        read: impl FnOnce(u64, &DynRows<'_>) -> Result<T>,
    ) -> Result<T> {
        match self {
            Self::Database(database) => database.read(name, kind, read),
            Self::AsOf(past) => past.read(name, kind, query, read),
            Self::Local(local) => local.read(name, kind, read),
        }
    }

    /// Checks that a store is of this kind or none.
    pub(crate) fn check_kind(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        match self {
            Self::Database(database) => database.check_kind(name, kind),
            Self::AsOf(past) => past.database().check_kind(name, kind),
            Self::Local(local) => local.check_kind(name, kind),
        }
    }

    /// A number that nobody can guess.
    pub(crate) fn random(&self) -> u64 {
        match self {
            Self::Database(database) => database.shared().entropy.number(),
            Self::AsOf(past) => past.database().shared().entropy.number(),
            Self::Local(local) => local.shared().entropy.number(),
        }
    }
}

/// What a view reads through.
#[derive(Clone)]
pub(crate) enum Reader<'a> {
    Source(Source),
    Edits(&'a Edits),
}

impl Reader<'_> {
    pub(crate) fn open(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        match self {
            Self::Source(source) => source.check_kind(name, kind),
            Self::Edits(edits) => edits.open(name, kind),
        }
    }

    pub(crate) fn query(&self, name: &StoreName, kind: StoreKind, query: Query) -> Result<Answer> {
        match self {
            Self::Source(source) => source.read(name, kind, &query, |_, rows| Ok(query.run(rows)?)),
            Self::Edits(edits) => edits.query(name, kind, query),
        }
    }
}

/// Rows in memory, read as if they could fail.
pub(crate) struct Remembered<'a>(pub(crate) &'a MemRows);

impl Rows for Remembered<'_> {
    type Error = EngineError;

    fn get(&self, space: RowSpace, key: &[u8]) -> Result<Option<bytes::Bytes>, EngineError> {
        match self.0.get(space, key) {
            Ok(row) => Ok(row),
            Err(never) => match never {},
        }
    }

    fn scan(
        &self,
        space: RowSpace,
        range: eidetica_crdt::KeyRange<'_>,
        reverse: bool,
        limit: usize,
    ) -> Result<RowPage, EngineError> {
        match self.0.scan(space, range, reverse, limit) {
            Ok(page) => Ok(page),
            Err(never) => match never {},
        }
    }
}
