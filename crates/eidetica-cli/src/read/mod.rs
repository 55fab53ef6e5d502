//! Reading rows from files: CSV and JSON lines, one row in memory at a time, every error with its line and column.
//!
//! A file is read twice. The first pass checks all of it and, for CSV, finds the type of each column, so that a bad line
//! at the end is known before the first row is staged; the second pass yields the rows.

mod csv;
mod error;
mod jsonl;
mod lines;

use std::fs::File;
use std::path::PathBuf;

use serde_json::Value;

pub(crate) use error::InputError;

use crate::progress::Progress;
use csv::{CsvRows, Kind};
use error::Problem;
use jsonl::JsonlRows;

/// One row: its key and its fields, and where it stood.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) key: String,
    pub(crate) fields: Vec<(String, Value)>,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// A file to read rows from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// The column or field that holds the keys. Default: the first column of CSV, `id` in JSON lines.
    pub(crate) key: Option<String>,
    /// Take every CSV value as text.
    pub(crate) text: bool,
}

/// What the first pass found out.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    kinds: Vec<Kind>,
}

/// The rows of a file, in order.
pub(crate) enum Rows {
    Csv(CsvRows<File>),
    Jsonl(JsonlRows<File>),
}

impl Source {
    /// The format that a file's name tells.
    pub(crate) fn format_of(path: &std::path::Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            _ => None,
        }
    }

    /// The length of the file in bytes.
    pub(crate) fn len(&self) -> Result<u64, InputError> {
        std::fs::metadata(&self.path)
            .map(|meta| meta.len())
            .map_err(|error| self.located(Problem::Io(error).at(0)))
    }

    /// Reads the whole file once: every line is well-formed, every row has a key.
    pub(crate) fn check(&self, progress: &Progress) -> Result<Checked, InputError> {
        let mut rows = self.open(&[])?;
        let mut checked = Checked {
            rows: 0,
            bytes: 0,
            kinds: Vec::new(),
        };
        while let Some(row) = rows.next() {
            drop(row.map_err(|error| self.located(error))?);
            checked.rows += 1;
            progress.set(rows.bytes());
        }
        checked.bytes = rows.bytes();
        if let Rows::Csv(rows) = rows
            && !self.text
        {
            checked.kinds = rows.kinds();
        }
        Ok(checked)
    }

    /// The rows of a checked file.
    pub(crate) fn rows(
        &self,
        checked: &Checked,
    ) -> Result<impl Iterator<Item = Result<Row, InputError>>, InputError> {
        Ok(self
            .open(&checked.kinds)?
            .map(|row| row.map_err(|error| self.located(error))))
    }

    fn open(&self, kinds: &[Kind]) -> Result<Rows, InputError> {
        let file =
            File::open(&self.path).map_err(|error| self.located(Problem::Io(error).at(0)))?;
        let rows = match self.format {
            Format::Csv => CsvRows::new(file, self.key.as_deref(), kinds).map(Rows::Csv),
            Format::Jsonl => Ok(Rows::Jsonl(JsonlRows::new(file, self.key.as_deref()))),
        };
        rows.map_err(|error| self.located(error))
    }

    fn located(&self, error: error::Located) -> InputError {
        InputError {
            path: self.path.clone(),
            error,
        }
    }
}

impl Rows {
    /// Bytes of the file read so far.
    fn bytes(&self) -> u64 {
        match self {
            Self::Csv(rows) => rows.bytes(),
            Self::Jsonl(rows) => rows.bytes(),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, error::Located>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
        }
    }
}
