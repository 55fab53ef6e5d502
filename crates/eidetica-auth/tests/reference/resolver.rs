//! The rules of authority, written down once more, as naively as they read: see `docs/authority.md`,
//! whose rule numbers stand here. Knows nothing of the crate under test; reads payloads by itself.
//!
//! A right is a number, 0 is none. A set of entries is 128 bits. Nothing is incremental.

use std::{collections::BTreeMap, sync::Arc};

use eidetica_entry::{Header, Id, PublicKey, Via};

use crate::payload::{Record, parse};

pub type Right = u64;
pub const READ: Right = 1;
pub const RECOVERY: Right = 1 << 40;

pub fn write(rank: u32) -> Right {
    (1 << 33) - Right::from(rank)
}

pub fn admin(rank: u32) -> Right {
    (1 << 35) - Right::from(rank)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pending,
    Reject,
    Void,
    Effective(Right),
}

pub type Set = u128;

fn has(set: Set, at: usize) -> bool {
    set >> at & 1 == 1
}

pub struct Entry {
    pub id: Id,
    pub at: usize,
    pub parents: Set,
    pub past: Set,
    pub key: PublicKey,
    pub via: Vec<Via>,
    /// `None` for an entry that writes no settings.
    pub records: Option<Vec<Record>>,
    /// Whether it says more than its records.
    more: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Kind {
    Named,
    Wildcard,
    Delegated,
}

struct Source {
    at: usize,
    kind: Kind,
    right: Right,
}

#[derive(Default)]
pub struct Database {
    pub entries: Vec<Entry>,
    /// Every right that is named anywhere.
    pub levels: Vec<Right>,
    /// The databases that this one may delegate to.
    pub worlds: Arc<BTreeMap<Id, Arc<Database>>>,
}

impl Database {
    /// R6: judges an entry whose parents are here on its own past, and keeps it if it is sound.
    pub fn insert(&mut self, id: Id, header: &Header, settings: Option<&[u8]>) -> Verdict {
        let parents = self.set(&header.parents).expect("parents come first");
        let parsed = settings.map(parse);
        let mut entry = Entry {
            id,
            at: self.entries.len(),
            parents,
            past: self.closure(parents),
            key: header.author.key,
            via: header.author.via.clone(),
            records: None,
            more: header.stores.iter().any(|store| !store.name.is_settings()),
        };
        match parsed {
            Some(None) => return Verdict::Reject,
            Some(Some((records, doc))) => {
                entry.records = Some(records);
                entry.more |= doc;
            }
            None => {}
        }
        let resolved = self.resolve(entry.past);
        let Some(fits) = self.fits(&entry, &resolved) else {
            return Verdict::Pending;
        };
        let strength = self.strength(&entry, &resolved);
        if !fits || strength == 0 {
            return Verdict::Reject;
        }
        self.levels.extend(entry.records.iter().flatten().flat_map(Record::rights));
        for world in entry.via.iter().filter_map(|via| self.worlds.get(&via.database)) {
            self.levels.extend(world.levels.iter());
        }
        self.levels.sort_unstable_by(|a, b| b.cmp(a));
        self.levels.dedup();
        self.entries.push(entry);
        Verdict::Effective(strength)
    }

    /// The verdict of the entry `id`, if the database holds exactly the entries kept.
    pub fn verdict(&self, id: Id, resolved: &[Right]) -> Verdict {
        let entry = self.entries.iter().find(|entry| entry.id == id).expect("a kept entry");
        match self.strength(entry, resolved) {
            0 => Verdict::Void,
            strength => Verdict::Effective(strength),
        }
    }

    pub fn all(&self) -> Set {
        (0..self.entries.len()).fold(0, |set, at| set | 1 << at)
    }

    /// R8: strongest first, in causal order within one strength. 0 is void.
    pub fn resolve(&self, set: Set) -> Vec<Right> {
        let mut resolved = vec![0; self.entries.len()];
        for level in &self.levels {
            for entry in self.control(set) {
                if self.strength(entry, &resolved) == *level {
                    resolved[entry.at] = *level;
                }
            }
        }
        resolved
    }

    pub fn control(&self, set: Set) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| has(set, entry.at) && entry.records.is_some())
    }

    /// Whether `resolved` satisfies all rules at once, read as equations: see [`Database::strength`].
    pub fn consistent(&self, set: Set, resolved: &[Right]) -> bool {
        self.control(set).all(|entry| self.strength(entry, resolved) == resolved[entry.at])
    }

    /// R5: what an entry amounts to where the control entries amount to `resolved`; 0 if its author
    /// may not say all of it.
    fn strength(&self, entry: &Entry, resolved: &[Right]) -> Right {
        let records = entry.records.as_deref().unwrap_or_default();
        let gives_up = |r: &Record| matches!(r, Record::Renounce | Record::Rotate(_));
        let strength = if entry.past == 0 {
            let named = records.iter().filter_map(|r| match r {
                Record::Grant { key, right } if *key == entry.key => Some(*right),
                _ => None,
            });
            named.max().unwrap_or(0)
        } else {
            let explicit = records.iter().any(gives_up);
            self.right(entry, resolved, |kind| kind == Kind::Named || !explicit)
        };
        let needs = match &entry.records {
            None => write(u32::MAX),
            Some(_) if entry.more || records.is_empty() || !records.iter().all(gives_up) => admin(u32::MAX),
            Some(_) => READ,
        };
        let allowed = |record: &Record| match record {
            Record::Grant { right, .. } => entry.past == 0 || may_grant(strength, *right),
            Record::Delegate { bound, .. } => may_grant(strength, *bound),
            Record::Revoke { replaces, .. } => self.list(replaces).all(|r| resolved[r.at] <= strength),
            _ => true,
        };
        if strength >= needs && records.iter().all(allowed) { strength } else { 0 }
    }

    /// The strongest live right of the author, of the kinds that count.
    fn right(&self, entry: &Entry, resolved: &[Right], counts: impl Fn(Kind) -> bool) -> Right {
        let sources = self.sources(entry, resolved);
        let counted = sources.iter().filter(|source| counts(source.kind));
        counted.map(|source| self.live(entry, source, resolved)).max().unwrap_or(0)
    }

    /// R2: what gives the author a right.
    fn sources(&self, entry: &Entry, resolved: &[Right]) -> Vec<Source> {
        let mut sources = Vec::new();
        for from in self.entries.iter().filter(|from| resolved[from.at] > 0) {
            let below = has(entry.past, from.at);
            for record in from.records.iter().flatten() {
                let (kind, right) = match record {
                    Record::Grant { key, right } if below && *key == entry.key => (Kind::Named, *right),
                    Record::Rotate(key) if below && *key == entry.key => (Kind::Named, resolved[from.at]),
                    Record::Wildcard(right) if below => (Kind::Wildcard, *right),
                    Record::Delegate { database, bound, .. } if below && is_via(entry, *database) => {
                        (Kind::Delegated, self.member(&entry.via, entry.key).unwrap_or(0).min(*bound))
                    }
                    Record::Adopt(ids) if ids.contains(&entry.id) => (Kind::Named, write(0)),
                    _ => continue,
                };
                sources.push(Source { at: from.at, kind, right });
            }
        }
        sources
    }

    /// What the takings leave of a right: the strongest one that none of them still takes.
    fn live(&self, entry: &Entry, source: &Source, resolved: &[Right]) -> Right {
        let takers = self.entries.iter().filter(|taker| resolved[taker.at] > 0);
        let taken: Vec<_> = takers.flat_map(|taker| self.takings(entry, source, taker, resolved)).collect();
        let mut right = source.right;
        while let Some((to, _)) = taken.iter().find(|(to, above)| *to < right && right < *above) {
            right = *to;
        }
        right
    }

    /// R3, R4: what `taker` takes of that right: everything between two others.
    fn takings(&self, entry: &Entry, source: &Source, taker: &Entry, resolved: &[Right]) -> Vec<(Right, Right)> {
        let strength = resolved[taker.at];
        let known = has(self.entries[source.at].past, taker.at);
        let lifted = known && resolved[source.at] >= strength;
        let named = source.kind == Kind::Named;
        let other = source.at != taker.at && !lifted;
        let outside = |cut| !has(self.closure(cut), entry.at);
        let take = |record: &Record| match record {
            Record::Revoke { key, to, cut, .. } => {
                let cut = cut.as_ref().map_or(taker.parents, |ids| self.set(ids).expect("ids below"));
                let holds = *key == entry.key && outside(cut) && !self.replaced(taker, *key, resolved);
                (holds && !(named && lifted)).then_some((*to, strength))
            }
            Record::Wildcard(to) => {
                let holds = source.kind == Kind::Wildcard && other && outside(taker.parents);
                holds.then_some((*to, strength))
            }
            Record::Delegate { database, bound, floor } if source.kind == Kind::Delegated => {
                let holds = is_via(entry, *database) && other && outside(taker.parents);
                holds.then(|| ((*bound).min(self.beyond(entry, floor)), strength))
            }
            Record::Renounce | Record::Rotate(_) => {
                let holds = taker.key == entry.key && named && has(entry.past, taker.at) && !known;
                holds.then_some((0, strength + 1))
            }
            _ => None,
        };
        taker.records.iter().flatten().filter_map(take).collect()
    }

    /// Whether another revocation stands for this one.
    fn replaced(&self, taker: &Entry, key: PublicKey, resolved: &[Right]) -> bool {
        let stands = |record: &Record| match record {
            Record::Revoke { key: k, replaces, .. } => *k == key && replaces.contains(&taker.id),
            _ => false,
        };
        let effective = self.entries.iter().filter(|by| resolved[by.at] > 0);
        effective.flat_map(|by| by.records.iter().flatten()).any(stands)
    }

    /// R7: the right of `key` by way of these databases, if they are at hand: that of an entry on
    /// top of the pinned tips.
    fn member(&self, via: &[Via], key: PublicKey) -> Option<Right> {
        let (first, rest) = via.split_first()?;
        let database = self.worlds.get(&first.database)?;
        let entry = database.top(&first.tips, key, rest)?;
        let resolved = database.resolve(entry.past);
        if database.fits(&entry, &resolved)? {
            let last = rest.is_empty();
            Some(database.right(&entry, &resolved, |kind| last || kind == Kind::Delegated))
        } else {
            Some(0)
        }
    }

    fn top(&self, tips: &[Id], key: PublicKey, via: &[Via]) -> Option<Entry> {
        let (id, at, parents) = (Id::new([0; 32]), self.entries.len(), self.set(tips)?);
        let (past, via) = (self.closure(parents), via.to_vec());
        Some(Entry { id, at, parents, past, key, via, records: None, more: false })
    }

    /// The author's right at the floor, where the pins do not reach it.
    fn beyond(&self, entry: &Entry, floor: &[Id]) -> Right {
        let mut via = entry.via.clone();
        if self.covers(&via[0].tips, &via[0].database, floor) == Some(true) {
            return RECOVERY;
        }
        via[0].tips = floor.iter().copied().collect();
        self.member(&via, entry.key).unwrap_or(0)
    }

    /// Whether `tips` of that database lie at or above `floor`.
    fn covers(&self, tips: &[Id], database: &Id, floor: &[Id]) -> Option<bool> {
        let database = self.worlds.get(database)?;
        let control = database.control(database.all()).fold(0, |set, entry| set | 1 << entry.at);
        let below = |ids| Some(database.closure(database.set(ids)?) & control);
        Some(below(floor)? & !below(tips)? == 0)
    }

    /// Whether ids lie where they must, whatever anybody may do. `None`: not all is at hand.
    fn fits(&self, entry: &Entry, resolved: &[Right]) -> Option<bool> {
        let twice = |(n, via): (usize, &Via)| {
            let parent = self.entries.first().is_some_and(|root| root.id == via.database);
            parent || entry.via[..n].iter().any(|other| other.database == via.database)
        };
        let mut fits = !entry.via.iter().enumerate().any(twice);
        let below = |id: &Id| self.list(std::slice::from_ref(id)).find(|e| has(entry.past, e.at));
        let effective = || self.entries.iter().filter(|e| resolved[e.at] > 0).flat_map(|e| e.records.iter().flatten());
        for record in entry.records.iter().flatten() {
            fits &= match record {
                Record::Revoke { key, cut, replaces, .. } => {
                    let revokes = |r: &Record| matches!(r, Record::Revoke { key: k, .. } if k == key);
                    let of_key = |e: &Entry| e.records.iter().flatten().any(revokes);
                    entry.past != 0
                        && cut.iter().flatten().all(|id| below(id).is_some())
                        && replaces.iter().all(|id| below(id).is_some_and(of_key))
                }
                Record::Adopt(ids) => {
                    entry.past != 0 && ids.iter().all(|id| below(id).is_some_and(|e| e.records.is_none()))
                }
                Record::Renounce => entry.past != 0,
                Record::Rotate(key) => entry.past != 0 && *key != entry.key,
                Record::Grant { .. } | Record::Wildcard(_) => true,
                Record::Delegate { database, floor, .. } => {
                    self.covers(floor, database, floor)?;
                    self.above_floors(effective(), floor, database)?
                }
            };
        }
        if let Some(via) = entry.via.first() {
            self.member(&entry.via, entry.key)?;
            fits &= self.above_floors(effective(), &via.tips, &via.database)?;
        }
        Some(fits)
    }

    fn above_floors<'a>(&self, mut records: impl Iterator<Item = &'a Record>, tips: &[Id], of: &Id) -> Option<bool> {
        records.try_fold(true, |fits, record| match record {
            Record::Delegate { database, floor, .. } if database == of => Some(fits & self.covers(tips, of, floor)?),
            _ => Some(fits),
        })
    }

    fn list(&self, ids: &[Id]) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| ids.contains(&entry.id))
    }

    fn set(&self, ids: &[Id]) -> Option<Set> {
        ids.iter().try_fold(0, |set, id| {
            Some(set | 1 << self.list(std::slice::from_ref(id)).next()?.at)
        })
    }

    /// These entries and everything below them.
    fn closure(&self, set: Set) -> Set {
        self.entries.iter().filter(|e| has(set, e.at)).fold(set, |all, e| all | e.past)
    }
}

/// A grant gives strictly less than its author has, except that an `Admin(0)` may make another one.
fn may_grant(strength: Right, right: Right) -> bool {
    right < strength || (strength == admin(0) && right == admin(0))
}

fn is_via(entry: &Entry, database: Id) -> bool {
    entry.via.first().is_some_and(|via| via.database == database)
}
