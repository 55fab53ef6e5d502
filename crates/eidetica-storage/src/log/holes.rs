//! Payloads that are not here, exactly: which entry lacks which store's.
//!
//! Headers commit to payloads, so an entry may be stored without some of them: nothing but what they write is
//! missing then. What is missing is kept per store as a set of arrival numbers, which costs a bit per entry where a
//! whole store is left out and a few bytes where one payload is; a database that lacks none has no rows of it.

use std::collections::BTreeMap;

use eidetica_entry::{Entry, StoreName};

use super::marks::{Chunk, Marks, chunk_of};
use super::{DbNo, LogError, LogReader, rows};
use crate::Batch;

/// What lacks of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHoles {
    /// The store.
    pub store: StoreName,
    /// How many payloads are not here.
    pub missing: u64,
    /// How many of those nobody waits for any more.
    pub given_up: u64,
}

/// Adds those of some entries that lack the payload of a store to the sets of them, by store. `first` is the arrival
/// number of the first.
pub fn add_missing(first: u64, entries: &[Entry], missing: &mut BTreeMap<StoreName, Marks>) {
    let incomplete = (first..).zip(entries);
    for (arrival, entry) in incomplete.filter(|(_, entry)| !entry.is_complete()) {
        for (store, _) in entry.payloads().filter(|(_, payload)| payload.is_none()) {
            missing.entry(store.clone()).or_default().set(arrival, true);
        }
    }
}

/// What is said of a payload that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hole {
    Missing,
    /// Missing, and nobody waits for it.
    GivenUp,
}

impl Hole {
    pub(super) const ALL: [Self; 2] = [Self::Missing, Self::GivenUp];

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::GivenUp => 1,
        }
    }
}

/// All holes of a database, as its writer has staged them.
#[derive(Default)]
pub(super) struct Holes(BTreeMap<(StoreName, Hole), Marks>);

impl Holes {
    pub(super) fn load(reader: &LogReader<'_>) -> Result<Self, LogError> {
        let mut holes = Self::default();
        for StoreHoles { store, .. } in reader.holes()? {
            for hole in Hole::ALL {
                holes
                    .0
                    .insert((store.clone(), hole), reader.holes_in(hole, &store)?);
            }
        }
        Ok(holes)
    }

    pub(super) fn of(&self, store: &StoreName, hole: Hole) -> Option<&Marks> {
        self.0.get(&(store.clone(), hole))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(Marks::is_empty)
    }

    fn chunk(&self, place: &Place) -> Chunk {
        let marks = self.of(&place.store, place.hole);
        marks
            .and_then(|marks| marks.chunk(place.number))
            .cloned()
            .unwrap_or_default()
    }

    fn count(&self, store: &StoreName, hole: Hole) -> u64 {
        self.of(store, hole).map(Marks::len).unwrap_or_default()
    }
}

/// Which row of holes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) store: StoreName,
    pub(super) hole: Hole,
    /// Of the chunk.
    pub(super) number: u64,
}

impl Place {
    fn of(store: &StoreName, hole: Hole, arrival: u64) -> Self {
        Self {
            store: store.clone(),
            hole,
            number: chunk_of(arrival),
        }
    }
}

/// What a stage changes of [`Holes`].
#[derive(Default)]
pub(super) struct HoleChanges(BTreeMap<Place, Chunk>);

impl HoleChanges {
    pub(super) fn contains(
        &self,
        holes: &Holes,
        store: &StoreName,
        hole: Hole,
        arrival: u64,
    ) -> bool {
        match self.0.get(&Place::of(store, hole, arrival)) {
            Some(chunk) => chunk.contains(arrival),
            None => holes
                .of(store, hole)
                .is_some_and(|marks| marks.contains(arrival)),
        }
    }

    pub(super) fn set(
        &mut self,
        holes: &Holes,
        store: &StoreName,
        hole: Hole,
        arrival: u64,
        on: bool,
    ) {
        let place = Place::of(store, hole, arrival);
        let chunk = self.0.entry(place);
        let before = |place: &Place| holes.chunk(place);
        chunk.or_insert_with_key(before).set(arrival, on);
    }

    /// Writes what has changed, and takes it over.
    pub(super) fn put(self, no: DbNo, holes: &mut Holes, batch: &mut Batch) {
        let mut stores: Vec<StoreName> = Vec::new();
        for (place, chunk) in self.0 {
            if chunk == holes.chunk(&place) {
                continue;
            }
            rows::put_holes(no, &place, &chunk, batch);
            if stores.last() != Some(&place.store) {
                stores.push(place.store.clone());
            }
            let marks = holes.0.entry((place.store, place.hole)).or_default();
            marks.put(place.number, chunk);
        }
        for store in stores {
            let counts = StoreHoles {
                missing: holes.count(&store, Hole::Missing),
                given_up: holes.count(&store, Hole::GivenUp),
                store,
            };
            rows::put_hole_counts(no, &counts, batch);
        }
    }
}
