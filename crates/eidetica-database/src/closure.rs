//! Closures: what is kept of databases for their authority alone, because others delegate to them.
//!
//! A closure has the headers, signatures and settings of a database up to what entries elsewhere pin, and no data. It
//! is judged by the same rules as any database, but it is none: never listed, offered, written to or read from. It
//! comes in packs before those of the database that needs it, and lies beside the database itself where that is here
//! too: the two never mix, because a database without its data would be a database that lost them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, SettingsPayload};
use eidetica_entry::dag::Budget;
use eidetica_entry::pack::PackInfo;
use eidetica_entry::{Entry, Id, Stamp, StoreName};
use eidetica_storage::Batch;
use eidetica_storage::log::{Difference, LogReader};

use crate::core::Core;
use crate::databases::{Cursor, Part};
use crate::error::{Error, Reject, Result};
use crate::ingest::{IngestReport, IngestRequest};
use crate::shared::CREATION;
use crate::{Database, Databases, limits};

/// Entries of some databases, as tips.
type Pins = BTreeMap<Id, BTreeSet<Id>>;

impl Databases {
    /// What is here of the databases that `database` delegates to, and of those that they delegate to, each with its
    /// tips: whoever sends entries need not send what is below. O(delegated databases).
    ///
    /// # Errors
    /// The engine's.
    pub fn closures(&self, database: &Id) -> Result<Vec<(Id, Vec<Stamp>)>> {
        let Some(database) = self.find(database)? else {
            return Ok(Vec::new());
        };
        let mut found: BTreeMap<Id, Vec<Stamp>> = BTreeMap::new();
        let mut open = vec![database];
        while let Some(database) = open.pop() {
            for delegated in database.authority()?.delegated_databases() {
                if found.contains_key(delegated) || found.len() >= limits::CLOSURES {
                    continue;
                }
                if let Some(closure) = self.closure(delegated)? {
                    found.insert(*delegated, closure.tips()?);
                    open.push(closure);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The closure of a database, if it is here.
    pub(crate) fn closure(&self, id: &Id) -> Result<Option<Database>> {
        let mut closures = self.shared().closures.lock();
        if let Some(core) = closures.get(id) {
            return Ok(Some(self.handle(Arc::clone(core))));
        }
        let Some(log) = self.log().closure(id)? else {
            return Ok(None);
        };
        let core = Arc::new(Core::load_closure(self.shared(), log)?);
        closures.insert(*id, Arc::clone(&core));
        Ok(Some(self.handle(core)))
    }

    /// Takes in packs of a database and of those that it delegates to, in their order.
    pub(crate) fn ingest_with_closures(&self, request: &IngestRequest<'_>) -> Result<IngestReport> {
        let mut report = IngestReport::default();
        let mut first = 0;
        for run in request
            .packs
            .chunk_by(|a, b| database_of(a) == database_of(b))
        {
            let foreign = run
                .first()
                .and_then(database_of)
                .filter(|id| *id != request.database);
            let request = IngestRequest {
                packs: run,
                ..*request
            };
            let mut taken = match foreign {
                Some(delegated) => match self.ingest_closure(delegated, &request) {
                    // They are of no use to this database, and no reason to leave the others out.
                    Err(Error::NoDatabase(_)) => foreign_packs(run.len()),
                    taken => taken?,
                },
                None => self.ingest_own(&request)?,
            };
            for (at, _) in &mut taken.bad_packs {
                *at += first;
            }
            report.add(taken);
            first += run.len();
        }
        if let Some(tips) = self.tips(&request.database)? {
            report.tips = tips;
        }
        Ok(report)
    }

    /// Entries of a closure count as neither new nor known: nobody asked for them.
    fn ingest_closure(&self, delegated: Id, request: &IngestRequest<'_>) -> Result<IngestReport> {
        let request = IngestRequest {
            database: delegated,
            ..*request
        };
        let closure = match self.closure(&delegated)? {
            Some(closure) => closure,
            None => self.begin_closure(&request)?,
        };
        let report = closure.ingest_packs(&request, IngestReport::default())?;
        Ok(IngestReport {
            new: 0,
            known: 0,
            void: 0,
            refused: 0,
            pending: 0,
            ..report
        })
    }

    fn begin_closure(&self, request: &IngestRequest<'_>) -> Result<Database> {
        self.check_room_for_closure()?;
        let root = self.root_in(request)?;
        self.judge_root(&root)?;
        let root = root.without_data();
        let mut closures = self.shared().closures.lock();
        if let Some(core) = closures.get(&root.id()) {
            return Ok(self.handle(Arc::clone(core)));
        }
        let mut batch = Batch::new();
        let (log, _) = self.log().create_closure(&root, &mut batch)?;
        self.shared()
            .group
            .write(CREATION, batch, self.shared().durability)?;
        let core = Arc::new(Core::load_closure(self.shared(), log)?);
        closures.insert(root.id(), Arc::clone(&core));
        Ok(self.handle(core))
    }

    /// A closure comes before the settings that name it. So that nobody fills a disk with databases that are never
    /// named, few may wait for that.
    fn check_room_for_closure(&self) -> Result<()> {
        let closures: Vec<Id> = self.log().closures()?.iter().map(|log| log.id()).collect();
        if closures.len() < limits::UNNAMED_CLOSURES {
            return Ok(());
        }
        let mut unnamed: BTreeSet<Id> = closures.iter().copied().collect();
        let databases = self.list()?;
        let named = |database: Option<Database>, unnamed: &mut BTreeSet<Id>| -> Result<()> {
            if let Some(database) = database {
                for delegated in database.authority()?.delegated_databases() {
                    unnamed.remove(delegated);
                }
            }
            Ok(())
        };
        for id in &databases {
            named(self.find(id)?, &mut unnamed)?;
        }
        for id in &closures {
            named(self.closure(id)?, &mut unnamed)?;
        }
        match unnamed.len() < limits::UNNAMED_CLOSURES {
            true => Ok(()),
            false => Err(Error::Limit {
                what: "delegated databases that no settings name",
                limit: limits::UNNAMED_CLOSURES,
            }),
        }
    }

    /// Whatever is here of a database with all of these entries in it: the database itself or its closure.
    fn source_of(&self, id: &Id, pins: &[Id]) -> Result<Option<(Database, Kind)>> {
        let found = [
            (self.find(id)?, Kind::Database),
            (self.closure(id)?, Kind::Closure),
        ];
        for (database, kind) in found {
            let Some(database) = database else { continue };
            let snapshot = self.engine().snapshot()?;
            let known = database.core().log.reader(&*snapshot).contains_many(pins)?;
            if known.iter().all(|known| *known) {
                return Ok(Some((database, kind)));
            }
        }
        Ok(None)
    }

    /// What of other databases must come before the entries of `difference`: parts in the order in which they are to
    /// be sent. `held` is what the receiver has of them. O(difference) where the database delegates, else nothing.
    pub(crate) fn closures_for(
        &self,
        database: &Database,
        difference: &Difference,
        held: &[(Id, &[Id])],
    ) -> Result<Vec<Part>> {
        if database.authority()?.delegated_databases().next().is_none() {
            return Ok(Vec::new());
        }
        let mut pins = Pins::new();
        let snapshot = self.engine().snapshot()?;
        add_pins(
            &database.core().log.reader(&*snapshot),
            difference,
            &mut pins,
        )?;
        // A part is made anew when a later one pins more of its database; the last to be found is sent first.
        let mut parts: Vec<Part> = Vec::new();
        let mut open: Vec<Id> = pins.keys().copied().collect();
        while let Some(id) = open.pop() {
            let above: Vec<Id> = pins.get(&id).into_iter().flatten().copied().collect();
            let held = held.iter().find(|(held, _)| *held == id);
            let not = held.map(|(_, tips)| *tips).unwrap_or_default();
            let Some((source, kind)) = self.source_of(&id, &above)? else {
                // What was judged here was judged by it: only a damaged store comes here.
                return Err(Error::Corrupt(format!("the closure of {id} is not here")));
            };
            let reader = source.core().log.reader(&*snapshot);
            let difference = reader.difference(&above, not, &mut Budget::unlimited())?;
            let before = count(&pins);
            add_pins(&reader, &difference, &mut pins)?;
            if count(&pins) > before {
                open = pins.keys().copied().collect();
            }
            parts.retain(|part| part.database != id);
            if parts.len() >= limits::CLOSURES {
                return Err(Error::Limit {
                    what: "delegated databases of one database",
                    limit: limits::CLOSURES,
                });
            }
            parts.push(Part {
                database: id,
                kind,
                difference,
            });
        }
        parts.retain(|part| !part.difference.is_empty());
        parts.reverse();
        Ok(parts)
    }
}

/// Where packs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Database,
    Closure,
}

impl Cursor {
    pub(crate) fn source(&self, databases: &Databases, part: &Part) -> Result<Database> {
        match part.kind {
            Kind::Database => databases.get(&part.database),
            Kind::Closure => databases
                .closure(&part.database)?
                .ok_or(Error::NoDatabase(part.database)),
        }
    }
}

fn count(pins: &Pins) -> usize {
    pins.values().map(BTreeSet::len).sum()
}

/// The database that a pack claims to be of.
fn database_of(pack: &Bytes) -> Option<Id> {
    PackInfo::read(pack).ok().map(|info| info.database)
}

/// Whether packs are of other databases than this one.
pub(crate) fn has_closures(request: &IngestRequest<'_>) -> bool {
    let own = |pack| database_of(pack).is_none_or(|id| id == request.database);
    !request.packs.iter().all(own)
}

/// Adds what the entries of a difference pin of other databases: where their authors' rights come from, and the
/// floors that they set.
fn add_pins(reader: &LogReader<'_>, difference: &Difference, pins: &mut Pins) -> Result<()> {
    for range in difference.ranges() {
        let mut next = range.start;
        while next < range.end {
            let room = usize::try_from(range.end - next).unwrap_or(usize::MAX);
            let entries = reader.entries_from(next, room.min(limits::INGEST_GROUP))?;
            if entries.is_empty() {
                return Err(Error::Corrupt(format!("no entry arrived as {next}")));
            }
            next += entries.len() as u64;
            entries.iter().for_each(|entry| add_pins_of(entry, pins));
        }
    }
    Ok(())
}

fn add_pins_of(entry: &Entry, pins: &mut Pins) {
    for via in &entry.header().author.via {
        pins.entry(via.database)
            .or_default()
            .extend(via.tips.iter());
    }
    let Some(Ok(settings)) = entry
        .payload(&StoreName::settings())
        .map(|payload| SettingsPayload::decode(payload))
    else {
        return;
    };
    for record in settings.records() {
        if let AuthRecord::Delegate(delegation) = record {
            let pinned = pins.entry(delegation.database).or_default();
            pinned.extend(delegation.floor.iter());
        }
    }
}

fn foreign_packs(count: usize) -> IngestReport {
    let foreign = |at| (at, Reject::Foreign.to_string());
    IngestReport {
        bad_packs: (0..count).map(foreign).collect(),
        ..IngestReport::default()
    }
}
