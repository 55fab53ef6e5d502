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
use eidetica_storage::log::{DatabaseLog, Difference, LogReader, Taken};
use eidetica_storage::{Batch, Snapshot};

use crate::core::Core;
use crate::databases::{Cursor, Part, names_of_root};
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
            let authority = match database.authority() {
                // It is to be mended first, and then more is sent than would have to be.
                Err(Error::Corrupt(_) | Error::NoEntry(_)) if database.is_damaged()? => {
                    continue;
                }
                authority => authority?,
            };
            for delegated in authority.delegated_databases() {
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
        let known = closures.get(id).cloned();
        if let Some(core) = &known
            && !self.shared().has_others()
        {
            return Ok(Some(self.handle(Arc::clone(core))));
        }
        // Another process may have taken it away, and brought it again.
        let Some(log) = self.log().closure(id)? else {
            closures.remove(id);
            return Ok(None);
        };
        if let Some(core) = known.filter(|core| core.log.no() == log.no()) {
            return Ok(Some(self.handle(core)));
        }
        let core = Arc::new(Core::load_closure(self.shared(), log)?);
        closures.insert(*id, Arc::clone(&core));
        Ok(Some(self.handle(core)))
    }

    /// Takes in packs of a database and of those that it delegates to, in their order.
    pub(crate) fn ingest_with_closures(&self, request: &IngestRequest<'_>) -> Result<IngestReport> {
        let mut report = IngestReport::default();
        let (mut first, mut room) = (0, limits::NEW_CLOSURES);
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
                Some(delegated) => match self.ingest_closure(delegated, &request, &mut room) {
                    // They are of no use to this database, and no reason to leave the others out.
                    Err(Error::NoDatabase(_)) => bad_packs(run.len(), &Reject::Foreign),
                    Err(error @ Error::Refused(_)) => bad_packs(run.len(), &error),
                    Err(error @ (Error::Limit { .. } | Error::Overtaken)) => IngestReport {
                        left_out: all_packs(run.len(), &error),
                        ..IngestReport::default()
                    },
                    taken => taken?,
                },
                None => self.ingest_own(&request, ())?,
            };
            for (at, _) in taken.bad_packs.iter_mut().chain(&mut taken.left_out) {
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

    /// Entries of a closure count as neither new nor known: nobody asked for them. There is room for so many new closures.
    pub(crate) fn ingest_closure(
        &self,
        delegated: Id,
        request: &IngestRequest<'_>,
        room: &mut usize,
    ) -> Result<IngestReport> {
        let request = IngestRequest {
            database: delegated,
            ..*request
        };
        let found = self.closure(&delegated)?;
        let is_new = found.is_none();
        let closure = match found {
            Some(closure) => closure,
            None => {
                *room = room.checked_sub(1).ok_or(Error::Limit {
                    what: "new databases that are delegated to in one request",
                    limit: limits::NEW_CLOSURES,
                })?;
                self.begin_closure(&request)?
            }
        };
        closure.core().touch(self.shared());
        self.check_room_in_closure(&closure, request.packs)?;
        let taken = closure.ingest_packs(&request, (), IngestReport::default());
        let report = taken.map_err(|error| match error {
            // Another process has made room just now: that is not the packs' fault.
            Error::NoDatabase(gone) if gone == delegated => Error::Overtaken,
            error => error,
        })?;
        if is_new {
            // Its root may be all that there is to wait for.
            closure.wake_awaiting();
        }
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
        let root = self.root_in(request)?;
        self.judge_root(&root)?;
        self.make_room_for_closure()?;
        let root = root.without_data();
        self.shared().racing(|| {
            let taken = self.shared().taken_before(&root)?;
            if taken.is_some() {
                self.judge_root(&root)?;
            }
            let mut closures = self.shared().closures.lock();
            if let Some(core) = closures.get(&root.id()) {
                return Ok(self.handle(Arc::clone(core)));
            }
            let log = match self.log().closure(&root.id())? {
                Some(log) => log,
                None => self.create_closure_log(&root, taken.as_ref())?,
            };
            let core = Arc::new(Core::load_closure(self.shared(), log)?);
            closures.insert(root.id(), Arc::clone(&core));
            Ok(self.handle(core))
        })
    }

    fn create_closure_log(&self, root: &Entry, taken: Option<&Taken>) -> Result<DatabaseLog> {
        let _creating = self.shared().creating.lock();
        let mut batch = Batch::new();
        let (log, _) = self
            .log()
            .create_closure(root, &mut batch, names_of_root(taken))?;
        self.shared()
            .group
            .write(CREATION, batch, self.shared().durability)?;
        Ok(log)
    }

    /// Where entries of a database are here: in the database itself, and in its closure if that has others.
    fn sources_of(
        &self,
        id: &Id,
        pins: &BTreeSet<Id>,
        snapshot: &dyn Snapshot,
    ) -> Result<Vec<(Database, Kind, Vec<Id>)>> {
        let found = [
            (self.find(id)?, Kind::Database),
            (self.closure(id)?, Kind::Closure),
        ];
        let mut rest: Vec<Id> = pins.iter().copied().collect();
        let mut sources = Vec::new();
        for (database, kind) in found {
            let Some(database) = database else { continue };
            let known = database.core().log.reader(snapshot).contains_many(&rest)?;
            let known: BTreeSet<Id> = rest.iter().zip(known).filter_map(in_it).collect();
            rest.retain(|pin| !known.contains(pin));
            if !known.is_empty() {
                sources.push((database, kind, known.into_iter().collect()));
            }
        }
        match rest.is_empty() {
            true => Ok(sources),
            // What was judged here was judged by it: only a damaged store comes here.
            false => Err(Error::Corrupt(format!("the closure of {id} is not here"))),
        }
    }

    /// What of other databases must come before the entries of `difference`: parts in the order in which they are to
    /// be sent. `not_own` and `held` are what the receiver has of the database and of others. O(difference) where the
    /// database delegates, times how deep floors follow from each other; else nothing.
    pub(crate) fn closures_for(
        &self,
        database: &Database,
        difference: &Difference,
        not_own: &[Id],
        held: &[(Id, &[Id])],
    ) -> Result<Vec<Part>> {
        if database.authority()?.delegated_databases().next().is_none() {
            return Ok(Vec::new());
        }
        let snapshot = self.shared().rows.snapshot()?;
        let mut pins = Pins::new();
        add_pins(
            &database.core().log.reader(&*snapshot),
            difference,
            &mut pins,
        )?;
        let first: Vec<Id> = pins.keys().copied().collect();
        let mut round = Rounds {
            databases: self,
            own: database.id(),
            not_own,
            held,
            snapshot: &*snapshot,
            pins,
            parts: BTreeMap::new(),
            needs: BTreeMap::new(),
        };
        // Parts are made anew when others pin more of their database: in rounds, one for each floor above another.
        let mut open: BTreeSet<Id> = first.iter().copied().collect();
        while !open.is_empty() {
            open = round.make(open)?;
        }
        let order = deepest_first(first, &round.needs);
        let mut parts = round.parts;
        let parts = order.iter().filter_map(|id| parts.remove(id)).flatten();
        Ok(parts.filter(|part| !part.difference.is_empty()).collect())
    }

    /// What is to be sent of one database, and what it pins of others.
    fn parts_of(
        &self,
        id: &Id,
        above: &BTreeSet<Id>,
        not: &[Id],
        snapshot: &dyn Snapshot,
        pinned: &mut Pins,
    ) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (source, kind, above) in self.sources_of(id, above, snapshot)? {
            let reader = source.core().log.reader(snapshot);
            let difference = reader.difference(&above, not, &mut Budget::unlimited())?;
            add_pins(&reader, &difference, pinned)?;
            parts.push(Part {
                database: *id,
                kind,
                difference,
            });
        }
        Ok(parts)
    }
}

/// What is to be sent of databases that others pin, which may pin further ones.
struct Rounds<'a> {
    databases: &'a Databases,
    own: Id,
    /// What the receiver has of the database that all this is for, and of others.
    not_own: &'a [Id],
    held: &'a [(Id, &'a [Id])],
    snapshot: &'a dyn Snapshot,
    pins: Pins,
    parts: BTreeMap<Id, Vec<Part>>,
    /// The databases that each one pins.
    needs: BTreeMap<Id, Vec<Id>>,
}

impl Rounds<'_> {
    /// Makes the parts of some databases; says of which more is pinned by that.
    fn make(&mut self, databases: BTreeSet<Id>) -> Result<BTreeSet<Id>> {
        let mut more = Pins::new();
        for id in databases {
            let above = self.pins.get(&id).cloned().unwrap_or_default();
            let is_own = id == self.own;
            let held = self.held.iter().find(|(held, _)| *held == id);
            let not = match is_own {
                true => self.not_own,
                false => held.map(|(_, tips)| *tips).unwrap_or_default(),
            };
            let mut pinned = Pins::new();
            let parts = self
                .databases
                .parts_of(&id, &above, not, self.snapshot, &mut pinned);
            let mut made = parts?;
            // Of the database itself there is more to come, with its data.
            made.retain(|part| !is_own || part.kind == Kind::Database);
            self.parts.insert(id, made);
            self.needs.insert(id, pinned.keys().copied().collect());
            merge(&mut more, pinned);
        }
        Ok(merge(&mut self.pins, more))
    }
}

/// Adds pins to others; says of which databases there are more than before.
fn merge(pins: &mut Pins, more: Pins) -> BTreeSet<Id> {
    let mut grown = BTreeSet::new();
    for (id, tips) in more {
        let known = pins.entry(id).or_default();
        let before = known.len();
        known.extend(tips);
        if known.len() > before {
            grown.insert(id);
        }
    }
    grown
}

fn in_it((id, is_in): (&Id, bool)) -> Option<Id> {
    is_in.then_some(*id)
}

/// The databases that some need, each after those that it needs itself, as far as that is possible.
fn deepest_first(first: Vec<Id>, needs: &BTreeMap<Id, Vec<Id>>) -> Vec<Id> {
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    let mut open: Vec<(Id, bool)> = first.into_iter().map(|id| (id, false)).collect();
    while let Some((id, is_done)) = open.pop() {
        if is_done {
            order.push(id);
        } else if seen.insert(id) {
            open.push((id, true));
            let below = needs.get(&id).into_iter().flatten();
            open.extend(below.map(|id| (*id, false)));
        }
    }
    order
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

fn bad_packs(count: usize, why: &impl ToString) -> IngestReport {
    IngestReport {
        bad_packs: all_packs(count, why),
        ..IngestReport::default()
    }
}

/// So many packs, each with this reason.
fn all_packs(count: usize, why: &impl ToString) -> Vec<(usize, String)> {
    (0..count).map(|at| (at, why.to_string())).collect()
}
