//! Imports whose processes are gone, on an engine that others write to.
//!
//! Each import that is being made has a row, its *beat*, which its process changes now and then. Whoever finds the same one
//! [`IMPORT_LOOKS`](limits::IMPORT_LOOKS) times, a beat's time apart, takes the process for dead: no clock is compared
//! with another one. What is committed it finishes, the rest it takes away.
//!
//! To be wrong costs the import, and no more: its commit expects a row that goes first of all, so that one which was taken
//! away in part is never committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eidetica_storage::{Batch, Direction, Durability, EngineError, ScanLimit, Space};
use parking_lot::Mutex;

use crate::error::Result;
use crate::shared::Shared;
use crate::spool::{self, SPOOLING};
use crate::{Databases, limits};

/// What a process knows of imports on an engine that it shares, each by what its keys begin with.
#[derive(Default)]
pub(crate) struct Tending {
    /// Those that it is making.
    own: Mutex<BTreeSet<Vec<u8>>>,
    /// Others.
    seen: Mutex<BTreeMap<Vec<u8>, Seen>>,
}

/// An import, and how often it was found so.
struct Seen {
    found: Found,
    looks: u32,
}

/// An import as it stands in the engine.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    is_committed: bool,
    beat: Option<Bytes>,
}

impl Tending {
    pub(crate) fn begin(&self, import: &[u8]) {
        self.own.lock().insert(import.to_vec());
    }

    pub(crate) fn end(&self, import: &[u8]) {
        self.own.lock().remove(import);
    }

    fn own(&self) -> BTreeSet<Vec<u8>> {
        self.own.lock().clone()
    }

    /// Takes notice of all imports of others; gives those that have not changed for so long that their processes are dead.
    fn look(&self, found: BTreeMap<Vec<u8>, Found>) -> Vec<(Vec<u8>, Found)> {
        let mut seen = self.seen.lock();
        let mut before = std::mem::take(&mut *seen);
        let mut still = Vec::new();
        for (import, found) in found {
            let looks = match before.remove(&import) {
                Some(seen) if seen.found == found => seen.looks.saturating_add(1),
                _ => 1,
            };
            if looks >= limits::IMPORT_LOOKS {
                still.push((import.clone(), found.clone()));
            }
            seen.insert(import, Seen { found, looks });
        }
        still
    }
}

impl Databases {
    /// One look at the imports on an engine that other processes may use: says of those that are being made here that they
    /// are, and ends those that were found unchanged [`limits::IMPORT_LOOKS`] times, since their processes are dead. What
    /// was committed becomes part of its database, the rest is taken away. Returns how many were ended.
    ///
    /// The owner of time calls it every [`limits::IMPORT_BEAT_MS`] while the instance is open. An import of a process that
    /// does not is taken for abandoned by those that do, once it has added nothing for so long: its commit is refused
    /// ([`Abandoned`](crate::Error::Abandoned)). Costs one lookup where there is no import, and two for each; nothing on an
    /// engine that is not shared.
    ///
    /// # Errors
    /// The engine's. What cannot be done for one import is logged, and tried again at the next look.
    pub fn tend_imports(&self) -> Result<u64> {
        let shared = self.shared();
        let Some(others) = &shared.others else {
            return Ok(0);
        };
        let own = others.tending.own();
        own.iter().try_for_each(|import| shared.beat(import))?;
        let mut found = shared.imports()?;
        found.retain(|import, _| !own.contains(import));
        let mut ended = 0;
        for (import, found) in others.tending.look(found) {
            let done = match found.is_committed {
                true => self.finish_import(&import),
                false => shared.end_import(&import, found.beat.as_deref()),
            };
            match done {
                Ok(done) => ended += u64::from(done),
                Err(error) => tracing::warn!(%error, "cannot end the import of another process"),
            }
        }
        Ok(ended)
    }

    /// Makes a committed import part of its database. Says whether it was still there.
    fn finish_import(&self, import: &[u8]) -> Result<bool> {
        let snapshot = self.shared().rows.snapshot()?;
        let entries = spool::entries_of(import);
        let page = snapshot.scan(
            Space::Local,
            &entries,
            Direction::Forward,
            ScanLimit::rows(1),
        )?;
        drop(snapshot);
        let Some(row) = page.rows.first() else {
            // All of them are in the log.
            self.shared().clear_spooled(import)?;
            return Ok(true);
        };
        let id = spool::spooled_entry(row)?.database();
        // One that is not here was forgotten, and takes its imports along.
        let database = self.find(&id)?;
        database.map_or(Ok(false), |database| {
            database.recover_imports().map(|()| true)
        })
    }
}

impl Shared {
    /// Shows that an import of this process goes on.
    fn beat(&self, import: &[u8]) -> Result<()> {
        let mut batch = Batch::new();
        spool::stage_beat(import, self, &mut batch);
        match self.group.write(SPOOLING, batch, Durability::Relaxed) {
            // It has nothing in the engine yet, is committed, or was given up.
            Err(EngineError::PreconditionFailed { .. }) => Ok(()),
            written => Ok(written?),
        }
    }

    /// All imports in the engine.
    fn imports(&self) -> Result<BTreeMap<Vec<u8>, Found>> {
        let snapshot = self.rows.snapshot()?;
        let (mut imports, mut rest) = (BTreeMap::new(), spool::all_imports());
        while let Some(key) = spool::first_key(&*snapshot, &rest)? {
            let import = spool::import_of(&key)?.to_vec();
            let found = Found {
                is_committed: key == spool::committed_key(&import),
                beat: snapshot.get(Space::Local, &spool::beat_key(&import))?,
            };
            let last = eidetica_storage::KeyRange::prefix(import.clone());
            rest.start = last.end.unwrap_or_default();
            imports.insert(import, found);
        }
        Ok(imports)
    }

    /// Takes an import away that is not committed, if its beat is as it was found. Says whether it was.
    fn end_import(&self, import: &[u8], beat: Option<&[u8]>) -> Result<bool> {
        let mut batch = Batch::new();
        spool::stage_end(import, beat, &mut batch);
        match self.group.write(SPOOLING, batch, Durability::Relaxed) {
            // It goes on, or somebody else has ended it.
            Err(EngineError::PreconditionFailed { .. }) => return Ok(false),
            written => written?,
        }
        self.clear_spooled(import)?;
        Ok(true)
    }
}
