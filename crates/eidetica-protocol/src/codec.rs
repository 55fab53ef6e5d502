//! The one place that names bincode: variable-width little-endian integers, nothing trailing, and only the bytes
//! that the encoder would have written.

use serde::{Serialize, de::DeserializeOwned};

use crate::{limits, message::MessageError};

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<{ limits::CONTROL_FRAME }>()
}

/// Appends the bytes of `value` to `out`.
pub(crate) fn encode_into<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), MessageError> {
    let start = out.len();
    let config = bincode::config::standard();
    bincode::serde::encode_into_std_write(value, out, config)
        .map_err(|_| MessageError::Malformed)?;
    check_len(out.len() - start)
}

/// Decodes `bytes`. Allocates at most a small multiple of what is given.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    check_len(bytes.len())?;
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|_| MessageError::Malformed)?;
    let mut again = Vec::with_capacity(bytes.len());
    encode_into(&mut again, &value)?;
    if used == bytes.len() && again == bytes {
        Ok(value)
    } else {
        Err(MessageError::NotCanonical)
    }
}

fn check_len(len: usize) -> Result<(), MessageError> {
    if len < limits::CONTROL_FRAME {
        return Ok(());
    }
    Err(MessageError::TooLong {
        len,
        limit: limits::CONTROL_FRAME - 1,
    })
}
