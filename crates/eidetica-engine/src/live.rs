//! News: who is to be connected, who is told what changed, and what is done about what peers tell.

use eidetica_entry::{Id, PublicKey, Stamp};
use eidetica_protocol::{
    CloseReason, Failure, Holding, LiveEvent, LiveOpen, Notice, Refusal, TipList,
};

use crate::{
    Action, Engine, LinkId, PeerStatus, StreamId, Wishes, limits,
    streams::{Reconnect, Stream},
    work::{Unit, UnitKind},
};

impl Engine {
    /// Takes a live stream that a device opens: its name, and the databases that are remembered for it.
    ///
    /// # Errors
    /// No room, or the device is not served.
    pub fn accept_live(
        &mut self,
        device: &PublicKey,
        open: &LiveOpen,
        now_ms: u64,
    ) -> Result<(StreamId, Vec<Id>), Refusal> {
        if !self.admits(device) {
            return Err(Refusal::UNAVAILABLE);
        }
        let before: Vec<StreamId> = self
            .streams
            .of(device)
            .filter(|(_, stream)| stream.link.is_none())
            .map(|(id, _)| id)
            .collect();
        // Whoever comes again has lost the ones before.
        let over = (before.len() + 1).saturating_sub(limits::STREAMS_PER_DEVICE);
        for id in before.into_iter().take(over) {
            self.end_stream(id);
        }
        let is_known = self.peers.get(device).is_some();
        self.streams
            .accept(*device, is_known, &open.set, now_ms)
            .ok_or(Refusal::UNAVAILABLE)
    }

    /// What the users want of a database.
    pub fn wishes(&self, database: &Id) -> Wishes {
        self.schedule.wishes(database)
    }

    // Staying connected.

    /// Whether a connection to a peer is to be kept.
    fn keeps(&self, peer: &PublicKey) -> bool {
        let is_active = |info: &crate::PeerInfo| info.status == PeerStatus::Active;
        !self.stopped
            && self.is_active
            && self.peers.get(peer).is_some_and(is_active)
            && ((self.streams.wants(peer) && self.holds(peer))
                || self.requests.is_waiting_for(peer))
    }

    /// Sees to it that a peer is connected from now on, if it is to be.
    pub(crate) fn keep_live(&mut self, peer: &PublicKey, now_ms: u64) {
        let stream = self.streams.dialled(peer).map(|(id, _)| id);
        if !self.keeps(peer) {
            self.streams.reconnects.remove(peer);
            stream.into_iter().for_each(|id| self.end_stream(id));
            return;
        }
        match (stream, self.links.of_peer(peer)) {
            (Some(_), _) => {}
            (None, Some(link)) => self.open_stream(*peer, link, now_ms),
            (None, None) => self.connect_soon(peer, now_ms),
        }
    }

    /// Sees to it that a peer tells of a database from now on, or does not any more: after each change of what is wanted
    /// of it or of whom it is synced with.
    pub(crate) fn keep_live_of(&mut self, peer: &PublicKey, database: Id, now_ms: u64) {
        self.note_wanted(peer, &database);
        self.keep_live(peer, now_ms);
        let Some((id, stream)) = self.streams.dialled(peer) else {
            return;
        };
        let (gone, new) = self.streams.replace(stream, &database);
        if let Some(gone) = gone {
            self.streams.unsubscribe(id, &[gone]);
            self.actions
                .push_back(Action::Tell(id, Notice::Unsubscribe(vec![gone])));
        }
        if let Some(new) = new {
            self.streams.route(id, &[new]);
            self.actions
                .push_back(Action::Tell(id, Notice::Subscribe(vec![new])));
        }
    }

    fn note_wanted(&mut self, peer: &PublicKey, database: &Id) {
        let is_related = self.peers.pair(peer, database).is_some_and(|of| of.related);
        let is_live = self.schedule.wishes(database).is_live();
        self.streams.want(peer, database, is_related && is_live);
    }

    /// What peers are to tell us of, as it was restored.
    pub(crate) fn note_all_wanted(&mut self) {
        let all: Vec<(PublicKey, Id)> = self.peers.pairs().map(|(pair, _)| *pair).collect();
        for (peer, database) in all {
            self.note_wanted(&peer, &database);
        }
    }

    pub(crate) fn set_background(&mut self, is_on: bool, now_ms: u64) {
        self.is_active = is_on;
        if !is_on {
            let syncs = self.work.syncs.values_mut();
            syncs.for_each(|sync| sync.is_wanted = false);
        }
        self.leases.hurry(now_ms);
        self.keep_all_live(now_ms);
    }

    pub(crate) fn keep_all_live(&mut self, now_ms: u64) {
        let peers: Vec<PublicKey> = self.peers.all().map(|peer| peer.pubkey).collect();
        peers.iter().for_each(|peer| self.keep_live(peer, now_ms));
    }

    fn open_stream(&mut self, peer: PublicKey, link: LinkId, now_ms: u64) {
        let live = self.streams.wanted(&peer);
        let id = self.streams.dial(peer, link, &live, now_ms);
        self.links.set_live(link, true);
        self.actions.push_back(Action::OpenLive(id, link, live));
    }

    /// Dials, unless that is under way or due later.
    fn connect_soon(&mut self, peer: &PublicKey, now_ms: u64) {
        let has_address = |info: &crate::PeerInfo| !info.addresses.is_empty();
        if !self.peers.get(peer).is_some_and(has_address) {
            return;
        }
        if self.streams.reconnects.dial(peer, now_ms) {
            let kind = UnitKind::Live;
            self.push_ready(Unit { peer: *peer, kind }, now_ms);
        }
    }

    /// Tries again later to reach a peer, if it is to be connected.
    pub(crate) fn connect_later(&mut self, peer: &PublicKey, error: String, now_ms: u64) {
        self.open_later(peer, error, false, now_ms);
    }

    fn open_later(&mut self, peer: &PublicKey, error: String, is_refused: bool, now_ms: u64) {
        if !self.keeps(peer) {
            self.streams.reconnects.remove(peer);
            return;
        }
        let attempts = self
            .streams
            .reconnects
            .get(peer)
            .map_or(0, |before| before.attempts);
        let attempts = attempts.saturating_add(1);
        let due_ms = now_ms.saturating_add(self.jitter.backoff_ms(attempts));
        let error = Some(error);
        let reconnect = Reconnect {
            attempts,
            is_refused,
            error,
        };
        self.streams.reconnects.put(*peer, reconnect, due_ms);
    }

    /// Peers may be reached in other ways than before: what waits for its next attempt is tried now.
    pub(crate) fn handle_online(&mut self, now_ms: u64) {
        self.streams.reconnects.due.hurry(now_ms);
        self.work.retries.hurry(now_ms);
    }

    /// What is shown to peers has changed: streams begin again.
    pub(crate) fn renew_streams(&mut self, now_ms: u64) {
        let dialled = self
            .streams
            .all()
            .filter(|(_, stream)| stream.link.is_some());
        let all: Vec<(StreamId, PublicKey)> =
            dialled.map(|(id, stream)| (*id, stream.peer)).collect();
        for (id, peer) in all {
            self.end_stream(id);
            self.keep_live(&peer, now_ms);
        }
    }

    // Ends.

    /// Ends a stream, of either side. Its own end says nothing more.
    pub(crate) fn end_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(id) {
            if let Some(link) = stream.link {
                self.links.set_live(link, false);
            }
            self.actions.push_back(Action::EndLive(id));
        }
    }

    pub(crate) fn end_streams_of(&mut self, peer: &PublicKey) {
        let all: Vec<StreamId> = self.streams.of(peer).map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.end_stream(id));
    }

    pub(crate) fn handle_live_ended(
        &mut self,
        id: StreamId,
        result: Result<(), Failure>,
        now_ms: u64,
    ) {
        let Some(stream) = self.streams.remove(id) else {
            return;
        };
        let Stream { peer, link, .. } = stream;
        let Some(link) = link else { return };
        self.links.set_live(link, false);
        // The next stream gets a connection of its own, at any address.
        if self.links.retire(link) {
            self.actions.push_back(Action::Close(link));
        }
        self.work.ready.wake(&peer);
        let failure = result.err().unwrap_or(Failure::Closed(CloseReason::Cut));
        // One that ends before it has said anything is as good as refused.
        let is_refused = matches!(failure, Failure::Refused(_)) || stream.checked_ms.is_none();
        self.open_later(&peer, failure.to_string(), is_refused, now_ms);
    }

    // News.

    /// Entries of a database became durable.
    pub(crate) fn handle_changed(&mut self, database: Id, here: bool) {
        if self.stopped || !self.schedule.wishes(&database).is_live() {
            return;
        }
        for id in self.streams.about(&database) {
            let push = here;
            self.actions
                .push_back(Action::Tell(id, Notice::Changed { database, push }));
        }
    }

    pub(crate) fn handle_wishes(&mut self, database: Id, wishes: Option<Wishes>, now_ms: u64) {
        self.schedule.set(database, wishes);
        if !self.schedule.wishes(&database).enabled {
            self.want_no_more_of(&database);
        }
        for peer in self.peers_of(&database) {
            self.keep_live_of(&peer, database, now_ms);
        }
    }

    pub(crate) fn handle_live(&mut self, id: StreamId, event: LiveEvent, now_ms: u64) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let (peer, is_dialled) = (stream.peer, stream.link.is_some());
        match event {
            LiveEvent::Subscribed(databases) => {
                let is_known = self.peers.get(&peer).is_some();
                if !is_dialled && !self.streams.subscribe(id, is_known, &databases) {
                    // It ends by itself, once the peer was told why: then there are rounds instead.
                    self.streams.remove(id);
                    let refuse = Notice::Refuse(Refusal::UNAVAILABLE);
                    self.actions.push_back(Action::Tell(id, refuse));
                }
            }
            LiveEvent::Unsubscribed(databases) => {
                if !is_dialled {
                    self.streams.unsubscribe(id, &databases);
                }
            }
            LiveEvent::Checked => {
                self.look_at_payloads(id, &peer, now_ms);
                self.streams.reconnects.remove(&peer);
                self.streams.checked(id, now_ms);
                self.peers.seen(&peer, now_ms);
                self.ask_about_waiting(&peer, now_ms);
            }
            LiveEvent::Lacks(database) => self.want_sync(peer, database, now_ms),
            LiveEvent::Incomplete(database) => self.want_fill(peer, database, now_ms),
            LiveEvent::Holds(database, tips, holding) => {
                self.note_held(id, &peer, database, tips, now_ms);
                self.note_holding(&peer, &database, holding);
            }
            LiveEvent::Holding(database, holding) => self.note_holding(&peer, &database, holding),
            // As if it were not there: it is looked for again at every check.
            LiveEvent::Absent(_) => {}
            LiveEvent::Received { database: _, new } => self.peers.received(&peer, new),
            LiveEvent::Decided(request) => self.handle_decided(peer, &request, now_ms),
        }
    }

    /// The peer has what is here.
    fn note_held(
        &mut self,
        id: StreamId,
        peer: &PublicKey,
        database: Id,
        tips: Vec<Stamp>,
        now_ms: u64,
    ) {
        let list = TipList::new(tips);
        self.streams.note(id, &database, list.digest());
        if !list.is_cut() {
            self.peers.advance(peer, &database, list.stamps(), now_ms);
        }
    }

    fn note_holding(&mut self, peer: &PublicKey, database: &Id, holding: Option<Holding>) {
        self.streams.note_holding(peer, database, holding.as_ref());
        self.peers.note_holding(peer, database, holding);
    }

    /// A peer that holds all says nothing where nothing has changed. Where it was not known to, or has not been asked,
    /// a sync finds out; at the second check, since what it has to say comes after the answer to the first.
    fn look_at_payloads(&mut self, id: StreamId, peer: &PublicKey, now_ms: u64) {
        let stream = self.streams.get(id);
        let Some(stream) = stream.filter(|stream| stream.checked_ms.is_some()) else {
            return;
        };
        let is_unsaid = |database: &Id| {
            let pair = self.peers.pair(peer, database);
            let known = pair.and_then(|pair| pair.cursor.holding.as_ref());
            pair.is_some_and(|pair| pair.related && pair.cursor.last_synced_ms.is_some())
                && !known.is_some_and(Holding::is_whole)
        };
        let unsaid = stream.databases.iter();
        let unsaid = unsaid.filter(|(id, held)| held.holding.is_none() && is_unsaid(id));
        let unsaid: Vec<Id> = unsaid.map(|(id, _)| *id).collect();
        for database in unsaid {
            self.want_fill(*peer, database, now_ms);
        }
    }

    // Time.

    pub(crate) fn check_streams(&mut self, now_ms: u64) {
        for id in self.streams.take_checks(now_ms) {
            self.actions.push_back(Action::Tell(id, Notice::Check));
        }
        for peer in self.streams.reconnects.due.at(now_ms) {
            self.keep_live(&peer, now_ms);
            let due = &mut self.streams.reconnects.due;
            if due.get(&peer).is_none_or(|at| at > now_ms) {
                continue;
            }
            // A stream that has come about in another way, or no way to get one: not due again at once.
            due.remove(&peer);
            if self.streams.dialled(&peer).is_none() {
                let later_ms = now_ms.saturating_add(limits::BACKOFF_MS);
                self.streams.reconnects.due.set(peer, later_ms);
            }
        }
    }

    /// The rounds that are due: where a stream sees to it, it is asked whether all is as it should be.
    pub(crate) fn make_rounds(&mut self, now_ms: u64) {
        for database in self.schedule.take_due(now_ms) {
            let mut peers = self.peers_of(&database);
            if peers.is_empty() {
                self.schedule.stop(&database);
            }
            peers.retain(|peer| self.holds(peer));
            for peer in peers {
                match self.streams.dialled_about(&peer, &database) {
                    // One check is a round of all that the stream is about.
                    Some((id, _)) => {
                        let interval = self.schedule.wishes(&database).interval_ms();
                        if self.streams.ask(id, interval.unwrap_or(u64::MAX), now_ms) {
                            self.actions.push_back(Action::Tell(id, Notice::Check));
                        }
                    }
                    // It compares everything when it is connected; or it can only come to us.
                    None if self.awaits_stream(&peer, &database)
                        || self.check_peer(&peer).is_err() => {}
                    None => self.want_sync(peer, database, now_ms),
                }
            }
        }
    }

    /// Whether news of a database are going to come from a peer that is not connected now. If there is a stream and
    /// it is not about this one, there was no room for it.
    fn awaits_stream(&self, peer: &PublicKey, database: &Id) -> bool {
        let refused = |reconnect: &Reconnect| reconnect.is_refused;
        self.schedule.wishes(database).is_live()
            && self.keeps(peer)
            && self.streams.dialled(peer).is_none()
            && !self.streams.reconnects.get(peer).is_some_and(refused)
    }

    /// Begins the rounds of all databases that are synced with somebody.
    pub(crate) fn start_all_rounds(&mut self, now_ms: u64) {
        let related = self.peers.pairs().filter(|(_, pair)| pair.related);
        let mut all: Vec<Id> = related.map(|((_, database), _)| *database).collect();
        all.sort_unstable();
        all.dedup();
        for database in all {
            self.start_rounds(database, now_ms);
        }
    }

    /// Begins the rounds of a database that is synced with somebody.
    pub(crate) fn start_rounds(&mut self, database: Id, now_ms: u64) {
        if self.schedule.has(&database) {
            return;
        }
        let peers = self.peers_of(&database);
        if peers.is_empty() {
            return;
        }
        let cursors = peers
            .iter()
            .filter_map(|peer| self.peers.pair(peer, &database));
        // The peer that was synced with longest ago counts; one that never was is due.
        let last = cursors
            .map(|pair| pair.cursor.last_synced_ms.unwrap_or(0))
            .min();
        self.schedule.start(database, last.unwrap_or(0).min(now_ms));
    }
    /// Counts rounds from the last sync with a peer that has become this process's: those that were due before were
    /// left to whoever had it, which may have been nobody.
    pub(crate) fn resume_rounds(&mut self, peer: &PublicKey, now_ms: u64) {
        for database in self.peers.related(peer) {
            let pair = self.peers.pair(peer, &database);
            let last_ms = pair.and_then(|pair| pair.cursor.last_synced_ms);
            let counted_ms = self.schedule.stop(&database).unwrap_or(now_ms);
            let last_ms = last_ms.unwrap_or(0).min(counted_ms).min(now_ms);
            self.schedule.start(database, last_ms);
        }
    }
}
