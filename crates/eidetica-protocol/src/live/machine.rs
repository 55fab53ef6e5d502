//! The machine of both ends of a live stream.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, RequestId};
use eidetica_entry::{Id, Stamp};

use super::{
    Digest, LiveMessage, LiveOpen,
    sending::{self, Errand, Errands},
    set_hash,
};
use crate::{
    Answer, Failure, Frame, Frontier, IngestBatch, IngestError, IngestId, IngestReport, Input,
    Output, PackPage, PeerFault, ProvenKeys, Query, QueryId, Request, TipList,
    claims::encode_claims, limits,
};

/// Who is at the other end, and what the stream is about.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// What the peer has proven.
    pub peer: ProvenKeys,
    /// Claims for this node's own device, shown by the acceptor to those who may read something here.
    pub claims: Vec<DeviceClaim>,
    /// The databases: what a dialler subscribes to, what an acceptor remembers of [`LiveOpen`]. More than
    /// [`limits::LIVE_DATABASES`] are not taken.
    pub databases: Vec<Id>,
}

/// What the engine tells a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The tips of a database changed.
    Changed {
        /// The database.
        database: Id,
        /// Whether by a commit on this instance: its entries go along.
        push: bool,
    },
    /// Subscribe to these too (dialler).
    Subscribe(Vec<Id>),
    /// Subscribe to these no more (dialler).
    Unsubscribe(Vec<Id>),
    /// Ask whether all is as it should be (dialler).
    Check,
    /// Tell that a bootstrap request was decided (acceptor).
    Decided(RequestId),
}

/// What a stream tells the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer answered how all databases stand; to the dialler, after each check.
    Checked,
    /// A sync of this database is needed; to the dialler.
    Lacks(Id),
    /// The peer has these tips, and they are ours.
    Holds(Id, Vec<Stamp>),
    /// Not there, or this device may not read it there; to the dialler.
    Absent(Id),
    /// The peer wants news of these too; to the acceptor.
    Subscribed(Vec<Id>),
    /// Of these no more; to the acceptor.
    Unsubscribed(Vec<Id>),
    /// Entries came in.
    Received {
        /// The database.
        database: Id,
        /// How many were new.
        new: u64,
    },
    /// A request of this device was decided there; to the dialler.
    Decided(RequestId),
}

/// One end of a live stream.
///
/// # Contract
///
/// - The same as [`SyncClient`](crate::SyncClient)'s, but for sending: after [`Output::Send`] go on polling and reading, and call
///   [`handle_sent`](Self::handle_sent) once the transport has taken the frame. No further `Send` comes before that.
/// - At most two queries and one ingest are outstanding.
/// - [`handle_notice`](Self::handle_notice) may be called at any time. Notices of the same database become one.
/// - A dialler opens the request ([`Output::OpenRequest`]) and leaves it open. It ends when either side ends it, by
///   [`Input::Closed`], or when the peer is silent where it should not be.
/// - Memory is bounded by [`limits`], whatever the peer does.
#[derive(Debug)]
pub struct Live {
    role: Role,
    config: LiveConfig,
    subs: BTreeMap<Id, Sub>,
    outputs: VecDeque<Output<(), Event>>,
    /// Frames ready to be sent, one message at a time.
    frames: VecDeque<Bytes>,
    /// Whether the transport has taken the last one.
    is_sent: bool,
    /// Messages that are not about the tips of one database; what they say is computed when they are sent.
    plain: VecDeque<LiveMessage>,
    errands: Errands,
    saying: Saying,
    hearing: Hearing,
    next_query: u64,
    say_query: Option<QueryId>,
    hear_query: Option<QueryId>,
    ingest: Option<IngestId>,
    next_ingest: u64,
    /// Whether the acceptor has shown its claims.
    has_shown: bool,
    /// What a digest that is due is about (dialler).
    asked: Option<Vec<Id>>,
    /// Since when an answer is due (dialler), or the last frame came (acceptor).
    since_ms: Option<u64>,
    ended: Option<Result<(), Failure>>,
    is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialler,
    Acceptor,
}

/// A database that the stream is about.
#[derive(Debug, Clone, Default)]
struct Sub {
    /// Our state as the peer knows it from us.
    told: Option<Digest>,
    /// The peer's state as we know it from the peer.
    theirs: Option<Digest>,
    /// Tips that both have, or will have when what is on its way arrives.
    base: Vec<Id>,
    /// Not there for us (dialler).
    is_absent: bool,
    /// A sync was asked for because the peer has not proven that it may read (dialler).
    is_withheld: bool,
}

/// The step of what is being said.
#[derive(Debug)]
enum Saying {
    Nothing,
    /// Asked for our tips.
    Tips(Id, Errand),
    /// Asked for the packs.
    Packs(Id, Errand, Frontier),
    /// Asked whether the peer may read this.
    Access(Id, Message),
}

/// What is said about one database.
#[derive(Debug)]
struct Message {
    first: LiveMessage,
    packs: Vec<Bytes>,
    /// Our state, if this says it.
    state: Option<Digest>,
    base: Option<Vec<Id>>,
    push: bool,
}

/// The step of what is being heard.
#[derive(Debug)]
enum Hearing {
    Nothing,
    /// Asked whether the peer may tell us.
    Access(Heard),
    /// Asked which of the peer's tips are here.
    Known(Id, TipList),
    /// Asked for our tips.
    Ours(Id, TipList),
    /// Packs come.
    Packs(Arrival),
    Ingesting(Arrival),
    /// Asked for digests: of all that is subscribed to, to say it whole or each (acceptor).
    Stating(bool),
    /// Asked for our digests, to compare with the peer's (dialler).
    Comparing(Vec<Id>, Theirs),
}

#[derive(Debug)]
enum Heard {
    Have(Id, TipList),
    Entries(Arrival),
}

#[derive(Debug)]
struct Arrival {
    database: Id,
    tips: TipList,
    left: u32,
    packs: Vec<Bytes>,
}

#[derive(Debug)]
enum Theirs {
    All(Digest),
    Each(Vec<Digest>),
}

impl Live {
    /// The end that opens the stream.
    pub fn dial(config: LiveConfig) -> Self {
        let mut live = Self::new(Role::Dialler, config);
        let open = LiveOpen {
            set: set_hash(live.subs.keys()),
            count: u32::try_from(live.subs.len()).unwrap_or(u32::MAX),
        };
        live.asked = Some(live.ids());
        live.outputs.push_back(Output::OpenRequest);
        live.queue(&Frame::Request(Request::Live(open)));
        live
    }

    /// The end that was asked. `config.databases` are those that `open` names, if they are remembered.
    pub fn accept(config: LiveConfig, open: &LiveOpen) -> Self {
        let mut live = Self::new(Role::Acceptor, config);
        if set_hash(live.subs.keys()) == open.set {
            live.state(false);
        } else {
            live.subs.clear();
            live.plain.push_back(LiveMessage::Unknown);
        }
        live
    }

    fn new(role: Role, config: LiveConfig) -> Self {
        let subs = config
            .databases
            .iter()
            .take(limits::LIVE_DATABASES)
            .map(|id| (*id, Sub::default()))
            .collect();
        Self {
            role,
            config,
            subs,
            outputs: VecDeque::new(),
            frames: VecDeque::new(),
            is_sent: true,
            plain: VecDeque::new(),
            errands: Errands::default(),
            saying: Saying::Nothing,
            hearing: Hearing::Nothing,
            next_query: 0,
            say_query: None,
            hear_query: None,
            ingest: None,
            next_ingest: 0,
            has_shown: false,
            asked: None,
            since_ms: None,
            ended: None,
            is_done: false,
        }
    }

    /// What is subscribed to, in order.
    pub fn databases(&self) -> impl Iterator<Item = &Id> {
        self.subs.keys()
    }

    /// Whether a frame of the peer's, or its end, may be handed in now.
    pub fn wants_frame(&self) -> bool {
        let is_free = matches!(self.hearing, Hearing::Nothing | Hearing::Packs(_));
        // Whoever asks and does not read the answers is not asked for more.
        self.ended.is_none() && is_free && self.plain.len() < limits::LIVE_WAITING
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        if self.is_done {
            return;
        }
        let handled = match input {
            Input::Frame(bytes) => self.handle_frame(&bytes, now_ms),
            Input::End => {
                self.end(Ok(()));
                Ok(())
            }
            Input::Answer(id, answer) => answer
                .map_err(|error| Failure::Local(error.0))
                .and_then(|answer| self.handle_answer(id, answer, now_ms)),
            Input::Ingested(id, report) => self.handle_ingested(id, report),
            Input::Closed(reason) => Err(Failure::Closed(reason)),
            Input::Tick => self.check_silence(now_ms),
        };
        if let Err(failure) = handled {
            self.end(Err(failure));
        }
    }

    /// Takes what the engine says.
    pub fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Changed { database, push } => {
                if self.subs.contains_key(&database) {
                    self.errands.add(database, |errand| {
                        errand.tell = true;
                        errand.push |= push;
                    });
                }
            }
            Notice::Subscribe(databases) => self.subscribe(databases),
            Notice::Unsubscribe(databases) => {
                let gone = self.unsubscribe(databases);
                self.plain
                    .push_back(LiveMessage::Unsubscribe { databases: gone });
            }
            Notice::Check if self.plain.contains(&LiveMessage::Check) => {}
            Notice::Check => self.plain.push_back(LiveMessage::Check),
            Notice::Decided(request) => self.plain.push_back(LiveMessage::Decided { request }),
        }
    }

    /// The transport has taken the last frame.
    pub fn handle_sent(&mut self) {
        self.is_sent = true;
    }

    /// The next output.
    pub fn poll_output(&mut self, now_ms: u64) -> Output<(), Event> {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let Some(ended) = self.ended.take_if(|_| self.ingest.is_none()) {
            self.is_done = true;
            return Output::Done(ended);
        }
        if self.is_done || self.ended.is_some() {
            return Output::Timeout(None);
        }
        if let Err(failure) = self.say(now_ms) {
            self.end(Err(failure));
            return self.poll_output(now_ms);
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if self.is_sent
            && let Some(frame) = self.frames.pop_front()
        {
            self.is_sent = false;
            return Output::Send(frame);
        }
        Output::Timeout(self.silent_until(now_ms))
    }

    /// A dialler's questions are answered soon; an acceptor hears a check now and then.
    fn silent_until(&mut self, now_ms: u64) -> Option<u64> {
        let limit = match self.role {
            Role::Dialler => self.asked.as_ref().map(|_| limits::LIVE_ANSWER_MS)?,
            Role::Acceptor => limits::LIVE_SILENCE_MS,
        };
        Some(self.since_ms.get_or_insert(now_ms).saturating_add(limit))
    }

    fn check_silence(&mut self, now_ms: u64) -> Result<(), Failure> {
        match self.silent_until(now_ms) {
            Some(until) if now_ms >= until => {
                let limit = match self.role {
                    Role::Dialler => limits::LIVE_ANSWER_MS,
                    Role::Acceptor => limits::LIVE_SILENCE_MS,
                };
                Err(Failure::Idle(limit))
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, result: Result<(), Failure>) {
        if self.ended.is_none() {
            self.outputs
                .retain(|output| matches!(output, Output::Ingest(..) | Output::Event(_)));
            self.ended = Some(result);
        }
    }

    fn ids(&self) -> Vec<Id> {
        self.subs.keys().copied().collect()
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn ask(&mut self, query: Query) -> QueryId {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.outputs.push_back(Output::Query(id, query));
        id
    }

    fn access(&self, database: Id, now_ms: u64) -> Query {
        let keys = self.config.peer.keys_for(&database, now_ms);
        Query::CanRead { database, keys }
    }

    // Subscriptions.

    fn subscribe(&mut self, databases: Vec<Id>) {
        let mut new: Vec<Id> = databases
            .into_iter()
            .filter(|id| !self.subs.contains_key(id))
            .collect();
        new.sort_unstable();
        new.dedup();
        new.truncate(limits::LIVE_DATABASES.saturating_sub(self.subs.len()));
        if new.is_empty() {
            return;
        }
        self.subs.extend(new.iter().map(|id| (*id, Sub::default())));
        self.plain
            .push_back(LiveMessage::Subscribe { databases: new });
    }

    /// Those that were subscribed to, in order.
    fn unsubscribe(&mut self, databases: Vec<Id>) -> Vec<Id> {
        let mut gone: Vec<Id> = databases
            .into_iter()
            .filter(|id| self.subs.remove(id).is_some())
            .collect();
        gone.iter().for_each(|id| self.errands.forget(id));
        gone.sort_unstable();
        gone
    }

    // Saying.

    /// Begins to say the next thing, when the last one is on its way.
    fn say(&mut self, now_ms: u64) -> Result<(), Failure> {
        if !self.frames.is_empty() || !matches!(self.saying, Saying::Nothing) {
            return Ok(());
        }
        // One question at a time: the answer is about what was subscribed to when it was asked.
        let waits = |message: &mut LiveMessage| !(message.is_question() && self.asked.is_some());
        if let Some(message) = self.plain.pop_front_if(waits) {
            return self.say_plain(message, now_ms);
        }
        if let Some((database, errand)) = self.errands.next() {
            self.say_query = Some(self.ask(Query::Tips { database }));
            self.saying = Saying::Tips(database, errand);
        }
        Ok(())
    }

    fn say_plain(&mut self, message: LiveMessage, now_ms: u64) -> Result<(), Failure> {
        if message.is_question() {
            self.asked = Some(self.ids());
            self.since_ms = Some(now_ms);
        }
        match &message {
            LiveMessage::Unsubscribe { databases } if databases.is_empty() => Ok(()),
            _ => {
                self.queue(&Frame::Live(message));
                Ok(())
            }
        }
    }

    fn queue(&mut self, frame: &Frame) {
        match frame.encode() {
            Ok(bytes) => self.frames.push_back(bytes),
            Err(error) => self.end(Err(Failure::Local(error.to_string()))),
        }
    }

    /// Our tips are known: what is to be said of them?
    fn say_tips(&mut self, database: Id, errand: Errand, frontier: Frontier, now_ms: u64) {
        let Some(sub) = self.subs.get(&database) else {
            return;
        };
        let tips = TipList::new(frontier.tips.clone());
        let state = tips.digest();
        let is_told = sub.told == Some(state);
        let is_theirs = sub.theirs == Some(state);
        let pushes = errand.push && !is_theirs && !is_told && !sub.base.is_empty();
        if errand.answer.is_some() || pushes {
            let not = errand.answer.clone().unwrap_or_else(|| sub.base.clone());
            self.say_query = Some(self.ask(Query::Difference {
                database,
                not,
                // What the peer has of the delegated databases is guessed: if it is wrong, a sync follows.
                closures: frontier.closures.clone(),
                cursor: None,
                budget_bytes: limits::LIVE_BYTES,
            }));
            self.saying = Saying::Packs(database, errand, frontier);
            return;
        }
        let message = match () {
            () if errand.compare => Message::bare(LiveMessage::Compare { database }),
            () if errand.want => {
                let mut not = tips.ids();
                not.truncate(limits::COMMON);
                Message::bare(LiveMessage::Want { database, not })
            }
            () if errand.tell && !is_told => {
                let large = false;
                Message {
                    state: Some(state),
                    push: errand.push,
                    ..Message::bare(LiveMessage::Have {
                        database,
                        tips,
                        large,
                    })
                }
            }
            () => return,
        };
        if errand.tell && !is_told && message.state.is_none() {
            let push = errand.push;
            self.errands.add(database, |errand| {
                errand.tell = true;
                errand.push |= push;
            });
        }
        self.ask_to_say(database, message, now_ms);
    }

    fn say_packs(
        &mut self,
        database: Id,
        errand: &Errand,
        frontier: Frontier,
        page: &PackPage,
        now_ms: u64,
    ) {
        let message = match sending::entries(database, page) {
            Some((first, packs)) => {
                let tips = TipList::new(page.tips.clone());
                Message {
                    first,
                    packs,
                    state: Some(tips.digest()),
                    base: (!tips.is_cut()).then(|| tips.ids()),
                    push: errand.push,
                }
            }
            // The dialler sends what is too much by a sync of its own.
            None if self.role == Role::Dialler && !page.packs.is_empty() => {
                return self.event(Event::Lacks(database));
            }
            None => {
                let tips = TipList::new(frontier.tips);
                let (state, large) = (Some(tips.digest()), !page.packs.is_empty());
                let first = LiveMessage::Have {
                    database,
                    tips,
                    large,
                };
                Message {
                    state,
                    push: errand.push,
                    ..Message::bare(first)
                }
            }
        };
        let (want, compare) = (errand.want, errand.compare);
        if want || compare {
            self.errands.add(database, |errand| {
                (errand.want, errand.compare) = (want, compare)
            });
        }
        self.ask_to_say(database, message, now_ms);
    }

    fn ask_to_say(&mut self, database: Id, message: Message, now_ms: u64) {
        let access = self.access(database, now_ms);
        self.say_query = Some(self.ask(access));
        self.saying = Saying::Access(database, message);
    }

    /// The peer may read it.
    fn say_message(&mut self, database: Id, message: Message) {
        if let Some(sub) = self.subs.get_mut(&database) {
            sub.told = message.state.or(sub.told);
            if let Some(base) = message.base {
                sub.base = base;
            }
            self.queue(&Frame::Live(message.first));
            for pack in message.packs {
                self.queue(&Frame::Pack(pack));
            }
        }
    }

    /// The peer may not, or has not shown that it may: a sync asks it for its claims.
    fn withhold(&mut self, database: Id, message: &Message) {
        let is_dialler = self.role == Role::Dialler;
        if let Some(sub) = self.subs.get_mut(&database)
            && is_dialler
            && message.push
            && !std::mem::replace(&mut sub.is_withheld, true)
        {
            self.event(Event::Lacks(database));
        }
    }

    // Hearing.

    fn handle_frame(&mut self, bytes: &Bytes, now_ms: u64) -> Result<(), Failure> {
        if !self.wants_frame() {
            return Err(Failure::Driver("hands in a frame that is not wanted"));
        }
        if self.role == Role::Acceptor {
            self.since_ms = Some(now_ms);
        }
        let frame = Frame::decode(bytes).map_err(PeerFault::from)?;
        match (
            std::mem::replace(&mut self.hearing, Hearing::Nothing),
            frame,
        ) {
            (Hearing::Nothing, Frame::Live(message)) => self.hear(message, now_ms),
            (Hearing::Packs(arrival), Frame::Pack(pack)) => self.hear_pack(arrival, pack, now_ms),
            (_, Frame::Reply(crate::Reply::Refused(refusal))) => Err(Failure::Refused(refusal)),
            _ => Err(PeerFault::Unexpected("a frame").into()),
        }
    }

    fn hear(&mut self, message: LiveMessage, now_ms: u64) -> Result<(), Failure> {
        match (self.role, message) {
            (
                _,
                LiveMessage::Have {
                    database,
                    tips,
                    large,
                },
            ) => {
                if large && self.role == Role::Dialler && self.subs.contains_key(&database) {
                    self.event(Event::Lacks(database));
                } else if !large && self.subs.contains_key(&database) {
                    self.hear_told(Heard::Have(database, tips), now_ms);
                }
            }
            (
                _,
                LiveMessage::Entries {
                    database,
                    tips,
                    packs,
                },
            ) => {
                if packs == 0 {
                    return Err(PeerFault::Unexpected("no packs").into());
                }
                self.hearing = Hearing::Packs(Arrival {
                    database,
                    tips,
                    left: packs,
                    packs: Vec::new(),
                });
            }
            (_, LiveMessage::Want { database, not }) => {
                if self.subs.contains_key(&database) {
                    self.errands
                        .add(database, |errand| errand.answer = Some(not));
                }
            }
            (Role::Dialler, message) => self.hear_as_dialler(message)?,
            (Role::Acceptor, message) => self.hear_as_acceptor(message)?,
        }
        Ok(())
    }

    fn hear_as_dialler(&mut self, message: LiveMessage) -> Result<(), Failure> {
        match message {
            LiveMessage::Unknown => {
                let databases = self.ids();
                self.asked = None;
                self.plain.push_front(LiveMessage::Subscribe { databases });
            }
            LiveMessage::Claims { claims } => {
                let device = self.config.peer.device_key();
                self.config.peer = ProvenKeys::decode(device, &claims).map_err(PeerFault::from)?;
                self.subs
                    .values_mut()
                    .for_each(|sub| sub.is_withheld = false);
            }
            LiveMessage::Digest { all } => self.compare_with(Theirs::All(all))?,
            LiveMessage::State { digests } => self.compare_with(Theirs::Each(digests))?,
            LiveMessage::Compare { database } => {
                if self.subs.contains_key(&database) {
                    self.event(Event::Lacks(database));
                }
            }
            LiveMessage::Decided { request } => self.event(Event::Decided(request)),
            _ => return Err(PeerFault::Unexpected("a message of a dialler").into()),
        }
        Ok(())
    }

    fn compare_with(&mut self, theirs: Theirs) -> Result<(), Failure> {
        let unasked = || PeerFault::Unexpected("a digest");
        let asked = self.asked.take().ok_or_else(unasked)?;
        self.since_ms = None;
        self.hear_query = Some(self.ask(Query::Digests {
            databases: asked.clone(),
            peer: None,
        }));
        self.hearing = Hearing::Comparing(asked, theirs);
        Ok(())
    }

    fn hear_as_acceptor(&mut self, message: LiveMessage) -> Result<(), Failure> {
        match message {
            LiveMessage::Subscribe { databases } => {
                let new = databases
                    .iter()
                    .filter(|id| !self.subs.contains_key(id))
                    .count();
                let count = self.subs.len() + new;
                if count > limits::LIVE_DATABASES {
                    return Err(PeerFault::TooManyDatabases(count).into());
                }
                for id in &databases {
                    self.subs.entry(*id).or_default();
                }
                self.event(Event::Subscribed(databases));
                self.state(false);
            }
            LiveMessage::Unsubscribe { databases } => {
                let gone = self.unsubscribe(databases);
                self.event(Event::Unsubscribed(gone));
            }
            LiveMessage::Check => self.state(false),
            LiveMessage::Detail => self.state(true),
            _ => return Err(PeerFault::Unexpected("a message of an acceptor").into()),
        }
        Ok(())
    }

    /// Asks how the databases stand, as far as the peer may know.
    fn state(&mut self, each: bool) {
        let (databases, peer) = (self.ids(), Some(self.config.peer.clone()));
        self.hear_query = Some(self.ask(Query::Digests { databases, peer }));
        self.hearing = Hearing::Stating(each);
    }

    /// An acceptor takes news only from those who may read: for others there is no such database.
    fn hear_told(&mut self, heard: Heard, now_ms: u64) {
        if self.role == Role::Dialler {
            return self.take(heard);
        }
        let database = match &heard {
            Heard::Have(database, _) => *database,
            Heard::Entries(arrival) => arrival.database,
        };
        let access = self.access(database, now_ms);
        self.hear_query = Some(self.ask(access));
        self.hearing = Hearing::Access(heard);
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Have(database, tips) => {
                let ids = tips.ids();
                self.hear_query = Some(self.ask(Query::Known { database, ids }));
                self.hearing = Hearing::Known(database, tips);
            }
            Heard::Entries(mut arrival) => {
                let id = IngestId(self.next_ingest);
                self.next_ingest += 1;
                self.ingest = Some(id);
                let batch = IngestBatch {
                    database: arrival.database,
                    packs: std::mem::take(&mut arrival.packs),
                    create: false,
                };
                self.outputs.push_back(Output::Ingest(id, batch));
                self.hearing = Hearing::Ingesting(arrival);
            }
        }
    }

    fn hear_pack(&mut self, mut arrival: Arrival, pack: Bytes, now_ms: u64) -> Result<(), Failure> {
        arrival.packs.push(pack);
        let bytes: usize = arrival.packs.iter().map(Bytes::len).sum();
        if bytes > limits::LIVE_BYTES {
            return Err(PeerFault::Unexpected("large packs").into());
        }
        arrival.left -= 1;
        if arrival.left > 0 {
            self.hearing = Hearing::Packs(arrival);
        } else if self.subs.contains_key(&arrival.database) {
            self.hear_told(Heard::Entries(arrival), now_ms);
        }
        Ok(())
    }

    // Answers.

    fn handle_answer(&mut self, id: QueryId, answer: Answer, now_ms: u64) -> Result<(), Failure> {
        if self.ended.is_some() {
            return Ok(());
        }
        if self.say_query.take_if(|query| *query == id).is_some() {
            return self.go_on_saying(answer, now_ms);
        }
        if self.hear_query.take_if(|query| *query == id).is_some() {
            return self.go_on_hearing(answer);
        }
        Err(Failure::Driver("answers a query that was not asked"))
    }

    fn go_on_saying(&mut self, answer: Answer, now_ms: u64) -> Result<(), Failure> {
        match (std::mem::replace(&mut self.saying, Saying::Nothing), answer) {
            (Saying::Tips(database, errand), Answer::Tips(Some(frontier))) => {
                self.say_tips(database, errand, frontier, now_ms);
            }
            (Saying::Tips(..), Answer::Tips(None)) => {}
            (Saying::Packs(database, errand, frontier), Answer::Packs(page)) => {
                self.say_packs(database, &errand, frontier, &page, now_ms);
            }
            (Saying::Access(database, message), Answer::Access(true)) => {
                self.say_message(database, message);
            }
            (Saying::Access(database, message), Answer::Access(false)) => {
                self.withhold(database, &message);
            }
            _ => return Err(Failure::Driver("answers another question than was asked")),
        }
        Ok(())
    }

    fn go_on_hearing(&mut self, answer: Answer) -> Result<(), Failure> {
        match (
            std::mem::replace(&mut self.hearing, Hearing::Nothing),
            answer,
        ) {
            (Hearing::Access(heard), Answer::Access(true)) => self.take(heard),
            (Hearing::Access(_), Answer::Access(false)) => {}
            (Hearing::Known(database, tips), Answer::Known(known)) => {
                self.hear_known(database, tips, &known);
            }
            (Hearing::Ours(database, tips), Answer::Tips(Some(frontier))) => {
                self.hear_ours(database, &tips, frontier);
            }
            (Hearing::Ours(..), Answer::Tips(None)) => {}
            (Hearing::Stating(each), Answer::Digests(digests)) => self.say_state(each, digests)?,
            (Hearing::Comparing(asked, theirs), Answer::Digests(ours)) => {
                self.compare(&asked, &theirs, &ours)?;
            }
            _ => return Err(Failure::Driver("answers another question than was asked")),
        }
        Ok(())
    }

    fn hear_known(&mut self, database: Id, tips: TipList, known: &[bool]) {
        let Some(sub) = self.subs.get_mut(&database) else {
            return;
        };
        sub.theirs = Some(tips.digest());
        if known.iter().all(|known| *known) {
            if !tips.is_cut() {
                sub.base = tips.ids();
            }
            self.hear_query = Some(self.ask(Query::Tips { database }));
            self.hearing = Hearing::Ours(database, tips);
        } else {
            self.errands.add(database, |errand| errand.want = true);
        }
    }

    /// The peer's tips are all here. Are they ours?
    fn hear_ours(&mut self, database: Id, theirs: &TipList, frontier: Frontier) {
        let ours = TipList::new(frontier.tips.clone()).digest();
        if ours == theirs.digest() {
            self.event(Event::Holds(database, frontier.tips));
        }
        // Whoever told its tips learns that they are here, once.
        if self
            .subs
            .get(&database)
            .is_some_and(|sub| sub.told != Some(ours))
        {
            self.errands.add(database, |errand| errand.tell = true);
        }
    }

    fn say_state(&mut self, each: bool, digests: Vec<Digest>) -> Result<(), Failure> {
        if digests.len() != self.subs.len() {
            return Err(Failure::Driver("answers with another number of digests"));
        }
        let readable = self
            .subs
            .keys()
            .zip(&digests)
            .find(|(_, digest)| !digest.is_none())
            .map(|(id, _)| *id);
        if let Some(database) = readable.filter(|_| !self.has_shown) {
            self.has_shown = true;
            let claims = self.config.claims.iter().filter(|c| c.covers(&database));
            let claims =
                encode_claims(claims).map_err(|error| Failure::Local(error.to_string()))?;
            self.plain.push_back(LiveMessage::Claims { claims });
        }
        self.plain.push_back(match each {
            true => LiveMessage::State { digests },
            false => LiveMessage::Digest {
                all: Digest::of_all(self.subs.keys().zip(&digests)),
            },
        });
        Ok(())
    }

    fn compare(&mut self, asked: &[Id], theirs: &Theirs, ours: &[Digest]) -> Result<(), Failure> {
        if asked.len() != ours.len() {
            return Err(Failure::Driver("answers with another number of digests"));
        }
        match theirs {
            Theirs::All(all) => {
                let absent = |id: &Id| self.subs.get(id).is_some_and(|sub| sub.is_absent);
                let ours: Vec<Digest> = asked
                    .iter()
                    .zip(ours)
                    .map(|(id, digest)| if absent(id) { Digest::NONE } else { *digest })
                    .collect();
                if Digest::of_all(asked.iter().zip(&ours)) == *all {
                    for (id, digest) in asked.iter().zip(ours) {
                        if let Some(sub) = self.subs.get_mut(id) {
                            sub.theirs = Some(digest);
                        }
                    }
                    self.event(Event::Checked);
                } else {
                    self.plain.push_back(LiveMessage::Detail);
                }
            }
            Theirs::Each(theirs) if theirs.len() == asked.len() => {
                for ((id, ours), theirs) in asked.iter().zip(ours).zip(theirs) {
                    self.compare_one(*id, *ours, *theirs);
                }
                self.event(Event::Checked);
            }
            Theirs::Each(_) => return Err(PeerFault::Unexpected("a state of others").into()),
        }
        Ok(())
    }

    fn compare_one(&mut self, database: Id, ours: Digest, theirs: Digest) {
        let Some(sub) = self.subs.get_mut(&database) else {
            return;
        };
        let was_absent = std::mem::replace(&mut sub.is_absent, theirs.is_none());
        if theirs.is_none() {
            if !was_absent {
                self.event(Event::Absent(database));
            }
            return;
        }
        sub.theirs = Some(theirs);
        if ours != theirs {
            self.event(Event::Lacks(database));
        }
    }

    fn handle_ingested(
        &mut self,
        id: IngestId,
        report: Result<IngestReport, IngestError>,
    ) -> Result<(), Failure> {
        if self.ingest.take_if(|running| *running == id).is_none() {
            return Err(Failure::Driver("reports an ingest that does not run"));
        }
        let Hearing::Ingesting(arrival) = std::mem::replace(&mut self.hearing, Hearing::Nothing)
        else {
            return Ok(());
        };
        let report = report.map_err(crate::receive::failure)?;
        let (database, new) = (arrival.database, report.new);
        self.event(Event::Received { database, new });
        if report.pending > 0 || !report.rejected.is_empty() {
            match self.role {
                Role::Dialler => self.event(Event::Lacks(database)),
                Role::Acceptor => self.errands.add(database, |errand| errand.compare = true),
            }
        } else {
            // As if it had only told its tips, which are here now.
            let ids = arrival.tips.ids();
            self.hear_query = Some(self.ask(Query::Known { database, ids }));
            self.hearing = Hearing::Known(database, arrival.tips);
        }
        Ok(())
    }

    /// Whether [`Output::Done`] was given out.
    pub fn is_finished(&self) -> bool {
        self.is_done
    }
}

impl Message {
    /// One that says nothing of our state.
    fn bare(first: LiveMessage) -> Self {
        Self {
            first,
            packs: Vec::new(),
            state: None,
            base: None,
            push: false,
        }
    }
}
