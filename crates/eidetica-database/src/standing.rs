//! How entries stand by everything that is known: effective or void.
//!
//! A new entry is judged by its own past first. Then all takings that are not in its past hold for it,
//! except those that come with it and whose cut it is in. What was stored before is judged again where new
//! settings entries say that it may stand differently: outside of their cuts.

use std::collections::{BTreeMap, HashMap, HashSet};

use eidetica_auth::{AuthState, Changes, Cut, Pinned, Pins, Standing, Subject, VoidReason};
use eidetica_entry::dag::{self, Budget};
use eidetica_entry::{Author, Entry, Header, Id, Ids, Stamp};
use eidetica_storage::log::LogError;

use crate::authority::Authority;
use crate::effects::Flip;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::limits;

/// Entries under one state, which covers all that is known.
pub(crate) struct Standings<'k, 'a> {
    authority: &'k Authority,
    known: &'k Known<'a>,
    state: AuthState,
    /// The settings frontier of `state`.
    settings: Ids,
}

impl<'k, 'a> Standings<'k, 'a> {
    /// Under the state at `settings`.
    pub(crate) fn at(
        authority: &'k Authority,
        known: &'k Known<'a>,
        settings: &Ids,
    ) -> Result<Self> {
        let state = authority.at(settings, known)?;
        Ok(Self::under(authority, known, settings.clone(), state))
    }

    pub(crate) fn under(
        authority: &'k Authority,
        known: &'k Known<'a>,
        settings: Ids,
        state: AuthState,
    ) -> Self {
        Self {
            authority,
            known,
            state,
            settings,
        }
    }

    pub(crate) fn state(&self) -> &AuthState {
        &self.state
    }

    /// Standing of one sound entry; `outside` says whether it lies outside of a cut.
    pub(crate) fn of(
        &self,
        id: &Id,
        header: &Header,
        outside: impl FnMut(&Cut) -> Result<bool>,
    ) -> Result<Standing> {
        if header.writes_settings() {
            let standing = self.state.settings_standing(id);
            return standing.ok_or_else(|| Error::Corrupt(format!("settings entry {id} is lost")));
        }
        let at = self.authority.at(&header.settings, self.known)?;
        let pinned = match Pinned::read(&header.author, &at, self.known)? {
            Pins::None => None,
            Pins::At(pinned) => Some(pinned),
            _ => {
                return Err(Error::Corrupt(format!(
                    "entry {id} was stored without its pins"
                )));
            }
        };
        let subject = Subject {
            id: *id,
            key: header.author.key,
            pinned: pinned.as_ref(),
        };
        self.state.standing(&subject, &at, outside)
    }

    /// Why an entry that is made now, on top of whatever it has below it, would be void.
    pub(crate) fn of_next(&self, id: &Id, header: &Header) -> Result<Option<VoidReason>> {
        if !header.writes_settings() && header.settings == self.settings {
            return Ok(None);
        }
        Ok(match self.of(id, header, |_| Ok(true))? {
            Standing::Void(reason) => Some(reason),
            Standing::Effective(_) => None,
        })
    }

    /// Which of the new entries are void. O(1) for each author and frontier where none of them takes anything.
    pub(crate) fn void_of(&self, new: &[Id], changes: &Changes) -> Result<HashSet<Id>> {
        let mut void = HashSet::new();
        let mut memo: HashMap<(Ids, Author), bool> = HashMap::new();
        let mut cuts: Option<Cuts<'_, '_>> = None;
        for id in new {
            let header = self
                .known
                .new_entry(id)
                .ok_or(Error::NoEntry(*id))?
                .header();
            if header.settings == self.settings && !header.writes_settings() {
                continue;
            }
            let touched = touches(changes, id, header);
            let key = (header.settings.clone(), header.author.clone());
            let is_void = match memo.get(&key) {
                _ if header.writes_settings() => !self.of(id, header, |_| Ok(true))?.is_effective(),
                _ if touched => {
                    let cuts = match &mut cuts {
                        Some(cuts) => cuts,
                        none => none.insert(Cuts::of_new(self.known, new)?),
                    };
                    let outside = |cut: &Cut| cuts.are_outside(id, None, cut);
                    !self.of(id, header, outside)?.is_effective()
                }
                Some(is_void) => *is_void,
                None => {
                    let is_void = !self.of(id, header, |_| Ok(true))?.is_effective();
                    memo.insert(key, is_void);
                    is_void
                }
            };
            if is_void {
                void.insert(*id);
            }
        }
        Ok(void)
    }

    /// Which stored entries change sides, ascending by arrival; `is_void` says what they were. Costs the
    /// entries outside of the cuts that have changed.
    pub(crate) fn flips(
        &self,
        changes: &Changes,
        is_void: impl Fn(u64) -> bool,
    ) -> Result<Vec<Flip>> {
        match changes.cuts.is_empty() {
            true => self.flips_below(&[], changes, is_void),
            false => self.flips_below(&self.known.reader.heads()?, changes, is_void),
        }
    }

    /// The same for the past of some entries.
    pub(crate) fn flips_below(
        &self,
        heads: &[Id],
        changes: &Changes,
        is_void: impl Fn(u64) -> bool,
    ) -> Result<Vec<Flip>> {
        let mut flips = Vec::new();
        let region = self.region(heads, changes)?;
        let mut cuts = Cuts::of(self.known, region.values().copied());
        let region: Vec<(u64, Stamp)> = region.into_iter().collect();
        for chunk in region.chunks(limits::REGION_PAGE) {
            let ids: Vec<Id> = chunk.iter().map(|(_, stamp)| stamp.id).collect();
            let entries = self.known.reader.get_many(&ids)?;
            for ((arrival, stamp), entry) in chunk.iter().zip(entries) {
                let entry = entry.ok_or(Error::NoEntry(stamp.id))?;
                if !concerns(changes, &entry) {
                    continue;
                }
                let outside = |cut: &Cut| cuts.are_outside(&stamp.id, Some(*arrival), cut);
                let void = !self.of(&stamp.id, entry.header(), outside)?.is_effective();
                if void != is_void(*arrival) {
                    flips.push(Flip {
                        arrival: *arrival,
                        id: stamp.id,
                        author: entry.header().author.key,
                        void,
                    });
                }
            }
        }
        Ok(flips)
    }

    /// The stored entries that may stand differently, by arrival.
    fn region(&self, heads: &[Id], changes: &Changes) -> Result<BTreeMap<u64, Stamp>> {
        let named = changes.adopted.iter().chain(&changes.settings);
        let mut region: HashSet<Id> = named.copied().collect();
        let none = Ids::default();
        let mut cuts: HashSet<&Ids> = changes.cuts.iter().map(|cut| &cut.below).collect();
        // A walk for each of many would cost more than to look at everything once.
        if cuts.len() > limits::CUTS_APART {
            cuts = HashSet::from([&none]);
        }
        for below in cuts {
            let outside = self.known.difference(heads, below)?;
            region.extend(outside.iter().map(|stamp| stamp.id));
        }
        let ids: Vec<Id> = region.into_iter().collect();
        let located = ids.iter().zip(self.known.reader.locate(&ids)?);
        Ok(located
            .filter_map(|(id, located)| {
                let located = located?;
                Some((located.arrival, Stamp::new(located.height, *id)))
            })
            .collect())
    }
}

/// Whether an entry may be named or touched by what has changed.
fn touches(changes: &Changes, id: &Id, header: &Header) -> bool {
    let keys = changes.keys.as_deref();
    let of_key = keys.is_none_or(|keys| keys.binary_search(&header.author.key).is_ok());
    (of_key && !changes.cuts.is_empty()) || changes.adopted.binary_search(id).is_ok()
}

fn concerns(changes: &Changes, entry: &Entry) -> bool {
    match entry.header().writes_settings() {
        true => changes.settings.binary_search(&entry.id()).is_ok(),
        false => touches(changes, &entry.id(), entry.header()),
    }
}

/// Which of some entries lie outside which cuts.
pub(crate) struct Cuts<'k, 'a> {
    known: &'k Known<'a>,
    /// The entries that are asked about, with a number each.
    numbers: HashMap<Id, usize>,
    lowest: Option<Stamp>,
    /// Arrival numbers of takings; `None` for new ones.
    arrivals: HashMap<Id, Option<u64>>,
    /// By cut, of which a taking may have several: bits of the entries in it or below.
    within: HashMap<Ids, Vec<u64>>,
}

impl<'k, 'a> Cuts<'k, 'a> {
    pub(crate) fn of(known: &'k Known<'a>, entries: impl Iterator<Item = Stamp> + Clone) -> Self {
        Self {
            known,
            lowest: entries.clone().min(),
            numbers: entries
                .enumerate()
                .map(|(n, stamp)| (stamp.id, n))
                .collect(),
            arrivals: HashMap::new(),
            within: HashMap::new(),
        }
    }

    fn of_new(known: &'k Known<'a>, new: &[Id]) -> Result<Self> {
        let stamps = new
            .iter()
            .map(|id| known.header(id, |header| Stamp::new(header.height, *id)));
        let stamps: Vec<Stamp> = stamps.collect::<Result<_>>()?;
        Ok(Self::of(known, stamps.iter().copied()))
    }

    /// Whether one of the entries, with its arrival number unless it is new, is neither in a cut nor below it.
    pub(crate) fn are_outside(&mut self, id: &Id, arrival: Option<u64>, cut: &Cut) -> Result<bool> {
        // Whatever a taking knows arrived before it.
        let later = match (arrival, self.arrival_of(&cut.taking)?) {
            (None, Some(_)) => true,
            (Some(arrival), Some(taking)) => arrival > taking,
            (_, None) => false,
        };
        Ok(later || !self.is_within(id, cut)?)
    }

    fn arrival_of(&mut self, taking: &Id) -> Result<Option<u64>> {
        if let Some(arrival) = self.arrivals.get(taking) {
            return Ok(*arrival);
        }
        let located = self.known.reader.locate(&[*taking])?.pop().flatten();
        let arrival = located.map(|located| located.arrival);
        self.arrivals.insert(*taking, arrival);
        Ok(arrival)
    }

    fn is_within(&mut self, id: &Id, cut: &Cut) -> Result<bool> {
        let Some(number) = self.numbers.get(id).copied() else {
            return Ok(false);
        };
        if !self.within.contains_key(&cut.below) {
            let within = self.walk(&cut.below)?;
            self.within.insert(cut.below.clone(), within);
        }
        let word = self
            .within
            .get(&cut.below)
            .and_then(|within| within.get(number / 64));
        Ok(word.is_some_and(|bits| bits & (1 << (number % 64)) != 0))
    }

    /// Walks down from a cut as far as the entries go.
    fn walk(&self, below: &[Id]) -> Result<Vec<u64>> {
        let mut within = vec![0_u64; self.numbers.len().div_ceil(64)];
        let Some(lowest) = self.lowest else {
            return Ok(within);
        };
        let past =
            dag::ancestors(self.known, below, Budget::unlimited()).map_err(LogError::from)?;
        for stamp in past {
            let stamp = stamp.map_err(LogError::from)?;
            if stamp < lowest {
                break;
            }
            let number = self.numbers.get(&stamp.id);
            if let Some((number, word)) =
                number.and_then(|number| Some((number, within.get_mut(number / 64)?)))
            {
                *word |= 1 << (number % 64);
            }
        }
        Ok(within)
    }
}

/// The settings frontier with one more settings entry.
pub(crate) fn advance(settings: &Ids, id: Id, header: &Header) -> Ids {
    let rest = settings.iter().filter(|pin| !header.settings.has(pin));
    rest.copied().chain([id]).collect()
}
