//! [`StoreName`]: the validated name of a store.

use core::fmt;
use std::borrow::Borrow;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::limits;

/// The name of a store in a database: 1 to 255 bytes of UTF-8 without control, line-breaking or
/// bidirectional formatting characters. Names that begin with `_` are reserved; `_settings` is the
/// only one there is.
///
/// Names compare by their bytes: nothing is normalised, so no other spelling is the settings store.
/// Clones share one allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(Arc<str>);

const SETTINGS: &str = "_settings";

/// Why a text is no store name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than [`limits::NAME_BYTES`].
    #[error("store name of {0} bytes, not 1 to {max}", max = limits::NAME_BYTES)]
    Length(usize),
    /// A control, line-breaking or bidirectional formatting character.
    #[error("store name contains the character U+{:04X}", *.0 as u32)]
    Character(char),
    /// Begins with `_` and is not `_settings`.
    #[error("store names that begin with '_' are reserved")]
    Reserved,
    /// Not UTF-8.
    #[error("store name is not UTF-8")]
    Utf8,
}

impl StoreName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > limits::NAME_BYTES {
            return Err(NameError::Length(name.len()));
        }
        if let Some(bad) = name.chars().find(|c| is_refused(*c)) {
            return Err(NameError::Character(bad));
        }
        if name.starts_with('_') && name != SETTINGS {
            return Err(NameError::Reserved);
        }
        Ok(Self(Arc::from(name)))
    }

    /// Checks and wraps a name in bytes; every `_settings` shares one allocation.
    ///
    /// # Errors
    /// Not UTF-8, or the rule that the name breaks.
    pub fn from_utf8(name: &[u8]) -> Result<Self, NameError> {
        match core::str::from_utf8(name).map_err(|_| NameError::Utf8)? {
            SETTINGS => Ok(Self::settings()),
            name => Self::new(name),
        }
    }

    /// `_settings`: the name, policies and authority of the database itself.
    pub fn settings() -> Self {
        static NAME: LazyLock<StoreName> = LazyLock::new(|| StoreName(Arc::from(SETTINGS)));
        NAME.clone()
    }

    /// Whether this is `_settings`.
    pub fn is_settings(&self) -> bool {
        &*self.0 == SETTINGS
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_refused(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for StoreName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for StoreName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for StoreName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl serde::Serialize for StoreName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for StoreName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}
