//! The stores of one database: which name and kind has which number in state row keys.
//!
//! A store's kind stands in its payloads. Two replicas may create one name with two kinds at the same
//! time; then both are kept, each under its own number, so that the state does not depend on which
//! arrived first. One replica never creates a second kind knowingly.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use eidetica_crdt::StoreKind;
use eidetica_entry::StoreName;
use eidetica_storage::{Batch, Direction, KeyRange, Row, Snapshot, Space};

use crate::error::{Error, Result};
use crate::rows::StoreSlot;
use crate::seal;

/// Names and kinds with their store numbers.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    space: Space,
    /// Before the store number in the keys of the registry's rows.
    prefix: Vec<u8>,
    database: u32,
    stores: BTreeMap<(StoreName, StoreKind), Store>,
}

#[derive(Clone, Copy, Debug)]
struct Store {
    number: u32,
    /// Segments that the paths of its state rows have at most. Not known of a store that was there when the registry
    /// was read.
    deepest: Option<usize>,
}

impl Registry {
    /// Reads the registry of one database, whose rows have this prefix. O(stores).
    pub(crate) fn load(
        space: Space,
        prefix: Vec<u8>,
        database: u32,
        snapshot: &dyn Snapshot,
    ) -> Result<Self> {
        let mut stores = BTreeMap::new();
        let range = KeyRange::prefix(prefix.clone());
        let _ = snapshot.for_each::<(), Error>(space, &range, Direction::Forward, |row| {
            let value = seal::open(&row.key, &row.value)?;
            let read = parse(&row.key, &prefix, &value);
            let (number, key) = read.ok_or_else(|| Error::Corrupt("a store's name".into()))?;
            let deepest = None;
            stores.insert(key, Store { number, deepest });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self {
            space,
            prefix,
            database,
            stores,
        })
    }

    /// How many stores have a number.
    pub(crate) fn len(&self) -> usize {
        self.stores.len()
    }

    pub(crate) fn slot(&self, name: &StoreName, kind: StoreKind) -> Option<StoreSlot> {
        let store = self.stores.get(&(name.clone(), kind))?.number;
        Some(StoreSlot {
            database: self.database,
            store,
        })
    }

    /// The slot of a store, which is given a number and a row in `batch` where it has none.
    pub(crate) fn slot_or_create(
        &mut self,
        name: &StoreName,
        kind: StoreKind,
        batch: &mut Batch,
    ) -> StoreSlot {
        let next = self
            .stores
            .values()
            .map(|store| store.number)
            .max()
            .map_or(0, |last| last.saturating_add(1));
        let store = self.stores.entry((name.clone(), kind)).or_insert_with(|| {
            let key = [self.prefix.as_slice(), &next.to_be_bytes()].concat();
            let value = [&[kind as u8], name.as_str().as_bytes()].concat();
            batch.put(self.space, &key, &seal::seal(&key, &value));
            Store {
                number: next,
                deepest: Some(0),
            }
        });
        StoreSlot {
            database: self.database,
            store: store.number,
        }
    }

    /// Segments that the paths of a store's state rows have at most, in the engine and staged, where that is known.
    pub(crate) fn deepest(&self, name: &StoreName, kind: StoreKind) -> Option<usize> {
        self.stores.get(&(name.clone(), kind))?.deepest
    }

    /// The same slot, into which rows are written whose paths have at most so many segments.
    pub(crate) fn slot_to_write(
        &mut self,
        name: &StoreName,
        kind: StoreKind,
        deepest: usize,
        batch: &mut Batch,
    ) -> StoreSlot {
        let slot = self.slot_or_create(name, kind, batch);
        if let Some(store) = self.stores.get_mut(&(name.clone(), kind)) {
            store.deepest = store.deepest.map(|before| before.max(deepest));
        }
        slot
    }

    /// Checks that a store may be opened as `kind`: that it is one, or is nothing yet.
    pub(crate) fn check_kind(&self, name: &StoreName, kind: StoreKind) -> Result<()> {
        if self.slot(name, kind).is_some() {
            return Ok(());
        }
        match self.kinds(name).next() {
            None => Ok(()),
            Some(found) => Err(Error::wrong_kind(name, kind, found)),
        }
    }

    fn kinds<'a>(&'a self, name: &'a StoreName) -> impl Iterator<Item = StoreKind> + 'a {
        let from = (name.clone(), StoreKind::Doc);
        self.stores
            .range(from..)
            .map(|(key, _)| key)
            .take_while(move |key| key.0 == *name)
            .map(|key| key.1)
    }

    /// All stores in the order of name and kind.
    pub(crate) fn all(&self) -> Vec<(StoreName, StoreKind, StoreSlot)> {
        let slot = |store| StoreSlot {
            database: self.database,
            store,
        };
        self.stores
            .iter()
            .map(|((name, kind), store)| (name.clone(), *kind, slot(store.number)))
            .collect()
    }
}

/// Whether a row of a registry with this prefix can be read.
pub(crate) fn is_sound(row: &Row, prefix: &[u8]) -> bool {
    seal::open(&row.key, &row.value).is_ok_and(|value| parse(&row.key, prefix, &value).is_some())
}

fn parse(key: &[u8], prefix: &[u8], value: &[u8]) -> Option<(u32, (StoreName, StoreKind))> {
    let number = key
        .strip_prefix(prefix)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)?;
    let (kind, name) = value.split_first()?;
    let name = StoreName::new(std::str::from_utf8(name).ok()?).ok()?;
    Some((number, (name, StoreKind::from_byte(*kind)?)))
}

/// What people call a kind.
pub(crate) fn kind_name(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Doc => "document",
        StoreKind::Table => "table",
        _ => "store of another kind",
    }
}
