//! The label of a backup: what it is, when it was made and of what.

use std::io::{Read, Write};

use crate::BackupError;
use crate::limits::{ENGINE_NAME_BYTES, LABEL_BYTES};
use crate::read::fill;

/// The format of backups that this build writes. It reads no other one yet.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 16] = b"eidetica backup\n";
const HASH: usize = 32;
const CONTEXT: &str = "eidetica backup label v1";

/// What a backup says of itself before its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Tells backups apart; random.
    pub id: [u8; 16],
    /// When it was made, in milliseconds since 1970, by the clock of who made it.
    pub created_ms: u64,
    /// The format of the rows.
    pub rows_format: u32,
    /// The engine that they were in; any other takes them too.
    pub engine: String,
}

impl Label {
    /// Writes the label; returns its hash, which the first frame continues, and its length.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<([u8; HASH], u64), BackupError> {
        let name = self.engine.as_bytes();
        let name = name.get(..ENGINE_NAME_BYTES).unwrap_or(name);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        let body_len = (16 + 8 + 4 + name.len()) as u32;
        bytes.extend_from_slice(&body_len.to_le_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        bytes.extend_from_slice(&self.rows_format.to_le_bytes());
        bytes.extend_from_slice(name);
        let hash = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&hash);
        out.write_all(&bytes).map_err(BackupError::Write)?;
        Ok((hash, bytes.len() as u64))
    }

    /// Reads a label and its hash.
    pub(crate) fn read(input: &mut dyn Read) -> Result<(Self, [u8; HASH], u64), BackupError> {
        let mut head = [0; MAGIC.len() + 8];
        fill(input, &mut head, 0).map_err(|error| match error {
            BackupError::Truncated { .. } => BackupError::NotABackup,
            error => error,
        })?;
        let (magic, numbers) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        let (format, body_len) = numbers.split_at(4);
        let format = number(format);
        if format > FORMAT {
            return Err(BackupError::NewerFormat {
                found: format,
                supported: FORMAT,
            });
        }
        let damaged = |detail| BackupError::Damaged { frame: 0, detail };
        let body_len = number(body_len) as usize;
        if format != FORMAT || body_len > LABEL_BYTES {
            return Err(damaged("the label does not decode"));
        }
        let mut body = vec![0; body_len];
        let mut hash = [0; HASH];
        fill(input, &mut body, 0)?;
        fill(input, &mut hash, 0)?;
        let bytes = [head.as_slice(), &body].concat();
        if blake3::derive_key(CONTEXT, &bytes) != hash {
            return Err(damaged("the label does not have its hash"));
        }
        let label = Self::decode(&body).ok_or_else(|| damaged("the label does not decode"))?;
        Ok((label, hash, (bytes.len() + HASH) as u64))
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (id, rest) = body.split_first_chunk()?;
        let (created_ms, rest) = rest.split_first_chunk()?;
        let (rows_format, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok()?;
        (name.len() <= ENGINE_NAME_BYTES).then(|| Self {
            id: *id,
            created_ms: u64::from_le_bytes(*created_ms),
            rows_format: u32::from_le_bytes(*rows_format),
            engine: name.to_owned(),
        })
    }
}

/// Four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}
