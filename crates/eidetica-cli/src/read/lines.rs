//! Lines of a file, one in memory at a time, none longer than the limit.

use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read};

use super::error::{Located, Problem};
use crate::limits;

/// The present line and where it stands.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// Of the last line in the buffer.
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
    /// Of all bytes so far.
    hash: DefaultHasher,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            reader: BufReader::new(inner),
            number: 0,
            bytes: 0,
            buffer: Vec::new(),
            hash: DefaultHasher::new(),
        }
    }

    /// Goes to the next line; false at the end of the file.
    pub(super) fn next(&mut self) -> Result<bool, Located> {
        self.buffer.clear();
        let some = self.append()?;
        if self.number == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(some)
    }

    /// Puts the next line behind the present one; false at the end of the file.
    pub(super) fn append(&mut self) -> Result<bool, Located> {
        let before = self.buffer.len();
        let left = limits::LINE.saturating_sub(before as u64);
        let read = self
            .reader
            .by_ref()
            .take(left + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| Problem::Io(error).at(self.number + 1))? as u64;
        self.number += u64::from(read > 0);
        self.bytes += read;
        self.hash
            .write(self.buffer.get(before..).unwrap_or_default());
        if read > left {
            return Err(Problem::TooLong.at(self.number));
        }
        Ok(read > 0)
    }

    /// What is in the buffer, without the last line break.
    pub(super) fn content(&self) -> &[u8] {
        let content = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        content.strip_suffix(b"\r").unwrap_or(content)
    }

    /// The number of the last line in the buffer, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the file read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A hash of them, to tell whether another pass sees the same.
    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
