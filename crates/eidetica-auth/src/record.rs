//! Authority records and the payload of the `_settings` store that carries them.
//!
//! The payload has two parts: the records, which are read by the rules of this crate, and a
//! document (name, policies) whose bytes are opaque here. A payload whose first part is malformed
//! is no settings at all, and the entry that carries it is rejected.

use std::fmt;

use bytes::Bytes;
use eidetica_entry::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    key::{KeyError, check_public_key},
    limits,
    name::{KeyName, NameError},
    permission::{Permission, Right},
};

const VERSION: u8 = 1;

/// One statement about who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthRecord {
    /// Gives a right to a key. Grants only add: of several for one key the strongest counts.
    Grant {
        /// Whom.
        key: PublicKey,
        /// What. [`Right::Recovery`] only in a root entry.
        right: Right,
        /// What to call the key.
        name: KeyName,
    },
    /// Sets what every key may do, or turns it off with `None`. At most `Write`. It takes from
    /// other settings of the wildcard what is more than it gives.
    Wildcard(Option<Permission>),
}

/// The payload of a `_settings` store: authority records beside a document.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SettingsPayload {
    records: Vec<AuthRecord>,
    doc: Bytes,
}

/// Why a `_settings` payload is malformed. Its author is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The bytes are not those of a settings payload.
    #[error("a settings payload: {0}")]
    Codec(#[from] CodecError),
    /// A version of the payload that this program does not know.
    #[error("a settings payload of version {0}")]
    Version(u8),
    /// A kind of record that this program does not know.
    #[error("an authority record of unknown kind {0}")]
    UnknownKind(u16),
    /// More than [`limits::RECORDS`].
    #[error("{0} authority records, at most {limit} are allowed", limit = limits::RECORDS)]
    TooManyRecords(usize),
    /// Two records about the same thing, or records out of order.
    #[error("authority records that are repeated or out of order")]
    NotSorted,
    /// A right for a key that is none.
    #[error("an authority record for {key}: {error}")]
    Key {
        /// The key.
        key: PublicKey,
        /// What is wrong with it.
        error: KeyError,
    },
    /// A key's name that is not one.
    #[error("an authority record with {0}")]
    Name(#[from] NameError),
    /// A wildcard above `Write`.
    #[error("a wildcard of {0}, at most Write is allowed")]
    Wildcard(Permission),
}

impl AuthRecord {
    /// A grant of an ordinary permission.
    pub fn grant(key: PublicKey, permission: Permission, name: KeyName) -> Self {
        Self::Grant {
            key,
            right: permission.into(),
            name,
        }
    }

    /// What the record is about: at most one record of a payload is about the same.
    fn subject(&self) -> (u16, [u8; 32]) {
        match self {
            Self::Grant { key, .. } => (kind::GRANT, *key.as_bytes()),
            Self::Wildcard(_) => (kind::WILDCARD, [0; 32]),
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        match self {
            Self::Grant { key, .. } => {
                check_public_key(key).map_err(|error| SettingsError::Key { key: *key, error })
            }
            Self::Wildcard(Some(permission)) if permission.can_admin() => {
                Err(SettingsError::Wildcard(*permission))
            }
            Self::Wildcard(_) => Ok(()),
        }
    }
}

impl SettingsPayload {
    /// Puts the records in order and checks them.
    ///
    /// # Errors
    /// [`SettingsError`], except for its codec cases.
    pub fn new(mut records: Vec<AuthRecord>, doc: Bytes) -> Result<Self, SettingsError> {
        records.sort_unstable_by_key(AuthRecord::subject);
        let payload = Self { records, doc };
        payload.check()?;
        Ok(payload)
    }

    /// The authority records, in canonical order.
    pub fn records(&self) -> &[AuthRecord] {
        &self.records
    }

    /// The right that a grant in this payload gives to `key`.
    pub fn right_of(&self, key: &PublicKey) -> Option<Right> {
        self.records.iter().find_map(|record| match record {
            AuthRecord::Grant {
                key: granted,
                right,
                ..
            } if granted == key => Some(*right),
            _ => None,
        })
    }

    /// The bytes of the document part.
    pub fn doc(&self) -> &Bytes {
        &self.doc
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Bytes {
        let records = self.records.iter().map(encode_record).collect();
        codec::encode(&PayloadWire {
            version: VERSION,
            records,
            doc: self.doc.clone(),
        })
        .into()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SettingsError> {
        if let Some(version) = bytes.first().filter(|version| **version != VERSION) {
            return Err(SettingsError::Version(*version));
        }
        let wire: PayloadWire = codec::decode::<_, { limits::SETTINGS_BYTES }>(bytes)?;
        if wire.records.len() > limits::RECORDS {
            return Err(SettingsError::TooManyRecords(wire.records.len()));
        }
        let records = wire
            .records
            .iter()
            .map(|bytes| decode_record(bytes))
            .collect::<Result<_, _>>()?;
        let payload = Self {
            records,
            doc: wire.doc,
        };
        payload.check()?;
        Ok(payload)
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.records.len() > limits::RECORDS {
            return Err(SettingsError::TooManyRecords(self.records.len()));
        }
        if !self.records.is_sorted_by(|a, b| a.subject() < b.subject()) {
            return Err(SettingsError::NotSorted);
        }
        self.records.iter().try_for_each(AuthRecord::check)
    }
}

impl fmt::Debug for SettingsPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsPayload")
            .field("records", &self.records)
            .field("doc_bytes", &self.doc.len())
            .finish()
    }
}

/// Numbers of the record kinds on the wire.
mod kind {
    pub(super) const GRANT: u16 = 1;
    pub(super) const WILDCARD: u16 = 2;
}

#[derive(Serialize, Deserialize)]
struct PayloadWire {
    version: u8,
    /// Each by itself, so that a record of unknown kind is known for one.
    records: Vec<Bytes>,
    doc: Bytes,
}

#[derive(Serialize, Deserialize)]
struct GrantWire {
    kind: u16,
    key: PublicKey,
    right: Right,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct WildcardWire {
    kind: u16,
    permission: Option<Permission>,
}

fn encode_record(record: &AuthRecord) -> Bytes {
    let bytes = match record {
        AuthRecord::Grant { key, right, name } => codec::encode(&GrantWire {
            kind: kind::GRANT,
            key: *key,
            right: *right,
            name: name.to_string(),
        }),
        AuthRecord::Wildcard(permission) => codec::encode(&WildcardWire {
            kind: kind::WILDCARD,
            permission: *permission,
        }),
    };
    bytes.into()
}

fn decode_record(bytes: &[u8]) -> Result<AuthRecord, SettingsError> {
    let kind = bytes
        .first_chunk()
        .map(|kind| u16::from_le_bytes(*kind))
        .ok_or(CodecError::Malformed)?;
    match kind {
        kind::GRANT => {
            let wire: GrantWire = codec::decode::<_, { limits::RECORD_BYTES }>(bytes)?;
            Ok(AuthRecord::Grant {
                key: wire.key,
                right: wire.right,
                name: KeyName::new(&wire.name)?,
            })
        }
        kind::WILDCARD => {
            let wire: WildcardWire = codec::decode::<_, { limits::RECORD_BYTES }>(bytes)?;
            Ok(AuthRecord::Wildcard(wire.permission))
        }
        _ => Err(SettingsError::UnknownKind(kind)),
    }
}
