//! What may stand differently under one state than under an older one.

use std::collections::BTreeSet;

use eidetica_entry::{Id, Ids, PublicKey};
use imbl::ordmap::DiffItem;

use super::{AuthState, Control};
use crate::{
    record::AuthRecord,
    standing::{Changes, Cut},
};

#[derive(Default)]
struct Found {
    cuts: BTreeSet<Cut>,
    adopted: BTreeSet<Id>,
    settings: BTreeSet<Id>,
    keys: BTreeSet<PublicKey>,
    any_key: bool,
}

impl AuthState {
    /// What may stand differently under this state than under `older`, which this one must
    /// [cover](Self::covers). O(what this state has more, and what settings entries changed).
    pub fn changes_since(&self, older: &Self) -> Changes {
        let mut found = Found::default();
        for control in self.beyond(older) {
            if self.strength_of(&control.id).is_some() {
                self.find_takings(&control, &mut found);
            }
        }
        for item in older.changed.diff(&self.changed) {
            let id = changed_id(&item);
            if let Some(control) = self.control(id).filter(|_| older.contains(id)) {
                found.settings.insert(*id);
                self.find_takings(control, &mut found);
                self.find_sources(control, &mut found);
            }
        }
        Changes {
            cuts: found.cuts.into_iter().collect(),
            adopted: found.adopted.into_iter().collect(),
            settings: found.settings.into_iter().collect(),
            keys: (!found.any_key).then(|| found.keys.into_iter().collect()),
        }
    }

    /// Changes that bear on every entry: those of a state from nothing.
    pub fn everything(&self) -> Changes {
        let root = self.controls.values().find(|control| control.is_root());
        let everything = root.map(|root| Cut {
            taking: root.id,
            below: Ids::default(),
        });
        let void = self
            .changed
            .iter()
            .filter(|(_, strength)| strength.is_none());
        Changes {
            cuts: everything.into_iter().collect(),
            adopted: Vec::new(),
            settings: void.map(|(id, _)| *id).collect(),
            keys: None,
        }
    }

    /// What the takings of an entry bear on, whether they hold or no longer do.
    fn find_takings(&self, control: &Control, found: &mut Found) {
        for record in control.records.iter() {
            match record {
                AuthRecord::Revoke(revocation) => {
                    let key = revocation.key;
                    found.keys.insert(key);
                    found.cuts.insert(control.cut(Some(&key)));
                    let replaced = revocation.replaces.iter();
                    let replaced = replaced.filter_map(|id| self.control(id));
                    let cuts = replaced.map(|replaced| replaced.cut(Some(&key)));
                    found.cuts.extend(cuts);
                }
                AuthRecord::Wildcard(_) | AuthRecord::Delegate(_) => {
                    found.any_key = true;
                    found.cuts.insert(control.cut(None));
                }
                AuthRecord::Adopt { entries } => found.adopted.extend(entries),
                AuthRecord::Grant { .. } | AuthRecord::Renounce | AuthRecord::Rotate { .. } => {}
            }
        }
    }

    /// What the sources and renounced rights of an entry bear on: what is above it, so outside its
    /// parents and what is below those.
    fn find_sources(&self, control: &Control, found: &mut Found) {
        for record in control.records.iter() {
            match record {
                AuthRecord::Grant { key, .. } => drop(found.keys.insert(*key)),
                AuthRecord::Renounce => drop(found.keys.insert(control.key)),
                AuthRecord::Rotate { to, .. } => found.keys.extend([control.key, *to]),
                _ => continue,
            }
            found.cuts.insert(control.cut(None));
        }
    }
}

/// The entry whose strength is another one on both sides of a comparison.
pub(super) fn changed_id<'a, V>(item: &DiffItem<'a, 'a, Id, V>) -> &'a Id {
    match item {
        DiffItem::Add(id, _) | DiffItem::Remove(id, _) => id,
        DiffItem::Update { old: (id, _), .. } => id,
    }
}
