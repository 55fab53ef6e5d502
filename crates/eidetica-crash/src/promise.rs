//! The journal of acknowledgements: what a child was told is safe, before it died.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use parking_lot::Mutex;

/// Who promises, and the number of the last thing that is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises(BTreeMap<String, u64>);

impl Promises {
    /// Reads a journal; empty where there is none. A line that was cut off counts for nothing.
    ///
    /// # Errors
    /// The file's.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Reads lines `who number`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut promises = Self::default();
        for line in text.split_inclusive('\n') {
            let number = line
                .strip_suffix('\n')
                .and_then(|line| line.split_once(' '));
            if let Some((who, number)) = number {
                let number = number.parse().unwrap_or(0);
                let last = promises.0.entry(who.to_owned()).or_default();
                *last = number.max(*last);
            }
        }
        promises
    }

    /// The last number that was promised by somebody; 0 if none was.
    #[must_use]
    pub fn last(&self, who: &str) -> u64 {
        self.0.get(who).copied().unwrap_or(0)
    }

    /// All who promised something, with their last numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(who, number)| (who.as_str(), *number))
    }

    /// How many things were promised.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The journal that a child writes. It outlives the child, since the system has a line as soon as it is written.
pub struct Journal(Mutex<File>);

impl Journal {
    /// Goes on with a journal.
    ///
    /// # Errors
    /// The file's.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes that all up to `number` is safe.
    ///
    /// # Errors
    /// The file's.
    pub fn promise(&self, who: &str, number: u64) -> io::Result<()> {
        self.0
            .lock()
            .write_all(format!("{who} {number}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_counts_for_nothing() {
        let promises = Promises::parse("a 1\nb 7\na 3\na 12");
        assert_eq!((promises.last("a"), promises.last("b")), (3, 7));
        assert_eq!((promises.last("c"), promises.count()), (0, 10));
    }
}
