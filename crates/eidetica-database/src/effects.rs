//! What becomes of tips, void leaves and loose entries when entries arrive void or change sides.
//!
//! - A *tip* is an effective entry without effective ones above it.
//! - A *void leaf* is a void entry that is nobody's parent.
//! - A *loose* entry is void and has no effective ones above it.
//!
//! The log does this by itself where everything is effective; nothing here runs then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use eidetica_entry::{Header, Id, ParentInfo, PublicKey, Stamp};
use eidetica_storage::log::{Mark, Stage};

use crate::error::{Error, Result};
use crate::known::Known;
use crate::settle::Turned;

/// A stored entry that is to change sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) arrival: u64,
    pub(crate) id: Id,
    pub(crate) author: PublicKey,
    /// What it is from now on.
    pub(crate) void: bool,
}

/// Works on a stage that the new entries were added to.
pub(crate) struct Effects<'s, 'w, 'k, 'a> {
    stage: &'s mut Stage<'w>,
    known: &'k Known<'a>,
    /// Arrival numbers that were looked up, or given just now.
    arrivals: HashMap<Id, u64>,
}

impl<'s, 'w, 'k, 'a> Effects<'s, 'w, 'k, 'a> {
    /// New entries were added to the stage from arrival number `first` on.
    pub(crate) fn new(
        stage: &'s mut Stage<'w>,
        known: &'k Known<'a>,
        first: u64,
        new: &[Id],
    ) -> Self {
        Self {
            stage,
            known,
            arrivals: new.iter().copied().zip(first..).collect(),
        }
    }

    /// Places new entries, which were added from arrival number `first` on over `tips`. Costs them and the loose
    /// entries that they are put above.
    pub(crate) fn arrive(
        &mut self,
        first: u64,
        new: &[Id],
        void: &HashSet<Id>,
        tips: &[ParentInfo],
    ) -> Result<()> {
        self.look_up(new)?;
        for (arrival, id) in (first..).zip(new).filter(|(_, id)| void.contains(*id)) {
            self.stage.set_void(arrival, true);
            self.stage.set_absent(arrival, true);
            let (height, author) = self.header(id, |header| (header.height, header.author.key))?;
            self.stage.set_loose(arrival, height, &author, true);
        }
        let mut tips: BTreeMap<Id, ParentInfo> =
            tips.iter().map(|tip| (tip.id, tip.clone())).collect();
        for id in new {
            let parents = self.parents(id)?;
            for parent in &parents {
                self.drop_leaf(parent)?;
            }
            if void.contains(id) {
                self.set_leaf(id, true)?;
                continue;
            }
            for below in self.carry(parents)? {
                tips.remove(&below);
            }
            tips.insert(*id, self.known.info(id)?);
        }
        self.stage.set_tips(tips.into_values().collect());
        Ok(())
    }

    /// Moves stored entries to the other side, and says of which of them the state has `turned`. Costs what lies
    /// between them and the tips, and all loose entries.
    pub(crate) fn flip(&mut self, flips: &[Flip], turned: &Turned) -> Result<()> {
        if flips.is_empty() {
            return Ok(());
        }
        for (arrival, absent) in &turned.absent {
            self.stage.set_absent(*arrival, *absent);
        }
        for flip in flips {
            self.arrivals.insert(flip.id, flip.arrival);
            self.stage.set_void(flip.arrival, flip.void);
        }
        let before: Vec<Id> = self.stage.tips().iter().map(|tip| tip.id).collect();
        let mut candidates: BTreeSet<Id> = flips
            .iter()
            .filter(|flip| !flip.void)
            .map(|flip| flip.id)
            .collect();
        candidates.extend(self.effective_below(before.clone())?);
        let candidates: Vec<Id> = candidates.into_iter().collect();
        let tips = self.known.maximal(&candidates)?;
        self.settle_leaves(&before, &tips)?;
        self.settle_loose(&tips)?;
        let infos = self.known.infos(&tips)?;
        self.stage.set_tips(infos);
        Ok(())
    }

    /// Of what was a leaf or a tip and what is a tip now, the void entries that are nobody's parents.
    fn settle_leaves(&mut self, before: &[Id], tips: &[Id]) -> Result<()> {
        let old = self.stage.void_leaves();
        let ends = old.iter().map(|leaf| leaf.id).chain(before.iter().copied());
        let ends: Vec<Id> = ends.chain(tips.iter().copied()).collect();
        let mut leaves = BTreeSet::new();
        let ends = self.known.maximal(&ends)?;
        self.locate(&ends)?;
        for end in &ends {
            if self.is_void(end)? {
                leaves.insert(self.stamp(end)?);
            }
        }
        for leaf in old.symmetric_difference(&leaves) {
            self.stage.set_void_leaf(*leaf, leaves.contains(leaf));
        }
        Ok(())
    }

    fn settle_loose(&mut self, tips: &[Id]) -> Result<()> {
        let leaves: Vec<Id> = self
            .stage
            .void_leaves()
            .iter()
            .map(|leaf| leaf.id)
            .collect();
        let found = self.known.difference(&leaves, tips)?;
        let ids: Vec<Id> = found.iter().map(|stamp| stamp.id).collect();
        self.locate(&ids)?;
        let mut loose = BTreeMap::new();
        for id in ids {
            loose.insert(self.arrival(&id)?, id);
        }
        for arrival in self.stage.marked(Mark::Loose) {
            if loose.remove(&arrival).is_none() {
                let entry = self.known.reader.at(arrival)?;
                let (height, author) = (entry.header().height, &entry.header().author.key);
                self.stage.set_loose(arrival, height, author, false);
            }
        }
        for (arrival, id) in loose {
            let (height, author) = self.header(&id, |header| (header.height, header.author.key))?;
            self.stage.set_loose(arrival, height, &author, true);
        }
        Ok(())
    }

    /// The nearest effective entries at or below some, through void ones.
    fn effective_below(&mut self, from: Vec<Id>) -> Result<Vec<Id>> {
        self.walk(from, |_, _| Ok(true))
    }

    /// The same for the parents of an effective entry: what is void between is not loose any more. Where it was
    /// not loose already, all that is below has been seen.
    fn carry(&mut self, from: Vec<Id>) -> Result<Vec<Id>> {
        self.walk(from, |effects, id| {
            let arrival = effects.arrival(id)?;
            let was_loose = effects.stage.is_marked(Mark::Loose, arrival);
            if was_loose {
                let (height, author) =
                    effects.header(id, |header| (header.height, header.author.key))?;
                effects.stage.set_loose(arrival, height, &author, false);
            }
            Ok(was_loose)
        })
    }

    /// Walks down through the void entries that `enter` admits; gives the effective ones it ends at. One lookup for
    /// each step down.
    fn walk(
        &mut self,
        from: Vec<Id>,
        mut enter: impl FnMut(&mut Self, &Id) -> Result<bool>,
    ) -> Result<Vec<Id>> {
        let (mut seen, mut ends) = (HashSet::new(), Vec::new());
        let mut open = from;
        while !open.is_empty() {
            open.retain(|id| seen.insert(*id));
            self.locate(&open)?;
            let mut below = Vec::new();
            for id in &open {
                if !self.is_void(id)? {
                    ends.push(*id);
                } else if enter(self, id)? {
                    below.extend(self.parents(id)?);
                }
            }
            open = below;
        }
        Ok(ends)
    }

    fn drop_leaf(&mut self, id: &Id) -> Result<()> {
        match self.is_void(id)? {
            true => self.set_leaf(id, false),
            false => Ok(()),
        }
    }

    fn set_leaf(&mut self, id: &Id, on: bool) -> Result<()> {
        let stamp = self.stamp(id)?;
        self.stage.set_void_leaf(stamp, on);
        Ok(())
    }

    fn stamp(&self, id: &Id) -> Result<Stamp> {
        self.header(id, |header| Stamp::new(header.height, *id))
    }

    fn parents(&self, id: &Id) -> Result<Vec<Id>> {
        self.header(id, |header| header.parents.to_vec())
    }

    /// What a header says; where it is known to stand, without looking its place up.
    fn header<T>(&self, id: &Id, read: impl FnOnce(&Header) -> T) -> Result<T> {
        match self.arrivals.get(id).filter(|_| !self.known.is_new(id)) {
            Some(arrival) => Ok(read(self.known.reader.at(*arrival)?.header())),
            None => self.known.header(id, read),
        }
    }

    fn is_void(&mut self, id: &Id) -> Result<bool> {
        let arrival = self.arrival(id)?;
        Ok(self.stage.is_marked(Mark::Void, arrival))
    }

    fn arrival(&mut self, id: &Id) -> Result<u64> {
        self.locate(&[*id])?;
        self.arrivals.get(id).copied().ok_or(Error::NoEntry(*id))
    }

    /// Looks up the stored parents of new entries with one call.
    fn look_up(&mut self, new: &[Id]) -> Result<()> {
        let mut parents = BTreeSet::new();
        for id in new {
            parents.extend(self.parents(id)?);
        }
        self.locate(&Vec::from_iter(parents))
    }

    fn locate(&mut self, ids: &[Id]) -> Result<()> {
        let unknown: Vec<Id> = ids
            .iter()
            .filter(|id| !self.arrivals.contains_key(*id))
            .copied()
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let located = self.known.reader.locate(&unknown)?.into_iter().zip(unknown);
        self.arrivals
            .extend(located.filter_map(|(located, id)| Some((id, located?.arrival))));
        Ok(())
    }
}
