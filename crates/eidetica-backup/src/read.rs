//! Reading a backup, frame by frame.

use std::io::{self, Read};

use crate::rows::Tally;
use crate::write::encode_end;
use crate::{BackupError, Label, Report, Totals, limits};

/// Kinds of frames: rows as they are, rows compressed by zstd, the end.
pub(crate) const PLAIN: u8 = 0;
pub(crate) const PACKED: u8 = 1;
pub(crate) const END: u8 = 255;

const HASH: usize = 32;

/// Reads the frames of a backup. None is given out that is not as it was written.
///
/// Memory: one frame, compressed and not.
pub struct Reader<'a> {
    input: &'a mut dyn Read,
    label: Label,
    source: [u8; HASH],
    chain: [u8; HASH],
    read: u64,
    tally: Tally,
    frame: Vec<u8>,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// Reads the label.
    ///
    /// # Errors
    /// [`BackupError::NotABackup`], [`BackupError::NewerFormat`], damage, and what reading gives.
    pub fn open(input: &'a mut dyn Read) -> Result<Self, BackupError> {
        let (label, source, read) = Label::read(input)?;
        Ok(Self {
            input,
            label,
            source,
            chain: source,
            read,
            tally: Tally::new(),
            frame: Vec::new(),
            ended: false,
        })
    }

    /// What the backup says of itself.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// A hash that tells this backup from all others.
    pub(crate) fn source(&self) -> [u8; HASH] {
        self.source
    }

    /// How much has been read.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.tally.totals
    }

    /// What the backup holds, once all of it has been read.
    #[must_use]
    pub fn report(&self) -> Report {
        self.tally.report(self.read)
    }

    /// The rows of the next frame, as `docs/formats/backup.md` has them; `None` after the last, when the backup has proven
    /// to be whole.
    ///
    /// # Errors
    /// [`BackupError::Truncated`], [`BackupError::Damaged`], and what reading gives.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let (kind, len, stored) = self.read_frame()?;
        match kind {
            END => {
                self.end(&stored)?;
                return Ok(None);
            }
            PLAIN => self.frame = stored,
            _ => {
                let unpacked = zstd::bulk::decompress(&stored, len);
                self.frame = unpacked.map_err(|_| self.damaged("it does not decompress"))?;
            }
        }
        if self.frame.len() != len || self.frame.is_empty() {
            return Err(self.damaged("it is of another length"));
        }
        let added = self.tally.add(&self.frame);
        added.map_err(|detail| self.damaged(detail))?;
        Ok(Some(&self.frame))
    }

    /// Kind, length of the rows, and the bytes as they are stored, with the right hash.
    fn read_frame(&mut self) -> Result<(u8, usize, Vec<u8>), BackupError> {
        let frame = self.tally.totals.frames;
        let mut head = [0; 9];
        fill(self.input, &mut head, frame)?;
        let [kind, a, b, c, d, e, f, g, h] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let stored_len = u32::from_le_bytes([e, f, g, h]) as usize;
        let fits = match kind {
            PLAIN | END => stored_len == len,
            PACKED => stored_len < len,
            _ => false,
        };
        if !fits || len > limits::FRAME_MOST_BYTES {
            return Err(self.damaged("its head does not decode"));
        }
        // Not allocated before it is there.
        let mut stored = Vec::new();
        let mut part = (&mut *self.input).take(stored_len as u64);
        part.read_to_end(&mut stored).map_err(BackupError::Read)?;
        if stored.len() < stored_len {
            return Err(BackupError::Truncated { frame });
        }
        let mut hash = [0; HASH];
        fill(self.input, &mut hash, frame)?;
        self.chain = chained(&self.chain, &head, &stored);
        if self.chain != hash {
            return Err(self.damaged("it does not have its hash"));
        }
        self.read += (head.len() + stored.len() + HASH) as u64;
        Ok((kind, len, stored))
    }

    /// Compares what was read with what the last frame says, and sees that it is the last.
    fn end(&mut self, said: &[u8]) -> Result<(), BackupError> {
        if said != encode_end(&self.tally.totals, &self.tally.digest().0) {
            return Err(self.damaged("the totals are others"));
        }
        let mut more = [0];
        match fill(self.input, &mut more, 0) {
            Err(BackupError::Truncated { .. }) => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(self.damaged("there is something after the end")),
        }
        self.ended = true;
        Ok(())
    }

    fn damaged(&self, detail: &'static str) -> BackupError {
        BackupError::Damaged {
            frame: self.tally.totals.frames,
            detail,
        }
    }
}

/// Reads a backup to its end and restores nothing: whether it is whole, and what is in it.
///
/// # Errors
/// Those of [`Reader`].
pub fn check(
    input: &mut dyn Read,
    progress: &mut dyn FnMut(&Totals),
) -> Result<(Label, Report), BackupError> {
    let mut reader = Reader::open(input)?;
    while reader.next_frame()?.is_some() {
        progress(reader.totals());
    }
    Ok((reader.label().clone(), reader.report()))
}

/// The hash of a frame and of all that came before it.
pub(crate) fn chained(before: &[u8; HASH], head: &[u8], stored: &[u8]) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new_derive_key("eidetica backup frame v1");
    hasher.update(before).update(head).update(stored);
    *hasher.finalize().as_bytes()
}

/// Reads so many bytes of a frame.
pub(crate) fn fill(input: &mut dyn Read, bytes: &mut [u8], frame: u64) -> Result<(), BackupError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Truncated { frame },
        _ => BackupError::Read(error),
    })
}
