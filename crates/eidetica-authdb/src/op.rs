//! Operations and their bytes, which are the leaves of the range.

use eidetica_mmr::{Location, VarintError, read_varint, write_varint};

use crate::{Error, OperationError, limits};

/// The type of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys have their latest value: [`crate::Any`].
    Any,
    /// Keys are set once: [`crate::Immutable`].
    Immutable,
}

/// One entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The end of a batch.
    Commit {
        /// No operation before it is active.
        floor: Location,
        /// How many keys have a value.
        active: u64,
        /// What the application noted.
        metadata: Option<&'a [u8]>,
    },
    /// A key of an [`crate::Any`] gets a value, its first or another one.
    Update {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// A key of an [`crate::Any`] loses its value.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// A key of an [`crate::Immutable`] gets its value.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

const COMMIT: u8 = 0;
const UPDATE: u8 = 1;
const DELETE: u8 = 2;
const SET: u8 = 3;
/// Key lengths from here on follow in a number of their own.
const LONG_KEY: u8 = 63;

impl<'a> Operation<'a> {
    /// Appends the bytes. A key of 32 bytes and a value of 32 bytes take 66.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Commit {
                floor,
                active,
                metadata,
            } => {
                out.push(COMMIT << 6 | u8::from(metadata.is_some()));
                write_varint(out, floor.0);
                write_varint(out, active);
                if let Some(metadata) = metadata {
                    write_bytes(out, metadata);
                }
            }
            Self::Update { key, value } => {
                write_key(out, UPDATE, key);
                write_bytes(out, value);
            }
            Self::Delete { key } => write_key(out, DELETE, key),
            Self::Set { key, value } => {
                write_key(out, SET, key);
                write_bytes(out, value);
            }
        }
    }

    /// Reads an operation from the beginning of the bytes and says what follows it.
    ///
    /// # Errors
    /// [`OperationError`] unless the bytes begin with what encoding makes.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), OperationError> {
        let (first, rest) = bytes.split_first().ok_or(OperationError::Truncated)?;
        let (kind, low) = (first >> 6, first & LONG_KEY);
        if kind == COMMIT {
            return read_commit(low, rest);
        }
        let (length, rest) = match low {
            LONG_KEY => {
                let (more, rest) = number(rest)?;
                (more.saturating_add(u64::from(LONG_KEY)), rest)
            }
            short => (u64::from(short), rest),
        };
        if length == 0 || length > limits::KEY_BYTES as u64 {
            return Err(OperationError::Key);
        }
        let (key, rest) = take(rest, length)?;
        if kind == DELETE {
            return Ok((Self::Delete { key }, rest));
        }
        let (value, rest) = read_bytes(rest, limits::VALUE_BYTES)?;
        let operation = match kind {
            UPDATE => Self::Update { key, value },
            _ => Self::Set { key, value },
        };
        Ok((operation, rest))
    }

    /// How many bytes the operation has that the bytes begin with, `None` if they do not begin with one.
    #[must_use]
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let (_, rest) = Operation::read(bytes).ok()?;
        bytes.len().checked_sub(rest.len())
    }

    /// Reads an operation that takes all of the bytes.
    ///
    /// # Errors
    /// Those of [`Operation::read`]; [`OperationError::Trailing`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, OperationError> {
        let (operation, rest) = Self::read(bytes)?;
        if rest.is_empty() {
            Ok(operation)
        } else {
            Err(OperationError::Trailing)
        }
    }

    /// The key it is about, if any.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Commit { .. } => None,
            Self::Update { key, .. } | Self::Delete { key } | Self::Set { key, .. } => Some(key),
        }
    }

    /// Whether it may stand in a database of a type.
    #[must_use]
    pub fn belongs_to(&self, kind: Kind) -> bool {
        match self {
            Self::Commit { .. } => true,
            Self::Update { .. } | Self::Delete { .. } => kind == Kind::Any,
            Self::Set { .. } => kind == Kind::Immutable,
        }
    }
}

fn read_commit(low: u8, rest: &[u8]) -> Result<(Operation<'_>, &[u8]), OperationError> {
    let (floor, rest) = number(rest)?;
    let (active, rest) = number(rest)?;
    let (metadata, rest) = match low {
        0 => (None, rest),
        1 => {
            let (metadata, rest) = read_bytes(rest, limits::METADATA_BYTES)?;
            (Some(metadata), rest)
        }
        _ => return Err(OperationError::Number),
    };
    let floor = Location(floor);
    Ok((
        Operation::Commit {
            floor,
            active,
            metadata,
        },
        rest,
    ))
}

fn write_key(out: &mut Vec<u8>, kind: u8, key: &[u8]) {
    match u8::try_from(key.len()) {
        Ok(short) if short < LONG_KEY => out.push(kind << 6 | short),
        _ => {
            out.push(kind << 6 | LONG_KEY);
            write_varint(out, key.len() as u64 - u64::from(LONG_KEY));
        }
    }
    out.extend_from_slice(key);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_bytes(bytes: &[u8], most: usize) -> Result<(&[u8], &[u8]), OperationError> {
    let (length, rest) = number(bytes)?;
    if length > most as u64 {
        return Err(OperationError::Value);
    }
    take(rest, length)
}

fn take(bytes: &[u8], length: u64) -> Result<(&[u8], &[u8]), OperationError> {
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(OperationError::Truncated)
}

fn number(bytes: &[u8]) -> Result<(u64, &[u8]), OperationError> {
    read_varint(bytes).map_err(|error| match error {
        VarintError::Truncated => OperationError::Truncated,
        VarintError::Overlong => OperationError::Number,
    })
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    let length = key.len();
    if length == 0 || length > limits::KEY_BYTES {
        return Err(Error::Key { length });
    }
    Ok(())
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), Error> {
    let length = value.len();
    if length > limits::VALUE_BYTES {
        return Err(Error::Value { length });
    }
    Ok(())
}

pub(crate) fn check_metadata(metadata: Option<&[u8]>) -> Result<(), Error> {
    match metadata.map(<[u8]>::len) {
        Some(length) if length > limits::METADATA_BYTES => Err(Error::Metadata { length }),
        _ => Ok(()),
    }
}
