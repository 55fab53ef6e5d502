//! Connections: dialled, open, idle.

use std::collections::{BTreeMap, VecDeque};

use eidetica_entry::PublicKey;
use eidetica_transport::Address;

use crate::{ConnectError, LinkId, due::Due, limits, work::Want};

/// What a dial is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DialTarget {
    /// A known peer, at any of its addresses.
    Peer(PublicKey),
    /// Whoever is there.
    Address(Address),
}

/// Attempts to reach one target: one address after the other, each a little later beside those before it. The first
/// that leads there wins.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    /// Under way.
    pub(crate) attempts: BTreeMap<LinkId, Address>,
    /// Not tried yet.
    pub(crate) rest: VecDeque<Address>,
    /// When the next one is tried, whatever becomes of those under way.
    pub(crate) next_ms: u64,
    /// Why an attempt failed: the last, unless another told more.
    pub(crate) error: Option<ConnectError>,
    /// What waits for this dial. What else waits for a peer is in the queue of ready work.
    pub(crate) wants: Vec<Want>,
}

impl Dial {
    /// At these addresses, the likeliest first.
    pub(crate) fn at(addresses: impl IntoIterator<Item = Address>) -> Self {
        Self {
            rest: addresses.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Takes one more address, to be tried before those that are left.
    pub(crate) fn add(&mut self, address: Address, now_ms: u64) {
        self.rest.retain(|other| *other != address);
        if self.attempts.values().all(|other| *other != address) {
            self.rest.push_front(address);
            self.next_ms = self.next_ms.min(now_ms);
        }
    }

    /// Notes why an attempt failed: that somebody else answered says more than that nobody did.
    pub(crate) fn failed(&mut self, error: &ConnectError) {
        if self.error.as_ref().is_none_or(|before| !before.peer_fault) {
            self.error = Some(error.clone());
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PublicKey,
    pub(crate) tasks: usize,
    /// Whether a live stream runs on it.
    pub(crate) is_live: bool,
    pub(crate) idle_since_ms: u64,
}

impl Link {
    fn is_idle(&self) -> bool {
        self.tasks == 0 && !self.is_live
    }
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    next: u64,
    dials: BTreeMap<DialTarget, Dial>,
    links: BTreeMap<LinkId, Link>,
    /// The link to use for a peer.
    by_peer: BTreeMap<PublicKey, LinkId>,
    /// When those on which nothing happens will have been idle for too long.
    idle: Due<LinkId>,
}

impl Links {
    pub(crate) fn new_id(&mut self) -> LinkId {
        self.next += 1;
        LinkId(self.next)
    }

    pub(crate) fn dial(&mut self, target: &DialTarget) -> Option<&mut Dial> {
        self.dials.get_mut(target)
    }

    pub(crate) fn is_dialling(&self, target: &DialTarget) -> bool {
        self.dials.contains_key(target)
    }

    pub(crate) fn put_dial(&mut self, target: DialTarget, dial: Dial) {
        self.dials.insert(target, dial);
    }

    /// A dial of this peer that is under way tries this address next.
    pub(crate) fn try_next(&mut self, peer: &PublicKey, address: Address, now_ms: u64) {
        if let Some(dial) = self.dials.get_mut(&DialTarget::Peer(*peer)) {
            dial.add(address, now_ms);
        }
    }

    /// Takes out the dial that this attempt belongs to, and the attempt out of it.
    pub(crate) fn take_attempt(&mut self, link: LinkId) -> Option<(DialTarget, Dial, Address)> {
        let mut dials = self.dials.iter();
        let found = dials.find(|(_, dial)| dial.attempts.contains_key(&link));
        let target = found.map(|(target, _)| target.clone())?;
        let mut dial = self.dials.remove(&target)?;
        let address = dial.attempts.remove(&link)?;
        Some((target, dial, address))
    }

    pub(crate) fn take_dial(&mut self, target: &DialTarget) -> Option<Dial> {
        self.dials.remove(target)
    }

    /// The dials whose next address is due.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<(DialTarget, Dial)> {
        let is_due = |dial: &Dial| !dial.rest.is_empty() && now_ms >= dial.next_ms;
        let dials = self.dials.iter().filter(|(_, dial)| is_due(dial));
        let due: Vec<DialTarget> = dials.map(|(target, _)| target.clone()).collect();
        due.into_iter()
            .filter_map(|target| self.dials.remove(&target).map(|dial| (target, dial)))
            .collect()
    }

    /// When a dial tries its next address.
    pub(crate) fn next_dial_ms(&self) -> Option<u64> {
        let more = self.dials.values().filter(|dial| !dial.rest.is_empty());
        more.map(|dial| dial.next_ms).min()
    }

    /// A link is open; returns one that it takes the place of and on which nothing runs.
    pub(crate) fn open(&mut self, id: LinkId, peer: PublicKey, now_ms: u64) -> Option<LinkId> {
        self.links.insert(
            id,
            Link {
                peer,
                tasks: 0,
                is_live: false,
                idle_since_ms: now_ms,
            },
        );
        self.note_idle(id);
        let before = self.by_peer.insert(peer, id)?;
        let idle = self.links.get(&before).is_some_and(Link::is_idle);
        idle.then(|| self.take(before)).map(|_| before)
    }

    fn take(&mut self, id: LinkId) -> Option<Link> {
        self.idle.remove(&id);
        self.links.remove(&id)
    }

    /// After each change of what happens on a link.
    fn note_idle(&mut self, id: LinkId) {
        let link = self.links.get(&id).filter(|link| link.is_idle());
        match link.map(|link| link.idle_since_ms.saturating_add(limits::LINK_IDLE_MS)) {
            Some(due_ms) => self.idle.set(id, due_ms),
            None => {
                self.idle.remove(&id);
            }
        }
    }

    pub(crate) fn of_peer(&self, peer: &PublicKey) -> Option<LinkId> {
        self.by_peer.get(peer).copied()
    }

    /// Whether another session may run on the link.
    pub(crate) fn has_room(&self, id: LinkId) -> bool {
        self.links
            .get(&id)
            .is_some_and(|link| link.tasks < limits::TASKS_PER_PEER)
    }

    pub(crate) fn task_started(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.tasks += 1;
        }
        self.note_idle(id);
    }

    /// Returns whether the link has nothing to do any more because another took its place.
    pub(crate) fn task_ended(&mut self, id: LinkId, now_ms: u64) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        link.tasks = link.tasks.saturating_sub(1);
        link.idle_since_ms = now_ms;
        let replaced = link.is_idle() && self.by_peer.get(&link.peer) != Some(&id);
        self.note_idle(id);
        if replaced {
            self.take(id);
        }
        replaced
    }

    /// Says whose it was.
    pub(crate) fn remove(&mut self, id: LinkId) -> Option<PublicKey> {
        let peer = self.take(id)?.peer;
        if self.by_peer.get(&peer) == Some(&id) {
            self.by_peer.remove(&peer);
        }
        Some(peer)
    }

    pub(crate) fn set_live(&mut self, id: LinkId, is_live: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_live = is_live;
        }
        self.note_idle(id);
    }

    /// The link to a peer on which a live stream runs.
    pub(crate) fn live_of_peer(&self, peer: &PublicKey) -> Option<LinkId> {
        let id = self.of_peer(peer)?;
        self.links.get(&id)?.is_live.then_some(id)
    }

    /// No new sessions on this link; returns whether it has nothing to do any more, and is gone.
    pub(crate) fn retire(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.get(&id) else {
            return false;
        };
        if self.by_peer.get(&link.peer) == Some(&id) {
            self.by_peer.remove(&link.peer);
        }
        let is_idle = link.is_idle();
        if is_idle {
            self.take(id);
        }
        is_idle
    }

    /// Links that were idle for too long.
    pub(crate) fn idle(&self, now_ms: u64) -> Vec<LinkId> {
        self.idle.at(now_ms)
    }

    /// When the next link will have been idle for too long.
    pub(crate) fn next_idle_ms(&self) -> Option<u64> {
        self.idle.next_ms()
    }

    /// All links, open or being dialled; none are left.
    pub(crate) fn take_all(&mut self) -> Vec<LinkId> {
        self.by_peer.clear();
        self.idle.clear();
        let open = std::mem::take(&mut self.links).into_keys();
        let dials = std::mem::take(&mut self.dials).into_values();
        open.chain(dials.flat_map(|dial| dial.attempts.into_keys()))
            .collect()
    }

    /// Links of one peer.
    pub(crate) fn of(&self, peer: &PublicKey) -> Vec<LinkId> {
        self.links
            .iter()
            .filter(|(_, link)| link.peer == *peer)
            .map(|(id, _)| *id)
            .collect()
    }
}
