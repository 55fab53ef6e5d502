//! Documents.

use std::ops::Deref;

use eidetica_crdt::{Doc, Edit, Locator, StoreKind, Value};
use eidetica_entry::StoreName;

use crate::edits::Edits;
use crate::error::{Error, Result};
use crate::limits;
use crate::query::{Answer, Query};
use crate::source::Reader;

/// Reads one document.
///
/// Paths are dotted text: `a.b`, and `a.0` where `a` is a list. `\.` and `\\` stand for a dot and a
/// backslash in a key. The empty path is the whole document.
#[derive(Clone)]
pub struct DocView<'a> {
    reader: Reader<'a>,
    store: StoreName,
}

impl<'a> DocView<'a> {
    pub(crate) fn open(reader: Reader<'a>, name: &str) -> Result<Self> {
        let store = StoreName::new(name)?;
        reader.open(&store, StoreKind::Doc)?;
        Ok(Self { reader, store })
    }

    /// Opens without asking whether the store is a document: for `_settings`, which always is.
    pub(crate) fn settings(reader: Reader<'a>) -> Self {
        Self {
            reader,
            store: StoreName::settings(),
        }
    }

    /// The name of the store.
    pub fn name(&self) -> &StoreName {
        &self.store
    }

    /// What is shown at `path`; `None` if nothing is. A leaf costs one or two row reads, a subtree one
    /// range scan.
    ///
    /// # Errors
    /// No path, or the engine's.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        self.get_at(Locator::parse(path)?)
    }

    /// [`get`](Self::get) by a locator.
    ///
    /// # Errors
    /// The engine's.
    pub fn get_at(&self, at: Locator) -> Result<Option<Value>> {
        match self
            .reader
            .query(&self.store, StoreKind::Doc, Query::Get(at))?
        {
            Answer::Value(value) => Ok(value),
            _ => Ok(None),
        }
    }

    /// What is shown at `path` as a `T`: text as `String`, a whole number or counter as `i64`, and so on.
    ///
    /// # Errors
    /// [`Error::Form`] where something else is.
    pub fn get_as<T>(&self, path: &str) -> Result<Option<T>>
    where
        T: for<'v> TryFrom<&'v Value>,
    {
        let Some(value) = self.get(path)? else {
            return Ok(None);
        };
        let wrong = || Error::Form {
            what: "a value",
            detail: format!("at {path}"),
        };
        T::try_from(&value).map(Some).map_err(|_| wrong())
    }

    /// The whole document. O(its size).
    ///
    /// # Errors
    /// The engine's.
    pub fn get_all(&self) -> Result<Doc> {
        match self.get_at(Locator::root())? {
            Some(Value::Map(doc)) => Ok(doc),
            _ => Ok(Doc::new()),
        }
    }

    /// Whether something is shown at `path`.
    ///
    /// # Errors
    /// See [`get`](Self::get).
    pub fn contains(&self, path: &str) -> Result<bool> {
        Ok(self.get(path)?.is_some())
    }

    /// Items of the list at `path`, from the `offset`th, at most `limit`. O(offset + items).
    ///
    /// # Errors
    /// No path, or the engine's.
    pub fn list(&self, path: &str, offset: usize, limit: usize) -> Result<Vec<Value>> {
        let limit = limit.min(limits::PAGE_ROWS);
        let query = Query::List {
            list: Locator::parse(path)?,
            offset,
            limit,
        };
        match self.reader.query(&self.store, StoreKind::Doc, query)? {
            Answer::List(page) => Ok(page.items.into_iter().map(|(_, value)| value).collect()),
            _ => Ok(Vec::new()),
        }
    }
}

/// One document in a transaction.
#[derive(Clone)]
pub struct DocStore<'a> {
    view: DocView<'a>,
    edits: &'a Edits,
}

impl<'a> Deref for DocStore<'a> {
    type Target = DocView<'a>;

    fn deref(&self) -> &DocView<'a> {
        &self.view
    }
}

impl<'a> DocStore<'a> {
    pub(crate) fn open(edits: &'a Edits, name: &str) -> Result<Self> {
        Ok(Self {
            view: DocView::open(Reader::Edits(edits), name)?,
            edits,
        })
    }

    pub(crate) fn settings(edits: &'a Edits) -> Self {
        Self {
            view: DocView::settings(Reader::Edits(edits)),
            edits,
        }
    }

    /// Puts a value at `path`, replacing what is there; maps above it begin where nothing is. The index
    /// one past the end of a list appends.
    ///
    /// # Errors
    /// No path. What does not fit the data as it then is, is an error of the commit.
    pub fn set(&self, path: &str, value: impl Into<Value>) -> Result<()> {
        self.edit(Edit::Set {
            at: Locator::parse(path)?,
            value: value.into(),
        })
    }

    /// Takes away what is at `path`; of a list, the element.
    ///
    /// # Errors
    /// No path.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.edit(Edit::Delete {
            at: Locator::parse(path)?,
        })
    }

    /// Adds to the number at `path`, or to 0 where nothing is. Concurrent increments add up.
    ///
    /// # Errors
    /// No path.
    pub fn increment(&self, path: &str, by: i64) -> Result<()> {
        self.edit(Edit::Increment {
            at: Locator::parse(path)?,
            by,
        })
    }

    /// Appends to the list at `path`, which begins where nothing is.
    ///
    /// # Errors
    /// No path.
    pub fn push(&self, path: &str, value: impl Into<Value>) -> Result<()> {
        self.edit(Edit::ListInsert {
            list: Locator::parse(path)?,
            index: None,
            value: value.into(),
        })
    }

    /// Inserts into the list at `path`, before the element at `index`.
    ///
    /// # Errors
    /// No path.
    pub fn insert(&self, path: &str, index: usize, value: impl Into<Value>) -> Result<()> {
        self.edit(Edit::ListInsert {
            list: Locator::parse(path)?,
            index: Some(index),
            value: value.into(),
        })
    }

    /// Moves the list element at `path` (`list.3`) so that it ends up at index `to`.
    ///
    /// # Errors
    /// No path.
    pub fn move_to(&self, path: &str, to: usize) -> Result<()> {
        self.edit(Edit::ListMove {
            at: Locator::parse(path)?,
            to,
        })
    }

    /// Makes one edit.
    ///
    /// # Errors
    /// Too many edits.
    pub fn edit(&self, edit: Edit) -> Result<()> {
        self.edits.edit(self.name(), StoreKind::Doc, edit)
    }
}
