//! What a stream hears, and what it makes of it.

use bytes::Bytes;
use eidetica_entry::Id;

use super::{Digest, Event, Live, LiveMessage, Standing, machine::Role};
use crate::{
    Answer, Failure, Frame, Frontier, Holding, IngestBatch, IngestError, IngestId, IngestReport,
    Output, PeerFault, ProvenKeys, Query, TipList, handshake::HOLDINGS, limits,
};

/// The step of what is being heard.
#[derive(Debug)]
pub(super) enum Hearing {
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
    /// Asked for the same because there are other claims to show (acceptor).
    Showing,
    /// Asked for our digests, to compare with the peer's (dialler).
    Comparing(Vec<Id>, Theirs),
}

#[derive(Debug)]
pub(super) enum Heard {
    Have(Id, TipList),
    Entries(Arrival),
    /// What the peer has, which is not to be sent.
    Want(Id, Vec<Id>),
}

#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) database: Id,
    pub(super) tips: TipList,
    pub(super) left: u32,
    pub(super) packs: Vec<Bytes>,
}

#[derive(Debug)]
pub(super) enum Theirs {
    All(Digest),
    Each(Vec<Digest>),
}

impl Live {
    pub(super) fn handle_frame(&mut self, bytes: &Bytes, now_ms: u64) -> Result<(), Failure> {
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

    pub(super) fn hear(&mut self, message: LiveMessage, now_ms: u64) -> Result<(), Failure> {
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
                    self.hear_told(Heard::Want(database, not), now_ms);
                }
            }
            (
                _,
                LiveMessage::Holds {
                    database,
                    stores,
                    lacks,
                },
            ) if self.config.version >= HOLDINGS => {
                self.hear_holding(database, Holding { stores, lacks });
            }
            (Role::Dialler, message) => self.hear_as_dialler(message)?,
            (Role::Acceptor, message) => self.hear_as_acceptor(message)?,
        }
        Ok(())
    }

    pub(super) fn hear_as_dialler(&mut self, message: LiveMessage) -> Result<(), Failure> {
        match message {
            LiveMessage::Unknown => {
                let databases = self.ids();
                self.asked = None;
                self.agreed.clear();
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

    pub(super) fn compare_with(&mut self, theirs: Theirs) -> Result<(), Failure> {
        let unasked = || PeerFault::Unexpected("a digest");
        let asked = self.asked.take().ok_or_else(unasked)?;
        self.since_ms = None;
        // Whatever sync was asked for has ended by now, or this asks for it once more.
        self.subs
            .values_mut()
            .for_each(|sub| sub.is_withheld = false);
        self.hear_query = Some(self.ask(Query::Digests {
            databases: asked.clone(),
            peer: None,
        }));
        self.hearing = Hearing::Comparing(asked, theirs);
        Ok(())
    }

    pub(super) fn hear_as_acceptor(&mut self, message: LiveMessage) -> Result<(), Failure> {
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
    pub(super) fn state(&mut self, each: bool) {
        self.ask_standings();
        self.hearing = Hearing::Stating(each);
    }

    fn ask_standings(&mut self) {
        let (databases, peer) = (self.ids(), Some(self.config.peer.clone()));
        self.hear_query = Some(self.ask(Query::Digests { databases, peer }));
    }

    /// Shows the claims that there are now, once nothing is being heard.
    pub(super) fn show_other_claims(&mut self) {
        if self.has_other_claims && matches!(self.hearing, Hearing::Nothing) {
            self.has_other_claims = false;
            self.ask_standings();
            self.hearing = Hearing::Showing;
        }
    }

    /// An acceptor takes news and questions only from those who may read: for others there is no such database, and
    /// nothing is looked up.
    pub(super) fn hear_told(&mut self, heard: Heard, now_ms: u64) {
        if self.role == Role::Dialler {
            return self.take(heard);
        }
        let database = match &heard {
            Heard::Have(database, _) | Heard::Want(database, _) => *database,
            Heard::Entries(arrival) => arrival.database,
        };
        let access = self.access(database, now_ms);
        self.hear_query = Some(self.ask(access));
        self.hearing = Hearing::Access(heard);
    }

    pub(super) fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Want(database, not) => {
                self.errands
                    .add(database, |errand| errand.answer = Some(not));
            }
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

    pub(super) fn hear_pack(
        &mut self,
        mut arrival: Arrival,
        pack: Bytes,
        now_ms: u64,
    ) -> Result<(), Failure> {
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

    pub(super) fn go_on_hearing(&mut self, answer: Answer) -> Result<(), Failure> {
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
            (Hearing::Stating(each), Answer::Digests(digests)) => self.say_state(each, &digests)?,
            (Hearing::Showing, Answer::Digests(digests)) => self.show_claims(&digests)?,
            (Hearing::Comparing(asked, theirs), Answer::Digests(ours)) => {
                self.compare(&asked, &theirs, &ours)?;
            }
            _ => return Err(Failure::Driver("answers another question than was asked")),
        }
        Ok(())
    }

    pub(super) fn hear_known(&mut self, database: Id, tips: TipList, known: &[bool]) {
        let Some(sub) = self.subs.get_mut(&database) else {
            return;
        };
        sub.theirs = Some(tips.digest());
        if known.iter().all(|known| *known) {
            if !tips.is_cut() {
                sub.base = tips.ids();
                sub.base.truncate(limits::COMMON);
            }
            self.hear_query = Some(self.ask(Query::Tips { database }));
            self.hearing = Hearing::Ours(database, tips);
        } else {
            self.errands.add(database, |errand| errand.want = true);
        }
    }

    /// The peer's tips are all here. Are they ours?
    pub(super) fn hear_ours(&mut self, database: Id, theirs: &TipList, frontier: Frontier) {
        self.note_holding(database, &frontier);
        let is_untold = self.untold(&database, &frontier).is_some();
        let ours = TipList::new(frontier.tips.clone()).digest();
        if ours == theirs.digest() {
            let holding = self.holding_of(&database);
            self.event(Event::Holds(database, frontier.tips, holding));
        }
        // Whoever told its tips learns that they are here, once.
        if self
            .subs
            .get(&database)
            .is_some_and(|sub| is_untold || sub.told != Some(ours))
        {
            self.errands.add(database, |errand| errand.tell = true);
        }
    }

    pub(super) fn compare(
        &mut self,
        asked: &[Id],
        theirs: &Theirs,
        ours: &[Standing],
    ) -> Result<(), Failure> {
        if asked.len() != ours.len() {
            return Err(Failure::Driver("answers with another number of digests"));
        }
        match theirs {
            Theirs::All(all) => {
                let absent = |id: &Id| self.subs.get(id).is_some_and(|sub| sub.is_absent);
                let ours: Vec<(Id, Standing)> = asked
                    .iter()
                    .zip(ours)
                    .map(|(id, ours)| {
                        if absent(id) {
                            (*id, Standing::default())
                        } else {
                            (*id, *ours)
                        }
                    })
                    .collect();
                if Digest::of_all(ours.iter().map(|(id, ours)| (id, &ours.digest))) == *all {
                    for (id, ours) in ours {
                        if let Some(sub) = self.subs.get_mut(&id) {
                            sub.theirs = Some(ours.digest);
                        }
                        self.note_lacks(id, ours.lacks);
                        self.note_standing(id, ours);
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

    pub(super) fn compare_one(&mut self, database: Id, ours: Standing, theirs: Digest) {
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
        match ours.digest == theirs {
            true => {
                self.note_lacks(database, ours.lacks);
                self.note_standing(database, ours);
            }
            false => self.event(Event::Lacks(database)),
        }
    }

    pub(super) fn handle_ingested(
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
        let database = arrival.database;
        let report = match report {
            Ok(report) => report,
            // It is full, or closed for a repair. What is said of others goes on, and a sync of this one fails by itself.
            Err(IngestError::Unavailable(_)) => {
                if self.role == Role::Dialler {
                    self.event(Event::Lacks(database));
                }
                return Ok(());
            }
            Err(error) => return Err(crate::receive::failure(error)),
        };
        let new = report.new;
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
}
