//! The form in which people write and read authority: a map from names to
//!
//! ```json
//! {"pubkey": "ed25519:..", "permissions": {"Write": 10}, "status": "Active"}
//! ```
//!
//! where the name `*` with the pubkey `*` stands for everybody. The status of a key whose rights were
//! all taken is `"Revoked"`.

use eidetica_entry::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    name::{KeyName, NameError},
    permission::{Permission, Right},
    record::AuthRecord,
    state::{AuthState, KeyEntry},
};

const EVERYBODY: &str = "*";

/// The only status that can be given: what is taken is taken by a revocation.
const ACTIVE: &str = "Active";

const REVOKED: &str = "Revoked";

/// Why a map is not an authority section. Whoever wrote it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// An entry of another form.
    #[error("auth entry {name:?} is not {{\"pubkey\", \"permissions\", \"status\"}}: {detail}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What does not fit.
        detail: String,
    },
    /// A pubkey that is neither `*` nor a key.
    #[error("auth entry {name:?} has a pubkey that is neither * nor ed25519:<64 hex digits>")]
    Pubkey {
        /// The entry's name.
        name: String,
    },
    /// A status other than `Active`.
    #[error("auth entry {name:?} has the status {status:?}, only \"Active\" can be given")]
    Status {
        /// The entry's name.
        name: String,
        /// Its status.
        status: String,
    },
    /// A name that is none.
    #[error("auth entry: {0}")]
    Name(#[from] NameError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    pubkey: String,
    permissions: Value,
    status: String,
}

/// Reads an authority section, `{name: {"pubkey", "permissions", "status"}, ..}`.
///
/// # Errors
/// [`FormError`].
pub fn records_from_json(section: &Map<String, Value>) -> Result<Vec<AuthRecord>, FormError> {
    section
        .iter()
        .map(|(name, value)| record_from_json(name, value))
        .collect()
}

fn record_from_json(name: &str, value: &Value) -> Result<AuthRecord, FormError> {
    let wrong = |detail: serde_json::Error| FormError::Entry {
        name: name.into(),
        detail: detail.to_string(),
    };
    let form = Form::deserialize(value).map_err(wrong)?;
    let permission = Permission::deserialize(&form.permissions).map_err(wrong)?;
    if form.status != ACTIVE {
        return Err(FormError::Status {
            name: name.into(),
            status: form.status,
        });
    }
    if form.pubkey == EVERYBODY {
        return Ok(AuthRecord::Wildcard(Some(permission)));
    }
    let key = form
        .pubkey
        .parse()
        .map_err(|_| FormError::Pubkey { name: name.into() })?;
    Ok(AuthRecord::grant(key, permission, KeyName::new(name)?))
}

/// Writes the authority section that `state` amounts to. Keys are named by their names where those
/// are unique, otherwise by their text form; a recovery key is shown with `"permissions":
/// "Recovery"`, which cannot be given. A key of which nothing is left is shown with the strongest
/// right that it was given and the status `Revoked`, after those that have one.
pub fn section_to_json(state: &AuthState) -> Map<String, Value> {
    let mut section = Map::new();
    if let Some(permission) = state.wildcard() {
        let entry = entry_to_json(EVERYBODY.into(), permission.into(), ACTIVE);
        section.insert(EVERYBODY.into(), entry);
    }
    for (key, entry) in state.keys() {
        add_key(&mut section, key, entry, ACTIVE);
    }
    for (key, entry) in state.revoked_keys() {
        add_key(&mut section, key, &entry, REVOKED);
    }
    section
}

fn add_key(section: &mut Map<String, Value>, key: &PublicKey, entry: &KeyEntry, status: &str) {
    let name = entry.name.as_str();
    let free = !name.is_empty() && name != EVERYBODY && !section.contains_key(name);
    let name = if free { name.into() } else { key.to_string() };
    section.insert(name, entry_to_json(key.to_string(), entry.right, status));
}

fn entry_to_json(pubkey: String, right: Right, status: &str) -> Value {
    let permissions = match right {
        Right::Permission(Permission::Read) => "Read".into(),
        Right::Permission(Permission::Write(rank)) => serde_json::json!({ "Write": rank }),
        Right::Permission(Permission::Admin(rank)) => serde_json::json!({ "Admin": rank }),
        Right::Recovery => "Recovery".into(),
    };
    serde_json::json!({ "pubkey": pubkey, "permissions": permissions, "status": status })
}
