//! By what a key has its right: by name, by the wildcard, or as a member of another database.
//!
//! A right is asked for whenever something is sent, and looking for it may try many chains of delegations. So what was
//! found is kept with what it was found by, the settings of this database and those of the ones that are delegated to,
//! and looked for anew exactly where one of these is another one.

use std::collections::VecDeque;
use std::sync::Arc;

use eidetica_auth::{AuthState, Pinned, Pins, Right};
use eidetica_entry::limits::VIA_HOPS;
use eidetica_entry::{Author, Id, Ids, PublicKey, Via};
use eidetica_storage::Snapshot;
use eidetica_storage::log::DbNo;
use quick_cache::sync::Cache;

use crate::error::{Error, Result};
use crate::known::Known;
use crate::{Database, Databases, limits};

/// What a key may do, and how its entries say so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The strongest right that the key has.
    pub right: Right,
    /// The delegation that gives it, for [`Transaction::with_via`](crate::Transaction::with_via); empty where
    /// the key has it by name or by the wildcard.
    pub via: Vec<Via>,
}

/// What keys were found to have in one database.
pub(crate) struct Accesses(Cache<PublicKey, Arc<Found>>);

impl Default for Accesses {
    fn default() -> Self {
        Self(Cache::new(limits::ACCESS_CACHE))
    }
}

/// What a key was found to have, and by what.
struct Found {
    access: Option<Access>,
    /// The settings of the database.
    settings: Ids,
    /// The databases that were looked at.
    hops: Vec<Hop>,
}

/// A database that is delegated to, as it is here.
#[derive(Clone)]
struct Hop {
    database: Id,
    /// What those that delegate ask of it.
    floors: Vec<Id>,
    versions: Versions,
    /// The settings entries that say all that is known of its authority, what `floors` names among it though it be void;
    /// `None` where nothing is.
    pins: Option<Ids>,
}

/// Of a database and of its closure, where they are here. No number is given twice.
type Versions = [Option<(DbNo, u64)>; 2];

impl Database {
    /// The strongest right that a key has at present, by name, by the wildcard, or by way of databases that
    /// are delegated to, as they are known here.
    ///
    /// Costs one row, and up to two for each database that is delegated to, while no settings change; else up to
    /// [`limits::DELEGATIONS_TRIED`] chains.
    ///
    /// # Errors
    /// The engine's.
    pub fn access_of(&self, key: &PublicKey) -> Result<Option<Access>> {
        let accesses = &self.core().accesses.0;
        let found = accesses.get(key);
        let hops = found.iter().flat_map(|found| &found.hops);
        let sources = hops.map(|hop| self.sources(&hop.database));
        let sources: Vec<Sources> = sources.collect::<Result<_>>()?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let settings: Ids = reader.state()?.settings.into_iter().collect();
        if let Some(found) = found.filter(|found| found.settings == settings)
            && let Some(renewed) = found.renewed(&sources, &*snapshot)?
        {
            let access = found.access.clone();
            if let Some(renewed) = renewed {
                accesses.insert(*key, Arc::new(renewed));
            }
            return Ok(access);
        }
        let known = Known::new(self.shared(), self.id(), &reader);
        let state = self.core().authority.at(&settings, &known)?;
        let mut search = Search {
            database: self,
            hops: Vec::new(),
        };
        let access = search.strongest(key, &state, &known)?;
        let found = Found {
            access: access.clone(),
            settings,
            hops: search.hops,
        };
        accesses.insert(*key, Arc::new(found));
        Ok(access)
    }

    /// Where something of another database may be.
    fn sources(&self, id: &Id) -> Result<Sources> {
        let all = Databases::of(self.shared());
        Ok(Sources([all.find(id)?, all.closure(id)?]))
    }
}

impl Found {
    /// `None` if a database that was looked at has other settings than it had; what to keep if there is
    /// something new in it.
    fn renewed(
        &self,
        sources: &[Sources],
        snapshot: &dyn Snapshot,
    ) -> Result<Option<Option<Self>>> {
        let mut renewed = None;
        for (at, (hop, sources)) in self.hops.iter().zip(sources).enumerate() {
            if sources.versions(snapshot)? == hop.versions {
                continue;
            }
            let now = sources.hop(hop.database, hop.floors.clone(), snapshot)?;
            if now.pins != hop.pins {
                return Ok(None);
            }
            let hops = renewed.get_or_insert_with(|| self.hops.clone());
            hops.splice(at..=at, [now]);
        }
        Ok(Some(renewed.map(|hops| Self {
            access: self.access.clone(),
            settings: self.settings.clone(),
            hops,
        })))
    }
}

/// A database and its closure, where they are here.
struct Sources([Option<Database>; 2]);

impl Sources {
    fn iter(&self) -> impl Iterator<Item = &Database> {
        self.0.iter().flatten()
    }

    fn versions(&self, snapshot: &dyn Snapshot) -> Result<Versions> {
        let mut versions = Versions::default();
        for (version, source) in versions.iter_mut().zip(&self.0) {
            let Some(source) = source else { continue };
            let log = &source.core().log;
            *version = Some((log.no(), log.reader(snapshot).state()?.version));
        }
        Ok(versions)
    }

    fn hop(&self, database: Id, floors: Vec<Id>, snapshot: &dyn Snapshot) -> Result<Hop> {
        Ok(Hop {
            versions: self.versions(snapshot)?,
            pins: self.pins(&floors, snapshot)?,
            database,
            floors,
        })
    }

    fn pins(&self, floors: &[Id], snapshot: &dyn Snapshot) -> Result<Option<Ids>> {
        // The database itself may be behind what its closure has.
        let mut source = None;
        for found in self.iter() {
            let here = found.core().log.reader(snapshot).contains_many(floors)?;
            if here.iter().all(|here| *here) {
                source = Some(found);
                break;
            }
            source.get_or_insert(found);
        }
        let Some(database) = source else {
            return Ok(None);
        };
        let reader = database.core().log.reader(snapshot);
        let mut tips: Vec<Id> = reader.state()?.tips.iter().map(|tip| tip.id).collect();
        let here = floors.iter().zip(reader.contains_many(floors)?);
        tips.extend(here.filter(|(_, is_here)| *is_here).map(|(id, _)| *id));
        let infos = tips.iter().zip(reader.parent_infos(&tips)?);
        let infos = infos.map(|(tip, info)| info.ok_or(Error::NoEntry(*tip)));
        let infos = infos.collect::<Result<Vec<_>>>()?;
        Ok(Some(database.core().derive_settings(&infos, &reader)?))
    }
}

/// A search for the strongest right of a key.
struct Search<'a> {
    database: &'a Database,
    /// What was looked at.
    hops: Vec<Hop>,
}

impl Search<'_> {
    fn strongest(
        &mut self,
        key: &PublicKey,
        state: &AuthState,
        known: &Known<'_>,
    ) -> Result<Option<Access>> {
        let mut best = state.right_of(key).map(|right| Access {
            right,
            via: Vec::new(),
        });
        let mut open = VecDeque::from([(Vec::new(), state.clone())]);
        let mut tried = 0;
        while let Some((chain, last)) = open.pop_front() {
            for (via, next) in self.hops_from(&chain, &last)? {
                tried += 1;
                if tried > limits::DELEGATIONS_TRIED {
                    return Ok(best);
                }
                let author = Author {
                    key: *key,
                    via: [chain.as_slice(), &[via]].concat(),
                };
                let right = match Pinned::read(&author, state, known)? {
                    Pins::At(pinned) => state.right_via(key, &pinned),
                    _ => None,
                };
                let via = author.via;
                if let Some(right) = right
                    && best.as_ref().is_none_or(|best| right > best.right)
                {
                    let via = via.clone();
                    best = Some(Access { right, via });
                }
                open.push_back((via, next));
            }
        }
        Ok(best)
    }

    /// The databases that the last one of a chain delegates to, at their present settings, with their states.
    fn hops_from(&mut self, chain: &[Via], last: &AuthState) -> Result<Vec<(Via, AuthState)>> {
        let mut hops: Vec<(Via, AuthState)> = Vec::new();
        if chain.len() >= VIA_HOPS {
            return Ok(hops);
        }
        for (_, delegation) in last.delegations() {
            let database = delegation.database;
            if hops.len() >= limits::DELEGATIONS_TRIED {
                break;
            }
            let mut seen = chain.iter().chain(hops.iter().map(|(via, _)| via));
            if delegation.bound.is_none()
                || database == self.database.id()
                || seen.any(|via| via.database == database)
            {
                continue;
            }
            let floors = last
                .delegations()
                .filter(|(_, other)| other.database == database)
                .flat_map(|(_, other)| other.floor.iter().copied());
            let tips = self.pins_of(database, floors.collect())?;
            let tips = tips.unwrap_or_else(|| delegation.floor.clone());
            let all = Databases::of(self.database.shared());
            if let Some(state) = all.authority_at(&database, &tips, 1)? {
                hops.push((Via { database, tips }, state));
            }
        }
        Ok(hops)
    }

    fn pins_of(&mut self, database: Id, floors: Vec<Id>) -> Result<Option<Ids>> {
        let same = |hop: &&Hop| hop.database == database && hop.floors == floors;
        if let Some(hop) = self.hops.iter().find(same) {
            return Ok(hop.pins.clone());
        }
        let sources = self.database.sources(&database)?;
        let snapshot = self.database.shared().rows.snapshot()?;
        let hop = sources.hop(database, floors, &*snapshot)?;
        let pins = hop.pins.clone();
        self.hops.push(hop);
        Ok(pins)
    }
}
