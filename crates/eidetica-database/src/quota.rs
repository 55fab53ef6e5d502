//! How much a database may hold here. A setting of this instance: no peer hears of it.
//!
//! Counted are the bytes of the entries, each encoded by itself. What does not fit is refused as a whole: a commit
//! before it is signed, entries of peers with an error that blames nobody, so that they are sent again and come in when
//! there is room. A database that is full is read, and passed on, as before.
//!
//! Who may fill it must not be out of reach then: entries that write settings and nothing else have a reserve above the
//! limit, half of which what is below them may take as well.

use std::collections::HashSet;

use eidetica_auth::{AuthRecord, SettingsPayload};
use eidetica_entry::{Draft, Entry, Header, Id, StoreName};
use eidetica_storage::Batch;

pub use eidetica_storage::log::Quota;

use crate::core::Sequencer;
use crate::error::{Error, Result};
use crate::{Database, limits};

impl Database {
    /// How much the database may hold and holds; `None` without a limit, which is how it begins.
    ///
    /// # Errors
    /// The engine's.
    pub fn quota(&self) -> Result<Option<Quota>> {
        let snapshot = self.shared().rows.snapshot()?;
        Ok(self.core().log.reader(&*snapshot).quota()?)
    }

    /// Limits how many bytes of entries the database may hold, or ends that. What it holds stays, however much that is.
    ///
    /// The first limit costs reading all entries, under the database's lock.
    ///
    /// # Errors
    /// The engine's.
    pub fn set_quota(&self, limit: Option<u64>) -> Result<()> {
        self.racing(|| self.in_sequence(|sequencer| self.set_quota_in(sequencer, limit)))
    }

    fn set_quota_in(&self, sequencer: &mut Sequencer, limit: Option<u64>) -> Result<()> {
        self.drain(sequencer)?;
        let bytes = match (sequencer.writer.quota(), limit) {
            (Some(quota), _) => quota.bytes,
            (None, Some(_)) => self.entry_bytes()?,
            (None, None) => return Ok(()),
        };
        let mut batch = Batch::new();
        let mut stage = sequencer.writer.stage();
        stage.set_quota(limit.map(|limit| Quota { limit, bytes }));
        let state = stage.finish(&mut batch)?;
        self.write_staged(sequencer, batch, &state)
    }

    fn entry_bytes(&self) -> Result<u64> {
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let (mut next, mut bytes) = (0, 0);
        loop {
            let entries = reader.entries_from(next, limits::INGEST_GROUP)?;
            if entries.is_empty() {
                return Ok(bytes);
            }
            next += entries.len() as u64;
            bytes += entries
                .iter()
                .map(|entry| entry.encoded_len() as u64)
                .sum::<u64>();
        }
    }
}

impl Sequencer {
    /// # Errors
    /// [`Error::Full`] if the database may not hold so many bytes of entries more, within its limit and a reserve.
    pub(crate) fn check_room(&self, more: usize, reserve: u64) -> Result<()> {
        let Some(quota) = self.writer.quota() else {
            return Ok(());
        };
        let limit = quota.limit.saturating_add(reserve);
        match (Quota { limit, ..*quota }).admits(more as u64) {
            true => Ok(()),
            false => Err(Error::Full {
                limit: quota.limit,
                bytes: quota.bytes,
                more: more as u64,
            }),
        }
    }

    /// Like [`check_room`](Self::check_room), for an entry that is made here.
    pub(crate) fn check_room_for(&self, draft: &Draft, settings: Option<&[u8]>) -> Result<()> {
        let reserve = match is_control(draft.header(), settings) {
            true => limits::QUOTA_RESERVE_BYTES,
            false => 0,
        };
        self.check_room(draft.encoded_len(), reserve)
    }
}

/// Whether an entry writes settings and nothing else, and more of them than anybody with a right may write: giving up a
/// key takes none from others.
fn is_control(header: &Header, settings: Option<&[u8]>) -> bool {
    let gives_up =
        |record: &AuthRecord| matches!(record, AuthRecord::Renounce | AuthRecord::Rotate { .. });
    let is_alone = header.stores.iter().all(|store| store.name.is_settings());
    let Some(Ok(settings)) = settings.filter(|_| is_alone).map(SettingsPayload::decode) else {
        return false;
    };
    !settings.doc().is_empty() || !settings.records().iter().all(gives_up)
}

fn controls(entry: &Entry) -> bool {
    let settings = entry.payload(&StoreName::settings());
    is_control(entry.header(), settings.map(AsRef::as_ref))
}

/// What a full database takes in all the same, by a wave's entries, parents first: those that write settings alone, with
/// what of the others they build on, or without any where that is too much. `fits` says what is.
pub(crate) fn of_control(entries: &[&Entry], fits: impl Fn(usize, u64) -> bool) -> HashSet<Id> {
    let bytes = |of: &HashSet<Id>| {
        let of = entries.iter().filter(|entry| of.contains(&entry.id()));
        of.map(|entry| entry.encoded_len()).sum()
    };
    let mut all = HashSet::new();
    for entry in entries.iter().rev() {
        if controls(entry) || all.contains(&entry.id()) {
            all.insert(entry.id());
            all.extend(entry.header().parents.iter());
        }
    }
    if fits(bytes(&all), limits::QUOTA_RESERVE_BYTES / 2) {
        return all;
    }
    let mut others: HashSet<Id> = HashSet::new();
    let (mut alone, mut taken) = (HashSet::new(), 0);
    for entry in entries {
        let stands =
            controls(entry) && !entry.header().parents.iter().any(|id| others.contains(id));
        if stands && fits(taken + entry.encoded_len(), limits::QUOTA_RESERVE_BYTES) {
            taken += entry.encoded_len();
            alone.insert(entry.id());
        } else {
            others.insert(entry.id());
        }
    }
    alone
}
