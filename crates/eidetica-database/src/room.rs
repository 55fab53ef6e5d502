//! How much is kept of databases that nobody asked for.
//!
//! A closure comes before the settings that name it, so nobody can tell at first whether it will be of use. Few that no
//! settings name are kept, each of them small; those that were used last the longest time ago give way. What
//! settings name stays, and is bounded by itself.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eidetica_entry::Id;
use eidetica_storage::log::DatabaseLog;
use eidetica_storage::{Batch, Direction, Durability, KeyRange, Space};

use crate::core::{Core, registry_prefix};
use crate::error::{Error, Result};
use crate::names::Names;
use crate::shared::{CREATION, Shared};
use crate::{Database, Databases, limits};

impl Core {
    /// Says that a closure is in use.
    pub(crate) fn touch(&self, shared: &Shared) {
        let now = shared.uses.fetch_add(1, Ordering::Relaxed) + 1;
        self.used.store(now, Ordering::Relaxed);
    }
}

impl Databases {
    /// Sees to it that there is a place for one more closure that no settings name. O(closures); where there are many, and
    /// anything was named since it was so the last time, O(databases).
    pub(crate) fn make_room_for_closure(&self) -> Result<()> {
        if self.log().closures()?.len() < limits::UNNAMED_CLOSURES {
            return Ok(());
        }
        self.shared().racing(|| {
            let names = self.names()?;
            let unnamed = self.unnamed_closures(&names)?;
            let surplus = match unnamed.len() < limits::UNNAMED_CLOSURES {
                true => 0,
                false => unnamed.len() - limits::UNNAMED_CLOSURES_KEPT,
            };
            for log in self.by_last_use(unnamed).iter().take(surplus) {
                self.take_away(log, &names)?;
            }
            Ok(())
        })
    }

    /// Takes away the closures that no settings name; says how many. None where something is damaged, which may name any.
    pub(crate) fn drop_unnamed_closures(&self) -> Result<u64> {
        let before = self.log().closures()?.len();
        let dropped = self.shared().racing(|| {
            let names = self.look_for_names()?;
            let mut unnamed = self.unnamed_closures(&names)?.into_iter();
            unnamed.try_for_each(|log| self.take_away(&log, &names))
        });
        match dropped {
            Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_)) => return Ok(0),
            dropped => dropped?,
        }
        Ok(before.saturating_sub(self.log().closures()?.len()) as u64)
    }

    /// Refuses packs for a closure that is full: one that is expected by settings, or by entries that wait, may
    /// be larger than one that is not.
    pub(crate) fn check_room_in_closure(&self, closure: &Database, packs: &[Bytes]) -> Result<()> {
        let more: u64 = packs.iter().map(|pack| pack.len() as u64).sum();
        let mut held = closure.core().held_bytes.lock();
        let fits = |held: &Option<u64>, limit: u64| held.is_some_and(|held| held + more <= limit);
        if !fits(&held, limits::UNNAMED_CLOSURE_BYTES) {
            // What came again was counted again.
            *held = Some(bytes_of(closure)?);
        }
        let limit = match fits(&held, limits::UNNAMED_CLOSURE_BYTES) {
            true => limits::UNNAMED_CLOSURE_BYTES,
            false if self.is_expected(&closure.id())? => limits::CLOSURE_BYTES,
            false => limits::UNNAMED_CLOSURE_BYTES,
        };
        if !fits(&held, limit) {
            return Err(Error::Limit {
                what: "bytes of a database that is delegated to",
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            });
        }
        *held = held.map(|held| held + more);
        Ok(())
    }

    fn is_expected(&self, id: &Id) -> Result<bool> {
        let waits = self.shared().awaited.lock().contains_key(id);
        Ok(waits || self.names()?.has(id))
    }

    /// The closures that no settings name.
    fn unnamed_closures(&self, names: &Names) -> Result<Vec<DatabaseLog>> {
        let mut closures = self.log().closures()?;
        closures.retain(|log| !names.has(&log.id()));
        Ok(closures)
    }

    /// The one that was used the longest time ago first; those not since this instance was opened by their age.
    fn by_last_use(&self, mut closures: Vec<DatabaseLog>) -> Vec<DatabaseLog> {
        let open = self.shared().closures.lock();
        closures.sort_by_key(|log| {
            let used = open
                .get(&log.id())
                .map(|core| core.used.load(Ordering::Relaxed));
            (used.unwrap_or(0), log.no())
        });
        closures
    }

    /// Takes a closure away that is not among these names, unless somebody is at it.
    ///
    /// # Errors
    /// A lost race where anything was named since: then they are to be looked for again.
    fn take_away(&self, log: &DatabaseLog, names: &Names) -> Result<()> {
        // Whoever wants it waits here, and finds it gone.
        let mut open = self.shared().closures.lock();
        if open
            .get(&log.id())
            .is_some_and(|core| Arc::strong_count(core) > 1)
        {
            return Ok(());
        }
        open.remove(&log.id());
        let shared = self.shared();
        let mut batch = Batch::new();
        let staged = self.log().remove_closure(log, &names.as_of, &mut batch);
        match staged.map_err(Error::from) {
            // Another process has.
            Err(Error::NoDatabase(_)) => return Ok(()),
            staged => staged?,
        }
        batch.delete_range(Space::Meta, &KeyRange::prefix(registry_prefix(log)));
        // What a crash brings back goes again.
        Ok(shared.group.write(CREATION, batch, Durability::Relaxed)?)
    }
}

/// What the entries of a closure take in the engine. Reads them all.
fn bytes_of(closure: &Database) -> Result<u64> {
    let mut bytes = 0;
    let snapshot = closure.shared().rows.snapshot()?;
    let range = KeyRange::prefix(closure.core().log.no().prefix());
    let _ = snapshot.for_each::<(), Error>(Space::Log, &range, Direction::Forward, |row| {
        bytes += row.value.len() as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(bytes)
}
