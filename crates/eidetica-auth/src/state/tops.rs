//! What a new entry on top of everything may do: kept with the facts, so that asking is quick, and
//! carried on by a new entry without looking at what is below it.

use eidetica_entry::{Id, PublicKey};

use super::{AuthState, Control, Floor, KeyEntry, facts::KeyFacts, weigh::Top};
use crate::{
    permission::{Permission, Right},
    record::{AuthRecord, Revocation},
};

/// Takings of one subject that hold on top, strongest first, without those that another one of them
/// makes superfluous: each leaves less than all before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stairs(Vec<(Right, Option<Permission>)>);

impl Stairs {
    /// What is left of a right that lifts nothing.
    pub(crate) fn lower(&self, right: Right) -> Option<Right> {
        self.lower_by(right, |_| true)
    }

    /// What is left of a right whose source is above all takings and of this strength.
    fn lower_above(&self, right: Right, strength: Right) -> Option<Right> {
        self.lower_by(right, |taking| taking > strength)
    }

    fn lower_by(&self, right: Right, holds: impl Fn(Right) -> bool) -> Option<Right> {
        let mut left = right;
        for (strength, to) in &self.0 {
            let to = to.map(Right::from);
            if left < *strength && to < Some(left) && holds(*strength) {
                left = to?;
            }
        }
        Some(left)
    }

    fn add(&mut self, strength: Right, to: Option<Permission>) {
        let superfluous = |s: Right, t: Option<Permission>| {
            self.0
                .iter()
                .any(|(strength, to)| *strength >= s && *to <= t)
        };
        if superfluous(strength, to) {
            return;
        }
        self.0.retain(|(s, t)| *s > strength || *t < to);
        let at = self.0.partition_point(|(s, _)| *s > strength);
        self.0.insert(at, (strength, to));
    }

    /// Those of both.
    pub(super) fn with(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (strength, to) in &other.0 {
            all.add(*strength, *to);
        }
        all
    }

    fn above(&self, strength: Right) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(s, _)| *s > strength)
                .copied()
                .collect(),
        )
    }
}

/// What the wildcard gives on top.
#[derive(Debug, Clone, Default)]
pub(crate) struct WildcardTop {
    permission: Option<Permission>,
    stairs: Stairs,
}

impl WildcardTop {
    pub(crate) fn permission(&self) -> Option<Permission> {
        self.permission
    }

    /// This permission, with the settings of both.
    pub(super) fn with(&self, permission: Option<Permission>, other: &Self) -> Self {
        Self {
            permission,
            stairs: self.stairs.with(&other.stairs),
        }
    }

    fn raise(&mut self, strength: Right, permission: Option<Permission>) {
        // All that the wildcard gives is weaker than any admin, so that every setting reaches it.
        let old = self.permission.min(permission);
        let new = permission.and_then(|new| self.stairs.lower_above(new.into(), strength));
        self.permission = old.max(new.map(Right::permission));
        self.stairs.add(strength, permission);
    }
}

/// What one delegation gives on top.
#[derive(Debug, Clone, Default)]
pub(crate) struct DelegationTops {
    tops: Vec<DelegationTop>,
    stairs: Stairs,
    /// What pins must cover: maximal settings entries of the other database.
    floors: Vec<Id>,
}

#[derive(Debug, Clone)]
struct DelegationTop {
    strength: Right,
    bound: Permission,
    /// What the other settings take from this one.
    clamps: Stairs,
}

impl DelegationTops {
    /// What is left of what a key has in the other database, with these revocations of the key.
    pub(crate) fn lower(&self, right: Right, revoked: &Stairs) -> Option<Right> {
        let by_top = |top: &DelegationTop| top.lower(right, revoked);
        self.tops.iter().filter_map(by_top).max()
    }

    pub(crate) fn gives(&self) -> bool {
        self.lower(Right::Recovery, &Stairs::default()).is_some()
    }

    pub(crate) fn floors(&self) -> &[Id] {
        &self.floors
    }

    /// Adds a setting above all others.
    fn raise(&mut self, strength: Right, bound: Option<Permission>, floor: &[Id]) {
        let clamps = self.stairs.above(strength);
        for top in &mut self.tops {
            top.clamps.add(strength, bound);
        }
        if let Some(bound) = bound {
            let new = DelegationTop {
                strength,
                bound,
                clamps,
            };
            self.tops.retain(|top| !new.outdoes(top));
            self.tops.push(new);
        }
        self.stairs.add(strength, bound);
        // A new floor covers those below it: `judge` sees to that.
        self.floors = floor.to_vec();
    }
}

impl DelegationTop {
    /// What a revocation leaves may be weak enough for a setting to take, and the other way round: each
    /// in turn, until neither takes anything.
    fn lower(&self, right: Right, revoked: &Stairs) -> Option<Right> {
        let mut left = right.min(self.bound.into());
        loop {
            let next = revoked.lower(self.clamps.lower(left)?)?;
            if next == left {
                return Some(left);
            }
            left = next;
        }
    }

    /// Whether an older setting below this one gives nobody more than this one: it holds for less and
    /// is taken by at least as much.
    fn outdoes(&self, older: &Self) -> bool {
        let bound = Right::from(older.bound);
        older.strength <= self.strength && (older.bound <= self.bound || bound < self.strength)
    }
}

impl AuthState {
    /// Carries on by an entry above all others.
    pub(super) fn raise_tops(&mut self, control: &Control) {
        let mut again = Vec::new();
        for record in control.records.iter() {
            match record {
                AuthRecord::Grant { key, right, .. } => self.raise_key(control, key, *right),
                AuthRecord::Rotate { to, .. } => {
                    self.rights.key(&control.key).top = None;
                    match control.revocation(to) {
                        None => self.raise_key(control, to, control.strength),
                        // By the same entry, so not lifted.
                        Some(_) => again.push(*to),
                    }
                }
                // It had no more than what it gave up.
                AuthRecord::Renounce => self.rights.key(&control.key).top = None,
                AuthRecord::Wildcard(permission) => {
                    let facts = std::sync::Arc::make_mut(&mut self.rights.wildcard);
                    facts.top.raise(control.strength, *permission);
                }
                AuthRecord::Revoke(revocation) => {
                    if self.raise_revocation(control, revocation) {
                        again.push(revocation.key);
                    }
                }
                AuthRecord::Adopt { .. } => {}
                AuthRecord::Delegate(delegation) => {
                    let floor = control.floor(&delegation.database);
                    let heads = floor.map_or([].as_slice(), |floor| &floor.heads);
                    let facts = self.rights.delegation(&delegation.database);
                    facts.tops.raise(control.strength, delegation.bound, heads);
                }
            }
        }
        for key in again {
            self.retop_key(&key);
        }
    }

    fn raise_key(&mut self, control: &Control, key: &PublicKey, right: Right) {
        let source_strength = control.source_strength(control.strength);
        let facts = self.rights.key(key);
        let Some(right) = facts.stairs.lower_above(right, source_strength) else {
            return;
        };
        if facts.top().is_none_or(|top| right >= top.right) {
            let name = control.name_for(key);
            facts.top = Some((KeyEntry { right, name }, control.place()));
        }
    }

    /// Says whether the key must be weighed again: something but not all is left.
    fn raise_revocation(&mut self, control: &Control, revocation: &Revocation) -> bool {
        let facts = self.rights.key(&revocation.key);
        facts.stairs.add(control.strength, revocation.to);
        let Some(top) = facts.top() else {
            return false;
        };
        let to = revocation.to.map(Right::from);
        if top.right >= control.strength || Some(top.right) <= to {
            return false;
        }
        if to.is_none() {
            facts.top = None;
        }
        to.is_some()
    }

    /// Weighs a key anew.
    pub(super) fn retop_key(&mut self, key: &PublicKey) {
        let Ok(found) = self.weigh_explicit(key, &mut Top, &mut None);
        let top = found.and_then(|found| {
            let name = self.control(&found.source.id)?.name_for(key);
            let right = found.right;
            Some((KeyEntry { right, name }, found.source))
        });
        let mut stairs = Stairs::default();
        for clamp in self.revocation_clamps(key) {
            stairs.add(clamp.strength, clamp.to);
        }
        let facts: &mut KeyFacts = self.rights.key(key);
        facts.top = top;
        facts.stairs = stairs;
    }

    /// Weighs the wildcard anew.
    pub(super) fn retop_wildcard(&mut self) {
        let mut stairs = Stairs::default();
        for place in &self.rights.wildcard.settings {
            let Some(control) = self.effective(&place.id) else {
                continue;
            };
            if let (Some(strength), Some(permission)) =
                (self.strength_of(&place.id), control.wildcard())
            {
                stairs.add(strength, permission);
            }
        }
        let permission = self.weigh_wildcard_top();
        let facts = std::sync::Arc::make_mut(&mut self.rights.wildcard);
        facts.top = WildcardTop { permission, stairs };
    }

    /// Weighs a delegation anew. O(settings x those that none above them outdoes).
    pub(super) fn retop_delegation(&mut self, database: &Id) {
        let settings = self.delegation_settings(database);
        let mut stairs = Stairs::default();
        for setting in &settings {
            stairs.add(setting.strength, setting.bound);
        }
        let tops = DelegationTops {
            floors: highest_floors(&settings),
            tops: delegation_tops(&settings),
            stairs,
        };
        self.rights.delegation(database).tops = tops;
    }

    /// The settings of a delegation that stand, what is above first.
    fn delegation_settings(&self, database: &Id) -> Vec<Setting<'_>> {
        let facts = self.rights.delegations.get(database).into_iter();
        let places = facts.flat_map(|facts| facts.settings.iter().rev());
        let settings = places.filter_map(|place| {
            let control = self.effective(&place.id)?;
            Some(Setting {
                control,
                strength: self.strength_of(&place.id)?,
                bound: control.delegation(database)?.bound,
                floor: control.floor(database),
            })
        });
        settings.collect()
    }
}

/// A delegation setting that stands.
struct Setting<'a> {
    control: &'a Control,
    strength: Right,
    bound: Option<Permission>,
    floor: Option<&'a Floor>,
}

impl Setting<'_> {
    fn is_above(&self, other: &Self) -> bool {
        self.control.past.contains(&other.control.id)
    }

    /// Whether what it gives is exempt from what another one takes.
    fn lifts(&self, other: &Self) -> bool {
        self.control.id == other.control.id
            || (self.strength >= other.strength && self.is_above(other))
    }
}

/// What pins must cover, by settings of which those above come first.
fn highest_floors(settings: &[Setting<'_>]) -> Vec<Id> {
    let mut highest: Vec<&Setting<'_>> = Vec::new();
    for setting in settings {
        // A setting need not cover the floor of one below it that was void in its own past and counts by now.
        let covers = |high: &&Setting<'_>| {
            let floors = high.floor.zip(setting.floor);
            high.is_above(setting) && floors.is_some_and(|(high, floor)| high.covers(floor))
        };
        if !highest.iter().any(covers) {
            highest.push(setting);
        }
    }
    let floors = highest.iter().filter_map(|setting| setting.floor);
    floors
        .flat_map(|floor| floor.heads.iter().copied())
        .collect()
}

/// What settings give, of which those above come first, without those that give nobody more than one above.
fn delegation_tops(settings: &[Setting<'_>]) -> Vec<DelegationTop> {
    let mut tops: Vec<(&Setting<'_>, DelegationTop)> = Vec::new();
    for setting in settings {
        let Some(bound) = setting.bound else { continue };
        let mut new = DelegationTop {
            strength: setting.strength,
            bound,
            clamps: Stairs::default(),
        };
        let outdone = tops
            .iter()
            .any(|(above, top)| above.is_above(setting) && top.outdoes(&new));
        if outdone {
            continue;
        }
        for taking in settings.iter().filter(|taking| !setting.lifts(taking)) {
            new.clamps.add(taking.strength, taking.bound);
        }
        tops.push((setting, new));
    }
    tops.into_iter().map(|(_, top)| top).collect()
}
