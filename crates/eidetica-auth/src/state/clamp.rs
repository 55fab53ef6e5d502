//! Takings as they bear on one right.

use std::cmp::Reverse;

use super::{Control, facts::Place};
use crate::{
    permission::{Permission, Right},
    standing::VoidReason,
};

/// One taking that could lower a right.
#[derive(Debug, Clone)]
pub(super) struct Clamp {
    /// The entry that takes.
    pub(super) by: Place,
    /// By what.
    pub(super) kind: Kind,
    /// Its strength.
    pub(super) strength: Right,
    /// What is left.
    pub(super) to: Option<Permission>,
    /// Whether it holds for the weighed entry, once that was asked.
    pub(super) holds: Option<bool>,
}

/// By what something is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Revocation,
    /// Its author gave up what it had, so that it reaches what is as strong as itself.
    Renounced,
    Wildcard,
    Delegation,
}

/// A source whose right is weighed.
#[derive(Clone, Copy)]
pub(super) struct Giver<'a> {
    pub(super) control: &'a Control,
    pub(super) strength: Right,
    /// Whether it names the key, or the entry.
    pub(super) names: bool,
}

impl Clamp {
    /// Sorts what reaches further up first, and of equals the newest.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let inclusive = self.kind == Kind::Renounced;
        Reverse((self.strength, inclusive, self.by))
    }

    /// Whether it makes a difference to `right`.
    pub(super) fn lowers(&self, right: Right) -> bool {
        let touches = match self.kind {
            Kind::Renounced => right <= self.strength,
            _ => right < self.strength,
        };
        touches && self.to.map(Right::from) < Some(right)
    }

    /// Whether what `giver` gives is exempt.
    pub(super) fn is_lifted_by(&self, giver: Giver<'_>) -> bool {
        let source = giver.control;
        let exempt = match self.kind {
            // Not by the wildcard, not by a delegation: a revoked key does not come back that way.
            Kind::Revocation => {
                giver.names && source.source_strength(giver.strength) >= self.strength
            }
            Kind::Renounced => true,
            // A setting does not take from itself.
            Kind::Wildcard | Kind::Delegation if source.id == self.by.id => return true,
            Kind::Wildcard | Kind::Delegation => {
                source.source_strength(giver.strength) >= self.strength
            }
        };
        exempt && source.past.contains(&self.by.id)
    }

    pub(super) fn reason(&self) -> VoidReason {
        let by = self.by.id;
        match (self.kind, self.to) {
            (Kind::Wildcard, _) => VoidReason::WildcardTaken { by },
            (Kind::Delegation, _) => VoidReason::DelegationTaken { by },
            (_, None) => VoidReason::Revoked { by },
            (_, Some(to)) => VoidReason::Lowered { by, to },
        }
    }
}
