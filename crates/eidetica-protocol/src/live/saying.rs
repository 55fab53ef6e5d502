//! What a stream says: one thing at a time, and only what the peer may read.

use bytes::Bytes;
use eidetica_auth::DeviceClaim;
use eidetica_entry::Id;

use super::{
    Digest, Event, Live, LiveMessage, Standing,
    machine::Role,
    sending::{self, Errand},
};
use crate::{
    Answer, Failure, Frame, Frontier, Holding, PackPage, Query, TipList, claims::encode_claims,
    limits,
};

/// The step of what is being said.
#[derive(Debug)]
pub(super) enum Saying {
    Nothing,
    /// Asked whether the peer may read what this is about (acceptor).
    May(Id, Errand),
    /// Asked for our tips.
    Tips(Id, Errand),
    /// Asked for the packs.
    Packs(Id, Errand, Frontier),
    /// Asked whether the peer may read this.
    Access(Id, Message),
}

/// What is said about one database.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// What we hold, which the peer is to know first.
    pub(super) holding: Option<Holding>,
    /// Nothing else, if none.
    pub(super) first: Option<LiveMessage>,
    pub(super) packs: Vec<Bytes>,
    /// Our state, if this says it.
    pub(super) state: Option<Digest>,
    pub(super) base: Option<Vec<Id>>,
    pub(super) push: bool,
}

impl Live {
    /// Begins to say the next thing, when the last one is on its way.
    pub(super) fn say(&mut self, now_ms: u64) {
        if !self.frames.is_empty() || !matches!(self.saying, Saying::Nothing) {
            return;
        }
        // One question at a time: the answer is about what was subscribed to when it was asked.
        let waits = |message: &mut LiveMessage| !(message.is_question() && self.asked.is_some());
        if let Some(message) = self.plain.pop_front_if(waits) {
            return self.say_plain(message, now_ms);
        }
        if let Some((database, errand)) = self.errands.next() {
            match self.role {
                // It subscribed to what is synced with the peer anyway.
                Role::Dialler => self.ask_tips(database, errand),
                // Anybody may subscribe to anything.
                Role::Acceptor => {
                    let access = self.access(database, now_ms);
                    self.say_query = Some(self.ask(access));
                    self.saying = Saying::May(database, errand);
                }
            }
        }
    }

    fn ask_tips(&mut self, database: Id, errand: Errand) {
        self.say_query = Some(self.ask(Query::Tips { database }));
        self.saying = Saying::Tips(database, errand);
    }

    fn say_plain(&mut self, message: LiveMessage, now_ms: u64) {
        match &message {
            LiveMessage::Subscribe { databases } => self.agreed.extend(databases),
            LiveMessage::Unsubscribe { databases } => {
                self.agreed
                    .retain(|id| databases.binary_search(id).is_err());
            }
            _ => {}
        }
        if message.is_question() {
            self.asked = Some(self.agreed.iter().copied().collect());
            self.since_ms = Some(now_ms);
        }
        self.queue(&Frame::Live(message));
    }

    pub(super) fn queue(&mut self, frame: &Frame) {
        match frame.encode() {
            Ok(bytes) => self.frames.push_back(bytes),
            Err(error) => self.end(Err(Failure::Local(error.to_string()))),
        }
    }

    /// Our tips are known: what is to be said of them?
    pub(super) fn say_tips(
        &mut self,
        database: Id,
        errand: Errand,
        frontier: Frontier,
        now_ms: u64,
    ) {
        self.note_holding(database, &frontier);
        let Some(sub) = self.subs.get(&database) else {
            return;
        };
        let holding = self.untold(&database, &frontier);
        let tips = TipList::new(frontier.tips.clone());
        let state = tips.digest();
        let is_told = sub.told == Some(state);
        let is_theirs = sub.theirs == Some(state);
        let pushes = errand.push && !is_theirs && !is_told && !sub.base.is_empty();
        if errand.answer.is_some() || pushes {
            let not = errand.answer.clone().unwrap_or_else(|| sub.base.clone());
            let stores = sub.their_holding.stores.clone();
            self.say_query = Some(self.ask(Query::Difference {
                database,
                not,
                // What the peer has of the delegated databases is guessed: if it is wrong, a sync follows.
                closures: frontier.closures.clone(),
                stores,
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
            () if holding.is_some() => Message::default(),
            () => return,
        };
        if errand.tell && !is_told && message.state.is_none() {
            let push = errand.push;
            self.errands.add(database, |errand| {
                errand.tell = true;
                errand.push |= push;
            });
        }
        self.ask_to_say(database, Message { holding, ..message }, now_ms);
    }

    pub(super) fn say_packs(
        &mut self,
        database: Id,
        errand: &Errand,
        frontier: Frontier,
        page: &PackPage,
        now_ms: u64,
    ) {
        let holding = self.untold(&database, &frontier);
        let message = match sending::entries(database, page) {
            Some((first, packs)) => {
                let tips = TipList::new(page.tips.clone());
                Message {
                    packs,
                    state: Some(tips.digest()),
                    base: (!tips.is_cut()).then(|| tips.ids()),
                    push: errand.push,
                    ..Message::bare(first)
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
        self.ask_to_say(database, Message { holding, ..message }, now_ms);
    }

    pub(super) fn ask_to_say(&mut self, database: Id, message: Message, now_ms: u64) {
        let access = self.access(database, now_ms);
        self.say_query = Some(self.ask(access));
        self.saying = Saying::Access(database, message);
    }

    /// The peer may read it.
    pub(super) fn say_message(&mut self, database: Id, message: Message) {
        if let Some(sub) = self.subs.get_mut(&database) {
            sub.told = message.state.or(sub.told);
            if let Some(mut base) = message.base {
                // Fewer cost bytes, never entries.
                base.truncate(limits::COMMON);
                sub.base = base;
            }
            let holds = message.holding.map(|holding| {
                sub.told_holding = holding;
                sub.told_holding.message(database)
            });
            for first in holds.into_iter().chain(message.first) {
                self.queue(&Frame::Live(first));
            }
            for pack in message.packs {
                self.queue(&Frame::Pack(pack));
            }
        }
    }

    /// The peer may not, or has not shown that it may: a sync asks it for its claims.
    pub(super) fn withhold(&mut self, database: Id, message: &Message) {
        let is_dialler = self.role == Role::Dialler;
        if let Some(sub) = self.subs.get_mut(&database)
            && is_dialler
            && message.push
            && !std::mem::replace(&mut sub.is_withheld, true)
        {
            self.event(Event::Lacks(database));
        }
    }

    pub(super) fn go_on_saying(&mut self, answer: Answer, now_ms: u64) -> Result<(), Failure> {
        match (std::mem::replace(&mut self.saying, Saying::Nothing), answer) {
            (Saying::May(database, errand), Answer::Access(true)) => {
                self.ask_tips(database, errand);
            }
            (Saying::May(..), Answer::Access(false)) => {}
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

    pub(super) fn say_state(&mut self, each: bool, standings: &[Standing]) -> Result<(), Failure> {
        self.show_claims(standings)?;
        let digests: Vec<Digest> = standings.iter().map(|one| one.digest).collect();
        self.plain.push_back(match each {
            true => LiveMessage::State { digests },
            false => LiveMessage::Digest {
                all: Digest::of_all(self.subs.keys().zip(&digests)),
            },
        });
        for (database, ours) in self.ids().into_iter().zip(standings) {
            self.note_standing(database, *ours);
        }
        Ok(())
    }

    /// Shows whoever may read something here the claims for that, and again when there are others.
    pub(super) fn show_claims(&mut self, standings: &[Standing]) -> Result<(), Failure> {
        if standings.len() != self.subs.len() {
            return Err(Failure::Driver("answers with another number of digests"));
        }
        let states = self.subs.keys().zip(standings);
        let readable = states.filter(|(_, standing)| !standing.digest.is_none());
        let readable: Vec<&Id> = readable.map(|(id, _)| id).collect();
        if readable.is_empty() {
            return Ok(());
        }
        let covers = |claim: &DeviceClaim| readable.iter().any(|id| claim.covers(id));
        let before = self.shown.as_ref();
        let is_shown = |claim: &DeviceClaim| before.is_some_and(|shown| shown.contains(claim));
        let shows = |claim: &&DeviceClaim| covers(claim) || is_shown(claim);
        let claims: Vec<DeviceClaim> = self.config.claims.iter().filter(shows).cloned().collect();
        if before != Some(&claims) {
            let bytes = encode_claims(claims.iter());
            let bytes = bytes.map_err(|error| Failure::Local(error.to_string()))?;
            self.shown = Some(claims);
            // What waits to be said is out of date.
            self.plain
                .retain(|waits| !matches!(waits, LiveMessage::Claims { .. }));
            self.plain.push_back(LiveMessage::Claims { claims: bytes });
        }
        Ok(())
    }
}

impl Message {
    /// One that says nothing of our state.
    fn bare(first: LiveMessage) -> Self {
        Self {
            first: Some(first),
            ..Self::default()
        }
    }
}
