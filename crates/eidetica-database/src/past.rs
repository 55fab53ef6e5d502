//! Which entries are in the past of which: bitmaps over arrival numbers.
//!
//! A past never changes, and neither do arrival numbers, so nothing here goes stale. The past of a
//! child is that of its parents and itself: a fork that is written on costs one copy of a bitmap.

use std::sync::Arc;

use eidetica_entry::Id;
use eidetica_entry::dag::Budget;
use eidetica_storage::log::LogReader;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::error::{Error, Result};
use crate::limits;

/// A set of arrival numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past(Vec<u64>);

impl Past {
    pub(crate) fn contains(&self, arrival: u64) -> bool {
        let (word, bit) = place(arrival);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn insert(&mut self, arrival: u64) {
        let (word, bit) = place(arrival);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }

    fn remove(&mut self, arrival: u64) {
        let (word, bit) = place(arrival);
        if let Some(bits) = self.0.get_mut(word) {
            *bits &= !bit;
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }

    /// All arrival numbers below `end`.
    fn below(end: u64) -> Self {
        let (word, bit) = place(end);
        let mut words = vec![u64::MAX; word];
        words.push(bit - 1);
        Self(words)
    }
}

fn place(arrival: u64) -> (usize, u64) {
    (
        usize::try_from(arrival / 64).unwrap_or(usize::MAX),
        1 << (arrival % 64),
    )
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Id, Arc<Past>> for ByBytes {
    fn weight(&self, _: &Id, past: &Arc<Past>) -> u64 {
        64 + 8 * past.0.len() as u64
    }
}

/// Pasts of single entries that were asked for lately.
pub(crate) struct Pasts(Cache<Id, Arc<Past>, ByBytes>);

impl Default for Pasts {
    fn default() -> Self {
        Self(Cache::with_weighter(
            limits::PASTS,
            limits::PAST_BYTES,
            ByBytes,
        ))
    }
}

impl Pasts {
    /// The frontier that `ids` make, ascending, and its past, ends included.
    ///
    /// O(entries / 64) for each id whose past or whose parents' pasts are cached; else O(entries outside its past).
    pub(crate) fn of_frontier(
        &self,
        ids: &[Id],
        reader: &LogReader<'_>,
    ) -> Result<(Vec<Id>, Arc<Past>)> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let pasts: Vec<Arc<Past>> = ids
            .iter()
            .map(|id| self.of(id, reader))
            .collect::<Result<_>>()?;
        if let [past] = pasts.as_slice() {
            return Ok((ids, Arc::clone(past)));
        }
        let mut maximal = Vec::with_capacity(ids.len());
        for (at, (id, arrival)) in ids.iter().zip(arrivals(&ids, reader)?).enumerate() {
            let others = pasts.iter().enumerate().filter(|(other, _)| *other != at);
            if !others.into_iter().any(|(_, past)| past.contains(arrival)) {
                maximal.push(*id);
            }
        }
        let mut all = Past::default();
        pasts.iter().for_each(|past| all.merge(past));
        Ok((maximal, Arc::new(all)))
    }

    /// Remembers the past of a new child of a frontier.
    pub(crate) fn add_child(&self, id: Id, arrival: u64, parents: &Past) {
        let mut past = parents.clone();
        past.insert(arrival);
        self.0.insert(id, Arc::new(past));
    }

    fn of(&self, id: &Id, reader: &LogReader<'_>) -> Result<Arc<Past>> {
        if let Some(past) = self.0.get(id) {
            return Ok(past);
        }
        let entry = reader.get(id)?.ok_or(Error::NoEntry(*id))?;
        let parents: Option<Vec<Arc<Past>>> = entry
            .header()
            .parents
            .iter()
            .map(|id| self.0.get(id))
            .collect();
        let past = match parents {
            Some(parents) => {
                let mut past = Past::default();
                parents.iter().for_each(|parent| past.merge(parent));
                for arrival in arrivals(&[*id], reader)? {
                    past.insert(arrival);
                }
                past
            }
            None => by_difference(id, reader)?,
        };
        let past = Arc::new(past);
        self.0.insert(*id, Arc::clone(&past));
        Ok(past)
    }
}

/// Everything but what `id` has not below it.
fn by_difference(id: &Id, reader: &LogReader<'_>) -> Result<Past> {
    let heads = reader.heads()?;
    let outside = reader.difference(&heads, &[*id], &mut Budget::unlimited())?;
    let mut past = Past::below(reader.state()?.next_arrival);
    outside
        .ranges()
        .iter()
        .flat_map(Clone::clone)
        .for_each(|arrival| past.remove(arrival));
    Ok(past)
}

/// The arrival numbers of entries, each of which must be here.
pub(crate) fn arrivals(ids: &[Id], reader: &LogReader<'_>) -> Result<Vec<u64>> {
    let located = ids.iter().zip(reader.locate(ids)?);
    located
        .map(|(id, located)| {
            located
                .map(|located| located.arrival)
                .ok_or(Error::NoEntry(*id))
        })
        .collect()
}
