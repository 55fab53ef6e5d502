//! A user's secrets: in memory while logged in, sealed in the instance's own data.
//!
//! A random vault key seals every private key of the user. The password seals the vault key; a user
//! without a password has it beside the rest, so that those keys are as safe as the files are.

use std::{collections::BTreeMap, sync::Arc};

use eidetica_auth::{KeyName, PasswordSealed, SealError, Sealed, SecretKey, VaultKey};
use serde::{Deserialize, Serialize};

use crate::{
    Error, KeyId, KeyRef, Result,
    secret::HexSecret,
    user::types::{KeyInfo, KeyRole},
};

/// How a user's vault key is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vault {
    /// Whether the bytes are a [`PasswordSealed`]; otherwise they are the key itself.
    by_password: bool,
    bytes: HexSecret,
}

/// A private key at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) name: String,
    pub(crate) role: KeyRole,
    pub(crate) added_at: u64,
    /// A [`Sealed`].
    sealed: HexSecret,
}

/// A private key in memory.
#[derive(Debug, Clone)]
pub(crate) struct HeldKey {
    pub(crate) secret: Arc<SecretKey>,
    pub(crate) name: String,
    pub(crate) role: KeyRole,
    pub(crate) added_at: u64,
}

impl Vault {
    /// Seals `key` with the password, if there is one.
    pub(crate) fn seal(key: &VaultKey, uid: &str, password: Option<&str>) -> Result<Self> {
        let bytes = match password {
            Some(password) => PasswordSealed::seal(
                key.expose(),
                password,
                &vault_context(uid),
                &mut rand::rng(),
            )?
            .encode(),
            None => key.expose().to_vec(),
        };
        Ok(Self {
            by_password: password.is_some(),
            bytes: bytes.into(),
        })
    }

    /// Opens the vault, and says whether it should be sealed again at today's cost.
    ///
    /// Whatever is wrong takes the same time and gives [`Error::Login`]: see [`refuse`].
    pub(crate) fn open(&self, uid: &str, password: Option<&str>) -> Result<(VaultKey, bool)> {
        let key = |bytes: &[u8]| {
            bytes
                .try_into()
                .map(VaultKey::from_bytes)
                .map_err(|_| damaged(uid))
        };
        match password {
            None if !self.by_password => Ok((key(self.bytes.as_ref())?, false)),
            Some(password) if self.by_password => {
                let sealed = PasswordSealed::decode(self.bytes.as_ref())?;
                let bytes = sealed.open(password, &vault_context(uid))?;
                Ok((key(&bytes)?, sealed.needs_upgrade()))
            }
            password => Err(refuse(password)),
        }
    }
}

/// Refuses a login after as much work as a wrong password costs, so that time does not tell whether
/// there is such a user. Without a password no login costs anything.
pub(crate) fn refuse(password: Option<&str>) -> Error {
    if let Some(password) = password {
        drop(PasswordSealed::seal(
            &[0; 32],
            password,
            "",
            &mut rand::rng(),
        ));
    }
    Error::Login
}

impl HeldKey {
    pub(crate) fn id(&self) -> KeyId {
        self.secret.public().into()
    }

    pub(crate) fn seal(&self, vault: &VaultKey, uid: &str) -> Result<KeyRecord> {
        let id = self.id();
        let sealed = vault.seal(
            self.secret.expose().as_ref(),
            &key_context(uid, id),
            &mut rand::rng(),
        )?;
        let sealed = sealed.encode().into();
        Ok(KeyRecord {
            id,
            name: self.name.clone(),
            role: self.role,
            added_at: self.added_at,
            sealed,
        })
    }

    pub(crate) fn open(record: &KeyRecord, vault: &VaultKey, uid: &str) -> Result<Self> {
        let sealed = Sealed::decode(record.sealed.as_ref())?;
        let seed =
            vault
                .open(&sealed, &key_context(uid, record.id))
                .map_err(|error| match error {
                    SealError::Refused => damaged(uid),
                    other => other.into(),
                })?;
        let seed = seed.as_slice().try_into().map_err(|_| damaged(uid))?;
        let secret = Arc::new(SecretKey::from_bytes(seed));
        if KeyId::from(secret.public()) != record.id {
            return Err(damaged(uid));
        }
        Ok(Self {
            secret,
            name: record.name.clone(),
            role: record.role,
            added_at: record.added_at,
        })
    }
}

/// A logged-in user's keys.
#[derive(Debug, Clone)]
pub(crate) struct Keyring {
    pub(crate) vault: VaultKey,
    /// The vault key as it was stored: another one is there once the password is changed anywhere.
    pub(crate) sealed: Vault,
    pub(crate) default: KeyId,
    keys: BTreeMap<KeyId, HeldKey>,
}

impl Keyring {
    pub(crate) fn new(
        vault: VaultKey,
        sealed: Vault,
        default: KeyId,
        keys: impl IntoIterator<Item = HeldKey>,
    ) -> Self {
        Self {
            vault,
            sealed,
            default,
            keys: keys.into_iter().map(|key| (key.id(), key)).collect(),
        }
    }

    pub(crate) fn has_vault(&self, key: &VaultKey) -> bool {
        self.vault.expose() == key.expose()
    }

    /// `name` if no key has it, else with the first number after it that makes it so; empty where that
    /// would be too long.
    pub(crate) fn free_name(&self, name: &str) -> String {
        let is_free =
            |name: &str| name.is_empty() || self.keys.values().all(|key| key.name != name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        // One of more names than there are keys is free.
        let found = names
            .by_ref()
            .take(self.keys.len() + 1)
            .find(|name| is_free(name));
        found
            .filter(|name| KeyName::new(name).is_ok())
            .unwrap_or_default()
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&HeldKey> {
        self.keys.get(&id)
    }

    pub(crate) fn insert(&mut self, key: HeldKey) {
        self.keys.insert(key.id(), key);
    }

    pub(crate) fn remove(&mut self, id: KeyId) {
        self.keys.remove(&id);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyId, &HeldKey)> {
        self.keys.iter().map(|(id, key)| (*id, key))
    }

    /// The keys for ordinary signing, the default one first.
    pub(crate) fn signing(&self) -> impl Iterator<Item = (KeyId, &HeldKey)> {
        let first = self.keys.get_key_value(&self.default).into_iter();
        let others = self.keys.iter().filter(|(id, _)| **id != self.default);
        first
            .chain(others)
            .map(|(id, key)| (*id, key))
            .filter(|(_, key)| key.role == KeyRole::Signing)
    }

    /// All keys that `key` names: one by id, any number by name.
    pub(crate) fn find(&self, key: &KeyRef) -> Vec<(KeyId, Arc<SecretKey>)> {
        let named = |id: KeyId, held: &HeldKey| match key {
            KeyRef::Id(wanted) => id == *wanted,
            KeyRef::Name(name) => held.name == *name,
        };
        self.iter()
            .filter(|(id, held)| named(*id, held))
            .map(|(id, held)| (id, Arc::clone(&held.secret)))
            .collect()
    }

    pub(crate) fn infos(&self) -> Vec<KeyInfo> {
        let info = |(id, held): (KeyId, &HeldKey)| KeyInfo {
            id,
            name: held.name.clone(),
            role: held.role,
            is_default: id == self.default,
            added_at: held.added_at,
        };
        self.iter().map(info).collect()
    }
}

fn vault_context(uid: &str) -> String {
    format!("eidetica/user-vault/{uid}")
}

fn key_context(uid: &str, key: KeyId) -> String {
    format!("eidetica/user-key/{uid}/{key}")
}

fn damaged(uid: &str) -> Error {
    Error::Damaged(format!("the keys of user {uid}"))
}
