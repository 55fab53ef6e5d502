//! Tables: rows by key, whose fields merge on their own.

use std::marker::PhantomData;
use std::ops::{Bound, Deref, RangeBounds};

use eidetica_crdt::{Doc, Edit, StoreKind, TablePage};
use eidetica_entry::StoreName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::edits::Edits;
use crate::error::{Error, Result};
use crate::limits;
use crate::query::{Answer, Query};
use crate::source::Reader;

/// Reads one table whose rows have the form of `T`.
///
/// A row is a map of fields; `T` is written and read by its serde form, which must be that of a map.
/// Fields that `T` does not know are kept, and left out of what is read. Whole numbers must fit an `i64`, bytes are
/// lists of numbers, and NaN and the infinities are null: the serde form is that of JSON.
pub struct TableView<'a, T> {
    reader: Reader<'a>,
    store: StoreName,
    row: PhantomData<fn() -> T>,
}

impl<T> Clone for TableView<'_, T> {
    fn clone(&self) -> Self {
        Self {
            reader: self.reader.clone(),
            store: self.store.clone(),
            row: PhantomData,
        }
    }
}

impl<'a, T> TableView<'a, T> {
    pub(crate) fn open(reader: Reader<'a>, name: &str) -> Result<Self> {
        let store = StoreName::new(name)?;
        reader.open(&store, StoreKind::Table)?;
        Ok(Self {
            reader,
            store,
            row: PhantomData,
        })
    }

    /// The name of the store.
    pub fn name(&self) -> &StoreName {
        &self.store
    }

    /// The fields of a row, whatever their form. One row read.
    ///
    /// # Errors
    /// The engine's.
    pub fn get_doc(&self, key: &str) -> Result<Option<Doc>> {
        match self
            .reader
            .query(&self.store, StoreKind::Table, Query::Row(key.to_owned()))?
        {
            Answer::Row(row) => Ok(row),
            _ => Ok(None),
        }
    }

    /// Whether there is a row with this key.
    ///
    /// # Errors
    /// The engine's.
    pub fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.get_doc(key)?.is_some())
    }

    /// The rows in the order of their keys, to be narrowed and walked.
    pub fn rows(&self) -> TableRows<'a, T> {
        TableRows {
            view: self.clone(),
            range: (Bound::Unbounded, Bound::Unbounded),
            reverse: false,
            limit: usize::MAX,
            page: limits::PAGE_ROWS,
        }
    }
}

impl<T: DeserializeOwned> TableView<'_, T> {
    /// A row; `None` if there is none with this key. One row read.
    ///
    /// # Errors
    /// [`Error::Form`] if it has not the form of `T`.
    pub fn get(&self, key: &str) -> Result<Option<T>> {
        self.get_doc(key)?
            .map(|fields| read_row(&fields))
            .transpose()
    }

    /// All rows in the order of their keys, in memory; for large tables walk [`rows`](Self::rows).
    ///
    /// # Errors
    /// See [`get`](Self::get).
    pub fn get_all(&self) -> Result<Vec<(String, T)>> {
        self.rows().iter().collect()
    }
}

/// A walk through a table: which rows, in which order, how many.
pub struct TableRows<'a, T> {
    view: TableView<'a, T>,
    range: (Bound<String>, Bound<String>),
    reverse: bool,
    limit: usize,
    page: usize,
}

impl<'a, T> TableRows<'a, T> {
    /// Only keys in this range, which orders as their bytes.
    #[must_use]
    pub fn range<'k>(mut self, range: impl RangeBounds<&'k str>) -> Self {
        let own = |bound: Bound<&&str>| bound.map(|key| (*key).to_owned());
        self.range = (own(range.start_bound()), own(range.end_bound()));
        self
    }

    /// Only keys that begin with this text.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        // No UTF-8 text above all that begin with `prefix` ends earlier than with its next character.
        let mut end = prefix.to_owned();
        let above = loop {
            match end.pop().map(next_char) {
                None => break Bound::Unbounded,
                Some(None) => {}
                Some(Some(next)) => {
                    end.push(next);
                    break Bound::Excluded(end);
                }
            }
        };
        self.range = (Bound::Included(prefix.to_owned()), above);
        self
    }

    /// From the greatest key down.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = !self.reverse;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// Rows that are read at once: at most [`limits::PAGE_ROWS`].
    #[must_use]
    pub fn page(mut self, rows: usize) -> Self {
        self.page = rows.clamp(1, limits::PAGE_ROWS);
        self
    }

    /// Walks the rows as maps of fields.
    pub fn docs(self) -> Rows<'a, T, Doc> {
        Rows::new(self, Ok)
    }
}

impl<'a, T: DeserializeOwned> TableRows<'a, T> {
    /// Walks the rows. Memory is one page. Each page shows the state when it was read.
    pub fn iter(self) -> Rows<'a, T, T> {
        Rows::new(self, |fields| read_row(&fields))
    }

    /// The rows that `keep` admits, up to the limit. O(rows in the range).
    ///
    /// # Errors
    /// See [`TableView::get`].
    pub fn filter(mut self, mut keep: impl FnMut(&str, &T) -> bool) -> Result<Vec<(String, T)>> {
        let limit = std::mem::replace(&mut self.limit, usize::MAX);
        let kept = self
            .iter()
            .filter(|row| row.as_ref().map_or(true, |(key, row)| keep(key, row)));
        kept.take(limit).collect()
    }
}

/// The character after `c` in the order of UTF-8 bytes.
fn next_char(c: char) -> Option<char> {
    match c {
        '\u{d7ff}' => Some('\u{e000}'),
        c => char::from_u32(u32::from(c) + 1),
    }
}

/// The iterator over a table's rows; see [`TableRows::iter`]. After an error it ends.
pub struct Rows<'a, T, R> {
    walk: TableRows<'a, T>,
    read: fn(Doc) -> Result<R>,
    page: std::vec::IntoIter<(String, Doc)>,
    more: bool,
}

impl<'a, T, R> Rows<'a, T, R> {
    fn new(walk: TableRows<'a, T>, read: fn(Doc) -> Result<R>) -> Self {
        Self {
            walk,
            read,
            page: Vec::new().into_iter(),
            more: true,
        }
    }

    fn next_page(&mut self) -> Result<()> {
        let TableRows {
            view,
            range,
            reverse,
            limit,
            page,
        } = &mut self.walk;
        let query = Query::Scan {
            range: range.clone(),
            reverse: *reverse,
            limit: (*page).min(*limit),
        };
        let answer = view.reader.query(&view.store, StoreKind::Table, query)?;
        let Answer::Scan(TablePage { rows, more }) = answer else {
            return Ok(());
        };
        *limit = limit.saturating_sub(rows.len());
        if let Some((last, _)) = rows.last() {
            let rest = Bound::Excluded(last.clone());
            if *reverse {
                range.1 = rest
            } else {
                range.0 = rest
            }
        }
        self.more = more && !rows.is_empty() && *limit > 0;
        self.page = rows.into_iter();
        Ok(())
    }
}

impl<T, R> Iterator for Rows<'_, T, R> {
    type Item = Result<(String, R)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && self.more && self.walk.limit > 0 {
            self.more = false;
            if let Err(error) = self.next_page() {
                return Some(Err(error));
            }
        }
        let (key, fields) = self.page.next()?;
        Some((self.read)(fields).map(|row| (key, row)))
    }
}

/// One table in a transaction.
pub struct Table<'a, T> {
    view: TableView<'a, T>,
    edits: &'a Edits,
}

impl<'a, T> Deref for Table<'a, T> {
    type Target = TableView<'a, T>;

    fn deref(&self) -> &TableView<'a, T> {
        &self.view
    }
}

impl<'a, T> Table<'a, T> {
    pub(crate) fn open(edits: &'a Edits, name: &str) -> Result<Self> {
        Ok(Self {
            view: TableView::open(Reader::Edits(edits), name)?,
            edits,
        })
    }

    /// Puts a row of any fields, replacing the one with this key.
    ///
    /// # Errors
    /// Too many edits. What does not fit is an error of the commit.
    pub fn insert_doc(&self, key: impl Into<String>, fields: Doc) -> Result<()> {
        self.edit(Edit::RowInsert {
            key: key.into(),
            fields,
        })
    }

    /// Changes some fields of an existing row; those that have the value already are not written.
    ///
    /// # Errors
    /// See [`insert_doc`](Self::insert_doc); a row that is not there is an error of the commit.
    pub fn set_fields(&self, key: impl Into<String>, fields: Doc) -> Result<()> {
        self.edit(Edit::RowSet {
            key: key.into(),
            fields,
        })
    }

    /// Takes a row away; nothing where there is none.
    ///
    /// # Errors
    /// See [`insert_doc`](Self::insert_doc).
    pub fn delete(&self, key: impl Into<String>) -> Result<()> {
        self.edit(Edit::RowDelete { key: key.into() })
    }

    /// Takes one field of a row away.
    ///
    /// # Errors
    /// See [`insert_doc`](Self::insert_doc).
    pub fn delete_field(&self, key: impl Into<String>, field: impl Into<String>) -> Result<()> {
        self.edit(Edit::FieldDelete {
            key: key.into(),
            field: field.into(),
        })
    }

    /// Adds to a number of a row. Concurrent increments add up.
    ///
    /// # Errors
    /// See [`insert_doc`](Self::insert_doc).
    pub fn increment(
        &self,
        key: impl Into<String>,
        field: impl Into<String>,
        by: i64,
    ) -> Result<()> {
        self.edit(Edit::FieldIncrement {
            key: key.into(),
            field: field.into(),
            by,
        })
    }

    fn edit(&self, edit: Edit) -> Result<()> {
        self.edits.edit(self.name(), StoreKind::Table, edit)
    }
}

impl<T: Serialize> Table<'_, T> {
    /// Puts a row, replacing the one with this key.
    ///
    /// # Errors
    /// [`Error::Form`] if `T` does not have the form of a row.
    pub fn insert(&self, key: impl Into<String>, row: &T) -> Result<()> {
        self.insert_doc(key, write_row(row)?)
    }

    /// Puts a row under a new random key of 32 hexadecimal digits, which is returned.
    ///
    /// # Errors
    /// See [`insert`](Self::insert).
    pub fn add(&self, row: &T) -> Result<String> {
        let key = format!(
            "{:016x}{:016x}",
            self.edits.source.random(),
            self.edits.source.random()
        );
        self.insert(key.clone(), row)?;
        Ok(key)
    }

    /// Writes those fields of an existing row that differ from `row`.
    ///
    /// # Errors
    /// See [`insert`](Self::insert); a row that is not there is an error of the commit.
    pub fn set(&self, key: impl Into<String>, row: &T) -> Result<()> {
        self.set_fields(key, write_row(row)?)
    }
}

fn write_row<T: Serialize>(row: &T) -> Result<Doc> {
    let wrong = |detail: String| Error::Form {
        what: "a table row",
        detail,
    };
    let json = serde_json::to_value(row).map_err(|error| wrong(error.to_string()))?;
    Doc::from_json(&json).map_err(|error| wrong(error.to_string()))
}

fn read_row<T: DeserializeOwned>(fields: &Doc) -> Result<T> {
    serde_json::from_value(fields.to_json()).map_err(|error| Error::Form {
        what: "a table row",
        detail: error.to_string(),
    })
}
