//! A check sum on rows that nothing else could prove: names of stores, and local databases.
//!
//! Everything else in the engine is hashed into an entry's id or can be computed from entries again.

use bytes::Bytes;
use eidetica_storage::Row;

use crate::error::{Error, Result};

const SUM: usize = 8;

fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new_derive_key("eidetica local row v1");
    hasher
        .update(&(key.len() as u64).to_le_bytes())
        .update(key)
        .update(value);
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// The value with its check sum, which covers the key too.
pub(crate) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &sum(key, value)].concat()
}

/// The value that [`seal`] was given.
///
/// # Errors
/// [`Error::Corrupt`] if key or value have changed.
pub(crate) fn open(key: &[u8], sealed: &Bytes) -> Result<Bytes> {
    let found = sealed
        .split_last_chunk::<SUM>()
        .filter(|(value, found)| sum(key, value) == **found);
    match found {
        Some((value, _)) => Ok(sealed.slice(..value.len())),
        None => Err(Error::Corrupt("a row does not have its check sum".into())),
    }
}

/// Whether a row has its check sum.
pub(crate) fn is_sealed(row: &Row) -> bool {
    open(&row.key, &row.value).is_ok()
}
