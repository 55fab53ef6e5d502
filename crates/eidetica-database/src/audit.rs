//! Looking at authority: what is void and why, and who was allowed what, when, by whom.

use std::collections::HashMap;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, AuthState, KeyName, SettingsPayload, Standing, VoidReason};
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Entry, Id, Ids, PublicKey, Stamp, StoreName};
use eidetica_storage::log::{LogError, LogReader, Mark};

use crate::error::{Error, Result};
use crate::known::Known;
use crate::region::Cuts;
use crate::standing::Standings;
use crate::{Database, limits};

/// An entry whose author's right was taken away: it contributes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VoidEntry {
    /// The entry.
    pub stamp: Stamp,
    /// Who signed it.
    pub author: PublicKey,
    /// When it was made, by its author's word, in milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// The stores that it writes to.
    pub stores: Vec<StoreName>,
    /// Why it is void.
    pub reason: VoidReason,
}

/// Some void entries, in the order in which they arrived here.
#[derive(Debug, Clone, Default)]
pub struct VoidPage {
    /// The entries.
    pub entries: Vec<VoidEntry>,
    /// What to ask for next; `None` if these are the last.
    pub next: Option<u64>,
}

/// A settings entry with authority records, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The entry.
    pub stamp: Stamp,
    /// Who signed it.
    pub author: PublicKey,
    /// What the settings call the author; may be empty.
    pub author_name: KeyName,
    /// When it was made, by its author's word, in milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// Whether it counts, and with which right it was made; else why not.
    pub standing: Standing,
    /// What it says.
    pub records: Vec<AuditRecord>,
}

/// One authority record, and until when it held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditRecord {
    /// What it says.
    pub record: AuthRecord,
    /// The settings entry that ended what it gives, in whole or in part; `None` while it holds. Always
    /// `None` for what takes.
    pub until: Option<Id>,
}

/// Some settings entries, each after all that it builds on.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// The entries by ascending stamp.
    pub entries: Vec<AuditEntry>,
    /// What to ask for next; `None` if these are the last.
    pub next: Option<Stamp>,
}

impl Database {
    /// The void entries from number `from` on ([`VoidPage::next`], or 0), at most `limit` and
    /// [`limits::PAGE_ROWS`], with the reasons. Costs the settings entries that the reasons come from and the
    /// history between the cuts and these entries.
    ///
    /// # Errors
    /// The engine's, marks that are not right.
    pub fn void_entries(&self, from: u64, limit: usize) -> Result<VoidPage> {
        let limit = limit.clamp(1, limits::PAGE_ROWS);
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let marks = reader.marks(Mark::Void)?;
        let mut arrivals = marks.iter_from(from);
        let page: Vec<u64> = arrivals.by_ref().take(limit).collect();
        let next = arrivals.next();
        let entries: Vec<Entry> = page
            .iter()
            .map(|arrival| Ok(reader.at(*arrival)?))
            .collect::<Result<_>>()?;
        let standings = self.standings_of(&entries, &reader)?;
        let entries = entries.iter().zip(standings);
        let entries = entries.map(|(entry, standing)| match standing {
            Standing::Void(reason) => Ok(void_entry(entry, reason)),
            Standing::Effective(_) => Err(Error::Corrupt(format!(
                "entry {} is marked void and counts",
                entry.id()
            ))),
        });
        let entries = entries.collect::<Result<_>>()?;
        Ok(VoidPage { entries, next })
    }

    /// How many entries are void: one row.
    ///
    /// # Errors
    /// The engine's.
    pub fn void_count(&self) -> Result<u64> {
        let snapshot = self.shared().rows.snapshot()?;
        Ok(self.core().log.reader(&*snapshot).state()?.void)
    }

    /// How one entry stands by everything that is here: whether it counts and by which right of its author,
    /// or why not.
    ///
    /// # Errors
    /// [`Error::NoEntry`], the engine's.
    pub fn standing_of(&self, id: &Id) -> Result<Standing> {
        let standing = self.standings(&[*id])?.pop();
        standing
            .map(|(_, standing)| standing)
            .ok_or(Error::NoEntry(*id))
    }

    /// How entries stand, each with whether it writes settings.
    pub(crate) fn standings(&self, ids: &[Id]) -> Result<Vec<(Entry, Standing)>> {
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let found = ids.iter().zip(reader.get_many(ids)?);
        let found = found.map(|(id, entry)| entry.ok_or(Error::NoEntry(*id)));
        let entries: Vec<Entry> = found.collect::<Result<_>>()?;
        let standings = self.standings_of(&entries, &reader)?;
        Ok(entries.into_iter().zip(standings).collect())
    }

    fn standings_of(&self, entries: &[Entry], reader: &LogReader<'_>) -> Result<Vec<Standing>> {
        let known = Known::new(self.shared(), self.id(), reader);
        let settings: Ids = reader.state()?.settings.iter().copied().collect();
        let standings = Standings::at(&self.core().authority, &known, &settings)?;
        let ids: Vec<Id> = entries.iter().map(Entry::id).collect();
        let mut cuts = Cuts::of(&known, entries.iter().map(Entry::stamp));
        let entries = entries.iter().zip(reader.locate(&ids)?);
        let standings = entries.map(|(entry, located)| {
            let arrival = located.map(|located| located.arrival);
            let outside = |cut: &eidetica_auth::Cut| cuts.are_outside(&entry.id(), arrival, cut);
            standings.of(&entry.id(), entry.header(), outside)
        });
        standings.collect()
    }

    /// Who was allowed what, since which entry, by whom, until which entry: the entries with authority
    /// records above `after`, void ones too, at most `limit` and [`limits::PAGE_ROWS`], each after all that it
    /// builds on. A page costs its entries and the keys; the first one all settings entries, until there are more.
    ///
    /// # Errors
    /// The engine's.
    pub fn audit(&self, after: Option<Stamp>, limit: usize) -> Result<AuditPage> {
        let limit = limit.clamp(1, limits::PAGE_ROWS);
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let known = Known::new(self.shared(), self.id(), &reader);
        let settings: Ids = reader.state()?.settings.into_iter().collect();
        let state = self.core().authority.at(&settings, &known)?;
        let names = names(&state);
        let stamps = self.settings_entries(&settings, &known)?;
        let from = stamps.partition_point(|stamp| Some(*stamp) <= after);
        let mut entries = Vec::new();
        let mut rest = stamps.get(from..).unwrap_or_default().iter();
        let mut last = None;
        for stamp in rest.by_ref() {
            let entry = reader.get(&stamp.id)?.ok_or(Error::NoEntry(stamp.id))?;
            entries.extend(audit_entry(&entry, &state, &names)?);
            last = Some(*stamp);
            if entries.len() == limit {
                break;
            }
        }
        let next = last.filter(|_| rest.next().is_some());
        Ok(AuditPage { entries, next })
    }

    /// All settings entries at or below a frontier, ascending.
    fn settings_entries(&self, frontier: &Ids, known: &Known<'_>) -> Result<Arc<[Stamp]>> {
        let mut listed = self.core().listed.lock();
        if let Some((_, stamps)) = listed.as_ref().filter(|(of, _)| of == frontier) {
            return Ok(Arc::clone(stamps));
        }
        let dag = known.settings();
        let past = dag::ancestors(&dag, frontier, Budget::unlimited()).map_err(LogError::from)?;
        let stamps: std::result::Result<Vec<Stamp>, _> = past.collect();
        let mut stamps = stamps.map_err(LogError::from)?;
        stamps.reverse();
        let stamps = Arc::from(stamps);
        *listed = Some((frontier.clone(), Arc::clone(&stamps)));
        Ok(stamps)
    }
}

fn void_entry(entry: &Entry, reason: VoidReason) -> VoidEntry {
    let header = entry.header();
    VoidEntry {
        stamp: entry.stamp(),
        author: header.author.key,
        timestamp_ms: header.timestamp_ms,
        stores: header
            .stores
            .iter()
            .map(|store| store.name.clone())
            .collect(),
        reason,
    }
}

/// What the settings call keys, those that have no right any more too.
fn names(state: &AuthState) -> HashMap<PublicKey, KeyName> {
    let gone = state.revoked_keys().map(|(key, entry)| (*key, entry.name));
    let held = state.keys().map(|(key, entry)| (*key, entry.name.clone()));
    gone.chain(held).collect()
}

/// `None` for an entry that says nothing about authority.
fn audit_entry(
    entry: &Entry,
    state: &AuthState,
    names: &HashMap<PublicKey, KeyName>,
) -> Result<Option<AuditEntry>> {
    let (id, header) = (entry.id(), entry.header());
    let corrupt = || Error::Corrupt(format!("settings entry {id} has no settings"));
    let payload = entry.payload(&StoreName::settings()).ok_or_else(corrupt)?;
    let payload = SettingsPayload::decode(payload).map_err(|_| corrupt())?;
    if payload.records().is_empty() {
        return Ok(None);
    }
    let author = header.author.key;
    let record = |record: &AuthRecord| AuditRecord {
        until: state.ended_by(&id, record),
        record: record.clone(),
    };
    Ok(Some(AuditEntry {
        stamp: entry.stamp(),
        author,
        author_name: names.get(&author).cloned().unwrap_or_default(),
        timestamp_ms: header.timestamp_ms,
        standing: state.settings_standing(&id).ok_or_else(corrupt)?,
        records: payload.records().iter().map(record).collect(),
    }))
}
