//! What right the author of one entry has there.

use std::convert::Infallible;

use eidetica_entry::{Id, Ids, PublicKey};
use imbl::OrdSet;

use super::{
    AuthState, Control,
    clamp::{Clamp, Giver, Kind},
    facts::{KeyFacts, Place},
};
use crate::{
    delegation::Pinned,
    permission::{Permission, Right},
    standing::{Cut, VoidReason},
};

/// An entry, as seen by what may give it rights or take them.
pub(super) trait View {
    type Error;

    /// Whether the settings entry is in its past.
    fn reaches(&self, source: &Id) -> bool;

    /// Whether it lies outside the cut of a taking: of the revocation of `key`, or else of a
    /// setting.
    fn holds(
        &mut self,
        state: &AuthState,
        taking: &Control,
        key: Option<&PublicKey>,
    ) -> Result<bool, Self::Error>;
}

/// A new entry on top of all.
pub(super) struct Top;

impl View for Top {
    type Error = Infallible;

    fn reaches(&self, _: &Id) -> bool {
        true
    }

    fn holds(
        &mut self,
        _: &AuthState,
        _: &Control,
        _: Option<&PublicKey>,
    ) -> Result<bool, Infallible> {
        Ok(true)
    }
}

/// A settings entry among those of the state.
pub(super) struct OfControl<'a>(pub(super) &'a Control);

impl View for OfControl<'_> {
    type Error = Infallible;

    fn reaches(&self, source: &Id) -> bool {
        self.0.past.contains(source)
    }

    fn holds(
        &mut self,
        state: &AuthState,
        taking: &Control,
        key: Option<&PublicKey>,
    ) -> Result<bool, Infallible> {
        Ok(!state.is_cut(self.0, taking, key))
    }
}

/// A data entry whose settings have the state `at`.
pub(super) struct OfData<'a, F> {
    pub(super) at: &'a AuthState,
    pub(super) outside: F,
}

impl<E, F: FnMut(&Cut) -> Result<bool, E>> View for OfData<'_, F> {
    type Error = E;

    fn reaches(&self, source: &Id) -> bool {
        self.at.contains(source)
    }

    fn holds(
        &mut self,
        _: &AuthState,
        taking: &Control,
        key: Option<&PublicKey>,
    ) -> Result<bool, E> {
        match self.at.contains(&taking.id) {
            true => Ok(true),
            false => (self.outside)(&taking.cut(key)),
        }
    }
}

impl Control {
    /// The cut of its revocation of `key`, or of its settings.
    pub(super) fn cut(&self, key: Option<&PublicKey>) -> Cut {
        let explicit = key
            .and_then(|key| self.revocation(key))
            .and_then(|revocation| revocation.cut.clone());
        Cut {
            taking: self.id,
            below: explicit.unwrap_or_else(|| Ids::clone(&self.parents)),
        }
    }
}

/// A right that a source naming the key gives.
pub(super) struct Found {
    pub(super) right: Right,
    pub(super) source: Place,
    /// Nothing was taken from it.
    whole: bool,
}

/// Who is weighed.
#[derive(Clone, Copy)]
pub(super) struct Author<'a> {
    pub(super) key: &'a PublicKey,
    pub(super) pinned: Option<&'a Pinned>,
}

/// The first thing that failed.
pub(super) type Blame = Option<VoidReason>;

impl AuthState {
    /// Whether `entry` is in the cut of a taking, or below it.
    pub(super) fn is_cut(
        &self,
        entry: &Control,
        taking: &Control,
        key: Option<&PublicKey>,
    ) -> bool {
        match key.and_then(|key| taking.cut_heads(key)) {
            None => taking.past.contains(&entry.id),
            Some(heads) => heads.iter().any(|head| {
                let above = || self.control(head)?.past.contains(&entry.id).then_some(());
                *head == entry.id || above().is_some()
            }),
        }
    }

    /// The strongest right of any kind, for a data entry.
    pub(super) fn weigh<V: View>(
        &self,
        author: Author<'_>,
        entry: &Id,
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Right>, V::Error> {
        let revocations = self.revocation_clamps(author.key);
        let explicit = self.weigh_explicit(author.key, view, blame)?;
        let explicit = explicit.map(|found| found.right);
        let adopted = self.weigh_adopted(author.key, entry, &revocations, view, blame)?;
        let wildcard = self.weigh_wildcard(author.key, &revocations, view, blame)?;
        let delegated = self.weigh_delegated(author, &revocations, view, blame)?;
        Ok(explicit.max(adopted).max(wildcard).max(delegated))
    }

    /// The strongest right that settings need: the wildcard gives less.
    pub(super) fn weigh_control(&self, control: &Control, blame: &mut Blame) -> Option<Right> {
        if control.is_root() {
            return Some(control.strength);
        }
        let mut view = OfControl(control);
        let Ok(explicit) = self.weigh_explicit(&control.key, &mut view, blame);
        let explicit = explicit.map(|found| found.right);
        let author = Author {
            key: &control.key,
            pinned: control.pinned.as_deref(),
        };
        if author.pinned.is_none() {
            return explicit;
        }
        let revocations = self.revocation_clamps(&control.key);
        let Ok(delegated) = self.weigh_delegated(author, &revocations, &mut view, blame);
        explicit.max(delegated)
    }

    /// The strongest right by a source that names the key.
    pub(super) fn weigh_explicit<V: View>(
        &self,
        key: &PublicKey,
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Found>, V::Error> {
        let Some(facts) = self.rights.keys.get(key) else {
            return Ok(None);
        };
        let mut clamps: Option<Vec<Clamp>> = None;
        let mut best: Option<Found> = None;
        for source in &facts.sources {
            if let Some(best) = &best
                && (source.right() < best.right || (source.right() == best.right && best.whole))
            {
                break;
            }
            #[cfg(test)]
            super::tests::WEIGHED.set(super::tests::WEIGHED.get() + 1);
            if !view.reaches(&source.id()) {
                continue;
            }
            let Some((giver, right)) = self.giver(source.id(), source.rotation, source.right())
            else {
                blame.get_or_insert(VoidReason::SourceVoid {
                    source: source.id(),
                });
                continue;
            };
            let clamps = clamps.get_or_insert_with(|| self.clamps_on(key, facts, view));
            let least = best.as_ref().map(|best| best.right);
            let lowered = self.lower(right, Some(key), giver, clamps, view, (least, blame))?;
            let Some(right) = lowered else { continue };
            let found = Found {
                right,
                source: source.place(),
                whole: right == source.right(),
            };
            best = match best {
                Some(best) if (best.right, best.source) >= (found.right, found.source) => {
                    Some(Found {
                        whole: best.whole || (found.whole && found.right == best.right),
                        ..best
                    })
                }
                _ => Some(found),
            };
        }
        Ok(best)
    }

    /// The source and what it gives, unless it is void.
    fn giver(&self, id: Id, rotation: bool, right: Right) -> Option<(Giver<'_>, Right)> {
        let strength = self.strength_of(&id)?;
        let giver = Giver {
            control: self.control(&id)?,
            strength,
            names: true,
        };
        Some((giver, if rotation { strength } else { right }))
    }

    fn weigh_adopted<V: View>(
        &self,
        key: &PublicKey,
        entry: &Id,
        revocations: &[Clamp],
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Right>, V::Error> {
        let Some(adopters) = self.adopted.get(entry) else {
            return Ok(None);
        };
        let mut clamps = revocations.to_vec();
        let mut best = None;
        for id in adopters {
            let right = Right::from(Permission::Write(0));
            let Some((giver, right)) = self.giver(*id, false, right) else {
                continue;
            };
            let clamps = &mut clamps;
            best = best.max(self.lower(right, Some(key), giver, clamps, view, (best, blame))?);
        }
        Ok(best)
    }

    fn weigh_wildcard<V: View>(
        &self,
        key: &PublicKey,
        revocations: &[Clamp],
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Right>, V::Error> {
        let settings = &self.rights.wildcard.settings;
        let offer = |control: &Control| control.wildcard().flatten();
        let kind = Kind::Wildcard;
        self.weigh_settings(settings, offer, (kind, Some(key), revocations), view, blame)
    }

    /// What the wildcard gives to a new entry of a key that nothing is taken from.
    pub(super) fn weigh_wildcard_top(&self) -> Option<Permission> {
        let settings = &self.rights.wildcard.settings;
        let offer = |control: &Control| control.wildcard().flatten();
        let by = (Kind::Wildcard, None, [].as_slice());
        let Ok(right) = self.weigh_settings(settings, offer, by, &mut Top, &mut None);
        right.map(Right::permission)
    }

    fn weigh_delegated<V: View>(
        &self,
        author: Author<'_>,
        revocations: &[Clamp],
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Right>, V::Error> {
        let Some(pinned) = author.pinned else {
            return Ok(None);
        };
        let database = pinned.database();
        let Some(facts) = self.rights.delegations.get(&database) else {
            return Ok(None);
        };
        let offer = |control: &Control| {
            let bound = control.delegation(&database)?.bound?;
            let member = pinned.right_by(author.key, control.floor(&database))?;
            Some(bound.min(member.permission()))
        };
        let by = (Kind::Delegation, Some(author.key), revocations);
        self.weigh_settings(&facts.settings, offer, by, view, blame)
    }

    /// The strongest right that settings give, each taking from the others what is more than it
    /// gives.
    fn weigh_settings<V: View>(
        &self,
        settings: &OrdSet<Place>,
        offer: impl Fn(&Control) -> Option<Permission>,
        (kind, key, revocations): (Kind, Option<&PublicKey>, &[Clamp]),
        view: &mut V,
        blame: &mut Blame,
    ) -> Result<Option<Right>, V::Error> {
        let mut clamps: Option<Vec<Clamp>> = None;
        let mut best: Option<Right> = None;
        for place in settings.iter().rev() {
            #[cfg(test)]
            super::tests::WEIGHED.set(super::tests::WEIGHED.get() + 1);
            let Some(control) = self.control(&place.id).filter(|_| view.reaches(&place.id)) else {
                continue;
            };
            let Some(right) = offer(control).map(Right::from).filter(|r| Some(*r) > best) else {
                continue;
            };
            let Some(strength) = self.strength_of(&place.id) else {
                blame.get_or_insert(VoidReason::SourceVoid { source: place.id });
                continue;
            };
            let clamps = clamps.get_or_insert_with(|| {
                let others = settings.iter().filter_map(|place| {
                    let control = self.effective(&place.id)?;
                    let to = offer(control);
                    Some(self.clamp(*place, kind, to))
                });
                sorted(others.chain(revocations.iter().cloned()).collect())
            });
            let giver = Giver {
                control,
                strength,
                names: false,
            };
            best = best.max(self.lower(right, key, giver, clamps, view, (best, blame))?);
        }
        Ok(best)
    }

    /// What the takings leave of `right`; `None` too where it falls to `least`, which is had
    /// anyway, and says no more.
    fn lower<V: View>(
        &self,
        mut right: Right,
        key: Option<&PublicKey>,
        giver: Giver<'_>,
        clamps: &mut [Clamp],
        view: &mut V,
        (least, blame): (Option<Right>, &mut Blame),
    ) -> Result<Option<Right>, V::Error> {
        for clamp in clamps {
            if !clamp.lowers(right) || clamp.is_lifted_by(giver) {
                continue;
            }
            let holds = match (clamp.holds, self.control(&clamp.by.id)) {
                (Some(holds), _) => holds,
                (None, Some(taking)) => {
                    let key = key.filter(|_| clamp.kind == Kind::Revocation);
                    view.holds(self, taking, key)?
                }
                (None, None) => false,
            };
            clamp.holds = Some(holds);
            if !holds {
                continue;
            }
            blame.get_or_insert_with(|| clamp.reason());
            match clamp.to.map(Right::from) {
                Some(to) if Some(to) >= least => right = to,
                _ => return Ok(None),
            }
        }
        Ok(Some(right))
    }

    pub(super) fn clamp(&self, by: Place, kind: Kind, to: Option<Permission>) -> Clamp {
        Clamp {
            by,
            kind,
            strength: self
                .strength_of(&by.id)
                .unwrap_or(Right::Permission(Permission::Read)),
            to,
            holds: None,
        }
    }

    /// All takings that could bear on what sources naming `key` give.
    fn clamps_on<V: View>(&self, key: &PublicKey, facts: &KeyFacts, view: &V) -> Vec<Clamp> {
        let renounced = facts.renounced.iter().filter_map(|place| {
            self.effective(&place.id)
                .filter(|_| view.reaches(&place.id))?;
            let mut clamp = self.clamp(*place, Kind::Renounced, None);
            clamp.holds = Some(true);
            Some(clamp)
        });
        let mut clamps = self.revocation_clamps(key);
        clamps.extend(renounced);
        sorted(clamps)
    }

    /// The revocations of `key` that stand, strongest first.
    pub(super) fn revocation_clamps(&self, key: &PublicKey) -> Vec<Clamp> {
        let Some(facts) = self.rights.keys.get(key) else {
            return Vec::new();
        };
        let clamps = facts.revocations.iter().filter_map(|place| {
            let control = self.effective(&place.id)?;
            let to = control.revocation(key)?.to;
            let stands = !self.is_replaced(&place.id, key);
            stands.then(|| self.clamp(*place, Kind::Revocation, to))
        });
        sorted(clamps.collect())
    }
}

/// Strongest first: applied in this order, takings need one pass.
pub(super) fn sorted(mut clamps: Vec<Clamp>) -> Vec<Clamp> {
    clamps.sort_unstable_by_key(Clamp::order);
    clamps
}
