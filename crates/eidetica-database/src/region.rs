//! The stored entries that may stand differently, and which cuts they lie outside of.
//!
//! All walks go down the history together, by descending stamps: those of what lies outside of the cuts, and those of
//! the pasts of the cuts. So what is held is their width and one page, however many entries they meet.

use std::collections::{BTreeSet, HashMap};
use std::iter::Peekable;

use eidetica_auth::{AuthState, Changes, Cut};
use eidetica_entry::dag::{self, Ancestors, Budget, Outside};
use eidetica_entry::{Height, Id, Ids, Stamp};
use eidetica_storage::log::LogError;

use crate::error::Result;
use crate::known::Known;
use crate::limits;

/// Entries that may stand differently, each once.
pub(crate) struct Region<'k, 'a> {
    walks: Vec<Peekable<Outside<'k, Known<'a>>>>,
    /// Stored entries that the changes name, the highest last.
    named: Vec<Stamp>,
    /// Of what is not named, nothing at this height or below is concerned.
    end: Option<Height>,
}

impl<'k, 'a> Region<'k, 'a> {
    /// What may stand differently by `changes` that lead to `state`, among what is below `heads`.
    pub(crate) fn of(
        known: &'k Known<'a>,
        heads: &[Id],
        changes: &Changes,
        state: &AuthState,
    ) -> Result<Self> {
        let named: Vec<Id> = changes
            .adopted
            .iter()
            .chain(&changes.settings)
            .copied()
            .collect();
        let located = named.iter().zip(known.reader.locate(&named)?);
        let named: BTreeSet<Stamp> = located
            .filter_map(|(id, located)| Some(Stamp::new(located?.height, *id)))
            .collect();
        let none = Ids::default();
        let mut cuts: BTreeSet<&Ids> = changes.cuts.iter().map(|cut| &cut.below).collect();
        // A walk for each of many would cost more than to look at everything once.
        if cuts.len() > limits::CUTS_APART {
            cuts = BTreeSet::from([&none]);
        }
        let walk = |below: &Ids| dag::outside(known, heads, below, Budget::unlimited());
        let walks = cuts
            .into_iter()
            .map(|below| walk(below).map(Iterator::peekable));
        let mut walks = walks
            .collect::<Result<Vec<_>, _>>()
            .map_err(LogError::from)?;
        walks.retain_mut(|walk| walk.peek().is_some());
        let end = match walks.is_empty() {
            true => None,
            false => end(known, changes, state)?,
        };
        Ok(Self {
            walks,
            named: named.into_iter().collect(),
            end,
        })
    }

    /// The next ones, by descending stamps, at most [`limits::REGION_PAGE`]; empty where these were all.
    pub(crate) fn page(&mut self) -> Result<Vec<Stamp>> {
        let mut page = Vec::new();
        while page.len() < limits::REGION_PAGE
            && let Some(stamp) = self.next()?
        {
            page.push(stamp);
        }
        Ok(page)
    }

    fn next(&mut self) -> Result<Option<Stamp>> {
        let end = self.end;
        self.walks.retain_mut(|walk| match walk.peek() {
            Some(Ok(stamp)) => end.is_none_or(|end| stamp.height > end),
            Some(Err(_)) => true,
            None => false,
        });
        let mut highest = self.named.last().copied();
        for walk in &mut self.walks {
            let failed = walk.next_if(Result::is_err);
            failed.transpose().map_err(LogError::from)?;
            let next = walk.peek().and_then(|next| next.as_ref().ok());
            highest = highest.max(next.copied());
        }
        for walk in &mut self.walks {
            walk.next_if(|next| next.as_ref().ok() == highest.as_ref());
        }
        if self.named.last() == highest.as_ref() {
            self.named.pop();
        }
        Ok(highest)
    }
}

/// A height above which is all that keys wrote whose entries may stand differently; `None` where that is not known.
fn end(known: &Known<'_>, changes: &Changes, state: &AuthState) -> Result<Option<Height>> {
    let Some(keys) = &changes.keys else {
        return Ok(None);
    };
    let admitting: Vec<Id> = state.admitting(keys).take(limits::ADMITTING + 1).collect();
    if admitting.len() > limits::ADMITTING {
        return Ok(None);
    }
    let located = known.reader.locate(&admitting)?.into_iter().flatten();
    // New ones have nothing stored above them.
    let lowest = located.map(|located| located.height).min();
    Ok(Some(lowest.unwrap_or(Height(u64::MAX))))
}

/// Which of some entries lie outside which cuts.
pub(crate) struct Cuts<'k, 'a> {
    known: &'k Known<'a>,
    page: Page,
    /// Arrival numbers of takings; `None` for new ones.
    arrivals: HashMap<Id, Option<u64>>,
    /// By cut, of which a taking may have several.
    pasts: HashMap<Ids, Past<'k, 'a>>,
}

/// The entries that are asked about.
#[derive(Default)]
struct Page {
    number: u64,
    places: HashMap<Id, usize>,
    lowest: Option<Stamp>,
}

/// What is in a cut or below.
struct Past<'k, 'a> {
    /// What was not met yet.
    rest: Peekable<Ancestors<'k, Known<'a>>>,
    /// The page that `within` is about.
    page: u64,
    /// A bit for each entry of it.
    within: Vec<u64>,
}

impl<'k, 'a> Cuts<'k, 'a> {
    /// Asked about nothing yet.
    pub(crate) fn new(known: &'k Known<'a>) -> Self {
        Self {
            known,
            page: Page::default(),
            arrivals: HashMap::new(),
            pasts: HashMap::new(),
        }
    }

    pub(crate) fn of(known: &'k Known<'a>, entries: impl Iterator<Item = Stamp>) -> Self {
        let mut cuts = Self::new(known);
        cuts.turn_to(entries);
        cuts
    }

    pub(crate) fn of_new(known: &'k Known<'a>, new: &[Id]) -> Result<Self> {
        let stamps = new
            .iter()
            .map(|id| known.header(id, |header| Stamp::new(header.height, *id)));
        let stamps: Vec<Stamp> = stamps.collect::<Result<_>>()?;
        Ok(Self::of(known, stamps.into_iter()))
    }

    /// From now on asked about other entries, all of them below those before.
    pub(crate) fn turn_to(&mut self, entries: impl Iterator<Item = Stamp>) {
        let mut page = Page {
            number: self.page.number + 1,
            ..Page::default()
        };
        for (place, stamp) in entries.enumerate() {
            page.places.insert(stamp.id, place);
            page.lowest = Some(page.lowest.map_or(stamp, |lowest| lowest.min(stamp)));
        }
        self.page = page;
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
        let Some(place) = self.page.places.get(id).copied() else {
            return Ok(false);
        };
        if !self.pasts.contains_key(&cut.below) {
            let past = Past::of(self.known, &cut.below)?;
            self.pasts.insert(cut.below.clone(), past);
        }
        let Some(past) = self.pasts.get_mut(&cut.below) else {
            return Ok(false);
        };
        if past.page != self.page.number {
            past.turn_to(&self.page)?;
        }
        let word = past.within.get(place / 64);
        Ok(word.is_some_and(|bits| bits & (1 << (place % 64)) != 0))
    }
}

impl<'k, 'a> Past<'k, 'a> {
    fn of(known: &'k Known<'a>, below: &[Id]) -> Result<Self> {
        let rest = dag::ancestors(known, below, Budget::unlimited()).map_err(LogError::from)?;
        Ok(Self {
            rest: rest.peekable(),
            page: 0,
            within: Vec::new(),
        })
    }

    /// Walks down as far as the entries of a page go.
    fn turn_to(&mut self, page: &Page) -> Result<()> {
        self.page = page.number;
        self.within = vec![0; page.places.len().div_ceil(64)];
        let Some(lowest) = page.lowest else {
            return Ok(());
        };
        let goes_on =
            |next: &Result<Stamp, _>| next.as_ref().map_or(true, |stamp| *stamp >= lowest);
        while let Some(stamp) = self.rest.next_if(goes_on) {
            let place = page.places.get(&stamp.map_err(LogError::from)?.id);
            if let Some((place, word)) =
                place.and_then(|place| Some((place, self.within.get_mut(place / 64)?)))
            {
                *word |= 1 << (place % 64);
            }
        }
        Ok(())
    }
}
