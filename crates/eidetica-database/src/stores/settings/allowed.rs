//! What an author may change in the settings, said before anything is made: the rules themselves are
//! `eidetica_auth::judge`, which the commit asks; here is the answer in words, and who to turn to.

use std::fmt;

use eidetica_auth::{AuthState, KeyName, Permission, Right};
use eidetica_entry::{Id, PublicKey};

use crate::error::{Error, Result};
use crate::limits;

/// A change of settings that would be refused or void, and who could make it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAllowed {
    /// Who wanted it.
    pub author: PublicKey,
    /// What the author has; `None` for nothing.
    pub right: Option<Right>,
    /// What was wanted.
    pub act: Act,
    /// Keys that could, the weakest first, at most [`limits::HELPERS`].
    pub ask: Vec<(PublicKey, Right, KeyName)>,
}

/// A change of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// Changing settings at all.
    Change,
    /// Granting a right.
    Grant(Permission),
    /// Taking a right from a key.
    Take {
        /// What it has.
        right: Right,
        /// Which.
        key: PublicKey,
    },
    /// Undoing a revocation, by replacing it or by adopting what it made void.
    Undo {
        /// The entry that revokes.
        revocation: Id,
        /// Its strength.
        strength: Right,
    },
    /// Delegating to another database up to a right.
    Delegate(Permission),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change => f.write_str("change settings"),
            Self::Grant(permission) => write!(f, "grant {permission}"),
            Self::Take { right, key } => write!(f, "take {right} from {key}"),
            Self::Undo {
                revocation,
                strength,
            } => write!(f, "undo the revocation {revocation}, made with {strength}"),
            Self::Delegate(permission) => write!(f, "delegate {permission}"),
        }
    }
}

impl Act {
    /// Whether somebody with this right may do it.
    fn is_allowed(&self, right: Right) -> bool {
        let is_admin = right.permission().can_admin();
        match self {
            Self::Change => is_admin,
            Self::Grant(permission) | Self::Delegate(permission) => right.may_grant(*permission),
            Self::Take { right: taken, .. } => is_admin && right > *taken,
            Self::Undo { strength, .. } => is_admin && right >= *strength,
        }
    }
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.right {
            Some(right) => write!(f, "an author with {right} cannot {}", self.act)?,
            None => write!(f, "{} has no right and cannot {}", self.author, self.act)?,
        }
        if self.ask.is_empty() {
            return f.write_str("; no key of this database can");
        }
        f.write_str("; ask one of: ")?;
        for (at, (key, right, name)) in self.ask.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match name.as_str() {
                "" => write!(f, "{key} ({right})")?,
                name => write!(f, "{name} ({right})")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for NotAllowed {}

/// Whether `author` may do this at `state`; gives the right it does it by.
pub(super) fn check(state: &AuthState, author: PublicKey, act: Act) -> Result<Right> {
    let right = state.right_of(&author);
    if let Some(right) = right.filter(|right| act.is_allowed(*right)) {
        return Ok(right);
    }
    let able = state
        .keys()
        .filter(|(_, entry)| act.is_allowed(entry.right));
    let mut ask: Vec<_> = able
        .map(|(key, entry)| (*key, entry.right, entry.name.clone()))
        .collect();
    ask.sort_by(|a, b| (a.1, &a.2, a.0).cmp(&(b.1, &b.2, b.0)));
    ask.truncate(limits::HELPERS);
    Err(Error::NotAllowed(Box::new(NotAllowed {
        author,
        right,
        act,
        ask,
    })))
}
