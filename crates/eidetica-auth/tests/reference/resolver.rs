//! The rules of authority, written down once more, as naively as they read: see `docs/authority.md`,
//! whose rule numbers stand here. Knows nothing of the crate under test; reads payloads by itself.
//!
//! A right is a number, 0 is none. A set of entries is 128 bits. Nothing is incremental.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use eidetica_entry::{Header, Id, PublicKey, Via};

use crate::{
    case::members,
    delegation::Worlds,
    payload::{READ, Record, Right, admin, parse, write},
};

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
    pub past: Set,
    pub key: PublicKey,
    pub via: Vec<Via>,
    /// `None` for an entry that writes no settings.
    pub records: Option<Vec<Record>>,
    /// Whether it says more than its records.
    pub more: bool,
}

#[derive(PartialEq, Clone, Copy)]
pub enum Kind {
    Named,
    Wildcard,
    Delegated,
}

pub struct Source {
    pub at: usize,
    pub kind: Kind,
    pub right: Right,
}

#[derive(Default)]
pub struct Database {
    pub entries: Vec<Entry>,
    /// Every right that is named anywhere.
    pub levels: Vec<Right>,
    pub worlds: Arc<Worlds>,
    /// What sets were resolved to: many entries are tried above the same.
    resolved: Mutex<HashMap<Set, Arc<[Right]>>>,
}

impl Database {
    pub fn of(worlds: Arc<Worlds>) -> Self {
        Self {
            worlds,
            ..Self::default()
        }
    }

    /// Forgets the newest entry.
    pub fn pop(&mut self) {
        self.entries.pop();
        let left = self.all();
        let resolved = self.resolved.get_mut().unwrap();
        resolved.retain(|set, _| set & !left == 0);
    }

    /// R6: judges an entry whose parents are here on its own past, and keeps it if it is sound.
    pub fn insert(&mut self, id: Id, header: &Header, settings: Option<&[u8]>) -> Verdict {
        let parents = self.set(&header.parents).expect("parents come first");
        let past = self.closure(parents);
        let below = |ids: &[Id]| self.set(ids).filter(|set| set & !past == 0);
        let parsed = settings.map(|bytes| parse(bytes, below));
        if matches!(parsed, Some(None)) {
            return Verdict::Reject;
        }
        let parsed = parsed.flatten();
        let data = header.stores.iter().any(|store| !store.name.is_settings());
        let entry = Entry {
            id,
            at: self.entries.len(),
            past,
            key: header.author.key,
            via: header.author.via.clone(),
            more: data || parsed.as_ref().is_some_and(|(_, doc)| *doc),
            records: parsed.map(|(records, _)| records),
        };
        let resolved = self.resolve(entry.past);
        let Some(fits) = self.fits(&entry, &resolved) else {
            return Verdict::Pending;
        };
        let strength = self.strength(&entry, &resolved);
        if !fits || strength == 0 {
            return Verdict::Reject;
        }
        self.levels.extend(entry.records().flat_map(Record::rights));
        self.levels.extend(self.worlds.levels(&entry.via));
        self.levels.sort_unstable_by(|a, b| b.cmp(a));
        self.levels.dedup();
        self.entries.push(entry);
        Verdict::Effective(strength)
    }

    /// The verdict of the entry `id`, if the database holds exactly the entries kept.
    pub fn verdict(&self, id: Id, resolved: &[Right]) -> Verdict {
        let at = self.set(&[id]).expect("a kept entry").trailing_zeros();
        match self.strength(&self.entries[at as usize], resolved) {
            0 => Verdict::Void,
            strength => Verdict::Effective(strength),
        }
    }

    pub fn all(&self) -> Set {
        (1 << self.entries.len()) - 1
    }

    pub fn resolve(&self, set: Set) -> Arc<[Right]> {
        let known = self.resolved.lock().unwrap().get(&set).cloned();
        known.unwrap_or_else(|| {
            let resolved: Arc<[Right]> = self.resolve_anew(set).into();
            let mut known = self.resolved.lock().unwrap();
            known.insert(set, Arc::clone(&resolved));
            resolved
        })
    }

    /// R8: the root, then strongest first, in causal order within one strength. 0 is void, or not in the set.
    fn resolve_anew(&self, set: Set) -> Vec<Right> {
        let mut resolved = vec![0; 128 - set.leading_zeros() as usize];
        for root in self.list(set & 1) {
            resolved[root.at] = self.strength(root, &resolved);
        }
        for level in &self.levels {
            for entry in self.control(set) {
                if resolved[entry.at] == 0 && self.strength(entry, &resolved) == *level {
                    resolved[entry.at] = *level;
                }
            }
        }
        resolved
    }

    pub fn control(&self, set: Set) -> impl Iterator<Item = &Entry> {
        self.list(set).filter(|entry| entry.records.is_some())
    }

    pub fn effective<'a>(&'a self, resolved: &'a [Right]) -> impl Iterator<Item = &'a Entry> {
        let entries = self.entries.iter().zip(resolved);
        let effective = entries.filter(|(_, strength)| **strength > 0);
        effective.map(|(entry, _)| entry)
    }

    /// R5: what an entry amounts to where the control entries amount to `resolved`; 0 if its author
    /// may not say all of it.
    pub fn strength(&self, entry: &Entry, resolved: &[Right]) -> Right {
        let gives_up = |r: &Record| matches!(r, Record::Renounce | Record::Rotate(_));
        let named = entry.records().filter_map(|r| r.grants(entry.key));
        let explicit = entry.records().any(gives_up);
        let strength = match entry.past {
            0 => named.max().unwrap_or(0),
            _ => self.right(entry, resolved, |kind| kind == Kind::Named || !explicit),
        };
        let only_gives_up = explicit && !entry.more && entry.records().all(gives_up);
        let needs = match &entry.records {
            None => write(u32::MAX),
            Some(_) if only_gives_up => READ,
            Some(_) => admin(u32::MAX),
        };
        let allowed = |record: &Record| match record {
            Record::Grant { right, .. } => entry.past == 0 || may_grant(strength, *right),
            Record::Delegate(to) => may_grant(strength, to.bound),
            Record::Revoke { replaces: r, .. } => self.list(*r).all(|r| resolved[r.at] <= strength),
            _ => true,
        };
        let may = strength >= needs && entry.records().all(allowed);
        if may { strength } else { 0 }
    }

    /// The strongest live right of the author, of the kinds that count.
    pub fn right(&self, entry: &Entry, resolved: &[Right], counts: impl Fn(Kind) -> bool) -> Right {
        let sources = self.sources(entry, resolved).into_iter();
        let counted = sources.filter(|source| counts(source.kind));
        let live = counted.map(|source| self.live(entry, &source, resolved));
        live.max().unwrap_or(0)
    }

    /// R2: what gives the author a right.
    fn sources(&self, entry: &Entry, resolved: &[Right]) -> Vec<Source> {
        let mut sources = Vec::new();
        for from in self.effective(resolved) {
            let (at, below) = (from.at, has(entry.past, from.at));
            for record in from.records() {
                let (kind, right) = match record {
                    Record::Adopt(named) if has(*named, entry.at) => (Kind::Named, write(0)),
                    _ if !below => continue,
                    Record::Grant { key, right } if *key == entry.key => (Kind::Named, *right),
                    Record::Rotate(key) if *key == entry.key => (Kind::Named, resolved[at]),
                    Record::Wildcard(right) => (Kind::Wildcard, *right),
                    Record::Delegate(to) if Some(to.database) == entry.via() => {
                        (Kind::Delegated, self.worlds.pinned(entry, to))
                    }
                    _ => continue,
                };
                sources.push(Source { at, kind, right });
            }
        }
        sources
    }

    /// What the takings leave of a right: the strongest one that none of them still takes.
    pub fn live(&self, entry: &Entry, source: &Source, resolved: &[Right]) -> Right {
        let takers = self.effective(resolved);
        let taken = takers.flat_map(|taker| self.takings(entry, source, taker, resolved));
        let taken: Vec<_> = taken.collect();
        let takes = |right| move |(to, above): &&(Right, Right)| *to < right && right < *above;
        let mut right = source.right;
        while let Some((to, _)) = taken.iter().find(takes(right)) {
            right = *to;
        }
        right
    }

    /// R3, R4: what `taker` takes of that right: everything between two others.
    fn takings<'a>(
        &'a self,
        entry: &'a Entry,
        source: &Source,
        taker: &'a Entry,
        resolved: &'a [Right],
    ) -> impl Iterator<Item = (Right, Right)> + 'a {
        let strength = resolved[taker.at];
        let known = has(self.entries[source.at].past, taker.at);
        let lifted = known && resolved[source.at] >= strength;
        let kind = source.kind;
        let named = kind == Kind::Named;
        let other = source.at != taker.at && !lifted;
        // The parents and all below them are the past.
        let cut = move |cut: Option<Set>| cut.map_or(taker.past, |cut| self.closure(cut));
        let outside = move |explicit| !has(cut(explicit), entry.at);
        let take = move |record: &Record| match record {
            Record::Revoke { key, to, cut, .. } => {
                let holds = *key == entry.key && outside(*cut) && !(named && lifted);
                (holds && !self.replaced(taker, *key, resolved)).then_some((*to, strength))
            }
            Record::Wildcard(to) => {
                let holds = kind == Kind::Wildcard && other && outside(None);
                holds.then_some((*to, strength))
            }
            Record::Delegate(of) if Some(of.database) == entry.via() => {
                let holds = kind == Kind::Delegated && other && outside(None);
                holds.then(|| (self.worlds.left(entry, of), strength))
            }
            Record::Renounce | Record::Rotate(_) => {
                let holds = taker.key == entry.key && named && has(entry.past, taker.at) && !known;
                holds.then_some((0, strength + 1))
            }
            _ => None,
        };
        taker.records().filter_map(take)
    }

    /// Whether another revocation stands for this one.
    fn replaced(&self, taker: &Entry, key: PublicKey, resolved: &[Right]) -> bool {
        let names = |record: &Record| record.replaces(key).is_some_and(|r| has(r, taker.at));
        self.effective(resolved).any(|by| by.records().any(names))
    }

    /// R6, R7: whether what an entry names is what it must be, whatever its author may do. `None`:
    /// not all is at hand.
    pub fn fits(&self, entry: &Entry, resolved: &[Right]) -> Option<bool> {
        let mut fits = self.chain(entry, resolved)?;
        for record in entry.records() {
            fits &= match record {
                Record::Revoke { key, replaces, .. } => {
                    let revokes = |r: &Record| r.replaces(*key).is_some();
                    entry.past != 0 && self.list(*replaces).all(|e| e.records().any(revokes))
                }
                Record::Adopt(named) => {
                    *named != 0 && self.list(*named).all(|e| e.records.is_none())
                }
                Record::Renounce => entry.past != 0 && entry.via.is_empty(),
                Record::Rotate(key) => entry.past != 0 && entry.via.is_empty() && *key != entry.key,
                Record::Grant { .. } | Record::Wildcard(_) => true,
                Record::Delegate(to) => self.above(&to.database, &to.floor, resolved)?,
            };
        }
        Some(fits)
    }

    fn list(&self, set: Set) -> impl Iterator<Item = &Entry> {
        members(set).map(|at| &self.entries[at])
    }

    pub fn set(&self, ids: &[Id]) -> Option<Set> {
        let at = |id| self.entries.iter().position(|entry| entry.id == id);
        ids.iter().try_fold(0, |set, id| Some(set | 1 << at(*id)?))
    }

    /// These entries and everything below them.
    pub fn closure(&self, set: Set) -> Set {
        self.list(set).fold(set, |all, entry| all | entry.past)
    }
}

/// A grant gives strictly less than its author has, except that an `Admin(0)` may make another one.
fn may_grant(strength: Right, right: Right) -> bool {
    right < strength || (strength == admin(0) && right == admin(0))
}

impl Entry {
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().flatten()
    }
}
