//! Taking in entries that somebody else made: packs from a peer or a file.
//!
//! In waves: while one wave is judged and written under the database's lock, the next one is decoded,
//! looked up and verified on all cores. An entry ends up in one of four places: it is new and stored, it
//! was known, it waits in the pending pool, or it is rejected and leaves no trace. No entry decides about
//! any other than those that build on it.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use eidetica_auth::{Signed, Verdict, verify_batch};
use eidetica_crdt::Order;
use eidetica_entry::dag::{Budget, Dag, Node};
use eidetica_entry::pack::{self, Limits, PackInfo};
use eidetica_entry::{
    Entry, Id, ParentInfo, PublicKey, Stamp, StoreName, derive_height, derive_settings,
};
use eidetica_storage::Batch;
use eidetica_storage::log::{LogError, LogReader};
use rayon::prelude::*;

use crate::apply::writes_of;
use crate::authority::SettingsSource;
use crate::core::{Sequencer, Written};
use crate::error::{Error, Reject, Result};
use crate::events::Origin;
use crate::pending::Source;
use crate::{Database, limits};

/// Packs to take in.
#[derive(Clone, Copy, Debug)]
pub struct IngestRequest<'a> {
    /// The database.
    pub database: Id,
    /// Packs, parents before children.
    pub packs: &'a [Bytes],
    /// Whether to begin the database if it is not here; its root must then be in the first pack.
    pub create: bool,
    /// Who sent them, so that one peer cannot fill the pending pool for all.
    pub source: Option<PublicKey>,
}

impl<'a> IngestRequest<'a> {
    /// Packs for a database that is here.
    pub fn new(database: Id, packs: &'a [Bytes]) -> Self {
        Self {
            database,
            packs,
            create: false,
            source: None,
        }
    }

    /// Begins the database if it is not here.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Names the peer that sent the packs.
    #[must_use]
    pub fn from(mut self, source: PublicKey) -> Self {
        self.source = Some(source);
        self
    }
}

/// What became of the entries of an [`IngestRequest`].
#[derive(Clone, Debug, Default)]
pub struct IngestReport {
    /// Entries stored, those included that had waited for them.
    pub new: u64,
    /// Entries that were here already.
    pub known: u64,
    /// Entries that wait for an ancestor or a settings payload.
    pub pending: u64,
    /// Entries that can never be part of the database, with the reason; at most
    /// [`limits::REPORTED_REJECTS`] are named.
    pub rejected: Vec<(Id, Reject)>,
    /// How many were rejected.
    pub rejected_count: u64,
    /// Packs that are none, by their position, with the reason. The others were taken in.
    pub bad_packs: Vec<(usize, String)>,
    /// The tips afterwards.
    pub tips: Vec<Stamp>,
}

impl IngestReport {
    fn reject(&mut self, id: Id, reason: Reject) {
        self.rejected_count += 1;
        if self.rejected.len() < limits::REPORTED_REJECTS {
            self.rejected.push((id, reason));
        }
    }
}

/// The packs of one wave, decoded and verified.
#[derive(Default)]
pub(crate) struct Wave {
    packs: Vec<WavePack>,
    /// The version of the database when it was asked which entries are known.
    version: u64,
    known: u64,
    bad: Vec<(Id, Reject)>,
    bad_packs: Vec<(usize, String)>,
}

pub(crate) struct WavePack {
    /// The bytes, if every entry of them is in `entries`.
    whole: Option<Bytes>,
    /// Entries that were not known and whose signatures hold, in the order of the pack.
    pub(crate) entries: Vec<Entry>,
}

impl Wave {
    /// Decodes and checks packs, which begin at position `first` of the request. No lock is held.
    pub(crate) fn prepare(
        database: Id,
        first: usize,
        packs: &[Bytes],
        seed: [u8; 32],
        version: u64,
        known: impl FnOnce(&[Id]) -> Result<Vec<bool>>,
    ) -> Result<Self> {
        let mut wave = Self {
            version,
            ..Self::default()
        };
        let decoded: Vec<_> = packs
            .par_iter()
            .map(|pack| decode(database, pack))
            .collect();
        for (at, (bytes, decoded)) in packs.iter().zip(decoded).enumerate() {
            match decoded {
                Ok(entries) => wave.packs.push(WavePack {
                    whole: Some(bytes.clone()),
                    entries,
                }),
                Err(error) => wave.bad_packs.push((first + at, error)),
            }
        }
        wave.drop_known(known)?;
        wave.drop_unsigned(seed);
        Ok(wave)
    }

    fn drop_known(&mut self, known: impl FnOnce(&[Id]) -> Result<Vec<bool>>) -> Result<()> {
        let ids: Vec<Id> = self
            .packs
            .iter()
            .flat_map(|pack| pack.entries.iter().map(Entry::id))
            .collect();
        let mut known = known(&ids)?.into_iter();
        for pack in &mut self.packs {
            self.known += pack.retain(|_| !known.next().unwrap_or(false));
        }
        Ok(())
    }

    fn drop_unsigned(&mut self, seed: [u8; 32]) {
        let entries: Vec<&Entry> = self.packs.iter().flat_map(|pack| &pack.entries).collect();
        let messages: Vec<_> = entries
            .par_iter()
            .map(|entry| entry.signing_message())
            .collect();
        let signed: Vec<Signed<'_>> = entries
            .iter()
            .zip(&messages)
            .map(|(entry, message)| Signed {
                key: &entry.header().author.key,
                message,
                signature: entry.signature(),
            })
            .collect();
        let bad: HashSet<usize> = verify_batch(&signed, seed).into_iter().collect();
        if bad.is_empty() {
            return;
        }
        let mut at = 0;
        for pack in &mut self.packs {
            pack.retain(|entry| {
                let holds = !bad.contains(&at);
                at += 1;
                if !holds {
                    self.bad.push((entry.id(), Reject::Signature));
                }
                holds
            });
        }
    }

    pub(crate) fn root(&self, database: Id) -> Option<&Entry> {
        self.packs
            .iter()
            .flat_map(|pack| &pack.entries)
            .find(|entry| entry.id() == database)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.packs.iter().flat_map(|pack| &pack.entries)
    }
}

impl WavePack {
    /// Keeps some entries; says how many went.
    fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) -> u64 {
        let before = self.entries.len();
        self.entries.retain(keep);
        let gone = before - self.entries.len();
        if gone > 0 {
            self.whole = None;
        }
        gone as u64
    }
}

fn decode(database: Id, bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let info = PackInfo::read(bytes).map_err(|error| error.to_string())?;
    if info.database != database {
        return Err(Reject::Foreign.to_string());
    }
    pack::decode(bytes, &Limits::default()).map_err(|error| error.to_string())
}

/// Cuts a request into waves of about [`limits::INGEST_GROUP`] entries, by what the packs claim, and of
/// at most [`limits::INGEST_WAVE_PACKS`].
pub(crate) fn waves(packs: &[Bytes]) -> Vec<(usize, &[Bytes])> {
    let mut waves = Vec::new();
    let (mut start, mut entries) = (0, 0);
    for (at, pack) in packs.iter().enumerate() {
        entries += PackInfo::read(pack).map_or(1, |info| info.entries as usize);
        if entries >= limits::INGEST_GROUP || at + 1 - start >= limits::INGEST_WAVE_PACKS {
            waves.extend(packs.get(start..=at).map(|wave| (start, wave)));
            (start, entries) = (at + 1, 0);
        }
    }
    waves.extend(
        packs
            .get(start..)
            .filter(|rest| !rest.is_empty())
            .map(|rest| (start, rest)),
    );
    waves
}

/// Judges the entries of one wave, in order, over what is stored.
struct Judging<'a> {
    database: &'a Database,
    reader: &'a LogReader<'a>,
    sequencer: &'a Sequencer,
    /// Stored or staged parents of the wave's entries.
    parents: HashMap<Id, ParentInfo>,
    /// Accepted entries.
    accepted: HashMap<Id, ParentInfo>,
    /// Accepted entries that write settings.
    settings: HashMap<Id, Entry>,
    rejected: HashSet<Id>,
    report: &'a mut IngestReport,
    source: Source,
}

impl Judging<'_> {
    /// Says whether the entry is accepted; then `freed` gets those that had waited for it.
    fn take(
        &mut self,
        entry: &Entry,
        source: Source,
        freed: &mut VecDeque<(Entry, Source)>,
    ) -> Result<bool> {
        let id = entry.id();
        if self.accepted.contains_key(&id) {
            self.report.known += 1;
            return Ok(false);
        }
        match self.judge(entry)? {
            Judged::Sound => {
                self.accepted.insert(id, ParentInfo::from(entry));
                if entry.header().writes_settings() {
                    self.settings.insert(id, entry.clone());
                }
                freed.extend(self.database.core().pool.lock().release(&id));
                self.report.new += 1;
                Ok(true)
            }
            Judged::Pending(missing) => {
                self.database
                    .core()
                    .pool
                    .lock()
                    .add(&entry.compact(), source, missing);
                self.report.pending += 1;
                Ok(false)
            }
            Judged::Reject(reason) => {
                self.rejected.insert(id);
                for child in self.database.core().pool.lock().reject(&id) {
                    self.rejected.insert(child);
                    self.report.reject(child, Reject::Parent(id));
                }
                self.report.reject(id, reason);
                Ok(false)
            }
        }
    }

    fn judge(&self, entry: &Entry) -> Result<Judged> {
        let header = entry.header();
        if entry.database() != self.database.id() {
            return Ok(Judged::Reject(Reject::Foreign));
        }
        let mut parents = Vec::with_capacity(header.parents.len());
        let mut missing = HashSet::new();
        for parent in &header.parents {
            if self.rejected.contains(parent) {
                return Ok(Judged::Reject(Reject::Parent(*parent)));
            }
            match self
                .accepted
                .get(parent)
                .or_else(|| self.parents.get(parent))
            {
                Some(info) => parents.push(info.clone()),
                None => drop(missing.insert(*parent)),
            }
        }
        if !missing.is_empty() {
            return Ok(Judged::Pending(missing));
        }
        if header.height != derive_height(&parents) {
            return Ok(Judged::Reject(Reject::Height));
        }
        let derived =
            derive_settings(&parents, &self, &mut Budget::unlimited()).map_err(LogError::from)?;
        if header.settings != derived {
            return Ok(Judged::Reject(Reject::Settings));
        }
        let payload = entry.payload(&StoreName::settings()).map(AsRef::as_ref);
        Ok(
            match self
                .database
                .core()
                .authority
                .judge(entry.id(), header, payload, self)?
            {
                Verdict::Sound(_) => Judged::Sound,
                Verdict::Reject(reason) => Judged::Reject(Reject::Authority(reason)),
                _ => Judged::Pending(HashSet::new()),
            },
        )
    }

    /// Looks up parents that are in none of the wave's entries, with one call.
    fn look_up<'e>(&mut self, entries: impl Iterator<Item = &'e Entry> + Clone) -> Result<()> {
        let own: HashSet<Id> = entries.clone().map(Entry::id).collect();
        let outside: HashSet<Id> = entries
            .flat_map(|entry| entry.header().parents.iter())
            .filter(|parent| !own.contains(*parent) && !self.parents.contains_key(*parent))
            .copied()
            .collect();
        let outside: Vec<Id> = outside.into_iter().collect();
        for (id, info) in outside.iter().zip(self.reader.parent_infos(&outside)?) {
            if let Some(info) = info.or_else(|| self.sequencer.staged(id).cloned()) {
                self.parents.insert(*id, info);
            }
        }
        Ok(())
    }
}

enum Judged {
    Sound,
    Pending(HashSet<Id>),
    Reject(Reject),
}

impl SettingsSource for Judging<'_> {
    fn settings_entry(&self, id: &Id) -> Result<Option<Entry>> {
        match self.settings.get(id) {
            Some(entry) => Ok(Some(entry.clone())),
            None => Ok(self.reader.get(id)?),
        }
    }
}

/// The settings entries, with their pins as edges.
impl Dag for &Judging<'_> {
    type Error = LogError;

    fn node(&self, id: &Id) -> Result<Option<Node>, LogError> {
        match self.accepted.get(id) {
            Some(info) => Ok(Some(Node {
                height: info.height,
                parents: info.settings.clone(),
            })),
            None => self.reader.settings_dag().node(id),
        }
    }
}

impl Database {
    /// Takes in the packs of a request for this database, wave by wave.
    pub(crate) fn ingest_packs(
        &self,
        request: &IngestRequest<'_>,
        mut report: IngestReport,
    ) -> Result<IngestReport> {
        let mut waves = waves(request.packs).into_iter();
        let prepare = |(first, packs): (usize, &[Bytes])| self.prepare(first, packs);
        let mut next = waves.next().map(prepare);
        while let Some(wave) = next {
            let wave = wave?;
            let following = waves.next();
            // A plain thread: what runs on it waits for all cores and never takes the database's lock.
            next = std::thread::scope(|scope| {
                let preparing = following.map(|following| scope.spawn(move || prepare(following)));
                let stored = self.store(wave, request.source, &mut report);
                let prepared =
                    preparing.map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
                stored.map(|()| prepared)
            })?;
        }
        report.tips = self.tips()?;
        Ok(report)
    }

    fn prepare(&self, first: usize, packs: &[Bytes]) -> Result<Wave> {
        let version = self.core().version();
        let known = |ids: &[Id]| {
            let snapshot = self.shared().engine.snapshot()?;
            Ok(self.core().log.reader(&*snapshot).contains_many(ids)?)
        };
        Wave::prepare(
            self.id(),
            first,
            packs,
            self.shared().entropy.seed(),
            version,
            known,
        )
    }

    /// Judges and stores one wave. Several batches at most: the entries, and state that was deferred.
    fn store(&self, mut wave: Wave, source: Source, report: &mut IngestReport) -> Result<()> {
        report.known += wave.known;
        report.bad_packs.append(&mut wave.bad_packs);
        for (id, reason) in std::mem::take(&mut wave.bad) {
            report.reject(id, reason);
        }
        if wave.entries().next().is_none() {
            return Ok(());
        }
        let written = {
            let mut sequencer = self.core().sequence()?;
            self.drop_stored_since(&mut wave, &sequencer, report)?;
            let accepted = self.judge_wave(&mut wave, source, &sequencer, report)?;
            self.write_wave(&accepted, &mut sequencer)?
        };
        if let Some(written) = written {
            self.core().announce(&written, self);
        }
        Ok(())
    }

    /// Drops entries that were stored after the wave was prepared.
    fn drop_stored_since(
        &self,
        wave: &mut Wave,
        sequencer: &Sequencer,
        report: &mut IngestReport,
    ) -> Result<()> {
        if wave.version == sequencer.writer.state().version {
            return Ok(());
        }
        let snapshot = self.shared().engine.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let ids: Vec<Id> = wave.entries().map(Entry::id).collect();
        let stored = reader.contains_many(&ids)?;
        let stored: HashSet<Id> = ids
            .into_iter()
            .zip(stored)
            .filter(|(id, stored)| *stored || sequencer.staged(id).is_some())
            .map(|(id, _)| id)
            .collect();
        for pack in &mut wave.packs {
            report.known += pack.retain(|entry| !stored.contains(&entry.id()));
        }
        Ok(())
    }

    /// What of the wave is to be stored, by pack; entries that had waited come last.
    fn judge_wave(
        &self,
        wave: &mut Wave,
        source: Source,
        sequencer: &Sequencer,
        report: &mut IngestReport,
    ) -> Result<Vec<WavePack>> {
        let snapshot = self.shared().engine.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let mut judging = Judging {
            database: self,
            reader: &reader,
            sequencer,
            parents: HashMap::new(),
            accepted: HashMap::new(),
            settings: HashMap::new(),
            rejected: HashSet::new(),
            report,
            source,
        };
        judging.look_up(wave.entries())?;
        let mut freed = VecDeque::new();
        let mut failed = Ok(());
        for pack in &mut wave.packs {
            pack.retain(|entry| {
                failed.is_ok()
                    && judging
                        .take(entry, judging.source, &mut freed)
                        .unwrap_or_else(|error| {
                            failed = Err(error);
                            false
                        })
            });
            failed?;
            failed = Ok(());
        }
        let mut late = Vec::new();
        while let Some((entry, source)) = freed.pop_front() {
            judging.look_up(std::iter::once(&entry))?;
            if judging.take(&entry, source, &mut freed)? {
                late.push(entry);
            }
        }
        let mut accepted = std::mem::take(&mut wave.packs);
        accepted.push(WavePack {
            whole: None,
            entries: late,
        });
        accepted.retain(|pack| !pack.entries.is_empty());
        Ok(accepted)
    }

    /// Writes accepted entries as one batch, and their state with them or later.
    fn write_wave(&self, packs: &[WavePack], sequencer: &mut Sequencer) -> Result<Option<Written>> {
        if packs.is_empty() {
            return Ok(None);
        }
        let staged = self.stage_wave(packs, sequencer);
        let (batch, written) = staged.inspect_err(|_| sequencer.fail())?;
        self.core()
            .set_behind(!sequencer.writer.state().is_applied());
        let first = written.next_arrival
            - packs
                .iter()
                .map(|pack| pack.entries.len() as u64)
                .sum::<u64>();
        let entries = packs.iter().flat_map(|pack| &pack.entries);
        for (arrival, entry) in (first..).zip(entries) {
            self.core().events.queue(arrival, entry, Origin::Remote);
        }
        self.write_locked(sequencer, batch, written)?;
        if sequencer.deferred.is_full() {
            self.flush(sequencer)?;
        }
        Ok(Some(written))
    }

    fn stage_wave(
        &self,
        packs: &[WavePack],
        sequencer: &mut Sequencer,
    ) -> Result<(Batch, Written)> {
        let mut batch = Batch::new();
        let count: usize = packs.iter().map(|pack| pack.entries.len()).sum();
        let at_once = count < limits::DEFER_STATE_FROM && sequencer.writer.state().is_applied();
        if at_once {
            let entries: Vec<Entry> = packs
                .iter()
                .flat_map(|pack| pack.entries.iter().cloned())
                .collect();
            let snapshot = self.shared().engine.snapshot()?;
            let writes = writes_of(&entries);
            self.core()
                .apply(&writes, Order::Any, &*snapshot, sequencer, &mut batch, None)?;
        } else {
            let mut from = sequencer.writer.state().next_arrival;
            for pack in packs {
                sequencer.deferred.add(from, &pack.entries);
                from += pack.entries.len() as u64;
            }
        }
        let mut stage = sequencer.writer.stage();
        for pack in packs {
            stage.add_pack(&pack.entries, pack.whole.as_ref(), &mut batch)?;
        }
        if at_once {
            let applied = stage.state().next_arrival;
            stage.set_applied(applied);
        }
        let state = stage.finish(&mut batch)?;
        let number = sequencer.next_batch();
        Ok((
            batch,
            Written {
                number,
                version: state.version,
                next_arrival: state.next_arrival,
            },
        ))
    }
}

fn panicked() -> Error {
    Error::Stopped("decoding packs ended early".into())
}
