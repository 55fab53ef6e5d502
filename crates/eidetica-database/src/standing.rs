//! How entries stand by everything that is known: effective or void.
//!
//! A new entry is judged by its own past first. Then all takings that are not in its past hold for it,
//! except those that come with it and whose cut it is in. What was stored before is judged again where new
//! settings entries say that it may stand differently: outside of their cuts.

use std::collections::{HashMap, HashSet};

use eidetica_auth::{AuthState, Changes, Cut, Pinned, Pins, Standing, Subject, VoidReason};
use eidetica_entry::{Author, Entry, Header, Id, Ids, Stamp};

use crate::authority::Authority;
use crate::effects::Flip;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::region::{Cuts, Region};

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
        let mut region = Region::of(self.known, heads, changes, &self.state)?;
        let mut cuts = Cuts::new(self.known);
        let mut flips = Vec::new();
        loop {
            let page = region.page()?;
            if page.is_empty() {
                break;
            }
            let concerned = self.concerned(&page, changes)?;
            cuts.turn_to(concerned.iter().map(|stored| stored.stamp));
            for Stored {
                stamp,
                arrival,
                header,
            } in concerned
            {
                let outside = |cut: &Cut| cuts.are_outside(&stamp.id, Some(arrival), cut);
                let void = !self.of(&stamp.id, &header, outside)?.is_effective();
                if void != is_void(arrival) {
                    flips.push(Flip {
                        arrival,
                        id: stamp.id,
                        author: header.author.key,
                        void,
                    });
                }
            }
        }
        flips.sort_unstable_by_key(|flip| flip.arrival);
        Ok(flips)
    }

    /// Arrival numbers of all entries below some that are void. O(those below), and a walk down for each cut.
    pub(crate) fn void_of_all(&self, heads: &[Id]) -> Result<Vec<u64>> {
        let everything = self.state.everything();
        let flips = self.flips_below(heads, &everything, |_| false)?;
        Ok(flips.iter().map(|flip| flip.arrival).collect())
    }

    /// The stored ones of some entries that changes bear on. Of the others no more is held than of one pack.
    fn concerned(&self, page: &[Stamp], changes: &Changes) -> Result<Vec<Stored>> {
        let ids: Vec<Id> = page.iter().map(|stamp| stamp.id).collect();
        let located = page.iter().zip(self.known.reader.locate(&ids)?);
        let mut places: Vec<(u64, Stamp)> = located
            .filter_map(|(stamp, located)| Some((located?.arrival, *stamp)))
            .collect();
        places.sort_unstable();
        let mut concerned = Vec::new();
        for (arrival, stamp) in places {
            let entry = self.known.reader.at(arrival)?;
            if concerns(changes, &entry) {
                let header = entry.header().clone();
                concerned.push(Stored {
                    stamp,
                    arrival,
                    header,
                });
            }
        }
        Ok(concerned)
    }
}

/// What is judged of a stored entry.
struct Stored {
    stamp: Stamp,
    arrival: u64,
    header: Header,
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

/// The settings frontier with one more settings entry.
pub(crate) fn advance(settings: &Ids, id: Id, header: &Header) -> Ids {
    let rest = settings.iter().filter(|pin| !header.settings.has(pin));
    rest.copied().chain([id]).collect()
}
