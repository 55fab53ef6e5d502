//! Secrets at rest: a password opens a vault key, the vault key opens everything else. So one slow
//! hash opens a user's whole keyring, and a change of password rewrites one small envelope.
//!
//! Each secret is bound to a *context*, a short text that says what it is and whose; an envelope
//! that was moved to another place does not open there.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    codec::{self, CodecError},
    limits,
};

const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = limits::SECRET_BYTES + 1024;

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The password or key is wrong, or the envelope was altered or belongs elsewhere: one answer
    /// for all, since they cannot be told apart.
    #[error("the secret does not open with this password or key")]
    Refused,
    /// The envelope is of a version that this program does not know.
    #[error("a sealed secret of version {0}")]
    Version(u8),
    /// The envelope asks for no key derivation that this program would run.
    #[error("key derivation parameters out of range")]
    Parameters,
    /// The envelope's bytes are damaged.
    #[error("a sealed secret: {0}")]
    Codec(#[from] CodecError),
    /// The caller's secret is too long.
    #[error("a secret of {len} bytes, at most {limit} can be sealed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// The cost of turning a password into a key: Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdfParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfParams {
    /// What new envelopes are made with: 64 MiB, three passes, one lane; about 0.15 s.
    pub const CURRENT: Self = Self {
        memory_kib: 64 << 10,
        passes: 3,
        lanes: 1,
    };

    fn check(self) -> Result<Params, SealError> {
        let Self {
            memory_kib,
            passes,
            lanes,
        } = self;
        if memory_kib > limits::KDF_MEMORY_KIB
            || passes > limits::KDF_PASSES
            || lanes > limits::KDF_LANES
        {
            return Err(SealError::Parameters);
        }
        Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| SealError::Parameters)
    }

    fn derive(self, password: &str, salt: &[u8; 16]) -> Result<VaultKey, SealError> {
        let params = self.check()?;
        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
        let mut key = VaultKey([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                password.as_bytes(),
                salt,
                &mut key.0,
                memory.as_mut_slice(),
            )
            .map_err(|_| SealError::Parameters)?;
        Ok(key)
    }
}

/// A random symmetric key that seals the secrets of one user. Wiped when dropped, redacted in
/// Debug.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey(..)")
    }
}

impl VaultKey {
    /// A new key from `rng`.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Self([0; 32]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// The key that [`expose`](Self::expose) gave.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The key's bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `secret` for `context`.
    ///
    /// # Errors
    /// [`SealError::TooLong`].
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        secret: &[u8],
        context: &str,
        rng: &mut R,
    ) -> Result<Sealed, SealError> {
        check_length(secret)?;
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let payload = Payload {
            msg: secret,
            aad: context.as_bytes(),
        };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::Refused)?;
        Ok(Sealed {
            version: VERSION,
            nonce,
            ciphertext,
        })
    }

    /// Opens what was sealed for the same `context`.
    ///
    /// # Errors
    /// [`SealError::Refused`] and [`SealError::Version`].
    pub fn open(&self, sealed: &Sealed, context: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if sealed.version != VERSION {
            return Err(SealError::Version(sealed.version));
        }
        let payload = Payload {
            msg: &sealed.ciphertext,
            aad: context.as_bytes(),
        };
        let secret = self.cipher().decrypt(&XNonce::from(sealed.nonce), payload);
        secret.map(Zeroizing::new).map_err(|_| SealError::Refused)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

/// A secret sealed by a [`VaultKey`] with XChaCha20-Poly1305.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    version: u8,
    nonce: [u8; 24],
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// The envelope's bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an envelope's bytes.
    ///
    /// # Errors
    /// [`SealError::Codec`] and [`SealError::Version`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        check_version(bytes)?;
        Ok(codec::decode::<Self, ENVELOPE_BYTES>(bytes)?)
    }
}

/// A secret sealed by a password: Argon2id, then XChaCha20-Poly1305.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordSealed {
    version: u8,
    params: KdfParams,
    salt: [u8; 16],
    sealed: Sealed,
}

impl PasswordSealed {
    /// Seals `secret` for `context` at the [current cost](KdfParams::CURRENT).
    ///
    /// # Errors
    /// [`SealError::TooLong`].
    pub fn seal<R: CryptoRng + ?Sized>(
        secret: &[u8],
        password: &str,
        context: &str,
        rng: &mut R,
    ) -> Result<Self, SealError> {
        Self::seal_with(KdfParams::CURRENT, secret, password, context, rng)
    }

    /// Seals at a chosen cost.
    ///
    /// # Errors
    /// [`SealError::TooLong`] and [`SealError::Parameters`].
    pub fn seal_with<R: CryptoRng + ?Sized>(
        params: KdfParams,
        secret: &[u8],
        password: &str,
        context: &str,
        rng: &mut R,
    ) -> Result<Self, SealError> {
        check_length(secret)?;
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let sealed = params.derive(password, &salt)?.seal(secret, context, rng)?;
        Ok(Self {
            version: VERSION,
            params,
            salt,
            sealed,
        })
    }

    /// Opens what was sealed with the same password for the same `context`. Costs what the
    /// envelope's parameters say, right or wrong.
    ///
    /// # Errors
    /// [`SealError::Refused`], [`SealError::Version`] and [`SealError::Parameters`].
    pub fn open(&self, password: &str, context: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.params
            .derive(password, &self.salt)?
            .open(&self.sealed, context)
    }

    /// Whether the envelope is weaker than what would be made today: seal again at the next login,
    /// while the password is at hand.
    pub fn needs_upgrade(&self) -> bool {
        let KdfParams {
            memory_kib, passes, ..
        } = KdfParams::CURRENT;
        self.version < VERSION || self.params.memory_kib < memory_kib || self.params.passes < passes
    }

    /// The envelope's cost.
    pub fn params(&self) -> KdfParams {
        self.params
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an envelope's bytes; no key is derived.
    ///
    /// # Errors
    /// [`SealError::Codec`], [`SealError::Version`] and [`SealError::Parameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        check_version(bytes)?;
        let envelope: Self = codec::decode::<Self, ENVELOPE_BYTES>(bytes)?;
        envelope.params.check()?;
        Ok(envelope)
    }
}

fn check_version(bytes: &[u8]) -> Result<(), SealError> {
    match bytes.first() {
        Some(version) if *version != VERSION => Err(SealError::Version(*version)),
        _ => Ok(()),
    }
}

fn check_length(secret: &[u8]) -> Result<(), SealError> {
    match secret.len() {
        len if len > limits::SECRET_BYTES => Err(SealError::TooLong {
            len,
            limit: limits::SECRET_BYTES,
        }),
        _ => Ok(()),
    }
}
