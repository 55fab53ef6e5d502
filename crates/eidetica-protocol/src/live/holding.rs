//! Payloads: which of them each side says that it holds, and what is done about those that are missing.

use eidetica_entry::{Id, StoreName};

use super::{
    Event, Live, LiveMessage, Standing,
    machine::{Role, Sub},
};
use crate::{
    Frontier, Holding, Stores,
    handshake::{HOLDINGS, PAYLOADS},
    limits,
};

impl Holding {
    fn of(frontier: &Frontier) -> Self {
        Self {
            stores: frontier.holds.clone(),
            lacks: frontier.lacks,
        }
    }

    pub(super) fn message(&self, database: Id) -> LiveMessage {
        LiveMessage::Holds {
            database,
            stores: self.stores.clone(),
            lacks: self.lacks,
        }
    }

    /// What remembering it takes.
    pub(super) fn bytes(&self) -> usize {
        let names = self.stores.some().unwrap_or_default();
        names
            .iter()
            .map(|name: &StoreName| name.as_str().len())
            .sum()
    }
}

impl Sub {
    /// Whether one side lacks what the other may have, where we hold these stores.
    fn may_be_filled(&self, holds: &Stores) -> bool {
        let theirs = &self.their_holding;
        let here = self.lacks && !theirs.stores.and(holds).is_none();
        here || (theirs.lacks && !theirs.stores.and(&self.offers).is_none())
    }
}

impl Live {
    /// What the peer has to know before it hears anything else of the database.
    pub(super) fn untold(&self, database: &Id, frontier: &Frontier) -> Option<Holding> {
        let sub = self.subs.get(database)?;
        let holding = Holding::of(frontier);
        let is_news = self.config.version >= HOLDINGS && sub.told_holding != holding;
        is_news.then_some(holding)
    }

    /// Takes note of what is here. A dialler sees to it that what one side lacks comes from the other.
    pub(super) fn note_holding(&mut self, database: Id, frontier: &Frontier) {
        if let Some(sub) = self.subs.get_mut(&database) {
            sub.lacks = frontier.lacks;
            sub.offers = frontier.offers.clone();
            if sub.may_be_filled(&frontier.holds) {
                self.fill(database);
            }
        }
    }

    /// A digest is the same: what is missing does not show in it.
    pub(super) fn note_lacks(&mut self, database: Id, lacks: bool) {
        if let Some(sub) = self.subs.get_mut(&database) {
            sub.lacks = lacks;
            if lacks {
                self.fill(database);
            }
        }
    }

    /// The peer hears nothing of a database that stands as it does there, and so not what is held of it.
    pub(super) fn note_standing(&mut self, database: Id, ours: Standing) {
        let speaks = self.config.version >= HOLDINGS;
        let Some(sub) = self.subs.get(&database).filter(|_| speaks) else {
            return;
        };
        let told = &sub.told_holding;
        let is_here = !ours.digest.is_none();
        if is_here && (told.lacks, told.stores.is_all()) != (ours.lacks, !ours.is_partial) {
            self.errands.add(database, |_| {});
        }
    }

    /// What the peer has of the payloads; none if that is not known.
    pub(super) fn holding_of(&self, database: &Id) -> Option<Holding> {
        let sub = self.subs.get(database)?;
        match self.config.version {
            // Nobody could leave anything out.
            ..PAYLOADS => Some(Holding::default()),
            PAYLOADS..HOLDINGS => None,
            _ => (!sub.is_cut).then(|| sub.their_holding.clone()),
        }
    }

    /// The peer says what it holds.
    pub(super) fn hear_holding(&mut self, database: Id, mut holding: Holding) {
        let Some(sub) = self.subs.get_mut(&database) else {
            return;
        };
        let others = self.names_bytes - sub.their_holding.bytes();
        // Nobody has to remember more: then it is sent too much.
        sub.is_cut = others + holding.bytes() > limits::LIVE_STORES_BYTES;
        if sub.is_cut {
            holding.stores = Stores::All;
        }
        self.names_bytes = others + holding.bytes();
        sub.their_holding = holding;
        let may_be_filled = sub.may_be_filled(&sub.told_holding.stores);
        let said = self.holding_of(&database);
        self.event(Event::Holding(database, said));
        if may_be_filled {
            self.fill(database);
        }
    }

    fn fill(&mut self, database: Id) {
        if self.role == Role::Dialler && self.config.version >= PAYLOADS {
            self.event(Event::Incomplete(database));
        }
    }
}
