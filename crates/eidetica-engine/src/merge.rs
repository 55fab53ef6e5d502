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
    let Some(theirs) = theirs else {
        return Ok(None);
    };
    let Some(ours) = ours else {
        let is_decided = kind == Kind::Incoming && IncomingRecord::read(key, theirs)?.is_decided();
        return Ok(is_decided.then(|| Bytes::copy_from_slice(theirs)));
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

/// A field: ours if we changed it.
pub(crate) fn changed<T: PartialEq + Clone>(base: &T, ours: &T, theirs: T) -> T {
    match ours == base {
        true => theirs,
        false => ours.clone(),
    }
}
