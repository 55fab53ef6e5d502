//! The bytes of a `_settings` payload: every record by itself, so that one of unknown kind is known
//! for one.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::{Id, Ids, PublicKey};
use serde::{Deserialize, Serialize};

use super::{AuthRecord, Delegation, Revocation, SettingsError, SettingsPayload, kind};
use crate::{
    codec::{self, CodecError},
    limits,
    name::KeyName,
    permission::{Permission, Right},
};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct PayloadWire {
    version: u8,
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

#[derive(Serialize, Deserialize)]
struct RevokeWire {
    kind: u16,
    key: PublicKey,
    to: Option<Permission>,
    cut: Option<Vec<Id>>,
    replaces: Vec<Id>,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct RenounceWire {
    kind: u16,
}

#[derive(Serialize, Deserialize)]
struct RotateWire {
    kind: u16,
    to: PublicKey,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct AdoptWire {
    kind: u16,
    entries: Vec<Id>,
}

#[derive(Serialize, Deserialize)]
struct DelegateWire {
    kind: u16,
    database: Id,
    bound: Option<Permission>,
    floor: Vec<Id>,
    name: String,
}

pub(super) fn encode(payload: &SettingsPayload) -> Bytes {
    let records = payload.records.iter().map(encode_record).collect();
    codec::encode(&PayloadWire {
        version: VERSION,
        records,
        doc: payload.doc.clone(),
    })
    .into()
}

/// What the bytes say, its records not yet checked against each other.
pub(super) fn decode(bytes: &[u8]) -> Result<SettingsPayload, SettingsError> {
    if let Some(version) = bytes.first().filter(|version| **version != VERSION) {
        return Err(SettingsError::Version(*version));
    }
    let wire: PayloadWire = codec::decode::<_, { limits::SETTINGS_BYTES }>(bytes)?;
    if wire.records.len() > limits::RECORDS {
        return Err(SettingsError::TooManyRecords(wire.records.len()));
    }
    let records = wire.records.iter().map(|bytes| decode_record(bytes));
    Ok(SettingsPayload {
        records: records.collect::<Result<Arc<_>, _>>()?,
        doc: wire.doc,
    })
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
        AuthRecord::Revoke(revocation) => codec::encode(&RevokeWire {
            kind: kind::REVOKE,
            key: revocation.key,
            to: revocation.to,
            cut: revocation.cut.as_ref().map(|cut| cut.to_vec()),
            replaces: revocation.replaces.to_vec(),
            reason: revocation.reason.to_string(),
        }),
        AuthRecord::Renounce => codec::encode(&RenounceWire {
            kind: kind::RENOUNCE,
        }),
        AuthRecord::Rotate { to, name } => codec::encode(&RotateWire {
            kind: kind::ROTATE,
            to: *to,
            name: name.to_string(),
        }),
        AuthRecord::Adopt { entries } => codec::encode(&AdoptWire {
            kind: kind::ADOPT,
            entries: entries.to_vec(),
        }),
        AuthRecord::Delegate(delegation) => codec::encode(&DelegateWire {
            kind: kind::DELEGATE,
            database: delegation.database,
            bound: delegation.bound,
            floor: delegation.floor.to_vec(),
            name: delegation.name.to_string(),
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
            let wire: GrantWire = short(bytes)?;
            Ok(AuthRecord::Grant {
                key: wire.key,
                right: wire.right,
                name: KeyName::new(&wire.name)?,
            })
        }
        kind::WILDCARD => {
            let wire: WildcardWire = short(bytes)?;
            Ok(AuthRecord::Wildcard(wire.permission))
        }
        kind::REVOKE => {
            let wire: RevokeWire = long(bytes)?;
            Ok(AuthRecord::Revoke(Revocation {
                key: wire.key,
                to: wire.to,
                cut: wire.cut.map(sorted).transpose()?,
                replaces: sorted(wire.replaces)?,
                reason: KeyName::new(&wire.reason)?,
            }))
        }
        kind::RENOUNCE => short::<RenounceWire>(bytes).map(|_| AuthRecord::Renounce),
        kind::ROTATE => {
            let wire: RotateWire = short(bytes)?;
            Ok(AuthRecord::Rotate {
                to: wire.to,
                name: KeyName::new(&wire.name)?,
            })
        }
        kind::ADOPT => {
            let wire: AdoptWire = long(bytes)?;
            Ok(AuthRecord::Adopt {
                entries: sorted(wire.entries)?,
            })
        }
        kind::DELEGATE => {
            let wire: DelegateWire = long(bytes)?;
            Ok(AuthRecord::Delegate(Delegation {
                database: wire.database,
                bound: wire.bound,
                floor: sorted(wire.floor)?,
                name: KeyName::new(&wire.name)?,
            }))
        }
        _ => Err(SettingsError::UnknownKind(kind)),
    }
}

fn short<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, SettingsError> {
    Ok(codec::decode::<_, { limits::RECORD_BYTES }>(bytes)?)
}

fn long<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, SettingsError> {
    Ok(codec::decode::<_, { limits::LIST_RECORD_BYTES }>(bytes)?)
}

fn sorted(ids: Vec<Id>) -> Result<Ids, SettingsError> {
    Ids::from_sorted(ids).ok_or(SettingsError::NotSorted)
}
