//! The databases that are open, each loaded once. Whoever asks for one waits while that one is loaded, and for no
//! other.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use eidetica_entry::Id;
use parking_lot::Mutex;

use crate::core::Core;
use crate::error::Result;

#[derive(Default)]
pub(crate) struct Open(Mutex<HashMap<Id, Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    core: OnceLock<Arc<Core>>,
    loading: Mutex<()>,
}

impl Open {
    /// A database that is open.
    pub(crate) fn get(&self, id: &Id) -> Option<Arc<Core>> {
        let mut slots = self.0.lock();
        let core = slots.get(id)?.core.get().cloned()?;
        if core.is_gone() {
            slots.remove(id);
            return None;
        }
        Some(core)
    }

    /// All that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Core>> {
        let slots = self.0.lock();
        let cores = slots.values().filter_map(|slot| slot.core.get());
        cores.cloned().collect()
    }

    /// A database that is in the engine or that `load` puts there: there is a slot for each of them, and for no other.
    pub(crate) fn get_or_load(
        &self,
        id: &Id,
        load: impl FnOnce() -> Result<Arc<Core>>,
    ) -> Result<Arc<Core>> {
        let slot = self.slot(id);
        let loading = slot.loading.lock();
        if let Some(core) = slot.core.get() {
            return Ok(Arc::clone(core));
        }
        let core = load()?;
        slot.core.set(Arc::clone(&core)).ok();
        drop(loading);
        Ok(core)
    }

    /// The slot of a database; a new one after it was taken away.
    fn slot(&self, id: &Id) -> Arc<Slot> {
        let mut slots = self.0.lock();
        let slot = slots.entry(*id).or_default();
        if slot.core.get().is_some_and(|core| core.is_gone()) {
            *slot = Arc::default();
        }
        Arc::clone(slot)
    }
}
