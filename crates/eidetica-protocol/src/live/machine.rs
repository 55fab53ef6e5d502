//! The machine of both ends of a live stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, RequestId};
use eidetica_entry::{Id, Stamp};

use super::{
    LiveMessage, LiveOpen, digest::Digest, hearing::Hearing, saying::Saying, sending::Errands,
    set_hash,
};
use crate::{
    Answer, Failure, Frame, Holding, IngestId, Input, Output, ProvenKeys, Query, QueryId, Refusal,
    Reply, Request, Stores, limits,
};

/// Who is at the other end, and what the stream is about.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// What the peer has proven.
    pub peer: ProvenKeys,
    /// The version to speak, from the handshake.
    pub version: u16,
    /// Claims for this node's own device, shown by the acceptor to those who may read something here. Others take their
    /// place by [`Notice::Claims`].
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
    /// These are the claims for this node's device from now on (acceptor): whoever may see them is shown what is new, and
    /// no more what is gone. A peer that ignores the latter goes on believing a claim until that is over.
    Claims(Vec<DeviceClaim>),
    /// Say why there is no stream, then end (acceptor). Whatever else was to be said is not.
    Refuse(Refusal),
}

/// What a stream tells the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer answered how all databases stand; to the dialler, after each check.
    Checked,
    /// A sync of this database is needed; to the dialler.
    Lacks(Id),
    /// Payloads are missing here, or there, that the other side may have: a sync of this database may bring them; to the
    /// dialler. It is said as often as it shows, so whoever hears it takes care not to ask in vain again and again.
    Incomplete(Id),
    /// The peer has these tips, and they are ours; and so much of the payloads, if that is known.
    Holds(Id, Vec<Stamp>, Option<Holding>),
    /// The peer has so much of the payloads from now on; none if that is too much to remember.
    Holding(Id, Option<Holding>),
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
    pub(super) role: Role,
    pub(super) config: LiveConfig,
    pub(super) subs: BTreeMap<Id, Sub>,
    pub(super) outputs: VecDeque<Output<(), Event>>,
    /// Frames ready to be sent, one message at a time.
    pub(super) frames: VecDeque<Bytes>,
    /// Whether the transport has taken the last one.
    pub(super) is_sent: bool,
    /// Messages that are not about the tips of one database; what they say is computed when they are sent.
    pub(super) plain: VecDeque<LiveMessage>,
    pub(super) errands: Errands,
    /// Of all that the peer says that it holds.
    pub(super) names_bytes: usize,
    pub(super) saying: Saying,
    pub(super) hearing: Hearing,
    pub(super) next_query: u64,
    pub(super) say_query: Option<QueryId>,
    pub(super) hear_query: Option<QueryId>,
    pub(super) ingest: Option<IngestId>,
    pub(super) next_ingest: u64,
    /// Which of its claims the acceptor has shown; none before it has shown any.
    pub(super) shown: Option<Vec<DeviceClaim>>,
    /// Whether there are other claims than when they were shown.
    pub(super) has_other_claims: bool,
    /// What the acceptor takes the stream to be about once it has read what was said (dialler). What is subscribed to
    /// is ahead of that by the messages that wait.
    pub(super) agreed: BTreeSet<Id>,
    /// What a digest that is due is about (dialler).
    pub(super) asked: Option<Vec<Id>>,
    /// Since when an answer is due (dialler), or the last frame came (acceptor).
    pub(super) since_ms: Option<u64>,
    /// Whether a refusal is the last thing that is said.
    pub(super) is_refusing: bool,
    pub(super) ended: Option<Result<(), Failure>>,
    pub(super) is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dialler,
    Acceptor,
}

/// A database that the stream is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Sub {
    /// Our state as the peer knows it from us.
    pub(super) told: Option<Digest>,
    /// The peer's state as we know it from the peer.
    pub(super) theirs: Option<Digest>,
    /// Tips that both have, or will have when what is on its way arrives.
    pub(super) base: Vec<Id>,
    /// What the peer knows from us that we hold.
    pub(super) told_holding: Holding,
    /// What the peer says that it holds.
    pub(super) their_holding: Holding,
    /// Whether that is more than it says, because there was no room to remember it.
    pub(super) is_cut: bool,
    /// Whether payloads were missing here when that was last looked at.
    pub(super) lacks: bool,
    /// Of which stores there were any.
    pub(super) offers: Stores,
    /// Not there for us (dialler).
    pub(super) is_absent: bool,
    /// A sync was asked for because the peer has not proven that it may read (dialler).
    pub(super) is_withheld: bool,
}

impl Live {
    /// The end that opens the stream.
    pub fn dial(config: LiveConfig) -> Self {
        let mut live = Self::new(Role::Dialler, config);
        let open = LiveOpen {
            set: set_hash(live.subs.keys()),
            count: u32::try_from(live.subs.len()).unwrap_or(u32::MAX),
        };
        live.agreed = live.subs.keys().copied().collect();
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
            names_bytes: 0,
            saying: Saying::Nothing,
            hearing: Hearing::Nothing,
            next_query: 0,
            say_query: None,
            hear_query: None,
            ingest: None,
            next_ingest: 0,
            shown: None,
            has_other_claims: false,
            agreed: BTreeSet::new(),
            asked: None,
            since_ms: None,
            is_refusing: false,
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
        // Whoever asks and does not read the answers is not asked for more; an answer that is due is always read, because
        // the next question waits for it.
        let has_room = self.asked.is_some() || self.plain.len() < limits::LIVE_WAITING;
        self.ended.is_none() && !self.is_refusing && is_free && has_room
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
            // Frames of a live stream are short.
            Input::Moving | Input::Tick => self.check_silence(now_ms),
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
                let databases = self.unsubscribe(databases);
                if !databases.is_empty() {
                    self.plain.push_back(LiveMessage::Unsubscribe { databases });
                }
            }
            Notice::Check if self.plain.contains(&LiveMessage::Check) => {}
            Notice::Check => self.plain.push_back(LiveMessage::Check),
            Notice::Decided(request) => self.plain.push_back(LiveMessage::Decided { request }),
            Notice::Claims(claims) => {
                self.config.claims = claims;
                self.has_other_claims = self.shown.is_some();
            }
            Notice::Refuse(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        if !self.is_refusing && self.ended.is_none() {
            self.is_refusing = true;
            self.frames.clear();
            self.queue(&Frame::Reply(Reply::Refused(refusal)));
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
        if !self.is_refusing {
            self.show_other_claims();
            self.say(now_ms);
        } else if self.is_sent && self.frames.is_empty() {
            self.end(Ok(()));
            return Output::End;
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
    pub(super) fn silent_until(&mut self, now_ms: u64) -> Option<u64> {
        let limit = match self.role {
            Role::Dialler => self.asked.as_ref().map(|_| limits::LIVE_ANSWER_MS)?,
            Role::Acceptor => limits::LIVE_SILENCE_MS,
        };
        Some(self.since_ms.get_or_insert(now_ms).saturating_add(limit))
    }

    pub(super) fn check_silence(&mut self, now_ms: u64) -> Result<(), Failure> {
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

    pub(super) fn end(&mut self, result: Result<(), Failure>) {
        if self.ended.is_none() {
            self.outputs
                .retain(|output| matches!(output, Output::Ingest(..) | Output::Event(_)));
            self.ended = Some(result);
        }
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        self.subs.keys().copied().collect()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(super) fn ask(&mut self, query: Query) -> QueryId {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.outputs.push_back(Output::Query(id, query));
        id
    }

    pub(super) fn access(&self, database: Id, now_ms: u64) -> Query {
        let keys = self.config.peer.keys_for(&database, now_ms);
        Query::CanRead { database, keys }
    }

    pub(super) fn subscribe(&mut self, databases: Vec<Id>) {
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
        // All that one question asks of is in `subs`, which is as much as it may ask of.
        if let Some(LiveMessage::Subscribe { databases }) = self.plain.back_mut() {
            databases.extend(new);
            databases.sort_unstable();
        } else {
            self.plain
                .push_back(LiveMessage::Subscribe { databases: new });
        }
    }

    /// Those that were subscribed to, in order.
    pub(super) fn unsubscribe(&mut self, databases: Vec<Id>) -> Vec<Id> {
        let mut gone: Vec<Id> = databases
            .into_iter()
            .filter(|id| {
                let sub = self.subs.remove(id);
                sub.inspect(|sub| self.names_bytes -= sub.their_holding.bytes())
                    .is_some()
            })
            .collect();
        gone.iter().for_each(|id| self.errands.forget(id));
        gone.sort_unstable();
        gone
    }

    pub(super) fn handle_answer(
        &mut self,
        id: QueryId,
        answer: Answer,
        now_ms: u64,
    ) -> Result<(), Failure> {
        if self.ended.is_some() || self.is_refusing {
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

    /// Whether [`Output::Done`] was given out.
    pub fn is_finished(&self) -> bool {
        self.is_done
    }
}
