//! What a key may do, as one order.

use std::{cmp::Reverse, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a key may do in a database. Ordered by strength: `Read < .. < Write(1) < Write(0) < .. <
/// Admin(1) < Admin(0)`; a lower rank is stronger.
///
/// Text: `Read`, `Write(10)`, `Admin(0)`. JSON: `"Read"`, `{"Write": 10}`, `{"Admin": 0}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Read all of it.
    Read,
    /// Write data at this rank.
    Write(u32),
    /// Change settings at this rank.
    Admin(u32),
}

/// A key's right: a [`Permission`], or what stands above all of them.
///
/// Recovery comes from the root entry alone and cannot be granted: it is the key with which a user
/// takes back a database from a stolen daily key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Right {
    /// An ordinary permission.
    Permission(Permission),
    /// Stronger than any `Admin`.
    Recovery,
}

impl Permission {
    /// Whether this permission lets its holder write data.
    pub fn can_write(self) -> bool {
        self > Self::Read
    }

    /// Whether this permission lets its holder change settings.
    pub fn can_admin(self) -> bool {
        matches!(self, Self::Admin(_))
    }

    fn strength(self) -> (u8, Reverse<u32>) {
        match self {
            Self::Read => (0, Reverse(0)),
            Self::Write(rank) => (1, Reverse(rank)),
            Self::Admin(rank) => (2, Reverse(rank)),
        }
    }
}

impl Ord for Permission {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.strength().cmp(&other.strength())
    }
}

impl PartialOrd for Permission {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Right {
    /// The strongest permission that this right includes.
    pub fn permission(self) -> Permission {
        match self {
            Self::Permission(permission) => permission,
            Self::Recovery => Permission::Admin(0),
        }
    }

    /// As [`may_grant`](Self::may_grant); nobody gives recovery.
    pub(crate) fn may_give(self, given: Right) -> bool {
        match given {
            Self::Permission(permission) => self.may_grant(permission),
            Self::Recovery => false,
        }
    }

    /// Whether an author of this strength may grant `granted`: settings are an admin's, and a grant
    /// gives strictly less than its author has, except that an `Admin(0)` may make another one.
    pub fn may_grant(self, granted: Permission) -> bool {
        let top = Self::Permission(Permission::Admin(0));
        self.permission().can_admin()
            && (self > Self::from(granted) || (self == top && granted == Permission::Admin(0)))
    }
}

impl From<Permission> for Right {
    fn from(permission: Permission) -> Self {
        Self::Permission(permission)
    }
}

/// What callers may name where a permission is asked for: a `Permission`, or one of its
/// constructors, `Permission::Write`, which asks for the weakest rank.
pub trait IntoPermission {
    /// The permission that is meant.
    fn into_permission(self) -> Permission;
}

impl IntoPermission for Permission {
    fn into_permission(self) -> Permission {
        self
    }
}

impl<F: FnOnce(u32) -> Permission> IntoPermission for F {
    fn into_permission(self) -> Permission {
        self(u32::MAX)
    }
}

/// A text that is no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a permission in another form than Read, Write(10) or Admin(0)")]
pub struct PermissionTextError;

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("Read"),
            Self::Write(rank) => write!(f, "Write({rank})"),
            Self::Admin(rank) => write!(f, "Admin({rank})"),
        }
    }
}

impl FromStr for Permission {
    type Err = PermissionTextError;

    fn from_str(text: &str) -> Result<Self, PermissionTextError> {
        let rank = |prefix: &str| {
            let digits = text.strip_prefix(prefix)?.strip_suffix(')')?;
            let canonical = digits.bytes().all(|b| b.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'));
            digits.parse().ok().filter(|_| canonical)
        };
        if text == "Read" {
            return Ok(Self::Read);
        }
        let write = rank("Write(").map(Self::Write);
        write
            .or_else(|| rank("Admin(").map(Self::Admin))
            .ok_or(PermissionTextError)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(permission) => permission.fmt(f),
            Self::Recovery => f.write_str("Recovery"),
        }
    }
}
