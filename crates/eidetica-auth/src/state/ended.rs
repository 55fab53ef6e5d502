//! What ended a right, for people who look back. Nothing is decided by it.

use eidetica_entry::Id;

use super::{
    AuthState, Control,
    clamp::{Clamp, Giver, Kind},
    facts::Place,
};
use crate::{
    permission::{Permission, Right},
    record::AuthRecord,
};

impl AuthState {
    /// The settings entry that takes, in whole or in part, what `record` of the entry `id` gives, from
    /// whoever writes on top of all: the strongest one. `None` while it holds, and for a record that gives
    /// nothing or stands in an entry that is void.
    pub fn ended_by(&self, id: &Id, record: &AuthRecord) -> Option<Id> {
        let control = self.control(id)?;
        let strength = self.strength_of(id)?;
        let (right, names, clamps) = match record {
            AuthRecord::Grant { key, right, .. } => (*right, true, self.takings_from(key)),
            AuthRecord::Rotate { to, .. } => (strength, true, self.takings_from(to)),
            AuthRecord::Wildcard(Some(permission)) => {
                let settings = self.rights.wildcard.settings.iter();
                let clamps = self.settings(settings, Kind::Wildcard, |control| {
                    control.wildcard().flatten()
                });
                (Right::from(*permission), false, clamps)
            }
            AuthRecord::Delegate(delegation) => {
                let facts = self.rights.delegations.get(&delegation.database)?;
                let clamps = self.settings(facts.settings.iter(), Kind::Delegation, |control| {
                    control.delegation(&delegation.database)?.bound
                });
                (Right::from(delegation.bound?), false, clamps)
            }
            _ => return None,
        };
        let giver = Giver {
            control,
            strength,
            names,
        };
        let takes = |clamp: &&Clamp| clamp.lowers(right) && !clamp.is_lifted_by(giver);
        let strongest = clamps
            .iter()
            .filter(takes)
            .min_by_key(|clamp| clamp.order());
        strongest.map(|clamp| clamp.by.id)
    }

    fn takings_from(&self, key: &eidetica_entry::PublicKey) -> Vec<Clamp> {
        let mut clamps = self.revocation_clamps(key);
        let renounced = self.rights.keys.get(key).into_iter();
        clamps
            .extend(renounced.flat_map(|facts| {
                self.settings(facts.renounced.iter(), Kind::Renounced, |_| None)
            }));
        clamps
    }

    fn settings<'a>(
        &self,
        places: impl Iterator<Item = &'a Place>,
        kind: Kind,
        to: impl Fn(&Control) -> Option<Permission>,
    ) -> Vec<Clamp> {
        let clamps = places.filter_map(|place| {
            let control = self.effective(&place.id)?;
            Some(Clamp {
                by: *place,
                kind,
                strength: self.strength_of(&place.id)?,
                to: to(control),
                holds: Some(true),
            })
        });
        clamps.collect()
    }
}
