//! What two replicas compare: the entries that are passed on, as a set of stamps.
//!
//! Of a database these are the effective entries and all that they build on. Summaries of old ones are kept by the
//! log; whoever asks first computes them, and they are written here, after the answer was made.

use std::collections::BTreeSet;

use eidetica_entry::dag::{self, Budget, DagError};
use eidetica_entry::reconcile::{self, Contrast, Detail, Found, Part, Room, Span};
use eidetica_entry::{Id, Stamp};
use eidetica_storage::Snapshot;
use eidetica_storage::log::{Difference, LogError, LogReader, StampSet};

use crate::closure::Kind;
use crate::databases::{Cursor, Part as SentPart};
use crate::error::Result;
use crate::holds::Holds;
use crate::{Database, Databases, PackPage, limits};

impl Databases {
    /// What is in some spans, ascending: see [`reconcile::describe`]. Costs what is said, and the entries of old
    /// heights that nobody has asked for yet.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn describe(
        &self,
        database: &Id,
        spans: &[(Span, Detail)],
        mut room: Room,
    ) -> Result<Vec<Part>> {
        self.get(database)?.with_stamps(|set| {
            let mut parts = Vec::new();
            for (span, detail) in spans {
                reconcile::describe(set, *span, *detail, &mut room, &mut parts)?;
            }
            Ok(parts)
        })
    }

    /// The effective entries that are in nobody's past of `common`, ascending, with what is between; none where one of
    /// `common` is not here, or where more than `steps` entries were looked at.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn since(&self, database: &Id, common: &[Id], steps: u64) -> Result<Option<Vec<Stamp>>> {
        let database = self.get(database)?;
        let snapshot = self.shared().rows.snapshot()?;
        since(
            &database.core().log.reader(&*snapshot),
            common,
            Budget::new(steps),
        )
    }

    /// How what a peer says of its entries differs from those here. What is here and not passed on counts as here.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn contrast(&self, database: &Id, theirs: &[Part], limit: usize) -> Result<Contrast> {
        let database = self.get(database)?;
        let mut contrast =
            database.with_stamps(|set| Ok(reconcile::contrast(set, theirs, limit)?))?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        for found in &mut contrast.found {
            retain_absent(&reader, &mut found.theirs)?;
        }
        Ok(contrast)
    }

    /// The same where the peer has listed all that it has beyond `common`; none as in [`since`](Self::since), or where
    /// more than `limit` entries are here and not there.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn contrast_since(
        &self,
        database: &Id,
        common: &[Id],
        theirs: &[Id],
        steps: u64,
        limit: usize,
    ) -> Result<Option<Contrast>> {
        let database = self.get(database)?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let Some(ours) = since(&reader, common, Budget::new(steps))? else {
            return Ok(None);
        };
        let listed: BTreeSet<Id> = theirs.iter().copied().collect();
        let ours = ours.into_iter().map(|stamp| stamp.id);
        let ours: Vec<Id> = ours.filter(|id| !listed.contains(id)).collect();
        if ours.len() > limit {
            return Ok(None);
        }
        let mut theirs = theirs.to_vec();
        retain_absent(&reader, &mut theirs)?;
        let found = Found {
            span: Span::ALL,
            theirs,
            ours,
            more: false,
        };
        Ok(Some(Contrast {
            open: Vec::new(),
            found: vec![found],
        }))
    }

    /// One page of packs of the entries whose ids begin like these, parents first; before them packs of other databases
    /// as in [`difference_above`](Self::difference_above). What is not here counts for nothing. With a cursor, the
    /// next page. One lookup per entry.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn selected<P: AsRef<[u8]>>(
        &self,
        database: &Id,
        prefixes: &[P],
        held: &[(Id, &[Id])],
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        self.selected_for(database, prefixes, held, &Holds::All, cursor, budget_bytes)
    }

    /// Like [`selected`](Self::selected), with the payloads of some stores, which the first page fixes.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn selected_for<P: AsRef<[u8]>>(
        &self,
        database: &Id,
        prefixes: &[P],
        held: &[(Id, &[Id])],
        holds: &Holds,
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        let cursor = match cursor {
            Some(cursor) => cursor,
            None => self.begin_selected(database, prefixes, held, holds)?,
        };
        self.difference_above(database, &[], &[], Some(cursor), budget_bytes)
    }

    /// One page of packs of those of the entries whose ids begin like these that have a payload of one of some stores
    /// here, with those payloads and no others but `_settings`. With a cursor, the next page. Entries that have none are
    /// left out: whoever asks has them. One lookup per entry, and a look at each.
    ///
    /// Where the database delegates to others, entries of these that are named are given too, without data: whoever may
    /// read it has their closures, and asks for what is damaged there. It is not asked whether they are in a closure, since
    /// whoever can name an entry has met its id in one.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), the engine's.
    pub fn payloads<P: AsRef<[u8]>>(
        &self,
        database: &Id,
        prefixes: &[P],
        holds: &Holds,
        cursor: Option<Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage> {
        let cursor = match cursor {
            Some(cursor) => cursor,
            None => self.begin_payloads(database, prefixes, holds)?,
        };
        self.difference_above(database, &[], &[], Some(cursor), budget_bytes)
    }

    fn begin_payloads<P: AsRef<[u8]>>(
        &self,
        database: &Id,
        prefixes: &[P],
        holds: &Holds,
    ) -> Result<Cursor> {
        let database = self.get(database)?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let (mut arrivals, others) = split_known(&reader, prefixes.iter().map(P::as_ref))?;
        arrivals.sort_unstable();
        let mut having = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let entry = reader.at(arrival)?;
            let mut payloads = entry.payloads();
            if payloads.any(|(store, payload)| payload.is_some() && holds.has(store)) {
                having.push(arrival);
            }
        }
        let (difference, tips) = (Difference::of(having), reader.state()?.tips);
        let others = self.begin_elsewhere(&database, others, &*snapshot)?;
        Ok(Cursor::new(database.id(), difference, others, tips, holds))
    }

    /// The entries whose ids begin like these, of the databases that one delegates to.
    fn begin_elsewhere(
        &self,
        database: &Database,
        mut prefixes: Vec<&[u8]>,
        snapshot: &dyn Snapshot,
    ) -> Result<Vec<SentPart>> {
        let mut parts = Vec::new();
        prefixes.truncate(limits::CLOSURE_MENDED);
        if prefixes.is_empty() {
            return Ok(parts);
        }
        for id in self.delegated(database)? {
            let sources = [
                (self.closure(&id)?, Kind::Closure),
                (self.find(&id)?, Kind::Database),
            ];
            for (source, kind) in sources {
                let Some(source) = source else { continue };
                let reader = source.core().log.reader(snapshot);
                let (mut found, rest) = split_known(&reader, prefixes.into_iter())?;
                prefixes = rest;
                // What is damaged here too, others may have.
                found.retain(|arrival| reader.at(*arrival).is_ok());
                found.sort_unstable();
                if !found.is_empty() {
                    parts.push(SentPart {
                        database: id,
                        kind,
                        difference: Difference::of(found),
                    });
                }
            }
        }
        Ok(parts)
    }

    fn begin_selected<P: AsRef<[u8]>>(
        &self,
        database: &Id,
        prefixes: &[P],
        held: &[(Id, &[Id])],
        holds: &Holds,
    ) -> Result<Cursor> {
        let database = self.get(database)?;
        let snapshot = self.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let difference = Difference::of(with_prefixes(&reader, prefixes)?);
        let below = match database.authority()?.delegated_databases().next() {
            Some(_) => below(&reader, &difference)?,
            None => Vec::new(),
        };
        let closures = self.closures_for(&database, &difference, &below, held)?;
        Ok(Cursor::new(
            database.id(),
            difference,
            closures,
            reader.state()?.tips,
            holds,
        ))
    }
}

fn with_prefixes<P: AsRef<[u8]>>(reader: &LogReader<'_>, prefixes: &[P]) -> Result<Vec<u64>> {
    let mut arrivals = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        arrivals.extend(reader.with_prefix(prefix.as_ref())?);
    }
    Ok(arrivals)
}

/// The entries whose ids begin like these, and the beginnings of those that are not here.
fn split_known<'p>(
    reader: &LogReader<'_>,
    prefixes: impl Iterator<Item = &'p [u8]>,
) -> Result<(Vec<u64>, Vec<&'p [u8]>)> {
    let (mut arrivals, mut others) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        let found = reader.with_prefix(prefix)?;
        if found.is_empty() {
            others.push(prefix);
        }
        arrivals.extend(found);
    }
    Ok((arrivals, others))
}

impl Database {
    /// Calls `with` with the stamps of what is passed on, and keeps what that computed.
    fn with_stamps<T>(&self, with: impl FnOnce(&mut StampSet<'_, '_>) -> Result<T>) -> Result<T> {
        let log = &self.core().log;
        let snapshot = log.engine().snapshot()?;
        let reader = log.reader(&*snapshot);
        let mut set = reader.stamp_set()?;
        let result = with(&mut set)?;
        let new = set.into_new();
        drop(snapshot);
        if !new.is_empty() {
            // Where an old height has changed meanwhile, the next who asks keeps them.
            log.keep(&new)?;
        }
        Ok(result)
    }
}

fn since(reader: &LogReader<'_>, common: &[Id], mut budget: Budget) -> Result<Option<Vec<Stamp>>> {
    if !reader.contains_many(common)?.iter().all(|known| *known) {
        return Ok(None);
    }
    let tips: Vec<Id> = reader.state()?.tips.iter().map(|tip| tip.id).collect();
    match dag::difference(reader, &tips, common, &mut budget) {
        Ok(stamps) => Ok(Some(stamps)),
        Err(DagError::Budget) => Ok(None),
        Err(error) => Err(LogError::from(error).into()),
    }
}

fn retain_absent(reader: &LogReader<'_>, ids: &mut Vec<Id>) -> Result<()> {
    let mut known = reader.contains_many(ids)?.into_iter();
    ids.retain(|_| known.next() == Some(false));
    Ok(())
}

/// What some entries build on that is not among them.
fn below(reader: &LogReader<'_>, difference: &Difference) -> Result<Vec<Id>> {
    let mut below = BTreeSet::new();
    for range in difference.ranges() {
        let mut next = range.start;
        while next < range.end {
            let room = usize::try_from(range.end - next).unwrap_or(usize::MAX);
            let entries = reader.entries_from(next, room.min(limits::INGEST_GROUP))?;
            let parents = entries
                .iter()
                .flat_map(|entry| entry.header().parents.iter());
            below.extend(parents.copied());
            next += entries.len().max(1) as u64;
        }
    }
    let ids: Vec<Id> = below.into_iter().collect();
    let located = ids.iter().zip(reader.locate(&ids)?);
    let outside = located.filter(|(_, at)| at.is_some_and(|at| !difference.contains(at.arrival)));
    Ok(outside.map(|(id, _)| *id).collect())
}
