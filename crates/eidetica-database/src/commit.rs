//! The commit of one transaction: place it under the lock, sign it outside, write it in order.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use eidetica_auth::{Missing, SettingsPayload, Sound, Verdict, VoidReason};
use eidetica_crdt::{Order, Payload};
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Draft, Entry, Id, Ids, ParentInfo, Stamp, StoreName, limits as entry_limits};
use eidetica_storage::commit::Ticket;
use eidetica_storage::log::{LogError, LogReader, Mark, Unsigned};
use eidetica_storage::{Batch, Snapshot};

use crate::Database;
use crate::ahead::Ahead;
use crate::apply::Writes;
use crate::core::{Core, Sequence, Sequencer, Written};
use crate::edits::NoRows;
use crate::effects::{Effects, Flip};
use crate::error::{Error, Reject, Result};
use crate::events::Origin;
use crate::known::{Known, New};
use crate::names::name_others;
use crate::overlay::{Layer, View};
use crate::query::DynRows;
use crate::rows::StoreRows;
use crate::settle::Turned;
use crate::source::Remembered;
use crate::standing::{Standings, advance};
use crate::transaction::Commission;

/// An entry that has its place and lacks its signature.
struct Placed<'a> {
    unsigned: Unsigned,
    batch: Batch,
    ticket: Ticket,
    written: Written,
    /// Which load of the sequencer it was placed in.
    load: u64,
    /// The lock, where the entry writes settings: nobody builds on those before they are in the engine.
    held: Option<Sequence<'a>>,
}

/// Where a transaction has led.
enum Place<'a> {
    New(Box<Placed<'a>>),
    /// The same was said at the same place before: it is that entry.
    Known(Entry),
}

/// An entry that was judged.
struct Prepared {
    draft: Draft,
    writes: Vec<(StoreName, Payload)>,
    /// What changes sides by it.
    flips: Vec<Flip>,
}

/// What the edits of a transaction become.
struct Lowered {
    payloads: BTreeMap<StoreName, Bytes>,
    writes: Vec<(StoreName, Payload)>,
}

impl Database {
    pub(crate) fn commit(&self, commission: &Commission<'_>) -> Result<Option<Entry>> {
        self.racing(|| self.commit_once(commission))
    }

    fn commit_once(&self, commission: &Commission<'_>) -> Result<Option<Entry>> {
        let placed = match self.place(commission)? {
            Some(Place::New(placed)) => placed,
            Some(Place::Known(entry)) => return Ok(Some(entry)),
            None => return Ok(None),
        };
        let Placed {
            unsigned,
            mut batch,
            ticket,
            written,
            load,
            held,
        } = *placed;
        let arrival = unsigned.arrival();
        let signature = commission.key.sign(&unsigned.draft().signing_message());
        let entry = unsigned.sign(signature, &mut batch);
        self.core()
            .events
            .queue(arrival, &entry, Origin::Local, written.number);
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
                self.wake_awaiting();
                Ok(Some(entry))
            }
            Err(error) => {
                // Whoever waits for the lock must not build on what is not there.
                if let Some(mut held) = held {
                    held.fail();
                }
                self.core().events.cancel(arrival, written.number);
                self.core().drop_sequencer(load);
                Err(error.into())
            }
        }
    }

    /// Everything that needs the lock.
    fn place(&self, commission: &Commission<'_>) -> Result<Option<Place<'_>>> {
        let ahead = self.read_ahead(commission);
        let mut sequencer = self.core().sequence()?;
        let before = sequencer.last_batch();
        let place = self.place_in(commission, ahead.as_ref(), &mut sequencer);
        let mut place = self.confirmed(place, before, &mut sequencer)?;
        if let Some(Place::New(placed)) = &mut place
            && placed.unsigned.draft().header().writes_settings()
        {
            placed.held = Some(sequencer);
        }
        Ok(place)
    }

    fn place_in<'a>(
        &self,
        commission: &Commission<'_>,
        ahead: Option<&Ahead<'_>>,
        sequencer: &mut Sequencer,
    ) -> Result<Option<Place<'a>>> {
        let core = self.core();
        self.flush(sequencer)?;
        if commission.walks_history(sequencer.writer.state()) || commission.past.is_some() {
            self.drain(sequencer)?;
        }
        let own;
        let snapshot: &dyn Snapshot = match ahead.filter(|ahead| ahead.is_of_use(sequencer)) {
            Some(ahead) => ahead,
            None => {
                own = self.shared().rows.snapshot()?;
                &*own
            }
        };
        let reader = core.log.reader(snapshot);
        if commission
            .changes
            .may_be_stale(sequencer.writer.state().version)
            && commission.past.is_none()
        {
            let view = View::staged(snapshot, &sequencer.overlay);
            commission
                .changes
                .check_reads(|name, kind| core.rows_in(view, name, kind))?;
        }
        let Some(lowered) = self.lower(commission, snapshot, sequencer)? else {
            return Ok(None);
        };
        let (parents, settings) = core.parents(commission, sequencer, &reader)?;
        let author = commission.author();
        let settings_payload = lowered.payloads.get(&StoreName::settings()).cloned();
        let draft = Draft::child(
            core.id,
            &parents,
            settings,
            lowered.payloads,
            author,
            commission.timestamp_ms,
        )?;
        if commission.past.is_some()
            && let Some(entry) = reader.get(&draft.id())?
        {
            return Ok(Some(Place::Known(entry)));
        }
        let mut known = Known::new(self.shared(), core.id, &reader);
        if commission.walks_history(sequencer.writer.state()) {
            known.add(draft.id(), New::Draft(Box::new(draft.clone())));
        }
        sequencer.check_room_for(&draft, settings_payload.as_deref())?;
        let flips = core.judge_draft(&draft, settings_payload.as_deref(), &known, sequencer)?;
        let prepared = Prepared {
            draft,
            writes: lowered.writes,
            flips,
        };
        let placed = self.stage(prepared, commission, &known, snapshot, sequencer);
        let (unsigned, batch, written) = placed.inspect_err(|_| sequencer.fail())?;
        Ok(Some(Place::New(Box::new(Placed {
            unsigned,
            batch,
            ticket: self.shared().group.reserve(self.lane()),
            written,
            load: sequencer.load,
            held: None,
        }))))
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
            self.check_writable(&change.store, snapshot)?;
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

    /// Stages the rows of the entry and of its state, and what it makes of other entries.
    fn stage(
        &self,
        prepared: Prepared,
        commission: &Commission<'_>,
        known: &Known<'_>,
        snapshot: &dyn Snapshot,
        sequencer: &mut Sequencer,
    ) -> Result<(Unsigned, Batch, Written)> {
        let Prepared {
            draft,
            writes,
            flips,
        } = prepared;
        let (id, info) = (draft.id(), draft.info());
        let stamp = Stamp::new(draft.header().height, id);
        let (mut batch, mut layer) = (Batch::new(), Layer::default());
        let writes: Writes = writes
            .into_iter()
            .map(|(name, payload)| ((name, payload.kind()), vec![(stamp, payload)]))
            .collect();
        // The parents of a transaction on the present state are the highest effective entries there are.
        let order = match commission.past {
            None => Order::NewerThanAll,
            Some(_) => Order::Any,
        };
        let turned = Turned::at_once(&flips, sequencer, known.reader)?;
        self.core().stage_state(
            writes,
            &turned,
            order,
            snapshot,
            sequencer,
            &mut batch,
            Some(&mut layer),
        )?;
        let walks = commission.walks_history(sequencer.writer.state());
        let tips = sequencer.writer.tips().to_vec();
        let mut stage = sequencer.writer.stage();
        let unsigned = stage.add_draft(draft, &mut batch)?;
        let applied = stage.state().next_arrival;
        stage.set_applied(applied);
        if name_others(&commission.records) {
            stage.name_others(&self.shared().log.taken(snapshot)?, &mut batch);
        }
        if walks {
            let arrival = unsigned.arrival();
            let mut effects = Effects::new(&mut stage, known, arrival, &[id]);
            effects.arrive(arrival, &[id], &HashSet::new(), &tips)?;
            effects.flip(&flips, &turned)?;
        }
        let state = stage.finish(&mut batch)?;
        sequencer.settled_below = 0;
        self.core().note_state(&state);
        let number = sequencer.next_batch();
        sequencer.overlay.add(number, layer);
        sequencer.add_staged(number, info);
        Ok((unsigned, batch, Written::new(number, &state)))
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

    /// The parents of an entry and its settings: the tips, highest first up to the limit, or the frontier it
    /// forks from; and what it is to be above besides.
    pub(crate) fn parents(
        &self,
        commission: &Commission<'_>,
        sequencer: &Sequencer,
        reader: &LogReader<'_>,
    ) -> Result<(Vec<ParentInfo>, Ids)> {
        let mut parents = match commission.past {
            Some(past) => self.infos(past.frontier(), sequencer, reader)?,
            None => sequencer.writer.tips().to_vec(),
        };
        let above = self.infos(&commission.above, sequencer, reader)?;
        let above: Vec<ParentInfo> = match above.is_empty() {
            true => above,
            false => not_below(&parents, above, reader)?,
        };
        self.fit(&mut parents, &above, reader)
    }

    /// The parents of an entry on the present tips, and its settings.
    pub(crate) fn present_parents(
        &self,
        sequencer: &Sequencer,
        reader: &LogReader<'_>,
    ) -> Result<(Vec<ParentInfo>, Ids)> {
        self.fit(&mut sequencer.writer.tips().to_vec(), &[], reader)
    }

    pub(crate) fn fit(
        &self,
        parents: &mut Vec<ParentInfo>,
        above: &[ParentInfo],
        reader: &LogReader<'_>,
    ) -> Result<(Vec<ParentInfo>, Ids)> {
        let mut most = entry_limits::PARENTS.saturating_sub(above.len());
        loop {
            parents.drain(..parents.len().saturating_sub(most));
            let all: Vec<ParentInfo> = parents.iter().chain(above).cloned().collect();
            let settings = self.derive_settings(&all, reader)?;
            if settings.len() <= entry_limits::SETTINGS || parents.len() <= 1 {
                return Ok((all, settings));
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

    /// Judges an entry that is to be made, by its past and by all that is known: what nobody would count is
    /// refused. Says which stored entries change sides by it.
    fn judge_draft(
        &self,
        draft: &Draft,
        settings: Option<&[u8]>,
        known: &Known<'_>,
        sequencer: &Sequencer,
    ) -> Result<Vec<Flip>> {
        let (id, header) = (draft.id(), draft.header());
        let verdict = self.authority.judge(id, header, settings, known)?;
        let sound = admitted(verdict)?;
        let frontier = sequencer.settings();
        let Some(write) = sound.settings else {
            if header.settings != frontier {
                let standings = Standings::at(&self.authority, known, &frontier)?;
                refuse_void(standings.of_next(&id, header)?)?;
            }
            return Ok(Vec::new());
        };
        let before = self.authority.at(&frontier, known)?;
        let after = before.join(&write.after);
        let changes = after.changes_since(&before);
        let frontier = advance(&frontier, id, header);
        let standings = Standings::under(&self.authority, known, frontier, after);
        refuse_void(standings.of_next(&id, header)?)?;
        standings.flips(&changes, |arrival| {
            sequencer.writer.is_marked(Mark::Void, arrival)
        })
    }
}

/// What of `above` is in the past of none of `parents`.
pub(crate) fn not_below(
    parents: &[ParentInfo],
    above: Vec<ParentInfo>,
    reader: &LogReader<'_>,
) -> Result<Vec<ParentInfo>> {
    let ids: Vec<Id> = parents.iter().chain(&above).map(|info| info.id).collect();
    let maximal = dag::maximal(reader, &ids, &mut Budget::unlimited()).map_err(LogError::from)?;
    let rest = above
        .into_iter()
        .filter(|info| maximal.has(&info.id) && !parents.iter().any(|parent| parent.id == info.id));
    Ok(rest.collect())
}

/// Whether a verdict lets an entry in.
pub(crate) fn admitted(verdict: Verdict) -> Result<Sound> {
    match verdict {
        Verdict::Sound(sound) => Ok(sound),
        Verdict::Reject(reason) => Err(Error::Refused(Reject::Authority(reason))),
        Verdict::Pending(Missing::Delegated { database, .. }) => Err(Error::NoDatabase(database)),
        _ => Err(Error::Refused(Reject::Settings)),
    }
}

pub(crate) fn refuse_void(void: Option<VoidReason>) -> Result<()> {
    match void {
        Some(reason) => Err(Error::WouldBeVoid(reason)),
        None => Ok(()),
    }
}
