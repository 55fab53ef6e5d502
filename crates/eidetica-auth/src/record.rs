//! Authority records and the payload of the `_settings` store that carries them.
//!
//! The payload has two parts: the records, which are read by the rules of this crate, and a
//! document (name, policies) whose bytes are opaque here. A payload whose first part is malformed
//! is no settings at all, and the entry that carries it is rejected.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use eidetica_entry::{Id, Ids, PublicKey};

use crate::{
    codec::CodecError,
    key::{KeyError, check_public_key},
    limits,
    name::{KeyName, NameError},
    permission::{Permission, Right},
};

mod wire;

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
    /// Takes rights from a key.
    Revoke(Revocation),
    /// The author gives up the right that it makes this entry by, and weaker ones of its own.
    Renounce,
    /// The author hands the right that it makes this entry by to another key.
    Rotate {
        /// The new key.
        to: PublicKey,
        /// What to call it.
        name: KeyName,
    },
    /// Lets single data entries count as if their authors had `Write(0)` there.
    Adopt {
        /// Data entries in the past of the adopting one, at least one.
        entries: Ids,
    },
    /// Lets the keys of another database in.
    Delegate(Delegation),
}

/// What a revocation says. It takes what is weaker than its author and stronger than `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// From whom.
    pub key: PublicKey,
    /// What is left: nothing, or at most this.
    pub to: Option<Permission>,
    /// What stays as it was: these entries and all below them. `None` stands for the parents of the
    /// revocation, an empty list for nothing at all.
    pub cut: Option<Ids>,
    /// Earlier entries with revocations of the same key, for which this one stands from now on.
    pub replaces: Ids,
    /// Why, for people: a short text by the rules of a name.
    pub reason: KeyName,
}

impl Revocation {
    /// Takes everything from `key`, with the default cut.
    pub fn of(key: PublicKey) -> Self {
        Self {
            key,
            to: None,
            cut: None,
            replaces: Ids::new(),
            reason: KeyName::default(),
        }
    }
}

/// What a delegation setting says: keys have here what they have in another database, within a
/// bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The other database.
    pub database: Id,
    /// At most this; `None` turns the delegation off.
    pub bound: Option<Permission>,
    /// Entries of that database that everything delegated from now on must have known, at least
    /// one.
    pub floor: Ids,
    /// What to call it.
    pub name: KeyName,
}

/// The payload of a `_settings` store: authority records beside a document.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SettingsPayload {
    records: Arc<[AuthRecord]>,
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
    /// A list of ids that is empty and must not be, or longer than [`limits::RECORD_IDS`].
    #[error("an authority record with {0} ids, 1 to {limit} are allowed", limit = limits::RECORD_IDS)]
    Ids(usize),
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
    pub(crate) fn topic(&self) -> Topic {
        match self {
            Self::Grant { key, .. } => Topic::grant(key),
            Self::Wildcard(_) => Topic::WILDCARD,
            Self::Revoke(revocation) => Topic::revoke(&revocation.key),
            Self::Renounce => Topic(kind::RENOUNCE, [0; 32]),
            Self::Rotate { .. } => Topic::ROTATE,
            Self::Adopt { .. } => Topic(kind::ADOPT, [0; 32]),
            Self::Delegate(delegation) => Topic::delegate(&delegation.database),
        }
    }

    /// Whether making the record is every key's own business, whatever its right.
    pub(crate) fn concerns_author_only(&self) -> bool {
        matches!(self, Self::Renounce | Self::Rotate { .. })
    }

    fn check(&self) -> Result<(), SettingsError> {
        match self {
            Self::Grant { key, .. } | Self::Rotate { to: key, .. } => check_key(key),
            Self::Wildcard(Some(permission)) if permission.can_admin() => {
                Err(SettingsError::Wildcard(*permission))
            }
            Self::Revoke(revocation) => {
                // No curve arithmetic: what is no key has no rights, and may well be revoked.
                let cut = revocation.cut.as_ref().map_or(0, |cut| cut.len());
                check_ids(cut, 0).and_then(|()| check_ids(revocation.replaces.len(), 0))
            }
            Self::Adopt { entries } => check_ids(entries.len(), 1),
            Self::Delegate(delegation) => check_ids(delegation.floor.len(), 1),
            Self::Wildcard(_) | Self::Renounce => Ok(()),
        }
    }
}

fn check_key(key: &PublicKey) -> Result<(), SettingsError> {
    check_public_key(key).map_err(|error| SettingsError::Key { key: *key, error })
}

fn check_ids(count: usize, least: usize) -> Result<(), SettingsError> {
    match (least..=limits::RECORD_IDS).contains(&count) {
        true => Ok(()),
        false => Err(SettingsError::Ids(count)),
    }
}

impl SettingsPayload {
    /// Puts the records in order and checks them.
    ///
    /// # Errors
    /// [`SettingsError`], except for its codec cases.
    pub fn new(mut records: Vec<AuthRecord>, doc: Bytes) -> Result<Self, SettingsError> {
        records.sort_unstable_by_key(AuthRecord::topic);
        let payload = Self {
            records: records.into(),
            doc,
        };
        payload.check()?;
        Ok(payload)
    }

    /// The authority records, in canonical order.
    pub fn records(&self) -> &[AuthRecord] {
        &self.records
    }

    pub(crate) fn shared_records(&self) -> Arc<[AuthRecord]> {
        self.records.clone()
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
        wire::encode(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SettingsError> {
        let payload = wire::decode(bytes)?;
        payload.check()?;
        Ok(payload)
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.records.len() > limits::RECORDS {
            return Err(SettingsError::TooManyRecords(self.records.len()));
        }
        if !self.records.is_sorted_by(|a, b| a.topic() < b.topic()) {
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

/// What a record is about: its kind, and the key or database that it names. Records stand in this
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic(u16, [u8; 32]);

impl Topic {
    pub(crate) const WILDCARD: Self = Self(kind::WILDCARD, [0; 32]);
    pub(crate) const ROTATE: Self = Self(kind::ROTATE, [0; 32]);

    pub(crate) fn grant(key: &PublicKey) -> Self {
        Self(kind::GRANT, *key.as_bytes())
    }

    pub(crate) fn revoke(key: &PublicKey) -> Self {
        Self(kind::REVOKE, *key.as_bytes())
    }

    pub(crate) fn delegate(database: &Id) -> Self {
        Self(kind::DELEGATE, *database.as_bytes())
    }
}

/// Numbers of the record kinds on the wire.
mod kind {
    pub(super) const GRANT: u16 = 1;
    pub(super) const WILDCARD: u16 = 2;
    pub(super) const REVOKE: u16 = 3;
    pub(super) const RENOUNCE: u16 = 4;
    pub(super) const ROTATE: u16 = 5;
    pub(super) const ADOPT: u16 = 6;
    pub(super) const DELEGATE: u16 = 7;
}
