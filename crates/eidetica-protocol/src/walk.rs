//! Finds what two histories have in common, from the asking side, by the headers of the other.
//!
//! The walk goes down by generations from those tips of the peer that are not known here, in windows that double,
//! until every unknown header has only known parents. The known parents at that boundary, with the known tips, are
//! the exact common frontier: what is in the past of them is what both have. Work follows the difference, however
//! deep below the tips it branched off. Headers are the peer's claims: they steer what is fetched and pushed, and
//! nothing else; a lie is noticed, or costs the liar's own entries.

use std::collections::{BTreeMap, HashMap, HashSet};

use eidetica_entry::{Height, Id, Stamp};

use crate::{HeaderSummary, PeerFault, limits};

#[derive(Debug)]
pub(crate) struct Walk {
    database: Id,
    /// Every unknown header seen, and the unknown tips.
    heights: HashMap<Id, Height>,
    /// Unknown entries whose header is not here yet, with a bound that their height must be below.
    open: BTreeMap<Id, Height>,
    /// Known entries next to unknown ones, with the same kind of bound.
    boundary: HashMap<Id, Height>,
    /// Asked for in the last request.
    requested: HashSet<Id>,
    limit: usize,
    page: Vec<HeaderSummary>,
    generations: u32,
    rounds: u32,
    pub(crate) headers: usize,
}

/// What to do next.
pub(crate) enum Step {
    /// Ask for these headers.
    Ask {
        of: Vec<Id>,
        generations: u32,
        limit: u32,
    },
    /// The boundary is found; `exact` unless a limit ended the walk.
    Done { exact: bool },
}

impl Walk {
    /// Begins at the peer's tips, of which some are known here.
    pub(crate) fn new(database: Id, tips: &[Stamp], known: &[bool]) -> Self {
        let mut walk = Self {
            database,
            heights: HashMap::new(),
            open: BTreeMap::new(),
            boundary: HashMap::new(),
            requested: HashSet::new(),
            limit: limits::FIRST_HEADERS as usize,
            page: Vec::new(),
            generations: limits::WALK_GENERATIONS,
            rounds: 0,
            headers: 0,
        };
        for (tip, known) in tips.iter().zip(known) {
            let bound = tip.height.next();
            if *known {
                walk.boundary.insert(tip.id, bound);
            } else {
                walk.heights.insert(tip.id, tip.height);
                walk.open.insert(tip.id, bound);
            }
        }
        walk
    }

    /// Whether there is nothing to walk: all tips are known.
    pub(crate) fn is_closed(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn next(&mut self) -> Step {
        let ids = self.open.len() + self.boundary.len();
        if self.open.is_empty() {
            return Step::Done { exact: true };
        }
        if self.rounds >= limits::WALK_ROUNDS
            || self.headers >= limits::WALK_HEADERS
            || ids > limits::WALK_IDS
        {
            return Step::Done { exact: false };
        }
        let mut of: Vec<(Height, Id)> = self.open.iter().map(|(id, bound)| (*bound, *id)).collect();
        of.sort_unstable_by(|a, b| b.cmp(a));
        of.truncate(limits::WALK_OF);
        let of: Vec<Id> = of.into_iter().map(|(_, id)| id).collect();
        let generations = self.generations;
        self.limit = of
            .len()
            .saturating_mul(generations as usize)
            .min(limits::HEADERS);
        self.requested = of.iter().copied().collect();
        self.rounds += 1;
        self.generations = generations.saturating_mul(2).min(limits::HEADERS as u32);
        Step::Ask {
            of,
            generations,
            limit: self.limit as u32,
        }
    }

    /// Takes the headers that came unasked with the comparison; `tips` are all tips of the peer.
    pub(crate) fn take_first(
        &mut self,
        page: Vec<HeaderSummary>,
        tips: &[Stamp],
    ) -> Result<Vec<Id>, PeerFault> {
        let roots = tips.iter().map(|tip| (tip.id, tip.height.next())).collect();
        self.take(page, roots)
    }

    /// Takes the answer to the last request. Returns the ids of which to ask whether they are known here, for
    /// [`classify`](Self::classify).
    pub(crate) fn take_reply(&mut self, page: Vec<HeaderSummary>) -> Result<Vec<Id>, PeerFault> {
        let answered = page
            .iter()
            .any(|header| self.requested.contains(&header.stamp.id));
        if let (false, Some(id)) = (answered, self.requested.iter().min()) {
            return Err(PeerFault::HeaderWithheld(*id));
        }
        let roots = self
            .open
            .iter()
            .filter(|(id, _)| self.requested.contains(id));
        let roots = roots.map(|(id, bound)| (*id, *bound)).collect();
        self.take(page, roots)
    }

    /// Checks the page: every header is one of `roots` or the parent of another, and heights fit.
    fn take(
        &mut self,
        page: Vec<HeaderSummary>,
        roots: HashMap<Id, Height>,
    ) -> Result<Vec<Id>, PeerFault> {
        if page.len() > self.limit {
            return Err(PeerFault::TooManyHeaders {
                count: page.len(),
                limit: self.limit,
            });
        }
        let mut bounds = roots;
        let heights: HashMap<Id, Height> =
            page.iter().map(|h| (h.stamp.id, h.stamp.height)).collect();
        for header in &page {
            let Stamp { height, id } = header.stamp;
            let bound = *bounds.get(&id).ok_or(PeerFault::StrayHeader(id))?;
            let contradicts = self
                .heights
                .get(&id)
                .is_some_and(|before| *before != height);
            if height >= bound
                || contradicts
                || (height == Height::ROOT) != header.parents.is_empty()
            {
                return Err(PeerFault::WrongHeight(id));
            }
            if height == Height::ROOT && id != self.database {
                return Err(PeerFault::ForeignRoot(id));
            }
            let parents: Option<Vec<Height>> = header
                .parents
                .iter()
                .map(|id| heights.get(id).copied())
                .collect();
            if let Some(highest) = parents.as_ref().and_then(|parents| parents.iter().max())
                && highest.next() != height
            {
                return Err(PeerFault::WrongHeight(id));
            }
            for parent in &header.parents {
                let below = bounds.entry(*parent).or_insert(height);
                *below = height.min(*below);
            }
        }
        self.headers += page.len();
        let mut ids: Vec<Id> = page
            .iter()
            .flat_map(|h| h.parents.iter().copied())
            .collect();
        ids.extend(page.iter().map(|h| h.stamp.id));
        ids.sort_unstable();
        ids.dedup();
        self.page = page;
        Ok(ids)
    }

    /// Takes which of the ids are known here, and sorts the page into unknown entries and their boundary.
    pub(crate) fn classify(&mut self, ids: &[Id], known: &[bool]) {
        let known: HashSet<Id> = ids
            .iter()
            .zip(known)
            .filter(|(_, known)| **known)
            .map(|(id, _)| *id)
            .collect();
        // Descending stamps: a header is reached from above before it is looked at.
        for header in std::mem::take(&mut self.page) {
            let Stamp { height, id } = header.stamp;
            let Some(bound) = self.open.remove(&id) else {
                continue;
            };
            if known.contains(&id) {
                self.boundary.insert(id, bound);
                continue;
            }
            self.heights.insert(id, height);
            for parent in header.parents {
                if known.contains(&parent) {
                    self.boundary.entry(parent).or_insert(height);
                } else if !self.heights.contains_key(&parent) || self.open.contains_key(&parent) {
                    let below = self.open.entry(parent).or_insert(height);
                    *below = height.min(*below);
                }
            }
        }
    }

    /// The known entries next to the unknown ones, the highest first as far as the peer said so.
    pub(crate) fn into_boundary(self) -> Vec<Id> {
        let mut boundary: Vec<(Height, Id)> = self
            .boundary
            .into_iter()
            .map(|(id, bound)| (bound, id))
            .collect();
        boundary.sort_unstable_by(|a, b| b.cmp(a));
        boundary.into_iter().map(|(_, id)| id).collect()
    }
}
