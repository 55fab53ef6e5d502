//! How callers name keys and databases.

use std::{fmt, str::FromStr};

use eidetica_entry::{Id, PublicKey};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const LEN: usize = "ed25519:".len() + 64;

/// The id of a key: its public half. Small, `Copy`, and both text and bytes at hand.
///
/// Text: `ed25519:` and 64 lower-case hex digits.
#[derive(Clone, Copy)]
pub struct KeyId {
    key: PublicKey,
    /// The text form, all ASCII.
    text: [u8; LEN],
}

impl KeyId {
    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.key
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl From<PublicKey> for KeyId {
    fn from(key: PublicKey) -> Self {
        let mut text = [0; LEN];
        text.iter_mut()
            .zip(key.to_string().bytes())
            .for_each(|(to, from)| *to = from);
        Self { key, text }
    }
}

impl From<KeyId> for PublicKey {
    fn from(id: KeyId) -> Self {
        id.key
    }
}

impl AsRef<str> for KeyId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for KeyId {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for KeyId {}

impl PartialOrd for KeyId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl std::hash::Hash for KeyId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let key: Result<PublicKey, _> = text.parse();
        key.map(Self::from).map_err(|_| Error::Text {
            what: "a key id",
            form: "ed25519:<64 hex digits>",
        })
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.key.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PublicKey::deserialize(deserializer).map(Self::from)
    }
}

/// What names a key: its id, or the name that its owner gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// By id.
    Id(KeyId),
    /// By name.
    Name(String),
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// Arguments that name a key: a [`KeyId`], a [`PublicKey`], or text, which is an id if it has the
/// form of one and a name otherwise.
pub trait AsKey {
    /// The key that is meant.
    fn as_key(&self) -> KeyRef;
}

impl AsKey for KeyId {
    fn as_key(&self) -> KeyRef {
        KeyRef::Id(*self)
    }
}

impl AsKey for PublicKey {
    fn as_key(&self) -> KeyRef {
        KeyRef::Id((*self).into())
    }
}

impl AsKey for KeyRef {
    fn as_key(&self) -> KeyRef {
        self.clone()
    }
}

impl AsKey for str {
    fn as_key(&self) -> KeyRef {
        self.parse()
            .map_or_else(|_| KeyRef::Name(self.into()), KeyRef::Id)
    }
}

impl AsKey for String {
    fn as_key(&self) -> KeyRef {
        self.as_str().as_key()
    }
}

impl<T: AsKey + ?Sized> AsKey for &T {
    fn as_key(&self) -> KeyRef {
        (**self).as_key()
    }
}

/// Arguments that name a database: its [`Id`], or the text of one.
pub trait AsDatabaseId {
    /// The database that is meant.
    ///
    /// # Errors
    /// [`Error::Text`] where a text is no id.
    fn as_database_id(&self) -> Result<Id>;
}

impl AsDatabaseId for Id {
    fn as_database_id(&self) -> Result<Id> {
        Ok(*self)
    }
}

impl AsDatabaseId for str {
    fn as_database_id(&self) -> Result<Id> {
        self.parse().map_err(|_| Error::Text {
            what: "a database id",
            form: "64 lower-case hex digits",
        })
    }
}

impl AsDatabaseId for String {
    fn as_database_id(&self) -> Result<Id> {
        self.as_str().as_database_id()
    }
}

impl<T: AsDatabaseId + ?Sized> AsDatabaseId for &T {
    fn as_database_id(&self) -> Result<Id> {
        (**self).as_database_id()
    }
}
