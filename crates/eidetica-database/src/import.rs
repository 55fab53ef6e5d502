//! Imports: more than one entry holds, made visible at once.
//!
//! Edits are gathered into pieces of about [`limits::IMPORT_ENTRY_BYTES`]; each becomes one entry, and the
//! entries a chain. A small import is made at its commit, on the tips of that moment, and written with its
//! state as one batch. What is larger than [`limits::IMPORT_MEMORY_BYTES`] is made as it comes in, on the
//! tips of its beginning, and waits in the engine where nobody sees it (see `spool`); its commit is one row,
//! after which the entries become part of the database whatever happens.
//!
//! Either way a store shows all of an import or nothing, after a crash too, and memory does not grow with
//! it. The entries of a large one arrive in the log one batch after the other, as they do at a peer.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::SecretKey;
use eidetica_crdt::{Delta, Doc, Edit, Locator, Order, Overlay, StoreKind, Value, insert, lower};
use eidetica_entry::{Author, Draft, Entry, Id, Ids, ParentInfo, StoreName};
use eidetica_storage::Batch;
use eidetica_storage::log::LogReader;

use crate::commit::{admitted, refuse_void};
use crate::core::{Sequencer, Written};
use crate::error::{Error, Result};
use crate::events::Origin;
use crate::known::Known;
use crate::overlay::View;
use crate::query::DynRows;
use crate::rows::PackedRows;
use crate::spool::Spool;
use crate::standing::Standings;
use crate::{Database, limits};

/// Edits of any number that become one atomic group of entries.
///
/// They never conflict with other writers: what they find is what is there at the commit.
pub struct Import {
    database: Database,
    /// What is not made into entries yet.
    pieces: Vec<Piece>,
    /// Bytes of them.
    held: usize,
    /// How many may be.
    memory_bytes: usize,
    /// Bytes of all edits.
    bytes: u64,
    timestamp_ms: Option<u64>,
    spool: Option<Spool>,
}

/// What becomes one entry.
#[derive(Default)]
pub(crate) struct Piece {
    edits: BTreeMap<(StoreName, StoreKind), Vec<Edit>>,
    bytes: usize,
}

impl Import {
    /// States when the entries were made, in milliseconds since 1970. A claim: shown, never judged.
    #[must_use]
    pub fn with_timestamp_ms(mut self, now: u64) -> Self {
        self.timestamp_ms = Some(now);
        self
    }

    /// Holds at most so many bytes of edits in memory (and one edit), instead of
    /// [`limits::IMPORT_MEMORY_BYTES`].
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
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

    /// Adds an edit of about so many bytes. Now and then makes entries of what has been added and writes
    /// them where nobody sees them.
    ///
    /// # Errors
    /// More than [`limits::IMPORT_BYTES`] in all, a store of another kind; those of
    /// [`commit`](Self::commit). After one of those nothing can be added or committed any more.
    pub fn edit(&mut self, store: &str, kind: StoreKind, edit: Edit, bytes: usize) -> Result<()> {
        let bytes = bytes + EDIT_BYTES;
        let sum = self.bytes.saturating_add(bytes as u64);
        if sum > limits::IMPORT_BYTES {
            return Err(Error::Limit {
                what: "bytes in one import",
                limit: usize::try_from(limits::IMPORT_BYTES).unwrap_or(usize::MAX),
            });
        }
        let store = StoreName::new(store)?;
        self.database.check_kind(&store, kind)?;
        let snapshot = self.database.shared().rows.snapshot()?;
        self.database.check_writable(&store, &*snapshot)?;
        drop(snapshot);
        if store.is_settings() {
            return Err(Error::Form {
                what: "an import",
                detail: "settings are changed by a transaction".into(),
            });
        }
        if self.held + bytes > self.memory_bytes && !self.pieces.is_empty() {
            self.spool()?;
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
        self.held += bytes;
        self.bytes = sum;
        Ok(())
    }

    /// About how many bytes have been added.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the entries visible, all at once, and returns their ids. Holds the database's lock meanwhile.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`](crate::Transaction::commit), except conflicts, and for a large
    /// import that the settings have changed since it began. Then nothing was made. If the engine fails
    /// meanwhile, opening it again shows whether it was.
    pub fn commit(mut self) -> Result<Vec<Id>> {
        if self.spool.is_some() {
            self.spool()?;
        }
        match self.spool.take() {
            Some(spool) => spool.commit(),
            None => self.commit_small(),
        }
    }

    /// Makes entries of what is held and puts them into the spool. An error takes the spool away.
    fn spool(&mut self) -> Result<()> {
        let key = self.database.key().cloned().ok_or(Error::NoKey)?;
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None if self.bytes > self.held as u64 => {
                return Err(Error::Stopped("the import has failed before".into()));
            }
            None => Spool::begin(&self.database, self.database.author_by(&key)?)?,
        };
        let pieces = std::mem::take(&mut self.pieces);
        self.held = 0;
        spool.add(&pieces, &key, self.timestamp_ms)?;
        self.spool = Some(spool);
        Ok(())
    }

    fn commit_small(self) -> Result<Vec<Id>> {
        if self.bytes > self.held as u64 {
            return Err(Error::Stopped("the import has failed before".into()));
        }
        let key = self.database.key().cloned().ok_or(Error::NoKey)?;
        self.database.racing(|| self.commit_at_once(&key))
    }

    fn commit_at_once(&self, key: &SecretKey) -> Result<Vec<Id>> {
        let database = &self.database;
        let author = database.author_by(key)?;
        let made = database.in_sequence(|sequencer| self.commit_in(key, &author, sequencer))?;
        let Some((ids, written)) = made else {
            return Ok(Vec::new());
        };
        database.core().announce(&written, database);
        Ok(ids)
    }

    /// `None` if the edits amount to nothing.
    fn commit_in(
        &self,
        key: &SecretKey,
        author: &Author,
        sequencer: &mut Sequencer,
    ) -> Result<Option<(Vec<Id>, Written)>> {
        let database = &self.database;
        database.flush(sequencer)?;
        let made = self.make(key, author, sequencer)?;
        if made.entries.is_empty() {
            return Ok(None);
        }
        sequencer.check_room(made.entries.iter().map(Entry::encoded_len).sum(), 0)?;
        let staged = made.stage(database, sequencer);
        let (batch, written) = staged.inspect_err(|_| sequencer.fail())?;
        let first = written.next_arrival - made.entries.len() as u64;
        for (arrival, entry) in (first..).zip(&made.entries) {
            let events = &database.core().events;
            events.queue(arrival, entry, Origin::Local, written.number);
        }
        database.write_locked(sequencer, batch, written)?;
        Ok(Some((
            made.entries.iter().map(Entry::id).collect(),
            written,
        )))
    }

    fn make(&self, key: &SecretKey, author: &Author, sequencer: &Sequencer) -> Result<Made> {
        let (core, database) = (self.database.core(), &self.database);
        let snapshot = database.shared().rows.snapshot()?;
        let reader = core.log.reader(&*snapshot);
        let (parents, settings) = core.present_parents(sequencer, &reader)?;
        let view = View::staged(&*snapshot, &sequencer.overlay);
        let below = |name: &StoreName, kind| core.rows_in(view, name, kind);
        // The tips of this moment are the highest entries there are.
        let order = Order::NewerThanAll;
        let mut group = Group::new(database, author, &parents, &settings, &below, order);
        for piece in &self.pieces {
            group.add(piece, key, self.timestamp_ms, &reader)?;
        }
        Ok(group.finish())
    }
}

/// The rows that a group builds on.
type Below<'a> = dyn Fn(&StoreName, StoreKind) -> Box<DynRows<'a>> + 'a;

/// Makes entries of pieces, one on top of the other.
pub(crate) struct Group<'a> {
    database: &'a Database,
    author: &'a Author,
    below: &'a Below<'a>,
    parents: Vec<ParentInfo>,
    settings: &'a Ids,
    order: Order,
    made: Made,
}

/// Signed entries, and how they change the rows of stores.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) entries: Vec<Entry>,
    pub(crate) changed: BTreeMap<(StoreName, StoreKind), Delta>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(
        database: &'a Database,
        author: &'a Author,
        parents: &[ParentInfo],
        settings: &'a Ids,
        below: &'a Below<'a>,
        order: Order,
    ) -> Self {
        Self {
            database,
            author,
            below,
            parents: parents.to_vec(),
            settings,
            order,
            made: Made::default(),
        }
    }

    pub(crate) fn finish(self) -> Made {
        self.made
    }

    /// Makes one entry, if the edits change anything.
    pub(crate) fn add(
        &mut self,
        piece: &Piece,
        key: &SecretKey,
        timestamp_ms: Option<u64>,
        reader: &LogReader<'_>,
    ) -> Result<()> {
        let payloads = self.lower(piece)?;
        if payloads.is_empty() {
            return Ok(());
        }
        let draft = Draft::child(
            self.database.id(),
            &self.parents,
            self.settings.clone(),
            payloads,
            self.author.clone(),
            timestamp_ms,
        )?;
        let authority = &self.database.core().authority;
        let known = Known::new(self.database.shared(), self.database.id(), reader);
        admitted(authority.judge(draft.id(), draft.header(), None, &known)?)?;
        let all: Ids = reader.state()?.settings.into_iter().collect();
        let standings = Standings::at(authority, &known, &all)?;
        refuse_void(standings.of_next(&draft.id(), draft.header())?)?;
        let signature = key.sign(&draft.signing_message());
        let entry = draft.sign(signature);
        self.apply(&entry)?;
        self.parents = vec![ParentInfo::from(&entry)];
        self.made.entries.push(entry);
        Ok(())
    }

    fn lower(&self, piece: &Piece) -> Result<BTreeMap<StoreName, Bytes>> {
        let none = Delta::new();
        let mut payloads = BTreeMap::new();
        for ((name, kind), edits) in &piece.edits {
            let changed = self.made.changed.get(&(name.clone(), *kind));
            let rows = Overlay {
                base: &*(self.below)(name, *kind),
                delta: changed.unwrap_or(&none),
            };
            let seed = self.database.shared().entropy.number();
            let payload =
                lower(&rows, *kind, edits, seed).map_err(|error| Error::edit(name, error))?;
            payloads.extend(payload.map(|payload| (name.clone(), Bytes::from(payload.encode()))));
        }
        Ok(payloads)
    }

    /// Adds what an entry writes to what has changed.
    fn apply(&mut self, entry: &Entry) -> Result<()> {
        for ((name, kind), writes) in crate::apply::writes_of(std::slice::from_ref(entry)) {
            let base = (self.below)(&name, kind);
            let mut rows = Overlay {
                base: &*base,
                delta: self.made.changed.entry((name, kind)).or_default(),
            };
            for (_, payload) in &writes {
                insert(&mut rows, entry.stamp(), payload, self.order)?;
            }
        }
        Ok(())
    }
}

impl Made {
    fn stage(&self, database: &Database, sequencer: &mut Sequencer) -> Result<(Batch, Written)> {
        let mut batch = Batch::new();
        for ((name, kind), delta) in &self.changed {
            let changes = PackedRows::of(delta);
            changes.write(&database.core().registry, name, *kind, &mut batch, None);
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
    /// How the entries of a key say by what it has its right at present.
    fn author_by(&self, key: &SecretKey) -> Result<Author> {
        let access = self.access_of(&key.public())?;
        Ok(Author {
            key: key.public(),
            via: access.map(|access| access.via).unwrap_or_default(),
        })
    }

    /// Begins an import: an atomic group of as many entries as it takes. A key that has its right by way of another
    /// database names what that is when the first entries are made.
    pub fn import(&self) -> Import {
        Import {
            database: self.clone(),
            pieces: Vec::new(),
            held: 0,
            memory_bytes: limits::IMPORT_MEMORY_BYTES,
            bytes: 0,
            timestamp_ms: None,
            spool: None,
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
