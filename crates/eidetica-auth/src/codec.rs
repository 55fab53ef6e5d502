//! The one place that names bincode: fixed-width little-endian, nothing trailing, and only the
//! bytes that the encoder would have written.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes did not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More bytes than the format allows.
    #[error("{len} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes end early, carry an unknown tag, or claim more than they hold.
    #[error("bytes that do not decode")]
    Malformed,
    /// The bytes decode, but the encoder would have written others.
    #[error("bytes in another than the canonical form")]
    NotCanonical,
}

fn config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
        .with_limit::<LIMIT>()
}

/// The canonical bytes of `value`.
#[expect(
    clippy::expect_used,
    reason = "the wire types have no failing Serialize and sequences of known length"
)]
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let config = bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian();
    bincode::serde::encode_to_vec(value, config).expect("wire types encode")
}

/// Decodes `bytes`, at most `LIMIT` of them. Allocates no more than a small multiple of what is
/// given.
pub(crate) fn decode<T: Serialize + DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong {
            len: bytes.len(),
            limit: LIMIT,
        });
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config::<LIMIT>())
        .map_err(|_| CodecError::Malformed)?;
    if used != bytes.len() || encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}
