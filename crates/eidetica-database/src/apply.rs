//! Entries become state rows.

use std::collections::BTreeMap;
use std::thread;

use bytes::Bytes;
use eidetica_auth::SettingsPayload;
use eidetica_crdt::{Bounded, Delta, Order, Overlay, Payload, Rows, Sorted, StoreKind};
use eidetica_entry::{Entry, Stamp, StoreName};
use eidetica_storage::{Batch, EngineError, Snapshot};
use rayon::prelude::*;

use crate::core::{Core, Sequencer};
use crate::error::{Error, Result};
use crate::overlay::{Layer, View};
use crate::readahead::ReadAhead;
use crate::registry::Registry;
use crate::rows::{NoRows, PackedRows, StoreRows};

/// What entries write, by store and kind.
pub(crate) type Writes = BTreeMap<(StoreName, StoreKind), Vec<(Stamp, Payload)>>;

/// Payloads from which on they are decoded on all cores.
const PARALLEL_FROM: usize = 256;

/// A payload, with what decides about it. Unless it is [`Encoded::apart`] it keeps all payloads of its pack alive, and
/// nothing else of it.
pub(crate) struct Encoded {
    store: StoreName,
    stamp: Stamp,
    bytes: Bytes,
}

impl Encoded {
    /// The payloads of an entry that are here.
    pub(crate) fn of(entry: &Entry) -> impl Iterator<Item = Self> {
        let stamp = entry.stamp();
        entry.payloads().filter_map(move |(store, bytes)| {
            Some(Self {
                store: store.clone(),
                stamp,
                bytes: bytes?.clone(),
            })
        })
    }

    /// The same in a buffer of its own.
    pub(crate) fn apart(self) -> Self {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        Self { bytes, ..self }
    }

    /// Whether nothing else is in its buffer.
    #[cfg(test)]
    pub(crate) fn is_apart(&self) -> bool {
        self.bytes.is_unique()
    }

    /// Bytes that it takes, about.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}

/// The payloads of `entries` that decode. One that does not contributes nothing.
pub(crate) fn writes_of(entries: &[Entry]) -> Writes {
    decoded(entries.iter().flat_map(Encoded::of).collect())
}

/// Those of the payloads that decode.
pub(crate) fn decoded(payloads: Vec<Encoded>) -> Writes {
    let decode = |payload: Encoded| {
        let Encoded {
            store,
            stamp,
            bytes,
        } = payload;
        let payload = decode(&store, &bytes)?;
        Some((store, stamp, payload))
    };
    let decoded: Vec<_> = match payloads.len() < PARALLEL_FROM {
        true => payloads.into_iter().map(decode).collect(),
        false => payloads.into_par_iter().map(decode).collect(),
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

/// Writes of one store that a core is worth being woken for.
const PART_FROM: usize = 2_048;

/// As the functions of `eidetica_crdt` take them.
pub(crate) fn borrowed(writes: &[(Stamp, Payload)]) -> Vec<(Stamp, &Payload)> {
    writes
        .iter()
        .map(|(stamp, payload)| (*stamp, payload))
        .collect()
}

/// Writes of one store whose changes are in maps at the same time, before they are packed.
const PACKED_AT_ONCE: usize = 4_096;

/// What is to change of the rows of one store, in parts that have no row in common.
pub(crate) struct Changed {
    pub(crate) name: StoreName,
    pub(crate) kind: StoreKind,
    pub(crate) parts: Vec<PackedRows>,
}

/// What `writes` do to the rows in `snapshot`, by store: a store that has no number yet has no rows.
pub(crate) fn changed_by(
    writes: &Writes,
    order: Order,
    snapshot: &dyn Snapshot,
    registry: &Registry,
) -> Result<Vec<Changed>> {
    let view = View::durable(snapshot);
    let changed = writes.iter().map(|((name, kind), writes)| {
        let (name, kind) = (name.clone(), *kind);
        let parts = match registry.slot(&name, kind) {
            Some(slot) => {
                let rows = StoreRows { view, slot };
                let deepest = registry.deepest(&name, kind);
                changes_of(Bounded { rows, deepest }, kind, writes, order)?
            }
            None => changes_of(NoRows, kind, writes, order)?,
        };
        Ok(Changed { name, kind, parts })
    });
    changed.collect()
}

/// What `writes` do to the rows of a store, in parts that have no row in common.
fn changes_of(
    base: impl Rows<Error = EngineError> + Copy + Sync,
    kind: StoreKind,
    writes: &[(Stamp, Payload)],
    order: Order,
) -> Result<Vec<PackedRows>> {
    let writes = Sorted::new(kind, &borrowed(writes), order);
    if writes.len() < AHEAD_FROM {
        return Ok(vec![packed(base, writes)?]);
    }
    let most = (writes.len() / PART_FROM).clamp(1, rayon::current_num_threads());
    let apply = |part| packed(ReadAhead::new(base), part);
    let mut parts = writes.split(most).into_iter();
    let own = parts.next();
    // Plain threads: reading may wait for a server, which the threads for computing must not.
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || apply(part))).collect();
        let mut changes: Vec<_> = own.into_iter().map(apply).collect();
        changes.extend(others.into_iter().map(|part| {
            let stopped = |_| Error::Stopped("computing state ended early".into());
            part.join().map_err(stopped)?
        }));
        changes.into_iter().collect()
    })
}

/// What `writes` do to the rows of a store, some of them after the other.
fn packed(base: impl Rows<Error = EngineError>, writes: Sorted<'_>) -> Result<PackedRows> {
    let mut changes = PackedRows::default();
    let parts = writes.len().div_ceil(PACKED_AT_ONCE);
    for part in writes.split(parts) {
        let delta = Delta::new();
        let mut rows = Overlay { base: &base, delta };
        part.apply(&mut rows)?;
        changes.add(&rows.delta);
    }
    Ok(changes)
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
            let deepest = self.registry.read().deepest(name, *kind);
            let rows = StoreRows { view, slot };
            for part in changes_of(Bounded { rows, deepest }, *kind, writes, order)? {
                part.write(&self.registry, name, *kind, batch, staged.as_deref_mut());
            }
        }
        Ok(())
    }
}
