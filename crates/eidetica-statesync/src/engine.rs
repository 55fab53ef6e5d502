//! The machine of the asking side.

use std::collections::{BTreeMap, VecDeque};

use eidetica_mmr::{
    Consistency, Digest, Frontier, Location, Proof, leaf_hashes, verify_consistency,
    verify_range_pinned,
};

use crate::claims::{Claims, Held, Judgement, Look, NotShown, Unproven};
use crate::fetch::{Fetch, Ready, Step};
use crate::message::{Refusal, Reply, Request, RequestId, id_of};
use crate::sources::Sources;
use crate::{
    Claim, Config, ConfigError, Conflict, Counters, Dropped, Evidence, Fault, Feedback, Gap, Input,
    Local, Operations, Output, Pin, Progress, SourceId, Split, Target, Trust, limits, signed_bytes,
};

/// Brings one log to the newest target, and keeps it there.
///
/// # Contract
///
/// - Poll [`poll_output`](Self::poll_output) until it says [`Output::Timeout`], then hand in one input with
///   [`handle_input`](Self::handle_input), then poll again, and so on.
/// - Outputs are carried out in order. [`Output::Restart`] and [`Output::Append`] are acknowledged, each, by
///   [`Input::Applied`]; [`Output::Persist`] is durable before later outputs are carried out; requests may only be
///   started.
/// - Time is milliseconds since any moment, and does not go back.
/// - Getters may be called at any time.
///
/// # What it promises
///
/// - Nothing is handed out to be appended that is not proven to be where it is under a target. A target comes from
///   whom [`Config::trust`] says, advances, and is shown to continue the one before.
/// - Every request has a deadline; what does not come, or is wrong, is asked for elsewhere, and costs the source.
///   Whatever sources do, [`Output::Timeout`] is followed by work or a later timeout: nothing loops without time
///   passing.
/// - Memory: [`Config::ahead_bytes`], and [`limits::REPLY_BYTES`] for each request in flight and each range that is
///   handed out.
///
/// ```
/// # use eidetica_statesync::{Config, DatabaseName, Engine, Input, Local, Output, SourceId};
/// # fn split(bytes: &[u8]) -> Option<usize> { (!bytes.is_empty()).then_some(1) }
/// let config = Config::new(DatabaseName::new("any")?, split);
/// let mut engine = Engine::new(config, Local::default(), None)?;
/// let mut now_ms = 0;
/// engine.handle_input(Input::Connected(SourceId(1)), now_ms);
/// loop {
///     match engine.poll_output(now_ms) {
///         Output::Request { .. } => { /* send it; the answer comes back as `Input::Reply` */ }
///         Output::Timeout(at) => {
///             // Wait for a reply, or until then.
///             now_ms = at;
///             engine.handle_input(Input::Tick, now_ms);
///         }
///         _ => { /* carry it out */ }
///     }
/// #   if now_ms > 100_000 { break; }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    config: Config,
    claims: Claims,
    sources: Sources,
    fetch: Fetch,
    pending: BTreeMap<RequestId, Pending>,
    next_id: u64,
    /// The next pin.
    unpersisted: Option<Pin>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// A request in flight.
struct Pending {
    source: SourceId,
    deadline_ms: u64,
    asked: Asked,
}

enum Asked {
    Target,
    Operations(AskedRange),
    Consistency(AskedStep),
}

/// Operations that were asked for, as those of a target that may be an earlier one by now.
struct AskedRange {
    start: u64,
    count: usize,
    target: Target,
    round: u64,
}

/// The proof that was asked for for the candidate of a source.
struct AskedStep {
    origin: Option<SourceId>,
    old: Target,
    new: Target,
}

impl Engine {
    /// An engine for a log that stands at `local`, with the pin that was persisted last.
    ///
    /// # Errors
    /// [`ConfigError`] if an option is out of bounds.
    pub fn new(config: Config, local: Local, pin: Option<Pin>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            fetch: Fetch::new(local, config.ahead_bytes),
            config,
            claims: Claims::new(pin),
            sources: Sources::default(),
            pending: BTreeMap::new(),
            next_id: 0,
            unpersisted: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        })
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where it stands. Costs a look at each source.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let held = self.claims.held.as_ref();
        Progress {
            target: held.map(|held| held.claim.target),
            complete: held.is_some_and(|held| held.complete),
            applied: self.fetch.stand().leaves(),
            sources: self.sources.live().count(),
            outstanding: self.pending.len(),
            ahead_bytes: self.fetch.ahead_bytes(),
        }
    }

    /// The pin as it was given or persisted last.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.claims.pin.as_ref()
    }

    /// Takes in what happened. A reply costs the hashes of its operations.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        match input {
            Input::Connected(source) => self.connected(source, now_ms),
            Input::Disconnected(source) => self.gone(source),
            Input::Reply { source, message } => self.reply(source, &message, now_ms),
            Input::Failed { source, id } => self.request_failed(source, id, now_ms),
            Input::Applied(stand) => self.fetch.acknowledge(stand),
            Input::Target(claim) => self.target_given(claim, now_ms),
            Input::Accept(claim) => self.adopt(Held::new(claim, None, true, now_ms), false, now_ms),
            Input::Unfit => self.unfit(now_ms),
            Input::Tick => {}
        }
        self.expire(now_ms);
    }

    /// What is to be done next.
    pub fn poll_output(&mut self, now_ms: u64) -> Output {
        self.expire(now_ms);
        self.look_at_candidates(now_ms);
        let waiting = self.outputs.pop_front();
        waiting
            .or_else(|| self.persist())
            .or_else(|| self.log_step())
            .or_else(|| self.complete())
            .or_else(|| self.ask_target(now_ms))
            .or_else(|| self.ask_operations(now_ms))
            .unwrap_or_else(|| Output::Timeout(self.wake_ms(now_ms)))
    }
}

/// Sources.
impl Engine {
    fn connected(&mut self, source: SourceId, now_ms: u64) {
        let batch = self.config.batch.min(limits::FIRST_BATCH);
        match self.sources.connect(source, batch, now_ms) {
            Ok(()) => self.claims.somebody_came(),
            Err(why) => self.feedback(source, Feedback::Dropped(why)),
        }
    }

    /// What a source was asked is asked elsewhere.
    fn gone(&mut self, source: SourceId) {
        while let Some(id) = self.first_pending(|pending| pending.source == source) {
            self.take(id);
            self.forget(source, id);
        }
        self.sources.disconnect(source);
    }

    fn first_pending(&self, which: impl Fn(&Pending) -> bool) -> Option<RequestId> {
        let mut pending = self.pending.iter();
        pending
            .find(|(_, pending)| which(pending))
            .map(|(id, _)| *id)
    }

    /// Ends a request. The operations that it asked for are to be asked for again, unless they are put where they
    /// belong right after.
    fn take(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        let source = self.sources.get(pending.source);
        match &pending.asked {
            Asked::Target => {
                if let Some(source) = source {
                    source.asking = false;
                }
            }
            Asked::Operations(range) => {
                if let Some(source) = source {
                    source.outstanding = source.outstanding.saturating_sub(1);
                }
                self.fetch.give_back(range.round, range.start, range.count);
            }
            Asked::Consistency(step) => {
                if let Some(candidate) = self.claims.candidates.get_mut(&step.origin)
                    && candidate.asked == Some(id)
                {
                    candidate.asked = None;
                }
            }
        }
        Some(pending)
    }

    /// A reply to it may still come, and is nothing strange.
    fn forget(&mut self, source: SourceId, id: RequestId) {
        if let Some(source) = self.sources.get(source) {
            source.forget(id);
        }
    }

    fn request_failed(&mut self, source: SourceId, id: RequestId, now_ms: u64) {
        if self.is_of(source, id) && self.take(id).is_some() {
            self.forget(source, id);
            self.counters.failed += 1;
            self.fails(source, now_ms);
        }
    }

    /// Ends what has waited too long.
    fn expire(&mut self, now_ms: u64) {
        while let Some(id) = self.first_pending(|pending| pending.deadline_ms <= now_ms) {
            if let Some(pending) = self.take(id) {
                self.late(id, &pending, now_ms);
            }
        }
        self.lose_patience(now_ms);
    }

    fn late(&mut self, id: RequestId, pending: &Pending, now_ms: u64) {
        self.counters.late += 1;
        self.lags(pending.source, &pending.asked, now_ms);
        self.forget(pending.source, id);
        let Some(source) = self.sources.get(pending.source) else {
            return;
        };
        if source.is_ready(now_ms) {
            source.ask_less(source.batch / 2);
        }
        let dropped = match pending.asked {
            Asked::Target => source.kept_silent(now_ms),
            _ => source.failed(now_ms),
        };
        self.feedback(pending.source, Feedback::Late);
        if let Some(why) = dropped {
            self.drop_source(pending.source, why);
        }
    }

    fn fails(&mut self, id: SourceId, now_ms: u64) {
        let source = self.sources.get(id);
        if let Some(why) = source.and_then(|source| source.failed(now_ms)) {
            self.drop_source(id, why);
        }
    }

    fn lies(&mut self, id: SourceId, fault: Fault, now_ms: u64) {
        self.counters.faults += 1;
        self.feedback(id, Feedback::Fault(fault));
        let source = self.sources.get(id);
        if let Some(why) = source.and_then(|source| source.lied(now_ms)) {
            self.drop_source(id, why);
        }
    }

    fn rests(&mut self, id: SourceId, rest_ms: u64, now_ms: u64) {
        let rest_ms = rest_ms.min(limits::BACKOFF_MAX_MS);
        if let Some(source) = self.sources.get(id) {
            source.rest(now_ms.saturating_add(rest_ms));
        }
    }

    fn drop_source(&mut self, id: SourceId, why: Dropped) {
        self.gone(id);
        self.sources.drop(id, why);
        self.counters.dropped += 1;
        self.feedback(id, Feedback::Dropped(why));
    }

    fn feedback(&mut self, source: SourceId, feedback: Feedback) {
        let output = Output::Feedback { source, feedback };
        self.outputs.push_back(output);
    }
}

/// Replies.
impl Engine {
    fn reply(&mut self, source: SourceId, message: &[u8], now_ms: u64) {
        if self.sources.get(source).is_none() {
            return;
        }
        let decoded = Reply::decode(message);
        let id = decoded.as_ref().ok().map(|(id, _)| *id);
        let pending = id.or(id_of(message)).filter(|id| self.is_of(source, *id));
        let pending = pending.and_then(|id| self.take(id));
        match (decoded, pending) {
            (Err(error), _) => self.lies(source, error.into(), now_ms),
            (Ok((_, reply)), Some(pending)) => self.answer(source, pending.asked, reply, now_ms),
            (Ok((id, _)), None) => {
                let late = self.sources.get(source).is_some_and(|s| s.is_late(id));
                if !late {
                    self.lies(source, Fault::UnknownRequest, now_ms);
                }
            }
        }
    }

    fn is_of(&self, source: SourceId, id: RequestId) -> bool {
        let pending = self.pending.get(&id);
        pending.is_some_and(|pending| pending.source == source)
    }

    /// A reply to something that was asked, and that counts as missing still.
    fn answer(&mut self, source: SourceId, asked: Asked, reply: Reply, now_ms: u64) {
        match (asked, reply) {
            (asked, Reply::Refused(refusal)) => self.refused(source, &asked, refusal, now_ms),
            (Asked::Target, Reply::Target(claim)) => self.target_shown(source, claim, now_ms),
            (Asked::Operations(range), Reply::Operations { proof, operations }) => {
                self.operations(source, &range, &proof, operations, now_ms);
            }
            (Asked::Consistency(step), Reply::Consistency(proof)) => {
                self.consistency(source, &step, &proof, now_ms);
            }
            _ => self.lies(source, Fault::OtherReply, now_ms),
        }
    }

    fn operations(
        &mut self,
        source: SourceId,
        range: &AskedRange,
        proof: &Proof,
        bytes: Vec<u8>,
        now_ms: u64,
    ) {
        if range.round != self.fetch.round() {
            return;
        }
        let leaves = split_operations(self.config.split, range.count, &bytes);
        let count = leaves.as_ref().map_or(0, Vec::len);
        self.counters.fetched_operations += count as u64;
        let pinned = match leaves.and_then(|leaves| verify_operations(range, proof, &leaves)) {
            Ok(pinned) => pinned,
            Err(fault) => return self.disproved(source, fault, now_ms),
        };
        self.counters.replies += 1;
        self.counters.verified_operations += count as u64;
        self.counters.verified_bytes += bytes.len() as u64;
        if let Some(held) = &mut self.claims.held {
            held.progress_ms = now_ms;
        }
        let length = bytes.len();
        let operations = Operations { bytes, count };
        let ready = Ready { operations, pinned };
        self.fetch.put(range.round, range.start, range.count, ready);
        self.rate(source, count, range.count, length, now_ms);
    }

    /// What a verified reply says about its source.
    fn rate(&mut self, id: SourceId, count: usize, asked: usize, bytes: usize, now_ms: u64) {
        if count < asked && bytes < limits::SHORT_REPLY_BYTES {
            self.feedback(id, Feedback::Stingy);
            return self.fails(id, now_ms);
        }
        if let Some(source) = self.sources.get(id) {
            source.did_well(asked, count, self.config.batch);
        }
    }

    fn consistency(
        &mut self,
        source: SourceId,
        step: &AskedStep,
        proof: &Consistency,
        now_ms: u64,
    ) {
        let (old, new) = (&step.old, &step.new);
        let verified = if (proof.old, proof.new) == (old.leaves(), new.leaves()) {
            verify_consistency(&old.root(), &new.root(), proof).map_err(Fault::from)
        } else {
            let (asked, found) = (new.leaves(), proof.new);
            Err(Fault::OtherSize { asked, found })
        };
        if let Err(fault) = verified {
            self.not_continued(source, step, NotShown::Wrong);
            // Another source's target is not of this one's making: it may have another log, and says so.
            let of_another = step.origin.is_some_and(|origin| origin != source);
            if of_another && matches!(fault, Fault::Proof(_)) {
                return self.feedback(source, Feedback::Fault(fault));
            }
            return self.disproved(source, fault, now_ms);
        }
        self.counters.replies += 1;
        let anchor = self.claims.anchor().map(|anchor| anchor.target);
        let candidate = self.claims.candidates.get(&step.origin);
        if anchor == Some(*old)
            && let Some(candidate) = candidate.filter(|candidate| candidate.claim.target == *new)
        {
            let rooted = self.is_signed() || self.claims.is_anchor_rooted();
            let held = Held::new(candidate.claim.clone(), step.origin, rooted, now_ms);
            self.adopt(held, true, now_ms);
        }
    }

    fn not_continued(&mut self, source: SourceId, step: &AskedStep, why: NotShown) {
        if let Some(candidate) = self.claims.candidates.get_mut(&step.origin)
            && candidate.claim.target == step.new
        {
            candidate.refuse(source, why);
        }
    }

    fn lags(&mut self, source: SourceId, asked: &Asked, now_ms: u64) {
        if let Asked::Consistency(step) = asked
            && let Some(candidate) = self.claims.candidates.get_mut(&step.origin)
        {
            candidate.lags(source, now_ms);
        }
    }

    /// A proof is wrong. If the target is only another source's word, it may be that one who lies.
    fn disproved(&mut self, id: SourceId, fault: Fault, now_ms: u64) {
        let held = self.claims.held.as_ref();
        let doubtful = held.is_some_and(|held| !held.rooted && held.source != Some(id));
        if !doubtful || !matches!(fault, Fault::Proof(_)) {
            return self.lies(id, fault, now_ms);
        }
        self.feedback(id, Feedback::Fault(fault));
        self.rests(id, limits::LAG_MS, now_ms);
    }

    fn refused(&mut self, id: SourceId, asked: &Asked, refusal: Refusal, now_ms: u64) {
        self.counters.refused += 1;
        self.feedback(id, Feedback::Refused(refusal));
        match (refusal, asked) {
            (Refusal::Busy { retry_ms }, asked) => {
                self.lags(id, asked, now_ms);
                self.rests(id, retry_ms.max(limits::BUSY_MS), now_ms);
            }
            (Refusal::NoTarget, Asked::Target) => {}
            (Refusal::NotYet { .. }, Asked::Consistency(step))
                if step.origin == Some(id) && !self.is_signed() =>
            {
                self.not_continued(id, step, NotShown::Refused);
            }
            (Refusal::NotYet { .. }, asked @ Asked::Consistency(_)) => self.lags(id, asked, now_ms),
            (Refusal::NotYet { .. }, Asked::Operations(_)) => {
                self.rests(id, limits::LAG_MS, now_ms);
            }
            (Refusal::Pruned { boundary }, Asked::Operations(range))
                if boundary.0 > range.start =>
            {
                if let Some(source) = self.sources.get(id) {
                    source.boundary = boundary.0;
                }
            }
            (Refusal::Pruned { boundary }, Asked::Consistency(step))
                if boundary > step.old.leaves().next() =>
            {
                self.not_continued(id, step, NotShown::Pruned);
            }
            (_, asked) => {
                if let Asked::Consistency(step) = asked {
                    self.not_continued(id, step, NotShown::Refused);
                }
                self.fails(id, now_ms);
            }
        }
    }
}

/// The hashes of 1 to `asked` operations.
fn split_operations(split: Split, asked: usize, bytes: &[u8]) -> Result<Vec<Digest>, Fault> {
    let mut operations = Vec::with_capacity(asked);
    let mut rest = bytes;
    while !rest.is_empty() {
        let found = operations.len() + 1;
        if found > asked {
            return Err(Fault::Count { asked, found });
        }
        let length = split(rest).filter(|length| *length > 0);
        let halves = length.and_then(|length| rest.split_at_checked(length));
        let (operation, after) = halves.ok_or(Fault::Operations)?;
        operations.push(operation);
        rest = after;
    }
    match operations.len() {
        0 => Err(Fault::Count { asked, found: 0 }),
        _ => Ok(leaf_hashes(&operations, 1)),
    }
}

/// Verifies operations by their hashes, and says what is before them.
fn verify_operations(
    range: &AskedRange,
    proof: &Proof,
    leaves: &[Digest],
) -> Result<Frontier, Fault> {
    let (asked, found) = (range.target.leaves(), proof.leaves);
    if found != asked {
        return Err(Fault::OtherSize { asked, found });
    }
    let (root, start) = (range.target.root(), Location(range.start));
    Ok(verify_range_pinned(&root, proof, start, leaves)?)
}

/// Targets.
impl Engine {
    /// Whether targets come from somebody who is trusted for them.
    fn is_signed(&self) -> bool {
        !matches!(self.config.trust, Trust::Sources)
    }

    fn has_signature(&self, claim: &Claim) -> bool {
        let Trust::Signer(check) = &self.config.trust else {
            return true;
        };
        let bytes = signed_bytes(&self.config.name, &claim.target);
        let signature = claim.signature.as_ref();
        signature.is_some_and(|signature| check(&bytes, signature))
    }

    fn target_shown(&mut self, id: SourceId, claim: Claim, now_ms: u64) {
        if !self.has_signature(&claim) {
            return self.lies(id, Fault::Signature, now_ms);
        }
        self.counters.replies += 1;
        if let Some(source) = self.sources.get(id) {
            source.showed_target();
        }
        self.consider(claim, Some(id), now_ms);
    }

    fn target_given(&mut self, claim: Claim, now_ms: u64) {
        if self.has_signature(&claim) {
            self.consider(claim, None, now_ms);
        } else {
            self.counters.ignored += 1;
        }
    }

    fn consider(&mut self, claim: Claim, source: Option<SourceId>, now_ms: u64) {
        match self.claims.judge(&claim) {
            Judgement::Ignore => self.counters.ignored += 1,
            Judgement::Conflict(kind, held) => {
                self.alarm(kind, held, claim, source);
                self.forked(source, now_ms);
            }
            Judgement::Adopt => {
                let rooted = self.is_signed() || source.is_none() || self.claims.pin.is_some();
                let held = Held::new(claim, source, rooted, now_ms);
                self.adopt(held, false, now_ms);
            }
            Judgement::Prove => {
                if let Some((kind, rival)) = self.claims.rival(&claim) {
                    self.alarm(kind, rival, claim.clone(), source);
                }
                self.claims.consider(claim, source, now_ms);
            }
        }
    }

    /// `continues` if it is shown to continue the held one.
    fn adopt(&mut self, held: Held, continues: bool, now_ms: u64) {
        let claim = held.claim.clone();
        self.counters.adopted += 1;
        self.outputs.push_back(Output::Adopted(claim.target));
        self.fetch.follow(claim.target, continues);
        if held.rooted {
            let pin = self.shown_of(claim, held.source);
            self.repin(pin);
        }
        self.claims.adopt(held, now_ms);
    }

    /// What of a target is more than a source's word: that it continues the one before says nothing about where it
    /// begins, which is believed once there is a database that begins there.
    fn shown_of(&self, claim: Claim, source: Option<SourceId>) -> Claim {
        let anchor = self.claims.anchor().map(|anchor| anchor.target);
        match anchor.filter(|_| source.is_some() && !self.is_signed()) {
            Some(anchor) if anchor.lower() < claim.target.lower() => {
                let (root, leaves) = (claim.target.root(), claim.target.leaves());
                let target = Target::new(root, anchor.lower(), leaves);
                target.map_or(claim, Claim::unsigned)
            }
            _ => claim,
        }
    }

    fn repin(&mut self, claim: Claim) {
        if self.claims.pin.as_ref() != Some(&claim) {
            self.unpersisted = Some(claim);
        }
    }

    fn persist(&mut self) -> Option<Output> {
        let pin = self.unpersisted.take()?;
        self.claims.pin = Some(pin.clone());
        Some(Output::Persist(pin))
    }

    fn alarm(&mut self, kind: Conflict, held: Claim, shown: Claim, source: Option<SourceId>) {
        if self.claims.is_news(held.target, Some(shown.target)) {
            self.counters.alarms += 1;
            let evidence = Evidence {
                kind,
                held,
                shown,
                source,
            };
            self.outputs.push_back(Output::Alarm(Box::new(evidence)));
        }
    }

    /// A source has another log than the held one. If its targets are its own, it is asked no more for long.
    fn forked(&mut self, source: Option<SourceId>, now_ms: u64) {
        let Some(id) = source.filter(|_| !self.is_signed()) else {
            return;
        };
        if self.claims.is_anchor_rooted() {
            self.lies(id, Fault::Forked, now_ms);
        } else {
            self.rests(id, limits::LAG_MS, now_ms);
        }
    }

    /// Asks for the proofs of candidates, and gives up those that nobody shows.
    fn look_at_candidates(&mut self, now_ms: u64) {
        let origins: Vec<_> = self.claims.candidates.keys().copied().collect();
        for origin in origins {
            let live = self.sources.live();
            let live = live.map(|(id, source)| (id, source.is_ready(now_ms)));
            match self.claims.look(origin, live, now_ms) {
                Look::Wait => {}
                Look::Ask(id) => self.ask_consistency(id, origin, now_ms),
                Look::GiveUp(why) => self.give_up(origin, why, now_ms),
            }
        }
    }

    fn give_up(&mut self, origin: Option<SourceId>, why: Unproven, now_ms: u64) {
        let rooted = self.claims.is_anchor_rooted();
        let candidate = self.claims.candidates.remove(&origin);
        let shown = candidate.map(|candidate| candidate.claim);
        let Some((held, shown)) = self.claims.anchor().cloned().zip(shown) else {
            return;
        };
        let own = origin.filter(|_| !self.is_signed());
        let why = match why {
            Unproven::Doubtful if self.claims.doubts_again(origin, held.target) => {
                Unproven::Conflict(Conflict::Unshown)
            }
            why => why,
        };
        match (why, own) {
            (Unproven::Gap { all }, _) => self.gap(held, shown, origin, all, now_ms),
            (Unproven::Conflict(kind), own) => {
                self.alarm(kind, held, shown, origin);
                match own {
                    // It claims for itself what it cannot show.
                    Some(source) if rooted => self.lies(source, Fault::Unshown, now_ms),
                    Some(source) => self.rests(source, limits::LAG_MS, now_ms),
                    None => {}
                }
            }
            (Unproven::Unknown | Unproven::Doubtful, Some(source)) => {
                self.rests(source, limits::LAG_MS, now_ms);
            }
            (Unproven::Unknown | Unproven::Doubtful, None) => {}
        }
    }

    /// Nobody remembers the held target. The newer one is taken if that was decided and there is nobody else to
    /// ask; otherwise the held one stays.
    fn gap(&mut self, held: Claim, shown: Claim, source: Option<SourceId>, all: bool, now_ms: u64) {
        let crossed = self.config.cross_gaps && all;
        if crossed || self.claims.is_news(held.target, None) {
            self.counters.gaps += 1;
            let shown = shown.clone();
            let gap = Gap {
                held,
                shown,
                source,
                crossed,
            };
            self.outputs.push_back(Output::Gap(Box::new(gap)));
        }
        if crossed {
            let rooted = self.is_signed();
            self.adopt(Held::new(shown, source, rooted, now_ms), false, now_ms);
        } else if let Some(source) = source.filter(|_| !self.is_signed()) {
            self.rests(source, limits::LAG_MS, now_ms);
        }
    }

    /// Lets go a target of one source's word of which nothing can be had.
    fn lose_patience(&mut self, now_ms: u64) {
        let patience = |held: &Held| held.patience_ms();
        let Some(until) = self.claims.held.as_ref().and_then(patience) else {
            return;
        };
        if until > now_ms {
            return;
        }
        let held = self.claims.held.take();
        self.fetch.stop();
        if let Some(source) = held.and_then(|held| held.source)
            && self.sources.get(source).is_some()
        {
            self.feedback(source, Feedback::Fault(Fault::Unbacked));
            self.fails(source, now_ms);
        }
        self.sources.ask_all(now_ms);
    }

    fn unfit(&mut self, now_ms: u64) {
        self.fetch.refused();
        // Where it begins was to be believed.
        self.unpersisted = None;
        let source = self.claims.held.as_ref().and_then(|held| held.source);
        match source.filter(|_| !self.is_signed()) {
            // Others may have better ones, which need not continue this one.
            Some(source) => {
                self.claims.held = None;
                if self.sources.get(source).is_some() {
                    self.lies(source, Fault::Unfit, now_ms);
                }
                self.sources.ask_all(now_ms);
            }
            None => {
                if let Some(held) = &mut self.claims.held {
                    held.unfit = true;
                    held.complete = false;
                }
            }
        }
    }
}

/// The log.
impl Engine {
    fn log_step(&mut self) -> Option<Output> {
        Some(match self.fetch.step()? {
            Step::Append { start, operations } => Output::Append { start, operations },
            Step::Restart { boundary, why } => {
                self.counters.restarts += 1;
                Output::Restart { boundary, why }
            }
        })
    }

    fn complete(&mut self) -> Option<Output> {
        let held = self.claims.held.as_mut()?;
        if held.complete || held.unfit || !self.fetch.is_complete() {
            return None;
        }
        held.complete = true;
        let claim = held.claim.clone();
        let target = claim.target;
        self.fetch.completed(&target);
        self.counters.completed += 1;
        self.repin(claim);
        Some(Output::Complete(target))
    }
}

/// Requests.
impl Engine {
    fn ask_target(&mut self, now_ms: u64) -> Option<Output> {
        if matches!(self.config.trust, Trust::Caller) {
            return None;
        }
        let id = self.sources.pick_for_target(now_ms)?;
        let source = self.sources.get(id)?;
        source.asking = true;
        source.ask_at = now_ms.saturating_add(self.config.target_interval_ms);
        let name = self.config.name.clone();
        Some(self.ask(id, Asked::Target, &Request::Target { name }, now_ms))
    }

    fn ask_consistency(&mut self, id: SourceId, origin: Option<SourceId>, now_ms: u64) {
        let anchor = self.claims.anchor().map(|anchor| anchor.target);
        let candidate = self.claims.candidates.get(&origin);
        let (Some(old), Some(candidate)) = (anchor, candidate) else {
            return;
        };
        let new = candidate.claim.target;
        let request = Request::Consistency {
            old: old.leaves(),
            new: new.leaves(),
        };
        let asked = Asked::Consistency(AskedStep { origin, old, new });
        let output = self.ask(id, asked, &request, now_ms);
        if let Some(candidate) = self.claims.candidates.get_mut(&origin) {
            candidate.asked = Some(RequestId(self.next_id));
        }
        self.outputs.push_back(output);
    }

    fn ask_operations(&mut self, now_ms: u64) -> Option<Output> {
        let most = self.config.outstanding;
        let is_range = |pending: &&Pending| matches!(pending.asked, Asked::Operations(_));
        if self.pending.values().filter(is_range).count() >= most {
            return None;
        }
        let target = self.claims.held.as_ref()?.claim.target;
        let start = self.fetch.wanted()?;
        let id = self.sources.pick(start, most, now_ms)?;
        let source = self.sources.get(id)?;
        let range = self.fetch.pick(source.batch)?;
        source.outstanding += 1;
        let count = range.end - range.start;
        let request = Request::Operations {
            size: target.leaves(),
            start: Location(range.start),
            most: count,
        };
        let asked = AskedRange {
            start: range.start,
            count: usize::try_from(count).unwrap_or(limits::BATCH),
            target,
            round: self.fetch.round(),
        };
        Some(self.ask(id, Asked::Operations(asked), &request, now_ms))
    }

    fn ask(&mut self, source: SourceId, asked: Asked, request: &Request, now_ms: u64) -> Output {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let deadline_ms = now_ms.saturating_add(self.config.timeout_ms);
        let pending = Pending {
            source,
            deadline_ms,
            asked,
        };
        self.pending.insert(id, pending);
        self.counters.requests += 1;
        Output::Request {
            source,
            id,
            message: request.encode(id),
            deadline_ms,
        }
    }

    /// When to look again if nothing comes in.
    fn wake_ms(&self, now_ms: u64) -> u64 {
        let pending = self.pending.values().map(|pending| pending.deadline_ms);
        let asks = !matches!(self.config.trust, Trust::Caller);
        let held = self.claims.held.as_ref().and_then(Held::patience_ms);
        let others = [
            self.claims.wake_ms(now_ms),
            self.sources.wake_ms(asks, now_ms),
            held.unwrap_or(u64::MAX),
        ];
        pending.chain(others).min().unwrap_or(u64::MAX)
    }
}
