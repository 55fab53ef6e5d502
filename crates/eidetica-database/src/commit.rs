//! The commit of one transaction: place it under the lock, sign it outside, write it in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::{SettingsPayload, Verdict};
use eidetica_crdt::{Order, Payload};
use eidetica_entry::{Draft, Entry, Id, Ids, ParentInfo, Stamp, StoreName, limits as entry_limits};
use eidetica_storage::commit::Ticket;
use eidetica_storage::log::{LogReader, Unsigned};
use eidetica_storage::{Batch, Snapshot};

use crate::apply::Writes;
use crate::core::{Core, Sequence, Sequencer, Written};
use crate::edits::NoRows;
use crate::error::{Error, Reject, Result};
use crate::events::Origin;
use crate::overlay::{Layer, View};
use crate::query::DynRows;
use crate::rows::StoreRows;
use crate::source::Remembered;
use crate::transaction::Commission;
use crate::{AsOf, Database};

/// An entry that has its place and lacks its signature.
struct Placed<'a> {
    unsigned: Unsigned,
    batch: Batch,
    ticket: Ticket,
    written: Written,
    /// The lock, where the entry writes settings: nobody builds on those before they are in the engine.
    held: Option<Sequence<'a>>,
}

/// What the edits of a transaction become.
struct Lowered {
    payloads: BTreeMap<StoreName, Bytes>,
    writes: Vec<(StoreName, Payload)>,
}

impl Database {
    pub(crate) fn commit(&self, commission: Commission<'_>) -> Result<Option<Entry>> {
        let Some(placed) = self.place(&commission)? else {
            return Ok(None);
        };
        let Placed {
            unsigned,
            mut batch,
            ticket,
            written,
            held,
        } = placed;
        let arrival = unsigned.arrival();
        let signature = commission.key.sign(&unsigned.draft().signing_message());
        let entry = unsigned.sign(signature, &mut batch);
        self.core().events.queue(arrival, &entry, Origin::Local);
        match self
            .shared()
            .group
            .commit(ticket, batch, self.shared().durability)
        {
            Ok(()) => {
                self.core().settle(&written);
                drop(held);
                if let Some(past) = commission.past {
                    self.core()
                        .pasts
                        .add_child(entry.id(), arrival, past.past());
                }
                self.core().announce(&written, self);
                Ok(Some(entry))
            }
            Err(error) => {
                drop(held);
                self.core().events.cancel(arrival, &entry.id());
                self.core().drop_sequencer();
                Err(error.into())
            }
        }
    }

    /// Everything that needs the lock.
    fn place(&self, commission: &Commission<'_>) -> Result<Option<Placed<'_>>> {
        let core = self.core();
        let mut sequencer = core.sequence()?;
        self.flush(&mut sequencer)?;
        let snapshot = self.shared().engine.snapshot()?;
        let reader = core.log.reader(&*snapshot);
        if commission
            .changes
            .may_be_stale(sequencer.writer.state().version)
            && commission.past.is_none()
        {
            let view = View::staged(&*snapshot, &sequencer.overlay);
            commission
                .changes
                .check_reads(|name, kind| core.rows_in(view, name, kind))?;
        }
        let Some(lowered) = self.lower(commission, &*snapshot, &sequencer)? else {
            return Ok(None);
        };
        let (parents, settings) = core.parents(commission.past, &sequencer, &reader)?;
        let author = commission.key.public();
        let settings_payload = lowered.payloads.get(&StoreName::settings()).cloned();
        let draft = Draft::child(
            core.id,
            &parents,
            settings,
            lowered.payloads,
            author,
            commission.timestamp_ms,
        )?;
        core.judge_draft(&draft, settings_payload.as_deref(), &reader)?;
        let placed = self.stage(
            draft,
            lowered.writes,
            commission,
            &*snapshot,
            &mut sequencer,
        );
        let (unsigned, batch, written) = placed.inspect_err(|_| sequencer.fail())?;
        let ticket = self.shared().group.reserve(self.lane());
        let held = unsigned
            .draft()
            .header()
            .writes_settings()
            .then_some(sequencer);
        Ok(Some(Placed {
            unsigned,
            batch,
            ticket,
            written,
            held,
        }))
    }

    /// The payloads of all stores on the state as it is staged, or as of the fork; `None` if they are
    /// empty.
    fn lower(
        &self,
        commission: &Commission<'_>,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
    ) -> Result<Option<Lowered>> {
        let view = View::staged(snapshot, &sequencer.overlay);
        let mut writes = Vec::with_capacity(commission.changes.stores.len());
        for change in &commission.changes.stores {
            self.core().check_kind(&change.store, change.kind)?;
            let payload = match commission.past {
                Some(past) => {
                    let rows = past.rows_for(&change.store, change.kind, &change.edits)?;
                    change.lower(&Remembered(&rows))?
                }
                None => change.lower(&*self.core().rows_in(view, &change.store, change.kind))?,
            };
            writes.extend(payload.map(|payload| (change.store.clone(), payload)));
        }
        let mut payloads: BTreeMap<StoreName, Bytes> = writes
            .iter()
            .map(|(name, payload)| (name.clone(), Bytes::from(payload.encode())))
            .collect();
        let settings = StoreName::settings();
        if payloads.contains_key(&settings) || !commission.records.is_empty() {
            let doc = payloads.remove(&settings).unwrap_or_default();
            payloads.insert(
                settings,
                SettingsPayload::new(commission.records.clone(), doc)?.encode(),
            );
        }
        Ok((!payloads.is_empty()).then_some(Lowered { payloads, writes }))
    }

    /// Stages the rows of the entry and of its state.
    fn stage(
        &self,
        draft: Draft,
        writes: Vec<(StoreName, Payload)>,
        commission: &Commission<'_>,
        snapshot: &dyn Snapshot,
        sequencer: &mut Sequencer,
    ) -> Result<(Unsigned, Batch, Written)> {
        let stamp = Stamp::new(draft.header().height, draft.id());
        let (mut batch, mut layer) = (Batch::new(), Layer::default());
        // The parents of a transaction on the present state are the highest entries there are.
        let order = if commission.past.is_some() {
            Order::Any
        } else {
            Order::NewerThanAll
        };
        let writes: Writes = writes
            .into_iter()
            .map(|(name, payload)| ((name, payload.kind()), vec![(stamp, payload)]))
            .collect();
        self.core().apply(
            &writes,
            order,
            snapshot,
            sequencer,
            &mut batch,
            Some(&mut layer),
        )?;
        let mut stage = sequencer.writer.stage();
        let info = draft.info();
        let unsigned = stage.add_draft(draft, &mut batch)?;
        let applied = stage.state().next_arrival;
        stage.set_applied(applied);
        let state = stage.finish(&mut batch)?;
        let number = sequencer.next_batch();
        sequencer.overlay.add(number, layer);
        sequencer.add_staged(number, info);
        let written = Written {
            number,
            version: state.version,
            next_arrival: state.next_arrival,
        };
        Ok((unsigned, batch, written))
    }
}

impl Core {
    /// The rows of a store in a view; none for a store that nobody has written.
    pub(crate) fn rows_in<'a>(
        &self,
        view: View<'a>,
        name: &StoreName,
        kind: eidetica_crdt::StoreKind,
    ) -> Box<DynRows<'a>> {
        match self.slot(name, kind) {
            Some(slot) => Box::new(StoreRows { view, slot }),
            None => Box::new(NoRows),
        }
    }

    /// The parents of the next entry and its settings: the tips, highest first up to the limit, or the
    /// frontier it forks from.
    pub(crate) fn parents(
        &self,
        past: Option<&AsOf>,
        sequencer: &Sequencer,
        reader: &LogReader<'_>,
    ) -> Result<(Vec<ParentInfo>, Ids)> {
        let mut parents = match past {
            Some(past) => self.infos(past.frontier(), sequencer, reader)?,
            None => sequencer.writer.tips().to_vec(),
        };
        let mut most = entry_limits::PARENTS;
        loop {
            parents.drain(..parents.len().saturating_sub(most));
            let settings = self.derive_settings(&parents, reader)?;
            if settings.len() <= entry_limits::SETTINGS || parents.len() <= 1 {
                return Ok((parents, settings));
            }
            // Fewer parents pin fewer settings; the rest are the next entry's.
            most = parents.len() / 2;
        }
    }

    /// What children need to know of entries that are in the engine or staged.
    pub(crate) fn infos(
        &self,
        ids: &[Id],
        sequencer: &Sequencer,
        reader: &LogReader<'_>,
    ) -> Result<Vec<ParentInfo>> {
        let found = reader.parent_infos(ids)?;
        let found = ids.iter().zip(found).map(|(id, info)| {
            info.or_else(|| sequencer.staged(id).cloned())
                .ok_or(Error::NoEntry(*id))
        });
        found.collect()
    }

    fn judge_draft(
        &self,
        draft: &Draft,
        settings: Option<&[u8]>,
        reader: &LogReader<'_>,
    ) -> Result<()> {
        match self
            .authority
            .judge(draft.id(), draft.header(), settings, reader)?
        {
            Verdict::Sound(_) => Ok(()),
            Verdict::Reject(reason) => Err(Error::Refused(Reject::Authority(reason))),
            _ => Err(Error::Refused(Reject::Settings)),
        }
    }
}
