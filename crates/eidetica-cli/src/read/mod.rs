//! Reading rows from files: CSV and JSON lines, one row in memory at a time, every error with its line and column.
//!
//! A file is read twice. The first pass checks all of it and, for CSV, finds the type of each column, so that a bad line
//! at the end is known before the first row is staged; the second pass yields the rows. It ends with an error if it saw
//! anything else than the first. What comes out of a pipe is kept in a file without a name, which only this process has.

mod csv;
mod error;
mod jsonl;
mod lines;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) use error::InputError;

use crate::limits;
use crate::progress::Progress;
use csv::{CsvRows, Kind};
use error::{Located, Problem};
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

/// The path that stands for standard input.
const STDIN: &str = "-";

/// A file to read rows from; `-` is standard input.
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
    hash: u64,
    file: File,
}

/// The rows of a checked file, in order, each as the first pass saw it.
pub(crate) struct SecondPass<'a> {
    source: &'a Source,
    rows: Rows,
    hash: u64,
    ended: bool,
}

/// The rows of a file, in order.
enum Rows {
    Csv(CsvRows<File>),
    Jsonl(JsonlRows<File>),
}

impl Source {
    /// The format that a file's name tells.
    pub(crate) fn format_of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            _ => None,
        }
    }

    /// Whether it is standard input.
    pub(crate) fn is_stdin(path: &Path) -> bool {
        path.as_os_str() == STDIN
    }

    /// The length of the file in bytes; 0 for a pipe.
    pub(crate) fn len(&self) -> Result<u64, InputError> {
        if Self::is_stdin(&self.path) {
            return Ok(0);
        }
        std::fs::metadata(&self.path)
            .map(|meta| meta.len())
            .map_err(|error| self.unreadable(error))
    }

    /// Reads the whole file once: every line is well-formed, every row has a key.
    pub(crate) fn check(&self, progress: &Progress) -> Result<Checked, InputError> {
        let file = self.open()?;
        let mut rows = self.rows_of(&file, &[])?;
        let mut count = 0;
        while let Some(row) = rows.next() {
            drop(row.map_err(|error| self.located(error))?);
            count += 1;
            progress.set(rows.bytes());
        }
        Ok(Checked {
            rows: count,
            bytes: rows.bytes(),
            hash: rows.hash(),
            kinds: match rows {
                Rows::Csv(rows) if !self.text => rows.kinds(),
                _ => Vec::new(),
            },
            file,
        })
    }

    /// The rows of a checked file. Only when there are no more of them is it certain that they are what was checked.
    pub(crate) fn rows(&self, checked: &Checked) -> Result<SecondPass<'_>, InputError> {
        Ok(SecondPass {
            source: self,
            rows: self.rows_of(&checked.file, &checked.kinds)?,
            hash: checked.hash,
            ended: false,
        })
    }

    /// The file, or a private copy of what cannot be read twice.
    fn open(&self) -> Result<File, InputError> {
        if Self::is_stdin(&self.path) {
            return self.copy(&mut io::stdin().lock());
        }
        let opened = File::open(&self.path).and_then(|file| {
            let is_file = file.metadata()?.is_file();
            Ok((file, is_file))
        });
        match opened.map_err(|error| self.unreadable(error))? {
            (file, true) => Ok(file),
            (mut pipe, false) => self.copy(&mut pipe),
        }
    }

    fn copy(&self, pipe: &mut dyn Read) -> Result<File, InputError> {
        let mut file = tempfile::tempfile().map_err(|error| self.unreadable(error))?;
        let mut pipe = pipe.take(limits::PIPED_BYTES + 1);
        let copied = io::copy(&mut pipe, &mut file).map_err(|error| self.unreadable(error))?;
        if copied > limits::PIPED_BYTES {
            return Err(self.located(Problem::TooMuch.at(0)));
        }
        Ok(file)
    }

    fn rows_of(&self, file: &File, kinds: &[Kind]) -> Result<Rows, InputError> {
        let from_start = file.try_clone().and_then(|mut file| {
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        });
        let file = from_start.map_err(|error| self.unreadable(error))?;
        let rows = match self.format {
            Format::Csv => CsvRows::new(file, self.key.as_deref(), kinds).map(Rows::Csv),
            Format::Jsonl => Ok(Rows::Jsonl(JsonlRows::new(file, self.key.as_deref()))),
        };
        rows.map_err(|error| self.located(error))
    }

    fn unreadable(&self, error: io::Error) -> InputError {
        self.located(Problem::Io(error).at(0))
    }

    fn located(&self, error: Located) -> InputError {
        InputError {
            path: self.path.clone(),
            error,
        }
    }
}

impl Iterator for SecondPass<'_> {
    type Item = Result<Row, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let changed = || Problem::Changed.at(0);
        let error = match self.rows.next() {
            Some(Ok(row)) => return Some(Ok(row)),
            Some(Err(error)) if error.is_io() => Some(error),
            // The first pass saw no bad line.
            Some(Err(_)) => Some(changed()),
            None => (self.rows.hash() != self.hash).then(changed),
        };
        self.ended = true;
        error.map(|error| Err(self.source.located(error)))
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

    /// A hash of what was read so far.
    fn hash(&self) -> u64 {
        match self {
            Self::Csv(rows) => rows.hash(),
            Self::Jsonl(rows) => rows.hash(),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Located>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the second pass says of a file that is rewritten after the first one.
    fn second_pass(before: &str, after: &str) -> Vec<Result<String, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, before).unwrap();
        let source = Source {
            path: path.clone(),
            format: Format::Csv,
            key: None,
            text: false,
        };
        let output = crate::output::Output::new(false, true);
        let checked = source
            .check(&Progress::spinner(output, "checking"))
            .unwrap();
        std::fs::write(&path, after).unwrap();
        let Ok(rows) = source.rows(&checked) else {
            return vec![Err("no header".to_owned())];
        };
        rows.map(|row| row.map(|row| row.key).map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn a_file_that_changes_between_the_passes_is_refused() {
        let before = "k,v\na,1\nb,2\n";
        assert_eq!(
            second_pass(before, before),
            [Ok("a".to_owned()), Ok("b".to_owned())]
        );
        for after in [
            "k,v\na,1\nb,3\n",
            "k,v\na,1\n",
            "k,v\na,1\nb,2\nc,3\n",
            "k,v\na,1\nb\n",
            "k,v\n",
        ] {
            let last = second_pass(before, after).pop().unwrap();
            let error = last.unwrap_err();
            assert!(
                error.ends_with("the file has changed while it was read"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_replaced_is_read_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        std::fs::write(&path, "{\"id\":1}\n").unwrap();
        let source = Source {
            path: path.clone(),
            format: Format::Jsonl,
            key: None,
            text: false,
        };
        let output = crate::output::Output::new(false, true);
        let checked = source
            .check(&Progress::spinner(output, "checking"))
            .unwrap();
        std::fs::write(dir.path().join("new"), "{\"id\":2}\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        let keys: Vec<_> = source
            .rows(&checked)
            .unwrap()
            .map(|row| row.unwrap().key)
            .collect();
        assert_eq!(keys, ["1"]);
    }
}
