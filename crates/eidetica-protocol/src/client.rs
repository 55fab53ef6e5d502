//! One database, both directions, from the side that asks.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_entry::{Id, Stamp, reconcile::Detail};

use crate::{
    Answer, Closure, Failure, Frame, Frontier, Holding, IdPrefix, IngestTotals, Input, Lacking,
    Output, PeerFault, PeerIdentity, Progress, ProvenKeys, Query, QueryId, Refusal, Reply, Request,
    Sketch, Spans, Stores, TipList, VoidHash,
    differ::{Differences, Exchange, Step},
    handshake::{HOLDINGS, PAYLOADS},
    limits,
    receive::Intake,
    send::{Flow, Outflow, Wanted},
};

/// What to sync, with whom.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// The database.
    pub database: Id,
    /// The peer, from the handshake.
    pub peer: PeerIdentity,
    /// What both had after the last sync with this peer, if anything: [`Outcome::common`]. A hint that saves bytes.
    pub common: Vec<Id>,
    /// Whether to create the database here if it is not. Only when somebody here asked for it.
    pub create: bool,
}

/// How the two histories stood when they were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The database was not here.
    Absent,
    /// The same tips.
    Equal,
    /// The peer had more.
    Behind,
    /// We had more.
    Ahead,
    /// Both had what the other lacked.
    Diverged,
}

/// What became of our direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The peer had everything.
    Nothing,
    /// The peer has not proven that it may read what it lacks.
    Withheld,
    /// The peer took packs.
    Done {
        /// Entries that were new to it.
        new: u64,
        /// Entries that it had.
        known: u64,
        /// Entries that wait for others there.
        pending: u64,
        /// Entries that it rejected.
        rejected: u64,
    },
}

impl PushOutcome {
    fn and(self, new: u64, known: u64, pending: u64, rejected: u64) -> Self {
        let (n, k, p, r) = match self {
            Self::Withheld => return self,
            Self::Nothing => (0, 0, 0, 0),
            Self::Done {
                new,
                known,
                pending,
                rejected,
            } => (new, known, pending, rejected),
        };
        Self::Done {
            new: n.saturating_add(new),
            known: k.saturating_add(known),
            pending: p.saturating_add(pending),
            rejected: r.saturating_add(rejected),
        }
    }

    fn new_entries(self) -> u64 {
        match self {
            Self::Done { new, .. } => new,
            Self::Nothing | Self::Withheld => 0,
        }
    }

    /// Whether the peer has all that it was to have.
    fn is_whole(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Withheld => false,
            Self::Done {
                pending, rejected, ..
            } => pending == 0 && rejected == 0,
        }
    }
}

/// What a finished sync did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the histories stood at first.
    pub relation: Relation,
    /// Whether everything the peer has is here now. Not if entries were rejected or wait for others.
    pub complete: bool,
    /// What came in.
    pub received: IngestTotals,
    /// What went out.
    pub push: PushOutcome,
    /// Packs sent.
    pub packs_sent: u64,
    /// Spans of the history and ids that were not the same when they were compared.
    pub compared: u64,
    /// Requests made.
    pub requests: u64,
    /// Bytes of frames, both ways.
    pub frame_bytes: u64,
    /// A frontier that both have now: the hint for the next sync. At most [`limits::COMMON`] ids, the highest.
    pub common: Vec<Id>,
    /// The greatest stamp that both have now.
    pub last: Option<Stamp>,
    /// The stores whose payloads the peer holds, and whether it may lack some of those that are here.
    pub holding: Holding,
}

/// Syncs one database with one peer: compares tips, finds the exact difference, and exchanges it; then asks for payloads
/// that are missing here, and gives those that the peer lacks. Where entries are damaged here, asks for these first.
///
/// # Contract
///
/// - `new`, then [`poll_output`](Self::poll_output) until it says [`Timeout`](Output::Timeout), then one
///   [`handle_input`](Self::handle_input), then `poll_output` again, until it says [`Done`](Output::Done). Outputs are
///   to be carried out in order, each before the next is polled; queries and ingests may run while the driver waits
///   for input, their results come back as inputs.
/// - Read a frame of the response only while [`wants_frame`](Self::wants_frame) is true: this is the back-pressure.
/// - At most one query and [`limits::BATCHES_INGESTED`] ingests are outstanding; these are carried out, and reported,
///   in their order.
/// - Time is given as milliseconds of any clock that does not go back by much; claims are checked against it, so it
///   is the wall clock.
/// - [`Input::Closed`] may come at any time. What has arrived whole is still ingested; then the machine is done, with
///   a [`Failure`]. A new sync starts from the new tips and costs what is missing.
/// - Memory is bounded by [`limits`], whatever the peer does; so are the rounds that a lying peer can cause.
#[derive(Debug)]
pub struct SyncClient {
    config: SyncConfig,
    /// What the peer may read with: its device key, and the claims it showed for this database.
    peer: ProvenKeys,
    state: State,
    outputs: VecDeque<Output<Outcome>>,
    next_query: u64,
    query: Option<QueryId>,
    intake: Intake,
    ours: Option<TipList>,
    /// What is here of the databases that this one delegates to.
    closures: Vec<Closure>,
    /// What the peer has of them.
    their_closures: Vec<Closure>,
    theirs: Vec<Stamp>,
    /// The stores whose payloads are held here, and there.
    holds: Stores,
    their_holds: Stores,
    /// The stores of which payloads are here.
    offers: Stores,
    /// The stores whose payloads are asked for.
    asked_of: Stores,
    /// Whether those are stores that the peer does not say it holds.
    is_beyond: bool,
    /// Whether the peer has said so in this comparison: it may once.
    told_holds: bool,
    /// Whether it has shown its claims for what it lacks.
    told_claims: bool,
    /// Whether the peer lacks some of those.
    they_lack: bool,
    /// Whether, for all that is known, it still does, and they are here.
    lacks_ours: bool,
    /// Whether what is sent is all that it lacks, and was taken.
    gives_all: bool,
    /// Whether what is sent is what they lack, which ends the sync.
    giving: bool,
    /// Whether what is asked for are entries that are damaged here, before anything is compared.
    mending: bool,
    /// Whether that was done.
    mended: bool,
    /// Whether the last request for payloads was refused.
    turned_away: bool,
    /// How the peer refused what was pushed: the end of the sync, once all that it gives is here.
    not_taken: Option<Refusal>,
    /// What both had after the last sync, as far as it is here.
    common: Vec<Id>,
    /// Entries that both have, for a push in case theirs did not all arrive.
    base: Vec<Id>,
    /// What the peer says of its void entries.
    their_void: Option<VoidHash>,
    /// What both have, once it is only void entries that may be missing.
    both: Vec<Stamp>,
    relation: Relation,
    complete: bool,
    push: PushOutcome,
    packs_sent: u64,
    compared: u64,
    requests: u64,
    frame_bytes: u64,
    /// New entries on either side when the difference was last begun with.
    moved: u64,
    /// When the peer's answer became due.
    waiting_since: Option<u64>,
}

#[derive(Debug)]
enum State {
    New,
    OurTips,
    /// What is to be held of a database that is not here.
    OurHolds,
    /// Which of the entries that both had are here.
    OurCommon(Option<Frontier>),
    /// A request with one frame for an answer, which may be here already while its end is not.
    Reply(Expect, Option<Reply>),
    /// Which of their tips are known here; with what they say of their entries.
    TheirTips(Sketch),
    /// How that differs from what is here.
    Contrast(Differences),
    /// Packs come in.
    Packs {
        ended: bool,
    },
    /// The response is over; the rest is being ingested.
    Settling(Next),
    /// Whether their tips are known here by now.
    Arrived(Next),
    Sending {
        flow: Outflow,
        opened: bool,
        exchange: Option<Wants>,
    },
    /// Our packs are sent. Theirs come in, if any are wanted, then what became of ours.
    Exchanging {
        flow: Outflow,
        exchange: Option<Wants>,
        pushed: bool,
    },
    /// The peer takes nothing in now. What it was asked for along with that is asked for alone.
    NotTaken(Option<Wants>),
    /// Which of our entries are void by now.
    OurVoid,
    /// Packs of theirs come in, then which of ours they lack; with our leaves.
    TheirVoid(Vec<Id>, Option<Vec<Id>>),
    /// The packs are being ingested; then what they lack is to be sent.
    SettlingVoid(Vec<Id>),
    /// Whether they may read what they lack.
    VoidAccess(Vec<Id>),
    VoidPacks,
    /// Which payloads are missing here.
    OurLacking(Round),
    /// Of which stores any are.
    OurLackingStores,
    /// Packs of payloads come in.
    Filling {
        round: Round,
        next: Option<u64>,
        ended: bool,
    },
    /// The packs are being ingested.
    Filled(Round, Option<u64>),
    /// The rest is being ingested, then this is the end.
    Failing(Failure),
    Finished,
}

#[derive(Debug)]
enum Expect {
    Comparison,
    Sketch(Differences),
    VoidPushed,
    Lacking,
}

/// A request for missing payloads.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Entries that it names at most.
    limit: usize,
    /// Payloads that came before it, and entries that were rejected.
    filled: u64,
    rejected: u64,
    /// Whether it begins anywhere, because the first one brought nothing.
    anywhere: bool,
}

/// What is asked for along with a push.
#[derive(Debug, Clone)]
struct Wants {
    ids: Vec<IdPrefix>,
    /// Whether this, with what is pushed, is the whole difference.
    is_whole: bool,
}

/// What to do when their entries are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Push what they lack.
    Push,
    /// Only void entries are left.
    Conclude,
    /// Begin anew: there was more than goes at once.
    Again,
}

impl SyncClient {
    /// A sync that has not begun.
    pub fn new(config: SyncConfig) -> Self {
        Self {
            peer: ProvenKeys::device(config.peer.device),
            intake: Intake::new(config.database),
            config,
            state: State::New,
            outputs: VecDeque::new(),
            next_query: 0,
            query: None,
            ours: None,
            closures: Vec::new(),
            their_closures: Vec::new(),
            theirs: Vec::new(),
            holds: Stores::All,
            their_holds: Stores::All,
            offers: Stores::All,
            asked_of: Stores::All,
            is_beyond: false,
            told_holds: false,
            told_claims: false,
            they_lack: false,
            lacks_ours: false,
            gives_all: false,
            giving: false,
            mending: false,
            mended: false,
            turned_away: false,
            not_taken: None,
            common: Vec::new(),
            base: Vec::new(),
            their_void: None,
            both: Vec::new(),
            relation: Relation::Equal,
            complete: true,
            push: PushOutcome::Nothing,
            packs_sent: 0,
            compared: 0,
            requests: 0,
            frame_bytes: 0,
            moved: 0,
            waiting_since: None,
        }
    }

    /// Whether a frame of the response, or its end, may be handed in now.
    pub fn wants_frame(&self) -> bool {
        match &self.state {
            State::Reply(..) => true,
            State::Packs { .. }
            | State::TheirVoid(..)
            | State::Exchanging { .. }
            | State::Filling { .. } => self.intake.has_room(),
            // The peer may refuse before it has everything.
            State::Sending { opened, .. } => *opened,
            _ => false,
        }
    }

    /// Whether [`Output::Done`] was given out.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished) && self.outputs.is_empty()
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        if matches!(self.state, State::Finished) {
            return;
        }
        let was_waiting = self.waiting_since.take();
        let handled = match input {
            Input::Frame(bytes) => self.handle_frame(&bytes),
            Input::End => self.handle_end(),
            Input::Answer(id, answer) => {
                self.handle_answer(id, answer.map_err(|error| Failure::Local(error.0)))
            }
            Input::Ingested(id, report) => {
                let done = self.intake.done(id, report);
                self.show_progress();
                done
            }
            Input::Closed(reason) => Err(Failure::Closed(reason)),
            Input::Moving => {
                self.waiting_since = Some(now_ms);
                Ok(())
            }
            Input::Tick => {
                self.waiting_since = was_waiting;
                self.check_deadline(now_ms)
            }
        };
        if let Err(failure) = handled {
            self.fail(failure);
        }
    }

    /// The next output.
    pub fn poll_output(&mut self, now_ms: u64) -> Output<Outcome> {
        if self.outputs.is_empty()
            && let Err(failure) = self.advance(now_ms)
        {
            self.fail(failure);
            // The end, if nothing is being ingested; from there on nothing fails.
            let _ = self.advance(now_ms);
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let due = self.wait_limit_ms().filter(|_| self.wants_frame());
        let since = due.map(|_| *self.waiting_since.get_or_insert(now_ms));
        Output::Timeout(
            due.zip(since)
                .map(|(limit, since)| since.saturating_add(limit)),
        )
    }

    fn wait_limit_ms(&self) -> Option<u64> {
        match &self.state {
            State::Reply(Expect::Sketch(_), _)
            | State::Packs { .. }
            | State::TheirVoid(..)
            | State::Filling { .. } => Some(limits::IDLE_MS),
            State::Reply(..) | State::Exchanging { .. } => Some(limits::ANSWER_MS),
            _ => None,
        }
    }

    fn check_deadline(&self, now_ms: u64) -> Result<(), Failure> {
        match (self.wait_limit_ms(), self.waiting_since) {
            (Some(limit), Some(since)) if now_ms >= since.saturating_add(limit) => {
                Err(Failure::Idle(limit))
            }
            _ => Ok(()),
        }
    }

    /// Does what can be done without an input.
    fn advance(&mut self, now_ms: u64) -> Result<(), Failure> {
        if let Some((id, batch)) = self.intake.poll() {
            self.outputs.push_back(Output::Ingest(id, batch));
        }
        let idle = self.intake.is_idle();
        match std::mem::replace(&mut self.state, State::Finished) {
            State::New => self.ask_ours(),
            State::Settling(next) if idle => {
                let ids = self.theirs.iter().map(|tip| tip.id).collect();
                self.ask(Query::Known {
                    database: self.config.database,
                    ids,
                });
                self.state = State::Arrived(next);
            }
            State::SettlingVoid(unknown) if idle => self.check_void_access(unknown, now_ms),
            State::Filled(round, next) if idle => return self.end_round(round, next),
            State::Sending {
                flow,
                opened,
                exchange,
            } => return self.advance_push(flow, opened, exchange, now_ms),
            State::NotTaken(wants) if self.query.is_none() => return self.take_only(wants),
            State::Failing(failure) if idle => self.outputs.push_back(Output::Done(Err(failure))),
            state => self.state = state,
        }
        Ok(())
    }

    fn handle_frame(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        self.frame_bytes += bytes.len() as u64;
        if !self.wants_frame() {
            return Err(Failure::Driver("hands in a frame that is not wanted"));
        }
        let frame = Frame::decode(bytes).map_err(PeerFault::from)?;
        if let Frame::Reply(Reply::Refused(refusal)) = frame {
            return match &mut self.state {
                // The rest is in sync, and what came may have taken our right to more.
                State::TheirVoid(..) | State::Reply(Expect::VoidPushed, _) => {
                    self.state = State::SettlingVoid(Vec::new());
                    Ok(())
                }
                // What has come is taken in all the same.
                State::Filling { round, .. } => {
                    self.turned_away = true;
                    self.state = State::Filled(*round, None);
                    Ok(())
                }
                State::Reply(Expect::Lacking, _) => {
                    self.end();
                    Ok(())
                }
                _ if self.giving => {
                    self.end();
                    Ok(())
                }
                // Who cannot take in may still give, and what it gives may be a revocation.
                State::Sending { flow, exchange, .. }
                | State::Exchanging {
                    flow,
                    exchange,
                    pushed: false,
                } if refusal == Refusal::UNAVAILABLE && flow.packs > 0 => {
                    let exchange = exchange.take();
                    self.not_taken = Some(refusal);
                    self.drop_outputs();
                    self.state = State::NotTaken(exchange);
                    Ok(())
                }
                _ => Err(Failure::Refused(refusal)),
            };
        }
        match (&mut self.state, frame) {
            (
                State::Packs { ended: false }
                | State::TheirVoid(_, None)
                | State::Filling { ended: false, .. },
                Frame::Pack(pack),
            ) => self.intake.push(pack),
            (State::Filling { ended, .. }, Frame::Reply(Reply::End { .. })) if !*ended => {
                *ended = true;
            }
            (
                State::Reply(Expect::Comparison, None),
                Frame::Reply(Reply::Holds { stores, lacks }),
            ) if self.config.peer.version >= PAYLOADS && !self.told_holds => {
                self.told_holds = true;
                self.their_holds = stores;
                (self.they_lack, self.lacks_ours) = (lacks, lacks);
            }
            (State::Reply(Expect::Lacking, None), Frame::Reply(Reply::Claims { claims }))
                if self.config.peer.version >= HOLDINGS && !self.told_claims =>
            {
                self.told_claims = true;
                self.see_claims(&claims)?;
            }
            (
                State::Exchanging {
                    exchange: Some(wants),
                    pushed: false,
                    ..
                },
                Frame::Pack(pack),
            ) if !wants.ids.is_empty() => self.intake.push(pack),
            (
                State::Exchanging {
                    flow,
                    pushed: pushed @ false,
                    ..
                },
                Frame::Reply(Reply::Pushed {
                    new,
                    known,
                    pending,
                    rejected,
                    tips,
                }),
            ) => {
                *pushed = true;
                self.their_void = tips.void();
                if self.giving {
                    self.gives_all &= pending == 0 && rejected == 0;
                } else if flow.packs > 0 {
                    self.push = self.push.and(new, known, pending, rejected);
                }
            }
            (State::TheirVoid(ours, theirs @ None), Frame::Reply(Reply::Void { mut unknown })) => {
                unknown.retain(|id| ours.contains(id));
                *theirs = Some(unknown);
            }
            (State::Packs { ended }, Frame::Reply(Reply::End { tips })) if !*ended => {
                *ended = true;
                self.theirs = tips.stamps().to_vec();
            }
            (
                State::Reply(Expect::Comparison, None),
                Frame::Reply(Reply::Behind {
                    tips,
                    claims,
                    closures,
                }),
            ) => {
                self.see_claims(&claims)?;
                self.their_closures = closures;
                self.their_void = tips.void();
                self.theirs = tips.stamps().to_vec();
                if self.relation == Relation::Equal {
                    self.relation = Relation::Behind;
                }
                self.base = self.ours.as_ref().map(TipList::ids).unwrap_or_default();
                self.state = State::Packs { ended: false };
            }
            (State::Reply(_, reply @ None), Frame::Reply(frame)) => *reply = Some(frame),
            (_, Frame::Pack(_)) => return Err(PeerFault::Unexpected("a pack").into()),
            (_, Frame::Request(_) | Frame::RequestFor(..)) => {
                return Err(PeerFault::Unexpected("a request").into());
            }
            (_, Frame::Reply(_)) => return Err(PeerFault::Unexpected("a reply").into()),
            (_, Frame::Live(_)) => return Err(PeerFault::Unexpected("live news").into()),
        }
        Ok(())
    }

    fn handle_end(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Packs { ended: true } => {
                self.state = State::Settling(Next::Push);
                Ok(())
            }
            State::Exchanging {
                flow,
                exchange,
                pushed: true,
            } => {
                self.end_exchange(flow, exchange);
                Ok(())
            }
            State::Reply(expect, Some(reply)) => self.handle_reply(expect, reply),
            State::TheirVoid(_, Some(unknown)) => {
                self.state = State::SettlingVoid(unknown);
                Ok(())
            }
            State::Filling {
                round,
                next,
                ended: true,
            } => {
                self.state = State::Filled(round, next);
                Ok(())
            }
            state @ (State::Reply(..)
            | State::Packs { .. }
            | State::TheirVoid(..)
            | State::Exchanging { .. }
            | State::Filling { .. }
            | State::Sending { .. }) => {
                self.state = state;
                Err(PeerFault::Truncated.into())
            }
            // The end of a response that is done with: nothing to do.
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    fn handle_reply(&mut self, expect: Expect, reply: Reply) -> Result<(), Failure> {
        match (expect, reply) {
            (Expect::Comparison, Reply::Equal) => {
                self.theirs = self
                    .ours
                    .as_ref()
                    .map(|tips| tips.stamps().to_vec())
                    .unwrap_or_default();
                self.both.clone_from(&self.theirs);
                self.finish();
            }
            (
                Expect::Comparison,
                Reply::Diverged {
                    tips,
                    claims,
                    sketch,
                    closures,
                },
            ) => {
                self.see_claims(&claims)?;
                self.their_closures = closures;
                self.their_void = tips.void();
                self.theirs = tips.stamps().to_vec();
                self.ask(Query::Known {
                    database: self.config.database,
                    ids: tips.ids(),
                });
                self.state = State::TheirTips(sketch);
            }
            (Expect::Sketch(differences), Reply::Sketch(parts)) => {
                let read = parts.parts().map_err(PeerFault::from)?;
                differences.check_reply(&read)?;
                self.ask_contrast(Sketch::Parts(parts), differences);
            }
            (Expect::VoidPushed, Reply::Pushed { .. }) => self.finish(),
            (Expect::Lacking, Reply::Lacking { ids, stores }) => self.give(ids, &stores),
            _ => return Err(PeerFault::Unexpected("another answer").into()),
        }
        Ok(())
    }

    fn handle_answer(
        &mut self,
        id: QueryId,
        answer: Result<Answer, Failure>,
    ) -> Result<(), Failure> {
        if self.query.take_if(|query| *query == id).is_none() {
            return match self.state {
                // Asked before the end came into sight.
                State::Failing(_) => Ok(()),
                _ => Err(Failure::Driver("answers a query that was not asked")),
            };
        }
        let answer = answer?;
        match (std::mem::replace(&mut self.state, State::Finished), answer) {
            (State::OurTips, Answer::Tips(frontier)) => self.take_tips(frontier),
            (State::OurHolds, Answer::Holds(holds)) => {
                self.holds = holds;
                self.compare(None)
            }
            (State::OurLacking(round), Answer::Lacking(lacking)) => {
                self.ask_lacking(round, lacking)
            }
            (State::OurLackingStores, Answer::Lacking(lacking)) => self.ask_beyond(&lacking),
            (State::OurCommon(frontier), Answer::Known(known)) => {
                self.common.retain({
                    let mut known = known.into_iter();
                    move |_| known.next().unwrap_or(false)
                });
                self.compare(frontier)
            }
            (State::TheirTips(sketch), Answer::Known(known))
                if known.len() == self.theirs.len() =>
            {
                self.start_differing(sketch, &known);
                Ok(())
            }
            (State::Contrast(mut differences), Answer::Contrast(contrast)) => match contrast {
                Some(contrast) => {
                    differences.take(contrast);
                    self.step(differences)
                }
                // Too much since then to look through.
                None => {
                    let spans = differences.ask_all();
                    self.ask_sketch(&spans, differences)
                }
            },
            (State::Arrived(next), Answer::Known(known)) if known.len() == self.theirs.len() => {
                self.check_arrived(&known, next)
            }
            (
                State::Sending {
                    mut flow,
                    opened,
                    exchange,
                },
                answer,
            ) => {
                flow.answer(answer)?;
                self.state = State::Sending {
                    flow,
                    opened,
                    exchange,
                };
                Ok(())
            }
            (State::OurVoid, Answer::Void(leaves)) => self.compare_void(leaves),
            (State::VoidAccess(unknown), Answer::Access(true)) => {
                self.ask(Query::VoidPacks {
                    database: self.config.database,
                    of: unknown,
                    not: Vec::new(),
                    stores: self.their_holds.clone(),
                    budget_bytes: limits::PAGE_BYTES,
                });
                self.state = State::VoidPacks;
                Ok(())
            }
            (State::VoidAccess(_), Answer::Access(false)) => {
                self.finish();
                Ok(())
            }
            (State::VoidPacks, Answer::Packs(page)) => self.push_void(page.packs),
            (state @ (State::NotTaken(_) | State::Failing(_)), _) => {
                self.state = state;
                Ok(())
            }
            _ => Err(Failure::Driver("answers another question than was asked")),
        }
    }

    fn ask_ours(&mut self) {
        self.ask(Query::Tips {
            database: self.config.database,
        });
        self.state = State::OurTips;
    }

    fn take_tips(&mut self, frontier: Option<Frontier>) -> Result<(), Failure> {
        let common = self.config.common.iter().take(limits::COMMON);
        self.common = common.copied().collect();
        let says_holds = self.config.peer.version >= PAYLOADS;
        let is_damaged = frontier.as_ref().is_some_and(|frontier| frontier.damaged);
        if is_damaged && says_holds && !self.mended {
            (self.mending, self.mended) = (true, true);
            self.look_for_lacking(Some(0), limits::FIRST_LACKING, false);
            return Ok(());
        }
        if frontier.is_none() && self.config.create && says_holds {
            self.common.clear();
            self.ask(Query::Holds {
                database: self.config.database,
            });
            self.state = State::OurHolds;
            return Ok(());
        }
        if frontier.is_none() || self.common.is_empty() {
            self.common.clear();
            return self.compare(frontier);
        }
        self.ask(Query::Known {
            database: self.config.database,
            ids: self.common.clone(),
        });
        self.state = State::OurCommon(frontier);
        Ok(())
    }

    fn compare(&mut self, frontier: Option<Frontier>) -> Result<(), Failure> {
        if frontier.is_none() && !self.config.create {
            return Err(Failure::NotHere);
        }
        self.intake.create = frontier.is_none();
        if frontier.is_none() {
            self.relation = Relation::Absent;
        }
        if let Some(frontier) = &frontier {
            self.holds = frontier.holds.clone();
            self.offers = frontier.offers.clone();
        }
        let Frontier {
            tips,
            closures,
            void,
            ..
        } = frontier.unwrap_or_default();
        let tips = TipList::new(tips).with_void(&void);
        self.closures = closures;
        // Whoever has nothing since needs no help, and says so in its tips.
        let is_new = self.common.iter().ne(tips.ids().iter());
        self.ours = Some(tips.clone());
        self.told_holds = false;
        self.request(&Request::Compare {
            database: self.config.database,
            tips,
            common: match is_new {
                true => self.common.clone(),
                false => Vec::new(),
            },
            closures: self.closures.clone(),
        })?;
        self.state = State::Reply(Expect::Comparison, None);
        Ok(())
    }

    fn start_differing(&mut self, sketch: Sketch, known: &[bool]) {
        let tips = self.theirs.iter().zip(known);
        self.base = tips
            .filter(|(_, known)| **known)
            .map(|(tip, _)| tip.id)
            .collect();
        if self.base.len() == self.theirs.len() {
            if self.relation == Relation::Equal {
                self.relation = Relation::Ahead;
            }
            return self.start_push(self.base.clone());
        }
        self.relation = Relation::Diverged;
        self.ask_contrast(sketch, Differences::default());
    }

    fn ask_contrast(&mut self, theirs: Sketch, differences: Differences) {
        self.ask(Query::Contrast {
            database: self.config.database,
            common: self.common.clone(),
            theirs,
            limit: limits::FOUND_IDS,
        });
        self.state = State::Contrast(differences);
    }

    fn step(&mut self, mut differences: Differences) -> Result<(), Failure> {
        self.compared += std::mem::take(&mut differences.compared);
        self.show_progress();
        match differences.next()? {
            Step::Ask(spans) => self.ask_sketch(&spans, differences),
            Step::Exchange(exchange) => {
                self.start_exchange(exchange);
                Ok(())
            }
        }
    }

    fn ask_sketch(
        &mut self,
        spans: &[(eidetica_entry::reconcile::Span, Detail)],
        differences: Differences,
    ) -> Result<(), Failure> {
        self.request(&Request::Describe {
            database: self.config.database,
            spans: Spans::new(spans),
        })?;
        self.state = State::Reply(Expect::Sketch(differences), None);
        Ok(())
    }

    /// Sends what the peer lacks along with what is wanted of it.
    fn start_exchange(&mut self, exchange: Exchange) {
        let ours = exchange.ours.iter().filter(|_| self.not_taken.is_none());
        let ours = ours.map(IdPrefix::of).collect();
        self.state = State::Sending {
            flow: self.outflow(Wanted::These(ours)),
            opened: false,
            exchange: Some(Wants {
                ids: exchange.wants,
                is_whole: exchange.is_whole,
            }),
        };
    }

    fn check_arrived(&mut self, known: &[bool], next: Next) -> Result<(), Failure> {
        let missing = self
            .theirs
            .iter()
            .zip(known)
            .find(|(_, known)| !**known)
            .map(|(tip, _)| tip.id);
        let excused = self.intake.totals.pending > 0 || self.intake.totals.rejected > 0;
        self.complete = missing.is_none() && !excused;
        match (missing, next) {
            (_, Next::Again) => self.begin_anew(),
            (Some(id), _) if !excused => return Err(PeerFault::TipNotDelivered(id).into()),
            (Some(_), Next::Push) => {
                let arrived = self
                    .theirs
                    .iter()
                    .zip(known)
                    .filter(|(_, known)| **known)
                    .map(|(tip, _)| tip.id);
                let not = self.base.iter().copied().chain(arrived).collect();
                self.start_push(not);
            }
            // Their tips cover all that both have.
            (None, Next::Push) => self.start_push(self.theirs.iter().map(|tip| tip.id).collect()),
            (_, Next::Conclude) => {
                let ours = self.ours.iter().filter(|_| self.push.is_whole());
                let ours = ours.flat_map(TipList::stamps);
                let both = ours.chain(&self.theirs).copied().collect();
                self.conclude(both);
            }
        }
        Ok(())
    }

    /// What was found is exchanged, and there is more: begins again, if it was of any use.
    fn begin_anew(&mut self) {
        let moved = self.intake.totals.new + self.push.new_entries();
        self.complete = false;
        if moved == self.moved {
            return self.conclude(Vec::new());
        }
        self.moved = moved;
        self.complete = true;
        self.state = State::New;
    }

    fn start_push(&mut self, not: Vec<Id>) {
        self.state = State::Sending {
            flow: self.outflow(Wanted::Beyond(not)),
            opened: false,
            exchange: None,
        };
    }

    fn outflow(&self, wanted: Wanted) -> Outflow {
        let closures = self.their_closures.clone();
        let stores = self.their_holds.clone();
        Outflow::new(self.config.database, wanted, closures, stores)
    }

    fn advance_push(
        &mut self,
        mut flow: Outflow,
        mut opened: bool,
        exchange: Option<Wants>,
        now_ms: u64,
    ) -> Result<(), Failure> {
        let has_wants = exchange.as_ref().is_some_and(|wants| !wants.ids.is_empty());
        match flow.poll(&self.peer, now_ms) {
            Flow::Query(query) => self.ask(query),
            Flow::Wait => {}
            Flow::Pack(pack) => {
                if !opened {
                    opened = true;
                    self.open_push(exchange.as_ref())?;
                }
                self.packs_sent += 1;
                self.send(&Frame::Pack(pack))?;
                self.show_progress();
            }
            Flow::Ended { denied } => {
                match self.giving {
                    true => self.gives_all &= !denied,
                    false if denied => self.push = PushOutcome::Withheld,
                    false => {}
                }
                if !opened && has_wants {
                    opened = true;
                    self.open_push(exchange.as_ref())?;
                }
                if opened {
                    self.outputs.push_back(Output::End);
                    self.state = State::Exchanging {
                        flow,
                        exchange,
                        pushed: false,
                    };
                } else {
                    self.end_exchange(flow, exchange);
                }
                return Ok(());
            }
        }
        self.state = State::Sending {
            flow,
            opened,
            exchange,
        };
        Ok(())
    }

    fn open_push(&mut self, exchange: Option<&Wants>) -> Result<(), Failure> {
        let wants = exchange.map(|wants| wants.ids.clone()).unwrap_or_default();
        self.requests += 1;
        self.outputs.push_back(Output::OpenRequest);
        let request = Request::Push {
            database: self.config.database,
            closures: match wants.is_empty() {
                true => Vec::new(),
                false => self.closures.clone(),
            },
            wants,
        };
        self.send(&self.frame_of(request))
    }

    /// Goes on with a peer that has refused what was pushed: asks for what is wanted of it.
    fn take_only(&mut self, wants: Option<Wants>) -> Result<(), Failure> {
        let Some(wants) = wants.filter(|wants| !wants.ids.is_empty()) else {
            self.conclude(self.theirs.clone());
            return Ok(());
        };
        self.open_push(Some(&wants))?;
        self.outputs.push_back(Output::End);
        self.state = State::Exchanging {
            flow: self.outflow(Wanted::These(Vec::new())),
            exchange: Some(wants),
            pushed: false,
        };
        Ok(())
    }

    /// What is held here is said with whatever brings payloads, and with a comparison, which is answered in kind.
    fn frame_of(&self, request: Request) -> Frame {
        let version = self.config.peer.version;
        let is_needed = match &request {
            Request::Compare { .. } => true,
            Request::Lacking { .. } if version >= HOLDINGS => {
                return Frame::RequestFor(self.offers.clone(), request);
            }
            Request::Push { wants, .. } => !wants.is_empty() && !self.holds.is_all(),
            Request::Void { .. } => !self.holds.is_all(),
            _ => false,
        };
        match is_needed && version >= PAYLOADS {
            true => Frame::RequestFor(self.holds.clone(), request),
            false => Frame::Request(request),
        }
    }

    /// What was to be sent is there.
    fn end_exchange(&mut self, flow: Outflow, exchange: Option<Wants>) {
        match exchange {
            _ if self.giving => {
                self.lacks_ours &= !self.gives_all;
                self.end();
            }
            Some(wants) => {
                let next = if wants.is_whole {
                    Next::Conclude
                } else {
                    Next::Again
                };
                self.state = State::Settling(next);
            }
            None => {
                let both = if self.push.is_whole() && self.complete {
                    flow.tips
                } else {
                    self.theirs.clone()
                };
                self.conclude(both);
            }
        }
    }

    /// Both sides have what is in the past of `both`, so that only void entries are left to be exchanged: what came may
    /// have made some of ours void.
    fn conclude(&mut self, both: Vec<Stamp>) {
        self.both = both;
        self.ask(Query::Void {
            database: self.config.database,
        });
        self.state = State::OurVoid;
    }

    fn compare_void(&mut self, leaves: Vec<Id>) -> Result<(), Failure> {
        if VoidHash::of(&leaves) == self.their_void {
            self.finish();
            return Ok(());
        }
        self.request(&Request::Void {
            database: self.config.database,
            leaves: leaves.clone(),
        })?;
        self.state = State::TheirVoid(leaves, None);
        Ok(())
    }

    fn check_void_access(&mut self, unknown: Vec<Id>, now_ms: u64) {
        if unknown.is_empty() {
            return self.finish();
        }
        let database = self.config.database;
        self.ask(Query::CanRead {
            database,
            keys: self.peer.keys_for(&database, now_ms),
        });
        self.state = State::VoidAccess(unknown);
    }

    fn push_void(&mut self, packs: Vec<Bytes>) -> Result<(), Failure> {
        if packs.is_empty() {
            self.finish();
            return Ok(());
        }
        self.requests += 1;
        self.outputs.push_back(Output::OpenRequest);
        self.send(&Frame::Request(Request::Push {
            database: self.config.database,
            wants: Vec::new(),
            closures: Vec::new(),
        }))?;
        for pack in packs {
            self.packs_sent += 1;
            self.send(&Frame::Pack(pack))?;
        }
        self.outputs.push_back(Output::End);
        self.state = State::Reply(Expect::VoidPushed, None);
        Ok(())
    }

    /// The entries are exchanged; are all payloads here that are held?
    fn finish(&mut self) {
        if self.config.peer.version < PAYLOADS {
            return self.end();
        }
        self.asked_of = self.their_holds.clone();
        self.is_beyond = false;
        self.look_for_lacking(Some(0), limits::FIRST_LACKING, false);
    }

    fn look_for_lacking(&mut self, from: Option<u64>, limit: usize, anywhere: bool) {
        self.ask(Query::Lacking {
            database: self.config.database,
            stores: self.asked_of.clone(),
            from,
            limit,
        });
        self.state = State::OurLacking(Round {
            limit,
            anywhere,
            filled: self.intake.totals.filled,
            rejected: self.intake.totals.rejected,
        });
    }

    /// Asks for what is missing, if the peer may have it.
    fn ask_lacking(&mut self, round: Round, lacking: Lacking) -> Result<(), Failure> {
        let stores = lacking.stores.and(&self.asked_of);
        if lacking.ids.is_empty() || stores.is_none() {
            return self.look_beyond();
        }
        let request = Request::Payloads {
            database: self.config.database,
            ids: lacking.ids,
        };
        self.request_frame(&Frame::RequestFor(stores, request))?;
        self.state = State::Filling {
            round,
            next: lacking.next,
            ended: false,
        };
        Ok(())
    }

    /// Asks on while that brings something. What is not brought is not here, whatever the peer says that it holds.
    fn end_round(&mut self, round: Round, next: Option<u64>) -> Result<(), Failure> {
        let wrong = self.intake.totals.rejected - round.rejected;
        if wrong > 0 {
            return Err(PeerFault::WrongPayloads(wrong).into());
        }
        if std::mem::take(&mut self.turned_away) {
            return match self.mending {
                // Nothing is compared so far: that is refused as well, or goes on.
                true => self.ask_what_they_lack(),
                false => {
                    self.end();
                    Ok(())
                }
            };
        }
        let first = limits::FIRST_LACKING;
        match (self.intake.totals.filled > round.filled, next) {
            (true, Some(next)) => {
                let limit = round.limit.saturating_mul(8).min(limits::WANTS);
                self.look_for_lacking(Some(next), limit, round.anywhere);
            }
            (false, Some(_)) if !round.anywhere => self.look_for_lacking(None, first, true),
            _ => return self.look_beyond(),
        }
        Ok(())
    }

    /// The peer may still have what it holds no more: it is asked for that last.
    fn look_beyond(&mut self) -> Result<(), Failure> {
        if self.is_beyond || self.their_holds.is_all() {
            return self.ask_what_they_lack();
        }
        self.is_beyond = true;
        self.ask(Query::Lacking {
            database: self.config.database,
            stores: Stores::All,
            from: Some(0),
            limit: 1,
        });
        self.state = State::OurLackingStores;
        Ok(())
    }

    fn ask_beyond(&mut self, lacking: &Lacking) -> Result<(), Failure> {
        let theirs = self.their_holds.some().unwrap_or_default();
        let lacked = lacking.stores.some().unwrap_or_default();
        let beyond = lacked.iter().filter(|store| !theirs.contains(store));
        self.asked_of = Stores::these(beyond.cloned());
        if self.asked_of.is_none() {
            return self.ask_what_they_lack();
        }
        self.look_for_lacking(Some(0), limits::FIRST_LACKING, false);
        Ok(())
    }

    fn ask_what_they_lack(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.mending) {
            // From what is here now.
            self.ask_ours();
            return Ok(());
        }
        if !std::mem::take(&mut self.they_lack) {
            self.end();
            return Ok(());
        }
        self.request(&Request::Lacking {
            database: self.config.database,
        })?;
        self.state = State::Reply(Expect::Lacking, None);
        Ok(())
    }

    /// Sends what there is here of that.
    fn give(&mut self, ids: Vec<IdPrefix>, stores: &Stores) {
        self.giving = true;
        // Where entries are damaged there, it names these alone, for all stores.
        self.gives_all = ids.len() < limits::WANTS
            && !stores.is_all()
            && stores.is_uncut()
            && self.offers.is_uncut();
        let wanted = Wanted::Payloads(ids);
        let stores = stores.and(&self.offers);
        self.state = State::Sending {
            flow: Outflow::new(self.config.database, wanted, Vec::new(), stores),
            opened: false,
            exchange: None,
        };
    }

    /// Ends well, unless the peer has refused what was pushed.
    fn end(&mut self) {
        if let Some(refusal) = self.not_taken {
            return self.fail(Failure::Refused(refusal));
        }
        let mut both = std::mem::take(&mut self.both);
        both.sort_unstable_by(|a, b| b.cmp(a));
        let outcome = Outcome {
            relation: self.relation,
            complete: self.complete,
            received: self.intake.totals.clone(),
            push: self.push,
            packs_sent: self.packs_sent,
            compared: self.compared,
            requests: self.requests,
            frame_bytes: self.frame_bytes,
            common: if self.complete {
                both.iter().take(limits::COMMON).map(|tip| tip.id).collect()
            } else {
                Vec::new()
            },
            last: both.first().copied().filter(|_| self.complete),
            holding: Holding {
                stores: self.their_holds.clone(),
                lacks: self.lacks_ours,
            },
        };
        self.outputs.push_back(Output::Done(Ok(outcome)));
        self.state = State::Finished;
    }

    fn fail(&mut self, failure: Failure) {
        if matches!(self.state, State::Failing(_)) {
            return;
        }
        self.drop_outputs();
        self.state = State::Failing(failure);
    }

    /// What has arrived is ingested in any case.
    fn drop_outputs(&mut self) {
        self.outputs
            .retain(|output| matches!(output, Output::Ingest(..)));
    }

    fn see_claims(&mut self, claims: &[Bytes]) -> Result<(), Failure> {
        self.peer = ProvenKeys::decode(self.config.peer.device, claims).map_err(PeerFault::from)?;
        Ok(())
    }

    /// Opens a request of one frame.
    fn request(&mut self, request: &Request) -> Result<(), Failure> {
        let frame = self.frame_of(request.clone());
        self.request_frame(&frame)
    }

    fn request_frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        self.requests += 1;
        self.outputs.push_back(Output::OpenRequest);
        self.send(frame)?;
        self.outputs.push_back(Output::End);
        Ok(())
    }

    fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        let bytes = frame
            .encode()
            .map_err(|error| Failure::Local(error.to_string()))?;
        self.frame_bytes += bytes.len() as u64;
        self.outputs.push_back(Output::Send(bytes));
        Ok(())
    }

    fn ask(&mut self, query: Query) {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.query = Some(id);
        self.outputs.push_back(Output::Query(id, query));
    }

    fn show_progress(&mut self) {
        self.outputs.push_back(Output::Event(Progress {
            compared: self.compared,
            received: self.intake.totals.clone(),
            packs_sent: self.packs_sent,
            frame_bytes: self.frame_bytes,
        }));
    }
}
