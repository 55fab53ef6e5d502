//! Which target holds, and which of those that are shown may replace it. Pure bookkeeping: proofs are checked by the
//! engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eidetica_mmr::Leaves;

use crate::message::RequestId;
use crate::{Claim, Conflict, SourceId, Target, limits};

/// The target that is worked towards.
pub(crate) struct Held {
    pub(crate) claim: Claim,
    /// Who showed it first.
    pub(crate) source: Option<SourceId>,
    /// Whether somebody vouches for it who is trusted, or it continues a pin. Otherwise it is only as good as its
    /// source.
    pub(crate) rooted: bool,
    pub(crate) complete: bool,
    /// Whether the database refused it.
    pub(crate) unfit: bool,
    /// When something of it was verified last, or when it was adopted.
    pub(crate) progress_ms: u64,
}

impl Held {
    pub(crate) fn new(claim: Claim, source: Option<SourceId>, rooted: bool, now_ms: u64) -> Self {
        Self {
            claim,
            source,
            rooted,
            complete: false,
            unfit: false,
            progress_ms: now_ms,
        }
    }

    /// When it is let go if nothing of it can be had, if ever.
    pub(crate) fn patience_ms(&self) -> Option<u64> {
        let doubtful = !self.rooted && !self.complete;
        doubtful.then(|| self.progress_ms.saturating_add(limits::PATIENCE_MS))
    }
}

/// A newer target of which it has to be shown that it continues the held one.
pub(crate) struct Candidate {
    pub(crate) claim: Claim,
    until_ms: u64,
    /// Who could not show it.
    refused: BTreeSet<SourceId>,
    /// Who did not answer, or could not yet: they are asked again later.
    lagging: BTreeSet<SourceId>,
    again_ms: u64,
    /// The worst of their reasons.
    worst: Option<NotShown>,
    pub(crate) asked: Option<RequestId>,
}

impl Candidate {
    fn new(claim: Claim, now_ms: u64) -> Self {
        Self {
            claim,
            until_ms: now_ms.saturating_add(limits::CANDIDATE_MS),
            refused: BTreeSet::new(),
            lagging: BTreeSet::new(),
            again_ms: 0,
            worst: None,
            asked: None,
        }
    }

    /// Somebody could not show it.
    pub(crate) fn refuse(&mut self, source: SourceId, why: NotShown) {
        self.refused.insert(source);
        self.worst = self.worst.max(Some(why));
    }

    /// What it means that nobody showed it to continue a log of that size. `all`: that there is nobody else to ask.
    fn unproven(&self, held: Leaves, all: bool) -> Unproven {
        match self.worst {
            Some(NotShown::Wrong) => Unproven::Conflict(Conflict::Inconsistent),
            Some(NotShown::Refused) => Unproven::Conflict(Conflict::Unshown),
            Some(NotShown::Pruned) if self.claim.target.lower() > held.next() => {
                Unproven::Gap { all }
            }
            // Who needs operations from before the held size can show what is before them: a newer target will tell.
            Some(NotShown::Pruned) => Unproven::Doubtful,
            None => Unproven::Unknown,
        }
    }

    /// Somebody did not show it, but may later.
    pub(crate) fn lags(&mut self, source: SourceId, now_ms: u64) {
        if self.lagging.is_empty() {
            self.again_ms = now_ms.saturating_add(limits::LAG_MS);
        }
        self.lagging.insert(source);
    }
}

/// Why somebody could not show a candidate, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NotShown {
    /// It has forgotten the held size.
    Pruned,
    /// It refused for another reason.
    Refused,
    /// Its proof was wrong.
    Wrong,
}

/// Why a candidate is given up.
pub(crate) enum Unproven {
    /// Nobody refused to show it.
    Unknown,
    /// Who was asked has forgotten the held size, although the candidate needs operations from before it.
    Doubtful,
    /// All who were asked have forgotten the held size, and the candidate needs nothing from before it.
    Gap {
        /// Whether those are all there are, and have been for long enough.
        all: bool,
    },
    /// It is not true, or somebody does not want to show that it is.
    Conflict(Conflict),
}

/// What to do about a candidate.
pub(crate) enum Look {
    /// Somebody can be asked for the proof.
    Ask(SourceId),
    /// Nobody can be asked at the moment.
    Wait,
    /// All have been asked, or the time is over.
    GiveUp(Unproven),
}

/// What a shown target means.
pub(crate) enum Judgement {
    /// It says nothing new.
    Ignore,
    /// It can be adopted as it is.
    Adopt,
    /// It must be shown to continue what is held.
    Prove,
    /// It cannot be true together with the other one.
    Conflict(Conflict, Claim),
}

/// See the module. Candidates are kept by who showed them, the caller's under `None`: nobody can take another's place.
pub(crate) struct Claims {
    pub(crate) pin: Option<Claim>,
    pub(crate) held: Option<Held>,
    pub(crate) candidates: BTreeMap<Option<SourceId>, Candidate>,
    /// Since when all who are there say that they have forgotten the held target, and nobody came.
    gap_since_ms: Option<u64>,
    /// Who showed what was doubtful, and beside which held target.
    doubted: VecDeque<(Option<SourceId>, Target)>,
    /// What was told: two targets, or one that nobody remembers.
    told: VecDeque<(Target, Option<Target>)>,
}

impl Claims {
    pub(crate) fn new(pin: Option<Claim>) -> Self {
        Self {
            pin,
            held: None,
            candidates: BTreeMap::new(),
            gap_since_ms: None,
            doubted: VecDeque::new(),
            told: VecDeque::new(),
        }
    }

    /// What a newer target has to continue.
    pub(crate) fn anchor(&self) -> Option<&Claim> {
        let held = self.held.as_ref().map(|held| &held.claim);
        held.or(self.pin.as_ref())
    }

    /// Whether [`Claims::anchor`] is more than one source's word.
    pub(crate) fn is_anchor_rooted(&self) -> bool {
        self.held.as_ref().map_or(self.pin.is_some(), |held| {
            held.rooted || held.complete && !held.unfit
        })
    }

    pub(crate) fn judge(&self, shown: &Claim) -> Judgement {
        let target = &shown.target;
        let held = self.held.as_ref().map(|held| &held.claim);
        if let Some((conflict, other)) = conflict_with(target, self.pin.iter().chain(held)) {
            return Judgement::Conflict(conflict, other);
        }
        let Some(anchor) = self.anchor() else {
            return Judgement::Adopt;
        };
        let sinks = target.lower() < anchor.target.lower();
        if target.leaves() == anchor.target.leaves() {
            // The pin itself, and nothing was adopted yet.
            if held.is_none() && !sinks {
                return Judgement::Adopt;
            }
            return Judgement::Ignore;
        }
        if target.leaves() < anchor.target.leaves() || sinks {
            return Judgement::Ignore;
        }
        Judgement::Prove
    }

    /// A candidate that cannot be true together with a target.
    pub(crate) fn rival(&self, shown: &Claim) -> Option<(Conflict, Claim)> {
        let candidates = self.candidates.values().map(|candidate| &candidate.claim);
        conflict_with(&shown.target, candidates)
    }

    /// Keeps a target until it is shown to continue the held one. The caller's replaces an earlier one, a source's
    /// waits for its turn: it will be shown again.
    pub(crate) fn consider(&mut self, claim: Claim, source: Option<SourceId>, now_ms: u64) {
        let same = |candidate: &Candidate| candidate.claim == claim;
        let present = self.candidates.get(&source);
        if present.is_none() || source.is_none() && !present.is_some_and(same) {
            self.candidates
                .insert(source, Candidate::new(claim, now_ms));
        }
    }

    /// Adopts a target, and looks at the candidates anew.
    pub(crate) fn adopt(&mut self, held: Held, now_ms: u64) {
        let advances = |claim: &Claim| {
            claim.target.leaves() > held.claim.target.leaves()
                && claim.target.lower() >= held.claim.target.lower()
        };
        self.candidates
            .retain(|_, candidate| advances(&candidate.claim));
        for candidate in self.candidates.values_mut() {
            *candidate = Candidate::new(candidate.claim.clone(), now_ms);
        }
        self.held = Some(held);
        self.gap_since_ms = None;
    }

    /// There is one more who may remember the held target.
    pub(crate) fn somebody_came(&mut self) {
        self.gap_since_ms = None;
    }

    /// Whom to ask about a candidate: whoever showed it first.
    pub(crate) fn look(
        &mut self,
        origin: Option<SourceId>,
        live: impl Iterator<Item = (SourceId, bool)>,
        now_ms: u64,
    ) -> Look {
        let anchor = self.anchor().map(|anchor| anchor.target.leaves());
        let Some(candidate) = self.candidates.get_mut(&origin) else {
            return Look::Wait;
        };
        if candidate.again_ms <= now_ms {
            candidate.lagging.clear();
        }
        let live: Vec<_> = live
            .filter(|(id, _)| !candidate.refused.contains(id))
            .collect();
        let all_refused = live.is_empty() && !candidate.refused.is_empty();
        if all_refused || candidate.until_ms <= now_ms {
            let why = candidate.unproven(anchor.unwrap_or_default(), all_refused);
            if let Unproven::Gap { all: true } = why
                && now_ms < settled_ms(*self.gap_since_ms.get_or_insert(now_ms))
            {
                return match now_ms < candidate.until_ms {
                    true => Look::Wait,
                    false => Look::GiveUp(Unproven::Gap { all: false }),
                };
            }
            return Look::GiveUp(why);
        }
        let asked = |(id, ready): &&(SourceId, bool)| *ready && !candidate.lagging.contains(id);
        let mut asked = live.iter().filter(asked).map(|(id, _)| *id);
        let first = asked.clone().find(|id| Some(*id) == origin);
        match first.or(asked.next()) {
            Some(id) if candidate.asked.is_none() => Look::Ask(id),
            _ => Look::Wait,
        }
    }

    /// When the next candidate is to be looked at again.
    pub(crate) fn wake_ms(&self, now_ms: u64) -> u64 {
        let times = self.candidates.values().flat_map(|candidate| {
            let again = (candidate.again_ms > now_ms).then_some(candidate.again_ms);
            [Some(candidate.until_ms), again]
        });
        let settled = self.gap_since_ms.map(settled_ms);
        let settled = settled.filter(|settled| *settled > now_ms);
        times.flatten().chain(settled).min().unwrap_or(u64::MAX)
    }

    /// Whether a source showed what is doubtful beside this held target before: the first may have been overtaken by
    /// pruning, no two are.
    pub(crate) fn doubts_again(&mut self, origin: Option<SourceId>, held: Target) -> bool {
        !remember(&mut self.doubted, (origin, held), limits::SOURCES)
    }

    /// Whether these two have not been told of yet. Without a second one: that nobody remembers the first.
    pub(crate) fn is_news(&mut self, held: Target, shown: Option<Target>) -> bool {
        remember(&mut self.told, (held, shown), limits::ALARMS)
    }
}

/// Keeps what is new, as the last of so many. Whether it is.
fn remember<T: PartialEq>(known: &mut VecDeque<T>, what: T, most: usize) -> bool {
    if known.contains(&what) {
        return false;
    }
    if known.len() == most {
        known.pop_front();
    }
    known.push_back(what);
    true
}

/// When a gap that was seen first at a time is believed.
fn settled_ms(since_ms: u64) -> u64 {
    since_ms.saturating_add(limits::GAP_MS)
}

fn conflict_with<'a>(
    target: &Target,
    mut others: impl Iterator<Item = &'a Claim>,
) -> Option<(Conflict, Claim)> {
    others.find_map(|other| Some((conflict(&other.target, target)?, other.clone())))
}

/// Why two targets cannot be of one log, as far as their numbers tell.
fn conflict(one: &Target, other: &Target) -> Option<Conflict> {
    match (one.leaves() == other.leaves(), one.root() == other.root()) {
        (true, false) => Some(Conflict::SameSize),
        (false, true) => Some(Conflict::SameRoot),
        _ => None,
    }
}
