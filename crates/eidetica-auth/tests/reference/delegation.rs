//! R7 as a table: what keys have in other databases at given entries. Found once by the reference
//! itself, from those databases.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use eidetica_entry::{Id, PublicKey, Via};

use crate::{
    payload::{Delegation, Record, Right},
    resolver::{Database, Entry, Kind, Source},
};

/// What a key has by each chain of pins that was asked for.
type Found = HashMap<PublicKey, HashMap<Vec<Via>, Option<Right>>>;

/// The databases that another one may delegate to, and what was found in them.
#[derive(Default)]
pub struct Worlds {
    pub databases: BTreeMap<Id, Arc<Database>>,
    found: RwLock<Found>,
}

impl Worlds {
    pub fn new(databases: BTreeMap<Id, Arc<Database>>) -> Self {
        Self {
            databases,
            ..Self::default()
        }
    }

    /// The rights that can come by way of these databases.
    pub fn levels(&self, via: &[Via]) -> Vec<Right> {
        let worlds = via
            .iter()
            .filter_map(|via| self.databases.get(&via.database));
        worlds
            .flat_map(|world| world.levels.iter().copied())
            .collect()
    }

    /// What a delegation gives to an author that pinned the databases.
    pub fn pinned(&self, entry: &Entry, to: &Delegation) -> Right {
        let member = self.member(&entry.via, entry.key).unwrap_or(0);
        member.min(self.left(entry, to))
    }

    /// The most that a delegation gives, and leaves of what others give: its bound, and the right at
    /// its floor where the pins do not cover that.
    pub fn left(&self, entry: &Entry, of: &Delegation) -> Right {
        let mut via = entry.via.clone();
        if self.covers(&of.database, &via[0].tips, &of.floor) == Some(true) {
            return of.bound;
        }
        via[0].tips = of.floor.iter().copied().collect();
        of.bound.min(self.member(&via, entry.key).unwrap_or(0))
    }

    fn covers(&self, database: &Id, tips: &[Id], floor: &[Id]) -> Option<bool> {
        let database = self.databases.get(database)?;
        let control = database.control(database.all());
        let control = control.fold(0, |set, entry| set | 1 << entry.at);
        let below = |ids| Some(database.closure(database.set(ids)?) & control);
        Some(below(floor)? & !below(tips)? == 0)
    }

    fn member(&self, via: &[Via], key: PublicKey) -> Option<Right> {
        let found = self.found.read().unwrap();
        if let Some(right) = found.get(&key).and_then(|of_key| of_key.get(via)) {
            return *right;
        }
        drop(found);
        let right = self.find(via, key);
        let mut found = self.found.write().unwrap();
        found.entry(key).or_default().insert(via.to_vec(), right);
        right
    }

    fn find(&self, via: &[Via], key: PublicKey) -> Option<Right> {
        let (database, top) = self.top(via, key)?;
        let resolved = database.resolve(top.past);
        let counts = |kind| top.via.is_empty() || kind == Kind::Delegated;
        match database.fits(&top, &resolved)? {
            true => Some(database.right(&top, &resolved, counts)),
            false => Some(0),
        }
    }

    /// A hop is judged as an entry on top of the pinned ones, made by way of the rest of the chain.
    fn top(&self, via: &[Via], key: PublicKey) -> Option<(&Database, Entry)> {
        let (first, rest) = via.split_first()?;
        let database = self.databases.get(&first.database)?;
        let entry = Entry {
            id: Id::new([0; 32]),
            at: database.entries.len(),
            past: database.closure(database.set(&first.tips)?),
            key,
            via: rest.to_vec(),
            records: None,
            more: false,
        };
        Some((database, entry))
    }
}

impl Database {
    /// Whether the chain that an entry pins is one: by living delegations, at or above their floors.
    /// `None`: not all is at hand.
    pub fn chain(&self, entry: &Entry, resolved: &[Right]) -> Option<bool> {
        let Some(first) = entry.via.first() else {
            return Some(true);
        };
        let mut names: Vec<Id> = entry.via.iter().map(|via| via.database).collect();
        names.extend(self.entries.first().map(|root| root.id));
        names.sort_unstable();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || !self.delegates(entry, resolved) {
            return Some(false);
        }
        let (database, top) = self.worlds.top(&entry.via, entry.key)?;
        let further = database.fits(&top, &database.resolve(top.past))?;
        Some(further && self.above(&first.database, &first.tips, resolved)?)
    }

    /// Whether anybody may have a right by way of that database.
    fn delegates(&self, entry: &Entry, resolved: &[Right]) -> bool {
        let anybody = Entry {
            key: PublicKey::new([0; 32]),
            via: entry.via.clone(),
            records: None,
            ..*entry
        };
        let bounds = self.effective(resolved).flat_map(|from| {
            let of = move |to: &&Delegation| Some(to.database) == entry.via();
            let source = move |to: &Delegation| Source {
                at: from.at,
                kind: Kind::Delegated,
                right: to.bound,
            };
            from.delegations().filter(of).map(source)
        });
        bounds
            .into_iter()
            .any(|source| self.live(&anybody, &source, resolved) > 0)
    }

    /// Whether `tips` of `database` cover every effective floor of it.
    pub fn above(&self, database: &Id, tips: &[Id], resolved: &[Right]) -> Option<bool> {
        self.worlds.covers(database, tips, tips)?;
        let all = self.effective(resolved).flat_map(Entry::delegations);
        let mut above = true;
        for floor in all.filter(|floor| floor.database == *database) {
            above &= self.worlds.covers(database, tips, &floor.floor)?;
        }
        Some(above)
    }
}

impl Entry {
    /// The database whose delegation it claims.
    pub fn via(&self) -> Option<Id> {
        self.via.first().map(|via| via.database)
    }

    pub fn delegations(&self) -> impl Iterator<Item = &Delegation> {
        self.records().filter_map(|record| match record {
            Record::Delegate(to) => Some(to),
            _ => None,
        })
    }
}
