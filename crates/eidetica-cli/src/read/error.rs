//! What is wrong with a line of an import file, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::{Code, Error};
use crate::limits;

/// A problem of a file at a place.
#[derive(Debug)]
pub(crate) struct InputError {
    pub(crate) path: PathBuf,
    pub(crate) error: Located,
}

/// A problem at a line (1-based; 0 is the file as a whole) and a column, when one is to blame.
#[derive(Debug)]
pub(crate) struct Located {
    line: u64,
    column: Option<Column>,
    problem: Problem,
}

/// A column by number (1-based) and, in CSV, by name.
#[derive(Debug)]
struct Column {
    number: usize,
    name: Option<String>,
}

/// What is wrong.
#[derive(Debug)]
pub(crate) enum Problem {
    Io(io::Error),
    /// Another pass saw something else.
    Changed,
    /// More came out of a pipe than is kept.
    TooMuch,
    TooLong,
    NotUtf8,
    NoHeader,
    TooManyColumns(usize),
    EmptyName,
    DuplicateName(String),
    NoSuchColumn(String),
    TooFewFields {
        found: usize,
        expected: usize,
    },
    TooManyFields {
        found: usize,
        expected: usize,
    },
    EmptyKey,
    OpenQuote,
    AfterQuote,
    Json(String),
    NotAnObject(&'static str),
    NoKey(String),
    KeyNotText {
        field: String,
        found: &'static str,
    },
}

impl Problem {
    pub(super) fn at(self, line: u64) -> Located {
        Located {
            line,
            column: None,
            problem: self,
        }
    }

    pub(super) fn at_column(self, line: u64, number: usize, name: Option<String>) -> Located {
        Located {
            line,
            column: Some(Column { number, name }),
            problem: self,
        }
    }
}

impl Located {
    /// Whether the file could not be read at all.
    pub(super) fn is_io(&self) -> bool {
        matches!(self.problem, Problem::Io(_))
    }

    /// Blames the place where the thing that went wrong began.
    pub(super) fn began(self, line: u64, number: usize) -> Self {
        self.problem.at_column(line, number, None)
    }

    /// Gives the column its name.
    pub(super) fn named(mut self, name: impl Fn(usize) -> Option<String>) -> Self {
        if let Some(column) = &mut self.column {
            column.name = name(column.number);
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Changed => f.write_str("the file has changed while it was read"),
            Self::TooMuch => write!(f, "more than {} bytes", limits::PIPED_BYTES),
            Self::TooLong => write!(f, "longer than {} bytes", limits::LINE),
            Self::NotUtf8 => f.write_str("not UTF-8 text"),
            Self::NoHeader => {
                f.write_str("the file is empty: the first line must name the columns")
            }
            Self::TooManyColumns(found) => write!(
                f,
                "{found} columns, at most {} are supported",
                limits::COLUMNS
            ),
            Self::EmptyName => f.write_str("the column has no name"),
            Self::DuplicateName(name) => write!(f, "the column name `{name}` is used twice"),
            Self::NoSuchColumn(name) => write!(f, "no column is called `{name}`"),
            Self::TooFewFields { found, expected } => {
                write!(f, "the line ends after {found} of {expected} columns")
            }
            Self::TooManyFields { found, expected } => {
                write!(f, "{found} values, the header names {expected} columns")
            }
            Self::EmptyKey => f.write_str("the key is empty"),
            Self::OpenQuote => f.write_str("a quote is never closed"),
            Self::AfterQuote => f.write_str("text after the closing quote"),
            Self::Json(problem) => f.write_str(problem),
            Self::NotAnObject(found) => write!(f, "expected a JSON object, found {found}"),
            Self::NoKey(field) => write!(f, "the object has no field `{field}` to be its key"),
            Self::KeyNotText { field, found } => write!(
                f,
                "the key field `{field}` must be text or an integer, found {found}"
            ),
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.error.line > 0 {
            write!(f, ", line {}", self.error.line)?;
        }
        if let Some(column) = &self.error.column {
            write!(f, ", column {}", column.number)?;
            if let Some(name) = &column.name {
                write!(f, " ({name})")?;
            }
        }
        write!(f, ": {}", self.error.problem)
    }
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        let (code, hint) = match &error.error.problem {
            Problem::Io(io) if io.kind() == io::ErrorKind::NotFound => (Code::NotFound, None),
            Problem::Io(_) => (Code::Failed, None),
            Problem::Changed => (
                Code::Unavailable,
                Some("nothing was imported; try again when nobody writes to it"),
            ),
            Problem::NoKey(_) | Problem::NoSuchColumn(_) => (
                Code::BadInput,
                Some("--key NAME says which column or field holds the keys"),
            ),
            Problem::NotUtf8 => (
                Code::BadInput,
                Some("convert the file to UTF-8 first, for example with iconv"),
            ),
            _ => (Code::BadInput, Some("nothing was imported")),
        };
        let error = Self::new(code, error.to_string());
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
