//! Reads `_settings` payloads byte by byte, as `docs/formats/auth.md` has them.

use eidetica_entry::{Id, PublicKey};

use crate::resolver::Set;

/// A right, its strength as a number; 0 is none.
pub type Right = u64;
pub const READ: Right = 1;
pub const RECOVERY: Right = 1 << 40;

pub fn write(rank: u32) -> Right {
    (1 << 33) - Right::from(rank)
}

pub fn admin(rank: u32) -> Right {
    (1 << 35) - Right::from(rank)
}

pub enum Record {
    Grant {
        key: PublicKey,
        right: Right,
    },
    Wildcard(Right),
    Revoke {
        key: PublicKey,
        to: Right,
        cut: Option<Set>,
        replaces: Set,
    },
    Renounce,
    Rotate(PublicKey),
    Adopt(Set),
    Delegate(Delegation),
}

pub struct Delegation {
    pub database: Id,
    pub bound: Right,
    pub floor: Vec<Id>,
}

/// The records, and whether a document stands beside them. `None` if the bytes are no payload, or name entries that `find`
/// does not know.
pub fn parse(bytes: &[u8], find: impl Fn(&[Id]) -> Option<Set>) -> Option<(Vec<Record>, bool)> {
    let mut reader = Reader(bytes);
    let version = reader.take(1)?;
    let count = reader.len()?;
    let mut records = Vec::new();
    for _ in 0..count {
        let len = reader.len()?;
        records.push(record(reader.take(len)?, &find)?);
    }
    let len = reader.len()?;
    let doc = reader.take(len)?;
    (version == [1] && reader.0.is_empty()).then_some((records, !doc.is_empty()))
}

fn record(bytes: &[u8], find: impl Fn(&[Id]) -> Option<Set>) -> Option<Record> {
    let mut reader = Reader(bytes);
    let record = match reader.number(2)? {
        1 => {
            let (key, right) = (reader.key()?, reader.right()?);
            reader.text()?;
            Record::Grant { key, right }
        }
        2 => Record::Wildcard(reader.option(Reader::permission)?.unwrap_or(0)),
        3 => {
            let key = reader.key()?;
            let to = reader.option(Reader::permission)?.unwrap_or(0);
            let cut = reader.option(|reader| find(&reader.ids()?))?;
            let replaces = find(&reader.ids()?)?;
            reader.text()?;
            Record::Revoke {
                key,
                to,
                cut,
                replaces,
            }
        }
        4 => Record::Renounce,
        5 => {
            let key = reader.key()?;
            reader.text()?;
            Record::Rotate(key)
        }
        6 => Record::Adopt(find(&reader.ids()?)?),
        7 => {
            let database = reader.id()?;
            let bound = reader.option(Reader::permission)?.unwrap_or(0);
            let floor = reader.ids()?;
            reader.text()?;
            Record::Delegate(Delegation {
                database,
                bound,
                floor,
            })
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(record)
}

impl Record {
    /// What it grants to `key`.
    pub fn grants(&self, key: PublicKey) -> Option<Right> {
        match self {
            Self::Grant { key: to, right } if *to == key => Some(*right),
            _ => None,
        }
    }

    /// What a revocation of `key` replaces.
    pub fn replaces(&self, key: PublicKey) -> Option<Set> {
        match self {
            Self::Revoke {
                key: of, replaces, ..
            } if *of == key => Some(*replaces),
            _ => None,
        }
    }

    /// The rights that it names.
    pub fn rights(&self) -> Option<Right> {
        match self {
            Self::Grant { right, .. } | Self::Wildcard(right) => Some(*right),
            Self::Revoke { to, .. } => Some(*to),
            Self::Delegate(to) => Some(to.bound),
            Self::Renounce | Self::Rotate(_) | Self::Adopt(_) => None,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?.iter().rev();
        Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.number(8)?).ok()
    }

    fn key(&mut self) -> Option<PublicKey> {
        Some(PublicKey::new(self.take(32)?.try_into().ok()?))
    }

    fn id(&mut self) -> Option<Id> {
        Some(Id::new(self.take(32)?.try_into().ok()?))
    }

    fn ids(&mut self) -> Option<Vec<Id>> {
        (0..self.len()?).map(|_| self.id()).collect()
    }

    fn text(&mut self) -> Option<()> {
        let len = self.len()?;
        self.take(len).map(drop)
    }

    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.number(1)? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn permission(&mut self) -> Option<Right> {
        match self.number(4)? {
            0 => Some(READ),
            1 => Some(write(self.number(4)? as u32)),
            2 => Some(admin(self.number(4)? as u32)),
            _ => None,
        }
    }

    fn right(&mut self) -> Option<Right> {
        match self.number(4)? {
            0 => self.permission(),
            1 => Some(RECOVERY),
            _ => None,
        }
    }
}
