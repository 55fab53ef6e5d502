//! Imports: more than one entry holds, made visible at once.
//!
//! Edits are gathered into pieces of about [`limits::IMPORT_ENTRY_BYTES`]; the commit makes one entry of
//! each, a chain on the present tips, and writes them with their state as one batch: readers and peers
//! see all of them or none, after a crash too. The whole group is in memory until then and is bounded by
//! [`limits::IMPORT_BYTES`]; whoever has more commits several groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{SecretKey, Verdict};
use eidetica_crdt::{Delta, Doc, Edit, Locator, Order, Overlay, StoreKind, Value, insert, lower};
use eidetica_entry::{Draft, Entry, Ids, ParentInfo, StoreName};
use eidetica_storage::{Batch, Snapshot};

use crate::core::{Sequencer, Written};
use crate::error::{Error, Reject, Result};
use crate::events::Origin;
use crate::overlay::View;
use crate::rows::{StoreRows, StoreSlot, write_changes};
use crate::{Database, limits};

/// Edits of any number that become one atomic group of entries.
///
/// They never conflict with other writers: what they find is what is there at the commit.
pub struct Import {
    database: Database,
    pieces: Vec<Piece>,
    bytes: usize,
    timestamp_ms: Option<u64>,
}

/// What becomes one entry.
#[derive(Default)]
struct Piece {
    edits: BTreeMap<(StoreName, StoreKind), Vec<Edit>>,
    bytes: usize,
}

/// The state of the group while it is staged: changed rows by store.
type Changed = BTreeMap<(StoreName, StoreKind), (StoreSlot, Delta)>;

impl Import {
    /// States when the entries were made, in milliseconds since 1970. A claim: shown, never judged.
    #[must_use]
    pub fn with_timestamp_ms(mut self, now: u64) -> Self {
        self.timestamp_ms = Some(now);
        self
    }

    /// Puts a table row, replacing the one with this key.
    ///
    /// # Errors
    /// See [`edit`](Self::edit).
    pub fn insert_row(&mut self, table: &str, key: impl Into<String>, fields: Doc) -> Result<()> {
        let key = key.into();
        let bytes = key.len() + doc_bytes(&fields);
        self.edit(
            table,
            StoreKind::Table,
            Edit::RowInsert { key, fields },
            bytes,
        )
    }

    /// Puts a value into a document.
    ///
    /// # Errors
    /// See [`edit`](Self::edit); no path.
    pub fn set(&mut self, doc: &str, path: &str, value: impl Into<Value>) -> Result<()> {
        let value = value.into();
        let bytes = path.len() + value_bytes(&value);
        self.edit(
            doc,
            StoreKind::Doc,
            Edit::Set {
                at: Locator::parse(path)?,
                value,
            },
            bytes,
        )
    }

    /// Adds an edit of about so many bytes.
    ///
    /// # Errors
    /// More than [`limits::IMPORT_BYTES`] in all, a store of another kind.
    pub fn edit(&mut self, store: &str, kind: StoreKind, edit: Edit, bytes: usize) -> Result<()> {
        let bytes = bytes + EDIT_BYTES;
        if self.bytes + bytes > limits::IMPORT_BYTES {
            return Err(Error::Limit {
                what: "bytes in one import",
                limit: limits::IMPORT_BYTES,
            });
        }
        let store = StoreName::new(store)?;
        self.database.check_kind(&store, kind)?;
        if store.is_settings() {
            return Err(Error::Form {
                what: "an import",
                detail: "settings are changed by a transaction".into(),
            });
        }
        if self
            .pieces
            .last()
            .is_none_or(|piece| piece.bytes + bytes > limits::IMPORT_ENTRY_BYTES)
        {
            self.pieces.push(Piece::default());
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.edits.entry((store, kind)).or_default().push(edit);
            piece.bytes += bytes;
        }
        self.bytes += bytes;
        Ok(())
    }

    /// About how many bytes have been added.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the entries, in one batch, and returns them. Holds the database's lock meanwhile.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`](crate::Transaction::commit), except conflicts. Then nothing was made.
    pub fn commit(self) -> Result<Vec<Entry>> {
        let key = self.database.key().cloned().ok_or(Error::NoKey)?;
        let (entries, written) = {
            let mut sequencer = self.database.core().sequence()?;
            self.database.flush(&mut sequencer)?;
            let made = Group::make(&self, &key, &sequencer);
            let group = made.inspect_err(|_| sequencer.fail())?;
            if group.entries.is_empty() {
                return Ok(group.entries);
            }
            let staged = group.stage(&mut sequencer);
            let (batch, written) = staged.inspect_err(|_| sequencer.fail())?;
            let first = written.next_arrival - group.entries.len() as u64;
            for (arrival, entry) in (first..).zip(&group.entries) {
                self.database
                    .core()
                    .events
                    .queue(arrival, entry, Origin::Local);
            }
            self.database.write_locked(&mut sequencer, batch, written)?;
            (group.entries, written)
        };
        self.database.core().announce(&written, &self.database);
        Ok(entries)
    }
}

/// The entries of an import, signed, and the state they make.
struct Group {
    entries: Vec<Entry>,
    registered: Batch,
    changed: Changed,
}

impl Group {
    fn make(import: &Import, key: &Arc<SecretKey>, sequencer: &Sequencer) -> Result<Self> {
        let (core, database) = (import.database.core(), &import.database);
        let snapshot = database.shared().engine.snapshot()?;
        let reader = core.log.reader(&*snapshot);
        let (mut parents, settings) = core.parents(None, sequencer, &reader)?;
        let mut group = Self {
            entries: Vec::new(),
            registered: Batch::new(),
            changed: Changed::new(),
        };
        for piece in &import.pieces {
            let payloads = group.lower(piece, database, &*snapshot, sequencer)?;
            if payloads.is_empty() {
                continue;
            }
            let entry = group.sign(import, key, &parents, &settings, payloads)?;
            match core
                .authority
                .judge(entry.id(), entry.header(), None, &reader)?
            {
                Verdict::Sound(_) => {}
                Verdict::Reject(reason) => return Err(Error::Refused(Reject::Authority(reason))),
                _ => return Err(Error::Refused(Reject::Settings)),
            }
            group.apply(&entry, database, &*snapshot, sequencer)?;
            parents = vec![ParentInfo::from(&entry)];
            group.entries.push(entry);
        }
        Ok(group)
    }

    fn sign(
        &self,
        import: &Import,
        key: &SecretKey,
        parents: &[ParentInfo],
        settings: &Ids,
        payloads: BTreeMap<StoreName, Bytes>,
    ) -> Result<Entry> {
        let id = import.database.id();
        let draft = Draft::child(
            id,
            parents,
            settings.clone(),
            payloads,
            key.public(),
            import.timestamp_ms,
        )?;
        let signature = key.sign(&draft.signing_message());
        Ok(draft.sign(signature))
    }

    fn lower(
        &self,
        piece: &Piece,
        database: &Database,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
    ) -> Result<BTreeMap<StoreName, Bytes>> {
        let (core, none) = (database.core(), Delta::new());
        let mut payloads = BTreeMap::new();
        for ((name, kind), edits) in &piece.edits {
            let changed = self
                .changed
                .get(&(name.clone(), *kind))
                .map_or(&none, |(_, delta)| delta);
            let base = core.rows_in(View::staged(snapshot, &sequencer.overlay), name, *kind);
            let rows = Overlay {
                base: &*base,
                delta: changed,
            };
            let seed = database.shared().entropy.number();
            let payload =
                lower(&rows, *kind, edits, seed).map_err(|error| Error::edit(name, error))?;
            payloads.extend(payload.map(|payload| (name.clone(), Bytes::from(payload.encode()))));
        }
        Ok(payloads)
    }

    /// Adds what an entry writes to the state of the group.
    fn apply(
        &mut self,
        entry: &Entry,
        database: &Database,
        snapshot: &dyn Snapshot,
        sequencer: &Sequencer,
    ) -> Result<()> {
        let core = database.core();
        for ((name, kind), writes) in crate::apply::writes_of(std::slice::from_ref(entry)) {
            let slot = core
                .registry
                .write()
                .slot_or_create(&name, kind, &mut self.registered);
            let changed = self
                .changed
                .entry((name, kind))
                .or_insert_with(|| (slot, Delta::new()));
            let base = StoreRows {
                view: View::staged(snapshot, &sequencer.overlay),
                slot,
            };
            let mut rows = Overlay {
                base,
                delta: &mut changed.1,
            };
            for (_, payload) in &writes {
                insert(&mut rows, entry.stamp(), payload, Order::NewerThanAll)?;
            }
        }
        Ok(())
    }

    fn stage(&self, sequencer: &mut Sequencer) -> Result<(Batch, Written)> {
        let mut batch = self.registered.clone();
        for (slot, delta) in self.changed.values() {
            write_changes(*slot, delta, &mut batch, None);
        }
        let mut stage = sequencer.writer.stage();
        stage.add_pack(&self.entries, None, &mut batch)?;
        let applied = stage.state().next_arrival;
        stage.set_applied(applied);
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

impl Database {
    /// Begins an import: an atomic group of as many entries as it takes.
    pub fn import(&self) -> Import {
        Import {
            database: self.clone(),
            pieces: Vec::new(),
            bytes: 0,
            timestamp_ms: None,
        }
    }
}

/// What an edit takes beside its keys and values.
const EDIT_BYTES: usize = 32;

fn doc_bytes(doc: &Doc) -> usize {
    doc.iter()
        .map(|(key, value)| key.len() + 16 + value_bytes(value))
        .sum()
}

/// About the size of a value. Recurses as deep as values nest; the writer's own values only.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + 8,
        Value::Bytes(bytes) => bytes.len() + 8,
        Value::Map(doc) => doc_bytes(doc),
        Value::List(list) => list.iter().map(|item| 96 + value_bytes(item)).sum(),
        _ => 16,
    }
}
