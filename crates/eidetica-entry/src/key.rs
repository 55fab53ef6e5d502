//! [`PublicKey`] and [`Signature`] as plain bytes. Whether they are good is judged by `eidetica-auth`.

use crate::bytes32::byte_type;

/// An Ed25519 public key as it stands in headers. Any 32 bytes; no curve check happens here.
///
/// Text form: `ed25519:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);
byte_type!(PublicKey, 32, prefix: "ed25519:");

/// An Ed25519 signature. Any 64 bytes; verified elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);
byte_type!(Signature, 64, prefix: "");
