//! By what a key has its right: by name, by the wildcard, or as a member of another database.

use std::collections::VecDeque;

use eidetica_auth::{AuthState, Pinned, Pins, Right};
use eidetica_entry::limits::VIA_HOPS;
use eidetica_entry::{Author, Id, Ids, PublicKey, Via};

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

impl Database {
    /// The strongest right that a key has at present, by name, by the wildcard, or by way of databases that
    /// are delegated to, as they are known here. Costs O(1) where there is no delegation, else up to
    /// [`limits::DELEGATIONS_TRIED`] chains.
    ///
    /// # Errors
    /// The engine's.
    pub fn access_of(&self, key: &PublicKey) -> Result<Option<Access>> {
        let state = self.authority()?;
        let direct = state.right_of(key).map(|right| Access {
            right,
            via: Vec::new(),
        });
        if state.delegations().next().is_none() {
            return Ok(direct);
        }
        let snapshot = self.shared().engine.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let known = Known::new(self.shared(), self.id(), &reader);
        let mut best = direct;
        let mut open = VecDeque::from([(Vec::new(), state.clone())]);
        let mut tried = 0;
        while let Some((chain, last)) = open.pop_front() {
            for (via, next) in self.hops(&chain, &last)? {
                tried += 1;
                if tried > limits::DELEGATIONS_TRIED {
                    return Ok(best);
                }
                let author = Author {
                    key: *key,
                    via: [chain.as_slice(), &[via]].concat(),
                };
                let right = match Pinned::read(&author, &state, &known)? {
                    Pins::At(pinned) => state.right_via(key, &pinned),
                    _ => None,
                };
                let right =
                    right.filter(|right| best.as_ref().is_none_or(|best| *right > best.right));
                if let Some(right) = right {
                    let via = author.via.clone();
                    best = Some(Access { right, via });
                }
                open.push_back((author.via, next));
            }
        }
        Ok(best)
    }

    /// The databases that the last one of a chain delegates to, at their present settings, with their states.
    fn hops(&self, chain: &[Via], last: &AuthState) -> Result<Vec<(Via, AuthState)>> {
        let mut hops: Vec<(Via, AuthState)> = Vec::new();
        if chain.len() >= VIA_HOPS {
            return Ok(hops);
        }
        for (_, delegation) in last.delegations() {
            let database = delegation.database;
            let mut seen = chain.iter().chain(hops.iter().map(|(via, _)| via));
            if delegation.bound.is_none()
                || database == self.id()
                || seen.any(|via| via.database == database)
            {
                continue;
            }
            let floors = last
                .delegations()
                .filter(|(_, other)| other.database == database)
                .flat_map(|(_, other)| other.floor.iter().copied());
            let tips = self.pins_of(&database, &floors.collect::<Vec<_>>())?;
            let tips = tips.unwrap_or_else(|| delegation.floor.clone());
            let all = Databases::of(self.shared());
            if let Some(state) = all.authority_at(&database, &tips, 1)? {
                hops.push((Via { database, tips }, state));
            }
        }
        Ok(hops)
    }

    /// The settings entries that say all that is known here of a database's authority, what `floors` name among it
    /// though it be void; `None` where nothing is.
    fn pins_of(&self, database: &Id, floors: &[Id]) -> Result<Option<Ids>> {
        let all = Databases::of(self.shared());
        let snapshot = self.shared().engine.snapshot()?;
        // The database itself may be behind what its closure has.
        let mut source = None;
        for found in [all.find(database)?, all.closure(database)?] {
            let Some(found) = found else { continue };
            let here = found.core().log.reader(&*snapshot).contains_many(floors)?;
            if here.iter().all(|here| *here) {
                source = Some(found);
                break;
            }
            source.get_or_insert(found);
        }
        let Some(database) = source else {
            return Ok(None);
        };
        let reader = database.core().log.reader(&*snapshot);
        let mut tips: Vec<Id> = reader.state()?.tips.iter().map(|tip| tip.id).collect();
        let here = floors.iter().zip(reader.contains_many(floors)?);
        tips.extend(here.filter(|(_, is_here)| *is_here).map(|(id, _)| *id));
        let infos = tips.iter().zip(reader.parent_infos(&tips)?);
        let infos = infos.map(|(tip, info)| info.ok_or(Error::NoEntry(*tip)));
        let infos = infos.collect::<Result<Vec<_>>>()?;
        Ok(Some(database.core().derive_settings(&infos, &reader)?))
    }
}
