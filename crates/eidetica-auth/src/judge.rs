//! The one function that judges entries, on every path they come by: commit, push, pull, bootstrap,
//! import and load. A verdict is a function of bytes alone: no clock, no order of arrival, no
//! comparison of ids.
//!
//! What is known today: rights from the root, grants and the wildcard, judged on the entry's own
//! past. Whatever it does not know (another kind of record, a delegation) it rejects.

use eidetica_entry::{Header, Id, PublicKey};

use crate::{
    key::{KeyError, check_public_key},
    lookup::{Lookup, Missing},
    permission::Right,
    record::{AuthRecord, SettingsError, SettingsPayload},
    state::AuthState,
};

/// What is to be thought of an entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verdict {
    /// Its author had the right to make it.
    Sound(Sound),
    /// It must never be stored, and nothing may build on it.
    Reject(Reject),
    /// Something that decides is not at hand: fetch it and judge again.
    Pending(Missing),
}

/// A sound entry.
#[derive(Debug, Clone)]
pub struct Sound {
    /// The strongest right that its author had there.
    pub strength: Right,
    /// What it says in `_settings`, and the state after it, if it writes there.
    pub settings: Option<SettingsWrite>,
}

/// The settings part of a sound entry.
#[derive(Debug, Clone)]
pub struct SettingsWrite {
    /// The decoded payload.
    pub payload: SettingsPayload,
    /// The rights that hold at this entry.
    pub after: AuthState,
}

/// Why an entry is rejected. Its author is to blame, and so is a peer that passes it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The author's key is none.
    #[error("the author's key is {0}")]
    AuthorKey(KeyError),
    /// The author has no right in this database.
    #[error("{0} has no right in this database")]
    NoRight(PublicKey),
    /// Data need `Write`.
    #[error("writing data needs Write, {key} has {right}")]
    NeedsWrite {
        /// The author.
        key: PublicKey,
        /// What it has.
        right: Right,
    },
    /// Settings need `Admin`.
    #[error("writing settings needs Admin, {key} has {right}")]
    NeedsAdmin {
        /// The author.
        key: PublicKey,
        /// What it has.
        right: Right,
    },
    /// A right as strong as the author's own, or stronger.
    #[error("an author with {author} grants {granted}")]
    GrantTooStrong {
        /// What the author has.
        author: Right,
        /// What it grants.
        granted: Right,
    },
    /// A root entry without settings.
    #[error("a root entry without settings")]
    RootWithoutSettings,
    /// A malformed `_settings` payload.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A right that is claimed by way of another database.
    #[error("delegation is not known to this program")]
    Delegation,
}

impl Reject {
    /// The reason as a number, for the wire. Numbers are never reused.
    pub fn code(&self) -> u16 {
        match self {
            Self::AuthorKey(_) => 1,
            Self::NoRight(_) => 2,
            Self::NeedsWrite { .. } => 3,
            Self::NeedsAdmin { .. } => 4,
            Self::GrantTooStrong { .. } => 5,
            Self::RootWithoutSettings => 6,
            Self::Settings(_) => 7,
            Self::Delegation => 8,
        }
    }
}

/// Judges the entry `id` with this header. `settings` are the bytes of its `_settings` payload,
/// where it writes there and they are at hand; `state` is the state at `header.settings`, for a
/// root entry the default one.
///
/// The caller has checked what does not need authority: that the bytes decode and give this id,
/// that the signature [verifies](crate::verify), that payloads fit their hashes, and that height
/// and settings are the derived ones.
///
/// # Errors
/// The lookup's.
pub fn judge<L: Lookup>(
    header: &Header,
    id: Id,
    settings: Option<&[u8]>,
    state: &AuthState,
    _lookup: &L,
) -> Result<Verdict, L::Error> {
    if header.writes_settings() && settings.is_none() {
        return Ok(Verdict::Pending(Missing::Settings));
    }
    let settings = settings.filter(|_| header.writes_settings());
    Ok(match examine(header, id, settings, state) {
        Ok(sound) => Verdict::Sound(sound),
        Err(reason) => Verdict::Reject(reason),
    })
}

fn examine(
    header: &Header,
    id: Id,
    settings: Option<&[u8]>,
    state: &AuthState,
) -> Result<Sound, Reject> {
    let key = header.author.key;
    // A key with a right of its own was checked where the grant was decoded: most entries need no
    // curve arithmetic here.
    if state.explicit_right_of(&key).is_none() {
        check_public_key(&key).map_err(Reject::AuthorKey)?;
    }
    if !header.author.via.is_empty() {
        return Err(Reject::Delegation);
    }
    let payload = settings.map(SettingsPayload::decode).transpose()?;
    let Some(payload) = payload else {
        return examine_data(header, key, state);
    };
    if header.is_root() {
        return examine_root(id, key, payload);
    }
    let right = state.right_of(&key).ok_or(Reject::NoRight(key))?;
    if !right.permission().can_admin() {
        return Err(Reject::NeedsAdmin { key, right });
    }
    payload
        .records()
        .iter()
        .try_for_each(|record| check_record(record, right))?;
    let after = state.apply(id, right, &payload);
    Ok(Sound {
        strength: right,
        settings: Some(SettingsWrite { payload, after }),
    })
}

fn examine_data(header: &Header, key: PublicKey, state: &AuthState) -> Result<Sound, Reject> {
    if header.is_root() {
        return Err(Reject::RootWithoutSettings);
    }
    let right = state.right_of(&key).ok_or(Reject::NoRight(key))?;
    match right.permission().can_write() {
        true => Ok(Sound {
            strength: right,
            settings: None,
        }),
        false => Err(Reject::NeedsWrite { key, right }),
    }
}

/// A root entry is its own source: it may name any keys at any right, its author among them as an
/// admin.
fn examine_root(id: Id, key: PublicKey, payload: SettingsPayload) -> Result<Sound, Reject> {
    let right = payload.right_of(&key).ok_or(Reject::NoRight(key))?;
    if !right.permission().can_admin() {
        return Err(Reject::NeedsAdmin { key, right });
    }
    let after = AuthState::default().apply(id, right, &payload);
    Ok(Sound {
        strength: right,
        settings: Some(SettingsWrite { payload, after }),
    })
}

fn check_record(record: &AuthRecord, author: Right) -> Result<(), Reject> {
    match record {
        AuthRecord::Grant {
            right: Right::Permission(granted),
            ..
        } if author.may_grant(*granted) => Ok(()),
        AuthRecord::Grant { right, .. } => Err(Reject::GrantTooStrong {
            author,
            granted: *right,
        }),
        // At most `Write` by its decoder, so weaker than any admin.
        AuthRecord::Wildcard(_) => Ok(()),
        _ => Err(Reject::Delegation),
    }
}
