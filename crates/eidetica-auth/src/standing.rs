//! How an entry that is sound stands among all that is known.

use std::fmt;

use eidetica_entry::{Id, Ids, PublicKey};

use crate::{
    delegation::Pinned,
    permission::{Permission, Right},
};

/// How a sound entry stands under a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It counts; the strongest right that its author has there.
    Effective(Right),
    /// It does not count: entries outside its past took the right away.
    Void(VoidReason),
}

impl Standing {
    /// Whether the entry counts.
    pub fn is_effective(&self) -> bool {
        matches!(self, Self::Effective(_))
    }
}

/// Why a sound entry is void: the one taking, or the first source, that its author's strongest right
/// failed by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VoidReason {
    /// A revocation took the right.
    Revoked {
        /// The revoking entry.
        by: Id,
    },
    /// A revocation left a right that is too weak for the entry.
    Lowered {
        /// The revoking entry.
        by: Id,
        /// What is left.
        to: Permission,
    },
    /// The entry that gave the right is void itself.
    SourceVoid {
        /// Which.
        source: Id,
    },
    /// A setting of the wildcard took the right.
    WildcardTaken {
        /// The entry with the setting.
        by: Id,
    },
    /// A setting of the delegation took the right.
    DelegationTaken {
        /// The entry with the setting.
        by: Id,
    },
    /// What is left is too weak for what the entry says.
    TooWeak {
        /// What is left.
        right: Right,
    },
    /// Nothing gives its author a right.
    NoRight,
    /// It replaces a revocation that is stronger than the entry itself.
    ReplacesStronger {
        /// The replaced revocation.
        replaced: Id,
    },
}

impl VoidReason {
    /// The reason as a number, for rows and the wire. Numbers are never reused.
    pub fn code(&self) -> u16 {
        match self {
            Self::Revoked { .. } => 1,
            Self::Lowered { .. } => 2,
            Self::SourceVoid { .. } => 3,
            Self::WildcardTaken { .. } => 4,
            Self::DelegationTaken { .. } => 5,
            Self::TooWeak { .. } => 6,
            Self::ReplacesStronger { .. } => 7,
            Self::NoRight => 8,
        }
    }
}

impl fmt::Display for VoidReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked { by } => write!(f, "revoked by {by}"),
            Self::Lowered { by, to } => write!(f, "lowered to {to} by {by}"),
            Self::SourceVoid { source } => write!(f, "its right came from {source}, which is void"),
            Self::WildcardTaken { by } => write!(f, "the wildcard was lowered by {by}"),
            Self::DelegationTaken { by } => write!(f, "the delegation was lowered by {by}"),
            Self::TooWeak { right } => write!(f, "its author is left with {right}"),
            Self::NoRight => f.write_str("nothing gives its author a right"),
            Self::ReplacesStronger { replaced } => {
                write!(f, "it replaces {replaced}, which is stronger")
            }
        }
    }
}

/// A sound data entry whose standing is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The entry.
    pub id: Id,
    /// Who signed it.
    pub key: PublicKey,
    /// What its delegation pins, where it has one: see [`Pinned::read`].
    pub pinned: Option<&'a Pinned>,
}

/// What a taking leaves alone: these entries and all below them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// The settings entry that takes.
    pub taking: Id,
    /// The ids of an explicit cut, or the taking's parents.
    pub below: Ids,
}

/// Where standings may differ between two states. Covers every difference; may cover more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Entries that stand differently lie outside one of these cuts, or are named below. Ascending.
    pub cuts: Vec<Cut>,
    /// Data entries that adoptions name. Ascending.
    pub adopted: Vec<Id>,
    /// Settings entries of the older state that stand differently. Ascending.
    pub settings: Vec<Id>,
    /// The keys whose entries it is about, ascending; `None` if it may be any key's.
    pub keys: Option<Vec<PublicKey>>,
}
