//! Taking in entries that somebody else made: packs from a peer or a file.
//!
//! In waves: while one wave is judged and written under the database's lock, the next ones are decoded,
//! looked up and verified on all cores. An entry ends up in one of four places: it is new and stored, it
//! was known, it waits in the pending pool, or it is rejected and leaves no trace. No entry decides about
//! any other than those that build on it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use eidetica_auth::{Changes, Missing, Signed, Verdict, verify_batch};
use eidetica_crdt::Order;
use eidetica_entry::dag::Budget;
use eidetica_entry::pack::{self, Limits, PackInfo};
use eidetica_entry::{
    Entry, Id, ParentInfo, PublicKey, Stamp, StoreName, derive_height, derive_settings,
};
use eidetica_storage::log::{LogError, LogReader, Mark};
use eidetica_storage::{Batch, Snapshot};
use rayon::prelude::*;

use crate::apply::{Writes, writes_of};
use crate::core::{Sequence, Sequencer, Written};
use crate::effects::{Effects, Flip};
use crate::error::{Error, Reject, Result};
use crate::events::Origin;
use crate::holds::Holds;
use crate::known::{Known, New};
use crate::names::names_others;
use crate::pending::Source;
use crate::quota::of_control;
use crate::settle::Turned;
use crate::standing::{Standings, advance};
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
    /// How many of the new entries are void: they are kept and contribute nothing.
    pub void: u64,
    /// Void entries that were turned away, since there are enough of their author or in all: see
    /// [`limits::VOID_PER_AUTHOR`] and [`limits::VOID_ENTRIES`].
    pub refused: u64,
    /// Payloads that stored entries lacked, and entries that were damaged, which are here now.
    pub filled: u64,
    /// Payloads of stores that are held here which the new entries lack.
    pub lacking: u64,
    /// Entries that wait for an ancestor, a `_settings` payload or another database.
    pub pending: u64,
    /// Entries that can never be part of the database, with the reason; at most
    /// [`limits::REPORTED_REJECTS`] are named.
    pub rejected: Vec<(Id, Reject)>,
    /// How many were rejected.
    pub rejected_count: u64,
    /// Packs that are none, by their position, with the reason. The others were taken in.
    pub bad_packs: Vec<(usize, String)>,
    /// Packs of databases that are delegated to which there is no room for, by their position, with the reason. Nobody
    /// is to blame: there may be room once settings or entries wait for them.
    pub left_out: Vec<(usize, String)>,
    /// The tips afterwards.
    pub tips: Vec<Stamp>,
}

impl IngestReport {
    /// Adds what became of further packs.
    pub(crate) fn add(&mut self, more: Self) {
        self.new += more.new;
        self.known += more.known;
        self.void += more.void;
        self.refused += more.refused;
        self.filled += more.filled;
        self.lacking += more.lacking;
        self.pending += more.pending;
        self.rejected_count += more.rejected_count;
        let room = limits::REPORTED_REJECTS.saturating_sub(self.rejected.len());
        self.rejected.extend(more.rejected.into_iter().take(room));
        self.bad_packs.extend(more.bad_packs);
        self.left_out.extend(more.left_out);
        self.tips = more.tips;
    }

    pub(crate) fn reject(&mut self, id: Id, reason: Reject) {
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
    /// Known entries that come with what may be missing or damaged here.
    bringing: Vec<Entry>,
    bad: Vec<(Id, Reject)>,
    bad_packs: Vec<(usize, String)>,
    /// Whether they are this instance's own and committed: there is room for them.
    is_own: bool,
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
        brings: impl Fn(&Entry) -> bool,
        known: impl FnOnce(&[Stamp]) -> Result<Vec<bool>>,
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
        wave.drop_known(brings, known)?;
        wave.drop_unsigned(seed);
        Ok(wave)
    }

    /// Known entries may bring what is missing or damaged here.
    fn drop_known(
        &mut self,
        brings: impl Fn(&Entry) -> bool,
        known: impl FnOnce(&[Stamp]) -> Result<Vec<bool>>,
    ) -> Result<()> {
        let stamps: Vec<Stamp> = self.entries().map(Entry::stamp).collect();
        let mut known = known(&stamps)?.into_iter();
        for pack in &mut self.packs {
            let bringing = &mut self.bringing;
            self.known += pack.retain(|entry| {
                let is_known = known.next().unwrap_or(false);
                if is_known && brings(entry) {
                    bringing.push(entry.clone());
                }
                !is_known
            });
        }
        Ok(())
    }

    fn drop_unsigned(&mut self, seed: [u8; 32]) {
        let entries: Vec<&Entry> = self.packs.iter().flat_map(|pack| &pack.entries).collect();
        let bad: HashSet<usize> = forged(&entries, seed).into_iter().collect();
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

    /// Keeps the payloads of some stores, and of others no more than that they were committed to.
    fn keep_data_of(&mut self, keep: impl Fn(&StoreName) -> bool) {
        let is_left_out = |(store, payload): (&StoreName, Option<&Bytes>)| {
            payload.is_some() && !store.is_settings() && !keep(store)
        };
        let strip = |entry: &Entry| {
            let stripped = entry.payloads().any(is_left_out);
            stripped.then(|| entry.with_payloads_of(|store| store.is_settings() || keep(store)))
        };
        for pack in &mut self.packs {
            for entry in &mut pack.entries {
                if let Some(stripped) = strip(entry) {
                    *entry = stripped;
                    pack.whole = None;
                }
            }
        }
        for entry in &mut self.bringing {
            if let Some(stripped) = strip(entry) {
                *entry = stripped;
            }
        }
    }

    /// Puts entries first that were turned away before. They may have come again since and been stored.
    fn begin_with(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.version = u64::MAX;
        let whole = None;
        self.packs.insert(0, WavePack { whole, entries });
    }

    /// Entries that were judged and could not be written.
    fn again(accepted: Accepted, report: &mut IngestReport) -> Self {
        report.new -= accepted.new.len() as u64;
        report.void -= accepted.void.len() as u64;
        Self {
            packs: accepted.packs,
            version: u64::MAX,
            is_own: accepted.is_own,
            ..Self::default()
        }
    }

    /// Verified entries of this instance. They may be stored already.
    pub(crate) fn own(entries: Vec<Entry>) -> Self {
        let mut wave = Self {
            is_own: true,
            ..Self::default()
        };
        wave.begin_with(entries);
        wave
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
    /// Whether every entry of the pack is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

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

/// The positions of entries whose signatures do not hold. On all cores.
pub(crate) fn forged(entries: &[&Entry], seed: [u8; 32]) -> Vec<usize> {
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
    verify_batch(&signed, seed)
}

fn has_data(entry: &Entry) -> bool {
    let mut payloads = entry.payloads();
    payloads.any(|(store, payload)| payload.is_some() && !store.is_settings())
}

fn decode(database: Id, bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let info = PackInfo::read(bytes).map_err(|error| error.to_string())?;
    if info.database != database {
        return Err(Reject::Foreign.to_string());
    }
    pack::decode(bytes, &Limits::default()).map_err(|error| error.to_string())
}

/// Cuts a request into waves of about [`limits::INGEST_GROUP`] entries or [`limits::INGEST_WAVE_BYTES`], by what the
/// packs claim, and of at most [`limits::INGEST_WAVE_PACKS`].
pub(crate) fn waves(packs: &[Bytes]) -> Vec<(usize, &[Bytes])> {
    let mut waves = Vec::new();
    let (mut start, mut entries, mut bytes) = (0, 0, 0);
    for (at, pack) in packs.iter().enumerate() {
        let (more, raw) =
            PackInfo::read(pack).map_or((1, 0), |info| (info.entries, info.raw_bytes));
        entries += more as usize;
        bytes = raw.saturating_add(bytes);
        if entries >= limits::INGEST_GROUP
            || bytes >= limits::INGEST_WAVE_BYTES
            || at + 1 - start >= limits::INGEST_WAVE_PACKS
        {
            waves.extend(packs.get(start..=at).map(|wave| (start, wave)));
            (start, entries, bytes) = (at + 1, 0, 0);
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

/// Waves that are prepared one after the other, beside those of other lanes.
struct Lane<'a> {
    waves: Vec<(usize, &'a [Bytes])>,
    ready: mpsc::SyncSender<Result<Wave>>,
}

/// Deals waves to lanes, and gives them back in their order.
fn lanes<'a>(
    waves: Vec<(usize, &'a [Bytes])>,
) -> (Vec<Lane<'a>>, impl Iterator<Item = Result<Wave>> + use<>) {
    let most = limits::INGEST_LANES.min(rayon::current_num_threads());
    let count = waves.len().clamp(1, most);
    let ahead = limits::INGEST_WAVES_AHEAD.div_ceil(count);
    let lane = |number| {
        let (ready, prepared) = mpsc::sync_channel(ahead);
        let waves = waves.iter().skip(number).step_by(count).copied().collect();
        (Lane { waves, ready }, prepared)
    };
    let (lanes, prepared): (Vec<_>, Vec<_>) = (0..count).map(lane).unzip();
    let mut turn = 0;
    // Waves are dealt in turn: where a lane has nothing more, no other has.
    let in_turn = std::iter::from_fn(move || {
        let wave = prepared.get(turn)?.recv().ok();
        turn = (turn + 1) % count;
        wave
    });
    (lanes, in_turn)
}

/// Judges the entries of one wave, in order, over what is stored, each by its own past.
struct Judging<'j, 'a> {
    database: &'a Database,
    known: &'j mut Known<'a>,
    /// Stored parents of the wave's entries.
    parents: HashMap<Id, ParentInfo>,
    rejected: HashSet<Id>,
    report: &'j mut IngestReport,
    source: Source,
    /// Whether they are this instance's own and committed: then they are stored, or stay where they are.
    is_own: bool,
}

impl Judging<'_, '_> {
    /// Says whether the entry is accepted; then `freed` gets those that had waited for it.
    fn take(
        &mut self,
        entry: &Entry,
        source: Source,
        freed: &mut VecDeque<(Entry, Source)>,
    ) -> Result<bool> {
        let id = entry.id();
        if self.known.is_new(&id) {
            self.report.known += 1;
            return Ok(false);
        }
        match self.judge_now(entry, source)? {
            Judged::Sound => {
                self.known.add(id, New::Entry(entry.clone()));
                freed.extend(self.database.core().pool.lock().release(&id));
                Ok(true)
            }
            Judged::Pending(missing) => {
                self.report.pending += 1;
                let mut pool = self.database.core().pool.lock();
                pool.add(&entry.compact(), source, missing);
                Ok(false)
            }
            Judged::Delegated(_) => {
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

    /// Where another database is missing, it is looked for again once it is sure to tell when it has changed; then the
    /// entry is in the pool.
    fn judge_now(&self, entry: &Entry, source: Source) -> Result<Judged> {
        let mut judged = self.judge(entry)?;
        if self.is_own {
            judged.check_here(&entry.id())?;
        }
        while let Judged::Delegated(delegated) = judged {
            let version = self.database.await_delegated(delegated);
            judged = self.judge(entry)?;
            let waits = matches!(judged, Judged::Delegated(still) if still == delegated);
            if waits
                && self
                    .database
                    .add_delegated(entry, source, delegated, version)
            {
                break;
            }
        }
        Ok(judged)
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
            let new = self.known.new_entry(parent).map(New::info);
            match new.or_else(|| self.parents.get(parent).cloned()) {
                Some(info) => parents.push(info),
                None => drop(missing.insert(*parent)),
            }
        }
        if !missing.is_empty() {
            return Ok(Judged::Pending(missing));
        }
        if header.height != derive_height(&parents) {
            return Ok(Judged::Reject(Reject::Height));
        }
        let settings = self.known.settings();
        let derived = derive_settings(&parents, &settings, &mut Budget::unlimited());
        if header.settings != derived.map_err(LogError::from)? {
            return Ok(Judged::Reject(Reject::Settings));
        }
        let payload = entry.payload(&StoreName::settings()).map(AsRef::as_ref);
        let authority = &self.database.core().authority;
        let verdict = authority.judge(entry.id(), header, payload, &*self.known)?;
        Ok(match verdict {
            Verdict::Sound(_) => Judged::Sound,
            Verdict::Reject(reason) => Judged::Reject(Reject::Authority(reason)),
            Verdict::Pending(Missing::Delegated { database, .. }) => Judged::Delegated(database),
            _ => Judged::Pending(HashSet::new()),
        })
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
        let infos = self.known.reader.parent_infos(&outside)?;
        let found = outside.into_iter().zip(infos);
        self.parents
            .extend(found.filter_map(|(id, info)| Some((id, info?))));
        Ok(())
    }
}

enum Judged {
    Sound,
    Pending(HashSet<Id>),
    /// It waits for this database.
    Delegated(Id),
    Reject(Reject),
}

impl Judged {
    /// # Errors
    /// What an entry lacks that this instance has made, and which was here then.
    fn check_here(&self, id: &Id) -> Result<()> {
        match self {
            Self::Sound | Self::Reject(_) => Ok(()),
            Self::Pending(_) => Err(Error::Corrupt(format!("what entry {id} builds on"))),
            Self::Delegated(database) => Err(Error::NoDatabase(*database)),
        }
    }
}

/// What of a wave is to be stored, and what comes of it.
#[derive(Default)]
struct Accepted {
    packs: Vec<WavePack>,
    /// The entries of all packs, in order.
    new: Vec<Id>,
    void: HashSet<Id>,
    /// Stored entries that change sides.
    flips: Vec<Flip>,
    /// Void entries that are turned away.
    refused: Vec<Entry>,
    /// See [`Wave`].
    is_own: bool,
}

impl Database {
    /// Takes in the packs of a request for this database, wave by wave. Its turn is over when all of them are prepared
    /// and it is the one that stores.
    pub(crate) fn ingest_packs(
        &self,
        request: &IngestRequest<'_>,
        turn: impl Send,
        mut report: IngestReport,
    ) -> Result<IngestReport> {
        let (lanes, prepared) = lanes(waves(request.packs));
        let (storing, stores) = mpsc::channel();
        // Plain threads: what runs on them waits for all cores and never takes the database's lock.
        let any = thread::scope(|scope| {
            let preparing = scope.spawn(move || {
                let prepared = self.prepare_lanes(lanes);
                // It comes, unless the other end is gone by then; either way this is over.
                let _ = stores.recv();
                drop(turn);
                prepared
            });
            let ingesting = self.core().ingesting.lock();
            let _ = storing.send(());
            let stored = self.store_waves(prepared, request.source, &mut report);
            drop(ingesting);
            preparing.join().map_err(|_| panicked())??;
            stored
        })?;
        if any {
            self.wake_awaiting();
        }
        report.tips = self.tips()?;
        Ok(report)
    }

    /// Prepares the waves of each lane on a thread of its own.
    fn prepare_lanes(&self, lanes: Vec<Lane<'_>>) -> Result<()> {
        thread::scope(|scope| {
            let prepare = |lane: Lane<'_>| {
                for (first, packs) in lane.waves {
                    // Whoever takes them has failed, or does with this one.
                    if lane.ready.send(self.prepare(first, packs)).is_err() {
                        break;
                    }
                }
            };
            let mut lanes = lanes.into_iter();
            let own = lanes.next();
            let others: Vec<_> = lanes
                .map(|lane| scope.spawn(move || prepare(lane)))
                .collect();
            own.into_iter().for_each(prepare);
            let mut joined = others.into_iter().map(thread::ScopedJoinHandle::join);
            joined.try_for_each(|joined| joined.map_err(|_| panicked()))
        })
    }

    /// Takes waves as they come; says whether there was anything to store.
    fn store_waves(
        &self,
        waves: impl Iterator<Item = Result<Wave>>,
        source: Source,
        report: &mut IngestReport,
    ) -> Result<bool> {
        let mut any = false;
        for wave in waves {
            let mut wave = wave?;
            let mut bringing = std::mem::take(&mut wave.bringing);
            if self.core().is_damaged() {
                self.restore(&mut bringing, report)?;
            }
            report.filled += self.fill(&bringing)?;
            any |= self.store(wave, source, report)?;
        }
        Ok(any)
    }

    /// Judges entries that waited for other databases.
    pub(crate) fn judge_awaited(&self) -> Result<bool> {
        self.store(Wave::default(), None, &mut IngestReport::default())
    }

    /// Judges entries that wait for nothing else, with those that waited for other databases.
    pub(crate) fn judge_ready(&self, entries: Vec<(Entry, Source)>) -> Result<bool> {
        self.core().pool.lock().add_ready(entries);
        self.judge_awaited()
    }

    fn prepare(&self, first: usize, packs: &[Bytes]) -> Result<Wave> {
        let version = self.core().version();
        let known = |stamps: &[Stamp]| {
            let snapshot = self.shared().rows.snapshot()?;
            Ok(self.core().log.reader(&*snapshot).contains_stamps(stamps)?)
        };
        let seed = self.shared().entropy.seed();
        let sparse = self.core().may_be_sparse() && !self.core().is_closure;
        let lost = self.lost_places()?;
        let brings = |entry: &Entry| (sparse && has_data(entry)) || lost.contains_key(&entry.id());
        let mut wave = Wave::prepare(self.id(), first, packs, seed, version, brings, known)?;
        if self.core().is_closure {
            wave.keep_data_of(|_| false);
        } else if let (true, Holds::Stores(stores)) = (sparse, self.holds()?) {
            wave.keep_data_of(|store| stores.contains(store));
        }
        Ok(wave)
    }

    /// Judges and stores one wave. Several batches at most: the entries, and state that was deferred.
    /// Says whether there was anything to store.
    pub(crate) fn store(
        &self,
        mut wave: Wave,
        source: Source,
        report: &mut IngestReport,
    ) -> Result<bool> {
        self.racing(|| {
            let is_empty = wave.entries().next().is_none();
            let stored = self.store_once(&mut wave, source, report);
            // Trying again would store nothing and say that all is well.
            let is_gone = !is_empty && wave.entries().next().is_none();
            stored.map_err(|error| match error.is_lost_race() && is_gone {
                true => Error::Stopped(format!("taking in entries: {error}")),
                false => error,
            })
        })
    }

    /// The sequencer, when everything that was staged is in the engine.
    fn drained(&self) -> Result<Sequence<'_>> {
        let mut sequencer = self.core().sequence()?;
        self.drain(&mut sequencer)?;
        Ok(sequencer)
    }

    /// Takes the wave. Where another process was faster, what was accepted of it is there to be judged again.
    fn store_once(
        &self,
        again: &mut Wave,
        source: Source,
        report: &mut IngestReport,
    ) -> Result<bool> {
        report.known += std::mem::take(&mut again.known);
        report.bad_packs.append(&mut again.bad_packs);
        for (id, reason) in std::mem::take(&mut again.bad) {
            report.reject(id, reason);
        }
        let mut waiting = self.take_awaited();
        if again.entries().next().is_none() && waiting.is_empty() {
            return Ok(false);
        }
        // What did not fit, though some of it did.
        let mut full = None;
        let written = {
            // What was staged before may be refused: then nothing has happened to the wave.
            let mut sequencer = match self.drained() {
                Ok(sequencer) => sequencer,
                Err(error) => {
                    self.core().pool.lock().add_ready(waiting);
                    return Err(error);
                }
            };
            let mut wave = std::mem::take(again);
            let turned_away = self.core().surplus.lock().take_below(wave.entries());
            let counted_before = turned_away.len() as u64;
            wave.begin_with(turned_away);
            self.drop_stored_since(&mut wave, &sequencer, report)?;
            let snapshot = self.shared().rows.snapshot()?;
            let reader = self.core().log.reader(&*snapshot);
            report.known += drop_stored(&mut waiting, &reader)?;
            let mut known = Known::new(self.shared(), self.id(), &reader);
            let judging = Judging {
                database: self,
                known: &mut known,
                parents: std::mem::take(&mut sequencer.newest),
                rejected: HashSet::new(),
                report,
                source,
                is_own: wave.is_own,
            };
            let packs = judge_wave(&mut wave, waiting, judging)?;
            let mut accepted =
                self.judge_standing(packs, wave.is_own, &mut known, &sequencer, report)?;
            if !accepted.is_own
                && let Err(error) = sequencer.check_room(accepted.bytes(), 0)
            {
                let error = self.confirmed_error(error, &mut sequencer);
                if error.is_lost_race() {
                    let refused = std::mem::take(&mut accepted.refused);
                    self.core().surplus.lock().add(refused);
                    *again = Wave::again(accepted, report);
                    return Err(error);
                }
                let packs = accepted.of_control(&mut known, &sequencer, report);
                if packs.is_empty() {
                    return Err(error);
                }
                accepted = self.judge_standing(packs, false, &mut known, &sequencer, report)?;
                full = Some(error);
            }
            let lacking = self.count_lacking(&accepted)?;
            report.refused = report.refused.saturating_sub(counted_before);
            let refused = std::mem::take(&mut accepted.refused);
            self.core().surplus.lock().add(refused);
            let written = self
                .write_wave(&accepted, &known, &*snapshot, &mut sequencer)
                .map_err(|error| self.confirmed_error(error, &mut sequencer));
            if written.as_ref().is_err_and(Error::is_lost_race) {
                match full {
                    // The others are not kept for it.
                    Some(error) => return Err(error),
                    None => *again = Wave::again(accepted, report),
                }
            }
            let written = written?;
            report.lacking += lacking;
            written
        };
        if let Some(written) = &written {
            self.core().announce(written, self);
        }
        if let Some(error) = full {
            self.wake_awaiting();
            return Err(error);
        }
        Ok(written.is_some())
    }

    /// How many payloads that are to be held accepted entries come without.
    fn count_lacking(&self, accepted: &Accepted) -> Result<u64> {
        let entries = accepted.packs.iter().flat_map(|pack| &pack.entries);
        let mut incomplete = entries.filter(|entry| !entry.is_complete()).peekable();
        if incomplete.peek().is_none() || self.core().is_closure {
            return Ok(0);
        }
        let holds = self.holds()?;
        let lacking = incomplete.flat_map(|entry| {
            let payloads = entry.payloads();
            payloads.filter(|(store, payload)| payload.is_none() && holds.has(store))
        });
        Ok(lacking.count() as u64)
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
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let stamps: Vec<Stamp> = wave.entries().map(Entry::stamp).collect();
        let mut stored = reader.contains_stamps(&stamps)?.into_iter();
        for pack in &mut wave.packs {
            report.known += pack.retain(|_| !stored.next().unwrap_or(false));
        }
        Ok(())
    }

    /// Judges accepted entries by everything that is known with them, and what they change for others.
    fn judge_standing(
        &self,
        packs: Vec<WavePack>,
        is_own: bool,
        known: &mut Known<'_>,
        sequencer: &Sequencer,
        report: &mut IngestReport,
    ) -> Result<Accepted> {
        let mut accepted = Accepted {
            new: ids_of(&packs),
            packs,
            is_own,
            ..Accepted::default()
        };
        let before = sequencer.settings();
        let mut frontier = before.clone();
        for entry in accepted.packs.iter().flat_map(|pack| &pack.entries) {
            if entry.header().writes_settings() {
                frontier = advance(&frontier, entry.id(), entry.header());
            }
        }
        let authority = &self.core().authority;
        let standings = Standings::at(authority, known, &frontier)?;
        let changes = match frontier == before {
            true => Changes::default(),
            false => {
                let before = authority.at(&before, known)?;
                standings.state().changes_since(&before)
            }
        };
        accepted.void = standings.void_of(&accepted.new, &changes)?;
        accepted.flips = standings.flips(&changes, |arrival| {
            sequencer.writer.is_marked(Mark::Void, arrival)
        })?;
        if !accepted.void.is_empty() && !is_own {
            accepted.refuse_surplus(known, sequencer, report)?;
        }
        report.new += accepted.new.len() as u64;
        report.void += accepted.void.len() as u64;
        Ok(accepted)
    }

    /// Writes accepted entries as one batch, and their state with them or later.
    fn write_wave(
        &self,
        accepted: &Accepted,
        known: &Known<'_>,
        snapshot: &dyn Snapshot,
        sequencer: &mut Sequencer,
    ) -> Result<Option<Written>> {
        if accepted.new.is_empty() {
            return Ok(None);
        }
        if !accepted.flips.is_empty() {
            // It does not know of them.
            sequencer.computing = None;
        }
        let staged = self.stage_wave(accepted, known, snapshot, sequencer);
        let (batch, written) = staged.inspect_err(|_| sequencer.fail())?;
        self.core().note_state(sequencer.writer.state());
        self.core().note_holes(&sequencer.writer);
        let first = written.next_arrival - accepted.new.len() as u64;
        let entries = accepted.packs.iter().flat_map(|pack| &pack.entries);
        for (arrival, entry) in (first..).zip(entries) {
            if !accepted.void.contains(&entry.id()) {
                let events = &self.core().events;
                events.queue(arrival, entry, Origin::Remote, written.number);
            }
        }
        self.write_locked(sequencer, batch, written)?;
        let tips = sequencer.writer.tips().iter();
        let infos = tips.filter_map(|tip| Some((tip.id, known.new_entry(&tip.id)?.info())));
        sequencer.newest = infos.collect();
        if sequencer.deferred.is_full() {
            match self.flush_beside(sequencer) {
                // The entries are there; whoever reads next writes their state.
                Err(error) if error.is_lost_race() => {}
                flushed => flushed?,
            }
        }
        Ok(Some(written))
    }

    fn stage_wave(
        &self,
        accepted: &Accepted,
        known: &Known<'_>,
        snapshot: &dyn Snapshot,
        sequencer: &mut Sequencer,
    ) -> Result<(Batch, Written)> {
        let mut batch = Batch::new();
        let at_once =
            accepted.new.len() < limits::DEFER_STATE_FROM && sequencer.writer.state().is_applied();
        let turned = Turned::at_once(&accepted.flips, sequencer, known.reader)?;
        let writes = match at_once {
            true => accepted.writes(),
            // Nobody reads the state of a closure.
            false if self.core().is_closure => Writes::new(),
            false => {
                accepted.defer(sequencer);
                Writes::new()
            }
        };
        self.core().stage_state(
            writes,
            &turned,
            Order::Any,
            snapshot,
            sequencer,
            &mut batch,
            None,
        )?;
        let before = sequencer.writer.state();
        let (first, walks) = (
            before.next_arrival,
            before.void > 0 || !accepted.void.is_empty(),
        );
        let tips = sequencer.writer.tips().to_vec();
        let mut stage = sequencer.writer.stage();
        for pack in &accepted.packs {
            stage.add_pack(&pack.entries, pack.whole.as_ref(), &mut batch)?;
        }
        if at_once {
            let applied = stage.state().next_arrival;
            stage.set_applied(applied);
        }
        let mut entries = accepted.packs.iter().flat_map(|pack| &pack.entries);
        if entries.any(names_others) {
            stage.name_others(&self.shared().log.taken(snapshot)?, &mut batch);
        }
        let mut effects = Effects::new(&mut stage, known, first, &accepted.new);
        if walks {
            effects.arrive(first, &accepted.new, &accepted.void, &tips)?;
        }
        effects.flip(&accepted.flips, &turned)?;
        let state = stage.finish(&mut batch)?;
        sequencer.settled_below = 0;
        Ok((batch, Written::new(sequencer.next_batch(), &state)))
    }
}

/// Drops entries that are stored, as another process may have done; says how many.
fn drop_stored(waiting: &mut Vec<(Entry, Source)>, reader: &LogReader<'_>) -> Result<u64> {
    let ids: Vec<Id> = waiting.iter().map(|(entry, _)| entry.id()).collect();
    let mut stored = reader.contains_many(&ids)?.into_iter();
    let before = waiting.len();
    waiting.retain(|_| !stored.next().unwrap_or_default());
    Ok((before - waiting.len()) as u64)
}

/// What of the wave is sound, by pack; entries that had waited come last.
fn judge_wave(
    wave: &mut Wave,
    waiting: Vec<(Entry, Source)>,
    mut judging: Judging<'_, '_>,
) -> Result<Vec<WavePack>> {
    judging.look_up(wave.entries())?;
    let mut freed = VecDeque::from(waiting);
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
    judging.is_own = false;
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

fn ids_of(packs: &[WavePack]) -> Vec<Id> {
    let entries = packs.iter().flat_map(|pack| &pack.entries);
    entries.map(Entry::id).collect()
}

impl Accepted {
    /// Bytes of the entries, each encoded by itself.
    fn bytes(&self) -> usize {
        let entries = self.packs.iter().flat_map(|pack| &pack.entries);
        entries.map(Entry::encoded_len).sum()
    }

    /// What of it a database takes in that is full; the rest leaves no trace.
    fn of_control(
        &mut self,
        known: &mut Known<'_>,
        sequencer: &Sequencer,
        report: &mut IngestReport,
    ) -> Vec<WavePack> {
        report.new -= self.new.len() as u64;
        report.void -= self.void.len() as u64;
        report.refused -= self.refused.len() as u64;
        let mut packs = std::mem::take(&mut self.packs);
        let entries: Vec<&Entry> = packs.iter().flat_map(|pack| &pack.entries).collect();
        let fits = |bytes, reserve| sequencer.check_room(bytes, reserve).is_ok();
        let kept = of_control(&entries, fits);
        for pack in &mut packs {
            for entry in &pack.entries {
                if !kept.contains(&entry.id()) {
                    known.remove(&entry.id());
                }
            }
            pack.retain(|entry| kept.contains(&entry.id()));
        }
        packs.retain(|pack| !pack.entries.is_empty());
        packs
    }

    /// What the entries write that count.
    fn writes(&self) -> Writes {
        let entries = self.packs.iter().flat_map(|pack| &pack.entries);
        let effective = entries.filter(|entry| !self.void.contains(&entry.id()));
        writes_of(&effective.cloned().collect::<Vec<_>>())
    }

    /// Leaves what the entries write for later; the marks will say then which of them count.
    fn defer(&self, sequencer: &mut Sequencer) {
        sequencer
            .deferred
            .add(sequencer.writer.state(), &self.packs);
    }

    /// Turns void entries away that nothing effective is above, where there are enough of them.
    fn refuse_surplus(
        &mut self,
        known: &mut Known<'_>,
        sequencer: &Sequencer,
        report: &mut IngestReport,
    ) -> Result<()> {
        let mut needed = HashSet::new();
        for id in self.new.iter().rev() {
            if !self.void.contains(id) || needed.contains(id) {
                needed.extend(known.header(id, |header| header.parents.to_vec())?);
            }
        }
        let mut refused: HashSet<Id> = HashSet::new();
        let mut kept: HashMap<PublicKey, u64> = HashMap::new();
        let mut all = sequencer.writer.state().loose;
        for id in &self.new {
            if !self.void.contains(id) || needed.contains(id) {
                continue;
            }
            let (author, above_refused) = known.header(id, |header| {
                let above = header.parents.iter().any(|parent| refused.contains(parent));
                (header.author.key, above)
            })?;
            let own = kept
                .entry(author)
                .or_insert_with(|| sequencer.writer.loose_of(&author));
            let full = *own >= limits::VOID_PER_AUTHOR || all >= limits::VOID_ENTRIES;
            if full || above_refused {
                refused.insert(*id);
            } else {
                *own += 1;
                all += 1;
            }
        }
        for id in &refused {
            known.remove(id);
            self.void.remove(id);
        }
        self.new.retain(|id| !refused.contains(id));
        for pack in &mut self.packs {
            let turned_away = pack.entries.iter();
            let turned_away = turned_away.filter(|entry| refused.contains(&entry.id()));
            self.refused.extend(turned_away.cloned());
            report.refused += pack.retain(|entry| !refused.contains(&entry.id()));
        }
        self.packs.retain(|pack| !pack.entries.is_empty());
        Ok(())
    }
}

fn panicked() -> Error {
    Error::Stopped("decoding packs ended early".into())
}

#[cfg(test)]
mod tests {
    use eidetica_entry::{Draft, Signature};
    use eidetica_storage::log::LogState;

    use super::*;
    use crate::apply::Encoded;
    use crate::deferred::Deferred;

    fn pack_of(payload_bytes: usize) -> Bytes {
        let payload = Bytes::from(vec![0; payload_bytes]);
        let payloads = [(StoreName::settings(), payload)].into();
        let draft = Draft::root([1; 32], payloads, PublicKey::new([1; 32]), None).unwrap();
        pack::encode(&[draft.sign(Signature::new([2; 64]))]).unwrap()
    }

    #[test]
    fn waves_are_bounded_by_packs_and_by_what_they_claim() {
        let lengths = |packs: &[Bytes]| -> Vec<usize> {
            waves(packs).iter().map(|(_, wave)| wave.len()).collect()
        };
        let most = limits::INGEST_WAVE_PACKS;
        assert_eq!(lengths(&vec![pack_of(1); 2 * most + 4]), [most, most, 4]);
        let half = usize::try_from(limits::INGEST_WAVE_BYTES / 2).unwrap();
        let (small, large) = (pack_of(1), pack_of(half));
        assert!(large.len() < 10_000, "it claims more than it is");
        let packs = [&large, &small, &large, &large, &large, &small].map(Bytes::clone);
        assert_eq!(lengths(&packs), [3, 2, 1]);
        assert_eq!(waves(&packs).last().unwrap().0, 5);
    }

    #[test]
    fn what_is_left_of_a_pack_does_not_keep_all_of_it() {
        let bytes = pack_of(1_000);
        for is_whole in [true, false] {
            let pack = WavePack {
                whole: is_whole.then(|| bytes.clone()),
                entries: pack::decode(&bytes, &Limits::default()).unwrap(),
            };
            let mut deferred = Deferred::default();
            deferred.add(&LogState::default(), std::slice::from_ref(&pack));
            let apart: Vec<bool> = deferred.payloads().map(Encoded::is_apart).collect();
            assert_eq!(apart, [!is_whole]);
        }
    }

    #[test]
    fn waves_of_many_lanes_come_in_their_order() {
        let packs = vec![pack_of(1); limits::INGEST_WAVES_AHEAD * limits::INGEST_WAVE_PACKS];
        for count in 1..=limits::INGEST_WAVES_AHEAD {
            let waves = waves(&packs[..count * limits::INGEST_WAVE_PACKS]);
            let firsts: Vec<usize> = waves.iter().map(|(first, _)| *first).collect();
            let (lanes, prepared) = lanes(waves);
            // The last lane is the first to be done.
            for lane in lanes.into_iter().rev() {
                for (first, _) in lane.waves {
                    let known = first as u64;
                    let wave = Wave {
                        known,
                        ..Wave::default()
                    };
                    lane.ready.send(Ok(wave)).unwrap();
                }
            }
            let came: Vec<usize> = prepared.map(|wave| wave.unwrap().known as usize).collect();
            assert_eq!((came.len(), came), (count, firsts));
        }
    }
}
