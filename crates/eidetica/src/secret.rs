//! Bytes that must not show: redacted in Debug, wiped when dropped, hex in stored rows.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize, de::Error as _};
use zeroize::Zeroizing;

/// Secret or sealed bytes as they stand in the instance's own data.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HexSecret(Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for HexSecret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl AsRef<[u8]> for HexSecret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HexSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HexSecret(..)")
    }
}

impl Serialize for HexSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new(String::with_capacity(2 * self.0.len()));
        HEXLOWER.encode_append(&self.0, &mut text);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for HexSecret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The error must not repeat the text.
        let bytes = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("not hex"))?;
        Ok(bytes.into())
    }
}
