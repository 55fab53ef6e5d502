//! Reaching peers: at several addresses beside each other, the first that leads there wins.

use eidetica_entry::PublicKey;
use eidetica_protocol::{CloseReason, PeerIdentity};
use eidetica_transport::Address;

use crate::{
    Action, ConnectError, Engine, EngineError, LinkId, PeerStatus, StreamId, limits,
    links::{Dial, DialTarget},
    streams::Stream,
    work::Want,
};

impl Engine {
    pub(crate) fn check_peer(&self, key: &PublicKey) -> Result<(), EngineError> {
        match self.peers.get(key) {
            None => Err(EngineError::UnknownPeer(*key)),
            Some(peer) if peer.status == PeerStatus::Blocked => Err(EngineError::Blocked(*key)),
            Some(peer) if peer.addresses.is_empty() && self.links.of_peer(key).is_none() => {
                Err(EngineError::NoAddress(*key))
            }
            Some(_) => Ok(()),
        }
    }

    /// An address always means a look at who is there, unless that dial is under way already.
    pub(crate) fn want_address(&mut self, want: Want, address: Address, now_ms: u64) {
        let target = DialTarget::Address(address.clone());
        if let Some(dial) = self.links.dial(&target) {
            dial.wants.push(want);
            return;
        }
        let mut dial = Dial::at([address]);
        dial.wants.push(want);
        self.try_address(target, dial, now_ms);
    }

    /// One device, at its own addresses and at these, which are tried first. A connection that is there will do.
    pub(crate) fn want_device(
        &mut self,
        want: Want,
        key: PublicKey,
        addresses: Vec<Address>,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        let known = self.peers.get(&key);
        if known.is_some_and(|peer| peer.status == PeerStatus::Blocked) {
            return Err(EngineError::Blocked(key));
        }
        if known.is_some() && self.links.of_peer(&key).is_some() {
            self.begin(want, key, now_ms);
            return Ok(());
        }
        let of_peer = known.into_iter().flat_map(|peer| &peer.addresses);
        let mut all: Vec<Address> = Vec::new();
        for address in addresses.into_iter().chain(of_peer.cloned()) {
            let address = address.without_key();
            if all.len() < limits::ADDRESSES && !all.contains(&address) {
                all.push(address);
            }
        }
        if all.is_empty() {
            return Err(EngineError::NoAddress(key));
        }
        let target = DialTarget::Peer(key);
        match self.links.dial(&target) {
            Some(dial) => {
                let last_first = all.into_iter().rev();
                last_first.for_each(|address| dial.add(address, now_ms));
                dial.wants.push(want);
            }
            None => {
                let mut dial = Dial::at(all);
                dial.wants.push(want);
                self.try_address(target, dial, now_ms);
            }
        }
        Ok(())
    }

    /// Dials a peer that is not connected, if something waits for that and it is not under way.
    pub(crate) fn dial_for(&mut self, peer: PublicKey, now_ms: u64) {
        self.work.ready.leave_line(&peer);
        let target = DialTarget::Peer(peer);
        if !self.work.ready.wants_connection(&peer) || self.links.is_dialling(&target) {
            return;
        }
        if let Err(error) = self.check_peer(&peer) {
            for unit in self.work.ready.take_waiting(&peer) {
                self.fail_unit(unit, &error, now_ms);
            }
            return;
        }
        let known = self.peers.get(&peer);
        let addresses = known.map(|peer| peer.addresses.clone());
        self.try_address(target, Dial::at(addresses.unwrap_or_default()), now_ms);
    }

    /// Tries the next address of a dial, beside those that are under way.
    fn try_address(&mut self, target: DialTarget, mut dial: Dial, now_ms: u64) {
        if let Some(address) = dial.rest.pop_front() {
            let link = self.links.new_id();
            let pinned = match &target {
                DialTarget::Peer(key) => Some(*key),
                DialTarget::Address(address) => address.key().copied(),
            };
            self.actions
                .push_back(Action::Connect(link, address.clone(), pinned));
            dial.attempts.insert(link, address);
            dial.next_ms = now_ms.saturating_add(limits::DIAL_STAGGER_MS);
        }
        self.links.put_dial(target, dial);
    }

    /// The dials whose last attempt has not led anywhere yet.
    pub(crate) fn try_more_addresses(&mut self, now_ms: u64) {
        for (target, dial) in self.links.take_due(now_ms) {
            self.try_address(target, dial, now_ms);
        }
    }

    pub(crate) fn handle_connected(&mut self, link: LinkId, identity: &PeerIdentity, now_ms: u64) {
        let Some((target, dial, address)) = self.links.take_attempt(link) else {
            return self.actions.push_back(Action::Close(link));
        };
        let device = identity.device;
        let wrong = matches!(target, DialTarget::Peer(key) if key != device);
        let pinned = address.key().is_some_and(|key| *key != device);
        if wrong || pinned {
            self.actions.push_back(Action::Close(link));
            let error = ConnectError {
                text: format!("the peer has the key {device}"),
                peer_fault: true,
            };
            return self.next_address(target, dial, &error, now_ms);
        }
        // The others have lost.
        let lost = dial.attempts.into_keys();
        self.actions.extend(lost.map(Action::Close));
        match self.welcome(&device, &address, now_ms) {
            Ok(()) => {
                if self.links.live_of_peer(&device).is_some() {
                    // The connection that news come on is as good, and already in use.
                    self.actions.push_back(Action::Close(link));
                } else {
                    let replaced = self.links.open(link, device, now_ms);
                    self.actions.extend(replaced.map(Action::Close));
                }
                for want in dial.wants {
                    self.begin(want, device, now_ms);
                }
                self.keep_live(&device, now_ms);
                self.work.ready.wake(&device);
            }
            Err(error) => {
                self.actions.push_back(Action::Close(link));
                for want in dial.wants {
                    self.reply(want.command, Err(error.clone()));
                }
                self.fail_ready_of(&device, &error, now_ms);
            }
        }
    }

    pub(crate) fn welcome(
        &mut self,
        device: &PublicKey,
        address: &Address,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        if !self.admits(device) {
            return Err(EngineError::Blocked(*device));
        }
        self.peers.register(*device, None)?;
        self.peers.add_address(device, address)?;
        self.peers.seen(device, now_ms);
        Ok(())
    }

    pub(crate) fn handle_connect_failed(
        &mut self,
        link: LinkId,
        error: &ConnectError,
        now_ms: u64,
    ) {
        if let Some((target, dial, _)) = self.links.take_attempt(link) {
            self.next_address(target, dial, error, now_ms);
        }
    }

    /// An attempt has failed. The next one need not wait.
    fn next_address(
        &mut self,
        target: DialTarget,
        mut dial: Dial,
        error: &ConnectError,
        now_ms: u64,
    ) {
        dial.failed(error);
        if !dial.rest.is_empty() || !dial.attempts.is_empty() {
            return self.try_address(target, dial, now_ms);
        }
        let error = EngineError::Connect(dial.error.unwrap_or_else(|| error.clone()));
        for want in dial.wants {
            self.reply(want.command, Err(error.clone()));
        }
        if let DialTarget::Peer(peer) = target {
            self.fail_ready_of(&peer, &error, now_ms);
        }
    }

    /// Stops dialling a peer.
    pub(crate) fn end_dial(&mut self, peer: &PublicKey, reason: &EngineError) {
        if let Some(dial) = self.links.take_dial(&DialTarget::Peer(*peer)) {
            let attempts = dial.attempts.into_keys();
            self.actions.extend(attempts.map(Action::Close));
            for want in dial.wants {
                self.reply(want.command, Err(reason.clone()));
            }
        }
    }

    /// Fails all work that waits for a peer.
    pub(crate) fn fail_ready_of(&mut self, peer: &PublicKey, error: &EngineError, now_ms: u64) {
        for unit in self.work.ready.take_peer(peer) {
            self.fail_unit(unit, error, now_ms);
        }
    }

    /// A connection is gone, and the live stream on it with it.
    pub(crate) fn handle_disconnected(&mut self, link: LinkId, now_ms: u64) {
        let Some(peer) = self.remove_link(link) else {
            return;
        };
        let on_it = |(_, stream): &(StreamId, &Stream)| stream.link == Some(link);
        let found = self.streams.dialled(&peer).filter(on_it);
        let Some(id) = found.map(|(id, _)| id) else {
            return;
        };
        self.end_stream(id);
        self.connect_later(&peer, CloseReason::Cut.to_string(), now_ms);
    }
}
