//! Entries become state rows.

use std::collections::BTreeMap;

use eidetica_auth::SettingsPayload;
use eidetica_crdt::{Delta, Order, Overlay, Payload, StoreKind, apply_batch};
use eidetica_entry::{Entry, Stamp, StoreName};
use eidetica_storage::{Batch, Snapshot};
use rayon::prelude::*;

use crate::core::{Core, Sequencer};
use crate::error::Result;
use crate::overlay::{Layer, View};
use crate::readahead::ReadAhead;
use crate::rows::{StoreRows, write_changes};

/// What entries write, by store and kind.
pub(crate) type Writes = BTreeMap<(StoreName, StoreKind), Vec<(Stamp, Payload)>>;

/// Entries from which on payloads are decoded on all cores.
const PARALLEL_FROM: usize = 256;

/// The payloads of `entries` that decode. One that does not contributes nothing.
pub(crate) fn writes_of(entries: &[Entry]) -> Writes {
    let decode = |entry: &Entry| -> Vec<(StoreName, Stamp, Payload)> {
        let payloads = entry
            .payloads()
            .filter_map(|(name, bytes)| Some((name, decode(name, bytes?)?)));
        payloads
            .map(|(name, payload)| (name.clone(), entry.stamp(), payload))
            .collect()
    };
    let decoded: Vec<Vec<_>> = match entries.len() < PARALLEL_FROM {
        true => entries.iter().map(decode).collect(),
        false => entries.par_iter().map(decode).collect(),
    };
    let mut writes = Writes::new();
    for (name, stamp, payload) in decoded.into_iter().flatten() {
        writes
            .entry((name, payload.kind()))
            .or_default()
            .push((stamp, payload));
    }
    writes
}

/// What one store's payload writes; `None` if nothing that this program can read.
pub(crate) fn decode(store: &StoreName, bytes: &[u8]) -> Option<Payload> {
    if !store.is_settings() {
        return Payload::decode(bytes).ok();
    }
    let settings = SettingsPayload::decode(bytes).ok()?;
    Payload::decode(settings.doc())
        .ok()
        .filter(|payload| payload.kind() == StoreKind::Doc)
}

/// Writes of one store from which on its rows are read ahead.
const AHEAD_FROM: usize = 16;

/// What `writes` do to the rows of a store.
fn delta_of(
    base: StoreRows<'_>,
    kind: StoreKind,
    writes: &[(Stamp, &Payload)],
    order: Order,
) -> Result<Delta> {
    let count: usize = writes
        .iter()
        .map(|(_, payload)| payload.writes().len())
        .sum();
    let delta = Delta::new();
    if count < AHEAD_FROM {
        let mut rows = Overlay { base, delta };
        apply_batch(&mut rows, kind, writes, order)?;
        return Ok(rows.delta);
    }
    let base = ReadAhead::new(base);
    let mut rows = Overlay { base, delta };
    apply_batch(&mut rows, kind, writes, order)?;
    Ok(rows.delta)
}

impl Core {
    /// Writes the rows that `writes` make of the state as it is staged into `batch`, and into `staged` for those
    /// who stage on before the batch is in the engine.
    pub(crate) fn apply(
        &self,
        writes: &Writes,
        order: Order,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
        batch: &mut Batch,
        mut staged: Option<&mut Layer>,
    ) -> Result<()> {
        let view = View::staged(snapshot, &sequencer.overlay);
        for ((name, kind), writes) in writes {
            let slot = self.registry.write().slot_or_create(name, *kind, batch);
            let writes: Vec<(Stamp, &Payload)> = writes
                .iter()
                .map(|(stamp, payload)| (*stamp, payload))
                .collect();
            let delta = delta_of(StoreRows { view, slot }, *kind, &writes, order)?;
            write_changes(slot, &delta, batch, staged.as_deref_mut());
        }
        Ok(())
    }
}
