//! The shared face of the fixed-size byte types: ids, keys, hashes and signatures.

/// Writes `bytes` as lower-case hexadecimal.
pub(crate) fn write_hex(f: &mut core::fmt::Formatter<'_>, bytes: &[u8]) -> core::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes of lower-case hexadecimal; `None` for anything else.
pub(crate) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    let decoded = data_encoding::HEXLOWER.decode_mut(text.as_bytes(), &mut bytes);
    decoded.ok().map(|_| bytes)
}

/// Implements construction, text and serde forms of a byte array newtype.
///
/// serde: raw bytes without a length in binary formats, the text form in human-readable ones.
macro_rules! byte_type {
    ($name:ident, $len:literal, prefix: $prefix:literal) => {
        impl $name {
            /// Wraps raw bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The raw bytes, by value.
            pub const fn to_bytes(self) -> [u8; $len] {
                self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str($prefix)?;
                $crate::bytes32::write_hex(f, &self.0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                $crate::bytes32::write_hex(f, self.0.split_at(4).0)?;
                f.write_str("..)")
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::EntryError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .and_then($crate::bytes32::read_hex)
                    .map(Self)
                    .ok_or($crate::EntryError::Text {
                        what: stringify!($name),
                    })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                let mut tuple = serializer.serialize_tuple($len)?;
                for byte in &self.0 {
                    serde::ser::SerializeTuple::serialize_element(&mut tuple, byte)?;
                }
                serde::ser::SerializeTuple::end(tuple)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str(concat!(
                            stringify!($name),
                            " of ",
                            stringify!($len),
                            " bytes"
                        ))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        mut seq: A,
                    ) -> Result<$name, A::Error> {
                        let mut bytes = [0; $len];
                        for (i, byte) in bytes.iter_mut().enumerate() {
                            let next = seq.next_element()?;
                            *byte =
                                next.ok_or_else(|| serde::de::Error::invalid_length(i, &self))?;
                        }
                        Ok($name(bytes))
                    }
                }
                if deserializer.is_human_readable() {
                    return deserializer.deserialize_str(Visitor);
                }
                deserializer.deserialize_tuple($len, Visitor)
            }
        }
    };
}

pub(crate) use byte_type;
