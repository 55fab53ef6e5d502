//! Records that several processes write: what two of them made of the same one, put together.
//!
//! A process changes a record from what it knows (the base) to what it wants (ours), and finds what another one has
//! written meanwhile (theirs). Fields that one of them left alone are the other's. What is forgotten stays forgotten. A
//! decision stands, and that a grant is committed stands against a refusal. Places of invites are given once.

use bytes::Bytes;

use crate::{
    Invite, RestoreError,
    peers::{PairRecord, PeerRecord},
    record::{self, Kind},
    requests::IncomingRecord,
};

/// What is to be written in place of `theirs`.
///
/// # Errors
/// One of them is no record, or newer than this version.
pub fn merge(
    key: &str,
    base: Option<&[u8]>,
    ours: Option<&[u8]>,
    theirs: Option<&[u8]>,
) -> Result<Option<Bytes>, RestoreError> {
    let (kind, _) = Kind::split(key).ok_or_else(|| RestoreError::Corrupt {
        key: key.to_owned(),
    })?;
    let same = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    if base == theirs || ours == theirs || !kind.is_shared() {
        return Ok(same(ours));
    }
    if ours == base {
        return Ok(same(theirs));
    }
    // What one of them forgot and the other decided meanwhile stays decided.
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        let stays = match (kind, theirs) {
            (Kind::Peer, _) => !is_block(key, base)? && is_block(key, ours.or(theirs))?,
            (Kind::Incoming, Some(theirs)) => IncomingRecord::read(key, theirs)?.is_decided(),
            _ => false,
        };
        return Ok(same(ours.or(theirs)).filter(|_| stays));
    };
    let merged = match kind {
        Kind::Peer => {
            let base = base.map(|base| record::decode(key, base)).transpose()?;
            let ours: PeerRecord = record::decode(key, ours)?;
            record::encode(&ours.merge(base.unwrap_or_default(), record::decode(key, theirs)?))
        }
        Kind::Pair => {
            let base = base.map(|base| record::decode(key, base)).transpose()?;
            let ours: PairRecord = record::decode(key, ours)?;
            record::encode(&ours.merge(base.unwrap_or_default(), record::decode(key, theirs)?))
        }
        Kind::Incoming => {
            let ours = IncomingRecord::read(key, ours)?;
            record::encode(&ours.merge(IncomingRecord::read(key, theirs)?))
        }
        _ => {
            let base = base.map(|base| Invite::decode(key, base)).transpose()?;
            let ours = Invite::decode(key, ours)?;
            Invite::merge(base.as_ref(), &ours, Invite::decode(key, theirs)?).encode()
        }
    };
    Ok(Some(merged))
}

fn is_block(key: &str, record: Option<&[u8]>) -> Result<bool, RestoreError> {
    let record: Option<PeerRecord> = record.map(|bytes| record::decode(key, bytes)).transpose()?;
    Ok(record.is_some_and(|record| record.is_blocked()))
}

/// A field: ours if we changed it.
pub(crate) fn changed<T: PartialEq + Clone>(base: &T, ours: &T, theirs: T) -> T {
    match ours == base {
        true => theirs,
        false => ours.clone(),
    }
}
