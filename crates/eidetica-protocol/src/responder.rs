//! One request, from the side that answers.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, InviteProof, SignedRequest};
use eidetica_entry::{
    Id, PublicKey,
    reconcile::{Detail, Span},
};

use crate::{
    Answer, Closure, DatabaseInfo, Failure, Frame, Frontier, IdPrefix, IngestTotals, Input,
    Lacking, Output, PeerFault, ProvenKeys, Query, QueryId, Refusal, Reply, Request, RequestRef,
    Stores, TipList,
    claims::encode_claims,
    limits,
    machine::BootstrapAnswer,
    message::BootstrapState,
    receive::Intake,
    send::{Flow, Outflow, Wanted},
    sketch::Sketch,
};

/// Who asks, and what this node may show.
#[derive(Debug, Clone)]
pub struct ResponderConfig {
    /// What the peer has proven.
    pub peer: ProvenKeys,
    /// Claims for this node's own device. Those that cover a database are shown to those who may read it.
    pub claims: Vec<DeviceClaim>,
}

/// What kind of request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// [`Request::Compare`].
    Compare,
    /// [`Request::Describe`].
    Describe,
    /// [`Request::Void`].
    Void,
    /// [`Request::Push`].
    Push,
    /// [`Request::Payloads`].
    Payloads,
    /// [`Request::Lacking`].
    Lacking,
    /// [`Request::Discover`].
    Discover,
    /// [`Request::Bootstrap`].
    Bootstrap,
    /// [`Request::Redeem`].
    Redeem,
    /// [`Request::Status`].
    Status,
    /// [`Request::Cancel`].
    Cancel,
    /// [`Request::Live`]: not answered here but by [`Live`](crate::Live).
    Live,
}

/// What an answered request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What was asked.
    pub kind: RequestKind,
    /// About which database.
    pub database: Option<Id>,
    /// Whether the answer was a refusal.
    pub refused: Option<Refusal>,
    /// Packs sent.
    pub packs_sent: u64,
    /// What came in.
    pub received: IngestTotals,
}

/// Answers one request. The same contract as [`SyncClient`](crate::SyncClient): its `Send`s are the response,
/// [`Output::End`] ends it, [`Output::OpenRequest`] does not occur.
///
/// Whether the peer may read is asked before anything else and again before every page of packs. A peer that may not
/// gets [`Refusal::ABSENT`], byte for byte what it gets for a database that is not here.
#[derive(Debug)]
pub struct Responder {
    config: ResponderConfig,
    /// The database asked about; means nothing for requests about none.
    database: Id,
    state: State,
    outputs: VecDeque<Output<Served>>,
    next_query: u64,
    query: Option<QueryId>,
    served: Option<Served>,
    intake: Option<Intake>,
    /// What is to be sent after a push.
    wanted: Option<(Vec<IdPrefix>, Vec<Closure>)>,
    /// The payloads that the peer wants, if it has said so: then it is told which are held.
    stores: Option<Stores>,
    waiting_since: Option<u64>,
}

#[derive(Debug)]
enum State {
    Request,
    /// Asked whether the peer may read, then to go on with this.
    Access(Request),
    /// The frames have ended, asked whether the peer may still read.
    AccessAgain,
    Tips(Comparison),
    Known(Comparison, Frontier),
    FirstSketch(TipList, Vec<Closure>),
    Sketch,
    /// Which of the peer's void leaves are known here.
    VoidKnown(Vec<Id>),
    /// Our void leaves, with all of the peer's and those not known here.
    OurVoid(Vec<Id>, Vec<Id>),
    VoidPacks(Vec<Id>),
    Sending(Outflow),
    Receiving {
        ended: bool,
    },
    /// Which tips there are now.
    PushedTips,
    Discovering(Discovery),
    Short,
    Failing(Failure),
    Finished,
}

#[derive(Debug)]
struct Comparison {
    tips: TipList,
    common: Vec<Id>,
    /// What the peer has of the databases that this one delegates to.
    closures: Vec<Closure>,
}

/// A discovery by keys of different scope, one query per scope.
#[derive(Debug)]
struct Discovery {
    /// Still to be asked, with the databases that count.
    scoped: Vec<(PublicKey, Vec<Id>)>,
    /// What counts of the answer that is due; all if none.
    only: Option<Vec<Id>>,
    found: Vec<DatabaseInfo>,
}

impl Responder {
    /// Ready for the request's first frame.
    pub fn new(config: ResponderConfig) -> Self {
        Self {
            config,
            database: Id::new([0; 32]),
            state: State::Request,
            outputs: VecDeque::new(),
            next_query: 0,
            query: None,
            served: None,
            intake: None,
            wanted: None,
            stores: None,
            waiting_since: None,
        }
    }

    /// Whether a frame of the request, or its end, may be handed in now.
    pub fn wants_frame(&self) -> bool {
        match &self.state {
            State::Request => true,
            State::Receiving { ended: false } => self.intake.as_ref().is_some_and(Intake::has_room),
            _ => false,
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        if matches!(self.state, State::Finished) {
            return;
        }
        let waiting = self.waiting_since.take();
        let handled = match input {
            Input::Frame(bytes) => self.handle_frame(&bytes, now_ms),
            Input::End => self.handle_end(),
            Input::Answer(id, answer) => {
                self.handle_answer(id, answer.map_err(|error| Failure::Local(error.0)), now_ms)
            }
            Input::Ingested(id, report) => match &mut self.intake {
                Some(intake) => intake.done(id, report),
                None => Err(Failure::Driver("reports an ingest that does not run")),
            },
            Input::Closed(reason) => Err(Failure::Closed(reason)),
            Input::Moving => {
                self.waiting_since = Some(now_ms);
                Ok(())
            }
            Input::Tick => {
                self.waiting_since = waiting;
                match waiting {
                    Some(since) if now_ms >= since.saturating_add(limits::IDLE_MS) => {
                        Err(Failure::Idle(limits::IDLE_MS))
                    }
                    _ => Ok(()),
                }
            }
        };
        if let Err(failure) = handled {
            self.fail(failure);
        }
    }

    /// The next output.
    pub fn poll_output(&mut self, now_ms: u64) -> Output<Served> {
        if self.outputs.is_empty()
            && let Err(failure) = self.advance(now_ms)
        {
            self.fail(failure);
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let since = self
            .wants_frame()
            .then(|| *self.waiting_since.get_or_insert(now_ms));
        Output::Timeout(since.map(|since| since.saturating_add(limits::IDLE_MS)))
    }

    /// Does what can be done without an input.
    fn advance(&mut self, now_ms: u64) -> Result<(), Failure> {
        if let Some((id, batch)) = self.intake.as_mut().and_then(Intake::poll) {
            self.outputs.push_back(Output::Ingest(id, batch));
        }
        let idle = self.intake.as_ref().is_none_or(Intake::is_idle);
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Sending(flow) => self.advance_sending(flow, now_ms),
            State::Receiving { ended: true } if idle => {
                self.ask_access(now_ms);
                self.state = State::AccessAgain;
                Ok(())
            }
            State::Failing(failure) if idle => {
                self.outputs.push_back(Output::Done(Err(failure)));
                Ok(())
            }
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    fn handle_frame(&mut self, bytes: &Bytes, now_ms: u64) -> Result<(), Failure> {
        if !self.wants_frame() {
            return Err(Failure::Driver("hands in a frame that is not wanted"));
        }
        let frame = Frame::decode(bytes).map_err(PeerFault::from)?;
        match (&self.state, frame) {
            (State::Request, Frame::Request(request)) => self.start(request, now_ms),
            (State::Request, Frame::RequestFor(stores, request)) => {
                self.stores = Some(stores);
                self.start(request, now_ms)
            }
            (State::Receiving { .. }, Frame::Pack(pack)) => {
                if let Some(intake) = &mut self.intake {
                    intake.push(pack);
                }
                Ok(())
            }
            _ => Err(PeerFault::Unexpected("a frame").into()),
        }
    }

    fn handle_end(&mut self) -> Result<(), Failure> {
        match &mut self.state {
            State::Request => Err(PeerFault::Truncated.into()),
            State::Receiving { ended } => {
                *ended = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, request: Request, now_ms: u64) -> Result<(), Failure> {
        let (kind, database) = about(&request);
        self.database = database.unwrap_or(self.database);
        let received = IngestTotals::default();
        self.served = Some(Served {
            kind,
            database,
            refused: None,
            packs_sent: 0,
            received,
        });
        match request {
            Request::Discover => {
                let only = None;
                let discovery = Discovery {
                    scoped: self.config.peer.scoped(now_ms),
                    only,
                    found: Vec::new(),
                };
                self.ask(Query::Discover {
                    keys: self.config.peer.keys_for_all(now_ms),
                });
                self.state = State::Discovering(discovery);
                Ok(())
            }
            Request::Bootstrap { request } => self.start_bootstrap(&request, None),
            Request::Redeem { request, proof } => self.start_bootstrap(&request, Some(proof)),
            Request::Live(_) => self.refuse(Refusal::UNAVAILABLE),
            Request::Status(request) => {
                let device = self.config.peer.device_key();
                self.start_of_request(request, now_ms, |request| Query::Status { request, device })
            }
            Request::Cancel(request) => {
                let device = self.config.peer.device_key();
                self.start_of_request(request, now_ms, |request| Query::Cancel { request, device })
            }
            request => {
                self.ask_access(now_ms);
                self.state = State::Access(request);
                Ok(())
            }
        }
    }

    /// Nobody asks for another's key or from another's device.
    fn start_bootstrap(&mut self, bytes: &[u8], proof: Option<InviteProof>) -> Result<(), Failure> {
        let own = |signed: &SignedRequest| {
            signed.request().device == self.config.peer.device_key()
                && proof.is_none_or(|proof| proof.is_of(signed))
        };
        match SignedRequest::decode(bytes) {
            Ok(signed) if own(&signed) => {
                if let Some(served) = &mut self.served {
                    served.database = Some(signed.request().database);
                }
                let request = Box::new(signed);
                self.ask(match proof {
                    None => Query::Bootstrap { request },
                    Some(proof) => Query::Redeem {
                        request,
                        invite: proof.invite,
                    },
                });
                self.state = State::Short;
                Ok(())
            }
            _ => self.refuse(Refusal::NOT_PROVEN),
        }
    }

    /// A request's fate is for its own key only; for others there is no such request.
    fn start_of_request(
        &mut self,
        request: RequestRef,
        now_ms: u64,
        query: impl FnOnce(RequestRef) -> Query,
    ) -> Result<(), Failure> {
        if !self
            .config
            .peer
            .keys_for(&request.database, now_ms)
            .contains(&request.key)
        {
            return self.refuse(Refusal::ABSENT);
        }
        self.ask(query(request));
        self.state = State::Short;
        Ok(())
    }

    fn handle_answer(
        &mut self,
        id: QueryId,
        answer: Result<Answer, Failure>,
        now_ms: u64,
    ) -> Result<(), Failure> {
        if self.query.take_if(|query| *query == id).is_none() {
            return match self.state {
                State::Failing(_) => Ok(()),
                _ => Err(Failure::Driver("answers a query that was not asked")),
            };
        }
        match (std::mem::replace(&mut self.state, State::Short), answer?) {
            (State::Access(_) | State::AccessAgain, Answer::Access(false)) => {
                self.refuse(Refusal::ABSENT)
            }
            (State::Access(request), Answer::Access(true)) => self.go_on(request),
            (State::Tips(_) | State::PushedTips, Answer::Tips(None)) => {
                self.refuse(Refusal::ABSENT)
            }
            (State::Tips(comparison), Answer::Tips(Some(frontier))) => {
                self.compare(comparison, frontier)
            }
            (State::Known(comparison, frontier), Answer::Known(known)) => {
                self.answer_comparison(comparison, frontier, &known, now_ms)
            }
            (State::FirstSketch(tips, closures), Answer::Sketch(sketch)) => {
                let claims = self.own_claims(now_ms)?;
                self.reply_last(Reply::Diverged {
                    tips,
                    claims,
                    sketch,
                    closures,
                })
            }
            (State::Sketch, Answer::Sketch(Sketch::Parts(parts))) => {
                self.reply_last(Reply::Sketch(parts))
            }
            (State::VoidKnown(theirs), Answer::Known(known)) => {
                let unknown = theirs.iter().zip(known).filter(|(_, known)| !*known);
                let unknown = unknown.map(|(id, _)| *id).collect();
                self.ask(Query::Void {
                    database: self.database,
                });
                self.state = State::OurVoid(theirs, unknown);
                Ok(())
            }
            (State::OurVoid(theirs, unknown), Answer::Void(ours)) => {
                self.ask(Query::VoidPacks {
                    database: self.database,
                    of: ours,
                    not: theirs,
                    stores: self.stores.clone().unwrap_or_default(),
                    budget_bytes: limits::PAGE_BYTES,
                });
                self.state = State::VoidPacks(unknown);
                Ok(())
            }
            (State::VoidPacks(unknown), Answer::Packs(page)) => {
                if let Some(served) = &mut self.served {
                    served.packs_sent += page.packs.len() as u64;
                }
                for pack in page.packs {
                    self.send(&Frame::Pack(pack))?;
                }
                self.reply_last(Reply::Void { unknown })
            }
            (State::Sending(mut flow), answer) => {
                flow.answer(answer)?;
                self.state = State::Sending(flow);
                Ok(())
            }
            (State::AccessAgain, Answer::Access(true)) => {
                match self.wanted.take() {
                    Some((ids, closures)) => self.start_sending(Wanted::These(ids), closures),
                    None => self.ask_pushed_tips(),
                }
                Ok(())
            }
            (State::PushedTips, Answer::Tips(Some(frontier))) => self.answer_push(frontier),
            (State::Discovering(discovery), Answer::Databases(found)) => {
                self.go_on_discovering(discovery, found)
            }
            (State::Short, Answer::Bootstrap(answer)) => match answer {
                BootstrapAnswer::Granted => {
                    self.reply_last(Reply::Bootstrap(BootstrapState::Granted))
                }
                BootstrapAnswer::Pending(id) => {
                    self.reply_last(Reply::Bootstrap(BootstrapState::Pending(id)))
                }
                BootstrapAnswer::Denied => self.refuse(Refusal::ABSENT),
            },
            (State::Short, Answer::Refused(refusal)) => self.refuse(refusal),
            (State::Short, Answer::Lacking(Lacking { ids, stores, .. })) => {
                if self.stores.is_some() {
                    let claims = self.own_claims(now_ms)?;
                    self.reply(Reply::Claims { claims })?;
                }
                self.reply_last(Reply::Lacking { ids, stores })
            }
            (State::Short, Answer::Cancelled) => self.reply_last(Reply::Cancelled),
            (state @ State::Failing(_), _) => {
                self.state = state;
                Ok(())
            }
            _ => Err(Failure::Driver("answers another question than was asked")),
        }
    }

    /// The peer may read.
    fn go_on(&mut self, request: Request) -> Result<(), Failure> {
        let database = self.database;
        match request {
            Request::Compare {
                tips,
                common,
                closures,
                ..
            } => {
                self.ask(Query::Tips { database });
                self.state = State::Tips(Comparison {
                    tips,
                    common,
                    closures,
                });
            }
            Request::Describe { spans, .. } => {
                self.ask(Query::Describe {
                    database,
                    since: Vec::new(),
                    spans: spans.spans().map_err(PeerFault::from)?,
                });
                self.state = State::Sketch;
            }
            Request::Void { leaves, .. } => {
                self.ask(Query::Known {
                    database,
                    ids: leaves.clone(),
                });
                self.state = State::VoidKnown(leaves);
            }
            Request::Payloads { ids, .. } => {
                self.start_sending(Wanted::Payloads(ids), Vec::new());
            }
            Request::Lacking { .. } => {
                self.ask(Query::Lacking {
                    database,
                    stores: self.stores.clone().unwrap_or_default(),
                    from: Some(0),
                    limit: limits::WANTS,
                });
                self.state = State::Short;
            }
            Request::Push {
                wants, closures, ..
            } => {
                self.intake = Some(Intake::new(database));
                self.wanted = (!wants.is_empty()).then_some((wants, closures));
                self.state = State::Receiving { ended: false };
            }
            _ => return Err(Failure::Driver("lost the request")),
        }
        Ok(())
    }

    fn compare(&mut self, comparison: Comparison, frontier: Frontier) -> Result<(), Failure> {
        let ours = TipList::new(frontier.tips.clone()).with_void(&frontier.void);
        if self.stores.is_some() && (frontier.lacks || !frontier.holds.is_all()) {
            self.reply(Reply::Holds {
                stores: frontier.holds.clone(),
                lacks: frontier.lacks,
            })?;
        }
        if ours.is_same(&comparison.tips) {
            return self.reply_last(Reply::Equal);
        }
        self.ask(Query::Known {
            database: self.database,
            ids: comparison.tips.ids(),
        });
        self.state = State::Known(comparison, frontier);
        Ok(())
    }

    fn answer_comparison(
        &mut self,
        comparison: Comparison,
        frontier: Frontier,
        known: &[bool],
        now_ms: u64,
    ) -> Result<(), Failure> {
        let theirs = comparison.tips.ids();
        let Frontier {
            tips,
            closures,
            void,
            ..
        } = frontier;
        let ours = TipList::new(tips).with_void(&void);
        let both: Vec<Id> = theirs
            .into_iter()
            .zip(known)
            .filter(|(_, known)| **known)
            .map(|(id, _)| id)
            .collect();
        if both.len() == known.len() {
            let claims = self.own_claims(now_ms)?;
            self.reply(Reply::Behind {
                tips: ours,
                claims,
                closures,
            })?;
            self.start_sending(Wanted::Beyond(both), comparison.closures);
            return Ok(());
        }
        self.ask(Query::Describe {
            database: self.database,
            since: comparison.common,
            spans: vec![(Span::ALL, Detail::Levels)],
        });
        self.state = State::FirstSketch(ours, closures);
        Ok(())
    }

    fn start_sending(&mut self, wanted: Wanted, closures: Vec<Closure>) {
        let stores = self.stores.clone().unwrap_or_default();
        self.state = State::Sending(Outflow::new(self.database, wanted, closures, stores));
    }

    fn ask_pushed_tips(&mut self) {
        self.ask(Query::Tips {
            database: self.database,
        });
        self.state = State::PushedTips;
    }

    fn advance_sending(&mut self, mut flow: Outflow, now_ms: u64) -> Result<(), Failure> {
        match flow.poll(&self.config.peer, now_ms) {
            Flow::Query(query) => self.ask(query),
            Flow::Wait => {}
            Flow::Pack(pack) => {
                if let Some(served) = &mut self.served {
                    served.packs_sent += 1;
                }
                self.send(&Frame::Pack(pack))?;
            }
            Flow::Ended { denied: true } => return self.refuse(Refusal::ABSENT),
            Flow::Ended { denied: false } if self.intake.is_some() => {
                self.ask_pushed_tips();
                return Ok(());
            }
            Flow::Ended { denied: false } => {
                let tips = TipList::new(flow.tips);
                return self.reply_last(Reply::End { tips });
            }
        }
        self.state = State::Sending(flow);
        Ok(())
    }

    fn answer_push(&mut self, frontier: Frontier) -> Result<(), Failure> {
        let totals = self
            .intake
            .as_ref()
            .map(|intake| intake.totals.clone())
            .unwrap_or_default();
        let IngestTotals {
            new,
            known,
            pending,
            rejected,
            ..
        } = totals;
        self.reply_last(Reply::Pushed {
            tips: TipList::new(frontier.tips).with_void(&frontier.void),
            new,
            known,
            pending,
            rejected,
        })
    }

    fn go_on_discovering(
        &mut self,
        mut discovery: Discovery,
        found: Vec<DatabaseInfo>,
    ) -> Result<(), Failure> {
        let only = discovery.only.take();
        let counts = |info: &DatabaseInfo| {
            only.as_ref()
                .is_none_or(|only| only.binary_search(&info.id()).is_ok())
        };
        discovery.found.extend(found.into_iter().filter(counts));
        if let Some((key, only)) = discovery.scoped.pop() {
            discovery.only = Some(only);
            self.ask(Query::Discover { keys: vec![key] });
            self.state = State::Discovering(discovery);
            return Ok(());
        }
        let mut databases = discovery.found;
        databases.sort_by_key(DatabaseInfo::id);
        databases.dedup_by_key(|info| info.id());
        let more = databases.len() > limits::DATABASES;
        databases.truncate(limits::DATABASES);
        self.reply_last(Reply::Databases { databases, more })
    }

    fn fail(&mut self, failure: Failure) {
        if matches!(self.state, State::Failing(_)) {
            return;
        }
        self.outputs
            .retain(|output| matches!(output, Output::Ingest(..)));
        let refusal = match &failure {
            Failure::Peer(
                PeerFault::BadPack(_) | PeerFault::TooManyRejected(_) | PeerFault::Useless(_),
            ) => Some(Refusal::BAD_PACK),
            Failure::Peer(_) => Some(Refusal::MALFORMED),
            Failure::Local(_) | Failure::Driver(_) => Some(Refusal::UNAVAILABLE),
            _ => None,
        };
        // A refusal always encodes.
        if let Some(Ok(frame)) =
            refusal.map(|refusal| Frame::Reply(Reply::Refused(refusal)).encode())
        {
            self.outputs.extend([Output::Send(frame), Output::End]);
        }
        self.state = State::Failing(failure);
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), Failure> {
        if let Some(served) = &mut self.served {
            served.refused = Some(refusal);
        }
        self.reply_last(Reply::Refused(refusal))
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Failure> {
        self.send(&Frame::Reply(reply))
    }

    /// The end of the response.
    fn reply_last(&mut self, reply: Reply) -> Result<(), Failure> {
        self.reply(reply)?;
        self.outputs.push_back(Output::End);
        self.state = State::Finished;
        let mut served = self
            .served
            .take()
            .ok_or(Failure::Driver("lost the request"))?;
        if let Some(intake) = &mut self.intake {
            served.received = std::mem::take(&mut intake.totals);
        }
        self.outputs.push_back(Output::Done(Ok(served)));
        Ok(())
    }

    fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        let bytes = frame
            .encode()
            .map_err(|error| Failure::Local(error.to_string()))?;
        self.outputs.push_back(Output::Send(bytes));
        Ok(())
    }

    fn ask_access(&mut self, now_ms: u64) {
        let database = self.database;
        let keys = self.config.peer.keys_for(&database, now_ms);
        self.ask(Query::CanRead { database, keys });
    }

    fn ask(&mut self, query: Query) {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.query = Some(id);
        self.outputs.push_back(Output::Query(id, query));
    }

    fn own_claims(&self, now_ms: u64) -> Result<Vec<Bytes>, Failure> {
        let database = self.database;
        let good = |claim: &&DeviceClaim| claim.covers(&database) && claim.not_after_ms() >= now_ms;
        encode_claims(self.config.claims.iter().filter(good))
            .map_err(|error| Failure::Local(error.to_string()))
    }
}

/// What a request is, and about which database.
pub(crate) fn about(request: &Request) -> (RequestKind, Option<Id>) {
    match request {
        Request::Compare { database, .. } => (RequestKind::Compare, Some(*database)),
        Request::Describe { database, .. } => (RequestKind::Describe, Some(*database)),
        Request::Void { database, .. } => (RequestKind::Void, Some(*database)),
        Request::Push { database, .. } => (RequestKind::Push, Some(*database)),
        Request::Payloads { database, .. } => (RequestKind::Payloads, Some(*database)),
        Request::Lacking { database } => (RequestKind::Lacking, Some(*database)),
        Request::Discover => (RequestKind::Discover, None),
        Request::Bootstrap { .. } => (RequestKind::Bootstrap, None),
        Request::Redeem { .. } => (RequestKind::Redeem, None),
        Request::Status(request) => (RequestKind::Status, Some(request.database)),
        Request::Cancel(request) => (RequestKind::Cancel, Some(request.database)),
        Request::Live(_) => (RequestKind::Live, None),
    }
}
