//! What of a database is held here: the payloads of all stores, or of some.
//!
//! Headers, signatures and settings are always here, so everything that is held is verified in the same way, whatever
//! else is. Which payloads are *missing* is exact and kept by the log, whether they are wanted or not; what is *held*
//! is a choice, and says which of the missing ones are fetched. Nobody is shown a store as if it were whole that is not:
//! see [`Error::Incomplete`].

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_entry::{Id, StoreName};
use eidetica_storage::log::{LogReader, LogWriter, Mark, Marks, StoreHoles};
use eidetica_storage::{Batch, Snapshot, Space};

use crate::core::{Core, Sequencer, Written};
use crate::error::{Error, Result};
use crate::shared::CREATION;
use crate::{Database, Databases, limits, seal};

/// Begins the keys of the rows that say what is held, in [`Space::Meta`].
pub(crate) const HOLDS: &[u8] = b"H";

const SOME: u8 = 1;

/// The stores of a database whose payloads are held. `_settings` always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    /// All, those included that do not exist yet.
    #[default]
    All,
    /// These; at most [`limits::HELD_STORES`].
    Stores(BTreeSet<StoreName>),
}

impl Holds {
    /// The stores with these names.
    ///
    /// # Errors
    /// A name that is none, too many.
    pub fn stores<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self> {
        let mut stores = BTreeSet::new();
        for name in names {
            stores.insert(StoreName::new(name.as_ref())?);
        }
        let holds = Self::Stores(stores);
        holds.check()?;
        Ok(holds)
    }

    /// Whether payloads of a store are held.
    pub fn has(&self, store: &StoreName) -> bool {
        match self {
            Self::All => true,
            Self::Stores(stores) => store.is_settings() || stores.contains(store),
        }
    }

    /// Whether everything is held.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// The stores, if not all are held.
    pub fn some(&self) -> Option<&BTreeSet<StoreName>> {
        match self {
            Self::All => None,
            Self::Stores(stores) => Some(stores),
        }
    }

    fn check(&self) -> Result<()> {
        match self
            .some()
            .is_some_and(|stores| stores.len() > limits::HELD_STORES)
        {
            true => Err(Error::Limit {
                what: "stores to hold",
                limit: limits::HELD_STORES,
            }),
            false => Ok(()),
        }
    }

    /// Names one after the other, each with its length before it.
    fn encode(stores: &BTreeSet<StoreName>) -> Vec<u8> {
        let mut bytes = vec![SOME];
        for store in stores {
            // A name has at most 255 bytes.
            bytes.push(store.as_str().len() as u8);
            bytes.extend_from_slice(store.as_str().as_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, mut rest) = bytes.split_first()?;
        let mut stores = BTreeSet::new();
        while let Some((&length, names)) = rest.split_first() {
            let (name, behind) = names.split_at_checked(usize::from(length))?;
            stores.insert(StoreName::from_utf8(name).ok()?);
            rest = behind;
        }
        (kind == SOME).then_some(Self::Stores(stores))
    }
}

/// What is here of a store that is not held, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The store.
    pub store: StoreName,
    /// Whether its payloads are held.
    pub held: bool,
    /// How many payloads are missing. Reading waits for those that were not given up and are not of void entries.
    pub missing: u64,
    /// How many of those were given up.
    pub given_up: u64,
}

/// Missing payloads that are wanted: what to ask a peer for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Entries that lack one of them, in the order of arrival.
    pub ids: Vec<Id>,
    /// The stores that they are of.
    pub stores: BTreeSet<StoreName>,
    /// The arrival number to go on from; `None` if there are no more.
    pub next: Option<u64>,
}

pub(crate) fn key(id: &Id) -> Vec<u8> {
    [HOLDS, id.as_bytes()].concat()
}

fn read(id: &Id, snapshot: &dyn Snapshot) -> Result<Holds> {
    let key = key(id);
    decode(id, &key, snapshot.get(Space::Meta, &key)?.as_ref())
}

/// Like [`read`], for a batch that is to be refused if something else is held by then.
pub(crate) fn expect(id: &Id, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<Holds> {
    let key = key(id);
    let row = snapshot.get(Space::Meta, &key)?;
    batch.expect(Space::Meta, &key, row.as_deref());
    decode(id, &key, row.as_ref())
}

fn decode(id: &Id, key: &[u8], row: Option<&Bytes>) -> Result<Holds> {
    let Some(row) = row else {
        return Ok(Holds::All);
    };
    let bytes: Bytes = seal::open(key, row)?;
    Holds::decode(&bytes).ok_or_else(|| Error::Corrupt(format!("what is held of {id}")))
}

impl Databases {
    /// What is held of a database, which may not be here yet.
    ///
    /// # Errors
    /// The engine's, a damaged row.
    pub fn holds(&self, database: &Id) -> Result<Holds> {
        read(database, &*self.shared().rows.snapshot()?)
    }

    /// Decides what is held of a database from now on: before it is here, what it is to begin with. What was left out
    /// and is held now is missing until a peer brings it; what is not held any more is not fetched, and stays until
    /// [`Database::release`].
    ///
    /// # Errors
    /// Too many stores, the engine's.
    pub fn hold(&self, database: &Id, holds: &Holds) -> Result<()> {
        holds.check()?;
        let found = self.find(database)?;
        // Between two waves of an ingest, not within one.
        let _sequencer = match &found {
            Some(found) => {
                found.core().note_sparse(!holds.is_all());
                Some(found.core().sequence()?)
            }
            None => None,
        };
        let mut batch = Batch::new();
        let key = key(database);
        match holds {
            Holds::All => batch.delete(Space::Meta, &key),
            Holds::Stores(stores) => {
                let row = seal::seal(&key, &Holds::encode(stores));
                batch.put(Space::Meta, &key, &row);
            }
        }
        let shared = self.shared();
        Ok(shared.group.write(CREATION, batch, shared.durability)?)
    }

    /// Missing payloads of stores that are held and are among `of`, of entries from arrival number `from` on, or from anywhere on, at most
    /// `limit` of those. Not those of void entries, and not what was given up. Costs the sets of what is missing, and a
    /// look at each entry.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], the engine's.
    pub fn wanted(
        &self,
        database: &Id,
        of: &Holds,
        from: Option<u64>,
        limit: usize,
    ) -> Result<Wanted> {
        let database = self.get(database)?;
        if !database.core().may_be_sparse() {
            return Ok(Wanted::default());
        }
        let snapshot = self.shared().rows.snapshot()?;
        let reader = database.core().log.reader(&*snapshot);
        let holds = read(&database.id(), &*snapshot)?;
        let anywhere = || {
            let entries = reader.state()?.next_arrival.max(1);
            Ok::<_, Error>(self.shared().entropy.number() % entries)
        };
        let from = from.map_or_else(anywhere, Ok)?;
        let mut stores = BTreeSet::new();
        let mut arrivals = BTreeSet::new();
        for holes in reader.holes()? {
            let is_asked_for = holds.has(&holes.store) && of.has(&holes.store);
            if !is_asked_for || holes.missing == holes.given_up {
                continue;
            }
            let waited = Waited::of(&reader, &holes)?;
            let mut of_store = waited.from(from).take(limit + 1).peekable();
            if of_store.peek().is_some() {
                stores.insert(holes.store);
            }
            arrivals.extend(of_store);
        }
        let next = arrivals.iter().nth(limit).copied();
        let mut ids = Vec::with_capacity(limit.min(arrivals.len()));
        for arrival in arrivals.into_iter().take(limit) {
            ids.push(reader.at(arrival)?.id());
        }
        Ok(Wanted { ids, stores, next })
    }
}

/// The entries whose payloads for one store readers wait for.
struct Waited {
    missing: Marks,
    given_up: Marks,
    void: Marks,
}

impl Waited {
    fn of(reader: &LogReader<'_>, holes: &StoreHoles) -> Result<Self> {
        Ok(Self {
            missing: reader.missing_in(&holes.store)?,
            given_up: match holes.given_up {
                0 => Marks::default(),
                _ => reader.given_up_in(&holes.store)?,
            },
            void: match reader.state()?.void {
                0 => Marks::default(),
                _ => reader.marks(Mark::Void)?,
            },
        })
    }

    fn from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        let missing = self.missing.iter_from(from);
        missing.filter(|arrival| !self.given_up.contains(*arrival) && !self.void.contains(*arrival))
    }

    /// How many there are.
    fn count(reader: &LogReader<'_>, holes: &StoreHoles) -> Result<u64> {
        if holes.missing == holes.given_up || reader.state()?.void == 0 {
            return Ok(holes.missing - holes.given_up);
        }
        Ok(Self::of(reader, holes)?.from(0).count() as u64)
    }
}

impl Core {
    /// Says whether something may be missing, or is not to be held. Whoever reads looks closer then.
    pub(crate) fn note_sparse(&self, sparse: bool) {
        if sparse {
            self.sparse
                .store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// Takes note of what the writer has staged, before that is written.
    pub(crate) fn note_holes(&self, writer: &LogWriter) {
        self.note_sparse(!writer.is_complete());
    }

    pub(crate) fn may_be_sparse(&self) -> bool {
        self.has_others() || self.sparse.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Whether not all payloads of a database are here, or held.
pub(crate) fn is_sparse(id: &Id, reader: &LogReader<'_>, snapshot: &dyn Snapshot) -> Result<bool> {
    Ok(!read(id, snapshot)?.is_all() || !reader.holes()?.is_empty())
}

impl Database {
    /// Whether payloads are missing that readers wait for, of stores that are held. O(stores that are not whole), and
    /// their sets where there are void entries.
    ///
    /// # Errors
    /// The engine's, a damaged row.
    pub fn lacks(&self) -> Result<bool> {
        if !self.core().may_be_sparse() {
            return Ok(false);
        }
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let holds = read(&self.id(), &*snapshot)?;
        for holes in reader.holes()? {
            if holds.has(&holes.store) && Waited::count(&reader, &holes)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is held of this database.
    ///
    /// # Errors
    /// The engine's, a damaged row.
    pub fn holds(&self) -> Result<Holds> {
        read(&self.id(), &*self.shared().rows.snapshot()?)
    }

    /// Decides what is held of this database from now on; see [`Databases::hold`].
    ///
    /// # Errors
    /// Too many stores, the engine's.
    pub fn hold(&self, holds: &Holds) -> Result<()> {
        Databases::of(self.shared()).hold(&self.id(), holds)
    }

    /// The stores that are not whole here, ascending; none of a database that is. O(these stores).
    ///
    /// # Errors
    /// The engine's, a damaged row.
    pub fn missing(&self) -> Result<Vec<Holding>> {
        let snapshot = self.shared().rows.snapshot()?;
        let holds = read(&self.id(), &*snapshot)?;
        let holes = self.core().log.reader(&*snapshot).holes()?;
        let holding = |holes: StoreHoles| Holding {
            held: holds.has(&holes.store),
            store: holes.store,
            missing: holes.missing,
            given_up: holes.given_up,
        };
        Ok(holes.into_iter().map(holding).collect())
    }

    /// Checks that nothing of a store is missing that a reader would have to know of, unless this handle reads what is
    /// here. Nothing where nothing was ever left out; else one row.
    pub(crate) fn check_whole(&self, store: &StoreName, snapshot: &dyn Snapshot) -> Result<()> {
        if self.is_partial() || !self.core().may_be_sparse() {
            return Ok(());
        }
        let reader = self.core().log.reader(snapshot);
        let Some(holes) = reader.holes_of(store)? else {
            return Ok(());
        };
        match Waited::count(&reader, &holes)? {
            0 => Ok(()),
            missing => Err(self.incomplete(store, missing, snapshot)?),
        }
    }

    /// The same of all stores.
    pub(crate) fn check_all_whole(&self, snapshot: &dyn Snapshot) -> Result<()> {
        if self.is_partial() || !self.core().may_be_sparse() {
            return Ok(());
        }
        for holes in self.core().log.reader(snapshot).holes()? {
            self.check_whole(&holes.store, snapshot)?;
        }
        Ok(())
    }

    /// The same of a store as of a past: of the entries that are `counted`, none must lack its payload.
    pub(crate) fn check_whole_in(
        &self,
        store: &StoreName,
        snapshot: &dyn Snapshot,
        counted: impl Fn(u64) -> bool,
    ) -> Result<()> {
        if self.is_partial() || !self.core().may_be_sparse() {
            return Ok(());
        }
        let reader = self.core().log.reader(snapshot);
        if reader.holes_of(store)?.is_none() {
            return Ok(());
        }
        let (missing, given_up) = (reader.missing_in(store)?, reader.given_up_in(store)?);
        let missing = missing.iter();
        match missing
            .filter(|arrival| !given_up.contains(*arrival) && counted(*arrival))
            .count()
        {
            0 => Ok(()),
            missing => Err(self.incomplete(store, missing as u64, snapshot)?),
        }
    }

    fn incomplete(
        &self,
        store: &StoreName,
        missing: u64,
        snapshot: &dyn Snapshot,
    ) -> Result<Error> {
        Ok(Error::Incomplete {
            store: store.clone(),
            missing,
            held: read(&self.id(), snapshot)?.has(store),
        })
    }

    /// Checks that a store may be written to: that it is held, and that what is there is known.
    pub(crate) fn check_writable(&self, store: &StoreName, snapshot: &dyn Snapshot) -> Result<()> {
        if !self.core().may_be_sparse() {
            return Ok(());
        }
        if !read(&self.id(), snapshot)?.has(store) {
            return Err(Error::NotHeld {
                store: store.clone(),
            });
        }
        self.check_whole(store, snapshot)
    }

    /// Waits no longer for what is missing of a store now: it is read without. It is still taken in if somebody brings
    /// it, and not asked for. Says how many payloads that are.
    ///
    /// For what nobody has any more, or what its author keeps back.
    ///
    /// # Errors
    /// A bad name, the engine's.
    pub fn give_up(&self, store: &str) -> Result<u64> {
        self.set_given_up(store, true)
    }

    /// Waits again for what was given up of a store. Says how many payloads that are.
    ///
    /// # Errors
    /// A bad name, the engine's.
    pub fn wait_again(&self, store: &str) -> Result<u64> {
        self.set_given_up(store, false)
    }

    fn set_given_up(&self, store: &str, on: bool) -> Result<u64> {
        let store = StoreName::new(store)?;
        self.racing(|| self.in_sequence(|sequencer| self.set_given_up_in(sequencer, &store, on)))
    }

    fn set_given_up_in(
        &self,
        sequencer: &mut Sequencer,
        store: &StoreName,
        on: bool,
    ) -> Result<u64> {
        self.drain(sequencer)?;
        let missing: Vec<u64> = match sequencer.writer.missing_in(store) {
            Some(missing) => missing.iter().collect(),
            None => return Ok(0),
        };
        let mut batch = Batch::new();
        let mut stage = sequencer.writer.stage();
        for arrival in &missing {
            stage.give_up(store, *arrival, on);
        }
        let state = stage.finish(&mut batch);
        let state = state.inspect_err(|_| sequencer.fail())?;
        self.write_staged(sequencer, batch, &state)?;
        Ok(missing.len() as u64)
    }

    pub(crate) fn write_staged(
        &self,
        sequencer: &mut Sequencer,
        batch: Batch,
        state: &eidetica_storage::log::LogState,
    ) -> Result<()> {
        let written = Written::new(sequencer.next_batch(), state);
        self.write_locked(sequencer, batch, written)
    }
}
