//! Secret keys, and which public keys are fit for use.

use std::fmt;

use data_encoding::HEXLOWER;
use ed25519_dalek::Signer as _;
use eidetica_entry::{PublicKey, Signature};
use rand::CryptoRng;
use zeroize::Zeroizing;

/// Prefix of the text form of a secret key. It differs from that of a public key, so that one
/// cannot be pasted in place of the other.
const SECRET_PREFIX: &str = "ed25519-secret:";

/// An Ed25519 signing key. Wiped from memory when dropped; [`Debug`](fmt::Debug) shows the public
/// half only, and there is no `Display` or serde form: see [`expose`](Self::expose) and
/// [`expose_text`](Self::expose_text).
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// A new key from `rng`.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_bytes(&seed)
    }

    /// The key with this 32-byte seed (RFC 8032).
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The key with this text form, see [`expose_text`](Self::expose_text).
    ///
    /// # Errors
    /// [`KeyError::Text`] if it has another form. The error does not repeat the text.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let hex = text.strip_prefix(SECRET_PREFIX).ok_or(KeyError::Text)?;
        let bytes = Zeroizing::new(
            HEXLOWER
                .decode(hex.as_bytes())
                .map_err(|_| KeyError::Text)?,
        );
        let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Text)?;
        Ok(Self::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` (about 15 us). Everything that is signed with such a key begins with a
    /// domain tag that ends in a zero byte, so that no signature can serve another purpose.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(self.0.sign(message).to_bytes())
    }

    /// The secret seed. Whoever has it is the key.
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The secret seed as text: `ed25519-secret:` and 64 lower-case hex digits.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SECRET_PREFIX.len() + 64));
        text.push_str(SECRET_PREFIX);
        HEXLOWER.encode_append(self.expose().as_ref(), &mut text);
        text
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Why a key was refused. The one who gave it is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A point of small order: anybody can make signatures that it verifies.
    #[error("a public key of small order")]
    SmallOrder,
    /// Not a point of the curve, or not its canonical encoding.
    #[error("a public key that is no curve point")]
    NotAPoint,
    /// A secret key's text form that does not parse.
    #[error("a secret key in another form than ed25519-secret:<64 hex digits>")]
    Text,
}

/// Checks a public key where it enters: in a grant, a claim, a request, an address. Costs one point
/// decompression (about 4 us).
///
/// # Errors
/// [`KeyError::SmallOrder`] and [`KeyError::NotAPoint`].
pub fn check_public_key(key: &PublicKey) -> Result<(), KeyError> {
    let bytes = key.as_bytes();
    if is_small_order(bytes) {
        return Err(KeyError::SmallOrder);
    }
    let point = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
    if is_canonical(bytes) && !point.is_weak() {
        Ok(())
    } else {
        Err(KeyError::NotAPoint)
    }
}

/// Whether the 32 bytes encode, canonically or not, one of the eight points of small order.
pub(crate) fn is_small_order(bytes: &[u8; 32]) -> bool {
    let mut unsigned = *bytes;
    unsigned[31] &= 0x7f;
    SMALL_ORDER.contains(&unsigned)
}

/// Whether y is below the field's prime, 2^255 - 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    (high & 0x7f) != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed
}

/// The y coordinates of the points of small order, all encodings of each below 2^255; every one of
/// the seven occurs with both signs of x, which makes 14 encodings of 8 points.
const SMALL_ORDER: [[u8; 32]; 7] = [
    // y = 1, the identity
    edge(0x01, 0x00, 0x00),
    // y = -1, of order 2
    edge(0xec, 0xff, 0x7f),
    // y = 0, of order 4
    edge(0x00, 0x00, 0x00),
    // y = 0 as p, y = 1 as p + 1
    edge(0xed, 0xff, 0x7f),
    edge(0xee, 0xff, 0x7f),
    // the two y of order 8
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];

const fn edge(low: u8, middle: u8, high: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = low;
    bytes[31] = high;
    bytes
}
