//! A private key on its way to another device: text, sealed by a passphrase.
//!
//! `eidetica-key-1:<64 hex digits of the public key>:<base64url>`, where the last part is a
//! [`PasswordSealed`] of the seed (32 bytes), the role (1 byte) and the name (UTF-8), bound to the
//! public key before it. No character needs quoting in a shell or a URL.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use eidetica_auth::{KeyName, PasswordSealed, SealError, SecretKey};
use zeroize::Zeroizing;

use super::{keyring::HeldKey, types::KeyRole};
use crate::{Error, KeyId, Result, clock::now_ms, limits};

const KIND: &str = "eidetica-key-";
const VERSION: &str = "1";
const KEY_PREFIX: &str = "ed25519:";
const SEED: usize = 32;

/// A private key that a passphrase has sealed, to be carried to another device as text
/// ([`Display`](fmt::Display) and [`FromStr`]). Whose key it is can be read without the passphrase,
/// nothing else can.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    id: KeyId,
    sealed: PasswordSealed,
}

/// Why a text is no [`SealedKey`]. The one who gave it is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealedKeyError {
    /// More than [`limits::SEALED_KEY_BYTES`].
    #[error("an exported key of {0} bytes, at most {limit} are allowed", limit = limits::SEALED_KEY_BYTES)]
    TooLong(usize),
    /// Another form.
    #[error("an exported key has the form eidetica-key-1:<64 hex digits>:<base64url>")]
    Form,
    /// A version that this program does not know.
    #[error("an exported key of another version than {VERSION}: a newer program can read it")]
    Version,
    /// It asks for more work than a key needs before it can be opened.
    #[error("an exported key that costs more to open than this program is willing to spend")]
    Cost,
    /// What is sealed is not the key that the text names.
    #[error("an exported key that holds something else than it says")]
    Content,
}

impl SealedKey {
    pub(crate) fn seal(key: &HeldKey, passphrase: &str) -> Result<Self> {
        if passphrase.chars().count() < limits::PASSPHRASE_CHARS {
            return Err(Error::WeakPassphrase);
        }
        let id = key.id();
        let mut secret = Zeroizing::new(Vec::with_capacity(SEED + 1 + key.name.len()));
        secret.extend_from_slice(key.secret.expose().as_ref());
        secret.push(match key.role {
            KeyRole::Signing => 0,
            KeyRole::Recovery => 1,
        });
        secret.extend_from_slice(key.name.as_bytes());
        let sealed = PasswordSealed::seal(&secret, passphrase, &context(id), &mut rand::rng())?;
        Ok(Self { id, sealed })
    }

    /// The key that is sealed: its public half.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn open(&self, passphrase: &str) -> Result<HeldKey> {
        let secret = self.sealed.open(passphrase, &context(self.id));
        let secret = secret.map_err(|error| match error {
            SealError::Refused => Error::Passphrase,
            other => Error::Seal(other),
        })?;
        let key = read(&secret).ok_or(SealedKeyError::Content)?;
        match key.id() == self.id {
            true => Ok(key),
            false => Err(SealedKeyError::Content.into()),
        }
    }
}

fn read(secret: &[u8]) -> Option<HeldKey> {
    let (seed, rest) = secret.split_first_chunk::<SEED>()?;
    let (role, name) = rest.split_first()?;
    let name = KeyName::new(std::str::from_utf8(name).ok()?).ok()?;
    Some(HeldKey {
        secret: Arc::new(SecretKey::from_bytes(seed)),
        name: name.to_string(),
        role: match role {
            0 => KeyRole::Signing,
            1 => KeyRole::Recovery,
            _ => return None,
        },
        added_at: now_ms(),
    })
}

fn context(id: KeyId) -> String {
    format!("eidetica/exported-key/{VERSION}/{id}")
}

impl fmt::Display for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.id.as_str().trim_start_matches(KEY_PREFIX);
        let sealed = BASE64URL_NOPAD.encode(&self.sealed.encode());
        write!(f, "{KIND}{VERSION}:{key}:{sealed}")
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKey(of {})", self.id)
    }
}

impl FromStr for SealedKey {
    type Err = Error;

    /// White space around the text, as files and terminals add it, is no part of it.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > limits::SEALED_KEY_BYTES {
            return Err(SealedKeyError::TooLong(text.len()).into());
        }
        let rest = text.strip_prefix(KIND).ok_or(SealedKeyError::Form)?;
        let (version, rest) = rest.split_once(':').ok_or(SealedKeyError::Form)?;
        if version != VERSION {
            return Err(SealedKeyError::Version.into());
        }
        let (key, sealed) = rest.split_once(':').ok_or(SealedKeyError::Form)?;
        let id = format!("{KEY_PREFIX}{key}").parse();
        let id = id.map_err(|_| SealedKeyError::Form)?;
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes());
        let bytes = bytes.map_err(|_| SealedKeyError::Form)?;
        let sealed = PasswordSealed::decode(&bytes).map_err(|error| match error {
            SealError::Version(_) => SealedKeyError::Version,
            SealError::Parameters => SealedKeyError::Cost,
            _ => SealedKeyError::Form,
        })?;
        let params = sealed.params();
        let is_dear = params.memory_kib > limits::SEALED_KEY_MEMORY_KIB
            || params.passes > limits::SEALED_KEY_PASSES;
        match is_dear {
            true => Err(SealedKeyError::Cost.into()),
            false => Ok(Self { id, sealed }),
        }
    }
}
